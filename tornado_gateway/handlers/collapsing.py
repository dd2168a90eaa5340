"""One request to a service for all clients that ask for the same at the same time (collapsed forwarding).

    one client    ──► Lead ──► Attempts ──► Lead ──► client

    first client  ──► Passenger ─┐             ┌─► Attempts ──► Lead ────┐
    other clients ──► Passenger ─┴─► Flight ───┴─► Revalidation ─────────┴─► Flight ──► Passengers ──► clients

A Lead stores the answer, and gives the answer to its client as an answer that nobody else waits for. Most misses are
so. When a second client asks for the same, the Lead becomes a Flight, and the first client a Passenger. A question
about a stale response is a Flight from the start.

Nobody but the first client gets a byte before the head of the answer allows to share the answer. If the head does not
allow that, or if the service fails, the others go on their own at once. If the first client leaves, the flight goes on
for the others. Each client reads the answer at its own pace from the pieces that the flight keeps; while the answer is
small enough to be stored, a slow client slows nobody.
"""

import asyncio
import math
from typing import Protocol

from tornado_gateway.errors import GatewayError, UpstreamError
from tornado_gateway.gateway import Gateway, ResponseCache
from tornado_gateway.handlers.answerer import Answerer, AnswerReceiver, Delegating
from tornado_gateway.handlers.looking import Look
from tornado_gateway.handlers.revalidation import Revalidation
from tornado_gateway.handlers.storing import CachedRequest, Storing, place_of, remember_alone
from tornado_gateway.policy.http.caching.request import CacheRequest, Key, may_collapse
from tornado_gateway.policy.http.caching.status import Forwarded, forward_line
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.totals import COLLAPSED
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.http.rewriting import Place
from tornado_gateway.policy.upstream.endpoint import FAILURE, IGNORED, Endpoint, Kind, Outcome
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead


class Shared(AnswerReceiver, Protocol):
    """Takes the answer of an endpoint, and tells who may share the answer."""

    @property
    def is_current(self) -> bool:
        """Whether the resource has not been invalidated since the request."""

    @property
    def stores(self) -> bool:
        """Whether the answer is small enough to be kept, as far as its head and the body so far tell."""

    @property
    def is_for_others(self) -> bool:
        """Whether the head allows to use the answer for other requests without another question to the service."""

    def answers(self, request: CacheRequest) -> bool:
        """Whether the answer may be used for another request with the same key."""


def fetch(
    gateway: Gateway, service: Service, look: Look, request: CachedRequest, why: Forwarded, stored: Stored | None
) -> Answerer:
    """The Answerer of a request that the service has to answer: together with others that ask for the same if possible.

    Args:
        why: why the request goes to the service.
        stored: the stored response that must be validated; None without a stored response.
    """
    cache = look.cache
    is_plain = look.is_plain and look.method == b"GET"  # as nearly every time
    if (
        why is Forwarded.REQUEST  # a client that wants a newer response is not to wait for an older answer
        or (stored and stored.terms.needs_validation)  # nobody gets it without a validation (RFC 9111 §5.2.2.4)
        or not look.config.lock_timeout
        or not (is_plain or may_collapse(look))
        or (cache.alone and cache.alone.get(hash(look.key), -math.inf) > cache.now())
    ):
        return _alone(gateway, service, look, request, why, stored)
    flight: Flight | Lead | None = cache.flights.get(look.key)
    if flight is None:
        if stored is None:
            lead = Lead(look, request, why)
            lead.gateway, lead.service, lead.client = gateway, service, request
            lead.answerer = gateway.new_attempts(gateway, service, request, lead)
            return lead
        flight = Flight(gateway, service, look, request)
        flight.validate(stored, why)
    elif not flight.admits(look):
        return _alone(gateway, service, look, request, why, stored)
    return Passenger(flight.gather(), look, request, why, stored)


def _alone(
    gateway: Gateway, service: Service, look: Look, request: CachedRequest, why: Forwarded, stored: Stored | None
) -> Answerer:
    if stored:
        return Revalidation(gateway, service, look, request, stored, why)
    attempts: Answerer = gateway.new_attempts(gateway, service, request, Storing(look, request, why))
    return attempts


