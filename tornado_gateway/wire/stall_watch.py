"""Whether a peer reads the bytes that were written to the connection: tells slow peers from dead peers.

    our transport ──► our kernel's send queue ──► the peer's kernel ──► the peer's program
    └──────────── waiting ─────────────────┘     └─ acknowledged: taken ───┘

Silence proves nothing while bytes wait: the peer sends a pong, an answer or a Close only after reading the waiting
bytes. A peer that acknowledges bytes is alive; a peer that acknowledges none of the waiting bytes for long is dead.

On Linux the kernel reports the acknowledged bytes and the bytes in the send queue, and only an acknowledgement counts
as progress. Bytes accepted by our kernel do not count: the send buffer takes a heartbeat or an event of 100 bytes
whether or not the peer reads.
Elsewhere (macOS, unix sockets) only the bytes given to the kernel are known: a very slow reader may show no progress
until about a third of the send buffer is empty.
"""

import asyncio
import math

from tornado_gateway.wire.peer import send_queue

PEER_BUFFER = 256 * 1024  # greatest receive buffer of a slow reader, unless the reader's program asked for more
LONGEST_READING = 60.0  # seconds


class StallWatch:
    """Watches the progress of a peer that reads.

    Attributes:
        waits: whether bytes waited for the peer at the last look.
        since: instant of the last look that saw progress or the first waiting bytes; -math.inf before.
    """

    __slots__ = ("_began_at", "_began_with", "_taken", "since", "waits")

    def __init__(self) -> None:
        self.waits = False
        self.since = -math.inf
        self._taken = 0  # bytes taken by the last look
        self._began_with, self._began_at = 0, 0.0  # bytes taken and instant when bytes began to wait

    def look(self, transport: asyncio.Transport, now: float, written: int = 0) -> bool:
        """Measure the peer's progress.

        Args:
            transport: not yet lost.
            now: loop time.
            written: bytes written to the transport so far; used where the kernel does not report acknowledgements.

        Returns:
            Whether the peer has taken waiting bytes since the last look.
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
        """Note that no bytes wait any more, so that the next look measures no progress."""
        self.waits = False

    def reading_time(self, now: float) -> float:
        """Seconds that the peer's program may still need to read its kernel's receive buffer, at the rate so far.

        At most LONGEST_READING; 0 if no bytes have waited.
        """
        taken = self._taken - self._began_with
        if taken <= 0:
            return 0.0
        seconds = PEER_BUFFER * (self.since - self._began_at) / taken
        return max(0.0, self.since + min(seconds, LONGEST_READING) - now)
