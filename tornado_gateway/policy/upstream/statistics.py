"""What happened in the last minute: how much, how often it failed, how long it took.

A Window is a ring of slots of a few seconds. Reading it changes nothing: what is too old is left out
when it is read, and overwritten when its slot's turn comes.

Durations are counted in buckets whose bounds grow by a constant factor, so that every
quantile is right within 1 %, whatever the durations are, and a slot holds some dozens of numbers:
C. Masson, J. Rim, H. Lee, DDSketch (VLDB 2019).
"""

import bisect
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import ceil, log

SLOT = 5.0  # seconds
SLOTS = 12  # a minute
RATE_OVER = 2  # whole slots a rate is taken over, beside the one that has begun
ERROR = 0.01  # relative, of a quantile
SHORTEST = 1e-6  # seconds; below, durations are all the same

_LOG_GAMMA = math.log((1 + ERROR) / (1 - ERROR))


class _Slot:
    __slots__ = ("begin", "durations", "errors", "requests")

    def __init__(self, begin: float) -> None:
        self.begin = begin
        self.requests = self.errors = 0
        self.durations: dict[int, int] = defaultdict(int)  # a third of the cost of a Counter's += 1


class Window:
    """The last minute of an endpoint or a service.

    Args:
        now: seconds on any monotonic clock, as in all methods.
    """

    __slots__ = ("_newest", "_since", "_slots")

    def __init__(self, now: float) -> None:
        self._since = now
        self._newest = _Slot(now)
        self._slots: list[_Slot] = [self._newest]

    def add(self, now: float, seconds: float | None = None, *, failed: bool = False) -> None:
        """Count a request.

        Args:
            seconds: until the head of its answer; None if none came.
        """
        slot = self._newest
        if now - slot.begin >= SLOT:
            slot = self._begin_slot(now)
        slot.requests += 1
        if failed:
            slot.errors += 1
        if seconds is not None:
            slot.durations[_bucket(seconds)] += 1

    def observe(self, now: float, seconds: float) -> None:
        """Take note of how long a request has taken that is not counted."""
        slot = self._newest if now - self._newest.begin < SLOT else self._begin_slot(now)
        slot.durations[_bucket(seconds)] += 1

    @classmethod
    def of(cls, windows: Iterable["Window"], now: float) -> "Window":
        """Several as one, to be read."""
        found = list(windows)
        merged = cls(min((window._since for window in found), default=now))
        merged._slots = [slot for window in found for slot in window._slots]
        return merged

    def _begin_slot(self, now: float) -> _Slot:
        slots = self._slots
        if len(slots) == SLOTS:
            del slots[0]
        self._newest = _Slot(self._newest.begin + (now - self._newest.begin) // SLOT * SLOT)
        slots.append(self._newest)
        return self._newest

    def _recent(self, now: float, seconds: float) -> Iterator[_Slot]:
        return (slot for slot in self._slots if now - slot.begin < seconds)

    def rate(self, now: float) -> float:
        """Requests per second, over the last 10 to 15 of them."""
        into_slot = (now - self._since) % SLOT
        seconds = min(into_slot + RATE_OVER * SLOT, now - self._since)
        requests = sum(slot.requests for slot in self._recent(now, into_slot + RATE_OVER * SLOT + SLOT / 2))
        return requests / max(seconds, 1.0)

    def error_rate(self, now: float) -> float:
        """The share of the last minute's requests that failed; 0 if there were none."""
        recent = list(self._recent(now, SLOT * SLOTS))
        requests = sum(slot.requests for slot in recent)
        return sum(slot.errors for slot in recent) / requests if requests else 0.0

    def samples(self, now: float) -> int:
        """How many of the last minute's requests were answered."""
        return sum(sum(slot.durations.values()) for slot in self._recent(now, SLOT * SLOTS))

    def quantiles(self, now: float, shares: Sequence[float]) -> list[float | None]:
        """Seconds that as large shares of the last minute's answers took at most; None if there were none."""
        counts: dict[int, int] = defaultdict(int)
        for slot in self._recent(now, SLOT * SLOTS):
            for bucket, count in slot.durations.items():
                counts[bucket] += count
        buckets = sorted(counts)
        below = list(itertools.accumulate(counts[bucket] for bucket in buckets))
        if not below:
            return [None for _ in shares]
        return [_middle(buckets[bisect.bisect(below, share * (below[-1] - 1))]) for share in shares]


def _bucket(seconds: float) -> int:
    return ceil(log(seconds if seconds > SHORTEST else SHORTEST) / _LOG_GAMMA)


def _middle(bucket: int) -> float:
    """Seconds that are within ERROR of all that a bucket counts."""
    return 2 * math.exp(bucket * _LOG_GAMMA) / (1 + math.exp(_LOG_GAMMA))
