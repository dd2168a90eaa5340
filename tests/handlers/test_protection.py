"""How the gateway protects services and clients from each other: retries, queues, breakers, sessions, on real sockets.

What is decided is tested in tests/policy/; here, that requests, bodies, waits and answers follow. Row names such as H21
are those of the project's feature list.
"""

import asyncio
import json
import re
import time
from typing import Any

import pytest

from tests.conftest import Running, Serve
from tests.support.event_streams import STREAM_HEAD
from tests.support.journeys import CHUNKED, Start, ask, capture, only_line, plays, problem, silent
from tests.support.sockets import Client, Message, Peer, Script, chunked, echo, eventually, get, reply
from tornado_gateway.policy.balancing import BALANCERS
from tornado_gateway.policy.breaker import State
from tornado_gateway.policy.endpoint import Endpoint
from tornado_gateway.policy.retry import REPLAY_BYTES
from tornado_gateway.policy.service import Service

PATH = b"/api/svc/x"
REFUSING = "http://127.0.0.1:1"
BUSY = reply(b"503 Service Unavailable", (b"X-From: upstream",), b"busy")
SOON = 1.0  # seconds that what happens at once takes at most


def named(name: bytes) -> Script:
    """A script: the answer to each request is a name."""
    return always(reply(body=name))


