"""Requests that wait until there is room for them, in the order in which they came.

A request that belongs to one endpoint waits for room there, and holds up nobody who may go elsewhere.
"""

from collections.abc import Callable

from tornado_gateway.errors import Overflow
from tornado_gateway.policy.upstream.endpoint import Endpoint

Go = Callable[[], None]


class Queue:
    """
    Args:
        size: requests that may wait at once; 0 for none.

    Attributes:
        size: see above; may be changed at any time.
        waiting: those who do, in order, each with the endpoint that it belongs to, if it does.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: dict[Go, Endpoint | None] = {}
        self._is_releasing = False

    def join(self, go: Go, pinned: Endpoint | None = None) -> None:
        """Have something called, once, when there is room.

        Args:
            pinned: the only endpoint whose room is of use; None if any is.

        Raises:
            Overflow: as many wait already as may.
        """
        if len(self.waiting) >= self.size:
            raise Overflow
        self.waiting[go] = pinned

    def leave(self, go: Go) -> None:
        """Whoever waited has left; it need not have waited."""
        self.waiting.pop(go, None)

    def is_ahead_of(self, pinned: Endpoint | None) -> bool:
        """Whether somebody waits for what a newcomer would take: who comes last must not go first."""
        return bool(self.waiting) and any(each in (None, pinned) for each in self.waiting.values())

    def release(self, has_room: Callable[[Endpoint | None], bool]) -> None:
        """Call as many as there is room for; each takes some of it, or ends at once.

        Args:
            has_room: tells whether an endpoint has, or any if it is given None.
        """
        if self._is_releasing:
            return  # who goes on may fail at once, and so end here again
        self._is_releasing = True
        try:
            while (go := self._first(has_room)) is not None:
                del self.waiting[go]
                go()
        finally:
            self._is_releasing = False

    def _first(self, has_room: Callable[[Endpoint | None], bool]) -> Go | None:
        if not self.waiting:
            return None
        is_any = has_room(None)  # asked once: it may take a look at all endpoints
        return next((go for go, pinned in self.waiting.items() if (has_room(pinned) if pinned else is_any)), None)
