"""The queue of a service: requests that wait until an endpoint has room, first come, first served.

A request that is pinned to one endpoint waits for that endpoint, and does not delay requests that any endpoint may
serve.
"""

from collections.abc import Callable

from tornado_gateway.errors import Overflow
from tornado_gateway.policy.upstream.endpoint import Endpoint

Resume = Callable[[], None]


class Queue:
    """The waiting requests of a service.

    Args:
        size: requests that may wait at once; 0: no request may wait.

    Attributes:
        size: see above; may be changed at any time.
        waiting: callbacks of the waiting requests, in order, each with the endpoint that the request is pinned to.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: dict[Resume, Endpoint | None] = {}
        self._is_releasing = False

    def join(self, resume: Resume, pinned: Endpoint | None = None) -> None:
        """Add a request at the end of the queue.

        Args:
            resume: called once, when there is room for the request.
            pinned: the only endpoint that may serve the request; None for any endpoint.

        Raises:
            Overflow: the queue is full.
        """
        if len(self.waiting) >= self.size:
            raise Overflow
        self.waiting[resume] = pinned

    def leave(self, resume: Resume) -> None:
        """Remove a request from the queue, if the request is there."""
        self.waiting.pop(resume, None)

    def is_ahead_of(self, pinned: Endpoint | None) -> bool:
        """Whether a waiting request comes before a new request with this pinned endpoint: both want the same room."""
        return bool(self.waiting) and any(each in (None, pinned) for each in self.waiting.values())

    def release(self, has_room: Callable[[Endpoint | None], bool]) -> None:
        """Resume as many requests as there is room for. A resumed request takes room, or ends at once.

        Args:
            has_room: whether the given endpoint has room; for None, whether any endpoint has room.
        """
        if self._is_releasing:
            return  # a resumed request may fail at once, and call release() again
        self._is_releasing = True
        try:
            while (resume := self._first(has_room)) is not None:
                del self.waiting[resume]
                resume()
        finally:
            self._is_releasing = False

    def _first(self, has_room: Callable[[Endpoint | None], bool]) -> Resume | None:
        if not self.waiting:
            return None
        any_has_room = has_room(None)  # called once: the call may inspect all endpoints
        return next(
            (resume for resume, pinned in self.waiting.items() if (has_room(pinned) if pinned else any_has_room)), None
        )
