"""A service: its endpoints, who of them may be chosen, and the leases that requests take on them.

An endpoint passes while its health checks pass, if there are any, and its breaker is closed. An endpoint is not chosen
while its health checks fail, while its breaker has it ejected, and when its weight is 0. But breakers take out no more
than a share of a service's endpoints at once. And when too few are left to bear the load, or none passes, any endpoint
is used (panic): half of the endpoints overrun is worse than a part of the requests failing.

Panic is for load that the endpoints that pass cannot bear. So they come first: another endpoint is chosen only if none
of them has room, or the one that would be chosen takes as long to answer as a failure is taken for.

Whatever users' requests make an endpoint answer, no more than the same share of the endpoints is avoided for failures
that opened no breaker, or left alone for their Retry-After.

What changes all that is rare, and is worked out when it does. A choice reads the result.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tornado_gateway.errors import CircuitOpen, EndpointsBusy, Overloaded
from tornado_gateway.policy.http.sse import EventStreamConfig
from tornado_gateway.policy.upstream.affinity import Affinity, AffinityConfig
from tornado_gateway.policy.upstream.balancing import Balancer
from tornado_gateway.policy.upstream.breaker import BreakerConfig
from tornado_gateway.policy.upstream.concurrency import AdaptiveLimit
from tornado_gateway.policy.upstream.endpoint import (
    FAILURE,
    HTTP,
    SUCCESS,
    Endpoint,
    InFlight,
    LeaseRequest,
    Outcome,
    PickContext,
)
from tornado_gateway.policy.upstream.health import HealthConfig, HealthKind
from tornado_gateway.policy.upstream.hedging import Hedging
from tornado_gateway.policy.upstream.latency import PENALTY
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.probing import Probing
from tornado_gateway.policy.upstream.retry import Budget, RetryConfig
from tornado_gateway.policy.upstream.wait_queue import Queue
from tornado_gateway.policy.upstream.websocket_totals import WebSocketTotals

# 5xx, but for 501 and 505: what is not implemented is not broken. HAProxy counts them alike.
FAILURE_STATUSES = frozenset({*range(500, 600)} - {501, 505})
ROUNDING = 1e-9  # of shares of whole numbers: 0.29 x 100 is 28.999…


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """
    Attributes:
        balancer: name in BALANCERS.
        affinity: what binds requests to endpoints.
        breaker: when an endpoint is left alone.
        adapts: whether the limit of requests in flight follows the latency; see policy/upstream/concurrency.py.
        rebalance_streams: streams per second that may be moved away from endpoints with more than their share; 0: none.
        failure_statuses: that count as an endpoint's failure.
        max_ejected: share of the endpoints that breakers may take out at once, 0 to 1; rounded down. As many may be
            avoided or left alone for their answers.
        panic_below: share of the endpoints below which any is used; 0 for never.
        slow_start: seconds in which an endpoint that joins, or comes back, gets its full share; 0 for at once.
        max_in_flight: requests that an endpoint may have, without streams; math.inf for any number.
        max_waiting: requests that may wait until an endpoint has room; 0 for none.
        queue_timeout: seconds that each may.
        retry: what is sent again.
        hedge: whether a second endpoint is asked when the first one is slow.
        health: how endpoints are checked.
        connect_timeout: seconds for an endpoint's name, connection and TLS together; > 0.
        head_timeout: seconds to a response's head, of all tries of a request together; > 0.
        body_idle: seconds between two pieces of a response's body; > 0, math.inf for any time; None: as head_timeout.
        request_timeout: seconds from a request's head to its response's last byte, streams apart; math.inf for any.
        min_upload_rate, min_response_rate: bytes per second, see policy/http/pace.py; 0 for any.
        is_long_poll: whether endpoints answer late on purpose: the time to a head is no latency then, and a head that
            has not come in time is no endpoint's failure to its breaker.
        event_streams: what the service's event streams may do.
        passes_alt_svc: whether clients are told of the alternatives that its responses name (RFC 7838).
        body_timeout: body_idle, or head_timeout.
        hedges: `hedge`, but never with is_long_poll: a long poll that waits is not slow.
        checks: `health`; None if endpoints are not checked.
    """

    balancer: str = "least_load"
    affinity: AffinityConfig = field(default_factory=AffinityConfig)
    breaker: BreakerConfig = field(default_factory=BreakerConfig)
    adapts: bool = False
    rebalance_streams: int = 0
    failure_statuses: Collection[int] = FAILURE_STATUSES
    max_ejected: float = 0.5
    panic_below: float = 0.5
    slow_start: float = 10.0
    max_in_flight: float = math.inf
    max_waiting: int = 100
    queue_timeout: float = 1.0
    retry: RetryConfig = field(default_factory=RetryConfig)
    hedge: bool = False
    health: HealthConfig = field(default_factory=HealthConfig)
    connect_timeout: float = 5.0
    head_timeout: float = 30.0
    body_idle: float | None = None
    request_timeout: float = math.inf
    min_upload_rate: float = 100
    min_response_rate: float = 100
    is_long_poll: bool = False
    event_streams: EventStreamConfig = field(default_factory=EventStreamConfig)
    passes_alt_svc: bool = False
    body_timeout: float = field(init=False, compare=False, repr=False)
    hedges: bool = field(init=False, compare=False, repr=False)
    checks: HealthConfig | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        derive = partial(object.__setattr__, self)
        derive("body_timeout", self.head_timeout if self.body_idle is None else self.body_idle)
        derive("hedges", self.hedge and not self.is_long_poll)
        derive("checks", self.health if self.health.kind is not HealthKind.OFF else None)

    @property
    def shortest_timeout(self) -> float:
        """Of the durations whose end a sweep notices; the others have a timer each."""
        return min(self.head_timeout, self.body_timeout, self.retry.try_timeout, self.event_streams.shortest_timeout)


class Service(InFlight):
    """A named set of endpoints, and what is in flight at all of them.

    Attributes:
        ejected: endpoints that breakers have taken out, the one that is out longest first.
        is_panicking: whether endpoints that should not be chosen may be.
        budget: for sending again what has failed.
        limit: of the requests in flight that the service bears, found out by watching; None for none.
        affinity: what binds requests to endpoints; None if nothing does.
        hedging: when a second endpoint is asked, if it is.
        queue: requests that wait for room.
        websocket_totals: what WebSockets that have ended have carried.
    """

    __slots__ = (
        "_balancer", "_departing", "_has_reserve", "_is_bounded", "_joining", "_most_out", "_plain",
        "_present", "_probing", "_reserve", "_serving", "_settled", "_sound", "_usable", "affinity", "budget",
        "config", "ejected", "endpoints", "hedging", "is_panicking", "limit", "name", "queue", "websocket_totals",
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
        self.hedging = Hedging()
        self.limit, self.affinity = limit, affinity
        self._balancer = balancer  # among those that come first
        self._reserve = balancer.another()  # among all that can be used, if that is more
        self._has_reserve = False
        self._sound: set[Endpoint] = set()  # that pass
        self._serving: set[Endpoint] = set()  # that come first
        self._most_out = 0  # how many may be ejected, avoided or left alone
        self.queue = Queue(self.config.max_waiting)
        self._present: set[Endpoint] = set()  # the endpoints
        self._usable: list[Endpoint] = []
        self._departing: list[Endpoint] = []  # that are endpoints no more, but still have something in flight
        self._joining: dict[Endpoint, None] = {}  # an ordered set: who joined first stands first
        self._settled = 0  # how many of the usable ones do not join
        self._probing = Probing()
        self._is_bounded = limit is not None or self.config.max_in_flight < math.inf
        self.replace_endpoints(endpoints)

    # ---- who may be chosen

    def replace_endpoints(self, endpoints: Sequence[Endpoint], now: float | None = None) -> None:
        """Use these endpoints from now on, or the same ones with other weights. Those that stay keep all that is known.

        Args:
            now: instant from which on the share of those that are new grows; None if there were none before.
        """
        before, present = self._present, set(endpoints)
        self.endpoints, self._present = tuple(endpoints), present
        for endpoint in before - present:
            self._remove(endpoint)
        self._departing = [each for each in {*self._departing, *before} if each not in present and each.load]
        for endpoint in self.endpoints:
            if now is not None and endpoint not in before:
                self._join(endpoint, now)
        if self.affinity and self.affinity.sticky:
            self.affinity.sticky.use(self.endpoints)
        self.refresh()

    def _remove(self, endpoint: Endpoint) -> None:
        endpoint.is_admitted = endpoint.is_ejected = False
        self._joining.pop(endpoint, None)
        self._probing.forget(endpoint)

    def refresh(self) -> None:
        """Work out anew who may be chosen: an endpoint's breaker or health has changed."""
        members = [endpoint for endpoint in self.endpoints if endpoint.weight]
        healthy = [endpoint for endpoint in members if endpoint.checks_pass]
        broken = sorted((each for each in healthy if each.breaker.is_open), key=lambda each: each.breaker.opened_at)
        sound = [endpoint for endpoint in members if endpoint.healthy]
        self._most_out = int(len(members) * self.config.max_ejected + ROUNDING)
        self.ejected = broken[: self._most_out]
        out = set(self.ejected)
        usable = [endpoint for endpoint in healthy if endpoint not in out]
        self.is_panicking = self._panics(len(members), len(usable), len(sound))
        if self.is_panicking:
            self.ejected, out, usable = [], set(), members
        self._usable, may = usable, set(usable)
        for endpoint in self.endpoints:
            self._admit(endpoint, is_admitted=endpoint in may, is_ejected=endpoint in out)
        self._serve(sound if self.is_panicking and sound else usable, sound)
        self.make_room()

    def _panics(self, members: int, usable: int, sound: int) -> bool:
        """Whether any endpoint may be used.

        A panic lasts until enough endpoints pass: after an outage of all, one that has recovered must not share the
        traffic with those that breakers could no longer take out.
        """
        enough = self.config.panic_below * members - ROUNDING
        count = sound if self.is_panicking else usable
        return members > 0 and enough > 0 and (not sound or count < enough)

    def _serve(self, first: list[Endpoint], sound: list[Endpoint]) -> None:
        """Choose from these first, and from all that are usable if they cannot bear the load."""
        self._serving, self._sound = set(first), set(sound)
        self._settled = sum(endpoint not in self._joining for endpoint in sound)
        weight = sum(endpoint.weight for endpoint in first) or 1
        self._plain = PickContext(self.config.max_in_flight, in_flight=self, weight=weight)
        self._balancer.use(first, self.endpoints)
        self._has_reserve = len(first) < len(self._usable)
        if self._has_reserve:
            self._reserve.use(self._usable, self.endpoints)

    def _admit(self, endpoint: Endpoint, *, is_admitted: bool, is_ejected: bool) -> None:
        if is_ejected and not endpoint.is_ejected:
            self._probing.probe_after_opening(endpoint)
        elif is_admitted and not endpoint.is_admitted:
            self._probing.probe_if_penalised(endpoint)
        endpoint.is_admitted, endpoint.is_ejected = is_admitted, is_ejected

    def _join(self, endpoint: Endpoint, now: float) -> None:
        """An endpoint is new, or has come back: its share of the traffic begins to grow."""
        endpoint.joined_at = now
        self._joining.pop(endpoint, None)
        self._joining[endpoint] = None

    def penalise(self, endpoint: Endpoint, now: float, retry_after: float = 0.0) -> None:
        """An endpoint has failed. It is avoided until it turns out to work again, if not too many are.

        Args:
            retry_after: seconds that it asks to be left alone.
        """
        if endpoint not in self._present:  # it has left meanwhile
            return
        doubted = self._probing.penalised
        if endpoint.breaker.is_open or endpoint in doubted or len({*doubted, *self.ejected}) < self._most_out:
            may_rest = retry_after > 0 and len(self._out(now) - {endpoint}) < self._most_out
            endpoint.latency.penalise(now, retry_after if may_rest else 0.0)
            self._probing.penalise(endpoint)

    def _out(self, now: float) -> set[Endpoint]:
        """Endpoints that are ejected or left alone."""
        return {*self.ejected, *(each for each in self._probing.penalised if now < each.latency.rests_until)}

    def _end_rests(self, now: float) -> None:
        """More are ejected: of those that are left alone, some can be no longer."""
        resting = sorted(self._out(now) - {*self.ejected}, key=lambda each: each.latency.rests_until)
        for endpoint in resting[max(0, self._most_out - len(self.ejected)) :]:
            endpoint.latency.rests_until = now

    # ---- leases

    def lease(self, request: LeaseRequest, *, is_retry: bool = False) -> "Lease":
        """Take a lease on an endpoint.

        Raises:
            EndpointsBusy: all that may be asked have as much in flight as they may; it may wait in the `queue`.
            CircuitOpen: breakers or health checks have taken out all endpoints.
            Overloaded: all were tried.
        """
        if self._is_bounded and request.kind is HTTP:
            self._refuse_if_full(request)
        endpoint = self._bound_to(request, request.pinned) if request.pinned else None
        if endpoint is None and (self.ejected or self._probing.penalised):
            endpoint = self._due_for_probe(request)
        if endpoint is None:
            endpoint = self._choose(request)
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
        if not request.tried and self._can_use(request.pinned) and self._is_full(request):
            raise EndpointsBusy

    def _can_use(self, pinned: Endpoint | None) -> bool:
        """Whether a request has anything to wait for; where it has not, it is refused at once."""
        return pinned.is_admitted if pinned and self._keeps_sessions else bool(self._usable)

    def _bound_to(self, request: LeaseRequest, pinned: Endpoint) -> Endpoint | None:
        """The endpoint that a session is bound to, if it can be used."""
        if pinned in request.tried:
            return None
        refuses = self._keeps_sessions
        if self._has_reserve and pinned not in self._serving and not refuses:
            return None
        is_due = pinned.is_ejected and pinned.breaker.passes(request.now) and (request.is_repeatable or refuses)
        if pinned.available(request, self._plain) or is_due:
            return pinned
        if pinned.is_admitted and (refuses or self.config.max_waiting):
            raise EndpointsBusy
        if refuses:
            raise CircuitOpen("the endpoint that has the session cannot be used")
        return None

    def _due_for_probe(self, request: LeaseRequest) -> Endpoint | None:
        """An endpoint that the request is to find out about; while others can be used, no second try is risked."""
        if self._usable and (request.tried or self.budget.balance(request.now) < 1.0):
            return None
        return self._probing.due(request, self._plain, alone=not self._usable, none_passes=not self._sound)

    def _choose(self, request: LeaseRequest) -> Endpoint | None:
        if len(self.endpoints) == 1:
            (only,) = self.endpoints
            return only if only.available(request, self._plain) else None
        if not self._joining and not self._probing.penalised and not self._has_reserve:
            return self._balancer.choose(request, self._plain)
        context = self._careful_context(request.now)
        chosen = self._choose_from(self._balancer, request, context)
        if self._has_reserve and (chosen is None or _is_overrun(chosen, request)):
            return self._choose_from(self._reserve, request, context) or chosen
        return chosen

    def _choose_from(self, balancer: Balancer, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        """Choose an endpoint that is neither joining nor resting, if there is one; else any available endpoint."""
        chosen = balancer.choose(request, context)
        return balancer.choose(request, self._plain) if chosen is None and context is not self._plain else chosen

    def _careful_context(self, now: float) -> PickContext:
        """The context where endpoints join or rest. Where every endpoint is joining, none is spared."""
        self._end_slow_starts(now)
        slow_start = self.config.slow_start if self._joining and self._settled > 0 else 0.0
        honours_retry_after = bool(self._probing.penalised)
        if not slow_start and not honours_retry_after:
            return self._plain
        return replace(self._plain, slow_start=slow_start, honours_retry_after=honours_retry_after)

    def _end_slow_starts(self, now: float) -> None:
        """Forget the endpoints whose share has grown to 1."""
        joining, slow_start = self._joining, self.config.slow_start
        while joining and (first := next(iter(joining))).share(now, slow_start) == 1.0:
            del joining[first]
            self._settled += first in self._sound

    def has_other(self, tried: Collection[Endpoint], pinned: Endpoint | None) -> bool:
        """Whether an endpoint can be used that was not tried.

        Args:
            pinned: the endpoint that the client belongs to.
        """
        if pinned and self._keeps_sessions:
            return False
        return any(endpoint not in tried for endpoint in self._usable)

    @property
    def _keeps_sessions(self) -> bool:
        """Whether a client is refused rather than sent to another endpoint than its own."""
        return self.affinity is not None and self.affinity.sticky is not None and self.affinity.sticky.refuses

    def _why_none(self, request: LeaseRequest) -> Overloaded:
        if any(endpoint not in request.tried for endpoint in self._usable):
            return EndpointsBusy()
        if not request.tried:
            return CircuitOpen(
                retry_after=min((each.breaker.open_until - request.now for each in self.ejected), default=1.0)
            )
        return Overloaded("no endpoint of the service is left to try")

    def _is_full(self, request: LeaseRequest) -> bool:
        if not request.has_waited and self.queue.is_ahead_of(request.pinned):
            return True
        return self.limit is not None and self.requests >= self.limit.limit

    @property
    def has_penalised(self) -> bool:
        """Whether any endpoint has failed since it last answered well."""
        return bool(self._probing.penalised)

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        return len(self.queue.waiting)

    @property
    def departing(self) -> list[Endpoint]:
        """Those that are endpoints no more, but still have something in flight."""
        return [endpoint for endpoint in self._departing if endpoint.load]

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

    def clear_penalty(self, endpoint: Endpoint) -> None:
        """An endpoint that had failed has answered well."""
        self._probing.clear_penalty(endpoint)

    def make_room(self) -> None:
        """A request has ended, or there is more room: as many of those that wait go on as there is room for."""
        self.queue.release(self._has_room)

    def _has_room(self, pinned: Endpoint | None) -> bool:
        """Whether a request that waits would not have to wait on."""
        if not self._can_use(pinned):
            return True
        if self.limit and self.requests >= self.limit.limit:
            return False
        several = (pinned,) if pinned and pinned.is_admitted else self._usable
        return any(each.requests < self.config.max_in_flight for each in several)

    def tell_breaker(
        self,
        endpoint: Endpoint,
        permit: int,
        now: float,
        *,
        failed: bool | None,
        seconds: float = 0.0,
        since: float = math.inf,
    ) -> None:
        """Tell an endpoint's breaker of an outcome; see its `end()`.

        Args:
            since: when the request was sent, of which it is the outcome; math.inf for a check.
        """
        breaker = endpoint.breaker
        was_open = breaker.is_open
        breaker.end(permit, now, failed=failed, seconds=seconds)
        if failed is False and breaker.is_open and not self._sound and since > breaker.tripped_at:
            breaker.close(now)
        if breaker.is_open and endpoint.is_ejected:
            self._probing.probe_after_opening(endpoint)
        if breaker.is_open != was_open:
            self._breaker_changed(endpoint, now, since, failed=bool(failed))

    def _breaker_changed(self, endpoint: Endpoint, now: float, since: float, *, failed: bool) -> None:
        if not endpoint.breaker.is_open:
            self._readmit(endpoint, now, since)
        elif failed and endpoint not in self._probing.penalised:
            self.penalise(endpoint, now)
        self.refresh()
        self._end_rests(now)

    def health_changed(self, endpoint: Endpoint, now: float) -> None:
        """An endpoint's health checks have taken it out, or brought it back."""
        if endpoint.checks_pass:
            if endpoint.breaker.is_open:
                endpoint.breaker.close(now)
            self._readmit(endpoint, now)
        self.refresh()

    def _readmit(self, endpoint: Endpoint, now: float, since: float = math.inf) -> None:
        """An endpoint works again; what it was blamed for is over, unless it was for the very answer that shows it."""
        if endpoint.latency.penalised_at < since:
            endpoint.latency.forget()
            self._probing.clear_penalty(endpoint)
        if endpoint in self._present and endpoint not in self._serving:  # else it has its share already, or has left
            self._join(endpoint, now)


def _is_overrun(endpoint: Endpoint, request: LeaseRequest) -> bool:
    """Whether an endpoint has more to do than it can bear: its answers take as long as a failure is taken for."""
    return endpoint.requests > 0 and endpoint.latency.expected(request.now) >= PENALTY
