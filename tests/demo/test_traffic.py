"""The demo's traffic, with gateways that misbehave."""

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.demos import (
    Services,
    ended,
    other_tasks,
    playing,
    refuses,
)
from tests.support.sockets import PATIENCE, eventually
from tornado_gateway.demo import traffic
from tornado_gateway.demo.demo import Demo
from tornado_gateway.demo.upstreams import Clock, EchoSocket

# ---- traffic


class Gateway:
    """A stand-in for the gateway: notes targets by connection and answers as told.

    Attributes:
        connections: of each connection, the targets of its visits.
        held: the targets of what would be long-lived.
    """

    def __init__(self, answer: bytes, *, closing: bool = False, wanted: int = 1) -> None:
        self.connections: list[list[str]] = []
        self.held: list[str] = []
        self._answer, self._closing, self._wanted = answer, closing, wanted
        self._enough = asyncio.Event()

    async def enough(self) -> None:
        await asyncio.wait_for(self._enough.wait(), PATIENCE)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        targets: list[str] = []
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split()[1].decode()
                (targets if target.startswith("/api/") else self.held).append(target)
                if targets == [target]:
                    self.connections.append(targets)
                if sum(map(len, self.connections)) >= self._wanted:
                    self._enough.set()
                writer.write(self._answer)
                if self._closing:
                    break
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()


async def visited(gateway: Gateway, **options: Any) -> None:
    """Run traffic until the gateway has received enough requests."""
    demo = Demo(random.Random(7), pause=0.001, **options)
    async with await asyncio.start_server(gateway.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        demo.start_traffic(f"http://127.0.0.1:{port}")
        try:
            await gateway.enough()
        finally:
            await demo.stop()
    await ended(other_tasks())


def test_traffic_visits_every_service_over_connections_that_last() -> None:
    async def scenario() -> None:
        gateway = Gateway(b"HTTP/1.1 503 Any\r\ncontent-LENGTH: 5\r\n\r\nhello", wanted=200)
        await visited(gateway, visitors=3)
        assert len(gateway.connections) == 3
        targets = {target for connection in gateway.connections for target in connection}
        assert {"/api/slow/", "/api/flaky/", "/api/api/items"} <= targets

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answer", "closing"),
    [
        pytest.param(b"", True, id="no answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", True, id="cut answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True, id="closed after the answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False, id="no length"),
        pytest.param(b"x" * 200_000, False, id="no end of the head"),
    ],
)
def test_traffic_comes_back_after_a_bad_answer(answer: bytes, closing: bool) -> None:
    async def scenario() -> None:
        gateway = Gateway(answer, closing=closing, wanted=6)
        await visited(gateway, visitors=1)
        assert len(gateway.connections) >= 6

    asyncio.run(scenario())


def test_traffic_waits_for_a_gateway_that_is_not_there_yet() -> None:
    async def scenario() -> None:
        gateway = Gateway(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        demo = Demo(pause=0.001, visitors=1)
        demo.start_traffic(f"http://127.0.0.1:{port}")
        assert await refuses(f"http://127.0.0.1:{port}")
        async with await asyncio.start_server(gateway.serve, "127.0.0.1", port):
            await gateway.enough()
            await demo.stop()
        await ended(other_tasks())

    asyncio.run(scenario())


def test_traffic_tries_a_stream_and_a_websocket_again_with_longer_and_longer_pauses() -> None:
    async def scenario() -> None:
        gateway = Gateway(b"HTTP/1.1 503 Any\r\nContent-Length: 0\r\n\r\n", closing=True, wanted=400)
        await visited(gateway, visitors=1)
        for target in (traffic.STREAM, traffic.SOCKET):
            assert 3 <= gateway.held.count(target) < 20

    asyncio.run(scenario())


class Streams:
    """The demo's own stream and echo at the gateway's paths; everything else is a 404."""

    def __init__(self) -> None:
        self.sockets: set[EchoSocket] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        routes = [("/sse/clock/events", Clock), ("/ws/chat", EchoSocket)]
        self.server = HTTPServer(
            Application(
                list(routes), log_function=lambda _: None, sockets=self.sockets, tasks=self.tasks, tick=0.001, about={}
            )
        )

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        sockets = bind_sockets(0, "127.0.0.1", socket.AF_INET)
        self.server.add_sockets(sockets)
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        self.server.stop()
        await self.server.close_all_connections()

    @property
    def running(self) -> set[asyncio.Task[Any]]:
        """The handlers of streams and WebSockets that are open."""
        return {task for task in self.tasks if not task.done()}

    async def both_open(self) -> None:
        await eventually(lambda: len(self.sockets) == 1 and len(self.running) == 2)


def test_traffic_keeps_one_stream_and_one_websocket_open_and_replaces_them() -> None:
    async def scenario() -> None:
        gateway, demo = Streams(), Demo(pause=0.001, visitors=0)
        async with gateway.listening() as url:
            demo.start_traffic(url)
            for _ in range(3):
                await gateway.both_open()
                before = gateway.running
                for talking in gateway.sockets:
                    talking.close(1001, "going away")
                await gateway.server.close_all_connections()
                await ended(before)
            await gateway.both_open()
            handlers = gateway.running
            await asyncio.wait_for(demo.stop(), 2)
            await ended(handlers)
        await ended(other_tasks())

    asyncio.run(scenario())


def test_the_traffic_s_websocket_talks_and_says_goodbye() -> None:
    async def scenario() -> None:
        heard: asyncio.Queue[str | bytes] = asyncio.Queue()
        codes: list[int | None] = []

        async def converse(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    heard.put_nowait(await connection.recv())
            codes.append(connection.close_code)

        demo = Demo(pause=0.001, visitors=0)
        silent = logging.getLogger("silent")
        silent.disabled = True  # the traffic asks this server for an event stream too
        async with serve(converse, "127.0.0.1", 0, logger=silent) as server:
            demo.start_traffic(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            async with asyncio.timeout(5):
                assert [await heard.get() for _ in range(3)] == ["hello 1", "hello 2", "hello 3"]
            await demo.stop()
            await eventually(lambda: codes == [1000])

    asyncio.run(scenario())


@playing()
async def test_what_the_traffic_asks_for_exists(services: Services, http: httpx.AsyncClient) -> None:
    for visit in traffic.VISITS:
        _, service, path = visit.split("/", 2)
        response = await http.get(f"{services[service][0]}/{path}")
        assert response.status_code == (404 if visit == "/api/items/99" else 200)
        assert "Content-Length" in response.headers
