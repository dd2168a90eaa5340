"""Failures that follow each other are one episode, which is told once.

failure ─ failure ── failure ───────── QUIET ─────────► end          the next failure begins another episode
   │
   └── told
"""

import math

QUIET = 10.0  # seconds without a failure that end an episode


class Episode:
    """Failures of a kind.

    >>> lack = Episode()
    >>> [lack.begins(now) for now in (0.0, 9.0, 18.0, 28.0)]
    [True, False, False, True]
    """

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends = -math.inf  # instant

    def begins(self, now: float) -> bool:
        """Count a failure at an instant; return whether the failure is the first of an episode."""
        is_first, self._ends = now >= self._ends, now + QUIET
        return is_first
