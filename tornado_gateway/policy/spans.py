"""The spans of a request: which there are, how each is named, and what each says.

    server span of the request ──► a client span for each exchange with an endpoint
        └──► of a stream: a span from the beginning to the end of the stream, linked to the exchange

The server span of a stream ends when the stream begins, so that the trace of a stream of hours is seen at once. The
span of the stream itself comes at the stream's end.

Names and attributes are OpenTelemetry's semantic conventions for HTTP spans (stable since version 1.23); attributes
that begin with `gateway.` are this gateway's own. The names of spans are few whatever clients send.
"""

import functools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from tornado_gateway.policy.http.address import Address
from tornado_gateway.policy.http.redaction import without_tokens
from tornado_gateway.policy.http.target import DEFAULT_PORTS, parse_base_url
from tornado_gateway.policy.http.trace import Context

# Other methods are `_OTHER`, and `HTTP` in the names of spans: the methods of RFC 9110, and PATCH (RFC 5789).
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
OTHER_METHOD, UNNAMED_METHOD = "_OTHER", "HTTP"

# Characters of a path in a span: paths of clients may have 64 KiB, and a batch of hundreds of spans should not have
# megabytes.
LONGEST = 1024

_BILLION = 1_000_000_000
_PORT = re.compile(r"[0-9]{1,5}")

Value = str | int | float


