"""What Cache-Control of a response means to a shared cache, whatever was asked for and whatever else the response says.

Rules follow from the bytes of the directives alone, and services repeat these bytes: rules are remembered by the bytes.
Nothing that depends on the request, the status, other fields, the time or the configuration may stand here; terms.py
decides by all of these together.
"""

import functools
from dataclasses import dataclass

from tornado_gateway.policy.http.caching.directives import (
    LONGEST_REMEMBERED,
    MAX_AGE,
    NO_CACHE,
    NO_STORE,
    PRIVATE,
    PUBLIC,
    S_MAXAGE,
    STALE_IF_ERROR,
    STALE_WHILE_REVALIDATE,
    Directives,
    read_directives,
    response_directives,
)
from tornado_gateway.policy.http.headers import KnownFields

_MUST_UNDERSTAND, _MUST_REVALIDATE = b"must-understand", b"must-revalidate"
_PROXY_REVALIDATE = b"proxy-revalidate"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that directives of a response lay down. The sections are those of RFC 9111.

    Attributes:
        lifetime: seconds by s-maxage (§5.2.2.10), else by max-age (§5.2.2.1); None for neither.
        are_targeted: whether the directives stood in a targeted field, so that Expires does not count (RFC 9213 §2.2).
        is_public: `public` (§5.2.2.9).
        is_shared: whether the directives mark the response as everybody's: `public` or s-maxage (§3.5).
        is_private: `private` for the whole response (§5.2.2.7).
        no_store: `no-store`, unless must-understand counts instead (§5.2.2.5, §5.2.2.3).
        must_understand: whether only a cache that knows the status may store (§5.2.2.3).
        needs_validation: `no-cache` for the whole response (§5.2.2.4).
        forbids_stale: must-revalidate (§5.2.2.2), proxy-revalidate (§5.2.2.8), or s-maxage, which implies the latter.
        stale_while_revalidate, stale_if_error: seconds beyond the lifetime (RFC 5861).
        withheld: names of the fields that `private` and `no-cache` are limited to.
    """

    lifetime: float | None
    are_targeted: bool
    is_public: bool
    is_shared: bool
    is_private: bool
    no_store: bool
    must_understand: bool
    needs_validation: bool
    forbids_stale: bool
    stale_while_revalidate: float
    stale_if_error: float
    withheld: frozenset[bytes]


def rules_of(fields: KnownFields, *, reads_surrogate: bool = False) -> Rules:
    """The rules of a response.

    Args:
        fields: of the response, by lower-case name.
        reads_surrogate: see response_directives().
    """
    if b"cdn-cache-control" in fields or (reads_surrogate and b"surrogate-control" in fields):
        said = response_directives(fields, reads_surrogate=reads_surrogate)
        return _rules(said.directives, are_targeted=said.are_targeted)
    value = b",".join(fields[b"cache-control"]) if b"cache-control" in fields else b""
    return _remembered(value) if len(value) <= LONGEST_REMEMBERED else _remembered.__wrapped__(value)


@functools.lru_cache(maxsize=512)
def _remembered(value: bytes) -> Rules:
    return _rules(read_directives([value]), are_targeted=False)


def _rules(said: Directives, *, are_targeted: bool) -> Rules:
    private, no_cache = said.fields(PRIVATE), said.fields(NO_CACHE)
    shared = said.seconds(S_MAXAGE)
    return Rules(
        lifetime=said.seconds(MAX_AGE) if shared is None else shared,
        are_targeted=are_targeted,
        is_public=PUBLIC in said,
        is_shared=PUBLIC in said or S_MAXAGE in said,
        is_private=private == frozenset(),
        no_store=NO_STORE in said and _MUST_UNDERSTAND not in said,
        must_understand=_MUST_UNDERSTAND in said,
        needs_validation=no_cache == frozenset(),
        forbids_stale=any(each in said for each in (_MUST_REVALIDATE, _PROXY_REVALIDATE, S_MAXAGE)),
        stale_while_revalidate=said.seconds(STALE_WHILE_REVALIDATE) or 0.0,
        stale_if_error=said.seconds(STALE_IF_ERROR) or 0.0,
        withheld=(private or frozenset()) | (no_cache or frozenset()),
    )
