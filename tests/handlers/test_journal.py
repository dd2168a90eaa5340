"""The record of a request: once, with the same figures in the histogram and in the access log."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import Running, Serve
from tests.support.event_streams import Listener, Source
from tests.support.journeys import Start, ask, capture, only_line
from tests.support.sockets import eventually, get
from tests.support.websockets import HANDSHAKE, Acceptor
from tornado_gateway.adapters.access_log import AccessRecord
from tornado_gateway.handlers.journal import Frames, Journal
from tornado_gateway.policy.http.address import of_peer
from tornado_gateway.policy.views.durations import Key

SERVICES = {"svc": ["http://127.0.0.1:1"]}


async def journal(serve: Serve) -> tuple[Running, Journal, Any]:
    """A journal of a request that waits for its body, and the lines of its gateway."""
    running = await serve(SERVICES)
    lines = capture(running)
    client = await running.client()
    await client.send(get(b"/healthz?secret", b"x-request-id: mine", b"Content-Length: 1", method=b"POST"))
    await eventually(lambda: [each for each in running.app.server.connections if each._exchange])
    (connection,) = running.app.server.connections
    assert connection._exchange
    return running, Journal(running.app.gateway, connection._exchange, "/a"), lines


@pytest.mark.gen_test
async def test_a_request_is_told_of_once(serve: Serve) -> None:
    running, each, lines = await journal(serve)
    each.service = "svc"
    each.client = of_peer("192.0.2.7")
    for status in (502, 200):
        each.close(status, "oh", each.began + 0.25, sent=200, endpoint="http://e", attempts=2, bytes_in=3)
    assert each.is_closed
    ((key, histogram),) = running.app.gateway.durations
    assert (key, histogram.total) == (Key("POST", "/a", "502", "svc", False), 0.25)
    line = await only_line(lines)
    del line["time"]
    assert line == {
        "level": "info", "type": "access", "requestId": "mine", "traceId": "", "method": "POST", "path": "/healthz",
        "service": "svc", "endpoint": "http://e", "status": 200, "reason": "oh", "attempts": 2, "bytesIn": 3,
        "bytesOut": 0, "headMs": None, "totalMs": 250.0, "client": "192.0.2.7",
    }  # fmt: skip


@pytest.mark.parametrize(("head_seconds", "counted"), [(0.125, 0.125), (None, 0.0)])
@pytest.mark.gen_test
async def test_a_streams_duration_is_that_to_its_head(serve: Serve, head_seconds: float | None, counted: float) -> None:
    running, each, lines = await journal(serve)
    each.head_seconds, each.is_stream = head_seconds, True
    each.close(200, "", each.began + 60)
    ((_, histogram),) = running.app.gateway.durations
    assert histogram.total == counted
    assert (await only_line(lines))["totalMs"] == 60_000.0


@pytest.mark.gen_test
async def test_without_an_access_log_durations_are_counted(serve: Serve) -> None:
    running, each, lines = await journal(serve)
    object.__setattr__(running.app.gateway, "access_log", None)
    each.close(200, "", each.began)
    assert [key for key, _ in running.app.gateway.durations] == [Key("POST", "/a", "200", "", False)]
    await asyncio.sleep(0.01)
    assert lines() == []


@pytest.mark.gen_test
async def test_a_refusal_before_origination_names_the_client_that_proxies_name(serve: Serve) -> None:
    running = await serve(SERVICES, TRUSTED_PROXIES="127.0.0.0/8")
    lines = capture(running)
    for target, method in ((b"/api/svc/x", b"TRACE"), (b"/healthz", b"POST"), (b"/sse/svc/x", b"POST")):
        await ask(running, get(target, b"X-Forwarded-For: 192.0.2.7", method=method))
    await eventually(lambda: len(lines()) == 3)
    assert [(line["status"], line["client"]) for line in lines()] == [(405, "192.0.2.7")] * 3


@pytest.mark.parametrize("target", [b"/healthz", b"/nowhere", b"/api/svc/x", b"/api/none/x", b"/api/svc/../../x"])
@pytest.mark.gen_test
async def test_every_line_has_the_trace_of_the_request(serve: Serve, target: bytes) -> None:
    running = await serve(SERVICES)
    lines = capture(running)
    await ask(running, get(target, b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
    assert (await only_line(lines))["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("is_stream", "has_all", "levels"),
    [(False, True, ["info", "warn"]), (False, False, ["warn"]), (True, True, ["info", "info"]), (True, False, [])],
)
@pytest.mark.gen_test
async def test_a_request_is_slow_from_a_time_on_and_a_stream_by_the_time_to_its_head(
    serve: Serve, is_stream: bool, has_all: bool, levels: list[str]
) -> None:
    running, one, _ = await journal(serve)
    other = Journal(running.app.gateway, one.exchange, "/a")
    lines = capture(running, slow=2.0, has_all=has_all)
    for each, seconds in ((one, 1.999), (other, 2.001)):
        each.head_seconds, each.is_stream = 0.1, is_stream
        each.close(200, "", each.began + seconds)
    await eventually(lambda: [line["level"] for line in lines()] == levels)


@pytest.mark.parametrize("has_openings", [True, False])
@pytest.mark.gen_test
async def test_a_stream_is_told_of_when_it_begins_if_wanted(serve: Serve, upstream: Start, has_openings: bool) -> None:
    source, acceptor = Source(), Acceptor()
    running = await serve({"sse": [upstream(source).url], "ws": [upstream(acceptor).url]})
    lines = capture(running, has_openings=has_openings)
    listener = await Listener.ask(running, get(b"/sse/sse/events", b"x-request-id: one"))
    client = await running.client()
    await client.send(get(b"/ws/ws/chat", *HANDSHAKE, b"x-request-id: two"))
    assert (await client.head()).status == 101
    await eventually(lambda: len(lines()) == (2 if has_openings else 0))
    seen = [(line["type"], line["requestId"], line["service"], line["status"], line["attempts"]) for line in lines()]
    opened = [("stream_open", "one", "sse", 200, 1), ("stream_open", "two", "ws", 101, 1)]
    assert seen == (opened if has_openings else [])
    for each in (listener.client, client, acceptor.sides[0].connection):
        each.close()
    await eventually(lambda: [line["type"] for line in lines()].count("access") == 2)
    assert len(lines()) == (4 if has_openings else 2)


def test_frames_take_the_place_of_a_bodys_figures() -> None:
    record = AccessRecord(b"id", b"GET", b"/", "svc", "http://e", 101, "", 1, 0, 0, 0.1, 2.0, of_peer("192.0.2.7"))
    frames = Frames(bytes_in=1, bytes_out=2, messages_in=3, messages_out=4, close_code=1000)
    assert frames.put_into(record) == replace(
        record, bytes_in=1, bytes_out=2, messages_in=3, messages_out=4, close_code=1000
    )
