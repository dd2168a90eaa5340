"""A schedule of probes: at most one probe time per endpoint, the earliest first."""

import heapq
import itertools

from tornado_gateway.policy.upstream.endpoint import Endpoint


class ProbeSchedule:
    """The probe time of each endpoint. take() costs little while no probe is due, with any number of endpoints."""

    __slots__ = ("_heap", "_numbers", "_times")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Endpoint]] = []  # the number breaks ties: endpoints have no order
        self._numbers = itertools.count()
        self._times: dict[Endpoint, float] = {}  # an entry of the heap with another time is outdated

    def put(self, endpoint: Endpoint, at: float) -> None:
        """Schedule a probe of an endpoint at an instant, unless an earlier probe is scheduled."""
        if at < self._times.get(endpoint, float("inf")):
            self._times[endpoint] = at
            heapq.heappush(self._heap, (at, next(self._numbers), endpoint))

    def take(self, until: float) -> Endpoint | None:
        """Take the earliest probe that is due at an instant out of the schedule; None if no probe is due."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            at, _, endpoint = heapq.heappop(heap)
            if self._times.get(endpoint) == at:
                del self._times[endpoint]
                return endpoint
        return None

    def remove(self, endpoint: Endpoint) -> None:
        """Take the probe of an endpoint out of the schedule, if there is a probe."""
        self._times.pop(endpoint, None)
