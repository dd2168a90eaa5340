"""One of a WebSocket's two connections, as the frame relay (wire/websocket/relay.py) holds it.

A Leg hands what its side sends to a FrameScanner, and what passes to the other Leg's transport. It knows whether its
side is heard, takes what is written, and has had its Close; what follows from that is the Relay's to decide.
"""

import asyncio
import contextlib
import math
import secrets
from enum import IntFlag
from typing import Protocol

from tornado_gateway.policy.http.frames import CLOSE, PING, Close, FrameScanner, frame
from tornado_gateway.policy.http.pings import Pings
from tornado_gateway.policy.http.websocket import RelayConfig
from tornado_gateway.wire.peer import unread
from tornado_gateway.wire.stall_watch import StallWatch


class Hold(IntFlag):
    """Why a leg is not read."""

    NONE = 0
    OTHER_IS_SLOW = 1
    TOO_FAST = 2


class Predecessor(Protocol):
    """The protocol that had a leg's transport before the upgrade, and has to learn of its end."""

    def connection_lost(self, error: Exception | None, /) -> None: ...


class LegOwner(Protocol):
    """What a leg asks of the relay that holds both legs; see Relay."""

    config: RelayConfig
    loop: asyncio.AbstractEventLoop
    close: Close | None
    due: float

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
        scanner: judges what comes from this side.
        pings: those that this side has been sent.
        is_client: whether it is the client's side.
        is_told: whether a Close has been sent to it.
        is_gone: whether nothing more comes from it, and nothing more is sent to it.
        has_shut: whether a FIN came behind its Close: nothing more comes from it, but what it has to hear is sent.
        is_lost: whether its transport is no more.
        is_blocked: whether it does not take what is written.
        pong_by: instant at which it must have been heard; infinite while no ping is out.
    """

    __slots__ = (
        "_before", "_heard", "_held", "_is_over", "_pinged_at", "_watch", "has_shut", "is_blocked", "is_client",
        "is_gone", "is_lost", "is_told", "other", "pings", "pong_by", "relay", "scanner", "transport",
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
        self._is_over = False
        self.is_told = self.is_gone = self.is_lost = self.is_blocked = self.has_shut = False
        self.pong_by = math.inf

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
        if self.is_gone or not self.other.scanner.at_boundary or self._watch.waits:
            return
        if self.pong_by == math.inf or self.scanner.bytes != self._heard:
            self._heard = self.scanner.bytes
            self._expect_pong(now)
        self.transport.write(self._frame(PING, self.pings.own()))

    def _expect_pong(self, now: float) -> None:
        """The ping may lie behind what the peer's kernel holds; a slow program has the time to come to it."""
        config = self.relay.config
        self._pinged_at = now
        self.pong_by = now + config.pong_timeout + min(self._watch.reading_time(now), config.stall_timeout)

    def watch(self, now: float) -> bool:
        """See whether this side takes what waits for it; whether it has taken any of it since the last look."""
        if self.is_lost:
            return False
        passing = self.other.scanner
        return self._watch.look(self.transport, now, 0 if passing.is_silent else passing.passed)

    def is_silent(self, now: float) -> bool:
        """Whether it has not answered a ping in time.

        Nobody can know that while it is not read, or while something waits for it: then `is_stalled()` judges.
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
        """Instant at which it has taken nothing of what waits for it for too long; infinite while nothing waits."""
        return self._watch.since + self.relay.config.stall_timeout if self._watch.waits else math.inf

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
        return frame(opcode, payload, None if self.is_client else secrets.token_bytes(4))
