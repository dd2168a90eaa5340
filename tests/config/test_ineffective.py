"""Warnings about variables without effect, and no other warnings."""

import json
from pathlib import Path

import pytest
import trustme

from tests.support.credentials import API_KEYS
from tornado_gateway.config.ineffective import CONFLICTS, RULES, ineffective
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.variables import VARIABLES
from tornado_gateway.upkeep import process

URL = "http://10.0.0.7"
KEY = "k" * 32


def told(services: object = None, **env: str) -> list[str]:
    env["UPSTREAMS"] = json.dumps(services or {"a": [URL]})
    return ineffective(load_settings(env), env)


def test_rules_are_about_variables() -> None:
    names = {each.name for each in VARIABLES}
    assert {name for rule in (*RULES, *CONFLICTS) for name in rule.names} <= names


def test_unset_variables_are_not_mentioned() -> None:
    assert told() == []
    assert told(**{each.name: "" for each in VARIABLES}) == []


@pytest.mark.parametrize(
    ("name", "env", "mended", "why"),
    [
        ("JWT_SECRET", {"JWT_SECRET": KEY}, {"AUTH_REQUIRED": "true"}, "AUTH_REQUIRED is false"),
        ("JWT_SECRET", {"JWT_SECRET": KEY}, {"GATEWAY_ENV": "production"}, "AUTH_REQUIRED is false"),
        ("API_KEYS", {"API_KEYS": API_KEYS}, {"AUTH_REQUIRED": "true"}, "nothing asks for an API key"),
        ("METRICS_AUTH", {"METRICS_AUTH": "true"}, {"AUTH_REQUIRED": "true"}, "AUTH_REQUIRED is false"),
        ("METRICS_AUTH", {"METRICS_AUTH": "true"}, {"ADMIN_SCOPE": "admin"}, "AUTH_REQUIRED is false"),
        ("ADMIN_HOST", {"ADMIN_HOST": "::1"}, {"ADMIN_PORT": "0"}, "ADMIN_PORT is not set"),
        ("ADMIN_SESSION_IDLE_MS", {"ADMIN_SESSION_IDLE_MS": "5"}, {"ADMIN_SCOPE": "admin"},
         "AUTH_REQUIRED is false, and neither ADMIN_SCOPE nor ADMIN_PASSWORD_HASH is set"),
        ("PRIORITY", {"PRIORITY": "low", "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "0"}, {"MAX_IN_FLIGHT_TOTAL": "9"},
         "no threshold of overload is set (MAX_IN_FLIGHT_TOTAL and others)"),
        ("CACHE_DEFAULT_TTL_MS", {"CACHE_DEFAULT_TTL_MS": "9"}, {"CACHE_ENABLED": "true"}, "CACHE_ENABLED is false"),
        ("CACHE_MAX_BYTES", {"CACHE_MAX_BYTES": "9"}, {"CACHE_ENABLED": "true", "CACHE_MAX_BODY_BYTES": "1"},
         "nothing is cached"),
        ("CACHE_SCOPE", {"CACHE_SCOPE": "principal", "CACHE_ENABLED": "true"},
         {"AUTH_REQUIRED": "true", "JWT_SECRET": KEY}, "nothing asks for a token"),
        ("CACHE_SORT_QUERY", {"CACHE_SORT_QUERY": "true", "CACHE_ENABLED": "true", "CACHE_IGNORE_QUERY": "*"},
         {"CACHE_IGNORE_QUERY": "a"}, "CACHE_IGNORE_QUERY is *"),
        ("HASH_KEY", {"HASH_KEY": "path"}, {"BALANCER": "consistent_hash"}, "BALANCER is not consistent_hash"),
        ("STICKY_SECRET", {"STICKY_SECRET": KEY}, {"STICKY": "refuse"}, "STICKY is off"),
        ("QUEUE_SIZE", {"QUEUE_SIZE": "5"}, {"MAX_IN_FLIGHT": "9"},
         "MAX_IN_FLIGHT is 0 and ADAPTIVE_CONCURRENCY is false"),
        ("QUEUE_TIMEOUT_MS", {"QUEUE_TIMEOUT_MS": "5", "MAX_IN_FLIGHT": "9", "QUEUE_SIZE": "0"}, {"QUEUE_SIZE": "1"},
         "QUEUE_SIZE is 0"),
        ("BREAKER_PROBES", {"BREAKER_PROBES": "2", "BREAKER_FAILURES": "0"}, {"BREAKER_SLOW_MS": "5"},
         "BREAKER_FAILURES, BREAKER_FAILURE_PERCENT and BREAKER_SLOW_MS are 0"),
        ("BREAKER_MIN_REQUESTS", {"BREAKER_MIN_REQUESTS": "2"}, {"BREAKER_FAILURE_PERCENT": "5"},
         "BREAKER_FAILURE_PERCENT and BREAKER_SLOW_MS are 0"),
        ("BREAKER_SLOW_PERCENT", {"BREAKER_SLOW_PERCENT": "5"}, {"BREAKER_SLOW_MS": "5"}, "BREAKER_SLOW_MS is 0"),
        ("HEDGE", {"HEDGE": "true", "LONG_POLL": "true"}, {"LONG_POLL": "false"}, "LONG_POLL is true"),
        ("BREAKER_SLOW_MS", {"BREAKER_SLOW_MS": "9", "LONG_POLL": "true"}, {"LONG_POLL": "false"}, "LONG_POLL is true"),
        ("HEALTH_PATH", {"HEALTH_PATH": "/up"}, {"HEALTH_CHECK": "websocket"}, "HEALTH_CHECK is off or tcp"),
        ("HEALTH_PATH", {"HEALTH_PATH": "/", "HEALTH_CHECK": "tcp"}, {"HEALTH_CHECK": "http"},
         "HEALTH_CHECK is off or tcp"),
        ("HEALTH_STATUSES", {"HEALTH_STATUSES": "200"}, {"HEALTH_CHECK": "http"}, "HEALTH_CHECK is not http"),
        ("HEALTH_RISE", {"HEALTH_RISE": "1"}, {"HEALTH_CHECK": "tcp"}, "HEALTH_CHECK is off"),
        ("RETRY_ON", {"RETRY_ON": "503", "RETRY_ATTEMPTS": "1"}, {"RETRY_ATTEMPTS": "2"}, "RETRY_ATTEMPTS is 1"),
        ("RETRY_ATTEMPTS", {"RETRY_ON": "off", "RETRY_ATTEMPTS": "3"}, {"RETRY_ON": "reset"}, "RETRY_ON is off"),
        ("RETRY_TRY_TIMEOUT_MS", {"RETRY_TRY_TIMEOUT_MS": "900", "HTTP_PROXY_TIMEOUT_MS": "900"},
         {"HTTP_PROXY_TIMEOUT_MS": "901"}, "HTTP_PROXY_TIMEOUT_MS is not longer"),
        ("RETRY_BACKOFF_MS", {"RETRY_BACKOFF_MS": "3"}, {"RETRY_ON": "503"},
         "no status is sent again (RETRY_ON, RETRY_ATTEMPTS)"),
        ("RETRY_BUDGET_FLOOR", {"RETRY_BUDGET_FLOOR": "3", "RETRY_ON": "off"}, {"HEDGE": "true"},
         "nothing is sent again (RETRY_ON, RETRY_ATTEMPTS, HEDGE)"),
        ("ACCESS_LOG", {"ACCESS_LOG": "true", "LOG_LEVEL": "warn"}, {"ACCESS_LOG": "false"}, "LOG_LEVEL is above info"),
        ("STREAM_OPEN_LOG", {"STREAM_OPEN_LOG": "true", "ACCESS_LOG": "false"}, {"ACCESS_LOG": "true"},
         "ACCESS_LOG is false, or LOG_LEVEL is above info"),
        ("LOG_QUERY", {"LOG_QUERY": "true", "ACCESS_LOG": "false"}, {"SLOW_REQUEST_MS": "9"},
         "ACCESS_LOG is false, or LOG_LEVEL is above info"),
        ("LOG_REDACT", {"LOG_REDACT": "email"}, {"LOG_QUERY": "true"},
         "LOG_QUERY is false, and no name is that of a field of the access log"),
        ("LOG_REDACT", {"LOG_REDACT": "email"}, {"LOG_REDACT": "email,Client"},
         "LOG_QUERY is false, and no name is that of a field of the access log"),
        ("SLOW_REQUEST_MS", {"SLOW_REQUEST_MS": "9", "LOG_LEVEL": "error"}, {"LOG_LEVEL": "warn"},
         "LOG_LEVEL is above warn"),
        ("MAX_STREAMS_PER_CLIENT", {"MAX_STREAMS_PER_CLIENT": "9", "MAX_STREAMS": "8"}, {"MAX_STREAMS": "9"},
         "MAX_STREAMS is less"),
        ("MAX_STREAMS_PER_SERVICE", {"MAX_STREAMS_PER_SERVICE": "9", "MAX_STREAMS": "8"}, {"MAX_STREAMS": "0"},
         "MAX_STREAMS is less"),
        ("CORS_ORIGINS", {"CORS_ORIGINS": "*", "CORS": "pass"}, {"CORS": "answer"}, "CORS is pass or off"),
        ("CORS", {"CORS": "answer"}, {"CORS_ORIGINS": "*"}, "CORS_ORIGINS is not set"),
        ("CORS_MAX_AGE_S", {"CORS_MAX_AGE_S": "9"}, {"CORS_ORIGINS": "*"},
         "CORS_ORIGINS is not set, or CORS is pass or off"),
        ("RATE_LIMIT_WINDOW_MS", {"RATE_LIMIT_WINDOW_MS": "9"}, {"RATE_LIMIT_MAX": "5"}, "RATE_LIMIT_MAX is 0"),
        ("RATE_LIMIT_KEY", {"RATE_LIMIT_KEY": "route", "RATE_LIMITS": "1/s;key=ip"}, {"RATE_LIMITS": "1/s"},
         "no policy of RATE_LIMIT_MAX, RATE_LIMITS or MAX_IN_FLIGHT_PER_CLIENT needs the key"),
        ("RATE_LIMIT_KEY", {"RATE_LIMIT_KEY": "route"}, {"MAX_IN_FLIGHT_PER_CLIENT": "1"},
         "no policy of RATE_LIMIT_MAX, RATE_LIMITS or MAX_IN_FLIGHT_PER_CLIENT needs the key"),
        ("RATE_LIMIT_MODE", {"RATE_LIMIT_MODE": "observe"}, {"RATE_LIMITS": "1/s"}, "nothing is limited"),
        ("RATE_LIMIT_MODE", {"RATE_LIMIT_MODE": "observe"}, {"MAX_IN_FLIGHT_PER_CLIENT": "1"}, "nothing is limited"),
        ("RATE_LIMIT_ALGORITHM", {"RATE_LIMIT_ALGORITHM": "sliding"}, {"RATE_LIMIT_MAX": "1"},
         "RATE_LIMIT_MAX and RATE_LIMITS are not set"),
        ("RATE_LIMIT_STORE", {"RATE_LIMIT_STORE": "redis://a"}, {"RATE_LIMIT_MAX": "1"}, "nothing is limited"),
        ("REDIS_URL", {"REDIS_URL": "redis://a"}, {"CACHE_ENABLED": "true"},
         "nothing is limited or cached, and nothing asks for a token"),
        ("REDIS_URL", {"REDIS_URL": "redis://a"}, {"SHARED_ENDPOINTS_SECRET": KEY},
         "nothing is limited or cached, and nothing asks for a token"),
        ("COMPRESS_MIN_BYTES", {"COMPRESS_MIN_BYTES": "9"}, {"COMPRESS": "gzip"}, "COMPRESS is off"),
        ("CACHE_STORE_SECRET", {"CACHE_STORE_SECRET": "s", "CACHE_ENABLED": "true"}, {"REDIS_URL": "redis://a"},
         "what is cached is in memory alone"),
        ("CACHE_STORE", {"CACHE_STORE": "memory://"}, {"CACHE_ENABLED": "true"}, "nothing is cached"),
        ("REDIS_URL", {"REDIS_URL": "redis://a", "RATE_LIMIT_STORE": "redis://b", "RATE_LIMIT_MAX": "1"},
         {"RATE_LIMIT_STORE": ""}, "RATE_LIMIT_STORE is set"),
        ("RATE_LIMIT_ON_ERROR", {"RATE_LIMIT_ON_ERROR": "open", "RATE_LIMIT_MAX": "1"}, {"REDIS_URL": "redis://a"},
         "the counters are in memory"),
        ("WS_PONG_TIMEOUT_MS", {"WS_PONG_TIMEOUT_MS": "9", "WS_PING_INTERVAL_MS": "0"}, {"WS_PING_INTERVAL_MS": "5"},
         "WS_PING_INTERVAL_MS is 0"),
        ("WS_RATE_LIMIT_POLICY", {"WS_RATE_LIMIT_POLICY": "close"}, {"WS_RATE_LIMIT_BYTES": "5"},
         "WS_RATE_LIMIT_MESSAGES and WS_RATE_LIMIT_BYTES are 0"),
    ],
)  # fmt: skip
def test_what_another_variable_makes_void_is_told_with_the_cause(
    name: str, env: dict[str, str], mended: dict[str, str], why: str
) -> None:
    assert told(**env) == [f"{name} is set but has no effect: {why}"]
    assert told(**(env | {"JWT_SECRET": KEY, "AUTH_REQUIRED": "true"} | mended)) == []


def test_tickets_need_another_source_of_tokens() -> None:
    env = {"AUTH_REQUIRED": "true", "JWT_SECRET": KEY}
    why = "AUTH_TOKEN_SOURCES is ticket alone: no token is accepted, so none can be exchanged for a ticket"
    assert told(**env, AUTH_TOKEN_SOURCES="ticket") == [why]
    assert told(**env, AUTH_TOKEN_SOURCES="ticket,cookie:sid") == []
    assert told(**env, AUTH_TOKEN_SOURCES="ticket", API_KEYS=API_KEYS) == []


def test_authorities_are_for_https_that_is_verified(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(authority)
    env = {"UPSTREAM_TLS_CA_FILE": str(authority)}
    https = {"a": [URL, "https://10.0.0.8"]}
    assert told(**env) == ["UPSTREAM_TLS_CA_FILE is set but has no effect: no endpoint is https"]
    assert told(https, **env) == []
    assert told(https, UPSTREAM_TLS_VERIFY="false", **env) == [
        "UPSTREAM_TLS_CA_FILE is set but has no effect: UPSTREAM_TLS_VERIFY is false"
    ]


def test_a_limit_of_the_heap_needs_a_malloc_that_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, tells, void in (("9", True, False), ("9", False, True), ("0", False, False)):
        monkeypatch.setattr(process, "_mallinfo", process.blocks if tells else None)
        why = "malloc of this system does not tell its bytes in use"
        warnings = [f"UNDER_PRESSURE_MAX_HEAP_USED_BYTES is set but has no effect: {why}"] if void else []
        assert told(UNDER_PRESSURE_MAX_HEAP_USED_BYTES=limit) == warnings


def test_a_variable_has_an_effect_if_it_has_one_for_any_service() -> None:
    hashed = {"endpoints": [URL], "balancer": "consistent_hash"}
    assert told({"a": [URL], "b": hashed}, HASH_KEY="path") == []
    assert told({"a": [URL], "b": hashed | {"hashKey": "path"}}, HASH_KEY="path") == [
        "HASH_KEY is set but has no effect: BALANCER is not consistent_hash"
    ]


def test_a_key_of_a_service_is_told_with_its_place() -> None:
    services = {
        "a": {"endpoints": [URL], "healthPath": "/up"},
        "b": {"endpoints": [URL], "healthCheck": "http", "healthPath": "/"},
    }
    assert told(services) == ["UPSTREAMS.a.healthPath is set but has no effect: HEALTH_CHECK is off or tcp"]
    assert told(services, HEALTH_CHECK="http") == []


@pytest.mark.parametrize(
    ("name", "value", "source"),
    [
        ("CONSUL_URL", "http://10.0.0.5:8500", "consul+http://a"),
        ("CONSUL_TOKEN", "secret", "consul+https://a"),
        ("KUBERNETES_API_URL", "https://10.0.0.1", "k8s+http://a"),
        ("KUBERNETES_ACCOUNT", "/var/run/account", "k8s+https://a"),
    ],
)
def test_where_a_source_is_asked_has_no_effect_without_the_source(name: str, value: str, source: str) -> None:
    (line,) = told(**{name: value})
    assert line.startswith(f"{name} is set but has no effect: no endpoint is {source.partition('+')[0]}+http")
    assert told({"a": [source]}, **{name: value}) == []
    assert len(told({"a": ["srv+http://a"]}, **{name: value})) == 1


@pytest.mark.parametrize(
    ("hosts", "of_routes", "void"),
    [
        ("a.example.com", ["a.example.com"], []),
        ("a.example.com", ["*.example.com"], []),
        ("a.example.com", [], ["a.example.com"]),
        ("*.example.com", ["a.example.com"], []),
        ("*.example.com", ["*.example.com"], []),
        ("*.example.com", ["example.com", "a.b.example.com"], ["*.example.com"]),
        ("a.example.com,b.example.com,example.com", ["b.example.com", "*.other.com"], ["a.example.com", "example.com"]),
    ],
)
def test_a_host_of_the_gateway_without_a_route_is_told(hosts: str, of_routes: list[str], void: list[str]) -> None:
    routes = json.dumps([{"path": "/*", "service": "a", "host": host} for host in of_routes])
    assert told(ROUTES=routes, GATEWAY_HOSTS=hosts) == [
        f"{host} of GATEWAY_HOSTS is set but has no effect: "
        "no route of ROUTES is for that host, which keeps the gateway's own paths anyway"
        for host in void
    ]


@pytest.mark.parametrize(
    ("url", "route", "has_effect"),
    [
        (URL, {"path": "/app/*"}, False),
        (URL, {"path": "/app/*", "rewrite": "/app/*"}, False),
        (URL, {"path": "/*", "host": "a.example.com"}, False),
        (URL, {"path": "/app/*", "strip": True}, True),
        (URL, {"path": "/app/*", "rewrite": "/v2/*"}, True),
        (f"{URL}/base/", {"path": "/app/*"}, True),
        (f"{URL}/app", {"path": "/app/*", "strip": True}, False),
        (f"{URL}/base", {"path": "/*", "host": "a.example.com"}, True),
        ("unix:/run/app.sock", {"path": "/app/*"}, False),
    ],
)
def test_cookie_paths_that_are_public_already_are_told(url: str, route: dict[str, object], has_effect: bool) -> None:
    on, off = ({**route, "service": "a", "rewriteCookiePath": value} for value in (True, False))
    line = "ROUTES[1].rewriteCookiePath is set but has no effect: the paths of the service are the public paths already"
    other = {"path": "/other/*", "service": "a", "strip": True}
    assert told({"a": [url]}, ROUTES=json.dumps([other, on])) == ([] if has_effect else [line])
    assert told({"a": [url]}, ROUTES=json.dumps([other, off])) == []


@pytest.mark.parametrize(
    ("routes", "passages"),
    [
        ([{"path": "/open/*", "strip": True, "auth": "none"}, {"path": "/team/*"}], [(0, 1, "/open/team", "/team/*")]),
        ([{"path": "/open/*", "auth": "none"}, {"path": "/team/*"}], []),
        ([{"path": "/*", "auth": "none"}, {"path": "/team/*"}], []),  # the longer prefix has the path
        ([{"path": "/*", "host": "a.example.com", "auth": "none"}, {"path": "/team/*"}],
         [(0, 1, "a.example.com/team", "/team/*")]),
        ([{"path": "/all/*", "strip": True}, {"path": "/*", "host": "a.example.com", "scopes": "x"}],
         [(0, 1, "/all", "a.example.com/*")]),
        ([{"path": "/x/*", "auth": "none"}, {"path": "/*"}], []),  # an exception
    ],
    ids=["stripped", "kept", "longer", "host", "scope", "exception"],
)  # fmt: skip
def test_a_route_past_the_protection_of_another_is_told(
    routes: list[dict[str, object]], passages: list[tuple[int, int, str, str]]
) -> None:
    env = {"ROUTES": json.dumps([{**each, "service": "a"} for each in routes])}
    assert told(AUTH_REQUIRED="true", JWT_SECRET=KEY, **env) == [
        f"ROUTES[{route}] asks less of clients than ROUTES[{other}], and leads to the same paths of the service a: "
        f"{path} is {label} without its protection"
        for route, other, path, label in passages
    ]


def test_an_alias_is_told_if_it_says_something_else() -> None:
    assert told(GATEWAY_ENV="test", NODE_ENV="production") == [
        "NODE_ENV is set but has no effect: GATEWAY_ENV is set, too"
    ]
    assert told(GATEWAY_ENV="test", NODE_ENV="test") == told(NODE_ENV="test") == told(GATEWAY_ENV="test") == []


@pytest.mark.parametrize(
    ("env", "begins"),
    [
        ({"BREAKER_OPEN_MS": "600000"}, "BREAKER_OPEN_MS is longer than BREAKER_MAX_OPEN_MS: "),
        ({"BREAKER_MAX_OPEN_MS": "1"}, "BREAKER_OPEN_MS is longer than BREAKER_MAX_OPEN_MS: "),
        ({"HEALTH_CHECK": "tcp", "HEALTH_INTERVAL_MS": "100"}, "HEALTH_TIMEOUT_MS is longer than HEALTH_INTERVAL_MS: "),
        ({"WS_ORIGIN": "rewrite"}, "WS_ORIGIN is rewrite and WS_ALLOWED_ORIGINS is *: "),
        (
            {"PRESERVE_HOST": "true", "WS_ORIGIN": "rewrite", "WS_ALLOWED_ORIGINS": "same-origin"},
            "PRESERVE_HOST is true and WS_ORIGIN is rewrite: ",
        ),
        ({"DRAIN_SPREAD_MS": "90000"}, "DRAIN_SPREAD_MS is longer than four fifths of SHUTDOWN_TIMEOUT_MS: "),
    ],
)
def test_what_contradicts_another_variable_is_told_once(env: dict[str, str], begins: str) -> None:
    (line,) = told({"a": [URL], "b": [URL]}, **env)
    assert line.startswith(begins)


def test_a_contradiction_within_a_service_is_told_with_its_place() -> None:
    (line,) = told({"a": [URL], "b": {"endpoints": [URL], "breakerOpenMs": 600000}})
    assert line.startswith("UPSTREAMS.b: BREAKER_OPEN_MS is longer than ")


def test_a_contradiction_within_a_route_is_told_with_its_place() -> None:
    route = {"path": "/app/*", "service": "a", "preserveHost": True}
    routes = json.dumps([route | {"path": "/x/*", "preserveHost": False}, route])
    (line,) = told(ROUTES=routes, WS_ORIGIN="rewrite", WS_ALLOWED_ORIGINS="same-origin")
    assert line.startswith("ROUTES[1]: PRESERVE_HOST is true and WS_ORIGIN is rewrite: ")


def test_defaults_contradict_nothing() -> None:
    assert told(SHUTDOWN_TIMEOUT_MS="100") == []


@pytest.mark.parametrize(
    ("env", "mended", "text"),
    [
        ({"RATE_LIMITS": "9/s;burst=3", "RATE_LIMIT_ALGORITHM": "sliding"}, {"RATE_LIMIT_ALGORITHM": "gcra"},
         "RATE_LIMITS has a burst and RATE_LIMIT_ALGORITHM is sliding, which knows no bursts: the limit counts"),
        ({"RATE_LIMITS": "9/s;scope=free"}, {"AUTH_REQUIRED": "true", "JWT_SECRET": KEY},
         "a rate limit of RATE_LIMITS is for a scope and nothing asks for a token: the limit is never reached"),
        ({"RATE_LIMIT_MAX": "9", "RATE_LIMIT_KEY": "principal"}, {"AUTH_REQUIRED": "true", "JWT_SECRET": KEY},
         "a rate limit counts by principal and nothing asks for a token: clients are counted by address"),
    ],
)  # fmt: skip
def test_limits_that_contradict_other_variables_are_told(
    env: dict[str, str], mended: dict[str, str], text: str
) -> None:
    assert told(**env) == [text]
    assert told(**env | mended) == []


def test_routes_that_ask_for_different_credentials_close_the_standard_routes() -> None:
    routes = [{"path": "/k/*", "service": "a", "auth": "key"}, {"path": "/j/*", "service": "a", "auth": "jwt"}]
    env = {"API_KEYS": API_KEYS, "JWT_SECRET": KEY}
    closed = "the routes to a ask for different credentials: /api/a, /sse/a and /ws/a refuse every request"
    assert told(ROUTES=json.dumps(routes), **env) == [closed]
    assert told(ROUTES=json.dumps([routes[0], routes[1] | {"auth": "any"}]), **env) == []
    assert told({"a": {"endpoints": [URL], "auth": "key"}}, ROUTES=json.dumps(routes[1:]), JWT_SECRET=KEY) == [closed]
