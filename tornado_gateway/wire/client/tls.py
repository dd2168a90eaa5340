"""TLS to upstreams, over a plain transport of the event loop.

    transport ──ciphertext──► TLSTransport ──plain text──► protocol
        ▲                         │  ▲                        │
        └──────ciphertext─────────┘  └───────plain text───────┘

A TLSTransport is the protocol of the TCP transport, and the transport of the protocol above. The TLS of asyncio and
uvloop hides how a connection ended, which a gateway must know:

* A connection that ends without TLS's closure alert was cut, perhaps by an attacker, so a body that ends with the
  connection is incomplete (RFC 9112 §9.8, RFC 8446 §6.1). asyncio reports the cut and the alert in the same way. Here
  a cut is an error of connection_lost(), and eof_received() is called only for the alert.
* A server may answer and close while a request's body is still being written. The write fails first, and both loops
  then drop the answer in the kernel's receive queue. Here the answer is read.
* uvloop drops the unread bytes of a paused reader when the connection ends. Here the end waits for the reader.

Each read is decrypted whole and handed on at once, and each write is encrypted at once. Nothing is buffered here, so
flow control is the TCP transport's own; its limits count ciphertext.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from tornado_gateway.wire.client.adopt import adopt
from tornado_gateway.wire.peer import acknowledge_at_once, arrived

RECORD = 16 * 1024  # greatest plain text of a record (RFC 8446 §5.1); SSLObject.read() returns at most a record

P = TypeVar("P", bound=asyncio.Protocol)


async def connect_tls(
    sock: socket.socket, factory: Callable[[], P], context: ssl.SSLContext, host: str, *, needs_closure: bool = True
) -> P:
    """Do the TLS handshake over a connected socket; return the connected protocol.

    Args:
        sock: a connected TCP socket.
        factory: makes the protocol.
        context: the settings of TLS.
        host: name sent as SNI, and checked against the certificate if the context checks names.
        needs_closure: whether the end of the connection without the closure alert is an error.

    Raises:
        ssl.SSLError: the handshake failed.
        OSError: the connection failed.
    """
    loop = asyncio.get_running_loop()
    protocol = factory()
    transport = TLSTransport(protocol, context, host, loop.create_future(), needs_closure=needs_closure)
    try:
        await adopt(lambda: transport, sock)
    except BaseException:
        transport.established.cancel()
        raise
    try:
        await transport.established
    except BaseException:
        transport.abort()
        raise
    return protocol


class TLSTransport(asyncio.Protocol, asyncio.Transport):
    """The client side of a TLS connection.

    Attributes:
        established: future of the handshake's end; fails with the handshake's error.
    """

    __slots__ = (
        "_error", "_has_ended", "_has_heard", "_incoming", "_is_open", "_needs_closure", "_outgoing", "_protocol",
        "_ssl", "_tcp", "_unsent", "established",
    )  # fmt: skip

    _tcp: asyncio.Transport

    def __init__(
        self,
        protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        host: str,
        established: "asyncio.Future[None]",
        *,
        needs_closure: bool,
    ) -> None:
        self._protocol, self._needs_closure, self.established = protocol, needs_closure, established
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._is_open = self._has_heard = self._has_ended = False
        self._unsent = b""  # plain text that waits for the end of a renegotiation (TLS 1.2)
        self._error: Exception | None = None

    # ---- asyncio.Protocol, for the TCP transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast(asyncio.Transport, transport)
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if not self._is_open:
            self._shake_hands()
        if self._is_open and not self._has_ended:
            self._read()

    def eof_received(self) -> None:
        if not self._is_open:
            self._fail(ConnectionResetError("the connection ended within the TLS handshake"))
        elif self._needs_closure and not self._has_ended:
            self._fail(ConnectionResetError("the connection ended without TLS's closure alert"))
        elif not self._has_ended:
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        if error and self._is_open:
            for data in arrived(self._tcp):
                self.data_received(data)
        error = self._error or error
        if not self.established.done():
            self.established.set_exception(error or ConnectionResetError("the connection was closed"))
        if self._is_open:
            self._protocol.connection_lost(error)

    def pause_writing(self) -> None:
        if self._is_open:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._is_open:
            self._protocol.resume_writing()

    # ---- asyncio.Transport, for the protocol above

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._unsent:
            self._unsent += data
            return
        if not data or self._tcp.is_closing():
            return
        done, view = 0, memoryview(data)
        try:
            while done < len(view):
                done += self._ssl.write(view[done:])
        except ssl.SSLWantReadError:
            self._unsent = bytes(view[done:])
        except ssl.SSLError as error:
            self._fail(error)
        self._send()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if not self._tcp.is_closing():
            with contextlib.suppress(ssl.SSLError):  # SSLWantReadError: do not wait for the peer's alert
                self._ssl.unwrap()
            self._send()
            self._tcp.close()

    def abort(self) -> None:
        self._tcp.abort()

    def is_closing(self) -> bool:
        return self._tcp.is_closing()

    def pause_reading(self) -> None:
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        self._tcp.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._tcp.get_write_buffer_size() + len(self._unsent)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._tcp.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tcp.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    # ---- between the TCP transport and the protocol

    def _shake_hands(self) -> None:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._is_open = True
        self._send()
        self._protocol.connection_made(self)
        if not self.established.done():
            self.established.set_result(None)

    def _read(self) -> None:
        """Decrypt all received records and hand the plain text on, before an error or the end is reported."""
        pieces, is_last = [], False
        try:
            while self._incoming.pending or self._ssl.pending():
                piece = self._ssl.read(RECORD)
                if not piece:
                    is_last = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._error = error
        if self._unsent:
            self._write_on()
        self._send()
        if pieces:
            self._has_heard = True
            self._protocol.data_received(b"".join(pieces))
        if self._error:
            self._fail(self._error)
        elif is_last:
            self._end()

    def _write_on(self) -> None:
        unsent, self._unsent = self._unsent, b""
        self.write(unsent)

    def _send(self) -> None:
        data = self._outgoing.read()
        if data:
            self._tcp.write(data)
        if not self._has_heard:
            acknowledge_at_once(self._tcp)  # unacknowledged session tickets may delay an early answer

    def _end(self) -> None:
        """Report the peer's closure alert."""
        self._has_ended = True
        if not self._protocol.eof_received():
            self.close()

    def _fail(self, error: Exception) -> None:
        """Send TLS's alert about the error, if TLS has written an alert, and abort the connection."""
        self._error = self._error or error
        self._send()
        self._tcp.abort()
