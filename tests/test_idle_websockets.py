"""WebSockets on which nobody says anything: the gateway keeps them alive, and serves as before.

IDLE_WEBSOCKETS=10000 python -m pytest tests/test_idle_websockets.py     the long form
"""

import asyncio
import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from benchmarks.machine import raise_descriptor_limit
from tests.support.idle_websockets import IdleClient
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.sockets import Client, get

COUNT = int(os.environ.get("IDLE_WEBSOCKETS", "100"))
AT_ONCE = 100  # handshakes
PING_INTERVAL = max(0.2, COUNT / 2000)  # seconds
BYTES_OF_EACH = 16 * 1024  # memory of the gateway for a WebSocket; `python -m benchmarks idle-ws` measures the cost
SLACK = 16 * 1024 * 1024  # of the allocators of all processes
RESERVED = 1000  # descriptors for everything else


@contextlib.contextmanager
def service() -> Iterator[str]:
    """A service of WebSockets in a process of its own, which has as many descriptors as the gateway has for clients."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        argv = [sys.executable, "-m", "tests.support.idle_websockets", str(listening.fileno())]
        popen = subprocess.Popen(argv, pass_fds=[listening.fileno()])
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            popen.kill()
            popen.wait()


def workers() -> int:
    """As many as have the descriptors: a WebSocket takes two."""
    raise_descriptor_limit()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return -(-2 * COUNT // (soft - RESERVED))


async def open_all(gateway: GatewayProcess) -> list[IdleClient]:
    clients = []
    for first in range(0, COUNT, AT_ONCE):
        part = [IdleClient(b"/ws/svc") for _ in range(first, min(first + AT_ONCE, COUNT))]
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *[loop.create_connection(lambda each=each: each, "127.0.0.1", gateway.port) for each in part]
        )
        await until(lambda part=part: all(each.pings >= 0 for each in part))
        clients += part
    return clients


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60 + COUNT / 20):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test(timeout=120 + COUNT / 10)
async def test_idle_websockets_live_on_and_cost_little() -> None:
    variables = {
        "WS_PING_INTERVAL_MS": str(round(PING_INTERVAL * 1000)), "WS_PONG_TIMEOUT_MS": "60000",
        "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "0", "WEB_CONCURRENCY": str(workers()),
    }  # fmt: skip
    with service() as url:
        async with gateway_process({"svc": [url]}, **variables) as gateway:
            assert await gateway.figure("gateway_websocket_connections") == 0  # all workers run
            before = gateway.memory
            clients = await open_all(gateway)
            told = await gateway.figure("gateway_websocket_connections")
            await until(lambda: all(each.pings >= 2 or each.is_lost for each in clients))
            assert (told, sum(each.is_lost for each in clients)) == (COUNT, 0)
            grown = gateway.memory - before
            assert grown <= COUNT * BYTES_OF_EACH + SLACK, f"{grown / COUNT / 1024:.1f} KiB for each"
            other = await Client.connect(gateway.port)
            assert (await other.ask(get(b"/api/svc/x"))).body == b"ok"
            other.close()
            for each in clients:
                each.transport.abort()
            async with asyncio.timeout(60):
                while await gateway.figure("gateway_websocket_connections"):
                    await asyncio.sleep(0.05)
