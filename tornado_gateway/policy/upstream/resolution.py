"""Which endpoints a service has, by what its host names resolve to.

    configured                    resolved                endpoints
    http://billing:8080/base  ─►  10.0.0.7, 10.0.0.8  ─►  http://billing:8080/base#10.0.0.7
                                                          http://billing:8080/base#10.0.0.8
    http://10.0.0.9:8080      ──────────────────────────► http://10.0.0.9:8080
    http://mail.internal      ─►  not yet             ─►  http://mail.internal

Each address is an endpoint of its own, of the configured weight. Its requests have the name in their Host
field and its TLS certificate must show the name; only the address that it is connected to differs.

What stays as it is configured: addresses, because there is nothing to look up; unix sockets; localhost, whose
IPv4 and IPv6 addresses are the same host; and a name that has never been resolved, so that the gateway
serves before its name server does.

An endpoint that stays is the same object, with all that is known about it. One that has left is remembered while
something is in flight there, and for a while after: there are name servers that answer with another part
of a long list each time.

Two of a service's URLs may lead to the same place: the same address, port and base path. That is one endpoint, the one
that is configured first, or by its address; its weight is the largest of theirs, because a weight is what an instance
bears, and it bears no more for being named twice.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping

from tornado_gateway.policy.http.target import Origin, is_address
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.hosts import Family, is_localhost
from tornado_gateway.policy.upstream.service import Service

KEPT = 60.0  # seconds that an endpoint with nothing in flight is remembered after it has left

MakeEndpoint = Callable[[str, int], Endpoint]  # from its URL and weight
_Place = tuple[object, ...]


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


def is_resolvable(origin: Origin) -> bool:
    """Whether an origin has a name that stands for addresses which may change."""
    return not (origin.socket or origin.address or is_localhost(origin.host) or is_address(origin.host))


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
        self._configured = [(endpoint, endpoint.weight) for endpoint in service.endpoints]
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._weights = {endpoint.url: weight for endpoint, weight in self._configured}
        self.names = frozenset(each.origin.host for each in service.endpoints if is_resolvable(each.origin))
        self.departed: dict[Endpoint, float] = {}

    def use(self, name: str, addresses: tuple[str, ...], now: float) -> bool:
        """A name has these addresses; its others have left. Whether that is news.

        Args:
            addresses: at least one, as usable() gives them.
        """
        before = self._addresses.get(name)
        if addresses == before:
            return False
        self._addresses[name] = addresses
        weights = self._wanted()
        known = {each.url: each for each in (*self.departed, *self._service.endpoints)}
        endpoints = [known.get(url) or self._make(url, weight) for url, weight in weights.items()]
        self._weigh(endpoints, weights)
        self._see_off(endpoints, now)
        # What takes the place of the name as such is not new, and need not begin slowly.
        self._service.replace_endpoints(endpoints, None if before is None else now)
        return True

    def forget(self, now: float) -> None:
        """Forget those that left long ago."""
        for endpoint in [each for each, since in self.departed.items() if not each.load and now - since >= KEPT]:
            del self.departed[endpoint]

    def _weigh(self, endpoints: Iterable[Endpoint], weights: Mapping[str, int]) -> None:
        """Give endpoints their weights where these have changed; whoever else has changed one may have had a reason."""
        for endpoint in endpoints:
            if self._weights.get(endpoint.url) != weights[endpoint.url]:
                endpoint.weight = weights[endpoint.url]
        self._weights = dict(weights)

    def _see_off(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Note who leaves, and who is back."""
        present = set(endpoints)
        for endpoint in self._service.endpoints:
            if endpoint not in present:
                self.departed[endpoint] = now
        for endpoint in present & self.departed.keys():
            del self.departed[endpoint]
            endpoint.checks_pass = True  # its health checks begin anew

    def _wanted(self) -> dict[str, int]:
        """URLs of all endpoints that there should be, with their weights, in the order of the configuration."""
        places: dict[_Place, tuple[str, int]] = {}
        for endpoint, weight in self._configured:
            for place, url in self._leads_to(endpoint):
                first, largest = places.get(place, (url, weight))
                places[place] = (url if url == endpoint.url else first, max(weight, largest))
        weights: dict[str, int] = {}
        for url, weight in places.values():
            weights[url] = max(weight, weights.get(url, 0))
        return weights

    def _leads_to(self, endpoint: Endpoint) -> Iterator[tuple[_Place, str]]:
        """Where a configured endpoint leads, with the URL for each place."""
        origin = endpoint.origin
        if origin.host in self._addresses and is_resolvable(origin):
            for address in self._addresses[origin.host]:
                yield (origin.scheme, address, origin.port, endpoint.base_path), f"{endpoint.url}#{address}"
        elif is_address(origin.host) and not origin.address:
            yield (origin.scheme, origin.host, origin.port, endpoint.base_path), endpoint.url
        else:
            yield (endpoint.url,), endpoint.url
