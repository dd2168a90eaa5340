"""A leg of a WebSocket: half-closed connections, pings, pongs and stalls."""

import asyncio

import pytest

from tests.conftest import Serve
from tests.support.bridges import (
    KILOBYTES,
    MEGABYTE,
    PING_INTERVAL,
    PONG_TIMEOUT,
    SMALL_BUFFER,
    answer_close,
    blocked,
    either_side,
    end,
    lost,
    messages,
    own_ping,
    own_pong,
    settled,
)
from tests.support.journeys import Start, capture
from tests.support.sockets import eventually, get
from tests.support.websockets import (
    BINARY,
    CONTINUATION,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Acceptor,
    Bridge,
    Frame,
    Side,
    binary,
    bridged,
    close,
    text,
)
from tornado_gateway.wire.peer import send_queue, unread
from tornado_gateway.wire.websocket.leg import Hold, Leg
from tornado_gateway.wire.websocket.relay import CLOSE_TIMEOUT

# A FIN behind a Close is the orderly end of what one side says; what the other one says still arrives.


@pytest.mark.parametrize("half_close", ["abort", "ignore"])
@pytest.mark.parametrize("size", [1, MEGABYTE])
@either_side
@pytest.mark.gen_test
async def test_a_side_that_half_closes_behind_its_close_still_gets_the_rest_and_the_close(
    serve: Serve, upstream: Start, who: str, size: int, half_close: str
) -> None:
    bridge = await bridged(serve, upstream, HALF_CLOSE=half_close)
    lines = capture(bridge.running)
    first, second = bridge.side(who)
    await first.send(text("last"), close(1000, b"bye"))
    first.connection.half_close()
    await second.hears(text("last"), close(1000, b"bye"))
    await eventually(lambda: bridge.leg(who).has_half_closed)
    rest = [binary(bytes(size)), Frame(PING, b"p"), close(1000, b"bye")]
    sending = asyncio.ensure_future(second.send(*rest))
    await first.hears(*rest)
    await sending
    assert await first.ended()
    end(second, "FIN")
    await bridge.over()
    assert bridge.totals.close_codes == {1000: 1}
    await eventually(lines)
    assert [line["reason"] for line in lines()] == [""]


