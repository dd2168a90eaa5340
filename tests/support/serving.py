"""Helpers of tests of wire/server: a server with any delegate, and requests that a test controls."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerConnectionDelegate, RequestStartLine
from tornado.ioloop import IOLoop

from tests.support.sockets import Client, eventually, get
from tornado_gateway.wire.server.context import ServerConfig
from tornado_gateway.wire.server.exchange import ServerExchange
from tornado_gateway.wire.server.server import HTTPServer, Listener

MEGABYTE = 1024 * 1024
ANY_PORT = Listener(host="127.0.0.1", port=0)


class Request(HTTPMessageDelegate):
    """A request, as the delegate receives it.

    Attributes:
        is_whole: whether its end was announced.
        is_cut: whether the server said that its end will not come.
    """

    def __init__(self, exchange: ServerExchange, delegate: "Delegate") -> None:
        self.exchange = exchange
        self.start_line: Any = None
        self.headers = HTTPHeaders()
        self.chunks: list[bytes] = []
        self.is_whole = self.is_cut = self.is_left = False
        self._delegate = delegate
        exchange.set_close_callback(self._left)

    def _left(self) -> None:
        self.is_left = True

    @property
    def target(self) -> str:
        return self.start_line.path

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> Awaitable[None] | None:
        self.start_line: RequestStartLine = start_line
        self.headers = headers
        return self._delegate.on_head(self)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self.chunks.append(chunk)
        return self._delegate.on_chunk(self)

    def finish(self) -> None:
        self.is_whole = True
        self._delegate.on_request(self)

    def on_connection_close(self) -> None:
        self.is_cut = True

    def begin(self, length: int | None = None, status: int = 200) -> None:
        block = b"" if length is None else b"Content-Length: %d\r\n" % length
        self.exchange.start_response(status, b"", block, length=length, dated=False)

    def answer(self, body: bytes = b"ok", status: int = 200) -> None:
        self.begin(len(body), status)
        self.exchange.write(body)
        self.exchange.finish()


Step = Callable[[Request], Awaitable[None] | None]


def nothing(_: Request) -> None:
    """A step that does nothing; the test does everything."""


class Delegate(HTTPServerConnectionDelegate):
    """Keeps all requests; by default answers each complete request with 200 and "ok"."""

    def __init__(
        self,
        on_request: Callable[[Request], object] = Request.answer,
        *,
        on_head: Step = nothing,
        on_chunk: Step = nothing,
    ) -> None:
        self.on_request, self.on_head, self.on_chunk = on_request, on_head, on_chunk
        self.requests: list[Request] = []

    def start_request(self, server_conn: object, request_conn: Any) -> Request:
        self.requests.append(Request(request_conn, self))
        return self.requests[-1]


class Serving:
    """A server that listens."""

    def __init__(self, server: HTTPServer, port: int) -> None:
        self.server, self.port = server, port
        self.clients: list[Client] = []

    @classmethod
    async def start(
        cls, delegate: HTTPServerConnectionDelegate, listener: Listener = ANY_PORT, **config: Any
    ) -> "Serving":
        server = HTTPServer(delegate, ServerConfig(**config))
        ((_, port),) = await server.listen(listener)
        return cls(server, port)

    async def client(self, **options: Any) -> Client:
        self.clients.append(await Client.connect(self.port, **options))
        return self.clients[-1]

    def sweep_after(self, seconds: float) -> None:
        """Sweep the server with a clock that is `seconds` ahead."""
        self.server.sweep(self.server.context.loop.time() + seconds)

    @property
    def connection(self) -> Any:
        """The server's only connection."""
        (connection,) = self.server.connections
        return connection

    async def close(self) -> None:
        """Close the server; fail if a connection stays."""
        self.server.drain()
        self.server.abort()
        async with asyncio.timeout(2):
            await self.server.closed()
        for client in self.clients:
            client.close()
        assert self.server.refused == 0


Listen = Callable[..., Awaitable[Serving]]


async def is_open(client: Client) -> bool:
    """Whether the connection stays open and silent for a moment."""
    with suppress(TimeoutError):
        await client.more(patience=0.05)
        return False
    return True


async def stalled(listen: Listen, body: bytes, *, length: int | None = None) -> tuple[Serving, Client, Request]:
    """A client that does not read a response too large for all buffers."""

    def answer(request: Request) -> None:
        request.begin(length if length is not None else len(body))
        request.exchange.write(body)

    delegate = Delegate(answer)
    serving = await listen(delegate, client_idle_timeout=60, keepalive_timeout=95)
    client = await serving.client(receive_buffer=64 * 1024)
    await client.send(get(b"/"))
    await eventually(lambda: delegate.requests and not serving.connection.drained.done())
    await settled(serving)
    return serving, client, delegate.requests[0]


async def settled(serving: Serving) -> None:
    """Wait until the kernel's buffers are full."""
    size, same = -1, 0
    while same < 20:
        await asyncio.sleep(0.001)
        now = serving.connection.transport.get_write_buffer_size()
        same = same + 1 if now == size else 0
        size = now


def watch(io_loop: IOLoop) -> list[BaseException]:
    """Record the contexts that reach the loop's exception handler."""
    seen: list[BaseException] = []
    io_loop.asyncio_loop.set_exception_handler(lambda _, context: seen.append(context["exception"]))
    return seen
