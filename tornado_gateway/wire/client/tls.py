"""TLS to upstreams. See wire/tls.py for how TLS is spoken.

The TLS of asyncio and uvloop hides how a connection ended, which a gateway must know:

* A connection that ends without TLS's closure alert was cut, perhaps by an attacker, so a body that ends with the
  connection is incomplete (RFC 9112 §9.8, RFC 8446 §6.1). asyncio reports the cut and the alert in the same way. Here
  a cut is an error of connection_lost(), and eof_received() is called only for the alert.
* A server may answer and close while a request's body is still being written. The write fails first, and both loops
  then drop the answer in the kernel's receive queue. Here the answer is read.
* uvloop drops the unread bytes of a paused reader when the connection ends. Here the end waits for the reader.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar, cast

from tornado_gateway.wire.client.adopt import adopt
from tornado_gateway.wire.peer import acknowledge_at_once, arrived
from tornado_gateway.wire.tls import TLSTransport

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
    transport = ClientTLS(protocol, context, host, loop.create_future(), needs_closure=needs_closure)
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


class ClientTLS(TLSTransport):
    """The client side of a TLS connection.

    Attributes:
        established: future of the handshake's end; fails with the handshake's error.
    """

    __slots__ = ("_has_ended", "_has_heard", "_needs_closure", "established")

    def __init__(
        self,
        protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        host: str,
        established: "asyncio.Future[None]",
        *,
        needs_closure: bool,
    ) -> None:
        super().__init__(context, server_side=False, host=host)
        self._protocol, self._needs_closure, self.established = protocol, needs_closure, established
        self._has_heard = self._has_ended = False

    # ---- asyncio.Protocol, for the TCP transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast(asyncio.Transport, transport)
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if not self._is_known:
            self._shake_hands()
        if self._is_open:
            self._read()

    def eof_received(self) -> None:
        if not self._is_known:
            self._fail(ConnectionResetError("the connection ended within the TLS handshake"))
        elif self._needs_closure and not self._has_ended:
            self._fail(ConnectionResetError("the connection ended without TLS's closure alert"))
        elif not self._has_ended:
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        if error and self._is_known:
            for data in arrived(self._tcp):
                self.data_received(data)
        error = self._error or error
        if not self.established.done():
            self.established.set_exception(error or ConnectionResetError("the connection was closed"))
        if self._is_known:
            self._protocol.connection_lost(error)

    # ---- asyncio.Transport, for the protocol above

    def can_write_eof(self) -> bool:
        return False

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
        self._is_open = self._is_known = True
        self._send()
        self._protocol.connection_made(self)
        if not self.established.done():
            self.established.set_result(None)

    def _hear(self, text: bytes) -> None:
        self._has_heard = True
        self._protocol.data_received(text)

    def _read(self) -> None:
        super()._read()
        if not self._has_heard:
            acknowledge_at_once(self._tcp)  # unacknowledged session tickets may delay an early answer

    def _send(self) -> None:
        super()._send()
        if not self._has_heard:
            acknowledge_at_once(self._tcp)

    def _end(self) -> None:
        """Report the peer's closure alert."""
        self._has_ended, self._is_open = True, False
        if not self._protocol.eof_received():
            self.close()

    def _fail(self, error: Exception) -> None:
        """Send TLS's alert about the error, if TLS has written an alert, and abort the connection."""
        self._error = self._error or error
        self._send()
        self._tcp.abort()
