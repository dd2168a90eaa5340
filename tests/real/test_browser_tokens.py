"""A page in Chromium opens streams by cookie, ticket and subprotocol; neither services nor logs see the token."""

import base64
import contextlib
import hashlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.chromium import Tab, chromium, tab
from tests.support.ports import free_port
from tests.support.websockets import MAGIC, running, until
from tests.test_tickets_page import block

KEY = "k" * 32
TOKEN = jwt.encode({"sub": "ada"}, KEY)
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 100\ndata: hello\n\n"
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"
HELLO = b"\x81\x05hello"  # a frame of text

# The first message of a stream, or why there is none.
FIRST = """
const first = stream => new Promise(resolve => {
  stream.onmessage = message => { resolve(message.data); stream.close() };
  stream.onerror = () => resolve(`error in state ${stream.readyState}`);
});
const sockets = location.origin.replace("http", "ws") + "/ws/chat/room";
const token = %s;
"""


class Upstream:
    """A service of one event, or of one message, per connection, and a page. Keeps all bytes that come for streams."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of all connections; to append is atomic, and += is not
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536) or b"\r\n\r\n"
            if head.startswith(b"GET /page "):
                client.sendall(PAGE)
                return
            self._pieces.append(head)
            key = head.lower().partition(b"sec-websocket-key: ")[2]
            if not key:
                client.sendall(EVENTS)  # the end of the connection is the end of the stream
                return
            key = head[-len(key) :].partition(b"\r\n")[0]
            accept = base64.b64encode(hashlib.sha1(key + MAGIC, usedforsecurity=False).digest())
            client.sendall(SWITCHING % accept + HELLO)
            self._pieces.append(client.recv(65536))  # the client's Close, or the end

    @property
    def received(self) -> bytes:
        return b"".join(self._pieces)

    def forget(self) -> None:
        self._pieces.clear()

    def close(self) -> None:
        self._listener.close()


@dataclass
class Stage:
    """A browser beside a gateway.

    Attributes:
        log: everything that the gateway has written.
        page: on a page of the gateway's; new for each test.
    """

    url: str
    devtools: str
    upstream: Upstream
    log: Path
    page: Tab
    _logged_before: int = 0

    def begin(self, page: Tab) -> None:
        """Begin a test: without cookies, and without what services and logs have seen before."""
        page.call("Network.clearBrowserCookies")
        self.page = page
        self.upstream.forget()
        self.visit(f"{self.url}/healthz")
        self._logged_before = len(self.log.read_text())

    def visit(self, url: str) -> None:
        self.page.call("Page.navigate", url=url)
        until(lambda: _shows(self.page, url), f"{url} is there")

    @property
    def logged(self) -> str:
        return self.log.read_text()[self._logged_before :]

    def value(self, expression: str) -> Any:
        return self.page.value(f"(async () => {{ {FIRST % json.dumps(TOKEN)} {expression} }})()")

    def nobody_has_seen(self, *secrets: str) -> None:
        """Check what the service has received, and what stands in the log, once the log has both streams."""
        until(lambda: "/events" in self.logged and "/room" in self.logged, "the log has the streams")
        received = self.upstream.received.decode("latin-1")
        assert "/events" in received and "/room" in received
        assert [secret for secret in secrets if secret in received or secret in self.log.read_text()] == []


@pytest.fixture(scope="module")
def running_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    upstream, port, folder = Upstream(), free_port(), tmp_path_factory.mktemp("stage")
    log, url = folder / "log", f"http://127.0.0.1:{port}"
    variables = {
        "UPSTREAMS": json.dumps({"chat": [upstream.url]}), "HOST": "127.0.0.1", "CORS_ORIGINS": upstream.url,
        "WS_ALLOWED_ORIGINS": f"same-origin,{upstream.url}",
        "PORT": str(port), "LOG_LEVEL": "trace", "AUTH_REQUIRED": "true", "JWT_SECRET": KEY,
        "AUTH_TOKEN_SOURCES": "header,cookie:sid,subprotocol,ticket", "AUTH_HIDE_CREDENTIALS": "true",
    }  # fmt: skip
    command = ["bash", "-c", f'exec {sys.executable} -m tornado_gateway >"$0" 2>&1', str(log)]
    with (
        running(command, port, **variables),
        chromium(folder / "profile") as devtools,
        tab(devtools, "about:blank") as connection,
    ):
        yield Stage(url, devtools, upstream, log, Tab(connection))
    upstream.close()


@pytest.fixture
def stage(running_stage: Stage) -> Iterator[Stage]:
    with tab(running_stage.devtools, "about:blank") as connection:
        running_stage.begin(Tab(connection))
        yield running_stage


def _shows(page: Tab, url: str) -> bool:
    with contextlib.suppress(AssertionError):  # between two pages there is nothing that could be asked
        return bool(page.value(f"location.href === '{url}' && document.readyState") == "complete")
    return False


def test_a_page_without_a_credential_opens_nothing(stage: Stage) -> None:
    refused = stage.value(
        'return [await first(new EventSource("/sse/chat/events")), await first(new WebSocket(sockets))]'
    )
    assert refused == ["error in state 2", "error in state 3"]
    assert stage.upstream.received == b""


def test_a_page_opens_streams_by_cookie(stage: Stage) -> None:
    received = stage.value("""
        document.cookie = `sid=${token}`;
        return [await first(new EventSource("/sse/chat/events")), await first(new WebSocket(sockets))];
    """)
    assert received == ["hello", "hello"]
    stage.nobody_has_seen(TOKEN)


def test_a_page_opens_a_websocket_by_subprotocol(stage: Stage) -> None:
    received = stage.value("""
        const socket = new WebSocket(sockets, ["bearer", token]);
        const data = await first(socket);
        const events = await fetch("/sse/chat/events", {headers: {Authorization: `Bearer ${token}`}});
        return [data, socket.protocol, events.status];
    """)
    assert received == ["hello", "bearer", 200]
    stage.nobody_has_seen(TOKEN)


def test_a_page_opens_streams_by_tickets_as_the_document_says(stage: Stage) -> None:
    received = stage.value(f"""
        Math.random = () => 0;
        const shown = [];
        const Plain = EventSource;
        globalThis.EventSource = class extends Plain {{
          constructor(url) {{ shown.push(url); super(url); }}
        }};
        {block("page")}
        const events = new Promise(resolve => {{
          let seen = 0;
          listen(message => {{ if (++seen === 2) resolve(message.data); }});  // the second after a new ticket
        }});
        const socket = await first(await talk());
        return [await events, socket, shown];
    """)
    assert received[:2] == ["hello", "hello"]
    tickets = [url.partition("ticket=")[2] for url in received[2]]
    assert len(set(tickets)) == len(tickets) >= 2
    stage.nobody_has_seen(TOKEN, *tickets)


def test_a_page_of_another_origin_opens_streams_by_tickets(stage: Stage) -> None:
    stage.visit(f"{stage.upstream.url}/page")
    received = stage.value(f"""
        const gateway = "{stage.url}";
        const tickets = [];
        const ticket = async () => {{
          const headers = {{Authorization: `Bearer ${{token}}`}};
          const body = '{{"service": "chat"}}';
          const answer = await fetch(`${{gateway}}/auth/ticket`, {{method: "POST", headers, body}});
          tickets.push((await answer.json()).ticket);
          return tickets.at(-1);
        }};
        const room = `${{gateway.replace("http", "ws")}}/ws/chat/room`;
        return [
          await first(new EventSource(`${{gateway}}/sse/chat/events?ticket=${{await ticket()}}`)),
          await first(new WebSocket(`${{room}}?ticket=${{await ticket()}}`)),
          tickets,
        ];
    """)
    assert received[:2] == ["hello", "hello"]
    stage.nobody_has_seen(TOKEN, *received[2])


def test_an_event_source_ends_for_good_when_its_ticket_is_spent(stage: Stage) -> None:
    received = stage.value(f"""
        {block("page")}
        const events = new EventSource(`/sse/chat/events?ticket=${{await ticket("chat")}}`);
        const states = [];
        await new Promise(resolve => {{
          events.onopen = () => states.push("open");
          events.onerror = () => {{ states.push(events.readyState); if (events.readyState === 2) resolve(); }};
        }});
        return states;
    """)
    assert received == ["open", 0, 2]  # the service ended; 401 to the attempt to reconnect
