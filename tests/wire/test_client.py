"""Exchanges over kept connections. "row N": of the table of what Tornado's own clients cannot do for a proxy."""

import asyncio
import fcntl
import socket
import struct
import termios
import zlib

import pytest

from tests.support.exchanges import Recorder, begin, exchange, origin_of, wire_client
from tests.support.sockets import Ended, Peer, chunked, eventually, get, reply
from tornado_gateway.errors import HeadTimeout, IdleTimeout, UpstreamError, UpstreamInvalid, UpstreamReset
from tornado_gateway.wire.client import MAX_INTERIM
from tornado_gateway.wire.pool import PoolConfig

MEGABYTE = bytes(1024 * 1024)


def saying(*pieces: bytes, then: str = "wait"):
    """A script: answer one request with these bytes, each on its own, and then close, reset or wait."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.send(piece)
        if then == "reset":
            await taken(peer)
            peer.reset()
        elif then == "wait":
            await peer.ended()

    return script


async def taken(peer: Peer) -> None:
    """Wait until the other side's kernel has everything: a reset throws away what is still on its way."""
    await asyncio.sleep(0.02)


def upload(target: bytes = b"/", *lines: bytes, method: bytes = b"POST") -> bytes:
    return get(target, *lines, method=method)


async def silent(peer: Peer) -> None:
    """A script: read the request and never answer."""
    await peer.request_head()
    peer.upstream.ended_cleanly = await peer.ended()


# ---- reuse


@pytest.mark.gen_test
async def test_row_1_three_requests_use_one_connection(upstream):
    up = upstream()
    async with wire_client() as client:
        for _ in range(3):
            assert (await exchange(client, origin_of(up))).body == b"ok"
    assert (up.accepted, len(up.requests)) == (1, 3)


@pytest.mark.gen_test
async def test_a_request_on_a_kept_connection_knows_that_it_is(upstream):
    up = upstream()
    async with wire_client() as client:
        first, recorder = begin(client, origin_of(up))
        await recorder.ended()
        second, recorder = begin(client, origin_of(up))
        await recorder.ended()
        third, recorder = begin(client, origin_of(up), fresh=True)
        await recorder.ended()
    assert (first.reused, second.reused, third.reused) == (False, True, False)
    assert up.accepted == 2


@pytest.mark.gen_test
async def test_the_connection_that_was_used_last_is_used_next(upstream):
    up = upstream()
    async with wire_client() as client:
        pair = [begin(client, origin_of(up))[1] for _ in range(2)]
        for recorder in pair:
            await recorder.ended()
        assert len(client.pool(origin_of(up))) == 2
        served = []
        for _ in range(3):
            exchange_, recorder = begin(client, origin_of(up))
            served.append(exchange_.connection)
            await recorder.ended()
    assert len(set(served)) == 1


@pytest.mark.gen_test
async def test_different_origins_do_not_share_connections(upstream):
    one, two = upstream(), upstream()
    async with wire_client() as client:
        for each in (one, two, one, two):
            await exchange(client, origin_of(each))
    assert (one.accepted, two.accepted) == (1, 1)


NOT_KEPT = {
    "close": reply(fields=(b"Connection: close",)),
    "close in a list": reply(fields=(b"Connection: x, Close",)),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "bytes behind the body": reply() + b"x",
    "a whole second response": reply() + reply(),
    "bytes behind a HEAD's answer": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "row 16: a body behind 204": b"HTTP/1.1 204 No Content\r\n\r\nok",
    "row 16: chunks behind 204": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a body behind 304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok",
    "a hint of one second": reply(fields=(b"Keep-Alive: timeout=1",)),
}


