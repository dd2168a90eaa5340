"""Whole journeys through routes, on real sockets: hosts, WebSockets and event streams on every route, and rewriting.

Which route a path has is fuzzed in tests/fuzz/test_routes.py.
"""

import json
from typing import Any

import pytest

from tests.conftest import Running, Serve
from tests.support.endpoints import EVENT, Answers, always
from tests.support.event_streams import Listener, Source, counted, let_pass
from tests.support.journeys import Start, ask, capture, only_line, problem
from tests.support.sockets import echo, eventually, get, reply
from tests.support.websockets import HANDSHAKE, Acceptor, Side, close, text
from tornado_gateway.policy.http.sse import HEARTBEAT

ROUTES = json.dumps(
    [
        {"path": "/kept/*", "service": "svc"},
        {"path": "/cut/*", "service": "svc", "strip": True},
        {"path": "/moved/*", "service": "svc", "rewrite": "/v2/*"},
        {"host": "app.test", "path": "/*", "service": "svc"},
        {"host": "*.wild.test", "path": "/only/*", "service": "svc"},
        {"host": "xn--bcher-kva.test", "path": "/*", "service": "svc"},
    ]
)
GATEWAY = b"gateway.example"

# Host, public prefix, inner prefix and label of a route, and the X-Forwarded-Prefix that the service sees.
PLACES = {
    "api": (GATEWAY, b"/api/svc", b"", "/api/<service>/*", b"/api/svc"),
    "kept": (GATEWAY, b"/kept", b"/kept", "/kept/*", None),
    "cut": (GATEWAY, b"/cut", b"", "/cut/*", b"/cut"),
    "moved": (GATEWAY, b"/moved", b"/v2", "/moved/*", None),
    "host": (b"app.test", b"", b"", "app.test/*", None),
}
everywhere = pytest.mark.parametrize(("host", "public", "inner", "label", "told"), PLACES.values(), ids=PLACES)
OF_STANDARD = {each: b"/%b/svc" % each.encode() for each in ("api", "sse", "ws")}


async def start(serve: Serve, url: str, *, own: dict[str, Any] | None = None, **variables: str) -> Running:
    """A gateway with ROUTES to one service.

    Args:
        own: values of the service.
    """
    return await serve({"svc": {"endpoints": [url], **(own or {})}}, **({"ROUTES": ROUTES} | variables))


def labels(running: Running) -> set[tuple[str, str, int]]:
    """Methods, labels and statuses that the histogram has counted."""
    return {(key.method, key.route, int(key.status)) for key, _ in running.app.gateway.durations}


# ---------------------------------------------------------------- WebSockets on every route


@everywhere
@pytest.mark.gen_test
async def test_a_handshake_becomes_a_websocket(
    serve: Serve, upstream: Start, host: bytes, public: bytes, inner: bytes, label: str, told: bytes | None
) -> None:
    acceptor = Acceptor()
    up = upstream(acceptor)
    running = await start(serve, f"{up.url}/base")
    lines = capture(running)
    client = await running.client()
    await client.send(get(public + b"/x?path=/y", *HANDSHAKE, host=host))
    assert (await client.head()).status == 101
    await eventually(lambda: acceptor.sides and counted(running) == 1)
    front, back = Side(client, masks=True), acceptor.sides[0]
    await front.send(text("to the service"))
    await back.hears(text("to the service"))
    await back.send(text("to the client"))
    await front.hears(text("to the client"))
    await front.send(close(1000))
    await back.hears(close(1000))
    await back.send(close(1000))
    await front.hears(close(1000))
    back.connection.close()
    line = await only_line(lines)
    assert (line["status"], line["service"], line["reason"], line["closeCode"]) == (101, "svc", "", 1000)
    assert labels(running) == {("GET", label, 101)}
    assert up.requests[0].target == b"/base" + inner + b"/x?path=/y"  # "path" is the application's own here
    assert up.requests[0].get(b"x-forwarded-prefix") == told
    assert counted(running) == 0


