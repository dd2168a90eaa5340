"""What the proxy needs of a client's connection beside HTTP: upgrade, buffer limit and cut."""

import asyncio

import pytest
from tornado.iostream import StreamClosedError

from tests.support.serving import MEGABYTE, Delegate, Listen, Request, Serving, is_open, nothing
from tests.support.sockets import Client, Ended, eventually, get
from tornado_gateway.wire.server.connection import PIPELINE_BYTES

ASK = get(b"/", b"Upgrade: websocket", b"Connection: Upgrade")
ANSWER = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n"


class Successor(asyncio.Protocol):
    """A protocol that takes a connection over.

    Attributes:
        heard: bytes received since the upgrade.
        is_lost: whether connection_lost() was called.
    """

    def __init__(self, request: Request, *, early: bytes | None = None) -> None:
        self.heard = bytearray()
        self.is_lost = False
        self._before = request.exchange.connection
        self.transport = self._before.transport
        self.heard += request.exchange.upgrade(ANSWER, self)

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self._before.connection_lost(error)


async def asked(listen: Listen, *, behind: bytes = b"", **config: float) -> tuple[Serving, Client, Request]:
    """A request for another protocol, not yet answered."""
    delegate = Delegate(nothing)
    serving = await listen(delegate, **config)
    client = await serving.client()
    await client.send(ASK + behind)
    await eventually(lambda: delegate.requests and delegate.requests[0].is_whole)
    return serving, client, delegate.requests[0]


# ---------------------------------------------------------------- upgrade()


@pytest.mark.gen_test
async def test_an_upgrade_answers_101_with_the_given_lines_and_nothing_else(listen: Listen) -> None:
    _, client, request = await asked(listen)
    successor = Successor(request)
    assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 101 Switching Protocols\r\n" + ANSWER + b"\r\n"
    assert await is_open(client)
    assert (request.exchange.started, request.exchange.finished) == (True, True)
    assert successor.heard == b""


@pytest.mark.gen_test
async def test_the_successor_has_the_connection_both_ways(listen: Listen) -> None:
    _, client, request = await asked(listen, behind=b"behind ")
    successor = Successor(request)
    await client.head()
    await client.send(b"GET / HTTP/1.1\r\n\r\n")  # it is no request any more
    await eventually(lambda: successor.heard == b"behind GET / HTTP/1.1\r\n\r\n")
    successor.transport.write(b"not HTTP")
    assert await client.exactly(8) == b"not HTTP"


