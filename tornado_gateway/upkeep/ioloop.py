"""Tornado's IOLoop on a monotonic clock.

The stock IOLoop reads the wall clock (time.time()), and a PeriodicCallback adds its period to a deadline on that clock:
when the clock is set back by a minute, the callback rests for a minute. Here the IOLoop reads the event loop's
monotonic clock. All of Tornado's deadlines (PeriodicCallback, call_later, add_timeout, with_timeout) go by
IOLoop.time(), so that they stay consistent with each other.

time.monotonic() reads the same clock: instants of both may be compared. uvloop's time() counts whole milliseconds and
stands still within a turn of the loop. Which clock is for what:

    loop.time()          deadlines, and the instants that a sweep compares with: wire/, handlers' timers, streams
    gateway.now()        durations that are measured, shown or learned from: policies, figures, the access log
    time.time()          dates: a token's expiry, the Date field, log lines
"""

from tornado.ioloop import IOLoop
from tornado.platform.asyncio import AsyncIOMainLoop


class MonotonicIOLoop(AsyncIOMainLoop):
    """The running event loop's IOLoop, on the event loop's clock."""

    @classmethod
    def install(cls) -> None:
        """Make the IOLoop of the running event loop, unless there is one of this class.

        Raises:
            RuntimeError: the event loop has a stock IOLoop, because something has called IOLoop.current() before.
        """
        if not isinstance(IOLoop.current(instance=False), cls):
            cls()

    def time(self) -> float:
        """Seconds on the event loop's monotonic clock."""
        return self.asyncio_loop.time()
