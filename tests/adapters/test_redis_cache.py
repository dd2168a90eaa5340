"""Stored responses on a real redis-server: shared by gateways, purged at all gateways, and never an error."""

import asyncio
import json
import logging
import re
from typing import Any

import pytest

from tests.conftest import Running, Serve
from tests.support.caching import FRESH, ON, PATH, Each, Origin, ask, cache_of, kept, status_of
from tests.support.endpoints import Gate
from tests.support.journeys import Start
from tests.support.redis import RedisServer, StartRedis
from tests.support.sockets import Message, Peer, Upstream, eventually, get, reply
from tornado_gateway.adapters import redis_cache
from tornado_gateway.adapters.redis_cache import CHANNEL, ENTRY, GENERATION, LOG, MOST_PENDING, RedisCache
from tornado_gateway.policy.http.caching.entries import MOST, name_of, resource_name
from tornado_gateway.policy.http.caching.purge import REMEMBERED, of_prefix

# What is tested here is above the loops; the library has tests on both loops in test_redis_connection.py.
pytestmark = pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)

SECRET = "s" * 32
LOCAL = b"127.0.0.1"


def shared_of(running: Running) -> RedisCache:
    shared = cache_of(running).shared
    assert shared is not None
    return shared


async def gateway(serve: Serve, server: RedisServer, up: Upstream, **variables: str) -> Running:
    """A gateway that waits for a slow machine, and is ready."""
    env = {**ON, "CACHE_STORE": server.url, "CACHE_STORE_SECRET": SECRET} | variables
    running = await serve({"svc": [up.url]}, **env)
    shared_of(running).connection.timeout = 30.0
    await ready(running)
    return running


async def ready(*running: Running) -> None:
    for each in running:
        shared = shared_of(each)
        await eventually(lambda shared=shared: shared.is_ready and not shared._writer)  # type: ignore[misc]


async def two(serve: Serve, server: RedisServer, up: Upstream, **variables: str) -> tuple[Running, Running]:
    return await gateway(serve, server, up, **variables), await gateway(serve, server, up, **variables)


async def stored(running: Running, count: int = 1) -> None:
    """Until Redis has so many responses of a gateway."""
    await eventually(lambda: shared_of(running).written >= count)


async def purge(running: Running, **order: object) -> dict[str, Any]:
    client = await running.client()
    body = json.dumps(order).encode()
    answer = await client.ask(get(b"/admin/api/cache/purge", method=b"POST", body=body, host=LOCAL), b"POST")
    assert answer.status == 200
    said: dict[str, Any] = json.loads(answer.body)
    return said


# ---------------------------------------------------------------- responses are shared


