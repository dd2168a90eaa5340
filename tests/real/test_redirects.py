"""An EventSource in Chromium whose service redirects it: with REWRITE_LOCATION=all the stream arrives on every route.

Debian's chromium is installed by tests/run.
"""

import contextlib
import http.server
import itertools
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chromium import Tab, chromium, tab
from tests.support.ports import free_port
from tests.support.websockets import running, until

STATUSES = (301, 302, 303, 307, 308)  # Fetch §4.4: redirect statuses
FORMS = ("relative", "root-relative", "absolute", "public")

# Listens to each URL until the first event, or until the EventSource gives up; the data of the events.
LISTEN = """
(urls => Promise.all(urls.map(url => new Promise(resolve => {
    const source = new EventSource(url);
    const end = data => { source.close(); resolve(data); };
    source.onmessage = ({ data }) => end(data);
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) end(null); };
}))))(%s)
"""


class Service(http.server.BaseHTTPRequestHandler):
    """Redirects .../from/STATUS/FORM to .../to/STATUS/FORM, which is a stream of one event: the path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        at, _, rest = self.path.partition("/from/")
        if rest:
            status, _, form = rest.partition("/")
            self._answer(int(status), ("Location", self._location(form, f"{at}/to/{rest}")))
        elif "/to/" in self.path:
            self._answer(200, ("Content-Type", "text/event-stream"), f"data: {self.path}\n\n")
        else:
            self._answer(404, ("X-Path", self.path))

    def _location(self, form: str, path: str) -> str:
        if form == "relative":
            return "../../to/" + path.partition("/to/")[2]
        if form == "root-relative":
            return path
        return f"http://{self.headers['Host' if form == 'absolute' else 'X-Forwarded-Host']}{path}"

    def _answer(self, status: int, field: tuple[str, str], body: str = "") -> None:
        self.send_response(status)
        self.send_header(*field)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """A service's URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def gateway(service: str) -> Iterator[int]:
    """The port of a gateway with three services: two for which all is rewritten, one for which nothing is."""
    port = free_port()
    routes = [
        {"path": "/cut/*", "service": "plain", "strip": True},
        {"path": "/kept/*", "service": "plain"},
        {"path": "/cut-based/*", "service": "based", "strip": True},
        {"path": "/moved-based/*", "service": "based", "rewrite": "/v2/*"},
    ]
    services = {
        "plain": {"endpoints": [service], "rewriteLocation": "all"},
        "based": {"endpoints": [f"{service}/base"], "rewriteLocation": "all"},
        "off": {"endpoints": [service], "rewriteLocation": "off"},
    }
    variables = {
        "HOST": "127.0.0.1", "PORT": str(port), "LOG_LEVEL": "error", "UPSTREAMS": json.dumps(services),
        "ROUTES": json.dumps(routes),
    }  # fmt: skip
    with running([sys.executable, "-m", "tornado_gateway"], port, **variables):
        yield port


@pytest.fixture(scope="module")
def page(gateway: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A page of the gateway's."""
    profile: Path = tmp_path_factory.mktemp("profile")
    url = f"http://127.0.0.1:{gateway}/healthz"
    with chromium(profile) as devtools, tab(devtools, url) as connection:
        shown = Tab(connection)
        until(lambda: _shows(shown, gateway), "the page")
        yield shown


def _shows(page: Tab, port: int) -> bool:
    with contextlib.suppress(AssertionError):  # between two pages there is nothing that could be asked
        return bool(page.value(f"location.port === '{port}' && document.readyState === 'complete'"))
    return False


# Public prefix, and what of the path the service sees before "/to/".
PLACES = {
    "/api/plain": "", "/sse/plain": "", "/cut": "", "/kept": "/kept",
    "/api/based": "/base", "/sse/based": "/base", "/cut-based": "/base", "/moved-based": "/base/v2",
}  # fmt: skip


@pytest.mark.parametrize("public", PLACES)
def test_an_event_source_that_is_redirected_arrives(page: Tab, public: str) -> None:
    asked = [f"{status}/{form}" for status, form in itertools.product(STATUSES, FORMS)]
    heard = page.value(LISTEN % json.dumps([f"{public}/from/{each}" for each in asked]))
    assert heard == [f"{PLACES[public]}/to/{each}" for each in asked]


def test_without_rewriting_an_event_source_is_lost(page: Tab) -> None:
    heard = page.value(LISTEN % json.dumps([f"/api/off/from/302/{form}" for form in FORMS]))
    assert heard == ["/to/302/relative", None, None, None]
