"""Which unknown variables count as misspellings, and which are ignored."""

import pytest

from tornado_gateway.config.hints import _ELSEWHERE, hints
from tornado_gateway.config.variables import VARIABLES


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("UPSTREAM", "UPSTREAMS"),
        ("UPSTREAM_FILE", "UPSTREAMS_FILE"),
        ("UPSTREAM_TIMEOUT_MS", "HTTP_PROXY_TIMEOUT_MS"),
        ("GATEWAY_ENVIRONMENT", "GATEWAY_ENV"),
        ("GATEWAY_PORT", "PORT"),
        ("GATEWAY_LOG_LEVEL", "LOG_LEVEL"),
        ("WS_PING_INTERVAL", "WS_PING_INTERVAL_MS"),
        ("CACHE_TTL_MS", "CACHE_DEFAULT_TTL_MS"),
        ("RATE_LIMIT_MAX_REQUESTS", "RATE_LIMIT_MAX"),
        ("UNDER_PRESSURE_MAX_RSS", "UNDER_PRESSURE_MAX_RSS_BYTES"),
        ("HTTP_PROXY_TIMEOUT", "HTTP_PROXY_TIMEOUT_MS"),
        ("HTTP_PROXY_TIME", "HTTP_PROXY_TIMEOUT_MS"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("port", "PORT"),
        ("NODE_ENVS", "NODE_ENV"),
        ("SSE_PING_INTERVAL_MS", "SSE_HEARTBEAT_MS"),
        ("GATEWAY_UPSTREAM", "UPSTREAMS"),
        ("GATEWAY_UPSTREAMS_JSON", "UPSTREAMS"),
        ("ROUTE", "ROUTES"),
        ("GATEWAY_ROUTES", "ROUTES"),
        ("STRIP_PREFIX", "ROUTES"),
        ("PROXY_REDIRECT", "REWRITE_LOCATION"),
        ("PROXY_COOKIE_PATH", "REWRITE_COOKIE_PATH"),
        ("REWRITE_COOKIES_PATHS", "REWRITE_COOKIE_PATH"),
        ("REWRITE_LOCATIONS", "REWRITE_LOCATION"),
        ("REWRITE_WS_ORIGIN", "WS_ORIGIN"),
        ("AUTO_HOST_REWRITE", "PRESERVE_HOST"),
        ("GATEWAY_HOST_NAMES", "GATEWAY_HOSTS"),
        ("GATEWAY_JWT_KEY", "JWT_SECRET"),
        ("GATEWAY_BREAKER_OPEN", "BREAKER_OPEN_MS"),
        ("MAX_BODY_SIZE", "MAX_BODY_BYTES"),
        ("MAX_BODY_SIZE_BYTES", "MAX_BODY_BYTES"),
        ("CLIENT_MAX_BODY_SIZE", "MAX_BODY_BYTES"),
        ("BODY_LIMIT", "MAX_BODY_BYTES"),
        ("MAX_BODY_MB", "MAX_BODY_BYTES"),
        ("WS_MAX_PAYLOAD", "WS_MAX_MESSAGE_BYTES"),
        ("WS_MAX_PAYLOAD_BYTES", "WS_MAX_MESSAGE_BYTES"),
        ("PROXY_READ_TIMEOUT", "HTTP_PROXY_TIMEOUT_MS"),
        ("CONNECT_TIMEOUT_SECONDS", "UPSTREAM_CONNECT_TIMEOUT_MS"),
        ("KEEP_ALIVE_TIMEOUT", "KEEPALIVE_TIMEOUT_MS"),
        ("NUM_RETRIES", "RETRY_ATTEMPTS"),
        ("LB_POLICY", "BALANCER"),
        ("TRUST_PROXY", "TRUSTED_PROXIES"),
        ("AUTH_ENABLED", "AUTH_REQUIRED"),
        ("MAX_EJECTION_PERCENT", "MAX_EJECTED_PERCENT"),
    ],
)
def test_a_likely_misspelling_is_hinted_at(name: str, meant: str) -> None:
    assert hints({name: "1"}) == [f"{name} is not a variable of this gateway; did you mean {meant}?"]


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "HOSTNAME", "USER", "PWD", "SHLVL", "TERM", "LANG", "LOGNAME", "HOSTTYPE", "PYTHONPATH", "_"),
        *("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "no_proxy", "NODE_PATH", "WEB_CONCURRENCY", "VIRTUAL_ENV"),
        *("GATEWAY_BASE_URL", "CACHE_DIR", "WS_URL", "API_KEY", "HTTP_PORT", "SERVER_PORT"),
        *("DATABASE_URL", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "APP_ORIGIN", "SECRET_KEY", "DEBUG", "VERSION", "TZ"),
        *("MAIL_HOST", "DB_PORT", "REDIS_URL", "SERVICE_NAME", "COLUMNS", "LINES", "DNS", "RETRY_AFTER_X"),
    ],
)
def test_what_others_use_is_not(name: str) -> None:
    assert hints({name: "1"}) == []


@pytest.mark.parametrize("service", ["GATEWAY", "CACHE", "UPSTREAM", "UPSTREAMS", "WS"])
def test_what_kubernetes_sets_for_a_service_is_not(service: str) -> None:
    assert not hints(
        {
            f"{service}_SERVICE_HOST": "10.0.0.1",
            f"{service}_SERVICE_PORT": "80",
            f"{service}_SERVICE_PORT_HTTP": "80",
            f"{service}_PORT": "tcp://10.0.0.1:80",
            f"{service}_PORT_80_TCP": "tcp://10.0.0.1:80",
            f"{service}_PORT_80_TCP_PROTO": "tcp",
            f"{service}_PORT_80_TCP_PORT": "80",
            f"{service}_PORT_80_TCP_ADDR": "10.0.0.1",
        }
    )


def test_what_stands_in_a_file_sets_something_or_is_named_with_its_place() -> None:
    places = {"ATHU": ".env:1", "UPSTREAM": ".env:2", "PORT": ".env:3", "X": ".env:4", "NODE_ENV": ".env:5"}
    assert hints({"ATHU": "true", "UPSTREAM": "x", "PORT": "1", "PATH": "/bin"}, places) == [
        ".env:1: ATHU is not a variable of this gateway",
        ".env:2: UPSTREAM is not a variable of this gateway; did you mean UPSTREAMS?",
        ".env:4: X is not a variable of this gateway",
    ]


def test_words_of_other_gateways_are_for_variables_there_are() -> None:
    names = {each.name for each in VARIABLES}
    assert set(_ELSEWHERE.values()) <= names
    assert not names & _ELSEWHERE.keys()


def test_what_cannot_be_seen_in_a_name_is_shown() -> None:
    assert hints({"\ufeffAUTH_REQUIRED": "1"}) == [
        r"\ufeffAUTH_REQUIRED is not a variable of this gateway; did you mean AUTH_REQUIRED?"
    ]


def test_known_variables_are_no_misspellings() -> None:
    assert hints({name: "x" for each in VARIABLES for name in (each.name, *each.aliases)}) == []
