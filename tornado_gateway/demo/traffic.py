"""The traffic of the demo: a few visitors, an event stream and a WebSocket, all through the gateway."""

import asyncio
import contextlib
import itertools
import random
import re
from collections.abc import Awaitable, Callable

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import (
    WebSocketClientConnection,
    WebSocketClosedError,
    WebSocketError,
    websocket_connect,
)

# The traffic asks for each of these equally often. /items/99 does not exist: a dashboard needs a 404 too.
VISITS = (
    "/api/items",
    "/api/items/3",
    "/api/items/99",
    "/api/report",
    "/api/bytes/65536",
    "/slow/",
    "/slow/",
    "/flaky/",
    "/flaky/",
)

# The long-lived connections of the traffic: an event stream and a WebSocket.
STREAM = "/sse/clock/events"
SOCKET = "/ws/chat?path=/echo"
HANDSHAKE_TIMEOUT = 1.0  # seconds; a stop() may have to wait as long
LONGEST_PAUSE = 30.0  # seconds between two attempts to connect

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)


async def visit(host: str, port: int, rng: random.Random, pause: float) -> None:
    """Send requests in turn, on a connection for as long as the connection lasts."""
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


async def keep_open(hold: Callable[[], Awaitable[None]], rng: random.Random, pause: float) -> None:
    """Call `hold` again and again; the pauses between calls grow while calls fail."""
    failures = 0
    while True:
        try:
            await hold()
            failures = 0
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, HTTPClientError, WebSocketError):
            failures += 1
        # At most 2**15 pauses: LONGEST_PAUSE is reached long before.
        await asyncio.sleep(rng.uniform(0.5, 1) * min(LONGEST_PAUSE, pause * 2 ** min(failures, 15)))


async def hold_stream(host: str, port: int) -> None:
    """Read the clock's events until the stream ends.

    Raises:
        OSError, EOFError, ValueError, LimitOverrunError: the stream could not be opened.
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


async def hold_socket(host: str, port: int, rng: random.Random, pause: float) -> None:
    """Talk to the echo until the echo closes.

    Raises:
        OSError, HTTPClientError, WebSocketError: the WebSocket could not be opened.
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
    """Send a close frame, and do not wait for the answer."""
    socket.close(1000)
    socket.stream.close()
    await closed.wait()
