"""A GraphQL query over HTTP and subscriptions over a WebSocket (graphql-transport-ws), on one path.

Strawberry serves under uvicorn; gql asks, with the Origin of a page on the gateway's host.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.applications.support import WAYS, documented
from tests.support.applications import BASES, PROGRAMS, PYTHON, Stage, base_url, port_of, staged


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, str]]:
    """A stage, and the base URL of a GraphQL server."""
    with staged(tmp_path_factory.mktemp("graphql")) as stage:
        yield stage, stage.asgi("graphql_server")


def ask(stage: Stage, url: str) -> dict[str, Any]:
    return stage.client(PYTHON, PROGRAMS / "graphql_client.py", url)


def check(seen: dict[str, Any]) -> None:
    assert seen["query"] == {"add": 42}
    assert seen["subscription"] == list(range(100))
    assert seen["protocol"] == "graphql-transport-ws"
    assert "cannot count to a negative number" in seen["failure"]


@pytest.mark.parametrize("way", WAYS)
def test_a_query_and_subscriptions_on_one_path(running: tuple[Stage, str], way: str) -> None:
    stage, endpoint = running
    check(ask(stage, documented(stage, "GraphQL", way, port_of(endpoint))))


@pytest.mark.parametrize("base", BASES)
def test_with_ws_origin_the_server_takes_every_page(running: tuple[Stage, str], base: str) -> None:
    stage, endpoint = running
    port = stage.gateway({"shop": {"endpoints": [endpoint], "wsOrigin": "rewrite"}})
    check(ask(stage, base_url(base, port, "shop")))


@pytest.mark.parametrize("base", BASES)
def test_unconfigured_a_page_gets_the_servers_403(running: tuple[Stage, str], base: str) -> None:
    stage, endpoint = running
    seen = ask(stage, base_url(base, stage.gateway({"shop": [endpoint]}), "shop"))
    assert seen["query"] == {"add": 42}
    assert "403" in seen["refused"]
