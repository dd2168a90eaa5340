"""Viewers of a gateway that is measured."""

import contextlib
import re
import urllib.request
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.cost.peers import PEERS, Place, gateway
from benchmarks.cost.viewers import viewed
from benchmarks.processes import ChildFailed
from tests.support.ports import free_port
from tests.support.websockets import until


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, machine.cores()[0], free_port(), 1, 1, access_log=False)


def metrics(port: int) -> str:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return str(answer.read().decode())
    return ""


def test_two_viewers_see_everything_of_a_gateway_that_is_measured(place: Place) -> None:
    with PEERS["watched"].start(place):
        until(lambda: "\ngateway_client_connections 3.0\n" in metrics(place.port), "two viewers and this client")
        assert re.search("^# TYPE gateway_upstream_head_seconds histogram$", metrics(place.port), re.MULTILINE)


def test_a_viewer_that_sees_nothing_is_told(place: Place) -> None:
    with pytest.raises(ChildFailed, match="told a viewer nothing"), viewed(gateway(place), free_port(), 1):
        pass  # the viewer asks where nobody listens
