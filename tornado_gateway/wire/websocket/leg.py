"""One side of a WebSocket: a connection of the frame relay (wire/websocket/relay.py).

A Leg feeds the bytes of one side to a FrameScanner, and writes the frames that pass to the other Leg's transport. A Leg
knows whether the side answers pings, takes what is written, and has received a Close; the Relay decides what follows.
"""

import asyncio
import contextlib
import math
import secrets
from enum import IntFlag
from typing import Protocol

from tornado_gateway.policy.http.frames import CLOSE, PING, Close, FrameScanner, frame
from tornado_gateway.policy.http.pings import Pings
from tornado_gateway.wire.peer import unread
from tornado_gateway.wire.stall_watch import StallWatch
from tornado_gateway.wire.websocket.config import RelayConfig


class Hold(IntFlag):
    """Why a leg is not read."""

    NONE = 0
    OTHER_IS_SLOW = 1
    TOO_FAST = 2


class Predecessor(Protocol):
    """The protocol that had a leg's transport before the upgrade, and learns of the end of the connection."""

    def connection_lost(self, error: Exception | None, /) -> None: ...


class LegOwner(Protocol):
    """The relay, as a leg sees the relay; see Relay."""

    config: RelayConfig
    loop: asyncio.AbstractEventLoop
    close: Close | None
    next_check: float

    def end(self, close: Close, reason: str, /) -> None: ...

    def closed(self, leg: "Leg", close: Close, /) -> None: ...

    def broken(self, leg: "Leg", violation: Close, /) -> None: ...

    def finish_if_done(self, leg: "Leg", /) -> None: ...

    def leg_blocked(self, leg: "Leg", /) -> None: ...

    def leg_gone(self, leg: "Leg", /) -> None: ...

    def leg_lost(self) -> None: ...


