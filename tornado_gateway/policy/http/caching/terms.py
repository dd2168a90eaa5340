"""Whether a response may be stored, and under which terms a stored response may be reused (RFC 9111 §3).

The branches follow the text of the standard. Where the standard says "may", this cache does less: a response to a
request with credentials is stored only if `public` or `s-maxage` marks the response as everybody's; a response with
Set-Cookie is not stored, unless the service says so; a response of which the end cannot be told from a broken
connection is not stored.
"""

from dataclasses import dataclass

from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.caching.directives import NO_STORE
from tornado_gateway.policy.http.caching.freshness import apparent_age, lifetime, told_age
from tornado_gateway.policy.http.caching.request import CacheRequest
from tornado_gateway.policy.http.caching.response import ResponseLines
from tornado_gateway.policy.http.caching.rules import Rules, rules_of
from tornado_gateway.policy.http.headers import KnownFields

# Statuses whose rules this cache follows, for must-understand (RFC 9111 §5.2.2.3).
UNDERSTOOD = frozenset((200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 451, 501))

_COOKIES = frozenset((b"set-cookie", b"set-cookie2"))

# Never stored as the whole answer: a part of a representation, and the answer to a condition.
_PARTS = (206, 304)


@dataclass(slots=True)
class Terms:
    """The terms of reuse of a response. Never changed (frozen dataclasses take twice as long to make).

    Attributes:
        lifetime: seconds for which the response is fresh.
        is_shared: whether the response is marked as everybody's, so that also requests with credentials may get it.
        needs_validation: whether each reuse needs a validation (no-cache).
        forbids_stale: whether the response must not be reused once stale (must-revalidate and others).
        stale_while_revalidate, stale_if_error: seconds beyond the lifetime (RFC 5861).
        vary: names, in lower case, of the request fields that select the response.
        withheld: names, in lower case, of fields that must not be stored.
    """

    lifetime: float
    is_shared: bool = False
    needs_validation: bool = False
    forbids_stale: bool = False
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    vary: tuple[bytes, ...] = ()
    withheld: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class Decision:
    """What a cache does with a response. Never changed.

    Attributes:
        terms: the terms of reuse; None for a response that must not be stored.
        edits: whether the field lines that are stored are not the response's.
        apparent_age, told_age: see freshness.py.
    """

    terms: Terms | None = None
    edits: bool = False
    apparent_age: float = 0.0
    told_age: float = 0.0

    def initial_age(self, delay: float) -> float:
        """The age of the response on arrival (RFC 9111 §4.2.3).

        Args:
            delay: seconds between the request and the response's head.
        """
        by_date, told = self.apparent_age, self.told_age + delay
        return by_date if by_date > told else told


class Judge:
    """Decides on responses that have the same field lines, and remembers the last decision with everything that the
    decision depends on. Under load a service's fields repeat, and many requests ask within a second.

    Attributes:
        said: the field lines.
    """

    __slots__ = ("_asked", "_decided", "_wall", "said")

    def __init__(self, said: ResponseLines) -> None:
        self.said = said
        self._wall = -1.0
        self._asked: tuple[object, ...] = ()
        self._decided = Decision()

    def decide(self, request: CacheRequest, status: int, wall: float, config: CacheConfig) -> Decision:
        """The decision on the response to a request. Arguments as for terms_of().

        The time counts in whole seconds, as in Date: a response of this second has no age.
        """
        asked = (
            status, config, request.method, request.directives, request.has_credentials, request.has_principal,
        )  # fmt: skip
        if asked != self._asked or not self._wall <= wall < self._wall + 1:
            self._asked, self._wall = asked, wall // 1
            self._decided = self._decide(request, status, self._wall, config)
        return self._decided

    def _decide(self, request: CacheRequest, status: int, wall: float, config: CacheConfig) -> Decision:
        said, fields = self.said, self.said.fields
        terms = terms_of(request, status, said, wall, config)
        # RFC 9111 §3.1; RFC 9110 §8.6 and §6.6.1.
        edits = bool(terms and terms.withheld) or b"age" in fields or status == 204 or b"date" not in fields
        return Decision(terms, edits, apparent_age(fields, wall), told_age(fields))


def terms_of(request: CacheRequest, status: int, said: ResponseLines, wall: float, config: CacheConfig) -> Terms | None:
    """The terms under which a response may be stored; None for a response that must not be stored.

    Args:
        status: 200 to 599.
        said: field lines of the response, without fields of one hop (RFC 9111 §3.1).
        wall: when the response came, in seconds since 1970.
    """
    fields = said.fields
    rules = rules_of(fields, reads_surrogate=True) if config.reads_surrogate else said.rules
    if said.is_event_stream or _forbids(request, status, rules) or (config.ignores_host and _names_a_host(fields)):
        return None
    if said.vary is None or not (rules.is_shared or request.may_share):  # RFC 9111 §4.1, §3.5
        return None
    if not (_COOKIES.isdisjoint(fields) or config.stores_cookies or _are_withheld(rules, fields)):  # RFC 9111 §7.3
        return None
    fresh = lifetime(status, fields, rules, wall, config)
    if fresh is None and not rules.needs_validation:
        return None
    if request.has_credentials and fresh and not fresh.is_explicit:  # nobody said that the response may be kept
        return None
    terms = Terms(
        fresh.seconds if fresh else 0.0, rules.is_shared, rules.needs_validation, rules.forbids_stale,
        rules.stale_while_revalidate, rules.stale_if_error, said.vary, rules.withheld,
    )  # fmt: skip
    return terms if _is_of_use(terms, said, wall, config) else None


def _forbids(request: CacheRequest, status: int, rules: Rules) -> bool:
    """Whether a response must not be stored whatever its lifetime."""
    if rules.no_store or rules.is_private:  # RFC 9111 §5.2.2.5, §5.2.2.7
        return True
    if request.method != b"GET" or status in _PARTS:  # RFC 9111 §3, first and third item; §3.3
        return True
    if NO_STORE in request.directives.arguments:  # RFC 9111 §5.2.1.5
        return True
    return rules.must_understand and status not in UNDERSTOOD  # RFC 9111 §5.2.2.3


def _are_withheld(rules: Rules, fields: KnownFields) -> bool:
    """Whether no cookie is stored, because the response says so itself (RFC 9111 §5.2.2.4, §5.2.2.7)."""
    return rules.withheld.issuperset(_COOKIES.intersection(fields))


def _names_a_host(fields: KnownFields) -> bool:
    """Whether a reference in the fields names a host, which might be the host that one client asked for."""
    return any(b"//" in value for name in (b"location", b"content-location") for value in fields.get(name, ()))


def _is_of_use(terms: Terms, said: ResponseLines, wall: float, config: CacheConfig) -> bool:
    """Whether a stored response could ever answer a request: fresh, validated, or stale with permission."""
    if said.etag or said.last_modified:
        return True
    if terms.needs_validation:
        return False
    allowed = max(terms.stale_while_revalidate, terms.stale_if_error, config.grace, config.stale_if_error)
    stale = 0.0 if terms.forbids_stale else allowed
    return terms.lifetime + stale > max(apparent_age(said.fields, wall), told_age(said.fields))
