"""The services of a running gateway: added, reconfigured and retired while requests run.

New requests for a retired service get 404. Requests that are there already end in peace: a retry, or a request that
waited for room, may still take a lease. The service's figures stay until the last lease has ended.

Everything that looks after services iterates the registry live: health checks, rebalancing, the figures.
"""

import math
import random
from collections.abc import Iterator

from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig


class ServiceRegistry(dict[bytes, Service]):
    """Services by name, as a request target has the name. A dict, so that a request's look-up costs no call."""

    def __init__(self, *services: Service) -> None:
        super().__init__({service.name.encode("ascii"): service for service in services})
        self._retired: list[Service] = []

    def add(self, service: Service) -> None:
        """Let requests find a service.

        Raises:
            ValueError: a service of that name is there.
        """
        name = service.name.encode("ascii")
        if name in self:
            raise ValueError(f"there is a service {service.name}")
        self[name] = service

    def reconfigure(self, name: bytes, config: ServiceConfig, now: float, rng: random.Random) -> None:
        """Use another configuration for a service; see Service.reconfigure().

        Raises:
            KeyError: there is no such service.
            ValueError: sessions are configured without a secret.
        """
        self[name].reconfigure(config, now, rng)

    def retire(self, name: bytes) -> Service:
        """Let no more requests find a service. Requests that wait for room there may still be sent.

        Raises:
            KeyError: there is no such service.
        """
        service = self.pop(name)
        self._retired = [*filter(_is_in_use, self._retired), service]
        return service

    def shortest_timeout(self) -> float:
        """Seconds of the shortest timeout that any service has; math.inf without services."""
        return min((service.config.shortest_timeout for service in self.values()), default=math.inf)

    def shown(self) -> Iterator[Service]:
        """Services whose figures count: all present services, then retired services that still have something to do.

        A retired service may have the name of a present service; see collect() in policy/views/state.py.
        """
        yield from self.values()
        yield from filter(_is_in_use, reversed(self._retired))


def _is_in_use(service: Service) -> bool:
    """Whether requests of the service are in flight, or wait for room."""
    return service.load > 0 or service.waiting > 0
