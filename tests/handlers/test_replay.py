"""A replayed response: a slow client is waited for, and a client that leaves ends the replay."""

import pytest

from tests.conftest import Running, Serve
from tests.support.caching import FRESH, ON, PATH, Each, ask, frozen
from tests.support.journeys import Start
from tests.support.sockets import eventually, get, reply
from tornado_gateway.handlers.replay import PIECE

LARGE = 8 * 1024 * 1024
ROOM = {"CACHE_MAX_BODY_BYTES": str(LARGE), "CACHE_MAX_BYTES": str(10 * LARGE), **ON}


async def large(serve: Serve, upstream: Start) -> tuple[Running, bytes]:
    """A gateway that has a large response in memory."""
    body = bytes(range(256)) * (LARGE // 256)
    running = await frozen(serve, {"svc": [upstream(Each(lambda *_: reply(fields=(FRESH,), body=body))).url]}, **ROOM)
    assert (await ask(running)).body == body
    return running, body


@pytest.mark.gen_test
async def test_a_slow_client_is_given_pieces_as_the_client_reads(serve: Serve, upstream: Start) -> None:
    running, body = await large(serve, upstream)
    client = await running.client(receive_buffer=64 * 1024)
    await client.send(get(PATH))
    await client.until(b"\r\n\r\n")
    waiting = max(each.transport.get_write_buffer_size() for each in running.app.server.connections)
    assert waiting <= 4 * PIECE
    assert await client.exactly(len(body)) == body


@pytest.mark.gen_test
async def test_a_client_that_leaves_ends_the_replay(serve: Serve, upstream: Start) -> None:
    running, _ = await large(serve, upstream)
    client = await running.client(receive_buffer=64 * 1024)
    await client.send(get(PATH))
    await client.until(b"\r\n\r\n")
    client.reset()
    await eventually(lambda: not running.inflight)
    assert (await ask(running, method=b"HEAD")).status == 200
