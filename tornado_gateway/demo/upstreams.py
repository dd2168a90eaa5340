"""The services of the demo: stock Tornado applications that show what a gateway does.

Each handler answers in JSON and names its instance, so that a visitor sees which instance was chosen.
"""

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import Awaitable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.web import Finish, HTTPError, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from tornado_gateway.policy.http.negotiation import preferred

JSON, HTML = b"application/json", b"text/html; charset=utf-8"
LONGEST_DELAY_MS = 30_000
MOST_BYTES = 2**30
CHUNK = b"0123456789abcde\n" * 4096
ITEMS = ("anvil", "bellows", "chisel", "drill", "epoxy", "file", "gimlet", "hammer")

# The page for browsers: outside of the package, with the other static files.
PAGE = Path(__file__).resolve().parents[2] / "static" / "demo.html"
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# Lines on their way to one member of the chat room, and characters in a line: their product bounds
# the memory that a member who does not read can hold.
ROOM_BACKLOG = 256
ROOM_LINE = 500

# Long enough to stand among the slow requests of the dashboard.
REPORT_DELAY, REPORT_LIFETIME = 1.2, 10  # seconds

API_ABOUT = {
    "GET /items": "a list",
    "GET /items/<n>": f"one of them, 1 to {len(ITEMS)}",
    "POST /echo": "the request as this instance saw it",
    "GET /report": f"takes {REPORT_DELAY} s, and names {REPORT_LIFETIME} s for which a cache may keep the answer",
    "GET /bytes/<n>": f"n bytes, 0 to {MOST_BYTES}, as fast as they are read",
    "?delay=<ms>": f"on any path: wait first, 0 to {LONGEST_DELAY_MS}",
    "?status=<code>": "on any path: answer with this status, 200 to 599",
}
CLOCK_ABOUT = {
    "GET /events": "text/event-stream, an event every second; continues after Last-Event-ID",
    "?last_event_id=<n>": "on /events: the same, for a client that cannot set header fields",
    "?every=<ms>": "on /events: another interval, 50 to 60000",
}
CHAT_ABOUT = {
    "GET /": "a page, for a client that accepts text/html",
    "GET /items": "a list",
    "POST /request": "the request as this instance saw it",
    "GET /events": "text/event-stream, as of the clock",
    "WebSocket /echo": "every message comes back",
    "WebSocket /room": "what one member says, all hear",
    "?name=<name>": "on /room: what to be called, 1 to 24 letters, digits, spaces, dots and hyphens",
}

_NAME = re.compile(r"\w[\w .-]{0,23}")
_WHOLE = re.compile(r"[0-9]{1,10}")


def _whole(text: str, name: str, low: int, high: int) -> int:
    if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
        raise HTTPError(400, reason=f"{name} is a whole number from {low} to {high}")
    return int(text)


def _keep_current_task(tasks: set[asyncio.Task[Any]]) -> None:
    if task := asyncio.current_task():
        tasks.add(task)
        task.add_done_callback(tasks.discard)


class Upstream(RequestHandler):
    """GET / lists the requests of a service; any other path is a 404. Answers are JSON and name the instance."""

    def initialize(self) -> None:
        self._gone = asyncio.Event()

    async def prepare(self) -> None:
        _keep_current_task(self.settings["tasks"])

    def get(self, *_: str) -> Awaitable[None] | None:
        if self.request.path != "/":
            raise HTTPError(404)
        self.reply(ask=self.settings["about"])
        return None

    def head(self, *path: str) -> Awaitable[None] | None:
        return self.get(*path)

    def reply(self, **members: object) -> None:
        self.set_header("Content-Type", JSON)
        self.finish(json.dumps({"instance": self.settings["instance"], **members}) + "\n")

    async def pause(self, seconds: float) -> None:
        """Sleep, and end the request as soon as the client has left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gone.wait()
            raise Finish

    async def send(self, chunk: bytes) -> None:
        """Write, and wait until the client's socket has taken everything."""
        self.write(chunk)
        try:
            await self.flush()
        except StreamClosedError:
            raise Finish from None

    def number(self, name: str, low: int, high: int) -> int | None:
        """The query's value for name, or None."""
        text = self.get_query_argument(name, None)
        return None if text is None else _whole(text, name, low, high)

    def on_connection_close(self) -> None:
        self._gone.set()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        _, error, _ = kwargs.get("exc_info", (None, None, None))
        self.reply(error=getattr(error, "reason", None) or HTTPStatus(status_code).phrase)


class Api(Upstream):
    """Late answers and any status on demand, on every path: for timeouts, breakers and metrics by status."""

    async def prepare(self) -> None:
        await super().prepare()
        status = self.number("status", 200, 599)
        await self.pause((self.number("delay", 0, LONGEST_DELAY_MS) or 0) / 1000)
        if status is None:
            return
        self.set_status(status)
        if status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            raise Finish
        self.reply(status=status)


class Items(Api):
    """Small answers, the everyday case; a 404 now and then."""

    def get(self, *path: str) -> None:
        items = [{"id": n, "name": name} for n, name in enumerate(ITEMS, 1)]
        if not path:
            self.reply(items=items)
        elif 1 <= int(path[0]) <= len(items):
            self.reply(**items[int(path[0]) - 1])
        else:
            raise HTTPError(404)


class Echo(Api):
    """The request as received: shows the header fields that the gateway adds and drops."""

    def get(self, *_: str) -> None:
        request = self.request
        body = request.body.decode("utf-8", "replace")
        fields = dict(request.headers)
        self.reply(method=request.method, path=request.path, query=request.query, headers=fields, body=body)

    post = put = patch = delete = get


