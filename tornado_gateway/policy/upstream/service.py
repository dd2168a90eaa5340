"""A service: a named set of endpoints, the queue before them, and the leases that requests take on them.

policy/upstream/endpoint_set.py   who may be chosen
policy/upstream/outcomes.py       what an outcome teaches
policy/upstream/lease.py          a request's hold on an endpoint
"""

import math
import random
from collections.abc import Collection, Mapping, Sequence

from tornado_gateway.errors import CircuitOpen, EndpointsBusy, Overloaded
from tornado_gateway.policy.upstream.affinity import Affinity
from tornado_gateway.policy.upstream.balancing import BALANCERS, Balancer
from tornado_gateway.policy.upstream.concurrency import AdaptiveConfig, AdaptiveLimit
from tornado_gateway.policy.upstream.endpoint import HTTP, Endpoint, InFlight, LeaseRequest
from tornado_gateway.policy.upstream.endpoint_set import EndpointSet
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.membership import Membership
from tornado_gateway.policy.upstream.outcomes import Outcomes
from tornado_gateway.policy.upstream.retry import Budget
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.policy.upstream.wait_queue import Queue
from tornado_gateway.policy.upstream.websocket_totals import WebSocketTotals


class Service(InFlight):
    """A named set of endpoints, and what is in flight at all of them.

    Args:
        limit: of the requests in flight that the service bears, found by watching their latency; None for none.

    Attributes:
        affinity: binds requests to endpoints; None if nothing does.
        budget: for sending again what has failed.
        endpoint_set: who may be chosen.
        membership: which endpoints there should be.
        outcomes: what outcomes have taught.
        queue: requests that wait for room.
        websocket_totals: what WebSockets that have ended have carried.
    """

    __slots__ = (
        "_is_bounded", "affinity", "budget", "config", "endpoint_set", "membership", "name",
        "outcomes", "queue", "websocket_totals",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        endpoints: Sequence[Endpoint],
        balancer: Balancer,
        config: ServiceConfig | None = None,
        limit: AdaptiveLimit | None = None,
        affinity: Affinity | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.config = config or ServiceConfig()
        self.affinity = affinity
        self.budget = Budget(self.config.retry)
        self.queue = Queue(self.config.max_waiting)
        self.endpoint_set = EndpointSet(self.config, balancer, self)
        self.outcomes = Outcomes(self.config, self.endpoint_set, limit, self)
        self.websocket_totals = WebSocketTotals()
        self.membership = Membership({endpoint.url: endpoint.weight for endpoint in endpoints})
        self._is_bounded = limit is not None or self.config.max_in_flight < math.inf
        self.replace_endpoints(endpoints)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, in the order of the configuration."""
        return self.endpoint_set.endpoints

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        return len(self.queue.waiting)

    # ---- leases

    def lease(self, request: LeaseRequest, *, is_retry: bool = False) -> Lease:
        """Take a lease on an endpoint.

        Raises:
            EndpointsBusy: every endpoint that may be asked is full; the request may wait in the `queue`.
            CircuitOpen: breakers or health checks have taken out all endpoints.
            Overloaded: all were tried.
        """
        endpoints = self.endpoint_set
        if self._is_bounded and request.kind is HTTP:
            self._refuse_if_full(request)
        endpoint = self._bound_to(request, request.pinned) if request.pinned else None
        if endpoint is None and (endpoints.ejected or endpoints.probing.penalised):
            endpoint = self._take_probe(request)
        if endpoint is None:
            endpoint = endpoints.choose(request)
        if endpoint is None:
            raise self._why_none(request)
        if not is_retry:
            self.budget.pay_in(request.now)
        return Lease(self, endpoint, request, is_retry=is_retry)

    def _refuse_if_full(self, request: LeaseRequest) -> None:
        """
        Raises:
            EndpointsBusy: the request has to wait until there is room.
        """
        if request.tried or not self._can_use(request.pinned):
            return  # a request that has nothing to wait for is refused at once
        if not request.has_waited and self.queue.is_ahead_of(request.pinned):
            raise EndpointsBusy
        if self._is_at_limit:
            raise EndpointsBusy

    @property
    def _is_at_limit(self) -> bool:
        """Whether as many requests are in flight as the service bears."""
        limit = self.outcomes.limit
        return limit is not None and self.requests >= limit.limit

    def _can_use(self, pinned: Endpoint | None) -> bool:
        """Whether an endpoint is admitted that the client may be sent to."""
        return pinned.is_admitted if pinned and self._keeps_sessions else bool(self.endpoint_set.admitted)

    def _bound_to(self, request: LeaseRequest, pinned: Endpoint) -> Endpoint | None:
        """The endpoint that a session is bound to; None if the request goes elsewhere.

        Raises:
            EndpointsBusy: the endpoint is full, and the request waits for it.
            CircuitOpen: the endpoint is out, and the client is not to be sent elsewhere.
        """
        if pinned in request.tried:
            return None
        refuses = self._keeps_sessions
        if self.endpoint_set.is_reserve(pinned) and not refuses:
            return None
        if self.endpoint_set.available(pinned, request, refuses=refuses):
            return pinned
        if pinned.is_admitted and (refuses or self.config.max_waiting):
            raise EndpointsBusy
        if refuses:
            raise CircuitOpen("the endpoint that has the session cannot be used")
        return None

    def _take_probe(self, request: LeaseRequest) -> Endpoint | None:
        """An endpoint that the request is to probe; while others are admitted, no second try is risked."""
        if self.endpoint_set.admitted and (request.tried or self.budget.balance(request.now) < 1.0):
            return None
        return self.endpoint_set.take_probe(request)

    def has_other(self, tried: Collection[Endpoint], pinned: Endpoint | None) -> bool:
        """Whether an endpoint can be used that was not tried.

        Args:
            pinned: the endpoint that the client belongs to.
        """
        return not (pinned and self._keeps_sessions) and self.endpoint_set.has_untried(tried)

    @property
    def _keeps_sessions(self) -> bool:
        """Whether a client is refused rather than sent to another endpoint than its own."""
        return self.affinity is not None and self.affinity.sticky is not None and self.affinity.sticky.refuses

    def _why_none(self, request: LeaseRequest) -> Overloaded:
        if self.endpoint_set.has_untried(request.tried):
            return EndpointsBusy()
        if not request.tried:
            ejected = self.endpoint_set.ejected
            return CircuitOpen(
                retry_after=min((each.breaker.open_until - request.now for each in ejected), default=1.0)
            )
        return Overloaded("no endpoint of the service is left to try")

    def make_room(self) -> None:
        """A request has ended, or there is more room: let as many waiting requests go on as there is room for."""
        self.queue.release(self._has_room)

    def _has_room(self, pinned: Endpoint | None) -> bool:
        """Whether a request that waits would not have to wait on."""
        if not self._can_use(pinned):
            return True
        if self._is_at_limit:
            return False
        several = (pinned,) if pinned and pinned.is_admitted else self.endpoint_set.admitted
        return any(not each.full(self.config.max_in_flight) for each in several)

    # ---- changes from outside: resolution, health checks, an operator

    def replace_endpoints(
        self, endpoints: Sequence[Endpoint], now: float | None = None, weights: Mapping[str, int] | None = None
    ) -> None:
        """Use these endpoints from now on; see EndpointSet.replace().

        Args:
            weights: by URL; None if each endpoint keeps the weight that the endpoint has.
        """
        self.endpoint_set.replace(endpoints, now, weights or {})
        if self.affinity and self.affinity.sticky:
            self.affinity.sticky.use(endpoints)
        self.make_room()

    def note_check(self, endpoint: Endpoint, shown: str) -> None:
        """Remember for the figures what the newest check of an endpoint has shown, in words."""
        endpoint.last_check = shown

    def set_health(self, endpoint: Endpoint, now: float, *, up: bool) -> None:
        """Health checks have taken an endpoint out, or brought the endpoint back."""
        endpoint.checks_pass = up
        if up:
            if endpoint.breaker.is_open:
                endpoint.breaker.close(now)
            self.endpoint_set.readmit(endpoint, now, math.inf)
        self._refresh()

    def set_weight(self, endpoint: Endpoint, weight: int, now: float) -> None:
        """An operator changes an endpoint's share of the traffic; name servers do not change the share back.

        An endpoint whose weight was 0 joins: its share begins to grow.

        Args:
            weight: ≥ 0.
        """
        self.membership.set_weight(endpoint.url, weight)
        was_out, endpoint.weight = not endpoint.weight, weight
        if was_out and weight:
            self.endpoint_set.readmit(endpoint, now, -math.inf)
        self._refresh()

    def add_endpoint(self, endpoint: Endpoint, now: float) -> None:
        """An operator adds an endpoint; name servers do not take the endpoint away."""
        self.membership.add(endpoint.url, endpoint.weight)
        self.replace_endpoints((*self.endpoints, endpoint), now)

    def drain(self, endpoint: Endpoint, now: float) -> None:
        """Send an endpoint nothing new; what is in flight there ends in peace."""
        self.set_weight(endpoint, 0, now)

    def force_breaker(self, endpoint: Endpoint, now: float, seconds: float) -> None:
        """Open an endpoint's breaker for so many seconds, as if the endpoint had failed."""
        endpoint.breaker.force_open(now, seconds)
        self.outcomes.breaker_changed(endpoint, now, math.inf, failed=False)
        self.make_room()

    def reset_breaker(self, endpoint: Endpoint, now: float) -> None:
        """Close an endpoint's breaker, and forget the endpoint's failures."""
        endpoint.breaker.reset(now)
        self.outcomes.breaker_changed(endpoint, now, math.inf, failed=False)
        self.make_room()

    def penalise(self, endpoint: Endpoint, now: float, retry_after: float = 0.0) -> None:
        """An endpoint has failed; see EndpointSet.penalise()."""
        self.endpoint_set.penalise(endpoint, now, retry_after)

    def begin_permit(self, endpoint: Endpoint, now: float) -> int:
        """Let a check probe an endpoint whose breaker is HALF_OPEN; end_permit() must follow. See Breaker.begin()."""
        return endpoint.breaker.begin(now)

    def end_permit(self, endpoint: Endpoint, permit: int, now: float, *, failed: bool | None) -> None:
        """Return a breaker's permit with the outcome of a check; None if the check has shown nothing."""
        self.outcomes.end_permit(endpoint, permit, now, failed=failed)
        self.make_room()

    def reconfigure(self, config: ServiceConfig, now: float, rng: random.Random) -> None:
        """Use another configuration from now on. What is known of the endpoints, and what is in flight, stays.

        Args:
            rng: for a balancer and a limit that are new.

        Raises:
            ValueError: sessions are wanted, but neither the configuration nor the service has a secret for them.
        """
        before = self.config
        affinity = Affinity.made(self.name, config.affinity, config.balancer, self.affinity)
        balancer = BALANCERS[config.balancer](rng) if config.balancer != before.balancer else None
        self.config, self.affinity = config, affinity
        self.budget.reconfigure(config.retry)
        self.queue.size = config.max_waiting
        self.outcomes.reconfigure(config, self._limit_for(config, rng))
        self._is_bounded = self.outcomes.limit is not None or config.max_in_flight < math.inf
        for endpoint in self.endpoints:
            endpoint.breaker.reconfigure(config.breaker)
            if not config.checks and not endpoint.checks_pass:  # no check would bring the endpoint back
                endpoint.checks_pass = True
                self.endpoint_set.readmit(endpoint, now, -math.inf)
        self.endpoint_set.reconfigure(config, balancer)
        if affinity and affinity.sticky:
            affinity.sticky.use(self.endpoints)
        self.endpoint_set.end_rests(now)
        self.make_room()

    def _limit_for(self, config: ServiceConfig, rng: random.Random) -> AdaptiveLimit | None:
        """The limit that a configuration asks for: the present limit, if there is one. A long poll has no latency."""
        if not config.adapts or config.is_long_poll:
            return None
        return self.outcomes.limit or AdaptiveLimit(AdaptiveConfig(), rng)

    def _refresh(self) -> None:
        self.endpoint_set.refresh()
        self.make_room()
