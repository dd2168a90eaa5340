"""Makes the pictures of the dashboard: `python -m tests.support.pictures`, from the root of the repository.

A gateway runs with services of this script and with traffic. Chromium shows the dashboard, and the pictures go to
docs/images/. Endpoints are addresses of the loopback network, which all lead to one server; the Host says which
endpoint is meant.
"""

import asyncio
import base64
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.chromium import Tab, chromium, tab
from tests.support.ports import free_port
from tests.support.websockets import until

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
MOST_BYTES = 300 * 1024

TRAFFIC = 60.0  # seconds of traffic before a picture
CLIENTS = 12
PAUSE = 0.12  # mean seconds between two requests of a client


@dataclass(slots=True)
class Upstreams:
    """All endpoints in one server.

    Attributes:
        port: of each endpoint.
        slow: seconds that the answers of an endpoint take, by address.
        failing: addresses whose requests are cut off.
    """

    port: int = field(default_factory=lambda: free_port("0.0.0.0"))
    slow: dict[str, float] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    rng: random.Random = field(default_factory=lambda: random.Random(7))

    async def serve(self) -> None:
        async with await asyncio.start_server(self._answer, "0.0.0.0", self.port, backlog=4096) as server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                host = writer.get_extra_info("sockname")[0]
                if host in self.failing:
                    break
                if b"\r\nAccept: text/event-stream" in head:
                    await self._stream(writer)
                await asyncio.sleep(self.slow.get(host, 0.004) * self.rng.lognormvariate(0, 0.5))
                status = b"404 Not Found" if b"/99 " in head else b"200 OK"
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status)
        writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            writer.write(b"data: 0123456789\n\n")
            await writer.drain()
            await asyncio.sleep(self.rng.uniform(0.5, 1.5))


@dataclass(slots=True)
class Traffic:
    """Clients that ask the services of a gateway again and again.

    Attributes:
        targets: what is asked for, equally often.
        streams: targets of event streams that are kept open.
    """

    port: int
    targets: tuple[str, ...]
    streams: tuple[str, ...] = ()
    rng: random.Random = field(default_factory=lambda: random.Random(11))

    async def run(self) -> None:
        clients = [self._client(f"198.51.100.{number + 1}") for number in range(CLIENTS)]
        await asyncio.gather(
            *clients,
            *[self._follow(each, f"203.0.{113 + n // 250}.{n % 250 + 1}") for n, each in enumerate(self.streams)],
        )

    async def _client(self, address: str) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            with contextlib.suppress(OSError, EOFError):
                async with self._connected() as (reader, writer):
                    while True:
                        await self._ask(address, reader, writer)

    async def _ask(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_request(self.rng.choice(self.targets), address))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        await asyncio.sleep(self.rng.expovariate(1 / (PAUSE / 8 if address.endswith(".1") else PAUSE)))

    async def _follow(self, target: str, address: str) -> None:
        with contextlib.suppress(OSError):
            async with self._connected() as (reader, writer):
                writer.write(_request(target, address, "Accept: text/event-stream\r\n"))
                while await reader.read(2**16):
                    pass

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with contextlib.closing(writer):
            yield reader, writer


