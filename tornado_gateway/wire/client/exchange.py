"""An exchange: a request to an upstream and its response, for the caller."""

import asyncio
import math
import ssl
from typing import Protocol

from tornado_gateway.errors import GatewayError, UpstreamError
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.policy.upstream.retry import IDEMPOTENT
from tornado_gateway.wire.client.pool import Pool
from tornado_gateway.wire.client.receivers import NOBODY, BodyReceiver, HeadReceiver
from tornado_gateway.wire.http1 import ResponseHead
from tornado_gateway.wire.peer import has_ended


class Connection(Protocol):
    """The connection that carries an exchange, as the exchange uses it; see ClientConnection."""

    transport: asyncio.Transport
    idle_until: float
    is_held: bool

    @property
    def is_blocked(self) -> bool: ...

    def begin(self, exchange: "ClientExchange", data: bytes, /) -> None: ...

    def write(self, data: bytes, /) -> "asyncio.Future[None] | None": ...

    def finish(self, end: bytes, /) -> None: ...

    def has_delivered(self) -> bool: ...

    def close(self) -> None: ...

    def connection_lost(self, error: Exception | None, /) -> None: ...

    def forget_fields(self) -> None: ...

    def upgrade(self, successor: asyncio.BaseProtocol, /) -> tuple[asyncio.Transport, bytes]: ...

    def wait_for_upstream(self) -> None: ...


class Dialer(Protocol):
    """Opens a connection for an exchange."""

    def dial(self, exchange: "ClientExchange", seconds: float | None, /) -> "asyncio.Task[None]":
        """Start to connect; call connected() or not_connected() of the exchange, unless the task is cancelled.

        Args:
            exchange: needs the connection.
            seconds: time limit; None for the configured timeout.
        """


