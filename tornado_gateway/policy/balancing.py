"""Which of several endpoints gets the next request.

least_load        the smallest score of in-flight and latency; endpoints of equal score take turns
round_robin       each in turn, as often as its weight says, spread evenly
two_choices       of two at random, the one with fewer in flight
peak_ewma         of two at random, the one that is likely to answer sooner
consistent_hash   the same one for the same key, unless it has far more than its share

A choice costs about as much among ten endpoints as among a thousand: none of them looks at all. Only where
nearly all of many have as much in flight as they may, it takes longer to find one that has not.
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
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from tornado_gateway.policy.endpoint import HTTP, Ask, Endpoint

# A request in flight weighs as much as a second of latency: with it, idle but slow endpoints
# still get work before fast but busy ones pile it up.
INFLIGHT_SCORE = 1000.0

ALL_UP_TO = 16  # endpoints that least_load looks at
COMPARED = 4  # that it looks at if there are more, each time at others: two would nearly do (Mitzenmacher)
DRAWS = 8  # at random, or turns that are passed over, until whoever comes next is taken
LOOKS = 64  # at endpoints, until one does without the best, or looks at all of them for any

ALIKE = 1.1  # times another one, that an estimate is not to be told from it: which has more in flight is certain
NEGLIGIBLE = 1e-6  # seconds of latency that are the same as none known

# Seconds that an endpoint of unknown latency is taken for as soon as it has something in flight: it gets
# one request to show itself, and no second one before that is answered (Finagle's penalty).
UNKNOWN = 1e6

POINTS = 100  # on the ring for each unit of weight: shares are then within some 10 % of each other
MOST_POINTS = 20_000  # on a whole ring, which takes 20 ms to make; with more endpoints, each has fewer
TURNS = 1024  # in which the keys of an endpoint that joins come to it
OVERLOAD = 1.25  # times its share of all in flight that an endpoint may have without being spared


class Balancer(Protocol):
    """Chooses an endpoint."""

    def use(self, usable: Sequence[Endpoint], members: Sequence[Endpoint]) -> None:
        """Choose from these from now on.

        Args:
            usable: those that can be, of which each weighs something.
            members: all that the service has.
        """

    def choose(self, ask: Ask) -> Endpoint | None:
        """An endpoint that the ask admits; None if it admits none."""


def admits(ask: Ask, endpoint: Endpoint, rng: random.Random) -> bool:
    """Whether an endpoint that was found may be chosen: one that joins, only as often as its share says."""
    return ask.admits(endpoint) and not (ask.slow_start and rng.random() >= ask.share(endpoint))


def bears_more(endpoint: Endpoint, ask: Ask) -> bool:
    """Whether an endpoint has not far more than its share of what is in flight."""
    return ask.held(endpoint) < math.ceil(OVERLOAD * ask.fair_load * endpoint.weight)


def from_anywhere(
    endpoints: Sequence[Endpoint], ask: Ask, rng: random.Random, besides: Endpoint | None = None
) -> Endpoint | None:
    """One that may be chosen, wherever it stands.

    Args:
        besides: one that is not wanted; of many others, not all are looked at.
    """
    count = len(endpoints)
    start = int(rng.random() * count)
    places: Iterable[int] = range(start, start + count)
    if count > LOOKS:  # neighbours are often in the same state: leaping about finds another one sooner
        leaps = (int(rng.random() * count) for _ in range(LOOKS))
        places = itertools.chain(leaps, places) if besides is None else leaps
    for at in places:
        endpoint = endpoints[at % count]
        if endpoint is not besides and admits(ask, endpoint, rng):
            return endpoint
    return None


class _Lots:
    """Endpoints, of which each is drawn as often as it weighs."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._sums = list(itertools.accumulate(endpoint.weight for endpoint in endpoints))  # of weights up to each

    def draw(self, rng: random.Random) -> Endpoint:
        """One of them, of which there must be one."""
        sums = self._sums
        return self._endpoints[bisect.bisect(sums, rng.random() * sums[-1])]


