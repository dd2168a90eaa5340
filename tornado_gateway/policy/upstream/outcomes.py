"""What the outcomes of requests teach about an endpoint.

Everything that is known about an endpoint is learnt here: its latency, its window of the last minute, its breaker's
state, its penalties; and, of the whole service, when a request is hedged and how many requests may be in flight.

A 429 teaches nothing: its user has sent too much (RFC 6585 §4), which is no reason to keep the requests of other users
away. An endpoint that has too much to do says 503 (RFC 9110 §15.6.4). Only where BREAKER_STATUSES names 429 is a 429 a
failure of the endpoint.
"""

import math

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
ASK_TO_WAIT = (TOO_MANY_REQUESTS, 503)  # statuses whose Retry-After says how long to leave the endpoint alone


class Trial:
    """What a request has shown of its endpoint so far.

    Attributes:
        kind: of the lease; a request may turn out to be a stream.
        permit: of the endpoint's breaker.
        since: when the lease was taken.
        sent_at: when the request was sent; math.inf while a body is being sent, and for long polls: no time from there
            is the endpoint's.
        seconds: from sent_at to the head of the response; None before the head, or if no time is the endpoint's.
        is_answered: whether the head of the response has come.
        is_declined: whether the status says that the endpoint cannot serve the request now.
        is_excused: whether the missing answer says nothing about the endpoint.
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
    """
    Args:
        endpoints: of the service.
        limit: of the requests in flight that the service bears; None for none.
        in_flight: of the whole service, counted live.

    Attributes:
        config: of the service.
        hedging: how long the service's answers take, and how many requests were hedged.
        limit: see above.
    """

    __slots__ = ("_endpoints", "_in_flight", "_probing", "config", "hedging", "limit")

    def __init__(
        self, config: ServiceConfig, endpoints: EndpointSet, limit: AdaptiveLimit | None, in_flight: InFlight
    ) -> None:
        self.config, self.limit = config, limit
        self.hedging = Hedging()
        self._endpoints, self._in_flight, self._probing = endpoints, in_flight, endpoints.probing

    def reconfigure(self, config: ServiceConfig, limit: AdaptiveLimit | None) -> None:
        """Use another configuration and limit from now on."""
        self.config, self.limit = config, limit

    def judge(self, status: int) -> Outcome:
        """What the status of a whole response says about the endpoint."""
        return FAILURE if status in self.config.failure_statuses else SUCCESS

    def answered(self, trial: Trial, now: float, status: int, retry_after: float) -> None:
        """The head of the response has come.

        Args:
            retry_after: seconds that the response's Retry-After asks for.
        """
        endpoint, config, is_429 = trial.endpoint, self.config, status == TOO_MANY_REQUESTS
        latency = endpoint.latency
        trial.is_answered = True
        failed = status in config.failure_statuses
        trial.is_declined = failed or is_429
        if now >= trial.sent_at:
            trial.seconds = now - trial.sent_at
            if not is_429:
                latency.add(now, trial.seconds)
                if config.hedges:
                    self.hedging.observe(now, trial.seconds)
        if endpoint.hedges_lost:
            endpoint.hedges_lost = 0
        if failed:
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
        """The endpoint has done its work."""
        endpoint, breaker = trial.endpoint, trial.endpoint.breaker
        endpoint.window.add(now, trial.seconds)
        if breaker.is_open or breaker.watches_shares:
            self.tell_breaker(trial, now, failed=False)
        else:
            breaker.requests += 1
        if self.limit and trial.seconds is not None and trial.kind is HTTP and not trial.is_declined:
            self.limit.add(trial.sent_at + trial.seconds, trial.seconds, self._in_flight.requests + 1)

    def failed(self, trial: Trial, now: float) -> None:
        """The endpoint has failed."""
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
        """The request shows neither success nor failure, and a probe decides nothing.

        A request that was no probe and whose good response had begun is one of the many that did not fail, of which
        the breaker's shares are taken.
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
        """Tell the breaker of a request; see Breaker.end(). A request without an answer is the slowest of all."""
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
            since: when the request was sent; math.inf for a check.
        """
        breaker = endpoint.breaker
        was_open = breaker.is_open
        breaker.end(permit, now, failed=failed, seconds=seconds)
        if failed is False and breaker.is_open and not self._endpoints.has_healthy and since > breaker.tripped_at:
            breaker.close(now)
        if breaker.is_open and endpoint.is_ejected:
            self._probing.probe_after_opening(endpoint)
        if breaker.is_open != was_open:
            self.breaker_changed(endpoint, now, since, failed=bool(failed))

    def breaker_changed(self, endpoint: Endpoint, now: float, since: float, *, failed: bool) -> None:
        """A breaker has opened or closed.

        Args:
            since: when the request was sent that changed the breaker; math.inf for a check or an operator.
            failed: whether the endpoint has failed.
        """
        endpoints = self._endpoints
        if not endpoint.breaker.is_open:
            endpoints.readmit(endpoint, now, since)
        elif failed and endpoint not in self._probing.penalised:
            endpoints.penalise(endpoint, now)
        endpoints.refresh()
        endpoints.end_rests(now)
