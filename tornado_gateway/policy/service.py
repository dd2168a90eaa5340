"""A service: its endpoints, who of them may be chosen, and the leases that requests take on them.

An endpoint is not chosen while its health checks fail, while its breaker has it ejected, and when its
weight is 0. But no more than a share of a service's endpoints is ejected at once; and when
too few are left to bear the load, all are used (panic): half of them overrun is worse
than a part of the requests failing.

What changes all that is rare, and is worked out when it does. A choice reads the result.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from tornado_gateway.errors import CircuitOpen, EndpointsBusy, Overloaded
from tornado_gateway.policy.affinity import Affinity
from tornado_gateway.policy.balancing import Balancer
from tornado_gateway.policy.concurrency import AdaptiveLimit
from tornado_gateway.policy.endpoint import FAILURE, HTTP, SUCCESS, Ask, Endpoint, InFlight, Outcome
from tornado_gateway.policy.health import HealthConfig
from tornado_gateway.policy.latency import DOUBT
from tornado_gateway.policy.lease import Lease
from tornado_gateway.policy.queue import Queue
from tornado_gateway.policy.retry import Budget, RetryConfig
from tornado_gateway.policy.statistics import Window
from tornado_gateway.policy.websocket_totals import WebSocketTotals

# 5xx, but for 501 and 505: what is not implemented is not broken. HAProxy counts them alike.
FAILURE_STATUSES = frozenset({*range(500, 600)} - {501, 505})
ROUNDING = 1e-9  # of shares of whole numbers: 0.29 x 100 is 28.999…

HEDGED_ABOVE = 0.95  # of the last minute's answers are quicker than what a second endpoint is asked for
FEWEST_SAMPLES = 10  # answers that must be known before that is told from them
HEDGE_KEPT = 1.0  # seconds that what was worked out of them is used


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """
    Attributes:
        failure_statuses: that count as an endpoint's failure.
        max_ejected: share of the endpoints that breakers may take out at once, 0 to 1; rounded down.
        panic_below: share of the endpoints below which all are used; 0 for never.
        slow_start: seconds in which an endpoint that joins, or comes back, gets its full share; 0 for at once.
        max_in_flight: requests that an endpoint may have, without streams; math.inf for any number.
        max_waiting: requests that may wait until an endpoint has room; 0 for none.
        queue_timeout: seconds that each may.
        retry: what is sent again.
        hedges: whether a second endpoint is asked when the first one is slow.
        health: how endpoints are checked; None if they are not.
    """

    failure_statuses: Collection[int] = FAILURE_STATUSES
    max_ejected: float = 0.5
    panic_below: float = 0.5
    slow_start: float = 10.0
    max_in_flight: float = math.inf
    max_waiting: int = 0
    queue_timeout: float = 1.0
    retry: RetryConfig = field(default_factory=RetryConfig)
    hedges: bool = False
    health: HealthConfig | None = None


class Service(InFlight):
    """A named set of endpoints, and what is in flight at all of them.

    Attributes:
        ejected: endpoints that breakers have taken out, the one that is out longest first.
        is_panicking: whether endpoints that should not be chosen are.
        budget: for sending again what has failed.
        limit: of the requests in flight that the service bears, found out by watching; None for none.
        affinity: what binds requests to endpoints; None if nothing does.
        hedges_total, hedges_won_total: requests for which a second endpoint was asked, and was the first to answer.
        queue: requests that wait for room.
        websocket_totals: what WebSockets that have ended have carried.
    """

    __slots__ = (
        "_balancer", "_doubted", "_fair_weight", "_hedge_after", "_hedge_kept_until", "_is_bounded", "_joining",
        "affinity", "budget", "config", "ejected", "endpoints", "hedges_total",
        "hedges_won_total", "is_panicking", "limit", "name", "queue", "websocket_totals",
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
        self.endpoints: tuple[Endpoint, ...] = ()
        self.ejected: list[Endpoint] = []
        self.is_panicking = False
        self.budget = Budget(self.config.retry)
        self.websocket_totals = WebSocketTotals()
        self.hedges_total = self.hedges_won_total = 0
        self.limit, self.affinity = limit, affinity
        self._balancer = balancer
        self.queue = Queue(self.config.max_waiting)
        self._joining: dict[Endpoint, None] = {}  # an ordered set, as is the next
        self._doubted: dict[Endpoint, None] = {}  # that have failed, and may be shunned for it
        self._is_bounded = limit is not None or self.config.max_in_flight < math.inf
        self._hedge_after: float | None = None
        self._hedge_kept_until = -math.inf
        self._fair_weight = 1
        self.replace_endpoints(endpoints)

    # ---- who may be chosen

    def replace_endpoints(self, endpoints: Sequence[Endpoint], now: float | None = None) -> None:
        """Use these endpoints from now on, or the same ones with other weights. Those that stay keep all that is known.

        Args:
            now: instant from which on the share of those that are new grows; None if there were none before.
        """
        before, present = set(self.endpoints), set(endpoints)
        for endpoint in before - present:
            endpoint.is_usable = False
            self._joining.pop(endpoint, None)
            self._doubted.pop(endpoint, None)
        self.endpoints = tuple(endpoints)
        for endpoint in self.endpoints:
            if now is not None and endpoint not in before:
                self._join(endpoint, now)
        self._balancer.use(self.endpoints)
        if self.affinity and self.affinity.sticky:
            self.affinity.sticky.use(self.endpoints)
        self.refresh()

    def refresh(self) -> None:
        """Work out anew who may be chosen: an endpoint's breaker or health has changed."""
        members = [endpoint for endpoint in self.endpoints if endpoint.weight]
        healthy = [endpoint for endpoint in members if endpoint.is_healthy]
        broken = sorted((each for each in healthy if each.breaker.is_open), key=lambda each: each.breaker.opened_at)
        self.ejected = broken[: int(len(members) * self.config.max_ejected + ROUNDING)]
        usable = [endpoint for endpoint in healthy if endpoint not in self.ejected]
        self.is_panicking = len(usable) < self.config.panic_below * len(members) - ROUNDING
        if self.is_panicking:
            self.ejected, usable = [], members
        for endpoint in self.endpoints:
            endpoint.is_usable = False
        for endpoint in usable:
            endpoint.is_usable = True
        self._fair_weight = sum(endpoint.weight for endpoint in usable) or 1
        self.make_room()

    def _join(self, endpoint: Endpoint, now: float) -> None:
        """An endpoint is new, or has come back: its share of the traffic begins to grow."""
        if endpoint in self.endpoints:  # it may have left meanwhile
            endpoint.joined_at, endpoint.credit = now, 0.0
            self._joining[endpoint] = None

    def doubt(self, endpoint: Endpoint, now: float, retry_after: float = 0.0) -> None:
        """An endpoint has failed: whoever avoids it for that must find out that it works again.

        Args:
            retry_after: seconds that it asks to be left alone.
        """
        endpoint.latency.penalise(now, retry_after)
        if endpoint in self.endpoints:
            self._doubted[endpoint] = None

    # ---- leases

    def lease(self, ask: Ask, *, is_retry: bool = False) -> "Lease":
        """Take a lease on an endpoint.

        Raises:
            EndpointsBusy: all that may be asked have as much in flight as they may; it may wait in the `queue`.
            CircuitOpen: breakers or health checks have taken out all endpoints.
            Overloaded: all were tried.
        """
        if self._is_bounded and ask.kind is HTTP:
            self._bound(ask)
        endpoint = self._bound_to(ask, ask.pinned) if ask.pinned else None
        if endpoint is None and (self.ejected or self._doubted):
            endpoint = self._due_for_probe(ask)
        if endpoint is None:
            endpoint = self._choose(ask)
        if endpoint is None:
            raise self._why_none(ask)
        if not is_retry:
            self.budget.pay_in(ask.now)
        return Lease(self, endpoint, ask, is_retry=is_retry)

    def _bound(self, ask: Ask) -> None:
        """See that a request gets no more than there is room for."""
        ask.most = self.config.max_in_flight
        if not ask.tried and self._is_full(ask):
            raise EndpointsBusy

    def _bound_to(self, ask: Ask, pinned: Endpoint) -> Endpoint | None:
        """The endpoint that a session is bound to, if it can be used."""
        if pinned in ask.tried:
            return None
        refuses = self._keeps_sessions
        is_due = pinned in self.ejected and pinned.breaker.passes(ask.now) and (ask.is_repeatable or refuses)
        if ask.admits(pinned) or is_due:
            return pinned
        if pinned.is_usable and (refuses or self.config.max_waiting):
            raise EndpointsBusy
        if refuses:
            raise CircuitOpen("the endpoint that has the session cannot be used")
        return None

    def _due_for_probe(self, ask: Ask) -> Endpoint | None:
        """An ejected endpoint whose time is over, or one that has failed and should be asked again.

        Only if the request can be sent again should it still be broken.
        """
        if any(endpoint.is_usable for endpoint in self.endpoints) and not (
            ask.is_repeatable and self.budget.balance(ask.now) >= 1.0
        ):
            return None
        for endpoint in self.ejected:
            if endpoint.breaker.passes(ask.now) and endpoint not in ask.tried:
                return endpoint
        for endpoint in self._doubted:
            if ask.now >= endpoint.latency.ask_at and ask.admits(endpoint):
                endpoint.latency.ask_at = ask.now + DOUBT  # one at a time
                return endpoint
        return None

    def _choose(self, ask: Ask) -> Endpoint | None:
        if len(self.endpoints) == 1:
            (only,) = self.endpoints
            return only if ask.admits(only) else None
        ask.fair_load = ((self.requests if ask.kind is HTTP else self.load) + 1) / self._fair_weight
        if not self._joining:
            return self._balancer.choose(ask)
        ask.spared = self._spared(ask.now)
        chosen = self._balancer.choose(ask)
        if chosen is None:
            ask.spared = ()
            chosen = self._balancer.choose(ask)
        if chosen in self._joining:
            chosen.credit = max(0.0, chosen.credit - 1.0)
        return chosen

    def _spared(self, now: float) -> list[Endpoint]:
        """Those that have joined and have had their share of the traffic for now.

        Their shares are counted, whatever the balancer: to some, who has nothing to do yet is the best of all.
        """
        for endpoint in [each for each in self._joining if each.share(now, self.config.slow_start) == 1.0]:
            del self._joining[endpoint]
        for endpoint in self._joining:
            share = endpoint.share(now, self.config.slow_start) * endpoint.weight / self._fair_weight
            endpoint.credit = min(endpoint.credit + share, 1.0)
        return [endpoint for endpoint in self._joining if endpoint.credit < 1.0]

    def has_other(self, tried: Collection[Endpoint], pinned: Endpoint | None) -> bool:
        """Whether an endpoint can be used that was not tried.

        Args:
            pinned: the endpoint that the client belongs to.
        """
        if pinned and self._keeps_sessions:
            return False
        return any(endpoint.is_usable and endpoint not in tried for endpoint in self.endpoints)

    @property
    def _keeps_sessions(self) -> bool:
        """Whether a client is refused rather than sent to another endpoint than its own."""
        return self.affinity is not None and self.affinity.sticky is not None and self.affinity.sticky.refuses

    def _why_none(self, ask: Ask) -> Overloaded:
        left = [endpoint for endpoint in self.endpoints if endpoint not in ask.tried]
        if any(endpoint.is_usable for endpoint in left):
            return EndpointsBusy()
        if left and not ask.tried:
            return CircuitOpen(
                retry_after=min((each.breaker.open_until - ask.now for each in self.ejected), default=1.0)
            )
        return Overloaded("no endpoint of the service is left to try")

    def _is_full(self, ask: Ask) -> bool:
        if not ask.has_waited and self.queue.is_ahead_of(ask.pinned):
            return True
        return self.limit is not None and self.requests >= self.limit.limit

    @property
    def has_doubts(self) -> bool:
        """Whether any endpoint has failed since it last answered well."""
        return bool(self._doubted)

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        return len(self.queue.waiting)

    def window(self, now: float) -> Window:
        """What happened at all endpoints in the last minute."""
        return Window.of((endpoint.window for endpoint in self.endpoints), now)

    def hedge_after(self, now: float) -> float | None:
        """Seconds to an answer's head that nearly all requests of late were within; None if too few are known."""
        if now >= self._hedge_kept_until:
            window = self.window(now)
            (seconds,) = window.quantiles(now, [HEDGED_ABOVE])
            self._hedge_after = seconds if window.samples(now) >= FEWEST_SAMPLES else None
            self._hedge_kept_until = now + HEDGE_KEPT
        return self._hedge_after

    def judge(self, status: int) -> Outcome:
        """What a status says about the endpoint, of an answer that came whole."""
        return FAILURE if status in self.config.failure_statuses else SUCCESS

    def learn(self, since: float, seconds: float | None) -> None:
        """A request was answered well.

        Args:
            since: when it was sent.
            seconds: until the head of the response.
        """
        if self.limit and seconds is not None:
            self.limit.add(since + seconds, seconds, self.requests + 1)

    def trust(self, endpoint: Endpoint) -> None:
        """An endpoint that had failed has answered well."""
        self._doubted.pop(endpoint, None)

    def make_room(self) -> None:
        """A request has ended, or there is more room: as many of those that wait go on as there is room for."""
        self.queue.release(self._has_room)

    def _has_room(self, pinned: Endpoint | None) -> bool:
        """Whether a request that waits would not have to wait on; where nothing can be used, it is refused at once."""
        several = (pinned,) if pinned and pinned.is_usable else self.endpoints
        usable = [each for each in several if each.is_usable]
        if not usable:
            return True
        if self.limit and self.requests >= self.limit.limit:
            return False
        return any(each.requests < self.config.max_in_flight for each in usable)

    def tell_breaker(
        self, endpoint: Endpoint, permit: int, now: float, *, failed: bool | None, seconds: float = 0.0
    ) -> None:
        """Tell an endpoint's breaker of an outcome; see its `end()`."""
        breaker = endpoint.breaker
        was_open = breaker.is_open
        breaker.end(permit, now, failed=failed, seconds=seconds)
        if breaker.is_open == was_open:
            return
        if was_open:
            self._welcome(endpoint, now)
        self.refresh()

    def health_changed(self, endpoint: Endpoint, now: float) -> None:
        """An endpoint's health checks have taken it out, or brought it back."""
        if endpoint.is_healthy:
            self._welcome(endpoint, now)
        self.refresh()

    def _welcome(self, endpoint: Endpoint, now: float) -> None:
        endpoint.latency.forget()
        self._doubted.pop(endpoint, None)
        self._join(endpoint, now)
