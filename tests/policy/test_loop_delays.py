"""The window of delays: quantiles, and what is too old."""

from tornado_gateway.policy.loop_delays import WINDOW, LoopDelays


def test_without_a_measurement_there_is_no_delay() -> None:
    assert LoopDelays().quantiles(0.5, 0.99) == [0.0, 0.0]


def test_a_quantile_is_a_delay_that_was_measured() -> None:
    delays = LoopDelays()
    for number, delay in enumerate((0.3, 0.1, 0.2)):
        delays.add(delay, float(number))
    assert delays.quantiles(0.0, 0.3, 0.5, 0.99, 1.0) == [0.1, 0.1, 0.2, 0.3, 0.3]


def test_what_is_older_than_the_window_is_forgotten() -> None:
    delays = LoopDelays()
    delays.add(5.0, 0.0)
    delays.add(1.0, WINDOW - 0.001)
    assert delays.quantiles(1.0) == [5.0]
    delays.add(2.0, WINDOW)
    assert delays.quantiles(1.0) == [2.0]
    delays.add(0.5, 3 * WINDOW)
    assert delays.quantiles(0.5, 1.0) == [0.5, 0.5]
