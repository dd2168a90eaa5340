"""python -m benchmarks.soak: does memory stay flat under mixed load with aborts?

The gateway runs in a process of its own; services and clients run in this process. Clients behave at random like real
clients: they use kept and new connections, upload by length and by chunks, read slowly, pipeline, and leave at every
point. Meanwhile event streams and WebSockets, half of each, carry messages and are ended by either side in every way
(streams.py and service.py). The gateway's resident memory and open descriptors are printed every few seconds. At the
end all clients leave, and the program checks that

    no event and no message was lost, repeated or changed, and every end was reported correctly
    the gateway has as many descriptors open as before the first connection
    the gateway has counted every stream out, so that MAX_STREAMS streams are accepted again, and no more
    the gateway's memory has not grown in the last quarter of the run
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

from benchmarks import machine
from benchmarks.processes import PROC, parse_resident
from benchmarks.programs import FROM_ROOT, our_own
from benchmarks.readiness import HOST
from benchmarks.soak import streams as soak_streams
from benchmarks.soak.service import Service, Tally

CLIENTS = 64  # clients of requests
SAMPLES = 60  # measurements of memory over the whole run
GROWTH_ALLOWED = 2048  # KiB between the medians of the third and the last quarter
LARGE = 300_000  # bytes
UPSTREAM_IDLE = 1.0  # seconds for which idle connections to services are kept; short, so that all close soon
SPARE_DESCRIPTORS = 500  # descriptors beside the descriptors of twice as many streams, on both sides
LONGEST_LINE = 300  # greatest length of a quoted log line
QUIET_WITHIN = 15.0  # seconds after the load within which everything must be closed


class Endpoint(asyncio.Protocol):
    """An upstream whose response depends on the path: small, large, chunked, slow or cut."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if b"\r\n\r\n" not in self.buffer:
            return
        head, _, body = self.buffer.partition(b"\r\n\r\n")
        if b"chunked" in head and not body.endswith(b"0\r\n\r\n"):
            return
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:") and len(body) < int(line[15:]):
                return
        self.buffer = b""
        self.answer(head.split(b" ")[1])

    def answer(self, path: bytes) -> None:
        write, loop = self.transport.write, asyncio.get_running_loop()
        if path == b"/large":
            write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + b"x" * LARGE)
        elif path == b"/chunks":
            write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            loop.call_later(0.05, write, b"5\r\nhello\r\n" * 100)
            loop.call_later(0.1, write, b"0\r\n\r\n")
        elif path == b"/cut":
            write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            self.transport.close()
        elif path == b"/slow":
            loop.call_later(0.2, write, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
        else:
            write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall")


async def visit(port: int, rng: random.Random) -> None:
    """Open a connection and send a few random requests; sometimes leave in the middle."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        for _ in range(rng.randint(1, 5)):
            path = rng.choice(["small", "small", "large", "chunks", "cut", "slow"])
            size = rng.choice([0, 0, 10, LARGE])
            head = f"{'POST' if size else 'GET'} /api/svc/{path}?{rng.random()} HTTP/1.1\r\nHost: a\r\n"
            if not size:
                writer.write(f"{head}\r\n".encode())
            elif rng.random() < 0.5:
                writer.write(f"{head}Content-Length: {size}\r\n\r\n".encode() + b"u" * size)
            else:
                chunk = b"%x\r\n%b\r\n" % (size, b"u" * size)
                writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk + b"0\r\n\r\n")
            if rng.random() < 0.2:  # leave: at once, or after a part of the answer
                await asyncio.sleep(rng.choice([0, 0, 0.01, 0.1]))
                return
            await read_answer(reader)
    except (OSError, asyncio.IncompleteReadError):
        return
    finally:
        writer.transport.abort() if rng.random() < 0.5 else writer.close()


async def read_answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"transfer-encoding: chunked" in head:
        await reader.readuntil(b"0\r\n\r\n")
    else:
        at = head.index(b"content-length:") + 15
        await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))


async def client(port: int, rng: random.Random, until: float) -> int:
    visits = 0
    while time.monotonic() < until:
        await visit(port, rng)
        visits += 1
    return visits


def look(pid: int) -> tuple[int, int]:
    """A process's resident memory in KiB, and its number of open descriptors."""
    directory = PROC / str(pid)
    return parse_resident((directory / "status").read_text()), len(list((directory / "fd").iterdir()))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a soak.

    Attributes:
        faults: faults of streams, with their counts.
        descriptors_left: open descriptors beyond the number before the first connection.
        services_left: open connections of the streams' service.
        streams_missing: MAX_STREAMS minus the streams that the gateway accepts at the end.
        growth: growth of resident memory in KiB, from the third quarter's median to the last quarter's.
        begun: number of streams that were opened.
    """

    faults: dict[str, int]
    descriptors_left: int
    services_left: int
    streams_missing: int
    growth: float
    begun: int

    @property
    def leaked(self) -> bool:
        return bool(self.faults or self.descriptors_left or self.services_left or self.streams_missing)

    @property
    def flat(self) -> bool:
        return self.growth <= GROWTH_ALLOWED


@dataclass(frozen=True, slots=True)
class Soak:
    """The load of a soak.

    Attributes:
        minutes: duration.
        streams: number of streams at a time, half of each kind.
        seed: seed of all randomness.
    """

    minutes: float
    streams: int
    seed: int

    @property
    def stream_limit(self) -> int:
        """The gateway's MAX_STREAMS: with room for streams whose end the gateway has not yet noticed."""
        return 2 * self.streams


async def soak(plan: Soak) -> Verdict:
    """Put a gateway under load, and check that its state afterwards equals its state before."""
    loop = asyncio.get_running_loop()
    tally, rng = Tally(), random.Random(plan.seed)
    upstream = await loop.create_server(Endpoint, HOST, 0, backlog=1024)
    service = await loop.create_server(lambda: Service(tally, rng), HOST, 0, backlog=4096)
    ports = {"svc": upstream.sockets[0].getsockname()[1], "streams": service.sockets[0].getsockname()[1]}
    try:
        async with running_gateway(ports, plan.stream_limit, tally.faults) as (pid, port):
            _, before = look(pid)
            resident = await load(plan, pid, port, tally)
            descriptors_left = await quiet(pid, before, tally)
            statuses = await soak_streams.occupy(port, plan.stream_limit)
            await quiet(pid, before, tally)
            return Verdict(
                faults=dict(tally.faults),
                descriptors_left=descriptors_left,
                services_left=tally.services,
                streams_missing=plan.stream_limit - statuses.count(b"200"),
                growth=growth(resident),
                begun=tally.begun,
            )
    finally:
        upstream.close()
        service.close()


@contextlib.asynccontextmanager
async def running_gateway(
    ports: dict[str, int], stream_limit: int, faults: Counter[str]
) -> AsyncIterator[tuple[int, int]]:
    """Run a gateway in an empty directory, without .env; yield its process number and its port.

    Args:
        ports: ports of the services by name.
        stream_limit: MAX_STREAMS.
        faults: counts the lines that the gateway logs.
    """
    with tempfile.TemporaryDirectory() as directory:
        gateway = await start_gateway(ports, stream_limit, directory)
        try:
            port = await listening_port(gateway)
            hearing = asyncio.create_task(hear(gateway, faults))
            yield gateway.pid, port
            hearing.cancel()
        finally:
            gateway.terminate()
            await gateway.wait()


async def start_gateway(ports: dict[str, int], stream_limit: int, directory: str) -> asyncio.subprocess.Process:
    env = {
        "HOST": HOST,
        "PORT": "0",
        "UPSTREAMS": json.dumps({name: [f"http://{HOST}:{port}"] for name, port in ports.items()}),
        "UPSTREAMS_FILE": "",
        "AUTH_REQUIRED": "false",
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "json",
        "ACCESS_LOG": "false",
        "UPSTREAM_IDLE_TIMEOUT_MS": str(int(UPSTREAM_IDLE * 1000)),
        "MAX_STREAMS": str(stream_limit),
        "SSE_UNAVAILABLE": "status",  # a stream that is refused shows as 503
    }
    return await asyncio.create_subprocess_exec(
        *our_own("tornado_gateway"),
        env={**os.environ, **FROM_ROOT, **env},
        cwd=directory,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )


async def listening_port(gateway: asyncio.subprocess.Process) -> int:
    assert gateway.stderr is not None
    line = json.loads(await gateway.stderr.readline())
    return int(str(line["message"]).partition(f"{HOST}:")[2].partition(" ")[0])


async def hear(gateway: asyncio.subprocess.Process, faults: Counter[str]) -> None:
    """Count every line of the gateway's log as a fault."""
    assert gateway.stderr is not None
    async for line in gateway.stderr:
        faults[f"the gateway logged: {line.decode(errors='replace').strip()[:LONGEST_LINE]}"] += 1


async def load(plan: Soak, pid: int, port: int, tally: Tally) -> list[int]:
    """Run all clients; return the gateway's resident memory in KiB, measured SAMPLES times."""
    began = time.monotonic()
    seconds = plan.minutes * 60
    until = began + seconds
    requests = [asyncio.create_task(client(port, random.Random(plan.seed + n), until)) for n in range(CLIENTS)]
    seeds = range(plan.seed + CLIENTS, plan.seed + CLIENTS + plan.streams)
    streams = [asyncio.create_task(soak_streams.come_and_go(port, tally, random.Random(seed), until)) for seed in seeds]
    resident: list[int] = []
    print("seconds  resident KiB  descriptors  streams open")
    while time.monotonic() < until or len(resident) < 4:  # at least once for each quarter, on a busy machine too
        await asyncio.sleep(seconds / SAMPLES)
        kib, descriptors = look(pid)
        resident.append(kib)
        print(f"{time.monotonic() - began:7.0f}  {kib:12d}  {descriptors:11d}  {tally.open:12d}", flush=True)
    visits = sum(await asyncio.gather(*requests))
    await asyncio.gather(*streams)
    print(f"{visits} connections with requests; {tally.begun} streams with {tally.messages} messages, which ended so:")
    for how, times in sorted(tally.ends.items()):
        print(f"{times:7d}  {how}")
    return resident


async def quiet(pid: int, before: int, tally: Tally) -> int:
    """Wait up to QUIET_WITHIN until everything is closed; return the number of additional open descriptors."""
    deadline = time.monotonic() + QUIET_WITHIN
    while (left := look(pid)[1] - before) or tally.services:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    return left


def growth(resident: list[int]) -> float:
    """The difference between the medians of the last and the third quarter of a series."""
    quarter = len(resident) // 4
    return statistics.median(resident[-quarter:]) - statistics.median(resident[2 * quarter : 3 * quarter])


def main() -> int:
    """Run the command line; return 0 without faults, leaks and growth, else 1."""
    import uvloop  # noqa: PLC0415 (only this program needs it)

    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    machine.raise_descriptor_limit()
    if machine.descriptor_limit() < (needed := 4 * asked.streams + SPARE_DESCRIPTORS):
        parser.error(f"{asked.streams} streams need {needed} descriptors (ulimit -n)")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        verdict = runner.run(soak(Soak(min(asked.minutes, 60.0), asked.streams, asked.seed)))
    tell(verdict)
    return 0 if verdict.flat and not verdict.leaked else 1


def tell(verdict: Verdict) -> None:
    """Print a verdict."""
    for fault, times in sorted(verdict.faults.items()):
        print(f"fault, {times} times: {fault}")
    print(f"{verdict.descriptors_left} descriptors more than before the first connection")
    print(f"{verdict.services_left} connections left open to the streams' service")
    print(f"{verdict.streams_missing} streams not given back")
    print(f"resident memory grew by {verdict.growth:.0f} KiB from the third to the last quarter")
    print(("flat" if verdict.flat else "not flat") + (", leaks or faults" if verdict.leaked else ", nothing leaked"))


if __name__ == "__main__":
    sys.exit(main())