class Lead(Storing, Delegating):
    """The Answerer of a client that nobody waits beside, and the receiver of the answer.

    Attributes:
        gateway, service, client: of the request.
        answerer: asks the service for the client; a Passenger, once others ask for the same.

    The creator sets the attributes. A constructor that calls the constructor of Storing takes 1,800 instructions more.
    """

    __slots__ = ("answerer", "client", "gateway", "service")

    gateway: Gateway
    service: Service
    client: CachedRequest

    # ---- others that ask for the same

    def admits(self, request: CacheRequest) -> bool:
        """As Flight.admits()."""
        return self.is_current and (self._head is None or self.answers(request))

    def gather(self) -> "Flight":
        """Become a Flight, with the client as the first passenger."""
        self._is_listed = False  # the flight is
        flight = Flight(self.gateway, self.service, self._look, self.client)
        client = Passenger(flight, self._look, self.client, self._why, None)
        if self.answerer:
            flight.take_over(self.answerer, self, client, self._head, self._pieces)
        client.go_on(self._taker, len(self._pieces))
        self.answerer, self._request = client, flight
        if self._taker:
            self._taker = flight
        return flight

    # ---- BodyReceiver

    def _wait(self, busy: "asyncio.Future[None]") -> "asyncio.Future[None] | None":
        """Whoever joins must not wait for a slow client."""
        if not self._is_listed:
            return busy
        self.gather().let_leader_wait(busy)
        return None

    # ---- Answerer

    def begin(self) -> None:
        self._look.cache.flights[self._look.key] = self
        self._is_listed = True
        try:
            if self.answerer:
                self.answerer.begin()
        except GatewayError as error:  # no endpoint can be asked
            self.on_failure(error)

    def abort(self) -> None:
        if self.answerer:
            self.answerer.abort()

    def close(self, outcome: Outcome, now: float) -> None:
        answerer, self.answerer = self.answerer, None  # refers to this object: no cycle is left
        if answerer:
            if self._is_listed:
                self._land()
            answerer.close(outcome, now)


