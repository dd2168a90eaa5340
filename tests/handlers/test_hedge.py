"""Hedging on real sockets: when a second endpoint is asked, and which answer counts."""

import asyncio
import time

import pytest

from tests.conftest import Running, Serve
from tests.support.endpoints import (
    BUSY,
    EVENTS,
    REFUSING,
    WHOLE_STREAM,
    Gate,
    always,
    endpoints_of,
    named,
    service_of,
    view_of,
)
from tests.support.journeys import Start, ask, capture, only_line, plays, problem, silent
from tests.support.limits import no_descriptors
from tests.support.services import lease_on
from tests.support.sockets import Peer, Script, Upstream, echo, eventually, get, reply
from tests.support.websockets import HANDSHAKE
from tornado_gateway.policy.upstream.endpoint import CLIENT_GONE, SUCCESS, SUPERSEDED
from tornado_gateway.policy.upstream.outcomes import HANGS

PATH = b"/api/svc/x"
HEDGED = {"HEDGE": "true", "BALANCER": "round_robin"}  # the first endpoint is the first one to be asked
USUAL = 0.02  # seconds that nearly all requests have taken
LONG = 10 * USUAL
SOON = 1.0  # seconds that a busy machine takes at most for what a sound one does at once


def know(running: Running, times: int = 10, usual: float = USUAL) -> None:
    """Have the endpoints of a service answer so many requests, in turn, each in `usual` seconds."""
    service, now = service_of(running), running.app.gateway.now()
    for number in range(times):
        lease = lease_on(service, service.endpoints[number % len(service.endpoints)], now - usual)
        lease.answered(now, 200)
        lease.settle(SUCCESS, now)


async def hedging(serve: Serve, endpoints: list[object], times: int = 10, **variables: str) -> Running:
    """A gateway that hedges, and knows how long its endpoints take."""
    running = await serve({"svc": [each.url if isinstance(each, Upstream) else each for each in endpoints]},
                          **(HEDGED | variables))  # fmt: skip
    know(running, times)
    return running


