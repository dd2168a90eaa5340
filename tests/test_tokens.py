"""Tokens in whole journeys: who gets in, and what endpoints and logs see of the tokens."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import Running, Serve
from tests.support.journeys import Start, ask, capture, only_line, problem
from tests.support.sockets import Peer, Upstream, echo, eventually, get
from tests.support.websockets import Side, accepting, close

KEY = "k" * 32
AUTH = {"AUTH_REQUIRED": "true", "JWT_SECRET": KEY}
EVERYWHERE = "header,header:X-Gateway-Token,cookie:sid,query,subprotocol"


def token(**claims: Any) -> bytes:
    return jwt.encode({"sub": "ada", "iss": "id", **claims}, KEY).encode()


def bearer(**claims: Any) -> bytes:
    return b"Authorization: Bearer " + token(**claims)


def received(up: Upstream) -> str:
    """Everything that the endpoint has received of the last request, as text."""
    message = up.requests[-1]
    return repr((message.start, message.fields))


@pytest.mark.parametrize("path", [b"/api/svc/x", b"/sse/svc/x", b"/own/x", b"/admin/stats"])
@pytest.mark.gen_test
async def test_a_token_is_needed_and_enough(serve: Serve, upstream: Start, path: bytes) -> None:
    routes = json.dumps([{"path": "/own/*", "service": "svc"}])
    running = await serve({"svc": [upstream(echo).url]}, ROUTES=routes, **AUTH)
    refused = await ask(running, get(path))
    problem(refused, 401, "unauthorized")
    assert refused.get(b"www-authenticate") == b'Bearer realm="gateway"'
    for wrong in (bearer() + b"x", b"Authorization: Basic YTpi", bearer(exp=1)):
        assert (await ask(running, get(path, wrong))).status == 401
    assert (await ask(running, get(path, bearer()))).status == 200


@pytest.mark.gen_test
async def test_whatever_stands_in_authorization_nothing_but_a_token_is_forwarded(serve: Serve, upstream: Start) -> None:
    up, of = upstream(echo), b"Authorization: "
    running = await serve({"svc": [up.url]}, **AUTH)
    valid, field = token(), bearer()
    values = [
        b"Bearer " + valid + b", Bearer " + valid, b"Bearer " + valid + b"=", b"Bearer " + valid[:-1] + b"\xc3\xa9",
        b"Bearer \xff\xfe.\xff.\xff", b"Bearer " + "ключ".encode(), b"Bearer " + b"a" * 60_000, b"Bearer", b"",
        b"Token " + valid, valid, b'Bearer "' + valid + b'"',
    ]  # fmt: skip
    doubled = [(field, field), (field, of + b"Basic YTpi")]
    for lines in [*doubled, *[(of + each,) for each in values], (b"Authorisation: Bearer " + valid,)]:
        assert (await ask(running, get(b"/api/svc/x", *lines))).status in (400, 401), lines
    for huge in (70_000, 1_000_000):
        client = await running.client()
        await client.send(get(b"/api/svc/x", of + b"Bearer " + b"a" * huge))
        assert (await client.response()).status == 431
    assert not up.requests
    for spelling in (b"bearer", b"BEARER", b"Bearer  "):
        assert (await ask(running, get(b"/api/svc/x", of + spelling + b" " + valid))).status == 200


@pytest.mark.gen_test
async def test_a_401_does_not_say_what_is_wrong(serve: Serve, upstream: Start) -> None:
    checks = {"JWT_ISSUER": "id", "JWT_AUDIENCE": "gateway", "JWT_REQUIRED_CLAIMS": "tenant"}
    running = await serve({"svc": [upstream(echo).url]}, **AUTH, **checks)
    right = {"aud": "gateway", "tenant": "a"}
    assert (await ask(running, get(b"/api/svc/x", bearer(**right)))).status == 200
    wrong_key, none = jwt.encode({"iss": "id", **right}, "x" * 32), jwt.encode({"iss": "id", **right}, None, "none")
    wrong = [
        bearer(**right, exp=1), bearer(**right, nbf=4_000_000_000), bearer(**right | {"aud": "other"}),
        bearer(**right | {"iss": "other"}), bearer(aud="gateway"), bearer(**right) + b"A", bearer(**right, exp="soon"),
        b"Authorization: Bearer a.b.c", *(b"Authorization: Bearer " + each.encode() for each in (wrong_key, none)),
    ]  # fmt: skip
    told = set()
    for field in wrong:
        answer = await ask(running, get(b"/api/svc/x", field, b"x-request-id: same"))
        problem(answer, 401, "unauthorized")
        fields = tuple(each for each in answer.fields if each[0].lower() != b"date")
        told.add((answer.start, fields, answer.body))
    assert len(told) == 1


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz", b"/metrics"])
@pytest.mark.gen_test
async def test_operational_pages_need_no_token(serve: Serve, upstream: Start, path: bytes) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    assert (await ask(running, get(path))).status == 200


@pytest.mark.gen_test
async def test_a_service_or_a_route_may_ask_for_another_rule(serve: Serve, upstream: Start) -> None:
    url = upstream(echo).url
    services = {
        "open": {"endpoints": [url], "auth": "none"}, "guarded": {"endpoints": [url], "auth": "jwt"},
        "plain": [url], "both": {"endpoints": [url], "auth": "none"},
    }  # fmt: skip
    routes = [
        {"path": "/o/*", "service": "guarded", "auth": "none"},
        {"path": "/g/*", "service": "both", "auth": "jwt"},
    ]
    running = await serve(services, ROUTES=json.dumps(routes), JWT_SECRET=KEY)
    free = [b"/api/open/", b"/api/plain/", b"/o/", b"/admin/stats"]
    asked = [b"/api/guarded/", b"/g/", b"/api/both/", b"/sse/both/"]  # the strictest route of the service counts
    assert [(await ask(running, get(path))).status for path in (*free, *asked)] == [200] * 4 + [401] * 4
    assert [(await ask(running, get(path, bearer()))).status for path in asked] == [200] * 4
    assert (await ask(running, get(b"/api/open/", b"Authorization: Bearer nonsense"))).status == 200  # not looked at


@pytest.mark.gen_test
async def test_a_token_needs_every_scope(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": {"endpoints": [upstream(echo).url], "scopes": "write,read"}}, JWT_SECRET=KEY)
    lines = capture(running)
    refused = await ask(running, get(b"/api/svc/", bearer(scope="read")))
    problem(refused, 403, "forbidden")
    challenge = b'Bearer realm="gateway", error="insufficient_scope", scope="read write"'
    assert refused.get(b"www-authenticate") == challenge
    assert (await only_line(lines))["reason"] == "insufficient_scope"
    assert (await ask(running, get(b"/api/svc/", bearer(scope="x write read")))).status == 200
    problem(await ask(running, get(b"/api/svc/")), 401, "unauthorized")


PLACES = {
    "header": (b"/api/svc/x?a=1", lambda given: b"Authorization: Bearer " + given),
    "own header": (b"/api/svc/x?a=1", lambda given: b"X-Gateway-Token: " + given),
    "cookie": (b"/api/svc/x?a=1", lambda given: b"Cookie: b=c; sid=" + given),
    "query": (b"/api/svc/x?access_token=%b&a=1", lambda _: b"Accept: */*"),
}


@pytest.mark.parametrize("hides", ["false", "true"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.gen_test
async def test_a_token_may_stand_in_several_places(serve: Serve, upstream: Start, place: str, hides: str) -> None:
    up = upstream(echo)
    running = await serve(
        {"svc": [up.url]}, **AUTH, AUTH_TOKEN_SOURCES=EVERYWHERE, AUTH_HIDE_CREDENTIALS=hides, ACCESS_LOG="true"
    )
    lines = capture(running)
    given, (target, field) = token(), PLACES[place]
    answer = await ask(running, get(target.replace(b"%b", given), field(given)))
    assert answer.status == 200
    assert (given.decode() in received(up)) is (hides == "false" and place != "query")
    assert up.requests[-1].start == b"GET /x?a=1 HTTP/1.1"
    assert given.decode() not in json.dumps(await only_line(lines))


@pytest.mark.gen_test
async def test_two_places_with_different_tokens_are_401(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH, AUTH_TOKEN_SOURCES=EVERYWHERE)
    same, other = token(), token(sub="eve")
    for cookie, status in ((same, 200), (other, 401)):
        request = get(b"/api/svc/", b"Authorization: Bearer " + same, b"Cookie: sid=" + cookie)
        assert (await ask(running, request)).status == status


@pytest.mark.parametrize(
    ("method", "origin", "status"),
    [
        (b"GET", b"", 200), (b"OPTIONS", b"", 200), (b"GET", b"http://evil.example", 200),
        (b"POST", b"", 403), (b"POST", b"http://evil.example", 403), (b"DELETE", b"null", 403),
        (b"POST", b"http://gateway.example", 200), (b"POST", b"https://app.example", 200),
        (b"POST", b"http://gateway.example http://evil.example", 403),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_cookie_is_no_token_for_a_page_of_another_origin(
    serve: Serve, upstream: Start, method: bytes, origin: bytes, status: int
) -> None:
    running = await serve(
        {"svc": [upstream(echo).url]}, **AUTH, AUTH_TOKEN_SOURCES="cookie:sid,header",
        WS_ALLOWED_ORIGINS="https://app.example",
    )  # fmt: skip
    fields = [b"Cookie: sid=" + token(), *(b"Origin: " + each for each in origin.split())]
    assert (await ask(running, get(b"/api/svc/", *fields, method=method))).status == status
    assert (await ask(running, get(b"/api/svc/", bearer(), *fields[1:], method=method))).status == 200


@pytest.mark.gen_test
async def test_claims_reach_endpoints_and_the_clients_copies_never_do(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    services = {"svc": [up.url], "open": {"endpoints": [up.url], "auth": "none"}}
    running = await serve(services, **AUTH, AUTH_CLAIM_HEADERS="sub:X-User-Id,groups:X-Groups")
    forged = (b"X-User-Id: root", b"x_groups: admin")
    await ask(running, get(b"/api/svc/", bearer(groups=["a", "b"]), *forged))
    names = {name.lower(): value for name, value in up.requests[-1].fields}
    assert (names[b"x-user-id"], names[b"x-groups"], b"x_groups" in names) == (b"ada", b"a b", False)
    await ask(running, get(b"/api/open/", *forged))
    assert not {b"x-user-id", b"x-groups", b"x_groups"} & {name.lower() for name, _ in up.requests[-1].fields}


async def handshaking(peer: Peer) -> None:
    """An endpoint that accepts a WebSocket, says nothing, and answers a Close."""
    await peer.send(accepting(await peer.request()))
    side = Side(peer, masks=False)
    code, _ = await side.told()
    await side.send(close(code))


async def opened(running: Running, path: str, *protocols: str, **options: Any) -> Any:
    return await websockets.connect(
        f"ws://127.0.0.1:{running.port}{path}", subprotocols=protocols or None, proxy=None, **options
    )


def encoded(given: bytes) -> str:
    return "base64url.bearer.authorization.gateway." + base64.urlsafe_b64encode(given).decode().rstrip("=")


@pytest.mark.parametrize("form", ["bearer", "bearer and own", "encoded"])
@pytest.mark.gen_test
async def test_a_websocket_brings_its_token_as_a_subprotocol(serve: Serve, upstream: Start, form: str) -> None:
    up = upstream(handshaking)
    running = await serve({"svc": [up.url]}, **AUTH, AUTH_TOKEN_SOURCES=EVERYWHERE)
    given = token()
    protocols = {
        "bearer": ("bearer", given.decode()), "bearer and own": ("bearer", given.decode(), "chat"),
        "encoded": (encoded(given), "chat"),
    }[form]  # fmt: skip
    async with await opened(running, "/ws/svc/x", *protocols) as socket:
        assert socket.subprotocol in ("bearer", None)
    assert given.decode() not in received(up) and encoded(given) not in received(up)
    assert ("chat" in received(up)) is (form != "bearer")
    with pytest.raises(InvalidStatus):
        await opened(running, "/ws/svc/x", "bearer", given.decode() + "x")


@pytest.mark.gen_test
async def test_a_websocket_by_cookie_needs_the_same_origin(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(handshaking).url]}, **AUTH, AUTH_TOKEN_SOURCES="cookie:sid")
    cookie = {"Cookie": f"sid={token().decode()}"}
    for origin in (None, "http://evil.example"):
        with pytest.raises(InvalidStatus):
            await opened(running, "/ws/svc/", additional_headers=cookie, origin=origin)
    async with await opened(
        running, "/ws/svc/", additional_headers=cookie, origin=f"http://127.0.0.1:{running.port}"
    ) as socket:
        assert socket.response.status_code == 101


@pytest.mark.gen_test
async def test_a_websocket_ends_with_its_token(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(handshaking).url]}, **AUTH, AUTH_TOKEN_SOURCES="query")
    given = token(exp=int(time.time()) + 2)
    socket = await opened(running, f"/ws/svc/?path=/&access_token={given.decode()}")
    with pytest.raises(ConnectionClosed) as closed:
        await socket.recv()
    assert closed.value.rcvd and closed.value.rcvd.code == 4401
    await eventually(lambda: not running.inflight)
