"""The command line: python -m benchmarks."""

import argparse
import itertools
import json
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType

from benchmarks import machine
from benchmarks.cost import report
from benchmarks.cost.loads import Results, Sample
from benchmarks.cost.peers import PEERS
from benchmarks.cost.scenarios import SCENARIOS
from benchmarks.cost.session import Plan, measure
from benchmarks.processes import ChildFailed
from benchmarks.programs import NGINX, WRK

BY_DEFAULT = [name for name, each in PEERS.items() if each.by_default]
MOST_ROUNDS = 50
MOST_SECONDS = 60

SUCCESS, INCOMPLETE, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 130


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; exit with a message if an argument is wrong."""
    width = max(map(len, SCENARIOS))
    table = "\n".join(f"  {name:{width}}  {scenario.about}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="CPU time and memory that the same work costs the gateway and other proxies, as a ratio to nginx.",
        epilog=f"scenarios:\n{table}\n\nexit status: 0, 1 if a run failed or had errors, 2 if nothing can be measured.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("scenarios", nargs="*", type=_one_of("scenario", SCENARIOS), metavar="scenario", help="all, unless named")
    add("--rounds", type=_whole(MOST_ROUNDS), default=3, metavar="N", help="runs of each (3); medians count")
    add("--peers", type=_peers, default=BY_DEFAULT, metavar="A,B", help=f"which of {','.join(PEERS)}")
    add("--seconds", type=_whole(MOST_SECONDS), metavar="N", help="length of a run (3 to 5, by scenario)")
    add("--json", type=_file, metavar="FILE", help="write medians and every run to a file")
    add("--markdown", action="store_true", help="print the tables of docs/benchmarks.md")
    return parser.parse_args(argv)


def _one_of(kind: str, names: Iterable[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"no {kind} is called {text!r}; there are {', '.join(names)}")
        return text

    return check


def _peers(text: str) -> list[str]:
    return list(dict.fromkeys(map(_one_of("peer", PEERS), text.split(","))))


def _whole(most: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")
        return int(text)

    return check


def _file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():  # checked before the measurement, which takes long
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a file that can be made")
    return path


def say(line: str) -> None:
    """Print a line to standard error; standard output has only the tables."""
    print(line, file=sys.stderr, flush=True)


def installed(peers: Sequence[str]) -> list[str]:
    """The peers that are installed; prints how to install the others."""
    for name in peers:
        needs = PEERS[name].needs
        if needs and not needs.is_installed:
            say(f"left out: {needs.remedy}")
    return [name for name in peers if not (needs := PEERS[name].needs) or needs.is_installed]


def tell(turn: int, scenario: str, peer: str, outcome: Sample | ChildFailed) -> None:
    """Print a line about a finished run."""
    if isinstance(outcome, ChildFailed):
        say(f"round {turn}  {scenario:13} {peer:9} left out: {outcome}")
    else:
        fault = f", the first: {outcome.fault}" if outcome.fault else ""
        errors = f"  {outcome.errors:,} errors{fault}" if outcome.errors else ""
        say(f"round {turn}  {scenario:13} {peer:9} {report.number(outcome.cost):>9}{errors}")


def tables(results: Results, markdown: bool) -> str:
    """A table for each unit."""
    render = report.markdown_table if markdown else report.text_table
    out = []
    for unit, names in itertools.groupby(results, key=lambda name: SCENARIOS[name].unit):
        lines = [row for name in names for row in report.rows(name, results[name])]
        out.append(render(unit, lines))
    return "\n\n".join(out)


def run(options: argparse.Namespace) -> int:
    """Measure, print the tables, and return the exit status."""
    lacking = [program.remedy for program in (WRK, NGINX) if not program.is_installed]
    if lacking:
        say(f"cannot measure: {'; '.join(lacking)}")
        return CANNOT_RUN
    peers = installed(options.peers)
    machine.raise_descriptor_limit()
    proxy_core, load_core = machine.cores()
    if proxy_core == load_core:
        say("only one core: proxy and load share it; the ratios hold, requests/s and latencies say little")
    wanted = list(dict.fromkeys(options.scenarios)) or list(SCENARIOS)
    plan = Plan(wanted, peers, options.rounds, options.seconds, proxy_core, load_core)
    try:
        results = measure(plan, tell)
    except ChildFailed as error:
        say(f"cannot measure: the upstream {error}")
        return CANNOT_RUN
    conditions = machine.describe(peers)
    print(tables(results, options.markdown))
    for line in report.comparisons(results, {name: each.beside for name, each in SCENARIOS.items() if each.beside}):
        print(f"\n{line}")
    for line in report.additions(results, {name: each.beside for name, each in SCENARIOS.items() if each.tls}):
        print(f"\n{line}")
    print(f"\nMedian of {options.rounds}. " + ", ".join(f"{name} {text}" for name, text in conditions.items()))
    if options.json:
        units = {name: SCENARIOS[name].unit.cost for name in results}
        found = {"conditions": conditions, "scenarios": report.as_json(units, results)}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return verdict(plan, results)


def verdict(plan: Plan, results: Results) -> int:
    """Print which figures are unreliable, and return the exit status."""
    samples = [(scenario, peer, runs) for scenario, peers in results.items() for peer, runs in peers.items()]
    short = [f"{peer} in {scenario}" for scenario, peer, runs in samples if len(runs) < plan.rounds]
    wrong = [f"{peer} in {scenario}" for scenario, peer, runs in samples if any(run.errors for run in runs)]
    if short:
        say(f"not measured in every round: {', '.join(short)}")
    if wrong:
        say(f"had errors, so that its figures say little: {', '.join(wrong)}")
    return INCOMPLETE if short or wrong else SUCCESS


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """Run the command line. All child processes have ended when main() returns or raises."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)  # an exception, as for Ctrl-C, so that with blocks end their children
    try:
        return run(arguments(sys.argv[1:]))
    except KeyboardInterrupt:
        say("interrupted; all processes have been ended")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
