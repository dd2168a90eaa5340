"""Discovery through the whole gateway: addresses come and go, requests follow, no request is dropped.

The names are made up; their addresses are on loopback, where Linux has all of 127.0.0.0/8.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from tornado.ioloop import IOLoop

from tests.conftest import Running, Serve
from tests.support.event_streams import Listener, Source
from tests.support.journeys import ask
from tests.support.name_servers import (
    AAAA,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    A,
    NameServer,
    Zone,
    resolver_config,
)
from tests.support.sockets import Peer, Script, Upstream, eventually, get, reply
from tests.support.tls import TLSUpstream, ca_file, tls_upstream
from tornado_gateway.app import make_service
from tornado_gateway.config.services import EndpointSpec
from tornado_gateway.config.settings import ServiceSpec
from tornado_gateway.errors import NameNotResolved, NameTimeout
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.hosts import Family
from tornado_gateway.policy.upstream.resolution import KEEP_DEPARTED, new_endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.upkeep.discovery import DOUBTFUL, JITTER, SHORTEST, Discovery, DiscoveryConfig
from tornado_gateway.upkeep.idle_connections import CHECK_INTERVAL, IdleConnections
from tornado_gateway.wire.client.resolver import ResolverConfig

NAME = "billing.test"
ONE, TWO, THREE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
GET = get(b"/api/svc/x")
TTL = 30.0


class Names:
    """A resolver of made-up names.

    Attributes:
        addresses: of each name; an error is what the look-up ends with.
        asked: names, in order.
        gate: to be set before an answer comes.
        at_once: most look-ups that there were at once.
    """

    def __init__(self, **addresses: tuple[str, ...]) -> None:
        self.addresses: dict[str, tuple[str, ...] | Exception] = {f"{name}.test": of for name, of in addresses.items()}
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = self._running = 0

    async def __call__(self, name: str) -> tuple[str, ...]:
        self.asked.append(name)
        self._running += 1
        self.at_once = max(self.at_once, self._running)
        try:
            await self.gate.wait()
        finally:
            self._running -= 1
        found = self.addresses.get(name, NameNotResolved("Domain name not found."))
        if isinstance(found, Exception):
            raise found
        return found


class Clock:
    """Time that passes when a test says so; in the past, however young the machine's own clock is."""

    def __init__(self) -> None:
        self.now = -1e6

    def __call__(self) -> float:
        return self.now


class Found:
    """A gateway whose names are looked up as a test says.

    Attributes:
        names: what is looked up where.
    """

    def __init__(self, running: Running, names: Names, config: DiscoveryConfig) -> None:
        self.running, self.names = running, names
        self.clock = Clock()
        self.client = running.app.gateway.client
        self.services = {name.decode("ascii"): each for name, each in running.app.gateway.services.items()}
        registry = running.app.gateway.services
        self.discovery = Discovery(registry.values(), self.client, config, random.Random(1), self.clock, names)
        self.idle_connections = IdleConnections(registry.values(), self.client)

    @property
    def service(self) -> Service:
        return self.services["svc"]

    @property
    def addresses(self) -> list[str | None]:
        """Of the service's endpoints; None for a name."""
        return self.addresses_of("svc")

    def addresses_of(self, name: str) -> list[str | None]:
        return [endpoint.origin.address for endpoint in self.services[name].endpoints]

    def at(self, address: str) -> Endpoint:
        (found,) = [endpoint for endpoint in self.service.endpoints if endpoint.origin.address == address]
        return found

    async def sweep(self, seconds: float = 0.0) -> int:
        """Advance the clock, sweep, and wait for the look-ups; return their number."""
        self.clock.now += seconds
        before = len(self.names.asked)
        self.discovery.sweep(self.clock.now)
        self.idle_connections.sweep(self.clock.now)
        await asyncio.sleep(0)
        await self.settled()
        return len(self.names.asked) - before

    async def settled(self) -> None:
        await eventually(lambda: not any(name.task for name in self.discovery._names.values()))

    async def now_at(self, *addresses: str, name: str = NAME) -> None:
        """The name has moved, and that is found out."""
        self.names.addresses[name] = addresses
        await self.sweep(TTL * (1 + JITTER))