@pytest.mark.parametrize("answer", NOT_KEPT.values(), ids=NOT_KEPT)
@pytest.mark.gen_test
async def test_a_connection_that_is_not_clean_is_closed_and_its_response_stands(upstream, answer, request):
    up = upstream(saying(answer))
    method = b"HEAD" if "HEAD" in request.node.name else b"GET"
    async with wire_client() as client:
        response = await exchange(client, origin_of(up), get(b"/", method=method))
        assert response.head.status in (200, 204, 304)
        assert response.body == (b"ok" if response.head.body else b"")
        assert len(client.pool(origin_of(up))) == 0
        await eventually(lambda: up.open == 0)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(reply(), id="row 15: HEAD"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", id="row 15: chunked HEAD"),
    ],
)
@pytest.mark.gen_test
async def test_a_head_answer_has_no_body_and_the_connection_is_kept(upstream, answer):
    async def script(peer: Peer) -> None:
        while True:
            asked = await peer.request()
            await peer.send(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if asked.method == b"HEAD" else reply())

    up = upstream(script)
    async with wire_client() as client:
        for method in (b"HEAD", b"GET", b"HEAD", b"GET"):
            response = await exchange(client, origin_of(up), get(b"/", method=method))
            assert response.body == (b"" if method == b"HEAD" else b"ok")
    assert up.accepted == 1


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", id="204"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", id="row 15: 304 with Content-Length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", id="nothing"),
    ],
)
@pytest.mark.gen_test
async def test_a_response_without_a_body_ends_with_its_head(upstream, head):
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(head)

    up = upstream(script)
    async with wire_client() as client:
        for _ in range(2):
            assert (await exchange(client, origin_of(up))).calls == ["head", "end"]
    assert up.accepted == 1


@pytest.mark.parametrize("end", ["close", "reset", "half_close"])
@pytest.mark.gen_test
async def test_an_idle_connection_that_the_upstream_ends_is_forgotten_at_once(upstream, end):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await may_end.wait()
        getattr(peer, end)()
        if end == "half_close":
            await peer.ended()

    may_end = asyncio.Event()
    up = upstream(script)
    async with wire_client() as client:
        await exchange(client, origin_of(up))
        pool = client.pool(origin_of(up))
        assert (len(pool), pool.open) == (1, 1)
        may_end.set()
        await eventually(lambda: (len(pool), pool.open) == (0, 0))


@pytest.mark.gen_test
async def test_bytes_on_an_idle_connection_close_it_and_are_nobodys_answer(upstream):
    up = upstream()
    async with wire_client() as client:
        await exchange(client, origin_of(up))
        await up.peers[0].send(reply(body=b"poison"))
        await eventually(lambda: not len(client.pool(origin_of(up))))
        assert (await exchange(client, origin_of(up))).body == b"ok"
    assert up.accepted == 2


@pytest.mark.gen_test
async def test_row_2_a_kept_connection_that_dies_before_a_byte_fails_as_reused(upstream):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await peer.request()

    up = upstream(script)
    async with wire_client() as client:
        await exchange(client, origin_of(up))
        stale, recorder = begin(client, origin_of(up))
        with pytest.raises(UpstreamReset):
            await recorder.ended()
    assert stale.reused
    assert recorder.calls == ["failure"]


@pytest.mark.gen_test
async def test_a_sweep_closes_what_has_been_idle_too_long_and_forgets_the_pool(upstream):
    up = upstream()
    async with wire_client(pool=PoolConfig(idle_timeout=60)) as client:
        await exchange(client, origin_of(up))
        pool, now = client.pool(origin_of(up)), client.loop.time()
        client.sweep(now + 59)
        assert len(pool) == 1
        client.sweep(now + 61)
        assert len(pool) == 0
        await eventually(lambda: up.open == 0 and pool.open == 0)
        client.sweep(now + 62)
        assert client.pool(origin_of(up)) is not pool


@pytest.mark.gen_test
async def test_a_sweep_while_connecting_does_not_lose_the_connection(upstream):
    up = upstream()
    async with wire_client() as client:
        recorder = begin(client, origin_of(up))[1]
        client.sweep(client.loop.time())
        await recorder.ended()
        assert len(client.pool(origin_of(up))) == 1
        await exchange(client, origin_of(up))
    assert up.accepted == 1


@pytest.mark.gen_test
async def test_row_24_requests_do_not_queue_for_a_connection(upstream):
    up = upstream(saying(then="wait"))
    async with wire_client() as client:
        started = [begin(client, origin_of(up))[0] for _ in range(50)]
        await eventually(lambda: len(up.requests) == 50)
        for each in started:
            each.abort()


