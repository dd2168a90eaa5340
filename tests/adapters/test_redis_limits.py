"""Rate limits with a real redis-server: shared, exact, and no stall when Redis dies, hangs, forgets or returns."""

import asyncio
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import pytest

from tests.conftest import Running, Serve
from tests.support.journeys import Start, ask, capture, problem
from tests.support.redis import RedisServer, StartRedis
from tests.support.sockets import echo, eventually, get
from tornado_gateway.adapters.batched_limits import BATCH
from tornado_gateway.adapters.redis_connection import TIMEOUT, RedisConnection
from tornado_gateway.adapters.redis_limits import RedisStore
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import ConfigurationError
from tornado_gateway.policy.limits.algorithms import SLICES
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.quota import Quota
from tornado_gateway.policy.limits.rules import LIMIT_ALGORITHMS, Rule
from tornado_gateway.policy.limits.verdict import Verdict

PATH = b"/api/svc/x"


def rule(limit: int, window: float, algorithm: str = "gcra", name: str = "default", burst: int = 0) -> Rule:
    return Rule(name, name, Quota(limit, window, burst), algorithm)


def memory() -> MemoryStore:
    return MemoryStore(random.Random(5))


def patient(store: RedisStore) -> RedisStore:
    """A store that waits for a slow machine."""
    store.connection.timeout = 30.0
    return store


def connect(url: str, on_error: str = "closed", local: MemoryStore | None = None) -> RedisStore:
    return patient(RedisStore(RedisConnection(url), on_error, memory() if local is None else local))


async def close(store: RedisStore) -> None:
    await store.close()
    await store.connection.close()


async def take(store: Any, key: str, *rules: Rule) -> list[Verdict]:
    taken = store.take([Asked(each, key) for each in rules], time.monotonic())
    return await taken if isinstance(taken, Awaitable) else taken


async def admitted(store: Any, key: str, *rules: Rule) -> bool:
    return not any(judgement.wait for _, judgement in await take(store, key, *rules))


def shared(running: Running) -> RedisStore:
    limits = running.app.gateway.limits
    assert limits
    assert isinstance(limits.shared, RedisStore)
    return limits.shared


def calls(server: RedisServer) -> Counter[str]:
    """How often clients have called each command; what the script calls, and what redis-cli calls, does not count."""
    found = re.findall(r"cmdstat_([a-z|]+):calls=([0-9]+)", server.command("INFO", "commandstats"))
    return Counter({name: int(count) for name, count in found if name not in ("get", "set", "time", "info")})


async def statuses(running: Running, count: int) -> list[int]:
    client = await running.client()
    return [(await client.ask(get(PATH))).status for _ in range(count)]


# ---------------------------------------------------------------- the script


@pytest.mark.parametrize("algorithm", LIMIT_ALGORITHMS)
@pytest.mark.gen_test
async def test_the_script_judges_as_the_memory_does(redis_server: StartRedis, algorithm: str) -> None:
    store, local = connect(redis_server().url), memory()
    rules = [rule(5, 3600.0, algorithm, "hour"), rule(7, 86_400.0, algorithm, "day")]
    for step in range(12):
        shared_, own = await take(store, "a", *rules), await take(local, "a", *rules)
        for (asked, one), (_, other) in zip(shared_, own, strict=True):
            assert one.remaining == other.remaining, step
            assert (one.wait > 0) == (other.wait > 0), step
            slack = asked.quota.window / SLICES if algorithm == "sliding" else 30  # slices begin at other instants
            for name in ("wait", "renewal", "reset"):
                assert abs(getattr(one, name) - getattr(other, name)) <= slack + 30
    assert await admitted(store, "b", *rules)
    await close(store)


@pytest.mark.parametrize("algorithm", LIMIT_ALGORITHMS)
@pytest.mark.gen_test
async def test_a_limit_renews_and_the_keys_expire(redis_server: StartRedis, algorithm: str) -> None:
    server = redis_server()
    store, short = connect(server.url), rule(1, 1.0, algorithm)
    while await admitted(store, "a", short):
        pass
    ((_, judgement),) = await take(store, "a", short)
    assert judgement.wait <= 1.13
    while not await admitted(store, "a", short):
        await asyncio.sleep(0.01)
    await eventually(lambda: server.command("DBSIZE") == "0")
    await close(store)


@pytest.mark.parametrize("algorithm", LIMIT_ALGORITHMS)
@pytest.mark.gen_test
async def test_requests_at_once_get_exactly_the_limit(redis_server: StartRedis, algorithm: str) -> None:
    server = redis_server()
    stores = [connect(server.url) for _ in range(2)]
    limit = 2 * BATCH + 7
    hour = rule(limit, 86_400.0, algorithm)
    asks = [admitted(store, "a", hour) for _ in range(limit) for store in stores]
    assert sum(await asyncio.gather(*asks)) == limit
    for store in stores:
        assert store.connection.errors == 0
        await close(store)


