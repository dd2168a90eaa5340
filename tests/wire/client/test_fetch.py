"""fetch() as Tornado documents it, over kept connections. "row N" as in test_client.py."""

import asyncio
import base64
import contextlib
import gzip
import inspect
import ssl

import pytest
import trustme
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httputil import HTTPHeaders, HTTPOutputError
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError

from tests.support.exchanges import origin_of, wire_client
from tests.support.sockets import Ended, Peer, chunked, eventually, reply
from tests.support.tls import ca_file, tls_upstream
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.wire.client.client import PooledHTTPClient
from tornado_gateway.wire.client.fetch import MAX_BUFFERED_BODY, DirectRequest


def answering(*answers: bytes):
    """A script: one answer per request, in order, over all connections; the last one again and again."""
    left = list(answers)

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(left.pop(0) if len(left) > 1 else left[0])

    return script


def redirect(location: str, status: bytes = b"302 Found", body: bytes = b"moved") -> bytes:
    return reply(status, (b"Location: " + location.encode(),), body)


async def silent(peer: Peer) -> None:
    await peer.request_head()
    await peer.ended()


# ---- the plain case


@pytest.mark.gen_test
async def test_a_response_is_what_tornado_says_it_is(upstream):
    up = upstream(answering(reply(b"200 Fine", (b"x-a: 1", b"X-A: 2", b"Set-Cookie: a", b"Set-Cookie: b"), b"hello")))
    async with wire_client() as client:
        response = await client.fetch(up.url + "/p?q")
    assert (response.code, response.reason, response.body) == (200, "Fine", b"hello")
    assert response.effective_url == response.request.url == up.url + "/p?q"
    assert response.headers.get_list("Set-Cookie") == ["a", "b"]
    assert response.headers["X-A"] == "1,2"
    assert response.error is None
    assert response.request_time >= 0
    assert response.start_time > 1e9


@pytest.mark.gen_test
async def test_row_20_only_host_and_accept_encoding_are_invented(upstream):
    up = upstream()
    async with wire_client() as client:
        await client.fetch(up.url)
        await client.fetch(up.url, decompress_response=False, method="POST", body="é", headers={"User-Agent": "me"})
        await client.fetch(up.url, user_agent="it", headers={"Host": "other", "Accept-Encoding": "identity"})
    host = (b"Host", b"127.0.0.1:%d" % up.port)
    assert up.requests[0].fields == [host, (b"Accept-Encoding", b"gzip")]
    assert up.requests[1].fields == [host, (b"User-Agent", b"me"), (b"Content-Length", b"2")]
    assert up.requests[1].body == "é".encode()
    assert up.requests[2].fields == [(b"Host", b"other"), (b"Accept-Encoding", b"identity"), (b"User-Agent", b"it")]
    assert up.accepted == 1


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", b"/"),
        ("/?", b"/?"),
        ("?q", b"/?q"),
        ("/a/../b", b"/a/../b"),
        ("/caf\xe9", b"/caf\xc3\xa9"),
        ("/a%2Fb;c?d=%zz#e", b"/a%2Fb;c?d=%zz"),
        ("//double", b"//double"),
    ],
)
@pytest.mark.gen_test
async def test_row_21_the_target_is_the_urls_own(upstream, path, target):
    up = upstream()
    async with wire_client() as client:
        await client.fetch(up.url + path)
    assert up.requests[0].target == target


@pytest.mark.parametrize(
    "url",
    [
        "{}/a b",
        "{}/a\r\nX: y",
        "{}/a\tb",
        "ftp://127.0.0.1/",
        "unix:/run/app.sock",
        "unix://run/app.sock",
        "http://",
        "http://:80/",
        "http://a:99999/",
        "/path",
    ],
)
@pytest.mark.gen_test
async def test_a_url_that_cannot_be_asked_for_is_a_value_error(upstream, url):
    up = upstream()
    async with wire_client() as client:
        with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
            await client.fetch(url.format(up.url))
    assert up.accepted == 0


@pytest.mark.parametrize("method", ["PROPFIND", "QUERY", "TRACE", "BREW", "OPTIONS", "DELETE", "HEAD"])
@pytest.mark.gen_test
async def test_row_22_every_method_is_allowed(upstream, method):
    up = upstream(answering(reply(body=b"")))
    async with wire_client() as client:
        assert (await client.fetch(up.url, method=method)).code == 200
    assert up.requests[0].start == method.encode() + b" / HTTP/1.1"
    assert not up.requests[0].all(b"content-length")


INJECTIONS = {
    "method (aiohttp CVE-2023-49082)": {"method": "GET / HTTP/1.1\r\nX: y\r\n\r\nGET"},
    "method with a space": {"method": "GET /"},
    "empty method": {"method": ""},
    "field": {"headers": {"A": "b\r\nX: y"}},
    "user agent": {"user_agent": "b\nX: y"},
    "Content-Length of a producer": {
        "method": "PUT", "body_producer": lambda write: None, "headers": {"Content-Length": "1_0"},
    },
}  # fmt: skip


@pytest.mark.parametrize("options", INJECTIONS.values(), ids=INJECTIONS)
@pytest.mark.gen_test
async def test_a_request_that_would_break_its_own_head_is_refused(upstream, options):
    up = upstream()
    async with wire_client() as client:
        with pytest.raises(Exception, match=r"token|header|Content-Length"):
            await client.fetch(up.url, allow_nonstandard_methods=True, **options)
    assert up.accepted == 0


