"""Rate limits of whole requests: who is refused, what every answer tells, and what is exempt."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.conftest import Running, Serve
from tests.support.endpoints import Gate, always
from tests.support.event_streams import STREAM_HEAD, Listener, Source
from tests.support.journeys import Start, ask, capture, only_line, plays
from tests.support.operators import KEY, ORIGIN, form, log_in, token
from tests.support.reloading import Reloading
from tests.support.sockets import Client, Message, Peer, echo, eventually, get, reply
from tests.support.websockets import HANDSHAKE, accepting
from tornado_gateway.handlers.limiting import OBSERVED_REASON
from tornado_gateway.handlers.router import PAGES, ROUTES

SECRET = KEY  # also signs the tokens of operators
AUTH = {"AUTH_REQUIRED": "true", "JWT_SECRET": SECRET}
PATH = b"/api/svc/x"
FIELDS = (b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset", b"ratelimit-policy", b"ratelimit")
TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"
PROXY = {"TRUSTED_PROXIES": "127.0.0.1"}


def bearer(**claims: str) -> bytes:
    return b"Authorization: Bearer " + jwt.encode(claims, SECRET).encode()


def state(answer: Message) -> tuple[bytes | None, ...]:
    """The values of FIELDS."""
    return tuple(answer.get(each) for each in FIELDS)


async def statuses(running: Running, *requests: bytes) -> list[int]:
    client = await running.client()
    return [(await client.ask(each)).status for each in requests]


def by(address: str, target: bytes = PATH, *fields: bytes) -> bytes:
    """A request of a client behind a trusted proxy."""
    return get(target, b"X-Forwarded-For: " + address.encode(), *fields)


# ---------------------------------------------------------------- what a client is told


@pytest.mark.gen_test
async def test_the_answers_tell_the_limit_until_a_429_says_when_to_come_back(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, RATE_LIMIT_MAX="2")
    lines = capture(running)
    first, second, third = [await ask(running, get(PATH)) for _ in range(3)]
    assert state(first) == (b"2", b"1", b"30", b'"default";q=2;w=60', b'"default";r=1;t=30')
    assert (first.status, second.status, third.status, len(up.requests)) == (200, 200, 429, 2)
    assert (second.get(b"x-ratelimit-remaining"), third.get(b"x-ratelimit-remaining")) == (b"0", b"0")
    assert int(third.get(b"retry-after") or 0) in (29, 30)
    assert third.get(b"ratelimit") == b'"default";r=0;t=%b' % (third.get(b"retry-after") or b"")
    said = json.loads(third.body)
    assert third.get(b"content-type") == b"application/problem+json"
    assert (said["type"], said["violated-policies"]) == (TYPE, ["default"])
    assert (said["error"], said["status"], said["requestId"].encode()) == (
        "rate_limited", 429, third.get(b"x-request-id"),
    )  # fmt: skip
    await eventually(lambda: len(lines()) == 3)
    assert [each["reason"] for each in lines()] == ["", "", "quota_exceeded"]


@pytest.mark.gen_test
async def test_a_wait_below_a_second_is_told_as_one(serve: Serve, upstream: Start) -> None:  # R5
    running = await serve({"svc": [upstream(echo).url]}, RATE_LIMITS="1/s")
    client = await running.client()
    answers = [await client.ask(get(PATH)) for _ in range(4)]
    refused = next(each for each in answers if each.status == 429)
    assert refused.get(b"retry-after") == b"1"


ANSWERS = {
    "of a service": get(PATH),
    "of a service's error": get(b"/api/bad/x"),
    "of a dead service": get(b"/api/dead/x"),
    "for an unknown service": get(b"/api/none/x"),
    "for an unknown page": get(b"/nothing"),
    "of a page": get(b"/admin/stats"),
    "for a stream": get(b"/sse/stream/x"),
    "without a body": get(PATH, method=b"HEAD"),
}


@pytest.mark.parametrize("which", ANSWERS)
@pytest.mark.gen_test
async def test_every_answer_tells_the_state(serve: Serve, upstream: Start, which: str) -> None:
    services = {
        "svc": [upstream(echo).url],
        "bad": [upstream(always(reply(b"503 Oh"))).url],
        "dead": ["http://127.0.0.1:1"],
        "stream": [upstream(plays(STREAM_HEAD, b"data: 1\n\n")).url],
    }
    running = await serve(services, RATE_LIMIT_MAX="5")
    client = await running.client()
    await client.send(ANSWERS[which])
    head = await client.until(b"\r\n\r\n")
    found = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")]
    assert [found.count(each) for each in FIELDS] == [1] * 5


@pytest.mark.gen_test
async def test_a_handshake_counts_once_whatever_the_stream_carries(serve: Serve, upstream: Start) -> None:
    async def accept(peer: Peer) -> None:
        await peer.send(accepting(await peer.request()))
        await peer.ended()

    running = await serve({"svc": [upstream(accept).url]}, RATE_LIMIT_MAX="2")
    client = await running.client()
    await client.send(get(b"/ws/svc/x", *HANDSHAKE))
    head = (await client.until(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 101")
    assert b"x-ratelimit-remaining: 1\r\n" in head
    assert (await ask(running, get(b"/ws/svc/x"))).status == 426
    assert (await ask(running, get(b"/ws/svc/x", *HANDSHAKE))).status == 429


@pytest.mark.gen_test
async def test_an_event_source_gets_the_429(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(plays(STREAM_HEAD)).url]}, RATE_LIMIT_MAX="1", SSE_UNAVAILABLE="retry")
    request = get(b"/sse/svc/x", b"Accept: text/event-stream")
    client = await running.client()
    await client.send(request)
    await client.until(b"\r\n\r\n")
    assert (await ask(running, request)).status == 429


@pytest.mark.gen_test
async def test_a_retry_is_not_counted(serve: Serve, upstream: Start) -> None:
    busy, good = upstream(always(reply(b"503 Oh"))), upstream(echo)
    running = await serve(
        {"svc": [busy.url, good.url]}, RATE_LIMIT_MAX="9", RETRY_ON="503", RETRY_BACKOFF_MS="0", BALANCER="round_robin"
    )
    answers = [await ask(running, get(PATH)) for _ in range(4)]
    assert [each.status for each in answers] == [200] * 4
    assert len(busy.requests) >= 2
    assert answers[-1].get(b"x-ratelimit-remaining") == b"5"


# ---------------------------------------------------------------- who is counted


@pytest.mark.gen_test
async def test_operational_routes_are_exempt_and_all_others_are_not(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, RATE_LIMIT_MAX="1")
    exempt = [each.path for each in PAGES if each.is_operational]
    assert exempt == ["/healthz", "/readyz", "/metrics", "/_pressure"]
    for path in exempt:
        answers = [await ask(running, get(path.encode())) for _ in range(3)]
        assert {each.status for each in answers} <= {200, 503}
        assert set(map(state, answers)) == {(None,) * 5}
    assert [each.path for each in ROUTES if each.is_operational and each not in PAGES] == []
    assert await statuses(running, get(b"/admin/stats"), get(b"/admin/stats")) == [200, 429]


@pytest.mark.gen_test
async def test_an_operator_who_has_logged_in_is_exempt_and_an_attempt_to_log_in_is_not(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, RATE_LIMITS="3/h", **AUTH)
    session = await log_in(running, token())  # the first
    for path in (b"/admin", b"/admin/stats", b"/admin/api/services", b"/admin/nothing") * 2:
        answer = await ask(running, get(path, session))
        assert (answer.status, state(answer)) == (404 if path.endswith(b"nothing") else 200, (None,) * 5)
    made_up = session.partition(b"=")[0] + b"=" + b"x" * 43
    assert await statuses(running, get(b"/admin/stats", made_up), get(b"/admin/stats", bearer(sub="a"))) == [401, 200]
    log_ins = [form(b"/admin/login", ORIGIN, *lines, credential=token()) for lines in ((), (session,))]
    counted = [get(b"/admin", made_up), get(b"/admin/stats", bearer(sub="a")), get(PATH, session), *log_ins]
    assert await statuses(running, *counted) == [429] * 5
    log_out = form(b"/admin/logout", ORIGIN, session)
    assert await statuses(running, get(b"/admin", session), log_out, get(b"/admin", session)) == [200, 303, 429]


@pytest.mark.gen_test
async def test_without_a_limit_nothing_is_told_and_nothing_is_kept(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]})
    assert running.app.gateway.limits is None
    assert state(await ask(running, get(PATH))) == (None,) * 5


@pytest.mark.gen_test
async def test_clients_are_told_apart_by_address_behind_trusted_proxies_only(serve: Serve, upstream: Start) -> None:
    services = {"svc": [upstream(echo).url]}
    trusting = await serve(services, RATE_LIMIT_MAX="1", **PROXY)
    addresses = ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
    assert await statuses(trusting, *map(by, addresses)) == [200, 429, 200, 200, 429, 200]
    suspicious = await serve(services, RATE_LIMIT_MAX="1")
    assert await statuses(suspicious, *map(by, addresses[:3])) == [200, 429, 429]


@pytest.mark.gen_test
async def test_principals_are_counted_wherever_they_are(serve: Serve, upstream: Start) -> None:
    running = await serve(
        {"svc": [upstream(echo).url]}, RATE_LIMIT_MAX="1", RATE_LIMIT_KEY="principal", **AUTH, **PROXY
    )
    ada, bob, other = bearer(sub="ada"), bearer(sub="bob"), bearer(sub="ada", iss="https://other.example")
    assert await statuses(
        running,
        by("192.0.2.1", PATH, ada),
        by("192.0.2.2", PATH, ada),
        by("192.0.2.1", PATH, bob),
        by("192.0.2.1", PATH, other),
    ) == [200, 429, 200, 200]


@pytest.mark.gen_test
async def test_addresses_are_limited_before_a_signature_is_checked_and_principals_after(
    serve: Serve, upstream: Start
) -> None:
    running = await serve({"svc": [upstream(echo).url]}, RATE_LIMITS="3/m;key=ip,1/m;key=principal", **AUTH)
    wrong, ada = bearer(sub="ada")[:-2] + b"xx", bearer(sub="ada")
    answer = await ask(running, get(PATH, ada))
    assert answer.status == 200
    assert answer.get(b"ratelimit") == b'"default 3/m;key=ip";r=2;t=20, "default 1/m;key=principal";r=0;t=60'
    assert state(answer)[:2] == (b"1", b"0")
    refused = await ask(running, get(PATH, ada))
    assert (refused.status, json.loads(refused.body)["violated-policies"]) == (429, ["default 1/m;key=principal"])
    unknown = await ask(running, get(PATH, wrong))
    assert (unknown.status, unknown.get(b"x-ratelimit-limit")) == (401, b"3")
    assert (await ask(running, get(PATH, wrong))).status == 429


@pytest.mark.gen_test
async def test_a_field_may_be_the_key(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, RATE_LIMIT_MAX="1", RATE_LIMIT_KEY="header:X-Tenant")
    requests = [get(PATH, b"X-Tenant: a"), get(PATH, b"x-tenant: b"), get(PATH, b"X-Tenant: a"), get(PATH), get(PATH)]
    assert await statuses(running, *requests) == [200, 200, 429, 200, 429]


@pytest.mark.gen_test
async def test_a_route_may_be_the_key(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url], "other": [up.url]}, RATE_LIMIT_MAX="1", RATE_LIMIT_KEY="route", **PROXY)
    requests = [by("192.0.2.1"), by("192.0.2.2"), by("192.0.2.3", b"/api/other/x")]
    assert await statuses(running, *requests) == [200, 429, 200]


@pytest.mark.gen_test
async def test_a_policy_may_be_for_tokens_with_a_scope(serve: Serve, upstream: Start) -> None:
    running = await serve(
        {"svc": [upstream(echo).url]}, RATE_LIMITS="1/d;scope=free,2/d;scope=pro", RATE_LIMIT_KEY="principal", **AUTH
    )
    for scope, expected in (("free", [200, 429, 429]), ("pro", [200, 200, 429]), ("other", [200] * 3)):
        assert await statuses(running, *[get(PATH, bearer(sub=scope, scope=scope))] * 3) == expected
    assert state(await ask(running, get(PATH, bearer(sub="x", scope="other")))) == (None,) * 5


# ---------------------------------------------------------------- services and routes


@pytest.mark.gen_test
async def test_services_and_routes_with_own_values_have_counters_of_their_own(serve: Serve, upstream: Start) -> None:
    url = upstream(echo).url
    services = {
        "one": [url],
        "two": [url],
        "own": {"endpoints": [url], "rateLimitMax": 1},
        "free": {"endpoints": [url], "rateLimitMax": 0},
    }
    routes = [{"path": "/two/*", "service": "two", "rateLimits": "1/h"}, {"path": "/one/*", "service": "one"}]
    running = await serve(services, RATE_LIMIT_MAX="2", ROUTES=json.dumps(routes))
    targets = [b"/two/", b"/two/", b"/api/one/", b"/one/", b"/api/one/", b"/api/own/", b"/api/own/"]
    assert await statuses(running, *map(get, targets)) == [200, 429, 200, 200, 429, 200, 429]
    assert state(await ask(running, get(b"/api/own/")))[3] == b'"own";q=1;w=60'
    assert b'"/two/* 1/h;key=ip";q=1;w=3600' in (state(await ask(running, get(b"/two/")))[3] or b"")
    assert state(await ask(running, get(b"/api/free/"))) == (None,) * 5


DOORS = {
    "api": get(b"/api/svc/x"),
    "sse": get(b"/sse/svc/x"),
    "ws": get(b"/ws/svc/x", *HANDSHAKE),
    "ws and a path": get(b"/ws/svc?path=/x", *HANDSHAKE),
    "a handshake on api": get(b"/api/svc/x", *HANDSHAKE),
    "own": get(b"/own/x"),
    "a handshake on own": get(b"/own/x", *HANDSHAKE),
}


@pytest.mark.parametrize("key", ["ip", "route", "principal", "header:X-Tenant"])
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.gen_test
async def test_the_limit_of_a_route_holds_at_every_door_of_its_service(
    serve: Serve, upstream: Start, door: str, key: str
) -> None:
    url = upstream(echo).url
    routes = [
        {"path": "/own/*", "service": "svc", "rateLimits": "1/d", "rateLimitKey": key},
        {"path": "/free/*", "service": "svc"},
    ]
    running = await serve({"svc": [url], "other": [url]}, ROUTES=json.dumps(routes))
    (first,) = await statuses(running, DOORS[door])
    assert first != 429
    for each in DOORS.values():
        assert (await ask(running, each)).status == 429
    assert await statuses(running, get(b"/free/x"), get(b"/api/other/x")) == [200, 200]


@pytest.mark.gen_test
async def test_standard_routes_count_under_the_service_and_under_its_routes(serve: Serve, upstream: Start) -> None:
    routes = [
        {"path": "/narrow/*", "service": "svc", "rateLimits": "2/d"},
        {"path": "/wide/*", "service": "svc", "rateLimits": "9/d"},
    ]
    running = await serve({"svc": [upstream(echo).url]}, RATE_LIMITS="5/d", ROUTES=json.dumps(routes))
    answer = await ask(running, get(PATH))
    assert answer.get(b"x-ratelimit-limit") == b"2"
    names = [each.partition(b";")[0] for each in (answer.get(b"ratelimit") or b"").split(b", ")]
    assert names == [b'"default"', b'"/narrow/*"', b'"/wide/*"']
    assert await statuses(running, get(PATH), get(PATH), get(b"/wide/x")) == [200, 429, 200]
    assert (await ask(running, get(b"/wide/x"))).get(b"x-ratelimit-remaining") == b"5"  # not counted when refused


@pytest.mark.gen_test
async def test_a_route_that_observes_refuses_nothing_at_any_door(serve: Serve, upstream: Start) -> None:
    routes = [{"path": "/own/*", "service": "svc", "rateLimits": "1/d", "rateLimitMode": "observe"}]
    running = await serve({"svc": [upstream(echo).url]}, RATE_LIMITS="3/d", ROUTES=json.dumps(routes))
    lines = capture(running)
    assert await statuses(running, *[get(PATH)] * 4) == [200, 200, 200, 429]
    await eventually(lambda: len(lines()) == 4)
    assert [each["reason"] for each in lines()] == ["", OBSERVED_REASON, OBSERVED_REASON, "quota_exceeded"]
    assert await statuses(running, *[get(b"/own/x")] * 2) == [200, 200]


@pytest.mark.gen_test
async def test_service_and_route_may_name_different_fields_of_a_cost(serve: Serve, upstream: Start) -> None:
    routes = [{"path": "/own/*", "service": "svc", "rateLimits": "100/d", "rateLimitCostHeader": "X-Units"}]
    told = reply(b"200 OK", (b"X-Cost: 10", b"X-Units: 30"))
    running = await serve(
        {"svc": [upstream(always(told)).url]}, RATE_LIMITS="100/d", ROUTES=json.dumps(routes), **COST
    )  # fmt: skip
    assert (await ask(running, get(PATH))).status == 200
    assert await remaining(running) == b"89"
    assert (await ask(running, get(b"/own/x"))).get(b"x-ratelimit-remaining") == b"69"


@pytest.mark.gen_test
async def test_a_service_alone_may_have_a_limit(serve: Serve, upstream: Start) -> None:
    url = upstream(echo).url
    running = await serve({"free": [url], "own": {"endpoints": [url], "rateLimits": "1/h"}})
    assert await statuses(running, *map(get, [b"/api/own/", b"/api/own/", b"/api/free/", b"/api/free/"])) == [
        200, 429, 200, 200,
    ]  # fmt: skip


# ---------------------------------------------------------------- observe


@pytest.mark.gen_test
async def test_observe_refuses_nothing_and_says_what_it_would_refuse(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, RATE_LIMIT_MAX="1", RATE_LIMIT_MODE="observe")
    lines = capture(running)
    answers = [await ask(running, get(PATH)) for _ in range(3)]
    assert [each.status for each in answers] == [200] * 3
    assert answers[2].get(b"x-ratelimit-remaining") == b"0"
    await eventually(lambda: len(lines()) == 3)
    assert [each["reason"] for each in lines()] == ["", OBSERVED_REASON, OBSERVED_REASON]
    scraped = (await ask(running, get(b"/metrics"))).body
    assert b'gateway_rate_limited_total{outcome="observed",policy="default"} 2.0' in scraped


@pytest.mark.gen_test
async def test_refusals_and_keys_are_in_the_metrics(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, RATE_LIMIT_MAX="1")
    await statuses(running, get(PATH), get(PATH), get(PATH))
    scraped = (await ask(running, get(b"/metrics"))).body
    assert b'gateway_rate_limited_total{outcome="refused",policy="default"} 2.0' in scraped
    assert b"gateway_rate_limit_keys 1.0" in scraped
    assert b"gateway_rate_limit_dropped_keys_total 0.0" in scraped


# ---------------------------------------------------------------- cost

COST = {"RATE_LIMIT_COST_HEADER": "X-Cost"}


async def remaining(running: Running) -> bytes | None:
    return (await ask(running, get(b"/nothing"))).get(b"x-ratelimit-remaining")


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ([], b"98"), ([b"X-Cost: 10"], b"89"), ([b"x-cost: 1"], b"98"), ([b"X-Cost: 0"], b"98"),
        ([b"X-Cost: 1000000"], b"0"), ([b"X-Cost: -5"], b"98"), ([b"X-Cost: 1.5"], b"98"), ([b"X-Cost:"], b"98"),
        ([b"X-Cost: 5", b"X-Cost: 5"], b"98"), ([b"X-Cost: 9999999999"], b"98"),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_service_may_tell_what_a_request_has_cost(  # R9
    serve: Serve, upstream: Start, told: list[bytes], left: bytes
) -> None:
    running = await serve({"svc": [upstream(always(reply(b"200 OK", tuple(told)))).url]}, RATE_LIMITS="100/d", **COST)
    answer = await ask(running, get(PATH))
    assert (answer.status, answer.get(b"x-ratelimit-remaining")) == (200, b"99")
    assert await remaining(running) == left


@pytest.mark.gen_test
async def test_a_cost_above_the_limit_blocks_later_requests(serve: Serve, upstream: Start) -> None:
    running = await serve(
        {"svc": [upstream(always(reply(b"200 OK", (b"X-Cost: 50",)))).url]}, RATE_LIMITS="10/s,100/d;burst=10", **COST
    )
    assert (await ask(running, get(PATH))).status == 200
    refused = await ask(running, get(PATH))
    assert refused.status == 429
    assert int(refused.get(b"retry-after") or 0) > 30_000


@pytest.mark.gen_test
async def test_a_trailer_may_tell_the_cost(serve: Serve, upstream: Start) -> None:
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Cost: 30\r\n\r\n"
    running = await serve({"svc": [upstream(plays(body)).url]}, RATE_LIMITS="100/d", **COST)
    assert (await ask(running, get(PATH))).status == 200
    assert await remaining(running) == b"69"


@pytest.mark.gen_test
async def test_a_cost_counts_under_all_rules(serve: Serve, upstream: Start) -> None:
    running = await serve(
        {"svc": [upstream(always(reply(b"200 OK", (b"X-Cost: 20",)))).url]},
        RATE_LIMITS="100/d,50/d;key=principal", **AUTH, **COST,
    )  # fmt: skip
    await ask(running, get(PATH, bearer(sub="ada")))
    answer = await ask(running, get(b"/admin/stats", bearer(sub="ada")))
    assert [part.partition(b"r=")[2].partition(b";")[0] for part in (answer.get(b"ratelimit") or b"").split(b", ")] == [
        b"79", b"29",
    ]  # fmt: skip


# ---------------------------------------------------------------- a store that answers later


class Slow:
    """A store that has to do I/O: the answers of a store in memory, a turn of the loop later."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def take(self, asked: Any, now: float) -> Any:
        await asyncio.sleep(0)
        return self._store.take(asked, now)


