"""What every proxied route shares, where a request turns into a stream: when it is counted and refused.

Most of the journey is told by test_http_proxy.py; what a stream becomes, by test_event_stream.py. Row names such as
S18 are those of the project's feature list.
"""

import asyncio
import contextlib
import math
import time
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.endpoints import EVENT, EVENTS, SOON
from tests.support.event_streams import (
    LAST_CHUNK,
    STREAM_HEAD,
    Listener,
    Source,
    chunk,
    counted,
    let_pass,
    opened,
    stream_head,
)
from tests.support.journeys import CHUNKED, Start, ask, capture, leave, only_line, plays, problem, silent
from tests.support.sockets import Peer, Script, echo, eventually, get
from tests.support.websockets import HANDSHAKE
from tornado_gateway.policy.http.pace import LOOK_EVERY, WINDOW
from tornado_gateway.policy.upstream.endpoint import CLIENT_GONE, IGNORED

PATH = b"/api/svc/chat"


# ---------------------------------------------------------------- counted as a stream


@pytest.mark.parametrize(
    ("variable", "status", "code", "reason"),
    [
        ("MAX_STREAMS", 503, "overloaded", "stream_limit"),
        ("MAX_STREAMS_PER_SERVICE", 503, "overloaded", "stream_limit"),
        ("MAX_STREAMS_PER_CLIENT", 429, "rate_limited", "client_stream_limit"),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.gen_test
async def test_an_answer_that_is_one_stream_too_many_is_refused(  # S20, S21
    serve: Serve, upstream: Start, variable: str, status: int, code: str, reason: str, method: bytes
) -> None:
    source = Source()
    up = upstream(source)
    running = await serve({"svc": [up.url]}, **{variable: "1"})
    lines = capture(running)
    first = await Listener.ask(running, get(b"/sse/svc/x"))
    answer = await ask(running, get(PATH, method=method, body=b"hello"))
    problem(answer, status, code)
    assert int(answer.get(b"retry-after") or b"") >= 1
    await (await source.peer()).ended()  # the service is not left alone with a stream for nobody
    assert (counted(running), running.inflight, running.errors) == (1, 1, 0)
    await eventually(lines)
    assert (lines()[0]["status"], lines()[0]["reason"]) == (status, reason)
    source.peers.pop()
    await source.say(EVENT)
    await first.hear(EVENT)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.gen_test
async def test_who_asks_for_a_stream_alone_is_refused_before_the_service_is_asked(
    serve: Serve, upstream: Start, method: bytes
) -> None:  # S21
    source = Source()
    up = upstream(source)
    running = await serve({"svc": [up.url]}, MAX_STREAMS="1")
    await Listener.ask(running, get(b"/sse/svc/x"))
    problem(await ask(running, get(PATH, EVENTS, method=method, body=b"hello")), 503, "overloaded")
    assert (len(up.requests), counted(running)) == (1, 1)


@pytest.mark.gen_test
async def test_a_place_that_was_taken_for_a_stream_is_free_when_the_answer_is_none(
    serve: Serve, upstream: Start
) -> None:  # S21
    async def slowly(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        await peer.ended()

    running = await serve({"svc": [upstream(slowly).url]}, MAX_STREAMS="1")
    client = await running.client()
    await client.send(get(PATH, EVENTS))
    await client.until(b"\r\n\r\nhe")
    assert counted(running) == 0


@pytest.mark.gen_test
async def test_an_answer_that_is_no_stream_takes_no_place(serve: Serve, upstream: Start) -> None:  # S21
    source = Source()
    running = await serve({"svc": [upstream(source).url], "plain": [upstream(echo).url]}, MAX_STREAMS="1")
    await Listener.ask(running, get(PATH))
    await opened(running)
    for method in (b"GET", b"POST"):
        answer = await ask(running, get(b"/api/plain/x", method=method, body=b"hello"))
        assert (answer.status, answer.body) == (200, b"ok")
    assert counted(running) == 1


@pytest.mark.parametrize("ending", ["leaves", "is served", "sees it break"])
@pytest.mark.gen_test
async def test_a_place_is_free_as_soon_as_an_answer_has_ended(
    serve: Serve, upstream: Start, ending: str
) -> None:  # S21
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, MAX_STREAMS_PER_CLIENT="1")
    for _ in range(2):
        listener = await Listener.ask(running, get(PATH, method=b"POST", body=b"hello"))
        assert (listener.head.status, counted(running)) == (200, 1)
        begun = time.monotonic()
        if ending == "leaves":
            listener.client.close()
        elif ending == "is served":
            await source.end()
        else:
            await source.fail()
        await eventually(lambda: counted(running) == 0)
        assert time.monotonic() - begun < SOON
    assert running.app.gateway.streams.counts.clients == {}


@pytest.mark.gen_test
async def test_a_stream_that_was_asked_for_before_the_gateway_will_stop_begins(  # S12
    serve: Serve, upstream: Start
) -> None:
    async def late(peer: Peer) -> None:
        await peer.request()
        await asyncio.wait_for(asked.wait(), 5)
        await peer.send(STREAM_HEAD)
        await peer.ended()

    asked = asyncio.Event()
    up = upstream(late)
    running = await serve({"svc": [up.url]}, SHUTDOWN_DELAY_MS="60000")
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: up.requests)
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.gateway.lifecycle.draining)
    asked.set()
    assert (await client.head()).status == 200
    assert (counted(running), running.inflight, running.errors) == (1, 1, 0)
    running.app.gateway.streams.drain(0.0, 0.0)
    running.app.heartbeat.sweep()
    await client.until(LAST_CHUNK)
    await eventually(lambda: up.open == 0)
    assert (counted(running), running.inflight, running.errors) == (0, 0, 0)
    draining.cancel()


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
async def test_what_the_gateway_cuts_off_at_its_end_is_not_laid_to_the_client(
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
    statuses = {key[2] for key, _ in running.app.gateway.durations}
    assert statuses == {200}


# ---------------------------------------------------------------- what a stream is to the rest of the gateway


@pytest.mark.parametrize(
    ("content_type", "is_stream"),
    [
        (b"text/event-stream", True),
        (b"Text/Event-Stream ;charset=utf-8", True),
        (b"text/event-streams", False),
        (b"application/json; profile=text/event-stream", False),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"QUERY"])
@pytest.mark.gen_test
async def test_the_type_of_an_answer_makes_it_a_stream(  # S20, H14
    serve: Serve, upstream: Start, content_type: bytes, is_stream: bool, method: bytes
) -> None:
    source = Source(STREAM_HEAD.replace(b"text/event-stream", content_type))
    running = await serve({"svc": [upstream(source).url]}, HTTP_PROXY_TIMEOUT_MS="1000")
    listener = await Listener.ask(running, get(PATH, method=method, body=b'{"stream":true}'))
    assert counted(running) == is_stream
    assert listener.head.all(b"x-accel-buffering") == [b"no"] * is_stream
    let_pass(running, 100)  # longer than other answers may pause
    await (listener.hear(b":\n") if is_stream else listener.all())
    assert listener.end == ("" if is_stream else "reset")


@pytest.mark.parametrize("route", [b"/api", b"/sse"])
@pytest.mark.gen_test
async def test_a_streams_latency_is_the_time_to_its_head(serve: Serve, upstream: Start, route: bytes) -> None:  # O2
    source = Source()
    running = await serve({"svc": [upstream(source).url]})
    lines = capture(running)
    listener = await Listener.ask(running, get(route + b"/svc/x"))
    await asyncio.sleep(0.1)  # the stream lasts
    await source.say(EVENT, EVENT)
    await source.end()
    await listener.all()
    (endpoint,) = running.app.gateway.services[b"svc"].endpoints
    assert (endpoint.requests_total, endpoint.errors_total) == (1, 0)
    line = await only_line(lines)
    assert line["headMs"] <= line["totalMs"] - 98  # 2 ms for clocks that tick and figures that are rounded
    assert 0 < endpoint.latency.last <= line["totalMs"] / 1000 - 0.098
    assert (line["status"], line["reason"], line["bytesOut"]) == (200, "", 2 * len(EVENT))


@pytest.mark.gen_test
async def test_an_upstreams_fields_pass_with_a_stream(serve: Serve, upstream: Start) -> None:
    lines = (b"Set-Cookie: a", b"X-oDD: 1", b"Set-Cookie: b", b"Date: Mon, 01 Jan 2024 00:00:00 GMT")
    source = Source(stream_head(*lines, b"Connection: x-hop", b"X-Hop: 1", b"Keep-Alive: timeout=5"))
    running = await serve({"svc": [upstream(source).url]})
    listener = await Listener.ask(running, get(PATH, b"x-request-id: mine"))
    seen = [b"%b: %b" % field for field in listener.head.fields]
    assert [line for line in seen if line in lines] == list(lines)
    assert listener.head.all(b"x-hop") + listener.head.all(b"keep-alive") == []
    assert listener.head.get(b"x-request-id") == b"mine"


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
async def test_who_asks_for_a_stream_and_gets_none_has_no_more_time_than_others(
    serve: Serve, upstream: Start, request_: bytes
) -> None:
    running = await serve(limited(upstream(dripping(b"HTTP/1.1 404 X\r\nContent-Length: 9999\r\n\r\n"))))
    lines = capture(running)
    answer = await (await running.client()).ask(request_)
    assert (answer.status, answer.complete) == (404, False)
    assert (await only_line(lines))["reason"] == "request_out_of_time"
    assert running.inflight == 0


@pytest.mark.gen_test
async def test_what_is_answered_in_time_leaves_no_timer_behind(serve: Serve, upstream: Start) -> None:
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
    for seconds in (2 * LOOK_EVERY, WINDOW + 4 * LOOK_EVERY):  # the heartbeat has looked once
        upper.deadline = math.inf
        running.app.gateway.client.sweep(now + seconds)
    assert (upper.transport.is_closing(), running.errors) == (slow, int(slow))
    client.close()
