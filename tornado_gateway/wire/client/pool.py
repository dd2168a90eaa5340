"""Keep-alive connections that wait for their next request, per origin.

The connection used last is used next: the oldest ones may then go unused until they
time out, so that a pool shrinks to what the traffic needs. The order of `_idle` is the
order in which connections became idle, which is why the oldest is also the first to expire.
"""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Poolable(Protocol):
    """What a pool asks of a connection."""

    idle_until: float

    def close(self) -> None: ...


C = TypeVar("C", bound=Poolable)


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """
    Attributes:
        max_idle: connections kept per origin; 0 keeps none. nginx's examples use 16 to 32 per
            worker; one process does the work of several workers here.
        idle_timeout: seconds a connection is kept unused; > 0. nginx keeps 60.
    """

    max_idle: int = 256
    idle_timeout: float = 60.0


class Pool(Generic[C]):
    """The idle connections to one origin.

    Attributes:
        open: connections to the origin, idle or not; counted by the connections themselves.
    """

    __slots__ = ("_config", "_idle", "open")

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self.open = 0
        self._idle: dict[C, None] = {}  # used as an ordered set

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> C | None:
        """The connection that became idle last, which now belongs to the caller; None if there is none."""
        return self._idle.popitem()[0] if self._idle else None

    def put(self, connection: C, now: float, hint: float | None = None) -> None:
        """Keep a connection for its next request; the oldest one makes room for it.

        Args:
            hint: seconds the server said it keeps the connection. A second less is used, so
                that a request does not meet the server's FIN on its way.
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
        """Forget a connection that has ended by itself."""
        self._idle.pop(connection, None)

    def expire(self, now: float) -> None:
        """Close what has been idle too long."""
        for connection in [each for each in self._idle if each.idle_until <= now]:
            self._close(connection)

    def close(self) -> None:
        for connection in list(self._idle):
            self._close(connection)

    def _close(self, connection: C) -> None:
        self._idle.pop(connection, None)
        connection.close()
