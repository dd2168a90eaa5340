"""Both ends of a measured stream: the service of streams, and the clients.

Both ends do little beside reading the clock and checking that every event and every echo comes once, in order and
unchanged.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

from benchmarks import streams

STAMP_DIGITS, NUMBER_DIGITS = 20, 9
LEAST_EVENT = STAMP_DIGITS + 1 + NUMBER_DIGITS  # bytes of an event's data


@dataclass(slots=True)
class Tally:
    """The counts of all clients together.

    Attributes:
        opened: connections with a correct response head.
        failed: connections that were refused or lost, or on which something wrong came.
        first_fault: text of the first failure; "" for none.
        sent: events or messages sent.
        received: events or echoes received correctly.
        delays: delay of each received event or echo in nanoseconds.
        closing: whether connections may now end without a failure.
    """

    opened: int = 0
    failed: int = 0
    first_fault: str = ""
    sent: int = 0
    received: int = 0
    delays: list[int] = field(default_factory=list)
    closing: bool = False


def padding(size: int) -> bytes:
    """The padding of an event's data of `size` bytes; size ≥ LEAST_EVENT."""
    return b"x" * (size - LEAST_EVENT)


class EventSender:
    """The service's side of an event stream.

    The data of an event is the instant of writing in nanoseconds, the event's number, and padding.
    """

    def __init__(self, transport: asyncio.Transport, tally: Tally, size: int) -> None:
        self._transport = transport
        self._tally = tally
        self._number = 0
        data = b"data: %b %b%b\n\n" % (b"0" * STAMP_DIGITS, b"0" * NUMBER_DIGITS, padding(size))
        data_format = b"data: %%0%dd %%0%dd%b\n\n" % (STAMP_DIGITS, NUMBER_DIGITS, padding(size))
        self._format = streams.chunk(data).replace(data, data_format)

    def send(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._format % (time.monotonic_ns(), self._number))
        self._number += 1
        self._tally.sent += 1


class Service(asyncio.Protocol):
    """The service of streams: sends events on demand, and echoes WebSocket messages."""

    def __init__(self, tally: Tally, size: int, senders: list[EventSender]) -> None:
        self._tally = tally
        self._size = size
        self._senders = senders
        self._request = b""
        self._frames: streams.Frames | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        if self._frames:
            for frame in self._frames.feed(data):
                self._answer(frame)
            return
        self._request += data
        if not self._request.endswith(streams.END_OF_HEAD):
            return
        if answer := streams.switch_head(self._request):
            self.transport.write(answer)
            self._frames = streams.Frames(masked=True)
        else:
            self.transport.write(streams.STREAM_HEAD)
            self._senders.append(EventSender(self.transport, self._tally, self._size))
        self._request = b""

    def _answer(self, frame: streams.Frame) -> None:
        if frame.opcode == streams.PING:
            self.transport.write(streams.frame(streams.PONG, frame.payload))
        elif frame.opcode != streams.PONG:
            self.transport.write(streams.frame(frame.opcode, frame.payload))
        if frame.opcode == streams.CLOSE:
            self.transport.close()


class Client(asyncio.Protocol):
    """A client's connection: sends the request, and checks the head of the response.

    Attributes:
        opened: whether the head of the response was correct.
        failed: whether the connection has been counted as failed.
    """

    def __init__(self, request: bytes, tally: Tally) -> None:
        self.tally = tally
        self.opened = self.failed = False
        self._request = request
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            if self.opened:
                self.feed(data)
            else:
                self._read_head(data)
        except streams.Malformed as error:
            self._fail(str(error))
            self.transport.abort()

    def _read_head(self, data: bytes) -> None:
        self._head += data
        head, found, rest = self._head.partition(streams.END_OF_HEAD)
        if not found:
            return
        streams.check_answer(head)
        self.opened = True
        self.tally.opened += 1
        if rest:
            self.feed(rest)

    def _fail(self, text: str) -> None:
        if not self.failed and not self.tally.closing:
            self.failed = True
            self.tally.failed += 1
            self.tally.first_fault = self.tally.first_fault or text

    def feed(self, data: bytes) -> None:
        """Take bytes behind the head. Raises Malformed."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection lost ({exc or 'closed'})")


class EventReader(Client):
    """A client of an event stream: checks that every event comes once, in order and unchanged."""

    def __init__(self, request: bytes, tally: Tally, size: int) -> None:
        super().__init__(request, tally)
        self._chunks = streams.Chunks()
        self._rest = b""
        self._expected = 0
        self._padding = padding(size)

    def feed(self, data: bytes) -> None:
        *events, self._rest = (self._rest + self._chunks.feed(data)).split(streams.END_OF_EVENT)
        now = time.monotonic_ns()
        for event in events:
            if not event.startswith(b":"):
                self._take(event, now)

    def _take(self, event: bytes, now: int) -> None:
        stamp, number = event[6 : 6 + STAMP_DIGITS], event[7 + STAMP_DIGITS : 7 + STAMP_DIGITS + NUMBER_DIGITS]
        is_whole = event[STAMP_DIGITS + NUMBER_DIGITS + 7 :] == self._padding
        if not (is_whole and number.isdigit() and int(number) == self._expected):
            raise streams.Malformed(f"event {self._expected} came as {event[:60]!r}")
        self._expected += 1
        self.tally.received += 1
        self.tally.delays.append(now - int(stamp))


class Pinger(Client):
    """A client of a WebSocket: sends a message, and checks its echo.

    Attributes:
        again: whether to send the message again when the echo has come.
    """

    def __init__(self, request: bytes, tally: Tally, size: int) -> None:
        super().__init__(request, tally)
        self.again = False
        self._frames = streams.Frames(masked=False)
        self._payload = b"x" * size
        self._message = streams.frame(streams.BINARY, self._payload, streams.NO_MASK)
        self._sent_at = 0

    def send(self) -> None:
        self.tally.sent += 1
        self._sent_at = time.monotonic_ns()
        if not self.transport.is_closing():
            self.transport.write(self._message)

    def feed(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            if frame.opcode == streams.PING:
                self.transport.write(streams.frame(streams.PONG, frame.payload, streams.NO_MASK))
            elif frame.opcode == streams.BINARY and frame.payload == self._payload:
                self.tally.received += 1
                self.tally.delays.append(time.monotonic_ns() - self._sent_at)
                if self.again:
                    self.send()
            else:
                raise streams.Malformed(f"an echo that is none: opcode {frame.opcode}, {len(frame.payload)} bytes")
