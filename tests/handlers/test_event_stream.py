"""Event streams on real sockets, by any route: what is forwarded, what is inserted, and how streams end.

Row names such as S1 are those of the project's feature list. Time is let pass by looking at the streams with a
later clock.
"""

import asyncio
import contextlib
import gc
import itertools
import re
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.conftest import LOOPS, Running, Serve, make_settings
from tests.support.event_streams import (
    LAST_CHUNK,
    STREAM_HEAD,
    Listener,
    Source,
    chunk,
    dispatched,
    instant_after,
    let_pass,
    look,
    opened,
    stream_head,
)
from tests.support.journeys import Start, capture, only_line
from tests.support.sockets import PATIENCE, Client, Ended, Peer, Upstream, eventually, get
from tornado_gateway.app import App
from tornado_gateway.handlers.event_stream import BOUNDARY_GRACE, EventStream, WithoutMark
from tornado_gateway.policy.http.sse import HEARTBEAT
from tornado_gateway.wire.http1 import RequestFields, ResponseFields
from tornado_gateway.wire.peer import send_queue

ASK = get(b"/sse/svc/x")
ROUTES = {  # S20: nothing but the answer's type makes a stream of it
    "sse": ASK,
    "api": get(b"/api/svc/x"),
    "api-post": get(b"/api/svc/x", b"Content-Type: application/json", method=b"POST", body=b'{"stream":true}'),
}
on_every_route = pytest.mark.parametrize("request_", ROUTES.values(), ids=ROUTES)
EVENT = b"data: a\n\n"
RETRY = re.compile(rb"retry: (\d+)\n\n")
OLD_CLIENT = b"GET /sse/svc/x HTTP/1.0\r\nHost: a\r\n\r\n"


async def stream(
    serve: Serve, upstream: Start, source: Source, request: bytes = ASK, **variables: str
) -> tuple[Running, Listener]:
    """A gateway, and one stream through it."""
    running = await serve({"svc": [upstream(source).url]}, **variables)
    return running, await Listener.ask(running, request)


def wait_of(hint: bytes) -> int:
    """The ms that a retry: asks for; the hint must be nothing else."""
    found = RETRY.fullmatch(hint)
    assert found, hint
    return int(found[1])


async def line_of(lines: Callable[[], list[dict[str, Any]]]) -> tuple[int, str]:
    """Status and reason of the one line in the access log."""
    line = await only_line(lines)
    return line["status"], line["reason"]


async def passed(stream: EventStream, count: int, patience: float = PATIENCE) -> None:
    """Wait until so many bytes have been sent on."""
    await eventually(lambda: stream._client.body_bytes == count, patience)


# ---------------------------------------------------------------- what passes


@on_every_route
@pytest.mark.gen_test
async def test_the_head_arrives_before_any_event(serve: Serve, upstream: Start, request_: bytes) -> None:  # S1
    source = Source()
    running = await serve({"svc": [upstream(source).url]})
    client = await running.client()
    await client.send(request_)
    await source.peer()
    listener = Listener(client, await client.head())
    assert (listener.head.status, listener.head.get(b"content-type")) == (200, b"text/event-stream")
    await listener.is_quiet()


@on_every_route
@pytest.mark.gen_test
async def test_each_chunk_arrives_as_it_comes(serve: Serve, upstream: Start, request_: bytes) -> None:  # S2
    source = Source()
    _, listener = await stream(serve, upstream, source, request_)
    for piece in (b"data: 1\n\n", b": hi\n", b"da", b"ta: \xff\x00\r", b"\n\r", b"\n", b"id: 3\rdata\r\r"):
        await source.say(piece)
        await listener.hear(piece)  # before the next one is sent
    await source.end()
    assert (await listener.all()).end == "complete"


@pytest.mark.parametrize(
    ("given", "accel", "cache"),
    [
        ((), [b"no"], [b"no-transform"]),
        ((b"Cache-Control: no-cache",), [b"no"], [b"no-cache", b"no-transform"]),
        ((b"cache-control: no-cache, No-Transform", b"x-accel-buffering: no"), [b"no"], [b"no-cache, No-Transform"]),
        ((b"X-Accel-Buffering: yes", b"Cache-Control: no-transform"), [b"yes"], [b"no-transform"]),
        ((b"Cache-Control: a", b"Cache-Control: no-transform"), [b"no"], [b"a", b"no-transform"]),
    ],
)
@pytest.mark.gen_test
async def test_proxies_are_told_not_to_transform_or_buffer_the_stream(  # S2
    serve: Serve, upstream: Start, given: tuple[bytes, ...], accel: list[bytes], cache: list[bytes]
) -> None:
    source = Source(stream_head(*given))
    _, listener = await stream(serve, upstream, source)
    assert listener.head.all(b"x-accel-buffering") == accel
    assert listener.head.all(b"cache-control") == cache
    assert listener.head.all(b"content-encoding") == []


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Encoding: gzip",),
        (b"Content-Encoding: br", b"Vary: Accept-Encoding"),
        (b"Content-Encoding: identity",),
    ],
)
@pytest.mark.gen_test
async def test_a_services_own_coding_stays(serve: Serve, upstream: Start, lines: tuple[bytes, ...]) -> None:  # S2
    source = Source(stream_head(*lines))
    _, listener = await stream(serve, upstream, source)
    assert [b"%b: %b" % field for field in listener.head.fields if field[0] in (b"Content-Encoding", b"Vary")] == [
        *lines
    ]
    await source.say(b"\x1f\x8b\x00\n\n")
    await listener.hear(b"\x1f\x8b\x00\n\n")


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
@on_every_route
@pytest.mark.gen_test
async def test_a_service_without_framing_ends_its_stream_by_closing(  # S3
    serve: Serve, upstream: Start, request_: bytes, version: bytes
) -> None:
    source = Source(version + b" 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", is_chunked=False)
    running, listener = await stream(serve, upstream, source, request_)
    for number in range(3):
        await source.say(b"data: %d\n\n" % number)
        await listener.hear(b"data: %d\n\n" % number)
    await source.end()
    assert (await listener.all()).end == "complete"
    assert (await listener.client.ask(get(b"/healthz"))).status == 200
    assert running.errors == 0


