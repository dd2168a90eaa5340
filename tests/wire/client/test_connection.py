"""Reading responses, and the upstream's timeouts.

"row N": of the table of what Tornado's own clients cannot do for a proxy.
"""

import asyncio
import math
import socket
import zlib

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
from tests.support.journeys import Start
from tests.support.sockets import Peer, Upstream, chunked, eventually, get, reply
from tornado_gateway.errors import HeadTimeout, IdleTimeout, ResponseTooSlow, UpstreamInvalid, UpstreamReset
from tornado_gateway.policy.http.pace import CHECK_INTERVAL, WINDOW
from tornado_gateway.wire.client.client import PooledHTTPClient
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.client.interim import MAX_BYTES, TIMEOUTS
from tornado_gateway.wire.peer import send_queue

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


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
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
    "row 13: too many interim responses": HINTS * (MAX_BYTES // len(HINTS) + 1) + reply(),
}


@pytest.mark.parametrize("answer", INVALID.values(), ids=INVALID)
@pytest.mark.gen_test
async def test_a_response_that_is_not_http_is_a_failure_and_ends_the_connection(upstream, answer):
    up = upstream(saying(answer))
    async with wire_client() as client:
        with pytest.raises(UpstreamInvalid):
            await exchange(client, origin_of(up))
        await eventually(lambda: up.open == 0)


@pytest.mark.gen_test
async def test_row_13_interim_responses_are_told_apart_from_the_final_one(upstream):
    count = MAX_BYTES // len(HINTS) - 1
    up = upstream(saying(b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS * count, reply()))
    async with wire_client() as client:
        response = await exchange(client, origin_of(up))
        assert [each.status for each in response.interim] == [100] + [103] * count
        assert response.interim[1].block == b"Link: </a>; rel=preload\r\n\r\n"
        assert (response.head.status, response.body) == (200, b"ok")
        assert len(client.pool(origin_of(up))) == 1


@pytest.mark.gen_test
async def test_row_13_interim_responses_are_counted_per_request(upstream):
    count = MAX_BYTES // len(HINTS)

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(HINTS * count + reply())

    up = upstream(script)
    async with wire_client() as client:
        for _ in range(3):
            assert len((await exchange(client, origin_of(up))).interim) == count
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
async def test_rows_20_and_21_and_22_a_request_is_sent_byte_for_byte(upstream):
    async def script(peer: Peer) -> None:
        received.append(await peer.until(b"\r\n\r\n"))
        await peer.send(reply())

    received = []
    up = upstream(script)
    request = b"PROPFIND /a/../b;%7e//caf\xc3\xa9? HTTP/1.1\r\nHost: x\r\n\r\n"
    async with wire_client() as client:
        await exchange(client, origin_of(up), request)
    assert received == [request]