class Leg(asyncio.Protocol):
    """One side's connection.

    Attributes:
        scanner: judges the bytes that come from this side.
        pings: the pings that were sent to this side.
        is_client: whether this is the client's side.
        close_sent: whether a Close has been sent to this side.
        is_gone: whether nothing more comes from this side, and nothing more is sent to this side.
        has_shut: whether a FIN came behind this side's Close: nothing more comes, but frames are still sent.
        is_lost: whether the connection is lost.
        is_blocked: whether the transport's write buffer is above its mark.
        pong_by: instant by which a byte must have come; infinite while no ping is unanswered.
    """

    __slots__ = (
        "_before", "_heard", "_held", "_close_received", "_pinged_at", "_watch", "has_shut", "is_blocked", "is_client",
        "is_gone", "is_lost", "close_sent", "other", "pings", "pong_by", "relay", "scanner", "transport",
    )  # fmt: skip

    other: "Leg"
    transport: asyncio.Transport

    def __init__(
        self, relay: LegOwner, scanner: FrameScanner, pings: Pings, before: Predecessor, *, is_client: bool
    ) -> None:
        self.relay, self.scanner, self.pings, self.is_client = relay, scanner, pings, is_client
        self._before = before
        self._held = Hold.NONE
        self._heard = 0  # bytes when the last ping was sent
        self._pinged_at = -math.inf  # instant from which on the pong is waited for
        self._watch = StallWatch()
        self._close_received = False
        self.close_sent = self.is_gone = self.is_lost = self.is_blocked = self.has_shut = False
        self.pong_by = math.inf

    # ---- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        scanner = self.scanner
        passing = scanner.feed(data)
        if passing:
            self.other.transport.write(passing)
        if scanner.is_over:
            self.close_received()

    def eof_received(self) -> bool:
        """A FIN has come: this side has half-closed the connection, or closed it; TCP does not tell which.

        Nothing may follow a Close (RFC 6455 §5.5.1), so a FIN behind a Close ends nothing early: this side is still
        sent the other side's frames, up to the Close that answers (§7.1.1). TLS has no half-close here: asyncio ends
        a TLS connection at the peer's closure alert.

        Returns:
            Whether the transport stays open for writing.
        """
        self.has_shut = self.scanner.close is not None and self.transport.can_write_eof() and not self.is_gone
        if self.has_shut:
            self.relay.finish_if_done(self)
        else:
            self.eof()
        return self.has_shut

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self.eof()
        self._before.connection_lost(error)
        self.relay.leg_lost()

    def pause_writing(self) -> None:
        self.is_blocked = True
        self.relay.leg_blocked(self)

    def resume_writing(self) -> None:
        self.is_blocked = False
        self.other.release(Hold.OTHER_IS_SLOW)

    # ---- for the relay

    @property
    def name(self) -> str:
        return "client" if self.is_client else "upstream"

    @property
    def is_done(self) -> bool:
        """Whether a Close has gone both ways, or nothing more can."""
        return self.is_gone or (self.close_sent and self._close_received)

    @property
    def passes(self) -> bool:
        """Whether frames from this side may still go to the other side."""
        return not (self.scanner.is_silent or self.scanner.is_over)

    @property
    def is_between(self) -> bool:
        """Whether this side is read, and all its bytes so far were whole frames and went to the other side."""
        return self.scanner.at_boundary and not self.scanner.is_holding and not self._held

    def close_received(self) -> None:
        """This side has sent a Close, or broken a rule."""
        if self._close_received:
            return
        self._close_received = True
        if self.scanner.violation:
            self.relay.broken(self, self.scanner.violation)
        elif self.scanner.close:
            self.relay.closed(self, self.scanner.close)

    def eof(self) -> None:
        """Nothing more comes from this side."""
        if not self.is_gone:
            self.is_gone = True
            self.other.scanner.mute()
            self.relay.leg_gone(self)

    def send_close(self, close: Close) -> None:
        """Send this side a Close behind the current frame, and nothing behind the Close."""
        if self.close_sent or self.is_gone:
            return
        self.close_sent = True
        now = self.other.scanner.insert(self._frame(CLOSE, close.payload()), last=True)
        if now:
            self.transport.write(now)

    def ping(self, now: float) -> None:
        """Ping this side, unless a frame to this side is incomplete, or bytes wait for this side."""
        if self.is_gone or not self.other.scanner.at_boundary or self._watch.waits:
            return
        if self.pong_by == math.inf or self.scanner.bytes != self._heard:
            self._heard = self.scanner.bytes
            self._expect_pong(now)
        self.transport.write(self._frame(PING, self.pings.own()))

    def _expect_pong(self, now: float) -> None:
        """Set `pong_by`. The ping may lie behind bytes in the peer's kernel; a slow program gets time to read on."""
        config = self.relay.config
        self._pinged_at = now
        self.pong_by = now + config.pong_timeout + min(self._watch.reading_time(now), config.stall_timeout)

    def watch(self, now: float) -> bool:
        """Whether this side has taken any of the bytes that waited at the last look."""
        if self.is_lost:
            return False
        passing = self.other.scanner
        return self._watch.look(self.transport, now, 0 if passing.is_silent else passing.passed)

    def is_silent(self, now: float) -> bool:
        """Whether this side has not answered a ping in time.

        Silence proves nothing while this side is not read, or while bytes wait for this side: then `stalled_at` judges.
        """
        if now < self.pong_by:
            return False
        self.pong_by = math.inf
        if self.scanner.bytes != self._heard or self._held:
            return False
        if self._watch.waits or self._watch.since > self._pinged_at:
            self._expect_pong(now)
            return False
        return True

    @property
    def stalled_at(self) -> float:
        """Instant at which this side has taken no byte for stall_timeout; infinite while no bytes wait."""
        return self._watch.since + self.relay.config.stall_timeout if self._watch.waits else math.inf

    def hold(self, why: Hold) -> None:
        """Read no further until all holds are released."""
        if not self._held and not self.transport.is_closing():
            self.transport.pause_reading()
        self._held |= why
        self.relay.next_check = -math.inf  # a transport that is not read does not tell of its end

    def let_answer(self) -> None:
        """Read on if no more frames pass: only a Close, or the end of the connection, is awaited."""
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
        """Whether no byte from this side waits to be read or to pass."""
        return not self.scanner.is_holding and not unread(self.transport)

    def finish(self) -> None:
        """End the connection once everything is sent."""
        if not self.transport.is_closing():
            self.transport.close()

    def half_close(self) -> None:
        """Send a FIN, and read on: closing a socket with unread bytes resets the connection and destroys the Close."""
        if not self.transport.is_closing() and self.transport.can_write_eof() and self.other.scanner.at_boundary:
            with contextlib.suppress(OSError):  # asyncio's own shutdown() of a socket that was just reset
                self.transport.write_eof()

    def _frame(self, opcode: int, payload: bytes) -> bytes:
        return frame(opcode, payload, None if self.is_client else secrets.token_bytes(4))
