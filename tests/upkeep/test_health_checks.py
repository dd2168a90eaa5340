"""Health checks: which endpoints are checked, when, and what the results change.

The time between checks is a test's own; only how long an answer may take is real.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.conftest import Running, Serve
from tests.support.endpoints import Gate
from tests.support.exchanges import exchange, wire_client
from tests.support.journeys import Start, ask, flowing, plays, silent
from tests.support.limits import no_descriptors
from tests.support.sockets import Ended, Peer, Script, echo, eventually, get, reply
from tests.support.tls import ca_file, tls_upstream
from tornado_gateway.config.settings import assemble
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig, State
from tornado_gateway.policy.upstream.endpoint import FAILURE, FIRST_SHARE, Endpoint, LeaseRequest
from tornado_gateway.policy.upstream.health import HealthConfig, HealthKind
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.upkeep.health_checks import AT_ONCE, IDLE_FOR, MOST_OF_BODY, HealthChecks, Shares
from tornado_gateway.wire.client.client import PooledHTTPClient

REFUSING = "http://127.0.0.1:1"
INTERVAL, INTERVAL_DOWN = 10.0, 2.0
FEW = 3  # checks at once, where a test needs all of them
LONG = 1.2 * INTERVAL  # seconds after which any check is due
OPEN_FOR = 15.0
CONFIG = HealthConfig(kind=HealthKind.HTTP, interval=INTERVAL, interval_down=INTERVAL_DOWN, timeout=5.0)
ALONE = Shares()
HASTY = HealthConfig(kind=HealthKind.HTTP, timeout=0.05)
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Checking:
    """Services that are looked after."""

    def __init__(
        self, client: PooledHTTPClient, *services: Service, at_once: int = AT_ONCE, shares: Shares = ALONE
    ) -> None:
        self.clock = Clock()
        self.client = client
        self.checks = HealthChecks(services, client, random.Random(1), self.clock, at_once, shares)

    def sweep(self, seconds: float = 0.0) -> None:
        """Advance the clock, and begin the checks that are due."""
        self.clock.now += seconds
        self.checks.sweep(self.clock.now)

    async def passes(self, seconds: float) -> None:
        """Advance the clock, begin the checks that are due, and wait for their results."""
        self.sweep(seconds)
        await settled()


def under_way() -> int:
    """Checks and probes that have not ended."""
    return sum("HealthChecks" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def settled() -> None:
    await eventually(lambda: not under_way())
    await asyncio.sleep(0)  # for what is called back when they end


@asynccontextmanager
async def checking(
    *services: Service, at_once: int = AT_ONCE, shares: Shares = ALONE, **connect: Any
) -> AsyncIterator[Checking]:
    """Look after services; each check is due a LONG time after that."""
    async with wire_client(**connect) as client:
        each = Checking(client, *services, at_once=at_once, shares=shares)
        each.sweep()
        try:
            yield each
        finally:
            each.checks.close()
        await settled()


def service_of(
    *urls: str, health: HealthConfig | None = CONFIG, probes: int = 1, name: str = "svc", **config: float
) -> Service:
    rng = random.Random(1)
    breaker = BreakerConfig(open_for=OPEN_FOR, jitter=0.0, probes=probes)
    endpoints = [Endpoint(url, Breaker(breaker, rng)) for url in urls]
    return Service(
        name, endpoints, BALANCERS["round_robin"](rng), ServiceConfig(health=health or HealthConfig(), **config)
    )


def break_(service: Service, endpoint: Endpoint, now: float, *, connected: bool = False) -> None:
    """Have an endpoint fail until its breaker opens."""
    while not endpoint.breaker.is_open:
        lease = Lease(service, endpoint, LeaseRequest(now), is_retry=False)
        if not connected:
            lease.not_connected()
        lease.settle(FAILURE, now)


def seen(endpoint: Endpoint) -> tuple[str, bool]:
    """The newest check's result, and whether the endpoint is healthy."""
    return endpoint.last_check, endpoint.checks_pass


class Answers:
    """A script: "p" stands for an answer of 200, "f" for one of 503, one for each request."""

    def __init__(self, results: str) -> None:
        self.left = list(results)

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(reply() if self.left.pop(0) == "p" else reply(b"503 No"))


# ---------------------------------------------------------------- when


@pytest.mark.gen_test
async def test_first_checks_are_spread_over_an_interval(upstream: Start) -> None:
    up = upstream(echo)
    service = service_of(*[f"{up.url}/{number}" for number in range(40)])
    counts = []
    async with checking(service) as each:
        for _ in range(10):
            before = len(up.requests)
            await each.passes(INTERVAL / 10)
            counts.append(len(up.requests) - before)
    assert len({request.target for request in up.requests}) == 40
    assert 0 < min(counts) <= max(counts) < 12


@pytest.mark.gen_test
async def test_nothing_is_asked_before_the_first_sweep_finds_it_due(upstream: Start) -> None:
    up = upstream(echo)
    async with checking(service_of(up.url)) as each:
        await each.passes(0.0)
        assert (up.accepted, each.clock.now) == (0, 1000.0)
        await each.passes(LONG)
        assert len(up.requests) == 1


