"""/sse/<service>/*: what the route adds to the behaviour of any event stream. On real sockets.

Row names such as S14 are those of the project's feature list.
"""

import asyncio
from collections.abc import Callable

import pytest

from tests.conftest import Running, Serve
from tests.support.event_streams import (
    LAST_CHUNK,
    STREAM_HEAD,
    Listener,
    Source,
    chunk,
    counted,
    dispatched,
    let_pass,
    opened,
)
from tests.support.journeys import Start, ask, capture, leave, only_line, plays, problem, silent
from tests.support.sockets import Message, Peer, Script, echo, eventually, get, reply
from tests.support.websockets import HANDSHAKE
from tornado_gateway.policy.http.sse import HEARTBEAT
from tornado_gateway.policy.http.unavailable import SHORTEST

ASK = get(b"/sse/svc/events")
EVENT = b"data: good\n\n"
GOOD = STREAM_HEAD + chunk(EVENT) + LAST_CHUNK


# ---------------------------------------------------------------- the request


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"BREW"])
@pytest.mark.gen_test
async def test_only_get_and_head_are_served(serve: Serve, upstream: Start, method: bytes) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    answer = await ask(running, get(b"/sse/svc/events", method=method))
    problem(answer, 405, "method_not_allowed")
    assert (answer.get(b"allow"), up.accepted) == (b"GET, HEAD", 0)


@pytest.mark.gen_test
async def test_an_unknown_service_is_a_404(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]})
    problem(await ask(running, get(b"/sse/other/events")), 404, "unknown_service")
    assert counted(running) == 0


@pytest.mark.parametrize(
    ("base", "suffix", "target"),
    [
        ("", b"", b"/"),
        ("/base", b"/a%2Fb//c?x=%20&last_event_id=1&y", b"/base/a%2Fb//c?x=%20&last_event_id=1&y"),
        ("/base/", b"?", b"/base/?"),
    ],
)
@pytest.mark.gen_test
async def test_the_target_is_the_clients_bytes(
    serve: Serve, upstream: Start, base: str, suffix: bytes, target: bytes
) -> None:
    up = upstream(plays(GOOD))
    running = await serve({"svc": [up.url + base]}, SSE_LAST_EVENT_ID_QUERY="true")
    assert (await ask(running, get(b"/sse/svc" + suffix))).status == 200
    assert [request.target for request in up.requests] == [target]


@pytest.mark.parametrize(
    ("from_query", "query", "lines", "seen"),
    [
        ("false", b"", (b"Last-Event-ID: 41",), [b"41"]),
        ("false", b"?last_event_id=42", (), []),
        ("true", b"?last_event_id=42", (), [b"42"]),
        ("true", b"?a=1&last_event_id=a%20b%C3%A9&b", (), [b"a b\xc3\xa9"]),
        ("true", b"?last_event_id=42", (b"last-event-id: 41",), [b"41"]),  # what a browser says when it comes back
        ("true", b"?last_event_id=42", (b"LAST-EVENT-ID:",), [b""]),
        ("true", b"?last_event_id=1%0d%0aX-Evil:%201", (), []),
        ("true", b"?last_event_id=", (), []),
        ("true", b"?xlast_event_id=42", (), []),
        ("true", b"?a=?last_event_id=42", (), []),
        ("true", b"?last_event_id=1&last_event_id=2", (), [b"1"]),
    ],
)
@pytest.mark.gen_test
async def test_the_last_event_id_passes_as_a_field_and_if_asked_from_the_query(  # S14
    serve: Serve, upstream: Start, from_query: str, query: bytes, lines: tuple[bytes, ...], seen: list[bytes]
) -> None:
    up = upstream(plays(GOOD))
    running = await serve({"svc": [up.url]}, SSE_LAST_EVENT_ID_QUERY=from_query)
    assert (await ask(running, get(b"/sse/svc/events" + query, *lines))).status == 200
    (request,) = up.requests
    assert (request.all(b"last-event-id"), request.all(b"x-evil")) == (seen, [])
    assert request.target == b"/events" + query


