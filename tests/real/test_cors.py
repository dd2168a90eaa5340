"""Pages of other origins in Chromium, through a gateway in production: what a page may send, and what it may read.

Debian's chromium is installed by tests/run.
"""

import contextlib
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import jwt
import pytest

from tests.support.chromium import Tab, chromium, tab
from tests.support.ports import free_port
from tests.support.websockets import running, until

KEY = "k" * 32
TOKEN = jwt.encode({"sub": "ada"}, KEY)
BEARER = {"Authorization": f"Bearer {TOKEN}"}
CONNECTING, CLOSED = 0, 2

# What a page learns of an answer; of an answer that the browser hides, only that.
FETCH = """
fetch(URL, OPTIONS).then(
    async answer => ({
        status: answer.status, body: await answer.text(), id: answer.headers.get("x-request-id"),
        wait: answer.headers.get("retry-after"), limit: answer.headers.get("ratelimit"),
    }),
    error => error.name,
)
"""
LISTEN = """
globalThis.heard = [];
globalThis.failed = 0;
globalThis.source = new EventSource(URL, { withCredentials: SENDS_COOKIES });
source.onmessage = ({ data }) => heard.push(data);
source.onerror = () => { failed += 1 };
"""


class Service(http.server.BaseHTTPRequestHandler):
    """Serves pages; tells what a request was; sends an event; and answers CORS itself, for everybody."""

    seen: list[tuple[str, str]]
    protocol_version = "HTTP/1.1"

    def _answer(self, media_type: str, body: bytes) -> None:
        if self.path == "/x":
            self.seen.append((self.command, self.path))
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", self.headers.get("Origin", "*"))
        self.send_header("Access-Control-Allow-Headers", "authorization, x-own")
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _tell(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        said = {"method": self.command, "own": self.headers.get("X-Own"), "body": body}
        self._answer("application/json", json.dumps(said).encode())

    do_PUT = do_OPTIONS = do_POST = _tell

    def do_GET(self) -> None:
        if self.path == "/page":
            self._answer("text/html", b"<title>page</title>")
        elif self.path == "/events":
            self._answer("text/event-stream", b"retry: 60000\ndata: hello\n\n")
        else:
            self._tell()

    def log_message(self, format: str, *args: object) -> None:
        pass


class World(NamedTuple):
    """A browser, the gateway's URL, and the requests for /x that the service has got.

    Attributes:
        listed, other: URLs of pages whose origin is in CORS_ORIGINS, and is not.
    """

    browser: Tab
    gateway: str
    seen: list[tuple[str, str]]
    listed: str
    other: str

    def visit(self, page: str) -> None:
        self.browser.call("Page.navigate", url=page)

        def shows() -> bool:
            with contextlib.suppress(AssertionError):  # between two pages there is nothing that could be asked
                return bool(self.browser.value(f"location.href === '{page}' && document.readyState === 'complete'"))
            return False

        until(shows, "the page")
        self.browser.value(f"document.cookie = 'sid={TOKEN}'; 0")
        self.seen.clear()

    def fetch(self, path: str, **options: Any) -> Any:
        script = FETCH.replace("URL", json.dumps(self.gateway + path)).replace("OPTIONS", json.dumps(options))
        return self.browser.value(script)

    def listen(self, path: str, *, sends_cookies: bool = True) -> None:
        script = LISTEN.replace("URL", json.dumps(self.gateway + path))
        self.browser.value(script.replace("SENDS_COOKIES", json.dumps(sends_cookies)) + "; 0")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    handler = type("Seen", (Service,), {"seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url, port = f"http://127.0.0.1:{server.server_port}", free_port()
    away = f"http://127.0.0.1:{free_port()}"
    variables = {
        "HOST": "127.0.0.1", "PORT": str(port), "LOG_LEVEL": "error",
        "GATEWAY_ENV": "production", "JWT_SECRET": KEY, "AUTH_TOKEN_SOURCES": "header,cookie:sid,ticket",
        "CORS_ORIGINS": url, "CORS_ALLOW_CREDENTIALS": "true",
        "UPSTREAMS": json.dumps({
            "svc": [url], "away": [away], "limited": {"endpoints": [url], "rateLimits": "1/d"},
            "own": {"endpoints": [url], "cors": "pass"}, "closed": {"endpoints": [url], "cors": "off"},
        }),
    }  # fmt: skip
    with (
        running([sys.executable, "-m", "tornado_gateway"], port, **variables),
        chromium(tmp_path_factory.mktemp("profile")) as devtools,
        tab(devtools, "about:blank") as connection,
    ):
        page = f"{url}/page"
        yield World(
            Tab(connection), f"http://127.0.0.1:{port}", handler.seen, page, page.replace("127.0.0.1", "localhost")
        )
    server.shutdown()
    server.server_close()


def test_a_listed_page_sends_json_with_a_token_and_a_field_of_its_own(world: World) -> None:
    world.visit(world.listed)
    headers = {**BEARER, "Content-Type": "application/json", "X-Own": "1"}
    answer = world.fetch("/api/svc/x", method="PUT", headers=headers, body='{"a": 1}')
    assert json.loads(answer["body"]) == {"method": "PUT", "own": "1", "body": '{"a": 1}'}
    assert answer["id"]
    assert world.seen == [("PUT", "/x")]  # the gateway has answered the preflight


def test_a_listed_page_sends_its_cookie_if_it_wants(world: World) -> None:
    world.visit(world.listed)
    answers = [world.fetch("/api/svc/x", method="POST", credentials=each) for each in ("include", "omit")]
    assert [each["status"] for each in answers] == [200, 401]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/svc/x", {}, 401),
        ("/api/svc/x", {"Authorization": "Bearer wrong"}, 401),
        ("/sse/svc/events", {"Accept": "text/event-stream"}, 401),
        ("/api/none/x", BEARER, 404),
        ("/api/away/x", BEARER, 502),
    ],
)
def test_a_listed_page_reads_refusals(world: World, path: str, headers: dict[str, str], status: int) -> None:
    world.visit(world.listed)
    answer = world.fetch(path, headers=headers)
    assert answer["status"] == json.loads(answer["body"])["status"] == status
    assert answer["id"] == json.loads(answer["body"])["requestId"]


def test_a_listed_page_reads_when_its_quota_renews(world: World) -> None:
    world.visit(world.listed)
    answers = [world.fetch("/api/limited/x", credentials="include") for _ in range(2)]
    assert [each["status"] for each in answers] == [200, 429]
    assert int(answers[1]["wait"]) > 1000
    assert "r=0" in answers[1]["limit"]


def test_an_event_source_of_a_listed_page_gets_events_with_its_cookie(world: World) -> None:
    world.visit(world.listed)
    world.listen("/sse/svc/events")
    until(lambda: world.browser.value("heard") == ["hello"], "the event")
    world.browser.value("source.close(); 0")


def test_an_event_source_of_a_listed_page_gets_events_with_a_ticket(world: World) -> None:
    world.visit(world.listed)
    headers = {**BEARER, "Content-Type": "application/json"}
    answer = world.fetch("/auth/ticket", method="POST", headers=headers, body='{"service": "svc"}')
    ticket = json.loads(answer["body"])["ticket"]
    world.listen(f"/sse/svc/events?ticket={ticket}", sends_cookies=False)
    until(lambda: world.browser.value("heard") == ["hello"], "the event")
    world.browser.value("source.close(); 0")


def test_an_event_source_of_a_listed_page_comes_back_to_a_service_that_is_away(world: World) -> None:
    world.visit(world.listed)
    world.listen("/sse/away/events")
    until(lambda: world.browser.value("failed"), "the end of the first answer")
    assert world.browser.value("source.readyState") == CONNECTING
    world.browser.value("source.close(); 0")


def test_an_event_source_without_a_token_gives_up(world: World) -> None:
    world.visit(world.other)  # whose cookie the browser does not send
    world.listen("/sse/svc/events")
    until(lambda: world.browser.value("source.readyState") == CLOSED, "the end of the EventSource")


def test_another_page_sends_what_needs_no_permission_and_reads_nothing(world: World) -> None:
    world.visit(world.other)
    assert world.fetch("/api/svc/x", headers=BEARER) == "TypeError"  # no permission
    assert world.fetch("/api/svc/x", method="PUT") == "TypeError"
    assert world.seen == []
    assert world.fetch("/healthz") == "TypeError"
    assert world.fetch("/api/own/x") == "TypeError"  # a 401 of the gateway, which nobody has permitted to read


def test_a_service_that_answers_itself_permits_whom_it_wants(world: World) -> None:
    world.visit(world.other)
    answer = world.fetch("/api/own/x", headers={**BEARER, "X-Own": "2"})
    assert json.loads(answer["body"])["own"] == "2"
    assert world.seen == [("OPTIONS", "/x"), ("GET", "/x")]


def test_a_service_without_cors_is_for_no_page(world: World) -> None:
    world.visit(world.listed)
    assert world.fetch("/api/closed/x", headers=BEARER) == "TypeError"
    assert world.seen == []