class SpanKind(Enum):
    """Kinds of spans (OpenTelemetry, Trace API)."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


class Span(NamedTuple):
    """A finished span.

    Attributes:
        trace_id, span_id, parent_id: hexadecimal digits; `parent_id` is b"" for the root of a trace.
        is_remote: whether the parent is a client's span.
        start, end: nanoseconds since 1970.
        linked: span id in the same trace that the span refers to; b"" for none.
        is_error: whether the work has failed.
    """

    name: str
    kind: SpanKind
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    is_remote: bool
    start: int
    end: int
    attributes: Mapping[str, Value]
    linked: bytes = b""
    is_error: bool = False


@dataclass(slots=True)
class Call:
    """An exchange with an endpoint.

    Attributes:
        url: base URL of the endpoint.
        began, ended: instants (gateway clock); `ended` is None for a call under way.
        status: of the response; 0 before the head.
        reason: GatewayError.reason of a failure before the head; "" for none.
        has_failed: whether the endpoint has failed, with whatever reason the request has ended.
        outcome: "superseded" if another exchange was quicker; else "".
    """

    span_id: bytes
    url: str
    began: float
    ended: float | None = None
    status: int = 0
    reason: str = ""
    has_failed: bool = False
    outcome: str = ""

    def error(self, reason: str) -> str:
        """What error.type says; "" for no error.

        Args:
            reason: with which the request has ended.
        """
        if self.reason or self.status >= 400:
            return self.reason or str(self.status)
        return reason if self.has_failed else ""


class Trace:
    """The part of a recorded trace that belongs to a request.

    Attributes:
        calls: exchanges with endpoints, in their order.
        line: the field line traceparent of the newest exchange; of the request itself before the first.
    """

    __slots__ = ("calls", "context", "line")

    def __init__(self, context: Context) -> None:
        self.context, self.line = context, context.line(context.span_id)
        self.calls: list[Call] = []

    def begin(self, span_id: bytes, url: str, now: float) -> Call:
        """Note the beginning of an exchange; see Call."""
        call = Call(span_id, url, now)
        self.calls.append(call)
        self.line = self.context.line(span_id)
        return call


@dataclass(frozen=True, slots=True)
class Told:
    """What the spans of a request tell; see Journal.

    Attributes:
        context: the place of the request in the trace.
        calls: exchanges with endpoints, in their order.
        route: path of the route.
        opened: instant (gateway clock) at which a stream began; None for no stream.
        ended: instant (gateway clock).
        wall: seconds since 1970 at the instant 0 of the gateway clock.
        status: that the client got.
        reason: GatewayError.reason; "" for no failure.
        has_failed: whether the gateway or the service has failed. A status of 400 to 499 is the client's error
            (semantic conventions, HTTP server span); an EventSource gets a status of 200 for a failure.
        stream_id: span id of the stream; b"" for no stream.
        of_stream: what a stream has carried, once the stream has ended; None before, and for no stream.
    """

    context: Context
    calls: Sequence[Call]
    method: bytes
    target: bytes
    host: bytes
    scheme: str
    minor: int
    route: str
    service: str
    request_id: bytes
    client: Address
    began: float
    ended: float
    wall: float
    status: int
    reason: str
    has_failed: bool = False
    opened: float | None = None
    stream_id: bytes = b""
    of_stream: Mapping[str, Value] | None = None

    def at(self, instant: float) -> int:
        """Nanoseconds since 1970 at an instant (gateway clock)."""
        return int(self.wall * _BILLION) + int(instant * _BILLION)  # a sum of floats would be good to 200 ns

    @property
    def is_cut(self) -> bool:
        """Whether the endpoint that has answered has failed after the head."""
        return bool(self.calls) and self.calls[-1].has_failed

    @property
    def count(self) -> int:
        """The number of spans."""
        return 1 if self.of_stream is not None else 1 + len(self.calls)


def spans_of(told: Told, hidden: Collection[str] = ()) -> Iterator[Span]:
    """
    Args:
        hidden: names of fields of the access log that LOG_REDACT hides, in lower case.
    """
    if told.of_stream is not None:
        yield _of_stream(told)
        return
    yield _of_server(told, hidden)
    for number, call in enumerate(told.calls):
        yield _of_call(told, call, number, hidden)


def _of_server(told: Told, hidden: Collection[str]) -> Span:
    context = told.context
    attributes: dict[str, Value] = {
        **_method(told.method),
        "url.scheme": told.scheme,
        "http.route": told.route,
        "network.protocol.version": f"1.{told.minor}",
        "http.response.status_code": told.status,
    }
    if told.service:
        attributes["gateway.service"] = told.service
    if "path" not in hidden:
        attributes["url.path"] = _path(told.target)
    if "client" not in hidden and told.client.text:
        attributes["client.address"] = told.client.text
    if "requestid" not in hidden:
        attributes["gateway.request_id"] = told.request_id.decode("latin-1")
    attributes |= _authority(told.host, told.scheme)
    if told.reason:
        attributes["error.type"] = told.reason
    elif told.has_failed:
        attributes["error.type"] = str(told.status)
    return Span(
        f"{_name(told.method)} {told.route}", SpanKind.SERVER, context.trace_id, context.span_id, context.parent_id,
        True, told.at(told.began), told.at(told.ended), attributes, is_error=told.has_failed or told.is_cut,
    )  # fmt: skip


def _of_call(told: Told, call: Call, number: int, hidden: Collection[str]) -> Span:
    attributes: dict[str, Value] = {**_method(told.method), "network.protocol.version": "1.1"}
    if "endpoint" not in hidden:
        attributes |= _place(call.url)
    if call.status:
        attributes["http.response.status_code"] = call.status
    if number:
        attributes["http.request.resend_count"] = number
    if call.outcome:
        attributes["gateway.outcome"] = call.outcome
    error = call.error(told.reason)
    if error:
        attributes["error.type"] = error
    ended = told.ended if call.ended is None else call.ended
    context = told.context
    return Span(
        _name(told.method), SpanKind.CLIENT, context.trace_id, call.span_id, context.span_id, False,
        told.at(call.began), told.at(ended), attributes, is_error=bool(error),
    )  # fmt: skip


def _of_stream(told: Told) -> Span:
    attributes: dict[str, Value] = {"http.route": told.route, "gateway.service": told.service}
    attributes |= told.of_stream or {}
    if told.reason:
        attributes["error.type"] = told.reason
    linked = told.calls[-1].span_id if told.calls else b""
    began = told.began if told.opened is None else told.opened
    context = told.context
    return Span(
        f"stream {told.route}", SpanKind.INTERNAL, context.trace_id, told.stream_id, context.span_id, False,
        told.at(began), told.at(told.ended), attributes, linked, told.is_cut,
    )  # fmt: skip


def _name(method: bytes) -> str:
    return method.decode("ascii") if method in METHODS else UNNAMED_METHOD


def _method(method: bytes) -> dict[str, Value]:
    if method in METHODS:
        return {"http.request.method": method.decode("ascii")}
    return {
        "http.request.method": OTHER_METHOD,
        "http.request.method_original": method[:LONGEST].decode("latin-1"),
    }


def _path(target: bytes) -> str:
    """The target without the query, which may hold secrets."""
    return without_tokens(target.partition(b"?")[0][:LONGEST].decode("latin-1"))


def _authority(host: bytes, scheme: str) -> dict[str, Value]:
    """Where the client believes the request goes, from the Host field."""
    text = host[:LONGEST].decode("latin-1")
    name, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port):
        name, port = text, ""
    if not name:
        return {}
    return {"server.address": name.strip("[]"), "server.port": int(port or DEFAULT_PORTS[scheme])}


@functools.lru_cache(maxsize=1024)
def _place(url: str) -> dict[str, Value]:
    """Where the endpoint of a base URL is."""
    origin, path = parse_base_url(url)
    if origin.socket is not None:
        return {"server.address": origin.socket, "network.transport": "unix"}
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    full = f"{origin.scheme}://{host}:{origin.port}{path.decode('latin-1')}"
    return {"server.address": origin.host, "server.port": origin.port, "url.full": full}
