"""HTTP/1.1 and HTTP/1.0 messages as bytes: what a head says, and where a body ends. No I/O.

A head is taken whole, up to its empty line. Its start line is checked here; its
field lines go through llhttp, which is strict about every byte of them. Framing
follows RFC 9112 §6 in the order of that text, and anything ambiguous is an error.

Bodies are read by three small readers with one method,

    feed(data) → (payload, rest)      rest is None until the body is complete,
                                      then what follows it in data

llhttp is not used for bodies because it parses on into whatever follows a message
without saying where the message ended, and because it takes "Upgrade" for the end of
a message: with either, the bytes of one request could become the next.

Sources: RFC 9112 §2 to §7; RFC 9110 §5, §7.2, §10.1.1.
"""

import re
from dataclasses import dataclass
from typing import Protocol

import httptools

from tornado_gateway.errors import (
    BadRequest,
    ExpectationFailed,
    GatewayError,
    HeadTooLarge,
    TargetTooLong,
    UpstreamInvalid,
    VersionNotSupported,
)
from tornado_gateway.policy.headers import REQUEST_FIELDS, RESPONSE_FIELDS, Field, options, pairs

END_OF_HEAD = b"\r\n\r\n"

# Apache and Node allow 8 to 16 KiB, Tornado 64 KiB. Single sign-on cookies need the room.
MAX_REQUEST_HEAD = 64 * 1024
MAX_REQUEST_FIELDS = 200  # Apache: 100; with 200 a CDN's and a mesh's own fields still fit
MAX_TARGET = 16 * 1024  # RFC 9112 §3 asks for at least 8000 octets
MAX_RESPONSE_HEAD = 128 * 1024
MAX_RESPONSE_FIELDS = 1000
MAX_REMEMBERED_HEAD = 4096  # bytes of a head that an idle connection may hold on to, to compare the next one with
MAX_CHUNK_LINE = 4096  # a chunk's size with its extensions (RFC 9112 §7.1.1 asks for a limit)
MAX_TRAILERS = 8 * 1024

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb'{1,64}) ([!"$-~\x80-\xff]+) HTTP/1\.([0-9])\r\n')
_OTHER_VERSION = re.compile(_TOKEN + rb"+ [!-~\x80-\xff]+ HTTP/(?!1\.)[0-9]\.[0-9]\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?\r\n")
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?]+)([/?].*)?", re.IGNORECASE)
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+;=%]+)(?::[0-9]{0,5})?")
_CHUNK_LINE = rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?\r\n"
_FIRST_CHUNK = re.compile(_CHUNK_LINE)
_NEXT_CHUNK = re.compile(rb"\r\n" + _CHUNK_LINE)

# A response without a body leaves llhttp with nothing but field lines to read.
_BEFORE_FIELDS = b"HTTP/1.1 204 N\r\n"

Named = dict[bytes, list[bytes]]


