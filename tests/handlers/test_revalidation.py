"""Stale responses: validated by the service, replaced, or answering instead of an error."""

import pytest

from tests.conftest import Serve
from tests.support.caching import FRESH, ON, PATH, Each, Origin, age, ask, frozen, kept, status_of
from tests.support.endpoints import endpoints_of, service_of
from tests.support.journeys import Start, capture, only_line
from tests.support.sockets import Message, Peer, eventually, get, reply

ETAG, MODIFIED = b'ETag: "1"', b"Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT"
NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\n"


def validating(*lines: bytes, news: bytes = b"", fields: tuple[bytes, ...] = (FRESH, ETAG)) -> Each:
    """A service that answers 200 with a number, and 304 to a condition."""

    def answer(request: Message, number: int) -> bytes:
        if request.get(b"if-none-match") or request.get(b"if-modified-since"):
            return NOT_MODIFIED + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        return reply(fields=fields, body=b"answer %d" % number)

    return Each(answer)


@pytest.mark.parametrize(
    ("fields", "condition"),
    [
        ((ETAG,), [(b"If-None-Match", b'"1"')]),
        ((MODIFIED,), [(b"If-Modified-Since", MODIFIED.partition(b": ")[2])]),
        ((ETAG, MODIFIED), [(b"If-None-Match", b'"1"'), (b"If-Modified-Since", MODIFIED.partition(b": ")[2])]),
    ],
)
@pytest.mark.gen_test
async def test_a_304_makes_a_stale_answer_good_again(
    serve: Serve, upstream: Start, fields: tuple[bytes, ...], condition: list[tuple[bytes, bytes]]
) -> None:
    up = upstream(validating(FRESH, b"X-New: 1", fields=(FRESH, b"X-Old: 1", *fields)))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    await ask(running)
    age(running, 60)
    answer = await ask(running)
    assert (answer.status, answer.body, status_of(answer)) == (200, b"answer 1", b"fwd=stale; fwd-status=304; stored")
    assert (answer.get(b"x-new"), answer.get(b"x-old"), answer.get(b"age")) == (b"1", b"1", b"0")
    assert [each for each in up.requests[1].fields if each[0].startswith(b"If-")] == condition
    answer = await ask(running)
    assert (answer.body, status_of(answer), answer.get(b"x-new")) == (b"answer 1", b"hit; ttl=60", b"1")
    assert len(up.requests) == 2


@pytest.mark.gen_test
async def test_the_condition_of_a_client_is_answered_once_the_answer_is_good_again(
    serve: Serve, upstream: Start
) -> None:
    up = upstream(validating(FRESH))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    await ask(running)
    age(running, 60)
    answer = await ask(running, b'If-None-Match: "0", "1"')
    assert (answer.status, status_of(answer)) == (304, b"fwd=stale; fwd-status=304; stored")
    assert up.requests[1].all(b"if-none-match") == [b'"1"']
    age(running, 60)
    answer = await ask(running, b'If-None-Match: "2"')
    assert (answer.status, answer.body) == (200, b"answer 1")


@pytest.mark.gen_test
async def test_head_is_validated_as_get_is(serve: Serve, upstream: Start) -> None:
    up = upstream(validating(FRESH))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    await ask(running)
    age(running, 60)
    answer = await ask(running, method=b"HEAD")
    assert (answer.status, answer.get(b"content-length"), up.requests[1].method) == (200, b"8", b"HEAD")
    assert status_of(await ask(running)) == b"hit; ttl=60"