@everywhere
@pytest.mark.gen_test
async def test_handshakes_are_limited_and_checked_as_under_ws(
    serve: Serve, upstream: Start, host: bytes, public: bytes, inner: bytes, label: str, told: bytes | None
) -> None:
    acceptor = Acceptor()
    running = await start(
        serve, upstream(acceptor).url, MAX_STREAMS_PER_CLIENT="1", WS_ALLOWED_ORIGINS="https://good.test"
    )
    lines = capture(running)
    handshake = get(public + b"/x", *HANDSHAKE, b"Origin: https://good.test", host=host)
    first = await running.client()
    await first.send(handshake)
    assert (await first.head()).status == 101
    problem(await ask(running, handshake), 429, "rate_limited")
    problem(
        await ask(running, get(public + b"/x", *HANDSHAKE, b"Origin: https://evil.test", host=host)), 403, "forbidden"
    )
    old = [line.replace(b"Version: 13", b"Version: 8") for line in HANDSHAKE]
    problem(await ask(running, get(public + b"/x", *old, host=host)), 426, "upgrade_required")
    await eventually(lambda: len(lines()) == 3)
    assert [line["reason"] for line in lines()] == ["client_stream_limit", "origin_not_allowed", "upgrade_required"]
    assert labels(running) == {("GET", label, 429), ("GET", label, 403), ("GET", label, 426)}
    assert counted(running) == 1
    first.close()
    acceptor.sides[0].connection.close()