@pytest.mark.parametrize(("url_is_good", "interval"), [(True, INTERVAL), (False, INTERVAL_DOWN)], ids=["up", "down"])
@pytest.mark.gen_test
async def test_checks_come_an_interval_apart_give_or_take_a_tenth(
    upstream: Start, url_is_good: bool, interval: float
) -> None:
    up = upstream(echo if url_is_good else Answers("f" * 100))
    service = service_of(up.url)
    async with checking(service) as each:
        await each.passes(LONG)
        asked = [each.clock.now]
        while len(asked) < 15:
            before = len(up.requests)
            await each.passes(interval / 50)
            if len(up.requests) > before:
                asked.append(each.clock.now)
    pauses = [after - before for before, after in itertools.pairwise(asked)]
    assert 0.9 * interval <= min(pauses) < 0.98 * interval
    assert 1.02 * interval < max(pauses) <= 1.13 * interval
    assert service.endpoints[0].checks_pass is url_is_good


@pytest.mark.gen_test
async def test_a_check_that_fails_is_soon_followed_by_another(upstream: Start) -> None:
    up = upstream(Answers("fpp"))
    async with checking(service_of(up.url)) as each:
        for seconds, asked in [(LONG, 1), (1.1 * INTERVAL_DOWN, 2), (1.1 * INTERVAL_DOWN, 2), (LONG, 3)]:
            await each.passes(seconds)
            assert len(up.requests) == asked


@pytest.mark.gen_test
async def test_an_endpoint_is_asked_once_at_a_time(upstream: Start) -> None:
    up = upstream(silent)
    async with checking(service_of(up.url)) as each:
        for _ in range(3):
            each.sweep(LONG)
            await eventually(lambda: up.requests)
        assert (up.accepted, under_way()) == (1, 1)


@pytest.mark.gen_test
async def test_a_service_without_checks_is_left_alone(upstream: Start) -> None:
    plain, checked = upstream(echo), upstream(echo)
    async with checking(service_of(plain.url, health=None), service_of(checked.url, name="other")) as each:
        await each.passes(LONG)
        assert (plain.accepted, checked.accepted) == (0, 1)


# ---------------------------------------------------------------- what


@pytest.mark.parametrize(
    ("base", "path", "target"),
    [("", "/", b"/"), ("", "/healthz?deep=1", b"/healthz?deep=1"), ("/base/", "/healthz", b"/base/healthz")],
)
@pytest.mark.gen_test
async def test_a_path_below_the_endpoints_own_is_asked_for(
    upstream: Start, base: str, path: str, target: bytes
) -> None:
    up = upstream(echo)
    async with checking(service_of(up.url + base, health=HealthConfig(kind=HealthKind.HTTP, path=path))) as each:
        await each.passes(LONG)
    (request,) = up.requests
    assert (request.method, request.target, request.body) == (b"GET", target, b"")
    assert request.get(b"host") == b"127.0.0.1:%d" % up.port
    assert request.get(b"user-agent") == b"tornado-gateway-health-check"
    assert (request.all(b"upgrade"), request.all(b"connection")) == ([], [b"close"])


