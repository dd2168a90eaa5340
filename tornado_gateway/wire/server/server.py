"""The server's side of HTTP/1.x, on asyncio transports behind Tornado's interfaces.

    transport ──bytes──► ServerConnection ──HTTPMessageDelegate──► any Tornado Application
        ▲                     │ one request at a time                       │
        └──────bytes────── ServerExchange ◄──────HTTPConnection─────────────┘

This module listens and owns the connections; wire/server/connection.py reads requests; wire/server/exchange.py writes
responses. A listener may have the PROXY protocol (wire/server/proxied.py) and TLS (wire/server/tls.py) in between:

    accept ──► [ProxiedEntrance] ──► [ServerTLS] ──► ServerConnection
                └───── Arrivals, with a deadline ─┘

ServerExchange has methods beyond Tornado's HTTPConnection, for the proxy: `start_response()` takes field lines as
bytes, `write_interim()` sends 1xx responses, `finish()` takes trailers, and `upgrade()` gives the transport away.

A connection cannot be detached into an IOStream, as tornado.websocket.WebSocketHandler needs, because an asyncio
transport does not give its socket back. WebSockets are relayed on the transport instead.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tornado.httputil import HTTPServerConnectionDelegate

from tornado_gateway.errors import GatewayError, Overloaded
from tornado_gateway.policy.draining import IdleEnds
from tornado_gateway.policy.http.address import Network
from tornado_gateway.policy.http.pace import CHECK_INTERVAL
from tornado_gateway.wire.server import unix
from tornado_gateway.wire.server.certificates import Certificates
from tornado_gateway.wire.server.connection import ServerConnection
from tornado_gateway.wire.server.context import ServerConfig, ServerContext
from tornado_gateway.wire.server.exchange import ServerExchange
from tornado_gateway.wire.server.proxied import ProxiedEntrance
from tornado_gateway.wire.server.sharing import Share, SharingServer
from tornado_gateway.wire.server.tls import Arrival, ServerTLS

BACKLOG = 4096  # connections that the kernel queues for accept(); Linux limits the number to net.core.somaxconn
ACCEPTS = 8  # calls of accept() per turn of asyncio's loop; without descriptors each call fails and is logged
# Calls per turn of uvloop. Each call beyond the first costs a connection that comes alone 5 to 8 µs (measured: 2 to
# 3 %), because the call finds an empty queue.
HANDLES = 2
_QUEUE = struct.Struct("=II")  # tcpi_unacked and tcpi_sacked: of a listening socket, length and limit of the queue
_QUEUE_AT = 24  # bytes from the beginning of struct tcp_info (linux/tcp.h)
ARRIVAL_GRACE = 2.0  # seconds that a TLS handshake has at least once the drain begins
MAX_REFUSED = 64  # connections above max_connections that are answered 503; further connections are only closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An address to listen at.

    Attributes:
        host: name or address to bind; "" for every address.
        port: TCP port; 0 for any free port.
        path: of a unix socket, instead of host and port; "" for TCP.
        mode: of the socket file.
        tls: certificates for https; None for http.
        proxies: networks of the proxies that begin each connection with a header of the PROXY protocol, which no other
            peer may; None for a listener without the PROXY protocol.
        reuse_port: whether other sockets may be bound to the same address (SO_REUSEPORT); the kernel then spreads
            new connections over all sockets.
        is_optional: whether a machine without the address's family goes on without this listener.
        is_activated: whether systemd has bound the address.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    mode: int = 0o660
    tls: Certificates | None = None
    proxies: Sequence[Network] | None = None
    reuse_port: bool = False
    is_optional: bool = False
    is_activated: bool = False

    @property
    def scheme(self) -> bytes:
        """The URL scheme of the listener's clients."""
        return b"https" if self.tls else b"http"


