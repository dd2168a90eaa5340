"""Totals of a service's streams of a kind: how many, how long, messages, bytes, close codes.

The totals count streams that have ended; what open streams have carried so far, the streams themselves tell.
"""

from collections import Counter
from typing import NamedTuple

from tornado_gateway.policy.histogram import LIVES, PAUSES, Histogram


class Carried(NamedTuple):
    """What a stream has carried so far; `up` means towards the service.

    Attributes:
        messages_up, messages_down: messages of a WebSocket; events of an event stream.
        bytes_up, bytes_down: bytes of all frames, or of the body.
        waiting: bytes that a receiver has not taken yet.
    """

    messages_up: int
    messages_down: int
    bytes_up: int
    bytes_down: int
    waiting: int


class StreamTotals:
    """Sums over the event streams, or over the WebSockets, of a service; `up` means towards the service.

    Attributes:
        opened: streams that have begun: the response's head, or the 101, was passed to the client.
        closed: streams that have ended.
        messages_up, messages_down: messages of WebSockets, or events, of ended streams.
        bytes_up, bytes_down: bytes of ended streams: of all frames, or of the body.
        lives: seconds from the request to the end, of ended streams.
        firsts: seconds from the request to the first bytes of the stream; of event streams alone.
        pauses: seconds between two arrivals of bytes of an event stream. Most services send an event at a time, so the
            pauses are the pauses between events.
        close_codes: ended WebSockets by close code; 1006 means without a Close frame.
    """

    __slots__ = (
        "bytes_down", "bytes_up", "close_codes", "closed", "firsts", "lives", "messages_down", "messages_up", "opened",
        "pauses",
    )  # fmt: skip

    def __init__(self) -> None:
        self.opened = self.closed = self.messages_up = self.messages_down = self.bytes_up = self.bytes_down = 0
        self.lives, self.firsts, self.pauses = Histogram(LIVES), Histogram(), Histogram(PAUSES)
        self.close_codes: Counter[int] = Counter()

    @property
    def open(self) -> int:
        """Streams that are open now; a stream that is about to begin does not count."""
        return self.opened - self.closed

    @property
    def seconds(self) -> float:
        """Total time that the ended streams were open."""
        return self.lives.total

    def add(self, carried: Carried, seconds: float, close_code: int | None = None) -> None:
        """Add a stream that has ended.

        Args:
            seconds: from the request to the end.
            close_code: of a WebSocket.
        """
        self.closed += 1
        self.messages_up += carried.messages_up
        self.messages_down += carried.messages_down
        self.bytes_up += carried.bytes_up
        self.bytes_down += carried.bytes_down
        self.lives.add(seconds)
        if close_code is not None:
            self.close_codes[close_code] += 1
