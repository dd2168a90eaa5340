"""Probing: which request is sent to a failed endpoint, to find out whether the endpoint works again.

    ejected    by its breaker: probed when the opening has ended, by as many requests as the breaker lets pass
    penalised  for a failure, so that balancers avoid the endpoint: probed once a second by one request, unless health
               checks fail (the checks notice a recovery) or the breaker is open (the opening has to end first)

A probe may fail, so a request that can be sent again is preferred. If no such request comes, any request may probe an
ejected endpoint. This module does not decide who is ejected or penalised: policy/upstream/endpoint_set.py does.
"""

from tornado_gateway.policy.upstream.endpoint import Endpoint, LeaseRequest, PickContext
from tornado_gateway.policy.upstream.latency import PROBE_AFTER
from tornado_gateway.policy.upstream.probe_schedule import ProbeSchedule

PATIENCE = 2.0  # seconds that a due probe waits for a repeatable request; then any request may probe


class Probing:
    """The penalised endpoints and the schedule of probes of one service.

    Attributes:
        penalised: endpoints without a good answer since a failure.
    """

    __slots__ = ("_schedule", "penalised")

    def __init__(self) -> None:
        self.penalised: set[Endpoint] = set()
        self._schedule = ProbeSchedule()

    def penalise(self, endpoint: Endpoint) -> None:
        """Schedule a probe of an endpoint that has been penalised for a failure."""
        self.penalised.add(endpoint)
        self._schedule.put(endpoint, endpoint.latency.probe_at)

    def clear_penalty(self, endpoint: Endpoint) -> None:
        """An endpoint has given a good answer: no probe is needed."""
        self.penalised.discard(endpoint)

    def remove(self, endpoint: Endpoint) -> None:
        """An endpoint has left the service."""
        self.penalised.discard(endpoint)
        self._schedule.remove(endpoint)

    def probe_after_opening(self, endpoint: Endpoint) -> None:
        """Schedule a probe of an ejected endpoint at the end of the breaker's opening; that end may have passed."""
        self._schedule.put(endpoint, endpoint.breaker.open_until)

    def probe_if_penalised(self, endpoint: Endpoint) -> None:
        """Schedule a probe of a newly admitted endpoint, if the endpoint is penalised."""
        if endpoint in self.penalised:
            self._schedule.put(endpoint, endpoint.latency.probe_at)

    def take(
        self, request: LeaseRequest, context: PickContext, *, none_admitted: bool, none_healthy: bool = False
    ) -> Endpoint | None:
        """Take a due probe: the endpoint that the request is to probe; None if no probe is due.

        Args:
            none_admitted: whether no endpoint is admitted: then any request may probe.
            none_healthy: whether no endpoint is healthy: then health checks and breakers do not delay a probe.
        """
        until = request.now if none_admitted or request.is_repeatable else request.now - PATIENCE
        found, untouched = None, []
        while found is None and (each := self._schedule.take(until)):
            if each in request.tried:
                untouched.append(each)
            elif each.is_ejected:
                if each.breaker.open_until > until:
                    self.probe_after_opening(each)
                elif each.breaker.passes(request.now):  # else a probe is under way, and the outcome decides
                    found = each
            elif (
                each.is_admitted
                and each in self.penalised
                and self._take_probe(each, request, context, none_healthy=none_healthy)
            ):
                found = each
        if found and found.is_ejected:  # the breaker may let more probes pass
            untouched.append(found)
        for each in untouched:
            self._schedule.put(each, request.now)
        return found

    def _take_probe(
        self, endpoint: Endpoint, request: LeaseRequest, context: PickContext, *, none_healthy: bool
    ) -> bool:
        """Make the request the probe of a penalised endpoint, if a probe is due. Returns whether the request probes."""
        latency = endpoint.latency
        is_over = request.now >= latency.probe_at
        if is_over:
            latency.probe_at = request.now + PROBE_AFTER
        self._schedule.put(endpoint, latency.probe_at)
        breaker = endpoint.breaker
        may = none_healthy or (endpoint.checks_pass and breaker.passes(request.now))
        return is_over and may and (request.is_repeatable or breaker.is_open) and endpoint.available(request, context)
