"""Balancers: which endpoint gets the next request, and the shares of many requests."""

import heapq
import itertools
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.policy.upstream.conftest import Looks
from tests.support.fuzzing import fuzzing, untraced
from tornado_gateway.policy.upstream.balancing import (
    BALANCERS,
    FULL_SCAN_LIMIT,
    LOAD_BOUND,
    MAX_CATCH_UP,
    Balancer,
    ConsistentHash,
    LeastLoad,
    PeakEwma,
    RoundRobin,
    TwoChoices,
)
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import SUCCESS, Endpoint, InFlight, Kind, LeaseRequest, PickContext
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.service import Service

BY_LOAD = ["least_load", "two_choices", "peak_ewma", "consistent_hash"]  # consistent_hash without a key
every_balancer = pytest.mark.parametrize("name", BALANCERS)


def endpoints(*weights: int) -> list[Endpoint]:
    rng = random.Random(1)
    return [
        Endpoint(f"http://host{number}", Breaker(BreakerConfig(), rng), weight) for number, weight in enumerate(weights)
    ]


def balancer(name: str, several: Sequence[Endpoint], seed: int = 1) -> Balancer:
    chooser = BALANCERS[name](random.Random(seed))
    use(chooser, several)
    return chooser


def use(chooser: Balancer, several: Sequence[Endpoint]) -> None:
    """A balancer that uses the endpoints, as in a service."""
    chooser.use([endpoint for endpoint in several if endpoint.weight and endpoint.is_admitted], tuple(several))


def hold(endpoint: Endpoint, kind: Kind = Kind.HTTP, times: int = 1) -> None:
    endpoint.count(kind, times)


def answer(several: Iterable[Endpoint], seconds: float, now: float = 0.0) -> None:
    for endpoint in several:
        endpoint.latency.add(now, seconds)


def context_of(several: Sequence[Endpoint]) -> PickContext:
    """The context of a service with these endpoints."""
    weight = sum(endpoint.weight for endpoint in several if endpoint.is_admitted)
    return with_load(sum(endpoint.load for endpoint in several), weight)


def with_load(load: int, weight: int) -> PickContext:
    """The context of a service with this weight and number of requests in flight."""
    in_flight = InFlight()
    in_flight.requests = load
    return PickContext(in_flight=in_flight, weight=weight)


def ask(chooser: Balancer, several: Sequence[Endpoint], key: bytes = b"", kind: Kind = Kind.HTTP) -> Endpoint:
    """The chosen endpoint, which must not be None."""
    return taken(chooser.choose(LeaseRequest(0.0, kind, key=key), context_of(several)))


def taken(chosen: Endpoint | None) -> Endpoint:
    assert chosen is not None
    return chosen


def in_closed_loop(
    chooser: Balancer, several: Sequence[Endpoint], choices: int, in_flight: int, keys: Iterable[bytes] = ()
) -> list[int]:
    """Choices per endpoint, with a constant number of requests in flight, of which the oldest ends next."""
    held: deque[Endpoint] = deque()
    counts = Counter[str]()
    for key in itertools.islice(itertools.chain(keys, itertools.repeat(b"")), choices):
        chosen = ask(chooser, several, key)
        counts[chosen.url] += 1
        hold(chosen)
        held.append(chosen)
        if len(held) > in_flight:
            hold(held.popleft(), times=-1)
    for endpoint in held:
        hold(endpoint, times=-1)
    return [counts[endpoint.url] for endpoint in several]


def order_of(chooser: Balancer, several: Sequence[Endpoint], choices: int) -> str:
    return "".join(
        "abcdefgh"[several.index(taken(chooser.choose(LeaseRequest(0.0), PickContext())))] for _ in range(choices)
    )


# ---- what is true of all


@pytest.mark.untraced
@every_balancer
@pytest.mark.parametrize("in_flight", [40, 200])
@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (1, 2, 5), (10, 10, 20, 40)])
def test_under_load_shares_are_as_the_weights(name: str, in_flight: int, weights: tuple[int, ...]) -> None:
    several = endpoints(*weights)
    answer(several, 0.1)
    counts = in_closed_loop(balancer(name, several), several, 4000, in_flight)
    expected = [4000 * weight / sum(weights) for weight in weights]
    assert counts == pytest.approx(expected, rel=0.2, abs=40)


@pytest.mark.untraced
@every_balancer
@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (2, 1, 1, 1), (5, 4, 3, 2, 1)])
def test_with_nothing_in_flight_shares_are_as_the_weights(name: str, weights: tuple[int, ...]) -> None:
    several = endpoints(*weights)
    chooser = balancer(name, several)
    counts = Counter[str]()
    for number in range(4000):
        chosen = taken(chooser.choose(LeaseRequest(number / 100), with_load(0, sum(weights))))
        counts[chosen.url] += 1
        answer([chosen], 0.010, number / 100 + 0.010)
    expected = [4000 * weight / sum(weights) for weight in weights]
    assert [counts[each.url] for each in several] == pytest.approx(expected, rel=0.15)


@every_balancer
def test_an_endpoint_of_weight_0_gets_nothing(name: str) -> None:
    several = endpoints(1, 0, 1)
    several[1].is_admitted = False  # set by the EndpointSet
    counts = in_closed_loop(balancer(name, several), several, 200, 5, (b"%d" % number for number in range(100)))
    assert counts[1] == 0
    assert min(counts[0], counts[2]) > 0


