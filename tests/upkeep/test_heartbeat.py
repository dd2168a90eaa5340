"""The sweeps: often enough for the shortest timeout, over both sides, from start to stop."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from tornado.ioloop import IOLoop

from tests.support.serving import Delegate, Serving, nothing
from tests.support.sockets import Ended, Upstream, eventually, get
from tornado_gateway.upkeep.heartbeat import FASTEST, SLOWEST, Heartbeat
from tornado_gateway.wire.client.client import ClientConfig, PooledHTTPClient
from tornado_gateway.wire.client.pool import PoolConfig

SOON = 0.05  # seconds


class Beating:
    """A server, a client, and the heartbeat over both."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.client = PooledHTTPClient(force_instance=True, config=ClientConfig(pool=PoolConfig(idle_timeout=SOON)))
        self.heartbeat = Heartbeat(SOON, serving.server.sweep, self.client.sweep)


@pytest.fixture
def beating(io_loop: IOLoop) -> Iterator[Beating]:
    run = io_loop.asyncio_loop.run_until_complete

    async def start() -> Beating:
        return Beating(await Serving.start(Delegate(nothing), header_timeout=SOON, keepalive_timeout=SOON))

    each = run(start())
    yield each
    each.heartbeat.stop()
    each.client.close()
    run(each.serving.close())


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("shortest", "interval"),
    [(0.001, FASTEST), (0.2, 0.02), (1.0, 0.1), (5.0, 0.5), (95.0, SLOWEST)],
)
async def test_sweeps_follow_the_shortest_timeout_within_bounds(
    beating: Beating, shortest: float, interval: float
) -> None:
    assert Heartbeat(shortest).interval == pytest.approx(interval)


@pytest.mark.gen_test
async def test_nothing_is_swept_before_the_start(beating: Beating) -> None:
    client = await beating.serving.client()
    with pytest.raises(TimeoutError):
        await client.more(patience=3 * SOON)


@pytest.mark.gen_test
async def test_clients_that_are_too_slow_are_ended(beating: Beating) -> None:
    beating.heartbeat.start()
    silent, partial = await beating.serving.client(), await beating.serving.client()
    await partial.send(b"GET / HT")
    with pytest.raises(Ended):
        await silent.more()
    assert (await partial.response()).status == 408


@pytest.mark.gen_test
async def test_kept_connections_to_upstreams_are_ended(beating: Beating, upstream: Callable[..., Upstream]) -> None:
    beating.heartbeat.start()
    up = upstream()
    response = await beating.client.fetch(up.url)
    assert (response.code, up.open) == (200, 1)
    await eventually(lambda: up.open == 0)


@pytest.mark.gen_test
async def test_nothing_is_swept_after_the_stop(beating: Beating) -> None:
    beating.heartbeat.start()
    beating.heartbeat.stop()
    client = await beating.serving.client()
    with pytest.raises(TimeoutError):
        await client.more(patience=3 * SOON)
    beating.heartbeat.sweep()
    with pytest.raises(Ended):
        await client.more()


@pytest.mark.gen_test
async def test_a_sweep_leaves_alone_whoever_has_time(beating: Beating) -> None:
    client = await beating.serving.client()
    await client.send(get(b"/"))
    await eventually(lambda: beating.serving.server.delegate.requests)
    await asyncio.sleep(2 * SOON)  # longer than any timeout of the client's
    beating.heartbeat.sweep()
    (request,) = beating.serving.server.delegate.requests
    request.answer()
    assert (await client.response()).status == 200


@pytest.mark.gen_test
async def test_what_is_spread_over_time_is_looked_at_as_often_as_can_be() -> None:
    beats: list[float] = []
    heartbeat = Heartbeat(3600.0, beats.append)
    heartbeat.start()
    heartbeat.hasten()
    await eventually(lambda: len(beats) >= 3)
    heartbeat.stop()
    assert heartbeat.interval == FASTEST
