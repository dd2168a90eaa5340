"""HTTP/1.1 and HTTP/1.0 messages: parsers of heads and readers of bodies. No I/O.

A head is parsed whole, up to its empty line. The start line is checked here; the field lines are checked by llhttp,
which is strict about every byte. Framing follows RFC 9112 §6 in the order of that text; ambiguous framing is an error.

Bodies are read by three small classes with one method,

    feed(data) → (payload, rest)      rest is None until the body is complete,
                                      then the bytes in data behind the body

llhttp is not used for bodies, because llhttp does not tell where a message ended in the data, and ends a message at
"Upgrade". Either way, bytes of one request could become the next request.

Sources: RFC 9112 §2 to §7; RFC 9110 §5, §7.2, §10.1.1.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import httptools

from tornado_gateway.errors import (
    BadRequest,
    ExpectationFailed,
    GatewayError,
    HeadTooLarge,
    MethodTooLong,
    TargetTooLong,
    UpstreamError,
    UpstreamInvalid,
    VersionNotSupported,
)
from tornado_gateway.policy.http.cookies import without_session
from tornado_gateway.policy.http.headers import (
    REQUEST_FIELDS,
    RESPONSE_FIELDS,
    Field,
    content_length,
    nominated,
    options,
    pairs,
    plain_length,
)
from tornado_gateway.policy.http.lists import tokens
from tornado_gateway.policy.http.negotiation import accepts_only
from tornado_gateway.policy.http.sse import EVENT_STREAM

END_OF_HEAD = b"\r\n\r\n"

# Apache and Node allow 8 to 16 KiB, Tornado 64 KiB. Cookies of single sign-on are large.
MAX_REQUEST_HEAD = 64 * 1024
MAX_REQUEST_FIELDS = 200  # Apache: 100; 200 leave room for the fields of a CDN and of a service mesh
MAX_METHOD = 64  # the longest registered method, UPDATEREDIRECTREF, has 17 bytes
MAX_TARGET = 16 * 1024  # RFC 9112 §3 recommends at least 8000 octets
MAX_RESPONSE_HEAD = 128 * 1024
MAX_RESPONSE_FIELDS = 1000
MAX_REMEMBERED_HEAD = 4096  # greatest size of a head whose fields an idle connection keeps for comparison
MAX_CHUNK_LINE = 4096  # a chunk's size with its extensions (RFC 9112 §7.1.1 requires a limit)
MAX_TRAILERS = 8 * 1024

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TARGET = rb'[!"$-~\x80-\xff]'
_REQUEST_LINE = re.compile(rb"(%b{1,%d}) (%b+) HTTP/1\.([0-9])\r\n" % (_TOKEN, MAX_METHOD, _TARGET))
_SLASH = ord("/")
_OTHER_VERSION = re.compile(_TOKEN + rb"+ [!-~\x80-\xff]+ HTTP/(?!1\.)[0-9]\.[0-9]\r\n")
_LONG_METHOD = re.compile(rb"%b{%d}" % (_TOKEN, MAX_METHOD + 1))
_LONG_TARGET = re.compile(rb"%b+ [!-~\x80-\xff]{%d}" % (_TOKEN, MAX_TARGET + 1))
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?\r\n")
_STATUSES = {b"%d" % status: status for status in range(100, 1000)}  # a look-up takes a tenth of int()'s time
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?]+)([/?].*)?", re.IGNORECASE)
_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|[A-Za-z0-9\-._~!$&'()*+;=%]+)(?::([0-9]{0,5}))?")
_METHOD_BEGINS = re.compile(rb"%b+(?: |\Z)|\r\Z" % _TOKEN)  # or an empty line begins

# RFC 9112 §7.1 and §7.1.1. A size is below 2^63. Possessive quantifiers make a malformed line fail in one pass.
_CHUNK_SIZE = rb"([0-9A-Fa-f]{1,15}|0*[0-7][0-9A-Fa-f]{15})"
_QUOTED_STRING = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_CHUNK_EXTENSIONS = rb"(?:[ \t]*+;[ \t]*+%b++(?:[ \t]*+=[ \t]*+(?:%b++|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED_STRING)
_CHUNK_LINE = _CHUNK_SIZE + _CHUNK_EXTENSIONS + rb"\r\n"
_PADDED_CHUNK_LINE = _CHUNK_SIZE + _CHUNK_EXTENSIONS + rb"[ \t]*\r\n"

# NUL, bare CR and bare LF are refused in a trailer section, because some parsers take them for the end of a line.
_STRAY = re.compile(rb"\x00|\r(?!\n|\Z)|(?<!\r)\n")
_TRAILER_LINE = re.compile(rb"%b+:[\t -~\x80-\xff]*" % _TOKEN)

_TIMEOUT = re.compile(rb"(?:^|[,;\s])timeout\s*=\s*([0-9]{1,6})", re.IGNORECASE)

# llhttp checks the field lines of a response without a body.
_BEFORE_FIELDS = b"HTTP/1.1 204 N\r\n"

KnownFields = dict[bytes, list[bytes]]


class Body(Protocol):
    """Reads a body, and finds its end.

    Attributes:
        ends_by_close: whether the end of the connection ends the body.
    """

    ends_by_close: bool

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Read bytes; return the payload, and the bytes behind the body once the body is complete, else None."""


