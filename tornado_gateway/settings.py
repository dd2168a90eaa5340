"""From environment variables to one frozen Settings, with every mistake reported at once.

`VARIABLES` is the only list there is: loading, --help, --print-config, .env.example and
the README's table all come from it. Durations are milliseconds in the environment and
float seconds here.
"""

import difflib
import ipaddress
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornado_gateway.policy.balancing import BALANCERS
from tornado_gateway.policy.headers import Network
from tornado_gateway.policy.target import parse_base_url

MASK = "********"
MIN_SECRET = 32  # characters; an HMAC key shorter than its hash can be guessed (RFC 7518 §3.2)
MAX_WEIGHT = 1000
_SHOWN = 80  # characters of a wrong value that a report repeats

_SERVICE_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_OWN_PREFIXES = ("GATEWAY_", "UPSTREAM", "WS_", "SSE_", "CACHE_", "RATE_LIMIT_", "UNDER_PRESSURE_", "HTTP_PROXY_T")


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """One base URL of a service. `weight` is its share of the load, 1 to 1000."""

    url: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """A service, with the name of its balancer."""

    name: str
    endpoints: tuple[EndpointSettings, ...]
    balancer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says; each attribute is the variable of its name, times in seconds."""

    gateway_env: str
    host: str
    port: int
    services: tuple[ServiceSettings, ...]
    balancer: str
    log_level: str
    log_format: str
    access_log: bool
    event_loop: str
    trusted_proxies: tuple[Network, ...]
    preserve_host: bool
    via_name: str | None
    half_close: str
    max_connections: int
    max_body_bytes: int | None
    header_timeout: float
    keepalive_timeout: float
    client_idle_timeout: float
    http_proxy_timeout: float
    upstream_connect_timeout: float
    upstream_max_idle: int
    upstream_idle_timeout: float
    upstream_tls_verify: bool
    upstream_tls_ca_file: str | None
    dns_ttl: float
    shutdown_timeout: float
    shutdown_delay: float
    auth_required: bool
    jwt_secret: str | None
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
    """One thing that is wrong with the configuration, as one line."""

    variable: str
    given: str | None
    reason: str
    allowed: str

    def __str__(self) -> str:
        given = "" if self.given is None else f'="{_shorten(self.given)}"'
        return f"{self.variable}{given}: {self.reason}; allowed: {self.allowed}"


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` are all the reasons."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Unusable(Exception):
    """A value that a variable cannot have."""

    def __init__(self, reason: str, allowed: str) -> None:
        super().__init__(reason)
        self.reason, self.allowed = reason, allowed


def _shorten(text: str) -> str:
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in shown)


# ---------------------------------------------------------------- reading one value

Parser = Callable[[str], Any]


def _whole(low: int, high: int) -> Parser:
    allowed = f"a whole number from {low} to {high}" if high < 2**53 else f"a whole number from {low}"

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise Unusable("is not a whole number", allowed)
        if not low <= int(text) <= high:
            raise Unusable("is out of range", allowed)
        return int(text)

    return parse


def _bytes(low: int = 0) -> Parser:
    return _whole(low, 2**60)


def _milliseconds(low: float, high: float = 86_400_000) -> Parser:
    allowed = f"milliseconds from {low:g} to {high:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise Unusable("is not a number", allowed) from None
        if not math.isfinite(value) or not low <= value <= high:
            raise Unusable("is out of range", allowed)
        return value / 1000

    return parse


def _choice(*names: str) -> Parser:
    def parse(text: str) -> str:
        if text.lower() not in names:
            raise Unusable("is not known", ", ".join(names))
        return text.lower()

    return parse


def _boolean(text: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in words:
        raise Unusable("is neither true nor false", "true, false, yes, no, on, off, 1, 0")
    return words[text.lower()]


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:-]+", text):
        raise Unusable("is not an address or host name", "an address or host name, for example 0.0.0.0, :: or localhost")
    return text


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise Unusable("is not a token", "letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 §5.6.2)")
    return text


def _networks(text: str) -> tuple[Network, ...]:
    allowed = "comma separated networks, for example 10.0.0.0/8,127.0.0.1"
    networks = []
    for part in text.split(","):
        try:
            networks.append(ipaddress.ip_network(part.strip()))
        except ValueError as error:
            raise Unusable(f"holds what is not a network ({error})", allowed) from None
    return tuple(networks)


def _readable_file(text: str) -> str:
    try:
        with Path(text).open("rb"):
            return text
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot be read ({getattr(error, 'strerror', error)})", "the path of a readable file") from None


def _text(text: str) -> str:
    return text


# ---------------------------------------------------------------- the variables


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable: how it is read, what it is without, and what it means.

    Attributes:
        attribute: of Settings; "" for a variable that becomes part of another.
        parse: raises Unusable.
        default: as it would stand in the environment; "" for none.
        aliases: other names that count when this one is not set.
        reserved: whether it is checked now but takes effect with a later release.
    """

    name: str
    parse: Parser
    default: str
    help: str
    group: str
    secret: bool = False
    aliases: tuple[str, ...] = ()
    reserved: bool = False

    @property
    def attribute(self) -> str:
        return self.name.lower().removesuffix("_ms")

    @property
    def meaning(self) -> str:
        return f"{self.help} (reserved)" if self.reserved else self.help


