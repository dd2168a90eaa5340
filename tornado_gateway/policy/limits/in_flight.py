"""How many requests a client has in flight at once: a client that waits for slow answers holds no more than its share.

A rate limits how often a client asks; a request that takes a minute counts as much as one of a millisecond. Requests in
flight are counted by the same keys as rates, in all workers together. Streams have limits of their own, see
policy/http/stream_limits.py.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tornado_gateway.policy.limits.key import Asker, key_of
from tornado_gateway.policy.limits.rules import LimitConfig
from tornado_gateway.policy.tally import Others


class Claim(NamedTuple):
    """What a request counts under while it is in flight.

    Attributes:
        group: names the counters, see LimitConfig.
        key: of the request, see key_of().
        limit: greatest number of requests in flight with the key; ≥ 1.
        policy: the name in fields and metrics.
        header: name of the header that gave the key; "" for other keys.
        enforces: whether a request above the limit is refused; else the request is only counted and logged.
    """

    group: str
    key: str
    limit: int
    policy: str
    header: str
    enforces: bool


def claims_of(config: LimitConfig, asker: Asker) -> tuple[Claim, ...]:
    """The claims of a request, the enforced ones first."""
    claims = [
        Claim(
            each.group,
            key_of(each.key, asker, each.route),
            each.max_in_flight,
            f"{each.label} in-flight",
            each.key.name,
            each.enforces,
        )
        for each in config.in_flight
    ]
    return tuple(sorted(claims, key=lambda claim: not claim.enforces))


class InFlight:
    """The numbers of requests in flight.

    Args:
        others: the requests of other workers; None for a gateway of one process.

    Attributes:
        counts: by group and key; a key without a request in flight takes no memory.
    """

    def __init__(self, others: Others | None = None) -> None:
        self._others = others
        self.counts: Counter[tuple[str, str]] = Counter()

    def exceeded(self, claims: Iterable[Claim]) -> list[Claim]:
        """The claims whose key already has `limit` requests in flight, in all workers."""
        return [each for each in claims if self._number(each) >= each.limit]

    def _number(self, claim: Claim) -> int:
        place = claim.group, claim.key
        return self.counts[place] + (self._others.number(place) if self._others else 0)

    def take(self, claims: Iterable[Claim]) -> None:
        """Count a request in. Call give_back() once with the same claims."""
        for each in claims:
            place = each.group, each.key
            self.counts[place] += 1
            if self._others:
                self._others.add(place, 1)

    def give_back(self, claims: Iterable[Claim]) -> None:
        """Count a request out."""
        for each in claims:
            place = each.group, each.key
            self.counts[place] -= 1
            if not self.counts[place]:
                del self.counts[place]
            if self._others:
                self._others.add(place, -1)