@dataclass(slots=True)
class Listening:
    """A listening socket of a server.

    Attributes:
        sock: keeps the kernel's queue of connections while nothing accepts.
        servers: accept, each on a duplicate of `sock`; empty while the server pauses.
        keeps_path: whether the path of a unix socket stays at the drain, because another process listens there.
        inode: of the path.
    """

    listener: Listener
    sock: socket.socket
    servers: list[asyncio.Server | SharingServer] = field(default_factory=list)
    keeps_path: bool = False
    inode: int = 0

    def __post_init__(self) -> None:
        if self.listener.path:
            self.inode = unix.inode_of(Path(self.listener.path))

    @property
    def address(self) -> tuple[str, int]:
        """The bound address and port; "unix:" with the path, and 0, for a unix socket."""
        path = self.listener.path
        return (f"unix:{path}", 0) if path else self.sock.getsockname()[:2]

    def close_servers(self) -> None:
        """Accept no more. The kernel queues new connections."""
        for server in self.servers:
            server.close()
        self.servers.clear()

    def close(self) -> None:
        """Listen no more."""
        self.close_servers()
        self.sock.close()
        if self.listener.path and not self.keeps_path:
            unix.remove(Path(self.listener.path), self.inode)


class Refusal(Protocol):
    """A function that answers a request which is not given to the delegate."""

    def __call__(self, exchange: ServerExchange, error: GatewayError, /) -> None: ...


def refuse_plainly(exchange: ServerExchange, error: GatewayError, /) -> None:
    """The default Refusal: sends a status, the error's fields and no body."""
    lines = b"".join(b"%b: %b\r\n" % field for field in error.fields)
    exchange.start_response(error.status, b"", lines + b"Content-Length: 0\r\n", length=0, dated=False)
    exchange.finish()