def _request(target: str, address: str, more: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: gateway\r\nX-Forwarded-For: {address}\r\n{more}\r\n".encode()


@contextlib.contextmanager
def running(
    upstreams: Upstreams,
    services: dict[str, Any],
    *streams: str,
    program: Sequence[str] = ("-m", "tornado_gateway"),
    **variables: str,
) -> Iterator[str]:
    """A gateway with traffic for all services; gives the address of the dashboard.

    Args:
        streams: targets of event streams that are kept open.
        program: what Python runs as the gateway.
    """
    port = free_port("127.0.0.1")
    of_gateway = {
        "UPSTREAMS": json.dumps(services), "HOST": "127.0.0.1", "PORT": str(port), "ACCESS_LOG": "false",
        "TRUSTED_PROXIES": "127.0.0.1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    targets = tuple(f"/api/{name}/{item}" for name in services for item in ("items", "items/3", "items/99", "orders"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    gateway = subprocess.Popen(
        [sys.executable, *program], env=os.environ | of_gateway | variables, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: listens(port), "the gateway listens")
        for work in (upstreams.serve(), Traffic(port, targets, streams).run()):
            asyncio.run_coroutine_threadsafe(work, loop)
        yield f"http://127.0.0.1:{port}/admin"
    finally:
        gateway.terminate()
        gateway.wait(30)
        asyncio.run_coroutine_threadsafe(_end_all(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0.01)  # the turns in which transports close


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def shown(url: str) -> Iterator[Tab]:
    """The dashboard in Chromium."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        chromium(Path(profile)) as devtools,
        tab(devtools, url) as connection,
    ):
        page = Tab(connection)
        page.call("Page.enable")
        until(lambda: page.value("document.getElementById('link')?.textContent") == "live", "the dashboard is live")
        yield page


def picture(page: Tab, name: str, width: int, height: int, theme: str) -> None:
    """Write a picture of the dashboard."""
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700)
    page.call("Emulation.setScrollbarsHidden", hidden=True)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    time.sleep(2.5)  # the page draws twice: charts follow the size of the page
    data = base64.b64decode(page.call("Page.captureScreenshot", format="png", optimizeForSpeed=False)["data"])
    assert len(data) <= MOST_BYTES, f"{name} has {len(data)} bytes"
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / f"{name}.png").write_bytes(data)
    print(name, len(data))  # noqa: T201


def usual() -> None:
    """All is well, in both themes and on a phone."""
    upstreams = Upstreams()
    services = {
        "billing": [f"http://127.1.0.{n}:{upstreams.port}" for n in (1, 2, 3)],
        "orders": [f"http://127.2.0.{n}:{upstreams.port}" for n in (1, 2)],
        "search": [f"http://127.3.0.{n}:{upstreams.port}" for n in (1, 2)],
        "feed": [f"http://127.4.0.{n}:{upstreams.port}" for n in (1,)],
    }
    upstreams.slow = {"127.3.0.1": 0.06, "127.3.0.2": 0.08}
    with running(upstreams, services, *["/sse/feed/events"] * 5) as url, shown(url) as page:
        time.sleep(TRAFFIC)
        picture(page, "dark", 1280, 1160, "dark")
        picture(page, "light", 1280, 1160, "light")
        picture(page, "narrow", 320, 900, "dark")


def incident() -> None:
    """An endpoint refuses, an endpoint cuts off, an endpoint is slow, an endpoint is drained, a client is too fast."""
    upstreams = Upstreams()
    services = {
        "billing": [f"http://127.1.0.{n}:{upstreams.port}" for n in (1, 2)]
        + [f"http://127.1.0.3:{free_port('127.1.0.3')}"],
        "orders": [f"http://127.2.0.{n}:{upstreams.port}" for n in (1, 2)],
        "search": [f"http://127.3.0.{n}:{upstreams.port}" for n in (1, 2)],
        "feed": [f"http://127.4.0.{n}:{upstreams.port}" for n in (1,)],
    }
    upstreams.slow = {"127.3.0.1": 0.7, "127.3.0.2": 0.05}
    services["search"] = {"endpoints": services["search"], "rateLimitMax": 20}
    with running(upstreams, services, *["/sse/feed/events"] * 5, RETRY_ATTEMPTS="1") as url, shown(url) as page:
        time.sleep(TRAFFIC / 2)
        upstreams.failing = {"127.2.0.2"}
        order = json.dumps({"service": "search", "endpoint": f"http://127.3.0.2:{upstreams.port}"})
        page.value(f"fetch('/admin/api/drain', {{method: 'POST', body: {json.dumps(order)}}}).then(() => null)")
        time.sleep(TRAFFIC)
        picture(page, "incident", 1280, 1160, "dark")


def thousand() -> None:
    """1,000 endpoints."""
    upstreams = Upstreams()
    names = [
        f"{kind}-{region}"
        for kind in ("api", "auth", "billing", "catalog", "mail")
        for region in ("ams", "fra", "nyc", "sfo")
    ]
    services = {
        name: [f"http://127.{10 + number}.0.{n}:{upstreams.port}" for n in range(1, 51)]
        for number, name in enumerate(names)
    }
    upstreams.failing = {f"127.13.0.{n}" for n in range(1, 8)} | {"127.20.0.9"}
    with running(upstreams, services) as url, shown(url) as page:
        time.sleep(2 * TRAFFIC)
        picture(page, "thousand", 1280, 1160, "light")


if __name__ == "__main__":
    for name in sys.argv[1:] or ("usual", "incident", "thousand"):
        {"usual": usual, "incident": incident, "thousand": thousand}[name]()
