"""The access log: one line per request, written to a stream by a thread.

The event loop appends records to a list, formats BATCH records at a time, and hands all lines to the thread every
FLUSH_INTERVAL (line_writer.py).
"""

import asyncio
import functools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tornado_gateway.adapters.line_writer import PATIENCE, LineWriter, Sink
from tornado_gateway.policy.http.address import Address
from tornado_gateway.policy.http.redaction import HIDDEN, Redaction, without_tokens
from tornado_gateway.policy.http.trace import Parents, trace_id

# Records formatted at a time. In a batch a line costs 1.2 µs; a single line between other work, with cold caches, costs
# 8 µs: a tenth of a small request's CPU.
BATCH = 64

FLUSH_INTERVAL = 0.25  # seconds; unnoticed by a person, and a thousand lines share a wake-up of the thread

# Changes of a record that hide a field of the line, by the lower-case name of the field.
HIDING: dict[str, dict[str, Any]] = {
    "client": {"client": Address(HIDDEN, HIDDEN, None)},
    "endpoint": {"endpoint": HIDDEN},
    "path": {"target": HIDDEN.encode("ascii")},
    "requestid": {"request_id": HIDDEN.encode("ascii")},
    "traceid": {"parents": ()},
}

LONGEST_REMEMBERED = 256  # bytes of a path whose text is remembered; clients make up paths of 8 KiB

SHOWS_NO_QUERY = Redaction()

_quote: Callable[[str], str] = json.encoder.encode_basestring_ascii


