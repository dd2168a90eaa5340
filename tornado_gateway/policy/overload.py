"""Load shedding: which requests are refused while the gateway has more work than it can do.

Four figures have a threshold each: the delay of the event loop, the bytes in use of malloc, the resident bytes, and the
requests in flight. The share of its threshold that a figure has reached decides about the classes of requests:

    class              shed from    shed whole from
    low streams        0.70         0.75
    low requests       0.75         0.80
    new streams        0.80         0.90
    requests           0.90         1.00
    high streams       1.00         1.10
    high requests      1.10         1.20

Between its two shares a growing part of a class is shed, by chance. So ordinary requests are shed whole from the
threshold on, and less important requests before the threshold. The figure that has reached the largest share decides.

The level says how many classes are shed: at 3.25, the first three classes and a quarter of the fourth. For the memory
and the requests in flight, the level rises as the table says and falls RELEASE lower (hysteresis): what was shed at a
share of 1.0 is admitted again at 0.9.

The delay of the event loop has a level that seeks its own place, because the delay follows from what is admitted. A
level that jumped with the delay would swing: all is shed until no request waits, then all is admitted until thousands
wait (measured at twice what the loop can do: a p99 of 1,600 ms at a threshold of 50 ms). So the level moves a part of
the way with each measurement that is too late, and falls steadily with time; Zhou et al., "Overload Control for Scaling
WeChat Microservices" (SoCC 2018, DAGOR), let the level of admission move alike. Meanwhile the running turn of the event
loop is bounded: a request that the loop reaches late is judged by how late the loop is at this instant.

What has begun is never shed: neither a running stream nor a request in flight. The gateway's own pages have no class.
"""

import math
import random
from bisect import bisect_right
from dataclasses import dataclass
from enum import IntEnum

# Names of the classes, in the order in which the classes are shed. First by priority; streams before requests, because
# a stream is work for hours. The names are labels of a metric.
CLASSES = ("low_stream", "low_request", "stream", "request", "high_stream", "high_request")
ORDINARY = CLASSES.index("request")

# Shares of a threshold between which each class is shed in part. The part of ordinary requests ends at the threshold.
_BARS = (0.7, 0.75, 0.8, 0.9, 1.0, 1.1, 1.2)
RELEASE = 0.9  # the level falls at shares that are lower by a tenth

# How the level of the delay moves. In the simulation of tests/policy/test_overload.py, at 1.2 times what an event loop
# can do and with another process that takes the core for 50 to 100 ms twice a second, a rise of 0.2 serves half as many
# requests, because each such pause raises the level by a class.
RISE = 0.1  # part of the way to the level of the table, with each measurement

LATEST = 5  # seconds of Retry-After at most: clients come back spread over five seconds


