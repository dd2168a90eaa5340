"""The input of a choice: endpoints, the request for a lease (LeaseRequest), and the service's rules (PickContext).

An endpoint's load is the number of leases that have not ended, so the load cannot drift from the requests in flight.
Leases are counted by kind: an event stream of an hour is no slow request. Streams count as load; the duration of a
stream never counts as latency.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tornado_gateway.policy.histogram import Histogram
from tornado_gateway.policy.http.target import canonical_url, parse_base_url
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.connection_config import AS_HOST, UpstreamTLSConfig
from tornado_gateway.policy.upstream.latency import Latency
from tornado_gateway.policy.upstream.statistics import Window

FIRST_SHARE = 0.1  # share of the normal traffic at the start of slow start; Envoy's min_weight_percent


class Kind(Enum):
    """The purpose of a lease: a request, an event stream, or a WebSocket."""

    HTTP = "http"
    SSE = "sse"
    WS = "ws"

    __hash__ = object.__hash__  # Enum's own is written in Python: it cost a request 1 µs


class Outcome(Enum):
    """How a lease ended. Only SUCCESS and FAILURE judge the endpoint.

    Attributes:
        SUCCESS: the endpoint did the work.
        FAILURE: the endpoint failed to do the work.
        CLIENT_GONE: the client left first.
        SUPERSEDED: the request was hedged, and the other endpoint answered first.
        IGNORED: the gateway ended the request: by a limit, at shutdown, or because the request is malformed; or a
            hedge's kept connection had just ended.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    CLIENT_GONE = "client_gone"
    SUPERSEDED = "superseded"
    IGNORED = "ignored"

    __hash__ = object.__hash__  # see Kind


# A look-up of a member in the class costs five times as much (3.11), some twenty times per request.
HTTP, SSE, WS = Kind
SUCCESS, FAILURE, CLIENT_GONE, SUPERSEDED, IGNORED = Outcome


