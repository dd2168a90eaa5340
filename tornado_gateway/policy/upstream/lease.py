"""A request's hold on an endpoint, from the choice to the last byte.

A lease ends exactly once, with an outcome:

    SUCCESS       the endpoint did its work
    FAILURE       it did not: no connection, no answer, a status that counts as failure, a broken body
    CLIENT_GONE   the client left first: the endpoint is not to blame, and has the credit of an answer that had begun
    SUPERSEDED    a hedge's other endpoint answered first
    IGNORED       the gateway ended the request by itself

Each lease counts once in its endpoint's totals, whatever the outcome: a rate of errors has all requests below the line.

All that is known about an endpoint is learnt here. A 429 teaches nothing: it says that its user has sent too much
(RFC 6585 §4), which is no reason to keep the requests of others away. An endpoint that has too much to do says 503 (RFC
9110 §15.6.4). Only where BREAKER_STATUSES names 429 is a 429 an endpoint's failure.
"""

import math
from typing import TYPE_CHECKING

from tornado_gateway.policy.upstream.endpoint import (
    CLIENT_GONE,
    FAILURE,
    HTTP,
    SUCCESS,
    SUPERSEDED,
    Endpoint,
    Kind,
    LeaseRequest,
    Outcome,
)

if TYPE_CHECKING:
    from tornado_gateway.policy.upstream.service import Service

HANGS = 5  # requests in a row in which others were quicker; with every twentieth hedged, that is no chance any more
TOO_MANY_REQUESTS = 429
ASK_TO_WAIT = (TOO_MANY_REQUESTS, 503)  # whose Retry-After says how long the endpoint wants to be left alone


