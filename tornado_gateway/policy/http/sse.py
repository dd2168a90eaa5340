"""Event streams (WHATWG HTML §9.2): where events end, and the lines that the gateway adds.

The bytes of a stream pass unchanged. The gateway adds comments (heartbeats), reconnection times and events about
failures, only at a boundary: where no event is open. Elsewhere the added lines would become part of an event.

    data: a ⏎      an event is open
    ⏎              a blank line ends the event: a boundary
    : hello ⏎      a comment opens no event: still a boundary
    data: b        in the middle of a line: no boundary

Lines end with LF, CRLF or CR. Chunks may end anywhere, even between CR and LF.
"""

import functools
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from tornado_gateway.errors import GatewayError, UpstreamTimeout
from tornado_gateway.policy.http.headers import Field

EVENT_STREAM = b"text/event-stream"
HEARTBEAT = b":\n"  # a comment without text: the fewest bytes that keep a connection alive
SHORTEST_LIFE = 0.8  # least share of SSE_MAX_AGE_MS; random lifetimes spread the reconnects (Mercure does the same)
RETRY_MS = (1000, 5000)  # range of the reconnection time that clients are sent

MARK = b"\xef\xbb\xbf"  # U+FEFF in UTF-8
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_CR, _LF = 0x0D, 0x0A
_NO_BREAK = bytes((_CR + 1,))  # bytes that begin with CR or LF, and no bytes at all, are less


@dataclass(frozen=True, slots=True)
class EventStreamConfig:
    """Limits and options of event streams. Durations are seconds; math.inf for no limit.

    Attributes:
        heartbeat: silence after which a comment is sent.
        idle_timeout: silence of the upstream after which the stream is ended.
        max_age: age at which a stream is ended.
        max_bytes: bytes after which a stream is ended; math.inf for no limit.
        error_event: the style of error_event().
        unavailable: RETRY or STATUS of policy/http/unavailable.py; "" for the route's default.
        max_buffered: greatest number of unsent bytes for a client.
        peek: how long the response's head waits for the first event, which may be an error; 0 for no wait.
        reads_last_event_id: whether the query parameter last_event_id replaces the Last-Event-ID field.
        cuts_slow: whether a client with more than max_buffered bytes unsent is disconnected; otherwise the upstream
            is paused.
    """

    heartbeat: float = 15.0
    idle_timeout: float = 300.0
    max_age: float = math.inf
    max_bytes: float = math.inf
    error_event: str = "off"
    unavailable: str = ""
    max_buffered: int = 256 * 1024
    cuts_slow: bool = False
    peek: float = 0.0
    reads_last_event_id: bool = False

    @property
    def shortest_timeout(self) -> float:
        """The shortest of the durations that a sweep checks; sweeps must come more often."""
        return min(self.heartbeat, self.idle_timeout, self.max_age)


class _Open(NamedTuple):
    """What is open behind the last byte read.

    Attributes:
        in_event: a line that is no comment has ended since the last blank line.
        in_line: bytes have come since the last end of a line.
        in_comment: the open line is a comment.
        after_cr: the last byte was a CR; an LF belongs to the same end of line.
    """

    in_event: bool = False
    in_line: bool = False
    in_comment: bool = False
    after_cr: bool = False


_NOTHING = _Open()
_END_OF_LINE = _Open(after_cr=True)


class BoundaryScanner:
    """Reads a stream, and tells whether an event is open.

    Attributes:
        events: blank lines read so far: as many as events and comments between blank lines, as services write these.

    >>> scanner = BoundaryScanner()
    >>> scanner.feed(b"data: a\\r"); scanner.at_boundary
    False
    >>> scanner.feed(b"\\n\\r\\n: hello\\r\\n"); scanner.at_boundary
    True
    """

    __slots__ = ("_open", "events")

    def __init__(self) -> None:
        self.events = 0
        self._open = _NOTHING

    @property
    def at_boundary(self) -> bool:
        """Whether no event is open, so that lines may be inserted here."""
        return not self._open.in_event and not self._open.in_line

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the stream."""
        event = chunk.removesuffix(b"\n\n")
        # Most services write an event at a time. The search for one byte is the fastest; find() parses arguments.
        if len(event) < len(chunk) and event >= _NO_BREAK and (_LF not in event or not event.partition(b"\n\n")[1]):
            self.events += 1
            self._open = _NOTHING
        elif chunk.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")):
            self.events += self._blank_lines(chunk)
            self._open = _NOTHING if chunk[-1] == _LF else _END_OF_LINE
        elif chunk:
            self._read(chunk)

    def end_of_last_event(self, chunk: bytes) -> int:
        """Offset in the next chunk, before feed(), where its last complete event ends; -1 if no event ends."""
        start = self._continued(chunk)
        pair = max(chunk.rfind(b"\n\n", start), chunk.rfind(b"\n\r", start), chunk.rfind(b"\r\r", start))
        if pair >= 0:  # two ends of line in a row are a blank line
            end = pair + 2
        elif not self._open.in_line and chunk[start : start + 1] in (b"\r", b"\n"):
            end = start + 1
        else:
            return -1
        return end + 1 if chunk[end - 1 : end + 1] == b"\r\n" else end

    def _continued(self, chunk: bytes) -> int:
        """1 if the chunk begins with the LF of a CRLF whose CR ended the chunk before; else 0."""
        return 1 if self._open.after_cr and chunk.startswith(b"\n") else 0

    def _blank_lines(self, chunk: bytes) -> int:
        """The number of blank lines in the next chunk; a stream has one kind of line ends, as a rule."""
        start = self._continued(chunk)
        is_first = not self._open.in_line and chunk[start : start + 1] in (b"\r", b"\n")
        rest = chunk[start + is_first :].removeprefix(b"\n" if is_first and chunk[start] == _CR else b"")
        count = rest.count(b"\n\n") or rest.count(b"\r\n\r\n") or rest.count(b"\r\r")
        return is_first + count + rest.endswith(b"\n\r")

    def _read(self, chunk: bytes) -> None:
        self.events += self._blank_lines(chunk)
        end = self.end_of_last_event(chunk)
        if end >= 0:
            in_event, in_line, in_comment = False, False, False
        else:
            end = self._continued(chunk)
            in_event, in_line, in_comment, _ = self._open
        for line in chunk[end:].splitlines(keepends=True):
            in_comment = in_comment if in_line else line.startswith(b":")
            in_line = line[-1] not in (_CR, _LF)
            in_event = in_event or not (in_line or in_comment)
        self._open = _Open(in_event, in_line, in_comment, chunk[-1] == _CR)


@functools.lru_cache(maxsize=256)  # called for every response (measured: 0.3 µs less)
def is_event_stream(content_type: bytes) -> bool:
    """Whether the media type of a Content-Type is text/event-stream.

    >>> is_event_stream(b"Text/Event-Stream; charset=utf-8"), is_event_stream(b"text/event-streams")
    (True, False)
    """
    return content_type.partition(b";")[0].strip().lower() == EVENT_STREAM


def stream_fields(fields: Sequence[Field]) -> bytes:
    """Field lines to add to an event stream's response, so that proxies in front neither transform nor buffer."""
    lines = b""
    if not any(name.lower() == b"cache-control" and b"no-transform" in value.lower() for name, value in fields):
        lines += b"Cache-Control: no-transform\r\n"
    if not any(name.lower() == b"x-accel-buffering" for name, _ in fields):
        lines += b"X-Accel-Buffering: no\r\n"  # read by nginx
    return lines