PLAIN = (
    get(b"/PUBLIC/x", b"Upgrade: h2c", b"Connection: Upgrade"),
    get(b"/PUBLIC/x", *HANDSHAKE, method=b"POST", body=b"a"),
    get(b"/PUBLIC/x", *HANDSHAKE, method=b"HEAD"),
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.gen_test
async def test_what_is_no_handshake_is_a_plain_request(serve: Serve, upstream: Start, place: str) -> None:
    host, public, *_ = PLACES[place]
    up = upstream(echo)
    running = await start(serve, up.url)
    for request in PLAIN:
        method = request.partition(b" ")[0]
        sent = request.replace(b"/PUBLIC", public).replace(GATEWAY, host)
        assert (await ask(running, sent, method)).status == 200
        assert (up.requests[-1].method, up.requests[-1].get(b"upgrade")) == (method, None)


# ---------------------------------------------------------------- event streams on every route


@everywhere
@pytest.mark.gen_test
async def test_an_event_stream_is_a_stream(
    serve: Serve, upstream: Start, host: bytes, public: bytes, inner: bytes, label: str, told: bytes | None
) -> None:
    source = Source()
    running = await start(serve, upstream(source).url, MAX_STREAMS_PER_CLIENT="1", SSE_HEARTBEAT_MS="1000")
    request = get(public + b"/x", b"Accept: text/event-stream", host=host)
    listener = await Listener.ask(running, request)
    await source.say(EVENT)
    await listener.hear(EVENT)
    assert counted(running) == 1
    problem(await ask(running, request), 429, "rate_limited")
    let_pass(running, 1.5)
    await listener.hear(HEARTBEAT)
    await source.end()
    await listener.all()
    assert listener.end == "complete"
    await eventually(lambda: counted(running) == 0)
    assert labels(running) == {("GET", label, 429), ("GET", label, 200)}
    assert source.requests[0].target == inner + b"/x"


# ---------------------------------------------------------------- X-Forwarded-Prefix, Host and Origin


CLAIMED = b"X-Forwarded-Prefix: /outer/"


@pytest.mark.parametrize("trusts", [False, True])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.gen_test
async def test_the_prefix_that_was_stripped_is_told(serve: Serve, upstream: Start, place: str, trusts: bool) -> None:
    host, public, _, _, told = PLACES[place]
    up = upstream(echo)
    running = await start(serve, up.url, TRUSTED_PROXIES="127.0.0.1" if trusts else "")
    assert (await ask(running, get(public + b"/x", host=host))).status == 200
    assert (await ask(running, get(public + b"/x", CLAIMED, b"X_Forwarded_Prefix: /cgi", host=host))).status == 200
    outer = b"/outer" + (told or b"") if trusts else told
    assert [each.get(b"x-forwarded-prefix") for each in up.requests] == [told, outer]
    assert [each.get(b"x_forwarded_prefix") for each in up.requests] == [None, None]


@pytest.mark.parametrize("public", OF_STANDARD.values(), ids=OF_STANDARD)
@pytest.mark.gen_test
async def test_the_prefix_of_a_standard_route_is_told(serve: Serve, upstream: Start, public: bytes) -> None:
    up = upstream(always(reply(b"404 Not Found")))
    running = await serve({"svc": [up.url]})
    lines = HANDSHAKE if public.startswith(b"/ws") else ()
    assert (await ask(running, get(public + b"/x", CLAIMED, *lines))).status == 404
    assert up.requests[0].get(b"x-forwarded-prefix") == public


@pytest.mark.parametrize("handshake", [False, True])
@pytest.mark.parametrize(
    ("of_service", "of_route", "wanted"),
    [(False, None, False), (True, None, True), (True, False, False), (False, True, True)],
)
@pytest.mark.gen_test
async def test_a_route_says_which_host_and_origin_the_service_sees(
    serve: Serve, upstream: Start, of_service: bool, of_route: bool | None, wanted: bool, handshake: bool
) -> None:
    names = {True: "rewrite", False: "pass"}
    route: dict[str, Any] = {"path": "/kept/*", "service": "svc"}
    if of_route is not None:
        route |= {"preserveHost": of_route, "wsOrigin": names[of_route]}
    up = upstream(always(reply(b"404 Not Found")))
    own = {"preserveHost": of_service, "wsOrigin": names[of_service]}
    running = await start(serve, up.url, own=own, ROUTES=json.dumps([route]))
    for target in (b"/kept/x", b"/api/svc/x"):
        lines = (*HANDSHAKE, b"Origin: https://page.test") if handshake else (b"Origin: https://page.test",)
        assert (await ask(running, get(target, *lines))).status == 404
    authority = up.url.removeprefix("http://").encode()
    for request, keeps in zip(up.requests, (wanted, of_service), strict=True):
        assert request.get(b"host") == (GATEWAY if keeps else authority)
        rewritten = keeps and handshake  # the origin of a plain request is the service's own business
        assert request.get(b"origin") == (b"http://" + authority if rewritten else b"https://page.test")


# ---------------------------------------------------------------- rewriting


ASKING = {"plain": (), "stream": (b"Accept: text/event-stream",), "handshake": HANDSHAKE}
KINDS_OF = {"sse": ("stream",), "ws": ("handshake",)}  # of other routes: all


def redirect(*lines: bytes) -> bytes:
    return reply(b"302 Found", lines, b"")


@pytest.mark.parametrize("base", [b"", b"/base"])
@pytest.mark.parametrize("place", [*PLACES, "sse", "ws"])
@pytest.mark.gen_test
async def test_references_and_cookies_get_public_paths(serve: Serve, upstream: Start, place: str, base: bytes) -> None:
    host, public, inner, *_ = PLACES.get(place, (GATEWAY, OF_STANDARD.get(place, b""), b""))
    answers = Answers(b"")
    up = upstream(answers)
    at = base + inner
    own = {"rewriteLocation": "all", "rewriteCookiePath": True}
    running = await start(serve, up.url + base.decode(), own=own, SSE_PEEK_MS="0")
    for kind in KINDS_OF.get(place, ASKING):
        answers.left = redirects(up.url.encode(), at)
        request = get(public + b"/x", *ASKING[kind], host=host)
        mapped, foreign, above = [await ask(running, request) for _ in range(3)]
        assert mapped.get(b"location") == public + b"/a?b#c"
        assert mapped.get(b"content-location") == public + b"/d"
        assert mapped.all(b"set-cookie") == [
            b"a=1; Path=%b/e; Domain=app.test" % public,
            b"b=Path=/f",
            b"__Host-c=1; Path=/; Secure",
        ]
        assert foreign.get(b"location") == b"http://other.test%b/a" % at
        assert foreign.get(b"content-location") == b"a/../b"
        assert foreign.get(b"set-cookie") == b"a=1; path=" + (b"/zz" if at else public + b"/zz")
        assert above.get(b"location") == b"//other.test%b/a" % at
        assert above.get(b"content-location") == b"%b/../../a" % at


def redirects(url: bytes, at: bytes) -> list[bytes]:
    """Answers of a service below a path: one that can be mapped, one that is foreign, one that leads above the path."""
    return [
        redirect(
            b"Location: %b%b/a?b#c" % (url, at),
            b"Content-Location: %b/d" % at,
            b"Set-Cookie: a=1; Path=%b/e; Domain=app.test" % at,
            b"Set-Cookie: b=Path=/f",
            b"Set-Cookie: __Host-c=1; Path=/; Secure",
        ),
        redirect(b"Location: http://other.test%b/a" % at, b"Content-Location: a/../b", b"Set-Cookie: a=1; path=/zz"),
        redirect(b"Location: //other.test%b/a" % at, b"Content-Location: %b/../../a" % at),
    ]


@pytest.mark.parametrize(
    ("mode", "absolute", "relative"),
    [("off", b"http://ORIGIN/a", b"/b"), ("origin", b"/cut/a", b"/b"), ("all", b"/cut/a", b"/cut/b")],
)
@pytest.mark.gen_test
async def test_a_route_says_what_is_rewritten(
    serve: Serve, upstream: Start, mode: str, absolute: bytes, relative: bytes
) -> None:
    answers = Answers(b"")
    up = upstream(answers)
    origin = up.url.removeprefix("http://").encode()
    answers.left = [redirect(b"Location: http://%b/a" % origin, b"Content-Location: /b", b"Set-Cookie: a; Path=/")]
    route = {"path": "/cut/*", "service": "svc", "strip": True, "rewriteLocation": mode, "rewriteCookiePath": False}
    own = {"rewriteCookiePath": True}
    running = await start(serve, up.url, own=own, ROUTES=json.dumps([route]))
    answer = await ask(running, get(b"/cut/x"))
    assert answer.get(b"location") == absolute.replace(b"ORIGIN", origin)
    assert answer.get(b"content-location") == relative
    assert answer.get(b"set-cookie") == b"a; Path=/"
    assert (await ask(running, get(b"/api/svc/x"))).get(b"set-cookie") == b"a; Path=/api/svc"


@pytest.mark.parametrize("target", [b"/ws/svc/x", b"/api/svc/x", b"/cut/x"])
@pytest.mark.gen_test
async def test_a_cookie_of_an_accepted_handshake_gets_a_public_path(
    serve: Serve, upstream: Start, target: bytes
) -> None:
    acceptor = Acceptor(b"Set-Cookie: a=1; Path=/base; HttpOnly", b"Service-Worker-Allowed: /")
    running = await start(serve, upstream(acceptor).url + "/base", own={"rewriteCookiePath": True})
    client = await running.client()
    await client.send(get(target, *HANDSHAKE))
    head = await client.head()
    assert head.status == 101
    assert head.get(b"set-cookie") == b"a=1; Path=%b; HttpOnly" % target.removesuffix(b"/x")
    assert head.get(b"service-worker-allowed") is None
    client.close()
    acceptor.sides[0].connection.close()


@pytest.mark.parametrize("prefix", [b"/api/svc", b"/sse/svc", b"/kept", b"/cut"])
@pytest.mark.gen_test
async def test_a_service_worker_at_the_prefix_itself_is_refused(serve: Serve, upstream: Start, prefix: bytes) -> None:
    """The worker's scope would be the directory of the prefix: /api/ for /api/svc?worker."""
    running = await start(serve, upstream(echo).url)
    script = b"service-worker: script"
    for rest in (b"", b"?worker"):
        said = problem(await ask(running, get(prefix + rest, script)), 400, "bad_request")
        assert said["detail"] == "a service worker at the prefix itself would see the paths of other services"
        assert (await ask(running, get(prefix + rest))).status == 200
    assert (await ask(running, get(prefix + b"/worker.js", script))).status == 200
    assert (await ask(running, get(b"/", script, host=b"app.test"))).status == 200


@pytest.mark.parametrize(("place", "passes"), [(place, place == "host") for place in PLACES])
@pytest.mark.gen_test
async def test_a_service_worker_has_no_scope_among_other_services(
    serve: Serve, upstream: Start, place: str, passes: bool
) -> None:
    host, public, *_ = PLACES[place]
    running = await start(serve, upstream(always(reply(fields=(b"Service-Worker-Allowed: /",)))).url)
    answer = await ask(running, get(public + b"/worker.js", host=host))
    assert answer.get(b"service-worker-allowed") == (b"/" if passes else None)


# ---------------------------------------------------------------- hosts


OWN_PAGES = (b"/healthz", b"/readyz", b"/metrics", b"/admin/stats", b"/api/none/x", b"/auth/login", b"/_pressure")


@pytest.mark.gen_test
async def test_a_host_with_a_route_of_all_paths_is_the_services(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await start(serve, up.url)
    for target in OWN_PAGES:
        assert (await ask(running, get(target, host=b"app.test"))).body == b"ok"
    assert [each.target for each in up.requests] == list(OWN_PAGES)


@pytest.mark.parametrize("path", ["/*", "/admins/*", "/healthz2/*"])
@pytest.mark.gen_test
async def test_no_route_shadows_the_pages_of_the_gateway(serve: Serve, upstream: Start, path: str) -> None:
    up = upstream(echo)
    routes = [
        {"path": path, "service": "svc"},
        {"host": "kept.test", "path": "/*", "service": "svc"},
        {"host": "*.wild.test", "path": "/*", "service": "svc"},
    ]
    running = await start(serve, up.url, ROUTES=json.dumps(routes), GATEWAY_HOSTS="kept.test, one.wild.test")
    for host in (b"gateway.example", b"kept.test", b"KEPT.test.:80", b"one.wild.test"):
        found = [(await ask(running, get(target, host=host))).status for target in OWN_PAGES]
        assert found == [200, 200, 200, 200, 404, 404, 200]
        assert (await ask(running, get(b"/healthz", *HANDSHAKE, host=host))).status == 200
    assert up.requests == []
    assert (await ask(running, get(b"/healthz", host=b"two.wild.test"))).body == b"ok"


# The authority that a client asks for, and whether app.test or one of the other hosts of ROUTES is meant.
SPELLINGS = {
    b"app.test": True, b"app.test:80": True, b"app.test:": True, b"APP.Test": True, b"app.test.": True,
    b"App.Test.:8443": True, b"xn--bcher-kva.test": True, b"XN--BCHER-KVA.TEST:1": True, b"app.test..": False,
    b"b%C3%BCcher.test": False, b"app.test.evil.test": False, b"evil-app.test": False, b"a.app.test": False,
    b"[::1]": False, b"127.0.0.1": False,
}  # fmt: skip


@pytest.mark.parametrize(("host", "is_own"), SPELLINGS.items(), ids=[each.decode() for each in SPELLINGS])
@pytest.mark.gen_test
async def test_a_host_is_known_in_every_spelling(serve: Serve, upstream: Start, host: bytes, is_own: bool) -> None:
    up = upstream(echo)
    running = await start(serve, up.url)
    answer = await ask(running, get(b"/healthz", host=host))
    assert answer.status == 200
    assert len(up.requests) == is_own


@pytest.mark.parametrize(
    ("target", "host", "is_own"),
    [
        (b"http://app.test/healthz", b"gateway.example", True),
        (b"HTTP://App.Test.:80/healthz", b"gateway.example", True),
        (b"http://gateway.example/healthz", b"app.test", False),  # RFC 9112 §3.2.2: Host is ignored
    ],
)
@pytest.mark.gen_test
async def test_the_authority_of_an_absolute_target_is_the_host(
    serve: Serve, upstream: Start, target: bytes, host: bytes, is_own: bool
) -> None:
    up = upstream(echo)
    running = await start(serve, up.url)
    assert (await ask(running, get(target, host=host))).status == 200
    assert [each.target for each in up.requests] == [b"/healthz"] * is_own


MALFORMED = {
    "two names": b"app.test, gateway.example", "two fields": b"app.test\r\nHost: app.test", "a path": b"app.test/x",
    "nothing": b"", "a space": b"a b",
}  # fmt: skip


@pytest.mark.parametrize("host", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.gen_test
async def test_a_malformed_host_has_no_route(serve: Serve, upstream: Start, host: bytes) -> None:
    up = upstream(echo)
    running = await start(serve, up.url)
    lines = capture(running)
    problem(await ask(running, get(b"/x", host=host)), 400, "bad_request")
    assert (await only_line(lines))["status"] == 400
    assert labels(running) == {("OTHER", "other", 400)}  # the head has not been read
    assert up.requests == []


@pytest.mark.gen_test
async def test_a_client_without_a_host_gets_the_routes_without_a_host(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await start(serve, up.url)
    for target in (b"/kept/x", b"/healthz", b"/nothing"):
        await (await running.client()).ask(b"GET %b HTTP/1.0\r\n\r\n" % target)
    assert [each.target for each in up.requests] == [b"/kept/x"]
    assert labels(running) == {("GET", "/kept/*", 200), ("GET", "/healthz", 200), ("GET", "other", 404)}


@pytest.mark.parametrize("target", [b"/other", b"/", b"/healthz", b"/api/svc/x", b"/onlyx"])
@pytest.mark.gen_test
async def test_a_host_with_routes_has_nothing_else(serve: Serve, upstream: Start, target: bytes) -> None:
    up = upstream(echo)
    running = await start(serve, up.url)
    lines = capture(running)
    problem(await ask(running, get(target, *HANDSHAKE, host=b"one.wild.test")), 404, "not_found")
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["service"]) == (404, "not_found", "")
    assert labels(running) == {("GET", "other", 404)}
    assert up.requests == []


# ---------------------------------------------------------------- paths that lead out of a route


CLIMBS = (
    b"/../x", b"/%2e%2e/x", b"/.%2E/x", b"/..;v=1/x", b"/..%2fx", rb"/..%5cx", b"/..%3bv/x", b"/a/../../x",
    b"/a%2fb/../../x", b"//../x", b"/a/%2e%2e/%2e%2e/x", b"/./..", b"/..",
)  # fmt: skip


@pytest.mark.parametrize("lines", [(), HANDSHAKE], ids=["plain", "handshake"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.gen_test
async def test_no_path_leads_out_of_its_route(
    serve: Serve, upstream: Start, place: str, lines: tuple[bytes, ...]
) -> None:
    host, public, *_ = PLACES[place]
    up = upstream(echo)
    running = await start(serve, up.url)
    for climb in CLIMBS:
        problem(await ask(running, get(public + climb, *lines, host=host)), 400, "bad_request")
    assert up.accepted == 0
