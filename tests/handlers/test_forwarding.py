"""How a forwarded request ends: by its client, by the gateway's stop, by a timeout; and the figures of each end.

Most of the journey is told by test_http_proxy.py. Row names such as S18 are those of the project's feature list.
"""

import asyncio
import contextlib
import math
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.endpoints import EVENT, EVENTS
from tests.support.event_streams import (
    STREAM_HEAD,
    Listener,
    chunk,
    counted,
)
from tests.support.journeys import CHUNKED, Start, ask, capture, leave, only_line, plays, problem, silent
from tests.support.sockets import Peer, Script, echo, eventually, get
from tests.support.websockets import HANDSHAKE
from tornado_gateway.policy.http.pace import CHECK_INTERVAL, WINDOW
from tornado_gateway.policy.upstream.endpoint import CLIENT_GONE, IGNORED

PATH = b"/api/svc/chat"


# ---------------------------------------------------------------- a client that leaves


@pytest.mark.parametrize("abrupt", [True, False])
@pytest.mark.parametrize("sent", [b"", b"hel", b"hello"], ids=["before its body", "in its body", "behind its body"])
@pytest.mark.gen_test
async def test_a_client_that_leaves_during_a_post_ends_it(  # S6
    serve: Serve, upstream: Start, sent: bytes, abrupt: bool
) -> None:
    up = upstream(silent)
    running = await serve({"svc": [up.url]})
    lines = capture(running)
    client = await running.client()
    await client.send(get(PATH, EVENTS, b"Content-Length: 5", method=b"POST") + sent)
    await eventually(lambda: up.requests)
    await leave(client, up, abrupt=abrupt)
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["headMs"]) == (499, "client_gone", None)
    assert (running.inflight, running.errors, counted(running)) == (0, 0, 0)


