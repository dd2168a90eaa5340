"""The WebSocket route, on real sockets: the service is asked first, and the client gets the service's answer.

Row names such as W3 are those of the project's feature list.
"""

import asyncio
import re

import pytest

from tests.conftest import Running, Serve
from tests.support.endpoints import always
from tests.support.journeys import Start, ask, capture, only_line, plays, problem, silent
from tests.support.sockets import Peer, Script, eventually, get, reply
from tests.support.websockets import HANDSHAKE, Acceptor, accepting, bridged, text
from tornado_gateway.handlers.ws_bridge import MAX_REFUSAL
from tornado_gateway.policy.http.headers import Field

KEY_OF_CLIENT = b"dGhlIHNhbXBsZSBub25jZQ=="


def shake(target: bytes = b"/ws/svc?path=/chat", *lines: bytes) -> bytes:
    """A client's handshake, with more field lines."""
    return get(target, *HANDSHAKE, *lines)


def without(name: bytes, *lines: bytes) -> bytes:
    """A handshake without a field, or with another value."""
    kept = [line for line in HANDSHAKE if not line.lower().startswith(name.lower() + b":")]
    return get(b"/ws/svc?path=/chat", *kept, *lines)


def answers(make: bytes, *lines: bytes) -> Script:
    """A script: answer a handshake with these lines, its accept value where they say %ACCEPT."""

    async def script(peer: Peer) -> None:
        request = await peer.request()
        accept = next(line for line in accepting(request).split(b"\r\n") if line.startswith(b"Sec-WebSocket-Accept"))
        head = b"\r\n".join((make, *lines)).replace(b"%ACCEPT", accept)
        await peer.send(head + b"\r\n\r\n")
        await peer.ended()

    return script


# ---------------------------------------------------------------- what the service is asked


@pytest.mark.gen_test
async def test_the_handshake_of_the_client_reaches_the_service(serve: Serve, upstream: Start) -> None:  # W4
    acceptor = Acceptor()
    running = await serve({"svc": [(up := upstream(acceptor)).url + "/base"]}, VIA_NAME="gw")
    trace = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    client = await running.client()
    await client.send(
        shake(
            b"/ws/svc?path=/chat", b"Cookie: a=1; b=2", b"Origin: https://app.example", b"User-Agent: test/1",
            b"Authorization: Bearer x.y", b"x-request-id: mine", trace, b"Sec-WebSocket-Protocol: a, b",
            b"Sec-WebSocket-Protocol: c", b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            b"X-Forwarded-For: 6.6.6.6", b"X_Forwarded_For: 6.6.6.6",
        )
    )  # fmt: skip
    assert (await client.head()).status == 101
    (seen,) = up.requests
    assert seen.start == b"GET /base/chat HTTP/1.1"
    expected = {
        b"host": [f"127.0.0.1:{up.port}".encode()], b"cookie": [b"a=1; b=2"], b"origin": [b"https://app.example"],
        b"user-agent": [b"test/1"], b"authorization": [b"Bearer x.y"], b"x-request-id": [b"mine"],
        b"traceparent": [trace.partition(b": ")[2]], b"sec-websocket-protocol": [b"a, b", b"c"],
        b"sec-websocket-extensions": [b"permessage-deflate; client_max_window_bits"],
        b"sec-websocket-version": [b"13"], b"upgrade": [b"websocket"], b"connection": [b"Upgrade"],
        b"x-forwarded-for": [b"127.0.0.1"], b"x-forwarded-host": [b"gateway.example"], b"via": [b"1.1 gw"],
        b"x_forwarded_for": [],
    }  # fmt: skip
    assert {name: seen.all(name) for name in expected} == expected
    (key,) = seen.all(b"sec-websocket-key")
    assert len(key) == 24 and key != KEY_OF_CLIENT  # a key proves something to its own hop only


@pytest.mark.gen_test
async def test_a_rewritten_origin_is_the_endpoints_own(serve: Serve, upstream: Start) -> None:
    up = upstream(Acceptor())
    running = await serve({"svc": [up.url]}, WS_ORIGIN="rewrite")
    for line in ((b"Origin: https://app.example",), ()):
        await (client := await running.client()).send(shake(b"/ws/svc", *line))
        assert (await client.head()).status == 101
    assert [each.all(b"origin") for each in up.requests] == [[up.url.encode()], []]


