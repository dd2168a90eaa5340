"""Rate limits go on when another Redis takes over: by a Sentinel, and in a cluster over TLS.

The counters that the replica has are not lost. While there is no master, RATE_LIMIT_ON_ERROR decides.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import trustme

from tests.conftest import Running, Serve
from tests.support.journeys import Start
from tests.support.redis import Certificate, ClusterNode, RedisServer, Sentinel
from tests.support.sockets import PATIENCE, echo, eventually, get
from tornado_gateway.adapters import redis_connection

on_one_loop = pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)

LIMIT = 5
Until = Callable[[RedisServer], None]


@pytest.fixture
def until_the_end() -> Iterator[Until]:
    """Stop a server after the test."""
    with ExitStack() as stack:

        def stop(server: RedisServer) -> None:
            stack.callback(server.stop)

        yield stop


async def statuses(running: Running, count: int) -> list[int]:
    client = await running.client()
    return [(await client.ask(get(b"/api/svc/x"))).status for _ in range(count)]


def is_up(running: Running) -> bool:
    limits = running.app.gateway.limits
    assert limits and limits.shared
    return limits.shared.is_up


async def limited(serve: Serve, upstream: Start, url: str) -> Running:
    """A gateway that waits for a slow Redis."""
    running = await serve({"svc": [upstream(echo).url]}, RATE_LIMITS=f"{LIMIT}/d", REDIS_URL=url)
    for each in running.app.gateway.redis.values():
        each.timeout = PATIENCE
    return running


def replication(server: RedisServer) -> dict[str, str]:
    told = server.command("INFO", "replication")
    return dict(line.split(":", 1) for line in told.splitlines() if ":" in line)


def is_copied(master: RedisServer, replica: RedisServer) -> bool:
    """Whether a replica has everything that the master has."""
    ours, theirs = replication(master), replication(replica)
    return theirs.get("master_link_status") == "up" and theirs["slave_repl_offset"] == ours["master_repl_offset"]


async def keeps_its_limit(
    running: Running, master: RedisServer, replica: RedisServer, has_taken_over: Callable[[], bool]
) -> None:
    """Three requests before the master dies, and the rest of the limit when the replica has taken over."""
    assert await statuses(running, 3) == [200] * 3
    await eventually(lambda: is_copied(master, replica))
    master.stop()
    assert await statuses(running, LIMIT + 1) == [200] * LIMIT + [429]  # the gateway counts for itself meanwhile
    assert not is_up(running)
    await eventually(has_taken_over)
    await eventually(lambda: is_up(running))
    assert await statuses(running, 3) == [200, 200, 429]


@on_one_loop
@pytest.mark.gen_test
async def test_a_limit_goes_on_at_the_server_that_a_sentinel_names(
    serve: Serve, upstream: Start, tmp_path: Path, until_the_end: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_connection, "LONGEST_PAUSE", redis_connection.SHORTEST_PAUSE)
    master = RedisServer("--repl-diskless-sync-delay", "0")
    until_the_end(master)
    replica = RedisServer("--replicaof", "127.0.0.1", str(master.port))
    until_the_end(replica)
    await eventually(lambda: is_copied(master, replica))
    sentinel = Sentinel(tmp_path, master)
    until_the_end(sentinel)
    await eventually(lambda: str(replica.port) in sentinel.command("SENTINEL", "REPLICAS", "main").split())
    running = await limited(serve, upstream, f"redis+sentinel://{sentinel.place}/main")
    # By an order: the Sentinel would look at the dead server for some seconds before.
    ordered = partial(sentinel.command, "SENTINEL", "FAILOVER", "main")
    await keeps_its_limit(running, master, replica, lambda: ordered() == "OK")
    assert sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main").split() == ["127.0.0.1", str(replica.port)]


@on_one_loop
@pytest.mark.gen_test
async def test_a_limit_goes_on_at_the_replica_that_takes_over_in_a_cluster(
    serve: Serve, upstream: Start, tmp_path: Path, until_the_end: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_connection, "LONGEST_PAUSE", redis_connection.SHORTEST_PAUSE)
    certificate = Certificate.issue(trustme.CA(), tmp_path)
    nodes = [ClusterNode(tmp_path, f"nodes-{index}", certificate) for index in range(2)]
    for each in nodes:
        until_the_end(each)
    master, replica = nodes
    assert master.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == "OK"
    assert master.command("CONFIG", "SET", "repl-diskless-sync-delay", "0") == "OK"
    master.meet(replica)
    for each in nodes:
        await eventually(partial(each.is_well, 2))
    assert replica.command("CLUSTER", "REPLICATE", master.id) == "OK"
    await eventually(lambda: is_copied(master, replica))
    places = ",".join(each.place for each in nodes)
    running = await limited(serve, upstream, f"rediss+cluster://{places}?ssl_ca_certs={certificate.authority}")
    # By an order: of two nodes, none is elected.
    ordered = partial(replica.command, "CLUSTER", "FAILOVER", "TAKEOVER")
    await keeps_its_limit(running, master, replica, lambda: ordered() == "OK")
