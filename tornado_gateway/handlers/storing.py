"""Stores a response while the response goes to the client.

    endpoint ──► Storing ──► the request
                    └─ once the response is whole ──► store

A response that is broken off, too large, or without a length of its own is passed on and not stored.
"""

import asyncio
from typing import Protocol

from tornado_gateway.errors import GatewayError
from tornado_gateway.gateway import ResponseCache
from tornado_gateway.handlers.answerer import AnswerReceiver, OutboundRequest
from tornado_gateway.handlers.journal import Refreshed
from tornado_gateway.handlers.looking import Look
from tornado_gateway.policy.http.caching.dates import format_date
from tornado_gateway.policy.http.caching.directives import NONE
from tornado_gateway.policy.http.caching.purge import tags_of
from tornado_gateway.policy.http.caching.request import CacheRequest, Key
from tornado_gateway.policy.http.caching.response import ResponseLines, read_response
from tornado_gateway.policy.http.caching.reuse import reuse
from tornado_gateway.policy.http.caching.status import Forwarded, forward_line
from tornado_gateway.policy.http.caching.stored import Stored, storable_lines
from tornado_gateway.policy.http.caching.terms import Judge
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.http.rewriting import REWRITTEN, Place
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead

# The known fields of a stored response without Via: one object for all (measured: 290 bytes less per response). Whether
# Date is there is asked, not the value.
_DATED: dict[bytes, list[bytes]] = {b"date": []}

# Seconds for which requests for a key are not collapsed after an answer that could not be shared ("hit for miss"), and
# the number of keys that are remembered. Varnish remembers for 120 s; a wrong memory costs requests, nothing else.
ALONE_FOR = 10.0
MOST_ALONE = 4096


class CacheReceiver(AnswerReceiver, Protocol):
    """Takes an answer that may be stored.

    Attributes:
        began: instant (gateway clock) of the request.
        place: where the endpoint is that answers; None if no endpoint was asked.
    """

    began: float

    @property
    def place(self) -> Place | None: ...

    def rewritten(self, head: ResponseHead, place: Place | None) -> ResponseHead:
        """The head of a response with public paths instead of the endpoint's."""

    def tell(self, lines: bytes) -> None:
        """Add field lines, each ended by CRLF, to the final response, whatever writes the response."""


class CachedRequest(OutboundRequest, CacheReceiver, Protocol):
    """A request that looks into the cache, and takes the answer."""


class LoggedRequest(CachedRequest, Protocol):
    """A CachedRequest of a client."""

    def note_refresh(self, told: Refreshed) -> None:
        """Note the end of a request in the background that this request has caused."""


def place_of(endpoint: Endpoint) -> Place:
    """Where an endpoint is."""
    return Place(endpoint.origin.scheme.encode("ascii"), endpoint.authority, endpoint.base_path)


def public_head(request: CacheReceiver, head: ResponseHead) -> ResponseHead:
    """The head of an endpoint's response as clients get the head."""
    return head if REWRITTEN.isdisjoint(head.known_fields) else request.rewritten(head, request.place)


def dated(lines: bytes, said: ResponseLines, wall: float) -> bytes:
    """Field lines of a response, with a Date if the endpoint has sent none (RFC 9110 §6.6.1).

    Args:
        wall: when the response came, in seconds since 1970.
    """
    return lines if b"date" in said.fields else lines + b"Date: %b\r\n" % format_date(wall)


def judge_of(head: ResponseHead) -> Judge:
    """The judge of an endpoint's response, which the connection keeps beside its last field lines."""
    fields = head.fields
    if fields is None or head.forwarded_lines is not fields.forwarded_lines:  # edited
        return Judge(read_response(head.forwarded_lines))
    known = fields.reading
    if isinstance(known, Judge):
        return known
    fields.reading = judge = Judge(read_response(head.forwarded_lines))
    return judge


def remember_alone(cache: ResponseCache, key: Key) -> None:
    """Remember that the answer to a request could not be shared."""
    cache.alone[hash(key)] = cache.now() + ALONE_FOR
    if len(cache.alone) > MOST_ALONE:
        del cache.alone[next(iter(cache.alone))]


