"""The soak's service of streams, which ends each stream as the client's query asks.

So the client knows whether the stream must end cleanly or be cut. Until then every event and every echo must come
once, in order and unchanged.
"""

import asyncio
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from benchmarks import streams

SHORTEST_LIFE = 0.5  # least seconds before the service ends a stream; an earlier reset may discard the head
BETWEEN_MESSAGES = (0.05, 1.0)  # least and most seconds between messages
LARGEST = 4000  # bytes of a message, or of an event's padding

CLOSED = 1000  # close code: the purpose has been fulfilled

# Fates of a stream: stay until the client leaves; end with the last chunk or a Close; end by FIN or RST in the middle;
# refuse with 403; close the connection before the response's head.
STAY, CLOSE, FIN, RST, REFUSE, VANISH = "stay", "close", "fin", "rst", "refuse", "vanish"
_ASKED = re.compile(rb"[?&]fate=(\w+)&after=([\d.]+) ")


@dataclass
class Tally:
    """The counts of all streams together.

    Attributes:
        open: number of open streams.
        begun: number of streams opened so far.
        messages: number of events and echoes received.
        ends: ways in which streams ended, with their counts.
        faults: faults, with their counts.
        services: number of the service's open connections.
    """

    open: int = 0
    begun: int = 0
    messages: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    services: int = 0


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST."""
    if not transport.is_closing():
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()


class Talker(asyncio.Protocol):
    """One end of a stream: a connection with timers."""

    def __init__(self, tally: Tally, rng: random.Random) -> None:
        self.tally = tally
        self.rng = rng
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def later(self, what: Callable[[], None], seconds: float) -> None:
        """Call a method in `seconds`, unless the connection has ended by then."""
        name = what.__name__
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, what)

    def pause(self) -> float:
        """Random seconds until the next message."""
        return self.rng.uniform(*BETWEEN_MESSAGES)


class Service(Talker):
    """The service's end of a stream: sends events, or echoes messages, and ends as the query asks."""

    def __init__(self, tally: Tally, rng: random.Random) -> None:
        super().__init__(tally, rng)
        self._request = b""
        self._frames: streams.Frames | None = None
        self._fate = STAY
        self._closes = False
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.tally.services += 1

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.tally.services -= 1

    def data_received(self, data: bytes) -> None:
        if self._frames:
            for frame in self._frames.feed(data):
                self._echo(frame)
            return
        self._request += data
        if self._request.endswith(streams.END_OF_HEAD):
            request, self._request = self._request, b""
            self._begin(request)

    def _begin(self, request: bytes) -> None:
        asked = _ASKED.search(request)
        fate, after = (asked[1].decode(), float(asked[2])) if asked else (STAY, 0.0)
        if fate == REFUSE:
            self.transport.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            return
        if fate == VANISH:
            self.transport.close()
            return
        if answer := streams.switch_head(request):
            self._frames = streams.Frames(masked=True)
            self.transport.write(answer)
        else:
            self.transport.write(streams.STREAM_HEAD)
            self.talk()
        if fate != STAY:
            self._fate = fate
            self.later(self.end, max(after, SHORTEST_LIFE))

    def _event(self) -> bytes:
        size = self.rng.randint(0, LARGEST)
        self._number += 1
        return streams.chunk(b"data: %d %d %b\n\n" % (self._number, size, b"x" * size))

    def talk(self) -> None:
        """Send an event, and schedule the next event."""
        self.transport.write(self._event())
        self.later(self.talk, self.pause())

    def _echo(self, frame: streams.Frame) -> None:
        if frame.opcode == streams.PING:
            self.transport.write(streams.frame(streams.PONG, frame.payload))
        elif frame.opcode == streams.CLOSE:
            if not self._closes:
                self.transport.write(streams.frame(streams.CLOSE, frame.payload))
            self.transport.close()
        elif frame.opcode != streams.PONG:
            self.transport.write(streams.frame(frame.opcode, frame.payload))

    def end(self) -> None:
        """End the stream as asked."""
        if self._fate == CLOSE and self._frames:
            self._closes = True
            self.transport.write(streams.frame(streams.CLOSE, CLOSED.to_bytes(2, "big")))
            return
        if self._fate == CLOSE:
            self.transport.write(streams.LAST_CHUNK)
        elif not self._frames:
            self.transport.write(self._event()[:-5])  # in the middle of an event
        if self._fate == RST:
            reset(self.transport)
        else:
            self.transport.close()
