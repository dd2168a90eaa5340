"""Parts of a stored response, by RFC 9110 §14."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.caching.dates import format_date
from tornado_gateway.policy.http.caching.ranges import MOST_PARTS, part, spans
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.terms import Terms

WALL = 1_800_000_000.0
MODIFIED = format_date(WALL - 60)
LINES = b'Content-Type: a/b\r\nETag: "1"\r\nDate: %b\r\nContent-Length: 10\r\n' % format_date(WALL)
STORED = Stored(200, b"", 1, LINES, {}, b"0123456789", Terms(60.0), (), 0.0, b'"1"', MODIFIED)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"bytes=0-0", [(0, 0)]),
        (b"Bytes=2-5", [(2, 5)]),
        (b"bytes=2-", [(2, 9)]),
        (b"bytes=2-99", [(2, 9)]),
        (b"bytes=-3", [(7, 9)]),
        (b"bytes=-99", [(0, 9)]),
        (b"bytes=0-1,4-5", [(0, 1), (4, 5)]),
        (b"bytes=0-1 , , 4-5", [(0, 1), (4, 5)]),
        (b"bytes=0-1,10-", [(0, 1)]),
        (b"bytes=10-", []),
        (b"bytes=10-11,99-", []),
        (b"bytes=-0", []),
        (b"bytes=", None),
        (b"bytes=-", None),
        (b"bytes=a-b", None),
        (b"bytes=5-2", None),
        (b"bytes=0-1,x", None),
        (b"bytes= ,", None),
        (b"lines=0-1", None),
        (b"0-1", None),
        (b"bytes=0-1;x", None),
        (b"bytes=0-9,0-0", None),
        (b"bytes=" + b",".join([b"0-0"] * (MOST_PARTS + 1)), None),
    ],
)
def test_a_range_names_parts_or_is_ignored(value: bytes, found: list[tuple[int, int]] | None) -> None:
    assert spans(value, 10) == found


@given(st.binary(max_size=40).map(lambda tail: b"bytes=" + tail) | st.binary(max_size=20), st.integers(0, 20))
def test_no_range_raises_or_leaves_the_body(value: bytes, length: int) -> None:
    found = spans(value, length)
    assert found is None or all(0 <= first <= last < length for first, last in found)


def test_a_part_has_the_fields_of_the_response() -> None:
    some = part(STORED, {b"range": [b"bytes=2-4"]}, WALL, b"x")
    assert some is not None and (some.status, some.body) == (206, b"234")
    assert some.lines.startswith(b'Content-Type: a/b\r\nETag: "1"\r\n')
    assert some.lines.endswith(b"Content-Range: bytes 2-4/10\r\nContent-Length: 3\r\n")


@pytest.mark.parametrize("type_line", [b"Content-Type: a/b\r\n", b""])
def test_several_parts_have_a_boundary(type_line: bytes) -> None:
    stored = replace(STORED, lines=LINES.replace(b"Content-Type: a/b\r\n", type_line))
    some = part(stored, {b"range": [b"bytes=0-1,-2"]}, WALL, b"xyz")
    assert some is not None and some.status == 206
    assert some.body == (
        b"--xyz\r\n%bContent-Range: bytes 0-1/10\r\n\r\n01\r\n"
        b"--xyz\r\n%bContent-Range: bytes 8-9/10\r\n\r\n89\r\n--xyz--\r\n" % (type_line, type_line)
    )
    assert some.lines.count(b"Content-Type:") == 1
    assert b"Content-Type: multipart/byteranges; boundary=xyz\r\nContent-Length: %d\r\n" % len(some.body) in some.lines


def test_a_range_beyond_the_end_is_told_the_length() -> None:
    some = part(STORED, {b"range": [b"bytes=10-"]}, WALL, b"x")
    assert some is not None and (some.status, some.body) == (416, b"")
    assert some.lines.endswith(b"Content-Range: bytes */10\r\nContent-Length: 0\r\n")


@pytest.mark.parametrize(
    ("if_range", "is_part"),
    [
        (b'"1"', True), (b'"2"', False), (b'W/"1"', False), (MODIFIED, True), (format_date(WALL), False),
        (b"x", False),
    ],
)  # fmt: skip
def test_if_range_needs_a_strong_validator_of_this_response(if_range: bytes, is_part: bool) -> None:
    asked = {b"range": [b"bytes=0-1"], b"if-range": [if_range]}
    assert bool(part(STORED, asked, WALL, b"x")) == is_part
    assert part(STORED, asked | {b"if-range": [if_range, if_range]}, WALL, b"x") is None


def test_a_date_of_the_same_second_is_no_strong_validator() -> None:
    just_now = replace(STORED, last_modified=format_date(WALL))
    assert part(just_now, {b"range": [b"bytes=0-1"], b"if-range": [format_date(WALL)]}, WALL, b"x") is None


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        (replace(STORED, status=404), {b"range": [b"bytes=0-1"]}),
        (STORED, {b"range": [b"bytes=0-1", b"bytes=2-3"]}),
        (STORED, {b"range": [b"x"]}),
        (STORED, {}),
    ],
)
def test_otherwise_the_whole_response_is_sent(stored: Stored, asked: dict[bytes, list[bytes]]) -> None:
    assert part(stored, asked, WALL, b"x") is None
