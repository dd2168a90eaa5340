"""Attempts at endpoints, on real sockets: which endpoints are asked, how often and when, and which answer counts.

What is decided is tested in tests/policy/; here, that requests, waits and answers follow. Row names such as H21 are
those of the project's feature list.
"""

import asyncio
import time

import pytest

from tests.conftest import Running, Serve
from tests.support.endpoints import (
    BUSY,
    EVENT,
    EVENTS,
    REFUSING,
    WHOLE_STREAM,
    Gate,
    always,
    endpoints_of,
    named,
    queue,
    service_of,
    streaming,
    view_of,
)
from tests.support.event_streams import STREAM_HEAD
from tests.support.journeys import Start, ask, capture, only_line, plays, problem, silent
from tests.support.limits import no_descriptors
from tests.support.sockets import Client, Peer, Script, echo, eventually, get, reply
from tests.support.websockets import HANDSHAKE
from tornado_gateway.policy.upstream.breaker import State
from tornado_gateway.policy.upstream.retry import REPLAY_BYTES

PATH = b"/api/svc/x"


# ---------------------------------------------------------------- connections that fail


@pytest.mark.gen_test
async def test_an_endpoint_that_refuses_the_connection_is_replaced(serve: Serve, upstream: Start) -> None:  # H20
    up = upstream(echo)
    running = await serve({"svc": {"endpoints": [REFUSING, up.url], "balancer": "round_robin"}})
    lines = capture(running)
    for _ in range(4):
        assert (await ask(running, get(PATH, method=b"POST", body=b"hello"))).status == 200
    assert [request.body for request in up.requests] == [b"hello"] * 4
    await eventually(lambda: len(lines()) == 4)
    assert sorted(line["attempts"] for line in lines()) == [1, 1, 2, 2]


async def accepted(running: Running) -> Client:
    """A client whose connection the gateway has accepted."""
    client = await running.client()
    assert (await client.ask(get(b"/healthz"))).status == 200
    return client


@pytest.mark.parametrize("head", [get(PATH), get(b"/ws/svc?path=/x", *HANDSHAKE)], ids=["http", "ws"])
@pytest.mark.gen_test
async def test_what_this_machine_lacks_is_no_endpoints_failure(serve: Serve, upstream: Start, head: bytes) -> None:
    running = await serve({"svc": [upstream(echo).url, upstream(echo).url]}, BREAKER_FAILURES="2")
    clients = [await accepted(running) for _ in range(6)]
    lines = capture(running)
    with no_descriptors():
        for each in clients:
            problem(await each.ask(head), 503, "overloaded")
    await eventually(lambda: len(lines()) == 6)
    assert {(line["reason"], line["attempts"]) for line in lines()} == {("out_of_sockets", 1)}
    for each in endpoints_of(running):
        assert (each.errors_total, each.load, each.last_failure, each.breaker.is_open) == (0, 0, "", False)
    assert [(await ask(running, get(PATH))).status for _ in range(2)] == [200, 200]


@pytest.mark.gen_test
async def test_a_probe_that_this_machine_cannot_send_decides_nothing(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, PANIC_PERCENT="0")
    (endpoint,), now = endpoints_of(running), running.app.gateway.now()
    service_of(running).force_breaker(endpoint, now - 60, 1.0)
    client = await accepted(running)
    with no_descriptors():
        for _ in range(2):
            problem(await client.ask(get(PATH)), 503, "overloaded")
    assert endpoint.breaker.state(running.app.gateway.now()) is State.HALF_OPEN
    assert (await client.ask(get(PATH))).status == 200
    assert endpoint.breaker.state(running.app.gateway.now()) is State.CLOSED


