"""The pages by which operators steer services while the gateway runs.

GET  /admin/api/services    services and endpoints
POST /admin/api/drain       {"service", "endpoint"}: no new requests; what is in flight goes on
POST /admin/api/undrain     {"service", "endpoint"}: the configured weight again
POST /admin/api/weight      {"service", "endpoint", "weight"}
POST /admin/api/breaker     {"service", "endpoint", "act": "open" or "reset"}, and "forMs" if wanted
GET, POST /admin/api/log-level   {"level"}: of the gateway's own log
POST /admin/api/reload      reads the configuration again

An act lasts until the gateway ends: what is configured does not change. Who may act: handlers/acting.py. Other workers,
and other gateways over Redis, do the same.
"""

import json
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, ClassVar

from tornado_gateway.adapters import logs
from tornado_gateway.errors import BadRequest, ConfigurationRefused, NotFound
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.acting import ActingHandler
from tornado_gateway.handlers.admin_page import AdminPage
from tornado_gateway.policy.orders import Member, read_object, read_order, shown, text, whole, word
from tornado_gateway.policy.statements import Statement, key_of
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
        said = read_order(self.request.body, self.all_members())
        service = self.service_of(said["service"])
        endpoint = endpoint_of(service, said["endpoint"])
        now = self.gateway.now()
        deed = self.act(service, endpoint, now, said)
        self.deed = f"{deed} {endpoint.url} of {service.name}"
        statement = self._tell_gateways(said)
        views = [endpoint_view(service, endpoint, now)]
        for each in await self.tell_others("act", astuple(statement), statement.key if self.lasts else ""):
            views += each
        self.send_json({"service": service.name, **joined_endpoint(views)})

    def _tell_gateways(self, said: dict[str, Any]) -> Statement:
        """Tell the other gateways, in the background; return what is told, or would be."""
        name, shared = self.request.path.rpartition("/")[2], self.gateway.shared_endpoints
        key, body = key_of(name, said["service"], said["endpoint"]), [self.who, said]
        return shared.tell(key, name, body) if shared else Statement("", 0.0, key, name, body)

    @classmethod
    def all_members(cls) -> tuple[Member, ...]:
        """The members of an order."""
        return (SERVICE, ENDPOINT, *cls.members)

    @staticmethod
    def act(service: Service, endpoint: Endpoint, now: float, said: dict[str, Any]) -> str:
        """Act; return what was done, for the log.

        Args:
            now: seconds on the gateway clock.
            said: the order.
        """
        raise NotImplementedError

    @staticmethod
    def act_on_unknown(service: Service, url: str, said: dict[str, Any]) -> None:
        """Act on an endpoint that is not known yet, such as an address that no name server has told."""


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

    @staticmethod
    def act_on_unknown(service: Service, url: str, said: dict[str, Any]) -> None:
        service.membership.set_weight(url, 0)


class UndrainHandler(EndpointAct):
    """Gives an endpoint its configured weight."""

    @staticmethod
    def act(service: Service, endpoint: Endpoint, now: float, said: dict[str, Any]) -> str:
        service.release(endpoint.url, now)
        return f"undrained, with weight {endpoint.weight},"

    @staticmethod
    def act_on_unknown(service: Service, url: str, said: dict[str, Any]) -> None:
        service.membership.release(url)


class WeightHandler(EndpointAct):
    """Gives an endpoint another weight."""

    members = (whole("weight", 0, MOST_WEIGHT),)

    @staticmethod
    def act(service: Service, endpoint: Endpoint, now: float, said: dict[str, Any]) -> str:
        before = endpoint.weight
        service.set_weight(endpoint, said["weight"], now)
        return f"gave weight {said['weight']} instead of {before} to"

    @staticmethod
    def act_on_unknown(service: Service, url: str, said: dict[str, Any]) -> None:
        service.membership.set_weight(url, said["weight"])


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
    """Do what another worker has done, or has heard from another gateway, unless something newer is known.

    Args:
        order: the members of a Statement.

    Returns:
        What has become of the endpoint; nothing of an endpoint that this worker does not have.
    """
    statement, shared = Statement(*order), gateway.shared_endpoints
    _, said = statement.body
    if shared is None or shared.note(statement):
        act_on(gateway, statement.name, said)
    now, service = gateway.now(), _service_of(gateway, said)
    several = service.endpoints if service else ()
    return [endpoint_view(service, each, now) for each in several if service and each.url == said["endpoint"]]


def act_on(gateway: Gateway, name: str, said: dict[str, Any]) -> str:
    """Do what was done elsewhere; return what was done, for the log.

    A worker or a gateway may have other endpoints for a while: names are looked up by each.

    Args:
        name: of the page, without the path.
        said: the order.
    """
    service, url = _service_of(gateway, said), said["endpoint"]
    if service is None:
        return f"no service {shown(said['service'])}, nothing done"
    for endpoint in service.endpoints:
        if endpoint.url == url:
            return f"{_ACTS[name].act(service, endpoint, gateway.now(), said)} {url} of {service.name}"
    _ACTS[name].act_on_unknown(service, url, said)
    return f"no endpoint {shown(url)} of {service.name} yet"


def _service_of(gateway: Gateway, said: dict[str, Any]) -> Service | None:
    return gateway.services.get(said["service"].encode("utf-8", "replace"))


def read_act(name: str, said: object) -> dict[str, Any]:
    """The order of an act that another gateway has carried out.

    Raises:
        BadRequest: this is no such order.
    """
    return read_order(json.dumps(said).encode("ascii"), _ACTS[name].all_members())


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
