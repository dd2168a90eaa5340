"""The endpoints of a service: which endpoints are admitted, ejected or penalised; and the choice of an endpoint.

    healthy    health checks pass (or there are none), and the breaker is closed
    ejected    the breaker is open, and at most max_ejected of all endpoints are ejected (Envoy: max_ejection_percent):
               first those that this gateway has found broken, then those of which other gateways say so
    admitted   checks pass, not ejected, weight > 0; in a panic, every endpoint with a weight

A panic begins when too few endpoints are admitted to bear the load, or when no endpoint is healthy (Envoy: panic
threshold): overrunning the few admitted endpoints is worse than the failure of a part of the requests. With a
panic_below of 0, no panic begins.

In a panic, healthy endpoints still come first. The other endpoints are a reserve: a reserve endpoint is chosen only if
no healthy endpoint has room, or if the chosen endpoint's latency reaches the penalty of a failure.

At most the share max_ejected of all endpoints is penalised or resting: penalised for failures that opened no breaker,
resting for a Retry-After.

Admission is computed when a weight, a breaker or the health of an endpoint changes. A choice reads the result.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from tornado_gateway.policy.upstream.balancing import Balancer
from tornado_gateway.policy.upstream.endpoint import Endpoint, InFlight, LeaseRequest, PickContext
from tornado_gateway.policy.upstream.latency import PENALTY
from tornado_gateway.policy.upstream.probing import Probing
from tornado_gateway.policy.upstream.service_config import ServiceConfig

ROUNDING = 1e-9  # added before rounding down: 0.29 x 100 is 28.999…


class EndpointSet:
    """The endpoints of one service.

    Args:
        balancer: chooses among the endpoints that come first.
        in_flight: leases of the whole service, counted live.

    Attributes:
        endpoints: all endpoints, in the order of the configuration.
        admitted: endpoints that may be chosen.
        ejected: endpoints that breakers have ejected, in the order of _precedence().
        is_panicking: whether a panic admits every endpoint.
        probing: the penalised endpoints and the schedule of probes.
    """

    __slots__ = (
        "_balancer", "_config", "_departing", "_first", "_has_reserve", "_healthy", "_in_flight", "_joining",
        "_max_out", "_plain", "_present", "_reserve", "_settled", "admitted", "ejected", "endpoints", "is_panicking",
        "probing",
    )  # fmt: skip

    def __init__(self, config: ServiceConfig, balancer: Balancer, in_flight: InFlight) -> None:
        self._config, self._in_flight = config, in_flight
        self._balancer = balancer
        self._reserve = balancer.new_instance()  # chooses among all admitted endpoints
        self._has_reserve = False
        self._plain = PickContext(config.max_in_flight, in_flight=in_flight)
        self._max_out = 0  # endpoints that may be ejected, penalised or resting
        self._present: set[Endpoint] = set()  # the same as endpoints
        self._healthy: set[Endpoint] = set()
        self._first: set[Endpoint] = set()  # endpoints before the reserve
        self._departing: list[Endpoint] = []  # endpoints that have left with requests in flight
        self._joining: dict[Endpoint, None] = {}  # an ordered set, in the order of joining
        self._settled = 0  # healthy endpoints that are not joining
        self.endpoints: tuple[Endpoint, ...] = ()
        self.admitted: list[Endpoint] = []
        self.ejected: list[Endpoint] = []
        self.is_panicking = False
        self.probing = Probing()

    # ---- the members

    def replace(self, endpoints: Sequence[Endpoint], now: float | None, weights: Mapping[str, int]) -> None:
        """Replace the endpoints or the weights. An endpoint that stays keeps all state.

        Args:
            now: instant at which slow start of new endpoints begins; None without slow start.
            weights: by URL; an endpoint without an entry keeps the present weight.
        """
        before, present = self._present, set(endpoints)
        self.endpoints, self._present = tuple(endpoints), present
        for endpoint in before - present:
            self._remove(endpoint)
        self._departing = [each for each in {*self._departing, *before} if each not in present and each.load]
        for endpoint in self.endpoints:
            endpoint.weight = weights.get(endpoint.url, endpoint.weight)
            if endpoint not in before:
                endpoint.checks_pass = True  # health checks of a returning endpoint begin anew
                if now is not None:
                    self._join(endpoint, now)
        self.refresh()

    def _remove(self, endpoint: Endpoint) -> None:
        endpoint.is_admitted = endpoint.is_ejected = False
        self._joining.pop(endpoint, None)
        self.probing.remove(endpoint)

    def reconfigure(self, config: ServiceConfig, balancer: Balancer | None) -> None:
        """Use another configuration.

        Args:
            balancer: replaces the present balancer; None to keep the present balancer.
        """
        self._config = config
        if balancer:
            self._balancer, self._reserve = balancer, balancer.new_instance()
        self.refresh()

    @property
    def departing(self) -> list[Endpoint]:
        """Endpoints that have left the service and still have leases."""
        return [endpoint for endpoint in self._departing if endpoint.load]

    def serves(self, now: float) -> bool:
        """Whether any endpoint with a weight can take a request: checks pass, and the breaker is not OPEN.

        A HALF_OPEN breaker counts: the endpoint waits for a request that probes the endpoint.
        """
        return any(each.checks_pass and not each.breaker.is_resting(now) for each in self.endpoints if each.weight)

    # ---- admission

    def refresh(self) -> None:
        """Recompute admission after a change of an endpoint's weight, breaker or health."""
        members = [endpoint for endpoint in self.endpoints if endpoint.weight]
        passing = [endpoint for endpoint in members if endpoint.checks_pass]
        broken = sorted((each for each in passing if each.breaker.is_open), key=_precedence)
        healthy = [endpoint for endpoint in members if endpoint.healthy]
        self._max_out = int(len(members) * self._config.max_ejected + ROUNDING)
        self.ejected = broken[: self._max_out]
        out = set(self.ejected)
        admitted = [endpoint for endpoint in passing if endpoint not in out]
        self.is_panicking = self._panics(len(members), len(admitted), len(healthy))
        if self.is_panicking:
            self.ejected, out, admitted = [], set(), members
        self.admitted, may = admitted, set(admitted)
        for endpoint in self.endpoints:
            self._admit(endpoint, is_admitted=endpoint in may, is_ejected=endpoint in out)
        self._put_first(healthy if self.is_panicking and healthy else admitted, healthy)

    def _panics(self, members: int, admitted: int, healthy: int) -> bool:
        """Whether every endpoint is admitted: too few endpoints are admitted, or no endpoint is healthy.

        A panic lasts until enough endpoints are healthy, not only admitted: max_ejected keeps some broken endpoints
        admitted, and these must not share the traffic of the first endpoint that recovers from a full outage.
        """
        enough = self._config.panic_below * members - ROUNDING
        count = healthy if self.is_panicking else admitted
        return members > 0 and enough > 0 and (not healthy or count < enough)

    def _admit(self, endpoint: Endpoint, *, is_admitted: bool, is_ejected: bool) -> None:
        if is_ejected and not endpoint.is_ejected:
            self.probing.probe_after_opening(endpoint)
        elif is_admitted and not endpoint.is_admitted:
            self.probing.probe_if_penalised(endpoint)
        endpoint.is_admitted, endpoint.is_ejected = is_admitted, is_ejected

    def _put_first(self, first: list[Endpoint], healthy: list[Endpoint]) -> None:
        """Let the balancer choose from these endpoints, and the reserve from all admitted endpoints."""
        self._first, self._healthy = set(first), set(healthy)
        self._settled = sum(endpoint not in self._joining for endpoint in healthy)
        weight = sum(endpoint.weight for endpoint in first) or 1
        self._plain = PickContext(self._config.max_in_flight, in_flight=self._in_flight, weight=weight)
        self._balancer.use(first, self.endpoints)
        self._has_reserve = len(first) < len(self.admitted)
        if self._has_reserve:
            self._reserve.use(self.admitted, self.endpoints)

    def may_eject(self, endpoint: Endpoint) -> bool:
        """Whether one more ejection is within max_ejected, and begins no panic."""
        if self.is_panicking or endpoint not in self._healthy or len(self.ejected) >= self._max_out:
            return False
        members = sum(each.weight > 0 for each in self.endpoints)
        return not self._panics(members, len(self.admitted) - 1, len(self._healthy) - 1)

    # ---- penalties and recovery

    @property
    def has_healthy(self) -> bool:
        """Whether any endpoint is healthy."""
        return bool(self._healthy)

    def penalise(self, endpoint: Endpoint, now: float, retry_after: float = 0.0) -> None:
        """Penalise an endpoint for a failure until a good answer, unless too many endpoints are penalised already.

        Args:
            retry_after: seconds of the endpoint's Retry-After; 0 without one.
        """
        if endpoint not in self._present:  # the endpoint has left the service
            return
        penalised = self.probing.penalised
        if endpoint.breaker.is_open or endpoint in penalised or len({*penalised, *self.ejected}) < self._max_out:
            may_rest = retry_after > 0 and len(self._out(now) - {endpoint}) < self._max_out
            endpoint.latency.penalise(now, retry_after if may_rest else 0.0)
            self.probing.penalise(endpoint)

    def readmit(self, endpoint: Endpoint, now: float, since: float) -> None:
        """Readmit an endpoint and clear its latency penalty, unless the penalty comes from the response that closed
        the breaker.

        Args:
            since: when the request that closed the breaker was sent; math.inf for a health check.
        """
        if endpoint.latency.penalised_at < since:
            endpoint.latency.forget()
            self.probing.clear_penalty(endpoint)
        if endpoint in self._present and endpoint not in self._first:  # an endpoint in _first has the full traffic
            self._join(endpoint, now)

    def _join(self, endpoint: Endpoint, now: float) -> None:
        """Begin an endpoint's slow start."""
        endpoint.joined_at = now
        self._joining.pop(endpoint, None)
        self._joining[endpoint] = None

    def _out(self, now: float) -> set[Endpoint]:
        """Endpoints that are ejected or resting."""
        return {*self.ejected, *(each for each in self.probing.penalised if now < each.latency.rests_until)}

    def end_rests(self, now: float) -> None:
        """End the rest of some endpoints, so that ejected and resting endpoints together stay within max_ejected."""
        resting = sorted(self._out(now) - {*self.ejected}, key=lambda each: each.latency.rests_until)
        for endpoint in resting[max(0, self._max_out - len(self.ejected)) :]:
            endpoint.latency.rests_until = now

    # ---- the choice

    def choose(self, request: LeaseRequest) -> Endpoint | None:
        """The balancer's choice for a request; None if no endpoint is available."""
        if len(self.endpoints) == 1:
            (only,) = self.endpoints
            return only if only.available(request, self._plain) else None
        if not self._joining and not self.probing.penalised and not self._has_reserve:
            return self._balancer.choose(request, self._plain)
        context = self._careful_context(request.now)
        chosen = self._choose_by(self._balancer, request, context)
        if self._has_reserve and (chosen is None or _is_overrun(chosen, request)):
            return self._choose_by(self._reserve, request, context) or chosen
        return chosen

    def _choose_by(self, balancer: Balancer, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        """Choose by the careful context; if no endpoint passes, choose any available endpoint."""
        chosen = balancer.choose(request, context)
        return balancer.choose(request, self._plain) if chosen is None and context is not self._plain else chosen

    def _careful_context(self, now: float) -> PickContext:
        """The context while endpoints join or rest. Slow start applies only while some healthy endpoint is settled."""
        self._end_slow_starts(now)
        slow_start = self._config.slow_start if self._joining and self._settled > 0 else 0.0
        honours_retry_after = bool(self.probing.penalised)
        if not slow_start and not honours_retry_after:
            return self._plain
        return replace(self._plain, slow_start=slow_start, honours_retry_after=honours_retry_after)

    def _end_slow_starts(self, now: float) -> None:
        """End slow start of the endpoints whose share has reached 1."""
        joining, slow_start = self._joining, self._config.slow_start
        while joining and (first := next(iter(joining))).share(now, slow_start) == 1.0:
            del joining[first]
            self._settled += first in self._healthy

    def available(self, pinned: Endpoint, request: LeaseRequest, *, refuses: bool) -> bool:
        """Whether a request may use the endpoint that the client's session is bound to.

        Args:
            refuses: whether the client is refused rather than sent to another endpoint; then any request may probe.
        """
        if pinned.available(request, self._plain):
            return True
        may_probe = request.is_repeatable or refuses
        return pinned.is_ejected and may_probe and pinned.breaker.passes(request.now)

    def is_reserve(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint belongs to the reserve of a panic."""
        return self._has_reserve and endpoint not in self._first

    def take_probe(self, request: LeaseRequest) -> Endpoint | None:
        """Take a due probe: the endpoint that the request is to probe; None if no probe is due."""
        return self.probing.take(request, self._plain, none_admitted=not self.admitted, none_healthy=not self._healthy)

    def has_untried(self, tried: Collection[Endpoint]) -> bool:
        """Whether any admitted endpoint was not tried."""
        return any(endpoint not in tried for endpoint in self.admitted)


def _precedence(endpoint: Endpoint) -> tuple[bool, float]:
    """The order of ejections: own findings before those of other gateways, then the longest broken first."""
    return endpoint.breaker.is_hearsay, endpoint.breaker.opened_at


def _is_overrun(endpoint: Endpoint, request: LeaseRequest) -> bool:
    """Whether an endpoint is overloaded: the expected latency reaches PENALTY."""
    return endpoint.requests > 0 and endpoint.latency.expected(request.now) >= PENALTY