class Body(Protocol):
    """Finds a body's end in the bytes that follow a head."""

    ends_by_close: bool

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Take bytes; give the payload among them, and what follows the body once it is complete."""


@dataclass(slots=True)
class RequestHead:
    """A request as it stood on the wire.

    Attributes:
        target: in origin-form (an absolute-form target has lost its authority), "*", or CONNECT's.
        minor: of the version, 0 or 1; a higher one counts as 1 (RFC 9110 §2.5).
        block: all field lines as they stood; `named` the values of those the gateway reads, `passing` the
            lines it passes on.
        host: the authority the client asked for; b"" when an HTTP/1.0 client named none.
        body: None if the request has none.
    """

    method: bytes
    target: bytes
    minor: int
    block: bytes
    named: Named
    passing: bytes
    host: bytes
    keep_alive: bool
    expects_continue: bool
    body: Body | None

    def forget_fields(self) -> None:
        """Let go of the fields, when the exchange lasts and nobody will look at them again."""
        self.block, self.named, self.passing = b"", {}, b""


@dataclass(slots=True)
class ResponseHead:
    """A response as it stood on the wire.

    Attributes:
        block: all field lines as they stood; `named` the values of those the gateway reads, `passing` the
            lines it passes on.
        length: what Content-Length says, or None.
        body: None if the response has none.
        keep_alive: whether the connection may be used again.
        idle_hint: seconds the server says it keeps the connection ("Keep-Alive: timeout=5"), or None.
    """

    status: int
    reason: bytes
    minor: int
    block: bytes
    named: Named
    passing: bytes
    length: int | None
    body: Body | None
    keep_alive: bool
    idle_hint: float | None

    def forget_fields(self) -> None:
        """Let go of the fields, when the exchange lasts and nobody will look at them again."""
        self.block, self.named, self.passing = b"", {}, b""


class _FieldLines:
    """llhttp is asked only whether field lines are valid: it wants somebody to tell, who need not listen."""

    __slots__ = ()


_NOBODY = _FieldLines()


def check_fields(block: bytes) -> None:
    """Check field lines, each ended by CRLF, with an empty line behind the last.

    Raises:
        ValueError: a line is not a field line as RFC 9112 §5 says; the text says why.
    """
    try:
        httptools.HttpResponseParser(_NOBODY).feed_data(_BEFORE_FIELDS + block)
    except httptools.HttpParserError as error:
        raise ValueError(str(error)) from None


def fields(block: bytes) -> list[Field]:
    """The pairs of a block that was checked."""
    return pairs(block[:-2])


# ---------------------------------------------------------------- requests


def parse_request(head: bytes, like: RequestHead | None = None) -> RequestHead:
    """Read a whole request head, its empty line included.

    Args:
        like: the head before this one on its connection. Clients that keep a connection mostly repeat
            their fields to the byte; then they need not be read again (measured: 5 µs of 6).

    Raises:
        BadRequest: or a subclass that says which limit or rule the head breaks.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise _bad_request_line(head)
    method, target, minor = line[1], line[2], min(int(line[3]), 1)
    if len(target) > MAX_TARGET:
        raise TargetTooLong(f"the request target is longer than {MAX_TARGET} bytes")
    block = head[line.end() :]
    if like and like.block == block and like.minor == minor and like.body is None and target.startswith(b"/"):
        return RequestHead(
            method,
            target,
            minor,
            block,
            like.named,
            like.passing,
            like.host,
            like.keep_alive,
            like.expects_continue,
            None,
        )
    try:
        check_fields(block)
    except ValueError as error:
        raise BadRequest(f"the header section is malformed: {error}") from None
    if block.count(b"\n") > MAX_REQUEST_FIELDS + 1:
        raise HeadTooLarge(f"the header section has more than {MAX_REQUEST_FIELDS} fields")
    named, passing = REQUEST_FIELDS.interpret(head[line.end() - 1 : -2])
    target, host = _origin_form(method, target, _host(named, minor))
    keep_alive, body = minor == 1, None
    if b"connection" in named:
        keep_alive = b"close" not in options(named) if minor else b"keep-alive" in options(named)
    if b"content-length" in named or b"transfer-encoding" in named:
        body = _request_body(named, minor)
    expects_continue = b"expect" in named and _expects_continue(named[b"expect"], minor)
    return RequestHead(method, target, minor, block, named, passing, host, keep_alive, expects_continue, body)


def check_partial_request(data: bytes) -> None:
    """Refuse the beginning of a head as soon as it is clear that no valid end can follow.

    Raises:
        BadRequest: or a subclass.
    """
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BadRequest("a line of the head ends without a carriage return")
    line_end = data.find(b"\r\n")
    if (line_end if line_end >= 0 else len(data)) > MAX_TARGET + 128:
        raise TargetTooLong(f"the request target is longer than {MAX_TARGET} bytes")
    if len(data) > MAX_REQUEST_HEAD:
        raise HeadTooLarge(f"the header section is longer than {MAX_REQUEST_HEAD} bytes")


def _bad_request_line(head: bytes) -> GatewayError:
    if _OTHER_VERSION.match(head):
        return VersionNotSupported()
    return BadRequest("the request line is malformed")


