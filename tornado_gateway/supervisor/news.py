"""The supervisor's own log, as events of the dashboards of all workers: reloads, and workers that end and start."""

import asyncio
from collections.abc import Callable

from tornado_gateway.adapters.event_log import Listener


class News(Listener):
    """Tells each line. Made inside a running event loop.

    Args:
        tell: gets what an EventLog learns: instant (Unix time), level, text.
    """

    def __init__(self, tell: Callable[[list[object]], None]) -> None:
        super().__init__()
        self._tell, self._loop = tell, asyncio.get_running_loop()

    def hear(self, at: float, level: int, text: str) -> None:
        self._loop.call_soon_threadsafe(self._tell, [at, level, text])
