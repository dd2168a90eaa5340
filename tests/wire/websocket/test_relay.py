"""The frame relay: what passes, how it ends, and the Close for each side. On real sockets, through a gateway.

Row names such as W6 are those of the project's feature list.
"""

import asyncio
import contextlib
import itertools
import re
import time
import zlib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import LOOPS, Running, Serve, make_settings
from tests.support.bridges import (
    COMPRESSED,
    DEFLATE,
    KILOBYTES,
    MEGABYTE,
    ONE_READ,
    OTHER,
    PING_INTERVAL,
    SMALL_BUFFER,
    answer_close,
    blocked,
    by_fin_or_rst,
    either_side,
    end,
    lost,
    messages,
    narrow,
    narrowed,
    settled,
    unsent,
    waiting,
)
from tests.support.journeys import Start, capture, only_line
from tests.support.sockets import Ended, Message, Upstream, eventually, get
from tests.support.tls import ca_file, tls_upstream
from tests.support.websockets import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Acceptor,
    Bridge,
    Frame,
    Side,
    accepting,
    another,
    binary,
    bridged,
    close,
    text,
)
from tornado_gateway.app import App
from tornado_gateway.policy.http.frames import ABNORMAL
from tornado_gateway.policy.http.stream_limits import PAUSE_ABOVE
from tornado_gateway.wire.peer import has_ended
from tornado_gateway.wire.websocket.relay import CLOSE_TIMEOUT, FIN_TIMEOUT, Leg

# ---------------------------------------------------------------- what passes

