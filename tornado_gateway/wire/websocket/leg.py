"""A leg: one of the two connections of the frame relay (wire/websocket/relay.py).

A side is the client or the upstream. A Leg gives the bytes of its side to a FrameScanner, and writes the bytes that
pass to the other Leg's transport. A Leg notes pongs, stalls and Closes of its side; the Relay decides what to do.

Each read and each write of a message is one system call, also of 64 KiB. Of an echoed message, 0.6 µs are spent here
and in the FrameScanner, and the kernel takes four fifths of the CPU time. Tried for messages of 64 KiB, and not kept:

* a BufferedProtocol that reads into a shared buffer: saves one of three copies, 4 % of the time; no measured gain
* splice(2) of all but the head of a frame: 71 instead of 61 µs for an echo; saves all copies, but the kernel takes as
  long for three more calls, and the process twice as long
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
    """The protocol that had a leg's transport before the upgrade; told when the connection is lost."""

    def connection_lost(self, error: Exception | None, /) -> None: ...


class LegOwner(Protocol):
    """The relay, as a leg uses it; see Relay."""

    config: RelayConfig
    loop: asyncio.AbstractEventLoop
    close: Close | None
    next_check: float

    def end(self, close: Close, reason: str, /) -> None: ...

    def closed(self, leg: "Leg", close: Close, /) -> None: ...

    def broken(self, leg: "Leg", violation: Close, /) -> None: ...

    def finish_if_done(self, leg: "Leg", /) -> None: ...

    def leg_blocked(self, leg: "Leg", /) -> None: ...

    def leg_ended(self, leg: "Leg", /) -> None: ...

    def leg_lost(self) -> None: ...


