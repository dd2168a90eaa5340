"""Real faults behind a real gateway: what its clients see of them, and how soon it is over.

Each test prints a line of that; `pytest -s` shows it.
"""

import asyncio
import contextlib
import json
import signal
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from tests.support.faults import (
    PATIENCE,
    Load,
    Names,
    Seen,
    Stage,
    Upstream,
    after,
    black_hole,
    staged,
    until,
    within_uvloop,
)
from tests.support.ports import free_port

# A breaker that opens for a short time, so that what comes back does so while the test lasts.
QUICK = {"BREAKER_OPEN_MS": "300", "BREAKER_MAX_OPEN_MS": "600", "SLOW_START_MS": "500"}
SHORTEST_OPENING = 0.27  # seconds: 300 ms less 10 %
FAILURES = 5  # that open a breaker
STATUSES = {"RETRY_ON": "connect,reset,502,503,504"}
EVENTS = {"Accept": "text/event-stream"}

Fault = Callable[[Upstream], AbstractAsyncContextManager[None]]


# ---------------------------------------------------------------- faults: entered they break, left they mend


@contextlib.asynccontextmanager
async def killed(upstream: Upstream) -> AsyncIterator[None]:
    await upstream.kill()
    yield
    await upstream.start()


@contextlib.asynccontextmanager
async def stopped(upstream: Upstream) -> AsyncIterator[None]:
    upstream.signal(signal.SIGSTOP)
    yield
    upstream.signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def refusing(upstream: Upstream) -> AsyncIterator[None]:
    await upstream.tell(listen=False)
    yield
    await upstream.tell(listen=True)


@contextlib.asynccontextmanager
async def swallowing(upstream: Upstream) -> AsyncIterator[None]:
    async with refusing(upstream), black_hole(upstream.port):
        yield


def answering(**how: object) -> Fault:
    @contextlib.asynccontextmanager
    async def fault(upstream: Upstream) -> AsyncIterator[None]:
        await upstream.tell(**how)
        yield
        await upstream.tell()

    return fault


@dataclass
class Story:
    """What happened to one endpoint, and what clients saw of it.

    Attributes:
    """

    load: Load
    victim: Upstream

    def assert_that_behind_the_breaker_only_probes_fail(self, error: str) -> None:
        """Once clients have seen as many failures of the victim as open a breaker, what is sent meets its probes only:
        one in each opening.
        """
        asked = self.load.stage.asked_last()
        failed = [each for each in self.load.seen if each.error and asked[each.id] == self.victim.name]
        assert {each.error for each in failed} == {error}
        opened = sorted(each.ended_at for each in failed)[FAILURES - 1]
        behind = [each.sent_at for each in failed if each.sent_at > opened]
        openings = (max(behind, default=opened) - opened) / SHORTEST_OPENING
        assert len(behind) <= openings + 1


async def suffer(directory: Path, what: str, fault: Fault, requests: int = 750, **variables: str) -> Story:
    """Break the endpoint that is used most, for so many requests or more, until the traffic has left it."""
    async with staged(directory, **QUICK, **variables) as stage, Load(stage) as load:
        await load.until_answered(300)
        victim = stage.upstreams[load.busiest()]
        broken = time.monotonic()
        async with fault(victim):
            await load.passes(requests)
            left = await load.until_left(victim.name, broken)
        back = await load.until_back(victim.name)
        await load.until_answered(100)
    load.report(what, after("left", left), after("back", back))
    return Story(load, victim)


# ---------------------------------------------------------------- one of three

CONNECTING = {"UPSTREAM_CONNECT_TIMEOUT_MS": "200"}
# The budget is large, because on a busy machine other endpoints, too, may take longer than a try.
TRYING = {"RETRY_TRY_TIMEOUT_MS": "300", "RETRY_BUDGET_PERCENT": "300"}