@pytest.mark.gen_test
async def test_a_store_may_answer_later(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, RATE_LIMITS="2/h,2/h;key=principal", **AUTH)
    limits = running.app.gateway.limits
    assert limits
    object.__setattr__(limits, "store", Slow(limits.store))
    lines = capture(running)
    assert await statuses(running, *[get(PATH, bearer(sub="ada"))] * 3) == [200, 200, 429]
    await eventually(lambda: len(lines()) == 3)
    assert await statuses(running, get(b"/admin/stats", bearer(sub="ada"))) == [429]


@pytest.mark.gen_test
async def test_a_body_behind_a_refusal_is_not_forwarded(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, RATE_LIMIT_MAX="1")
    lines = capture(running)
    request = get(PATH, b"Content-Length: 5", method=b"POST") + b"hello"
    assert (await ask(running, request, b"POST")).status == 200
    await only_line(lines)
    assert (await ask(running, request, b"POST")).status == 429
    assert len(up.requests) == 1


# ---------------------------------------------------------------- requests in flight


HELD = b"/api/held/x"


async def hold(running: Running, *requests: bytes) -> list[Client]:
    """Put requests in flight to the service "held"."""
    clients = [await running.client() for _ in requests]
    for client, each in zip(clients, requests, strict=True):
        await client.send(each)
    await eventually(lambda: running.inflight == len(requests))
    return clients


