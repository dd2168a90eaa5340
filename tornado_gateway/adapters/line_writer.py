"""Lines for a stream whose reader may stall: a thread writes the lines, and only the thread waits.

A line that the event loop wrote itself would stop the gateway as soon as the pipe to a stalled reader is full. Beyond
MAX_WAITING unwritten bytes lines are dropped, and so are lines that a full disk does not take. The number of dropped
lines is written as soon as there is room.
"""

import contextlib
import select
import threading
from collections import deque
from typing import Protocol

MAX_WAITING = 8 * 1024 * 1024  # bytes; at 300 bytes a line some 28,000 lines
PATIENCE = 1.0  # seconds that close() waits for the reader


class Sink(Protocol):
    """A raw stream of bytes, such as io.FileIO."""

    def write(self, data: memoryview, /) -> int | None: ...

    def fileno(self) -> int: ...


class LineWriter:
    """Writes batches of lines in a thread. Any thread may call the methods.

    Args:
        stream: unbuffered destination of the lines. A buffered stream's lock would be held while the reader stalls,
            and Python waits for that lock at exit.
        name: what the lines are, for the thread's name and for the line about dropped lines.
    """

    def __init__(self, stream: Sink, name: str) -> None:
        self._stream, self._name = stream, name
        self._lost = 0
        self._batches: deque[bytes] = deque()
        self._waiting = 0
        self._lock = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)
        self._thread.start()

    def put(self, batch: bytes) -> None:
        """Write lines, each ended by LF, or drop all of them if too many bytes wait."""
        with self._lock:
            if self._waiting + len(batch) > MAX_WAITING:
                self._lost += batch.count(b"\n")
                return
            self._batches.append(batch)
            self._waiting += len(batch)
            self._lock.notify()

    def close(self, timeout: float = PATIENCE) -> None:
        """Wait up to `timeout` seconds until all lines are written; lines that come later are lost."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join(timeout)

    def _write(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # the reader has gone
            while batch := self._next():
                is_written = self._takes(batch)
                with self._lock:
                    self._waiting -= len(batch)
                    self._lost += 0 if is_written else batch.count(b"\n")
                    lost = self._lost
                if lost and is_written and self._takes(self._told(lost)):
                    with self._lock:
                        self._lost -= lost

    def _next(self) -> bytes:
        """The next batch, once there is one; b"" at the end."""
        with self._lock:
            while not self._batches and not self._closing:
                self._lock.wait()
            return self._batches.popleft() if self._batches else b""

    def _told(self, lost: int) -> bytes:
        return b'{"level":"warn","message":"%d %b lines were dropped"}\n' % (lost, self._name.encode("ascii"))

    def _takes(self, lines: bytes) -> bool:
        """Write lines; return whether the stream took all of them. A full disk may have room later."""
        try:
            self._write_whole(lines)
        except BrokenPipeError:
            raise
        except OSError:
            return False
        return True

    def _write_whole(self, batch: bytes) -> None:
        rest = memoryview(batch)
        while rest:
            written = self._stream.write(rest)
            if written is None:  # a non-blocking stream is full; the gateway inherited its mode
                select.select([], [self._stream], [])
            rest = rest[written or 0 :]
