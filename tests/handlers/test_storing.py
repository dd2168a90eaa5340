"""Storing a response while the response streams: the client does not wait for the end."""

import pytest

from tests.conftest import Serve
from tests.support.caching import FRESH, ON, PATH, Origin, ask, cache_of, frozen, kept, status_of
from tests.support.journeys import Start
from tests.support.sockets import Peer, eventually, get
from tornado_gateway.policy.http.caching.stored import OVERHEAD


@pytest.mark.gen_test
async def test_the_client_gets_each_piece_at_once(serve: Serve, upstream: Start) -> None:
    gates: list[Peer] = []

    async def in_pieces(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 8\r\n\r\nhalf" % FRESH)
        gates.append(peer)
        await peer.ended()

    running = await frozen(serve, {"svc": [upstream(in_pieces).url]}, **ON)
    client = await running.client()
    await client.send(get(PATH))
    await client.until(b"half")
    await eventually(lambda: gates)
    assert kept(running) == 0
    await gates[0].send(b"rest")
    await client.until(b"rest")
    answer = await ask(running)
    assert (answer.body, status_of(answer)) == (b"halfrest", b"hit; ttl=60")


@pytest.mark.gen_test
async def test_a_flood_of_made_up_queries_stays_within_the_bound(serve: Serve, upstream: Start) -> None:
    bound = 50 * OVERHEAD
    running = await frozen(
        serve, {"svc": [upstream(Origin(FRESH)).url]}, CACHE_MAX_BYTES=str(bound), CACHE_MAX_BODY_BYTES="1000", **ON
    )
    client = await running.client()
    for _ in range(2):
        assert (await client.ask(get(PATH + b"?kept"))).body == b"answer 1"
    for number in range(200):
        await client.ask(get(PATH + b"?%d" % number))
        assert cache_of(running).store.size <= bound
    assert (await client.ask(get(PATH + b"?kept"))).body == b"answer 1"


@pytest.mark.gen_test
async def test_via_of_a_replayed_answer_is_as_of_the_answer(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin(FRESH, b"Via: 1.0 inner")).url]}, VIA_NAME="gw", **ON)
    first, second = await ask(running), await ask(running)
    assert first.get(b"via") == second.get(b"via") == b"1.0 inner, 1.1 gw"
    assert first.get(b"x-request-id") != second.get(b"x-request-id")
    assert second.get(b"cache-status") == b"gw; hit; ttl=60"
