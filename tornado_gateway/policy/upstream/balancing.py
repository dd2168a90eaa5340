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
No balancer knows of breakers or health: `Endpoint.available()` says which endpoints may be chosen. A balancer remembers
whose turn is next, and nothing else.

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

from tornado_gateway.policy.upstream.endpoint import HTTP, Endpoint, LeaseRequest, PickContext

SLOWER = 2.0  # times the quickest: with answers that differ by half either way, averages of equals differ by less
HARDLY = 0.005  # seconds: to send an equal endpoint less for so little would cost more evenness than it gains time
LOOK = 0.0003  # seconds for each endpoint, until it is found out anew who is slow: that takes a thousandth of them
CREDIT = 4  # turns that an endpoint may catch up on: that it had more in flight just then was chance

ALL_UP_TO = 16  # endpoints that least_load looks at
COMPARED = 4  # that it looks at if there are more, each time at others: two would nearly do (Mitzenmacher)
SAMPLE_TRIES = 8  # random draws (or skipped turns) before falling back to a scan
SCAN_LIMIT = 64  # endpoints inspected before settling for any available one

ALIKE = 1.1  # times another one, that an estimate is not to be told from it: which has more in flight is certain
NEGLIGIBLE = 1e-6  # seconds of latency that are the same as none known

# Seconds that an endpoint of unknown latency is taken for as soon as it has something in flight: it gets
# one request to show itself, and no second one before that is answered (Finagle's penalty).
UNKNOWN = 1e6

POINTS = 100  # on the ring for each unit of weight: shares are then within some 10 % of each other
MOST_POINTS = 20_000  # on a whole ring, which takes 20 ms to make; with more endpoints, each has fewer
TURNS = 1024  # in which the keys of an endpoint that joins come to it
LOAD_BOUND = 1.25  # an endpoint above 1.25 x its fair share in flight is skipped (bounded loads)


