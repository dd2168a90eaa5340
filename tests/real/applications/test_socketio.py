"""socket.io on one base URL: sessions begin by polling and become WebSockets.

python-socketio serves; python-socketio and the JavaScript client connect.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.applications import BASES, PROGRAMS, PYTHON, Stage, base_url, staged

CLIENTS = {"python": (PYTHON, PROGRAMS / "socketio_client.py"), "javascript": ("node", PROGRAMS / "socketio_client.js")}


@dataclass(frozen=True)
class Running:
    """A gateway, with a service of one endpoint and a service of two endpoints.

    Attributes:
        port: the gateway's.
    """

    stage: Stage
    port: int

    def session(self, client: str, base: str, service: str, *more: str) -> dict[str, Any]:
        """What a session of a client saw."""
        return self.stage.client(*CLIENTS[client], base_url(base, self.port, service), *more)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with staged(tmp_path_factory.mktemp("socketio")) as stage:
        one, two = (stage.asgi("socketio_server", NAME=name) for name in ("one", "two"))
        services = {"chat": [one], "chats": [one, two]}
        yield Running(stage, stage.gateway(services, STICKY="redistribute"))


def check(seen: dict[str, Any]) -> None:
    assert seen["sum"] == 6
    assert seen["ticks"] == list(range(10))
    assert seen["transport"] == "websocket"
    assert "websocket" in seen["requests"]  # with the id of a session that a polling request has opened


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_session_begins_by_polling_and_becomes_a_websocket(running: Running, client: str, base: str) -> None:
    check(running.session(client, base, "chat"))


@pytest.mark.parametrize("base", BASES)
def test_a_session_without_websockets_stays_with_polling(running: Running, base: str) -> None:
    seen = running.session("python", base, "chat", "polling")
    assert (seen["sum"], seen["ticks"], seen["transport"]) == (6, list(range(10)), "polling")
    assert set(seen["requests"]) == {"http"}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("client", CLIENTS)
def test_sticky_keeps_each_session_on_one_of_two_endpoints(running: Running, client: str, base: str) -> None:
    endpoints = set()
    for _ in range(30):
        seen = running.session(client, base, "chats")
        check(seen)
        endpoints.add(seen["endpoint"])
        if len(endpoints) == 2:
            break
    assert endpoints == {"one", "two"}