@pytest.mark.parametrize("length", [8, 9])
@pytest.mark.gen_test
async def test_a_200_to_head_renews_the_response_it_describes(serve: Serve, upstream: Start, length: int) -> None:
    def answer(request: Message, number: int) -> bytes:
        if request.method == b"HEAD":
            return b"HTTP/1.1 200 OK\r\n%b\r\nX-New: 1\r\nContent-Length: %d\r\n\r\n" % (FRESH, length)
        return reply(fields=(FRESH,), body=b"answer %d" % number)

    running = await frozen(serve, {"svc": [upstream(Each(answer)).url]}, **ON)
    await ask(running)
    age(running, 60)
    answer_ = await ask(running, method=b"HEAD")
    assert (status_of(answer_), answer_.get(b"x-new"), answer_.get(b"age")) == (b"fwd=stale", b"1", None)
    again = await ask(running)
    if length == len(b"answer 1"):
        assert (again.body, again.get(b"x-new"), status_of(again)) == (b"answer 1", b"1", b"hit; ttl=60")
    else:
        assert (again.body, status_of(again)) == (b"answer 3", b"fwd=uri-miss; stored")


@pytest.mark.gen_test
async def test_another_answer_replaces_the_stale_one(serve: Serve, upstream: Start) -> None:
    def answer(_: Message, number: int) -> bytes:
        return reply(fields=(FRESH, b'ETag: "%d"' % number), body=b"answer %d" % number)

    running = await frozen(serve, {"svc": [upstream(Each(answer)).url]}, **ON)
    await ask(running)
    age(running, 60)
    answer_ = await ask(running)
    assert (answer_.body, status_of(answer_)) == (b"answer 2", b"fwd=stale; stored")
    assert (await ask(running)).body == b"answer 2"


@pytest.mark.gen_test
async def test_an_answer_that_is_not_stored_takes_the_stale_one_away(serve: Serve, upstream: Start) -> None:
    def answer(_: Message, number: int) -> bytes:
        return reply(fields=(FRESH, ETAG) if number == 1 else (b"Cache-Control: private",))

    running = await frozen(serve, {"svc": [upstream(Each(answer)).url]}, **ON)
    await ask(running)
    age(running, 60)
    assert status_of(await ask(running)) == b"fwd=stale"
    assert kept(running) == 0


@pytest.mark.gen_test
async def test_a_304_that_forbids_to_keep_the_answer_answers_once(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(validating(b"Cache-Control: no-store")).url]}, **ON)
    await ask(running)
    age(running, 60)
    answer = await ask(running)
    assert (answer.body, status_of(answer)) == (b"answer 1", b"fwd=stale; fwd-status=304")
    assert kept(running) == 0


@pytest.mark.gen_test
async def test_a_304_of_another_answer_is_not_believed(serve: Serve, upstream: Start) -> None:
    up = upstream(validating(FRESH, b'ETag: "2"'))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    await ask(running)
    age(running, 60)
    answer = await ask(running)
    assert (answer.body, status_of(answer)) == (b"answer 3", b"fwd=stale; stored")
    assert [bool(each.get(b"if-none-match")) for each in up.requests] == [False, True, False]
    assert service_of(running).load == 0


@pytest.mark.gen_test
async def test_no_store_of_a_client_leaves_the_stored_answer_as_the_answer_is(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(validating(FRESH)).url]}, **ON)
    await ask(running)
    answer = await ask(running, b"Cache-Control: no-cache, no-store")
    assert (answer.body, status_of(answer)) == (b"answer 1", b"fwd=request; fwd-status=304")
    assert kept(running) == 1
    answer = await ask(running, b"Cache-Control: no-cache")
    assert status_of(answer) == b"fwd=request; fwd-status=304; stored"


@pytest.mark.parametrize("says", [b"max-age=60, stale-if-error=30", b"max-age=60"])
@pytest.mark.gen_test
async def test_a_stale_answer_stands_in_for_an_error(serve: Serve, upstream: Start, says: bytes) -> None:
    def answer(_: Message, number: int) -> bytes:
        return reply(fields=(b"Cache-Control: " + says,)) if number == 1 else reply(b"500 No")

    variables = {} if b"stale" in says else {"CACHE_STALE_IF_ERROR_MS": "30000"}
    running = await frozen(serve, {"svc": [upstream(Each(answer)).url]}, **ON, **variables)
    await ask(running)
    age(running, 80)
    answer_ = await ask(running)
    assert (answer_.status, answer_.body, status_of(answer_)) == (200, b"ok", b"fwd=stale; fwd-status=500")
    assert answer_.get(b"age") == b"80"
    await eventually(lambda: running.errors == 1)  # the endpoint has failed all the same
    age(running, 10)
    answer_ = await ask(running)
    assert (answer_.status, status_of(answer_)) == (500, b"fwd=stale")


