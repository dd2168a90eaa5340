"""The server's side of the wire, on real sockets: what stands on the wire, what delegates see, and when it ends."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, HTTPInputError, ResponseStartLine
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler, StaticFileHandler, stream_request_body
from tornado.websocket import WebSocketHandler

from tests.support.serving import Delegate, Request, Serving, nothing
from tests.support.sockets import Client, Ended, chunked, eventually, get
from tests.wire.conftest import Listen
from tornado_gateway.wire.http1 import MAX_REQUEST_FIELDS, MAX_REQUEST_HEAD, MAX_TARGET
from tornado_gateway.wire.server_connection import FRESH_GRACE, LINGER, HeadDelegate
from tornado_gateway.wire.server_exchange import ServerExchange

MEGABYTE = 1024 * 1024
PIECE = bytes(64 * 1024)


async def is_open(client: Client) -> bool:
    """Whether the connection has neither ended nor anything to say, a moment from now."""
    with suppress(TimeoutError):
        await client.more(patience=0.05)
        return False
    return True


# ---------------------------------------------------------------- connections that stay


@pytest.mark.gen_test
async def test_a_connection_serves_one_request_after_another(listen: Listen) -> None:
    serving = await listen(Delegate())
    client = await serving.client()
    for target in (b"/1", b"/2", b"/3"):
        response = await client.ask(get(target))
        assert (response.status, response.body, response.get(b"connection")) == (200, b"ok", None)
    assert [request.target for request in serving.server.delegate.requests] == ["/1", "/2", "/3"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("request_", "connection", "stays"),
    [
        (get(b"/"), None, True),
        (get(b"/", b"Connection: close"), b"close", False),
        (b"GET / HTTP/1.0\r\n\r\n", b"close", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"keep-alive", True),
    ],
    ids=["1.1", "1.1 close", "1.0", "1.0 keep-alive"],
)
async def test_both_sides_agree_whether_the_connection_stays(
    listen: Listen, request_: bytes, connection: bytes | None, stays: bool
) -> None:
    client = await (await listen(Delegate())).client()
    response = await client.ask(request_)
    assert (response.body, response.get(b"connection")) == (b"ok", connection)
    if stays:
        assert (await client.ask(request_)).body == b"ok"
    else:
        assert await client.ended()


@pytest.mark.gen_test
async def test_a_response_without_length_is_chunked_or_ends_with_the_connection(listen: Listen) -> None:
    def answer(request: Request) -> None:
        request.begin()
        for piece in (b"a", b"", b"bc"):  # an empty piece must not look like the last chunk
            request.exchange.write(piece)
        request.exchange.finish()

    serving = await listen(Delegate(answer))
    client = await serving.client()
    await client.send(get(b"/"))
    assert (await client.head()).get(b"transfer-encoding") == b"chunked"
    assert await client.until(b"0\r\n\r\n") == b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
    old = await serving.client()
    response = await old.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (response.body, response.complete) == (b"abc", True)
    assert (response.all(b"transfer-encoding"), response.get(b"connection")) == ([], b"close")


@pytest.mark.gen_test
async def test_trailers_follow_a_chunked_response(listen: Listen) -> None:
    def answer(request: Request) -> None:
        request.begin()
        request.exchange.write(b"a")
        request.exchange.finish(b"x-sum: 1\r\n")

    client = await (await listen(Delegate(answer))).client()
    response = await client.ask(get(b"/"))
    assert (response.body, response.trailers) == (b"a", [(b"x-sum", b"1")])


@pytest.mark.gen_test
@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
async def test_a_response_without_a_body_leaves_none_on_the_wire(listen: Listen, method: bytes, status: int) -> None:
    def answer(request: Request) -> None:
        request.exchange.start_response(status, b"", b"", length=None, dated=False)
        request.exchange.write(b"never sent")
        request.exchange.finish()

    client = await (await listen(Delegate(answer))).client()
    for _ in range(2):
        response = await client.ask(get(b"/", method=method), b"HEAD")
        assert (response.status, response.all(b"transfer-encoding")) == (status, [])
    assert client.buffer == b""


@pytest.mark.gen_test
async def test_a_date_is_added_unless_the_response_has_one(listen: Listen) -> None:
    def answer(request: Request) -> None:
        dated = request.target == "/dated"
        lines = b"Content-Length: 0\r\n" + (b"Date: then\r\n" if dated else b"")
        request.exchange.start_response(200, b"", lines, length=0, dated=dated)
        request.exchange.finish()

    client = await (await listen(Delegate(answer))).client()
    assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", (await client.ask(get(b"/"))).get(b"date") or b"")
    assert (await client.ask(get(b"/dated"))).get(b"date") == b"then"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [(404, b"", b"Not Found"), (299, b"", b"Unknown"), (200, b"Fine", b"Fine")],
)
async def test_a_status_has_its_standard_phrase_unless_one_is_given(
    listen: Listen, status: int, reason: bytes, line: bytes
) -> None:
    def answer(request: Request) -> None:
        request.exchange.start_response(status, reason, b"Content-Length: 0\r\n", length=0, dated=False)
        request.exchange.finish()

    client = await (await listen(Delegate(answer))).client()
    assert (await client.ask(get(b"/"))).start == b"HTTP/1.1 %d %b" % (status, line)


@pytest.mark.gen_test
async def test_a_head_can_leave_before_its_body(listen: Listen) -> None:
    delegate = Delegate(lambda request: (request.begin(2), request.exchange.write(b"")))
    client = await (await listen(delegate)).client()
    await client.send(get(b"/"))
    assert (await client.head()).status == 200
    delegate.requests[0].exchange.write(b"ok")
    assert await client.exactly(2) == b"ok"
    delegate.requests[0].exchange.finish()


@pytest.mark.gen_test
async def test_a_large_piece_leaves_whole_behind_its_head(listen: Listen) -> None:
    body = bytes(range(256)) * 1024
    client = await (await listen(Delegate(lambda request: request.answer(body)))).client()
    assert (await client.ask(get(b"/"))).body == body


@pytest.mark.gen_test
async def test_empty_lines_before_a_request_are_ignored(listen: Listen) -> None:
    """RFC 9112 §2.2. Sixteen megabytes of them must not cost more than reading them."""
    client = await (await listen(Delegate())).client()
    assert (await client.ask(b"\r\n" + get(b"/"))).status == 200
    assert (await client.ask(b"\r\n" * (8 * MEGABYTE) + get(b"/"))).status == 200


@pytest.mark.gen_test
async def test_a_head_may_come_byte_by_byte(listen: Listen) -> None:
    client = await (await listen(Delegate())).client()
    for byte in get(b"/slow", method=b"POST", body=b"abc"):
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.response()).status == 200


# ---------------------------------------------------------------- pipelining


@pytest.mark.gen_test
async def test_pipelined_requests_are_answered_in_order_and_begun_one_at_a_time(listen: Listen) -> None:
    delegate = Delegate(nothing)
    client = await (await listen(delegate)).client()
    await client.send(get(b"/1") + get(b"/2", method=b"POST", body=b"two") + get(b"/3"))
    for number in (1, 2, 3):
        await eventually(lambda number=number: len(delegate.requests) == number and delegate.requests[-1].is_whole)
        delegate.requests[-1].answer(b"%d" % number)
        assert (await client.response()).body == b"%d" % number
    assert delegate.requests[1].body == b"two"


@pytest.mark.gen_test(timeout=20)
async def test_a_flood_of_requests_behind_a_stalled_one_is_not_read(listen: Listen) -> None:
    count = 30_000
    delegate = Delegate(lambda request: None if request.target == "/first" else request.answer())
    serving = await listen(delegate)
    client = await serving.client()
    flood = asyncio.ensure_future(client.send(get(b"/first") + get(b"/") * count))
    await eventually(lambda: serving.server.connections and serving.connection.is_paused)
    assert not serving.connection.transport.is_reading()
    assert len(delegate.requests) == 1
    delegate.requests[0].answer(b"first")
    assert (await client.response()).body == b"first"
    for _ in range(count):
        await client.response()
    await flood
    assert len(delegate.requests) == count + 1
    assert serving.connection.transport.is_reading()


@pytest.mark.gen_test
async def test_a_request_that_cannot_be_read_is_refused_in_its_turn(listen: Listen) -> None:
    client = await (await listen(Delegate())).client()
    await client.send(get(b"/1") + b"NOT HTTP\r\n\r\n" + get(b"/3"))
    assert [(await client.response()).status, (await client.response()).status] == [200, 400]
    assert await client.ended()


# ---------------------------------------------------------------- request bodies


@pytest.mark.gen_test
async def test_a_chunked_request_arrives_without_its_framing(listen: Listen) -> None:
    delegate = Delegate()
    client = await (await listen(delegate)).client()
    body = b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 1\r\n\r\n"
    response = await client.ask(get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + body)
    assert response.status == 200
    (request,) = delegate.requests
    assert (request.body, request.exchange.trailers) == (b"abcde", [(b"x-sum", b"1")])
    assert "X-Sum" not in request.headers
    assert (await client.ask(get(b"/next"))).status == 200


@pytest.mark.gen_test
async def test_a_body_is_not_read_while_its_delegate_is_busy(listen: Listen) -> None:
    """The request's end is announced only when the last piece was dealt with."""
    gates: list[asyncio.Future[None]] = []

    def busy(_: Request) -> asyncio.Future[None]:
        gates.append(asyncio.get_running_loop().create_future())
        return gates[-1]

    delegate = Delegate(on_chunk=busy)
    serving = await listen(delegate)
    client = await serving.client()
    sent = asyncio.ensure_future(client.send(get(b"/", method=b"PUT", body=bytes(4 * MEGABYTE))))
    size = 0
    while size < 4 * MEGABYTE:
        await eventually(lambda: gates and not gates[-1].done())
        assert not serving.connection.transport.is_reading()
        assert not delegate.requests[0].is_whole
        size = len(delegate.requests[0].body)
        serving.sweep_after(3600)  # it is not the client that is waited for
        gates[-1].set_result(None)
    await sent
    assert (await client.response()).status == 200


