"""When which endpoint is to be looked at again, however many there are."""

import heapq
import itertools

from tornado_gateway.policy.upstream.endpoint import Endpoint


class ProbeSchedule:
    """Each endpoint has one date at most: the earliest it was given. Asking whether any has come costs nothing much."""

    __slots__ = ("_dates", "_heap", "_numbers")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Endpoint]] = []  # a number, for endpoints have no order
        self._numbers = itertools.count()
        self._dates: dict[Endpoint, float] = {}  # those that hold: what else is in the heap is outdated

    def put(self, endpoint: Endpoint, at: float) -> None:
        """Look at an endpoint from an instant on, unless it is to be looked at before."""
        if at < self._dates.get(endpoint, float("inf")):
            self._dates[endpoint] = at
            heapq.heappush(self._heap, (at, next(self._numbers), endpoint))

    def take(self, until: float) -> Endpoint | None:
        """Strike out the endpoint whose turn it is, if that is not after an instant; the longest overdue one first."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            at, _, endpoint = heapq.heappop(heap)
            if self._dates.get(endpoint) == at:
                del self._dates[endpoint]
                return endpoint
        return None

    def remove(self, endpoint: Endpoint) -> None:
        """Strike out an endpoint, whenever its turn is."""
        self._dates.pop(endpoint, None)
