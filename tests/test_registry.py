"""Services that come, change and go while requests run."""

import asyncio
import json
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import Running, Serve
from tests.support.endpoints import EVENT, WHOLE_STREAM, Gate, named, service_of, view_of
from tests.support.event_streams import Listener
from tests.support.journeys import Start, ask
from tests.support.services import lease_on, service
from tests.support.sockets import Client, Peer, eventually, get, reply
from tests.support.websockets import CLOSE, HANDSHAKE, Acceptor, Side, accepting, binary, close
from tornado_gateway.app import make_service
from tornado_gateway.config.services import EndpointSpec
from tornado_gateway.config.settings import ServiceSpec
from tornado_gateway.policy.http.websocket import RelayConfig, WebSocketConfig
from tornado_gateway.policy.upstream.endpoint import SUCCESS
from tornado_gateway.policy.upstream.health import HealthConfig, HealthKind
from tornado_gateway.policy.upstream.resolution import new_endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.registry import ServiceRegistry

RNG = random.Random(1)


def new_service(running: Running, name: str, *urls: str) -> Service:
    """A service as the composition root makes services, with the configuration of the service svc."""
    specs = tuple(EndpointSpec(url) for url in urls)
    return make_service(ServiceSpec(name=name, endpoints=specs, service=service_of(running).config), RNG)


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


def test_retired_services_are_let_go_of_though_no_figures_are_asked_for() -> None:
    registry = ServiceRegistry()
    for _ in range(3):
        registry.add(service(1))
        newest = registry.retire(b"svc")
    assert registry._retired == [newest]


def test_showing_services_changes_nothing() -> None:
    registry = ServiceRegistry(one := service(1))
    lease = lease_on(one, one.endpoints[0])
    registry.retire(b"svc")
    shown = registry.shown()
    lease.settle(SUCCESS, 1.0)
    lease_on(one, one.endpoints[0])
    assert [*registry.shown()] == [*shown] == [one]


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


# ---- any sequence of changes


class Upstreams:
    """Endpoints that answer requests, event streams and WebSockets by the target of the request."""

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.target == b"/chat":
                await peer.send(accepting(request))
                side = Side(peer, masks=False)
                while (frame := await side.frame()).opcode != CLOSE:
                    await side.send(frame)
                await side.send(frame)
                return
            await peer.send(WHOLE_STREAM if request.target == b"/events" else reply())


