"""Which endpoints are asked, on real sockets: circuits, keys, sessions, and own values of services.

What is decided is tested in tests/policy/; here, that requests and answers follow. Row names such as L9 are those of
the project's feature list.
"""

import json
import re
import time

import pytest

from tests.conftest import Running, Serve
from tests.support.endpoints import BUSY, REFUSING, Answers, Gate, always, endpoints_of, named, service_of, view_of
from tests.support.event_streams import STREAM_HEAD
from tests.support.journeys import Start, ask, capture, plays, problem, silent
from tests.support.sockets import Message, Peer, Script, echo, eventually, get, reply
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import State
from tornado_gateway.policy.upstream.endpoint import Outcome

PATH = b"/api/svc/x"


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
async def test_long_polls_that_are_not_answered_in_time_are_504s_and_open_no_breaker(
    serve: Serve, upstream: Start
) -> None:
    services = {"svc": {"endpoints": [upstream(silent).url], "longPoll": True, "httpProxyTimeoutMs": 50}}
    running = await serve(services, **ALL_OUT)
    for _ in range(7):
        problem(await ask(running, get(PATH)), 504, "upstream_timeout")
    (endpoint,) = endpoints_of(running)
    assert (endpoint.breaker.is_open, endpoint.latency.penalty(running.app.gateway.now())) == (False, 0.0)
    assert (endpoint.outcomes[Outcome.FAILURE], endpoint.requests_total) == (7, 7)


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
    assert (endpoint.errors_total, endpoint.requests_total, endpoint.outcomes[Outcome.CLIENT_GONE]) == (0, 100, 100)
    assert (await ask(running, get(PATH))).status == 200


@pytest.mark.gen_test
async def test_a_service_that_works_again_is_found_out(serve: Serve, upstream: Start) -> None:  # C6
    up = upstream(Answers(*[reply(b"500 Oh")] * 5, reply()))
    running = await serve({"svc": [up.url]}, BREAKER_OPEN_MS="100000", **ALL_OUT)
    for _ in range(5):
        assert (await ask(running, get(PATH))).status == 500
    problem(await ask(running, get(PATH)), 503, "circuit_open")
    object.__setattr__(running.app.gateway, "now", lambda: time.monotonic() + 50)
    problem(await ask(running, get(PATH)), 503, "circuit_open")
    object.__setattr__(running.app.gateway, "now", lambda: time.monotonic() + 111)  # with the 10 % of chance
    assert (await ask(running, get(PATH))).status == 200
    assert len(up.requests) == 6
    (shown,) = (await view_of(running))["upstreamDetails"]
    assert (shown["breaker"]["state"], shown["breaker"]["opened"], shown["circuitOpenUntilMs"]) == ("closed", 1, 0)


@pytest.mark.gen_test
async def test_a_single_request_probes_the_endpoint(serve: Serve, upstream: Start) -> None:  # C6
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
async def test_requests_with_the_same_key_go_to_the_same_endpoint(  # L8
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
async def test_a_request_without_a_key_goes_to_any_endpoint(serve: Serve, upstream: Start) -> None:
    running = await numbered(serve, upstream, 2, BALANCER="consistent_hash", HASH_KEY="header:x-user")
    assert {await went_to(running) for _ in range(40)} == {b"0", b"1"}


@pytest.mark.gen_test
async def test_a_key_moves_while_its_endpoint_is_out_and_comes_back(serve: Serve, upstream: Start) -> None:
    running = await numbered(serve, upstream, 3, BALANCER="consistent_hash", HASH_KEY="path", SLOW_START_MS="0")
    keys = [b"/%d" % number for number in range(40)]
    first = [await went_to(running, path=key) for key in keys]
    out = endpoints_of(running)[0]
    for is_healthy in (False, True):
        service_of(running).set_health(out, running.app.gateway.now(), up=is_healthy)
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
        STICKY="refuse", BALANCER="round_robin", BREAKER_OPEN_MS="100000",
    )  # fmt: skip
    answer = await ask(running, get(PATH))
    request, home = get(PATH, b"Cookie: " + session(answer), method=b"POST"), int(answer.body)
    scripts[home].is_broken = True
    for _ in range(5):
        assert (await ask(running, request)).status == 500
    scripts[home].is_broken = False
    problem(await ask(running, request), 503, "circuit_open")
    object.__setattr__(running.app.gateway, "now", lambda: time.monotonic() + 111)  # with the 10 % of chance
    answer = await ask(running, request)
    assert answer.status == 200
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
