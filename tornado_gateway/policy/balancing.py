"""Which of several endpoints gets the next request.

least_load    the smallest score; endpoints of equal score take turns
round_robin   each in turn, as often as its weight says, spread evenly

`BALANCERS` is the list of all there are; BALANCER and a service's "balancer" name one of them.
"""

from collections.abc import Callable, Sequence

from tornado_gateway.policy.endpoint import Balancer, Endpoint

# A request in flight weighs as much as a second of latency: with it, idle but slow endpoints
# still get work before fast but busy ones pile it up.
INFLIGHT_SCORE = 1000.0


class LeastLoad:
    """in-flight x 1000 + latency in ms, divided by weight."""

    def __init__(self) -> None:
        self._turn = 0

    def choose(self, candidates: Sequence[Endpoint]) -> Endpoint:
        count = len(candidates)
        start = self._turn % count
        best, best_score, best_at = candidates[start], score(candidates[start]), start
        for at in range(start + 1, start + count):
            candidate = candidates[at % count]
            if (candidate_score := score(candidate)) < best_score:
                best, best_score, best_at = candidate, candidate_score, at
        self._turn = (best_at + 1) % count
        return best


def score(endpoint: Endpoint) -> float:
    """The load of an endpoint; smaller is better.

    >>> endpoint = Endpoint("http://a", weight=2)
    >>> endpoint.observe(0.250); lease = endpoint.lease(now=0.0)
    >>> score(endpoint)
    625.0
    """
    return (endpoint.inflight * INFLIGHT_SCORE + endpoint.ewma * 1000.0) / endpoint.weight


class RoundRobin:
    """Smooth weighted round robin, as nginx does it: with weights 5, 1, 1 the order is a a b a c a a.

    Each endpoint gains its weight with every choice; the richest is chosen and pays the sum of all.
    """

    def __init__(self) -> None:
        self._credit: dict[Endpoint, int] = {}

    def choose(self, candidates: Sequence[Endpoint]) -> Endpoint:
        credit = self._credit
        for candidate in candidates:
            credit[candidate] = credit.get(candidate, 0) + candidate.weight
        best = max(candidates, key=credit.__getitem__)
        credit[best] -= sum(candidate.weight for candidate in candidates)
        return best


BALANCERS: dict[str, Callable[[], Balancer]] = {
    "least_load": LeastLoad,
    "round_robin": RoundRobin,
}
