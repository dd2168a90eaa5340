"""A service: a named set of endpoints, a queue of requests, and the grant of leases.

policy/upstream/endpoint_set.py   which endpoint gets a request
policy/upstream/outcomes.py       what the outcome of a request changes
policy/upstream/lease.py          a request's hold on an endpoint
"""

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence

from tornado_gateway.errors import CircuitOpen, EndpointsBusy, Overloaded
from tornado_gateway.policy.histogram import Histogram
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
from tornado_gateway.policy.upstream.stream_totals import StreamTotals
from tornado_gateway.policy.upstream.wait_queue import Queue


class Service(InFlight):
    """A named set of endpoints, with the leases in flight at all endpoints together.

    Args:
        limit: adaptive limit of the requests in flight; None without a limit.

    Attributes:
        affinity: binds requests to endpoints; None without affinity.
        budget: the retry budget.
        endpoint_set: the endpoints, and the choice of an endpoint.
        heads: seconds from a request to the head of its answer.
        membership: the sources of the endpoints.
        outcomes: learns from the outcomes of requests.
        queue: requests that wait for room.
        event_stream_totals, websocket_totals: sums over the streams that have ended.
    """

    __slots__ = (
        "_is_bounded", "affinity", "budget", "config", "endpoint_set", "event_stream_totals", "heads", "membership",
        "name", "outcomes", "queue", "websocket_totals",
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
        self.heads = Histogram()
        self.event_stream_totals, self.websocket_totals = StreamTotals(), StreamTotals()
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
            EndpointsBusy: every endpoint that may be chosen is full; the request may wait in the `queue`.
            CircuitOpen: no endpoint is admitted, because of breakers or health checks.
            Overloaded: every admitted endpoint was tried.
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
        return Lease(self, endpoint, request, is_retry)

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
        """Whether the adaptive limit is reached."""
        limit = self.outcomes.limit
        return limit is not None and self.requests >= limit.limit

    def _can_use(self, pinned: Endpoint | None) -> bool:
        """Whether an endpoint that may serve the client is admitted."""
        return pinned.is_admitted if pinned and self._keeps_sessions else bool(self.endpoint_set.admitted)

    def _bound_to(self, request: LeaseRequest, pinned: Endpoint) -> Endpoint | None:
        """The endpoint that a session is bound to; None if another endpoint may serve the request.

        Raises:
            EndpointsBusy: the endpoint is full, and the request has to wait for room.
            CircuitOpen: the endpoint is out, and the service refuses such sessions.
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
        """The endpoint to probe. While endpoints are admitted, only first attempts with a retry in the budget probe."""
        if self.endpoint_set.admitted and (request.tried or self.budget.balance(request.now) < 1.0):
            return None
        return self.endpoint_set.take_probe(request)

    def has_other(self, tried: Collection[Endpoint], pinned: Endpoint | None) -> bool:
        """Whether the request may go to an admitted endpoint that was not tried.

        Args:
            pinned: the endpoint that the client's session is bound to; None without a session.
        """
        return not (pinned and self._keeps_sessions) and self.endpoint_set.has_untried(tried)

    @property
    def _keeps_sessions(self) -> bool:
        """Whether a request whose session's endpoint is out is refused."""
        return self.affinity is not None and self.affinity.sticky is not None and self.affinity.sticky.refuses

    def _why_none(self, request: LeaseRequest) -> Overloaded:
        if self.endpoint_set.has_untried(request.tried):
            return EndpointsBusy()
        if not self.endpoints:
            return CircuitOpen("no endpoint of the service is known yet")
        if not request.tried:
            ejected = self.endpoint_set.ejected
            return CircuitOpen(
                retry_after=min((each.breaker.open_until - request.now for each in ejected), default=1.0)
            )
        return Overloaded("no endpoint of the service is left to try")

    def make_room(self) -> None:
        """Resume as many waiting requests as there is room for, after a request has ended or a rule has changed."""
        self.queue.release(self._has_room)

    def _has_room(self, pinned: Endpoint | None) -> bool:
        """Whether a waiting request can be resumed: an endpoint has room, or waiting is pointless."""
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
        """Replace the endpoints; see EndpointSet.replace().

        Args:
            weights: by URL; None to keep the present weights.
        """
        self.endpoint_set.replace(endpoints, now, weights or {})
        if self.affinity and self.affinity.sticky:
            self.affinity.sticky.use(endpoints)
        self.make_room()

    def configure(self, configured: Mapping[str, int], make: Callable[[str, int], Endpoint], now: float) -> None:
        """Replace the configured endpoints. An endpoint that stays keeps all state, and an operator's settings stay.

        Args:
            configured: weights by base URL; not empty.
            make: makes a new endpoint of a URL and a weight.
        """
        if not self.membership.configure(configured):
            return
        known = {each.url: each for each in self.endpoints}
        wanted = self.membership.wanted()
        self._use([known.get(url) or make(url, weight) for url, weight in wanted.items()], now)

    def note_check(self, endpoint: Endpoint, shown: str, *, passed: bool) -> None:
        """Remember for the figures what the newest check of an endpoint has shown, in words, and whether it passed."""
        endpoint.last_check = shown
        if passed:
            endpoint.checks_passed += 1
        else:
            endpoint.checks_failed += 1

    def set_health(self, endpoint: Endpoint, now: float, *, up: bool) -> None:
        """Record that health checks of an endpoint have begun to pass (up) or to fail."""
        endpoint.checks_pass = up
        if up:
            if endpoint.breaker.is_open:
                endpoint.breaker.close(now)
            self.endpoint_set.readmit(endpoint, now, math.inf)
        self._refresh()

    def learn_health(self, endpoint: Endpoint, now: float, shown: str, *, up: bool) -> None:
        """Take over what the checks of another worker have shown, in words, and whether checks pass."""
        endpoint.last_check = shown
        if endpoint.checks_pass is not up:
            self.set_health(endpoint, now, up=up)

    def learn_breaker(self, endpoint: Endpoint, now: float, until: float | None, level: int) -> None:
        """Take over the change of a breaker in another worker; see Breaker.learn()."""
        endpoint.breaker.learn(now, until, level)
        self._breaker_changed(endpoint, now)

    def hear_opening(self, endpoint: Endpoint, now: float, seconds: float) -> bool:
        """Another gateway has found an endpoint broken: eject the endpoint for so long, as far as this service's own
        rules and experience go. An endpoint that answers here may only be out of reach there.

        Returns:
            Whether the endpoint is ejected: not while the endpoint answers well, never more than max_ejected, never so
            that a panic begins, and never longer than the longest opening of the service's own breakers.
        """
        breaker, own = endpoint.breaker, self.config.breaker
        if seconds <= 0 or not own.is_on or endpoint.window.is_good(now):
            return False
        if not (breaker.is_hearsay or self.endpoint_set.may_eject(endpoint)):
            return False
        breaker.hear(now, now + min(seconds, max(own.open_for, own.longest)))
        self._breaker_changed(endpoint, now)
        return True

    def hear_closing(self, endpoint: Endpoint, now: float) -> bool:
        """Another gateway has found an endpoint well again; return whether that has ended an ejection of hearsay."""
        if not endpoint.breaker.is_hearsay:
            return False
        endpoint.breaker.close(now)
        self._breaker_changed(endpoint, now)
        return True

    def set_weight(self, endpoint: Endpoint, weight: int, now: float) -> None:
        """Set an operator's weight for an endpoint; an answer of a name server does not change this weight.

        A change from 0 to another weight begins slow start.

        Args:
            weight: ≥ 0.
        """
        self.membership.set_weight(endpoint.url, weight)
        was_out, endpoint.weight = not endpoint.weight, weight
        if was_out and weight:
            self.endpoint_set.readmit(endpoint, now, -math.inf)
        self._refresh()

    def add_endpoint(self, endpoint: Endpoint, now: float) -> None:
        """Add an operator's endpoint; an answer of a name server does not remove this endpoint.

        An endpoint of the same URL stays, with the weight of the new endpoint.
        """
        self.membership.add(endpoint.url, endpoint.weight)
        is_there = any(each.url == endpoint.url for each in self.endpoints)
        self._use(self.endpoints if is_there else (*self.endpoints, endpoint), now)

    def release(self, url: str, now: float) -> None:
        """Undo an operator's weight, drain or addition.

        Args:
            url: URL of the endpoint, or the added base URL.
        """
        self.membership.release(url)
        wanted = self.membership.wanted()
        # Without a wanted endpoint, the endpoint stood for an address; Resolution makes an endpoint of the address.
        self._use([endpoint for endpoint in self.endpoints if endpoint.url in wanted] or self.endpoints, now)

    def _use(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Replace the endpoints, with the membership's weights. A change from weight 0 begins slow start."""
        weights = self.membership.wanted()
        for endpoint in endpoints:
            if not endpoint.weight and weights.get(endpoint.url):
                self.endpoint_set.readmit(endpoint, now, -math.inf)
        self.replace_endpoints(endpoints, now, weights)

    def drain(self, endpoint: Endpoint, now: float) -> None:
        """Send no new requests to an endpoint; requests and streams in flight go on."""
        self.set_weight(endpoint, 0, now)

    def force_breaker(self, endpoint: Endpoint, now: float, seconds: float) -> None:
        """Open an endpoint's breaker for a number of seconds; see Breaker.force_open()."""
        endpoint.breaker.force_open(now, seconds)
        self._breaker_changed(endpoint, now)

    def reset_breaker(self, endpoint: Endpoint, now: float) -> None:
        """Close an endpoint's breaker, and forget the endpoint's failures."""
        endpoint.breaker.reset(now)
        self._breaker_changed(endpoint, now)

    def _breaker_changed(self, endpoint: Endpoint, now: float) -> None:
        self.outcomes.breaker_changed(endpoint, now, math.inf, failed=False)
        self.make_room()

    def penalise(self, endpoint: Endpoint, now: float, retry_after: float = 0.0) -> None:
        """Penalise an endpoint for a failure; see EndpointSet.penalise()."""
        self.endpoint_set.penalise(endpoint, now, retry_after)

    def begin_permit(self, endpoint: Endpoint, now: float) -> int:
        """Let a check probe an endpoint whose breaker is HALF_OPEN; end_permit() must follow. See Breaker.begin()."""
        return endpoint.breaker.begin(now)

    def end_permit(self, endpoint: Endpoint, permit: int, now: float, *, failed: bool | None) -> None:
        """Return a breaker's permit with the result of a health check; None for a check without a result."""
        self.outcomes.end_permit(endpoint, permit, now, failed=failed)
        self.make_room()

    def reconfigure(self, config: ServiceConfig, now: float, rng: random.Random) -> None:
        """Use another configuration. The state of the endpoints and the leases in flight stay.

        Args:
            rng: for a new balancer and a new limit.

        Raises:
            ValueError: sessions are configured, and neither the configuration nor the service has a secret.
        """
        before = self.config
        affinity = Affinity.from_config(self.name, config.affinity, config.balancer, self.affinity)
        balancer = BALANCERS[config.balancer](rng) if config.balancer != before.balancer else None
        self.config, self.affinity = config, affinity
        self.budget.reconfigure(config.retry)
        self.queue.size = config.max_waiting
        self.outcomes.reconfigure(config, limit_of(config, rng, self.outcomes.limit))
        self._is_bounded = self.outcomes.limit is not None or config.max_in_flight < math.inf
        for endpoint in self.endpoints:
            endpoint.reconfigure(config.breaker, config.connection.tls)
            if not config.checks and not endpoint.checks_pass:  # no check would bring the endpoint back
                endpoint.checks_pass = True
                self.endpoint_set.readmit(endpoint, now, -math.inf)
        self.endpoint_set.reconfigure(config, balancer)
        if affinity and affinity.sticky:
            affinity.sticky.use(self.endpoints)
        self.endpoint_set.end_rests(now)
        self.make_room()

    def _refresh(self) -> None:
        self.endpoint_set.refresh()
        self.make_room()


def limit_of(config: ServiceConfig, rng: random.Random, present: AdaptiveLimit | None = None) -> AdaptiveLimit | None:
    """The adaptive limit of a service's requests in flight; None with long polls, whose durations are no latencies.

    Args:
        present: stays if the configuration has a limit.
    """
    if not config.adapts or config.is_long_poll:
        return None
    return present or AdaptiveLimit(AdaptiveConfig(), rng)
