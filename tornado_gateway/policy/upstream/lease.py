"""A request's hold on an endpoint, from the choice to the last byte.

A lease ends exactly once, with an outcome:

    SUCCESS       the endpoint did the work
    FAILURE       no connection, no answer, a status that counts as failure, or a broken body
    CLIENT_GONE   the client left first; a good answer that had begun still counts for the endpoint
    SUPERSEDED    the request was hedged, and the other endpoint answered first
    IGNORED       the gateway ended the request

Each lease counts once in the endpoint's totals, whatever the outcome: the denominator of an error rate is all requests.
A lease records the events of a request; policy/upstream/outcomes.py decides what an outcome changes.
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
    """The part of a service that a lease uses.

    Attributes:
        requests: requests in flight.
        outcomes: learns from leases.
        queue: requests that wait for room.
    """

    requests: int
    outcomes: Outcomes
    queue: Queue

    def count(self, kind: Kind, change: int) -> None:
        """See InFlight.count()."""

    def make_room(self) -> None:
        """See Service.make_room()."""


class Lease(Trial):
    """A request's hold on an endpoint. The holder must call settle(). Attributes: see Trial."""

    __slots__ = ("_is_settled", "_lessor")

    def __init__(self, lessor: Lessor, endpoint: Endpoint, request: LeaseRequest, is_retry: bool) -> None:
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
        """A body follows. The client sets the pace of the body, so the latency counts from the end of the body."""
        self.sent_at = math.inf

    def upload_ends(self, now: float) -> None:
        """The whole body was sent."""
        if not self._lessor.outcomes.config.is_long_poll:
            self.sent_at = now

    def answered(self, now: float, status: int, retry_after: float = 0.0) -> None:
        """The head of the response has come.

        Args:
            retry_after: seconds that the response's Retry-After asks for.
        """
        self._lessor.outcomes.answered(self, now, status, retry_after)

    def failed_by(self, reason: str) -> None:
        """The request has failed without a whole response, for a reason of the access log."""
        self.endpoint.last_failure = reason

    def not_connected(self) -> None:
        """No connection to the endpoint could be made."""
        self.is_unconnected = True

    def timed_out(self) -> None:
        """No head has come in time. That excuses the endpoint of a long poll."""
        self.is_excused = self._lessor.outcomes.config.is_long_poll

    def supersede(self, now: float) -> None:
        """Another endpoint has answered first. The time until now is a lower bound of this endpoint's latency."""
        seconds, latency = now - self.since, self.endpoint.latency
        if not self.is_answered and not self._is_settled and seconds > latency.average:
            latency.add(now, seconds)
        self.settle(SUPERSEDED, now)

    def lose_to_hedge(self, now: float) -> None:
        """A hedge has answered first, although the hedge was sent later."""
        if not self.is_answered and not self._is_settled and self._lessor.outcomes.lost_to_hedge(self, now) is FAILURE:
            self.settle(FAILURE, now)
        self.supersede(now)

    def becomes(self, kind: Kind, now: float) -> None:
        """A stream has begun: count the lease by the new kind, and end a probe with success."""
        if self._is_settled:
            return
        if self.permit > 0:
            self._lessor.outcomes.tell_breaker(self, now, failed=False)
            self.permit = self.endpoint.breaker.closed_permit  # a later failure of the stream counts too
        if kind is not self.kind:
            self._count(-1)
            self.kind = kind
            self._count(1)
        self._lessor.make_room()

    def settle(self, outcome: Outcome, now: float) -> None:
        """End the lease with an outcome. A second call changes nothing."""
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
