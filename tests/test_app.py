"""The composition root: what settings become, and the life of a gateway from listening to closed."""

import asyncio
import json
import math
import random
import resource
import time
from operator import attrgetter
from pathlib import Path

import jwt
import pytest
from tornado.ioloop import IOLoop

from tests.conftest import Serve, make_settings
from tests.support.sockets import Client, Ended, Peer, Upstream, echo, eventually, get, reply
from tornado_gateway.app import (
    RESERVED_DESCRIPTORS,
    App,
    connections_by_descriptors,
    draw_secrets,
    drawn_secrets,
    listeners,
    make_service,
    server_config,
)
from tornado_gateway.handlers.router import ROUTES
from tornado_gateway.policy.handover import Role
from tornado_gateway.policy.upstream.balancing import LeastLoad, RoundRobin
from tornado_gateway.policy.upstream.hosts import Family
from tornado_gateway.upkeep.heartbeat import SLOWEST
from tornado_gateway.upkeep.ioloop import MonotonicIOLoop
from tornado_gateway.wire.client.resolver import ResolverConfig

SERVICES = {"svc": ["http://127.0.0.1:1"]}


def test_settings_reach_the_server() -> None:
    config = server_config(
        make_settings(
            SERVICES,
            HEADER_TIMEOUT_MS="1500",
            KEEPALIVE_TIMEOUT_MS="2500",
            CLIENT_IDLE_TIMEOUT_MS="3500",
            MAX_BODY_BYTES="17",
            MAX_CONNECTIONS="5",
            HALF_CLOSE="ignore",
        )
    )
    assert (config.header_timeout, config.keepalive_timeout, config.client_idle_timeout) == (1.5, 2.5, 3.5)
    assert (config.max_body_bytes, config.max_connections, config.half_close_aborts) == (17, 5, False)


def test_settings_reach_the_client(tmp_path: Path) -> None:
    file = tmp_path / "empty"
    file.touch()
    config = (
        make_settings(
            SERVICES,
            HTTP_PROXY_TIMEOUT_MS="1000",
            UPSTREAM_CONNECT_TIMEOUT_MS="200",
            DNS_TTL_MS="300",
            DNS_FAMILY="ipv6",
            DNS_RESOLV_CONF=str(file),
            DNS_HOSTS=str(file),
            UPSTREAM_TLS_VERIFY="false",
            UPSTREAM_TLS_CLOSURE="false",
            UPSTREAM_MAX_IDLE="4",
            UPSTREAM_IDLE_TIMEOUT_MS="5000",
        )
    ).client
    assert (config.timeout, config.connect.timeout) == (1.0, 0.2)
    assert config.connect.names == ResolverConfig(0.3, Family.IPV6, str(file), str(file))
    assert config.connect.tls_closure is False
    assert (config.connect.tls_verify, config.pool.max_idle, config.pool.idle_timeout) == (False, 4, 5.0)


def test_names_are_looked_up_as_the_system_does_unless_told_otherwise() -> None:
    assert make_settings(SERVICES).client.connect.names == ResolverConfig()


@pytest.mark.gen_test
async def test_the_heartbeat_follows_the_shortest_timeout(serve: Serve) -> None:
    assert (await serve(SERVICES)).app.heartbeat.interval == SLOWEST
    running = await serve(SERVICES, HEADER_TIMEOUT_MS="700")
    assert running.app.heartbeat.interval == pytest.approx(0.07)


