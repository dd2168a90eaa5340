"""An issuer whose answers have no end, or grow when inflated: a gateway, a process, keeps its keys and its memory."""

import asyncio
import contextlib
import functools
import gzip
import json
import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.journeys import Start
from tests.support.sockets import Client, Ended, Peer, echo, get, reply
from tests.test_main import Process, processes
from tornado_gateway.upkeep.key_set import MAX_DOCUMENT

__all__ = ["processes"]  # a fixture

MIB = 2**20
SIZE = 1024 * MIB  # of an answer
SENT = 32 * MIB  # most that an issuer gets rid of: what sockets of both sides hold
GROWTH = 16 * MIB  # of the peak of the gateway's memory

# A gateway that looks again for each unknown key, and has half a second for that.
IMPATIENT = """import sys
from tornado_gateway.upkeep import key_set
from tornado_gateway.__main__ import main
key_set.UNKNOWN_AFTER, key_set.TIMEOUT = 0.0, 0.5
sys.exit(main([]))"""

KEY = ec.generate_private_key(ec.SECP256R1())


def document(*kids: str, padding: int = 0) -> bytes:
    """A key set; white space makes it larger."""
    member = jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    return b" " * padding + json.dumps({"keys": [{**member, "kid": kid} for kid in kids]}).encode()


def bearer(kid: str) -> bytes:
    token = jwt.encode({"sub": "ada", "aud": "gateway"}, KEY, "ES256", headers={"kid": kid})
    return b"Authorization: Bearer " + token.encode()


class Issuer:
    """Answers the first request with a key set, and later requests with what a test wants.

    Attributes:
        answer: sends a response.
        sent: bytes of bodies that have left.
        asked: requests.
    """

    def __init__(self, answer: "Callable[[Issuer, Peer], Awaitable[None]]") -> None:
        self.answer = answer
        self.sent = self.asked = 0

    async def __call__(self, peer: Peer) -> None:
        await peer.request()
        self.asked += 1
        if self.asked == 1:
            await peer.send(reply(body=document("one")))
        else:
            with contextlib.suppress(ConnectionError):
                await self.answer(self, peer)
        with contextlib.suppress(Ended):
            await peer.ended()

    async def pour(self, peer: Peer, piece: bytes, size: int) -> None:
        for _ in range(0, size, len(piece)):
            await peer.send(piece)
            self.sent += len(piece)


async def announced(issuer: Issuer, peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    await issuer.pour(peer, b" " * MIB, SIZE)


async def in_chunks(issuer: Issuer, peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await issuer.pour(peer, b"%x\r\n%b\r\n" % (MIB, b" " * MIB), SIZE)


async def until_close(issuer: Issuer, peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    await issuer.pour(peer, b" " * MIB, SIZE)


async def drop_by_drop(issuer: Issuer, peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MAX_DOCUMENT)
    while True:
        await issuer.pour(peer, b" ", 1)
        await asyncio.sleep(0.01)


@functools.cache
def bomb() -> bytes:
    """A key set that has both keys, small as it comes, and of 128 MiB once it is inflated."""
    body = gzip.compress(document("one", "two", padding=128 * MIB))
    assert len(body) < MAX_DOCUMENT
    return reply(b"200 OK", (b"Content-Encoding: gzip",), body)


async def inflating(_: Issuer, peer: Peer) -> None:
    await peer.send(bomb())


LARGER = f"the document is larger than {MAX_DOCUMENT} bytes"
ANSWERS = {
    "1 GiB, announced": (announced, LARGER),
    "1 GiB in chunks": (in_chunks, LARGER),
    "1 GiB until the close": (until_close, LARGER),
    "byte by byte": (drop_by_drop, "no answer in time"),
    "gzip of 128 MiB": (inflating, "the document is no JSON"),
}


def peak(process: Process) -> int:
    """The most memory that a process has had, in bytes."""
    (size,) = re.findall(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process.popen.pid}/status").read_text())
    return int(size) * 1024


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.gen_test(timeout=30)
async def test_an_answer_that_is_too_large_costs_neither_memory_nor_keys(
    upstream: Start, processes: list[Process], answer: str
) -> None:
    sends, reason = ANSWERS[answer]
    bomb()  # made before the half second of a look begins
    issuer = Issuer(sends)
    url = f"{upstream(issuer).url}/keys"
    process = Process(
        by=("-c", IMPATIENT), UPSTREAMS=json.dumps({"svc": [upstream(echo).url]}), ACCESS_LOG="false",
        AUTH_REQUIRED="true", JWKS_URL=url, JWT_AUDIENCE="gateway",
    )  # fmt: skip
    processes.append(process)
    client = await Client.connect(process.port)

    async def status(kid: str) -> int:
        return (await client.ask(get(b"/api/svc/x", bearer(kid)))).status

    assert await status("one") == 200
    before = peak(process)
    assert [await status("two") for _ in range(3)] == [401] * 3
    assert issuer.asked == 4
    assert await status("one") == 200
    assert peak(process) - before < GROWTH
    assert issuer.sent < 3 * SENT
    client.close()
    code, _, told = await asyncio.to_thread(process.end, signal.SIGTERM)
    assert code == 0
    assert told.count(f"the keys of {url} were not fetched: {reason}; the old keys stay") == 3, told
