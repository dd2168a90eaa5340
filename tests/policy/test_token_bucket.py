"""The token bucket: how much may be taken when, and how long more takes to come."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_gateway.policy.token_bucket import TokenBucket

START = 1000.0  # seconds on any clock


def test_at_first_a_seconds_worth_is_there() -> None:
    assert TokenBucket(10, START).available(START) == 10


def test_taken_tokens_are_missing_at_once() -> None:
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
def test_waiting_takers_never_get_more_than_the_rate_and_one_burst(rate: int, steps: list[tuple[float, float]]) -> None:
    bucket, now, taken = TokenBucket(rate, START), START, 0.0
    for pause, wanted in steps:
        now += pause
        now += bucket.wait(min(wanted, rate), now)
        bucket.take(min(wanted, rate))
        taken += min(wanted, rate)
        assert taken <= rate + (now - START) * rate + 1e-6 * (1 + taken)


@pytest.mark.parametrize(
    ("taken", "wanted", "later", "part"),
    [(0, 7, 0, 7), (0, 12, 0, 10), (10, 5, 0, 0), (10, 5, 0.29, 2), (15, 5, 0.1, 0)],
)
def test_a_part_is_as_many_whole_tokens_as_there_are(taken: int, wanted: int, later: float, part: int) -> None:
    bucket = TokenBucket(10, START)
    bucket.take(taken)
    assert bucket.take_part(wanted, START + later) == part
    assert bucket.available(START + later) == pytest.approx(10 - taken + later * 10 - part)


@given(
    st.integers(1, 10**6),
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 10**6)), min_size=1, max_size=40),
    st.floats(0.01, 0.2),
)
@settings(deadline=None)
def test_parts_never_exceed_the_rate_and_always_arrive(rate: int, bursts: list[tuple[float, int]], tick: float) -> None:
    """Whatever comes in bursts leaves in parts: in no stretch of time more than a second's worth and the rate."""
    bucket, now, waiting, passed = TokenBucket(rate, START), START, 0, [(START, 0)]
    for pause, size in bursts:
        waiting += size
        for _ in range(max(1, int(pause / tick))):
            now += tick
            part = bucket.take_part(waiting, now)
            waiting -= part
            passed.append((now, passed[-1][1] + part))
            assert part or waiting == 0 or bucket.available(now) < 1
    for index, (since, before) in enumerate(passed):
        for at, total in passed[index + 1 :: 7]:
            assert total - before <= rate + (at - since) * rate + 1
