"""Requests and streams while one gateway replaces another: what gets lost is counted.

    python -m tests.support.restarts stop        a gateway is stopped, then another one is started
    python -m tests.support.restarts takeover    a gateway takes over from another one

The client never tries again: a request that finds no connection, or whose connection ends before the answer is
complete, is lost. Half of the requests come on connections that are kept, the longest idle first; a client that has
seen the end of a connection takes another one, as all HTTP clients do. A stream is lost that ends without an end of its
protocol.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.ports import free_port
from tests.support.websockets import HANDSHAKE, MAGIC

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 25.0  # seconds until a request without an answer is lost
MOST_AT_ONCE = 100  # requests and streams; a machine that others use, too, gets fewer requests than wanted
CHUNK = b"c\r\ndata: tick\n\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)
BODY = b'{"item": 1}'
GET = b"GET /api/svc/items HTTP/1.1\r\nHost: gateway\r\n\r\n"
POST = b"POST /api/svc/items HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
EVENTS = b"GET /sse/svc/events HTTP/1.1\r\nHost: gateway\r\nAccept: text/event-stream\r\n\r\n"
UPGRADE = b"GET /ws/svc/chat HTTP/1.1\r\nHost: gateway\r\n%b\r\n\r\n" % b"\r\n".join(HANDSHAKE)


def value_of(name: bytes, head: bytes) -> bytes:
    """The value of a field; b"" without the field."""
    found = re.search(rb"\r\n%b: *([^\r]*)" % name, head, re.IGNORECASE)
    return found[1] if found else b""


def accept_of(head: bytes) -> bytes:
    """The answer to the key of a handshake (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(value_of(b"sec-websocket-key", head) + MAGIC, usedforsecurity=False).digest())


# ---------------------------------------------------------------- the service


class Service(asyncio.Protocol):
    """A service that answers requests, streams events and takes WebSockets, on one connection."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received, self._is_socket = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._is_socket:
            if data[0] & 15 == 8:  # a Close: RFC 6455 §5.5.1
                self.transport.write(b"\x88\x02\x03\xe8")
                self.transport.close()
            return
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            size = int(value_of(b"content-length", head) or 0)
            if len(self._received) < end + 4 + size:
                return
            self._received = self._received[end + 4 + size :]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        if value_of(b"upgrade", head):
            self._is_socket = True
            self.transport.write(ACCEPTED % accept_of(head))
        elif b"/events" in head.partition(b"\r\n")[0]:
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            self._tick()
        else:
            self.transport.write(ANSWER)

    def _tick(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(CHUNK)
            asyncio.get_running_loop().call_later(0.1, self._tick)


# ---------------------------------------------------------------- the client


class Connection(asyncio.Protocol):
    """A client's connection, with one request at a time.

    Attributes:
        is_over: whether the connection has ended, or will end after the last answer.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.is_over = False
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def ask(self, request: bytes) -> bytes:
        """Send a request; return the head of its answer.

        Raises:
            ConnectionError: the connection has ended before the answer was complete.
        """
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        try:
            return await self._answer
        finally:
            self._answer = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < int(value_of(b"content-length", head) or 0):
            return
        self._received = b""
        self.is_over = self.is_over or value_of(b"connection", head).lower() == b"close"
        if self._answer and not self._answer.done():
            self._answer.set_result(head)

    def eof_received(self) -> None:
        self.is_over = True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_over = True
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the connection has ended before the answer"))


@dataclass
class Tally:
    """What has become of requests and streams.

    Attributes:
        sent: requests, by method and connection ("POST kept").
        lost: requests and streams, by the same and the reason.
        told: answers with `Connection: close`.
        streams: streams that were opened, by kind.
    """

    sent: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    told: int = 0
    streams: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lost = ", ".join(f"{count} {what}" for what, count in sorted(self.lost.items())) or "none"
        sent = ", ".join(f"{count} {what}" for what, count in sorted((self.sent + self.streams).items()))
        return f"{self.sent.total()} requests and {self.streams.total()} streams ({sent}); lost: {lost}"


