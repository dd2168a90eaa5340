"""A request and its response: ended early, flowing in both directions, answered early.

"row N": of the table of what Tornado's own clients cannot do for a proxy.
"""

import asyncio
import fcntl
import socket
import struct
import termios

import pytest

from tests.support.exchanges import (
    MEGABYTE,
    Recorder,
    begin,
    exchange,
    origin_of,
    saying,
    silent,
    upload,
    wire_client,
)
from tests.support.sockets import Ended, Peer, eventually, get, reply
from tornado_gateway.errors import HeadTimeout

# ---- the end, before its time


@pytest.mark.gen_test
async def test_row_3_abort_while_connecting(upstream):
    up = upstream(silent)
    async with wire_client() as client:
        leaving, recorder = begin(client, origin_of(up))
        leaving.abort()
        await exchange_without_upstream(client)
        assert not client.connecting
    assert recorder.calls == []
    assert not up.requests


async def exchange_without_upstream(client) -> None:
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

    def on_head(self, head, source):
        receiver = super().on_head(head, source)
        self._leave("head")
        return receiver

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


@pytest.mark.gen_test
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
@pytest.mark.gen_test
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
@pytest.mark.gen_test
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
        assert [type(each.head_receiver.error) for each in started] == [HeadTimeout, HeadTimeout, type(None)]
        started[-1].abort()
