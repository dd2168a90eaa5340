"""Random histories of services, for tests of figures of several processes."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st

from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.concurrency import AdaptiveLimit
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind, LeaseRequest, Outcome
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.policy.upstream.stream_totals import Carried
from tornado_gateway.policy.views import collecting
from tornado_gateway.policy.views import snapshot as rendering
from tornado_gateway.policy.views.collecting import Sources
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.state import State
from tornado_gateway.policy.views.steps import Steps

T = TypeVar("T")

NAMES = ("one", "two")
URLS = ("http://a", "http://b", "http://c")

# Keys of JSON that several processes do not show as one process does: averages, last answers and peaks depend on the
# order of the answers, and each process has a retry budget with a floor.
OF_EACH_PROCESS = {"ewmaMs", "lastMs", "peakMs", "avgLatencyMs", "retryBudget"}
NEVER_OPENS = BreakerConfig(failures=0)  # a breaker decides by the failures of its own process


def make_service(
    name: str, breaker: BreakerConfig = NEVER_OPENS, limit: AdaptiveLimit | None = None, **config: Any
) -> Service:
    rng = random.Random(1)
    endpoints = [Endpoint(url, Breaker(breaker, rng)) for url in URLS]
    return Service(name, endpoints, BALANCERS["round_robin"](rng), ServiceConfig(**config), limit)


@dataclass(frozen=True)
class Event:
    """A request of a history.

    Attributes:
        quarters: of a second since the event before.
        outcome: None while the request is in flight.
        status: of the answer; None without an answer.
        ticks: 1024ths of a second that the request has taken, so that all sums of seconds are exact.
    """

    quarters: int
    service: str
    endpoint: int
    kind: Kind
    outcome: Outcome | None
    status: int | None
    ticks: int
    is_retry: bool


def whole(steps: Steps[T]) -> T:
    """The result of a computation, without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def collect(services: Iterable[Service], durations: Durations, now: float, *, with_minute: bool = True) -> State:
    """The State of services and durations at an instant."""
    return whole(collecting.collect(Sources(services, durations), now, with_minute=with_minute))


def snapshot(state: State, epoch: float) -> dict[str, Any]:
    """A State as plain data for JSON."""
    return whole(rendering.snapshot(state, epoch))


# Events, each with the number of the process that it happens in.
lives = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.builds(
            Event,
            quarters=st.integers(0, 12) | st.integers(0, 200),
            service=st.sampled_from(NAMES),
            endpoint=st.integers(0, len(URLS) - 1),
            kind=st.sampled_from(Kind),
            outcome=st.sampled_from(Outcome) | st.none(),
            status=st.sampled_from([200, 404, 429, 503]) | st.none(),
            ticks=st.integers(0, 4096),
            is_retry=st.booleans(),
        ),
    ),
    max_size=30,
)


class Process:
    """The services of a process."""

    def __init__(self) -> None:
        self.services = [make_service(name) for name in NAMES]
        self.durations = Durations()

    def live(self, event: Event, now: float) -> None:
        service, seconds = self.services[NAMES.index(event.service)], event.ticks / 1024
        asked = LeaseRequest(now - seconds, event.kind)
        lease = Lease(service, service.endpoints[event.endpoint], asked, is_retry=event.is_retry)
        service.outcomes.hedging.sent += event.is_retry
        service.outcomes.hedging.won += event.is_retry and event.status is not None
        service.websocket_totals.opened += event.kind is Kind.WS
        if event.status:
            lease.answered(now, event.status)
            self.durations.add(b"GET", f"/{event.service}/*", event.status, seconds, event.service)
            service.heads.add(seconds)
        if event.outcome:
            lease.settle(event.outcome, now)
        if event.outcome and event.kind is Kind.WS:
            service.websocket_totals.add(Carried(1, 2, event.ticks, 3, 0), seconds, 1000 + event.endpoint)

    def state(self, now: float) -> State:
        return collect(self.services, self.durations, now)
