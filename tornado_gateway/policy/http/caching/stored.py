"""A stored response, and the stored responses that share a key."""

import re
from dataclasses import dataclass, replace

from tornado_gateway.policy.http.caching.request import CacheRequest, by_name
from tornado_gateway.policy.http.caching.response import COMPUTED
from tornado_gateway.policy.http.caching.terms import Terms
from tornado_gateway.policy.http.caching.vary import Selection
from tornado_gateway.policy.http.headers import KnownFields, without

# Responses of one key that differ by Vary. More variants push the oldest out, so that a client that makes up values
# of a field fills no memory. nginx and Varnish leave the number open; a page in 30 languages is rare.
MOST_VARIANTS = 32

# Bytes of memory that a stored response takes beside its bytes and its key: objects, tables and links of the store.
# Measured with tracemalloc, see tests/adapters/test_response_cache.py.
OVERHEAD = 1000


_LENGTH = re.compile(rb"content-length:", re.IGNORECASE)


@dataclass(slots=True)
class Stored:
    """A stored response. Never changed: a refreshed response is another object. Not frozen, which takes twice as long.

    Attributes:
        status, reason, minor: of the response's start line.
        lines: the end-to-end field lines, each ended by CRLF, with Date and Content-Length and without Age.
        known_fields: the fields that the gateway reads when it writes a response: Date, and Via.
        body: the content, whole.
        terms: the terms of reuse.
        selected_by: the values of the fields in Vary, in the request that the response answered.
        came: instant (gateway clock) at which the response came.
        initial_age: seconds of the response's age on arrival.
        etag, last_modified: the validators; b"" for none.
        tags: for purges; see purge.py.
        size: bytes of memory, estimated.
    """

    status: int
    reason: bytes
    minor: int
    lines: bytes
    known_fields: dict[bytes, list[bytes]]
    body: bytes
    terms: Terms
    selected_by: Selection
    came: float
    etag: bytes = b""
    last_modified: bytes = b""
    tags: bytes = b""
    initial_age: float = 0.0

    @property
    def size(self) -> int:
        return len(self.body) + len(self.lines) + len(self.tags) + OVERHEAD

    @property
    def fields(self) -> KnownFields:
        """All stored fields, by lower-case name."""
        return by_name(self.lines)

    @property
    def date(self) -> bytes:
        """The value of Date, which every stored response has."""
        return self.fields[b"date"][0]

    def age(self, now: float) -> float:
        """Seconds since the origin made or validated the response (RFC 9111 §4.2.3).

        Args:
            now: instant (gateway clock).
        """
        return self.initial_age + now - self.came

    def expired(self, now: float) -> "Stored":
        """A copy of the response that is stale from now on; an equal copy of a response that is stale already.

        Args:
            now: instant (gateway clock).
        """
        lifetime = min(self.terms.lifetime, self.age(now))
        return replace(self, terms=replace(self.terms, lifetime=lifetime))

    def answers(self, request: CacheRequest) -> bool:
        """Whether a request with the key selects the response (RFC 9111 §4.1) and may get the response (§3.5)."""
        names = self.terms.vary
        if names and request.selection(names) != self.selected_by:
            return False
        return self.terms.is_shared or request.may_share


class Variants(tuple[Stored, ...]):
    """The stored responses of a key, of which Vary selects one; the newest first."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """Bytes of memory, estimated; without the key."""
        return sum(each.size for each in self)

    def find(self, request: CacheRequest) -> Stored | None:
        """The newest response that a request selects."""
        for each in self:
            if each.answers(request):
                return each
        return None

    def with_response(self, response: Stored) -> "Variants":
        """The responses with one more, which replaces a response that the same requests select."""
        names, values = response.terms.vary, response.selected_by
        kept = [each for each in self if (each.terms.vary, each.selected_by) != (names, values)]
        return Variants((response, *kept[: MOST_VARIANTS - 1]))

    def without_response(self, response: Stored) -> "Variants":
        """The responses without one."""
        return Variants(each for each in self if each is not response)


def refreshed(
    stored: Stored, lines: bytes, tags: bytes, terms: Terms, request: CacheRequest, now: float, initial_age: float
) -> Stored:
    """A stored response that a service has found to be good still.

    Args:
        lines: the stored field lines with the news; see refreshed_lines() in validation.py.
        tags: in the news; b"" for none, and the tags stay.
        terms: by these lines.
        request: the request that caused the validation.
        now: instant (gateway clock).
        initial_age: of the news.
    """
    length = b"".join([line for line in stored.lines.splitlines(keepends=True) if _LENGTH.match(line)])
    kept = storable_lines(lines, terms) + length
    fields = by_name(kept)
    return replace(
        stored,
        lines=kept,
        terms=terms,
        selected_by=request.selection(terms.vary),
        came=now,
        etag=fields.get(b"etag", (b"",))[0],
        last_modified=fields.get(b"last-modified", (b"",))[0],
        tags=tags or stored.tags,
        initial_age=initial_age,
    )


def storable_lines(lines: bytes, terms: Terms) -> bytes:
    """The field lines that are stored: without Age, which is computed, and without fields that must not be stored.

    Args:
        lines: end-to-end field lines of the response (RFC 9111 §3.1).
    """
    return without(lines, terms.withheld | COMPUTED)
