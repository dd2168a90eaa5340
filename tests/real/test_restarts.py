"""An EventSource in Chromium, whose service, or whose gateway, is away for some seconds: it comes back by itself.

Debian's chromium is installed by tests/run.
"""

import contextlib
import http.server
import json
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.support.chromium import Tab, chromium, tab
from tests.support.ports import free_port
from tests.support.websockets import running, until

OPEN = """
globalThis.heard = [];
globalThis.source = new EventSource(URL_OF_STREAM);
source.onmessage = ({ data }) => heard.push(data);
"""
CONNECTING, CLOSED = 0, 2


class Service(http.server.BaseHTTPRequestHandler):
    """Each stream says once whose it is, and stays open until its server ends."""

    generation: str
    over: threading.Event

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(b"retry: 100\ndata: %b\n\n" % self.generation.encode())
        self.over.wait()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def service(port: int, generation: str) -> Iterator[None]:
    """A service that streams; with its end, all its streams end."""
    over = threading.Event()
    handler = type("Generation", (Service,), {"generation": generation, "over": over})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def gateway(port: int, upstream: int) -> contextlib.AbstractContextManager[None]:
    variables = {
        "HOST": "127.0.0.1", "PORT": str(port), "LOG_LEVEL": "error", "DRAIN_SPREAD_MS": "0",
        "UPSTREAMS": json.dumps({"svc": [f"http://127.0.0.1:{upstream}"]}),
    }  # fmt: skip
    return running([sys.executable, "-m", "tornado_gateway"], port, **variables)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("profile")) as devtools, tab(devtools, "about:blank") as connection:
        yield Tab(connection)


def visit(browser: Tab, port: int) -> None:
    """Be on a page of a gateway's."""
    browser.call("Page.navigate", url=f"http://127.0.0.1:{port}/healthz")

    def shows() -> bool:
        with contextlib.suppress(AssertionError):  # between two pages there is nothing that could be asked
            return bool(browser.value(f"location.port === '{port}' && document.readyState === 'complete'"))
        return False

    until(shows, "the page")


def listen(browser: Tab, url: str) -> None:
    browser.value(OPEN.replace("URL_OF_STREAM", json.dumps(url)))


def heard(browser: Tab) -> list[str]:
    return list(browser.value("heard"))


def state(browser: Tab) -> int:
    return int(browser.value("source.readyState"))


@pytest.mark.parametrize("is_foreign", [False, True], ids=["own origin", "another origin"])
def test_an_event_source_comes_back_after_its_service_was_away(browser: Tab, is_foreign: bool) -> None:
    port, upstream = free_port(), free_port()
    host = "localhost" if is_foreign else "127.0.0.1"
    with gateway(port, upstream):
        visit(browser, port)
        with service(upstream, "before"):
            listen(browser, f"http://{host}:{port}/sse/svc/events")
            until(lambda: heard(browser) == ["before"], "the first event")
        browser.value("globalThis.opened = 0; source.onopen = () => { opened += 1 }")
        until(lambda: browser.value("opened") >= 2, "two answers of the gateway's own while the service is away")
        assert state(browser) != CLOSED
        with service(upstream, "after"):
            until(lambda: heard(browser) == ["before", "after"], "the event of the service that is back")
        browser.value("source.close()")


def test_an_event_source_that_begins_while_its_service_is_away_gets_its_stream(browser: Tab) -> None:
    port, upstream = free_port(), free_port()
    with gateway(port, upstream):
        visit(browser, port)
        listen(browser, "/sse/svc/events")
        until(lambda: state(browser) == CONNECTING, "an answer that has it come back")
        with service(upstream, "at last"):
            until(lambda: heard(browser) == ["at last"], "the first event")
        browser.value("source.close()")


def test_an_event_source_comes_back_after_its_gateway_was_away(browser: Tab) -> None:
    port, upstream = free_port(), free_port()
    with service(upstream, "here"):
        with gateway(port, upstream):
            visit(browser, port)
            listen(browser, "/sse/svc/events")
            until(lambda: heard(browser) == ["here"], "the first event")
        until(lambda: state(browser) == CONNECTING, "the end of the gateway")
        with gateway(port, upstream):
            until(lambda: heard(browser) == ["here", "here"], "the event through the gateway that is back")
            browser.value("source.close()")
