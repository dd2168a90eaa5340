"""CORS on sockets: preflights, annotated answers, and services that answer CORS themselves."""

import json
from typing import Any

import jwt
import pytest

from tests.conftest import Serve
from tests.support.endpoints import always
from tests.support.event_streams import STREAM_HEAD
from tests.support.journeys import Start, ask, capture, only_line, plays, problem, silent
from tests.support.redis import StartRedis
from tests.support.sockets import Message, Peer, Script, echo, eventually, get, reply
from tests.support.websockets import HANDSHAKE, accepting
from tornado_gateway.handlers.cross_origin import REFUSED_REASON

KEY = "k" * 32
AUTH = {"AUTH_REQUIRED": "true", "JWT_SECRET": KEY}
APP, EVIL = b"https://app.example.com", b"https://app.example.com.evil.example"
CORS = {"CORS_ORIGINS": APP.decode()}
PATH = b"/api/svc/x"
NOWHERE = "http://127.0.0.1:1"
EVENTS = b"Accept: text/event-stream"


def bearer(**claims: Any) -> bytes:
    return b"Authorization: Bearer " + jwt.encode({"sub": "ada", **claims}, KEY).encode()


def from_page(origin: bytes = APP) -> bytes:
    return b"Origin: " + origin


def preflight(target: bytes = PATH, *fields: bytes, origin: bytes = APP, method: bytes = b"PUT") -> bytes:
    asked = (from_page(origin), b"Access-Control-Request-Method: " + method)
    return get(target, *asked, b"Access-Control-Request-Headers: authorization,x-a", *fields, method=b"OPTIONS")


def access(answer: Message) -> dict[bytes, bytes]:
    """The fields of CORS, each of which must stand once."""
    names = [name.lower() for name, _ in answer.fields if name.lower().startswith(b"access-control-")]
    assert len(set(names)) == len(names)
    return {name: answer.get(name) or b"" for name in names}


def is_readable(answer: Message, by: bytes = APP) -> bool:
    """Whether a browser shows the answer to a page (Fetch §4.10, CORS check)."""
    return access(answer).get(b"access-control-allow-origin") in (b"*", by)


# ---------------------------------------------------------------- preflights


@pytest.mark.parametrize("target", [PATH, b"/sse/svc/x", b"/ws/svc", b"/own/x", b"/api/none/x"])
@pytest.mark.gen_test
async def test_a_preflight_is_answered_without_a_token(serve: Serve, upstream: Start, target: bytes) -> None:
    up = upstream(echo)
    routes = json.dumps([{"path": "/own/*", "service": "svc"}])
    running = await serve({"svc": [up.url]}, ROUTES=routes, **AUTH, **CORS)
    lines = capture(running)
    answer = await ask(running, preflight(target), b"OPTIONS")
    said = access(answer)
    assert (answer.status, answer.body, up.requests) == (204, b"", [])
    assert said[b"access-control-allow-origin"] == APP
    assert (b"PUT" in said[b"access-control-allow-methods"]) is (target[:4] not in (b"/sse", b"/ws/"))
    assert said[b"access-control-allow-headers"] == b"authorization, x-a"
    assert said[b"access-control-max-age"] == b"600"
    assert b"Origin" in (answer.get(b"vary") or b"")
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["requestId"].encode()) == (204, "", answer.get(b"x-request-id"))
    assert line["service"] == ("" if b"none" in target else "svc")
    assert running.app.gateway.streams.counts.total == 0


@pytest.mark.parametrize("origin", [EVIL, b"null", b"https://example.com"])
@pytest.mark.gen_test
async def test_a_preflight_of_another_page_gets_no_permission(serve: Serve, upstream: Start, origin: bytes) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, **AUTH, **CORS)
    lines = capture(running)
    answer = await ask(running, preflight(origin=origin), b"OPTIONS")
    assert (answer.status, access(answer), up.requests) == (204, {}, [])
    assert b"Origin" in (answer.get(b"vary") or b"")
    assert (await only_line(lines))["reason"] == REFUSED_REASON


