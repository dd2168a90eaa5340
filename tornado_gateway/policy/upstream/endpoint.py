"""An endpoint with everything that a choice may depend on; what a lease is requested for; and what a service adds.

An endpoint's load is the number of leases that have not ended, so the load cannot drift from what is in flight. Leases
are counted by kind: a stream of an hour is no slow request. Streams count as load, but their durations never count as
latency.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from tornado_gateway.policy.http.target import canonical_url, parse_base_url
from tornado_gateway.policy.upstream.breaker import Breaker
from tornado_gateway.policy.upstream.latency import Latency
from tornado_gateway.policy.upstream.statistics import Window

FIRST_SHARE = 0.1  # of its normal traffic that an endpoint gets when it joins; Envoy's min_weight_percent


class Kind(Enum):
    """What a lease is held for."""

    HTTP = "http"
    SSE = "sse"
    WS = "ws"

    __hash__ = object.__hash__  # Enum's own is written in Python: it cost a request 1 µs


class Outcome(Enum):
    """How a lease ended. Only the first two say how the endpoint did.

    Attributes:
        SUCCESS: the endpoint did its work.
        FAILURE: it did not.
        CLIENT_GONE: the client left first.
        SUPERSEDED: another endpoint, asked by a hedge, answered first.
        IGNORED: the gateway ended the request: by a limit, by its own stop, or because the request is malformed; or a
            hedge's kept connection had just ended.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    CLIENT_GONE = "client_gone"
    SUPERSEDED = "superseded"
    IGNORED = "ignored"


# Looked up in their class, members cost five times as much (3.11), some twenty times per request.
HTTP, SSE, WS = Kind
SUCCESS, FAILURE, CLIENT_GONE, SUPERSEDED, IGNORED = Outcome


class InFlight:
    """What is in flight, by kind.

    Attributes:
        requests, event_streams, websockets: leases that have not ended, each of its kind.
    """

    __slots__ = ("event_streams", "requests", "websockets")

    def __init__(self) -> None:
        self.requests = self.event_streams = self.websockets = 0

    def count(self, kind: Kind, change: int) -> None:
        """Count a lease in or out."""
        if kind is HTTP:
            self.requests += change
        elif kind is SSE:
            self.event_streams += change
        else:
            self.websockets += change

    @property
    def inflight(self) -> dict[Kind, int]:
        """All of it."""
        return {HTTP: self.requests, SSE: self.event_streams, WS: self.websockets}

    @property
    def streams(self) -> int:
        """Event streams and WebSockets."""
        return self.event_streams + self.websockets

    @property
    def load(self) -> int:
        """Leases of every kind that have not ended."""
        return self.requests + self.event_streams + self.websockets

    def load_for(self, kind: Kind) -> int:
        """The load that matters to a new lease of a kind.

        A stream counts requests and streams alike. A request counts requests only: a hundred silent streams are no
        queue of a hundred.
        """
        return self.requests if kind is HTTP else self.requests + self.event_streams + self.websockets


class Endpoint(InFlight):
    """One upstream base URL, and what is known about it.

    Attributes:
        url: as configured, or with the address that a name resolved to.
        origin: where its connections lead.
        identity: the canonical form of `url`: what sessions and hashes know the endpoint by in all gateways.
        authority: the Host field of requests to it.
        base_path: kept in front of every target.
        weight: its share of the load relative to others; 0 for none that is new.
        breaker, latency, window: what its answers have shown.
        checks_pass: whether its health checks pass; True while there are none.
        last_check: what the newest check has shown, in words; "" before the first.
        is_admitted: whether new requests may be sent here now; its service decides.
        is_ejected: whether its breaker has taken it out, which not every open one does.
        is_unreachable: whether its newest failure was that no connection could be made.
        joined_at: instant from which on its share of the traffic grows; -math.inf if it has it all.
        requests_total: leases that ended, each once; `outcomes` tells them apart.
        errors_total, client_gone_total, superseded_total, ignored_total: those of them that ended so.
        unanswered_total: failures of those that had no answer: what Envoy calls local-origin failures.
        overtaken: requests without an answer since the last one, because another endpoint was quicker.
        retries_total: leases that repeated what had failed elsewhere.
    """

    __slots__ = (
        "authority", "base_path", "breaker", "client_gone_total", "errors_total", "identity", "ignored_total",
        "is_ejected",
        "checks_pass", "is_unreachable", "is_admitted", "joined_at", "last_check", "latency", "origin", "overtaken",
        "requests_total", "retries_total", "superseded_total", "unanswered_total", "url", "weight", "window",
    )  # fmt: skip

    def __init__(self, url: str, breaker: Breaker, weight: int = 1, now: float = 0.0) -> None:
        super().__init__()
        self.url = url
        self.origin, self.base_path = parse_base_url(url)
        self.identity = canonical_url(self.origin, self.base_path)
        self.authority = self.origin.authority
        self.weight = weight
        self.breaker = breaker
        self.latency = Latency()
        self.window = Window(now)
        self.checks_pass = self.is_admitted = True
        self.is_ejected = self.is_unreachable = False
        self.last_check = ""
        self.joined_at = -math.inf
        self.overtaken = 0
        self.requests_total = self.errors_total = self.unanswered_total = self.retries_total = 0
        self.client_gone_total = self.superseded_total = self.ignored_total = 0

    # ---- may a request be sent here

    @property
    def healthy(self) -> bool:
        """Whether the health checks pass, if there are any, and the breaker is closed.

        In a panic an endpoint that is not healthy is chosen all the same.
        """
        return self.checks_pass and not self.breaker.is_open

    def full(self, max_requests: float) -> bool:
        """Whether the endpoint has as many requests in flight as one endpoint may have. Streams do not count."""
        return self.requests >= max_requests

    def available(self, request: "LeaseRequest", context: "PickContext") -> bool:
        """Whether the endpoint may be chosen for a request. full() is written out here: each choice asks this often."""
        return (
            self.is_admitted
            and (self.requests < context.max_requests or request.kind is not HTTP)
            and not (request.tried and self in request.tried)
            and not (context.honours_retry_after and request.now < self.latency.rests_until)
        )

    # ---- what is shown

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, inflight={self.load})"

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """The leases that ended, by outcome; all together are `requests_total`.

        Successes are what is left of the total, so that the most frequent outcome needs no counter of its own.
        """
        others = {
            FAILURE: self.errors_total,
            CLIENT_GONE: self.client_gone_total,
            SUPERSEDED: self.superseded_total,
            IGNORED: self.ignored_total,
        }
        return {SUCCESS: self.requests_total - sum(others.values()), **others}

    def share(self, now: float, slow_start: float) -> float:
        """The share of the normal traffic that the endpoint should get, 0.1 to 1: grows since the endpoint joined.

        Envoy's slow start formula with an aggression of 1.

        Args:
            slow_start: seconds until the share is 1; 0 for at once.
        """
        since = now - self.joined_at
        return 1.0 if since >= slow_start else max(FIRST_SHARE, since / slow_start)


