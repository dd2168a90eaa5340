"""The rate limits of a WebSocket's client, in messages and in bytes."""

import asyncio

import pytest

from tests.conftest import Serve
from tests.support.bridges import KILOBYTES, MEGABYTE, ONE_READ, answer_close, end, lost
from tests.support.journeys import Start, capture
from tests.support.sockets import eventually
from tests.support.websockets import BINARY, CLOSE, CONTINUATION, PING, TEXT, Frame, Side, binary, bridged, close, text
from tornado_gateway.wire.websocket.relay import CLOSE_TIMEOUT


def counted_texts(count: int) -> list[Frame]:
    return [text(str(number)) for number in range(count)]


@pytest.mark.gen_test(timeout=30)
async def test_messages_above_the_rate_arrive_later_and_in_order(serve: Serve, upstream: Start) -> None:  # W15
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_MESSAGES="10")
    loop = asyncio.get_running_loop()
    said, began = counted_texts(20), loop.time()
    await bridge.client.send(*said)
    await bridge.upstream.hears(*said)
    assert loop.time() - began > 0.8
    assert bridge.relay.close is None


@pytest.mark.gen_test
async def test_frames_after_delayed_messages_wait_as_well(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_MESSAGES="20")
    said = counted_texts(25)
    await bridge.client.send(*said, Frame(PING, b"p"), close(4000, b"done"))
    await bridge.upstream.hears(*said, Frame(PING, b"p"), close(4000, b"done"))
    await bridge.upstream.send(close(4000, b"done"))
    await bridge.client.hears(close(4000, b"done"))
    end(bridge.upstream, "FIN")
    await bridge.over()
    assert bridge.totals.close_codes == {4000: 1}


@pytest.mark.gen_test
async def test_delayed_messages_of_a_client_that_has_left_arrive_too(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_MESSAGES="20")
    said = counted_texts(25)
    await bridge.client.send(*said[:21])
    await eventually(lambda: bridge.relay.client.is_held)
    await bridge.client.send(*said[21:])
    end(bridge.client, "FIN")
    bridge.let_pass(0.01)
    await bridge.upstream.hears(*said)
    assert await bridge.upstream.told() == (1001, b"client gone")


@pytest.mark.gen_test
async def test_a_client_within_the_rate_is_not_held(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_MESSAGES="10", WS_RATE_LIMIT_BYTES="10000")
    said = counted_texts(10)
    await bridge.client.send(*said)
    await bridge.upstream.hears(*said)
    assert not bridge.relay.client.is_held


@pytest.mark.gen_test
async def test_a_message_in_many_fragments_is_one_message(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_MESSAGES="10", WS_RATE_LIMIT_POLICY="close")
    fragment = b"1" * 1000
    said = [
        Frame(TEXT, b"0", fin=False),
        *[Frame(CONTINUATION, fragment, fin=False)] * 50,
        Frame(CONTINUATION, fragment),
    ]
    await bridge.client.send(*said)
    await bridge.upstream.hears(*said)
    assert bridge.relay.close is None


@pytest.mark.parametrize(
    "flood",
    [[Frame(PING, b"a")] * 50, [Frame(TEXT, b"0", fin=False), *[Frame(CONTINUATION, b"", fin=False)] * 50]],
    ids=["pings", "empty fragments"],
)
@pytest.mark.gen_test
async def test_small_frames_count_like_messages(serve: Serve, upstream: Start, flood: list[Frame]) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_MESSAGES="10", WS_RATE_LIMIT_POLICY="close")
    await bridge.client.send(*flood)
    assert (await bridge.client.told())[0] == 1008


@pytest.mark.gen_test
async def test_a_close_in_two_pieces_is_not_too_fast(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_MESSAGES="1", WS_RATE_LIMIT_POLICY="close")
    bye = bridge.client.wire(Frame(CLOSE, b"\x03\xe8"))
    await bridge.client.send(*counted_texts(1))
    await bridge.client.connection.send(bye[:3])
    await bridge.upstream.hears(*counted_texts(1))
    await bridge.client.connection.send(bye[3:])
    assert await bridge.upstream.told() == (1000, b"")


