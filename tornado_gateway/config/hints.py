"""Hints about unknown variables: misspellings of the gateway's variables, and the names that other gateways use."""

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType

from tornado_gateway.config.variables import VARIABLES

# A name with such a beginning is meant for the gateway: a distant likeness to a variable of the family is enough.
_FAMILIES = (
    *("GATEWAY_", "UPSTREAM", "WS_", "SSE_", "MAX_STREAMS", "CACHE_", "RATE_LIMIT_", "UNDER_PRESSURE_"),
    *("BREAKER_", "HEALTH_", "RETRY_", "REWRITE_", "HTTP_PROXY_T"),
)
_OF_OTHERS = {"WS_URL": {"JWKS_URL"}}  # names that other programs use, and what is not meant by them
_DISTANT, _CLOSE = 0.7, 0.85  # ratios of difflib
_NAMES = [name for variable in VARIABLES for name in (variable.name, *variable.aliases)]
_UNIT = re.compile(r"_(?:MS|MILLIS|MILLISECONDS|S|SEC|SECS|SECONDS|BYTES|KB|MB)$")

# Names that nginx, HAProxy, Envoy, Traefik and gateways on Node use for a variable, without the unit at the end. Names
# that other programs read are not in the list: all programs share the environment.
_ELSEWHERE = {
    foreign: name
    for name, words in {
        "HOST": "BIND BIND_ADDRESS BIND_HOST LISTEN LISTEN_ADDRESS LISTEN_ADDR LISTEN_HOST",
        "PORT": "BIND_PORT LISTEN_PORT",
        "UPSTREAMS": "UPSTREAM_URL UPSTREAM_URLS UPSTREAM_HOST UPSTREAM_HOSTS UPSTREAM_SERVERS BACKENDS PROXY_PASS",
        "MAX_CONNECTIONS": "MAXCONN WORKER_CONNECTIONS MAX_CLIENTS",
        "MAX_BODY_BYTES": "BODY_LIMIT BODY_SIZE_LIMIT CLIENT_MAX_BODY_SIZE MAX_BODY MAX_BODY_SIZE MAX_BODY_LENGTH "
        "MAX_REQUEST_BODY MAX_REQUEST_BODY_SIZE MAX_REQUEST_SIZE MAX_CONTENT_LENGTH",
        "HEADER_TIMEOUT_MS": "CLIENT_HEADER_TIMEOUT HEADERS_TIMEOUT REQUEST_HEADERS_TIMEOUT READ_HEADER_TIMEOUT",
        "KEEPALIVE_TIMEOUT_MS": "KEEPALIVE KEEP_ALIVE KEEP_ALIVE_TIMEOUT",
        "CLIENT_IDLE_TIMEOUT_MS": "CLIENT_BODY_TIMEOUT CLIENT_TIMEOUT TIMEOUT_CLIENT STREAM_IDLE_TIMEOUT",
        "SHUTDOWN_TIMEOUT_MS": "DRAIN_TIME DRAIN_TIMEOUT GRACE_TIMEOUT GRACEFUL_TIMEOUT GRACEFUL_SHUTDOWN_TIMEOUT",
        "HTTP_PROXY_TIMEOUT_MS": "PROXY_TIMEOUT PROXY_READ_TIMEOUT PROXY_SEND_TIMEOUT TIMEOUT_SERVER UPSTREAM_TIMEOUT "
        "UPSTREAM_READ_TIMEOUT BACKEND_TIMEOUT RESPONSE_HEADER_TIMEOUT",
        "UPSTREAM_CONNECT_TIMEOUT_MS": "CONNECT_TIMEOUT CONNECTION_TIMEOUT PROXY_CONNECT_TIMEOUT TIMEOUT_CONNECT "
        "DIAL_TIMEOUT",
        "UPSTREAM_MAX_IDLE": "MAX_IDLE_CONNS_PER_HOST UPSTREAM_KEEPALIVE MAX_FREE_SOCKETS",
        "UPSTREAM_TLS_VERIFY": "INSECURE_SKIP_VERIFY PROXY_SSL_VERIFY SSL_VERIFY TLS_VERIFY",
        "UPSTREAM_TLS_CA_FILE": "PROXY_SSL_TRUSTED_CERTIFICATE UPSTREAM_CA_FILE",
        "DNS_TTL_MS": "DNS_REFRESH_RATE",
        "BALANCER": "LB_POLICY LB_STRATEGY LB_ALGORITHM LOAD_BALANCER LOAD_BALANCING BALANCING",
        "STICKY": "STICKY_SESSION STICKY_SESSIONS SESSION_AFFINITY",
        "MAX_IN_FLIGHT": "IN_FLIGHT_REQ MAX_CONCURRENT_REQUESTS MAX_PENDING_REQUESTS CONCURRENCY_LIMIT",
        "MAX_IN_FLIGHT_TOTAL": "MAX_TOTAL_REQUESTS MAX_CONCURRENT_REQUESTS_TOTAL GLOBAL_CONCURRENCY_LIMIT",
        "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "MAX_EVENT_LOOP_DELAY EVENT_LOOP_DELAY_LIMIT",
        "UNDER_PRESSURE_MAX_HEAP_USED_BYTES": "MAX_HEAP_USED MAX_HEAP_SIZE",
        "UNDER_PRESSURE_MAX_RSS_BYTES": "MAX_RSS MAX_MEMORY",
        "METRICS_AUTH": "METRICS_AUTH_REQUIRED PROTECT_METRICS",
        "SLOW_START_MS": "SLOWSTART SLOW_START_WINDOW",
        "BREAKER_FAILURES": "CIRCUIT_BREAKER CIRCUIT_BREAKER_THRESHOLD CIRCUIT_BREAKER_FAILURES MAX_FAILS "
        "CONSECUTIVE_5XX",
        "BREAKER_OPEN_MS": "CIRCUIT_BREAKER_TIMEOUT CIRCUIT_BREAKER_RESET_TIMEOUT FAIL_TIMEOUT BASE_EJECTION_TIME",
        "MAX_EJECTED_PERCENT": "MAX_EJECTION_PERCENT",
        "PANIC_PERCENT": "PANIC_THRESHOLD HEALTHY_PANIC_THRESHOLD",
        "HEALTH_CHECK": "HEALTHCHECK HEALTH_CHECKS",
        "HEALTH_PATH": "HEALTH_CHECK_PATH HEALTHCHECK_PATH HEALTH_CHECK_URL HEALTHCHECK_URL",
        "HEALTH_INTERVAL_MS": "HEALTH_CHECK_INTERVAL HEALTHCHECK_INTERVAL",
        "HEALTH_TIMEOUT_MS": "HEALTH_CHECK_TIMEOUT HEALTHCHECK_TIMEOUT",
        "RETRY_ATTEMPTS": "MAX_RETRIES NUM_RETRIES RETRIES RETRY RETRY_COUNT PROXY_NEXT_UPSTREAM_TRIES",
        "RETRY_ON": "PROXY_NEXT_UPSTREAM RETRY_STATUS_CODES RETRIABLE_STATUS_CODES",
        "RETRY_TRY_TIMEOUT_MS": "PER_TRY_TIMEOUT TRY_TIMEOUT",
        "TRUSTED_PROXIES": "TRUST_PROXY TRUSTED_IPS TRUSTED_IP SET_REAL_IP_FROM XFF_NUM_TRUSTED_HOPS REAL_IP_FROM "
        "FORWARDED_ALLOW_IPS",
        "ROUTES": "ROUTER ROUTERS ROUTING ROUTING_RULES ROUTE_CONFIG PATH_PREFIX STRIP_PREFIX STRIP_PATH ADD_PREFIX "
        "PREFIX_REWRITE PATH_REWRITE REPLACE_PATH VIRTUAL_HOSTS PROXY_ROUTES",
        "PRESERVE_HOST": "PASS_HOST_HEADER PRESERVE_HOST_HEADER CHANGE_ORIGIN PROXY_PRESERVE_HOST AUTO_HOST_REWRITE "
        "HOST_REWRITE HOST_REWRITE_LITERAL",
        "REWRITE_LOCATION": "PROXY_REDIRECT PROXY_REDIRECTS PROXY_PASS_REVERSE REWRITE_REDIRECT REWRITE_REDIRECTS "
        "AUTO_REWRITE PROTOCOL_REWRITE",
        "REWRITE_COOKIE_PATH": "PROXY_COOKIE_PATH COOKIE_PATH_REWRITE PROXY_PASS_REVERSE_COOKIE_PATH",
        "AUTH_REQUIRED": "AUTH_ENABLED ENABLE_AUTH REQUIRE_AUTH JWT_REQUIRED JWT_ENABLED AUTHENTICATION_REQUIRED",
        "JWT_SECRET": "JWT_KEY JWT_SIGNING_KEY JWT_SECRET_KEY AUTH_SECRET",
        "JWT_PUBLIC_KEY": "JWT_PUBLIC_KEY_FILE JWT_CERT JWT_PUB_KEY JWT_VERIFY_KEY AUTH_PUBLIC_KEY",
        "JWT_ISSUER": "JWT_ISS AUTH_ISSUER TOKEN_ISSUER",
        "JWT_AUDIENCE": "JWT_AUD AUTH_AUDIENCE TOKEN_AUDIENCE",
        "JWT_LEEWAY_S": "AUTH_JWT_LEEWAY JWT_CLOCK_SKEW CLOCK_SKEW_SECONDS JWT_CLOCK_TOLERANCE",
        "AUTH_HIDE_CREDENTIALS": "HIDE_CREDENTIALS STRIP_AUTHORIZATION",
        "AUTH_CLAIM_HEADERS": "CLAIM_TO_HEADERS CLAIMS_HEADERS JWT_CLAIM_HEADERS",
        "RATE_LIMIT_MAX": "RATE_LIMIT RATE_LIMIT_REQUESTS RATELIMIT_MAX LIMIT_REQ RATELIMIT_AVERAGE RATE_LIMIT_RPM "
        "THROTTLE_LIMIT",
        "RATE_LIMIT_WINDOW_MS": "RATE_LIMIT_TIME_WINDOW RATELIMIT_WINDOW RATELIMIT_PERIOD RATE_LIMIT_PERIOD "
        "THROTTLE_TTL",
        "RATE_LIMITS": "LIMIT_REQ_ZONE RATE_LIMIT_POLICIES RATE_LIMIT_RULES RATELIMIT_BURST RATE_LIMIT_BURST",
        "MAX_STREAMS": "MAX_WEBSOCKETS MAX_SSE_CONNECTIONS MAX_SESSIONS",
        "SSE_HEARTBEAT_MS": "SSE_KEEPALIVE SSE_KEEPALIVE_INTERVAL SSE_PING SSE_PING_INTERVAL SSE_HEARTBEAT_INTERVAL",
        "WS_ORIGIN": "REWRITE_WS_ORIGIN REWRITE_ORIGIN ORIGIN_REWRITE",
        "WS_ALLOWED_ORIGINS": "ALLOWED_ORIGINS WS_ORIGINS",
        "WS_MAX_MESSAGE_BYTES": "MAX_PAYLOAD WS_MAX_PAYLOAD WS_MAX_MESSAGE WS_MAX_MESSAGE_SIZE WS_MAX_FRAME_SIZE "
        "MAX_MESSAGE_SIZE MAX_PAYLOAD_LENGTH MAX_HTTP_BUFFER_SIZE",
        "WS_PING_INTERVAL_MS": "WS_HEARTBEAT WS_HEARTBEAT_INTERVAL WS_KEEPALIVE WEBSOCKET_PING_INTERVAL",
        "WS_PONG_TIMEOUT_MS": "WS_PING_TIMEOUT WEBSOCKET_PING_TIMEOUT",
        "WS_IDLE_TIMEOUT_MS": "WEBSOCKET_TIMEOUT WEBSOCKET_IDLE_TIMEOUT WS_TIMEOUT TIMEOUT_TUNNEL",
    }.items()
    for foreign in words.split()
}


