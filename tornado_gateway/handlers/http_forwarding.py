"""A forwarded request whose answer may be an event stream: the answer's Content-Type decides.

A client that accepts event streams alone waits for a stream: an endpoint that fails before the first event is then as
good as an endpoint that refuses, and is replaced.
"""

from functools import partial

from tornado_gateway.errors import GatewayError
from tornado_gateway.handlers.compressing import Compressing, prepare
from tornado_gateway.handlers.event_stream import EventStream, Subscription
from tornado_gateway.handlers.forwarding import Forwarding
from tornado_gateway.handlers.peek import Peek
from tornado_gateway.policy.http.caching.request import by_name
from tornado_gateway.policy.http.sse import is_encoded, is_event_stream, stream_fields
from tornado_gateway.policy.upstream.endpoint import SUCCESS, Kind, Outcome
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead, fields


class HttpForwarding(Forwarding):
    """Passes a plain answer on, and lets an EventStream carry an event stream."""

    __slots__ = ()

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        self._note_head(head.status)
        # Of several Content-Type fields browsers take the last one that they understand (RFC 9110 §8.3).
        if b"content-type" in head.known_fields and is_event_stream(head.known_fields[b"content-type"][-1]):
            return self._await_stream(head, source)
        if self.awaits_stream:
            self._take_for_plain()
        if self._service.config.compression.codings:
            return self._compress(head)
        self._pass_head(head)
        return self

    def _compress(self, head: ResponseHead) -> BodyReceiver:
        """Begin an answer that may be compressed."""
        asked, length = by_name(self._client.head.block), head.length
        head, coding = prepare(head, asked, self._service.config.compression)
        self._pass_head(head)
        if not coding or self.method == b"HEAD":
            return self
        return Compressing(coding, length, self, self._gateway.client.loop)

    def _take_for_plain(self) -> None:
        """A stream was awaited, and the answer is none."""
        if not self.asks_for_stream:
            self._uncount_stream()
            if self._claims or self._gateway.overload.counts_requests:
                self._enter_flight()
        self._limit_time()

    def _await_stream(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        """Begin an event stream, with SSE_PEEK_MS after a look at the first event."""
        config = self._service.config.event_streams
        if head.body is None:
            self._pass_head(head, stream_fields(fields(head.block)))  # to HEAD as to GET (RFC 9110 §9.3.2)
            return self
        if config.peek and self._answerer.may_replace_stream:
            source.allow(config.idle_timeout)  # the next thing awaited is an event
            peek = Peek(source, config.peek, partial(self._begin_stream, head, source))
            self._timers = (*self._timers, peek)
            return peek
        return self._begin_stream(head, source, False)

    def _begin_stream(self, head: ResponseHead, source: BodySource, failed: bool) -> EventStream | None:
        """Hand the body of an event stream to an EventStream; ask another endpoint if the stream has failed."""
        gateway, answerer = self._gateway, self._answerer
        try:
            if failed and answerer.replace_stream():
                return None
            self._check_token()
            if not self._is_counted:
                self._count_stream()
        except GatewayError as error:
            source.abort()
            self.on_failure(error)
            return None
        answerer.becomes(Kind.SSE)
        lines, source.min_rate = fields(head.block), 0.0
        self._pass_head(head, stream_fields(lines))
        is_opaque = head.length is not None or is_encoded(lines)
        stream = EventStream(
            self._service.config.event_streams, gateway.rng, self._client, source, self._end_stream,
            Subscription(self.began, self._expiry, self._service.event_stream_totals), is_opaque=is_opaque,
        )  # fmt: skip
        self._keep(stream)
        source.forget_fields()
        return stream

    def _end_stream(self, outcome: Outcome, reason: str) -> None:
        if outcome is SUCCESS:
            self._close_whole(reason)
        else:
            self.close(outcome, self._journal.status, reason)
