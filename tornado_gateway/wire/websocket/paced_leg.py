"""The client's side of a WebSocket with a limit of messages or bytes per second.

Bytes beyond the limit wait in a backlog, and reading is paused until the backlog has passed. So TCP slows the client
down, and at most one read (256 KiB) waits. The backlog passes in small parts, TICK apart, evenly over the second.
"""

import asyncio

from tornado_gateway.policy.http.frames import POLICY, Close, FrameScanner
from tornado_gateway.policy.http.pings import Pings
from tornado_gateway.policy.token_bucket import TokenBucket
from tornado_gateway.wire.websocket.leg import Hold, Leg, LegOwner, Predecessor

TICK = 0.05  # seconds between parts of the backlog; 20 per second are smooth to a person, and cheap

RATE_LIMITED = Close(POLICY, b"rate limited")


class PacedLeg(Leg):
    """A client's leg with a rate limit."""

    __slots__ = ("_backlog", "_bytes", "_messages", "_timer")

    def __init__(
        self, relay: LegOwner, scanner: FrameScanner, pings: Pings, before: Predecessor, *, is_client: bool
    ) -> None:
        super().__init__(relay, scanner, pings, before, is_client=is_client)
        config, now = relay.config, relay.loop.time()
        self._messages = TokenBucket(config.messages_per_second, now) if config.messages_per_second else None
        self._bytes = TokenBucket(config.bytes_per_second, now) if config.bytes_per_second else None
        self._backlog = b""  # bytes read beyond the limit
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self._backlog += data
        self._pass_on()

    def _pass_on(self) -> None:
        """Pass the part of the backlog that the limit allows, and schedule the rest."""
        now = self.relay.loop.time()
        wait = self._pass_messages(self._take_bytes(now), now)
        if not self.passes:
            self._let_rest_through()
            return
        wait = max(wait, self._wait_for_bytes(now))
        if wait:
            self._slow_down(max(wait, TICK))

    def _take_bytes(self, now: float) -> bytes:
        """Take the part of the backlog that the byte limit allows; with cuts_fast, take all of the backlog."""
        data, bucket = self._backlog, self._bytes
        allowed = bucket.take_part(len(data), now) if bucket and not self.relay.config.cuts_fast else len(data)
        if bucket and self.relay.config.cuts_fast:
            bucket.take(allowed)
        self._backlog = data[allowed:]
        return data[:allowed]

    def _wait_for_bytes(self, now: float) -> float:
        """Seconds until the byte limit allows the next part of the backlog; 0 if nothing waits."""
        bucket = self._bytes
        if bucket is None:
            return 0.0
        return bucket.wait(min(len(self._backlog), max(1.0, bucket.rate * TICK)), now)

    def _pass_messages(self, data: bytes, now: float) -> float:
        """Pass the frames that the message limit allows; return the seconds until the next frame, 0 if none waits."""
        scanner, bucket = self.scanner, self._messages
        if bucket is None:
            super().data_received(data)
            return 0.0
        before = scanner.counted
        scanner.quota = before + max(0, int(bucket.available(now)))
        super().data_received(data)
        bucket.take(scanner.counted - before)
        return bucket.wait(1, now) if scanner.is_starved else 0.0

    def _let_rest_through(self) -> None:
        """Scan the rest of the backlog for a Close, since nothing of the rest is forwarded."""
        rest, self._backlog = self._backlog, b""
        if rest:
            super().data_received(rest)

    def _slow_down(self, seconds: float) -> None:
        if self.relay.config.cuts_fast and self.relay.close is None:
            self.relay.end(RATE_LIMITED, "rate_limited")
        elif self._timer is None:
            self.hold(Hold.TOO_FAST)
            self._timer = self.relay.loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        if self.is_gone:
            return
        self._pass_on()
        if self._timer is None:
            self.release(Hold.TOO_FAST)

    def let_answer(self) -> None:
        if not self.passes:
            self._let_rest_through()
        super().let_answer()

    @property
    def has_said_all(self) -> bool:
        return not self._backlog and super().has_said_all

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        super().connection_lost(error)
