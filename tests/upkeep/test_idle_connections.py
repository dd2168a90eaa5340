"""Connections to endpoints that get no new requests are not kept, through a running gateway."""

import random
from collections.abc import Callable

import pytest

from tests.conftest import Running, Serve
from tests.support.endpoints import Gate, endpoints_of, named, service_of
from tests.support.journeys import Start, ask, silent
from tests.support.sockets import eventually, get
from tornado_gateway.policy.upstream.resolution import new_endpoint


def drain(running: Running, now: float) -> None:
    service_of(running).drain(endpoints_of(running)[0], now)


def retire(running: Running, now: float) -> None:
    running.app.gateway.services.retire(b"svc")


def release(running: Running, now: float) -> None:
    service_of(running).release(endpoints_of(running)[0].url, now)


def replace(running: Running, now: float) -> None:
    service_of(running).replace_endpoints(endpoints_of(running)[1:], now)


@pytest.mark.parametrize("change", [drain, retire, replace])
@pytest.mark.gen_test
async def test_idle_connections_end_where_no_request_goes_any_more(
    serve: Serve, upstream: Start, change: Callable[[Running, float], None]
) -> None:
    leaving, kept = upstream(named(b"leaving")), upstream(named(b"kept"))
    running = await serve({"svc": [leaving.url, kept.url], "other": [kept.url]}, BALANCER="round_robin")
    for _ in range(2):
        assert (await ask(running, get(b"/api/svc/x"))).status == 200
    assert (leaving.open, kept.open) == (1, 1)
    running.app.heartbeat.sweep()
    change(running, running.app.gateway.now())
    await eventually(lambda: leaving.open == 0)
    assert kept.open == 1, "another service has that endpoint, too"
    assert (await ask(running, get(b"/api/other/x"))).body == b"kept"
    assert kept.accepted == 1


@pytest.mark.gen_test
async def test_an_endpoint_that_is_released_from_its_drain_keeps_connections_again(
    serve: Serve, upstream: Start
) -> None:
    up = upstream(named(b"it"))
    running = await serve({"svc": [up.url]}, PANIC_PERCENT="0")
    now = running.app.gateway.now
    running.app.heartbeat.sweep()
    assert (await ask(running, get(b"/api/svc/x"))).status == 200
    drain(running, now())
    await eventually(lambda: up.open == 0)
    release(running, now())
    sweeps = Sweeps()
    running.app.heartbeat._sweepers += (sweeps,)
    for _ in range(2):
        assert (await ask(running, get(b"/api/svc/x"))).status == 200
    await sweeps.more()
    assert (up.open, up.accepted) == (1, 2)


class Sweeps:
    """A sweeper that counts."""

    shortest_timeout = 1e9

    def __init__(self) -> None:
        self.count = 0

    def sweep(self, now: float) -> None:
        self.count += 1

    async def more(self) -> None:
        before = self.count
        await eventually(lambda: self.count > before + 1)


@pytest.mark.gen_test
async def test_a_request_in_flight_ends_in_peace_and_its_connection_afterwards(serve: Serve, upstream: Start) -> None:
    gate = Gate()
    up = upstream(gate)
    running = await serve({"svc": [up.url, "http://127.0.0.1:1"]}, BALANCER="round_robin")
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    await eventually(lambda: gate.waiting)
    sweeps = Sweeps()
    running.app.heartbeat._sweepers += (sweeps,)
    await sweeps.more()
    drain(running, running.app.gateway.now())
    await sweeps.more()
    assert up.open == 1
    await gate.open()
    assert (await client.response()).status == 200
    await eventually(lambda: up.open == 0)


@pytest.mark.gen_test
async def test_a_connection_that_is_being_made_is_not_forgotten(serve: Serve, upstream: Start) -> None:
    up = upstream(silent)
    running = await serve({"svc": [up.url]})
    client, (endpoint,) = running.app.gateway.client, endpoints_of(running)
    assert not client.close_idle(endpoint.origin)
    asking = await running.client()
    await asking.send(get(b"/api/svc/x"))
    await eventually(lambda: client.connecting or up.accepted)
    assert client.close_idle(endpoint.origin)
    await eventually(lambda: up.requests)
    assert client.close_idle(endpoint.origin)
    asking.close()
    await eventually(lambda: not client.close_idle(endpoint.origin))


@pytest.mark.gen_test
async def test_an_endpoint_that_an_operator_adds_and_takes_back(
    serve: Serve, upstream: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tornado_gateway.upkeep.idle_connections.CHECK_INTERVAL", 0)  # each sweep sees all endpoints
    first, added = upstream(named(b"first")), upstream(named(b"added"))
    running = await serve({"svc": [first.url]}, BALANCER="round_robin", SLOW_START_MS="0")
    service, now = service_of(running), running.app.gateway.now()
    service.add_endpoint(new_endpoint(added.url, 1, service.config, random.Random(1), now), now)
    assert {(await ask(running, get(b"/api/svc/x"))).body for _ in range(4)} == {b"first", b"added"}
    running.app.heartbeat.sweep()
    service.release(added.url, running.app.gateway.now())
    assert {(await ask(running, get(b"/api/svc/x"))).body for _ in range(4)} == {b"first"}
    await eventually(lambda: added.open == 0)