@dataclass(slots=True)
class RequestFields:
    """The parsed field lines of a request, independent of its request line.

    A connection keeps its last RequestFields for parse_request(). Never changed but for the notes (frozen dataclasses
    take twice as long to make). All attributes follow from `block` and `minor`.

    Attributes:
        block: the field lines and the empty line, as received.
        minor: HTTP minor version, 0 or 1; higher versions count as 1 (RFC 9110 §2.5).
        known_fields: the values of the fields that the gateway reads, by lower-case name.
        forwarded_lines: the lines that the gateway forwards.
        host: the value of Host; b"" if an HTTP/1.0 request has no Host.
        keep_alive: whether the client wants to keep the connection.
        expects_continue: whether the client waits for 100 (Continue) before sending the body.
        upgrades: whether the client asks for another protocol (RFC 9110 §7.8).
        accepts_events: whether the client accepts event streams alone; see accepts_only().
        length: size of the body; 0 for no body, None for a chunked body.
        note: what a handler notes about the field lines; None at first. A note must follow from `block` and from the
            configuration alone, because a later request of the connection with the same lines meets the note.
        reading: what a handler has read in `forwarded_lines`; None at first. As for a note.
    """

    block: bytes
    minor: int
    known_fields: KnownFields
    forwarded_lines: bytes
    host: bytes
    keep_alive: bool
    expects_continue: bool
    upgrades: bool
    accepts_events: bool
    length: int | None
    note: object = None
    reading: object = None


@dataclass(slots=True)
class RequestHead:
    """The parsed head of a request.

    Attributes:
        target: in origin-form (an absolute-form target is cut to its path and query), "*", or in authority-form for
            CONNECT.
        host: the authority that the client asked for; b"" if an HTTP/1.0 request has no Host.
        keep_alive: whether the connection may be kept after the response.
        body: the body's reader; None without a body.
        minor, block, known_fields, forwarded_lines, expects_continue, upgrades, accepts_events: see RequestFields.
        fields: the parsed field lines, for the next parse_request() on the connection.
    """

    method: bytes
    target: bytes
    minor: int
    block: bytes
    known_fields: KnownFields
    forwarded_lines: bytes
    host: bytes
    keep_alive: bool
    expects_continue: bool
    upgrades: bool
    accepts_events: bool
    body: Body | None
    fields: RequestFields | None = None

    def forget_fields(self) -> None:
        """Free the memory of the fields, which are not read any more."""
        self.block, self.known_fields, self.forwarded_lines, self.fields = b"", {}, b"", None


