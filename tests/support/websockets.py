"""WebSockets in tests, of two kinds.

On raw sockets, frame by frame: a `Bridge` is one that runs through a gateway, with both of its ends in the
test's hands. And real programs around a real gateway: what starts them, waits for them and ends them.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Running, Serve
from tests.support.ports import free_port
from tests.support.sockets import Connection, Message, Peer, Upstream, eventually, get
from tornado_gateway.policy.upstream.stream_totals import StreamTotals
from tornado_gateway.wire.websocket.leg import Leg
from tornado_gateway.wire.websocket.relay import Relay

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "tests" / "real"
PATIENCE = 20.0  # seconds until what must happen has happened

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
KEY = b"\x37\xfa\x21\x3d"  # masks all that clients say here
HANDSHAKE = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
QUIET = 0.03  # seconds without a byte that are taken for silence

# Debian's node-ws lies where only Debian's own nodejs looks for modules by itself.
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT), "NODE_PATH": "/usr/share/nodejs",
    "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "0",  # on a busy machine a gateway may stand still for a second
}  # fmt: skip


# ---------------------------------------------------------------- frames on raw sockets


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame with its unmasked payload.

    Attributes:
        rsv: reserved bits of the first byte.
    """

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0

    def wire(self, *, masked: bool) -> bytes:
        size = len(self.payload)
        width = 0 if size < 126 else 2 if size < 1 << 16 else 8
        short = size if width == 0 else 126 if width == 2 else 127
        head = bytes((self.fin << 7 | self.rsv | self.opcode, masked << 7 | short))
        if width:
            head += size.to_bytes(width, "big")
        return head + KEY + xor(self.payload, KEY) if masked else head + self.payload


def text(payload: bytes | str) -> Frame:
    return Frame(TEXT, payload.encode() if isinstance(payload, str) else payload)


def binary(payload: bytes) -> Frame:
    return Frame(BINARY, payload)


def close(code: int | None = None, reason: bytes = b"") -> Frame:
    return Frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