@pytest.mark.parametrize(
    ("what", "fault", "variables", "balancer"),
    [
        ("kill -9", killed, {}, "least_load"),
        ("kill -9", killed, {}, "round_robin"),
        ("kill -9", killed, {}, "peak_ewma"),
        ("SIGSTOP, tries of 300 ms", stopped, TRYING, "least_load"),
        ("SIGSTOP, tries of 300 ms", stopped, TRYING, "round_robin"),
        ("port closed", refusing, {}, "least_load"),
        ("black hole, 200 ms to connect", swallowing, CONNECTING, "least_load"),
        ("black hole, 200 ms to connect", swallowing, CONNECTING, "round_robin"),
        ("503s, sent again", answering(status=503), STATUSES, "least_load"),
        ("502s, sent again", answering(status=502), STATUSES, "round_robin"),
    ],
    ids=[
        "kill",
        "kill-round_robin",
        "kill-peak_ewma",
        "stop",
        "stop-round_robin",
        "refuse",
        "black_hole",
        "black_hole-round_robin",
        "503",
        "502-round_robin",
    ],
)
@within_uvloop
async def test_a_broken_endpoint_of_three_costs_no_client_an_error(
    tmp_path: Path, what: str, fault: Fault, variables: dict[str, str], balancer: str
) -> None:
    story = await suffer(tmp_path, f"{what} ({balancer})", fault, BALANCER=balancer, **variables)
    assert not story.load.errors()


@within_uvloop
async def test_an_endpoint_that_hangs_costs_no_more_errors_than_there_are_until_its_breaker_opens(
    tmp_path: Path,
) -> None:
    variables = {"HTTP_PROXY_TIMEOUT_MS": "500", "MAX_EJECTED_PERCENT": "100", "PANIC_PERCENT": "0"}
    story = await suffer(
        tmp_path, "SIGSTOP, 500 ms for all tries (round_robin)", stopped, 1250, BALANCER="round_robin", **variables
    )
    story.assert_that_behind_the_breaker_only_probes_fail("status 504")


@within_uvloop
async def test_a_burst_of_errors_that_are_not_sent_again_ends_with_the_breaker(tmp_path: Path) -> None:
    what = "500s, not sent again (round_robin)"
    story = await suffer(tmp_path, what, answering(status=500), BALANCER="round_robin")
    assert set(story.load.errors()) == {"status 500"}
    story.assert_that_behind_the_breaker_only_probes_fail("status 500")


@within_uvloop
async def test_an_endpoint_without_a_trusted_certificate_costs_no_client_an_error(tmp_path: Path) -> None:
    trusted, unknown = trustme.CA(), trustme.CA()
    trusted.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    upstreams = [Upstream("a"), Upstream("b"), Upstream("c", certificate(unknown, tmp_path / "unknown"))]
    async with (
        staged(tmp_path, upstreams=upstreams, UPSTREAM_TLS_CA_FILE=str(tmp_path / "ca.pem"), **QUICK) as stage,
        Load(stage) as load,
    ):
        broken, victim = time.monotonic(), stage.upstreams["c"]
        await load.passes(750)
        left = await load.until_left(victim.name, broken)
        assert (await victim.tell())["requests"] == 0
        await victim.kill()
        victim.certificate = certificate(trusted, tmp_path / "trusted")
        await victim.start()
        back = await load.until_back(victim.name)
    load.report("certificate nobody trusts (least_load)", after("left", left), after("back", back))
    assert not load.errors()


def certificate(authority: trustme.CA, directory: Path) -> tuple[str, str]:
    """The files of a chain and a key for localhost."""
    directory.mkdir()
    issued = authority.issue_cert("localhost")
    chain, key = directory / "chain.pem", directory / "key.pem"
    for part in issued.cert_chain_pems:
        part.write_to_path(str(chain), append=True)
    issued.private_key_pem.write_to_path(str(key))
    return str(chain), str(key)


# ---------------------------------------------------------------- not failing, but bad

