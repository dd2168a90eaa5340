"""Reading on behind the last response of a connection (RFC 9112 §9.6).

A socket that is closed before the client's last bytes have been read resets the connection, and the reset may destroy
the response in the client's kernel. So the server half-closes, then reads and drops what still comes, for a while.

TLS has no half-close: a closure alert ends the connection. So a request is read to the end before the alert is sent.
"""

import asyncio

from tornado_gateway.wire.peer import unacknowledged

LINGER = 2.0  # seconds of reading on; nginx: 5 s between two reads
LINGER_BYTES = 64 * 1024 * 1024  # dropped at most; a client may go on with an upload before reading the response
QUIET = 0.2  # seconds without a byte behind a last response, after which a server that stops waits no longer


class Lingering:
    """One connection's reading on.

    Args:
        transport: of a connection that has not been lost.
        now: instant at which the last response was complete.
        taken_at: instant at which the client last took bytes of the response, as far as is known.
    """

    __slots__ = ("_dropped", "_dropped_at", "_taken_at", "_transport")

    def __init__(self, transport: asyncio.Transport, now: float, taken_at: float) -> None:
        self._transport = transport
        self._taken_at = taken_at
        self._dropped, self._dropped_at = 0, now

    def half_close(self, *, is_read: bool) -> None:
        """Tell the client that this was the last response.

        Args:
            is_read: whether the last request has been read whole.
        """
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            try:  # noqa: SIM105  # suppress() takes three calls, and this is done once per connection
                self._transport.write_eof()
            except OSError:
                pass  # asyncio's own shutdown() of a socket that was just reset
        elif is_read:
            self._transport.close()

    def drop(self, size: int, now: float) -> None:
        """Count bytes that came and are dropped; end the connection above LINGER_BYTES."""
        self._dropped, self._dropped_at = self._dropped + size, now
        if self._dropped > LINGER_BYTES:
            self._transport.abort()

    def lasts(self, now: float, patience: float, *, has_taken: bool, waits: bool) -> bool:
        """Whether the client still takes the last response.

        Args:
            patience: seconds for which the client may take nothing.
            has_taken: whether the client has taken bytes since the last look.
            waits: whether bytes wait for the client.
        """
        if has_taken:
            self._taken_at = now
        return has_taken or (waits and now - self._taken_at < patience)

    def end(self) -> bool:
        """End the connection; whether the connection needs another LINGER seconds for that."""
        if self._transport.can_write_eof() or self._transport.is_closing():
            self._transport.abort()
            return False
        self._transport.close()  # sends the closure alert, and waits for the client's
        return True

    @property
    def is_answered(self) -> bool:
        """Whether the client has acknowledged the end of the last response."""
        return not unacknowledged(self._transport)

    def is_over(self, now: float) -> bool:
        """Whether the client has the last response, and sends nothing more that a closed socket would reset.

        A client in the middle of an upload may meet the reset before reading the response.
        """
        return now - self._dropped_at >= QUIET and self.is_answered
