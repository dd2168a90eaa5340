"""The server's side of one connection: requests off the wire, one at a time.

A ServerConnection takes one request off its buffer, makes a ServerExchange for the
response, and reads the next request only when both are complete: pipelined requests are
answered in order because each is read in its turn.

Flow control is the transport's. While the client does not take what was written,
`drained` is a future that is not done; while a delegate has not dealt with a piece
of a body, the transport is not read. A connection queues no more than one read's bytes.

The table below is executed: a connection changes its phase by `_move(event)` alone, and
an event that the phase does not have is a KeyError.
"""

import asyncio
import math
import re
from typing import Final, Literal, Protocol, cast

from tornado.httputil import HTTPInputError, HTTPMessageDelegate, HTTPServerConnectionDelegate

from tornado_gateway.errors import BadRequest, ClientStalled, GatewayError, RequestTimeout
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

PIPELINE_BYTES = 64 * 1024  # of later requests that are buffered before the transport is paused
REQUESTS_PER_TURN = 32  # pipelined requests of one connection that may be answered within one turn of the loop
IDLE_GRACE = 1.0  # seconds for a request that is on its way to an idle connection when the server begins to drain
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")

# Stands for a head that could not be read.
_UNREAD = RequestHead(
    b"-", b"-", 1, b"\r\n", {}, b"", b"", keep_alive=False, expects_continue=False, upgrades=False, body=None
)


# The event that a connection waits for. Strings, because a dict finds them in half the time of an Enum's members.
Phase = Literal["head", "body", "response", "lingering", "upgraded", "closed"]

HEAD: Final = "head"  # a request; the connection is idle, or a part of a head has come
BODY: Final = "body"  # the rest of a request's body
RESPONSE: Final = "response"  # the delegate's response
LINGERING: Final = "lingering"  # the client's end of the connection, behind the last response
UPGRADED: Final = "upgraded"  # nothing: another protocol has the transport
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
CLIENT_TURN: Event = {phase: phase for phase in PHASES}  # others were waited for; the client's time restarts
CONNECTION_LOST: Event = dict.fromkeys(PHASES, CLOSED)


class ConnectionOwner(Protocol):
    """What a connection asks of the server that accepted it."""

    context: ServerContext
    delegate: HTTPServerConnectionDelegate

    def refuse(self, exchange: ServerExchange, error: GatewayError, /) -> None:
        """Answer a request that no delegate sees."""

    def opened(self, connection: "ServerConnection", /) -> None:
        """The connection is established; `refuse()` it if there is no room."""

    def lost(self, connection: "ServerConnection", /) -> None:
        """The connection is lost."""