# ---------------------------------------------------------------- the answer


@pytest.mark.gen_test
async def test_head_is_answered_without_a_body_and_is_no_stream_behind_it(serve: Serve, upstream: Start) -> None:
    up = upstream(plays(STREAM_HEAD))
    running = await serve({"svc": [up.url]}, MAX_STREAMS="1")
    client = await running.client()
    answer = await client.ask(get(b"/sse/svc/events", method=b"HEAD"), b"HEAD")
    assert (answer.status, answer.get(b"content-type"), client.buffer) == (200, b"text/event-stream", b"")
    assert (up.requests[0].method, counted(running), running.inflight) == (b"HEAD", 0, 0)
    assert (await client.ask(get(b"/healthz"))).status == 200


OTHERS = {
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",  # tells an EventSource not to come back
    "a stream that is none": b"HTTP/1.1 204 No Content\r\nContent-Type: text/event-stream\r\n\r\n",
    "a redirect": reply(b"302 Found", (b"Location: /there",), b""),
    "not found": reply(b"404 Not Found", (b"Content-Type: application/json",), b"{}"),
    "a page": reply(b"200 OK", (b"Content-Type: text/html",), b"<p>"),
    "an error": reply(b"500 Internal Server Error", (b"Content-Type: text/plain",), b"oh"),
    "a stream with an error": reply(b"500 Internal Server Error", (b"Content-Type: text/event-stream",), EVENT),
    "a busy service": reply(b"503 Service Unavailable", (b"Retry-After: 7",), b"later"),
}


@pytest.mark.parametrize("sent", OTHERS.values(), ids=OTHERS)
@pytest.mark.gen_test
async def test_an_answer_that_is_no_stream_passes_as_it_is(serve: Serve, upstream: Start, sent: bytes) -> None:
    running = await serve({"svc": [upstream(plays(sent)).url]}, MAX_STREAMS="1")
    client = await running.client()
    answer = await client.ask(ASK)
    start, _, rest = sent.partition(b"\r\n")
    assert (answer.start, answer.body) == (start, rest.partition(b"\r\n\r\n")[2])
    for line in rest.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        assert not line or line.partition(b": ")[2] in answer.all(line.partition(b": ")[0])
    assert (await client.ask(get(b"/healthz"))).status == 200
    assert (running.inflight, counted(running)) == (0, 0)