@every_balancer
@pytest.mark.parametrize("key", [b"", b"client"])
def test_without_any_weight_no_endpoint_is_chosen(name: str, key: bytes) -> None:
    several = endpoints(0, 0)
    for endpoint in several:
        endpoint.is_admitted = False
    assert balancer(name, several).choose(LeaseRequest(0.0, key=key), PickContext()) is None


@every_balancer
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 4), st.integers(0, 4), st.booleans()),
        min_size=1, max_size=24,
    ),
    most=st.sampled_from([1, 3, math.inf]),
    key=st.sampled_from([b"", b"one", b"two"]),
    kind=st.sampled_from(Kind),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_the_chosen_endpoint_is_available_and_none_if_no_endpoint_is(
    name: str, rows: list[tuple[int, bool, int, int, bool]], most: float, key: bytes, kind: Kind, seed: int
) -> None:
    several = endpoints(*(weight for weight, *_ in rows))
    for endpoint, (weight, usable, requests, streams, _) in zip(several, rows, strict=True):
        endpoint.is_admitted = usable and weight > 0
        endpoint.inflight.update({Kind.HTTP: requests, Kind.SSE: streams})
    tried = [endpoint for endpoint, row in zip(several, rows, strict=True) if row[4]]
    chooser = balancer(name, several, seed)
    request, context = LeaseRequest(0.0, kind, tried, key), PickContext(max_requests=most)
    admitted = [endpoint for endpoint in several if endpoint.available(request, context)]
    for _ in range(4):
        chosen = chooser.choose(request, context)
        assert (chosen in admitted) if admitted else chosen is None


@every_balancer
def test_the_last_available_endpoint_of_many_is_found(name: str) -> None:
    several = endpoints(*[1] * 200)
    for endpoint in several:
        endpoint.is_admitted = False
    several[137].is_admitted = True
    chooser = balancer(name, several)
    for key in (b"", b"one", b"two"):
        assert chooser.choose(LeaseRequest(0.0, key=key), PickContext()) is several[137]
        assert chooser.choose(LeaseRequest(0.0, key=key, tried=[several[137]]), PickContext()) is None


@every_balancer
def test_a_retry_goes_elsewhere_until_all_were_tried(name: str) -> None:
    several = endpoints(1, 2, 3, 4)
    chooser = balancer(name, several)
    tried: list[Endpoint] = []
    while chosen := chooser.choose(LeaseRequest(0.0, tried=tried, key=b"key"), PickContext()):
        tried.append(chosen)
    assert sorted(endpoint.url for endpoint in tried) == [endpoint.url for endpoint in several]


@every_balancer
def test_new_endpoints_are_chosen_at_once(name: str) -> None:
    before, after = endpoints(1, 1), endpoints(1, 1, 1)
    chooser = balancer(name, before)
    assert chooser.choose(LeaseRequest(0.0), PickContext()) in before
    use(chooser, after)
    assert all(in_closed_loop(chooser, after, 300, 6))


@every_balancer
@pytest.mark.parametrize("key", [b"", untraced(b"key")])
@pytest.mark.parametrize("out", [untraced(0), 250], ids=["all usable", "a quarter out"])
def test_a_choice_among_a_thousand_looks_at_a_few(name: str, key: bytes, out: int, looks: Looks) -> None:
    several = endpoints(*[1] * 1000)
    answer(several, 0.1)
    for endpoint in random.Random(2).sample(several, out):
        endpoint.is_admitted = False
    chooser = balancer(name, several)
    for number in range(500):
        looks.count = 0
        hold(taken(chooser.choose(LeaseRequest(0.0, key=key and b"%d" % number), with_load(number, 1000))))
        assert looks.count <= 40


# ---- streams


@pytest.mark.parametrize("name", BY_LOAD)
@pytest.mark.parametrize("kind", [Kind.SSE, Kind.WS])
@pytest.mark.parametrize("known", ["", "a", "b", "ab"])
def test_streams_go_where_fewer_streams_are(name: str, kind: Kind, known: str) -> None:
    several = endpoints(1, 1)
    answer((several["ab".index(letter)] for letter in known), 0.01)
    hold(several[0], Kind.WS, 100)
    chooser = balancer(name, several)
    for _ in range(50):
        chosen = ask(chooser, several, kind=kind)
        assert chosen is several[1]
        hold(chosen, kind)


@pytest.mark.parametrize("name", BY_LOAD)
def test_to_a_stream_a_request_counts_as_much_as_another_stream(name: str) -> None:
    several = endpoints(1, 1)
    answer(several, 0.01)
    hold(several[0], times=5)
    hold(several[1], Kind.WS, times=4)
    chooser = balancer(name, several)
    assert ask(chooser, several, kind=Kind.WS) is several[1]
    hold(several[1], Kind.SSE, times=2)
    assert ask(chooser, several, kind=Kind.WS) is several[0]


@pytest.mark.parametrize("name", BALANCERS)
def test_streams_are_spread_evenly(name: str) -> None:
    several = endpoints(1, 1, 1, 1)
    chooser = balancer(name, several)
    for _ in range(400):
        hold(ask(chooser, several, kind=Kind.WS), Kind.WS)
    assert [endpoint.streams for endpoint in several] == pytest.approx([100] * 4, abs=15)


@pytest.mark.parametrize("name", BY_LOAD)
def test_idle_streams_do_not_keep_requests_away(name: str) -> None:
    several = endpoints(1, 1)
    answer(several, 0.01)
    hold(several[0], Kind.WS, 100)
    counts = in_closed_loop(balancer(name, several), several, 1000, 10)
    assert counts[0] >= 400