def after(seconds: float, answer: bytes) -> Script:
    """A script: an answer to each request, after so long."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(seconds)
            await peer.send(answer)

    return script


class Failing:
    """A script: each request fails as soon as a test says so.

    Args:
        said: before it fails.
        then: what follows: "reset", "close" or "wait".
    """

    def __init__(self, said: bytes = b"", then: str = "reset") -> None:
        self.may = asyncio.Event()
        self._said, self._then = said, then

    async def __call__(self, peer: Peer) -> None:
        await peer.request()
        await self.may.wait()
        await peer.send(self._said)
        if self._then == "reset":
            peer.reset()
        elif self._then == "wait":
            await peer.ended()


FAILURES = {
    "resets": (b"", "reset"),
    "closes": (b"", "close"),
    "resets in its head": (reply()[:20], "reset"),
    "talks nonsense": (b"220 smtp.example ESMTP\r\n\r\n", "wait"),
    "is busy": (BUSY, "wait"),
}
every_failure = pytest.mark.parametrize(("said", "then"), FAILURES.values(), ids=FAILURES)


# ---------------------------------------------------------------- when a second endpoint is asked


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"QUERY"])
@pytest.mark.gen_test
async def test_a_request_slower_than_nearly_all_is_hedged(  # H23
    serve: Serve, upstream: Start, method: bytes
) -> None:
    slow, quick = upstream(silent), upstream(always(reply(body=b"" if method == b"HEAD" else b"ok")))
    running = await hedging(serve, [slow, quick])
    lines = capture(running)
    begun = time.monotonic()
    request = get(PATH + b"?a=1", b"X-Kept: 1", method=method)
    assert (await ask(running, request, method)).status == 200
    assert time.monotonic() - begun >= USUAL * 0.9
    (first,), (second,) = slow.requests, quick.requests
    assert (first.start, first.get(b"x-kept")) == (second.start, second.get(b"x-kept")) == (first.start, b"1")
    assert (first.get(b"host"), second.get(b"host")) == (b"127.0.0.1:%d" % slow.port, b"127.0.0.1:%d" % quick.port)
    assert first.get(b"x-request-id") == second.get(b"x-request-id")
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["attempts"], line["endpoint"]) == (200, "", 2, quick.url)


@pytest.mark.gen_test
async def test_a_service_learns_from_its_requests_when_to_hedge(serve: Serve, upstream: Start) -> None:
    async def slow_once(peer: Peer) -> None:
        while (await peer.request()).target != b"/slow" or len(slow()) > 1:
            await peer.send(reply())
        await peer.ended()

    def slow() -> list[bytes]:
        return [request.target for up in ups for request in up.requests if request.target == b"/slow"]

    ups = [upstream(slow_once), upstream(slow_once)]
    running = await serve({"svc": [up.url for up in ups]}, HEDGE="true")
    for _ in range(10):
        assert (await ask(running, get(PATH))).status == 200
    assert running.inflight == 0
    await eventually(lambda: service_of(running).outcomes.hedging.after(running.app.gateway.now()) is not None)
    assert (await ask(running, get(b"/api/svc/slow"))).status == 200
    assert len(slow()) == 2
    assert (await view_of(running))["hedges"] == {"sent": 1, "won": 1}


LATE = after(LONG, reply(body=b"late"))
LATE_STREAM = after(LONG, WHOLE_STREAM)


@pytest.mark.parametrize(
    ("script", "request_", "variables", "times", "hedges"),
    [
        pytest.param(LATE, get(PATH), {}, 10, 1, id="any other"),
        pytest.param(LATE, get(PATH), {"HEDGE": "false"}, 10, 0, id="not wanted"),
        pytest.param(LATE, get(PATH), {}, 9, 0, id="too little known"),
        pytest.param(LATE, get(PATH, method=b"POST"), {}, 10, 0, id="POST"),
        pytest.param(LATE, get(PATH, method=b"POST", body=b"hello"), {}, 10, 0, id="POST with a body"),
        pytest.param(LATE, get(PATH, method=b"PATCH"), {}, 10, 0, id="PATCH"),
        pytest.param(LATE, get(PATH, method=b"BREW"), {}, 10, 0, id="unknown method"),
        pytest.param(LATE, get(PATH, method=b"PUT", body=b"hello"), {}, 10, 0, id="PUT with a body"),
        pytest.param(LATE, get(PATH, method=b"GET", body=b"hello"), {}, 10, 0, id="GET with a body"),
        pytest.param(LATE_STREAM, get(PATH, EVENTS), {}, 10, 0, id="asks for events"),
        pytest.param(LATE_STREAM, get(b"/sse/svc/x"), {}, 10, 0, id="event stream"),
        pytest.param(LATE, get(b"/ws/svc/x", *HANDSHAKE), {}, 10, 0, id="WebSocket"),
        pytest.param(
            LATE, get(PATH), {"RETRY_BUDGET_PERCENT": "0", "RETRY_BUDGET_FLOOR": "0"}, 10, 0, id="no retry budget"
        ),
        pytest.param(LATE, get(PATH), {"RETRY_ATTEMPTS": "1"}, 10, 0, id="no second attempt"),
        pytest.param(LATE, get(PATH), {"RETRY_ATTEMPTS": "2"}, 10, 1, id="a second attempt"),
        pytest.param(LATE, get(PATH), {"RETRY_ON": "off"}, 10, 1, id="no retries"),
    ],
)
@pytest.mark.gen_test
async def test_unrepeatable_requests_and_requests_beyond_the_budget_are_not_hedged(
    serve: Serve, upstream: Start, script: Script, request_: bytes, variables: dict[str, str], times: int, hedges: int
) -> None:
    async def once_the_second_is_asked(peer: Peer) -> None:
        await peer.request()
        await eventually(lambda: second.accepted)
        await peer.send(reply(body=b"late"))
        await peer.ended()

    # An answer at the very instant of the hedge would forestall the hedge.
    first, second = upstream(once_the_second_is_asked if hedges else script), upstream(silent)
    running = await hedging(serve, [first, second], times, **variables)
    lines = capture(running)
    await ask(running, request_)
    assert (len(first.requests), second.accepted) == (1, hedges)
    assert (await only_line(lines))["attempts"] == 1 + hedges
    assert (await view_of(running))["hedges"] == {"sent": hedges, "won": 0}


@pytest.mark.gen_test
async def test_a_request_whose_head_is_fast_and_whose_body_is_slow_is_not_hedged(serve: Serve, upstream: Start) -> None:
    """The usual latency is SOON, so that a busy machine does not make the head slow."""
    now = asyncio.get_running_loop().time

    async def late_body(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(body=b"late")[:-4])
        await eventually(lambda: now() > asked_at + SOON + LONG)
        await peer.send(b"late")
        await peer.ended()

    first, second = upstream(late_body), upstream(silent)
    running = await serve({"svc": [first.url, second.url]}, **HEDGED)
    know(running, usual=SOON)
    lines = capture(running)
    asked_at = now()
    assert (await ask(running, get(PATH))).body == b"late"
    assert (len(first.requests), second.accepted) == (1, 0)
    assert (await only_line(lines))["attempts"] == 1
    assert (await view_of(running))["hedges"] == {"sent": 0, "won": 0}


@pytest.mark.gen_test
async def test_hedging_is_off_by_default(serve: Serve, upstream: Start) -> None:
    second = upstream(echo)
    running = await serve({"svc": [upstream(LATE).url, second.url]}, BALANCER="round_robin")
    know(running)
    assert (await ask(running, get(PATH))).body == b"late"
    assert second.accepted == 0


@pytest.mark.parametrize("hedges", [True, False])
@pytest.mark.gen_test
async def test_a_services_own_key_comes_before_the_variable(serve: Serve, upstream: Start, hedges: bool) -> None:
    ups = [upstream(LATE), upstream(named(b"quick"))]
    running = await serve(
        {"svc": {"endpoints": [up.url for up in ups], "hedge": hedges}},
        HEDGE="false" if hedges else "true", BALANCER="round_robin",
    )  # fmt: skip
    know(running)
    assert (await ask(running, get(PATH))).body == (b"quick" if hedges else b"late")


@pytest.mark.parametrize("why", ["there is none", "weighs nothing", "is out"])
@pytest.mark.gen_test
async def test_no_hedge_without_another_usable_endpoint(serve: Serve, upstream: Start, why: str) -> None:
    late, other = upstream(LATE), upstream(echo)
    others = {"there is none": [], "weighs nothing": [{"url": other.url, "weight": 0}], "is out": [other]}
    running = await hedging(serve, [late, *others[why]])
    if why == "is out":
        service_of(running).set_health(endpoints_of(running)[1], running.app.gateway.now(), up=False)
    assert (await ask(running, get(PATH))).body == b"late"
    assert (len(late.requests), other.accepted) == (1, 0)
    assert (await view_of(running))["hedges"] == {"sent": 0, "won": 0}


@pytest.mark.gen_test
async def test_no_hedge_and_no_budget_spent_when_other_endpoints_are_full(serve: Serve, upstream: Start) -> None:
    other = upstream(echo)
    running = await hedging(
        serve, [upstream(LATE), other], MAX_IN_FLIGHT="1", RETRY_BUDGET_PERCENT="0", RETRY_BUDGET_FLOOR="1"
    )
    service, now = service_of(running), running.app.gateway.now
    busy = lease_on(service, endpoints_of(running)[1], now())
    assert (await ask(running, get(PATH))).body == b"late"
    busy.settle(SUCCESS, now())
    assert (other.accepted, service.outcomes.hedging.sent, service.budget.balance(now())) == (0, 0, 1.0)


@pytest.mark.parametrize("policy", ["redistribute", "refuse"])
@pytest.mark.gen_test
async def test_a_session_is_not_moved_because_its_endpoint_is_slow(serve: Serve, upstream: Start, policy: str) -> None:
    running = await hedging(serve, [upstream(LATE), upstream(named(b"other"))], STICKY=policy)
    answer = await ask(running, get(PATH, method=b"POST"))
    cookie = (answer.get(b"set-cookie") or b"").partition(b";")[0]
    answer = await ask(running, get(PATH, b"Cookie: " + cookie))
    assert (answer.body, answer.all(b"set-cookie")) == (b"late", [])


@pytest.mark.gen_test
async def test_a_session_that_has_to_move_moves_to_the_endpoint_that_answers_first(
    serve: Serve, upstream: Start
) -> None:
    ups = [upstream(script) for script in (named(b"home"), LATE, named(b"other"))]
    running = await hedging(serve, ups, STICKY="redistribute")
    answer = await ask(running, get(PATH))
    cookie = (answer.get(b"set-cookie") or b"").partition(b";")[0]
    service_of(running).set_health(endpoints_of(running)[0], running.app.gateway.now(), up=False)
    answer = await ask(running, get(PATH, b"Cookie: " + cookie))
    assert (answer.body, len(ups[1].requests), len(answer.all(b"set-cookie"))) == (b"other", 1, 1)


@pytest.mark.gen_test
async def test_a_third_endpoint_is_not_asked(serve: Serve, upstream: Start) -> None:
    third = upstream(echo)
    running = await hedging(serve, [upstream(LATE), upstream(silent), third], RETRY_ATTEMPTS="9")
    assert (await ask(running, get(PATH))).body == b"late"
    assert third.accepted == 0


@pytest.mark.gen_test
async def test_a_request_that_was_sent_again_goes_to_no_further_endpoint(serve: Serve, upstream: Start) -> None:
    third = upstream(echo)
    running = await hedging(serve, [upstream(plays(then="reset")), upstream(LATE), third])
    assert (await ask(running, get(PATH))).body == b"late"
    assert (third.accepted, running.errors) == (0, 1)


@pytest.mark.gen_test
async def test_second_endpoints_are_asked_for_as_long_as_the_retry_budget_lasts(serve: Serve, upstream: Start) -> None:
    running = await hedging(serve, [upstream(LATE), upstream(LATE)], RETRY_BUDGET_PERCENT="0", RETRY_BUDGET_FLOOR="2")
    lines = capture(running)
    assert [(await ask(running, get(PATH))).status for _ in range(4)] == [200] * 4
    await eventually(lambda: len(lines()) == 4)
    assert [line["attempts"] for line in lines()] == [2, 2, 1, 1]


# ---------------------------------------------------------------- who answers


@pytest.mark.parametrize("winner", [0, 1], ids=["the first", "the second"])
@pytest.mark.parametrize("answer", [reply(body=b"mine"), reply(b"404 Not Found", body=b"mine")], ids=["200", "404"])
@pytest.mark.gen_test
async def test_the_first_answer_is_passed_on_and_the_other_attempt_is_aborted(
    serve: Serve, upstream: Start, winner: int, answer: bytes
) -> None:
    gate = Gate(answer)
    scripts: list[Script] = [silent, silent]
    scripts[winner] = gate
    ups = [upstream(script) for script in scripts]
    running = await hedging(serve, list(ups))
    lines = capture(running)
    won, lost = endpoints_of(running)[winner], endpoints_of(running)[1 - winner]
    before = lost.latency.average
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: all(up.requests for up in ups))
    assert [each.load for each in endpoints_of(running)] == [1, 1]
    await asyncio.sleep(2 * USUAL)  # so long, that it is longer than they usually take
    await gate.open()
    response = await client.response()
    assert (response.body, response.complete) == (b"mine", True)
    await eventually(lambda: ups[1 - winner].open == 0)
    assert (won.requests_total, won.errors_total, won.load) == (6, 0, 0)
    assert (lost.requests_total, lost.errors_total, lost.load) == (6, 0, 0)
    assert lost.outcomes[SUPERSEDED] == 1
    assert lost.latency.last >= 1.9 * USUAL
    assert lost.latency.average > before
    assert won.latency.last >= 1.9 * USUAL
    assert [each.retries_total for each in endpoints_of(running)] == [0, 1]
    line = await only_line(lines)
    assert (line["attempts"], line["endpoint"], line["reason"]) == (2, ups[winner].url, "")
    assert line["headMs"] >= 1900 * USUAL
    assert (await view_of(running))["hedges"] == {"sent": 1, "won": winner}


@pytest.mark.gen_test
async def test_a_large_answer_of_the_second_endpoint_comes_whole_and_the_next_request_is_served(
    serve: Serve, upstream: Start
) -> None:
    body = b"".join(b"%015d\n" % number for number in range(64 * 1024))  # 1 MiB
    running = await hedging(serve, [upstream(silent), upstream(named(body))])
    client = await running.client()
    answer = await client.ask(get(PATH))
    assert (answer.body == body, answer.complete) == (True, True)
    assert (await client.ask(get(b"/healthz"))).status == 200


@pytest.mark.gen_test
async def test_early_hints_of_both_endpoints_reach_the_client(serve: Serve, upstream: Start) -> None:
    async def hints(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: <%d>\r\n\r\n" % peer.upstream.port)
        await may.wait()
        await peer.send(reply())
        await peer.ended()

    may = asyncio.Event()
    ups = [upstream(hints), upstream(hints)]
    running = await hedging(serve, list(ups))
    client = await running.client()
    await client.send(get(PATH))
    assert [(await client.head()).get(b"link") for _ in range(2)] == [b"<%d>" % up.port for up in ups]
    may.set()
    assert (await client.response()).status == 200


@pytest.mark.gen_test
async def test_a_second_endpoint_has_all_the_time_that_the_request_has_left(serve: Serve, upstream: Start) -> None:
    running = await hedging(
        serve, [upstream(silent), upstream(after(1.2, reply(body=b"in the end")))], RETRY_TRY_TIMEOUT_MS="100"
    )
    assert (await ask(running, get(PATH))).body == b"in the end"


@pytest.mark.gen_test
async def test_a_third_endpoint_is_asked_when_both_exceed_the_try_timeout(serve: Serve, upstream: Start) -> None:
    running = await hedging(
        serve, [upstream(silent), upstream(silent), upstream(named(b"third"))],
        RETRY_TRY_TIMEOUT_MS="100", HTTP_PROXY_TIMEOUT_MS="30000",
    )  # fmt: skip
    assert (await ask(running, get(PATH))).body == b"third"


# ---------------------------------------------------------------- one of the two fails


@pytest.mark.parametrize(
    ("said", "then"), [*FAILURES.values(), (reply(b"500 Oh"), "wait")], ids=[*FAILURES, "answers 500"]
)
@pytest.mark.gen_test
async def test_a_second_endpoint_that_fails_changes_nothing(
    serve: Serve, upstream: Start, said: bytes, then: str
) -> None:
    gate, failing = Gate(reply(body=b"first")), Failing(said, then)
    failing.may.set()
    ups = [upstream(gate), upstream(failing)]
    running = await hedging(serve, list(ups), RETRY_ON="connect,reset,503")
    lines = capture(running)
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: running.errors)
    assert [each.load for each in endpoints_of(running)] == [1, 0]
    await eventually(lambda: ups[1].open == 0)
    await gate.open()
    answer = await client.response()
    assert (answer.status, answer.body) == (200, b"first")
    assert [(each.requests_total, each.errors_total) for each in endpoints_of(running)] == [(6, 0), (6, 1)]
    line = await only_line(lines)
    assert (line["attempts"], line["endpoint"], len(ups[0].requests)) == (2, ups[0].url, 1)
    assert (await view_of(running))["hedges"] == {"sent": 1, "won": 0}


@pytest.mark.gen_test
async def test_a_second_endpoint_whose_answer_would_be_replaced_changes_nothing_and_has_not_failed(
    serve: Serve, upstream: Start
) -> None:
    gate = Gate(reply(body=b"first"))
    running = await hedging(serve, [upstream(gate), upstream(plays(reply(b"429 Too Many Requests")))], RETRY_ON="429")
    second = endpoints_of(running)[1]
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: second.requests_total == 6)
    await gate.open()
    assert (await client.response()).body == b"first"
    assert (second.errors_total, second.load) == (0, 0)
    assert second.latency.penalty(running.app.gateway.now()) == 0.0


@pytest.mark.gen_test
async def test_a_second_endpoint_that_refuses_changes_nothing(serve: Serve, upstream: Start) -> None:
    gate = Gate(reply(body=b"first"))
    running = await hedging(serve, [upstream(gate), REFUSING])
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: running.errors)
    await gate.open()
    assert (await client.response()).body == b"first"
    assert [each.errors_total for each in endpoints_of(running)] == [0, 1]


@pytest.mark.gen_test
async def test_a_second_endpoint_that_this_machine_cannot_connect_to_has_not_failed(
    serve: Serve, upstream: Start
) -> None:
    gate = Gate(reply(body=b"first"))
    running = await hedging(serve, [upstream(gate), upstream(echo)], times=0)
    know(running, usual=LONG)
    second, client = endpoints_of(running)[1], await running.client()
    await client.send(get(PATH))
    await eventually(lambda: gate.waiting)
    with no_descriptors():
        await eventually(lambda: second.requests_total == 6)
    await gate.open()
    assert (await client.response()).body == b"first"
    assert (second.errors_total, second.load, second.last_failure) == (0, 0, "")


@pytest.mark.gen_test
async def test_a_kept_connection_that_ends_under_a_second_request_is_nobodys_failure(
    serve: Serve, upstream: Start
) -> None:
    async def dies_at_the_second(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await peer.request()

    async def slow_at_the_second(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await gate(peer)

    gate = Gate(reply(body=b"first"))
    second = upstream(dies_at_the_second)
    running = await hedging(serve, [upstream(slow_at_the_second), second])
    for _ in range(2):
        assert (await ask(running, get(PATH))).status == 200
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: len(second.requests) == 2 and running.inflight == 1)
    await gate.open()
    assert (await client.response()).body == b"first"
    assert [(each.requests_total, each.errors_total) for each in endpoints_of(running)] == [(7, 0), (7, 0)]


@pytest.mark.gen_test
async def test_a_kept_connection_that_ends_after_the_second_endpoint_is_replaced_by_one_to_the_first(
    serve: Serve, upstream: Start
) -> None:
    async def ends_at_the_second(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(body=b"first"))
        if not held:
            held.append(peer)
            await peer.request()
            await may_end.wait()

    held: list[Peer] = []
    may_end = asyncio.Event()
    first, failing = upstream(ends_at_the_second), upstream(plays(BUSY))
    running = await hedging(serve, [first, failing], RETRY_ON="connect,reset,503")
    assert (await ask(running, get(PATH))).body == b"first"
    endpoints_of(running)[1].is_admitted = False
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: len(first.requests) == 2)
    endpoints_of(running)[1].is_admitted = True
    await eventually(lambda: running.errors)
    may_end.set()
    answer = await client.response()
    assert (answer.status, answer.body, len(first.requests), len(failing.requests)) == (200, b"first", 3, 1)


@pytest.mark.parametrize("others", [0, 1])
@every_failure
@pytest.mark.gen_test
async def test_the_second_endpoints_answer_counts_when_the_first_fails(
    serve: Serve, upstream: Start, said: bytes, then: str, others: int
) -> None:
    failing, gate = Failing(said, then), Gate(reply(body=b"second"))
    ups = [upstream(failing), upstream(gate)]
    unasked = [upstream(echo) for _ in range(others)]
    running = await hedging(serve, [*ups, *unasked], RETRY_ON="connect,reset,503")
    lines = capture(running)
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: all(up.requests for up in ups))
    failing.may.set()
    await eventually(lambda: running.errors)
    assert [each.load for each in endpoints_of(running)] == [0, 1] + [0] * others
    await gate.open()
    answer = await client.response()
    assert (answer.status, answer.body) == (200, b"second")
    assert [each.errors_total for each in endpoints_of(running)] == [1, 0] + [0] * others
    assert [up.accepted for up in unasked] == [0] * others
    line = await only_line(lines)
    assert (line["attempts"], line["endpoint"], line["status"]) == (2, ups[1].url, 200)


@pytest.mark.gen_test
async def test_a_third_endpoint_is_asked_when_the_second_and_then_the_first_fail(serve: Serve, upstream: Start) -> None:
    failing = Failing()
    running = await hedging(serve, [upstream(failing), REFUSING, upstream(named(b"third"))])
    lines = capture(running)
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: running.errors)
    failing.may.set()
    assert (await client.response()).body == b"third"
    assert [each.errors_total for each in endpoints_of(running)] == [1, 1, 0]
    assert (await only_line(lines))["attempts"] == 3


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.gen_test
async def test_when_both_fail_the_request_goes_on_like_after_two_attempts(
    serve: Serve, upstream: Start, others: int
) -> None:
    both = [Failing(), Failing()]
    ups = [upstream(failing) for failing in both]
    running = await hedging(serve, [*ups, *(upstream(named(b"third")) for _ in range(others))])
    lines = capture(running)
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: all(up.requests for up in ups))
    for number, failing in enumerate(both, 1):
        failing.may.set()
        await eventually(lambda number=number: running.errors == number)
    answer = await client.response()
    if others:
        assert (answer.status, answer.body) == (200, b"third")
    else:
        problem(answer, 502, "upstream_unavailable")
    assert (await only_line(lines))["attempts"] == 2 + others


@pytest.mark.gen_test
async def test_where_neither_answers_the_request_is_over(serve: Serve, upstream: Start) -> None:
    ups = [upstream(silent), upstream(silent)]
    running = await hedging(serve, list(ups), HTTP_PROXY_TIMEOUT_MS="1200")
    begun = time.monotonic()
    problem(await ask(running, get(PATH)), 504, "upstream_timeout")
    assert time.monotonic() - begun >= 1.1
    await eventually(lambda: not any(up.open for up in ups))
    assert (running.errors, running.inflight) == (2, 0)


# ---------------------------------------------------------------- a client that leaves


@pytest.mark.parametrize("abrupt", [True, False])
@pytest.mark.gen_test
async def test_a_client_that_leaves_ends_both_exchanges(serve: Serve, upstream: Start, abrupt: bool) -> None:
    ups = [upstream(silent), upstream(silent)]
    running = await hedging(serve, list(ups))
    lines = capture(running)
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: all(up.requests for up in ups))
    client.reset() if abrupt else client.close()
    await eventually(lambda: not any(up.open for up in ups))
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["attempts"]) == (499, "client_gone", 2)
    assert (running.inflight, running.errors) == (0, 0)
    assert [each.requests_total for each in endpoints_of(running)] == [6, 6]
    assert [each.outcomes[CLIENT_GONE] for each in endpoints_of(running)] == [1, 1]


@pytest.mark.gen_test
async def test_for_a_client_that_has_left_no_second_endpoint_is_asked(serve: Serve, upstream: Start) -> None:
    first, second = upstream(silent), upstream(silent)
    running = await hedging(serve, [first, second], times=0)
    know(running, usual=SOON)
    lines = capture(running)
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: first.requests)
    client.close()
    assert (await only_line(lines))["attempts"] == 1
    await asyncio.sleep(1.1 * SOON)
    assert (second.accepted, service_of(running).outcomes.hedging.sent) == (0, 0)


# ---------------------------------------------------------------- an endpoint that hangs


@pytest.mark.gen_test
async def test_an_endpoint_that_never_answers_costs_no_client_an_answer_and_is_left_alone_in_the_end(
    serve: Serve, upstream: Start
) -> None:
    hanging = upstream(silent)
    running = await hedging(serve, [hanging, upstream(echo)], RETRY_BUDGET_FLOOR="100", BREAKER_OPEN_MS="60000")
    breaker = endpoints_of(running)[0].breaker
    while not breaker.is_open:
        assert (await ask(running, get(PATH))).status == 200
        assert len(hanging.requests) <= 12
    before = len(hanging.requests)
    assert [(await ask(running, get(PATH))).status for _ in range(6)] == [200] * 6
    assert len(hanging.requests) == before
    await eventually(lambda: not hanging.open)


@pytest.mark.gen_test
async def test_an_endpoint_that_is_only_hedged_to_and_too_late_does_not_count_as_hanging(
    serve: Serve, upstream: Start
) -> None:
    async def as_soon_as_the_second_is_asked_too(peer: Peer) -> None:
        while True:
            await peer.request()
            await eventually(lambda: len(second.requests) == len(first.requests))
            await peer.send(reply())

    first, second = upstream(as_soon_as_the_second_is_asked_too), upstream(silent)
    running = await hedging(serve, [{"url": first.url, "weight": 1000}, second], 1000, RETRY_BUDGET_FLOOR="100")
    for number in range(1, 2 * HANGS):
        assert (await ask(running, get(PATH))).status == 200
        assert (len(first.requests), len(second.requests)) == (number, number)
    assert (running.errors, (await view_of(running))["hedges"]["won"]) == (0, 0)
