"""A GraphQL query over HTTP and subscriptions over a WebSocket (graphql-transport-ws), on one path.

Strawberry serves under uvicorn; gql asks, with the Origin of a page on the gateway's host. Strawberry compares Origin
with Host, so the service must get the client's Host.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.applications import BASES, PROGRAMS, PYTHON, Stage, base_url, staged

SETTINGS: dict[str, dict[str, Any]] = {"host": {"preserveHost": True}, "origin": {"wsOrigin": "rewrite"}, "none": {}}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, int]]:
    with staged(tmp_path_factory.mktemp("graphql")) as stage:
        endpoints = [stage.asgi("graphql_server")]
        services = {name: {"endpoints": endpoints, **settings} for name, settings in SETTINGS.items()}
        yield stage, stage.gateway(services)


def ask(running: tuple[Stage, int], base: str, service: str) -> dict[str, Any]:
    stage, port = running
    return stage.client(PYTHON, PROGRAMS / "graphql_client.py", base_url(base, port, service))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("service", ["host", "origin"])
def test_a_query_and_subscriptions_on_one_path(running: tuple[Stage, int], service: str, base: str) -> None:
    seen = ask(running, base, service)
    assert seen["query"] == {"add": 42}
    assert seen["subscription"] == list(range(100))
    assert seen["protocol"] == "graphql-transport-ws"
    assert "cannot count to a negative number" in seen["failure"]


@pytest.mark.parametrize("base", BASES)
def test_unconfigured_a_page_gets_the_servers_403(running: tuple[Stage, int], base: str) -> None:
    seen = ask(running, base, "none")
    assert seen["query"] == {"add": 42}
    assert "403" in seen["refused"]
