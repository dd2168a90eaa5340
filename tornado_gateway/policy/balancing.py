"""Which of several endpoints gets the next request.

least_load        the smallest score of in-flight and latency; endpoints of equal score take turns
round_robin       each in turn, as often as its weight says, spread evenly
two_choices       of two at random, the one with fewer in flight
peak_ewma         of two at random, the one that is likely to answer sooner
consistent_hash   the same one for the same key, unless it has far more than its share

A choice costs as much among ten endpoints as among a thousand: none of them looks at all.
None knows of breakers or health; an `Ask` says who may be chosen. What a balancer
remembers is whose turn it is, nothing else.

Sources: M. Mitzenmacher, The Power of Two Choices (2001); Finagle's P2CPeakEwma; V. Mirrokni et al.,
Consistent Hashing with Bounded Loads (2016).

`BALANCERS` is the list of all there are; BALANCER and a service's "balancer" name one of them.
"""

import bisect
import hashlib
import heapq
import itertools
import math
import operator
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from tornado_gateway.policy.endpoint import HTTP, Ask, Endpoint

# A request in flight weighs as much as a second of latency: with it, idle but slow endpoints
# still get work before fast but busy ones pile it up.
INFLIGHT_SCORE = 1000.0

ALL_UP_TO = 16  # endpoints that least_load looks at
COMPARED = 4  # that it looks at if there are more, each time at others: two would nearly do (Mitzenmacher)
DRAWS = 8  # at random, until it is cheaper to look who may be chosen at all
STREAM = 1e-9  # of a request, that a stream counts for when a request is to be placed: enough to decide a tie

NEGLIGIBLE = 1e-6  # seconds of latency that are the same as none known

# Seconds that an endpoint of unknown latency is taken for as soon as it has something in flight: it gets
# one request to show itself, and no second one before that is answered (Finagle's penalty).
UNKNOWN = 1e6

POINTS = 100  # on the ring for each unit of weight: shares are then within some 10 % of each other
MOST_POINTS = 20_000  # on a whole ring, which takes 20 ms to make; with more endpoints, each has fewer
OVERLOAD = 1.25  # times its share of all in flight that an endpoint may have of its keys' requests


class Balancer(Protocol):
    """Chooses an endpoint."""

    def use(self, endpoints: Sequence[Endpoint]) -> None:
        """Choose from these from now on, of which there is at least one."""

    def choose(self, ask: Ask) -> Endpoint | None:
        """An endpoint that the ask admits; None if it admits none."""


