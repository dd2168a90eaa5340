"""Parses the routes of ROUTES from JSON, and reports all problems at once.

A route is an object with "path" and "service". A route may have "host", and "strip" or "rewrite". A route may also have
a value for each variable that says how a service appears to clients: "preserveHost", for example.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tornado_gateway.config.documents import DocumentReader, Members, Options, parse_json
from tornado_gateway.config.parsers import HOST_OF_A_ROUTE, parse_host_of_a_route
from tornado_gateway.config.problems import ConfigurationError, Invalid, shown
from tornado_gateway.policy.routing import OWN_SEGMENTS, RouteSpec

ARRAY_OF_ROUTES = 'a JSON array of routes: [{"path": "/notebooks/*", "service": "jupyter"}]'
_KEYS = ("path", "service", "host", "strip", "rewrite", "cache")
_ROUTE_KEYS = f"{', '.join(_KEYS)}, and variables of one route in camel case, such as preserveHost"
_PREFIX = "a path that ends with /*, without %, ; and dot segments: /notebooks/*"
_SERVICE = "a service of UPSTREAMS"

_PATH = re.compile(r"(?:/(?!\.{1,2}/)[A-Za-z0-9._~!$&'()+,=:@-]+)*/\*")


@dataclass(frozen=True, slots=True)
class GivenRoute:
    """A route of ROUTES.

    Attributes:
        spec: the route, without the route's own values.
        values: the route's own values, parsed, by key: "preserveHost".
    """

    spec: RouteSpec
    values: Mapping[str, Any] = field(default_factory=dict)


def read_routes(text: str, options: Options) -> tuple[GivenRoute, ...]:
    """Routes in the order given.

    Raises:
        Invalid: the text is not a JSON array.
        ConfigurationError: with a problem for each wrong part.
    """
    document = parse_json(text, ARRAY_OF_ROUTES)
    if not isinstance(document, list):
        raise Invalid("is not an array", ARRAY_OF_ROUTES)
    reader = _RoutesReader(options)
    found = reader.routes(document)
    if reader.problems:
        raise ConfigurationError(tuple(reader.problems))
    return found


class _RoutesReader(DocumentReader):
    """Reads routes."""

    def routes(self, items: list[Any]) -> tuple[GivenRoute, ...]:
        first: dict[tuple[str, str], str] = {}  # path of the first mention, by host and path
        return tuple(self._route(f"[{index}]", item, first) for index, item in enumerate(items))

    def _route(self, path: str, value: Any, first: dict[tuple[str, str], str]) -> GivenRoute:
        if not isinstance(value, Members):
            self.report(path, shown(value), "is not an object", _ROUTE_KEYS)
            return GivenRoute(RouteSpec(path="", service=""))
        self.check_keys(path, value, *_KEYS, *self.options, shown_as=_ROUTE_KEYS)
        host = self._host(f"{path}.host", value.get("host", ""))
        prefix = self._prefix(f"{path}.path", value.get("path", ""))
        if prefix and first.setdefault((host, prefix), path) != path:
            self.report(path, shown(host + prefix), f"is the same route as {first[host, prefix]}", "each one once")
        service = value.get("service", "")
        if not isinstance(service, str) or not service:
            self.report(f"{path}.service", shown(service), "is not the name of a service", _SERVICE)
        given, values = self.own_values(path, value)
        spec = RouteSpec(path=prefix, service=str(service), host=host, inner=self._inner(path, value), given=given)
        if not host and spec.segment in OWN_SEGMENTS:
            allowed = "another first segment, or a host of its own"
            self.report(f"{path}.path", shown(prefix), "is a path of the gateway's own", allowed)
        return GivenRoute(spec, values)

    def _host(self, path: str, value: Any) -> str:
        if value == "":
            return ""
        try:
            if not isinstance(value, str):
                raise Invalid("is not a string", HOST_OF_A_ROUTE)
            return parse_host_of_a_route(value)
        except Invalid as error:
            self.report(path, shown(value), error.reason, error.allowed)
            return ""

    def _prefix(self, path: str, value: Any) -> str:
        if isinstance(value, str) and _PATH.fullmatch(value):
            return value
        self.report(path, shown(value), "is not a prefix", _PREFIX)
        return ""

    def _inner(self, path: str, value: Members) -> str | None:
        """The inner prefix; see RouteSpec."""
        strips = value.get("strip", False)
        if not isinstance(strips, bool):
            self.report(f"{path}.strip", shown(strips), "is neither true nor false", "true or false")
        if "rewrite" not in value:
            return "" if strips is True else None
        if strips is True:
            self.report(f"{path}.strip", "true", "is set, and so is rewrite", "one of the two")
        return self._prefix(f"{path}.rewrite", value["rewrite"]).removesuffix("/*")
