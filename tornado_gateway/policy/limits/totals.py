"""What the limits have done since the start, for the metrics."""

from collections import Counter

from tornado_gateway.policy.limits.refused_keys import RefusedKeys

REFUSED, OBSERVED = "refused", "observed"


class LimitTotals:
    """Counts of requests above a limit.

    Attributes:
        limited: by outcome and name of the policy. OBSERVED: admitted, because RATE_LIMIT_MODE is observe.
        keys: who was above a limit, refused or observed.
    """

    def __init__(self) -> None:
        self.limited: Counter[tuple[str, str]] = Counter()
        self.keys = RefusedKeys()