class LeaseRequest(NamedTuple):
    """The caller's question: what a lease is wanted for. Nobody writes to a request.

    A NamedTuple, because a frozen dataclass takes 1.2 µs to make, and this 0.4 µs.

    Attributes:
        now: seconds on any monotonic clock.
        kind: of the lease.
        tried: endpoints that must not be chosen again.
        key: the client or the data, where requests of the same key belong to the same endpoint; b"" for neither.
        pinned: the endpoint that the client's session is bound to; None for any.
        is_repeatable: whether another endpoint can be asked if this one fails: such a request may probe an endpoint.
        has_waited: whether the request has come to the head of the queue.
    """

    now: float
    kind: Kind = Kind.HTTP
    tried: Sequence[Endpoint] = ()
    key: bytes = b""
    pinned: Endpoint | None = None
    is_repeatable: bool = True
    has_waited: bool = False


@dataclass(frozen=True, slots=True)
class PickContext:
    """What a service adds to a request for a lease: the rules of the moment, the same for all requests.

    A service keeps one context and replaces the context when a rule changes (gRPC calls this PickInfo, Envoy
    LoadBalancerContext).

    Attributes:
        max_requests: that an endpoint may have in flight; math.inf for any number.
        slow_start: seconds in which the share of an endpoint that joins grows; 0 if no endpoint is joining.
        honours_retry_after: whether an endpoint that asked to be left alone is left alone.
        in_flight: of the whole service, counted live.
        weight: of all endpoints that are chosen from; > 0.
    """

    max_requests: float = math.inf
    slow_start: float = 0.0
    honours_retry_after: bool = False
    in_flight: InFlight = field(default_factory=InFlight)
    weight: int = 1

    def spares_none(self, request: LeaseRequest) -> bool:
        """Whether every admitted endpoint is available for a request."""
        return not request.tried and not self.honours_retry_after and self.max_requests == math.inf

    def fair_load(self, kind: Kind) -> float:
        """The load for each unit of weight, with one lease more, if the load were spread evenly."""
        return (self.in_flight.load_for(kind) + 1) / self.weight

    def share(self, endpoint: Endpoint, now: float) -> float:
        """The share of the normal traffic that an endpoint should get; see Endpoint.share()."""
        return endpoint.share(now, self.slow_start) if self.slow_start else 1.0

    def stride(self, endpoint: Endpoint, now: float) -> float:
        """What one lease adds to an endpoint's load per weight: 1 / the weight, which slow start makes smaller."""
        return 1 / (endpoint.weight * endpoint.share(now, self.slow_start) if self.slow_start else endpoint.weight)

    def load_per_weight(self, endpoint: Endpoint, request: LeaseRequest) -> float:
        """The load that matters to a request, for each unit of an endpoint's weight."""
        return endpoint.load_for(request.kind) * self.stride(endpoint, request.now)

    def burden(self, endpoint: Endpoint, request: LeaseRequest) -> float:
        """The load per weight, where a second of latency penalty counts as one more."""
        load = endpoint.load_for(request.kind) * self.stride(endpoint, request.now)
        return load + endpoint.latency.penalty(request.now) if endpoint.latency.full_penalty else load
