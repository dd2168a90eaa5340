"""An exchange with a client: a request, and the methods that write the response."""

import asyncio
import functools
import http
from collections.abc import Callable, Sequence
from typing import Protocol

from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import StreamClosedError

from tornado_gateway.errors import GatewayError
from tornado_gateway.policy.client_certificate import ClientCertificate
from tornado_gateway.policy.http.address import Address
from tornado_gateway.policy.http.headers import Field, without_prefix
from tornado_gateway.wire.http1 import RequestHead
from tornado_gateway.wire.server.context import ServerContext
from tornado_gateway.wire.server.delegate import HeadDelegate

_CLOSE = b"Connection: close\r\n"
_KEEP_ALIVE = b"Connection: keep-alive\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_COPIED_BELOW = 16 * 1024  # bytes; a smaller chunk is joined with its head, which is cheaper than writing three buffers
_SMALL = 2048  # bytes; smaller chunks have a format by size, which saves 0.2 µs an event
_CHUNKS = tuple(b"%x\r\n%%b\r\n" % size for size in range(_SMALL))


class Connection(Protocol):
    """What an exchange and a handler use of a ServerConnection."""

    server: ServerContext
    transport: asyncio.Transport
    delegate: HTTPMessageDelegate | HeadDelegate | None
    drained: "asyncio.Future[None]"
    has_half_closed: bool
    certificate: ClientCertificate | None
    peer: Address
    scheme: bytes

    @property
    def remote_ip(self) -> str: ...

    @property
    def protocol(self) -> str: ...

    @property
    def has_read_ahead(self) -> bool: ...

    def exchange_finished(self, exchange: "ServerExchange", /) -> None: ...

    def connection_lost(self, error: Exception | None, /) -> None: ...

    def forget_fields(self) -> None: ...

    def reset(self) -> None: ...

    def upgrade(self, successor: asyncio.BaseProtocol, /) -> bytes: ...

    def watch_reader(self) -> None: ...