class Bytes(Api):
    """A long body: the gateway's memory stays flat however slow the reader is."""

    async def get(self, *path: str) -> None:
        left = _whole(path[0], "n", 0, MOST_BYTES)
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Content-Length", str(left))
        while left and self.request.method != "HEAD":
            await self.send(CHUNK[:left])
            left -= min(left, len(CHUNK))


class Report(Api):
    """A slow answer that a cache may keep: later requests are answered at once."""

    async def get(self, *_: str) -> None:
        await self.pause(REPORT_DELAY)
        self.set_header("Cache-Control", f"max-age={REPORT_LIFETIME}")
        self.reply(items=len(ITEMS))


class Slow(Upstream):
    """Any request, after a fixed time: a balancer that measures latency prefers the faster instance."""

    async def prepare(self) -> None:
        await super().prepare()
        await self.pause(self.settings["delay"])
        self.reply(delay=self.settings["delay"])


class Flaky(Upstream):
    """Any request, a share of them with 503: breakers open, and close again after a good probe."""

    async def prepare(self) -> None:
        await super().prepare()
        if self.settings["rng"].random() < self.settings["failing"]:
            raise HTTPError(503)
        self.reply(ok=True)


class Clock(Upstream):
    """An endless event stream: events pass at once, and a client resumes behind the last event received."""

    async def get(self, *_: str) -> None:
        every = self.number("every", 50, 60_000)
        interval = self.settings["tick"] if every is None else every / 1000
        # A header field is newer: a browser that reconnects repeats the URL as it was.
        last = self.request.headers.get("Last-Event-ID") or self.get_query_argument("last_event_id", "")
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        if self.request.method == "HEAD":
            return
        await self.send(b"retry: 1000\n\n")
        for count in itertools.count(int(last) + 1 if _WHOLE.fullmatch(last) else 1):
            body = json.dumps({"tick": count, "time": datetime.now(UTC).isoformat()})
            await self.send(f"event: tick\nid: {count}\ndata: {body}\n\n".encode())
            await self.pause(interval)


class Front(Upstream):
    """The page that shows event streams and WebSockets, reached through the gateway."""

    def get(self, *_: str) -> None:
        self.set_header("Vary", "Accept")
        accept = [each.encode("latin-1", "replace") for each in self.request.headers.get_list("Accept")]
        if preferred(accept, (JSON, HTML)) != HTML or not PAGE.is_file():
            self.reply(ask=self.settings["about"])
            return
        self.set_header("Content-Type", HTML)
        self.set_header("Content-Security-Policy", PAGE_POLICY)
        self.set_header("Cache-Control", "no-cache")
        self.finish(PAGE.read_bytes())


class EchoSocket(WebSocketHandler):
    """Every message comes back: text stays text, binary stays binary."""

    def prepare(self) -> None:
        _keep_current_task(self.settings["tasks"])

    def check_origin(self, origin: str) -> bool:
        return True  # behind a gateway, a browser's Origin never is this upstream's own

    def open(self, *_: str, **__: str) -> None:
        self._connection = self.ws_connection  # close() clears the attribute long before the socket is closed
        self.settings["sockets"].add(self)

    def drop(self) -> None:
        """Close the socket now, without a closing handshake."""
        if self._connection and self._connection.stream:
            self._connection.stream.close()

    async def on_message(self, message: str | bytes) -> None:
        with contextlib.suppress(WebSocketClosedError):
            await self.write_message(message, isinstance(message, bytes))

    def on_close(self) -> None:
        self.settings["sockets"].discard(self)


class Member(EchoSocket):
    """Sends each member's lines to all members of the room: a message wakes many connections."""

    def open(self, *_: str, **__: str) -> None:
        super().open()
        self._newest: asyncio.Future[None] | None = None
        self._unwritten = 0
        name = self.get_query_argument("name", "")
        self._name = name if _NAME.fullmatch(name) else f"guest-{next(self.settings['guests'])}"
        self._say(f"* {self._name} joined")

    async def on_message(self, message: str | bytes) -> None:
        text = message if isinstance(message, str) else message.decode("utf-8", "replace")
        self._say(f"{self._name}: {text[:ROOM_LINE]}")
        # Only the speaker waits, and only for its own copy, so that no member sends faster than it reads.
        if self._newest:
            with contextlib.suppress(WebSocketClosedError):
                await self._newest

    def on_close(self) -> None:
        if self in self.settings["sockets"]:
            super().on_close()
            self._say(f"* {self._name} left")

    def _say(self, line: str) -> None:
        for member in tuple(self.settings["sockets"]):
            if isinstance(member, Member):
                member._hear(line)

    def _hear(self, line: str) -> None:
        """Write without waiting. A member too far behind is let go instead."""
        if self._unwritten >= ROOM_BACKLOG:
            self.close(1013, "too slow")
        with contextlib.suppress(WebSocketClosedError):
            self._newest = self.write_message(line)
            self._unwritten += 1
            self._newest.add_done_callback(self._written)

    def _written(self, line: "asyncio.Future[None]") -> None:
        self._unwritten -= 1
        _ = line.cancelled() or line.exception()  # a member that left is not an error


Routes = list[tuple[str, type[RequestHandler]]]

API_ROUTES: Routes = [
    ("/items", Items),
    ("/items/([0-9]{1,9})", Items),
    ("/echo", Echo),
    ("/report", Report),
    ("/bytes/([^/]+)", Bytes),
    (".*", Api),
]
# Requests, events and WebSockets on paths of one service: a route of its own is enough for all of them.
CHAT_ROUTES: Routes = [
    ("/", Front),
    ("/items", Items),
    ("/request", Echo),
    ("/events", Clock),
    ("/echo", EchoSocket),
    ("/room", Member),
]
