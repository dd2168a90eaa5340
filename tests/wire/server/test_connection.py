"""How a connection reads requests, on real sockets: one at a time, refusals, timeouts, and the end."""

import asyncio
import math
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tornado.httputil import HTTPInputError
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError

from tests.support.serving import (
    MEGABYTE,
    Delegate,
    Listen,
    Request,
    Serving,
    is_open,
    nothing,
    settled,
    stalled,
    watch,
)
from tests.support.sockets import Client, Ended, chunked, eventually, get
from tornado_gateway.policy.http.pace import CHECK_INTERVAL, WINDOW
from tornado_gateway.wire.http1 import MAX_REQUEST_FIELDS, MAX_REQUEST_HEAD, MAX_TARGET
from tornado_gateway.wire.peer import send_queue
from tornado_gateway.wire.server import connection as module
from tornado_gateway.wire.server.connection import CLOSED, HEAD, LINGERING, PHASES
from tornado_gateway.wire.server.exchange import ServerExchange
from tornado_gateway.wire.server.lingering import LINGER, LINGER_BYTES

# ---------------------------------------------------------------- the table of phases

EVENTS = {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, dict)}


def test_every_phase_can_be_reached_and_every_connection_can_end() -> None:
    reached = {HEAD}
    while new := {after for event in EVENTS.values() for before, after in event.items() if before in reached} - reached:
        reached |= new
    assert reached == set(PHASES)
    assert set(EVENTS["CONNECTION_LOST"]) == set(PHASES)
    assert not [name for name, event in EVENTS.items() if event.get(CLOSED, CLOSED) is not CLOSED]


@pytest.mark.gen_test
async def test_a_phase_takes_no_event_that_the_table_does_not_give_it(listen: Listen) -> None:
    serving = await listen(Delegate())
    client = await serving.client()
    await client.ask(get(b"/"))
    connection = serving.connection
    for name in ("BODY_PIECE", "BODY_END", "RESPONSE_END", "UPGRADE"):
        with pytest.raises(KeyError):
            connection._move(EVENTS[name])
        assert connection._phase is HEAD
    assert (await client.ask(get(b"/"))).status == 200


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
async def test_empty_lines_before_a_request_are_ignored(listen: Listen) -> None:
    """RFC 9112 §2.2. Sixteen megabytes of empty lines must not cost more than reading the bytes."""
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


