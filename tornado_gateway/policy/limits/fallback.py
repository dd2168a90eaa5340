"""RATE_LIMIT_ON_ERROR: what holds while the counters that several processes share cannot be asked."""

from collections.abc import Sequence

from tornado_gateway.errors import LimitsUnavailable
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.verdict import Verdict

LOCAL, OPEN, CLOSED = "local", "open", "closed"  # values of RATE_LIMIT_ON_ERROR
MEANINGS = {LOCAL: "counted by each process", OPEN: "off", CLOSED: "a 503 for every request"}


class Fallback:
    """Answers for the shared counters.

    Args:
        memory: counts with LOCAL.

    Attributes:
        on_error: LOCAL, OPEN or CLOSED.
    """

    def __init__(self, on_error: str, memory: MemoryStore) -> None:
        self.on_error, self._memory = on_error, memory

    @property
    def meaning(self) -> str:
        """What holds, in words for the log."""
        return f"rate limits are {MEANINGS[self.on_error]}"

    def take(self, asked: Sequence[Asked], now: float) -> list[Verdict]:
        """As LimitStore.take(); no verdicts if the request is admitted without counting."""
        if self.on_error == LOCAL:
            return self._memory.take(asked, now)
        if self.on_error == CLOSED:
            raise LimitsUnavailable
        return []

    def charge(self, asked: Sequence[Asked], cost: int, now: float) -> None:
        """As LimitStore.charge(). The cost is lost, but for LOCAL."""
        if self.on_error == LOCAL:
            self._memory.charge(asked, cost, now)
