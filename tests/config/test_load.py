"""Values that variables may have, and the problems reported for other values."""

import ipaddress
import json
import math
import re
import sys
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import example, given
from hypothesis import strategies as st

from tornado_gateway.config.help import effective
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import LONGEST_SHOWN, ConfigurationError, Problem, shown
from tornado_gateway.config.services import EndpointSpec
from tornado_gateway.config.settings import ServiceSpec, Settings
from tornado_gateway.config.variables import VARIABLES, Variable
from tornado_gateway.policy.http.caching.config import Scope
from tornado_gateway.policy.http.cors import CorsMode
from tornado_gateway.policy.http.target import TargetRule
from tornado_gateway.policy.limits.quota import LimitKey, Quota
from tornado_gateway.policy.overload import Priority
from tornado_gateway.policy.upstream.affinity import HashKey, Sessions
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.health import HealthKind
from tornado_gateway.policy.upstream.hosts import Family

URL = "http://10.0.0.7"
UPSTREAMS = json.dumps({"billing": [URL]})
KEY = "k" * 32
NAMES = [variable.name for variable in VARIABLES]
ALL_NAMES = [name for variable in VARIABLES for name in (variable.name, *variable.aliases)]
LINUX = sys.platform == "linux"
DAY = 86_400_000
PEBIBYTE = 2**50

TIMEOUTS = [
    "HEADER_TIMEOUT_MS",
    "KEEPALIVE_TIMEOUT_MS",
    "CLIENT_IDLE_TIMEOUT_MS",
    "HTTP_PROXY_TIMEOUT_MS",
    "UPSTREAM_CONNECT_TIMEOUT_MS",
    "UPSTREAM_IDLE_TIMEOUT_MS",
    "RATE_LIMIT_WINDOW_MS",
]
DURATIONS_OR_ZERO = [
    "SHUTDOWN_TIMEOUT_MS",
    "SHUTDOWN_DELAY_MS",
    "DNS_TTL_MS",
    "UPSTREAM_BODY_IDLE_TIMEOUT_MS",
    "CACHE_DEFAULT_TTL_MS",
    "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS",
    "WS_PING_INTERVAL_MS",
]
DURATIONS = TIMEOUTS + DURATIONS_OR_ZERO
SIZES_OR_ZERO = [
    "MAX_BODY_BYTES",
    "CACHE_MAX_BODY_BYTES",
    "UNDER_PRESSURE_MAX_HEAP_USED_BYTES",
    "UNDER_PRESSURE_MAX_RSS_BYTES",
]
SIZES = ["WS_MAX_BUFFERED_BYTES", *SIZES_OR_ZERO]
RANGES = [
    ("PORT", 0, 65535),
    *(
        (name, 0, 1_000_000)
        for name in ("MAX_CONNECTIONS", "MAX_IN_FLIGHT_TOTAL", "UPSTREAM_MAX_IDLE", "REBALANCE_STREAMS")
    ),
    ("RATE_LIMIT_MAX", 0, 2**53),
    ("MAX_IN_FLIGHT_PER_CLIENT", 0, 1_000_000),
    *((name, 1, DAY) for name in TIMEOUTS),
    *((name, 0, DAY) for name in DURATIONS_OR_ZERO),
    *((name, 0, PEBIBYTE) for name in SIZES_OR_ZERO),
    ("WS_MAX_BUFFERED_BYTES", 1, PEBIBYTE),
]
UNLIMITED = dict.fromkeys(
    (
        "MAX_CONNECTIONS", "MAX_IN_FLIGHT_TOTAL", "UPSTREAM_BODY_IDLE_TIMEOUT_MS", "WS_PING_INTERVAL_MS",
        "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS", "UNDER_PRESSURE_MAX_HEAP_USED_BYTES", "UNDER_PRESSURE_MAX_RSS_BYTES",
    ),
    math.inf,
)  # fmt: skip
CHOICES = {
    "GATEWAY_ENV": ["development", "test", "production"],
    "EVENT_LOOP": ["auto", "uvloop", "asyncio"],
    "HALF_CLOSE": ["abort", "ignore"],
    "LOG_LEVEL": ["fatal", "error", "warn", "info", "debug", "trace", "silent"],
    "LOG_FORMAT": ["auto", "json", "text"],
    "PRIORITY": ["low", "normal", "high"],
    "BALANCER": list(BALANCERS),
    "DNS_FAMILY": ["auto", "ipv4", "ipv6", "all"],
    "STICKY": ["off", "redistribute", "refuse"],
    "REQUEST_ID": ["keep", "prefix", "replace"],
    "TARGET_BYTES": ["browser", "strict", "forward"],
    "ALT_SVC": ["drop", "pass"],
    "HEALTH_CHECK": ["off", "http", "tcp", "websocket"],
    "RATE_LIMIT_ALGORITHM": ["gcra", "sliding"],
    "RATE_LIMIT_MODE": ["enforce", "observe"],
    "RATE_LIMIT_ON_ERROR": ["local", "open", "closed"],
    "CACHE_SCOPE": ["public", "principal"],
}
FLAGS = [
    "DISCOVERY",
    "ADAPTIVE_CONCURRENCY",
    "HEDGE",
    "ACCESS_LOG",
    "UPSTREAM_TLS_VERIFY",
    "PRESERVE_HOST",
    "AUTH_REQUIRED",
    "CACHE_ENABLED",
    "CACHE_IGNORE_HOST",
    "CACHE_SORT_QUERY",
    "CACHE_IGNORE_CLIENT",
]


