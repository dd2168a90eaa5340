"""Histograms of the durations of requests, by method, route and status, as Prometheus defines histograms."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

# Upper bounds in seconds. The gateway takes a fraction of a millisecond; a service may take any time.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# All other methods share a series: a client that invents methods must not make new series.
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
OTHER = b"OTHER"


@dataclass(slots=True)
class Histogram:
    """A histogram of durations.

    Attributes:
        counts: durations in each bucket: above the bound before, up to the own bound. The last bucket has no bound.
        total: sum of the durations in seconds.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0


class Durations:
    """A histogram for each method, route and status."""

    def __init__(self) -> None:
        self._histograms: dict[tuple[bytes, str, int], Histogram] = {}

    def add(self, method: bytes, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended.

        Args:
            seconds: from the request's head to the end of the response; of a stream, to the head of the response.
        """
        histogram = self._histograms.get((method, route, status)) or self._of(method, route, status)
        histogram.counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        histogram.total += seconds

    def _of(self, method: bytes, route: str, status: int) -> Histogram:
        return self._histograms.setdefault((method if method in METHODS else OTHER, route, status), Histogram())

    def __iter__(self) -> Iterator[tuple[tuple[str, str, int], Histogram]]:
        """Method, route and status of each histogram, and the histogram."""
        for (method, route, status), histogram in list(self._histograms.items()):
            yield (method.decode("ascii"), route, status), histogram
