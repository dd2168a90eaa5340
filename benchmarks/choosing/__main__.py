"""CPU time of choosing an endpoint among many, in several states of the endpoints: python -m benchmarks.choosing.

The benchmark takes leases with the gateway's own classes, and measures `Service.lease()`.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence

from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import FAILURE, IGNORED, SUCCESS, Endpoint, LeaseRequest
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig

CHOICES = 2000  # in a run
RUNS = 5  # the quickest run counts, since other load of the machine only slows runs down
APART = 0.0005  # seconds between two choices, on the service's clock
ROOM = 1000  # max_in_flight in the state "half full"


def endpoint(number: int) -> Endpoint:
    return Endpoint(f"http://10.0.{number // 256}.{number % 256}", Breaker(BreakerConfig(), random.Random(number)))


def half(service: Service) -> Sequence[Endpoint]:
    """Every other endpoint."""
    return service.endpoints[::2]


def nothing(service: Service) -> None:
    """all are available"""


def fail(service: Service) -> None:
    """half have failed once"""
    for each in half(service):
        service.penalise(each, 0.0)


def eject(service: Service) -> None:
    """the breakers of half are open"""
    for each in half(service):
        while not each.breaker.is_open:
            Lease(service, each, LeaseRequest(0.0), is_retry=False).settle(FAILURE, 0.0)


def fall_ill(service: Service) -> None:
    """the health checks of half fail"""
    for each in half(service):
        service.set_health(each, 0.0, up=False)


def rest(service: Service) -> None:
    """half have sent Retry-After: 60"""
    for each in half(service):
        service.penalise(each, 0.0, 60.0)


def fill(service: Service) -> None:
    """half have max_in_flight requests"""
    for each in half(service):
        each.requests += ROOM
        service.requests += ROOM


def join(service: Service) -> None:
    """half have just joined"""
    count = len(service.endpoints)
    service.replace_endpoints([*half(service), *map(endpoint, range(count, count + count // 2))], 0.0)


def replace_all(service: Service) -> None:
    """all have just joined"""
    count = len(service.endpoints)
    service.replace_endpoints([*map(endpoint, range(count, 2 * count))], 0.0)


STATES: dict[str, Callable[[Service], None]] = {
    "all well": nothing,
    "half failed": fail,
    "half ejected": eject,
    "half unhealthy": fall_ill,
    "half resting": rest,
    "half full": fill,
    "half joining": join,
    "all joining": replace_all,
}


def microseconds(balancer: str, happens: Callable[[Service], None], count: int) -> float:
    """CPU time of a choice in microseconds.

    Args:
        balancer: key of BALANCERS.
        happens: puts the endpoints into a state; see STATES.
        count: number of endpoints.
    """
    config = ServiceConfig(max_in_flight=ROOM if happens is fill else float("inf"))
    service = Service("svc", [*map(endpoint, range(count))], BALANCERS[balancer](random.Random(1)), config)
    for number in range(2 * count):
        lease = service.lease(LeaseRequest(-1.0, key=b"%d" % number))
        lease.answered(-0.99, 200)
        lease.settle(SUCCESS, -0.99)
    happens(service)
    return min(_run(service, 0.001 + run * CHOICES * APART) for run in range(RUNS)) * 1e6


def _run(service: Service, begin: float) -> float:
    """Mean duration of a choice in seconds."""
    asks = [LeaseRequest(begin + number * APART, key=b"key %d" % number) for number in range(CHOICES)]
    leases = []
    started = time.perf_counter()
    for ask in asks:
        leases.append(service.lease(ask))
    seconds = time.perf_counter() - started
    for lease in leases:
        lease.settle(IGNORED, begin)
    return seconds / CHOICES


def markdown_table(count: int) -> str:
    """The table of docs/benchmarks.md."""
    lines = [["µs", *BALANCERS], ["---", *("---:" for _ in BALANCERS)]]
    for name, happens in STATES.items():
        lines.append([name, *(f"{microseconds(balancer, happens, count):.1f}" for balancer in BALANCERS)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.choosing",
        description="What a choice costs, in microseconds, as a table in Markdown; among endpoints of which:",
        epilog="\n".join(f"  {name:14}  {happens.__doc__}" for name, happens in STATES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--endpoints", type=_count, default=1000, metavar="N", help="2 to 10000 (1000)")
    print(markdown_table(parser.parse_args(argv).endpoints))
    return 0


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 2 <= int(text) <= 10_000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 2 to 10000")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