@dataclass(slots=True)
class ResponseFields:
    """The parsed field lines of a response, independent of its status and of the request. Never changed but for the
    reading.

    All other attributes follow from `block` and `minor`.

    Attributes:
        block: the field lines and the empty line, as received.
        minor: HTTP minor version, 0 or 1.
        known_fields: the values of the fields that the gateway reads, by lower-case name.
        forwarded_lines: the lines that the gateway forwards.
        length: the value of Content-Length, or None.
        is_chunked: whether Transfer-Encoding is chunked.
        keep_alive: whether the server wants to keep the connection.
        idle_hint: seconds for which the server keeps an idle connection ("Keep-Alive: timeout=5"), or None.
        reading: what a handler has read in `forwarded_lines`; None at first. See RequestFields.
    """

    block: bytes
    minor: int
    known_fields: KnownFields
    forwarded_lines: bytes
    length: int | None
    is_chunked: bool
    keep_alive: bool
    idle_hint: float | None
    reading: object = None


@dataclass(slots=True)
class ResponseHead:
    """The parsed head of a response.

    Attributes:
        body: the body's reader; None without a body.
        keep_alive: whether the connection may be used again.
        minor, block, known_fields, forwarded_lines, length, idle_hint: see ResponseFields.
        fields: the parsed field lines, for the next parse_response() on the connection.
    """

    status: int
    reason: bytes
    minor: int
    block: bytes
    known_fields: KnownFields
    forwarded_lines: bytes
    length: int | None
    body: Body | None
    keep_alive: bool
    idle_hint: float | None
    fields: ResponseFields | None = None

    def forget_fields(self) -> None:
        """Free the memory of the fields, which are not read any more."""
        self.block, self.known_fields, self.forwarded_lines, self.fields = b"", {}, b"", None


class _NoCallbacks:
    """The callbacks of a parser that only checks: none."""

    __slots__ = ()


_NO_CALLBACKS = _NoCallbacks()


def check_fields(block: bytes) -> None:
    """Check field lines (RFC 9112 §5).

    Args:
        block: field lines, each ended by CRLF, and an empty line.

    Raises:
        ValueError: a line is invalid; the text gives the reason.
    """
    try:
        httptools.HttpResponseParser(_NO_CALLBACKS).feed_data(_BEFORE_FIELDS + block)
    except httptools.HttpParserError as error:
        raise ValueError(str(error)) from None


def fields(block: bytes) -> list[Field]:
    """The names and values in a checked block of field lines with its empty line."""
    return pairs(block[:-2])


# ---------------------------------------------------------------- requests


