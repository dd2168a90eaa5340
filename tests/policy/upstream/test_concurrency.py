"""The adaptive limit: growth at a flat latency, shrinking at a rising latency, and measurements."""

import itertools
import math
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.upstream.concurrency import AdaptiveConfig, AdaptiveLimit

START = 1024.0  # seconds on any clock
QUICK = 2.0**-7  # seconds; powers of two, so that ratios are exact
PAUSE = 0.5  # seconds from one window to the next


class Clocked:
    """A limit with a clock: full windows of answers, one after another."""

    def __init__(self, seed: int = 1, **config: float) -> None:
        self.config = AdaptiveConfig(**config)  # type: ignore[arg-type]
        self.limit = AdaptiveLimit(self.config, random.Random(seed))
        self.now = START

    def answers(self, seconds: Iterable[float], in_flight: int = 1_000_000, pause: float = PAUSE) -> None:
        """Add answers of one instant."""
        self.now += pause
        for each in seconds:
            self.limit.add(self.now, each, in_flight)

    def window(self, seconds: float, in_flight: int = 1_000_000, pause: float = PAUSE) -> int:
        """Add a full window of answers. Returns the limit."""
        self.answers([seconds] * self.config.samples, in_flight, pause)
        return self.limit.limit

    def measured(self, seconds: float = QUICK) -> "Clocked":
        self.answers([seconds])
        self.window(seconds)
        assert not self.limit.is_measuring
        return self

    def grown(self, limit: int) -> "Clocked":
        while self.limit.limit < limit:
            self.window(QUICK)
        assert self.limit.limit == limit
        return self


def ready(limit: int = 100, **config: float) -> Clocked:
    """A limit that has measured QUICK, and has grown to a value that is then made the maximum."""
    return Clocked(**({"most": limit, "tolerance": 0.0} | config)).measured().grown(limit)


# ---- measuring


def test_it_begins_with_the_least_and_by_measuring() -> None:
    clocked = Clocked(least=5)
    assert (clocked.limit.limit, clocked.limit.least_latency, clocked.limit.is_measuring) == (5, 0.0, False)
    clocked.answers([QUICK])
    assert (clocked.limit.limit, clocked.limit.is_measuring) == (5, True)


def test_measuring_takes_as_many_answers_as_a_window_and_no_time() -> None:
    clocked = Clocked(samples=20)
    clocked.answers([QUICK])
    clocked.answers([QUICK] * 19)
    assert clocked.limit.is_measuring
    clocked.answers([QUICK], pause=0.0)
    assert not clocked.limit.is_measuring
    assert (clocked.limit.least_latency, clocked.limit.limit) == (QUICK, 3)


@pytest.mark.parametrize(("percentile", "expected"), [(0.0, 0.001), (0.5, 0.011), (0.9, 0.019), (1.0, 0.02)])
def test_a_percentile_of_the_answers_stands_for_all(percentile: float, expected: float) -> None:
    clocked = Clocked(percentile=percentile)
    clocked.answers([QUICK])
    answers = [number / 1000 for number in range(1, 21)]
    random.Random(1).shuffle(answers)
    clocked.answers(answers)
    assert clocked.limit.least_latency == expected


def test_what_takes_no_time_at_all_is_measured_and_borne() -> None:
    clocked = Clocked(tolerance=0.0, least=4).measured(0.0)
    assert clocked.limit.least_latency > 0
    assert clocked.window(0.0) == 4 + 2


@pytest.mark.parametrize("seed", range(20))
def test_the_least_latency_is_measured_again_after_a_minute_or_so_at_the_least_limit(seed: int) -> None:
    clocked = ready(100, seed=seed)
    while not clocked.limit.is_measuring:
        assert clocked.limit.limit == 100
        clocked.answers([QUICK])
    assert 54 <= clocked.now - START <= 66 + 2 * PAUSE
    assert clocked.limit.limit == clocked.config.least
    clocked.window(2 * QUICK)
    assert not clocked.limit.is_measuring
    assert (clocked.limit.least_latency, clocked.limit.limit) == (2 * QUICK, 100)


def test_several_gateways_do_not_measure_together() -> None:
    rounds = set()
    for seed in range(20):
        clocked = ready(10, seed=seed)
        while not clocked.limit.is_measuring:
            clocked.answers([QUICK])
        rounds.add(clocked.now)
    assert len(rounds) >= 10


def start_measuring_again(clocked: Clocked) -> None:
    """Begin a measurement, with one answer at an instant at which a measurement is certainly due."""
    clocked.answers([QUICK], pause=70.0)
    assert clocked.limit.is_measuring


def test_a_permanently_higher_latency_becomes_the_new_least_latency() -> None:
    clocked = ready(64)
    assert clocked.window(4 * QUICK) < 64
    start_measuring_again(clocked)
    clocked.window(4 * QUICK)
    before = clocked.limit.limit
    assert clocked.window(4 * QUICK) == before + int(math.sqrt(before))


def test_requests_sent_before_a_measurement_do_not_count_in_the_measurement() -> None:
    clocked = ready(100)
    start_measuring_again(clocked)
    clocked.answers([1.0] * 97, pause=PAUSE)  # half a second ago, when as many were in flight as the limit let
    assert clocked.limit.is_measuring
    clocked.window(QUICK)
    assert (clocked.limit.least_latency, clocked.limit.is_measuring, clocked.limit.limit) == (QUICK, False, 100)


