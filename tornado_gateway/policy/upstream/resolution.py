"""Discovery of endpoints: the addresses of a service's host names become endpoints.

    name ─► addresses ─► policy/upstream/membership.py: which URLs ─► this module: which Endpoint objects ─► service

Each address is an endpoint of the configured weight. Requests keep the name in the Host field, and the TLS certificate
must show the name; only the address of the connection differs.

These base URLs stay as configured: addresses; unix sockets; localhost, whose IPv4 and IPv6 addresses are one host; and
a name that was never resolved, so that the gateway serves before the name server does.

An endpoint that stays in the answers is the same object, with everything known about the endpoint. An endpoint that has
left is remembered while requests are in flight there, and for KEEP_DEPARTED seconds more: some name servers answer with
a different part of a long list each time.
"""

import random
from collections.abc import Callable, Iterable, Mapping

from tornado_gateway.policy.upstream.breaker import Breaker
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig

KEEP_DEPARTED = 60.0  # seconds that an endpoint is remembered after leaving

MakeEndpoint = Callable[[str, int], Endpoint]  # from a URL and a weight


def new_endpoint(url: str, weight: int, config: ServiceConfig, rng: random.Random, now: float) -> Endpoint:
    """A new endpoint of a service with this configuration."""
    return Endpoint(url, Breaker(config.breaker, rng), weight, now, config.connection.tls)


class Resolution:
    """Updates a service's endpoints when host names resolve to other addresses.

    Args:
        service: with the configured endpoints.
        make: makes a new endpoint of the service.

    Attributes:
        departed: remembered endpoints that have left, with the instant of leaving.
    """

    def __init__(self, service: Service, make: MakeEndpoint) -> None:
        self._service, self._make = service, make
        self._followed = -1  # the membership's version at the last follow(); -1 before the first
        self.departed: dict[Endpoint, float] = {}

    @property
    def names(self) -> frozenset[str]:
        """Host names to resolve."""
        return self._service.membership.names

    @property
    def is_behind(self) -> bool:
        """Whether base URLs have been added or removed since the last follow()."""
        return self._followed != self._service.membership.version

    def follow(self, now: float) -> None:
        """Make the endpoints agree with the membership.

        While sources have told no endpoint yet, the last endpoints stay: a service may just have got the sources.
        """
        membership = self._service.membership
        self._followed = membership.version
        weights = membership.wanted()
        if not weights and membership.sources:
            return
        if weights != {endpoint.url: endpoint.weight for endpoint in self._service.endpoints}:
            self._replace(weights, now, now)

    def use(self, name: str, addresses: tuple[str, ...], now: float) -> bool:
        """Replace the addresses of a name.

        Args:
            addresses: the result of usable() in policy/upstream/hosts.py; not empty.

        Returns:
            Whether the addresses have changed.
        """
        membership = self._service.membership
        before = membership.addresses(name)
        if addresses == before:
            return False
        membership.discover(name, addresses)
        # The first addresses of a configured name have no slow start: so far, requests went to the name itself.
        is_new = before is not None or not membership.is_configured(name)
        self._replace(membership.wanted(), now, now if is_new else None)
        return True

    def _replace(self, weights: Mapping[str, int], now: float, joins_at: float | None) -> None:
        """Replace the service's endpoints by the endpoints of these URLs.

        Args:
            joins_at: instant at which slow start of new endpoints begins; None without slow start.
        """
        known = {each.url: each for each in (*self.departed, *self._service.endpoints)}
        endpoints = [known.get(url) or self._make(url, weight) for url, weight in weights.items()]
        self._note_departures(endpoints, now)
        self._service.replace_endpoints(endpoints, joins_at, weights)

    def forget(self, now: float) -> None:
        """Forget idle endpoints that left KEEP_DEPARTED seconds ago or earlier."""
        for endpoint in [
            each for each, since in self.departed.items() if not each.load and now - since >= KEEP_DEPARTED
        ]:
            del self.departed[endpoint]

    def _note_departures(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Note which endpoints leave, and which have returned: these get the service's present configuration."""
        present = set(endpoints)
        for endpoint in self._service.endpoints:
            if endpoint not in present:
                self.departed[endpoint] = now
        for endpoint in present & self.departed.keys():
            del self.departed[endpoint]
            endpoint.reconfigure(self._service.config.breaker, self._service.config.connection.tls)
