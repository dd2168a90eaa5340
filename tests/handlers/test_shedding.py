"""Overload on sockets: what is shed, what never is, and how the gateway recovers."""

import asyncio
import json
import re
import time
from collections import Counter

import pytest

from tests.conftest import Running, Serve
from tests.support.event_streams import STREAM_HEAD, Listener, Source
from tests.support.journeys import CHUNKED, Start, ask, capture, only_line, problem
from tests.support.sockets import Client, Peer, echo, eventually, get, reply
from tests.support.websockets import HANDSHAKE, Acceptor, another, text
from tornado_gateway.errors import Shed
from tornado_gateway.handlers.local_reply import PROBLEM, error_fields
from tornado_gateway.handlers.local_reply import problem as problem_of
from tornado_gateway.policy.overload import LATEST, ORDINARY, Overload, OverloadConfig

LIMIT = 10
REQUEST = get(b"/api/svc/x")
EVENTS = b"Accept: text/event-stream"


class Held:
    """A script: read requests; answer each when the test releases one."""

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(0)

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            await self.gate.acquire()
            await peer.send(reply())

    def release(self, count: int) -> None:
        for _ in range(count):
            self.gate.release()


def overload(running: Running) -> Overload:
    return running.app.gateway.overload


async def fill(running: Running, count: int) -> list[Client]:
    """Put a number of requests in flight to the service "held"."""
    before = overload(running).in_flight
    clients = [await running.client() for _ in range(count)]
    for client in clients:
        await client.send(get(b"/api/held/x"))
    await eventually(lambda: overload(running).in_flight == before + count)
    return clients


