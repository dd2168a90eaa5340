"""Answers that are compressed on the way to the client."""

import asyncio
import gzip
import zlib

import pytest

from tests.conftest import Running, Serve
from tests.support.caching import FRESH, ON, PATH, Each, ask, frozen, kept, status_of
from tests.support.journeys import Start
from tests.support.sockets import Ended, Message, Peer, eventually, get, reply
from tornado_gateway.handlers.compressing import IN_THREAD

GZIP = {"COMPRESS": "gzip"}
ACCEPTS = b"Accept-Encoding: gzip, br;q=0.9"
TEXT = b"Content-Type: text/plain"
BODY = b"some words again " * 200


def saying(*lines: bytes, body: bytes = BODY, status: bytes = b"200 OK") -> Each:
    def answer(request: Message, number: int) -> bytes:
        made = reply(status, lines, body)
        return made.removesuffix(body) if request.method == b"HEAD" else made

    return Each(answer)


def vary(answer: Message) -> bytes | None:
    return answer.get(b"vary")


@pytest.mark.gen_test
async def test_an_answer_is_compressed_for_a_client_that_accepts(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(saying(TEXT, b'ETag: "1"', b"Accept-Ranges: bytes")).url]}, **GZIP)
    answer = await ask(running, ACCEPTS)
    assert (answer.status, answer.get(b"content-encoding"), answer.get(b"etag")) == (200, b"gzip", b'W/"1"')
    assert (vary(answer), answer.get(b"content-length"), answer.get(b"accept-ranges")) == (
        b"Accept-Encoding", None, None,
    )  # fmt: skip
    assert gzip.decompress(answer.body) == BODY
    assert len(answer.body) < 100
    plain = await ask(running)
    assert (plain.body, plain.get(b"etag"), vary(plain)) == (BODY, b'"1"', b"Accept-Encoding")
    assert plain.get(b"content-length") == b"%d" % len(BODY)


@pytest.mark.gen_test
async def test_without_the_setting_nothing_changes(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(saying(TEXT, b'ETag: "1"')).url]})
    answer = await ask(running, ACCEPTS)
    assert (answer.body, answer.get(b"etag"), vary(answer)) == (BODY, b'"1"', None)


@pytest.mark.gen_test
async def test_a_service_has_a_setting_of_its_own(serve: Serve, upstream: Start) -> None:
    url = upstream(saying(TEXT)).url
    services = {"svc": [url], "plain": {"endpoints": [url], "compress": "off"}}
    running = await serve(services, **GZIP)
    assert (await ask(running, ACCEPTS)).get(b"content-encoding") == b"gzip"
    assert (await ask(running, ACCEPTS, path=b"/api/plain/x")).get(b"content-encoding") is None


@pytest.mark.parametrize(
    ("origin", "asked"),
    [
        (saying(b"Content-Type: image/png"), ()),
        (saying(b"Content-Type: text/event-stream"), ()),
        (saying(TEXT, b"Content-Encoding: br"), ()),
        (saying(TEXT, b"Cache-Control: no-transform"), ()),
        (saying(TEXT), (b"Cache-Control: no-transform",)),
        (saying(TEXT, body=b"x" * 1023), ()),
        (saying(TEXT, b"Content-Range: bytes 0-9/10", status=b"206 Partial Content"), (b"Range: bytes=0-9",)),
    ],
    ids=range(7),
)
@pytest.mark.gen_test
async def test_what_must_stay_as_it_is_stays(
    serve: Serve, upstream: Start, origin: Each, asked: tuple[bytes, ...]
) -> None:
    running = await serve({"svc": [upstream(origin).url]}, **GZIP)
    answer = await ask(running, ACCEPTS, *asked)
    assert answer.get(b"content-encoding") in (None, b"br")
    assert vary(answer) is None
    assert answer.body.startswith((BODY[:100], b"x" * 100))


@pytest.mark.gen_test
async def test_head_has_the_fields_of_get(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(saying(TEXT, b'ETag: "1"')).url]}, **GZIP)
    client = await running.client()
    heads = [await client.ask(get(PATH, ACCEPTS, method=method), method) for method in (b"GET", b"HEAD")]
    passing = (b"x-request-id", b"date", b"transfer-encoding")
    fields = [{name.lower(): value for name, value in each.fields} for each in heads]
    for each in fields:
        for name in passing:
            each.pop(name, None)
    assert fields[0] == fields[1]
    assert heads[1].body == b""


@pytest.mark.gen_test
async def test_a_304_has_the_etag_of_the_compressed_answer(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(saying(b'ETag: "1"', body=b"", status=b"304 Not Modified")).url]}, **GZIP)
    answer = await ask(running, ACCEPTS, b'If-None-Match: W/"1"')
    assert (answer.status, answer.get(b"etag"), vary(answer)) == (304, b'W/"1"', b"Accept-Encoding")
    assert (await ask(running, b'If-None-Match: "1"')).get(b"etag") == b'"1"'


