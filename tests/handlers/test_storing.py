"""Storing a response while the response streams: the client does not wait for the end."""

import pytest

from tests.conftest import Serve
from tests.support.caching import FRESH, ON, PATH, Each, Origin, ask, cache_of, frozen, kept, status_of
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


@pytest.mark.gen_test
async def test_answers_with_the_same_fields_are_decided_on_apart(serve: Serve, upstream: Start) -> None:
    """The connection to the service keeps what the fields say, and nothing of a request."""
    up = upstream(Origin(FRESH))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    wanted = [
        (b"/api/svc/a", (), b"fwd=uri-miss; stored"),
        (b"/api/svc/b", (b"Cookie: a=b",), b"fwd=uri-miss"),
        (b"/api/svc/c", (b"Cache-Control: no-store",), b"fwd=uri-miss"),
        (b"/api/svc/b", (), b"fwd=uri-miss; stored"),
    ]
    for path, lines, status in wanted:
        assert status_of(await ask(running, *lines, path=path)) == status
    assert kept(running) == 2


@pytest.mark.parametrize("head", [b"Content-Length: 4\r\nX-Last: 1", b"Age: 3\r\nContent-Length: 4\r\nX-Last: 1"])
@pytest.mark.gen_test
async def test_a_hit_has_one_length_and_one_age(serve: Serve, upstream: Start, head: bytes) -> None:
    up = upstream(Each(lambda *_: b"HTTP/1.1 200 OK\r\n%b\r\n%b\r\n\r\nbody" % (FRESH, head)))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    for number in (1, 2):
        answer = await ask(running)
        assert (answer.body, answer.all(b"content-length")) == (b"body", [b"4"])
        assert len(answer.all(b"age")) == (1 if number == 2 or b"Age" in head else 0)
    assert len(up.requests) == 1


@pytest.mark.gen_test
async def test_a_204_is_stored_without_a_length(serve: Serve, upstream: Start) -> None:
    up = upstream(Each(lambda *_: b"HTTP/1.1 204 No Content\r\n%b\r\nContent-Length: 0\r\n\r\n" % FRESH))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    answers = [await ask(running) for _ in range(2)]
    assert [(each.status, each.all(b"content-length")) for each in answers] == [(204, []), (204, [])]
    assert len(up.requests) == 1
