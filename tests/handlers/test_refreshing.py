"""Stale responses that answer while a request in the background validates them."""

import asyncio

import pytest

from tests.conftest import Running, Serve
from tests.support.caching import ON, PATH, Each, age, ask, cache_of, frozen, status_of
from tests.support.endpoints import service_of
from tests.support.journeys import Start, capture
from tests.support.sockets import Message, Peer, Script, Upstream, eventually, get, reply

LENIENT = b"Cache-Control: max-age=60, stale-while-revalidate=30"
WHOLE = reply(fields=(LENIENT, b"Connection: close"), body=b"old")


class Slow:
    """A script: answer the first request at once, and the others when the test says so."""

    def __init__(self, later: bytes) -> None:
        self._later = later
        self.peers: list[Peer] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            if len(peer.upstream.requests) == 1:
                await peer.send(reply(fields=(LENIENT, b'ETag: "1"'), body=b"old"))
            else:
                self.peers.append(peer)

    async def answer(self) -> None:
        await eventually(lambda: self.peers)
        await self.peers.pop().send(self._later)


async def stale(serve: Serve, upstream: Start, script: Script, **variables: str) -> tuple[Running, Upstream]:
    """A gateway with a stale response in memory."""
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON, **variables)
    await ask(running)
    age(running, 80)
    return running, up


async def at_rest(running: Running) -> None:
    await eventually(lambda: not cache_of(running).refreshing)


@pytest.mark.gen_test
async def test_a_stale_answer_is_given_at_once_and_one_request_brings_the_new_one(
    serve: Serve, upstream: Start
) -> None:
    script = Slow(reply(fields=(LENIENT,), body=b"new"))
    running, up = await stale(serve, upstream, script)
    for _ in range(20):
        answer = await ask(running)
        assert (answer.body, status_of(answer), answer.get(b"age")) == (b"old", b"hit; ttl=-20", b"80")
    await script.answer()
    await at_rest(running)
    assert len(up.requests) == 2
    answer = await ask(running)
    assert (answer.body, status_of(answer)) == (b"new", b"hit; ttl=60")
    assert up.requests[1].get(b"if-none-match") == b'"1"'
    await eventually(lambda: service_of(running).load == 0)


@pytest.mark.gen_test
async def test_a_hundred_clients_at_once_get_the_stale_answer_and_make_one_request(
    serve: Serve, upstream: Start
) -> None:
    script = Slow(reply(fields=(LENIENT,), body=b"new"))
    running, up = await stale(serve, upstream, script)
    clients = [await running.client() for _ in range(100)]
    answers = await asyncio.gather(*(each.ask(get(PATH)) for each in clients))  # before the service answers
    assert {(each.body, status_of(each)) for each in answers} == {(b"old", b"hit; ttl=-20")}
    await script.answer()
    await at_rest(running)
    assert len(up.requests) == 2


@pytest.mark.gen_test
async def test_a_304_in_the_background_makes_the_answer_good_again(serve: Serve, upstream: Start) -> None:
    script = Slow(b"HTTP/1.1 304 Not Modified\r\n%b\r\n\r\n" % LENIENT)
    running, _ = await stale(serve, upstream, script)
    await ask(running)
    await script.answer()
    await at_rest(running)
    answer = await ask(running)
    assert (answer.body, status_of(answer)) == (b"old", b"hit; ttl=60")


@pytest.mark.parametrize("status", [b"500 No", b"404 Not Found"])
@pytest.mark.gen_test
async def test_an_error_in_the_background_reaches_no_client(serve: Serve, upstream: Start, status: bytes) -> None:
    script = Slow(reply(status, (b"Cache-Control: no-store",)))
    running, _ = await stale(serve, upstream, script)
    assert (await ask(running)).body == b"old"
    await script.answer()
    await at_rest(running)
    assert running.errors == status.startswith(b"500")