@pytest.mark.parametrize(
    ("variables", "survives"),
    [({"HTTP_PROXY_TIMEOUT_MS": "1000"}, 290), ({"SSE_IDLE_TIMEOUT_MS": "0"}, 1e6)],
)
@pytest.mark.gen_test
async def test_any_answer_may_pause_as_long_as_a_stream(
    serve: Serve, upstream: Start, variables: dict[str, str], survives: float
) -> None:
    source = Source(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
    running = await serve({"svc": [upstream(source).url]}, **variables)
    listener = await Listener.ask(running, ASK)
    assert listener.head.all(b"x-accel-buffering") + listener.head.all(b"cache-control") == []
    let_pass(running, survives)
    await listener.is_quiet()
    await source.say(b"{}\n")
    await listener.hear(b"{}\n")
    await source.end()
    assert (await listener.all()).end == "complete"


@pytest.mark.parametrize("script", [silent, plays(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")])
@pytest.mark.gen_test
async def test_the_head_has_to_come_in_time(serve: Serve, upstream: Start, script: Script) -> None:
    ups = [upstream(script) for _ in range(2)]
    running = await serve({"svc": [up.url for up in ups]}, HTTP_PROXY_TIMEOUT_MS="100", SSE_IDLE_TIMEOUT_MS="0")
    lines = capture(running)
    problem(await ask(running, ASK), 504, "upstream_timeout")
    await eventually(lines)
    assert (lines()[0]["reason"], lines()[0]["attempts"], counted(running)) == ("response_header_timeout", 1, 0)
    assert sum(up.accepted for up in ups) == 1  # to ask another one would double the wait


@pytest.mark.gen_test
async def test_a_service_may_take_its_own_time_to_a_head_and_between_events(serve: Serve, upstream: Start) -> None:
    async def late(peer: Peer) -> None:
        await peer.request()
        await may.wait()
        await peer.send(STREAM_HEAD)
        await peer.ended()

    may, prompt = asyncio.Event(), upstream(late)
    patient = {"endpoints": [prompt.url], "httpProxyTimeoutMs": 60_000, "sseIdleTimeoutMs": 100_000}
    running = await serve({"svc": patient, "other": [prompt.url]}, SSE_HEARTBEAT_MS="0")
    client, other = await running.client(), await running.client()
    await client.send(ASK)
    await other.send(get(b"/sse/other/events"))
    await eventually(lambda: len(prompt.requests) == 2)
    let_pass(running, 40)  # longer than HTTP_PROXY_TIMEOUT_MS, shorter than the service's own
    problem(await other.response(), 504, "upstream_timeout")
    may.set()
    listener = Listener(client, await client.head())
    assert listener.head.status == 200
    let_pass(running, 90)  # longer than the time to a head, shorter than the service's own between two events
    await listener.is_quiet()
    let_pass(running, 110)
    assert (await listener.all()).end == "cut"


# ---------------------------------------------------------------- another endpoint


def refusing(_: Start) -> str:
    return "http://127.0.0.1:1"


def playing(*steps: bytes, then: str = "wait") -> Callable[[Start], str]:
    return lambda upstream: upstream(plays(*steps, then=then)).url


FAILING = {
    "refuses": refusing,
    "resets": playing(then="reset"),
    "closes": playing(then="close"),
    "resets in its head": playing(STREAM_HEAD[:40], then="reset"),
    "resets behind 103": playing(b"HTTP/1.1 103 Early Hints\r\n\r\n", then="reset"),
    "talks nonsense": playing(b"220 smtp.example ESMTP\r\n"),
    "answers 500": playing(reply(b"500 Internal Server Error")),
    "answers 503": playing(reply(b"503 Service Unavailable", (b"Retry-After: 7",))),
    "begins a stream behind 502": playing(STREAM_HEAD.replace(b"200 OK", b"502 Bad Gateway") + chunk(b"data: no\n\n")),
}


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
@pytest.mark.gen_test
async def test_an_endpoint_that_fails_before_anything_was_sent_is_replaced(  # S18
    serve: Serve, upstream: Start, failing: Callable[[Start], str], method: bytes
) -> None:
    good = upstream(plays(GOOD if method == b"GET" else STREAM_HEAD))
    running = await serve({"svc": [failing(upstream), good.url]}, BALANCER="round_robin")
    lines = capture(running)
    answer = await (await running.client()).ask(get(b"/sse/svc/events", method=method), method)
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == (EVENT if method == b"GET" else b"")
    assert (len(good.requests), running.errors, counted(running)) == (1, 1, 0)
    await eventually(lines)
    assert [(line["status"], line["attempts"], line["endpoint"]) for line in lines()] == [(200, 2, good.url)]


@pytest.mark.parametrize("status", [b"400 Bad Request", b"404 Not Found", b"429 Too Many Requests"])
@pytest.mark.gen_test
async def test_an_endpoint_that_says_no_is_believed(serve: Serve, upstream: Start, status: bytes) -> None:  # S18
    good = upstream(plays(GOOD))
    running = await serve({"svc": [upstream(plays(reply(status))).url, good.url]}, BALANCER="round_robin")
    assert (await ask(running, ASK)).start == b"HTTP/1.1 " + status
    assert (good.accepted, running.errors) == (0, 0)


@pytest.mark.gen_test
async def test_when_every_endpoint_fails_the_last_answer_is_the_clients(serve: Serve, upstream: Start) -> None:  # S18
    urls = [refusing(upstream), *(upstream(plays(reply(b"503 No", body=b"%d" % n))).url for n in range(2))]
    running = await serve({"svc": urls}, BALANCER="round_robin")
    lines = capture(running)
    answer = await ask(running, ASK)
    assert (answer.status, answer.body, running.errors) == (503, b"1", 3)
    await eventually(lines)
    assert lines()[0]["attempts"] == 3


@pytest.mark.gen_test
async def test_no_endpoint_is_replaced_after_the_head(serve: Serve, upstream: Start) -> None:  # S18
    source, good = Source(), upstream(plays(GOOD))
    running = await serve({"svc": [upstream(source).url, good.url]}, BALANCER="round_robin")
    listener = await Listener.ask(running, ASK)
    await source.fail()
    assert (await listener.all()).end == "cut"
    assert (listener.body, good.accepted) == (b"", 0)


# ---------------------------------------------------------------- limits


async def refused(running: Running, request: bytes, status: int, code: str) -> int:
    """LeaseRequest, and be refused for a while; Retry-After."""
    answer = await ask(running, request)
    problem(answer, status, code)
    return int(answer.get(b"retry-after") or b"")


@pytest.mark.parametrize(
    ("variable", "status", "code", "reason"),
    [
        ("MAX_STREAMS", 503, "overloaded", "stream_limit"),
        ("MAX_STREAMS_PER_SERVICE", 503, "overloaded", "stream_limit"),
        ("MAX_STREAMS_PER_CLIENT", 429, "rate_limited", "client_stream_limit"),
    ],
)
@pytest.mark.parametrize("has_begun", [True, False])
@pytest.mark.gen_test
async def test_a_stream_above_the_limit_is_refused_before_any_connection(  # S21
    serve: Serve, upstream: Start, variable: str, status: int, code: str, reason: str, has_begun: bool
) -> None:
    up = upstream(Source() if has_begun else silent)
    running = await serve({"svc": [up.url]}, **{variable: "2"})
    lines = capture(running)
    clients = [await running.client() for _ in range(2)]
    for client in clients:
        await client.send(ASK)
    await eventually(lambda: up.accepted == 2)
    assert await refused(running, ASK, status, code) >= 1
    assert (up.accepted, counted(running)) == (2, 2)
    await eventually(lines)
    assert lines()[0]["reason"] == reason
    assert (await ask(running, get(b"/healthz"))).status == 200


@pytest.mark.gen_test
async def test_a_client_with_too_many_streams_is_told_the_policy(serve: Serve, upstream: Start) -> None:  # S21
    running = await serve({"svc": [upstream(Source()).url]}, MAX_STREAMS_PER_CLIENT="5", RATE_LIMIT_MAX="100")
    for _ in range(5):
        await Listener.ask(running, ASK)
    answer = await ask(running, ASK)
    said = problem(answer, 429, "rate_limited")
    assert said["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert said["violated-policies"] == ["streams"]
    assert sorted(answer.all(b"ratelimit-policy")) == [
        b'"default";q=100;w=60',
        b'"streams";q=5;qu="concurrent-requests"',
    ]


@pytest.mark.gen_test
async def test_limits_are_kept_per_service_and_per_client(serve: Serve, upstream: Start) -> None:  # S21
    ups = [upstream(Source()) for _ in range(2)]
    running = await serve(
        {"a": [ups[0].url], "b": [ups[1].url]},
        MAX_STREAMS="3", MAX_STREAMS_PER_SERVICE="2", MAX_STREAMS_PER_CLIENT="2", TRUSTED_PROXIES="127.0.0.1",
    )  # fmt: skip

    def by(client: bytes, service: bytes) -> bytes:
        return get(b"/sse/%b/x" % service, b"X-Forwarded-For: " + client)

    for client, service in ((b"192.0.2.1", b"a"), (b"2001:db8::1", b"a")):
        await Listener.ask(running, by(client, service))
    await refused(running, by(b"192.0.2.3", b"a"), 503, "overloaded")
    await Listener.ask(running, by(b"2001:db8::2", b"b"))
    await refused(running, by(b"192.0.2.3", b"b"), 503, "overloaded")
    assert counted(running) == 3
    running.clients[0].close()
    await eventually(lambda: counted(running) == 2)
    await refused(running, by(b"2001:db8::ffff", b"b"), 429, "rate_limited")  # a /64 is one client
    await Listener.ask(running, by(b"192.0.2.3", b"b"))


ENDINGS = ["leaves", "resets", "is served", "sees it break", "is too old"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.gen_test
async def test_a_place_is_free_as_soon_as_a_stream_has_ended(serve: Serve, upstream: Start, ending: str) -> None:  # S21
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, MAX_STREAMS="1", SSE_MAX_AGE_MS="1000000")
    listener = await Listener.ask(running, ASK)
    await opened(running)
    await refused(running, ASK, 503, "overloaded")
    if ending == "leaves":
        listener.client.close()
    elif ending == "resets":
        listener.client.reset()
    elif ending == "is served":
        await source.end()
    elif ending == "sees it break":
        await source.fail()
    else:
        running.app.gateway.streams.sweep(running.app.server.context.loop.time() + 1001)
    await eventually(lambda: counted(running) == 0)
    assert (await Listener.ask(running, ASK)).head.status == 200
    assert running.app.gateway.streams.counts.clients == {"127.0.0.1": 1}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (ASK, 502),
        (get(b"/sse/svc/../x"), 400),
        (get(b"/sse/svc/x", b"Via: 1.1 edge"), 508),
        (get(b"/sse/svc/x", method=b"HEAD"), 502),
    ],
)
@pytest.mark.gen_test
async def test_a_failed_request_for_a_stream_is_counted_out(serve: Serve, request_: bytes, status: int) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, MAX_STREAMS="1", VIA_NAME="edge")
    for _ in range(2):
        answer = await (await running.client()).ask(request_, request_.split(b" ")[0])
        assert (answer.status, counted(running), running.inflight) == (status, 0, 0)


# ---------------------------------------------------------------- the ends of a process and of a client


@pytest.mark.gen_test
async def test_a_gateway_that_will_stop_takes_streams_until_it_stops_and_ends_them_well(  # S12
    serve: Serve, upstream: Start
) -> None:
    first, second = Source(), Source()
    sources = [first, second]

    async def script(peer: Peer) -> None:
        await sources.pop(0)(peer)

    up = upstream(script)
    running = await serve({"svc": [up.url]}, SHUTDOWN_DELAY_MS="60000", DRAIN_SPREAD_MS="0")
    lines = capture(running)
    old = await Listener.ask(running, ASK)
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.gateway.lifecycle.draining)
    assert (await ask(running, get(b"/readyz"))).status == 503
    new = await Listener.ask(running, ASK)
    assert (new.head.status, new.head.get(b"connection")) == (200, b"close")
    assert (up.accepted, counted(running)) == (2, 2)
    for source, listener in ((first, old), (second, new)):
        await source.say(EVENT)
        await listener.hear(EVENT)
    draining.cancel()
    running.app.server.drain()
    running.app.gateway.streams.drain(running.app.server.context.loop.time(), 0.0)
    running.app.heartbeat.sweep()
    for listener in (old, new):
        assert (await listener.all()).chunks[-1].startswith(b"retry: ")
        assert listener.end == "complete"
    await eventually(lambda: len(lines()) == 3)
    assert [line["reason"] for line in lines()] == ["", "draining", "draining"]


@pytest.mark.parametrize("abrupt", [True, False])
@pytest.mark.gen_test
async def test_a_client_that_leaves_before_the_head_ends_its_request(  # S4
    serve: Serve, upstream: Start, abrupt: bool
) -> None:
    up = upstream(silent)
    running = await serve({"svc": [up.url]}, MAX_STREAMS="1")
    lines = capture(running)
    client = await running.client()
    await client.send(ASK)
    await eventually(lambda: up.requests)
    await leave(client, up, abrupt=abrupt)
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["headMs"]) == (499, "client_gone", None)
    assert (running.inflight, running.errors, counted(running)) == (0, 0, 0)