@pytest.mark.gen_test
async def test_an_old_client_gets_the_bytes_without_chunks(serve: Serve, upstream: Start) -> None:
    source = Source()
    _, listener = await stream(serve, upstream, source, OLD_CLIENT)
    assert listener.head.all(b"transfer-encoding") + listener.head.all(b"content-length") == []
    assert listener.head.get(b"connection") == b"close"
    for _ in range(2):
        await source.say(EVENT)
        await listener.hear(EVENT)
    await source.end()
    assert (await listener.all()).end == "complete"


@pytest.mark.gen_test
async def test_a_stream_of_known_length_passes_untouched(serve: Serve, upstream: Start) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 18\r\n\r\n"
    source = Source(head, is_chunked=False)
    running, listener = await stream(serve, upstream, source)
    await source.say(EVENT)
    assert await listener.client.exactly(9) == EVENT
    let_pass(running, 100)
    await listener.is_quiet()
    await source.say(EVENT)
    assert (listener.head.get(b"content-length"), await listener.client.exactly(9)) == (b"18", EVENT)
    assert (await listener.client.ask(get(b"/healthz"))).status == 200


@on_every_route
@pytest.mark.gen_test
async def test_both_connections_serve_on_behind_a_stream(serve: Serve, upstream: Start, request_: bytes) -> None:
    async def two_streams(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            await peer.send(STREAM_HEAD + chunk(EVENT) + LAST_CHUNK)
        await peer.ended()

    up = upstream(two_streams)
    running = await serve({"svc": [up.url]})
    client = await running.client()
    for _ in range(2):
        answer = await client.ask(request_)
        assert (answer.status, answer.body, answer.complete) == (200, EVENT, True)
        assert answer.get(b"cache-control") == b"no-transform"
    assert (up.accepted, running.app.gateway.streams.open) == (1, set())


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.gen_test
async def test_trailers_pass_to_a_client_that_asks_for_trailers(serve: Serve, upstream: Start, wanted: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD + chunk(EVENT) + b"0\r\nX-Sum: 7\r\n\r\n")
        await peer.ended()

    running = await serve({"svc": [upstream(script).url]})
    client = await running.client()
    answer = await client.ask(get(b"/sse/svc/x", *([b"TE: trailers", b"Connection: TE"] if wanted else [])))
    assert (answer.body, answer.trailers) == (EVENT, [(b"X-Sum", b"7")] if wanted else [])


@pytest.mark.gen_test
async def test_a_stream_that_says_500_is_a_failure(serve: Serve, upstream: Start) -> None:
    source = Source(stream_head(status=b"500 Internal Server Error"))
    running, listener = await stream(serve, upstream, source)
    await source.say(EVENT)
    await source.end()
    assert (await listener.all()).end == "complete"
    assert running.errors == 1


@pytest.mark.gen_test
async def test_a_request_behind_a_stream_waits_for_its_end(serve: Serve, upstream: Start) -> None:
    source = Source()
    _, listener = await stream(serve, upstream, source)
    await source.say(EVENT)
    await listener.client.send(get(b"/healthz"))
    await listener.hear(EVENT)
    await listener.is_quiet()
    await source.end()
    assert (await listener.all()).body == EVENT
    assert (await listener.client.response()).status == 200


@pytest.mark.gen_test
async def test_a_stream_keeps_no_fields(serve: Serve, upstream: Start) -> None:
    mark = b"kept-by-nobody"
    source = Source(stream_head(b"X-Mark: " + mark))
    running, listener = await stream(serve, upstream, source, get(b"/sse/svc/x", b"Cookie: " + mark))
    await opened(running)
    await source.say(EVENT)
    await listener.hear(EVENT)
    gc.collect()
    kept = [each for each in gc.get_objects() if isinstance(each, RequestFields | ResponseFields)]
    assert not [each for each in kept if mark in each.block]


# ---------------------------------------------------------------- silence


@on_every_route
@pytest.mark.gen_test
async def test_a_silent_stream_has_no_total_timeout(serve: Serve, upstream: Start, request_: bytes) -> None:  # H14
    source = Source()
    running, listener = await stream(
        serve, upstream, source, request_, HTTP_PROXY_TIMEOUT_MS="1000", SSE_IDLE_TIMEOUT_MS="0", SSE_HEARTBEAT_MS="0"
    )
    await opened(running)
    let_pass(running, 1e6)
    await listener.is_quiet()
    await source.say(EVENT)
    await listener.hear(EVENT)
    assert (listener.end, running.errors) == ("", 0)


@on_every_route
@pytest.mark.gen_test
async def test_a_service_may_be_silent_for_so_long_only(serve: Serve, upstream: Start, request_: bytes) -> None:  # S9
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, SSE_HEARTBEAT_MS="0")
    lines = capture(running)
    listener = await Listener.ask(running, request_)
    await opened(running)
    await source.say(EVENT)
    await listener.hear(EVENT)
    let_pass(running, 290)
    await listener.is_quiet()
    let_pass(running, 301)
    assert (await listener.all()).end == "cut"
    await (await source.peer()).ended()
    assert await line_of(lines) == (200, "upstream_idle_timeout")
    assert running.errors == 1


@pytest.mark.gen_test
async def test_a_service_is_waited_for_again_behind_each_piece(serve: Serve, upstream: Start) -> None:  # S9
    source = Source()
    running, listener = await stream(serve, upstream, source, SSE_IDLE_TIMEOUT_MS="300000", SSE_HEARTBEAT_MS="0")
    heard = running.app.server.context.loop.time()
    for _ in range(3):
        said = await instant_after(running, heard)
        await source.say(EVENT)
        await listener.hear(EVENT)
        heard = running.app.server.context.loop.time()
        look(running, said + 299.99)  # 300 s since the piece before, not since this one
        await listener.is_quiet()
    look(running, heard + 300)
    assert (await listener.all()).end == "cut"
    assert running.errors == 1


