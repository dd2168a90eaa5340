"""A request's body, on real sockets: sent again whole, while it still comes, while it waits; and 100 Continue.

Row names such as H6 are those of the project's feature list.
"""

import asyncio
import contextlib
import random

import pytest

from tests.conftest import Serve
from tests.support.endpoints import BUSY, EVENT, EVENTS, REFUSING, Gate, always, queue, service_of, streaming
from tests.support.journeys import CHUNKED, Start, ask, capture, plays, problem, silent
from tests.support.sockets import Peer, chunked, echo, eventually, get, reply
from tornado_gateway.handlers import upload
from tornado_gateway.policy.upstream.retry import REPLAY_BYTES

PATH = b"/api/svc/x"


# ---------------------------------------------------------------- bodies that are sent again


@pytest.mark.parametrize("refuses", [True, False])
@pytest.mark.gen_test
async def test_a_body_at_hand_goes_to_the_other_endpoint_as_it_came(  # S18
    serve: Serve, upstream: Start, refuses: bool
) -> None:
    good = upstream(streaming)
    bad = REFUSING if refuses else upstream(plays(reply(b"503 No"))).url
    running = await serve({"svc": [bad, good.url]}, BALANCER="round_robin")
    body = bytes(range(256)) * (REPLAY_BYTES // 256)
    answer = await ask(running, get(PATH, EVENTS, method=b"POST", body=body))
    assert (answer.status, answer.body) == (200, EVENT)
    assert good.requests[0].body == body


@pytest.mark.gen_test
async def test_a_body_in_chunks_is_sent_again_with_its_trailers(serve: Serve, upstream: Start) -> None:
    good = upstream(echo)
    running = await serve(
        {"svc": [upstream(always(BUSY)).url, good.url]}, RETRY_ON="503", RETRY_BACKOFF_MS="0", BALANCER="round_robin"
    )
    body = chunked(b"hel", b"lo")[:-2] + b"X-Sum: 7\r\n\r\n"
    assert (await ask(running, get(PATH, CHUNKED, method=b"PUT") + body)).status == 200
    assert (good.requests[0].body, good.requests[0].trailers) == (b"hello", [(b"X-Sum", b"7")])


@pytest.mark.gen_test
async def test_a_body_in_chunks_goes_to_the_other_endpoint_with_its_trailers(serve: Serve, upstream: Start) -> None:
    good = upstream(streaming)
    running = await serve({"svc": [upstream(plays(reply(b"503 No"))).url, good.url]}, BALANCER="round_robin")
    body = chunked(b"hel", b"lo")[:-2] + b"X-Sum: 7\r\n\r\n"
    answer = await ask(running, get(PATH, EVENTS, CHUNKED, method=b"POST") + body)
    assert (answer.status, good.requests[0].body, good.requests[0].trailers) == (200, b"hello", [(b"X-Sum", b"7")])


# ---------------------------------------------------------------- bodies that still come


async def refuses_at_once(peer: Peer) -> None:
    await peer.request_head()
    await peer.send(reply(b"503 No", body=b"busy"))
    await peer.ended()


async def refuses_in_the_end(peer: Peer) -> None:
    await peer.request()
    await peer.send(reply(b"503 No", body=b"busy"))
    await peer.ended()


@pytest.mark.gen_test
async def test_an_upload_goes_on_to_the_other_endpoint(serve: Serve, upstream: Start) -> None:  # S18
    bad, good = upstream(refuses_at_once), upstream(streaming)
    running = await serve({"svc": [bad.url, good.url]}, BALANCER="round_robin")
    client = await running.client()
    await client.send(get(PATH, EVENTS, b"Content-Length: 10", method=b"POST") + b"first")
    await eventually(lambda: good.open)
    await client.send(b"other")
    answer = await client.response()
    assert (answer.status, answer.body, good.requests[0].body) == (200, EVENT, b"firstother")


@pytest.mark.gen_test
async def test_a_body_that_is_still_coming_goes_on_to_the_other_endpoint(serve: Serve, upstream: Start) -> None:
    async def at_once(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(BUSY)
        await peer.ended()

    bad, good = upstream(at_once), upstream(echo)
    running = await serve({"svc": [bad.url, good.url]}, RETRY_ON="503", RETRY_BACKOFF_MS="50", BALANCER="round_robin")
    client = await running.client()
    await client.send(get(PATH, b"Content-Length: 10", method=b"PUT") + b"first")
    await eventually(lambda: running.errors)
    await client.send(b"other")  # some of it while nobody is asked
    assert (await client.response()).status == 200
    assert good.requests[0].body == b"firstother"


# ---------------------------------------------------------------- bodies that are too large to keep


@pytest.mark.gen_test
async def test_a_body_too_large_to_keep_goes_nowhere_else(serve: Serve, upstream: Start) -> None:  # S18
    good = upstream(streaming)
    running = await serve({"svc": [upstream(refuses_in_the_end).url, good.url]}, BALANCER="round_robin")
    answer = await ask(running, get(PATH, EVENTS, method=b"POST", body=b"a" * (4 * REPLAY_BYTES)))
    assert (answer.status, answer.body, good.accepted) == (503, b"busy", 0)


@pytest.mark.gen_test
async def test_a_body_too_large_to_keep_is_not_sent_twice(serve: Serve, upstream: Start) -> None:  # H20
    async def reads_then_resets(peer: Peer) -> None:
        await peer.request_head()
        await peer.exactly(300_000)
        peer.reset()

    bad, good = upstream(reads_then_resets), upstream(echo)
    running = await serve({"svc": {"endpoints": [bad.url, good.url], "balancer": "round_robin"}})
    client = await running.client()
    await client.send(get(PATH, b"Content-Length: 400000", method=b"PUT"))
    await client.send(b"a" * 400_000)
    assert (await client.response()).status == 502
    assert good.requests == []


# ---------------------------------------------------------------- kept connections that end


class Restless:
    """A service that closes kept connections at random instants.

    Attributes:
        carried_out: bodies of the requests that the service has read, in order.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.carried_out: list[bytes] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.head()
            await peer.body(request)
            self.carried_out.append(request.body)
            await peer.send(reply(body=request.body[:9]))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rng.uniform(0.0, 0.003)):
                    await peer.more()
                continue
            peer.shut()
            return


@pytest.mark.parametrize("size", [9, 2 * REPLAY_BYTES])
@pytest.mark.gen_test
async def test_no_post_is_carried_out_twice_when_kept_connections_end_at_any_moment(
    serve: Serve, upstream: Start, size: int
) -> None:
    rng = random.Random(7)
    service = Restless(rng)
    running = await serve({"svc": [upstream(service).url]})
    client = await running.client()
    answered = []
    for number in range(150):
        body = (b"%09d" % number).ljust(size, b".")
        answer = await client.ask(get(PATH, method=b"POST", body=body), b"POST")
        answered += [body] if answer.status == 200 else []
        await asyncio.sleep(rng.uniform(0.0, 0.003))
    assert len(set(service.carried_out)) == len(service.carried_out)
    assert set(answered) <= set(service.carried_out)
    assert answered  # not all: a service that closes with the request unread resets the connection


@pytest.mark.parametrize("size", [9, 2 * REPLAY_BYTES])
@pytest.mark.gen_test
async def test_a_post_behind_the_services_fin_goes_over_a_new_connection(
    serve: Serve, upstream: Start, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    assert (await ask(running, get(PATH))).status == 200

    def ends_after_the_look(*_: object, **__: object) -> bool:
        up.peers[0].shut()
        return False

    monkeypatch.setattr("tornado_gateway.wire.client.exchange.has_ended", ends_after_the_look)
    body = b"a" * size
    answer = await ask(running, get(PATH, method=b"POST", body=body))
    assert (answer.status, up.requests[-1].body, len(up.requests), up.accepted) == (200, body, 2, 2)


# ---------------------------------------------------------------- bodies that wait for room


@pytest.mark.parametrize("is_chunked", [True, False])
@pytest.mark.parametrize("method", [b"POST", b"PUT"])
@pytest.mark.gen_test
async def test_a_large_body_that_waits_is_neither_lost_nor_doubled(
    serve: Serve, upstream: Start, is_chunked: bool, method: bytes
) -> None:
    gate = Gate()
    up = upstream(gate)
    running = await serve({"svc": [up.url]}, MAX_IN_FLIGHT="1", QUEUE_TIMEOUT_MS="5000")
    (first,) = await queue(running, b"/1")
    body = b"".join(b"%015d\n" % number for number in range(64 * 1024))  # 1 MiB
    client = await running.client()
    if is_chunked:
        request = get(b"/api/svc/2", CHUNKED, method=method) + chunked(body[:70_000], body[70_000:])
    else:
        request = get(b"/api/svc/2", method=method, body=body)
    sending = asyncio.ensure_future(client.send(request))
    await eventually(lambda: service_of(running).waiting == 1)
    await gate.open()
    assert (await first.response()).status == 200
    await gate.open()
    await sending
    assert (await client.response()).status == 200
    assert [request.target for request in up.requests] == [b"/1", b"/2"]
    assert up.requests[1].body == body


@pytest.mark.gen_test
async def test_no_more_of_a_body_is_taken_than_can_wait(serve: Serve, upstream: Start) -> None:
    gate = Gate()
    running = await serve({"svc": [upstream(gate).url]}, MAX_IN_FLIGHT="1", QUEUE_TIMEOUT_MS="200")
    (first,) = await queue(running, b"/1")
    lines = capture(running)
    client = await running.client()
    sending = asyncio.ensure_future(client.send(get(PATH, method=b"PUT", body=b"a" * (64 * 1024 * 1024))))
    assert (await client.response()).status == 503
    sending.cancel()
    await asyncio.wait({sending})
    client.close()
    await eventually(lines)
    assert 0 < lines()[0]["bytesIn"] <= 8 * REPLAY_BYTES
    await gate.open()
    assert (await first.response()).status == 200


# ---------------------------------------------------------------- Expect: 100-continue


@pytest.mark.gen_test
async def test_100_continue_comes_from_the_upstream(serve: Serve, upstream: Start) -> None:  # H6
    async def script(peer: Peer) -> None:
        message = await peer.request_head()
        assert message.get(b"expect") == b"100-continue"
        assert peer.buffer == b""
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.body(message)
        await peer.send(reply(body=message.body))
        await peer.ended()

    running = await serve({"svc": [upstream(script).url]})
    client = await running.client()
    await client.send(get(PATH, b"Expect: 100-continue", b"Content-Length: 5", method=b"POST"))
    assert (await client.head()).status == 100
    await client.send(b"hello")
    assert (await client.response()).body == b"hello"


@pytest.mark.gen_test
async def test_100_continue_comes_from_the_gateway_if_the_upstream_does_not_know_it(
    serve: Serve, upstream: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CONTINUE_AFTER", 0.01)
    running = await serve({"svc": [upstream(echo).url]})
    client = await running.client()
    await client.send(get(PATH, b"Expect: 100-continue", b"Content-Length: 5", method=b"POST"))
    assert (await client.head()).status == 100
    await client.send(b"hello")
    assert (await client.response()).status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(b"/api/none/x", b"Expect: 100-continue", b"Content-Length: 5", method=b"POST"), 404),
        (get(PATH, b"Expect: magic", b"Content-Length: 5", method=b"POST"), 417),
    ],
)
@pytest.mark.gen_test
async def test_a_refused_request_gets_no_100_continue(
    serve: Serve, upstream: Start, request_: bytes, status: int
) -> None:
    running = await serve({"svc": [upstream(echo).url]})
    answer = await ask(running, request_)
    assert (answer.status, answer.interim) == (status, [])


@pytest.mark.gen_test
async def test_a_request_without_a_token_gets_no_100_continue(serve: Serve, upstream: Start) -> None:  # H6
    secret = "k" * 32
    up = upstream(silent)
    running = await serve({"svc": [up.url]}, AUTH_REQUIRED="true", JWT_SECRET=secret)
    asking = get(
        b"/api/svc/x", b"Expect: 100-continue", b"Content-Length: 5", b"Authorization: Bearer x", method=b"POST"
    )
    answer = await ask(running, asking)
    problem(answer, 401, "unauthorized")
    assert (answer.interim, answer.get(b"www-authenticate")) == (
        [], b'Bearer realm="gateway", error="invalid_token"',
    )  # fmt: skip
    assert up.accepted == 0
