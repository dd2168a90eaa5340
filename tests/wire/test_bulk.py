"""Reading in bulk: pieces that nobody overwrites, and the way back to small reads."""

import asyncio
import socket
from typing import cast

import pytest

from tests.support.sockets import eventually
from tornado_gateway.wire.bulk import BUFFER_SIZE, SMALL, BulkReader, BulkReceiver, SharedBuffer, read_in_bulk

LARGE = 100_000  # bytes; less than the kernel buffers, so that one read takes all


class Taker(BulkReceiver):
    """Keeps what comes, and a note of each other call."""

    def __init__(self) -> None:
        self.taken: list[bytes | memoryview] = []
        self.calls: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.taken.append(data)

    def piece_received(self, piece: memoryview) -> None:
        self.taken.append(piece)

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return True

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.calls.append("lost")


async def connected() -> tuple[Taker, socket.socket]:
    """A connection that is read in bulk, and the socket of the other side."""
    mine, other = socket.socketpair()
    taker = Taker()
    await asyncio.get_running_loop().create_unix_connection(lambda: taker, sock=mine)
    read_in_bulk(taker.transport, taker, SharedBuffer())
    return taker, other


@pytest.mark.gen_test
async def test_large_reads_come_as_views_that_stay_as_they_were() -> None:
    taker, other = await connected()
    with other:
        for number in range(3):
            other.sendall(bytes([number]) * LARGE)
            await eventually(lambda: sum(map(len, taker.taken)) == (number + 1) * LARGE)  # noqa: B023
        assert isinstance(taker.taken[0], memoryview)
        assert b"".join(taker.taken) == b"".join(bytes([number]) * LARGE for number in range(3))
    taker.transport.abort()


@pytest.mark.gen_test
async def test_a_small_read_comes_as_bytes_and_ends_reading_in_bulk() -> None:
    taker, other = await connected()
    with other:
        assert isinstance(taker.transport.get_protocol(), BulkReader)
        for size in (SMALL - 1, 1):
            taker.taken.clear()
            other.sendall(b"s" * size)
            await eventually(lambda: taker.taken)
            assert taker.taken == [b"s" * size]
            assert isinstance(taker.taken[0], bytes)
            assert taker.transport.get_protocol() is taker
    taker.transport.abort()


@pytest.mark.gen_test
async def test_all_other_calls_reach_the_receiver() -> None:
    taker, other = await connected()
    with other:
        taker.transport.set_write_buffer_limits(high=1)
        taker.transport.write(bytes(4 * 1024 * 1024))
        assert taker.calls == ["pause"]
        other.setblocking(False)
        await eventually(lambda: drain(other) and "resume" in taker.calls)
        other.shutdown(socket.SHUT_WR)
        await eventually(lambda: "eof" in taker.calls)
        taker.transport.abort()
        await eventually(lambda: "lost" in taker.calls)
    assert taker.calls == ["pause", "resume", "eof", "lost"]


def drain(sock: socket.socket) -> bool:
    """Read what has come; True."""
    try:
        while sock.recv(1 << 20):
            pass
    except BlockingIOError:
        return True
    return False


@pytest.mark.gen_test
async def test_a_closing_connection_and_one_that_has_a_reader_are_left_alone() -> None:
    taker, other = await connected()
    with other:
        reader = taker.transport.get_protocol()
        read_in_bulk(taker.transport, taker, SharedBuffer())
        assert taker.transport.get_protocol() is reader
        taker.transport.set_protocol(taker)
        taker.transport.close()
        read_in_bulk(taker.transport, taker, SharedBuffer())
        assert taker.transport.get_protocol() is taker
        await eventually(lambda: "lost" in taker.calls)


def test_a_buffer_is_used_again_unless_somebody_holds_a_part() -> None:
    shared = SharedBuffer()
    first = shared.free()
    assert len(first) == BUFFER_SIZE
    assert shared.free() is first
    first[:3] = b"abc"
    part = shared.read(3)
    second = shared.free()
    assert second is not first
    assert bytes(part) == b"abc"
    assert shared.free() is second
    assert len(second) == BUFFER_SIZE