@on_every_route
@pytest.mark.gen_test
async def test_a_listener_that_hears_nothing_gets_comments(
    serve: Serve, upstream: Start, request_: bytes
) -> None:  # S7
    source = Source()
    running, listener = await stream(serve, upstream, source, request_, SSE_IDLE_TIMEOUT_MS="0")
    await opened(running)
    let_pass(running, 14)
    await listener.is_quiet()
    for turn in (1, 2, 3):
        let_pass(running, 15.1 * turn)
        await listener.hear(HEARTBEAT)
        let_pass(running, 15.1 * turn + 14)
        await listener.is_quiet()
    await source.say(EVENT)
    await source.end()
    assert (await listener.all()).body == HEARTBEAT * 3 + EVENT


@pytest.mark.gen_test
async def test_comments_come_by_themselves_and_stop_behind_the_end(serve: Serve, upstream: Start) -> None:  # S7
    source = Source()
    running, listener = await stream(serve, upstream, source, SSE_HEARTBEAT_MS="50")
    await listener.hear(HEARTBEAT, HEARTBEAT)
    await source.end()
    assert (await listener.all()).end == "complete"
    let_pass(running, 10)
    await listener.is_quiet()


async def looked_at(stream: EventStream, first: WithoutMark, said: bytes) -> None:
    """Wait until all that was said has been looked at for a mark, or none is looked for any more."""
    await eventually(lambda: first._data == said or stream._source.receiver is stream)


@pytest.mark.parametrize(
    ("pieces", "arrives"),
    [
        ([b"\xef\xbb\xbfdata: a\n\n"], b"data: a\n\n"),
        ([b"\xef", b"\xbb", b"\xbfdata: a\n\n"], b"data: a\n\n"),
        ([b"\xef\xbb\xbf", b"data: a\n\n"], b"data: a\n\n"),
        ([b"\xef\xbb", b": a\n\n"], b"\xef\xbb: a\n\n"),
        ([b"\xef\xbb"], b"\xef\xbb"),
        ([b"data: a\n\n", b"\xef\xbb\xbfdata: b\n\n"], b"data: a\n\n\xef\xbb\xbfdata: b\n\n"),
    ],
)
@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.gen_test
async def test_a_byte_order_mark_behind_a_comment_is_left_out(  # S7, WHATWG HTML §9.2.6
    serve: Serve, upstream: Start, pieces: list[bytes], arrives: bytes, breaks: bool
) -> None:
    source = Source()
    running, listener = await stream(serve, upstream, source)
    (open_,) = await opened(running)
    assert isinstance(open_, EventStream)
    let_pass(running, 15.1)
    await listener.hear(HEARTBEAT)
    first = open_._source.receiver
    assert isinstance(first, WithoutMark)
    for piece, said in zip(pieces, itertools.accumulate(pieces), strict=True):
        await source.say(piece)
        await looked_at(open_, first, said)
    await (source.fail(reset=False) if breaks else source.end())
    assert (await listener.all()).body == HEARTBEAT + arrives
    assert listener.end == ("cut" if breaks else "complete")


@pytest.mark.gen_test
async def test_a_listener_that_hears_something_needs_no_comment(serve: Serve, upstream: Start) -> None:  # S7
    source = Source()
    running, listener = await stream(serve, upstream, source)
    (open_,) = await opened(running)
    said = await instant_after(running, running.app.server.context.loop.time())
    await source.say(EVENT)
    await listener.hear(EVENT)
    look(running, said + 14.99)  # 15 s since the head, not since the event
    await listener.is_quiet()
    assert open_.next_check >= said + 15


@pytest.mark.parametrize(
    ("pieces", "closing"),
    [
        ((b"data: par",), b"tial\n\n"),
        ((b"data: a\n",), b"\n"),
        ((b"data: a\r\n",), b"\r\n"),
        ((b"data: a\r",), b"\r"),
        ((b"data: a\r", b"\n"), b"\r\n"),
        ((b"data: a\n\nid: 7\n",), b"\n"),
        ((b"d", b"ata: a", b"\r\n", b"event: x\r\n"), b"\r\n"),
        ((b"data: a\n", b": comment\n"), b"\n"),
        ((b": comm",), b"ent\n"),
        ((b"data: a\r\n\r\ndata",), b"\r\n\r\n"),
        ((b"event: x\r",), b"\r"),
    ],
)
@pytest.mark.gen_test
async def test_comments_stand_between_events_only(  # S8
    serve: Serve, upstream: Start, pieces: tuple[bytes, ...], closing: bytes
) -> None:
    source = Source()
    running, listener = await stream(serve, upstream, source, SSE_IDLE_TIMEOUT_MS="0")
    await opened(running)
    for piece in pieces:
        await source.say(piece)
        await listener.hear(piece)
        let_pass(running, 1000)
        await listener.is_quiet()
    await source.say(closing)
    await listener.hear(closing)
    let_pass(running, 1000)
    await listener.hear(HEARTBEAT)
    assert listener.body == b"".join(pieces) + closing + HEARTBEAT


@pytest.mark.gen_test
async def test_a_line_end_that_was_cut_is_one_line_end(serve: Serve, upstream: Start) -> None:  # S8
    source = Source()
    running, listener = await stream(serve, upstream, source, SSE_IDLE_TIMEOUT_MS="0")
    await opened(running)
    await source.say(b"data: a\r\n\r")
    await listener.hear(b"data: a\r\n\r")
    let_pass(running, 1000)
    await listener.hear(HEARTBEAT)
    await source.say(b"\ndata: b\r\n")
    await listener.hear(b"\ndata: b\r\n")
    let_pass(running, 1000)
    await listener.is_quiet()
    await source.say(b"\r\n")
    await source.end()
    assert dispatched((await listener.all()).body) == [("message", "a", ""), ("message", "b", "")]


@pytest.mark.parametrize("lines", [(b"Content-Encoding: gzip",), (b"Content-Encoding: identity, br",)])
@pytest.mark.gen_test
async def test_nothing_is_put_into_a_compressed_stream(  # S8
    serve: Serve, upstream: Start, lines: tuple[bytes, ...]
) -> None:
    source = Source(stream_head(*lines))
    running, listener = await stream(serve, upstream, source, SSE_IDLE_TIMEOUT_MS="0", SSE_MAX_AGE_MS="10000000")
    (open_,) = await opened(running)
    await source.say(b"\x1f\x8b\n\n")
    await listener.hear(b"\x1f\x8b\n\n")
    let_pass(running, 1000)
    await listener.is_quiet()
    open_.drain()
    assert (await listener.all()).chunks == [b"\x1f\x8b\n\n"]
    assert listener.end == "cut"


