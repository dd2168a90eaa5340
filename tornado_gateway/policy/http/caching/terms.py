"""Whether a response may be stored, and under which terms a stored response may be reused (RFC 9111 §3).

The branches follow the text of the standard. Where the standard says "may", this cache does less: a response to a
request with credentials is stored only if `public` or `s-maxage` marks the response as everybody's; a response with
Set-Cookie is not stored, unless the service says so; a response of which the end cannot be told from a broken
connection is not stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.caching.directives import (
    NO_CACHE,
    NO_STORE,
    PRIVATE,
    PUBLIC,
    S_MAXAGE,
    STALE_IF_ERROR,
    STALE_WHILE_REVALIDATE,
    Directives,
    response_directives,
)
from tornado_gateway.policy.http.caching.freshness import initial_age, lifetime
from tornado_gateway.policy.http.caching.request import CacheRequest
from tornado_gateway.policy.http.caching.vary import selecting_fields, selection
from tornado_gateway.policy.http.headers import KnownFields

_MUST_UNDERSTAND, _MUST_REVALIDATE = b"must-understand", b"must-revalidate"
_PROXY_REVALIDATE = b"proxy-revalidate"

# Statuses whose rules this cache follows, for must-understand (RFC 9111 §5.2.2.3).
UNDERSTOOD = frozenset((200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 451, 501))

_COOKIES = frozenset((b"set-cookie", b"set-cookie2"))

# Never stored as the whole answer: a part of a representation, and the answer to a condition.
_PARTS = (206, 304)


class Arrival(NamedTuple):
    """When a response came.

    Attributes:
        delay: seconds between the request and the response's head.
        wall: seconds since 1970.
    """

    delay: float
    wall: float


@dataclass(slots=True)
class Terms:
    """The terms of reuse of a response. Never changed (frozen dataclasses take twice as long to make).

    Attributes:
        lifetime: seconds for which the response is fresh.
        initial_age: seconds of the response's age on arrival.
        is_shared: whether the response is marked as everybody's, so that also requests with credentials may get it.
        needs_validation: whether each reuse needs a validation (no-cache).
        forbids_stale: whether the response must not be reused once stale (must-revalidate and others).
        stale_while_revalidate, stale_if_error: seconds beyond the lifetime (RFC 5861).
        vary: names, in lower case, of the request fields that select the response.
        withheld: names, in lower case, of fields that must not be stored.
    """

    lifetime: float
    initial_age: float
    is_shared: bool = False
    needs_validation: bool = False
    forbids_stale: bool = False
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    vary: Sequence[bytes] = ()
    withheld: frozenset[bytes] = frozenset()

    def answer(self, request: CacheRequest, first: CacheRequest) -> bool:
        """Whether the response to a first request answers another request with the same key (RFC 9111 §4.1, §3.5)."""
        if self.vary and selection(self.vary, request.fields) != selection(self.vary, first.fields):
            return False
        return self.is_shared or request.may_share


def terms_of(
    request: CacheRequest, status: int, fields: KnownFields, arrival: Arrival, config: CacheConfig
) -> Terms | None:
    """The terms under which a response may be stored; None for a response that must not be stored.

    Args:
        status: 200 to 599.
        fields: of the response, by lower-case name, without fields of one hop (RFC 9111 §3.1).
    """
    said = response_directives(fields, reads_surrogate=config.reads_surrogate)
    directives = said.directives
    vary = selecting_fields(fields.get(b"vary", ()))
    if vary is None or _forbids(request, status, directives) or (config.ignores_host and _names_a_host(fields)):
        return None
    is_shared = PUBLIC in directives or S_MAXAGE in directives
    if not (is_shared or request.may_share):  # RFC 9111 §3.5
        return None
    withheld = (directives.fields(PRIVATE) or frozenset()) | (directives.fields(NO_CACHE) or frozenset())
    if not (config.stores_cookies or withheld.issuperset(_COOKIES.intersection(fields))):  # RFC 9111 §7.3
        return None
    fresh = lifetime(status, fields, said, arrival.wall, config)
    needs_validation = directives.fields(NO_CACHE) == frozenset()  # RFC 9111 §5.2.2.4
    if fresh is None and not needs_validation:
        return None
    if request.has_credentials and fresh and not fresh.is_explicit:  # nobody said that the response may be kept
        return None
    terms = Terms(
        fresh.seconds if fresh else 0.0,
        initial_age(fields, arrival.delay, arrival.wall),
        is_shared,
        needs_validation,
        # RFC 9111 §5.2.2.2, §5.2.2.8; §5.2.2.10: s-maxage implies proxy-revalidate
        any(each in directives for each in (_MUST_REVALIDATE, _PROXY_REVALIDATE, S_MAXAGE)),
        directives.seconds(STALE_WHILE_REVALIDATE) or 0.0,
        directives.seconds(STALE_IF_ERROR) or 0.0,
        vary,
        withheld,
    )
    return terms if _is_of_use(terms, fields) else None


def _forbids(request: CacheRequest, status: int, directives: Directives) -> bool:
    """Whether a response must not be stored whatever its lifetime."""
    if request.method != b"GET" or status in _PARTS:  # RFC 9111 §3, first and third item; §3.3
        return True
    if NO_STORE in request.directives:  # RFC 9111 §5.2.1.5
        return True
    if _MUST_UNDERSTAND in directives:  # RFC 9111 §5.2.2.3: counts instead of no-store
        if status not in UNDERSTOOD:
            return True
    elif NO_STORE in directives:  # RFC 9111 §5.2.2.5
        return True
    return directives.fields(PRIVATE) == frozenset()  # RFC 9111 §5.2.2.7


def _names_a_host(fields: KnownFields) -> bool:
    """Whether a reference in the fields names a host, which might be the host that one client asked for."""
    return any(b"//" in value for name in (b"location", b"content-location") for value in fields.get(name, ()))


def _is_of_use(terms: Terms, fields: KnownFields) -> bool:
    """Whether a stored response could ever answer a request: fresh, validated, or stale with permission."""
    if b"etag" in fields or b"last-modified" in fields:
        return True
    if terms.needs_validation:
        return False
    stale = 0.0 if terms.forbids_stale else max(terms.stale_while_revalidate, terms.stale_if_error)
    return terms.lifetime + stale > terms.initial_age
