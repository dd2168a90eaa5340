"""The client's side of HTTP/1.x: requests to upstreams over kept connections.

    ClientExchange ──head, body──► ClientConnection ──bytes──► transport
         ▲                              │
    Receiver ◄── head, chunks, end ─────┘

An exchange is one request and its response; a connection carries one at a time and
goes back to its pool when both were complete and nothing else came. Request and
response flow at the same time, so an answer that comes before the request has
been sent (413, 401) is delivered at once, and that connection is not used again.

Flow control is the transport's: `write()` returns a future that is not done while the
upstream does not keep up, and a Receiver that returns such a future from `on_chunk()`
stops the upstream from being read.

What a caller has to know about failures: exactly one of `on_end()` and `on_failure()`
is called, unless `abort()` came first; then neither is.
"""

import asyncio
import contextlib
import math
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import HTTPStreamClosedError

from tornado_gateway.errors import (
    ConnectFailed,
    HeadTimeout,
    IdleTimeout,
    UpstreamError,
    UpstreamInvalid,
    UpstreamReset,
)
from tornado_gateway.policy.headers import Field
from tornado_gateway.policy.target import Origin
from tornado_gateway.wire.connect import ConnectConfig, Connector
from tornado_gateway.wire.fetch import respond
from tornado_gateway.wire.http1 import (
    END_OF_HEAD,
    MAX_REMEMBERED_HEAD,
    MAX_RESPONSE_HEAD,
    ChunkedBody,
    ResponseHead,
    parse_response,
)
from tornado_gateway.wire.pool import Pool, PoolConfig

READ_SIZE = 256 * 1024  # bytes; what the loops read at once
MAX_INTERIM = 10  # 1xx responses before a final one; Tornado's client has the same limit


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """
    Attributes:
        timeout: seconds an upstream may take to begin its response, and between two pieces of it; > 0.
    """

    timeout: float = 30.0
    connect: ConnectConfig = field(default_factory=ConnectConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)


class Receiver(Protocol):
    """Takes a response as it comes."""

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx response; a final one will follow."""

    def on_head(self, head: ResponseHead) -> None:
        """The final response's head."""

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        """A piece of the body; an empty one says that the head came without any of it.

        Returns:
            A future, to be read no further until it is done; or None.
        """

    def on_end(self, trailers: list[Field]) -> None:
        """The response is complete."""

    def on_failure(self, error: UpstreamError) -> None:
        """The response will never be complete."""


