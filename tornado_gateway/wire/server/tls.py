"""The server's side of TLS. See wire/tls.py for how TLS is spoken.

    accept ─► ServerTLS ─► handshake ─► ServerConnection
                 │  no byte, or half a handshake: ended at the deadline
                 │  plain HTTP: 400 as plain text
                 ▼  not TLS, or no common ground: TLS's alert

OpenSSL's state of a connection is made when the first bytes come: a client that connects and says nothing costs no
cryptography, and little memory. Each connection ends with TLS's closure alert (RFC 9112 §9.8), behind which the
client's bytes are counted and dropped undecrypted.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Protocol, cast

from tornado_gateway.policy.http.address import NO_ADDRESS, Address
from tornado_gateway.wire.server.certificates import Certificates, ServerSide, client_certificate
from tornado_gateway.wire.server.connection import ServerConnection
from tornado_gateway.wire.server.context import ServerContext
from tornado_gateway.wire.server.lingering import LINGER
from tornado_gateway.wire.tls import TLSTransport

FEED = 32 * 1024  # bytes of ciphertext that OpenSSL gets at once, because its memory buffers never shrink
_HANDSHAKE = 0x16  # type of the first record (RFC 8446 §5.1)
_TOLD = b"The plain HTTP request was sent to an HTTPS port.\n"
_PLAIN = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
    % (len(_TOLD), _TOLD)
)


class Arrival(Protocol):
    """A connection that has not yet become a ServerConnection.

    Attributes:
        deadline: instant (loop time) at which the client has had its time.
    """

    deadline: float

    def expire(self) -> None:
        """End the connection, whose client has had its time."""

    def abort(self) -> None:
        """End the connection at once."""


class ArrivalOwner(Protocol):
    """The server, as an Arrival uses it; see HTTPServer."""

    context: ServerContext

    def arrived(self, arrival: Arrival, /) -> bool:
        """Add an arrival; False if the server is full."""

    def departed(self, arrival: Arrival, /) -> None:
        """Remove an arrival, which has become a connection, or has ended."""


class ServerTLS(TLSTransport):
    """The server's side of a TLS connection.

    Args:
        owner: the server.
        certificates: what clients get.
        make: makes the protocol once the handshake is done.

    Attributes:
        deadline: see Arrival.
        peer: the client's address, if it is not the address of the socket's peer; NO_ADDRESS for the socket's.
    """

    __slots__ = ("_certificates", "_has_ended", "_make", "_owner", "_stays", "deadline", "peer")

    def __init__(  # the base makes OpenSSL's state, which comes later here
        self, owner: ArrivalOwner, certificates: Certificates, make: Callable[[], ServerConnection]
    ) -> None:
        self._owner, self._certificates, self._make = owner, certificates, make
        self.deadline = owner.context.loop.time() + owner.context.config.header_timeout
        self.peer: Address = NO_ADDRESS
        self._is_known = self._is_open = False
        self._has_ended = False  # whether bytes of the client are dropped
        self._stays = False  # whether the client has half-closed, and waits for the response

    # ---- asyncio.Protocol, for the TCP transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast(asyncio.Transport, transport)
        if not self._owner.arrived(self):
            self._has_ended = True
            self._tcp.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_open:
            if len(data) <= FEED:
                self._incoming.write(data)
                self._read()
            else:
                self._read_in_parts(memoryview(data))
        elif self._has_ended:
            if self._is_known:
                self._protocol.data_received(data)  # which lingers, and counts
        elif hasattr(self, "_ssl") or self._begins(data):
            self._incoming.write(data)
            self._shake_hands()

    def _read_in_parts(self, data: memoryview) -> None:
        for at in range(0, len(data), FEED):
            if self._is_open and not self._tcp.is_closing():
                self._incoming.write(data[at : at + FEED])
                self._read()

    def eof_received(self) -> bool:
        if not self._is_known:
            return False
        if self._is_open:
            self._has_ended, self._is_open = True, False
            return bool(self._protocol.eof_received())
        return self._stays or bool(self._protocol.eof_received())

    def connection_lost(self, error: Exception | None) -> None:
        if self._is_known:
            self._protocol.connection_lost(self._error or error)
        else:
            self._owner.context.tls.abandoned += not self._has_ended
            self._owner.departed(self)

    # ---- Arrival

    def expire(self) -> None:
        """See Arrival."""
        self.abort()

    # ---- asyncio.Transport, for the protocol above

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Send the closure alert and a FIN; what the client still sends is handed on undecrypted, to be dropped."""
        self._has_ended, self._is_open = True, False
        self._alert_closure()
        self._tcp.write_eof()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._ssl if name == "ssl_object" else self._tcp.get_extra_info(name, default)

    # ---- between the TCP transport and the protocol

    def _begins(self, data: bytes) -> bool:
        """Begin TLS, unless the first byte is not TLS."""
        if data[0] != _HANDSHAKE and data[:1].isalpha():
            self._refuse_plain()
            return False
        super().__init__(self._certificates.front, server_side=True)
        return True

    def _refuse_plain(self) -> None:
        """Answer plain HTTP, which browsers speak when a URL says "http:"."""
        self._has_ended = True
        self.deadline = self._owner.context.loop.time() + LINGER
        self._owner.context.tls.plain += 1
        self._tcp.write(_PLAIN)
        with contextlib.suppress(OSError):
            self._tcp.write_eof()

    def _shake_hands(self) -> None:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
        except ssl.SSLError as error:
            self._owner.context.tls.failed += 1
            self._fail(error)
        else:
            self._open()

    def _open(self) -> None:
        """Begin the connection: the handshake is done."""
        totals, tls = self._owner.context.tls, self._ssl
        totals.handshakes += 1
        totals.resumed += bool(tls.session_reused)
        self._is_open = self._is_known = True
        protocol = self._protocol = self._make()
        if self.peer is not NO_ADDRESS:
            protocol.peer = self.peer
        if isinstance(tls, ServerSide) and tls.context.verify_mode:
            protocol.certificate = client_certificate(tls)
        self._send()
        protocol.connection_made(self)
        self._owner.departed(self)
        if self._incoming.pending and self._is_open:
            self._read()

    def _end(self) -> None:
        """Report the client's closure alert."""
        self._has_ended, self._is_open = True, False
        self._stays = bool(self._protocol.eof_received())
        if not self._stays:
            self.close()

    def _fail(self, error: Exception) -> None:
        """Send TLS's alert about the error, and close the connection."""
        self._has_ended, self._is_open = True, False
        self._error = self._error or error
        self._send()
        self._tcp.close()