Find = Callable[..., Awaitable[Found]]


@pytest.fixture
def find(serve: Serve) -> Iterator[Find]:
    """Start a gateway with names: `await find({"svc": [url]}, Names(billing=(ONE, TWO)), ttl=0)`."""
    started: list[Found] = []

    async def start(
        services: dict[str, object], names: Names, variables: dict[str, str] | None = None, **config: object
    ) -> Found:
        running = await serve(
            services, DISCOVERY="false", SLOW_START_MS="0", BALANCER="round_robin", **(variables or {})
        )
        started.append(Found(running, names, DiscoveryConfig(**{"ttl": TTL, **config})))
        return started[-1]

    yield start
    for found in started:
        found.discovery.close()
        for service in found.services.values():
            assert sum(service.inflight.values()) == 0


class At(Upstream):
    """An upstream at one address; its answers tell which."""

    def __init__(self, address: str, port: int, script: Script | None = None) -> None:
        super().__init__(script or self._tell, address=address, port=port)
        self.address = address

    async def _tell(self, peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(reply(body=self.address.encode()))


@pytest.fixture
def instances(io_loop: IOLoop) -> Iterator[Callable[..., list[At]]]:
    """Start upstreams at addresses, all at the same port."""
    started: list[At] = []

    def start(*addresses: str, script: Script | None = None) -> list[At]:
        port = 0
        for address in addresses:
            started.append(At(address, port, script))
            port = started[-1].port
        return started

    yield start
    for each in started:
        io_loop.asyncio_loop.run_until_complete(each.close())


async def who_answers(found: Found, times: int = 4) -> set[str]:
    client = await found.running.client()
    answers = [await client.ask(GET) for _ in range(times)]
    assert {answer.status for answer in answers} == {200}
    return {answer.body.decode() for answer in answers}


# ---- requests follow


@pytest.mark.gen_test
async def test_requests_follow_a_names_addresses(find, instances) -> None:
    ups = instances(ONE, TWO, THREE)
    found = await find({"svc": [f"http://{NAME}:{ups[0].port}/base"]}, Names(billing=(TWO, ONE)))
    await found.sweep()
    assert await who_answers(found) == {ONE, TWO}
    stayed = found.at(TWO)
    await found.now_at(TWO, THREE)
    assert await who_answers(found) == {TWO, THREE}
    assert found.at(TWO) is stayed
    assert (stayed.requests_total, stayed.errors_total) == (4, 0)
    assert [len(up.requests) for up in ups] == [2, 4, 2]
    for up in ups:
        for request in up.requests:
            assert (request.get(b"host"), request.target) == (b"%b:%d" % (NAME.encode(), up.port), b"/base/x")


@pytest.mark.gen_test
async def test_an_endpoints_url_tells_name_and_address(find, instances) -> None:
    (up,) = instances(ONE)
    found = await find({"svc": [f"http://{NAME}:{up.port}/base/"]}, Names(billing=(ONE,)))
    await found.sweep()
    assert [each.url for each in found.service.endpoints] == [f"http://{NAME}:{up.port}/base/#{ONE}"]


@pytest.mark.gen_test
async def test_an_event_stream_goes_on_at_an_address_that_has_left(find, instances) -> None:
    source = Source()
    (leaving,) = instances(ONE, script=source)
    found = await find({"svc": [f"http://{NAME}:{leaving.port}"]}, Names(billing=(ONE,)))
    await found.sweep()
    listener = await Listener.ask(found.running, get(b"/sse/svc/events"))
    await source.say(b"data: 1\n\n")
    await listener.hear(b"data: 1\n\n")
    endpoint = found.at(ONE)
    await found.now_at(TWO)
    assert found.addresses == [TWO]
    await found.sweep(KEEP_DEPARTED)
    await source.say(b"data: 2\n\n")
    await listener.hear(b"data: 2\n\n")
    assert (endpoint.streams, endpoint.is_admitted) == (1, False)
    await source.end()
    await listener.all()
    assert listener.end == "complete"
    await eventually(lambda: endpoint.load == 0)
    assert (endpoint.requests_total, endpoint.errors_total) == (1, 0)


@pytest.mark.gen_test
async def test_a_request_is_answered_by_an_address_that_has_left_meanwhile(find, instances) -> None:
    may_answer = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await may_answer.wait()
        await peer.send(reply())
        await peer.ended()

    (leaving,) = instances(ONE, script=script)
    found = await find({"svc": [f"http://{NAME}:{leaving.port}"]}, Names(billing=(ONE,)))
    found.running.app.heartbeat.stop()  # the test alone says when connections are closed
    await found.sweep()
    endpoint = found.at(ONE)
    client = await found.running.client()
    await client.send(GET)
    await eventually(lambda: leaving.requests)
    await found.now_at(TWO)
    await found.sweep()
    may_answer.set()
    assert (await client.response()).body == b"ok"
    assert (endpoint.load, endpoint.requests_total, endpoint.errors_total) == (0, 1, 0)
    assert len(found.client.pool(endpoint.origin)) == 1  # kept, as after any answer
    await found.sweep(1.0)
    await eventually(lambda: leaving.open == 0)  # but not for long


# ---- kept connections


@pytest.mark.gen_test
async def test_only_idle_connections_to_departed_endpoints_are_closed(find, instances) -> None:
    leaving, staying = instances(ONE, TWO)
    found = await find({"svc": [f"http://{NAME}:{leaving.port}"]}, Names(billing=(ONE, TWO)))
    await found.sweep()
    await who_answers(found)
    assert (leaving.open, staying.open) == (1, 1)
    await found.now_at(TWO)
    await found.sweep(CHECK_INTERVAL)
    await eventually(lambda: leaving.open == 0)
    await who_answers(found)
    assert (staying.open, staying.accepted) == (1, 1)


@pytest.mark.gen_test
async def test_an_address_that_another_service_still_has_keeps_its_connections(find, instances) -> None:
    (up,) = instances(ONE)
    urls = [f"http://{NAME}:{up.port}#{ONE}"]
    found = await find({"svc": [f"http://{NAME}:{up.port}"], "other": urls}, Names(billing=(ONE,)))
    await found.sweep()
    await who_answers(found)
    await found.now_at(TWO)
    await found.sweep(CHECK_INTERVAL)
    assert len(found.client.pool(found.services["other"].endpoints[0].origin)) == 1
    answer = await ask(found.running, get(b"/api/other/x"))
    assert (answer.status, up.accepted) == (200, 1)


@pytest.mark.gen_test
async def test_departed_endpoints_are_forgotten_in_the_end(find, instances) -> None:
    (up,) = instances(ONE)
    found = await find({"svc": [f"http://{NAME}:{up.port}"]}, Names(billing=(ONE,)))
    await found.sweep()
    await found.now_at(TWO)
    (resolution,) = found.discovery._resolutions.values()
    assert len(resolution.departed) == 2  # the name itself, and its first address
    await found.sweep(2 * KEEP_DEPARTED)
    assert resolution.departed == {}


# ---- services come, change and go


def named_service(found: Found, name: str, *urls: str) -> Service:
    config = found.service.config
    specs = tuple(EndpointSpec(url) for url in urls)
    return make_service(ServiceSpec(name=name, endpoints=specs, service=config), random.Random(1))


@pytest.mark.gen_test
async def test_the_names_of_an_added_service_are_looked_up_and_those_of_a_retired_service_no_more(find) -> None:
    found = await find({"svc": ["http://127.0.0.1:1"]}, Names(billing=(ONE,)))
    registry = found.running.app.gateway.services
    assert await found.sweep() == 0
    registry.add(added := named_service(found, "other", f"http://{NAME}:1"))
    assert await found.sweep() == 1
    assert [each.origin.address for each in added.endpoints] == [ONE]
    registry.retire(b"other")
    assert await found.sweep(2 * TTL) == 0
    assert (found.discovery._names, list(found.discovery._resolutions)) == ({}, [found.service])


@pytest.mark.gen_test
async def test_a_look_up_for_a_retired_service_is_given_up(find) -> None:
    names = Names(billing=(ONE,))
    found = await find({"svc": [f"http://{NAME}"], "other": ["http://mail.test"]}, names)
    names.gate.clear()
    found.discovery.sweep(found.clock.now)
    await eventually(lambda: names._running == 2)
    found.running.app.gateway.services.retire(b"svc")
    found.discovery.sweep(found.clock.now)
    await eventually(lambda: names._running == 1)
    names.gate.set()
    await found.settled()
    assert found.addresses_of("svc") == [None]


@pytest.mark.gen_test
async def test_an_added_service_has_addresses_that_are_known_at_once(find) -> None:
    found = await find({"svc": [f"http://{NAME}"]}, Names(billing=(ONE, TWO)))
    await found.sweep()
    found.running.app.gateway.services.add(added := named_service(found, "other", f"http://{NAME}:1"))
    assert await found.sweep() == 0
    assert [each.origin.address for each in added.endpoints] == [ONE, TWO]
    await found.now_at(THREE)
    assert [each.origin.address for each in added.endpoints] == [THREE]


@pytest.mark.parametrize("url", [f"http://{NAME}", "http://mail.test"], ids=["a known name", "a new name"])
@pytest.mark.gen_test
async def test_the_name_of_an_added_endpoint_is_looked_up_until_it_is_released(find, url) -> None:
    found = await find({"svc": ["http://billing.test:1"]}, Names(billing=(ONE,), mail=(TWO,)))
    await found.sweep()
    service, now = found.service, found.clock()
    before = service.endpoints
    service.add_endpoint(new_endpoint(url, 5, service.config, random.Random(1), now), now)
    await found.sweep()
    added = service.endpoints[1]
    assert (service.endpoints[:1], added.url, added.weight) == (before, f"{url}#{added.origin.address}", 5)
    assert added.joined_at == now, "the gateway has run for long: what is added begins slowly"
    service.release(url, now)
    assert service.endpoints == before
    await found.sweep(2 * TTL)
    assert (service.endpoints, found.discovery._names.keys()) == (before, {NAME})


@pytest.mark.gen_test
async def test_an_endpoint_replaced_by_an_operator_comes_back(find) -> None:
    found = await find({"svc": [f"http://{NAME}"]}, Names(billing=(ONE,)))
    await found.sweep()
    service, now, (by_name,) = found.service, found.clock(), found.service.endpoints
    by_address = new_endpoint(f"http://{ONE}", 5, service.config, random.Random(1), now)
    service.add_endpoint(by_address, now)
    await found.sweep()
    assert service.endpoints == (by_address,)
    service.release(by_address.url, now)
    assert service.endpoints == (by_address,), "until the name's own endpoint is there"
    await found.sweep()
    assert service.endpoints == (by_name,)


@pytest.mark.gen_test
async def test_a_new_endpoint_has_the_newest_configuration_of_its_breaker(find) -> None:
    found = await find({"svc": [f"http://{NAME}"]}, Names(billing=(ONE,)))
    await found.sweep()
    service = found.service
    breaker = replace(service.config.breaker, failures=1)
    service.reconfigure(replace(service.config, breaker=breaker), found.clock(), random.Random(1))
    await found.now_at(ONE, TWO)
    for endpoint in service.endpoints:
        endpoint.breaker.end(endpoint.breaker.begin(found.clock()), found.clock(), failed=True)
    assert [endpoint.breaker.is_open for endpoint in service.endpoints] == [True, True]


# ---- what changes nothing


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(NameNotResolved("Could not contact DNS servers."), id="no name server"),
        pytest.param(NameNotResolved("Domain name not found."), id="no such name"),
        pytest.param(NameTimeout(), id="a timeout"),
        pytest.param((), id="an empty answer"),
        pytest.param(("fe80::1",), id="nothing usable"),
    ],
)
@pytest.mark.gen_test
async def test_a_look_up_that_fails_changes_nothing(find, instances, caplog, answer) -> None:
    ups = instances(ONE, TWO)
    found = await find({"svc": [f"http://{NAME}:{ups[0].port}"]}, Names(billing=(ONE, TWO)))
    await found.sweep()
    await who_answers(found)
    before = found.service.endpoints
    found.names.addresses[NAME] = answer
    with caplog.at_level(logging.WARNING, "tornado_gateway"):
        for _ in range(3):
            assert await found.sweep(TTL * (1 + JITTER)) == 1
    assert len(caplog.records) == 1  # said once, not each time
    assert NAME in caplog.text
    assert found.service.endpoints is before
    assert await who_answers(found) == {ONE, TWO}
    assert [up.accepted for up in ups] == [1, 1]


