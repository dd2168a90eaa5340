"""The client's side of HTTP/1.x: requests to upstreams over keep-alive connections.

    ClientExchange ──head, body──► ClientConnection ──bytes──► transport
         ▲                              │
   receivers ◄── head, chunks, end ─────┘

An exchange is a request and its response. A connection carries an exchange at a time, and goes back to its pool when
request and response are complete and no further byte came. Request and response flow at the same time: a response that
comes before the request has been sent (413, 401) is delivered at once, and the connection is not used again.

Flow control is the transport's: `write()` returns a pending future while the upstream does not keep up, and reading
from the upstream is paused while a future from `on_chunk()` is pending.

Each exchange ends with exactly one call of `on_end()` or `on_failure()`; with no such call after `abort()`.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import HTTPStreamClosedError

from tornado_gateway.errors import ConnectFailed, GatewayError
from tornado_gateway.policy.http.pace import CHECK_INTERVAL
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.policy.upstream.connection_config import UpstreamTLSConfig
from tornado_gateway.wire.client.connect import ConnectConfig, Connector
from tornado_gateway.wire.client.connection import ClientConnection
from tornado_gateway.wire.client.exchange import ClientExchange, Connection
from tornado_gateway.wire.client.fetch import respond
from tornado_gateway.wire.client.pool import Pool, PoolConfig
from tornado_gateway.wire.client.receivers import HeadReceiver


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Limits of the client.

    Attributes:
        timeout: seconds until a response begins, and between two pieces of its body; > 0.
        connect: how connections are opened.
        pool: limits of each pool.
    """

    timeout: float = 30.0
    connect: ConnectConfig = field(default_factory=ConnectConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)

    @property
    def shortest_timeout(self) -> float:
        return min(self.timeout, self.pool.idle_timeout)


class PooledHTTPClient(AsyncHTTPClient):
    """Tornado's AsyncHTTPClient with keep-alive connections, and with raw exchanges for the proxy.

    `fetch()` works as Tornado documents; see fetch.py. `open()` is for the proxy: an exchange of unparsed bytes.

    Attributes:
        config: limits of the client.
        loop: the event loop.
        connector: opens connections.
        active: connections that carry an exchange.
        connecting: exchanges whose connection is being opened.
    """

    def initialize(self, defaults: dict[str, Any] | None = None, config: ClientConfig | None = None) -> None:
        super().initialize(defaults)
        self.config = config or ClientConfig()
        self.loop = asyncio.get_running_loop()
        self.connector = Connector(self.config.connect)
        self.active: set[ClientConnection] = set()
        self.connecting: set[ClientExchange] = set()
        self._next_check = 0.0  # instant of the next check of response rates
        self._pools: dict[Origin, Pool[Connection]] = {}
        self._fetches: set[asyncio.Task[HTTPResponse]] = set()
        self._fetching: asyncio.Task[HTTPResponse] | None = None  # from fetch_impl() to the fetch() that called it

    def fetch(
        self, request: str | HTTPRequest, raise_error: bool = True, **kwargs: Any
    ) -> "asyncio.Future[HTTPResponse]":
        """Tornado's fetch(); cancelling the future closes the connection at once."""
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

        task = self._fetching = self.loop.create_task(respond(self.open, request))
        self._fetches.add(task)
        task.add_done_callback(answer)

    def open(
        self,
        origin: Origin,
        method: bytes,
        receiver: HeadReceiver,
        *,
        fresh: bool = False,
        alone: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> ClientExchange:
        """Prepare an exchange; ClientExchange.send() sends the request.

        Args:
            origin: where to connect.
            method: method of the request.
            receiver: takes the response.
            fresh: whether to open a new connection even if the pool has an idle connection.
            alone: whether to open a new connection and close it after the exchange.
            tls: a TLS context other than the client's; implies `alone`.
        """
        pool = self._pools.get(origin)
        if pool is None:
            pool = self.pool(origin)
        exchange = ClientExchange(self, pool, origin, method, receiver, self.config.timeout, tls)
        exchange.is_alone = alone or tls is not None
        exchange.fresh = fresh or exchange.is_alone
        return exchange

    def dial(self, exchange: ClientExchange, seconds: float | None, /) -> asyncio.Task[None]:
        """Open a connection for an exchange; see Dialer."""
        self.connecting.add(exchange)
        task = self.loop.create_task(self._connect(exchange, seconds))
        task.add_done_callback(lambda _: self.connecting.discard(exchange))
        return task

    async def _connect(self, exchange: ClientExchange, seconds: float | None) -> None:
        origin = exchange.origin
        try:
            connection = await self.connector.connect(
                origin, lambda: ClientConnection(self, origin), seconds, exchange.tls
            )
            if connection.transport.is_closing():  # the upstream closed the connection at once
                raise ConnectFailed
        except GatewayError as error:
            exchange.not_connected(error)
        else:
            exchange.connected(connection)

    def pool(self, origin: Origin) -> Pool[Connection]:
        """The pool of idle connections to an origin, made if needed."""
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(self.config.pool)
        return pool

    def reconfigure(
        self, config: ClientConfig, contexts: Mapping[UpstreamTLSConfig, ssl.SSLContext] | None = None
    ) -> None:
        """Use other limits. Open connections stay.

        Args:
            contexts: see Connector.reconfigure().
        """
        self.config = config
        self.connector.reconfigure(config.connect, contexts)
        for pool in self._pools.values():
            pool.reconfigure(config.pool)

    def connections_to(self, origin: Origin) -> tuple[int, int]:
        """The number of connections to an origin that carry an exchange or a WebSocket, and that are idle."""
        pool = self._pools.get(origin)
        return (pool.open - len(pool), len(pool)) if pool else (0, 0)

    def close_idle(self, origin: Origin) -> bool:
        """Close the idle connections to an origin. Returns whether other connections are open, or being opened."""
        pool = self._pools.get(origin)
        if pool:
            pool.close()
        return (pool is not None and pool.open > 0) or any(each.origin == origin for each in self.connecting)

    @property
    def shortest_timeout(self) -> float:
        """Seconds of the shortest configured timeout; an exchange may have a shorter timeout."""
        return self.config.shortest_timeout

    @property
    def buffered_bytes(self) -> int:
        """Bytes of requests that endpoints have not taken yet; without frames of WebSockets."""
        return sum(connection.transport.get_write_buffer_size() for connection in self.active)

    def sweep(self, now: float) -> None:
        """Enforce all deadlines, rates and idle timeouts."""
        for connection in [each for each in self.active if each.deadline <= now]:
            connection.expire(now)
        if now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL
            for connection in list(self.active):
                connection.judge_pace(now)
        for origin, pool in list(self._pools.items()):
            pool.expire(now)
            if not pool.open:
                del self._pools[origin]

    def close(self) -> None:
        """Close all connections. A fetch() under way fails; an open() exchange ends without a call."""
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