# ---- growing


def test_while_latency_is_flat_the_limit_grows_by_its_root() -> None:
    clocked = Clocked(tolerance=0.0, least=3).measured()
    limits = [3] + [clocked.window(QUICK) for _ in range(30)]
    assert limits[:8] == [3, 4, 6, 8, 10, 13, 16, 20]
    assert all(new == int(old + math.sqrt(old)) for old, new in itertools.pairwise(limits))


@pytest.mark.parametrize("tolerance", [0.25, 0.5, 1.0])
def test_up_to_the_tolerance_slower_answers_do_not_keep_the_limit_from_growing(tolerance: float) -> None:
    clocked = Clocked(tolerance=tolerance).measured()
    limits = [3] + [clocked.window(QUICK * (1 + tolerance)) for _ in range(20)]
    assert all(new == int(old + math.sqrt(old)) for old, new in itertools.pairwise(limits))


@pytest.mark.parametrize("share", [1, 2, 100])
def test_a_very_low_latency_at_most_doubles_the_limit(share: int) -> None:
    clocked = Clocked(least=16, tolerance=0.0).measured()
    assert clocked.window(QUICK / share) == min(2, share) * 16 + 4


@pytest.mark.parametrize(("in_flight", "limit"), [(1, 36), (17, 36), (18, 42), (36, 42)])
def test_a_limit_that_is_less_than_half_used_does_not_grow(in_flight: int, limit: int) -> None:
    clocked = Clocked(least=36, tolerance=0.0).measured()
    assert clocked.window(QUICK, in_flight) == limit


def test_the_limit_of_an_idle_service_never_exceeds_about_twice_the_use() -> None:
    clocked = Clocked(measure_every=3600.0).measured()
    for _ in range(1000):
        clocked.window(QUICK, in_flight=5)
    assert clocked.limit.limit <= 2 * 5 * 1.25 + math.sqrt(2 * 5)


# ---- shrinking


@pytest.mark.parametrize(
    ("slower", "limit"),
    [(1.0, 100), (1.0625, 100), (1.25, 90), (2.0, 60), (4.0, 60), (1000.0, 60)],
)
def test_the_slower_answers_are_the_more_the_limit_shrinks_down_to_a_half_and_its_root(
    slower: float, limit: int
) -> None:
    assert ready(100).window(slower * QUICK) == limit


@pytest.mark.parametrize(("slow", "limit"), [(1, 100), (2, 60), (20, 60)])
def test_one_slow_answer_of_twenty_says_nothing_but_a_tenth_does(slow: int, limit: int) -> None:
    clocked = ready(100)
    clocked.answers([1.0] * slow + [QUICK] * (20 - slow))
    assert clocked.limit.limit == limit


@pytest.mark.parametrize("in_flight", [1, 10, 100])
def test_the_limit_shrinks_whether_used_or_not(in_flight: int) -> None:
    assert ready(100).window(4 * QUICK, in_flight) == 60


def test_a_service_that_stays_slow_is_left_with_next_to_nothing() -> None:
    clocked = ready(1000)
    limits = [clocked.window(10 * QUICK) for _ in range(40)]
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] <= 4


# ---- when


def test_too_few_answers_change_nothing_however_long_they_take_to_come() -> None:
    clocked = Clocked(samples=20).measured()
    clocked.answers([QUICK] * 19, pause=10.0)
    assert clocked.limit.limit == 3
    clocked.answers([QUICK])
    assert clocked.limit.limit > 3


def test_many_answers_change_the_limit_once_in_a_window() -> None:
    clocked = Clocked(window=0.125, tolerance=0.0).measured()
    clocked.answers([QUICK] * 1000, pause=0.0)
    assert clocked.limit.limit == 3
    clocked.answers([QUICK] * 1000, pause=0.125)
    assert clocked.limit.limit == 4


# ---- in the long run


@given(
    st.integers(1, 20),
    st.integers(0, 100),
    st.lists(st.tuples(st.floats(0, 20), st.floats(0, 30), st.integers(1, 200)), max_size=60),
)
def test_the_limit_stays_within_its_bounds_and_is_the_least_while_measuring(
    least: int, more: int, windows: list[tuple[float, float, int]]
) -> None:
    clocked = Clocked(least=least, most=least + more, samples=3)
    for pause, seconds, in_flight in windows:
        for _ in range(3):
            clocked.answers([seconds], in_flight, pause / 3)
            assert least <= clocked.limit.limit <= least + more
            assert clocked.limit.limit == least or not clocked.limit.is_measuring
            assert clocked.limit.least_latency >= 0


@pytest.mark.parametrize("workers", [8, 32, 128])
def test_the_limit_settles_a_little_above_the_concurrency_of_a_service(workers: int) -> None:
    clocked = Clocked()
    limits = []
    for _ in range(600):  # five minutes, and as many requests as the limit lets at any time
        in_flight = clocked.limit.limit
        clocked.window(QUICK * max(1.0, in_flight / workers), in_flight)
        limits.append(clocked.limit.limit)
    settled = [limit for limit in limits[100:] if limit > clocked.config.least]  # not while measuring
    assert workers <= min(settled)
    assert max(settled) <= 1.25 * workers + 2 * math.sqrt(1.25 * workers) + 2
    assert len(settled) > 480
