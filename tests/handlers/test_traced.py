"""Traces: which spans a request has, what endpoints and logs learn of the trace, and what other requests never see."""

import pytest

from tests.conftest import Serve
from tests.handlers.test_hedge import know
from tests.support.collectors import CLIENT, INTERNAL, SERVER, Collector, flushed, tracer_of
from tests.support.endpoints import Gate, always, named
from tests.support.event_streams import Listener, Source
from tests.support.journeys import Start, ask, capture, only_line, plays
from tests.support.sockets import Message, eventually, get, reply
from tests.support.websockets import HANDSHAKE, Acceptor

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-01".encode()
UNSAMPLED = SAMPLED[:-2] + b"00"
STATE = b"tracestate: rojo=00f067aa0ba902b7"


def trace_fields(message: Message) -> list[bytes]:
    return [value for name, value in message.fields if name.lower() == b"traceparent"]


@pytest.mark.gen_test
async def test_a_request_has_a_server_span_and_a_client_span(serve: Serve, upstream: Start) -> None:
    collector, service = Collector(upstream), upstream(named(b"a"))
    running = await serve({"svc": [service.url]}, OTEL_SERVICE_NAME="edge", **collector.environment)
    lines = capture(running)
    await ask(running, get(b"/api/svc/a/b?token=secret", SAMPLED, STATE, host=b"shop.example:8443"))
    server, client = await flushed(running, collector)
    assert (server.name, server.kind, server.trace_id) == ("GET /api/<service>/*", SERVER, TRACE)
    assert (server.parent_id, server.is_error, server.resource["service.name"]) == (PARENT, False, "edge")
    line = await only_line(lines)
    assert line["traceId"] == TRACE
    assert server.attributes == {
        "http.request.method": "GET", "url.scheme": "http", "url.path": "/api/svc/a/b",
        "http.route": "/api/<service>/*", "network.protocol.version": "1.1", "http.response.status_code": 200,
        "gateway.service": "svc", "client.address": "127.0.0.1", "gateway.request_id": line["requestId"],
        "server.address": "shop.example", "server.port": 8443,
    }  # fmt: skip
    assert (client.name, client.kind, client.trace_id, client.parent_id) == ("GET", CLIENT, TRACE, server.span_id)
    assert client.attributes == {
        "http.request.method": "GET", "network.protocol.version": "1.1", "server.address": "127.0.0.1",
        "server.port": service.port, "url.full": service.url, "http.response.status_code": 200,
    }  # fmt: skip
    assert server.start <= client.start <= client.end <= server.end
    (received,) = service.requests
    assert trace_fields(received) == [f"00-{TRACE}-{client.span_id}-01".encode()]
    assert received.get(b"tracestate") == STATE.partition(b" ")[2]


@pytest.mark.gen_test
async def test_a_trace_that_the_client_does_not_record_passes_unchanged(serve: Serve, upstream: Start) -> None:
    collector, service = Collector(upstream), upstream(named(b"a"))
    running = await serve({"svc": [service.url]}, **collector.environment)
    lines = capture(running)
    await ask(running, get(b"/api/svc/", UNSAMPLED, STATE))
    assert (await only_line(lines))["traceId"] == TRACE
    assert await flushed(running, collector) == []
    assert trace_fields(service.requests[0]) == [UNSAMPLED.partition(b" ")[2]]


@pytest.mark.parametrize("own", [(), (b"traceparent: 00-1-2-01", STATE), (SAMPLED, SAMPLED, STATE), (STATE,)])
@pytest.mark.parametrize(("share", "flags"), [("0", b"00"), ("1", b"01")])
@pytest.mark.gen_test
async def test_without_a_valid_traceparent_a_trace_begins(
    serve: Serve, upstream: Start, own: tuple[bytes, ...], share: str, flags: bytes
) -> None:
    collector, service = Collector(upstream), upstream(named(b"a"))
    running = await serve({"svc": [service.url]}, **{**collector.environment, "TRACE_SAMPLE": share})
    lines = capture(running)
    await ask(running, get(b"/api/svc/", *own))
    spans = await flushed(running, collector)
    (received,) = service.requests
    (parent,) = trace_fields(received)
    _, trace, span, flag = parent.split(b"-")
    assert (flag, received.get(b"tracestate")) == (flags, None)
    assert (await only_line(lines))["traceId"] == trace.decode() != TRACE
    assert [each.trace_id for each in spans] == [trace.decode()] * (2 if share == "1" else 0)
    assert not spans or (spans[1].span_id == span.decode() and not spans[0].parent_id)


