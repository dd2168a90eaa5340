"""The clients of the soak's streams: event streams and WebSockets that either side ends, in every way.

Clients check that every event and every echo comes once, in order and unchanged, that clean ends and cuts are told
apart, and that close codes are right.
"""

import asyncio
import random
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from benchmarks import streams
from benchmarks.readiness import HOST
from benchmarks.soak.service import (
    CLOSE,
    CLOSED,
    FIN,
    LARGEST,
    REFUSE,
    RST,
    SHORTEST_LIFE,
    STAY,
    VANISH,
    Talker,
    Tally,
    reset,
)

MEAN_LIFE = 5.0  # mean seconds until either side ends a stream
PATIENCE = 15.0  # seconds for a response's head, and for the end of a connection after either side has ended the stream
AT_ONCE = 50  # connections opened together

UPSTREAM_LOST = 1011  # the close code that the gateway sends when a service is gone

_REFUSALS = {REFUSE: b"403", VANISH: b"502"}  # expected statuses by fate

_EVENT = re.compile(rb"data: (\d+) (\d+) (x*)")


@dataclass(frozen=True, slots=True)
class Life:
    """The plan for a stream.

    Attributes:
        fate: how the service ends the stream; see service.py.
        after: seconds until the service ends the stream.
        leaves_after: seconds until the client leaves, unless the stream has ended.
        leaves_by: how the client leaves: CLOSE, FIN or RST.
    """

    fate: str
    after: float
    leaves_after: float
    leaves_by: str

    @property
    def query(self) -> str:
        return f"fate={self.fate}&after={self.after:.3f}"


def draw(rng: random.Random, remaining: float, ways: Sequence[str]) -> Life:
    """Draw a random plan that ends before the soak or soon after.

    Args:
        remaining: seconds until the end of the soak.
        ways: values for Life.leaves_by.
    """
    life, last = rng.expovariate(1 / MEAN_LIFE), remaining + rng.random() * SHORTEST_LIFE
    leaves_by = rng.choice(ways)
    kind = rng.random()
    if kind < 0.05:  # before the head, or just behind it
        return Life(STAY, 0.0, rng.choice([0.0, 0.001, 0.01]), leaves_by)
    if kind < 0.5:
        return Life(STAY, 0.0, min(life, last), leaves_by)
    fate = rng.choice([CLOSE, FIN, RST]) if kind < 0.94 else rng.choice([REFUSE, VANISH])
    return Life(fate, life, last, leaves_by)


class Visitor(Talker):
    """The client's end of a stream.

    Attributes:
        kind: kind of stream, for the tally.
        ended: future of the connection's end.
    """

    kind: str

    def __init__(self, tally: Tally, rng: random.Random, life: Life, request: bytes) -> None:
        super().__init__(tally, rng)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.life = life
        self._request = request
        self._head = b""
        self._talks = False
        self._over = False  # whether the expected end has come or the client has left

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(self._request)
        self.later(self.leave, self.life.leaves_after)
        self.later(self.give_up, PATIENCE)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.tally.open -= self._talks
        if not self._over:
            self.end(f"lost, fate {self.life.fate}")
            self.check_cut()
        self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._over and not self._talks:
            return  # the body of a refusal
        try:
            if self._talks:
                self.feed(data)
            else:
                self._read_head(data)
        except streams.Malformed as error:
            self._break_off(str(error))

    def _read_head(self, data: bytes) -> None:
        self._head += data
        head, found, rest = self._head.partition(streams.END_OF_HEAD)
        if not found:
            return
        refusal = _REFUSALS.get(self.life.fate)
        if refusal:
            if head.split(b" ", 2)[1] != refusal:
                self.fault(f"{self.life.fate}: {head[:30]!r}")
            self.end(self.life.fate)
            self.transport.close()
            return
        streams.check_answer(head)
        self._timers["give_up"].cancel()
        self._talks = True
        self.tally.open += 1
        self.tally.begun += 1
        self.begin()
        if rest:
            self.feed(rest)

    def begin(self) -> None:
        """Called when the head of the response has come."""

    def feed(self, data: bytes) -> None:
        """Take bytes behind the head. Raises Malformed."""
        raise NotImplementedError

    def check_cut(self) -> None:
        """Called when the connection has ended without a clean end and without the client leaving."""
        raise NotImplementedError

    def leave(self) -> None:
        """End the connection."""
        if not self._over:
            self.end(f"left by {self.life.leaves_by}")
        if self.life.leaves_by == RST:
            reset(self.transport)
        else:
            self.transport.close()

    def give_up(self) -> None:
        """Called when PATIENCE is over."""
        self._break_off("no end in time" if self._talks else "no head in time")

    def _break_off(self, fault: str) -> None:
        self.fault(fault)
        self._over = True
        self.transport.abort()

    def end(self, how: str) -> None:
        self._over = True
        self.tally.ends[f"{self.kind}: {how}"] += 1

    def fault(self, text: str) -> None:
        self.tally.faults[f"{self.kind}: {text}"] += 1


