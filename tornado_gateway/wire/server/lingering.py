"""The lingering close of a connection after its last response (RFC 9112 §9.6).

Closing a socket with unread bytes resets the connection, and the reset may destroy the response in the client's kernel.
So the server half-closes, then reads and drops the client's bytes for a while.

Over TLS, the closure alert comes before the FIN (RFC 9112 §9.8).
"""

import asyncio

from tornado_gateway.wire.peer import unacknowledged

LINGER = 2.0  # seconds of lingering; nginx: 5 s between two reads
LINGER_BYTES = 64 * 1024 * 1024  # greatest number of dropped bytes; a client may continue an upload before reading
QUIET = 0.2  # seconds without received bytes after which a stopping server waits no longer


class Lingering:
    """The lingering close of a connection.

    Args:
        transport: not yet lost.
        now: instant at which the last response was complete.
        taken_at: last known instant at which the client took bytes of the response.
    """

    __slots__ = ("_dropped", "_dropped_at", "_taken_at", "_transport")

    def __init__(self, transport: asyncio.Transport, now: float, taken_at: float) -> None:
        self._transport = transport
        self._taken_at = taken_at
        self._dropped, self._dropped_at = 0, now

    def half_close(self) -> None:
        """Send a FIN."""
        if self._transport.is_closing():
            return
        try:  # noqa: SIM105  # suppress() takes three calls, and this is done once per connection
            self._transport.write_eof()
        except OSError:
            pass  # asyncio's shutdown() of a reset socket raises

    def drop(self, size: int, now: float) -> None:
        """Count received bytes, which are dropped; end the connection above LINGER_BYTES."""
        self._dropped, self._dropped_at = self._dropped + size, now
        if self._dropped > LINGER_BYTES:
            self._transport.abort()

    def look(self, now: float, patience: float, *, has_taken: bool, waits: bool) -> bool:
        """Note whether the client has taken bytes; return whether the client still reads the last response.

        Args:
            now: loop time.
            patience: greatest seconds without progress.
            has_taken: whether the client has taken bytes since the last call.
            waits: whether bytes wait for the client.
        """
        if has_taken:
            self._taken_at = now
        return has_taken or (waits and now - self._taken_at < patience)

    def end(self) -> None:
        """End the connection."""
        self._transport.abort()

    @property
    def is_answered(self) -> bool:
        """Whether the client has acknowledged the end of the last response."""
        return not unacknowledged(self._transport)

    def can_close(self, now: float) -> bool:
        """Whether the client has acknowledged the last response and has sent nothing for QUIET seconds.

        A client in the middle of an upload might meet a reset before reading the response.
        """
        return now - self._dropped_at >= QUIET and self.is_answered
