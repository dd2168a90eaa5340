"""Load shedding: which classes are shed at which share of a threshold, and when a class is admitted again."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.overload import (
    CLASSES,
    HALF_LIFE,
    ORDINARY,
    Overload,
    OverloadConfig,
    Priority,
    level_of,
    shed_class,
)

OFF = OverloadConfig(max_delay=math.inf)


def overload(**config: float) -> Overload:
    return Overload(OverloadConfig(**({"max_delay": math.inf} | config)), random.Random(1))


def held(count: int, limit: int = 100) -> Overload:
    """An Overload with a number of requests in flight."""
    of = overload(max_in_flight=limit)
    for _ in range(count):
        of.take()
    return of


def admitted(of: Overload) -> list[str]:
    """The classes of which a request is admitted; the classes that are shed in part stand for themselves."""
    return [name for index, name in enumerate(CLASSES) if not of.sheds(index)]


# ---- classes


def test_priority_comes_before_the_kind() -> None:
    order = [shed_class(priority, is_stream=kind) for priority in Priority for kind in (True, False)]
    assert order == list(range(len(CLASSES)))
    assert CLASSES[ORDINARY] == "request"


@pytest.mark.parametrize(
    ("count", "shed"),
    [(69, 0), (70, 0), (75, 1), (80, 2), (90, 3), (100, 4), (110, 5), (120, 6), (1000, 6)],
)
def test_at_each_share_of_the_threshold_one_class_more_is_shed(count: int, shed: int) -> None:
    of = held(count)
    assert of.level == shed
    assert of.shedding == list(CLASSES[:shed])
    assert admitted(of) == list(CLASSES[shed:])


def test_ordinary_requests_are_shed_from_the_threshold_on() -> None:
    assert not held(90).is_overloaded
    assert held(100).is_overloaded
    assert held(100).sheds(ORDINARY)
    assert held(1, limit=1).sheds(ORDINARY)
    assert not held(0, limit=1).sheds(ORDINARY)


def test_between_two_shares_a_part_of_a_class_is_shed() -> None:
    of = held(92, limit=100)
    assert of.level == pytest.approx(3.2)
    share = Counter(of.sheds(ORDINARY) for _ in range(10_000))[True] / 10_000
    assert share == pytest.approx(0.2, abs=0.03)
    assert of.shed["request"] == round(share * 10_000)


def test_what_is_shed_is_counted_by_class() -> None:
    of = held(100)
    admitted(of)
    admitted(of)
    assert of.shed == {name: 2 if index <= ORDINARY else 0 for index, name in enumerate(CLASSES)}


@given(st.floats(0, 10), st.floats(0, 10))
def test_a_larger_share_sheds_no_less(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= level_of(low) <= level_of(high) <= len(CLASSES)


# ---- hysteresis


def test_a_class_is_admitted_again_a_tenth_below() -> None:
    of = held(100)
    levels = []
    for _ in range(20):
        of.give_back()
        levels.append(of.level)
    assert levels[:10] == [4.0] * 10  # 99 to 90 in flight
    assert 3 < levels[10] < 4  # 89
    assert levels[18] == pytest.approx(3.0)  # 81
    assert not of.is_overloaded  # 80


def test_after_a_fall_the_level_rises_as_before() -> None:
    of = held(100)
    for _ in range(100):
        of.give_back()
    assert (of.level, of.in_flight) == (0.0, 0)
    for _ in range(75):
        of.take()
    assert of.level == 1.0


@given(st.lists(st.integers(0, 130), min_size=1, max_size=50))
def test_the_level_follows_the_figure_with_a_bounded_lag(counts: list[int]) -> None:
    of = overload(max_in_flight=100)
    for wanted in counts:
        while of.in_flight < wanted:
            of.take()
        while of.in_flight > wanted:
            of.give_back()
        assert level_of(wanted / 100) <= of.level <= level_of(wanted / 100 / 0.9)


# ---- the delay of the loop


def test_a_late_loop_sheds_at_once_and_recovers_with_time_alone() -> None:
    of = overload(max_delay=1.0)
    of.observe_delay(0.01, 10.0)
    assert of.level == 0.0
    of.observe_delay(2.0, 12.0)
    assert of.level == len(CLASSES)
    levels = []
    for tick in range(1, 41):
        of.observe_delay(0.0, 12.0 + tick * 0.05)
        levels.append(of.level)
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == len(CLASSES)
    assert levels[-1] == 0.0


def test_the_peak_halves_in_its_half_life() -> None:
    of = overload(max_delay=1.0)
    of.observe_delay(0.8, 1.0)
    of.observe_delay(0.0, 1.0 + HALF_LIFE)
    assert of.peak == pytest.approx(0.4)
    of.observe_delay(0.5, 1.0 + HALF_LIFE)
    assert of.peak == 0.5


def test_a_threshold_of_none_sheds_nothing() -> None:
    of = Overload(OFF, random.Random(1))
    of.observe_delay(3600.0, 1.0)
    of.observe_memory(2.0**50, 2.0**50)
    of.take()
    assert (of.level, of.counts_requests) == (0.0, False)
    assert admitted(of) == list(CLASSES)


# ---- the memory, and several figures


@pytest.mark.parametrize("name", ["max_heap", "max_resident"])
def test_each_figure_of_the_memory_has_its_threshold(name: str) -> None:
    of = overload(**{name: 1000.0})
    of.observe_memory(1000.0, 1000.0)
    assert of.level == 4.0
    of.observe_memory(630.0, 630.0)
    assert of.level == 0.0


def test_the_figure_with_the_largest_share_decides() -> None:
    of = overload(max_in_flight=100, max_resident=1000.0)
    for _ in range(80):
        of.take()
    of.observe_memory(0.0, 1000.0)
    assert of.level == 4.0
    of.observe_memory(0.0, 0.0)
    assert of.level == 2.0


def test_the_config_tells_what_is_on() -> None:
    assert OverloadConfig().is_on
    assert not OFF.is_on
    assert not OverloadConfig().limits_memory
    for name in ("max_heap", "max_resident"):
        assert OverloadConfig(**{"max_delay": math.inf, name: 1.0}).is_on
        assert OverloadConfig(**{name: 1.0}).limits_memory
    assert OverloadConfig(max_delay=math.inf, max_in_flight=1).is_on


def test_other_thresholds_count_the_requests_that_are_in_flight() -> None:
    of = held(90)
    assert of.level == 3
    of.reconfigure(OverloadConfig(max_delay=math.inf, max_in_flight=1000))
    assert (of.level, of.in_flight, of.counts_requests) == (0, 90, True)
    of.reconfigure(OverloadConfig(max_delay=math.inf, max_in_flight=100))
    assert of.level == 3
    of.reconfigure(OFF)
    assert (of.level, of.counts_requests) == (0, False)
