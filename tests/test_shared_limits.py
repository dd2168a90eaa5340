"""A rate limit of two gateway processes on a real redis-server: while Redis is up, away, and back without memory.

SHARED_LIMITS_SECONDS=20 python -m pytest tests/test_shared_limits.py     the long form
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import chain

import pytest

from tests.support.journeys import Start
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.redis import RedisServer, StartRedis
from tests.support.sockets import PATIENCE, Client, echo, get
from tornado_gateway.policy.limits.algorithms import SECOND, Gcra

SECONDS = float(os.environ.get("SHARED_LIMITS_SECONDS", "0"))  # of the load of the long form; 0 for the short form
PACE = 2000  # requests per second of all clients together, if the machine can
CLIENTS = 8  # of each gateway
LIMIT = 160

on_one_loop = pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)


async def ask_both(gateways: Sequence[GatewayProcess], count: int) -> list[Counter[int]]:
    """The statuses of requests at PACE, by gateway: each gets a half, over kept connections."""
    share = count // len(gateways) // CLIENTS
    pause = len(gateways) * CLIENTS / PACE
    async with AsyncExitStack() as stack:
        clients = [[await Client.connect(each.port) for _ in range(CLIENTS)] for each in gateways]
        for each in chain.from_iterable(clients):
            stack.callback(each.close)
        return list(await asyncio.gather(*[_ask(of_one, share, pause) for of_one in clients]))


async def _ask(clients: Sequence[Client], count: int, pause: float) -> Counter[int]:
    statuses = await asyncio.gather(*[_paced(each, count, pause) for each in clients])
    return Counter(chain.from_iterable(statuses))


async def _paced(client: Client, count: int, pause: float) -> list[int]:
    statuses, due = [], time.monotonic()
    for _ in range(count):
        statuses.append((await client.ask(get(b"/api/svc/x"))).status)
        due += pause
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    return statuses


async def until_shared(gateways: Sequence[GatewayProcess]) -> None:
    """Until all gateways count in Redis."""
    async with asyncio.timeout(PATIENCE):
        while not all([await each.figure("gateway_rate_limit_store_up") for each in gateways]):
            await asyncio.sleep(0.05)


async def failures(gateways: Sequence[GatewayProcess]) -> list[float]:
    return [await each.figure("gateway_rate_limit_store_errors_total") for each in gateways]


async def ask_while_up(gateways: Sequence[GatewayProcess], redis: RedisServer, count: int) -> Counter[int]:
    """The statuses of requests while Redis was up all the time, from an empty memory on.

    A machine that stands still for longer than a gateway waits for Redis is a Redis that is away: the requests are then
    repeated.
    """
    while True:
        await until_shared(gateways)
        redis.command("FLUSHALL")
        before = await failures(gateways)
        found = await ask_both(gateways, count)
        if await failures(gateways) == before:
            return sum(found, Counter())


def admitted_by_an_exact_log(instants: Sequence[int], rate: int, burst: int) -> int:
    """How many requests at these instants a limit of `rate` per second admits, by exact arithmetic in one process."""
    algorithm, count = Gcra(rate, SECOND, burst), 0
    state = algorithm.fresh
    for now in instants:
        judgement = algorithm.judge(state, now)
        if not judgement.wait:
            state, count = judgement.state, count + 1
    return count


@on_one_loop
@pytest.mark.parametrize("on_error", ["local", "open", "closed"])
@pytest.mark.gen_test
async def test_processes_share_a_limit_while_redis_is_up_and_do_as_told_while_it_is_away(
    upstream: Start, redis_server: StartRedis, on_error: str
) -> None:
    redis, service, count = redis_server(), upstream(echo).url, 4 * LIMIT
    variables = {"RATE_LIMITS": f"{LIMIT}/d", "REDIS_URL": redis.url, "RATE_LIMIT_ON_ERROR": on_error}
    async with AsyncExitStack() as stack:
        starting = [stack.enter_async_context(gateway_process({"svc": [service]}, **variables)) for _ in range(2)]
        gateways = await asyncio.gather(*starting)
        up = await ask_while_up(gateways, redis, count)
        assert up == {200: LIMIT, 429: count - LIMIT}
        redis.stop()
        away = await ask_both(gateways, count)
        for each in away:
            if on_error == "local":  # requests that were repeated have used a part of the limit
                assert 0 < each[200] <= LIMIT
                assert set(each) == {200, 429}
            else:
                assert set(each) == ({200} if on_error == "open" else {503})
        redis.start()  # without memory
        back = await ask_while_up(gateways, redis, count)
        assert back == {200: LIMIT, 429: count - LIMIT}


@on_one_loop
@pytest.mark.gen_test(timeout=60 + 60 * SECONDS)  # a machine that others use brings PACE late, perhaps by minutes
async def test_a_rate_of_two_processes_is_kept(upstream: Start, redis_server: StartRedis) -> None:
    """Judged by the clock of Redis, at the instants at which Redis was asked, so that the speed of the machine does not
    count. A request that Redis has admitted, and that a gateway waited for too long, is a 503."""
    redis, service = redis_server(), upstream(echo).url
    rate, burst = 1000, 100
    variables = {"RATE_LIMITS": f"{rate}/s;burst={burst}", "REDIS_URL": redis.url, "RATE_LIMIT_ON_ERROR": "closed"}
    async with AsyncExitStack() as stack:
        starting = [stack.enter_async_context(gateway_process({"svc": [service]}, **variables)) for _ in range(2)]
        gateways = await asyncio.gather(*starting)
        await until_shared(gateways)
        with redis.watched() as instants:
            total = sum(await ask_both(gateways, int(PACE * (SECONDS or 0.5))), Counter[int]())
    exact = admitted_by_an_exact_log(instants, rate, burst)
    told = f"{total} of {len(instants):,} asked; an exact log admits {exact:,}"
    assert total[200] <= 1.01 * exact, told
    assert total[200] + total[503] >= 0.99 * exact, told
    assert 0 < exact <= burst + rate * (instants[-1] - instants[0]) / SECOND + 1
