"""Streams are moved to an endpoint that has come back, on real sockets: WebSockets, and event streams of clients that
reconnect.

How many streams are moved, and how fast, is tested in tests/policy/upstream/test_rebalancing.py.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.conftest import Running, Serve
from tests.support.event_streams import STREAM_HEAD, chunk
from tests.support.journeys import Start, capture
from tests.support.sockets import Peer, eventually
from tests.support.websockets import CLOSE, Side, accepting
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.upkeep.rebalancer import CHECK_INTERVAL

EVENT = b"data: hello\n\n"
COUNT = 24
PACE = 6  # streams per second
EVEN = (13, 11)  # one above its share is less than is worth a move
ENDLESS = {"DRAIN_SPREAD_MS": "80000000", "SHUTDOWN_TIMEOUT_MS": "86400000"}  # of a stop
A_WHILE = 3 * CHECK_INTERVAL  # seconds in which streams would be moved if any were to be


async def both_kinds(peer: Peer) -> None:
    """A script: an echo, or an event and then nothing, until the stream ends."""
    request = await peer.request()
    if not request.get(b"upgrade"):
        await peer.send(STREAM_HEAD + chunk(EVENT))
        await peer.ended()
        return
    await peer.send(accepting(request))
    side, is_open = Side(peer, masks=False), True
    while is_open:
        frame = await side.frame()
        is_open = frame.opcode != CLOSE
        await side.send(frame)
    peer.close()


class Clients:
    """COUNT clients, which reconnect when their stream ends; every other client has a WebSocket.

    Attributes:
        websockets: code and reason of each end.
        event_streams: all that each stream has said.
        ends: of each client.
    """

    def __init__(self, running: Running) -> None:
        self._running = running
        self.websockets: list[tuple[int | None, str | None]] = []
        self.event_streams: list[bytes] = []
        self.ends = [0] * COUNT

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Clients"]:
        """Keep the streams of all clients open during the with block."""
        tasks = []
        async with httpx.AsyncClient(timeout=None, trust_env=False) as client:  # streams are silent
            try:
                for number in range(COUNT):
                    tasks.append(
                        asyncio.ensure_future(self._listen(client, number) if number % 2 else self._watch(number))
                    )
                    await eventually(lambda: len(self._running.app.gateway.streams.open) == len(tasks))
                yield self
                assert not any(task.done() for task in tasks), tasks
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, number: int) -> None:
        while True:
            async with connect(f"ws://127.0.0.1:{self._running.port}/ws/svc?path=/", proxy=None) as websocket:
                await websocket.send("hello")
                assert await websocket.recv() == "hello"
                await websocket.wait_closed()
            self.websockets.append((websocket.close_code, websocket.close_reason))
            self.ends[number] += 1

    async def _listen(self, client: httpx.AsyncClient, number: int) -> None:
        while True:
            async with client.stream("GET", f"http://127.0.0.1:{self._running.port}/sse/svc/x") as response:
                said = b"".join([piece async for piece in response.aiter_bytes()])
            self.event_streams.append(said)
            self.ends[number] += 1


# ---------------------------------------------------------------- how an endpoint comes back


def service_of(running: Running) -> Service:
    return running.app.gateway.services[b"svc"]


def by_health(running: Running, away: Endpoint) -> Callable[[], None]:
    """Take an endpoint out; return a function that brings the endpoint back."""
    service = service_of(running)

    def change(*, is_healthy: bool) -> None:
        service.set_health(away, running.app.gateway.now(), up=is_healthy)

    change(is_healthy=False)
    return lambda: change(is_healthy=True)


def by_breaker(running: Running, away: Endpoint) -> Callable[[], None]:
    service, now = service_of(running), running.app.gateway.now
    while not away.breaker.is_open:
        service.end_permit(away, away.breaker.begin(now()), now(), failed=True)

    def close() -> None:
        then = away.breaker.open_until
        while away.breaker.is_open:
            service.end_permit(away, away.breaker.begin(then), then, failed=False)
        away.joined_at = now()  # nobody has waited until then

    return close


def by_discovery(running: Running, away: Endpoint) -> Callable[[], None]:
    service = service_of(running)
    both = service.endpoints
    service.replace_endpoints([each for each in both if each is not away], running.app.gateway.now())
    return lambda: service.replace_endpoints(both, running.app.gateway.now())


async def serving(serve: Serve, upstream: Start, **variables: str) -> tuple[Running, Endpoint, Endpoint]:
    """A gateway in front of two endpoints."""
    running = await serve(
        {"svc": [upstream(both_kinds).url, upstream(both_kinds).url]},
        **({"SLOW_START_MS": "0"} | variables),
    )
    one, other = service_of(running).endpoints
    return running, one, other


# ---------------------------------------------------------------- what follows


@pytest.mark.parametrize("leaves", [by_health, by_breaker, by_discovery])
@pytest.mark.gen_test(timeout=30)
async def test_streams_are_moved_to_an_endpoint_that_is_back_until_shares_are_even(
    serve: Serve, upstream: Start, leaves: Callable[[Running, Endpoint], Callable[[], None]]
) -> None:
    running, stayed, away = await serving(serve, upstream, REBALANCE_STREAMS=str(PACE))
    come_back = leaves(running, away)
    lines = capture(running)
    async with Clients(running).open() as clients:
        await asyncio.sleep(A_WHILE)
        assert clients.ends == [0] * COUNT  # there is nobody who could take them
        assert (stayed.streams, away.streams) == (COUNT, 0)

        began = time.monotonic()
        come_back()
        await eventually(lambda: (stayed.streams, away.streams) == EVEN, patience=20)
        assert time.monotonic() - began >= (11 - PACE) / PACE - CHECK_INTERVAL
        await asyncio.sleep(A_WHILE)
        assert (stayed.streams, away.streams) == EVEN

        assert clients.ends == [1] * 11 + [0] * 13  # the oldest
        assert clients.websockets == [(1001, "rebalanced")] * 6
        assert len(clients.event_streams) == 5
        assert all(said.startswith(EVENT + b"retry: ") for said in clients.event_streams)
        assert [(line["reason"], line["endpoint"]) for line in lines()] == [("rebalanced", stayed.url)] * 11
    assert running.errors == 0


@pytest.mark.gen_test
async def test_nothing_is_moved_unless_asked_for(serve: Serve, upstream: Start) -> None:
    running, stayed, away = await serving(serve, upstream)
    come_back = by_health(running, away)
    async with Clients(running).open() as clients:
        come_back()
        await asyncio.sleep(A_WHILE)
        assert clients.ends == [0] * COUNT
        assert (stayed.streams, away.streams) == (COUNT, 0)


@pytest.mark.gen_test
async def test_nothing_is_moved_to_an_endpoint_that_is_just_starting(serve: Serve, upstream: Start) -> None:
    running, stayed, away = await serving(serve, upstream, REBALANCE_STREAMS="1000", SLOW_START_MS="60000")
    come_back = by_health(running, away)
    async with Clients(running).open() as clients:
        come_back()
        await asyncio.sleep(A_WHILE)
        assert clients.ends == [0] * COUNT
        away.joined_at -= 60.0
        await eventually(lambda: (stayed.streams, away.streams) == EVEN)


@pytest.mark.gen_test
async def test_nothing_is_moved_once_the_gateway_stops(serve: Serve, upstream: Start) -> None:
    running, stayed, away = await serving(serve, upstream, REBALANCE_STREAMS="1000", **ENDLESS)
    come_back = by_health(running, away)
    async with Clients(running).open() as clients:
        draining = asyncio.ensure_future(running.app.drain())
        await eventually(lambda: running.app.server.context.draining)
        come_back()
        await asyncio.sleep(A_WHILE)
        assert clients.ends == [0] * COUNT
        assert (stayed.streams, away.streams) == (COUNT, 0)
        draining.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await draining
