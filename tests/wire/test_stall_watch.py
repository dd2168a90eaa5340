"""Whether a peer reads the waiting bytes. On real sockets, with a clock of the test's own."""

import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncIterator

import pytest

from tests.support.sockets import Client
from tornado_gateway.wire import peer
from tornado_gateway.wire.peer import send_queue
from tornado_gateway.wire.stall_watch import LONGEST_READING, StallWatch

MUCH = 1024 * 1024  # bytes; more than a small receive buffer, less than our kernel's send buffer
PIECE = 16 * 1024


class Sending:
    """A transport, and its peer, which reads when the test says so."""

    def __init__(self, client: Client, transport: asyncio.Transport) -> None:
        self.client, self.transport = client, transport
        self.written = 0

    def write(self, size: int) -> None:
        self.written += size
        self.transport.write(bytes(size))

    async def settles(self) -> None:
        """Wait until the kernels exchange nothing more."""
        seen, same = None, 0
        while same < 30:
            await asyncio.sleep(0.001)
            now = (self.transport.get_write_buffer_size(), *send_queue(self.transport))
            same = same + 1 if now == seen else 0
            seen = now

    async def reads_some(self) -> None:
        """Have the peer read until that can be seen here."""
        before = send_queue(self.transport)[1]
        while send_queue(self.transport)[1] == before:
            await self.client.more()
            self.client.buffer = b""
            await asyncio.sleep(0.001)

    async def reads_all(self) -> None:
        async with asyncio.timeout(5):
            while send_queue(self.transport)[0] or self.transport.get_write_buffer_size():
                await self.client.more()
                self.client.buffer = b""


@contextlib.asynccontextmanager
async def sending(size: int = MUCH) -> AsyncIterator[Sending]:
    """A peer that reads nothing of so many bytes."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        client = await Client.connect(listener.getsockname()[1], receive_buffer=PIECE)
        accepted, _ = await loop.sock_accept(listener)
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, accepted)
    each = Sending(client, transport)
    each.write(size)
    await each.settles()
    try:
        yield each
    finally:
        transport.abort()
        client.close()
        await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_bytes_in_the_kernels_send_queue_wait_too() -> None:
    async with sending() as each:
        watch = StallWatch()
        assert not watch.look(each.transport, 10.0)
        assert (each.transport.get_write_buffer_size(), watch.waits, watch.since) == (0, True, 10.0)


@pytest.mark.gen_test
async def test_nothing_waits_for_a_peer_that_has_taken_all() -> None:
    async with sending(100) as each:
        watch = StallWatch()
        assert not watch.look(each.transport, 10.0)
        assert (watch.waits, watch.since) == (False, -math.inf)


@pytest.mark.gen_test
async def test_a_reading_peer_makes_progress_and_a_stalled_peer_does_not() -> None:
    async with sending() as each:
        watch = StallWatch()
        watch.look(each.transport, 10.0)
        assert not watch.look(each.transport, 20.0)
        assert watch.since == 10.0
        await each.reads_some()
        assert watch.look(each.transport, 30.0)
        assert watch.since == 30.0
        await each.settles()
        watch.look(each.transport, 31.0)
        assert not watch.look(each.transport, 40.0)
        assert watch.since <= 31.0


@pytest.mark.gen_test
async def test_further_writes_do_not_hide_progress() -> None:
    async with sending() as each:
        watch = StallWatch()
        watch.look(each.transport, 10.0, each.written)
        await each.reads_some()
        each.write(MUCH)
        assert watch.look(each.transport, 20.0, each.written)


@pytest.mark.gen_test
async def test_further_writes_are_no_progress() -> None:
    async with sending() as each:
        each.write(16 * MUCH)  # the transport keeps the most of it
        await each.settles()
        watch = StallWatch()
        watch.look(each.transport, 10.0, each.written)
        each.write(MUCH)
        await each.settles()
        assert not watch.look(each.transport, 20.0, each.written)


@pytest.mark.gen_test
async def test_bytes_taken_by_our_kernel_are_no_progress() -> None:
    """A heartbeat goes into the send buffer's room whether or not the peer reads."""
    async with sending(MUCH // 4) as each, asyncio.timeout(5):
        watch = StallWatch()
        watch.look(each.transport, 10.0, each.written)
        is_progress = True
        while is_progress:  # the kernels may still pass on a last piece, but no more than that
            each.write(10)
            await each.settles()
            assert (each.transport.get_write_buffer_size(), watch.waits) == (0, True)
            is_progress = watch.look(each.transport, 20.0, each.written)


@pytest.mark.gen_test
async def test_taking_the_last_bytes_is_progress_once() -> None:
    async with sending() as each:
        watch = StallWatch()
        watch.look(each.transport, 10.0)
        await each.reads_all()
        assert watch.look(each.transport, 20.0)
        assert (watch.waits, watch.since) == (False, 20.0)
        each.write(10)
        await each.settles()
        assert not watch.look(each.transport, 30.0)
        assert watch.since == 20.0


@pytest.mark.gen_test
async def test_after_forget_the_next_look_measures_no_progress() -> None:
    async with sending() as each:
        watch = StallWatch()
        watch.look(each.transport, 10.0)
        await each.reads_all()
        watch.forget()
        assert not watch.look(each.transport, 20.0)


@pytest.mark.gen_test
async def test_without_word_from_the_kernel_the_transport_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, or with a unix socket."""
    async with sending(16 * MUCH) as each:
        monkeypatch.setattr(peer, "_TCP_INFO", None)
        assert send_queue(each.transport) == (0, None)
        watch = StallWatch()
        for now in (10.0, 20.0):
            assert not watch.look(each.transport, now, each.written)
        assert (watch.waits, watch.since) == (True, 10.0)
        before = each.transport.get_write_buffer_size()
        while each.transport.get_write_buffer_size() == before:
            await each.client.more()
            each.client.buffer = b""
        each.write(MUCH)
        assert watch.look(each.transport, 30.0, each.written)
        assert 0.0 < watch.reading_time(30.0) < LONGEST_READING


@pytest.mark.gen_test
async def test_a_kernel_that_tells_less_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sending() as each:
        monkeypatch.setattr(peer, "_SENT", peer.struct.Struct("=900xQ16xI"))
        assert send_queue(each.transport) == (0, None)


@pytest.mark.gen_test
async def test_the_reading_time_follows_the_peers_rate() -> None:
    async with sending() as each:
        watch = StallWatch()
        assert watch.reading_time(10.0) == 0.0
        watch.look(each.transport, 10.0)
        assert watch.reading_time(10.0) == 0.0
        await each.reads_all()
        watch.look(each.transport, 14.0)  # nearly a megabyte in four seconds
        assert 0.5 < watch.reading_time(14.0) < 2
        assert watch.reading_time(14.5) == pytest.approx(watch.reading_time(14.0) - 0.5)
        assert watch.reading_time(100.0) == 0.0


@pytest.mark.gen_test
async def test_the_reading_time_is_bounded() -> None:
    async with sending() as each:
        watch = StallWatch()
        watch.look(each.transport, 0.0)
        await each.reads_some()
        watch.look(each.transport, 1e6)
        assert watch.reading_time(1e6) == LONGEST_READING


@pytest.mark.gen_test
async def test_a_connection_that_is_about_to_close_is_still_looked_at() -> None:
    async with sending() as each:
        watch = StallWatch()
        watch.look(each.transport, 10.0)
        await each.reads_some()
        each.transport.close()
        assert watch.look(each.transport, 20.0)
