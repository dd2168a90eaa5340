"""Periodic look-ups of upstreams' names: endpoints come and go with the addresses of a name.

policy/upstream/resolution.py decides what an answer means. A look-up that fails or finds no address changes nothing: a
name server that is down proves nothing about a service. A connection to a name without known addresses waits for the
same look-up (wire/client/resolver.py).

A name is looked up when its time to live is over, and within DOUBTFUL seconds after a connection to one of the
addresses has failed: the service may have moved. Each look-up runs in a task of its own, one at a time for each name.
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tornado_gateway.errors import ConnectFailed, ConnectTimeout
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.policy.upstream.hosts import Family
from tornado_gateway.policy.upstream.resolution import MakeEndpoint, Resolution, usable
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.client import PooledHTTPClient

SHORTEST = 1.0  # seconds between two look-ups of a name at least, whatever the time to live
DOUBTFUL = 5.0  # seconds from a failed look-up, or a failed connection, to the next look-up at most
JITTER = 0.1  # share by which a time to live is lengthened at random, so that gateways do not ask in step

Resolver = Callable[[str], Awaitable[Iterable[str]]]

log = logging.getLogger("tornado_gateway")


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """
    Attributes:
        is_on: whether each address of a name is an endpoint.
        ttl: seconds between two look-ups of a name; below SHORTEST, SHORTEST counts.
        family: addresses of other families are ignored.
    """

    is_on: bool = True
    ttl: float = 30.0
    family: Family = Family.AUTO


@dataclass(slots=True)
class _Name:
    """A name that is looked up.

    Attributes:
        resolutions: of the services with an endpoint of that name.
        due: instant of the next look-up.
        asked_at: instant of the last look-up.
        has_failed: whether the last look-up found no address.
        task: the look-up that is running, or None.
    """

    due: float
    resolutions: list[Resolution] = field(default_factory=list)
    asked_at: float = -math.inf
    has_failed: bool = False
    task: "asyncio.Task[None] | None" = None


class Discovery:
    """A Sweeper. A look-up may begin as late as the slowest heartbeat allows, so that it shortens no interval.

    Args:
        services: each with the function that makes its endpoints.
        client: connects to the endpoints; idle connections to endpoints that have left are closed.
        now: seconds on the services' clock, which is the event loop's.
        resolver: finds a name's addresses or raises ConnectFailed or ConnectTimeout; None: the client's resolver.
    """

    shortest_timeout = math.inf

    def __init__(
        self,
        services: Mapping[Service, MakeEndpoint],
        client: PooledHTTPClient,
        config: DiscoveryConfig,
        rng: random.Random,
        now: Callable[[], float],
        resolver: Resolver | None = None,
    ) -> None:
        self._client, self._config, self._rng, self._now = client, config, rng, now
        self._resolver = resolver or client.connector.resolver.look_up
        self._services = tuple(services)
        self._resolutions = [Resolution(service, make) for service, make in services.items()]
        self._names: dict[str, _Name] = {}
        self._is_closed = False
        for resolution in self._resolutions:
            for name in resolution.names:
                self._names.setdefault(name, _Name(due=now())).resolutions.append(resolution)
        client.connector.on_failure = self._doubt

    def sweep(self, now: float) -> None:
        """Begin the look-ups that are due, and close the idle connections of endpoints that have left."""
        if self._is_closed:
            return
        for host, name in self._names.items():
            if now >= name.due and name.task is None:
                name.asked_at = now
                name.task = self._client.loop.create_task(self._look_up(host, name))
        self._let_go(now)

    def close(self) -> None:
        """Begin no more look-ups and cancel those that are running."""
        self._is_closed = True
        for name in self._names.values():
            if name.task:
                name.task.cancel()

    async def _look_up(self, host: str, name: _Name) -> None:
        found: Iterable[str] = ()
        problem = "no address that can be used"
        try:
            found = await self._resolver(host)
        except (ConnectFailed, ConnectTimeout) as error:
            problem = error.message
        finally:
            name.task = None
        addresses = usable(found, self._config.family)
        if addresses:
            self._use(host, name, addresses)
        elif not name.has_failed:
            log.warning("%s cannot be looked up: %s", host, problem)
        name.has_failed = not addresses
        ttl = max(self._config.ttl, SHORTEST)
        name.due = self._now() + (ttl if addresses else min(ttl, DOUBTFUL)) * (1 + JITTER * self._rng.random())

    def _use(self, host: str, name: _Name, addresses: tuple[str, ...]) -> None:
        now = self._now()
        news = [resolution.use(host, addresses, now) for resolution in name.resolutions]
        if any(news):
            log.info("%s is at %s", host, ", ".join(addresses))

    def _doubt(self, origin: Origin) -> None:
        """A connection to an origin has failed: look the name up soon, for the service may have moved."""
        name = self._names.get(origin.host)
        if name:
            name.due = min(name.due, name.asked_at + DOUBTFUL)

    def _let_go(self, now: float) -> None:
        """Close the kept connections to endpoints that have left."""
        departed = [endpoint for resolution in self._resolutions for endpoint in resolution.departed]
        if not departed:
            return
        in_use = {endpoint.origin for service in self._services for endpoint in service.endpoints}
        for endpoint in departed:
            if endpoint.origin not in in_use:
                self._client.pool(endpoint.origin).close()
        for resolution in self._resolutions:
            resolution.forget(now)