@pytest.mark.parametrize("name", BY_LOAD)
@pytest.mark.parametrize("streams", [1, 100, 10_000])
def test_to_a_request_any_number_of_streams_is_less_than_one_more_request(name: str, streams: int) -> None:
    several = endpoints(1, 1)
    answer(several, 0.01)
    hold(several[0], Kind.WS, streams)
    hold(several[1], Kind.HTTP)
    chooser = balancer(name, several)
    assert [chooser.choose(LeaseRequest(0.0), PickContext()) for _ in range(10)] == [several[0]] * 10


@pytest.mark.parametrize("name", ["least_load", "peak_ewma"])
def test_a_hundred_idle_streams_do_not_make_an_endpoint_look_slow(name: str) -> None:
    several = endpoints(1, 1)
    hold(several[0], Kind.WS, 100)
    answer(several[:1], 0.010)
    answer(several[1:], 0.050)
    assert balancer(name, several).choose(LeaseRequest(0.0), PickContext()) is several[0]


@pytest.mark.parametrize("name", BY_LOAD)
def test_streams_do_not_decide_among_equals(name: str) -> None:
    several = endpoints(1, 1)
    answer(several, 0.01)
    hold(several[0], Kind.SSE)
    assert in_closed_loop(balancer(name, several), several, 2000, 0) == pytest.approx([1000, 1000], rel=0.15)


# ---- shares, with answers that take more or less long


class Traffic:
    """Requests in virtual time, through leases of a service: a constant number at once, with random latencies.

    Args:
        spread: share by which an answer takes more or less long than on average.
    """

    def __init__(self, name: str, weights: Sequence[int], at_once: int, spread: float = 0.5, seed: int = 1) -> None:
        self.several = endpoints(*weights)
        self.service = Service("svc", self.several, BALANCERS[name](random.Random(seed)))
        self.took = dict.fromkeys(self.several, 0.02)  # seconds, on average
        self.now = 0.0
        self._at_once, self._spread, self._rng = at_once, spread, random.Random(seed + 1)
        self._held: list[tuple[float, int, Lease]] = []
        self._numbers = itertools.count()

    def send(self, requests: int) -> list[int]:
        """Requests per endpoint."""
        counts = Counter[str]()
        for _ in range(requests):
            if len(self._held) == self._at_once:
                self._end_one()
            lease = self.service.lease(LeaseRequest(self.now, key=b"%d" % self._rng.randrange(10_000)))
            counts[lease.endpoint.url] += 1
            seconds = self.took[lease.endpoint] * self._rng.uniform(1 - self._spread, 1 + self._spread)
            heapq.heappush(self._held, (self.now + seconds, next(self._numbers), lease))
        return [counts[each.url] for each in self.several]

    def _end_one(self) -> None:
        self.now, _, lease = heapq.heappop(self._held)
        lease.answered(self.now, 200)
        lease.settle(SUCCESS, self.now)


def shares(weights: Sequence[int], requests: int = 1000) -> list[float]:
    return [requests * weight / sum(weights) for weight in weights]


LOADS = pytest.mark.parametrize("at_once", [1, 4, 64])
WEIGHTS = [
    (7, 7, 8, 28, 76, 76),
    (1, 1, 1),
    (1, 1),
    (1, 99),
    (99, 1),
    (1, 3),
    (1, 2, 5),
    (10, 10, 20, 40),
    (100, 100),
    (5, 4, 3, 2, 1),
    (1,) * 10,
]


@pytest.mark.untraced
@pytest.mark.parametrize("name", ["least_load", "round_robin"])
@LOADS
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_shares_of_a_thousand_requests_are_within_a_tenth_of_the_weights(
    name: str, weights: tuple[int, ...], at_once: int
) -> None:
    counts = Traffic(name, weights, at_once).send(1000)
    assert counts == pytest.approx(shares(weights), rel=0.1, abs=2)


@pytest.mark.untraced
@pytest.mark.timeout(600)  # 5,500 requests for each example, among up to 50 endpoints
@pytest.mark.parametrize("name", ["least_load", "round_robin"])
@fuzzing(15)
@given(st.lists(st.integers(1, 100), min_size=2, max_size=50), st.sampled_from([1, 4, 64]), st.integers(0, 99))
def test_shares_are_as_any_weights_at_any_load(name: str, weights: list[int], at_once: int, seed: int) -> None:
    traffic = Traffic(name, weights, at_once, seed=seed)
    traffic.send(500)
    assert traffic.send(5000) == pytest.approx(shares(weights, 5000), rel=0.1, abs=12)


@pytest.mark.untraced
@pytest.mark.parametrize(("name", "off"), [("two_choices", 0.3), ("peak_ewma", 0.9)])
@LOADS
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_two_at_random_keep_to_the_weights_more_or_less(
    name: str, off: float, weights: tuple[int, ...], at_once: int
) -> None:
    """A canary of weight 1 of 100 gets at most about 2 % of the requests; each of equal endpoints gets some."""
    counts = Traffic(name, weights, at_once).send(5000)
    assert counts == pytest.approx(shares(weights, 5000), rel=off, abs=60)


@pytest.mark.untraced
@LOADS
@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 3), (1, 99), (10, 10, 20, 40)], ids=str)
def test_keys_are_spread_by_weight_at_any_load(weights: tuple[int, ...], at_once: int) -> None:
    counts = Traffic("consistent_hash", weights, at_once).send(5000)
    assert counts == pytest.approx(shares(weights, 5000), rel=0.4, abs=60)