TARGETS = [
    (b"/ws/svc?path=/room", b"/room"),
    (b"/ws/svc?path=/room%3Fa%3D1%26b&c=2", b"/room?a=1&b&c=2"),
    (b"/ws/svc?b=2&path=%2Froom&c=%20", b"/room?b=2&c=%20"),
    (b"/ws/svc", b"/"),
    (b"/ws/svc?", b"/"),
    (b"/ws/svc?path=", b"/"),
    (b"/ws/svc?k=1", b"/?k=1"),
    (b"/ws/svc/room/a%2Fb?q=1", b"/room/a%2Fb?q=1"),
    (b"/ws/svc/room?path=/x", b"/room?path=/x"),
    (b"/ws/svc?path=/caf%C3%A9", b"/caf%C3%A9"),
    (b"/ws/svc?path=/a%252Fb", b"/a%2Fb"),
]


@pytest.mark.parametrize(("asked", "seen"), TARGETS)
@pytest.mark.gen_test
async def test_the_handshake_that_the_service_receives(
    serve: Serve, upstream: Start, asked: bytes, seen: bytes
) -> None:  # W4
    up = upstream(Acceptor())
    running = await serve({"svc": [up.url]})
    await (client := await running.client()).send(shake(asked))
    assert (await client.head()).status == 101
    assert up.requests[0].target == seen


