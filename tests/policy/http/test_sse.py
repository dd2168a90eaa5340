"""Event streams: where events end, the fields of the response, and inserted lines. No sockets."""

import itertools
import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_gateway.errors import ConnectTimeout, GatewayError, IdleTimeout, UpstreamReset
from tornado_gateway.policy.http.sse import (
    HEARTBEAT,
    RETRY_MS,
    SHORTEST_LIFE,
    BoundaryScanner,
    begins_with_error,
    closing_event,
    error_event,
    is_encoded,
    is_event_stream,
    last_event_id,
    lifetime,
    retry_hint,
    stream_fields,
)

BOM = b"\xef\xbb\xbf"


class Reference:
    """Reads a stream byte by byte, by the grammar of WHATWG HTML §9.2.5."""

    def __init__(self) -> None:
        self.line = b""
        self.before = b""
        self.is_open = False

    def read(self, chunk: bytes) -> int:
        """Returns: the offset behind the chunk's last blank line; -1 if none ended within it."""
        last, ended_blank = -1, False
        for at in range(len(chunk)):
            byte = chunk[at : at + 1]
            if self.before == b"\r" and byte == b"\n":
                last = at + 1 if ended_blank else last
            elif byte in (b"\r", b"\n"):
                ended_blank = self.line == b""
                if ended_blank:
                    self.is_open, last = False, at + 1
                elif not self.line.startswith(b":"):
                    self.is_open = True
                self.line = b""
            else:
                self.line += byte
            self.before = byte
        return last

    @property
    def at_boundary(self) -> bool:
        return not self.line and not self.is_open


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """The stream in pieces, some of them empty."""
    marks = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(marks)]


Said = list[tuple[int, bool]]  # of each chunk: where its last event ends, and whether a boundary is behind it


def scanned(chunks: Iterable[bytes]) -> Said:
    """What the scanner says of each chunk."""
    scanner, said = BoundaryScanner(), []
    for chunk in chunks:
        before = scanner.at_boundary
        end = scanner.end_of_last_event(chunk)
        assert scanner.at_boundary is before  # it was only asked
        scanner.feed(chunk)
        said.append((end, scanner.at_boundary))
    return said


def by_the_rules(chunks: Iterable[bytes]) -> Said:
    """What the reference says of each chunk."""
    reference = Reference()
    return [(reference.read(chunk), reference.at_boundary) for chunk in chunks]


# ---------------------------------------------------------------- where an event ends

PARTS = st.sampled_from([b"\r", b"\n", b"\r\n", b":", b"a", b"data: a", b": c", b" ", BOM, b"\x00", b"\x0b", b"\x85"])
STREAMS = st.lists(PARTS, max_size=14).map(b"".join)
CUTS = st.lists(st.integers(0, 60), max_size=6)


@pytest.mark.untraced
@settings(deadline=None, max_examples=500)
@given(STREAMS | st.binary(max_size=30), CUTS)
def test_boundaries_are_found_wherever_a_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    for chunks in (cut(stream, cuts), [stream[at : at + 1] for at in range(len(stream))]):
        assert scanned(chunks) == by_the_rules(chunks)


@settings(deadline=None, max_examples=200)
@given(STREAMS, CUTS)
def test_a_stream_cut_anywhere_is_read_as_one_piece(stream: bytes, cuts: list[int]) -> None:
    whole, pieces = BoundaryScanner(), BoundaryScanner()
    whole.feed(stream)
    for piece in cut(stream, cuts):
        pieces.feed(piece)
    for rest in (b"", b"\n", b"a", b":"):  # what comes next is judged alike, too
        whole.feed(rest)
        pieces.feed(rest)
        assert pieces.at_boundary is whole.at_boundary


def test_every_short_stream_in_every_cut_is_read_by_the_rules() -> None:
    for length in range(6):
        for stream in map(bytes, itertools.product(b"\r\n:a", repeat=length)):
            for first in range(length + 1):
                chunks = [stream[:first], stream[first:]]
                assert scanned(chunks) == by_the_rules(chunks)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(
    ("lines", "at_boundary"),
    [
        ([], True),
        ([b"data: a"], False),
        ([b"data: a", b""], True),
        ([b"data: a", b"", b""], True),
        ([b"data: a", b"", b"id: 1"], False),
        ([b"data: a", b"data: b", b"", b"data: c", b""], True),
        ([b": comment"], True),
        ([b":"], True),
        ([b": one", b": two", b": three"], True),
        ([b"data: a", b": comment"], False),
        ([b"data: a", b": comment", b""], True),
        ([b"data: a", b"", b": comment"], True),
        ([b": comment", b"data: a"], False),
        ([b"id: 1"], False),
        ([b"retry: 1000"], False),
        ([b"retry: 1000", b""], True),
        ([b"anything"], False),
        ([b" : not a comment"], False),
        ([b""], True),
    ],
)  # fmt: skip
def test_only_a_blank_line_ends_an_event_and_comments_open_none(
    lines: list[bytes], at_boundary: bool, end: bytes
) -> None:
    stream = b"".join(line + end for line in lines)
    assert scanned([stream]) == by_the_rules([stream])
    for pieces in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
        scanner = BoundaryScanner()
        for piece in pieces:
            scanner.feed(piece)
        assert scanner.at_boundary is at_boundary