class PooledHTTPClient(AsyncHTTPClient):
    """Tornado's AsyncHTTPClient with kept connections, and raw exchanges for the proxy.

    `fetch()` works as Tornado documents it. `open()` is what a proxy needs: bytes in,
    bytes out, each as it comes.
    """

    def initialize(self, defaults: dict[str, Any] | None = None, config: ClientConfig | None = None) -> None:
        super().initialize(defaults)
        self.config = config or ClientConfig()
        self.loop = asyncio.get_running_loop()
        self.connector = Connector(self.config.connect)
        self.active: set[ClientConnection] = set()
        self.connecting: set[ClientExchange] = set()
        self._pools: dict[Origin, Pool[ClientConnection]] = {}
        self._fetches: set[asyncio.Task[HTTPResponse]] = set()
        self._fetching: asyncio.Task[HTTPResponse] | None = None  # from fetch_impl() to the fetch() that called it

    def fetch(
        self, request: str | HTTPRequest, raise_error: bool = True, **kwargs: Any
    ) -> "asyncio.Future[HTTPResponse]":
        """Tornado's fetch(), whose future may also be cancelled: the connection is then closed at once."""
        future = super().fetch(request, raise_error, **kwargs)
        task, self._fetching = self._fetching, None
        if task:
            future.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
        return future

    def fetch_impl(self, request: HTTPRequest, callback: Callable[[HTTPResponse], None]) -> None:
        def answer(task: asyncio.Task[HTTPResponse]) -> None:
            self._fetches.discard(task)
            if not task.cancelled():
                callback(task.result())
            elif self._closed:
                callback(HTTPResponse(request, 599, error=HTTPStreamClosedError("the client was closed")))

        task = self._fetching = self.loop.create_task(respond(self, request))
        self._fetches.add(task)
        task.add_done_callback(answer)

    def open(
        self,
        origin: Origin,
        method: bytes,
        receiver: Receiver,
        *,
        fresh: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> "ClientExchange":
        """Prepare an exchange; nothing is sent before its `send()`.

        Args:
            fresh: whether to use a new connection even if one is kept.
            tls: a context other than the client's; its connection serves this exchange only.
        """
        exchange = ClientExchange(self, origin, method, receiver, tls)
        exchange.fresh = fresh or tls is not None
        return exchange

    def pool(self, origin: Origin) -> Pool["ClientConnection"]:
        """The kept connections to an origin."""
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(self.config.pool)
        return pool

    def sweep(self, now: float) -> None:
        """End what has waited too long. Called several times per shortest timeout."""
        for connection in [each for each in self.active if each.deadline <= now]:
            connection.expire()
        for origin, pool in list(self._pools.items()):
            pool.expire(now)
            if not pool.open:
                del self._pools[origin]

    def close(self) -> None:
        """End every connection, also those in use. A fetch() that is under way fails; an exchange falls silent."""
        super().close()
        for fetch in self._fetches:
            fetch.cancel()
        for exchange in list(self.connecting):
            exchange.abort()
        for connection in list(self.active):
            connection.close()
        for pool in self._pools.values():
            pool.close()
        self.connector.close()


class ClientExchange:
    """One request to an upstream and its response.

    Attributes:
        head: of the response, once it has come.
        reused: whether the request went out on a kept connection.
        fresh: whether to use a new connection even if one is kept.
        heard: whether any byte of a response has come.
        sent: bytes of the request's body handed to the connection.
        is_sent: whether the request is complete.
        upgrades: whether it asks for another protocol: a 101 is then given to on_head(), and the connection
            waits for its `upgrade()`.
        timeout: seconds until the response begins, and between two pieces of it; math.inf for none.
    """

    __slots__ = (
        "_chunked", "_client", "_connected", "_connecting", "_early", "_tls", "connection", "fresh", "head", "heard",
        "is_sent", "method", "origin", "receiver", "reused", "sent", "timeout", "upgrades",
    )  # fmt: skip

    def __init__(
        self,
        client: PooledHTTPClient,
        origin: Origin,
        method: bytes,
        receiver: Receiver,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.origin, self.method, self.receiver = origin, method, receiver
        self.head: ResponseHead | None = None
        self.fresh = self.heard = self.reused = self.is_sent = self.upgrades = False
        self.sent = 0
        self.timeout = client.config.timeout
        self.connection: ClientConnection | None = None
        self._client = client
        self._tls = tls
        self._chunked = False
        self._early: list[bytes] = []  # written before there was a connection
        self._connecting: asyncio.Task[None] | None = None
        self._connected: asyncio.Future[None] | None = None

    def send(
        self, head: bytes, *, body: bool = False, chunked: bool = False, connect_timeout: float | None = None
    ) -> None:
        """Send the request's head, at once or as soon as there is a connection.

        Args:
            body: whether `write()` and `finish()` will follow; otherwise the request is complete.
            chunked: whether to frame the body in chunks; otherwise the head has its Content-Length.
            connect_timeout: seconds, instead of the client's own.
        """
        self._chunked = chunked
        self.is_sent = not body
        connection = None if self.fresh else self._client.pool(self.origin).take()
        if connection:
            self.reused = True
            connection.begin(self, head)
        else:
            self._early.append(head)
            self._connected = self._client.loop.create_future()
            self._connecting = self._client.loop.create_task(self._connect(connect_timeout))
            self._client.connecting.add(self)

    async def _connect(self, seconds: float | None) -> None:
        client = self._client
        try:
            connection = await client.connector.connect(
                self.origin, lambda: ClientConnection(client, self.origin), seconds, self._tls
            )
            if connection.transport.is_closing():  # the upstream took it only to end it
                raise ConnectFailed
        except UpstreamError as error:
            self._has_connected()
            self.release()
            self.receiver.on_failure(error)
            return
        self._has_connected()
        early, self._early = b"".join(self._early), []
        connection.begin(self, early)
        self.release()

    def _has_connected(self) -> None:
        self._connecting = None
        self._client.connecting.discard(self)

    def write(self, chunk: bytes) -> "asyncio.Future[None] | None":
        """Send a piece of the request's body.

        Returns:
            A future that is done when the upstream can take more, or None if it can now.
        """
        if not chunk:  # in chunks, an empty one would be the body's end
            return None
        self.sent += len(chunk)
        data = b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk
        if self.connection:
            return self.connection.write(data)
        if self._connected and not self._connected.done():
            self._early.append(data)
            return self._connected
        return None

    def finish(self, trailers: bytes = b"") -> None:
        """The request is complete.

        Args:
            trailers: field lines behind a chunked body, each with its CRLF.
        """
        self.is_sent = True
        end = b"0\r\n%b\r\n" % trailers if self._chunked else b""
        if self.connection:
            self.connection.finish(end)
        elif self._connected and not self._connected.done():
            self._early.append(end)

    def abort(self) -> None:
        """End the exchange: nothing more is sent, received or called back. The upstream sees its connection end."""
        if self._connecting:
            self._connecting.cancel()
            self._has_connected()
        connection, self.connection = self.connection, None
        if connection:
            connection.close()
        self.release()

    def allow(self, seconds: float) -> None:
        """Give the upstream another `timeout`, from now on."""
        self.timeout = seconds
        if self.connection:
            self.connection.wait_for_upstream()

    def upgrade(self, successor: asyncio.BaseProtocol) -> tuple[asyncio.Transport, bytes]:
        """Give the connection to another protocol, within on_head() of a 101.

        Args:
            successor: must pass on connection_lost() to the exchange's connection.

        Returns:
            Its transport, and what the upstream has sent behind the 101.
        """
        connection, self.connection = self.connection, None
        if connection is None:
            raise RuntimeError("the exchange has no connection to give")
        return connection.upgrade(successor)

    @property
    def is_held(self) -> bool:
        """Whether the upstream is not read, because the receiver is busy."""
        return self.connection is not None and self.connection.is_held

    @property
    def is_poolable(self) -> bool:
        """Whether the connection may serve others: not if it was made with this exchange's own TLS context."""
        return self._tls is None

    def release(self) -> None:
        """Let go of a writer that waits for the connection."""
        if self._connected and not self._connected.done():
            self._connected.set_result(None)


class ClientConnection(asyncio.Protocol):
    """A connection to an upstream: one exchange at a time, idle in its pool in between.

    Attributes:
        deadline: instant (loop time) at which the upstream has been too slow; infinite while
            it is not the upstream that is waited for.
        idle_until: instant at which the pool closes it.
        is_held: whether it is not read from, because the receiver is busy.
    """

    __slots__ = (
        "_buffer", "_client", "_drained", "_exchange", "_interim", "_last_head", "_loop", "_origin",
        "_pool", "_unsent", "deadline", "idle_until", "is_held", "transport",
    )  # fmt: skip

    transport: asyncio.Transport
    _pool: Pool["ClientConnection"]

    def __init__(self, client: PooledHTTPClient, origin: Origin) -> None:
        self._client = client
        self._loop = client.loop
        self._origin = origin
        self._exchange: ClientExchange | None = None
        self._buffer = b""
        self._interim = 0
        self._last_head: ResponseHead | None = None
        self._drained: asyncio.Future[None] | None = None
        self.is_held = False
        self._unsent = 0  # bytes in the transport when it was last asked whether the upstream takes any
        self.deadline = self.idle_until = math.inf

    # ---- for the exchange

    def begin(self, exchange: ClientExchange, data: bytes) -> None:
        self._exchange, exchange.connection = exchange, self
        self._interim, self.is_held = 0, False
        self._client.active.add(self)
        self.transport.write(data)
        self.wait_for_upstream()

    def write(self, data: bytes) -> "asyncio.Future[None] | None":
        self.transport.write(data)
        return self._drained

    def finish(self, end: bytes) -> None:
        if end:
            self.transport.write(end)
        self.wait_for_upstream()

    def close(self) -> None:
        """End the connection without a word to anybody."""
        self._exchange = None
        self._client.active.discard(self)
        self.transport.abort()

    def upgrade(self, successor: asyncio.BaseProtocol) -> tuple[asyncio.Transport, bytes]:
        """Leave the transport, with what was read ahead, to another protocol."""
        self._exchange, self._last_head, self.deadline = None, None, math.inf
        self._client.active.discard(self)
        self.transport.set_protocol(successor)
        rest, self._buffer = self._buffer, b""
        return self.transport, rest

    def wait_for_upstream(self) -> None:
        """The upstream has its time, if it is its turn: it has the whole request, or does not take more of it."""
        exchange = self._exchange
        if exchange is None or self.is_held:
            self.deadline = math.inf
        elif exchange.is_sent or self._drained:
            self.deadline = self._loop.time() + exchange.timeout
        else:
            self.deadline = math.inf

    def expire(self) -> None:
        """The upstream has been too slow, unless all the time it was taking a large upload."""
        exchange = self._exchange
        if self._drained and (unsent := self.transport.get_write_buffer_size()) < self._unsent:
            self._unsent = unsent
            self.wait_for_upstream()
            return
        self.deadline = math.inf
        self._fail(HeadTimeout() if exchange is None or exchange.head is None else IdleTimeout())

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._pool = self._client.pool(self._origin)  # only now: sweep() drops pools without open connections
        self._pool.open += 1

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()
        self._unsent = self.transport.get_write_buffer_size()
        self.wait_for_upstream()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained and not drained.done():
            drained.set_result(None)
        self.wait_for_upstream()

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.open -= 1
        if error and self._exchange:
            self._read_what_had_arrived()
        self._ended(error)
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # nothing was asked: whatever this is, the next request must not get it
            self._pool.discard(self)
            self.close()
            return
        exchange.heard = True
        try:
            if exchange.head is None:  # its time runs on: it is for a whole head, not for each byte
                self._read_head(exchange, data)
            else:
                self.wait_for_upstream()
                self._read_body(exchange, exchange.head, data)
        except UpstreamError as error:
            self._fail(error)

    # ---- reading

    def _read_head(self, exchange: ClientExchange, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        while True:
            end = data.find(END_OF_HEAD, 0, MAX_RESPONSE_HEAD)
            if end < 0:
                if len(data) >= MAX_RESPONSE_HEAD:
                    raise UpstreamInvalid(f"the service's header section is longer than {MAX_RESPONSE_HEAD} bytes")
                if data and not b"HTTP/1.".startswith(data[:7]):
                    raise UpstreamInvalid("the service does not speak HTTP/1.1")
                self._buffer = data
                return
            head = parse_response(data[: end + 4], exchange.method, self._last_head)
            self._last_head = head if end < MAX_REMEMBERED_HEAD else None
            data = data[end + 4 :]
            if head.status >= 200 or (head.status == 101 and exchange.upgrades):
                break
            self._count_interim(head)
            exchange.receiver.on_interim(head)
            if self._exchange is not exchange:
                return
            self.wait_for_upstream()  # it has said that it is at work (RFC 9110 §15.2)
        self._buffer = data if head.status == 101 else b""
        exchange.head = head
        self.wait_for_upstream()
        exchange.receiver.on_head(head)
        if self._exchange is exchange:
            self._read_body(exchange, head, data)

    def _count_interim(self, head: ResponseHead) -> None:
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise UpstreamInvalid(f"the service sent more than {MAX_INTERIM} interim responses")
        if head.status == 101:
            raise UpstreamInvalid("the service switched protocols without being asked to")

    def _read_body(self, exchange: ClientExchange, head: ResponseHead, data: bytes) -> None:
        body = head.body
        if body is None:
            self._complete(exchange, head, data)
            return
        payload, rest = body.feed(data)
        if rest is not None:
            if payload:
                exchange.receiver.on_chunk(payload)
            if self._exchange is exchange:
                self._complete(exchange, head, rest)
            return
        busy = exchange.receiver.on_chunk(payload)
        if busy is not None and not busy.done() and self._exchange is exchange:
            self.transport.pause_reading()
            self.is_held, self.deadline = True, math.inf
            busy.add_done_callback(lambda _: self._read_on(exchange))

    def _read_on(self, exchange: ClientExchange) -> None:
        if self._exchange is exchange and not self.transport.is_closing():
            self.is_held = False
            self.transport.resume_reading()
            self.wait_for_upstream()

    def _complete(self, exchange: ClientExchange, head: ResponseHead, rest: bytes) -> None:
        """The response is whole; the connection is used again only if both sides of it are clean."""
        self._exchange = exchange.connection = None
        self._client.active.discard(self)
        self.deadline = math.inf
        clean = (
            exchange.is_sent and not rest and not self._drained and not self.is_held and not self.transport.is_closing()
        )
        if clean and head.keep_alive and exchange.is_poolable:
            self._pool.put(self, self._loop.time(), head.idle_hint)
        else:
            self.transport.abort()
        exchange.receiver.on_end(head.body.trailers if isinstance(head.body, ChunkedBody) else [])

    # ---- ending

    def _ended(self, error: Exception | None) -> None:
        """The upstream has ended the connection, cleanly if there is no error."""
        exchange = self._exchange
        if exchange is None:
            self._pool.discard(self)
        elif exchange.head and exchange.head.body and exchange.head.body.ends_by_close and error is None:
            self._complete(exchange, exchange.head, b"")
        else:
            self._fail(UpstreamReset())
        self.transport.abort()

    def _read_what_had_arrived(self) -> None:
        """Take what the kernel still holds of a connection that broke.

        A server that refuses an upload answers, closes, and so resets the connection. A write that meets the
        reset first makes the transport drop the answer unread. Over TLS it is lost: what is left is not plain.
        """
        if self._origin.scheme == "https":
            return
        descriptor = self.transport.get_extra_info("socket").fileno()
        with contextlib.suppress(OSError):
            while self._exchange and (data := os.read(descriptor, READ_SIZE)):
                self.data_received(data)

    def _fail(self, error: UpstreamError) -> None:
        exchange = self._exchange
        self.close()
        if exchange:
            exchange.connection = None
            exchange.receiver.on_failure(error)
