"""When a request is hedged, that is, sent to a second endpoint too: behind the 95th percentile of recent latencies.

Source: J. Dean, L. A. Barroso, The Tail at Scale (2013): hedging behind the 95th percentile adds 5 % of load.
"""

import math

from tornado_gateway.policy.upstream.statistics import Window

QUANTILE = 0.95  # of the last minute's latencies
MIN_ANSWERS = 10  # answers in the last minute below which no request is hedged
REFRESH = 1.0  # seconds between two computations of the quantile


class Hedging:
    """The latencies of one service, over all endpoints, and the hedges.

    Attributes:
        sent: requests that were hedged.
        won: hedged requests that the second endpoint answered first.
    """

    __slots__ = ("_after", "_answers", "_refresh_at", "sent", "won")

    def __init__(self) -> None:
        self.sent = self.won = 0
        self._answers = Window(0.0)
        self._after: float | None = None
        self._refresh_at = -math.inf

    def observe(self, now: float, seconds: float) -> None:
        """Add the seconds from a request to the head of the response, or to now if another endpoint was faster."""
        self._answers.observe(now, seconds)

    def after(self, now: float) -> float | None:
        """Seconds without a response's head after which a request is hedged; None with too few known latencies."""
        if now >= self._refresh_at:
            minute = self._answers.minute(now)
            (seconds,) = minute.quantiles([QUANTILE])
            self._after = seconds if minute.answers >= MIN_ANSWERS else None
            self._refresh_at = now + REFRESH
        return self._after
