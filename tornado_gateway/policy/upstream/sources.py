"""Sources of endpoints: what stands in UPSTREAMS in place of a base URL if another program knows the endpoints.

    srv+http://_http._tcp.billing.internal/base    records of DNS (RFC 2782)
    consul+http://billing/base                     instances in Consul; consul+http://v2.billing: those with a tag
    k8s+http://billing.shop:http/base              EndpointSlices of a Service in Kubernetes: service, namespace, port

A source answers with targets. Each target becomes a base URL, and policy/upstream/membership.py merges the base URLs
with the others of the service. A target with an address keeps the name of the service for Host and certificate:

    k8s+http://billing.shop/base  ─►  10.1.0.7, port 8080  ─►  http://billing.shop.svc:8080/base#10.1.0.7
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tornado_gateway.policy.http.target import parse_base_url
from tornado_gateway.policy.upstream.hosts import Family, usable

GREATEST_SHARE = 1000  # weight of a target; greater weights are scaled down


class Kind(StrEnum):
    """Who knows the endpoints."""

    SRV = "srv"
    CONSUL = "consul"
    KUBERNETES = "k8s"


@dataclass(frozen=True, slots=True)
class Source:
    """A source of endpoints.

    Attributes:
        scheme: of the endpoints: "http" or "https".
        name: of the service; of DNS, the name that is looked up.
        group: a tag of Consul, or a namespace of Kubernetes; "" for none.
        port: name or number of a port of Kubernetes; "" for the first.
        path: base path of the endpoints: "" or "/base".
    """

    kind: Kind
    scheme: str
    name: str
    group: str = ""
    port: str = ""
    path: str = ""


class Target(NamedTuple):
    """An endpoint, as a source names the endpoint.

    Attributes:
        host: a name or an address, for the Host field and the certificate.
        port: 1 to 65535.
        address: of the connection; "" to look the host up.
        weight: relative to the other targets; 0 for an endpoint that gets no new requests.
    """

    host: str
    port: int
    address: str = ""
    weight: int = 1


class SourceFailed(Exception):
    """A source has not answered, or not with what a source says. The text says why."""


_URL = re.compile(r"(srv|consul|k8s)\+(https?)://([^/?#@:]*)(?::([^/?#@:]*))?(/[^?#]*)?")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_PORT = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


def is_source(url: str) -> bool:
    """Whether an endpoint of UPSTREAMS is a source. Says nothing about mistakes behind the scheme.

    >>> is_source("k8s+http://billing"), is_source("http://billing"), is_source("unix:/a+b")
    (True, False, False)
    """
    kind, plus, _ = url.partition("+")
    return bool(plus) and kind in tuple(Kind)


def parse_source(url: str) -> Source:
    """Read a source.

    Raises:
        ValueError: the source is not valid; the text gives the reason.

    >>> parse_source("k8s+https://billing.shop:api/v2/")
    Source(kind=<Kind.KUBERNETES: 'k8s'>, scheme='https', name='billing', group='shop', port='api', path='/v2')
    """
    found = _URL.fullmatch(url)
    if not found:
        raise ValueError("must be srv+, consul+ or k8s+, then http:// or https://, a name and a path")
    kind, scheme, host, port, path = Kind(found[1]), found[2], found[3], found[4], found[5] or ""
    _, base_path = parse_base_url(f"{scheme}://host{path}")
    if port is not None and (kind is not Kind.KUBERNETES or not _PORT.fullmatch(port)):
        raise ValueError("must not have a port, unless a name or number of a port of Kubernetes")
    name, group = _names(kind, host)
    return Source(kind, scheme, name, group, port or "", base_path.decode("ascii"))


def _names(kind: Kind, host: str) -> tuple[str, str]:
    """The name and the group of a source."""
    labels = host.removesuffix(".").split(".")
    most = {Kind.SRV: 127, Kind.CONSUL: 2, Kind.KUBERNETES: 2}[kind]
    if len(labels) > most or not all(_LABEL.fullmatch(each) and len(each) <= 63 for each in labels):
        raise ValueError("must name a name of DNS, [tag.]service of Consul, or service[.namespace] of Kubernetes")
    if kind is Kind.SRV:
        return host, ""
    *others, last = labels if kind is Kind.CONSUL else reversed(labels)
    return last, "".join(others)


def base_path_of(url: str) -> bytes:
    """The base path of a base URL, or of the endpoints of a source.

    Raises:
        ValueError: see parse_source() and parse_base_url().
    """
    return parse_source(url).path.encode("ascii") if is_source(url) else parse_base_url(url)[1]


def urls_of(source: Source, targets: Iterable[Target]) -> dict[str, int]:
    """The base URLs of targets, with their weights; of a target that is named twice, the greater weight.

    Raises:
        ValueError: a target is no place of an endpoint.

    >>> urls_of(parse_source("consul+http://billing/v2"), [Target("billing.service.consul", 80, "10.0.0.7", 3)])
    {'http://billing.service.consul:80/v2#10.0.0.7': 3}
    """
    urls: dict[str, int] = {}
    for target in targets:
        host = f"[{target.host}]" if ":" in target.host else target.host
        pinned = f"#{target.address}" if target.address else ""
        url = f"{source.scheme}://{host}:{target.port}{source.path}{pinned}"
        if "/" in host or parse_base_url(url)[0].port != target.port:
            raise ValueError(f"{host}, port {target.port}, is no place of an endpoint")
        urls[url] = max(target.weight, urls.get(url, 0))
    return urls


def of_family(targets: Iterable[Target], family: Family) -> tuple[Target, ...]:
    """The targets whose address is used, and the targets without an address; see usable()."""
    targets = tuple(targets)
    kept = {"", *usable([each.address for each in targets if each.address], family)}
    return tuple(each for each in targets if each.address in kept)


def scaled(weights: Iterable[int]) -> list[int]:
    """Weights in the same proportions, 1 to GREATEST_SHARE each.

    >>> scaled([0, 5]), scaled([65535, 655])
    ([1, 5], [1000, 10])
    """
    weights = list(weights)
    greatest = max(weights, default=0)
    factor = min(1.0, GREATEST_SHARE / greatest) if greatest else 1.0
    return [max(1, round(each * factor)) for each in weights]
