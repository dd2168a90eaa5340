"""The expected latency of an endpoint: samples, penalties of failures, decay and expiry."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.upstream.latency import Latency

START = 1000.0  # seconds on any clock
E = math.e


def seen(*samples: tuple[float, float]) -> Latency:
    """A Latency with these samples: pairs of seconds after START and seconds of the answer."""
    latency = Latency()
    for later, seconds in samples:
        latency.add(START + later, seconds)
    return latency


@pytest.mark.parametrize("now", [0.0, START, 1e9])
def test_an_unknown_latency_is_0(now: float) -> None:
    latency = Latency()
    assert (latency.peak(now), latency.expected(now), latency.penalty(now)) == (0, 0, 0)
    assert (latency.average, latency.last) == (0, 0)


def test_a_slow_second_is_worth_368_milliseconds_after_ten_seconds_of_silence() -> None:
    latency = seen((0, 1.0))
    assert latency.peak(START) == 1.0
    assert latency.peak(START + 10) == pytest.approx(0.368, abs=0.0005)


@pytest.mark.parametrize("later", [0.0, 0.1, 10.0, 60.0])
@pytest.mark.parametrize("seconds", [1.0, 1.5, 30.0])
def test_a_slower_answer_than_any_is_the_peak_at_once(later: float, seconds: float) -> None:
    assert seen((0, 1.0), (later, seconds)).peak(START + later) == seconds


@pytest.mark.parametrize(("later", "seconds"), [(10.0, 0.37), (10.0, 0.5), (10.0, 0.99), (60.0, 0.003)])
def test_an_answer_slower_than_is_still_expected_is_the_peak_at_once(later: float, seconds: float) -> None:
    assert seen((0, 1.0), (later, seconds)).peak(START + later) == pytest.approx(seconds)


def test_quick_answers_do_not_bring_the_peak_down_before_time_does() -> None:
    latency = seen((0, 1.0), *[(0.0, 0.001)] * 100)
    assert latency.peak(START) == 1.0
    assert latency.expected(START) < 0.01


def test_the_peak_falls_to_the_present_latency() -> None:
    latency = seen((0, 1.0), *((number / 10, 0.01) for number in range(1, 1001)))
    assert latency.peak(START + 100) == pytest.approx(0.01, rel=0.01)


def test_the_average_gives_the_newest_answer_a_fifth() -> None:
    latency = seen((0, 0.5))
    assert (latency.average, latency.last) == (0.5, 0.5)
    latency.add(START, 1.5)
    assert latency.average == pytest.approx(0.5 + 0.2 * 1.0)
    assert latency.last == 1.5


def test_the_shown_average_does_not_decay() -> None:
    latency = seen((0, 0.5))
    latency.expected(START + 3600)
    assert latency.average == 0.5


def test_a_quick_answer_after_silence_does_not_bring_old_slowness_back() -> None:
    latency = seen((0, 5.0), (60, 0.01))
    assert latency.peak(START + 60) < 0.03
    assert latency.expected(START + 60) < 0.03


# An average expires after a hundred times its own value, at most after 30 s.
ends = pytest.mark.parametrize(
    ("seconds", "end"), [(0.001, 0.1), (0.004, 0.4), (0.06, 6.0), (0.3, 30.0), (0.301, 30.0), (5.0, 30.0), (60.0, 30.0)]
)


@ends
def test_an_average_stays_until_it_expires(seconds: float, end: float) -> None:
    latency = seen((0, seconds))
    for share in (0.0, 0.5, 0.99):
        assert latency.expected(START + end * share) == seconds
    for later in (end * 1.01, end * 2, 3600.0):
        assert latency.expected(START + later) == 0
    assert latency.average == seconds


@ends
@pytest.mark.parametrize("newest", [0.001, 0.02, 0.5])
def test_an_answer_replaces_an_expired_average_only(seconds: float, end: float, newest: float) -> None:
    assert seen((0, seconds), (end * 1.01, newest)).average == pytest.approx(newest)
    blended = seen((0, seconds), (end * 0.99, newest)).average
    kept = min(0.8, E ** (-end * 0.99 / 10))
    assert blended == pytest.approx(kept * seconds + (1 - kept) * newest)


def test_an_average_with_new_samples_does_not_expire() -> None:
    latency = seen(*((number / 20, 0.001) for number in range(2000)))
    assert latency.expected(START + 1999 / 20) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([0.1], 0.1),
        ([0.1] * 9 + [5.0], 0.1),
        ([0.1] * 9 + [5.0, 0.1], 0.1),
        ([0.1] * 9 + [0.3, 0.4], 0.192),  # the average: 0.1, 0.14, 0.192
        ([0.3] * 20 + [0.1], 0.1),
        ([0.001, 0.002], 0.001),
    ],
)
def test_one_slow_answer_changes_nothing_and_a_second_does(answers: list[float], expected: float) -> None:
    assert seen(*((0, seconds) for seconds in answers)).expected(START) == pytest.approx(expected)


samples = st.lists(st.tuples(st.floats(0, 60), st.floats(1e-6, 100)), min_size=1, max_size=20)


@given(samples)
def test_an_answer_never_moves_an_estimate_beyond_its_own_latency(
    steps: list[tuple[float, float]],
) -> None:
    latency, now = seen((0, 1.0)), START
    for pause, seconds in steps:
        now += pause
        before = latency.peak(now), latency.expected(now)
        latency.add(now, seconds)
        for old, new in zip(before, (latency.peak(now), latency.expected(now)), strict=True):
            assert min(old, seconds) * (1 - 1e-9) <= new <= (old + seconds) * (1 + 1e-9)


@given(samples)
def test_an_average_lies_within_the_samples_and_expires_in_time(steps: list[tuple[float, float]]) -> None:
    latency, now = Latency(), START
    for pause, seconds in steps:
        now += pause
        latency.add(now, seconds)
    took = [seconds for _, seconds in steps]
    assert min(took) * (1 - 1e-9) <= latency.average <= max(took) * (1 + 1e-9)
    end = min(100 * latency.average, 30.0)
    assert latency.expected(now + end * 1.001) == 0
    if end > 0.02:  # seconds; for a few milliseconds one answer stands for all
        assert latency.expected(now + end * 0.99 - 0.01) > 0


# ---- failures


@pytest.mark.parametrize(
    ("retry_after", "penalty"), [(0.0, 5), (4.9, 5), (5.0, 5), (60.0, 60), (300.0, 300), (301.0, 300), (1e9, 300)]
)
def test_a_failure_counts_5_seconds_or_its_retry_after_up_to_300(retry_after: float, penalty: float) -> None:
    latency = seen((0, 0.001))
    latency.penalise(START, retry_after)
    assert (latency.penalty(START), latency.peak(START), latency.expected(START)) == (penalty, penalty, penalty)


@pytest.mark.parametrize(
    ("retry_after", "later", "penalty"),
    [
        (0.0, 0.0, 5),
        (0.0, 10.0, 5 / E),
        (0.0, 20.0, 5 / E**2),
        (3.0, 3.0, 5),
        (3.0, 13.0, 5 / E),
        (60.0, 30.0, 60),
        (60.0, 60.0, 60),
        (60.0, 70.0, 60 / E),
        (1e9, 300.0, 300),
        (1e9, 310.0, 300 / E),
    ],
)
def test_a_penalty_stays_during_a_retry_after_and_then_decays(retry_after: float, later: float, penalty: float) -> None:
    latency = Latency()
    latency.penalise(START, retry_after)
    now = START + later
    assert latency.penalty(now) == pytest.approx(penalty)
    assert latency.peak(now) == latency.expected(now) == latency.penalty(now)


def test_a_penalty_is_no_answer() -> None:
    latency = seen((0, 0.25))
    latency.penalise(START + 1, 60)
    assert (latency.average, latency.last) == (0.25, 0.25)


def test_a_quick_answer_does_not_lift_a_penalty() -> None:
    latency = Latency()
    latency.penalise(START, 60)
    latency.add(START + 1, 0.001)
    assert latency.peak(START + 60) == latency.expected(START + 60) == 60


def test_an_answer_slower_than_a_penalty_counts_more() -> None:
    latency = Latency()
    latency.penalise(START)
    for _ in range(2):
        latency.add(START, 7.0)
    assert latency.peak(START) == latency.expected(START) == 7.0


@pytest.mark.parametrize(("second", "later", "penalty"), [(0.0, 60.0, 60), (30.0, 60.0, 60), (100.0, 101.0, 100)])
def test_a_second_failure_never_shortens_the_first_retry_after(second: float, later: float, penalty: float) -> None:
    latency = Latency()
    latency.penalise(START, 60)
    latency.penalise(START + 1, second)
    assert latency.penalty(START + later) == penalty


def test_failures_do_not_add_up() -> None:
    latency = Latency()
    for number in range(100):
        latency.penalise(START + number / 100)
    assert latency.penalty(START + 0.99) == 5


def test_a_failure_after_a_decayed_penalty_counts_as_much_as_the_first() -> None:
    latency = Latency()
    latency.penalise(START, 60)
    latency.penalise(START + 90)
    assert latency.penalty(START + 90) == 5
    assert latency.penalty(START + 100) == pytest.approx(5 / E)


# ---- coming back


def test_a_good_answer_after_a_failure_takes_away_the_penalty_and_shows_nothing_else() -> None:
    latency = seen((0, 0.001))
    latency.penalise(START, 60)
    latency.add(START + 61, 2.0)  # most of the 2 s, the endpoint hung
    assert latency.clear_penalty(START + 59)
    assert (latency.expected(START + 61), latency.peak(START + 61), latency.penalty(START + 61)) == (0, 0, 0)
    assert not latency.clear_penalty(START + 61)


def test_an_answer_to_a_request_from_before_a_failure_does_not_clear_the_penalty() -> None:
    latency = Latency()
    latency.penalise(START)
    assert not latency.clear_penalty(START - 1)
    assert latency.penalty(START) == 5


def test_a_recovered_endpoint_has_no_latency_but_the_shown_average() -> None:
    latency = seen((0, 2.0))
    latency.penalise(START, 60)
    latency.forget()
    assert (latency.peak(START), latency.expected(START), latency.penalty(START)) == (0, 0, 0)
    assert (latency.average, latency.last) == (2.0, 2.0)


def test_a_recovered_endpoint_is_known_by_the_first_answer_alone() -> None:
    latency = seen((0, 2.0))
    latency.penalise(START, 60)
    latency.forget()
    latency.add(START + 1, 0.01)
    assert latency.peak(START + 1) == 0.01
    assert latency.expected(START + 1) == pytest.approx(0.01)
    latency.penalise(START + 2)
    assert latency.penalty(START + 2) == 5


# ---- whatever happens

events = st.lists(
    st.tuples(st.floats(0, 100), st.sampled_from(["add", "penalise", "forget"]), st.floats(0, 1000)), max_size=30
)


@given(events)
def test_estimates_only_fall_while_nothing_happens_and_reading_them_changes_nothing(
    steps: list[tuple[float, str, float]],
) -> None:
    latency, now = Latency(), START
    for pause, what, seconds in steps:
        now += pause
        if what == "add":
            latency.add(now, seconds)
        elif what == "penalise":
            latency.penalise(now, seconds)
        else:
            latency.forget()
        before = pickle.dumps(latency)
        for read in (latency.peak, latency.expected, latency.penalty):
            values = [read(now + later) for later in (0, 1, 10, 100, 1000, 1e6)]
            assert values == sorted(values, reverse=True)
            assert values[-1] == pytest.approx(0, abs=1e-9)
        assert latency.peak(now) >= latency.penalty(now)
        assert latency.expected(now) >= latency.penalty(now)
        assert pickle.dumps(latency) == before
