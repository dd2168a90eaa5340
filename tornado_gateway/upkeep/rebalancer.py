"""Moves streams away from endpoints that have more than their share.

policy/upstream/rebalancing.py decides when and how many; streams.py decides which streams; each stream decides how it
ends.
"""

import math
from collections.abc import Mapping

from tornado_gateway.policy.upstream.rebalancing import Rebalancing
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.upkeep.streams import Streams

LOOK_EVERY = 0.2  # seconds between two looks: each moves up to a fifth of a second's streams


class Rebalancer:
    """A Sweeper that moves streams.

    Args:
        per_second: streams of each service that may be moved in a second; 0 for none. No stream of a service with
            sticky sessions is moved: the client would come back to the same endpoint.
        began: instant on the services' clock.
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
        """Move the streams that may be moved now."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY
        leaving = self._streams.leaving
        for service, rebalancing in self._services.items():
            counts = rebalancing.take(service.endpoints, leaving, now, service.config.slow_start)
            if counts:
                self._streams.move(counts)

    def close(self) -> None:
        """Move no more streams."""
        self._services.clear()