def _host(named: Named, minor: int) -> bytes:
    """RFC 9112 §3.2: exactly one valid Host, or 400; HTTP/1.0 clients may leave it out."""
    hosts = named.get(b"host", ())
    if not hosts and minor == 0:
        return b""
    if len(hosts) != 1:
        raise BadRequest(f"the request has {len(hosts)} Host fields; it must have one")
    if not _HOST.fullmatch(hosts[0]):
        raise BadRequest("the Host field is malformed")
    return hosts[0]


def _origin_form(method: bytes, target: bytes, host: bytes) -> tuple[bytes, bytes]:
    """RFC 9112 §3.2: the path and query to route by, and the authority that was asked for."""
    if target[0] == 0x2F or method == b"CONNECT" or (target == b"*" and method == b"OPTIONS"):
        return target, host
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        raise BadRequest("the request target is neither a path nor an absolute URL")
    if not _HOST.fullmatch(absolute[1]):
        raise BadRequest("the request target names a malformed host")
    path = absolute[2] or b"/"
    return path if path.startswith(b"/") else b"/" + path, absolute[1]  # RFC 9112 §3.2.2: not the Host field's


def _expects_continue(expectations: list[bytes], minor: int) -> bool:
    """RFC 9110 §10.1.1: 417 for what is not understood; ignored in HTTP/1.0."""
    if minor == 0:
        return False
    if any(value.lower() != b"100-continue" for value in expectations):
        raise ExpectationFailed
    return True


def _request_body(named: Named, minor: int) -> Body | None:
    """RFC 9112 §6.3; llhttp has refused repeated and malformed Content-Length, and both fields together."""
    codings = named.get(b"transfer-encoding")
    if codings:
        if minor == 0:
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise BadRequest("the only Transfer-Encoding understood is chunked")
        return ChunkedBody(BadRequest)
    length = int(named[b"content-length"][0]) if b"content-length" in named else 0
    return LengthBody(length) if length else None


# ---------------------------------------------------------------- responses


def parse_response(head: bytes, method: bytes, like: ResponseHead | None = None) -> ResponseHead:
    """Read a whole response head, its empty line included.

    Args:
        method: of the request that is answered; HEAD's answers have no body.
        like: the head before this one on its connection. Under load an endpoint's heads repeat to the
            byte until Date's next second; then they need not be read again (measured: 5 µs of 6).

    Raises:
        UpstreamInvalid: the head is not one that can be believed.
    """
    line = _STATUS_LINE.match(head)
    if line is None:
        raise UpstreamInvalid("the service's status line is malformed")
    minor, status = min(int(line[1]), 1), int(line[2])
    block = head[line.end() :]
    if like and like.block == block and like.minor == minor and not (like.body and like.body.ends_by_close):
        body = _response_body(like.named.get(b"transfer-encoding"), like.length, status, method)
        keep_alive = like.keep_alive and not (body and body.ends_by_close)
        return ResponseHead(
            status,
            line[3] or b"",
            minor,
            block,
            like.named,
            like.passing,
            like.length,
            body,
            keep_alive,
            like.idle_hint,
        )
    try:
        check_fields(block)
    except ValueError:
        raise UpstreamInvalid("the service's header section is malformed") from None
    if block.count(b"\n") > MAX_RESPONSE_FIELDS + 1:
        raise UpstreamInvalid(f"the service's header section has more than {MAX_RESPONSE_FIELDS} fields")
    named, passing = RESPONSE_FIELDS.interpret(head[line.end() - 1 : -2])
    length = int(named[b"content-length"][0]) if b"content-length" in named else None
    body = _response_body(named.get(b"transfer-encoding"), length, status, method)
    keep_alive = minor == 1
    if b"connection" in named:
        keep_alive = b"close" not in options(named) if minor else b"keep-alive" in options(named)
    if body and body.ends_by_close:
        keep_alive = False
    idle_hint = _idle_hint(named[b"keep-alive"]) if b"keep-alive" in named else None
    return ResponseHead(status, line[3] or b"", minor, block, named, passing, length, body, keep_alive, idle_hint)


