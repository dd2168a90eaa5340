"""An upstream that counts: `counted_server.py <WebSocket port> <HTTP port>`.

WebSockets are those of the `websockets` library: each message comes back. HTTP is `http.server`:

    /ok, /busy      200 and 503
    /events?n=3     so many events
    /endless        events, until the connection ends
    /counts         how often each of the other paths was asked for
"""

import asyncio
import collections
import contextlib
import http.server
import json
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

COUNTS: collections.Counter[str] = collections.Counter()


async def echo(socket: ServerConnection) -> None:
    COUNTS["ws"] += 1
    with contextlib.suppress(ConnectionClosed):
        async for message in socket:
            await socket.send(message)


class Counted(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        name = parts.path[1:]
        if name == "counts":
            self._answer(200, json.dumps(COUNTS).encode())
            return
        COUNTS[name] += 1
        if name in {"ok", "busy"}:
            self._answer(200 if name == "ok" else 503, name.encode())
            return
        self._begin()
        if name == "events":
            for number in range(int(parse_qs(parts.query)["n"][0])):
                self.wfile.write(b"data: %d\n\n" % number)
        while name == "endless":
            self.wfile.write(b"data: x\n\n")
            time.sleep(0.02)

    def _begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


async def main(websockets: int, plain: int) -> None:
    http.server.ThreadingHTTPServer.daemon_threads = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", plain), Counted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    async with serve(echo, "127.0.0.1", websockets, ping_interval=None) as server_of_sockets:
        await server_of_sockets.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