@pytest.mark.parametrize(
    ("chunks", "at_boundary"),
    [
        ([b"data: a\r", b"\n"], [False, False]),
        ([b"data: a\r", b"\n\r", b"\n"], [False, True, True]),
        ([b"data: a\r\n\r", b"\ndata: b"], [True, False]),
        ([b"data: a\r\r", b"\ndata: b", b"\n\n"], [True, False, True]),
        ([b"data: a\r", b"\r"], [False, True]),
        ([b"data: a\r", b"\n\n"], [False, True]),
        ([b"data: a", b"\n\n"], [False, True]),
        ([b"data: a\n", b"\n"], [False, True]),
        ([b"data: a\r", b"", b"\n"], [False, False, False]),
        ([b"data: a\n\ndata: b\n\nda", b"ta", b": c\n"], [False, False, False]),
        ([b":", b" hello", b"\r", b"\n"], [False, False, True, True]),
        ([b"da", b":ta\n"], [False, False]),
        ([b": a", b"\nb", b"\n"], [False, False, False]),
        ([b"", b":", b"\n"], [True, False, True]),
    ],
)
def test_a_boundary_may_lie_on_a_cut(chunks: list[bytes], at_boundary: list[bool]) -> None:
    scanner, seen = BoundaryScanner(), []
    for chunk in chunks:
        scanner.feed(chunk)
        seen.append(scanner.at_boundary)
    assert seen == at_boundary


@pytest.mark.parametrize(
    ("before", "chunk", "end"),
    [
        (b"", b"", -1),
        (b"", b"data: a\n", -1),
        (b"", b"data: a\n\n", 9),
        (b"", b"data: a\r\n\r\n", 11),
        (b"", b"data: a\r\r", 9),
        (b"", b"data: a\r\r\n", 10),
        (b"", b"data: a\n\ndata: b\n\ndata: c", 18),
        (b"", b"a\n\r\nb", 4),
        (b"", b"a\r\n\nb", 4),
        (b"", b"\na", 1),
        (b"", b"\r\na", 2),
        (b"data: a", b"\n", -1),
        (b"data: a", b"\n\n", 2),
        (b"data: a\n", b"\n: c", 1),
        (b"data: a\r", b"\n", -1),
        (b"data: a\r", b"\n\n", 2),
        (b"data: a\r", b"\n\r\nb", 3),
        (b"data: a\r", b"\rb", 1),
        (b"data: a\n\r", b"\nb", -1),
        (b": c\n", b"data: b", -1),
        (b": c", b"\n\n", 2),
    ],
)
def test_the_last_event_of_a_chunk_ends_behind_its_last_blank_line(before: bytes, chunk: bytes, end: int) -> None:
    scanner = BoundaryScanner()
    scanner.feed(before)
    assert scanner.end_of_last_event(chunk) == end


def test_a_mark_at_the_beginning_is_a_part_of_the_first_line() -> None:
    """Nothing is inserted after the mark, nor after a comment behind the mark, until an event has ended."""
    scanner = BoundaryScanner()
    for chunk, at_boundary in ((BOM[:2], False), (BOM[2:], False), (b": hello\n", False), (b"\n", True)):
        scanner.feed(chunk)
        assert scanner.at_boundary is at_boundary


@pytest.mark.parametrize("own", [HEARTBEAT, b"retry: 1000\n\n", closing_event("token_expired")])
@settings(deadline=None, max_examples=100)
@given(stream=STREAMS, cuts=CUTS)
def test_insertions_at_boundaries_change_no_event(own: bytes, stream: bytes, cuts: list[int]) -> None:
    scanner, sent = BoundaryScanner(), b""
    for piece in cut(stream, cuts):
        scanner.feed(piece)
        sent += piece
        if scanner.at_boundary and piece:
            sent += own
    assert [event for event in events(sent) if event not in events(own)] == [
        event for event in events(stream) if event not in events(own)
    ]


def events(stream: bytes) -> list[tuple[bytes, ...]]:
    """The lines of each event, but for comments; an event without lines is none."""
    found, lines = [], list[bytes]()
    for line in stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]:
        if not line and lines:
            found.append(tuple(lines))
            lines = []
        elif line and not line.startswith(b":"):
            lines.append(line)
    return found


