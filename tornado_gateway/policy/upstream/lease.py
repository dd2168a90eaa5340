"""A request's hold on an endpoint, from the choice to the last byte.

A lease ends exactly once, with an outcome:

    SUCCESS       the endpoint did its work
    FAILURE       it did not: no connection, no answer, a status that counts as failure, a broken body
    CLIENT_GONE   the client left first: the endpoint is not to blame, and has the credit of an answer that had begun
    SUPERSEDED    a hedge's other endpoint answered first
    IGNORED       the gateway ended the request by itself

Each lease counts once in its endpoint's totals, whatever the outcome: an error rate has all requests below the line.
A lease notes what happens to its request; policy/upstream/outcomes.py decides what that teaches.
"""

import math
from typing import Protocol

from tornado_gateway.policy.upstream.endpoint import (
    FAILURE,
    HTTP,
    SUCCESS,
    SUPERSEDED,
    Endpoint,
    Kind,
    LeaseRequest,
    Outcome,
)
from tornado_gateway.policy.upstream.outcomes import Outcomes, Trial
from tornado_gateway.policy.upstream.wait_queue import Queue


class Lessor(Protocol):
    """What a lease needs of the service that grants the lease.

    Attributes:
        requests: in flight.
        outcomes: what the service learns from leases.
        queue: requests that wait for room.
    """

    requests: int
    outcomes: Outcomes
    queue: Queue

    def count(self, kind: Kind, change: int) -> None:
        """See InFlight."""

    def make_room(self) -> None:
        """A request has ended: let as many requests go on as there is room for."""


class Lease(Trial):
    """The holder of a lease must settle the lease. For attributes see Trial."""

    __slots__ = ("_is_settled", "_lessor")

    def __init__(self, lessor: Lessor, endpoint: Endpoint, request: LeaseRequest, *, is_retry: bool) -> None:
        self.endpoint, self.kind, self.since = endpoint, request.kind, request.now
        self._lessor = lessor
        self.sent_at = math.inf if lessor.outcomes.config.is_long_poll else request.now
        self.seconds = None
        self.is_answered = self.is_declined = self.is_excused = self.is_unconnected = self._is_settled = False
        breaker = endpoint.breaker
        self.permit = breaker.begin(request.now) if breaker.is_open else breaker.closed_permit
        if self.kind is HTTP:
            endpoint.requests += 1
            lessor.requests += 1
        else:
            self._count(1)
        if is_retry:
            endpoint.retries_total += 1

    def _count(self, change: int) -> None:
        self.endpoint.count(self.kind, change)
        self._lessor.count(self.kind, change)

    def upload_begins(self) -> None:
        """A body follows. The client decides how long the body takes, so no time is the endpoint's until its end."""
        self.sent_at = math.inf

    def upload_ends(self, now: float) -> None:
        """The whole body is on its way."""
        if not self._lessor.outcomes.config.is_long_poll:
            self.sent_at = now

    def answered(self, now: float, status: int, retry_after: float = 0.0) -> None:
        """The head of the response has come.

        Args:
            retry_after: seconds that the response's Retry-After asks for.
        """
        self._lessor.outcomes.answered(self, now, status, retry_after)

    def not_connected(self) -> None:
        """No connection to the endpoint could be made."""
        self.is_unconnected = True

    def timed_out(self) -> None:
        """The endpoint has not begun its answer in time. To a long poll that may be as it should be."""
        self.is_excused = self._lessor.outcomes.config.is_long_poll

    def outrun(self, now: float) -> None:
        """Another endpoint has answered first: this endpoint takes at least as long as it has taken until now."""
        seconds, latency = now - self.since, self.endpoint.latency
        if not self.is_answered and not self._is_settled and seconds > latency.average:
            latency.add(now, seconds)
        self.settle(SUPERSEDED, now)

    def overtaken(self, now: float) -> None:
        """A hedge, asked later, has answered first."""
        if not self.is_answered and not self._is_settled and self._lessor.outcomes.lost_to_hedge(self, now) is FAILURE:
            self.settle(FAILURE, now)
        self.outrun(now)

    def becomes(self, kind: Kind, now: float) -> None:
        """The request is a stream, and the stream has begun: that alone is what a probe was to show."""
        if self._is_settled:
            return
        if self.permit > 0:
            self._lessor.outcomes.tell_breaker(self, now, failed=False)
            self.permit = self.endpoint.breaker.closed_permit  # that the stream dies later counts too
        if kind is not self.kind:
            self._count(-1)
            self.kind = kind
            self._count(1)
        self._lessor.make_room()

    def settle(self, outcome: Outcome, now: float) -> None:
        """Count the request out. A second call changes nothing."""
        if self._is_settled:
            return
        self._is_settled = True
        lessor = self._lessor
        self.endpoint.requests_total += 1
        if self.kind is HTTP:
            self.endpoint.requests -= 1
            lessor.requests -= 1
        else:
            self._count(-1)
        if outcome is SUCCESS:
            lessor.outcomes.succeeded(self, now)
        elif outcome is FAILURE:
            lessor.outcomes.failed(self, now)
        else:
            lessor.outcomes.ended_undecided(self, outcome, now)
        if lessor.queue.waiting:
            lessor.make_room()
