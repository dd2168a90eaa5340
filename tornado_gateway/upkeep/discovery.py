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
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass

from tornado_gateway.errors import ConnectFailed, ConnectTimeout, OutOfSockets
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.policy.upstream.hosts import Family, usable
from tornado_gateway.policy.upstream.resolution import Resolution, new_endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.client import PooledHTTPClient

SHORTEST = 1.0  # seconds between two look-ups of a name at least, whatever the time to live
DOUBTFUL = 5.0  # seconds from a failed look-up, or a failed connection, to the next look-up at most
JITTER = 0.1  # share by which a time to live is lengthened at random, so that gateways do not ask in step

Resolver = Callable[[str], Awaitable[Iterable[str]]]

log = logging.getLogger("tornado_gateway")


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """Whether and how often names are looked up.

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
        due: instant of the next look-up.
        addresses: as last found; empty before the first answer.
        asked_at: instant of the last look-up.
        has_failed: whether the last look-up found no address.
        task: the look-up that is running, or None.
    """

    due: float
    addresses: tuple[str, ...] = ()
    asked_at: float = -math.inf
    has_failed: bool = False
    task: "asyncio.Task[None] | None" = None


class Discovery:
    """A Sweeper that looks up names. Look-ups do not shorten the heartbeat's interval, so a look-up may begin late.

    Args:
        services: iterated live.
        client: its resolver looks names up; its failed connections hasten the next look-up.
        rng: for the jitter of look-ups, and for new endpoints.
        now: seconds on the services' clock, which is the event loop's.
        resolver: finds a name's addresses or raises ConnectFailed or ConnectTimeout; None: the client's resolver.
    """

    shortest_timeout = math.inf

    def __init__(
        self,
        services: Collection[Service],
        client: PooledHTTPClient,
        config: DiscoveryConfig,
        rng: random.Random,
        now: Callable[[], float],
        resolver: Resolver | None = None,
    ) -> None:
        self._services, self._config, self._rng, self._now = services, config, rng, now
        self._loop = client.loop
        self._resolver = resolver or client.connector.resolver.look_up
        self._resolutions: dict[Service, Resolution] = {}
        self._names: dict[str, _Name] = {}
        self._is_closed = False
        client.connector.on_failure = self._doubt

    def sweep(self, now: float) -> None:
        """Begin the look-ups that are due."""
        if self._is_closed:
            return
        self._follow(now)
        for host, name in self._names.items():
            if now >= name.due and name.task is None:
                name.asked_at = now
                name.task = self._loop.create_task(self._look_up(host, name))
        for resolution in self._resolutions.values():
            resolution.forget(now)

    def reconfigure(self, config: DiscoveryConfig) -> None:
        """Look names up at other times, or addresses of another family. Every name is looked up anew."""
        if config != self._config:
            self._config = config
            for name in self._names.values():
                name.due = self._now()

    def close(self) -> None:
        """Begin no more look-ups and cancel the running look-ups."""
        self._is_closed = True
        for name in self._names.values():
            if name.task:
                name.task.cancel()

    # ---- services and names come and go

    def _follow(self, now: float) -> None:
        """Look names up for the services that are there now, and for the endpoints that these services have now."""
        known = self._resolutions
        self._resolutions = {each: known.get(each) or self._resolution_of(each) for each in self._services}
        changed = [resolution for resolution in self._resolutions.values() if resolution.is_behind]
        if changed or len(self._resolutions) < len(known):
            self._follow_names(now)
        for resolution in changed:
            for host in resolution.names & self._names.keys():
                if addresses := self._names[host].addresses:
                    resolution.use(host, addresses, now)
            resolution.follow(now)

    def _resolution_of(self, service: Service) -> Resolution:
        return Resolution(
            service, lambda url, weight: new_endpoint(url, weight, service.config, self._rng, self._now())
        )

    def _follow_names(self, now: float) -> None:
        services = self._resolutions.values() if self._config.is_on else ()
        wanted = {host for resolution in services for host in resolution.names}
        for host in self._names.keys() - wanted:
            name = self._names.pop(host)
            if name.task:
                name.task.cancel()
        for host in wanted:
            self._names.setdefault(host, _Name(due=now))

    # ---- look-ups

    async def _look_up(self, host: str, name: _Name) -> None:
        found: Iterable[str] = ()
        problem = "no address that can be used"
        try:
            found = await self._resolver(host)
        except (ConnectFailed, ConnectTimeout, OutOfSockets) as error:
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
        name.addresses = addresses
        now = self._now()
        several = [each for each in self._resolutions.values() if host in each.names]
        news = [resolution.use(host, addresses, now) for resolution in several]
        if any(news):
            log.info("%s is at %s", host, ", ".join(addresses))

    def _doubt(self, origin: Origin) -> None:
        """A connection to an origin has failed: look the name up soon, for the service may have moved."""
        name = self._names.get(origin.host)
        if name:
            name.due = min(name.due, name.asked_at + DOUBTFUL)