class InFlight:
    """Leases that have not ended, counted by kind.

    Attributes:
        requests, event_streams, websockets: leases of Kind HTTP, SSE and WS.
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
        """The leases of every kind."""
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
        """The load as seen by a new lease of a kind: for a stream, all leases; for a request, requests only.

        A hundred silent streams are no queue of a hundred requests.
        """
        return self.requests if kind is HTTP else self.requests + self.event_streams + self.websockets


class Endpoint(InFlight):
    """One upstream base URL, with the state and the figures of the endpoint.

    Attributes:
        url: as configured; for a discovered endpoint, with the address behind "#".
        origin: the destination of connections.
        identity: canonical form of `url`; all gateways use the identity in hashes and sticky cookies.
        authority: the Host field of requests.
        base_path: prefix of every request target.
        weight: relative share of the load; 0: no new requests.
        breaker, latency, window: what the endpoint's answers have shown.
        checks_pass: whether health checks pass; True without checks.
        last_check: result of the newest health check, in words; "" before the first.
        last_failure: the newest failure of a request, as the access log names the reason, or as a status; "" for none.
        is_admitted: whether new requests may be sent to the endpoint; set by the EndpointSet.
        is_ejected: whether the endpoint is ejected by the breaker; not every endpoint with an open breaker is.
        is_unreachable: whether the newest failure was a failed connection.
        joined_at: instant at which slow start began; -math.inf without slow start.
        requests_total: leases that ended.
        errors_total, client_gone_total, superseded_total, ignored_total: leases that ended with FAILURE, CLIENT_GONE,
            SUPERSEDED, IGNORED.
        unanswered_total: failures without a response (Envoy: local-origin failures).
        hedges_lost: consecutive requests that a hedge answered first.
        retries_total: leases for a retry or a hedge.
        answers: heads of responses by the first digit of the status; the first item is unused.
        heads: seconds from a request to the head of the response, where these are a latency.
        checks_passed, checks_failed: health checks and probes by their results.
        dialled, reused: requests sent over a new connection, and over a kept connection.
    """

    __slots__ = (
        "answers", "authority", "base_path", "breaker", "checks_failed", "checks_pass", "checks_passed",
        "client_gone_total", "dialled", "errors_total", "heads", "hedges_lost", "identity", "ignored_total",
        "is_admitted", "is_ejected", "is_unreachable", "joined_at", "last_check", "last_failure", "latency", "origin",
        "requests_total", "retries_total", "reused", "superseded_total", "unanswered_total", "url", "weight", "window",
    )  # fmt: skip

    def __init__(
        self, url: str, breaker: Breaker, weight: int = 1, now: float = 0.0, tls: UpstreamTLSConfig = AS_HOST
    ) -> None:
        super().__init__()
        self.url = url
        origin, self.base_path = parse_base_url(url)
        self.origin = origin.over(tls)
        self.identity = canonical_url(self.origin, self.base_path)
        self.authority = self.origin.authority
        self.weight = weight
        self.breaker = breaker
        self.latency = Latency()
        self.window = Window(now)
        self.checks_pass = self.is_admitted = True
        self.is_ejected = self.is_unreachable = False
        self.last_check = self.last_failure = ""
        self.joined_at = -math.inf
        self.hedges_lost = 0
        self.requests_total = self.errors_total = self.unanswered_total = self.retries_total = 0
        self.client_gone_total = self.superseded_total = self.ignored_total = 0
        self.checks_passed = self.checks_failed = self.dialled = self.reused = 0
        self.answers = [0] * 10
        self.heads = Histogram()

    def reconfigure(self, breaker: BreakerConfig, tls: UpstreamTLSConfig) -> None:
        """Use other rules. The state of the breaker and the connections in use stay."""
        self.breaker.reconfigure(breaker)
        self.origin = self.origin.over(tls)

    # ---- availability

    @property
    def healthy(self) -> bool:
        """Whether health checks pass (or there are none) and the breaker is closed.

        In a panic, an unhealthy endpoint may be chosen too.
        """
        return self.checks_pass and not self.breaker.is_open

    def full(self, max_requests: float) -> bool:
        """Whether the endpoint has the largest allowed number of requests in flight. Streams do not count."""
        return self.requests >= max_requests

    def available(self, request: "LeaseRequest", context: "PickContext") -> bool:
        """Whether the endpoint may be chosen for a request. full() is inlined: a choice calls this method often."""
        return (
            self.is_admitted
            and (self.requests < context.max_requests or request.kind is not HTTP)
            and not (request.tried and self in request.tried)
            and not (context.honours_retry_after and request.now < self.latency.rests_until)
        )

    # ---- figures

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, inflight={self.load})"

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """The leases that ended, by outcome; the sum is `requests_total`.

        SUCCESS is the rest of the total, so that the most frequent outcome needs no counter.
        """
        others = {
            FAILURE: self.errors_total,
            CLIENT_GONE: self.client_gone_total,
            SUPERSEDED: self.superseded_total,
            IGNORED: self.ignored_total,
        }
        return {SUCCESS: self.requests_total - sum(others.values()), **others}

    def share(self, now: float, slow_start: float) -> float:
        """The share of the normal traffic during slow start, 0.1 to 1: Envoy's formula with an aggression of 1.

        Args:
            slow_start: seconds until the share is 1; 0: no slow start.
        """
        since = now - self.joined_at
        return 1.0 if since >= slow_start else max(FIRST_SHARE, since / slow_start)


@dataclass(slots=True, eq=False)
class LeaseRequest:
    """The caller's request for a lease (gRPC: PickInfo). The type checker lets nothing write to a request.

    Not frozen: a frozen dataclass takes three times as long to make. No NamedTuple: CPython 3.11 makes a NamedTuple in
    1.5 times the instructions, and reads a field in three times the instructions.

    Attributes:
        now: seconds on any monotonic clock.
        kind: kind of the lease.
        tried: endpoints that must not be chosen again.
        key: requests with the same key belong to the same endpoint; b"" without a key.
        pinned: the endpoint that the client's session is bound to; None for any endpoint.
        is_repeatable: whether the request can be sent again after a failure; such a request may probe an endpoint.
        has_waited: whether the request has come to the head of the queue.
    """

    now: Final[float]
    kind: Final[Kind] = Kind.HTTP
    tried: Final[Sequence[Endpoint]] = ()
    key: Final[bytes] = b""
    pinned: Final[Endpoint | None] = None
    is_repeatable: Final[bool] = True
    has_waited: Final[bool] = False


@dataclass(frozen=True, slots=True)
class PickContext:
    """The service's present rules for a choice, the same for all requests (Envoy: LoadBalancerContext).

    A service keeps one context, and replaces the context when a rule changes.

    Attributes:
        max_requests: requests that an endpoint may have in flight; math.inf: no limit.
        slow_start: seconds of slow start; 0 while no endpoint is joining.
        honours_retry_after: whether an endpoint gets no requests while its Retry-After runs.
        in_flight: leases of the whole service, counted live.
        weight: total weight of the endpoints to choose from; > 0.
    """

    max_requests: float = math.inf
    slow_start: float = 0.0
    honours_retry_after: bool = False
    in_flight: InFlight = field(default_factory=InFlight)
    weight: int = 1

    def spares_none(self, request: LeaseRequest) -> bool:
        """Whether every admitted endpoint is certainly available for a request."""
        return not request.tried and not self.honours_retry_after and self.max_requests == math.inf

    def fair_load(self, kind: Kind) -> float:
        """The load per weight that each endpoint would have at an even distribution, counting the lease to come."""
        return (self.in_flight.load_for(kind) + 1) / self.weight

    def share(self, endpoint: Endpoint, now: float) -> float:
        """The share of the normal traffic during slow start; see Endpoint.share()."""
        return endpoint.share(now, self.slow_start) if self.slow_start else 1.0

    def stride(self, endpoint: Endpoint, now: float) -> float:
        """What one lease adds to an endpoint's load per weight: 1 / weight, more during slow start."""
        return 1 / (endpoint.weight * endpoint.share(now, self.slow_start) if self.slow_start else endpoint.weight)

    def load_per_weight(self, endpoint: Endpoint, request: LeaseRequest) -> float:
        """The load as seen by a request, per unit of weight; see InFlight.load_for()."""
        return endpoint.load_for(request.kind) * self.stride(endpoint, request.now)

    def burden(self, endpoint: Endpoint, request: LeaseRequest) -> float:
        """The load per weight, plus 1 for each second of latency penalty."""
        load = endpoint.load_for(request.kind) * self.stride(endpoint, request.now)
        return load + endpoint.latency.penalty(request.now) if endpoint.latency.full_penalty else load
