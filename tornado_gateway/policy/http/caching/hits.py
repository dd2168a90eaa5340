"""The field lines of a fresh stored response that goes to a client as stored."""

import functools

from tornado_gateway.policy.http.caching.status import hit_line
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.headers import via_line


def hit_block(stored: Stored, age: float, request_id: bytes, name: bytes, pseudonym: bytes) -> bytes:
    """The field lines, each ended by CRLF; Cache-Status is the last.

    Args:
        age: of the response, in seconds.
        request_id: value of x-request-id.
        name: of the cache.
        pseudonym: this gateway's name in Via.
    """
    hops = tuple(stored.known_fields[b"via"]) if b"via" in stored.known_fields else ()
    told = _told(hops, stored.minor, int(age), int((stored.terms.lifetime - age) // 1), name, pseudonym)
    return b"".join((stored.lines, b"x-request-id: ", request_id, told))


@functools.lru_cache(maxsize=1024)
def _told(hops: tuple[bytes, ...], minor: int, age: int, left: int, name: bytes, pseudonym: bytes) -> bytes:
    """What is the same for every hit of a second, behind the value of x-request-id."""
    via = via_line(hops, minor, pseudonym)
    return b"\r\n%bAge: %d\r\n%b" % (via, age, hit_line(name, left))  # RFC 9111 §5.1