@pytest.mark.gen_test
async def test_before_the_first_answer_the_name_itself_is_the_endpoint(find, upstream) -> None:
    up = upstream()
    found = await find({"svc": [f"http://localhost:{up.port}", f"http://{NAME}:{up.port}"]}, Names())
    await found.sweep()
    assert found.addresses == [None, None]
    assert (await ask(found.running, GET)).status == 200  # by localhost: the other one fails, and is tried elsewhere
    await found.now_at(ONE)
    assert found.addresses == [None, ONE]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}", "http://localhost:{port}", "http://billing.test:{port}#127.0.0.1"]
)
@pytest.mark.gen_test
async def test_hosts_that_are_not_resolvable_are_not_looked_up(find, upstream, url) -> None:
    found = await find({"svc": [url.format(port=upstream().port)]}, Names())
    before = found.service.endpoints
    assert await found.sweep() == 0
    assert found.service.endpoints is before
    assert (await ask(found.running, GET)).status == 200


# ---- families


@pytest.mark.parametrize(
    ("family", "used"),
    [
        (Family.AUTO, ["127.0.0.1"]),
        (Family.IPV4, ["127.0.0.1"]),
        (Family.IPV6, ["::1"]),
        (Family.ALL, ["127.0.0.1", "::1"]),
    ],
)
@pytest.mark.gen_test
async def test_the_families_of_a_dual_stack_name(find, upstream, family, used) -> None:
    up = upstream()
    found = await find({"svc": [f"http://{NAME}:{up.port}"]}, Names(billing=("::1", "127.0.0.1")), family=family)
    await found.sweep()
    assert found.addresses == used