@pytest.mark.gen_test
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
        sending, recorder = begin(client, origin_of(up))
        await eventually(lambda: up.requests)
        connection = next(iter(client.active))
        for piece in (b"HTTP/1.1 103 X\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"a", b"b"):
            connection.deadline = 0.5  # as if nearly all the time had passed
            before = len(recorder.calls)
            steps.put_nowait(piece)
            await eventually(lambda before=before: len(recorder.calls) > before)
            client.sweep(sending.heard_at + 29)
            assert connection.deadline == pytest.approx(sending.heard_at + 30)
        steps.put_nowait(b"")
        assert (await recorder.ended()).body == b"ab"


@pytest.mark.gen_test
async def test_interim_responses_do_not_put_off_the_timeout_for_ever(upstream):
    up = upstream(saying(b"HTTP/1.1 102 Processing\r\n\r\n"))
    async with wire_client(timeout=30) as client:
        _, recorder = begin(client, origin_of(up))
        await eventually(lambda: recorder.interim)
        connection, beginning = next(iter(client.active)), client.loop.time()
        for _ in range(50):
            connection.data_received(b"HTTP/1.1 102 Processing\r\n\r\n")
            assert connection.deadline <= beginning + 31
        connection._interim.until = beginning + 20  # as if TIMEOUTS - 1 timeouts and a bit had passed
        connection.data_received(b"HTTP/1.1 102 Processing\r\n\r\n")
        assert connection.deadline == beginning + 20
        client.sweep(beginning + 20)
        with pytest.raises(HeadTimeout):
            await recorder.ended()
        assert TIMEOUTS > 1


@pytest.mark.parametrize(
    ("sent", "heard", "is_answered"),
    [
        (b"HTTP/1.1 102 Processing\r\n\r\n", True, False),
        (b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 2", True, True),
        (b"HTTP/1.1 200 OK\r\nContent-Le", True, True),
        (b"", False, False),
    ],
)
@pytest.mark.gen_test
async def test_an_interim_response_does_not_count_as_an_answer(upstream, sent, heard, is_answered):
    up = upstream(saying(sent, then="close"))
    async with wire_client() as client:
        sending, recorder = begin(client, origin_of(up))
        with pytest.raises(UpstreamReset):
            await recorder.ended()
    assert (sending.heard, sending.is_answered) == (heard, is_answered)


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


# ---------------------------------------------------------------- an upstream that takes an upload slowly

UPLOAD = 1024 * 1024  # bytes; more than the upstream's kernel takes, less than ours
RECEIVE_BUFFER = 16 * 1024


async def uploading(client: PooledHTTPClient, up: Upstream) -> tuple[ClientExchange, Recorder, asyncio.Transport]:
    """An upload that our kernel has taken whole, and the upstream hardly at all."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % UPLOAD
    exchange, recorder = begin(client, origin_of(up), head, body=True)
    exchange.write(bytes(UPLOAD))
    exchange.finish()
    await eventually(lambda: exchange.connection)
    transport = exchange.connection.transport
    await eventually(lambda: not transport.get_write_buffer_size() and send_queue(transport)[0])
    return exchange, recorder, transport


class SlowReader:
    """A script: read what the test allows, answer when all has come."""

    def __init__(self) -> None:
        self.peer: Peer | None = None
        self.read = 0

    async def __call__(self, peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self.peer = peer
        await peer.head()
        await asyncio.get_running_loop().create_future()

    async def reads_some(self, transport: asyncio.Transport) -> None:
        """Read until that can be seen at the other end."""
        before = send_queue(transport)[1]
        while send_queue(transport)[1] == before and send_queue(transport)[0]:
            await self.peer.more()
            self.peer.buffer = b""
            await asyncio.sleep(0.001)


@pytest.mark.gen_test(timeout=30)
async def test_the_time_for_an_answer_does_not_run_while_the_upload_is_being_taken(upstream: Start) -> None:
    script = SlowReader()
    up = upstream(script)
    async with wire_client(timeout=30) as client:
        exchange, recorder, transport = await uploading(client, up)
        later = 0.0
        while send_queue(transport)[0]:
            await script.reads_some(transport)
            for _ in range(8):  # it is looked at ten times in its time
                later += 3.1
                client.sweep(client.loop.time() + later)
            assert recorder.error is None
        assert later > 60
        await script.peer.send(reply())
        await eventually(lambda: recorder.body == b"ok")
        exchange.abort()


@pytest.mark.gen_test(timeout=30)
async def test_an_upstream_that_stops_taking_an_upload_times_out(upstream: Start) -> None:
    script = SlowReader()
    up = upstream(script)
    async with wire_client(timeout=30) as client:
        _, recorder, transport = await uploading(client, up)
        now = client.loop.time()
        await script.reads_some(transport)
        for tenth in range(1, 22):
            client.sweep(now + 3 * tenth + 0.1)
            assert (recorder.error is None) or tenth >= 10
        await eventually(lambda: recorder.error)
        assert isinstance(recorder.error, HeadTimeout)


@pytest.mark.gen_test(timeout=30)
async def test_the_time_for_an_answer_begins_at_once_if_the_upload_was_taken_at_once(upstream: Start) -> None:
    async with wire_client(timeout=30) as client:
        up = upstream(silent)
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
        exchange, recorder = begin(client, origin_of(up), head, body=True)
        await eventually(lambda: exchange.connection)
        exchange.write(b"abc")
        exchange.finish()
        now = client.loop.time()
        for seconds in (3.5, 15, 29.5):
            client.sweep(now + seconds)
            assert recorder.error is None
        client.sweep(now + 30.1)
        assert isinstance(recorder.error, HeadTimeout)


# ---------------------------------------------------------------- a least rate


@pytest.mark.parametrize(
    ("head", "rate", "is_ended"),
    [
        (b"Content-Length: 9", 100.0, True),
        (b"Content-Length: 9", 0.0, False),
        (b"Transfer-Encoding: chunked", 100.0, False),  # may be a live stream
        (b"A: b", 100.0, False),
    ],
)
@pytest.mark.gen_test
async def test_a_response_of_known_length_that_comes_too_slowly_is_ended(upstream, head, rate, is_ended):
    up = upstream(saying(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n1\r\na\r\n"))
    async with wire_client() as client:
        sending, recorder = begin(client, origin_of(up))
        sending.min_rate = rate
        await eventually(lambda: recorder.body)
        for seconds in (0, WINDOW - 1, WINDOW + CHECK_INTERVAL):
            sending.connection.deadline = math.inf
            client.sweep(client.loop.time() + seconds)
            assert (recorder.error is not None) == (is_ended and seconds > WINDOW)
        if is_ended:
            assert isinstance(recorder.error, ResponseTooSlow)
        sending.abort()


@pytest.mark.gen_test
async def test_a_response_paused_by_its_receiver_is_not_too_slow(upstream):
    may_go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na")
        await may_go_on.wait()
        await peer.send(b"bc")
        await peer.ended()

    up = upstream(script)
    async with wire_client() as client:
        sending, recorder = begin(client, origin_of(up), recorder=Recorder(hold=True))
        sending.min_rate = 100.0
        await eventually(lambda: recorder.held)
        client.sweep(client.loop.time())
        client.sweep(client.loop.time() + WINDOW + 1)
        recorder.take()
        await eventually(lambda: not sending.is_held)
        sending.connection.deadline = math.inf
        client.sweep(client.loop.time() + 2 * (WINDOW + 1))
        may_go_on.set()
        assert (await recorder.ended()).body == b"abc"
