"""The entrance of a listener with the PROXY protocol: reads the header, and hands the connection on.

See policy/proxy_protocol.py for the headers. A connection without a header, with a wrong one, or from a peer that is
no trusted proxy is closed without an answer: the listener would otherwise take the word of anybody.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from tornado_gateway.policy.http.address import NO_ADDRESS, Address, Network, of_peer
from tornado_gateway.policy.proxy_protocol import NotProxied, read_header
from tornado_gateway.wire.server.tls import ArrivalOwner


class Addressed(Protocol):
    """The protocol behind the entrance: a ServerTLS or a ServerConnection.

    Attributes:
        peer: set before connection_made(), unless the address is that of the socket's peer.
    """

    peer: Address

    def connection_made(self, transport: asyncio.BaseTransport, /) -> None: ...

    def data_received(self, data: bytes, /) -> None: ...


class ProxiedEntrance(asyncio.Protocol):
    """An Arrival that reads the header of the PROXY protocol.

    Args:
        owner: the server.
        proxies: networks of the peers that may connect. The mode of a unix socket says who may connect there.
        make: makes the protocol behind the header.

    Attributes:
        deadline: see Arrival.
    """

    __slots__ = ("_buffer", "_make", "_owner", "_proxies", "_transport", "deadline")

    _transport: asyncio.Transport

    def __init__(self, owner: ArrivalOwner, proxies: Sequence[Network], make: Callable[[], Addressed]) -> None:
        self._owner, self._proxies, self._make = owner, proxies, make
        self._buffer = b""
        self.deadline = owner.context.loop.time() + owner.context.config.header_timeout

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        is_trusted = not isinstance(peer, tuple) or of_peer(peer[0]).is_in(self._proxies)  # unix: the mode decides
        if not (is_trusted and self._owner.arrived(self)):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._transport.is_closing():
            return
        try:
            header = read_header(self._buffer)
        except NotProxied:
            self.abort()
            return
        if header:
            self._hand_on(header.client, self._buffer[header.size :])

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.departed(self)

    # ---- Arrival

    def expire(self) -> None:
        """See Arrival."""
        self.abort()

    def abort(self) -> None:
        """See Arrival."""
        self._transport.abort()

    def _hand_on(self, client: Address, rest: bytes) -> None:
        behind = self._make()
        if client is not NO_ADDRESS:
            behind.peer = client
        self._transport.set_protocol(cast(asyncio.BaseProtocol, behind))
        behind.connection_made(self._transport)
        self._owner.departed(self)
        if rest:
            behind.data_received(rest)
