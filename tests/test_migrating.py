"""docs/migrating.md: the tables agree with the source, and the examples lead where the other gateway led."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.everything import everything
from tests.support.examples import environments
from tests.support.figures import snapshot
from tests.test_documents import code, documents, rows
from tests.test_errors import every
from tornado_gateway.app import make_routes
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.settings import ServiceSpec, Settings
from tornado_gateway.config.variables import VARIABLES
from tornado_gateway.errors import GatewayError
from tornado_gateway.policy.http.target import parse_base_url

ROOT = Path(__file__).parent.parent
PAGE = documents()["docs/migrating.md"]
BY_NAME = {name: each for each in VARIABLES for name in (each.name, *each.aliases)}

# A file of the Node gateway with all its variables.
DOT_ENV = """\
NODE_ENV=production
HOST=0.0.0.0
PORT=8080
LOG_LEVEL=info
AUTH_REQUIRED=true
JWT_SECRET=change-me-change-me-change-me-change-me
RATE_LIMIT_MAX=200
RATE_LIMIT_WINDOW_MS=60000
HTTP_PROXY_TIMEOUT_MS=30000
CACHE_ENABLED=true
CACHE_DEFAULT_TTL_MS=5000
CACHE_MAX_BODY_BYTES=262144
UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS=1000
UNDER_PRESSURE_MAX_HEAP_USED_BYTES=
UNDER_PRESSURE_MAX_RSS_BYTES=
WS_MAX_BUFFERED_BYTES=2000000
WS_PING_INTERVAL_MS=30000
UPSTREAMS={"users":["http://localhost:3001","http://localhost:3002"],"chat":["http://localhost:4000"]}
"""


def test_the_commands_of_the_page_accept_the_file_of_the_node_gateway(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(DOT_ENV, encoding="utf-8")
    (block,) = re.findall(r"<!-- check -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-ec", block], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("configuration ok\n")
    assert "RATE_LIMIT_MAX=200\n" in done.stdout
    assert set(re.findall(r"warning: (\w+)", done.stderr)) == {"ADMIN_PORT"}  # from each of the two commands


def test_each_variable_of_the_node_gateway_has_a_row() -> None:
    assert {code(row[0])[0] for row in rows(PAGE, "variables")} == set(re.findall(r"^(\w+)=", DOT_ENV, re.MULTILINE))
    assert rows(PAGE, "variables")[0][0] == "`RATE_LIMIT_MAX`"


@pytest.mark.parametrize("row", rows(PAGE, "variables"), ids=lambda row: row[0].strip("`"))
def test_the_default_of_the_page_is_the_default_of_the_gateway(row: list[str]) -> None:
    variable, shown = BY_NAME[row[0].strip("`")], row[2]
    if variable.in_production is True:
        assert shown == "true in production"
    else:
        assert shown.strip("`") == variable.default


@pytest.mark.parametrize("row", rows(PAGE, "errors"), ids=" ".join)
def test_the_errors_of_the_page_are_errors_of_the_gateway(row: list[str]) -> None:
    assert (int(row[0]), row[1].strip("`")) in {(each.status, each.code) for each in every(GatewayError)}


@pytest.mark.parametrize("name", [row[0].strip("`") for row in rows(PAGE, "metrics")])
def test_the_metrics_of_the_page_are_metrics_of_the_gateway(name: str) -> None:
    assert f"| `{name}` |" in documents()["docs/observability.md"]


@pytest.mark.parametrize("row", rows(PAGE, "keys"), ids=lambda row: row[0])
def test_the_keys_of_the_page_are_keys_of_the_statistics(row: list[str]) -> None:
    service: dict[str, Any] = snapshot(everything(), 0.0)["services"]["one"]
    places = {"a service": service, "an endpoint": service["upstreamDetails"][0]}
    for place in row[1].split(", "):
        assert set(code(row[0])) <= set(places[place])


def example(name: str) -> Settings:
    (env,) = environments(PAGE.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0])
    return load_settings(env)


def leads_to(settings: Settings, target: str, host: str = "localhost") -> tuple[ServiceSpec, str]:
    """The service of a target, and the target at the service's first endpoint."""
    match = make_routes(settings).match(target.encode(), host.encode())
    assert match
    (service,) = [each for each in settings.services if each.name == match.service.decode()]
    base = parse_base_url(service.endpoints[0].url)[1]
    return service, (base + match.mount.inner_target(match.rest)).decode()


@pytest.mark.parametrize(
    ("target", "name", "inner"),
    [
        ("/invoices/7?open", "billing", "/v2/7?open"),
        ("/events/all", "events", "/events/all"),
        ("/chat/room", "chat", "/chat/room"),
    ],
)
def test_the_example_of_nginx_leads_where_nginx_led(target: str, name: str, inner: str) -> None:
    service, found = leads_to(example("nginx"), target)
    assert (service.name, found) == (name, inner)


def test_the_example_of_nginx_has_the_numbers_of_nginx() -> None:
    settings = example("nginx")
    billing, _ = leads_to(settings, "/invoices/")
    events, _ = leads_to(settings, "/events/")
    assert [each.weight for each in billing.endpoints] == [2, 1]
    assert (billing.service.head_timeout, billing.service.breaker.failures) == (60.0, 3)
    assert events.service.event_streams.idle_timeout == 3600.0
    assert settings.server.max_body_bytes == 10 * 1024 * 1024


def test_the_example_of_traefik_leads_where_traefik_led() -> None:
    settings = example("traefik")
    service, found = leads_to(settings, "/billing/7", "api.example.com")
    assert (service.name, found) == ("billing", "/7")
    assert service.service.health.interval == 5.0
    assert service.service.mount.preserve_host
