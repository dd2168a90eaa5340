"""An upstream whose faults are switched: `faults_server.py <name> <address> <port> [<certificate chain> <key>]`.

It says its port on stdout as soon as it listens there; port 0 is any free one. Then each line on stdin is a command, a
JSON object, which is answered on stdout by one line: the numbers of requests and of connections so far.

    {"status": 503, "lines": "Retry-After: 30", "delay": 2}   answer so from now on; what is left out is as at first
    {"drip": 0.1}                                             so many seconds before each byte of a body
    {"listen": false}                                         close the port, and end what is idle
    {"listen": true}                                          open it again

Requests are answered with its name and their target, /events with an event stream, a WebSocket handshake with a
WebSocket; both say its name, and then nothing more. It ends with its stdin.
"""

import asyncio
import base64
import hashlib
import json
import re
import ssl
import sys
from typing import Any, cast

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
CLOSE = 8  # opcode of the frame that ends a WebSocket
WEBSOCKET_KEY = re.compile(rb"\r\nsec-websocket-key: *([^\r]+)\r\n", re.IGNORECASE)


class Upstream:
    """What all connections share."""

    def __init__(self, name: str, address: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.name, self.address, self.port = name.encode(), address, port
        self.status, self.lines, self.delay, self.drip = 200, b"", 0.0, 0.0
        self.requests = self.connections = 0
        self.open: set[Connection] = set()
        self._tls = tls
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), self.address, self.port, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Close the port and what is idle; what is being answered ends behind its answer."""
        if self._server:
            self._server.close()
            self._server = None
        for connection in list(self.open):
            connection.end()

    async def obey(self, command: dict[str, Any]) -> None:
        if command.get("listen") is True:
            await self.listen()
        elif command.get("listen") is False:
            self.shut()
        else:
            self.status, self.delay = command.get("status", 200), command.get("delay", 0.0)
            self.drip = command.get("drip", 0.0)
            self.lines = b"".join(line.encode() + b"\r\n" for line in command.get("lines", "").splitlines())


class Connection(asyncio.Protocol):
    """Answers GET requests, one after the other."""

    transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._answering = 0
        self._is_last = self._is_websocket = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._upstream.open.add(self)
        self._upstream.connections += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._upstream.open.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._is_websocket:
            if data[0] & 0x0F == CLOSE:
                self.transport.write(bytes((0x80 | CLOSE, 0)))
                self.transport.close()
            return
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._upstream.requests += 1
            self._answering += 1
            if self._upstream.delay:
                self._loop.call_later(self._upstream.delay, self._answer, head)
            else:
                self._answer(head)

    def _answer(self, head: bytes) -> None:
        target, key = head.split(b" ", 2)[1], WEBSOCKET_KEY.search(head + b"\r\n")
        if key:
            self._begin_websocket(key[1])
        elif target == b"/events":
            self._begin_events()
        else:
            body = b"%b %b" % (self._upstream.name, target)
            lines = b"Content-Length: %d\r\n%b" % (len(body), self._upstream.lines)
            head = b"HTTP/1.1 %d Told\r\n%b\r\n" % (self._upstream.status, lines)
            if self._upstream.drip:
                self.transport.write(head)
                self._loop.call_later(self._upstream.drip, self._drip, body, self._upstream.drip)
            else:
                self.transport.write(head + body)
                self._answered()

    def _drip(self, body: bytes, seconds: float) -> None:
        self.transport.write(body[:1])
        if len(body) > 1 and not self.transport.is_closing():
            self._loop.call_later(seconds, self._drip, body[1:], seconds)
        else:
            self._answered()

    def _answered(self) -> None:
        self._answering -= 1
        if self._is_last:
            self.end()

    def _begin_events(self) -> None:
        event = b"data: %b\n\n" % self._upstream.name
        lines = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
        self.transport.write(b"HTTP/1.1 200 OK\r\n%b\r\n%x\r\n%b\r\n" % (lines, len(event), event))

    def _begin_websocket(self, key: bytes) -> None:
        self._is_websocket = True
        accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
        lines = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n" % accept
        message = bytes((0x81, len(self._upstream.name))) + self._upstream.name
        self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n%b" % (lines, message))

    def end(self) -> None:
        self._is_last = True
        if not self._answering:
            self.transport.close()


async def main(name: str, address: str, port: str, *certificate: str) -> None:
    tls = None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certificate)
    upstream = Upstream(name, address, int(port), tls)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    await upstream.listen()
    sys.stdout.write(f"{upstream.port}\n")
    sys.stdout.flush()
    while line := await commands.readline():
        await upstream.obey(json.loads(line))
        sys.stdout.write(json.dumps({"requests": upstream.requests, "connections": upstream.connections}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
