"""An upstream of WebSockets and event streams: `streams_server.py <WebSocket port> <HTTP port>`.

WebSockets are those of the `websockets` library. HTTP is `http.server`, which speaks HTTP/1.0: its streams end with
their connection. What each path does is told beside it here; `streams_server.js` does the same.
"""

import asyncio
import collections
import contextlib
import http.server
import json
import queue
import sys
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

Endings = collections.defaultdict[str, asyncio.Future[dict[str, Any]]]


def query(target: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}


class Connection(ServerConnection):
    """One that keeps the payloads of its pings and counts what it reads."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.bytes = 0
        self.pings: list[str] = []

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        super().data_received(data)

    def process_event(self, event: Any) -> None:
        if getattr(event, "opcode", None) is Opcode.PING:
            self.pings.append(bytes(event.data).decode(errors="replace"))
        super().process_event(event)


class Conversations:
    """What is said on WebSockets."""

    def __init__(self) -> None:
        self._endings: Endings = collections.defaultdict(asyncio.get_running_loop().create_future)

    async def handle(self, socket: ServerConnection) -> None:
        assert socket.request
        assert isinstance(socket, Connection)
        asked = query(socket.request.path)
        with contextlib.suppress(ConnectionClosed):
            await getattr(self, urlsplit(socket.request.path).path[1:])(socket, **asked)
        await socket.wait_closed()
        if "id" in asked:
            close = [socket.close_code, socket.close_reason]
            self._endings[asked["id"]].set_result({"close": close, "pings": socket.pings, "bytes": socket.bytes})

    async def echo(self, socket: ServerConnection, **_: str) -> None:
        """Each message comes back, as what it was."""
        async for message in socket:
            await socket.send(message)

    async def fragments(self, socket: ServerConnection, **_: str) -> None:
        """Each message comes back in the fragments in which it came."""
        while True:
            await socket.send([fragment async for fragment in socket.recv_streaming()])

    async def count(self, socket: ServerConnection, n: str, **_: str) -> None:
        """Numbered messages in turn, text and binary, then a normal Close."""
        for number in range(int(n)):
            await socket.send(str(number) if number % 2 == 0 else str(number).encode())
        await socket.close()

    async def close(self, socket: ServerConnection, code: str = "", reason: str = "", **_: str) -> None:
        """A Close at once; without a code if none is given."""
        await socket.close(int(code) if code else None, reason)

    async def vanish(self, socket: ServerConnection, **_: str) -> None:
        """Gone at the first message, without a Close."""
        await socket.recv()
        socket.transport.abort()

    async def ping(self, socket: ServerConnection, payload: str, **_: str) -> None:
        """A ping; a message once it is answered."""
        await (await socket.ping(payload))
        await socket.send(f"answered {payload}")
        async for _message in socket:
            pass

    async def ending(self, socket: ServerConnection, of: str, **_: str) -> None:
        """How another conversation ended, once it has: its Close, the pings it got, the bytes it read."""
        await socket.send(json.dumps(await self._endings[of]))
        await socket.close()


def refuse(socket: ServerConnection, request: Request) -> Response | None:
    """/refuse: a 401 with what it takes, instead of a conversation."""
    if urlsplit(request.path).path != "/refuse":
        return None
    body = b'{"error":"who are you?"}'
    headers = {"WWW-Authenticate": 'Bearer realm="streams"', "Content-Type": "application/json"}
    return Response(401, "Unauthorized", Headers(headers | {"Content-Length": str(len(body))}), body)


def choose(socket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Never the first one."""
    return Subprotocol("chat.v2") if "chat.v2" in offered else None


STEPS: collections.defaultdict[str, queue.SimpleQueue[bytes | None]] = collections.defaultdict(queue.SimpleQueue)
REQUESTS: collections.defaultdict[str, queue.SimpleQueue[dict[str, Any]]] = collections.defaultdict(queue.SimpleQueue)


class Streams(http.server.BaseHTTPRequestHandler):
    """Event streams whose author is the test: it posts what goes out next."""

    def do_GET(self) -> None:
        path, asked = urlsplit(self.path).path, query(self.path)
        if path == "/request":  # the next request of a stream
            self._answer(json.dumps(REQUESTS[asked["id"]].get()).encode())
        elif path == "/resume":
            self._resume(asked["id"])
        else:
            self._stream(asked["id"], b"")

    def do_POST(self) -> None:
        path, asked = urlsplit(self.path).path, query(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path in {"/step", "/end"}:
            STEPS[asked["id"]].put(body if path == "/step" else None)
            self._answer(b"")
        else:
            self._stream(asked["id"], body)

    def do_HEAD(self) -> None:
        self._head()

    def _head(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.end_headers()

    def _stream(self, name: str, body: bytes) -> None:
        self._head()
        REQUESTS[name].put({"headers": {n.lower(): v for n, v in self.headers.items()}, "body": body.decode()})
        while (step := STEPS[name].get()) is not None:
            self.wfile.write(step)

    def _resume(self, name: str) -> None:
        """Three numbered events for each connection, from where the client was; a last one to tell it the end."""
        last = self.headers.get("Last-Event-ID")
        REQUESTS[name].put({"last": last})
        self._head()
        start = int(last or 0)
        events = [f"id: {number}\ndata: event {number}\n\n" for number in range(start + 1, start + 4)]
        self.wfile.write(("retry: 50\n\n" + "".join(events)).encode())
        if start:
            self.wfile.write(b"event: end\ndata:\n\n")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


async def main(websockets: int, plain: int) -> None:
    conversations = Conversations()
    http.server.ThreadingHTTPServer.daemon_threads = True
    streams = http.server.ThreadingHTTPServer(("127.0.0.1", plain), Streams)
    threading.Thread(target=streams.serve_forever, daemon=True).start()
    async with serve(
        conversations.handle, "127.0.0.1", websockets, create_connection=Connection,
        process_request=refuse, select_subprotocol=choose, max_size=None, ping_interval=None, close_timeout=3,
    ) as server:  # fmt: skip
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
