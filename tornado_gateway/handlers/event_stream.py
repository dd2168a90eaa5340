"""An event stream on the way from an upstream to a client, by any route.

The bytes of the stream are forwarded as they come. Between two events, and never inside an event, the gateway inserts:

    a comment                 if the client has got nothing for SSE_HEARTBEAT_MS
    retry: and a clean end    if the stream has reached its maximum age, moves to another endpoint, an operator closes
                              the stream, or the gateway stops
    a closing event           if the client's token has expired or was revoked
    an error event            if the upstream has failed; no clean end follows

Into a compressed stream, or a stream with a Content-Length, nothing can be inserted. The gateway ends such a stream by
cutting the connection, so that no client takes a part of the stream for the whole. A stream that has to end is cut
also if its current event lasts longer than BOUNDARY_GRACE, or, after a revocation, until the next check.
"""

import asyncio
import math
import random
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

from tornado_gateway.errors import SlowConsumer, UpstreamError
from tornado_gateway.policy.histogram import PAUSES
from tornado_gateway.policy.http.expiry import Expiry
from tornado_gateway.policy.http.headers import Field, accepts_trailers, trailer_lines
from tornado_gateway.policy.http.sse import (
    HEARTBEAT,
    MARK,
    BoundaryScanner,
    EventStreamConfig,
    closing_event,
    error_event,
    lifetime,
    retry_hint,
)
from tornado_gateway.policy.http.stream_limits import high_water
from tornado_gateway.policy.principal import Holder
from tornado_gateway.policy.upstream.endpoint import SSE, Outcome
from tornado_gateway.policy.upstream.stream_totals import Carried, StreamTotals
from tornado_gateway.upkeep.streams import StreamRequest
from tornado_gateway.wire.client.receivers import BodySource
from tornado_gateway.wire.server.exchange import ServerExchange

BOUNDARY_GRACE = 5.0  # seconds that a stream which has to end waits for the end of its current event

TOKEN_EXPIRED, TOKEN_REVOKED, CLOSED = "token_expired", "token_revoked", "closed_by_operator"  # reasons


class Subscription(NamedTuple):
    """What is known of a stream before the first byte.

    Attributes:
        began: instant (gateway clock) of the request.
        expiry: of the client's token.
        totals: of the service's event streams.
    """

    began: float
    expiry: Expiry
    totals: StreamTotals