@pytest.mark.gen_test
async def test_each_attempt_has_a_span_of_its_own(serve: Serve, upstream: Start) -> None:
    collector = Collector(upstream)
    bad, good = upstream(always(reply(b"503 Busy", (), b"no"))), upstream(named(b"a"))
    running = await serve(
        {"svc": ["http://127.0.0.1:1", bad.url, good.url]}, BALANCER="round_robin", RETRY_ON="connect,503",
        RETRY_BACKOFF_MS="1", RETRY_ATTEMPTS="3", **collector.environment,
    )  # fmt: skip
    answer = await ask(running, get(b"/api/svc/", SAMPLED))
    assert answer.status == 200
    server, first, second, third = await flushed(running, collector)
    assert (server.attributes["http.response.status_code"], server.is_error) == (200, False)
    assert [each.attributes.get("error.type") for each in (first, second, third)] == ["connect_failed", "503", None]
    assert [each.is_error for each in (first, second, third)] == [True, True, False]
    assert [each.attributes.get("http.request.resend_count") for each in (first, second, third)] == [None, 1, 2]
    for received, span in ((bad.requests[0], second), (good.requests[0], third)):
        assert trace_fields(received) == [f"00-{TRACE}-{span.span_id}-01".encode()]


@pytest.mark.gen_test
async def test_a_failure_is_told_by_its_reason(serve: Serve, upstream: Start) -> None:
    collector = Collector(upstream)
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **collector.environment)
    answer = await ask(running, get(b"/api/svc/", SAMPLED))
    server, client = await flushed(running, collector)
    assert (answer.status, server.attributes["http.response.status_code"]) == (502, 502)
    assert (server.attributes["error.type"], server.is_error) == ("connect_failed", True)
    assert (client.attributes["error.type"], client.is_error) == ("connect_failed", True)


@pytest.mark.gen_test
async def test_a_broken_body_is_the_endpoints_failure(serve: Serve, upstream: Start) -> None:
    cut = plays(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", then="close")
    collector, service = Collector(upstream), upstream(cut)
    running = await serve({"svc": [service.url]}, **collector.environment)
    client = await running.client()
    await client.send(get(b"/api/svc/", SAMPLED))
    await client.ended()
    server, call = await flushed(running, collector)
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["error.type"] == call.attributes["error.type"] != "200"
    assert server.is_error and call.is_error


@pytest.mark.gen_test
async def test_a_refused_request_has_a_server_span_alone(serve: Serve, upstream: Start) -> None:
    collector, service = Collector(upstream), upstream(named(b"a"))
    running = await serve({"svc": [service.url]}, **collector.environment)
    lines = capture(running)
    assert (await ask(running, get(b"/api/nobody/", SAMPLED))).status == 404
    (server,) = await flushed(running, collector)
    assert server.attributes["error.type"] == (await only_line(lines))["reason"]
    assert not server.is_error  # the client's error


@pytest.mark.gen_test
async def test_pages_of_the_gateway_are_not_traced(serve: Serve, upstream: Start) -> None:
    collector = Collector(upstream)
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **collector.environment)
    for page in (b"/healthz", b"/metrics", b"/admin/stats", b"/nothing"):
        await ask(running, get(page, SAMPLED))
    assert await flushed(running, collector) == []


