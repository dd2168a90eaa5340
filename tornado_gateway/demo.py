"""A gateway to look at without having a service: what --demo starts around it.

    traffic ──► gateway ──► api-1, api-2              equal instances: balancing
    (or you)        ├─────► slow-1, slow-2            20 ms and 300 ms: balancing by latency
                    ├─────► flaky-1, flaky-2, (none)  good, half failing, refusing: breakers
                    ├─────► clock-1                   an endless event stream
                    └─────► chat-1                    WebSockets, and a page for browsers

The upstreams are stock Tornado on 127.0.0.1 and free ports. They end with their
client and with stop(): all of them wait only for connections that stop() closes.
"""

import asyncio
import contextlib
import itertools
import json
import random
import re
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, Finish, HTTPError, RequestHandler
from tornado.websocket import (
    WebSocketClientConnection,
    WebSocketClosedError,
    WebSocketError,
    WebSocketHandler,
    websocket_connect,
)

from tornado_gateway.policy.http.negotiation import preferred

LOOPBACK = "127.0.0.1"
JSON, HTML = b"application/json", b"text/html; charset=utf-8"
LONGEST_DELAY_MS = 30_000
MOST_BYTES = 2**30
CHUNK = b"0123456789abcde\n" * 4096
ITEMS = ("anvil", "bellows", "chisel", "drill", "epoxy", "file", "gimlet", "hammer")

# What a browser is shown. It lies outside of the package, with the other static files.
PAGE = Path(__file__).resolve().parent.parent / "static" / "demo.html"
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# Lines on their way to one member of the chat room, and characters in a line: their product bounds
# the memory that a member who does not read can hold.
ROOM_BACKLOG = 256
ROOM_LINE = 500

# The traffic asks for each of these equally often. /items/99 does not exist: a dashboard needs a 404 too.
VISITS = ("/api/items", "/api/items/3", "/api/items/99", "/api/bytes/65536", "/slow/", "/slow/", "/flaky/", "/flaky/")

API_ABOUT = {
    "GET /items": "a list",
    "GET /items/<n>": f"one of them, 1 to {len(ITEMS)}",
    "POST /echo": "the request as this instance saw it",
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
    "WebSocket /echo": "every message comes back",
    "WebSocket /room": "what one member says, all hear",
    "?name=<name>": "on /room: what to be called, 1 to 24 letters, digits, spaces, dots and hyphens",
}

# The long-lived connections of the traffic: one event stream and one WebSocket.
STREAM = "/sse/clock/events"
SOCKET = "/ws/chat?path=/echo"
HANDSHAKE_TIMEOUT = 1.0  # seconds; as long as a stop() may have to wait for one
LONGEST_PAUSE = 30.0  # seconds between two attempts to connect

_NAME = re.compile(r"\w[\w .-]{0,23}")
_WHOLE = re.compile(r"[0-9]{1,10}")
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)


def _whole(text: str, name: str, low: int, high: int) -> int:
    if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
        raise HTTPError(400, reason=f"{name} is a whole number from {low} to {high}")
    return int(text)


def _keep_current_task(tasks: set[asyncio.Task[Any]]) -> None:
    if task := asyncio.current_task():
        tasks.add(task)
        task.add_done_callback(tasks.discard)


class Upstream(RequestHandler):
    """GET / says what can be asked, any other path is a 404. All answers are JSON and name their instance."""

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
        """Sleep, but no longer than the client stays."""
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
    """On every path, late answers and any status on demand: timeouts, breakers, metrics by status."""

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
    """The request as it arrived: which header fields the gateway adds, which it drops."""

    def get(self, *_: str) -> None:
        request = self.request
        body = request.body.decode("utf-8", "replace")
        fields = dict(request.headers)
        self.reply(method=request.method, path=request.path, query=request.query, headers=fields, body=body)

    post = put = patch = delete = get


class Bytes(Api):
    """A long body: the gateway's memory stays flat however slowly it is read."""

    async def get(self, *path: str) -> None:
        left = _whole(path[0], "n", 0, MOST_BYTES)
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Content-Length", str(left))
        while left and self.request.method != "HEAD":
            await self.send(CHUNK[:left])
            left -= min(left, len(CHUNK))


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
    """An endless event stream: events pass at once, and a client resumes where it was cut off."""

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
    """The page that shows event streams and WebSockets. It is behind the gateway as everything else is."""

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
        self._connection = self.ws_connection  # close() forgets it, long before the socket is closed
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
    """What one member of the room says, all hear: many connections woken by one message."""

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
        # Only the speaker waits, and only for its own copy: nobody talks faster than they listen.
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
    ("/bytes/([^/]+)", Bytes),
    (".*", Api),
]
CHAT_ROUTES: Routes = [("/", Front), ("/echo", EchoSocket), ("/room", Member)]


