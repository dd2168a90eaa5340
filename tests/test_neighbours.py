"""What a gateway does because another gateway says so: two gateways on a real redis-server, and gateways of workers."""

import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Running, Serve
from tests.handlers.test_control import OPERATOR, done
from tests.support.crews import Crew, await_, crew
from tests.support.journeys import Start, ask
from tests.support.operators import AUTH
from tests.support.redis import StartRedis
from tests.support.reloading import Reloading
from tests.support.sockets import PATIENCE, Peer, echo, eventually, get
from tests.test_workers import ask as ask_port
from tornado_gateway.adapters.shared_endpoints import CHANNEL, KEY, SharedEndpoints
from tornado_gateway.neighbours import carry_out
from tornado_gateway.policy.statements import (
    BREAKER,
    CLOSED,
    DRAIN,
    OPENED,
    RELOADED,
    STALE,
    WEIGHT,
    Flaw,
    Ignored,
    Statement,
    key_of,
)
from tornado_gateway.policy.upstream.breaker import State
from tornado_gateway.policy.upstream.endpoint import Endpoint

SECRET = "s" * 32
URLS = [f"http://127.0.0.1:{port}" for port in (1, 2, 3, 4)]

on_one_loop = pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)


def shared_of(running: Running) -> SharedEndpoints:
    shared = running.app.gateway.shared_endpoints
    assert shared
    return shared


def endpoint(running: Running, number: int = 0) -> Endpoint:
    return running.app.gateway.services[b"billing"].endpoints[number]


async def gateway(serve: Serve, url: str, urls: list[str] = URLS, **variables: str) -> Running:
    """A gateway that waits for a slow Redis, and hears already."""
    running = await serve(
        {"billing": urls}, **AUTH, **variables, REDIS_URL=url, SHARED_ENDPOINTS_SECRET=SECRET, SLOW_START_MS="0"
    )
    for each in running.app.gateway.redis.values():
        each.timeout = PATIENCE
    return running


async def several(serve: Serve, redis: StartRedis, count: int = 2) -> tuple[Any, list[Running]]:
    server = redis()
    running = [await gateway(serve, server.url) for _ in range(count)]
    await eventually(lambda: server.command("PUBSUB", "NUMSUB", CHANNEL).split()[-1] == str(count))
    return server, running