@pytest.mark.gen_test
async def test_a_service_that_breaks_off_in_the_background_is_asked_again_later(serve: Serve, upstream: Start) -> None:
    async def breaks_off(peer: Peer) -> None:
        await peer.request()
        is_first = len(peer.upstream.requests) == 1
        await peer.send(WHOLE if is_first else b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")

    running, up = await stale(serve, upstream, breaks_off)
    for number in (2, 3):
        assert (await ask(running)).body == b"old"
        await eventually(lambda number=number: len(up.requests) == number)
        await at_rest(running)


@pytest.mark.gen_test
async def test_a_body_that_is_too_large_is_not_read_in_the_background(serve: Serve, upstream: Start) -> None:
    script = Slow(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n")
    running, _ = await stale(serve, upstream, script, CACHE_MAX_BODY_BYTES="5")
    await ask(running)
    await script.answer()
    await at_rest(running)
    assert not running.inflight


@pytest.mark.gen_test
async def test_after_the_window_the_client_waits(serve: Serve, upstream: Start) -> None:
    def answer(_: Message, number: int) -> bytes:
        return reply(fields=(LENIENT,), body=b"%d" % number)

    running, _ = await stale(serve, upstream, Each(answer))
    age(running, 10)
    answer_ = await ask(running)
    assert (answer_.body, status_of(answer_)) == (b"2", b"fwd=stale; stored")


@pytest.mark.gen_test
async def test_the_operator_can_give_every_stale_answer_a_grace(serve: Serve, upstream: Start) -> None:
    def answer(_: Message, number: int) -> bytes:
        return reply(fields=(b"Cache-Control: max-age=60",), body=b"%d" % number)

    running, _ = await stale(serve, upstream, Each(answer), CACHE_GRACE_MS="30000")
    assert (await ask(running)).body == b"1"
    await at_rest(running)
    assert (await ask(running)).body == b"2"


@pytest.mark.gen_test
async def test_a_client_that_leaves_does_not_end_the_refresh(serve: Serve, upstream: Start) -> None:
    script = Slow(reply(fields=(LENIENT,), body=b"new"))
    running, _ = await stale(serve, upstream, script)
    client = await running.client()
    assert (await client.ask(get(PATH))).body == b"old"
    client.close()
    await script.answer()
    await at_rest(running)
    assert (await ask(running)).body == b"new"


@pytest.mark.parametrize(
    ("later", "status", "reason", "result"),
    [
        (b"HTTP/1.1 304 Not Modified\r\n%b\r\n\r\n" % LENIENT, 304, "", "refreshed"),
        (reply(fields=(LENIENT,), body=b"new"), 200, "", "refreshed"),
        (reply(b"500 No"), 500, "", "unrefreshed"),
        (b"nonsense\r\n\r\n", 502, "upstream_invalid", "unrefreshed"),
    ],
)
@pytest.mark.gen_test
async def test_a_request_in_the_background_has_a_line_of_its_own_in_the_access_log(
    serve: Serve, upstream: Start, later: bytes, status: int, reason: str, result: str
) -> None:
    script = Slow(later)
    running, up = await stale(serve, upstream, script, CACHE_STALE_IF_ERROR_MS="600000", RETRY_ATTEMPTS="1")
    lines = capture(running)
    answer = await ask(running)
    assert answer.body == b"old"
    await script.answer()
    await at_rest(running)
    await eventually(lambda: [each for each in lines() if each["type"] == "cache_refresh"])
    (line,) = [each for each in lines() if each["type"] == "cache_refresh"]
    (own,) = [each for each in lines() if each["requestId"] == line["requestId"] and each["type"] == "access"]
    assert (line["status"], line["reason"], line["attempts"], line["endpoint"]) == (status, reason, 1, up.url)
    assert (line["path"], line["service"], own["status"], own["attempts"]) == ("/api/svc/x", "svc", 200, 0)
    results = cache_of(running).totals.results
    assert (results["svc", result], results["svc", "refreshing"]) == (1, 1)
