"""Revocations between gateways over a real redis-server, which may be away, forget, or hold nonsense."""

import asyncio
import json
import logging
import time
from collections.abc import Callable

import pytest

from tests.support.redis import RedisServer, StartRedis
from tests.support.sockets import PATIENCE, eventually
from tornado_gateway.adapters.redis_connection import RedisConnection
from tornado_gateway.adapters.revocation_store import CHANNEL, KEPT_AFTER_END, KEY, PAGE, RevocationStore
from tornado_gateway.policy.revocations import By, Revocation, Revocations

DAY = 86_400.0


class Store:
    """What a gateway knows, and how often the knowledge has changed."""

    def __init__(self, url: str = "", wall: Callable[[], float] = time.time) -> None:
        self.known, self.changes = Revocations(), 0
        self.connection = RedisConnection(url) if url else None
        if self.connection:
            self.connection.timeout = PATIENCE
        self.store = RevocationStore(self.known, self._change, self.connection, wall)

    def _change(self) -> None:
        self.changes += 1

    async def revoke(self, value: str, by: By = By.SUBJECT, life: float = DAY) -> bool:
        return await self.store.add(self.known.revoke(by, value, time.time(), life))

    async def lift(self, value: str) -> bool:
        (known,) = (each for each in self.known.current(time.time()) if each.value == value)
        return await self.store.add(self.known.lift(known, time.time()))

    def knows(self, *values: str) -> bool:
        return {each.value for each in self.known.current(time.time())} == set(values)

    async def is_connected(self, server: RedisServer, gateways: int = 1) -> None:
        await eventually(lambda: server.command("PUBSUB", "NUMSUB", CHANNEL).split()[-1] == str(gateways))

    async def close(self) -> None:
        if self.connection:
            await self.connection.close()


def members(server: RedisServer) -> list[list[object]]:
    found = server.command("ZRANGE", KEY, "0", "-1").splitlines()
    return [json.loads(each) for each in found]


@pytest.mark.gen_test
async def test_without_redis_a_revocation_counts_here() -> None:
    alone = Store()
    assert await alone.revoke("id|ada") is False
    assert (alone.knows("id|ada"), alone.changes) == (True, 1)


@pytest.mark.gen_test
async def test_what_a_gateway_revokes_and_lifts_every_gateway_knows(redis_server: StartRedis) -> None:
    server = redis_server()
    one, other = Store(server.url), Store(server.url)
    await one.is_connected(server, 2)
    assert await one.revoke("id|ada")
    assert await other.revoke("7", By.JTI)
    for each in (one, other):
        await eventually(lambda each=each: each.knows("id|ada", "7"))
    late = Store(server.url)
    await eventually(lambda: late.knows("id|ada", "7"))
    assert await late.lift("id|ada")
    for each in (one, other, late):
        await eventually(lambda each=each: each.knows("7"))
        await each.close()
    assert sorted(each[1] for each in members(server)) == ["7", "id|ada"]  # what was lifted is replaced
    assert int(server.command("TTL", KEY)) > DAY


@pytest.mark.gen_test
async def test_while_redis_is_away_revocations_count_and_are_sent_later(redis_server: StartRedis) -> None:
    server = redis_server()
    one, other = Store(server.url), Store(server.url)
    await one.is_connected(server, 2)
    assert await one.revoke("before")
    await eventually(lambda: other.knows("before"))
    server.stop()
    assert await one.revoke("a") is False
    assert await other.revoke("b") is False
    assert await one.lift("before") is False
    assert one.knows("a") and other.knows("before", "b")
    server.start()  # without its memory
    for each in (one, other):
        await eventually(lambda each=each: each.knows("a", "b"))
    late = Store(server.url)
    await eventually(lambda: late.knows("a", "b"))
    for each in (one, other, late):
        await each.close()