def acts(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the log of acts about what other gateways have told."""
    lines = [each.getMessage() for each in caplog.records if each.name == "tornado_gateway.audit"]
    return [each for each in lines if " at gateway " in each]


# ---- acts of operators


@on_one_loop
@pytest.mark.gen_test
async def test_acts_in_a_gateway_are_carried_out_in_the_other_with_a_line_each(
    serve: Serve, redis_server: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    _, (one, other) = await several(serve, redis_server)
    with caplog.at_level(logging.INFO, "tornado_gateway"):
        await done(one, "drain", URLS[0])
        await eventually(lambda: endpoint(other).weight == 0)
        await done(other, "undrain", URLS[0])
        await eventually(lambda: endpoint(one).weight == 1)
        await done(one, "weight", URLS[1], weight=7)
        await eventually(lambda: endpoint(other, 1).weight == 7)
        await done(one, "breaker", URLS[2], act="open", forMs=30_000)
        await eventually(lambda: endpoint(other, 2).breaker.is_open)
        left = endpoint(other, 2).breaker.open_until - time.monotonic()
        assert 0 < left <= 30
        await done(other, "breaker", URLS[2], act="reset")
        await eventually(lambda: not endpoint(one, 2).breaker.is_open)
    sender = shared_of(one).sender
    lines = acts(caplog)
    assert len(lines) == 5
    assert lines[0] == (f'drain by "id|ada" at gateway "{sender}": drained, before with weight 1, {URLS[0]} of billing')
    assert shared_of(other).messages == {"applied": 3}


@on_one_loop
@pytest.mark.gen_test
async def test_a_gateway_that_starts_learns_drains_and_what_is_left_of_an_opening(
    serve: Serve, redis_server: StartRedis
) -> None:
    server, (one,) = await several(serve, redis_server, 1)
    await done(one, "drain", URLS[0])
    await done(one, "weight", URLS[1], weight=7)
    await done(one, "breaker", URLS[2], act="open", forMs=60_000)
    await eventually(lambda: server.command("HLEN", KEY) == "3")
    late = await gateway(serve, server.url)
    assert [each.weight for each in late.app.gateway.services[b"billing"].endpoints] == [0, 7, 1, 1]
    assert endpoint(late, 2).breaker.state(time.monotonic()) is State.OPEN


@on_one_loop
@pytest.mark.gen_test
async def test_redis_that_is_killed_leaves_acts_to_each_and_brings_them_together_when_it_is_back(
    serve: Serve, redis_server: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    server, (one, other) = await several(serve, redis_server)
    server.stop()
    await eventually(lambda: not any(each.is_up for each in one.app.gateway.redis.values()))
    assert (await done(one, "drain", URLS[0]))["state"] == "drained"
    await done(other, "weight", URLS[1], weight=3)
    assert endpoint(other).weight == 1
    server.start()  # without its memory
    await eventually(lambda: endpoint(other).weight == 0 and endpoint(one, 1).weight == 3)
    away = [each.getMessage() for each in caplog.records if "failed (" in each.getMessage()]
    assert len(away) == 2 and all("each gateway knows its own drains and ejections" in each for each in away)


@on_one_loop
@pytest.mark.gen_test
async def test_forged_messages_change_nothing(serve: Serve, redis_server: StartRedis) -> None:
    server, (one,) = await several(serve, redis_server, 1)
    said = {"service": "billing", "endpoint": URLS[0]}
    forged = json.dumps([time.time(), "mallory", time.time(), "k", DRAIN, ["mallory", said]])
    server.command("PUBLISH", CHANNEL, forged + "x" * 32)
    server.command("HSET", KEY, key_of(DRAIN, "billing", URLS[0]), forged)
    await eventually(lambda: shared_of(one).messages == {"forged": 1})
    late = await gateway(serve, server.url)
    assert shared_of(late).messages == {"forged": 1}
    assert endpoint(one).weight == endpoint(late).weight == 1


@on_one_loop
@pytest.mark.gen_test
async def test_an_act_waits_for_the_endpoint_and_for_the_service(
    serve: Serve, redis_server: StartRedis, tmp_path: Path
) -> None:
    server, (one,) = await several(serve, redis_server, 1)
    for number, weight in ((0, 0), (1, 7), (2, 5)):
        await done(one, "weight", URLS[number], weight=weight)
    await done(one, "drain", URLS[2])
    await done(one, "undrain", URLS[2])
    await done(one, "breaker", URLS[3], act="open")
    await eventually(lambda: server.command("HLEN", KEY) == "4")
    variables = {**AUTH, "REDIS_URL": server.url, "SHARED_ENDPOINTS_SECRET": SECRET}
    other = await Reloading.start(serve, tmp_path / ".env", {"billing": [URLS[3]]}, **variables)
    other.write({"billing": URLS, "chat": ["http://127.0.0.1:9"]}, **variables)

    await other.reload(OPERATOR)
    assert [each.weight for each in other.running.app.gateway.services[b"billing"].endpoints] == [0, 7, 1, 1]


# ---- findings


async def fails(peer: Peer) -> None:
    while await peer.request():
        await peer.send(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")


@on_one_loop
@pytest.mark.gen_test
async def test_an_endpoint_that_a_gateway_ejects_is_ejected_in_the_other_until_it_is_well(
    serve: Serve, redis_server: StartRedis, upstream: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = redis_server()
    urls = [upstream(fails).url, *[upstream(echo).url for _ in range(3)]]
    variables = {"BREAKER_FAILURES": "1", "RETRIES": "0", "BALANCER": "round_robin"}
    one, other = [await gateway(serve, server.url, urls, **variables) for _ in range(2)]
    await eventually(lambda: server.command("PUBSUB", "NUMSUB", CHANNEL).split()[-1] == "2")
    with caplog.at_level(logging.INFO, "tornado_gateway"):
        while not endpoint(one).breaker.is_open:
            await ask(one, get(b"/api/billing/x", OPERATOR))
        await eventually(lambda: endpoint(other).is_ejected)
    there, here = endpoint(one).breaker, endpoint(other).breaker
    assert (here.is_hearsay, here.opened, here.open_until) == (True, 0, pytest.approx(there.open_until, abs=0.1))
    assert any(
        f"as gateway {json.dumps(shared_of(one).sender)} has found" in each.getMessage() for each in caplog.records
    )
    service = one.app.gateway.services[b"billing"]
    now = there.open_until
    service.end_permit(endpoint(one), service.begin_permit(endpoint(one), now), now, failed=False)
    await eventually(lambda: not endpoint(other).is_ejected)


@on_one_loop
@pytest.mark.gen_test
async def test_what_is_no_act_and_no_finding_is_malformed(serve: Serve, redis_server: StartRedis) -> None:
    _, (one,) = await several(serve, redis_server, 1)
    known, now = {"service": "billing", "endpoint": URLS[0]}, time.time()
    for name, body in (
        (DRAIN, None),
        (DRAIN, ["ada"]),
        (DRAIN, ["ada", "x"]),
        (DRAIN, ["ada", {**known, "more": 1}]),
        (WEIGHT, ["ada", known]),
        (WEIGHT, ["ada", {**known, "weight": -1}]),
        (BREAKER, ["ada", {**known, "act": "break"}]),
        (OPENED, ["billing", URLS[0], "later"]),
        (OPENED, ["billing", URLS[0], float("inf")]),
        (OPENED, [7, URLS[0], now]),
        (CLOSED, []),
    ):
        with pytest.raises(Ignored) as raised:
            carry_out(one.app.gateway, shared_of(one), Statement("other", now, "k", name, body))
        assert raised.value.flaw is Flaw.MALFORMED
    for name, body in (
        (OPENED, ["mail", URLS[0], now + 9]),
        (OPENED, ["billing", "http://mail", now + 9]),
        (DRAIN, ["ada", {**known, "service": "mail"}]),
        (BREAKER, ["ada", {**known, "act": "open", "forMs": 1}]),
    ):
        carry_out(one.app.gateway, shared_of(one), Statement("other", now - 1, "k", name, body))
    assert endpoint(one).is_admitted and not endpoint(one).breaker.is_open
    endpoint(one).breaker.force_open(one.app.gateway.now(), 60.0)
    reset = ["ada", {**known, "act": "reset"}]
    carry_out(one.app.gateway, shared_of(one), Statement("other", now - STALE - 1, "k", BREAKER, reset))
    assert endpoint(one).breaker.is_open
    carry_out(one.app.gateway, shared_of(one), Statement("other", now, "k", BREAKER, reset))
    assert not endpoint(one).breaker.is_open


# ---- reloads


@on_one_loop
@pytest.mark.gen_test
async def test_a_gateway_hears_of_a_reload_and_reloads_if_it_watches_its_files(
    serve: Serve, redis_server: StartRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = redis_server()
    common = {**AUTH, "REDIS_URL": server.url, "SHARED_ENDPOINTS_SECRET": SECRET}
    services = {"billing": URLS[:1]}
    one = await Reloading.start(serve, tmp_path / "one", services, **common)
    keeps = await Reloading.start(serve, tmp_path / "keeps", services, **common)
    follows = await Reloading.start(serve, tmp_path / "follows", services, **common, RELOAD_WATCH="true")
    follows.reloader.watch.use(())  # so that the other gateway alone tells
    await eventually(lambda: server.command("PUBSUB", "NUMSUB", CHANNEL).split()[-1] == "3")
    for each in (one, keeps, follows):
        each.write({"billing": URLS}, **common, **({"RELOAD_WATCH": "true"} if each is follows else {}))
    with caplog.at_level(logging.INFO, "tornado_gateway"):
        await one.reload(OPERATOR)
        await eventually(lambda: len(follows.running.app.gateway.services[b"billing"].endpoints) == 4)
        said = f"gateway {json.dumps(shared_of(one.running).sender)} has reloaded its configuration; this gateway "
        await eventually(lambda: {each.getMessage().partition(said)[2] for each in caplog.records} >= {
            "reads its own again", "keeps its own, for RELOAD_WATCH is not true",
        })  # fmt: skip
    assert len(keeps.running.app.gateway.services[b"billing"].endpoints) == 1
    await follows.reloader.close()
    assert server.command("HLEN", KEY) == "1"  # nobody has told of a reload but the first
    statement = shared_of(follows.running).known(RELOADED)
    assert statement and statement.sender == shared_of(one.running).sender


# ---- workers


def weights(port: int) -> list[int]:
    answer = ask_port(port, "GET", "/admin/api/services")
    (service,) = json.loads(answer.text)["services"]  # type: ignore[attr-defined]
    return [each["weight"] for each in service["endpoints"]]


def post(port: int, path: str, **said: object) -> None:
    assert ask_port(port, "POST", path, json.dumps(said) if said else "").status == 200


@contextmanager
def both(folders: list[Path], **variables: str) -> Iterator[list[Crew]]:
    """Two gateways of two workers, which start at once."""
    made = [Crew(folder=each, **variables) for each in folders]
    try:
        yield [each.is_ready() for each in made]
    finally:
        for each in made:
            each.kill()


def test_gateways_of_two_workers_share_drains_with_a_line_each_and_reloads(
    tmp_path: Path, redis_server: StartRedis
) -> None:
    server = redis_server()
    variables = {
        "UPSTREAMS": "", "REDIS_URL": server.url, "SHARED_ENDPOINTS_SECRET": SECRET, "RELOAD_WATCH": "true",
        "LOG_LEVEL": "info",
    }  # fmt: skip
    folders = [tmp_path / "one", tmp_path / "other"]
    for each in folders:
        each.mkdir()
        (each / ".env").write_text(f"UPSTREAMS='{json.dumps({'svc': URLS[:2]})}'\n")
    with both(folders, **variables) as (one, other):
        await_(lambda: server.command("PUBSUB", "NUMSUB", CHANNEL).split()[-1] == "4")
        post(one.port, "/admin/api/drain", service="svc", endpoint=URLS[0])
        await_(lambda: all(weights(other.port) == [0, 1] for _ in range(4)))
        line = other.hears("INFO drain by ")
        assert "drained, before with weight 1" in line and "INFO drain by" not in one.log
        server.stop()
        other.hears("Redis at")
        first, _ = other.workers

        os.kill(first, signal.SIGKILL)
        other.is_ready()
        assert all(weights(other.port) == [0, 1] for _ in range(4))  # the newcomer has learnt from the supervisor
        server.start()
        await_(lambda: server.command("PUBSUB", "NUMSUB", CHANNEL).split()[-1] == "4")
        post(other.port, "/admin/api/undrain", service="svc", endpoint=URLS[0])
        await_(lambda: all(weights(one.port) == [1, 1] for _ in range(4)))
        post(one.port, "/admin/api/reload")
        other.hears("has reloaded its configuration; this gateway reads its own again")
        other.hears("reloaded: nothing has changed")
        assert other.log.count("INFO drain by ") == 1
        assert one.log.count("INFO undrain by ") == 1
        assert "has reloaded" not in one.log


def test_a_gateway_that_takes_over_keeps_the_drain(tmp_path: Path, redis_server: StartRedis) -> None:
    server = redis_server()
    variables = {
        "UPSTREAMS": json.dumps({"svc": URLS[:2]}), "REDIS_URL": server.url, "SHARED_ENDPOINTS_SECRET": SECRET,
        "TAKEOVER_SOCKET": f"{tmp_path}/own/s", "LOG_LEVEL": "info",
    }  # fmt: skip
    with crew(folder=tmp_path, **variables) as old:
        post(old.port, "/admin/api/drain", service="svc", endpoint=URLS[0])
        await_(lambda: server.command("HLEN", KEY) == "1")
        with crew("--takeover", folder=tmp_path, **variables | {"PORT": str(old.port)}) as new:
            old.hears("another process has taken over")
            assert all(weights(old.port) == [0, 1] for _ in range(4))
            assert "INFO drain by" not in new.log  # the operator's act has its line already
