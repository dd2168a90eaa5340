"""WebSocket frames: which frames pass, when, and why a frame is refused. No sockets."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fuzzing import fuzzing
from tornado_gateway.policy.http.frames import (
    ANY_RSV,
    ATOMIC,
    BINARY,
    CLOSE,
    COMPRESSED,
    GOING_AWAY,
    MAX_CONTROL,
    MAX_REASON,
    NO_STATUS,
    NOT_UTF8,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    Close,
    FrameScanner,
    frame,
    may_be_sent,
)
from tornado_gateway.policy.http.pings import Pings

CONTINUATION, NORMAL = 0, 1000
KEY = b"\x37\xfa\x21\x3d"  # of the examples in RFC 6455 §5.7
OWN = b"gateway-1"
MEGABYTE = 1024 * 1024
LENGTHS = (0, 1, 125, 126, 127, 1000, ATOMIC - 14, ATOMIC - 4, ATOMIC, 65535, 65536, 70_000)

both_directions = pytest.mark.parametrize("masked", [True, False], ids=["from a client", "from a server"])


def wire(
    opcode: int, payload: bytes = b"", *, masked: bool, fin: bool = True, rsv: int = 0, width: int | None = None
) -> bytes:
    """A frame as its sender would write it.

    Args:
        width: bytes of the length behind the second byte, if not the fewest.
    """
    size = len(payload)
    if width is None:
        width = 0 if size < 126 else 2 if size < 1 << 16 else 8
    short = size if width == 0 else 126 if width == 2 else 127
    head = bytes((fin << 7 | rsv | opcode, masked << 7 | short)) + (size.to_bytes(width, "big") if width else b"")
    if not masked:
        return head + payload
    keys = (KEY * (size // 4 + 1))[:size]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")
    return head + KEY + mixed.to_bytes(size, "big")


def frames_of(stream: bytes) -> list[bytes]:
    """Split a stream of whole frames by the lengths of the frames."""
    found, at = [], 0
    while at < len(stream):
        short, head = stream[at + 1] & 0x7F, 2
        size = short
        if short > 125:
            head += 2 if short == 126 else 8
            size = int.from_bytes(stream[at + 2 : at + head], "big")
        end = at + head + (4 if stream[at + 1] & 0x80 else 0) + size
        assert end <= len(stream), "the last frame is cut"
        found.append(stream[at:end])
        at = end
    return found


def scan(*, masked: bool = True, max_message: int = MEGABYTE, **options: Any) -> FrameScanner:
    return FrameScanner(masked=masked, max_message=max_message, **options)


def asked(count: int = 1) -> Pings:
    """Of a sender to which the gateway has sent so many pings."""
    pings = Pings(b"gateway")
    for _ in range(count):
        pings.own()
    return pings


def single(stream: bytes) -> Iterator[bytes]:
    return (stream[at : at + 1] for at in range(len(stream)))


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """The stream in pieces, some of them empty."""
    marks = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(marks)]


def fed(scanner: FrameScanner, pieces: Iterable[bytes]) -> bytes:
    return b"".join([scanner.feed(piece) for piece in pieces])


class Seen(NamedTuple):
    """The state of a scanner."""

    passed: bytes
    held: bytes
    counters: tuple[int, int, int]
    close: Close | None
    violation: Close | None
    state: tuple[bool, bool, bool, bool]


def seen(scanner: FrameScanner, pieces: Iterable[bytes]) -> Seen:
    passed = fed(scanner, pieces)
    return Seen(
        passed,
        scanner._held,
        (scanner.bytes, scanner.messages, scanner.fragments),
        scanner.close,
        scanner.violation,
        (scanner.has_ended, scanner.is_silent, scanner.at_boundary, scanner.is_holding),
    )


# ---------------------------------------------------------------- what passes


@both_directions
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_message_passes_as_it_was_sent(masked: bool, opcode: int, length: int) -> None:
    scanner = scan(masked=masked)
    message = wire(opcode, bytes(length), masked=masked)
    for number in (1, 2):
        assert scanner.feed(message) == message
        assert (scanner.messages, scanner.bytes, scanner.fragments) == (number, number * len(message), 0)
    assert (scanner.has_ended, scanner.at_boundary, scanner.is_holding) == (False, True, False)


@both_directions
def test_fragments_pass_as_fragments_with_control_frames_between(masked: bool) -> None:
    scanner = scan(masked=masked)
    sent = [
        wire(TEXT, b"a", fin=False, masked=masked),
        wire(PING, b"x" * MAX_CONTROL, masked=masked),
        wire(CONTINUATION, b"", fin=False, masked=masked),
        wire(PONG, b"", masked=masked),
        wire(CONTINUATION, b"b", masked=masked),
        wire(TEXT, b"next", masked=masked),
    ]
    assert [scanner.feed(each) for each in sent] == sent
    assert (scanner.messages, scanner.fragments, scanner.violation) == (2, 2, None)
    assert seen(scan(masked=masked), [b"".join(sent)]).passed == b"".join(sent)


@both_directions
def test_pongs_for_the_gateways_own_pings_do_not_pass(masked: bool) -> None:
    """Anywhere within a read. Pings and pongs of the peers pass."""
    own = [wire(PONG, b"gateway-%d" % number, masked=masked) for number in (1, 2, 3)]
    others = [
        wire(PONG, b"", masked=masked),
        wire(PONG, b"gateway", masked=masked),
        wire(PING, OWN, masked=masked),
        wire(TEXT, OWN, masked=masked),
        wire(BINARY, bytes(ATOMIC), masked=masked),
    ]
    streams = (
        [own[0], *others, own[1]], [*own, *others], [others[0], own[0], others[1], own[2], others[2]], [own[2]],
        [own[0], others[0][:1]],
    )  # fmt: skip
    for stream in streams:
        scanner = scan(masked=masked, pings_to_sender=asked(3))
        passing = b"".join(each for each in stream if each not in own)
        assert fed(scanner, [b"".join(stream)]) + scanner._held == passing
        assert scanner.passed == len(passing) - len(scanner._held)
    assert scan(masked=masked).feed(own[0]) == own[0]


@both_directions
def test_a_pong_for_the_gateway_passes_as_one_for_the_ping_of_the_other_side_before_it(masked: bool) -> None:
    """RFC 6455 §5.5.3: its sender may have answered the most recent ping alone."""
    before, behind = wire(TEXT, b"before", masked=masked), wire(TEXT, b"behind", masked=masked)
    for theirs in (b"", b"app", b"a" * MAX_CONTROL):
        pings = Pings(b"gateway")
        other = scan(masked=not masked, pings_to_receiver=pings)
        assert other.feed(wire(PING, theirs, masked=not masked)) == wire(PING, theirs, masked=not masked)
        scanner = scan(masked=masked, pings_to_sender=pings)
        passed = before + wire(PONG, theirs, masked=masked) + behind
        assert scanner.feed(before + wire(PONG, pings.own(), masked=masked) + behind) == passed
        assert scanner.passed == len(passed)


# ---------------------------------------------------------------- any bytes, cut anywhere


@st.composite
def conversations(draw: st.DrawFn, *, masked: bool, rsv: int = 0) -> list[bytes]:
    """Frames that a side may send: messages, in fragments or whole, with control frames between."""
    sent: list[bytes] = []
    sizes = st.one_of(st.integers(0, 130), st.sampled_from(LENGTHS))

    def control() -> None:
        for opcode, payload in draw(st.lists(st.tuples(st.sampled_from((PING, PONG)), PAYLOADS), max_size=2)):
            sent.append(wire(opcode, payload, masked=masked))

    for opcode, pieces, bits in draw(st.lists(st.tuples(KINDS, st.lists(sizes, min_size=1, max_size=4), BITS))):
        for number, size in enumerate(pieces):
            control()
            is_first, is_last = number == 0, number == len(pieces) - 1
            kind, allowed = (opcode, bits & rsv) if is_first else (CONTINUATION, 0)
            sent.append(wire(kind, bytes([size % 251]) * size, masked=masked, fin=is_last, rsv=allowed))
    control()
    return sent


KINDS = st.sampled_from((TEXT, BINARY))
PAYLOADS = st.one_of(st.just(OWN), st.binary(max_size=MAX_CONTROL))
BITS = st.sampled_from((0, COMPRESSED))
CUTS = st.lists(st.integers(0, 200_000), max_size=8)
DIRECTIONS = st.booleans()
CLOSES = st.sampled_from((b"", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xed", b"\x03", b"\x03\xe8\xff"))


@st.composite
def streams(draw: st.DrawFn, *, masked: bool, rsv: int) -> bytes:
    """Frames of which some are invalid, or arbitrary bytes."""
    good = draw(conversations(masked=masked, rsv=rsv))
    good += [wire(CLOSE, payload, masked=masked) for payload in draw(st.lists(CLOSES, max_size=1))]
    good += draw(st.lists(st.sampled_from([wire(TEXT, b"behind", masked=masked), wire(9, b"", masked=masked)])))
    stream = bytearray(b"".join(good))
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3)):
        if place < len(stream):
            stream[place] = byte
    return bytes(stream) + draw(st.binary(max_size=20))


@fuzzing(100)
@given(st.data(), DIRECTIONS, st.sampled_from((0, COMPRESSED, ANY_RSV)), CUTS)
def test_a_stream_cut_anywhere_is_judged_as_one_piece(data: st.DataObject, masked: bool, rsv: int, cuts: list) -> None:
    stream = data.draw(st.one_of(streams(masked=masked, rsv=rsv), st.binary(max_size=200)))
    options = {
        "masked": masked,
        "rsv": rsv,
        "max_message": data.draw(st.sampled_from((3, 300, 2**17))),
    }
    quota = data.draw(st.none() | st.integers(0, 4))
    scanners = [
        scan(**options, paced=quota is not None, pings_to_sender=asked(), pings_to_receiver=Pings(b""))
        for _ in range(3)
    ]
    for scanner in scanners:
        scanner.quota = quota or 0
    whole, pieces, bytes_ = scanners
    expected = seen(whole, [stream])
    assert seen(pieces, cut(stream, cuts)) == expected
    if len(stream) < 2000:
        assert seen(bytes_, single(stream)) == expected


@both_directions
@pytest.mark.parametrize("length", [0, 3, 125, 126, 255, 256, 300, 456, 1000])
def test_a_message_cut_at_any_place_is_judged_as_one_piece(masked: bool, length: int) -> None:
    stream = wire(TEXT, bytes(length), masked=masked)
    expected = seen(scan(masked=masked), [stream])
    for place in range(len(stream)):
        assert seen(scan(masked=masked), [stream[:place], stream[place:]]) == expected


@fuzzing(60)
@given(st.data(), DIRECTIONS, st.sampled_from((0, COMPRESSED)), CUTS)
def test_whatever_a_side_may_send_passes_but_for_the_gateways_pongs(
    data: st.DataObject, masked: bool, rsv: int, cuts: list[int]
) -> None:
    sent = data.draw(conversations(masked=masked, rsv=rsv))
    scanner = scan(masked=masked, rsv=rsv, pings_to_sender=asked())
    passed = fed(scanner, cut(b"".join(sent), cuts))
    own = wire(PONG, OWN, masked=masked)
    first = sent.index(own) if own in sent else len(sent)  # a second one answers nothing
    assert passed == b"".join(sent[:first] + sent[first + 1 :])
    data_frames = [each for each in sent if each[0] & 0x0F < CLOSE]
    assert scanner.messages == sum(each[0] >= 0x80 for each in data_frames)
    assert scanner.fragments == sum(each[0] < 0x80 for each in data_frames)
    assert (scanner.bytes, scanner.passed) == (sum(map(len, sent)), len(passed))
    assert (scanner.has_ended, scanner.is_holding, scanner.at_boundary) == (False, False, True)


@pytest.mark.untraced
@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=40), max_size=8), DIRECTIONS, st.sampled_from((0, COMPRESSED, ANY_RSV)))
def test_no_bytes_are_too_strange(pieces: list[bytes], masked: bool, rsv: int) -> None:
    scanner = scan(masked=masked, rsv=rsv)
    passed = fed(scanner, pieces)
    assert b"".join(pieces).startswith(passed)
    assert scanner.has_ended is (scanner.close is not None or scanner.violation is not None)
    assert scanner.close is None or scanner.violation is None


# ---------------------------------------------------------------- rules (RFC 6455 §5)


class Offence(NamedTuple):
    """A frame that breaks a rule, after valid frames.

    Attributes:
        frame: arguments of wire(); the payload is b"wrong" if none is given.
        before: the same of frames that the offence depends on.
        rsv: what was negotiated.
        reason: what the sender is told.
        masked: whether the frame is; None: as it should be.
    """

    reason: bytes
    frame: dict[str, Any]
    before: tuple[dict[str, Any], ...] = ()
    rsv: int = 0
    masked: bool | None = None


def begun(**more: Any) -> dict[str, Any]:
    return {"opcode": TEXT, "payload": b"a", "fin": False, **more}


RSV, OPCODE, CONTROL = b"a reserved bit is set", b"an unknown opcode", b"a control frame is fragmented or too long"
WITHIN, NOTHING, LENGTH = b"a message within a message", b"a continuation of nothing", b"a length in the wrong form"
BAD_CODE = b"a close code that must not be sent"
OFFENCES = {
    **{
        f"RSV{index} on a message": Offence(RSV, {"opcode": TEXT, "rsv": bit})
        for index, bit in enumerate((0x40, 0x20, 0x10), start=1)
    },
    "RSV1 on a fragment": Offence(RSV, begun(rsv=0x40)),
    "RSV1 on a continuation": Offence(RSV, {"opcode": CONTINUATION, "rsv": 0x40}, (begun(),)),
    "RSV1 on a ping": Offence(RSV, {"opcode": PING, "rsv": 0x40}),
    "compressed, RSV1 on a continuation": Offence(
        RSV, {"opcode": CONTINUATION, "rsv": 0x40}, (begun(rsv=0x40),), COMPRESSED
    ),
    "compressed, RSV1 on a ping": Offence(RSV, {"opcode": PING, "rsv": 0x40}, (), COMPRESSED),
    "compressed, RSV1 on a close": Offence(RSV, {"opcode": CLOSE, "rsv": 0x40}, (), COMPRESSED),
    "compressed, RSV2 as well": Offence(RSV, {"opcode": TEXT, "rsv": 0x60}, (), COMPRESSED),
    "compressed, RSV3": Offence(RSV, {"opcode": TEXT, "rsv": 0x10}, (), COMPRESSED),
    **{f"opcode {opcode}": Offence(OPCODE, {"opcode": opcode}) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "any bits, but opcode 3": Offence(OPCODE, {"opcode": 3, "rsv": 0x70}, (), ANY_RSV),
    **{
        f"a control frame {opcode} in fragments": Offence(CONTROL, {"opcode": opcode, "fin": False})
        for opcode in (CLOSE, PING, PONG)
    },
    **{
        f"a control frame {opcode} of 126 bytes": Offence(CONTROL, {"opcode": opcode, "payload": b"\x03\xe8" * 63})
        for opcode in (CLOSE, PING, PONG)
    },
    "a ping of 65536 bytes": Offence(CONTROL, {"opcode": PING, "payload": bytes(65536)}),
    "a ping with a long form of a short length": Offence(CONTROL, {"opcode": PING, "width": 2}),
    "a message within a message": Offence(WITHIN, {"opcode": TEXT}, (begun(),)),
    "a message within a message behind a ping": Offence(WITHIN, {"opcode": BINARY}, (begun(), {"opcode": PING})),
    "a fragment of another message": Offence(WITHIN, begun(opcode=BINARY), (begun(),)),
    "a continuation of nothing": Offence(NOTHING, {"opcode": CONTINUATION}),
    "a first fragment that continues": Offence(NOTHING, {"opcode": CONTINUATION, "fin": False}),
    "a continuation of what has ended": Offence(
        NOTHING, {"opcode": CONTINUATION}, (begun(), {"opcode": CONTINUATION})
    ),
    "125 in two bytes": Offence(LENGTH, {"opcode": TEXT, "payload": bytes(125), "width": 2}),
    "0 in two bytes": Offence(LENGTH, {"opcode": TEXT, "payload": b"", "width": 2}),
    "0 in eight bytes": Offence(LENGTH, {"opcode": TEXT, "payload": b"", "width": 8}),
    "125 in eight bytes": Offence(LENGTH, {"opcode": TEXT, "payload": bytes(125), "width": 8}),
    "126 in eight bytes": Offence(LENGTH, {"opcode": BINARY, "payload": bytes(126), "width": 8}),
    "65535 in eight bytes": Offence(LENGTH, {"opcode": BINARY, "payload": bytes(65535), "width": 8}),
    "a close of one byte": Offence(BAD_CODE, {"opcode": CLOSE, "payload": b"\x03"}),
    "a close of no code": Offence(BAD_CODE, {"opcode": CLOSE, "payload": b"\x00\x00"}),
}  # fmt: skip


def refusal(stream: Sequence[bytes], **options: Any) -> tuple[bytes, Close | None]:
    """The bytes that pass, and the violation; checks that both are the same for any cut, and that nothing follows."""
    whole, found = b"".join(stream), []
    for pieces in ([whole], stream, single(whole)):
        scanner = scan(**options)
        found.append((fed(scanner, pieces), scanner.violation))
        assert (scanner.close, scanner.has_ended) == (None, True)
        assert (scanner.is_holding, scanner.bytes) == (False, len(whole))
        assert scanner.feed(stream[0]) == b""
    first, *others = found
    assert others == [first] * 2
    return first


@both_directions
@pytest.mark.parametrize("offence", OFFENCES.values(), ids=OFFENCES)
def test_a_broken_rule_ends_what_passes(offence: Offence, masked: bool) -> None:
    before = [wire(TEXT, b"good", masked=masked), *(wire(**each, masked=masked) for each in offence.before)]
    behind = wire(TEXT, b"behind", masked=masked)
    stream = [*before, wire(**({"payload": b"wrong"} | offence.frame), masked=masked), behind]
    violation = Close(PROTOCOL_ERROR, offence.reason)
    assert refusal(stream, masked=masked, rsv=offence.rsv) == (b"".join(before), violation)


@pytest.mark.parametrize(
    ("masked", "reason"), [(True, b"a frame is not masked"), (False, b"a frame is masked")], ids=["client", "server"]
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
@pytest.mark.parametrize("length", [0, 5, 125])
def test_clients_mask_their_frames_and_servers_do_not(masked: bool, reason: bytes, opcode: int, length: int) -> None:
    good = wire(TEXT, b"good", masked=masked)
    wrong = wire(opcode, b"\x03\xe8"[:length] + b"r" * (length - 2), masked=not masked)
    assert refusal([good, wrong, good], masked=masked) == (good, Close(PROTOCOL_ERROR, reason))


@both_directions
@pytest.mark.parametrize("length", range(120, 128))
@pytest.mark.parametrize("size", [2, 3, 5, 6, 7])
def test_how_a_frame_is_masked_is_seen_from_its_first_bytes(masked: bool, length: int, size: int) -> None:
    scanner = scan(masked=masked)
    assert scanner.feed(bytes((0x81, length if masked else 0x80 | length)) + bytes(size - 2)) == b""
    assert scanner.violation.code == PROTOCOL_ERROR


@both_directions
@pytest.mark.parametrize("length", [126, 1000, 65535, 65536, 70_000])
def test_a_long_frame_is_judged_by_its_mask_bit_even_if_its_size_fits(masked: bool, length: int) -> None:
    wide = 2 if length < 1 << 16 else 8
    second = (0 if masked else 0x80) | (126 if wide == 2 else 127)
    key = bytes(4) if masked else b""
    frame = bytes((0x82, second)) + length.to_bytes(wide, "big") + key + bytes(length)
    scanner = scan(masked=masked)
    assert (scanner.feed(frame), scanner.violation.code, scanner.messages) == (b"", PROTOCOL_ERROR, 0)


@both_directions
@pytest.mark.parametrize("length", [125, 126, 1000, 65535])
def test_a_length_in_eight_bytes_that_needs_fewer_is_a_protocol_error(masked: bool, length: int) -> None:
    frame = bytes((0x82, 0xFF if masked else 0x7F)) + length.to_bytes(8, "big") + bytes(4 * masked + length)
    scanner = scan(masked=masked)
    assert (scanner.feed(frame), scanner.violation) == (b"", Close(PROTOCOL_ERROR, LENGTH))


@both_directions
@pytest.mark.parametrize("size", [10, 126 + 10, 0x8000 + 4, 0x8000 + 8, 40_000])
def test_a_length_with_the_top_bit_set_is_a_protocol_error(masked: bool, size: int) -> None:
    good = wire(TEXT, b"good", masked=masked)
    wrong = (b"\x81\xff\x80" if masked else b"\x81\x7f\x80") + bytes(size - 3)
    assert refusal([good, wrong, good], masked=masked) == (good, Close(PROTOCOL_ERROR, LENGTH))


@pytest.mark.parametrize(
    ("rsv", "frames"),
    [
        (COMPRESSED, [{"opcode": TEXT, "rsv": 0x40}]),
        (COMPRESSED, [{"opcode": BINARY, "payload": bytes(200), "rsv": 0x40}]),
        (COMPRESSED, [{"opcode": TEXT}]),
        (COMPRESSED, [begun(rsv=0x40), {"opcode": PING}, {"opcode": CONTINUATION}]),
        (ANY_RSV, [{"opcode": TEXT, "rsv": rsv} for rsv in range(0, 0x80, 0x10)]),
        (ANY_RSV, [begun(rsv=0x20), {"opcode": CONTINUATION, "rsv": 0x20}]),
        (ANY_RSV, [begun(rsv=0x40), {"opcode": CONTINUATION, "rsv": 0x40}]),
        (ANY_RSV, [{"opcode": PING, "rsv": rsv} for rsv in range(0, 0x80, 0x10)]),
    ],
    ids=[
        "compressed", "compressed, long", "not compressed", "compressed in fragments", "any bits",
        "any bits on a continuation", "RSV1 of another extension on a continuation", "any bits on a ping",
    ],
)  # fmt: skip
@both_directions
def test_reserved_bits_pass_as_negotiated(rsv: int, frames: list[dict[str, Any]], masked: bool) -> None:
    sent = [wire(**each, masked=masked) for each in frames]
    for pieces in ([b"".join(sent)], sent):
        scanner = scan(masked=masked, rsv=rsv)
        assert fed(scanner, pieces) == b"".join(sent)
        assert not scanner.has_ended


# ---------------------------------------------------------------- closing (RFC 6455 §5.5.1, §7.4)

GOOD_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
BAD_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535)


@both_directions
@pytest.mark.parametrize("code", GOOD_CODES)
@pytest.mark.parametrize("reason", [b"", b"bye", "€".encode() * (MAX_REASON // 3)], ids=["no reason", "bye", "longest"])
def test_a_close_passes_as_sent_and_nothing_behind_it(masked: bool, code: int, reason: bytes) -> None:
    message, close = wire(TEXT, b"a", masked=masked), wire(CLOSE, code.to_bytes(2, "big") + reason, masked=masked)
    for pieces in ([message + close + message], [message, close, message], single(message + close + message)):
        scanner = scan(masked=masked)
        assert fed(scanner, pieces) == message + close
        assert (scanner.close, scanner.violation, scanner.messages) == (Close(code, reason), None, 1)
        assert (scanner.has_ended, scanner.is_holding, scanner.at_boundary) == (True, False, True)
        assert scanner.feed(message) == b""
        assert scanner.messages == 1
    assert may_be_sent(code)


@both_directions
@pytest.mark.parametrize("code", BAD_CODES)
def test_a_close_code_that_must_not_be_sent_is_refused(masked: bool, code: int) -> None:
    message, close = wire(TEXT, b"a", masked=masked), wire(CLOSE, code.to_bytes(2, "big") + b"bye", masked=masked)
    assert refusal([message, close, message], masked=masked) == (message, Close(PROTOCOL_ERROR, BAD_CODE))
    assert not may_be_sent(code)


@both_directions
def test_a_close_without_a_code_has_no_status(masked: bool) -> None:
    scanner, close = scan(masked=masked), wire(CLOSE, masked=masked)
    assert scanner.feed(close + close) == close
    assert scanner.close == Close(NO_STATUS)


@both_directions
@pytest.mark.parametrize("reason", [b"\xff", b"caf\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
def test_a_close_reason_that_is_not_utf8_is_refused(masked: bool, reason: bytes) -> None:
    message, close = wire(TEXT, b"a", masked=masked), wire(CLOSE, b"\x03\xe8" + reason, masked=masked)
    violation = Close(NOT_UTF8, b"a close reason that is not UTF-8")
    assert refusal([message, close], masked=masked) == (message, violation)


@both_directions
def test_a_close_may_come_within_a_message(masked: bool) -> None:
    scanner = scan(masked=masked)
    sent = wire(TEXT, b"a", fin=False, masked=masked) + wire(CLOSE, b"\x03\xe9", masked=masked)
    assert scanner.feed(sent + wire(CONTINUATION, masked=masked)) == sent
    assert scanner.close == Close(GOING_AWAY)


# ---------------------------------------------------------------- sizes


@pytest.mark.untraced
@both_directions
@pytest.mark.parametrize("limit", [0, 1, 124, 125, 126, 1000, 65535, 65536])
def test_a_message_may_be_as_large_as_the_limit_and_no_larger(masked: bool, limit: int) -> None:
    good, wrong = wire(TEXT, bytes(limit), masked=masked), wire(TEXT, bytes(limit + 1), masked=masked)
    too_big = Close(TOO_BIG, b"a message is too big")
    assert refusal([good, wrong, good], masked=masked, max_message=limit) == (good, too_big)
    scanner = scan(masked=masked, max_message=limit)
    assert scanner.feed(wrong) == b""  # alone, as most messages come
    assert scanner.violation == too_big


@both_directions
@pytest.mark.parametrize("sizes", [(1000, 1), (400, 600, 1), (0, 0, 1001), (1, 1, 1, 998)], ids=str)
def test_a_messages_size_is_that_of_its_fragments_together(masked: bool, sizes: tuple[int, ...]) -> None:
    """Control frames between the fragments and other messages do not count."""

    def fragments(sizes: tuple[int, ...]) -> list[bytes]:
        last = len(sizes) - 1
        return [
            wire(CONTINUATION if at else TEXT, bytes(size), fin=at == last, masked=masked) + ping
            for at, size in enumerate(sizes)
        ]

    ping = wire(PING, bytes(125), masked=masked)
    small = b"".join(fragments((*sizes[:-1], sizes[-1] - 1)))
    scanner = scan(masked=masked, max_message=1000)
    for number in (1, 2, 3):
        assert scanner.feed(small) == small
        assert scanner.messages == number
    *before, wrong = fragments(sizes)
    good = small + b"".join(before)
    too_big = Close(TOO_BIG, b"a message is too big")
    assert refusal([small, *before, wrong], masked=masked, max_message=1000) == (good, too_big)


@both_directions
@pytest.mark.parametrize("size", [MEGABYTE + 1, 1 << 32, (1 << 63) - 1])
def test_a_huge_message_is_refused_by_its_length_field(masked: bool, size: int) -> None:
    scanner = scan(masked=masked)
    head = bytes((0x82, masked << 7 | 127)) + size.to_bytes(8, "big")
    assert scanner.feed(head[:-1]) == b""
    assert not scanner.has_ended
    assert scanner.feed(head[-1:]) == b""
    assert (scanner.violation, scanner.is_holding) == (Close(TOO_BIG, b"a message is too big"), False)


@both_directions
def test_a_message_that_is_too_big_is_refused_before_it_is_there(masked: bool) -> None:
    scanner = scan(masked=masked, max_message=10)
    assert scanner.feed(wire(TEXT, bytes(11), masked=masked)[:2]) == b""
    assert scanner.violation == Close(TOO_BIG, b"a message is too big")


# ---------------------------------------------------------------- whole frames


@both_directions
def test_a_small_frame_is_kept_back_until_it_is_whole(masked: bool) -> None:
    largest = wire(BINARY, bytes(ATOMIC - (8 if masked else 4)), masked=masked)
    assert len(largest) == ATOMIC
    scanner = scan(masked=masked)
    for piece in (largest[:1], largest[1:2], largest[2:9], largest[9:-1]):
        assert scanner.feed(piece) == b""
        assert (scanner.is_holding, scanner.at_boundary, scanner.messages) == (True, True, 0)
    assert scanner.feed(largest[-1:]) == largest
    assert (scanner.is_holding, scanner.at_boundary, scanner.messages) == (False, True, 1)


@both_directions
def test_a_large_frame_passes_as_it_comes(masked: bool) -> None:
    large = wire(BINARY, bytes(ATOMIC + 1 - (8 if masked else 4)), masked=masked)
    assert len(large) == ATOMIC + 1
    scanner = scan(masked=masked)
    assert scanner.feed(large[:3]) == b""  # its length is not known yet
    assert (scanner.is_holding, scanner.at_boundary) == (True, True)
    assert scanner.feed(large[3:4]) == large[:4]
    for piece in (large[4:6], large[6:100], large[100:-1]):
        assert scanner.feed(piece) == piece
        assert (scanner.is_holding, scanner.at_boundary, scanner.messages) == (False, False, 1)
    small = wire(TEXT, b"a", masked=masked)
    assert scanner.feed(large[-1:] + small) == large[-1:] + small
    assert (scanner.at_boundary, scanner.messages) == (True, 2)


@both_directions
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_control_frame_is_kept_back_until_it_is_whole(masked: bool, opcode: int) -> None:
    control = wire(opcode, b"\x03\xe8" + b"r" * 123, masked=masked)
    message = wire(TEXT, b"a", masked=masked)
    scanner = scan(masked=masked)
    assert scanner.feed(message + control[:-1]) == message
    assert (scanner.is_holding, scanner.has_ended) == (True, False)
    assert scanner.feed(control[-1:]) == control
    assert (scanner.is_holding, scanner.has_ended) == (False, opcode == CLOSE)


@both_directions
def test_a_payload_that_looks_like_a_message_passes_as_payload(masked: bool) -> None:
    """A read that holds exactly one message is recognised at a glance; its place in the stream decides."""
    looks = wire(TEXT, b"abc", masked=masked)
    small = wire(BINARY, bytes(len(looks)), masked=masked)[: -len(looks)]
    large = wire(BINARY, bytes(3 * ATOMIC), masked=masked)
    for before, within, behind in (
        (small[:1], small[1:] + looks, b""),
        (small, looks, b""),
        (large[:ATOMIC], looks, large[ATOMIC + len(looks) :]),
        (large[: -len(looks)], looks, b""),
    ):
        scanner = scan(masked=masked)
        assert fed(scanner, [before, within, behind]) == before + within + behind
        assert (scanner.messages, scanner.at_boundary, scanner.is_holding) == (1, True, False)
        assert scanner.feed(looks) == looks
        assert scanner.messages == 2


# ---------------------------------------------------------------- frames of the gateway's own


def ping(masked: bool) -> bytes:
    return wire(PING, OWN, masked=masked)


@both_directions
def test_a_frame_is_put_in_at_once_between_two_frames(masked: bool) -> None:
    scanner = scan(masked=masked)
    message, mine = wire(TEXT, b"abc", masked=masked), ping(masked)
    assert scanner.insert(mine) == mine
    scanner.feed(message)
    assert scanner.insert(mine) == mine
    scanner.feed(message[:4])  # kept back: what has passed ends with a whole frame
    assert scanner.insert(mine) == mine
    assert scanner.feed(message[4:]) == message


@both_directions
def test_a_frame_is_put_in_within_a_message_but_not_within_its_fragments(masked: bool) -> None:
    scanner = scan(masked=masked)
    scanner.feed(wire(TEXT, b"a", fin=False, masked=masked))
    assert scanner.insert(ping(masked)) == ping(masked)
    assert scanner.feed(wire(CONTINUATION, masked=masked)) == wire(CONTINUATION, masked=masked)


@both_directions
def test_a_frame_put_in_within_a_large_one_comes_out_right_behind_it(masked: bool) -> None:
    large, small = wire(BINARY, bytes(40_000), masked=masked), wire(TEXT, b"abc", masked=masked)
    mine = wire(PING, b"mine", masked=masked)
    first, own = (wire(PONG, b"gateway-%d" % number, masked=masked) for number in (1, 2))
    for rest in (b"", small, small[:3], small + small, own + small, small + own + small, small + large[:10]):
        scanner = scan(masked=masked, pings_to_sender=asked(9))
        assert scanner.feed(first + small + large[:20_000]) == small + large[:20_000]
        assert scanner.insert(mine) == b""
        assert scanner.feed(large[20_000:30_000]) == large[20_000:30_000]
        assert scanner.insert(mine + mine) == b""
        passed = scanner.feed(large[30_000:] + rest)
        assert passed + scanner._held == large[30_000:] + mine * 3 + rest.replace(own, b"")
        scanner.feed(small[3:] if rest == small[:3] else large[10:] if rest.endswith(large[:10]) else b"")
        assert scanner.insert(mine) == mine
        assert scanner.feed(small) == small


@both_directions
def test_a_frame_put_in_within_a_large_one_may_be_the_last(masked: bool) -> None:
    large, small = wire(BINARY, bytes(40_000), masked=masked), wire(TEXT, b"abc", masked=masked)
    mine, bye = ping(masked), wire(CLOSE, b"\x03\xe8", masked=masked)
    for rest in (b"", small, small + bye):
        scanner = scan(masked=masked)
        scanner.feed(large[:20_000])
        assert scanner.insert(mine) == b""
        assert scanner.insert(bye, last=True) == b""
        assert scanner.insert(mine) == b""
        assert not scanner.is_silent
        assert scanner.feed(large[20_000:] + rest) == large[20_000:] + mine + bye
        assert scanner.is_silent
        assert scanner.insert(mine) == b""
        assert scanner.feed(small + bye) == b""
        assert scanner.close == Close(NORMAL)


@both_directions
def test_after_the_last_frame_nothing_passes_and_scanning_goes_on(masked: bool) -> None:
    mine = wire(CLOSE, b"\x03\xe9", masked=masked)
    message, bye = wire(TEXT, b"abc", masked=masked), wire(CLOSE, b"\x03\xe8bye", masked=masked)
    for behind in ([message, bye], [message + bye], single(message + bye), [wire(PING, masked=masked) + bye]):
        scanner = scan(masked=masked)
        assert scanner.insert(mine, last=True) == mine
        assert scanner.is_silent
        assert fed(scanner, behind) == b""
        assert (scanner.close, scanner.has_ended) == (Close(NORMAL, b"bye"), True)
        assert scanner.insert(mine, last=True) == b""
    scanner = scan(masked=masked)
    scanner.insert(mine, last=True)
    assert scanner.feed(wire(TEXT, masked=not masked)) == b""
    assert scanner.violation.code == PROTOCOL_ERROR


@both_directions
def test_a_side_that_broke_a_rule_can_be_answered_for(masked: bool) -> None:
    """The other side is still told why there is nothing more."""
    scanner = scan(masked=masked)
    message, mine = wire(TEXT, b"a", masked=masked), wire(CLOSE, b"\x03\xea", masked=masked)
    assert scanner.feed(message + wire(3, masked=masked) + message) == message
    assert scanner.insert(mine, last=True) == mine
    assert scanner.insert(mine, last=True) == b""
    assert scanner.feed(message) == b""


@both_directions
def test_behind_the_senders_close_nothing_is_put_in(masked: bool) -> None:
    scanner, bye = scan(masked=masked), wire(CLOSE, b"\x03\xe8", masked=masked)
    assert scanner.feed(bye) == bye
    assert scanner.insert(ping(masked)) == b""
    assert scanner.insert(bye, last=True) == b""


@both_directions
def test_once_its_receiver_has_gone_nothing_passes(masked: bool) -> None:
    message, bye = wire(TEXT, b"abc", masked=masked), wire(CLOSE, b"\x03\xe8", masked=masked)
    scanner = scan(masked=masked)
    scanner.feed(message)
    scanner.mute()
    assert (scanner.feed(message), scanner.insert(bye), scanner.is_silent) == (b"", b"", True)
    assert scanner.feed(bye) == b""
    assert scanner.close == Close(NORMAL)


@both_directions
def test_a_frame_that_was_to_be_put_in_is_lost_when_its_receiver_goes(masked: bool) -> None:
    large, bye = wire(BINARY, bytes(40_000), masked=masked), wire(CLOSE, b"\x03\xe8", masked=masked)
    scanner = scan(masked=masked)
    scanner.feed(large[:20_000])
    scanner.insert(ping(masked))
    scanner.mute()
    assert scanner.feed(large[20_000:] + bye) == b""
    assert scanner.close == Close(NORMAL)


@fuzzing(60)
@given(st.data(), DIRECTIONS, CUTS)
def test_frames_put_in_at_any_moment_stand_between_those_of_the_sender(
    data: st.DataObject, masked: bool, cuts: list[int]
) -> None:
    sent = data.draw(conversations(masked=masked))
    scanner, passed, mine = scan(masked=masked), b"", []
    for number, piece in enumerate(cut(b"".join(sent), cuts)):
        for again in range(data.draw(st.integers(0, 2))):
            mine.append(wire(PING, b"mine %d %d %b" % (number, again, bytes(100)), masked=masked))
            passed += scanner.insert(mine[-1])
        passed += scanner.feed(piece)
    frames = frames_of(passed)
    assert [each for each in frames if each not in mine] == sent
    assert [each for each in frames if each in mine] == mine


@fuzzing(60)
@given(st.data(), DIRECTIONS, CUTS)
def test_the_last_frame_stands_behind_whole_frames_of_the_sender(
    data: st.DataObject, masked: bool, cuts: list[int]
) -> None:
    sent = data.draw(conversations(masked=masked))
    last, bye = wire(CLOSE, b"\x03\xe9gateway", masked=masked), wire(CLOSE, b"\x03\xe8bye", masked=masked)
    pieces = cut(b"".join([*sent, bye]), cuts)
    moment = data.draw(st.integers(0, len(pieces) - 1))
    scanner, passed = scan(masked=masked), b""
    for number, piece in enumerate(pieces):
        if number == moment:
            passed += scanner.insert(last, last=True)
        passed += scanner.feed(piece)
    *before, end = frames_of(passed)
    if end == last:
        assert before == sent[: len(before)]
    else:  # it was put in behind the sender's own
        assert [*before, end] == [*sent, bye]
    assert scanner.close == Close(NORMAL, b"bye")


# ---------------------------------------------------------------- pace


@both_directions
def test_frames_beyond_the_quota_are_held_back_until_there_is_more(masked: bool) -> None:
    scanner = scan(masked=masked, paced=True)
    sent = [wire(TEXT, b"%d" % number, masked=masked) for number in range(6)]
    assert scanner.feed(sent[0]) == b""
    assert (scanner.is_holding, scanner.at_boundary) == (True, True)
    scanner.quota = 2
    assert scanner.feed(b"") == sent[0]
    assert scanner.feed(sent[1] + sent[2] + sent[3][:4]) == sent[1]
    scanner.quota = 3
    assert scanner.feed(sent[3][4:]) == sent[2]
    scanner.quota = 10
    assert scanner.feed(b"") == sent[3]
    assert not scanner.is_holding
    assert scanner.feed(sent[4] + sent[5]) == sent[4] + sent[5]
    assert scanner.messages == 6
    scanner.quota = 6
    assert scanner.feed(sent[0]) == b""


@both_directions
def test_a_message_that_has_begun_is_not_cut_short_by_the_quota(masked: bool) -> None:
    scanner = scan(masked=masked, paced=True)
    scanner.quota = 1
    more = bytes(MAX_CONTROL + 1)
    fragments = [wire(TEXT, fin=False, masked=masked), *[wire(CONTINUATION, more, fin=False, masked=masked)] * 3]
    last, large = wire(CONTINUATION, more, masked=masked), wire(BINARY, bytes(40_000), masked=masked)
    stream = b"".join(fragments) + last
    assert scanner.feed(stream + large) == stream
    assert (scanner.messages, scanner.fragments) == (1, 4)
    scanner.quota = 2
    assert scanner.feed(b"") == large


@both_directions
def test_pings_pongs_and_tiny_fragments_count_and_a_close_does_not(masked: bool) -> None:
    scanner = scan(masked=masked, paced=True)
    begin, tiny = wire(TEXT, fin=False, masked=masked), wire(CONTINUATION, bytes(MAX_CONTROL), fin=False, masked=masked)
    ping, pong, bye = (wire(*each, masked=masked) for each in ((PING,), (PONG,), (CLOSE, b"\x03\xe8")))
    sent = [ping, begin, tiny, pong, wire(CONTINUATION, b"", masked=masked)]
    assert scanner.feed(b"".join(sent) + bye) == b""
    for quota, piece in enumerate(sent[:-1], 1):
        assert scanner.is_starved
        scanner.quota = quota
        assert scanner.feed(b"") == piece
    assert not scanner.has_ended
    scanner.quota = len(sent)
    assert scanner.feed(b"") == sent[-1] + bye
    assert (scanner.close, scanner.counted, scanner.is_starved) == (Close(NORMAL), len(sent), False)


@both_directions
def test_an_incomplete_frame_does_not_count_as_starved(masked: bool) -> None:
    """An incomplete frame is no reason to cut a client off for being too fast."""
    scanner = scan(masked=masked, paced=True)
    scanner.quota = 1
    message, bye = wire(TEXT, b"a", masked=masked), wire(CLOSE, b"\x03\xe8", masked=masked)
    assert scanner.feed(message + bye[:3]) == message
    assert (scanner.is_holding, scanner.is_starved) == (True, False)
    assert scanner.feed(bye[3:]) == bye


@both_directions
def test_behind_the_last_frame_nothing_is_kept_back(masked: bool) -> None:
    """Else the sender's Close would not be heard behind messages that will never pass."""
    scanner = scan(masked=masked, paced=True)
    message, bye = wire(TEXT, b"a", masked=masked), wire(CLOSE, b"\x03\xe8", masked=masked)
    scanner.feed(message * 3)
    assert scanner.insert(bye, last=True) == bye
    assert scanner.feed(message + bye) == b""
    assert (scanner.close, scanner.is_holding) == (Close(NORMAL), False)


