"""An endpoint, and all that is known about it that a choice may depend on.

Load is what is held (policy/upstream/service.py's leases), so it cannot drift from what is in flight. It is
counted by kind, because a stream of an hour is not a slow request: streams count
as load, their durations never as latency.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

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
        """How much it is, whatever it is."""
        return self.requests + self.event_streams + self.websockets


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
        is_healthy: whether its health checks pass; True while there are none.
        last_check: what the newest check has shown, in words; "" before the first.
        is_usable: whether new requests may be sent here now; its service decides.
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
        "is_healthy", "is_unreachable", "is_usable", "joined_at", "last_check", "latency", "origin", "overtaken",
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
        self.is_healthy = self.is_usable = True
        self.is_ejected = self.is_unreachable = False
        self.last_check = ""
        self.joined_at = -math.inf
        self.overtaken = 0
        self.requests_total = self.errors_total = self.unanswered_total = self.retries_total = 0
        self.client_gone_total = self.superseded_total = self.ignored_total = 0

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against it: its health checks pass, if there are any, and its breaker is closed.

        In a panic the endpoint may be used all the same.
        """
        return self.is_healthy and not self.breaker.is_open

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
        """How much of its normal traffic it should get: it grows with the time since it joined.

        Envoy's formula with an aggression of 1.

        Args:
            slow_start: seconds until it gets all of it; 0 for at once.
        """
        since = now - self.joined_at
        return 1.0 if since >= slow_start else max(FIRST_SHARE, since / slow_start)


@dataclass(slots=True)
class Ask:
    """What an endpoint is wanted for.

    Attributes:
        now: seconds on any monotonic clock.
        kind: of the lease.
        tried: endpoints that must not be chosen again.
        key: what stands for the client or its data, where requests of the same key belong together; b"" for nothing.
        pinned: the endpoint that its client belongs to; None for any.
        is_repeatable: whether another endpoint can be asked if this one fails: such a request may probe.
        has_waited: whether it is its turn among those that wait.
        most: requests that an endpoint may have in flight.
        slow_start: seconds in which endpoints that join get their share; 0 if none of them does.
        heeds_wishes: whether endpoints that have asked to be left alone for a while are.
        fair_load: what of its kind is in flight for each unit of weight, with this one, if it were spread evenly.
    """

    now: float
    kind: Kind = Kind.HTTP
    tried: Sequence[Endpoint] = ()
    key: bytes = b""
    pinned: Endpoint | None = None
    is_repeatable: bool = True
    has_waited: bool = False
    most: float = math.inf
    slow_start: float = 0.0
    heeds_wishes: bool = False
    fair_load: float = 1.0

    def admits(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint may be chosen."""
        return (
            endpoint.is_usable
            and endpoint.requests < self.most
            and not (self.tried and endpoint in self.tried)
            and not (self.heeds_wishes and self.now < endpoint.latency.rests_until)
        )

    @property
    def is_free(self) -> bool:
        """Whether every endpoint that can be used may be chosen."""
        return not self.tried and not self.heeds_wishes and self.most == math.inf

    def share(self, endpoint: Endpoint) -> float:
        """How much of its normal traffic an endpoint should get; see its `share()`."""
        return endpoint.share(self.now, self.slow_start) if self.slow_start else 1.0

    def held(self, endpoint: Endpoint) -> int:
        """How much an endpoint has in flight, seen by who wants something of it.

        To a stream, requests and streams are the same. To a request, streams are nothing: a hundred that are
        silent are no queue of a hundred.
        """
        return endpoint.requests if self.kind is HTTP else endpoint.load

    def stride(self, endpoint: Endpoint) -> float:
        """What one request is to an endpoint: its part of the weight that the endpoint has now."""
        return 1 / (endpoint.weight * endpoint.share(self.now, self.slow_start) if self.slow_start else endpoint.weight)

    def burden(self, endpoint: Endpoint) -> float:
        """What an endpoint has in flight for each unit of weight; a second of penalty counts as one more."""
        held = self.held(endpoint) * self.stride(endpoint)
        return held + endpoint.latency.penalty(self.now) if endpoint.latency.blame else held

    def crowd(self, endpoint: Endpoint) -> float:
        """What an endpoint has in flight for each unit of weight."""
        return self.held(endpoint) * self.stride(endpoint)