@pytest.mark.gen_test
async def test_a_body_waits_until_its_head_was_dealt_with(listen: Listen) -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    delegate = Delegate(on_head=lambda _: gate)
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(get(b"/", method=b"POST", body=b"abc"))
    await eventually(lambda: delegate.requests)
    assert not delegate.requests[0].chunks
    gate.set_result(None)
    assert (await client.response()).status == 200
    assert delegate.requests[0].chunks == [b"abc"]


# ---------------------------------------------------------------- Expect (RFC 9110 §10.1.1)

EXPECTING = get(b"/", b"Expect: 100-continue", b"Content-Length: 3", method=b"POST")


@pytest.mark.gen_test
async def test_the_body_is_asked_for_once_the_head_is_admitted(listen: Listen) -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    delegate = Delegate(on_head=lambda _: gate)
    client = await (await listen(delegate)).client()
    await client.send(EXPECTING)
    await eventually(lambda: delegate.requests)
    assert await is_open(client)
    gate.set_result(None)
    assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await client.ask(b"abc")).status == 200
    assert delegate.requests[0].body == b"abc"


@pytest.mark.gen_test
async def test_a_final_answer_stands_instead_of_100(listen: Listen) -> None:
    client = await (await listen(Delegate(on_head=lambda request: request.answer(status=401)))).client()
    response = await client.ask(EXPECTING)
    assert (response.status, response.interim, response.get(b"connection")) == (401, [], b"close")


@pytest.mark.gen_test
async def test_a_head_delegate_decides_itself_when_to_ask_for_the_body(listen: Listen) -> None:
    class Head(HeadDelegate, Request):
        def head_received(self) -> None:
            assert self.exchange.head.target == b"/"

    delegate = Delegate(lambda request: request.answer(request.body))
    delegate.start_request = lambda _, exchange: (
        delegate.requests.append(Head(exchange, delegate)) or delegate.requests[-1]
    )
    client = await (await listen(delegate)).client()
    await client.send(EXPECTING)
    await eventually(lambda: delegate.requests)
    assert await is_open(client)
    delegate.requests[0].exchange.write_interim(103, b"Link: </a>\r\n")
    delegate.requests[0].exchange.write_interim(100, b"")
    response = await client.ask(b"abc")
    assert [interim.status for interim in response.interim] == [103, 100]
    assert response.body == b"abc"


