"""A real Redis Cluster: the node with the keys of gateways is found, also when the slot moves to another node."""

import asyncio
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.redis import Certificate, ClusterNode
from tests.support.sockets import PATIENCE, eventually
from tornado_gateway.adapters import redis_connection
from tornado_gateway.adapters.redis_cluster import TAG, NodeNotFound, find_node
from tornado_gateway.adapters.redis_connection import RedisAway, RedisConnection
from tornado_gateway.adapters.redis_limits import RedisStore
from tornado_gateway.adapters.redis_tickets import RedisTickets
from tornado_gateway.adapters.revocation_store import RevocationStore
from tornado_gateway.config.parsers import Invalid, redis_url
from tornado_gateway.policy.limits.fallback import LOCAL
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.quota import parse_quotas
from tornado_gateway.policy.limits.rules import LimitConfig
from tornado_gateway.policy.revocations import By, Revocation, Revocations

KEY = f"{TAG}:key"


Form = Callable[..., Any]


@pytest.fixture
def form(tmp_path: Path) -> Iterator[Form]:
    """Start a cluster of some nodes. The first has all slots."""
    started: list[ClusterNode] = []

    async def start(number: int, certificate: Certificate | None = None) -> list[ClusterNode]:
        started.extend(ClusterNode(tmp_path, f"nodes-{index}", certificate) for index in range(number))
        assert started[0].command("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == "OK"
        for each in started[1:]:
            started[0].meet(each)
        for each in started:
            await eventually(partial(each.is_well, number))
        return started

    yield start
    for each in started:
        each.stop()


def connect(*nodes: ClusterNode) -> RedisConnection:
    connection = RedisConnection(f"redis+cluster://{','.join(each.place for each in nodes)}")
    connection.timeout = PATIENCE
    return connection


async def write(connection: RedisConnection) -> Any:
    return await connection.ask(lambda client: client.set(KEY, "1"))


def move(source: ClusterNode, target: ClusterNode) -> None:
    """Move the slot of TAG, with its keys lost."""
    source.command("FLUSHALL")
    slot = source.command("CLUSTER", "KEYSLOT", TAG)
    for each in (target, source):
        assert each.command("CLUSTER", "SETSLOT", slot, "NODE", target.id) == "OK"


@pytest.mark.gen_test
async def test_everything_that_gateways_share_stands_in_one_slot(form: Form) -> None:
    (node,) = await form(1)
    connection, known = connect(node), Revocations()
    store = RedisStore(connection, LOCAL, MemoryStore(random.Random(1)))
    tickets, revocations = RedisTickets(connection), RevocationStore(known, lambda: None, connection)
    await eventually(lambda: node.command("PUBSUB", "NUMSUB", "gateway:revocations").endswith("1"))
    rules = LimitConfig(quotas=parse_quotas("2/m,9/h")).rules
    asked = [Asked(each, key) for each, key in zip(rules, ("192.0.2.1", "another"), strict=True)]
    waits = []
    for _ in range(3):
        verdicts = store.take(asked, 0.0)
        assert not isinstance(verdicts, list)
        waits.append(max(judgement.wait for _, judgement in await verdicts))
    assert [wait > 0 for wait in waits] == [False, False, True]
    await tickets.put("digest", b"ticket", 30.0, 0.0)
    assert [await tickets.take("digest", 0.0) for _ in range(2)] == [b"ticket", None]
    assert await revocations.add(Revocation(By.JTI, "7", 4e9, 5e9))
    keys = node.command("KEYS", "*").splitlines()
    assert len(keys) == 3 and all(each.startswith(TAG) for each in keys)
    assert (connection.is_up, connection.errors) == (True, 0)
    await store.close()
    await connection.close()


@pytest.mark.gen_test
async def test_a_slot_that_moves_is_found_again(form: Form) -> None:
    first, second = await form(2)
    connection, heard = connect(second), list[bytes]()  # a node that has not the slot

    async def begin() -> None:
        heard.append(b"begun")

    connection.subscribe("news", begin, heard.append)
    await eventually(lambda: heard)
    assert await write(connection) and first.command("EXISTS", KEY) == "1"
    move(first, second)
    with pytest.raises(RedisAway):
        await write(connection)
    await eventually(lambda: connection.is_up)
    assert await write(connection) and second.command("EXISTS", KEY) == "1"
    await eventually(lambda: heard == [b"begun", b"begun"])
    second.command("PUBLISH", "news", "a")
    await eventually(lambda: heard[2:] == [b"a"])
    await connection.close()


@pytest.mark.gen_test
async def test_one_known_node_that_answers_is_enough(form: Form) -> None:
    (node,) = await form(1)
    connection = RedisConnection(f"redis+cluster://127.0.0.1:1,{node.place}")
    connection.timeout = PATIENCE
    assert await asyncio.gather(*[write(connection) for _ in range(3)]) == [True] * 3
    await connection.close()


@pytest.mark.gen_test
async def test_a_cluster_without_the_slot_is_away(form: Form) -> None:
    (node,) = await form(1)
    slot = node.command("CLUSTER", "KEYSLOT", TAG)
    node.command("CLUSTER", "DELSLOTS", slot)
    with pytest.raises(NodeNotFound):
        await find_node(f"redis+cluster://{node.place}", lambda url: redis_connection._connect(url)[0])
    connection = connect(node)
    with pytest.raises(RedisAway):
        await write(connection)
    node.command("CLUSTER", "ADDSLOTS", slot)
    await eventually(lambda: connection.is_up)
    assert await write(connection)
    await connection.close()


@pytest.mark.gen_test
async def test_a_cluster_over_tls_is_used_by_whoever_trusts_its_certificates_alone(form: Form, tmp_path: Path) -> None:
    certificate = Certificate.issue(trustme.CA(), tmp_path)
    first, second = await form(2, certificate)
    url = f"rediss+cluster://{second.place},{first.place}"  # the first node that is asked has not the slot
    trusting, suspicious = RedisConnection(f"{url}?ssl_ca_certs={certificate.authority}"), RedisConnection(url)
    trusting.timeout = suspicious.timeout = PATIENCE
    assert await write(trusting) and first.command("EXISTS", KEY) == "1"
    move(first, second)
    with pytest.raises(RedisAway):
        await write(trusting)
    await eventually(lambda: trusting.is_up)
    assert await write(trusting) and second.command("EXISTS", KEY) == "1"
    with pytest.raises(RedisAway):
        await write(suspicious)
    for each in (trusting, suspicious):
        await each.close()


def test_a_cluster_has_one_database() -> None:
    for path in ("", "/", "/0"):
        url = f"redis+cluster://a:7000,b:7000{path}"
        assert redis_url.parse(url) == url
    with pytest.raises(Invalid, match="database"):
        redis_url.parse("rediss+cluster://a:7000/1")
