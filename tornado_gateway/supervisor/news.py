"""The supervisor's own log, as events of the dashboards of all workers: reloads, and workers that end and start."""

import asyncio
import logging
from collections.abc import Callable

from tornado_gateway.adapters.event_log import LOGGER


class News(logging.Handler):
    """Tells each line from `open()` to `close()`. Any thread may log. Made inside a running event loop.

    Args:
        tell: gets what an EventLog learns: instant (Unix time), level, text.
    """

    def __init__(self, tell: Callable[[list[object]], None]) -> None:
        super().__init__(logging.INFO)
        self._tell, self._loop = tell, asyncio.get_running_loop()

    def open(self) -> None:
        logging.getLogger(LOGGER).addHandler(self)

    def close(self) -> None:
        logging.getLogger(LOGGER).removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            said: list[object] = [record.created, record.levelno, record.getMessage()]
        except Exception:  # arguments that do not fit the message, as in logging's handlers
            self.handleError(record)
            return
        self._loop.call_soon_threadsafe(self._tell, said)