@pytest.mark.parametrize(
    "key",
    [
        "httpProxyTimeoutMs", "upstreamBodyIdleTimeoutMs", "retryTryTimeoutMs", "sseHeartbeatMs", "sseIdleTimeoutMs",
        "sseMaxAgeMs", "wsPingIntervalMs", "wsPongTimeoutMs", "wsIdleTimeoutMs", "healthIntervalMs",
        "healthDownIntervalMs",
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_the_heartbeat_knows_the_timeouts_of_each_service(serve: Serve, key: str) -> None:
    services = {**SERVICES, "hasty": {"endpoints": ["http://127.0.0.1:1"], "healthCheck": "tcp", key: 600}}
    running = await serve(services)
    assert running.app.heartbeat.interval == pytest.approx(0.06)


def test_a_gateway_makes_the_ioloop_of_its_event_loop() -> None:
    async def make() -> IOLoop | None:
        app = App(make_settings(SERVICES))
        await app.close()
        return IOLoop.current(instance=False)

    assert isinstance(asyncio.run(make()), MonotonicIOLoop)


def test_a_service_waits_as_long_as_it_says_and_the_others_as_long_as_all() -> None:
    services = {
        "plain": ["http://127.0.0.1:1"],
        "patient": {"endpoints": ["http://127.0.0.1:1"], "httpProxyTimeoutMs": 90000, "upstreamConnectTimeoutMs": 100},
        "flowing": {"endpoints": ["http://127.0.0.1:1"], "upstreamBodyIdleTimeoutMs": 500, "sseIdleTimeoutMs": 700},
        "silent": {"endpoints": ["http://127.0.0.1:1"], "upstreamBodyIdleTimeoutMs": 0, "sseIdleTimeoutMs": 0},
    }
    settings = make_settings(services, HTTP_PROXY_TIMEOUT_MS="20000")
    configs = {each.name: each.service for each in settings.services}
    assert {
        name: (each.connection.timeout, each.head_timeout, each.body_timeout, each.event_streams.idle_timeout)
        for name, each in configs.items()
    } == {
        "plain": (5.0, 20.0, 20.0, 300.0),
        "patient": (0.1, 90.0, 90.0, 300.0),
        "flowing": (5.0, 20.0, 0.5, 0.7),
        "silent": (5.0, 20.0, math.inf, math.inf),
    }


def test_where_answers_are_late_on_purpose_nothing_goes_by_latency() -> None:
    settings = make_settings({"svc": ["http://127.0.0.1:1"]}, LONG_POLL="true", HEDGE="true", ADAPTIVE_CONCURRENCY="1")
    service = make_service(settings.services[0], random.Random(1))
    assert (service.config.is_long_poll, service.config.hedges, service.outcomes.limit) == (True, False, None)


def test_without_a_limit_there_is_one_connection_to_an_upstream_for_each_client() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connections_by_descriptors(0, 0) == max(1, (limit - RESERVED_DESCRIPTORS) // 2)
    assert server_config(make_settings(SERVICES)).max_connections == connections_by_descriptors(0, 1)


def test_each_listener_has_descriptors_of_its_own() -> None:
    listen = [{"unix": f"/run/{number}.sock"} for number in range(50)] + [{"address": "*:8080"}]
    settings = make_settings(SERVICES, LISTEN=json.dumps(listen))
    assert server_config(settings).max_connections == connections_by_descriptors(0, 52)
    assert connections_by_descriptors(0, 0) - connections_by_descriptors(0, 52) == 52 * 3 // 2


def test_each_name_has_descriptors_to_be_looked_up_with() -> None:
    named = {"a": ["http://a", "http://a:81"], "b": ["http://b", "http://localhost", "unix:/b.sock", "http://10.0.0.7"]}
    assert server_config(make_settings(named)).max_connections == connections_by_descriptors(2, 1)
    assert connections_by_descriptors(2, 1) == connections_by_descriptors(0, 1) - 2


def test_secrets_are_drawn_once_for_all_services() -> None:
    first, second = (
        draw_secrets(make_settings({**SERVICES, "other": ["http://b"]}), drawn_secrets({})) for _ in range(2)
    )
    for path in ("service.affinity.secret", "service.websocket.relay.ping_token"):
        drawn = {attrgetter(path)(each) for each in (first, *first.services)}
        assert len(drawn) == 1 and drawn != {attrgetter(path)(second)}
        assert len(drawn.pop()) >= 16
    assert first.forwarding.pseudonym.startswith(b"gateway-")
    assert first.forwarding.pseudonym != second.forwarding.pseudonym


def test_configured_secrets_are_not_drawn() -> None:
    configured = make_settings(SERVICES, VIA_NAME="gw", STICKY_SECRET="known", STICKY="refuse")
    settings = draw_secrets(configured, drawn_secrets({}))
    assert settings.forwarding.pseudonym == b"gw"
    assert settings.services[0].service.affinity.secret == b"known"


@pytest.mark.parametrize(("log_format", "text"), [("text", True), ("json", False), ("auto", False)])
def test_logs_are_text_when_asked_for(log_format: str, text: bool) -> None:
    assert make_settings(SERVICES, LOG_FORMAT=log_format).logs.is_text() is text


@pytest.mark.gen_test
async def test_each_service_has_its_endpoints_weights_and_balancer(serve: Serve) -> None:
    services = {
        "plain": ["http://127.0.0.1:1", "http://127.0.0.1:2/base"],
        "rich": {"endpoints": [{"url": "http://127.0.0.1:3", "weight": 7}], "balancer": "round_robin"},
    }
    gateway = (await serve(services)).app.gateway
    assert [endpoint.url for endpoint in gateway.services[b"plain"].endpoints] == services["plain"]
    assert isinstance(gateway.services[b"plain"].endpoint_set._balancer, LeastLoad)
    assert gateway.services[b"rich"].endpoints[0].weight == 7
    assert isinstance(gateway.services[b"rich"].endpoint_set._balancer, RoundRobin)


@pytest.mark.gen_test
async def test_every_route_answers(serve: Serve, upstream: Upstream) -> None:
    running = await serve({"svc": [upstream(echo).url]})  # type: ignore[operator]
    others = {"/ws/<service>": 426, "/ws/<service>/*": 426, "/admin/": 308, "/admin/login": 303, "/admin/logout": 405}
    for route in ROUTES:
        client = await running.client()
        target = route.path.replace("<service>", "svc").replace("*", "tokens.css").replace("<id>", "a").encode()
        expected = others.get(route.path, 200 if "GET" in route.allowed else 405)
        method = b"HEAD" if target == b"/admin/events" else b"GET"  # events go on for ever
        assert (await client.ask(get(target, method=method), method)).status == expected, target


@pytest.mark.gen_test
async def test_draining_finishes_requests_in_flight(serve: Serve, upstream: Upstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.wait_for(released.wait(), 5)
        await peer.send(reply(body=b"late"))
        await peer.ended()

    released = asyncio.Event()
    running = await serve({"svc": [upstream(script).url]})  # type: ignore[operator]
    busy, idle = await running.client(), await running.client()
    assert (await idle.ask(get(b"/readyz"))).status == 200
    await busy.send(get(b"/api/svc/x"))
    await eventually(lambda: running.inflight)
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.server.context.draining)
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(running.port)
    released.set()
    answer = await busy.response()
    assert (answer.body, answer.get(b"connection")) == (b"late", b"close")
    assert await idle.ended()  # after its grace
    idle.close()
    assert await draining is True


@pytest.mark.gen_test
async def test_a_client_that_stays_behind_its_last_answer_holds_up_no_stop(serve: Serve, upstream: Upstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.wait_for(released.wait(), 5)
        await peer.send(reply(body=b"late"))
        await peer.ended()

    released = asyncio.Event()
    running = await serve({"svc": [upstream(script).url]})  # type: ignore[operator]
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    await eventually(lambda: running.inflight)
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.server.context.draining)
    released.set()
    assert await draining is True
    assert (
        len(running.app.server.connections) == 1
    )  # it was not waited for until the client ended it, or LINGER was over
    await running.app.close()
    assert (await client.response()).body == b"late"
    assert await client.ended()  # by FIN


@pytest.mark.gen_test
async def test_idle_connections_make_no_stop_unclean(serve: Serve) -> None:
    running = await serve(SERVICES, SHUTDOWN_TIMEOUT_MS="50")
    assert (await (await running.client()).ask(get(b"/readyz"))).status == 200
    assert await running.app.drain() is True
    assert len(running.app.server.connections) == 1
    await running.app.close()


@pytest.mark.gen_test
async def test_draining_gives_up_after_its_timeout(serve: Serve, upstream: Upstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.ended()

    running = await serve({"svc": [upstream(script).url]}, SHUTDOWN_TIMEOUT_MS="50")  # type: ignore[operator]
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    await eventually(lambda: running.inflight)
    assert await running.app.drain() is False
    await running.app.close()
    with pytest.raises(Ended):
        await client.response()


@pytest.mark.gen_test
async def test_readiness_ends_before_accepting_does(serve: Serve) -> None:
    running = await serve(SERVICES, SHUTDOWN_DELAY_MS="60000")
    client = await running.client()
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.gateway.lifecycle.draining)
    assert (await client.ask(get(b"/readyz"))).status == 503
    assert (await (await running.client()).ask(get(b"/healthz"))).status == 200
    draining.cancel()


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.gen_test
async def test_every_answer_from_the_signal_on_says_close(serve: Serve, upstream: Upstream, version: bytes) -> None:
    def asked(target: bytes, *lines: bytes) -> bytes:
        return get(target, b"Connection: keep-alive", *lines).replace(b"HTTP/1.1", b"HTTP/" + version)

    running = await serve({"svc": [upstream(echo).url]}, SHUTDOWN_DELAY_MS="60000")  # type: ignore[operator]
    targets = (b"/api/svc/x", b"/api/nobody/x", b"/readyz", b"/healthz", b"/nothing", b"/sse/svc/x", b"/ws/svc")
    before = []
    for target in targets:
        client = await running.client()
        assert (await client.ask(asked(b"/healthz"))).get(b"connection") in (None, b"keep-alive")
        before.append((client, target))
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.gateway.lifecycle.draining)
    for client, target in before:
        assert b"close" in (await client.ask(asked(target))).all(b"connection"), target
        assert await client.ended()
    draining.cancel()


@pytest.mark.gen_test
async def test_a_token_is_asked_for_before_anything_of_a_service_is_told(serve: Serve, upstream: Upstream) -> None:
    secret = "k" * 32
    up = upstream(echo)  # type: ignore[operator]
    running = await serve({"svc": [up.url]}, AUTH_REQUIRED="true", JWT_SECRET=secret)
    client = await running.client()
    for target in (b"/api/svc/x", b"/api/no-such-service/x"):
        refused = await client.ask(get(target))
        assert refused.status == 401
        assert refused.get(b"www-authenticate") == b'Bearer realm="gateway"'
    assert up.requests == []
    token = jwt.encode({"exp": time.time() + 60}, secret).encode()
    assert (await client.ask(get(b"/api/svc/x", b"Authorization: Bearer " + token))).status == 200
    assert up.requests[0].get(b"authorization") == b"Bearer " + token
    assert (await client.ask(get(b"/healthz"))).status == 200


@pytest.mark.gen_test
async def test_closing_twice_is_closing_once(serve: Serve) -> None:
    app: App = (await serve(SERVICES)).app
    await app.close()
    await app.close()
    assert not app.server.connections


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (("127.0.0.1",), [("127.0.0.1", False)]),
        (("127.0.0.1", "::1"), [("127.0.0.1", False), ("::1", False)]),
        (("*",), [("0.0.0.0", False), ("::", True)]),
    ],
)
def test_each_host_has_a_listener_and_only_ipv6_of_every_address_may_be_missing(hosts, expected) -> None:
    found = listeners(hosts, 8080)
    assert [(each.host, each.is_optional) for each in found] == expected
    assert all((each.port, each.scheme, each.reuse_port) == (8080, b"http", False) for each in found)


@pytest.mark.gen_test
async def test_a_gateway_that_has_ceded_its_sockets_in_vain_serves_again(serve: Serve) -> None:
    running = await serve(SERVICES)
    offer, sockets = running.app.offer()
    assert [each.getsockname()[1] for each in sockets] == [running.port]
    assert [each.role for each in offer.places] == [Role.PUBLIC]
    await running.app.cede()
    client = await running.client()
    await client.send(get(b"/healthz"))
    await running.app.resume()
    assert (await client.response()).status == 200


@pytest.mark.gen_test
async def test_a_gateway_that_was_replaced_is_ready_as_long_as_it_drains(serve: Serve) -> None:
    running = await serve(SERVICES, SHUTDOWN_DELAY_MS="60000")
    client = await running.client()
    await client.ask(get(b"/healthz"))
    running.app.leave(frozenset(running.app.offer()[0].places))
    draining = asyncio.ensure_future(running.app.drain())  # no delay: the address is served
    await eventually(lambda: running.app.server.context.draining)
    response = await client.ask(get(b"/readyz"))
    assert (response.status, response.get(b"connection")) == (200, b"close")
    assert await draining is True
