"""What is done again and again. It ends what has waited too long; what that means is decided elsewhere.

One sweep over all connections stands for a timer per connection: a deadline is a
number that costs nothing to set, and most are moved long before they pass.

The beat is kept by the event loop's monotonic clock. Tornado's PeriodicCallback goes by the wall
clock: when that is set back by a minute, nothing would time out for a minute.
"""

import asyncio
from collections.abc import Callable

# A timeout is noticed at most a tenth of the shortest one late, and within half a second.
SHARE_OF_SHORTEST = 0.1
SLOWEST = 0.5  # seconds
FASTEST = 0.02


class Heartbeat:
    """Calls sweeps, again and again, in a running event loop.

    Args:
        shortest: seconds of the shortest timeout there is.
        sweeps: end what has waited too long; each is given the loop's time.

    Attributes:
        interval: seconds between two beats.
    """

    def __init__(self, shortest: float, *sweeps: Callable[[float], None]) -> None:
        self.interval = min(max(shortest * SHARE_OF_SHORTEST, FASTEST), SLOWEST)
        self._sweeps = sweeps
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._next = self._loop.call_later(self.interval, self._beat)

    def hasten(self) -> None:
        """Beat as fast as it may from now on: what is spread over time shall be spread evenly."""
        self.interval = FASTEST
        if self._next:
            self._next.cancel()
            self.start()

    def stop(self) -> None:
        if self._next:
            self._next.cancel()
            self._next = None

    def _beat(self) -> None:
        self.start()
        self.sweep()

    def sweep(self) -> None:
        now = self._loop.time()
        for sweep in self._sweeps:
            sweep(now)
