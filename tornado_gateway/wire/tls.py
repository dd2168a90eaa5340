"""TLS over a plain transport of the event loop: what the two sides of a connection have in common.

    transport ──ciphertext──► TLSTransport ──plain text──► protocol
        ▲                         │  ▲                        │
        └──────ciphertext─────────┘  └───────plain text───────┘

A TLSTransport is the protocol of the TCP transport, and the transport of the protocol above. client/tls.py has the
client's side, server/tls.py the server's.

The TLS of asyncio and uvloop hides how a connection ended, which a gateway must know, and keeps a buffer of 256 KiB for
each connection. Here each read is decrypted whole and handed on at once, and each write is encrypted at once. Nothing
is buffered, so flow control is the TCP transport's own; its limits count ciphertext. OpenSSL's memory buffers (BIO)
never shrink, so what is written passes through the buffer a record at a time.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Any, cast

RECORD = 16 * 1024  # greatest plain text of a record (RFC 8446 §5.1); SSLObject.read() returns at most a record


class TLSTransport(asyncio.Protocol, asyncio.Transport):
    """A side of a TLS connection.

    Args:
        context: the settings of TLS.
        server_side: whether this is the server's side.
        host: a client's name of the server; None for a server.
    """

    __slots__ = (
        "_error", "_incoming", "_is_known", "_is_open", "_outgoing", "_protocol", "_ssl", "_tcp", "_unsent",
    )  # fmt: skip

    _tcp: asyncio.Transport
    _protocol: asyncio.Protocol

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, host: str | None = None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=host)
        self._is_open = False  # whether records are read: the handshake is done, and the peer has not ended
        self._is_known = False  # whether the protocol has got the connection
        self._unsent = b""  # plain text that waits for the end of a renegotiation (TLS 1.2)
        self._error: Exception | None = None

    # ---- asyncio.Protocol, for the TCP transport

    def pause_writing(self) -> None:
        if self._is_known:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._is_known:
            self._protocol.resume_writing()

    # ---- asyncio.Transport, for the protocol above

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._unsent:
            self._unsent += data
        elif data and not self._tcp.is_closing():
            self._seal(data)

    def _seal(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        size, done = len(data), 0
        try:
            done = self._ssl.write(data if size <= RECORD else memoryview(data)[:RECORD])
            if done < size:
                self._seal_rest(data, done)
                return
        except ssl.SSLWantReadError:
            self._unsent = bytes(data)
        except ssl.SSLError as error:
            self._fail(error)
        self._send()

    def _seal_rest(self, data: bytes | bytearray | memoryview, done: int) -> None:
        view, sealed = memoryview(data), [self._outgoing.read()]
        try:
            while done < len(view):
                done += self._ssl.write(view[done : done + RECORD])
                sealed.append(self._outgoing.read())
        except ssl.SSLWantReadError:
            self._unsent = bytes(view[done:])
        self._tcp.write(b"".join(sealed))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        if not self._tcp.is_closing():
            self._alert_closure()
            self._tcp.close()

    def _alert_closure(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # SSLWantReadError: do not wait for the peer's alert
            self._ssl.unwrap()
        self._send()

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

    def _read(self) -> None:
        """Decrypt all received records and hand the plain text on, before an error or the end is reported."""
        pieces, is_last = [], False
        incoming, tls = self._incoming, self._ssl
        try:
            while incoming.pending or tls.pending():
                piece = tls.read(RECORD)
                if not piece:
                    is_last = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._error = error
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            self.write(unsent)
        if self._outgoing.pending:
            self._send()
        if pieces:
            self._hear(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._error:
            self._fail(self._error)
        elif is_last:
            self._end()

    def _hear(self, text: bytes) -> None:
        """Hand plain text on."""
        self._protocol.data_received(text)

    def _send(self) -> None:
        """Send what OpenSSL has written."""
        data = self._outgoing.read()
        if data:
            self._tcp.write(data)

    def _end(self) -> None:
        """Report the peer's closure alert."""
        raise NotImplementedError

    def _fail(self, error: Exception) -> None:
        """End the connection because of an error, after TLS's alert about the error."""
        raise NotImplementedError
