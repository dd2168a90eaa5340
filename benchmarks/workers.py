"""What a further worker costs a request: python -m benchmarks.workers

Two gateways run on a core: one with one worker, one with several. Both get the same requests from wrk, in turns of a
second. A round is a turn of each, in an order that changes from round to round, and gives a ratio of the CPU time per
request of the whole process tree. The median of the rounds' ratios is the figure.

All workers have one core, so that the figure is what the gateway does, and not what two cores of a machine take from
each other: cores that share caches and units of execution are slower together than alone, whatever runs there.
The exit status is 1 if a ratio is above BOUND.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from benchmarks import machine
from benchmarks.cost.loads import Requests, Target
from benchmarks.cost.peers import Place, gateway
from benchmarks.cost.report import number
from benchmarks.cost.session import working_directory
from benchmarks.cost.upstream import upstream
from benchmarks.processes import ChildFailed
from benchmarks.programs import NGINX, WRK
from benchmarks.readiness import free_port

BOUND = 1.1
TURN = 1  # seconds
LOADS = {
    "kept": Requests("small", 64),
    "churn": Requests("small", 32, ("Connection: close",)),
}
_ABOUT = {"kept": "small GET, 64 kept connections", "churn": "small GET, a new connection for each, 32 at a time"}

Rounds = Sequence[tuple[float, float]]


def ratio(rounds: Rounds) -> float:
    """The median of the rounds' ratios.

    Args:
        rounds: cost with one worker, and with several.

    >>> ratio([(10.0, 11.0), (20.0, 30.0), (10.0, 10.5)])
    1.1
    """
    return median(several / one for one, several in rounds)


def table(results: Mapping[str, Rounds]) -> str:
    """The results in Markdown."""
    lines = ["| load | CPU µs with one worker | with several | ratio | bound |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, rounds in results.items():
        one, several = (median(each[side] for each in rounds) for side in (0, 1))
        lines.append(f"| {name} | {number(one)} | {number(several)} | {ratio(rounds):.3f} | {BOUND} |")
    return "\n".join(lines)


# ---- the measurement


def measure(names: Sequence[str], workers: int, rounds: int) -> Mapping[str, Rounds]:
    """Measure loads one after the other.

    Raises:
        ChildFailed: a gateway or the upstream does not serve.
    """
    results = {}
    with (
        working_directory() as directory,
        upstream(directory, machine.cores()[1]) as port,
        _running(1, port) as one,
        _running(workers, port) as several,
    ):
        for name in names:
            load = LOADS[name]
            for target in (one, several):
                load.check(target)
            results[name] = [_round(one, several, load, is_odd=bool(number % 2)) for number in range(rounds)]
    return results


def _round(one: Target, several: Target, load: Requests, *, is_odd: bool) -> tuple[float, float]:
    """The costs with one worker and with several. What a turn leaves to the next meets both sides alike."""
    if is_odd:
        cost = _turn(several, load)
        return _turn(one, load), cost
    return _turn(one, load), _turn(several, load)


def _turn(target: Target, load: Requests) -> float:
    """The CPU µs of a request."""
    sample = load.run(target, TURN)
    if sample.errors:
        raise ChildFailed(f"gave {sample.errors:,} errors")
    return sample.cost


@contextlib.contextmanager
def _running(workers: int, upstream_port: int) -> Iterator[Target]:
    """A gateway with a number of workers."""
    proxy_core, load_core = machine.cores()
    with working_directory() as directory:
        port = free_port()
        place = Place(directory, proxy_core, port, upstream_port, free_port(), access_log=False)
        with gateway(place, {"WEB_CONCURRENCY": str(workers)}) as child:
            yield Target(child, port, place.stream_port, load_core, directory)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; exit with a message if an argument is wrong."""
    listed = "\n".join(f"  {name:12} {about}" for name, about in _ABOUT.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workers",
        description="CPU time of a request with several workers, as a ratio to the same with one worker.",
        epilog=f"loads:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("loads", nargs="*", metavar="load", help="all, unless named")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="workers of the second gateway (2)")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="turns of each gateway (9)")
    options = parser.parse_args(argv)
    unknown = [each for each in options.loads if each not in LOADS]
    if unknown or options.rounds < 1 or options.workers < 2:
        parser.error(f"no load is called {unknown[0]!r}" if unknown else "--rounds from 1 on, --workers from 2 on")
    return options


def main() -> int:
    options = arguments(sys.argv[1:])
    lacking = [program.remedy for program in (WRK, NGINX) if not program.is_installed]
    if lacking:
        print(f"cannot measure: {'; '.join(lacking)}", file=sys.stderr)
        return 2
    machine.raise_descriptor_limit()
    loads = options.loads or list(LOADS)
    results = measure(loads, options.workers, options.rounds)
    print(table(results))
    above = [name for name, rounds in results.items() if ratio(rounds) > BOUND]
    if above:
        print(f"above the bound: {', '.join(above)}", file=sys.stderr)
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