@pytest.mark.gen_test
async def test_a_body_of_unknown_length_comes_piece_by_piece(serve: Serve, upstream: Start) -> None:
    gates: list[Peer] = []

    async def in_pieces(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n" % TEXT)
        gates.append(peer)
        await peer.ended()

    running = await serve({"svc": [upstream(in_pieces).url]}, **GZIP)
    client = await running.client()
    await client.send(get(PATH, ACCEPTS))
    await eventually(lambda: gates)
    head = await client.until(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    part = b""
    read = zlib.decompressobj(31)
    size = int((await client.until(b"\r\n")).strip(), 16)
    part = (await client.until(b"\r\n"))[:size]
    while len(part) < size:
        part += await client.until(b"\r\n")
    assert read.decompress(part[:size]) == b"half"
    await gates[0].send(b"4\r\nrest\r\n0\r\n\r\n")
    await client.until(b"0\r\n\r\n")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.gen_test
async def test_a_large_body_is_compressed_in_a_thread(
    serve: Serve, upstream: Start, monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    body = b"".join(b"%d," % number for number in range(100_000))
    assert len(body) > 8 * IN_THREAD
    in_threads = 0
    real = asyncio.to_thread

    async def counting(*arguments: object, **options: object) -> object:
        nonlocal in_threads
        in_threads += 1
        return await real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "to_thread", counting)
    framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    whole = b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (TEXT, framed)
    origin = Each(lambda _, __: whole) if chunked else saying(TEXT, body=body)
    running = await serve({"svc": [upstream(origin).url]}, **GZIP)
    client = await running.client()
    for _ in range(2):
        answer = await client.ask(get(PATH, ACCEPTS))
        assert gzip.decompress(answer.body) == body
    assert in_threads > 1


@pytest.mark.gen_test
async def test_a_stored_answer_is_compressed_for_each_client_that_accepts(serve: Serve, upstream: Start) -> None:
    body = b"".join(b"%d," % number for number in range(30_000))
    up = upstream(saying(TEXT, FRESH, b'ETag: "1"', body=body))
    running = await frozen(serve, {"svc": [up.url]}, **ON, **GZIP)
    for lines in ((ACCEPTS,), (), (ACCEPTS,)):
        answer = await ask(running, *lines)
        assert (gzip.decompress(answer.body) if lines else answer.body) == body
    assert status_of(answer) == b"hit; ttl=60"
    assert (await ask(running, ACCEPTS, b'If-None-Match: W/"1"')).status == 304
    part = await ask(running, ACCEPTS, b"Range: bytes=0-4")
    assert (part.status, part.body, part.get(b"content-encoding")) == (206, body[:5], None)
    assert (len(up.requests), kept(running)) == (1, 1)


async def leave_early(running: Running) -> None:
    client = await running.client()
    await client.send(get(PATH, ACCEPTS))
    await client.until(b"\r\n\r\n")
    client.close()
    await eventually(lambda: running.app.busy == 0)


@pytest.mark.gen_test
async def test_a_client_that_leaves_ends_the_work(serve: Serve, upstream: Start) -> None:
    body = b"".join(b"%d," % number for number in range(300_000))
    running = await serve({"svc": [upstream(saying(TEXT, body=body)).url]}, **GZIP)
    for _ in range(3):
        await leave_early(running)
    assert gzip.decompress((await ask(running, ACCEPTS)).body) == body


@pytest.mark.gen_test
async def test_a_body_that_breaks_off_is_cut_for_the_client_too(serve: Serve, upstream: Start) -> None:
    async def broken(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 200000\r\n\r\n%b" % (TEXT, BODY * 30))
        peer.reset()

    running = await serve({"svc": [upstream(broken).url]}, **GZIP)
    client = await running.client()
    await client.send(get(PATH, ACCEPTS))
    with pytest.raises(Ended):
        await client.until(b"0\r\n\r\n")


@pytest.mark.gen_test
async def test_a_client_of_http_1_0_gets_the_end_by_the_end_of_the_connection(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(saying(TEXT)).url]}, **GZIP)
    client = await running.client()
    await client.send(get(PATH, ACCEPTS).replace(b"HTTP/1.1", b"HTTP/1.0"))
    answer = await client.response()
    assert (answer.get(b"content-encoding"), answer.get(b"transfer-encoding")) == (b"gzip", None)
    assert gzip.decompress(answer.body) == BODY


@pytest.mark.gen_test
async def test_an_empty_answer_of_unknown_length_is_whole(serve: Serve, upstream: Start) -> None:
    whole = b"HTTP/1.1 200 OK\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % TEXT
    running = await serve({"svc": [upstream(Each(lambda _, __: whole)).url]}, **GZIP)
    assert gzip.decompress((await ask(running, ACCEPTS)).body) == b""
