"""How one value of the environment is read, and what is said when it cannot be.

A parser goes from a variable's text, never "", to its value. What a parser refuses becomes a
`Problem`: one line that names the variable, what was given, why that is wrong, and what is
allowed. Secrets are never shown, nor is a password that stands in a URL by mistake.
"""

import difflib
import ipaddress
import json
import re
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tornado_gateway.policy.affinity import HashKey
from tornado_gateway.policy.handshake import ANY_ORIGIN, SAME_ORIGIN
from tornado_gateway.policy.headers import Network
from tornado_gateway.policy.retry import CONNECT, RESET
from tornado_gateway.policy.target import parse_base_url

MASK = "********"
LONGEST_SHOWN = 80  # characters of a wrong value
DAY = 86_400_000  # milliseconds
PEBIBYTE = 2**50
MILLION = 1_000_000
GREATEST_WEIGHT = 1000

MAP_OF_SERVICES = "a JSON map of service to array of base URLs"
_SERVICE_KEYS = "endpoints, and keys for variables such as balancer for BALANCER"
_SERVICE = "an array of base URLs, or an object with endpoints"
_BASE_URL = "a base URL such as http://10.0.0.7:8080/base or unix:/run/app.sock"

_WHOLE = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_SERVICE_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]+")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UP_TO_AT_SIGN = re.compile(r'^("?(?:[A-Za-z+]+://)?).*@', re.DOTALL)
_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """
    Attributes:
        url: base URL, as given.
        weight: share of the traffic relative to the service's other endpoints; 0 to 1000, 0 for none that is new.
    """

    url: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """
    Attributes:
        endpoints: at least one, each another.
        options: what differs from the variables for all services, by attribute of Settings.
        given: the same as it was given.
    """

    name: str
    endpoints: tuple[EndpointSettings, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Option:
    """A key that a service may have beside its endpoints.

    Attributes:
        attribute: of Settings.
        parse: from the text of its value.
    """

    attribute: str
    parse: Callable[[str], Any]


Options = Mapping[str, Option]


@dataclass(frozen=True, slots=True)
class Problem:
    """
    Attributes:
        variable: its name; for a part of UPSTREAMS with the JSON path, as in UPSTREAMS.billing[0].
        given: the value as it may be shown: quoted, shortened, secrets masked; "" if there is none.
    """

    variable: str
    given: str
    reason: str
    allowed: str

    def __str__(self) -> str:
        """
        >>> str(Problem("PORT", '"80x"', "is not a whole number", "0 to 65535"))
        'PORT="80x": is not a whole number; allowed: 0 to 65535'
        """
        given = f"={self.given}" if self.given else ""
        return f"{self.variable}{given}: {self.reason}; allowed: {self.allowed}"


class ConfigurationError(Exception):
    """The gateway cannot run with these variables; `problems` is all that is wrong with them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Invalid(ValueError):
    """A variable's value as a whole is wrong."""

    def __init__(self, reason: str, allowed: str) -> None:
        super().__init__(reason)
        self.reason, self.allowed = reason, allowed


def shown(value: object, *, secret: bool = False) -> str:
    """A wrong value on one line, fit for any terminal.

    >>> shown("80x"), shown(True), shown([1]), shown("http://me:pass@host"), shown("key", secret=True)
    ('"80x"', 'true', '[...]', '"http://********@host"', '********')
    """
    if secret:
        return MASK
    if isinstance(value, list | dict):
        left, right = "[]" if isinstance(value, list) else "{}"
        return f"{left}{'...' if value else ''}{right}"
    text = _UP_TO_AT_SIGN.sub(rf"\1{MASK}@", json.dumps(value))
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


# Parsers: from a variable's text, never "", to its value. They raise Invalid, or a
# ConfigurationError if several parts are wrong, whose problems name the part alone: "[0]".


def whole(low: int, high: int, unit: str = "") -> Callable[[str], int]:
    allowed = f"{low} to {high}{unit}"

    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text):
            raise Invalid("is not a whole number", allowed)
        return int(_within(low, high, text, allowed))

    return parse


def size(low: int) -> Callable[[str], int]:
    return whole(low, PEBIBYTE, " bytes, without a suffix")


def milliseconds(low: int) -> Callable[[str], float]:
    """For text in milliseconds; the value is in seconds."""
    allowed = f"{low} to {DAY} milliseconds"

    def parse(text: str) -> float:
        if not _DECIMAL.fullmatch(text):
            raise Invalid("is not a number of milliseconds", allowed)
        return float(_within(low, DAY, text, allowed)) / 1000

    return parse


def _within(low: int, high: int, text: str, allowed: str) -> Decimal:
    number = Decimal(text)  # exact at any length, which float() is not; int() refuses more than 4,300 digits
    if not low <= number <= high:
        raise Invalid("is out of range", allowed)
    return number


def flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise Invalid("is neither true nor false", ", ".join(_FLAGS))
    return _FLAGS[text.lower()]


def one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise Invalid("is unknown", ", ".join(names))
        return text

    return parse


def host(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if not _HOST_NAME.fullmatch(text):
            allowed = "an address such as 0.0.0.0 or ::1, or a host name"
            raise Invalid("is neither an address nor a host name", allowed) from None
    return text


def token(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise Invalid("is not a token", "letters, digits and !#$%&'*+-.^_`|~")
    return text


def networks(text: str) -> tuple[Network, ...]:
    found: list[Network] = []
    problems: list[Problem] = []
    for index, item in enumerate(text.split(",")):
        given = item.strip()
        try:
            if given:
                found.append(ipaddress.ip_network(given))
        except ValueError as error:
            reason = "has host bits set" if "host bits" in str(error) else "is not an address or a network"
            allowed = "addresses and networks such as 10.0.0.0/8 or ::1, separated by commas"
            problems.append(Problem(f"[{index}]", shown(given), reason, allowed))
    if problems:
        raise ConfigurationError(tuple(problems))
    return tuple(found)


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


def origins(text: str) -> tuple[str, ...]:
    """Origins as browsers write them (RFC 6454 §6.2), in lower case; "*" and "same-origin"."""
    found = [item.strip().lower() for item in text.split(",") if item.strip()]
    problems = [
        Problem(
            f"[{index}]", shown(item), "is not an origin", "*, same-origin and origins such as https://app.example.com"
        )
        for index, item in enumerate(found)
        if item not in (ANY_ORIGIN, SAME_ORIGIN) and not _ORIGIN.fullmatch(item)
    ]
    if problems:
        raise ConfigurationError(tuple(problems))
    return tuple(found)


_PATH = re.compile(r"/[!-\"$-~]*")
_STATUSES = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")


def statuses(text: str) -> frozenset[int]:
    """HTTP statuses and ranges of them.

    >>> sorted(statuses("200-202,404"))
    [200, 201, 202, 404]
    """
    found: set[int] = set()
    for item in filter(None, map(str.strip, text.split(","))):
        given = _STATUSES.fullmatch(item)
        if not given or (given[2] and given[2] < given[1]):
            raise Invalid(f"has {shown(item)} in it", "statuses and ranges of them such as 200-299,404")
        found.update(range(int(given[1]), int(given[2] or given[1]) + 1))
    return frozenset(found)


def retry_on(text: str) -> tuple[str, ...]:
    found = tuple(item.strip() for item in text.split(",") if item.strip())
    for item in found:
        if item not in (CONNECT, RESET, "off") and not re.fullmatch("[45][0-9]{2}", item):
            raise Invalid(f"has {shown(item)} in it", f"{CONNECT}, {RESET} and statuses such as 503; or off")
    return found


def hash_key(text: str) -> HashKey:
    try:
        return HashKey.parse(text)
    except ValueError:
        raise Invalid("is not a key", "client, path, header:<name> or cookie:<name>") from None


def names(text: str) -> tuple[str, ...]:
    """Names of services, or "*"."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise Invalid("is not a path", "a slash, and visible ASCII characters but for #")
    return text


def certificates(text: str) -> str:
    try:
        ssl.create_default_context(cafile=readable_file(text))
    except ssl.SSLError:
        raise Invalid("does not hold certificates", "a PEM file") from None
    return text


def readable_file(text: str) -> str:
    _read(text, 1)
    return text


def _read(path: str, size: int = -1) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except (OSError, ValueError) as error:  # ValueError: a NUL, or what no file system can encode
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise Invalid(f"cannot be read ({reason})", "the path of a readable file") from None


def services_file(options: Options) -> Callable[[str], tuple[ServiceSettings, ...]]:
    return lambda text: read_services(_read(text), options)


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
        text = json.dumps(value) if isinstance(value, bool | int | float) else value
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
            meant = difflib.get_close_matches(key, known, n=1) if shown_as else []
            hint = f" (did you mean {meant[0]}?)" if meant else ""
            self._report(path + _member(key), shown(members[key]), f"is unknown{hint}", shown_as or ", ".join(known))

    def _check_repeated(self, path: str, members: _Members) -> None:
        for key in members.repeated:
            self._report(path + _member(key), "", "is given more than once", "each name once")

    def _report(self, path: str, given: str, reason: str, allowed: str) -> None:
        self.problems.append(Problem(path, given, reason, allowed))


def _member(key: str) -> str:
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{shown(key)}]"
