"""How long requests took, counted the way Prometheus wants it: by method, route and status, in buckets."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

# Upper bounds in seconds. A gateway's own share is a fraction of a millisecond, its services' anything.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Other methods are counted together: a client must not be able to make as many series as it can think of words.
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
OTHER = b"OTHER"


@dataclass(slots=True)
class Histogram:
    """
    Attributes:
        counts: of durations up to each bound but above the one before it; the last one is of those above all.
        total: seconds.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0


class Durations:
    """The durations of all requests."""

    def __init__(self) -> None:
        self._histograms: dict[tuple[bytes, str, int], Histogram] = {}

    def add(self, method: bytes, route: str, status: int, seconds: float) -> None:
        histogram = self._histograms.get((method, route, status)) or self._of(method, route, status)
        histogram.counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        histogram.total += seconds

    def _of(self, method: bytes, route: str, status: int) -> Histogram:
        return self._histograms.setdefault((method if method in METHODS else OTHER, route, status), Histogram())

    def __iter__(self) -> Iterator[tuple[tuple[str, str, int], Histogram]]:
        """Method, route and status, with what was counted of them."""
        for (method, route, status), histogram in list(self._histograms.items()):
            yield (method.decode("ascii"), route, status), histogram
