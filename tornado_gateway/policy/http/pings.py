"""Whose ping a pong answers, when a relay pings both sides and the two sides ping each other.

A side that has several pings before it may answer the most recent one alone (RFC 6455 §5.5.3). So a pong for the
gateway's ping also answers the pings of the other side that were sent before it, and the other side must hear so:

    other side ── PING app ──►┐
                              ├──► this side         PONG gw-1 ──► goes on as PONG app
    gateway ───── PING gw-1 ──┘
"""


class Pings:
    """The pings that one side of a WebSocket has been sent and has not answered.

    Args:
        token: what the payload of the gateway's pings begins with; up to 100 bytes that nobody can guess.
    """

    __slots__ = ("_answered", "_sent", "_theirs", "_theirs_behind", "_token")

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._sent = self._answered = 0  # numbers of the gateway's last ping, and of the last one that was answered
        self._theirs: bytes | None = None  # payload of the other side's last ping
        self._theirs_behind = 0  # number of the gateway's ping before that

    def own(self) -> bytes:
        """Payload of the gateway's next ping, which is sent now. No two are equal."""
        self._sent += 1
        return b"%b-%d" % (self._token, self._sent)

    def note_ping(self, payload: bytes) -> None:
        """A ping from the other side goes on to this one."""
        self._theirs, self._theirs_behind = payload, self._sent

    def answered(self, payload: bytes) -> bytes | None:
        """This side has sent a pong.

        Returns:
            Payload of the pong that goes on to the other side; None if the pong was for the gateway alone.
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
        """Number of the gateway's ping with this payload; 0 if there is none."""
        token, dash, digits = payload.rpartition(b"-")
        if token != self._token or not dash or not digits.isdigit() or digits.startswith(b"0"):
            return 0
        return int(digits)