@pytest.mark.parametrize("abrupt", [True, False])
@pytest.mark.gen_test
async def test_a_client_that_leaves_a_stream_that_came_before_its_body_was_whole_ends_it(  # S6
    serve: Serve, upstream: Start, abrupt: bool
) -> None:
    async def eager(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(STREAM_HEAD + chunk(EVENT))
        await peer.ended()

    up = upstream(eager)
    running = await serve({"svc": [up.url]})
    lines = capture(running)
    listener = await Listener.ask(running, get(PATH, CHUNKED, method=b"POST") + b"5\r\nhello\r\n")
    await listener.hear(EVENT)
    await listener.client.send(b"5\r\nworld\r\n")
    await leave(listener.client, up, abrupt=abrupt)
    line = await only_line(lines)
    assert (line["status"], line["reason"]) == (200, "client_closed")
    assert (running.inflight, counted(running)) == (0, 0)


# ---------------------------------------------------------------- a gateway that waits no longer


CUT = {
    "no head": (silent, b"", 503),
    "a stream": (plays(STREAM_HEAD + chunk(EVENT)), EVENT, 200),
    "half a body": (plays(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\nhalf"), b"half", 201),
}


@pytest.mark.parametrize("case", CUT)
@pytest.mark.gen_test
async def test_a_request_that_the_gateway_cuts_off_at_its_stop_is_not_the_clients_fault(
    serve: Serve, upstream: Start, case: str
) -> None:
    script, heard, status = CUT[case]
    up = upstream(script)
    running = await serve({"svc": [up.url]})
    lines = capture(running)
    client = await running.client()
    await client.send(get(PATH))
    await client.until(heard)
    await eventually(lambda: up.requests)
    await running.app.close()
    line = await only_line(lines)
    assert (line["status"], line["reason"]) == (status, "draining")
    ((endpoint,),) = (service.endpoints for service in running.app.gateway.services.values())
    assert endpoint.outcomes[IGNORED] == 1


@pytest.mark.gen_test
async def test_streams_that_their_clients_leave_are_counted_and_dilute_the_rate_of_errors(
    serve: Serve, upstream: Start
) -> None:
    running = await serve({"svc": [upstream(plays(STREAM_HEAD + chunk(EVENT))).url]})
    for _ in range(5):
        client = await running.client()
        await client.send(get(PATH, EVENTS))
        await client.until(EVENT)
        client.close()
    await eventually(lambda: not running.inflight)
    ((endpoint,),) = (service.endpoints for service in running.app.gateway.services.values())
    assert (endpoint.requests_total, endpoint.outcomes[CLIENT_GONE]) == (5, 5)
    statuses = {key.status for key, _ in running.app.gateway.durations}
    assert statuses == {"200"}


# ---------------------------------------------------------------- REQUEST_TIMEOUT_MS


def dripping(head: bytes) -> Script:
    """A script: a head, then a byte every now and then, for ever."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head)
        while True:
            await peer.send(b"x")
            await asyncio.sleep(0.02)

    return script


def limited(up: Any, seconds: float = 0.3, **more: Any) -> dict[str, Any]:
    return {"svc": {"endpoints": [up.url], "requestTimeoutMs": int(seconds * 1000), **more}}


@pytest.mark.gen_test
async def test_a_request_without_an_answer_is_a_504_when_its_time_is_over(serve: Serve, upstream: Start) -> None:
    running = await serve(limited(upstream(silent)))
    lines = capture(running)
    answer = await ask(running, get(b"/api/svc/x"))
    problem(answer, 504, "upstream_timeout")
    assert ((await only_line(lines))["reason"], running.errors, running.inflight) == ("request_out_of_time", 1, 0)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
@pytest.mark.gen_test
async def test_an_answer_that_goes_on_for_ever_is_cut_visibly(serve: Serve, upstream: Start, head: bytes) -> None:
    running = await serve(limited(upstream(dripping(head))))
    lines = capture(running)
    answer = await (await running.client()).ask(get(b"/api/svc/x"))
    assert (answer.status, answer.complete, running.errors) == (200, False, 1)
    assert (await only_line(lines))["reason"] == "request_out_of_time"


@pytest.mark.gen_test
async def test_a_slow_upload_is_its_clients_fault(serve: Serve, upstream: Start) -> None:
    async def reads(peer: Peer) -> None:
        await peer.request_head()
        await peer.ended()

    up = upstream(reads)
    running = await serve(limited(up))
    client = await running.client()
    await client.send(get(b"/api/svc/x", b"Content-Length: 9", method=b"POST") + b"x")
    problem(await client.response(), 408, "request_timeout")
    assert (len(up.requests), running.errors, running.inflight) == (1, 0, 0)


@pytest.mark.gen_test
async def test_a_slow_reader_is_no_endpoints_fault(serve: Serve, upstream: Start) -> None:
    size = 50_000_000

    async def floods(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        with contextlib.suppress(TimeoutError):
            await peer.send(bytes(size))

    running = await serve(limited(upstream(floods)))
    lines = capture(running)
    client = await running.client(receive_buffer=4096)
    await client.send(get(b"/api/svc/x"))
    line = await only_line(lines)
    assert (line["reason"], running.errors, running.inflight) == ("client_stalled", 0, 0)
    assert not await client.ended()


@pytest.mark.gen_test
async def test_a_request_that_waits_for_room_has_no_more_time_than_others(serve: Serve, upstream: Start) -> None:
    up = upstream(silent)
    running = await serve(limited(up, maxInFlight=1, queueTimeoutMs=60000))
    first, second = await running.client(), await running.client()
    for client in (first, second):
        await client.send(get(b"/api/svc/x"))
    for client in (first, second):
        assert (await client.response()).status == 504
    assert running.inflight == 0


@pytest.mark.gen_test
async def test_streams_have_all_the_time_there_is(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD)
        await asyncio.wait_for(late.wait(), 5)
        await peer.send(chunk(b"data: late\n\n"))
        await peer.ended()

    late = asyncio.Event()
    running = await serve(limited(upstream(script), 0.1))
    asked = [await running.client(), await running.client()]
    await asked[0].send(get(b"/sse/svc/x"))
    await asked[1].send(get(b"/api/svc/x"))  # nobody knew beforehand
    for client in asked:
        assert (await client.head()).status == 200
    began = running.app.gateway.now()
    await eventually(lambda: running.app.gateway.now() > began + 0.2)
    late.set()
    for client in asked:
        await client.until(b"data: late\n\n")


@pytest.mark.parametrize(
    "request_",
    [
        get(b"/api/svc/x", b"Accept: text/event-stream"),
        get(b"/sse/svc/x", b"Accept: text/event-stream"),
        get(b"/ws/svc", *HANDSHAKE),
    ],
    ids=["accepts nothing else", "sse", "ws"],
)
@pytest.mark.gen_test
async def test_a_plain_answer_to_a_request_for_a_stream_has_no_longer_timeout(
    serve: Serve, upstream: Start, request_: bytes
) -> None:
    running = await serve(limited(upstream(dripping(b"HTTP/1.1 404 X\r\nContent-Length: 9999\r\n\r\n"))))
    lines = capture(running)
    answer = await (await running.client()).ask(request_)
    assert (answer.status, answer.complete) == (404, False)
    assert (await only_line(lines))["reason"] == "request_out_of_time"
    assert running.inflight == 0


@pytest.mark.gen_test
async def test_a_request_answered_in_time_leaves_no_timer(serve: Serve, upstream: Start) -> None:
    running = await serve(limited(upstream(echo), 60))
    assert (await ask(running, get(b"/api/svc/x"))).status == 200


@pytest.mark.parametrize(("rate", "slow"), [(100, True), (0, False)])
@pytest.mark.gen_test
async def test_each_service_has_least_rates_of_its_own(serve: Serve, upstream: Start, rate: int, slow: bool) -> None:
    async def half(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        await peer.ended()

    services = {"svc": {"endpoints": [upstream(half).url], "minResponseRate": rate, "minUploadRate": rate}}
    running = await serve(services, MIN_UPLOAD_RATE="7")
    client = await running.client()
    await client.send(get(b"/api/svc/x", b"Content-Length: 9", method=b"POST"))
    await client.until(b"\r\n\r\nx")
    (connection,) = running.app.server.connections
    (upper,) = running.app.gateway.client.active
    assert connection._exchange.min_upload_rate == rate
    now = running.app.server.context.loop.time()
    for seconds in (2 * CHECK_INTERVAL, WINDOW + 4 * CHECK_INTERVAL):  # the heartbeat has looked once
        upper.deadline = math.inf
        running.app.gateway.client.sweep(now + seconds)
    assert (upper.transport.is_closing(), running.errors) == (slow, int(slow))
    client.close()