@pytest.mark.gen_test
async def test_a_client_that_leaves_between_two_endpoints_leaves_nothing(serve: Serve, upstream: Start) -> None:  # S4
    async def fails_late(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(b"500 Oh"))
        await peer.ended()

    second = upstream(silent)
    running = await serve({"svc": [upstream(fails_late).url, second.url]}, BALANCER="round_robin")
    lines = capture(running)
    client = await running.client()
    await client.send(ASK)
    await eventually(lambda: second.requests)
    client.close()
    await eventually(lambda: second.open == 0)
    await eventually(lines)
    assert (lines()[0]["status"], lines()[0]["attempts"]) == (499, 2)
    assert (running.inflight, running.errors, counted(running)) == (0, 1, 0)


@pytest.mark.parametrize(("half_close", "goes_on"), [("abort", False), ("ignore", True)])
@pytest.mark.gen_test
async def test_the_meaning_of_a_half_close_is_configured(  # S6
    serve: Serve, upstream: Start, half_close: str, goes_on: bool
) -> None:
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, HALF_CLOSE=half_close, SSE_HEARTBEAT_MS="100")
    listener = await Listener.ask(running, ASK)
    await opened(running)
    listener.client.half_close()
    if goes_on:
        await listener.hear(HEARTBEAT)
        await source.say(EVENT)
        await listener.hear(EVENT)
        await source.end()
        assert (await listener.all()).end == "complete"
    else:
        await (await source.peer()).ended()
        assert (await listener.all()).end == "reset"


