"""Moves streams away from endpoints that have more than their share, of services for which that is wanted.

When, and how many, is decided in policy/upstream/rebalancing.py; which of them, and how they end, in
streams.py and by the streams themselves.
"""

import math
from collections.abc import Mapping

from tornado_gateway.policy.upstream.rebalancing import Rebalancing
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.upkeep.streams import Streams

LOOK_EVERY = 0.2  # seconds: streams are moved in fifths of what a second allows


class Rebalancer:
    """
    Args:
        per_second: streams of each service that may be moved in a second; 0 for none. Those whose sessions are bound to
            endpoints are left alone: their clients would come back to the same one.
        began: seconds on the services' clock.
    """

    shortest_timeout = math.inf

    def __init__(self, per_second: Mapping[Service, int], streams: Streams, began: float) -> None:
        self._streams = streams
        self._services = {
            service: Rebalancing(most, began)
            for service, most in per_second.items()
            if most and not (service.affinity and service.affinity.sticky)
        }
        self._next_look = -math.inf

    def sweep(self, now: float) -> None:
        """Move what may be moved now."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY
        leaving = self._streams.leaving
        for service, rebalancing in self._services.items():
            counts = rebalancing.take(service.endpoints, leaving, now, service.config.slow_start)
            if counts:
                self._streams.move(counts)

    def close(self) -> None:
        """Move nothing any more."""
        self._services.clear()
