"""One case played against one gateway: steps of a client and of scripted upstreams, and everything they receive.

Both sides record raw bytes. A step that waits ends when its condition holds, when the connection has ended, or after
PATIENCE seconds; the last is recorded, because a gateway that does not answer differs from a gateway that does.
"""

import asyncio
import base64
import hashlib
import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, cast

from tests.support.differential.framing import (
    final_responses,
    has_close_frame,
    head_end,
    is_refusal,
    request_end,
    status_of,
)

PATIENCE = 5.0  # seconds a step waits before it gives up
SETTLING = 1.0  # seconds that upstreams' scripts may take to end after the client has left
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_KEY = re.compile(rb"\r\nsec-websocket-key:[ \t]*([^\r]*)", re.IGNORECASE)


@dataclass
class Heard:
    """What one peer of the gateway received on one connection, or in one exchange.

    Attributes:
        end: "fin" or "rst" once the gateway has ended the connection.
        late: steps that gave up.
    """

    data: bytearray = field(default_factory=bytearray)
    end: str = ""
    late: list[str] = field(default_factory=list)


class Step(Protocol):
    """A step of a script."""

    async def play(self, line: "Line", scene: "Scene") -> None: ...


@dataclass(frozen=True)
class Send:
    """Send bytes."""

    data: bytes

    async def play(self, line: "Line", scene: "Scene") -> None:
        line.write(self.data)
        await asyncio.sleep(0)


@dataclass(frozen=True)
class SendFrames(Send):
    """Client: send WebSocket frames, unless the handshake was refused."""

    async def play(self, line: "Line", scene: "Scene") -> None:
        if status_of(bytes(line.heard.data)) == 101:
            await super().play(line, scene)


@dataclass(frozen=True)
class Responses:
    """Client: wait for so many final responses.

    Attributes:
        methods: of the requests.
        patience: seconds after which the step gives up.
        expected: whether giving up is recorded.
    """

    count: int
    methods: tuple[bytes, ...] = (b"GET",)
    patience: float = PATIENCE
    expected: bool = True

    async def play(self, line: "Line", scene: "Scene") -> None:
        methods = list(self.methods)
        await scene.until(
            line,
            "responses" if self.expected else "",
            lambda: final_responses(bytes(line.heard.data), methods, bool(line.heard.end)) >= self.count,
            self.patience,
        )


@dataclass(frozen=True)
class Hears:
    """Client: wait until the bytes received hold a mark, or a whole response."""

    mark: bytes

    async def play(self, line: "Line", scene: "Scene") -> None:
        def holds() -> bool:
            data = line.heard.data
            return self.mark in data or final_responses(bytes(data), [b"GET"], False) > 0

        await scene.until(line, "hears", holds)


@dataclass(frozen=True)
class Gets:
    """Either side of a WebSocket: wait for so many bytes behind the handshake, a close frame or a refusal."""

    count: int

    async def play(self, line: "Line", scene: "Scene") -> None:
        def holds() -> bool:
            data = bytes(line.heard.data)
            end = head_end(data)
            return bool(end) and (len(data) - end >= self.count or has_close_frame(data) or is_refusal(data))

        await scene.until(line, "gets", holds)


@dataclass(frozen=True)
class Delivered:
    """Either side of a WebSocket: wait until the other side has so many bytes, or a close frame."""

    count: int

    async def play(self, line: "Line", scene: "Scene") -> None:
        def holds() -> bool:
            other = scene.client if line.heard is not scene.client else scene.asked[-1] if scene.asked else scene.client
            data = bytes(other.data)
            gone = bool(other.end) or has_close_frame(data) or is_refusal(bytes(scene.client.data))
            return gone or len(data) - head_end(data) >= self.count

        await scene.until(line, "delivered", holds)


@dataclass(frozen=True)
class HearsClose:
    """Either side of a WebSocket: wait for a close frame (RFC 6455 §5.5.1) behind the handshake, or a refusal."""

    async def play(self, line: "Line", scene: "Scene") -> None:
        def holds() -> bool:
            data = bytes(line.heard.data)
            return has_close_frame(data) or is_refusal(data)

        await scene.until(line, "hears close", holds)


@dataclass(frozen=True)
class ClientHears:
    """Upstream: wait until the client has received a mark."""

    mark: bytes

    async def play(self, line: "Line", scene: "Scene") -> None:
        await scene.until(line, "client hears", lambda: self.mark in scene.client.data or bool(scene.client.end))


@dataclass(frozen=True)
class Asked:
    """Client: wait until upstreams have received so many heads."""

    count: int = 1

    async def play(self, line: "Line", scene: "Scene") -> None:
        await scene.until(line, "asked", lambda: len(scene.asked) >= self.count or bool(line.heard.data))


@dataclass(frozen=True)
class Whole:
    """Upstream: wait for the whole request."""

    async def play(self, line: "Line", scene: "Scene") -> None:
        await scene.until(line, "whole request", lambda: bool(request_end(bytes(line.heard.data))))


@dataclass(frozen=True)
class Upgrade:
    """Upstream: accept a WebSocket handshake (RFC 6455 §4.2.2)."""

    fields: bytes = b""

    async def play(self, line: "Line", scene: "Scene") -> None:
        key = _KEY.search(bytes(line.heard.data))
        digest = hashlib.sha1((key[1] if key else b"").strip() + _WEBSOCKET_GUID).digest()
        line.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (base64.b64encode(digest), self.fields)
        )