@pytest.mark.gen_test
async def test_the_service_is_asked_for_a_stream_without_compression(serve: Serve, upstream: Start) -> None:  # S2
    source = Source()
    up = upstream(source)
    running = await serve({"svc": [up.url]})
    await Listener.ask(running, get(b"/sse/svc/x", b"Accept-Encoding: gzip, br"))
    assert up.requests[0].all(b"accept-encoding") == [b"identity"]


# ---------------------------------------------------------------- an EventSource whose service is away

EVENT_SOURCE = (b"Accept: text/event-stream", b"Cache-Control: no-store")  # as browsers ask
NOWHERE = "http://127.0.0.1:1"


def comes_back(answer: Message) -> float:
    """Assert that an answer has an EventSource come back; the seconds until then."""
    assert (answer.status, answer.complete) == (200, True)
    assert answer.all(b"content-type") == [b"text/event-stream"]
    assert answer.all(b"cache-control") == [b"no-store"]
    assert answer.all(b"content-length") == [b"%d" % len(answer.body)]
    assert len(answer.all(b"x-request-id")) == len(answer.all(b"date")) == 1
    ((kind, milliseconds, _),) = dispatched(answer.body)
    assert kind == "(retry)"
    return int(milliseconds) / 1000


AWAY: dict[str, tuple[Callable[[Start], str], dict[str, str], str, int]] = {
    # the endpoint, variables, the reason in the log, and the status that the request counts with
    "refuses": (lambda _: NOWHERE, {}, "connect_failed", 502),
    "resets": (lambda upstream: upstream(plays(then="reset")).url, {}, "upstream_reset", 502),
    "closes": (lambda upstream: upstream(plays(then="close")).url, {}, "upstream_reset", 502),
    "talks nonsense": (lambda upstream: upstream(plays(b"220 smtp.example\r\n\r\n")).url, {}, "upstream_invalid", 502),
    "is silent": (
        lambda upstream: upstream(silent).url,
        {"HTTP_PROXY_TIMEOUT_MS": "100"},
        "response_header_timeout",
        504,
    ),
    "has no name": (lambda _: "http://no-such-name.invalid", {}, "name_not_resolved", 502),
}


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("case", AWAY)
@pytest.mark.gen_test
async def test_an_event_source_whose_service_is_away_is_told_to_come_back(
    serve: Serve, upstream: Start, case: str, method: bytes
) -> None:
    endpoint, variables, reason, status = AWAY[case]
    running = await serve({"svc": [endpoint(upstream)]}, DISCOVERY="false", **variables)
    lines = capture(running)
    client = await running.client()
    answer = await client.ask(get(b"/sse/svc/events", *EVENT_SOURCE, method=method), method)
    if method == b"GET":
        assert SHORTEST <= comes_back(answer) <= 5
    else:
        assert (answer.status, answer.body, answer.get(b"content-type")) == (200, b"", b"text/event-stream")
    assert answer.get(b"proxy-status") and b"error=" in answer.get(b"proxy-status")
    assert answer.get(b"retry-after") is None
    line = await only_line(lines)
    assert (await client.ask(get(b"/healthz"))).status == 200  # a clean end: the connection goes on
    assert (line["status"], line["reason"]) == (200, reason)
    assert (running.errors, running.inflight, counted(running)) == (1, 0, 0)
    found = {(key.route, key.status) for key, _ in running.app.gateway.durations if "sse" in key.route}
    assert found == {("/sse/<service>/*", str(status))}