@pytest.mark.parametrize(
    "path",
    [b"//evil", b"http://evil/", b"/%5Cevil", b"%5C%5Cevil", b"@evil", b"room", b"/a%20b", b"/a%0d%0aX:y", b"/%00",
     b"/a%23b", b"/../x", b"/%252e%252e/x", b"/a&path=/b"],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_path_that_would_leave_the_endpoint_is_refused(  # H17, SECURITY 11.2
    serve: Serve, upstream: Start, path: bytes
) -> None:
    up = upstream(Acceptor())
    running = await serve({"svc": [up.url + "/base"]})
    problem(await ask(running, shake(b"/ws/svc?path=" + path)), 400, "bad_request")
    assert up.accepted == 0


# ---------------------------------------------------------------- what is no handshake

REFUSED = [
    ("no upgrade", without(b"Upgrade"), 426, "upgrade_required"),
    ("h2c", without(b"Upgrade", b"Upgrade: h2c"), 426, "upgrade_required"),
    ("version 8", without(b"Sec-WebSocket-Version", b"Sec-WebSocket-Version: 8"), 426, "upgrade_required"),
    ("HTTP/1.0", shake().replace(b"HTTP/1.1", b"HTTP/1.0"), 426, "upgrade_required"),
    ("bad key", without(b"Sec-WebSocket-Key", b"Sec-WebSocket-Key: x"), 400, "bad_request"),
    ("two keys", shake(b"/ws/svc", b"Sec-WebSocket-Key: " + KEY_OF_CLIENT), 400, "bad_request"),
    ("a body", shake(b"/ws/svc", b"Content-Length: 1") + b"x", 400, "bad_request"),
    ("POST", get(b"/ws/svc", *HANDSHAKE, method=b"POST"), 405, "method_not_allowed"),
    ("unknown service", shake(b"/ws/other"), 404, "unknown_service"),
]


@pytest.mark.parametrize(
    ("request_", "status", "code"), [each[1:] for each in REFUSED], ids=[row[0] for row in REFUSED]
)
@pytest.mark.gen_test
async def test_an_invalid_handshake_is_refused_before_any_connection(  # SECURITY 11.1
    serve: Serve, upstream: Start, request_: bytes, status: int, code: str
) -> None:
    up = upstream(Acceptor())
    running = await serve({"svc": [up.url]})
    answer = await ask(running, request_)
    problem(answer, status, code)
    if status == 426:
        assert answer.get(b"upgrade") == b"websocket"
        assert answer.get(b"sec-websocket-version") == b"13"
    assert up.accepted == 0


@pytest.mark.parametrize(
    ("variables", "origin", "status"),
    [
        ({}, b"https://evil.example", 101),
        ({"WS_ALLOWED_ORIGINS": "https://good.example"}, b"https://evil.example", 403),
        ({"WS_ALLOWED_ORIGINS": "https://good.example"}, b"https://good.example", 101),
        ({"WS_ALLOWED_ORIGINS": "https://good.example"}, b"", 101),
        ({"GATEWAY_ENV": "production", "AUTH_REQUIRED": "false"}, b"https://evil.example", 403),
        ({"GATEWAY_ENV": "production", "AUTH_REQUIRED": "false"}, b"https://gateway.example", 101),
        ({"GATEWAY_ENV": "production", "JWT_SECRET": "s" * 32}, b"https://gateway.example", 401),
    ],
)
@pytest.mark.gen_test
async def test_origins_that_may_connect(  # W5
    serve: Serve, upstream: Start, variables: dict[str, str], origin: bytes, status: int
) -> None:
    up = upstream(Acceptor())
    running = await serve({"svc": [up.url]}, **variables)
    client = await running.client()
    await client.send(shake(b"/ws/svc", *([b"Origin: " + origin] if origin else [])))
    assert (await client.head()).status == status
    assert up.accepted == (status == 101)


# ---------------------------------------------------------------- what the service answers


@pytest.mark.gen_test
async def test_the_services_choices_come_back(serve: Serve, upstream: Start) -> None:  # W2
    acceptor = Acceptor(b"Sec-WebSocket-Protocol: b", b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"X-Own: 1")
    running = await serve({"svc": [upstream(acceptor).url]}, VIA_NAME="gw")
    client = await running.client()
    await client.send(shake(b"/ws/svc", b"Sec-WebSocket-Protocol: a, b", b"x-request-id: mine"))
    head = await client.head()
    expected: dict[bytes, list[bytes]] = {
        b"sec-websocket-accept": [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="], b"upgrade": [b"websocket"],
        b"connection": [b"Upgrade"], b"sec-websocket-protocol": [b"b"], b"set-cookie": [b"a=1", b"b=2"],
        b"x-own": [b"1"], b"x-request-id": [b"mine"], b"via": [b"1.1 gw"], b"sec-websocket-extensions": [],
    }  # fmt: skip
    assert (head.status, {name: head.all(name) for name in expected}) == (101, expected)


STICKY = re.compile(rb"gw_svc=[A-Za-z0-9_=-]{16,}; Path=/; HttpOnly; SameSite=Lax")


async def sticky_cookie(running: Running, target: bytes, *lines: bytes) -> list[bytes]:
    """The gateway's own cookies of an answer to a handshake."""
    client = await running.client()
    await client.send(shake(target, *lines))
    return [value for value in (await client.head()).all(b"set-cookie") if value.startswith(b"gw_svc=")]


@pytest.mark.gen_test
async def test_a_websocket_binds_its_client_to_the_endpoint(serve: Serve, upstream: Start) -> None:
    ups = [upstream(Acceptor(b"Set-Cookie: own=1")) for _ in range(2)]
    running = await serve({"svc": [up.url for up in ups]}, STICKY="redistribute", BALANCER="round_robin")
    (cookie,) = await sticky_cookie(running, b"/ws/svc")
    assert STICKY.fullmatch(cookie)
    bound = next(up for up in ups if up.requests)
    for _ in range(3):
        assert await sticky_cookie(running, b"/ws/svc", b"Cookie: " + cookie.partition(b";")[0]) == []
    assert len(bound.requests) == 4


@pytest.mark.parametrize("status", [b"403 Forbidden", b"503 Busy"])
@pytest.mark.gen_test
async def test_a_refused_websocket_binds_its_client_too(serve: Serve, upstream: Start, status: bytes) -> None:
    running = await serve({"svc": [upstream(plays(reply(status))).url]}, STICKY="redistribute")
    (cookie,) = await sticky_cookie(running, b"/ws/svc")
    assert STICKY.fullmatch(cookie)


@pytest.mark.gen_test
async def test_the_cookie_of_a_websocket_of_a_secure_site_is_sent_to_that_alone(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(Acceptor()).url]}, STICKY="redistribute", TRUSTED_PROXIES="127.0.0.1")
    (cookie,) = await sticky_cookie(running, b"/ws/svc", b"X-Forwarded-Proto: https")
    assert cookie.endswith(b"; Secure")