BY_LOAD = ("least_load", "peak_ewma", "two_choices")


async def passed(loads: list[Load], count: int) -> float:
    """Wait until `count` further requests of each load have ended; return the instant."""
    return max(await asyncio.gather(*(load.passes(count) for load in loads)))


async def first(loads: list[Load], broken: float, shows: Callable[[Seen], bool]) -> dict[str, float]:
    """Wait until answers show a fault; return the instants of the first, by load: `broken` for a load without any."""

    def shown() -> dict[str, float]:
        ends = {
            load.name: [each.ended_at for each in load.seen if each.ended_at >= broken and shows(each)]
            for load in loads
        }
        return {name: min(instants) for name, instants in ends.items() if instants}

    await until(shown, "a load sees the fault")
    await passed(loads, 100)
    return dict.fromkeys((load.name for load in loads), broken) | shown()


def share_of(victim: Upstream, seen: list[Seen]) -> float:
    """The share of the requests that an upstream has answered."""
    assert len(seen) > 200
    return sum(each.by == victim.name for each in seen) / len(seen)


@within_uvloop
async def test_an_endpoint_that_fails_fast_gets_next_to_nothing_even_without_a_breaker(tmp_path: Path) -> None:
    services = {balancer: {"balancer": balancer} for balancer in BY_LOAD}
    async with staged(tmp_path, services, BREAKER_FAILURES="0") as stage, contextlib.AsyncExitStack() as stack:
        loads = [await stack.enter_async_context(Load(stage, 200, balancer)) for balancer in BY_LOAD]
        await passed(loads, 100)
        victim = stage.upstreams[loads[0].busiest()]
        broken = time.monotonic()
        await victim.tell(status=503, lines="Retry-After: 30")
        failed = await first(loads, broken, lambda seen: seen.status == 503)
        end = await passed(loads, 300)
    for load in loads:
        left = after("left", load.left(victim.name, broken, end))
        load.report(f"503s with Retry-After at once, no breaker ({load.name})", left)
        assert share_of(victim, load.between(failed[load.name], end)) <= 0.02
        assert set(load.errors()) <= {"status 503"}


@dataclass
class Comparison:
    """Loads of services with and without an endpoint. A busy machine delays both; the endpoint may delay neither."""

    victim: Upstream
    loads: list[Load]
    control: Load

    def shows(self, seconds: float) -> Callable[[Seen], bool]:
        """Whether the victim has answered a request after so many seconds or more."""
        return lambda seen: seen.by == self.victim.name and (seen.seconds or 0.0) >= seconds

    def usual(self, begin: float, end: float) -> float:
        """Mean duration in seconds of requests to sound endpoints: next to nothing, unless the machine is busy. The
        slower they are, too, the more of the traffic the victim gets from balancers that look at the load.
        """
        return statistics.fmean(each.seconds or PATIENCE for each in self.control.between(begin, end))

    def assert_that_others_overtake(self, broken: float, end: float, seconds: float) -> None:
        """Requests to sound endpoints begin and end while the first answer that takes so many seconds is on its way.

        The order shows what a share of late requests cannot show on a busy machine, where sound endpoints are late too.
        """
        for load in self.loads:
            seen = load.between(broken, end)
            slow = min(filter(self.shows(seconds), seen), key=lambda each: each.ended_at)
            others = [each for each in seen if each.by != self.victim.name and each.sent_at > slow.sent_at]
            assert sum(each.ended_at < slow.ended_at for each in others) > 20
            assert not load.errors()