class ServerExchange(HTTPConnection):
    """A request and its response: Tornado's HTTPConnection with additional methods for the proxy.

    Attributes:
        head: the head of the request.
        is_read: whether the request has been read whole.
        trailers: the request's trailers, once its body is complete.
        error: the client's error that ended the request early; None if the client just left.
        keep_alive: whether client and gateway both want to keep the connection.
        persistent: whether the connection will be kept after the response; known once the response has begun.
        started: whether the final response has begun.
        finished: whether the final response is complete.
        body_bytes: bytes of the response's body written so far.
        min_upload_rate: least rate of the request's body in bytes per second; 0 for no limit.
        max_body_size: greatest size of the request's body in bytes; None for no limit.
        added_lines: field lines, each ended by CRLF, that the final response or the 101 gets, whatever writes it. An
            admission step that has a word for the client (the state of a limit) adds lines here.
        replaced_prefix: beginning, in lower case, of the names of fields that only `added_lines` may give the final
            response; b"" for none.
    """

    __slots__ = (
        "_chunked", "_high_water", "_left", "_on_close", "_pending", "added_lines", "body_bytes", "connection", "error",
        "finished", "head", "is_read", "keep_alive", "max_body_size", "min_upload_rate", "persistent",
        "replaced_prefix", "started", "trailers",
    )  # fmt: skip

    def __init__(self, connection: Connection, head: RequestHead) -> None:
        self.connection = connection
        self.head = head
        self.is_read = head.body is None
        self.trailers: Sequence[Field] = ()
        self.error: GatewayError | None = None
        self.keep_alive = head.keep_alive
        self.persistent = self.started = self.finished = False
        self.body_bytes = 0
        self.max_body_size = connection.server.config.max_body_bytes
        self.min_upload_rate = connection.server.config.min_upload_rate
        self._chunked = False
        self._high_water: int | None = None  # high-water mark in bytes; None for asyncio's default
        self._left: int | None = None  # bytes of the body still to come by Content-Length
        self.added_lines = self.replaced_prefix = b""
        self._pending = b""  # the response's head, until the first bytes of the body
        self._on_close: Callable[[], None] | None = None

    @property
    def context(self) -> Connection:
        """The connection, under Tornado's name for the object with remote_ip and protocol."""
        return self.connection

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        self._on_close = callback

    # ---- the response as bytes

    def write_interim(self, status: int, block: bytes, reason: bytes = b"") -> None:
        """Send a 1xx response, except to an HTTP/1.0 client (RFC 9110 §15.2).

        Args:
            status: 100 to 199.
            block: field lines, each ended by CRLF, without Content-Length and Transfer-Encoding (RFC 9110 §8.6, RFC
                9112 §6.1).
            reason: see safe_reason(); b"" for the standard phrase.
        """
        transport = self.connection.transport
        if self.head.minor and not self.started and not transport.is_closing():
            transport.write(_status_line(status, reason) + block + b"\r\n")

    def start_response(
        self, status: int, reason: bytes, block: bytes, *, length: int | None, dated: bool = True
    ) -> None:
        """Begin the final response. The head is sent with the first write() or finish().

        Args:
            status: 200 to 599.
            reason: see safe_reason(); b"" for the standard phrase.
            block: field lines, each ended by CRLF, including Content-Length if known; without Transfer-Encoding and
                Connection, which are added here.
            length: value of Content-Length; None if unknown.
            dated: whether block has a Date field; otherwise Date is added (RFC 9110 §6.6.1).
        """
        head = self.head
        bodiless = status in (204, 304) or head.method == b"HEAD"
        self._left = 0 if bodiless else length
        self._chunked = length is None and not bodiless and head.minor == 1
        framing = self._decide_persistence(self._chunked or bodiless or length is not None)
        if self._chunked:
            framing = _CHUNKED + framing
        date = b"" if dated else self.connection.server.date()
        if self.replaced_prefix:
            block = without_prefix(block, self.replaced_prefix)
        self._pending = b"".join((_status_line(status, reason), block, self.added_lines, date, framing, b"\r\n"))

    def _decide_persistence(self, framed: bool) -> bytes:
        """Decide whether the connection is kept behind the response, which begins (RFC 9112 §9.3).

        Args:
            framed: whether the response has an end of its own.

        Returns:
            The field line that tells the client; b"" for none.
        """
        connection, head = self.connection, self.head
        self.started = True
        self.persistent = self.keep_alive and framed and self.is_read and not connection.server.announces_close
        if head.upgrades and connection.has_read_ahead:
            self.persistent = False  # the next bytes may be in the refused protocol (RFC 9931)
        if not self.persistent:
            return _CLOSE
        return b"" if head.minor else _KEEP_ALIVE

    def write(self, chunk: bytes) -> "asyncio.Future[None]":
        """Send a piece of the body.

        Returns:
            A future: pending while the client does not keep up, failed with StreamClosedError if the client has left.
        """
        transport = self.connection.transport
        if self.finished or transport.is_closing():
            return fail_closed(self.connection.server.loop.create_future())
        if self._left is not None:
            chunk = chunk[: self._left]
            self._left -= len(chunk)
        size = len(chunk)
        self.body_bytes += size
        lead, tail = self._pending, b""
        if self._chunked and not lead and 0 < size < _SMALL:
            transport.write(_CHUNKS[size] % chunk)
            return self.connection.drained
        if self._chunked and chunk:
            lead, tail = lead + b"%x\r\n" % size, b"\r\n"
        self._pending = b""
        if size < _COPIED_BELOW or not lead:
            transport.write(lead + chunk + tail if tail else lead + chunk)
        else:
            # No empty last piece: asyncio's transport would never finish sending an empty piece (3.12, 3.13).
            transport.writelines((lead, chunk, tail) if tail else (lead, chunk))
            # Calls pause_writing() if needed, which asyncio's writelines() forgets (3.12, 3.13).
            transport.set_write_buffer_limits(self._high_water)
        return self.connection.drained

    def finish(self, trailers: bytes = b"") -> None:
        """End the response.

        Args:
            trailers: trailer lines of a chunked body, each ended by CRLF (RFC 9112 §7.1.2).
        """
        transport = self.connection.transport
        if self.finished or transport.is_closing():
            return
        if self._left:
            self.abort()  # the body is shorter than its Content-Length
            return
        end = b"0\r\n%b\r\n" % trailers if self._chunked else b""
        if self._pending or end:
            transport.write(self._pending + end)
            self._pending = b""
        self.finished = True
        self._on_close = None
        if self._high_water is not None:
            transport.set_write_buffer_limits()
        self.connection.exchange_finished(self)

    def respond(self, status: int, block: bytes, body: bytes, *, reason: bytes = b"", dated: bool = False) -> None:
        """Send a whole response, in one write.

        Args:
            status, block, reason, dated: see start_response().
            body: of the length that block tells; left out of the response to HEAD.
        """
        connection, framing = self.connection, self._decide_persistence(True)
        transport = connection.transport
        if transport.is_closing():
            return
        date = b"" if dated else connection.server.date()
        if self.replaced_prefix:
            block = without_prefix(block, self.replaced_prefix)
        if self.head.method == b"HEAD":
            body = b""
        self.body_bytes = len(body)
        transport.write(b"".join((_status_line(status, reason), block, self.added_lines, date, framing, b"\r\n", body)))
        self.finished = True
        self._on_close = None
        connection.exchange_finished(self)

    def upgrade(self, block: bytes, successor: asyncio.BaseProtocol) -> bytes:
        """Send 101 and give the transport to another protocol. The close callback is called when the connection ends.

        Args:
            block: field lines, each ended by CRLF, including Upgrade and Connection.
            successor: the protocol; must forward connection_lost() to this exchange's connection.

        Returns:
            The bytes that the client has sent behind the request.
        """
        self.started = self.finished = True
        self.connection.transport.write(_status_line(101, b"") + block + self.added_lines + b"\r\n")
        return self.connection.upgrade(successor)

    def limit_buffer(self, size: int) -> None:
        """Set the high-water mark of this response: unsent bytes above which `write()` returns a pending future."""
        self.connection.transport.set_write_buffer_limits(high=size)
        self._high_water = size

    def forget_fields(self) -> None:
        """Free the memory of the request's fields, which are not read any more."""
        self.head.forget_fields()
        self.connection.forget_fields()

    def watch_reader(self) -> None:
        """Watch whether the client reads the response, to cut off a dead client. Call periodically."""
        self.connection.watch_reader()

    def abort(self) -> None:
        """End the connection by RST, so that the client notices an incomplete response. Unsent bytes are lost."""
        self.connection.reset()

    def cut(self) -> None:
        """End an incomplete chunked response without the last chunk; bytes written so far are still sent.

        Without chunked coding the connection is reset.
        """
        if not self._chunked or self._pending:
            self.abort()
        elif not self.connection.transport.is_closing():
            self.finished, self.persistent, self._on_close = True, False, None
            self.connection.exchange_finished(self)

    # ---- Tornado's HTTPConnection

    def set_max_body_size(self, size: int) -> None:
        """Set the greatest size of the request's body. Call in a delegate's start_request() or prepare()."""
        self.max_body_size = size

    def write_headers(
        self, start_line: object, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> "asyncio.Future[None]":
        if not isinstance(start_line, ResponseStartLine):
            raise TypeError("a server writes a ResponseStartLine")
        if start_line.code == http.HTTPStatus.SWITCHING_PROTOCOLS:
            raise NotImplementedError("a transport cannot be detached into an IOStream; see wire/server/server.py")
        block, length = [], None
        for name, value in headers.get_all():
            lower = name.lower()
            if lower in ("connection", "transfer-encoding"):
                self.keep_alive = self.keep_alive and "close" not in value.lower()
                continue
            if lower == "content-length":
                length = int(value)
            line = f"{name}: {value}"
            if "\r" in line or "\n" in line:
                raise ValueError(f"a line break in the response field {name!r}")
            block.append(line.encode("latin-1") + b"\r\n")
        reason = (start_line.reason or "").encode("latin-1", "replace")
        self.start_response(start_line.code, reason, b"".join(block), length=length)
        return self.write(chunk or b"")

    # ---- from the connection

    def lost(self) -> None:
        """Called when the client has left before the response was complete."""
        delegate, callback = self.connection.delegate, self._on_close
        self.connection.delegate = self._on_close = None
        if isinstance(delegate, HTTPMessageDelegate) and not self.is_read:
            delegate.on_connection_close()
        if callback:
            callback()

    def broken_by(self, error: GatewayError) -> None:
        """Called when the rest of the request is malformed, too large or too slow; the handler may answer `error`."""
        self.error = error
        self.lost()


def fail_closed(future: "asyncio.Future[None]") -> "asyncio.Future[None]":
    """Fail a write's future with StreamClosedError, because the client has left."""
    future.set_exception(StreamClosedError())
    future.exception()  # retrieved, so that asyncio does not warn; handlers also have a close callback
    return future


def start_line(head: RequestHead) -> RequestStartLine:
    """The request line as Tornado's RequestStartLine."""
    version = "HTTP/1.1" if head.minor else "HTTP/1.0"
    return RequestStartLine(head.method.decode("ascii"), head.target.decode("latin-1"), version)


def safe_reason(reason: bytes) -> bytes:
    """A reason phrase if it consists of plain words; else b"", which stands for the standard phrase.

    Source: Tornado CVE-2025-67724.

    >>> safe_reason(b"I'm a teapot"), safe_reason(b"<b>")
    (b"I'm a teapot", b'')
    """
    return reason if reason.replace(b" ", b"").replace(b"-", b"").replace(b"'", b"").isalnum() else b""


@functools.lru_cache(maxsize=1024)
def _status_line(status: int, reason: bytes) -> bytes:
    reason = safe_reason(reason)
    if not reason:
        try:
            reason = http.HTTPStatus(status).phrase.encode("ascii")
        except ValueError:
            reason = b"Unknown"
    return b"HTTP/1.1 %d %b\r\n" % (status, reason)