class LeastLoad:
    """The smallest of in-flight by weight x 1000 + latency in ms; what is less than a millisecond decides nothing.

    Otherwise, of three that answer within one, the quickest by a hair would get nearly all. Those of equal score take
    turns, as often as they weigh.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._endpoints: Sequence[Endpoint] = ()
        self._lots = _Lots(())
        self._next = 0
        self._turns: dict[Endpoint, float] = {}  # when each that weighs more or less than others has its next one
        self._time = 0.0  # of the turn that was last

    def use(self, usable: Sequence[Endpoint], members: Sequence[Endpoint]) -> None:
        self._endpoints, self._lots, self._next = usable, _Lots(usable), 0
        weighs_alike = len({endpoint.weight for endpoint in usable}) <= 1
        known = self._turns
        self._turns = {} if weighs_alike else {each: known.get(each, self._time + 0.5 / each.weight) for each in usable}

    def choose(self, ask: Ask) -> Endpoint | None:
        if ask.slow_start and (one := self._of_those_that_join(ask)):
            return one
        endpoints, count, now, turns = self._endpoints, len(self._endpoints), ask.now, self._turns
        best, best_score, best_at, best_turn = None, 0.0, self._next, 0.0
        left = count if count <= ALL_UP_TO else COMPARED
        for at in range(self._next, self._next + count):
            endpoint = endpoints[at % count]
            if not ask.admits(endpoint) or (ask.slow_start and ask.share(endpoint) < 1.0):
                if at - self._next >= LOOKS:
                    break
                continue
            its_score = ask.crowd(endpoint) * INFLIGHT_SCORE + round(endpoint.latency.expected(now) * 1000)
            its_turn = max(turns[endpoint], self._time) if turns else 0.0
            if best is None or its_score < best_score or (its_score == best_score and its_turn < best_turn):
                best, best_score, best_at, best_turn = endpoint, its_score, at, its_turn
            left -= 1
            if not left:
                break
        if best is None:
            self._next += LOOKS
            return from_anywhere(endpoints, ask, self._rng)
        self._next = (best_at + 1) % count
        if turns:
            self._time, turns[best] = best_turn, best_turn + 1 / best.weight
        return best

    def _of_those_that_join(self, ask: Ask) -> Endpoint | None:
        """One of them, as often as their shares say. By their scores, idle as they are, they would get all there is."""
        rng, lots = self._rng, self._lots
        for _ in range(DRAWS if self._endpoints else 0):
            endpoint = lots.draw(rng)
            share = ask.share(endpoint)
            if share == 1.0:
                break
            if rng.random() < share:
                return endpoint if ask.admits(endpoint) and bears_more(endpoint, ask) else None
        return None


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
        self._endpoints: Sequence[Endpoint] = ()
        self._retries: RoundRobin | None = None

    def use(self, usable: Sequence[Endpoint], members: Sequence[Endpoint]) -> None:
        turns = {endpoint: turn for turn, _, endpoint in self._waiting}
        self._waiting = [
            (turns.get(each, self._time + 0.5 / each.weight), next(self._numbers), each) for each in usable
        ]
        heapq.heapify(self._waiting)
        self._endpoints, self._retries = usable, None

    def choose(self, ask: Ask) -> Endpoint | None:
        if not ask.tried:
            return self._whose_turn_it_is(ask)
        if self._retries is None:
            self._retries = RoundRobin(self._rng)
            self._retries.use(self._endpoints, self._endpoints)
        return self._retries._whose_turn_it_is(ask)

    def _whose_turn_it_is(self, ask: Ask) -> Endpoint | None:
        waiting, chosen = self._waiting, None
        passed: list[tuple[float, int, Endpoint]] = []
        while waiting and chosen is None and len(passed) < DRAWS:
            entry = heapq.heappop(waiting)
            passed.append(entry)
            if admits(ask, entry[2], self._rng):
                chosen = entry[2]
        found = chosen or from_anywhere(self._endpoints, ask, self._rng)
        if found:
            self._time = passed[-1][0]
            earliest = 0.0 if ask.slow_start else self._time  # one that joins only loses the turns that it had
            passed = [(max(turn + 1 / each.weight, earliest), next(self._numbers), each) for turn, _, each in passed]
        for entry in passed:
            heapq.heappush(waiting, entry)
        return found


class _TwoOfAll:
    """Draws two endpoints at random, each as often as its weight says, and takes the better one."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._endpoints: Sequence[Endpoint] = ()
        self._lots = _Lots(())

    def use(self, usable: Sequence[Endpoint], members: Sequence[Endpoint]) -> None:
        self._endpoints, self._lots = usable, _Lots(usable)

    def choose(self, ask: Ask) -> Endpoint | None:
        one = self._draw(ask, None)
        other = self._draw(ask, one) if one else None
        if one is None or other is None:
            return one
        return other if self.is_better(other, one, ask) else one

    def _draw(self, ask: Ask, besides: Endpoint | None) -> Endpoint | None:
        endpoints, lots, rng = self._endpoints, self._lots, self._rng
        for _ in range(DRAWS if endpoints else 0):
            endpoint = lots.draw(rng)
            if endpoint is not besides and admits(ask, endpoint, rng):
                return endpoint
        return from_anywhere(endpoints, ask, rng, besides)

    def is_better(self, other: Endpoint, one: Endpoint, ask: Ask) -> bool:
        """Whether a request would do better at the other one."""
        raise NotImplementedError


