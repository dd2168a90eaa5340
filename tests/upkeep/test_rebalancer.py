"""The sweep that moves streams: of which services, and how often."""

import random
from dataclasses import replace

import pytest

from tornado_gateway.policy.http.stream_limits import StreamLimits
from tornado_gateway.policy.upstream.affinity import Affinity, HashKey, Sticky
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind, LeaseRequest, Outcome
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.policy.upstream.stream_totals import Carried, StreamTotals
from tornado_gateway.upkeep.rebalancer import CHECK_INTERVAL, Rebalancer
from tornado_gateway.upkeep.streams import Streams

START = 1000.0  # seconds on the services' clock
STICKY = Affinity(None, Sticky(b"c", b"secret", refuses=False))


class Held:
    """A stream with a lease, which ends when moved or when the test ends the stream."""

    due = 0.0
    is_movable = True
    carried = Carried(0, 0, 0, 0, 0)

    def __init__(self, staged: "Staged", lease: Lease, *, ends: bool = True) -> None:
        self.staged, self.lease, self._ends = staged, lease, ends
        self.moved, self.totals = 0, StreamTotals()

    def count_end(self, seconds: float) -> None: ...

    def look(self, now: float) -> None: ...

    def drain(self) -> None: ...

    def abort(self) -> None: ...

    def move(self) -> None:
        self.moved += 1
        if self._ends:
            self.end()

    def end(self) -> None:
        self.lease.settle(Outcome.SUCCESS, self.staged.now)
        self.staged.streams.discard(self)


class Staged:
    """Services whose streams can be moved."""

    def __init__(self) -> None:
        self.now = START
        self.streams = Streams(StreamLimits())

    def service(self, affinity: Affinity | None = None, slow_start: float = 0.0) -> Service:
        """A service with two endpoints."""
        breaker = Breaker(BreakerConfig(), random.Random(1))
        several = [Endpoint(f"http://host{number}", breaker) for number in range(2)]
        config = ServiceConfig(slow_start=slow_start)
        return Service("svc", several, BALANCERS["least_load"](random.Random(1)), config, affinity=affinity)

    def hold(self, service: Service, count: int, *, at: int = 0, ends: bool = True) -> list[Held]:
        """So many streams at one endpoint."""
        leases = [
            Lease(service, service.endpoints[at], LeaseRequest(self.now, Kind.WS), is_retry=False) for _ in range(count)
        ]
        held = [Held(self, lease, ends=ends) for lease in leases]
        for each in held:
            self.streams.add(each, None, each.lease.endpoint)
        return held

    def moves(self, rebalancer: Rebalancer, seconds: float = CHECK_INTERVAL) -> None:
        self.now += seconds
        rebalancer.sweep(self.now)


def allow(service: Service, per_second: int) -> None:
    service.config = replace(service.config, rebalance_streams=per_second)


def rebalancing(staged: Staged, *services: Service, per_second: int = 10) -> Rebalancer:
    for service in services:
        allow(service, per_second)
    return Rebalancer(services, staged.streams)


def counts(service: Service) -> list[int]:
    return [endpoint.streams for endpoint in service.endpoints]


def test_streams_are_moved_at_the_configured_rate_until_the_surplus_is_tolerated() -> None:
    staged = Staged()
    service = staged.service()
    staged.hold(service, 20)
    rebalancer = rebalancing(staged, service, per_second=5)
    seen = []
    for _ in range(10):
        staged.moves(rebalancer)
        seen.append(counts(service)[0])
    assert seen == [15, 14, 13, 12, 11, 11, 11, 11, 11, 11]


@pytest.mark.parametrize("per_second", [0, 5])
def test_a_service_for_which_that_is_not_wanted_is_left_alone(per_second: int) -> None:
    staged = Staged()
    wanted, other = staged.service(), staged.service()
    staged.hold(wanted, 20)
    staged.hold(other, 20)
    allow(wanted, 5)
    allow(other, per_second)
    rebalancer = Rebalancer([wanted, other], staged.streams)
    staged.moves(rebalancer)
    assert (counts(wanted), counts(other)) == ([15, 0], [20 - per_second, 0])  # each has a pace of its own


@pytest.mark.parametrize(
    ("affinity", "left"), [(STICKY, 20), (Affinity(HashKey("client"), None), 15)], ids=["sessions", "keys"]
)
def test_streams_of_services_with_sticky_sessions_are_not_moved(affinity: Affinity, left: int) -> None:
    staged = Staged()
    service = staged.service(affinity)
    staged.hold(service, 20)
    staged.moves(rebalancing(staged, service, per_second=5))
    assert counts(service)[0] == left


def test_a_stream_that_takes_its_time_to_end_counts_as_gone() -> None:
    staged = Staged()
    service = staged.service()
    held = staged.hold(service, 20, ends=False)
    rebalancer = rebalancing(staged, service, per_second=100)
    for _ in range(5):
        staged.moves(rebalancer)
    assert [each.moved for each in held] == [1] * 9 + [0] * 11
    for each in held[:9]:
        each.end()
    staged.moves(rebalancer)
    assert counts(service) == [11, 0]


def test_a_service_starts_its_endpoints_slowly_or_not() -> None:
    staged = Staged()
    slow, other = staged.service(slow_start=10.0), staged.service()
    rebalancer = rebalancing(staged, slow, other, per_second=100)
    for service in (slow, other):
        service.endpoints[1].joined_at = START
        staged.hold(service, 20)
    staged.moves(rebalancer)
    assert (counts(slow), counts(other)) == ([20, 0], [11, 0])
    staged.moves(rebalancer, 10.0)
    assert counts(slow) == [11, 0]


def test_looks_are_not_more_frequent_than_they_need_to_be() -> None:
    staged = Staged()
    service = staged.service()
    rebalancer = rebalancing(staged, service, per_second=100)
    staged.moves(rebalancer)
    staged.hold(service, 20)
    staged.moves(rebalancer, CHECK_INTERVAL / 2)
    assert counts(service) == [20, 0]
    staged.moves(rebalancer, CHECK_INTERVAL / 2)
    assert counts(service) == [11, 0]


def test_nothing_is_moved_once_it_is_closed() -> None:
    staged = Staged()
    service = staged.service()
    staged.hold(service, 20)
    rebalancer = rebalancing(staged, service)
    rebalancer.close()
    rebalancer.close()
    staged.moves(rebalancer)
    assert counts(service) == [20, 0]
