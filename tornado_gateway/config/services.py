"""Parses the services of UPSTREAMS from JSON, and reports all problems at once.

A service is an array of endpoints, or an object with "endpoints" and with values of its own for variables of services.
An endpoint is a base URL, or an object with "url" and "weight".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tornado_gateway.config.documents import DocumentReader, Members, Options, member, parse_json
from tornado_gateway.config.problems import ConfigurationError, Invalid, shown
from tornado_gateway.policy.http.target import parse_base_url
from tornado_gateway.policy.upstream.sources import is_source, parse_source

GREATEST_WEIGHT = 1000

MAP_OF_SERVICES = "a JSON map of service to array of base URLs"
_SERVICE_KEYS = "endpoints, cache, tls, and variables of one service in camel case, such as balancer for BALANCER"
_SOURCE = "a source such as k8s+http://billing.shop:http/base, consul+http://billing or srv+http://_http._tcp.billing"
_SERVICE = "an array of base URLs, or an object with endpoints"
_BASE_URL = "a base URL such as http://10.0.0.7:8080/base or unix:/run/app.sock"

_SERVICE_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """An endpoint of UPSTREAMS.

    Attributes:
        url: base URL, or URL of a source, as given; see policy/upstream/sources.py.
        weight: share of the traffic relative to the service's other endpoints, 0 to 1000; 0: no new requests.
    """

    url: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class GivenService:
    """A service of UPSTREAMS.

    Attributes:
        endpoints: at least one endpoint; all differ.
        values: the service's own values, by key: "breakerOpenMs".
        given: the JSON of these values.
    """

    name: str
    endpoints: tuple[EndpointSpec, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, object] = field(default_factory=dict)


def read_services(text: str | bytes, options: Options) -> tuple[GivenService, ...]:
    """Services in the order given.

    Raises:
        Invalid: the text is not a JSON map of services.
        ConfigurationError: with a problem for each wrong part.
    """
    document = parse_json(text, MAP_OF_SERVICES)
    if not isinstance(document, Members):
        raise Invalid("is not a map", MAP_OF_SERVICES)
    if not document:
        raise Invalid("names no service", MAP_OF_SERVICES)
    reader = _ServicesReader(options)
    found = reader.services(document)
    if reader.problems:
        raise ConfigurationError(tuple(reader.problems))
    return found


class _ServicesReader(DocumentReader):
    """Reads services."""

    def services(self, members: Members) -> tuple[GivenService, ...]:
        self.check_repeated("", members)
        return tuple(self._service(name, value) for name, value in members.items())

    def _service(self, name: str, value: Any) -> GivenService:
        path = member(name)
        if not _SERVICE_NAME.fullmatch(name):
            self.report(path, "", "is not a service name", "letters, digits, '_', '.' and '-', but not '.' or '..'")
        if isinstance(value, list):
            return GivenService(name, self._endpoints(path, value))
        if not isinstance(value, Members):
            self.report(path, shown(value), "is neither an array nor an object", _SERVICE)
            return GivenService(name, ())
        self.check_keys(path, value, "endpoints", *self.objects, *self.options, shown_as=_SERVICE_KEYS)
        given, values = self.own_values(path, value)
        return GivenService(name, self._endpoints(f"{path}.endpoints", value.get("endpoints", [])), values, given)

    def _endpoints(self, path: str, value: Any) -> tuple[EndpointSpec, ...]:
        if not isinstance(value, list):
            self.report(path, shown(value), "is not an array", "an array of base URLs")
            return ()
        if not value:
            self.report(path, shown(value), "has no endpoints", "one base URL or more")
        first: dict[object, str] = {}  # path of the first mention, by endpoint
        return tuple(self._endpoint(f"{path}[{index}]", item, first) for index, item in enumerate(value))

    def _endpoint(self, path: str, value: Any, first: dict[object, str]) -> EndpointSpec:
        if not isinstance(value, Members):
            self._check_url(path, value, first)
            return EndpointSpec(value)
        self.check_keys(path, value, "url", "weight")
        self._check_url(f"{path}.url", value.get("url", ""), first)
        weight = value.get("weight", 1)
        if type(weight) is not int or not 0 <= weight <= GREATEST_WEIGHT:  # type(): True is an int, too
            self.report(f"{path}.weight", shown(weight), "is not a weight", f"a whole number, 0 to {GREATEST_WEIGHT}")
        return EndpointSpec(value.get("url", ""), weight)

    def _check_url(self, path: str, url: Any, first: dict[object, str]) -> None:
        if not isinstance(url, str):
            self.report(path, shown(url), "is not a string", _BASE_URL)
            return
        try:
            endpoint: object = parse_source(url) if is_source(url) else parse_base_url(url)
        except ValueError as error:
            # An error of urlsplit() may quote the URL, and a password with the URL.
            reason = str(error) if str(error).startswith("must ") else "is not a valid URL"
            self.report(path, shown(url), reason, _SOURCE if is_source(url) else _BASE_URL)
            return
        if first.setdefault(endpoint, path) != path:
            reason = f"is the same endpoint as {first[endpoint].lstrip('.')}"
            self.report(path, shown(url), reason, "each one once, with a weight")
