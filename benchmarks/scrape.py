"""Measures what a scrape of many endpoints costs the event loop: `python -m benchmarks.scrape`.

A scrape is made in steps, between which the event loop turns. The time is the thread's CPU time, so that other
processes change little; the longest of the slices that the gateway makes of the steps is computed from the steps.
"""

import gc
import random
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tornado_gateway.adapters.prometheus import Metrics
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind, LeaseRequest, Outcome
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.policy.views.collecting import Sources, collect
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.steps import Steps
from tornado_gateway.upkeep.shared import SLICE

SHAPES = ((1, 1000), (10, 100), (1000, 1))  # services, and endpoints of each
ROUNDS = 5  # the round with the least time counts: others were disturbed
STATUSES = (200, 404, 502)


class Cost(NamedTuple):
    """What a scrape has cost.

    Attributes:
        seconds: of all steps together.
        longest: seconds of the longest slice: steps that together take SLICE, and the rest of the last step.
        size: bytes of the exposition.
    """

    seconds: float
    longest: float
    size: int


def make_service(name: str, endpoints: int, rng: random.Random) -> Service:
    """A service each of whose endpoints has answered a request."""
    urls = [f"http://10.0.{each // 250}.{each % 250}:8080" for each in range(endpoints)]
    made = [Endpoint(url, Breaker(BreakerConfig(), rng)) for url in urls]
    service = Service(name, made, BALANCERS["round_robin"](rng), ServiceConfig())
    for endpoint in made:
        lease = Lease(service, endpoint, LeaseRequest(1.0, Kind.HTTP), is_retry=False)
        lease.answered(1.5, 200)
        lease.settle(Outcome.SUCCESS, 2.0)
    service.heads.add(0.5)
    return service


def make_metrics(services: int, endpoints: int) -> Metrics:
    """The metrics of so many services with so many endpoints each."""
    rng, durations = random.Random(1), Durations()  # no secret
    made = [make_service(f"service-{number}", endpoints, rng) for number in range(services)]
    for service in made:
        for status in STATUSES:
            durations.add(b"GET", "/api/<service>/*", status, 0.02, service.name)
    return Metrics(lambda: collect(Sources(made, durations), 3.0, with_minute=False))


def timed(steps: Steps[tuple[bytes, str]]) -> tuple[list[float], int]:
    """The seconds of each step, and the size of the result."""
    found: list[float] = []
    while True:
        began = time.thread_time()
        try:
            next(steps)
        except StopIteration as end:
            found.append(time.thread_time() - began)
            return found, len(end.value[0])
        found.append(time.thread_time() - began)


def slices(steps: Sequence[float]) -> Iterator[float]:
    """The seconds of each slice.

    >>> [*slices([0.003, 0.002, 0.001, 0.009])]
    [0.005, 0.01]
    """
    spent = 0.0
    for seconds in steps:
        spent += seconds
        if spent >= SLICE:
            yield round(spent, 6)
            spent = 0.0
    if spent:
        yield round(spent, 6)


def measure(services: int, endpoints: int, rounds: int = ROUNDS) -> Cost:
    """The cost of the cheapest of some scrapes."""
    metrics, found = make_metrics(services, endpoints), []
    for _ in range(rounds):
        gc.collect()
        gc.freeze()  # as a gateway does once everything is made
        steps, size = timed(metrics.steps(is_open=False))
        found.append(Cost(sum(steps), max(slices(steps)), size))
    return min(found)


def main() -> None:
    """Print a table."""
    print("| services | endpoints of each | ms | longest slice, ms | MiB |\n| ---: | ---: | ---: | ---: | ---: |")
    for services, endpoints in SHAPES:
        cost = measure(services, endpoints)
        print(
            f"| {services:,} | {endpoints:,} | {cost.seconds * 1000:.0f} | {cost.longest * 1000:.1f} "
            f"| {cost.size / 2**20:.1f} |"
        )


if __name__ == "__main__":
    main()
