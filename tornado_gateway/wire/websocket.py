"""The frame relay: two connections, one WebSocket.

    client ──frames──► Leg ──► FrameScanner ──► the other Leg's transport ──► upstream
           ◄─────────────────── FrameScanner ◄── Leg ◄──────────────frames───

Frames pass as they were sent, masked or not, compressed or not, in the same fragments:
each direction's FrameScanner (policy/frames.py) reads their heads only. What the relay
does beside: it pings both sides and misses their pongs, ends what is idle, too fast, too
slow or against the rules, and sees to it that whatever ends one side ends the other one,
with a code that says why, and in bounded time.

What ended                            the client is told        the upstream is told
────────────────────────────────────  ────────────────────────  ────────────────────────
one side sent a Close                 as it was sent            as it was sent
the upstream's connection was lost    1011 upstream lost
the client's connection was lost                                1001 client gone
one side broke a rule                 1002, 1007 or 1009        the same
no pong, or any byte, in time         1011 pong timeout         the same
no message for too long               1001 idle                 the same
another endpoint shall have it        1001 or 1012 rebalanced   the same
the client's token expired            4401 token expired        1001 token expired
the gateway stops                     1001 or 1012              the same

A Close cannot be put into the middle of a frame: if one side is lost in the middle of
a large one (above policy/frames.py's ATOMIC), the other side's connection just ends.

Flow control is the transports' own: while one side does not take what is written, the
other is not read, and the opposite direction flows on. A side that takes nothing for too
long is cut, and so lost to the other one. Behind a Close it is the same, as long as
something still passes.
"""

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag

from tornado_gateway.policy.expiry import NEVER, Expiry
from tornado_gateway.policy.frames import (
    ABNORMAL,
    CLOSE,
    GOING_AWAY,
    INTERNAL,
    PING,
    POLICY,
    TOKEN_EXPIRED,
    TOO_BIG,
    TRY_AGAIN_LATER,
    Close,
    FrameScanner,
    frame,
)
from tornado_gateway.policy.pacing import TokenBucket
from tornado_gateway.policy.stream_limits import high_water
from tornado_gateway.wire.peer import has_ended, unread

