"""Spans: names and attributes by the semantic conventions, few names whatever clients send, and no secrets."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.address import NO_ADDRESS, of_peer
from tornado_gateway.policy.http.trace import Context
from tornado_gateway.policy.spans import LONGEST, METHODS, Call, Span, SpanKind, Told, Trace, spans_of

CONTEXT = Context(b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7", b"1" * 16, True)
CALL = Call(b"2" * 16, "http://10.0.0.7:9000/base", 1.0, 1.75, 200)
TOLD = Told(
    CONTEXT, (CALL,), b"GET", b"/api/a/x?token=secret", b"shop.example", "https", 1, "/api/<service>/*", "a", b"id",
    of_peer("192.0.2.7"), 0.5, 2.0, 1_700_000_000.0, 200, "",
)  # fmt: skip


def server_of(told: Told, hidden: tuple[str, ...] = ()) -> Span:
    return next(spans_of(told, hidden))


def test_a_request_and_its_calls() -> None:
    server, call = spans_of(TOLD)
    assert (server.name, server.kind, server.span_id, server.parent_id, server.is_remote) == (
        "GET /api/<service>/*", SpanKind.SERVER, b"1" * 16, b"00f067aa0ba902b7", True,
    )  # fmt: skip
    assert (server.start, server.end) == (1_700_000_000_500_000_000, 1_700_000_002_000_000_000)
    assert (call.kind, call.span_id, call.parent_id, call.is_remote) == (
        SpanKind.CLIENT, b"2" * 16, b"1" * 16, False,
    )  # fmt: skip
    assert call.attributes["url.full"] == "http://10.0.0.7:9000/base"
    assert TOLD.count == 2


def test_a_path_has_no_query_and_no_token_and_is_short() -> None:
    assert server_of(TOLD).attributes["url.path"] == "/api/a/x"
    token = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
    assert server_of(replace(TOLD, target=b"/a/" + token)).attributes["url.path"] == "/a/***"
    long = server_of(replace(TOLD, target=b"/" + b"a" * 65_000)).attributes["url.path"]
    assert isinstance(long, str) and len(long) == LONGEST


@pytest.mark.parametrize("method", [b"BREW", b"get", b"\xff" * 9, b"A" * 65_000])
def test_methods_of_clients_make_no_names(method: bytes) -> None:
    told = replace(TOLD, method=method)
    assert [each.name for each in spans_of(told)] == ["HTTP /api/<service>/*", "HTTP"]
    attributes = server_of(told).attributes
    assert attributes["http.request.method"] == "_OTHER"
    assert attributes["http.request.method_original"] == method[:LONGEST].decode("latin-1")


def test_known_methods_are_named() -> None:
    for method in METHODS:
        assert server_of(replace(TOLD, method=method)).attributes["http.request.method"] == method.decode()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"a.example", ("a.example", 443)),
        (b"a.example:8080", ("a.example", 8080)),
        (b"[::1]", ("::1", 443)),
        (b"[::1]:80", ("::1", 80)),
        (b"a:999999", ("a:999999", 443)),
        (b"a:\xb2", ("a:\xb2", 443)),  # a digit to str.isdigit()
        (b"", (None, None)),
    ],
)
def test_the_server_is_what_the_client_asked_for(host: bytes, expected: tuple[str | None, int | None]) -> None:
    attributes = server_of(replace(TOLD, host=host)).attributes
    assert (attributes.get("server.address"), attributes.get("server.port")) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://[::1]:90", {"server.address": "::1", "server.port": 90, "url.full": "http://[::1]:90"}),
        ("unix:/run/a.sock", {"server.address": "/run/a.sock", "network.transport": "unix"}),
    ],
)
def test_the_endpoint_of_a_call(url: str, expected: dict[str, object]) -> None:
    _, call = spans_of(replace(TOLD, calls=(replace(CALL, url=url),)))
    assert expected.items() <= call.attributes.items()


@pytest.mark.parametrize(
    ("changes", "error", "is_error"),
    [
        ({}, None, False),
        ({"status": 404}, None, False),
        ({"status": 404, "reason": "unknown_service"}, "unknown_service", False),
        ({"status": 500, "has_failed": True}, "500", True),
        ({"status": 502, "reason": "connect_failed", "has_failed": True}, "connect_failed", True),
        ({"status": 200, "reason": "connect_failed", "has_failed": True}, "connect_failed", True),  # an EventSource's
    ],
)
def test_which_requests_have_failed(changes: dict[str, object], error: str | None, is_error: bool) -> None:
    server = server_of(replace(TOLD, **changes))  # type: ignore[arg-type]
    assert (server.attributes.get("error.type"), server.is_error) == (error, is_error)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (replace(CALL, status=404), "404"),
        (replace(CALL, status=0, reason="connect_failed"), "connect_failed"),
        (replace(CALL, has_failed=True), "body_cut"),
        (replace(CALL, outcome="superseded"), None),
    ],
)
def test_which_calls_have_failed(call: Call, error: str | None) -> None:
    _, span = spans_of(replace(TOLD, calls=(call,), reason="body_cut"))
    assert (span.attributes.get("error.type"), span.is_error) == (error, error is not None)
    assert span.attributes.get("gateway.outcome", "") == call.outcome
    assert ("http.response.status_code" in span.attributes) == bool(call.status)


def test_a_failure_of_the_last_call_is_the_requests() -> None:
    assert server_of(replace(TOLD, calls=(replace(CALL, has_failed=True),), reason="body_cut")).is_error


def test_a_call_under_way_ends_with_the_request() -> None:
    _, first, second = spans_of(replace(TOLD, calls=(CALL, replace(CALL, ended=None))))
    assert (second.end, second.attributes["http.request.resend_count"]) == (TOLD.at(TOLD.ended), 1)
    assert "http.request.resend_count" not in first.attributes


def test_the_end_of_a_stream_is_a_span_that_names_the_call() -> None:
    told = replace(TOLD, opened=1.5, stream_id=b"3" * 16, of_stream={"gateway.stream.kind": "sse"})
    (stream,) = spans_of(told)
    assert (stream.kind, stream.span_id, stream.parent_id) == (SpanKind.INTERNAL, b"3" * 16, b"1" * 16)
    assert (stream.linked, stream.is_error, told.count) == (b"2" * 16, False, 1)
    assert (stream.start, stream.end) == (TOLD.at(1.5), TOLD.at(2.0))
    assert stream.attributes == {
        "http.route": "/api/<service>/*", "gateway.service": "a", "gateway.stream.kind": "sse",
    }  # fmt: skip


def test_a_stream_that_has_failed() -> None:
    told = replace(
        TOLD, calls=(replace(CALL, has_failed=True),), opened=1.5, stream_id=b"3" * 16, of_stream={}, reason="body_cut"
    )
    (stream,) = spans_of(told)
    assert (stream.attributes["error.type"], stream.is_error) == ("body_cut", True)


def test_a_stream_from_memory_names_no_call() -> None:
    (stream,) = spans_of(replace(TOLD, calls=(), of_stream={}, stream_id=b"3" * 16))
    assert (stream.linked, stream.start) == (b"", TOLD.at(TOLD.began))


def test_hidden_fields() -> None:
    hidden = ("path", "client", "endpoint", "requestid")
    server, call = spans_of(TOLD, hidden)
    assert {"url.path", "client.address", "gateway.request_id"}.isdisjoint(server.attributes)
    assert {"url.full", "server.address"}.isdisjoint(call.attributes)


def test_a_request_without_service_and_without_address() -> None:
    attributes = server_of(replace(TOLD, service="", client=NO_ADDRESS)).attributes
    assert {"gateway.service", "client.address"}.isdisjoint(attributes)


def test_a_trace_names_the_newest_call() -> None:
    trace = Trace(CONTEXT)
    assert trace.line == CONTEXT.line(CONTEXT.span_id)
    call = trace.begin(b"4" * 16, "http://a", 1.0)
    assert (trace.calls, trace.line) == ([call], CONTEXT.line(b"4" * 16))


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200))
def test_whatever_clients_send_spans_are_bounded(method: bytes, target: bytes, host: bytes, request: bytes) -> None:
    told = replace(TOLD, method=method or b"A", target=target, host=host, request_id=request)
    for span in spans_of(told):
        assert len(span.name) < 100
        assert all(isinstance(each, int) or len(each) <= LONGEST for each in span.attributes.values())  # type: ignore[arg-type]
        assert all(not isinstance(each, int) or -(2**63) <= each < 2**63 for each in span.attributes.values())