def always(answer: bytes) -> Script:
    """A script: the same answer to each request, as long as the connection lasts."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer)

    return script


class Answers:
    """A script: the next answer for each request, and the last one ever after."""

    def __init__(self, *answers: bytes) -> None:
        self.left = list(answers)

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(self.left.pop(0) if len(self.left) > 1 else self.left[0])


class Gate:
    """A script: each request is answered when a test says so, in the order in which they came.

    Attributes:
        most: requests that there were at once.
    """

    def __init__(self, answer: bytes = reply()) -> None:
        self.answer = answer
        self.waiting: list[asyncio.Event] = []
        self.most = 0

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            self.waiting.append(asyncio.Event())
            self.most = max(self.most, len(self.waiting))
            await self.waiting[-1].wait()
            await peer.send(self.answer)

    async def open(self) -> None:
        """Let the first one that waits be answered."""
        await eventually(lambda: self.waiting)
        self.waiting.pop(0).set()


def service_of(running: Running, name: bytes = b"svc") -> Service:
    return running.app.gateway.services[name]


def endpoints_of(running: Running) -> list[Endpoint]:
    return list(service_of(running).endpoints)


async def view_of(running: Running) -> dict[str, Any]:
    """What there is to see of a service."""
    answer = await ask(running, get(b"/admin/stats"))
    view: dict[str, Any] = json.loads(answer.body)["services"]["svc"]
    return view


# ---------------------------------------------------------------- statuses that are asked for again


@pytest.mark.parametrize(
    ("method", "body"),
    [(b"GET", b""), (b"HEAD", b""), (b"OPTIONS", b""), (b"DELETE", b""), (b"PUT", b"hello"), (b"QUERY", b"hello"),
     (b"PUT", b"a" * REPLAY_BYTES)],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_status_that_says_so_is_replaced_by_another_endpoints_answer(
    serve: Serve, upstream: Start, method: bytes, body: bytes
) -> None:
    bad, good = upstream(always(BUSY if method != b"HEAD" else BUSY[:-4])), upstream(named(b""))
    running = await serve({"svc": [bad.url, good.url]}, RETRY_ON="503", RETRY_BACKOFF_MS="1", BALANCER="round_robin")
    lines = capture(running)
    answer = await ask(running, get(PATH, method=method, body=body), method)
    assert (answer.status, answer.all(b"x-from")) == (200, [])
    assert [request.body for request in bad.requests + good.requests] == [body] * 2
    assert [endpoint.retries_total for endpoint in endpoints_of(running)] == [0, 1]
    assert (running.errors, running.inflight) == (1, 0)
    await eventually(lines)
    assert [(line["status"], line["attempts"], line["endpoint"]) for line in lines()] == [(200, 2, good.url)]


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


@pytest.mark.parametrize(
    ("method", "retry_on", "size"),
    [
        (b"POST", "503", 5), (b"PATCH", "503", 5), (b"BREW", "503", 0), (b"GET", "connect,reset", 0),
        (b"GET", "500,502,504", 0), (b"GET", "off", 0), (b"PUT", "503", 4 * REPLAY_BYTES),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_any_other_status_is_the_answer(
    serve: Serve, upstream: Start, method: bytes, retry_on: str, size: int
) -> None:
    good = upstream(echo)
    running = await serve({"svc": [upstream(always(BUSY)).url, good.url]}, RETRY_ON=retry_on, BALANCER="round_robin")
    answer = await ask(running, get(PATH, method=method, body=b"a" * size))
    assert (answer.status, answer.body, answer.get(b"x-from"), good.accepted) == (503, b"busy", b"upstream", 0)


@pytest.mark.parametrize(("attempts", "asked"), [("1", 1), ("2", 2), ("3", 3), ("9", 4)])
@pytest.mark.gen_test
async def test_no_more_endpoints_are_asked_than_may_be(
    serve: Serve, upstream: Start, attempts: str, asked: int
) -> None:
    ups = [upstream(always(BUSY)) for _ in range(4)]
    running = await serve(
        {"svc": [up.url for up in ups]},
        RETRY_ON="503", RETRY_BACKOFF_MS="0", RETRY_ATTEMPTS=attempts, RETRY_BUDGET_FLOOR="9",
    )  # fmt: skip
    answer = await ask(running, get(PATH))
    assert (answer.status, answer.body, answer.get(b"x-from")) == (503, b"busy", b"upstream")
    assert sum(len(up.requests) for up in ups) == asked
    assert max(len(up.requests) for up in ups) == 1


@pytest.mark.parametrize("other", [{"url": REFUSING, "weight": 0}, None], ids=["weighs nothing", "is out"])
@pytest.mark.gen_test
async def test_an_answer_is_not_thrown_away_when_nobody_else_can_be_asked(
    serve: Serve, upstream: Start, other: dict[str, object] | None
) -> None:
    up = upstream(always(BUSY))
    running = await serve({"svc": [up.url, other or REFUSING]}, RETRY_ON="503", RETRY_BACKOFF_MS="0")
    if not other:
        endpoints_of(running)[1].is_healthy = False
        service_of(running).refresh()
    answer = await ask(running, get(PATH))
    assert (answer.status, answer.body, answer.get(b"x-from"), len(up.requests)) == (503, b"busy", b"upstream", 1)


@pytest.mark.parametrize("status", [b"429 Too Many Requests", b"404 Not Found", b"501 Not Implemented"])
@pytest.mark.gen_test
async def test_a_status_that_is_asked_for_again_is_not_thereby_a_failure(
    serve: Serve, upstream: Start, status: bytes
) -> None:
    running = await serve(
        {"svc": [upstream(always(reply(status))).url, upstream(echo).url]},
        RETRY_ON=status[:3].decode(), RETRY_BACKOFF_MS="0", BALANCER="round_robin",
    )  # fmt: skip
    assert (await ask(running, get(PATH))).status == 200
    assert [endpoint.requests_total for endpoint in endpoints_of(running)] == [1, 1]
    assert running.errors == 0


# ---------------------------------------------------------------- waits before another try


def come_back_in(seconds: int) -> bytes:
    return reply(b"503 Service Unavailable", (b"Retry-After: %d" % seconds,), b"busy")


@pytest.mark.gen_test
async def test_an_endpoints_wish_to_wait_is_respected(serve: Serve, upstream: Start) -> None:  # H22
    running = await serve(
        {"svc": [upstream(always(come_back_in(1))).url, upstream(echo).url]}, RETRY_ON="503", BALANCER="round_robin"
    )
    begun = time.monotonic()
    assert (await ask(running, get(PATH))).status == 200
    assert 0.99 <= time.monotonic() - begun < 1.0 + SOON


@pytest.mark.gen_test
async def test_a_wish_to_wait_longer_than_a_request_may_take_is_passed_on(serve: Serve, upstream: Start) -> None:
    good = upstream(echo)
    running = await serve(
        {"svc": [upstream(always(come_back_in(2))).url, good.url]},
        RETRY_ON="503", BALANCER="round_robin", HTTP_PROXY_TIMEOUT_MS="1500",
    )  # fmt: skip
    begun = time.monotonic()
    answer = await ask(running, get(PATH))
    assert (answer.status, answer.body, answer.get(b"retry-after")) == (503, b"busy", b"2")
    assert time.monotonic() - begun < SOON
    assert good.accepted == 0


@pytest.mark.parametrize("abrupt", [True, False])
@pytest.mark.gen_test
async def test_who_leaves_while_the_gateway_waits_is_waited_for_no_more(
    serve: Serve, upstream: Start, abrupt: bool
) -> None:
    bad, good = upstream(always(come_back_in(20))), upstream(echo)
    running = await serve({"svc": [bad.url, good.url]}, RETRY_ON="503", BALANCER="round_robin")
    lines = capture(running)
    client = await running.client()
    await client.send(get(PATH, method=b"PUT", body=b"hello"))
    await eventually(lambda: running.errors)
    assert running.inflight == 0  # it waits for nobody
    client.reset() if abrupt else client.close()
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["attempts"]) == (499, "client_gone", 1)
    assert (running.inflight, running.errors, good.accepted) == (0, 1, 0)


@pytest.mark.gen_test
async def test_nobody_is_asked_for_who_has_left(serve: Serve, upstream: Start) -> None:
    good = upstream(echo)
    running = await serve(
        {"svc": [upstream(always(come_back_in(1))).url, good.url]}, RETRY_ON="503", BALANCER="round_robin"
    )
    leaver = await running.client()
    await leaver.send(get(b"/api/svc/1"))
    await eventually(lambda: running.errors == 1)
    leaver.close()
    for number in (2, 3):  # the third one has to wait, longer than the first one would have
        assert (await ask(running, get(b"/api/svc/%d" % number))).status == 200
    assert running.errors == 2
    assert [request.target for request in good.requests] == [b"/2", b"/3"]


# ---------------------------------------------------------------- a time for each try


@pytest.mark.gen_test
async def test_a_try_that_is_too_slow_is_given_up_for_another(serve: Serve, upstream: Start) -> None:  # H22
    slow, good = upstream(silent), upstream(echo)
    running = await serve({"svc": [slow.url, good.url]}, RETRY_TRY_TIMEOUT_MS="100", BALANCER="round_robin")
    lines = capture(running)
    begun = time.monotonic()
    assert (await ask(running, get(PATH))).status == 200
    assert 0.09 <= time.monotonic() - begun < 0.1 + SOON
    await eventually(lambda: not slow.open)
    await eventually(lines)
    assert [(line["attempts"], line["status"]) for line in lines()] == [(2, 200)]
    assert running.errors == 1


async def slow_head(peer: Peer) -> None:
    """A script: an answer after more than a try's time, in pieces even further apart."""
    await peer.request()
    for piece in (reply(body=b"slow")[:-2], b"ow"):
        await asyncio.sleep(0.25)
        await peer.send(piece)
    await peer.ended()


@pytest.mark.gen_test
async def test_the_last_try_has_all_the_time_there_is(serve: Serve, upstream: Start) -> None:
    running = await serve(
        {"svc": [upstream(silent).url, upstream(slow_head).url]}, RETRY_TRY_TIMEOUT_MS="100", BALANCER="round_robin"
    )
    answer = await ask(running, get(PATH))
    assert (answer.status, answer.body) == (200, b"slow")


@pytest.mark.gen_test
async def test_a_head_in_time_leaves_its_body_all_the_time(serve: Serve, upstream: Start) -> None:
    async def slow_body(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(body=b"slow")[:-2])
        await asyncio.sleep(0.3)
        await peer.send(b"ow")
        await peer.ended()

    other = upstream(echo)
    running = await serve(
        {"svc": [upstream(slow_body).url, other.url]}, RETRY_TRY_TIMEOUT_MS="100", BALANCER="round_robin"
    )
    answer = await ask(running, get(PATH))
    assert (answer.status, answer.body, answer.complete, other.accepted) == (200, b"slow", True, 0)


