"""The newest lines of the gateway's own log, as events of the dashboard: discovery, Redis, keys, operators' acts.

Lines are texts: they quote names of hosts, principals and errors. So a text is short, has no character that is not
printable, and shows no credential.
"""

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

from tornado_gateway.adapters.logs import printable
from tornado_gateway.policy.http.redaction import without_credentials
from tornado_gateway.policy.views.board import BAD, NOTE, WARNING, Event

LOGGER = "tornado_gateway"
WAITING = 50  # events that wait for the next look, which comes within some seconds; the oldest are dropped and counted
LONGEST = 300  # characters of a text


class Listener(logging.Handler):
    """Hears each line of the gateway's log from `open()` to `close()`. Any thread may log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)

    def open(self) -> None:
        logging.getLogger(LOGGER).addHandler(self)

    def close(self) -> None:
        logging.getLogger(LOGGER).removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.hear(record.created, record.levelno, record.getMessage())
        except Exception:  # arguments that do not fit the message, or that cannot be shown, as in logging's handlers
            self.handleError(record)

    def hear(self, at: float, level: int, text: str) -> None:
        """Take a line: instant (Unix time), level of `logging`, text."""
        raise NotImplementedError


class EventLog(Listener):
    """Collects events."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Event] = deque(maxlen=WAITING)
        self._dropped = 0

    def hear(self, at: float, level: int, text: str) -> None:
        text = without_credentials(printable(text))
        self._dropped += len(self._waiting) == WAITING
        self._waiting.append(Event(at, _level(level), _short(text)))

    def learn(self, said: Sequence[Any]) -> None:
        """Take a line that another process of the gateway has logged: instant, level, text."""
        at, level, text = said
        self.handle(logging.makeLogRecord({"created": at, "levelno": level, "msg": text}))

    def take(self) -> list[Event]:
        """The events since the last call, the newest last."""
        events = [self._waiting.popleft() for _ in range(len(self._waiting))]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            events.insert(0, Event(events[0].at, NOTE, f"{dropped} more lines are in the gateway's log"))
        return events


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return BAD
    return WARNING if number >= logging.WARNING else NOTE


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
