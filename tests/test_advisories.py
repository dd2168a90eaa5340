"""Lessons of other gateways' advisories, as bytes on a socket: no refused request may reach an upstream.

Each id names the advisory, the advisory's class or the rule.
"""

import asyncio
import json

import pytest

from tests.conftest import Serve
from tests.support.journeys import CHUNKED, Start, ask, capture, plays, problem, silent
from tests.support.sockets import Message, Peer, chunked, echo, eventually, get, reply

SMUGGLED = b"GET /api/svc/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def head(*lines: bytes, start: bytes = b"POST /api/svc/x HTTP/1.1", host: bytes = b"Host: a") -> bytes:
    return b"\r\n".join([start, *([host] if host else []), *lines]) + b"\r\n\r\n"


def line(start: bytes) -> bytes:
    return head(start=start)


MALFORMED = {
    # framing
    "CL.TE": (head(b"Content-Length: 6", CHUNKED) + b"0\r\n\r\n", 400),
    "TE.CL": (head(CHUNKED, b"Content-Length: 6") + b"0\r\n\r\n", 400),
    "TE.TE x": (head(b"Transfer-Encoding: xchunked"), 400),
    "TE.TE list": (head(b"Transfer-Encoding: chunked, identity"), 400),
    "TE.TE gzip": (head(b"Transfer-Encoding: gzip, chunked"), 400),
    "TE.TE twice": (head(CHUNKED, CHUNKED), 400),
    "TE.TE two fields": (head(CHUNKED, b"Transfer-Encoding: identity"), 400),
    "TE.TE VT": (head(b"Transfer-Encoding: \x0bchunked"), 400),
    "TE.TE space before the colon": (head(b"Transfer-Encoding : chunked"), 400),
    "TE.TE empty": (head(b"Transfer-Encoding:"), 400),
    "TE.TE folded": (head(b"Transfer-Encoding:\r\n chunked"), 400),
    "TE in HTTP/1.0, RFC 9112 6.1": (head(CHUNKED, start=b"POST /api/svc/x HTTP/1.0") + b"0\r\n\r\n", 400),
    **{
        f"CVE-2023-38697 length {value!r}": (head(b"Content-Length: " + value) + b"abc", 400)
        for value in (b"+3", b"0x3", b"3_0", b"-1", b"", b"\xd9\xa3", b"9" * 5000, b"3 3", b"3,3", b"3, 4", b"3.0")
    },
    "CL twice, differing": (head(b"Content-Length: 3", b"Content-Length: 4") + b"abcd", 400),
    "CL twice, equal": (head(b"Content-Length: 3", b"Content-Length: 3") + b"abc", 400),
    "CL twice, odd case": (head(b"Content-Length: 3", b"CONTENT-length: 30") + b"abc", 400),
    "CVE-2021-40346 overflowing name": (head(b"Content-Length" + b"0" * 255 + b":", b"Content-Length: 3", CHUNKED),
                                        400),
    # lines
    "bare LF": (b"GET /api/svc/x HTTP/1.1\nHost: a\n\n", 400),
    "bare LF in a field": (head(b"X: a\nY: b"), 400),
    "bare LF at the end": (b"GET /api/svc/x HTTP/1.1\r\nHost: a\r\n\n", 400),
    "bare CR": (head(b"X: a\rY: b"), 400),
    "obs-fold": (head(b"X: a\r\n b"), 400),
    "NUL": (head(b"X: a\x00b"), 400),
    "NUL in a name": (head(b"X\x00: a"), 400),
    "space before a field": (b"GET /api/svc/x HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "CVE-2023-25725 empty name": (head(b": v"), 400),
    "no colon": (head(b"X"), 400),
    "a space in a name": (head(b"X y: v"), 400),
    # Host
    "no Host": (head(host=b""), 400),
    "two Hosts": (head(b"Host: b"), 400),
    "CVE-2026-34525 two equal Hosts": (head(b"Host: a"), 400),
    **{f"Host {value!r}": (head(host=b"Host: " + value), 400)
       for value in (b"a,b", b"a@b", b"a/b", b"", b"a:abc", b"a b")},
    # start line
    "authority-form": (line(b"GET a:443 HTTP/1.1"), 400),
    "no slash": (line(b"GET a HTTP/1.1"), 400),
    "another scheme": (line(b"GET ftp://a/api/svc/x HTTP/1.1"), 400),
    "userinfo": (line(b"GET http://u@a/api/svc/x HTTP/1.1"), 400),
    "HTTP/2.0": (line(b"GET /api/svc/x HTTP/2.0"), 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /api/svc/x\r\n\r\n", 400),
    "two digits of version": (line(b"GET /api/svc/x HTTP/1.10"), 400),
    "lower-case version": (line(b"GET /api/svc/x http/1.1"), 400),
    "two spaces": (line(b"GET  /api/svc/x HTTP/1.1"), 400),
    "a space behind": (line(b"GET /api/svc/x HTTP/1.1 "), 400),
    "a TAB": (line(b"GET\t/api/svc/x HTTP/1.1"), 400),
    "a space before": (line(b" GET /api/svc/x HTTP/1.1"), 400),
    "CVE-2023-49082 CTL in the method": (line(b"GE\x00T /api/svc/x HTTP/1.1"), 400),
    "a method of 100 KB": (b"A" * 100_000 + b" /api/svc/x HTTP/1.1\r\n\r\n", 501),
    **{f"length {value}": (head(b"Content-Length: %d" % value), 400) for value in (2**63, 2**64 - 1, 2**64)},
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    # expectations
    "unknown expectation": (head(b"Expect: y", b"Content-Length: 3"), 417),
    "Kettle 2025 odd expectation": (head(b"Expect: y 100-continue", b"Content-Length: 3"), 417),
    # size
    "65 KB of head": (head(*[b"X%d: " % n + b"a" * 1000 for n in range(66)]), 431),
    "5000 fields": (head(*[b"X: y"] * 5000), 431),
    "17 KB of target": (line(b"GET /api/svc/" + b"a" * 17_000 + b" HTTP/1.1"), 414),
}  # fmt: skip

NOT_SERVED = {
    "CONNECT": (line(b"CONNECT evil:443 HTTP/1.1"), 405),
    "CONNECT by path": (line(b"CONNECT /api/svc/x HTTP/1.1"), 405),
    **{f"target {target!r}": (line(b"GET /api/svc/" + target + b" HTTP/1.1"), 400)
       for target in (b"caf\xc3\xa9", b'"', b"<", b">", b"\\", b'?"', b"?<", b"?\xff")},
    "target in absolute form": (line(b'GET http://a/api/svc/" HTTP/1.1'), 400),
    "CVE-2023-45539 #": (line(b"GET /api/svc/a#b HTTP/1.1"), 400),
    "CVE-2021-21322 traversal": (line(b"GET /api/svc/../other HTTP/1.1"), 400),
    "CVE-2021-21322 encoded": (line(b"GET /api/svc/%2e%2e/%2e%2e/x HTTP/1.1"), 400),
    "another service by dots": (line(b"GET /api/../svc/x HTTP/1.1"), 404),
    "CVE-2026-22037 encoded service": (line(b"GET /api/%73vc/x HTTP/1.1"), 404),
    "CVE-2026-22037 encoded prefix": (line(b"GET /%61pi/svc/x HTTP/1.1"), 404),
    "CVE-2026-33808 two slashes": (line(b"GET //api/svc/x HTTP/1.1"), 404),
    "CVE-2026-33808 semicolon": (line(b"GET /api;x/svc/x HTTP/1.1"), 404),
    "CVE-2026-33808 semicolon in a service": (line(b"GET /api/svc;x/x HTTP/1.1"), 404),
    "CVE-2026-27587 case": (line(b"GET /API/svc/x HTTP/1.1"), 404),
    "CVE-2026-6414 encoded slash": (line(b"GET /api%2Fsvc/x HTTP/1.1"), 404),
    "a target without our prefix": (line(b"GET http://evil.example/x HTTP/1.1"), 404),
}  # fmt: skip


@pytest.mark.parametrize("case", [*MALFORMED, *NOT_SERVED])
@pytest.mark.gen_test
async def test_a_refused_head_is_answered_and_nothing_of_it_is_forwarded(
    serve: Serve, upstream: Start, case: str
) -> None:
    raw, status = (MALFORMED | NOT_SERVED)[case]
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, VIA_NAME="edge")
    lines = capture(running)
    client = await running.client()
    await client.send(raw)
    answer = await client.response()
    said = json.loads(answer.body)
    problem(answer, status, said["error"])
    assert b"edge; error=" in (answer.get(b"proxy-status") or b"")
    await eventually(lines)
    assert [each["status"] for each in lines()] == [status]
    assert lines()[0]["requestId"] == said["requestId"]
    assert (up.accepted, running.inflight, running.errors) == (0, 0, 0)


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.gen_test
async def test_behind_a_malformed_head_nothing_is_read(serve: Serve, upstream: Start, case: str) -> None:
    raw, _ = MALFORMED[case]
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    client = await running.client()
    await client.send(raw + SMUGGLED)
    answer = await client.response()
    assert answer.get(b"connection") == b"close"
    assert client.buffer == b""
    assert await client.ended()
    assert up.accepted == 0


BROKEN_BODIES = {
    "sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "digits": b"3_0\r\nabc\r\n0\r\n\r\n",
    "negative": b"-1\r\nabc\r\n0\r\n\r\n",
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "huge": b"f" * 17 + b"\r\nabc",
    "CVE-2025-55315 LF in an extension": b"3;\nabc\r\n0\r\n\r\n",
    "CVE-2025-55315 CR in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "CVE-2025-43859 no CRLF behind": b"3\r\nabc0\r\n\r\n",
    "CVE-2025-43859 any two bytes behind": b"3\r\nabcXX0\r\n\r\n",
    "LF behind": b"3\r\nabc\n0\r\n\r\n",
    "LF behind the size": b"3\nabc\r\n0\r\n\r\n",
    "CVE-2023-39326 endless extension": b"3;" + b"a" * 65_536 + b"\r\nabc\r\n0\r\n\r\n",
    "CVE-2026-22815 trailers": b"3\r\nabc\r\n0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "malformed trailer": b"3\r\nabc\r\n0\r\nX y\r\n\r\n",
    "folded trailer": b"3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n",
    "LF in trailers": b"3\r\nabc\r\n0\r\n\n",
}


@pytest.mark.parametrize("case", BROKEN_BODIES)
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
@pytest.mark.gen_test
async def test_a_request_with_a_broken_body_is_never_complete_for_the_upstream(
    serve: Serve, upstream: Start, case: str, kept: bool
) -> None:
    whole: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            message = await peer.request()
            whole.append(message.target)
            await peer.send(reply())

    up = upstream(script)
    running = await serve({"svc": [up.url]})
    client = await running.client()
    if kept:
        assert (await client.ask(get(b"/api/svc/first"))).status == 200
    await client.send(head(CHUNKED) + BROKEN_BODIES[case] + SMUGGLED)
    answer = await client.response()
    problem(answer, 400, "bad_request")
    assert await client.ended()
    await eventually(lambda: running.inflight == 0 and up.open == 0)
    assert whole == [b"/first"] * kept
    assert running.errors == 0


@pytest.mark.gen_test
async def test_a_broken_body_behind_a_begun_answer_resets_it(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await peer.ended()

    up = upstream(script)
    running = await serve({"svc": [up.url]})
    lines = capture(running)
    client = await running.client()
    await client.send(head(CHUNKED) + b"3\r\nabc\r\n")
    await client.until(b"half")
    await client.send(b"zz\r\n")
    assert not await client.ended()
    await eventually(lambda: up.open == 0 and lines())
    assert (lines()[0]["reason"], running.errors) == ("bad_request", 0)


# ---------------------------------------------------------------- what looks odd and is right


@pytest.mark.parametrize("method", [b"DELETE", b"GET", b"HEAD", b"OPTIONS"])
@pytest.mark.parametrize("framed", ["chunks", "length"])
@pytest.mark.gen_test
async def test_a_body_stays_a_body_for_every_method(serve: Serve, upstream: Start, method: bytes, framed: str) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    body = (CHUNKED, chunked(SMUGGLED)) if framed == "chunks" else (b"Content-Length: %d" % len(SMUGGLED), SMUGGLED)
    client = await running.client()
    await client.send(get(b"/api/svc/x", body[0], method=method) + body[1])
    if method != b"HEAD":  # this upstream answers HEAD with a body, as none should
        assert (await client.response()).status == 200
    await eventually(lambda: up.requests and up.requests[0].complete)
    assert [(request.method, request.target, request.body) for request in up.requests] == [(method, b"/x", SMUGGLED)]


@pytest.mark.gen_test
async def test_chunk_extensions_end_here(serve: Serve, upstream: Start) -> None:  # CVE-2024-22019
    async def script(peer: Peer) -> None:
        await peer.request_head()
        seen.append(await peer.until(b"0\r\n\r\n"))
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0;z\r\n\r\n")
        await peer.ended()

    seen: list[bytes] = []
    running = await serve({"svc": [upstream(script).url]})
    client = await running.client()
    await client.send(head(CHUNKED) + b'3;a=b;c="d"\r\nabc\r\n0;e\r\n\r\n')
    await client.until(b"\r\n\r\n")
    assert await client.until(b"0\r\n\r\n") == b"3\r\nabc\r\n0\r\n\r\n"
    assert seen == [b"3\r\nabc\r\n0\r\n\r\n"]


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        (line(b"GET http://evil.example/api/svc/x HTTP/1.1"), b"evil.example"),
        (line(b"GET HTTPS://evil.example:99/api/svc/x HTTP/1.1"), b"evil.example:99"),
        (line(b"GET /api/svc/x HTTP/1.2"), b"a"),
        (b"\r\n\r\n" + line(b"GET /api/svc/x HTTP/1.1"), b"a"),
        (head(start=b"GET /api/svc/x HTTP/1.0", host=b""), b""),
        (head(b"Expect: whatever", start=b"GET /api/svc/x HTTP/1.0"), b"a"),
        (head(host=b"Host: evil127.0.0.1"), b"evil127.0.0.1"),
    ],
    ids=["absolute-form", "absolute-form with port", "HTTP/1.2", "empty lines", "HTTP/1.0", "Expect", "CVE-2026-55602"],
)
@pytest.mark.gen_test
async def test_whatever_host_is_named_the_endpoint_is_asked(
    serve: Serve, upstream: Start, raw: bytes, host: bytes
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    assert (await ask(running, raw)).status == 200
    (seen,) = up.requests
    assert (seen.target, seen.get(b"host"), seen.get(b"x-forwarded-host") or b"") == (
        b"/x",
        b"127.0.0.1:%d" % up.port,
        host,
    )


@pytest.mark.parametrize(
    "alias", [b"X_Forwarded_For", b"x_request_ID", b"Remote_User", b"X_User-Id", b"Content_Length"]
)
@pytest.mark.gen_test
async def test_a_name_that_imitates_a_protected_one_is_dropped(serve: Serve, upstream: Start, alias: bytes) -> None:
    up = upstream(echo)  # Traefik GHSA-5m6w-wvh7-57vm, oauth2-proxy CVE-2025-64484
    running = await serve({"svc": [up.url]})
    assert (await ask(running, get(b"/api/svc/x", alias + b": admin", b"X_Other: 1"))).status == 200
    (seen,) = up.requests
    assert (seen.all(alias), seen.get(b"x_other")) == ([], b"1")


@pytest.mark.gen_test
async def test_a_large_cookie_is_not_looked_into(serve: Serve, upstream: Start) -> None:  # CVE-2024-52804
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    cookie = b"a=" + b'"\\' * 30_000
    assert (await ask(running, get(b"/api/svc/x", b"Cookie: " + cookie))).status == 200
    assert up.requests[0].get(b"cookie") == cookie


@pytest.mark.parametrize("token", [b"h2c", b"websocket", b"TLS/1.0"])
@pytest.mark.gen_test
async def test_no_upgrade_passes_in_either_direction(serve: Serve, upstream: Start, token: bytes) -> None:
    fields = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + token, b"HTTP2-Settings: AAMAAABkAAQAAP__")
    up = upstream(plays(reply(fields=fields[:2])))  # Envoy CVE-2024-23326
    running = await serve({"svc": [up.url]})
    client = await running.client()
    answer = await client.ask(get(b"/api/svc/x", *fields))
    assert (answer.status, answer.all(b"upgrade"), answer.all(b"connection")) == (200, [], [])
    (seen,) = up.requests
    assert seen.all(b"upgrade") + seen.all(b"http2-settings") + seen.all(b"connection") == []
    assert (await client.ask(get(b"/healthz"))).status == 200


