"""An answer that is an event stream: when the answer counts as a stream, and when it is refused.

What a stream becomes is told by test_event_stream.py. Row names such as S18 are those of the project's feature list.
"""

import asyncio
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.endpoints import EVENT, EVENTS
from tests.support.event_streams import (
    LAST_CHUNK,
    STREAM_HEAD,
    Listener,
    Source,
    counted,
    let_pass,
    opened,
    stream_head,
)
from tests.support.journeys import Start, ask, capture, only_line, problem
from tests.support.sockets import Peer, echo, eventually, get
from tornado_gateway.handlers.http_forwarding import HttpForwarding
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead

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
async def test_a_stream_above_the_limit_is_refused_when_the_answer_begins(  # S20, S21
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
async def test_a_request_for_nothing_but_a_stream_is_refused_before_the_service_is_asked(
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
        if ending == "leaves":
            listener.client.close()
        elif ending == "is served":
            await source.end()
        else:
            await source.fail()
        await eventually(lambda: counted(running) == 0)
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


# ---------------------------------------------------------------- a tee


class Tee:
    """Keeps a copy of a body: the BodyReceiver that the source knows, and the BodySource that the receiver knows."""

    def __init__(self, source: BodySource) -> None:
        self._source = source
        self.receiver: BodyReceiver | None = None
        self.copy = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def hand_to(self, receiver: BodyReceiver) -> None:
        self.receiver = receiver

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        self.copy += chunk
        return self.receiver.on_chunk(chunk) if self.receiver else None

    def on_end(self, trailers: list[Field]) -> None:
        assert self.receiver
        self.receiver.on_end(trailers)


@pytest.mark.parametrize("variables", [{}, {"SSE_PEEK_MS": "1000"}])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.gen_test
async def test_a_tee_keeps_a_copy_of_a_stream_that_is_handed_over(
    serve: Serve, upstream: Start, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], mark: bytes
) -> None:
    tees: list[Tee] = []
    on_head = HttpForwarding.on_head

    def teed(forwarding: HttpForwarding, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        tees.append(tee := Tee(source))
        tee.receiver = on_head(forwarding, head, tee) or tee.receiver
        return tee

    monkeypatch.setattr(HttpForwarding, "on_head", teed)
    source = Source()
    running = await serve({"svc": [upstream(source).url, upstream(Source()).url]}, BALANCER="round_robin", **variables)
    listener = await Listener.ask(running, get(PATH))
    await source.say(mark + EVENT)
    await source.say(EVENT)
    await source.end()
    await listener.all()
    assert tees[0].copy == mark + EVENT + EVENT
