"""Measures how long a reload of many endpoints keeps the event loop from its work: python -m benchmarks.reloads

A gateway runs here, and reads another configuration from a file. Meanwhile a timer of the same event loop tells how
late it is: a request that came then would have waited as long. `one process` is a gateway without workers, and `worker`
is a worker, which gets the configuration from the supervisor. The exit status is 1 if a delay is above BOUND.
"""

import asyncio
import contextlib
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop

from tornado_gateway.app import App
from tornado_gateway.config.env_file import EnvFile, read_env_file
from tornado_gateway.config.load import load_settings
from tornado_gateway.reload import Configuration, Reloader, reloader_of
from tornado_gateway.supervisor.reloading import WorkerReloads, to_text

BOUND = 0.1  # seconds
SHAPES = ((1, 1000), (10, 100), (1000, 1))  # services, and endpoints of each
CHANGES = ("weights", "endpoints", "settings")
ROUNDS = 5  # the round with the least delay counts: others were disturbed
TICK = 0.001  # seconds

Read = Callable[[], tuple[dict[str, str], EnvFile]]
Reload = Callable[[], Coroutine[None, None, None]]


class Cost(NamedTuple):
    """What a reload has cost.

    Attributes:
        delay: the longest delay of the event loop, in seconds.
        seconds: until the new configuration was in force.
    """

    delay: float
    seconds: float


class Row(NamedTuple):
    """The costs of a change of so many services with so many endpoints each."""

    services: int
    endpoints: int
    change: str
    alone: Cost
    worker: Cost


# ---- the changes


def variables(services: int, endpoints: int, change: str, turn: int) -> dict[str, str]:
    """The variables of a turn: other weights, other endpoints, or other settings of every service."""
    first = turn * 4 if change == "endpoints" else 0
    weight = 1 + turn if change == "weights" else 1
    urls = [f"http://10.{first + each // 250}.0.{each % 250}:8080" for each in range(endpoints)]
    service = [{"url": url, "weight": weight} for url in urls]
    return {
        "UPSTREAMS": json.dumps({f"service-{number}": service for number in range(services)}),
        "BREAKER_FAILURES": str(3 + turn if change == "settings" else 3),
        "HOST": "127.0.0.1",
        "PORT": "0",
        "ACCESS_LOG": "false",
    }


# ---- the measurement


class Ticker:
    """A timer that tells how late it has been.

    Attributes:
        longest: delay in seconds since the last start().
    """

    def __init__(self) -> None:
        self._loop, self.longest, self._due = asyncio.get_running_loop(), 0.0, 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self.longest = 0.0
        self._set()

    def _set(self) -> None:
        self._due = time.monotonic() + TICK
        self._timer = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        self.longest = max(self.longest, time.monotonic() - self._due)
        self._set()

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()


async def timed(reload: Reload) -> Cost:
    """The cost of a reload."""
    ticker = Ticker()
    ticker.start()
    await asyncio.sleep(2 * TICK)
    began = time.monotonic()
    await reload()
    seconds = time.monotonic() - began
    await asyncio.sleep(2 * TICK)  # what the reload has left to the next turns of the loop counts, too
    ticker.stop()
    return Cost(ticker.longest, seconds)


@contextlib.contextmanager
def configuration(services: int, endpoints: int) -> Iterator[tuple[Callable[[str, int], None], Read]]:
    """Writes the variables of a change and a turn into a file, and reads that file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ".env"

        def write(change: str, turn: int) -> None:
            lines = variables(services, endpoints, change, turn)
            file.write_text("".join(f"{name}='{text}'\n" for name, text in lines.items()), encoding="utf-8")

        def read() -> tuple[dict[str, str], EnvFile]:
            found = read_env_file(str(file))
            return dict(found.values), found

        write("nothing", 0)
        yield write, read


def alone(reloader: Reloader) -> Reload:
    """A reload of a gateway without workers."""

    async def reload() -> None:
        await reloader.reload()

    return reload


def of_worker(worker: WorkerReloads, said: str) -> Reload:
    """What a worker does for a reload."""

    async def reload() -> None:
        if problems := await worker.prepare(said):
            raise ValueError(problems)
        await worker.change(None)

    return reload


async def measure(services: int, endpoints: int, changes: Sequence[str] = CHANGES, rounds: int = ROUNDS) -> list[Row]:
    """The cheapest of some reloads, for each change."""
    found: dict[str, list[tuple[Cost, Cost]]] = {change: [] for change in changes}
    with configuration(services, endpoints) as (write, read):
        environment, _ = read()
        settings = load_settings(environment)
        app = App(settings)
        await app.start()
        reloader = reloader_of(app, Configuration(settings, environment, read))
        worker = WorkerReloads(app, lambda given: given)
        worker.accepts.set()
        gc.collect()
        gc.freeze()  # as a gateway does once everything is made
        for turn in range(1, 2 * rounds, 2):
            for change in changes:
                write(change, turn)
                first = await timed(alone(reloader))
                write(change, turn + 1)
                said = to_text(reloader.configuration.read().settings)
                found[change].append((first, await timed(of_worker(worker, said))))
        await app.end(asyncio.Event())
        await app.close()
        gc.unfreeze()
    return [Row(services, endpoints, change, *map(min, zip(*found[change], strict=True))) for change in changes]


# ---- the table


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| services | endpoints of each | change of | ms of delay | whole reload, ms | in a worker: delay | whole |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        costs = [number for cost in (row.alone, row.worker) for number in (cost.delay * 1000, cost.seconds * 1000)]
        told = " | ".join(f"{number:.1f}" for number in costs)
        lines.append(f"| {row.services:,} | {row.endpoints:,} | {row.change} | {told} |")
    return "\n".join(lines)


def is_above(row: Row) -> bool:
    """Whether a delay is above the bound."""
    return max(row.alone.delay, row.worker.delay) > BOUND


def main() -> int:
    rows = [row for shape in SHAPES for row in uvloop.run(measure(*shape))]
    sys.stdout.write(f"{table(rows)}\n")
    above = [row for row in rows if is_above(row)]
    for row in above:
        sys.stderr.write(f"above {BOUND * 1000:.0f} ms: {row.services} services, {row.change}\n")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
