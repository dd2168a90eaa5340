"""A request's hold on an endpoint, from the choice to the last byte.

A lease ends exactly once, with an outcome:

    SUCCESS   the endpoint did its work
    FAILURE   it did not: no connection, no answer, a status that counts as failure, a broken body
    IGNORED   the client left, or the gateway refused: that says nothing about the endpoint

All that is known about an endpoint is learnt here.
"""

from typing import TYPE_CHECKING

from tornado_gateway.policy.endpoint import FAILURE, HTTP, IGNORED, SUCCESS, Ask, Endpoint, Kind, Outcome

if TYPE_CHECKING:
    from tornado_gateway.policy.service import Service

HANGS = 5  # requests in a row in which others were quicker; with every twentieth hedged, that is no chance any more
TOO_MANY_REQUESTS = 429
SERVICE_UNAVAILABLE = 503


class Lease:
    """Whoever takes one must settle it.

    Attributes:
        kind: what it is held for; a request may turn out to be a stream.
    """

    __slots__ = ("_is_settled", "_permit", "_seconds", "_service", "_since", "endpoint", "kind")

    def __init__(self, service: "Service", endpoint: Endpoint, ask: Ask, *, is_retry: bool) -> None:
        self.endpoint, self.kind = endpoint, ask.kind
        self._service, self._since = service, ask.now
        self._seconds: float | None = None  # until the head of its answer
        self._is_settled = False
        breaker = endpoint.breaker
        self._permit = breaker.begin(ask.now) if breaker.is_open else breaker.ordinary
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

    def answered(self, now: float, status: int, retry_after: float = 0.0) -> None:
        """The head of the response has come.

        Args:
            retry_after: seconds that its Retry-After asks for.
        """
        service, latency = self._service, self.endpoint.latency
        seconds = self._seconds = now - self._since
        latency.add(now, seconds)
        if self.endpoint.overtaken:
            self.endpoint.overtaken = 0
        if status == TOO_MANY_REQUESTS or status in service.config.failure_statuses:
            wish = retry_after if status in (TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE) else 0.0
            service.doubt(self.endpoint, now, wish)
        elif service.has_doubts and latency.absolve(self._since):
            service.trust(self.endpoint)

    def outrun(self, now: float) -> None:
        """Another endpoint has answered: this one takes at least as long as it has taken until now."""
        seconds, latency = now - self._since, self.endpoint.latency
        if self._seconds is None and not self._is_settled and seconds > latency.average:
            latency.add(now, seconds)
        self.settle(IGNORED, now)

    def overtaken(self, now: float) -> None:
        """One that was asked later has answered before. An endpoint to whose every request that happens hangs."""
        if self._seconds is None and not self._is_settled:
            self.endpoint.window.observe(now, now - self._since)
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
            self._permit = self.endpoint.breaker.ordinary  # that it dies later counts too
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
            self._tell_breaker(now, failed=None)
        if self._service.queue.waiting:
            self._service.make_room()

    def _succeed(self, now: float) -> None:
        service, endpoint, breaker = self._service, self.endpoint, self.endpoint.breaker
        endpoint.requests_total += 1
        endpoint.window.add(now, self._seconds)
        if breaker.is_open or breaker.watches_shares:
            self._tell_breaker(now, failed=False)
        else:
            breaker.requests += 1
        if service.limit and self.kind is HTTP:
            service.learn(self._since, self._seconds)

    def _fail(self, now: float) -> None:
        endpoint = self.endpoint
        endpoint.requests_total += 1
        endpoint.errors_total += 1
        endpoint.window.add(now, self._seconds, failed=True)
        if self._seconds is None:
            endpoint.unanswered_total += 1
            self._service.doubt(endpoint, now)
        self._tell_breaker(now, failed=True)

    def _tell_breaker(self, now: float, *, failed: bool | None) -> None:
        seconds = now - self._since if self._seconds is None else self._seconds  # no answer is the slowest of all
        self._service.tell_breaker(self.endpoint, self._permit, now, failed=failed, seconds=seconds)
