"""Histograms as Prometheus defines histograms: counts by upper bound, and a sum."""

import bisect

# Upper bounds in seconds of durations up to a response's head or end. The gateway takes a fraction of a millisecond; a
# service may take any time.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Upper bounds in seconds of the lives of streams, from a stream that fails at once to a day.
LIVES = (1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 86400.0)

# Upper bounds in seconds of the pauses between events: from the tokens of a model to a heartbeat.
PAUSES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


class Histogram:
    """A histogram of durations. Code on the path of every request may change `counts` and `total` itself.

    Attributes:
        bounds: upper bounds in seconds, in ascending order.
        counts: durations in each bucket: above the bound before, up to the own bound. The last bucket has no bound.
        total: sum of the durations in seconds.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect.bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(self.counts)