async def _visit(host: str, port: int, rng: random.Random, pause: float) -> None:
    """Ask for one thing after another, on one connection for as long as it lasts."""
    while True:
        # A gateway that restarts, closes the connection or sends what is not read here is tried again.
        with contextlib.suppress(OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                while True:
                    await _ask(reader, writer, f"/api{rng.choice(VISITS)}")
                    await asyncio.sleep(rng.uniform(0, 2 * pause))
            finally:
                writer.close()
                await writer.wait_closed()
        await asyncio.sleep(pause)


def _request(target: str, *fields: str) -> bytes:
    lines = (f"GET {target} HTTP/1.1", "Host: demo", "User-Agent: tornado-gateway-demo", *fields)
    return "\r\n".join((*lines, "", "")).encode()


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str) -> None:
    writer.write(_request(target))
    length = _CONTENT_LENGTH.search(await reader.readuntil(b"\r\n\r\n"))
    if not length:
        raise ValueError("only bodies of a known length are read here")
    await reader.readexactly(int(length[1]))


async def _keep_open(hold: Callable[[], Awaitable[None]], rng: random.Random, pause: float) -> None:
    """Hold a connection, and another one when it has ended, with longer pauses while none can be had."""
    failures = 0
    while True:
        try:
            await hold()
            failures = 0
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, HTTPClientError, WebSocketError):
            failures += 1
        # At most 2**15 pauses: LONGEST_PAUSE is reached long before.
        await asyncio.sleep(rng.uniform(0.5, 1) * min(LONGEST_PAUSE, pause * 2 ** min(failures, 15)))