class Load:
    """Requests at a steady rate, and streams that come back.

    Args:
        rate: requests per second.
        kept: connections that are kept; each is used every 2 * kept / rate seconds.
        streams: event streams that are open at a time, and as many WebSockets.
    """

    def __init__(self, port: int, *, rate: int = 500, kept: int = 200, streams: int = 10) -> None:
        self.tally = Tally()
        self._port, self._rate, self._streams = port, rate, streams
        self._wanted = kept
        self._idle: deque[Connection] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False

    async def __aenter__(self) -> "Load":
        self._idle.extend(await asyncio.gather(*[Connection.open(self._port) for _ in range(self._wanted)]))
        for _ in range(self._streams):
            self._begin(self._listen("events", EVENTS))
            self._begin(self._listen("WebSocket", UPGRADE))
        self._sending = asyncio.ensure_future(self._send())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await self._sending
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._tasks)
        for each in self._idle:
            each.transport.close()
        await asyncio.sleep(0)

    def _begin(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self) -> None:
        loop, numbers, due = asyncio.get_running_loop(), itertools.count(1), 0.0
        sent_at = loop.time()
        while not self._is_over:
            now = loop.time()
            due, sent_at = due + (now - sent_at) * self._rate, now
            while due >= 1:
                due -= 1
                if len(self._tasks) < MOST_AT_ONCE:
                    number = next(numbers)
                    self._begin(self._request("POST" if number % 3 == 0 else "GET", is_kept=number % 2 == 0))
            await asyncio.sleep(0.002)

    async def _request(self, method: str, *, is_kept: bool) -> None:
        what = f"{method} {'kept' if is_kept else 'new'}"
        self.tally.sent[what] += 1
        try:
            async with asyncio.timeout(PATIENCE):
                connection = await self._connection(is_kept=is_kept)
                head = await connection.ask(POST if method == "POST" else GET)
        except OSError as error:
            self.tally.lost[f"{what}: {type(error).__name__}"] += 1
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            self.tally.lost[f"{what}: {head[9:12].decode()}"] += 1
        self.tally.told += connection.is_over
        if is_kept and not connection.is_over:
            self._idle.append(connection)
        else:
            connection.transport.close()

    async def _connection(self, *, is_kept: bool) -> Connection:
        while is_kept and self._idle:
            oldest = self._idle.popleft()
            if not oldest.is_over:
                return oldest
            oldest.transport.close()
        return await Connection.open(self._port)

    async def _listen(self, kind: str, request: bytes) -> None:
        """Keep a stream open."""
        while not self._is_over:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError as error:
                self.tally.lost[f"{kind}: {type(error).__name__}"] += 1
                await asyncio.sleep(0.1)
                continue
            self.tally.streams[kind] += 1
            writer.write(request)
            await self._follow(kind, reader, writer)
            writer.close()

    async def _follow(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = b""
        while not self._is_over:
            try:
                async with asyncio.timeout(0.1):
                    data = await reader.read(65536)
            except TimeoutError:
                continue
            except OSError as error:
                self.tally.lost[f"{kind}: {type(error).__name__}"] += 1
                return
            received = received[-200:] + data
            if not data or b"\x88" in data:
                break
        else:
            return
        if b"\x88" in received:  # a Close, answered by a Close
            writer.write(b"\x88\x80\0\0\0\0")
        elif not received.endswith(LAST_CHUNK):
            self.tally.lost[f"{kind}: cut"] += 1


# ---------------------------------------------------------------- the gateways


@asynccontextmanager
async def service() -> AsyncIterator[int]:
    """The port of a service. Its connections end with it."""
    transports: list[asyncio.Transport] = []

    class Kept(Service):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            transports.append(self.transport)

    server = await asyncio.get_running_loop().create_server(Kept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    for each in transports:
        each.abort()
    await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn of the loop


class Gateways:
    """The processes of a gateway, one after another, at one port.

    Args:
        variables: of all processes.
    """

    def __init__(self, upstream: int, folder: str, **variables: str) -> None:
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        self._variables = os.environ | {
            "HOST": "127.0.0.1", "PORT": str(self.port), "ACCESS_LOG": "false", "LOG_LEVEL": "warn",
            "UPSTREAMS": f'{{"svc": ["http://127.0.0.1:{upstream}"]}}', "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "0",
            "DRAIN_SPREAD_MS": "500", "TAKEOVER_SOCKET": f"{folder}/own/takeover.sock",
        } | variables  # fmt: skip

    def __enter__(self) -> "Gateways":
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.processes:
            if each.poll() is None:
                each.kill()
                each.wait()

    def start(self, *options: str) -> "subprocess.Popen[bytes]":
        """Start a gateway, which may not listen yet."""
        command = [sys.executable, "-m", "tornado_gateway", *options]
        self.processes.append(subprocess.Popen(command, env=self._variables, cwd=ROOT))
        return self.processes[-1]

    async def replace(self) -> None:
        """Start a gateway that takes over from the last one, which must end well."""
        self.start("--takeover")
        assert await ended(self.processes[-2]) == 0

    async def restart(self) -> None:
        """Stop the last gateway, which must end well, and start another one."""
        await self.stop()
        self.start()
        await listens(self.port)

    async def stop(self) -> None:
        self.processes[-1].terminate()
        assert await ended(self.processes[-1]) == 0


async def listens(port: int) -> None:
    """Wait until a gateway listens."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(OSError):
                (await Connection.open(port)).transport.close()
                return
            await asyncio.sleep(0.02)


async def ended(popen: "subprocess.Popen[bytes]") -> int:
    """Wait until a process has ended; return its exit code."""
    async with asyncio.timeout(2 * PATIENCE):
        while (code := popen.poll()) is None:
            await asyncio.sleep(0.02)
    return code


async def measure(way: str, restarts: int, kept: int, **variables: str) -> Tally:
    """The tally of replacements under load."""
    async with service() as upstream:
        with tempfile.TemporaryDirectory() as folder, Gateways(upstream, folder, **variables) as gateways:
            gateways.start()
            await listens(gateways.port)
            async with Load(gateways.port, kept=kept) as load:
                for _ in range(restarts):
                    await asyncio.sleep(0.5)
                    await (gateways.replace() if way == "takeover" else gateways.restart())
                await asyncio.sleep(0.5)
            await gateways.stop()
            return load.tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=["stop", "takeover"])
    parser.add_argument("--restarts", type=int, default=1)
    parser.add_argument("--kept", type=int, default=400)
    asked = parser.parse_args()
    sys.stdout.write(f"{asyncio.run(measure(asked.way, asked.restarts, asked.kept))}\n")