@contextlib.asynccontextmanager
async def beside_a_control(directory: Path, balancers: Sequence[str], rate: int) -> AsyncIterator[Comparison]:
    """A load for each balancer on three endpoints, and a load on a service that lacks the first of them."""
    upstreams = [Upstream(name, port=free_port()) for name in "abc"]
    services: dict[str, dict[str, Any]] = {balancer: {"balancer": balancer} for balancer in balancers}
    services["control"] = {"endpoints": [upstream.url for upstream in upstreams[1:]]}
    async with staged(directory, services, upstreams) as stage, contextlib.AsyncExitStack() as stack:
        loads = [await stack.enter_async_context(Load(stage, rate, name)) for name in services]
        await passed(loads, 100)
        yield Comparison(upstreams[0], loads[:-1], loads[-1])


@within_uvloop
async def test_an_endpoint_that_became_slow_gets_little_and_is_overtaken(tmp_path: Path) -> None:
    async with beside_a_control(tmp_path, BY_LOAD, 200) as compared:
        broken = time.monotonic()
        await compared.victim.tell(delay=2.0)
        known = await first(compared.loads, broken, compared.shows(2.0))
        end = await passed([*compared.loads, compared.control], 300)
        await compared.victim.tell()
    for load in compared.loads:
        load.report(f"heads after 2 s ({load.name})", after("left", load.left(compared.victim.name, broken, end)))
        share = share_of(compared.victim, load.between(known[load.name], end))
        assert share <= 0.1 + compared.usual(broken, end) / 2.0
    compared.assert_that_others_overtake(broken, end, 2.0)


@within_uvloop
async def test_bodies_that_come_byte_by_byte_are_overtaken(tmp_path: Path) -> None:
    async with beside_a_control(tmp_path, (*BY_LOAD, "round_robin"), 150) as compared:
        victim, broken = compared.victim, time.monotonic()
        await victim.tell(drip=0.1)
        known = await first(compared.loads, broken, compared.shows(1.0))
        end = await passed([*compared.loads, compared.control], 250)
        await victim.tell()
    dripped = {load.name: share_of(victim, load.between(known[load.name], end)) for load in compared.loads}
    compared.assert_that_others_overtake(broken, end, 1.0)
    for load in compared.loads:
        load.report(f"bodies of a byte in 100 ms ({load.name})", f"{dripped[load.name]:.0%} of the requests")
    # By what it has in flight, for its heads are as quick as the others'.
    assert all(dripped[balancer] < 0.7 * dripped["round_robin"] for balancer in BY_LOAD)


# ---------------------------------------------------------------- names

ADDRESSES = {"a": "127.0.0.2", "b": "127.0.0.3", "c": "127.0.0.4"}


@pytest.mark.parametrize(
    ("what", "before", "dying", "behind", "errors"),
    [
        ("one of two addresses dies, and another one comes", "ab", "b", "ac", set()),
        ("both addresses move, and still answer", "ab", "", "c", set()),
        ("the only address dies, and another one comes", "a", "a", "c", {"status 502"}),
    ],
    ids=["one of two", "moving", "the only one"],
)
@within_uvloop
async def test_requests_follow_a_name_to_its_new_addresses(
    tmp_path: Path, what: str, before: str, dying: str, behind: str, errors: set[str]
) -> None:
    """With the shortest time to live. Errors are seen, if at all, until it is over."""
    port = free_port()
    names = Names(tmp_path / "hosts", billing=[ADDRESSES[name] for name in before])
    services = {"svc": {"endpoints": [f"http://billing.test:{port}"]}}
    upstreams = [Upstream(name, address=address, port=port) for name, address in ADDRESSES.items()]
    async with (
        staged(tmp_path, services, upstreams, names, DISCOVERY="true", DNS_TTL_MS="0", **QUICK) as stage,
        Load(stage) as load,
    ):
        await load.until_answered(300)
        assert {each.by for each in load.seen if each.by} == {*before}
        broken = time.monotonic()
        await asyncio.gather(*(stage.upstreams[name].kill() for name in dying))
        await until(lambda: load.errors(begin=broken) or not errors, "clients see the fault before the name moves")
        names.lead_to(billing=[ADDRESSES[name] for name in behind])
        back = await load.until_back("c")
        followed = await load.passes(250)
        await asyncio.gather(*(stage.upstreams[name].kill() for name in {*before} - {*behind}))
        end = await load.passes(500)
    load.report(f"{what} (1 s to live)", after("followed", back))
    assert set(load.errors()) == errors
    assert not load.errors(begin=followed)
    assert {each.by for each in load.between(followed, end)} == {*behind}
    attempts = stage.attempts()
    assert {attempts[each.id] for each in load.between(followed, end)} == {1}, "who has gone is still asked"
    assert load.left(next(iter({*before} - {*behind})), broken, end) is not None


