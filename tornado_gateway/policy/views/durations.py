"""Histograms of the durations of requests, by method, route, status and service; and the reasons of failures.

Each request is counted once, when the request ends.
"""

import bisect
from collections import defaultdict
from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple

from tornado_gateway.policy.histogram import SECONDS, Histogram

BOUNDS = SECONDS

# All other methods share a series: a client that invents methods must not make new series.
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
OTHER = b"OTHER"

# Other statuses of a class share a series: some services answer with the status that a client asks for.
STATUSES = frozenset((*(status.value for status in HTTPStatus), 499))

# Seconds from which on a request is kept as the example of its bucket. Who looks for a request in a histogram looks for
# a slow one, and a quick request is to cost one comparison.
EXAMPLES_FROM = 0.1


class Example(NamedTuple):
    """A request that a bucket of a histogram has counted (an exemplar of OpenMetrics).

    Attributes:
        at: seconds since 1970 at the end of the request.
        seconds: duration.
        request_id: the id of the request.
        trace_id: "" without a trace.
    """

    at: float
    seconds: float
    request_id: str
    trace_id: str


class Key(NamedTuple):
    """What a histogram is of.

    Attributes:
        status: "200"; of a status that has no name, the class: "2xx".
        service: name of the service; "" for a request that was refused before admission, or that is for a page.
        is_stream: whether the answers are streams.
    """

    method: str
    route: str
    status: str
    service: str
    is_stream: bool


class Durations:
    """A histogram for each Key.

    Attributes:
        reasons: requests that failed or ended early, by service and reason in the access log.
        examples: the newest slow request of each service and bucket, without streams.
    """

    def __init__(self) -> None:
        self._histograms: dict[tuple[bytes, str, int, str, bool], Histogram] = {}
        self._named: list[tuple[Key, Histogram]] = []  # the same; a scrape reads thousands
        self.reasons: defaultdict[tuple[str, str], int] = defaultdict(int)  # a Counter counts at half the speed
        self.examples: dict[tuple[str, int], Example] = {}

    def add(
        self, method: bytes, route: str, status: int, seconds: float, service: str = "", is_stream: bool = False
    ) -> None:
        """Count a request that has ended.

        Args:
            service, is_stream: see Key.
            seconds: from the request's head to the end of the response; of a stream, to the head of the response.
        """
        key = (method, route, status, service, is_stream)
        histogram = self._histograms.get(key) or self._of(key)
        histogram.counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        histogram.total += seconds

    def keep(self, service: str, example: Example) -> None:
        """Keep a request as the example of its bucket."""
        self.examples[service, bisect.bisect_left(BOUNDS, example.seconds)] = example

    def _of(self, key: tuple[bytes, str, int, str, bool]) -> Histogram:
        method, route, status, service, is_stream = key
        bounded, status = method if method in METHODS else OTHER, _bounded(status)
        key = (bounded, route, status, service, is_stream)
        if key not in self._histograms:
            histogram = self._histograms[key] = Histogram()
            named = str(status) if status > 99 else f"{status}xx"
            self._named.append((Key(bounded.decode("ascii"), route, named, service, is_stream), histogram))
        return self._histograms[key]

    def __iter__(self) -> Iterator[tuple[Key, Histogram]]:
        """Each histogram, and what the histogram is of."""
        return iter(self._named[:])


def _bounded(status: int) -> int:
    """The status; of a status without a name, the first digit alone.

    >>> _bounded(404), _bounded(299), _bounded(777)
    (404, 2, 7)
    """
    return status if status in STATUSES else status // 100