@pytest.mark.gen_test
async def test_each_client_is_told_another_time(serve: Serve) -> None:
    running = await serve({"svc": [NOWHERE]}, BREAKER_FAILURES="0")
    client = await running.client()
    assert len({comes_back(await client.ask(get(b"/sse/svc/events", *EVENT_SOURCE))) for _ in range(20)}) > 10


@pytest.mark.gen_test
async def test_while_a_breaker_is_open_clients_are_told_to_come_back_after_it(serve: Serve) -> None:
    variables = {"MAX_EJECTED_PERCENT": "100", "PANIC_PERCENT": "0", "BREAKER_OPEN_MS": "20000"}
    running = await serve({"svc": [NOWHERE]}, **variables)
    client = await running.client()
    for _ in range(5):
        comes_back(await client.ask(get(b"/sse/svc/events", *EVENT_SOURCE)))
    assert 15 < comes_back(await client.ask(get(b"/sse/svc/events", *EVENT_SOURCE))) < 35
    problem(await client.ask(ASK), 503, "circuit_open")


@pytest.mark.parametrize("variable", ["MAX_STREAMS", "MAX_STREAMS_PER_SERVICE"])
@pytest.mark.gen_test
async def test_an_event_source_for_which_there_is_no_room_is_told_to_come_back(
    serve: Serve, upstream: Start, variable: str
) -> None:
    up = upstream(Source())
    running = await serve({"svc": [up.url]}, **{variable: "1"})
    lines = capture(running)
    await Listener.ask(running, ASK)
    comes_back(await ask(running, get(b"/sse/svc/events", *EVENT_SOURCE)))
    line = await only_line(lines)
    assert (line["status"], line["reason"], up.accepted, counted(running)) == (200, "stream_limit", 1, 1)


