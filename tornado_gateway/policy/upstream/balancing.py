"""Balancers: which of several endpoints gets the next request.

                  the chosen endpoint                                      share of the requests
least_load        the next in turn by weight, among the least loaded       the weight, within 10 %
round_robin       the next in turn by weight, spread evenly                the weight, within 10 %
two_choices       of two drawn by weight, the less loaded                  about the weight (random)
peak_ewma         of two drawn by weight, the smaller latency x queue      at most twice the weight
consistent_hash   the same endpoint for the same key, unless overloaded    keys spread by weight, within 40 %

The shares hold at any load for endpoints in the same state with latencies within a factor of two. A slow endpoint gets
less, except from round_robin. An endpoint that has failed or is joining gets less from every balancer.

A choice costs about the same among ten endpoints as among a thousand: a balancer inspects only a few. Only when nearly
all of many endpoints are full does a choice take longer.

A balancer decides nothing about breakers or health: `Endpoint.available()` says which endpoints may be chosen.
A balancer remembers only the order of turns.

Sources: M. Mitzenmacher, The Power of Two Choices (2001); Finagle's P2CPeakEwma; V. Mirrokni et al.,
Consistent Hashing with Bounded Loads (2016).

`BALANCERS` lists all balancers by the name that BALANCER and a service's "balancer" give.
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

# An endpoint is slow above SLOW_RATIO x the quickest latency, and SLOW_MARGIN seconds above the quickest. Averages of
# equal endpoints whose answers vary by ± 50 % stay within the ratio. Below the margin, uneven load costs more than the
# shorter latency gains.
SLOW_RATIO = 2.0
SLOW_MARGIN = 0.005
SLOW_REFRESH = 0.0003  # seconds per endpoint between two computations of the slow endpoints: these take 0.1 % of a core
MAX_CATCH_UP = 4  # turns that an endpoint may catch up on: a higher load for a moment was chance

FULL_SCAN_LIMIT = 16  # least_load compares all endpoints up to this number
COMPARED = 4  # endpoints that least_load compares above FULL_SCAN_LIMIT; two would nearly do (Mitzenmacher)
SAMPLE_TRIES = 8  # random draws (or skipped turns) before falling back to a scan
SCAN_LIMIT = 64  # endpoints inspected before settling for any available one

SIMILAR_RATIO = 1.1  # costs within this factor count as equal: an estimate is less certain than a load
MIN_LATENCY = 1e-6  # seconds; a smaller latency counts as unknown

# Cost in seconds of an endpoint of unknown latency with a request in flight. The endpoint gets one request, and the
# next one only after an answer (Finagle's penalty).
UNKNOWN_COST = 1e6

POINTS_PER_WEIGHT = 100  # points on the hash ring per unit of weight: shares then differ by about 10 %
MAX_POINTS = 20_000  # points of a whole ring, built in 20 ms; above this, a unit of weight has fewer points
SLOW_START_STEPS = 1024  # steps in which the keys of a joining endpoint arrive
LOAD_BOUND = 1.25  # an endpoint above 1.25 x its fair share in flight is skipped (bounded loads)


class Balancer(Protocol):
    """Chooses an endpoint."""

    def use(self, usable: Sequence[Endpoint], members: Sequence[Endpoint]) -> None:
        """Replace the endpoints to choose from.

        Args:
            usable: endpoints that may be chosen; each weight is > 0.
            members: all endpoints of the service.
        """

    def choose(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        """An endpoint that is available for the request; None if no endpoint is available."""

    def new_instance(self) -> "Balancer":
        """A balancer of the same kind, without endpoints."""


def passes_draw(endpoint: Endpoint, request: LeaseRequest, context: PickContext, rng: random.Random) -> bool:
    """Whether an endpoint is available and, during slow start, wins a random draw with the probability of its share."""
    return endpoint.available(request, context) and not (
        context.slow_start and rng.random() >= context.share(endpoint, request.now)
    )


def scan(
    endpoints: Sequence[Endpoint],
    request: LeaseRequest,
    context: PickContext,
    rng: random.Random,
    excluded: Endpoint | None = None,
) -> Endpoint | None:
    """Search all endpoints, from a random place on, for an endpoint that passes the draw; None if no endpoint does.

    Args:
        excluded: an endpoint not to return. With this argument, at most SCAN_LIMIT of many endpoints are inspected.
    """
    count = len(endpoints)
    start = int(rng.random() * count)
    places: Iterable[int] = range(start, start + count)
    if count > SCAN_LIMIT:  # neighbours are often in the same state: random places find another state sooner
        leaps = (int(rng.random() * count) for _ in range(SCAN_LIMIT))
        places = itertools.chain(leaps, places) if excluded is None else leaps
    for at in places:
        endpoint = endpoints[at % count]
        if endpoint is not excluded and passes_draw(endpoint, request, context, rng):
            return endpoint
    return None


class _WeightedPicker:
    """Draws endpoints at random, in proportion to their weights."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._sums = list(itertools.accumulate(endpoint.weight for endpoint in endpoints))  # cumulative weights

    def pick(self, rng: random.Random) -> Endpoint:
        """Draw an endpoint; there must be at least one endpoint."""
        sums = self._sums
        return self._endpoints[bisect.bisect(sums, rng.random() * sums[-1])]