# ---------------------------------------------------------------- heads


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"text/event-stream", True),
        (b"Text/Event-Stream", True),
        (b"text/event-stream;charset=utf-8", True),
        (b" text/event-stream ; charset=utf-8", True),
        (b"text/event-streams", False),
        (b"text/plain; a=text/event-stream", False),
        (b"text/plain", False),
        (b"", False),
    ],
)
def test_an_event_stream_is_known_by_its_type(content_type: bytes, expected: bool) -> None:
    assert is_event_stream(content_type) is expected


UNTRANSFORMED, UNBUFFERED = b"Cache-Control: no-transform\r\n", b"X-Accel-Buffering: no\r\n"


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ([], UNTRANSFORMED + UNBUFFERED),
        ([(b"Cache-Control", b"no-cache")], UNTRANSFORMED + UNBUFFERED),
        ([(b"CACHE-CONTROL", b"no-cache, No-Transform")], UNBUFFERED),
        ([(b"Cache-Control", b"no-transform"), (b"Cache-Control", b"no-store")], UNBUFFERED),
        ([(b"x-accel-buffering", b"yes")], UNTRANSFORMED),
        ([(b"Cache-Control", b"no-transform"), (b"X-Accel-Buffering", b"no")], b""),
        ([(b"Pragma", b"no-transform")], UNTRANSFORMED + UNBUFFERED),
    ],
)
def test_a_streams_head_asks_not_to_be_transformed_or_buffered(fields: list[tuple[bytes, bytes]], lines: bytes) -> None:
    assert stream_fields(fields) == lines


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], False),
        ([(b"Content-Type", b"gzip")], False),
        ([(b"Content-Encoding", b"gzip")], True),
        ([(b"CONTENT-ENCODING", b"br")], True),
        ([(b"Content-Encoding", b"Identity")], False),
        ([(b"Content-Encoding", b"identity"), (b"Content-Encoding", b"gzip")], True),
    ],
)
def test_a_compressed_stream_is_known_by_its_encoding(fields: list[tuple[bytes, bytes]], expected: bool) -> None:
    assert is_encoded(fields) is expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/events", None),
        (b"/events?", None),
        (b"/events?a=1", None),
        (b"/events?last_event_id", None),
        (b"/events?last_event_id=", None),
        (b"/last_event_id=1", None),
        (b"/events?xlast_event_id=1", None),
        (b"/events?last_event_id=42", b"42"),
        (b"/events?a=1&last_event_id=42&b=2", b"42"),
        (b"/events?last_event_id=1&last_event_id=2", b"1"),
        (b"/events?last_event_id=a=b?c", b"a=b?c"),
        (b"/events?last_event_id=%C3%A9%2f1+2", b"\xc3\xa9/1+2"),
        (b"/events?last_event_id=a%20b", b"a b"),
        *[(b"/events?last_event_id=a%%%02xb" % byte, None) for byte in (0, 1, 10, 13, 31, 127)],
        (b"/events?last_event_id=a%0d%0aHost:%20b", None),
    ],
)
def test_the_last_event_may_be_named_in_the_query(target: bytes, expected: bytes | None) -> None:
    assert last_event_id(target) == expected


# ---------------------------------------------------------------- what the gateway says


def test_a_heartbeat_is_a_comment() -> None:
    scanner = BoundaryScanner()
    scanner.feed(HEARTBEAT)
    assert scanner.at_boundary
    assert events(HEARTBEAT) == []


def test_lives_and_returns_are_spread() -> None:
    rng = random.Random(7)
    lives = sorted(lifetime(100.0, rng) for _ in range(1000))
    assert lives[0] >= 100 * SHORTEST_LIFE
    assert lives[-1] <= 100
    assert lives[-1] - lives[0] > 19
    waits = sorted(int(retry_hint(rng).removeprefix(b"retry: ").removesuffix(b"\n\n")) for _ in range(1000))
    assert RETRY_MS[0] <= waits[0] < RETRY_MS[0] + 100
    assert RETRY_MS[1] - 100 < waits[-1] <= RETRY_MS[1]


def test_a_stream_that_ends_for_good_says_why() -> None:
    assert events(closing_event("token_expired")) == [(b"event: gateway-close", b"data: token_expired")]