# ---------------------------------------------------------------- all three

UNAVAILABLE = (502, "upstream_unavailable")


@pytest.mark.parametrize(
    ("variables", "errors"),
    [
        ({}, {UNAVAILABLE}),
        ({"MAX_EJECTED_PERCENT": "100", "PANIC_PERCENT": "0"}, {UNAVAILABLE, (503, "circuit_open")}),
    ],
    ids=["panic", "all ejected"],
)
@within_uvloop
async def test_a_service_that_is_down_is_told_at_once_and_one_endpoint_brings_it_back(
    tmp_path: Path, variables: dict[str, str], errors: set[tuple[int, str]]
) -> None:
    async with staged(tmp_path, **QUICK, **variables) as stage, Load(stage) as load:
        await load.until_answered(300)
        await asyncio.gather(*(upstream.kill() for upstream in stage.upstreams.values()))
        broken = time.monotonic()
        mended = await load.passes(500)
        await stage.upstreams["b"].start()
        back = await load.until_back("b")
        recovered = time.monotonic()
        await until(lambda: load.is_well(recovered), "no client sees an error any more")
        well = time.monotonic() - mended
    load.report("kill -9 of all three", after("one back", back), after("no more errors", well))
    down = [each for each in load.between(broken, mended) if each.ended_at < mended]
    assert {(each.status, json.loads(each.body)["error"]) for each in down} == errors
    assert all(b"application/problem+json" in each.head for each in down)
    assert all(b"\r\nretry-after: " in each.head.lower() for each in down if each.status == 503)


async def failed_checks(stage: Stage, name: str) -> int:
    """The number of health checks that an upstream has failed."""
    async with httpx.AsyncClient(base_url=stage.url, timeout=PATIENCE, trust_env=False) as client:
        stats = (await client.get("/admin/stats")).json()
    (service,) = stats["services"].values()
    (failed,) = [
        each["checks"]["failed"] for each in service["upstreamDetails"] if each["url"] == stage.upstreams[name].url
    ]
    return int(failed)


@within_uvloop
async def test_after_errors_of_all_the_traffic_goes_to_the_endpoint_that_has_recovered_and_stays(
    tmp_path: Path,
) -> None:
    checks = {
        "HEALTH_CHECK": "http",
        "HEALTH_INTERVAL_MS": "1000",
        "HEALTH_TIMEOUT_MS": "1000",
        "HEALTH_DOWN_INTERVAL_MS": "200",
    }
    async with staged(tmp_path, **checks) as stage, Load(stage) as load:
        await load.until_answered(300)
        await asyncio.gather(*(upstream.tell(status=503) for upstream in stage.upstreams.values()))
        mended = await load.passes(1000)
        await stage.upstreams["b"].tell()
        back = await load.until_back("b")
        await until(lambda: load.is_well(mended), "no client sees an error any more")
        # A check that a busy machine lets fail takes b out again: such a run says nothing, and the next run is judged.
        failed = -1
        async with asyncio.timeout(2 * PATIENCE):
            while (failed_now := await failed_checks(stage, "b")) != failed:
                failed, since = failed_now, time.monotonic()
                await until(partial(load.is_well, since), "b serves alone, or again after a failed check")
                recovered = time.monotonic()
                end = await load.passes(1000)
    load.report("503s of all three, with checks", after("one back", back), after("recovered", recovered - mended))
    assert {(each.by, each.status) for each in load.between(recovered, end)} == {("b", 200)}


