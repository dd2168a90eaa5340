"""Which of several endpoints gets the next request.

                  the endpoint that is chosen                                       what holds of shares
least_load        whose turn it is by weight, of those with the least in flight     the weights, within a tenth
round_robin       whose turn it is by weight, spread evenly                         the weights, within a tenth
two_choices       of two drawn by weight, one with less in flight                   the weights, more or less: drawn
peak_ewma         of two drawn by weight, one that is likely to answer sooner       no more than twice a weight's
consistent_hash   the same one for the same key, unless it has far more than its    keys are spread by weight,
                  share                                                             within some 40 %

What is said of shares holds of endpoints that are alike: that have the same state and answer within about twice the
same time, however many requests there are at once. A slow endpoint gets less, but for round_robin; so does one that
has failed or that joins.

A choice costs about as much among ten endpoints as among a thousand: only a few are looked at. Only where
nearly all of many have as much in flight as they may, it takes longer to find one that has not.
No balancer knows of breakers or health; an `Ask` says who may be chosen. What a balancer
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
from typing import Protocol, Self

from tornado_gateway.policy.upstream.endpoint import HTTP, Ask, Endpoint

SLOWER = 2.0  # times the quickest: with answers that differ by half either way, averages of equals differ by less
HARDLY = 0.005  # seconds: to send an equal endpoint less for so little would cost more evenness than it gains time
LOOK = 0.0003  # seconds for each endpoint, until it is found out anew who is slow: that takes a thousandth of them
CREDIT = 4  # turns that an endpoint may catch up on: that it had more in flight just then was chance

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

    def another(self) -> "Balancer":
        """One of the same kind, for other endpoints."""


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


class _Tempo:
    """Which endpoints are slow, found out every now and then.

    An endpoint is slow if it takes more than SLOWER times as long as the quickest, and HARDLY longer. Of five or more
    the quickest quarter sets the pace: the least of many is chance.
    """

    def __init__(self) -> None:
        self._endpoints: Sequence[Endpoint] = ()
        self._look_at = -math.inf
        self._slow: dict[Endpoint, float] = {}

    def use(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints, self._look_at = endpoints, -math.inf

    def slow(self, now: float) -> dict[Endpoint, float]:
        """By how many times as many turns as its weight says a slow endpoint waits: the square of how slow it is."""
        if now >= self._look_at:
            self._look_at = now + LOOK * len(self._endpoints)
            self._slow = self._find_out(now)
        return self._slow

    def _find_out(self, now: float) -> dict[Endpoint, float]:
        expected = [(endpoint.latency.expected(now), endpoint) for endpoint in self._endpoints]
        known = sorted(seconds for seconds, _ in expected if seconds)
        if not known:
            return {}
        quickest = known[(len(known) - 1) // 4]
        enough = max(SLOWER * quickest, quickest + HARDLY)
        return {endpoint: (seconds / enough) ** 2 for seconds, endpoint in expected if seconds > enough}


class _Drawing:
    """What all balancers have: an rng.

    Args:
        rng: for what is drawn.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def another(self) -> Self:
        """One of the same kind, for other endpoints."""
        return type(self)(self._rng)


