"""The frame relay: two connections, one WebSocket.

    client ──frames──► Leg ──► FrameScanner ──► the other Leg's transport ──► upstream
           ◄─────────────────── FrameScanner ◄── Leg ◄──────────────frames───

Frames pass unchanged, with their masks, compression and fragments: each direction's FrameScanner
(policy/http/frames.py) reads only heads of frames. The relay also pings both sides, ends WebSockets that are idle, too
fast, too slow or against the rules, and ends each side when the other side ends, with a code for the cause and in
bounded time.

Cause                                 Close to the client       Close to the upstream
────────────────────────────────────  ────────────────────────  ────────────────────────
either side sent a Close              forwarded                 forwarded
the upstream's connection was lost    1011 upstream lost
the client's connection was lost                                1001 client gone
either side broke a rule              1002, 1007 or 1009        the same
no pong, or any byte, in time         1011 pong timeout         the same
no message for too long               1001 idle                 the same
the stream moves to another endpoint  1001 or 1012 rebalanced   the same
an operator closes the stream         1001 or 1012 closed       the same
the client's token expired            4401 token expired        1001 token expired
the client's token was revoked        4401 token revoked        1001 token revoked
the gateway stops                     1001 or 1012              the same

A Close cannot be inserted into a frame: if a side is lost in the middle of a large frame (above ATOMIC in
policy/http/frames.py), the other side's connection ends without a Close. After a revocation, so does the connection of
a side that has got a part of a large frame.

Flow control is the transports' own: while one side does not read, reading from the other side is paused, and the
opposite direction goes on. A side that reads nothing for stall_timeout is cut. After a Close the same holds while
frames still pass.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

from tornado_gateway.policy.http.expiry import NEVER, Expiry
from tornado_gateway.policy.http.frames import (
    ABNORMAL,
    ATOMIC,
    GOING_AWAY,
    INTERNAL,
    TOKEN_ENDED,
    TOO_BIG,
    TRY_AGAIN_LATER,
    Close,
    FrameScanner,
)
from tornado_gateway.policy.http.pings import Pings
from tornado_gateway.policy.http.stream_limits import high_water
from tornado_gateway.policy.http.websocket import RelayConfig
from tornado_gateway.policy.principal import Holder
from tornado_gateway.policy.upstream.endpoint import WS
from tornado_gateway.policy.upstream.stream_totals import Carried, StreamTotals
from tornado_gateway.wire.peer import has_ended
from tornado_gateway.wire.websocket.leg import Hold, Leg, Predecessor
from tornado_gateway.wire.websocket.paced_leg import PacedLeg

CLOSE_TIMEOUT = 5.0  # seconds for both sides to answer a Close and end; then both connections are cut
FIN_TIMEOUT = 1.0  # seconds for the upstream to end its connection after both Closes


class Relay:
    """A WebSocket between a client and an upstream.

    Args:
        config: limits and times.
        rsv: reserved bits that the negotiated extensions may set.
        client, upstream: the protocols of the two transports so far.
        on_end: called once, when both connections have ended.
        totals: of the service's WebSockets.
        expiry: expiry of the client's token.

    Attributes:
        next_check: instant (loop time) of the next `check()`.
        close: the Close of a side or of the gateway that ended the WebSocket; None while open.
        reason: the gateway's reason for the end, for the access log; "" if a side sent the Close.
        at_fault: the side at fault: "client", "upstream" or "".
        number, request: see Stream in upkeep/streams.py.
    """

    __slots__ = (
        "_active_at", "_activity", "_close_by", "_expiry", "_next_ping", "_on_end", "at_fault", "client",
        "close", "config", "next_check", "loop", "number", "reason", "request", "totals", "upstream",
    )  # fmt: skip

    kind = WS
    number: int
    request: Any

    def __init__(
        self,
        config: RelayConfig,
        rsv: int,
        client: Predecessor,
        upstream: Predecessor,
        on_end: Callable[["Relay"], None],
        totals: StreamTotals,
        *,
        expiry: Expiry = NEVER,
    ) -> None:
        self.config, self._on_end, self._expiry, self.totals = config, on_end, expiry, totals
        self.loop = asyncio.get_running_loop()
        pings, upstream_pings = Pings(config.ping_token), Pings(config.ping_token)
        from_client = FrameScanner(
            masked=True,
            max_message=config.max_message,
            rsv=rsv,
            pings_to_sender=pings,
            pings_to_receiver=upstream_pings,
            paced=bool(config.messages_per_second),
            atomic=min(ATOMIC, config.bytes_per_second or ATOMIC),  # larger frames would take over a second
        )
        from_upstream = FrameScanner(
            masked=False,
            max_message=config.max_message,
            rsv=rsv,
            pings_to_sender=upstream_pings,
            pings_to_receiver=pings,
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
        self.next_check = self._time_of_next_check(now)

    def start(
        self,
        client: asyncio.Transport,
        from_client: bytes,
        upstream: asyncio.Transport,
        from_upstream: bytes,
        *,
        client_half_closed: bool = False,
    ) -> None:
        """Begin to relay.

        Args:
            client, upstream: the transports.
            from_client, from_upstream: bytes that were read behind the handshakes.
            client_half_closed: whether the client's FIN came before the handshake was answered.
        """
        limit = high_water(self.config.max_buffered, cuts_slow=self.config.cuts_slow)
        self.client.transport, self.upstream.transport = client, upstream
        for leg, early in ((self.client, from_client), (self.upstream, from_upstream)):
            leg.transport.set_write_buffer_limits(high=limit)
            if early:
                leg.data_received(early)
        if client_half_closed and not self.client.eof_received():
            self.client.finish()

    # ---- figures

    @property
    def carried(self) -> Carried:
        client, upstream = self.client, self.upstream
        waiting = sum(leg.transport.get_write_buffer_size() for leg in (client, upstream) if not leg.is_lost)
        up, down = client.scanner, upstream.scanner
        return Carried(up.messages, down.messages, up.bytes, down.bytes, waiting)

    @property
    def close_code(self) -> int:
        """The code of the Close that ended the WebSocket; 1006 without a Close frame (RFC 6455 §7.1.5)."""
        return self.close.code if self.close else ABNORMAL

    def count_end(self, seconds: float) -> None:
        self.totals.add(self.carried, seconds, self.close_code)

    # ---- time

    def check(self, now: float) -> None:
        """Check all deadlines, and set `next_check`."""
        for leg in (self.client, self.upstream):
            if leg.is_held and not leg.is_gone and has_ended(leg.transport, by_fin=leg.has_said_all):
                leg.transport.abort()
        if self.close:
            if now >= self._close_by and not self._check_progress(now):
                self.abort()
        else:
            self._check_legs(now)
        if self.close is None:
            self._check_activity(now)
        if self.close is None and self._expiry.has_passed(now, time.time()):
            self._end_with_token("expired")
        self.next_check = self._time_of_next_check(now)

    def _check_progress(self, now: float) -> bool:
        """Extend the closing deadline; return whether a side still reads the bytes before its Close."""
        self._close_by = now + CLOSE_TIMEOUT
        return any([leg.watch(now) for leg in (self.client, self.upstream)])

    def _check_legs(self, now: float) -> None:
        for leg in (self.client, self.upstream):
            leg.watch(now)
            if now >= leg.stalled_at:
                self._fail(leg, "client_stalled" if leg.is_client else "upstream_stalled")
                leg.transport.abort()
            elif leg.check_pong(now):
                self._fail(leg, "pong_timeout")
                self.end(Close(INTERNAL, b"pong timeout"), "pong_timeout")

    def _check_activity(self, now: float) -> None:
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

    def _time_of_next_check(self, now: float) -> float:
        """The instant of the next check. Messages set no timer, so idle_timeout is checked eight times as often."""
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
            close: the Close for the client, and for the upstream unless `for_upstream` is given.
            reason: the reason for the access log.
            for_upstream: another Close for the upstream.
        """
        if self.close:
            return
        self.reason = self.reason or reason
        self._begin_to_close(close)
        self.client.send_close(close)
        self.upstream.send_close(for_upstream or close)
        for leg in (self.client, self.upstream):
            leg.let_answer()

    def _end_with_token(self, how: str) -> None:
        """End both sides because the client's token has ended.

        The upstream is sent 1001, because 4401 is in the private range and may mean something else to the upstream.
        """
        reason = f"token {how}".encode("ascii")
        self.end(Close(TOKEN_ENDED, reason), f"token_{how}", for_upstream=Close(GOING_AWAY, reason))

    @property
    def holder(self) -> Holder:
        """Whose token opened the WebSocket."""
        return self._expiry.holder

    def revoke(self) -> None:
        """End both sides because the client's token was revoked. The receiver of a part of a large frame is cut off:
        the rest of the frame could take long."""
        self._end_with_token("revoked")
        for leg in (self.client, self.upstream):
            if not (leg.scanner.at_boundary or leg.other.is_lost):
                leg.other.transport.abort()

    def drain(self) -> None:
        """End both sides because the gateway stops."""
        self.end(Close(self.config.drain_code, b"the gateway stops"), "draining")

    @property
    def is_movable(self) -> bool:
        """Whether the WebSocket can be ended now without loss of received bytes."""
        return self.close is None and self.client.is_between and self.upstream.is_between

    def move(self) -> None:
        """End both sides, so that the client reconnects to another endpoint."""
        self.end(Close(self.config.drain_code, b"rebalanced"), "rebalanced")

    def dismiss(self) -> None:
        """End both sides because an operator has closed the WebSocket."""
        self.end(Close(self.config.drain_code, b"closed"), "closed_by_operator")

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
        """Handle the Close of a side, which was forwarded unless the side's direction was silent."""
        if not leg.scanner.is_silent:
            leg.other.is_close_sent = True
        if self.close is None:
            self._begin_to_close(close)
        for each in (leg, leg.other):
            each.let_answer()
            self.finish_if_done(each)

    def broken(self, leg: Leg, violation: Close) -> None:
        """Handle a side's violation of RFC 6455."""
        if self.close is None:
            self._fail(leg, "message_too_big" if violation.code == TOO_BIG else "protocol_error")
        self.end(violation, self.reason)
        leg.half_close()

    def leg_ended(self, leg: Leg) -> None:
        """Handle the end of a side's connection."""
        other = leg.other
        if other.is_gone:
            return
        if not leg.scanner.at_boundary:
            self._lost(leg)
            self.close = Close(ABNORMAL, b"")  # a Close cannot be sent within a frame
            other.transport.close()
            return
        if other.scanner.close:
            other.send_close(other.scanner.close)  # the lost side cannot answer the Close
        elif self.close is None:
            self._lost(leg)
        other.let_answer()
        self.finish_if_done(other)

    def finish_if_done(self, leg: Leg) -> None:
        """Close a side's connection after both Closes, if the side is the client or has half-closed.

        Another upstream has FIN_TIMEOUT to close its connection itself (RFC 6455 §7.1.1). A client that broke a rule
        may still be sending, so its connection was only half-closed by `half_close()`.
        """
        if not leg.is_done:
            return
        if leg.has_half_closed or (leg.is_client and not leg.scanner.violation):
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
        """Handle a side that does not read: pause the other side, or end both with cuts_slow."""
        if self.config.cuts_slow and self.close is None:
            self._fail(leg, "slow_consumer")
            self.end(Close(TRY_AGAIN_LATER, b"slow consumer"), "slow_consumer")
        if leg.other.passes:
            leg.other.hold(Hold.OTHER_IS_SLOW)
            leg.watch(self.loop.time())

    def leg_lost(self) -> None:
        if self.client.is_lost and self.upstream.is_lost:
            self._on_end(self)
