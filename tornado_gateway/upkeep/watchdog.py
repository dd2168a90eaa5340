"""Finds code that blocks the event loop, and logs the stack of that code while the loop is still blocked.

A thread of its own compares the clock with the last sign of life of the loop. Nothing else could tell: a blocked loop
runs no timer. A call in C that keeps the interpreter's lock keeps this thread from running, too, and is not found; nor
is a process that was stopped as a whole, whose loop is not to blame.
"""

import logging
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

PATIENCE = 1.0  # seconds without a sign of life that count as blocked
INTERVAL = 0.25  # seconds between two looks

log = logging.getLogger("tornado_gateway")


class Watchdog:
    """Watches the event loop of the thread that makes the watchdog.

    Args:
        alive_at: gives the instant of the last sign of life.
        now: seconds on the clock of `alive_at`; called by the watchdog's thread.
    """

    def __init__(self, alive_at: Callable[[], float], now: Callable[[], float]) -> None:
        self._alive_at, self._now = alive_at, now
        self._watched = threading.get_ident()
        self._told_of: float | None = None  # last sign of life before the block that was logged
        self._looked_at = now()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._looked_at = self._now()
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for the end of the thread."""
        self._stop.set()
        if self._thread:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL):
            self.look()

    def look(self) -> None:
        """Log a block, once; unless this look itself comes late, so that the whole process has stood still."""
        now, alive_at = self._now(), self._alive_at()
        is_late, self._looked_at = now - self._looked_at >= PATIENCE, now
        if is_late or now - alive_at < PATIENCE or alive_at == self._told_of:
            return
        self._told_of = alive_at
        blocking = RuntimeError("this code blocks the event loop")
        blocking.__traceback__ = traceback_to(sys._current_frames().get(self._watched))
        log.warning("the event loop is blocked for %.1f s", now - alive_at, exc_info=blocking)


def traceback_to(frame: FrameType | None) -> TracebackType | None:
    """The calls that led to a frame, as a traceback, which every format of the log shows."""
    found: TracebackType | None = None
    while frame:
        found = TracebackType(found, frame, frame.f_lasti, frame.f_lineno or 0)
        frame = frame.f_back
    return found
