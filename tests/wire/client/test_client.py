"""Keep-alive connections: which connection is reused, by which request, and for how long.

"row N": of the table of what Tornado's own clients cannot do for a proxy.
"""

import asyncio
from collections.abc import Callable

import pytest

from tests.support.exchanges import Recorder, begin, exchange, origin_of, saying, silent, upload, wire_client
from tests.support.sockets import Peer, eventually, get, reply
from tests.support.websockets import until
from tornado_gateway.errors import UpstreamError, UpstreamReset
from tornado_gateway.wire.client.pool import PoolConfig
from tornado_gateway.wire.peer import has_ended

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
async def test_bytes_on_an_idle_connection_close_the_connection_and_answer_no_request(upstream):
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
async def test_a_body_is_not_sent_on_a_kept_connection_that_the_kernel_knows_has_ended(upstream):
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(reply())

    up = upstream(script)
    async with wire_client() as client:
        origin = origin_of(up)
        first, second = Recorder(), Recorder()
        begin(client, origin, recorder=first)
        begin(client, origin, recorder=second)
        await first.ended()
        await second.ended()
        assert len(client.pool(origin)) == 2
        kept = [each.transport for each in client.pool(origin)._idle]
        for peer in up.peers:
            peer.half_close()
        # Without a turn of the loop: the client is not told.
        until(lambda: all(has_ended(each, by_fin=True) for each in kept), "both ends have come")
        sent, recorder = begin(client, origin, upload(b"/", b"Content-Length: 2"), body=True)
        sent.write(b"hi")
        sent.finish()
        await recorder.ended()
    assert (recorder.body, sent.reused, up.accepted) == (b"ok", False, 3)


def ends_after_the_check(monkeypatch: pytest.MonkeyPatch, end: Callable[[], None]) -> None:
    """Let the upstream end its connections between the look at a kept connection and the request."""

    def looks(transport: asyncio.Transport, *, by_fin: bool) -> bool:
        seen = has_ended(transport, by_fin=by_fin)
        end()
        return seen

    monkeypatch.setattr("tornado_gateway.wire.client.exchange.has_ended", looks)


async def serves(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.send(reply())


@pytest.mark.parametrize("size", [0, 2, 4_000_000])
@pytest.mark.gen_test
async def test_a_request_behind_the_upstreams_fin_is_known_not_to_have_arrived(upstream, monkeypatch, size):
    up = upstream(serves)
    async with wire_client() as client:
        await exchange(client, origin_of(up))
        ends_after_the_check(monkeypatch, up.peers[0].shut)
        sent, recorder = begin(client, origin_of(up), upload(b"/", b"Content-Length: %d" % size), body=size > 0)
        sent.write(bytes(size))
        with pytest.raises(UpstreamReset):
            await recorder.ended()
    assert (sent.reused, sent.is_delivered, up.accepted) == (True, False, 1)


@pytest.mark.parametrize("ends", ["half_close", "shut", "reset"])
@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.gen_test
async def test_a_request_that_reached_the_upstreams_kernel_may_have_been_carried_out(upstream, reads, ends):
    may_end = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        if reads:
            await peer.head()
        await may_end.wait()
        getattr(peer, ends)()

    up = upstream(script)
    async with wire_client() as client:
        await exchange(client, origin_of(up))
        sent, recorder = begin(client, origin_of(up), upload(b"/", b"Content-Length: 2"), body=True)
        sent.write(b"hi")
        await eventually(lambda: sent.has_delivered or ends == "reset")
        may_end.set()
        with pytest.raises(UpstreamReset):
            await recorder.ended()
    assert (sent.reused, sent.is_delivered) == (True, True)


@pytest.mark.gen_test
async def test_a_request_on_a_new_connection_counts_as_delivered(upstream):
    up = upstream(silent)
    async with wire_client() as client:
        sent, _ = begin(client, origin_of(up), upload(b"/", b"Content-Length: 2"), body=True)
        assert not sent.has_delivered
        await eventually(lambda: sent.connection)
        assert sent.has_delivered
        sent.abort()


@pytest.mark.gen_test
async def test_a_sweep_closes_expired_idle_connections_and_removes_empty_pools(upstream):
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
async def test_closing_the_client_ends_connecting_active_and_idle_connections(upstream):
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


@pytest.mark.gen_test
async def test_errors_are_those_of_the_service_not_of_the_gateway(upstream):
    up = upstream(saying(b"", then="close"))
    async with wire_client() as client:
        with pytest.raises(UpstreamError) as raised:
            await exchange(client, origin_of(up))
    assert raised.value.status == 502


@pytest.mark.gen_test
async def test_an_exchange_may_have_a_connection_that_serves_no_other(upstream):
    up = upstream()
    async with wire_client() as client:
        for alone, accepted in [(False, 1), (True, 2), (True, 3), (False, 3)]:
            await exchange(client, origin_of(up), alone=alone)
            assert up.accepted == accepted
        await eventually(lambda: up.open == 1)