@pytest.mark.gen_test
async def test_a_comment_is_no_sign_of_life_of_the_service(serve: Serve, upstream: Start) -> None:  # S7
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, SSE_HEARTBEAT_MS="50", SSE_IDLE_TIMEOUT_MS="300")
    listener = await Listener.ask(running, ASK)
    await listener.all()
    assert (listener.end, set(listener.chunks)) == ("cut", {HEARTBEAT})


# ---------------------------------------------------------------- an end for a reason


@pytest.mark.gen_test
async def test_lives_are_spread_over_their_last_fifth(serve: Serve, upstream: Start) -> None:  # S10
    source = Source()
    running = await serve(
        {"svc": [upstream(source).url]}, SSE_MAX_AGE_MS="600000", SSE_HEARTBEAT_MS="0", SSE_IDLE_TIMEOUT_MS="0"
    )
    lines = capture(running)
    listeners = [await Listener.ask(running, ASK) for _ in range(16)]
    await opened(running, 16)
    let_pass(running, 475)
    assert len(await opened(running, 16)) == 16
    let_pass(running, 540)
    assert 0 < len(running.app.gateway.streams.open) < 16  # all on one side: once in 32,000 runs
    let_pass(running, 600.5)
    await opened(running, 0)
    waits = [wait_of((await listener.all()).body) for listener in listeners]
    assert {listener.end for listener in listeners} == {"complete"}
    assert min(waits) >= 1000
    assert max(waits) <= 5000
    assert len(set(waits)) > 8
    for peer in source.peers:
        await peer.ended()
    await eventually(lambda: len(lines()) == 16)
    assert {(line["status"], line["reason"]) for line in lines()} == {(200, "max_age")}
    assert running.errors == 0


@pytest.mark.parametrize(
    ("before", "behind", "kept"),
    [
        (b"", b"", b""),
        (b"data: a\n\n", b"", b""),
        (b": hi\n", b"", b""),
        (b"data: par", b"tial\n\n", b"tial\n\n"),
        (b"data: par", b"tial\n\ndata: ne", b"tial\n\n"),
        (b"data: par", b"tial\r\n\r\ndata: next\r\n\r\n", b"tial\r\n\r\ndata: next\r\n\r\n"),
        (b"data: a\r", b"\rdata", b"\r"),
        (b"data: a\n", b"\n", b"\n"),
        (b"data: a\r\n", b"\r\n:", b"\r\n"),
        (b": hal", b"f\n", b"f\n"),
    ],
)
@pytest.mark.gen_test
async def test_an_old_stream_ends_behind_an_event(  # S10
    serve: Serve, upstream: Start, before: bytes, behind: bytes, kept: bytes
) -> None:
    source = Source()
    running, listener = await stream(serve, upstream, source, SSE_MAX_AGE_MS="100000")
    await opened(running)
    if before:
        await source.say(before)
        await listener.hear(before)
    let_pass(running, 101)
    if behind:
        await listener.is_quiet()
        await source.say(behind)
        await listener.hear(kept)
        let_pass(running, 101)  # behind a comment it is not noticed before somebody looks
    heard = len(listener.body)
    assert wait_of((await listener.all()).body[heard:])
    assert listener.end == "complete"
    await (await source.peer()).ended()
    assert (await listener.client.ask(get(b"/healthz"))).status == 200
    assert (running.errors, running.inflight) == (0, 0)


@pytest.mark.gen_test
async def test_the_first_reason_for_an_end_counts(serve: Serve, upstream: Start) -> None:
    source = Source()
    running, listener = await stream(serve, upstream, source, SSE_MAX_AGE_MS="100000")
    lines = capture(running)
    (open_,) = await opened(running)
    await source.say(b"data: par")
    await listener.hear(b"data: par")
    let_pass(running, 101)
    open_.drain()
    await source.say(b"tial\n\n")
    await listener.all()
    assert await line_of(lines) == (200, "max_age")


@pytest.mark.gen_test
async def test_an_old_client_is_told_to_come_back_too(serve: Serve, upstream: Start) -> None:  # S10
    source = Source()
    running, listener = await stream(serve, upstream, source, OLD_CLIENT, SSE_MAX_AGE_MS="100000")
    await opened(running)
    let_pass(running, 101)
    assert wait_of((await listener.all()).body)
    assert listener.end == "complete"


@pytest.mark.gen_test
async def test_a_compressed_stream_is_cut_without_an_insertion(serve: Serve, upstream: Start) -> None:  # S10
    source = Source(stream_head(b"Content-Encoding: gzip"))
    running, listener = await stream(serve, upstream, source, SSE_MAX_AGE_MS="100000")
    await opened(running)
    await source.say(b"\x1f\x8b")
    await listener.hear(b"\x1f\x8b")
    let_pass(running, 101)
    assert (await listener.all()).body == b"\x1f\x8b"
    assert listener.end == "cut"


@pytest.mark.gen_test
async def test_a_stream_cut_short_of_its_length_does_not_look_complete(serve: Serve, upstream: Start) -> None:  # S10
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\n"
    source = Source(head, is_chunked=False)
    running, listener = await stream(serve, upstream, source, SSE_MAX_AGE_MS="100000")
    await opened(running)
    let_pass(running, 101)
    with pytest.raises(Ended) as ended:
        await listener.client.exactly(100)
    assert ended.value.clean is False


@pytest.mark.parametrize(
    ("first", "behind", "kept"),
    [
        (b"data: 45678\n\n", b"", b""),
        (b"data: 45678\n\n:0\n", b"", b""),
        (b"data: 1\n\ndata: 2", b"\n\ndata: 3\n", b"\n\n"),
        (b"data: 4567890123", b"45\n\ndata: more\n", b"45\n\n"),
        (b"data: 456789012\r", b"\n\r\ndata", b"\n\r\n"),
        (b"data: 1\n\n: 345678", b"9\n", b"9\n"),
    ],
)
@pytest.mark.gen_test
async def test_a_stream_ends_behind_so_many_bytes(  # S22
    serve: Serve, upstream: Start, first: bytes, behind: bytes, kept: bytes
) -> None:
    source = Source()
    running, listener = await stream(serve, upstream, source, SSE_MAX_BYTES="13")
    lines = capture(running)
    await source.say(first)
    await listener.hear(first)
    if behind:
        await listener.is_quiet()
        await source.say(behind)
    await listener.all()
    assert listener.body.startswith(first + kept)
    assert wait_of(listener.body.removeprefix(first + kept))
    assert (listener.end, await line_of(lines), running.errors) == ("complete", (200, "max_bytes"), 0)


