"""An event stream on its way from an upstream to a client, whichever route it came by.

Its bytes pass as they come. In between, never inside an event, the gateway may put in:

    a comment                 when the client has heard nothing for SSE_HEARTBEAT_MS
    retry: and a clean end    when the stream is old enough, another endpoint shall have it, or the gateway stops
    a closing event           when the client's token has expired
    an error event            when the upstream has failed; then without the clean end

A stream that is compressed, or has a Content-Length, passes untouched: nothing can be put in. It can only be cut, so
that nobody takes a part of it for the whole. So is one that has to end and whose event does not, within BOUNDARY_GRACE.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable

from tornado_gateway.errors import SlowConsumer, UpstreamError
from tornado_gateway.policy.http.expiry import NEVER, Expiry
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
from tornado_gateway.policy.upstream.endpoint import Outcome
from tornado_gateway.wire.client.receivers import BodySource
from tornado_gateway.wire.server.exchange import ServerExchange

BOUNDARY_GRACE = 5.0  # seconds that an event may stay open in a stream that has to end

TOKEN_EXPIRED = "token_expired"  # noqa: S105  # a reason


class EventStream:
    """The BodyReceiver of an event stream.

    Args:
        on_end: called once, with how the upstream did and the access log's reason; nothing is sent behind it
            but what is left of the response.
        expiry: of the client's token.
        is_opaque: whether nothing can be put in.

    Attributes:
        due: see streams.Stream.
    """

    __slots__ = (
        "_began_or_beat", "_client", "_config", "_cut_at", "_ending", "_ends_at", "_expiry", "_heartbeat",
        "_is_opaque", "_loop", "_on_end", "_rng", "_scanner", "_source", "_wants_trailers", "due",
    )  # fmt: skip

    def __init__(
        self,
        config: EventStreamConfig,
        rng: random.Random,
        client: ServerExchange,
        source: BodySource,
        on_end: Callable[[Outcome, str], None],
        *,
        expiry: Expiry = NEVER,
        is_opaque: bool = False,
    ) -> None:
        self._config, self._rng, self._on_end = config, rng, on_end
        self._is_opaque, self._wants_trailers = is_opaque, accepts_trailers(client.head.named)
        self._client, self._source = client, source
        self._loop = client.connection.server.loop
        self._scanner = BoundaryScanner()
        self._ending = ""  # why the stream ends at the next boundary
        self._cut_at = math.inf  # instant at which it ends in any case
        self._heartbeat = math.inf if is_opaque else config.heartbeat
        now = self._began_or_beat = self._loop.time()
        self._ends_at = now + lifetime(config.max_age, rng) if config.max_age < math.inf else math.inf
        self._expiry = expiry
        self.due = self._when_due()
        source.allow(config.idle_timeout)
        client.limit_buffer(high_water(config.max_buffered, cuts_slow=config.cuts_slow))

    # ---- BodyReceiver

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        if self._ending and (end := self._scanner.end_of_last_event(chunk)) >= 0:
            self._client.write(chunk[:end])
            self._finish(is_whole=True)
            return None
        self._scanner.feed(chunk)
        drained = self._client.write(chunk)
        if self._client.body_bytes >= self._config.max_bytes:
            self._end("max_bytes")
        if drained.done() or self._client.finished:
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

    def look(self, now: float) -> None:
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
        self.due = self._when_due()

    @property
    def _sent_at(self) -> float:
        """Instant at which something was sent last: what comes from the upstream is sent at once."""
        return max(self._began_or_beat, self._source.heard_at)

    def _when_due(self) -> float:
        """Writing does not move it: a stream that is busy is looked at once in the time of a heartbeat."""
        if self._ending:
            return -math.inf
        patience = self._client.connection.server.config.client_idle_timeout
        return min(self._expiry.at, self._ends_at, self._sent_at + min(self._heartbeat, patience))

    def drain(self) -> None:
        self._end("draining")

    @property
    def is_movable(self) -> bool:
        """What was asked for by POST is an answer, of which a part would look like the whole: who comes back for more,
        as EventSource does, asks by GET."""
        is_answer = self._client.head.method != b"GET"
        is_between = self._scanner.at_boundary and not self._source.is_held
        return is_between and not (is_answer or self._is_opaque or self._ending)

    def move(self) -> None:
        self._end("rebalanced")

    def abort(self) -> None:
        self._client.abort()

    def _end(self, reason: str) -> None:
        """End the stream as soon as no event is open: behind the next blank line, or, where a comment was cut,
        when this is said again."""
        self._ending = self._ending or reason
        self.due = -math.inf
        if self._is_opaque or self._scanner.at_boundary:
            self._finish(is_whole=not self._is_opaque)

    def _finish(self, *, is_whole: bool) -> None:
        self._source.abort()
        if is_whole:
            says_why = self._ending == TOKEN_EXPIRED
            self._client.write(closing_event(self._ending) if says_why else retry_hint(self._rng))
        self._on_end(Outcome.SUCCESS, self._ending)
        self._client.finish() if is_whole else self._client.cut()

    def _cut_client(self) -> None:
        self._source.abort()
        self._on_end(Outcome.IGNORED, SlowConsumer.reason)
        self._client.abort()


class WithoutMark:
    """The BodyReceiver of a stream's first bytes, when the client has had a heartbeat before them.

    A byte order mark is one only at the very beginning (WHATWG HTML §9.2.6): behind a heartbeat the client would take
    it for a part of the first field's name, and lose that event. So it is left out.
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