@either_side
@pytest.mark.gen_test
async def test_both_sides_may_half_close_behind_their_closes(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await first.send(close(4001))
    first.connection.half_close()
    await second.hears(close(4001))
    await second.send(close(4002))
    second.connection.half_close()
    await first.hears(close(4002))
    assert await first.ended()
    assert await second.ended()
    await bridge.over()


@either_side
@pytest.mark.gen_test
async def test_a_half_closed_side_whose_other_is_lost_has_its_close_answered(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await first.send(close(4000, b"now"))
    first.connection.half_close()
    await second.hears(close(4000, b"now"))
    await eventually(lambda: bridge.leg(who).has_half_closed)
    end(second, "RST")
    await first.hears(close(4000, b"now"))
    assert await first.ended()
    await bridge.over()


@either_side
@pytest.mark.gen_test
async def test_a_half_closed_side_is_not_waited_for_without_bound(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await first.send(close(4000, b"now"))
    first.connection.half_close()
    await second.hears(close(4000, b"now"))
    bridge.let_pass(CLOSE_TIMEOUT * 0.9)
    await first.is_quiet()
    await second.is_quiet()
    bridge.let_pass(CLOSE_TIMEOUT * 0.2)
    await bridge.all_ends()


@pytest.mark.parametrize(
    ("early", "told"),
    [(close(4000, b"now").wire(masked=True), (4000, b"now")), (b"", (1001, b"client gone"))],
    ids=["behind a Close", "alone"],
)
@pytest.mark.gen_test
async def test_a_fin_before_the_answer_counts_like_a_fin_after_the_answer(
    serve: Serve, upstream: Start, early: bytes, told: tuple[int, bytes]
) -> None:
    acceptor = Acceptor()
    running = await serve({"svc": [upstream(acceptor).url]}, HALF_CLOSE="ignore")
    client = Side(await running.client(), masks=True)
    await client.connection.send(get(b"/ws/svc", *HANDSHAKE) + early)
    client.connection.half_close()
    assert (await client.connection.head()).status == 101
    await eventually(lambda: acceptor.sides)
    await answer_close(acceptor.sides[0], heard=told)
    if early:
        await client.hears(close(*told))
    assert await client.ended()
    end(acceptor.sides[0], "FIN")
    await eventually(lambda: not running.app.gateway.streams.open)


# ---------------------------------------------------------------- pings


@pytest.mark.gen_test
async def test_both_sides_are_pinged_and_their_pongs_go_no_further(serve: Serve, upstream: Start) -> None:  # W7
    bridge = await bridged(serve, upstream)
    for number in (1, 2, 3):
        bridge.let_pass(PING_INTERVAL)
        for side in bridge.sides:
            await side.hears(own_ping(bridge, number))
            await side.send(own_pong(bridge, number))
        for side in bridge.sides:
            await side.is_quiet()
    assert bridge.relay.close is None


@pytest.mark.gen_test
async def test_no_ping_comes_before_its_time(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream)
    bridge.let_pass(PING_INTERVAL * 0.9)
    for side in bridge.sides:
        await side.is_quiet()
    bridge.let_pass(PING_INTERVAL * 0.1)
    for side in bridge.sides:
        assert await side.frame() == own_ping(bridge)


@pytest.mark.gen_test
async def test_no_pings_are_sent_if_there_are_to_be_none(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, WS_PING_INTERVAL_MS="0")
    bridge.let_pass(1e6)
    for side in bridge.sides:
        await side.is_quiet()
    assert bridge.relay.close is None


@either_side
@pytest.mark.gen_test
async def test_a_ping_never_stands_inside_a_frame(serve: Serve, upstream: Start, who: str) -> None:
    """Within a large frame no ping is sent; within a small frame the ping precedes the frame."""
    bridge = await bridged(serve, upstream)
    sender, receiver = bridge.side(who)
    large, small = binary(b"x" * MEGABYTE), binary(b"y" * 1000)
    wire = sender.wire(large)
    sending = asyncio.ensure_future(sender.send(wire[:500_000]))
    assert await receiver.connection.exactly(500_000) == wire[:500_000]
    await sending
    bridge.let_pass(PING_INTERVAL)
    await receiver.is_quiet()
    await sender.hears(own_ping(bridge))
    wire = wire[500_000:] + sender.wire(small)
    await sender.send(wire[:-500])
    assert await receiver.connection.exactly(MEGABYTE + 14 * (who == "client") + 10 * (who == "upstream") - 500_000)
    bridge.let_pass(PING_INTERVAL)
    await receiver.hears(own_ping(bridge))
    await sender.send(wire[-500:])
    await receiver.hears(small)


@either_side
@pytest.mark.gen_test
async def test_pings_come_between_the_fragments_of_a_message(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream)
    sender, receiver = bridge.side(who)
    first, last = Frame(TEXT, b"a", fin=False), Frame(CONTINUATION, b"b")
    await sender.send(first)
    await receiver.hears(first)
    bridge.let_pass(PING_INTERVAL)
    await receiver.hears(own_ping(bridge))
    await sender.send(last)
    await receiver.hears(last)
    assert sum(messages(bridge)) == 1


@either_side
@pytest.mark.gen_test
async def test_a_side_that_does_not_answer_pings_ends_both(serve: Serve, upstream: Start, who: str) -> None:  # W7
    bridge = await bridged(serve, upstream)
    lines = capture(bridge.running)
    silent, other = bridge.side(who)
    bridge.let_pass(PING_INTERVAL)
    for side in bridge.sides:
        await side.hears(own_ping(bridge))
    await other.send(own_pong(bridge))
    await eventually(lambda: bridge.leg(who).other.scanner.bytes)
    bridge.let_pass(PONG_TIMEOUT * 0.9)
    await silent.is_quiet()
    await other.is_quiet()
    bridge.let_pass(PONG_TIMEOUT * 0.2)
    assert await silent.told() == (1011, b"pong timeout")
    await answer_close(other, heard=(1011, b"pong timeout"))
    bridge.let_pass(CLOSE_TIMEOUT + 1)
    await bridge.all_ends()
    assert bridge.totals.close_codes == {1011: 1}
    await eventually(lines)
    assert [line["reason"] for line in lines()] == ["pong_timeout"]
    assert bridge.running.errors == (who == "upstream")


@pytest.mark.parametrize(
    "sign", [text("a"), Frame(PING, b"a"), Frame(PONG, b"unasked"), Frame(BINARY, b"a", fin=False)], ids=str
)
@either_side
@pytest.mark.gen_test
async def test_any_frame_is_a_sign_of_life(serve: Serve, upstream: Start, who: str, sign: Frame) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    bridge.let_pass(PING_INTERVAL)
    await first.send(sign)
    await second.hears(own_ping(bridge), sign)
    await second.send(own_pong(bridge))
    await eventually(lambda: bridge.leg(who).other.scanner.bytes)
    bridge.let_pass(PONG_TIMEOUT)
    await second.is_quiet()
    assert bridge.relay.close is None


@either_side
@pytest.mark.gen_test
async def test_so_is_a_part_of_a_frame(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    bridge.let_pass(PING_INTERVAL)
    await first.send(b"\x82")
    await second.send(own_pong(bridge))
    await eventually(lambda: bridge.relay.client.scanner.bytes and bridge.relay.upstream.scanner.bytes)
    bridge.let_pass(PONG_TIMEOUT)
    assert bridge.relay.close is None


@either_side
@pytest.mark.gen_test
async def test_the_time_for_a_pong_is_not_prolonged_by_the_next_ping(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream, WS_PING_INTERVAL_MS="4000", WS_PONG_TIMEOUT_MS="10000")
    silent, other = bridge.side(who)
    for number in (1, 2, 3):
        bridge.let_pass(4)
        await other.hears(own_ping(bridge, number))
        await silent.hears(own_ping(bridge, number))
        heard = bridge.leg(who).other.scanner.bytes
        await other.send(own_pong(bridge, number))
        await eventually(lambda heard=heard: bridge.leg(who).other.scanner.bytes > heard)
    bridge.let_pass(2.5)  # 10.5 s behind the first
    assert await silent.told() == (1011, b"pong timeout")


@either_side
@pytest.mark.gen_test
async def test_a_ping_is_answered_past_a_stalled_direction(serve: Serve, upstream: Start, who: str) -> None:  # W7, W11
    """Frames from a side that does not read still arrive."""
    async with blocked(serve, upstream, who) as bridge:
        slow, fast = bridge.side(who)
        await slow.send(Frame(PING, b"there?"), text("and this"))
        await fast.hears(Frame(PING, b"there?"), text("and this"))
        assert bridge.relay.close is None


@either_side
@pytest.mark.gen_test
async def test_a_side_that_is_not_read_cannot_miss_a_pong(serve: Serve, upstream: Start, who: str) -> None:
    """The fast one's pong waits behind the messages that the slow one does not take."""
    async with blocked(serve, upstream, who, CLIENT_IDLE_TIMEOUT_MS="1000000") as bridge:
        slow, _ = bridge.side(who)
        for _ in range(5):
            bridge.let_pass(PING_INTERVAL)
            heard = bridge.leg(who).scanner.bytes
            await slow.send(Frame(PONG))
            await eventually(lambda heard=heard: bridge.leg(who).scanner.bytes > heard)
            bridge.let_pass(PONG_TIMEOUT + 1)
        assert bridge.relay.close is None


@either_side
@pytest.mark.gen_test
async def test_a_pong_that_the_kernel_has_is_not_missed(serve: Serve, upstream: Start, who: str) -> None:
    """Reading goes on just before the deadline, and nothing has been read since."""
    bridge = await bridged(serve, upstream)
    side, other = bridge.side(who)
    bridge.let_pass(PING_INTERVAL)
    for each in bridge.sides:
        await each.hears(own_ping(bridge))
    await other.send(own_pong(bridge))
    await eventually(lambda: bridge.leg(who).other.scanner.bytes)
    bridge.leg(who).hold(Hold.TOO_FAST)
    await side.send(own_pong(bridge))
    await eventually(lambda: unread(bridge.leg(who).transport))
    bridge.leg(who).release(Hold.TOO_FAST)
    bridge.let_pass(PONG_TIMEOUT + 1)
    assert bridge.relay.close is None


@either_side
@pytest.mark.gen_test
async def test_a_side_that_has_much_to_read_is_not_pinged(serve: Serve, upstream: Start, who: str) -> None:
    """The ping would wait behind the unread bytes, and would time out before being read."""
    async with blocked(serve, upstream, who, CLIENT_IDLE_TIMEOUT_MS="1000000") as bridge:
        for _ in range(3):
            bridge.let_pass(PING_INTERVAL)
            bridge.let_pass(PONG_TIMEOUT + 1)
        assert bridge.relay.close is None
        slow, _ = bridge.side(who)
        for _ in range(40):
            await slow.hears(KILOBYTES)


# A side that has two pings before it may answer the later one alone (RFC 6455 §5.5.3).


@either_side
@pytest.mark.gen_test
async def test_a_pong_for_the_gateways_ping_alone_also_answers_the_other_sides_before_it(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await bridged(serve, upstream)
    busy, other = bridge.side(who)
    await other.send(Frame(PING, b"app"))
    await busy.hears(Frame(PING, b"app"))
    bridge.let_pass(PING_INTERVAL)
    await busy.hears(own_ping(bridge))
    await busy.send(own_pong(bridge), text("and this"))
    await other.hears(own_ping(bridge), Frame(PONG, b"app"), text("and this"))
    await busy.is_quiet()


@either_side
@pytest.mark.gen_test
async def test_a_pong_for_the_other_sides_ping_alone_is_a_sign_of_life(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream)
    busy, other = bridge.side(who)
    bridge.let_pass(PING_INTERVAL)
    await other.hears(own_ping(bridge))
    await other.send(own_pong(bridge), Frame(PING, b"app"))
    await busy.hears(own_ping(bridge), Frame(PING, b"app"))
    await busy.send(Frame(PONG, b"app"))
    await other.hears(Frame(PONG, b"app"))
    bridge.let_pass(PONG_TIMEOUT + 1)
    assert bridge.relay.close is None


@either_side
@pytest.mark.gen_test
async def test_a_side_that_answers_each_ping_is_heard_once_for_each(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await second.send(Frame(PING, b"app"))
    await first.hears(Frame(PING, b"app"))
    bridge.let_pass(PING_INTERVAL)
    await first.hears(own_ping(bridge))
    await second.hears(own_ping(bridge))
    await first.send(Frame(PONG, b"app"), own_pong(bridge))
    await second.hears(Frame(PONG, b"app"))
    await second.is_quiet()


@either_side
@pytest.mark.gen_test
async def test_a_side_may_send_pings_with_the_gateways_payload(serve: Serve, upstream: Start, who: str) -> None:
    """A side knows the gateway's payloads; the pong for its own ping still goes to that side."""
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    bridge.let_pass(PING_INTERVAL)
    for side in (first, second):
        await side.hears(own_ping(bridge))
    await first.send(own_ping(bridge))
    await second.hears(own_ping(bridge))
    await second.send(own_pong(bridge))
    await first.hears(own_pong(bridge))
    await second.send(own_pong(bridge))
    await first.is_quiet()


# Who reads slowly is not dead: what lies before a ping, a Close or a message in the kernels comes first.

SLOWLY = {"CLIENT_IDLE_TIMEOUT_MS": "60000"}


async def laden(serve: Serve, upstream: Start, slow: str, **variables: str) -> Bridge:
    """A bridge in which a megabyte waits for one side, all in the kernels."""
    acceptor = Acceptor(receive_buffer=SMALL_BUFFER)
    bridge = await bridged(serve, upstream, acceptor, receive_buffer=SMALL_BUFFER, **(SLOWLY | variables))
    leg = bridge.leg(slow)
    await bridge.side(slow)[1].send(LOAD)
    await eventually(lambda: leg.other.scanner.messages and not leg.transport.get_write_buffer_size())
    await settled(leg)
    assert send_queue(leg.transport)[0] > MEGABYTE // 2
    return bridge


LOAD = binary(bytes(MEGABYTE))


async def read_some(side: Side, leg: Leg) -> bytes:
    """Read until that can be seen from the gateway, or nothing waits there any more; what was read."""
    before, read = send_queue(leg.transport), b""
    while send_queue(leg.transport)[1] == before[1] and send_queue(leg.transport)[0]:
        await side.connection.more()
        taken, side.connection.buffer = side.connection.buffer, b""
        read += taken
        await asyncio.sleep(0.001)
    return read


@pytest.mark.parametrize("is_ping_first", [True, False], ids=["behind a ping", "before a ping"])
@either_side
@pytest.mark.gen_test(timeout=30)
async def test_a_side_that_drains_the_kernel_buffers_slowly_is_not_taken_for_dead(
    serve: Serve, upstream: Start, who: str, is_ping_first: bool
) -> None:
    bridge = await bridged(
        serve, upstream, Acceptor(receive_buffer=SMALL_BUFFER), receive_buffer=SMALL_BUFFER, **SLOWLY
    )
    (slow, fast), leg = bridge.side(who), bridge.leg(who)
    if is_ping_first:
        bridge.let_pass(PING_INTERVAL)
    await fast.send(Frame(PONG), LOAD)
    await eventually(lambda: leg.other.scanner.messages and not leg.transport.get_write_buffer_size())
    await settled(leg)
    if not is_ping_first:
        bridge.let_pass(PING_INTERVAL)
    wire = fast.wire(Frame(PONG), LOAD)
    read = 0
    while send_queue(leg.transport)[0]:
        read += len(await read_some(slow, leg))
        heard = leg.other.scanner.bytes
        await fast.send(Frame(PONG))  # it is alive
        await eventually(lambda heard=heard: leg.other.scanner.bytes > heard)
        bridge.let_pass(PONG_TIMEOUT + 1)
        assert bridge.relay.close is None
    assert read > len(wire) // 4
    reading = asyncio.ensure_future(slow.connection.ended())
    await eventually(lambda: (bridge.let_pass(PONG_TIMEOUT + 1), bridge.relay.close)[1])  # now it owes an answer
    bridge.relay.abort()
    await reading


@either_side
@pytest.mark.gen_test(timeout=30)
async def test_a_side_that_does_not_drain_the_kernel_buffers_is_cut_as_stalled(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await laden(serve, upstream, who, WS_PING_INTERVAL_MS="0")
    lines = capture(bridge.running)
    bridge.let_pass(61)  # it is seen that something waits
    bridge.let_pass(50)
    assert bridge.relay.close is None
    bridge.let_pass(15)
    assert await bridge.side(who)[1].told() == lost(who)
    bridge.let_pass(CLOSE_TIMEOUT + 1)
    await bridge.all_ends()
    await eventually(lines)
    assert [line["reason"] for line in lines()] == [f"{who}_stalled"]


@either_side
@pytest.mark.gen_test(timeout=30)
async def test_that_our_kernel_takes_more_is_no_sign_of_life(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await laden(serve, upstream, who, WS_PING_INTERVAL_MS="0")
    fast, leg = bridge.side(who)[1], bridge.leg(who)
    for _ in range(10):  # the kernels may still pass on a last piece at some of these looks, but not at all of them
        seen = leg.other.scanner.messages
        await fast.send(text("more"))
        await eventually(lambda seen=seen: leg.other.scanner.messages > seen)
        await settled(leg)
        bridge.let_pass(61)
        if bridge.relay.close:
            break
    assert bridge.relay.reason == f"{who}_stalled"
    assert await fast.told() == lost(who)
    bridge.relay.abort()


@either_side
@pytest.mark.gen_test(timeout=30)
async def test_a_side_that_reads_on_up_to_its_close_through_the_kernels_is_not_cut(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await laden(serve, upstream, who)
    (slow, fast), leg = bridge.side(who), bridge.leg(who)
    await fast.send(close(1000, b"done"))
    await eventually(lambda: bridge.relay.close)
    read = b""
    while send_queue(leg.transport)[0]:
        read += await read_some(slow, leg)
        bridge.let_pass(CLOSE_TIMEOUT + 0.1)
        assert not leg.is_lost
    await slow.send(close(1000, b"done"))
    expected = fast.wire(LOAD, close(1000, b"done"))
    assert read + await slow.connection.exactly(len(expected) - len(read)) == expected
    await fast.hears(close(1000, b"done"))
    if who == "client":
        end(fast, "FIN")
    end(bridge.upstream, "FIN")
    await bridge.over()


@either_side
@pytest.mark.gen_test(timeout=30)
async def test_a_side_that_does_not_read_up_to_its_close_is_cut_in_bounded_time(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await laden(serve, upstream, who)
    await bridge.side(who)[1].send(close(1000))
    await eventually(lambda: bridge.relay.close)
    bridge.let_pass(CLOSE_TIMEOUT + 0.1)
    bridge.let_pass(CLOSE_TIMEOUT + 0.1)
    await bridge.over()
