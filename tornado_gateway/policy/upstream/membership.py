"""Membership: which endpoints a service should have, merged from several sources.

    configured    base URLs and weights; a URL may name a source (policy/upstream/sources.py)
    sourced       the base URLs that such a source has told
    discovered    the addresses of host names
    operator      weights, drains and additions, made while the gateway runs

Each source writes a map of its own, and the merge reads all maps. The order of the writes therefore does not
matter, and an operator's drain survives the next answer of a name server. (Pingora: discovery x enablement x health.)

    configured                    discovered              endpoints
    http://billing:8080/base  ─►  10.0.0.7, 10.0.0.8  ─►  http://billing:8080/base#10.0.0.7
                                                          http://billing:8080/base#10.0.0.8
    http://10.0.0.9:8080      ──────────────────────────► http://10.0.0.9:8080
    http://mail.internal      ─►  not yet             ─►  http://mail.internal

Two URLs of a service with the same address, port and base path are one endpoint, with the URL that names the address,
else the first configured URL. The weight is the maximum of the two weights: a weight is the capacity of an instance,
and a second URL adds no capacity.
"""

from collections.abc import Iterable, Iterator, Mapping

from tornado_gateway.policy.http.target import Origin, is_address, parse_base_url
from tornado_gateway.policy.upstream.hosts import is_localhost
from tornado_gateway.policy.upstream.sources import is_source

_Place = tuple[object, ...]


def is_resolvable(origin: Origin) -> bool:
    """Whether the host of an origin is a name that a name server resolves."""
    return not (origin.socket or origin.address or is_localhost(origin.host) or is_address(origin.host))


def _names_in(urls: Iterable[str]) -> frozenset[str]:
    """The host names in base URLs, without names that no name server resolves."""
    origins = [parse_base_url(url)[0] for url in urls]
    return frozenset(origin.host for origin in origins if is_resolvable(origin))


class Membership:
    """The merged sources of the endpoints of a service.

    Args:
        configured: weights by base URL, in the order of the configuration.

    Attributes:
        names: host names to resolve.
        sources: configured URLs that name a source.
        version: grows with each change of the base URLs.
    """

    def __init__(self, configured: Mapping[str, int]) -> None:
        self._configured = dict(configured)
        self._sourced: dict[str, Mapping[str, int]] = {}  # weights by base URL, by URL of the source
        self._addresses: dict[str, tuple[str, ...]] = {}  # discovered, by host name
        self._added: dict[str, int] = {}  # the operator's weights, by base URL
        self._weights: dict[str, int] = {}  # the operator's weights, by endpoint URL
        self.version = -1
        self._changed()

    # ---- the sources

    def configure(self, configured: Mapping[str, int]) -> bool:
        """Replace the configured base URLs. Discovered addresses and an operator's settings stay.

        Returns:
            Whether the base URLs, their weights or their order have changed.
        """
        if [*configured.items()] == [*self._configured.items()]:
            return False
        self._configured = dict(configured)
        self._changed()
        return True

    def receive(self, source: str, urls: Mapping[str, int]) -> bool:
        """Replace what a source has told; return whether that is new.

        Args:
            source: URL that names the source.
            urls: weights by base URL.
        """
        if self._sourced.get(source) is urls:
            return False
        self._sourced[source] = urls
        self._changed()
        return True

    def discover(self, name: str, addresses: tuple[str, ...]) -> None:
        """Replace the addresses of a host name."""
        self._addresses[name] = addresses

    def add(self, url: str, weight: int) -> None:
        """Add an operator's base URL. A host name in the URL becomes one endpoint per address."""
        self._added[url] = weight
        self._changed()

    def set_weight(self, url: str, weight: int) -> None:
        """Set an operator's weight for an endpoint; 0 drains the endpoint.

        Args:
            url: URL of the endpoint; for a discovered endpoint, with the address behind "#".
        """
        self._weights[url] = weight

    def release(self, url: str) -> None:
        """Remove an operator's settings for a URL."""
        self._added.pop(url, None)
        self._weights.pop(url, None)
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        self.sources = tuple(filter(is_source, self._configured))
        self.names = _names_in({**dict(self._bases(self._configured)), **self._added})

    def _bases(self, configured: Mapping[str, int]) -> Iterator[tuple[str, int]]:
        """Base URLs with weights: what a source has told stands in the place of the source."""
        for url, weight in configured.items():
            if is_source(url):
                for told, share in self._sourced.get(url, {}).items():
                    yield told, weight * share
            else:
                yield url, weight

    # ---- the merge

    def is_configured(self, name: str) -> bool:
        """Whether a base URL of the configuration or of a source has this name. An operator's URLs do not count."""
        return name in _names_in(dict(self._bases(self._configured)))

    def addresses(self, name: str) -> tuple[str, ...] | None:
        """The discovered addresses of a host name; None before the first answer."""
        return self._addresses.get(name)

    def wanted(self) -> dict[str, int]:
        """The merged result: weights by endpoint URL, configured URLs before added URLs."""
        places: dict[_Place, tuple[str, int]] = {}
        added = {url: self._added[url] for url in sorted(self._added)}
        for base, weight in self._bases(self._configured | added):
            for place, url in self._leads_to(base):
                first, largest = places.get(place, (url, weight))
                places[place] = (url if url == base else first, max(weight, largest))
        weights: dict[str, int] = {}
        for url, weight in places.values():
            weights[url] = self._weights.get(url, max(weight, weights.get(url, 0)))
        return weights

    def _leads_to(self, base: str) -> Iterator[tuple[_Place, str]]:
        """The places that a base URL leads to, each with the URL of the endpoint."""
        origin, path = parse_base_url(base)
        if origin.host in self._addresses and is_resolvable(origin):
            for address in self._addresses[origin.host]:
                yield (origin.scheme, address, origin.port, path), f"{base}#{address}"
        elif is_address(origin.host) and not origin.address:
            yield (origin.scheme, origin.host, origin.port, path), base
        else:
            yield (base,), base
