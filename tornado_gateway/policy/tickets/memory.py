"""The tickets of one process: bounded, and swept."""

import math
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

from tornado_gateway.errors import TicketsUnavailable
from tornado_gateway.policy.tickets.ticket import TTL

MAX_TICKETS = 10_000  # with usual claims some 15 MiB; 160 MiB if all tokens were as large as may be


class MemoryTickets:
    """A store of tickets in memory.

    Args:
        max_tickets: greatest number of tickets. A full store refuses new tickets, and keeps the old ones.

    Attributes:
        shortest_timeout: seconds; the sweep enforces no timeout, since take() compares the time.
    """

    shortest_timeout = math.inf

    def __init__(self, max_tickets: int = MAX_TICKETS) -> None:
        self._max_tickets = max_tickets
        self._kept: dict[str, tuple[float, bytes]] = {}  # in the order of their making

    def __len__(self) -> int:
        """The number of tickets that take room."""
        return len(self._kept)

    def put(self, digest: str, ticket: bytes, seconds: float, now: float) -> None:
        """Keep a ticket.

        Args:
            seconds: that the ticket is good for; TTL at most.
            now: seconds on a monotonic clock.

        Raises:
            TicketsUnavailable: the store is full.
        """
        if len(self._kept) >= self._max_tickets:
            self.sweep(now)
        if len(self._kept) >= self._max_tickets:
            raise TicketsUnavailable("there are as many tickets as there may be", retry_after=TTL)
        self._kept[digest] = (now + seconds, ticket)

    def take(self, digest: str, now: float) -> bytes | None:
        """Take a ticket out of the store; None for a ticket that is unknown, used or too old."""
        until, ticket = self._kept.pop(digest, (-math.inf, b""))
        return ticket if now < until else None

    def sweep(self, now: float) -> None:
        """Forget the oldest tickets, up to the first ticket that is still good: no ticket stays for more than TTL."""
        for digest, _ in [*takewhile(lambda kept: kept[1][0] <= now, self._kept.items())]:
            del self._kept[digest]

    def to_plain(self) -> list[list[Any]]:
        """The tickets as values of JSON, for another process."""
        return [[digest, until, ticket.decode("latin-1")] for digest, (until, ticket) in self._kept.items()]

    def add_plain(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add what to_plain() of another process of this machine has given: the clocks of both agree."""
        for digest, until, ticket in rows:
            self._kept[digest] = (until, ticket.encode("latin-1"))
