"""The server's side of HTTP/1.x, on asyncio transports behind Tornado's interfaces.

    transport ──bytes──► ServerConnection ──HTTPMessageDelegate──► any Tornado Application
        ▲                     │ one request at a time                       │
        └──────bytes────── ServerExchange ◄──────HTTPConnection─────────────┘

This module listens and owns the connections; wire/server/connection.py reads requests,
wire/server/exchange.py writes responses.

ServerExchange has methods that Tornado's HTTPConnection has not: `start_response()` takes
a header block as bytes, `write_interim()` sends 1xx, `finish()` takes trailers, and
`upgrade()` gives the transport away. The proxy calls them; a RequestHandler need not.

A connection cannot be detached into an IOStream, as tornado.websocket.WebSocketHandler
asks: a transport does not give its socket back. WebSockets are relayed on the transport
instead.
"""

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from tornado.httputil import HTTPServerConnectionDelegate

from tornado_gateway.errors import GatewayError, Overloaded
from tornado_gateway.policy.http.pace import LOOK_EVERY
from tornado_gateway.wire.server.connection import IDLE_GRACE, ServerConnection
from tornado_gateway.wire.server.context import ServerConfig, ServerContext
from tornado_gateway.wire.server.exchange import ServerExchange
from tornado_gateway.wire.server.lingering import LINGER

BACKLOG = 4096  # connections the kernel holds for accept(); Linux cuts it to net.core.somaxconn
ACCEPTS = 8  # per turn of asyncio's loop; without descriptors accept() fails, and logs, as many times per second
MAX_REFUSED = 64  # connections above the limit that are answered 503; more of a flood are only closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """
    Attributes:
        host: name or address to bind; "" for every address.
        port: TCP port; 0 for any free one.
        tls: context that makes the listener speak https, or None for http.
        reuse_port: whether other sockets may be bound to the same address (SO_REUSEPORT); the kernel then spreads
            new connections over all of them.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    reuse_port: bool = False

    @property
    def scheme(self) -> bytes:
        """The scheme that clients of the listener use."""
        return b"https" if self.tls else b"http"


class Refusal(Protocol):
    """Answers a request that no delegate sees."""

    def __call__(self, exchange: ServerExchange, error: GatewayError, /) -> None: ...


def refuse_plainly(exchange: ServerExchange, error: GatewayError, /) -> None:
    """The refusal of a server that was given none: a status, the error's fields and no body."""
    lines = b"".join(b"%b: %b\r\n" % field for field in error.fields)
    exchange.start_response(error.status, b"", lines + b"Content-Length: 0\r\n", length=0, dated=False)
    exchange.finish()