CLOSE_TIMEOUT = 5.0  # seconds for both sides to answer a Close and end; then their connections are cut
FIN_TIMEOUT = 1.0  # seconds for an upstream to end its connection once both sides have said Close


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Durations are seconds, math.inf for none; rates are per second, 0 for any.

    Attributes:
        ping_interval: between pings to either side.
        pong_timeout: for a pong, or any byte, after a ping.
        idle_timeout: without a message in either direction.
        stall_timeout: without progress by a side that does not take what waits for it.
        max_message: bytes.
        max_buffered: bytes that may wait for one side.
        cuts_slow: whether a side for which more is waiting is closed (1013), instead of the other being paused.
        messages_per_second, bytes_per_second: by the client; see FrameScanner's quota.
        cuts_fast: whether a client that sends more is closed (1008), instead of being read more slowly.
        drain_code: of the Close when the gateway stops, or has the client come back.
        ping_payload: what the gateway's own pings carry; up to 125 bytes that nobody else's do.
    """

    ping_interval: float = 30.0
    pong_timeout: float = 10.0
    idle_timeout: float = math.inf
    stall_timeout: float = 60.0
    max_message: int = 16 * 1024 * 1024
    max_buffered: int = 2_000_000
    cuts_slow: bool = False
    messages_per_second: int = 0
    bytes_per_second: int = 0
    cuts_fast: bool = False
    drain_code: int = GOING_AWAY
    ping_payload: bytes = b"gateway"

    @property
    def is_paced(self) -> bool:
        return bool(self.messages_per_second or self.bytes_per_second)


class Hold(IntFlag):
    """Why a leg is not read."""

    NONE = 0
    OTHER_IS_SLOW = 1
    TOO_FAST = 2


class Leg(asyncio.Protocol):
    """One side's connection.

    Attributes:
        scanner: judges what comes from this side.
        is_client: whether it is the client's side.
        is_told: whether a Close has been sent to it.
        is_gone: whether nothing more comes from it, and nothing more is sent to it.
        has_shut: whether a FIN came behind its Close: nothing more comes from it, but what it has to hear is sent.
        is_lost: whether its transport is no more.
        is_blocked: whether it does not take what is written.
        pong_by: instant at which it must have been heard; infinite while no ping is out.
    """

    __slots__ = (
        "_before", "_heard", "_held", "_is_over", "_unsent", "_written", "has_shut", "is_blocked", "is_client",
        "is_gone", "is_lost", "is_told", "other", "pong_by", "relay", "scanner", "stalled_at", "transport",
    )  # fmt: skip

    other: "Leg"
    transport: asyncio.Transport

    def __init__(self, relay: "Relay", scanner: FrameScanner, before: asyncio.Protocol, *, is_client: bool) -> None:
        self.relay, self.scanner, self.is_client = relay, scanner, is_client
        self._before = before  # the protocol that had the transport, and has to learn of its end
        self._held = Hold.NONE
        self._heard = 0  # bytes when the last ping was sent
        self._unsent = self._written = 0  # bytes that waited for it, and had been written to it, at the last look
        self._is_over = False
        self.is_told = self.is_gone = self.is_lost = self.is_blocked = self.has_shut = False
        self.pong_by = self.stalled_at = math.inf

    # ---- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        scanner = self.scanner
        passing = scanner.feed(data)
        if passing:
            self.other.transport.write(passing)
        if scanner.is_over:
            self.over()

    def eof_received(self) -> bool:
        """This side has shut down its sending half, or has closed its connection: a FIN does not tell which.

        Behind a Close nothing more is to come (RFC 6455 §5.5.1), so the FIN ends nothing early, and this side is still
        sent what the other one says, up to the Close that answers (§7.1.1). Over TLS no half can be closed here:
        asyncio ends a TLS connection at the peer's closure alert.

        Returns:
            Whether the transport stays open for writing.
        """
        self.has_shut = self.scanner.close is not None and self.transport.can_write_eof() and not self.is_gone
        if self.has_shut:
            self.relay.finish_if_done(self)
        else:
            self.gone()
        return self.has_shut

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self.gone()
        self._before.connection_lost(error)
        self.relay.leg_lost()

    def pause_writing(self) -> None:
        self.is_blocked = True
        self.relay.leg_blocked(self)

    def resume_writing(self) -> None:
        self.is_blocked = False
        self.stalled_at = math.inf
        self.other.release(Hold.OTHER_IS_SLOW)

    # ---- for the relay

    @property
    def name(self) -> str:
        return "client" if self.is_client else "upstream"

    @property
    def is_done(self) -> bool:
        """Whether a Close has gone both ways, or nothing more can."""
        return self.is_gone or (self.is_told and self._is_over)

    @property
    def passes(self) -> bool:
        """Whether something of what comes may still go to the other side."""
        return not (self.scanner.is_silent or self.scanner.is_over)

    @property
    def is_between(self) -> bool:
        """Whether all that has come from it has gone on, in whole frames, and it is read."""
        return self.scanner.at_boundary and not self.scanner.is_holding and not self._held

    def over(self) -> None:
        """This side has sent its Close, or broken a rule."""
        if self._is_over:
            return
        self._is_over = True
        if self.scanner.violation:
            self.relay.broken(self, self.scanner.violation)
        elif self.scanner.close:
            self.relay.closed(self, self.scanner.close)

    def gone(self) -> None:
        """Nothing more comes from this side."""
        if not self.is_gone:
            self.is_gone = True
            self.other.scanner.mute()
            self.relay.leg_gone(self)

    def tell(self, close: Close) -> None:
        """Send this side a Close behind the current frame, and nothing behind it."""
        if self.is_told or self.is_gone:
            return
        self.is_told = True
        now = self.other.scanner.insert(self._frame(CLOSE, close.payload()), last=True)
        if now:
            self.transport.write(now)

    def ping(self, now: float) -> None:
        """Ask this side for a sign of life, unless it is in the middle of a frame, or something else waits for it."""
        if self.is_gone or not self.other.scanner.at_boundary or self.transport.get_write_buffer_size():
            return
        if self.pong_by == math.inf or self.scanner.bytes != self._heard:
            self._heard = self.scanner.bytes
            self.pong_by = now + self.relay.config.pong_timeout
        self.transport.write(self._frame(PING, self.relay.config.ping_payload))

    def is_silent(self, now: float) -> bool:
        """Whether it has not answered a ping in time; while it is not read nobody can know."""
        if now < self.pong_by:
            return False
        self.pong_by = math.inf
        return self.scanner.bytes == self._heard and not self._held

    def is_stalled(self, now: float) -> bool:
        """Whether it has taken nothing of what waits for it in time."""
        if self.stalled_at == math.inf:
            self.expect_progress(now)
        if now < self.stalled_at:
            return False
        all_of_it = self._unsent + self.other.scanner.passed - self._written
        self.expect_progress(now)
        return self._unsent >= all_of_it

    def expect_progress(self, now: float) -> None:
        """Watch it, if anything waits for it."""
        self._unsent, self._written = self.transport.get_write_buffer_size(), self.other.scanner.passed
        self.stalled_at = now + self.relay.config.stall_timeout if self._unsent else math.inf

    def hold(self, why: Hold) -> None:
        """Read no further until all holds are released."""
        if not self._held and not self.transport.is_closing():
            self.transport.pause_reading()
        self._held |= why
        self.relay.due = -math.inf  # to see whether it ends meanwhile

    def let_answer(self) -> None:
        """Read on if nothing more of it passes: only its Close, or its end, is waited for."""
        if not self.passes:
            self.release(Hold.OTHER_IS_SLOW | Hold.TOO_FAST)

    def release(self, why: Hold) -> None:
        was, self._held = self._held, self._held & ~why
        if was and not self._held and not self.transport.is_closing():
            self.transport.resume_reading()

    @property
    def is_held(self) -> bool:
        return bool(self._held)

    @property
    def has_said_all(self) -> bool:
        """Whether nothing that came from it waits to be read or to pass."""
        return not self.scanner.is_holding and not unread(self.transport)

    def finish(self) -> None:
        """End the connection once everything is sent."""
        if not self.transport.is_closing():
            self.transport.close()

    def shut(self) -> None:
        """Say that nothing more will be sent; what comes is read and dropped, so that the Close is not lost."""
        if not self.transport.is_closing() and self.transport.can_write_eof() and self.other.scanner.at_boundary:
            with contextlib.suppress(OSError):  # asyncio's own shutdown() of a socket that was just reset
                self.transport.write_eof()

    def _frame(self, opcode: int, payload: bytes) -> bytes:
        return frame(opcode, payload, None if self.is_client else self.relay.mask())


class PacedLeg(Leg):
    """A client's side that may say only so much in a second."""

    __slots__ = ("_bytes", "_messages", "_timer")

    def __init__(self, relay: "Relay", scanner: FrameScanner, before: asyncio.Protocol, *, is_client: bool) -> None:
        super().__init__(relay, scanner, before, is_client=is_client)
        config, now = relay.config, relay.loop.time()
        self._messages = TokenBucket(config.messages_per_second, now) if config.messages_per_second else None
        self._bytes = TokenBucket(config.bytes_per_second, now) if config.bytes_per_second else None
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        now = self.relay.loop.time()
        wait = self._pass_messages(data, self._messages, now) if self._messages else 0.0
        if not self._messages:
            super().data_received(data)
        if self._bytes:
            self._bytes.take(len(data))
            wait = max(wait, self._bytes.wait(0, now))
        if wait and self.passes:
            self._slow_down(wait)

    def _pass_messages(self, data: bytes, bucket: TokenBucket, now: float) -> float:
        """Pass as many frames as there are tokens; seconds until one more may pass if one waits."""
        scanner = self.scanner
        before = scanner.counted
        scanner.quota = before + max(0, int(bucket.available(now)))
        super().data_received(data)
        bucket.take(scanner.counted - before)
        return bucket.wait(1, now) if scanner.is_starved else 0.0

    def _slow_down(self, seconds: float) -> None:
        if self.relay.config.cuts_fast and self.relay.close is None:
            self.relay.end(Close(POLICY, b"rate limited"), "rate_limited")
        elif self._timer is None:
            self.hold(Hold.TOO_FAST)
            self._timer = self.relay.loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        if not self.is_gone:
            self.release(Hold.TOO_FAST)
            self.data_received(b"")

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        super().connection_lost(error)


