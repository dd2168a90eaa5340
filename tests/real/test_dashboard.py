"""The dashboard in Chromium: an operator logs in, sees an endpoint fail and come back, and logs out."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.support.chromium import Tab, chromium, tab
from tests.support.websockets import until

ROOT = Path(__file__).resolve().parents[2]
KEY = "k" * 32
UPSTREAM = """import http.server, sys
address = ("127.0.0.1", int(sys.argv[1]))
http.server.HTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()"""


class Page(Tab):
    """The dashboard's page.

    Attributes:
        complaints: what the browser has complained about: errors, and what the page's policy has blocked.
    """

    def __init__(self, devtools: Any) -> None:
        super().__init__(devtools)
        self.complaints: list[str] = []
        for domain in ("Page", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def on_event(self, message: dict[str, Any]) -> None:
        is_complaint = message["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        is_error = message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] in ("error", "warning")
        if is_complaint or is_error:
            self.complaints.append(json.dumps(message["params"]))

    def text(self, selector: str) -> str:
        with contextlib.suppress(AssertionError):  # between two pages there is nothing to ask
            return str(self.value(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''"))
        return ""

    def state(self, url: str) -> str:
        """The state of an endpoint, and why, as the table has them."""
        rows = f"[...document.querySelectorAll('tr.endpoint')].find(row => row.cells[0].textContent === '{url}')"
        return str(self.value(f"[...({rows}?.cells ?? [])].map(cell => cell.textContent).join(' ')"))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def process(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(
        [sys.executable, *arguments], env=os.environ | variables, cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        running.terminate()
        running.wait(15)


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False).status_code == 200
    return False


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def gateway(ports: tuple[int, int]) -> Iterator[str]:
    port = free_port()
    services = {"billing": [f"http://127.0.0.1:{each}" for each in ports]}
    variables = {
        "UPSTREAMS": json.dumps(services), "HOST": "127.0.0.1", "PORT": str(port), "ACCESS_LOG": "false",
        "PYTHONPATH": str(ROOT), "AUTH_REQUIRED": "true", "JWT_SECRET": KEY, "HEALTH_CHECK": "tcp",
        "HEALTH_INTERVAL_MS": "200", "HEALTH_DOWN_INTERVAL_MS": "200",
    }  # fmt: skip
    with process("-m", "tornado_gateway", **variables):
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/readyz"), "the gateway listens")
        yield url


def test_an_operator_sees_what_fails_and_when_all_is_well_again(
    gateway: str, ports: tuple[int, int], tmp_path: Path
) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    token = jwt.encode({"iss": "id", "sub": "ada"}, KEY)
    with (
        process("-c", UPSTREAM, str(ports[0])),
        process("-c", UPSTREAM, str(ports[1])) as second,
        chromium(tmp_path) as devtools,
        tab(devtools, f"{gateway}/admin") as connection,
    ):
        page = Page(connection)
        until(lambda: "Log in" in page.text("h1 + p"), "the log-in page")
        page.complaints.clear()  # the 401 of the page before the log-in
        page.value(f"document.querySelector('input').value = '{token}'; document.querySelector('form').submit()")
        until(lambda: page.text("#link") == "live", "the event stream is live")
        until(lambda: page.text("#sentence") == "All 2 endpoints of 1 services are up", lambda: page.text("#sentence"))
        assert " out " not in page.state(urls[1]) and "Logged in as id|ada" in page.text("header")

        second.kill()
        until(lambda: "billing: 1 of 2 endpoints is out" in page.text("#sentence"), lambda: page.text("#sentence"))
        assert (
            "connect failed" in page.text("#sentence")
            and " out " in page.state(urls[1])
            and " out " not in page.state(urls[0])
        )
        assert f"billing {urls[1]} is out" in page.text("#events") and urls[1] in page.text("#announcement")

        with process("-c", UPSTREAM, str(ports[1])):
            until(lambda: page.text("#sentence").startswith("All 2"), lambda: page.text("#sentence"))
            assert page.complaints == []
            page.value("fetch('/admin/logout', {method: 'POST'}).then(answer => answer.status)")
            until(lambda: page.text("#link") == "not allowed: log in again", lambda: page.text("#link"))