LEVELS = ("fatal", "error", "warn", "info", "debug", "trace", "silent")

_SERVE, _UP, _LOG, _STOP = "Listening and clients", "Upstreams", "Logs and process", "Stopping"
_TRUST, _AUTH, _LATER = "Forwarding and trust", "Authentication", "Read now, in force with later releases"

VARIABLES: tuple[Variable, ...] = (
    Variable("UPSTREAMS", _text, "", "JSON: service to array of base URLs, or to an object with endpoints", _UP),
    Variable("UPSTREAMS_FILE", _readable_file, "", "a JSON file of the same shape, instead of UPSTREAMS", _UP),
    Variable("BALANCER", _choice(*BALANCERS), "least_load", "how endpoints are chosen: " + ", ".join(BALANCERS), _UP),
    Variable("HTTP_PROXY_TIMEOUT_MS", _milliseconds(1), "30000", "until a response begins, and between its bytes", _UP),
    Variable("UPSTREAM_CONNECT_TIMEOUT_MS", _milliseconds(1), "5000", "for name, connection and TLS together", _UP),
    Variable("UPSTREAM_MAX_IDLE", _whole(0, 65535), "256", "idle connections kept per endpoint; 0 keeps none", _UP),
    Variable("UPSTREAM_IDLE_TIMEOUT_MS", _milliseconds(1), "60000", "how long an idle connection is kept", _UP),
    Variable("UPSTREAM_TLS_VERIFY", _boolean, "true", "whether https upstreams must show a valid certificate", _UP),
    Variable("UPSTREAM_TLS_CA_FILE", _readable_file, "", "PEM file of authorities instead of the system's", _UP),
    Variable("DNS_TTL_MS", _milliseconds(0), "30000", "how long addresses are kept; 0 asks each time", _UP),
    Variable("HOST", _host, "0.0.0.0", "address to listen on", _SERVE),
    Variable("PORT", _whole(0, 65535), "8080", "port to listen on; 0 picks a free one", _SERVE),
    Variable("MAX_CONNECTIONS", _bytes(), "0", "client connections at once; 0: what file descriptors allow", _SERVE),
    Variable("MAX_BODY_BYTES", _bytes(), "", "largest request body; unset: no limit", _SERVE),
    Variable("HEADER_TIMEOUT_MS", _milliseconds(1), "10000", "for a request's head to arrive", _SERVE),
    Variable("KEEPALIVE_TIMEOUT_MS", _milliseconds(1), "95000", "how long a connection may idle", _SERVE),
    Variable("CLIENT_IDLE_TIMEOUT_MS", _milliseconds(1), "60000", "without progress by a sending or reading client", _SERVE),
    Variable("HALF_CLOSE", _choice("abort", "ignore"), "abort", "what a client's FIN before its answer means", _SERVE),
    Variable("TRUSTED_PROXIES", _networks, "", "networks whose X-Forwarded-* are believed", _TRUST),
    Variable("PRESERVE_HOST", _boolean, "false", "whether upstreams see the client's Host", _TRUST),
    Variable("VIA_NAME", _token, "", "this gateway's name in Via; unset: random", _TRUST),
    Variable("GATEWAY_ENV", _choice("development", "test", "production"), "development", "development, test or production", _LOG, aliases=("NODE_ENV",)),
    Variable("LOG_LEVEL", _choice(*LEVELS), "info", ", ".join(LEVELS), _LOG),
    Variable("LOG_FORMAT", _choice("auto", "json", "text"), "auto", "json, text, or auto: text on a terminal", _LOG),
    Variable("ACCESS_LOG", _boolean, "true", "one line per request, at LOG_LEVEL info or below", _LOG),
    Variable("EVENT_LOOP", _choice("auto", "uvloop", "asyncio"), "auto", "auto takes uvloop where it is installed", _LOG),
    Variable("SHUTDOWN_TIMEOUT_MS", _milliseconds(0), "25000", "for what is in flight to finish", _STOP),
    Variable("SHUTDOWN_DELAY_MS", _milliseconds(0), "0", "/readyz says 503 this long before the gateway stops accepting", _STOP),
    Variable("AUTH_REQUIRED", _boolean, "", "whether proxied requests need a token; unset: only in production", _AUTH),
    Variable("JWT_SECRET", _text, "", f"HMAC key of tokens, at least {MIN_SECRET} characters", _AUTH, secret=True),
    Variable("RATE_LIMIT_MAX", _whole(1, 2**53), "200", "requests per window and client", _LATER, reserved=True),
    Variable("RATE_LIMIT_WINDOW_MS", _milliseconds(1), "60000", "the rate limit's window", _LATER, reserved=True),
    Variable("CACHE_ENABLED", _boolean, "false", "whether responses are cached", _LATER, reserved=True),
    Variable("CACHE_DEFAULT_TTL_MS", _milliseconds(0), "5000", "freshness of responses that do not say", _LATER, reserved=True),
    Variable("CACHE_MAX_BODY_BYTES", _bytes(), "262144", "largest body that is cached", _LATER, reserved=True),
    Variable("UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS", _milliseconds(0), "1000", "event loop delay that sheds; 0 off", _LATER, reserved=True),
    Variable("UNDER_PRESSURE_MAX_HEAP_USED_BYTES", _bytes(), "0", "heap that sheds; 0 off", _LATER, reserved=True),
    Variable("UNDER_PRESSURE_MAX_RSS_BYTES", _bytes(), "0", "resident memory that sheds; 0 off", _LATER, reserved=True),
    Variable("WS_MAX_BUFFERED_BYTES", _bytes(), "2000000", "held for a slow WebSocket peer", _LATER, reserved=True),
    Variable("WS_PING_INTERVAL_MS", _milliseconds(0), "30000", "between pings to WebSocket peers; 0 off", _LATER, reserved=True),
)  # fmt: skip

