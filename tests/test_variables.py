"""The table of variables: what is said of each, wherever it is said, and what is taken for a misspelling of one."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from decouple import RepositoryEnv

from tornado_gateway.settings import load_settings
from tornado_gateway.variables import VARIABLES, Variable, environment_help, example_env, hints, markdown_table

UPSTREAMS = json.dumps({"billing": ["http://10.0.0.7"]})
NAMES = [variable.name for variable in VARIABLES]
ALL_NAMES = [name for variable in VARIABLES for name in (variable.name, *variable.aliases)]


@pytest.mark.parametrize("variable", VARIABLES, ids=NAMES)
def test_help_is_one_line_that_needs_no_escaping(variable: Variable) -> None:
    assert variable.line.isprintable() and len(variable.line) <= 100
    assert "|" not in variable.line and "%(" not in variable.line


@pytest.mark.parametrize("variable", VARIABLES, ids=NAMES)
def test_what_is_reserved_says_so_everywhere(variable: Variable) -> None:
    groups = ("Rate limit", "Cache", "Under pressure")
    assert variable.reserved is (variable.group in groups)
    assert variable.line.endswith(" (reserved)") is variable.reserved


@pytest.mark.parametrize("render", [environment_help, example_env, markdown_table])
def test_each_variable_is_explained_once(render: Callable[[], str]) -> None:
    assert [render().count(variable.line) for variable in VARIABLES] == [1] * len(VARIABLES)


def test_help_names_variables_with_their_defaults_under_their_groups() -> None:
    text = environment_help()
    assert text.startswith("Server:\n  HOST=0.0.0.0\n      address or host name")
    assert "\n\nLogs:\n  LOG_LEVEL=info\n" in text
    assert re.findall(r"^  ([A-Z_]+)=", text, re.MULTILINE) == NAMES


def test_the_readme_table_has_a_row_per_variable() -> None:
    rows = markdown_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == NAMES
    assert rows[1].startswith("| `PORT` | `8080` | TCP port to listen on, ")
    assert "| `VIA_NAME` |  | this gateway's pseudonym" in markdown_table()


EXAMPLE = Path(__file__).parent.parent / ".env.example"


def test_env_example_is_what_the_table_says() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == example_env()


def test_env_example_needs_only_upstreams() -> None:
    env = RepositoryEnv(str(EXAMPLE)).data
    assert list(env) == NAMES
    assert load_settings(env | {"UPSTREAMS": UPSTREAMS}) == load_settings({"UPSTREAMS": UPSTREAMS})


# Hints


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("UPSTREAM", "UPSTREAMS"),
        ("UPSTREAM_FILE", "UPSTREAMS_FILE"),
        ("UPSTREAM_TIMEOUT_MS", "UPSTREAM_IDLE_TIMEOUT_MS"),
        ("GATEWAY_ENVIRONMENT", "GATEWAY_ENV"),
        ("GATEWAY_PORT", "PORT"),
        ("GATEWAY_LOG_LEVEL", "LOG_LEVEL"),
        ("WS_PING_INTERVAL", "WS_PING_INTERVAL_MS"),
        ("CACHE_TTL_MS", "CACHE_DEFAULT_TTL_MS"),
        ("RATE_LIMIT_MAX_REQUESTS", "RATE_LIMIT_MAX"),
        ("UNDER_PRESSURE_MAX_RSS", "UNDER_PRESSURE_MAX_RSS_BYTES"),
        ("HTTP_PROXY_TIMEOUT", "HTTP_PROXY_TIMEOUT_MS"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("port", "PORT"),
        ("NODE_ENVS", "NODE_ENV"),
        ("SSE_PING_INTERVAL_MS", "WS_PING_INTERVAL_MS"),
    ],
)
def test_a_likely_misspelling_is_hinted_at(name: str, meant: str) -> None:
    assert hints({name: "1"}) == [f"{name} is not a variable of this gateway; did you mean {meant}?"]


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "HOSTNAME", "USER", "PWD", "SHLVL", "TERM", "LANG", "LOGNAME", "HOSTTYPE", "PYTHONPATH", "_"),
        *("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "no_proxy", "NODE_PATH", "WEB_CONCURRENCY", "VIRTUAL_ENV"),
        *("GATEWAY_BASE_URL", "CACHE_DIR", "WS_URL"),
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


def test_known_variables_are_no_misspellings() -> None:
    assert hints(dict.fromkeys(ALL_NAMES, "x")) == []