class _SlowEndpoints:
    """The slow endpoints, computed at intervals that grow with the number of endpoints.

    An endpoint is slow above SLOW_RATIO x the latency of the quickest, and SLOW_MARGIN seconds above that latency.
    With five or more endpoints, the quickest quarter replaces the quickest: the minimum of many is chance.
    """

    def __init__(self) -> None:
        self._endpoints: Sequence[Endpoint] = ()
        self._refresh_at = -math.inf
        self._factors: dict[Endpoint, float] = {}

    def use(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints, self._refresh_at = endpoints, -math.inf

    def factors(self, now: float) -> dict[Endpoint, float]:
        """The factor between two turns of each slow endpoint: the square of latency / threshold, > 1."""
        if now >= self._refresh_at:
            self._refresh_at = now + SLOW_REFRESH * len(self._endpoints)
            self._factors = self._compute(now)
        return self._factors

    def _compute(self, now: float) -> dict[Endpoint, float]:
        expected = [(endpoint.latency.expected(now), endpoint) for endpoint in self._endpoints]
        known = sorted(seconds for seconds, _ in expected if seconds)
        if not known:
            return {}
        quickest = known[(len(known) - 1) // 4]
        threshold = max(SLOW_RATIO * quickest, quickest + SLOW_MARGIN)
        return {endpoint: (seconds / threshold) ** 2 for seconds, endpoint in expected if seconds > threshold}


class _Randomised:
    """The base of all balancers.

    Args:
        rng: for random draws.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def new_instance(self) -> Self:
        """A balancer of the same kind, without endpoints."""
        return type(self)(self._rng)


class LeastLoad(_Randomised):
    """Turns by weight, among the endpoints with the least load per weight.

    An endpoint is skipped while another endpoint would have no more load per weight even with the request. A second of
    latency penalty counts as one request per unit of weight. The turns of a slow endpoint come less often. Latency
    decides nothing else: otherwise the quickest of three equal endpoints would get nearly all requests that come one
    at a time.

    Above FULL_SCAN_LIMIT endpoints, the endpoint next in turn is compared with a few that follow.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._slow = _SlowEndpoints()
        self._few: list[Endpoint] = []  # up to FULL_SCAN_LIMIT endpoints
        self._served: list[float] = []  # the newest turn of each endpoint in _few
        self._many: list[tuple[float, int, Endpoint, float]] = []  # a heap: next turn, tie-break, endpoint, newest turn
        self._numbers = itertools.count()
        self._time = 0.0  # the newest turn, in virtual time: an endpoint of weight w has a turn every 1 / w
        self._longest = 0.0  # the longest stride: an early turn of a light endpoint moves the time by as much

    def use(self, usable: Sequence[Endpoint], members: Sequence[Endpoint]) -> None:
        self._longest = 1 / min((endpoint.weight for endpoint in usable), default=1)
        known = dict(zip(self._few, self._served, strict=True))
        known.update({endpoint: served for _, _, endpoint, served in self._many})
        self._slow.use(usable)
        self._few, self._many = [*usable], []
        self._served = [known.get(endpoint, self._time - 0.5 / endpoint.weight) for endpoint in usable]
        if len(usable) > FULL_SCAN_LIMIT:
            for served, endpoint in zip(self._served, usable, strict=True):
                self._many.append((served + 1 / endpoint.weight, next(self._numbers), endpoint, served))
            heapq.heapify(self._many)
            self._few, self._served = [], []

    def choose(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        return self._choose_of_many(request, context) if self._many else self._choose_of_few(request, context)

    def _choose_of_few(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        slow, served, is_free = self._slow.factors(request.now), self._served, context.spares_none(request)
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
        """Advance the time to a turn. The result is the instant to count from: at most MAX_CATCH_UP strides ago."""
        self._time = max(turn, self._time)
        return max(turn, self._time - max(MAX_CATCH_UP * stride, self._longest))

    def _choose_of_many(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        many, slow, best, least = self._many, self._slow.factors(request.now), None, math.inf
        for _ in range(SAMPLE_TRIES):
            _, _, endpoint, served = many[0]
            stride = context.stride(endpoint, request.now)
            if not endpoint.available(request, context):
                self._postpone_first(stride, served)
                continue
            load = context.burden(endpoint, request)
            if slow and self._rng.random() * slow.get(endpoint, 1.0) > 1.0:
                self._postpone_first(stride, self._time)
            elif load and self._has_lighter_rival(load, request, context):
                self._postpone_first(stride / 2, served)
            else:
                at = self._take_turn(served + stride, stride)
                heapq.heapreplace(many, (at + stride, next(self._numbers), endpoint, at))
                return endpoint
            if load < least:
                best, least = endpoint, load
        return best or scan([endpoint for _, _, endpoint, _ in many], request, context, self._rng)

    def _has_lighter_rival(self, load: float, request: LeaseRequest, context: PickContext) -> bool:
        """Whether an endpoint that follows in turn would have no more load per weight even with the request."""
        for _, _, rival, _ in self._many[1:COMPARED]:
            if (
                rival.available(request, context)
                and context.burden(rival, request) + context.stride(rival, request.now) <= load
            ):
                return True
        return False

    def _postpone_first(self, by: float, served: float) -> None:
        """Postpone the turn of the first endpoint of the heap."""
        when, _, endpoint, _ = self._many[0]
        self._time = max(when, self._time)
        heapq.heapreplace(self._many, (self._time + by, next(self._numbers), endpoint, served))


class RoundRobin(_Randomised):
    """Turns by weight: the time between two turns of an endpoint is 1 / weight.

    With weights 5, 1, 1 the order is a a b c a a a, or as even. An unavailable endpoint loses the turn and does not
    catch up later. Retries have turns of their own: otherwise a broken endpoint could get every first attempt, and the
    other endpoints only retries.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._waiting: list[tuple[float, int, Endpoint]] = []  # a heap: next turn, tie-break, endpoint
        self._numbers = itertools.count()
        self._time = 0.0  # the newest turn, in virtual time
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
            return self._take_next_turn(request, context)
        if self._retries is None:
            self._retries = self.new_instance()
            self._retries.use(self._endpoints, self._endpoints)
        return self._retries._take_next_turn(request, context)

    def _take_next_turn(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        waiting, chosen = self._waiting, None
        passed: list[tuple[float, int, Endpoint]] = []
        while waiting and chosen is None and len(passed) < SAMPLE_TRIES:
            entry = heapq.heappop(waiting)
            passed.append(entry)
            if passes_draw(entry[2], request, context, self._rng):
                chosen = entry[2]
        found = chosen or scan(self._endpoints, request, context, self._rng)
        if found:
            self._time = passed[-1][0]
            earliest = 0.0 if context.slow_start else self._time  # a joining endpoint loses only skipped turns
            passed = [(max(turn + 1 / each.weight, earliest), next(self._numbers), each) for turn, _, each in passed]
        for entry in passed:
            heapq.heappush(waiting, entry)
        return found


class _TwoRandomChoices(_Randomised):
    """Draws two endpoints at random by weight, and chooses the better endpoint."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._endpoints: Sequence[Endpoint] = ()
        self._picker = _WeightedPicker(())

    def use(self, usable: Sequence[Endpoint], members: Sequence[Endpoint]) -> None:
        self._endpoints, self._picker = usable, _WeightedPicker(usable)

    def choose(self, request: LeaseRequest, context: PickContext) -> Endpoint | None:
        first = self._draw(request, context, None)
        second = self._draw(request, context, first) if first else None
        if first is None or second is None:
            return first
        return second if self.is_better(second, first, request, context) else first

    def _draw(self, request: LeaseRequest, context: PickContext, excluded: Endpoint | None) -> Endpoint | None:
        endpoints, picker, rng = self._endpoints, self._picker, self._rng
        for _ in range(SAMPLE_TRIES if endpoints else 0):
            endpoint = picker.pick(rng)
            if endpoint is not excluded and passes_draw(endpoint, request, context, rng):
                return endpoint
        return scan(endpoints, request, context, rng, excluded)

    def is_better(self, second: Endpoint, first: Endpoint, request: LeaseRequest, context: PickContext) -> bool:
        """Whether a request should go to the second endpoint."""
        raise NotImplementedError


class TwoChoices(_TwoRandomChoices):
    """Of two drawn endpoints, the second only if its load per weight would be no higher even with the request.

    While neither endpoint has too much load, endpoints are therefore chosen in proportion to their weights.
    """

    def is_better(self, second: Endpoint, first: Endpoint, request: LeaseRequest, context: PickContext) -> bool:
        return context.burden(second, request) + context.stride(second, request.now) <= context.burden(first, request)


class PeakEwma(_TwoRandomChoices):
    """Of two drawn endpoints, the endpoint with the smaller cost: peak latency x (requests in flight per weight + 1).

    At a similar cost, the second endpoint is chosen only if its load per weight would be no higher even with the
    request. A lighter endpoint replaces a heavier endpoint only in proportion to the two weights: a quick endpoint gets
    at most about twice its share. The proportion does not protect a heavier endpoint that has failed.
    """

    def is_better(self, second: Endpoint, first: Endpoint, request: LeaseRequest, context: PickContext) -> bool:
        second_cost, first_cost = self.cost(second, request, context), self.cost(first, request, context)
        if (
            request.kind is HTTP
            and second_cost < first_cost * SIMILAR_RATIO
            and first_cost < second_cost * SIMILAR_RATIO
        ):
            return context.load_per_weight(second, request) + context.stride(
                second, request.now
            ) <= context.load_per_weight(first, request)
        if second_cost >= first_cost:
            return False
        return first.latency.full_penalty > 0 or self._rng.random() * first.weight < second.weight

    def cost(self, endpoint: Endpoint, request: LeaseRequest, context: PickContext) -> float:
        """The expected cost of a request at an endpoint; smaller is better."""
        seconds = endpoint.latency.peak(request.now)
        if request.kind is not HTTP:  # a stream lasts: the load matters more than the time until the stream begins
            return context.load_per_weight(endpoint, request) + seconds
        if endpoint.requests and seconds < MIN_LATENCY:
            return UNKNOWN_COST + context.load_per_weight(endpoint, request)
        return max(seconds, MIN_LATENCY) * (context.load_per_weight(endpoint, request) + 1)


class ConsistentHash(_Randomised):
    """The first available endpoint behind the key's place on a hash ring whose load is within LOAD_BOUND.

    A joining endpoint gets a growing part of its keys; a key that has arrived stays. A request without a key is
    balanced by TwoChoices.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._without_key = TwoChoices(rng)
        self._out: set[Endpoint] = set()  # on the ring, but not usable
        self._weights: dict[Endpoint, int] = {}  # of the endpoints on the ring
        self._salts: dict[Endpoint, int] = {}  # decide which keys of a joining endpoint arrive first
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
        points = min(POINTS_PER_WEIGHT, MAX_POINTS / max(1, sum(self._weights.values())))
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
        key_place = place(request.key)
        start = bisect.bisect(self._places, key_place)
        bound = LOAD_BOUND * context.fair_load(request.kind)
        for at in range(start, start + count):
            endpoint = ring[at % count]
            if endpoint in self._out or not endpoint.available(request, context):
                continue
            if (
                context.slow_start
                and (key_place ^ self._salts[endpoint]) % SLOW_START_STEPS
                >= context.share(endpoint, request.now) * SLOW_START_STEPS
            ):
                continue
            if endpoint.load_for(request.kind) < math.ceil(bound * endpoint.weight):
                return endpoint
            first = first or endpoint
            if at - start >= SCAN_LIMIT:  # nearly every endpoint is above the bound: the whole service is overloaded
                break
        return first


def place(key: bytes) -> int:
    """The place of a key on the hash ring: a 64-bit hash."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


BALANCERS: dict[str, Callable[[random.Random], Balancer]] = {
    "least_load": LeastLoad,
    "round_robin": RoundRobin,
    "two_choices": TwoChoices,
    "peak_ewma": PeakEwma,
    "consistent_hash": ConsistentHash,
}
