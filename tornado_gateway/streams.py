"""The streams that are open: event streams and WebSockets, whoever holds them.

They are counted against their limits, looked after by one sweep instead of a timer each, and ended
well, one after the other, when the gateway stops.
"""

import asyncio
import math
from typing import Protocol

from tornado_gateway.policy.stream_limits import StreamCounts, StreamLimits


class Stream(Protocol):
    """What a long-lived stream must be able to do.

    Attributes:
        due: instant (loop time) at which to `look()`.
    """

    due: float

    def look(self, now: float) -> None:
        """See whether something is overdue, and set `due` anew."""

    def drain(self) -> None:
        """End as soon as that can be done well: the gateway stops. It may be said more than once."""

    def abort(self) -> None:
        """End now."""


class Streams:
    """
    Attributes:
        counts: how many streams are open or about to be.
        open: those that have begun.
    """

    def __init__(self, limits: StreamLimits) -> None:
        self.counts = StreamCounts(limits)
        self.open: set[Stream] = set()
        self._ends: list[tuple[float, Stream]] = []  # when each is to end, the last one first
        self._all_end_at = math.inf
        self._none_open = asyncio.Event()
        self._none_open.set()

    def add(self, stream: Stream) -> None:
        """A stream has begun."""
        self.open.add(stream)
        self._none_open.clear()

    def discard(self, stream: Stream) -> None:
        """A stream has ended."""
        self.open.discard(stream)
        if not self.open:
            self._none_open.set()

    async def closed(self) -> None:
        """Wait until every stream has ended: of a WebSocket, when both of its connections have."""
        await self._none_open.wait()

    def abort(self) -> None:
        """End every stream at once."""
        for stream in list(self.open):
            stream.abort()

    def sweep(self, now: float) -> None:
        """Look after what is due. Called several times per shortest duration that streams know."""
        for stream in [each for each in self.open if each.due <= now]:
            stream.look(now)
        while self._ends and self._ends[-1][0] <= now:
            _, stream = self._ends.pop()
            if stream in self.open:
                stream.drain()
        if now >= self._all_end_at:
            for stream in list(self.open):  # also those that were about to begin when the drain did
                stream.drain()

    def drain(self, now: float, spread: float) -> None:
        """Have every stream end, evenly spread over as many seconds, so that their clients come back that way too."""
        open_ = list(self.open)
        self._ends = [(now + spread * (index + 1) / len(open_), stream) for index, stream in enumerate(open_)]
        self._ends.reverse()
        self._all_end_at = now + spread
