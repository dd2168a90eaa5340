"""A token bucket: so much per second, and as much at once after a pause."""


class TokenBucket:
    """
    Args:
        rate: tokens per second, and the most there can be; > 0.
        now: seconds on any monotonic clock.
    """

    __slots__ = ("_at", "_tokens", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._tokens = rate
        self._at = now

    def available(self, now: float) -> float:
        """Tokens that are there; below zero while more were taken than there were."""
        self._tokens = min(self.rate, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return self._tokens

    def take(self, tokens: float) -> None:
        """Take tokens, also such as are not there yet."""
        self._tokens -= tokens

    def take_part(self, wanted: int, now: float) -> int:
        """Take as many whole tokens as there are, up to so many; how many that were."""
        part = min(wanted, max(0, int(self.available(now))))
        self._tokens -= part
        return part

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until as many are there; 0 if they are."""
        return max(0.0, (tokens - self.available(now)) / self.rate)