def named(name: str) -> Variable:
    return next(variable for variable in VARIABLES if variable.name == name)


def load(**env: str) -> Settings:
    """Load variables, with the required variables added."""
    return load_settings({"UPSTREAMS": UPSTREAMS, "JWT_SECRET": KEY} | env)


def value_of(name: str, text: str) -> Any:
    return named(name).value(load(**{name: text}))


def text_of(name: str, text: str) -> str:
    """The effective value, as in --print-config."""
    return named(name).text(load(**{name: text}))


def lines(**env: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(**env)
    return [str(problem) for problem in caught.value.problems]


def upstreams_lines(document: object) -> list[str]:
    return lines(UPSTREAMS=json.dumps(document))


# Defaults, and what counts as set


# Documented: a change of one of these changes the gateway of all users that have not set the variable.
DEFAULTS = {
    "HOST": ("0.0.0.0",),
    "PORT": 8080,
    "GATEWAY_ENV": "development",
    "EVENT_LOOP": "auto",
    "MAX_CONNECTIONS": math.inf,
    "MAX_BODY_BYTES": None,
    "HALF_CLOSE": True,
    "HEADER_TIMEOUT_MS": 10.0,
    "KEEPALIVE_TIMEOUT_MS": 95.0,
    "CLIENT_IDLE_TIMEOUT_MS": 60.0,
    "SHUTDOWN_TIMEOUT_MS": 25.0,
    "SHUTDOWN_DELAY_MS": 0.0,
    "LOG_LEVEL": "info",
    "LOG_FORMAT": "auto",
    "ACCESS_LOG": True,
    "UPSTREAMS": (ServiceSpec(name="billing", endpoints=(EndpointSpec(URL),)),),
    "UPSTREAMS_FILE": None,
    "UPSTREAM_MAX_IDLE": 256,
    "UPSTREAM_IDLE_TIMEOUT_MS": 60.0,
    "UPSTREAM_TLS_VERIFY": True,
    "UPSTREAM_TLS_CA_FILE": None,
    "UPSTREAM_TLS_SERVER_NAME": "",
    "UPSTREAM_TLS_CERT": None,
    "UPSTREAM_TLS_KEY": None,
    "UPSTREAM_TLS_CLOSURE": True,
    "DNS_TTL_MS": 30.0,
    "DNS_FAMILY": Family.AUTO,
    "DNS_RESOLV_CONF": None,
    "DNS_HOSTS": None,
    "DISCOVERY": True,
    "STICKY_SECRET": b"",
    "READY_REQUIRES": (),
    "HTTP_PROXY_TIMEOUT_MS": 30.0,
    "UPSTREAM_BODY_IDLE_TIMEOUT_MS": None,
    "UPSTREAM_CONNECT_TIMEOUT_MS": 5.0,
    "LONG_POLL": False,
    "BALANCER": "least_load",
    "HASH_KEY": HashKey("client"),
    "STICKY": Sessions.OFF,
    "MAX_IN_FLIGHT": math.inf,
    "QUEUE_SIZE": 100,
    "QUEUE_TIMEOUT_MS": 1.0,
    "ADAPTIVE_CONCURRENCY": False,
    "SLOW_START_MS": 10.0,
    "REBALANCE_STREAMS": 0,
    "BREAKER_FAILURES": 5,
    "BREAKER_WINDOW_MS": 10.0,
    "BREAKER_OPEN_MS": 15.0,
    "BREAKER_MAX_OPEN_MS": 300.0,
    "BREAKER_PROBES": 1,
    "BREAKER_STATUSES": frozenset({*range(500, 600)} - {501, 505}),
    "BREAKER_FAILURE_PERCENT": 0.0,
    "BREAKER_SLOW_MS": math.inf,
    "BREAKER_SLOW_PERCENT": 1.0,
    "BREAKER_MIN_REQUESTS": 10,
    "MAX_EJECTED_PERCENT": 0.5,
    "PANIC_PERCENT": 0.5,
    "HEALTH_CHECK": HealthKind.OFF,
    "HEALTH_PATH": "/",
    "HEALTH_STATUSES": frozenset(range(200, 400)),
    "HEALTH_INTERVAL_MS": 10.0,
    "HEALTH_DOWN_INTERVAL_MS": 2.0,
    "HEALTH_TIMEOUT_MS": 2.0,
    "HEALTH_RISE": 2,
    "HEALTH_FALL": 3,
    "RETRY_ON": ("connect", "reset"),
    "REPEATABLE": (),
    "RETRY_ATTEMPTS": 3,
    "RETRY_TRY_TIMEOUT_MS": math.inf,
    "RETRY_BACKOFF_MS": 0.025,
    "RETRY_BUDGET_PERCENT": 0.2,
    "RETRY_BUDGET_FLOOR": 3,
    "HEDGE": False,
    "ALT_SVC": False,
    "TRUSTED_PROXIES": (),
    "REQUEST_ID": "keep",
    "PRESERVE_HOST": False,
    "TARGET_BYTES": TargetRule("browser"),
    "VIA_NAME": b"",
    "AUTH_REQUIRED": False,
    "JWT_SECRET": "",
    "RATE_LIMIT_MAX": 0,
    "RATE_LIMIT_WINDOW_MS": 60.0,
    "RATE_LIMITS": (),
    "MAX_IN_FLIGHT_PER_CLIENT": 0,
    "RATE_LIMIT_KEY": LimitKey("ip"),
    "RATE_LIMIT_ALGORITHM": "gcra",
    "RATE_LIMIT_MODE": True,
    "RATE_LIMIT_COST_HEADER": b"",
    "RATE_LIMIT_STORE": "",
    "RATE_LIMIT_ON_ERROR": "local",
    "REDIS_URL": "",
    "CACHE_ENABLED": False,
    "CACHE_DEFAULT_TTL_MS": 5.0,
    "CACHE_MAX_BODY_BYTES": 262144,
    "CACHE_MAX_BYTES": 67_108_864,
    "CACHE_HEURISTIC_PERCENT": 0.0,
    "CACHE_SCOPE": Scope.PUBLIC,
    "CACHE_IGNORE_HOST": False,
    "CACHE_IGNORE_QUERY": (),
    "CACHE_SORT_QUERY": False,
    "CACHE_KEY_HEADERS": (),
    "CACHE_LOCK_TIMEOUT_MS": 5.0,
    "CACHE_GRACE_MS": 0.0,
    "CACHE_STALE_IF_ERROR_MS": 0.0,
    "CACHE_IGNORE_CLIENT": False,
    "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": 1.0,
    "UNDER_PRESSURE_MAX_HEAP_USED_BYTES": math.inf,
    "UNDER_PRESSURE_MAX_RSS_BYTES": math.inf,
    "MAX_IN_FLIGHT_TOTAL": math.inf,
    "PRIORITY": Priority.NORMAL,
    "METRICS_AUTH": False,
    "CORS": CorsMode.ANSWER,
    "CORS_ORIGINS": (),
    "CORS_ALLOW_CREDENTIALS": False,
    "CORS_ALLOW_HEADERS": ("*",),
    "CORS_EXPOSE_HEADERS": (),
    "CORS_MAX_AGE_S": 600,
    "MAX_STREAMS": 0,
    "MAX_STREAMS_PER_SERVICE": 0,
    "MAX_STREAMS_PER_CLIENT": 0,
    "SLOW_CONSUMER": False,
    "STREAM_BUFFER_BYTES": 262144,
    "DRAIN_SPREAD_MS": 5.0,
    "SSE_HEARTBEAT_MS": 15.0,
    "REQUEST_TIMEOUT_MS": math.inf,
    "MIN_UPLOAD_RATE": 100,
    "MIN_RESPONSE_RATE": 100,
    "SSE_IDLE_TIMEOUT_MS": 300.0,
    "SSE_MAX_AGE_MS": math.inf,
    "SSE_MAX_BYTES": math.inf,
    "SSE_ERROR_EVENT": "off",
    "SSE_UNAVAILABLE": "",
    "SSE_LAST_EVENT_ID_QUERY": False,
    "SSE_PEEK_MS": 0.0,
    "WS_ALLOWED_ORIGINS": ("*",),
    "WS_ORIGIN": False,
    "WS_MAX_MESSAGE_BYTES": 16777216,
    "WS_MAX_BUFFERED_BYTES": 2000000,
    "WS_PING_INTERVAL_MS": 30.0,
    "WS_PONG_TIMEOUT_MS": 10.0,
    "WS_IDLE_TIMEOUT_MS": math.inf,
    "WS_RATE_LIMIT_MESSAGES": 0,
    "WS_RATE_LIMIT_BYTES": 0,
    "WS_RATE_LIMIT_POLICY": False,
    "WS_DRAIN_CODE": 1001,
}


def test_everything_but_the_upstreams_has_a_default() -> None:
    settings = load_settings({"UPSTREAMS": UPSTREAMS})
    assert {name: named(name).value(settings) for name in DEFAULTS} == DEFAULTS


def test_an_empty_variable_is_not_set() -> None:
    assert load_settings(dict.fromkeys(ALL_NAMES, "") | {"UPSTREAMS": UPSTREAMS}) == load_settings(
        {"UPSTREAMS": UPSTREAMS}
    )


def test_variables_of_others_are_ignored() -> None:
    assert load(PATH="/bin", GATEWAY_FOO="x") == load()


def test_no_name_stands_for_two_variables() -> None:
    assert len(set(ALL_NAMES)) == len(ALL_NAMES)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"NODE_ENV": "test"}, "test"),
        ({"GATEWAY_ENV": "", "NODE_ENV": "test"}, "test"),
        ({"GATEWAY_ENV": "development", "NODE_ENV": "test"}, "development"),
        ({"GATEWAY_ENV": "development", "NODE_ENV": "staging"}, "development"),
    ],
)
def test_an_alias_counts_where_its_variable_is_not_set(env: dict[str, str], expected: str) -> None:
    assert load(**env).environment == expected


