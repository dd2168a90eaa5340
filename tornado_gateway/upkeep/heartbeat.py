"""A periodic sweep over all connections, streams and services, instead of a timer for each.

A deadline is then a number: setting a deadline costs nothing, and most deadlines are moved long before they pass. The
heartbeat decides when sweeps run; each sweeper decides what has waited too long and what follows.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from tornado.ioloop import PeriodicCallback

SHARE_OF_SHORTEST = 0.1  # a timeout is noticed late by at most this share of the shortest timeout
SLOWEST = 0.5  # seconds between two sweeps at most
FASTEST = 0.02  # seconds between two sweeps at least


class Sweeper(Protocol):
    """An object with deadlines, which the heartbeat makes it enforce by calling sweep()."""

    @property
    def shortest_timeout(self) -> float:
        """Seconds of the shortest timeout that sweep() enforces; math.inf for none. The value may change."""

    def sweep(self, now: float) -> None:
        """End what has waited too long.

        Args:
            now: seconds on the event loop's clock.
        """


def no_timeout() -> float:
    return math.inf


class Heartbeat:
    """Calls each sweeper periodically. Made inside a running event loop whose IOLoop is a MonotonicIOLoop.

    The interval follows the shortest timeout, which is asked for every SLOWEST seconds: services come and go.

    Args:
        sweepers: called in this order, each with the same instant.
        services_timeout: gives the shortest timeout of all services, in seconds. Exchanges and streams have the
            timeouts of their service.
    """

    def __init__(self, *sweepers: Sweeper, services_timeout: Callable[[], float] = no_timeout) -> None:
        self._sweepers, self._services_timeout = [*sweepers], services_timeout
        self._loop = asyncio.get_running_loop()
        self._is_hastened = False
        self._next_question = -math.inf  # instant at which the shortest timeout is asked for
        self._periodic = PeriodicCallback(self.sweep, self._wanted() * 1000)

    def add(self, sweeper: Sweeper) -> None:
        """Call one more sweeper, after the others."""
        self._sweepers.append(sweeper)

    def remove(self, sweeper: Sweeper) -> None:
        """Call a sweeper no more."""
        self._sweepers.remove(sweeper)

    @property
    def interval(self) -> float:
        """Seconds between two sweeps."""
        return self._periodic.callback_time / 1000

    def start(self) -> None:
        self._periodic.start()

    def hasten(self) -> None:
        """Sweep every FASTEST seconds from now on, so that ends that are spread over time come evenly."""
        self._is_hastened = True
        if self._periodic.is_running():
            self._periodic.stop()
            self._periodic.callback_time = FASTEST * 1000
            self._periodic.start()

    def stop(self) -> None:
        self._periodic.stop()

    def sweep(self) -> None:
        """Call each sweeper now. The event loop's exception handler is told of a sweeper that fails; the others run."""
        now = self._loop.time()
        self._adjust(now)
        for sweeper in self._sweepers:
            try:
                sweeper.sweep(now)
            except Exception as error:  # as asyncio treats an exception of any callback
                message = f"the sweep of {type(sweeper).__name__} failed"
                self._loop.call_exception_handler({"message": message, "exception": error})

    def _adjust(self, now: float) -> None:
        if now >= self._next_question:
            self._next_question = now + SLOWEST
            self._periodic.callback_time = self._wanted() * 1000

    def _wanted(self) -> float:
        if self._is_hastened:
            return FASTEST
        shortest = min(self._services_timeout(), *[each.shortest_timeout for each in self._sweepers], math.inf)
        return min(max(shortest * SHARE_OF_SHORTEST, FASTEST), SLOWEST)
