"""Health checks: the number of results that changes an endpoint's health, and the time of the next check."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.upstream.health import Health, HealthConfig, HealthKind, first_pause


def states(results: str, config: HealthConfig) -> tuple[str, str]:
    """The health after each check, and the checks that have changed the health.

    Args:
        results: "+" for each check that passed, "-" for one that did not.
    """
    health, believed, changes = Health(), "", ""
    for result in results:
        has_changed = health.record(config, passed=result == "+")
        believed += "+" if health.is_up else "-"
        changes += "!" if has_changed else " "
    return believed, changes


@pytest.mark.parametrize(
    ("results", "believed", "changes"),
    [
        ("+++", "+++", "   "),
        ("--", "++", "  "),
        ("---", "++-", "  !"),
        ("--+--+--+", "+++++++++", "         "),
        ("--+---", "+++++-", "     !"),
        ("----------", "++--------", "  !       "),
        ("---+", "++--", "  ! "),
        ("---++", "++--+", "  ! !"),
        ("---+-+-++", "++------+", "  !     !"),
        ("---++--+---", "++--++++++-", "  ! !     !"),
    ],
)
def test_three_failures_in_a_row_take_an_endpoint_out_and_two_successes_bring_it_back(
    results: str, believed: str, changes: str
) -> None:
    assert states(results, HealthConfig(rise=2, fall=3)) == (believed, changes)


def test_another_configuration_counts_from_the_next_check_on() -> None:
    health = Health()
    patient, hasty = HealthConfig(fall=3, interval_down=2.0, jitter=0.0), HealthConfig(fall=2, interval_down=1.0)
    assert not health.record(patient, passed=False)
    assert health.record(hasty, passed=False)
    assert health.pause(replace(hasty, jitter=0.0), random.Random(1)) == 1.0


def test_with_rise_and_fall_of_1_every_check_decides() -> None:
    assert states("-+--++", HealthConfig(rise=1, fall=1)) == ("-+--++", "!!! ! ")


@given(st.text("+-", max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_only_as_many_contrary_checks_in_a_row_as_are_asked_for_change_anything(
    results: str, rise: int, fall: int
) -> None:
    believed, changes = states(results, HealthConfig(rise=rise, fall=fall))
    last_change, now = 0, "+"
    for number in range(1, len(results) + 1):
        contrary = "-" * fall if now == "+" else "+" * rise
        if results[last_change:number].endswith(contrary):
            last_change, now = number, contrary[0]
        assert believed[number - 1] == now
        assert changes[number - 1] == ("!" if last_change == number else " ")


def test_an_endpoint_that_was_never_checked_is_healthy() -> None:
    assert Health().is_up


@pytest.mark.parametrize(
    ("kind", "status", "is_expected"),
    [
        (HealthKind.HTTP, 200, True),
        (HealthKind.HTTP, 204, True),
        (HealthKind.HTTP, 399, True),
        (HealthKind.HTTP, 400, False),
        (HealthKind.HTTP, 101, False),
        (HealthKind.HTTP, 404, False),
        (HealthKind.HTTP, 503, False),
        (HealthKind.WEBSOCKET, 101, True),
        (HealthKind.WEBSOCKET, 200, False),
    ],
)
def test_what_status_means_healthy(kind: HealthKind, status: int, is_expected: bool) -> None:
    assert (status in HealthConfig(kind=kind).expected) is is_expected


@pytest.mark.parametrize(("kind", "expected"), [(HealthKind.HTTP, {200, 404}), (HealthKind.WEBSOCKET, {101})])
def test_other_statuses_can_be_healthy_but_never_a_websockets(kind: HealthKind, expected: set[int]) -> None:
    assert set(HealthConfig(kind=kind, statuses={200, 404}).expected) == expected


@pytest.mark.parametrize(
    ("results", "interval"),
    [
        ("", 10.0),
        ("+", 10.0),
        ("-", 2.0),
        ("--", 2.0),
        ("-+", 10.0),
        ("---", 2.0),
        ("------", 2.0),
        ("---+", 2.0),
        ("---++", 10.0),
    ],
)
def test_the_next_check_is_due_sooner_while_an_endpoint_is_down_or_in_doubt(results: str, interval: float) -> None:
    health, config = Health(), HealthConfig(interval=10.0, interval_down=2.0, jitter=0.1)
    for result in results:
        health.record(config, passed=result == "+")
    rng = random.Random(1)
    pauses = sorted(health.pause(config, rng) for _ in range(1000))
    assert 0.9 * interval <= pauses[0] < 0.91 * interval
    assert 1.09 * interval < pauses[-1] <= 1.1 * interval
    assert health.pause(replace(config, jitter=0.0), rng) == interval


@given(st.floats(0.01, 1e4), st.floats(0, 0.99), st.integers())
def test_a_pause_differs_from_its_interval_by_no_more_than_the_jitter(
    interval: float, jitter: float, seed: int
) -> None:
    config = HealthConfig(interval=interval, jitter=jitter)
    low, high = interval * (1 - jitter), interval * (1 + jitter)
    assert low * (1 - 1e-9) <= Health().pause(config, random.Random(seed)) <= high * (1 + 1e-9)


@pytest.mark.parametrize(("interval", "down"), [(10.0, 2.0), (2.0, 10.0)])
def test_the_longest_and_the_shortest_time_between_two_checks(interval: float, down: float) -> None:
    config = HealthConfig(interval=interval, interval_down=down, jitter=0.1)
    assert (config.shortest_timeout, config.longest_pause) == (2.0, pytest.approx(11.0))


def test_first_checks_are_spread_over_a_whole_interval() -> None:
    rng = random.Random(1)
    pauses = [first_pause(HealthConfig(interval=10.0), rng) for _ in range(1000)]
    assert all(0 <= pause < 10 for pause in pauses)
    assert all(60 < sum(second <= pause < second + 1 for pause in pauses) < 140 for second in range(10))


def test_health_of_another_process_is_taken_over_and_counts_anew() -> None:
    health, config = Health(), HealthConfig(fall=3)
    health.record(config, passed=False)
    health.follow(up=True)  # nothing new
    health.follow(up=False)
    assert not health.is_up
    health.record(config, passed=True)
    health.follow(up=True)
    assert [health.record(config, passed=False) for _ in range(3)] == [False, False, True]