@pytest.mark.parametrize(("method", "statuses"), [(b"GET", (200, 1)), (b"PUT", (200, 1)), (b"POST", (502, 0))])
@pytest.mark.gen_test
async def test_a_reset_is_tried_elsewhere_only_if_that_is_harmless(  # H20, RFC 9110 §9.2.2
    serve: Serve, upstream: Start, method: bytes, statuses: tuple[int, int]
) -> None:
    bad, good = upstream(plays(then="reset")), upstream(echo)
    running = await serve({"svc": {"endpoints": [bad.url, good.url], "balancer": "round_robin"}})
    answer = await ask(running, get(PATH, method=method, body=b"hello"))
    assert (answer.status, len(good.requests)) == statuses
    assert [request.body for request in bad.requests + good.requests] == [b"hello"] * (1 + statuses[1])


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.gen_test
async def test_a_kept_connection_that_was_closed_is_not_used(
    serve: Serve, upstream: Start, method: bytes
) -> None:  # H28
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())

    up = upstream(once)
    running = await serve({"svc": [up.url]})
    for _ in range(3):
        assert (await ask(running, get(PATH, method=method, body=b"hello"))).status == 200
        await eventually(lambda: up.open == 0)
    assert up.accepted == 3


@pytest.mark.parametrize(("method", "status", "connections"), [(b"GET", 200, 2), (b"POST", 502, 1)])
@pytest.mark.gen_test
async def test_a_kept_connection_that_dies_under_a_request(  # H28
    serve: Serve, upstream: Start, method: bytes, status: int, connections: int
) -> None:
    async def dies_at_the_second(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await peer.request()

    up = upstream(dies_at_the_second)
    running = await serve({"svc": [up.url]})
    client = await running.client()
    assert (await client.ask(get(PATH, method=method, body=b"hello"))).status == 200
    assert (await client.ask(get(PATH, method=method, body=b"hello"))).status == status
    assert up.accepted == connections


@pytest.mark.gen_test
async def test_a_second_failure_on_a_new_connection_is_told(serve: Serve, upstream: Start) -> None:  # H28
    async def answers_once_in_all(peer: Peer) -> None:
        await peer.request()
        if peer.upstream.accepted == 1:
            await peer.send(reply())
            await peer.request()

    up = upstream(answers_once_in_all)
    running = await serve({"svc": [up.url]})
    client = await running.client()
    assert (await client.ask(get(PATH))).status == 200
    problem(await client.ask(get(PATH)), 502, "upstream_unavailable")
    assert (up.accepted, running.errors) == (2, 1)


# ---------------------------------------------------------------- clients that wait for events


FAILING = {
    "resets": plays(then="reset"),
    "closes": plays(then="close"),
    "resets in its head": plays(STREAM_HEAD[:40], then="reset"),
    "talks nonsense": plays(b"220 smtp.example ESMTP\r\n"),
    "answers 500": plays(reply(b"500 Internal Server Error")),
    "answers 529": plays(reply(b"529 Overloaded")),
}


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
@pytest.mark.parametrize(
    "accept",
    [EVENTS, b"accept: Text/Event-Stream;q=0.9, */*;q=0.1", b"Accept: */*\r\nAccept: text/event-stream"],
)
@pytest.mark.gen_test
async def test_a_client_that_waits_for_events_gets_another_endpoints_events(  # S18, S20
    serve: Serve, upstream: Start, failing: Script, accept: bytes
) -> None:
    bad, good = upstream(failing), upstream(streaming)
    running = await serve({"svc": [bad.url, good.url]}, BALANCER="round_robin")
    lines = capture(running)
    answer = await ask(running, get(PATH, accept, method=b"POST", body=b'{"stream":true}'))
    assert (answer.status, answer.body, answer.complete) == (200, EVENT, True)
    assert [request.body for request in bad.requests + good.requests] == [b'{"stream":true}'] * 2
    assert (running.errors, running.inflight) == (1, 0)
    await eventually(lines)
    assert [(line["status"], line["attempts"], line["bytesIn"]) for line in lines()] == [(200, 2, 15)]


@pytest.mark.parametrize("method", [b"POST", b"GET"])
@pytest.mark.parametrize(
    "accept",
    [
        b"Accept: application/json",
        b"Accept: text/event-streams",
        b"X-Accept: text/event-stream",
        b"Accept: text/event-stream;q=0",
        b"Accept: application/json, text/event-stream",  # as every call of the Model Context Protocol says
    ],
)
@pytest.mark.gen_test
async def test_a_client_that_does_not_wait_for_events_gets_the_first_answer(  # S18, H20
    serve: Serve, upstream: Start, accept: bytes, method: bytes
) -> None:
    good = upstream(streaming)
    running = await serve(
        {"svc": [upstream(plays(reply(b"500 Oh", body=b"no"))).url, good.url]}, BALANCER="round_robin"
    )
    answer = await ask(running, get(PATH, accept, method=method, body=b"hello"))
    assert (answer.status, answer.body, good.accepted, running.errors) == (500, b"no", 0, 1)


@pytest.mark.gen_test
async def test_a_post_that_does_not_wait_for_events_is_not_repeated(serve: Serve, upstream: Start) -> None:  # H20
    good = upstream(streaming)
    running = await serve({"svc": [upstream(plays(then="reset")).url, good.url]}, BALANCER="round_robin")
    problem(await ask(running, get(PATH, method=b"POST", body=b"hello")), 502, "upstream_unavailable")
    assert good.accepted == 0


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.gen_test
async def test_a_kept_connection_that_dies_is_replaced_first(serve: Serve, upstream: Start, method: bytes) -> None:
    async def dies_at_its_second(peer: Peer) -> None:
        await peer.request()
        await peer.send(WHOLE_STREAM)
        if peer.upstream.accepted == 1:
            await peer.request()
            return
        await peer.ended()

    up = upstream(dies_at_its_second)
    running = await serve({"svc": [up.url]})
    client = await running.client()
    for _ in range(2):
        answer = await client.ask(get(PATH, EVENTS, method=method, body=b"hello"))
        assert (answer.status, answer.body) == (200, EVENT)
    assert (up.accepted, [request.body for request in up.requests]) == (2, [b"hello"] * 3)


@pytest.mark.gen_test
async def test_a_service_that_was_waited_for_in_vain_is_not_replaced(serve: Serve, upstream: Start) -> None:  # H13
    good = upstream(streaming)
    running = await serve(
        {"svc": [upstream(silent).url, good.url]}, BALANCER="round_robin", HTTP_PROXY_TIMEOUT_MS="100"
    )
    problem(await ask(running, get(PATH, EVENTS)), 504, "upstream_timeout")
    assert good.accepted == 0


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.gen_test
async def test_when_no_endpoint_is_left_the_last_answer_is_the_clients(  # S18
    serve: Serve, upstream: Start, count: int
) -> None:
    ups = [upstream(plays(reply(b"503 No", (b"Retry-After: 9",), b"busy"))) for _ in range(count)]
    running = await serve({"svc": [up.url for up in ups]})
    answer = await ask(running, get(PATH, EVENTS, method=b"POST", body=b"hello"))
    assert (answer.status, answer.body, answer.get(b"retry-after")) == (503, b"busy", b"9")
    assert ([up.accepted for up in ups], running.errors) == ([1] * count, count)


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
async def test_an_answer_is_passed_on_when_no_other_endpoint_can_be_asked(
    serve: Serve, upstream: Start, other: dict[str, object] | None
) -> None:
    up = upstream(always(BUSY))
    running = await serve({"svc": [up.url, other or REFUSING]}, RETRY_ON="503", RETRY_BACKOFF_MS="0")
    if not other:
        service_of(running).set_health(endpoints_of(running)[1], running.app.gateway.now(), up=False)
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
    assert time.monotonic() - begun >= 0.99


@pytest.mark.gen_test
async def test_a_wish_to_wait_longer_than_a_request_may_take_is_passed_on(serve: Serve, upstream: Start) -> None:
    good = upstream(echo)
    running = await serve(
        {"svc": [upstream(always(come_back_in(2))).url, good.url]},
        RETRY_ON="503", BALANCER="round_robin", HTTP_PROXY_TIMEOUT_MS="1500",
    )  # fmt: skip
    answer = await ask(running, get(PATH))
    assert (answer.status, answer.body, answer.get(b"retry-after")) == (503, b"busy", b"2")
    assert good.accepted == 0


@pytest.mark.parametrize("abrupt", [True, False])
@pytest.mark.gen_test
async def test_a_client_that_leaves_during_a_backoff_ends_the_backoff(
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
async def test_no_endpoint_is_asked_after_the_client_has_left(serve: Serve, upstream: Start) -> None:
    bad, good = upstream(always(come_back_in(1))), upstream(echo)
    running = await serve(
        {name: [bad.url, good.url] for name in ("svc", "other")}, RETRY_ON="503", BALANCER="round_robin"
    )
    leaver = await running.client()
    await leaver.send(get(b"/api/svc/1"))
    await eventually(lambda: running.errors == 1)
    leaver.close()
    assert (await ask(running, get(b"/api/other/2"))).status == 200  # which has waited longer than the first one would
    assert running.errors == 2
    assert [request.target for request in good.requests] == [b"/2"]


# ---------------------------------------------------------------- a time for each try


@pytest.mark.gen_test
async def test_a_try_that_is_too_slow_is_given_up_for_another(serve: Serve, upstream: Start) -> None:  # H22
    slow, good = upstream(silent), upstream(echo)
    running = await serve({"svc": [slow.url, good.url]}, RETRY_TRY_TIMEOUT_MS="100", BALANCER="round_robin")
    lines = capture(running)
    begun = time.monotonic()
    assert (await ask(running, get(PATH))).status == 200
    assert time.monotonic() - begun >= 0.09
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
async def test_a_try_timeout_does_not_limit_the_body(serve: Serve, upstream: Start) -> None:
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
async def test_slow_tries_end_within_the_timeout_of_the_request(serve: Serve, upstream: Start) -> None:
    running = await serve(
        {"svc": [upstream(silent).url for _ in range(2)]}, RETRY_TRY_TIMEOUT_MS="100", HTTP_PROXY_TIMEOUT_MS="1200"
    )
    begun = time.monotonic()
    problem(await ask(running, get(PATH)), 504, "upstream_timeout")
    assert time.monotonic() - begun >= 1.1
    assert running.errors == 2


@pytest.mark.parametrize(
    ("method", "size", "others"),
    [(b"POST", 5, 1), (b"PUT", 4 * REPLAY_BYTES, 1), (b"GET", 0, 0)],
    ids=["not repeatable", "too large to keep", "nobody else"],
)
@pytest.mark.gen_test
async def test_the_only_possible_try_has_the_whole_timeout(
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


NO_BUDGET = {"RETRY_BUDGET_PERCENT": "0", "RETRY_BUDGET_FLOOR": "0"}


@pytest.mark.gen_test
async def test_one_try_elsewhere_is_free_where_no_connection_was_made(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [REFUSING, upstream(echo).url]}, **NO_BUDGET, BALANCER="round_robin")
    assert [(await ask(running, get(PATH, method=b"POST", body=b"a"))).status for _ in range(6)] == [200] * 6
    assert [(each.errors_total, each.retries_total) for each in endpoints_of(running)] == [(3, 0), (0, 3)]


@pytest.mark.parametrize(
    ("variables", "attempts"),
    [
        (NO_BUDGET, [2, 2, 2]),
        ({"RETRY_BUDGET_PERCENT": "0", "RETRY_BUDGET_FLOOR": "2"}, [3, 3, 2]),
        ({**NO_BUDGET, "RETRY_ATTEMPTS": "1"}, [1, 1, 1]),
        ({"RETRY_ATTEMPTS": "1"}, [1, 1, 1]),
        ({**NO_BUDGET, "RETRY_ON": "reset"}, [1, 1, 1]),
    ],
)
@pytest.mark.gen_test
async def test_connections_that_cannot_be_made_draw_from_the_budget_but_for_the_first_try_elsewhere(
    serve: Serve, variables: dict[str, str], attempts: list[int]
) -> None:
    dead = [REFUSING, REFUSING.replace("127.0.0.1", "127.0.0.2"), REFUSING.replace("127.0.0.1", "127.0.0.3")]
    running = await serve({"svc": dead}, **variables, BALANCER="round_robin", BREAKER_FAILURES="0")
    lines = capture(running)
    for _ in attempts:
        problem(await ask(running, get(PATH)), 502, "upstream_unavailable")
    await eventually(lambda: len(lines()) == len(attempts))
    assert [line["attempts"] for line in lines()] == attempts


@pytest.mark.gen_test
async def test_a_second_failure_of_any_cause_is_never_free(serve: Serve, upstream: Start) -> None:
    """A connection that cannot be made is followed by a reset; the third endpoint would do."""
    good = upstream(echo)
    running = await serve(
        {"svc": [REFUSING, upstream(plays(then="reset")).url, good.url]}, **NO_BUDGET, BALANCER="round_robin"
    )
    problem(await ask(running, get(PATH)), 502, "upstream_unavailable")
    assert good.accepted == 0


@pytest.mark.gen_test
async def test_a_new_connection_in_place_of_a_kept_one_that_was_closed_draws_nothing(
    serve: Serve, upstream: Start
) -> None:
    async def one_answer_per_connection(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await peer.request()

    up = upstream(one_answer_per_connection)
    running = await serve({"svc": [up.url]}, **NO_BUDGET, RETRY_ATTEMPTS="1")
    assert [(await ask(running, get(PATH))).status for _ in range(4)] == [200] * 4
    assert up.accepted > 1


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


@pytest.mark.gen_test
async def test_queued_requests_are_served_in_order(serve: Serve, upstream: Start) -> None:  # L12
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
async def test_a_full_queue_refuses_requests(serve: Serve, upstream: Start, size: int) -> None:
    gate = Gate()
    up = upstream(gate)
    running = await serve({"svc": [up.url]}, MAX_IN_FLIGHT="1", QUEUE_SIZE=str(size), QUEUE_TIMEOUT_MS="60000")
    clients = await queue(running, *[b"/x"] * (1 + size))
    lines = capture(running)
    answer = await ask(running, get(PATH))
    problem(answer, 503, "overloaded")
    assert int(answer.get(b"retry-after") or b"") >= 1
    await eventually(lines)
    assert [(line["reason"], line["attempts"], line["endpoint"]) for line in lines()] == [("overflow", 0, "")]
    for client in clients:
        await gate.open()
        assert (await client.response()).status == 200
    assert (len(up.requests), running.errors) == (1 + size, 0)


@pytest.mark.gen_test
async def test_a_queued_request_fails_after_the_queue_timeout(serve: Serve, upstream: Start) -> None:
    gate = Gate()
    up = upstream(gate)
    running = await serve({"svc": [up.url]}, MAX_IN_FLIGHT="1", QUEUE_TIMEOUT_MS="50")
    (first,) = await queue(running, b"/1")
    lines = capture(running)
    begun = time.monotonic()
    answer = await ask(running, get(b"/api/svc/2", method=b"POST", body=b"hello"))
    assert time.monotonic() - begun >= 0.04
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
async def test_a_client_that_leaves_the_queue_is_not_served(serve: Serve, upstream: Start, abrupt: bool) -> None:
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
async def test_the_queue_goes_on_after_a_request_that_fails_at_its_turn(serve: Serve, upstream: Start) -> None:
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
async def test_queued_requests_fail_at_once_when_the_circuit_opens(serve: Serve, upstream: Start) -> None:
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
