"""Statements between gateways over a real redis-server, which may be away, forget, or hold what no gateway has said."""

import logging
import time
from collections.abc import Callable

import pytest

from tests.support.redis import RedisServer, StartRedis
from tests.support.sockets import PATIENCE, eventually
from tornado_gateway.adapters import shared_endpoints
from tornado_gateway.adapters.redis_connection import RedisConnection
from tornado_gateway.adapters.shared_endpoints import APPLIED, CHANNEL, KEPT, KEY, PAGE, RENEWAL, SharedEndpoints
from tornado_gateway.policy.statements import DAY, DRAIN, MOST_BYTES, UNDRAIN, Flaw, Ignored, Statement, write

SECRET = b"s" * 32


class Gateway:
    """What a gateway has heard, in the order of hearing."""

    def __init__(
        self, url: str, name: str, secret: bytes = SECRET, wall: Callable[[], float] = time.time, speaks: bool = True
    ) -> None:
        self.heard: list[Statement] = []
        self.connection = RedisConnection(url)
        self.connection.timeout = PATIENCE
        self.shared = SharedEndpoints(self.connection, secret, name, wall)
        self.shared.carry_out = self._carry_out
        self.shared.speaks = lambda: speaks

    def _carry_out(self, statement: Statement) -> None:
        if statement.body == "wrong":
            raise Ignored(Flaw.MALFORMED)
        self.heard.append(statement)

    @property
    def said(self) -> dict[str, tuple[str, str]]:
        """Sender and name of what was heard last, by key."""
        return {each.key: (each.sender, each.name) for each in self.heard}

    async def hears(self, **said: tuple[str, str]) -> None:
        await eventually(lambda: self.said == said)

    async def close(self) -> None:
        await self.shared.close()
        await self.connection.close()


async def listen(server: RedisServer, count: int) -> None:
    await eventually(lambda: server.command("PUBSUB", "NUMSUB", CHANNEL).split()[-1] == str(count))


async def are_kept(server: RedisServer, count: int) -> None:
    await eventually(lambda: int(server.command("HLEN", KEY)) == count)


_BYTES = "(ARGV[2]:gsub('..', function(each) return string.char(tonumber(each, 16)) end))"


def publish(server: RedisServer, message: bytes) -> None:
    """Publish bytes, which need not be text."""
    server.command("EVAL", f"return redis.call('PUBLISH', ARGV[1], {_BYTES})", "0", CHANNEL, message.hex())


def keep(server: RedisServer, key: str, message: bytes) -> None:
    server.command("EVAL", f"return redis.call('HSET', KEYS[1], ARGV[1], {_BYTES})", "1", KEY, key, message.hex())


@pytest.mark.gen_test
async def test_what_a_gateway_tells_every_gateway_hears_and_one_that_starts_later_too(redis_server: StartRedis) -> None:
    server = redis_server()
    one, other = Gateway(server.url, "one"), Gateway(server.url, "other")
    await listen(server, 2)
    one.shared.tell("k", DRAIN, ["body"])
    await other.hears(k=("one", DRAIN))
    assert other.heard[0].body == ["body"]
    late = Gateway(server.url, "late")
    await late.shared.first_look()
    assert late.said == {"k": ("one", DRAIN)}
    await listen(server, 3)
    late.shared.tell("k", UNDRAIN)
    for each in (one, other):
        await eventually(lambda each=each: each.said.get("k") == ("late", UNDRAIN))
    assert one.heard == other.heard[1:]  # no gateway hears itself
    assert (one.shared.messages, other.shared.messages) == ({APPLIED: 1}, {APPLIED: 2})
    assert int(server.command("TTL", KEY)) > KEPT - 60
    await are_kept(server, 1)
    for each in (one, other, late):
        await each.close()


@pytest.mark.gen_test
async def test_what_is_told_while_redis_is_away_is_heard_when_it_is_back(redis_server: StartRedis) -> None:
    server = redis_server()
    one, other = Gateway(server.url, "one"), Gateway(server.url, "other")
    await listen(server, 2)
    one.shared.tell("before", DRAIN)
    await other.hears(before=("one", DRAIN))
    server.stop()
    one.shared.tell("a", DRAIN)
    other.shared.tell("b", DRAIN)
    await eventually(lambda: not (one.connection.is_up or other.connection.is_up))
    one.shared.tell("before", UNDRAIN)
    server.start()  # without its memory
    await one.hears(b=("other", DRAIN))
    await other.hears(before=("one", UNDRAIN), a=("one", DRAIN))
    late = Gateway(server.url, "late")
    await late.hears(before=("one", UNDRAIN), a=("one", DRAIN), b=("other", DRAIN))
    for each in (one, other, late):
        await each.close()


@pytest.mark.gen_test
async def test_a_redis_that_is_away_at_the_start_holds_up_nothing(redis_server: StartRedis) -> None:
    server = redis_server()
    server.stop()
    alone = Gateway(server.url, "alone")
    alone.connection.timeout = 0.05
    await alone.shared.first_look()
    assert alone.shared.tell("k", DRAIN).key == "k"
    assert [each() for each in alone.connection.meanings] == ["each gateway knows its own drains and ejections"]
    await alone.close()