class EventVisitor(Visitor):
    """A client of an event stream."""

    kind = "events"

    def begin(self) -> None:
        self._chunks = streams.Chunks()
        self._rest = b""
        self._number = 0

    def feed(self, data: bytes) -> None:
        *events, self._rest = (self._rest + self._chunks.feed(data)).split(streams.END_OF_EVENT)
        for event in events:
            if not event.startswith(b":"):
                self._take(event)
        if self._chunks.ended and not self._over:
            if self.life.fate != CLOSE:
                self.fault(f"a clean end, fate {self.life.fate}")
            self.end("closed by the service")
            self.transport.close()

    def _take(self, event: bytes) -> None:
        told = _EVENT.fullmatch(event)
        self._number += 1
        if not told or int(told[1]) != self._number or int(told[2]) != len(told[3]):
            raise streams.Malformed("an event lost, repeated or changed")
        self.tally.messages += 1

    def check_cut(self) -> None:
        if self.life.fate not in (FIN, RST):
            self.fault(f"cut off, fate {self.life.fate}")


class SocketVisitor(Visitor):
    """A client of a WebSocket."""

    kind = "sockets"

    def begin(self) -> None:
        self._frames = streams.Frames(masked=False)
        self._sent: deque[streams.Frame] = deque()
        self._closes = False
        self.talk()

    def talk(self) -> None:
        """Send a message, and schedule the next message."""
        opcode = self.rng.choice([streams.TEXT, streams.BINARY])
        size = self.rng.randint(0, LARGEST)
        message = streams.Frame(opcode, b"t" * size if opcode == streams.TEXT else self.rng.randbytes(size))
        self._sent.append(message)
        self._write(message)
        self.later(self.talk, self.pause())

    def _write(self, frame: streams.Frame) -> None:
        self.transport.write(streams.frame(frame.opcode, frame.payload, self.rng.randbytes(4)))

    def feed(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            if frame.opcode == streams.PING:
                self._write(streams.Frame(streams.PONG, frame.payload))
            elif frame.opcode == streams.CLOSE:
                self._take_close(frame)
            elif not self._sent or frame != self._sent.popleft():
                raise streams.Malformed("a message lost, repeated or changed")
            else:
                self.tally.messages += 1

    def _take_close(self, frame: streams.Frame) -> None:
        code = int.from_bytes(frame.payload[:2], "big")
        if not self._closes:
            self._timers["talk"].cancel()
            wanted = {CLOSE: CLOSED, FIN: UPSTREAM_LOST, RST: UPSTREAM_LOST}.get(self.life.fate)
            if code != wanted:
                self.fault(f"close code {code}, fate {self.life.fate}")
            self._write(frame)
            self.later(self.give_up, PATIENCE)
        elif code != CLOSED and self.life.fate not in (FIN, RST):
            self.fault(f"close code {code} for {CLOSED}")
        self.end(f"close code {code}" + (", asked for" if self._closes else ""))

    def leave(self) -> None:
        if self.life.leaves_by != CLOSE or self._over or not self._talks:
            super().leave()
            return
        self._closes = True
        self._timers["talk"].cancel()
        self._write(streams.Frame(streams.CLOSE, CLOSED.to_bytes(2, "big")))
        self.later(self.give_up, PATIENCE)

    def check_cut(self) -> None:
        if not (self._talks and self._closes and self.life.fate in (FIN, RST, CLOSE)):
            self.fault(f"no Close, fate {self.life.fate}")


async def come_and_go(port: int, tally: Tally, rng: random.Random, until: float) -> None:
    """Run a client, which opens a new stream whenever its stream has ended.

    Args:
        until: monotonic instant after which the client opens no stream.
    """
    loop = asyncio.get_running_loop()
    is_socket = rng.random() < 0.5
    while (remaining := until - time.monotonic()) > 0:
        life = draw(rng, remaining, (CLOSE, FIN, RST) if is_socket else (FIN, RST))
        if is_socket:
            request = streams.switch_request(f"/ws/streams?path=/echo&{life.query}", port)
        else:
            request = streams.stream_request(f"/sse/streams/events?{life.query}", port)
        make = SocketVisitor if is_socket else EventVisitor
        _, visitor = await loop.create_connection(lambda: make(tally, rng, life, request), HOST, port)  # noqa: B023
        await visitor.ended


class Occupier(asyncio.Protocol):
    """A client that opens a stream and keeps the stream open.

    Attributes:
        status: future of the response's status; b"" if the connection ended before.
    """

    def __init__(self, request: bytes) -> None:
        self.status: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.status.done():
            self.status.set_result(data[9:12])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.status.done():
            self.status.set_result(b"")


async def occupy(port: int, limit: int) -> list[bytes]:
    """Open `limit` streams and one more, close all, and return their statuses.

    Only the last stream is refused if the gateway has counted every stream of the soak out exactly once.
    """
    request = streams.stream_request(f"/sse/streams/events?fate={STAY}&after=0", port)
    loop = asyncio.get_running_loop()
    held: list[Occupier] = []
    try:
        while len(held) <= limit:
            some = 1 if len(held) == limit else min(AT_ONCE, limit - len(held))
            made = [await loop.create_connection(lambda: Occupier(request), HOST, port) for _ in range(some)]
            new = [occupier for _, occupier in made]
            held += new
            await asyncio.wait_for(asyncio.gather(*[occupier.status for occupier in new]), PATIENCE)
        return [occupier.status.result() for occupier in held]
    finally:
        for occupier in held:
            occupier.transport.abort()
