"""How a request finds its handler."""

import json

import pytest

from tests.conftest import Serve
from tests.support.journeys import CHUNKED, Start, ask, capture, problem
from tests.support.sockets import chunked, echo, eventually, get
from tornado_gateway.handlers.router import MAX_OWN_BODY


@pytest.mark.parametrize(
    ("target", "service", "forwarded"),
    [
        (b"/api/a", b"a", b"/"),
        (b"/api/a/x", b"a", b"/x"),
        (b"/api/a?b", b"a", b"/?b"),
        (b"/api/b/healthz", b"b", b"/healthz"),
        (b"/api/b/api/a", b"b", b"/api/a"),
        (b"/api/a.b/x", b"a.b", b"/x"),
        (b"/api/api/x", b"api", b"/x"),
        (b"http://other/api/b/x", b"b", b"/x"),
    ],
)
@pytest.mark.gen_test
async def test_the_segment_behind_api_names_the_service(
    serve: Serve, upstream: Start, target: bytes, service: bytes, forwarded: bytes
) -> None:
    ups = {name: upstream(echo) for name in (b"a", b"b", b"a.b", b"api")}
    running = await serve({name.decode(): [up.url] for name, up in ups.items()})
    assert (await ask(running, get(target))).status == 200
    assert {name: [request.target for request in up.requests] for name, up in ups.items() if up.requests} == {
        service: [forwarded]
    }


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (b"/api", "not_found"), (b"/apis/a/x", "not_found"), (b"/API/a/x", "not_found"), (b"/%61pi/a/x", "not_found"),
        (b"//api/a/x", "not_found"), (b"/x/../api/a/x", "not_found"), (b"/api%2Fa/x", "not_found"),
        (b"/api?/a/x", "not_found"), (b"/api/", "unknown_service"), (b"/api/?a", "unknown_service"),
        (b"/api//a/x", "unknown_service"), (b"/api/A/x", "unknown_service"), (b"/api/%61/x", "unknown_service"),
        (b"/api/./a/x", "unknown_service"), (b"/api/../a/x", "unknown_service"), (b"/api/a;x/y", "unknown_service"),
        (b"/api/a%2Fx", "unknown_service"), (b"/api/\xc3\xa9/x", "unknown_service"), (b"/api/a\\x", "unknown_service"),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_nothing_is_decoded_to_find_a_service(serve: Serve, upstream: Start, target: bytes, code: str) -> None:
    up = upstream(echo)
    running = await serve({"a": [up.url]})
    problem(await ask(running, get(target)), 404, code)
    assert up.accepted == 0


@pytest.mark.gen_test
async def test_all_kinds_of_requests_share_a_connection(serve: Serve, upstream: Start) -> None:
    running = await serve({"a": [upstream(echo).url]})
    client = await running.client()
    targets = [b"/healthz", b"/api/a/x", b"/nothing", b"/api/none", b"/readyz", b"/api/a/y", b"/healthz"]
    await client.send(b"".join(get(target) for target in targets))
    answers = [await client.response() for _ in targets]
    assert [answer.status for answer in answers] == [200, 200, 404, 404, 200, 200, 200]
    assert len(running.app.server.connections) == 1


@pytest.mark.parametrize("framed", ["length", "chunks"])
@pytest.mark.parametrize(("size", "status"), [(MAX_OWN_BODY, 404), (MAX_OWN_BODY + 1, 413)])
@pytest.mark.gen_test
async def test_the_bodies_of_pages_are_limited(serve: Serve, framed: str, size: int, status: int) -> None:
    running = await serve({"a": ["http://127.0.0.1:1"]})
    body = b"a" * size
    request = (
        get(b"/nothing", method=b"POST", body=body)
        if framed == "length"
        else get(b"/nothing", CHUNKED, method=b"POST") + chunked(body)
    )
    assert (await ask(running, request)).status == status


@pytest.mark.gen_test
async def test_proxied_bodies_are_not_buffered(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"a": [up.url]})
    client = await running.client()
    await client.send(get(b"/api/a/x", b"Content-Length: 300000", method=b"POST") + b"a" * 150_000)
    await eventually(lambda: up.peers and len(up.peers[0].buffer) >= 150_000)
    await client.send(b"a" * 150_000)
    assert (await client.response()).status == 200
    assert up.requests[0].body == b"a" * 300_000


