"""The server's side of HTTP/1.x, on asyncio transports behind Tornado's interfaces.

    transport ──bytes──► ServerConnection ──HTTPMessageDelegate──► any Tornado Application
        ▲                     │ one request at a time                       │
        └──────bytes────── ServerExchange ◄──────HTTPConnection─────────────┘

Here the server listens and owns its connections; wire/server/connection.py reads
requests, wire/server/exchange.py writes answers.

What is not Tornado's: `ServerExchange.start_response()` takes a header block as bytes,
`write_interim()` sends 1xx, `finish()` takes trailers, and `upgrade()` gives the
transport away. The proxy uses them; a RequestHandler need not know.

A connection cannot be detached into an IOStream, as tornado.websocket.WebSocketHandler
asks for: a transport does not give its socket back. WebSockets are relayed on the
transport itself instead.
"""

import asyncio
import os
import socket
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol

from tornado.httputil import HTTPServerConnectionDelegate

from tornado_gateway.errors import GatewayError
from tornado_gateway.policy.http.pace import LOOK_EVERY
from tornado_gateway.wire.server.connection import IDLE_GRACE, ServerConnection
from tornado_gateway.wire.server.exchange import ServerExchange

BACKLOG = 4096  # connections the kernel holds for accept(); Linux cuts it to net.core.somaxconn
ACCEPTS = 8  # per turn of asyncio's loop; without descriptors it fails, and logs, as many times per second


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """
    Attributes:
        header_timeout: seconds for a head to arrive whole; > 0.
        keepalive_timeout: seconds a connection may idle between requests; > 0. Above the 90 s
            that Heroku's router and the 60 s that AWS' load balancers keep theirs.
        client_idle_timeout: seconds without progress by a client that sends a body or takes a response; > 0.
        min_upload_rate: bytes per second that a request's body must come with, see policy/http/pace.py; 0 for any.
        max_body_bytes: of a request, or None for no limit.
        max_connections: at once; ≥ 1.
        half_close_aborts: whether a client's FIN before its response is complete means that it has left.
    """

    header_timeout: float = 10.0
    keepalive_timeout: float = 95.0
    client_idle_timeout: float = 60.0
    min_upload_rate: float = 0.0
    max_body_bytes: int | None = None
    max_connections: int = 10_000
    half_close_aborts: bool = True


class Refusal(Protocol):
    """Answers a request that no delegate will see."""

    def __call__(self, exchange: ServerExchange, error: GatewayError) -> None: ...


def refuse_plainly(exchange: ServerExchange, error: GatewayError) -> None:
    """The refusal of a server that was given none: a status, the error's fields and no body."""
    lines = b"".join(b"%b: %b\r\n" % field for field in error.fields)
    exchange.start_response(error.status, b"", lines + b"Content-Length: 0\r\n", length=0, dated=False)
    exchange.finish()


class HTTPServer:
    """Listens, owns its connections, and ends them.

    Args:
        delegate: a tornado.web.Application, or any other HTTPServerConnectionDelegate.
        config: limits and timeouts.
        refuse: answers what is not handed to the delegate (malformed, too large, too slow, too many).

    Attributes:
        announces_close: whether each response that begins now says "Connection: close".
        draining: whether the server accepts no more connections.
        keepalive_timeout: seconds a connection may idle between requests.
    """

    def __init__(
        self,
        delegate: HTTPServerConnectionDelegate,
        config: ServerConfig | None = None,
        refuse: Refusal = refuse_plainly,
    ) -> None:
        self.delegate = delegate
        self.config = config or ServerConfig()
        self.refuse = refuse
        self.connections: set[ServerConnection] = set()
        self.refused = 0  # of the connections: had no room, and only read their refusal
        self.draining = self.announces_close = False
        self.keepalive_timeout = self.config.keepalive_timeout
        self.loop = asyncio.get_running_loop()
        self.flowing: asyncio.Future[None] = self.loop.create_future()
        self.flowing.set_result(None)
        self._look_at = 0.0  # instant at which uploads are looked at
        self._listeners: list[asyncio.Server] = []
        self._all_closed: asyncio.Future[None] | None = None
        self._all_answered: asyncio.Future[None] | None = None
        self._dated, self._date = 0, b""

    async def listen(self, host: str, port: int) -> list[tuple[str, int]]:
        """Bind and accept; the addresses that were bound (port 0 picks one).

        Raises:
            OSError: the address cannot be bound.
        """
        listener = await self.loop.create_server(lambda: ServerConnection(self), host or None, port, backlog=ACCEPTS)
        self._listeners.append(listener)
        for sock in listener.sockets:  # asyncio takes "backlog" for both: how many wait, and how often to call accept()
            with socket.socket(fileno=os.dup(sock.fileno())) as same:
                same.listen(BACKLOG)
        return [sock.getsockname()[:2] for sock in listener.sockets]

    def announce_close(self) -> None:
        """Say `Connection: close` in each response from now on, so that clients go elsewhere (RFC 9112 §9.6)."""
        self.announces_close = True

    def drain(self) -> None:
        """Stop accepting, and let each connection end with its current response, or after IDLE_GRACE without one.

        A request may be on its way to an idle connection, or to one whose response was begun before
        `announce_close()`: in that time the request is answered.
        """
        self.announce_close()
        self.draining = True
        self.keepalive_timeout = min(self.keepalive_timeout, IDLE_GRACE)
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.close_if_idle()

    @property
    def busy(self) -> int:
        """Connections with a request that was not answered whole, and WebSockets."""
        return sum(connection.is_busy for connection in self.connections)

    async def closed(self) -> None:
        """Wait until every connection has ended."""
        if self.connections:
            self._all_closed = self.loop.create_future()
            await self._all_closed

    async def answered(self) -> None:
        """Wait until every connection has ended, or its client has the last answer whole and sends nothing more.

        The sweep looks, because no event tells of a client's acknowledgement.
        """
        self._all_answered = self.loop.create_future()
        await self._all_answered

    def abort(self) -> None:
        """End every connection at once; an answer that a client has whole is not lost."""
        for connection in list(self.connections):
            connection.transport.abort() if connection.is_answered else connection.reset()

    def sweep(self, now: float) -> None:
        """End what has waited too long. Called several times per shortest timeout."""
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

    def date(self) -> bytes:
        """The Date field, made once per second."""
        now = int(time.time())
        if now != self._dated:
            self._dated = now
            self._date = b"Date: %b\r\n" % formatdate(now, usegmt=True).encode("ascii")
        return self._date

    def forget(self, connection: ServerConnection) -> None:
        self.connections.discard(connection)
        self.delegate.on_close(connection)
        self.refused -= connection.is_refused
        if not self.connections and self._all_closed and not self._all_closed.done():
            self._all_closed.set_result(None)
