"""What a recorded request notes for its spans: a Journal and Attempts that replace the plain Journal and Attempts.

With TRACE_SAMPLE, `journal_of()` gives each request for a service a place in a trace. A request that is not recorded
gets the plain Journal and the plain Attempts, and costs no more than the traceparent field. Without TRACE_SAMPLE no
request meets this module.
"""

from dataclasses import replace

from tornado_gateway.adapters.tracing import Tracer
from tornado_gateway.errors import GatewayError
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.answerer import AnswerReceiver, OutboundRequest
from tornado_gateway.handlers.attempts import Attempts
from tornado_gateway.handlers.journal import Journal
from tornado_gateway.policy.http.headers import without
from tornado_gateway.policy.http.trace import SPAN_DIGITS, Context, is_drawn
from tornado_gateway.policy.spans import Call, Told, Trace, Value
from tornado_gateway.policy.upstream.endpoint import FAILURE, Endpoint, Kind, Outcome
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource, HeadReceiver
from tornado_gateway.wire.http1 import ResponseHead
from tornado_gateway.wire.server.exchange import ServerExchange

SUPERSEDED = "superseded"  # outcome of a call whose hedge, or whose first call, was quicker


def journal_of(tracer: Tracer, gateway: Gateway, exchange: ServerExchange, label: str) -> Journal:
    """The Journal of a request, which continues the client's trace, or begins a trace.

    The field lines to forward are changed accordingly. An endpoint gets the traceparent of a client unchanged if the
    trace is not recorded.
    """
    head = exchange.head
    known = head.known_fields
    if b"traceparent" in known:
        return _continued(gateway, exchange, label, tracer)
    if b"tracestate" in known:  # without a traceparent, of no trace (§3.3.1.1)
        head.forwarded_lines = without(head.forwarded_lines, (b"tracestate",))
    trace = tracer.new_id()
    if is_drawn(trace, tracer.limit):
        return TracedJournal(gateway, exchange, label, tracer, Context(trace, b"", tracer.new_span_id(), True))
    # Nothing is recorded under the span id, which needs to be random alone, and as all of the trace id is. A join takes
    # two thirds of the instructions of a bytes format.
    head.forwarded_lines = b"".join((
        b"traceparent: 00-", trace, b"-", trace[:SPAN_DIGITS], b"-00\r\n", head.forwarded_lines,
    ))  # fmt: skip
    journal = Journal(gateway, exchange, label)
    journal.parents = trace
    return journal


def _continued(gateway: Gateway, exchange: ServerExchange, label: str, tracer: Tracer) -> Journal:
    """The Journal of a request with a traceparent field, which may be malformed or repeated."""
    head = exchange.head
    context = tracer.begin(head.known_fields[b"traceparent"])
    if context.is_sampled:
        return TracedJournal(gateway, exchange, label, tracer, context)
    journal = Journal(gateway, exchange, label)
    if not context.parent_id:
        take_place(journal, context)
    return journal


def take_place(journal: Journal, context: Context) -> None:
    """Let the endpoint, the log and the examples see a place in a trace."""
    head = journal.exchange.head
    # Without a valid traceparent, tracestate belongs to no trace (W3C Trace Context §3.3.1.1).
    replaced = (b"traceparent",) if context.parent_id else (b"traceparent", b"tracestate")
    head.forwarded_lines = context.line(context.span_id) + without(head.forwarded_lines, replaced)
    journal.parents = context.trace_id


def attempts_of(gateway: Gateway, service: Service, request: OutboundRequest, receiver: AnswerReceiver) -> Attempts:
    """What asks the endpoints of a service for a request."""
    trace = request.trace
    if trace is None:
        return Attempts(gateway, service, request, receiver)
    return TracedAttempts(gateway, service, request, receiver, trace)