@every_balancer
def test_a_weight_of_0_is_no_request_at_any_load(name: str) -> None:
    for at_once in (1, 4, 64):
        assert Traffic(name, (1, 0, 2), at_once).send(300)[1] == 0


@pytest.mark.untraced
@pytest.mark.parametrize("name", ["least_load", "round_robin"])
@LOADS
def test_shares_are_as_the_weights_again_after_a_failure(name: str, at_once: int) -> None:
    traffic = Traffic(name, (1, 2, 2), at_once)
    traffic.send(100)
    for endpoint in traffic.several[:2]:
        traffic.service.penalise(endpoint, traffic.now, 5.0)
    while traffic.service.endpoint_set.probing.penalised:
        traffic.send(1)
    traffic.send(300)  # as many as it takes to catch up
    assert traffic.send(1000) == pytest.approx([200, 400, 400], rel=0.1)


@pytest.mark.parametrize("name", ["least_load", "peak_ewma"])
@LOADS
def test_a_slow_endpoint_gets_far_less(name: str, at_once: int) -> None:
    traffic = Traffic(name, (1, 1, 1), at_once)
    traffic.took[traffic.several[0]] *= 10
    traffic.send(500)
    assert traffic.send(1000)[0] < 333 / 4


@LOADS
def test_one_slow_answer_costs_an_endpoint_no_more_than_a_few_requests(at_once: int) -> None:
    traffic = Traffic("least_load", (1, 1, 1), at_once, spread=0.0)
    traffic.send(300)
    one = traffic.several[0]
    traffic.took[one] *= 10
    while traffic.send(1)[0] == 0:
        pass
    traffic.took[one] /= 10
    assert traffic.send(1000) == pytest.approx([333] * 3, rel=0.1)


# ---- least_load


@pytest.mark.parametrize(
    ("one", "other", "chosen"),
    [  # in flight, milliseconds, weight; which of them is the only one that is chosen, or "either" in turn
        ((0, 0, 1), (1, 0, 1), "one"),
        ((1, 0, 1), (0, 999, 1), "other"),
        ((2, 50, 1), (1, 5000, 1), "other"),
        ((1, 50, 1), (1, 40, 1), "either"),
        ((0, 0, 1), (0, 0, 99), "either"),
        ((0, 10, 1), (5, 10, 99), "either"),
        ((1, 10, 1), (5, 10, 99), "other"),
        ((0, 10, 1), (98, 10, 99), "either"),
        ((0, 10, 1), (99, 10, 99), "one"),
        ((3, 0, 3), (1, 0, 1), "either"),
        ((3, 0, 3), (2, 0, 1), "one"),
    ],
)
def test_an_endpoint_is_skipped_while_another_has_no_more_load_per_weight_even_with_the_request(
    one: tuple[int, int, int], other: tuple[int, int, int], chosen: str
) -> None:
    for swapped in (False, True):
        rows = (other, one) if swapped else (one, other)
        several = endpoints(*(weight for *_, weight in rows))
        for endpoint, (requests, milliseconds, _) in zip(several, rows, strict=True):
            hold(endpoint, times=requests)
            if milliseconds:
                answer([endpoint], milliseconds / 1000)
        chooser = balancer("least_load", several)
        seen = {several.index(taken(chooser.choose(LeaseRequest(0.0), PickContext()))) for _ in range(400)}
        names = ("other", "one") if swapped else ("one", "other")
        assert seen == {at for at, name in enumerate(names) if chosen in (name, "either")}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=40))
def test_the_chosen_endpoint_has_the_least_load_per_weight_with_the_request(
    rows: list[tuple[int, int]],
) -> None:
    several = endpoints(*(weight for *_, weight in rows))
    for endpoint, (requests, _) in zip(several, rows, strict=True):
        hold(endpoint, times=requests)
    chooser, request, context = balancer("least_load", several), LeaseRequest(0.0), PickContext()
    for _ in range(3):
        chosen = taken(chooser.choose(request, context))
        if len(several) <= FULL_SCAN_LIMIT:
            load = context.load_per_weight(chosen, request)
            assert all(load < context.load_per_weight(each, request) + context.stride(each, 0.0) for each in several)
        hold(chosen)


@pytest.mark.parametrize("count", [1, 2, 3, FULL_SCAN_LIMIT, FULL_SCAN_LIMIT + 1, 100])
def test_equal_endpoints_take_turns(count: int) -> None:
    several = endpoints(*[1] * count)
    chooser = balancer("least_load", several)
    assert [chooser.choose(LeaseRequest(0.0), PickContext()) for _ in range(3 * count)] == several * 3


def test_an_endpoint_that_had_too_much_for_a_moment_catches_up() -> None:
    several = endpoints(1, 1, 1, 1)
    chooser = balancer("least_load", several)
    hold(several[0])
    assert order_of(chooser, several, 6) == "bcdbcd"
    hold(several[0], times=-1)
    assert order_of(chooser, several, 8) == "aaabcdab"


def test_an_endpoint_that_had_too_much_for_long_catches_up_on_a_few_turns_only() -> None:
    several = endpoints(1, 1)
    chooser = balancer("least_load", several)
    hold(several[0])
    order_of(chooser, several, 500)
    hold(several[0], times=-1)
    assert order_of(chooser, several, 100).count("a") == pytest.approx(50 + MAX_CATCH_UP / 2, abs=1)