class Traffic:
    """Clients that keep asking for services which come and go.

    Attributes:
        statuses: of all answers so far, by kind.
    """

    def __init__(self, running: Running, names: Sequence[bytes]) -> None:
        self._running, self._names, self._rng = running, names, random.Random(2)
        self._is_over = False
        self.statuses: dict[str, Counter[int]] = {"http": Counter(), "sse": Counter(), "ws": Counter()}
        self._tasks = [asyncio.ensure_future(each()) for each in (self._http, self._http, self._sse, self._ws)]

    @property
    def count(self) -> int:
        return min(each.total() for each in self.statuses.values())

    async def more(self) -> None:
        """Wait until each kind has had another answer."""
        before = self.count
        await eventually(lambda: self.count > before or any(task.done() for task in self._tasks))

    async def end(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def _http(self) -> None:
        client = await self._running.client()
        while not self._is_over:
            answer = await client.ask(get(b"/api/%b/x" % self._rng.choice(self._names)))
            assert answer.complete
            self.statuses["http"][answer.status] += 1

    async def _sse(self) -> None:
        while not self._is_over:
            listener = await Listener.ask(self._running, get(b"/sse/%b/events" % self._rng.choice(self._names)))
            if listener.head.status == 200:
                await listener.all()
                assert (listener.body, listener.end) == (EVENT, "complete")
            listener.client.close()
            self.statuses["sse"][listener.head.status] += 1

    async def _ws(self) -> None:
        while not self._is_over:
            client = await self._running.client()
            await client.send(get(b"/ws/%b/chat" % self._rng.choice(self._names), *HANDSHAKE))
            status = (await client.head()).status
            if status == 101:
                side = Side(client, masks=True)
                await side.send(binary(b"hello"))
                await side.hears(binary(b"hello"))
                await side.send(close(1000))
                assert await side.told() == (1000, b"")
            client.close()
            self.statuses["ws"][status] += 1


CHANGES = ("balancer", "max_in_flight", "hedge", "health", "slow_start", "max_waiting")


def changed(config: ServiceConfig, what: str, rng: random.Random) -> ServiceConfig:
    """Another configuration, by which no request need fail."""
    values: dict[str, Any] = {
        "balancer": rng.choice(["round_robin", "least_load"]),
        "max_in_flight": rng.choice([1, 50, math.inf]),
        "hedge": rng.random() < 0.5,
        "health": HealthConfig(kind=rng.choice(list(HealthKind)[:3]), interval=0.05, interval_down=0.05),
        "slow_start": rng.choice([0.0, 0.01, 10.0]),
        "max_waiting": rng.choice([50, 100]),
    }
    return replace(config, **{what: values[what]})


class Operator:
    """Changes services at random.

    Attributes:
        retired: services, in the order of their retirement.
    """

    def __init__(self, running: Running, urls: Sequence[str], seed: int) -> None:
        self._running, self._urls, self._rng = running, urls, random.Random(seed)
        self._registry = running.app.gateway.services
        self.retired: list[Service] = []

    def change(self, name: bytes, *, may_retire: bool) -> None:
        service, rng = self._registry.get(name), self._rng
        if service is None:
            self._registry.add(new_service(self._running, name.decode(), *rng.sample(self._urls, 2)))
        elif may_retire and rng.random() < 0.4:
            self.retire(name)
        elif rng.random() < 0.5:
            config, now = changed(service.config, rng.choice(CHANGES), rng), self._running.app.gateway.now()
            self._registry.reconfigure(name, config, now, rng)
        else:
            self._change_endpoints(service, self._running.app.gateway.now())

    def retire(self, name: bytes) -> None:
        if name in self._registry:
            self.retired.append(self._registry.retire(name))

    def _change_endpoints(self, service: Service, now: float) -> None:
        endpoint = self._rng.choice(service.endpoints)
        is_last = not any(each.weight for each in service.endpoints if each is not endpoint)
        what = "add" if is_last else self._rng.choice(["drain", "add", "release"])
        if what == "drain":
            service.drain(endpoint, now)
        elif what == "release":
            service.release(endpoint.url, now)
        else:
            url = self._rng.choice(self._urls)
            service.add_endpoint(new_endpoint(url, 1, service.config, self._rng, now), now)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.gen_test(timeout=60)
async def test_any_sequence_of_changes_costs_no_request(serve: Serve, upstream: Start, seed: int) -> None:
    urls = [upstream(Upstreams()).url for _ in range(3)]
    running = await serve({"svc": urls}, QUEUE_TIMEOUT_MS="10000")
    registry, names, rng = running.app.gateway.services, [b"svc", b"one", b"two"], random.Random(seed)
    traffic, operator = Traffic(running, names), Operator(running, urls, seed)
    for _ in range(40):
        operator.change(name := rng.choice(names), may_retire=name != b"svc")
        await traffic.more()
    await traffic.end()
    for name in names[1:]:
        operator.retire(name)
    assert operator.retired
    for kind, good in (("http", 200), ("sse", 200), ("ws", 101)):
        assert traffic.statuses[kind].keys() == {good, 404}, traffic.statuses
    await eventually(lambda: not any(each.load or each.waiting for each in (*registry.values(), *operator.retired)))
    assert [*registry.shown()] == [service_of(running)]
    assert (await stats_and_metrics(running)).keys() == {"svc"}


async def stats_and_metrics(running: Running) -> dict[str, Any]:
    """The services of both pages of figures, which agree: nothing is in flight."""
    shown = json.loads((await ask(running, get(b"/admin/stats"))).body)["services"]
    text = (await ask(running, get(b"/metrics"))).body.decode()
    for name, view in shown.items():
        assert view["departing"] == []
        for endpoint in view["upstreamDetails"]:
            assert not any(endpoint["inflight"].values())
            for kind in endpoint["inflight"]:
                line = f'gateway_upstream_inflight{{endpoint="{endpoint["url"]}",kind="{kind}",service="{name}"}} 0'
                assert line in text, line
    assert set(re.findall(r'service="([^"]+)"', text)) == shown.keys()
    assert "gateway_websocket_connections 0" in text
    return shown
