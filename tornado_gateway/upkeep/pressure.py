"""Measures what policy/overload.py decides by, and what the page /_pressure shows.

A timer that is late tells the delay of the event loop: a request that arrived meanwhile has waited as long. The timer
is set anew when the timer has run, so that a blocked loop makes one measurement and not many.
"""

import asyncio
from collections.abc import Callable

from tornado_gateway.policy.loop_delays import LoopDelays
from tornado_gateway.policy.overload import Overload, OverloadConfig
from tornado_gateway.upkeep import process
from tornado_gateway.wire.server.server import HTTPServer

# Seconds between two measurements of the delay. 20 wake-ups per second take 0.1 % of a core. A turn of the event loop
# can take the time to the next measurement and the threshold, before a request counts as late: so a short threshold
# has measurements that are PER_THRESHOLD times closer.
SHORTEST_TICK, LONGEST_TICK, PER_THRESHOLD = 0.005, 0.05, 4
MEMORY_INTERVAL = 1.0  # seconds between two measurements of the memory, as the existing gateway has


class Pressure:
    """The measurements. Made inside a running event loop.

    Args:
        overload: is told of each measurement.
        now: seconds on a monotonic clock.
        config: the thresholds.

    Attributes:
        tick_length: seconds between two measurements of the delay.
        delays: the delays of the last seconds.
        ticked_at: instant of the last measurement; read by another thread, see watchdog.py.
        server: the server whose connections and accept queue /_pressure shows; None before the server is made.
    """

    def __init__(self, overload: Overload, now: Callable[[], float], config: OverloadConfig) -> None:
        self.overload, self._now = overload, now
        self.delays = LoopDelays()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.ticked_at = self._memory_at = self._due = now()
        self.server: HTTPServer | None = None
        self.reconfigure(config)

    def reconfigure(self, config: OverloadConfig) -> None:
        """Measure for other thresholds, from the next measurement on."""
        self._measures_memory = config.limits_memory
        self.tick_length = min(LONGEST_TICK, max(SHORTEST_TICK, config.max_delay / PER_THRESHOLD))

    def start(self) -> None:
        self.ticked_at = self._now()
        self._due = self.ticked_at + self.tick_length
        self._timer = self._loop.call_later(self.tick_length, self.tick)

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def tick(self) -> None:
        """Measure, and set the timer anew."""
        now = self._now()
        delay = max(0.0, now - self._due)
        self.delays.add(delay, now)
        if self._measures_memory and now >= self._memory_at:
            self._memory_at = now + MEMORY_INTERVAL
            self.overload.observe_memory(process.malloc_bytes() or 0, process.resident_bytes() or 0)
        self.start()
        self.overload.observe_delay(delay, now, self._due)
