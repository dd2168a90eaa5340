"""Closes the kept connections to endpoints that get no new requests.

An endpoint gets no new requests once the endpoint has left its service or is drained, or once its service is retired;
and none over the kept connections once the service's way to speak TLS has changed.
Requests that are still in flight there end in peace; their connections are closed afterwards.
"""

import math
from collections.abc import Collection

from tornado_gateway.policy.http.target import Origin
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.client import PooledHTTPClient

CHECK_INTERVAL = 0.2  # seconds between two checks


class IdleConnections:
    """A Sweeper that closes idle connections to endpoints that get no new requests.

    Args:
        services: iterated live.
    """

    shortest_timeout = math.inf

    def __init__(self, services: Collection[Service], client: PooledHTTPClient) -> None:
        self._services, self._client = services, client
        self._chosen: set[Origin] = set()  # of endpoints that get new requests
        self._left: set[Origin] = set()  # origins without such an endpoint that still have connections
        self._next_check = -math.inf

    def sweep(self, now: float) -> None:
        """Close the idle connections to origins that have no endpoint any more."""
        if now < self._next_check:
            return
        self._next_check = now + CHECK_INTERVAL
        self._follow()
        self._left = {origin for origin in self._left if self._client.close_idle(origin)}

    def _follow(self) -> None:
        """Note which origins have lost their last endpoint, and which origins have an endpoint again."""
        chosen = {endpoint.origin for service in self._services for endpoint in service.endpoints if endpoint.weight}
        self._left = (self._left | (self._chosen - chosen)) - chosen
        self._chosen = chosen
