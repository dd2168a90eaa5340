"""What the gateway is told to do: from variables of the environment to `Settings`.

`VARIABLES` is the one list of them: loading, `--help`, `--print-config`, `.env.example` and
the README's table are made from it. Everything that is wrong is reported at once, a line per
`Problem`. Secrets are never shown, nor is a password that stands in a URL by mistake.

Durations are milliseconds in the environment and float seconds in `Settings`.
"""

import difflib
import ipaddress
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

from tornado_gateway.policy.balancing import BALANCERS
from tornado_gateway.policy.target import parse_base_url

BALANCER_NAMES = tuple(BALANCERS)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MASK = "********"
LONGEST_SHOWN = 80  # characters of a wrong value
SHORTEST_KEY = 32  # characters; HS256 wants 256 bits (RFC 7518 §3.2)
DAY = 86_400_000  # milliseconds
PEBIBYTE = 2**50
MILLION = 1_000_000
GREATEST_WEIGHT = 1000

_SERVICES = "a JSON map of service to array of base URLs"
_SERVICE = f"an array of base URLs, or an object of endpoints and balancer ({' or '.join(BALANCER_NAMES)})"
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
        weight: share of the traffic relative to the service's other endpoints; 1 to 1000.
    """

    url: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """
    Attributes:
        endpoints: at least one, each another.
        balancer: one of BALANCER_NAMES.
    """

    name: str
    endpoints: tuple[EndpointSettings, ...]
    balancer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One attribute per variable of VARIABLES, which tells what each means.

    Durations are seconds, sizes bytes. None and () stand for variables that are not set.
    """

    host: str
    port: int
    gateway_env: str
    event_loop: str
    max_connections: int
    max_body_bytes: int | None = None
    half_close: str
    header_timeout: float
    keepalive_timeout: float
    client_idle_timeout: float
    shutdown_timeout: float
    shutdown_delay: float
    log_level: str
    log_format: str
    access_log: bool
    services: tuple[ServiceSettings, ...]
    upstreams_file: str | None = None
    balancer: str
    http_proxy_timeout: float
    upstream_connect_timeout: float
    upstream_max_idle: int
    upstream_idle_timeout: float
    upstream_tls_verify: bool
    upstream_tls_ca_file: str | None = None
    dns_ttl: float
    trusted_proxies: tuple[Network, ...] = ()
    preserve_host: bool
    via_name: str | None = None
    auth_required: bool
    jwt_secret: str | None = field(default=None, repr=False)
    rate_limit_max: int
    rate_limit_window: float
    cache_enabled: bool
    cache_default_ttl: float
    cache_max_body_bytes: int
    under_pressure_max_event_loop_delay: float
    under_pressure_max_heap_used_bytes: int
    under_pressure_max_rss_bytes: int
    ws_max_buffered_bytes: int
    ws_ping_interval: float


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


def services_file(text: str) -> tuple[ServiceSettings, ...]:
    return services(_read(text))


def services(text: str | bytes) -> tuple[ServiceSettings, ...]:
    """Services in the order given; the balancer is "" where BALANCER decides."""
    try:
        document = json.loads(text, object_pairs_hook=_Members)
    except (ValueError, RecursionError) as error:  # RecursionError: a million brackets
        raise Invalid(f"is not JSON: {error}", _SERVICES) from None
    if not isinstance(document, _Members):
        raise Invalid("is not a map", _SERVICES)
    if not document:
        raise Invalid("names no service", _SERVICES)
    reader = _ServicesReader()
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

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def services(self, members: _Members) -> tuple[ServiceSettings, ...]:
        self._check_repeated("", members)
        return tuple(self._service(name, value) for name, value in members.items())

    def _service(self, name: str, value: Any) -> ServiceSettings:
        path = _member(name)
        if not _SERVICE_NAME.fullmatch(name):
            self._report(path, "", "is not a service name", "letters, digits, '_', '.' and '-', but not '.' or '..'")
        if isinstance(value, list):
            return ServiceSettings(name, self._endpoints(path, value), "")
        if not isinstance(value, _Members):
            self._report(path, shown(value), "is neither an array nor an object", _SERVICE)
            return ServiceSettings(name, (), "")
        self._check_keys(path, value, "endpoints", "balancer")
        if "balancer" in value and value["balancer"] not in BALANCER_NAMES:
            self._report(f"{path}.balancer", shown(value["balancer"]), "is unknown", ", ".join(BALANCER_NAMES))
        endpoints = self._endpoints(f"{path}.endpoints", value.get("endpoints", []))
        return ServiceSettings(name, endpoints, value.get("balancer", ""))

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
        if type(weight) is not int or not 1 <= weight <= GREATEST_WEIGHT:  # type(): True is an int, too
            self._report(f"{path}.weight", shown(weight), "is not a weight", f"a whole number, 1 to {GREATEST_WEIGHT}")
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

    def _check_keys(self, path: str, members: _Members, *known: str) -> None:
        self._check_repeated(path, members)
        for key in (key for key in members if key not in known):
            self._report(path + _member(key), shown(members[key]), "is unknown", ", ".join(known))

    def _check_repeated(self, path: str, members: _Members) -> None:
        for key in members.repeated:
            self._report(path + _member(key), "", "is given more than once", "each name once")

    def _report(self, path: str, given: str, reason: str, allowed: str) -> None:
        self.problems.append(Problem(path, given, reason, allowed))


