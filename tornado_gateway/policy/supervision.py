"""Decisions about the workers of a gateway: when a worker that has ended is started again, who accepts, who checks.

A worker that has lived long is started again at once. A worker that ends soon after its start, again and again, is
started later each time, so that a crash loop costs little and fills no log.

All workers accept connections at the same sockets. The kernel wakes every worker that waits, and the quickest gets the
connection: without a rule, a worker would get several times as many as another. So a worker that has more connections
than another leaves the next connection to the other; see room().
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b

FIRST_DELAY = 0.5  # seconds; after the second crash
LONGEST_DELAY = 30.0  # seconds
LONG_LIFE = 60.0  # seconds that a worker must live, so that its crash counts as the first

SLACK = 2  # connections that a worker may have above the worker with the fewest: so few make no worker slow
SLACK_SHARE = 16  # of the fewest connections, a sixteenth may be added to SLACK: 6 % is within what anybody notices


@dataclass(slots=True)
class Restarts:
    """The restarts of a worker.

    Attributes:
        crashes: number of crashes in a row, each soon after the start.
    """

    crashes: int = 0

    def delay(self, lived: float) -> float:
        """Seconds until a worker that has ended is started again.

        Args:
            lived: seconds from its start to its end.

        >>> restarts = Restarts()
        >>> [restarts.delay(lived) for lived in (100.0, 1.0, 1.0, 1.0, 100.0)]
        [0.0, 0.5, 1.0, 2.0, 0.0]
        """
        self.crashes = 1 if lived >= LONG_LIFE else self.crashes + 1
        return 0.0 if self.crashes == 1 else float(min(FIRST_DELAY * 2 ** (self.crashes - 2), LONGEST_DELAY))


def keeper_of(name: str, workers: Iterable[int]) -> int | None:
    """The worker that looks after what has a name; None without workers.

    Rendezvous hashing: when a worker ends, what others look after stays with the others.

    >>> [keeper_of(name, [0, 1, 2]) for name in ("a", "b", "c", "d")]
    [2, 2, 0, 2]
    """
    return max(workers, key=lambda worker: blake2b(f"{name} {worker}".encode(), digest_size=8).digest(), default=None)


def room(own: int, others: Collection[int]) -> float:
    """How many further connections a worker may accept; math.inf without other workers.

    Args:
        own: number of connections of the worker.
        others: numbers of connections of the other workers that accept.

    >>> room(12, [10]), room(13, [10, 14]), room(170, [160]), room(0, [10])
    (1, 0, 3, 13)
    """
    if not others:
        return math.inf
    fewest = min(others)
    return max(0, fewest + SLACK + fewest // SLACK_SHARE + 1 - own)
