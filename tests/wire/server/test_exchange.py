"""How an exchange writes responses, on real sockets: the bytes, and writers that wait for a slow client."""

import asyncio
import re
from collections.abc import Iterable

import pytest
from tornado.httputil import HTTPHeaders, ResponseStartLine
from tornado.iostream import StreamClosedError

from tests.support.serving import MEGABYTE, Delegate, Listen, Request, is_open, settled, stalled
from tests.support.sockets import eventually, get
from tornado_gateway.wire.server.exchange import safe_reason

PIECE = bytes(64 * 1024)


# ---------------------------------------------------------------- responses


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
async def test_a_response_has_the_lines_that_an_earlier_step_has_added(listen: Listen) -> None:
    def answer(request: Request) -> None:
        request.exchange.added_lines += b"X-Left: 7\r\n"
        request.exchange.write_interim(103, b"Link: </a>\r\n")
        request.begin()
        request.exchange.finish()

    client = await (await listen(Delegate(answer))).client()
    await client.send(get(b"/"))
    assert (await client.head()).get(b"x-left") is None
    assert (await client.response()).all(b"x-left") == [b"7"]


@pytest.mark.gen_test
async def test_added_lines_may_replace_fields_of_the_response(listen: Listen) -> None:
    def answer(request: Request) -> None:
        exchange = request.exchange
        exchange.added_lines, exchange.replaced_prefix = b"X-Own-A: 2\r\n", b"x-own-"
        exchange.start_response(204, b"", b"x-OWN-a: 1\r\nX-Owner: 1\r\nX-Own-B: 1\r\n", length=None, dated=False)
        exchange.finish()

    client = await (await listen(Delegate(answer))).client()
    response = await client.ask(get(b"/"))
    assert (response.get(b"x-own-a"), response.get(b"x-own-b"), response.get(b"x-owner")) == (b"2", None, b"1")


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.gen_test
async def test_a_whole_response_may_leave_at_once(listen: Listen, method: bytes) -> None:
    sent: list[int] = []

    def answer(request: Request) -> None:
        request.exchange.added_lines += b"X-Left: 7\r\n"
        request.exchange.respond(503, b"Content-Length: 2\r\n", b"ok")
        sent.append(request.exchange.body_bytes)

    client = await (await listen(Delegate(answer))).client()
    for _ in range(2):  # the connection is kept
        response = await client.ask(get(b"/", method=method), method)
        assert (response.status, response.get(b"x-left"), response.get(b"content-length")) == (503, b"7", b"2")
        assert response.get(b"date")
        assert response.body == (b"" if method == b"HEAD" else b"ok")
    assert sent == [0 if method == b"HEAD" else 2] * 2


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
async def test_an_old_client_gets_no_interim_response(listen: Listen) -> None:
    delegate = Delegate(on_head=lambda request: request.exchange.write_interim(103, b""))
    client = await (await listen(delegate)).client()
    await client.send(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert await is_open(client)
    response = await client.ask(b"abc")
    assert (response.status, response.interim) == (200, [])


# ---------------------------------------------------------------- endings


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


# ---------------------------------------------------------------- flow control


@pytest.mark.gen_test
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
    await settled(serving)
    assert written < 16 * MEGABYTE
    await client.until(b"\r\n\r\n")
    got = len(client.buffer)
    while got < 4096 * len(PIECE):
        client.buffer = b""
        await client.more()
        got += len(client.buffer)
    await tasks[0]
    assert most <= 64 * 1024 + len(PIECE) + 1024


@pytest.mark.gen_test
async def test_a_pending_write_fails_when_the_client_leaves(listen: Listen) -> None:
    serving, client, request = await stalled(listen, bytes(32 * MEGABYTE), length=64 * MEGABYTE)
    waiting = request.exchange.write(b"more")
    assert not waiting.done()
    client.reset()
    with pytest.raises(StreamClosedError):
        await waiting
    await eventually(lambda: not serving.server.connections)


@pytest.mark.gen_test
async def test_a_write_after_the_client_has_left_fails(listen: Listen) -> None:
    """A loop of write and wait must end, and must not starve the event loop."""
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


# ---------------------------------------------------------------- Tornado's HTTPConnection


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
    """HTTPHeaders that do not check names and values."""

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


@pytest.mark.parametrize(
    ("reason", "safe"),
    [
        (b"OK", b"OK"),
        (b"Not Found", b"Not Found"),
        (b"I'm a Tea-pot", b"I'm a Tea-pot"),
        (b"OK<script>", b""),
        (b"", b""),
        (b"\xe9", b""),
    ],
)
def test_a_reason_phrase_of_plain_words_is_forwarded(reason: bytes, safe: bytes) -> None:  # CVE-2025-67724
    assert safe_reason(reason) == safe
