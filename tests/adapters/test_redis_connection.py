"""The connection to a real redis-server: bounded, at once away, by itself back, and with subscriptions."""

import asyncio
import importlib.util
import logging
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.redis import Certificate, RedisServer, Sentinel, StartRedis
from tests.support.sockets import PATIENCE, eventually
from tornado_gateway.adapters import redis_connection
from tornado_gateway.adapters.redis_connection import CONNECTIONS, RedisAway, RedisConnection
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import ConfigurationError

NOWHERE = "redis://127.0.0.1:1"


def connect(url: str) -> RedisConnection:
    """A connection that waits for a slow machine."""
    connection = RedisConnection(url)
    connection.timeout = PATIENCE
    return connection


async def write(connection: RedisConnection, value: str = "1") -> Any:
    return await connection.ask(lambda client: client.set("key", value))


def clients_of(server: RedisServer) -> int:
    return len(server.command("CLIENT", "LIST", "TYPE", "normal").splitlines()) - 1  # without redis-cli


class Channel:
    """What a subscription to the channel "news" has brought."""

    def __init__(self, connection: RedisConnection) -> None:
        self.begun, self.ended, self.taken = 0, 0, list[bytes]()
        connection.subscribe("news", self._begin, self.taken.append, self._end)

    async def _begin(self) -> None:
        self.begun += 1

    def _end(self) -> None:
        self.ended += 1


# ---------------------------------------------------------------- asking


@pytest.mark.gen_test
async def test_what_asks_gets_an_answer_over_few_connections(redis_server: StartRedis) -> None:
    server = redis_server()
    connection = connect(server.url)
    answers = await asyncio.gather(*[connection.ask(lambda client: client.incr("n")) for _ in range(50)])
    assert sorted(answers) == list(range(1, 51))
    assert clients_of(server) == CONNECTIONS
    assert (connection.is_up, connection.errors) == (True, 0)
    await connection.close()
    assert clients_of(server) == 0


@pytest.mark.gen_test
async def test_a_loss_and_a_return_are_told_once(redis_server: StartRedis, caplog: pytest.LogCaptureFixture) -> None:
    server = redis_server()
    connection = connect(server.url)
    connection.meanings += [lambda: "this is off", lambda: "that is off"]
    assert await write(connection)
    server.stop()
    with caplog.at_level(logging.WARNING, "tornado_gateway"):
        for _ in range(3):
            with pytest.raises(RedisAway):
                await write(connection)
        await eventually(lambda: connection.errors > 1)  # a probe has failed
        server.start()
        await eventually(lambda: connection.is_up)
        assert await write(connection)
    lost, back = [each.getMessage() for each in caplog.records]
    assert lost.startswith(f"Redis at 127.0.0.1:{server.port} failed (")
    assert lost.endswith("until Redis answers: this is off; that is off")
    assert back == f"Redis at 127.0.0.1:{server.port} answers again"
    await connection.close()


@pytest.mark.gen_test
async def test_a_redis_that_hangs_costs_one_timeout(redis_server: StartRedis) -> None:
    server = redis_server()
    connection = connect(server.url)
    assert await write(connection)
    server.freeze()
    connection.timeout = 0.05
    with pytest.raises(RedisAway) as lost:
        await write(connection)
    assert isinstance(lost.value.__cause__, TimeoutError)
    connection.timeout = PATIENCE
    with pytest.raises(RedisAway) as away:
        await write(connection)
    assert away.value.__cause__ is None  # nothing was asked
    server.thaw()
    await eventually(lambda: connection.is_up)
    assert await write(connection)
    await connection.close()


@pytest.mark.gen_test
async def test_a_redis_that_cannot_write_is_away(redis_server: StartRedis) -> None:
    server = redis_server()
    connection = connect(server.url)
    server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(RedisAway):
        await write(connection)
    before = connection.errors
    await eventually(lambda: connection.errors > before)  # a probe that fails, though Redis answers
    assert not connection.is_up
    server.command("CONFIG", "SET", "maxmemory", "0")
    await eventually(lambda: connection.is_up)
    await connection.close()


@pytest.mark.gen_test
async def test_a_connection_that_is_closed_leaves_nothing_behind(redis_server: StartRedis) -> None:
    server = redis_server()
    away, there = connect(NOWHERE), connect(server.url)
    with pytest.raises(RedisAway):
        await write(away)
    await away.close()  # while a probe is due
    channel = Channel(there)
    await eventually(lambda: channel.begun)
    await there.close()


# ---------------------------------------------------------------- subscriptions