def parse_request(head: bytes, previous: RequestFields | None = None) -> RequestHead:
    """Parse a request head.

    Args:
        head: the request line, the field lines and the empty line.
        previous: the fields of the connection's previous request. Clients mostly repeat their fields byte for byte;
            then the fields are not parsed again (measured: 5 µs of 6). RequestFields has nothing from a request line,
            so a request cannot influence a later request.

    Raises:
        BadRequest: or a subclass for the limit or rule that the head breaks.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise _bad_request_line(head)
    method, target, digit = line.groups()
    minor = 0 if digit == b"0" else 1
    if len(target) > MAX_TARGET:
        raise _target_too_long()
    block = head[line.end() :]
    if previous and previous.block == block and previous.minor == minor:
        parsed = previous
    else:
        parsed = _request_fields(block, minor)
    host, keep_alive = parsed.host, parsed.keep_alive
    if target[0] != _SLASH:
        target, host = _origin_form(method, target, host)
    if method == b"CONNECT":  # refused; the next bytes may belong to a tunnel (RFC 9110 §9.3.6, RFC 9931)
        keep_alive = False
    return RequestHead(
        method,
        target,
        minor,
        block,
        parsed.known_fields,
        parsed.forwarded_lines,
        host,
        keep_alive,
        parsed.expects_continue,
        parsed.upgrades,
        parsed.accepts_events,
        None if parsed.length == 0 else _request_body(parsed),
        parsed,
    )


def _request_fields(block: bytes, minor: int) -> RequestFields:
    try:
        check_fields(block)
    except ValueError as error:
        raise BadRequest(f"the header section is malformed: {error}") from None
    if block.count(b"\n") > MAX_REQUEST_FIELDS + 1:
        raise HeadTooLarge(f"the header section has more than {MAX_REQUEST_FIELDS} fields")
    known_fields, forwarded_lines = REQUEST_FIELDS.interpret(block[:-2])
    if b"cookie" in known_fields:
        forwarded_lines = without_session(forwarded_lines)
    host = _host(known_fields, minor)
    length: int | None = 0
    if b"transfer-encoding" in known_fields or b"content-length" in known_fields:
        length, forwarded_lines = _request_length(known_fields, forwarded_lines, minor)
    expects_continue = b"expect" in known_fields and _expects_continue(known_fields[b"expect"], minor)
    upgrades = minor == 1 and b"upgrade" in known_fields  # RFC 9110 §7.8: ignored in HTTP/1.0
    keep_alive = _keeps_alive(known_fields, minor)
    return RequestFields(
        block,
        minor,
        known_fields,
        forwarded_lines,
        host,
        keep_alive,
        expects_continue,
        upgrades,
        accepts_only(known_fields.get(b"accept", ()), EVENT_STREAM),
        length,
    )


def _keeps_alive(known_fields: KnownFields, minor: int) -> bool:
    """Whether a message asks for a persistent connection, by Connection or by its version (RFC 9112 §9.3)."""
    if b"connection" not in known_fields:
        return minor == 1
    return b"close" not in options(known_fields) if minor else b"keep-alive" in options(known_fields)


def check_partial_request(data: bytes) -> None:
    """Refuse an incomplete head as soon as no continuation can make the head valid.

    Raises:
        BadRequest: or a subclass.
    """
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BadRequest("a line of the head ends without a carriage return")
    line_end = data.find(b"\r\n")
    if line_end < 0 and len(data) > MAX_METHOD and _LONG_METHOD.match(data):
        raise MethodTooLong(f"the request method is longer than {MAX_METHOD} bytes")
    # Another protocol, such as TLS on the port for HTTP, would wait for an answer until the timeout.
    if (line_end if line_end >= 0 else len(data)) > MAX_TARGET + 128 or (data and not _METHOD_BEGINS.match(data)):
        raise _bad_request_line(data)
    if len(data) > MAX_REQUEST_HEAD:
        raise HeadTooLarge(f"the header section is longer than {MAX_REQUEST_HEAD} bytes")


def _target_too_long() -> GatewayError:
    return TargetTooLong(f"the request target is longer than {MAX_TARGET} bytes")


def _bad_request_line(head: bytes) -> GatewayError:
    """The error for a malformed request line, or for the beginning of a request line that is too long."""
    if _LONG_METHOD.match(head):  # RFC 9112 §3: 501 for a method longer than all implemented methods
        return MethodTooLong(f"the request method is longer than {MAX_METHOD} bytes")
    if _LONG_TARGET.match(head):
        return _target_too_long()
    if _OTHER_VERSION.match(head):
        return VersionNotSupported()
    return BadRequest("the request line is malformed")


def _host(known_fields: KnownFields, minor: int) -> bytes:
    """The value of Host (RFC 9112 §3.2); BadRequest unless valid and given once. HTTP/1.0 needs no Host."""
    hosts = known_fields.get(b"host", ())
    if not hosts and minor == 0:
        return b""
    if len(hosts) != 1:
        raise BadRequest(f"the request has {len(hosts)} Host fields; it must have one")
    if not _is_host(hosts[0]):
        raise BadRequest("the Host field is malformed")
    return hosts[0]


def _is_host(value: bytes) -> bool:
    """Whether a value is a host with or without a port (RFC 9110 §7.2, RFC 3986 §3.2.2)."""
    found = _HOST.fullmatch(value)
    if found is None or int(found[2] or 0) > 65535:
        return False
    try:
        return not found[1] or bool(ipaddress.IPv6Address(found[1].decode("ascii")))
    except ValueError:
        return False


def _origin_form(method: bytes, target: bytes, host: bytes) -> tuple[bytes, bytes]:
    """The target in origin-form, and the authority that the client asked for (RFC 9112 §3.2).

    Args:
        target: in another form than origin-form.
    """
    if method == b"CONNECT" or (target == b"*" and method == b"OPTIONS"):
        return target, host
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        raise BadRequest("the request target is neither a path nor an absolute URL")
    if not _is_host(absolute[1]):
        raise BadRequest("the request target names a malformed host")
    if not absolute[2]:  # RFC 9112 §3.2.4: OPTIONS without a path concerns the server as a whole
        return b"*" if method == b"OPTIONS" else b"/", absolute[1]
    path = absolute[2]
    return path if path.startswith(b"/") else b"/" + path, absolute[1]  # RFC 9112 §3.2.2: Host is ignored


def _expects_continue(values: list[bytes], minor: int) -> bool:
    """Whether Expect asks for 100 (RFC 9110 §10.1.1); other expectations raise ExpectationFailed."""
    if minor == 0:
        return False
    expectations = tokens(values)
    if any(each != b"100-continue" for each in expectations):
        raise ExpectationFailed
    return bool(expectations)


def _request_length(known_fields: KnownFields, forwarded_lines: bytes, minor: int) -> tuple[int | None, bytes]:
    """The body's length, None if chunked, and the lines to forward (RFC 9112 §6.3).

    llhttp has already refused a repeated or malformed Content-Length, and Content-Length beside Transfer-Encoding.
    """
    codings = known_fields.get(b"transfer-encoding")
    if codings:
        if minor == 0:
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding")
        if tokens(codings) != [b"chunked"]:
            raise BadRequest("the only Transfer-Encoding understood is chunked")
        return None, forwarded_lines
    length = content_length(known_fields[b"content-length"][0])
    if length is None:
        raise BadRequest("the Content-Length is 2^63 or more")
    return length, plain_length(forwarded_lines, known_fields[b"content-length"][0], length)


def _request_body(parsed: RequestFields) -> Body:
    if parsed.length is None:
        return ChunkedBody(BadRequest, nominated(options(parsed.known_fields)))
    return LengthBody(parsed.length)


# ---------------------------------------------------------------- responses


def parse_response(head: bytes, method: bytes, previous: ResponseFields | None = None) -> ResponseHead:
    """Parse a response head.

    Args:
        head: the status line, the field lines and the empty line.
        method: of the request; a response to HEAD has no body.
        previous: the fields of the connection's previous response. Under load an endpoint's fields repeat byte for
            byte until Date changes; then the fields are not parsed again (measured: 5 µs of 6). ResponseFields has
            nothing from a status line or a request.

    Raises:
        UpstreamInvalid: the head breaks a rule or a limit.
    """
    line = _STATUS_LINE.match(head)
    if line is None:
        raise UpstreamInvalid("the service's status line is malformed")
    digit, code, reason = line.groups()
    minor, status = 0 if digit == b"0" else 1, _STATUSES[code]
    block = head[line.end() :]
    if previous and previous.block == block and previous.minor == minor:
        parsed = previous
    else:
        parsed = _response_fields(block, minor)
    body = _response_body(parsed, status, method)
    return ResponseHead(
        status,
        reason or b"",
        minor,
        block,
        parsed.known_fields,
        parsed.forwarded_lines,
        parsed.length,
        body,
        parsed.keep_alive and not (body and body.ends_by_close),
        parsed.idle_hint,
        parsed,
    )


def check_partial_response(data: bytes) -> None:
    """Refuse an incomplete head as soon as no continuation can make the head valid.

    Raises:
        UpstreamInvalid: the head breaks a rule or a limit.
    """
    if len(data) >= MAX_RESPONSE_HEAD:
        raise UpstreamInvalid(f"the service's header section is longer than {MAX_RESPONSE_HEAD} bytes")
    if data and not b"HTTP/1.".startswith(data[:7]):
        raise UpstreamInvalid("the service does not speak HTTP/1.1")
    if data.count(b"\n") != data.count(b"\r\n"):
        raise UpstreamInvalid("a line of the service's header section ends without a carriage return")


def _response_fields(block: bytes, minor: int) -> ResponseFields:
    try:
        check_fields(block)
    except ValueError:
        raise UpstreamInvalid("the service's header section is malformed") from None
    if block.count(b"\n") > MAX_RESPONSE_FIELDS + 1:
        raise UpstreamInvalid(f"the service's header section has more than {MAX_RESPONSE_FIELDS} fields")
    known_fields, forwarded_lines = RESPONSE_FIELDS.interpret(block[:-2])
    length = None
    if b"content-length" in known_fields:
        value = known_fields[b"content-length"][0]
        length = content_length(value)
        if length is None:
            raise UpstreamInvalid("the service's Content-Length is 2^63 or more")
        forwarded_lines = plain_length(forwarded_lines, value, length)
    codings = known_fields.get(b"transfer-encoding")
    if codings and tokens(codings) != [b"chunked"]:
        raise UpstreamInvalid("the service used a Transfer-Encoding other than chunked")
    idle_hint = _idle_hint(known_fields[b"keep-alive"]) if b"keep-alive" in known_fields else None
    # RFC 9112 §6.1: HTTP/1.0 has no Transfer-Encoding, so the connection is closed after such a response.
    keep_alive = _keeps_alive(known_fields, minor) and not (codings and minor == 0)
    return ResponseFields(block, minor, known_fields, forwarded_lines, length, bool(codings), keep_alive, idle_hint)


def _response_body(parsed: ResponseFields, status: int, method: bytes) -> Body | None:
    """The reader of a response's body (RFC 9112 §6.3, rules 1 to 8); None without a body."""
    if method == b"HEAD" or status < 200 or status in (204, 304):
        return None
    if parsed.is_chunked:
        return ChunkedBody(UpstreamInvalid, nominated(options(parsed.known_fields)))
    if parsed.length is None:
        return UntilCloseBody()
    return LengthBody(parsed.length) if parsed.length else None