class EventStream:
    """The BodyReceiver of an event stream.

    Args:
        on_end: called once, with the outcome of the upstream and the reason for the access log. Only the end of the
            response is sent after that.
        is_opaque: whether nothing can be inserted.

    Attributes:
        next_check, number, request, totals: see streams.Stream.
    """

    __slots__ = (
        "_began", "_began_or_beat", "_client", "_config", "_cut_at", "_ending", "_ends_at", "_expiry", "_flowing",
        "_heard_at", "_heartbeat", "_is_opaque", "_max_bytes", "_on_end", "_rng", "_scanner", "_source",
        "_wants_trailers", "next_check", "number", "request", "totals",
    )  # fmt: skip

    kind = SSE
    number: int
    request: StreamRequest

    def __init__(
        self,
        config: EventStreamConfig,
        rng: random.Random,
        client: ServerExchange,
        source: BodySource,
        on_end: Callable[[Outcome, str], None],
        subscription: Subscription,
        *,
        is_opaque: bool = False,
    ) -> None:
        self._config, self._rng, self._on_end = config, rng, on_end
        self._is_opaque, self._wants_trailers = is_opaque, accepts_trailers(client.head.known_fields)
        self._client, self._source = client, source
        self._flowing = client.connection.server.flowing
        self._scanner = BoundaryScanner()
        self.totals, self._began = subscription.totals, subscription.began
        self._heard_at: float | None = None  # instant of the last bytes of the stream; None before the first
        self._ending = ""  # the reason why the stream ends at the next event boundary
        self._cut_at = math.inf  # instant at which the stream is cut, at a boundary or not
        self._heartbeat = math.inf if is_opaque else config.heartbeat
        self._max_bytes = config.max_bytes if config.max_bytes < math.inf else None
        now = self._began_or_beat = client.connection.server.loop.time()
        self._ends_at = now + lifetime(config.max_age, rng) if config.max_age < math.inf else math.inf
        self._expiry = subscription.expiry
        self.next_check = self._time_of_next_check()
        source.allow(config.idle_timeout)
        client.limit_buffer(high_water(config.max_buffered, cuts_slow=config.cuts_slow))

    # ---- BodyReceiver

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        before, self._heard_at = self._heard_at, self._source.heard_at
        if before is None:
            self.totals.firsts.add(time.monotonic() - self._began)
        else:
            pause = self._heard_at - before
            pauses = self.totals.pauses
            pauses.counts[bisect_left(PAUSES, pause)] += 1
            pauses.total += pause
        if self._ending and (end := self._scanner.end_of_last_event(chunk)) >= 0:
            self._scanner.feed(chunk[:end])
            self._client.write(chunk[:end])
            self._finish(is_whole=True)
            return None
        self._scanner.feed(chunk)
        drained = self._client.write(chunk)
        if self._max_bytes is not None and self._client.body_bytes >= self._max_bytes:
            self._end("max_bytes")
        if drained is self._flowing or drained.done() or self._client.finished:
            return None
        if self._config.cuts_slow:
            self._cut_client()
        return drained

    def on_end(self, trailers: list[Field]) -> None:
        self._on_end(Outcome.SUCCESS, "")
        self._client.finish(trailer_lines(trailers) if self._wants_trailers else b"")

    def on_failure(self, error: UpstreamError) -> None:
        if self._scanner.at_boundary and not self._is_opaque:
            self._client.write(error_event(self._config.error_event, error))
        self._on_end(Outcome.FAILURE, error.reason)
        self._client.cut()

    # ---- Stream

    def check(self, now: float) -> None:
        self._client.watch_reader()
        if now >= self._cut_at:
            self._finish(is_whole=False)
        elif self._ending:
            self._cut_at = min(self._cut_at, now + BOUNDARY_GRACE)
            self._end(self._ending)
        elif self._expiry.has_passed(now, time.time()):
            self._end(TOKEN_EXPIRED)
        elif now >= self._ends_at:
            self._end("max_age")
        elif now - self._sent_at >= self._heartbeat and self._scanner.at_boundary and not self._source.is_held:
            if self._client.body_bytes == 0:
                self._source.hand_to(WithoutMark(self, self._source))
            self._client.write(HEARTBEAT)
            self._began_or_beat = now
        self.next_check = self._time_of_next_check()

    @property
    def _sent_at(self) -> float:
        """Instant of the last bytes sent to the client; bytes of the upstream are sent as they come."""
        return max(self._began_or_beat, self._source.heard_at)

    def _time_of_next_check(self) -> float:
        """When to check the stream next. Writes do not postpone the check: a busy stream is checked once per heartbeat
        interval."""
        if self._ending:
            return -math.inf
        patience = self._client.connection.server.config.client_idle_timeout
        return min(self._expiry.at, self._ends_at, self._sent_at + min(self._heartbeat, patience))

    def drain(self) -> None:
        self._end("draining")

    @property
    def is_movable(self) -> bool:
        """Only a GET is movable: an EventSource reconnects for the rest. To any other method the stream is the whole
        answer, and a part of an answer would look like the whole."""
        is_answer = self._client.head.method != b"GET"
        is_between = self._scanner.at_boundary and not self._source.is_held
        return is_between and not (is_answer or self._is_opaque or self._ending)

    def move(self) -> None:
        self._end("rebalanced")

    @property
    def holder(self) -> Holder:
        return self._expiry.holder

    def revoke(self) -> None:
        self._cut_at = -math.inf
        self._end(TOKEN_REVOKED)

    def dismiss(self) -> None:
        self._end(CLOSED)

    def abort(self) -> None:
        self._client.abort()

    @property
    def carried(self) -> Carried:
        client, events = self._client, 0 if self._is_opaque else self._scanner.events
        return Carried(0, events, 0, client.body_bytes, client.connection.transport.get_write_buffer_size())

    def count_end(self, seconds: float) -> None:
        self.totals.add(self.carried, seconds)

    def _end(self, reason: str) -> None:
        """End the stream at the next event boundary: now, after the next blank line, or, inside a comment, at the next
        call."""
        self._ending = self._ending or reason
        self.next_check = -math.inf
        if self._is_opaque or self._scanner.at_boundary:
            self._finish(is_whole=not self._is_opaque)

    def _finish(self, *, is_whole: bool) -> None:
        self._source.abort()
        if is_whole:
            says_why = self._ending in (TOKEN_EXPIRED, TOKEN_REVOKED)
            self._client.write(closing_event(self._ending) if says_why else retry_hint(self._rng))
        self._on_end(Outcome.SUCCESS, self._ending)
        self._client.finish() if is_whole else self._client.cut()

    def _cut_client(self) -> None:
        self._source.abort()
        self._on_end(Outcome.IGNORED, SlowConsumer.reason)
        self._client.abort()


class WithoutMark:
    """The BodyReceiver of the first bytes of a stream whose client has got a heartbeat: drops a byte order mark.

    A byte order mark counts only at the very beginning of a stream (WHATWG HTML §9.2.6). After a heartbeat the client
    would read the mark as a part of the first field name, and lose the first event.
    """

    def __init__(self, stream: EventStream, source: BodySource) -> None:
        self._stream, self._source = stream, source
        self._data = b""

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        self._data += chunk
        if MARK.startswith(self._data) and self._data != MARK:
            return None
        return self._go_on().on_chunk(self._data.removeprefix(MARK))

    def on_end(self, trailers: list[Field]) -> None:
        stream = self._go_on()
        stream.on_chunk(self._data)
        stream.on_end(trailers)

    def on_failure(self, error: UpstreamError) -> None:
        stream = self._go_on()
        stream.on_chunk(self._data)
        stream.on_failure(error)

    def _go_on(self) -> EventStream:
        self._source.hand_to(self._stream)
        return self._stream
