"""The frame relay: two connections, one WebSocket.

    client ──frames──► Leg ──► FrameScanner ──► the other Leg's transport ──► upstream
           ◄─────────────────── FrameScanner ◄── Leg ◄──────────────frames───

Frames pass as they were sent, masked or not, compressed or not, in the same fragments:
each direction's FrameScanner (policy/http/frames.py) reads their heads only. What the relay
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
a large one (above policy/http/frames.py's ATOMIC), the other side's connection just ends.

Flow control is the transports' own: while one side does not take what is written, the
other is not read, and the opposite direction flows on. A side that takes nothing for too
long is cut, and so lost to the other one. Behind a Close it is the same, as long as
something still passes.
"""

import asyncio
import math
import time
from collections.abc import Callable

from tornado_gateway.policy.http.expiry import NEVER, Expiry
from tornado_gateway.policy.http.frames import (
    ABNORMAL,
    ATOMIC,
    GOING_AWAY,
    INTERNAL,
    TOKEN_EXPIRED,
    TOO_BIG,
    TRY_AGAIN_LATER,
    Close,
    FrameScanner,
)
from tornado_gateway.policy.http.pings import Pings
from tornado_gateway.policy.http.stream_limits import high_water
from tornado_gateway.policy.http.websocket import RelayConfig
from tornado_gateway.wire.peer import has_ended
from tornado_gateway.wire.websocket.leg import Hold, Leg, Predecessor
from tornado_gateway.wire.websocket.paced_leg import PacedLeg

CLOSE_TIMEOUT = 5.0  # seconds for both sides to answer a Close and end; then their connections are cut
FIN_TIMEOUT = 1.0  # seconds for an upstream to end its connection once both sides have said Close


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
        "_active_at", "_activity", "_close_by", "_expiry", "_next_ping", "_on_end", "at_fault", "client",
        "close", "config", "due", "loop", "reason", "upstream",
    )  # fmt: skip

    def __init__(
        self,
        config: RelayConfig,
        rsv: int,
        client: Predecessor,
        upstream: Predecessor,
        on_end: Callable[["Relay"], None],
        *,
        expiry: Expiry = NEVER,
    ) -> None:
        self.config, self._on_end, self._expiry = config, on_end, expiry
        self.loop = asyncio.get_running_loop()
        pings, upstream_pings = Pings(config.ping_token), Pings(config.ping_token)
        from_client = FrameScanner(
            masked=True,
            max_message=config.max_message,
            rsv=rsv,
            asked=pings,
            asks=upstream_pings,
            paced=bool(config.messages_per_second),
            atomic=min(ATOMIC, config.bytes_per_second or ATOMIC),  # what takes longer than a second passes as it comes
        )
        from_upstream = FrameScanner(
            masked=False, max_message=config.max_message, rsv=rsv, asked=upstream_pings, asks=pings
        )
        self.client = (PacedLeg if config.is_paced else Leg)(self, from_client, pings, client, is_client=True)
        self.upstream = Leg(self, from_upstream, upstream_pings, upstream, is_client=False)
        self.client.other, self.upstream.other = self.upstream, self.client
        self.close: Close | None = None
        self.reason = self.at_fault = ""
        now = self.loop.time()
        self._close_by = math.inf
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
        self._close_by = now + CLOSE_TIMEOUT
        return any([leg.watch(now) for leg in (self.client, self.upstream)])

    def _look_at_legs(self, now: float) -> None:
        for leg in (self.client, self.upstream):
            leg.watch(now)
            if now >= leg.stalled_at:
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
        now = self.loop.time()
        for leg in (self.client, self.upstream):
            leg.watch(now)
        self._close_by = now + CLOSE_TIMEOUT
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
            leg.watch(self.loop.time())

    def leg_lost(self) -> None:
        if self.client.is_lost and self.upstream.is_lost:
            self._on_end(self)
