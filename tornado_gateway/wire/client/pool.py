"""Idle keep-alive connections to an origin.

The most recently used connection is used next, so the oldest connections stay idle until they time out, and a pool
shrinks to the number of connections that the traffic needs.
"""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Poolable(Protocol):
    """A connection, as a pool uses it.

    Attributes:
        idle_until: instant at which the pool closes the connection.
    """

    idle_until: float

    def close(self) -> None: ...


C = TypeVar("C", bound=Poolable)


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """The limits of a pool.

    Attributes:
        max_idle: greatest number of idle connections per origin; 0 keeps none. nginx's examples use 16 to 32 per
            worker; here a process does the work of several workers.
        idle_timeout: seconds for which an idle connection is kept; > 0. nginx's default is 60.
    """

    max_idle: int = 256
    idle_timeout: float = 60.0


class Pool(Generic[C]):
    """The idle connections to one origin.

    Attributes:
        open: number of connections to the origin, idle or not; the connections update this number.
    """

    __slots__ = ("_config", "_idle", "open")

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self.open = 0
        self._idle: dict[C, None] = {}  # an ordered set, oldest first

    def __len__(self) -> int:
        return len(self._idle)

    def reconfigure(self, config: PoolConfig) -> None:
        """Use other limits, from the next connection that becomes idle."""
        self._config = config

    def take(self) -> C | None:
        """Remove and return the connection that became idle last; None if the pool is empty."""
        return self._idle.popitem()[0] if self._idle else None

    def put(self, connection: C, now: float, hint: float | None = None) -> None:
        """Keep an idle connection; close the oldest connection if the pool is full.

        Args:
            connection: the idle connection.
            now: loop time.
            hint: seconds for which the server keeps the connection ("Keep-Alive: timeout="). The pool keeps the
                connection for a second less, so that no request crosses the server's FIN.
        """
        keep = self._config.idle_timeout if hint is None else min(hint - 1.0, self._config.idle_timeout)
        if keep <= 0 or not self._config.max_idle:
            connection.close()
            return
        connection.idle_until = now + keep
        self._idle[connection] = None
        if len(self._idle) > self._config.max_idle:
            self._close(next(iter(self._idle)))

    def discard(self, connection: C) -> None:
        """Remove a connection that has ended."""
        self._idle.pop(connection, None)

    def expire(self, now: float) -> None:
        """Close the connections whose `idle_until` has passed."""
        for connection in [each for each in self._idle if each.idle_until <= now]:
            self._close(connection)

    def close(self) -> None:
        for connection in list(self._idle):
            self._close(connection)

    def _close(self, connection: C) -> None:
        self._idle.pop(connection, None)
        connection.close()