@pytest.mark.gen_test
async def test_an_old_client_gets_no_interim_response(listen: Listen) -> None:
    delegate = Delegate(on_head=lambda request: request.exchange.write_interim(103, b""))
    client = await (await listen(delegate)).client()
    await client.send(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert await is_open(client)
    response = await client.ask(b"abc")
    assert (response.status, response.interim) == (200, [])


# ---------------------------------------------------------------- limits


def _fields(count: int) -> list[bytes]:
    return [b"x: y"] * count


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(b"/" + b"a" * (MAX_TARGET - 1)), 200),
        (get(b"/" + b"a" * MAX_TARGET), 414),
        (b"GET /" + b"a" * (MAX_TARGET + 200), 414),
        (get(b"/", *_fields(MAX_REQUEST_FIELDS - 1)), 200),
        (get(b"/", *_fields(MAX_REQUEST_FIELDS)), 431),
        (get(b"/", b"x: " + b"y" * (MAX_REQUEST_HEAD - 100)), 200),
        (get(b"/", b"x: " + b"y" * MAX_REQUEST_HEAD), 431),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * MAX_REQUEST_HEAD, 431),
        (get(b"/", method=b"POST", body=b"12345678"), 200),
        (get(b"/", b"Content-Length: 9", method=b"POST"), 413),
        (get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + chunked(b"1234", b"5678"), 200),
        (get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"4\r\n1234\r\n5\r\n56789\r\n", 413),
        (get(b"/", b"Expect: 200-ok"), 417),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (get(b"/", b"Content-Length: 3", b"Transfer-Encoding: chunked", method=b"POST") + chunked(b"abc"), 400),
        (get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    ],
    ids=[
        "longest target", "target too long", "partial target too long", "most fields", "too many fields",
        "longest head", "head too long", "partial head too long", "largest body", "body too large by length",
        "largest body in chunks", "body too large by chunks", "unknown expectation", "HTTP/2.0", "h2 preface",
        "HTTP/0.9", "TLS", "bare LF", "CL.TE", "funky chunk",
    ],
)  # fmt: skip
async def test_what_goes_beyond_a_limit_is_answered_exactly_and_ends_the_connection(
    listen: Listen, request_: bytes, status: int
) -> None:
    client = await (await listen(Delegate(), max_body_bytes=8)).client()
    response = await client.ask(request_)
    assert (response.status, response.complete) == (status, True)
    if status == 200:
        assert response.get(b"connection") is None
    else:
        assert response.get(b"connection") == b"close"
        assert await client.ended()


@pytest.mark.gen_test
async def test_a_delegate_learns_that_its_body_is_too_large_and_may_answer(listen: Listen) -> None:
    def start_request(_: object, exchange: ServerExchange) -> Request:
        request = Request(exchange, delegate)
        exchange.set_close_callback(lambda: request.answer(b"mine", status=exchange.error.status))
        return request

    delegate = Delegate()
    delegate.start_request = start_request
    client = await (await listen(delegate, max_body_bytes=3)).client()
    response = await client.ask(get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"4\r\nabcd\r\n")
    assert (response.status, response.body) == (413, b"mine")
    assert await client.ended()


@pytest.mark.gen_test
async def test_a_delegate_that_answers_after_a_refusal_is_not_heard(listen: Listen) -> None:
    delegate = Delegate()
    client = await (await listen(delegate, max_body_bytes=3)).client()
    response = await client.ask(get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"4\r\nabcd\r\n")
    (request,) = delegate.requests
    assert (response.status, request.is_cut, request.is_left, request.is_whole) == (413, True, True, False)
    request.begin(2)
    with pytest.raises(StreamClosedError):
        await request.exchange.write(b"ok")
    request.exchange.finish()
    assert client.buffer == b""
    assert await client.ended()


@pytest.mark.gen_test
async def test_a_response_begun_is_reset_when_its_request_turns_out_wrong(listen: Listen) -> None:
    delegate = Delegate(on_head=lambda request: (request.begin(100), request.exchange.write(b""))[0])
    client = await (await listen(delegate)).client()
    await client.send(get(b"/", b"Transfer-Encoding: chunked", method=b"POST"))
    assert (await client.head()).status == 200
    await client.send(b"nonsense\r\n")
    assert not await client.ended()


@pytest.mark.gen_test
async def test_tornado_finding_a_request_malformed_is_a_400(listen: Listen) -> None:
    def on_head(_: Request) -> None:
        raise HTTPInputError("no")

    client = await (await listen(Delegate(on_head=on_head))).client()
    assert (await client.ask(get(b"/", method=b"POST", body=b"abc"))).status == 400


@pytest.mark.gen_test
async def test_tornado_finding_a_request_malformed_later_is_a_400(listen: Listen) -> None:
    async def on_head(_: Request) -> None:
        await asyncio.sleep(0)
        raise HTTPInputError("no")

    client = await (await listen(Delegate(on_head=on_head))).client()
    assert (await client.ask(get(b"/", method=b"POST", body=b"abc"))).status == 400


# ---------------------------------------------------------------- time


@pytest.mark.gen_test
async def test_a_head_that_does_not_come_whole_in_time_is_a_408(listen: Listen) -> None:
    serving = await listen(Delegate(), header_timeout=10)
    client = await serving.client()
    await client.send(b"GET / HT")
    await eventually(lambda: serving.server.connections)
    await eventually(lambda: serving.connection._buffer)
    serving.sweep_after(9)
    assert await is_open(client)
    serving.sweep_after(11)
    assert (await client.response()).status == 408
    assert await client.ended()


@pytest.mark.gen_test
async def test_a_second_head_has_its_own_time(listen: Listen) -> None:
    serving = await listen(Delegate(), header_timeout=10, keepalive_timeout=95)
    client = await serving.client()
    await client.ask(get(b"/"))
    serving.sweep_after(90)
    await client.send(b"GET / HT")
    await eventually(lambda: serving.connection._buffer)
    serving.sweep_after(9)
    assert await is_open(client)
    serving.sweep_after(11)
    assert (await client.response()).status == 408


@pytest.mark.gen_test
@pytest.mark.parametrize("requests", [0, 1])
async def test_an_idle_connection_ends_without_a_word(listen: Listen, requests: int) -> None:
    serving = await listen(Delegate(), header_timeout=10, keepalive_timeout=10)
    client = await serving.client()
    for _ in range(requests):
        await client.ask(get(b"/"))
    await eventually(lambda: serving.server.connections)
    serving.sweep_after(9)
    assert await is_open(client)
    serving.sweep_after(11)
    with pytest.raises(Ended) as ended:
        await client.more()
    assert ended.value.clean


@pytest.mark.gen_test
async def test_a_body_that_stalls_is_a_408(listen: Listen) -> None:
    delegate = Delegate()
    serving = await listen(delegate, client_idle_timeout=60)
    client = await serving.client()
    await client.send(get(b"/", b"Content-Length: 9", method=b"POST") + b"abc")
    await eventually(lambda: delegate.requests and delegate.requests[0].chunks)
    serving.sweep_after(59)
    assert await is_open(client)
    serving.sweep_after(61)
    assert (await client.response()).status == 408
    assert (delegate.requests[0].is_cut, delegate.requests[0].is_whole) == (True, False)
    assert await client.ended()


@pytest.mark.gen_test
async def test_nobody_is_hurried_while_the_delegate_is_at_work(listen: Listen) -> None:
    delegate = Delegate(nothing)
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(get(b"/"))
    await eventually(lambda: delegate.requests)
    serving.sweep_after(1e6)
    delegate.requests[0].answer()
    assert (await client.response()).status == 200