@pytest.mark.parametrize(
    ("statuses", "status", "passes"),
    [
        (range(200, 400), b"200 OK", True), (range(200, 400), b"204 No Content", True),
        (range(200, 400), b"302 Found", True), (range(200, 400), b"404 Not Found", False),
        (range(200, 400), b"503 No", False), ((404,), b"404 Not Found", True), ((404,), b"200 OK", False),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_status_that_is_expected_passes(upstream: Start, statuses: range, status: bytes, passes: bool) -> None:
    up = upstream(plays(reply(status, body=b"")))
    service = service_of(up.url, health=HealthConfig(kind=HealthKind.HTTP, statuses=statuses, fall=1))
    async with checking(service) as each:
        await each.passes(LONG)
    assert seen(service.endpoints[0]) == (status[:3].decode(), passes)


@pytest.mark.gen_test
async def test_redirects_are_not_followed(upstream: Start) -> None:
    other = upstream(echo)
    up = upstream(plays(reply(b"307 Temporary Redirect", (b"Location: " + other.url.encode(),))))
    service = service_of(up.url, health=HealthConfig(kind=HealthKind.HTTP, statuses=(200,), fall=1))
    async with checking(service) as each:
        await each.passes(LONG)
    assert (seen(service.endpoints[0]), other.accepted) == (("307", False), 0)


@pytest.mark.gen_test
async def test_an_interim_response_is_no_answer(upstream: Start) -> None:
    up = upstream(plays(b"HTTP/1.1 103 Early Hints\r\n\r\n" + reply(b"503 No")))
    service = service_of(up.url)
    async with checking(service) as each:
        await each.passes(LONG)
    assert service.endpoints[0].last_check == "503"


@pytest.mark.parametrize("kind", [HealthKind.HTTP, HealthKind.TCP, HealthKind.WEBSOCKET])
@pytest.mark.gen_test
async def test_a_check_that_this_machine_cannot_make_says_nothing_of_the_endpoint(
    upstream: Start, kind: HealthKind
) -> None:
    up = upstream(plays(reply()))
    service = service_of(up.url, health=HealthConfig(kind=kind, interval=INTERVAL, interval_down=INTERVAL_DOWN, fall=1))
    async with checking(service) as each:
        with no_descriptors():
            await each.passes(LONG)
        assert seen(service.endpoints[0]) == ("", True)
        await each.passes(INTERVAL_DOWN)  # the next is due as after a check that passed
        assert up.accepted == 0
        await each.passes(LONG)
        assert up.accepted == 1


@pytest.mark.gen_test
async def test_a_probe_that_this_machine_cannot_make_leaves_the_breaker_open(upstream: Start) -> None:
    service = service_of(upstream(plays(reply())).url)
    (endpoint,) = service.endpoints
    async with checking(service) as each:
        break_(service, endpoint, each.clock())
        with no_descriptors():
            await each.passes(OPEN_FOR + IDLE_FOR)
        assert endpoint.breaker.state(each.clock()) is State.HALF_OPEN
        await each.passes(0.1)
        assert endpoint.breaker.state(each.clock()) is State.CLOSED


FAILING = {
    "refuses": (None, "connect_failed"),
    "resets": (plays(then="reset"), "upstream_reset"),
    "closes": (plays(then="close"), "upstream_reset"),
    "resets in its body": (plays(reply(body=b"a" * 10)[:-5], then="reset"), "upstream_reset"),
    "talks nonsense": (plays(b"220 smtp.example ESMTP\r\n\r\n"), "upstream_invalid"),
    "says nothing": (silent, "timeout"),
    "falls silent in its body": (plays(reply(body=b"a" * 10)[:-5]), "timeout"),
    "upgrades unasked": (plays(UPGRADED), "upstream_invalid"),
}


@pytest.mark.parametrize(("script", "shown"), FAILING.values(), ids=FAILING)
@pytest.mark.gen_test
async def test_a_check_without_an_answer_fails(upstream: Start, script: Script | None, shown: str) -> None:
    up = upstream(script) if script else None
    timeout = 0.05 if shown == "timeout" else 5.0
    service = service_of(up.url if up else REFUSING, health=HealthConfig(kind=HealthKind.HTTP, timeout=timeout, fall=1))
    async with checking(service) as each:
        await each.passes(LONG)
        assert seen(service.endpoints[0]) == (shown, False)
        await eventually(lambda: not up or not up.open)


KINDS = pytest.mark.parametrize("kind", [each for each in HealthKind if each is not HealthKind.OFF])


async def speaks(peer: Peer) -> None:
    """A script: answer checks of each kind and requests of users."""
    while True:
        request = await peer.request()
        await peer.send(UPGRADED if request.get(b"upgrade") else reply(body=b"a" * MOST_OF_BODY))


@KINDS
@pytest.mark.gen_test
async def test_each_check_has_a_connection_of_its_own_and_leaves_none(upstream: Start, kind: HealthKind) -> None:
    up = upstream(speaks)
    service = service_of(up.url, health=HealthConfig(kind=kind))
    (endpoint,) = service.endpoints
    async with checking(service) as each:
        await exchange(each.client, endpoint.origin)
        for number in range(3):
            await each.passes(LONG)
            await eventually(lambda number=number: (up.accepted, up.open) == (number + 2, 1))
        await exchange(each.client, endpoint.origin)
        assert (up.accepted, endpoint.checks_pass) == (4, True)


@KINDS
@pytest.mark.gen_test
async def test_each_check_has_a_tls_handshake_of_its_own(tmp_path: Path, kind: HealthKind) -> None:
    authority = trustme.CA()

    async def speaks_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED if b"Upgrade" in up.heads[-1] else reply())

    trusted = ca_file(authority, tmp_path)
    async with tls_upstream(authority, speaks_tls) as up:
        service = service_of(up.url, health=HealthConfig(kind=kind))
        (endpoint,) = service.endpoints
        async with checking(service, tls_ca_file=trusted) as each:
            await exchange(each.client, endpoint.origin)
            for number in range(3):
                await each.passes(LONG)
                await eventually(lambda number=number: (len(up.names), up.open) == (number + 2, 1))
            await exchange(each.client, endpoint.origin)
            assert (len(up.names), endpoint.checks_pass) == (4, True)


@KINDS
@pytest.mark.gen_test
async def test_a_kept_connection_does_not_hide_that_none_can_be_made(upstream: Start, kind: HealthKind) -> None:
    up = upstream(speaks)
    service = service_of(up.url, health=HealthConfig(kind=kind, fall=1))
    async with checking(service) as each:
        await exchange(each.client, service.endpoints[0].origin)
        up.stop_listening()
        await each.passes(LONG)
        assert seen(service.endpoints[0]) == ("connect_failed", False)
        assert up.open == 1, "the connection of users has ended, so that nothing is shown"


@pytest.mark.gen_test
async def test_a_server_that_keeps_no_connection_and_does_not_say_so_passes(upstream: Start) -> None:
    async def answers_once(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        with contextlib.suppress(Ended):
            await peer.request()

    up = upstream(answers_once)
    service = service_of(up.url, health=HealthConfig(kind=HealthKind.HTTP, rise=1, fall=1))
    async with checking(service) as each:
        for _ in range(6):
            await exchange(each.client, service.endpoints[0].origin, fresh=True)  # and leave it in the pool
            await each.passes(LONG)
            assert seen(service.endpoints[0]) == ("200", True)


@pytest.mark.gen_test
async def test_so_many_checks_of_a_service_are_under_way_at_once_and_each_has_its_turn(upstream: Start) -> None:
    gate = asyncio.Event()

    async def answers_later(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        await peer.send(reply())

    slow, quick = upstream(answers_later), upstream(echo)
    many = service_of(*[f"{slow.url}/{number}" for number in range(2 * FEW + 1)])
    async with checking(many, service_of(quick.url, name="other"), at_once=FEW) as each:
        for turns in (1, 2):  # of the other service, which waits for nobody
            each.sweep(LONG)
            await eventually(lambda turns=turns: (len(slow.requests), len(quick.requests)) == (FEW, turns))
            await eventually(lambda: under_way() == FEW)  # the quick one has its answer, too
        gate.set()
        await settled()
        for expected in (2 * FEW, 2 * FEW + 1):
            await each.passes(0.0)
            assert len({request.target for request in slow.requests}) == len(slow.requests) == expected


@pytest.mark.parametrize("length", [b"Content-Length: 1000000000\r\n", b"", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.gen_test
async def test_no_more_of_a_body_is_read_than_must_be(upstream: Start, length: bytes) -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n%b\r\n" % length)
        while True:
            await peer.send(b"4000\r\n" + b"a" * 0x4000 + b"\r\n")

    up = upstream(endless)
    service = service_of(up.url)
    async with checking(service) as each:
        await each.passes(LONG)
        assert seen(service.endpoints[0]) == ("200", True)
        await eventually(lambda: not up.open)


@pytest.mark.gen_test
async def test_a_body_that_drips_is_not_waited_for_longer_than_a_check_may_take(upstream: Start) -> None:
    up = upstream(flowing)
    service = service_of(up.url, health=HASTY)
    async with checking(service) as each:
        await each.passes(LONG)
        assert service.endpoints[0].last_check == "timeout"
        await eventually(lambda: not up.open)


@pytest.mark.gen_test
async def test_a_connection_is_all_that_tcp_wants(upstream: Start) -> None:
    async def ends(peer: Peer) -> None:
        with pytest.raises(Ended):
            await peer.more()

    up = upstream(ends)
    service = service_of(up.url, REFUSING, health=HealthConfig(kind=HealthKind.TCP, fall=1))
    async with checking(service) as each:
        await each.passes(LONG)
        assert [seen(endpoint) for endpoint in service.endpoints] == [("connected", True), ("connect_failed", False)]
        await eventually(lambda: up.accepted and not up.open)


@pytest.mark.parametrize(
    ("answer", "shown", "passes"), [(UPGRADED, "101", True), (reply(), "200", False), (reply(b"426 No"), "426", False)]
)
@pytest.mark.gen_test
async def test_a_websocket_is_asked_for(upstream: Start, answer: bytes, shown: str, passes: bool) -> None:
    up = upstream(plays(answer))
    service = service_of(up.url + "/base", health=HealthConfig(kind=HealthKind.WEBSOCKET, path="/live", fall=1))
    async with checking(service) as each:
        await each.passes(LONG)
        assert seen(service.endpoints[0]) == (shown, passes)
        (request,) = up.requests
        assert (request.target, request.get(b"upgrade"), request.get(b"connection")) == (
            b"/base/live", b"websocket", b"Upgrade",
        )  # fmt: skip
        assert request.get(b"sec-websocket-version") == b"13"
        assert len(base64.b64decode(request.get(b"sec-websocket-key") or b"", validate=True)) == 16
        await eventually(lambda: not passes or not up.open, patience=1)  # what was upgraded serves nobody else


@pytest.mark.parametrize(("size", "shown"), [(MOST_OF_BODY, "timeout"), (MOST_OF_BODY + 1, "200")])
@pytest.mark.gen_test
async def test_a_body_up_to_a_size_must_come_whole(upstream: Start, size: int, shown: str) -> None:
    up = upstream(plays(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (size, b"a" * size)))
    service = service_of(up.url, health=HealthConfig(kind=HealthKind.HTTP, timeout=0.5))
    async with checking(service) as each:
        await each.passes(LONG)
        assert service.endpoints[0].last_check == shown
        await eventually(lambda: not up.open)


@pytest.mark.gen_test
async def test_a_pinned_endpoint_is_asked_at_its_address_and_by_its_name(upstream: Start) -> None:
    up = upstream(echo)
    service = service_of(f"http://no.such.host.test:{up.port}/base#127.0.0.1")
    async with checking(service) as each:
        await each.passes(LONG)
    assert service.endpoints[0].last_check == "200"
    (request,) = up.requests
    assert (request.target, request.get(b"host")) == (b"/base/", b"no.such.host.test:%d" % up.port)


@pytest.mark.gen_test
async def test_the_bytes_of_a_check(upstream: Start) -> None:
    plain, upgrading = upstream(echo), upstream(plays(UPGRADED))
    by_kind = {plain: HealthKind.HTTP, upgrading: HealthKind.WEBSOCKET}
    services = [service_of(up.url, health=HealthConfig(kind=kind), name=kind.value) for up, kind in by_kind.items()]
    async with checking(*services) as each:
        await each.passes(LONG)
    agent = (b"User-Agent", b"tornado-gateway-health-check")
    (request,) = plain.requests
    assert request.fields == [(b"Host", b"127.0.0.1:%d" % plain.port), agent, (b"Connection", b"close")]
    (request,) = upgrading.requests
    assert request.fields == [
        (b"Host", b"127.0.0.1:%d" % upgrading.port), agent, (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Key", request.get(b"sec-websocket-key")), (b"Sec-WebSocket-Version", b"13"),
    ]  # fmt: skip


# ---------------------------------------------------------------- what follows from it


@pytest.mark.parametrize(
    ("results", "is_healthy"),
    [("p", True), ("ff", True), ("fff", False), ("ffpff", True), ("ffpfff", False), ("fffp", False),
     ("fffpfp", False), ("fffpp", True), ("fffppff", True), ("fffppfff", False)],
)  # fmt: skip
@pytest.mark.gen_test
async def test_three_in_a_row_take_an_endpoint_out_and_two_bring_it_back(
    upstream: Start, results: str, is_healthy: bool
) -> None:
    up = upstream(Answers(results))
    service = service_of(up.url, REFUSING, health=HealthConfig(kind=HealthKind.HTTP, rise=2, fall=3))
    async with checking(service) as each:
        for _ in results:
            await each.passes(LONG)
    endpoint = service.endpoints[0]
    assert (endpoint.checks_pass, endpoint.last_check) == (is_healthy, "200" if results[-1] == "p" else "503")


@pytest.mark.gen_test
async def test_an_endpoint_that_is_out_gets_nothing_and_comes_back_slowly(upstream: Start) -> None:
    service = service_of(
        upstream(echo).url,
        upstream(Answers("fp")).url,
        health=HealthConfig(kind=HealthKind.HTTP, rise=1, fall=1),
        slow_start=60.0,
    )
    good, bad = service.endpoints
    async with checking(service) as each:
        await each.passes(LONG)
        assert {service.lease(LeaseRequest(each.clock.now)).endpoint for _ in range(9)} == {good}
        await each.passes(LONG)
        chosen = [service.lease(LeaseRequest(each.clock.now)).endpoint for _ in range(40)]
        assert bad.share(each.clock.now, 60.0) == FIRST_SHARE
        assert 0 < chosen.count(bad) <= 4
        assert bad.share(each.clock.now + 60.0, 60.0) == 1.0


@pytest.mark.gen_test
async def test_checks_go_on_beside_what_they_must_wait_for(upstream: Start) -> None:
    slow, quick = upstream(silent), upstream(echo)
    async with checking(service_of(slow.url, quick.url)) as each:
        for asked in (1, 2, 3):
            each.sweep(LONG)
            await eventually(lambda asked=asked: len(quick.requests) == asked and under_way() == 1)
    assert slow.accepted == 1


# ---------------------------------------------------------------- endpoints come and go


@pytest.mark.gen_test
async def test_departed_endpoints_are_not_checked_and_new_endpoints_are(upstream: Start) -> None:
    old, new = upstream(echo), upstream(echo)
    service = service_of(old.url)
    async with checking(service) as each:
        await each.passes(LONG)
        service.replace_endpoints(service_of(new.url).endpoints, each.clock.now)
        for _ in range(3):
            await each.passes(LONG)
        assert (len(old.requests), len(new.requests)) == (1, 2)
        assert list(each.checks._checked) == list(service.endpoints)


@pytest.mark.gen_test
async def test_departed_endpoints_are_forgotten_among_many_others(upstream: Start) -> None:
    url = upstream(echo).url
    service = service_of(url + "/0")
    others = service_of(*[f"{url}/{number}" for number in range(10)], health=None, name="other")
    async with checking(service, others) as each:
        for number in range(5):
            service.replace_endpoints(service_of(f"{url}/new{number}").endpoints, each.clock.now)
            await each.passes(LONG)
        assert list(each.checks._checked) == list(service.endpoints)


@pytest.mark.gen_test
async def test_a_check_of_an_endpoint_that_departs_meanwhile_changes_nothing(upstream: Start) -> None:
    up = upstream(silent)
    service = service_of(up.url, health=HealthConfig(kind=HealthKind.HTTP, timeout=0.05, fall=1))
    (departed,) = service.endpoints
    async with checking(service) as each:
        each.sweep(LONG)
        service.replace_endpoints(service_of(upstream(echo).url).endpoints, each.clock.now)
        await settled()
        assert (departed.last_check, departed.is_admitted) == ("timeout", False)
        assert service.lease(LeaseRequest(each.clock.now)).endpoint is not departed


@pytest.mark.parametrize("departs", [True, False])
@pytest.mark.gen_test
async def test_nothing_goes_on_after_the_end(upstream: Start, departs: bool) -> None:
    up = upstream(silent)
    service = service_of(up.url)
    async with checking(service) as each:
        each.sweep(LONG)
        await eventually(lambda: up.requests)
        if departs:
            service.replace_endpoints(service_of(upstream(echo).url).endpoints, each.clock.now)
            each.sweep()
        each.checks.close()
        await settled()
        await eventually(lambda: not up.open)
        each.sweep(LONG)
        assert (under_way(), up.accepted) == (0, 1)


# ---------------------------------------------------------------- another configuration


def reconfigure(each: Checking, service: Service, health: HealthConfig) -> None:
    service.reconfigure(replace(service.config, health=health), each.clock.now, random.Random(1))


@pytest.mark.gen_test
async def test_the_next_check_goes_by_the_newest_configuration(upstream: Start) -> None:
    up = upstream(Answers("ff"))
    service = service_of(up.url, upstream(echo).url)
    (endpoint, _) = service.endpoints
    async with checking(service) as each:
        await each.passes(LONG)
        reconfigure(each, service, replace(CONFIG, path="/live", fall=2))
        await each.passes(LONG)
        assert [request.target for request in up.requests] == [b"/", b"/live"]
        assert not endpoint.checks_pass


@pytest.mark.gen_test
async def test_a_shorter_interval_counts_at_once(upstream: Start) -> None:
    up = upstream(echo)
    service = service_of(up.url, health=replace(CONFIG, interval=1e6))
    async with checking(service) as each:
        each.sweep()
        reconfigure(each, service, CONFIG)
        await each.passes(0.0)
        await each.passes(LONG)
        assert len(up.requests) == 1


@pytest.mark.gen_test
async def test_pauses_of_any_length_are_kept_while_the_configuration_stays(upstream: Start) -> None:
    up = upstream(Answers("f" * 100))
    service = service_of(up.url, health=replace(CONFIG, interval=1.0, interval_down=100.0))
    async with checking(service) as each:
        await each.passes(2.0)
        for _ in range(80):
            await each.passes(1.0)
        assert len(up.requests) == 1


@pytest.mark.gen_test
async def test_switched_off_checks_exclude_no_endpoint(upstream: Start) -> None:
    up, quiet = upstream(Answers("f" * 100)), upstream(silent)
    service = service_of(up.url, quiet.url, health=replace(CONFIG, fall=1, timeout=60.0))
    (endpoint, asked) = service.endpoints
    async with checking(service) as each:
        each.sweep(LONG)
        await eventually(lambda: not endpoint.checks_pass and quiet.requests)
        reconfigure(each, service, HealthConfig())
        assert (endpoint.checks_pass, endpoint.is_admitted) == (True, True)
        assert endpoint.share(each.clock.now, 10.0) == FIRST_SHARE
        await each.passes(LONG)
        assert (len(up.requests), len(quiet.requests)) == (1, 1)
        assert (seen(asked), each.checks._checked) == (("", True), {})


@pytest.mark.gen_test
async def test_a_check_under_way_when_checks_are_switched_off_shows_nothing(upstream: Start) -> None:
    gate = Gate(reply(b"503 No"))
    service = service_of(upstream(gate).url, upstream(echo).url, health=replace(CONFIG, fall=1))
    (endpoint, _) = service.endpoints
    async with checking(service) as each:
        each.sweep(LONG)
        await eventually(lambda: gate.waiting)
        reconfigure(each, service, HealthConfig())
        await gate.open()
        await settled()
        assert seen(endpoint) == ("", True)


# ---------------------------------------------------------------- probes of what breakers have taken out


@pytest.mark.parametrize(
    "health", [None, HealthConfig(kind=HealthKind.HTTP, path="/live", interval=1e6)], ids=["unchecked", "checked"]
)
@pytest.mark.gen_test
async def test_an_ejected_endpoint_without_requests_is_probed_and_readmitted(
    upstream: Start, health: HealthConfig | None
) -> None:
    up = upstream(echo)
    service = service_of(up.url, upstream(echo).url, health=health)
    endpoint = service.endpoints[0]
    async with checking(service) as each:
        break_(service, endpoint, each.clock.now)
        assert service.endpoint_set.ejected == [endpoint]
        await each.passes(OPEN_FOR + IDLE_FOR - 0.1)
        assert (endpoint.last_check, up.accepted) == ("", 0)
        await each.passes(0.2)
        await eventually(lambda: up.accepted == 1)
        assert [request.target for request in up.requests] == ([b"/live"] if health else [])
        assert (endpoint.breaker.state(each.clock.now), service.endpoint_set.ejected) == (State.CLOSED, [])
        assert endpoint.last_check == ("200" if health else "connected")
        assert endpoint.share(each.clock.now, 10.0) == FIRST_SHARE
        await each.passes(OPEN_FOR)
        assert up.accepted == 1


@pytest.mark.gen_test
async def test_an_ejected_endpoint_that_fails_its_probe_stays_out_for_twice_as_long(upstream: Start) -> None:
    service = service_of(REFUSING, upstream(echo).url, health=None)
    endpoint = service.endpoints[0]
    async with checking(service) as each:
        break_(service, endpoint, each.clock.now)
        await each.passes(OPEN_FOR + IDLE_FOR)
        assert (endpoint.breaker.opened, endpoint.last_check) == (2, "connect_failed")
        assert endpoint.breaker.open_until == each.clock.now + 2 * OPEN_FOR
        await each.passes(2 * OPEN_FOR)
        assert endpoint.breaker.opened == 2
        await each.passes(IDLE_FOR)
        assert endpoint.breaker.opened == 3


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.gen_test
async def test_a_broken_endpoint_that_is_used_for_want_of_others_is_probed_too(upstream: Start, count: int) -> None:
    ups = [upstream(echo) for _ in range(count)]
    service = service_of(*[up.url for up in ups], health=None)
    async with checking(service) as each:
        for endpoint in service.endpoints:
            break_(service, endpoint, each.clock.now)
        assert len(service.endpoint_set.ejected) < count
        await each.passes(OPEN_FOR + IDLE_FOR)
        assert [endpoint.breaker.is_open for endpoint in service.endpoints] == [False] * count


@pytest.mark.parametrize("health", [None, HealthConfig(kind=HealthKind.HTTP, interval=1e6)])
@pytest.mark.gen_test
async def test_a_connection_proves_nothing_about_an_endpoint_that_failed_while_connected(
    upstream: Start, health: HealthConfig | None
) -> None:
    up = upstream(echo)
    service = service_of(up.url, upstream(echo).url, health=health)
    endpoint = service.endpoints[0]
    async with checking(service) as each:
        break_(service, endpoint, each.clock.now, connected=True)
        await each.passes(OPEN_FOR + IDLE_FOR)
        assert up.accepted == (1 if health else 0)
        assert endpoint.breaker.state(each.clock.now) is (State.CLOSED if health else State.HALF_OPEN)


@pytest.mark.gen_test
async def test_a_users_request_probes_before_a_health_check(upstream: Start) -> None:
    up = upstream(echo)
    service = service_of(up.url, upstream(echo).url, health=None)
    endpoint = service.endpoints[0]
    async with checking(service) as each:
        break_(service, endpoint, each.clock.now)
        each.clock.now += OPEN_FOR
        assert service.lease(LeaseRequest(each.clock.now)).endpoint is endpoint
        await each.passes(IDLE_FOR)
        assert (endpoint.last_check, up.accepted) == ("", 0)


@pytest.mark.gen_test
async def test_a_users_request_is_no_second_probe_beside_a_health_check(upstream: Start) -> None:
    service = service_of(upstream(silent).url, upstream(echo).url, health=None)
    broken, good = service.endpoints
    async with checking(service) as each:
        break_(service, broken, each.clock.now)
        each.sweep(OPEN_FOR + IDLE_FOR)
        assert service.lease(LeaseRequest(each.clock.now)).endpoint is good


@pytest.mark.gen_test
async def test_an_endpoint_is_probed_once_at_a_time(upstream: Start) -> None:
    up = upstream(silent)
    service = service_of(up.url, upstream(echo).url, health=HealthConfig(kind=HealthKind.HTTP, interval=1e6), probes=3)
    async with checking(service) as each:
        break_(service, service.endpoints[0], each.clock.now)
        each.sweep(OPEN_FOR + IDLE_FOR)
        await eventually(lambda: up.requests)
        for _ in range(3):
            each.sweep(IDLE_FOR)
        await asyncio.sleep(0)
        assert (under_way(), up.accepted) == (1, 1)


@pytest.mark.gen_test
async def test_a_probe_that_is_given_up_is_given_back(upstream: Start) -> None:
    up = upstream(silent)
    service = service_of(up.url, upstream(echo).url, health=HealthConfig(kind=HealthKind.HTTP, interval=1e6))
    endpoint = service.endpoints[0]
    async with checking(service) as each:
        break_(service, endpoint, each.clock.now)
        each.sweep(OPEN_FOR + IDLE_FOR)
        await eventually(lambda: up.requests)
        assert not endpoint.breaker.passes(each.clock.now)
        each.checks.close()
        await settled()
        assert endpoint.breaker.passes(each.clock.now)
        assert (endpoint.breaker.state(each.clock.now), endpoint.breaker.opened) == (State.HALF_OPEN, 1)
        await eventually(lambda: not up.open)


# ---------------------------------------------------------------- in a whole gateway


async def stats(running: Running) -> list[dict[str, Any]]:
    """What there is to see of the endpoints of "svc"."""
    answer = await ask(running, get(b"/admin/stats"))
    details: list[dict[str, Any]] = json.loads(answer.body)["services"]["svc"]["upstreamDetails"]
    return details


def passing_and_last(of: dict[str, Any]) -> tuple[bool, str]:
    """Whether the checks of an endpoint pass, and the last check in words."""
    return of["checks"]["passing"], of["checks"]["last"]


class Switch:
    """A script: answer all requests with success or failure, as the test sets; count requests that are no checks."""

    def __init__(self) -> None:
        self.is_well = True
        self.checks = self.others = 0

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            self.checks += request.target == b"/live"
            self.others += request.target != b"/live"
            await peer.send(reply() if self.is_well else reply(b"500 Oh"))


QUICK = {
    "healthCheck": "http", "healthPath": "/live", "healthIntervalMs": 30, "healthDownIntervalMs": 20, "healthFall": 2,
    "slowStartMs": 0,
}  # fmt: skip


@pytest.mark.gen_test
async def test_a_gateway_takes_an_endpoint_out_and_brings_it_back(serve: Serve, upstream: Start) -> None:
    first, second = Switch(), Switch()
    running = await serve(
        {"svc": {"endpoints": [upstream(first).url, upstream(second).url], **QUICK}}, BALANCER="round_robin"
    )
    bad, good = running.app.gateway.services[b"svc"].endpoints
    await eventually(lambda: bad.last_check == good.last_check == "200")
    first.is_well = False
    await eventually(lambda: not bad.checks_pass)
    before = first.others
    assert [(await ask(running, get(b"/api/svc/x"))).status for _ in range(6)] == [200] * 6
    assert (first.others, second.others) == (before, 6)
    shown = await stats(running)
    assert [passing_and_last(each) for each in shown] == [(False, "500"), (True, "200")]
    assert [(each["healthy"], each["usable"]) for each in shown] == [(False, False), (True, True)]
    first.is_well = True
    await eventually(lambda: bad.checks_pass)
    for _ in range(6):
        await ask(running, get(b"/api/svc/x"))
    assert (first.others, second.others) == (before + 3, 9)
    shown = await stats(running)
    assert [passing_and_last(each) for each in shown] == [(True, "200")] * 2
    assert running.errors == 0  # checks are nobody's requests
    assert [each["requestsTotal"] for each in shown] == [3, 9]


@pytest.mark.parametrize(
    ("variables", "script", "last"),
    [
        ({"HEALTH_CHECK": "tcp"}, silent, "connected"),
        ({"HEALTH_CHECK": "websocket"}, plays(UPGRADED), "101"),
        ({"HEALTH_CHECK": "http", "HEALTH_STATUSES": "418"}, plays(reply(b"418 Teapot")), "418"),
        ({"HEALTH_CHECK": "http", "HEALTH_TIMEOUT_MS": "20", "HEALTH_FALL": "1"}, silent, "timeout"),
    ],
)
@pytest.mark.gen_test
async def test_variables_say_how_endpoints_are_checked(
    serve: Serve, upstream: Start, variables: dict[str, str], script: Script, last: str
) -> None:
    running = await serve({"svc": [upstream(script).url]}, HEALTH_INTERVAL_MS="20", **variables)
    (endpoint,) = running.app.gateway.services[b"svc"].endpoints
    await eventually(lambda: endpoint.last_check)
    assert passing_and_last((await stats(running))[0]) == (last != "timeout", last)


@pytest.mark.parametrize("kind", ["off", "http"])
@pytest.mark.gen_test
async def test_an_endpoint_passes_before_its_first_check(serve: Serve, upstream: Start, kind: str) -> None:
    running = await serve({"svc": [upstream(echo).url]}, HEALTH_CHECK=kind, HEALTH_INTERVAL_MS="86400000")
    assert (await stats(running))[0]["checks"] == {"passing": True, "last": "", "passed": 0, "failed": 0}


@pytest.mark.parametrize(("panic", "status"), [("50", 500), ("0", 503)])
@pytest.mark.gen_test
async def test_where_all_fail_all_are_used_unless_that_is_not_wanted(
    serve: Serve, upstream: Start, panic: str, status: int
) -> None:
    switch = Switch()
    switch.is_well = False
    running = await serve({"svc": {"endpoints": [upstream(switch).url], **QUICK}}, PANIC_PERCENT=panic)
    (endpoint,) = running.app.gateway.services[b"svc"].endpoints
    await eventually(lambda: not endpoint.checks_pass)
    assert (await ask(running, get(b"/api/svc/x"))).status == status
    assert switch.others == (status == 500)


@pytest.mark.gen_test
async def test_checks_go_on_until_the_gateway_accepts_no_more(serve: Serve, upstream: Start) -> None:
    switch = Switch()
    running = await serve({"svc": {"endpoints": [upstream(switch).url], **QUICK}}, SHUTDOWN_DELAY_MS="60000")
    await eventually(lambda: switch.checks)
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.gateway.lifecycle.draining)
    before = switch.checks
    await eventually(lambda: switch.checks > before + 2)
    draining.cancel()
    clients = [await running.client() for _ in range(5)]
    await eventually(lambda: len(running.app.server.connections) == len(clients))
    running.app.settings = assemble(running.app.settings, {"shutdown.delay": 0.0})
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.server.context.draining)
    await settled()
    before = switch.checks
    service = running.app.gateway.services[b"svc"]
    for client in clients:
        service.note_check(service.endpoints[0], "none", passed=False)
        running.app.heartbeat.sweep()
        assert (await client.ask(get(b"/api/svc/x"))).status == 200
    assert (switch.checks, under_way(), service.endpoints[0].last_check) == (before, 0, "none")
    draining.cancel()


# ---------------------------------------------------------------- several workers


@pytest.mark.gen_test
async def test_workers_share_the_endpoints_and_tell_what_is_new(upstream: Start) -> None:
    up = upstream(Answers("ppff" + "p" * 9))
    service, told = service_of(f"{up.url}", REFUSING), list[tuple[str, str, bool]]()
    own, other = service.endpoints
    keeps = {own.url}
    shares = Shares(
        lambda name: name.removeprefix("svc ") in keeps,
        lambda service, endpoint: told.append((service, endpoint.last_check, endpoint.checks_pass)),
    )
    async with checking(service, shares=shares) as each:
        for _ in range(2):
            await each.passes(LONG)
        assert (told, other.last_check) == ([("svc", "200", True)], "")
        service.learn_health(other, each.clock.now, "refused", up=False)  # the other worker checks
        for _ in range(2):
            await each.passes(LONG)
        assert told[1:] == [("svc", "503", True)]
        service.learn_health(own, each.clock.now, "503", up=False)
        keeps.add(other.url)  # the other worker has ended
        await each.passes(LONG)
        await each.passes(LONG)
        assert (own.checks_pass, told[-1]) == (True, ("svc", "200", True))
        assert (other.checks_pass, other.checks_failed) == (False, 2)


@pytest.mark.gen_test
async def test_a_breaker_is_probed_by_one_worker(upstream: Start) -> None:
    up = upstream(echo)
    service = service_of(up.url, health=None)
    async with checking(service, shares=Shares(lambda _: False)) as each:
        break_(service, service.endpoints[0], each.clock.now)
        await each.passes(OPEN_FOR + LONG)
        assert (up.accepted, service.endpoints[0].breaker.is_open) == (0, True)
