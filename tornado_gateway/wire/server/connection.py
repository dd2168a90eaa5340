"""One client's connection: requests off the wire, one at a time.

A ServerConnection takes one request off its buffer, makes a ServerExchange for the
answer, and looks at the next request only when both are done: pipelined requests are
answered in order because they are not read before their turn.

Flow control is the transport's. While the client does not take what was written,
`drained` is a future that is not done; while a delegate has not dealt with a piece
of a body, the transport is not read. Nothing is queued here but one read's bytes.
"""

import asyncio
import contextlib
import math
import re
import socket
import struct
from enum import Enum
from typing import TYPE_CHECKING, cast

from tornado.httputil import HTTPInputError, HTTPMessageDelegate

from tornado_gateway.errors import BadRequest, ClientStalled, ContentTooLarge, GatewayError, Overloaded, RequestTimeout
from tornado_gateway.policy.http.address import NO_ADDRESS, of_peer
from tornado_gateway.policy.http.pace import Pace
from tornado_gateway.wire.http1 import (
    END_OF_HEAD,
    MAX_REMEMBERED_HEAD,
    MAX_REQUEST_HEAD,
    Body,
    ChunkedBody,
    LengthBody,
    RequestFields,
    RequestHead,
    check_partial_request,
    parse_request,
)
from tornado_gateway.wire.peer import has_ended, unacknowledged, unread
from tornado_gateway.wire.server.exchange import ServerExchange, fail_closed, start_line
from tornado_gateway.wire.server.messages import RawHeaders
from tornado_gateway.wire.stall_watch import StallWatch

if TYPE_CHECKING:
    from tornado_gateway.wire.server.server import HTTPServer

PIPELINE_BYTES = 64 * 1024  # of later requests held back before the transport is paused
LINGER = 2.0  # seconds of reading on behind a last answer, so that the client sees it (nginx: 5 s between reads)
LINGER_BYTES = 64 * 1024 * 1024  # that are read in this time; a client may go on with an upload before it looks
MAX_REFUSED = 64  # connections above the limit that are told so; more of a flood are just closed
REQUESTS_PER_TURN = 32  # of one connection's pipelined requests that may be answered within one turn of the loop
QUIET = 0.2  # seconds without a byte behind a last answer, after which a server that stops waits for no more
IDLE_GRACE = 1.0  # seconds for a request that is on its way to an idle connection when the server begins to drain
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")

# Stands for a head that could not be read.
_UNREAD = RequestHead(
    b"-", b"-", 1, b"\r\n", {}, b"", b"", keep_alive=False, expects_continue=False, upgrades=False, body=None
)


class HeadDelegate(HTTPMessageDelegate):
    """A delegate that reads the exchange's head as it is, instead of Tornado's start line and HTTPHeaders.

    Its finish() is called only behind a body.
    """

    def head_received(self) -> None:
        raise NotImplementedError


class _Phase(Enum):
    """What a connection waits for."""

    HEAD = "head"
    BODY = "body"
    RESPONSE = "response"
    LINGER = "linger"
    UPGRADED = "upgraded"


# Looked up in their class, members cost five times as much (3.11), some fifteen times per request.
_HEAD, _BODY, _RESPONSE, _LINGER, _UPGRADED = _Phase