SECRET = "k" * 32


def bearer(seconds: float) -> bytes:
    return b"Authorization: Bearer " + jwt.encode({"exp": time.time() + seconds}, SECRET).encode()


@on_every_route
@pytest.mark.parametrize("before", [b"", b"data: par"])
@pytest.mark.gen_test
async def test_a_stream_ends_when_its_token_does(  # S11
    serve: Serve, upstream: Start, request_: bytes, before: bytes
) -> None:
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, AUTH_REQUIRED="true", JWT_SECRET=SECRET)
    lines = capture(running)
    first, rest = request_.split(b"\r\n", 1)
    listener = await Listener.ask(running, b"\r\n".join((first, bearer(10), rest)))
    await opened(running)
    let_pass(running, 8)
    await listener.is_quiet()
    if before:
        await source.say(before)
        await listener.hear(before)
    let_pass(running, 10)
    if before:
        await listener.is_quiet()
        await source.say(b"tial\n\n")
    await listener.all()
    whole = b"data: partial\n\n" if before else b""
    assert listener.body == whole + b"event: gateway-close\ndata: token_expired\n\n"
    assert (listener.end, await line_of(lines), running.errors) == ("complete", (200, "token_expired"), 0)
    await (await source.peer()).ended()


@on_every_route
@pytest.mark.parametrize(
    ("before", "behind", "end"),
    [(b"", b"", "complete"), (b"data: par", b"tial\n\n", "complete"), (b"data: par", b"", "cut")],
)
@pytest.mark.gen_test
async def test_a_stream_ends_when_its_token_is_revoked(  # S11
    serve: Serve, upstream: Start, request_: bytes, before: bytes, behind: bytes, end: str
) -> None:
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, AUTH_REQUIRED="true", JWT_SECRET=SECRET)
    lines = capture(running)
    first, rest = request_.split(b"\r\n", 1)
    listener = await Listener.ask(running, b"\r\n".join((first, bearer(1000), rest)))
    (opened_,) = await opened(running)
    running.app.heartbeat.stop()  # so that only look() checks
    if before:
        await source.say(before)
        await listener.hear(before)
    opened_.revoke()
    if behind:
        await source.say(behind)
    elif before:
        look(running, running.app.server.context.loop.time())
    await listener.all()
    closing = b"event: gateway-close\ndata: token_revoked\n\n" if end == "complete" else b""
    assert listener.body == before + behind + closing
    assert (listener.end, await line_of(lines), running.errors) == (end, (200, "token_revoked"), 0)
    await (await source.peer()).ended()


@pytest.mark.gen_test
async def test_a_stream_with_an_endless_token_goes_on(serve: Serve, upstream: Start) -> None:  # S11
    source = Source()
    running = await serve(
        {"svc": [upstream(source).url]}, AUTH_REQUIRED="true", JWT_SECRET=SECRET, SSE_IDLE_TIMEOUT_MS="0"
    )
    token = jwt.encode({"sub": "a"}, SECRET).encode()
    listener = await Listener.ask(running, get(b"/sse/svc/x", b"Authorization: Bearer " + token))
    await opened(running)
    let_pass(running, 1e6)
    await listener.hear(HEARTBEAT)
    assert listener.end == ""


# ---------------------------------------------------------------- failures


