"""Lines for a reader that stalls, leaves, or has no room."""

import errno
import io
import itertools
import os
import threading
from collections.abc import Collection
from typing import Any

import pytest

from tests.support.sockets import eventually
from tornado_gateway.adapters import line_writer
from tornado_gateway.adapters.line_writer import LineWriter


class Stalled(io.BytesIO):
    """A stream whose reader has stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.resumed = threading.Event()

    def write(self, data: Any) -> int:
        self.resumed.wait()
        return super().write(data)


@pytest.mark.gen_test
async def test_a_stalled_reader_costs_lines_not_memory_and_the_loss_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "MAX_WAITING", 10)
    stream = Stalled()
    writer = LineWriter(stream, "access log")
    writer.put(b"first\n")
    for _ in range(50):
        writer.put(b"a line too much\n")
    stream.resumed.set()
    await eventually(lambda: writer._waiting == 0)
    writer.put(b"last\n")
    writer.close()
    told = b'{"level":"warn","message":"50 access log lines were dropped"}\n'
    assert stream.getvalue() == b"first\n" + told + b"last\n"


def test_closing_does_not_wait_for_a_stalled_reader() -> None:
    stream = Stalled()
    writer = LineWriter(stream, "log")
    writer.put(b"late\n")
    writer.close(timeout=0.01)
    assert stream.getvalue() == b""
    stream.resumed.set()


def test_a_reader_that_has_gone_stops_the_writer_only() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as stream:
        writer = LineWriter(stream, "log")
        writer.put(b"unread\n")
        writer.close()
        assert not writer._thread.is_alive()
        writer.put(b"unread\n")


class Full(io.BytesIO):
    """A disk without room for the writes of these numbers; the first is 0."""

    def __init__(self, refused: Collection[int]) -> None:
        super().__init__()
        self.writes, self.refused = itertools.count(), refused

    def write(self, data: Any) -> int:
        if next(self.writes) in self.refused:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("lines", [1, 2, 5])
@pytest.mark.gen_test
async def test_a_disk_that_is_full_for_a_while_costs_the_lines_of_that_while(lines: int) -> None:
    stream = Full(range(lines))
    writer = LineWriter(stream, "log")
    for lost in range(1, lines + 1):
        writer.put(b"lost\n")
        await eventually(lambda lost=lost: writer._lost == lost)
    writer.put(b"kept\n")
    writer.close()
    assert stream.getvalue() == b'kept\n{"level":"warn","message":"%d log lines were dropped"}\n' % lines


def test_a_loss_for_whose_line_there_is_no_room_is_told_later() -> None:
    stream = Full({0, 2})  # the first line, and the line that tells the loss
    writer = LineWriter(stream, "log")
    for line in (b"lost\n", b"kept\n", b"last\n"):
        writer.put(line)
    writer.close()
    assert stream.getvalue() == b'kept\nlast\n{"level":"warn","message":"1 log lines were dropped"}\n'


def test_a_pipe_that_does_not_block_gets_every_line() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    lines = [b"%300d\n" % number for number in range(1000)]  # some 300 kB, of which the pipe holds 64 kB
    with os.fdopen(read, "rb") as reader, os.fdopen(write, "wb", buffering=0) as stream:
        writer = LineWriter(stream, "log")
        for line in lines:
            writer.put(line)
        assert [reader.readline() for _ in range(1000)] == lines
        writer.close()