@pytest.mark.parametrize("count", [2, FULL_SCAN_LIMIT + 4])
def test_turns_are_kept_when_other_endpoints_come_and_go(count: int) -> None:
    several = endpoints(*[1] * (FULL_SCAN_LIMIT + 5))
    chooser = balancer("least_load", several)
    before = [chooser.choose(LeaseRequest(0.0), PickContext()) for _ in range(3)]
    use(chooser, several[:count])
    assert chooser.choose(LeaseRequest(0.0), PickContext()) is (several[3] if count > 3 else several[0])
    assert before == several[:3]


@pytest.mark.parametrize("count", [4, 40])
def test_a_slow_endpoint_has_fewer_turns(count: int) -> None:
    several = endpoints(*[1] * count)
    answer(several[1:], 0.02)
    answer(several[:1], 0.2)
    chooser = balancer("least_load", several)
    counts = Counter(taken(chooser.choose(LeaseRequest(0.0), PickContext())).url for _ in range(100 * count))
    assert counts[several[0].url] == pytest.approx(100 / 25, abs=5)  # a turn in (0.2 / (2 x 0.02))²


@pytest.mark.parametrize(("quick", "slow"), [(0.1, 0.19), (0.001, 0.0059), (0.0001, 0.005)])
def test_an_endpoint_that_is_hardly_slower_has_as_many_turns(quick: float, slow: float) -> None:
    several = endpoints(1, 1)
    answer(several[:1], quick)
    answer(several[1:], slow)
    assert in_closed_loop(balancer("least_load", several), several, 100, 0) == [50, 50]


def test_a_slow_endpoint_without_requests_is_chosen_again_after_a_while() -> None:
    several = endpoints(1, 1)
    answer(several[:1], 2.0)
    chooser = balancer("least_load", several)
    for now, expected in ((1.0, 1), (60.0, 0)):
        answer(several[1:], 0.1, now=now)
        assert [chooser.choose(LeaseRequest(now), PickContext()) for _ in range(5)].count(several[0]) >= 1 - expected
    assert several[0] not in [
        balancer("least_load", several).choose(LeaseRequest(1.0), PickContext()) for _ in range(5)
    ]


# ---- round_robin


def test_round_robin_goes_round() -> None:
    several = endpoints(1, 1, 1)
    assert order_of(balancer("round_robin", several), several, 9) == "abcabcabc"


def test_round_robin_spreads_a_heavy_endpoint_evenly() -> None:
    several = endpoints(5, 1, 1)
    order = order_of(balancer("round_robin", several), several, 70)
    for start in range(0, 70, 7):
        assert Counter(order[start : start + 7]) == {"a": 5, "b": 1, "c": 1}
    for start in range(63):
        assert order[start : start + 7].count("a") == pytest.approx(5, abs=1)


@given(st.lists(st.integers(1, 10), min_size=1, max_size=8), st.integers(1, 100))
def test_round_robin_is_never_far_from_the_shares(weights: list[int], choices: int) -> None:
    several = endpoints(*weights)
    counts = Counter(order_of(balancer("round_robin", several), several, choices))
    for letter, weight in zip("abcdefgh", weights, strict=False):
        assert counts[letter] == pytest.approx(choices * weight / sum(weights), abs=2)


def test_round_robin_is_fair_among_the_available_endpoints() -> None:
    several = endpoints(1, 2, 4, 1)
    several[2].is_admitted = False
    assert Counter(order_of(balancer("round_robin", several), several, 40)) == {"a": 10, "b": 20, "d": 10}


@pytest.mark.parametrize("weights", [(1, 1), (1, 1, 1), (5, 1, 1), (1, 5, 1), (100, 1)])
@pytest.mark.parametrize("out_for", [1, 10, 100])
def test_an_endpoint_that_returns_does_not_catch_up(weights: tuple[int, ...], out_for: int) -> None:
    several = endpoints(*weights)
    chooser = balancer("round_robin", several)
    order_of(chooser, several, 10)
    several[0].is_admitted = False
    order_of(chooser, several, out_for)
    several[0].is_admitted = True
    assert order_of(chooser, several, 3 * sum(weights)).count("a") == pytest.approx(3 * weights[0], abs=1)


@pytest.mark.parametrize("weights", [(1, 1), (5, 1), (1, 5, 1)])
@pytest.mark.parametrize("refused", [1, 10, 100])
def test_when_no_endpoint_is_available_no_endpoint_loses_a_turn(weights: tuple[int, ...], refused: int) -> None:
    several = endpoints(*weights)
    chooser = balancer("round_robin", several)
    for _ in range(refused):
        assert chooser.choose(LeaseRequest(0.0), PickContext(max_requests=0)) is None
    counts = Counter(order_of(chooser, several, 10 * sum(weights)))
    for letter, weight in zip("abc", weights, strict=False):
        assert counts[letter] == pytest.approx(10 * weight, abs=2)


@pytest.mark.parametrize("refused", [0, 100])
def test_a_joining_endpoint_does_not_catch_up(refused: int) -> None:
    several = endpoints(1, 1, 1)
    chooser = balancer("round_robin", several[:2])
    order_of(chooser, several, 100)
    for _ in range(refused):
        chooser.choose(LeaseRequest(0.0), PickContext(max_requests=0))
    use(chooser, several)
    assert Counter(order_of(chooser, several, 12)) == {"a": 4, "b": 4, "c": 4}