def _idle_hint(values: list[bytes]) -> float | None:
    hint = _TIMEOUT.search(b",".join(values))
    return float(hint[1]) if hint else None


# ---------------------------------------------------------------- bodies


class LengthBody:
    """Reads a body whose size is known from Content-Length.

    Attributes:
        left: bytes of the body still to come.
    """

    __slots__ = ("left",)
    ends_by_close = False

    def __init__(self, length: int) -> None:
        self.left = length

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        left = self.left - len(data)
        if left > 0:
            self.left = left
            return data, None
        if left == 0:
            return data, b""
        return data[:left], data[left:]


class UntilCloseBody:
    """Reads the body of a response that ends with its connection."""

    __slots__ = ()
    ends_by_close = True

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        return data, None


class _ChunkLines:
    """Patterns of a size line: of the first chunk, and of a later chunk, which follows the CRLF of the chunk before."""

    __slots__ = ("first", "next")

    def __init__(self, line: bytes) -> None:
        self.first, self.next = re.compile(line), re.compile(b"\r\n" + line)


_OF_REQUESTS = _ChunkLines(_CHUNK_LINE)
_OF_RESPONSES = _ChunkLines(_PADDED_CHUNK_LINE)  # old servers (Apache 1.3, embedded servers) pad sizes with blanks