@dataclass(frozen=True)
class Ends:
    """Either side: wait until the gateway ends the connection; `expected`: whether giving up is recorded."""

    patience: float = PATIENCE
    expected: bool = True

    async def play(self, line: "Line", scene: "Scene") -> None:
        await scene.until(line, "ends" if self.expected else "", lambda: bool(line.heard.end), self.patience)


@dataclass(frozen=True)
class HalfClose:
    """Send FIN and go on reading."""

    async def play(self, line: "Line", scene: "Scene") -> None:
        line.half_close()


@dataclass(frozen=True)
class Close:
    """End the connection by FIN."""

    async def play(self, line: "Line", scene: "Scene") -> None:
        line.close()


@dataclass(frozen=True)
class Reset:
    """End the connection by RST."""

    async def play(self, line: "Line", scene: "Scene") -> None:
        line.reset()


class Line(asyncio.Protocol):
    """A recorded connection with the gateway."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.heard = Heard()
        self.changed = changed
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.heard.data += data
        self.changed()

    def eof_received(self) -> bool:
        self.heard.end = self.heard.end or "fin"
        self.changed()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.heard.end = self.heard.end or ("rst" if error else "fin")
        self._transport = None
        self.changed()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        if self._transport and self.is_open:
            self._transport.write(data)

    def half_close(self) -> None:
        if self._transport and self.is_open:
            with suppress(OSError):  # RST has arrived, and the transport does not know yet
                self._transport.write_eof()

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def reset(self) -> None:
        if self._transport and self.is_open:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()


@dataclass(frozen=True)
class Answer:
    """The script of an upstream for one request.

    Attributes:
        keep: whether the connection takes another request after the script.
        to_head: steps if the method is HEAD; None: the same steps.
    """

    steps: tuple[Step, ...]
    keep: bool = True
    to_head: tuple[Step, ...] | None = None

    def steps_for(self, request: bytes) -> tuple[Step, ...]:
        return self.to_head if self.to_head and request.startswith(b"HEAD ") else self.steps


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        kind: of input, for a report.
        client: steps of the client.
        answers: of the upstreams, in the order of the requests that arrive; the last one repeats.
    """

    number: int
    kind: str
    client: tuple[Step, ...]
    answers: tuple[Answer, ...]


class Scene:
    """A case in progress.

    Attributes:
        client: what the client has received.
        asked: what upstreams have received, by request, in order of arrival.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.client = Heard()
        self.asked: list[Heard] = []
        self.playing: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def changed(self) -> None:
        self._changed.set()

    async def until(self, line: Line, name: str, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait for a condition; a connection that has ended satisfies each. A step that gives up leaves its name."""
        heard = line.heard
        try:
            async with asyncio.timeout(patience):
                while not holds() and not heard.end and line.is_open:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            if name:
                heard.late.append(name)

    def answer(self) -> Answer:
        """The script of the request that has just arrived."""
        return self.case.answers[min(len(self.asked), len(self.case.answers)) - 1]


class UpstreamLine(Line):
    """A connection that the gateway has made to a scripted upstream."""

    def __init__(self, stage: "Stage") -> None:
        super().__init__(stage.changed)
        self._stage = stage
        self._task: asyncio.Task[None] | None = None
        self.is_closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._stage.lines.add(self)

    def close(self) -> None:
        """Send FIN, and close once the gateway has ended its side: then the gateway surely knows of the end."""
        self.is_closing = True
        if self.heard.end:
            super().close()
        else:
            self.half_close()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._stage.lines.discard(self)

    def eof_received(self) -> bool:
        super().eof_received()
        if self._task is None or self.is_closing:
            super().close()
        return True

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        scene = self._stage.scene
        if self._task is None and scene and head_end(bytes(self.heard.data)):
            scene.asked.append(self.heard)
            self._task = asyncio.get_running_loop().create_task(self._play(scene, scene.answer()))
            scene.playing.add(self._task)

    async def _play(self, scene: Scene, answer: Answer) -> None:
        is_kept = False
        try:
            for step in answer.steps_for(bytes(self.heard.data)):
                await step.play(self, scene)
            is_kept = answer.keep and not self.heard.end
        finally:  # a script that is cancelled ends its connection, so that nothing of its case is left
            if is_kept:
                self.heard = Heard()
                self._task = None
            else:
                self.close()
            scene.changed()


class Stage:
    """A gateway's surroundings: the upstreams' connections and the case in progress."""

    def __init__(self) -> None:
        self.scene: Scene | None = None
        self.lines: set[UpstreamLine] = set()

    def changed(self) -> None:
        if self.scene:
            self.scene.changed()

    async def play(self, case: Case, host: str, port: int) -> Scene:
        """Play a case against the gateway at host and port."""
        self.scene = scene = Scene(case)
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(lambda: Line(scene.changed), host, port, local_addr=("127.0.0.1", 0))
        scene.client = line.heard
        for step in case.client:
            await step.play(line, scene)
        line.close()
        await self._settle(scene)
        return scene

    async def _settle(self, scene: Scene) -> None:
        """Wait for the upstreams' scripts; end those that go on."""
        playing = {task for task in scene.playing if not task.done()}
        if playing:
            _, late = await asyncio.wait(playing, timeout=SETTLING)
            for task in late:
                task.cancel()
                scene.client.late.append("upstream script")
        await self._closed()
        for task in scene.playing:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    async def _closed(self) -> None:
        """Wait until the gateway has ended the connections that scripts have closed."""
        deadline = asyncio.get_running_loop().time() + SETTLING
        while closing := [line for line in self.lines if line.is_closing]:
            await asyncio.sleep(0.001)
            if asyncio.get_running_loop().time() > deadline:
                for line in closing:
                    line.reset()
