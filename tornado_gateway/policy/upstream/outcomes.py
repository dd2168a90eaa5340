"""Outcomes: what the outcome of a request changes in the state of an endpoint and of the service.

    endpoint   latency, window of the last minute, breaker, penalty
    service    delay of a hedge, adaptive limit of the requests in flight

A 429 changes nothing: one user has sent too many requests (RFC 6585 §4), and the requests of other users may still go
to the endpoint. An overloaded endpoint answers 503 (RFC 9110 §15.6.4). A 429 is a failure of the endpoint only if
BREAKER_STATUSES names 429.
"""

import math
from bisect import bisect_left
from collections.abc import Callable

from tornado_gateway.policy.histogram import SECONDS
from tornado_gateway.policy.upstream.concurrency import AdaptiveLimit
from tornado_gateway.policy.upstream.endpoint import (
    CLIENT_GONE,
    FAILURE,
    HTTP,
    SUCCESS,
    SUPERSEDED,
    Endpoint,
    InFlight,
    Kind,
    Outcome,
)
from tornado_gateway.policy.upstream.endpoint_set import EndpointSet
from tornado_gateway.policy.upstream.hedging import Hedging
from tornado_gateway.policy.upstream.service_config import ServiceConfig

HANGS = 5  # consecutive requests lost to a hedge. Only 5 % of requests are hedged, so five in a row are not chance.
TOO_MANY_REQUESTS = 429
ASK_TO_WAIT = (TOO_MANY_REQUESTS, 503)  # statuses whose Retry-After makes the endpoint rest


class Trial:
    """What a request has shown so far about an endpoint.

    Attributes:
        kind: kind of the lease; becomes SSE or WS when a stream begins.
        permit: of the endpoint's breaker.
        since: when the lease was taken.
        sent_at: when the request was sent; math.inf while a body is being sent and for long polls: no latency.
        seconds: from sent_at to the head of the response; None before the head, or without a latency.
        is_answered: whether the head of the response has come.
        is_declined: whether the status is 429 or counts as a failure.
        is_excused: whether a missing answer says nothing about the endpoint.
        is_unconnected: whether no connection could be made.
    """

    __slots__ = (
        "endpoint", "is_answered", "is_declined", "is_excused", "is_unconnected", "kind", "permit", "seconds",
        "sent_at", "since",
    )  # fmt: skip

    endpoint: Endpoint
    kind: Kind
    permit: int
    since: float
    sent_at: float
    seconds: float | None
    is_answered: bool
    is_declined: bool
    is_excused: bool
    is_unconnected: bool