@pytest.mark.gen_test
async def test_a_response_that_one_gateway_stored_answers_at_another(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    up = upstream(Origin(FRESH, b'ETag: "1"', b"X-Field: \xe9"))
    one, other = await two(serve, redis_server(), up)
    first = await ask(one)
    await stored(one)
    answer = await ask(other)
    assert (answer.status, answer.body, answer.get(b"x-field")) == (200, b"answer 1", b"\xe9")
    assert status_of(answer).endswith(b"; detail=shared")
    assert (answer.get(b"date"), answer.get(b"etag")) == (first.get(b"date"), b'"1"')
    assert status_of(await ask(other)).startswith(b"hit; ttl=")
    assert (await ask(other, b'If-None-Match: "1"')).status == 304
    assert len(up.requests) == 1
    assert (shared_of(one).missed, shared_of(other).found) == (1, 1)


@pytest.mark.gen_test
async def test_a_hit_in_memory_asks_redis_nothing(serve: Serve, upstream: Start, redis_server: StartRedis) -> None:
    server = redis_server()
    running = await gateway(serve, server, upstream(Origin(FRESH)))
    await ask(running)
    await stored(running)
    before = server.command("INFO", "commandstats")
    for _ in range(3):
        assert (await ask(running)).body == b"answer 1"

    def calls(stats: str) -> list[str]:
        return [line for line in stats.splitlines() if line.startswith(("cmdstat_get", "cmdstat_set"))]

    assert calls(server.command("INFO", "commandstats")) == calls(before)


@pytest.mark.gen_test
async def test_variants_are_shared_apart(serve: Serve, upstream: Start, redis_server: StartRedis) -> None:
    up = upstream(Origin(FRESH, b"Vary: Accept"))
    one, other = await two(serve, redis_server(), up)
    for accepted in (b"Accept: a/a", b"Accept: b/b"):
        await ask(one, accepted)
    await stored(one, 2)
    assert (await ask(other, b"Accept: b/b")).body == b"answer 2"
    assert (await ask(other, b"Accept: a/a")).body == b"answer 1"
    assert (await ask(other)).body == b"answer 3"


@pytest.mark.gen_test
async def test_principals_and_hosts_are_apart_as_in_memory(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    up = upstream(Origin(FRESH))
    one, other = await two(serve, redis_server(), up)
    await ask(one, host=b"a")
    await stored(one)
    assert (await ask(other, host=b"b")).body == b"answer 2"
    assert (await ask(other, b"Cookie: a=b", host=b"a")).body == b"answer 3"
    assert (await ask(other, host=b"a")).body == b"answer 1"


@pytest.mark.gen_test
async def test_a_response_that_is_validated_is_shared_anew(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    def answer(request: Message, number: int) -> bytes:
        if request.get(b"if-none-match"):
            return b"HTTP/1.1 304 Not Modified\r\n" + FRESH + b"\r\n\r\n"
        return reply(fields=(b"Cache-Control: max-age=0", b'ETag: "1"'), body=b"answer %d" % number)

    up = upstream(Each(answer))
    one, other = await two(serve, redis_server(), up)
    await ask(one)
    await stored(one)
    assert status_of(await ask(other)) == b"fwd=stale; fwd-status=304; stored"  # of the response that one has stored
    await stored(other)
    answered = await ask(one)  # whose own response is stale
    assert (answered.body, status_of(answered).endswith(b"; detail=shared")) == (b"answer 1", True)
    assert len(up.requests) == 2


@pytest.mark.gen_test
async def test_a_refresh_in_the_background_is_shared_and_made_once(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    first = b"Cache-Control: max-age=0, stale-while-revalidate=60"

    def answer(request: Message, number: int) -> bytes:
        return reply(fields=(first if number == 1 else FRESH, b'ETag: "1"'), body=b"answer %d" % number)

    up = upstream(Each(answer))
    one, other = await two(serve, redis_server(), up)
    await ask(one)
    await stored(one)
    assert (await ask(other)).body == b"answer 1"  # and refreshes
    await stored(other)
    assert (await ask(one)).body == b"answer 1"  # and finds the refreshed
    await eventually(lambda: not cache_of(one).refreshing)
    assert (await ask(one)).body == b"answer 2"
    assert len(up.requests) == 2


@pytest.mark.gen_test
async def test_many_that_ask_for_the_same_look_once(serve: Serve, upstream: Start, redis_server: StartRedis) -> None:
    up = upstream(Origin(FRESH))
    one, other = await two(serve, redis_server(), up)
    await ask(one)
    await stored(one)
    answers = await asyncio.gather(*[ask(other) for _ in range(20)])
    assert {each.body for each in answers} == {b"answer 1"}
    assert shared_of(other).found == 1


@pytest.mark.gen_test
async def test_a_client_that_wants_the_cache_alone_gets_what_redis_has(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    up = upstream(Origin(FRESH))
    one, other = await two(serve, redis_server(), up)
    assert (await ask(other, b"Cache-Control: only-if-cached")).status == 504
    await ask(one)
    await stored(one)
    assert (await ask(other, b"Cache-Control: only-if-cached")).body == b"answer 1"


@pytest.mark.gen_test
async def test_a_large_response_is_shared_and_a_larger_one_is_not(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    sizes = {b"/x/a": 300_000, b"/x/b": MOST}

    def answer(request: Message, number: int) -> bytes:
        return reply(fields=(FRESH,), body=b"%d" % number * sizes[request.target])

    server, up = redis_server(), upstream(Each(answer))
    one, other = await two(serve, server, up, CACHE_MAX_BODY_BYTES="2000000")
    for path in (b"/b", b"/a"):
        await ask(one, path=PATH + path)
    await stored(one)
    assert len((await ask(other, path=PATH + b"/a")).body) == 300_000
    assert len(up.requests) == 2
    assert (await ask(other, path=PATH + b"/b")).body[:1] == b"3"
    (key,) = [each for each in server.command("KEYS", f"{ENTRY}*").split() if each]
    assert int(server.command("STRLEN", key)) < 3000


# ---------------------------------------------------------------- purges and invalidations


@pytest.mark.parametrize(
    "order",
    [{"service": "svc", "url": "/x"}, {"service": "svc", "prefix": "/x"}, {"tags": ["t"]}],
    ids=["url", "prefix", "tag"],
)
@pytest.mark.gen_test
async def test_a_purge_at_one_gateway_purges_at_another_and_in_redis(
    serve: Serve, upstream: Start, redis_server: StartRedis, order: dict[str, Any]
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH, b"Cache-Tag: t"))
    one, other = await two(serve, server, up)
    await ask(one)
    await stored(one)
    await ask(other)
    assert (kept(one), kept(other)) == (1, 1)
    said = await purge(one, **order)
    assert (said["responses"], said["shared"]) == (1, True)
    await eventually(lambda: not kept(other))
    late = await gateway(serve, server, up)
    assert (await ask(late)).body == b"answer 2"
    await stored(late)
    for each in (one, other):
        assert (await ask(each)).body == b"answer 2"


@pytest.mark.gen_test
async def test_a_purge_leaves_what_it_does_not_name_in_redis(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    one, other = await two(serve, redis_server(), upstream(Origin(FRESH, b"xkey: t")))
    await ask(one)
    await stored(one)
    await purge(one, tags=["u"])
    await purge(one, service="svc", prefix="/y")
    await eventually(lambda: shared_of(other)._log.number == 2)
    assert (await ask(other)).body == b"answer 1"


@pytest.mark.gen_test
async def test_a_soft_purge_makes_stale_at_another_and_in_redis(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH + b", stale-while-revalidate=60"))
    one, other = await two(serve, server, up)
    await ask(one)
    await stored(one)
    await ask(other)
    await purge(one, service="svc", prefix="/", soft=True)
    late = await gateway(serve, server, up)
    answer = await ask(late)
    assert answer.body == b"answer 1"
    assert re.fullmatch(rb"hit; ttl=-\d+; detail=shared", status_of(answer))
    await eventually(lambda: len(up.requests) == 2 and not cache_of(late).refreshing)
    await eventually(lambda: shared_of(other)._log.number == 1 and not shared_of(other)._tasks)
    assert re.fullmatch(rb"hit; ttl=(0|-\d+)", status_of(await ask(other)))


@pytest.mark.parametrize("change", ["purge", "put"])
@pytest.mark.gen_test
async def test_an_answer_from_before_a_change_at_another_gateway_is_not_used_after_the_change(
    serve: Serve, upstream: Start, redis_server: StartRedis, change: str
) -> None:
    gate = Gate(reply(fields=(FRESH,), body=b"old"))

    async def script(peer: Peer) -> None:
        if len(up.peers) == 1:
            await gate(peer)
        else:
            await Origin(FRESH)(peer)

    server, up = redis_server(), upstream(script)
    one, other = await two(serve, server, up)
    client = await one.client()
    await client.send(get(PATH))
    await eventually(lambda: gate.waiting)
    if change == "put":
        await ask(other, method=b"PUT")
        await ready(other)
    else:
        await purge(other, service="svc", prefix="/")
    await gate.open()
    assert (await client.response()).body == b"old"
    late = await gateway(serve, server, up)
    assert (await ask(late)).body != b"old"


@pytest.mark.gen_test
async def test_an_unsafe_request_at_one_gateway_invalidates_at_another_and_in_redis(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH))
    one, other = await two(serve, server, up)
    await ask(one)
    await stored(one)
    await ask(other)
    await ask(other, method=b"DELETE")
    await eventually(lambda: not kept(one))
    late = await gateway(serve, server, up)
    assert (await ask(late)).body == b"answer 3"
    assert server.command("EXISTS", f"{GENERATION}{resource_name(b'svc /x')}") == "1"


@pytest.mark.gen_test
async def test_without_a_secret_purges_are_shared_and_responses_are_not(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH))
    one, other = await two(serve, server, up, CACHE_STORE_SECRET="")
    assert ((await ask(one)).body, (await ask(other)).body) == (b"answer 1", b"answer 2")
    assert server.command("KEYS", f"{ENTRY}*") == ""
    assert (await purge(one, service="svc", url="/x"))["shared"]
    await eventually(lambda: not kept(other))


@pytest.mark.gen_test
async def test_gateways_with_other_secrets_share_no_response(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH))
    one = await gateway(serve, server, up)
    other = await gateway(serve, server, up, CACHE_STORE_SECRET="t" * 32)
    await ask(one)
    await stored(one)
    assert (await ask(other)).body == b"answer 2"


# ---------------------------------------------------------------- Redis away, slow, full, lying


@pytest.mark.gen_test
async def test_a_redis_that_is_killed_means_misses_and_is_used_again_when_back(
    serve: Serve, upstream: Start, redis_server: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH))
    one, other = await two(serve, server, up)
    await ask(one)
    await stored(one)
    with caplog.at_level(logging.WARNING):
        server.stop()
        assert [(await ask(other, path=PATH + b"/%d" % number)).status for number in range(3)] == [200] * 3
        assert (await ask(one)).body == b"answer 1"  # of its memory
        said = await purge(one, service="svc", url="/x")
        assert (said["responses"], said["shared"]) == (1, False)
        assert (await ask(one)).body == b"answer 5"
        server.start()
        await ready(one, other)
    assert "each process has stored responses of its own" in caplog.text
    await ask(one, path=PATH + b"/back")
    await stored(one, 2)
    assert status_of(await ask(other, path=PATH + b"/back")).endswith(b"detail=shared")


@pytest.mark.gen_test
async def test_what_changed_while_redis_was_away_is_told_when_redis_is_back(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH, b"Cache-Tag: t"))
    one, other = await two(serve, server, up)
    for path in (b"", b"/put", b"/tag"):
        await ask(one, path=PATH + path)
        await ask(other, path=PATH + path)
    await stored(one, 3)
    shared_of(one)._errors = -1  # one has lost Redis, which the others have not
    await ask(one, path=PATH + b"/put", method=b"PUT")
    assert not (await purge(one, tags=["t"]))["shared"]
    assert kept(one) == 0
    assert kept(other) == 3
    await shared_of(one)._synchronize()
    await eventually(lambda: not kept(other))
    late = await gateway(serve, server, up)
    assert (await ask(late, path=PATH + b"/put")).body == b"answer 5"