@pytest.mark.gen_test
async def test_the_client_hears_nothing_before_the_service_has_answered(serve: Serve, upstream: Start) -> None:
    released = asyncio.Event()

    async def late(peer: Peer) -> None:
        request = await peer.request()
        await asyncio.wait_for(released.wait(), 5)
        await peer.send(accepting(request))
        await peer.ended()

    running = await serve({"svc": [upstream(late).url]})
    client = await running.client()
    await client.send(shake())
    with pytest.raises(TimeoutError):
        await client.more(0.05)
    released.set()
    assert (await client.head()).status == 101


REFUSAL_FIELDS: list[Field] = [(b"WWW-Authenticate", b'Bearer realm="x"'), (b"Content-Type", b"text/plain")]


@pytest.mark.parametrize("status", [b"301 Moved Permanently", b"401 Unauthorized", b"404 Not Found", b"503 Busy"])
@pytest.mark.gen_test
async def test_a_refusal_is_the_clients_answer_and_its_connection_ends(  # W3
    serve: Serve, upstream: Start, status: bytes
) -> None:
    lines = tuple(b": ".join(field) for field in REFUSAL_FIELDS)

    async def refuse(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(reply(status, lines, b"their reason"))

    running = await serve({"svc": [upstream(refuse).url]})
    for _ in range(2):
        client = await running.client()
        answer = await client.ask(shake())
        assert (answer.status, answer.body) == (int(status[:3]), b"their reason")
        assert [answer.get(name) for name, _ in REFUSAL_FIELDS] == [value for _, value in REFUSAL_FIELDS]
        assert answer.get(b"connection") == b"close"  # RFC 9931: frames may be under way, which are no request
        assert await client.ended()
    assert running.inflight == 0
    assert running.errors == (2 if status.startswith(b"5") else 0)


@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
@pytest.mark.gen_test
async def test_a_long_refusal_is_cut(serve: Serve, upstream: Start, framing: str) -> None:  # W3
    body = b"x" * (MAX_REFUSAL + 1)
    refusal = {
        "length": reply(b"403 Forbidden", (), body),
        "chunks": b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (len(body), body),
        "close": b"HTTP/1.1 403 Forbidden\r\n\r\n" + body,
    }[framing]
    running = await serve({"svc": [upstream(plays(refusal, then="close")).url]})
    client = await running.client()
    answer = await client.ask(shake())
    assert (answer.status, answer.body, answer.complete) == (403, body[:MAX_REFUSAL], True)
    assert await client.ended()
    assert (await ask(running, get(b"/healthz"))).status == 200


@pytest.mark.parametrize("line", [b"GET /ws/svc HTTP/1.1", b"POST /ws/svc HTTP/1.1", b"GET /ws/nobody HTTP/1.1"])
@pytest.mark.gen_test
async def test_bytes_after_a_refused_handshake_are_not_read_as_a_request(
    serve: Serve, upstream: Start, line: bytes
) -> None:
    """RFC 9931: the client may have sent frames already; here the frames look like a request."""
    up = upstream(always(reply(b"403 Forbidden")))
    running = await serve({"svc": [up.url]})
    client = await running.client()
    handshake = shake(b"/ws/svc").replace(b"GET /ws/svc HTTP/1.1", line)
    answer = await client.ask(handshake + get(b"/api/svc/smuggled"))
    assert answer.status in (403, 404, 405)
    assert answer.get(b"connection") == b"close"
    assert await client.ended()
    assert not [each for each in up.requests if b"smuggled" in each.target]


@pytest.mark.gen_test
async def test_a_long_refusal_with_a_failure_status_counts_as_a_failure(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(plays(reply(b"503 Busy", (), b"x" * (MAX_REFUSAL + 1)))).url]})
    assert (await ask(running, shake())).status == 503
    assert (running.inflight, running.errors) == (0, 1)


@pytest.mark.gen_test
async def test_a_refusal_of_just_the_size_passes_whole(serve: Serve, upstream: Start) -> None:
    body = b"x" * MAX_REFUSAL
    running = await serve({"svc": [upstream(plays(reply(b"403 Forbidden", (), body))).url]})
    answer = await ask(running, shake())
    assert (answer.body, answer.get(b"content-length")) == (body, b"%d" % MAX_REFUSAL)


