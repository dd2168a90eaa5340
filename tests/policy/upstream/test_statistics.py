"""The last minute: counts, shares and rates, quantiles within 1 %, and no older events."""

import pickle
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tornado_gateway.policy.upstream.statistics import Minute, Window

START = 1024.0  # seconds on any clock; with times in quarters of a second, all sums are exact
SLOT, MINUTE = 5, 60  # seconds
SHARES = [0.0, 0.5, 0.95, 0.99, 1.0]


def filled(*durations: float) -> Window:
    """A window with these durations, added at START."""
    window = Window(START)
    for seconds in durations:
        window.add(START, seconds)
    return window


def test_a_window_in_which_nothing_happened_says_so() -> None:
    window = Window(START)
    for now in (START, START + 1, START + 3600):
        assert window.minute(now).rate == 0.0
        assert window.minute(now).error_rate == 0.0
        assert window.minute(now).quantiles(SHARES) == [None] * 5


def test_a_window_is_good_while_answers_are_twice_the_failures_of_the_last_seconds() -> None:
    assert not Window(START).is_good(START)
    window = filled(0.1, 0.2, 0.3)
    window.add(START)  # the client has left
    assert window.is_good(START)
    window.add(START, failed=True)
    assert window.is_good(START) and window.is_good(START + 2 * SLOT - 1)
    assert not window.is_good(START + 2 * SLOT)
    window.add(START, failed=True)
    assert not window.is_good(START)


# ---- quantiles

durations = st.floats(1e-6, 1e5)


@given(st.lists(durations, min_size=1), st.lists(st.floats(0, 1)))
def test_every_quantile_is_right_within_one_percent(seconds: list[float], shares: list[float]) -> None:
    exact = sorted(seconds)
    expected = [pytest.approx(exact[int(share * (len(exact) - 1))], rel=0.010001) for share in shares]
    assert filled(*seconds).minute(START).quantiles(shares) == expected


@pytest.mark.parametrize(("share", "seconds"), [(0.0, 0.001), (0.5, 0.5), (0.95, 0.95), (0.99, 0.99), (1.0, 1.0)])
def test_quantiles_of_a_thousand_even_steps(share: float, seconds: float) -> None:
    (found,) = filled(*(number / 1000 for number in range(1, 1001))).minute(START).quantiles([share])
    assert found == pytest.approx(seconds, rel=0.011)


def test_a_single_answer_is_every_quantile() -> None:
    assert filled(0.25).minute(START).quantiles(SHARES) == [pytest.approx(0.25, rel=0.01)] * 5


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e-6])
def test_what_took_no_time_is_a_microsecond(seconds: float) -> None:
    assert filled(seconds).minute(START).quantiles([0.5]) == [pytest.approx(1e-6, rel=0.010001)]


def test_a_request_without_an_answer_has_no_duration() -> None:
    window = filled(0.1)
    for _ in range(100):
        window.add(START, failed=True)
    assert window.minute(START).quantiles([0.0, 1.0]) == [pytest.approx(0.1, rel=0.01)] * 2
    assert window.minute(START).answers == 1


def test_observe_counts_a_duration_without_a_request() -> None:
    window = filled(0.1)
    for second in (0, SLOT):
        window.observe(START + second, 5.0)
    now = START + SLOT
    assert window.minute(now).quantiles([0.0, 1.0]) == [pytest.approx(0.1, rel=0.01), pytest.approx(5.0, rel=0.01)]
    assert (window.minute(now).answers, window.minute(now).rate) == (3, 1 / SLOT)
    assert window.minute(START + MINUTE).answers == 1


@given(st.lists(st.tuples(st.integers(0, 200), durations | st.none(), st.booleans())), st.integers(200, 300))
def test_the_samples_are_the_answers_of_the_last_minute(
    requests: list[tuple[int, float | None, bool]], last: int
) -> None:
    window = Window(START)
    for second, seconds, failed in sorted(requests, key=lambda request: request[0]):
        window.add(START + second, seconds, failed=failed)
    begin = last - MINUTE
    first = begin - begin % SLOT + SLOT  # the slot that the minute begins in is left out
    assert window.minute(START + last).answers == sum(
        second >= first and seconds is not None for second, seconds, _ in requests
    )


@pytest.mark.parametrize(("last", "first"), [(59, 0), (60, 5), (64, 5), (65, 10), (129, 70), (3604, 3545)])
def test_quantiles_are_taken_over_all_parts_of_the_minute(last: int, first: int) -> None:
    window = Window(START)
    for second in range(last + 1):
        window.add(START + second, second + 1)
    expected = [first + 1, (first + last) // 2 + 1, last + 1]
    assert window.minute(START + last).quantiles([0.0, 0.5, 1.0]) == [
        pytest.approx(each, rel=0.01) for each in expected
    ]


# ---- what is counted how long


@pytest.mark.parametrize(
    ("later", "error_rate"), [(0.0, 1.0), (4.0, 1.0), (54.0, 1.0), (59.75, 1.0), (60.0, 0.0), (64.0, 0.0), (9e9, 0.0)]
)
def test_what_happened_is_gone_after_a_minute(later: float, error_rate: float) -> None:
    window = Window(START)
    window.add(START, 0.1, failed=True)
    assert window.minute(START + later).error_rate == error_rate
    assert (window.minute(START + later).quantiles([0.5]) == [None]) is (error_rate == 0.0)


@pytest.mark.parametrize(
    ("failures", "successes", "error_rate"), [(0, 10, 0.0), (1, 3, 0.25), (5, 0, 1.0), (1, 9_999, 0.0001)]
)
def test_the_error_rate_is_the_share_of_requests_that_failed(failures: int, successes: int, error_rate: float) -> None:
    window = Window(START)
    for number in range(failures + successes):
        window.add(START, failed=number < failures)
    assert window.minute(START).error_rate == pytest.approx(error_rate)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 7.0, 12.5, 15.0, 59.0, 61.5, 600.0])
