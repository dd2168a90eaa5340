"""Simulates a service of the gateway in virtual time, without sockets; an hour takes seconds.

The gateway's own policy makes the decisions: leases, outcomes, breakers, retries and their budget. Only clients and
endpoints are simulated:

    clients     send requests at random instants and with random work, drawn in advance, so that all balancers get the
                same requests
    endpoints   see servers.py

The gateway and the network take no time, and clients wait without limit.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks.balancing.servers import Clock, Phase, Server
from tornado_gateway.errors import GatewayError, UpstreamError
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind, LeaseRequest, Outcome
from tornado_gateway.policy.upstream.health import Health, HealthConfig, first_pause
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.retry import (
    FailedAttempt,
    RetryTarget,
    backoff_before,
    decide_retry,
    is_free_retry,
)
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig

RATE = 200.0  # requests per second, on average
CLIENTS = 1000  # equally busy clients; a client's number is the key of consistent_hash
WORK = 0.010  # median work of a request in seconds
SPREAD = 0.5  # σ of the work's logarithm: 1 % of requests need 3.2 times the median or more
STREAM = 3600.0  # seconds of a stream
BURST, PAUSE = 0.5, 4.5  # mean seconds of a burst, and of the silence before a burst

Arrivals = Callable[[random.Random], Iterator[float]]


def poisson(rng: random.Random, rate: float = RATE) -> Iterator[float]:
    """Instants of independent requests, as an endless iterator."""
    now = 0.0
    while True:
        now += rng.expovariate(rate)
        yield now


def bursts(rng: random.Random) -> Iterator[float]:
    """Instants of requests in bursts separated by silence; on average RATE requests per second."""
    rate = RATE * (BURST + PAUSE) / BURST
    end = 0.0
    while True:
        now = end + rng.expovariate(1 / PAUSE)
        end = now + rng.expovariate(1 / BURST)
        while (now := now + rng.expovariate(rate)) < end:
            yield now


@dataclass(frozen=True, slots=True)
class Scenario:
    """A simulated situation.

    Attributes:
        about: description for the table.
        odd: phases of the first endpoint; the last phase must not stall.
        others: phases of all other endpoints.
        arrivals: makes the instants of requests.
        endpoints: number of endpoints; ≥ 1.
        streams: new streams per second.
        held: streams of the first endpoint at the beginning.
        repeatable: share of requests with an idempotent method.
    """

    about: str
    odd: tuple[Phase, ...] = ()
    others: tuple[Phase, ...] = ()
    arrivals: Arrivals = poisson
    endpoints: int = 4
    streams: float = 0.0
    held: int = 0
    repeatable: float = 0.8


@dataclass(slots=True)
class Figures:
    """The results of a simulation. Streams do not count as requests.

    Attributes:
        service: the service at the end.
        asked: number of requests.
        latencies: latency in seconds of each successful request.
        errors: number of requests that failed for the client.
        failed: instants of these failures.
        sent: for each endpoint, the instants of requests sent, retries included.
        streams: for each endpoint, the number of streams when the last request had come.
    """

    service: Service
    asked: int = 0
    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    failed: list[float] = field(default_factory=list)
    sent: list[list[float]] = field(default_factory=list)
    streams: tuple[int, ...] = ()

    def latency(self, quantile: float) -> float | None:
        """A quantile of the latencies in seconds; None without successful requests."""
        ordered = sorted(self.latencies)
        return ordered[math.ceil(quantile * len(ordered)) - 1] if ordered else None

    @property
    def error_share(self) -> float:
        return self.errors / max(1, self.errors + len(self.latencies))

    @property
    def imbalance(self) -> float:
        """The greatest number of requests of an endpoint divided by the mean; 1 is even."""
        return _most_to_mean([len(instants) for instants in self.sent])

    @property
    def stream_imbalance(self) -> float | None:
        """The greatest number of streams of an endpoint divided by the mean; None without streams."""
        return _most_to_mean(self.streams) if any(self.streams) else None

    def share(self, number: int, since: float = 0.0, until: float = math.inf) -> float:
        """The share of an endpoint in the requests sent from `since` until `until`."""
        counts = [sum(since <= instant < until for instant in instants) for instants in self.sent]
        return counts[number] / max(1, sum(counts))


def _most_to_mean(counts: Sequence[int]) -> float:
    return max(counts) * len(counts) / max(1, sum(counts))


class Request:
    """A client's request on its way through the gateway.

    Args:
        kind: HTTP, or a kind of stream.
        work: seconds of a worker at full speed until the response's head.
        key: key of consistent_hash.
        is_repeatable: whether the method is idempotent.
    """

    __slots__ = ("_began", "_is_fresh", "_is_repeatable", "_key", "_kind", "_lease", "_simulation", "_tried", "work")

    _lease: Lease

    def __init__(self, simulation: "Simulation", kind: Kind, work: float, key: bytes, *, is_repeatable: bool) -> None:
        self._simulation, self._kind, self._key, self._is_repeatable = simulation, kind, key, is_repeatable
        self.work = work
        self._began = 0.0
        self._tried: list[Endpoint] = []
        self._is_fresh = False  # whether the request was sent over a new connection

    def begin(self) -> None:
        self._began = self._simulation.clock.now
        self._simulation.figures.asked += self._kind is Kind.HTTP
        self._attempt()

    def _attempt(self) -> None:
        simulation = self._simulation
        ask = LeaseRequest(simulation.clock.now, self._kind, self._tried, self._key, is_repeatable=self._is_repeatable)
        try:
            self._lease = simulation.service.lease(ask, is_retry=bool(self._tried))
        except GatewayError:
            self._count(failed=True)
            return
        self._tried.append(self._lease.endpoint)
        self._is_fresh = False
        simulation.send(self, self._kind, self._lease.endpoint)

    def on_head(self, status: int) -> None:
        simulation, lease, now = self._simulation, self._lease, self._simulation.clock.now
        service = simulation.service
        lease.answered(now, status)
        failed = status in service.config.failure_statuses
        retry = service.config.retry
        if status in retry.on and self._is_repeatable and self._has_untried and service.budget.take(now):
            lease.settle(Outcome.FAILURE, now)
            simulation.clock.after(backoff_before(len(self._tried), retry, simulation.rng), self._attempt)
        elif self._kind is Kind.HTTP or failed:
            self._end(failed=failed)
        else:
            lease.becomes(self._kind, now)
            simulation.clock.after(STREAM, partial(self._end, failed=False))

    def on_failure(self, error: UpstreamError) -> None:
        simulation = self._simulation
        failed = FailedAttempt(self._is_repeatable, reused=not self._is_fresh, body_sent=True, replayable=True)
        where = decide_retry(error, failed, simulation.service.config.retry.on)
        if where is RetryTarget.SAME_ENDPOINT:
            self._is_fresh = True
            simulation.send(self, self._kind, self._lease.endpoint)
        elif where is RetryTarget.OTHER_ENDPOINT and self._has_untried and self._may_afford(error):
            self._lease.settle(Outcome.FAILURE, simulation.clock.now)
            self._attempt()
        else:
            self._end(failed=True)

    def _may_afford(self, error: UpstreamError) -> bool:
        retries, now = len(self._tried) - 1, self._simulation.clock.now
        return is_free_retry(error, retries) or self._simulation.service.budget.take(now)

    @property
    def _has_untried(self) -> bool:
        service = self._simulation.service
        return len(self._tried) < min(len(service.endpoints), service.config.retry.attempts)

    def _end(self, *, failed: bool) -> None:
        self._lease.settle(Outcome.FAILURE if failed else Outcome.SUCCESS, self._simulation.clock.now)
        self._count(failed=failed)

    def _count(self, *, failed: bool) -> None:
        figures = self._simulation.figures
        if self._kind is not Kind.HTTP:
            return
        if failed:
            figures.errors += 1
            figures.failed.append(self._simulation.clock.now)
        else:
            figures.latencies.append(self._simulation.clock.now - self._began)


class Simulation:
    """A scenario with a balancer; see `simulate()`.

    Attributes:
        rng: for the wait before retries. Each use of randomness has its own generator, so that a balancer's choices do
            not change later requests.
    """

    def __init__(
        self,
        scenario: Scenario,
        balancer: str,
        seed: int,
        seconds: float,
        breaker: BreakerConfig,
        config: ServiceConfig,
    ) -> None:
        self.clock = Clock()
        self.rng = random.Random(f"{seed} retries")
        self._seed, self._scenario, self._seconds = seed, scenario, seconds
        rng = random.Random(f"{seed} breakers")
        endpoints = [Endpoint(f"http://host{at}", Breaker(breaker, rng)) for at in range(scenario.endpoints)]
        self._numbers = {endpoint: number for number, endpoint in enumerate(endpoints)}
        phases = [scenario.odd, *[scenario.others] * (scenario.endpoints - 1)]
        self._servers = [Server(self.clock, each) for each in phases]
        self.service = Service("svc", endpoints, BALANCERS[balancer](random.Random(f"{seed} choices")), config)
        self.figures = Figures(self.service, sent=[[] for _ in endpoints])

    def send(self, request: Request, kind: Kind, endpoint: Endpoint) -> None:
        number = self._numbers[endpoint]
        if kind is Kind.HTTP:
            self.figures.sent[number].append(self.clock.now)
        self._servers[number].take(request)

    def run(self) -> Figures:
        """Run until the last request and the last stream have ended."""
        self._hold_streams()
        if health := self.service.config.checks:
            rng = random.Random(f"{self._seed} checks")
            for endpoint, number in self._numbers.items():
                self.clock.after(
                    first_pause(health, rng), partial(self._check, endpoint, number, Health(), health, rng)
                )
        self._plan("requests", Kind.HTTP, self._scenario.arrivals)
        if self._scenario.streams:
            self._plan("streams", Kind.SSE, partial(poisson, rate=self._scenario.streams))
        self.clock.at(self._seconds, self._count_streams)
        self.clock.run()
        return self.figures

    def _check(self, endpoint: Endpoint, number: int, health: Health, config: HealthConfig, rng: random.Random) -> None:
        """Check an endpoint's health, and schedule the next check."""
        now = self.clock.now
        if health.record(config, passed=self._servers[number].is_well):
            self.service.set_health(endpoint, now, up=health.is_up)
        if now < self._seconds:
            self.clock.after(health.pause(config, rng), partial(self._check, endpoint, number, health, config, rng))

    def _hold_streams(self) -> None:
        for _ in range(self._scenario.held):
            lease = Lease(self.service, self.service.endpoints[0], LeaseRequest(0.0, Kind.SSE), is_retry=False)
            self.clock.at(STREAM, partial(lease.settle, Outcome.SUCCESS, STREAM))

    def _plan(self, what: str, kind: Kind, arrivals: Arrivals) -> None:
        rng = random.Random(f"{self._seed} {what}")
        for instant in itertools.takewhile(lambda instant: instant < self._seconds, arrivals(rng)):
            work, key = rng.lognormvariate(math.log(WORK), SPREAD), b"%d" % rng.randrange(CLIENTS)
            request = Request(self, kind, work, key, is_repeatable=rng.random() < self._scenario.repeatable)
            self.clock.at(instant, request.begin)

    def _count_streams(self) -> None:
        self.figures.streams = tuple(endpoint.streams for endpoint in self.service.endpoints)


def simulate(
    scenario: Scenario,
    balancer: str,
    *,
    seed: int = 1,
    seconds: float = 60.0,
    breaker: BreakerConfig | None = None,
    config: ServiceConfig | None = None,
) -> Figures:
    """Simulate a scenario with a balancer. The same seed always gives the same figures.

    Args:
        scenario: the situation.
        balancer: key of BALANCERS.
        seed: seed of all randomness.
        seconds: virtual time during which requests come.
        breaker: None for the defaults.
        config: None for the defaults.
    """
    return Simulation(scenario, balancer, seed, seconds, breaker or BreakerConfig(), config or ServiceConfig()).run()
