"""Attempts to log in, by client: a client that has failed too often has to wait.

    begin ──► counted ──► succeed: forgotten
                     └──► otherwise: counted until the attempt is WINDOW seconds old

An attempt counts from the beginning, so that attempts at the same time do not evade the limit.
"""

from collections.abc import Callable

MOST = 10  # failed attempts; more than a person makes who has forgotten which of some passwords it was
WINDOW = 60.0  # seconds
CLIENTS = 10_000  # clients that are remembered; some 4 MiB

Tell = Callable[[str, float, bool], None]  # the client, the instant of the attempt, and whether the attempt begins


class Attempts:
    """Counts attempts.

    Args:
        most: attempts of a client within `window` that may fail; ≥ 1.
        window: seconds that a failed attempt counts.
        clients: greatest number of clients that are remembered. Then the client is forgotten whose last attempt is the
            oldest: a flood of addresses gets no more attempts than new addresses have anyway.
        tell: is told of each attempt that begins or succeeds here, for learn() of another process.
    """

    def __init__(
        self, most: int = MOST, window: float = WINDOW, clients: int = CLIENTS, tell: Tell | None = None
    ) -> None:
        self._most, self._window, self._clients, self._tell = most, window, clients, tell
        self._began: dict[str, list[float]] = {}  # by client, the oldest first; the latest client last

    def wait(self, client: str, now: float) -> float:
        """Seconds until the client may try again; 0.0 for a client that may try now.

        Args:
            now: seconds on a monotonic clock.
        """
        began = self._counted(client, now)
        return began[-self._most] + self._window - now if len(began) >= self._most else 0.0

    def begin(self, client: str, now: float) -> None:
        """Count an attempt."""
        self._count(client, now)
        if self._tell:
            self._tell(client, now, True)

    def succeed(self, client: str, began: float) -> None:
        """Forget an attempt that has not failed.

        Args:
            began: the `now` of begin().
        """
        self._forget(client, began)
        if self._tell:
            self._tell(client, began, False)

    def learn(self, client: str, began: float, begins: bool) -> None:  # as Tell has it
        """Count or forget an attempt in another process of the machine."""
        (self._count if begins else self._forget)(client, began)

    def _count(self, client: str, now: float) -> None:
        began = sorted([*self._counted(client, now), now])
        self._began.pop(client, None)
        if len(self._began) >= self._clients:
            del self._began[next(iter(self._began))]
        self._began[client] = began

    def _forget(self, client: str, began: float) -> None:
        left = self._began.get(client, [])
        if began in left:
            left.remove(began)
        if not left:
            self._began.pop(client, None)

    def _counted(self, client: str, now: float) -> list[float]:
        return [each for each in self._began.get(client, ()) if each > now - self._window]