@pytest.mark.gen_test
async def test_when_every_try_is_too_slow_the_request_is_over_in_its_time(serve: Serve, upstream: Start) -> None:
    running = await serve(
        {"svc": [upstream(silent).url for _ in range(2)]}, RETRY_TRY_TIMEOUT_MS="100", HTTP_PROXY_TIMEOUT_MS="1200"
    )
    begun = time.monotonic()
    problem(await ask(running, get(PATH)), 504, "upstream_timeout")
    assert 1.1 <= time.monotonic() - begun < 1.2 + SOON
    assert running.errors == 2


@pytest.mark.parametrize(
    ("method", "size", "others"),
    [(b"POST", 5, 1), (b"PUT", 4 * REPLAY_BYTES, 1), (b"GET", 0, 0)],
    ids=["not repeatable", "too large to keep", "nobody else"],
)
@pytest.mark.gen_test
async def test_a_try_that_must_be_the_only_one_has_all_the_time_there_is(
    serve: Serve, upstream: Start, method: bytes, size: int, others: int
) -> None:
    other = upstream(echo)
    running = await serve(
        {"svc": [upstream(slow_head).url, {"url": other.url, "weight": others}]},
        RETRY_TRY_TIMEOUT_MS="100", BALANCER="round_robin",
    )  # fmt: skip
    answer = await ask(running, get(PATH, method=method, body=b"a" * size))
    assert (answer.status, answer.body, other.accepted) == (200, b"slow", 0)


# ---------------------------------------------------------------- a budget for retries


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [(always(BUSY), 503, ""), (plays(then="reset"), 502, "upstream_unavailable"), (silent, 504, "upstream_timeout")],
)
@pytest.mark.gen_test
async def test_without_a_budget_the_first_failure_is_the_answer(  # H21
    serve: Serve, upstream: Start, script: Script, status: int, code: str
) -> None:
    good = upstream(echo)
    running = await serve(
        {"svc": [upstream(script).url, good.url]},
        RETRY_ON="connect,reset,503", RETRY_BUDGET_PERCENT="0", RETRY_BUDGET_FLOOR="0", RETRY_TRY_TIMEOUT_MS="100",
        BALANCER="round_robin",
    )  # fmt: skip
    answer = await ask(running, get(PATH))
    assert (answer.status, good.accepted, running.errors) == (status, 0, 1)
    if code:
        problem(answer, status, code)
    else:
        assert answer.get(b"x-from") == b"upstream"


@pytest.mark.gen_test
async def test_retries_end_with_the_budget(serve: Serve, upstream: Start) -> None:  # H21
    ups = [upstream(always(BUSY)) for _ in range(2)]
    running = await serve(
        {"svc": [up.url for up in ups]},
        RETRY_ON="503", RETRY_BUDGET_PERCENT="0", RETRY_BUDGET_FLOOR="2", RETRY_BACKOFF_MS="0", BREAKER_FAILURES="0",
    )  # fmt: skip
    lines = capture(running)
    assert [(await ask(running, get(PATH))).status for _ in range(4)] == [503] * 4
    await eventually(lambda: len(lines()) == 4)
    assert [line["attempts"] for line in lines()] == [2, 2, 1, 1]
    assert (await view_of(running))["retryBudget"] < 1


@pytest.mark.gen_test
async def test_where_nothing_was_sent_another_try_costs_nothing(serve: Serve, upstream: Start) -> None:
    running = await serve(
        {"svc": [REFUSING, upstream(echo).url]},
        RETRY_BUDGET_PERCENT="0", RETRY_BUDGET_FLOOR="0", BALANCER="round_robin",
    )  # fmt: skip
    assert [(await ask(running, get(PATH, method=b"POST", body=b"a"))).status for _ in range(6)] == [200] * 6
    assert [(each.errors_total, each.retries_total) for each in endpoints_of(running)] == [(3, 0), (0, 3)]


@pytest.mark.parametrize("retry_on", ["off", "reset,503"])
@pytest.mark.gen_test
async def test_a_refused_connection_is_the_answer_if_that_is_wanted(
    serve: Serve, upstream: Start, retry_on: str
) -> None:
    good = upstream(echo)
    running = await serve({"svc": [REFUSING, good.url]}, RETRY_ON=retry_on, BALANCER="round_robin")
    problem(await ask(running, get(PATH)), 502, "upstream_unavailable")
    assert good.accepted == 0


@pytest.mark.parametrize("script", [plays(then="reset"), plays(then="close"), plays(BUSY), silent])
@pytest.mark.gen_test
async def test_a_post_that_was_sent_is_never_sent_again(  # H20
    serve: Serve, upstream: Start, script: Script
) -> None:
    bad, good = upstream(script), upstream(echo)
    running = await serve(
        {"svc": [bad.url, good.url]},
        RETRY_ON="connect,reset,503", RETRY_ATTEMPTS="9", HTTP_PROXY_TIMEOUT_MS="300", BALANCER="round_robin",
    )  # fmt: skip
    answer = await ask(running, get(PATH, method=b"POST", body=b"hello"))
    assert answer.status in (502, 503, 504)
    assert (len(bad.requests), good.accepted) == (1, 0)


# ---------------------------------------------------------------- requests that wait for room


async def queue(running: Running, *paths: bytes) -> list[Client]:
    """Clients that wait for room, in this order; the first one need not."""
    clients = []
    for number, path in enumerate(paths):
        clients.append(await running.client())
        await clients[-1].send(get(b"/api/svc" + path))
        await eventually(lambda number=number: running.inflight and service_of(running).waiting == number)
    return clients


