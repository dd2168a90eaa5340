"""How the services in UPSTREAMS are read from JSON, with everything that is wrong with any of them.

A service is an array of endpoints, or an object that has them under "endpoints" beside values of
its own for some of the variables; an endpoint is a base URL, or an object with "url" and "weight".
"""

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tornado_gateway.config.parsers import EndpointSettings, ServiceSettings, read_file
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
class Option:
    """A key that a service may have beside its endpoints.

    Attributes:
        attribute: of Settings.
        parse: from the text of its value.
        is_list: whether the text is a list with commas, for which an array stands as well.
    """

    attribute: str
    parse: Callable[[str], Any]
    is_list: bool = False


Options = Mapping[str, Option]


def services_file(options: Options) -> Callable[[str], tuple[ServiceSettings, ...]]:
    return lambda text: read_services(read_file(text), options)


def services(options: Options) -> Callable[[str], tuple[ServiceSettings, ...]]:
    return lambda text: read_services(text, options)


def read_services(text: str | bytes, options: Options) -> tuple[ServiceSettings, ...]:
    """Services in the order given."""
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
    """A JSON object that remembers which of its keys were given more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]


class _ServicesReader:
    """Reads on after a problem, so as to find them all; what it returns counts only if there are none."""

    def __init__(self, options: Options) -> None:
        self.problems: list[Problem] = []
        self._options = options

    def services(self, members: _Members) -> tuple[ServiceSettings, ...]:
        self._check_repeated("", members)
        return tuple(self._service(name, value) for name, value in members.items())

    def _service(self, name: str, value: Any) -> ServiceSettings:
        path = _member(name)
        if not _SERVICE_NAME.fullmatch(name):
            self._report(path, "", "is not a service name", "letters, digits, '_', '.' and '-', but not '.' or '..'")
        if isinstance(value, list):
            return ServiceSettings(name, self._endpoints(path, value))
        if not isinstance(value, _Members):
            self._report(path, shown(value), "is neither an array nor an object", _SERVICE)
            return ServiceSettings(name, ())
        self._check_keys(path, value, "endpoints", *self._options, shown_as=_SERVICE_KEYS)
        given = {key: value[key] for key in value if key in self._options}
        options = {self._options[key].attribute: self._option(f"{path}.{key}", key, given[key]) for key in given}
        return ServiceSettings(name, self._endpoints(f"{path}.endpoints", value.get("endpoints", [])), options, given)

    def _option(self, path: str, key: str, value: Any) -> Any:
        """A value as of a variable's text: 5, "5", true and "true" are as good as each other."""
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

    def _endpoints(self, path: str, value: Any) -> tuple[EndpointSettings, ...]:
        if not isinstance(value, list):
            self._report(path, shown(value), "is not an array", "an array of base URLs")
            return ()
        if not value:
            self._report(path, shown(value), "has no endpoints", "one base URL or more")
        first: dict[object, str] = {}  # where each endpoint was seen first
        return tuple(self._endpoint(f"{path}[{index}]", item, first) for index, item in enumerate(value))

    def _endpoint(self, path: str, value: Any, first: dict[object, str]) -> EndpointSettings:
        if not isinstance(value, _Members):
            self._check_url(path, value, first)
            return EndpointSettings(value)
        self._check_keys(path, value, "url", "weight")
        self._check_url(f"{path}.url", value.get("url", ""), first)
        weight = value.get("weight", 1)
        if type(weight) is not int or not 0 <= weight <= GREATEST_WEIGHT:  # type(): True is an int, too
            self._report(f"{path}.weight", shown(weight), "is not a weight", f"a whole number, 0 to {GREATEST_WEIGHT}")
        return EndpointSettings(value.get("url", ""), weight)

    def _check_url(self, path: str, url: Any, first: dict[object, str]) -> None:
        if not isinstance(url, str):
            self._report(path, shown(url), "is not a string", _BASE_URL)
            return
        try:
            endpoint = parse_base_url(url)
        except ValueError as error:
            # What comes from urlsplit() instead may quote the URL, and with it a password.
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
            given = shown(members[key], secret=isinstance(members[key], str))  # of unknown meaning: it may be a secret
            self._report(path + _member(key), given, f"is unknown{hint}", shown_as or ", ".join(known))

    def _check_repeated(self, path: str, members: _Members) -> None:
        for key in members.repeated:
            self._report(path + _member(key), "", "is given more than once", "each name once")

    def _report(self, path: str, given: str, reason: str, allowed: str) -> None:
        self.problems.append(Problem(path, given, reason, allowed))


def _as_text(value: Any, *, is_list: bool) -> Any:
    """A value as the text of a variable, if it has one; else as it stands."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if is_list and isinstance(value, list) and all(type(each) in (str, int) and "," not in str(each) for each in value):
        return ",".join(map(str, value))
    return value


def _member(key: str) -> str:
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{shown(key)}]"
