"""A histogram: each duration in the first bucket whose bound it does not exceed."""

import itertools
import math

import pytest

from tornado_gateway.policy.histogram import LIVES, PAUSES, SECONDS, Histogram


@pytest.mark.parametrize("bounds", [SECONDS, LIVES, PAUSES])
def test_bounds_ascend(bounds: tuple[float, ...]) -> None:
    assert all(low < high for low, high in itertools.pairwise(bounds))
    assert 0 < bounds[0] < bounds[-1] < math.inf


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(-1.0, 0), (0.0, 0), (1.0, 0), (1.5, 1), (10.0, 1), (86400.0, len(LIVES) - 1), (86401.0, len(LIVES))],
)
def test_a_duration_is_in_one_bucket(seconds: float, bucket: int) -> None:
    histogram = Histogram(LIVES)
    histogram.add(seconds)
    assert histogram.counts == [number == bucket for number in range(len(LIVES) + 1)]
    assert (histogram.count, histogram.total) == (1, seconds)


def test_durations_add_up() -> None:
    histogram = Histogram()
    for seconds in (0.25, 0.5, 4.0):
        histogram.add(seconds)
    assert (histogram.count, histogram.total, Histogram().count) == (3, 4.75, 0)