class TracedJournal(Journal):
    """The Journal of a request whose trace is recorded.

    Attributes:
        trace: what is recorded so far.
    """

    __slots__ = ("_opened", "_stream_id", "_tracer", "_wall", "trace")

    trace: Trace

    def __init__(
        self, gateway: Gateway, exchange: ServerExchange, label: str, tracer: Tracer, context: Context
    ) -> None:
        super().__init__(gateway, exchange, label)
        self._tracer, self._stream_id = tracer, b""
        self._wall = tracer.began  # once, so that the spans of the request fit each other if the clock is set
        self._opened: float | None = None
        self.trace = Trace(context)
        take_place(self, context)

    def open(self, now: float, endpoint: str, attempts: int) -> None:
        super().open(now, endpoint, attempts)
        self._opened, self._stream_id = now, self._tracer.new_span_id()
        self._tracer.add(self._told(now, self.status))

    def close(
        self,
        status: int,
        reason: str,
        now: float,
        *,
        sent: int = 0,
        endpoint: str = "",
        attempts: int = 0,
        bytes_in: int = 0,
    ) -> None:
        is_first = not self.is_closed
        super().close(status, reason, now, sent=sent, endpoint=endpoint, attempts=attempts, bytes_in=bytes_in)
        if is_first:
            told = self._told(now, sent or status)
            of_stream = None if self._opened is None else self._of_stream()
            self._tracer.add(replace(told, reason=reason, has_failed=status >= 500, of_stream=of_stream))

    def _told(self, now: float, status: int) -> Told:
        trace, exchange, head = self.trace, self.exchange, self.exchange.head
        return Told(
            trace.context, tuple(trace.calls), head.method, head.target, head.host,
            exchange.connection.scheme.decode("ascii"), head.minor, self._label, self.service, self.request_id,
            self.client or self._client_of_a_refusal(), self.began, now, self._wall, status, "",
            opened=self._opened, stream_id=self._stream_id,
        )  # fmt: skip

    def _of_stream(self) -> dict[str, Value]:
        frames = self.frames
        if frames is None:
            return {"gateway.stream.kind": "sse", "gateway.stream.bytes_out": self.exchange.body_bytes}
        return {
            "gateway.stream.kind": "ws",
            "gateway.stream.bytes_in": frames.bytes_in,
            "gateway.stream.bytes_out": frames.bytes_out,
            "gateway.stream.messages_in": frames.messages_in,
            "gateway.stream.messages_out": frames.messages_out,
            "gateway.stream.close_code": frames.close_code,
        }


class TracedAttempts(Attempts):
    """Attempts of a recorded request: each exchange with an endpoint is noted, and named in the traceparent of the
    request."""

    __slots__ = ("_calls", "_trace")

    def __init__(
        self,
        gateway: Gateway,
        service: Service,
        request: OutboundRequest,
        receiver: AnswerReceiver,
        trace: Trace,
    ) -> None:
        super().__init__(gateway, service, request, receiver)
        self._trace = trace
        self._calls: list[tuple[ClientExchange, Call]] = []

    def send(self, endpoint: Endpoint, receiver: HeadReceiver, *, fresh: bool = False) -> tuple[ClientExchange, bool]:
        trace, span_id, before = self._trace, self.gateway.new_request_id()[:16], self._trace.line
        call = trace.begin(span_id, endpoint.url, self.gateway.now())
        self.request.replace_line(before, trace.line)
        sent = super().send(endpoint, receiver if receiver is self else _OfHedge(self, receiver, call), fresh=fresh)
        self._calls.append((sent[0], call))
        return sent

    # ---- HeadReceiver

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        upstream, call = self.upstream, self._call
        if call:
            call.status = head.status
        receiver = super().on_head(head, source)
        if upstream is self.upstream:  # the answer is taken: any other exchange has lost
            for other in self._under_way:
                if other is not call:
                    self.end(other, SUPERSEDED)
        return receiver

    def on_failure(self, error: GatewayError) -> None:
        call = self._call
        if call:
            call.reason = error.reason
            self.end(call)
        super().on_failure(error)

    # ---- the end of an exchange

    def _leave(self, outcome: Outcome) -> bool:
        if call := self._call:
            self.end(call)
        return super()._leave(outcome)

    def becomes(self, kind: Kind) -> None:
        super().becomes(kind)
        if call := self._call:
            self.end(call)

    def close(self, outcome: Outcome, now: float) -> None:
        call = self._call
        super().close(outcome, now)
        if call and outcome is FAILURE:
            call.has_failed = True
        for each in self._under_way:
            self.end(each, now=now)

    @property
    def _call(self) -> Call | None:
        """The call of the present attempt."""
        return next((call for upstream, call in self._calls if upstream is self.upstream), None)

    @property
    def _under_way(self) -> list[Call]:
        return [call for _, call in self._calls if call.ended is None]

    def end(self, call: Call, outcome: str = "", now: float | None = None) -> None:
        """Note the end of a call. Later calls change nothing.

        Args:
            now: instant (gateway clock); None for the present.
        """
        if call.ended is None:
            call.ended, call.outcome = self.gateway.now() if now is None else now, outcome


class _OfHedge:
    """The HeadReceiver of a hedge, which notes how the exchange with the second endpoint does."""

    __slots__ = ("_attempts", "_call", "_receiver")

    def __init__(self, attempts: TracedAttempts, receiver: HeadReceiver, call: Call) -> None:
        self._attempts, self._receiver, self._call = attempts, receiver, call

    def on_interim(self, head: ResponseHead) -> None:
        self._receiver.on_interim(head)

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        self._call.status = head.status
        receiver = self._receiver.on_head(head, source)
        if receiver is None and self._attempts.hedge is None:  # the first endpoint may do better
            self._attempts.end(self._call)
        return receiver

    def on_failure(self, error: GatewayError) -> None:
        self._call.reason = error.reason
        self._attempts.end(self._call)
        self._receiver.on_failure(error)