async def _stall(listen: Listen, body: bytes, *, length: int | None = None) -> tuple[Serving, Client, Request]:
    """A client that reads nothing of a response too large for all the buffers between."""

    def answer(request: Request) -> None:
        request.begin(length if length is not None else len(body))
        request.exchange.write(body)

    delegate = Delegate(answer)
    serving = await listen(delegate, client_idle_timeout=60, keepalive_timeout=95)
    client = await serving.client(receive_buffer=64 * 1024)
    await client.send(get(b"/"))
    await eventually(lambda: delegate.requests and not serving.connection.drained.done())
    await _settled(serving)
    return serving, client, delegate.requests[0]


async def _settled(serving: Serving) -> None:
    """Wait until the kernel takes no more."""
    size, same = -1, 0
    while same < 20:
        await asyncio.sleep(0.001)
        now = serving.connection.transport.get_write_buffer_size()
        same = same + 1 if now == size else 0
        size = now


@pytest.mark.gen_test(timeout=20)
async def test_a_reader_that_stalls_is_reset(listen: Listen) -> None:
    serving, client, request = await _stall(listen, bytes(32 * MEGABYTE), length=33 * MEGABYTE)
    serving.sweep_after(59)
    assert serving.server.connections
    serving.sweep_after(61)
    await eventually(lambda: not serving.server.connections)
    assert request.is_left
    assert request.exchange.error.status == 408
    assert not await client.ended()


@pytest.mark.gen_test(timeout=20)
@pytest.mark.parametrize("finished", [False, True])
async def test_a_reader_that_is_slow_but_moves_lives(listen: Listen, finished: bool) -> None:
    """Also when the response was handed over whole: neither a keep-alive timeout nor a 408 may cut it."""
    body = bytes(range(256)) * (128 * 1024)
    serving, client, request = await _stall(listen, body)
    if finished:
        request.exchange.finish()
    for _ in range(5):
        unsent = serving.connection.transport.get_write_buffer_size()
        while serving.connection.transport.get_write_buffer_size() == unsent:
            await client.more()
        await _settled(serving)
        serving.sweep_after(300)
        assert serving.server.connections
    if not finished:
        request.exchange.finish()
    response = await client.response()
    assert response.body == body
    assert (await client.ask(get(b"/", method=b"HEAD"), b"HEAD")).status == 200


@pytest.mark.gen_test(timeout=20)
async def test_a_last_response_is_not_waited_for_for_ever(listen: Listen) -> None:
    """Whoever asks for "Connection: close" and never reads still ends in time, by RST, without a second answer."""
    delegate = Delegate(lambda request: request.answer(bytes(32 * MEGABYTE)))
    serving = await listen(delegate, client_idle_timeout=60)
    client = await serving.client(receive_buffer=64 * 1024)
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    await eventually(lambda: delegate.requests)
    await _settled(serving)
    serving.sweep_after(61)  # it has sent something since its time began
    serving.sweep_after(200)
    await eventually(lambda: not serving.server.connections)
    assert not await client.ended()


@pytest.mark.gen_test(timeout=20)
async def test_an_idle_connection_has_its_full_time_after_a_slow_response(listen: Listen) -> None:
    serving, client, request = await _stall(listen, bytes(32 * MEGABYTE))
    request.exchange.finish()
    assert (await client.response()).complete
    serving.sweep_after(94)
    assert (await client.ask(get(b"/", method=b"HEAD"), b"HEAD")).status == 200


# ---------------------------------------------------------------- room


@pytest.mark.gen_test
async def test_too_many_connections_are_refused_until_there_is_room(listen: Listen) -> None:
    serving = await listen(Delegate(), max_connections=2)
    first, second = await serving.client(), await serving.client()
    for client in (first, second):
        assert (await client.ask(get(b"/"))).status == 200
    for _ in range(5):
        refused = await serving.client()
        response = await refused.ask(get(b"/"))
        assert (response.status, response.get(b"retry-after"), response.get(b"connection")) == (503, b"1", b"close")
    assert (await second.ask(get(b"/"))).status == 200
    first.close()
    await eventually(lambda: len(serving.server.connections) - serving.server.refused == 1)
    # Those that were refused are still there, reading their answer; they must not take the room.
    assert serving.server.refused == 5
    third = await serving.client()
    assert (await third.ask(get(b"/"))).status == 200


EXHAUSTED = """
import asyncio, os, resource, sys, time
sys.path.insert(0, os.getcwd())
from tests.support.serving import Delegate, Serving
from tornado_gateway.__main__ import loop_factory

held = []

def answer(request):
    if request.target == "/exhaust":
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
    elif request.target == "/release":
        while held:
            os.close(held.pop())
    request.answer(str(time.process_time()).encode())

async def main():
    serving = await Serving.start(Delegate(answer))
    print(serving.port, flush=True)
    await serving.server.loop.create_future()

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with asyncio.Runner(loop_factory=loop_factory(sys.argv[1])) as runner:
    runner.run(main())
"""


