"""Opens connections to upstreams: names, addresses, TLS, unix sockets, one bounded time for all of it.

Every address of a name is tried, IPv6 and IPv4 in turn, the next one 250 ms after the
last (RFC 8305). What a name resolved to is kept for `dns_ttl`; when a later look-up
fails, the old addresses go on being used, because a name server that is down says
nothing about the service. An origin that has an address of its own leads there only.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import aiohappyeyeballs

from tornado_gateway.errors import ConnectFailed, ConnectTimeout, NameNotResolved, TLSFailed, UpstreamError
from tornado_gateway.policy.target import Origin

ATTEMPT_DELAY = 0.25  # seconds before the next address is tried beside the last (RFC 8305 §5)

Address = tuple[str, int] | tuple[str, int, int, int]
AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, Address]
P = TypeVar("P", bound=asyncio.Protocol)


@dataclass(frozen=True, slots=True)
class ConnectConfig:
    """
    Attributes:
        timeout: seconds for name, connection and TLS handshake together; > 0.
        dns_ttl: seconds a name's addresses are kept; 0 asks each time.
        dns_family: socket.AF_INET or AF_INET6 for names' addresses of that family only; AF_UNSPEC for both.
        tls_verify: whether an https upstream must show a certificate for its host.
        tls_ca_file: PEM file of the authorities to trust instead of the system's, or None.
    """

    timeout: float = 5.0
    dns_ttl: float = 30.0
    dns_family: int = socket.AF_UNSPEC
    tls_verify: bool = True
    tls_ca_file: str | None = None


class Connector:
    """Opens connections, and remembers what names resolved to.

    Attributes:
        on_failure: called whenever no connection to an origin came about.

    Raises:
        OSError, ssl.SSLError: the CA file cannot be read.
    """

    def __init__(self, config: ConnectConfig) -> None:
        self.on_failure: Callable[[Origin], object] = lambda _: None
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._tls = ssl.create_default_context(cafile=config.tls_ca_file)
        if not config.tls_verify:
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE
        self._addresses: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}
        self._lookups: dict[tuple[str, int], asyncio.Task[list[AddressInfo]]] = {}

    async def connect(
        self, origin: Origin, factory: Callable[[], P], seconds: float | None = None, tls: ssl.SSLContext | None = None
    ) -> P:
        """Open a connection and give its protocol.

        Args:
            seconds: to take at most, instead of the configured ones.
            tls: context instead of the configured one, for an https origin.

        Raises:
            ConnectTimeout: nothing came of it in time.
            ConnectFailed: or a subclass that says what failed.
        """
        try:
            return await self._connect(origin, factory, seconds, tls)
        except UpstreamError:
            self.on_failure(origin)
            raise

    def close(self) -> None:
        """Give up look-ups that are under way."""
        for lookup in self._lookups.values():
            lookup.cancel()

    async def _connect(
        self, origin: Origin, factory: Callable[[], P], seconds: float | None, tls: ssl.SSLContext | None
    ) -> P:
        try:
            async with asyncio.timeout(seconds or self._config.timeout):
                return await self._open(origin, factory, tls)
        except TimeoutError:
            raise ConnectTimeout from None
        except ssl.SSLError as error:
            raise TLSFailed from error
        except (OSError, RuntimeError) as error:  # uvloop has a RuntimeError for some failures of connect()
            self._forget(origin.host, origin.port)
            raise ConnectFailed from error

    async def _open(self, origin: Origin, factory: Callable[[], P], tls: ssl.SSLContext | None) -> P:
        if origin.socket:
            return (await self._loop.create_unix_connection(factory, origin.socket))[1]
        addresses = await self._resolve(origin.address or origin.host, origin.port)
        sock = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=ATTEMPT_DELAY, interleave=1, loop=self._loop
        )
        try:
            if origin.scheme == "http":
                return (await self._loop.create_connection(factory, sock=sock))[1]
            context = tls or self._tls
            return (await self._loop.create_connection(factory, sock=sock, ssl=context, server_hostname=origin.host))[1]
        except BaseException:
            sock.close()
            raise

    async def _resolve(self, host: str, port: int) -> list[AddressInfo]:
        """The addresses of a host: itself if it is one, else from memory or the resolver."""
        key = (host, port)
        if (literal := _address_literal(host, port)) is not None:
            return [literal]
        expires, known = self._addresses.get(key, (0.0, []))
        if known and self._loop.time() < expires:
            return known
        if key not in self._lookups:
            lookup = self._lookups[key] = self._loop.create_task(self._look_up(host, port))
            lookup.add_done_callback(lambda done: self._looked_up(key, done))
        try:
            return await asyncio.shield(self._lookups[key])
        except NameNotResolved:
            if known:
                return known
            raise

    def _looked_up(self, key: tuple[str, int], lookup: asyncio.Task[list[AddressInfo]]) -> None:
        del self._lookups[key]
        if not lookup.cancelled():
            lookup.exception()  # looked at here, for when all who asked have left

    def _forget(self, host: str, port: int) -> None:
        """Ask for a host's addresses again before the next connection; the old ones remain as the last resort."""
        if (host, port) in self._addresses:
            self._addresses[host, port] = (0.0, self._addresses[host, port][1])

    async def _look_up(self, host: str, port: int) -> list[AddressInfo]:
        try:
            found = await self._loop.getaddrinfo(host, port, family=self._config.dns_family, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: an empty label, or one of more than 63 bytes
            raise NameNotResolved from error
        if not found:
            raise NameNotResolved
        addresses: list[AddressInfo] = [(family, kind, proto, "", address) for family, kind, proto, _, address in found]  # type: ignore[misc]
        self._addresses[host, port] = (self._loop.time() + self._config.dns_ttl, addresses)
        return addresses


def _address_literal(host: str, port: int) -> AddressInfo | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 4:
        return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))
    return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))