@pytest.mark.gen_test
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
async def test_each_exceeded_limit_has_its_own_answer_and_ends_the_connection(
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
async def test_the_client_does_not_time_out_while_the_delegate_works(listen: Listen) -> None:
    delegate = Delegate(nothing)
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(get(b"/"))
    await eventually(lambda: delegate.requests)
    serving.sweep_after(1e6)
    delegate.requests[0].answer()
    assert (await client.response()).status == 200


@pytest.mark.gen_test
async def test_a_reader_that_stalls_is_reset(listen: Listen) -> None:
    serving, client, request = await stalled(listen, bytes(32 * MEGABYTE), length=33 * MEGABYTE)
    serving.sweep_after(59)
    assert serving.server.connections
    # The kernels may have taken a little more since the connection was paused; then its time begins once more.
    await eventually(lambda: (serving.sweep_after(61), not serving.server.connections)[1])
    assert request.is_left
    assert request.exchange.error.status == 408
    assert not await client.ended()


@pytest.mark.gen_test
@pytest.mark.parametrize("finished", [False, True])
async def test_a_reader_that_is_slow_but_moves_lives(listen: Listen, finished: bool) -> None:
    """Neither a keep-alive timeout nor a 408 may cut a response that was written in one piece."""
    body = bytes(range(256)) * (128 * 1024)
    serving, client, request = await stalled(listen, body)
    if finished:
        request.exchange.finish()
    for _ in range(5):
        unsent = serving.connection.transport.get_write_buffer_size()
        while serving.connection.transport.get_write_buffer_size() == unsent:
            await client.more()
        await settled(serving)
        serving.sweep_after(300)
        assert serving.server.connections
    if not finished:
        request.exchange.finish()
    response = await client.response()
    assert response.body == body
    assert (await client.ask(get(b"/", method=b"HEAD"), b"HEAD")).status == 200


@pytest.mark.gen_test
async def test_a_last_response_is_not_waited_for_for_ever(listen: Listen) -> None:
    """A client that asks for "Connection: close" and never reads is ended in time, by RST, without a second answer."""
    delegate = Delegate(lambda request: request.answer(bytes(32 * MEGABYTE)))
    serving = await listen(delegate, client_idle_timeout=60)
    client = await serving.client(receive_buffer=64 * 1024)
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    await eventually(lambda: delegate.requests)
    await settled(serving)
    serving.sweep_after(61)  # it has sent something since its time began
    serving.sweep_after(200)
    await eventually(lambda: not serving.server.connections)
    assert not await client.ended()


@pytest.mark.gen_test
async def test_an_idle_connection_has_its_full_time_after_a_slow_response(listen: Listen) -> None:
    serving, client, request = await stalled(listen, bytes(32 * MEGABYTE))
    begun = serving.server.context.loop.time()  # the connection is idle later, by the time that the client reads
    request.exchange.finish()
    assert (await client.response()).complete
    serving.server.sweep(begun + 94)
    assert (await client.ask(get(b"/", method=b"HEAD"), b"HEAD")).status == 200


# ---------------------------------------------------------------- endings


@pytest.mark.gen_test
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


# Requests behind whose answers the server ends the connection.
LAST_ONES = {
    "close": (get(b"/", b"Connection: close"), 200),
    "1.0": (b"GET / HTTP/1.0\r\n\r\n", 200),
    "malformed": (b"NOT HTTP\r\n\r\n", 400),
    "too large": (get(b"/", b"Content-Length: 9", method=b"POST"), 413),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 200),
}


@pytest.mark.parametrize("case", LAST_ONES)
@pytest.mark.gen_test
async def test_late_bytes_do_not_cost_a_client_its_last_answer(listen: Listen, case: str) -> None:
    """RFC 9112 §9.6: without the wait, bytes that come when the socket is closed make a reset."""
    request_, status = LAST_ONES[case]
    delegate = Delegate()
    serving = await listen(delegate, max_body_bytes=8)
    client = await serving.client()
    await client.send(request_)
    await eventually(lambda: serving.server.connections and serving.connection._phase is LINGERING)
    served = len(delegate.requests)
    await client.send(b"\r\n" + get(b"/late"))
    response = await client.response()
    assert (response.status, response.get(b"connection")) == (status, b"close")
    assert await client.ended()  # by FIN
    client.close()
    await eventually(lambda: not serving.server.connections)
    assert len(delegate.requests) == served  # what came late was not read as a request