REFUSED = {
    "proxy_host": {"proxy_host": "a"},
    "proxy_port": {"proxy_port": 1},
    "proxy_username": {"proxy_username": "a"},
    "proxy_password": {"proxy_password": "a"},
    "proxy_auth_mode": {"proxy_auth_mode": "basic"},
    "network_interface": {"network_interface": "127.0.0.1"},
    "prepare_curl_callback": {"prepare_curl_callback": print},
    "allow_ipv6": {"allow_ipv6": False},
    "auth_mode": {"auth_mode": "digest"},
    "ssl_options": {"ssl_options": {}},
    "CONNECT": {"method": "CONNECT"},
}


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: f"row 30: {name}" if "proxy" in name else name)
@pytest.mark.gen_test
async def test_an_option_that_is_not_supported_is_refused_by_name(upstream, name):
    up = upstream()
    async with wire_client() as client:
        with pytest.raises(NotImplementedError, match=name):
            await client.fetch(up.url, **REFUSED[name])
    assert up.accepted == 0


@pytest.mark.gen_test
async def test_max_clients_is_refused_by_name():
    with pytest.raises(TypeError, match="max_clients"):
        PooledHTTPClient(force_instance=True, max_clients=10)


def test_every_option_of_an_http_request_is_honoured_or_refused():
    """A new Tornado that brings a new option fails here."""
    known = {
        "url", "method", "headers", "body", "body_producer", "auth_username", "auth_password", "auth_mode",
        "connect_timeout", "request_timeout", "if_modified_since", "follow_redirects", "max_redirects", "user_agent",
        "use_gzip", "decompress_response", "streaming_callback", "header_callback", "allow_nonstandard_methods",
        "validate_cert", "ca_certs", "client_key", "client_cert", "expect_100_continue", "ssl_options",
    }  # fmt: skip
    assert set(inspect.signature(HTTPRequest.__init__).parameters) - {"self"} == known | set(REFUSED) - {"CONNECT"}


@pytest.mark.parametrize(
    ("method", "body", "match"),
    [("POST", None, "must not be None"), ("PATCH", None, "must not be None"), ("GET", b"x", "must be None")],
)
@pytest.mark.gen_test
async def test_methods_and_bodies_go_together_unless_told_otherwise(upstream, method, body, match):
    up = upstream()
    async with wire_client() as client:
        with pytest.raises(ValueError, match=match):
            await client.fetch(up.url, method=method, body=body)
        await client.fetch(up.url, method=method, body=body, allow_nonstandard_methods=True)
    assert [each.body for each in up.requests] == [body or b""]
    assert up.requests[0].get(b"content-length") == (b"1" if body else b"0")


@pytest.mark.gen_test
async def test_a_body_is_framed_once_whatever_the_fields_say(upstream):
    up = upstream()
    async with wire_client() as client:
        lies = {"Content-Length": "100", "Transfer-Encoding": "chunked"}
        await client.fetch(up.url, method="PUT", body=b"abc", headers=lies)
        await client.fetch(up.url, headers=lies)
    assert up.requests[0].all(b"content-length") == [b"3"]
    assert not up.requests[0].all(b"transfer-encoding")
    assert not up.requests[1].all(b"content-length") + up.requests[1].all(b"transfer-encoding")