def test_endpoints_that_stay_keep_their_turns() -> None:
    several = endpoints(1, 1, 1, 1)
    chooser = balancer("round_robin", several)
    assert order_of(chooser, several, 2) == "ab"
    use(chooser, several[:3])
    assert order_of(chooser, several, 3) == "cab"


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 1, 1, 1), (2, 1, 3)])
def test_retries_are_spread_evenly_and_add_no_first_attempts_to_a_broken_endpoint(weights: tuple[int, ...]) -> None:
    several = endpoints(*weights)
    chooser = balancer("round_robin", several)
    firsts, all_of_them = Counter[str](), Counter[str]()
    rounds = 100 * sum(weights)
    for _ in range(rounds):
        chosen = taken(chooser.choose(LeaseRequest(0.0), PickContext()))
        firsts[chosen.url] += 1
        if chosen is several[0]:
            chosen = taken(chooser.choose(LeaseRequest(0.0, tried=[chosen]), PickContext()))
        all_of_them[chosen.url] += 1
    assert firsts == {each.url: 100 * each.weight for each in several}
    left = sum(weights[1:])
    for each in several[1:]:
        assert all_of_them[each.url] == pytest.approx(rounds * each.weight / left, rel=0.15)


# ---- two_choices


def test_of_two_the_endpoint_with_fewer_requests_in_flight_is_chosen() -> None:
    several = endpoints(1, 1)
    hold(several[0], times=2)
    hold(several[1], times=1)
    chooser = balancer("two_choices", several)
    assert [chooser.choose(LeaseRequest(0.0), PickContext()) for _ in range(20)] == [several[1]] * 20


def test_in_flight_counts_by_weight() -> None:
    several = endpoints(1, 4)
    hold(several[0], times=2)
    hold(several[1], times=7)
    assert balancer("two_choices", several).choose(LeaseRequest(0.0), PickContext()) is several[1]
    hold(several[1], times=5)
    assert balancer("two_choices", several).choose(LeaseRequest(0.0), PickContext()) is several[0]


def test_of_many_the_endpoint_with_most_in_flight_is_never_chosen() -> None:
    several = endpoints(*[1] * 10)
    hold(several[3], times=1)
    chooser = balancer("two_choices", several)
    chosen = {taken(chooser.choose(LeaseRequest(0.0), PickContext())).url for _ in range(500)}
    assert chosen == {endpoint.url for endpoint in several} - {several[3].url}


def test_idle_endpoints_are_drawn_in_proportion_to_their_weights() -> None:
    several = endpoints(1, 2, 5)
    chooser = balancer("two_choices", several)
    counts = Counter(taken(chooser.choose(LeaseRequest(0.0), PickContext())).url for _ in range(8000))
    assert [counts[endpoint.url] for endpoint in several] == pytest.approx([1000, 2000, 5000], rel=0.1)


@pytest.mark.parametrize(("in_flight", "chosen"), [(4, 1), (6, 0)])
def test_a_second_of_penalty_counts_as_one_more_request_in_flight(in_flight: int, chosen: int) -> None:
    several = endpoints(1, 1)
    several[0].latency.penalise(0.0)  # 5 s
    hold(several[1], times=in_flight)
    assert balancer("two_choices", several).choose(LeaseRequest(0.0), PickContext()) is several[chosen]


def test_two_choices_keep_the_longest_queue_short() -> None:
    several = endpoints(*[1] * 100)
    chooser, rng = balancer("two_choices", several), random.Random(3)
    for _ in range(1000):
        hold(taken(chooser.choose(LeaseRequest(0.0), PickContext())))
    at_random = Counter(rng.randrange(100) for _ in range(1000))
    assert max(endpoint.load for endpoint in several) <= 14 < max(at_random.values())


def test_a_choice_of_two_needs_a_criterion() -> None:
    (endpoint,) = endpoints(1)
    with pytest.raises(NotImplementedError):
        super(TwoChoices, TwoChoices(random.Random(1))).is_better(endpoint, endpoint, LeaseRequest(0.0), PickContext())


# ---- peak_ewma


@pytest.mark.parametrize(
    ("one", "other", "chosen"),
    [  # in flight, milliseconds, weight
        ((0, 10, 1), (0, 20, 1), 0),
        ((1, 10, 1), (0, 15, 1), 1),
        ((1, 10, 1), (0, 26, 1), 0),
        ((9, 10, 1), (0, 126, 1), 0),
        ((9, 10, 1), (0, 79, 1), 1),
        ((3, 10, 2), (0, 32, 1), 0),
        ((0, 0, 1), (0, 1, 1), 0),
        ((1, 0, 1), (99, 999, 1), 1),
    ],
)
def test_the_cost_is_the_latency_times_the_requests_in_flight_per_weight(
    one: tuple[int, int, int], other: tuple[int, int, int], chosen: int
) -> None:
    several = endpoints(one[2], other[2])
    for endpoint, (requests, milliseconds, _) in zip(several, (one, other), strict=True):
        hold(endpoint, times=requests)
        if milliseconds:
            answer([endpoint], milliseconds / 1000)
    chooser = balancer("peak_ewma", several)
    assert [chooser.choose(LeaseRequest(0.0), PickContext()) for _ in range(10)] == [several[chosen]] * 10


def test_a_lighter_endpoint_replaces_a_heavier_one_in_proportion_to_the_weights() -> None:
    several = endpoints(9, 1)
    answer(several[:1], 0.100)
    answer(several[1:], 0.010)
    chooser = balancer("peak_ewma", several)
    counts = Counter(taken(chooser.choose(LeaseRequest(0.0), PickContext())).url for _ in range(4000))
    assert counts[several[1].url] == pytest.approx(4000 * (0.1 + 0.9 / 9), rel=0.15)
    several[0].latency.penalise(0.0)
    assert [chooser.choose(LeaseRequest(0.0), PickContext()) for _ in range(20)] == [several[1]] * 20


