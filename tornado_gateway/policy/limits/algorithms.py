"""The two algorithms that count requests.

Both are exact integer arithmetic on nanoseconds: no rounding grows with the uptime.

`Gcra`, the generic cell rate algorithm (ITU-T I.371, virtual scheduling): a client has a bucket of `burst` requests,
which refills evenly at `limit` per `window`. State: one integer, the instant at which the bucket is full again.

    Bound: in any interval of L seconds at most burst + L * limit / window requests are admitted, so at most
    burst + limit in a window. A client that keeps below the rate is never refused.

`Sliding`, a sliding window in SLICES slices: a client may make `limit` requests in the slice of now and the SLICES
slices before. State: the count of each slice.

    Bound: in any interval of `window` seconds at most `limit` requests are admitted: never one more than an exact log
    admits. A request is refused only if `limit` requests were admitted within window * (1 + 1 / SLICES) seconds, so
    a client waits at most an eighth of the window longer than with an exact log.

A refused request is not counted: a client that tries on is admitted as soon as a client that has waited.
"""

import struct
from typing import NamedTuple, Protocol

SECOND = 1_000_000_000  # nanoseconds
SLICES = 8  # of a sliding window, beside the slice of now

_SLICES = struct.Struct(f"<Q{SLICES + 1}I")  # number of the newest slice, and the counts from the newest to the oldest
_FULL = 2**32 - 1  # the largest count of a slice; a larger count stays here

_new = tuple.__new__  # makes a NamedTuple without a call of a function in Python


class Judgement(NamedTuple):
    """What an algorithm says about one request of one client.

    Attributes:
        wait: seconds until the request would be admitted; 0.0 if the request is admitted.
        remaining: further requests that would be admitted at once.
        renewal: seconds until `remaining` grows.
        reset: seconds until the whole limit is available again.
        state: the client's state once the request has been admitted; without a meaning for a refused request.
    """

    wait: float
    remaining: int
    renewal: float
    reset: float
    state: int | bytes = 0


class Algorithm(Protocol):
    """Judges requests of a client by the client's state. `now` is an instant in nanoseconds on any monotonic clock."""

    fresh: int | bytes

    def judge(self, state: int | bytes, now: int) -> Judgement:
        """Judge a request, and change nothing.

        Args:
            state: of the client; `fresh` for an unknown client.
        """

    def charge(self, state: int | bytes, now: int, cost: int) -> int | bytes:
        """The state after `cost` more requests, even more than the limit."""

    def load(self, state: int | bytes, now: int) -> float:
        """How much of the limit is used: 0.0 for a state that says no more than `fresh`, 1.0 for all."""


class Gcra:
    """The generic cell rate algorithm.

    The state is an instant in units of nanosecond / limit, in which the time for one request is a whole number.

    Args:
        limit, burst: requests; ≥ 1.
        window: nanoseconds; ≥ 1.
    """

    __slots__ = ("_capacity", "_limit", "_scale", "_window")

    fresh: int | bytes = 0

    def __init__(self, limit: int, window: int, burst: int) -> None:
        self._limit, self._window = limit, window
        self._capacity = burst * window
        self._scale = limit * SECOND

    def judge(self, state: int | bytes, now: int) -> Judgement:
        at, window = now * self._limit, self._window
        used = state - at if state > at else 0  # type: ignore[operator]  # the state of a Gcra is an integer
        free = self._capacity - used
        if free < window:
            wait = (window - free) / self._scale
            return Judgement(wait, 0, wait, used / self._scale)
        free -= window
        used += window
        remaining = free // window
        renewal = ((remaining + 1) * window - free) / self._scale
        return _new(Judgement, (0.0, remaining, renewal, used / self._scale, at + used))

    def charge(self, state: int | bytes, now: int, cost: int) -> int:
        return max(state, now * self._limit) + cost * self._window  # type: ignore[operator]

    def load(self, state: int | bytes, now: int) -> float:
        return max(0, state - now * self._limit) / self._capacity  # type: ignore[operator]


class Sliding:
    """A sliding window in slices.

    Args:
        limit: requests; ≥ 1.
        window: nanoseconds; ≥ SLICES.
    """

    __slots__ = ("_limit", "_slice")

    fresh: int | bytes = b""

    def __init__(self, limit: int, window: int) -> None:
        self._limit, self._slice = limit, -(-window // SLICES)  # rounded up: the slices cover the window

    def judge(self, state: int | bytes, now: int) -> Judgement:
        newest, counts = self._counts(state, now)
        total = sum(counts)
        if total >= self._limit:
            wait = self._until(newest, counts, total - self._limit + 1, now)
            return Judgement(wait, 0, wait, self._until(newest, counts, total, now))
        counts[0] = min(counts[0] + 1, _FULL)
        renewal, reset = self._until(newest, counts, 1, now), self._until(newest, counts, total + 1, now)
        return Judgement(0.0, self._limit - total - 1, renewal, reset, _SLICES.pack(newest, *counts))

    def charge(self, state: int | bytes, now: int, cost: int) -> bytes:
        newest, counts = self._counts(state, now)
        counts[0] = min(counts[0] + cost, _FULL)
        return _SLICES.pack(newest, *counts)

    def load(self, state: int | bytes, now: int) -> float:
        return sum(self._counts(state, now)[1]) / self._limit

    def _counts(self, state: int | bytes, now: int) -> tuple[int, list[int]]:
        """The number of the slice of now, and the counts from this slice to the oldest."""
        newest = now // self._slice
        if not state:
            return newest, [0] * (SLICES + 1)
        last, *counts = _SLICES.unpack(state)  # type: ignore[arg-type]  # the state of a Sliding is bytes
        passed = min(max(0, newest - last), SLICES + 1)
        return max(newest, last), ([0] * passed + counts)[: SLICES + 1]

    def _until(self, newest: int, counts: list[int], number: int, now: int) -> float:
        """Seconds until `number` of the counted requests, the oldest, count no more."""
        for age in range(SLICES, -1, -1):
            number -= counts[age]
            if number <= 0:
                break
        return ((newest - age + SLICES + 1) * self._slice - now) / SECOND