def test_steady_traffic_has_its_rate_from_the_first_second_on(seconds: float) -> None:
    window = Window(START)
    for number in range(int(seconds * 64)):
        window.add(START + number / 64)
    assert window.minute(START + seconds).rate == pytest.approx(64 if seconds >= 1 else 64 * seconds)


@pytest.mark.parametrize(("later", "is_counted"), [(0.0, True), (9.75, True), (15.0, False), (3600.0, False)])
def test_a_rate_covers_the_last_seconds(later: float, is_counted: bool) -> None:
    window = Window(START)
    window.add(START + 100)
    assert (window.minute(START + 100 + later).rate > 0) is is_counted


@pytest.mark.parametrize("begin", [100.0, 101.25, 104.75])
def test_a_rate_follows_a_change_within_15_seconds(begin: float) -> None:
    window = Window(START)
    for number in range(int(begin * 16)):
        window.add(START + number / 16)
    for number in range(15 * 128):
        window.add(START + begin + number / 128)
    assert window.minute(START + begin + 15).rate == pytest.approx(128, rel=0.001)


quarters = st.one_of(st.integers(0, 8), st.integers(0, 100), st.integers(200, 1000))
Happened = list[tuple[int, bool, float | None]]
requests = st.lists(st.tuples(quarters, st.booleans(), st.none() | durations), max_size=60)


@given(requests, quarters)
def test_a_window_counts_the_same_as_a_list_of_all_events(happened: Happened, silence: int) -> None:
    window, later = Window(START), 0.0
    seen: list[tuple[float, bool, float | None]] = []
    for pause, failed, seconds in happened:
        later += pause / 4
        window.add(START + later, failed=failed, seconds=seconds)
        seen.append((later // SLOT * SLOT, failed, seconds))
    later += silence / 4
    minute = [each for each in seen if later - each[0] < MINUTE]
    error_rate = sum(failed for _, failed, _ in minute) / len(minute) if minute else 0.0
    assert window.minute(START + later).error_rate == error_rate
    exact = sorted(max(seconds, 1e-6) for _, _, seconds in minute if seconds is not None)
    assert window.minute(START + later).quantiles([0.5]) == [
        pytest.approx(exact[int(0.5 * (len(exact) - 1))], rel=0.010001) if exact else None
    ]
    since = max(0.0, later // SLOT * SLOT - 2 * SLOT)
    recent = sum(begin >= since for begin, _, _ in seen)
    assert window.minute(START + later).rate == pytest.approx(recent / max(later - since, 1.0))


@given(st.floats(0, 1e6), st.sampled_from([0.1, 0.7, 1.0, 2.5, 5.0]) | st.floats(0.1, 5.0))
@example(since=4069.81, step=0.1)  # sums that are rounded just where one part of the minute ends
def test_nothing_is_lost_within_the_minute_whatever_the_clock_shows(since: float, step: float) -> None:
    window = Window(since)
    window.add(since, 1000.0)
    for number in range(int(54 / step)):
        for _ in range(3):
            window.add(since + (number + 1) * step, 0.001)
    assert window.minute(since + 54).quantiles([1.0]) == [pytest.approx(1000.0, rel=0.01)]


# ---- several windows


@given(st.lists(requests, max_size=4), quarters)
def test_minutes_add_up_to_the_minute_of_all_requests_together(parts: list[Happened], silence: int) -> None:
    last = max((sum(pause for pause, _, _ in each) for each in parts), default=0) / 4 + silence / 4
    alone, together = [Window(START) for _ in parts], Window(START)
    happened = [
        (sum(pause for pause, _, _ in part[: number + 1]) / 4, failed, seconds, window)
        for part, window in zip(parts, alone, strict=True)
        for number, (_, failed, seconds) in enumerate(part)
    ]
    for later, failed, seconds, window in sorted(happened, key=lambda each: each[0]):
        for each in (window, together):
            each.add(START + later, seconds, failed=failed)
    whole = together.minute(START + last)
    assert Minute.of(each.minute(START + last) for each in (*alone, Window(START))) == whole
    assert Minute.of([whole, Minute()]) == Minute.of([whole]) == whole


def test_windows_of_different_ages_have_the_rate_of_each() -> None:
    old, new = Window(START), Window(START + 98)
    for number in range(100 * 8):
        old.add(START + number / 8)
    for _ in range(6):
        new.add(START + 99)
    assert new.minute(START + 100).spans == {2.0: 6}
    assert Minute.of(each.minute(START + 100) for each in (old, new)).rate == 8 + 3


# ---- cost


@given(requests)
def test_reading_changes_nothing(happened: Happened) -> None:
    window, now = Window(START), START
    for pause, failed, seconds in happened:
        now += pause / 4
        window.add(now, failed=failed, seconds=seconds)
        before = pickle.dumps(window)
        for later in (0, 7, 70):
            minute = window.minute(now + later)
            assert window.minute(now + later) == minute
            minute.durations[0] = minute.spans[1.0] = 1
        assert pickle.dumps(window) == before


def test_a_window_does_not_grow_with_time_or_traffic() -> None:
    rng, window, sizes = random.Random(1), Window(START), []
    for number in range(60_000):
        window.add(START + number / 100, rng.lognormvariate(-4, 2))
        if number % 6000 == 5999:
            sizes.append(len(pickle.dumps(window)))
    assert max(sizes[1:]) < 1.1 * sizes[0]
    assert max(sizes) < 32 * 1024
