"""socket.io on one base URL: sessions begin by polling and become WebSockets.

python-socketio serves. python-socketio and the JavaScript client connect, with the Origin of a page on the gateway's
host.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.real.applications.support import WAYS, documented, example
from tests.support.applications import BASES, PROGRAMS, PYTHON, Stage, base_url, port_of, staged

CLIENTS = {"python": (PYTHON, PROGRAMS / "socketio_client.py"), "javascript": ("node", PROGRAMS / "socketio_client.js")}


@dataclass(frozen=True)
class Running:
    """Two servers of socket.io.

    Attributes:
        ports: the servers'.
    """

    stage: Stage
    ports: tuple[int, int]

    def session(self, client: str, url: str, *more: str) -> dict[str, Any]:
        """What a session of a client saw."""
        return self.stage.client(*CLIENTS[client], url, *more)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with staged(tmp_path_factory.mktemp("socketio")) as stage:
        one, two = (port_of(stage.asgi("socketio_server", NAME=name)) for name in ("one", "two"))
        yield Running(stage, (one, two))


@pytest.fixture(scope="module")
def sticky(running: Running) -> int:
    """The port of a gateway with the documented settings for two endpoints."""
    variables = example("socket.io", "two")
    text = variables.pop("UPSTREAMS")
    for shown, port in zip(("5000", "5001"), running.ports, strict=True):
        assert shown in text
        text = text.replace(shown, str(port))
    return running.stage.gateway(json.loads(text), **variables)


def check(seen: dict[str, Any]) -> None:
    assert seen["sum"] == 6
    assert seen["ticks"] == list(range(10))
    assert seen["transport"] == "websocket"
    assert "websocket" in seen["requests"]  # with the id of a session that a polling request has opened


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_session_begins_by_polling_and_becomes_a_websocket(running: Running, client: str, way: str) -> None:
    check(running.session(client, documented(running.stage, "socket.io", way, running.ports[0])))


@pytest.mark.parametrize("way", WAYS)
def test_a_session_without_websockets_stays_with_polling(running: Running, way: str) -> None:
    seen = running.session("python", documented(running.stage, "socket.io", way, running.ports[0]), "polling")
    assert (seen["sum"], seen["ticks"], seen["transport"]) == (6, list(range(10)), "polling")
    assert set(seen["requests"]) == {"http"}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("client", CLIENTS)
def test_sticky_keeps_each_session_on_one_of_two_endpoints(
    running: Running, sticky: int, client: str, base: str
) -> None:
    endpoints = set()
    for _ in range(30):
        seen = running.session(client, base_url(base, sticky, "chat"))
        check(seen)
        endpoints.add(seen["endpoint"])
        if len(endpoints) == 2:
            break
    assert endpoints == {"one", "two"}