@pytest.mark.gen_test
async def test_if_modified_since_and_a_304(upstream):
    up = upstream(answering(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"))
    async with wire_client() as client:
        with pytest.raises(HTTPClientError) as raised:
            await client.fetch(up.url, if_modified_since=0.5)
    assert raised.value.code == 304
    assert up.requests[0].get(b"if-modified-since") == b"Thu, 01 Jan 1970 00:00:00 GMT"


# ---- errors


@pytest.mark.gen_test
async def test_an_error_status_raises_unless_told_otherwise(upstream):
    up = upstream(answering(reply(b"503 Busy", body=b"later")))
    async with wire_client() as client:
        with pytest.raises(HTTPClientError) as raised:
            await client.fetch(up.url)
        assert (raised.value.code, raised.value.message, raised.value.response.body) == (503, "Busy", b"later")
        response = await client.fetch(up.url, raise_error=False)
        assert (response.code, response.body, type(response.error)) == (503, b"later", HTTPClientError)
        with pytest.raises(HTTPClientError):
            response.rethrow()
    assert up.accepted == 1


def truncated(answer: bytes):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    return script


FAILING = {
    "nothing": (b"", HTTPStreamClosedError),
    "truncated": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", HTTPStreamClosedError),
    "not HTTP": (b"SSH-2.0\r\n\r\n", HTTPClientError),
    "row 13: interim responses without end": (b"HTTP/1.1 103 X\r\n\r\n" * 5000, HTTPClientError),
}


@pytest.mark.parametrize(("answer", "error"), FAILING.values(), ids=FAILING)
@pytest.mark.gen_test
async def test_a_failure_is_tornados_599_with_its_cause(upstream, answer, error):
    up = upstream(truncated(answer))
    async with wire_client() as client:
        with pytest.raises(error) as raised:
            await client.fetch(up.url, raise_error=False)
    assert raised.value.code == 599
    assert raised.value.__cause__ is not None


@pytest.mark.gen_test
async def test_no_connection_is_a_599(upstream):
    async with wire_client() as client:
        with pytest.raises(HTTPClientError, match="No connection") as raised:
            await client.fetch("http://127.0.0.1:1/")
    assert raised.value.code == 599


@pytest.mark.gen_test
async def test_row_23_the_request_timeout_bounds_it_all_and_ends_the_connection(upstream):
    up = upstream(silent)
    async with wire_client() as client:
        with pytest.raises(HTTPTimeoutError, match="during request"):
            await client.fetch(up.url, request_timeout=0.05)
        await eventually(lambda: up.accepted and not up.open)


@pytest.mark.gen_test
async def test_row_23_zero_means_no_timeout(upstream):
    async def script(peer: Peer) -> None:
        await peer.request()
        await may_answer.wait()
        await peer.send(reply())

    may_answer = asyncio.Event()
    up = upstream(script)
    async with wire_client(timeout=0.01) as client:
        fetching = client.fetch(up.url, request_timeout=0, connect_timeout=0)
        await eventually(lambda: up.requests)
        client.sweep(client.loop.time() + 1e6)
        may_answer.set()
        assert (await fetching).code == 200


@pytest.mark.gen_test
async def test_closing_the_client_ends_fetches(upstream):
    up = upstream(silent)
    async with wire_client() as client:
        waiting = client.fetch(up.url)
        await eventually(lambda: up.requests)
        just_begun = client.fetch(up.url)
        client.close()
        for each in (waiting, just_begun):
            with pytest.raises(HTTPStreamClosedError):
                await each
        with pytest.raises(RuntimeError):
            client.fetch(up.url)


# ---- what is cancelled (row 3)


@pytest.mark.parametrize("phase", ["at once", "silent", "in the body", "in the upload"])
@pytest.mark.gen_test
async def test_row_3_cancelling_the_future_ends_the_connection_at_once(upstream, phase):
    async def script(peer: Peer) -> None:
        await peer.request_head()
        if phase == "in the body":
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await peer.ended()

    async def produce(write):
        write(b"abc")
        producing.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    up, seen, producing, stopped = upstream(script), [], asyncio.Event(), asyncio.Event()
    options = {"method": "PUT", "body_producer": produce} if phase == "in the upload" else {}
    async with wire_client() as client:
        fetching = client.fetch(up.url, streaming_callback=seen.append, **options)
        if phase == "in the upload":
            await producing.wait()
        if phase != "at once":
            await eventually(lambda: seen if phase == "in the body" else up.requests)
        fetching.cancel()
        await eventually(lambda: not up.open and not client.active and not client.connecting)
        if options:
            await asyncio.wait_for(stopped.wait(), 5)
    assert seen == ([b"abc"] if phase == "in the body" else [])


@pytest.mark.gen_test
async def test_row_3_cancelling_ends_an_asynchronous_callback_too(upstream):
    async def take(chunk):
        taking.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    up, taking, stopped = upstream(), asyncio.Event(), asyncio.Event()
    async with wire_client() as client:
        fetching = client.fetch(up.url, streaming_callback=take)
        await taking.wait()
        fetching.cancel()
        await asyncio.wait_for(stopped.wait(), 5)


# ---- callbacks


@pytest.mark.gen_test
async def test_row_6_header_callback_hears_the_final_head_before_the_body(upstream):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 Fine\r\nX-A: 1\r\nX-A: 2\r\n\r\n")
        await may_go_on.wait()
        await peer.send(b"abc")

    lines, may_go_on = [], asyncio.Event()
    up = upstream(script)
    async with wire_client() as client:
        fetching = client.fetch(up.url, header_callback=lines.append)
        await eventually(lambda: lines)
        may_go_on.set()
        assert (await fetching).body == b"abc"
    assert lines == ["HTTP/1.1 200 Fine\r\n", "X-A: 1\r\n", "X-A: 2\r\n", "\r\n"]


@pytest.mark.gen_test
async def test_streaming_callback_gets_the_body_and_the_response_does_not(upstream):
    seen = []
    up = upstream(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"a" * 9, b"b")))
    async with wire_client() as client:
        response = await client.fetch(up.url, streaming_callback=seen.append)
        assert (b"".join(seen), response.body) == (b"aaaaaaaaab", b"")
        assert (await client.fetch(up.url)).body == b"aaaaaaaaab"
    assert up.accepted == 1


@pytest.mark.gen_test
async def test_row_5_an_asynchronous_streaming_callback_is_awaited_in_order_and_to_its_end(upstream):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na")
        await eventually(lambda: events)
        await peer.send(b"bc")  # all of it is there while the first callback still runs
        await peer.ended()

    async def take(chunk):
        events.append(("begin", chunk))
        for _ in range(20):
            await asyncio.sleep(0)
        events.append(("end", chunk))

    events = []
    up = upstream(script)
    async with wire_client() as client:
        await client.fetch(up.url, streaming_callback=take)
    assert b"".join(chunk for what, chunk in events if what == "end") == b"abc"
    assert [what for what, _ in events] == ["begin", "end"] * (len(events) // 2)
    assert [chunk for what, chunk in events if what == "begin"] == [chunk for what, chunk in events if what == "end"]


@pytest.mark.gen_test
async def test_row_5_an_asynchronous_streaming_callback_holds_the_upstream(upstream):
    sent, piece = 0, bytes(1024 * 1024)

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * len(piece)))
        for _ in range(64):
            await peer.send(piece)
            sent += 1
        await peer.ended()

    async def take(chunk):
        nonlocal size
        size += len(chunk)
        await may_go_on.wait()

    size, may_go_on = 0, asyncio.Event()
    up = upstream(script)
    async with wire_client() as client:
        fetching = client.fetch(up.url, streaming_callback=take)
        before = -1
        while not size or before != sent:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 32
        may_go_on.set()
        await fetching
    assert size == 64 * len(piece)


