"""A connection to an upstream: writes requests and reads responses, one exchange at a time."""

import asyncio
import math
from typing import Protocol, cast

from tornado_gateway.errors import (
    HeadTimeout,
    IdleTimeout,
    ResponseTooSlow,
    UpstreamError,
    UpstreamInvalid,
    UpstreamReset,
)
from tornado_gateway.policy.http.pace import Pace
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.wire.client.exchange import ClientExchange, Connection
from tornado_gateway.wire.client.interim import InterimResponses
from tornado_gateway.wire.client.pool import Pool
from tornado_gateway.wire.client.receivers import NOBODY
from tornado_gateway.wire.http1 import (
    END_OF_HEAD,
    MAX_REMEMBERED_HEAD,
    MAX_RESPONSE_HEAD,
    ChunkedBody,
    LengthBody,
    ResponseFields,
    ResponseHead,
    check_partial_response,
    parse_response,
)
from tornado_gateway.wire.peer import arrived, send_queue
from tornado_gateway.wire.stall_watch import StallWatch

STALL_CHECK_AFTER = 0.1  # share of the timeout after which to check whether the upstream still reads an upload


class ConnectionOwner(Protocol):
    """The client, as a connection uses it; see PooledHTTPClient.

    Attributes:
        active: connections that carry an exchange.
    """

    active: "set[ClientConnection]"
    loop: asyncio.AbstractEventLoop

    def pool(self, origin: Origin, /) -> Pool[Connection]:
        """The pool of idle connections to an origin."""


