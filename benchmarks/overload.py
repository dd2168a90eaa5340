"""Latencies under overload: python -m benchmarks.overload

    in-flight   A service answers 500 requests/s of 20 ms each, and later if there are more. MAX_IN_FLIGHT_TOTAL keeps
                the gateway from queueing there. The load is twice what the service can do.
    loop        The gateway's event loop has twice as many requests as it can do, and sheds from a delay of 50 ms on.

Event streams are open meanwhile, and must all go on. The load of in-flight is open-loop, see open_loop.py. The load of
loop is h2load's, which takes a tenth of the CPU time: a connection sends at its rate, or as soon as the answer before
has come. The exit status is 1 if a bound is not kept.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop

from benchmarks import machine
from benchmarks.cost.peers import PREFIX, Place, gateway
from benchmarks.cost.session import working_directory
from benchmarks.cost.upstream import BODY_BYTES, upstream
from benchmarks.open_loop import OpenLoop, Outcome, percentile
from benchmarks.processes import Child, ChildFailed
from benchmarks.programs import FROM_ROOT, H2LOAD, NGINX, our_own
from benchmarks.readiness import HOST, free_port, wait_until_served

TIME = 0.02  # seconds that the service takes for a request
WORKERS = 10  # requests that the service works on at once
STREAMS = 50
SECONDS = 5.0  # of a load
PATIENCE = 60.0  # seconds until all streams are open
CONNECTIONS = 1000  # of h2load, and kept to the service: what the loop does is measured, not how connections open
WARMING = 1.0  # seconds of h2load's load before the measurement
MICROSECONDS = 1e6  # per second
MANY = 100  # connections of the closed loop that measures what the gateway can do

REQUEST = b"GET %b HTTP/1.1\r\nHost: x\r\nUser-Agent: benchmark\r\nAccept: application/json\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement.

    Attributes:
        p99: seconds, of answers of the service.
        shed_p99: seconds, of refusals.
        bound: greatest p99 in seconds; None for no bound.
        streams: how many streams have gone on.
        delay: p99 of the gateway's event loop in seconds, as the gateway tells at /_pressure.
    """

    name: str
    rate: float
    outcome: Outcome
    streams: int
    bound: float | None = None
    delay: float = 0.0

    @property
    def p99(self) -> float:
        return self.outcome.percentile(200, 99)

    @property
    def is_kept(self) -> bool:
        is_quick = self.bound is None or self.p99 <= self.bound
        return is_quick and self.streams == STREAMS and not self.outcome.lost and set(self.outcome.counts) <= {200, 503}


def table(rows: list[Row]) -> str:
    """The measurements in Markdown."""
    lines = [
        "| load | requests/s | served | shed | lost | p50 | p99 | p99 of refusals | bound | streams "
        "| p99 of the loop's delay | p99 of the load's own delay |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        counts, outcome = row.outcome.counts, row.outcome
        bound = "-" if row.bound is None else f"{row.bound * 1000:.0f} ms"
        lines.append(
            f"| {row.name} | {row.rate:,.0f} | {counts[200]:,} | {counts[503]:,} | {outcome.lost:,} "
            f"| {outcome.percentile(200, 50) * 1000:.1f} ms | {row.p99 * 1000:.1f} ms "
            f"| {outcome.percentile(503, 99) * 1000:.1f} ms | {bound} | {row.streams} of {STREAMS} "
            f"| {row.delay * 1000:.1f} ms | {percentile(outcome.lateness, 99) * 1000:.1f} ms |"
        )
    return "\n".join(lines)


# ---- the service, a process of its own


async def serve(port: int) -> None:
    """Answer /small after TIME, WORKERS requests at once; answer /events with an event each 100 ms."""
    room = asyncio.Semaphore(WORKERS)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"/events" in head.split(b"\r\n", 1)[0]:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
                    while not writer.is_closing():
                        writer.write(b"data: x\n\n")
                        await asyncio.sleep(0.1)
                    return
                async with room:
                    await asyncio.sleep(TIME)
                body = b"x" * BODY_BYTES["small"]
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(talk, HOST, port, backlog=4096)
    await server.serve_forever()


# ---- the load


class _Streams:
    """Event streams through the gateway."""

    def __init__(self) -> None:
        self._readers: list[asyncio.StreamReader] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self, port: int) -> None:
        """Open STREAMS streams. A stream that is shed, because another process has used the core, is asked for again.

        Raises:
            TimeoutError: streams are shed for PATIENCE seconds.
        """
        async with asyncio.timeout(PATIENCE):
            while len(self._writers) < STREAMS:
                reader, writer = await asyncio.open_connection(HOST, port)
                writer.write(REQUEST % b"/sse/streams/events")
                head = await reader.readuntil(b"\r\n\r\n")
                if b" 200 " not in head.split(b"\r\n", 1)[0]:
                    writer.transport.abort()
                    await asyncio.sleep(0.1)
                    continue
                self._readers.append(reader)
                self._writers.append(writer)

    async def count(self) -> int:
        """How many streams still bring events."""
        going_on = 0
        for each in self._readers:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
                async with asyncio.timeout(2.0):
                    while await each.read(65_536):  # what has come meanwhile, and one event more
                        if not each._buffer:  # type: ignore[attr-defined]
                            going_on += 1
                            break
        return going_on

    def close(self) -> None:
        for each in self._writers:
            each.transport.abort()


async def load(port: int, streams: _Streams, name: str, rate: float, bound: float | None = None) -> Row:
    """Load a gateway while streams are open."""
    outcome = await OpenLoop(port, [REQUEST % f"{PREFIX}small".encode()]).run(rate, SECONDS)
    return await observed(port, streams, Row(name, rate, outcome, 0, bound))