class ChunkedBody:
    """Reads a chunked body (RFC 9112 §7.1).

    All chunks in one piece of data become one payload: a megabyte in one-byte chunks costs a join, not a million
    writes. Extensions are dropped.

    A malformed trailer section of a request is an error. A malformed trailer section of a response is dropped, because
    the body is complete (RFC 9110 §6.5.1 lets a recipient ignore trailers).

    Args:
        error: exception for malformed framing; a subclass of UpstreamError for a response.
        nominated: lower-case names from the message's Connection field; such trailers are dropped (RFC 9110 §7.6.1).

    Attributes:
        trailers: the trailers, once the body is complete.
    """

    __slots__ = (
        "_at_beginning", "_error", "_in_trailers", "_left", "_lines", "_nominated", "_pending", "_usual",
        "_usual_line", "_usual_payload", "trailers",
    )  # fmt: skip
    ends_by_close = False

    def __init__(self, error: type[GatewayError], nominated: Collection[bytes] = ()) -> None:
        self._error, self._nominated = error, nominated
        self._lines = _OF_RESPONSES if issubclass(error, UpstreamError) else _OF_REQUESTS
        # Whole size, payload's size and size line of the last chunk that came alone; sizes repeat.
        self._usual, self._usual_payload, self._usual_line = 0, 0, b""
        self._left = 0  # bytes of the current chunk still to come
        self._at_beginning = True  # at the beginning of a chunk, behind the CRLF of the chunk before
        self._pending = b""  # the beginning of a size line, or of the trailer section
        self._in_trailers = False
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        if self._pending:
            data = self._pending + data
            self._pending = b""
        if self._at_beginning:  # fast path: most data of streams is one whole chunk
            if len(data) == self._usual:
                payload = data.removeprefix(self._usual_line).removesuffix(b"\r\n")
                if len(payload) == self._usual_payload:  # both were there
                    return payload, None
            line = self._lines.first.match(data, 0, MAX_CHUNK_LINE)
            if line and line.end() + int(line[1], 16) + 2 == len(data) > line.end() + 2 and data.endswith(b"\r\n"):
                payload = data[line.end() : -2]
                self._usual, self._usual_payload, self._usual_line = len(data), len(payload), line[0]
                return payload, None
        at, parts = 0, []
        while not self._in_trailers:
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                if self._left:
                    return b"".join(parts), None
            line = (self._lines.first if self._at_beginning else self._lines.next).match(data, at)
            if line is None or line.end() - at > MAX_CHUNK_LINE:
                self._pending = self._unfinished_line(data[at:])
                return b"".join(parts), None
            at = line.end()
            self._at_beginning = False
            self._left = int(line[1], 16)
            self._in_trailers = self._left == 0
        return b"".join(parts), self._end(data[at:])

    def _unfinished_line(self, rest: bytes) -> bytes:
        start = 0 if self._at_beginning else 2
        if start and rest == b"\r\n":
            self._at_beginning = True
            return b""
        if len(rest) > MAX_CHUNK_LINE:
            raise self._error(f"a chunk's size line is longer than {MAX_CHUNK_LINE} bytes")
        if not b"\r\n".startswith(rest[:start]) or b"\n" in rest[start:]:
            raise self._error("the chunked body is malformed")
        return rest

    def _end(self, rest: bytes) -> bytes | None:
        """Read the trailer section; return the bytes behind it, or None while the section is incomplete."""
        if rest.startswith(b"\r\n"):
            return rest[2:]
        end = rest.find(END_OF_HEAD)
        if (end if end >= 0 else len(rest)) > MAX_TRAILERS:
            raise self._error(f"the trailer section is longer than {MAX_TRAILERS} bytes")
        if _STRAY.search(rest, 0, end + 4 if end >= 0 else len(rest)):
            raise self._error("a line of the trailer section does not end with CRLF")
        if end < 0:
            self._pending = rest
            return None
        self._read_trailers(rest[: end + 2])
        return rest[end + 4 :]

    def _read_trailers(self, lines: bytes) -> None:
        """Parse trailers (RFC 9112 §7.1.2), without llhttp, which would apply a Content-Length among the trailers."""
        if all(_TRAILER_LINE.fullmatch(line) for line in lines.split(b"\r\n")[:-1]):
            self.trailers = [field for field in pairs(lines) if field[0].lower() not in self._nominated]
        elif self._lines is _OF_REQUESTS:
            raise self._error("the trailer section is malformed")
