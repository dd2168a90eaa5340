"""What the gateway is told to do: from variables of the environment to `Settings`.

Everything that is wrong is reported at once. Durations are milliseconds in the environment (variables.py) and float
seconds in `Settings`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tornado_gateway.config.parsers import ServiceSettings
from tornado_gateway.config.problems import ConfigurationError, Invalid, Problem, shown
from tornado_gateway.config.services import MAP_OF_SERVICES
from tornado_gateway.config.variables import VARIABLES
from tornado_gateway.policy.http.address import Network
from tornado_gateway.policy.http.handshake import ANY_ORIGIN, SAME_ORIGIN
from tornado_gateway.policy.upstream.affinity import HashKey

LEVELS_WITH_ACCESS = ("info", "debug", "trace")  # of LOG_LEVEL: those with an access log

# Share of SHUTDOWN_TIMEOUT_MS within which the last stream is told to end; the rest is for it to do so.
STREAMS_END_WITHIN = 0.8

SHORTEST_KEY = 32  # characters; HS256 wants 256 bits (RFC 7518 §3.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One attribute per variable of VARIABLES, which tells what each means.

    Durations are seconds, sizes bytes. None and () stand for variables that are not set.
    """

    host: tuple[str, ...]
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
    http_proxy_timeout: float
    request_timeout: float
    min_upload_rate: int
    min_response_rate: int
    upstream_body_idle_timeout: float | None = None
    upstream_connect_timeout: float
    long_poll: bool
    upstream_max_idle: int
    upstream_idle_timeout: float
    upstream_tls_verify: bool
    upstream_tls_ca_file: str | None = None
    upstream_tls_closure: bool
    dns_ttl: float
    dns_family: str
    dns_resolv_conf: str | None = None
    dns_hosts: str | None = None
    discovery: bool
    balancer: str
    hash_key: HashKey
    sticky: str
    sticky_secret: str | None = field(default=None, repr=False)
    max_in_flight: int
    queue_size: int
    queue_timeout: float
    adaptive_concurrency: bool
    slow_start: float
    rebalance_streams: int
    breaker_failures: int
    breaker_window: float
    breaker_open: float
    breaker_max_open: float
    breaker_probes: int
    breaker_statuses: frozenset[int]
    breaker_failure_percent: int
    breaker_slow: float
    breaker_slow_percent: int
    breaker_min_requests: int
    max_ejected_percent: int
    panic_percent: int
    health_check: str
    health_path: str
    health_statuses: frozenset[int]
    health_interval: float
    health_down_interval: float
    health_timeout: float
    health_rise: int
    health_fall: int
    retry_on: tuple[str, ...]
    repeatable: tuple[str, ...] = ()
    retry_attempts: int
    retry_try_timeout: float
    retry_backoff: float
    retry_budget_percent: int
    retry_budget_floor: int
    hedge: bool
    ready_requires: tuple[str, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    preserve_host: bool
    target_bytes: str
    alt_svc: str
    via_name: str | None = None
    auth_required: bool
    jwt_secret: str | None = field(default=None, repr=False)
    rate_limit_max: int | None = None
    rate_limit_window: float
    cache_enabled: bool
    cache_default_ttl: float
    cache_max_body_bytes: int
    under_pressure_max_event_loop_delay: float
    under_pressure_max_heap_used_bytes: int
    under_pressure_max_rss_bytes: int
    max_streams: int
    max_streams_per_service: int
    max_streams_per_client: int
    slow_consumer: str
    stream_buffer_bytes: int
    drain_spread: float
    sse_heartbeat: float
    sse_idle_timeout: float
    sse_max_age: float
    sse_max_bytes: int
    sse_error_event: str
    sse_unavailable: str | None = None
    sse_last_event_id_query: bool
    sse_peek: float
    ws_allowed_origins: tuple[str, ...]
    ws_origin: str
    ws_max_message_bytes: int
    ws_max_buffered_bytes: int
    ws_ping_interval: float
    ws_pong_timeout: float
    ws_idle_timeout: float
    ws_rate_limit_messages: int
    ws_rate_limit_bytes: int
    ws_rate_limit_policy: str
    ws_drain_code: str

    def of(self, service: ServiceSettings) -> "Settings":
        """The settings as they are for one service."""
        return replace(self, **service.options)


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
    if "gateway_env" in values and not env.get("WS_ALLOWED_ORIGINS"):
        values["ws_allowed_origins"] = (SAME_ORIGIN if values["gateway_env"] == "production" else ANY_ORIGIN,)
    problems += _check_upstreams(env)
    problems += _check_secret(values)
    problems += _check_required(values)
    if problems:
        raise ConfigurationError(tuple(problems))
    from_file = values.pop("upstreams_file", ())
    found = values.pop("services", from_file)
    return Settings(services=found, upstreams_file=env.get("UPSTREAMS_FILE") or None, **values)


def _check_upstreams(env: Mapping[str, str]) -> Iterator[Problem]:
    given, file = env.get("UPSTREAMS"), env.get("UPSTREAMS_FILE")
    if given and file:
        yield Problem("UPSTREAMS_FILE", shown(file), "is set, and so is UPSTREAMS", "one of the two")
    if not given and not file:
        yield Problem("UPSTREAMS", "", "is not set", MAP_OF_SERVICES)


def _check_required(values: Mapping[str, Any]) -> Iterator[Problem]:
    known = [service.name for service in values.get("services", values.get("upstreams_file", ()))]
    for name in values.get("ready_requires", ()):
        if known and name not in (*known, "*"):
            yield Problem("READY_REQUIRES", shown(name), "is not a service", ", ".join([*known, "*"]))


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