@pytest.mark.gen_test
async def test_what_waits_for_room_is_served_in_order(serve: Serve, upstream: Start) -> None:  # L12
    gate = Gate()
    up = upstream(gate)
    running = await serve({"svc": [up.url]}, MAX_IN_FLIGHT="1", QUEUE_TIMEOUT_MS="5000")
    clients = await queue(running, b"/1", b"/2", b"/3", b"/4")
    view = await view_of(running)
    assert (view["waiting"], view["upstreamDetails"][0]["inflight"]["http"]) == (3, 1)
    for number, client in enumerate(clients):
        await eventually(lambda number=number: len(up.requests) == number + 1)
        assert service_of(running).waiting == 3 - number
        await gate.open()
        assert (await client.response()).status == 200
    assert [request.target for request in up.requests] == [b"/1", b"/2", b"/3", b"/4"]
    assert gate.most == 1


@pytest.mark.gen_test
async def test_room_at_any_endpoint_is_used_before_anybody_waits(serve: Serve, upstream: Start) -> None:
    gates = Gate(), Gate()
    running = await serve({"svc": [upstream(gate).url for gate in gates]}, MAX_IN_FLIGHT="2", QUEUE_TIMEOUT_MS="5000")
    clients = [await running.client() for _ in range(6)]
    for client in clients:
        await client.send(get(PATH))
    await eventually(lambda: service_of(running).waiting == 2)
    await eventually(lambda: [len(gate.waiting) for gate in gates] == [2, 2])
    for gate in gates * 3:
        await gate.open()
    assert [(await client.response()).status for client in clients] == [200] * 6
    assert [gate.most for gate in gates] == [2, 2]


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.gen_test
async def test_a_full_queue_takes_nobody(serve: Serve, upstream: Start, size: int) -> None:
    gate = Gate()
    up = upstream(gate)
    running = await serve({"svc": [up.url]}, MAX_IN_FLIGHT="1", QUEUE_SIZE=str(size), QUEUE_TIMEOUT_MS="5000")
    clients = await queue(running, *[b"/x"] * (1 + size))
    lines = capture(running)
    begun = time.monotonic()
    answer = await ask(running, get(PATH))
    assert time.monotonic() - begun < SOON
    problem(answer, 503, "overloaded")
    assert int(answer.get(b"retry-after") or b"") >= 1
    await eventually(lines)
    assert [(line["reason"], line["attempts"], line["endpoint"]) for line in lines()] == [("overflow", 0, "")]
    for client in clients:
        await gate.open()
        assert (await client.response()).status == 200
    assert (len(up.requests), running.errors) == (1 + size, 0)


@pytest.mark.gen_test
async def test_nobody_waits_longer_than_may_be(serve: Serve, upstream: Start) -> None:
    gate = Gate()
    up = upstream(gate)
    running = await serve({"svc": [up.url]}, MAX_IN_FLIGHT="1", QUEUE_TIMEOUT_MS="50")
    (first,) = await queue(running, b"/1")
    lines = capture(running)
    begun = time.monotonic()
    answer = await ask(running, get(b"/api/svc/2", method=b"POST", body=b"hello"))
    assert 0.04 <= time.monotonic() - begun < 0.05 + SOON
    problem(answer, 503, "overloaded")
    assert answer.get(b"retry-after")
    await eventually(lines)
    assert [(line["reason"], line["attempts"]) for line in lines()] == [("overloaded", 0)]
    assert service_of(running).waiting == 0
    await gate.open()
    assert (await first.response()).status == 200
    assert (len(up.requests), running.errors) == (1, 0)


@pytest.mark.parametrize("abrupt", [True, False])
@pytest.mark.gen_test
async def test_who_leaves_the_queue_is_not_served(serve: Serve, upstream: Start, abrupt: bool) -> None:
    gate = Gate()
    up = upstream(gate)
    running = await serve({"svc": [up.url]}, MAX_IN_FLIGHT="1", QUEUE_TIMEOUT_MS="5000")
    first, leaver, last = await queue(running, b"/1", b"/2", b"/3")
    lines = capture(running)
    leaver.reset() if abrupt else leaver.close()
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["attempts"], line["endpoint"]) == (499, "client_gone", 0, "")
    assert service_of(running).waiting == 1
    for client in (first, last):
        await gate.open()
        assert (await client.response()).status == 200
    assert [request.target for request in up.requests] == [b"/1", b"/3"]


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


