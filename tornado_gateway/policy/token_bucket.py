"""A token bucket: a rate per second, and a burst of a second's tokens after a pause."""


class TokenBucket:
    """A token bucket, full at first; the number of tokens may fall below zero.

    Args:
        rate: tokens added per second, and the bucket's capacity; > 0.
        now: seconds on any monotonic clock.
    """

    __slots__ = ("_at", "_tokens", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._tokens = rate
        self._at = now

    def available(self, now: float) -> float:
        """The number of tokens in the bucket; negative after take() took more than the bucket held."""
        self._tokens = min(self.rate, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return self._tokens

    def take(self, tokens: float) -> None:
        """Take tokens, even more than the bucket holds."""
        self._tokens -= tokens

    def take_part(self, wanted: int, now: float) -> int:
        """Take up to `wanted` whole tokens, and return how many were taken."""
        part = min(wanted, max(0, int(self.available(now))))
        self._tokens -= part
        return part

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until the bucket holds so many tokens; 0 if there are enough."""
        return max(0.0, (tokens - self.available(now)) / self.rate)