REFUSED = {
    "a client's limit": ({"MAX_STREAMS_PER_CLIENT": "1"}, b"/sse/svc/events", (), b"GET", 429),
    "no token": ({"AUTH_REQUIRED": "true", "JWT_SECRET": "k" * 32}, b"/sse/svc/events", (), b"GET", 401),
    "no service": ({}, b"/sse/other/events", (), b"GET", 404),
    "no such method": ({}, b"/sse/svc/events", (), b"POST", 405),
    "a path that climbs": ({}, b"/sse/svc/../x", (), b"GET", 400),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.gen_test
async def test_errors_that_a_retry_would_not_help_stay_errors(serve: Serve, upstream: Start, case: str) -> None:
    variables, target, fields, method, status = REFUSED[case]
    running = await serve({"svc": [upstream(Source()).url]}, **variables)
    held = await running.client()
    await held.send(ASK)
    await eventually(lambda: running.inflight or "JWT_SECRET" in variables)
    answer = await ask(running, get(target, *EVENT_SOURCE, *fields, method=method))
    assert (answer.status, answer.get(b"content-type")) == (status, b"application/problem+json")


OWN_STATUSES = (
    b"401 Unauthorized", b"403 Forbidden", b"404 Not Found", b"429 Too Many Requests", b"500 Oh", b"502 Bad Gateway",
    b"503 Service Unavailable", b"504 Gateway Timeout",
)  # fmt: skip


@pytest.mark.parametrize("sent", [reply(status, (b"Retry-After: 7",), b"later") for status in OWN_STATUSES])
@pytest.mark.parametrize("endpoints", [1, 2])
@pytest.mark.gen_test
async def test_a_status_of_the_services_own_passes_to_an_event_source(
    serve: Serve, upstream: Start, sent: bytes, endpoints: int
) -> None:
    running = await serve({"svc": [upstream(plays(sent)).url for _ in range(endpoints)]})
    answer = await ask(running, get(b"/sse/svc/events", *EVENT_SOURCE))
    assert answer.start == sent.partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("mode", "route", "method", "accept", "told"),
    [
        ("", b"/sse", b"GET", b"text/event-stream", True),
        ("", b"/sse", b"GET", b"text/event-stream, */*", False),
        ("", b"/sse", b"GET", b"*/*", False),
        ("", b"/api", b"GET", b"text/event-stream", False),
        ("retry", b"/sse", b"GET", b"text/event-stream", True),
        ("retry", b"/sse", b"GET", b"text/html", False),
        ("retry", b"/api", b"GET", b"text/event-stream", True),
        ("retry", b"/api", b"POST", b"text/event-stream", False),
        ("retry", b"/api", b"GET", b"application/json", False),
        ("status", b"/sse", b"GET", b"text/event-stream", False),
        ("status", b"/api", b"GET", b"text/event-stream", False),
    ],
)
@pytest.mark.parametrize("is_own", [False, True])
@pytest.mark.gen_test
async def test_sse_unavailable_can_be_set_for_all_services_and_for_one(
    serve: Serve, mode: str, route: bytes, method: bytes, accept: bytes, told: bool, is_own: bool
) -> None:
    service = {"endpoints": [NOWHERE], **({"sseUnavailable": mode} if mode and is_own else {})}
    running = await serve({"svc": service}, SSE_UNAVAILABLE="" if is_own else mode)
    answer = await ask(running, get(route + b"/svc/events", b"Accept: " + accept, method=method))
    if told:
        comes_back(answer)
    else:
        problem(answer, 502, "upstream_unavailable")