class Lease:
    """Whoever takes one must settle it.

    Attributes:
        kind: what it is held for; a request may turn out to be a stream.
    """

    __slots__ = (
        "_is_answered", "_is_declined", "_is_excused", "_is_settled", "_is_unconnected", "_permit", "_seconds",
        "_sent_at", "_service", "_since", "endpoint", "kind",
    )  # fmt: skip

    def __init__(self, service: "Service", endpoint: Endpoint, request: LeaseRequest, *, is_retry: bool) -> None:
        self.endpoint, self.kind = endpoint, request.kind
        self._service, self._since = service, request.now
        self._sent_at = math.inf if service.config.is_long_poll else request.now  # see upload_begins()
        self._seconds: float | None = None  # from there to the head of its answer, if that came after
        self._is_answered = self._is_settled = self._is_unconnected = False
        self._is_declined = False  # the endpoint has said that it cannot do it now
        self._is_excused = False  # that it has not answered says nothing about the endpoint
        breaker = endpoint.breaker
        self._permit = breaker.begin(request.now) if breaker.is_open else breaker.closed_permit
        if self.kind is HTTP:
            endpoint.requests += 1
            service.requests += 1
        else:
            self._count(1)
        if is_retry:
            endpoint.retries_total += 1

    def _count(self, change: int) -> None:
        self.endpoint.count(self.kind, change)
        self._service.count(self.kind, change)

    def upload_begins(self) -> None:
        """A body follows. How long it takes is its client's doing: until its end, no time is the endpoint's."""
        self._sent_at = math.inf

    def upload_ends(self, now: float) -> None:
        """All of the body is on its way."""
        if not self._service.config.is_long_poll:
            self._sent_at = now

    def answered(self, now: float, status: int, retry_after: float = 0.0) -> None:
        """The head of the response has come.

        Args:
            retry_after: seconds that its Retry-After asks for.
        """
        service, latency = self._service, self.endpoint.latency
        self._is_answered = True
        failed = status in service.config.failure_statuses
        self._is_declined = failed or status == TOO_MANY_REQUESTS
        if now >= self._sent_at:
            self._seconds = now - self._sent_at
            if status != TOO_MANY_REQUESTS:
                latency.add(now, self._seconds)
                if service.config.hedges:
                    service.hedging.observe(now, self._seconds)
        if self.endpoint.overtaken:
            self.endpoint.overtaken = 0
        if failed:
            service.penalise(self.endpoint, now, retry_after if status in ASK_TO_WAIT else 0.0)
        elif service.has_penalised and status != TOO_MANY_REQUESTS and latency.clear_penalty(self._since):
            service.clear_penalty(self.endpoint)

    def not_connected(self) -> None:
        """No connection to the endpoint could be made."""
        self._is_unconnected = True

    def timed_out(self) -> None:
        """The endpoint has not begun its answer in time. To a long poll that may be as it should be."""
        self._is_excused = self._service.config.is_long_poll

    def outrun(self, now: float) -> None:
        """Another endpoint has answered: this one takes at least as long as it has taken until now."""
        seconds, latency = now - self._since, self.endpoint.latency
        if not self._is_answered and not self._is_settled and seconds > latency.average:
            latency.add(now, seconds)
        self.settle(SUPERSEDED, now)

    def overtaken(self, now: float) -> None:
        """One that was asked later has answered before. An endpoint to whose every request that happens hangs."""
        if not self._is_answered and not self._is_settled:
            self.endpoint.window.observe(now, now - self._since)
            self._service.hedging.observe(now, now - self._since)
            self.endpoint.overtaken += 1
            if self.endpoint.overtaken >= HANGS:
                self.settle(FAILURE, now)
        self.outrun(now)

    def becomes(self, kind: Kind, now: float) -> None:
        """It is a stream, and has begun: that alone is what its endpoint was asked to show."""
        if self._is_settled:
            return
        if self._permit > 0:
            self._tell_breaker(now, failed=False)
            self._permit = self.endpoint.breaker.closed_permit  # that it dies later counts too
        if kind is not self.kind:
            self._count(-1)
            self.kind = kind
            self._count(1)
            self._service.make_room()

    def settle(self, outcome: Outcome, now: float) -> None:
        """Count the request out. A second call changes nothing."""
        if self._is_settled:
            return
        self._is_settled = True
        self.endpoint.requests_total += 1
        if self.kind is HTTP:
            self.endpoint.requests -= 1
            self._service.requests -= 1
        else:
            self._count(-1)
        if outcome is SUCCESS:
            self._succeed(now)
        elif outcome is FAILURE:
            self._fail(now)
        else:
            self._end_undecided(outcome, now)
        if self._service.queue.waiting:
            self._service.make_room()

    def _succeed(self, now: float) -> None:
        service, endpoint, breaker = self._service, self.endpoint, self.endpoint.breaker
        endpoint.window.add(now, self._seconds)
        if breaker.is_open or breaker.watches_shares:
            self._tell_breaker(now, failed=False)
        else:
            breaker.requests += 1
        if service.limit and self.kind is HTTP and not self._is_declined:
            service.learn(self._sent_at, self._seconds)

    def _fail(self, now: float) -> None:
        endpoint = self.endpoint
        endpoint.errors_total += 1
        endpoint.window.add(now, self._seconds, failed=True)
        endpoint.is_unreachable = self._is_unconnected
        if not self._is_answered:
            endpoint.unanswered_total += 1
        if self._is_excused:
            self._tell_breaker(now, failed=None)
            return
        if not self._is_answered:
            self._service.penalise(endpoint, now)
        self._tell_breaker(now, failed=True)

    def _end_undecided(self, outcome: Outcome, now: float) -> None:
        """Neither well nor badly. A probe decides nothing then; another request whose good answer had begun is one of
        the many that did not fail, of which a breaker's shares are taken."""
        endpoint = self.endpoint
        if outcome is CLIENT_GONE:
            endpoint.client_gone_total += 1
        elif outcome is SUPERSEDED:
            endpoint.superseded_total += 1
        else:
            endpoint.ignored_total += 1
        endpoint.window.add(now, self._seconds)
        is_good = outcome is CLIENT_GONE and self._is_answered and not self._is_declined and self._permit <= 0
        self._tell_breaker(now, failed=False if is_good else None)

    def _tell_breaker(self, now: float, *, failed: bool | None) -> None:
        seconds = self._seconds
        if seconds is None:
            seconds = 0.0 if self._is_answered else max(0.0, now - self._sent_at)  # no answer is the slowest of all
        self._service.tell_breaker(self.endpoint, self._permit, now, failed=failed, seconds=seconds, since=self._since)