def test_a_problem_names_the_alias_that_was_used() -> None:
    assert lines(NODE_ENV="staging") == ['NODE_ENV="staging": is unknown; allowed: development, test, production']


# Numbers


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_both_bounds_belong_to_the_range(name: str, low: int, high: int) -> None:
    unit = 1000 if name in DURATIONS else 1
    assert value_of(name, str(low)) == (low / unit or UNLIMITED.get(name, 0))
    assert (text_of(name, str(low)), text_of(name, str(high))) == (str(low), str(high))
    assert value_of(name, str(high)) == high / unit


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_beyond_either_bound_is_out_of_range(name: str, low: int, high: int) -> None:
    for beyond in (low - 1, high + 1):
        (line,) = lines(**{name: str(beyond)})
        assert line.startswith(f'{name}="{beyond}": is out of range; allowed: {low} to {high}')


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_help_tells_the_range(name: str, low: int, high: int) -> None:
    assert f", {low} to {high}" in named(name).help


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_help_tells_what_zero_means_where_it_is_allowed(name: str, low: int, high: int) -> None:
    assert ("0: " in named(name).help) is (low == 0)


@pytest.mark.parametrize("text", ["80x", "0x50", "8_0", " 80", "80\n", "+80", "8.0", "٨٠", "1e3", "-"])
def test_a_whole_number_is_ascii_digits(text: str) -> None:
    assert lines(PORT=text) == [f"PORT={json.dumps(text)}: is not a whole number; allowed: 0 to 65535"]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("text", ["64k", "1MiB", "1.5"])