@pytest.mark.gen_test
async def test_the_upstream_may_be_as_fast_as_it_likes(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(
        serve, upstream, WS_RATE_LIMIT_MESSAGES="1", WS_RATE_LIMIT_BYTES="1", WS_RATE_LIMIT_POLICY="close"
    )
    said = counted_texts(100)
    await bridge.upstream.send(*said)
    await bridge.client.hears(*said)
    assert not bridge.relay.upstream.is_held
    assert bridge.relay.close is None


@pytest.mark.parametrize(
    ("variables", "said", "passed"),
    [
        ({"WS_RATE_LIMIT_MESSAGES": "10"}, counted_texts(11), 10),
        ({"WS_RATE_LIMIT_BYTES": "1000"}, [binary(bytes(500))] * 3, 3),
        ({"WS_RATE_LIMIT_BYTES": "1000", "WS_RATE_LIMIT_MESSAGES": "10"}, counted_texts(11), 10),
    ],
    ids=["messages", "bytes", "both"],
)
@pytest.mark.gen_test
async def test_a_client_above_the_rate_can_be_closed_instead(  # W15
    serve: Serve, upstream: Start, variables: dict[str, str], said: list[Frame], passed: int
) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_POLICY="close", **variables)
    lines = capture(bridge.running)
    await bridge.client.send(*said)
    await bridge.upstream.hears(*said[:passed])
    for side in bridge.sides:
        await answer_close(side, heard=(1008, b"rate limited"))
    end(bridge.upstream, "FIN")
    await bridge.all_ends()
    await eventually(lines)
    assert [(line["reason"], line["closeCode"]) for line in lines()] == [("rate_limited", 1008)]
    assert bridge.running.errors == 0


# Bytes pass evenly: what a client sends at once is cut into parts.

RATE = 20_000  # bytes per second
EVENLY = 1000  # bytes that one part may be larger than the time since the last one allows: TICK and the clock's grain


async def arrivals(side: Side, count: int) -> list[tuple[float, int]]:
    """When how many bytes of so many arrive."""
    loop, seen, left = asyncio.get_running_loop(), [], count
    while left:
        await side.connection.more()
        left -= len(side.connection.buffer)
        seen.append((loop.time(), len(side.connection.buffer)))
        side.connection.buffer = b""
    return seen


FLOODS = {
    "one large frame": [binary(bytes(60_000))],
    "frames above a second's worth": [binary(bytes(25_000))] * 2,
    "small frames": [binary(bytes(500))] * 110,
    "one message in fragments": [
        Frame(BINARY, bytes(1000), fin=False),
        *[Frame(CONTINUATION, bytes(1000), fin=False)] * 53,
    ],
}


@pytest.mark.parametrize("frames", FLOODS.values(), ids=FLOODS)
@pytest.mark.gen_test
async def test_bytes_above_the_rate_arrive_evenly(serve: Serve, upstream: Start, frames: list[Frame]) -> None:
    """After the burst, bytes pass at the rate, never faster and without gaps."""
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_BYTES=str(RATE))
    wire, loop = bridge.client.wire(*frames), asyncio.get_running_loop()
    began = loop.time()
    await bridge.client.send(wire)
    seen = await arrivals(bridge.upstream, len(wire))
    passed = 0
    for at, size in seen:
        passed += size
        assert passed <= RATE + (at - began) * RATE + EVENLY
    assert (len(wire) - RATE) / RATE <= seen[-1][0] - began < (len(wire) - RATE) / RATE + 3
    assert len(seen) > 10


@pytest.mark.gen_test
async def test_a_frame_above_a_seconds_worth_passes_in_parts(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_BYTES="4000")
    wire = bridge.client.wire(binary(bytes(10_000)))
    await bridge.client.send(wire)
    assert len(await arrivals(bridge.upstream, len(wire))) > 5


@pytest.mark.gen_test
async def test_a_second_without_bytes_saves_up_no_more_than_a_second(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_BYTES="1000000")
    loop, wire = asyncio.get_running_loop(), bridge.client.wire(binary(bytes(1_500_000)))
    await asyncio.sleep(0.3)
    began = loop.time()
    await bridge.client.send(wire)
    seen = await arrivals(bridge.upstream, len(wire))
    assert seen[-1][0] - began >= 0.49


