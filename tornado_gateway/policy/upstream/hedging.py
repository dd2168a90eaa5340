"""When a second endpoint is asked as well: when the first has taken longer than nearly all of late.

Source: J. Dean, L. A. Barroso, The Tail at Scale (2013): to hedge behind the 95th percentile adds 5 % of load.
"""

import math

from tornado_gateway.policy.upstream.statistics import Window

SLOWER_THAN = 0.95  # of the last minute's answers
FEWEST = 10  # answers that must be known before that is told from them
KEPT = 1.0  # seconds that what was worked out of them is used


class Hedging:
    """What is known of how long a service's answers take, whichever endpoint gave them.

    Attributes:
        sent, won: requests for which a second endpoint was asked, and was the first to answer.
    """

    __slots__ = ("_after", "_answers", "_kept_until", "sent", "won")

    def __init__(self) -> None:
        self.sent = self.won = 0
        self._answers = Window(0.0)
        self._after: float | None = None
        self._kept_until = -math.inf

    def observe(self, now: float, seconds: float) -> None:
        """Take note of how long a request took to its answer's head, or has taken until now without one."""
        self._answers.observe(now, seconds)

    def after(self, now: float) -> float | None:
        """Seconds to an answer's head that nearly all requests of late were within; None if too few are known."""
        if now >= self._kept_until:
            minute = self._answers.minute(now)
            (seconds,) = minute.quantiles([SLOWER_THAN])
            self._after = seconds if minute.answers >= FEWEST else None
            self._kept_until = now + KEPT
        return self._after