def test_a_size_is_a_whole_number_without_a_suffix(name: str, text: str) -> None:
    (line,) = lines(**{name: text})
    assert re.fullmatch(
        rf'{name}="{text}": is not a whole number; allowed: [01] to {PEBIBYTE} bytes, without a suffix', line
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("1", 0.001), ("1.5", 0.0015), ("0250", 0.25), ("30000", 30.0), ("86400000.0", 86_400.0)]
)
def test_a_duration_is_whole_or_decimal_milliseconds(text: str, seconds: float) -> None:
    assert load(HEADER_TIMEOUT_MS=text).server.header_timeout == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e3", "5s", "1,5", ".5", "5.", "1 000"])
def test_a_duration_is_a_plain_finite_number(name: str, text: str) -> None:
    (line,) = lines(**{name: text})
    assert line.startswith(f'{name}="{text}": is not a number of milliseconds; allowed: ')


@pytest.mark.parametrize("text", ["0.999", "0." + "9" * 40, "86400000.001", "9" * 5000, "-1"])
def test_a_timeout_out_of_range(text: str) -> None:
    (line,) = lines(HEADER_TIMEOUT_MS=text)
    assert line.endswith(": is out of range; allowed: 1 to 86400000 milliseconds")


def test_a_number_of_any_length_is_out_of_range() -> None:
    (line,) = lines(PORT="9" * 5000)
    assert line == f'PORT="{"9" * (LONGEST_SHOWN - 4)}...: is out of range; allowed: 0 to 65535'


# Choices, flags, names and paths


@pytest.mark.parametrize(("name", "choice"), [(name, choice) for name in CHOICES for choice in CHOICES[name]])
def test_a_choice_is_taken_as_it_is(name: str, choice: str) -> None:
    assert text_of(name, choice) == choice
    assert choice in named(name).help


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("text", ["other", "INFO", "auto ", "Production"])
def test_a_choice_is_one_of_its_names_exactly(name: str, text: str) -> None:
    assert lines(**{name: text}) == [f'{name}="{text}": is unknown; allowed: {", ".join(CHOICES[name])}']


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["true", "1", "yes", "on", "TRUE", "Yes", "oN"], True),
        (["false", "0", "no", "off", "FALSE", "No", "oFF"], False),
    ],
)
def test_flags_in_any_case(name: str, texts: list[str], expected: bool) -> None:
    assert [value_of(name, text) for text in texts] == [expected] * len(texts)


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("text", ["y", "2", "00", "enabled", " true", "oui"])
def test_anything_else_is_no_flag(name: str, text: str) -> None:
    assert lines(**{name: text}) == [
        f'{name}="{text}": is neither true nor false; allowed: true, 1, yes, on, false, 0, no, off'
    ]


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "::", "::1", "fe80::1%eth0", "localhost", "gateway.example.", "my_host", "a" * 63]
)
def test_a_host_is_an_address_or_a_name(text: str) -> None:
    assert load(HOST=text).listen.hosts == (text,)


@pytest.mark.parametrize(
    "text", ["[::1]", "::g", "localhost:80", "http://localhost", "a b", "a..b", ".a", "a" * 64, "bücher", "**", "a\nb"]
)
def test_anything_else_is_no_host(text: str) -> None:
    (line,) = lines(HOST=text)
    assert line.startswith(f"HOST={json.dumps(text)}: is neither an address nor a host name; allowed: ")


@pytest.mark.parametrize("text", ["::1,::1", "*,127.0.0.1"])
def test_addresses_to_listen_on_stand_once(text: str) -> None:
    reason = "names an address twice, or another one beside *"
    assert lines(HOST=text) == [f'HOST="{text}": {reason}; allowed: each address once; or * alone']


@pytest.mark.parametrize("text", ["gateway", "edge-1.eu", "!#$%&'*+-.^_`|~09azAZ"])
def test_the_name_in_via_is_a_token(text: str) -> None:
    assert load(VIA_NAME=text).forwarding.pseudonym == text.encode()


@pytest.mark.parametrize("text", ["a b", "a,b", "a/1", "a:80", '"a"', "é", "a\n", "(a)"])
def test_anything_else_is_no_token(text: str) -> None:
    (line,) = lines(VIA_NAME=text)
    assert line.startswith(f"VIA_NAME={json.dumps(text)}: is not a token; allowed: ")


