"""Statistics of the last minute: requests that ended, failures, latencies.

A Window is a ring of slots of five seconds. A new slot replaces the oldest. Reading a Window changes nothing and leaves
out slots older than a minute. `minute()` reads a Window into a Minute: plain counts that can be added to other Minutes.

A slot counts latencies in buckets whose bounds grow by a constant factor: quantiles have a relative error of at most
1 %, and a slot holds a few dozen numbers. Source: C. Masson, J. Rim, H. Lee, DDSketch (VLDB 2019).
"""

import bisect
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, fsum, log
from typing import TypeVar

SLOT = 5.0  # seconds
SLOTS = 12  # a minute
RATE_OVER = 2  # whole slots in a rate, beside the newest slot
ERROR = 0.01  # relative error of a quantile
SHORTEST = 1e-6  # seconds; all shorter durations share a bucket

K = TypeVar("K")

_LOG_GAMMA = math.log((1 + ERROR) / (1 - ERROR))


class _Slot:
    __slots__ = ("begin", "durations", "errors", "requests")

    def __init__(self, begin: float) -> None:
        self.begin = begin
        self.requests = self.errors = 0
        self.durations: dict[int, int] = defaultdict(int)  # a third of the cost of a Counter's += 1


@dataclass(slots=True)
class Minute:
    """The counts of a minute, of one Window or of several.

    Attributes:
        requests, errors: requests that ended, and requests that failed.
        durations: answers, by the bucket of the seconds to the head of the answer.
        spans: requests of the last 10 to 15 seconds, by the length of the span in seconds. Windows that began at
            different instants have spans of different lengths. Kept apart, requests add up exactly.
    """

    requests: int = 0
    errors: int = 0
    durations: dict[int, int] = field(default_factory=dict)
    spans: dict[float, int] = field(default_factory=dict)

    @classmethod
    def of(cls, minutes: Iterable["Minute"]) -> "Minute":
        """The sum of several Minutes."""
        total = cls()
        for each in minutes:
            total.add(each)
        return total

    def add(self, other: "Minute") -> None:
        """Add another Minute to this one."""
        self.requests += other.requests
        self.errors += other.errors
        _add(self.durations, other.durations)
        _add(self.spans, other.spans)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return fsum(requests / seconds for seconds, requests in self.spans.items())

    @property
    def error_rate(self) -> float:
        """The share of requests that failed, 0 to 1; 0 without requests."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def answers(self) -> int:
        """How many durations were counted."""
        return sum(self.durations.values())

    def quantiles(self, shares: Sequence[float]) -> list[float | None]:
        """For each share, the seconds within which that share of the answers came; None without answers."""
        buckets = sorted(self.durations)
        below = list(itertools.accumulate(map(self.durations.__getitem__, buckets)))
        if not below:
            return [None for _ in shares]
        return [_middle(buckets[bisect.bisect(below, share * (below[-1] - 1))]) for share in shares]


def _added(counts: Iterable[dict[K, int]]) -> dict[K, int]:
    total: dict[K, int] = {}
    for each in counts:
        _add(total, each)
    return total


def _add(total: dict[K, int], counts: dict[K, int]) -> None:
    get = total.get  # a new key costs less with get() than in a defaultdict
    for key, count in counts.items():
        total[key] = get(key, 0) + count


class Window:
    """The last minute of an endpoint, or of a service's answers.

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
            seconds: from the request to the head of the answer; None without an answer.
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
        """Count a duration, without a request."""
        slot = self._newest if now - self._newest.begin < SLOT else self._begin_slot(now)
        slot.durations[_bucket(seconds)] += 1

    def _begin_slot(self, now: float) -> _Slot:
        slots = self._slots
        if len(slots) == SLOTS:
            del slots[0]
        self._newest = _Slot(self._newest.begin + (now - self._newest.begin) // SLOT * SLOT)
        slots.append(self._newest)
        return self._newest

    def minute(self, now: float) -> Minute:
        """The counts of the last minute."""
        recent = [slot for slot in self._slots if now - slot.begin < SLOT * SLOTS]
        return Minute(
            sum(slot.requests for slot in recent),
            sum(slot.errors for slot in recent),
            _added(slot.durations for slot in recent),
            self._span(now),
        )

    def is_good(self, now: float) -> bool:
        """Whether at least twice as many requests were answered in the last 5 to 10 seconds as have failed.

        Requests whose client left without an answer say nothing. An answer may be a failure, too: hence twice.
        """
        recent = [slot for slot in self._slots if now - slot.begin < 2 * SLOT]
        return sum(sum(slot.durations.values()) for slot in recent) > 2 * sum(slot.errors for slot in recent)

    def _span(self, now: float) -> dict[float, int]:
        """The requests of the rate at this instant, by the seconds in which the requests ended."""
        whole_slots = (now - self._since) % SLOT + RATE_OVER * SLOT
        seconds = max(min(whole_slots, now - self._since), 1.0)
        return {seconds: sum(slot.requests for slot in self._slots if now - slot.begin < whole_slots + SLOT / 2)}


def _bucket(seconds: float) -> int:
    return ceil(log(seconds if seconds > SHORTEST else SHORTEST) / _LOG_GAMMA)


def _middle(bucket: int) -> float:
    """The seconds that represent a bucket: within ERROR of every duration in the bucket."""
    return 2 * math.exp(bucket * _LOG_GAMMA) / (1 + math.exp(_LOG_GAMMA))