class Broken(Exception):
    pass


def raises(_) -> None:
    raise Broken


async def raises_later(_) -> None:
    await asyncio.sleep(0)
    raise Broken


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"streaming_callback": raises}, id="row 4: streaming_callback"),
        pytest.param({"streaming_callback": raises_later}, id="row 4: asynchronous streaming_callback"),
        pytest.param({"header_callback": raises}, id="row 4: header_callback"),
        pytest.param({"method": "PUT", "body_producer": raises}, id="body_producer"),
        pytest.param({"method": "PUT", "body_producer": raises_later}, id="asynchronous body_producer"),
    ],
)
@pytest.mark.gen_test
async def test_an_exception_of_a_callback_ends_the_connection_and_reaches_the_caller(upstream, options):
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await peer.ended()

    up = upstream(script)
    async with wire_client() as client:
        with pytest.raises(Broken):
            await client.fetch(up.url, raise_error=False, **options)
        await eventually(lambda: not up.open)


# ---- uploads


def producer(*pieces: bytes):
    async def produce(write) -> None:
        for piece in pieces:
            await write(piece)

    return produce


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "GET", "QUERY"])
@pytest.mark.gen_test
async def test_row_7_and_8_body_producer_is_framed_for_every_method(upstream, method):
    up = upstream()
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    allowed = {"method": method, "allow_nonstandard_methods": True}
    async with wire_client() as client:
        await client.fetch(up.url, body_producer=producer(b"", smuggled, b"", b"x"), **allowed)
        length = {"Content-Length": "3"}
        await client.fetch(up.url, body_producer=producer(b"ab", b"c"), headers=length, **allowed)
        await client.fetch(up.url, body_producer=lambda write: write(b"sync") and None, **allowed)
    assert [each.body for each in up.requests] == [smuggled + b"x", b"abc", b"sync"]
    assert [each.all(b"transfer-encoding") for each in up.requests] == [[b"chunked"], [], [b"chunked"]]
    assert up.accepted == 1


@pytest.mark.gen_test
async def test_row_7_write_gives_a_future_for_flow_control(upstream):
    async def script(peer: Peer) -> None:
        message = await peer.request_head()
        await may_read.wait()
        await peer.body(message)
        await peer.send(reply(body=b"%d" % len(message.body)))

    async def produce(write) -> None:
        for _ in range(16):
            taken = write(bytes(1024 * 1024))
            if not taken.done():
                waits.append(taken)
                asyncio.get_running_loop().call_later(0.02, may_read.set)
            await taken
        may_read.set()

    waits, may_read = [], asyncio.Event()
    up = upstream(script)
    async with wire_client() as client:
        response = await client.fetch(up.url, method="POST", body_producer=produce)
    assert response.body == b"%d" % (16 * 1024 * 1024)
    assert len(waits) > 1


@pytest.mark.parametrize("pieces", [(b"ab",), (b"ab", b"cd"), ()], ids=["short", "long", "none"])
@pytest.mark.gen_test
async def test_row_10_a_producer_that_does_not_keep_its_content_length(upstream, pieces):
    outcome = []

    async def script(peer: Peer) -> None:
        try:
            outcome.append(await peer.request())
        except Ended:
            outcome.append(None)

    up = upstream(script)
    async with wire_client() as client:
        with pytest.raises(HTTPOutputError, match="Content-Length"):
            await client.fetch(up.url, method="PUT", body_producer=producer(*pieces), headers={"Content-Length": "3"})
        await eventually(lambda: not up.open and not client.active)
    assert outcome in ([None], [])  # none: there was no connection yet


@pytest.mark.gen_test
async def test_body_and_body_producer_exclude_each_other(upstream):
    up = upstream()
    async with wire_client() as client:
        with pytest.raises(ValueError, match="Only one"):
            await client.fetch(up.url, method="PUT", body=b"a", body_producer=producer())
    assert up.accepted == 0


@pytest.mark.gen_test
async def test_row_9_an_early_answer_stops_the_producer(upstream):
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(reply(b"413 Content Too Large"))
        await peer.ended()

    async def produce(write) -> None:
        try:
            while True:
                await write(b"x" * 1000)
                await asyncio.sleep(0)
        finally:
            stopped.set()

    stopped = asyncio.Event()
    up = upstream(script)
    async with wire_client() as client:
        response = await client.fetch(up.url, method="PUT", body_producer=produce, raise_error=False)
        assert (response.code, response.body) == (413, b"ok")
        await asyncio.wait_for(stopped.wait(), 5)
        await eventually(lambda: not up.open)


def expecting(*answers: bytes):
    """A script: answer the head, and if that was a 100, the body."""

    async def script(peer: Peer) -> None:
        message = await peer.request_head()
        assert message.get(b"expect") == b"100-continue"
        assert not peer.buffer
        for answer in answers:
            await peer.send(answer)
        if not answers or answers[-1].startswith(b"HTTP/1.1 100"):
            await peer.body(message)
            await peer.send(reply(body=message.body))
        await peer.ended()

    return script