_OPTIONAL = {"via_name", "max_body_bytes", "upstream_tls_ca_file", "jwt_secret", "upstreams", "upstreams_file", "auth_required"}
_BY_NAME = {variable.name: variable for variable in VARIABLES}


# ---------------------------------------------------------------- reading all of them


def load_settings(env: Mapping[str, str]) -> Settings:
    """Read settings from variables; an empty one counts as not set.

    Raises:
        ConfigurationError: with every problem there is.
    """
    problems: list[Problem] = []
    values = {variable.attribute: _read(variable, env, problems) for variable in VARIABLES}
    if values["auth_required"] is None:
        values["auth_required"] = values["gateway_env"] == "production"
    services = _services(env, values, problems)
    _check_secret(values, problems)
    if problems:
        raise ConfigurationError(tuple(problems))
    del values["upstreams"], values["upstreams_file"]
    return Settings(services=services, **values)


def _read(variable: Variable, env: Mapping[str, str], problems: list[Problem]) -> Any:
    name, text = variable.name, variable.default
    for each in (variable.name, *variable.aliases):
        if env.get(each):
            name, text = each, env[each]
            break
    if not text:
        return () if variable.name == "TRUSTED_PROXIES" else None
    try:
        return variable.parse(text)
    except Unusable as error:
        given = MASK if variable.secret else text
        problems.append(Problem(name, given, error.reason, error.allowed))
        return None