@pytest.mark.parametrize(
    ("family", "asked"), [("ipv4", {A}), ("ipv6", {AAAA}), ("auto", {A, AAAA}), ("all", {A, AAAA})]
)
@pytest.mark.gen_test
async def test_the_families_that_name_servers_are_asked_for(
    serve, instances, name_server, tmp_path, family, asked
) -> None:
    server = await name_server({NAME: [ONE]})
    variables = paths(resolver_config(tmp_path, server, conf="search .\n"))
    await serve({"svc": [f"http://{NAME}:1"]}, DNS_FAMILY=family, **variables)
    await eventually(lambda: {query.type for query in server.asked} == asked)


# ---- with a name server


def paths(config: ResolverConfig) -> dict[str, str]:
    return {"DNS_RESOLV_CONF": config.resolv_conf, "DNS_HOSTS": config.hosts}


@pytest.fixture
def named(serve, name_server, tmp_path):
    """Start a name server, and a gateway that asks it: `server, running = await named({NAME: [ONE]}, services)`."""

    async def start(
        zone: Zone, services: dict[str, Any], hosts: str = "", patience: int = 1, **variables: str
    ) -> tuple[NameServer, Running]:
        server = await name_server(zone)
        conf = f"search .\noptions timeout:{patience} attempts:1\n"
        config = resolver_config(tmp_path, server, conf=conf, hosts=hosts)
        return server, await serve(services, SLOW_START_MS="0", **paths(config), **variables)

    return start