@pytest.mark.gen_test
async def test_the_others_are_heard_from_the_end_of_the_reading_until_redis_is_away(redis_server: StartRedis) -> None:
    server = redis_server()
    one = Store(server.url)
    assert await one.revoke("id|ada")
    late = Store(server.url)
    assert not late.known.is_heard
    await late.store.first_look()
    assert late.known.is_heard and late.knows("id|ada")
    server.stop()
    await eventually(lambda: not late.known.is_heard)
    await late.store.first_look()  # holds up nothing
    server.start()
    await eventually(lambda: late.known.is_heard)
    for each in (one, late):
        await each.close()


@pytest.mark.gen_test
async def test_a_redis_that_is_away_holds_up_no_first_look(redis_server: StartRedis) -> None:
    server = redis_server()
    server.stop()
    here, alone = Store(server.url), Store()
    for each in (here, alone):
        await each.store.first_look()
        await each.close()
    assert (here.known.is_heard, alone.known.is_heard) == (False, True)


@pytest.mark.gen_test
async def test_many_revocations_are_read_and_sent_in_pages(redis_server: StartRedis) -> None:
    server = redis_server()
    one, count = Store(), 2 * PAGE + 7
    for number in range(count):
        await one.revoke(str(number), By.JTI)
    here = Store(server.url)
    await here.is_connected(server)
    for each in one.known:
        here.known.take(each)
    server.command("CLIENT", "KILL", "TYPE", "pubsub")  # the next subscription sends what Redis lacks
    await eventually(lambda: int(server.command("ZCARD", KEY)) == count)
    late = Store(server.url)
    await eventually(lambda: late.known.count == count)
    for each in (here, late):
        await each.close()


@pytest.mark.gen_test
async def test_what_has_ended_is_forgotten_here_and_in_redis(redis_server: StartRedis) -> None:
    server, now = redis_server(), time.time()
    here = Store(server.url)
    await here.is_connected(server)
    assert await here.revoke("soon", life=0.001)
    await eventually(lambda: not here.store.sweep(0.0) and here.known.count == 0)
    for value, until in (("long ago", now - KEPT_AFTER_END - 9), ("just now", now - 9)):
        server.command("ZADD", KEY, str(until), json.dumps(["jti", value, now - DAY, until, False]))
    late = Store(server.url)
    assert await late.revoke("id|ada")
    await late.is_connected(server, 2)
    await eventually(lambda: late.knows("id|ada"))
    assert late.known.count == 1
    assert "long ago" not in {each[1] for each in members(server)}
    assert "just now" in {each[1] for each in members(server)}  # the clock of another gateway may be behind
    for each in (here, late):
        await each.close()


@pytest.mark.parametrize(
    "nonsense",
    [
        "", "nonsense", "7", "{}", "[]", '"text"', "null", "[[]]", '["jti", "a", 1, 2]', '["jti", "", 1, 9e9, false]',
        '["jti", 7, 1, 9e9, false]', '["other", "a", 1, 9e9, false]', '["jti", "a", 1, "Infinity", false]',
        '["jti", "a", NaN, 9e9, false]', '["jti", "a", null, 9e9, false]', "[" * 5000,
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_nonsense_in_redis_is_told_and_left_out(
    redis_server: StartRedis, caplog: pytest.LogCaptureFixture, nonsense: str
) -> None:
    server = redis_server()
    server.command("ZADD", KEY, "9e9", nonsense)
    here = Store(server.url)
    with caplog.at_level(logging.WARNING, "tornado_gateway"):
        await here.is_connected(server)
        await eventually(lambda: len(caplog.records) == 1)
        server.command("PUBLISH", CHANNEL, nonsense)
        await eventually(lambda: len(caplog.records) == 2)
    assert {each.getMessage().partition(":")[0] for each in caplog.records} == {"a revocation in Redis cannot be read"}
    statement = Revocation(By.JTI, "b", time.time(), time.time() + DAY)
    assert await here.store.add(statement)
    assert [*here.known] == [statement]
    await asyncio.sleep(0)
    await here.close()