@pytest.mark.parametrize("says", [b"max-age=60, must-revalidate", b"s-maxage=60"])
@pytest.mark.gen_test
async def test_an_answer_that_must_be_validated_stands_in_for_nothing(
    serve: Serve, upstream: Start, says: bytes
) -> None:
    def answer(_: Message, number: int) -> bytes:
        return reply(fields=(b"Cache-Control: " + says, ETAG)) if number == 1 else reply(b"503 No")

    running = await frozen(serve, {"svc": [upstream(Each(answer)).url]}, CACHE_STALE_IF_ERROR_MS="30000", **ON)
    await ask(running)
    age(running, 60)
    assert (await ask(running)).status == 503


@pytest.mark.gen_test
async def test_a_stale_answer_stands_in_for_a_service_that_is_away(serve: Serve, upstream: Start) -> None:
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(fields=(FRESH, b"Connection: close")))

    up = upstream(once)
    running = await frozen(serve, {"svc": [up.url]}, CACHE_STALE_IF_ERROR_MS="30000", **ON)
    await ask(running)
    up.stop_listening()
    age(running, 60)
    lines = capture(running)
    answer = await ask(running)
    assert (answer.status, answer.body, status_of(answer)) == (200, b"ok", b"fwd=stale; detail=connect_failed")
    assert (await only_line(lines))["status"] == 200


@pytest.mark.gen_test
async def test_a_stale_answer_stands_in_for_a_service_that_is_too_slow(serve: Serve, upstream: Start) -> None:
    async def silent_later(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(fields=(FRESH + b", stale-if-error=30",)))
        await peer.request()
        await peer.ended()

    up = upstream(silent_later)
    running = await frozen(serve, {"svc": [up.url]}, HTTP_PROXY_TIMEOUT_MS="100", RETRY_ATTEMPTS="1", **ON)
    await ask(running)
    age(running, 80)
    answer = await ask(running)
    assert (answer.status, answer.body, status_of(answer)) == (200, b"ok", b"fwd=stale; detail=response_header_timeout")
    assert len(up.requests) == 2


@pytest.mark.gen_test
async def test_a_stale_answer_stands_in_for_a_service_whose_endpoints_are_all_out(
    serve: Serve, upstream: Start
) -> None:
    up, later = upstream(Origin(FRESH + b", stale-if-error=30")), b"Cache-Control: max-age=10"
    running = await frozen(serve, {"svc": [up.url]}, PANIC_PERCENT="0", **ON)
    await ask(running)
    await ask(running, path=PATH + b"/fresh")
    (endpoint,) = endpoints_of(running)
    service_of(running).set_health(endpoint, running.app.gateway.now(), up=False)
    age(running, 50)
    answer = await ask(running, later)  # fresh, but older than the client wants
    assert (answer.status, answer.body, status_of(answer)) == (200, b"answer 1", b"fwd=request; detail=circuit_open")
    age(running, 30)
    answer = await ask(running)
    assert (answer.status, answer.body, status_of(answer)) == (200, b"answer 1", b"fwd=stale; detail=circuit_open")
    age(running, 10)
    assert (await ask(running)).status == 503
    assert len(up.requests) == 2


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_the_service_is_asked_ends_the_question(serve: Serve, upstream: Start) -> None:
    async def silent_later(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(fields=(FRESH, ETAG)))
        await peer.request()
        await peer.ended()

    up = upstream(silent_later)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    await ask(running)
    age(running, 60)
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: len(up.requests) == 2)
    client.close()
    await eventually(lambda: not running.inflight)
    assert kept(running) == 1