class Priority(IntEnum):
    """How important the requests of a service or route are."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


@dataclass(frozen=True, slots=True)
class OverloadConfig:
    """The thresholds; math.inf for none.

    Attributes:
        max_delay: seconds that the event loop is late; the existing gateway's second.
        max_heap: bytes in use of malloc.
        max_resident: bytes of memory that are resident.
        max_in_flight: requests in flight of all services, without streams; ≥ 1.
        recovery: seconds until a gateway that has shed all classes, because of the delay, admits all again; > 0.
    """

    max_delay: float = 1.0
    max_heap: float = math.inf
    max_resident: float = math.inf
    max_in_flight: float = math.inf
    recovery: float = 6.0

    @property
    def limits_memory(self) -> bool:
        return min(self.max_heap, self.max_resident) < math.inf

    @property
    def is_on(self) -> bool:
        return self.limits_memory or min(self.max_delay, self.max_in_flight) < math.inf


def shed_class(priority: Priority, *, is_stream: bool) -> int:
    """The index in CLASSES.

    >>> CLASSES[shed_class(Priority.NORMAL, is_stream=True)], CLASSES[shed_class(Priority.LOW, is_stream=False)]
    ('stream', 'low_request')
    """
    return 2 * priority + (not is_stream)


def level_of(share: float) -> float:
    """How many classes are shed at a share of the threshold, from 0 to 6.

    >>> level_of(0.7), level_of(1.0), level_of(1.15), level_of(9.0)
    (0.0, 4.0, 5.5, 6.0)
    """
    index = bisect_right(_BARS, share)
    if index == 0:
        return 0.0
    if index == len(_BARS):
        return float(len(CLASSES))
    low, high = _BARS[index - 1], _BARS[index]
    return round(index - 1 + (share - low) / (high - low), 6)


class _Figure:
    """A figure with a threshold, and the level that follows from the figure, with hysteresis."""

    __slots__ = ("_threshold", "level")

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self.level = 0.0

    def update(self, value: float) -> None:
        share = value / self._threshold
        self.level = min(max(self.level, level_of(share)), level_of(share / RELEASE))


class _Delay:
    """The delay of the event loop, and its level.

    Args:
        threshold: seconds.
        recovery: see OverloadConfig.

    Attributes:
        wanted: the level of the table at the last measurement.
        late_from: see Overload.
    """

    __slots__ = ("_due", "_measured", "_recovery", "_threshold", "late_from", "level", "wanted")

    def __init__(self, threshold: float, recovery: float) -> None:
        self._threshold, self._recovery = threshold, recovery
        self._due = self._measured = -math.inf
        self.level = self.wanted = 0.0
        self.late_from = math.inf

    def measured(self, delay: float, now: float, due: float) -> None:
        """Take a measurement; see Overload.observe_delay()."""
        wanted = self.wanted = level_of(delay / self._threshold)
        passed, self._measured = now - self._measured, now
        if wanted > self.level:
            self.level += RISE * (wanted - self.level)
        else:
            self.level = max(wanted, self.level - len(CLASSES) * passed / self._recovery)
        self._due, self.late_from = due, due + _BARS[0] * self._threshold

    def level_at(self, now: float) -> float:
        """The level by the lateness of the measurement that is due."""
        return level_of((now - self._due) / self._threshold) if now > self.late_from else 0.0


class Overload:
    """The state of the overload.

    Args:
        rng: chooses which requests of a class are shed while a part of the class is.

    Attributes:
        level: how many classes are shed; 0.0 while none is.
        late_from: instant from which on the event loop is so late that classes are shed whatever the level;
            math.inf without a measurement that is due.
        counts_requests: whether take() and give_back() are to be called.
        in_flight: requests between take() and give_back().
        shed: requests that were shed, by class.
    """

    __slots__ = (
        "_calm", "_delay", "_heap", "_held", "_resident", "_rng", "counts_requests", "in_flight", "late_from", "level",
        "shed",
    )  # fmt: skip

    def __init__(self, config: OverloadConfig, rng: random.Random) -> None:
        self._rng = rng
        self._delay, self._heap = _Delay(config.max_delay, config.recovery), _Figure(config.max_heap)
        self._resident, self._held = _Figure(config.max_resident), _Figure(config.max_in_flight)
        self._calm = _BARS[0] * config.max_in_flight  # below this number the level does not rise
        self.counts_requests = config.max_in_flight < math.inf
        self.level, self.late_from = 0.0, math.inf
        self.in_flight = 0
        self.shed = dict.fromkeys(CLASSES, 0)

    def reconfigure(self, config: OverloadConfig) -> None:
        """Use other thresholds. The counts of requests stay; a figure counts from its next measurement."""
        self._delay, self._heap, self.late_from = (
            _Delay(config.max_delay, config.recovery),
            _Figure(config.max_heap),
            math.inf,
        )
        self._resident, self._held = _Figure(config.max_resident), _Figure(config.max_in_flight)
        self._calm = _BARS[0] * config.max_in_flight
        self.counts_requests = config.max_in_flight < math.inf
        self._recount()

    def observe_delay(self, delay: float, now: float, due: float) -> None:
        """Take a measurement of the event loop's delay.

        Args:
            delay: seconds.
            now: instant of the measurement, in seconds on any monotonic clock.
            due: instant at which the next measurement is due.
        """
        self._delay.measured(delay, now, due)
        self.late_from = self._delay.late_from
        self._judge()

    def observe_memory(self, heap: float, resident: float) -> None:
        """Take a measurement of the memory.

        Args:
            heap: bytes in use of malloc; 0 if unknown.
            resident: bytes; 0 if unknown.
        """
        self._heap.update(heap)
        self._resident.update(resident)
        self._judge()

    def take(self) -> None:
        """Count a request in. Call give_back() once when the request has ended."""
        self.in_flight += 1
        if self.in_flight >= self._calm:
            self._recount()

    def give_back(self) -> None:
        """Count a request out."""
        self.in_flight -= 1
        if self._held.level:
            self._recount()

    def _recount(self) -> None:
        self._held.update(self.in_flight)
        self._judge()

    def _judge(self) -> None:
        self.level = max(self._delay.level, self._heap.level, self._resident.level, self._held.level)

    def sheds(self, class_: int, now: float) -> bool:
        """Whether to shed a request of a class, which is then counted.

        Args:
            class_: index in CLASSES.
            now: instant on the clock of observe_delay().
        """
        share = self.level - class_
        if share < 1 and now >= self.late_from:
            share = max(share, self._delay.level_at(now) - class_)
        if share <= 0 or (share < 1 and self._rng.random() >= share):
            return False
        self.shed[CLASSES[class_]] += 1
        return True

    @property
    def is_overloaded(self) -> bool:
        """Whether ordinary requests are shed."""
        return self._shown_level > ORDINARY

    @property
    def shedding(self) -> list[str]:
        """The classes that are shed now, whole or in part."""
        return list(CLASSES[: math.ceil(self._shown_level)])

    @property
    def _shown_level(self) -> float:
        return max(self.level, self._delay.wanted)
