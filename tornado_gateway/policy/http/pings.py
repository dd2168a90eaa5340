"""Which ping a pong answers, when a relay pings both sides and the two sides ping each other.

A side that has received several pings may answer only the most recent ping (RFC 6455 §5.5.3). So a pong for the
gateway's ping also answers the other side's earlier pings, and the relay sends the other side a pong:

    other side ── PING app ──►┐
                              ├──► this side         PONG gw-1 ──► goes on as PONG app
    gateway ───── PING gw-1 ──┘
"""


class Pings:
    """The unanswered pings that were sent to one side of a WebSocket.

    Args:
        token: prefix of the payload of the gateway's pings; up to 100 bytes, unguessable.
    """

    __slots__ = ("_answered", "_sent", "_theirs", "_theirs_behind", "_token")

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._sent = self._answered = 0  # numbers of the gateway's last ping, and of its last answered ping
        self._theirs: bytes | None = None  # payload of the other side's last ping
        self._theirs_behind = 0  # number of the gateway's last ping before the other side's last ping

    def own(self) -> bytes:
        """Note a ping of the gateway's own, and return its payload. Payloads never repeat."""
        self._sent += 1
        return b"%b-%d" % (self._token, self._sent)

    def note_ping(self, payload: bytes) -> None:
        """Note that a ping of the other side was forwarded to this side."""
        self._theirs, self._theirs_behind = payload, self._sent

    def answered(self, payload: bytes) -> bytes | None:
        """Note a pong from this side.

        Returns:
            Payload of the pong to forward to the other side; None if the pong answers only the gateway's pings.
        """
        if payload == self._theirs:
            self._theirs = None
            return payload
        number = self._number(payload)
        if not self._answered < number <= self._sent:
            return payload  # unsolicited (RFC 6455 §5.5.3), or for an earlier ping of the other side
        self._answered = number
        theirs = self._theirs
        if theirs is None or self._theirs_behind >= number:
            return None
        self._theirs = None
        return theirs

    def _number(self, payload: bytes) -> int:
        """Number of the gateway's ping with this payload; 0 if the payload is not the gateway's."""
        token, dash, digits = payload.rpartition(b"-")
        if token != self._token or not dash or not digits.isdigit() or digits.startswith(b"0"):
            return 0
        return int(digits)