async def served(serve: Serve, upstream: Start, held: Held, **variables: str) -> Running:
    url = upstream(echo).url
    return await serve(
        {
            "held": [upstream(held).url],
            "svc": [url],
            "low": {"endpoints": [url], "priority": "low"},
            "high": {"endpoints": [url], "priority": "high"},
        },
        **({"MAX_IN_FLIGHT_TOTAL": str(LIMIT), "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "0"} | variables),
    )  # fmt: skip


async def release_all(held: Held, clients: list[Client]) -> None:
    held.release(len(clients))
    for client in clients:
        assert (await client.response()).status == 200


@pytest.mark.gen_test
async def test_a_refusal_says_when_to_come_back_and_is_logged(serve: Serve, upstream: Start) -> None:
    held = Held()
    running = await served(serve, upstream, held)
    clients = await fill(running, LIMIT)
    lines = capture(running)
    answer = await ask(running, REQUEST)
    said = problem(answer, 503, "overloaded")
    assert said["detail"] == "the gateway has more work than it can do"
    assert (answer.get(b"retry-after") or b"") in (b"1", b"2", b"3", b"4", b"5")
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["attempts"], line["endpoint"]) == (503, "shed", 0, "")
    await release_all(held, clients)


@pytest.mark.gen_test
async def test_refusals_are_spread_over_time(serve: Serve, upstream: Start) -> None:
    held = Held()
    running = await served(serve, upstream, held)
    clients = await fill(running, LIMIT)
    client = await running.client()
    waits = Counter([(await client.ask(REQUEST)).get(b"retry-after") for _ in range(100)])
    assert waits == {b"%d" % seconds: 100 // LATEST for seconds in range(1, LATEST + 1)}
    assert overload(running).shed["request"] == 100
    await release_all(held, clients)


# ---- the order


LOW, LOW_STREAM = get(b"/api/low/x"), get(b"/sse/low/x")
STREAM, BY_ACCEPT = get(b"/sse/svc/x"), get(b"/api/svc/x", EVENTS)
WEBSOCKET = get(b"/ws/svc/x", *HANDSHAKE)
HIGH, HIGH_STREAM = get(b"/api/high/x"), get(b"/sse/high/x")
UNKNOWN = get(b"/api/none/x")


@pytest.mark.parametrize(
    ("count", "refused", "passed"),
    [
        (7, [], [LOW_STREAM, LOW, STREAM, REQUEST, HIGH]),
        (8, [LOW_STREAM, LOW], [STREAM, BY_ACCEPT, REQUEST, HIGH_STREAM, HIGH]),
        (9, [LOW, STREAM, BY_ACCEPT, WEBSOCKET], [REQUEST, HIGH_STREAM, HIGH]),
        (10, [LOW, STREAM, REQUEST, UNKNOWN], [HIGH_STREAM, HIGH]),
    ],
    ids=["7", "8", "9", "10"],
)
@pytest.mark.gen_test
async def test_low_priority_is_shed_first_then_new_streams_then_requests(
    serve: Serve, upstream: Start, count: int, refused: list[bytes], passed: list[bytes]
) -> None:
    held = Held()
    running = await served(serve, upstream, held, SSE_UNAVAILABLE="status")
    clients = await fill(running, count)
    for request in refused:
        problem(await ask(running, request), 503, "overloaded")
    assert sum(overload(running).shed.values()) == len(refused)
    for request in passed:
        assert (await ask(running, request)).status == 200
    await release_all(held, clients)


@pytest.mark.gen_test
async def test_a_route_may_have_a_priority_of_its_own(serve: Serve, upstream: Start) -> None:
    held = Held()
    routes = [
        {"path": "/batch/*", "service": "svc", "priority": "low"},
        {"path": "/pay/*", "service": "low", "priority": "high"},
        {"path": "/plain/*", "service": "low"},
    ]
    running = await served(serve, upstream, held, ROUTES=json.dumps(routes))
    clients = await fill(running, 8)
    assert [(await ask(running, get(path))).status for path in (b"/batch/x", b"/plain/x", b"/pay/x")] == [503, 503, 200]
    clients += await fill(running, 1)
    overload(running).take()  # the tenth
    assert [(await ask(running, get(path))).status for path in (b"/batch/x", b"/pay/x")] == [503, 200]
    overload(running).give_back()
    await release_all(held, clients)


@pytest.mark.parametrize(
    "request_",
    [get(b"/api/svc/x", b"x-request-id: mine"), get(b"/sse/svc/x", EVENTS, b"x-request-id: mine")],
    ids=["request", "stream"],
)
@pytest.mark.gen_test
async def test_a_refusal_has_its_id_and_is_counted_by_route_and_status(
    serve: Serve, upstream: Start, request_: bytes
) -> None:
    held = Held()
    running = await served(serve, upstream, held)
    clients = await fill(running, LIMIT)
    lines = capture(running)
    answer = await ask(running, request_)
    assert answer.get(b"x-request-id") == b"mine"
    line = await only_line(lines)
    assert (line["requestId"], line["client"], line["reason"], line["bytesOut"]) == (
        "mine", "127.0.0.1", "shed", len(answer.body),
    )  # fmt: skip
    key, _ = next(iter(running.app.gateway.durations))
    assert (key.route.startswith(("/api/", "/sse/")), key.status) == (True, "503")
    scraped = (await ask(running, get(b"/metrics"))).body
    kind = b"stream" if b"/sse/" in request_ else b"request"
    assert b'gateway_shed_total{class="%b"} 1.0' % kind in scraped
    await release_all(held, clients)


@pytest.mark.parametrize("target", [b"/api/svc/x", b"/sse/svc/x"])
@pytest.mark.parametrize(
    ("rule", "trusted", "wanted"),
    [
        ("prefix", "", b"[0-9a-f]{32}-mine"), ("replace", "", b"[0-9a-f]{32}"),
        ("prefix", "127.0.0.1", b"mine"), ("replace", "127.0.0.1", b"mine"),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_client_chooses_the_id_of_a_refusal_no_more_than_any_other_id(
    serve: Serve, upstream: Start, target: bytes, rule: str, trusted: str, wanted: bytes
) -> None:
    held = Held()
    running = await served(serve, upstream, held, REQUEST_ID=rule, TRUSTED_PROXIES=trusted)
    clients = await fill(running, LIMIT)
    lines = capture(running)
    answer = await ask(running, get(target, EVENTS, b"x-request-id: mine"))
    told = answer.get(b"x-request-id") or b""
    assert re.fullmatch(wanted, told)
    line = await only_line(lines)
    assert (line["requestId"], line["reason"]) == (told.decode(), "shed")
    await release_all(held, clients)


@pytest.mark.parametrize("method", [b"POST", b"HEAD"])
@pytest.mark.gen_test
async def test_the_body_of_a_request_that_is_shed_goes_nowhere(serve: Serve, upstream: Start, method: bytes) -> None:
    held = Held()
    running = await served(serve, upstream, held)
    clients = await fill(running, LIMIT)
    body = b"hello" if method == b"POST" else b""
    answer = await ask(running, get(b"/api/svc/x", method=method, body=body), method)
    assert (answer.status, len(answer.body) > 0) == (503, method == b"POST")
    await release_all(held, clients)


@pytest.mark.gen_test
async def test_an_event_source_that_is_shed_comes_back(serve: Serve, upstream: Start) -> None:
    held = Held()
    running = await served(serve, upstream, held)
    clients = await fill(running, LIMIT)
    lines = capture(running)
    answer = await ask(running, get(b"/sse/svc/x", EVENTS))
    assert (answer.status, answer.get(b"content-type")) == (200, b"text/event-stream")
    assert answer.body.startswith(b"retry: ")
    line = await only_line(lines)
    assert (line["status"], line["reason"]) == (200, "shed")
    await release_all(held, clients)


# ---- what is never shed


@pytest.mark.gen_test
async def test_running_streams_lose_nothing(serve: Serve, upstream: Start) -> None:
    held, source, acceptor = Held(), Source(), Acceptor()
    running = await serve(
        {"held": [upstream(held).url], "events": [upstream(source).url], "svc": [upstream(acceptor).url]},
        MAX_IN_FLIGHT_TOTAL=str(LIMIT), SSE_UNAVAILABLE="status",
    )  # fmt: skip
    listener = await Listener.ask(running, get(b"/sse/events/x"))
    bridge = await another(running, acceptor)
    assert overload(running).in_flight == 0
    clients = await fill(running, LIMIT)
    problem(await ask(running, get(b"/sse/events/x")), 503, "overloaded")
    for number in range(20):
        await source.say(b"data: %d\n\n" % number)
        await listener.until(b"data: %d\n\n" % number)
        await bridge.client.send(text(b"%d" % number))
        await bridge.upstream.hears(text(b"%d" % number))
        await bridge.upstream.send(text(b"back"))
        await bridge.client.hears(text(b"back"))
    await release_all(held, clients)
    await source.end()
    assert (await listener.all()).end == "complete"
    assert len(listener.body.split(b"\n\n")) == 21
    for side in bridge.sides:
        side.connection.reset()
    await bridge.over()


@pytest.mark.parametrize("target", [b"/healthz", b"/readyz", b"/metrics", b"/admin/stats", b"/_pressure"])
@pytest.mark.gen_test
async def test_pages_for_operators_answer(serve: Serve, upstream: Start, target: bytes) -> None:
    held = Held()
    running = await served(serve, upstream, held)
    clients = await fill(running, LIMIT)
    answer = await ask(running, get(target))
    assert answer.status == (503 if target == b"/_pressure" else 200)
    assert answer.get(b"content-type") != b"application/problem+json"
    await release_all(held, clients)


# ---- counting


@pytest.mark.gen_test
async def test_a_request_is_in_flight_until_its_last_byte_and_a_stream_never(serve: Serve, upstream: Start) -> None:
    source = Source(b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n\r\n")
    events = Source(STREAM_HEAD)
    running = await serve(
        {"plain": [upstream(source).url], "events": [upstream(events).url], "none": ["http://127.0.0.1:1"]},
        MAX_IN_FLIGHT_TOTAL="100",
    )
    state = overload(running)
    plain = await Listener.ask(running, get(b"/api/plain/x"))
    assert state.in_flight == 1
    awaited = await Listener.ask(running, get(b"/api/plain/x", EVENTS))  # a stream was awaited, and none came
    assert state.in_flight == 2
    found = await Listener.ask(running, get(b"/api/events/x"))  # a stream that nobody awaited
    assert state.in_flight == 2
    assert (await ask(running, get(b"/api/none/x"))).status == 502
    assert state.in_flight == 2
    plain.client.reset()
    awaited.client.reset()
    await eventually(lambda: state.in_flight == 0)
    found.client.reset()
    await eventually(lambda: not running.app.gateway.streams.open)
    assert state.in_flight == 0


@pytest.mark.gen_test
async def test_without_a_limit_nothing_is_counted(serve: Serve, upstream: Start) -> None:
    held = Held()
    running = await serve({"held": [upstream(held).url]})
    client = await running.client()
    await client.send(get(b"/api/held/x"))
    await eventually(lambda: running.inflight == 1)
    assert (overload(running).in_flight, overload(running).level) == (0, 0.0)
    await release_all(held, [client])


# ---- hysteresis and recovery


@pytest.mark.gen_test
async def test_what_was_shed_is_admitted_again_once_a_tenth_is_free(serve: Serve, upstream: Start) -> None:
    held = Held()
    running = await served(serve, upstream, held)
    clients = await fill(running, LIMIT)
    statuses = []
    for left in (10, 9, 8):
        await eventually(lambda left=left: overload(running).in_flight == left)
        statuses.append((await ask(running, REQUEST)).status)
        held.release(1)
    assert statuses == [503, 503, 200]
    held.release(LIMIT)
    for client in clients:
        assert (await client.response()).status == 200
    assert (overload(running).level, overload(running).in_flight) == (0.0, 0)
    assert (await ask(running, LOW)).status == 200


@pytest.mark.gen_test
async def test_at_twice_the_load_the_rest_is_served(serve: Serve, upstream: Start) -> None:
    async def slow(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(0.02)
            await peer.send(reply())

    up, source = upstream(slow), Source()
    running = await serve(
        {"svc": [up.url], "events": [upstream(source).url]},
        MAX_IN_FLIGHT_TOTAL="8", UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS="0",
    )  # fmt: skip
    listener = await Listener.ask(running, get(b"/sse/events/x"))
    most, statuses = 0, Counter[int]()

    async def keep_asking() -> None:
        nonlocal most
        client = await running.client()
        for _ in range(20):
            await client.send(REQUEST)
            answer = await client.response()
            statuses[answer.status] += 1
            most = max(most, overload(running).in_flight)
            if answer.status == 503:
                assert (answer.get(b"retry-after") or b"") in (b"1", b"2", b"3", b"4", b"5")
                await asyncio.sleep(0.01)  # an open loop: who is refused takes as long to ask again

    async def keep_looking() -> None:
        client = await running.client()
        for number in range(20):
            for target in (b"/healthz", b"/readyz", b"/metrics", b"/admin/stats"):
                assert (await client.ask(get(target))).status == 200
            await source.say(b"data: %d\n\n" % number)
            await listener.until(b"data: %d\n\n" % number)

    await asyncio.gather(keep_looking(), *[keep_asking() for _ in range(16)])
    assert set(statuses) == {200, 503}
    assert statuses.total() == 16 * 20
    assert statuses[200] == len(up.requests)
    assert most <= 8
    assert (overload(running).in_flight, overload(running).level) == (0, 0.0)
    assert (await ask(running, REQUEST)).status == 200
    await source.end()
    assert (await listener.all()).end == "complete"


async def block(running: Running) -> None:
    """Block the event loop behind a measurement, so that the next measurement is 20 ms late."""
    pressure = running.app.gateway.pressure
    ticked_at = pressure.ticked_at
    await eventually(lambda: pressure.ticked_at != ticked_at)
    time.sleep(0.02 + pressure.tick_length)


@pytest.mark.gen_test
async def test_a_loop_that_is_late_again_and_again_sheds_and_recovers(serve: Serve, upstream: Start) -> None:
    source = Source()
    services = {"svc": [upstream(echo).url], "events": [upstream(source).url]}
    running = await serve(services)
    state, short = overload(running), OverloadConfig(max_delay=0.01)
    listener = await Listener.ask(running, get(b"/sse/events/x"))
    state.reconfigure(short)
    running.app.gateway.pressure.reconfigure(short)
    for _ in range(40):
        await block(running)
    assert state.level > ORDINARY + 1
    refused = await ask(running, REQUEST)
    problem(refused, 503, "overloaded")
    assert refused.get(b"retry-after")
    pressure = await ask(running, get(b"/_pressure"))
    said = json.loads(pressure.body)
    assert (pressure.status, said["status"], said["shedTotal"]) == (503, "overloaded", 1)
    assert "request" in said["shedding"] and said["eventLoopDelay"]["p99Ms"] >= 20
    await source.say(b"data: 1\n\n")  # a stream that runs goes on
    await listener.until(b"data: 1\n\n")
    state.reconfigure(OverloadConfig(max_delay=60.0))
    assert (await ask(running, REQUEST)).status == 200
    said = json.loads((await ask(running, get(b"/_pressure"))).body)
    assert (said["status"], said["shedding"], said["shedTotal"]) == ("ok", [], 1)
    await source.end()
    assert (await listener.all()).end == "complete"


@pytest.mark.gen_test
async def test_a_request_that_the_loop_reaches_too_late_is_refused_whatever_the_level(
    serve: Serve, upstream: Start
) -> None:
    running = await serve({"svc": [upstream(echo).url]}, UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS="1000")
    gateway, state = running.app.gateway, overload(running)
    gateway.pressure.stop()  # the next measurement does not come
    state.observe_delay(0.0, gateway.now(), gateway.now() + 60.0)
    assert (await ask(running, REQUEST)).status == 200
    state.observe_delay(0.0, gateway.now(), gateway.now() - 1.0)
    problem(await ask(running, REQUEST), 503, "overloaded")
    assert (await ask(running, get(b"/healthz"))).status == 200
    assert (state.level, state.shed["request"]) == (0.0, 1)


@pytest.mark.gen_test
async def test_memory_above_its_threshold_sheds(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, UNDER_PRESSURE_MAX_RSS_BYTES="1")
    await eventually(lambda: overload(running).is_overloaded)
    problem(await ask(running, REQUEST), 503, "overloaded")
    assert (await ask(running, get(b"/healthz"))).status == 200


@pytest.mark.gen_test
async def test_a_refusal_that_is_prepared_is_the_answer_of_the_error(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, UNDER_PRESSURE_MAX_RSS_BYTES="1", VIA_NAME="edge")
    overload(running).observe_memory(1, 10)
    client = await running.client()
    for id_ in (b"a", b'"\\', b"x" * 128):
        await client.send(get(b"/api/svc/x", b"x-request-id: " + id_))
        answer = await client.response()
        seconds = answer.get(b"retry-after")
        assert seconds
        error = Shed("the gateway has more work than it can do", int(seconds))
        expected = {name.lower(): value for name, value in error_fields(error, b"edge")}
        assert (answer.status, answer.body) == (503, problem_of(error, id_))
        assert {name: answer.get(name) for name in expected} == expected
        assert (answer.get(b"x-request-id"), answer.get(b"content-type")) == (id_, PROBLEM)