def addresses_of(running: Running) -> list[str | None]:
    (service,) = running.app.gateway.services.values()
    return [endpoint.origin.address for endpoint in service.endpoints]


@pytest.mark.parametrize("host", [NAME, NAME.upper(), f"{NAME}."])
@pytest.mark.gen_test
async def test_a_names_addresses_are_found_by_its_name_server(named, instances, host) -> None:
    (up,) = instances(ONE)
    server, running = await named({NAME: [ONE]}, {"svc": [f"http://{host}:{up.port}"]})
    await eventually(lambda: addresses_of(running) == [ONE])
    assert (await ask(running, GET)).body == ONE.encode()
    assert up.requests[0].get(b"Host") == b"%b:%d" % (NAME.encode(), up.port)  # without the dot, in small letters
    assert len(server.names()) == 1


@pytest.mark.gen_test
async def test_a_host_that_is_written_in_two_ways_is_one_endpoint(named, instances) -> None:
    (up,) = instances(ONE)
    urls = [f"http://{NAME}:{up.port}", f"http://{NAME}.:{up.port}"]
    server, running = await named({NAME: [ONE]}, {"svc": urls})
    await eventually(lambda: addresses_of(running) == [ONE])
    assert len(server.names()) == 2


@pytest.mark.gen_test
async def test_a_request_before_the_first_answer_waits_for_the_same_look_up(named, instances) -> None:
    (up,) = instances(ONE)
    server, running = await named({NAME: [ONE]}, {"svc": [f"http://{NAME}:{up.port}"]})
    server.gate.clear()
    asking = asyncio.create_task(ask(running, GET))
    await eventually(lambda: len(running.app.gateway.client.connecting) == 1)
    server.gate.set()
    assert (await asking).body == ONE.encode()
    assert len(server.names()) == 1