@pytest.mark.gen_test
async def test_many_statements_are_read_and_sent_in_pages(redis_server: StartRedis) -> None:
    server, count = redis_server(), 2 * PAGE + 7
    one = Gateway(server.url, "one")
    for number in range(count):
        one.shared.tell(str(number), DRAIN)
    await are_kept(server, count)
    late = Gateway(server.url, "late")
    await eventually(lambda: len(late.said) == count)
    server.command("DEL", KEY)
    server.command("CLIENT", "KILL", "TYPE", "pubsub")
    await are_kept(server, count)
    for each in (one, late):
        await each.close()


@pytest.mark.gen_test
async def test_what_does_not_count_is_ignored_counted_and_told_once(
    redis_server: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    server, now = redis_server(), time.time()
    kept, forged = Statement("one", now, "kept", DRAIN), Statement("mallory", now, "forged", DRAIN)
    keep(server, "kept", write(kept, SECRET, KEY, now - 90 * DAY))
    keep(server, "moved", write(kept, SECRET, KEY, now))
    keep(server, "nonsense", b"nonsense")
    here, silent = Gateway(server.url, "here"), Gateway(server.url, "here", speaks=False)
    with caplog.at_level(logging.WARNING, "tornado_gateway"):
        await listen(server, 2)
        await here.hears(kept=("one", DRAIN))
        for message in (
            write(forged, b"t" * 32, KEY, now),
            write(forged, SECRET, "elsewhere", now),
            write(Statement("one", now, "old", DRAIN), SECRET, KEY, now - 31),
            write(Statement("one", now, "wrong", DRAIN, "wrong"), SECRET, KEY, now),
            bytes(MOST_BYTES + 1),
            write(Statement("one", now, "last", DRAIN), SECRET, KEY, now),
        ):
            publish(server, message)
        for each in (here, silent):
            await each.hears(kept=("one", DRAIN), last=("one", DRAIN))
    assert here.shared.messages == {"applied": 2, "forged": 4, "stale": 1, "malformed": 1, "oversized": 1}
    assert not +silent.shared.messages
    assert silent.shared.counts == dict.fromkeys(here.shared.messages, 0)  # what has never been counted is a 0
    (line,) = [each.getMessage() for each in caplog.records]
    assert line.startswith("ignored messages about endpoints in Redis, since the start: ")
    for each in (here, silent):
        await each.close()


@pytest.mark.gen_test
async def test_ignored_messages_are_told_again_after_a_minute(
    redis_server: StartRedis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_endpoints, "QUIET", 0.0)
    server = redis_server()
    here = Gateway(server.url, "here")
    await listen(server, 1)
    with caplog.at_level(logging.WARNING, "tornado_gateway"):
        for _ in range(2):
            publish(server, b"nonsense")
        await eventually(lambda: len(caplog.records) == 2)
    assert caplog.records[-1].getMessage().endswith(": 0 oversized, 2 forged, 0 malformed, 0 stale")
    await here.close()


@pytest.mark.gen_test
async def test_of_two_gateways_that_write_at_once_the_newer_statement_stays_in_redis(redis_server: StartRedis) -> None:
    server, now = redis_server(), time.time()
    one = Gateway(server.url, "one")
    await listen(server, 1)
    newer = one.shared.tell("k", DRAIN)
    await are_kept(server, 1)
    older = write(Statement("other", newer.at - 1, "k", UNDRAIN), SECRET, KEY, now)
    keep(server, "k", older)  # the other has written later what was said earlier
    publish(server, older)
    code = "return string.find(redis.call('HGET', KEYS[1], 'k'), ARGV[1], 1, true) or 0"
    await eventually(lambda: server.command("EVAL", code, "1", KEY, f'"{DRAIN}"') != "0")
    assert not one.heard
    late = Gateway(server.url, "late")
    await eventually(lambda: late.said.get("k") == ("one", DRAIN))
    for each in (one, late):
        await each.close()


@pytest.mark.gen_test
async def test_a_worker_knows_what_another_has_told(redis_server: StartRedis) -> None:
    server = redis_server()
    one, other = Gateway(server.url, "same"), Gateway(server.url, "same")
    await listen(server, 2)
    told = one.shared.tell("k", DRAIN)
    assert other.shared.note(told) and not other.shared.note(told)
    assert other.shared.known("k") == told and other.shared.lasting == [told]
    one.shared.tell("last", UNDRAIN)
    await other.hears(last=("same", UNDRAIN))
    assert other.shared.lasting == [told]
    for each in (one, other):
        await each.close()


@pytest.mark.gen_test
async def test_what_has_ended_leaves_redis_and_the_rest_is_kept_for_longer(redis_server: StartRedis) -> None:
    server, now = redis_server(), [time.time()]
    here = Gateway(server.url, "here", wall=lambda: now[0])
    await listen(server, 1)
    here.shared.tell("lasts", DRAIN)
    here.shared.tell("ends", UNDRAIN)
    await are_kept(server, 2)
    server.command("EXPIRE", KEY, "60")
    here.shared.sweep(0.0)
    now[0] += RENEWAL
    here.shared.sweep(0.0)
    await eventually(lambda: int(server.command("TTL", KEY)) > KEPT - 60)
    assert int(server.command("HLEN", KEY)) == 2
    now[0] += DAY
    here.shared.sweep(0.0)
    await are_kept(server, 1)
    server.stop()
    now[0] += RENEWAL
    here.shared.sweep(0.0)
    await eventually(lambda: not here.connection.is_up)
    await here.close()