def _member(key: str) -> str:
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{shown(key)}]"


@dataclass(frozen=True, slots=True)
class Variable:
    """
    Attributes:
        parse: from the text, which is never "", to the value; raises as described above.
        default: as text; "" leaves the variable unset.
        help: one line with unit, range and what 0 means.
        group: the heading it stands under.
        secret: whether its value must not be shown.
        aliases: other names, which count if `name` is not set.
        reserved: whether it is checked now, but takes effect with a later release.
    """

    name: str
    parse: Callable[[str], Any]
    default: str
    help: str
    group: str
    secret: bool = False
    aliases: tuple[str, ...] = ()
    reserved: bool = False

    @property
    def attribute(self) -> str:
        """The attribute of Settings that holds its value."""
        return "services" if self.name == "UPSTREAMS" else self.name.lower().removesuffix("_ms")

    @property
    def line(self) -> str:
        aliases = "".join(f"; also read from {alias}" for alias in self.aliases)
        return f"{self.help}{aliases}{' (reserved)' if self.reserved else ''}"

    def find(self, env: Mapping[str, str]) -> tuple[str, str]:
        """The name that is set, and its text; else the default."""
        given = ((name, env[name]) for name in (self.name, *self.aliases) if env.get(name))
        return next(given, (self.name, self.default))