@dataclass(slots=True)
class AccessRecord:
    """A finished request, or a stream that has begun.

    Attributes:
        target: the request target.
        status: the status sent to the client; 499 if the client left before the response's head.
        reason: the reason of the GatewayError that failed the request; "" for none.
        attempts: number of exchanges begun with upstreams.
        bytes_in, bytes_out: sizes of the bodies of request and response; of a WebSocket, bytes of all frames.
        head_seconds: seconds until the upstream's response head; None without a response.
        seconds: duration of the request.
        parents: where the trace of the request is named.
        is_slow: whether the request took SLOW_REQUEST_MS or longer.
        is_open: whether the record tells of the beginning of a stream.
        is_refresh: whether the request validates a stored response in the background.
        close_code: close code of a WebSocket, 1006 without a Close frame; None for other requests.
        messages_in, messages_out: numbers of a WebSocket's messages.
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
    parents: Parents = ()
    is_slow: bool = False
    is_open: bool = False
    close_code: int | None = None
    messages_in: int = 0
    messages_out: int = 0
    is_refresh: bool = False

    @property
    def whole(self) -> "AccessRecord":
        """The record itself; see Refusal."""
        return self

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition(b"?")[0].decode("latin-1")


class Refusal(NamedTuple):
    """The record of a request that was answered at once, without a service: an AccessRecord of few members. A refusal
    under overload is to cost little (measured with its line: a twelfth of the gateway's work for a refusal).

    Attributes:
        request_id, method, target, status, reason, bytes_out, client, parents: see AccessRecord.
    """

    request_id: bytes
    method: bytes
    target: bytes
    status: int
    reason: str
    bytes_out: int
    client: Address
    parents: Parents = ()

    @property
    def whole(self) -> AccessRecord:
        """The same as an AccessRecord."""
        return AccessRecord(
            self.request_id, self.method, self.target, "", "", self.status, self.reason, 0, 0, self.bytes_out, None,
            0.0, self.client, self.parents,
        )  # fmt: skip


# The parts of a line below are remembered, without tokens: few combinations make up nearly all lines.


@functools.lru_cache(maxsize=1024)
def _asked(method: bytes, path: bytes) -> str:
    """The members that say what was asked for."""
    return without_tokens(f'"method":{_quote(method.decode("latin-1"))},"path":{_quote(path.decode("latin-1"))}')


@functools.lru_cache(maxsize=1024)
def _outcome(service: str, endpoint: str, status: int, reason: str, attempts: int) -> str:
    """The members that say what became of a request."""
    return without_tokens(
        f'"service":{_quote(service)},"endpoint":{_quote(endpoint)},"status":{status},"reason":{_quote(reason)}'
        f',"attempts":{attempts}'
    )


@functools.lru_cache(maxsize=1024)
def _refused(status: int, reason: str, bytes_out: int, client: str) -> str:
    """All members of a refusal behind the path."""
    outcome = _outcome("", "", status, reason, 0)
    return f'{outcome},"bytesIn":0,"bytesOut":{bytes_out},"headMs":null,"totalMs":0.0,"client":{_quote(client)}'


def _measured(record: AccessRecord) -> str:
    """All members behind the path."""
    head_ms = "null" if record.head_seconds is None else f"{record.head_seconds * 1000:.1f}"
    websocket = ""
    if record.close_code is not None:
        websocket = (
            f',"closeCode":{record.close_code},"messagesIn":{record.messages_in},"messagesOut":{record.messages_out}'
        )
    outcome = _outcome(record.service, record.endpoint, record.status, record.reason, record.attempts)
    return (
        f'{outcome},"bytesIn":{record.bytes_in},"bytesOut":{record.bytes_out},"headMs":{head_ms}'
        f',"totalMs":{record.seconds * 1000:.1f},"client":{_quote(record.client.text)}{websocket}'
    )


Format = Callable[[AccessRecord | Refusal, str, Redaction], str]


def json_line(record: AccessRecord | Refusal, at: str, redaction: Redaction = SHOWS_NO_QUERY) -> str:
    """Format a record as a JSON object. Formatted by hand: json.dumps() takes three times as long.

    Args:
        at: time of the record's addition, in the format of RFC 3339.
        redaction: what is shown of the query.
    """
    level, kind = "info", "access"
    if isinstance(record, Refusal):
        result = _refused(record.status, record.reason, record.bytes_out, record.client.text)
    else:
        result = _measured(record)
        level = "warn" if record.is_slow else level
        kind = "stream_open" if record.is_open else "cache_refresh" if record.is_refresh else kind
    query = f',"query":{_quote(without_tokens(redaction.query(record.target)))}' if redaction.shows_query else ""
    trace = trace_id(record.parents) if record.parents else ""
    request_id, path = _quote(record.request_id.decode("latin-1")), record.target.partition(b"?")[0]
    if "eyJ" in request_id:
        request_id = without_tokens(request_id)
    asked = (_asked if len(path) <= LONGEST_REMEMBERED else _asked.__wrapped__)(record.method, path)
    return (
        f'{{"time":"{at}","level":"{level}","type":"{kind}","requestId":{request_id},"traceId":"{trace}",{asked}{query}'
        f",{result}}}\n"
    )


def text_line(record: AccessRecord | Refusal, at: str, redaction: Redaction = SHOWS_NO_QUERY) -> str:
    """Format a record for a person; control characters are escaped, to protect the terminal. Arguments as json_line."""
    record = record.whole
    to = f" -> {record.service} {record.endpoint}" if record.service else ""
    why = f" ({record.reason})" if record.reason else ""
    why += " slow" if record.is_slow else ""
    why += " refresh" if record.is_refresh else ""
    closed = f" closed {record.close_code}" if record.close_code is not None else " opened" if record.is_open else ""
    tries = f" x{record.attempts}" if record.attempts > 1 else ""
    method, request_id = record.method.decode("latin-1"), record.request_id.decode("latin-1")
    query = redaction.query(record.target)
    path = f"{record.path}?{query}" if query else record.path
    line = (
        f"{at[11:23]} {record.status} {method} {path}{to}{tries}{closed}{why}"
        f" {record.seconds * 1000:.1f} ms {record.bytes_in}/{record.bytes_out} B {record.client.text} {request_id}"
    )
    return without_tokens(_quote(line)[1:-1] + "\n")


class AccessLog:
    """Takes records on the event loop, and writes lines in a thread. Made inside a running event loop.

    Args:
        stream: unbuffered destination of the lines; see LineWriter.
        line: json_line or text_line.

    Attributes:
        has_all: whether all requests are logged; False: slow requests alone.
        has_openings: whether the beginning of a stream is logged.
        slow: seconds from which on a request is slow; math.inf: no request is.
        redaction: which values are hidden.
    """

    def __init__(
        self,
        stream: Sink,
        line: Format,
        *,
        has_all: bool = True,
        has_openings: bool = False,
        slow: float = math.inf,
        redaction: Redaction = SHOWS_NO_QUERY,
    ) -> None:
        self.reconfigure(line, has_all=has_all, has_openings=has_openings, slow=slow, redaction=redaction)
        self._records: list[tuple[float, AccessRecord | Refusal]] = []  # with the time of each record's addition
        self._lines: list[str] = []
        self._second, self._prefix = 0, ""
        self._from = self._until = 0.0  # seconds since 1970 between which `_stamped` holds
        self._stamped = ""
        self._loop = asyncio.get_running_loop()
        self._flush_due: asyncio.TimerHandle | None = None
        self._writer = LineWriter(stream, "access log")

    def reconfigure(
        self, line: Format, *, has_all: bool, has_openings: bool, slow: float, redaction: Redaction
    ) -> None:
        """Log other requests, or in another way, from the next batch of lines on; see the class."""
        self.has_all, self.has_openings, self.slow, self._redaction = has_all, has_openings, slow, redaction
        self._hiding: dict[str, Any] = {}
        for name in sorted(redaction.names & HIDING.keys()):
            self._hiding |= HIDING[name]
        self._line = line

    def add(self, record: AccessRecord | Refusal) -> None:
        """Log a finished request."""
        self._records.append((time.time(), record))
        if len(self._records) == BATCH:
            self._make_lines()
        if self._flush_due is None:
            self._flush_due = self._loop.call_later(FLUSH_INTERVAL, self._flush)

    def close(self, timeout: float = PATIENCE) -> None:
        """Hand the remaining lines to the thread; wait up to `timeout` seconds until they are written."""
        self._flush()
        self._writer.close(timeout)

    def _make_lines(self) -> None:
        if self._hiding:
            self._records = [(at, replace(record.whole, **self._hiding)) for at, record in self._records]
        self._lines += [self._line(record, self._stamp(at), self._redaction) for at, record in self._records]
        self._records.clear()

    def _stamp(self, at: float) -> str:
        """Format seconds since 1970 as RFC 3339 does, once per millisecond."""
        if not self._from <= at < self._until:
            millisecond = int(at * 1000)
            second, rest = divmod(millisecond, 1000)
            if second != self._second or not self._prefix:
                self._second = second
                self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._from, self._until, self._stamped = at, (millisecond + 1) / 1000, f"{self._prefix}{rest:03d}Z"
        return self._stamped

    def _flush(self) -> None:
        if self._flush_due:
            self._flush_due.cancel()
            self._flush_due = None
        self._make_lines()
        if not self._lines:
            return
        batch = "".join(self._lines).encode("ascii", "backslashreplace")
        self._lines.clear()
        self._writer.put(batch)