@pytest.mark.gen_test
async def test_an_event_streams_beginning_and_end_are_told(serve: Serve, upstream: Start) -> None:
    collector, source = Collector(upstream), Source()
    service = upstream(source)
    running = await serve({"svc": [service.url]}, **collector.environment)
    listener = await Listener.ask(running, get(b"/sse/svc/events", SAMPLED))
    await eventually(lambda: tracer_of(running).waiting == 2 or len(collector.spans) == 2)
    await source.say(b"data: hello\n\n")
    await listener.hear(b"data: hello\n\n")
    listener.client.close()
    await eventually(lambda: running.inflight == 0)
    server, client, stream = await flushed(running, collector)
    assert (server.kind, client.kind, stream.kind) == (SERVER, CLIENT, INTERNAL)
    assert stream.name.startswith("stream /")
    assert (stream.parent_id, stream.links) == (server.span_id, (client.span_id,))
    assert server.end <= stream.start <= stream.end
    assert stream.attributes["gateway.stream.kind"] == "sse"
    assert isinstance(sent := stream.attributes["gateway.stream.bytes_out"], int) and sent >= 13


@pytest.mark.gen_test
async def test_a_websockets_beginning_and_end_are_told(serve: Serve, upstream: Start) -> None:
    collector, acceptor = Collector(upstream), Acceptor()
    service = upstream(acceptor)
    running = await serve({"svc": [service.url]}, **collector.environment)
    lines = capture(running)
    client = await running.client()
    await client.send(get(b"/ws/svc/a", SAMPLED, *HANDSHAKE))
    assert (await client.head()).status == 101
    client.close()
    await eventually(lambda: acceptor.sides)
    await acceptor.sides[0].told()
    acceptor.sides[0].connection.close()
    await eventually(lambda: running.inflight == 0)
    server, call, stream = await flushed(running, collector)
    assert [each.attributes["http.response.status_code"] for each in (server, call)] == [101, 101]
    assert (stream.parent_id, stream.links) == (server.span_id, (call.span_id,))
    line = await only_line(lines)
    figures = {name.removeprefix("gateway.stream."): value for name, value in stream.attributes.items()}
    assert (figures["kind"], figures["close_code"]) == ("ws", line["closeCode"])
    assert (figures["messages_in"], figures["bytes_out"]) == (line["messagesIn"], line["bytesOut"])


@pytest.mark.parametrize("winner", [0, 1])
@pytest.mark.gen_test
async def test_of_two_hedged_exchanges_the_slower_is_superseded(serve: Serve, upstream: Start, winner: int) -> None:
    collector, gates = Collector(upstream), (Gate(), Gate())
    services = [upstream(gate) for gate in gates]
    running = await serve(
        {"svc": [each.url for each in services]}, BALANCER="round_robin", HEDGE="true", **collector.environment
    )
    know(running)
    client = await running.client()
    await client.send(get(b"/api/svc/", SAMPLED))
    await eventually(lambda: all(each.requests for each in services))
    await gates[winner].open()
    assert (await client.response()).status == 200
    _, *calls = await flushed(running, collector)
    by_port = {each.attributes["server.port"]: each for each in calls}
    won, lost = by_port[services[winner].port], by_port[services[1 - winner].port]
    assert (won.attributes["http.response.status_code"], won.attributes.get("gateway.outcome")) == (200, None)
    assert (lost.attributes["gateway.outcome"], lost.is_error) == ("superseded", False)


@pytest.mark.gen_test
async def test_what_the_log_hides_spans_hide(serve: Serve, upstream: Start) -> None:
    collector, service = Collector(upstream), upstream(named(b"a"))
    running = await serve({"svc": [service.url]}, LOG_REDACT="path,client,endpoint,requestId", **collector.environment)
    await ask(running, get(b"/api/svc/a", SAMPLED))
    hidden = {"url.path", "client.address", "gateway.request_id", "url.full"}
    spans = await flushed(running, collector)
    assert len(spans) == 2
    assert all(hidden.isdisjoint(each.attributes) for each in spans)
    assert "server.address" not in spans[1].attributes


@pytest.mark.gen_test
async def test_without_the_variable_nothing_is_traced(serve: Serve, upstream: Start) -> None:
    service = upstream(named(b"a"))
    running = await serve({"svc": [service.url]})
    await ask(running, get(b"/api/svc/", SAMPLED, STATE))
    assert running.app.gateway.tracer is None
    assert trace_fields(service.requests[0]) == [SAMPLED.partition(b" ")[2]]
