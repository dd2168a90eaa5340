"""A request that waits for the shared store: what becomes of clients that leave, and of the gateway's end."""

import pytest

from tests.adapters.test_redis_cache import gateway, shared_of
from tests.conftest import Serve
from tests.support.caching import FRESH, PATH, Each, Origin, ask
from tests.support.journeys import Start
from tests.support.redis import StartRedis
from tests.support.sockets import eventually, get, reply

pytestmark = pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_redis_is_asked_sends_nothing_to_the_service(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH))
    running = await gateway(serve, server, up)
    server.freeze()
    try:
        client = await running.client()
        await client.send(get(PATH))
        await eventually(lambda: shared_of(running)._look_ups)
        client.close()
        await eventually(lambda: running.app.busy == 0)
    finally:
        server.thaw()
    await eventually(lambda: not shared_of(running)._look_ups)
    assert up.requests == []
    assert (await ask(running)).body == b"answer 1"


@pytest.mark.gen_test
async def test_a_gateway_that_ends_while_redis_is_asked_ends(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, up = redis_server(), upstream(Origin(FRESH))
    running = await gateway(serve, server, up)
    server.freeze()
    try:
        client = await running.client()
        await client.send(get(PATH))
        await eventually(lambda: shared_of(running)._look_ups)
        await running.app.close()
    finally:
        server.thaw()
    assert up.requests == []


@pytest.mark.gen_test
async def test_a_service_that_is_away_is_told_after_the_look(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    def answer(request: object, number: int) -> bytes:
        return reply(b"200 OK", (b"Content-Type: text/event-stream", FRESH), b"data: 1\n\n")

    up = upstream(Each(answer))
    running = await gateway(serve, redis_server(), up)
    assert (await ask(running)).body.endswith(b"data: 1\n\n")  # an event stream passes behind the look, too
    await up.close()
    assert (await ask(running, path=PATH + b"/b")).status == 502