@pytest.mark.gen_test
async def test_a_gateway_that_has_missed_purges_carries_them_out_when_it_hears_again(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH, b"Cache-Tag: t"))
    one, other = await two(serve, server, up)
    await ask(other)
    listener = next(iter(shared_of(other).connection._listeners))
    listener.cancel()
    await eventually(listener.done)
    await purge(one, tags=["t"])
    assert kept(other) == 1
    await shared_of(other)._synchronize()
    await eventually(lambda: not kept(other))
    await ask(other)
    for _ in range(REMEMBERED + 1):  # more than Redis remembers: everything may be purged
        await shared_of(one).purge(of_prefix(b"other", b"/", is_soft=False))
    await shared_of(other)._synchronize()
    await eventually(lambda: not kept(other))
    assert server.command("LLEN", LOG) == str(REMEMBERED)


@pytest.mark.gen_test
async def test_a_lost_message_is_noticed_by_the_next(serve: Serve, upstream: Start, redis_server: StartRedis) -> None:
    server, up = redis_server(), upstream(Origin(FRESH, b"Cache-Tag: t"))
    one, other = await two(serve, server, up)
    await ask(other)
    server.command("INCR", redis_cache.NUMBER)
    server.command("LPUSH", LOG, '1 elsewhere [false, "", "", " t "]')
    await purge(one, tags=["u"])
    await eventually(lambda: not kept(other))
    await ready(one, other)