@pytest.mark.parametrize("milliseconds", [9.2, 10.0, 10.9])
def test_costs_that_differ_by_less_than_a_tenth_count_as_equal(milliseconds: float) -> None:
    several = endpoints(3, 1)
    answer(several[:1], 0.010)
    answer(several[1:], milliseconds / 1000)
    chooser = balancer("peak_ewma", several)
    counts = Counter(taken(chooser.choose(LeaseRequest(0.0), PickContext())).url for _ in range(4000))
    assert counts[several[0].url] == pytest.approx(3000, rel=0.1)


def test_an_unknown_endpoint_gets_one_request_until_that_is_answered() -> None:
    several = endpoints(1, 1)
    answer(several[:1], 0.1)
    chooser = balancer("peak_ewma", several)
    for number in range(100):
        chosen = taken(chooser.choose(LeaseRequest(0.0), PickContext()))
        assert chosen is several[1 if number == 0 else 0]
        hold(chosen)
    answer(several[1:], 0.1)
    assert [chooser.choose(LeaseRequest(0.0), PickContext()) for _ in range(10)] == [several[1]] * 10


def test_among_unknown_endpoints_each_gets_its_request_before_any_gets_two() -> None:
    several = endpoints(1, 1)
    chooser = balancer("peak_ewma", several)
    for _ in range(2):
        hold(taken(chooser.choose(LeaseRequest(0.0), PickContext())))
    assert [endpoint.load for endpoint in several] == [1, 1]


def test_before_anything_is_answered_requests_are_spread_by_weight() -> None:
    several = endpoints(1, 1, 2, 8)
    chooser = balancer("peak_ewma", several)
    for _ in range(1200):
        hold(taken(chooser.choose(LeaseRequest(0.0), PickContext())))
    assert [endpoint.load for endpoint in several] == pytest.approx([100, 100, 200, 800], rel=0.2)


@pytest.mark.parametrize("streams", [1, 100])
def test_an_unknown_endpoint_with_streams_only_gets_a_request(streams: int) -> None:
    several = endpoints(1, 1)
    answer(several, 0.010)
    hold(several[0], Kind.WS, streams)
    answer(several[1:], 0.010, now=300.0)  # the other has answered nothing for five minutes
    chooser = balancer("peak_ewma", several)
    chosen = taken(chooser.choose(LeaseRequest(300.0), PickContext()))
    assert chosen is several[0]
    hold(chosen)
    assert chooser.choose(LeaseRequest(300.0), PickContext()) is several[1]


@pytest.mark.parametrize("pause", [1.0, 30.0, 60.0, 120.0])
def test_streams_that_come_seldom_do_not_all_go_to_the_same_endpoint(pause: float) -> None:
    several = endpoints(1, 1)
    chooser = balancer("peak_ewma", several)
    for number in range(60):
        now = pause * number
        chosen = taken(chooser.choose(LeaseRequest(now, Kind.WS), PickContext()))
        hold(chosen, Kind.WS)
        answer([chosen], 0.010, now)
    assert min(endpoint.streams for endpoint in several) >= 20


def test_fast_endpoints_get_nearly_all_requests() -> None:
    several = endpoints(1, 1, 1, 1)
    answer(several[:3], 0.010)
    answer(several[3:], 1.0)
    counts = in_closed_loop(balancer("peak_ewma", several), several, 2000, 20)
    assert counts[3] <= 20
    assert min(counts[:3]) >= 500


def test_an_endpoint_is_avoided_after_one_slow_answer_and_chosen_again_after_a_while() -> None:
    several = endpoints(1, 1)
    answer(several, 0.010)
    answer(several[:1], 2.0)
    chooser = balancer("peak_ewma", several)
    assert [chooser.choose(LeaseRequest(0.0), PickContext()) for _ in range(10)] == [several[1]] * 10
    answer(several[1:], 0.010, now=60.0)
    assert chooser.choose(LeaseRequest(60.0), PickContext()) is several[0]


@pytest.mark.parametrize("name", ["least_load", "two_choices", "peak_ewma"])
def test_an_endpoint_that_fails_fast_does_not_look_fast(name: str) -> None:
    several = endpoints(1, 1, 1)
    chooser = balancer(name, several)
    counts = Counter[str]()
    for number in range(1000):
        now = number / 1000
        chosen = taken(chooser.choose(LeaseRequest(now), PickContext()))
        counts[chosen.url] += 1
        answer([chosen], 0.001 if chosen is several[0] else 0.020, now)
        if chosen is several[0]:
            chosen.latency.penalise(now)
    assert counts[several[0].url] <= 10


# ---- consistent_hash

KEYS = [b"key %d" % number for number in range(2000)]


def homes(chooser: Balancer, several: Sequence[Endpoint], keys: Sequence[bytes] = KEYS) -> dict[bytes, str]:
    """The endpoint of each key while nothing is in flight."""
    return {key: ask(chooser, several, key).url for key in keys}


def test_the_same_key_has_the_same_endpoint_in_every_gateway_and_any_order_of_endpoints() -> None:
    several = endpoints(*[1] * 10)
    there = homes(balancer("consistent_hash", several), several)
    shuffled = random.Random(5).sample(several, 10)
    assert homes(balancer("consistent_hash", shuffled, seed=2), shuffled) == there