# fmt: off
VARIABLES: tuple[Variable, ...] = (
    Variable("HOST", host, "0.0.0.0",  # noqa: S104  # a gateway is there to be reached
             "address or host name to listen on; 0.0.0.0: every IPv4 address, :: every IPv6 one", "Server"),
    Variable("PORT", whole(0, 65535), "8080", "TCP port to listen on, 0 to 65535; 0: any free one", "Server"),
    Variable("GATEWAY_ENV", one_of("development", "test", "production"), "development",
             "development, test or production", "Server", aliases=("NODE_ENV",)),
    Variable("EVENT_LOOP", one_of("auto", "uvloop", "asyncio"), "auto",
             "uvloop, asyncio or auto: uvloop where it is installed", "Server"),
    Variable("MAX_CONNECTIONS", whole(0, MILLION), "0",
             "clients at once, 0 to 1000000; 0: as many as the file descriptors allow", "Server"),
    Variable("MAX_BODY_BYTES", size(0), "",
             "bytes of a request's body, 0 to 1125899906842624; unset: no limit, 0: no bodies", "Server"),
    Variable("HALF_CLOSE", one_of("abort", "ignore"), "abort",
             "abort or ignore: what a client's FIN means while its response is still coming", "Server"),
    Variable("HEADER_TIMEOUT_MS", milliseconds(1), "10000",
             "ms for a request's head to arrive whole, 1 to 86400000", "Server"),
    Variable("KEEPALIVE_TIMEOUT_MS", milliseconds(1), "95000",
             "ms a client's connection may idle between requests, 1 to 86400000", "Server"),
    Variable("CLIENT_IDLE_TIMEOUT_MS", milliseconds(1), "60000",
             "ms to wait for a client to send or accept more of a body, 1 to 86400000", "Server"),
    Variable("SHUTDOWN_TIMEOUT_MS", milliseconds(0), "25000",
             "ms to finish what is in flight, 0 to 86400000; 0: cut it off", "Server"),
    Variable("SHUTDOWN_DELAY_MS", milliseconds(0), "0",
             "ms that /readyz is 503 while connections are still accepted, 0 to 86400000; 0: none", "Server"),
    Variable("LOG_LEVEL", one_of("fatal", "error", "warn", "info", "debug", "trace", "silent"), "info",
             "fatal, error, warn, info, debug, trace or silent", "Logs"),
    Variable("LOG_FORMAT", one_of("auto", "json", "text"), "auto",
             "json, text or auto: text on a terminal, else json", "Logs"),
    Variable("ACCESS_LOG", flag, "true", "true or false: whether each request is logged", "Logs"),
    Variable("UPSTREAMS", services, "",
             'JSON map of service to array of base URLs: {"billing": ["http://10.0.0.7:8080"]}', "Upstreams"),
    Variable("UPSTREAMS_FILE", services_file, "",
             "path of a file that holds such a map; instead of UPSTREAMS", "Upstreams"),
    Variable("BALANCER", one_of(*BALANCER_NAMES), "least_load",
             "least_load or round_robin, for services that do not say", "Upstreams"),
    Variable("HTTP_PROXY_TIMEOUT_MS", milliseconds(1), "30000",
             "ms to a response's head and between two pieces of its body, 1 to 86400000", "Upstreams"),
    Variable("UPSTREAM_CONNECT_TIMEOUT_MS", milliseconds(1), "5000",
             "ms for name, connection and TLS together, 1 to 86400000", "Upstreams"),
    Variable("UPSTREAM_MAX_IDLE", whole(0, MILLION), "256",
             "idle connections kept per endpoint, 0 to 1000000; 0: none", "Upstreams"),
    Variable("UPSTREAM_IDLE_TIMEOUT_MS", milliseconds(1), "60000",
             "ms an idle connection is kept, 1 to 86400000", "Upstreams"),
    Variable("UPSTREAM_TLS_VERIFY", flag, "true",
             "true or false: whether https upstreams must show a valid certificate", "Upstreams"),
    Variable("UPSTREAM_TLS_CA_FILE", readable_file, "",
             "path of a PEM file of authorities to trust; unset: the system's", "Upstreams"),
    Variable("DNS_TTL_MS", milliseconds(0), "30000",
             "ms a name's addresses are kept, 0 to 86400000; 0: look up each time", "Upstreams"),
    Variable("TRUSTED_PROXIES", networks, "",
             "addresses and networks whose forwarding headers are believed, separated by commas", "Forwarding"),
    Variable("PRESERVE_HOST", flag, "false",
             "true or false: whether upstreams see the client's Host instead of their own", "Forwarding"),
    Variable("VIA_NAME", token, "",
             "this gateway's pseudonym in Via, an RFC 9110 token; unset: random per process", "Forwarding"),
    Variable("AUTH_REQUIRED", flag, "", "true or false; unset: true in production, else false", "Authentication"),
    Variable("JWT_SECRET", str, "",
             "key that tokens are signed with, 32 characters or more if AUTH_REQUIRED", "Authentication", secret=True),
    Variable("RATE_LIMIT_MAX", whole(0, 2**53), "200",
             "requests per window and client, 0 to 9007199254740992; 0: no limit", "Rate limit", reserved=True),
    Variable("RATE_LIMIT_WINDOW_MS", milliseconds(1), "60000",
             "ms of a window, 1 to 86400000", "Rate limit", reserved=True),
    Variable("CACHE_ENABLED", flag, "false", "true or false: whether responses are cached", "Cache", reserved=True),
    Variable("CACHE_DEFAULT_TTL_MS", milliseconds(0), "5000",
             "ms for responses that do not say, 0 to 86400000; 0: do not keep them", "Cache", reserved=True),
    Variable("CACHE_MAX_BODY_BYTES", size(0), "262144",
             "bytes of the largest body kept, 0 to 1125899906842624; 0: empty ones only", "Cache", reserved=True),
    Variable("UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS", milliseconds(0), "1000",
             "ms of delay that mean overload, 0 to 86400000; 0: off", "Under pressure", reserved=True),
    Variable("UNDER_PRESSURE_MAX_HEAP_USED_BYTES", size(0), "0",
             "bytes in use that mean overload, 0 to 1125899906842624; 0: off", "Under pressure", reserved=True),
    Variable("UNDER_PRESSURE_MAX_RSS_BYTES", size(0), "0",
             "bytes resident that mean overload, 0 to 1125899906842624; 0: off", "Under pressure", reserved=True),
    Variable("WS_MAX_BUFFERED_BYTES", size(1), "2000000",
             "bytes that may wait for a slow receiver, 1 to 1125899906842624", "WebSocket", reserved=True),
    Variable("WS_PING_INTERVAL_MS", milliseconds(0), "30000",
             "ms between pings, 0 to 86400000; 0: none", "WebSocket", reserved=True),
)
# fmt: on


