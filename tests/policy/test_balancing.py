"""Which endpoint gets the next request."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.balancing import BALANCERS, LeastLoad, RoundRobin, score
from tornado_gateway.policy.endpoint import Balancer, Endpoint


def endpoints(*weights: int) -> list[Endpoint]:
    return [Endpoint(f"http://host{number}", weight) for number, weight in enumerate(weights)]


def test_equal_endpoints_take_turns() -> None:
    several, balancer = endpoints(1, 1, 1), LeastLoad()
    assert [several.index(balancer.choose(several)) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_the_smallest_score_wins() -> None:
    several, balancer = endpoints(1, 1, 1), LeastLoad()
    several[0].lease(0.0)
    several[2].observe(0.1)
    assert [balancer.choose(several) for _ in range(3)] == [several[1]] * 3


@pytest.mark.parametrize(
    ("inflight", "latency", "weight", "expected"),
    [(0, 0.0, 1, 0.0), (1, 0.0, 1, 1000.0), (0, 0.25, 1, 250.0), (2, 0.5, 1, 2500.0), (2, 0.5, 5, 500.0)],
)
def test_the_score_is_in_flight_times_1000_plus_milliseconds(
    inflight: int, latency: float, weight: int, expected: float
) -> None:
    (endpoint,) = endpoints(weight)
    if latency:
        endpoint.observe(latency)
    for _ in range(inflight):
        endpoint.lease(0.0)
    assert score(endpoint) == expected


def test_under_load_weights_are_shares() -> None:
    several, balancer = endpoints(1, 3), LeastLoad()
    for _ in range(400):
        balancer.choose(several).lease(0.0)
    assert [endpoint.inflight for endpoint in several] == pytest.approx([100, 300], abs=2)


def test_round_robin_spreads_a_heavy_endpoint_evenly() -> None:
    several, balancer = endpoints(5, 1, 1), RoundRobin()
    order = "".join("abc"[several.index(balancer.choose(several))] for _ in range(14))
    assert order == "aabacaaaabacaa"


def test_round_robin_is_fair_among_those_that_are_left() -> None:
    several, balancer = endpoints(1, 1, 1), RoundRobin()
    counts = Counter(balancer.choose(several[:2]).url for _ in range(10))
    assert set(counts.values()) == {5}


@pytest.mark.parametrize("make", BALANCERS.values(), ids=BALANCERS)
@given(weights=st.lists(st.integers(1, 10), min_size=1, max_size=8), picks=st.lists(st.integers(0, 7), max_size=30))
def test_the_choice_is_always_one_of_the_candidates(
    make: Callable[[], Balancer], weights: list[int], picks: list[int]
) -> None:
    several, balancer = endpoints(*weights), make()
    for pick in picks:
        candidates = several[: pick % len(several) + 1]
        chosen = balancer.choose(candidates)
        assert chosen in candidates
        chosen.lease(0.0)
