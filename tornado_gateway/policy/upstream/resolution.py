"""Which endpoints a service has, by what its host names resolve to.

policy/upstream/membership.py says which endpoints these are; this module makes and remembers the endpoints.

Each address is an endpoint of its own, of the configured weight. Its requests have the name in their Host
field and its TLS certificate must show the name; only the address that it is connected to differs.

What stays as it is configured: addresses, because there is nothing to look up; unix sockets; localhost, whose
IPv4 and IPv6 addresses are the same host; and a name that has never been resolved, so that the gateway
serves before its name server does.

An endpoint that stays is the same object, with all that is known about it. One that has left is remembered while
something is in flight there, and for a while after: there are name servers that answer with another part
of a long list each time.
"""

import ipaddress
from collections.abc import Callable, Iterable

from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.hosts import Family
from tornado_gateway.policy.upstream.service import Service

KEPT = 60.0  # seconds that an endpoint with nothing in flight is remembered after it has left

MakeEndpoint = Callable[[str, int], Endpoint]  # from its URL and weight


def usable(addresses: Iterable[str], family: Family) -> tuple[str, ...]:
    """Those of a name's addresses that are used, each once, in ascending order: the same in all gateways.

    None are link-local of IPv6: these need a zone, which the look-up of a name does not always tell.

    >>> usable(["10.0.0.10", "fd00::1", "10.0.0.9", "10.0.0.10"], Family.AUTO)
    ('10.0.0.9', '10.0.0.10')
    """
    given = {ipaddress.ip_address(each) for each in addresses}
    reachable = [each for each in given if each.version == 4 or not each.is_link_local]
    found = sorted(reachable, key=lambda each: (each.version, int(each)))
    version = {Family.IPV4: 4, Family.IPV6: 6}.get(family)
    if family is Family.AUTO and found:
        version = found[0].version
    return tuple(str(each) for each in found if version in (None, each.version))


class Resolution:
    """Keeps a service's endpoints as its names resolve.

    Args:
        service: as it is configured.
        make: gives a new endpoint of the service.

    Attributes:
        names: that are to be resolved.
        departed: endpoints that have left and are remembered, with the instant at which they did.
    """

    def __init__(self, service: Service, make: MakeEndpoint) -> None:
        self._service, self._make = service, make
        self.names = service.membership.names
        self.departed: dict[Endpoint, float] = {}

    def use(self, name: str, addresses: tuple[str, ...], now: float) -> bool:
        """A name has these addresses; its others have left. Whether that is news.

        Args:
            addresses: at least one, as usable() gives them.
        """
        membership = self._service.membership
        before = membership.addresses(name)
        if addresses == before:
            return False
        membership.discover(name, addresses)
        weights = membership.wanted()
        known = {each.url: each for each in (*self.departed, *self._service.endpoints)}
        endpoints = [known.get(url) or self._make(url, weight) for url, weight in weights.items()]
        self._see_off(endpoints, now)
        # What takes the place of the name as such is not new, and need not begin slowly.
        self._service.replace_endpoints(endpoints, None if before is None else now, weights)
        return True

    def forget(self, now: float) -> None:
        """Forget those that left long ago."""
        for endpoint in [each for each, since in self.departed.items() if not each.load and now - since >= KEPT]:
            del self.departed[endpoint]

    def _see_off(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Note who leaves, and who is back."""
        present = set(endpoints)
        for endpoint in self._service.endpoints:
            if endpoint not in present:
                self.departed[endpoint] = now
        for endpoint in present & self.departed.keys():
            del self.departed[endpoint]
