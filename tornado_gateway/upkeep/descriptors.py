"""Tells in the log that no descriptor is left for a connection.

uvloop then closes new connections without a word, and asyncio logs a traceback for each call of accept(), which
adapters/logs.py leaves out.
"""

import logging
import math

from tornado_gateway.policy.episode import Episode
from tornado_gateway.upkeep.process import descriptors_allowed
from tornado_gateway.wire.client.lack import lacks_descriptors

log = logging.getLogger("tornado_gateway")


class Descriptors:
    """Looks with every sweep whether a descriptor is left."""

    def __init__(self) -> None:
        self._lack = Episode()

    @property
    def shortest_timeout(self) -> float:
        return math.inf

    def sweep(self, now: float) -> None:
        """Tell of a lack once, however long the lack lasts."""
        if lacks_descriptors() and self._lack.begins(now):
            log.error("no descriptor is left of %d: connections are not accepted", descriptors_allowed())