class LeastLoad(_Drawing):
    """Turns by weight, among the endpoints that have the least in flight for their weight.

    An endpoint is left out while another one would have no more for its weight even with the request; a second of
    penalty counts as a request in flight for each unit of weight. The turns of a slow endpoint come more seldom.
    Nothing else decides: if each millisecond of latency did, the quickest of three equal endpoints would get nearly all
    requests that come one at a time.

    Of more than ALL_UP_TO endpoints, each is compared with a few whose turn is next.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._tempo = _Tempo()
        self._few: list[Endpoint] = []
        self._served: list[float] = []  # of the few: when each had its newest turn
        self._many: list[tuple[float, int, Endpoint, float]] = []  # a heap: whose turn is next; and each one's newest
        self._numbers = itertools.count()
        self._time = 0.0  # of the turn that was last
        self._longest = 0.0  # between two turns of one: so far may the time leap when a light one has its turn early

    def use(self, usable: Sequence[Endpoint], members: Sequence[Endpoint]) -> None:
        self._longest = 1 / min((endpoint.weight for endpoint in usable), default=1)
        known = dict(zip(self._few, self._served, strict=True))
        known.update({endpoint: served for _, _, endpoint, served in self._many})
        self._tempo.use(usable)
        self._few, self._many = [*usable], []
        self._served = [known.get(endpoint, self._time - 0.5 / endpoint.weight) for endpoint in usable]
        if len(usable) > ALL_UP_TO:
            for served, endpoint in zip(self._served, usable, strict=True):
                self._many.append((served + 1 / endpoint.weight, next(self._numbers), endpoint, served))
            heapq.heapify(self._many)
            self._few, self._served = [], []

    def choose(self, ask: Ask) -> Endpoint | None:
        return self._of_many(ask) if self._many else self._of_few(ask)

    def _of_few(self, ask: Ask) -> Endpoint | None:
        slow, served, is_free = self._tempo.slow(ask.now), self._served, ask.is_free
        seen = []
        for at, endpoint in enumerate(self._few):
            if is_free or ask.admits(endpoint):
                stride = ask.stride(endpoint) if ask.slow_start else 1 / endpoint.weight
                load = ask.held(endpoint) * stride
                if endpoint.latency.blame:
                    load += endpoint.latency.penalty(ask.now)
                seen.append((at, endpoint, load, stride))
        if not seen:
            return None
        limit = min([load + stride for _, _, load, stride in seen])
        chosen, turn, its_stride = 0, math.inf, 0.0
        for at, endpoint, load, stride in seen:
            if load < limit:
                its_turn = served[at] + (stride * slow.get(endpoint, 1.0) if slow else stride)
                if its_turn < turn:
                    chosen, turn, its_stride = at, its_turn, stride
        served[chosen] = self._has_turn(turn, its_stride)
        return self._few[chosen]

    def _has_turn(self, turn: float, stride: float) -> float:
        """The instant that a turn counts for: the one at which it was due, if that is not long ago."""
        self._time = max(turn, self._time)
        return max(turn, self._time - max(CREDIT * stride, self._longest))

    def _of_many(self, ask: Ask) -> Endpoint | None:
        many, slow, best, least = self._many, self._tempo.slow(ask.now), None, math.inf
        for _ in range(DRAWS):
            _, _, endpoint, served = many[0]
            stride = ask.stride(endpoint)
            if not ask.admits(endpoint):
                self._put_off(stride, served)
                continue
            load = ask.burden(endpoint)
            if slow and self._rng.random() * slow.get(endpoint, 1.0) > 1.0:
                self._put_off(stride, self._time)
            elif load and self._is_outdone(load, ask):
                self._put_off(stride / 2, served)
            else:
                at = self._has_turn(served + stride, stride)
                heapq.heapreplace(many, (at + stride, next(self._numbers), endpoint, at))
                return endpoint
            if load < least:
                best, least = endpoint, load
        return best or from_anywhere([endpoint for _, _, endpoint, _ in many], ask, self._rng)

    def _is_outdone(self, load: float, ask: Ask) -> bool:
        """Whether one of the next would have no more for its weight even with the request."""
        for _, _, rival, _ in self._many[1:COMPARED]:
            if ask.admits(rival) and ask.burden(rival) + ask.stride(rival) <= load:
                return True
        return False

    def _put_off(self, by: float, served: float) -> None:
        """The first of many is passed over for now."""
        when, _, endpoint, _ = self._many[0]
        self._time = max(when, self._time)
        heapq.heapreplace(self._many, (self._time + by, next(self._numbers), endpoint, served))


class RoundRobin(_Drawing):
    """Each in turn. Whoever had a turn waits for the next one as much longer as it weighs less.

    With weights 5, 1, 1 the order is a a b c a a a, or another one as even. An endpoint that may not be chosen loses
    its turn, and does not catch up on it when it comes back. Second tries have a round of their own: otherwise one that
    is broken would get every first try, and the others the second ones.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
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
            self._retries = self.another()
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


class _TwoOfAll(_Drawing):
    """Draws two endpoints at random, each as often as its weight says, and takes the better one."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
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
    """Of two, the second one only if it would have no more for its weight even with the request.

    Endpoints of which neither has too much are so chosen as often as they weigh.
    """

    def is_better(self, other: Endpoint, one: Endpoint, ask: Ask) -> bool:
        return ask.burden(other) + ask.stride(other) <= ask.burden(one)


class PeakEwma(_TwoOfAll):
    """Of two, the one where the time to expect, times the requests that wait there already, is less.

    Of two that are alike, the second one only if it would have no more for its weight even with the request. A lighter
    endpoint takes over from a heavier one only as often as it weighs beside it: however quick, it gets no more
    than about twice its share. That does not hold for a heavier one that has failed.
    """

    def is_better(self, other: Endpoint, one: Endpoint, ask: Ask) -> bool:
        its_cost, cost = self.cost(other, ask), self.cost(one, ask)
        if ask.kind is HTTP and its_cost < cost * ALIKE and cost < its_cost * ALIKE:
            return ask.crowd(other) + ask.stride(other) <= ask.crowd(one)
        if its_cost >= cost:
            return False
        return one.latency.blame > 0 or self._rng.random() * one.weight < other.weight

    def cost(self, endpoint: Endpoint, ask: Ask) -> float:
        """What a request would meet; smaller is better."""
        seconds = endpoint.latency.peak(ask.now)
        if ask.kind is not HTTP:  # which last: how busy an endpoint is says more than how soon it begins one
            return ask.crowd(endpoint) + seconds
        if endpoint.requests and seconds < NEGLIGIBLE:
            return UNKNOWN + ask.crowd(endpoint)
        return max(seconds, NEGLIGIBLE) * (ask.crowd(endpoint) + 1)


class ConsistentHash(_Drawing):
    """The endpoint behind the key's place on a ring, or behind that, if it has far more than its share.

    Of an endpoint that joins, some keys come at first and more and more later, always the same ones.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._without_key = TwoChoices(rng)
        self._out: set[Endpoint] = set()  # of the ring, but not to be chosen
        self._weights: dict[Endpoint, int] = {}  # of those on the ring
        self._salts: dict[Endpoint, int] = {}  # by which each has its own keys come first
        self._ring: list[Endpoint] = []
        self._places: list[int] = []

    def use(self, usable: Sequence[Endpoint], members: Sequence[Endpoint]) -> None:
        self._without_key.use(usable, members)
        self._out = {*members} - {*usable}
        weights = {endpoint: endpoint.weight for endpoint in members}
        if weights != self._weights:
            self._weights = weights
            self._salts = {endpoint: place(endpoint.identity.encode()) for endpoint in members}
            self._make_ring()

    def _make_ring(self) -> None:
        points = min(POINTS, MOST_POINTS / max(1, sum(self._weights.values())))
        ring = [
            (place(f"{endpoint.identity} {number}".encode()), endpoint)
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
            if endpoint in self._out or not ask.admits(endpoint):
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