@on_every_route
@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.gen_test
async def test_a_stream_that_breaks_lacks_its_last_chunk_only(  # S19
    serve: Serve, upstream: Start, request_: bytes, reset: bool
) -> None:
    source = Source()
    running = await serve({"svc": [upstream(source).url]})
    lines = capture(running)
    listener = await Listener.ask(running, request_)
    await source.say(b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n")
    await source.fail(reset=reset)
    await listener.all()
    assert (listener.body, listener.end) == (b"data: 1\n\ndata: 2\n\ndata: 3\n\n", "cut")
    assert await line_of(lines) == (200, "upstream_reset")
    assert (running.errors, running.inflight) == (1, 0)


@pytest.mark.parametrize("last", [b"5\r\nhel", b"zz\r\n", b"0\r\n"])
@pytest.mark.gen_test
async def test_a_stream_whose_framing_breaks_lacks_its_last_chunk(  # S19
    serve: Serve, upstream: Start, last: bytes
) -> None:
    source = Source()
    running, listener = await stream(serve, upstream, source)
    await source.say(EVENT)
    await listener.hear(EVENT)
    await (await source.peer()).send(last)
    await source.fail(reset=False)
    await listener.all()
    assert (listener.body.removesuffix(b"hel"), listener.end, running.errors) == (EVENT, "cut", 1)


ERRORS = {
    "off": b"",
    "generic": b'event: error\ndata: {"error": "upstream_unavailable", "message": "%b"}\n\n',
    "openai": b'data: {"error": {"message": "%b", "type": "server_error", "param": null, '
    b'"code": "upstream_unavailable"}}\n\n',
    "anthropic": b'event: error\ndata: {"type": "error", "error": {"type": "api_error", "message": "%b"}}\n\n',
}
LOST = b"The service ended the connection before its response was complete."


@on_every_route
@pytest.mark.parametrize("style", ERRORS)
@pytest.mark.gen_test
async def test_a_failure_is_told_in_the_words_of_the_clients(  # S19
    serve: Serve, upstream: Start, request_: bytes, style: str
) -> None:
    source = Source()
    _, listener = await stream(serve, upstream, source, request_, SSE_ERROR_EVENT=style)
    await source.say(EVENT)
    await source.fail()
    await listener.all()
    assert listener.body == EVENT + ERRORS[style].replace(b"%b", LOST)
    assert (listener.end, b"[DONE]" in listener.body) == ("cut", False)


@pytest.mark.parametrize("style", ["generic", "openai", "anthropic"])
@pytest.mark.parametrize("open_", [b"data: par", b"data: a\n", b": com", b"event: x\r\n"])
@pytest.mark.gen_test
async def test_no_error_event_is_inserted_into_an_open_event(  # S19
    serve: Serve, upstream: Start, open_: bytes, style: str
) -> None:
    source = Source()
    _, listener = await stream(serve, upstream, source, SSE_ERROR_EVENT=style)
    await source.say(EVENT, open_)
    await source.fail()
    await listener.all()
    assert (listener.body, listener.end) == (EVENT + open_, "cut")


@pytest.mark.gen_test
async def test_a_service_that_fell_silent_is_told_apart(serve: Serve, upstream: Start) -> None:  # S19
    source = Source()
    running, listener = await stream(
        serve, upstream, source, SSE_ERROR_EVENT="anthropic", SSE_IDLE_TIMEOUT_MS="100000", SSE_HEARTBEAT_MS="0"
    )
    await opened(running)
    let_pass(running, 101)
    assert b'"type": "timeout_error"' in (await listener.all()).body
    assert listener.end == "cut"


@pytest.mark.gen_test
async def test_nothing_is_put_into_a_compressed_stream_that_fails(serve: Serve, upstream: Start) -> None:  # S19
    source = Source(stream_head(b"Content-Encoding: gzip"))
    _, listener = await stream(serve, upstream, source, SSE_ERROR_EVENT="generic")
    await source.say(b"\x1f\x8b\n\n")
    await source.fail()
    assert ((await listener.all()).body, listener.end) == (b"\x1f\x8b\n\n", "cut")


@pytest.mark.parametrize("style", ["off", "generic"])
@pytest.mark.gen_test
async def test_an_old_clients_broken_stream_is_reset(serve: Serve, upstream: Start, style: str) -> None:  # S19
    source = Source()
    running, listener = await stream(serve, upstream, source, OLD_CLIENT, SSE_ERROR_EVENT=style)
    await opened(running)
    await source.say(EVENT)
    await listener.hear(EVENT)
    await source.fail()
    assert (await listener.all()).end == "reset"


# ---------------------------------------------------------------- a client that leaves


@on_every_route
@pytest.mark.parametrize("said", [(), (EVENT,), (b"data: par",)], ids=["silent", "after an event", "in an event"])
@pytest.mark.parametrize("abrupt", [True, False])
@pytest.mark.gen_test
async def test_a_client_that_leaves_a_silent_stream_ends_it(  # S5, S6
    serve: Serve, upstream: Start, request_: bytes, said: tuple[bytes, ...], abrupt: bool
) -> None:
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, SSE_ERROR_EVENT="generic")
    lines = capture(running)
    listener = await Listener.ask(running, request_)
    await source.say(*said)
    await listener.hear(*said)
    listener.client.reset() if abrupt else listener.client.close()
    await (await source.peer()).ended()
    assert await line_of(lines) == (200, "client_closed")
    assert (running.inflight, running.errors, running.app.gateway.streams.open) == (0, 0, set())


@pytest.mark.gen_test
async def test_a_client_that_leaves_a_flood_ends_it(serve: Serve, upstream: Start) -> None:  # S5, CVE-2026-26311
    async def flood(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD)
        while True:
            await peer.send(chunk(b"data: %b\n\n" % (b"x" * 5000)) * 10)
            await asyncio.sleep(0)

    up = upstream(flood)
    running = await serve({"svc": [up.url]})
    lines = capture(running)
    listener = await Listener.ask(running, ASK)
    await listener.client.exactly(100_000)
    listener.client.close()
    await eventually(lambda: up.open == 0)
    assert await line_of(lines) == (200, "client_closed")
    assert running.inflight == 0


# ---------------------------------------------------------------- a client that does not keep up

FLOOD = b"data: %b\n\n" % (b"x" * 10_000)
BLANK = b"\n" * 10_000  # a boundary wherever it is cut


async def stall(source: Source, stream: EventStream, event: bytes) -> int:
    """Say the same event again and again, until the gateway takes no more; how often."""
    said = 0
    while True:
        await source.say(event)
        said += 1
        try:
            await passed(stream, said * len(event), patience=0.1)
        except TimeoutError:
            return said


@pytest.mark.parametrize("event", [FLOOD, BLANK], ids=["events", "blank lines"])
@pytest.mark.parametrize(("bound", "high"), [("262144", 64 * 1024), ("1000", 1000)])
@pytest.mark.gen_test
async def test_a_reader_that_stalls_stalls_the_service_and_loses_nothing(  # S13
    serve: Serve, upstream: Start, bound: str, high: int, event: bytes
) -> None:
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, STREAM_BUFFER_BYTES=bound)
    listener = await Listener.ask(running, ASK, receive_buffer=4096)
    (open_,) = await opened(running)
    assert isinstance(open_, EventStream)
    said = await stall(source, open_, event)
    (connection,) = running.app.server.connections
    waiting = connection.transport.get_write_buffer_size()
    assert high < waiting <= high + len(chunk(event))  # the piece that was one too many
    let_pass(running, 1e6)  # the service is not to blame, and nothing is added to what waits
    assert connection.transport.get_write_buffer_size() == waiting
    more = 1000  # 10 MB, more than the kernel keeps
    saying = asyncio.ensure_future(source.say(*[event] * more))
    assert not (await asyncio.wait([saying], timeout=0.2))[0]  # nobody takes them
    assert connection.transport.get_write_buffer_size() == waiting
    hearing = asyncio.ensure_future(listener.all())
    await saying
    await source.end()
    await hearing
    assert listener.end == "complete"
    assert listener.body == event * (said + more)
    assert running.errors == 0


@pytest.mark.gen_test
async def test_a_reader_that_does_not_keep_up_is_cut_off_if_so_configured(serve: Serve, upstream: Start) -> None:  # S13
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, SLOW_CONSUMER="disconnect", STREAM_BUFFER_BYTES="100000")
    lines = capture(running)
    listener = await Listener.ask(running, ASK, receive_buffer=4096)
    with pytest.raises(ConnectionError):
        while True:
            await source.say(FLOOD)
    assert (await listener.all()).end == "reset"
    assert await line_of(lines) == (200, "slow_consumer")
    assert (running.errors, running.inflight) == (0, 0)