class ClientConnection(asyncio.Protocol):
    """A connection to an upstream: carries one exchange at a time, and is in its pool while idle.

    Attributes:
        deadline: instant (loop time) at which the upstream times out; infinite while the gateway waits for the
            client instead.
        idle_until: instant at which the pool closes the connection.
        is_held: whether reading is paused by the receiver's future.
    """

    __slots__ = (
        "_acknowledged", "_buffer", "_drained", "_exchange", "_interim", "_last_fields", "_loop", "_origin",
        "_owner", "_pace", "_pool", "_too_late_at", "_watch", "deadline", "idle_until", "is_held", "transport",
    )  # fmt: skip

    transport: asyncio.Transport
    _pool: Pool[Connection]

    def __init__(self, owner: ConnectionOwner, origin: Origin) -> None:
        self._owner = owner
        self._loop = owner.loop
        self._origin = origin
        self._exchange: ClientExchange | None = None
        self._buffer = b""
        self._interim: InterimResponses | None = None  # of the exchange
        self._last_fields: ResponseFields | None = None
        self._drained: asyncio.Future[None] | None = None
        self._acknowledged: int | None = None  # bytes before the exchange; None once bytes of the exchange may be
        self.is_held = False
        self._pace: Pace | None = None  # rate of the response's body; None while reading is paused
        self._watch = StallWatch()
        self._too_late_at = math.inf  # instant at which the upstream of an upload times out
        self.deadline = self.idle_until = math.inf

    # ---- for the exchange

    def begin(self, exchange: ClientExchange, data: bytes) -> None:
        self._exchange, exchange.connection = exchange, self
        self._interim, self._pace, self.is_held = None, None, False
        self._owner.active.add(self)
        self._acknowledged = send_queue(self.transport)[1] if exchange.reused and exchange.is_sent_once else None
        self.transport.write(data)
        self.wait_for_upstream()

    def has_delivered(self) -> bool:
        """Whether any byte of the exchange's request may have reached the upstream.

        False is certain, and means that the upstream's kernel has acknowledged no byte. True is not.
        """
        if self._acknowledged is not None and send_queue(self.transport)[1] != self._acknowledged:
            self._acknowledged = None
        return self._acknowledged is None

    def write(self, data: bytes) -> "asyncio.Future[None] | None":
        self.transport.write(data)
        return self._drained

    def finish(self, end: bytes) -> None:
        if end:
            self.transport.write(end)
        self.wait_for_upstream()

    def close(self) -> None:
        """End the connection without calling the receiver."""
        self._exchange = None
        self._owner.active.discard(self)
        self.transport.abort()

    def upgrade(self, successor: asyncio.BaseProtocol) -> tuple[asyncio.Transport, bytes]:
        """Give the transport to another protocol; return the transport and the bytes read behind the head."""
        self._exchange, self._last_fields, self.deadline = None, None, math.inf
        self._owner.active.discard(self)
        self.transport.set_protocol(successor)
        rest, self._buffer = self._buffer, b""
        return self.transport, rest

    def wait_for_upstream(self) -> None:
        """Start the upstream's timeout, if the gateway now waits for the upstream.

        That is: the request is complete, or the upstream does not read more of the request.
        """
        exchange = self._exchange
        if exchange is None or self.is_held:
            self.deadline = math.inf
        elif exchange.is_sent or self._drained:
            now = self._loop.time()
            self.deadline = self._too_late_at = now + exchange.timeout
            if exchange.sent:  # the upstream may still be reading the body: expire() restarts the timeout
                self.deadline = now + exchange.timeout * STALL_CHECK_AFTER
        else:
            self.deadline = math.inf

    def expire(self, now: float) -> None:
        """Handle a passed deadline: a timeout, or a new deadline if a piece of the body has come since the deadline was
        set, or if the upstream still reads the upload."""
        exchange = self._exchange
        if exchange and exchange.head and now < exchange.heard_at + exchange.timeout:
            self.deadline = exchange.heard_at + exchange.timeout
            return
        if exchange and exchange.sent:
            if self._watch.look(self.transport, now, exchange.sent):
                self._too_late_at = now + exchange.timeout + self._watch.reading_time(now)
            if now < self._too_late_at:
                looks_again = now + exchange.timeout * STALL_CHECK_AFTER if self._watch.waits else math.inf
                self.deadline = min(self._too_late_at, looks_again)
                return
        self.deadline = math.inf
        self._fail(HeadTimeout() if exchange is None or exchange.head is None else IdleTimeout())

    @property
    def is_blocked(self) -> bool:
        return self._drained is not None

    def judge_pace(self, now: float) -> None:
        """End a response whose body comes below min_rate, unless the receiver paused reading.

        Only bodies of known length are checked: others may be live streams (a log, a watch).
        """
        exchange = self._exchange
        body = exchange.head.body if exchange and exchange.head else None
        if exchange is None or not isinstance(body, LengthBody) or self.is_held:
            return
        if self._pace is None:
            self._pace = Pace(now, -body.left)
        elif self._pace.judge_window(now, -body.left, exchange.min_rate):
            self._fail(ResponseTooSlow())

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._pool = self._owner.pool(self._origin)  # only now: sweep() drops pools without open connections
        self._pool.open += 1

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()
        self._watch.look(self.transport, self._loop.time(), self._exchange.sent if self._exchange else 0)
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
        if exchange is None:  # bytes without a request must not become the next request's response
            self._pool.discard(self)
            self.close()
            return
        exchange.heard_at = self._loop.time()
        try:
            if exchange.head is None:  # the timeout is not restarted: it is for the whole head
                self._read_head(exchange, data)
            else:
                self._read_body(exchange, exchange.head, data)
        except UpstreamError as error:
            self._fail(error)

    # ---- reading

    def _read_head(self, exchange: ClientExchange, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        while True:
            end = data.find(END_OF_HEAD, 0, MAX_RESPONSE_HEAD)
            if end < 0:
                check_partial_response(data)
                self._buffer, exchange.is_answered = data, bool(data)
                return
            head = parse_response(data[: end + 4], exchange.method, self._last_fields)
            self._last_fields = head.fields if end < MAX_REMEMBERED_HEAD else None
            data = data[end + 4 :]
            if head.status >= 200 or (head.status == 101 and exchange.upgrades):
                break
            interim = self._count_interim(exchange, head, end + 4)
            exchange.head_receiver.on_interim(head)
            if self._exchange is not exchange:
                return
            self._wait_on(interim)
        self._buffer = data if head.status == 101 else b""
        exchange.head, exchange.is_answered = head, True
        exchange.receiver = exchange.head_receiver.on_head(head, exchange) or NOBODY
        exchange.head_receiver = NOBODY  # breaks a reference cycle
        if self._exchange is exchange:
            self._read_body(exchange, head, data)

    def forget_fields(self) -> None:
        """Free the fields kept for the next response (1 KiB), since a stream would keep them for long."""
        self._last_fields = None

    def _count_interim(self, exchange: ClientExchange, head: ResponseHead, size: int) -> InterimResponses:
        if head.status == 101:
            raise UpstreamInvalid("the service switched protocols without being asked to")
        if self._interim is None:
            self._interim = InterimResponses(self._loop.time(), exchange.timeout)
        self._interim.count(size)
        return self._interim

    def _wait_on(self, interim: InterimResponses) -> None:
        """Restart the timeout after a 1xx response (RFC 9110 §15.2), within the bound of all 1xx responses."""
        self.wait_for_upstream()
        if self.deadline < math.inf:
            self.deadline = min(self.deadline, interim.until)

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
            self._hold(exchange, busy)

    def _hold(self, exchange: ClientExchange, busy: "asyncio.Future[None]") -> None:
        """Pause reading until the receiver's future is done."""
        self.transport.pause_reading()
        self.is_held, self.deadline, self._pace = True, math.inf, None
        busy.add_done_callback(lambda _: self._read_on(exchange))

    def _read_on(self, exchange: ClientExchange) -> None:
        if self._exchange is exchange and not self.transport.is_closing():
            self.is_held = False
            self.transport.resume_reading()
            self.wait_for_upstream()

    def _complete(self, exchange: ClientExchange, head: ResponseHead, rest: bytes) -> None:
        """End a complete exchange; keep the connection if no byte is unsent or unread."""
        self._exchange = exchange.connection = None
        self._owner.active.discard(self)
        self.deadline = math.inf
        clean = (
            exchange.is_sent and not rest and not self._drained and not self.is_held and not self.transport.is_closing()
        )
        if clean and head.keep_alive and not exchange.is_alone:
            self._pool.put(self, self._loop.time(), head.idle_hint)
        else:
            self.transport.abort()
        exchange.receiver.on_end(head.body.trailers if isinstance(head.body, ChunkedBody) else [])

    # ---- ending

    def _ended(self, error: Exception | None) -> None:
        """Handle the end of the connection; `error` is None for a clean end."""
        exchange = self._exchange
        if exchange is None:
            self._pool.discard(self)
        elif exchange.head and exchange.head.body and exchange.head.body.ends_by_close and error is None:
            self._complete(exchange, exchange.head, b"")
        else:
            exchange.is_delivered = not _is_by_fin(error) or self.has_delivered()
            self._fail(UpstreamReset())
        self.transport.abort()

    def _read_what_had_arrived(self) -> None:
        """Read a response left in a broken connection; TLSTransport does the same for TLS."""
        if self._origin.scheme == "https":
            return
        for data in arrived(self.transport):
            if self._exchange:
                self.data_received(data)

    def _fail(self, error: UpstreamError) -> None:
        exchange = self._exchange
        self.close()
        if exchange:
            exchange.connection = None
            exchange.fail(error)


def _is_by_fin(error: Exception | None) -> bool:
    """Whether the upstream's FIN came, and no RST before the FIN.

    A FIN acknowledges all bytes that have reached the upstream, and an upstream that has sent a FIN cannot answer a
    request any more. An RST acknowledges nothing. After a FIN, a write that is answered by an RST fails with EPIPE.
    """
    return error is None or isinstance(error, BrokenPipeError)