# ---------------------------------------------------------------- answers that cannot be believed


INVALID_ANSWERS = {
    "CVE-2026-34519 CR in a field": b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 OK\rX: a\r\nContent-Length: 0\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "CVE-2023-25725 empty name": b"HTTP/1.1 200 OK\r\n: v\r\nContent-Length: 0\r\n\r\n",
    "obs-fold": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "CL.TE": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "lengths that differ": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "status 99": b"HTTP/1.1 099 Early\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    "64 KiB of 103": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3000 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a length of 2^63": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 2**63,
    "a length of 5000 digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("case", INVALID_ANSWERS)
@pytest.mark.gen_test
async def test_an_invalid_answer_is_a_502_and_its_connection_is_not_kept(
    serve: Serve, upstream: Start, case: str
) -> None:
    up = upstream(plays(INVALID_ANSWERS[case]))
    running = await serve({"svc": [up.url]}, VIA_NAME="edge")
    client = await running.client()
    answer = await client.ask(get(b"/api/svc/x"))
    problem(answer, 502, "upstream_unavailable")
    assert answer.get(b"proxy-status") == b"edge; error=http_protocol_error"
    await eventually(lambda: up.open == 0)
    assert running.errors == 1
    assert (await client.ask(get(b"/healthz"))).status == 200


@pytest.mark.gen_test
async def test_a_reason_that_is_markup_is_replaced(serve: Serve, upstream: Start) -> None:  # CVE-2025-67724
    up = upstream(plays(reply(b"404 <script>alert(1)</script>")))
    running = await serve({"svc": [up.url]})
    assert (await ask(running, get(b"/api/svc/x"))).start == b"HTTP/1.1 404 Not Found"


@pytest.mark.gen_test
async def test_bytes_behind_an_answer_are_nobodys(serve: Serve, upstream: Start) -> None:  # response queue poisoning
    up = upstream(plays(reply(body=b"first") + reply(body=b"poison")))
    running = await serve({"svc": [up.url]})
    client = await running.client()
    for _ in range(3):
        assert (await client.ask(get(b"/api/svc/x"))).body == b"first"
    assert up.accepted == 3


@pytest.mark.gen_test
async def test_bytes_on_an_idle_connection_are_nobodys(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(body=b"first"))
        await eventually(answered.is_set)
        await peer.send(reply(body=b"poison"))
        await peer.ended()

    answered = asyncio.Event()
    up = upstream(script)
    running = await serve({"svc": [up.url]})
    client = await running.client()
    assert (await client.ask(get(b"/api/svc/x"))).body == b"first"
    answered.set()
    await eventually(lambda: up.open == 0)
    assert (await client.ask(get(b"/api/svc/x"))).body == b"first"


@pytest.mark.gen_test
async def test_what_comes_after_the_client_has_left_is_dropped(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:  # Envoy CVE-2025-62409, CVE-2026-26311
        await peer.request()
        await eventually(left.is_set)
        for _ in range(100):
            await peer.send(reply(body=b"a" * 1000))
        await peer.ended()

    left = asyncio.Event()
    up = upstream(script)
    running = await serve({"svc": [up.url]})
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    await eventually(lambda: up.requests)
    client.reset()
    left.set()
    await eventually(lambda: up.open == 0 and running.inflight == 0)
    assert (running.errors, running.app.server.connections) == (0, set())


# ---------------------------------------------------------------- an unread or unsent body


@pytest.mark.gen_test
async def test_a_connection_with_an_unsent_body_is_never_used_again(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:  # Go CVE-2024-24791
        await peer.request_head()
        await peer.send(reply(b"403 Forbidden"))
        assert await peer.ended() is not None
        assert peer.buffer == b""

    up = upstream(script)
    running = await serve({"svc": [up.url]})
    for _ in range(2):
        client = await running.client()
        answer = await client.ask(get(b"/api/svc/x", b"Expect: 100-continue", b"Content-Length: 45", method=b"POST"))
        assert (answer.status, answer.get(b"connection"), answer.interim) == (403, b"close", [])
        await client.send(SMUGGLED)  # as the body that was promised, or as a request
        assert await client.ended()
    assert (up.accepted, len(up.requests)) == (2, 2)


@pytest.mark.gen_test
async def test_what_follows_an_unread_body_is_no_request(serve: Serve, upstream: Start) -> None:  # 0.CL
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    client = await running.client()
    await client.send(get(b"/api/none/x", b"Content-Length: %d" % (len(SMUGGLED) + 1), method=b"POST") + SMUGGLED)
    answer = await client.response()
    assert (answer.status, answer.get(b"connection")) == (404, b"close")
    assert await client.ended()
    assert up.accepted == 0


# ---------------------------------------------------------------- exhaustion


@pytest.mark.parametrize(
    ("sent", "variables"),
    [
        (b"GET /api/svc/x HTTP/1.1\r\nHost: a\r\n", {"HEADER_TIMEOUT_MS": "100"}),
        (b"G", {"HEADER_TIMEOUT_MS": "100"}),
        (head(b"Content-Length: 5") + b"ab", {"CLIENT_IDLE_TIMEOUT_MS": "100"}),
        (head(CHUNKED) + b"5\r\nab", {"CLIENT_IDLE_TIMEOUT_MS": "100"}),
        (head(CHUNKED) + b"0\r\n\r", {"CLIENT_IDLE_TIMEOUT_MS": "100"}),
    ],
    ids=["head", "first byte", "length", "chunk", "last byte"],
)
@pytest.mark.gen_test
async def test_a_slow_request_is_ended(
    serve: Serve, upstream: Start, sent: bytes, variables: dict[str, str]
) -> None:  # slowloris
    up = upstream(silent)
    running = await serve({"svc": [up.url]}, **variables)
    lines = capture(running)
    answer = await ask(running, sent)
    problem(answer, 408, "request_timeout")
    await eventually(lines)
    await eventually(lambda: up.open == 0)
    assert (lines()[0]["status"], lines()[0]["reason"], running.errors) == (408, "request_timeout", 0)
    assert not any(request.complete for request in up.requests)


@pytest.mark.gen_test
async def test_a_head_that_drips_has_no_more_time_than_another(serve: Serve, upstream: Start) -> None:  # slowloris
    async def drip() -> None:
        for byte in b"GET /api/svc/" + b"a" * 1000:
            await client.send(bytes([byte]))
            await asyncio.sleep(0.01)

    up = upstream(echo)
    running = await serve({"svc": [up.url]}, HEADER_TIMEOUT_MS="150")
    client = await running.client()
    dripping = asyncio.ensure_future(drip())
    answer: Message = await client.response()
    problem(answer, 408, "request_timeout")
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    assert up.accepted == 0


@pytest.mark.gen_test
async def test_a_reader_that_stalls_is_reset(serve: Serve, upstream: Start) -> None:  # H11
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(b"a" * 65_536)

    up = upstream(script)
    running = await serve({"svc": [up.url]}, CLIENT_IDLE_TIMEOUT_MS="100")
    lines = capture(running)
    client = await running.client(receive_buffer=4096)
    await client.send(get(b"/api/svc/x"))
    await eventually(lines)
    await eventually(lambda: up.open == 0)
    (line,) = lines()
    assert (line["reason"], running.errors, running.inflight) == ("client_stalled", 0, 0)
    assert not await client.ended()


@pytest.mark.gen_test
async def test_connections_beyond_the_limit_are_told_so(serve: Serve, upstream: Start) -> None:
    up = upstream(silent)
    running = await serve({"svc": [up.url]}, MAX_CONNECTIONS="1")
    first = await running.client()
    await first.send(get(b"/api/svc/x"))
    await eventually(lambda: up.requests)
    answer = await (await running.client()).response()
    problem(answer, 503, "overloaded")
    assert answer.get(b"retry-after") == b"1"
    assert len(up.requests) == 1
