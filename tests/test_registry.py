"""Services that come, change and go while requests run."""

import asyncio
import json
import math
import random
from dataclasses import replace

import pytest

from tests.conftest import Running, Serve
from tests.support.endpoints import Gate, named, service_of, view_of
from tests.support.journeys import Start, ask
from tests.support.services import lease_on, service
from tests.support.sockets import Client, eventually, get
from tests.support.websockets import HANDSHAKE, Acceptor, Side, binary
from tornado_gateway.app import make_service
from tornado_gateway.config.services import EndpointSpec
from tornado_gateway.config.settings import ServiceSpec
from tornado_gateway.policy.http.websocket import RelayConfig, WebSocketConfig
from tornado_gateway.policy.upstream.endpoint import SUCCESS
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.registry import ServiceRegistry

RNG = random.Random(1)


def new_service(running: Running, name: str, url: str) -> Service:
    """A service as the composition root makes services, with the configuration of the service svc."""
    return make_service(ServiceSpec(name=name, endpoints=(EndpointSpec(url),), service=service_of(running).config), RNG)


async def shake_hands(running: Running, name: bytes) -> Client:
    """A client with an open WebSocket to a service."""
    client = await running.client()
    await client.send(get(b"/ws/%b/chat" % name, *HANDSHAKE))
    assert (await client.head()).status == 101
    return client


# ---- without sockets


def test_a_service_is_found_by_the_name_in_a_target() -> None:
    registry = ServiceRegistry(one := service(1))
    assert (registry.get(b"svc"), registry.get(b"other"), [*registry.shown()]) == (one, None, [one])


def test_a_name_is_given_once() -> None:
    registry = ServiceRegistry(service(1))
    with pytest.raises(ValueError, match="there is a service svc"):
        registry.add(service(1))


@pytest.mark.parametrize("what", ["retire", "reconfigure"])
def test_nothing_is_done_to_a_service_that_is_not_there(what: str) -> None:
    registry = ServiceRegistry()
    with pytest.raises(KeyError):
        if what == "retire":
            registry.retire(b"svc")
        else:
            registry.reconfigure(b"svc", service(1).config, 0.0, RNG)


def test_a_retired_service_is_shown_until_its_last_lease_has_ended() -> None:
    registry = ServiceRegistry(one := service(1))
    lease = lease_on(one, one.endpoints[0])
    assert registry.retire(b"svc") is one
    assert (registry.get(b"svc"), [*registry.values()], [*registry.shown()]) == (None, [], [one])
    lease.settle(SUCCESS, 1.0)
    assert [*registry.shown()] == []


def test_a_name_may_be_used_again_while_leases_on_its_old_service_end() -> None:
    registry = ServiceRegistry(one := service(1))
    lease = lease_on(one, one.endpoints[0])
    registry.retire(b"svc")
    registry.add(other := service(1))
    assert [*registry.shown()] == [other, one]
    lease.settle(SUCCESS, 1.0)
    assert [*registry.shown()] == [other]


def test_another_configuration_reaches_the_service() -> None:
    registry = ServiceRegistry(one := service(1))
    registry.reconfigure(b"svc", replace(one.config, max_in_flight=3), 0.0, RNG)
    assert one.config.max_in_flight == 3


def test_the_shortest_timeout_follows_the_services_that_are_there() -> None:
    registry = ServiceRegistry()
    assert registry.shortest_timeout() == math.inf
    registry.add(service(1, head_timeout=7.0))
    assert registry.shortest_timeout() == 7.0
    websocket = WebSocketConfig(relay=RelayConfig(ping_interval=0.5))
    registry.reconfigure(b"svc", replace(registry[b"svc"].config, websocket=websocket), 0.0, RNG)
    assert registry.shortest_timeout() == 0.5


# ---- a running gateway