class Balancer(Protocol):
    """Chooses an endpoint."""

    def use(self, usable: Sequence[Endpoint], members: Sequence[Endpoint]) -> None:
        """Choose from these from now on.

        Args:
            usable: those that can be, of which each weighs something.
            members: all that the service has.
        """

    def choose(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        """An endpoint that is available for the request; None if none is."""

    def another(self) -> "Balancer":
        """One of the same kind, for other endpoints."""


def passes_draw(endpoint: Endpoint, request: LeaseRequest, context: PickContext, rng: random.Random) -> bool:
    """Whether an endpoint is available and, during slow start, is drawn: as often as the endpoint's share says."""
    return endpoint.available(request, context) and not (
        context.slow_start and rng.random() >= context.share(endpoint, request.now)
    )


def from_anywhere(
    endpoints: Sequence[Endpoint],
    request: LeaseRequest,
    context: PickContext,
    rng: random.Random,
    besides: Endpoint | None = None,
) -> Endpoint | None:
    """One that may be chosen, wherever it stands.

    Args:
        besides: one that is not wanted; of many others, not all are looked at.
    """
    count = len(endpoints)
    start = int(rng.random() * count)
    places: Iterable[int] = range(start, start + count)
    if count > SCAN_LIMIT:  # neighbours are often in the same state: leaping about finds another one sooner
        leaps = (int(rng.random() * count) for _ in range(SCAN_LIMIT))
        places = itertools.chain(leaps, places) if besides is None else leaps
    for at in places:
        endpoint = endpoints[at % count]
        if endpoint is not besides and passes_draw(endpoint, request, context, rng):
            return endpoint
    return None


class _WeightedPicker:
    """Endpoints, of which each is drawn as often as it weighs."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._sums = list(itertools.accumulate(endpoint.weight for endpoint in endpoints))  # of weights up to each

    def pick(self, rng: random.Random) -> Endpoint:
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

    def choose(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        return self._of_many(request, context) if self._many else self._of_few(request, context)

    def _of_few(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        slow, served, is_free = self._tempo.slow(request.now), self._served, context.spares_nobody(request)
        seen = []
        for at, endpoint in enumerate(self._few):
            if is_free or endpoint.available(request, context):
                stride = context.stride(endpoint, request.now) if context.slow_start else 1 / endpoint.weight
                load = endpoint.load_for(request.kind) * stride
                if endpoint.latency.full_penalty:
                    load += endpoint.latency.penalty(request.now)
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
        served[chosen] = self._take_turn(turn, its_stride)
        return self._few[chosen]

    def _take_turn(self, turn: float, stride: float) -> float:
        """The instant that a turn counts for: the one at which it was due, if that is not long ago."""
        self._time = max(turn, self._time)
        return max(turn, self._time - max(CREDIT * stride, self._longest))

    def _of_many(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        many, slow, best, least = self._many, self._tempo.slow(request.now), None, math.inf
        for _ in range(SAMPLE_TRIES):
            _, _, endpoint, served = many[0]
            stride = context.stride(endpoint, request.now)
            if not endpoint.available(request, context):
                self._put_off(stride, served)
                continue
            load = context.burden(endpoint, request)
            if slow and self._rng.random() * slow.get(endpoint, 1.0) > 1.0:
                self._put_off(stride, self._time)
            elif load and self._is_outdone(load, request, context):
                self._put_off(stride / 2, served)
            else:
                at = self._take_turn(served + stride, stride)
                heapq.heapreplace(many, (at + stride, next(self._numbers), endpoint, at))
                return endpoint
            if load < least:
                best, least = endpoint, load
        return best or from_anywhere([endpoint for _, _, endpoint, _ in many], request, context, self._rng)

    def _is_outdone(self, load: float, request: LeaseRequest, context: PickContext) -> bool:
        """Whether one of the next would have no more for its weight even with the request."""
        for _, _, rival, _ in self._many[1:COMPARED]:
            if (
                rival.available(request, context)
                and context.burden(rival, request) + context.stride(rival, request.now) <= load
            ):
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

    def choose(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        if not request.tried:
            return self._whose_turn_it_is(request, context)
        if self._retries is None:
            self._retries = self.another()
            self._retries.use(self._endpoints, self._endpoints)
        return self._retries._whose_turn_it_is(request, context)

    def _whose_turn_it_is(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        waiting, chosen = self._waiting, None
        passed: list[tuple[float, int, Endpoint]] = []
        while waiting and chosen is None and len(passed) < SAMPLE_TRIES:
            entry = heapq.heappop(waiting)
            passed.append(entry)
            if passes_draw(entry[2], request, context, self._rng):
                chosen = entry[2]
        found = chosen or from_anywhere(self._endpoints, request, context, self._rng)
        if found:
            self._time = passed[-1][0]
            earliest = 0.0 if context.slow_start else self._time  # one that joins only loses the turns that it had
            passed = [(max(turn + 1 / each.weight, earliest), next(self._numbers), each) for turn, _, each in passed]
        for entry in passed:
            heapq.heappush(waiting, entry)
        return found


class _TwoOfAll(_Drawing):
    """Draws two endpoints at random, each as often as its weight says, and takes the better one."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._endpoints: Sequence[Endpoint] = ()
        self._picker = _WeightedPicker(())

    def use(self, usable: Sequence[Endpoint], members: Sequence[Endpoint]) -> None:
        self._endpoints, self._picker = usable, _WeightedPicker(usable)

    def choose(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        one = self._draw(request, context, None)
        other = self._draw(request, context, one) if one else None
        if one is None or other is None:
            return one
        return other if self.is_better(other, one, request, context) else one

    def _draw(self, request: LeaseRequest, context: PickContext, besides: Endpoint | None) -> Endpoint | None:
        endpoints, picker, rng = self._endpoints, self._picker, self._rng
        for _ in range(SAMPLE_TRIES if endpoints else 0):
            endpoint = picker.pick(rng)
            if endpoint is not besides and passes_draw(endpoint, request, context, rng):
                return endpoint
        return from_anywhere(endpoints, request, context, rng, besides)

    def is_better(self, other: Endpoint, one: Endpoint, request: LeaseRequest, context: PickContext) -> bool:
        """Whether a request would do better at the other one."""
        raise NotImplementedError


class TwoChoices(_TwoOfAll):
    """Of two, the second one only if it would have no more for its weight even with the request.

    Endpoints of which neither has too much are so chosen as often as they weigh.
    """

    def is_better(self, other: Endpoint, one: Endpoint, request: LeaseRequest, context: PickContext) -> bool:
        return context.burden(other, request) + context.stride(other, request.now) <= context.burden(one, request)


class PeakEwma(_TwoOfAll):
    """Of two, the one where the time to expect, times the requests that wait there already, is less.

    Of two that are alike, the second one only if it would have no more for its weight even with the request. A lighter
    endpoint takes over from a heavier one only as often as it weighs beside it: however quick, it gets no more
    than about twice its share. That does not hold for a heavier one that has failed.
    """

    def is_better(self, other: Endpoint, one: Endpoint, request: LeaseRequest, context: PickContext) -> bool:
        its_cost, cost = self.cost(other, request, context), self.cost(one, request, context)
        if request.kind is HTTP and its_cost < cost * ALIKE and cost < its_cost * ALIKE:
            return context.load_per_weight(other, request) + context.stride(
                other, request.now
            ) <= context.load_per_weight(one, request)
        if its_cost >= cost:
            return False
        return one.latency.full_penalty > 0 or self._rng.random() * one.weight < other.weight

    def cost(self, endpoint: Endpoint, request: LeaseRequest, context: PickContext) -> float:
        """What a request would meet; smaller is better."""
        seconds = endpoint.latency.peak(request.now)
        if request.kind is not HTTP:  # which last: how busy an endpoint is says more than how soon it begins one
            return context.load_per_weight(endpoint, request) + seconds
        if endpoint.requests and seconds < NEGLIGIBLE:
            return UNKNOWN + context.load_per_weight(endpoint, request)
        return max(seconds, NEGLIGIBLE) * (context.load_per_weight(endpoint, request) + 1)


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

    def choose(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        if not request.key:
            return self._without_key.choose(request, context)
        ring, count, first = self._ring, len(self._ring), None
        its_place = place(request.key)
        start = bisect.bisect(self._places, its_place)
        bound = LOAD_BOUND * context.fair_load(request.kind)
        for at in range(start, start + count):
            endpoint = ring[at % count]
            if endpoint in self._out or not endpoint.available(request, context):
                continue
            if (
                context.slow_start
                and (its_place ^ self._salts[endpoint]) % TURNS >= context.share(endpoint, request.now) * TURNS
            ):
                continue
            if endpoint.load_for(request.kind) < math.ceil(bound * endpoint.weight):
                return endpoint
            first = first or endpoint
            if at - start >= SCAN_LIMIT:  # so many are over their share: there must be too few for all there is to do
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