def xor(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask (RFC 6455 §5.3)."""
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(size, "big")


class Side:
    """One end of a WebSocket.

    Args:
        masks: whether this end is the client's.
    """

    def __init__(self, connection: Connection, *, masks: bool) -> None:
        self.connection = connection
        self._masks = masks

    def wire(self, *frames: Frame) -> bytes:
        """Encode frames as this side sends frames."""
        return b"".join([frame.wire(masked=self._masks) for frame in frames])

    async def send(self, *frames: Frame | bytes) -> None:
        """Send frames in one write."""
        await self.connection.send(
            b"".join([frame if isinstance(frame, bytes) else self.wire(frame) for frame in frames])
        )

    async def frame(self) -> Frame:
        """Read the next frame, and check its masking."""
        first, second = await self.connection.exactly(2)
        assert second >> 7 == (not self._masks), "masked, or not, as it must not be"
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self.connection.exactly(2 if size == 126 else 8), "big")
        key = await self.connection.exactly(4) if second >> 7 else bytes(4)
        payload = await self.connection.exactly(size)
        return Frame(first & 0x0F, xor(payload, key) if any(key) else payload, first >> 7 == 1, first & 0x70)

    async def hears(self, *wanted: Frame) -> None:
        """Read and assert that exactly these frames come."""
        for each in wanted:
            assert await self.frame() == each

    async def told(self) -> tuple[int, bytes]:
        """Read up to a Close; return its code (0 without a code) and its reason."""
        while (frame := await self.frame()).opcode != CLOSE:
            pass
        return int.from_bytes(frame.payload[:2], "big"), frame.payload[2:]

    async def is_quiet(self) -> None:
        """Assert that nothing comes for a moment, and that the connection stays open."""
        assert self.connection.buffer == b""
        with pytest.raises(TimeoutError):
            await self.connection.more(QUIET)

    async def ended(self) -> bool:
        """Wait for the end; return whether a FIN came without further bytes."""
        assert self.connection.buffer == b""
        return await self.connection.ended()


class Acceptor:
    """A script for upstreams: accepts each handshake; the test does the rest.

    Args:
        lines: more field lines of its answers.
        early: bytes right behind them.
        receive_buffer: bytes, of its kernel.

    Attributes:
        sides: the upstream's ends of the WebSockets, in the order of the handshakes.
    """

    def __init__(self, *lines: bytes, early: bytes = b"", receive_buffer: int | None = None) -> None:
        self.sides: list[Side] = []
        self._lines, self._early, self._receive_buffer = lines, early, receive_buffer

    async def __call__(self, peer: Peer) -> None:
        if self._receive_buffer:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        request = await peer.request()
        await peer.send(accepting(request, *self._lines) + self._early)
        self.sides.append(Side(peer, masks=False))
        await asyncio.get_running_loop().create_future()  # the test ends the connection, or the upstream's end does


def accepting(request: Message, *lines: bytes) -> bytes:
    """The 101 response to a handshake."""
    digest = hashlib.sha1((request.get(b"sec-websocket-key") or b"") + MAGIC, usedforsecurity=False).digest()
    accept = b"Sec-WebSocket-Accept: " + base64.b64encode(digest)
    head = (b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade", accept, *lines)
    return b"\r\n".join(head) + b"\r\n\r\n"


class Bridge:
    """Both ends of a WebSocket through a gateway."""

    def __init__(self, running: Running, relay: Relay, client: Side, upstream: Side) -> None:
        self.running, self.relay, self.client, self.upstream = running, relay, client, upstream
        self._later = 0.0

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.client, self.upstream

    def side(self, name: str) -> tuple[Side, Side]:
        """The named side, and the other side."""
        return self.sides if name == "client" else (self.upstream, self.client)

    def leg(self, name: str) -> Leg:
        return self.relay.client if name == "client" else self.relay.upstream

    @property
    def totals(self) -> StreamTotals:
        (service,) = self.running.app.gateway.services.values()
        return service.websocket_totals

    def let_pass(self, seconds: float) -> None:
        """Check the WebSocket with a clock ahead; calls add up."""
        self._later += seconds
        app = self.running.app
        app.gateway.streams.sweep(app.server.context.loop.time() + self._later)

    @property
    def is_over(self) -> bool:
        """Whether both connections of the gateway have ended and all counts are zero."""
        open_ = self.running.app.gateway.streams.open
        return self.relay not in open_ and self.running.inflight <= len(open_)

    async def over(self) -> None:
        await eventually(lambda: self.is_over)

    async def all_ends(self) -> None:
        """Whichever side the test has not closed sees the end, and the gateway forgets the WebSocket."""
        for side in self.sides:
            if side.connection.sock.fileno() >= 0:
                await side.connection.ended()
        await self.over()


async def bridged(
    serve: Serve,
    upstream: Callable[..., Upstream],
    acceptor: Acceptor | None = None,
    *lines: bytes,
    early: bytes = b"",
    receive_buffer: int | None = None,
    **variables: str,
) -> Bridge:
    """A WebSocket through a new gateway.

    Args:
        lines: more field lines of the client's handshake.
        early: bytes right behind it.
        receive_buffer: bytes, of the client's kernel.
    """
    acceptor = acceptor or Acceptor()
    running = await serve({"svc": [upstream(acceptor).url]}, **variables)
    return await another(running, acceptor, *lines, early=early, receive_buffer=receive_buffer)


async def another(
    running: Running, acceptor: Acceptor, *lines: bytes, early: bytes = b"", receive_buffer: int | None = None
) -> Bridge:
    """Open another WebSocket through a gateway."""
    open_ = running.app.gateway.streams.open
    before, count = set(open_), len(acceptor.sides)
    client = await running.client(receive_buffer=receive_buffer)
    await client.send(get(b"/ws/svc?path=/chat", *HANDSHAKE, *lines) + early)
    head = await client.head()
    assert head.status == 101, head
    await eventually(lambda: len(acceptor.sides) > count and len(open_) > len(before))
    (relay,) = open_ - before
    assert isinstance(relay, Relay)
    return Bridge(running, relay, Side(client, masks=True), acceptor.sides[count])


# ---------------------------------------------------------------- real programs


def until(condition: Callable[[], Any], what: str | Callable[[], str], patience: float = PATIENCE) -> Any:
    """Wait until the condition gives a true value, for `patience` seconds at most; return the value."""
    deadline = time.monotonic() + patience
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not in {patience} s: {what() if callable(what) else what}"
        time.sleep(0.01)
    return result


@contextlib.contextmanager
def running(command: list[str], *ports: int, **variables: str) -> Iterator[None]:
    """Run a program; yield once the program listens on its ports."""
    process = subprocess.Popen(command, env=ENVIRONMENT | variables, stdout=subprocess.DEVNULL)
    try:
        for port in ports:
            until(lambda port=port: process.poll() is not None or _listens(port), f"{command} listens on {port}")
        assert process.poll() is None, f"{command} ended with {process.returncode}"
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def gateway(services: dict[str, str], **variables: str) -> Iterator[int]:
    """Run the gateway as a process without rate limits; yield its port."""
    port = free_port()
    settings = {
        "HOST": "127.0.0.1", "PORT": str(port), "LOG_LEVEL": "error", "DRAIN_SPREAD_MS": "0",
        "UPSTREAMS": json.dumps({name: [url] for name, url in services.items()}),
    }  # fmt: skip
    with running([sys.executable, "-m", "tornado_gateway"], port, **(settings | variables)):
        yield port


@contextlib.contextmanager
def python_server() -> Iterator[tuple[int, int]]:
    """Run `streams_server.py`; yield its ports for WebSockets and HTTP."""
    ports = free_port(), free_port()
    with running([sys.executable, str(PROGRAMS / "streams_server.py"), *map(str, ports)], *ports):
        yield ports


@contextlib.contextmanager
def node_server() -> Iterator[tuple[int, int]]:
    """Run `streams_server.js`; yield its port for both."""
    port = free_port()
    with running(["node", str(PROGRAMS / "streams_server.js"), str(port)], port):
        yield port, port
