"""Both ends of event streams: a source that a test controls, a listener, and control of time."""

import asyncio
import re

import pytest

from tests.conftest import Running
from tests.support.sockets import Client, Ended, Message, Peer, eventually
from tornado_gateway.upkeep.streams import Stream

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
QUIET = 0.03  # seconds without a byte that are taken for silence
Event = tuple[str, str, str]


def chunk(data: bytes) -> bytes:
    """Encode a chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream_head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    """The head of a chunked event stream, with additional field lines."""
    return b"\r\n".join((b"HTTP/1.1 " + status, b"Content-Type: text/event-stream", *lines)) + (
        b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    )


class Source:
    """A script for upstreams: answers each request with a head; the test sends the body.

    Attributes:
        peers: connections that have been answered, once per request.
        requests: the requests received.
    """

    def __init__(self, head: bytes = STREAM_HEAD, *, is_chunked: bool = True) -> None:
        self.peers: list[Peer] = []
        self.requests: list[Message] = []
        self._head, self._is_chunked = head, is_chunked
        self._goes_on: dict[Peer, asyncio.Future[bool]] = {}

    async def __call__(self, peer: Peer) -> None:
        goes_on = True
        while goes_on:
            self.requests.append(await peer.request())
            await peer.send(self._head)
            answered = self._goes_on[peer] = asyncio.get_running_loop().create_future()
            self.peers.append(peer)
            goes_on = await answered

    async def peer(self) -> Peer:
        """Wait for a connection; return the newest."""
        await eventually(lambda: self.peers)
        return self.peers[-1]

    async def say(self, *pieces: bytes) -> None:
        """Send pieces of the body."""
        peer = await self.peer()
        for piece in pieces:
            await peer.send(chunk(piece) if self._is_chunked else piece)

    async def end(self) -> None:
        """End the body by its framing."""
        peer = await self.peer()
        if self._is_chunked:
            await peer.send(LAST_CHUNK)
        else:
            peer.close()
        self._goes_on[peer].set_result(self._is_chunked)

    async def fail(self, *, reset: bool = True) -> None:
        """End the connection in the middle of the body."""
        peer = await self.peer()
        peer.reset() if reset else peer.close()
        self._goes_on[peer].set_result(False)


class Listener:
    """A client's view of one event stream.

    Attributes:
        head: of the response.
        chunks: of its body so far, as the gateway has framed them; without framing, as they were read.
        end: "" while it goes on; then "complete", "cut" (ended without what its framing promised) or "reset".
    """

    def __init__(self, client: Client, head: Message) -> None:
        self.client, self.head = client, head
        self.chunks: list[bytes] = []
        self.end = ""
        self._is_chunked = head.get(b"transfer-encoding") == b"chunked"

    @classmethod
    async def ask(cls, running: Running, request: bytes, *, receive_buffer: int | None = None) -> "Listener":
        client = await running.client(receive_buffer=receive_buffer)
        await client.send(request)
        return cls(client, await client.head())

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    async def hear(self, *wanted: bytes) -> None:
        """Read and assert that exactly the wanted chunks come."""
        for each in wanted:
            assert await self._next() == each

    async def until(self, mark: bytes) -> None:
        """Read until the body ends with a mark."""
        while not self.body.endswith(mark):
            assert await self._next() != b"", f"{mark!r} never came: {self.body!r}"

    async def all(self) -> "Listener":
        """Read to the end."""
        while await self._next():
            pass
        return self

    async def is_quiet(self) -> None:
        """Assert that nothing comes for a moment."""
        assert self.client.buffer == b""
        with pytest.raises(TimeoutError):
            await self.client.more(QUIET)

    async def _next(self) -> bytes:
        """The next piece of the body; empty at its end."""
        try:
            piece = await self._chunk() if self._is_chunked else await self._read()
        except Ended as ended:
            clean = "cut" if self._is_chunked else "complete"
            self.end = clean if ended.clean else "reset"
            return b""
        if piece:
            self.chunks.append(piece)
        else:
            self.end = "complete"
        return piece

    async def _chunk(self) -> bytes:
        size = int(await self.client.until(b"\r\n"), 16)
        piece = await self.client.exactly(size)
        assert await self.client.exactly(2) == b"\r\n"
        return piece

    async def _read(self) -> bytes:
        if not self.client.buffer:
            await self.client.more()
        piece, self.client.buffer = self.client.buffer, b""
        return piece


def let_pass(running: Running, seconds: float) -> None:
    """Sweep upstreams and streams with a clock that is `seconds` ahead."""
    look(running, running.app.server.context.loop.time() + seconds)


def look(running: Running, instant: float) -> None:
    """Sweep upstreams and streams with the given instant (loop time)."""
    gateway = running.app.gateway
    gateway.client.sweep(instant)
    gateway.streams.sweep(instant)


async def instant_after(running: Running, instant: float) -> float:
    """An instant (loop time) that is later than another one by more than any clock's tick."""
    loop = running.app.server.context.loop
    while (now := loop.time()) < instant + 0.02:
        await asyncio.sleep(0.005)
    return now


async def opened(running: Running, count: int = 1) -> list[Stream]:
    """The gateway's streams, once there are `count`."""
    streams = running.app.gateway.streams
    await eventually(lambda: len(streams.open) == count)
    return list(streams.open)


def counted(running: Running) -> int:
    """The number of streams counted against the limits."""
    return running.app.gateway.streams.counts.total


def dispatched(stream: bytes) -> list[Event]:
    """Parse a stream like a browser (WHATWG HTML §9.2.6): type, data and last event id of each event.

    A change of the reconnection time counts as an event of the type "(retry)".
    """
    lines = re.split("\r\n|\n|\r", stream.decode("utf-8", "replace").removeprefix("\ufeff"))[:-1]
    events: list[Event] = []
    kind, data, id_ = "", "", ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append((kind or "message", data.removesuffix("\n"), id_))
            kind, data = "", ""
        elif name == "event":
            kind = value
        elif name == "data":
            data += value + "\n"
        elif name == "id" and "\0" not in value:
            id_ = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            events.append(("(retry)", value, ""))
    return events