class ServerConnection(asyncio.Protocol):
    """The server's side of one connection.

    Args:
        owner: the server.
        scheme: b"http", or b"https" if a TLS transport will carry the connection.

    Attributes:
        deadline: instant (loop time) at which the client has been too slow; infinite while
            the connection waits for somebody else.
        has_shut: whether the client has shut down its sending side, and waits for the response.
        is_paused: whether the transport is not read for now.
        is_refused: whether there was no room for the connection.
        peer: the address of the other end.
        scheme: b"http" or b"https".
        drained: done unless the client does not take what is written.
        server: what all connections of the server share.
    """

    __slots__ = (
        "_advancing", "_awaited", "_body", "_buffer", "_exchange", "_is_complete_due", "_last_fields", "_lingering",
        "_owner", "_phase", "_served", "_watch", "deadline", "delegate", "drained", "has_shut", "is_paused",
        "is_refused", "peer", "scheme", "server", "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, owner: ConnectionOwner, scheme: bytes) -> None:
        self._owner = owner
        self.server = server = owner.context
        self.scheme = scheme
        self.deadline = server.loop.time() + server.config.header_timeout
        self.drained = server.flowing
        self.peer = NO_ADDRESS
        self._buffer = b""
        self._phase: Phase = HEAD
        self._body: RequestBody | None = None  # of the current request, until the body is complete
        self._served = False  # whether a request came before: an idle persistent connection ends without 408
        self.delegate: HTTPMessageDelegate | HeadDelegate | None = None
        self._exchange: ServerExchange | None = None
        self._last_fields: RequestFields | None = None
        self._awaited: asyncio.Future[None] | None = None  # the delegate is busy with a piece of the body
        self._is_complete_due = False  # the request is complete, but the delegate is still busy
        self._lingering: Lingering | None = None
        self._watch = StallWatch()
        self.has_shut = self.is_paused = self.is_refused = False
        self._advancing = False

    @property
    def remote_ip(self) -> str:
        """The client's address, by Tornado's name."""
        return self.peer.text

    @property
    def protocol(self) -> str:
        """The scheme, by Tornado's name."""
        return self.scheme.decode("ascii")

    def _move(self, event: Event) -> None:
        """Change the phase; the client has its time to do what the new phase asks of the client."""
        phase = self._phase = event[self._phase]
        if not self.drained.done():
            return  # the client has its time already: to take what was written
        if phase is HEAD:
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
        if isinstance(peer, tuple):
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
        """The client has shut down its sending side; RFC 9112 §9.6 leaves open what that means.

        Mostly the client has left (nginx and Tornado also read a FIN so). HALF_CLOSE=ignore is for clients like
        `nc -N` that wait for the response.
        """
        exchange = self._exchange
        if exchange is None:  # the transport is closed once all that was written is sent
            return False
        if self._phase is RESPONSE and not self.server.config.half_close_aborts and self.transport.can_write_eof():
            exchange.keep_alive = exchange.persistent = False
            self.has_shut = True
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

    # ---- the client as reader

    def _wait_for_reader(self) -> None:
        self._look_at_reader()
        self.deadline = self.server.loop.time() + self.server.config.client_idle_timeout

    def _look_at_reader(self) -> bool:
        """Whether the client has taken something of what waited for the client since the last look."""
        written = self._exchange.body_bytes if self._exchange else 0
        return self._watch.look(self.transport, self.server.loop.time(), written)

    def watch_reader(self) -> None:
        """Watch a client whose response is too slow to fill the transport's buffer: a client that takes nothing of
        what waits is cut off as well."""
        if self._phase is RESPONSE and self.deadline == math.inf:
            self._wait_for_reader()
            if not self._watch.waits:
                self.deadline = math.inf

    # ---- reading

    def _advance(self) -> None:
        """Hand on what is buffered, until nothing is left or somebody has to be waited for."""
        self._advancing = True
        try:
            if self._is_complete_due and self._exchange:
                self._complete(self._exchange)
            turn = REQUESTS_PER_TURN
            while self._buffer and not self._awaited:
                if self._phase is BODY:
                    self._read_body()
                elif self._phase is not HEAD or not self.drained.done():
                    break
                elif turn == 0:  # other connections have their turn before more of a flood of pipelined requests
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
        """Read from the transport, unless what was read could not be handed on."""
        waits = self._phase is RESPONSE or (self._phase is HEAD and not self.drained.done())
        pause = self._awaited is not None or (waits and len(self._buffer) > PIPELINE_BYTES)
        if pause is not self.is_paused and not self.transport.is_closing():
            self.is_paused = pause
            self.transport.pause_reading() if pause else self.transport.resume_reading()

    def _read_head(self) -> bool:
        """Begin an exchange if a complete head is buffered."""
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):  # RFC 9112 §2.2: empty lines before a request are ignored
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
        delegate = self._owner.delegate.start_request(self, exchange)
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
        """Ask for the body once the delegate has admitted the head (RFC 9110 §10.1.1)."""
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
        """Tell the delegate that the request is complete, once the delegate has dealt with all pieces."""
        self._is_complete_due = self._awaited is not None
        if self._awaited is not None or self._exchange is not exchange:
            return
        if isinstance(self.delegate, HeadDelegate):
            self.delegate.body_received()
        elif self.delegate:
            self.delegate.finish()

    @property
    def is_busy(self) -> bool:
        """Whether a response is not complete, or another protocol has the transport."""
        return self._exchange is not None

    @property
    def has_read_ahead(self) -> bool:
        """Whether bytes have come behind the current request."""
        return bool(self._buffer) and self._phase is not BODY

    @property
    def is_reading_body(self) -> bool:
        """Whether the current request is not complete."""
        return self._phase is BODY

    def _wait_for(self, busy: object) -> None:
        """Read no further until the delegate has dealt with what the delegate was given."""
        if busy is None:
            return
        future = asyncio.ensure_future(cast("asyncio.Future[None]", busy))
        if future.done() and not future.cancelled() and future.exception() is None:
            return
        self._awaited = future
        if self._body:
            self._body.restart_pace()
        if self.drained.done():
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
        """The response has been written whole."""
        if exchange is not self._exchange:
            return
        self._exchange = self.delegate = None
        persists = exchange.persistent and self._phase is RESPONSE
        if exchange.head.upgrades and self._buffer:  # the bytes may be in the protocol that was refused (RFC 9931)
            persists = False
        if not persists:
            self._linger()
            return
        self._served = True
        self._move(RESPONSE_END)
        if self._buffer and not self._advancing:
            self._advance()

    def _linger(self) -> None:
        """Send a FIN behind the last response, and read on for a moment, see lingering.py."""
        if self.has_shut:
            self._wait_for_reader()
            self.transport.close()
            return
        is_read = self._phase is not BODY
        self._move(LAST_RESPONSE_END)
        now = self.server.loop.time()
        taken_at = self._watch.since if self._watch.waits else now
        self._lingering = lingering = Lingering(self.transport, now, taken_at)
        self._buffer = b""
        self._awaited = self._body = None
        if self.is_paused:
            self._regulate()
        lingering.half_close(is_read=is_read)

    def _end_with(self, error: BaseException) -> None:
        """End the connection because a request failed."""
        if isinstance(error, GatewayError):
            self.refuse(error)
        elif isinstance(error, HTTPInputError):  # Tornado's own error for malformed arguments
            self.refuse(BadRequest(str(error)))
        elif not self.transport.is_closing():  # the delegate's own fault: reported as asyncio reports a protocol's
            self.server.loop.call_exception_handler(
                {"message": "a request's delegate failed", "exception": error, "protocol": self}
            )
            self.reset()

    def refuse(self, error: GatewayError) -> None:
        """Answer with an error, and end the connection."""
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
        """The deadline has passed."""
        has_moved = self._look_at_reader()
        if self._lingering:
            self._expire_lingering(self._lingering, now, has_moved)
        elif has_moved and self._watch.waits:  # slow, but the client takes what is written
            self._wait_for_reader()
        elif self._phase is RESPONSE and not self._watch.waits:
            self.deadline = math.inf
        elif self._phase is RESPONSE or self.transport.get_write_buffer_size():
            if self._exchange:
                self._exchange.error = ClientStalled()
            self.reset()
        elif self._phase is HEAD and (self._served or not self._buffer):
            if not unread(self.transport):  # else a request has come in time, and is read next
                self._linger()
        elif not self.transport.is_closing():
            self.deadline = math.inf
            self.refuse(RequestTimeout())

    def _expire_lingering(self, lingering: Lingering, now: float, has_moved: bool) -> None:
        patience, waits = self.server.config.client_idle_timeout, self._watch.waits
        if lingering.lasts(now, patience, has_taken=has_moved, waits=waits):
            self.deadline = self.server.loop.time() + LINGER
        elif waits:
            self.reset()
        elif lingering.end():
            self.deadline = self.server.loop.time() + LINGER

    def judge_pace(self, now: float) -> None:
        """End a request whose body comes too slowly, unless others were waited for meanwhile."""
        body, exchange = self._body, self._exchange
        if body is None or exchange is None:
            return
        if self._awaited:
            body.restart_pace()
        if body.judge_window(now, exchange.min_upload_rate):
            self.refuse(RequestTimeout("the request's body came too slowly"))

    def client_has_left(self) -> bool:
        """Whether the client of a paused connection has ended the connection."""
        return has_ended(self.transport, by_fin=self.server.config.half_close_aborts)

    def upgrade(self, successor: asyncio.BaseProtocol) -> bytes:
        """Give the transport to another protocol, which must pass on connection_lost().

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

    def is_over(self, now: float) -> bool:
        """Whether nothing is lost if the connection is closed now."""
        return self._lingering is not None and self._lingering.is_over(now)

    def forget_fields(self) -> None:
        """Drop the fields that the next request would be compared with: a long stream would keep 1 KiB of them."""
        self._last_fields = None

    def close_if_idle(self) -> None:
        """End the connection after IDLE_GRACE seconds, unless a request comes."""
        if self._phase is HEAD and not self._buffer:
            self.deadline = min(self.deadline, self.server.loop.time() + IDLE_GRACE)

    def reset(self) -> None:
        """End the connection so that the client cannot take the response for a complete one."""
        if self._phase is not CLOSED:
            reset(self.transport)