@pytest.mark.parametrize("how", [{"body": b"abc"}, {"body_producer": producer(b"a", b"bc")}], ids=["body", "producer"])
@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n"], id="row 14: 100"),
        pytest.param([b"HTTP/1.1 103 X\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"], id="row 14: 103, then 100"),
        pytest.param([], id="row 14: ignored, so sent after a second"),
    ],
)
@pytest.mark.gen_test
async def test_row_14_the_body_waits_for_100_continue_but_not_for_ever(upstream, answers, how):
    up = upstream(expecting(*answers))
    async with wire_client() as client:
        response = await client.fetch(up.url, method="PUT", expect_100_continue=True, **how)
        assert response.body == b"abc"


@pytest.mark.gen_test
async def test_row_14_a_final_answer_instead_of_100_leaves_the_body_unsent(upstream):
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\n")
        with pytest.raises(TimeoutError):  # nothing more comes
            await peer.more(0.1)
        await peer.send(b"no")
        await peer.ended()

    up = upstream(script)
    async with wire_client() as client:
        response = await client.fetch(up.url, method="PUT", body=b"abc", expect_100_continue=True, raise_error=False)
        assert (response.code, response.body) == (417, b"no")
        await eventually(lambda: not up.open)


# ---- the silent retry (row 2)


def closing_after(count: int):
    """A script: each connection answers so many requests, reads one more and closes."""

    async def script(peer: Peer) -> None:
        for _ in range(count):
            await peer.request()
            await peer.send(reply(body=b""))
        await peer.request()

    return script


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.gen_test
async def test_row_2_an_idempotent_request_on_a_stale_connection_is_sent_again(upstream, method):
    up = upstream(closing_after(1))
    async with wire_client() as client:
        await client.fetch(up.url)
        up.requests.clear()
        response = await client.fetch(up.url, method=method, body=b"abc" if method == "PUT" else None)
    assert response.code == 200
    assert [each.method.decode() for each in up.requests] == [method, method]
    assert up.accepted == 2


@pytest.mark.parametrize("method", ["POST", "PATCH", "BREW"])
@pytest.mark.gen_test
async def test_row_2_a_request_that_may_have_been_carried_out_is_not(upstream, method):
    up = upstream(closing_after(1))
    async with wire_client() as client:
        await client.fetch(up.url)
        with pytest.raises(HTTPStreamClosedError):
            await client.fetch(up.url, method=method, body=None if method == "BREW" else b"abc")
    assert len(up.requests) == 2


@pytest.mark.gen_test
async def test_row_2_a_request_with_a_body_producer_is_not_retried(upstream):
    up = upstream(closing_after(1))
    async with wire_client() as client:
        await client.fetch(up.url)
        with pytest.raises(HTTPStreamClosedError):
            await client.fetch(up.url, method="PUT", body_producer=producer(b"abc"))
    assert len(up.requests) == 2


@pytest.mark.gen_test
async def test_row_2_a_new_connection_that_dies_is_no_reason_to_try_again(upstream):
    up = upstream(closing_after(0))
    async with wire_client() as client:
        with pytest.raises(HTTPStreamClosedError):
            await client.fetch(up.url)
    assert up.accepted == 1


@pytest.mark.gen_test
async def test_row_2_there_is_one_retry_and_not_two(upstream):
    async def script(peer: Peer) -> None:
        if up.accepted == 1:
            await peer.request()
            await peer.send(reply())
        await peer.request()

    up = upstream(script)
    async with wire_client() as client:
        await client.fetch(up.url)
        with pytest.raises(HTTPStreamClosedError):
            await client.fetch(up.url)
    assert (up.accepted, len(up.requests)) == (2, 3)


@pytest.mark.gen_test
async def test_row_2_a_response_that_has_begun_is_not_asked_for_again(upstream):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")

    up = upstream(script)
    async with wire_client() as client:
        await client.fetch(up.url)
        with pytest.raises(HTTPStreamClosedError):
            await client.fetch(up.url)
    assert up.accepted == 1


# ---- bodies


@pytest.mark.gen_test
async def test_gzip_is_unpacked_and_said_to_have_been(upstream):
    packed = gzip.compress(b"a" * 100_000) + gzip.compress(b"b")  # two members (RFC 1952 §2.2)
    up = upstream(answering(reply(fields=(b"Content-Encoding: GZIP",), body=packed)))
    async with wire_client() as client:
        response = await client.fetch(up.url)
        assert response.body == b"a" * 100_000 + b"b"
        assert response.headers["X-Consumed-Content-Encoding"] == "GZIP"
        assert "Content-Encoding" not in response.headers
        seen = []
        await client.fetch(up.url, streaming_callback=seen.append)
        assert (b"".join(seen), max(map(len, seen))) == (b"a" * 100_000 + b"b", 64 * 1024)
        response = await client.fetch(up.url, decompress_response=False)
        assert (response.body, response.headers["Content-Encoding"]) == (packed, "GZIP")


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(b"abc")[:-3], b"not gzip", gzip.compress(b"abc") + b"!"],
    ids=["cut", "no gzip", "more behind"],  # not the bytes, which hold the time
)
@pytest.mark.gen_test
async def test_a_gzip_body_that_is_broken_or_cut_short_is_a_599(upstream, packed):
    up = upstream(answering(reply(fields=(b"Content-Encoding: gzip",), body=packed)))
    async with wire_client() as client:
        with pytest.raises(HTTPClientError, match="gzip") as raised:
            await client.fetch(up.url)
    assert raised.value.code == 599