@pytest.mark.parametrize(
    ("style", "error", "kind", "said"),
    [
        ("generic", UpstreamReset(), b"error", {"error": UpstreamReset.code, "message": UpstreamReset().message}),
        (
            "generic",
            UpstreamReset("a\r\n\r\nb\x85"),
            b"error",
            {"error": UpstreamReset.code, "message": "a\r\n\r\nb\x85"},
        ),
        (
            "openai",
            UpstreamReset("gone"),
            None,
            {"error": {"message": "gone", "type": "server_error", "param": None, "code": UpstreamReset.code}},
        ),
        (
            "anthropic",
            UpstreamReset("gone"),
            b"error",
            {"type": "error", "error": {"type": "api_error", "message": "gone"}},
        ),
        (
            "anthropic",
            IdleTimeout("slow"),
            b"error",
            {"type": "error", "error": {"type": "timeout_error", "message": "slow"}},
        ),
        (
            "anthropic",
            ConnectTimeout("slow"),
            b"error",
            {"type": "error", "error": {"type": "timeout_error", "message": "slow"}},
        ),
    ],
)
def test_a_failure_is_one_event_in_the_words_its_clients_know(
    style: str, error: GatewayError, kind: bytes | None, said: dict[str, Any]
) -> None:
    event = error_event(style, error)
    (lines,) = events(event)
    *first, data = lines
    assert first == ([b"event: " + kind] if kind else [])
    assert json.loads(data.removeprefix(b"data: ")) == said
    assert begins_with_error(event) is True
    scanner = BoundaryScanner()
    scanner.feed(event)
    assert scanner.at_boundary


def test_a_failure_may_be_left_unsaid() -> None:
    assert error_event("off", UpstreamReset()) == b""


# ---------------------------------------------------------------- whether a stream begins with an error


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"event: error", b"data: x", b""], True),
        ([b"event:error", b"data", b""], True),
        ([b"data: x", b"event: error", b""], True),
        ([b"event: error", b""], True),
        ([b"event: errors", b"data: x", b""], False),
        ([b"event:  error", b"data: x", b""], False),
        ([b"event: error", b"event: message", b"data: x", b""], False),
        ([b'data: {"error": "busy"}', b""], True),
        ([b'data:{"error": {"code": 1}}', b""], True),
        ([b"data: {", b'data: "error": 1', b"data: }", b""], True),
        ([b'data: {"error": false}', b""], True),
        ([b'data: {"error": null}', b""], False),
        ([b'data: {"errors": 1}', b""], False),
        ([b'data: ["error"]', b""], False),
        ([b'data: "error"', b""], False),
        ([b"data: error", b""], False),
        ([b"data: [DONE]", b""], False),
        ([b'data: {"error": 1', b""], False),
        ([b'data: {"error": "\xff"}', b""], False),
        ([b"data: " + b"[" * 100_000, b""], False),
        ([b'data: {"error": ' + b"[" * 100_000, b""], False),
        ([b"data: " + b"9" * 5000, b""], False),
        ([b"data", b""], False),
        ([b"data: x", b"", b"event: error", b"data: y", b""], False),
        ([b": comment", b"", b"", b"event: error", b"data: x", b""], True),
        ([b"retry: 1", b"", b"id: 2", b"", b'data: {"error": 1}', b""], True),
        ([b"other: error", b"errors", b"data: x", b""], False),
        ([b": comment", b""], None),
        ([b"retry: 1", b"id: 2", b""], None),
        ([b"event: error"], None),
        ([b"event: error", b"data: x"], None),
        ([b'data: {"error": 1}'], None),
        ([], None),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, list) else None,
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("mark", [b"", BOM], ids=["", "with a mark"])
def test_the_first_event_says_whether_a_stream_is_an_error(
    lines: list[bytes], expected: bool | None, end: bytes, mark: bytes
) -> None:
    stream = mark + b"".join(line + end for line in lines)
    assert begins_with_error(stream) is expected
    assert begins_with_error(stream + b"data: ") is expected


@pytest.mark.untraced
@settings(deadline=None, max_examples=300)
@given(STREAMS, STREAMS)
def test_once_the_first_event_is_complete_more_of_the_stream_changes_nothing(stream: bytes, more: bytes) -> None:
    begins = begins_with_error(stream)
    assert begins is None or begins_with_error(stream + more) is begins


@pytest.mark.untraced
@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([b"event: error", b"data: ", b'{"error":', b"1", b"}", b"\n", b"\r"])).map(b"".join))
def test_no_stream_is_too_strange(stream: bytes) -> None:
    begins = begins_with_error(stream)
    has_event = any(any(line.startswith((b"data", b"event")) for line in event) for event in events(stream))
    assert (begins is not None) is has_event


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@given(
    st.lists(st.sampled_from([b"data: a", b": comment", b"data: a%bdata: b"]), max_size=6), st.lists(st.integers(0, 99))
)
def test_events_are_counted_however_the_stream_is_cut(end: bytes, blocks: list[bytes], cuts: list[int]) -> None:
    """A comment that stands alone counts as well."""
    stream = b"".join((block % end if b"%b" in block else block) + end + end for block in blocks)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    scanner = BoundaryScanner()
    for begin, after in itertools.pairwise(places):
        scanner.feed(stream[begin:after])
    assert scanner.events == len(blocks)