def hints(env: Mapping[str, str], places: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """A warning for each unknown variable that looks like a misspelling of a variable, or that stands in .env.

    Args:
        places: "file:line" of each variable in .env.

    >>> hints({"UPSTREAM": "{}", "PORT": "80", "PATH": "/bin"})
    ['UPSTREAM is not a variable of this gateway; did you mean UPSTREAMS?']
    >>> hints({}, {"X": ".env:3"})
    ['.env:3: X is not a variable of this gateway']
    """
    unknown = {name: env.get(name, "") for name in sorted({*env, *places}) if name not in _NAMES}
    return [hint for name, text in unknown.items() if (hint := _hint(name, text, places.get(name)))]


def _hint(name: str, text: str, place: str | None) -> str | None:
    other = None if _is_service_link(name, text) else _meant(name.upper())
    if not other and not place:
        return None
    said = name.encode("ascii", "backslashreplace").decode("ascii")  # an invisible character is shown
    at = f"{place}: " if place else ""
    return f"{at}{said} is not a variable of this gateway{f'; did you mean {other}?' if other else ''}"


def _meant(name: str) -> str | None:
    bare = name.removeprefix("GATEWAY_")
    if bare in _NAMES:
        return bare
    if elsewhere := _ELSEWHERE.get(_UNIT.sub("", bare)):
        return elsewhere
    return _alike(name) or (_alike(bare) if bare != name else None)


def _alike(name: str) -> str | None:
    family = next(filter(name.startswith, _FAMILIES), None)
    relatives = [each for each in _NAMES if family and each.startswith(family)]
    meant = [each for each in _NAMES if each not in _OF_OTHERS.get(name, ())]
    likely = difflib.get_close_matches(name, meant, n=1, cutoff=_CLOSE)
    likely += difflib.get_close_matches(name, relatives, n=1, cutoff=_DISTANT)
    return next(iter(likely), None)


def _is_service_link(name: str, text: str) -> bool:
    """Whether Kubernetes may have set the variable: a service called "gateway" puts GATEWAY_PORT into every pod."""
    return text.startswith(("tcp://", "udp://")) or name.endswith("_SERVICE_HOST")