@pytest.mark.gen_test
async def test_a_redis_that_has_lost_its_memory_is_used_anew(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH, b"Cache-Tag: t"))
    one, other = await two(serve, server, up)
    for _ in range(3):
        await purge(one, tags=["u"])
    await eventually(lambda: shared_of(other)._log.number == 3)
    server.stop()
    await eventually(lambda: not (shared_of(one).is_ready or shared_of(other).is_ready))
    server.start()
    await ready(one, other)
    assert shared_of(one)._log.number == 0
    await ask(one)
    await stored(one)
    assert (await ask(other)).body == b"answer 1"
    await purge(other, tags=["t"])
    await eventually(lambda: not kept(one))


@pytest.mark.gen_test
async def test_a_redis_that_stands_still_costs_one_wait(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH))
    running = await gateway(serve, server, up)
    shared_of(running).connection.timeout = 0.25
    server.freeze()
    try:
        answers = await asyncio.gather(*[ask(running, path=PATH + b"/%d" % number) for number in range(20)])
        assert {each.status for each in answers} == {200}
        assert not shared_of(running).is_ready
        errors = shared_of(running).connection.errors
        assert (await ask(running, path=PATH + b"/more")).status == 200
        assert errors >= 1
    finally:
        server.thaw()
    await ready(running)