@pytest.mark.gen_test
async def test_a_head_answer_with_gzip_is_not_a_broken_body(upstream):
    up = upstream(answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n"))
    async with wire_client() as client:
        assert (await client.fetch(up.url, method="HEAD")).body == b""


@pytest.mark.gen_test
async def test_row_25_a_buffered_body_is_bounded_and_a_streamed_one_is_not(upstream):
    bomb = gzip.compress(bytes(MAX_BUFFERED_BODY + 1), 1)
    up = upstream(answering(reply(fields=(b"Content-Encoding: gzip",), body=bomb)))
    size = 0

    def count(chunk: bytes) -> None:
        nonlocal size
        size += len(chunk)

    async with wire_client() as client:
        with pytest.raises(HTTPClientError, match="larger than"):
            await client.fetch(up.url)
        await client.fetch(up.url, streaming_callback=count)
    assert size == MAX_BUFFERED_BODY + 1


@pytest.mark.gen_test
async def test_row_25_a_body_with_a_too_large_content_length_fails_at_once(upstream):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BUFFERED_BODY + 1))
        await peer.ended()

    up = upstream(script)
    async with wire_client() as client:
        with pytest.raises(HTTPClientError, match="larger than"):
            await client.fetch(up.url)
        await eventually(lambda: not up.open)


ACCEPTED = {
    "row 11: trailers": b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n",
    "row 12: chunk extensions": b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0;c\r\n\r\n",
}


@pytest.mark.parametrize("rest", ACCEPTED.values(), ids=ACCEPTED)
@pytest.mark.gen_test
async def test_responses_that_other_clients_misread(upstream, rest):
    up = upstream(answering(b"HTTP/1.1 200 OK\r\n" + rest))
    async with wire_client() as client:
        for _ in range(2):
            response = await client.fetch(up.url)
            assert response.body == b"ok"
            assert "X-Trailer" not in response.headers
    assert up.accepted == 1


# ---- credentials


@pytest.mark.parametrize(
    ("userinfo", "options", "credentials"),
    [
        ("", {"auth_username": "me", "auth_password": "pässword"}, "me:pässword"),
        ("", {"auth_username": "me", "auth_mode": "basic"}, "me:"),
        ("user:p%40ss:x@", {}, "user:p@ss:x"),
        ("user@", {}, "user:"),
        ("user:pw@", {"auth_username": "me"}, "user:pw"),
    ],
)
@pytest.mark.gen_test
async def test_basic_credentials(upstream, userinfo, options, credentials):
    up = upstream()
    async with wire_client() as client:
        await client.fetch(up.url.replace("://", "://" + userinfo), **options)
    assert up.requests[0].get(b"authorization") == b"Basic " + base64.b64encode(credentials.encode())
    assert up.requests[0].get(b"host") == b"127.0.0.1:%d" % up.port


# ---- redirects


@pytest.mark.gen_test
async def test_a_redirect_is_followed_over_the_same_connection(upstream):
    up = upstream(answering(redirect("/b?c"), redirect("d"), reply()))
    seen, lines = [], []
    async with wire_client() as client:
        request = HTTPRequest(up.url + "/a/", streaming_callback=seen.append, header_callback=lines.append)
        response = await client.fetch(request)
    assert [each.target for each in up.requests] == [b"/a/", b"/b?c", b"/d"]
    assert response.effective_url == up.url + "/d"
    assert response.request is request
    assert seen == [b"ok"]  # of the answer that is the caller's, and only of that
    assert len([line for line in lines if line.startswith("HTTP/")]) == 1
    assert up.accepted == 1


@pytest.mark.gen_test
async def test_row_21_a_locations_bytes_are_kept(upstream):
    up = upstream(answering(redirect("/caf\xe9%2F?x=%7e"), reply()))
    async with wire_client() as client:
        await client.fetch(up.url)
    assert up.requests[1].target == b"/caf\xc3\xa9%2F?x=%7e"


@pytest.mark.parametrize(("limit", "asked"), [(0, 1), (1, 2), (3, 4), (None, 6)])
@pytest.mark.gen_test
async def test_redirects_are_followed_as_often_as_allowed(upstream, limit, asked):
    up = upstream(answering(redirect("/again")))
    async with wire_client() as client:
        with pytest.raises(HTTPClientError) as raised:
            await client.fetch(up.url, max_redirects=limit)
    assert (raised.value.code, raised.value.response.body, len(up.requests)) == (302, b"moved", asked)


@pytest.mark.gen_test
async def test_redirects_need_not_be_followed(upstream):
    up = upstream(answering(redirect("/b")))
    async with wire_client() as client:
        response = await client.fetch(up.url, follow_redirects=False, raise_error=False)
    assert (response.code, response.headers["Location"], len(up.requests)) == (302, "/b", 1)


@pytest.mark.parametrize("status", [b"300 Multiple Choices", b"304 Not Modified", b"399 X"])
@pytest.mark.gen_test
async def test_other_statuses_and_a_missing_location_are_not_redirects(upstream, status):
    up = upstream(answering(redirect("/b", status, b"")))
    bare = upstream(answering(reply(b"302 Found")))
    async with wire_client() as client:
        assert (await client.fetch(up.url, raise_error=False)).code == int(status[:3])
        assert (await client.fetch(bare.url, raise_error=False)).code == 302
    assert (len(up.requests), len(bare.requests)) == (1, 1)