def is_encoded(fields: Sequence[Field]) -> bool:
    """Whether a stream has a content coding, so that events cannot be found and nothing can be inserted."""
    return any(name.lower() == b"content-encoding" and value.lower() != b"identity" for name, value in fields)


def last_event_id(target: bytes) -> bytes | None:
    """The decoded query parameter last_event_id; None if absent, empty, or not a valid field value.

    >>> last_event_id(b"/events?a=1&last_event_id=a%2042"), last_event_id(b"/events?last_event_id=%0a")
    (b'a 42', None)
    """
    query = target.partition(b"?")[2]
    given = [each for each in query.split(b"&") if each.startswith(b"last_event_id=")]
    value = unquote_to_bytes(given[0].partition(b"=")[2]) if given else b""
    return value if value and not _CONTROL.search(value) else None


def lifetime(max_age: float, rng: random.Random) -> float:
    """Random lifetime of a stream in seconds, from SHORTEST_LIFE × max_age to max_age."""
    return max_age * rng.uniform(SHORTEST_LIFE, 1.0)


def retry_hint(rng: random.Random) -> bytes:
    """A `retry:` line with a random reconnection time, so that clients do not reconnect together."""
    return b"retry: %d\n\n" % rng.randint(*RETRY_MS)


def closing_event(reason: str) -> bytes:
    """An event that tells the client why the gateway ended the stream for good.

    >>> closing_event("token_expired")
    b'event: gateway-close\\ndata: token_expired\\n\\n'
    """
    return b"event: gateway-close\ndata: %b\n\n" % reason.encode("ascii")


def error_event(style: str, error: GatewayError) -> bytes:
    """An event that tells the client that a stream has failed; b"" for the style "off".

    Args:
        style: "off", "generic", "openai" or "anthropic"; the last two are the formats of those APIs.
        error: the failure.
    """
    if style == "off":
        return b""
    if style == "openai":
        said: object = {"error": {"message": error.message, "type": "server_error", "param": None, "code": error.code}}
        return b"data: %b\n\n" % _json(said)
    if style == "anthropic":
        kind = "timeout_error" if isinstance(error, UpstreamTimeout) else "api_error"
        said = {"type": "error", "error": {"type": kind, "message": error.message}}
    else:
        said = {"error": error.code, "message": error.message}
    return b"event: error\ndata: %b\n\n" % _json(said)


def _json(said: object) -> bytes:
    return json.dumps(said).encode("ascii")


def begins_with_error(stream: bytes) -> bool | None:
    """Whether the first event of a stream reports an error; None while the event is incomplete.

    An error is an event of type "error", or data that is a JSON object with a member "error" other than null, as model
    servers send after a 200.

    >>> begins_with_error(b"data: {"), begins_with_error(b'data: {"error": "busy"}\\n\\n')
    (None, True)
    """
    kind, data = b"", list[bytes]()
    for line in stream.removeprefix(MARK).splitlines(keepends=True):
        text = line.rstrip(b"\r\n")
        if text == line:
            return None  # cut in the middle
        if not text:
            if data or kind:
                return kind == b"error" or _has_error(b"\n".join(data))
            continue
        name, _, value = text.partition(b":")
        if name == b"event":
            kind = value.removeprefix(b" ")
        elif name == b"data":
            data.append(value.removeprefix(b" "))
    return None


def _has_error(data: bytes) -> bool:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
        return False
    return isinstance(said, dict) and said.get("error") is not None