async def observed(port: int, streams: _Streams, row: Row) -> Row:
    """A row with what the gateway says, and with the number of streams that go on."""
    delay = await asyncio.to_thread(loop_delay, port)
    row = replace(row, streams=await streams.count(), delay=delay)
    print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
    return row


def loop_delay(port: int) -> float:
    """The p99 of the delays of a gateway's event loop in the last 10 seconds; in seconds."""
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/_pressure")
        told: dict[str, dict[str, float]] = json.loads(connection.getresponse().read())
    return told["eventLoopDelay"]["p99Ms"] / 1000


async def capacity(port: int) -> float:
    """Requests per second that a gateway can do, by a closed loop of MANY connections."""
    done, loop = 0, asyncio.get_running_loop()
    end = loop.time() + 2.0

    async def keep_asking() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection(HOST, port)
        while loop.time() < end:
            writer.write(REQUEST % f"{PREFIX}small".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            done += 1
        writer.transport.abort()

    await asyncio.gather(*[keep_asking() for _ in range(MANY)])
    return done / 2.0


async def by_h2load(port: int, rate: float, directory: Path) -> Outcome:
    """The outcome of h2load at a rate over CONNECTIONS; latencies count from the instants of sending.

    Raises:
        ChildFailed: h2load has failed.
    """
    log = directory / "h2load.tsv"
    argv = H2LOAD.argv(
        "--h1", f"--clients={CONNECTIONS}", f"--duration={SECONDS:.0f}", f"--warm-up-time={WARMING:.0f}",
        f"--rps={rate / CONNECTIONS}", f"--log-file={log}", f"http://{HOST}:{port}{PREFIX}small",
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = await process.communicate()
    if process.returncode:
        raise ChildFailed(f"h2load: {said.decode()[-500:]}")
    return outcome_of(log.read_text())


def outcome_of(log: str) -> Outcome:
    """The outcome that h2load has logged, without the requests of the first WARMING seconds.

    >>> outcome_of("1000000\\t200\\t900\\n2500000\\t503\\t1000\\n2600000\\t-1\\t0\\n")
    Outcome(latencies={503: [0.001]}, lost=1, lateness=[])
    """
    rows = [tuple(map(int, line.split()[:3])) for line in log.splitlines()]
    counts_from = min(began for began, _, _ in rows) + WARMING * MICROSECONDS
    outcome = Outcome()
    for began, status, microseconds in rows:
        if began >= counts_from and status > 0:
            outcome.add(status, microseconds / MICROSECONDS)
        elif began >= counts_from:
            outcome.lost += 1
    return outcome


# ---- the measurements


@contextlib.asynccontextmanager
async def running(
    proxy_core: int, upstream_port: int, stream_port: int, variables: Mapping[str, str]
) -> AsyncIterator[tuple[int, _Streams]]:
    """A gateway on a core of its own, with open streams; yields the port and the streams."""
    with working_directory() as directory:
        port = free_port()
        place = Place(directory, proxy_core, port, upstream_port, stream_port, access_log=True)
        with gateway(place, variables) as child:
            await asyncio.to_thread(wait_until_served, child, port, f"{PREFIX}small", BODY_BYTES["small"])
            streams = _Streams()
            await streams.open(port)
            yield port, streams
            streams.close()


async def in_flight(proxy_core: int, service_port: int) -> list[Row]:
    """Twice the load of a service."""
    most = {"MAX_IN_FLIGHT_TOTAL": str(2 * WORKERS)}
    async with running(proxy_core, service_port, service_port, most) as (port, streams):
        alone = await load(port, streams, "in-flight, unloaded", 0.1 * WORKERS / TIME)
        return [alone, await load(port, streams, "in-flight, twice the load", 2 * WORKERS / TIME, 3 * alone.p99)]


async def full_loop(proxy_core: int, service_port: int, nginx_port: int, rate: float | None) -> list[Row]:
    """Twice the load of an event loop."""
    variables = {"UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "50", "UPSTREAM_MAX_IDLE": str(CONNECTIONS)}
    async with running(proxy_core, nginx_port, service_port, variables) as (port, streams):
        rate = rate or 2 * await capacity(port)
        with working_directory() as directory:
            outcome = await by_h2load(port, rate, directory)
        return [await observed(port, streams, Row("loop, twice the load", rate, outcome, 0, 0.15))]


async def measure(names: list[str], rate: float | None) -> list[Row]:
    proxy_core, load_core = machine.cores()  # before this process is bound to one of these
    os.sched_setaffinity(0, {load_core})
    rows: list[Row] = []
    with working_directory() as directory:
        service_port = free_port()
        argv = our_own("benchmarks.overload", "--serve", str(service_port))
        with (
            Child(argv, load_core, directory / "service.log", FROM_ROOT) as service,
            upstream(directory, load_core) as nginx_port,
        ):
            await asyncio.to_thread(wait_until_served, service, service_port, "/small", BODY_BYTES["small"])
            if "in-flight" in names:
                rows += await in_flight(proxy_core, service_port)
            if "loop" in names:
                rows += await full_loop(proxy_core, service_port, nginx_port, rate)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__.partition("\n\n")[0])
    parser.add_argument("loads", nargs="*", choices=[[], "in-flight", "loop"], metavar="load", help="in-flight, loop")
    parser.add_argument("--rate", type=float, metavar="N", help="requests/s of loop, instead of twice what it can do")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
    for program in (NGINX, H2LOAD):
        if not program.is_installed:
            print(f"cannot measure: {program.remedy}", file=sys.stderr)
            return 2
    machine.raise_descriptor_limit()
    rows = uvloop.run(measure(options.loads or ["in-flight", "loop"], options.rate))
    print(table(rows))
    return 0 if all(row.is_kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
