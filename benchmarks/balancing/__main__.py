"""Latency, errors and imbalance of each balancer with endpoints that differ: python -m benchmarks.balancing.

Everything is simulated (simulation.py), so table and plot are the same on any machine.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.balancing import chart
from benchmarks.balancing.servers import Phase
from benchmarks.balancing.simulation import Figures, Scenario, bursts, simulate
from benchmarks.cost import report
from tornado_gateway.policy.upstream.balancing import BALANCERS

TROUBLE = 10.0  # instant at which the first endpoint begins to differ
SETTLED = TROUBLE + 1.0  # instant from which the first endpoint's share is counted

LEAST_SECONDS, MOST_SECONDS = 20, 600

_SLOW = (Phase(TROUBLE, speed=0.1),)

SCENARIOS = {
    "equal": Scenario("four equal endpoints"),
    "bursts": Scenario("the same, and all requests come in bursts of ten times the average rate", arrivals=bursts),
    "slow": Scenario("one of four becomes ten times as slow", _SLOW),
    "slow-bursts": Scenario("the same, with bursts", _SLOW, arrivals=bursts),
    "failing": Scenario("one of four begins to answer 503 within a millisecond", (Phase(TROUBLE, fails=True),)),
    "stalling": Scenario("one of four stops for five seconds", (Phase(TROUBLE, speed=0.0), Phase(TROUBLE + 5.0))),
    "restarting": Scenario(
        "one of four drops its connections, refuses new ones for ten seconds, and is slow for another ten",
        (
            Phase(TROUBLE, refuses=True),
            Phase(TROUBLE + 10.0, speed=0.1),
            Phase(TROUBLE + 15.0, speed=0.3),
            Phase(TROUBLE + 20.0),
        ),
    ),
    "outage": Scenario(
        "all four answer 503; the first one is back after five seconds, the others after twenty",
        (Phase(TROUBLE, fails=True), Phase(TROUBLE + 5.0)),
        (Phase(TROUBLE, fails=True), Phase(TROUBLE + 20.0)),
    ),
    "streams": Scenario(
        "six streams of an hour begin per second, and one of four has a hundred", streams=6.0, held=100
    ),
}

HEADING = ("scenario", "balancer", "p50", "p99", "errors", "imbalance", "to the first", "streams' imbalance")
NAMES = 2  # leading columns that are aligned to the left
NOTE = f"""\
Latencies: of requests that were answered well. Imbalance: what the endpoint with the most was sent, to the mean;
of streams, what it held in the end. To the first: its share of requests from second {SETTLED:.0f} on; in the scenarios
in which one endpoint differs, it does from second {TROUBLE:.0f} on."""

Results = dict[str, dict[str, Figures]]  # by scenario and balancer


def percent(share: float) -> str:
    """Format a share as a percentage.

    >>> percent(0.25), percent(0.0006)
    ('25.00 %', '0.06 %')
    """
    return f"{100 * share:.2f} %"


def _cells(scenario: str, balancer: str, figures: Figures) -> list[str]:
    streams = figures.stream_imbalance
    return [
        scenario,
        balancer,
        report.latency(figures.latency(0.5)),
        report.latency(figures.latency(0.99)),
        percent(figures.error_share),
        f"{figures.imbalance:.2f}",
        percent(figures.share(0, since=SETTLED)),
        report.ABSENT if streams is None else f"{streams:.2f}",
    ]


def _lines(results: Results) -> list[list[str]]:
    return [_cells(scenario, name, figures) for scenario, found in results.items() for name, figures in found.items()]


def text_table(results: Results) -> str:
    """A table for a terminal, with a blank line between scenarios."""
    lines = _lines(results)
    widths = [max(map(len, column)) for column in zip(HEADING, *lines, strict=True)]
    out = ["  ".join(_padded(HEADING, widths))]
    for _, group in itertools.groupby(lines, key=lambda cells: cells[0]):
        out += ["", *("  ".join(_padded(cells, widths)) for cells in group)]
    return "\n".join(out)


def _padded(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        yield cell.ljust(width) if column < NAMES else cell.rjust(width)


def markdown_table(results: Results) -> str:
    """The table of docs/benchmarks.md."""
    rule = ["---" if column < NAMES else "---:" for column in range(len(HEADING))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [HEADING, rule, *_lines(results)])


def plot(results: Results) -> str:
    """The plot of docs/benchmarks.md: an SVG of the p99 latencies."""
    return chart.svg(
        {scenario: {name: each.latency(0.99) for name, each in found.items()} for scenario, found in results.items()},
        title="Latency that one request in a hundred exceeds, by scenario and balancer",
        axis="p99 latency",
        groups="scenario",
    )


def simulate_all(seed: int, seconds: float) -> Results:
    """Simulate all scenarios with all balancers.

    Args:
        seed: seed of all randomness.
        seconds: virtual time during which requests come.
    """
    return {
        name: {balancer: simulate(scenario, balancer, seed=seed, seconds=seconds) for balancer in BALANCERS}
        for name, scenario in SCENARIOS.items()
    }


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; exit with a message if an argument is wrong."""
    width = max(map(len, SCENARIOS))
    table = "\n".join(f"  {name:{width}}  {scenario.about}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.balancing",
        description="Latency, errors and imbalance that each balancer makes of the same requests, in virtual time.",
        epilog=f"scenarios:\n{table}\n\n{NOTE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seed", type=int, default=1, metavar="N", help="of all that is random (1)")
    add("--seconds", type=_seconds, default=60, metavar="N", help="of virtual time in each scenario (60)")
    add("--markdown", action="store_true", help="print the tables of docs/benchmarks.md")
    add("--svg", type=_file, metavar="FILE", help="draw the plot of docs/benchmarks.md into a file")
    return parser.parse_args(argv)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and LEAST_SECONDS <= int(text) <= MOST_SECONDS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {LEAST_SECONDS} to {MOST_SECONDS}")
    return int(text)


def _file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a file that can be made")
    return path


def main(argv: Sequence[str]) -> int:
    options = arguments(argv)
    results = simulate_all(options.seed, options.seconds)
    print(markdown_table(results) if options.markdown else text_table(results))
    print(f"\n{NOTE}")
    if options.svg:
        options.svg.write_text(plot(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