def _response_body(codings: list[bytes] | None, length: int | None, status: int, method: bytes) -> Body | None:
    """RFC 9112 §6.3, rules 1 to 8."""
    if codings and (len(codings) != 1 or codings[0].lower() != b"chunked"):
        raise UpstreamInvalid("the service used a Transfer-Encoding other than chunked")
    if method == b"HEAD" or status < 200 or status in (204, 304):
        return None
    if codings:
        return ChunkedBody(UpstreamInvalid)
    if length is None:
        return UntilCloseBody()
    return LengthBody(length) if length else None


def _idle_hint(values: list[bytes]) -> float | None:
    hint = re.search(rb"timeout=([0-9]{1,6})", values[0])
    return float(hint[1]) if hint else None


# ---------------------------------------------------------------- bodies


class LengthBody:
    """A body of as many bytes as Content-Length said."""

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
    """A response's body that ends with its connection."""

    __slots__ = ()
    ends_by_close = True

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        return data, None


class ChunkedBody:
    """A chunked body (RFC 9112 §7.1).

    Chunks that come in one piece of data leave as one payload: a megabyte in
    one-byte chunks costs one join, not a million writes. Extensions are dropped;
    trailers are kept apart, in `trailers`, and never merged into the header section.

    Args:
        error: the exception to raise for bytes that are not chunked framing.
    """

    __slots__ = ("_error", "_in_trailers", "_left", "_line", "_pending", "_usual", "_usual_line", "trailers")
    ends_by_close = False

    def __init__(self, error: type[GatewayError]) -> None:
        self._error = error
        self._usual, self._usual_line = 0, b""  # the last chunk that came by itself: many streams' are as long as that
        self._left = 0  # bytes of the current chunk still to come
        self._line = _FIRST_CHUNK
        self._pending = b""  # the beginning of a size line, or of the trailer section
        self._in_trailers = False
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        at, parts = 0, []
        if self._pending:
            data = self._pending + data
            self._pending = b""
        if self._line is _FIRST_CHUNK:  # at a chunk's beginning; most streams write, and are read, a chunk at a time
            if len(data) == self._usual and data.startswith(self._usual_line) and data.endswith(b"\r\n"):
                return data[len(self._usual_line) : -2], None
            line = _FIRST_CHUNK.match(data)
            if line and line.end() + int(line[1], 16) + 2 == len(data) > line.end() + 2 and data.endswith(b"\r\n"):
                self._usual, self._usual_line = len(data), line[0]
                return data[line.end() : -2], None
        while not self._in_trailers:
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                if self._left:
                    return b"".join(parts), None
            line = self._line.match(data, at)
            if line is None or line.end() - at > MAX_CHUNK_LINE:
                self._pending = self._unfinished_line(data[at:])
                return b"".join(parts), None
            at = line.end()
            self._line = _NEXT_CHUNK
            self._left = int(line[1], 16)
            self._in_trailers = self._left == 0
        return b"".join(parts), self._end(data[at:])

    def _unfinished_line(self, rest: bytes) -> bytes:
        start = 0 if self._line is _FIRST_CHUNK else 2
        if start and rest == b"\r\n":
            self._line = _FIRST_CHUNK
            return b""
        if not b"\r\n".startswith(rest[:start]) or b"\n" in rest[start:] or len(rest) > MAX_CHUNK_LINE:
            raise self._error("the chunked body is malformed")
        return rest

    def _end(self, rest: bytes) -> bytes | None:
        """Read the trailer section; what follows it, or None while it is incomplete."""
        if rest.startswith(b"\r\n"):
            return rest[2:]
        end = rest.find(END_OF_HEAD)
        if (end if end >= 0 else len(rest)) > MAX_TRAILERS:
            raise self._error(f"the trailer section is longer than {MAX_TRAILERS} bytes")
        if end < 0:
            if rest.count(b"\n") != rest.count(b"\r\n"):
                raise self._error("a line of the trailer section ends without a carriage return")
            self._pending = rest
            return None
        try:
            check_fields(rest[: end + 4])
        except ValueError as error:
            raise self._error(f"the trailer section is malformed: {error}") from None
        self.trailers = fields(rest[: end + 4])
        return rest[end + 4 :]
