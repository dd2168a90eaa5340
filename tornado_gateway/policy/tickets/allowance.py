"""How many tickets a principal may make: so many in TTL, whatever becomes of the tickets.

A ticket takes room in a store, so tickets are counted where the tickets are made: by each process, for every store.
"""

import math
from collections import Counter, deque

from tornado_gateway.errors import TooManyTickets
from tornado_gateway.policy.tickets.ticket import TTL

# Tickets of a principal in TTL. Browsers open up to 255 WebSockets; a server that asks for its users has 7 a second.
MAX_OF_PRINCIPAL = 200

MAX_IN_ALL = 100_000  # tickets in TTL that are remembered: some 20 MiB


class Allowance:
    """Counts the tickets that principals have made in the last TTL seconds.

    Args:
        of_principal: greatest number for a principal.
        in_all: greatest number of all principals together.

    Attributes:
        shortest_timeout: seconds; the sweep enforces no timeout.
    """

    shortest_timeout = math.inf

    def __init__(self, of_principal: int = MAX_OF_PRINCIPAL, in_all: int = MAX_IN_ALL) -> None:
        self._of_principal, self._in_all = of_principal, in_all
        self._made: deque[tuple[float, str]] = deque()  # the instant when each ticket is forgotten, and its principal
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        """The number of tickets that count."""
        return len(self._made)

    def spend(self, name: str, now: float) -> None:
        """Count a ticket.

        Args:
            name: of the principal.
            now: seconds on a monotonic clock.

        Raises:
            TooManyTickets: the principal, or all principals together, have made as many tickets as may be.
        """
        self.sweep(now)
        if self._counts[name] >= self._of_principal or len(self._made) >= self._in_all:
            raise TooManyTickets
        self._made.append((now + TTL, name))
        self._counts[name] += 1

    def sweep(self, now: float) -> None:
        """Forget the tickets that were made TTL ago."""
        while self._made and self._made[0][0] <= now:
            _, name = self._made.popleft()
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]
