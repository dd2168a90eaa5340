"""Concurrent misses of one key: one request to the service, and nobody waits for what cannot be shared."""

import asyncio
import os
import random

import pytest

from tests.conftest import Running, Serve
from tests.support.caching import FRESH, ON, PATH, Each, age, ask, cache_of, frozen, kept, status_of
from tests.support.endpoints import service_of
from tests.support.journeys import Start, capture, problem
from tests.support.sockets import Client, Message, Peer, Upstream, eventually, get, reply
from tornado_gateway.handlers.collapsing import Flight, Lead

CROWD = int(os.environ.get("CROWD", "200"))  # tests/long cache: 1,000
COLLAPSED = b"fwd=uri-miss; collapsed"
HEAD = b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 8\r\n\r\n" % FRESH


class Held:
    """A script: hold every request until the test answers."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            self.peers.append(peer)

    async def send(self, data: bytes, number: int = 0) -> None:
        await eventually(lambda: len(self.peers) > number)
        await self.peers[number].send(data)


async def crowd(running: Running, up: Upstream, count: int, *lines: bytes) -> list[Client]:
    """Clients that wait for the same answer, the first one first."""
    clients = []
    for _ in range(count):
        clients.append(await running.client())
        await clients[-1].send(get(PATH, *lines))
        await eventually(lambda: up.requests)
    await eventually(lambda: waiting(running) == count)
    return clients


def waiting(running: Running) -> int:
    """The number of clients that wait for an answer together, or alone."""
    flights = cache_of(running).flights.values()
    return sum(1 if isinstance(each, Lead) else len(each.passengers) for each in flights)


async def collect(clients: list[Client]) -> list[Message]:
    return list(await asyncio.gather(*(each.response() for each in clients)))


@pytest.mark.gen_test
async def test_concurrent_misses_make_one_request(serve: Serve, upstream: Start) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    clients = await crowd(running, up, CROWD)
    await script.send(reply(fields=(FRESH,), body=b"shared"))
    answers = await collect(clients)
    assert {each.body for each in answers} == {b"shared"}
    assert [status_of(each) for each in answers] == [b"fwd=uri-miss; stored"] + [COLLAPSED] * (CROWD - 1)
    assert (len(up.requests), kept(running), cache_of(running).flights) == (1, 1, {})
    assert status_of(await ask(running)) == b"hit; ttl=60"
    await eventually(lambda: service_of(running).load == 0)


@pytest.mark.gen_test
async def test_followers_stream_along_from_the_beginning(serve: Serve, upstream: Start) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    (first,) = await crowd(running, up, 1)
    await script.send(HEAD + b"half")
    await first.until(b"half")
    second = await running.client()
    await second.send(get(PATH))
    await second.until(b"half")
    await script.send(b"rest")
    for client in (first, second):
        await client.until(b"rest")
    assert len(up.requests) == 1


@pytest.mark.parametrize("says", [b"Cache-Control: private", b"Cache-Control: no-store", b"Set-Cookie: a=b"])
@pytest.mark.gen_test
async def test_an_answer_that_cannot_be_shared_is_the_first_clients_alone(
    serve: Serve, upstream: Start, says: bytes
) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    clients = await crowd(running, up, 5)
    await script.send(reply(fields=(says,), body=b"secret"))
    assert (await clients[0].response()).body == b"secret"
    await eventually(lambda: len(script.peers) == 5)  # at once, and in parallel
    for number in range(1, 5):
        await script.send(reply(fields=(says,), body=b"own"), number)
    answers = await collect(clients[1:])
    assert [(each.body, status_of(each)) for each in answers] == [(b"own", b"fwd=uri-miss")] * 4
    # Hit for miss: the next requests do not wait for each other.
    later = [await running.client() for _ in range(3)]
    for client in later:
        await client.send(get(PATH))
    await eventually(lambda: len(script.peers) == 8)
    for number in range(5, 8):
        await script.send(reply(fields=(says,)), number)
    await collect(later)
    age(running, 11)
    later = await crowd(running, up, 2)
    assert len(up.requests) == 9
    await script.send(reply(fields=(FRESH,)), 8)
    await collect(later)


@pytest.mark.gen_test
async def test_a_failure_is_the_first_clients_alone(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if len(up.requests) == 1:
            await gate.wait()
            await peer.send(b"nonsense\r\n\r\n")
        else:
            await peer.send(reply(fields=(FRESH, b"Connection: close")))

    gate, up = asyncio.Event(), upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    clients = await crowd(running, up, 3)
    gate.set()
    answers = await collect(clients)
    problem(answers[0], 502, "upstream_unavailable")
    assert status_of(answers[0]) == b"fwd=uri-miss"
    assert [each.body for each in answers[1:]] == [b"ok", b"ok"]


STALE = b"fwd=stale; collapsed"
NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\n%b\r\n\r\n"


async def gone_stale(serve: Serve, up: Upstream, script: Held, *lines: bytes, **variables: str) -> Running:
    """A gateway with a stale answer in its store."""
    running = await frozen(serve, {"svc": [up.url]}, **ON, **variables)
    client = await running.client()
    await client.send(get(PATH))
    await script.send(reply(fields=lines, body=b"stale"))
    await client.response()
    age(running, 60)
    return running


@pytest.mark.gen_test
async def test_concurrent_validations_make_one_request(serve: Serve, upstream: Start) -> None:
    script = Held()
    up = upstream(script)
    running = await gone_stale(serve, up, script, FRESH, b'ETag: "1"')
    clients = await crowd(running, up, 10)
    await script.send(NOT_MODIFIED % FRESH, 1)
    answers = await collect(clients)
    assert {(each.status, each.body, each.get(b"age")) for each in answers} == {(200, b"stale", b"0")}
    assert [status_of(each) for each in answers] == [b"fwd=stale; fwd-status=304; stored"] + [STALE] * 9
    assert (len(up.requests), cache_of(running).flights) == (2, {})
    await eventually(lambda: service_of(running).load == 0)


@pytest.mark.gen_test
async def test_a_new_answer_to_a_validation_is_shared(serve: Serve, upstream: Start) -> None:
    script = Held()
    up = upstream(script)
    running = await gone_stale(serve, up, script, FRESH, b'ETag: "1"')
    clients = await crowd(running, up, 3)
    clients[0].close()
    await eventually(lambda: waiting(running) == 2)
    await script.send(reply(fields=(FRESH,), body=b"new"), 1)
    assert [each.body for each in await collect(clients[1:])] == [b"new"] * 2
    assert len(up.requests) == 2


@pytest.mark.parametrize("broken", [b"nonsense\r\n\r\n", reply(b"500 No")])
@pytest.mark.gen_test
async def test_one_error_of_a_validation_is_enough_for_everybody(serve: Serve, upstream: Start, broken: bytes) -> None:
    script = Held()
    up = upstream(script)
    running = await gone_stale(serve, up, script, FRESH, CACHE_STALE_IF_ERROR_MS="60000", RETRY_ATTEMPTS="1")
    clients = await crowd(running, up, 3)
    await script.send(broken, 1)
    answers = await collect(clients)
    assert {(each.status, each.body) for each in answers} == {(200, b"stale")}
    assert status_of(answers[1]) == STALE
    assert len(up.requests) == 2


@pytest.mark.gen_test
async def test_a_304_that_forbids_to_keep_the_answer_answers_the_first_client_alone(
    serve: Serve, upstream: Start
) -> None:
    script = Held()
    up = upstream(script)
    running = await gone_stale(serve, up, script, FRESH, b'ETag: "1"')
    clients = await crowd(running, up, 2)
    await script.send(NOT_MODIFIED % b"Cache-Control: no-store", 1)
    assert (await clients[0].response()).body == b"stale"
    await script.send(reply(body=b"own"), 2)
    assert (await clients[1].response()).body == b"own"


@pytest.mark.parametrize("is_stale", [True, False])
@pytest.mark.gen_test
async def test_the_access_log_counts_the_attempt_of_the_first_client_alone(
    serve: Serve, upstream: Start, is_stale: bool
) -> None:
    script = Held()
    up = upstream(script)
    if is_stale:
        running = await gone_stale(serve, up, script, FRESH, b'ETag: "1"')
    else:
        running = await frozen(serve, {"svc": [up.url]}, **ON)
    lines = capture(running)
    clients = await crowd(running, up, 3)
    await script.send(reply(fields=(FRESH,), body=b"shared"), 1 if is_stale else 0)
    await collect(clients)
    await eventually(lambda: len(lines()) == 3)
    assert [each["attempts"] for each in lines()] == [1, 0, 0]


@pytest.mark.parametrize("says", [b"Cache-Control: no-cache", b"Cache-Control: max-age=0"])
@pytest.mark.gen_test
async def test_an_answer_that_needs_a_validation_is_the_first_clients_alone(
    serve: Serve, upstream: Start, says: bytes
) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    clients = await crowd(running, up, 2)
    await script.send(reply(fields=(says, b'ETag: "1"'), body=b"first"))
    assert (await clients[0].response()).body == b"first"
    await script.send(reply(fields=(says, b'ETag: "1"'), body=b"own"), 1)
    assert (await clients[1].response()).body == b"own"
    assert kept(running) == 1


@pytest.mark.gen_test
async def test_a_service_without_endpoints_to_ask_leaves_no_flight(serve: Serve, upstream: Start) -> None:
    up = upstream(Held())
    running = await frozen(serve, {"svc": {"endpoints": [{"url": up.url, "weight": 0}]}}, **ON)
    answer = await ask(running)
    assert (answer.status, status_of(answer)) == (503, b"fwd=uri-miss")
    assert cache_of(running).flights == {}


@pytest.mark.gen_test
async def test_an_answer_that_breaks_off_breaks_off_for_everybody(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        await peer.send(HEAD + b"half")

    gate, up = asyncio.Event(), upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    clients = await crowd(running, up, 3)
    gate.set()
    assert [each.complete for each in await collect(clients)] == [False] * 3
    assert kept(running) == 0


@pytest.mark.gen_test
async def test_the_first_client_may_leave_without_harm_to_the_others(serve: Serve, upstream: Start) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    clients = await crowd(running, up, 3)
    clients[0].close()
    await eventually(lambda: waiting(running) == 2)
    await script.send(HEAD + b"half")
    clients[1].close()
    await eventually(lambda: waiting(running) == 1)
    await script.send(b"rest")
    answer = await clients[2].response()
    assert (answer.body, len(up.requests), kept(running)) == (b"halfrest", 1, 1)


@pytest.mark.gen_test
async def test_what_is_not_to_be_shared_is_asked_for_again_after_the_first_client_has_left(
    serve: Serve, upstream: Start
) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    clients = await crowd(running, up, 2)
    clients[0].close()
    await eventually(lambda: waiting(running) == 1)
    await script.send(reply(fields=(b"Cache-Control: private",), body=b"secret"))
    await script.send(reply(body=b"own"), 1)
    assert (await clients[1].response()).body == b"own"


@pytest.mark.gen_test
async def test_the_request_ends_when_the_last_client_has_left(serve: Serve, upstream: Start) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    clients = await crowd(running, up, 3)
    for client in clients:
        client.close()
    await eventually(lambda: not running.inflight and not up.open)
    assert (cache_of(running).flights, kept(running)) == ({}, 0)


@pytest.mark.gen_test
async def test_a_client_waits_no_longer_than_the_lock_timeout(serve: Serve, upstream: Start) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, CACHE_LOCK_TIMEOUT_MS="50", **ON)
    first, second = await running.client(), await running.client()
    await first.send(get(PATH))
    await eventually(lambda: up.requests)
    await second.send(get(PATH))
    await script.send(reply(fields=(FRESH,), body=b"second"), 1)
    assert (await second.response()).body == b"second"
    await script.send(reply(fields=(FRESH,), body=b"first"))
    assert (await first.response()).body == b"first"


@pytest.mark.gen_test
async def test_without_a_lock_timeout_nobody_waits(serve: Serve, upstream: Start) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, CACHE_LOCK_TIMEOUT_MS="0", **ON)
    clients = [await running.client() for _ in range(2)]
    for client in clients:
        await client.send(get(PATH))
    for number in range(2):
        await script.send(reply(fields=(FRESH,)), number)
    assert [status_of(each) for each in await collect(clients)] == [b"fwd=uri-miss; stored"] * 2


@pytest.mark.gen_test
async def test_vary_and_credentials_keep_followers_apart(serve: Serve, upstream: Start) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    clients = await crowd(running, up, 1, b"X-A: 1")
    for lines in ((b"X-A: 1",), (b"X-A: 2",), (b"X-A: 1", b"Cookie: a=b")):
        clients.append(await running.client())
        await clients[-1].send(get(PATH, *lines))
    await eventually(lambda: waiting(running) == 4)
    await script.send(reply(fields=(FRESH, b"Vary: X-A"), body=b"shared"))
    await eventually(lambda: len(script.peers) == 3)
    for number in (1, 2):
        await script.send(reply(fields=(FRESH, b"Vary: X-A"), body=b"own"), number)
    assert [each.body for each in await collect(clients)] == [b"shared", b"shared", b"own", b"own"]


@pytest.mark.gen_test
async def test_nobody_joins_a_request_from_before_an_invalidation(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.method == b"PUT":
                await peer.send(reply())
            else:
                held.peers.append(peer)

    held, up = Held(), upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    (first,) = await crowd(running, up, 1)
    await ask(running, method=b"PUT")
    second = await running.client()
    await second.send(get(PATH))
    await held.send(reply(fields=(FRESH,), body=b"new"), 1)
    assert (await second.response()).body == b"new"
    await held.send(reply(fields=(FRESH,), body=b"old"))
    assert (await first.response()).body == b"old"
    assert (await ask(running)).body == b"new"


LARGE = 4 * 1024 * 1024


@pytest.mark.gen_test
async def test_a_slow_client_slows_nobody_while_the_answer_can_be_stored(serve: Serve, upstream: Start) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(
        serve, {"svc": [up.url]}, CACHE_MAX_BODY_BYTES=str(LARGE), CACHE_MAX_BYTES=str(10 * LARGE), **ON
    )
    slow = await running.client(receive_buffer=64 * 1024)
    await slow.send(get(PATH))
    await eventually(lambda: up.requests)
    quick = await running.client()
    await quick.send(get(PATH))
    await eventually(lambda: waiting(running) == 2)
    body = bytes(range(256)) * (LARGE // 256)
    answer, _ = await asyncio.gather(quick.response(), script.send(reply(fields=(FRESH,), body=body)))
    assert answer.body == body
    await slow.until(b"\r\n\r\n")
    assert await slow.exactly(LARGE) == body


@pytest.mark.gen_test
async def test_an_answer_that_outgrows_the_store_reaches_everybody_whole(serve: Serve, upstream: Start) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, CACHE_MAX_BODY_BYTES="100000", **ON)
    clients = []
    for _ in range(3):
        clients.append(await running.client(receive_buffer=64 * 1024))
        await clients[-1].send(get(PATH))
        await eventually(lambda: up.requests)
    await eventually(lambda: waiting(running) == 3)
    head = b"HTTP/1.1 200 OK\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n" % FRESH
    piece = bytes(range(256)) * 256
    sending = script.send(head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for _ in range(64)) + b"0\r\n\r\n")
    *answers, _ = await asyncio.gather(*(each.response() for each in clients), sending)
    assert [each.body == piece * 64 for each in answers] == [True] * 3
    assert kept(running) == 0


@pytest.mark.gen_test
async def test_clients_that_leave_at_random_leave_nothing_behind(serve: Serve, upstream: Start) -> None:
    def answer(_: Message, number: int) -> bytes:
        return reply(fields=(FRESH,), body=bytes(100_000))

    up = upstream(Each(answer))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    staying = []
    for number in range(60):
        client = await running.client()
        await client.send(get(PATH + b"?%d" % (number // 10)))
        if number % 10 in (0, 4):
            client.close()
        else:
            staying.append(client)
    answers = await collect(staying)
    assert {len(each.body) for each in answers} == {100_000}
    await eventually(lambda: not running.inflight)
    assert cache_of(running).flights == {}


@pytest.mark.gen_test
async def test_a_tenth_that_leaves_at_random_leaves_no_half_and_nobody_waiting(serve: Serve, upstream: Start) -> None:
    """Whoever leaves, the first clients among them, leaves before the head, in the middle, or near the end."""
    rng, count, keys = random.Random(CROWD), CROWD, 4
    pieces = [bytes([number]) * 20_000 for number in range(5)]
    head = b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: %d\r\n\r\n" % (FRESH, sum(map(len, pieces)))
    moments = [asyncio.Event() for _ in (head, *pieces)]

    async def in_pieces(peer: Peer) -> None:
        await peer.request()
        for moment, piece in zip(moments, (head, *pieces), strict=True):
            await moment.wait()
            await peer.send(piece)

    up = upstream(in_pieces)
    running = await frozen(serve, {"svc": [up.url]}, CACHE_LOCK_TIMEOUT_MS="30000", **ON)
    clients = [await running.client() for _ in range(count)]
    for number, client in enumerate(clients):
        await client.send(get(PATH + b"?%d" % (number % keys)))
    await eventually(lambda: waiting(running) == count)
    leaving = {each: rng.randrange(len(moments)) for each in (0, *rng.sample(range(1, count), count // 10 - 1))}
    answers = [asyncio.ensure_future(each.response()) for number, each in enumerate(clients) if number not in leaving]
    for number, moment in enumerate(moments):
        for each in [each for each, when in leaving.items() if when == number]:
            clients[each].close()
        await eventually(lambda number=number: waiting(running) <= count - sum(w <= number for w in leaving.values()))
        moment.set()
    assert {each.body for each in await asyncio.gather(*answers)} == {b"".join(pieces)}
    await eventually(lambda: not running.inflight)
    assert (cache_of(running).flights, kept(running), len(up.requests)) == ({}, keys, keys)
    for number in range(keys):
        answer = await ask(running, path=PATH + b"?%d" % number)
        assert (answer.body, status_of(answer)) == (b"".join(pieces), b"hit; ttl=60")


@pytest.mark.gen_test
async def test_whoever_joins_late_does_not_wait_for_a_slow_first_client(serve: Serve, upstream: Start) -> None:
    script, size = Held(), 3 * LARGE
    up = upstream(script)
    running = await frozen(
        serve, {"svc": [up.url]}, CACHE_MAX_BODY_BYTES=str(size), CACHE_MAX_BYTES=str(10 * size), **ON
    )
    slow = await running.client(receive_buffer=64 * 1024)
    await slow.send(get(PATH))
    body = bytes(range(256)) * (size // 256)
    answer = reply(fields=(FRESH,), body=body)
    await script.send(answer[: -LARGE // 2])  # more than all buffers on the way take
    await slow.until(b"\r\n\r\n")
    await eventually(lambda: isinstance(next(iter(cache_of(running).flights.values())), Flight))
    quick = await running.client()
    await quick.send(get(PATH))
    await eventually(lambda: waiting(running) == 2)
    whole, _ = await asyncio.gather(quick.response(), script.send(answer[-LARGE // 2 :]))
    assert (whole.body == body, status_of(whole)) == (True, COLLAPSED)
    assert await slow.exactly(size) == body
    assert (len(up.requests), kept(running)) == (1, 1)


@pytest.mark.gen_test
async def test_a_client_alone_may_leave_at_any_time(serve: Serve, upstream: Start) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    for number, begun in enumerate((b"", HEAD, HEAD + b"half")):
        (client,) = await crowd(running, up, 1)
        await script.send(begun, number)
        if begun:
            await client.until(begun[-4:])
        client.close()
        await eventually(lambda: not running.inflight and not up.open)
        assert (cache_of(running).flights, kept(running)) == ({}, 0)


@pytest.mark.gen_test
async def test_an_answer_of_a_client_alone_that_outgrows_the_store_reaches_the_client_whole(
    serve: Serve, upstream: Start
) -> None:
    script = Held()
    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, CACHE_MAX_BODY_BYTES="100", **ON)
    client = await running.client()
    await client.send(get(PATH))
    head = b"HTTP/1.1 200 OK\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n" % FRESH
    await script.send(head + b"50\r\n%b\r\n" % bytes(80))
    await client.until(bytes(80))
    await script.send(b"50\r\n%b\r\n" % bytes(80))
    await eventually(lambda: not cache_of(running).flights)
    await script.send(b"0\r\n\r\n")
    await client.until(b"0\r\n\r\n")
    assert kept(running) == 0
