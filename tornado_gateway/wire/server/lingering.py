"""Reading on behind the last response of a connection (RFC 9112 §9.6).

A socket that is closed before the client's last bytes have been read resets the connection, and the reset may destroy
the response in the client's kernel. So the server half-closes, then reads and drops what still comes, for a while.
"""

LINGER = 2.0  # seconds of reading on; nginx: 5 s between two reads
LINGER_BYTES = 64 * 1024 * 1024  # dropped at most; a client may go on with an upload before it reads the response
QUIET = 0.2  # seconds without a byte behind a last response, after which a server that stops waits no longer


class Lingering:
    """One connection's reading on.

    Args:
        now: instant at which the last response was complete.
        taken_at: instant at which the client last took something of the response, as far as is known.

    Attributes:
        taken_at: the same, updated by the owner.
    """

    __slots__ = ("_dropped", "_dropped_at", "taken_at")

    def __init__(self, now: float, taken_at: float) -> None:
        self.taken_at = taken_at
        self._dropped, self._dropped_at = 0, now

    def drop(self, size: int, now: float) -> bool:
        """Count bytes that came; whether more have come than LINGER_BYTES."""
        self._dropped, self._dropped_at = self._dropped + size, now
        return self._dropped > LINGER_BYTES

    def is_quiet(self, now: float) -> bool:
        """Whether nothing has come for QUIET seconds: the client is not in the middle of an upload."""
        return now - self._dropped_at >= QUIET
