"""The addresses of names: from the hosts file, from name servers, and from a cache.

    look_up(name)    asks name servers, or joins a look-up under way    for discovery.py, on its own schedule
    addresses(name)  from the cache for `ttl` seconds, else look_up()   for connect.py, for a connection

A failed look-up leaves the cache unchanged, because the failure of a name server says nothing about a service. Cached
addresses are also used while a look-up takes long (RFC 8767 §5).
"""

import asyncio
import math
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tornado_gateway.errors import ConnectFailed, ConnectTimeout, OutOfSockets
from tornado_gateway.policy.upstream.connect_totals import ConnectTotals
from tornado_gateway.policy.upstream.hosts import LOOPBACK, Family, hosts_addresses, is_localhost
from tornado_gateway.policy.upstream.resolv_conf import ResolvConf, parse_resolv_conf
from tornado_gateway.policy.upstream.srv_records import Record
from tornado_gateway.wire.client.lack import is_lack
from tornado_gateway.wire.client.look_up import Answer, LookUp, RecordLookUp

HOSTS = "/etc/hosts"
RESOLV_CONF = "/etc/resolv.conf"
RESEND = 2.0  # seconds until a single name server is asked a second time; with several, c-ares asks the next
_FAMILIES = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
RECHECK = 5.0  # seconds after a failed look-up during which cached addresses are used (RFC 8767 §5)


@dataclass(frozen=True, slots=True)
class ResolverConfig:
    """How names are looked up.

    Attributes:
        ttl: seconds that a name's addresses are cached, whatever the TTL of the answer; 0 for no caching.
        family: address family to look up.
        resolv_conf: path of a file in the format of resolv.conf(5), read for each look-up; `nameserver` lines may
            have a port. None for the system's file.
        hosts: path of a file in the format of hosts(5), read for each look-up; None for the system's file.
        timeout: greatest duration of a look-up in seconds, over all name servers and names of the search list; > 0.
            The default is the C library's time for a silent server.
    """

    ttl: float = 30.0
    family: Family = Family.AUTO
    resolv_conf: str | None = None
    hosts: str | None = None
    timeout: float = 10.0


@dataclass(slots=True)
class _Known:
    """The cached addresses of a name, and the instant after which the name is looked up again."""

    addresses: Answer
    expires: float


