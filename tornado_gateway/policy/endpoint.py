"""Services, their endpoints, and the lease a request holds on one of them.

A lease begins when an endpoint is chosen and ends, exactly once, with an outcome:

    SUCCESS   the endpoint did its work; an answer below 500 in full
    FAILURE   it did not: no connection, no answer, an answer of 500 and above, a broken body
    IGNORED   the client left: that says nothing about the endpoint

Load is counted from leases, so it cannot drift from what is really in flight. The
latency of an endpoint is its time to the head of a response, never a stream's
duration: a stream of an hour is not a slow answer.

Here the next releases put the breaker beside each endpoint, and health checks and
discovery beside each service.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from tornado_gateway.policy.target import parse_base_url

ALPHA = 0.2  # weight of the newest latency in the moving average; the public score of this gateway's family


class Outcome(Enum):
    """How a lease ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


class Endpoint:
    """One upstream base URL, and what is known about it.

    Attributes:
        url: as configured.
        origin: where its connections lead.
        authority: the Host field of requests to it.
        base_path: kept in front of every target.
        weight: its share of the load relative to others; ≥ 1.
        inflight: leases that have not ended.
        requests_total, errors_total: leases ended with a success or failure, and with a failure.
        ewma: seconds to a response's head, as a moving average; 0 before the first.
        last_latency: seconds of the newest sample; 0 before the first.
    """

    __slots__ = (
        "authority", "base_path", "errors_total", "ewma", "inflight", "last_latency", "origin", "requests_total",
        "url", "weight",
    )  # fmt: skip

    def __init__(self, url: str, weight: int = 1) -> None:
        self.url = url
        self.origin, self.base_path = parse_base_url(url)
        self.authority = self.origin.authority
        self.weight = weight
        self.inflight = self.requests_total = self.errors_total = 0
        self.ewma = self.last_latency = 0.0

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, inflight={self.inflight})"

    def lease(self, now: float) -> "Lease":
        """Count a request in.

        Args:
            now: seconds on any monotonic clock.
        """
        self.inflight += 1
        return Lease(self, now)

    def observe(self, latency: float) -> None:
        """Take a sample of the time to a response's head, in seconds."""
        self.ewma = latency if self.last_latency == 0.0 else self.ewma + ALPHA * (latency - self.ewma)
        self.last_latency = latency


class Lease:
    """A request's hold on an endpoint. Whoever takes one must settle it."""

    __slots__ = ("_since", "_settled", "endpoint")

    def __init__(self, endpoint: Endpoint, now: float) -> None:
        self.endpoint = endpoint
        self._since = now
        self._settled = False

    def answered(self, now: float) -> None:
        """The response's head has come."""
        self.endpoint.observe(now - self._since)

    def settle(self, outcome: Outcome) -> None:
        """Count the request out. A second call changes nothing."""
        if self._settled:
            return
        self._settled = True
        endpoint = self.endpoint
        endpoint.inflight -= 1
        if outcome is not Outcome.IGNORED:
            endpoint.requests_total += 1
            endpoint.errors_total += outcome is Outcome.FAILURE


class Balancer(Protocol):
    """Chooses an endpoint. It may remember what it chose; it changes nothing else."""

    def choose(self, candidates: Sequence[Endpoint]) -> Endpoint:
        """One of the candidates, of which there is at least one."""


@dataclass(slots=True)
class WebSocketTotals:
    """What a service's WebSockets that have ended have carried; up is towards the service.

    Attributes:
        closed: how many have ended.
        close_codes: how often they ended with each code; 1006 stands for no Close at all.
        seconds: that they were open, together.
    """

    closed: int = 0
    messages_up: int = 0
    messages_down: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0
    close_codes: Counter[int] = field(default_factory=Counter)

    def add(self, *, messages: tuple[int, int], wire_bytes: tuple[int, int], seconds: float, close_code: int) -> None:
        """Count one in; pairs are up and down."""
        self.closed += 1
        self.messages_up += messages[0]
        self.messages_down += messages[1]
        self.bytes_up += wire_bytes[0]
        self.bytes_down += wire_bytes[1]
        self.seconds += seconds
        self.close_codes[close_code] += 1


class Service:
    """A named set of endpoints.

    Attributes:
        websockets: what those that have ended have carried.
    """

    __slots__ = ("_balancer", "endpoints", "name", "websockets")

    def __init__(self, name: str, endpoints: Sequence[Endpoint], balancer: Balancer) -> None:
        self.name = name
        self.endpoints = tuple(endpoints)
        self.websockets = WebSocketTotals()
        self._balancer = balancer

    def lease(self, now: float, tried: Collection[Endpoint] = ()) -> Lease | None:
        """Take a lease on an endpoint that was not tried yet; None if all were."""
        candidates = self.endpoints
        if tried:
            candidates = tuple(endpoint for endpoint in candidates if endpoint not in tried)
            if not candidates:
                return None
        chosen = candidates[0] if len(candidates) == 1 else self._balancer.choose(candidates)
        return chosen.lease(now)