@pytest.mark.gen_test
async def test_lingering_ends_with_the_client_after_a_time_or_after_too_many_bytes(listen: Listen) -> None:
    serving = await listen(Delegate())

    async def lingering() -> Client:
        client = await serving.client()
        assert (await client.ask(get(b"/", b"Connection: close"))).status == 200
        assert await client.ended()
        return client

    (await lingering()).close()
    await eventually(lambda: not serving.server.connections)
    await lingering()
    serving.sweep_after(LINGER - 0.5)
    assert serving.server.connections
    serving.sweep_after(LINGER + 0.1)
    await eventually(lambda: not serving.server.connections)
    client = await lingering()
    with pytest.raises(ConnectionError):
        for _ in range(LINGER_BYTES // MEGABYTE + 64):  # the kernel's buffers hold a part
            await client.send(bytes(MEGABYTE))
    assert not serving.server.connections


@pytest.mark.gen_test
async def test_no_lingering_for_a_client_that_has_half_closed(listen: Listen) -> None:
    delegate = Delegate(nothing)
    serving = await listen(delegate, half_close_aborts=False)
    client = await serving.client()
    await client.send(get(b"/"))
    await eventually(lambda: delegate.requests)
    client.half_close()
    await eventually(lambda: serving.connection.has_half_closed)
    delegate.requests[0].answer()
    assert (await client.response()).body == b"ok"
    await eventually(lambda: not serving.server.connections)


UPGRADE = get(b"/1", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.gen_test
async def test_bytes_after_a_refused_upgrade_are_not_read_as_a_request(
    listen: Listen, together: bool
) -> None:  # RFC 9931
    delegate = Delegate(nothing)
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(UPGRADE + get(b"/smuggled") if together else UPGRADE)
    await eventually(lambda: delegate.requests)
    if not together:  # it comes when the answer has begun, and it is too late to say Connection: close
        delegate.requests[0].begin(2)
        await client.send(get(b"/smuggled"))
        await eventually(lambda: serving.connection._buffer)
        delegate.requests[0].exchange.write(b"ok")
        delegate.requests[0].exchange.finish()
    else:
        delegate.requests[0].answer()
    response = await client.response()
    assert (response.body, response.get(b"connection")) == (b"ok", b"close" if together else None)
    assert await client.ended()
    assert len(delegate.requests) == 1


@pytest.mark.gen_test
async def test_a_connection_outlives_a_refused_upgrade_that_nothing_follows(listen: Listen) -> None:
    """Java's HttpClient asks every server for h2c once, and waits for the answer."""
    client = await (await listen(Delegate())).client()
    assert (await client.ask(UPGRADE)).get(b"connection") is None
    assert (await client.ask(get(b"/2"))).body == b"ok"


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


@pytest.mark.gen_test
async def test_a_client_that_half_closes_and_does_not_read_has_left(listen: Listen) -> None:
    serving, client, request = await stalled(listen, bytes(32 * MEGABYTE))
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


# ---------------------------------------------------------------- a delegate's own faults


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


# ---------------------------------------------------------------- what only the kernels hold


async def laden(listen: Listen, **config: Any) -> tuple[Serving, Client, Request]:
    """A client that has not read a part of a response, all of which the kernels hold; the response goes on."""

    def answer(request: Request) -> None:
        request.begin(2 * MEGABYTE)
        request.exchange.write(bytes(MEGABYTE))

    delegate = Delegate(answer)
    serving = await listen(delegate, client_idle_timeout=60, keepalive_timeout=95, **config)
    client = await serving.client(receive_buffer=16 * 1024)
    await client.send(get(b"/"))
    await eventually(lambda: delegate.requests and not serving.connection.transport.get_write_buffer_size())
    await eventually(lambda: send_queue(serving.connection.transport)[0])
    await settled(serving)
    return serving, client, delegate.requests[0]


@pytest.mark.gen_test(timeout=30)
async def test_a_slow_reader_that_drains_the_kernel_buffers_is_not_reset(listen: Listen) -> None:
    serving, client, request = await laden(listen)
    transport = serving.connection.transport
    while send_queue(transport)[0]:
        request.exchange.watch_reader()
        before = send_queue(transport)[1]
        while send_queue(transport)[1] == before and send_queue(transport)[0]:
            await client.more()
            client.buffer = b""
            await asyncio.sleep(0.001)
        serving.sweep_after(61)
        assert serving.server.connections
    serving.sweep_after(61)
    serving.sweep_after(122)
    assert serving.server.connections


@pytest.mark.gen_test(timeout=30)
async def test_a_reader_that_does_not_drain_the_kernel_buffers_is_reset(listen: Listen) -> None:
    serving, _, request = await laden(listen)
    request.exchange.watch_reader()
    serving.sweep_after(59)
    assert serving.server.connections
    await eventually(lambda: (serving.sweep_after(61), not serving.server.connections)[1])
    assert request.exchange.error.status == 408


@pytest.mark.gen_test(timeout=30)
async def test_a_client_that_reads_its_last_answer_slowly_is_lingered_for(listen: Listen) -> None:
    serving, client, request = await laden(listen)
    transport = serving.connection.transport
    request.exchange.keep_alive = request.exchange.persistent = False
    request.exchange.write(bytes(MEGABYTE))
    request.exchange.finish()
    for _ in range(3):
        serving.sweep_after(LINGER + 0.1)  # between two looks it may take nothing
        assert serving.server.connections
    read = len(client.buffer)
    while send_queue(transport)[0] or transport.get_write_buffer_size():
        before = send_queue(transport)[1]
        while send_queue(transport)[1] == before and send_queue(transport)[0]:
            await client.more()
            read += len(client.buffer)
            client.buffer = b""
            await asyncio.sleep(0.001)
        serving.sweep_after(61)
        assert serving.server.connections
    assert read > MEGABYTE // 2
    await eventually(lambda: (serving.sweep_after(61), not serving.server.connections)[1])


# ---------------------------------------------------------------- a least rate


def pass_time(serving: Serving, seconds: float) -> None:
    """Let a server believe that so much time has passed, of which the client was idle for none."""
    for connection in serving.server.connections:
        connection.deadline = math.inf
    serving.sweep_after(seconds)


@pytest.mark.parametrize("framing", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize(("rate", "answered"), [(100.0, 408), (0.01, 0), (0.0, 0)])
@pytest.mark.gen_test
async def test_a_body_that_comes_too_slowly_is_refused(
    listen: Listen, framing: bytes, rate: float, answered: int
) -> None:
    delegate = Delegate(nothing)
    serving = await listen(delegate, min_upload_rate=rate)
    client = await serving.client()
    await client.send(get(b"/", framing, method=b"POST") + b"1\r\na\r\n")
    await eventually(lambda: delegate.requests and delegate.requests[0].body)
    pass_time(serving, 0)
    pass_time(serving, WINDOW - 1)
    assert await is_open(client)
    await client.send(b"1\r\nb\r\n")
    await eventually(lambda: delegate.requests[0].body.endswith((b"b", b"b\r\n")))
    pass_time(serving, WINDOW + CHECK_INTERVAL)
    if answered:
        assert (await client.response()).status == answered
        assert await client.ended()
    else:
        assert await is_open(client)
        client.close()


@pytest.mark.gen_test
async def test_a_body_that_keeps_its_rate_is_read_for_ever(listen: Listen) -> None:
    delegate = Delegate()
    serving = await listen(delegate, min_upload_rate=100.0)
    client = await serving.client()
    await client.send(get(b"/", b"Content-Length: 21000", method=b"POST"))
    await eventually(lambda: serving.server.connections and delegate.requests)
    pass_time(serving, 0)
    for window in range(1, 4):
        await client.send(bytes(7000))
        await eventually(lambda window=window: len(delegate.requests[0].body) == 7000 * window)  # type: ignore[misc]
        pass_time(serving, window * (WINDOW + 1))
    assert (await client.response()).status == 200


@pytest.mark.gen_test
async def test_pauses_of_reading_do_not_count_against_the_client(listen: Listen) -> None:
    busy: list[asyncio.Future[None]] = []

    def hold(request: Request) -> Awaitable[None]:
        busy.append(asyncio.get_running_loop().create_future())
        return busy[-1]

    serving = await listen(Delegate(on_chunk=hold), min_upload_rate=100.0)
    client = await serving.client()
    await client.send(get(b"/", b"Content-Length: 3", method=b"POST") + b"a")
    await eventually(lambda: len(busy) == 1)
    pass_time(serving, 0)
    pass_time(serving, WINDOW + 1)
    busy[0].set_result(None)
    await client.send(b"b")
    await eventually(lambda: len(busy) == 2)
    pass_time(serving, 2 * (WINDOW + 1))
    busy[1].set_result(None)
    await client.send(b"c")
    await eventually(lambda: len(busy) == 3)
    busy[2].set_result(None)
    assert (await client.response()).status == 200