class HTTPServer:
    """Listens, owns the connections, and ends them. Made inside a running event loop.

    Args:
        delegate: a tornado.web.Application, or any other HTTPServerConnectionDelegate.
        config: limits and timeouts.
        refuse: answers what is not handed to the delegate (malformed, too large, too slow, too many).

    Attributes:
        connections: all that are not lost.
        refused: how many of the connections had no room, and only read their refusal.
    """

    def __init__(
        self,
        delegate: HTTPServerConnectionDelegate,
        config: ServerConfig | None = None,
        refuse: Refusal = refuse_plainly,
    ) -> None:
        self.context = ServerContext(config or ServerConfig())
        self.delegate = delegate
        self.refuse = refuse
        self.connections: set[ServerConnection] = set()
        self.refused = 0
        self._look_at = 0.0  # instant at which the pace of uploads is judged
        self._sockets: list[asyncio.Server] = []
        self._all_closed: asyncio.Future[None] | None = None
        self._all_answered: asyncio.Future[None] | None = None

    async def listen(self, listener: Listener) -> list[tuple[str, int]]:
        """Bind and accept; the addresses that were bound (port 0 picks one).

        Raises:
            OSError: the address cannot be bound.
        """
        of_tls = {} if listener.tls is None else self._tls_options(listener.tls)
        server = await self.context.loop.create_server(
            partial(ServerConnection, self, listener.scheme),
            listener.host or None,
            listener.port,
            backlog=ACCEPTS,
            reuse_port=listener.reuse_port or None,
            **of_tls,
        )
        self._sockets.append(server)
        for sock in server.sockets:  # asyncio takes "backlog" for both: how many wait, and how often to call accept()
            with socket.socket(fileno=os.dup(sock.fileno())) as same:
                same.listen(BACKLOG)
        return [sock.getsockname()[:2] for sock in server.sockets]

    def _tls_options(self, context: ssl.SSLContext) -> dict[str, Any]:
        return {
            "ssl": context,
            "ssl_handshake_timeout": self.context.config.header_timeout,
            "ssl_shutdown_timeout": LINGER,  # for the client's closure alert
        }

    def announce_close(self) -> None:
        """Say `Connection: close` in each response from now on, so that clients go elsewhere (RFC 9112 §9.6)."""
        self.context.announces_close = True

    def drain(self) -> None:
        """Stop accepting, and let each connection end with its current response, or after IDLE_GRACE without one.

        A request may be on its way to an idle connection, or to one whose response was begun before
        `announce_close()`: a request that comes in that time is answered.
        """
        self.announce_close()
        context = self.context
        context.draining = True
        context.keepalive_timeout = min(context.keepalive_timeout, IDLE_GRACE)
        for server in self._sockets:
            server.close()
        for connection in list(self.connections):
            connection.close_if_idle()

    @property
    def busy(self) -> int:
        """How many connections have a response that is not complete, or carry a WebSocket."""
        return sum(connection.is_busy for connection in self.connections)

    async def closed(self) -> None:
        """Wait until every connection is lost."""
        if self.connections:
            self._all_closed = self.context.loop.create_future()
            await self._all_closed

    async def answered(self) -> None:
        """Wait until every connection is lost, or its client has the last response whole and sends nothing more.

        The sweep looks, because no event tells of a client's acknowledgement.
        """
        self._all_answered = self.context.loop.create_future()
        await self._all_answered

    def abort(self) -> None:
        """End every connection at once; a response that a client has whole is not lost."""
        for connection in list(self.connections):
            connection.transport.abort() if connection.is_answered else connection.reset()

    @property
    def shortest_timeout(self) -> float:
        """Seconds of the shortest timeout that sweep() enforces."""
        return self.context.config.shortest_timeout

    def sweep(self, now: float) -> None:
        """End what has waited too long."""
        for connection in [each for each in self.connections if each.deadline <= now or each.is_paused]:
            if connection.deadline <= now:
                connection.expire(now)
            elif connection.client_has_left():
                connection.transport.abort()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            for connection in [each for each in self.connections if each.is_reading_body]:
                connection.judge_pace(now)
        answered = self._all_answered
        if answered and not answered.done() and all(each.is_over(now) for each in self.connections):
            answered.set_result(None)

    # ---- ConnectionOwner

    def opened(self, connection: ServerConnection, /) -> None:
        """Serve a new connection, or refuse it if there is no room."""
        has_room = len(self.connections) - self.refused < self.context.config.max_connections
        self.connections.add(connection)
        if not has_room:
            self._turn_away(connection)
        elif self.context.draining:  # the kernel had it before the listener was closed; a request may be under way
            connection.close_if_idle()

    def _turn_away(self, connection: ServerConnection) -> None:
        connection.is_refused = True
        self.refused += 1
        if self.refused > MAX_REFUSED:
            connection.transport.abort()
        else:
            connection.refuse(Overloaded("the gateway has as many connections as it may"))

    def lost(self, connection: ServerConnection, /) -> None:
        """Forget a connection that is lost."""
        self.connections.discard(connection)
        self.delegate.on_close(connection)
        self.refused -= connection.is_refused
        if not self.connections and self._all_closed and not self._all_closed.done():
            self._all_closed.set_result(None)