@within_uvloop
async def test_retries_do_not_become_a_storm(tmp_path: Path) -> None:
    variables = {"RETRY_ON": "connect,reset,503", "RETRY_ATTEMPTS": "3"}
    async with staged(tmp_path, **variables) as stage:
        await asyncio.gather(*(upstream.tell(status=503) for upstream in stage.upstreams.values()))
        began = time.monotonic()
        async with Load(stage, 1000) as load:
            await load.passes(2000)
        asked, seconds = await stage.requests(), time.monotonic() - began
    load.report("503s of all three", f"{asked / len(load.seen):.3f} requests to upstreams for each of a client")
    assert set(load.errors()) == {"status 503"}
    assert load.errors().total() == len(load.seen)
    assert 1.1 * len(load.seen) < asked <= 1.2 * len(load.seen) + 20 + 3 * seconds / 2  # 3 in 2 s are always allowed


# ---------------------------------------------------------------- streams

STREAMS = 50  # of each kind on each endpoint


@within_uvloop
async def test_streams_of_an_endpoint_that_is_killed_are_ended_and_come_back_elsewhere(tmp_path: Path) -> None:
    async with staged(tmp_path, **QUICK) as stage, contextlib.AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=None)
        client = httpx.AsyncClient(base_url=stage.url, limits=limits, timeout=PATIENCE, trust_env=False)
        await stack.enter_async_context(client)
        events = [await stack.enter_async_context(Events(client)) for _ in range(3 * STREAMS)]
        sockets = [await stack.enter_async_context(socket_of(stage)) for _ in range(3 * STREAMS)]
        spoken = [(await socket.recv(), socket) for socket in sockets]
        lost_events = [each for each in events if each.by == "c"]
        lost_sockets = [socket for by, socket in spoken if by == "c"]
        assert (len(lost_events), len(lost_sockets)) == (STREAMS, STREAMS)

        broken = time.monotonic()
        await stage.upstreams["c"].kill()
        for each in lost_events:
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
                await each.more()
        for socket in lost_sockets:
            with pytest.raises(ConnectionClosedError):
                await asyncio.wait_for(socket.recv(), PATIENCE)
            assert socket.close_code == 1011
        told = time.monotonic() - broken

        again = [await stack.enter_async_context(Events(client)) for _ in lost_events]
        others = [await (await stack.enter_async_context(socket_of(stage))).recv() for _ in lost_sockets]
        assert {each.by for each in again} == set(others) == {"a", "b"}
        undisturbed = [socket for by, socket in spoken if by != "c"]
        assert all(socket.close_code is None for socket in undisturbed)
        print_streams(told, time.monotonic() - broken)


class Events:
    """An event stream, as httpx sees it.

    Attributes:
        by: the upstream that speaks.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._request = client.stream("GET", "/sse/svc/events", headers=EVENTS)

    async def __aenter__(self) -> "Events":
        response = await self._request.__aenter__()
        assert response.status_code == 200
        self._chunks = response.aiter_text()
        said = ""
        while not said.endswith("\n\n"):
            said += await self.more()
        self.by = said.removeprefix("data: ").strip()
        return self

    async def more(self) -> str:
        return await anext(self._chunks)

    async def __aexit__(self, *_: object) -> None:
        await self._request.__aexit__(None, None, None)


@contextlib.asynccontextmanager
async def socket_of(stage: Stage) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://127.0.0.1:{stage.port}/ws/svc/chat", proxy=None, ping_interval=None) as socket:
        yield socket


def print_streams(told: float, again: float) -> None:
    print(  # noqa: T201
        f"\nkill -9 under {STREAMS} event streams and {STREAMS} WebSockets: all told after {told:.2f} s, "
        f"all come back elsewhere after {again:.2f} s",
        end="",
    )