@pytest.mark.gen_test
async def test_no_cookie_argument_or_condition_of_a_proxied_request_is_looked_at(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"a": [up.url]})
    odd = (b"Cookie: =;;=\x80", b"If-None-Match: *", b"Range: bytes=9-1", b"Content-Type: multipart/form-data",
           b"Accept-Encoding: gzip;q=x", b"Origin: null", b"Sec-Fetch-Site: cross-site")  # fmt: skip
    answer = await ask(running, get(b"/api/a/x?%zz=%80&=", *odd, method=b"POST", body=b"not a form"))
    assert (answer.status, answer.body, answer.all(b"set-cookie"), answer.all(b"etag")) == (200, b"ok", [], [])
    assert [b"%b: %b" % pair for pair in up.requests[0].fields if b"%b: %b" % pair in odd] == list(odd)


@pytest.mark.gen_test
async def test_a_smaller_limit_is_kept_on_our_own_pages_too(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, MAX_BODY_BYTES="0")
    client = await running.client()
    assert (await client.ask(get(b"/nothing", method=b"POST", body=b"a"))).status == 413


# ---------------------------------------------------------------- routes of one's own


@pytest.mark.parametrize("own", [{}, {"strip": True}, {"rewrite": "/v2/*"}, {"rewrite": "/*"}], ids=json.dumps)
@pytest.mark.parametrize("rest", [b"", b"?q=/..", b"/", b"/?q", b"/x", b"/x/../y?z=1", b"//x", b"/%20;v=1"])
@pytest.mark.gen_test
async def test_the_rest_of_a_target_is_forwarded_byte_for_byte(
    serve: Serve, upstream: Start, own: dict[str, object], rest: bytes
) -> None:
    up = upstream(echo)
    running = await serve(
        {"svc": [f"{up.url}/base"]}, ROUTES=json.dumps([{"path": "/app/one/*", "service": "svc", **own}])
    )
    assert (await ask(running, get(b"/app/one" + rest))).status == 200
    inner = {"{}": b"/app/one", '{"rewrite": "/v2/*"}': b"/v2"}.get(json.dumps(own), b"")
    below = rest if inner or rest.startswith(b"/") else b"/" + rest
    assert [each.target for each in up.requests] == [b"/base" + inner + below]


# ---------------------------------------------------------------- what the route table refuses

OF_A_HOST = json.dumps([{"host": "app.test", "path": "/a/*", "service": "svc"}])
REFUSED = {"no route": (b"/b?c", 404, "not_found"), "another route in disguise": (b"/b/%2e%2e/a", 400, "bad_request")}


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
@pytest.mark.parametrize(("target", "status", "code"), REFUSED.values(), ids=REFUSED)
@pytest.mark.gen_test
async def test_a_refusal_of_the_route_table_is_a_local_reply(
    serve: Serve, upstream: Start, target: bytes, status: int, code: str, method: bytes
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, ROUTES=OF_A_HOST)
    lines = capture(running)
    client = await running.client()
    answer = await client.ask(get(target, b"x-request-id: mine", method=method, host=b"app.test"), method)
    if method == b"HEAD":
        assert (answer.status, answer.body, answer.get(b"x-request-id")) == (status, b"", b"mine")
    else:
        assert problem(answer, status, code)["requestId"] == "mine"
    assert (await client.ask(get(b"/a", host=b"app.test"))).status == 200  # on the same connection
    await eventually(lambda: len(lines()) == 2)
    refused = lines()[0]
    assert (refused["status"], refused["reason"], refused["requestId"]) == (status, code, "mine")
    assert refused["client"] == "127.0.0.1"
    assert [each.target for each in up.requests] == [b"/a"]


@pytest.mark.parametrize("framing", [b"Content-Length: 5", CHUNKED])
@pytest.mark.gen_test
async def test_a_refusal_before_the_body_ends_the_connection(serve: Serve, upstream: Start, framing: bytes) -> None:
    running = await serve({"svc": [upstream(echo).url]}, ROUTES=OF_A_HOST)
    client = await running.client()
    answer = await client.ask(get(b"/b", framing, method=b"POST", host=b"app.test"))
    problem(answer, 404, "not_found")
    assert answer.get(b"connection") == b"close"
    await client.send(b"GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n")  # is body, and must not be answered
    assert await client.ended()