def _check_secret(values: Mapping[str, Any], problems: list[Problem]) -> None:
    if not values["auth_required"]:
        return
    secret, allowed = values["jwt_secret"], f"at least {MIN_SECRET} characters, or AUTH_REQUIRED=false"
    if secret is None:
        problems.append(Problem("JWT_SECRET", None, "is needed while AUTH_REQUIRED is on", allowed))
    elif len(secret) < MIN_SECRET:
        problems.append(Problem("JWT_SECRET", MASK, "is too short", allowed))


_SHAPE = 'a JSON object such as {"billing": ["http://10.0.0.7:9000"]}'


def _services(
    env: Mapping[str, str], values: Mapping[str, Any], problems: list[Problem]
) -> tuple[ServiceSettings, ...]:
    variable, text = "UPSTREAMS", values["upstreams"]
    if env.get("UPSTREAMS") and env.get("UPSTREAMS_FILE"):
        problems.append(Problem("UPSTREAMS_FILE", env["UPSTREAMS_FILE"], "is set beside UPSTREAMS", "one of the two"))
    elif values["upstreams_file"]:
        variable, text = "UPSTREAMS_FILE", Path(values["upstreams_file"]).read_text(encoding="utf-8", errors="replace")
    if text is None:
        if not env.get("UPSTREAMS_FILE"):
            problems.append(Problem("UPSTREAMS", None, "is not set, and neither is UPSTREAMS_FILE", _SHAPE))
        return ()
    return _Upstreams(variable, values["balancer"] or "least_load", problems).read(text)


