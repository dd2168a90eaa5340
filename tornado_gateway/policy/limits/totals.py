"""What the limits have done since the start, for the metrics."""

from collections import Counter

REFUSED, OBSERVED = "refused", "observed"


class LimitTotals:
    """Counts of requests above a limit.

    Attributes:
        limited: by outcome and name of the policy. OBSERVED: admitted, because RATE_LIMIT_MODE is observe.
    """

    def __init__(self) -> None:
        self.limited: Counter[tuple[str, str]] = Counter()
