"""Cache-Status: what the cache did with a request (RFC 9211)."""

import functools
import re
from enum import StrEnum

from tornado_gateway.policy.http.caching.request import Key
from tornado_gateway.policy.http.caching.reuse import Reuse

LONGEST_KEY = 1024  # bytes of a key that are told; RFC 9211 §2.7 asks for no whole key

_NOT_QUOTABLE = re.compile(rb"[^ !#-\[\]-~]")  # what a string of RFC 9651 §3.3.3 has escaped, or not at all


class Forwarded(StrEnum):
    """Why a request went to the service (RFC 9211 §2.2)."""

    BYPASS = "bypass"  # the configuration or the request keeps the request out of the cache
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    REQUEST = "request"  # a directive of the client, although the stored response is fresh
    STALE = "stale"

    __hash__ = str.__hash__  # Enum's own is written in Python


# Detail of a hit that another gateway may have stored.
SHARED = b"shared"

# By what the stored response is good for.
REASONS = {Reuse.UNFRESH: Forwarded.REQUEST, Reuse.EXPIRED: Forwarded.STALE}


def hit_line(name: bytes, left: float, detail: bytes = b"") -> bytes:
    """The line of a response that comes from the cache.

    Args:
        name: of the cache.
        left: seconds until the response is stale; negative for a stale response (RFC 9211 §2.4).

    >>> hit_line(b"gw", 12.9)
    b'Cache-Status: gw; hit; ttl=12\\r\\n'
    """
    return _hit_line(name, int(left // 1), detail)


@functools.lru_cache(maxsize=1024)
def _hit_line(name: bytes, seconds: int, detail: bytes) -> bytes:
    return b"Cache-Status: %b; hit; ttl=%d%b\r\n" % (name, seconds, _detail(detail))


def miss_line(name: bytes) -> bytes:
    """The line of a 504, because the client wants no request to the service (RFC 9111 §5.2.1.7).

    >>> miss_line(b"gw")
    b'Cache-Status: gw; detail=only-if-cached\\r\\n'
    """
    return b"Cache-Status: %b%b\r\n" % (name, _detail(b"only-if-cached"))


@functools.lru_cache(maxsize=256)
def forward_line(
    name: bytes, why: Forwarded, stored: bool = False, *, status: int = 0, collapsed: bool = False, detail: bytes = b""
) -> bytes:
    """The line of a response that came from the service.

    Args:
        name: of the cache.
        stored: whether the response is stored.
        status: of the service's response, where the client gets another (RFC 9211 §2.3); 0 for the same.

    >>> forward_line(b"gw", Forwarded.STALE, status=304, stored=True)
    b'Cache-Status: gw; fwd=stale; fwd-status=304; stored\\r\\n'
    """
    parts = [b"Cache-Status: %b; fwd=%b" % (name, why.encode("ascii"))]
    if status:
        parts.append(b"fwd-status=%d" % status)
    if stored:
        parts.append(b"stored")
    if collapsed:
        parts.append(b"collapsed")
    return b"; ".join(parts) + _detail(detail) + b"\r\n"


def with_key(line: bytes, key: Key) -> bytes:
    """A line that tells the key, too (RFC 9211 §2.7).

    >>> with_key(b"Cache-Status: gw; hit; ttl=9\\r\\n", (b"svc /a", b"shop"))
    b'Cache-Status: gw; hit; ttl=9; key="svc /a shop"\\r\\n'
    """
    text = b" ".join(key)[:LONGEST_KEY]
    return b'%b; key="%b"\r\n' % (line.removesuffix(b"\r\n"), _NOT_QUOTABLE.sub(b" ", text))


def _detail(detail: bytes) -> bytes:
    return b"; detail=%b" % detail if detail else b""
