"""When a client's token expires, and with it the streams that it opened."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Expiry:
    """One instant on two clocks; the clock that reaches it first ends the stream.

    A token's `exp` is wall time (RFC 7519 §4.1.4). Timers run by monotonic time, which nobody can set, but which stands
    still while a machine is suspended. So a clock that is set back prolongs no stream, and neither does a suspension.

    Attributes:
        at: seconds on the monotonic clock; math.inf for never.
        wall: seconds since 1970 on the wall clock; math.inf for never.
    """

    at: float = math.inf
    wall: float = math.inf

    @classmethod
    def of(cls, exp: float, now: float, wall: float) -> "Expiry":
        """The expiry of a token.

        Args:
            exp: the token's claim, seconds since 1970; math.inf if there is none.
            now, wall: the time on the two clocks.

        >>> Expiry.of(1_700_000_010.0, now=5.0, wall=1_700_000_000.0)
        Expiry(at=15.0, wall=1700000010.0)
        """
        return cls(now + exp - wall, exp)

    def has_passed(self, now: float, wall: float) -> bool:
        """Whether one of the clocks has reached it."""
        return now >= self.at or wall >= self.wall


NEVER = Expiry()