@pytest.mark.gen_test
async def test_an_answer_that_turns_out_to_be_a_stream_makes_room(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        await peer.send(STREAM_HEAD if request.target == b"/1" else reply())
        await peer.ended()

    running = await serve({"svc": [upstream(script).url]}, MAX_IN_FLIGHT="1", QUEUE_TIMEOUT_MS="5000")
    first, second = await running.client(), await running.client()
    await first.send(get(b"/api/svc/1", method=b"POST", body=b"hello"))
    assert (await first.head()).status == 200
    assert (await second.ask(get(b"/api/svc/2"))).status == 200


@pytest.mark.gen_test
async def test_whose_turn_it_is_may_fail_and_the_next_one_goes_on(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        while (request := await peer.request()).target != b"/2":
            if request.target == b"/1":
                await gate.wait()
            await peer.send(reply())
        peer.reset()

    gate = asyncio.Event()
    running = await serve({"svc": [upstream(script).url]}, MAX_IN_FLIGHT="1", QUEUE_TIMEOUT_MS="5000", RETRY_ON="off")
    clients = [await running.client() for _ in range(3)]
    for number, client in enumerate(clients):
        await client.send(get(b"/api/svc/%d" % (number + 1), method=b"POST", body=b"hello"))
        await eventually(lambda number=number: running.inflight and service_of(running).waiting == number)
    gate.set()
    assert [(await client.response()).status for client in clients] == [200, 502, 200]


@pytest.mark.gen_test
async def test_what_waits_is_told_at_once_that_the_circuit_has_opened(serve: Serve, upstream: Start) -> None:
    gate = Gate(reply(b"500 Oh"))
    up = upstream(gate)
    running = await serve(
        {"svc": [up.url]},
        MAX_IN_FLIGHT="1", QUEUE_TIMEOUT_MS="60000", BREAKER_FAILURES="1", PANIC_PERCENT="0", MAX_EJECTED_PERCENT="100",
    )  # fmt: skip
    first, second = await queue(running, b"/1", b"/2")
    await gate.open()
    assert (await first.response()).status == 500
    problem(await second.response(), 503, "circuit_open")
    assert [request.target for request in up.requests] == [b"/1"]


# ---------------------------------------------------------------- circuits

ALL_OUT = {"PANIC_PERCENT": "0", "MAX_EJECTED_PERCENT": "100"}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.gen_test
async def test_a_service_that_has_failed_too_often_is_left_alone(  # C10
    serve: Serve, upstream: Start, count: int
) -> None:
    ups = [upstream(always(reply(b"500 Oh"))) for _ in range(count)]
    running = await serve({"svc": [up.url for up in ups]}, BALANCER="round_robin", **ALL_OUT)
    for _ in range(5 * count):
        assert (await ask(running, get(PATH))).status == 500
    lines = capture(running)
    for method in (b"GET", b"POST"):
        answer = await ask(running, get(PATH, method=method))
        problem(answer, 503, "circuit_open")
        assert 12 <= int(answer.get(b"retry-after") or b"") <= 17
    await eventually(lambda: len(lines()) == 2)
    assert [(line["reason"], line["attempts"], line["endpoint"]) for line in lines()] == [("circuit_open", 0, "")] * 2
    assert [len(up.requests) for up in ups] == [5] * count
    assert running.errors == 5 * count


@pytest.mark.gen_test
async def test_an_open_breaker_is_there_to_see(serve: Serve, upstream: Start) -> None:
    bad, good = upstream(always(reply(b"500 Oh"))), upstream(echo)
    running = await serve({"svc": [bad.url, good.url]}, BALANCER="round_robin")
    for _ in range(4):
        await ask(running, get(PATH, method=b"POST"))
        await ask(running, get(PATH, method=b"POST"))
    view = await view_of(running)
    assert [each["breaker"]["state"] for each in view["upstreamDetails"]] == ["closed", "closed"]
    assert (view["healthy"], view["ejected"], view["panic"]) == (2, 0, False)
    assert (await ask(running, get(PATH, method=b"POST"))).status == 500
    answer = json.loads((await ask(running, get(b"/admin/stats"))).body)
    view = answer["services"]["svc"]
    first, second = view["upstreamDetails"]
    assert (first["breaker"]["state"], first["breaker"]["opened"], first["breaker"]["ejected"]) == ("open", 1, True)
    assert 13_000 < first["breaker"]["openForMs"] <= 16_500
    assert first["circuitOpenUntilMs"] == pytest.approx(answer["nowMs"] + first["breaker"]["openForMs"], abs=2)
    assert (first["healthy"], first["usable"], first["errorsTotal"]) == (False, False, 5)
    assert (second["breaker"]["state"], second["circuitOpenUntilMs"], second["usable"]) == ("closed", 0, True)
    assert (view["healthy"], view["ejected"], view["panic"]) == (1, 1, False)
    assert [(await ask(running, get(PATH, method=b"POST"))).status for _ in range(4)] == [200] * 4


BREAKING = {
    "500": always(reply(b"500 Oh")),
    "502": always(reply(b"502 Oh")),
    "599": always(reply(b"599 Oh")),
    "reset": plays(then="reset"),
    "nonsense": plays(b"220 smtp.example ESMTP\r\n\r\n"),
    "dies in its body": plays(reply(body=b"a" * 10)[:-5], then="reset"),
    "too slow": silent,
}


@pytest.mark.parametrize("script", BREAKING.values(), ids=BREAKING)
@pytest.mark.gen_test
async def test_failures_open_a_breaker(serve: Serve, upstream: Start, script: Script) -> None:  # C9
    running = await serve({"svc": [upstream(script).url]}, HTTP_PROXY_TIMEOUT_MS="50", **ALL_OUT)
    for _ in range(5):
        assert not endpoints_of(running)[0].breaker.is_open
        await ask(running, get(PATH))
    await eventually(lambda: endpoints_of(running)[0].breaker.is_open)
    problem(await ask(running, get(PATH)), 503, "circuit_open")


@pytest.mark.gen_test
async def test_refused_connections_open_a_breaker(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [REFUSING]}, **ALL_OUT)
    for _ in range(5):
        problem(await ask(running, get(PATH)), 502, "upstream_unavailable")
    problem(await ask(running, get(PATH)), 503, "circuit_open")
    assert running.errors == 5


@pytest.mark.parametrize(
    ("status", "variables", "opens"),
    [
        (b"501 Not Implemented", {}, False), (b"505 HTTP Version Not Supported", {}, False),
        (b"404 Not Found", {}, False), (b"429 Too Many Requests", {}, False), (b"404 Not Found",
        {"BREAKER_STATUSES": "404", "BREAKER_FAILURES": "8"}, True), (b"500 Oh", {"BREAKER_STATUSES": "404"}, False),
        (b"500 Oh", {"BREAKER_FAILURES": "0"}, False), (b"500 Oh", {"BREAKER_FAILURES": "8"}, True),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_only_statuses_that_are_failures_open_a_breaker(
    serve: Serve, upstream: Start, status: bytes, variables: dict[str, str], opens: bool
) -> None:
    up = upstream(always(reply(status)))
    running = await serve({"svc": [up.url]}, **ALL_OUT, **variables)
    for _ in range(8):
        assert (await ask(running, get(PATH))).status == int(status[:3])
    assert endpoints_of(running)[0].breaker.is_open is opens


@pytest.mark.gen_test
async def test_a_hundred_clients_that_leave_say_nothing_about_an_endpoint(serve: Serve, upstream: Start) -> None:  # C9
    async def script(peer: Peer) -> None:
        while (await peer.request_head()).target != b"/slow":
            await peer.send(reply())
        await peer.ended()

    up = upstream(script)
    running = await serve({"svc": [up.url]}, **ALL_OUT)
    clients = [await running.client() for _ in range(100)]
    for client in clients:
        await client.send(get(b"/api/svc/slow"))
    await eventually(lambda: len(up.requests) == 100)
    for number, client in enumerate(clients):
        client.reset() if number % 2 else client.close()
    await eventually(lambda: not running.inflight)
    (endpoint,) = endpoints_of(running)
    assert endpoint.breaker.state(running.app.gateway.now()) is State.CLOSED
    assert (endpoint.errors_total, endpoint.requests_total) == (0, 0)
    assert (await ask(running, get(PATH))).status == 200


@pytest.mark.gen_test
async def test_a_service_that_works_again_is_found_out(serve: Serve, upstream: Start) -> None:  # C6
    up = upstream(Answers(*[reply(b"500 Oh")] * 5, reply()))
    running = await serve({"svc": [up.url]}, BREAKER_OPEN_MS="500", **ALL_OUT)
    begun = time.monotonic()
    for _ in range(5):
        assert (await ask(running, get(PATH))).status == 500
    problem(await ask(running, get(PATH)), 503, "circuit_open")
    while (await ask(running, get(PATH))).status != 200:
        assert time.monotonic() - begun < 2
    assert time.monotonic() - begun >= 0.4
    assert len(up.requests) == 6
    (shown,) = (await view_of(running))["upstreamDetails"]
    assert (shown["breaker"]["state"], shown["breaker"]["opened"], shown["circuitOpenUntilMs"]) == ("closed", 1, 0)


@pytest.mark.gen_test
async def test_one_request_alone_finds_out(serve: Serve, upstream: Start) -> None:  # C6
    gate = Gate()

    async def script(peer: Peer) -> None:
        if len(up.requests) < 5:
            await always(reply(b"500 Oh", (b"Connection: close",)))(peer)
        await gate(peer)

    up = upstream(script)
    running = await serve({"svc": [up.url]}, BREAKER_OPEN_MS="1", **ALL_OUT)
    for _ in range(5):
        await ask(running, get(PATH))
    await eventually(lambda: endpoints_of(running)[0].breaker.passes(running.app.gateway.now()))
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: gate.waiting)
    for _ in range(3):
        answer = await ask(running, get(PATH))
        problem(answer, 503, "circuit_open")
        assert answer.get(b"retry-after") == b"1"
    await gate.open()
    assert (await client.response()).status == 200
    assert not endpoints_of(running)[0].breaker.is_open


@pytest.mark.gen_test
async def test_an_ejected_endpoint_that_still_fails_costs_no_client_an_answer(serve: Serve, upstream: Start) -> None:
    bad = upstream(plays(then="reset"))
    running = await serve(
        {"svc": [bad.url, upstream(echo).url]}, RETRY_BUDGET_FLOOR="100", BREAKER_OPEN_MS="1",
        BREAKER_MAX_OPEN_MS="1", BALANCER="round_robin",
    )  # fmt: skip
    breaker = endpoints_of(running)[0].breaker
    for number in range(60):
        assert (await ask(running, get(PATH))).status == 200
        if breaker.is_open and number > 20:
            await eventually(lambda: breaker.passes(running.app.gateway.now()))
    assert breaker.opened > 1


@pytest.mark.gen_test
async def test_where_all_are_broken_all_are_used(serve: Serve, upstream: Start) -> None:  # L10
    ups = [upstream(always(reply(b"500 Oh"))) for _ in range(2)]
    running = await serve({"svc": [up.url for up in ups]}, BALANCER="round_robin", MAX_EJECTED_PERCENT="100")
    for _ in range(12):
        assert (await ask(running, get(PATH))).status == 500
    view = await view_of(running)
    assert (view["panic"], view["healthy"], view["ejected"]) == (True, 0, 0)
    assert [len(up.requests) for up in ups] == [6, 6]


# ---------------------------------------------------------------- who goes where


async def numbered(serve: Serve, upstream: Start, count: int, **variables: str) -> Running:
    """A gateway with so many endpoints, each of which answers with its number."""
    return await serve({"svc": [upstream(named(b"%d" % number)).url for number in range(count)]}, **variables)


async def went_to(running: Running, *lines: bytes, path: bytes = b"/x") -> bytes:
    """The name of the endpoint that answered."""
    answer = await ask(running, get(b"/api/svc" + path, *lines))
    assert answer.status == 200
    return answer.body


@pytest.mark.parametrize("source", ["header:X-User", "cookie:user", "path"])
@pytest.mark.gen_test
async def test_what_has_the_same_key_goes_to_the_same_endpoint(  # L8
    serve: Serve, upstream: Start, source: str
) -> None:
    running = await numbered(serve, upstream, 4, BALANCER="consistent_hash", HASH_KEY=source)

    async def at(number: int) -> bytes:
        if source == "path":
            return await went_to(running, path=b"/user-%d?x=%f" % (number, time.monotonic()))
        line = b"x-uSER: %d" if source == "header:X-User" else b"Cookie: theme=dark; user=%d"
        return await went_to(running, line % number)

    first = [await at(number) for number in range(16)]
    assert len(set(first)) > 1
    assert [[await at(number) for number in range(16)] for _ in range(2)] == [first] * 2


@pytest.mark.gen_test
async def test_a_client_without_any_other_key_goes_to_the_same_endpoint(serve: Serve, upstream: Start) -> None:  # L8
    running = await numbered(serve, upstream, 4, BALANCER="consistent_hash", TRUSTED_PROXIES="127.0.0.1")
    assert len({await went_to(running) for _ in range(8)}) == 1
    clients = [b"X-Forwarded-For: 198.51.100.%d" % number for number in range(16)]
    first = [await went_to(running, client) for client in clients]
    assert len(set(first)) > 1
    assert [await went_to(running, client) for client in clients] == first


@pytest.mark.gen_test
async def test_who_has_no_key_goes_anywhere(serve: Serve, upstream: Start) -> None:
    running = await numbered(serve, upstream, 2, BALANCER="consistent_hash", HASH_KEY="header:x-user")
    assert {await went_to(running) for _ in range(40)} == {b"0", b"1"}


@pytest.mark.gen_test
async def test_a_key_moves_while_its_endpoint_is_out_and_comes_back(serve: Serve, upstream: Start) -> None:
    running = await numbered(serve, upstream, 3, BALANCER="consistent_hash", HASH_KEY="path", SLOW_START_MS="0")
    keys = [b"/%d" % number for number in range(40)]
    first = [await went_to(running, path=key) for key in keys]
    out = endpoints_of(running)[0]
    for is_healthy in (False, True):
        out.is_healthy = is_healthy
        service_of(running).health_changed(out, running.app.gateway.now())
        now = [await went_to(running, path=key) for key in keys]
        moved = [before for before, after in zip(first, now, strict=True) if before != after]
        assert set(moved) == (set() if is_healthy else {b"0"})


@pytest.mark.parametrize("balancer", BALANCERS)
@pytest.mark.gen_test
async def test_an_endpoint_that_weighs_nothing_gets_nothing(serve: Serve, upstream: Start, balancer: str) -> None:  # L6
    none, other = upstream(echo), upstream(echo)
    running = await serve({"svc": [{"url": none.url, "weight": 0}, {"url": other.url, "weight": 3}]}, BALANCER=balancer)
    for _ in range(6):
        assert (await ask(running, get(PATH))).status == 200
    assert (none.accepted, len(other.requests)) == (0, 6)
    details = (await view_of(running))["upstreamDetails"]
    assert [(each["weight"], each["usable"]) for each in details] == [(0, False), (3, True)]


# ---------------------------------------------------------------- sessions

COOKIE = re.compile(rb"(gw_svc=[A-Za-z0-9_=-]{16,}); Path=/; HttpOnly; SameSite=Lax")


def session(answer: Message) -> bytes:
    """The cookie that an answer sets."""
    found = COOKIE.fullmatch(answer.get(b"set-cookie") or b"")
    assert found, answer.fields
    return found[1]


class Fickle:
    """A script: each request is answered with a name, or with 500 when a test wants that."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.is_broken = False

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(reply(b"500 Oh") if self.is_broken else reply(body=self.name))


@pytest.mark.gen_test
async def test_a_session_is_bound_once_and_stays(serve: Serve, upstream: Start) -> None:  # L9
    running = await numbered(serve, upstream, 3, STICKY="redistribute", BALANCER="round_robin")
    homes = {}
    for _ in range(3):
        answer = await ask(running, get(PATH))
        homes[session(answer)] = answer.body
    assert set(homes.values()) == {b"0", b"1", b"2"}
    for cookie, home in list(homes.items()) * 3:
        answer = await ask(running, get(PATH, b"Cookie: theme=dark; " + cookie))
        assert (answer.body, answer.all(b"set-cookie")) == (home, [])


@pytest.mark.parametrize("given", [b"gw_svc=", b"gw_svc=AAAAAAAAAAAAAAAA", b"gw_svc=http://127.0.0.1:1", b"gw_other=a"])
@pytest.mark.gen_test
async def test_a_cookie_that_names_no_endpoint_is_replaced(serve: Serve, upstream: Start, given: bytes) -> None:
    running = await serve({"svc": [upstream(echo).url]}, STICKY="refuse")
    answer = await ask(running, get(PATH, b"Cookie: " + given))
    assert (answer.status, session(answer) != given) == (200, True)


@pytest.mark.gen_test
async def test_a_cookie_tells_nothing_and_is_the_same_wherever_the_secret_is(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    cookies = []
    for secret in ("a" * 32, "a" * 32, "b" * 32):
        running = await serve({"svc": [up.url]}, STICKY="redistribute", STICKY_SECRET=secret)
        cookies.append(session(await ask(running, get(PATH))))
    assert cookies[0] == cookies[1] != cookies[2]
    assert b"%d" % up.port not in cookies[0]


@pytest.mark.parametrize(("proto", "secure"), [(b"https", True), (b"http", False)])
@pytest.mark.gen_test
async def test_a_cookie_of_a_secure_site_is_sent_to_it_alone(
    serve: Serve, upstream: Start, proto: bytes, secure: bool
) -> None:
    running = await serve({"svc": [upstream(echo).url]}, STICKY="redistribute", TRUSTED_PROXIES="127.0.0.1")
    answer = await ask(running, get(PATH, b"X-Forwarded-Proto: " + proto))
    assert (answer.get(b"set-cookie") or b"").endswith(b"; Secure") is secure


@pytest.mark.gen_test
async def test_an_endpoints_own_cookies_pass_beside_ours(serve: Serve, upstream: Start) -> None:
    own = reply(fields=(b"Set-Cookie: a=1", b"Set-Cookie: b=2"))
    running = await serve({"svc": [upstream(always(own)).url]}, STICKY="redistribute")
    cookies = (await ask(running, get(PATH))).all(b"set-cookie")
    assert cookies[:2] == [b"a=1", b"b=2"]
    assert len(cookies) == 3


@pytest.mark.parametrize("policy", ["redistribute", "refuse"])
@pytest.mark.gen_test
async def test_a_session_whose_endpoint_is_out_moves_or_is_refused(  # L9
    serve: Serve, upstream: Start, policy: str
) -> None:
    scripts = [Fickle(b"0"), Fickle(b"1")]
    ups = [upstream(script) for script in scripts]
    running = await serve(
        {"svc": [up.url for up in ups]}, STICKY=policy, BALANCER="round_robin", BREAKER_OPEN_MS="60000"
    )
    answer = await ask(running, get(PATH))
    cookie, home = session(answer), int(answer.body)
    request = get(PATH, b"Cookie: " + cookie)
    scripts[home].is_broken = True
    for _ in range(5):
        answer = await ask(running, request)
        assert (answer.status, answer.all(b"set-cookie")) == (500, [])
    before = len(ups[1 - home].requests)
    answer = await ask(running, request)
    if policy == "redistribute":
        assert (answer.status, int(answer.body)) == (200, 1 - home)
        moved = session(answer)
        assert moved != cookie
        assert (await ask(running, get(PATH, b"Cookie: " + moved))).all(b"set-cookie") == []
    else:
        problem(answer, 503, "circuit_open")
        assert answer.all(b"set-cookie") == []
        assert len(ups[1 - home].requests) == before
        assert (await ask(running, get(PATH))).status == 200  # who has no session is served


@pytest.mark.gen_test
async def test_a_session_that_was_refused_goes_on_once_its_endpoint_works(serve: Serve, upstream: Start) -> None:
    scripts = [Fickle(b"0"), Fickle(b"1")]
    running = await serve(
        {"svc": [upstream(script).url for script in scripts]},
        STICKY="refuse", BALANCER="round_robin", BREAKER_OPEN_MS="500",
    )  # fmt: skip
    answer = await ask(running, get(PATH))
    request, home = get(PATH, b"Cookie: " + session(answer), method=b"POST"), int(answer.body)
    scripts[home].is_broken = True
    for _ in range(5):
        assert (await ask(running, request)).status == 500
    scripts[home].is_broken = False
    problem(await ask(running, request), 503, "circuit_open")
    begun = time.monotonic()
    while (answer := await ask(running, request)).status != 200:
        problem(answer, 503, "circuit_open")
        assert time.monotonic() - begun < 2
    assert (int(answer.body), answer.all(b"set-cookie")) == (home, [])


@pytest.mark.gen_test
async def test_a_session_that_may_not_move_is_not_moved_by_a_retry(serve: Serve, upstream: Start) -> None:
    scripts = [Fickle(b"0"), Fickle(b"1")]
    ups = [upstream(script) for script in scripts]
    running = await serve(
        {"svc": [up.url for up in ups]},
        STICKY="refuse", RETRY_ON="connect,reset,500", RETRY_BACKOFF_MS="0", BALANCER="round_robin",
    )  # fmt: skip
    answer = await ask(running, get(PATH))
    request, home = get(PATH, b"Cookie: " + session(answer)), int(answer.body)
    scripts[home].is_broken = True
    answer = await ask(running, request)
    assert (answer.status, answer.all(b"set-cookie"), ups[1 - home].accepted) == (500, [], 0)


@pytest.mark.gen_test
async def test_a_session_that_may_not_move_waits_for_its_endpoint(serve: Serve, upstream: Start) -> None:
    gates = [Gate(reply(body=b"0")), Gate(reply(body=b"1"))]
    ups = [upstream(gate) for gate in gates]
    running = await serve(
        {"svc": [up.url for up in ups]},
        STICKY="refuse", MAX_IN_FLIGHT="1", QUEUE_TIMEOUT_MS="5000", BALANCER="round_robin",
    )  # fmt: skip
    first = await running.client()
    await first.send(get(PATH))
    await gates[0].open()
    request = get(PATH, b"Cookie: " + session(await first.response()))
    second = await running.client()
    for client in (first, second):
        await client.send(request)
    await eventually(lambda: running.inflight + service_of(running).waiting == 2)
    assert service_of(running).waiting == 1
    for client in (first, second):
        await gates[0].open()
        assert (await client.response()).body == b"0"
    assert ups[1].accepted == 0


# ---------------------------------------------------------------- each service in its own way


@pytest.mark.gen_test
async def test_a_services_own_keys_come_before_the_variables(serve: Serve, upstream: Start) -> None:
    def endpoints() -> list[str]:
        return [upstream(always(BUSY)).url, upstream(echo).url]

    running = await serve(
        {
            "svc": {"endpoints": endpoints(), "retryOn": "503", "retryBackoffMs": 0},
            "plain": endpoints(),
            "other": {"endpoints": endpoints(), "retryOn": "connect", "breakerFailures": "1", "balancer": "least_load"},
        },
        BALANCER="round_robin",
    )
    assert [(await ask(running, get(b"/api/%b/x" % name))).status for name in (b"svc", b"plain", b"other")] == [
        200, 503, 503,
    ]  # fmt: skip
    open_ = [service_of(running, name).endpoints[0].breaker.is_open for name in (b"svc", b"plain", b"other")]
    assert open_ == [False, False, True]


@pytest.mark.gen_test
async def test_a_services_own_limit_holds_for_it_alone(serve: Serve, upstream: Start) -> None:
    gates = Gate(), Gate()
    running = await serve(
        {
            "svc": {"endpoints": [upstream(gates[0]).url], "maxInFlight": 1, "queueSize": 0},
            "free": [upstream(gates[1]).url],
        }
    )
    clients = [await running.client() for _ in range(3)]
    for client, name in zip(clients, (b"svc", b"free", b"free"), strict=True):
        await client.send(get(b"/api/%b/x" % name))
    await eventually(lambda: (len(gates[0].waiting), len(gates[1].waiting)) == (1, 2))
    problem(await ask(running, get(PATH)), 503, "overloaded")
    for gate in (gates[0], gates[1], gates[1]):
        await gate.open()
    assert [(await client.response()).status for client in clients] == [200] * 3


@pytest.mark.parametrize("path", [b"/sse/svc/x", b"/api/svc/x"])
@pytest.mark.gen_test
async def test_streams_need_no_room_among_requests(serve: Serve, upstream: Start, path: bytes) -> None:
    async def answer(peer: Peer) -> None:
        request = await peer.request()
        if request.start.startswith(b"GET /slow"):
            await peer.ended()
        await peer.send(STREAM_HEAD)
        await peer.ended()

    running = await serve({"svc": [upstream(answer).url]}, MAX_IN_FLIGHT="1", QUEUE_SIZE="0")
    busy = await running.client()
    await busy.send(get(b"/api/svc/slow"))
    await eventually(lambda: running.inflight == 1)
    client = await running.client()
    await client.send(get(path))
    assert (await client.head()).status == (200 if path.startswith(b"/sse") else 503)