def test_without_pace_the_quota_does_not_count() -> None:
    scanner, message = scan(), wire(TEXT, b"a", masked=True)
    assert scanner.feed(message * 3) == message * 3
    assert scanner.quota == 0


# ---------------------------------------------------------------- writing frames


@pytest.mark.parametrize("key", [None, KEY, bytes(4)], ids=["not masked", "masked", "masked with zeros"])
@pytest.mark.parametrize("payload", [b"", b"a", b"Hello", bytes(range(MAX_CONTROL))])
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_control_frame_is_written_as_the_rfc_says(opcode: int, payload: bytes, key: bytes | None) -> None:
    written = frame(opcode, payload, key)
    if key == bytes(4):
        assert written == bytes((0x80 | opcode, 0x80 | len(payload))) + key + payload
    else:
        assert written == wire(opcode, payload, masked=key is not None)
    scanner = scan(masked=key is not None, pings_to_sender=asked())
    passes = opcode != CLOSE or payload == b""
    assert (scanner.feed(written) == written) is passes


@pytest.mark.parametrize(
    ("written", "expected"),
    [(frame(PING, b"Hello"), "89 05 48 65 6c 6c 6f"), (frame(PONG, b"Hello", KEY), "8a 85 37 fa 21 3d 7f 9f 4d 51 58")],
    ids=["ping", "masked pong"],
)
def test_the_examples_of_the_rfc_are_written_alike(written: bytes, expected: str) -> None:
    """RFC 6455 §5.7."""
    assert written == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("close", "payload"),
    [
        (Close(NORMAL), b"\x03\xe8"),
        (Close(1011, b"pong timeout"), b"\x03\xf3pong timeout"),
        (Close(4999, b"x" * MAX_REASON), b"\x13\x87" + b"x" * MAX_REASON),
        (Close(NORMAL, b"x" * 200), b"\x03\xe8" + b"x" * MAX_REASON),
        (Close(NORMAL, b"x" + "€".encode() * 60), b"\x03\xe8x" + "€".encode() * 40),
        (Close(NO_STATUS), b""),
        (Close(NO_STATUS, b"never sent"), b""),
    ],
    ids=["code", "reason", "longest reason", "too long", "too long, many bytes to a character", "none", "none, reason"],
)
def test_a_close_is_written_within_a_control_frames_size(close: Close, payload: bytes) -> None:
    assert close.payload() == payload
    scanner = scan()
    written = frame(CLOSE, payload, KEY)
    assert scanner.feed(written) == written
    assert scanner.close.code == close.code


def test_a_close_code_may_be_sent_or_not() -> None:
    allowed = {*range(1000, 1015), *range(3000, 5000)} - {1004, 1005, 1006}
    assert {code for code in range(1 << 16) if may_be_sent(code)} == allowed
