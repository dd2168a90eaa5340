"""python -m benchmarks.soak: does memory stay flat under mixed load with aborts?

A gateway in a process of its own, upstream and clients in this one. Clients do at random
what real ones do: ask on kept connections and new ones, upload by length and by chunks,
read slowly, pipeline, and leave at every point. Every few seconds the gateway's resident memory,
open descriptors and connections are shown. At the end the load stops: the descriptors must be
back where they began, and the second half of the run must not have grown.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from benchmarks.processes import PROC, parse_resident

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 64
SAMPLES = 60  # over the whole run
GROWTH_ALLOWED = 2048  # KiB between the medians of the third and the last quarter
LARGE = 300_000  # bytes
HOST = "127.0.0.1"


class Endpoint(asyncio.Protocol):
    """An upstream: small answers, large ones, slow ones, early ones, broken ones; as the path says."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
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
    """One client's connection: a few requests, each of a random kind, perhaps left in the middle."""
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
    """Resident memory in KiB, and open descriptors."""
    directory = PROC / str(pid)
    return parse_resident((directory / "status").read_text()), len(list((directory / "fd").iterdir()))


async def soak(minutes: float, seed: int) -> bool:
    loop = asyncio.get_running_loop()
    upstream = await loop.create_server(Endpoint, HOST, 0, backlog=1024)
    with tempfile.TemporaryFile() as log:
        gateway = await start_gateway(upstream.sockets[0].getsockname()[1], log)
        try:
            port = await listening_port(gateway)
            await asyncio.gather(*[visit(port, random.Random(seed)) for _ in range(CLIENTS)])
            return await watch(gateway.pid, port, minutes * 60, seed)
        finally:
            gateway.terminate()
            await gateway.wait()
            upstream.close()


async def start_gateway(upstream: int, log: IO[bytes]) -> asyncio.subprocess.Process:
    services = json.dumps({"svc": [f"http://{HOST}:{upstream}"]})
    env = {"HOST": HOST, "PORT": "0", "UPSTREAMS": services, "PYTHONPATH": str(ROOT), "ACCESS_LOG": "false"}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tornado_gateway",
        env=env,
        stdout=log,
        stderr=asyncio.subprocess.PIPE,
    )


async def listening_port(gateway: asyncio.subprocess.Process) -> int:
    assert gateway.stderr is not None
    line = json.loads(await gateway.stderr.readline())
    return int(str(line["message"]).partition(f"{HOST}:")[2].partition(" ")[0])


async def watch(pid: int, port: int, seconds: float, seed: int) -> bool:
    began = time.monotonic()
    _, descriptors = look(pid)
    load = [asyncio.create_task(client(port, random.Random(seed + n), began + seconds)) for n in range(CLIENTS)]
    resident: list[int] = []
    print("seconds  resident KiB  descriptors")
    while time.monotonic() < began + seconds:
        await asyncio.sleep(seconds / SAMPLES)
        sample = look(pid)
        resident.append(sample[0])
        print(f"{time.monotonic() - began:7.0f}  {sample[0]:12d}  {sample[1]:11d}", flush=True)
    visits = sum(await asyncio.gather(*load))
    await asyncio.sleep(2)  # what was under way comes to its end
    _, left = look(pid)
    quarter = len(resident) // 4
    growth = statistics.median(resident[-quarter:]) - statistics.median(resident[2 * quarter : 3 * quarter])
    print(f"{visits} connections; resident memory grew by {growth:.0f} KiB from the third to the last quarter;")
    print(f"{left - descriptors} descriptors more than before (idle upstream connections: at most {CLIENTS})")
    return growth <= GROWTH_ALLOWED and left - descriptors <= CLIENTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    flat = asyncio.run(soak(min(asked.minutes, 60.0), asked.seed))
    print("flat" if flat else "not flat")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