class TwoChoices(_TwoOfAll):
    """Of two, the one with fewer in flight for its weight; a second of penalty counts as one more."""

    def is_better(self, other: Endpoint, one: Endpoint, ask: Ask) -> bool:
        now = ask.now
        return ask.crowd(other) + other.latency.penalty(now) < ask.crowd(one) + one.latency.penalty(now)


class PeakEwma(_TwoOfAll):
    """Of two, the one where the time to expect, times those that wait there already, is less.

    Of two that are alike, the one with fewer in flight for its weight.
    """

    def is_better(self, other: Endpoint, one: Endpoint, ask: Ask) -> bool:
        its_cost, cost = self.cost(other, ask), self.cost(one, ask)
        if ask.kind is HTTP and its_cost < cost * ALIKE and cost < its_cost * ALIKE:
            return ask.crowd(other) < ask.crowd(one)
        return its_cost < cost

    def cost(self, endpoint: Endpoint, ask: Ask) -> float:
        """What a request would meet; smaller is better."""
        seconds = endpoint.latency.peak(ask.now)
        if ask.kind is not HTTP:  # which last: how busy an endpoint is says more than how soon it begins one
            return ask.crowd(endpoint) + seconds
        if endpoint.requests and seconds < NEGLIGIBLE:
            return UNKNOWN + ask.crowd(endpoint)
        return max(seconds, NEGLIGIBLE) * (ask.crowd(endpoint) + 1)


class ConsistentHash:
    """The endpoint behind the key's place on a ring, or behind that, if it has far more than its share.

    Of an endpoint that joins, some keys come at first and more and more later, always the same ones.
    """

    def __init__(self, rng: random.Random) -> None:
        self._without_key = TwoChoices(rng)
        self._weights: dict[Endpoint, int] = {}  # of those on the ring
        self._salts: dict[Endpoint, int] = {}  # by which each has its own keys come first
        self._ring: list[Endpoint] = []
        self._places: list[int] = []

    def use(self, usable: Sequence[Endpoint], members: Sequence[Endpoint]) -> None:
        self._without_key.use(usable, members)
        weights = {endpoint: endpoint.weight for endpoint in members}
        if weights != self._weights:
            self._weights = weights
            self._salts = {endpoint: place(endpoint.url.encode()) for endpoint in members}
            self._make_ring()

    def _make_ring(self) -> None:
        points = min(POINTS, MOST_POINTS / max(1, sum(self._weights.values())))
        ring = [
            (place(f"{endpoint.url} {number}".encode()), endpoint)
            for endpoint, weight in self._weights.items()
            for number in range(math.ceil(points * weight))
        ]
        ring.sort(key=operator.itemgetter(0))
        self._places, self._ring = [at for at, _ in ring], [endpoint for _, endpoint in ring]

    def choose(self, ask: Ask) -> Endpoint | None:
        if not ask.key:
            return self._without_key.choose(ask)
        ring, count, first = self._ring, len(self._ring), None
        its_place = place(ask.key)
        start = bisect.bisect(self._places, its_place)
        for at in range(start, start + count):
            endpoint = ring[at % count]
            if not ask.admits(endpoint):
                continue
            if ask.slow_start and (its_place ^ self._salts[endpoint]) % TURNS >= ask.share(endpoint) * TURNS:
                continue
            if bears_more(endpoint, ask):
                return endpoint
            first = first or endpoint
            if at - start >= LOOKS:  # so many are over their share: there must be too few for all there is to do
                break
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