@pytest.mark.gen_test(timeout=20)
async def test_without_descriptors_the_server_rests_and_accepts_again_after(io_loop: IOLoop) -> None:
    loop_name = type(io_loop.asyncio_loop).__module__.partition(".")[0]
    command = [sys.executable, "-c", EXHAUSTED, loop_name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        clients = []
        try:
            port = int(await asyncio.to_thread(process.stdout.readline))
            control = await Client.connect(port)
            before = float((await control.ask(get(b"/exhaust"))).body)
            clients = [await Client.connect(port) for _ in range(10)]
            await asyncio.sleep(1.5)  # what is measured is what happens while nothing does
            spent = float((await control.ask(get(b"/"))).body) - before
            assert (await control.ask(get(b"/release"))).status == 200
            for _ in range(50):
                late = await Client.connect(port)
                clients.append(late)
                with suppress(Ended):
                    assert (await late.ask(get(b"/"))).status == 200
                    break
            else:
                pytest.fail("it never accepted again")
        finally:
            process.send_signal(signal.SIGKILL)
            for client in [*clients, control]:
                client.close()
        complaints = process.stderr.read().count(b"Too many open files")
    assert spent < 0.5
    assert complaints < 100


# ---------------------------------------------------------------- endings


@pytest.mark.gen_test(timeout=20)
async def test_an_early_answer_to_a_large_upload_is_seen(listen: Listen) -> None:
    """RFC 9112 §9.6: closing at once would reset the connection under the client's eyes."""
    delegate = Delegate(on_head=lambda request: request.answer(b"too late", status=403))
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(get(b"/", b"Content-Length: %d" % (64 * MEGABYTE), method=b"PUT"))
    for _ in range(16):
        await client.send(bytes(MEGABYTE))
    response = await client.response()
    assert (response.status, response.body, response.get(b"connection")) == (403, b"too late", b"close")
    assert await client.ended()
    assert delegate.requests[0].chunks == []
    serving.sweep_after(LINGER + 0.1)
    await eventually(lambda: not serving.server.connections)


@pytest.mark.gen_test
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("length", [None, 9], ids=["unknown length", "known length"])
async def test_a_response_that_is_given_up_is_reset(listen: Listen, version: bytes, length: int | None) -> None:
    delegate = Delegate(lambda request: (request.begin(length), request.exchange.write(b"abc")))
    client = await (await listen(delegate)).client()
    await client.send(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
    await client.until(b"abc")
    delegate.requests[0].exchange.abort()
    assert not await client.ended()


@pytest.mark.gen_test
async def test_a_body_shorter_than_promised_is_reset(listen: Listen) -> None:
    delegate = Delegate(lambda request: (request.begin(9), request.exchange.write(b"abc")))
    client = await (await listen(delegate)).client()
    await client.send(get(b"/"))
    await client.until(b"abc")
    delegate.requests[0].exchange.finish()
    assert not await client.ended()


@pytest.mark.gen_test
async def test_a_body_longer_than_promised_is_cut(listen: Listen) -> None:
    def answer(request: Request) -> None:
        request.begin(3)
        for piece in (b"ab", b"cd", b"ef"):
            request.exchange.write(piece)
        request.exchange.finish()

    delegate = Delegate(answer)
    client = await (await listen(delegate)).client()
    for _ in range(2):
        assert (await client.ask(get(b"/"))).body == b"abc"
    assert delegate.requests[0].exchange.body_bytes == 3


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_a_client_that_leaves_is_noticed_at_once(listen: Listen, how: str) -> None:
    delegate = Delegate(nothing)
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(get(b"/"))
    await eventually(lambda: delegate.requests)
    getattr(client, how)()
    await eventually(lambda: delegate.requests[0].is_left)
    assert delegate.requests[0].exchange.error is None
    delegate.requests[0].answer()  # too late; nobody minds
    assert not serving.server.connections


@pytest.mark.gen_test(timeout=20)
async def test_a_client_that_half_closes_and_does_not_read_has_left(listen: Listen) -> None:
    serving, client, request = await _stall(listen, bytes(32 * MEGABYTE))
    client.half_close()
    await eventually(lambda: not serving.server.connections)
    assert request.is_left


@pytest.mark.gen_test
async def test_a_client_that_leaves_within_its_body_is_noticed(listen: Listen) -> None:
    delegate = Delegate()
    serving = await listen(delegate, half_close_aborts=False)
    client = await serving.client()
    await client.send(get(b"/", b"Content-Length: 9", method=b"POST") + b"abc")
    await eventually(lambda: delegate.requests and delegate.requests[0].chunks)
    client.half_close()
    await eventually(lambda: delegate.requests[0].is_cut)
    assert (delegate.requests[0].is_left, delegate.requests[0].is_whole) == (True, False)


@pytest.mark.gen_test
@pytest.mark.parametrize("begun", [False, True])
async def test_a_half_closed_client_may_be_answered(listen: Listen, begun: bool) -> None:
    delegate = Delegate(lambda request: (request.begin(2), request.exchange.write(b"")) if begun else None)
    serving = await listen(delegate, half_close_aborts=False)
    client = await serving.client()
    await client.send(get(b"/"))
    client.half_close()
    await eventually(lambda: delegate.requests)
    assert begun or await is_open(client)
    if begun:
        await client.until(b"\r\n\r\n")
        await asyncio.sleep(0.02)  # the server sees the FIN
        delegate.requests[0].exchange.write(b"ok")
        delegate.requests[0].exchange.finish()
        assert await client.exactly(2) == b"ok"
    else:
        delegate.requests[0].answer()
        assert (await client.response()).get(b"connection") == b"close"
    assert await client.ended()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("how", "half_close_aborts", "leaves"),
    [("reset", False, True), ("close", True, True), ("half_close", True, True), ("half_close", False, False)],
)
async def test_a_client_that_leaves_while_it_is_not_read_is_found_by_a_sweep(
    listen: Listen, how: str, half_close_aborts: bool, leaves: bool
) -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    delegate = Delegate(on_chunk=lambda _: gate)
    serving = await listen(delegate, half_close_aborts=half_close_aborts)
    client = await serving.client()
    await client.send(get(b"/", method=b"POST", body=b"abc"))
    await eventually(lambda: delegate.requests and serving.connection.is_paused)
    getattr(client, how)()
    if leaves:
        await eventually(lambda: serving.sweep_after(0) or not serving.server.connections)
    else:
        for _ in range(20):
            await asyncio.sleep(0.001)
            serving.sweep_after(0)
        gate.set_result(None)
        assert (await client.response()).status == 200


# ---------------------------------------------------------------- a delegate's own faults


def watch(io_loop: IOLoop) -> list[BaseException]:
    """What reaches the loop's exception handler from now on."""
    seen: list[BaseException] = []
    io_loop.asyncio_loop.set_exception_handler(lambda _, context: seen.append(context["exception"]))
    return seen


def fail(_: Request) -> None:
    raise ZeroDivisionError


async def fail_later(_: Request) -> None:
    await asyncio.sleep(0)
    raise ZeroDivisionError


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "steps",
    [{"on_request": fail}, {"on_head": fail}, {"on_head": fail_later}, {"on_chunk": fail}, {"on_chunk": fail_later}],
    ids=["at the end", "head", "head, later", "body", "body, later"],
)
async def test_a_delegate_that_raises_costs_its_own_connection_only(
    io_loop: IOLoop, listen: Listen, steps: dict[str, object]
) -> None:
    seen = watch(io_loop)
    delegate = Delegate(**steps)
    serving = await listen(delegate)
    client, other = await serving.client(), await serving.client()
    await client.send(get(b"/", method=b"POST", body=b"abc"))
    assert not await client.ended()
    assert [type(each) for each in seen] == [ZeroDivisionError]
    delegate.on_request, delegate.on_head, delegate.on_chunk = Request.answer, nothing, nothing
    assert (await other.ask(get(b"/"))).status == 200


@pytest.mark.gen_test
async def test_a_pipelined_request_that_fails_does_not_disturb_the_one_before(io_loop: IOLoop, listen: Listen) -> None:
    seen = watch(io_loop)
    delegate = Delegate(lambda request: fail(request) if request.target == "/2" else None)
    client = await (await listen(delegate)).client()
    await client.send(get(b"/1") + get(b"/2"))
    await eventually(lambda: delegate.requests)
    delegate.requests[0].answer()  # must not raise what the second does
    assert len(seen) == 1


@pytest.mark.gen_test
async def test_a_delegate_that_cancels_ends_its_connection(listen: Listen) -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    delegate = Delegate(on_head=lambda _: gate)
    client = await (await listen(delegate)).client()
    await client.send(get(b"/", method=b"POST", body=b"abc"))
    await eventually(lambda: delegate.requests)
    gate.cancel()
    assert not await client.ended()


# ---------------------------------------------------------------- stopping


