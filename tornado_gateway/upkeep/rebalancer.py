"""Moves streams away from endpoints that have more than their share.

policy/upstream/rebalancing.py decides when and how many; streams.py decides which streams; each stream decides how it
ends.
"""

import math
from collections.abc import Collection

from tornado_gateway.policy.upstream.rebalancing import Rebalancing
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.upkeep.streams import Streams

CHECK_INTERVAL = 0.2  # seconds between two checks; a check moves up to a fifth of a second's streams


class Rebalancer:
    """A Sweeper that moves streams.

    Args:
        services: iterated live; `rebalance_streams` of their configurations may be moved in a second. No stream of a
            service with sticky sessions is moved: the client would come back to the same endpoint.
    """

    shortest_timeout = math.inf

    def __init__(self, services: Collection[Service], streams: Streams) -> None:
        self._services, self._streams = services, streams
        self._rebalancings: dict[Service, Rebalancing] = {}
        self._next_check = -math.inf

    def sweep(self, now: float) -> None:
        """Move the streams that may be moved now."""
        if now < self._next_check:
            return
        self._next_check = now + CHECK_INTERVAL
        leaving = self._streams.leaving
        self._follow(now)
        for service, rebalancing in self._rebalancings.items():
            counts = rebalancing.take(service.endpoints, leaving, now, service.config.slow_start)
            if counts:
                self._streams.move(counts)

    def _follow(self, now: float) -> None:
        """Begin to move the streams of services that are new or configured anew; let go of the others."""
        wanted = {
            service: service.config.rebalance_streams
            for service in self._services
            if service.config.rebalance_streams and not (service.affinity and service.affinity.sticky)
        }
        present = {each: found for each, found in self._rebalancings.items() if found.per_second == wanted.get(each)}
        for service, per_second in wanted.items():
            if service not in present:
                present[service] = Rebalancing(per_second, now)
        self._rebalancings = present

    def close(self) -> None:
        """Move no more streams."""
        self._services = ()