@pytest.mark.gen_test
async def test_bytes_before_the_answer_are_buffered_within_bounds_and_delivered_in_order(listen: Listen) -> None:
    behind = bytes(range(256)) * (MEGABYTE // 128)
    serving, client, request = await asked(listen)
    sending = asyncio.ensure_future(client.send(behind))
    await eventually(lambda: serving.connection.is_paused)
    assert PIPELINE_BYTES <= len(serving.connection._buffer) < PIPELINE_BYTES + 256 * 1024 + 1
    successor = Successor(request)
    await client.head()
    await sending
    await eventually(lambda: len(successor.heard) >= len(behind))
    assert successor.heard == behind


@pytest.mark.parametrize("abrupt", [True, False])
@pytest.mark.gen_test
async def test_the_servers_count_goes_on_until_the_successors_connection_ends(listen: Listen, abrupt: bool) -> None:
    serving, client, request = await asked(listen)
    successor = Successor(request)
    await client.head()
    assert len(serving.server.connections) == 1
    client.reset() if abrupt else client.close()
    await eventually(lambda: successor.is_lost)
    assert not serving.server.connections
    assert request.is_left


@pytest.mark.gen_test
async def test_http_deadlines_end_with_the_upgrade(listen: Listen) -> None:
    serving, client, request = await asked(listen, header_timeout=1, keepalive_timeout=1, client_idle_timeout=1)
    successor = Successor(request)
    await client.head()
    serving.sweep_after(3600)
    assert await is_open(client)
    assert not successor.is_lost


@pytest.mark.gen_test
async def test_a_server_that_drains_leaves_it_to_the_successor_to_end(listen: Listen) -> None:
    serving, client, request = await asked(listen)
    successor = Successor(request)
    await client.head()
    serving.server.drain()
    closed = asyncio.ensure_future(serving.server.closed())
    assert await is_open(client)
    assert not closed.done()
    successor.transport.close()
    await asyncio.wait_for(closed, 1)
    assert await client.ended()


@pytest.mark.gen_test
async def test_a_server_that_aborts_resets_it_too(listen: Listen) -> None:
    serving, client, request = await asked(listen)
    successor = Successor(request)
    await client.head()
    serving.server.abort()
    assert await client.ended() is False
    await eventually(lambda: successor.is_lost)


@pytest.mark.gen_test
async def test_nothing_can_be_written_as_http_behind_an_upgrade(listen: Listen) -> None:
    _, client, request = await asked(listen)
    Successor(request)
    await client.head()
    with pytest.raises(StreamClosedError):
        await request.exchange.write(b"body")
    request.exchange.finish()
    assert await is_open(client)


# ---------------------------------------------------------------- limit_buffer()


def limited(size: int) -> Delegate:
    """Begins each response with a buffer of such a size, and leaves the rest to the test."""

    def begin(request: Request) -> None:
        request.exchange.limit_buffer(size)
        request.begin()

    return Delegate(begin)


@pytest.mark.parametrize("size", [1, 64 * 1024, MEGABYTE])
@pytest.mark.gen_test
async def test_a_write_waits_from_the_given_size_on(listen: Listen, size: int) -> None:
    delegate = limited(size)
    serving = await listen(delegate)
    client = await serving.client(receive_buffer=64 * 1024)
    await client.send(get(b"/"))
    await eventually(lambda: delegate.requests)
    exchange, transport = delegate.requests[0].exchange, serving.connection.transport
    unsent = 0
    while (drained := exchange.write(bytes(16 * 1024))).done():
        unsent = transport.get_write_buffer_size()
        await asyncio.sleep(0)
    assert unsent <= size < transport.get_write_buffer_size()
    exchange.finish()
    assert (await client.response()).complete
    assert drained.done()


@pytest.mark.gen_test
async def test_the_next_response_has_the_usual_bound_again(listen: Listen) -> None:
    delegate = limited(1)
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(get(b"/"))
    await eventually(lambda: delegate.requests)
    transport = serving.connection.transport
    assert transport.get_write_buffer_limits()[1] == 1
    delegate.requests[0].exchange.finish()
    await client.response()
    assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


# ---------------------------------------------------------------- cut()


@pytest.mark.parametrize("size", [1, 64 * 1024, 4 * MEGABYTE])
@pytest.mark.gen_test
async def test_a_cut_delivers_the_written_bytes_without_the_last_chunk(listen: Listen, size: int) -> None:
    def cut(request: Request) -> None:
        request.begin()
        request.exchange.write(b"a" * size)
        request.exchange.cut()

    delegate = Delegate(cut)
    serving = await listen(delegate)
    client = await serving.client(receive_buffer=64 * 1024)
    answer = await client.ask(get(b"/"))
    assert (answer.status, len(answer.body), answer.complete) == (200, size, False)
    assert await client.ended()  # by FIN: an RST would throw away what the client has not read
    assert not delegate.requests[0].is_left
    client.close()
    await eventually(lambda: not serving.server.connections)


async def begun(
    listen: Listen, asked: bytes = get(b"/"), *, length: int | None = None, said: bytes = b"some"
) -> tuple[Serving, Client, Request]:
    """A response that has begun."""
    delegate = Delegate(nothing)
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(asked)
    await eventually(lambda: delegate.requests)
    (request,) = delegate.requests
    request.begin(length)
    if said:
        request.exchange.write(said)
    return serving, client, request


@pytest.mark.gen_test
async def test_a_request_behind_a_cut_response_is_not_answered(listen: Listen) -> None:
    serving, client, request = await begun(listen, get(b"/one") + get(b"/two"))
    request.exchange.cut()
    answer = await client.response()
    assert (answer.body, answer.complete, client.buffer) == (b"some", False, b"")
    assert serving.server.delegate.requests == [request]


@pytest.mark.parametrize(
    ("version", "length", "said"),
    [(b"HTTP/1.1", None, b""), (b"HTTP/1.1", 10, b"some"), (b"HTTP/1.0", None, b"some")],
    ids=["before its first piece", "of a known length", "to an old client"],
)
@pytest.mark.gen_test
async def test_a_response_that_promised_nothing_by_chunks_is_reset(
    listen: Listen, version: bytes, length: int | None, said: bytes
) -> None:
    _, client, request = await begun(listen, get(b"/").replace(b"HTTP/1.1", version), length=length, said=said)
    if said:
        assert await client.until(said)
    request.exchange.cut()
    with pytest.raises(Ended) as ended:
        await client.more()
    assert not ended.value.clean


@pytest.mark.gen_test
async def test_a_client_that_has_left_cannot_be_cut(listen: Listen) -> None:
    serving, client, request = await begun(listen)
    client.reset()
    await eventually(lambda: request.is_left)
    request.exchange.cut()
    request.exchange.cut()
    await eventually(lambda: not serving.server.connections)
    assert not request.exchange.finished
