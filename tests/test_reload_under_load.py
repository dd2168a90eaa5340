"""Reloads under requests and streams: nothing is lost, no stream ends, and memory stays."""

import asyncio
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.processes import memory_of
from tests.support.reloading import write
from tests.support.restarts import Connection, Gateways, Load, Tally, listens, service

RELOADS = int(os.environ.get("RELOADS", "4"))
PAUSE = 0.2  # seconds between two reloads
GROWTH = 4 * 2**20  # bytes by which the second half of many reloads may grow: less than 50 KB each would be in 100
RELOAD = b"POST /admin/api/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}"


def configure(file: Path, upstream: int, number: int) -> None:
    """Write the configuration of a reload: each differs from the one before in services, endpoints, routes, limits."""
    names = ("127.0.0.1", "localhost") if number % 2 else ("127.0.0.1",)
    services = {
        "svc": {"endpoints": [f"http://{each}:{upstream}" for each in names], "retryAttempts": 2 + number % 3},
        f"other-{number % 5}": [f"http://127.0.0.1:{upstream}"],
    }
    variables = {
        "UPSTREAMS": json.dumps(services),
        "ROUTES": json.dumps([{"path": f"/things-{number % 7}/*", "service": "svc"}]),
        "RATE_LIMITS": f"{1_000_000 + number % 11}/s",
        "MAX_BODY_BYTES": str(1000 + number),
        "API_KEYS": f"ci:{hashlib.sha256(str(number).encode()).hexdigest()}",
        "BREAKER_FAILURES": str(5 + number % 2),
        "WS_PING_INTERVAL_MS": "0",  # neither the client nor the service answers a ping
        "CACHE_ENABLED": "true" if number % 3 else "false",
    }
    write(file, variables)


def growth(sizes: Sequence[int]) -> int:
    """Bytes by which memory has grown in the second half of the reloads."""
    return sizes[-1] - sizes[len(sizes) // 2]


def growth_told(sizes: Sequence[int]) -> str:
    return f"from {sizes[len(sizes) // 2]} bytes in the middle to {sizes[-1]} at the end"


async def reloaded(reloads: int, *, rate: int, kept: int, streams: int) -> tuple[Tally, list[int]]:
    """The tally, and the memory after each reload."""
    sizes = []
    async with service() as upstream:
        with tempfile.TemporaryDirectory() as folder, Gateways(upstream, folder, UPSTREAMS="") as gateways:
            file = Path(folder) / ".env"
            configure(file, upstream, 0)
            gateways.start("--env-file", str(file))
            await listens(gateways.port)
            async with Load(gateways.port, rate=rate, kept=kept, streams=streams) as load:
                for number in range(1, reloads + 1):
                    configure(file, upstream, number)
                    await asyncio.sleep(PAUSE)
                    operator = await Connection.open(gateways.port)
                    assert (await operator.ask(RELOAD)).startswith(b"HTTP/1.1 200 ")
                    operator.transport.close()
                    sizes.append(memory_of(gateways.processes[0].pid))
                await asyncio.sleep(PAUSE)
            await gateways.stop()
            return load.tally, sizes


def test_no_request_is_lost_and_no_stream_ends_while_the_gateway_reloads() -> None:
    """`tests/long reload` reloads more often under more requests, and shows what was sent."""
    rate, kept, streams = (500, 200, 20) if RELOADS > 4 else (100, 40, 3)
    tally, sizes = asyncio.run(reloaded(RELOADS, rate=rate, kept=kept, streams=streams))
    sys.stdout.write(f"{RELOADS} reloads: {tally}; {growth_told(sizes)}\n")
    assert not tally.lost, str(tally)
    assert tally.streams == {"events": streams, "WebSocket": streams}  # none came back, because none has ended
    assert min(tally.sent[what] for what in ("GET kept", "GET new", "POST kept", "POST new")) > 10, str(tally)
    if RELOADS >= 100:
        assert growth(sizes) < GROWTH, sizes
