"""Proxied requests on real sockets: what the upstream receives, what the client receives, and how requests end.

Row names such as H1 are those of the project's feature list; CVE numbers name the lesson.
"""

import asyncio
import contextlib
import json
import re
import socket

import pytest

from tests.conftest import Serve
from tests.support.endpoints import always
from tests.support.event_streams import let_pass
from tests.support.journeys import CHUNKED, Start, ask, capture, flowing, leave, only_line, plays, problem, silent
from tests.support.sockets import Ended, Peer, Script, chunked, echo, eventually, get, reply
from tornado_gateway.handlers.router import PROXIED
from tornado_gateway.policy.http.mount import Mount
from tornado_gateway.policy.routing import Match

# ---------------------------------------------------------------- what the upstream sees


MANY = b"/?" + b"&".join(b"k%d=v" % n for n in range(1001))  # Tornado would refuse to parse them


# H15 to H17
@pytest.mark.parametrize(
    ("base", "suffix", "target"),
    [
        ("", b"", b"/"), ("", b"?", b"/?"), ("", b"/", b"/"), ("", b"/?a=1&a=2&b=", b"/?a=1&a=2&b="),
        ("/base/", b"/a%2Fb;v=1//c?x=%20&y", b"/base/a%2Fb;v=1//c?x=%20&y"), ("/base", b"//evil/x", b"/base//evil/x"),
        ("", b"//evil.example:9/x", b"//evil.example:9/x"), ("", b"/x?\\evil", b"/x?\\evil"),
        ("", b"/%5Cevil", b"/%5Cevil"), ("", b"/%2F%2Fevil/x", b"/%2F%2Fevil/x"), ("", b"/%61dmin;x", b"/%61dmin;x"),
        ("", b"/a/../b/./c", b"/a/../b/./c"), ("", b"/%zz%00%C3%a9", b"/%zz%00%C3%a9"),
        ("", b"/^|`{}[]?^|`{}[]", b"/^|`{}[]?^|`{}[]"),
        ("", b"/x?next=http://evil//y?z", b"/x?next=http://evil//y?z"), ("", b"/@evil/x", b"/@evil/x"),
        ("", MANY, MANY),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_the_target_is_the_clients_bytes_behind_the_base_path(
    serve: Serve, upstream: Start, base: str, suffix: bytes, target: bytes
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url + base]})
    assert (await ask(running, get(b"/api/svc" + suffix))).status == 200
    assert [request.target for request in up.requests] == [target]
    assert up.requests[0].get(b"host") == b"127.0.0.1:%d" % up.port


@pytest.mark.parametrize("base", ["", "/base"])
@pytest.mark.parametrize(
    ("route", "asked", "target"),
    [
        ({}, b"/app", b"/app"), ({}, b"/app?a", b"/app?a"), ({}, b"/app/", b"/app/"), ({}, b"/app//x", b"/app//x"),
        ({"strip": True}, b"/app", b"/"), ({"strip": True}, b"/app?a", b"/?a"), ({"strip": True}, b"/app/x?", b"/x?"),
        ({"rewrite": "/v2/*"}, b"/app", b"/v2"), ({"rewrite": "/v2/*"}, b"/app?a", b"/v2?a"),
        ({"rewrite": "/v2/*"}, b"/app/x", b"/v2/x"),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_the_bytes_behind_the_prefix_of_a_route_pass_too(
    serve: Serve, upstream: Start, base: str, route: dict[str, object], asked: bytes, target: bytes
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url + base]}, ROUTES=json.dumps([{"path": "/app/*", "service": "svc", **route}]))
    assert (await ask(running, get(asked))).status == 200
    assert [request.target for request in up.requests] == [base.encode() + target]


@pytest.mark.parametrize(
    "suffix",
    [b"/..", b"/../x", b"/%2e%2e/x", b"/.%2E/x", b"/a/../../x", b"/..%2f..", b"/\\..", b"/a b", b"/a#b", b"/a\tb",
     b"/a\x00b", b"/a\x7fb", b"/a\rb", b"/caf\xc3\xa9", b'/"', b"/a\\b", b"/<", b"/>", b"?\xe9", b'?"'],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_target_that_climbs_or_has_forbidden_bytes_is_refused(
    serve: Serve, upstream: Start, suffix: bytes
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url + "/base"]})
    assert (await ask(running, get(b"/api/svc" + suffix))).status == 400
    assert up.requests == []


@pytest.mark.parametrize(
    "method", [b"GET", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"QUERY", b"BREW", b"get"]
)
@pytest.mark.gen_test
async def test_every_method_passes(serve: Serve, upstream: Start, method: bytes) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    assert (await ask(running, get(b"/api/svc/x", method=method, body=b"hello"))).status == 200
    assert (up.requests[0].method, up.requests[0].body) == (method, b"hello")


