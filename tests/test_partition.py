"""Three gateways on one Redis that nothing reaches for a while, or that is killed and comes back without memory.

Requests go on, and afterwards all three agree again.

PARTITION=30 python -m pytest tests/test_partition.py -s     the long form
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.support.cut_line import CutLine
from tests.support.journeys import Start, problem
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.redis import StartRedis
from tests.support.sockets import PATIENCE, Client, Message, echo, get
from tests.support.tickets import AUTH, bearer, request, stream

SECONDS = float(os.environ.get("PARTITION", "0"))  # of the partition; it lasts until all gateways know, at least
SHARED = {"RATE_LIMITS": "1000000/d", "CACHE_ENABLED": "true", "SHARED_ENDPOINTS_SECRET": "s" * 32}
ENDPOINTS = ["http://127.0.0.1:1", "http://127.0.0.1:2"]  # of a service that nobody asks


class Load:
    """Requests to every gateway, one after the other on a kept connection.

    Attributes:
        statuses: of the answers.
        slowest: seconds of the slowest answer.
    """

    def __init__(self) -> None:
        self.statuses, self.slowest = Counter[int](), 0.0
        self._is_over = False

    @asynccontextmanager
    async def on(self, gateways: Sequence[GatewayProcess]) -> AsyncIterator["Load"]:
        running = asyncio.gather(*[self._ask(each.port) for each in gateways])
        try:
            yield self
        finally:
            self._is_over = True
            await running

    async def _ask(self, port: int) -> None:
        client = await Client.connect(port)
        while not self._is_over:
            began = time.monotonic()
            self.statuses[(await client.ask(get(b"/api/svc/x", bearer()))).status] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            await asyncio.sleep(0.002)
        client.close()


async def ask(gateway: GatewayProcess, wanted: bytes) -> Message:
    """The answer to a request on a connection of its own."""
    client = await Client.connect(gateway.port)
    try:
        return await client.ask(wanted)
    finally:
        client.close()


async def all_are(gateways: Sequence[GatewayProcess], up: float) -> None:
    """Wait until Redis is up, or away, for all gateways."""
    async with asyncio.timeout(PATIENCE):
        while [await each.figure("gateway_rate_limit_store_up") for each in gateways] != [up] * len(gateways):
            await asyncio.sleep(0.05)


async def revoke(gateway: GatewayProcess, jti: str) -> bool:
    """Revoke a token; return whether Redis has taken the revocation."""
    body = json.dumps({"jti": jti}).encode()
    answer = await ask(gateway, get(b"/admin/api/revocations", bearer(), method=b"POST", body=body))
    assert answer.status == 201, answer
    is_shared: bool = json.loads(answer.body)["shared"]
    return is_shared


async def accepted(gateways: Sequence[GatewayProcess], jti: str) -> list[bool]:
    """Whether each gateway accepts a token."""
    answers = [await ask(each, get(b"/api/svc/x", bearer(jti=jti))) for each in gateways]
    assert {each.status for each in answers} <= {200, 401}
    return [each.status == 200 for each in answers]


async def all_refuse(gateways: Sequence[GatewayProcess], jti: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while any(await accepted(gateways, jti)):
            await asyncio.sleep(0.05)


async def drain(gateway: GatewayProcess, endpoint: str) -> None:
    body = json.dumps({"service": "idle", "endpoint": endpoint}).encode()
    answer = await ask(gateway, get(b"/admin/api/drain", bearer(), method=b"POST", body=body))
    assert answer.status == 200, answer


async def weights(gateways: Sequence[GatewayProcess]) -> list[list[int]]:
    """The weights of ENDPOINTS in each gateway."""
    answers = [await ask(each, get(b"/admin/api/services", bearer())) for each in gateways]
    services = [{one["service"]: one["endpoints"] for one in json.loads(each.body)["services"]} for each in answers]
    return [[one["weight"] for one in each["idle"]] for each in services]


async def all_have(gateways: Sequence[GatewayProcess], wanted: list[int]) -> None:
    async with asyncio.timeout(PATIENCE):
        while await weights(gateways) != [wanted] * len(gateways):
            await asyncio.sleep(0.05)


async def crosses(gateways: Sequence[GatewayProcess]) -> None:
    """A ticket of the first gateway opens a stream at the last one.

    A machine that stands still for longer than a gateway waits for Redis is a Redis that is away: then another ticket
    is made.
    """
    async with asyncio.timeout(PATIENCE):
        while not await _crosses(*gateways):
            await asyncio.sleep(0.05)


async def _crosses(first: GatewayProcess, *others: GatewayProcess) -> bool:
    given = await ask(first, request(bearer()))
    if given.status == 200:
        given = await ask(others[-1], stream(json.loads(given.body)["ticket"].encode()))
    assert given.status in (200, 503), given
    return given.status == 200


@pytest.mark.parametrize("is_killed", [False, True], ids=["cut off", "killed"])
@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test(timeout=60 + SECONDS)
async def test_three_gateways_serve_alone_without_redis_and_agree_afterwards(
    upstream: Start, redis_server: StartRedis, is_killed: bool
) -> None:
    """A Redis that was killed comes back without memory."""
    redis = redis_server()
    services = {"svc": [upstream(echo).url], "idle": ENDPOINTS}
    async with CutLine.to(redis.port) as line, contextlib.AsyncExitStack() as stack:
        variables = AUTH | SHARED | {"REDIS_URL": f"redis://127.0.0.1:{line.port}"}
        starting = [gateway_process(services, **variables) for _ in range(3)]
        gateways = await asyncio.gather(*map(stack.enter_async_context, starting))
        load = await stack.enter_async_context(Load().on(gateways))
        await all_are(gateways, 1.0)
        await crosses(gateways)
        assert await revoke(gateways[0], "before")
        await all_refuse(gateways, "before")
        await drain(gateways[0], ENDPOINTS[0])
        await all_have(gateways, [0, 1])

        began = time.monotonic()
        redis.stop() if is_killed else line.cut()
        await all_are(gateways, 0.0)
        assert not await revoke(gateways[0], "meanwhile")
        await drain(gateways[1], ENDPOINTS[1])
        for each in gateways:
            problem(await ask(each, request(bearer())), 503, "overloaded")
        await asyncio.sleep(SECONDS - (time.monotonic() - began))
        assert await accepted(gateways, "before") == [False] * 3
        assert await accepted(gateways, "meanwhile") == [False, True, True]
        assert await weights(gateways) == [[0, 1], [0, 0], [0, 1]]
        seconds, during = time.monotonic() - began, load.statuses.total()

        redis.start() if is_killed else line.mend()
        await all_are(gateways, 1.0)
        await all_refuse(gateways, "meanwhile")
        await all_have(gateways, [0, 0])
        assert await accepted(gateways, "before") == [False] * 3
        await crosses(gateways)
    sys.stdout.write(
        f"{seconds:.1f} s without Redis: {dict(load.statuses)} of 3 gateways, {during} until the end of the partition, "
        f"the slowest after {load.slowest * 1000:.0f} ms\n"
    )
    assert set(load.statuses) == {200}, load.statuses
