"""Parts of a stored response (RFC 9110 §14): which parts a client asks for, and how the parts are sent.

A Range that is malformed, asks for too many parts, or for parts that overlap often, is ignored, as the standard
allows (§14.2): a request of 1 KiB must not make an answer of many times the stored body.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tornado_gateway.policy.http.caching.freshness import only_date
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.headers import KnownFields, without
from tornado_gateway.policy.http.lists import members

MOST_PARTS = 16  # Apache allows 200; a PDF viewer or a video player asks for less than ten at once

_SPEC = re.compile(rb"([0-9]{0,18})-([0-9]{0,18})")
_UNIT = re.compile(rb"bytes=(.+)", re.IGNORECASE)
_REPLACED = (b"content-length", b"content-type", b"content-range")

Span = tuple[int, int]  # first and last position


class Part(NamedTuple):
    """An answer with a part of a stored response.

    Attributes:
        status: 206, or 416 for a request whose parts lie beyond the end.
        lines: field lines, each ended by CRLF.
    """

    status: int
    lines: bytes
    body: bytes


def part(stored: Stored, asked: KnownFields, wall: float, boundary: bytes) -> Part | None:
    """The parts of a stored response that a GET asks for; None to send the whole response.

    Args:
        asked: fields of the request.
        wall: seconds since 1970.
        boundary: between several parts; must not occur in the body.
    """
    if stored.status != 200 or len(asked.get(b"range", ())) != 1 or not _is_allowed(stored, asked, wall):
        return None
    length = len(stored.body)
    found = spans(asked[b"range"][0], length)
    if found is None:
        return None
    if not found:
        lines = without(stored.lines, (*_REPLACED, b"content-encoding"))
        return Part(416, b"%bContent-Range: bytes */%d\r\nContent-Length: 0\r\n" % (lines, length), b"")
    return _one(stored, found[0]) if len(found) == 1 else _several(stored, found, boundary)


def spans(value: bytes, length: int) -> list[Span] | None:
    """The parts of a body that a Range asks for.

    Returns:
        None for a Range that is ignored; no parts for a Range beyond the end.

    >>> spans(b"bytes=0-1, -2, 99-", 10), spans(b"bytes=9-3", 10), spans(b"bytes=10-", 10)
    ([(0, 1), (8, 9)], None, [])
    """
    unit = _UNIT.fullmatch(value)
    specs = [_SPEC.fullmatch(each) for each in members([unit[1]])] if unit else []
    if not specs or len(specs) > MOST_PARTS:
        return None
    found: list[Span] = []
    for spec in specs:
        if spec is None or not (spec[1] or spec[2]) or (spec[1] and spec[2] and int(spec[1]) > int(spec[2])):
            return None
        first, last = _span(spec[1], spec[2], length)
        if first <= last:
            found.append((first, last))
    return found if sum(last - first + 1 for first, last in found) <= length else None


def _span(first: bytes, last: bytes, length: int) -> Span:
    """RFC 9110 §14.1.2; empty (the first position is behind the last) for a part beyond the end."""
    if not first:
        return max(length - int(last), 0), length - 1 if int(last) else -1
    return int(first), min(int(last), length - 1) if last else length - 1


def _is_allowed(stored: Stored, asked: KnownFields, wall: float) -> bool:
    """If-Range (RFC 9110 §13.1.5): the client has parts of this very response, by a strong validator."""
    values = asked.get(b"if-range")
    if values is None:
        return True
    if len(values) != 1 or values[0].startswith(b"W/"):
        return False
    if values[0].startswith(b'"'):
        return values[0] == stored.etag
    return values[0] == stored.last_modified and _is_strong_date(stored, wall)


def _is_strong_date(stored: Stored, wall: float) -> bool:
    """RFC 9110 §8.8.2.2: the response was sent at least a second after the change."""
    modified, sent = only_date([stored.last_modified], wall), only_date(stored.fields.get(b"date", ()), wall)
    return modified is not None and sent is not None and sent - modified >= 1


def _one(stored: Stored, span: Span) -> Part:
    first, last = span
    body = stored.body[first : last + 1]
    lines = without(stored.lines, (b"content-length", b"content-range"))
    return Part(206, lines + _range_line(span, len(stored.body)) + b"Content-Length: %d\r\n" % len(body), body)


def _several(stored: Stored, found: Sequence[Span], boundary: bytes) -> Part:
    """RFC 9110 §14.6: multipart/byteranges."""
    types = stored.fields.get(b"content-type", ())
    type_line = b"Content-Type: %b\r\n" % types[0] if types else b""
    pieces = [
        b"--%b\r\n%b%b\r\n%b\r\n"
        % (boundary, type_line, _range_line((first, last), len(stored.body)), stored.body[first : last + 1])
        for first, last in found
    ]
    body = b"%b--%b--\r\n" % (b"".join(pieces), boundary)
    own = b"Content-Type: multipart/byteranges; boundary=%b\r\nContent-Length: %d\r\n" % (boundary, len(body))
    return Part(206, without(stored.lines, _REPLACED) + own, body)


def _range_line(span: Span, length: int) -> bytes:
    return b"Content-Range: bytes %d-%d/%d\r\n" % (*span, length)
