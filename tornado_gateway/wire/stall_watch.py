"""Whether a peer takes the bytes that are written: the only sign that tells a slow peer from a dead peer.

    our transport ──► our kernel's send queue ──► the peer's kernel ──► the peer's program
    └──────────── waits ───────────────────┘     └─ acknowledged: is taken ─┘

Silence proves nothing while bytes wait here: the peer sends a pong, a response or a Close only behind bytes that the
peer has yet to read. A peer that acknowledges is alive; a peer that takes none of the waiting bytes for long enough is
dead.

Linux tells how many bytes the peer has acknowledged, and how many the peer's window, or the network, keeps in the send
queue. There only an acknowledgement is progress. A write that our kernel takes is no progress: while the send buffer
has room, the kernel takes a heartbeat or an event of 100 bytes whether or not the peer reads.
Elsewhere (macOS, unix sockets) progress is bytes that the transport hands to the kernel: a peer that reads very slowly
may show no progress until about a third of the send buffer is empty.
"""

import asyncio
import math

from tornado_gateway.wire.peer import send_queue

PEER_BUFFER = 256 * 1024  # bytes that the kernel of a slow reader holds at most, without SO_RCVBUF
LONGEST_READING = 60.0  # seconds


class StallWatch:
    """Looks at a transport's peer, now and then.

    Attributes:
        waits: whether bytes waited for the peer at the last look.
        since: instant of the last look at which the peer had taken some of the waiting bytes, or at which bytes began
            to wait; -math.inf before any.
    """

    __slots__ = ("_began_at", "_began_with", "_taken", "since", "waits")

    def __init__(self) -> None:
        self.waits = False
        self.since = -math.inf
        self._taken = 0  # bytes at the last look
        self._began_with, self._began_at = 0, 0.0  # when something began to wait

    def look(self, transport: asyncio.Transport, now: float, written: int = 0) -> bool:
        """Compare with the last look.

        Args:
            transport: of a connection that has not been lost.
            written: bytes that were written to the transport so far; looked at only where the kernel does not tell.

        Returns:
            Whether the peer has taken some of the bytes that waited at the last look.
        """
        unsent = transport.get_write_buffer_size()
        queued, acknowledged = send_queue(transport)
        taken = written - unsent if acknowledged is None else acknowledged
        waited, self.waits = self.waits, unsent + queued > 0
        has_moved = waited and taken > self._taken
        if has_moved or (self.waits and not waited):
            self.since = now
        if self.waits and not waited:
            self._began_with, self._began_at = taken, now
        self._taken = taken
        return has_moved

    def forget(self) -> None:
        """No byte waits any more; the bytes taken until the next look are no progress."""
        self.waits = False

    def reading_time(self, now: float) -> float:
        """Seconds that the peer's program may need to read the bytes in the peer's kernel, at the pace so far.

        Up to LONGEST_READING; 0 if no byte has waited.
        """
        taken = self._taken - self._began_with
        if taken <= 0:
            return 0.0
        seconds = PEER_BUFFER * (self.since - self._began_at) / taken
        return max(0.0, self.since + min(seconds, LONGEST_READING) - now)
