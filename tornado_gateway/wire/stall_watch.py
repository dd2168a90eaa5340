"""Whether a peer takes what is written to it: the one sign by which slow peers are told from dead ones.

    our transport ──► our kernel's send queue ──► the peer's kernel ──► the peer's program
    └──────────── waits ───────────────────┘     └─ acknowledged: is taken ─┘

Silence proves nothing while something waits here: a pong, an answer or a Close comes only behind what the peer has yet
to read. A peer that acknowledges is alive; a peer that takes nothing of what waits for long enough is not.

Linux tells how much the peer has acknowledged, and how much its window, or the network, keeps in the send queue.
There only an acknowledgement is progress. What our kernel takes is none: while its send buffer has room, a heartbeat or
an event of 100 bytes goes in whether or not the peer reads.
Elsewhere (macOS, unix sockets) only what the transport hands to the kernel is seen: a peer that reads very slowly may
show no progress there for as long as it takes to empty about a third of the send buffer.
"""

import asyncio
import math

from tornado_gateway.wire.peer import send_queue

PEER_BUFFER = 256 * 1024  # bytes that the kernel of a slow reader holds at most, unless its program asked for more
LONGEST_READING = 60.0  # seconds


class StallWatch:
    """Looks at a transport's peer, now and then.

    Attributes:
        waits: whether anything waited for the peer at the last look.
        since: instant of the last look at which the peer had taken something of what waited, or at which something
            began to wait; -math.inf before any.
    """

    __slots__ = ("_began_at", "_began_with", "_taken", "since", "waits")

    def __init__(self) -> None:
        self.waits = False
        self.since = -math.inf
        self._taken = 0  # bytes at the last look
        self._began_with, self._began_at = 0, 0.0  # when something began to wait

    def look(self, transport: asyncio.Transport, now: float, written: int = 0) -> bool:
        """See how the peer is getting on.

        Args:
            transport: of a connection that has not been lost.
            written: bytes that were written to the transport so far; looked at only where the kernel does not tell.

        Returns:
            Whether the peer has taken something of what waited since the last look.
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
        """Nothing waits any more; what has been taken until the next look says nothing."""
        self.waits = False

    def reading_time(self, now: float) -> float:
        """Seconds that the peer's program may need to read what its kernel has taken, at its pace so far.

        Up to LONGEST_READING; 0 if nothing has waited.
        """
        taken = self._taken - self._began_with
        if taken <= 0:
            return 0.0
        seconds = PEER_BUFFER * (self.since - self._began_at) / taken
        return max(0.0, self.since + min(seconds, LONGEST_READING) - now)