async def _hold_stream(host: str, port: int) -> None:
    """Read the clock's events until they end.

    Raises:
        OSError, EOFError, ValueError, LimitOverrunError: there is no such stream to be had.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_request(STREAM, "Accept: text/event-stream"))
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise ValueError("not a stream")
        with contextlib.suppress(OSError):
            while await reader.read(2**16):
                pass
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _hold_socket(host: str, port: int, rng: random.Random, pause: float) -> None:
    """Talk to the echo until it closes.

    Raises:
        OSError, HTTPClientError, WebSocketError: there is no such WebSocket to be had.
    """
    closed = asyncio.Event()
    request = HTTPRequest(
        f"ws://{_authority(host, port)}{SOCKET}", connect_timeout=HANDSHAKE_TIMEOUT, request_timeout=HANDSHAKE_TIMEOUT
    )

    def heard(message: str | bytes | None) -> None:
        if message is None:
            closed.set()

    connecting = websocket_connect(request, on_message_callback=heard)
    try:
        echo = await asyncio.shield(connecting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError, HTTPClientError, WebSocketError):
            await _hang_up(await connecting, closed)
        raise
    try:
        with contextlib.suppress(WebSocketClosedError):
            for count in itertools.count(1):
                await echo.write_message(f"hello {count}")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(rng.uniform(0, 4 * pause)):
                        await closed.wait()
                    return
    finally:
        await _hang_up(echo, closed)


async def _hang_up(socket: WebSocketClientConnection, closed: asyncio.Event) -> None:
    """Say goodbye, and do not wait for an answer."""
    socket.close(1000)
    socket.stream.close()
    await closed.wait()


class Demo:
    """The upstreams and the traffic of one demonstration.

    Args:
        rng: decides which answers fail and what the traffic asks for.
        tick: seconds between two events of the clock.
        slow: seconds until each instance of "slow" answers.
        visitors: connections of the traffic.
        pause: seconds between two requests of one visitor, on average. The defaults make fewer than 120 requests
            a minute: a rate limit by address, RATE_LIMIT_MAX=200, leaves room for a person beside them.
    """

    def __init__(
        self,
        rng: random.Random | None = None,
        *,
        tick: float = 1.0,
        slow: tuple[float, ...] = (0.02, 0.3),
        visitors: int = 2,
        pause: float = 1.0,
    ) -> None:
        self._rng = rng or random.Random()  # noqa: S311 - protects nothing
        self._tick, self._slow = tick, slow
        self._visitors, self._pause = visitors, pause
        self._traffic: list[asyncio.Task[None]] = []
        self._servers: list[HTTPServer] = []
        self._refusing: list[socket.socket] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sockets: set[EchoSocket] = set()

    async def start(self) -> dict[str, list[str]]:
        """Start every upstream; the result is a value for UPSTREAMS."""
        return {
            "api": [self._serve(f"api-{n}", API_ROUTES, about=API_ABOUT) for n in (1, 2)],
            "slow": [self._serve(f"slow-{n}", [(".*", Slow)], delay=delay) for n, delay in enumerate(self._slow, 1)],
            "flaky": [
                self._serve("flaky-1", [(".*", Flaky)], rng=self._rng, failing=0.0),
                self._serve("flaky-2", [(".*", Flaky)], rng=self._rng, failing=0.5),
                self._refuse(),
            ],
            "clock": [self._serve("clock-1", [("/events", Clock)], about=CLOCK_ABOUT, tick=self._tick)],
            "chat": [
                self._serve("chat-1", CHAT_ROUTES, about=CHAT_ABOUT, sockets=self._sockets, guests=itertools.count(1))
            ],
        }

    def start_traffic(self, gateway_url: str) -> None:
        """Visit the services through the gateway, at an http:// URL, and keep an event stream and a WebSocket
        open, until stop().
        """
        url = urlsplit(gateway_url)
        host, port, rng, pause = url.hostname or LOOPBACK, url.port or 80, self._rng, self._pause
        self._traffic += [asyncio.create_task(_visit(host, port, rng, pause)) for _ in range(self._visitors)]
        for hold in (partial(_hold_stream, host, port), partial(_hold_socket, host, port, rng, pause)):
            self._traffic.append(asyncio.create_task(_keep_open(hold, rng, pause)))

    async def stop(self) -> None:
        """End the traffic, then the upstreams with their connections. The second time there is nothing to do."""
        for visit in self._traffic:
            visit.cancel()
        await asyncio.gather(*self._traffic, return_exceptions=True)
        for server in self._servers:
            server.stop()
            await server.close_all_connections()
        for upgraded in tuple(self._sockets):  # a server does not know them any more
            upgraded.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for held in self._refusing:
            held.close()
        for ended in (self._traffic, self._servers, self._refusing):
            ended.clear()

    def _serve(self, instance: str, routes: Routes, **settings: Any) -> str:
        application = Application(
            list(routes),
            default_handler_class=Upstream,
            log_function=lambda handler: None,
            instance=instance,
            tasks=self._tasks,
            **settings,
        )
        server = HTTPServer(application)
        self._servers.append(server)
        listening = bind_sockets(0, LOOPBACK, socket.AF_INET)
        server.add_sockets(listening)
        return f"http://{LOOPBACK}:{listening[0].getsockname()[1]}"

    def _refuse(self) -> str:
        """A port that refuses connections and stays so: it is taken, but nobody listens."""
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._refusing.append(held)
        held.bind((LOOPBACK, 0))
        return f"http://{LOOPBACK}:{held.getsockname()[1]}"


def banner(gateway_url: str) -> str:
    """What to greet with: what is running and what to try first."""
    url = gateway_url.rstrip("/")
    ws_url = url.replace("http", "ws", 1)
    return f"""\
The gateway is at {url}, with services to try and a little traffic of its own:

  open {url}/api/chat/ in a browser           event streams and a chat, live; open it twice
  curl -N {url}/sse/clock/events              an event stream: an event every second
  python -m websockets '{ws_url}/ws/chat?path=/echo'    after pip install websockets; or any other client
  curl {url}/api/api/                         what this service can be asked; two equal instances
  curl {url}/api/api/items
  curl -d hello '{url}/api/api/echo?a=b'      what an upstream sees of your request
  curl -i '{url}/api/api/items?status=503'    any status you like
  curl '{url}/api/api/items?delay=2000'       a late answer
  curl -o /dev/null {url}/api/api/bytes/100000000
  curl {url}/api/slow/                        one instance takes 20 ms, the other 300 ms
  curl -i {url}/api/flaky/                    one instance is good, one fails half the time, one refuses
  curl {url}/healthz
  curl {url}/readyz
"""