NO_PREFLIGHT = {
    "no origin": get(PATH, b"Access-Control-Request-Method: PUT", method=b"OPTIONS"),
    "no method": get(PATH, from_page(), method=b"OPTIONS"),
    "body": get(PATH, from_page(), b"Access-Control-Request-Method: PUT", method=b"OPTIONS", body=b"a"),
    "two origins": get(PATH, from_page(), from_page(), b"Access-Control-Request-Method: PUT", method=b"OPTIONS"),
    "other method": get(PATH, from_page(), b"Access-Control-Request-Method: PUT"),
}


@pytest.mark.parametrize("variables", [CORS, {"CORS": "pass"}], ids=["answer", "pass"])
@pytest.mark.parametrize("name", NO_PREFLIGHT)
@pytest.mark.gen_test
async def test_what_is_no_preflight_needs_a_token(
    serve: Serve, upstream: Start, name: str, variables: dict[str, str]
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, **AUTH, **variables)
    assert (await ask(running, NO_PREFLIGHT[name])).status == 401
    assert up.requests == []


@pytest.mark.gen_test
async def test_without_cors_a_preflight_is_a_request_as_any_other(serve: Serve, upstream: Start) -> None:
    up = upstream(always(reply(fields=(b"Access-Control-Allow-Origin: *", b"Vary: Origin"))))
    running = await serve({"svc": [up.url], "off": {"endpoints": [up.url], "cors": "off"}}, **AUTH)
    refused = await ask(running, preflight())
    assert (refused.status, access(refused), refused.all(b"vary")) == (401, {}, [])
    assert running.app.gateway.cors is None
    answer = await ask(running, preflight(PATH, bearer()))
    assert (answer.status, access(answer)) == (200, {b"access-control-allow-origin": b"*"})
    assert up.requests[0].all(b"access-control-request-method") == [b"PUT"]


@pytest.mark.gen_test
async def test_preflights_are_limited_by_address(serve: Serve, upstream: Start) -> None:
    for key in ("ip", "principal"):
        running = await serve({"svc": [upstream(echo).url]}, RATE_LIMIT_MAX="2", RATE_LIMIT_KEY=key, **AUTH, **CORS)
        answers = [await ask(running, preflight(), b"OPTIONS") for _ in range(2)] + [await ask(running, preflight())]
        assert [each.status for each in answers] == [204, 204, 429]
        assert all(map(is_readable, answers))


@pytest.mark.gen_test
async def test_preflights_wait_for_a_limit_in_redis(serve: Serve, redis_server: StartRedis) -> None:
    running = await serve({"svc": [NOWHERE]}, RATE_LIMIT_MAX="1", REDIS_URL=redis_server().url, **AUTH, **CORS)
    client = await running.client()
    assert [(await client.ask(preflight(), method)).status for method in (b"OPTIONS", b"GET")] == [204, 429]


@pytest.mark.gen_test
async def test_an_overloaded_gateway_answers_preflights_and_refuses_readably(serve: Serve, upstream: Start) -> None:
    up = upstream(silent)
    running = await serve({"svc": [up.url]}, MAX_IN_FLIGHT_TOTAL="1", **CORS)
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: up.requests)
    assert (await ask(running, preflight(), b"OPTIONS")).status == 204
    refused = await ask(running, get(PATH, from_page()))
    problem(refused, 503, "overloaded")
    assert is_readable(refused)
    client.close()


# ---------------------------------------------------------------- answers


@pytest.mark.gen_test
async def test_the_fields_of_a_service_are_replaced(serve: Serve, upstream: Start) -> None:
    own = (
        b"Access-Control-Allow-Origin: https://other.example", b"access-control-allow-credentials: true",
        b"ACCESS-CONTROL-Max-Age: 1", b"Access-Control-Allow-Private-Network: true", b"Vary: Accept-Encoding",
        b"X-Own: 1",
    )  # fmt: skip
    running = await serve({"svc": [upstream(always(reply(fields=own))).url]}, **CORS)
    answer = await ask(running, get(PATH, from_page()))
    said = access(answer)
    assert (answer.body, answer.get(b"x-own")) == (b"ok", b"1")
    assert set(said) == {b"access-control-allow-origin", b"access-control-expose-headers"}
    assert said[b"access-control-allow-origin"] == APP
    assert answer.all(b"vary") == [b"Accept-Encoding", b"Origin"]
    for other in ((), (from_page(EVIL),), (from_page(b"null"),)):
        answer = await ask(running, get(PATH, *other))
        assert (answer.body, access(answer)) == (b"ok", {})  # carried out: CORS is no access control
        assert answer.all(b"vary") == [b"Accept-Encoding", b"Origin"]