@pytest.mark.parametrize(
    ("status", "method", "following"),
    [
        (b"301", "POST", "GET"),
        (b"302", "POST", "GET"),
        (b"303", "POST", "GET"),
        (b"303", "PUT", "GET"),
        (b"303", "HEAD", "HEAD"),
        (b"301", "PUT", "PUT"),
        (b"302", "DELETE", "DELETE"),
        (b"307", "POST", "POST"),
        (b"308", "PATCH", "PATCH"),
    ],
)
@pytest.mark.gen_test
async def test_a_redirect_keeps_or_changes_the_method(upstream, status, method, following):
    up = upstream(answering(redirect("/b", status + b" X", b""), reply(body=b"")))
    body = b"abc" if method in ("POST", "PUT", "PATCH") else None
    async with wire_client() as client:
        await client.fetch(up.url, method=method, body=body, headers={"Content-Type": "text/plain"})
    second = up.requests[1]
    kept = method == following
    assert second.method.decode() == following
    assert second.body == ((body or b"") if kept else b"")
    assert second.all(b"content-type") == ([b"text/plain"] if kept else [])


@pytest.mark.gen_test
async def test_a_redirect_to_another_origin_strips_credentials(upstream):
    other = upstream()
    up = upstream(answering(redirect(other.url.replace("://", "://evil:evil@"))))
    headers = HTTPHeaders({"Cookie": "a", "Authorization": "Bearer x", "X-Kept": "1", "Host": "mine"})
    async with wire_client() as client:
        response = await client.fetch(up.url, headers=headers)
        await client.fetch(up.url, auth_username="me", auth_password="pw")
        await client.fetch(up.url.replace("://", "://me:pw@"))
    assert up.requests[0].get(b"cookie") == b"a"
    assert all(each.get(b"authorization") for each in up.requests)
    for each in other.requests:
        assert not each.all(b"authorization") + each.all(b"cookie")
        assert each.get(b"host") == b"127.0.0.1:%d" % other.port
    assert other.requests[0].get(b"x-kept") == b"1"
    assert response.effective_url == other.url


@pytest.mark.gen_test
async def test_a_redirect_within_the_origin_keeps_credentials(upstream):
    up = upstream(answering(redirect("/b"), reply()))
    async with wire_client() as client:
        await client.fetch(up.url, headers={"Cookie": "a"}, auth_username="me")
    assert up.requests[1].get(b"cookie") == b"a"
    assert up.requests[1].get(b"authorization") == up.requests[0].get(b"authorization")


@pytest.mark.parametrize("location", ["unix:/run/app.sock", "unix://app.sock", "file:///etc/passwd", "ftp://a/"])
@pytest.mark.gen_test
async def test_a_redirect_does_not_lead_out_of_http(upstream, location):
    up = upstream(answering(redirect(location)))
    async with wire_client() as client:
        with pytest.raises(ValueError, match="URL"):
            await client.fetch(up.url)


@pytest.mark.gen_test
async def test_the_clients_own_defaults_hold_for_every_hop(upstream):
    up = upstream(answering(redirect("/b"), reply()))
    client = PooledHTTPClient(force_instance=True, defaults={"user_agent": "Gateway"})
    await client.fetch(up.url)
    client.close()
    assert [each.get(b"user-agent") for each in up.requests] == [b"Gateway", b"Gateway"]


# ---- TLS of the request's own (row 29)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.gen_test
async def test_row_29_a_requests_own_tls_options_are_honoured_and_not_pooled(authority, tmp_path):
    trusted = ca_file(authority, tmp_path)
    async with tls_upstream(authority) as up, wire_client() as client:
        with pytest.raises(HTTPClientError, match="TLS"):
            await client.fetch(up.url)
        own = [
            {"ca_certs": trusted},
            {"validate_cert": False},
            {"ssl_options": ssl.create_default_context(cafile=trusted)},
        ]
        for accepted, options in enumerate(own, start=1):
            assert (await client.fetch(up.url, **options)).body == b"ok"
            await eventually(lambda: not up.open)
            assert up.accepted == accepted
        with pytest.raises(HTTPClientError, match="TLS"):
            await client.fetch(up.url)


@pytest.mark.gen_test
async def test_row_29_a_trusted_kept_connection_does_not_serve_a_request_with_its_own_options(authority, tmp_path):
    async with tls_upstream(authority) as up, wire_client(tls_ca_file=ca_file(authority, tmp_path)) as client:
        await client.fetch(up.url)
        await client.fetch(up.url)
        assert up.accepted == 1
        with pytest.raises(HTTPClientError, match="TLS"):
            await client.fetch(up.url, ssl_options=ssl.create_default_context())
        assert (await client.fetch(up.url)).code == 200
        assert up.accepted == 1


@pytest.mark.gen_test
async def test_row_29_a_client_certificate(authority, tmp_path):
    certificate = authority.issue_cert("client@example.test")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(str(cert))
    certificate.private_key_pem.write_to_path(str(key))
    trusted = ca_file(authority, tmp_path)
    async with tls_upstream(authority, clients=authority) as up, wire_client(tls_ca_file=trusted) as client:
        with pytest.raises(HTTPClientError):
            await client.fetch(up.url)
        own = {"ca_certs": trusted, "client_cert": str(cert), "client_key": str(key)}
        assert (await client.fetch(up.url, **own)).body == b"ok"


@pytest.mark.gen_test
async def test_tls_options_mean_nothing_to_plain_http(upstream):
    up = upstream()
    async with wire_client() as client:
        for _ in range(2):
            await client.fetch(up.url, validate_cert=False)
    assert up.accepted == 1