class Storing:
    """Receives the answer of an endpoint for a request that found no usable stored response.

    Args:
        why: why the request went to the endpoint.
    """

    __slots__ = (
        "_coming", "_head", "_is_listed", "_is_told", "_look", "_needs_length", "_pieces", "_request", "_since",
        "_size", "_taker", "_why",
    )  # fmt: skip

    def __init__(self, look: Look, request: CacheReceiver, why: Forwarded) -> None:
        self._look, self._request, self._why = look, request, why
        # A response that was asked for before an invalidation or a purge may be older than the change.
        self._since = look.cache.store.changes
        self._is_told = False  # whether the client is told why the request went to the endpoint
        self._taker: BodyReceiver | None = None
        self._head: ResponseHead | None = None  # of a response that may be stored
        self._coming: Stored | None = None  # the response that will be stored; without its body until the end
        self._is_listed = False  # among the flights, so that others may join; see Lead in collapsing.py
        self._needs_length = False
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def stores(self) -> bool:
        """Whether the response that is coming will be stored, as far as its head and the body so far tell."""
        return self._coming is not None

    @property
    def is_current(self) -> bool:
        """Whether nothing has invalidated or purged the response since the request."""
        return self.is_current_with(self._coming.tags if self._coming else None)

    def is_current_with(self, tags: bytes | None) -> bool:
        """As is_current, for a response with these tags; None for tags that are not known yet."""
        look = self._look
        resource, _ = look.key
        return look.cache.store.is_current(resource, tags, self._since)

    @property
    def is_for_others(self) -> bool:
        """Whether the response came fresh, so that other requests may be answered with the response."""
        coming, grace = self._coming, self._look.config.grace
        return coming is not None and reuse(coming.terms, coming.initial_age, NONE, grace).answers

    def answers(self, request: CacheRequest) -> bool:
        """Whether the response that is being stored answers another request with the same key, too."""
        coming, look = self._coming, self._look
        if coming is None or not coming.answers(request):
            return False
        return reuse(coming.terms, coming.age(look.cache.now()), request.directives, look.config.grace).answers

    def on_interim(self, head: ResponseHead) -> None:
        self._request.on_interim(head)

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        look, request = self._look, self._request
        judge, wall = judge_of(head), look.cache.wall()
        decision = judge.decide(look, head.status, wall, look.config)
        terms = decision.terms
        if terms and not look.may_keep(head):
            terms = None
        self._tell(terms is not None)
        if terms is None:
            if self._is_listed:
                self._stay_alone()
            return request.on_head(head, source)
        self._head, known, said = head, head.known_fields, judge.said
        lines, tags, now = head.forwarded_lines, b"", look.cache.now()
        if not REWRITTEN.isdisjoint(known):
            lines, tags = request.rewritten(head, request.place).forwarded_lines, tags_of(known)
        if decision.edits:
            lines = dated(storable_lines(lines, terms), said, wall)
        self._needs_length = (decision.edits or head.length is None) and head.status != 204  # RFC 9110 §8.6
        # By position, as everywhere on this path: Python 3.11 makes a dict of arguments by name.
        self._coming = coming = Stored(
            head.status, head.reason, head.minor, lines,
            {**_DATED, b"via": known[b"via"]} if b"via" in known else _DATED, b"", terms,
            look.said.selection(terms.vary), now, said.etag, said.last_modified,
            tags, decision.initial_age(now - request.began),
        )  # fmt: skip
        is_fresh = terms.lifetime > coming.initial_age and not terms.needs_validation  # as nearly every time
        if self._is_listed and not is_fresh and not self.is_for_others:
            self._stay_alone()
        self._taker = request.on_head(head, source)
        return self

    def _stay_alone(self) -> None:
        """Let nobody join, now and for a while: the answer is for this request alone."""
        self._land()
        remember_alone(self._look.cache, self._look.key)

    def _land(self) -> None:
        """Let nobody join any more."""
        self._is_listed = False
        del self._look.cache.flights[self._look.key]

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        if self._coming:
            self._pieces.append(chunk)
            if self._needs_length:  # else Content-Length has told the size
                self._size += len(chunk)
                if self._size > self._look.config.max_body:
                    self._give_up()
        busy = self._taker.on_chunk(chunk) if self._taker else None
        return self._wait(busy) if busy else None

    def _give_up(self) -> None:
        """Do not store the response, which is broken off or too large."""
        self._coming, self._pieces = None, []
        if self._is_listed:
            self._land()

    def _wait(self, busy: "asyncio.Future[None]") -> "asyncio.Future[None] | None":
        """What the endpoint waits for, because the client is slow."""
        return busy

    def on_end(self, trailers: list[Field]) -> None:
        """Store the response, before the client can ask again."""
        if self._is_listed:
            self._land()
        coming = self._coming
        if coming and (self._look.cache.store.changes == self._since or self.is_current):
            coming.body = b"".join(self._pieces)
            if self._needs_length:
                coming.lines += b"Content-Length: %d\r\n" % self._size
            self._look.keep(coming)
        if self._taker:
            self._taker.on_end(trailers)

    def on_failure(self, error: GatewayError) -> None:
        self._give_up()
        self._tell(False)
        self._request.on_failure(error)

    def _tell(self, is_stored: bool) -> None:
        """Add Cache-Status to the response, once."""
        if self._is_told:
            return
        self._is_told = True
        look = self._look
        line = forward_line(look.cache.name, self._why, is_stored)
        self._request.tell(look.told(line) if look.config.shows_key else line)