@pytest.mark.gen_test
async def test_the_ttl_of_an_answer_does_not_count(named, instances) -> None:
    (up,) = instances(ONE, TWO)[:1]
    server, running = await named({NAME: [ONE]}, {"svc": [f"http://{NAME}:{up.port}"]}, DNS_TTL_MS="1000")
    await eventually(lambda: addresses_of(running) == [ONE])
    server.zone[NAME] = [TWO]  # though the answer may be kept for an hour
    await eventually(lambda: addresses_of(running) == [TWO])
    assert (await ask(running, GET)).body == TWO.encode()


@pytest.mark.parametrize("failure", [NXDOMAIN, SERVFAIL, REFUSED, [], None], ids=str)
@pytest.mark.gen_test
async def test_endpoints_outlive_a_name_server(named, instances, failure) -> None:
    (up,) = instances(ONE)
    server, running = await named({NAME: [ONE]}, {"svc": [f"http://{NAME}:{up.port}"]}, DNS_TTL_MS="0")
    await eventually(lambda: addresses_of(running) == [ONE])
    server.zone[NAME], before = failure, len(server.names())
    await eventually(lambda: len(server.names()) >= before + 2)
    assert addresses_of(running) == [ONE]
    assert (await ask(running, GET)).body == ONE.encode()


@pytest.mark.parametrize(
    ("zone", "status", "error"),
    [
        ({}, 502, b"dns_error"),
        ({NAME: SERVFAIL}, 502, b"dns_error"),
        ({NAME: []}, 502, b"dns_error"),
        ({NAME: None}, 504, b"dns_timeout"),
    ],
    ids=["NXDOMAIN", "SERVFAIL", "empty", "silent"],
)
@pytest.mark.gen_test
async def test_what_a_client_is_told_of_a_name(named, zone, status, error) -> None:  # RFC 9209 §2.3.2
    _, running = await named(zone, {"svc": [f"http://{NAME}:1"]})
    answer = await ask(running, GET)
    assert answer.status == status
    assert b"error=" + error in answer.get(b"Proxy-Status")