class Resolver:
    """Looks up names, and caches their addresses. Made inside a running event loop.

    A name has at most one look-up under way, so look-ups never outnumber the names in the configuration. A look-up
    has two descriptors, or four when TCP is needed.

    Args:
        totals: count the look-ups.
    """

    def __init__(self, config: ResolverConfig, totals: ConnectTotals | None = None) -> None:
        self._config, self._totals = config, totals or ConnectTotals()
        self._family = _FAMILIES.get(config.family, socket.AF_UNSPEC)
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, _Known] = {}
        self._under_way: dict[str, LookUp] = {}

    def reconfigure(self, config: ResolverConfig) -> None:
        """Look names up in another way from now on. Addresses of another family are forgotten."""
        if config.family is not self._config.family:
            self._known.clear()
        self._config, self._family = config, _FAMILIES.get(config.family, socket.AF_UNSPEC)

    async def look_up(self, name: str) -> Answer:
        """Look up a name, past the cache; return at least one address.

        Raises:
            NameNotResolved: the name has no address, or the name servers failed.
            NameTimeout: no name server answered in time.
            OutOfSockets: no descriptor is left to ask with.
        """
        if found := self._found_here(name):
            return self._remember(name, found)
        lookup = self._ask(name)
        await asyncio.wait([lookup.answer])
        return lookup.answer.result()

    async def records(self, name: str) -> tuple[Record, ...]:
        """The records of type SRV of a name, of which there is at least one. Nothing is cached.

        Raises:
            NameNotResolved, NameTimeout, OutOfSockets: see look_up().
        """
        lookup = RecordLookUp(self._loop, name, socket.AF_UNSPEC, self._servers(), self._config.timeout)
        try:
            await asyncio.wait([lookup.answer])
        finally:
            lookup.close()
        lookup.answer.result()
        return lookup.records

    async def addresses(self, name: str, patience: float) -> Sequence[str]:
        """The cached addresses of a name, or else the result of a look-up.

        Args:
            patience: seconds from the beginning of a look-up after which expired addresses of the cache are used.

        Raises:
            NameNotResolved, NameTimeout, OutOfSockets: the look-up failed, and the cache has no addresses; see
                look_up().
        """
        known = self._known.get(name)
        if known is None:
            return await self.look_up(name)
        if self._loop.time() < known.expires:
            return known.addresses
        try:
            async with asyncio.timeout_at(self._began(name) + patience):
                return await self.look_up(name)
        except (ConnectFailed, ConnectTimeout, OutOfSockets, TimeoutError):
            return known.addresses

    def forget(self, name: str) -> None:
        """Expire the cached addresses of a name after a failed connection; they remain as a fallback."""
        if name in self._known:
            self._known[name].expires = -math.inf

    def close(self) -> None:
        """End all look-ups under way."""
        for lookup in self._under_way.values():
            lookup.close()

    def _began(self, name: str) -> float:
        lookup = self._under_way.get(name)
        return lookup.began if lookup else self._loop.time()

    def _found_here(self, name: str) -> Answer:
        """Addresses from the hosts file, or the loopback addresses of localhost; () if name servers must be asked."""
        listed = self._of_family(hosts_addresses(_text(self._config.hosts or HOSTS), name))
        return listed or (self._of_family(LOOPBACK) if is_localhost(name) else ())

    def _servers(self) -> ResolvConf:
        environ = os.environ  # resolv.conf(5): both override the file
        search = f"search {environ['LOCALDOMAIN']}" if "LOCALDOMAIN" in environ else ""
        options = f"options {environ.get('RES_OPTIONS', '')}"
        return parse_resolv_conf("\n".join((_text(self._config.resolv_conf or RESOLV_CONF), search, options)))

    def _of_family(self, addresses: Answer) -> Answer:
        unwanted = {socket.AF_INET: True, socket.AF_INET6: False}.get(self._family)
        return tuple(each for each in addresses if (":" in each) is not unwanted)

    def _ask(self, name: str) -> LookUp:
        lookup = self._under_way.get(name)
        if lookup is None:
            conf = self._servers()
            lookup = self._begin(name, conf)
            if len(conf.servers) < 2 and not conf.timeout:
                again = self._loop.call_later(RESEND, self._ask_again, name, conf, lookup)
                lookup.answer.add_done_callback(lambda _: again.cancel())
            self._under_way[name] = lookup
            lookup.answer.add_done_callback(lambda answer: self._answered(name, answer))
        return lookup

    def _begin(self, name: str, conf: ResolvConf) -> LookUp:
        return LookUp(self._loop, name, self._family, conf, self._config.timeout)

    def _ask_again(self, name: str, conf: ResolvConf, first: LookUp) -> None:
        """Start a second look-up beside the first; the first goes on, since its server may just be slow."""
        second = self._begin(name, conf)
        second.answer.add_done_callback(first.take)
        first.answer.add_done_callback(lambda _: second.close())

    def _answered(self, name: str, answer: "asyncio.Future[Answer]") -> None:
        self._totals.look_ups.add(self._loop.time() - self._under_way.pop(name).began)
        if not answer.exception():
            self._remember(name, answer.result())
            return
        self._totals.failed_look_ups += 1
        if name in self._known:
            self._known[name].expires = self._loop.time() + RECHECK  # RFC 8767 §5: the failure recheck timer

    def _remember(self, name: str, addresses: Answer) -> Answer:
        self._known[name] = _Known(addresses, self._loop.time() + self._config.ttl)
        return addresses


def _text(path: str) -> str:
    """The text of a file; "" if the file cannot be read, as the C library does.

    Raises:
        OutOfSockets: no descriptor is left to read the file with.
    """
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError as error:
        if is_lack(error):
            raise OutOfSockets from error
        return ""
