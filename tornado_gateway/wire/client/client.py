"""The client's side of HTTP/1.x: requests to upstreams over kept connections.

    ClientExchange ──head, body──► ClientConnection ──bytes──► transport
         ▲                              │
   receivers ◄── head, chunks, end ─────┘

An exchange is one request and its response; a connection carries one at a time and
goes back to its pool when both were complete and nothing else came. Request and
response flow at the same time, so an answer that comes before the request has
been sent (413, 401) is delivered at once, and that connection is not used again.

Flow control is the transport's: `write()` returns a future that is not done while the
upstream does not keep up, and a BodyReceiver that returns such a future from `on_chunk()`
stops the upstream from being read.

What a caller has to know about failures: exactly one of `on_end()` and `on_failure()`
is called, unless `abort()` came first; then neither is.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import HTTPStreamClosedError

from tornado_gateway.errors import ConnectFailed, UpstreamError
from tornado_gateway.policy.http.pace import LOOK_EVERY
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.wire.client.connect import ConnectConfig, Connector
from tornado_gateway.wire.client.connection import ClientConnection
from tornado_gateway.wire.client.exchange import ClientExchange, Connection
from tornado_gateway.wire.client.fetch import respond
from tornado_gateway.wire.client.pool import Pool, PoolConfig
from tornado_gateway.wire.client.receivers import HeadReceiver


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """
    Attributes:
        timeout: seconds an upstream may take to begin its response, and between two pieces of it; > 0.
    """

    timeout: float = 30.0
    connect: ConnectConfig = field(default_factory=ConnectConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)

    @property
    def shortest_timeout(self) -> float:
        return min(self.timeout, self.pool.idle_timeout)


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
        self._look_at = 0.0  # instant at which responses' bodies are looked at
        self._pools: dict[Origin, Pool[Connection]] = {}
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
        """Prepare an exchange; nothing is sent before its `send()`.

        Args:
            fresh: whether to use a new connection even if one is kept.
            alone: whether to use a new connection that serves no other exchange.
            tls: a context other than the client's; implies `alone`.
        """
        pool = self._pools.get(origin)
        if pool is None:
            pool = self.pool(origin)
        exchange = ClientExchange(self, pool, origin, method, receiver, timeout=self.config.timeout, tls=tls)
        exchange.is_alone = alone or tls is not None
        exchange.fresh = fresh or exchange.is_alone
        return exchange

    def dial(self, exchange: ClientExchange, seconds: float | None, /) -> asyncio.Task[None]:
        """Open a connection for an exchange."""
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
            if connection.transport.is_closing():  # the upstream accepted the connection only to end it
                raise ConnectFailed
        except UpstreamError as error:
            exchange.not_connected(error)
        else:
            exchange.connected(connection)

    def pool(self, origin: Origin) -> Pool[Connection]:
        """The connections to an origin that are kept."""
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(self.config.pool)
        return pool

    @property
    def shortest_timeout(self) -> float:
        """Seconds of the shortest timeout in the config; an exchange may have been given a shorter one."""
        return self.config.shortest_timeout

    def sweep(self, now: float) -> None:
        """End what has waited too long."""
        for connection in [each for each in self.active if each.deadline <= now]:
            connection.expire(now)
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            for connection in list(self.active):
                connection.judge_pace(now)
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
