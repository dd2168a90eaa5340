"""Which endpoints a service should have: what three sources say, merged.

    configured    base URLs and weights
    discovered    the addresses of host names
    operator      weights, drains and additions, made while the gateway runs

Each source writes only what the source knows, and the merge reads all three. So the order in which sources speak does
not matter, and an operator's drain survives the next answer of a name server. (Pingora: discovery x enablement x
health, as three maps.)

    configured                    discovered              endpoints
    http://billing:8080/base  ─►  10.0.0.7, 10.0.0.8  ─►  http://billing:8080/base#10.0.0.7
                                                          http://billing:8080/base#10.0.0.8
    http://10.0.0.9:8080      ──────────────────────────► http://10.0.0.9:8080
    http://mail.internal      ─►  not yet             ─►  http://mail.internal

Two URLs of a service may lead to the same place: the same address, port and base path. That is one endpoint: the first
in the configuration, or the one that names the address. Its weight is the largest of the URLs' weights, because a
weight is what an instance bears, and an instance bears no more for being named twice.
"""

from collections.abc import Iterator, Mapping

from tornado_gateway.policy.http.target import Origin, is_address, parse_base_url
from tornado_gateway.policy.upstream.hosts import is_localhost

_Place = tuple[object, ...]


def is_resolvable(origin: Origin) -> bool:
    """Whether an origin has a name that stands for addresses which may change."""
    return not (origin.socket or origin.address or is_localhost(origin.host) or is_address(origin.host))


class Membership:
    """
    Args:
        configured: weights by base URL, in the order of the configuration.
    """

    def __init__(self, configured: Mapping[str, int]) -> None:
        self._configured = dict(configured)
        self._addresses: dict[str, tuple[str, ...]] = {}  # by name
        self._added: dict[str, int] = {}  # by an operator: weights by base URL
        self._weights: dict[str, int] = {}  # that an operator has set, by the URL of an endpoint

    # ---- the sources

    def configure(self, configured: Mapping[str, int]) -> None:
        """The configuration has changed. What was discovered and what an operator has set stays."""
        self._configured = dict(configured)

    def discover(self, name: str, addresses: tuple[str, ...]) -> None:
        """A host name has these addresses, and no others."""
        self._addresses[name] = addresses

    def add(self, url: str, weight: int) -> None:
        """An operator adds a base URL; a host name in the URL is one endpoint for each address."""
        self._added[url] = weight

    def set_weight(self, url: str, weight: int) -> None:
        """An operator sets an endpoint's weight; 0 drains the endpoint.

        Args:
            url: of the endpoint, with the address behind "#" if the endpoint was discovered.
        """
        self._weights[url] = weight

    def release(self, url: str) -> None:
        """Take back what an operator has said of a URL."""
        self._added.pop(url, None)
        self._weights.pop(url, None)

    # ---- the merge

    @property
    def names(self) -> frozenset[str]:
        """Host names that are to be resolved."""
        origins = [parse_base_url(url)[0] for url in (*self._configured, *self._added)]
        return frozenset(origin.host for origin in origins if is_resolvable(origin))

    def addresses(self, name: str) -> tuple[str, ...] | None:
        """Of a host name; None if the name was never discovered."""
        return self._addresses.get(name)

    def wanted(self) -> dict[str, int]:
        """Weights of all endpoints that there should be, by URL: configured URLs first, then added URLs."""
        places: dict[_Place, tuple[str, int]] = {}
        for base, weight in (self._configured | {url: self._added[url] for url in sorted(self._added)}).items():
            for place, url in self._leads_to(base):
                first, largest = places.get(place, (url, weight))
                places[place] = (url if url == base else first, max(weight, largest))
        weights: dict[str, int] = {}
        for url, weight in places.values():
            weights[url] = self._weights.get(url, max(weight, weights.get(url, 0)))
        return weights

    def _leads_to(self, base: str) -> Iterator[tuple[_Place, str]]:
        """Where a base URL leads: each place, and the URL of the endpoint there."""
        origin, path = parse_base_url(base)
        if origin.host in self._addresses and is_resolvable(origin):
            for address in self._addresses[origin.host]:
                yield (origin.scheme, address, origin.port, path), f"{base}#{address}"
        elif is_address(origin.host) and not origin.address:
            yield (origin.scheme, origin.host, origin.port, path), base
        else:
            yield (base,), base
