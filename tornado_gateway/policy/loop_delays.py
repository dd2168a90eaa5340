"""The delays of the event loop in the last seconds: how late a timer was, again and again."""

import math
from collections import deque

WINDOW = 10.0  # seconds


class LoopDelays:
    """The measurements of the last WINDOW seconds."""

    def __init__(self) -> None:
        self._measured: deque[tuple[float, float]] = deque()  # instant, delay

    def add(self, delay: float, now: float) -> None:
        """Keep a measurement, and forget the measurements that are too old.

        Args:
            delay: seconds.
            now: instant of the measurement, in seconds on any monotonic clock.
        """
        self._measured.append((now, delay))
        while self._measured[0][0] <= now - WINDOW:
            self._measured.popleft()

    def quantiles(self, *shares: float) -> list[float]:
        """For each share, the delay in seconds that this share of the measurements does not exceed; 0.0 without any.

        >>> delays = LoopDelays()
        >>> for number in range(100):
        ...     delays.add(number / 1000, number / 100)
        >>> delays.quantiles(0.5, 0.99, 1.0)
        [0.049, 0.098, 0.099]
        """
        ordered = sorted(delay for _, delay in self._measured) or [0.0]
        return [ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in shares]