@pytest.mark.parametrize("request_", [get(b"/api/svc/x", method=b"TRACE"), get(b"evil.example:443", method=b"CONNECT")])
@pytest.mark.gen_test
async def test_trace_and_connect_are_refused(serve: Serve, upstream: Start, request_: bytes) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    answer = await ask(running, request_)
    problem(answer, 405, "method_not_allowed")
    assert answer.get(b"allow") == (b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    assert up.requests == []


@pytest.mark.gen_test
async def test_hop_by_hop_fields_end_here_in_both_directions(serve: Serve, upstream: Start) -> None:  # H1
    fields = (
        b"Connection: keep-alive, X-Hop",
        b"X-Hop: 1",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: x",
        b"X-Kept: 1",
    )
    up = upstream(plays(reply(fields=fields)))
    running = await serve({"svc": [up.url]})
    answer = await ask(
        running, get(b"/api/svc/x", *fields, b"TE: gzip, trailers", b"Upgrade: h2c", b"HTTP2-Settings: x")
    )
    for message in (answer, up.requests[0]):
        names = {name.lower() for name, _ in message.fields}
        assert not names & {b"x-hop", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings"}
        assert message.get(b"x-kept") == b"1"
    assert up.requests[0].get(b"te") == b"trailers"


@pytest.mark.gen_test
async def test_connection_cannot_take_away_framing_host_or_trust(
    serve: Serve, upstream: Start
) -> None:  # CVE-2024-45410
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    nominated = b"Connection: Content-Length, Host, X-Forwarded-For, X-Request-Id, Authorization"
    answer = await ask(running, get(b"/api/svc/x", nominated, b"Authorization: a", method=b"POST", body=b"hello"))
    (seen,) = up.requests
    assert (answer.status, seen.body, seen.get(b"authorization")) == (200, b"hello", None)
    assert seen.get(b"x-forwarded-for") == b"127.0.0.1"
    assert seen.get(b"x-request-id") == answer.get(b"x-request-id")


@pytest.mark.parametrize(
    ("variables", "claims", "expected"),
    [
        ({}, (b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https", b"Forwarded: for=1.2.3.4",
              b"X-Real-IP: 1.2.3.4", b"X_Forwarded_For: 1.1.1.1"),
         (b"127.0.0.1", b"http")),
        ({"TRUSTED_PROXIES": "127.0.0.0/8"}, (b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https"),
         (b"1.2.3.4, 127.0.0.1", b"https")),
        ({"TRUSTED_PROXIES": "127.0.0.0/8"}, (b"X-Forwarded-For: 9.9.9.9, what, 1.2.3.4",),
         (b"1.2.3.4, 127.0.0.1", b"http")),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_claims_are_believed_from_trusted_proxies_only(  # H2
    serve: Serve, upstream: Start, variables: dict[str, str], claims: tuple[bytes, ...], expected: tuple[bytes, bytes]
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, **variables)
    await ask(running, get(b"/api/svc/x", *claims))
    (seen,) = up.requests
    assert (seen.get(b"x-forwarded-for"), seen.get(b"x-forwarded-proto")) == expected
    assert seen.all(b"forwarded") + seen.all(b"x-real-ip") == []


@pytest.mark.gen_test
async def test_a_loop_is_cut(serve: Serve, upstream: Start) -> None:  # H4
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, VIA_NAME="edge")
    assert (await ask(running, get(b"/api/svc/x", b"Via: 1.0 first"))).get(b"via") == b"1.1 edge"
    assert up.requests[0].get(b"via") == b"1.0 first, 1.1 edge"
    answer = await ask(running, get(b"/api/svc/x", b"Via: 1.0 first, 1.1 edge"))
    assert (answer.status, len(up.requests)) == (508, 1)


@pytest.mark.parametrize(
    ("rule", "suffix", "passes"),
    [
        ("forward", b'/caf\xc3\xa9"<>\\?\xff', True),
        ("forward", b"/a b", False),
        ("browser", b"/a^|?{}[]`\\'", True),
        ("browser", b'/"', False),
        ("strict", b"/a%20b?c=d/e?f", True),
        ("strict", b"/a^", False),
        ("strict", b"/a%zz", False),
    ],
)
@pytest.mark.gen_test
async def test_target_bytes_says_what_a_target_may_hold(
    serve: Serve, upstream: Start, rule: str, suffix: bytes, passes: bool
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, TARGET_BYTES=rule)
    for target in (b"/api/svc" + suffix, b"http://public.example/api/svc" + suffix):
        answer = await ask(running, get(target))
        if passes:
            assert (answer.status, up.requests.pop().target) == (200, suffix)
        else:
            problem(answer, 400, "bad_request")
            assert up.requests == []


@pytest.mark.parametrize(("at_large", "of_service", "passes"), [("drop", {}, False), ("pass", {}, True),
                         ("drop", {"altSvc": "pass"}, True), ("pass", {"altSvc": "drop"}, False)])  # fmt: skip
@pytest.mark.gen_test
async def test_alt_svc_is_forwarded_only_if_configured(
    serve: Serve, upstream: Start, at_large: str, of_service: dict[str, str], passes: bool
) -> None:
    values = [b'h3=":8443"; ma=86400', b"clear"]
    up = upstream(always(reply(b"200 OK", tuple(b"Alt-Svc: " + value for value in values))))
    running = await serve({"svc": {"endpoints": [up.url], **of_service}}, ALT_SVC=at_large)
    assert (await ask(running, get(b"/api/svc/x"))).all(b"alt-svc") == (values if passes else [])


@pytest.mark.gen_test
async def test_fields_that_would_redirect_requests_are_not_forwarded(serve: Serve, upstream: Start) -> None:
    up = upstream(always(reply(b"200 OK", (b"TE: trailers", b"HTTP2-Settings: a", b"X-Kept: 1"))))
    running = await serve({"svc": [up.url]})
    dropped = (b"Proxy: http://evil.test/", b"pROXY: b", b"Alt-Used: evil.test", b"X-Sendfile-Type: X-Accel-Redirect")
    answer = await ask(running, get(b"/api/svc/x", *dropped, b"X-Kept: 1"))
    assert {b"proxy", b"alt-used", b"x-sendfile-type"}.isdisjoint(name.lower() for name, _ in up.requests[0].fields)
    assert up.requests[0].get(b"x-kept") == answer.get(b"x-kept") == b"1"
    assert answer.all(b"te") == answer.all(b"http2-settings") == []


@pytest.mark.parametrize(("preserve", "host"), [("true", b"public.example"), ("false", None)])
@pytest.mark.gen_test
async def test_the_host_is_the_endpoints_unless_preserved(  # H5
    serve: Serve, upstream: Start, preserve: str, host: bytes | None
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, PRESERVE_HOST=preserve)
    await ask(running, get(b"/api/svc/x", host=b"public.example"))
    assert up.requests[0].get(b"host") == (host or b"127.0.0.1:%d" % up.port)
    assert up.requests[0].get(b"x-forwarded-host") == b"public.example"


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ((b"x-request-id: !~" + b"a" * 126,), True), ((b"x-request-id: " + b"a" * 129,), False),
        ((b"x-request-id: a b",), False), ((b"x-request-id: \xe9",), False), ((b"x-request-id:",), False),
        ((b"x-request-id: a", b"x-request-id: b"), False), ((), False),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_valid_request_id_of_the_client_is_kept(
    serve: Serve, upstream: Start, lines: tuple[bytes, ...], kept: bool
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    answer = await ask(running, get(b"/api/svc/x", *lines))
    assert answer.get(b"x-request-id") == up.requests[0].get(b"x-request-id")
    assert (lines[:1] == (b"x-request-id: " + (answer.get(b"x-request-id") or b""),)) is kept


@pytest.mark.parametrize(
    ("rule", "trusted", "found"),
    [
        ("keep", "", b"mine"), ("prefix", "", b"[0-9a-f]{32}-mine"), ("replace", "", b"[0-9a-f]{32}"),
        ("prefix", "127.0.0.1", b"mine"), ("replace", "127.0.0.1", b"mine"),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_request_id_of_anybody_is_the_same_for_client_service_and_log(
    serve: Serve, upstream: Start, rule: str, trusted: str, found: bytes
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, REQUEST_ID=rule, TRUSTED_PROXIES=trusted)
    lines = capture(running)
    answer = await ask(running, get(b"/api/svc/x", b"x-request-id: mine"))
    told = answer.get(b"x-request-id") or b""
    assert re.fullmatch(found, told)
    assert up.requests[0].get(b"x-request-id") == told
    assert (await only_line(lines))["requestId"] == told.decode()


# ---------------------------------------------------------------- what the client sees


@pytest.mark.gen_test
async def test_fields_of_a_response_keep_order_case_and_repeats(serve: Serve, upstream: Start) -> None:
    lines = (b"x-oDD: 1", b"Set-Cookie: a, b", b"ETag: W/1", b"Set-Cookie: c", b"Server: theirs",
             b"Date: Mon, 01 Jan 2024 00:00:00 GMT", b"Location: /there")  # fmt: skip
    up = upstream(plays(reply(b"302 Found", fields=(*lines, b"X-Request-Id: theirs"))))
    running = await serve({"svc": [up.url]})
    answer = await ask(running, get(b"/api/svc/x", b"x-request-id: mine"))
    seen = [b"%b: %b" % pair for pair in answer.fields]
    assert [line for line in seen if line in lines] == list(lines)
    assert (answer.status, answer.get(b"x-request-id"), answer.start) == (302, b"mine", b"HTTP/1.1 302 Found")


@pytest.mark.gen_test
async def test_nothing_but_a_date_is_invented(serve: Serve, upstream: Start) -> None:
    up = upstream(plays(b"HTTP/1.1 200 OK\r\n\r\nhello", then="close"))
    running = await serve({"svc": [up.url]})
    answer = await ask(running, get(b"/api/svc/x"))
    assert answer.body == b"hello"
    assert {name.lower() for name, _ in answer.fields} == {b"x-request-id", b"via", b"date", b"transfer-encoding"}


@pytest.mark.gen_test
async def test_head_keeps_its_length_and_has_no_body(serve: Serve, upstream: Start) -> None:  # H9
    up = upstream(plays(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"))
    running = await serve({"svc": [up.url]})
    client = await running.client()
    answer = await client.ask(get(b"/api/svc/x", method=b"HEAD"), b"HEAD")
    assert (answer.get(b"content-length"), client.buffer) == (b"10", b"")
    assert (await client.ask(get(b"/healthz"))).status == 200


@pytest.mark.parametrize(("status", "length"), [(b"204 No Content", None), (b"304 Not Modified", b"5")])
@pytest.mark.gen_test
async def test_statuses_without_a_body(serve: Serve, upstream: Start, status: bytes, length: bytes | None) -> None:
    up = upstream(plays(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n"))
    running = await serve({"svc": [up.url]})
    client = await running.client()
    assert (await client.ask(get(b"/api/svc/x"))).get(b"content-length") == length
    assert (await client.ask(get(b"/healthz"))).status == 200


@pytest.mark.parametrize(("te", "passed"), [((b"TE: trailers",), [(b"X-Sum", b"7")]), ((), [])])
@pytest.mark.gen_test
async def test_trailers_go_only_to_clients_that_ask(  # H8
    serve: Serve, upstream: Start, te: tuple[bytes, ...], passed: list[tuple[bytes, bytes]]
) -> None:
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\nSet-Cookie: evil\r\n\r\n"
    up = upstream(plays(body))
    running = await serve({"svc": [up.url]})
    answer = await ask(running, get(b"/api/svc/x", *te))
    assert (answer.body, answer.trailers, answer.all(b"x-sum")) == (b"hi", passed, [])


@pytest.mark.gen_test
async def test_a_requests_trailers_pass_behind_its_body(serve: Serve, upstream: Start) -> None:  # H8
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    trailer = b"2\r\nhi\r\n0\r\nX-Sum: 7\r\nX-Request-Id: evil\r\n\r\n"
    assert (await ask(running, get(b"/api/svc/x", CHUNKED, method=b"POST") + trailer)).status == 200
    assert (up.requests[0].body, up.requests[0].trailers) == (b"hi", [(b"X-Sum", b"7")])


@pytest.mark.gen_test
async def test_interim_responses_pass_and_never_to_old_clients(serve: Serve, upstream: Start) -> None:  # H7
    interim = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-Hop: 1\r\nConnection: X-Hop\r\n\r\n"
        b"HTTP/1.1 102 Processing\r\nContent-Length: 0\r\n\r\n"
        b"HTTP/1.1 104 Upload Resumption Supported\r\nLocation: /u/1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
        b"HTTP/1.1 199 \xff\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for method in (b"GET", b"HEAD"):
        running = await serve({"svc": [upstream(plays(interim + reply())).url]})
        client = await running.client()
        answer = await client.ask(get(b"/api/svc/x", method=method), method)
        assert [(each.start, each.fields) for each in answer.interim] == [
            (b"HTTP/1.1 100 Continue", []),
            (b"HTTP/1.1 103 Early Hints", [(b"Link", b"</a.css>")]),
            (b"HTTP/1.1 102 Processing", []),
            (
                b"HTTP/1.1 104 Upload Resumption Supported",
                [(b"Location", b"/u/1"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")],
            ),
            (b"HTTP/1.1 199 Unknown", []),
        ]
        assert answer.status == 200
    running = await serve({"svc": [upstream(plays(interim + reply())).url]})
    old = await ask(running, b"GET /api/svc/x HTTP/1.0\r\n\r\n")
    assert (old.status, old.interim) == (200, [])


@pytest.mark.gen_test
async def test_a_service_that_reports_progress_is_waited_for(serve: Serve, upstream: Start) -> None:
    up = upstream(plays(*[b"HTTP/1.1 102 Processing\r\n\r\n"] * 40, reply()))
    answer = await ask(await serve({"svc": [up.url]}), get(b"/api/svc/x"))
    assert ([each.status for each in answer.interim], answer.status, answer.body) == ([102] * 40, 200, b"ok")


@pytest.mark.gen_test
async def test_interim_responses_without_end_are_no_answer(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        while True:
            await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)

    running = await serve({"svc": [upstream(script).url]})
    answer = await ask(running, get(b"/api/svc/x"))
    assert answer.status == 502
    assert 1000 < len(answer.interim) < 5000


@pytest.mark.gen_test
async def test_an_interim_response_that_passed_stops_no_retry(serve: Serve, upstream: Start) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    seen = []
    for turn in (1, -1):
        dies, answers = upstream(plays(hints, then="close")), upstream(plays(hints + reply()))
        running = await serve({"svc": {"endpoints": [dies.url, answers.url][::turn], "balancer": "round_robin"}})
        answer = await ask(running, get(b"/api/svc/x"))
        seen.append((answer.status, len(answer.interim), len(dies.requests)))
    assert sorted(seen) == [(200, 1, 0), (200, 2, 1)]


@pytest.mark.gen_test
async def test_compressed_bytes_are_left_alone(serve: Serve, upstream: Start) -> None:  # H19
    packed = b"\x1f\x8b\x08not really\x00"
    up = upstream(plays(reply(fields=(b"Content-Encoding: gzip",), body=packed)))
    running = await serve({"svc": [up.url]})
    answer = await ask(running, get(b"/api/svc/x"))
    assert (answer.body, answer.get(b"content-encoding")) == (packed, b"gzip")
    assert up.requests[0].all(b"accept-encoding") == []


# ---------------------------------------------------------------- bodies in motion


@pytest.mark.gen_test
async def test_pieces_arrive_as_they_come_in_both_directions(serve: Serve, upstream: Start) -> None:  # H10, H11, S3
    async def script(peer: Peer) -> None:
        await peer.request_head()
        for number in range(3):
            assert await peer.until(b"\r\n") == b"4\r\n"
            assert await peer.until(b"\r\n") == b"up %d\r\n" % number
            start = b"HTTP/1.0 200 OK\r\n\r\n" if number == 0 else b""
            await peer.send(start + b"down %d" % number)
        await peer.until(b"0\r\n\r\n")

    running = await serve({"svc": [upstream(script).url]})
    client = await running.client()
    await client.send(get(b"/api/svc/x", CHUNKED, method=b"POST"))
    for number in range(3):
        await client.send(b"4\r\nup %d\r\n" % number)
        await client.until(b"down %d" % number)
    await client.send(b"0\r\n\r\n")
    await client.until(b"0\r\n\r\n")


@pytest.mark.parametrize("flood", [b"a" * 200_000, b""])
@pytest.mark.gen_test
async def test_an_early_answer_reaches_the_client_and_ends_the_upload(  # H10
    serve: Serve, upstream: Start, flood: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(reply(b"413 Content Too Large", body=b"no"))
        await peer.ended()

    running = await serve({"svc": [upstream(script).url]})
    client = await running.client()
    await client.send(get(b"/api/svc/x", b"Content-Length: 50000000", method=b"POST") + flood)
    answer = await client.response()
    assert (answer.status, answer.body, answer.get(b"connection")) == (413, b"no", b"close")
    assert await client.ended()


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (plays(then="close"), "upstream_reset"),
        (plays(then="reset"), "upstream_reset"),
        (plays(b"HTTP/1.1 200 OK\r\nX: 1\r\n", then="close"), "upstream_reset"),
        (plays(b"SSH-2.0-x\r\n\r\n"), "upstream_invalid"),
        (plays(b"HTTP/1.1 200 OK\r\nContent-Length: a\r\n\r\n"), "upstream_invalid"),
        (plays(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), "upstream_invalid"),
        (plays(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3000 + reply()), "upstream_invalid"),
        (plays(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"), "upstream_invalid"),
        (plays(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000), "upstream_invalid"),
    ],
)
@pytest.mark.gen_test
async def test_a_failed_upstream_is_a_502_without_its_address(  # H24, H25
    serve: Serve, upstream: Start, script: Script, reason: str
) -> None:
    up = upstream(script)
    running = await serve({"svc": [up.url]})
    lines = capture(running)
    answer = await ask(running, get(b"/api/svc/x", b"Accept: text/html", method=b"POST"))
    said = problem(answer, 502, "upstream_unavailable")
    assert str(up.port) not in json.dumps(said)
    await eventually(lines)
    assert (lines()[0]["reason"], lines()[0]["status"], running.errors) == (reason, 502, 1)


@pytest.mark.gen_test
async def test_an_unknown_service_is_a_404(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]})
    for target in (b"/api/none/x", b"/api/sv", b"/api/svcx/y", b"/api/", b"/api//svc"):
        problem(await ask(running, get(target)), 404, "unknown_service")


@pytest.mark.gen_test
async def test_a_refused_connection_is_a_502_and_proxy_status_says_so(serve: Serve) -> None:  # H26, RFC 9209
    running = await serve({"svc": ["http://127.0.0.1:1"]}, VIA_NAME="edge")
    answer = await ask(running, get(b"/api/svc/x"))
    problem(answer, 502, "upstream_unavailable")
    assert answer.get(b"proxy-status") == b"edge; error=connection_refused"


@pytest.mark.gen_test
async def test_an_upstream_without_tls_is_a_502_and_proxy_status_says_so(serve: Serve, upstream: Start) -> None:  # H24
    async def plain(peer: Peer) -> None:
        await peer.more()
        await peer.send(reply())

    up = upstream(plain)
    running = await serve({"svc": [up.url.replace("http:", "https:")]}, VIA_NAME="edge")
    lines = capture(running)
    answer = await ask(running, get(b"/api/svc/x"))
    said = problem(answer, 502, "upstream_unavailable")
    assert answer.get(b"proxy-status") == b"edge; error=tls_protocol_error"
    assert str(up.port) not in json.dumps(said)
    await eventually(lines)
    assert lines()[0]["reason"] == "tls_failed"


@pytest.mark.parametrize("status", [b"400 Bad Request", b"404 Not Found", b"429 Slow", b"500 Error", b"503 Busy"])
@pytest.mark.gen_test
async def test_an_answer_is_never_asked_for_twice(serve: Serve, upstream: Start, status: bytes) -> None:  # H20
    first, second = upstream(plays(reply(status))), upstream(plays(reply(status)))
    running = await serve({"svc": [first.url, second.url]})
    lines = capture(running)
    assert (await ask(running, get(b"/api/svc/x"))).status == int(status[:3])
    await eventually(lines)
    assert (len(first.requests) + len(second.requests), lines()[0]["attempts"]) == (1, 1)
    assert running.errors == (status >= b"5")


@pytest.mark.gen_test
async def test_when_every_endpoint_fails_the_last_failure_is_told(serve: Serve, upstream: Start) -> None:  # H20
    ups = [upstream(plays(then="reset")) for _ in range(3)]
    running = await serve({"svc": [up.url for up in ups]})
    lines = capture(running)
    problem(await ask(running, get(b"/api/svc/x")), 502, "upstream_unavailable")
    await eventually(lines)
    assert ([up.accepted for up in ups], lines()[0]["attempts"], running.errors) == ([1, 1, 1], 3, 3)


@pytest.mark.gen_test
async def test_an_upstreams_own_502_is_told_apart(serve: Serve, upstream: Start) -> None:  # H26
    up = upstream(plays(reply(b"502 Bad Gateway", body=b"theirs")))
    running = await serve({"svc": [up.url]}, VIA_NAME="edge")
    lines = capture(running)
    answer = await ask(running, get(b"/api/svc/x"))
    assert (answer.body, answer.get(b"proxy-status")) == (b"theirs", b"edge; received-status=502")
    await eventually(lines)
    assert lines()[0]["reason"] == ""


@pytest.mark.parametrize(
    ("script", "reason"),
    [(silent, "response_header_timeout"), (plays(b"HTTP/1.1 103 Early Hints\r\n\r\n"), "response_header_timeout")],
)
@pytest.mark.gen_test
async def test_a_silent_upstream_is_a_504(serve: Serve, upstream: Start, script: Script, reason: str) -> None:  # H13
    running = await serve({"svc": [upstream(script).url]}, HTTP_PROXY_TIMEOUT_MS="100")
    lines = capture(running)
    problem(await ask(running, get(b"/api/svc/x")), 504, "upstream_timeout")
    await eventually(lines)
    assert lines()[0]["reason"] == reason


@pytest.mark.gen_test
async def test_a_connection_that_is_never_made_is_a_504(serve: Serve) -> None:  # H13
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # they fill the backlog: after them, the kernel answers no SYN
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        running = await serve({"svc": [url]}, UPSTREAM_CONNECT_TIMEOUT_MS="100")
        lines = capture(running)
        problem(await ask(running, get(b"/api/svc/x")), 504, "upstream_timeout")
        await eventually(lines)
        assert lines()[0]["reason"] == "connect_timeout"


TRUNCATED = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "inside a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf",
    "before the last line": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    "until close": b"HTTP/1.1 200 OK\r\n\r\nhalf",
}


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("framing", TRUNCATED)
@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.gen_test
async def test_a_truncated_answer_never_looks_complete(  # S19
    serve: Serve, upstream: Start, framing: str, then: str, version: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(TRUNCATED[framing])
        await eventually(got.is_set)
        peer.reset() if then == "reset" else peer.close()

    got = asyncio.Event()
    running = await serve({"svc": [upstream(script).url]})
    client = await running.client()
    await client.send(b"GET /api/svc/x %b\r\nHost: a\r\nConnection: close\r\n\r\n" % version)
    complete = False
    try:
        head = await client.head()
        got.set()
        await client.body(head, until_close=True)
        complete = head.complete
    except Ended:
        assert framing in ("bad chunk", "until close") or got.is_set()
    assert complete is (framing == "until close" and then == "close")


@pytest.mark.gen_test
async def test_a_body_that_falls_silent_is_cut_off(serve: Serve, upstream: Start) -> None:  # H13
    running = await serve({"svc": [upstream(plays(TRUNCATED["chunks"])).url]}, HTTP_PROXY_TIMEOUT_MS="100")
    lines = capture(running)
    answer = await ask(running, get(b"/api/svc/x"))
    assert (answer.status, answer.complete) == (200, False)
    await eventually(lines)
    assert (lines()[0]["reason"], lines()[0]["status"]) == ("upstream_idle_timeout", 200)


@pytest.mark.parametrize(
    ("options", "survives", "then"),
    [
        ({"upstreamBodyIdleTimeoutMs": 90_000}, 80, 100),
        ({"upstreamBodyIdleTimeoutMs": 5_000}, 4, 6),
        ({"httpProxyTimeoutMs": 90_000}, 80, 100),
        ({}, 20, 40),
    ],
    ids=["longer", "shorter", "as the head's", "as for all"],
)
@pytest.mark.gen_test
async def test_a_service_has_its_own_time_between_two_pieces(
    serve: Serve, upstream: Start, options: dict[str, int], survives: float, then: float
) -> None:
    up = upstream(plays(TRUNCATED["chunks"]))
    running = await serve({"svc": {"endpoints": [up.url], **options}})
    lines = capture(running)
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    await client.until(b"half\r\n")
    let_pass(running, survives)
    assert running.inflight == 1
    let_pass(running, then)
    line = await only_line(lines)
    assert (line["status"], line["reason"]) == (200, "upstream_idle_timeout")


@pytest.mark.gen_test
async def test_a_body_may_pause_for_any_time_where_the_service_says_so(serve: Serve, upstream: Start) -> None:
    up = upstream(plays(TRUNCATED["chunks"]))
    running = await serve({"svc": [up.url]}, UPSTREAM_BODY_IDLE_TIMEOUT_MS="0")
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    await client.until(b"half\r\n")
    let_pass(running, 1e6)
    assert running.inflight == 1


@pytest.mark.gen_test
async def test_a_service_has_its_own_time_to_connect(serve: Serve) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # they fill the backlog: after them, the kernel answers no SYN
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        running = await serve({"svc": {"endpoints": [url], "upstreamConnectTimeoutMs": 100}})
        problem(await ask(running, get(b"/api/svc/x")), 504, "upstream_timeout")


@pytest.mark.gen_test
async def test_a_stream_outlives_the_timeout_as_long_as_it_moves(serve: Serve, upstream: Start) -> None:  # H14
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(8):
            await asyncio.sleep(0.05)
            await peer.send(b"9\r\ndata: x\n\n\r\n")
        await peer.send(b"0\r\n\r\n")
        await peer.ended()

    running = await serve({"svc": [upstream(script).url]}, HTTP_PROXY_TIMEOUT_MS="200")
    answer = await ask(running, get(b"/api/svc/x"))
    assert (answer.complete, answer.body) == (True, b"data: x\n\n" * 8)


# ---------------------------------------------------------------- a client that leaves


@pytest.mark.parametrize("abrupt", [True, False])
@pytest.mark.parametrize(
    ("script", "request_", "heard"),
    [
        (silent, get(b"/api/svc/x"), b""),
        (silent, get(b"/api/svc/x", method=b"POST", body=b"hello"), b""),
        (silent, get(b"/api/svc/x", b"Content-Length: 5000", method=b"POST") + b"hello", b""),
        (silent, get(b"/api/svc/x", CHUNKED, method=b"POST") + b"5\r\nhello\r\n", b""),
        (plays(TRUNCATED["chunks"]), get(b"/api/svc/x"), b"half"),
        (plays(TRUNCATED["length"]), get(b"/api/svc/x"), b"half"),
        (flowing, get(b"/api/svc/x"), b"hello"),
    ],
    ids=[
        "before the head",
        "after an upload",
        "in an upload",
        "in chunks",
        "in a silent body",
        "in a silent length",
        "in a flow",
    ],
)
@pytest.mark.gen_test
async def test_a_client_that_leaves_ends_its_upstream_exchange(  # S4 to S6
    serve: Serve, upstream: Start, script: Script, request_: bytes, heard: bytes, abrupt: bool
) -> None:
    up = upstream(script)
    running = await serve({"svc": [up.url]})
    lines = capture(running)
    client = await running.client()
    await client.send(request_)
    await eventually(lambda: up.requests)
    await client.until(heard)
    await leave(client, up, abrupt=abrupt)
    line = await only_line(lines)
    said = (200, "client_closed") if heard else (499, "client_gone")
    assert (line["status"], line["reason"], running.errors, running.inflight) == (*said, 0, 0)


@pytest.mark.parametrize(("half_close", "answered"), [("abort", False), ("ignore", True)])
@pytest.mark.gen_test
async def test_the_meaning_of_a_half_close_is_configured(  # S6
    serve: Serve, upstream: Start, half_close: str, answered: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await eventually(closed.is_set)
        await asyncio.sleep(0.05)
        await peer.send(reply())
        await peer.ended()

    closed = asyncio.Event()
    running = await serve({"svc": [upstream(script).url]}, HALF_CLOSE=half_close)
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    await eventually(lambda: running.inflight)
    client.half_close()
    closed.set()
    if answered:
        assert (await client.response()).status == 200
        assert await client.ended()
    else:
        with pytest.raises(Ended):
            await client.response()


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_connecting_leaves_nothing(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    client.close()
    await eventually(lambda: not running.app.server.connections)
    await eventually(lambda: running.inflight == 0 and up.open == 0)


# ---------------------------------------------------------------- the access log


@pytest.mark.gen_test
async def test_a_log_line_has_the_facts_without_secrets(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    lines = capture(running)
    secrets = (b"Authorization: Bearer hunter2", b"Cookie: hunter2", b"x-request-id: abc")
    await ask(running, get(b"/api/svc/a?token=hunter2", *secrets, method=b"POST", body=b"hello"))
    line = await only_line(lines)
    assert line.pop("headMs") <= line.pop("totalMs")
    assert line.pop("time")
    assert line == {
        "level": "info", "type": "access", "requestId": "abc", "traceId": "", "method": "POST",
        "path": "/api/svc/a", "service": "svc",
        "endpoint": up.url, "status": 200, "reason": "", "attempts": 1, "bytesIn": 5, "bytesOut": 2,
        "client": "127.0.0.1",
    }  # fmt: skip


@pytest.mark.gen_test
async def test_refused_requests_have_their_line_too(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, MAX_BODY_BYTES="10")
    lines = capture(running)
    await ask(running, b"GARBAGE\r\n\r\n")
    await ask(running, get(b"/api/svc/x", method=b"POST", body=b"a" * 11))
    await ask(running, get(b"/api/svc/x", CHUNKED, method=b"POST") + chunked(b"a" * 11))
    await ask(running, get(b"/api/none/x"))
    await ask(running, get(b"/nothing"))
    await eventually(lambda: len(lines()) == 5)
    assert [line["status"] for line in lines()] == [400, 413, 413, 404, 404]


@pytest.mark.gen_test
async def test_a_handler_knows_its_request_as_tornado_does(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(silent).url]})
    client = await running.client()
    await client.send(get(b"/api/svc/x?a=1", b"Cookie: b=2"))
    await eventually(lambda: running.inflight)
    (exchange,) = [connection._exchange for connection in running.app.server.connections]
    assert exchange is not None
    match = Match(PROXIED[0], b"svc", Mount(b"/api/svc"), b"/x")
    handler = PROXIED[0].handler(running.app.gateway, None, exchange, match)  # type: ignore[arg-type]
    assert (handler.request.method, handler.request.path, handler.request.arguments) == (
        "GET",
        "/api/svc/x",
        {"a": [b"1"]},
    )
    assert handler.request.cookies["b"].value == "2"