class Leg(asyncio.Protocol):
    """The connection of one side.

    Attributes:
        scanner: checks the frames from this side.
        pings: pings that were sent to this side.
        is_client: whether this side is the client.
        is_close_sent: whether a Close was sent to this side.
        is_gone: whether the connection has ended, so that nothing is received or sent any more.
        has_half_closed: whether this side sent a FIN after a Close; frames are still sent to this side.
        is_lost: whether the transport is closed.
        is_blocked: whether this side does not read, so that the transport's write buffer is full.
        pong_by: instant by which the pong, or any byte, must come; infinite while no ping is unanswered.
    """

    __slots__ = (
        "_before", "_has_closed", "_heard", "_held", "_pinged_at", "_watch", "has_half_closed", "is_blocked",
        "is_client", "is_close_sent", "is_gone", "is_lost", "other", "pings", "pong_by", "relay", "scanner",
        "transport",
    )  # fmt: skip

    other: "Leg"
    transport: asyncio.Transport

    def __init__(
        self, relay: LegOwner, scanner: FrameScanner, pings: Pings, before: Predecessor, *, is_client: bool
    ) -> None:
        self.relay, self.scanner, self.pings, self.is_client = relay, scanner, pings, is_client
        self._before = before
        self._held = Hold.NONE
        self._heard = 0  # scanner.bytes when the last ping was sent
        self._pinged_at = -math.inf  # instant at which the wait for the pong began
        self._watch = StallWatch()
        self._has_closed = False
        self.is_close_sent = self.is_gone = self.is_lost = self.is_blocked = self.has_half_closed = False
        self.pong_by = math.inf

    # ---- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        scanner = self.scanner
        forwarded = scanner.feed(data)
        if forwarded:
            self.other.transport.write(forwarded)
        if scanner.has_ended:
            self.close_received()

    def eof_received(self) -> bool:
        """Handle a FIN, by which this side has half-closed or closed its connection.

        A FIN after a Close is no loss, because nothing follows a Close (RFC 6455 §5.5.1). This side is then still sent
        the other side's frames, up to the answering Close (§7.1.1). Over TLS the connection ends, because asyncio has
        no half-close for TLS.

        Returns:
            Whether the transport stays open for writing.
        """
        self.has_half_closed = self.scanner.close is not None and self.transport.can_write_eof() and not self.is_gone
        if self.has_half_closed:
            self.relay.finish_if_done(self)
        else:
            self.connection_ended()
        return self.has_half_closed

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self.connection_ended()
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
        """Whether both sides have sent a Close, or the connection has ended."""
        return self.is_gone or (self.is_close_sent and self._has_closed)

    @property
    def passes(self) -> bool:
        """Whether bytes from this side may still be forwarded."""
        return not (self.scanner.is_silent or self.scanner.has_ended)

    @property
    def is_between(self) -> bool:
        """Whether all bytes from this side were forwarded in whole frames, and reading is not paused."""
        return self.scanner.at_boundary and not self.scanner.is_holding and not self._held

    def close_received(self) -> None:
        """Report this side's Close or violation to the relay, once."""
        if self._has_closed:
            return
        self._has_closed = True
        if self.scanner.violation:
            self.relay.broken(self, self.scanner.violation)
        elif self.scanner.close:
            self.relay.closed(self, self.scanner.close)

    def connection_ended(self) -> None:
        """Report the end of this side's connection to the relay, once."""
        if not self.is_gone:
            self.is_gone = True
            self.other.scanner.mute()
            self.relay.leg_ended(self)

    def send_close(self, close: Close) -> None:
        """Send this side a Close at the next frame boundary, as the last frame."""
        if self.is_close_sent or self.is_gone:
            return
        self.is_close_sent = True
        now = self.other.scanner.insert(self._frame(CLOSE, close.payload()), last=True)
        if now:
            self.transport.write(now)

    def ping(self, now: float) -> None:
        """Send this side a ping, unless a frame is being sent or bytes wait for this side."""
        if self.is_gone or not self.other.scanner.at_boundary or self._watch.waits:
            return
        if self.pong_by == math.inf or self.scanner.bytes != self._heard:
            self._heard = self.scanner.bytes
            self._expect_pong(now)
        self.transport.write(self._frame(PING, self.pings.own()))

    def _expect_pong(self, now: float) -> None:
        """Set the deadline of the pong, with time for a slow program to read the bytes before the ping."""
        config = self.relay.config
        self._pinged_at = now
        self.pong_by = now + config.pong_timeout + min(self._watch.reading_time(now), config.stall_timeout)

    def watch(self, now: float) -> bool:
        """Update the stall watch; return whether this side has taken waiting bytes since the last call."""
        if self.is_lost:
            return False
        forwarded = self.other.scanner
        return self._watch.look(self.transport, now, 0 if forwarded.is_silent else forwarded.passed)

    def check_pong(self, now: float) -> bool:
        """Whether this side missed the deadline of a pong; ends the deadline or sets a new one.

        False while reading is paused or bytes wait on either way, because the pong may be delayed; see `stalled_at`.
        """
        if now < self.pong_by:
            return False
        self.pong_by = math.inf
        if self.scanner.bytes != self._heard or self._held or unread(self.transport):
            return False
        if self._watch.waits or self._watch.since > self._pinged_at:
            self._expect_pong(now)
            return False
        return True

    @property
    def stalled_at(self) -> float:
        """Instant at which this side counts as stalled: stall_timeout after its last progress; infinite while no bytes
        wait for this side."""
        return self._watch.since + self.relay.config.stall_timeout if self._watch.waits else math.inf

    def hold(self, why: Hold) -> None:
        """Pause reading until all holds are released."""
        if not self._held and not self.transport.is_closing():
            self.transport.pause_reading()
        self._held |= why
        self.relay.next_check = -math.inf  # a paused transport does not notice its end: check at once

    def let_answer(self) -> None:
        """Resume reading if nothing from this side is forwarded any more, to receive its Close or FIN."""
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
        """Whether no byte from this side is held back or unread."""
        return not self.scanner.is_holding and not unread(self.transport)

    def finish(self) -> None:
        """Close the connection after all written bytes are sent."""
        if not self.transport.is_closing():
            self.transport.close()

    def half_close(self) -> None:
        """Half-close the connection. Received bytes are still read and dropped: a reset would destroy the Close."""
        if not self.transport.is_closing() and self.transport.can_write_eof() and self.other.scanner.at_boundary:
            with contextlib.suppress(OSError):  # asyncio's shutdown() of a reset socket raises
                self.transport.write_eof()

    def _frame(self, opcode: int, payload: bytes) -> bytes:
        return frame(opcode, payload, None if self.is_client else secrets.token_bytes(4))