class Relay:
    """A WebSocket between a client and an upstream.

    Args:
        rsv: reserved bits that the negotiated extensions may set.
        client, upstream: the protocols that have the transports until now.
        on_end: called once, when both connections have ended.
        expiry: of the client's token.

    Attributes:
        due: instant (loop time) at which to `look()`.
        close: the Close that ended it, as sent by a side or by the gateway; None while it is open.
        reason: why the gateway ended it, in the words of the access log; "" if a side did.
        at_fault: whose fault that was: "client", "upstream" or "".
    """

    __slots__ = (
        "_active_at", "_activity", "_close_by", "_expiry", "_next_ping", "_on_end", "_unsent", "at_fault", "client",
        "close", "config", "due", "loop", "reason", "upstream",
    )  # fmt: skip

    def __init__(
        self,
        config: RelayConfig,
        rsv: int,
        client: asyncio.Protocol,
        upstream: asyncio.Protocol,
        on_end: Callable[["Relay"], None],
        *,
        expiry: Expiry = NEVER,
    ) -> None:
        self.config, self._on_end, self._expiry = config, on_end, expiry
        self.loop = asyncio.get_running_loop()
        own = config.ping_payload
        from_client = FrameScanner(
            masked=True, max_message=config.max_message, rsv=rsv, own_pong=own, paced=bool(config.messages_per_second)
        )
        from_upstream = FrameScanner(masked=False, max_message=config.max_message, rsv=rsv, own_pong=own)
        self.client = (PacedLeg if config.is_paced else Leg)(self, from_client, client, is_client=True)
        self.upstream = Leg(self, from_upstream, upstream, is_client=False)
        self.client.other, self.upstream.other = self.upstream, self.client
        self.close: Close | None = None
        self.reason = self.at_fault = ""
        now = self.loop.time()
        self._close_by = math.inf
        self._unsent = 0  # bytes that waited for the two sides when they were told to close
        self._activity, self._active_at = 0, now
        self._next_ping = now + config.ping_interval
        self.due = self._when_due(now)

    def start(
        self,
        client: asyncio.Transport,
        from_client: bytes,
        upstream: asyncio.Transport,
        from_upstream: bytes,
        *,
        client_has_shut: bool = False,
    ) -> None:
        """Begin to relay, with what came behind the handshakes.

        Args:
            client_has_shut: whether the client's FIN came before the handshake was answered.
        """
        limit = high_water(self.config.max_buffered, cuts_slow=self.config.cuts_slow)
        self.client.transport, self.upstream.transport = client, upstream
        for leg, early in ((self.client, from_client), (self.upstream, from_upstream)):
            leg.transport.set_write_buffer_limits(high=limit)
            if early:
                leg.data_received(early)
        if client_has_shut and not self.client.eof_received():
            self.client.finish()

    def mask(self) -> bytes:
        """A masking key (RFC 6455 §5.3)."""
        return secrets.token_bytes(4)

    @property
    def buffered(self) -> int:
        """Bytes that wait for the two sides."""
        return sum(leg.transport.get_write_buffer_size() for leg in (self.client, self.upstream) if not leg.is_lost)

    # ---- time

    def look(self, now: float) -> None:
        """See whether something is overdue."""
        for leg in (self.client, self.upstream):
            if leg.is_held and not leg.is_gone and has_ended(leg.transport, by_fin=leg.has_said_all):
                leg.transport.abort()
        if self.close:
            if now >= self._close_by and not self._makes_progress(now):
                self.abort()
        else:
            self._look_at_legs(now)
        if self.close is None:
            self._look_at_activity(now)
        if self.close is None and self._expiry.has_passed(now, time.time()):
            self._expire()
        self.due = self._when_due(now)

    def _makes_progress(self, now: float) -> bool:
        """Whether a side that has much to read before its Close is reading it."""
        before, self._unsent = self._unsent, self.buffered
        self._close_by = now + CLOSE_TIMEOUT
        return self._unsent < before

    def _look_at_legs(self, now: float) -> None:
        for leg in (self.client, self.upstream):
            if leg.is_stalled(now):
                self._fail(leg, "client_stalled" if leg.is_client else "upstream_stalled")
                leg.transport.abort()
            elif leg.is_silent(now):
                self._fail(leg, "pong_timeout")
                self.end(Close(INTERNAL, b"pong timeout"), "pong_timeout")

    def _look_at_activity(self, now: float) -> None:
        client, upstream = self.client.scanner, self.upstream.scanner
        activity = client.messages + client.fragments + upstream.messages + upstream.fragments
        activity += sum(scanner.bytes for scanner in (client, upstream) if not scanner.at_boundary)
        if activity != self._activity:
            self._activity, self._active_at = activity, now
        elif now - self._active_at >= self.config.idle_timeout:
            self.end(Close(GOING_AWAY, b"idle"), "idle")
            return
        if now >= self._next_ping:
            self._next_ping = now + self.config.ping_interval
            self.client.ping(now)
            self.upstream.ping(now)

    def _when_due(self, now: float) -> float:
        """Messages are only counted as they pass, so idleness is looked for several times in its duration."""
        client, upstream = self.client, self.upstream
        if client.is_held or upstream.is_held:
            return now
        if self.close:
            return self._close_by
        return min(
            *(
                self._expiry.at,
                self._next_ping,
                client.pong_by,
                upstream.pong_by,
                client.stalled_at,
                upstream.stalled_at,
            ),
            now + min(self.config.idle_timeout / 8, self.config.stall_timeout),
        )

    # ---- ends

    def end(self, close: Close, reason: str, *, for_upstream: Close | None = None) -> None:
        """End both sides with a Close.

        Args:
            for_upstream: the Close for the upstream, if it is another one.
        """
        if self.close:
            return
        self.reason = self.reason or reason
        self._begin_to_close(close)
        self.client.tell(close)
        self.upstream.tell(for_upstream or close)
        for leg in (self.client, self.upstream):
            leg.let_answer()

    def _expire(self) -> None:
        """End both sides because the client's token has expired.

        To the upstream that is a client that goes away: 4401 in the private range could mean something else there.
        """
        reason = b"token expired"
        self.end(Close(TOKEN_EXPIRED, reason), "token_expired", for_upstream=Close(GOING_AWAY, reason))

    def drain(self) -> None:
        """End both sides because the gateway stops."""
        self.end(Close(self.config.drain_code, b"the gateway stops"), "draining")

    @property
    def is_movable(self) -> bool:
        """Whether it can be ended without losing what has come from either side."""
        return self.close is None and self.client.is_between and self.upstream.is_between

    def move(self) -> None:
        """End both sides so that the client comes back and is given another endpoint."""
        self.end(Close(self.config.drain_code, b"rebalanced"), "rebalanced")

    def abort(self) -> None:
        """Cut both connections."""
        self.close = self.close or Close(ABNORMAL, b"")
        for leg in (self.client, self.upstream):
            if not leg.is_lost:
                leg.transport.abort()

    def _fail(self, leg: Leg, reason: str) -> None:
        self.reason, self.at_fault = reason, leg.name

    def _begin_to_close(self, close: Close) -> None:
        self.close = close
        self._unsent = self.buffered
        self._close_by = self.loop.time() + CLOSE_TIMEOUT
        self.due = min(self.due, self._close_by)

    def closed(self, leg: Leg, close: Close) -> None:
        """A side has sent a Close; unless its direction was silent, the other side has it now."""
        if not leg.scanner.is_silent:
            leg.other.is_told = True
        if self.close is None:
            self._begin_to_close(close)
        for each in (leg, leg.other):
            each.let_answer()
            self.finish_if_done(each)

    def broken(self, leg: Leg, violation: Close) -> None:
        """A side has broken a rule of RFC 6455."""
        if self.close is None:
            self._fail(leg, "message_too_big" if violation.code == TOO_BIG else "protocol_error")
        self.end(violation, self.reason)
        leg.shut()

    def leg_gone(self, leg: Leg) -> None:
        """A side's connection has ended, or is about to."""
        other = leg.other
        if other.is_gone:
            return
        if not leg.scanner.at_boundary:
            self._lost(leg)
            self.close = Close(ABNORMAL, b"")  # there is no place for one
            other.transport.close()
            return
        if other.scanner.close:
            other.tell(other.scanner.close)  # it waits for an answer that will not come
        elif self.close is None:
            self._lost(leg)
        other.let_answer()
        self.finish_if_done(other)

    def finish_if_done(self, leg: Leg) -> None:
        """End the connection of the client, or of an upstream that has ended its half of it.

        Any other upstream is left to end its connection (RFC 6455 §7.1.1), for a moment. A client that broke a rule
        may be sending on: `shut()` has told the client, which ends the connection when it has read that.
        """
        if not leg.is_done:
            return
        if leg.has_shut or (leg.is_client and not leg.scanner.violation):
            leg.finish()
        elif self.client.is_gone:
            self._close_by = self.due = min(self._close_by, self.loop.time() + FIN_TIMEOUT)

    def _lost(self, leg: Leg) -> None:
        if self.close:
            return
        close = Close(GOING_AWAY, b"client gone") if leg.is_client else Close(INTERNAL, b"upstream lost")
        if not self.reason:
            self._fail(leg, "client_gone" if leg.is_client else "upstream_lost")
        self.end(close, self.reason)

    def leg_blocked(self, leg: Leg) -> None:
        """A side does not take what is written."""
        if self.config.cuts_slow and self.close is None:
            self._fail(leg, "slow_consumer")
            self.end(Close(TRY_AGAIN_LATER, b"slow consumer"), "slow_consumer")
        if leg.other.passes:
            leg.other.hold(Hold.OTHER_IS_SLOW)
            leg.expect_progress(self.loop.time())

    def leg_lost(self) -> None:
        if self.client.is_lost and self.upstream.is_lost:
            self._on_end(self)
