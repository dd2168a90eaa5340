"""The pages by which operators steer services while the gateway runs.

GET  /admin/api/services    services and endpoints
POST /admin/api/drain       {"service", "endpoint"}: no new requests; what is in flight goes on
POST /admin/api/undrain     {"service", "endpoint"}: the configured weight again
POST /admin/api/weight      {"service", "endpoint", "weight"}
POST /admin/api/breaker     {"service", "endpoint", "act": "open" or "reset"}, and "forMs" if wanted
GET, POST /admin/api/log-level   {"level"}: of the gateway's own log
POST /admin/api/reload      reads the configuration again

An act lasts until the gateway ends: what is configured does not change. Who may act: handlers/acting.py.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from tornado_gateway.adapters import logs
from tornado_gateway.errors import BadRequest, ConfigurationRefused, NotFound
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.acting import ActingHandler
from tornado_gateway.handlers.admin_page import AdminPage
from tornado_gateway.policy.orders import Member, read_object, read_order, shown, text, whole, word
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.views.control import endpoint_view, joined_endpoint, joined_services, services_view
from tornado_gateway.upkeep.shared import in_slices

LONGEST_URL = 2048  # characters of an endpoint or a service in an order
MOST_WEIGHT = 1_000_000
LONGEST_OPENING = 86_400_000  # ms; a drain is for longer
OPENING = 60_000  # ms

SERVICE, ENDPOINT = text("service", LONGEST_URL), text("endpoint", LONGEST_URL)


class ServicesHandler(AdminPage):
    """All services."""

    async def get(self) -> None:
        whole = self.gateway.whole
        services = joined_services(await whole.services()) if whole else await services_of(self.gateway)
        self.send_json({"services": services})

    head = get


async def services_of(gateway: Gateway) -> list[dict[str, Any]]:
    """The services of this process."""
    return await in_slices(services_view(gateway.services.values(), gateway.now()), gateway.now)


class EndpointAct(ActingHandler):
    """An act on an endpoint.

    Attributes:
        members: of an order, beside the service and the endpoint.
        lasts: whether a worker that starts later carries out the act, too.
    """

    members: ClassVar[tuple[Member, ...]] = ()
    lasts: ClassVar[bool] = True

    async def post(self) -> None:
        said = read_order(self.request.body, (SERVICE, ENDPOINT, *self.members))
        service = self.service_of(said["service"])
        endpoint = endpoint_of(service, said["endpoint"])
        now = self.gateway.now()
        deed = self.act(service, endpoint, now, said)
        self.deed = f"{deed} {endpoint.url} of {service.name}"
        key = f"{service.name} {endpoint.url}" if self.lasts else ""
        views = [endpoint_view(service, endpoint, now)]
        for each in await self.tell_others("act", [self.request.path, said], key):
            views += each
        self.send_json({"service": service.name, **joined_endpoint(views)})

    @staticmethod
    def act(service: Service, endpoint: Endpoint, now: float, said: dict[str, Any]) -> str:
        """Act; return what was done, for the log.

        Args:
            now: seconds on the gateway clock.
            said: the order.
        """
        raise NotImplementedError


def endpoint_of(service: Service, url: str) -> Endpoint:
    """
    Raises:
        NotFound: the service has no such endpoint.
    """
    for each in service.endpoints:
        if each.url == url:
            return each
    raise NotFound(
        f"endpoint is {shown(url)}, and must be an endpoint of {service.name}, as /admin/api/services has it"
    )


class DrainHandler(EndpointAct):
    """Sends an endpoint no new requests."""

    @staticmethod
    def act(service: Service, endpoint: Endpoint, now: float, said: dict[str, Any]) -> str:
        before = endpoint.weight
        service.drain(endpoint, now)
        return f"drained, before with weight {before},"


class UndrainHandler(EndpointAct):
    """Gives an endpoint its configured weight."""

    @staticmethod
    def act(service: Service, endpoint: Endpoint, now: float, said: dict[str, Any]) -> str:
        service.release(endpoint.url, now)
        return f"undrained, with weight {endpoint.weight},"


class WeightHandler(EndpointAct):
    """Gives an endpoint another weight."""

    members = (whole("weight", 0, MOST_WEIGHT),)

    @staticmethod
    def act(service: Service, endpoint: Endpoint, now: float, said: dict[str, Any]) -> str:
        before = endpoint.weight
        service.set_weight(endpoint, said["weight"], now)
        return f"gave weight {said['weight']} instead of {before} to"


class BreakerHandler(EndpointAct):
    """Opens the breaker of an endpoint, or resets the breaker."""

    lasts = False  # a breaker finds out by itself
    members = (word("act", ("open", "reset")), whole("forMs", 1, LONGEST_OPENING, OPENING))

    @staticmethod
    def act(service: Service, endpoint: Endpoint, now: float, said: dict[str, Any]) -> str:
        if said["act"] == "reset":
            before = endpoint.breaker.state(now).value.replace("_", " ")
            service.reset_breaker(endpoint, now)
            return f"reset the {before} breaker of"
        service.force_breaker(endpoint, now, said["forMs"] / 1000)
        return f"opened for {said['forMs']} ms the breaker of"


_ACTS: dict[str, type[EndpointAct]] = {
    "drain": DrainHandler, "undrain": UndrainHandler, "weight": WeightHandler, "breaker": BreakerHandler,
}  # fmt: skip


def carry_out_act(gateway: Gateway, order: Sequence[Any]) -> list[dict[str, Any]]:
    """Do what another worker has done; return what has become of the endpoint. A worker may have other endpoints for a
    while: names are looked up by each, and nothing is returned of an endpoint that this worker does not have.

    Args:
        order: path of the page, and the members.
    """
    (path, said), now, views = order, gateway.now(), []
    service = gateway.services.get(said["service"].encode("ascii"))
    for endpoint in service.endpoints if service else ():
        if service and endpoint.url == said["endpoint"]:
            _ACTS[path.rpartition("/")[2]].act(service, endpoint, now, said)
            views.append(endpoint_view(service, endpoint, now))
    return views


class LogLevelHandler(ActingHandler):
    """The level of the gateway's own log. Whether requests are logged was decided at the start."""

    def get(self) -> None:
        self.send_json({"level": logs.level()})

    head = get

    async def post(self) -> None:
        level = read_order(self.request.body, (word("level", tuple(logs.LEVELS)),))["level"]
        before = logs.level()
        logs.set_level(level)
        await self.tell_others("log-level", level, "level")
        self.deed = f"set the log level {level} instead of {before}"
        self.send_json({"level": level})


class ReloadHandler(ActingHandler):
    """Reads the configuration again, and uses the configuration if all of the configuration is valid."""

    async def post(self) -> None:
        if self.request.body and read_object(self.request.body):
            raise BadRequest("this order has no members")
        carry_out = self.gateway.reloading.carry_out
        if carry_out is None:
            raise ConfigurationRefused("the gateway has no configuration that can be read again")
        reloaded = await carry_out()
        self.deed = f"reloaded, changes: {len(reloaded.changes)}"
        self.send_json({
            "changes": reloaded.changes, "needsRestart": reloaded.needs_restart, "warnings": reloaded.warnings,
        })  # fmt: skip
