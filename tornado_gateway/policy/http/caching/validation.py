"""Conditional requests: of the gateway to a service, and of clients to the cache (RFC 9111 §4.3).

condition()         the lines that ask a service whether a stored response is still good       §4.3.1
is_unchanged()      whether a client has the stored response already, and gets 304             §4.3.2
belongs_to()        whether a 304 speaks of the stored response                                §4.3.4
describes()         whether a 200 to HEAD speaks of the stored response                        §4.3.5
refreshed_lines()   the stored fields, updated by the fields of a 304                          §3.2
"""

from collections.abc import Sequence

from tornado_gateway.policy.http.caching.dates import parse_date
from tornado_gateway.policy.http.caching.freshness import only_date
from tornado_gateway.policy.http.headers import KnownFields, without
from tornado_gateway.policy.http.lists import quoted_members

_OF_CLIENTS = (b"if-none-match", b"if-modified-since", b"if-range", b"range")

# What a 304 must not change: what the stored body depends on, and fields that are not stored (RFC 9111 §3.2).
_KEPT = frozenset((b"content-encoding", b"content-length", b"content-range", b"content-type", b"set-cookie"))

# Fields about the content, which a 304 does not have (RFC 9110 §15.4.5).
ABOUT_THE_CONTENT = frozenset((
    b"content-encoding", b"content-language", b"content-length", b"content-range", b"content-type",
))  # fmt: skip


def condition(lines: bytes, etag: bytes, last_modified: bytes) -> bytes:
    """The field lines of a request that validates a stored response.

    The conditions of the client are taken out: the client's conditions are answered from the stored response, once
    the stored response is good again.

    Args:
        lines: of the request to an endpoint.
        etag, last_modified: validators of the stored response, of which one at least is not empty.

    >>> condition(b"Accept: a\\r\\nIf-None-Match: x\\r\\n", b'"1"', b"")
    b'Accept: a\\r\\nIf-None-Match: "1"\\r\\n'
    """
    added = b"If-None-Match: %b\r\n" % etag if etag else b""
    if last_modified:
        added += b"If-Modified-Since: %b\r\n" % last_modified
    return without(lines, _OF_CLIENTS) + added


def is_unchanged(asked: KnownFields, status: int, etag: bytes, last_modified: bytes, wall: float) -> bool:
    """Whether a client that asks with conditions already has a stored response (RFC 9111 §4.3.2).

    Args:
        asked: fields of the request.
        status: of the stored response; conditions count for a 200 alone (RFC 9110 §13.2.1).
        last_modified: of the stored response; the value of Date for a response without Last-Modified.
        wall: seconds since 1970.
    """
    if status != 200:
        return False
    if b"if-none-match" in asked:  # RFC 9110 §13.1.3: If-Modified-Since is ignored beside If-None-Match
        return _is_among(asked[b"if-none-match"], etag)
    if b"if-modified-since" not in asked or not last_modified:
        return False
    since, modified = only_date(asked[b"if-modified-since"], wall), parse_date(last_modified, wall)
    return since is not None and modified is not None and modified <= since


def _is_among(values: Sequence[bytes], etag: bytes) -> bool:
    tags = quoted_members(values)
    return b"*" in tags or bool(etag and any(opaque(tag) == opaque(etag) for tag in tags))


def opaque(tag: bytes) -> bytes:
    """An entity tag without the mark of weakness, for the weak comparison (RFC 9110 §8.8.3.2)."""
    return tag.removeprefix(b"W/")


def belongs_to(fields: KnownFields, etag: bytes, last_modified: bytes) -> bool:
    """Whether a 304 speaks of the stored response whose validators were sent (RFC 9111 §4.3.4).

    Args:
        fields: of the 304.
    """
    tags = fields.get(b"etag")
    if tags and etag:
        return opaque(tags[0]) == opaque(etag)
    dates = fields.get(b"last-modified")
    return not (dates and last_modified) or dates[0] == last_modified


def describes(fields: KnownFields, etag: bytes, last_modified: bytes, length: int) -> bool:
    """Whether a 200 to HEAD speaks of a stored response to GET (RFC 9111 §4.3.5).

    Args:
        fields: of the response to HEAD. A response without validators and length says nothing about the content.
        etag, last_modified: validators of the stored response.
        length: of the stored body in bytes.
    """
    wanted = {b"etag": etag, b"last-modified": last_modified, b"content-length": b"%d" % length}
    told = [name for name in wanted if name in fields]
    return bool(told) and all(list(fields[name]) == [wanted[name]] for name in told)


def refreshed_lines(lines: bytes, update: bytes) -> bytes:
    """The field lines of a stored response, with the fields of a 304 in place of fields of the same name.

    Args:
        lines: of the stored response.
        update: end-to-end field lines of the 304.

    >>> refreshed_lines(b"Date: 1\\r\\nX: a\\r\\nX: b\\r\\n", b"X: c\\r\\nContent-Length: 9\\r\\n")
    b'Date: 1\\r\\nX: c\\r\\n'
    """
    news = without(update, _KEPT)
    names = {line.partition(b":")[0].lower() for line in news.splitlines()}
    return without(lines, names) + news