@pytest.mark.gen_test
async def test_a_reader_that_keeps_up_is_never_cut_off(serve: Serve, upstream: Start) -> None:  # S13
    source = Source()
    _, listener = await stream(serve, upstream, source, SLOW_CONSUMER="disconnect", STREAM_BUFFER_BYTES="20000")
    for _ in range(200):
        await source.say(FLOOD)
        await listener.hear(FLOOD)
    await source.end()
    assert (await listener.all()).end == "complete"


@pytest.mark.gen_test
async def test_a_reader_that_takes_nothing_at_all_is_cut_off(serve: Serve, upstream: Start) -> None:  # S13
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, CLIENT_IDLE_TIMEOUT_MS="300")
    lines = capture(running)
    listener = await Listener.ask(running, ASK, receive_buffer=4096)
    with pytest.raises(ConnectionError):
        while True:
            await source.say(FLOOD)
    assert (await listener.all()).end == "reset"
    assert await line_of(lines) == (200, "client_stalled")
    assert (running.errors, running.inflight) == (0, 0)


# ---------------------------------------------------------------- the gateway stops


@pytest.mark.parametrize(
    ("spread", "patience", "window"), [("300", "3000", 0.3), ("60000", "500", 0.4), ("0", "3000", 0.0)]
)
@pytest.mark.gen_test
async def test_streams_end_evenly_over_a_while_when_the_gateway_stops(  # S12
    serve: Serve, upstream: Start, spread: str, patience: str, window: float
) -> None:
    source = Source()
    running = await serve(
        {"svc": [upstream(source).url]},
        DRAIN_SPREAD_MS=spread, SHUTDOWN_TIMEOUT_MS=patience, HEADER_TIMEOUT_MS="200",
    )  # fmt: skip
    lines = capture(running)
    listeners = [await Listener.ask(running, ROUTES[route]) for route in ("sse", "api", "api-post", "sse")]
    await opened(running, 4)
    begun = time.monotonic()

    async def end_of(listener: Listener) -> float:
        await listener.all()
        return time.monotonic() - begun

    draining = asyncio.ensure_future(running.app.drain())
    ends = sorted(await asyncio.gather(*map(end_of, listeners)))
    for number, seconds in enumerate(ends, 1):
        assert seconds >= window * number / 4 - 0.01
    assert await draining is True
    assert {listener.end for listener in listeners} == {"complete"}
    assert all(wait_of(listener.body) for listener in listeners)
    for listener in listeners:
        assert await listener.client.ended()
    await eventually(lambda: len(lines()) == 4)
    assert {(line["status"], line["reason"]) for line in lines()} == {(200, "draining")}


@pytest.mark.gen_test
async def test_a_stopping_gateway_waits_for_the_end_of_an_event(serve: Serve, upstream: Start) -> None:  # S12
    source = Source()
    running, listener = await stream(serve, upstream, source, DRAIN_SPREAD_MS="0")
    await source.say(b"data: par")
    await listener.hear(b"data: par")
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.server.context.draining)
    let_pass(running, 0.01)
    await listener.is_quiet()
    await source.say(b"tial\n\ndata: never")
    await listener.hear(b"tial\n\n")
    assert wait_of((await listener.all()).chunks[-1])
    assert (listener.end, await draining) == ("complete", True)


@pytest.mark.gen_test
async def test_an_event_that_never_ends_does_not_keep_a_gateway_from_stopping(  # S12
    serve: Serve, upstream: Start
) -> None:
    source = Source()
    running, listener = await stream(serve, upstream, source, DRAIN_SPREAD_MS="0", SHUTDOWN_TIMEOUT_MS="100")
    await source.say(b"data: par")
    await listener.hear(b"data: par")
    assert await running.app.drain() is False
    await running.app.close()
    assert (await listener.all()).end == "reset"
    assert listener.body == b"data: par"


# ---------------------------------------------------------------- any stream

PIECES = (
    b"data", b"event", b"id", b"retry", b":", b": ", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"a",
    b"7", b"\xc3\xa9", b"\xff", b"\x00", b"data: x\n\n", b"data: x\r\n\r\n", b": c\n", b"id: 1\n",
)  # fmt: skip
STREAMS = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


async def through(whole: bytes, places: list[int]) -> bytes:
    """What a client hears of a stream that is sent in pieces, with long silences before and behind each."""
    source = Source()
    upstream = Upstream(source)
    app = App(make_settings({"svc": [upstream.url]}, SSE_IDLE_TIMEOUT_MS="0"))
    ((_, port),) = await app.start()
    client = await Client.connect(port)
    try:
        await client.send(ASK)
        listener = Listener(client, await client.head())
        await eventually(lambda: app.gateway.streams.open)
        (stream,) = app.gateway.streams.open
        assert isinstance(stream, EventStream)
        marks = sorted({0, len(whole), *(place % (len(whole) + 1) for place in places)})
        for number, (start, end) in enumerate(zip(marks, marks[1:] or marks, strict=False)):
            app.gateway.streams.sweep(app.server.context.loop.time() + 1000 * (number + 1))
            before = stream._client.body_bytes
            if end > start:
                await source.say(whole[start:end])
            await passed(stream, before + end - start)
        app.gateway.streams.sweep(app.server.context.loop.time() + 1e6)
        await source.end()
        assert (await listener.all()).end == "complete"
        return listener.body
    finally:
        client.close()
        await app.close()
        await upstream.close()


@pytest.mark.parametrize("make_loop", LOOPS.values(), ids=LOOPS)
@settings(max_examples=60, deadline=None)
@given(whole=STREAMS, places=st.lists(st.integers(0, 200), max_size=6))
@example(whole=b"data: a\r\n\r\ndata: b\r\n\r\n", places=list(range(25)))
@example(whole=b"data: a\r\rdata: b\r\r:\r", places=list(range(25)))
@example(whole=b"id: 1\n: c\ndata: a\n\n: c\n\ndata", places=list(range(30)))
def test_comments_change_no_event_of_any_stream_however_it_is_cut(
    make_loop: Callable[[], asyncio.AbstractEventLoop], whole: bytes, places: list[int]
) -> None:
    with asyncio.Runner(loop_factory=make_loop) as runner:
        heard = runner.run(through(whole, places))
    assert heard.count(HEARTBEAT) >= whole.count(HEARTBEAT) + 1  # the one before the first byte at least
    assert dispatched(heard) == dispatched(whole)


