"""Made-up queries fill the cache of a gateway in a process of its own: what the process takes, as the system counts it.

FLOOD_ENTRIES=20000 python -m pytest -s tests/test_cache_floods.py     the long form
"""

import asyncio
import os

import pytest

from tests.support.caching import Each
from tests.support.journeys import Start
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.sockets import Client, Message, get, reply

ENTRIES = int(os.environ.get("FLOOD_ENTRIES", "400"))
CLIENTS = 8
KIB, MIB = 1024, 1024 * 1024
MOST_OF_AN_ENTRY = 2.5 * KIB  # with a body of 1 KiB
SLACK = 4 * MIB  # of the allocator, and of what the gateway remembers meanwhile
FIELDS = (
    b"Cache-Control: max-age=3600", b"Content-Type: application/json", b'ETag: "0123456789abcdef"',
    b"Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT",
)  # fmt: skip
# A busy machine is no reason to refuse requests here.
ON = {"CACHE_ENABLED": "true", "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "0"}

pytestmark = pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)


def answer(_: Message, number: int) -> bytes:
    return reply(fields=FIELDS, body=b"%1024d" % number)


async def flood(gateway: GatewayProcess, first: int, count: int, *, twice: bool = False) -> None:
    """Ask for so many targets that nobody has asked for, on several connections.

    Args:
        twice: whether each target is asked for again at once, so that its response has the larger part of the memory.
    """

    async def ask(of: int) -> None:
        client = await Client.connect(gateway.port)
        for number in range(first + of, first + count, CLIENTS):
            said = await client.ask(get(b"/api/svc/items?made-up=%d" % number))
            assert (said.get(b"cache-status") or b"").endswith(b"fwd=uri-miss; stored")
            if twice:
                assert (await client.ask(get(b"/api/svc/items?made-up=%d" % number))).body == said.body
        client.close()

    await asyncio.gather(*(ask(each) for each in range(CLIENTS)))


@pytest.mark.gen_test(timeout=60 + ENTRIES / 100)
async def test_a_stored_kibibyte_takes_two_and_a_half(upstream: Start) -> None:
    room = 5 * 2 * ENTRIES * int(MOST_OF_AN_ENTRY)  # a fifth is for responses that nobody has asked for again
    async with gateway_process({"svc": [upstream(Each(answer)).url]}, **ON, CACHE_MAX_BYTES=str(room)) as gateway:
        await flood(gateway, 0, ENTRIES // 2)
        before = gateway.memory
        await flood(gateway, ENTRIES // 2, ENTRIES)
        grown = gateway.memory - before
        assert await gateway.figure("gateway_cache_responses") == ENTRIES // 2 + ENTRIES
        print(f"\n{ENTRIES:,} responses of 1 KiB take {grown / ENTRIES / KIB:.2f} KiB each", end="")  # noqa: T201
        assert grown <= ENTRIES * MOST_OF_AN_ENTRY + (SLACK if ENTRIES < 20_000 else 0)


@pytest.mark.gen_test(timeout=60 + ENTRIES / 50)
async def test_a_flood_of_made_up_queries_takes_no_more_than_the_bound(upstream: Start) -> None:
    bound = ENTRIES * KIB // 2
    variables = {**ON, "CACHE_MAX_BYTES": str(bound), "CACHE_MAX_BODY_BYTES": "2000"}
    async with gateway_process({"svc": [upstream(Each(answer)).url]}, **variables) as gateway:
        await flood(gateway, 0, 100)
        before = gateway.memory
        await flood(gateway, 100, ENTRIES * 2, twice=True)
        grown, counted = gateway.memory - before, await gateway.figure("gateway_cache_bytes")
        print(f"\n{ENTRIES * 2:,} responses take {grown / MIB:.1f} MiB of {bound / MIB:.1f} MiB", end="")  # noqa: T201
        assert 0 < counted <= bound
        assert grown <= bound + SLACK