@pytest.mark.gen_test
async def test_what_everybody_may_read_does_not_depend_on_the_origin(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, CORS_ORIGINS="*")
    for fields in ((), (from_page(EVIL),), (from_page(b"null"),)):
        answer = await ask(running, get(PATH, *fields))
        assert access(answer)[b"access-control-allow-origin"] == b"*"
        assert answer.all(b"vary") + answer.all(b"access-control-allow-credentials") == []


REFUSED: dict[str, tuple[bytes, int, dict[str, str]]] = {
    "target": (get(b"/own/../other/x", bearer(), from_page()), 400, {}),
    "route": (get(b"/x", bearer(), from_page(), host=b"own.example.com"), 404, {}),
    "above": (get(b"/api/svc/..", bearer(), from_page()), 400, {}),
    "no token": (get(PATH, from_page()), 401, {}),
    "scope": (get(b"/api/scoped/x", bearer(), from_page()), 403, {}),
    "service": (get(b"/api/none/x", bearer(), from_page()), 404, {}),
    "page": (get(b"/nothing", from_page()), 404, {}),
    "method": (get(b"/sse/svc/x", bearer(), from_page(), method=b"POST"), 405, {}),
    "announced body": (get(PATH, bearer(), from_page(), b"Content-Length: 9", method=b"POST"), 413, {}),
    "upgrade": (get(b"/ws/svc", bearer(), from_page()), 426, {}),
    "quota": (get(PATH, bearer(), from_page()), 429, {"RATE_LIMITS": "1/d"}),
    "upstream": (get(PATH, bearer(), from_page()), 502, {}),
    "stream": (get(b"/sse/svc/x", bearer(), from_page()), 503, {"MAX_STREAMS": "1"}),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.gen_test
async def test_a_page_can_read_every_refusal(serve: Serve, name: str) -> None:
    request, status, variables = REFUSED[name]
    routes = [
        {"path": "/own/*", "service": "svc"}, {"path": "/other/*", "service": "svc"},
        {"host": "own.example.com", "path": "/only/*", "service": "svc"},
    ]  # fmt: skip
    running = await serve(
        {"svc": [NOWHERE], "scoped": {"endpoints": [NOWHERE], "scopes": "a"}},
        ROUTES=json.dumps(routes), MAX_BODY_BYTES="8", SSE_UNAVAILABLE="status", **AUTH, **CORS, **variables,
    )  # fmt: skip
    if status == 429:
        await ask(running, request)
    running.app.gateway.streams.counts.total = 1
    answer = await ask(running, request)
    assert answer.status == status
    assert is_readable(answer)
    exposed = access(answer)[b"access-control-expose-headers"].split(b", ")
    assert {b"x-request-id", b"Retry-After", b"RateLimit", b"RateLimit-Policy", b"x-ratelimit-reset"} <= set(exposed)
    running.app.gateway.streams.counts.total = 0
    running = await serve({"svc": [NOWHERE]}, CORS_ORIGINS="https://other.example")
    assert not is_readable(await ask(running, get(PATH, from_page())))


@pytest.mark.gen_test
async def test_pages_of_the_gateway_are_not_for_other_origins(serve: Serve) -> None:
    for variables in (CORS, {"CORS_ORIGINS": "*"}, {"CORS": "pass"}):
        running = await serve({"svc": [NOWHERE]}, **AUTH, **variables)
        for page, status in ((b"/healthz", 200), (b"/metrics", 200), (b"/admin/stats", 401)):
            answer = await ask(running, get(page, from_page()))
            assert (answer.status, access(answer), b"Origin" in answer.all(b"vary")) == (status, {}, False)
            answer = await ask(running, preflight(page), b"OPTIONS")
            assert (answer.status, access(answer)) == (204, {})


@pytest.mark.gen_test
async def test_a_listed_page_gets_a_ticket_for_a_stream(serve: Serve) -> None:
    running = await serve({"svc": [NOWHERE]}, AUTH_TOKEN_SOURCES="header,ticket", **AUTH, **CORS)
    allowed = access(await ask(running, preflight(b"/auth/ticket", method=b"POST"), b"OPTIONS"))
    assert (allowed[b"access-control-allow-origin"], allowed[b"access-control-allow-methods"]) == (
        APP,
        b"POST, OPTIONS",
    )
    request = get(b"/auth/ticket", bearer(), from_page(), method=b"POST", body=b'{"service": "svc"}')
    answer = await ask(running, request)
    assert ("ticket" in json.loads(answer.body), is_readable(answer)) == (True, True)
    assert access(await ask(running, preflight(b"/auth/ticket", origin=EVIL), b"OPTIONS")) == {}


@pytest.mark.gen_test
async def test_a_websocket_has_no_cors(serve: Serve, upstream: Start) -> None:
    async def accept(peer: Peer) -> None:
        await peer.send(accepting(await peer.request(), b"Access-Control-Allow-Origin: *"))
        await peer.ended()

    up = upstream(accept)
    running = await serve({"svc": [up.url]}, **CORS)
    client = await running.client()
    await client.send(get(PATH, *HANDSHAKE, from_page()))
    head = await client.head()
    assert (head.status, access(head), head.all(b"vary")) == (101, {b"access-control-allow-origin": b"*"}, [])
    client.close()


@pytest.mark.gen_test
async def test_an_event_stream_is_annotated(serve: Serve, upstream: Start) -> None:
    up = upstream(
        plays(STREAM_HEAD[:-2] + b"Access-Control-Allow-Origin: *\r\n\r\n" + b"9\r\ndata: 1\n\n\r\n0\r\n\r\n")
    )
    running = await serve({"svc": [up.url]}, **CORS)
    answer = await ask(running, get(b"/sse/svc/x", EVENTS, from_page()))
    assert (answer.body, is_readable(answer)) == (b"data: 1\n\n", True)


@pytest.mark.gen_test
async def test_only_pages_that_may_read_learn_when_to_come_back(serve: Serve) -> None:
    running = await serve({"svc": [NOWHERE]}, **CORS)
    for origin, readable in ((APP, True), (EVIL, False)):
        answer = await ask(running, get(b"/sse/svc/x", EVENTS, from_page(origin)))
        assert (answer.status, answer.body[:6]) == (200, b"retry:")
        assert is_readable(answer, origin) is readable
        assert answer.all(b"vary") == [b"Origin"]


@pytest.mark.gen_test
async def test_a_stored_answer_is_for_whoever_may_read_it(serve: Serve, upstream: Start) -> None:
    up = upstream(always(reply(fields=(b"Cache-Control: max-age=60", b"Access-Control-Allow-Origin: *"))))
    running = await serve({"svc": [up.url]}, CACHE_ENABLED="true", CORS_ORIGINS="https://a.example,https://b.example")
    for origin, readable in ((b"https://a.example", True), (EVIL, False), (b"https://b.example", True)):
        answer = await ask(running, get(PATH, from_page(origin)))
        assert (answer.body, is_readable(answer, origin), answer.all(b"vary")) == (b"ok", readable, [b"Origin"])
    assert len(up.requests) == 1


# ---------------------------------------------------------------- services and routes


@pytest.mark.gen_test
async def test_a_service_and_a_route_may_have_cors_of_their_own(serve: Serve, upstream: Start) -> None:
    url = upstream(echo).url
    services = {
        "svc": {"endpoints": [url], "corsOrigins": ["https://a.example", "https://b.example"], "corsMaxAgeS": 5},
        "plain": [url],
    }
    routes = [
        {"path": "/r/*", "service": "svc", "corsOrigins": "https://c.example", "corsAllowCredentials": True},
        {"path": "/off/*", "service": "svc", "cors": "off"},
    ]
    running = await serve(services, ROUTES=json.dumps(routes), **AUTH)

    async def may(target: bytes, *origins: bytes) -> list[bool]:
        return [is_readable(await ask(running, get(target, bearer(), from_page(each))), each) for each in origins]

    a, b, c = b"https://a.example", b"https://b.example", b"https://c.example"
    assert await may(PATH, a, b, c) == [True, True, False]
    assert await may(b"/r/x", a, b, c) == [False, False, True]
    assert await may(b"/off/x", a, b, c) == await may(b"/api/plain/x", a, b, c) == [False] * 3
    said = access(await ask(running, preflight(b"/r/x", origin=c), b"OPTIONS"))
    assert (said[b"access-control-allow-credentials"], said[b"access-control-max-age"]) == (b"true", b"5")
    assert (await ask(running, preflight(b"/off/x", origin=a))).status == 401


@pytest.mark.parametrize(("credentials", "status"), [("true", 200), ("false", 403)])
@pytest.mark.gen_test
async def test_a_page_that_may_send_cookies_may_change_something(
    serve: Serve, upstream: Start, credentials: str, status: int
) -> None:
    running = await serve(
        {"svc": [upstream(echo).url]}, AUTH_TOKEN_SOURCES="cookie:sid", CORS_ALLOW_CREDENTIALS=credentials,
        WS_ALLOWED_ORIGINS="same-origin", **AUTH, **CORS,
    )  # fmt: skip
    cookie = b"Cookie: sid=" + bearer().rpartition(b" ")[2]
    assert (await ask(running, get(PATH, cookie, from_page(), method=b"POST"))).status == status
    assert (await ask(running, get(PATH, cookie, from_page(EVIL), method=b"POST"))).status == 403


# ---------------------------------------------------------------- cors: pass

OWN_ANSWER = reply(b"204 No Content", (b"Access-Control-Allow-Origin: https://own.example", b"Vary: Origin"), b"")
ANSWERS_ITSELF: Script = always(OWN_ANSWER.replace(b"Content-Length: 0\r\n", b""))


@pytest.mark.parametrize("target", [PATH, b"/sse/svc/x", b"/own/x"])
@pytest.mark.gen_test
async def test_a_service_may_answer_preflights_itself(serve: Serve, upstream: Start, target: bytes) -> None:
    up = upstream(ANSWERS_ITSELF)
    routes = json.dumps([{"path": "/own/*", "service": "svc", "strip": True}])
    running = await serve(
        {"svc": {"endpoints": [up.url], "cors": "pass"}}, ROUTES=routes, MAX_STREAMS="1",
        AUTH_TOKEN_SOURCES="header,header:X-Gateway-Token,cookie:sid,query:token", **AUTH, **CORS,
    )  # fmt: skip
    running.app.gateway.streams.counts.total = 1  # no place for a stream
    secrets = (
        b"Authorization: Bearer stolen", b"Cookie: sid=stolen; a=stolen", b"X-API-Key: stolen",
        b"X-Gateway-Token: stolen", b"Proxy-Authorization: Basic stolen",
    )  # fmt: skip
    answer = await ask(running, preflight(target + b"?token=stolen&a=1", *secrets), b"OPTIONS")
    assert (answer.status, access(answer)) == (204, {b"access-control-allow-origin": b"https://own.example"})
    (request,) = up.requests
    assert request.start == b"OPTIONS /x?a=1 HTTP/1.1"
    assert b"stolen" not in repr(request.fields).encode()
    assert request.get(b"origin") == APP
    assert request.get(b"access-control-request-headers") == b"authorization,x-a"
    running.app.gateway.streams.counts.total = 0
    actual = await ask(running, get(target, from_page()))
    assert (actual.status, access(actual)) == (401, {})


@pytest.mark.gen_test
async def test_preflights_that_pass_are_limited_and_lead_to_services_alone(serve: Serve, upstream: Start) -> None:
    up = upstream(ANSWERS_ITSELF)
    running = await serve({"svc": [up.url]}, CORS="pass", RATE_LIMITS="2/m;key=principal", **AUTH)
    statuses = [(await ask(running, each, b"OPTIONS")).status for each in [preflight()] * 2 + [preflight(b"/ws/svc")]]
    assert statuses == [204, 204, 429]
    running = await serve({"svc": [up.url]}, CORS="pass", **AUTH)
    assert (await ask(running, preflight(b"/api/none/x"))).status == 401
    assert (await ask(running, preflight(b"/nothing"))).status == 404
    assert (await ask(running, preflight(b"/ws/svc"))).status == 426
    assert len(up.requests) == 2