class ClientExchange:
    """A request to an upstream and its response.

    Args:
        dialer: opens a connection if the pool has no idle connection.
        pool: idle connections to the origin.

    Attributes:
        head_receiver: takes 1xx responses and the final head; NOBODY after the final head.
        receiver: takes the body; NOBODY before the final head.
        head: the final head; None before.
        reused: whether the request was sent on a connection from the pool.
        fresh: whether to open a new connection even if the pool has an idle connection.
        is_alone: whether to open a new connection and close it after the exchange.
        is_delivered: False once it is certain that no byte of the request reached the upstream: the upstream had
            closed the kept connection before.
        heard_at: instant (loop time) of the last bytes of any response, 1xx too; -math.inf before the first.
        is_answered: whether any byte of the final response has come.
        sent: bytes of the request's body given to the connection.
        is_sent: whether the request is complete.
        is_sent_once: whether the request has a body, or a method that is not idempotent.
        upgrades: whether the request asks for another protocol: on_head() is then called for a 101, and may call
            `upgrade()`.
        min_rate: least rate of a response body of known length in bytes per second; 0 for no limit.
        timeout: seconds until the response begins, and between two pieces of its body; math.inf for no limit.
        tls: TLS context of the exchange's own connection; None for the client's context.
    """

    __slots__ = (
        "_chunked", "_connected", "_connecting", "_dialer", "_early", "_pool", "connection", "fresh", "head",
        "head_receiver", "heard_at", "is_alone", "is_answered", "is_delivered", "is_sent", "is_sent_once", "method",
        "min_rate", "origin", "receiver", "reused", "sent", "timeout", "tls", "upgrades",
    )  # fmt: skip

    def __init__(
        self,
        dialer: Dialer,
        pool: Pool[Connection],
        origin: Origin,
        method: bytes,
        head_receiver: HeadReceiver,
        timeout: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.origin, self.method = origin, method
        self.head_receiver = head_receiver
        self.receiver: BodyReceiver = NOBODY
        self.head: ResponseHead | None = None
        self.fresh = self.is_alone = self.is_answered = self.reused = self.is_sent = self.upgrades = False
        self.is_sent_once = True
        self.is_delivered = True
        self.heard_at = -math.inf
        self.sent = 0
        self.min_rate = 0.0
        self.timeout = timeout
        self.tls = tls
        self.connection: Connection | None = None
        self._dialer, self._pool = dialer, pool
        self._chunked = False
        self._early: list[bytes] | None = None  # bytes written while the connection is being opened
        self._connecting: asyncio.Task[None] | None = None
        self._connected: asyncio.Future[None] | None = None

    def send(
        self, head: bytes, *, body: bool = False, chunked: bool = False, connect_timeout: float | None = None
    ) -> None:
        """Send the request's head, on an idle connection or as soon as a new connection is open.

        Args:
            head: the request line, the field lines and the empty line.
            body: whether calls of `write()` and `finish()` follow; otherwise the request is complete.
            chunked: whether to encode the body in chunks; otherwise the head has a Content-Length.
            connect_timeout: seconds; None for the client's timeout.
        """
        self._chunked = chunked
        self.is_sent, self.is_sent_once = not body, body or self.method not in IDEMPOTENT
        connection = None if self.fresh else self._pool.take()
        # Most requests that are not idempotent can be sent only once (RFC 9110 §9.2.2), so ask the kernel whether the
        # connection has ended, which the event loop may not have noticed.
        while connection and self.is_sent_once and has_ended(connection.transport, by_fin=True):
            connection.close()
            connection = self._pool.take()
        if connection:
            self.reused = True
            connection.begin(self, head)
        else:
            self._early = [head]
            self._connected = asyncio.get_running_loop().create_future()
            self._connecting = self._dialer.dial(self, connect_timeout)

    def connected(self, connection: Connection) -> None:
        """Called by the dialer: send the bytes written so far over the new connection."""
        self._connecting = None
        connection.begin(self, b"".join(self._early or ()))
        self.release()

    def not_connected(self, error: GatewayError) -> None:
        """Called by the dialer when no connection could be opened."""
        self._connecting = None
        self.release()
        self.head_receiver.on_failure(error)

    def write(self, chunk: bytes) -> "asyncio.Future[None] | None":
        """Send a piece of the request's body.

        Returns:
            A future that is done when the upstream can take more; None if the upstream can take more now.
        """
        if not chunk:  # an empty chunk would end a chunked body
            return None
        self.sent += len(chunk)
        data = b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk
        if self.connection:
            return self.connection.write(data)
        if self._early is not None:
            self._early.append(data)
            return self._connected
        return None

    def finish(self, trailers: bytes = b"") -> None:
        """End the request's body.

        Args:
            trailers: trailer lines of a chunked body, each ended by CRLF.
        """
        self.is_sent = True
        end = b"0\r\n%b\r\n" % trailers if self._chunked else b""
        if self.connection:
            self.connection.finish(end)
        elif self._early is not None:
            self._early.append(end)

    def abort(self) -> None:
        """End the exchange and close its connection; no receiver is called any more."""
        if self._connecting:
            self._connecting.cancel()
            self._connecting = None
        connection, self.connection = self.connection, None
        if connection:
            connection.close()
        self.release()

    def hand_to(self, receiver: BodyReceiver) -> None:
        """Give the rest of the response's body to another receiver."""
        self.receiver = receiver

    def hand_head_to(self, receiver: HeadReceiver) -> None:
        """Give the response's head to another receiver. Call only before the final head."""
        self.head_receiver = receiver

    def fail(self, error: UpstreamError) -> None:
        """Call on_failure() of the present receiver."""
        receiver = self.head_receiver if self.receiver is NOBODY else self.receiver
        receiver.on_failure(error)

    def allow(self, seconds: float) -> None:
        """Set `timeout`, and restart the upstream's timeout."""
        self.timeout = seconds
        if self.connection:
            self.connection.wait_for_upstream()

    def upgrade(self, successor: asyncio.BaseProtocol) -> tuple[asyncio.Transport, bytes]:
        """Give the transport to another protocol. Call within on_head() of a 101.

        Args:
            successor: the protocol; must forward connection_lost() to the exchange's connection.

        Returns:
            The transport, and the bytes that the upstream has sent behind the 101.
        """
        connection, self.connection = self.connection, None
        if connection is None:
            raise RuntimeError("the exchange has no connection to give")
        return connection.upgrade(successor)

    @property
    def has_delivered(self) -> bool:
        """Whether any byte of the request may have reached the upstream."""
        return self.connection is not None and self.connection.has_delivered()

    @property
    def is_blocked(self) -> bool:
        """Whether the upstream does not read the request, or no connection is open yet."""
        return self.connection is None or self.connection.is_blocked

    @property
    def is_held(self) -> bool:
        """Whether reading is paused by the receiver's future."""
        return self.connection is not None and self.connection.is_held

    @property
    def heard(self) -> bool:
        """Whether any byte of a response has come, 1xx responses included."""
        return self.heard_at > -math.inf

    def forget_fields(self) -> None:
        """Free the memory of the response's fields, which are not read any more."""
        if self.head:
            self.head.forget_fields()
        if self.connection:
            self.connection.forget_fields()

    def release(self) -> None:
        """Release a writer that waits for the connection."""
        self._early = None
        if self._connected and not self._connected.done():
            self._connected.set_result(None)
