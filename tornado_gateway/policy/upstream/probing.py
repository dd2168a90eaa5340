"""Which endpoints have failed, and when a request probes whether an endpoint works again.

    ejected    its breaker has taken it out: asked again when the opening is over, by as many as may probe at once
    penalised  it has failed, and balancers that choose by load avoid it: probed once a second, unless its health checks
               fail (the checks find out themselves) or its breaker is open (the end of the opening is waited for)

One request is risked for that, so it had better be one that can be sent again. Where no such request comes, any request
has to find out about an endpoint whose opening is over.
"""

from tornado_gateway.policy.upstream.endpoint import Endpoint, LeaseRequest, PickContext
from tornado_gateway.policy.upstream.latency import PROBE_AFTER
from tornado_gateway.policy.upstream.probe_schedule import ProbeSchedule

# Seconds that an endpoint whose time is over waits for a request that may be sent again should the endpoint still be
# broken. Where no such request comes, any other one has to find out.
PATIENCE = 2.0


class Probing:
    """
    Attributes:
        doubted: endpoints that have failed since they last answered well.
    """

    __slots__ = ("_schedule", "penalised")

    def __init__(self) -> None:
        self.penalised: set[Endpoint] = set()
        self._schedule = ProbeSchedule()

    def penalise(self, endpoint: Endpoint) -> None:
        """An endpoint has failed, and has its penalty."""
        self.penalised.add(endpoint)
        self._schedule.put(endpoint, endpoint.latency.probe_at)

    def clear_penalty(self, endpoint: Endpoint) -> None:
        """An endpoint has answered well."""
        self.penalised.discard(endpoint)

    def remove(self, endpoint: Endpoint) -> None:
        """An endpoint is none any more."""
        self.penalised.discard(endpoint)
        self._schedule.remove(endpoint)

    def probe_after_opening(self, endpoint: Endpoint) -> None:
        """Probe an ejected endpoint when its opening is over; now, if it is and a probe was given back."""
        self._schedule.put(endpoint, endpoint.breaker.open_until)

    def probe_if_penalised(self, endpoint: Endpoint) -> None:
        """Schedule a probe for an endpoint that is admitted again, if the endpoint is penalised."""
        if endpoint in self.penalised:
            self._schedule.put(endpoint, endpoint.latency.probe_at)

    def take(
        self, request: LeaseRequest, context: PickContext, *, alone: bool, none_passes: bool = False
    ) -> Endpoint | None:
        """Take a due probe: the endpoint that a request is to be sent to, to find out whether the endpoint works.

        Args:
            alone: whether no other one can be used: then any request will do.
            none_passes: whether there is no endpoint that a request had better be sent to.
        """
        until = request.now if alone or request.is_repeatable else request.now - PATIENCE
        found, untouched = None, []
        while found is None and (each := self._schedule.take(until)):
            if each in request.tried:
                untouched.append(each)
            elif each.is_ejected:
                if each.breaker.open_until > until:
                    self.probe_after_opening(each)
                elif each.breaker.passes(request.now):  # else a probe is under way, and its end decides
                    found = each
            elif (
                each.is_admitted
                and each in self.penalised
                and self._take_probe(each, request, context, none_passes=none_passes)
            ):
                found = each
        if found and found.is_ejected:  # there may be room for more probes
            untouched.append(found)
        for each in untouched:
            self._schedule.put(each, request.now)
        return found

    def _take_probe(
        self, endpoint: Endpoint, request: LeaseRequest, context: PickContext, *, none_passes: bool
    ) -> bool:
        """Take the probe of a penalised endpoint, if one is due: one at a time. Whether the request is the probe."""
        latency = endpoint.latency
        is_over = request.now >= latency.probe_at
        if is_over:
            latency.probe_at = request.now + PROBE_AFTER
        self._schedule.put(endpoint, latency.probe_at)
        breaker = endpoint.breaker
        may = none_passes or (endpoint.checks_pass and breaker.passes(request.now))
        return is_over and may and (request.is_repeatable or breaker.is_open) and endpoint.available(request, context)
