"""A least rate: averaged over a window, judged at its end."""

import pytest

from tornado_gateway.policy.http.pace import CHECK_INTERVAL, WINDOW, Pace


@pytest.mark.parametrize(
    ("now", "total", "too_slow"),
    [
        (100 + WINDOW - 0.1, 0, False),
        (100 + WINDOW, 50 + 100 * WINDOW, False),
        (100 + WINDOW, 50 + 100 * WINDOW - 1, True),
        (100 + 2 * WINDOW, 50 + 200 * WINDOW - 1, True),
        (100 + 2 * WINDOW, 50 + 200 * WINDOW, False),
    ],
)
def test_a_window_is_judged_when_it_is_over_by_all_its_time(now: float, total: int, too_slow: bool) -> None:
    assert Pace(100.0, 50).judge_window(now, total, 100) is too_slow


def test_each_window_stands_for_itself() -> None:
    pace = Pace(0.0, 0)
    assert not pace.judge_window(WINDOW, 1_000_000_000, 100)
    assert pace.judge_window(2 * WINDOW, 1_000_000_001, 100)


def test_a_rate_of_nothing_is_always_kept() -> None:
    assert not Pace(0.0, 0).judge_window(WINDOW, 0, 0)


def test_a_body_is_looked_at_several_times_per_window() -> None:
    assert 0 < CHECK_INTERVAL <= WINDOW / 2