def test_a_ca_file_holds_certificates(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    assert load(UPSTREAM_TLS_CA_FILE=str(path)).client.connect.tls_ca_file == str(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="does not hold certificates"):
        load(UPSTREAM_TLS_CA_FILE=str(path))


@pytest.mark.parametrize("name", ["UPSTREAM_TLS_CA_FILE", "UPSTREAMS_FILE", "DNS_RESOLV_CONF", "DNS_HOSTS"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/does/not/exist", "No such file or directory"),
        ("/", "Is a directory"),
        ("a\0b", "not a path"),
        ("\ud800", "not a path"),
        pytest.param("/proc/self/mem", "Input/output error", marks=pytest.mark.skipif(not LINUX, reason="no /proc")),
    ],
)
def test_a_file_that_cannot_be_read(name: str, path: str, reason: str) -> None:
    assert lines(**{"UPSTREAMS": "" if name == "UPSTREAMS_FILE" else UPSTREAMS, name: path}) == [
        f"{name}={json.dumps(path)}: cannot be read ({reason}); allowed: the path of a readable file"
    ]


# Trusted proxies


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("10.1.2.3", ["10.1.2.3/32"]),
        ("::1", ["::1/128"]),
        ("10.0.0.0/255.0.0.0", ["10.0.0.0/8"]),
        ("0.0.0.0/0,::/0", ["0.0.0.0/0", "::/0"]),
        (" 10.0.0.0/8 , fd00::/8,", ["10.0.0.0/8", "fd00::/8"]),
        (" , ", []),
    ],
)
def test_trusted_proxies_are_addresses_and_networks(text: str, expected: list[str]) -> None:
    assert load(TRUSTED_PROXIES=text).forwarding.trusted == tuple(map(ipaddress.ip_network, expected))


@pytest.mark.parametrize("item", ["10.0.0.1/8", "fd00::1/8"])
def test_host_bits_are_a_problem(item: str) -> None:
    (line,) = lines(TRUSTED_PROXIES=item)
    assert line.startswith(f'TRUSTED_PROXIES[0]="{item}": has host bits set; allowed: ')


@pytest.mark.parametrize(
    "item", ["10.0.0.0/33", "10.0.0", "10", "::/129", "localhost", "10.0.0.0/8 ::1", "*", "/8", "fe80::1%eth0"]
)
def test_anything_else_is_no_network(item: str) -> None:
    (line,) = lines(TRUSTED_PROXIES=item)
    assert line.startswith(f'TRUSTED_PROXIES[0]="{item}": is not an address or a network; allowed: ')


def test_each_wrong_proxy_is_a_problem() -> None:
    assert [line.partition(":")[0] for line in lines(TRUSTED_PROXIES="a,::1,10.0.0.1/8")] == [
        'TRUSTED_PROXIES[0]="a"',
        'TRUSTED_PROXIES[2]="10.0.0.1/8"',
    ]


# Authentication


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, False),
        ({"GATEWAY_ENV": "test"}, False),
        ({"GATEWAY_ENV": "production"}, True),
        ({"NODE_ENV": "production"}, True),
        ({"GATEWAY_ENV": "production", "AUTH_REQUIRED": ""}, True),
        ({"GATEWAY_ENV": "production", "AUTH_REQUIRED": "false"}, False),
        ({"GATEWAY_ENV": "development", "AUTH_REQUIRED": "true"}, True),
        ({"GATEWAY_ENV": "development", "NODE_ENV": "production"}, False),
    ],
)
def test_authentication_is_on_in_production_unless_said_otherwise(env: dict[str, str], expected: bool) -> None:
    assert load(**env).auth.is_required is expected


@pytest.mark.parametrize("env", [{"AUTH_REQUIRED": "true"}, {"GATEWAY_ENV": "production"}, {"NODE_ENV": "production"}])
def test_authentication_needs_a_key(env: dict[str, str]) -> None:
    assert lines(JWT_SECRET="", **env) == [
        "JWT_SECRET: is not set, but AUTH_REQUIRED is true (the default in production); allowed: 32 characters or more"
    ]


def test_a_key_of_32_characters_is_long_enough() -> None:
    assert load(AUTH_REQUIRED="true", JWT_SECRET="k" * 32).auth.tokens.secret == "k" * 32
    assert lines(AUTH_REQUIRED="true", JWT_SECRET="k" * 31) == [
        "JWT_SECRET=********: is too short for AUTH_REQUIRED; allowed: 32 characters or more"
    ]


def test_a_key_may_be_short_while_authentication_is_off() -> None:
    assert load(JWT_SECRET="short").auth.tokens.secret == "short"


@pytest.mark.parametrize("env", [{"AUTH_REQUIRED": "maybe"}, {"GATEWAY_ENV": "prod"}])
def test_a_key_is_not_asked_for_while_it_is_unknown_whether_it_is_needed(env: dict[str, str]) -> None:
    (line,) = lines(JWT_SECRET="", **env)
    assert line.startswith(next(iter(env)))


def test_a_key_is_shown_nowhere() -> None:
    key = "correct-horse-battery-staple-1234"
    settings = load(JWT_SECRET=key)
    with pytest.raises(ConfigurationError) as caught:
        load(JWT_SECRET=key[:31], AUTH_REQUIRED="true")
    for text in (repr(settings), str(effective(settings)), str(caught.value), repr(caught.value.problems)):
        assert "horse" not in text


# Upstreams


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer_is_for_the_services_that_do_not_say(name: str) -> None:
    document = {"a": [URL], "b": {"endpoints": [URL]}, "c": {"endpoints": [URL], "balancer": "least_load"}}
    settings = load(BALANCER=name, UPSTREAMS=json.dumps(document))
    assert [each.service.balancer for each in settings.services] == [name, name, "least_load"]


