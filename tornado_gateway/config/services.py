"""Parses the services of UPSTREAMS from JSON, and reports all problems at once.

A service is an array of endpoints, or an object with "endpoints" and with values of its own for variables of services.
An endpoint is a base URL, or an object with "url" and "weight".
"""

import difflib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tornado_gateway.config.parsers import Syntax
from tornado_gateway.config.problems import ConfigurationError, Invalid, Problem, shown
from tornado_gateway.policy.http.target import parse_base_url

GREATEST_WEIGHT = 1000
_CLOSE = 0.8  # ratio of difflib: "wsMaxMessageBytes" (a variable of no service) is not meant for "sseMaxBytes"

MAP_OF_SERVICES = "a JSON map of service to array of base URLs"
_SERVICE_KEYS = "endpoints, and variables of one service in camel case, such as balancer for BALANCER"
_SERVICE = "an array of base URLs, or an object with endpoints"
_BASE_URL = "a base URL such as http://10.0.0.7:8080/base or unix:/run/app.sock"

_SERVICE_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]+")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """An endpoint of UPSTREAMS.

    Attributes:
        url: base URL, as given.
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


Options = Mapping[str, Syntax[Any]]  # by the key that a service may have beside its endpoints


def read_services(text: str | bytes, options: Options) -> tuple[GivenService, ...]:
    """Services in the order given.

    Raises:
        Invalid: the text is not a JSON map of services.
        ConfigurationError: with a problem for each wrong part.
    """
    try:
        document = json.loads(text, object_pairs_hook=_Members)
    except (ValueError, RecursionError) as error:  # RecursionError: a million brackets
        raise Invalid(f"is not JSON: {error}", MAP_OF_SERVICES) from None
    if not isinstance(document, _Members):
        raise Invalid("is not a map", MAP_OF_SERVICES)
    if not document:
        raise Invalid("names no service", MAP_OF_SERVICES)
    reader = _ServicesReader(options)
    found = reader.services(document)
    if reader.problems:
        raise ConfigurationError(tuple(reader.problems))
    return found


class _Members(dict[str, Any]):
    """A JSON object.

    Attributes:
        repeated: keys that were given more than once.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]


class _ServicesReader:
    """Reads on after a problem, to find all problems. A result is valid only if there are none."""

    def __init__(self, options: Options) -> None:
        self.problems: list[Problem] = []
        self._options = options

    def services(self, members: _Members) -> tuple[GivenService, ...]:
        self._check_repeated("", members)
        return tuple(self._service(name, value) for name, value in members.items())

    def _service(self, name: str, value: Any) -> GivenService:
        path = _member(name)
        if not _SERVICE_NAME.fullmatch(name):
            self._report(path, "", "is not a service name", "letters, digits, '_', '.' and '-', but not '.' or '..'")
        if isinstance(value, list):
            return GivenService(name, self._endpoints(path, value))
        if not isinstance(value, _Members):
            self._report(path, shown(value), "is neither an array nor an object", _SERVICE)
            return GivenService(name, ())
        self._check_keys(path, value, "endpoints", *self._options, shown_as=_SERVICE_KEYS)
        given = {key: value[key] for key in value if key in self._options}
        values = {key: self._option(f"{path}.{key}", key, given[key]) for key in given}
        return GivenService(name, self._endpoints(f"{path}.endpoints", value.get("endpoints", [])), values, given)

    def _option(self, path: str, key: str, value: Any) -> Any:
        """A value, read like the text of a variable: 5 is "5", true is "true"."""
        text = _as_text(value, is_list=self._options[key].is_list)
        try:
            if not isinstance(text, str):
                raise Invalid("is neither text, a number, true nor false", "what the variable of that name takes")
            return self._options[key].parse(text)
        except Invalid as error:
            self._report(path, shown(value), error.reason, error.allowed)
        except ConfigurationError as error:
            for problem in error.problems:
                self._report(f"{path}{problem.variable}", problem.given, problem.reason, problem.allowed)
        return None

    def _endpoints(self, path: str, value: Any) -> tuple[EndpointSpec, ...]:
        if not isinstance(value, list):
            self._report(path, shown(value), "is not an array", "an array of base URLs")
            return ()
        if not value:
            self._report(path, shown(value), "has no endpoints", "one base URL or more")
        first: dict[object, str] = {}  # path of the first mention, by endpoint
        return tuple(self._endpoint(f"{path}[{index}]", item, first) for index, item in enumerate(value))

    def _endpoint(self, path: str, value: Any, first: dict[object, str]) -> EndpointSpec:
        if not isinstance(value, _Members):
            self._check_url(path, value, first)
            return EndpointSpec(value)
        self._check_keys(path, value, "url", "weight")
        self._check_url(f"{path}.url", value.get("url", ""), first)
        weight = value.get("weight", 1)
        if type(weight) is not int or not 0 <= weight <= GREATEST_WEIGHT:  # type(): True is an int, too
            self._report(f"{path}.weight", shown(weight), "is not a weight", f"a whole number, 0 to {GREATEST_WEIGHT}")
        return EndpointSpec(value.get("url", ""), weight)

    def _check_url(self, path: str, url: Any, first: dict[object, str]) -> None:
        if not isinstance(url, str):
            self._report(path, shown(url), "is not a string", _BASE_URL)
            return
        try:
            endpoint = parse_base_url(url)
        except ValueError as error:
            # An error of urlsplit() may quote the URL, and a password with the URL.
            reason = str(error) if str(error).startswith("must ") else "is not a valid URL"
            self._report(path, shown(url), reason, _BASE_URL)
            return
        if first.setdefault(endpoint, path) != path:
            reason = f"is the same endpoint as {first[endpoint].lstrip('.')}"
            self._report(path, shown(url), reason, "each one once, with a weight")

    def _check_keys(self, path: str, members: _Members, *known: str, shown_as: str = "") -> None:
        self._check_repeated(path, members)
        for key in (key for key in members if key not in known):
            meant = difflib.get_close_matches(key, known, n=1, cutoff=_CLOSE) if shown_as else []
            hint = f" (did you mean {meant[0]}?)" if meant else ""
            given = shown(members[key], secret=isinstance(members[key], str))  # an unknown key may hold a secret
            self._report(path + _member(key), given, f"is unknown{hint}", shown_as or ", ".join(known))

    def _check_repeated(self, path: str, members: _Members) -> None:
        for key in members.repeated:
            self._report(path + _member(key), "", "is given more than once", "each name once")

    def _report(self, path: str, given: str, reason: str, allowed: str) -> None:
        self.problems.append(Problem(path, given, reason, allowed))


def _as_text(value: Any, *, is_list: bool) -> Any:
    """The text of a JSON value; a value that has no text, unchanged."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if is_list and isinstance(value, list) and all(type(each) in (str, int) and "," not in str(each) for each in value):
        return ",".join(map(str, value))
    return value


def _member(key: str) -> str:
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{shown(key)}]"
