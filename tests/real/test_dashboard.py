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


STREAMING = """import http.server, sys, time
class Streaming(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        while True:
            self.wfile.write(b"data: 1\\n\\n")
            time.sleep(0.05)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Streaming).serve_forever()"""

# A gateway with ten thousand streams, as far as the list of streams sees: the page asks for pages.
SCRIPTED = """window.asked = 0; window.fetch = async (target) => {
  const after = Number(new URLSearchParams(target.split('?')[1]).get('after')); window.asked += 1;
  const streams = Array.from({length: Math.min(200, 10000 - after)}, (_, index) => ({
    id: after + index + 1, kind: 'eventStream', service: '<b>billing</b>', endpoint: 'http://10.0.0.7',
    client: '192.0.2.1', principal: '', path: '/x', requestId: 'a', ageMs: 1000, messages: {up: 0, down: 1},
    bytes: {up: 0, down: 9}, waitingBytes: 0}));
  const last = after + streams.length;
  return {ok: true, status: 200, json: async () => (
    {open: 10000, matching: 10000, streams, next: last < 10000 ? last : null})};
}"""


def pressed(page: Page, selector: str, label: str) -> bool:
    """Press the first button with a label; return whether there is one."""
    buttons = f"[...document.querySelectorAll({json.dumps(f'{selector} button')})]"
    wanted = f"{buttons}.find(each => !each.hidden && each.textContent.startsWith({json.dumps(label)}))"
    return bool(page.value(f"(button => (button?.click(), Boolean(button)))({wanted})"))


@contextlib.contextmanager
def logged_in(gateway: str, tmp_path: Path) -> Iterator[Page]:
    """The dashboard of an operator."""
    token = jwt.encode({"iss": "id", "sub": "ada"}, KEY)
    with chromium(tmp_path) as devtools, tab(devtools, f"{gateway}/admin") as connection:
        page = Page(connection)
        until(lambda: "Log in" in page.text("h1 + p"), "the log-in page")
        page.complaints.clear()  # the 401 of the page before the log-in
        page.value(f"document.querySelector('input').value = '{token}'; document.querySelector('form').submit()")
        until(lambda: page.text("#link") == "live", "the event stream is live")
        yield page


def test_an_operator_drains_an_endpoint_and_closes_a_stream(
    gateway: str, ports: tuple[int, int], tmp_path: Path
) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    fields = {"Authorization": f"Bearer {jwt.encode({'iss': 'id', 'sub': 'eve'}, KEY)}"}
    with (
        process("-c", STREAMING, str(ports[0])),
        process("-c", STREAMING, str(ports[1])),
        logged_in(gateway, tmp_path) as page,
        httpx.Client(trust_env=False, timeout=30, headers=fields) as client,
    ):
        until(lambda: page.text("#sentence") == "All 2 endpoints of 1 services are up", lambda: page.text("#sentence"))
        with client.stream("GET", f"{gateway}/sse/billing/x") as stream:
            pieces = stream.iter_bytes()
            next(pieces)
            page.value("document.getElementById('streams-card').open = true")
            until(lambda: "id|eve" in page.text("#streams tbody"), lambda: page.text("#streams-note"))
            assert page.text("#streams-note") == "1 of 1 open streams"
            assert pressed(page, "#streams", "Close…") and pressed(page, "#acts .acts", "Close stream")
            assert page.text("#acts p").startswith("Closes 1 stream now, between two events or by a Close.")
            assert pressed(page, "#acts .choice", "Close stream")
            assert b"retry: " in b"".join(pieces)  # the stream ends
        until(lambda: page.text("#acts p") == "1 stream ends.", lambda: page.text("#acts p"))
        assert pressed(page, "#acts .choice", "Close")
        until(lambda: page.text("#streams-note") == "No streams are open.", lambda: page.text("#streams-note"))

        page.value(f"document.querySelector('button[aria-label=\"Act on {urls[1]}\"]').click()")
        assert page.text("#acts h2") == urls[1] and pressed(page, "#acts .acts", "Drain")
        assert page.text("#acts p").startswith("The endpoint gets no new requests; 0 requests and 0 streams")
        assert " drained " not in page.state(urls[1]), "nothing has happened before the confirmation"
        assert pressed(page, "#acts .choice", "Drain")
        until(lambda: page.text("#acts p").startswith(f"Done: {urls[1]} is drained"), lambda: page.text("#acts p"))
        until(lambda: " drained " in f" {page.state(urls[1])} ", lambda: page.state(urls[1]))
        assert " drained " not in page.state(urls[0]) and page.complaints == []


def test_of_ten_thousand_streams_only_the_rows_in_sight_exist(gateway: str, tmp_path: Path) -> None:
    with logged_in(gateway, tmp_path) as page:
        page.value(f"{SCRIPTED}; document.getElementById('streams-card').open = true")
        until(lambda: page.text("#streams-note") == "10000 of 10000 open streams", lambda: page.text("#streams-note"))
        down = "(box => { box.scrollTop = box.scrollHeight; })(document.getElementById('streams-box'))"
        last = "[...document.querySelectorAll('#streams tbody tr:not(.filler)')].at(-1)?.cells[0].textContent"
        until(lambda: page.value(f"{down}; {last}") == "10000", lambda: page.value(last))
        assert page.value("document.querySelectorAll('#streams tbody tr').length") < 60
        page.value("document.getElementById('streams-box').scrollTop = 0")
        first = "document.querySelector('#streams tbody tr:not(.filler)').cells"
        until(lambda: page.value(f"{first}[0].textContent") == "1", "the first row is back")
        assert page.value(f"{first}[5].textContent") == "<b>billing</b>"
        assert page.complaints == []