class _Upstreams:
    """Reads the map of services, and says of each problem where in the JSON it is."""

    def __init__(self, variable: str, balancer: str, problems: list[Problem]) -> None:
        self._variable, self._balancer, self._problems = variable, balancer, problems

    def _report(self, path: str, given: object, reason: str, allowed: str) -> None:
        text = given if isinstance(given, str) else json.dumps(given)
        self._problems.append(Problem(self._variable + path, text, reason, allowed))

    def read(self, text: str) -> tuple[ServiceSettings, ...]:
        try:
            pairs = json.loads(text, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            self._report("", text, f"is not JSON ({error})", _SHAPE)
            return ()
        if not isinstance(pairs, _Pairs) or not pairs:
            self._report("", text, "is not a JSON object with at least one service", _SHAPE)
            return ()
        seen: set[str] = set()
        services = []
        for name, value in pairs:
            if name in seen:
                self._report("", name, "is there twice", "each service once")
            seen.add(name)
            services.append(self._service(name, value))
        return tuple(service for service in services if service)

    def _service(self, name: str, value: object) -> ServiceSettings | None:
        path = f".{_shorten(name)}"
        if not _SERVICE_NAME.fullmatch(name) or name in (".", ".."):
            self._report("", name, "is not a service's name", "letters, digits, '_', '.', '-'")
            return None
        balancer = self._balancer
        if isinstance(value, _Pairs):
            options = dict(value)
            for key in options.keys() - {"endpoints", "balancer"}:
                self._report(path, key, "is not an option of a service", "endpoints, balancer")
            balancer = options.get("balancer", balancer)
            if balancer not in BALANCERS:
                self._report(f"{path}.balancer", balancer, "is not known", ", ".join(BALANCERS))
            path, value = f"{path}.endpoints", options.get("endpoints")
        if not isinstance(value, list) or isinstance(value, _Pairs) or not value:
            self._report(path, _plain(value), "is not an array with at least one endpoint", '["http://host:port", …]')
            return None
        endpoints = [self._endpoint(f"{path}[{at}]", each) for at, each in enumerate(value)]
        usable = [endpoint for endpoint in endpoints if endpoint]
        for url in {each.url for each in usable if sum(other.url == each.url for other in usable) > 1}:
            self._report(path, url, "is there twice", "each endpoint once, with a weight")
        return ServiceSettings(name, tuple(usable), str(balancer))

    def _endpoint(self, path: str, value: object) -> EndpointSettings | None:
        weight: object = 1
        if isinstance(value, _Pairs):
            options = dict(value)
            for key in options.keys() - {"url", "weight"}:
                self._report(path, key, "is not an option of an endpoint", "url, weight")
            weight, value = options.get("weight", 1), options.get("url")
        if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= MAX_WEIGHT:
            self._report(f"{path}.weight", _plain(weight), "is out of range", f"a whole number from 1 to {MAX_WEIGHT}")
        if not isinstance(value, str):
            self._report(path, _plain(value), "is not a URL", "http://…, https://… or unix:/path")
            return None
        try:
            parse_base_url(value)
        except ValueError as error:
            self._report(path, value, str(error), "http://host:port/base, https://… or unix:/path")
            return None
        return EndpointSettings(value, weight if isinstance(weight, int) else 1)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it stands, repeated keys included."""


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, _Pairs) else value


# ---------------------------------------------------------------- showing them


def hints(env: Mapping[str, str]) -> list[str]:
    """What looks like a misspelt variable of this gateway."""
    known = {name for variable in VARIABLES for name in (variable.name, *variable.aliases)}
    said = []
    for name in sorted(env.keys() - known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6 if name.startswith(_OWN_PREFIXES) else 0.85)
        if near:
            said.append(f"{name} is not a variable of this gateway; did you mean {near[0]}?")
        elif name.startswith("GATEWAY_"):
            said.append(f"{name} is not a variable of this gateway")
    return said


def effective(env: Mapping[str, str]) -> list[tuple[str, str]]:
    """Each variable with the value that counts; secrets are masked."""
    shown = []
    for variable in VARIABLES:
        given = next((env[name] for name in (variable.name, *variable.aliases) if env.get(name)), variable.default)
        shown.append((variable.name, MASK if variable.secret and given else given))
    return shown


def environment_help() -> str:
    """The variables for --help."""
    lines = []
    for group in dict.fromkeys(variable.group for variable in VARIABLES):
        lines.append(f"{group}:")
        for variable in (each for each in VARIABLES if each.group == group):
            default = f" [{variable.default}]" if variable.default else ""
            lines.append(f"  {variable.name}{default}\n      {variable.meaning}")
    return "\n".join(lines)


def example_env() -> str:
    """The text of .env.example."""
    lines = ["# Every variable of the gateway with its default. Times are milliseconds, sizes are bytes."]
    for group in dict.fromkeys(variable.group for variable in VARIABLES):
        lines += ["", f"# ---- {group}"]
        for variable in (each for each in VARIABLES if each.group == group):
            lines += [f"# {variable.meaning}", f"#{variable.name}={variable.default}"]
    lines += ["", 'UPSTREAMS={"api": ["http://127.0.0.1:9000"]}']
    return "\n".join(lines) + "\n"


def markdown_table() -> str:
    """The README's table."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for variable in VARIABLES:
        default = f"`{variable.default}`" if variable.default else ""
        lines.append(f"| `{variable.name}` | {default} | {variable.meaning} |")
    return "\n".join(lines) + "\n"