class Flight:
    """A request to the service, and its answer for all passengers; a CacheReceiver.

    Args:
        look: of the first client.
        request: of the first client; sent to the service.

    Attributes:
        asking: asks the service.
        passengers: in the order of their coming; a dict, because a thousand may leave at once.
        leader: the passenger of the first client; None before, and once the first client has left.
        pieces: of the body so far, that a passenger may still need.
        is_whole: whether the body is complete.
        trailers: of the answer.
        head: of an answer that may be shared; None before.
    """

    __slots__ = (
        "_look", "_request", "_room", "_shared", "asking", "began", "gateway", "head", "is_whole", "leader", "line",
        "passengers", "pieces", "service", "trailers",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, service: Service, look: Look, request: CachedRequest) -> None:
        self.gateway, self.service, self._look, self._request = gateway, service, look, request
        self.began = request.began
        self.line = b""
        self.asking: Answerer
        self._shared: Shared
        self.passengers: dict[Passenger, None] = {}
        self.leader: Passenger | None = None
        self.head: ResponseHead | None = None
        self.pieces: list[bytes] = []
        self.is_whole = False
        self.trailers: list[Field] = []
        self._room: asyncio.Future[None] | None = None  # while a piece more than may be kept waits for a slow client

    def validate(self, stored: Stored, why: Forwarded) -> None:
        """Ask about a stored response, once the first client joins."""
        self.asking = self._shared = Revalidation(
            self.gateway, self.service, self._look, self._request, stored, why, self
        )

    def take_over(
        self, asking: Answerer, shared: Shared, leader: "Passenger", head: ResponseHead | None, pieces: list[bytes]
    ) -> None:
        """Go on with a question that is asked already.

        Args:
            head, pieces: of the answer so far.
        """
        self.asking, self._shared, self.leader, self.head, self.pieces = asking, shared, leader, head, list(pieces)
        self.passengers[leader] = None
        self._cache.flights[self._key] = self

    # ---- passengers

    @property
    def _cache(self) -> ResponseCache:
        return self._look.cache

    @property
    def _key(self) -> Key:
        return self._look.key

    def admits(self, request: CacheRequest) -> bool:
        """Whether a request may join: nothing was invalidated, and the head, if there is one, answers the request."""
        return self._shared.is_current and (self.head is None or self._shared.answers(request))

    def gather(self) -> "Flight":
        """As Lead.gather()."""
        return self

    def let_leader_wait(self, busy: "asyncio.Future[None]") -> None:
        """Give the first client nothing more until a future is done."""
        if self.leader:
            self.leader.wait_for(busy)

    def join(self, passenger: "Passenger") -> bool:
        """Take a passenger.

        Returns:
            Whether the passenger waits for an answer to somebody else's request.
        """
        self.passengers[passenger] = None
        if passenger.request is self._request:
            self.leader = passenger
            self._begin()
            return False
        if self.head:
            passenger.take_head(self.head)
        return self.head is None

    def _begin(self) -> None:
        self._cache.flights[self._key] = self
        try:
            self.asking.begin()
        except GatewayError as error:  # no endpoint can be asked
            self._shared.on_failure(error)

    def leave(self, passenger: "Passenger", outcome: Outcome, now: float) -> None:
        """Let a passenger leave; the last passenger ends the request.

        Args:
            outcome: how the endpoint did, if the passenger is the last.
        """
        self.part_with(passenger)
        if self.passengers:
            self.moved()
        else:
            self._end(outcome, now)

    def part_with(self, passenger: "Passenger") -> None:
        """Forget a passenger, who leaves or goes on alone."""
        self.passengers.pop(passenger, None)
        if passenger is self.leader:
            self.leader = None

    def _end(self, outcome: Outcome, now: float) -> None:
        """Nobody is left: end the request, if the request has not ended."""
        self._land()
        self.asking.abort()
        self.asking.close(outcome, now)

    def _land(self) -> None:
        """Let nobody join any more."""
        if self._cache.flights.get(self._key) is self:
            del self._cache.flights[self._key]

    def _release(self, passengers: "list[Passenger]") -> None:
        """Let passengers go on their own."""
        for each in passengers:
            self.part_with(each)
        for each in passengers:
            each.go_alone()

    # ---- CacheReceiver

    @property
    def place(self) -> Place | None:
        endpoint = self.asking.endpoint
        return place_of(endpoint) if endpoint else None

    def rewritten(self, head: ResponseHead, place: Place | None) -> ResponseHead:
        return self._request.rewritten(head, place)

    def tell(self, lines: bytes) -> None:
        """Keep the lines for the first client."""
        self.line = lines

    def on_interim(self, head: ResponseHead) -> None:
        leader = self.leader
        if leader:
            leader.request.on_interim(head)

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        if not self._shared.is_for_others:
            return self._hand_over(head, source)
        self.head = head
        self._release([each for each in self.passengers if not self._shared.answers(each.look)])
        for each in tuple(self.passengers):
            each.take_head(head)
        return self

    def _hand_over(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        """The answer is for the first client alone."""
        self._land()
        remember_alone(self._cache, self._key)
        leader = self.leader
        self._release([each for each in self.passengers if each is not leader])
        if leader is None:
            self._end(IGNORED, self._cache.now())
            return None
        leader.request.tell(self.line)
        return leader.request.on_head(head, source)

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        if chunk:
            self.pieces.append(chunk)
        for each in tuple(self.passengers):
            each.pump()
        if self._shared.stores:
            return None
        self._land()  # too large to be kept: nobody can join, and the slowest client slows the others
        self._room = self.gateway.client.loop.create_future()
        room = self._room
        self.moved()
        return None if room.done() else room

    def moved(self) -> None:
        """A passenger has taken pieces, or has left: read on if every passenger has everything."""
        if self._room and all(each.has_everything for each in self.passengers):
            self.pieces.clear()
            for each in self.passengers:
                each.rewind()
            self._room.set_result(None)
            self._room = None

    def on_end(self, trailers: list[Field]) -> None:
        self._land()
        self.is_whole, self.trailers = True, trailers
        status = self.head.status if self.head else 0
        self.asking.close(self.service.outcomes.judge(status), self._cache.now())
        for each in tuple(self.passengers):
            each.pump()

    def on_failure(self, error: GatewayError) -> None:
        self._land()
        leader, everybody = self.leader, tuple(self.passengers)
        self.asking.close(FAILURE if isinstance(error, UpstreamError) else IGNORED, self._cache.now())
        if self.head is None:
            self._release([each for each in everybody if each is not leader])
            everybody = (leader,) if leader else ()
        for each in everybody:
            if self.head is None:
                each.request.tell(self.line)
            each.request.on_failure(error)


class Passenger:
    """The Answerer of a client that shares a flight, and the source of the body for the client.

    Attributes:
        request: of the client.
        look: of the client.
    """

    __slots__ = ("_at", "_flight", "_held", "_later", "_own", "_stored", "_taker", "_why", "look", "request")

    min_rate = 0.0
    heard_at = -math.inf

    def __init__(
        self, flight: Flight, look: Look, request: CachedRequest, why: Forwarded, stored: Stored | None
    ) -> None:
        self._flight, self.look, self.request, self._why, self._stored = flight, look, request, why, stored
        self._own: Answerer | None = None  # once the client goes on alone
        self._taker: BodyReceiver | None = None
        self._later: asyncio.TimerHandle | None = None  # of CACHE_LOCK_TIMEOUT_MS
        self._at, self._held = 0, False

    def begin(self) -> None:
        flight = self._flight
        if flight.join(self):
            self._later = flight.gateway.client.loop.call_later(self.look.config.lock_timeout, self._overtake)

    def _overtake(self) -> None:
        """The flight takes too long."""
        self._flight.part_with(self)
        self.go_alone()

    def go_alone(self) -> None:
        """Ask the service for this client alone."""
        self._cancel_later()
        flight = self._flight
        self._own = _alone(flight.gateway, flight.service, self.look, self.request, self._why, self._stored)
        try:
            self._own.begin()
        except GatewayError as error:
            self.request.on_failure(error)

    def _cancel_later(self) -> None:
        if self._later:
            self._later.cancel()
            self._later = None

    # ---- the shared answer

    def go_on(self, taker: BodyReceiver | None, count: int) -> None:
        """Go on for a client that has the head already, if there is a taker, and so many pieces."""
        self._taker, self._at = taker, count

    def take_head(self, head: ResponseHead) -> None:
        self._cancel_later()
        is_first = self is self._flight.leader
        name = self.look.cache.name
        if not is_first:
            self.look.cache.totals.results[self._flight.service.name, COLLAPSED] += 1
        line = self._flight.line if is_first else self.look.told(forward_line(name, self._why, collapsed=True))
        self.request.tell(line)
        self._taker = self.request.on_head(head, self)
        self.pump()

    def pump(self) -> None:
        """Give the client the pieces that the client lacks, as long as the client takes pieces; then the end."""
        flight = self._flight
        while self._taker and not self._held and self._at < len(flight.pieces):
            piece = flight.pieces[self._at]
            self._at += 1
            busy = self._taker.on_chunk(piece)
            if busy is not None:
                self.wait_for(busy)
        if self._taker and not self._held and flight.is_whole:
            taker, self._taker = self._taker, None
            taker.on_end(flight.trailers)

    def wait_for(self, busy: "asyncio.Future[None]") -> None:
        """Take nothing more until a future is done."""
        self._held = True
        busy.add_done_callback(self._read_on)

    def _read_on(self, _: "asyncio.Future[None]") -> None:
        self._held = False
        self.pump()
        self._flight.moved()

    @property
    def has_everything(self) -> bool:
        """Whether the client has taken all pieces so far."""
        return not self._taker or (not self._held and self._at == len(self._flight.pieces))

    def rewind(self) -> None:
        """Begin again with the first piece, because the pieces that everybody has are gone."""
        self._at = 0

    # ---- Answerer

    @property
    def _asking(self) -> Answerer:
        return self._own or self._flight.asking

    @property
    def endpoint(self) -> Endpoint | None:
        return self._asking.endpoint

    @property
    def attempt_count(self) -> int:
        is_own = self._own is not None or self is self._flight.leader
        return self._asking.attempt_count if is_own else 0

    def abort(self) -> None:
        self._taker = None
        if self._own:
            self._own.abort()
        elif list(self._flight.passengers) == [self]:
            self._flight.asking.abort()

    def close(self, outcome: Outcome, now: float) -> None:
        self._cancel_later()
        self._taker = None
        if self._own:
            self._own.close(outcome, now)
        else:
            self._flight.leave(self, outcome, now)

    def becomes(self, kind: Kind) -> None:
        self._asking.becomes(kind)

    @property
    def may_replace_stream(self) -> bool:
        return self._asking.may_replace_stream

    def replace_stream(self) -> bool:
        return self._asking.replace_stream()

    @property
    def is_blocked(self) -> bool:
        return self._asking.is_blocked

    @property
    def is_held(self) -> bool:
        return self._held or self._asking.is_held

    # ---- BodySource

    def hand_to(self, receiver: BodyReceiver) -> None:
        self._taker = receiver

    def allow(self, seconds: float) -> None:
        """The timeouts are the flight's."""

    def forget_fields(self) -> None:
        """Others may need the fields."""