async def let_go(running: Running, gate: Gate, clients: list[Client]) -> None:
    for _ in clients:
        await gate.open()
    assert [(await each.response()).status for each in clients] == [200] * len(clients)
    await eventually(lambda: running.inflight == 0)


def in_flight(running: Running) -> Counter[tuple[str, str]]:
    assert running.app.gateway.limits
    return running.app.gateway.limits.in_flight.counts


@pytest.mark.gen_test
async def test_a_client_has_so_many_requests_in_flight_and_others_have_theirs(  # R8
    serve: Serve, upstream: Start
) -> None:
    gate = Gate()
    services = {"held": [upstream(gate).url], "svc": [upstream(echo).url]}
    running = await serve(services, MAX_IN_FLIGHT_PER_CLIENT="2", **PROXY)
    lines = capture(running)
    clients = await hold(running, by("192.0.2.1", HELD), by("192.0.2.1", HELD))
    refused = await ask(running, by("192.0.2.1"))
    assert (refused.status, refused.get(b"retry-after")) == (429, b"1")
    assert refused.get(b"ratelimit-policy") == b'"default in-flight";q=2;qu="concurrent-requests"'
    said = json.loads(refused.body)
    assert (said["type"], said["violated-policies"], said["error"]) == (TYPE, ["default in-flight"], "rate_limited")
    assert (await ask(running, by("192.0.2.2"))).status == 200
    await eventually(lambda: len(lines()) == 2)
    assert [each["reason"] for each in lines()] == ["client_in_flight_limit", ""]
    await let_go(running, gate, clients)
    assert (await ask(running, by("192.0.2.1"))).status == 200
    assert not in_flight(running)


