"""Events that other workers have logged, for the dashboard of this one: each text once, whoever tells it.

What happens to the whole gateway, every worker logs: an endpoint that discovery has found, a line of the supervisor.
So a text that is known already from the seconds around is not told again, whether this worker has logged it or another.
A text that this worker logs again and again is told each time.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from tornado_gateway.policy.views.board import Event

AROUND = 10.0  # seconds; workers look up names, and look for files, some seconds apart
KEPT = 200  # texts of others that are remembered: as many as a Board has


class Heard:
    """The events of other workers."""

    def __init__(self) -> None:
        self._heard: deque[Event] = deque(maxlen=KEPT)
        self._waiting: deque[Event] = deque(maxlen=KEPT)

    def learn(self, rows: Iterable[Sequence[Any]], known: Iterable[Event]) -> None:
        """Take events of another worker.

        Args:
            rows: instant, level and text of each.
            known: the events of this worker.
        """
        seen = list(known)
        for row in rows:
            event = Event(*row)
            if not _has(seen, event) and not _has(self._heard, event):
                self._waiting.append(event)
            self._heard.append(event)

    def take(self) -> list[Event]:
        """The events since the last call that nobody here has told."""
        events = list(self._waiting)
        self._waiting.clear()
        return events

    def news_of(self, own: Iterable[Event]) -> list[Event]:
        """The events of this worker that no other has told before."""
        return [each for each in own if not _has(self._heard, each)]


def _has(events: Iterable[Event], wanted: Event) -> bool:
    return any(each.text == wanted.text and abs(each.at - wanted.at) < AROUND for each in events)