class ServerConnection(asyncio.Protocol):
    """One client's connection: requests off the wire, one at a time.

    Attributes:
        deadline: instant (loop time) at which the client has been too slow; infinite while
            it is not the client that is waited for.
        has_shut: whether the client has shut down its sending side, and waits for the answer.
        is_paused: whether the transport is not read for now.
        is_refused: whether there was no room for it.
        peer: the address of the other end.
        drained: done unless the client does not take what is written.
    """

    __slots__ = (
        "_advancing", "_awaited", "_body", "_buffer", "_dropped_at", "_exchange", "_is_complete_due", "_last_fields",
        "_pace", "_phase", "_received", "_served", "_watch", "deadline", "delegate", "drained", "has_shut", "is_paused",
        "is_refused", "peer", "protocol", "remote_port", "server", "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, server: "HTTPServer") -> None:
        self.server = server
        self.deadline = server.loop.time() + server.config.header_timeout
        self.drained = server.flowing
        self.protocol = "http"
        self.peer, self.remote_port = NO_ADDRESS, 0
        self._buffer = b""
        self._phase = _HEAD
        self._body: Body | None = None
        self._pace: Pace | None = None  # of the current request's body, while the client alone is waited for
        self._received = 0  # bytes of the current request's body; of what is dropped, behind the last one
        self._dropped_at = 0.0  # instant of the last answer's end, or at which something came behind it
        self._served = False  # whether a request came before: an idle keep-alive connection ends without 408
        self.delegate: HTTPMessageDelegate | None = None
        self._exchange: ServerExchange | None = None
        self._last_fields: RequestFields | None = None
        self._awaited: asyncio.Future[None] | None = None  # the delegate is busy with a piece of the body
        self._is_complete_due = False  # the request is whole, but the delegate is still busy
        self._watch = StallWatch()
        self.has_shut = self.is_paused = self.is_refused = False
        self._advancing = False

    @property
    def remote_ip(self) -> str:
        """What Tornado asks its context for."""
        return self.peer.text

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer, self.remote_port = of_peer(peer[0]), peer[1]
        server = self.server
        crowded = len(server.connections) - server.refused >= server.config.max_connections
        server.connections.add(self)
        if crowded:
            self.is_refused = True
            server.refused += 1
            if server.refused > MAX_REFUSED:
                self.transport.abort()
                return
            self._refuse(Overloaded("the gateway has as many connections as it may"))
        elif server.draining:  # the kernel had it before the listener was closed; a request may be under way
            self.close_if_idle()

    def data_received(self, data: bytes) -> None:
        if self._phase is _LINGER:
            self._drop(len(data))
            return
        self._buffer = self._buffer + data if self._buffer else data
        if not self._advancing:
            self._advance()

    def eof_received(self) -> bool:
        """The client has shut down its sending side; RFC 9112 §9.6 leaves open what it means.

        Mostly it has left (as nginx and Tornado also take it). HALF_CLOSE=ignore is for clients like `nc -N`
        that wait for the answer.
        """
        exchange = self._exchange
        if exchange is None:  # the transport is closed once all that was written is sent
            return False
        if self._phase is _RESPONSE and not self.server.config.half_close_aborts:
            exchange.keep_alive = exchange.persistent = False
            self.has_shut = True
            return True
        self.reset()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.server.forget(self)
        self._buffer = b""
        self.deadline = math.inf
        drained, self.drained = self.drained, self.server.flowing
        if not drained.done():
            fail_closed(drained)
        exchange, self._exchange = self._exchange, None
        if exchange:
            exchange.lost()

    def pause_writing(self) -> None:
        self.drained = self.server.loop.create_future()
        self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        self._look_at_reader()
        self.deadline = self.server.loop.time() + self.server.config.client_idle_timeout

    def _look_at_reader(self) -> bool:
        """Whether the client has taken something of what waited for it since the last look."""
        written = self._exchange.body_bytes if self._exchange else 0
        return self._watch.look(self.transport, self.server.loop.time(), written)

    def watch_reader(self) -> None:
        """Cut the client off also if it takes nothing of a response that is too slow to fill the transport's buffer."""
        if self._phase is _RESPONSE and self.deadline == math.inf:
            self._wait_for_reader()
            if not self._watch.waits:
                self.deadline = math.inf

    def resume_writing(self) -> None:
        drained, self.drained = self.drained, self.server.flowing
        if not drained.done():
            drained.set_result(None)
        self._watch.forget()
        self._wait_for_client(self._phase)
        self._go_on()

    # ---- reading

    def _advance(self) -> None:
        """Hand on what is buffered, until it runs out or somebody has to be waited for."""
        self._advancing = True
        try:
            if self._is_complete_due and self._exchange:
                self._complete(self._exchange)
            turn = REQUESTS_PER_TURN
            while self._buffer and not self._awaited:
                if self._phase is _BODY:
                    self._read_body()
                elif self._phase is not _HEAD or not self.drained.done():
                    break
                elif turn == 0:  # others have their turn before more of a flood of pipelined requests
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
        self._regulate()

    def _go_on(self) -> None:
        if not self._advancing and not self.transport.is_closing():
            self._advance()

    def _regulate(self) -> None:
        """Read from the transport, unless what it brings could not be dealt with."""
        waits = self._phase is _RESPONSE or (self._phase is _HEAD and not self.drained.done())
        pause = self._awaited is not None or (waits and len(self._buffer) > PIPELINE_BYTES)
        if pause is not self.is_paused and not self.transport.is_closing():
            self.is_paused = pause
            self.transport.pause_reading() if pause else self.transport.resume_reading()

    def _read_head(self) -> bool:
        """Start an exchange if a whole head is there."""
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
        self._body, self._received, self._is_complete_due = head.body, 0, False
        self._pace = None
        exchange = self._exchange = ServerExchange(self, head)
        self._wait_for_client(_BODY if head.body else _RESPONSE)
        delegate = self.server.delegate.start_request(self, exchange)
        if isinstance(head.body, LengthBody):
            self._check_size(head.body.left)
        if isinstance(delegate, HeadDelegate):
            self.delegate = delegate
            delegate.head_received()
            return
        busy = delegate.headers_received(start_line(head), RawHeaders(head.block))
        self.delegate = delegate if self._exchange else None
        self._wait_for(busy)
        if head.expects_continue and head.body:
            self._let_client_continue(exchange)
        if head.body is None:
            self._complete(exchange)

    def _let_client_continue(self, exchange: "ServerExchange") -> None:
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
        self._wait_for_client(_BODY if rest is None else _RESPONSE)
        if payload:
            self._received += len(payload)
            self._check_size(self._received)
            self._wait_for(delegate.data_received(payload))
        if rest is not None:
            exchange.trailers = body.trailers if isinstance(body, ChunkedBody) else []
            self._body = None
            self._complete(exchange)

    def _check_size(self, size: int) -> None:
        limit = self._exchange.max_body_size if self._exchange else None
        if limit is not None and size > limit:
            raise ContentTooLarge(f"the request's body is larger than {limit} bytes")

    def _complete(self, exchange: "ServerExchange") -> None:
        """The request has been read whole; say so once the delegate has dealt with all of it."""
        self._is_complete_due = self._awaited is not None
        if self._awaited is None and self._exchange is exchange and self.delegate:
            self.delegate.finish()

    @property
    def is_busy(self) -> bool:
        """Whether a request was not answered whole, or another protocol goes on."""
        return self._exchange is not None

    @property
    def has_read_ahead(self) -> bool:
        """Whether bytes have come behind the current request."""
        return bool(self._buffer) and self._phase is not _BODY

    @property
    def is_reading_body(self) -> bool:
        """Whether the current request has not come whole."""
        return self._phase is _BODY

    def _wait_for(self, busy: object) -> None:
        """Read no further until the delegate has dealt with what it was given."""
        if busy is None:
            return
        future = asyncio.ensure_future(cast("asyncio.Future[None]", busy))
        if future.done() and not future.cancelled() and future.exception() is None:
            return
        self._awaited, self._pace = future, None
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
            self._wait_for_client(self._phase)
            self._advance()

    def _wait_for_client(self, phase: _Phase) -> None:
        """Enter a phase; the client has its time to do what the phase needs of it."""
        self._phase = phase
        if not self.drained.done():
            return  # the client has its time already: to take what was written
        if phase is _RESPONSE:
            self.deadline = math.inf
        elif phase is _BODY:
            self.deadline = self.server.loop.time() + self.server.config.client_idle_timeout
        elif phase is _HEAD and self._served:
            self.deadline = self.server.loop.time() + self.server.keepalive_timeout
        elif phase is _LINGER:
            self.deadline = self.server.loop.time() + LINGER

    # ---- ending

    def exchange_finished(self, exchange: "ServerExchange") -> None:
        """The response has been written whole."""
        if exchange is not self._exchange:
            return
        self._exchange = self.delegate = None
        stays = exchange.persistent
        if exchange.head.upgrades and self._buffer:  # it may be in the protocol that was refused (RFC 9931)
            stays = False
        if self._phase is _BODY or not stays:
            self._linger()
        else:
            self._served = True
            self._wait_for_client(_HEAD)
            if self._buffer and not self._advancing:
                self._advance()

    def _linger(self) -> None:
        """Say that this was all, and read on for a moment: a socket that is closed before its client's last bytes
        have come resets the connection, and the client may never see the answer (RFC 9112 §9.6)."""
        if self.has_shut:
            self._wait_for_reader()
            self.transport.close()
            return
        self._wait_for_client(_LINGER)
        self._look_at_reader()
        self._received, self._dropped_at = 0, self.server.loop.time()
        self._buffer = b""
        self._awaited = self._body = None
        self._regulate()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            with contextlib.suppress(OSError):  # asyncio's own shutdown() of a socket that was just reset
                self.transport.write_eof()

    def _drop(self, size: int) -> None:
        """Count what comes behind the last answer."""
        self._received, self._dropped_at = self._received + size, self.server.loop.time()
        if self._received > LINGER_BYTES:
            self.transport.abort()

    def _end_with(self, error: BaseException) -> None:
        """End the connection for what went wrong with a request."""
        if isinstance(error, GatewayError):
            self._refuse(error)
        elif isinstance(error, HTTPInputError):  # Tornado's own word for what it finds malformed in arguments
            self._refuse(BadRequest(str(error)))
        elif not self.transport.is_closing():  # the delegate's own fault: said as asyncio says it of a protocol's
            self.server.loop.call_exception_handler(
                {"message": "a request's delegate failed", "exception": error, "protocol": self}
            )
            self.reset()

    def _refuse(self, error: GatewayError) -> None:
        """Answer an error of the client's, and end the connection."""
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
            self.server.refuse(exchange, error)
        self._linger()

    def expire(self, now: float) -> None:
        """The client has been too slow."""
        has_moved = self._look_at_reader()
        if self._phase is _LINGER:
            self._expire_lingering(now, has_moved)
        elif has_moved and self._watch.waits:  # slow, but it takes what is written
            self._wait_for_reader()
        elif self._phase is _RESPONSE and not self._watch.waits:
            self.deadline = math.inf
        elif self._phase is _RESPONSE or self.transport.get_write_buffer_size():
            if self._exchange:
                self._exchange.error = ClientStalled()
            self.reset()
        elif self._phase is _HEAD and (self._served or not self._buffer):
            if not unread(self.transport):  # else a request has come in time, and is read next
                self._linger()
        elif not self.transport.is_closing():
            self.deadline = math.inf
            self._refuse(RequestTimeout())

    def _expire_lingering(self, now: float, has_moved: bool) -> None:
        """Linger on while the client still takes its last answer; otherwise end the connection."""
        watch = self._watch
        if has_moved or (watch.waits and now - watch.since < self.server.config.client_idle_timeout):
            self.deadline = self.server.loop.time() + LINGER
        elif watch.waits:
            self.reset()
        else:
            self.transport.abort()

    def judge_pace(self, now: float) -> None:
        """End a request whose body comes too slowly, unless others were waited for meanwhile."""
        if self._pace is None or self._awaited or self._exchange is None:
            self._pace = Pace(now, self._received)
        elif self._pace.is_too_slow(now, self._received, self._exchange.min_upload_rate):
            self._refuse(RequestTimeout("the request's body came too slowly"))

    def client_has_left(self) -> bool:
        """Whether the client of a paused connection has ended it."""
        return has_ended(self.transport, by_fin=self.server.config.half_close_aborts)

    def upgrade(self, successor: asyncio.BaseProtocol) -> bytes:
        """Give the transport to another protocol, which must pass on connection_lost().

        Returns:
            What the client has sent behind its request.
        """
        rest, self._buffer = self._buffer, b""
        self.delegate = self._last_fields = None
        self._phase, self.deadline = _UPGRADED, math.inf
        if self.is_paused:
            self.is_paused = False
            self.transport.resume_reading()
        self.transport.set_protocol(successor)
        return rest

    @property
    def is_answered(self) -> bool:
        """Whether the client has acknowledged the end of its last answer (RFC 9112 §9.6)."""
        return self._phase is _LINGER and not unacknowledged(self.transport)

    def is_over(self, now: float) -> bool:
        """Whether the client is answered, and sends nothing more that a closed connection would answer with a reset.

        A client in the middle of an upload may meet the reset before it looks for the answer.
        """
        return self.is_answered and now - self._dropped_at >= QUIET

    def forget_fields(self) -> None:
        """Compare the next request's fields with none: what lasts as long as a stream would keep them (1 KiB)."""
        self._last_fields = None

    def close_if_idle(self) -> None:
        if self._phase is _HEAD and not self._buffer:
            self.deadline = min(self.deadline, self.server.loop.time() + IDLE_GRACE)

    def reset(self) -> None:
        """End the connection so that the client cannot take it for a complete response."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and self in self.server.connections:  # else its descriptor may be another's by now
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()