@pytest.mark.gen_test
async def test_a_client_that_leaves_is_in_flight_no_more(serve: Serve, upstream: Start) -> None:
    gate = Gate()
    running = await serve({"held": [upstream(gate).url]}, MAX_IN_FLIGHT_PER_CLIENT="1")
    (client,) = await hold(running, get(HELD))
    assert (await ask(running, get(HELD))).status == 429
    client.reset()
    await eventually(lambda: not in_flight(running))


@pytest.mark.gen_test
async def test_streams_are_not_in_flight(serve: Serve, upstream: Start) -> None:
    services = {"stream": [upstream(Source(STREAM_HEAD)).url], "svc": [upstream(echo).url]}
    running = await serve(services, MAX_IN_FLIGHT_PER_CLIENT="1")
    listeners = [await Listener.ask(running, get(each)) for each in (b"/sse/stream/x", b"/api/stream/x")]
    assert (await ask(running, get(PATH))).status == 200
    assert not in_flight(running)
    for each in listeners:
        each.client.reset()


@pytest.mark.gen_test
async def test_an_answer_that_is_no_stream_though_one_was_awaited_is_in_flight(serve: Serve, upstream: Start) -> None:
    plain = upstream(plays(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")).url
    running = await serve({"plain": [plain]}, MAX_IN_FLIGHT_PER_CLIENT="1")
    client = await running.client()
    await client.send(get(b"/api/plain/x", b"Accept: text/event-stream"))
    await client.until(b"\r\n\r\nab")
    assert (await ask(running, get(b"/api/plain/x"))).status == 429
    client.reset()
    await eventually(lambda: not in_flight(running))


@pytest.mark.gen_test
async def test_requests_in_flight_count_by_the_key_of_the_limits(serve: Serve, upstream: Start) -> None:
    gate = Gate()
    running = await serve(
        {"held": [upstream(gate).url]}, MAX_IN_FLIGHT_PER_CLIENT="1", RATE_LIMIT_KEY="principal", **AUTH
    )
    clients = await hold(running, get(HELD, bearer(sub="ada")), get(HELD, bearer(sub="bob")))
    assert (await ask(running, get(HELD, bearer(sub="ada")))).status == 429
    await let_go(running, gate, clients)


@pytest.mark.gen_test
async def test_services_and_routes_have_requests_in_flight_of_their_own(serve: Serve, upstream: Start) -> None:
    gate = Gate()
    services = {
        "held": {"endpoints": [upstream(gate).url], "maxInFlightPerClient": 2},
        "svc": [upstream(echo).url],
    }
    routes = [{"path": "/own/*", "service": "held", "maxInFlightPerClient": 1}]
    running = await serve(services, ROUTES=json.dumps(routes))
    clients = await hold(running, get(b"/own/x"))
    for door in (b"/own/x", HELD):  # the limit of a route holds at every door of its service
        assert (await ask(running, get(door))).status == 429
    assert (await ask(running, get(PATH))).status == 200
    await let_go(running, gate, clients)


@pytest.mark.gen_test
async def test_observe_says_which_requests_in_flight_are_too_many(serve: Serve, upstream: Start) -> None:
    gate = Gate()
    running = await serve({"held": [upstream(gate).url]}, MAX_IN_FLIGHT_PER_CLIENT="1", RATE_LIMIT_MODE="observe")
    lines = capture(running)
    await let_go(running, gate, await hold(running, get(HELD), get(HELD)))
    await eventually(lambda: len(lines()) == 2)
    assert sorted(each["reason"] for each in lines()) == ["", OBSERVED_REASON]
    metrics = (await ask(running, get(b"/metrics"))).body
    assert b'gateway_rate_limited_total{outcome="observed",policy="default in-flight"} 1.0' in metrics


@pytest.mark.gen_test
async def test_a_reload_leaves_requests_in_flight_counted(serve: Serve, upstream: Start, tmp_path: Path) -> None:
    gate, limit = Gate(), {"MAX_IN_FLIGHT_PER_CLIENT": "1"}
    services = {"held": [upstream(gate).url]}
    reloading = await Reloading.start(serve, tmp_path / "env", services, **limit)
    running = reloading.running
    clients, counts = await hold(running, get(HELD)), in_flight(running)
    reloading.write(services)
    await reloading.reload()
    assert running.app.gateway.limits is None
    reloading.write(services, **limit)
    await reloading.reload()
    assert (await ask(running, get(HELD))).status == 429
    await let_go(running, gate, clients)
    assert not counts