@pytest.mark.gen_test
async def test_closing_the_client_ends_what_is_connecting_in_use_and_idle(upstream):
    up = upstream(silent)
    idle = upstream()
    async with wire_client() as client:
        await exchange(client, origin_of(idle))
        used = begin(client, origin_of(up))[1]
        await eventually(lambda: up.requests)
        connecting = begin(client, origin_of(up))[1]
        client.close()
        await eventually(lambda: up.open == idle.open == 0)
    assert used.calls == connecting.calls == []


# ---- the end, before its time


@pytest.mark.gen_test
async def test_row_3_abort_while_connecting(upstream):
    up = upstream(silent)
    async with wire_client() as client:
        leaving, recorder = begin(client, origin_of(up))
        leaving.abort()
        await exchange_with_nobody(client)
        assert not client.connecting
    assert recorder.calls == []
    assert not up.requests


async def exchange_with_nobody(client) -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_row_3_abort_while_the_upstream_is_silent_before_the_head(upstream):
    up = upstream(silent)
    async with wire_client() as client:
        leaving, recorder = begin(client, origin_of(up))
        await eventually(lambda: up.requests)
        leaving.abort()
        await eventually(lambda: up.open == 0)
    assert recorder.calls == []


@pytest.mark.gen_test
async def test_row_3_abort_while_the_upstream_is_silent_in_the_body(upstream):
    up = upstream(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"))
    async with wire_client() as client:
        leaving, recorder = begin(client, origin_of(up))
        await eventually(lambda: recorder.body)
        leaving.abort()
        seen = list(recorder.calls)
        await eventually(lambda: up.open == 0)
    assert recorder.calls == seen == ["head", "chunk"]


@pytest.mark.gen_test
async def test_row_3_abort_in_the_middle_of_an_upload_that_the_upstream_does_not_read(upstream):
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await may_go_on.wait()
        await peer.ended()

    may_go_on = asyncio.Event()
    up = upstream(script)
    async with wire_client() as client:
        leaving, recorder = begin(client, origin_of(up), upload(b"/", b"Content-Length: 99999999"), body=True)
        await eventually(lambda: up.requests)
        while (waiting := leaving.write(MEGABYTE)) is None:
            pass
        leaving.abort()
        await asyncio.wait_for(waiting, 5)  # the writer is let go
        may_go_on.set()
        await eventually(lambda: up.open == 0)
        assert leaving.write(b"late") is None
        leaving.finish()
    assert recorder.calls == []


@pytest.mark.gen_test
async def test_row_3_abort_while_the_receiver_is_busy(upstream):
    async def flood(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(MEGABYTE)

    up = upstream(flood)
    async with wire_client() as client:
        leaving, recorder = begin(client, origin_of(up), recorder=Recorder(hold=True))
        await eventually(lambda: recorder.held)
        leaving.abort()
        seen = list(recorder.calls)
        recorder.take()
        await eventually(lambda: up.open == 0)
    assert recorder.calls == seen


class Leaver(Recorder):
    """Aborts from within a callback."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.exchange = None

    def on_interim(self, head):
        super().on_interim(head)
        self._leave("interim")

    def on_head(self, head):
        super().on_head(head)
        self._leave("head")

    def on_chunk(self, chunk):
        super().on_chunk(chunk)
        self._leave("chunk")

    def _leave(self, where: str) -> None:
        if where == self.where:
            self.exchange.abort()


@pytest.mark.parametrize("where", ["interim", "head", "chunk"])
@pytest.mark.gen_test
async def test_row_4_a_receiver_that_aborts_in_a_callback_hears_nothing_more(upstream, where):
    up = upstream(saying(b"HTTP/1.1 103 Early Hints\r\n\r\n" + reply()))
    async with wire_client() as client:
        leaver = Leaver(where)
        leaver.exchange, _ = begin(client, origin_of(up), recorder=leaver)
        await eventually(lambda: up.requests and up.open == 0)
    assert leaver.calls[-1] == where
    assert leaver.calls == ["interim", "head", "chunk"][: len(leaver.calls)]


# ---- flow control


@pytest.mark.gen_test(timeout=20)
async def test_row_5_a_busy_receiver_keeps_the_upstream_from_being_read(upstream):
    sent = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * len(MEGABYTE)))
        for _ in range(64):
            await peer.send(MEGABYTE)
            sent += 1

    up = upstream(flood)
    async with wire_client() as client:
        _, recorder = begin(client, origin_of(up), recorder=Recorder(hold=True))
        await eventually(lambda: recorder.held)
        before = -1
        while before != sent:  # until the kernel's buffers are full
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 32
        assert recorder.calls == ["head", "chunk"]
        recorder.take()
        assert len((await recorder.ended()).body) == 64 * len(MEGABYTE)


@pytest.mark.parametrize("method", [b"POST", b"DELETE", b"GET", b"OPTIONS", b"QUERY"])
@pytest.mark.gen_test(timeout=20)
async def test_row_7_an_upload_waits_for_an_upstream_that_does_not_read(upstream, method):
    total = 16
    may_go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        message = await peer.request_head()
        await may_go_on.wait()
        await peer.body(message)
        await peer.send(reply(body=b"%d" % len(message.body)))

    up = upstream(script)
    async with wire_client() as client:
        sending, recorder = begin(
            client, origin_of(up), upload(b"/", b"Transfer-Encoding: chunked", method=method), body=True, chunked=True
        )
        waits = 0
        for _ in range(total):
            if waiting := sending.write(MEGABYTE):
                if sending.connection:  # not just because there was none yet
                    waits += 1
                    may_go_on.set()
                await waiting
        may_go_on.set()
        sending.finish()
        assert (await recorder.ended()).body == b"%d" % (total * len(MEGABYTE))
    assert waits
    assert sending.sent == total * len(MEGABYTE)


@pytest.mark.parametrize("method", [b"DELETE", b"GET", b"OPTIONS", b"BREW"])
@pytest.mark.gen_test
async def test_row_8_a_streamed_body_of_any_method_is_framed(upstream, method):
    smuggled = get(b"/smuggled")

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(reply())

    up = upstream(script)
    async with wire_client() as client:
        sending, recorder = begin(
            client, origin_of(up), upload(b"/d", b"Transfer-Encoding: chunked", method=method), body=True, chunked=True
        )
        sending.write(smuggled[:10])
        sending.write(b"")  # not a last chunk
        sending.write(smuggled[10:])
        sending.finish(b"Digest: x\r\n")
        await recorder.ended()
        await exchange(client, origin_of(up), get(b"/next"))
    assert [(each.target, each.body) for each in up.requests] == [(b"/d", smuggled), (b"/next", b"")]
    assert up.requests[0].trailers == [(b"Digest", b"x")]
    assert up.accepted == 1


@pytest.mark.gen_test
async def test_bytes_written_before_there_is_a_connection_are_sent_in_order(upstream):
    up = upstream()
    async with wire_client() as client:
        sending, recorder = begin(client, origin_of(up), upload(b"/", b"Content-Length: 6"), body=True)
        assert not sending.write(b"abc").done()
        sending.write(b"def")
        sending.finish()
        await recorder.ended()
    assert up.requests[0].body == b"abcdef"


# ---- an answer before the request is complete


@pytest.mark.gen_test
async def test_row_9_an_early_answer_is_delivered_and_its_connection_closed(upstream):
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(reply(b"413 Content Too Large", body=b"no"))
        await peer.ended()

    up = upstream(script)
    async with wire_client() as client:
        sending, recorder = begin(client, origin_of(up), upload(b"/", b"Content-Length: 1000"), body=True)
        sending.write(b"some")
        response = await recorder.ended()
        assert (response.head.status, response.body) == (413, b"no")
        assert sending.write(b"more") is None
        sending.finish()
        assert len(client.pool(origin_of(up))) == 0
        await eventually(lambda: up.open == 0)


@pytest.mark.gen_test
async def test_row_9_an_early_answer_lets_go_of_the_writer(upstream):
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await may_answer.wait()
        await peer.send(reply(b"401 Unauthorized"))
        await peer.ended()

    may_answer = asyncio.Event()
    up = upstream(script)
    async with wire_client() as client:
        sending, recorder = begin(client, origin_of(up), upload(b"/", b"Content-Length: 99999999"), body=True)
        await eventually(lambda: up.requests)
        while (waiting := sending.write(MEGABYTE)) is None:
            pass
        may_answer.set()
        await recorder.ended()
        await asyncio.wait_for(waiting, 5)


@pytest.mark.gen_test
async def test_row_9_response_and_request_flow_at_the_same_time(upstream):
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        await peer.send(await peer.exactly(3))
        await peer.send(await peer.exactly(3))
        await peer.ended()

    up = upstream(script)
    async with wire_client() as client:
        sending, recorder = begin(client, origin_of(up), upload(b"/", b"Content-Length: 6"), body=True)
        sending.write(b"abc")
        await eventually(lambda: recorder.body == b"abc")
        sending.write(b"def")
        sending.finish()
        assert (await recorder.ended()).body == b"abcdef"
        assert len(client.pool(origin_of(up))) == 1


@pytest.mark.parametrize("size", [10, 2_000_000])
@pytest.mark.gen_test(timeout=10)
async def test_row_9_an_answer_that_arrived_before_a_reset_survives_the_failing_write(upstream, size):
    answer = reply(b"413 Content Too Large", body=b"n" * size)

    async def script(peer: Peer) -> None:
        await peer.request_head()
        await may_answer.wait()
        await peer.send(answer)
        await eventually(lambda: not unacknowledged(peer.sock))  # else the reset would overtake it
        peer.reset()

    may_answer = asyncio.Event()
    up = upstream(script)
    async with wire_client() as client:
        sending, recorder = begin(
            client, origin_of(up), upload(b"/", b"Content-Length: 99999999"), body=True, recorder=Recorder(hold=True)
        )
        await eventually(lambda: sending.connection)
        sock = sending.connection.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size + 1_000_000)
        sending.connection.transport.pause_reading()  # the loop shall see the failing write first
        may_answer.set()
        await eventually(lambda: up.requests and up.open == 0)
        for _ in range(3):
            sending.write(b"more")
            await asyncio.sleep(0)
        response = await recorder.ended()
    assert (response.head.status, len(response.body)) == (413, size)


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that the other side's kernel does not have yet (SIOCOUTQ)."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


@pytest.mark.gen_test
async def test_row_10_an_upload_that_is_cut_short_ends_its_connection(upstream):
    cut = asyncio.Event()

    async def script(peer: Peer) -> None:
        try:
            await peer.request()
        except Ended:
            cut.set()

    up = upstream(script)
    async with wire_client() as client:
        sending, _ = begin(client, origin_of(up), upload(b"/", b"Content-Length: 10"), body=True)
        sending.write(b"short")
        await eventually(lambda: up.requests)
        sending.abort()
        await asyncio.wait_for(cut.wait(), 5)
        assert len(client.pool(origin_of(up))) == 0


# ---- framing of responses


@pytest.mark.gen_test
async def test_row_6_the_head_comes_before_the_body_is_complete(upstream):
    up = upstream(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"))
    async with wire_client() as client:
        leaving, recorder = begin(client, origin_of(up))
        await eventually(lambda: recorder.head)
        assert recorder.head.status == 200
        assert recorder.calls == ["head", "chunk"]  # the empty chunk that says that there is only the head
        assert recorder.body == b""
        leaving.abort()


@pytest.mark.gen_test
async def test_row_11_trailers_are_read_and_stay_apart(upstream):
    body = b"2\r\nok\r\n0\r\nDigest: abc\r\nX-Count: 2\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nTrailer: Digest\r\nTransfer-Encoding: chunked\r\n\r\n" + body

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer)

    up = upstream(script)
    async with wire_client() as client:
        for _ in range(2):
            response = await exchange(client, origin_of(up))
            assert response.body == b"ok"
            assert response.trailers == [(b"Digest", b"abc"), (b"X-Count", b"2")]
            assert b"Digest: abc" not in response.head.block
    assert up.accepted == 1


@pytest.mark.gen_test
async def test_row_12_chunk_extensions_are_read_over(upstream):
    body = b'1;a=b\r\no\r\n1 ; q="x;y"\r\nk\r\n0;last\r\n\r\n'
    up = upstream(saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body))
    async with wire_client() as client:
        assert (await exchange(client, origin_of(up))).body == b"ok"
        assert len(client.pool(origin_of(up))) == 1


@pytest.mark.gen_test
async def test_a_response_may_come_byte_by_byte(upstream):
    answer = b"HTTP/1.1 103 X\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(
        b"o", b"k"
    )

    async def script(peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await peer.request()
        for byte in answer:
            await peer.send(bytes((byte,)))
            await asyncio.sleep(0)
        await peer.ended()

    up = upstream(script)
    async with wire_client() as client:
        response = await exchange(client, origin_of(up))
        assert (response.body, response.interim[0].status) == (b"ok", 103)
        assert len(client.pool(origin_of(up))) == 1


@pytest.mark.gen_test
async def test_a_close_delimited_body_streams_and_ends_with_its_connection(upstream):
    may_go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nfirst ")
        await may_go_on.wait()
        await peer.send(b"second")

    up = upstream(script)
    async with wire_client() as client:
        _, recorder = begin(client, origin_of(up))
        await eventually(lambda: recorder.body == b"first ")
        may_go_on.set()
        assert (await recorder.ended()).body == b"first second"
        assert len(client.pool(origin_of(up))) == 0


TRUNCATED = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "only an interim head": b"HTTP/1.1 100 Continue\r\n\r\n",
    "a short body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    "a chunked body without its end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "a chunk without its end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
    "a last chunk without an empty line": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n",
}


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("answer", TRUNCATED.values(), ids=TRUNCATED)
@pytest.mark.gen_test
async def test_row_17_a_truncated_response_is_a_failure(upstream, answer, then):
    up = upstream(saying(answer, then=then))
    async with wire_client() as client:
        with pytest.raises(UpstreamReset):
            await exchange(client, origin_of(up))


@pytest.mark.gen_test
async def test_row_17_a_reset_in_a_close_delimited_body_is_a_failure(upstream):
    may_reset = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await may_reset.wait()
        peer.reset()

    up = upstream(script)
    async with wire_client() as client:
        _, recorder = begin(client, origin_of(up))
        await eventually(lambda: recorder.body == b"abc")
        may_reset.set()
        with pytest.raises(UpstreamReset):
            await recorder.ended()


INVALID = {
    "HTTP/2": b"\0\0\x12\x04\0\0\0\0\0\0\0",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/0.9": b"<html>\r\n\r\n",
    "HTTP/2.0 in the status line": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "a field without a name (CVE-2023-25725)": b"HTTP/1.1 200 OK\r\n: v\r\n\r\n",
    "a NUL in a field": b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\nA: " + b"a" * 200_000,
    "10,000 fields": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
    "row 13: 101 without being asked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "row 13: too many interim responses": b"HTTP/1.1 103 Early Hints\r\n\r\n" * (MAX_INTERIM + 1) + reply(),
}


@pytest.mark.parametrize("answer", INVALID.values(), ids=INVALID)
@pytest.mark.gen_test
async def test_what_is_not_http_is_a_failure_and_ends_the_connection(upstream, answer):
    up = upstream(saying(answer))
    async with wire_client() as client:
        with pytest.raises(UpstreamInvalid):
            await exchange(client, origin_of(up))
        await eventually(lambda: up.open == 0)


@pytest.mark.gen_test
async def test_row_13_interim_responses_are_told_apart_from_the_final_one(upstream):
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
    up = upstream(saying(b"HTTP/1.1 100 Continue\r\n\r\n" + hints * (MAX_INTERIM - 1), reply()))
    async with wire_client() as client:
        response = await exchange(client, origin_of(up))
        assert [each.status for each in response.interim] == [100] + [103] * (MAX_INTERIM - 1)
        assert response.interim[1].block == b"Link: </a>; rel=preload\r\n\r\n"
        assert (response.head.status, response.body) == (200, b"ok")
        assert len(client.pool(origin_of(up))) == 1


@pytest.mark.gen_test
async def test_row_13_interim_responses_are_counted_per_request(upstream):
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 8 + reply())

    up = upstream(script)
    async with wire_client() as client:
        for _ in range(3):
            assert len((await exchange(client, origin_of(up))).interim) == 8
    assert up.accepted == 1


@pytest.mark.gen_test
async def test_rows_18_and_19_fields_keep_order_case_and_repeats_both_ways(upstream):
    lines = (b"Set-Cookie: a=1", b"x-lowERcase: 1", b"Set-Cookie: b=2", b"WWW-Authenticate: x", b"ETag: \xe9")
    up = upstream(saying(reply(fields=lines)))
    request = get(b"/", b"x-oNe: 1", b"X-Two: 2", b"x-one: 3")
    async with wire_client() as client:
        response = await exchange(client, origin_of(up), request)
    assert response.head.block == b"\r\n".join(lines) + b"\r\nContent-Length: 2\r\n\r\n"
    assert up.requests[0].fields == [
        (b"Host", b"gateway.example"), (b"x-oNe", b"1"), (b"X-Two", b"2"), (b"x-one", b"3"),
    ]  # fmt: skip


@pytest.mark.gen_test
async def test_rows_20_and_21_and_22_a_request_leaves_as_it_was_given(upstream):
    async def script(peer: Peer) -> None:
        received.append(await peer.until(b"\r\n\r\n"))
        await peer.send(reply())

    received = []
    up = upstream(script)
    request = b"PROPFIND /a/../b;%7e//caf\xc3\xa9? HTTP/1.1\r\nHost: x\r\n\r\n"
    async with wire_client() as client:
        await exchange(client, origin_of(up), request)
    assert received == [request]


@pytest.mark.gen_test(timeout=20)
async def test_row_25_a_streamed_response_may_be_larger_than_100_mebibytes(upstream):
    count, checksum = 101, 0
    for _ in range(count):
        checksum = zlib.crc32(MEGABYTE, checksum)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (count * len(MEGABYTE)))
        for _ in range(count):
            await peer.send(MEGABYTE)
        await peer.ended()

    class Summing(Recorder):
        seen = size = 0

        def on_chunk(self, chunk):
            self.size += len(chunk)
            self.seen = zlib.crc32(chunk, self.seen)

    up = upstream(script)
    async with wire_client() as client:
        _, recorder = begin(client, origin_of(up), recorder=Summing())
        await asyncio.wait_for(recorder._end.wait(), 15)
        assert (recorder.size, recorder.seen) == (count * len(MEGABYTE), checksum)


# ---- timers (row 23); the clock is the sweep's argument


async def at_rest_in(client, up, recorder, what) -> float:
    """Wait for a condition; give the loop's time."""
    await eventually(what)
    return client.loop.time()


@pytest.mark.gen_test
async def test_row_23_an_upstream_that_does_not_begin_its_response_in_time(upstream):
    up = upstream(silent)
    async with wire_client(timeout=30) as client:
        _, recorder = begin(client, origin_of(up))
        now = await at_rest_in(client, up, recorder, lambda: up.requests)
        client.sweep(now + 29)
        assert not recorder.calls
        client.sweep(now + 31)
        with pytest.raises(HeadTimeout):
            await recorder.ended()
        await eventually(lambda: up.open == 0)


@pytest.mark.gen_test
async def test_row_23_an_upstream_that_falls_silent_in_its_body(upstream):
    up = upstream(saying(b"HTTP/1.1 200 OK\r\n\r\nabc"))
    async with wire_client(timeout=30) as client:
        _, recorder = begin(client, origin_of(up))
        now = await at_rest_in(client, up, recorder, lambda: recorder.body)
        client.sweep(now + 29)
        assert not recorder.error
        client.sweep(now + 31)
        with pytest.raises(IdleTimeout):
            await recorder.ended()


@pytest.mark.gen_test
async def test_row_23_each_piece_and_each_interim_response_gives_the_upstream_its_time_again(upstream):
    steps = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.request()
        while piece := await steps.get():
            await peer.send(piece)

    up = upstream(script)
    async with wire_client(timeout=30) as client:
        _, recorder = begin(client, origin_of(up))
        await eventually(lambda: up.requests)
        connection = next(iter(client.active))
        for piece in (b"HTTP/1.1 103 X\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"a", b"b"):
            connection.deadline = 0.5  # as if nearly all the time had passed
            steps.put_nowait(piece)
            await eventually(lambda: connection.deadline > 1)
            client.sweep(client.loop.time() + 29)
        steps.put_nowait(b"")
        assert (await recorder.ended()).body == b"ab"


@pytest.mark.gen_test
async def test_row_23_no_time_passes_while_the_client_still_uploads(upstream):
    up = upstream(saying(reply()))
    async with wire_client(timeout=30) as client:
        sending, recorder = begin(client, origin_of(up), upload(b"/", b"Content-Length: 2"), body=True)
        now = await at_rest_in(client, up, recorder, lambda: sending.connection)
        client.sweep(now + 3600)
        sending.write(b"a")
        client.sweep(now + 7200)
        sending.write(b"b")
        sending.finish()
        assert client.loop.time() + 31 > next(iter(client.active)).deadline
        await recorder.ended()


@pytest.mark.gen_test
async def test_row_23_no_time_passes_while_the_receiver_is_busy(upstream):
    up = upstream(saying(b"HTTP/1.1 200 OK\r\n\r\nabc"))
    async with wire_client(timeout=30) as client:
        _, recorder = begin(client, origin_of(up), recorder=Recorder(hold=True))
        now = await at_rest_in(client, up, recorder, lambda: recorder.held)
        client.sweep(now + 3600)
        assert not recorder.error
        recorder.take()
        await eventually(lambda: next(iter(client.active)).deadline < now + 60)
        client.sweep(client.loop.time() + 31)
        with pytest.raises(IdleTimeout):
            await recorder.ended()


@pytest.mark.gen_test
async def test_row_23_no_time_passes_when_the_upload_ends_while_the_receiver_is_busy(upstream):
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await peer.ended()

    up = upstream(script)
    async with wire_client(timeout=30) as client:
        sending, recorder = begin(
            client, origin_of(up), upload(b"/", b"Content-Length: 2"), body=True, recorder=Recorder(hold=True)
        )
        now = await at_rest_in(client, up, recorder, lambda: recorder.held)
        sending.write(b"ab")
        sending.finish()
        client.sweep(now + 3600)
        assert not recorder.error
        sending.abort()


async def stuck(client, up, piece=MEGABYTE):
    """An upload that the upstream does not take."""
    sending, recorder = begin(client, origin_of(up), upload(b"/", b"Content-Length: 999999999"), body=True)
    await eventually(lambda: sending.connection)
    while sending.write(piece) is None:
        pass
    before = -1
    while before != (before := sending.connection.transport.get_write_buffer_size()):
        await asyncio.sleep(0.02)
    return sending, recorder


@pytest.mark.gen_test
async def test_row_23_an_upstream_that_does_not_take_the_upload(upstream):
    async def script(peer: Peer) -> None:
        await may_end.wait()

    may_end = asyncio.Event()
    up = upstream(script)
    async with wire_client(timeout=30) as client:
        _, recorder = await stuck(client, up)
        now = client.loop.time()
        client.sweep(now + 29)
        assert not recorder.calls
        client.sweep(now + 31)
        client.sweep(now + 62)  # by then it has not taken any since the first look
        with pytest.raises(HeadTimeout):
            await recorder.ended()
        may_end.set()


@pytest.mark.gen_test
async def test_row_23_an_upstream_that_takes_the_upload_slowly_is_not_too_slow(upstream):
    async def script(peer: Peer) -> None:
        while True:
            await may_read.wait()
            may_read.clear()
            await peer.more()
            peer.buffer = b""

    may_read = asyncio.Event()
    up = upstream(script)
    async with wire_client(timeout=30) as client:
        sending, recorder = await stuck(client, up, 64 * MEGABYTE)
        transport = sending.connection.transport
        for _ in range(3):
            left = transport.get_write_buffer_size()
            while transport.get_write_buffer_size() == left:
                may_read.set()
                await asyncio.sleep(0.001)
            client.sweep(client.loop.time() + 31)
            assert not recorder.calls
        sending.abort()


@pytest.mark.parametrize("count", [3])
@pytest.mark.gen_test
async def test_an_exchange_may_have_its_own_timeout(upstream, count):
    up = upstream(silent)
    async with wire_client(timeout=30) as client:
        started = [client.open(origin_of(up), b"GET", Recorder()) for _ in range(count)]
        for timeout, each in enumerate(started, start=1):
            each.timeout = timeout
            each.send(get(b"/"))
        await eventually(lambda: len(up.requests) == count)
        client.sweep(client.loop.time() + 2.5)
        assert [type(each.receiver.error) for each in started] == [HeadTimeout, HeadTimeout, type(None)]
        started[-1].abort()


@pytest.mark.gen_test
async def test_errors_are_those_of_the_service_not_of_the_gateway(upstream):
    up = upstream(saying(b"", then="close"))
    async with wire_client() as client:
        with pytest.raises(UpstreamError) as raised:
            await exchange(client, origin_of(up))
    assert raised.value.status == 502