@pytest.mark.gen_test
async def test_a_websocket_handshake_is_never_answered_with_an_event_stream(serve: Serve) -> None:
    running = await serve({"svc": [NOWHERE]}, SSE_UNAVAILABLE="retry")
    problem(await ask(running, get(b"/ws/svc", *HANDSHAKE, *EVENT_SOURCE)), 502, "upstream_unavailable")


@pytest.mark.gen_test
async def test_a_page_of_another_origin_may_read_when_to_come_back(serve: Serve) -> None:  # Fetch, CORS check
    running = await serve({"svc": [NOWHERE]})
    answer = await ask(running, get(b"/sse/svc/events", *EVENT_SOURCE, b"Origin: https://app.example"))
    comes_back(answer)
    assert answer.get(b"access-control-allow-origin") == b"https://app.example"
    assert (answer.get(b"access-control-allow-credentials"), answer.get(b"vary")) == (b"true", b"Origin")
    same = await ask(running, get(b"/sse/svc/events", *EVENT_SOURCE))
    assert same.all(b"access-control-allow-origin") + same.all(b"vary") == []


@pytest.mark.gen_test
async def test_an_http_1_0_client_is_told_as_well(serve: Serve) -> None:
    running = await serve({"svc": [NOWHERE]})
    request = get(b"/sse/svc/events", *EVENT_SOURCE).replace(b"HTTP/1.1", b"HTTP/1.0")
    comes_back(await ask(running, request))