@pytest.mark.gen_test
async def test_services_come_change_and_go_under_load_without_an_error(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(named(b"svc")).url]})
    registry, gateway = running.app.gateway.services, running.app.gateway
    assert isinstance(registry, ServiceRegistry)
    is_over, bodies = asyncio.Event(), []

    async def load() -> None:
        while not is_over.is_set():
            answer = await ask(running, get(b"/api/svc/x"))
            assert answer.status == 200
            bodies.append(answer.body)

    loads = [asyncio.ensure_future(load()) for _ in range(4)]
    other = upstream(named(b"other"))
    for number in range(10):
        registry.add(new_service(running, "other", other.url))
        config = service_of(running).config
        balancer = "round_robin" if config.balancer == "least_load" else "least_load"
        registry.reconfigure(b"svc", replace(config, balancer=balancer, max_in_flight=10 + number), gateway.now(), RNG)
        assert (await ask(running, get(b"/api/other/x"))).body == b"other"
        registry.retire(b"other")
        assert (await ask(running, get(b"/api/other/x"))).status == 404
    is_over.set()
    await asyncio.gather(*loads)
    assert set(bodies) == {b"svc"}
    assert running.errors == 0


@pytest.mark.gen_test
async def test_a_request_of_a_retired_service_ends_in_peace_and_counts(serve: Serve, upstream: Start) -> None:
    gate = Gate()
    running = await serve({"svc": [upstream(gate).url]})
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    await eventually(lambda: gate.waiting)
    retired = service_of(running)
    running.app.gateway.services.retire(b"svc")
    assert (await view_of(running))["upstreamDetails"][0]["inflight"]["http"] == 1
    assert (await ask(running, get(b"/api/svc/x"))).status == 404
    await gate.open()
    assert (await client.response()).status == 200
    await eventually(lambda: retired.load == 0)
    assert [*running.app.gateway.services.shown()] == []


@pytest.mark.gen_test
async def test_a_websocket_reaches_an_added_service_by_its_configuration(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]})
    registry, acceptor = running.app.gateway.services, Acceptor()
    registry.add(added := new_service(running, "chat", upstream(acceptor).url))
    small = WebSocketConfig(relay=RelayConfig(max_message=4))
    clients = [Side(await shake_hands(running, b"chat"), masks=True)]
    registry.reconfigure(b"chat", replace(added.config, websocket=small), running.app.gateway.now(), RNG)
    clients.append(Side(await shake_hands(running, b"chat"), masks=True))
    for client in clients:
        await client.send(binary(b"hello"))
    await acceptor.sides[0].hears(binary(b"hello"))  # a WebSocket keeps the limits that it has begun with
    assert (await clients[1].told())[0] == 1009


@pytest.mark.gen_test
async def test_all_services_are_required_that_are_there(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(named(b"svc")).url]}, READY_REQUIRES="*")
    registry = running.app.gateway.services
    registry.add(added := new_service(running, "other", "http://127.0.0.1:1"))
    assert (await ask(running, get(b"/readyz"))).status == 200
    added.force_breaker(added.endpoints[0], running.app.gateway.now(), 60.0)
    assert json.loads((await ask(running, get(b"/readyz"))).body)["services"] == ["other"]
    registry.retire(b"other")
    assert (await ask(running, get(b"/readyz"))).status == 200


@pytest.mark.gen_test
async def test_a_reused_name_shows_the_leases_of_the_retired_service(serve: Serve, upstream: Start) -> None:
    gate = Gate()
    running = await serve({"svc": [(old := upstream(gate)).url]})
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    await eventually(lambda: gate.waiting)
    new = new_service(running, "svc", upstream(named(b"new")).url)
    running.app.gateway.services.retire(b"svc")
    running.app.gateway.services.add(new)
    assert (await ask(running, get(b"/api/svc/x"))).body == b"new"
    view = await view_of(running)
    assert view["departing"] == [{"url": old.url, "inflight": {"http": 1, "sse": 0, "ws": 0}}]
    assert [each["url"] for each in view["upstreamDetails"]] == [new.endpoints[0].url]
    metrics = (await ask(running, get(b"/metrics"))).body
    assert b'{endpoint="%b",kind="http",service="svc"} 1' % old.url.encode() in metrics
    await gate.open()
    assert (await client.response()).status == 200
    assert (await view_of(running))["departing"] == []