@pytest.mark.gen_test
async def test_a_full_redis_means_misses(serve: Serve, upstream: Start, redis_server: StartRedis) -> None:
    server, up = redis_server("--maxmemory", "1mb", "--maxmemory-policy", "noeviction"), upstream(Origin(FRESH))
    running = await serve({"svc": [up.url]}, **ON, CACHE_STORE=server.url, CACHE_STORE_SECRET=SECRET)
    for number in range(3):
        assert (await ask(running, path=PATH + b"/%d" % number)).status == 200
    assert kept(running) == 3


@pytest.mark.parametrize(
    "words",
    [("SET", "{}", "garbage"), ("SET", "{}", ""), ("LPUSH", "{}", "a"), ("SETRANGE", "{}", "2000000", "x")],
    ids=["garbage", "empty", "list", "huge"],
)
@pytest.mark.gen_test
async def test_what_is_no_entry_is_a_miss_and_is_written_anew(
    serve: Serve, upstream: Start, redis_server: StartRedis, words: tuple[str, ...]
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH))
    one, other = await two(serve, server, up)
    await ask(one)
    await stored(one)
    (key,) = server.command("KEYS", f"{ENTRY}*").split()
    server.command("DEL", key)
    server.command(*[each.format(key) for each in words])
    assert (await ask(other)).body == b"answer 2"
    await stored(other)
    late = await gateway(serve, server, up)
    assert (await ask(late)).body == b"answer 2"
    assert shared_of(other).connection.errors == 0