@pytest.mark.parametrize(
    ("key", "value", "path", "expected"),
    [
        ("breakerOpenMs", 500, "breaker.open_for", 0.5),
        ("breakerOpenMs", "500", "breaker.open_for", 0.5),
        ("breakerOpenMs", 0.5e3, "breaker.open_for", 0.5),
        ("adaptiveConcurrency", True, "adapts", True),
        ("adaptiveConcurrency", "on", "adapts", True),
        ("retryOn", "connect,503", "retry.on", ("connect", 503)),
        ("hedge", True, "hedge", True),
        ("rebalanceStreams", 20, "rebalance_streams", 20),
        ("hashKey", "header:X-User", "affinity.key", HashKey("header", "x-user")),
        ("breakerStatuses", "500,503-504", "failure_statuses", frozenset((500, 503, 504))),
    ],
)
def test_a_service_may_differ_from_the_variables(key: str, value: object, path: str, expected: object) -> None:
    settings = load(JWT_SECRET="", UPSTREAMS=json.dumps({"a": {"endpoints": [URL], key: value}, "b": [URL]}))
    mine, others = settings.services
    assert attrgetter(path)(mine.service) == expected
    assert others.service == settings.service
    assert load_settings(dict(effective(settings))).services == settings.services


@pytest.mark.parametrize(
    ("key", "value", "reason", "allowed"),
    [
        ("breakerOpenMs", 0, "is out of range", "1 to 86400000 milliseconds"),
        ("breakerOpenMs", "soon", "is not a number of milliseconds", "1 to 86400000 milliseconds"),
        ("adaptiveConcurrency", "maybe", "is neither true nor false", "true, 1, yes, on, false, 0, no, off"),
        ("hedge", 2, "is neither true nor false", "true, 1, yes, on, false, 0, no, off"),
        ("rebalanceStreams", 1000001, "is out of range", "0 to 1000000"),
        ("retryOn", "503,foo", 'has "foo" in it', "connect, reset and statuses such as 503; or off alone"),
        ("repeatable", "post", 'has "post" in it', "methods in capitals such as POST,PATCH; or all"),
        ("repeatable", ["POST", "P T"], 'has "P T" in it', "methods in capitals such as POST,PATCH; or all"),
        ("repeatable", "all,POST", "has methods beside all", "methods in capitals such as POST,PATCH; or all"),
        ("repeatable", {}, "is neither text, a number, true nor false", "what the variable of that name takes"),
        ("repeatable", [None], "is neither text, a number, true nor false", "what the variable of that name takes"),
        (
            "repeatable",
            ["POST,PUT"],
            "is neither text, a number, true nor false",
            "what the variable of that name takes",
        ),
        ("hashKey", "query:a", "is not a key", "client, path, header:<name> or cookie:<name>"),
        ("breakerStatuses", "5xx", 'has "5xx" in it', "statuses and ranges of them such as 200-299,404"),
        ("breakerStatuses", "504-500", 'has "504-500" in it', "statuses and ranges of them such as 200-299,404"),
        ("healthPath", "health", "is not a path", "a slash, and visible ASCII characters but for #"),
        ("maxInFlight", None, "is neither text, a number, true nor false", "what the variable of that name takes"),
        (
            "breakerOpen",
            5,
            "is unknown (did you mean breakerOpenMs?)",
            "endpoints, cache, tls, and variables of one service in camel case, such as balancer for BALANCER",
        ),
    ],
)
def test_a_wrong_value_of_a_service(key: str, value: object, reason: str, allowed: str) -> None:
    line = f"UPSTREAMS.a.{key}={shown(value)}: {reason}; allowed: {allowed}"
    assert upstreams_lines({"a": {"endpoints": [URL], key: value}}) == [line]


def test_only_services_there_are_can_be_required() -> None:
    document = json.dumps({"a": [URL], "b": [URL]})
    assert load(UPSTREAMS=document, READY_REQUIRES="b, a").ready_requires == ("b", "a")
    assert load(UPSTREAMS=document, READY_REQUIRES="*").ready_requires == ("*",)
    assert lines(UPSTREAMS=document, READY_REQUIRES="a,c") == ['READY_REQUIRES="c": is not a service; allowed: a, b, *']


def test_neither_upstreams_nor_a_file_of_them() -> None:
    assert lines(UPSTREAMS="") == ["UPSTREAMS: is not set; allowed: a JSON map of service to array of base URLs"]


def test_both_upstreams_and_a_file_of_them(tmp_path: Path) -> None:
    path = tmp_path / "upstreams.json"
    path.write_text('{"a": ["ftp://x"]}')
    both, wrong = sorted(lines(UPSTREAMS_FILE=str(path)))
    assert wrong.startswith("UPSTREAMS_FILE=") and wrong.endswith(
        ": is set, and so is UPSTREAMS; allowed: one of the two"
    )
    assert both.startswith('UPSTREAMS_FILE.a[0]="ftp://x": must start with ')


