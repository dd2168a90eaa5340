"""One request to an upstream and its response: what a caller holds."""

import asyncio
import math
import ssl
from typing import Protocol

from tornado_gateway.errors import UpstreamError
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.wire.client.pool import Pool
from tornado_gateway.wire.client.receivers import NOBODY, BodyReceiver, HeadReceiver
from tornado_gateway.wire.http1 import ResponseHead
from tornado_gateway.wire.peer import has_ended


class Connection(Protocol):
    """What an exchange asks of the connection that carries the exchange; see ClientConnection."""

    transport: asyncio.Transport
    heard_at: float
    idle_until: float
    is_held: bool

    @property
    def is_blocked(self) -> bool: ...

    def begin(self, exchange: "ClientExchange", data: bytes, /) -> None: ...

    def write(self, data: bytes, /) -> "asyncio.Future[None] | None": ...

    def finish(self, end: bytes, /) -> None: ...

    def close(self) -> None: ...

    def connection_lost(self, error: Exception | None, /) -> None: ...

    def forget_fields(self) -> None: ...

    def upgrade(self, successor: asyncio.BaseProtocol, /) -> tuple[asyncio.Transport, bytes]: ...

    def wait_for_upstream(self) -> None: ...


class Dialer(Protocol):
    """Opens a connection for an exchange."""

    def dial(self, exchange: "ClientExchange", seconds: float | None, /) -> "asyncio.Task[None]":
        """Begin to connect; the exchange's `connected()` or `not_connected()` is called, unless the task is cancelled.

        Args:
            seconds: to take at most, instead of the configured ones.
        """


class ClientExchange:
    """One request to an upstream and its response.

    Args:
        dialer: opens a connection if the pool has none.
        pool: connections to the origin that are kept.

    Attributes:
        head_receiver: takes what comes before the body; NOBODY once the head has come.
        receiver: takes the body; NOBODY before the head has come.
        head: of the response, once it has come.
        reused: whether the request went out on a kept connection.
        fresh: whether to use a new connection even if one is kept.
        is_alone: whether its connection is a new one, and serves no other exchange.
        heard: whether any byte of a response has come, a 1xx response's among them.
        is_answered: whether any byte of the final response has come.
        sent: bytes of the request's body handed to the connection.
        is_sent: whether the request is complete.
        upgrades: whether it asks for another protocol: a 101 is then given to on_head(), and the connection
            waits for its `upgrade()`.
        min_rate: bytes per second that a response's body of known length must come with; 0 for any.
        timeout: seconds until the response begins, and between two pieces of it; math.inf for none.
        tls: context of a connection of the exchange's own, or None for the client's.
    """

    __slots__ = (
        "_chunked", "_connected", "_connecting", "_dialer", "_early", "_pool", "connection", "fresh", "head",
        "head_receiver", "heard",
        "is_alone", "is_answered", "is_sent", "method", "min_rate", "origin", "receiver", "reused", "sent", "timeout",
        "tls", "upgrades",
    )  # fmt: skip

    def __init__(
        self,
        dialer: Dialer,
        pool: Pool[Connection],
        origin: Origin,
        method: bytes,
        head_receiver: HeadReceiver,
        *,
        timeout: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.origin, self.method = origin, method
        self.head_receiver = head_receiver
        self.receiver: BodyReceiver = NOBODY
        self.head: ResponseHead | None = None
        self.fresh = self.is_alone = self.heard = self.is_answered = self.reused = self.is_sent = self.upgrades = False
        self.sent = 0
        self.min_rate = 0.0
        self.timeout = timeout
        self.tls = tls
        self.connection: Connection | None = None
        self._dialer, self._pool = dialer, pool
        self._chunked = False
        self._early: list[bytes] | None = None  # written while the connection is being made
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
        connection = None if self.fresh else self._pool.take()
        # A body is mostly sent once only (RFC 9110 §9.2.2), so the kernel is asked about an end that the loop has not
        # told yet.
        while connection and body and has_ended(connection.transport, by_fin=True):
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
        """The dialer has a connection: send what was written until now."""
        self._connecting = None
        connection.begin(self, b"".join(self._early or ()))
        self.release()

    def not_connected(self, error: UpstreamError) -> None:
        """The dialer has failed."""
        self._connecting = None
        self.release()
        self.fail(error)

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
        if self._early is not None:
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
        elif self._early is not None:
            self._early.append(end)

    def abort(self) -> None:
        """End the exchange: nothing more is sent, received or called back. The upstream sees its connection end."""
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
        """Give the response's head to another receiver; the head has not come yet."""
        self.head_receiver = receiver

    def fail(self, error: UpstreamError) -> None:
        """Tell the receiver that the response will never be complete."""
        receiver = self.head_receiver if self.receiver is NOBODY else self.receiver
        receiver.on_failure(error)

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
    def is_blocked(self) -> bool:
        """Whether the upstream does not take what is written, or there is no connection to it yet."""
        return self.connection is None or self.connection.is_blocked

    @property
    def is_held(self) -> bool:
        """Whether the upstream is not read, because the receiver is busy."""
        return self.connection is not None and self.connection.is_held

    @property
    def heard_at(self) -> float:
        """Instant (loop time) at which bytes came last; -math.inf before any, and once there is no connection."""
        return self.connection.heard_at if self.connection else -math.inf

    def forget_fields(self) -> None:
        """Let go of the response's fields, when the exchange lasts and nobody will look at them again."""
        if self.head:
            self.head.forget_fields()
        if self.connection:
            self.connection.forget_fields()

    def release(self) -> None:
        """Let go of a writer that waits for the connection."""
        self._early = None
        if self._connected and not self._connected.done():
            self._connected.set_result(None)
