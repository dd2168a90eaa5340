"""Services for tests of policies: short constructors, leases, and the endpoints that are chosen."""

import random
from collections import Counter

from tornado_gateway.policy.upstream.affinity import Affinity
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig, State
from tornado_gateway.policy.upstream.concurrency import AdaptiveLimit
from tornado_gateway.policy.upstream.endpoint import FAILURE, SUCCESS, Endpoint, Kind, LeaseRequest
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig

BREAKER = BreakerConfig(jitter=0.0)
FAILURES = BREAKER.failures
OPEN_FOR = BREAKER.open_for


def endpoint(name: str, weight: int = 1, breaker: BreakerConfig = BREAKER) -> Endpoint:
    return Endpoint(f"http://{name}", Breaker(breaker, random.Random(1)), weight)


def service(
    *weights: int,
    balancer: str = "round_robin",
    breaker: BreakerConfig = BREAKER,
    limit: AdaptiveLimit | None = None,
    affinity: Affinity | None = None,
    **config: object,
) -> Service:
    """A service whose endpoints are host0, host1 and so on; `config` is for its ServiceConfig, which has no queue."""
    several = [endpoint(f"host{number}", weight, breaker) for number, weight in enumerate(weights)]
    chooser = BALANCERS[balancer](random.Random(1))
    return Service(
        "svc", several, chooser, ServiceConfig(**({"max_waiting": 0, "balancer": balancer} | config)), limit, affinity
    )  # type: ignore[arg-type]


def lease_on(of: Service, one: Endpoint, now: float = 0.0, kind: Kind = Kind.HTTP) -> Lease:
    """A lease on the given endpoint, without a choice."""
    return Lease(of, one, LeaseRequest(now, kind), is_retry=False)


def eject(of: Service, one: Endpoint, now: float = 0.0) -> None:
    """Fail requests of an endpoint until its breaker opens."""
    for _ in range(FAILURES):
        lease_on(of, one, now).settle(FAILURE, now)
    assert one.breaker.state(now) is State.OPEN


def chosen(of: Service, now: float = 0.0, times: int = 1, **ask: object) -> Counter[str]:
    """The endpoints chosen for `times` requests, each answered before the next."""
    counts = Counter[str]()
    for _ in range(times):
        lease = of.lease(LeaseRequest(now, **ask))  # type: ignore[arg-type]
        counts[lease.endpoint.url.removeprefix("http://")] += 1
        lease.settle(SUCCESS, now)
    return counts
