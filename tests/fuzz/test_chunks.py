"""Chunked bodies: size lines, extensions and trailers, valid and nearly so, cut anywhere, in both directions.

What is valid is said a second time here, byte by byte and without the patterns of the parser.
"""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.support.fuzzing import fuzzing
from tests.support.sockets import Field
from tornado_gateway.errors import BadRequest, GatewayError, UpstreamInvalid
from tornado_gateway.wire.http1 import ChunkedBody

TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
HEX = frozenset(b"0123456789abcdefABCDEF")
TEXT = frozenset([9, *range(0x20, 0x7F), *range(0x80, 0x100)])

# ---------------------------------------------------------------- the rules, again


class Malformed(Exception):
    """What is read is no chunked body."""


class Reader:
    """Reads from left to right; RFC 9112 §7.1, §7.1.1 and §7.1.2."""

    def __init__(self, data: bytes, *, padded: bool) -> None:
        self.data, self.at, self.padded = data, 0, padded

    def some(self, allowed: frozenset[int], least: int = 1) -> bytes:
        start = self.at
        while self.at < len(self.data) and self.data[self.at] in allowed:
            self.at += 1
        if self.at - start < least:
            raise Malformed
        return self.data[start : self.at]

    def takes(self, wanted: bytes) -> bool:
        found = self.data.startswith(wanted, self.at)
        self.at += len(wanted) if found else 0
        return found

    def must(self, wanted: bytes) -> None:
        if not self.takes(wanted):
            raise Malformed

    def size(self) -> int:
        size = int(self.some(HEX), 16)
        if size >= 2**63:
            raise Malformed
        while not self.takes(b"\r\n"):
            blanks = self.some(frozenset(b" \t"), 0)
            if blanks and self.padded and self.takes(b"\r\n"):
                break
            self.must(b";")
            self.some(frozenset(b" \t"), 0)
            self.some(TOKEN)
            self.value()
        return size

    def value(self) -> None:
        start = self.at
        self.some(frozenset(b" \t"), 0)
        if not self.takes(b"="):
            self.at = start
            return
        self.some(frozenset(b" \t"), 0)
        if not self.takes(b'"'):
            self.some(TOKEN)
            return
        while not self.takes(b'"'):
            self.takes(b"\\")
            if self.at == len(self.data) or self.data[self.at] not in TEXT:
                raise Malformed
            self.at += 1

    def body(self) -> bytes:
        payload = b""
        while size := self.size():
            if size > len(self.data) - self.at:
                raise Malformed
            payload += self.data[self.at : self.at + size]
            self.at += size
            self.must(b"\r\n")
        return payload

    def trailers(self) -> list[Field]:
        found = []
        while not self.takes(b"\r\n"):
            name = self.some(TOKEN)
            self.must(b":")
            found.append((name, self.some(TEXT, 0).strip(b" \t")))
            self.must(b"\r\n")
        return found


# ---------------------------------------------------------------- what is tried

SIZES = st.sampled_from(
    [b"1", b"3", b"A", b"a", b"03", b"0" * 30 + b"2", b"7" + b"f" * 15, b"8" + b"0" * 15, b"1" + b"0" * 16, b"", b"0x3",
     b"+3", b"-1", b"3_0", b" 3", b"g", b"\xd9\xa3"]
)  # fmt: skip
EXTENSIONS = st.lists(
    st.sampled_from(
        [b";a", b";a=b", b' ; a = "b;\\"\r"', b';a="b c\\\\"', b";", b" ", b"\t", b"=", b'"', b";bad[=x", b";a=",
         b";\xff",
         b";a\x00", b"\n", b"\r", b";a;b=c", b'=""', b",", b";a=@"]
    ),
    max_size=2,
).map(b"".join)  # fmt: skip
NAMES = st.sampled_from([b"X-Sum", b"Content-Length", b"Transfer-Encoding", b"x", b"", b"a b", b"X\xff", b"Connection"])
TRAILERS = st.lists(
    st.builds(
        lambda name, colon, value, end: name + colon + value + end,
        NAMES,
        st.sampled_from([b":", b": ", b" :", b""]),
        st.sampled_from([b"1", b"", b"gzip", b"a\x00", b"\xe9", b"\r", b"\n 2"]),
        st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n "]),
    ),
    max_size=3,
).map(b"".join)


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """A chunk that is mostly right."""
    size, extensions = b"3", b""
    if draw(st.integers(0, 3)) == 0:
        size = draw(SIZES)
    if draw(st.booleans()):
        extensions = draw(EXTENSIONS)
    count = int(size, 16) if set(size) <= HEX and size and int(size, 16) < 20 else 3
    return size + extensions + b"\r\n" + b"x" * count + draw(st.sampled_from([b"\r\n"] * 6 + [b"\n", b"", b"x\r\n"]))


ENDS = st.builds(
    lambda zero, extensions, trailers, end: zero + extensions + b"\r\n" + trailers + end,
    st.sampled_from([b"0", b"0", b"000", b"00000000000000000000"]),
    st.just(b"") | EXTENSIONS,
    st.just(b"") | TRAILERS,
    st.sampled_from([b"\r\n"] * 5 + [b"\n"]),
)
BODIES = st.builds(lambda several, end: b"".join(several) + end, st.lists(chunks(), max_size=3), ENDS)
CUTS = st.lists(st.integers(0, 200), max_size=12)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def parsed(data: bytes, places: list[int], error: type[GatewayError]) -> tuple[bytes, list[Field], bytes] | None:
    """What the parser finds: payload, trailers and what follows; None if it refuses, or waits for more."""
    body, payload, pieces = ChunkedBody(error), b"", cut(data, places)
    try:
        for number, piece in enumerate(pieces):
            more, rest = body.feed(piece)
            payload += more
            if rest is not None:
                return payload, body.trailers, rest + b"".join(pieces[number + 1 :])
    except error:
        return None
    return None


def wanted(data: bytes, *, is_request: bool) -> tuple[bytes, list[Field], bytes] | None:
    reader = Reader(data, padded=not is_request)
    try:
        payload = reader.body()
        start = reader.at
        try:
            trailers = reader.trailers()
        except Malformed:
            if is_request:
                raise
            trailers, reader.at = [], start
            reader.at = end_of_section(data, start)
        return payload, trailers, data[reader.at :]
    except Malformed:
        return None


def end_of_section(data: bytes, start: int) -> int:
    """Where a response's trailer section ends that is dropped because it is malformed."""
    end = data.find(b"\r\n\r\n", start)
    section = data[start:end] if end >= 0 else b"\n"
    plain = section.replace(b"\r\n", b"")
    if any(byte in plain for byte in b"\r\n\x00"):  # a stray end of line: another reader would end it elsewhere
        raise Malformed
    return end + 4


@fuzzing(400)
@given(BODIES, CUTS)
def test_a_requests_body_is_what_the_grammar_says_wherever_it_is_cut(data: bytes, places: list[int]) -> None:
    expected = wanted(data + b"NEXT", is_request=True)
    assert parsed(data + b"NEXT", places, BadRequest) == parsed(data + b"NEXT", [], BadRequest) == expected


@fuzzing(400)
@given(BODIES, CUTS)
def test_a_responses_body_is_what_the_grammar_says_wherever_it_is_cut(data: bytes, places: list[int]) -> None:
    expected = wanted(data + b"NEXT", is_request=False)
    assert parsed(data + b"NEXT", places, UpstreamInvalid) == parsed(data + b"NEXT", [], UpstreamInvalid) == expected