@pytest.mark.gen_test
async def test_draining_ends_idle_connections_at_once_and_others_after_their_response(listen: Listen) -> None:
    delegate = Delegate(lambda request: None if request.target == "/slow" else request.answer())
    serving = await listen(delegate)
    idle, busy, fresh = await serving.client(), await serving.client(), await serving.client()
    await idle.ask(get(b"/"))
    await busy.send(get(b"/slow"))
    await eventually(lambda: len(delegate.requests) == 2 and len(serving.server.connections) == 3)
    serving.server.drain()
    closed = asyncio.ensure_future(serving.server.closed())
    assert await idle.ended()
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(serving.port)
    response = await fresh.ask(get(b"/"))  # it was accepted before: what it has sent on the way is answered
    assert (response.status, response.get(b"connection")) == (200, b"close")
    assert await fresh.ended()
    assert not closed.done()
    delegate.requests[1].answer()
    assert (await busy.response()).get(b"connection") == b"close"
    assert await busy.ended()
    await closed


@pytest.mark.gen_test
async def test_draining_gives_a_connection_without_a_request_a_moment(listen: Listen) -> None:
    serving = await listen(Delegate())
    fresh = await serving.client()
    await eventually(lambda: serving.server.connections)
    serving.server.drain()
    serving.sweep_after(FRESH_GRACE - 0.1)
    assert await is_open(fresh)
    serving.sweep_after(FRESH_GRACE + 0.1)
    assert await fresh.ended()


@pytest.mark.gen_test
async def test_draining_finishes_a_response_that_was_begun_to_stay(listen: Listen) -> None:
    delegate = Delegate(lambda request: (request.begin(2), request.exchange.write(b"")))
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(get(b"/1") + get(b"/2"))
    assert (await client.head()).get(b"connection") is None
    serving.server.drain()
    delegate.requests[0].exchange.write(b"ok")
    delegate.requests[0].exchange.finish()
    assert await client.exactly(2) == b"ok"
    assert await client.ended()
    assert len(delegate.requests) == 1


@pytest.mark.gen_test
async def test_draining_lets_a_half_read_head_come_whole(listen: Listen) -> None:
    serving = await listen(Delegate())
    client = await serving.client()
    await client.ask(get(b"/1"))
    await client.send(get(b"/2")[:10])
    await eventually(lambda: serving.connection._buffer)
    serving.server.drain()
    response = await client.ask(get(b"/2")[10:])
    assert (response.status, response.get(b"connection")) == (200, b"close")
    assert await client.ended()


@pytest.mark.gen_test
async def test_aborting_resets_every_connection(listen: Listen) -> None:
    delegate = Delegate(lambda request: (request.begin(), request.exchange.write(b"abc")))
    serving = await listen(delegate)
    client, idle = await serving.client(), await serving.client()
    await client.send(get(b"/"))
    await client.until(b"abc")
    await eventually(lambda: len(serving.server.connections) == 2)
    serving.server.abort()
    assert not await client.ended()
    assert not await idle.ended()
    await serving.server.closed()
    assert delegate.requests[0].is_left


@pytest.mark.gen_test
async def test_an_address_in_use_is_an_error(listen: Listen) -> None:
    serving = await listen(Delegate())
    with pytest.raises(OSError):
        await serving.server.listen("127.0.0.1", serving.port)


# ---------------------------------------------------------------- flow control


@pytest.mark.gen_test(timeout=20)
async def test_a_write_is_done_when_the_client_keeps_up_and_waits_when_it_does_not(listen: Listen) -> None:
    delegate = Delegate(Request.begin)
    serving = await listen(delegate)
    client = await serving.client(receive_buffer=64 * 1024)
    await client.send(get(b"/"))
    await eventually(lambda: delegate.requests)
    exchange = delegate.requests[0].exchange
    assert exchange.write(b"a").done()
    written = exchange.write(bytes(32 * MEGABYTE))
    assert not written.done()
    while not written.done():
        await client.more()
        client.buffer = b""
    assert written.result() is None
    exchange.finish()


@pytest.mark.gen_test(timeout=30)
async def test_memory_is_bounded_however_little_the_client_takes(listen: Listen) -> None:
    """256 MiB to a reader that stalls: beside the kernel's buffers a high-water mark and one piece are held."""
    written = 0
    most = 0

    async def produce(request: Request) -> None:
        nonlocal written, most
        request.begin(4096 * len(PIECE))
        for _ in range(4096):
            await request.exchange.write(PIECE)
            written += len(PIECE)
            most = max(most, request.exchange.connection.transport.get_write_buffer_size())
        request.exchange.finish()

    tasks: list[asyncio.Task[None]] = []
    delegate = Delegate(lambda request: tasks.append(asyncio.ensure_future(produce(request))))
    serving = await listen(delegate)
    client = await serving.client(receive_buffer=64 * 1024)
    await client.send(get(b"/"))
    await eventually(lambda: written)
    await _settled(serving)
    assert written < 16 * MEGABYTE
    await client.until(b"\r\n\r\n")
    got = len(client.buffer)
    while got < 4096 * len(PIECE):
        client.buffer = b""
        await client.more()
        got += len(client.buffer)
    await tasks[0]
    assert most <= 64 * 1024 + len(PIECE) + 1024


@pytest.mark.gen_test(timeout=20)
async def test_whoever_waits_for_a_client_that_leaves_is_told(listen: Listen) -> None:
    serving, client, request = await _stall(listen, bytes(32 * MEGABYTE), length=64 * MEGABYTE)
    waiting = request.exchange.write(b"more")
    assert not waiting.done()
    client.reset()
    with pytest.raises(StreamClosedError):
        await waiting
    await eventually(lambda: not serving.server.connections)


@pytest.mark.gen_test
async def test_a_write_after_the_client_has_left_fails(listen: Listen) -> None:
    """A loop of write and wait must come to an end (it also must not starve the event loop)."""
    delegate = Delegate(Request.begin)
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(get(b"/"))
    await eventually(lambda: delegate.requests)
    exchange = delegate.requests[0].exchange
    await exchange.write(b"a")
    exchange.connection.transport.abort()
    with pytest.raises(StreamClosedError):
        await exchange.write(b"before the loop has noticed")
    await eventually(lambda: not serving.server.connections)
    with pytest.raises(StreamClosedError):
        await exchange.write(b"after")
    exchange.write_interim(103, b"")
    exchange.write(b"")
    exchange.finish()
    exchange.abort()
    assert not exchange.finished


# ---------------------------------------------------------------- Tornado's own Applications, unchanged


class Plain(RequestHandler):
    def get(self) -> None:
        self.set_cookie("seen", "yes")
        self.write(
            {
                "arguments": {name: self.get_arguments(name) for name in self.request.arguments},
                "cookie": self.get_cookie("a", ""),
                "host": self.request.host,
                "address": self.request.remote_ip,
                "protocol": self.request.protocol,
                "x": self.request.headers.get_list("x-many"),
            }
        )

    head = get

    def post(self) -> None:
        files = {name: [each.body.decode() for each in parts] for name, parts in self.request.files.items()}
        self.write(
            {"arguments": {name: self.get_body_arguments(name) for name in self.request.body_arguments}, **files}
        )

    def delete(self) -> None:
        self.set_status(204)


