"""A flood of made-up client addresses: the memory of a gateway stays bounded, and each client keeps its limit.

FLOOD_KEYS=1000000 python -m pytest tests/test_floods.py     the long form
"""

import ipaddress
import os
import random

import pytest

from tests.support.processes import gateway_process
from tests.support.sockets import Client, get
from tornado_gateway.policy.limits.memory import MAX_KEYS
from tornado_gateway.policy.limits.rules import LIMIT_ALGORITHMS

KEYS = int(os.environ.get("FLOOD_KEYS", "4000"))
BATCH = 500  # requests that are sent at once
MIB = 1024 * 1024
BYTES_PER_KEY = 200 * MIB / MAX_KEYS
SLACK = 8 * MIB  # of the allocator, and of what the gateway imports and remembers meanwhile

on_one_loop = pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)


def spoofed(number: int) -> bytes:
    """A request of an address that no other number has: of IPv6, with the longest text."""
    address = ipaddress.IPv6Address((0x2001_0DB8_1111_0000 + number) << 64 | 0xFFFF)
    return get(b"/nothing", b"X-Forwarded-For: " + str(address).encode(), method=b"HEAD")


@on_one_loop
@pytest.mark.parametrize("algorithm", LIMIT_ALGORITHMS)
@pytest.mark.gen_test(timeout=60 + KEYS / 350)  # seconds; a machine that others use takes a third of an hour and more
async def test_a_flood_of_addresses_stays_within_its_memory(algorithm: str) -> None:
    variables = {"RATE_LIMITS": "2/h", "TRUSTED_PROXIES": "127.0.0.1", "RATE_LIMIT_ALGORITHM": algorithm}
    async with gateway_process({"svc": ["http://127.0.0.1:1"]}, **variables) as gateway:
        client = await Client.connect(gateway.port)
        statuses = [(await client.ask(spoofed(0), b"HEAD")).status for _ in range(3)]
        assert statuses == [404, 404, 429]
        before = gateway.memory
        for first in range(1, KEYS, BATCH):
            await client.send(b"".join(map(spoofed, range(first, first + BATCH))))
            while client.buffer.count(b"\r\n\r\n") < BATCH:
                await client.more()
            assert client.buffer.count(b"HTTP/1.1 404 ") == BATCH  # admitted: no client has used another's limit
            client.buffer = b""
        grown, counted = gateway.memory - before, await gateway.figure("gateway_rate_limit_keys")
        assert KEYS <= counted + await gateway.figure("gateway_rate_limit_dropped_keys_total") <= KEYS + BATCH
        assert counted <= MAX_KEYS
        told = f"{counted:,.0f} keys take {grown / MIB:.1f} MiB"
        assert grown <= min(KEYS, MAX_KEYS) * BYTES_PER_KEY + SLACK, told
        assert (await client.ask(spoofed(0), b"HEAD")).status == 429  # who was refused stays refused
        known = random.Random(1).randrange(1, KEYS)
        assert (await client.ask(spoofed(known), b"HEAD")).status == 404
        client.close()
