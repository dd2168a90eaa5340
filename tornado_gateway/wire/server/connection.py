"""The server's side of a connection: reads requests, one at a time.

A ServerConnection parses a request, makes a ServerExchange for the response, and parses the next request only when
request and response are complete. So pipelined requests are answered in order.

Flow control is the transport's. `drained` is a pending future while the client does not read the response. Reading is
paused while the delegate's awaitable for a piece of a body is pending. A connection buffers at most one read's bytes.

The table below is executed: only `_move(event)` changes a connection's phase, and an event that is impossible in the
phase raises KeyError.
"""

import asyncio
import math
import re
from typing import Final, Literal, Protocol, cast

from tornado.httputil import HTTPInputError, HTTPMessageDelegate, HTTPServerConnectionDelegate

from tornado_gateway.errors import BadRequest, ClientStalled, GatewayError, RequestTimeout
from tornado_gateway.policy.client_certificate import ClientCertificate
from tornado_gateway.policy.http.address import NO_ADDRESS, of_peer
from tornado_gateway.wire.http1 import (
    END_OF_HEAD,
    MAX_REMEMBERED_HEAD,
    MAX_REQUEST_HEAD,
    RequestFields,
    RequestHead,
    check_partial_request,
    parse_request,
)
from tornado_gateway.wire.peer import has_ended, reset, unread
from tornado_gateway.wire.server.context import ServerContext
from tornado_gateway.wire.server.delegate import HeadDelegate
from tornado_gateway.wire.server.exchange import ServerExchange, fail_closed, start_line
from tornado_gateway.wire.server.lingering import LINGER, Lingering
from tornado_gateway.wire.server.messages import RawHeaders
from tornado_gateway.wire.server.request_body import RequestBody
from tornado_gateway.wire.stall_watch import StallWatch

PIPELINE_BYTES = 64 * 1024  # bytes of later requests that are buffered before reading is paused
REQUESTS_PER_TURN = 32  # pipelined requests of one connection that may be answered within one turn of the loop
_CR = ord("\r")
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")

# The head of a request that could not be parsed.
_UNREAD = RequestHead(
    b"-",
    b"-",
    1,
    b"\r\n",
    {},
    b"",
    b"",
    keep_alive=False,
    expects_continue=False,
    upgrades=False,
    accepts_events=False,
    body=None,
)


# The event that a connection waits for. Strings, because a dict finds them in half the time of an Enum's members.
Phase = Literal["head", "body", "response", "lingering", "upgraded", "closed"]

HEAD: Final = "head"  # a request; the connection is idle, or a part of a head has come
BODY: Final = "body"  # the rest of a request's body
RESPONSE: Final = "response"  # the delegate's response
LINGERING: Final = "lingering"  # the client's end of the connection, behind the last response
UPGRADED: Final = "upgraded"  # no event: another protocol has the transport
CLOSED: Final = "closed"

PHASES: tuple[Phase, ...] = (HEAD, BODY, RESPONSE, LINGERING, UPGRADED, CLOSED)
Event = dict[Phase, Phase]  # the phase before → the phase after

REQUEST: Event = {HEAD: RESPONSE}  # a request without a body has come
REQUEST_HEAD: Event = {HEAD: BODY}  # the head of a request with a body has come
BODY_PIECE: Event = {BODY: BODY}
BODY_END: Event = {BODY: RESPONSE}
RESPONSE_END: Event = {RESPONSE: HEAD}  # the response is complete, and the connection persists
LAST_RESPONSE_END: Event = {
    HEAD: LINGERING,  # idle for too long, or answered with an error before a request was read
    BODY: LINGERING,  # answered before the request was complete
    RESPONSE: LINGERING,
    LINGERING: LINGERING,
    UPGRADED: LINGERING,
    CLOSED: CLOSED,
}
UPGRADE: Event = {RESPONSE: UPGRADED}
CLIENT_TURN: Event = {phase: phase for phase in PHASES}  # the gateway waits for the client again; the timeout restarts
CONNECTION_LOST: Event = dict.fromkeys(PHASES, CLOSED)