def test_upstreams_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "upstreams.json"
    path.write_text(UPSTREAMS, encoding="utf-8-sig")  # as some editors on Windows write it
    settings = load(UPSTREAMS="", UPSTREAMS_FILE=str(path), BALANCER="round_robin")
    assert [(each.name, each.endpoints) for each in settings.services] == [("billing", (EndpointSpec(URL),))]
    assert settings.services[0].service.balancer == "round_robin"
    assert settings.upstreams_file == str(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{\n  "a": [,]\n}', "is not JSON: Expecting value: line 2 column 9 (char 10)"),
        (b"", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'{"\xff": 1}', "is not JSON: 'utf-8' codec can't decode byte 0xff in position 2: invalid start byte"),
    ],
)
def test_a_file_that_is_not_json(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "upstreams.json"
    path.write_bytes(content)
    (line,) = lines(UPSTREAMS="", UPSTREAMS_FILE=str(path))
    assert line.endswith(f": {reason}; allowed: a JSON map of service to array of base URLs")


# What is reported, and how


def test_everything_wrong_is_reported_at_once() -> None:
    assert [line.partition(":")[0] for line in lines(UPSTREAMS='{"a":["ftp://x"],"b":[]}', PORT="0x")] == [
        'PORT="0x"',
        'UPSTREAMS.a[0]="ftp',
        "UPSTREAMS.b=[]",
    ]


def test_the_exception_tells_its_problems() -> None:
    problem = Problem("PORT", '"80x"', "is not a whole number", "0 to 65535")
    with pytest.raises(ConfigurationError) as caught:
        load(PORT="80x", HALF_CLOSE="x")
    assert caught.value.problems[0] == problem
    assert str(caught.value) == f'{problem}\nHALF_CLOSE="x": is unknown; allowed: abort, ignore'


@pytest.mark.parametrize(
    "env",
    [
        {"UPSTREAMS": '{"a": ["http://me:hunter2@host"]}'},
        {"UPSTREAMS": '{"a": ["http://me:p[hunter2]@host"]}'},
        {"UPSTREAMS": '{"a": ["http://me:p[hunter2]/@host"]}'},
        {"UPSTREAMS": '{"a": ["http://me:\u2100hunter2@host"]}'},
        {"UPSTREAMS": '{"a": [{"url": "http://me:hunter2@host"}]}'},
        {"UPSTREAMS": '{"a": "http://me:hunter2@host"}'},
        {"UPSTREAMS": '{"a": {"endpoint": "http://me:hunter2@host"}}'},
        {"UPSTREAMS": '{"http://me:hunter2@host": []}'},
        {"UPSTREAMS": '{"a": ["http://me:hunter2@host"'},
        {"UPSTREAMS": "http://me:hunter2@host"},
        {"HOST": "http://me:hunter2@host"},
        {"HOST": "http://me:hunter2"},
        {"UPSTREAMS": '{"a": ["http://host/?key=hunter2"]}'},
        {"UPSTREAMS": '{"a": ["http://host?hunter2"]}'},
        {"UPSTREAMS": '{"a": ["http://host/#hunter2"]}'},
        {"UPSTREAMS": '{"a": ["http://host:80/a b?key=hunter2"]}'},
        {"UPSTREAMS": '{"a": ["http:///?key=hunter2"]}'},
        {"UPSTREAMS": '{"a": ["http://me:hunter2"]}'},
        {"UPSTREAMS": '{"a": ["http://me:hunter2/x"]}'},
        {"UPSTREAMS": '{"a": ["http:/me:hunter2"]}'},
        {"UPSTREAMS": '{"a": ["ftp://host/?key=hunter2"]}'},
        {"UPSTREAMS": '{"a": ["host?key=hunter2"]}'},
        {"UPSTREAMS": '{"a": [{"url": "http://host/?key=hunter2", "weight": 1}]}'},
        {"UPSTREAMS": '{"a": ["http://host", "http://host/?key=hunter2"'},
        {"UPSTREAMS": '{"http://host/?key=hunter2": []}'},
        {"UPSTREAMS": '{"a": {"endpoints": ["http://host"], "apiKey": "hunter2"}}'},
        {"UPSTREAMS": '{"a": {"endpoints": ["http://host"], "healthPath": "health?key=hunter2"}}'},
        {"HEALTH_PATH": "health?key=hunter2"},
        {"READY_REQUIRES": "http://host/?key=hunter2"},
    ],
)
def test_a_password_in_a_url_is_never_shown(env: dict[str, str]) -> None:
    assert not [line for line in lines(**env) if "hunter2" in line]


def test_the_secret_of_shared_endpoints_is_long_and_needs_a_redis() -> None:
    redis = {"REDIS_URL": "redis://a"}
    assert load(SHARED_ENDPOINTS_SECRET="é" * 16, **redis).sharing.endpoints_secret == "é".encode() * 16
    (line,) = lines(SHARED_ENDPOINTS_SECRET="hunter2" * 4, **redis)
    assert line == "SHARED_ENDPOINTS_SECRET=********: is too short; allowed: 32 bytes or more"
    (line,) = lines(SHARED_ENDPOINTS_SECRET=KEY)
    assert line == "SHARED_ENDPOINTS_SECRET=********: is set, but REDIS_URL is not; allowed: with REDIS_URL, or unset"


# Surrogates too, as os.environ has them for bytes that are not UTF-8. st.text() would first build a table of
# all characters, which takes seconds where coverage is measured: longer than hypothesis puts up with.
characters = (st.integers(0, 0x7F) | st.integers(0, 0x10FFFF)).map(chr)
texts = st.lists(characters, max_size=20).map("".join)


@given(st.dictionaries(st.sampled_from(ALL_NAMES), texts | st.sampled_from(["0", "1", "true", UPSTREAMS, KEY])))
@example({"UPSTREAMS": '{"a": [[], {}, null, 1e999, -0, "\\ud800"]}'})
@example({"TRUSTED_PROXIES": "fe80::1%eth0,1.2.3.4%a,%"})
@example(dict.fromkeys(ALL_NAMES, "\0"))
@example(dict.fromkeys(ALL_NAMES, "\udcff"))
def test_any_text_loads_or_is_a_configuration_error(env: dict[str, str]) -> None:
    try:
        assert isinstance(load_settings(env), Settings)
    except ConfigurationError as error:
        assert error.problems
        for problem in error.problems:
            assert str(problem).isascii() and str(problem).isprintable()


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, ("*",)),
        ({"GATEWAY_ENV": "test"}, ("*",)),
        ({"GATEWAY_ENV": "production", "JWT_SECRET": "k" * 32}, ("same-origin",)),
        ({"GATEWAY_ENV": "production", "JWT_SECRET": "k" * 32, "WS_ALLOWED_ORIGINS": "*"}, ("*",)),
        ({"WS_ALLOWED_ORIGINS": "https://a.example.com"}, ("https://a.example.com",)),
    ],
)
def test_in_production_only_pages_of_the_same_origin_open_websockets(
    env: dict[str, str], expected: tuple[str, ...]
) -> None:
    settings = load_settings({"UPSTREAMS": '{"a": ["http://x"]}', **env})
    assert settings.service.websocket.allowed_origins == expected