class LeastLoad:
    """in-flight x 1000 + latency in ms, divided by weight; what is less than a millisecond decides nothing.

    Otherwise, of three that answer within one, the quickest by a hair would get nearly all.
    """

    def __init__(self, rng: random.Random) -> None:
        self._endpoints: Sequence[Endpoint] = ()
        self._turn = 0

    def use(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints, self._turn = endpoints, 0

    def choose(self, ask: Ask) -> Endpoint | None:
        endpoints, count, now = self._endpoints, len(self._endpoints), ask.now
        best, best_score, best_at = None, 0.0, self._turn
        left = count if count <= ALL_UP_TO else COMPARED
        for at in range(self._turn, self._turn + count):
            endpoint = endpoints[at % count]
            if not ask.admits(endpoint):
                continue
            milliseconds = round(endpoint.latency.expected(now) * 1000)
            its_score = (held(endpoint, ask) * INFLIGHT_SCORE + milliseconds) / endpoint.weight
            if best is None or its_score < best_score:
                best, best_score, best_at = endpoint, its_score, at
            left -= 1
            if not left:
                break
        self._turn = (best_at + 1) % count
        return best


def held(endpoint: Endpoint, ask: Ask) -> float:
    """How much an endpoint has in flight, seen by who wants something of it.

    To a stream, requests and streams are the same. To a request, streams only break ties: a hundred that are
    silent are no queue of a hundred.
    """
    streams = endpoint.event_streams + endpoint.websockets
    return endpoint.requests + streams * STREAM if ask.kind is HTTP else endpoint.requests + streams


class RoundRobin:
    """Each in turn. Whoever had a turn waits for the next one as much longer as it weighs less.

    With weights 5, 1, 1 the order is a a b c a a a, or another one as even. An endpoint that may not be chosen loses
    its turn, and does not catch up on it when it comes back. Second tries have a round of their own: otherwise one that
    is broken would get every first try, and the others the second ones.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._waiting: list[tuple[float, int, Endpoint]] = []  # a heap: whose turn is when; a number if it is equal
        self._numbers = itertools.count()
        self._time = 0.0  # of the turn that was last
        self._retries: RoundRobin | None = None

    def use(self, endpoints: Sequence[Endpoint]) -> None:
        turns = {endpoint: turn for turn, _, endpoint in self._waiting}
        self._waiting = [
            (turns.get(each, self._time + 0.5 / each.weight), next(self._numbers), each)
            for each in endpoints
            if each.weight
        ]
        heapq.heapify(self._waiting)
        self._retries = None

    def choose(self, ask: Ask) -> Endpoint | None:
        if not ask.tried:
            return self._next(ask)
        if self._retries is None:
            self._retries = RoundRobin(self._rng)
            self._retries.use([endpoint for _, _, endpoint in self._waiting])
        return self._retries._next(ask)

    def _next(self, ask: Ask) -> Endpoint | None:
        passed = []
        chosen = None
        while self._waiting and chosen is None:
            entry = heapq.heappop(self._waiting)
            passed.append(entry)
            if ask.admits(entry[2]):
                chosen = entry[2]
        if chosen:
            self._time = passed[-1][0]
            passed = [(self._time + 1 / each.weight, next(self._numbers), each) for _, _, each in passed]
        for entry in passed:
            heapq.heappush(self._waiting, entry)
        return chosen


class _TwoOfAll:
    """Draws two endpoints at random, each as often as its weight says, and takes the one of less cost."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._endpoints: Sequence[Endpoint] = ()
        self._sums: list[int] = []  # of weights up to each endpoint

    def use(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._sums = list(itertools.accumulate(endpoint.weight for endpoint in endpoints))

    def choose(self, ask: Ask) -> Endpoint | None:
        one = self._draw(ask, None)
        other = self._draw(ask, one) if one else None
        if one is None or other is None:
            return one
        return one if self.cost(one, ask) <= self.cost(other, ask) else other

    def _draw(self, ask: Ask, besides: Endpoint | None) -> Endpoint | None:
        endpoints, sums = self._endpoints, self._sums
        for _ in range(DRAWS if sums[-1] else 0):
            endpoint = endpoints[bisect.bisect(sums, self._rng.random() * sums[-1])]
            if endpoint is not besides and ask.admits(endpoint):
                return endpoint
        left = [endpoint for endpoint in endpoints if endpoint is not besides and ask.admits(endpoint)]
        return self._rng.choices(left, [endpoint.weight for endpoint in left])[0] if left else None

    def cost(self, endpoint: Endpoint, ask: Ask) -> float:
        """What a request would meet; smaller is better."""
        raise NotImplementedError


class TwoChoices(_TwoOfAll):
    """Of two, the one with fewer in flight for its weight; a second of penalty counts as one more."""

    def cost(self, endpoint: Endpoint, ask: Ask) -> float:
        return (held(endpoint, ask) + endpoint.latency.penalty(ask.now)) / endpoint.weight


class PeakEwma(_TwoOfAll):
    """Of two, the one where the time to expect, times those that wait there already, is less."""

    def cost(self, endpoint: Endpoint, ask: Ask) -> float:
        seconds = endpoint.latency.peak(ask.now)
        if ask.kind is not HTTP:  # which last: how busy an endpoint is says more than how soon it begins one
            return (endpoint.load + seconds) / endpoint.weight
        if endpoint.requests and seconds < NEGLIGIBLE:
            return UNKNOWN + endpoint.requests / endpoint.weight
        return max(seconds, NEGLIGIBLE) * (held(endpoint, ask) + 1) / endpoint.weight


class ConsistentHash:
    """The endpoint behind the key's place on a ring, or behind that, if it has far more than its share."""

    def __init__(self, rng: random.Random) -> None:
        self._without_key = TwoChoices(rng)
        self._ring: list[Endpoint] = []
        self._places: list[int] = []

    def use(self, endpoints: Sequence[Endpoint]) -> None:
        self._without_key.use(endpoints)
        points = min(POINTS, MOST_POINTS / max(1, sum(endpoint.weight for endpoint in endpoints)))
        ring = [
            (place(f"{endpoint.url} {number}".encode()), endpoint)
            for endpoint in endpoints
            for number in range(math.ceil(points * endpoint.weight))
        ]
        ring.sort(key=operator.itemgetter(0))
        self._places, self._ring = [at for at, _ in ring], [endpoint for _, endpoint in ring]

    def choose(self, ask: Ask) -> Endpoint | None:
        if not ask.key:
            return self._without_key.choose(ask)
        ring, count, first = self._ring, len(self._ring), None
        start = bisect.bisect(self._places, place(ask.key))
        for at in range(start, start + count):
            endpoint = ring[at % count]
            if not ask.admits(endpoint):
                continue
            if held(endpoint, ask) < math.ceil(OVERLOAD * ask.fair_load * endpoint.weight):
                return endpoint
            first = first or endpoint
        return first


def place(key: bytes) -> int:
    """Where on the ring a key lies: 64 bits."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


BALANCERS: dict[str, Callable[[random.Random], Balancer]] = {
    "least_load": LeastLoad,
    "round_robin": RoundRobin,
    "two_choices": TwoChoices,
    "peak_ewma": PeakEwma,
    "consistent_hash": ConsistentHash,
}
