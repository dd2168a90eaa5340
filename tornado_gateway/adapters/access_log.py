"""One line per request, written to a stream by a thread of its own.

The event loop only appends to a list. Lines are made of it BATCH at a time, and every FLUSH_INTERVAL they go to the
thread as one piece. When the reader of the log stalls, the thread waits and the event
loop does not: at most MAX_WAITING bytes are kept, then lines are dropped, and the
number of lost ones is written as soon as there is room.
"""

import asyncio
import json
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from tornado_gateway.policy.http.address import Address

# Records that lines are made of at once. One after the other a line costs 1.2 µs; each by itself, between other work
# that has used up the caches, 8 µs: a tenth of what a small request costs in all.
BATCH = 64

FLUSH_INTERVAL = 0.25  # seconds; a person who watches does not notice, a thousand lines share one wake-up
MAX_WAITING = 8 * 1024 * 1024  # bytes; at 300 bytes a line some 28,000 requests

_quote: Callable[[str], str] = json.encoder.encode_basestring_ascii


@dataclass(slots=True)
class AccessRecord:
    """What is known about a request once it is over.

    Attributes:
        target: of which the query is not shown: it may hold secrets.
        status: sent to the client, also if it left, or was cut off, behind the head; 499 if it left before.
        reason: why the gateway failed the request, in the words of errors.py; "" if it did not.
        attempts: exchanges with upstreams that were begun.
        bytes_in, bytes_out: of the bodies.
        head_seconds: until the upstream's head came; None if it never did.
        close_code: of a WebSocket, 1006 if it had none; None for everything else.
        messages_in, messages_out: of a WebSocket; its bytes are those of all frames.
    """

    request_id: bytes
    method: bytes
    target: bytes
    service: str
    endpoint: str
    status: int
    reason: str
    attempts: int
    bytes_in: int
    bytes_out: int
    head_seconds: float | None
    seconds: float
    client: Address
    close_code: int | None = None
    messages_in: int = 0
    messages_out: int = 0

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition(b"?")[0].decode("latin-1")


def _text(raw: bytes) -> str:
    return _quote(raw.decode("latin-1"))


Format = Callable[[AccessRecord, str], str]


def json_line(record: AccessRecord, at: str) -> str:
    """The record as one JSON object. Written by hand: json.dumps() of it costs three times as much."""
    head_ms = "null" if record.head_seconds is None else f"{record.head_seconds * 1000:.1f}"
    websocket = ""
    if record.close_code is not None:
        websocket = (
            f',"closeCode":{record.close_code},"messagesIn":{record.messages_in},"messagesOut":{record.messages_out}'
        )
    return (
        f'{{"time":"{at}","level":"info","type":"access","requestId":{_text(record.request_id)}'
        f',"method":{_text(record.method)},"path":{_quote(record.path)},"service":{_quote(record.service)}'
        f',"endpoint":{_quote(record.endpoint)},"status":{record.status},"reason":{_quote(record.reason)}'
        f',"attempts":{record.attempts},"bytesIn":{record.bytes_in},"bytesOut":{record.bytes_out}'
        f',"headMs":{head_ms},"totalMs":{record.seconds * 1000:.1f}'
        f',"client":{_quote(record.client.text)}{websocket}}}\n'
    )


def text_line(record: AccessRecord, at: str) -> str:
    """The record for a person to read."""
    to = f" -> {record.service} {record.endpoint}" if record.service else ""
    why = f" ({record.reason})" if record.reason else ""
    closed = f" closed {record.close_code}" if record.close_code is not None else ""
    tries = f" x{record.attempts}" if record.attempts > 1 else ""
    method, request_id = record.method.decode("latin-1"), record.request_id.decode("latin-1")
    line = (
        f"{at[11:23]} {record.status} {method} {record.path}{to}{tries}{closed}{why}"
        f" {record.seconds * 1000:.1f} ms {record.bytes_in}/{record.bytes_out} B {record.client.text} {request_id}"
    )
    return _quote(line)[1:-1] + "\n"  # no control character of a client's reaches the terminal


class Sink(Protocol):
    """A raw stream of bytes: io.FileIO, or one like it."""

    def write(self, data: memoryview, /) -> int | None: ...

    def fileno(self) -> int: ...


class AccessLog:
    """Takes records on the event loop, writes lines elsewhere.

    Args:
        stream: where lines go, written to by one thread only. It has no buffer: the lock of a buffer would be held
            while a reader stalls, and Python waits for that lock at its exit.
        line: json_line or text_line.
    """

    def __init__(self, stream: Sink, line: Format) -> None:
        self._stream = stream
        self._line = line
        self._records: list[tuple[float, AccessRecord]] = []  # and when they were added
        self._lines: list[str] = []
        self._lost = 0
        self._second, self._prefix = 0, ""
        self._loop = asyncio.get_running_loop()
        self._flush_due: asyncio.TimerHandle | None = None
        self._batches: deque[bytes] = deque()
        self._waiting = 0
        self._lock = threading.Condition()
        self._closing = False
        self._writer = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._writer.start()

    def add(self, record: AccessRecord) -> None:
        """Log a request that is over."""
        self._records.append((time.time(), record))
        if len(self._records) == BATCH:
            self._make_lines()
        if self._flush_due is None:
            self._flush_due = self._loop.call_later(FLUSH_INTERVAL, self._flush)

    def close(self, timeout: float = 1.0) -> None:
        """Write what there is; wait up to `timeout` seconds for it."""
        self._flush()
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._writer.join(timeout)

    def _make_lines(self) -> None:
        self._lines += [self._line(record, self._stamp(at)) for at, record in self._records]
        self._records.clear()

    def _stamp(self, at: float) -> str:
        """Seconds since 1970 as RFC 3339 writes them."""
        second, milliseconds = divmod(int(at * 1000), 1000)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._prefix}{milliseconds:03d}Z"

    def _flush(self) -> None:
        if self._flush_due:
            self._flush_due.cancel()
            self._flush_due = None
        self._make_lines()
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        batch = "".join(lines).encode("ascii", "backslashreplace")
        with self._lock:
            if self._waiting + len(batch) > MAX_WAITING:
                self._lost += len(lines)
                return
            if self._lost:
                batch += b'{"level":"warn","message":"%d access log lines were dropped"}\n' % self._lost
                self._lost = 0
            self._batches.append(batch)
            self._waiting += len(batch)
            self._lock.notify()

    def _write(self) -> None:
        while True:
            with self._lock:
                while not self._batches and not self._closing:
                    self._lock.wait()
                if not self._batches:
                    return
                batch = self._batches.popleft()
            lost = 0
            try:
                self._write_whole(batch)
            except BrokenPipeError:
                return  # nobody reads any more
            except OSError:  # a disk that is full now may have room later
                lost = batch.count(b"\n")
            with self._lock:
                self._waiting -= len(batch)
                self._lost += lost

    def _write_whole(self, batch: bytes) -> None:
        rest = memoryview(batch)
        while rest:
            written = self._stream.write(rest)
            if written is None:  # whoever opened the stream has made it non-blocking, and it is full
                select.select([], [self._stream], [])
            rest = rest[written or 0 :]