@pytest.mark.parametrize("discovery", ["true", "false"])
@pytest.mark.gen_test
async def test_a_hundred_names_that_hang_hold_up_nothing_else(named, instances, discovery) -> None:
    (up,) = instances(ONE)
    services = {f"svc{number}": [f"http://name{number}.test"] for number in range(100)}
    services |= {"named": [f"http://{NAME}:{up.port}"], "svc": [f"http://{ONE}:{up.port}"]}
    options = {"DISCOVERY": discovery, "UPSTREAM_CONNECT_TIMEOUT_MS": "60000"}
    # A busy machine takes less than 30 s until all of them wait.
    server, running = await named({"*": None, NAME: [ONE]}, services, patience=30, **options)
    clients = [await running.client() for _ in range(100)]
    for number, client in enumerate(clients):
        await client.send(get(b"/api/svc%d/x" % number))
    await eventually(lambda: len({*server.names()} - {NAME}) == 100)
    for target in (b"/api/svc/x", b"/api/named/x"):
        assert (await ask(running, get(target))).body == ONE.encode()
    assert len(running.app.gateway.client.connecting) == 100


# ---- when


@pytest.mark.parametrize(("ttl", "least"), [(30.0, 30.0), (1.5, 1.5), (0.2, SHORTEST), (0.0, SHORTEST)])
@pytest.mark.gen_test
async def test_a_name_is_looked_up_again_when_its_time_is_over(find, ttl, least) -> None:
    found = await find({"svc": [f"http://{NAME}"]}, Names(billing=(ONE,)), ttl=ttl)
    assert await found.sweep() == 1
    for _ in range(5):
        assert await found.sweep(least - 0.001) == 0
        assert await found.sweep(0.001 + least * JITTER) == 1


@pytest.mark.gen_test
async def test_names_get_out_of_step(find) -> None:
    hosts = [f"host{number}.test" for number in range(20)]
    found = await find({"svc": [f"http://{host}" for host in hosts]}, Names(**{host[:-5]: (ONE,) for host in hosts}))
    assert await found.sweep() == 20
    counts = [await found.sweep(TTL)] + [await found.sweep(TTL * JITTER / 10) for _ in range(10)]
    assert sum(counts) == 20
    assert max(counts) < 10


@pytest.mark.parametrize(("ttl", "pause"), [(30.0, DOUBTFUL), (2.0, 2.0), (0.0, SHORTEST)])
@pytest.mark.gen_test
async def test_a_look_up_that_failed_is_repeated_sooner(find, ttl, pause) -> None:
    found = await find({"svc": [f"http://{NAME}"]}, Names(), ttl=ttl)
    assert await found.sweep() == 1
    assert await found.sweep(pause - 0.001) == 0
    assert await found.sweep(0.001 + pause * JITTER) == 1


@pytest.mark.gen_test
async def test_a_connection_that_fails_has_its_name_looked_up_soon(find, instances) -> None:
    (up,) = instances(TWO)
    found = await find({"svc": [f"http://{NAME}:{up.port}"]}, Names(billing=(ONE,)))  # nobody listens there
    await found.sweep()
    assert await found.sweep(DOUBTFUL - 0.001) == 0
    found.names.addresses[NAME] = (TWO,)
    assert (await ask(found.running, GET)).status == 502
    assert await found.sweep() == 0
    assert await found.sweep(0.001) == 1
    assert await who_answers(found) == {TWO}
    assert await found.sweep(TTL - 0.001) == 0


@pytest.mark.gen_test
async def test_a_failed_connection_to_an_unknown_name_is_ignored(find, instances) -> None:
    (up,) = instances(ONE)
    found = await find({"svc": [f"http://127.0.0.9:{up.port}"]}, Names())
    assert (await ask(found.running, GET)).status == 502
    assert await found.sweep(DOUBTFUL) == 0


@pytest.mark.gen_test
async def test_one_look_up_of_a_name_at_a_time_serves_all_services(find) -> None:
    names = Names(billing=(ONE,))
    found = await find({"svc": [f"http://{NAME}:1", f"http://{NAME}:2"], "other": [f"http://{NAME}:3"]}, names)
    names.gate.clear()
    for _ in range(5):
        found.clock.now += 10 * TTL
        found.discovery.sweep(0.0)
        await asyncio.sleep(0)
    assert names.asked == [NAME]
    names.gate.set()
    await found.settled()
    assert names.at_once == 1
    assert {each.origin.address for service in found.services.values() for each in service.endpoints} == {ONE}


