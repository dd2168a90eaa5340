"""The frame relay: two connections, one WebSocket.

    client ──frames──► Leg ──► FrameScanner ──► the other Leg's transport ──► upstream
           ◄─────────────────── FrameScanner ◄── Leg ◄──────────────frames───

Frames pass as they were sent, masked or not, compressed or not, in the same fragments:
each direction's FrameScanner (policy/http/frames.py) reads frame heads only. The relay
pings both sides, ends a WebSocket that is idle, unanswered, too fast, too slow or against
the rules, and when one side ends, ends the other side in bounded time with a code that
says why.

Cause                                 Close to the client       Close to the upstream
────────────────────────────────────  ────────────────────────  ────────────────────────
one side sent a Close                 as it was sent            as it was sent
the upstream's connection was lost    1011 upstream lost
the client's connection was lost                                1001 client gone
one side broke a rule                 1002, 1007 or 1009        the same
no pong, or any byte, in time         1011 pong timeout         the same
no message for too long               1001 idle                 the same
moved to another endpoint             1001 or 1012 rebalanced   the same
the client's token expired            4401 token expired        1001 token expired
the gateway stops                     1001 or 1012              the same

A Close cannot be put into the middle of a frame: if one side is lost in the middle of
a large frame (above policy/http/frames.py's ATOMIC), the other side's connection ends
without a Close.

Flow control is the transports': while one side does not take what is written, the other
side is not read, and the opposite direction flows on. A side that takes nothing for too
long is cut, and so is lost to the other side. The same holds behind a Close, as long as
frames still pass.
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
from tornado_gateway.wire.peer import has_ended
from tornado_gateway.wire.websocket.config import RelayConfig
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
        next_check: instant (loop time) of the next `check()`.
        close: the Close that ended the WebSocket, sent by a side or by the gateway; None while the WebSocket is open.
        reason: why the gateway ended the WebSocket, in the words of the access log; "" if a side ended the WebSocket.
        at_fault: the side at fault: "client", "upstream" or "".
    """

    __slots__ = (
        "_active_at", "_activity", "_close_by", "_expiry", "_next_ping", "_on_end", "at_fault", "client",
        "close", "config", "next_check", "loop", "reason", "upstream",
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
            atomic=min(
                ATOMIC, config.bytes_per_second or ATOMIC
            ),  # a frame longer than a second's bytes passes in parts
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
        self.next_check = self._when_to_check(now)

    def start(
        self,
        client: asyncio.Transport,
        from_client: bytes,
        upstream: asyncio.Transport,
        from_upstream: bytes,
        *,
        client_has_shut: bool = False,
    ) -> None:
        """Begin to relay, with the bytes that came behind the handshakes.

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

    @property
    def buffered(self) -> int:
        """Bytes that wait for the two sides."""
        return sum(leg.transport.get_write_buffer_size() for leg in (self.client, self.upstream) if not leg.is_lost)

    # ---- time

    def check(self, now: float) -> None:
        """Act on what is overdue: pings, pongs, idleness, stalls, a Close without an answer, an expired token."""
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
        self.next_check = self._when_to_check(now)

    def _makes_progress(self, now: float) -> bool:
        """Whether a side that has much to read before the Close is still reading."""
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

    def _when_to_check(self, now: float) -> float:
        """Instant of the next check. Messages are only counted, so idleness is checked eight times per idle_timeout."""
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
            for_upstream: the Close for the upstream, if not the same.
        """
        if self.close:
            return
        self.reason = self.reason or reason
        self._begin_to_close(close)
        self.client.send_close(close)
        self.upstream.send_close(for_upstream or close)
        for leg in (self.client, self.upstream):
            leg.let_answer()

    def _expire(self) -> None:
        """End both sides because the client's token has expired.

        To the upstream, the client goes away: the upstream may give the private code 4401 a meaning of its own.
        """
        reason = b"token expired"
        self.end(Close(TOKEN_EXPIRED, reason), "token_expired", for_upstream=Close(GOING_AWAY, reason))

    def drain(self) -> None:
        """End both sides because the gateway stops."""
        self.end(Close(self.config.drain_code, b"the gateway stops"), "draining")

    @property
    def is_movable(self) -> bool:
        """Whether the WebSocket can be ended without losing bytes that have come from either side."""
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
        self.next_check = min(self.next_check, self._close_by)

    def closed(self, leg: Leg, close: Close) -> None:
        """A side has sent a Close; unless its direction was silent, the other side has it now."""
        if not leg.scanner.is_silent:
            leg.other.close_sent = True
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
        leg.half_close()

    def leg_gone(self, leg: Leg) -> None:
        """A side's connection has ended, or is about to."""
        other = leg.other
        if other.is_gone:
            return
        if not leg.scanner.at_boundary:
            self._lost(leg)
            self.close = Close(ABNORMAL, b"")  # no Close can be sent within a frame
            other.transport.close()
            return
        if other.scanner.close:
            other.send_close(other.scanner.close)  # the answer of the side that is gone will not come
        elif self.close is None:
            self._lost(leg)
        other.let_answer()
        self.finish_if_done(other)

    def finish_if_done(self, leg: Leg) -> None:
        """End the connection to the client, or to an upstream that has half-closed.

        Any other upstream may end the connection itself (RFC 6455 §7.1.1), within FIN_TIMEOUT. A client that broke a
        rule may be sending on: `half_close()` has told the client, and the client ends the connection.
        """
        if not leg.is_done:
            return
        if leg.has_shut or (leg.is_client and not leg.scanner.violation):
            leg.finish()
        elif self.client.is_gone:
            self._close_by = self.next_check = min(self._close_by, self.loop.time() + FIN_TIMEOUT)

    def _lost(self, leg: Leg) -> None:
        if self.close:
            return
        close = Close(GOING_AWAY, b"client gone") if leg.is_client else Close(INTERNAL, b"upstream lost")
        if not self.reason:
            self._fail(leg, "client_gone" if leg.is_client else "upstream_lost")
        self.end(close, self.reason)

    def leg_blocked(self, leg: Leg) -> None:
        """The write buffer of a side is full."""
        if self.config.cuts_slow and self.close is None:
            self._fail(leg, "slow_consumer")
            self.end(Close(TRY_AGAIN_LATER, b"slow consumer"), "slow_consumer")
        if leg.other.passes:
            leg.other.hold(Hold.OTHER_IS_SLOW)
            leg.watch(self.loop.time())

    def leg_lost(self) -> None:
        if self.client.is_lost and self.upstream.is_lost:
            self._on_end(self)
