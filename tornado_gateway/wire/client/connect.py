"""Opens connections to upstreams within a time limit: looks up names, connects to addresses, does TLS handshakes.

    origin ─► name? ─► resolver.py ─► addresses ─► race.py ─► socket ─► TLS ─► protocol
                address, or an address of its own ──┘

Addresses are never looked up, and a connection waits for the look-up of its own name only.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from tornado_gateway.errors import ConnectFailed, ConnectTimeout, NameTimeout, OutOfSockets, TLSFailed, UpstreamError
from tornado_gateway.policy.episode import Episode
from tornado_gateway.policy.http.target import Origin, is_address
from tornado_gateway.policy.upstream.connect_totals import ConnectTotals
from tornado_gateway.policy.upstream.connection_config import UpstreamTLSConfig
from tornado_gateway.wire.client.adopt import adopt
from tornado_gateway.wire.client.lack import is_lack
from tornado_gateway.wire.client.race import connect_first
from tornado_gateway.wire.client.resolver import Resolver, ResolverConfig
from tornado_gateway.wire.client.tls import connect_tls
from tornado_gateway.wire.tls_files import load_pair

# Share of the connect timeout after which cached addresses are used if a look-up is not done; RFC 8767 §5: 1.8 s.
PATIENCE = 1 / 3


PAIR = ("UPSTREAM_TLS_CERT", "UPSTREAM_TLS_KEY")

log = logging.getLogger("tornado_gateway")

P = TypeVar("P", bound=asyncio.Protocol)


@dataclass(frozen=True, slots=True)
class ConnectConfig:
    """How connections are opened.

    Attributes:
        timeout: seconds for look-up, connection and TLS handshake together; > 0.
        tls_verify: whether an https upstream must have a trusted certificate for its host.
        tls_ca_file: PEM file of trusted authorities; None for the system's.
        tls_closure: whether the end of a TLS connection without the closure alert is an error (RFC 9112 §9.8).
        names: how names are looked up.
    """

    timeout: float = 5.0
    tls_verify: bool = True
    tls_ca_file: str | None = None
    tls_closure: bool = True
    names: ResolverConfig = field(default_factory=ResolverConfig)

    @property
    def tls(self) -> UpstreamTLSConfig:
        """How TLS is spoken to origins without a way of their own."""
        return UpstreamTLSConfig(ca_file=self.tls_ca_file, verify=self.tls_verify)


def new_context(tls: UpstreamTLSConfig) -> ssl.SSLContext:
    """The settings of TLS to upstreams. OpenSSL takes about 50 ms for the system's authorities.

    Raises:
        OSError, ssl.SSLError: the CA file cannot be read.
        CannotUse: the certificate or the key cannot be used.
    """
    context = ssl.create_default_context(cafile=tls.ca_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate:
        load_pair(context, PAIR, tls.certificate, tls.key or tls.certificate)
    return context


class Connector:
    """Opens connections. Made inside a running event loop.

    Attributes:
        on_failure: called with the origin after each connection that failed by the origin.
        resolver: looks up the names of origins.
        totals: of all connections.
        contexts: settings of TLS that were made, by what these are made of; see UpstreamTLSConfig.without_name.
    """

    def __init__(self, config: ConnectConfig) -> None:
        self.on_failure: Callable[[Origin], object] = lambda _: None
        self.totals = ConnectTotals()
        self.resolver = Resolver(config.names, self.totals)
        self.contexts: Mapping[UpstreamTLSConfig, ssl.SSLContext] = {}
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._lack = Episode()  # of sockets, which may meet every request

    def reconfigure(self, config: ConnectConfig, contexts: Mapping[UpstreamTLSConfig, ssl.SSLContext] | None) -> None:
        """Open connections in another way from now on.

        Args:
            contexts: see contexts_for(); None if these stay.
        """
        self._config = config
        if contexts is not None:
            self.contexts = contexts
        self.resolver.reconfigure(config.names)

    def contexts_for(self, wanted: Iterable[UpstreamTLSConfig]) -> dict[UpstreamTLSConfig, ssl.SSLContext]:
        """The settings of TLS for what is wanted, and for origins without a way of their own, if there are such now.

        Files are read again, because the content may have changed. May be called in another thread.

        Raises: see new_context().
        """
        present = self.contexts
        needed = {each.without_name for each in wanted} | ({self._config.tls} & present.keys())
        return {each: new_context(each) if each.has_files else self._context(each) for each in needed}

    def load_contexts(self, wanted: Iterable[UpstreamTLSConfig]) -> None:
        """Make settings of TLS now instead of at the first https connection.

        OpenSSL takes about 50 ms for the system's authorities, and the event loop stands still meanwhile.

        Raises: see new_context().
        """
        self.contexts = self.contexts_for(wanted)

    def _context(self, tls: UpstreamTLSConfig) -> ssl.SSLContext:
        return self.contexts.get(tls) or new_context(tls)

    def _context_of(self, origin: Origin) -> ssl.SSLContext:
        tls = (origin.tls or self._config.tls).without_name
        if tls not in self.contexts:
            self.contexts = {**self.contexts, tls: new_context(tls)}
        return self.contexts[tls]

    async def connect(
        self, origin: Origin, factory: Callable[[], P], seconds: float | None = None, tls: ssl.SSLContext | None = None
    ) -> P:
        """Open a connection; return its protocol.

        Args:
            origin: where to connect.
            factory: makes the protocol.
            seconds: time limit; None for the configured timeout.
            tls: TLS context for an https origin; None for the configured context.

        Raises:
            ConnectTimeout: the time limit was reached.
            ConnectFailed: or a subclass for the step that failed.
            OutOfSockets: this machine can make no further connection; the origin is not to blame.
        """
        began = time.monotonic()
        try:
            protocol = await self._connect(origin, factory, seconds or self._config.timeout, tls)
        except UpstreamError as error:
            self.totals.failures[error.reason] += 1
            self.on_failure(origin)
            raise
        except OutOfSockets as error:
            self.totals.failures[error.reason] += 1
            self._tell_of_lack(error.__cause__)
            raise
        self.totals.connections.add(time.monotonic() - began)
        return protocol

    def _tell_of_lack(self, cause: BaseException | None) -> None:
        if self._lack.begins(self._loop.time()):
            log.error("cannot connect to services: %s", getattr(cause, "strerror", None) or "no descriptor is left")

    def close(self) -> None:
        """End all look-ups under way."""
        self.resolver.close()

    async def _connect(self, origin: Origin, factory: Callable[[], P], seconds: float, tls: ssl.SSLContext | None) -> P:
        late: type[ConnectTimeout] = NameTimeout
        try:
            async with self._limit(seconds) as lift:
                addresses = await self._addresses(origin, seconds * PATIENCE)
                late = ConnectTimeout
                return await self._open(origin, addresses, factory, tls, lift)
        except TimeoutError:
            raise late from None
        except ssl.SSLError as error:
            raise TLSFailed from error
        except (OSError, RuntimeError) as error:  # uvloop raises RuntimeError for some failures of connect()
            if is_lack(error):
                raise OutOfSockets from error
            self.resolver.forget(origin.host)
            raise ConnectFailed from error

    @asynccontextmanager
    async def _limit(self, seconds: float) -> AsyncIterator[Callable[[], None]]:
        """Raise TimeoutError after `seconds`, unless the limit is lifted by a call of what this context manager gives.

        The limit ends as much later as the event loop's timer was late, and at least one turn later: while the event
        loop stands still, an upstream's answer waits in the kernel, and no upstream is to blame for a busy gateway.
        """
        async with asyncio.timeout(None) as limit:
            due = time.monotonic() + seconds
            timer = self._loop.call_later(seconds, lambda: limit.reschedule(self._loop.time() + time.monotonic() - due))

            def lift() -> None:
                timer.cancel()
                limit.reschedule(None)

            try:
                yield lift
            finally:
                timer.cancel()

    async def _addresses(self, origin: Origin, patience: float) -> Sequence[str]:
        if origin.socket:
            return ()
        if origin.address or is_address(origin.host):
            return (origin.address or origin.host,)
        return await self.resolver.addresses(origin.host, patience)

    async def _open(
        self,
        origin: Origin,
        addresses: Sequence[str],
        factory: Callable[[], P],
        tls: ssl.SSLContext | None,
        lift: Callable[[], None],
    ) -> P:
        if origin.socket:
            return (await self._loop.create_unix_connection(factory, origin.socket))[1]
        sock = await connect_first(addresses, origin.port)
        try:
            if origin.scheme == "http":
                lift()  # adopt() does not wait for the peer
                return await adopt(factory, sock)
            context, began, name = tls or self._context_of(origin), time.monotonic(), origin.server_name
            protocol = await connect_tls(sock, factory, context, name, needs_closure=self._config.tls_closure)
            self.totals.handshakes.add(time.monotonic() - began)
            return protocol
        except BaseException:
            sock.close()
            raise