@pytest.mark.gen_test
async def test_a_subscription_brings_messages_and_begins_anew(redis_server: StartRedis) -> None:
    server = redis_server()
    connection = connect(server.url)
    channel = Channel(connection)
    for count in (1, 2):
        await eventually(lambda count=count: channel.begun == count)
        server.command("PUBLISH", "news", f"a {count}")
        await eventually(lambda count=count: len(channel.taken) == count)
        server.stop()
        await eventually(lambda: not connection.is_up)  # without any ask()
        assert channel.ended == count
        server.start()
    assert channel.taken == [b"a 1", b"a 2"]
    await connection.close()


@pytest.mark.gen_test
async def test_a_subscription_begins_when_redis_comes(redis_server: StartRedis) -> None:
    server = redis_server()
    server.stop()
    connection = connect(server.url)
    first = Channel(connection)
    await eventually(lambda: not connection.is_up)
    second = Channel(connection)
    server.start()
    await eventually(lambda: first.begun == second.begun == 1)
    await connection.close()


@pytest.mark.gen_test
async def test_a_subscription_ends_with_the_loss_that_an_ask_has_met(redis_server: StartRedis) -> None:
    server = redis_server()
    connection = connect(server.url)
    channel = Channel(connection)
    await eventually(lambda: channel.begun)
    with pytest.raises(RedisAway):
        await connection.ask(lambda client: client.execute_command("NONSENSE"))
    await eventually(lambda: channel.begun == 2)  # after a master has moved, the old master may still be there
    await connection.close()


@pytest.mark.gen_test
async def test_a_beginning_that_meets_a_loss_is_repeated(redis_server: StartRedis) -> None:
    connection = connect(redis_server().url)
    begun = []

    async def begin() -> None:
        begun.append(1)
        if len(begun) == 1:
            await connection.ask(lambda client: client.execute_command("NONSENSE"))

    connection.subscribe("news", begin, begun.append)
    await eventually(lambda: len(begun) == 2)
    assert connection.is_up
    await connection.close()


@pytest.mark.gen_test
async def test_silence_is_pinged(redis_server: StartRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_connection, "PING_AFTER", 0.02)
    server = redis_server()
    connection = connect(server.url)
    channel = Channel(connection)
    await eventually(lambda: channel.begun)
    await eventually(lambda: "cmdstat_ping:calls=3" in server.command("INFO", "commandstats"))
    server.command("PUBLISH", "news", "a")
    await eventually(lambda: channel.taken == [b"a"])
    connection.timeout = 0.05
    server.freeze()
    await eventually(lambda: not connection.is_up)
    connection.timeout = PATIENCE
    server.thaw()
    await eventually(lambda: channel.begun == 2)
    await connection.close()


# ---------------------------------------------------------------- URLs


@pytest.mark.gen_test
async def test_sentinels_name_the_server(redis_server: StartRedis, tmp_path: Path) -> None:
    server = redis_server()
    sentinel = Sentinel(tmp_path, server)
    try:
        connection = connect(f"redis+sentinel://{sentinel.place}/main/3")
        channel = Channel(connection)
        await eventually(lambda: channel.begun)
        assert await write(connection, "there")
        assert server.command("-n", "3", "GET", "key") == "there"
        server.command("PUBLISH", "news", "a")
        await eventually(lambda: channel.taken == [b"a"])
        await connection.close()
    finally:
        sentinel.stop()


@pytest.mark.gen_test
async def test_a_redis_with_tls_is_used_if_its_certificate_is_trusted(tmp_path: Path) -> None:
    certificate = Certificate.issue(trustme.CA(), tmp_path)
    server = RedisServer(certificate=certificate)
    try:
        trusting, suspicious = connect(f"{server.url}?ssl_ca_certs={certificate.authority}"), connect(server.url)
        assert await write(trusting)
        with pytest.raises(RedisAway):
            await write(suspicious)
        assert (trusting.is_up, suspicious.is_up) == (True, False)
        await trusting.close()
        await suspicious.close()
    finally:
        server.stop()


@pytest.mark.gen_test
async def test_a_password_is_used_and_never_logged(redis_server: StartRedis, caplog: pytest.LogCaptureFixture) -> None:
    server = redis_server("--requirepass", "hunter2")
    connection = connect(server.url.replace("//", "//:hunter2@"))
    assert await write(connection)
    server.stop()
    with pytest.raises(RedisAway):
        await write(connection)
    assert "hunter2" not in caplog.text
    assert f"127.0.0.1:{server.port}" in caplog.text
    await connection.close()


@pytest.mark.parametrize("name", ["RATE_LIMIT_STORE", "REDIS_URL"])
def test_a_library_that_is_missing_is_named_with_the_setting(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert redis_connection.is_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError) as refused:
        load_settings({"UPSTREAMS": '{"a": ["http://x"]}', name: "redis://:hunter2@a"})
    (told,) = map(str, refused.value.problems)
    assert told.startswith(name)
    assert "redis" in told and "requirements-extras.txt" in told and "hunter2" not in told