# ---- as Tornado's client


@pytest.fixture
def configured(io_loop):
    before = AsyncHTTPClient.configured_class()
    AsyncHTTPClient.configure(PooledHTTPClient)
    yield
    AsyncHTTPClient.configure(before)


@pytest.mark.gen_test
async def test_the_client_can_be_installed_with_configure(upstream, configured):
    up = upstream()
    client = AsyncHTTPClient()
    assert type(client) is PooledHTTPClient
    assert AsyncHTTPClient() is client
    own = AsyncHTTPClient(force_instance=True)
    assert own is not client
    for each in (client, client, own):
        assert (await each.fetch(up.url)).body == b"ok"
    client.close()
    own.close()
    assert up.accepted == 2
    renewed = AsyncHTTPClient()
    assert renewed is not client
    renewed.close()


@pytest.mark.gen_test
async def test_row_31_instrumentation_of_async_http_client_sees_every_fetch(upstream, monkeypatch):
    seen = []
    original = AsyncHTTPClient.fetch

    def watched(self, request, *args, **kwargs):
        seen.append(request)
        return original(self, request, *args, **kwargs)

    monkeypatch.setattr(AsyncHTTPClient, "fetch", watched)
    up = upstream()
    async with wire_client() as client:
        await client.fetch(up.url)
    assert seen == [up.url]


@pytest.mark.gen_test
async def test_row_24_fetches_do_not_queue(upstream):
    up = upstream(silent)
    async with wire_client() as client:
        fetching = [client.fetch(up.url) for _ in range(50)]
        await eventually(lambda: len(up.requests) == 50)
        for each in fetching:
            each.cancel()


@pytest.mark.gen_test
async def test_a_request_object_is_not_changed(upstream):
    up = upstream(answering(redirect("/b"), reply()))
    request = HTTPRequest(up.url, method="POST", body=b"abc", headers={"X": "1"}, auth_username="me")
    async with wire_client() as client:
        await client.fetch(request)
    assert (request.url, request.method, request.body, dict(request.headers)) == (up.url, "POST", b"abc", {"X": "1"})


# ---- a request to an origin that no URL names


@pytest.mark.gen_test
async def test_a_direct_request_goes_to_one_address_of_a_host(upstream):
    up = upstream()
    origin = Origin("http", "no.such.host.test", up.port, address="127.0.0.1")
    async with wire_client() as client:
        response = await client.fetch(DirectRequest(origin, b"/caf\xc3\xa9//a?%zz"))
    assert response.code == 200
    (request,) = up.requests
    assert request.target == b"/caf\xc3\xa9//a?%zz"
    assert request.fields == [(b"Host", b"no.such.host.test:%d" % up.port)]


@pytest.mark.gen_test
async def test_a_direct_request_goes_to_a_unix_socket(tmp_path):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply(body=b"from a socket"))
        writer.close()

    path = str(tmp_path / "app.sock")
    async with await asyncio.start_unix_server(answer, path), wire_client() as client:
        response = await client.fetch(DirectRequest(Origin("http", "localhost", 0, path), b"/"))
    assert response.body == b"from a socket"


@pytest.mark.gen_test
async def test_a_direct_request_has_a_connection_of_its_own(upstream):
    up = upstream()
    async with wire_client() as client:
        await client.fetch(up.url)
        for number in (2, 3):
            await client.fetch(DirectRequest(origin_of(up), b"/"))
            await eventually(lambda number=number: (up.accepted, up.open) == (number, 1))
        await client.fetch(up.url)
    assert up.accepted == 3


@pytest.mark.gen_test
async def test_a_direct_request_follows_no_redirect(upstream):
    up = upstream(answering(redirect("/elsewhere")))
    async with wire_client() as client:
        response = await client.fetch(DirectRequest(origin_of(up), b"/"), raise_error=False)
    assert (response.code, len(up.requests)) == (302, 1)


@pytest.mark.parametrize("length", [b"", b"Content-Length: %d\r\n" % (MAX_BUFFERED_BODY + 1)], ids=["none", "huge"])
@pytest.mark.parametrize("most", [0, 3, 4])
@pytest.mark.gen_test
async def test_a_direct_request_reads_no_more_of_a_body_than_it_asks_for(upstream, most, length):
    async def pours(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        for _ in range(5):
            await peer.send(b"a")
            await asyncio.sleep(0.01)  # for the pieces to come one by one
        await peer.ended()

    up = upstream(pours)
    async with wire_client() as client:
        response = await client.fetch(DirectRequest(origin_of(up), b"/", most_of_body=most))
        await eventually(lambda: not up.open)
    assert most < len(response.body) <= 5
    assert set(response.body) == set(b"a")


@pytest.mark.parametrize("upgrades", [True, False])
@pytest.mark.gen_test
async def test_a_101_resolves_a_direct_request_that_asks_for_an_upgrade(upstream, upgrades):
    async def switches(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nnot HTTP")
        await peer.ended()

    up = upstream(switches)
    async with wire_client() as client:
        response = None
        with contextlib.suppress(HTTPClientError):
            request = DirectRequest(origin_of(up), b"/", upgrades=upgrades, headers={"Sec-WebSocket-Key": "a"})
            response = await client.fetch(request, raise_error=False)
        await eventually(lambda: not up.open)
    assert (response and response.code) == (101 if upgrades else None)
    assert (b"Sec-WebSocket-Key", b"a") in up.requests[0].fields
