"""A stored response, and the stored responses that share a key."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

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
OVERHEAD = 800


_LENGTH = re.compile(rb"content-length:", re.IGNORECASE)


@dataclass(slots=True)
class Stored:
    """A stored response, which stands for itself where its key has no other: then it is no member of Variants.

    Never changed but for the hits: a refreshed response is another object. Not frozen, which takes twice as long.

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
        hits: how often the key was found, while the response stands for itself.
        size: bytes of memory, estimated; without the key.
        count: number of responses.
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
    hits: int = 0

    count: ClassVar[int] = 1

    def __iter__(self) -> "Iterator[Stored]":
        yield self

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

    def find(self, request: CacheRequest) -> "Stored | None":
        """The response, if a request selects it."""
        return self if self.answers(request) else None


class Variants:
    """Several stored responses of a key, of which Vary selects one.

    Args:
        responses: the newest first.
        hits: how often the key was found.
    """

    __slots__ = ("_responses", "hits")

    def __init__(self, responses: tuple[Stored, ...], hits: int = 0) -> None:
        self._responses, self.hits = responses, hits

    def __iter__(self) -> Iterator[Stored]:
        return iter(self._responses)

    @property
    def count(self) -> int:
        """The number of responses."""
        return len(self._responses)

    @property
    def size(self) -> int:
        """Bytes of memory, estimated; without the key."""
        return sum(each.size for each in self._responses)

    def find(self, request: CacheRequest) -> Stored | None:
        """The newest response that a request selects."""
        for each in self._responses:
            if each.answers(request):
                return each
        return None


# The stored responses of a key.
Found = Stored | Variants


def together(responses: Iterable[Stored], hits: int) -> Found | None:
    """The stored responses of a key; None for no response.

    Args:
        responses: the newest first.
        hits: how often the key was found.
    """
    several = tuple(responses)
    if len(several) != 1:
        return Variants(several, hits) if several else None
    (alone,) = several
    alone.hits = hits
    return alone


def with_response(found: Found, response: Stored) -> Found:
    """The stored responses of a key with one more, which replaces a response that the same requests select."""
    names, values = response.terms.vary, response.selected_by
    kept = [each for each in found if (each.terms.vary, each.selected_by) != (names, values)]
    return together((response, *kept[: MOST_VARIANTS - 1]), found.hits) or response


def without_response(found: Found, response: Stored) -> Found | None:
    """The stored responses of a key without one."""
    return together((each for each in found if each is not response), found.hits)


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
        hits=0,
    )


def storable_lines(lines: bytes, terms: Terms) -> bytes:
    """The field lines that are stored: without Age, which is computed, and without fields that must not be stored.

    Args:
        lines: end-to-end field lines of the response (RFC 9111 §3.1).
    """
    return without(lines, terms.withheld | COMPUTED)