@pytest.mark.gen_test
async def test_a_hanging_look_up_does_not_delay_other_names(find) -> None:
    names = Names(billing=(ONE,), mail=(TWO,))
    gates = {NAME: asyncio.Event(), "mail.test": asyncio.Event()}

    async def resolver(name: str) -> tuple[str, ...]:
        await gates[name].wait()
        return await names(name)

    found = await find({"svc": [f"http://{NAME}", "http://mail.test"]}, resolver)
    gates["mail.test"].set()
    found.discovery.sweep(0.0)
    await eventually(lambda: found.addresses == [None, TWO])
    gates[NAME].set()
    await found.settled()
    assert found.addresses == [ONE, TWO]


@pytest.mark.parametrize("is_under_way", [True, False])
@pytest.mark.gen_test
async def test_nothing_is_looked_up_behind_the_end(find, is_under_way) -> None:
    names = Names(billing=(ONE,))
    found = await find({"svc": [f"http://{NAME}"]}, names)
    if is_under_way:
        names.gate.clear()
        found.discovery.sweep(0.0)
        await eventually(lambda: names.asked)
    found.discovery.close()
    names.gate.set()
    assert await found.sweep(10 * TTL) == 0
    assert len(names.asked) == is_under_way
    assert found.addresses == [None]


# ---- TLS


@asynccontextmanager
async def secure(directory: Path, *hosts: str) -> AsyncIterator[tuple[TLSUpstream, str]]:
    """A TLS upstream with a certificate for some hosts, and the file of its authority."""
    authority = trustme.CA()
    async with tls_upstream(authority, None, *hosts) as up:
        yield up, ca_file(authority, directory)


@pytest.mark.gen_test
async def test_the_tls_server_name_is_the_name_not_the_address(find, tmp_path) -> None:
    async with secure(tmp_path, NAME) as (up, trusted):
        variables = {"UPSTREAM_TLS_CA_FILE": trusted}
        found = await find({"svc": [f"https://{NAME}:{up.port}"]}, Names(billing=("127.0.0.1",)), variables)
        await found.sweep()
        assert found.addresses == ["127.0.0.1"]
        assert (await ask(found.running, GET)).status == 200
        assert up.names == [NAME]
        assert b"Host: %b:%d\r\n" % (NAME.encode(), up.port) in up.heads[0]


@pytest.mark.gen_test
async def test_a_certificate_for_the_address_alone_is_not_enough(find, tmp_path) -> None:
    async with secure(tmp_path, "127.0.0.1") as (up, trusted):
        variables = {"UPSTREAM_TLS_CA_FILE": trusted}
        found = await find({"svc": [f"https://{NAME}:{up.port}"]}, Names(billing=("127.0.0.1",)), variables)
        await found.sweep()
        assert (await ask(found.running, GET)).status == 502
        assert up.heads == []


# ---- under load


@pytest.mark.gen_test
async def test_no_request_fails_while_addresses_come_and_go(find, instances) -> None:
    ups = instances(ONE, TWO, THREE)
    found = await find({"svc": [f"http://{NAME}:{ups[0].port}"]}, Names(billing=(ONE, TWO)))
    await found.sweep()
    statuses: list[int] = []
    is_over = False

    async def load() -> None:
        client = await found.running.client()
        while not is_over:
            statuses.append((await client.ask(GET)).status)

    loads = [asyncio.create_task(load()) for _ in range(8)]
    rng = random.Random(1)
    for _ in range(40):
        await found.now_at(*rng.sample([ONE, TWO, THREE], rng.randint(1, 3)))
        before = len(statuses)
        await eventually(lambda before=before: len(statuses) > before + 5)
    is_over = True
    await asyncio.gather(*loads)
    assert set(statuses) == {200}
    assert all(up.requests for up in ups)
    (resolution,) = found.discovery._resolutions.values()
    assert sum(each.load for each in (*found.service.endpoints, *resolution.departed)) == 0