class HTTPServer:
    """Listens, owns the connections, and ends them. Made inside a running event loop.

    Args:
        delegate: a tornado.web.Application, or any other HTTPServerConnectionDelegate.
        config: limits and timeouts.
        refuse: answers requests that are not given to the delegate (malformed, too large, too slow, too many).

    Attributes:
        arriving: connections whose PROXY header or TLS handshake is not complete.
        connections: all other connections that are not lost.
        listening: the listening sockets, until the drain.
        refused: number of connections above max_connections, which only receive a refusal.
        share: of the connections, if other processes accept at the same sockets; None for a process alone.
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
        self.arriving: set[Arrival] = set()
        self.connections: set[ServerConnection] = set()
        self.refused = 0
        self.share: Share | None = None
        self._next_check = 0.0  # instant of the next check of upload rates
        self.listening: list[Listening] = []
        self._all_closed: asyncio.Future[None] | None = None
        self._all_answered: asyncio.Future[None] | None = None

    async def listen(self, listener: Listener, given: Sequence[socket.socket] = ()) -> list[tuple[str, int]]:
        """Bind and accept connections; return the bound addresses, with the port chosen for port 0.

        Args:
            given: sockets that listen already; the server accepts no connections there until resume().

        Raises:
            OSError: the address cannot be bound.
        """
        bound = [Listening(listener, each, keeps_path=bool(given)) for each in given or await self._bind(listener)]
        self.listening += bound
        if not given:
            for each in bound:
                await self._accept(each)
        return [each.address for each in bound]

    async def _bind(self, listener: Listener) -> list[socket.socket]:
        """Sockets of all addresses of a host; nothing accepts there."""
        if listener.path:
            return [unix.bind(Path(listener.path), listener.mode)]
        server = await self.context.loop.create_server(
            self._factory(listener),
            listener.host or None,
            listener.port,
            reuse_port=listener.reuse_port or None,
            start_serving=False,
        )
        bound = [socket.socket(fileno=os.dup(each.fileno())) for each in server.sockets]
        server.close()
        return bound

    async def pause(self) -> None:
        """Accept no more connections. The kernel queues new connections until resume(), here or in another process."""
        if isinstance(self.context.loop, asyncio.SelectorEventLoop):
            # A connection that this loop has accepted gets its transport one turn later, and is lost if the server is
            # closed by then. (uvloop does both at once.)
            servers = [server for each in self.listening for server in each.servers]
            for sock in [sock for server in servers for sock in server.sockets]:
                self.context.loop.remove_reader(sock)
            for _ in range(2):
                await asyncio.sleep(0)
        for each in self.listening:
            each.close_servers()

    async def resume(self) -> None:
        """Accept connections at every listening socket."""
        for each in self.listening:
            if not each.servers:
                await self._accept(each)

    async def _accept(self, listening: Listening) -> None:
        """Accept several connections per turn of the loop.

        asyncio's loop calls accept() as often as the argument `backlog` says. uvloop calls accept() once per turn and
        server: while the turns are long, connections wait in the kernel's queue. So uvloop gets several servers, which
        share the queue.
        """
        listening.keeps_path = False
        if self.share:
            listening.servers.append(self._serve_share(listening, self.share))
            return
        count = 1 if isinstance(self.context.loop, asyncio.SelectorEventLoop) else HANDLES
        for _ in range(count):
            listening.servers.append(await self._serve(listening))
        listening.sock.listen(BACKLOG)  # asyncio also gives its `backlog` to listen()

    async def _serve(self, listening: Listening) -> asyncio.Server:
        loop, make, sock = self.context.loop, self._factory(listening.listener), listening.sock.dup()
        if listening.listener.path:
            return await loop.create_unix_server(make, sock=sock, backlog=ACCEPTS, **unix.LEAVES_PATH)
        return await loop.create_server(make, sock=sock, backlog=ACCEPTS)

    def _serve_share(self, listening: Listening, share: Share) -> SharingServer:
        make = self._factory(listening.listener)

        def connect(accepted: socket.socket) -> Coroutine[Any, Any, object]:
            return self.context.loop.connect_accepted_socket(make, accepted)

        return SharingServer(listening.sock.dup(), share, connect)

    def _factory(self, listener: Listener) -> Callable[[], asyncio.Protocol]:
        """Makes the protocol of each new connection of a listener."""
        make: Callable[[], Any] = partial(ServerConnection, self, listener.scheme)
        if listener.tls:
            make = partial(ServerTLS, self, listener.tls, make)
        if listener.proxies is not None:
            make = partial(ProxiedEntrance, self, listener.proxies, make)
        return make

    def reconfigure(self, config: ServerConfig) -> None:
        """Use other limits and timeouts. What a connection waits for already keeps the deadline."""
        self.context.reconfigure(config)

    def announce_close(self) -> None:
        """Send `Connection: close` in all new responses, so that clients go elsewhere (RFC 9112 §9.6)."""
        self.context.announces_close = True

    def drain(self, idle: IdleEnds = IdleEnds()) -> None:  # noqa: B008  # a frozen record
        """Stop accepting connections; end each connection after its current response, or later if idle.

        A request that comes before the end of an idle connection is answered: the client may have sent the request
        before the drain.
        """
        self.announce_close()
        context, now = self.context, self.context.loop.time()
        context.draining = True
        context.idle_grace = idle.grace
        context.keepalive_timeout = min(context.keepalive_timeout, idle.grace)
        for each in self.listening:
            each.close()
        self.listening.clear()
        for arrival in self.arriving:
            arrival.deadline = min(arrival.deadline, now + max(idle.grace, ARRIVAL_GRACE))
        unused = sorted((each for each in self.connections if each.is_idle), key=lambda each: each.deadline)
        for connection, at in zip(unused, idle.instants(len(unused), now), strict=True):
            connection.close_if_idle(at)

    def accept_queue(self) -> dict[str, int] | None:
        """Connections that the kernel has queued for accept(), and the greatest number, over all listeners.

        None where the system does not tell. Linux tells both in TCP_INFO of a listening socket (tcp_diag(7)).
        """
        option = getattr(socket, "TCP_INFO", None)
        queues: list[tuple[int, int]] = []
        for each in [each for each in self.listening if not each.listener.path] if option else []:
            queues.append(_QUEUE.unpack_from(each.sock.getsockopt(socket.IPPROTO_TCP, option or 0, 64), _QUEUE_AT))
        return (
            {"waiting": sum(each for each, _ in queues), "limit": sum(each for _, each in queues)} if queues else None
        )

    @property
    def buffered_bytes(self) -> int:
        """Bytes of responses and frames that clients have not taken yet."""
        return sum(connection.transport.get_write_buffer_size() for connection in self.connections)

    @property
    def busy(self) -> int:
        """The number of connections with an incomplete response or a WebSocket."""
        return sum(connection.is_busy for connection in self.connections)

    async def closed(self) -> None:
        """Wait until all connections are lost."""
        if self.connections or self.arriving:
            self._all_closed = self.context.loop.create_future()
            await self._all_closed

    async def answered(self) -> None:
        """Wait until each connection is lost, or its client has acknowledged the last response and is silent.

        sweep() checks, because no event reports a client's acknowledgement.
        """
        self._all_answered = self.context.loop.create_future()
        await self._all_answered

    def abort(self) -> None:
        """End all connections at once; responses that clients have acknowledged are not lost."""
        for arrival in list(self.arriving):
            arrival.abort()
        for connection in list(self.connections):
            connection.transport.abort() if connection.is_answered else connection.reset()

    @property
    def shortest_timeout(self) -> float:
        """Seconds of the shortest timeout that sweep() enforces."""
        return self.context.config.shortest_timeout

    def sweep(self, now: float) -> None:
        """Enforce all deadlines and rates."""
        for connection in [each for each in self.connections if each.deadline <= now or each.is_paused]:
            if connection.deadline <= now:
                connection.expire(now)
            elif connection.client_has_left():
                connection.transport.abort()
        if now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL
            for connection in [each for each in self.connections if each.is_reading_body]:
                connection.judge_pace(now)
        if self.arriving:
            for arrival in [each for each in self.arriving if each.deadline <= now]:
                arrival.expire()
        answered = self._all_answered
        is_waited_for = answered and not answered.done() and not self.arriving
        if answered and is_waited_for and all(each.can_close(now) for each in self.connections):
            answered.set_result(None)

    # ---- ArrivalOwner

    def arrived(self, arrival: Arrival, /) -> bool:
        """Add an arrival; False if there are as many as would only be refused."""
        most = self.context.config.max_connections + MAX_REFUSED
        has_room = len(self.connections) + len(self.arriving) < most
        if has_room:
            self.arriving.add(arrival)
        return has_room

    def departed(self, arrival: Arrival, /) -> None:
        """Remove an arrival, which has become a connection, or has ended."""
        self.arriving.discard(arrival)
        self._tell_if_closed()

    # ---- ConnectionOwner

    def opened(self, connection: ServerConnection, /) -> None:
        """Add a new connection; refuse the connection above max_connections."""
        has_room = len(self.connections) - self.refused < self.context.config.max_connections
        self.connections.add(connection)
        if self.share:
            self.share.set_open(len(self.connections))
        if not has_room:
            self._turn_away(connection)
        elif self.context.draining:  # accepted before the listener was closed; a request may come
            connection.close_if_idle(self.context.loop.time() + self.context.idle_grace)

    def _turn_away(self, connection: ServerConnection) -> None:
        connection.is_refused = True
        self.refused += 1
        if self.refused > MAX_REFUSED:
            connection.transport.abort()
        else:
            connection.refuse(Overloaded("the gateway has as many connections as it may"))

    def lost(self, connection: ServerConnection, /) -> None:
        """Remove a lost connection."""
        self.connections.discard(connection)
        if self.share:
            self.share.set_open(len(self.connections))
        self.delegate.on_close(connection)
        self.refused -= connection.is_refused
        self._tell_if_closed()

    def _tell_if_closed(self) -> None:
        if self._all_closed and not (self.connections or self.arriving or self._all_closed.done()):
            self._all_closed.set_result(None)
