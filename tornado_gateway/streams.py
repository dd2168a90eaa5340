"""The streams that are open: event streams and WebSockets, whoever holds them.

They are counted against their limits, looked after by one sweep instead of a timer each, and ended
well, one after the other, when the gateway stops.
"""

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
        """End as soon as that can be done well: the gateway stops."""

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

    def sweep(self, now: float) -> None:
        """Look after what is due. Called several times per shortest duration that streams know."""
        for stream in [each for each in self.open if each.due <= now]:
            stream.look(now)
        while self._ends and self._ends[-1][0] <= now:
            _, stream = self._ends.pop()
            if stream in self.open:
                stream.drain()

    def drain(self, now: float, spread: float) -> None:
        """Have every stream end, evenly spread over as many seconds, so that their clients come back that way too."""
        open_ = list(self.open)
        self._ends = [(now + spread * (index + 1) / len(open_), stream) for index, stream in enumerate(open_)]
        self._ends.reverse()