class ConnectionOwner(Protocol):
    """The server, as a connection uses it; see HTTPServer."""

    context: ServerContext
    delegate: HTTPServerConnectionDelegate

    def refuse(self, exchange: ServerExchange, error: GatewayError, /) -> None:
        """Answer a request that no delegate sees."""

    def opened(self, connection: "ServerConnection", /) -> None:
        """Add a new connection; a full server calls `connection.refuse()`."""

    def lost(self, connection: "ServerConnection", /) -> None:
        """Remove a lost connection."""


class ServerConnection(asyncio.Protocol):
    """The server's side of a connection.

    Args:
        owner: the server.
        scheme: b"http", or b"https" for a TLS transport.

    Attributes:
        certificate: what the client has proved in the TLS handshake; None for a client without a certificate.
        deadline: instant (loop time) at which the client times out; infinite while the connection waits for the
            delegate instead.
        has_half_closed: whether the client has half-closed the connection, and waits for the response.
        is_paused: whether reading from the transport is paused.
        is_refused: whether the server was full.
        peer: the address of the client, or of the proxy in front; see also policy/proxy_protocol.py.
        scheme: b"http" or b"https".
        drained: a future; pending while the client does not read the response.
        server: the state that all connections of the server share.
    """

    __slots__ = (
        "_advancing", "_awaited", "_body", "_buffer", "_exchange", "_is_complete_due", "_last_fields", "_lingering",
        "_owner", "_phase", "_served", "_watch", "certificate", "deadline", "delegate", "drained", "has_half_closed",
        "is_paused", "is_refused", "peer", "scheme", "server", "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, owner: ConnectionOwner, scheme: bytes) -> None:
        self._owner = owner
        self.server = server = owner.context
        self.scheme = scheme
        self.deadline = server.loop.time() + server.config.header_timeout
        self.drained = server.flowing
        self.peer = NO_ADDRESS
        self.certificate: ClientCertificate | None = None
        self._buffer = b""
        self._phase: Phase = HEAD
        self._body: RequestBody | None = None  # body of the current request, until complete
        self._served = False  # whether a request was answered: an idle persistent connection ends without 408
        self.delegate: HTTPMessageDelegate | HeadDelegate | None = None
        self._exchange: ServerExchange | None = None
        self._last_fields: RequestFields | None = None
        self._awaited: asyncio.Future[None] | None = None  # the delegate's pending awaitable
        self._is_complete_due = False  # the request is complete, but the delegate is still busy
        self._lingering: Lingering | None = None
        self._watch = StallWatch()
        self.has_half_closed = self.is_paused = self.is_refused = False
        self._advancing = False

    @property
    def remote_ip(self) -> str:
        """The client's address, under Tornado's name."""
        return self.peer.text

    @property
    def protocol(self) -> str:
        """The scheme, under Tornado's name."""
        return self.scheme.decode("ascii")

    def _move(self, event: Event) -> None:
        """Change the phase, and set the client's deadline for the new phase."""
        phase = self._phase = event[self._phase]
        if self.drained is not self.server.flowing:
            return  # the deadline is the slow reader's
        if phase is RESPONSE:
            self.deadline = math.inf
        elif phase is HEAD:
            if self._served:
                self.deadline = self.server.loop.time() + self.server.keepalive_timeout
        elif phase is BODY:
            self.deadline = self.server.loop.time() + self.server.config.client_idle_timeout
        elif phase is LINGERING:
            self.deadline = self.server.loop.time() + LINGER
        else:
            self.deadline = math.inf

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple) and self.peer is NO_ADDRESS:
            self.peer = of_peer(peer[0])
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._lingering.drop(len(data), self.server.loop.time())
            return
        self._buffer = self._buffer + data if self._buffer else data
        if not self._advancing:
            self._advance()

    def eof_received(self) -> bool:
        """Handle the client's FIN, whose meaning RFC 9112 §9.6 leaves open.

        Mostly the client has left (nginx and Tornado assume the same). With HALF_CLOSE=ignore the response is still
        sent, for clients like `nc -N` that half-close and wait.
        """
        exchange = self._exchange
        if exchange is None:  # asyncio closes the transport after all written bytes are sent
            return False
        if self._phase is RESPONSE and not self.server.config.half_close_aborts and self.transport.can_write_eof():
            exchange.keep_alive = exchange.persistent = False
            self.has_half_closed = True
            return True
        self.reset()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.lost(self)
        drained, self.drained = self.drained, self.server.flowing
        self._move(CONNECTION_LOST)
        self._buffer = b""
        if not drained.done():
            fail_closed(drained)
        exchange, self._exchange = self._exchange, None
        if exchange:
            exchange.lost()

    def pause_writing(self) -> None:
        self.drained = self.server.loop.create_future()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        drained, self.drained = self.drained, self.server.flowing
        if not drained.done():
            drained.set_result(None)
        self._watch.forget()
        self._move(CLIENT_TURN)
        self._go_on()

    # ---- clients that read slowly

    def _wait_for_reader(self) -> None:
        self._look_at_reader()
        self.deadline = self.server.loop.time() + self.server.config.client_idle_timeout

    def _look_at_reader(self) -> bool:
        """Update the stall watch; return whether the client has taken waiting bytes since the last call."""
        written = self._exchange.body_bytes if self._exchange else 0
        return self._watch.look(self.transport, self.server.loop.time(), written)

    def watch_reader(self) -> None:
        """Watch a client whose response never fills the transport's buffer, so that a dead client is cut off, too."""
        if self._phase is RESPONSE and self.deadline == math.inf:
            self._wait_for_reader()
            if not self._watch.waits:
                self.deadline = math.inf

    # ---- reading

    def _advance(self) -> None:
        """Process buffered bytes until none are left or the connection must wait."""
        self._advancing = True
        try:
            if self._is_complete_due and self._exchange:
                self._complete(self._exchange)
            turn = REQUESTS_PER_TURN
            while self._buffer and not self._awaited:
                if self._phase is BODY:
                    self._read_body()
                elif self._phase is not HEAD or self.drained is not self.server.flowing:
                    break
                elif turn == 0:  # let other connections run between many pipelined requests
                    self.server.loop.call_soon(self._go_on)
                    break
                elif not self._read_head():
                    break
                else:
                    turn -= 1
        except Exception as error:
            self._end_with(error)
        finally:
            self._advancing = False
        if self._buffer or self._awaited or self.is_paused:
            self._regulate()

    def _go_on(self) -> None:
        if not self._advancing and not self.transport.is_closing():
            self._advance()

    def _regulate(self) -> None:
        """Pause or resume reading, depending on whether buffered bytes can be processed."""
        waits = self._phase is RESPONSE or (self._phase is HEAD and self.drained is not self.server.flowing)
        pause = self._awaited is not None or (waits and len(self._buffer) > PIPELINE_BYTES)
        if pause is not self.is_paused and not self.transport.is_closing():
            self.is_paused = pause
            self.transport.pause_reading() if pause else self.transport.resume_reading()

    def _read_head(self) -> bool:
        """Begin an exchange if a complete head is buffered; return whether a head was complete."""
        buffer = self._buffer
        if buffer[0] == _CR:  # RFC 9112 §2.2: empty lines before a request are ignored
            buffer = _EMPTY_LINES.sub(b"", buffer, 1)
        end = buffer.find(END_OF_HEAD, 0, MAX_REQUEST_HEAD)
        if end < 0:
            self._buffer = buffer
            check_partial_request(buffer)
            if self._served and buffer:
                self._served = False
                self.deadline = self.server.loop.time() + self.server.config.header_timeout
            return False
        head = parse_request(buffer[: end + 4], self._last_fields)
        self._last_fields = head.fields if end < MAX_REMEMBERED_HEAD else None
        self._buffer = buffer[end + 4 :]
        self._begin(head)
        return True

    def _begin(self, head: RequestHead) -> None:
        body = self._body = RequestBody(head.body) if head.body else None
        self._is_complete_due = False
        exchange = self._exchange = ServerExchange(self, head)
        self._move(REQUEST_HEAD if body else REQUEST)
        delegate: HTTPMessageDelegate | HeadDelegate | None = self._owner.delegate.start_request(self, exchange)
        if delegate is None:  # the request is answered
            return
        if body:
            body.check_announced_size(exchange.max_body_size)
        if isinstance(delegate, HeadDelegate):
            self.delegate = delegate
            busy = delegate.head_received()
            if busy is not None:
                self._wait_for(busy)
            return
        busy = delegate.headers_received(start_line(head), RawHeaders(head.block))
        self.delegate = delegate if self._exchange else None
        self._wait_for(busy)
        if head.expects_continue and body:
            self._let_client_continue(exchange)
        if body is None:
            self._complete(exchange)

    def _let_client_continue(self, exchange: ServerExchange) -> None:
        """Send 100 (Continue) once the delegate has admitted the head (RFC 9110 §10.1.1)."""
        if self._awaited:
            self._awaited.add_done_callback(lambda _: exchange.write_interim(100, b""))
        else:
            exchange.write_interim(100, b"")

    def _read_body(self) -> None:
        body, delegate, exchange = self._body, self.delegate, self._exchange
        if body is None or delegate is None or exchange is None:
            return
        payload, rest = body.feed(self._buffer)
        self._buffer = rest or b""
        exchange.is_read = rest is not None
        self._move(BODY_END if exchange.is_read else BODY_PIECE)
        if payload:
            body.check_size(exchange.max_body_size)
            self._wait_for(delegate.data_received(payload))
        if exchange.is_read:
            exchange.trailers = body.trailers
            self._body = None
            self._complete(exchange)

    def _complete(self, exchange: ServerExchange) -> None:
        """Tell the delegate that the request is complete, once no awaitable of the delegate is pending."""
        self._is_complete_due = self._awaited is not None
        if self._awaited is not None or self._exchange is not exchange:
            return
        if isinstance(self.delegate, HeadDelegate):
            self.delegate.body_received()
        elif self.delegate:
            self.delegate.finish()

    @property
    def is_busy(self) -> bool:
        """Whether a response is incomplete, or another protocol has the transport."""
        return self._exchange is not None

    @property
    def has_read_ahead(self) -> bool:
        """Whether bytes behind the current request are buffered."""
        return bool(self._buffer) and self._phase is not BODY

    @property
    def is_reading_body(self) -> bool:
        """Whether the current request is incomplete."""
        return self._phase is BODY

    def _wait_for(self, busy: object) -> None:
        """Stop reading until the delegate's awaitable is done."""
        if busy is None:
            return
        future = asyncio.ensure_future(cast("asyncio.Future[None]", busy))
        if future.done() and not future.cancelled() and future.exception() is None:
            return
        self._awaited = future
        if self._body:
            self._body.restart_pace()
        if self.drained is self.server.flowing:
            self.deadline = math.inf
        future.add_done_callback(self._on_dealt_with)

    def _on_dealt_with(self, future: "asyncio.Future[None]") -> None:
        if self._awaited is not future:
            return
        self._awaited = None
        error = None if future.cancelled() else future.exception()
        if future.cancelled():
            self.reset()
        elif error:
            self._end_with(error)
        elif not self.transport.is_closing():
            self._move(CLIENT_TURN)
            self._advance()

    # ---- ending

    def exchange_finished(self, exchange: ServerExchange) -> None:
        """Called when the response has been written whole."""
        if exchange is not self._exchange:
            return
        self._exchange = self.delegate = None
        persists = exchange.persistent and self._phase is RESPONSE
        if exchange.head.upgrades and self._buffer:  # these bytes may be in the refused protocol (RFC 9931)
            persists = False
        if not persists:
            self._linger()
            return
        self._served = True
        self._move(RESPONSE_END)
        if self._buffer and not self._advancing:
            self._advance()

    def _linger(self) -> None:
        """Send a FIN after the last response, and read on for a moment; see lingering.py."""
        if self.has_half_closed:
            self._wait_for_reader()
            self.transport.close()
            return
        self._move(LAST_RESPONSE_END)
        now = self.server.loop.time()
        taken_at = self._watch.since if self._watch.waits else now
        self._lingering = lingering = Lingering(self.transport, now, taken_at)
        self._buffer = b""
        self._awaited = self._body = None
        if self.is_paused:
            self._regulate()
        lingering.half_close()

    def _end_with(self, error: BaseException) -> None:
        """End the connection because a request failed."""
        if isinstance(error, GatewayError):
            self.refuse(error)
        elif isinstance(error, HTTPInputError):  # Tornado's own error for malformed arguments
            self.refuse(BadRequest(str(error)))
        elif not self.transport.is_closing():  # an error of the delegate, reported like an error of a protocol
            self.server.loop.call_exception_handler(
                {"message": "a request's delegate failed", "exception": error, "protocol": self}
            )
            self.reset()

    def refuse(self, error: GatewayError) -> None:
        """Answer the current request with an error, or reset if the response has begun; end the connection."""
        exchange, self._exchange = self._exchange, None
        if exchange:
            exchange.keep_alive = False
            exchange.broken_by(error)
            if exchange.started and not exchange.finished:
                self.reset()
                return
        else:
            exchange = ServerExchange(self, _UNREAD)
        exchange.keep_alive = False
        if not exchange.started:
            self._owner.refuse(exchange, error)
        self._linger()

    def expire(self, now: float) -> None:
        """Handle a passed deadline: a timeout, or a new deadline if the client makes progress."""
        has_moved = self._look_at_reader()
        if self._lingering:
            self._expire_lingering(self._lingering, now, has_moved)
        elif has_moved and self._watch.waits:  # slow, but reading
            self._wait_for_reader()
        elif self._phase is RESPONSE and not self._watch.waits:
            self.deadline = math.inf
        elif self._phase is RESPONSE or self.transport.get_write_buffer_size():
            if self._exchange:
                self._exchange.error = ClientStalled()
            self.reset()
        elif self._phase is HEAD and (self._served or not self._buffer):
            if not unread(self.transport):  # else a request has come in time, and will be read
                self._linger()
        elif not self.transport.is_closing():
            self.deadline = math.inf
            self.refuse(RequestTimeout())

    def _expire_lingering(self, lingering: Lingering, now: float, has_moved: bool) -> None:
        patience, waits = self.server.config.client_idle_timeout, self._watch.waits
        if lingering.look(now, patience, has_taken=has_moved, waits=waits):
            self.deadline = self.server.loop.time() + LINGER
        elif waits:
            self.reset()
        else:
            lingering.end()

    def judge_pace(self, now: float) -> None:
        """End a request whose body comes below min_upload_rate, unless the delegate paused reading."""
        body, exchange = self._body, self._exchange
        if body is None or exchange is None:
            return
        if self._awaited:
            body.restart_pace()
        if body.judge_window(now, exchange.min_upload_rate):
            self.refuse(RequestTimeout("the request's body came too slowly"))

    def client_has_left(self) -> bool:
        """Whether the client has ended the connection while reading is paused."""
        return has_ended(self.transport, by_fin=self.server.config.half_close_aborts)

    def upgrade(self, successor: asyncio.BaseProtocol) -> bytes:
        """Give the transport to another protocol.

        Args:
            successor: the protocol; must forward connection_lost() to this connection.

        Returns:
            The bytes that the client has sent behind the request.
        """
        rest, self._buffer = self._buffer, b""
        self.delegate = self._last_fields = None
        self._move(UPGRADE)
        self.deadline = math.inf
        if self.is_paused:
            self.is_paused = False
            self.transport.resume_reading()
        self.transport.set_protocol(successor)
        return rest

    @property
    def is_answered(self) -> bool:
        """Whether the client has acknowledged the end of the last response (RFC 9112 §9.6)."""
        return self._lingering is not None and self._lingering.is_answered

    def can_close(self, now: float) -> bool:
        """Whether the connection can be closed now without loss for the client."""
        return self._lingering is not None and self._lingering.can_close(now)

    def forget_fields(self) -> None:
        """Free the fields kept for the next request (1 KiB), since a stream would keep them for long."""
        self._last_fields = None

    @property
    def is_idle(self) -> bool:
        """Whether no byte of a request has come since the last response."""
        return self._phase is HEAD and not self._buffer

    def close_if_idle(self, at: float) -> None:
        """End an idle connection at an instant (loop time), unless a request comes."""
        if self.is_idle:
            self.deadline = min(self.deadline, at)

    def reset(self) -> None:
        """End the connection by RST, so that the client notices that the response is incomplete."""
        if self._phase is not CLOSED:
            reset(self.transport)