@pytest.mark.gen_test
async def test_a_refusal_that_is_an_event_stream_is_just_a_refusal(serve: Serve, upstream: Start) -> None:
    script = plays(reply(b"403 Forbidden", (b"Content-Type: text/event-stream",), b"data: no\n\n"))
    running = await serve({"svc": [upstream(script).url]})
    answer = await ask(running, shake())
    assert (answer.status, answer.body, answer.get(b"x-accel-buffering")) == (403, b"data: no\n\n", None)


SWITCH = b"HTTP/1.1 101 Switching Protocols"
UPGRADE, CONNECTION = b"Upgrade: websocket", b"Connection: Upgrade"
INVALID: dict[str, Script] = {
    "200": plays(reply()),
    "200 with upgrade": answers(b"HTTP/1.1 200 OK", UPGRADE, CONNECTION, b"%ACCEPT"),  # Envoy CVE-2024-23326
    "204": answers(b"HTTP/1.1 204 No Content"),
    "wrong accept": answers(SWITCH, UPGRADE, CONNECTION, b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    "no accept": answers(SWITCH, UPGRADE, CONNECTION),
    "no upgrade": answers(SWITCH, CONNECTION, b"%ACCEPT"),
    "no connection": answers(SWITCH, UPGRADE, b"%ACCEPT"),
    "other protocol": answers(SWITCH, b"Upgrade: h2c", CONNECTION, b"%ACCEPT"),
    "subprotocol": answers(SWITCH, UPGRADE, CONNECTION, b"%ACCEPT", b"Sec-WebSocket-Protocol: z"),
    "extension": answers(SWITCH, UPGRADE, CONNECTION, b"%ACCEPT", b"Sec-WebSocket-Extensions: x-z"),
    "garbage": plays(b"hello\r\n\r\n"),
    "closed": plays(then="close"),
    "reset": plays(then="reset"),
}


@pytest.mark.parametrize("script", INVALID.values(), ids=INVALID)
@pytest.mark.gen_test
async def test_an_answer_that_cannot_be_believed_is_a_502(serve: Serve, upstream: Start, script: Script) -> None:  # W3
    up = upstream(script)
    running = await serve({"svc": [up.url]})
    answer = await ask(running, shake(b"/ws/svc", b"Sec-WebSocket-Protocol: a"))
    problem(answer, 502, "upstream_unavailable")
    await eventually(lambda: up.open == 0)
    assert (running.inflight, running.errors, running.app.gateway.streams.counts.total) == (0, 1, 0)


@pytest.mark.gen_test
async def test_a_service_that_does_not_answer_is_a_504(serve: Serve, upstream: Start) -> None:
    up = upstream(silent)
    running = await serve({"svc": [up.url]}, HTTP_PROXY_TIMEOUT_MS="100")
    problem(await ask(running, shake()), 504, "upstream_timeout")
    await eventually(lambda: up.open == 0)
    assert (running.inflight, running.errors, running.app.gateway.streams.counts.total) == (0, 1, 0)


@pytest.mark.gen_test
async def test_a_service_that_is_not_there_is_a_502(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]})
    problem(await ask(running, shake()), 502, "upstream_unavailable")
    assert (running.inflight, running.errors, running.app.gateway.streams.counts.total) == (0, 1, 0)


FAILING: dict[str, Script] = {
    "closed": plays(then="close"),
    "reset": plays(then="reset"),
    "garbage": plays(b"hello\r\n\r\n"),
    "503": plays(reply(b"503 Service Unavailable")),
}


@pytest.mark.parametrize("script", [None, *FAILING.values()], ids=["refused", *FAILING])
@pytest.mark.gen_test
async def test_another_endpoint_is_asked_before_the_client_sees_anything(  # W13
    serve: Serve, upstream: Start, script: Script | None
) -> None:
    acceptor = Acceptor()
    first = "http://127.0.0.1:1" if script is None else upstream(script).url
    running = await serve({"svc": [first, upstream(acceptor).url]}, BALANCER="round_robin")
    lines = capture(running)
    client = await running.client()
    await client.send(shake())
    assert (await client.head()).status == 101
    assert (running.inflight, running.errors) == (1, 1)
    client.close()
    acceptor.sides[0].connection.close()
    await eventually(lambda: lines() and lines()[0]["attempts"] == 2)


