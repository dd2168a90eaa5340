"""What it costs that figures are of all workers: python -m benchmarks.gathering

Four gateways do nothing for a while, on one core: with one endpoint and with many, as one process and with workers.
Nobody asks for a page. What many endpoints add to the CPU time of the workers' process tree, less what they add to one
process, is the price of the figures of all. The exit status is 1 if the price is above BOUND.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import machine
from benchmarks.cost.session import working_directory
from benchmarks.processes import Child
from benchmarks.programs import FROM_ROOT, our_own
from benchmarks.readiness import HOST, free_port, wait_until_served

BOUND = 0.02  # of a core
SETTLED = 5  # seconds after the start
HEALTH = len('{"status": "ok"}\n')  # bytes of the body of /healthz


class Costs(NamedTuple):
    """Shares of a core, of one endpoint and of many.

    Attributes:
        alone: of one process.
        workers: of the process tree of several workers.
    """

    alone: tuple[float, float]
    workers: tuple[float, float]

    @property
    def price(self) -> float:
        """What the figures of all workers cost; below 0 if workers look at many endpoints less often than one process.

        >>> Costs((0.5, 0.75), (1.0, 1.5)).price
        0.25
        """
        return (self.workers[1] - self.workers[0]) - (self.alone[1] - self.alone[0])


def table(costs: Costs, endpoints: int) -> str:
    """The result in Markdown."""
    lines = [f"| | % of a core, 1 endpoint | {endpoints:,} endpoints |", "| --- | ---: | ---: |"]
    for name, (one, many) in (("one process", costs.alone), ("workers", costs.workers)):
        lines.append(f"| {name} | {one:.2%} | {many:.2%} |")
    return "\n".join([*lines, "", f"The figures of all cost {costs.price:.2%} of a core; the bound is {BOUND:.0%}."])


def upstreams(endpoints: int) -> str:
    """A service whose endpoints nobody asks."""
    return json.dumps({"svc": [f"http://127.0.{each // 250}.{each % 250 + 1}:9" for each in range(endpoints)]})


def measure(endpoints: int, workers: int, seconds: float) -> Costs:
    """
    Raises:
        ChildFailed: a gateway does not serve.
    """
    core, _ = machine.cores()
    with contextlib.ExitStack() as stack:
        found = []
        for processes in (1, workers):
            for count in (1, endpoints):
                directory, port = stack.enter_context(working_directory()), free_port()
                env = {"HOST": HOST, "PORT": str(port), "UPSTREAMS": upstreams(count), "LOG_LEVEL": "error"}
                env |= {"WEB_CONCURRENCY": str(processes), "UPSTREAMS_FILE": "", "ACCESS_LOG": "false"}
                child = Child(our_own("tornado_gateway"), core, directory / "log", FROM_ROOT | env)
                found.append(stack.enter_context(child))
                wait_until_served(child, port, "/healthz", HEALTH)
        time.sleep(SETTLED)
        before = [each.cpu_seconds() for each in found]
        time.sleep(seconds)
        shares = [(each.cpu_seconds() - spent) / seconds for each, spent in zip(found, before, strict=True)]
    return Costs((shares[0], shares[1]), (shares[2], shares[3]))


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; exit with a message if an argument is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gathering", description="CPU time for figures that are of all workers."
    )
    parser.add_argument("--endpoints", type=int, default=1000, metavar="N", help="endpoints of one service (1000)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="workers (2)")
    parser.add_argument("--seconds", type=int, default=60, metavar="N", help="time without a request (60)")
    options = parser.parse_args(argv)
    if options.endpoints < 1 or options.workers < 2 or options.seconds < 1:
        parser.error("--endpoints and --seconds from 1 on, --workers from 2 on")
    return options


def main() -> int:
    options = arguments(sys.argv[1:])
    costs = measure(options.endpoints, options.workers, options.seconds)
    print(table(costs, options.endpoints))
    return int(costs.price > BOUND)


if __name__ == "__main__":
    sys.exit(main())
