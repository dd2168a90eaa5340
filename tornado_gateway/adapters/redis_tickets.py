"""Tickets in Redis, shared by any number of gateways.

    put    SET {gateway}:ticket:<digest> <ticket> PX <ms>
    take   GETDEL {gateway}:ticket:<digest>                  of any number of gateways, one gets the ticket

While Redis is away, no ticket is made, and none is accepted: another gateway may have taken the ticket.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from tornado_gateway.adapters.redis_cluster import TAG
from tornado_gateway.adapters.redis_connection import RedisAway, RedisConnection
from tornado_gateway.errors import TicketsUnavailable

PREFIX = f"{TAG}:ticket:"

# Requests for Redis at once. Redis does more than that in a tenth of the time that an answer may take, so a flood of
# guesses does not make Redis seem away.
MOST_WAITING = 500


class RedisTickets:
    """A TicketStore in Redis; see there.

    Args:
        connection: may serve others as well.
        most_waiting: greatest number of requests for Redis at once.
    """

    def __init__(self, connection: RedisConnection, most_waiting: int = MOST_WAITING) -> None:
        connection.meanings.append(lambda: "no one-time ticket is made or accepted")
        self._connection, self._most_waiting = connection, most_waiting
        self._waiting = 0

    async def put(self, digest: str, ticket: bytes, seconds: float, _: float) -> None:
        """As TicketStore.put()."""
        milliseconds = max(1, int(seconds * 1000))
        await self._ask(lambda client: client.set(f"{PREFIX}{digest}", ticket, px=milliseconds))

    async def take(self, digest: str, _: float) -> bytes | None:
        """As TicketStore.take()."""
        ticket: bytes | None = await self._ask(lambda client: client.getdel(f"{PREFIX}{digest}"))
        return ticket

    async def _ask(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """
        Raises:
            TicketsUnavailable: Redis is away, or has too much to do.
        """
        if self._waiting >= self._most_waiting:
            raise TicketsUnavailable
        self._waiting += 1
        try:
            return await self._connection.ask(work)
        except RedisAway:
            raise TicketsUnavailable from None
        finally:
            self._waiting -= 1
