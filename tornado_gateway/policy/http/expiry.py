"""The expiry and the holder of a client's token. A stream ends when the token that opened the stream expires."""

import math
from typing import NamedTuple

from tornado_gateway.policy.principal import NOBODY, Holder


class Expiry(NamedTuple):
    """The instant when a token expires, on two clocks; the stream ends when either clock reaches the instant.

    A token's `exp` is wall time (RFC 7519 §4.1.4). The wall clock can be set back; the monotonic clock stands still
    while the machine is suspended. Because both clocks are read, neither prolongs a stream.

    Attributes:
        at: seconds on the monotonic clock; math.inf for never.
        wall: seconds since 1970 on the wall clock; math.inf for never.
        holder: whose token it is, for revocations.
    """

    at: float = math.inf
    wall: float = math.inf
    holder: Holder = NOBODY

    @classmethod
    def of(cls, exp: float, now: float, wall: float, holder: Holder = NOBODY) -> "Expiry":
        """The expiry of a token.

        Args:
            exp: the token's `exp` claim, seconds since 1970; math.inf without the claim.
            now, wall: the current time on the monotonic and the wall clock.

        >>> expiry = Expiry.of(1_700_000_010.0, now=5.0, wall=1_700_000_000.0)
        >>> expiry.at, expiry.wall
        (15.0, 1700000010.0)
        """
        return cls(now + exp - wall, exp, holder)

    def has_passed(self, now: float, wall: float) -> bool:
        """Whether either clock has reached the instant."""
        return now >= self.at or wall >= self.wall


NEVER = Expiry()