@pytest.mark.gen_test
async def test_a_burst_is_what_may_come_at_once(redis_server: StartRedis) -> None:
    store, few = connect(redis_server().url), rule(1000, 86_400.0, burst=3)
    assert [await admitted(store, "a", few) for _ in range(5)] == [True, True, True, False, False]
    await close(store)


@pytest.mark.gen_test
async def test_a_refusal_by_one_rule_counts_under_none(redis_server: StartRedis) -> None:
    store = connect(redis_server().url)
    narrow, wide = rule(1, 86_400.0, name="narrow"), rule(5, 86_400.0, name="wide")
    assert [await admitted(store, "a", wide, narrow) for _ in range(3)] == [True, False, False]
    ((_, judgement),) = await take(store, "a", wide)
    assert judgement.remaining == 3
    await close(store)


@pytest.mark.gen_test
async def test_a_request_is_one_round_trip_whatever_its_rules(redis_server: StartRedis) -> None:  # R7
    server = redis_server()
    store, rules = connect(server.url), [rule(50, 3600.0, name=name) for name in ("one", "two", "three")]
    assert await admitted(store, "a", *rules)  # loads the script
    before = calls(server)
    for _ in range(10):
        assert await admitted(store, "a", *rules)
    assert calls(server) - before == {"evalsha": 10}
    await close(store)


@pytest.mark.gen_test
async def test_a_script_that_redis_has_forgotten_is_loaded_again(redis_server: StartRedis) -> None:
    server = redis_server()
    store, three = connect(server.url), rule(3, 86_400.0)
    assert await admitted(store, "a", three)
    server.command("SCRIPT", "FLUSH")
    assert [await admitted(store, "a", three) for _ in range(3)] == [True, True, False]
    assert (store.connection.is_up, store.connection.errors) == (True, 0)
    await close(store)


@pytest.mark.parametrize("algorithm", LIMIT_ALGORITHMS)
@pytest.mark.gen_test
async def test_a_cost_counts_above_the_limit(redis_server: StartRedis, algorithm: str) -> None:  # R9
    store, local = connect(redis_server().url), memory()
    ten = rule(10, 86_400.0, algorithm)
    for each in (store, local):
        assert await admitted(each, "a", ten)
        each.charge([Asked(ten, "a")], 4, time.monotonic())
        ((_, judgement),) = await take(each, "a", ten)
        assert judgement.remaining == 4
        each.charge([Asked(ten, "a")], 20, time.monotonic())
        ((_, judgement),) = await take(each, "a", ten)
        assert judgement.wait > (80_000 if algorithm == "sliding" else 130_000)
    await close(store)


@pytest.mark.parametrize(("on_error", "left"), [("local", 0), ("open", 9)])
@pytest.mark.gen_test
async def test_a_cost_while_redis_is_away_counts_in_memory_or_nowhere(
    redis_server: StartRedis, on_error: str, left: int
) -> None:
    server, local, ten = redis_server(), memory(), rule(10, 86_400.0)
    store = connect(server.url, on_error, local)
    assert await admitted(store, "a", ten)
    server.stop()
    for _ in range(2):  # fails on the way, and is away
        store.charge([Asked(ten, "a")], 6, time.monotonic())
        await eventually(lambda: not store.connection.is_up)
    ((_, judgement),) = local.take([Asked(ten, "a")], time.monotonic())
    assert judgement.remaining == left
    await close(store)


# ---------------------------------------------------------------- two gateways


@pytest.mark.gen_test
async def test_two_gateways_share_one_limit(serve: Serve, upstream: Start, redis_server: StartRedis) -> None:
    server, services = redis_server(), {"svc": [upstream(echo).url]}
    variables = {"RATE_LIMITS": "20/d", "REDIS_URL": server.url}
    gateways = [await serve(services, **variables) for _ in range(2)]
    for each in gateways:
        patient(shared(each))
    answers = await asyncio.gather(*[statuses(each, 15) for each in gateways])
    assert sum(each.count(200) for each in answers) == 20
    assert {status for each in answers for status in each} == {200, 429}
    refused = await ask(gateways[0], get(PATH))
    assert refused.get(b"x-ratelimit-remaining") == b"0"
    assert int(refused.get(b"retry-after") or 0) > 4000
    server.command("FLUSHALL")  # a Redis that comes back without memory begins anew
    assert await statuses(gateways[1], 2) == [200, 200]


