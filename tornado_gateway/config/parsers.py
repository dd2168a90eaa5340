"""How one value of the environment is read, and what is said when it cannot be. Services are read in upstreams.py.

A parser goes from a variable's text, never "", to its value. What a parser refuses becomes a
`Problem`: one line that names the variable, what was given, why that is wrong, and what is
allowed. Secrets are never shown, nor is a password that stands in a URL by mistake.
"""

import ipaddress
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tornado_gateway.config.problems import ConfigurationError, Invalid, Problem, shown
from tornado_gateway.policy.http.address import Network, network
from tornado_gateway.policy.http.authority import parse_origin
from tornado_gateway.policy.http.handshake import ANY_ORIGIN, SAME_ORIGIN
from tornado_gateway.policy.upstream.affinity import HashKey
from tornado_gateway.policy.upstream.retry import ALL, CONNECT, RESET

DAY = 86_400_000  # milliseconds
PEBIBYTE = 2**50
MILLION = 1_000_000
EVERY_ADDRESS = "*"  # of IPv4 and of IPv6, to listen on

_WHOLE = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
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


def hosts(text: str) -> tuple[str, ...]:
    """Where to listen: addresses and host names, each once, or EVERY_ADDRESS alone.

    >>> hosts("127.0.0.1, ::1"), hosts("*")
    (('127.0.0.1', '::1'), ('*',))
    """
    found = tuple(filter(None, map(str.strip, text.split(","))))
    allowed = "addresses such as 0.0.0.0 or ::1 and host names, separated by commas; or * for every address"
    if not found or not all(each == EVERY_ADDRESS or _is_host(each) for each in found):
        raise Invalid("is neither an address nor a host name", allowed)
    if len(set(found)) < len(found) or (EVERY_ADDRESS in found and len(found) > 1):
        raise Invalid("names an address twice, or another one beside *", "each address once; or * alone")
    return found


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST_NAME.fullmatch(text) is not None
    return True


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
                found.append(network(given))
        except ValueError as error:
            reason = "has host bits set" if "host bits" in str(error) else "is not an address or a network"
            allowed = "addresses and networks such as 10.0.0.0/8 or ::1, separated by commas"
            problems.append(Problem(f"[{index}]", shown(given), reason, allowed))
    if problems:
        raise ConfigurationError(tuple(problems))
    return tuple(found)


def origins(text: str) -> tuple[str, ...]:
    """Origins as browsers write them (RFC 6454 §6.2), however they are given; "*" and "same-origin"."""
    given = [item.strip().lower() for item in text.split(",") if item.strip()]
    found = [item if item in (ANY_ORIGIN, SAME_ORIGIN) else parse_origin(item) for item in given]
    allowed = "*, same-origin and origins such as https://app.example.com"
    problems = [
        Problem(f"[{index}]", shown(item), "is not an origin", allowed)
        for index, (item, origin) in enumerate(zip(given, found, strict=True))
        if origin is None
    ]
    if problems:
        raise ConfigurationError(tuple(problems))
    parsed = tuple(origin for origin in found if origin)
    if ANY_ORIGIN in parsed and len(parsed) > 1:
        raise Invalid(f"has {ANY_ORIGIN} beside others, which it makes void", f"{ANY_ORIGIN} alone, or the others")
    return parsed


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


_RETRY_ON = f"{CONNECT}, {RESET} and statuses such as 503; or off alone"


def retry_on(text: str) -> tuple[str, ...]:
    found = tuple(item.strip() for item in text.split(",") if item.strip())
    for item in found:
        if item not in (CONNECT, RESET, "off") and not re.fullmatch("[45][0-9]{2}", item):
            raise Invalid(f"has {shown(item)} in it", _RETRY_ON)
    if "off" in found and len(found) > 1:
        raise Invalid("has off beside what is not off", _RETRY_ON)
    return found


def repeatable(text: str) -> tuple[str, ...]:
    """Methods, or "all". They are case-sensitive (RFC 9110 §9.1): one in small letters would never be asked for."""
    found = tuple(item.strip() for item in text.split(",") if item.strip())
    allowed = f"methods in capitals such as POST,PATCH; or {ALL}"
    for item in found:
        if item != ALL and (not _TOKEN.fullmatch(item) or item != item.upper()):
            raise Invalid(f"has {shown(item)} in it", allowed)
    if ALL in found and len(found) > 1:
        raise Invalid(f"has methods beside {ALL}", allowed)
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
    read_file(text, 1)
    return text


def read_file(path: str, size: int = -1) -> bytes:
    """At most so many bytes of a file, -1 for all.

    Raises:
        Invalid: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except (OSError, ValueError) as error:  # ValueError: a NUL, or what no file system can encode
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise Invalid(f"cannot be read ({reason})", "the path of a readable file") from None