@pytest.mark.gen_test
async def test_a_client_that_leaves_during_the_handshake_ends_it(serve: Serve, upstream: Start) -> None:
    up = upstream(silent)
    running = await serve({"svc": [up.url]})
    lines = capture(running)
    client = await running.client()
    await client.send(shake())
    await eventually(lambda: up.open == 1)
    client.close()
    await eventually(lambda: up.open == 0, patience=0.2)
    await eventually(lines)
    assert (lines()[0]["status"], lines()[0]["reason"]) == (499, "client_gone")
    assert (running.inflight, running.errors, running.app.gateway.streams.counts.total) == (0, 0, 0)


# ---------------------------------------------------------------- limits, drain, log


@pytest.mark.parametrize(
    ("variable", "status", "code"),
    [
        ("MAX_STREAMS", 503, "overloaded"),
        ("MAX_STREAMS_PER_SERVICE", 503, "overloaded"),
        ("MAX_STREAMS_PER_CLIENT", 429, "rate_limited"),
    ],
)
@pytest.mark.parametrize("other", [b"/ws/svc", b"/sse/svc/x"])
@pytest.mark.gen_test
async def test_streams_of_both_kinds_are_counted_together(  # W14, S21
    serve: Serve, upstream: Start, variable: str, status: int, code: str, other: bytes
) -> None:
    bridge = await bridged(serve, upstream, **{variable: "1"})
    answer = await ask(bridge.running, shake(other))
    problem(answer, status, code)
    assert int(answer.get(b"retry-after") or b"0") >= 1
    bridge.client.connection.reset()
    counts = bridge.running.app.gateway.streams.counts
    await eventually(lambda: counts.total == 0, patience=0.1)  # although the service has not ended its side
    client = await bridge.running.client()
    await client.send(shake())
    assert (await client.head()).status == 101


@pytest.mark.gen_test
async def test_a_proxys_clients_are_told_apart(serve: Serve, upstream: Start) -> None:
    running = await serve(
        {"svc": [upstream(Acceptor()).url]}, MAX_STREAMS_PER_CLIENT="1", TRUSTED_PROXIES="127.0.0.0/8"
    )
    seen = []
    for address in (b"1.1.1.1", b"2.2.2.2", b"1.1.1.1", b"2001:db8::1", b"2001:db8::2"):
        await (client := await running.client()).send(shake(b"/ws/svc", b"X-Forwarded-For: " + address))
        seen.append((await client.head()).status)
    assert seen == [101, 101, 429, 101, 429]


@pytest.mark.gen_test
async def test_a_gateway_about_to_stop_takes_websockets_until_it_stops(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(Acceptor()).url]}, SHUTDOWN_DELAY_MS="60000")
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.gateway.lifecycle.draining)
    client = await running.client()
    await client.send(shake())
    assert (await client.head()).status == 101
    await eventually(lambda: running.app.gateway.streams.open)
    draining.cancel()
    running.app.server.drain()
    running.app.gateway.streams.drain(running.app.server.context.loop.time(), 0.0)
    running.app.heartbeat.sweep()
    assert (await client.exactly(4))[2:] == (1001).to_bytes(2, "big")
    client.close()


@pytest.mark.gen_test
async def test_the_log_has_the_messages_and_bytes_of_a_websocket(serve: Serve, upstream: Start) -> None:
    bridge = await bridged(serve, upstream, None, b"x-request-id: mine")
    lines = capture(bridge.running)
    await bridge.client.send(text("one"), text("two"))
    await bridge.upstream.hears(text("one"), text("two"))
    await bridge.upstream.send(text("three"))
    await bridge.client.hears(text("three"))
    bridge.upstream.connection.close()
    await bridge.client.told()
    bridge.client.connection.close()
    await bridge.over()
    line = await only_line(lines)
    expected = {
        "requestId": "mine", "path": "/ws/svc", "service": "svc", "status": 101, "reason": "upstream_lost",
        "closeCode": 1011, "messagesIn": 2, "messagesOut": 1, "bytesIn": 18, "bytesOut": 7, "attempts": 1,
    }  # fmt: skip
    assert {name: line[name] for name in expected} == expected
    assert (bridge.totals.messages_up, bridge.totals.messages_down, bridge.running.errors) == (2, 1, 1)