# ---------------------------------------------------------------- who takes nothing, where little is sent


@pytest.mark.gen_test
async def test_a_reader_that_takes_nothing_of_a_little_is_cut_off_too(serve: Serve, upstream: Start) -> None:  # S13
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, CLIENT_IDLE_TIMEOUT_MS="300")
    lines = capture(running)
    listener = await Listener.ask(running, ASK, receive_buffer=4096)
    (connection,) = running.app.server.connections
    with contextlib.suppress(ConnectionError):  # on a busy machine the kernel's room lasts until the reader is cut off
        while connection in running.app.server.connections and connection.transport.get_write_buffer_size() < 1000:
            await source.say(b": " + b"x" * 1000 + b"\n\n")
            await asyncio.sleep(0)
    assert await line_of(lines) == (200, "client_stalled")
    assert (await listener.all()).end == "reset"


@pytest.mark.gen_test
async def test_heartbeats_into_the_kernels_room_are_no_sign_of_life_of_a_reader(  # S13
    serve: Serve, upstream: Start
) -> None:
    source = Source()
    running = await serve({"svc": [upstream(source).url]}, CLIENT_IDLE_TIMEOUT_MS="500", SSE_HEARTBEAT_MS="50")
    lines = capture(running)
    listener = await Listener.ask(running, ASK, receive_buffer=4096)
    (connection,) = running.app.server.connections
    with contextlib.suppress(ConnectionError):
        while connection in running.app.server.connections and not send_queue(connection.transport)[0]:
            await source.say(EVENT * 1000)
            await asyncio.sleep(0.001)
    assert await line_of(lines) == (200, "client_stalled")
    assert (await listener.all()).end == "reset"


@pytest.mark.gen_test
async def test_a_slow_reader_that_makes_progress_is_not_cut(serve: Serve, upstream: Start) -> None:  # S13
    source = Source()
    running, listener = await stream(serve, upstream, source, CLIENT_IDLE_TIMEOUT_MS="100")
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        await source.say(EVENT)
        await listener.hear(EVENT)
    assert len(running.app.gateway.streams.open) == 1


@pytest.mark.gen_test
async def test_a_stream_whose_event_does_not_end_is_cut_after_a_while(serve: Serve, upstream: Start) -> None:  # S10
    source = Source()
    running, listener = await stream(serve, upstream, source, SSE_MAX_BYTES="1")
    await source.say(b"data: 1\n")
    await listener.hear(b"data: 1\n")
    let_pass(running, 0)
    let_pass(running, BOUNDARY_GRACE - 1)
    await source.say(b"data: 2\n")
    await listener.hear(b"data: 2\n")
    let_pass(running, BOUNDARY_GRACE + 1)
    assert (await listener.all()).end == "cut"


# ---------------------------------------------------------------- another endpoint shall have it


@pytest.mark.parametrize("said", [b"", b"data: a\n\n", b"data: a\r\n\r\n: hello\r\n"])
@pytest.mark.gen_test
async def test_a_stream_is_moved_by_a_clean_end_after_which_the_client_comes_back(
    serve: Serve, upstream: Start, said: bytes
) -> None:
    source = Source()
    running, listener = await stream(serve, upstream, source)
    lines = capture(running)
    (open_,) = await opened(running)
    if said:
        await source.say(said)
        await listener.hear(said)
    assert open_.is_movable
    open_.move()
    assert wait_of((await listener.all()).body[len(said) :])
    assert listener.end == "complete"
    await (await source.peer()).ended()
    assert await line_of(lines) == (200, "rebalanced")
    assert (running.errors, running.inflight, running.app.gateway.streams.open) == (0, 0, set())


@pytest.mark.gen_test
async def test_a_stream_cannot_be_moved_while_an_event_is_open(serve: Serve, upstream: Start) -> None:
    source = Source()
    running, listener = await stream(serve, upstream, source)
    (open_,) = await opened(running)
    for piece, is_movable in [(b"data: a", False), (b"\n", False), (b"\n", True), (b": c", False), (b"\n", True)]:
        await source.say(piece)
        await listener.hear(piece)
        assert open_.is_movable is is_movable


HEADS = {
    "compressed": stream_head(b"Content-Encoding: gzip"),
    "of known length": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100\r\n\r\n",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.gen_test
async def test_a_stream_that_could_only_be_cut_cannot_be_moved(serve: Serve, upstream: Start, head: bytes) -> None:
    running, _ = await stream(serve, upstream, Source(head))
    (open_,) = await opened(running)
    assert not open_.is_movable


@pytest.mark.parametrize(("name", "is_movable"), [("sse", True), ("api", True), ("api-post", False)])
@pytest.mark.gen_test
async def test_only_the_answer_to_a_get_can_be_moved(
    serve: Serve, upstream: Start, name: str, is_movable: bool
) -> None:
    running, _ = await stream(serve, upstream, Source(), ROUTES[name])
    (open_,) = await opened(running)
    assert open_.is_movable is is_movable


@pytest.mark.gen_test
async def test_a_stream_that_is_to_end_anyway_cannot_be_moved(serve: Serve, upstream: Start) -> None:
    source = Source()
    running, listener = await stream(serve, upstream, source)
    (open_,) = await opened(running)
    await source.say(b": half")
    await listener.hear(b": half")
    open_.drain()
    await source.say(b" a comment\n")
    await listener.hear(b" a comment\n")
    assert running.app.gateway.streams.open == {open_}
    assert not open_.is_movable
    await source.say(EVENT)
    await listener.all()


@pytest.mark.gen_test
async def test_a_stream_whose_reader_does_not_keep_up_cannot_be_moved(serve: Serve, upstream: Start) -> None:
    """What waits on the service's side would be lost."""
    source = Source()
    running = await serve({"svc": [upstream(source).url]})
    listener = await Listener.ask(running, ASK, receive_buffer=4096)
    (open_,) = await opened(running)
    assert isinstance(open_, EventStream)
    await stall(source, open_, FLOOD)
    assert not open_.is_movable
    await source.end()
    assert (await listener.all()).end == "complete"