MESSAGES = {
    "text": [text("é")],
    "empty": [text(""), binary(b"")],
    "binary": [binary(b"\0")],
    "not UTF-8": [text(b"\xff")],
    "every form of length": [binary(bytes(size)) for size in (125, 126, 127, 65535, 65536)],
    "in fragments": [Frame(TEXT, "é".encode()[:1], fin=False), Frame(CONTINUATION, "é".encode()[1:])],
    "in empty fragments": [Frame(TEXT, fin=False), Frame(CONTINUATION, fin=False), Frame(CONTINUATION)],
    "a megabyte in fragments": [
        Frame(TEXT, b"a" * (MEGABYTE // 4), fin=False),
        *[Frame(CONTINUATION, b"b" * (MEGABYTE // 4), fin=False)] * 2,
        Frame(CONTINUATION, b"c" * (MEGABYTE // 4)),
    ],
    "control frames between fragments": [
        Frame(BINARY, b"1", fin=False), Frame(PING, b"a"), Frame(CONTINUATION, b"2", fin=False), Frame(PONG, b"b"),
        Frame(CONTINUATION, b"3"),
    ],
    "pings, and pongs nobody has asked for": [Frame(PING), Frame(PING, b"p" * 125), Frame(PONG), Frame(PONG, b"q")],
}  # fmt: skip


def buffered(relay: Any) -> int:
    """Bytes that wait for the two sides."""
    return sum(leg.transport.get_write_buffer_size() for leg in (relay.client, relay.upstream) if not leg.is_lost)


@pytest.mark.parametrize("frames", MESSAGES.values(), ids=MESSAGES)
@either_side
@pytest.mark.gen_test
async def test_frames_arrive_byte_for_byte_as_they_were_sent(  # W1, W7
    serve: Serve, upstream: Start, who: str, frames: list[Frame]
) -> None:
    bridge = await bridged(serve, upstream)
    sender, receiver = bridge.side(who)
    sent = sender.wire(*frames)
    sending = asyncio.ensure_future(sender.send(sent))
    assert await receiver.connection.exactly(len(sent)) == sent
    await sending
    await receiver.is_quiet()


@pytest.mark.gen_test
async def test_frames_right_behind_both_handshakes_are_delivered_in_order(serve: Serve, upstream: Start) -> None:  # W12
    said = [text(str(number)) for number in range(5)]
    acceptor = Acceptor(early=b"".join(each.wire(masked=False) for each in said[:2]))
    early = b"".join(each.wire(masked=True) for each in said[:3])
    bridge = await bridged(serve, upstream, acceptor, early=early)
    await bridge.client.send(*said[3:])
    await bridge.upstream.hears(*said)
    await bridge.upstream.send(*said[2:])
    await bridge.client.hears(*said)
    assert messages(bridge) == (5, 5)


@pytest.mark.gen_test
async def test_half_a_frame_right_behind_the_handshakes_is_completed(serve: Serve, upstream: Start) -> None:
    ours, theirs = text("client").wire(masked=True), text("upstream").wire(masked=False)
    bridge = await bridged(serve, upstream, Acceptor(early=theirs[:3]), early=ours[:3])
    await bridge.client.send(ours[3:])
    await bridge.upstream.send(theirs[3:])
    await bridge.upstream.hears(text("client"))
    await bridge.client.hears(text("upstream"))
    assert messages(bridge) == (1, 1)


@pytest.mark.gen_test
async def test_a_close_right_behind_the_answer_arrives(serve: Serve, upstream: Start) -> None:
    acceptor = Acceptor(early=close(4000, b"full").wire(masked=False))
    bridge = await bridged(serve, upstream, acceptor)
    await answer_close(bridge.client, heard=(4000, b"full"))
    await bridge.upstream.hears(close(4000, b"full"))
    end(bridge.upstream, "FIN")
    await bridge.over()
    assert bridge.totals.close_codes == {4000: 1}


@either_side
@pytest.mark.gen_test
async def test_compressed_messages_pass_if_compression_was_agreed_on(  # W10
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await bridged(serve, upstream, Acceptor(DEFLATE), DEFLATE)
    sender, receiver = bridge.side(who)
    compressed = [
        Frame(TEXT, b"\xf2H\xcd\xc9\xc9\x07\x00", rsv=COMPRESSED),
        Frame(BINARY, b"\xf2H", fin=False, rsv=COMPRESSED),
        Frame(CONTINUATION, b"\xcd\xc9\xc9\x07\x00"),
        text("not compressed"),
    ]
    await sender.send(*compressed)
    await receiver.hears(*compressed)
    assert sum(messages(bridge)) == 3


@either_side
@pytest.mark.gen_test
async def test_a_message_may_be_as_large_as_the_limit_over_all_its_fragments(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await bridged(serve, upstream, WS_MAX_MESSAGE_BYTES="100000")
    sender, receiver = bridge.side(who)
    largest = [binary(bytes(100_000)), Frame(TEXT, bytes(99_999), fin=False), Frame(CONTINUATION, b"a")]
    await sender.send(*largest)
    await receiver.hears(*largest)
    assert sum(messages(bridge)) == 2


@either_side
@pytest.mark.gen_test
async def test_the_limit_is_of_bytes_on_the_wire(serve: Serve, upstream: Start, who: str) -> None:  # W9
    """What compressed bytes become is the endpoints' business."""
    bridge = await bridged(serve, upstream, Acceptor(DEFLATE), DEFLATE, WS_MAX_MESSAGE_BYTES="20000")
    sender, receiver = bridge.side(who)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    deflated = deflate.compress(bytes(10 * MEGABYTE)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    bomb = Frame(BINARY, deflated[:-4], rsv=COMPRESSED)
    assert 10_000 < len(bomb.payload) < 20_000
    await sender.send(bomb)
    await receiver.hears(bomb)


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        (close(4000, b"bye").wire(masked=False), (4000, b"bye")),
        (b"\xff\xff", (1002, b"a frame is masked")),
        (b"", (1011, b"upstream lost")),
    ],
    ids=["a Close", "a violation", "a loss"],
)
@pytest.mark.gen_test
async def test_an_upstream_may_be_behind_tls(
    serve: Serve, tmp_path: Path, ending: bytes, told: tuple[int, bytes]
) -> None:
    authority, heard = trustme.CA(), bytearray()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (key,) = re.findall(rb"Sec-WebSocket-Key: (.*)\r\n", up.heads[0])
        writer.write(accepting(Message(b"", [(b"Sec-WebSocket-Key", key)])))
        heard.extend(await reader.readexactly(len(text("up").wire(masked=True))))
        writer.write(text("down").wire(masked=False) + ending)
        if ending:
            heard.extend(await reader.readexactly(2 + 4 + 2 + len(told[1])))
        raise ConnectionError  # ends the connection

    async with tls_upstream(authority, script) as up:
        trusted = ca_file(authority, tmp_path)
        running = await serve({"svc": [up.url]}, UPSTREAM_TLS_CA_FILE=trusted)
        client = Side(await running.client(), masks=True)
        await client.connection.send(get(b"/ws/svc", *HANDSHAKE))
        assert (await client.connection.head()).status == 101
        await client.send(text("up"))
        await client.hears(text("down"))
        await answer_close(client, heard=told)
        end(client, "FIN")
        await eventually(lambda: not running.app.gateway.streams.open and not up.open)
    assert heard.startswith(text("up").wire(masked=True))
    assert bool(ending) == (len(heard) > len(text("up").wire(masked=True)))


# ---------------------------------------------------------------- a Close of a side's own

CLOSES = {
    "normal": (1000, b""),
    "without a code": (0, b""),
    "an application's": (4404, b"gone"),
    "a library's": (3000, b"r" * 123),
    "with a reason in UTF-8": (1011, "é".encode() * 61),
    "going away": (1001, b"bye"),
    "bad gateway": (1014, b""),
}


@pytest.mark.parametrize("said", CLOSES.values(), ids=CLOSES)
@either_side
@pytest.mark.gen_test
async def test_a_close_and_its_answer_arrive_as_they_were_sent(  # W6
    serve: Serve, upstream: Start, who: str, said: tuple[int, bytes]
) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    frame = close(*said) if said[0] else close()
    await first.send(frame)
    await second.hears(frame)
    await second.send(frame)
    await first.hears(frame)
    assert await bridge.client.ended()  # the client's connection is the gateway's to end, as a server
    await bridge.upstream.is_quiet()  # the other one the upstream's
    end(bridge.upstream, "FIN")
    await bridge.over()
    assert bridge.totals.close_codes == {said[0] or 1005: 1}


@either_side
@pytest.mark.gen_test
async def test_an_answer_of_another_code_arrives_too(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await first.send(close(4001, b"one"))
    await second.hears(close(4001, b"one"))
    await second.send(close(4002, b"two"))
    await first.hears(close(4002, b"two"))
    assert await bridge.client.ended()


@pytest.mark.gen_test
async def test_crossing_closes_are_both_forwarded(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream)
    await asyncio.gather(bridge.client.send(close(4001)), bridge.upstream.send(close(4002)))
    await bridge.client.hears(close(4002))
    await bridge.upstream.hears(close(4001))
    assert await bridge.client.ended()
    end(bridge.upstream, "FIN")
    await bridge.over()


@either_side
@pytest.mark.gen_test
async def test_bytes_after_a_close_are_dropped(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await first.send(text("before"), close(1000), text("behind"), close(4000))
    await second.hears(text("before"), close(1000))
    await first.send(text("later"), b"\xff\xff\xff")
    await second.is_quiet()
    await second.send(close(1000))
    await first.hears(close(1000))
    end(bridge.upstream, "FIN")
    await bridge.over()
    assert (bridge.totals.close_codes, sum(messages(bridge))) == ({1000: 1}, 1)


@either_side
@pytest.mark.gen_test
async def test_a_side_may_send_messages_until_it_answers_a_close(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await first.send(close(1000))
    await second.hears(close(1000))
    await second.send(text("one more"), Frame(PING))
    await first.hears(text("one more"), Frame(PING))
    await second.send(text("and another"), close(1000))
    await first.hears(text("and another"), close(1000))
    end(bridge.upstream, "FIN")
    await bridge.over()
    assert (bridge.totals.close_codes, sum(messages(bridge))) == ({1000: 1}, 2)


@pytest.mark.gen_test
async def test_an_upstream_that_does_not_end_its_connection_is_given_a_moment(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream)
    await bridge.client.send(close(1000))
    await bridge.upstream.hears(close(1000))
    await bridge.upstream.send(close(1000))
    await bridge.client.hears(close(1000))
    assert await bridge.client.ended()
    bridge.let_pass(FIN_TIMEOUT * 0.5)
    await bridge.upstream.is_quiet()
    bridge.let_pass(FIN_TIMEOUT)
    await bridge.upstream.connection.ended()
    await bridge.over()


@either_side
@pytest.mark.gen_test
async def test_an_unanswered_close_ends_both_sides_in_bounded_time(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await first.send(close(4000, b"now"))
    await second.hears(close(4000, b"now"))
    bridge.let_pass(CLOSE_TIMEOUT * 0.9)
    await first.is_quiet()
    await second.is_quiet()
    bridge.let_pass(CLOSE_TIMEOUT * 0.2)
    await bridge.all_ends()
    assert bridge.totals.close_codes == {4000: 1}


@by_fin_or_rst
@either_side
@pytest.mark.gen_test
async def test_a_side_that_ends_right_behind_its_close_leaves_the_other_with_that_close(
    serve: Serve, upstream: Start, who: str, how: str
) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await first.send(text("last"), close(4000, b"now"))
    if how == "RST":
        await second.hears(text("last"))
    end(first, how)
    if how == "FIN":
        await second.hears(text("last"))
    await answer_close(second, heard=(4000, b"now"))
    if who == "upstream":
        assert await bridge.client.ended()
    else:
        end(second, "FIN")
    await bridge.over()
    assert bridge.totals.close_codes == {4000: 1}


@either_side
@pytest.mark.gen_test
async def test_a_side_that_ends_instead_of_answering_a_close_has_it_answered_for_it(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await first.send(close(4000, b"now"))
    await second.hears(close(4000, b"now"))
    end(second, "FIN")
    await first.hears(close(4000, b"now"))
    if who == "client":
        assert await first.ended()
    else:
        end(first, "FIN")
    await bridge.over()
    assert bridge.totals.close_codes == {4000: 1}


# ---------------------------------------------------------------- a side is lost

BEGINNINGS: dict[str, Callable[[Side], bytes]] = {
    "between frames": lambda side: b"",
    "in a head": lambda side: b"\x82",
    "in a small frame": lambda side: side.wire(binary(bytes(1000)))[:500],
    "in a message, between fragments": lambda side: side.wire(Frame(TEXT, b"a", fin=False)),
}


@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS)
@by_fin_or_rst
@either_side
@pytest.mark.gen_test
async def test_the_loss_of_a_side_is_told_to_the_other(  # W6
    serve: Serve, upstream: Start, who: str, how: str, begin: Callable[[Side], bytes]
) -> None:
    bridge = await bridged(serve, upstream)
    lines = capture(bridge.running)
    first, second = bridge.side(who)
    await first.send(text("last"), begin(first))
    await second.hears(text("last"))
    end(first, how)
    await answer_close(second, heard=lost(who))
    if who == "upstream":
        assert await second.ended()
    else:
        end(second, "FIN")
    await bridge.over()
    assert bridge.totals.close_codes == {lost(who)[0]: 1}
    await eventually(lines)
    assert [line["reason"] for line in lines()] == ["client_gone" if who == "client" else "upstream_lost"]
    assert bridge.running.errors == (who == "upstream")  # a client that leaves says nothing about the upstream


@by_fin_or_rst
@either_side
@pytest.mark.gen_test
async def test_in_the_middle_of_a_large_frame_the_other_sides_connection_just_ends(
    serve: Serve, upstream: Start, who: str, how: str
) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    half = first.wire(binary(b"x" * MEGABYTE))[: MEGABYTE // 2]
    sending = asyncio.ensure_future(first.send(half))
    assert await second.connection.exactly(len(half)) == half
    await sending
    end(first, how)
    with pytest.raises(Ended):
        await second.connection.exactly(1)
    await bridge.over()
    assert bridge.totals.close_codes == {ABNORMAL: 1}


@either_side
@pytest.mark.gen_test
async def test_in_the_middle_of_a_large_frame_from_the_other_side_a_loss_is_told_behind_it_or_not_at_all(
    serve: Serve, upstream: Start, who: str
) -> None:
    """The frame's sender is told; nothing of its frame is waited for."""
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    half = second.wire(binary(b"x" * MEGABYTE))[: MEGABYTE // 2]
    sending = asyncio.ensure_future(second.send(half))
    assert await first.connection.exactly(len(half)) == half
    await sending
    end(first, "FIN")
    assert await second.told() == lost(who)


@either_side
@pytest.mark.gen_test
async def test_a_half_closed_connection_is_a_lost_one(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    first.connection.half_close()
    assert await second.told() == lost(who)
    assert await first.connection.ended()
    bridge.let_pass(CLOSE_TIMEOUT + 1)
    await second.connection.ended()
    await bridge.over()


@either_side
@pytest.mark.gen_test
async def test_a_side_that_does_not_answer_the_close_for_a_loss_is_cut_in_bounded_time(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    end(first, "RST")
    assert await second.told() == lost(who)
    await second.send(text("nobody hears that"))
    bridge.let_pass(CLOSE_TIMEOUT * 0.9)
    await second.is_quiet()
    bridge.let_pass(CLOSE_TIMEOUT * 0.2)
    await bridge.all_ends()


@pytest.mark.gen_test
async def test_both_sides_may_be_lost_at_once(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream)
    end(bridge.client, "RST")
    end(bridge.upstream, "RST")
    await bridge.over()
    assert bridge.totals.closed == 1


# ---------------------------------------------------------------- rules of RFC 6455


def from_both(who: str) -> dict[str, tuple[int, bytes]]:
    """Violations from a client or an upstream, with the close code."""
    masked = who == "client"

    def wire(frame: Frame) -> bytes:
        return frame.wire(masked=masked)

    def head(first: int, second: int, more: bytes = b"") -> bytes:
        return bytes((first, masked << 7 | second)) + more + (b"mask" if masked else b"")

    return {
        "masked, or not, as it must not be": (1002, text("a").wire(masked=not masked)),
        "a reserved bit": (1002, wire(Frame(TEXT, b"a", rsv=0x40))),
        "another reserved bit": (1002, wire(Frame(TEXT, b"a", rsv=0x10))),
        "a reserved opcode": (1002, wire(Frame(3, b"a"))),
        "a reserved control opcode": (1002, wire(Frame(11, b"a"))),
        "a control frame in fragments": (1002, wire(Frame(PING, b"a", fin=False))),
        "a long control frame": (1002, head(0x89, 126, (126).to_bytes(2, "big"))),
        "a continuation of nothing": (1002, wire(Frame(CONTINUATION, b"a"))),
        "a message within a message": (1002, wire(Frame(TEXT, b"a", fin=False)) + wire(text("b"))),
        "a length in too many bytes": (1002, head(0x82, 126, (125).to_bytes(2, "big"))),
        "a length in far too many bytes": (1002, head(0x82, 127, (65535).to_bytes(8, "big"))),
        "a negative length": (1002, head(0x82, 127, (1 << 63).to_bytes(8, "big"))),
        "half a close code": (1002, wire(Frame(CLOSE, b"\x03"))),
        **{f"close code {code}": (1002, wire(close(code))) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)},
        "a close reason that is not UTF-8": (1007, wire(close(1000, b"\xff"))),
        "a message too big": (1009, head(0x82, 127, (1 << 40).to_bytes(8, "big"))),
        "a message too big over its fragments": (
            1009,
            wire(Frame(BINARY, bytes(600), fin=False)) + wire(Frame(CONTINUATION, bytes(600))),
        ),
    }


@pytest.mark.parametrize(
    ("who", "code", "sent"),
    [
        pytest.param(who, code, sent, id=f"{who}: {rule}")
        for who in ("client", "upstream")
        for rule, (code, sent) in from_both(who).items()
    ],
)
@pytest.mark.gen_test
async def test_a_violation_is_told_to_both_sides(
    serve: Serve, upstream: Start, who: str, code: int, sent: bytes
) -> None:
    bridge = await bridged(serve, upstream, WS_MAX_MESSAGE_BYTES="1000")
    lines = capture(bridge.running)
    first, second = bridge.side(who)
    await first.send(text("good"), sent, text("behind"))
    await second.hears(text("good"))
    told = {await first.told(), await second.told()}
    assert {each[0] for each in told} == {code}, "both are told the same"
    assert len(told) == 1
    (close_frame,) = told
    await second.send(close(*close_frame))
    end(first, "FIN")
    end(bridge.upstream, "FIN")
    await bridge.all_ends()
    assert bridge.totals.close_codes == {code: 1}
    await eventually(lines)
    assert [line["reason"] for line in lines()] == ["message_too_big" if code == 1009 else "protocol_error"]
    assert bridge.running.errors == (who == "upstream")


@either_side
@pytest.mark.gen_test
async def test_a_side_that_breaks_a_rule_and_keeps_sending_gets_the_close(
    serve: Serve, upstream: Start, who: str
) -> None:
    """Closing a connection while bytes arrive resets the connection, which may destroy the Close."""
    bridge = await bridged(serve, upstream, WS_MAX_MESSAGE_BYTES="1000")
    first, second = bridge.side(who)
    frame = first.wire(binary(bytes(4 * MEGABYTE)))
    await first.send(frame[: 64 * 1024])
    await answer_close(second, heard=(1009, b"a message is too big"))
    if second is bridge.upstream:
        end(second, "FIN")
    for start in range(64 * 1024, len(frame), 64 * 1024):
        await first.send(frame[start : start + 64 * 1024])
        await asyncio.sleep(0.001)
    assert await first.told() == (1009, b"a message is too big")
    assert await first.ended()
    end(first, "FIN")
    await bridge.all_ends()


@either_side
@pytest.mark.gen_test
async def test_a_side_that_breaks_a_rule_and_stays_is_cut_in_bounded_time(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await first.send(b"\xff\xff\xff\xff")
    assert (await first.told())[0] == (await second.told())[0] == 1002
    bridge.let_pass(CLOSE_TIMEOUT + 1)
    await bridge.all_ends()


@either_side
@pytest.mark.gen_test
async def test_a_violation_right_before_an_rst_is_told_to_the_other_side(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await first.send(b"\xff\xff\xff\xff")
    end(first, "RST")
    assert (await second.told())[0] in (1002, lost(who)[0])
    end(second, "FIN")
    await bridge.over()


@either_side
@pytest.mark.gen_test
async def test_a_close_for_a_violation_follows_the_other_sides_large_frame(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    large = binary(b"x" * 100_000)
    wire = second.wire(large)
    await second.send(wire[:50_000])
    await eventually(lambda: not bridge.leg(who).other.scanner.at_boundary)
    await first.send(b"\xff\xff\xff\xff")
    assert (await second.told())[0] == 1002
    await second.send(wire[50_000:], text("behind"))
    await first.hears(large)
    assert (await first.told())[0] == 1002


# ---------------------------------------------------------------- idleness


@pytest.mark.gen_test
async def test_without_a_message_a_websocket_ends_as_idle(serve: Serve, upstream: Start) -> None:  # W8
    bridge = await bridged(serve, upstream, WS_IDLE_TIMEOUT_MS="60000", WS_PING_INTERVAL_MS="0")
    lines = capture(bridge.running)
    bridge.let_pass(55)
    for side in bridge.sides:
        await side.is_quiet()
    bridge.let_pass(10)
    for side in bridge.sides:
        await answer_close(side, heard=(1001, b"idle"))
    end(bridge.upstream, "FIN")
    await bridge.all_ends()
    assert bridge.totals.close_codes == {1001: 1}
    await eventually(lines)
    assert [line["reason"] for line in lines()] == ["idle"]
    assert bridge.running.errors == 0


@either_side
@pytest.mark.gen_test
async def test_pings_and_pongs_are_no_messages(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream, WS_IDLE_TIMEOUT_MS="60000", WS_PING_INTERVAL_MS="0")
    first, second = bridge.side(who)
    for _ in range(3):
        await first.send(Frame(PING), Frame(PONG))
        await second.hears(Frame(PING), Frame(PONG))
        bridge.let_pass(19)
    bridge.let_pass(10)
    for side in bridge.sides:
        assert await side.told() == (1001, b"idle")


@pytest.mark.parametrize(
    "frames",
    [[text("")] * 5, [Frame(TEXT, b"a", fin=False)] + [Frame(CONTINUATION, b"b", fin=False)] * 4],
    ids=["messages", "fragments"],
)
@either_side
@pytest.mark.gen_test
async def test_messages_and_their_fragments_prevent_idleness(
    serve: Serve, upstream: Start, who: str, frames: list[Frame]
) -> None:
    bridge = await bridged(serve, upstream, WS_IDLE_TIMEOUT_MS="60000", WS_PING_INTERVAL_MS="0")
    first, second = bridge.side(who)
    for frame in frames:
        await first.send(frame)
        await second.hears(frame)
        bridge.let_pass(40)
    assert bridge.relay.close is None


@either_side
@pytest.mark.gen_test
async def test_a_large_frame_that_takes_its_time_is_not_idle(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream, WS_IDLE_TIMEOUT_MS="60000", WS_PING_INTERVAL_MS="0")
    first, second = bridge.side(who)
    wire = first.wire(binary(bytes(100_000)))
    for start in range(0, len(wire), 20_000):
        piece = wire[start : start + 20_000]
        await first.send(piece)
        assert await second.connection.exactly(len(piece)) == piece
        bridge.let_pass(40)
    assert bridge.relay.close is None


# ---------------------------------------------------------------- a side that does not keep up


@either_side
@pytest.mark.gen_test
async def test_the_fast_side_is_paused_while_the_slow_one_has_enough(  # W11
    serve: Serve, upstream: Start, who: str
) -> None:
    async with blocked(serve, upstream, who) as bridge:
        slow, fast = bridge.side(who)
        for _ in range(50):
            await asyncio.sleep(0.001)
            assert buffered(bridge.relay) <= PAUSE_ABOVE + ONE_READ
        for number in range(3):  # the other direction flows on
            await slow.send(text(str(number)))
            await fast.hears(text(str(number)))
        for _ in range(100):
            await slow.hears(KILOBYTES)
        assert bridge.relay.close is None


@either_side
@pytest.mark.gen_test
async def test_a_small_bound_is_kept(serve: Serve, upstream: Start, who: str) -> None:
    async with blocked(serve, upstream, who, WS_MAX_BUFFERED_BYTES="1000") as bridge:
        for _ in range(50):
            await asyncio.sleep(0.001)
            assert buffered(bridge.relay) <= 1000 + ONE_READ
        slow, _ = bridge.side(who)
        for _ in range(100):
            await slow.hears(KILOBYTES)


@pytest.mark.gen_test
async def test_both_directions_may_be_blocked_at_once_and_go_on(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, Acceptor(receive_buffer=SMALL_BUFFER), receive_buffer=SMALL_BUFFER)
    legs = (bridge.relay.client, bridge.relay.upstream)
    for leg in legs:
        narrow(leg)
    sending = [asyncio.ensure_future(side.send(*[KILOBYTES] * 300)) for side in bridge.sides]
    await eventually(lambda: all(leg.is_held for leg in legs))

    async def read(side: Side) -> None:
        for _ in range(300):
            await side.hears(KILOBYTES)

    await asyncio.gather(*map(read, bridge.sides), *sending)
    assert not any(leg.is_held or leg.is_blocked for leg in legs)


@either_side
@pytest.mark.gen_test
async def test_a_slow_side_can_be_disconnected_instead(serve: Serve, upstream: Start, who: str) -> None:
    variables = {"SLOW_CONSUMER": "disconnect", "WS_MAX_BUFFERED_BYTES": "300000"}
    async with blocked(serve, upstream, who, **variables) as bridge:
        lines = capture(bridge.running)
        assert bridge.relay.close
        assert 300_000 < buffered(bridge.relay) <= 300_000 + 2 * ONE_READ
        slow, fast = bridge.side(who)
        assert await fast.told() == (1013, b"slow consumer")
        assert await slow.told() == (1013, b"slow consumer")
        bridge.let_pass(CLOSE_TIMEOUT + 1)
        bridge.let_pass(CLOSE_TIMEOUT + 1)
    await bridge.all_ends()
    assert bridge.totals.close_codes == {1013: 1}
    await eventually(lines)
    assert [line["reason"] for line in lines()] == ["slow_consumer"]


@pytest.mark.gen_test
async def test_a_slow_side_that_does_not_even_read_its_close_is_cut(serve: Serve, upstream: Start) -> None:
    async with blocked(serve, upstream, "client", SLOW_CONSUMER="disconnect", WS_MAX_BUFFERED_BYTES="300000") as bridge:
        assert await bridge.upstream.told() == (1013, b"slow consumer")
        bridge.let_pass(CLOSE_TIMEOUT + 1)
        bridge.let_pass(CLOSE_TIMEOUT + 1)
    await bridge.all_ends()


@either_side
@pytest.mark.gen_test
async def test_a_slow_side_that_reads_on_up_to_its_close_is_not_cut(serve: Serve, upstream: Start, who: str) -> None:
    variables = {"SLOW_CONSUMER": "disconnect", "WS_MAX_BUFFERED_BYTES": "300000"}
    async with blocked(serve, upstream, who, **variables) as bridge:
        slow, leg = bridge.side(who)[0], bridge.leg(who)
        before = await unsent(leg)
        while before:
            while leg.transport.get_write_buffer_size() == before:
                await slow.hears(KILOBYTES)
            before = leg.transport.get_write_buffer_size()
            for seconds in (CLOSE_TIMEOUT + 0.1, CLOSE_TIMEOUT * 0.9):  # as long again since it has last read
                bridge.let_pass(seconds)
                assert not leg.transport.is_closing()
        assert await slow.told() == (1013, b"slow consumer")


@either_side
@pytest.mark.gen_test
async def test_a_side_that_takes_nothing_for_too_long_is_cut_and_the_other_told(
    serve: Serve, upstream: Start, who: str
) -> None:
    async with blocked(serve, upstream, who, CLIENT_IDLE_TIMEOUT_MS="60000", WS_PING_INTERVAL_MS="0") as bridge:
        lines = capture(bridge.running)
        _, fast = bridge.side(who)
        bridge.let_pass(50)
        assert bridge.leg(who).other.is_held
        assert not bridge.leg(who).transport.is_closing()
        bridge.let_pass(20)
        assert await fast.told() == lost(who)
    bridge.let_pass(CLOSE_TIMEOUT + 1)
    await bridge.all_ends()
    await eventually(lines)
    assert [line["reason"] for line in lines()] == [f"{who}_stalled"]
    assert bridge.running.errors == (who == "upstream")


@either_side
@pytest.mark.gen_test
async def test_a_side_that_takes_nothing_of_a_little_is_cut_too(serve: Serve, upstream: Start, who: str) -> None:
    """Where nothing is paused, and no ping can be sent."""
    variables = {"CLIENT_IDLE_TIMEOUT_MS": "60000", "WS_PING_INTERVAL_MS": "0"}
    tiny = SMALL_BUFFER // 16
    bridge = await bridged(serve, upstream, Acceptor(receive_buffer=tiny), receive_buffer=tiny, **variables)
    (_, fast), leg = bridge.side(who), bridge.leg(who)
    narrow(leg, tiny)
    while await settled(leg) < 30_000:
        await fast.send(binary(bytes(10_000)))
    assert not leg.is_blocked
    bridge.let_pass(61)  # it is seen that something waits
    assert not leg.transport.is_closing()
    while bridge.relay.close is None:  # the kernel may take a little more, late
        heard = leg.other.scanner.bytes
        await fast.send(Frame(PONG, leg.other.pings.own()))  # which is not sent on
        await eventually(lambda heard=heard: leg.other.scanner.bytes > heard)  # type: ignore[misc]
        bridge.let_pass(61)
    assert await fast.told() == lost(who)
    bridge.let_pass(CLOSE_TIMEOUT + 1)
    await bridge.all_ends()


@either_side
@pytest.mark.gen_test
async def test_a_side_that_takes_a_little_is_not_cut(serve: Serve, upstream: Start, who: str) -> None:  # W11
    variables = {"CLIENT_IDLE_TIMEOUT_MS": "60000", "WS_PING_INTERVAL_MS": "0"}
    tiny = SMALL_BUFFER // 16
    bridge = await bridged(serve, upstream, Acceptor(receive_buffer=tiny), receive_buffer=tiny, **variables)
    (slow, fast), leg = bridge.side(who), bridge.leg(who)
    narrow(leg, tiny)
    sending = asyncio.ensure_future(fast.send(binary(bytes(2 * MEGABYTE))))
    before = await unsent(leg)
    while leg.transport.get_write_buffer_size() == before:
        await slow.connection.exactly(1024)
    assert leg.is_blocked
    bridge.let_pass(61)
    assert not leg.transport.is_closing()
    bridge.let_pass(61)  # since then it has taken nothing
    assert await fast.told() == lost(who)
    end(fast, "FIN")
    with contextlib.suppress(OSError):
        await sending
    await bridge.all_ends()


@either_side
@pytest.mark.gen_test
async def test_a_side_that_has_caught_up_is_not_cut_later(serve: Serve, upstream: Start, who: str) -> None:
    async with blocked(serve, upstream, who, CLIENT_IDLE_TIMEOUT_MS="60000", WS_PING_INTERVAL_MS="0") as bridge:
        slow, leg = bridge.side(who)[0], bridge.leg(who)
    reading = asyncio.ensure_future(slow.connection.ended())  # reads whatever comes
    await eventually(lambda: not leg.is_blocked and not waiting(leg))
    for _ in range(4):
        bridge.let_pass(61)
        assert not leg.transport.is_closing()
    bridge.relay.abort()
    await reading
    await bridge.over()


@either_side
@pytest.mark.gen_test
async def test_a_flood_of_pings_takes_no_memory(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await narrowed(serve, upstream, slow=OTHER[who])
    fast, slow = bridge.side(who)
    flood = fast.wire(Frame(PING, bytes(125))) * 1000

    async def send() -> None:
        while True:
            await fast.connection.send(flood)
            await asyncio.sleep(0)

    sending = asyncio.ensure_future(send())
    await eventually(lambda: bridge.leg(who).is_held)
    await asyncio.sleep(0.05)  # for what would still be read
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert bridge.leg(who).is_held
    assert buffered(bridge.relay) <= PAUSE_ABOVE + ONE_READ
    await slow.hears(*[Frame(PING, bytes(125))] * 1000)


@by_fin_or_rst
@either_side
@pytest.mark.gen_test
async def test_frames_for_a_side_that_has_left_are_dropped(serve: Serve, upstream: Start, who: str, how: str) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    end(first, how)
    for _ in range(20):
        await second.send(*[KILOBYTES] * 20)
        await asyncio.sleep(0)
    assert await second.told() == lost(who)
    await second.send(KILOBYTES, close(1000))
    if who == "client":
        end(second, "FIN")
    await bridge.all_ends()


# What was sent before a Close or an end must arrive, however slowly it is read.


@either_side
@pytest.mark.gen_test
async def test_frames_before_a_fast_sides_fin_arrive_at_the_slow_side(serve: Serve, upstream: Start, who: str) -> None:
    """An unread connection does not end before its bytes have been read."""
    bridge = await narrowed(serve, upstream, slow=OTHER[who])
    fast, slow = bridge.side(who)
    count = 0
    while not bridge.leg(who).is_held:
        await fast.send(KILOBYTES)
        await asyncio.sleep(0.001)
        count += 1
    await fast.send(KILOBYTES, close(4000, b"that was all"))
    end(fast, "FIN")
    await eventually(lambda: has_ended(bridge.leg(who).transport, by_fin=True))
    bridge.let_pass(1)
    for _ in range(count + 1):
        await slow.hears(KILOBYTES)
    await answer_close(slow, heard=(4000, b"that was all"))
    if who == "client":
        end(slow, "FIN")
    await bridge.all_ends()
    assert bridge.totals.close_codes == {4000: 1}


@either_side
@pytest.mark.gen_test
async def test_the_reset_of_a_side_that_is_not_read_is_noticed(serve: Serve, upstream: Start, who: str) -> None:
    async with blocked(serve, upstream, who) as bridge:
        slow, fast = bridge.side(who)
    end(fast, "RST")
    await eventually(lambda: (bridge.let_pass(0), bridge.relay.close)[1])
    with contextlib.suppress(Ended):  # there is no Close if the last frame was cut by a limit of the kernel's
        assert await slow.told() == lost(OTHER[who])
    end(slow, "FIN")
    await bridge.over()


@either_side
@pytest.mark.gen_test
async def test_memory_stays_bounded_behind_a_close_of_the_slow_side(serve: Serve, upstream: Start, who: str) -> None:
    """The fast side may send until it answers the Close, and is still paused while the slow side does not read."""
    async with blocked(serve, upstream, who) as bridge:
        slow, fast = bridge.side(who)
        await slow.send(close(1000))
        await fast.hears(close(1000))
        for _ in range(200):
            await asyncio.sleep(0.001)
            assert buffered(bridge.relay) <= PAUSE_ABOVE + ONE_READ
    bridge.let_pass(CLOSE_TIMEOUT + 1)
    bridge.let_pass(CLOSE_TIMEOUT + 1)
    await bridge.all_ends()


@either_side
@pytest.mark.gen_test
async def test_a_slow_side_that_has_said_close_still_gets_everything(serve: Serve, upstream: Start, who: str) -> None:
    async with blocked(serve, upstream, who) as bridge:
        slow, fast = bridge.side(who)
        await slow.send(close(1000))
        await fast.hears(close(1000))
        for _ in range(60):
            await slow.hears(KILOBYTES)
        assert not bridge.leg(who).transport.is_closing()


@either_side
@pytest.mark.gen_test
async def test_a_paused_side_is_read_again_once_nothing_of_it_passes(serve: Serve, upstream: Start, who: str) -> None:
    """So that its answer is seen while the slow side still does not read."""
    async with blocked(serve, upstream, who) as bridge:
        await unsent(bridge.leg(who))
        bridge.relay.drain()
        fast = bridge.leg(who).other
        await eventually(lambda: not fast.is_held)
        assert (await bridge.side(who)[1].told())[0] == 1001
        seen = fast.scanner.bytes
        await eventually(lambda: fast.scanner.bytes > seen + MEGABYTE)
        assert buffered(bridge.relay) <= PAUSE_ABOVE + ONE_READ
    bridge.relay.abort()
    await bridge.all_ends()


@either_side
@pytest.mark.gen_test
async def test_memory_stays_bounded_when_the_gateway_ends_it_in_the_middle_of_a_large_frame(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await narrowed(serve, upstream, slow=OTHER[who])
    fast, slow = bridge.side(who)
    large = binary(bytes(4 * MEGABYTE))
    sending = asyncio.ensure_future(fast.send(large))
    await eventually(lambda: bridge.leg(who).is_held)
    bridge.relay.drain()
    for _ in range(100):
        await asyncio.sleep(0.001)
        assert buffered(bridge.relay) <= PAUSE_ABOVE + ONE_READ
    await slow.hears(large)
    await sending
    assert (await slow.told())[0] == 1001
    assert (await fast.told())[0] == 1001


# ---------------------------------------------------------------- the gateway stops


@pytest.mark.parametrize("code", [1001, 1012])
@pytest.mark.gen_test
async def test_a_stop_ends_both_sides_of_each_websocket_one_after_the_other(  # W18
    serve: Serve, upstream: Start, code: int
) -> None:
    acceptor = Acceptor()
    first = await bridged(serve, upstream, acceptor, WS_DRAIN_CODE=str(code))
    bridges = [first, *[await another(first.running, acceptor) for _ in range(4)]]
    lines = capture(first.running)
    streams, now = first.running.app.gateway.streams, first.running.app.server.context.loop.time()
    streams.drain(now, 4)
    assert not any(bridge.relay.close for bridge in bridges)
    for count in range(1, 6):
        streams.sweep(now + 0.8 * count - 0.1)
        assert sum(bridge.relay.close is not None for bridge in bridges) == count - 1
        streams.sweep(now + 0.8 * count)
        assert sum(bridge.relay.close is not None for bridge in bridges) == count
    for bridge in bridges:
        for side in bridge.sides:
            await answer_close(side, heard=(code, b"the gateway stops"))
        end(bridge.upstream, "FIN")
        await bridge.all_ends()
    assert first.totals.close_codes == {code: 5}
    await eventually(lambda: len(lines()) == 5)
    assert {line["reason"] for line in lines()} == {"draining"}
    assert first.running.errors == 0


@pytest.mark.gen_test
async def test_a_client_has_its_time_to_answer_however_fast_the_upstream_did(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream)
    bridge.relay.drain()
    await answer_close(bridge.upstream, heard=(1001, b"the gateway stops"))
    await eventually(lambda: bridge.relay.upstream.is_done)
    assert await bridge.client.told() == (1001, b"the gateway stops")
    bridge.let_pass(CLOSE_TIMEOUT * 0.9)
    await bridge.client.is_quiet()
    await bridge.client.send(close(1001))
    assert await bridge.client.ended()
    end(bridge.upstream, "FIN")
    await bridge.over()


@pytest.mark.gen_test
async def test_a_stop_comes_to_its_end(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, DRAIN_SPREAD_MS="0", SHUTDOWN_TIMEOUT_MS="4000")
    drained = asyncio.ensure_future(bridge.running.app.drain())
    for side in bridge.sides:
        await answer_close(side, heard=(1001, b"the gateway stops"))
    assert await bridge.client.ended()
    end(bridge.upstream, "FIN")
    assert await drained


# ---------------------------------------------------------------- the client's token


SECRET = "k" * 32


async def authorized(serve: Serve, upstream: Start, seconds: float | None, **variables: str) -> Bridge:
    """A bridge of a client whose token expires after a time, or never."""
    claims = {} if seconds is None else {"exp": time.time() + seconds}
    bearer = b"Authorization: Bearer " + jwt.encode(claims, SECRET).encode()
    return await bridged(serve, upstream, None, bearer, AUTH_REQUIRED="true", JWT_SECRET=SECRET, **variables)


EXPIRED = {"client": (4401, b"token expired"), "upstream": (1001, b"token expired")}


@pytest.mark.gen_test
async def test_a_websocket_ends_when_its_token_does(serve: Serve, upstream: Start) -> None:  # W17
    bridge = await authorized(serve, upstream, 20, WS_PING_INTERVAL_MS="0")
    lines = capture(bridge.running)
    bridge.let_pass(15)
    for side in bridge.sides:
        await side.is_quiet()
    bridge.let_pass(10)
    await answer_close(bridge.client, heard=EXPIRED["client"])
    await answer_close(bridge.upstream, heard=EXPIRED["upstream"])
    assert await bridge.client.ended()
    end(bridge.upstream, "FIN")
    await bridge.over()
    assert bridge.totals.close_codes == {4401: 1}
    await eventually(lines)
    assert [(line["reason"], line["closeCode"]) for line in lines()] == [("token_expired", 4401)]
    assert bridge.running.errors == 0


@pytest.mark.gen_test
async def test_a_token_that_expires_during_the_handshake_ends_the_websocket_at_once(
    serve: Serve, upstream: Start
) -> None:
    bridge = await authorized(serve, upstream, 1)
    assert await bridge.client.told() == EXPIRED["client"]
    assert await bridge.upstream.told() == EXPIRED["upstream"]


@pytest.mark.gen_test
async def test_after_a_suspension_expired_websockets_end(
    serve: Serve, upstream: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monotonic clock has stood still, the wall clock has not."""
    bridge = await authorized(serve, upstream, 3600)
    woken = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: woken)
    bridge.let_pass(PING_INTERVAL)
    assert await bridge.client.told() == EXPIRED["client"]


@pytest.mark.parametrize("seconds", [None, 1e9, 1e17])
@pytest.mark.gen_test
async def test_a_websocket_with_a_token_that_does_not_expire_goes_on(
    serve: Serve, upstream: Start, seconds: float | None
) -> None:
    bridge = await authorized(serve, upstream, seconds, WS_PING_INTERVAL_MS="0")
    bridge.let_pass(1e6)
    await bridge.client.send(text("still here"))
    await bridge.upstream.hears(text("still here"))


@pytest.mark.parametrize("first", ["token", "drain"])
@pytest.mark.gen_test
async def test_of_a_token_and_a_stop_at_once_each_side_hears_one_close(
    serve: Serve, upstream: Start, first: str
) -> None:
    bridge = await authorized(serve, upstream, 3, WS_PING_INTERVAL_MS="0")
    if first == "drain":
        bridge.relay.drain()
    bridge.let_pass(4)
    bridge.relay.drain()
    stopped = (1001, b"the gateway stops")
    assert await bridge.client.told() == (EXPIRED["client"] if first == "token" else stopped)
    assert await bridge.upstream.told() == (EXPIRED["upstream"] if first == "token" else stopped)
    for side in bridge.sides:
        await side.is_quiet()


@pytest.mark.gen_test
async def test_a_token_that_expires_in_a_large_frame_ends_the_websocket_behind_it_or_in_bounded_time(
    serve: Serve, upstream: Start
) -> None:
    bridge = await authorized(serve, upstream, 20, WS_PING_INTERVAL_MS="0")
    half = bridge.client.wire(binary(b"x" * 100_000))[:50_000]
    await bridge.client.send(half)
    assert await bridge.upstream.connection.exactly(len(half)) == half
    bridge.let_pass(21)
    assert await bridge.client.told() == EXPIRED["client"]
    await bridge.upstream.is_quiet()
    bridge.let_pass(CLOSE_TIMEOUT + 1)
    await bridge.all_ends()


REVOKED = {"client": (4401, b"token revoked"), "upstream": (1001, b"token revoked")}


@pytest.mark.gen_test
async def test_a_websocket_ends_when_its_token_is_revoked(serve: Serve, upstream: Start) -> None:  # W17
    bridge = await authorized(serve, upstream, 1000, WS_PING_INTERVAL_MS="0")
    lines = capture(bridge.running)
    for _ in range(2):
        bridge.relay.revoke()
    for name, side in zip(("client", "upstream"), bridge.sides, strict=True):
        await answer_close(side, heard=REVOKED[name])
    assert await bridge.client.ended()
    end(bridge.upstream, "FIN")
    await bridge.over()
    await eventually(lines)
    assert [(line["reason"], line["closeCode"]) for line in lines()] == [("token_revoked", 4401)]
    assert bridge.running.errors == 0


@either_side
@pytest.mark.gen_test
async def test_a_token_that_is_revoked_in_a_large_frame_cuts_off_the_receiver(
    serve: Serve, upstream: Start, who: str
) -> None:
    bridge = await authorized(serve, upstream, 1000, WS_PING_INTERVAL_MS="0")
    sender, receiver = bridge.side(who)
    half = sender.wire(binary(b"x" * 100_000))[:50_000]
    await sender.send(half)
    assert await receiver.connection.exactly(len(half)) == half
    bridge.relay.revoke()
    with pytest.raises(Ended):
        await receiver.connection.exactly(1)
    assert await sender.told() == REVOKED[who]


# ---------------------------------------------------------------- what is counted


@pytest.mark.gen_test
async def test_messages_bytes_age_and_close_codes_are_counted(serve: Serve, upstream: Start) -> None:
    began = time.monotonic()
    bridge = await bridged(serve, upstream)
    lines = capture(bridge.running)
    up = [text("one"), Frame(PING), Frame(TEXT, b"two", fin=False), Frame(CONTINUATION, b"!"), close(4000, b"bye")]
    down = [binary(bytes(1000)), close(4000, b"bye")]
    await bridge.client.send(*up)
    await bridge.upstream.hears(*up)
    await bridge.upstream.send(*down)
    await bridge.client.hears(*down)
    assert await bridge.client.ended()
    end(bridge.upstream, "FIN")
    await bridge.over()
    totals = bridge.totals
    assert (totals.closed, totals.messages_up, totals.messages_down) == (1, 2, 1)
    assert (totals.bytes_up, totals.bytes_down) == (len(bridge.client.wire(*up)), len(bridge.upstream.wire(*down)))
    assert totals.close_codes == {4000: 1}
    assert 0 < totals.seconds <= time.monotonic() - began
    line = await only_line(lines)
    wanted = {
        "method": "GET", "path": "/ws/svc", "service": "svc", "status": 101, "reason": "", "attempts": 1,
        "bytesIn": totals.bytes_up, "bytesOut": totals.bytes_down, "closeCode": 4000, "messagesIn": 2, "messagesOut": 1,
    }  # fmt: skip
    assert {key: line[key] for key in wanted} == wanted


@pytest.mark.gen_test
async def test_of_a_websocket_that_is_cut_the_code_is_1006(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream)
    bridge.relay.abort()
    await bridge.all_ends()
    assert bridge.totals.closed == 1
    assert bridge.totals.close_codes == {1006: 1}


# ---------------------------------------------------------------- anything at all


class Stage:
    """A gateway with an upstream, for many WebSockets one after the other."""

    def __init__(self, app: App, port: int, acceptor: Acceptor, upstream: Upstream) -> None:
        self.running = Running(app, port)
        self.acceptor = acceptor
        self._upstream = upstream
        self.problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.problems.append(context))

    @classmethod
    async def start(cls, **variables: str) -> "Stage":
        acceptor = Acceptor(receive_buffer=SMALL_BUFFER)
        upstream = Upstream(acceptor)
        app = App(make_settings({"svc": [upstream.url]}, WS_MAX_BUFFERED_BYTES="1000", **variables))
        ((_, port),) = await app.start()
        return cls(app, port, acceptor, upstream)

    async def bridge(self) -> Bridge:
        bridge = await another(self.running, self.acceptor, receive_buffer=SMALL_BUFFER)
        for leg in (bridge.relay.client, bridge.relay.upstream):
            narrow(leg, SMALL_BUFFER // 4)
        return bridge

    async def at_rest(self) -> None:
        """Everything of the last WebSocket is gone, and nothing went wrong unseen."""
        app = self.running.app
        await eventually(lambda: not app.server.connections and not self.running.inflight)
        assert not app.gateway.streams.open
        assert app.gateway.streams.counts.total == 0
        assert not app.gateway.client.active
        assert self.problems == []

    async def close(self) -> None:
        for client in self.running.clients:
            client.close()
        await self._upstream.close()
        await self.running.app.close()
        await asyncio.sleep(0.01)
        assert self.problems == []


Play = Callable[..., Coroutine[Any, Any, None]]


@contextlib.contextmanager
def staged(loop: str) -> Iterator[Callable[..., None]]:
    """What runs a play on a stage, again and again, in one event loop."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        stage = runner.run(Stage.start())
        try:
            yield lambda play, *given: runner.run(play(stage, *given))
        finally:
            runner.run(stage.close())


PAYLOADS = st.sampled_from([0, 1, 125, 126, 1000, 16_384, 40_000, 200_000]).map(bytes) | st.binary(max_size=20)
CONTROLS = st.lists(st.builds(Frame, st.sampled_from([PING, PONG]), st.binary(max_size=125)), max_size=2)
PIECES = st.lists(st.sampled_from([1, 2, 7, 100, 5000, 70_000]), min_size=1, max_size=8)


@st.composite
def conversations(draw: st.DrawFn) -> list[Frame]:
    """What one side says: messages in any fragments, with control frames between."""
    frames: list[Frame] = []
    for _ in range(draw(st.integers(0, 5))):
        parts = draw(st.lists(PAYLOADS, min_size=1, max_size=3))
        for index, part in enumerate(parts):
            frames += draw(CONTROLS)
            opcode = CONTINUATION if index else draw(st.sampled_from([TEXT, BINARY]))
            frames.append(Frame(opcode, part, fin=index == len(parts) - 1))
    return frames


BULK = [binary(bytes(400_000)), text("small")]  # more than all buffers take, for those who begin late to read


async def say(side: Side, wire: bytes, sizes: list[int]) -> None:
    """Send in pieces, now and then after a pause."""
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(wire):
            break
        piece = max(size, len(wire) // 50)
        await side.send(wire[at : at + piece])
        at += piece
        if size < 100:
            await asyncio.sleep(0.001)


async def listen(side: Side, count: int, sizes: list[int], is_time: Callable[[], object]) -> bytes:
    """Read bytes with pauses, from an instant on."""
    await eventually(is_time)
    sizes = [max(size, count // 50) for size in sizes]
    heard = b""
    for size in itertools.cycle(sizes):
        if len(heard) == count:
            break
        heard += await side.connection.exactly(min(size, count - len(heard)))
        if size < 7000:
            await asyncio.sleep(0.001)
    return heard


async def converse(stage: Stage, up: list[Frame], down: list[Frame], cuts: list[list[int]], late: list[bool]) -> None:
    bridge = await stage.bridge()
    up, down = (frames + late_ * (BULK + frames) for frames, late_ in zip((up, down), late, strict=True))
    to_upstream, to_client = bridge.client.wire(*up), bridge.upstream.wire(*down)

    def may_read(leg: Leg, wire: bytes, is_late: bool) -> Callable[[], object]:
        """The instant at which a late reader begins: when the other side was paused or has sent everything."""
        return lambda: not is_late or leg.other.is_held or leg.other.scanner.bytes == len(wire)

    heard = await asyncio.gather(
        listen(bridge.upstream, len(to_upstream), cuts[0], may_read(bridge.relay.upstream, to_upstream, late[0])),
        listen(bridge.client, len(to_client), cuts[1], may_read(bridge.relay.client, to_client, late[1])),
        say(bridge.client, to_upstream, cuts[2]),
        say(bridge.upstream, to_client, cuts[3]),
    )
    assert heard[:2] == [to_upstream, to_client]
    messages = [sum(frame.fin and frame.opcode < CLOSE for frame in frames) for frames in (up, down)]
    assert [bridge.relay.client.scanner.messages, bridge.relay.upstream.scanner.messages] == messages
    await bridge.client.send(close(4000))
    await bridge.upstream.hears(close(4000))
    await bridge.upstream.send(close(4001))
    await bridge.client.hears(close(4001))
    end(bridge.upstream, "FIN")
    await bridge.all_ends()
    await stage.at_rest()


@pytest.mark.parametrize("loop", LOOPS)
def test_any_frames_cut_anywhere_with_any_pauses_arrive_as_they_are(loop: str) -> None:
    with staged(loop) as run:

        @settings(max_examples=25, deadline=None)
        @given(
            conversations(),
            conversations(),
            st.lists(PIECES, min_size=4, max_size=4),
            st.lists(st.booleans(), min_size=2, max_size=2),
        )
        def whatever(up: list[Frame], down: list[Frame], cuts: list[list[int]], late: list[bool]) -> None:
            run(converse, up, down, cuts, late)

        whatever()


async def babble(stage: Stage, who: str, pieces: list[bytes], how: str) -> None:
    bridge = await stage.bridge()
    first, second = bridge.side(who)
    with contextlib.suppress(Ended, ConnectionError):
        for piece in pieces:
            await first.send(piece)
            await asyncio.sleep(0)
    end(first, how)
    hearing = asyncio.ensure_future(second.connection.ended())
    await eventually(lambda: bridge.is_over or bridge.relay.close)
    bridge.let_pass(CLOSE_TIMEOUT + 1)
    await hearing
    await bridge.all_ends()
    await stage.at_rest()


GARBAGE = st.lists(
    st.binary(max_size=40)
    | st.sampled_from(
        [
            text("a").wire(masked=True), text("a").wire(masked=False), close(1000).wire(masked=True),
            close(1000).wire(masked=False), Frame(TEXT, b"a", fin=False).wire(masked=True), b"\x82\xfe", b"\x82\x7e",
            b"\x82\x7f" + (1 << 20).to_bytes(8, "big"), b"\x82\xff" + (1 << 20).to_bytes(8, "big"),
        ]
    ),
    max_size=8,
)  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS)
def test_any_garbage_from_either_side_ends_both(loop: str) -> None:
    with staged(loop) as run:

        @settings(max_examples=100, deadline=None)
        @given(st.sampled_from(["client", "upstream"]), GARBAGE, st.sampled_from(["FIN", "RST"]))
        def whatever(who: str, pieces: list[bytes], how: str) -> None:
            run(babble, who, pieces, how)

        whatever()


# ---------------------------------------------------------------- another endpoint shall have it


@pytest.mark.parametrize("code", [1001, 1012])
@pytest.mark.gen_test
async def test_a_websocket_is_moved_by_a_close_to_both_sides(serve: Serve, upstream: Start, code: int) -> None:
    bridge = await bridged(serve, upstream, WS_DRAIN_CODE=str(code))
    lines = capture(bridge.running)
    assert bridge.relay.is_movable
    bridge.relay.move()
    assert not bridge.relay.is_movable
    for side in bridge.sides:
        await answer_close(side, heard=(code, b"rebalanced"))
    assert await bridge.client.ended()
    end(bridge.upstream, "FIN")
    await bridge.over()
    assert bridge.totals.close_codes == {code: 1}
    assert (await only_line(lines))["reason"] == "rebalanced"
    assert bridge.running.errors == 0


@either_side
@pytest.mark.parametrize("size", [10, 64 * 1024], ids=["kept back until whole", "passed as it comes"])
@pytest.mark.gen_test
async def test_a_websocket_cannot_be_moved_in_the_middle_of_a_frame(
    serve: Serve, upstream: Start, who: str, size: int
) -> None:
    bridge = await bridged(serve, upstream)
    sender, receiver = bridge.side(who)
    whole = sender.wire(binary(bytes(size)))
    await sender.send(whole[:9])
    await eventually(lambda: bridge.leg(who).scanner.bytes == 9)
    assert not bridge.relay.is_movable
    await sender.send(whole[9:])
    await receiver.hears(binary(bytes(size)))
    assert bridge.relay.is_movable


@either_side
@pytest.mark.gen_test
async def test_a_websocket_of_which_a_side_does_not_keep_up_cannot_be_moved(
    serve: Serve, upstream: Start, who: str
) -> None:
    """What waits on the other side would be lost."""
    async with blocked(serve, upstream, who) as bridge:
        assert not bridge.relay.is_movable


@either_side
@pytest.mark.gen_test
async def test_a_websocket_that_is_closing_cannot_be_moved(serve: Serve, upstream: Start, who: str) -> None:
    bridge = await bridged(serve, upstream)
    first, second = bridge.side(who)
    await first.send(close(1000))
    await second.hears(close(1000))
    assert not bridge.relay.is_movable
    await second.send(close(1000))
    await first.hears(close(1000))
    end(bridge.upstream, "FIN")
    await bridge.over()
