"""Attempts to log in: how many may fail, for how long they count, and how many clients are remembered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.attempts import Attempts


def failed(attempts: Attempts, client: str, *at: float) -> Attempts:
    for now in at:
        attempts.begin(client, now)
    return attempts


@pytest.mark.parametrize(("now", "wait"), [(3.0, 57.0), (59.0, 1.0), (59.75, 0.25), (60.0, 0.0), (61.0, 0.0)])
def test_a_client_waits_until_the_oldest_attempt_no_longer_counts(now: float, wait: float) -> None:
    attempts = failed(Attempts(most=3), "a", 0.0, 1.0, 2.0)
    assert attempts.wait("a", now) == wait
    assert attempts.wait("b", now) == 0.0


def test_one_attempt_less_than_the_most_waits_for_nothing() -> None:
    attempts = failed(Attempts(most=3), "a", 0.0, 1.0)
    assert attempts.wait("a", 1.0) == 0.0
    attempts.begin("a", 1.0)
    assert attempts.wait("a", 1.0) == 59.0


def test_an_attempt_that_succeeds_does_not_count() -> None:
    attempts = failed(Attempts(most=2), "a", 0.0, 1.0)
    attempts.succeed("a", 1.0)
    assert attempts.wait("a", 1.0) == 0.0
    attempts.succeed("a", 7.0)  # of nobody
    attempts.succeed("b", 1.0)
    attempts.begin("a", 2.0)
    assert attempts.wait("a", 2.0) == 58.0
    attempts.succeed("a", 0.0)
    attempts.succeed("a", 2.0)
    assert not attempts._began


def test_the_client_of_the_oldest_attempt_is_forgotten_first() -> None:
    attempts = Attempts(most=1, clients=2)
    failed(attempts, "a", 0.0)
    failed(attempts, "b", 1.0)
    failed(attempts, "a", 2.0)
    failed(attempts, "c", 3.0)
    assert [bool(attempts.wait(each, 4.0)) for each in "abc"] == [True, False, True]
    assert len(attempts._began) == 2


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 50)), max_size=60))
def test_no_client_fails_more_often_in_a_window_than_may(steps: list[tuple[str, float]]) -> None:
    attempts, now, log = Attempts(most=3, window=60.0), 0.0, []
    for client, pause in steps:
        now += pause
        if not attempts.wait(client, now):
            attempts.begin(client, now)
            log.append((client, now))
    for client, at in log:
        assert sum(other == client and at <= began < at + 60.0 for other, began in log) <= 3


def test_attempts_of_two_processes_count_together() -> None:
    told: list[tuple[str, float, bool]] = []
    one, other = Attempts(most=3, tell=lambda *said: told.append(said)), Attempts(most=3)
    failed(other, "a", 2.0)
    failed(one, "a", 1.0, 3.0)
    one.succeed("a", 3.0)
    assert told == [("a", 1.0, True), ("a", 3.0, True), ("a", 3.0, False)]
    for said in told[:2]:
        other.learn(*said)
    assert other.wait("a", 3.0) == 58.0  # in the order of time, whatever comes first
    other.learn(*told[2])
    assert other.wait("a", 3.0) == 0.0