def test_a_key_has_the_same_endpoint_however_the_urls_are_spelled() -> None:
    rng = random.Random(1)
    places = []
    for spelling in ("http://host{}", "HTTP://Host{}:80/"):
        several = [Endpoint(spelling.format(number), Breaker(BreakerConfig(), rng)) for number in range(10)]
        chooser = balancer("consistent_hash", several)
        places.append([ask(chooser, several, key).identity for key in KEYS[:200]])
    assert places[0] == places[1]


@pytest.mark.parametrize("weights", [(1,) * 10, (1, 2, 3, 4)])
def test_keys_are_spread_by_weight(weights: tuple[int, ...]) -> None:
    several = endpoints(*weights)
    counts = Counter(homes(balancer("consistent_hash", several), several).values())
    expected = [len(KEYS) * weight / sum(weights) for weight in weights]
    assert [counts[endpoint.url] for endpoint in several] == pytest.approx(expected, rel=0.4)


@pytest.mark.parametrize("count", [2, 5, 10, 50])
def test_without_one_endpoint_only_its_keys_move(count: int) -> None:
    several = endpoints(*[1] * count)
    chooser = balancer("consistent_hash", several)
    before = homes(chooser, several)
    use(chooser, several[1:])
    after = homes(chooser, several[1:])
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {before[key] for key in moved} == {several[0].url}
    assert len(moved) / len(KEYS) == pytest.approx(1 / count, rel=0.5)
    if count > 2:
        assert len({after[key] for key in moved}) > 1


def test_keys_of_an_endpoint_that_is_out_for_a_while_come_back() -> None:
    several = endpoints(*[1] * 5)
    chooser = balancer("consistent_hash", several)
    before = homes(chooser, several)
    several[0].is_admitted = False
    during = homes(chooser, several)
    several[0].is_admitted = True
    assert homes(chooser, several) == before
    assert all(during[key] == before[key] for key in KEYS if before[key] != several[0].url)
    assert several[0].url not in during.values()


@pytest.mark.untraced
def test_among_very_many_endpoints_few_more_keys_move() -> None:
    several = endpoints(*[1] * 400)  # the points of each depend on how many there are
    chooser = balancer("consistent_hash", several)
    before = homes(chooser, several)
    use(chooser, several[1:])
    after = homes(chooser, several[1:])
    assert sum(before[key] != after[key] for key in KEYS) / len(KEYS) <= 0.03


def test_a_key_leaves_its_endpoint_while_that_has_a_quarter_more_than_its_share() -> None:
    several = endpoints(*[1] * 4)
    chooser = balancer("consistent_hash", several)
    home = next(each for each in several if each.url == homes(chooser, several, [b"key"])[b"key"])
    for endpoint in several:
        hold(endpoint, times=100)

    def chosen_with(more: int) -> Endpoint:
        hold(home, times=more)
        chosen = ask(chooser, several, b"key")
        hold(home, times=-more)
        return chosen

    assert chosen_with(0) is home
    assert chosen_with(36) is home  # 136 of 436: 1.25 x 437 / 4 is 136.6
    elsewhere = chosen_with(37)
    assert elsewhere is not home
    assert [chosen_with(60) for _ in range(5)] == [elsewhere] * 5
    assert chosen_with(0) is home


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 5), st.integers(1, 200))
def test_a_hot_key_gives_no_endpoint_far_more_than_its_share(weights: list[int], keys: int, requests: int) -> None:
    several = endpoints(*weights)
    chooser = balancer("consistent_hash", several)
    for number in range(requests):
        hold(ask(chooser, several, b"%d" % (number % keys)))
    for endpoint in several:
        share = requests / sum(weights) * endpoint.weight
        assert endpoint.load < LOAD_BOUND * share + 1 + 1e-9  # what is rounded may be rounded up


def test_streams_count_for_the_share() -> None:
    several = endpoints(1, 1)
    chooser = balancer("consistent_hash", several)
    for _ in range(100):
        hold(ask(chooser, several, b"key", Kind.WS), Kind.WS)
    assert max(endpoint.load for endpoint in several) <= math.ceil(LOAD_BOUND * 100 / 2)


def test_when_every_endpoint_is_above_the_bound_the_first_on_the_ring_is_chosen() -> None:
    several = endpoints(*[1] * 5)
    chooser = balancer("consistent_hash", several)
    first = ask(chooser, several, b"key")
    second = taken(chooser.choose(LeaseRequest(0.0, key=b"key", tried=[first]), PickContext()))
    for endpoint in several[:]:
        hold(endpoint, times=50)
    assert chooser.choose(LeaseRequest(0.0, key=b"key"), with_load(0, 1)) is first
    assert chooser.choose(LeaseRequest(0.0, key=b"key", tried=[first]), with_load(0, 1)) is second


def test_a_request_without_a_key_goes_to_the_less_loaded_endpoint() -> None:
    several = endpoints(1, 1, 1)
    counts = in_closed_loop(balancer("consistent_hash", several), several, 900, 12)
    assert counts == pytest.approx([300] * 3, abs=30)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("least_load", LeastLoad),
        ("round_robin", RoundRobin),
        ("two_choices", TwoChoices),
        ("peak_ewma", PeakEwma),
        ("consistent_hash", ConsistentHash),
    ],
)
def test_each_balancer_has_its_name(name: str, make: Callable[[random.Random], Balancer]) -> None:
    assert BALANCERS[name] is make
    assert len(BALANCERS) == 5