class Prepared(RequestHandler):
    async def prepare(self) -> None:
        await asyncio.sleep(0)
        if self.get_argument("token", "") != "1":
            raise HTTPError(401)

    def get(self) -> None:
        self.write("admitted")


class Pieces(RequestHandler):
    async def get(self) -> None:
        for piece in ("one", "two", "three"):
            self.write(piece)
            await self.flush()
            await asyncio.sleep(0)


class Endless(RequestHandler):
    ended: asyncio.Future[str]

    async def get(self) -> None:
        try:
            while True:
                self.write(PIECE)
                await self.flush()
        except StreamClosedError:
            self.ended.set_result("closed")
            raise


@stream_request_body
class Upload(RequestHandler):
    sizes: ClassVar[list[int]] = []
    gate: asyncio.Event

    async def prepare(self) -> None:
        await asyncio.sleep(0)
        self.size = 0
        if self.get_argument("refuse", ""):
            raise HTTPError(403)

    async def data_received(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.sizes.append(self.size)
        await self.gate.wait()
        if self.get_argument("fail", ""):
            raise ZeroDivisionError

    def put(self) -> None:
        self.write(str(self.size))


class Broken(RequestHandler):
    def get(self) -> None:
        raise ZeroDivisionError("a secret")


class Echo(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


@pytest.fixture
def application(tmp_path: Path) -> Application:
    (tmp_path / "a.txt").write_bytes(b"0123456789")
    (tmp_path / "large.bin").write_bytes(bytes(range(256)) * (16 * 1024))
    return Application(
        [
            ("/", Plain),
            ("/prepared", Prepared),
            ("/pieces", Pieces),
            ("/endless", Endless),
            ("/upload", Upload),
            ("/broken", Broken),
            ("/ws", Echo),
            ("/static/(.*)", StaticFileHandler, {"path": str(tmp_path)}),
        ],
        cross_origin_protection=False,
    )


@pytest.mark.gen_test
async def test_a_handler_reads_arguments_cookies_and_fields(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    request = get(b"/?a=1&a=%C3%A9&b=", b"Cookie: a=%22x; z=1", b"X-Many: 1", b"x-many: 2", host=b"h.example:81")
    response = await client.ask(request)
    assert json.loads(response.body) == {
        "arguments": {"a": ["1", "é"], "b": [""]},
        "cookie": "%22x",
        "host": "h.example:81",
        "address": "127.0.0.1",
        "protocol": "http",
        "x": ["1", "2"],
    }
    assert response.get(b"set-cookie") == b"seen=yes; Path=/"
    assert response.get(b"date")
    head = await client.ask(get(b"/", method=b"HEAD"), b"HEAD")
    assert int(head.get(b"content-length") or 0) > 0
    assert (await client.ask(get(b"/", method=b"DELETE"))).status == 204
    assert (await client.ask(get(b"/", method=b"PATCH"))).status == 405
    assert (await client.ask(get(b"/nowhere"))).status == 404


@pytest.mark.gen_test
async def test_a_handler_reads_forms_and_files(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    form = get(b"/", b"Content-Type: application/x-www-form-urlencoded", method=b"POST", body=b"a=1&a=2")
    assert json.loads((await client.ask(form)).body) == {"arguments": {"a": ["1", "2"]}}
    body = b'--x\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\ncontent\r\n--x--\r\n'
    files = get(b"/", b"Content-Type: multipart/form-data; boundary=x", method=b"POST", body=body)
    assert json.loads((await client.ask(files)).body) == {"arguments": {}, "f": ["content"]}


@pytest.mark.gen_test
async def test_a_handler_serves_old_clients(listen: Listen, application: Application) -> None:
    serving = await listen(application)
    response = await (await serving.client()).ask(b"GET / HTTP/1.0\r\n\r\n")
    assert (response.status, json.loads(response.body)["host"]) == (200, "127.0.0.1")
    response = await (await serving.client()).ask(b"GET /pieces HTTP/1.0\r\n\r\n")
    assert (response.body, response.complete) == (b"onetwothree", True)


@pytest.mark.gen_test
async def test_a_handler_may_prepare_slowly(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    assert (await client.ask(get(b"/prepared"))).status == 401
    assert (await client.ask(get(b"/prepared?token=1"))).body == b"admitted"


@pytest.mark.gen_test
async def test_a_handler_that_flushes_answers_in_chunks(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    await client.send(get(b"/pieces"))
    assert (await client.head()).get(b"transfer-encoding") == b"chunked"
    assert await client.until(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"


@pytest.mark.gen_test(timeout=20)
async def test_a_handler_that_never_ends_is_told_when_its_client_leaves(
    listen: Listen, application: Application
) -> None:
    Endless.ended = asyncio.get_running_loop().create_future()
    client = await (await listen(application)).client(receive_buffer=64 * 1024)
    await client.send(get(b"/endless"))
    await client.until(b"\r\n\r\n")
    client.reset()
    assert await Endless.ended == "closed"


@pytest.mark.gen_test(timeout=20)
async def test_a_streaming_handler_is_given_no_more_than_it_takes(listen: Listen, application: Application) -> None:
    Upload.gate = asyncio.Event()
    Upload.sizes.clear()
    serving = await listen(application)
    client = await serving.client()
    sent = asyncio.ensure_future(client.send(get(b"/upload", method=b"PUT", body=bytes(32 * MEGABYTE))))
    await eventually(lambda: Upload.sizes)
    await asyncio.sleep(0.05)
    assert not serving.connection.transport.is_reading()
    assert len(Upload.sizes) == 1
    Upload.gate.set()
    assert (await client.response()).body == b"%d" % (32 * MEGABYTE)
    await sent


@pytest.mark.gen_test
async def test_a_streaming_handler_may_refuse_before_the_body_is_sent(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    request = get(b"/upload?refuse=1", b"Expect: 100-continue", b"Content-Length: 3", method=b"PUT")
    response = await client.ask(request)
    assert (response.status, response.interim) == (403, [])


@pytest.mark.gen_test
async def test_a_streaming_handler_that_fails_resets_its_client_and_is_reported(
    io_loop: IOLoop, listen: Listen, application: Application
) -> None:
    seen = watch(io_loop)
    Upload.gate = asyncio.Event()
    Upload.gate.set()
    client = await (await listen(application)).client()
    await client.send(get(b"/upload?fail=1", method=b"PUT", body=b"abc"))
    assert not await client.ended()
    assert [type(each) for each in seen] == [ZeroDivisionError]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("line", "status", "body"),
    [
        (b"X: y", 200, b"0123456789"),
        (b"Range: bytes=2-4", 206, b"234"),
        (b"Range: bytes=-2", 206, b"89"),
        (b"Range: bytes=20-", 416, b""),
    ],
)
async def test_static_files_are_served_whole_and_in_ranges(
    listen: Listen, application: Application, line: bytes, status: int, body: bytes
) -> None:
    client = await (await listen(application)).client()
    for _ in range(2):
        response = await client.ask(get(b"/static/a.txt", line))
        assert (response.status, response.body, response.complete) == (status, body, True)
    head = await client.ask(get(b"/static/a.txt", method=b"HEAD"), b"HEAD")
    assert head.get(b"content-length") == b"10"


@pytest.mark.gen_test
async def test_a_large_static_file_arrives_whole(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    assert (await client.ask(get(b"/static/large.bin"))).body == bytes(range(256)) * (16 * 1024)


@pytest.mark.gen_test
async def test_a_static_file_that_is_known_is_not_sent_again(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    etag = (await client.ask(get(b"/static/a.txt"))).get(b"etag") or b""
    for _ in range(2):
        response = await client.ask(get(b"/static/a.txt", b"If-None-Match: " + etag))
        assert (response.status, response.all(b"content-length")) == (304, [])
    assert client.buffer == b""


@pytest.mark.gen_test
async def test_a_handler_that_fails_is_a_500_that_tells_nothing(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    for _ in range(2):
        response = await client.ask(get(b"/broken"))
        assert (response.status, response.complete, response.get(b"connection")) == (500, True, None)
        assert b"secret" not in response.body


@pytest.mark.gen_test
@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_more_arguments_than_tornado_reads_are_a_400(
    listen: Listen, application: Application, method: bytes
) -> None:
    serving = await listen(application)
    query = b"&".join(b"a%d=" % number for number in range(1001))
    client = await serving.client()
    response = await client.ask(get(b"/?" + query, method=method, body=b"abc" if method == b"POST" else b""))
    assert (response.status, response.get(b"connection")) == (400, b"close")
    assert await client.ended()
    assert (await (await serving.client()).ask(get(b"/"))).status == 200


@pytest.mark.gen_test
async def test_a_stock_websockethandler_cannot_take_the_connection_and_says_why(
    listen: Listen, application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    """It wants the connection as an IOStream, but a transport does not give its socket back; see wire/server.py."""
    serving = await listen(application)
    client = await serving.client()
    request = get(
        b"/ws",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    await client.send(request)
    with pytest.raises(Ended):
        await client.until(b"\r\n\r\n")
    assert client.buffer == b""  # above all no 101, whose frames would then be read as requests
    assert "cannot be detached" in caplog.text
    assert (await (await serving.client()).ask(get(b"/"))).status == 200


@pytest.mark.gen_test
async def test_a_field_with_a_line_break_is_never_sent(listen: Listen) -> None:
    def answer(request: Request) -> None:
        with pytest.raises(ValueError, match="line break"):
            request.exchange.write_headers(
                ResponseStartLine("HTTP/1.1", 200, "OK"), Fields({"X": "a\r\nSet-Cookie: b"}), b""
            )
        request.answer()

    client = await (await listen(Delegate(answer))).client()
    assert (await client.ask(get(b"/"))).all(b"set-cookie") == []


class Fields(HTTPHeaders):
    """Headers that do not look at what they are given."""

    def __init__(self, pairs: dict[str, str]) -> None:
        super().__init__()
        self.pairs = pairs

    def get_all(self) -> Iterable[tuple[str, str]]:
        return self.pairs.items()


@pytest.mark.gen_test
async def test_a_server_does_not_write_a_request_line(listen: Listen) -> None:
    def answer(request: Request) -> None:
        with pytest.raises(TypeError):
            request.exchange.write_headers(request.start_line, request.headers)
        request.answer()

    client = await (await listen(Delegate(answer))).client()
    assert (await client.ask(get(b"/"))).status == 200


@pytest.mark.gen_test
async def test_a_handler_may_end_the_connection_itself(listen: Listen) -> None:
    headers = HTTPHeaders({"Connection": "close", "Content-Length": "2"})

    def answer(request: Request) -> None:
        request.exchange.write_headers(ResponseStartLine("HTTP/1.1", 200, "OK"), headers, b"ok")
        request.exchange.finish()

    client = await (await listen(Delegate(answer))).client()
    assert (await client.ask(get(b"/"))).get(b"connection") == b"close"
    assert await client.ended()


# ---------------------------------------------------------------- any bytes at all

VALID = (
    get(b"/"),
    get(b"/a?b=c", b"Cookie: a=b; c", b"Connection: close"),
    get(b"/", method=b"POST", body=b"hello"),
    get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + chunked(b"abc", b"defgh"),
    get(b"/", b"Expect: 100-continue", method=b"PUT", body=b"x" * 50),
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
)
TOKENS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"GET ", b"/", b" HTTP/1.1", b"Host: a", b"Content-Length: 5",
    b"Content-Length: -1", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"0\r\n\r\n",
    b"5\r\nhello\r\n", b"ffffffffffffffff\r\n", b"Upgrade: websocket", b"Connection: upgrade, close",
    b"\xff\xfe", b"%00", b"a" * 300,
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(VALID)) + draw(st.sampled_from((b"", *VALID))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.sampled_from((b"", *TOKENS)))
    return bytes(data)


streams = st.one_of(mutated(), st.lists(st.sampled_from(TOKENS), max_size=30).map(b"".join), st.binary(max_size=200))


def test_no_bytes_crash_or_hang_the_server(io_loop: IOLoop) -> None:
    run = io_loop.asyncio_loop.run_until_complete
    delegate = Delegate(lambda request: request.answer(b"%d" % len(request.body)))
    serving = run(Serving.start(delegate, max_body_bytes=1000, half_close_aborts=False))

    async def send(data: bytes, cut: int) -> bytes:
        client = await Client.connect(serving.port)
        try:
            with suppress(ConnectionError, Ended):
                await client.send(data[:cut])
                await asyncio.sleep(0)
                await client.send(data[cut:])
                client.half_close()
                while True:
                    await client.more()
        finally:
            client.close()
        return client.buffer

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(streams, st.integers(0, 400))
    def survives(data: bytes, cut: int) -> None:
        answers = run(send(data, cut))
        assert not answers or answers.startswith(b"HTTP/1.1 ")
        run(eventually(lambda: not serving.server.connections))
        assert b"200 OK" in run(send_good())
        delegate.requests.clear()

    async def send_good() -> bytes:
        client = await Client.connect(serving.port)
        response = await client.ask(get(b"/"))
        client.close()
        await eventually(lambda: not serving.server.connections)
        return response.start

    survives()
    run(serving.close())