@pytest.mark.gen_test
async def test_both_limits_hold_at_once(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_BYTES="100000", WS_RATE_LIMIT_MESSAGES="20")
    loop = asyncio.get_running_loop()
    said, began = [binary(bytes(6000))] * 30, loop.time()
    await bridge.client.send(*said)
    await bridge.upstream.hears(*said)
    assert loop.time() - began > 0.8  # 180 kB, of which 100 pass at first; 30 messages, of which 20 do


@pytest.mark.gen_test
async def test_a_close_behind_delayed_bytes_passes_in_its_turn_also_behind_a_fin(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_BYTES="20000")
    said = [binary(bytes(1000))] * 30
    await bridge.client.send(*said, close(4000, b"done"))
    bridge.client.connection.half_close()
    await bridge.upstream.hears(*said, close(4000, b"done"))
    await bridge.upstream.send(text("heard"), close(4000, b"done"))
    await bridge.client.hears(text("heard"), close(4000, b"done"))
    assert await bridge.client.ended()


@pytest.mark.parametrize("how", ["drain", "upstream"])
@pytest.mark.gen_test
async def test_the_answer_to_a_close_is_seen_behind_delayed_bytes_that_no_longer_pass(
    serve: Serve, upstream: Start, how: str
) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_BYTES="1000")
    await bridge.client.send(*[binary(bytes(500))] * 100, close(1001, b""))
    await eventually(lambda: bridge.relay.client.is_held)
    bridge.relay.drain() if how == "drain" else end(bridge.upstream, "RST")
    assert (await bridge.client.told())[0] == (1001 if how == "drain" else 1011)
    assert await bridge.client.ended()
    if how == "drain":
        end(bridge.upstream, "FIN")
    await bridge.over()


@pytest.mark.gen_test
async def test_delayed_bytes_of_a_client_that_has_left_arrive_too(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_BYTES="2000")
    said = [binary(bytes(500))] * 8
    await bridge.client.send(*said)
    await eventually(lambda: bridge.relay.client.is_held)
    end(bridge.client, "FIN")
    await bridge.upstream.hears(*said)
    assert await bridge.upstream.told() == lost("client")


@pytest.mark.gen_test
async def test_delayed_bytes_of_a_client_that_was_reset_are_dropped(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_BYTES="1000")
    await bridge.client.send(*[binary(bytes(100))] * 100)
    await eventually(lambda: bridge.relay.client.is_held)
    end(bridge.client, "RST")
    await eventually(lambda: (bridge.let_pass(0), bridge.relay.close)[1])
    assert await bridge.upstream.told() == lost("client")


@pytest.mark.gen_test
async def test_the_backlog_is_at_most_a_read(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_BYTES="1000")
    sending = asyncio.ensure_future(bridge.client.send(binary(bytes(8 * MEGABYTE))))
    await eventually(lambda: bridge.relay.client.is_held)
    for _ in range(50):
        await asyncio.sleep(0.001)
        assert len(bridge.relay.client._backlog) <= ONE_READ
    sending.cancel()
    bridge.relay.abort()
    await bridge.all_ends()


@pytest.mark.gen_test
async def test_a_delayed_client_is_still_delayed_behind_its_upstreams_close(serve: Serve, upstream: Start) -> None:
    """Bytes sent meanwhile are not read, so that they take no memory; the client's Close arrives in its turn."""
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_MESSAGES="20")
    said = counted_texts(25)
    await bridge.client.send(*said)
    await eventually(lambda: bridge.relay.client.is_held)
    await bridge.upstream.send(close(1000))
    await bridge.client.hears(close(1000))
    assert bridge.relay.client.is_held
    await bridge.client.send(close(1000))
    await bridge.upstream.hears(*said, close(1000))
    assert await bridge.client.ended()


@pytest.mark.parametrize("policy", ["delay", "close"])
@pytest.mark.gen_test
async def test_a_flood_behind_its_upstreams_close_takes_no_memory(serve: Serve, upstream: Start, policy: str) -> None:
    bridge = await bridged(serve, upstream, WS_RATE_LIMIT_MESSAGES="1", WS_RATE_LIMIT_POLICY=policy)
    await bridge.upstream.send(close(1000))
    await bridge.client.hears(close(1000))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            while True:
                await bridge.client.send(*[KILOBYTES] * 16)
                await asyncio.sleep(0)
    assert len(bridge.relay.client.scanner._held) <= 2 * ONE_READ
    bridge.let_pass(CLOSE_TIMEOUT + 1)
    await bridge.all_ends()
