"""The token bucket: how much may be taken when, and how long more takes to come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.pacing import TokenBucket

START = 1000.0  # seconds on any clock


def test_at_first_a_seconds_worth_is_there() -> None:
    assert TokenBucket(10, START).available(START) == 10


def test_what_is_taken_is_missing_at_once() -> None:
    bucket = TokenBucket(10, START)
    bucket.take(3)
    assert bucket.available(START) == 7


@pytest.mark.parametrize(("later", "available"), [(0.0, 0), (0.1, 1), (0.25, 2.5), (1.0, 10), (60.0, 10)])
def test_tokens_come_back_evenly_and_no_more_than_a_seconds_worth(later: float, available: float) -> None:
    bucket = TokenBucket(10, START)
    bucket.take(10)
    assert bucket.available(START + later) == pytest.approx(available)


def test_a_pause_does_not_save_up_more_than_a_second() -> None:
    bucket = TokenBucket(10, START)
    assert bucket.available(START + 3600) == 10


def test_more_than_there_is_can_be_taken_and_is_paid_back_first() -> None:
    bucket = TokenBucket(10, START)
    bucket.take(25)
    assert bucket.available(START) == -15
    assert bucket.available(START + 1) == pytest.approx(-5)
    assert bucket.available(START + 2) == pytest.approx(5)


@pytest.mark.parametrize(("taken", "wanted", "wait"), [(10, 1, 0.1), (9, 1, 0), (0, 10, 0), (30, 0, 2), (30, 1, 2.1)])
def test_the_wait_is_the_time_until_as_many_are_there(taken: float, wanted: float, wait: float) -> None:
    bucket = TokenBucket(10, START)
    bucket.take(taken)
    assert bucket.wait(wanted, START) == pytest.approx(wait)
    assert bucket.wait(wanted, START + wait) == pytest.approx(0, abs=1e-9)


def test_asking_changes_nothing() -> None:
    bucket = TokenBucket(10, START)
    bucket.take(5)
    assert [bucket.available(START + 0.1), bucket.wait(8, START + 0.1), bucket.available(START + 0.1)] == [
        pytest.approx(6), pytest.approx(0.2), pytest.approx(6),
    ]  # fmt: skip


@given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 5), st.floats(0, 50)), max_size=30))
def test_whoever_waits_is_never_given_more_than_the_rate_and_one_burst(
    rate: int, steps: list[tuple[float, float]]
) -> None:
    bucket, now, taken = TokenBucket(rate, START), START, 0.0
    for pause, wanted in steps:
        now += pause
        now += bucket.wait(min(wanted, rate), now)
        bucket.take(min(wanted, rate))
        taken += min(wanted, rate)
        assert taken <= rate + (now - START) * rate + 1e-6 * (1 + taken)