# ---------------------------------------------------------------- CORS


def test_origins_are_kept_as_browsers_write_origins() -> None:
    service = {"endpoints": [URL], "corsOrigins": ["https://A.example:443"], "corsAllowHeaders": "X-A, X-B"}
    routes = [{"path": "/a/*", "service": "a", "cors": "off"}, {"path": "/b/*", "service": "a"}]
    settings = load_settings(
        {"UPSTREAMS": json.dumps({"a": service, "b": [URL]}), "ROUTES": json.dumps(routes), "CORS_ORIGINS": "*"}
    )
    a, b = (each.service.cors for each in settings.services)
    assert (a.origins, a.allowed_fields, b.origins) == (("https://a.example",), ("X-A", "X-B"), ("*",))
    of_a, of_b = (each.cors for each in settings.routes)
    assert of_a
    assert (of_a.mode, of_a.origins, of_b) == (CorsMode.OFF, a.origins, None)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("CORS", "yes", "is unknown"),
        ("CORS_ORIGINS", "null", "is not an origin"),
        ("CORS_ORIGINS", "https://a.example/", "is not an origin"),
        ("CORS_ORIGINS", "https://*.example.com", "is not an origin"),
        ("CORS_ORIGINS", "*,https://a.example", "has * beside others, which it makes void"),
        ("CORS_ORIGINS", "same-origin", "has same-origin in it, whose pages need no CORS"),
        ("CORS_ALLOW_HEADERS", "x a", 'has "x a" in it'),
        ("CORS_ALLOW_HEADERS", "*,x-a", "has * beside others, which it makes void"),
        ("CORS_EXPOSE_HEADERS", "é", "has"),
        ("CORS_MAX_AGE_S", "86401", "is out of range"),
    ],
)
def test_a_wrong_value_of_cors_is_told(name: str, text: str, reason: str) -> None:
    (line,) = lines(**{name: text})
    assert line.startswith(name)
    assert reason in line


def test_everybody_with_credentials_is_told_wherever_it_stands() -> None:
    services = {"a": {"endpoints": [URL], "corsOrigins": "*"}, "b": [URL]}
    routes = [{"path": "/b/*", "service": "b", "corsOrigins": "*"}, {"path": "/c/*", "service": "b"}]
    env = {"UPSTREAMS": json.dumps(services), "ROUTES": json.dumps(routes), "CORS_ALLOW_CREDENTIALS": "true"}
    with pytest.raises(ConfigurationError) as error:
        load_settings({**env, "CORS_ORIGINS": "https://a.example"})
    assert [each.variable for each in error.value.problems] == [
        "UPSTREAMS.a.corsAllowCredentials", "ROUTES[0].corsAllowCredentials",
    ]  # fmt: skip
    with pytest.raises(ConfigurationError) as error:
        load_settings({"UPSTREAMS": UPSTREAMS, "CORS_ORIGINS": "*", "CORS_ALLOW_CREDENTIALS": "true"})
    (problem,) = error.value.problems
    assert str(problem).startswith('CORS_ALLOW_CREDENTIALS="true": is true, but CORS_ORIGINS is *')


# ---------------------------------------------------------------- rate limits


def test_limits_of_a_service_and_of_a_route_have_their_own_counters() -> None:
    services = {"a": [URL], "b": {"endpoints": [URL], "rateLimits": "5/m"}}
    routes = [
        {"path": "/a/*", "service": "a"},
        {"path": "/b/*", "service": "b", "rateLimitKey": "route"},
        {"path": "/c/*", "service": "b", "preserveHost": True},
    ]
    settings = load_settings({"UPSTREAMS": json.dumps(services), "ROUTES": json.dumps(routes), "RATE_LIMIT_MAX": "9"})
    a, b = (each.service.limits for each in settings.services)
    assert (a, a.also) == (settings.service.limits, ())
    assert (a.group, b.group, b.label) == ("default", "service b", "b")
    assert (b.max, b.quotas) == (9, (Quota(5, 60.0),))
    of_a, of_b, of_c = settings.routes
    assert (of_a.limits, of_a.config, of_b.config) == (a, None, None)
    assert of_b.limits
    assert of_c.config
    assert (of_b.limits.group, str(of_b.limits.key), of_b.limits.quotas) == ("route /b/*", "route", b.quotas)
    assert (of_b.limits.route, of_c.limits) == ("/b/*", replace(b, also=()))
    assert b.also == (of_b.limits,)  # holds at the standard routes, too


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("RATE_LIMITS", "5", 'has "5" in it'),
        ("RATE_LIMITS", "5/s;burst=0", 'has "5/s" in it, with a wrong burst'),
        ("RATE_LIMIT_KEY", "user", "is not a key"),
    ],
)
def test_wrong_limits_are_refused(name: str, text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(**{name: text})
    (problem,) = refused.value.problems
    assert (problem.variable, problem.reason) == (name, reason)
