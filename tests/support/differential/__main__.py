"""Compare two commits: python -m tests.support.differential OLD [NEW] [--cases 10000] [--seed N]"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.differential.cases import Generator
from tests.support.differential.sameness import (
    NEW_ADDRESS,
    OLD_ADDRESS,
    changed_lines,
    compared,
    log_view,
    metrics_view,
    scene_view,
    stats_view,
)
from tests.support.differential.scenes import Case, Scene, Send
from tests.support.differential.sides import PROFILES, Side, free_ports, running

NEW = Path(__file__).parents[3]
SLOW = 1.0  # seconds; a case should not wait for a clock
LONGEST = 600  # characters of a line in a report


class Run:
    """A comparison.

    Args:
        say: receives the report, line by line.

    Attributes:
        differences: found so far.
    """

    def __init__(self, old: Path, new: Path, seed: int, say: Callable[[str], None]) -> None:
        self._old, self._new, self._seed, self._say = old, new, seed, say
        self.differences = 0

    async def profile(self, name: str, numbers: range, only: int | None = None) -> None:
        """Play cases under one profile of settings."""
        ports, *refusing = free_ports()
        settings = PROFILES[name]
        generator = Generator(self._seed, tokens="JWT_SECRET" in settings, fin_ends="HALF_CLOSE" not in settings)
        try:
            async with (
                running(self._old, OLD_ADDRESS, ports, settings) as old,
                running(self._new, NEW_ADDRESS, ports, settings) as new,
            ):
                for number in numbers if only is None else [only]:
                    await self._case(name, generator.case(number), old, new)
                for page, view in {"/admin/stats": stats_view, "/metrics": metrics_view}.items():
                    before, after = await old.page(page), await new.page(page)
                    self._report(f"{name}: {page}", compared(view(before), view(after)))
        finally:
            for sock in refusing:
                sock.close()
        self._report(f"{name}: log", compared(log_view(old.output).elements(), log_view(new.output).elements()))
        self._report(f"{name}: exit code", compared([str(old.code)], [str(new.code)]))

    async def _case(self, profile: str, case: Case, old: Side, new: Side) -> None:
        begun = time.monotonic()
        before, after = await asyncio.gather(
            old.stage.play(case, old.host, old.port), new.stage.play(case, new.host, new.port)
        )
        if (seconds := time.monotonic() - begun) > SLOW:
            self._say(f"{profile}: case {case.number} ({case.kind}) took {seconds:.1f} s: {late(before)}")
        found = changed_lines(scene_view(before), scene_view(after))
        if found:
            self._report(f"{profile}: case {case.number} ({case.kind})", [*told(case), *found])

    def _report(self, title: str, lines: list[str]) -> None:
        if lines:
            self.differences += 1
            self._say(f"DIFFERENCE in {title}")
            for line in lines:
                self._say("    " + (line if len(line) < LONGEST else f"{line[:LONGEST]}… ({len(line)})"))


def late(scene: Scene) -> list[str]:
    """The steps that gave up."""
    return scene.client.late + [step for heard in scene.asked for step in heard.late]


def told(case: Case) -> list[str]:
    """The steps of a case."""
    scripts = [("client", case.client), *((f"upstream {at}", answer.steps) for at, answer in enumerate(case.answers))]
    return [
        f"  {name}: {ascii(step.data)[1:] if isinstance(step, Send) else step}"
        for name, steps in scripts
        for step in steps
    ]


async def run(options: argparse.Namespace) -> int:
    """Play all cases; 1 if there are differences."""
    print(f"seed {options.seed}, {options.cases} cases: {options.old} and {options.new}", flush=True)
    comparison = Run(options.old, options.new, options.seed, lambda line: print(line, flush=True))
    profiles = options.profile or list(PROFILES)
    share = -(-options.cases // len(profiles))
    for place, name in enumerate(profiles):
        numbers = range(place * share, min((place + 1) * share, options.cases))
        await comparison.profile(name, numbers, options.only)
        print(f"{name}: {len(numbers)} cases, differences so far: {comparison.differences}", flush=True)
    return 1 if comparison.differences else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.differential", description=__doc__)
    parser.add_argument("old", type=Path, help="folder of the commit to compare with")
    parser.add_argument("new", type=Path, nargs="?", default=NEW, help="folder of the new commit; default: this one")
    parser.add_argument("--cases", type=int, default=10_000, help="generated cases (default 10000)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the generator; default: random")
    parser.add_argument("--profile", action="append", choices=PROFILES, help="only these settings")
    parser.add_argument("--only", type=int, help="only the case of this number, in each profile")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