@pytest.mark.gen_test
async def test_a_generation_of_another_type_is_no_generation(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH))
    one, other = await two(serve, server, up)
    await ask(one)
    await stored(one)
    server.command("LPUSH", f"{GENERATION}{resource_name(b'svc /x')}", "a")
    assert (await ask(other)).body == b"answer 2"
    assert shared_of(other).is_ready


@pytest.mark.gen_test
async def test_an_entry_in_the_place_of_another_is_a_miss(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH))
    one, other = await two(serve, server, up)
    await ask(one)
    await stored(one)
    (key,) = server.command("KEYS", f"{ENTRY}*").split()
    await ask(one, path=PATH + b"/b")
    await stored(one, 2)
    (moved,) = set(server.command("KEYS", f"{ENTRY}*").split()) - {key}
    server.command("RENAME", key, moved)
    assert (await ask(other, path=PATH + b"/b")).body == b"answer 3"


@pytest.mark.gen_test
async def test_messages_that_no_gateway_has_written_change_nothing(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server = redis_server()
    running = await gateway(serve, server, upstream(Origin(FRESH)))
    await ask(running)
    for message in ("", "x", "purge", "purge 1", "purge 1 a b", "purge x a []", "invalid", "invalid a", "purge 0 a []"):
        server.command("PUBLISH", CHANNEL, message)
    server.command("PUBLISH", CHANNEL, 'purge 1 a [false, "svc /y", ""]')
    await eventually(lambda: shared_of(running)._log.number == 1)
    assert kept(running) == 1
    assert shared_of(running).connection.errors == 0


# ---------------------------------------------------------------- bounds


@pytest.mark.gen_test
async def test_changes_are_remembered_within_a_bound_while_redis_is_away(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    running = await gateway(serve, redis_server(), upstream(Origin(FRESH)))
    shared = shared_of(running)
    shared._errors = -1
    for number in range(MOST_PENDING):
        shared.invalidate(b"svc /%d" % number)
    assert len(shared._pending) == MOST_PENDING
    shared.invalidate(b"svc /more")
    assert (len(shared._pending), shared._purges) == (0, [redis_cache.EVERYTHING])
    for _ in range(REMEMBERED + 1):
        assert not await shared.purge(of_prefix(b"svc", b"/", is_soft=False))
    assert len(shared._purges) <= REMEMBERED
    await shared._synchronize()
    assert shared._purges == []


@pytest.mark.gen_test
async def test_look_ups_and_writes_beyond_the_bound_are_left_out(
    serve: Serve, upstream: Start, redis_server: StartRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = redis_server()
    running = await gateway(serve, server, upstream(Origin(FRESH)))
    monkeypatch.setattr(redis_cache, "MOST_WAITING", 0)
    assert (await ask(running)).status == 200
    assert shared_of(running).missed == 0
    monkeypatch.setattr(redis_cache, "MOST_WAITING", 9)
    monkeypatch.setattr(redis_cache, "MOST_WRITES", 0)
    assert (await ask(running, path=PATH + b"/b")).status == 200
    assert (shared_of(running).missed, server.command("KEYS", f"{ENTRY}*")) == (1, "")


@pytest.mark.gen_test
async def test_entries_leave_redis_when_nobody_has_use_for_them(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server = redis_server()
    running = await gateway(serve, server, upstream(Origin(FRESH)))
    await ask(running)
    await stored(running)
    key = next(iter(cache_of(running).store._new.kept))  # type: ignore[attr-defined]
    assert 0 < int(server.command("PTTL", f"{ENTRY}{name_of(key)}")) <= 60_000


@pytest.mark.gen_test
async def test_the_page_tells_of_redis(serve: Serve, upstream: Start, redis_server: StartRedis) -> None:
    running = await gateway(serve, redis_server(), upstream(Origin(FRESH)))
    await ask(running)
    await stored(running)
    said = json.loads((await ask(running, path=b"/admin/api/cache", host=LOCAL)).body)
    assert said["shared"] == {"up": True, "found": 0, "missed": 1, "written": 1, "errors": 0}