@pytest.mark.parametrize(
    ("on_error", "expected"),
    [("local", [200, 200, 429]), ("open", [200, 200, 200]), ("closed", [503, 503, 503])],
)
@pytest.mark.gen_test
async def test_while_redis_is_away_the_variable_decides_until_redis_is_back(  # R7
    serve: Serve, upstream: Start, redis_server: StartRedis, caplog: pytest.LogCaptureFixture,
    on_error: str, expected: list[int],
) -> None:  # fmt: skip
    server = redis_server()
    running = await serve(
        {"svc": [upstream(echo).url]}, RATE_LIMITS="2/d", RATE_LIMIT_STORE=server.url, RATE_LIMIT_ON_ERROR=on_error
    )
    patient(shared(running))
    lines = capture(running)
    with caplog.at_level(logging.WARNING, "tornado_gateway"):
        assert await statuses(running, 3) == [200, 200, 429]
        server.stop()
        assert await statuses(running, 3) == expected
        scraped = (await ask(running, get(b"/metrics"))).body
        assert b"gateway_rate_limit_store_up 0.0" in scraped
        assert b"gateway_rate_limit_store_errors_total 0.0" not in scraped
        server.start()
        await eventually(lambda: shared(running).connection.is_up)
        assert await statuses(running, 3) == [200, 200, 429]
    told = [each.getMessage() for each in caplog.records]
    assert len(told) == 2
    assert "127.0.0.1" in told[0] and "failed" in told[0] and "answers again" in told[1]
    await eventually(lambda: len(lines()) == 10)
    if on_error == "closed":
        assert [each["reason"] for each in lines()[3:6]] == ["limits_unavailable"] * 3


@pytest.mark.gen_test
async def test_closed_says_when_to_come_back(serve: Serve, redis_server: StartRedis) -> None:
    server = redis_server()
    running = await serve(
        {"svc": ["http://127.0.0.1:1"]}, RATE_LIMIT_MAX="2", REDIS_URL=server.url, RATE_LIMIT_ON_ERROR="closed"
    )
    server.stop()
    answer = await ask(running, get(PATH))
    problem(answer, 503, "overloaded")
    assert answer.get(b"retry-after") == b"1"
    assert (await ask(running, get(b"/healthz"))).status == 200


@pytest.mark.gen_test
async def test_a_redis_that_hangs_stalls_the_requests_of_one_timeout_only(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server = redis_server()
    running = await serve({"svc": [upstream(echo).url]}, RATE_LIMITS="1000/d", REDIS_URL=server.url)
    patient(shared(running))
    assert await statuses(running, 1) == [200]
    shared(running).connection.timeout = TIMEOUT
    server.freeze()
    waiting = [asyncio.ensure_future(ask(running, get(PATH))) for _ in range(5)]
    assert [(await each).status for each in waiting] == [200] * 5
    assert not shared(running).connection.is_up
    assert shared(running)._sender is None
    taken = shared(running).take([Asked(rule(5, 60.0), "a")], time.monotonic())
    assert isinstance(taken, list)  # decided at once
    server.thaw()
    patient(shared(running))
    await eventually(lambda: shared(running).connection.is_up)
    answer = await ask(running, get(PATH))
    assert int(answer.get(b"x-ratelimit-remaining") or 0) < 999


@pytest.mark.gen_test
async def test_a_gateway_that_stops_leaves_nothing_behind(redis_server: StartRedis) -> None:
    server = redis_server()
    store, three = connect(server.url), rule(3, 60.0)
    server.freeze()  # connect() waits for 30 s
    waiting = [asyncio.ensure_future(take(store, "a", three)) for _ in range(BATCH + 1)]
    await eventually(lambda: store._sender)
    await close(store)
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(each) for each in ended} == {asyncio.CancelledError}
    away = connect("redis://127.0.0.1:1", "open")
    assert await take(away, "a", three) == []
    await close(away)  # while a probe is due


@pytest.mark.gen_test
async def test_a_client_that_leaves_costs_the_others_nothing(redis_server: StartRedis) -> None:
    store, three = connect(redis_server().url), rule(3, 86_400.0)
    waiting = [asyncio.ensure_future(take(store, "a", three)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    assert (await waiting[0])[0][1].remaining == 2
    assert (await waiting[2])[0][1].remaining == 0
    await close(store)


# ---------------------------------------------------------------- settings


def problems_of(**env: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        load_settings({"UPSTREAMS": '{"a": ["http://x"]}'} | env)
    return [str(each) for each in refused.value.problems]


@pytest.mark.parametrize(
    "url",
    ["memory", "memory://x", "redis://", "http://a", "redis+sentinel://a", "redis+sentinel://a/", "redis://a b\n"],
)
def test_what_is_no_url_of_a_store_is_refused(url: str) -> None:
    (told,) = problems_of(RATE_LIMIT_STORE=url)
    assert told.startswith("RATE_LIMIT_STORE")


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({}, ""),
        ({"REDIS_URL": "redis://a"}, "redis://a"),
        ({"REDIS_URL": "redis://a", "RATE_LIMIT_STORE": "memory://"}, ""),
        ({"REDIS_URL": "redis://a", "RATE_LIMIT_STORE": "rediss://b/1"}, "rediss://b/1"),
    ],
)
def test_redis_url_is_the_default_of_the_store(env: dict[str, str], url: str) -> None:
    settings = load_settings({"UPSTREAMS": '{"a": ["http://x"]}'} | env)
    assert settings.limit_store_url == url
    assert "redis://" not in repr(settings)