def load_settings(env: Mapping[str, str]) -> Settings:
    """Read all variables; an empty one counts as not set. Reads no files but those that variables name.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for variable in VARIABLES:
        name, text = variable.find(env)
        try:
            if text:
                values[variable.attribute] = variable.parse(text)
        except Invalid as error:
            problems.append(Problem(name, shown(text, secret=variable.secret), error.reason, error.allowed))
        except ConfigurationError as error:
            problems += [replace(problem, variable=f"{name}{problem.variable}") for problem in error.problems]
    if "gateway_env" in values and not env.get("AUTH_REQUIRED"):
        values["auth_required"] = values["gateway_env"] == "production"
    problems += _check_upstreams(env)
    problems += _check_secret(values)
    if problems:
        raise ConfigurationError(tuple(problems))
    from_file = values.pop("upstreams_file", ())
    found = [
        replace(service, balancer=service.balancer or values["balancer"])
        for service in values.pop("services", from_file)
    ]
    return Settings(services=tuple(found), upstreams_file=env.get("UPSTREAMS_FILE") or None, **values)


def _check_upstreams(env: Mapping[str, str]) -> Iterator[Problem]:
    given, file = env.get("UPSTREAMS"), env.get("UPSTREAMS_FILE")
    if given and file:
        yield Problem("UPSTREAMS_FILE", shown(file), "is set, and so is UPSTREAMS", "one of the two")
    if not given and not file:
        yield Problem("UPSTREAMS", "", "is not set", _SERVICES)


def _check_secret(values: Mapping[str, Any]) -> Iterator[Problem]:
    key = values.get("jwt_secret", "")
    if values.get("auth_required") and len(key) < SHORTEST_KEY:
        reason = (
            "is too short for AUTH_REQUIRED"
            if key
            else "is not set, but AUTH_REQUIRED is true (the default in production)"
        )
        allowed = f"{SHORTEST_KEY} characters or more"
        yield Problem("JWT_SECRET", shown(key, secret=True) if key else "", reason, allowed)


# What starts like this is meant for the gateway: a distant likeness to a variable of the same family is enough.
_FAMILIES = ("GATEWAY_", "UPSTREAM", "WS_", "SSE_", "CACHE_", "RATE_LIMIT_", "UNDER_PRESSURE_", "HTTP_PROXY_T")
_DISTANT, _CLOSE = 0.7, 0.85  # ratios of difflib
_NAMES = [name for variable in VARIABLES for name in (variable.name, *variable.aliases)]


def hints(env: Mapping[str, str]) -> list[str]:
    """A warning for each variable that looks like a misspelling of one of VARIABLES.

    >>> hints({"UPSTREAM": "{}", "PORT": "80", "PATH": "/bin"})
    ['UPSTREAM is not a variable of this gateway; did you mean UPSTREAMS?']
    """
    meant = {
        name: _meant(name.upper()) for name in sorted(env) if name not in _NAMES and not _is_service_link(env[name])
    }
    return [
        f"{name} is not a variable of this gateway; did you mean {other}?" for name, other in meant.items() if other
    ]


def _meant(name: str) -> str | None:
    bare = name.removeprefix("GATEWAY_")
    if bare in _NAMES:
        return bare
    family = next(filter(name.startswith, _FAMILIES), None)
    relatives = [each for each in _NAMES if family and each.startswith(family)]
    likely = difflib.get_close_matches(name, _NAMES, n=1, cutoff=_CLOSE)
    likely += difflib.get_close_matches(name, relatives, n=1, cutoff=_DISTANT)
    return next(iter(likely), None)


def _is_service_link(text: str) -> bool:
    """Whether Kubernetes may have set it: a service called "gateway" puts GATEWAY_PORT into every pod."""
    return text.startswith(("tcp://", "udp://"))


def effective(settings: Settings) -> list[tuple[str, str]]:
    """Each variable with the value in force, as text that could be given for it; secrets are masked."""
    return [(variable.name, _as_text(variable, getattr(settings, variable.attribute))) for variable in VARIABLES]


def _as_text(variable: Variable, value: Any) -> str:
    if variable.secret:
        return MASK if value else ""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value * 1000:.6f}".rstrip("0").rstrip(".")
        case (ServiceSettings(), *_):
            return json.dumps({service.name: _as_json(service) for service in value})
        case tuple():
            return ",".join(map(str, value))
    return "" if value is None else str(value)


def _as_json(service: ServiceSettings) -> dict[str, object]:
    endpoints = [
        {"url": each.url, "weight": each.weight} if each.weight != 1 else each.url for each in service.endpoints
    ]
    return {"endpoints": endpoints, "balancer": service.balancer}


def environment_help() -> str:
    """All variables for --help."""
    lines = [
        f"{group}:\n" + "\n".join(f"  {each.name}={each.default}\n      {each.line}" for each in variables)
        for group, variables in groupby(VARIABLES, lambda variable: variable.group)
    ]
    return "\n\n".join(lines)


def example_env() -> str:
    """What .env.example holds."""
    blocks = ["# Copy to .env and set UPSTREAMS. An empty value means: not set."]
    for group, variables in groupby(VARIABLES, lambda variable: variable.group):
        blocks.append(f"# --- {group} ---")
        blocks += [f"# {each.line}\n{each.name}={each.default}" for each in variables]
    return "\n\n".join(blocks) + "\n"


def markdown_table() -> str:
    """The README's table."""
    rows = [f"| `{each.name}` | {f'`{each.default}`' if each.default else ''} | {each.line} |" for each in VARIABLES]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"
