"""The streams that are open: event streams and WebSockets, whoever holds them.

They are counted against their limits, looked after by one sweep instead of a timer each, moved to other
endpoints when told to, and ended well, one after the other, when the gateway stops.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from tornado_gateway.policy.http.stream_limits import StreamCounts, StreamLimits
from tornado_gateway.policy.upstream.endpoint import Endpoint


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

    @property
    def is_movable(self) -> bool:
        """Whether it can be ended so well, now, that its client loses nothing and comes back by itself."""

    def move(self) -> None:
        """End so, for the client to come back and be given another endpoint. Said only of what is movable."""

    def abort(self) -> None:
        """End now."""


class Streams:
    """
    Attributes:
        counts: how many streams are open or about to be.
        open: those that have begun, the oldest first.
    """

    shortest_timeout = math.inf  # each stream has the timeouts of its service

    def __init__(self, limits: StreamLimits) -> None:
        self.counts = StreamCounts(limits)
        self._endpoints: dict[Stream, Endpoint | None] = {}
        self.open = self._endpoints.keys()
        self._leaving: dict[Stream, Endpoint] = {}  # that were told to move, and have not ended
        self._ends: list[tuple[float, Stream]] = []  # when each is to end, the last one first
        self._all_end_at = math.inf
        self._none_open = asyncio.Event()
        self._none_open.set()

    def add(self, stream: Stream, endpoint: Endpoint | None = None) -> None:
        """A stream has begun.

        Args:
            endpoint: where it can be moved away from; None if it is to stay.
        """
        self._endpoints[stream] = endpoint
        self._none_open.clear()

    def discard(self, stream: Stream) -> None:
        """A stream has ended."""
        self._endpoints.pop(stream, None)
        if self._leaving:
            self._leaving.pop(stream, None)
        if not self._endpoints:
            self._none_open.set()

    async def closed(self) -> None:
        """Wait until every stream has ended: of a WebSocket, when both of its connections have."""
        await self._none_open.wait()

    def abort(self) -> None:
        """End every stream at once."""
        for stream in list(self.open):
            stream.abort()

    def sweep(self, now: float) -> None:
        """Look after the streams that are due, and end those whose turn has come while the gateway stops."""
        for stream in [each for each in self.open if each.due <= now]:
            stream.look(now)
        while self._ends and self._ends[-1][0] <= now:
            _, stream = self._ends.pop()
            if stream in self.open:
                stream.drain()
        if now >= self._all_end_at:
            for stream in list(self.open):  # also those that were about to begin when the drain did
                stream.drain()

    def move(self, counts: Mapping[Endpoint, int]) -> None:
        """Have so many streams of each endpoint end well, or as many as can: the oldest ones.

        Whoever was moved lately, and has come back to where it was, is among the youngest: it is its turn last.
        """
        left, chosen = dict(counts), []
        for stream, endpoint in self._endpoints.items():
            if endpoint is not None and left.get(endpoint) and stream.is_movable:
                chosen.append((stream, endpoint))
                left[endpoint] -= 1
                if not any(left.values()):
                    break
        for stream, endpoint in chosen:
            self._endpoints[stream], self._leaving[stream] = None, endpoint
            stream.move()

    @property
    def leaving(self) -> Counter[Endpoint]:
        """How many streams of each endpoint have been told to move, and have not ended."""
        return Counter(self._leaving.values())

    def drain(self, now: float, spread: float) -> None:
        """Have every stream end, evenly spread over as many seconds, so that their clients come back that way too."""
        open_ = list(self.open)
        self._ends = [(now + spread * (index + 1) / len(open_), stream) for index, stream in enumerate(open_)]
        self._ends.reverse()
        self._all_end_at = now + spread