class Outcomes:
    """Applies the outcomes of a service's requests.

    Args:
        endpoints: endpoints of the service.
        limit: adaptive limit of the requests in flight; None without a limit.
        in_flight: leases of the whole service, counted live.

    Attributes:
        config: configuration of the service.
        hedging: the service's latencies, and the number of hedged requests.
        limit: see above.
        tell_breaker_of: tells other processes of a breaker that has changed; None if there are none.
    """

    __slots__ = ("_endpoints", "_in_flight", "_probing", "config", "hedging", "limit", "tell_breaker_of")

    def __init__(
        self, config: ServiceConfig, endpoints: EndpointSet, limit: AdaptiveLimit | None, in_flight: InFlight
    ) -> None:
        self.config, self.limit = config, limit
        self.hedging = Hedging()
        self.tell_breaker_of: Callable[[Endpoint], None] | None = None
        self._endpoints, self._in_flight, self._probing = endpoints, in_flight, endpoints.probing

    def reconfigure(self, config: ServiceConfig, limit: AdaptiveLimit | None) -> None:
        """Use another configuration and limit."""
        self.config, self.limit = config, limit

    def judge(self, status: int) -> Outcome:
        """The outcome of a whole response with this status."""
        return FAILURE if status in self.config.failure_statuses else SUCCESS

    def answered(self, trial: Trial, now: float, status: int, retry_after: float) -> None:
        """The head of the response has come.

        Args:
            retry_after: seconds that the response's Retry-After asks for.
        """
        endpoint, config, is_429 = trial.endpoint, self.config, status == TOO_MANY_REQUESTS
        latency = endpoint.latency
        trial.is_answered = True
        endpoint.answers[status // 100] += 1
        failed = status in config.failure_statuses
        trial.is_declined = failed or is_429
        if now >= trial.sent_at:
            seconds = trial.seconds = now - trial.sent_at
            heads = endpoint.heads
            heads.counts[bisect_left(SECONDS, seconds)] += 1
            heads.total += seconds
            if not is_429:
                latency.add(now, seconds)
                if config.hedges:
                    self.hedging.observe(now, seconds)
        if endpoint.hedges_lost:
            endpoint.hedges_lost = 0
        if failed:
            endpoint.last_failure = f"status {status}"
            self._endpoints.penalise(endpoint, now, retry_after if status in ASK_TO_WAIT else 0.0)
        elif self._probing.penalised and not is_429 and latency.clear_penalty(trial.since):
            self._probing.clear_penalty(endpoint)

    def lost_to_hedge(self, trial: Trial, now: float) -> Outcome:
        """A hedge has answered first. After HANGS of these in a row the endpoint counts as hanging: a failure.

        Returns:
            The outcome of the request.
        """
        endpoint, seconds = trial.endpoint, now - trial.since
        endpoint.window.observe(now, seconds)
        self.hedging.observe(now, seconds)
        endpoint.hedges_lost += 1
        return FAILURE if endpoint.hedges_lost >= HANGS else SUPERSEDED

    def succeeded(self, trial: Trial, now: float) -> None:
        """The request has ended with SUCCESS."""
        endpoint, breaker = trial.endpoint, trial.endpoint.breaker
        endpoint.window.add(now, trial.seconds)
        if breaker.is_open or breaker.watches_shares:
            self.tell_breaker(trial, now, failed=False)
        else:
            breaker.requests += 1
        if self.limit and trial.seconds is not None and trial.kind is HTTP and not trial.is_declined:
            self.limit.add(trial.sent_at + trial.seconds, trial.seconds, self._in_flight.requests + 1)

    def failed(self, trial: Trial, now: float) -> None:
        """The request has ended with FAILURE."""
        endpoint = trial.endpoint
        endpoint.errors_total += 1
        endpoint.window.add(now, trial.seconds, failed=True)
        endpoint.is_unreachable = trial.is_unconnected
        if not trial.is_answered:
            endpoint.unanswered_total += 1
        if trial.is_excused:
            self.tell_breaker(trial, now, failed=None)
            return
        if not trial.is_answered:
            self._endpoints.penalise(endpoint, now)
        self.tell_breaker(trial, now, failed=True)

    def ended_undecided(self, trial: Trial, outcome: Outcome, now: float) -> None:
        """The request has ended with another outcome; a probe decides nothing.

        If the client left during a good response to a request that was no probe, the breaker counts the request among
        the requests that did not fail.
        """
        endpoint = trial.endpoint
        if outcome is CLIENT_GONE:
            endpoint.client_gone_total += 1
        elif outcome is SUPERSEDED:
            endpoint.superseded_total += 1
        else:
            endpoint.ignored_total += 1
        endpoint.window.add(now, trial.seconds)
        is_good = outcome is CLIENT_GONE and trial.is_answered and not trial.is_declined and trial.permit <= 0
        self.tell_breaker(trial, now, failed=False if is_good else None)

    def tell_breaker(self, trial: Trial, now: float, *, failed: bool | None) -> None:
        """End a request's permit; see Breaker.end(). Without an answer, the time until now counts as the latency."""
        seconds = trial.seconds
        if seconds is None:
            seconds = 0.0 if trial.is_answered else max(0.0, now - trial.sent_at)
        self.end_permit(trial.endpoint, trial.permit, now, failed=failed, seconds=seconds, since=trial.since)

    def end_permit(
        self,
        endpoint: Endpoint,
        permit: int,
        now: float,
        *,
        failed: bool | None,
        seconds: float = 0.0,
        since: float = math.inf,
    ) -> None:
        """Return a breaker's permit with the outcome of a request or a check; see Breaker.end().

        Args:
            since: when the request was sent; math.inf for a health check.
        """
        breaker = endpoint.breaker
        was_open, tripped_at = breaker.is_open, breaker.tripped_at
        breaker.end(permit, now, failed=failed, seconds=seconds)
        if failed is False and breaker.is_open and not self._endpoints.has_healthy and since > breaker.tripped_at:
            breaker.close(now)
        if breaker.is_open and endpoint.is_ejected:
            self._probing.probe_after_opening(endpoint)
        if breaker.is_open != was_open:
            self.breaker_changed(endpoint, now, since, failed=bool(failed))
        if self.tell_breaker_of and (breaker.is_open != was_open or breaker.tripped_at != tripped_at):
            self.tell_breaker_of(endpoint)

    def breaker_changed(self, endpoint: Endpoint, now: float, since: float, *, failed: bool) -> None:
        """Apply the opening or closing of a breaker to the endpoint set.

        Args:
            since: when the request that changed the breaker was sent; math.inf for a health check or an operator.
            failed: whether the endpoint has failed.
        """
        endpoints = self._endpoints
        if not endpoint.breaker.is_open:
            endpoints.readmit(endpoint, now, since)
        elif failed and endpoint not in self._probing.penalised:
            endpoints.penalise(endpoint, now)
        endpoints.refresh()
        endpoints.end_rests(now)
