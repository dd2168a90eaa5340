"""Spells of refusals: told when a spell begins and when a spell has ended, and never for each refusal."""

import pytest

from tornado_gateway.policy.views.board import GOOD, NOTE, WARNING, Event
from tornado_gateway.policy.views.happenings import QUIET, Happenings
from tornado_gateway.policy.views.state import LimitsState, ProcessState, State


def limited(count: int, outcome: str = "refused", policy: str = "10/s") -> State:
    return State(limits=LimitsState({f"{outcome} {policy}": count}))


def test_a_spell_is_told_at_its_beginning_and_at_its_end() -> None:
    happenings, told = Happenings(), []
    for at, count in (
        (0.0, 0),
        (1.0, 3),
        (2.0, 9),
        (3.0, 10),
        (4.0, 10),
        (3.0 + QUIET - 0.1, 10),
        (3.0 + QUIET, 10),
        (30.0, 10),
    ):
        told += happenings.update(limited(count), at)
    assert told == [
        Event(1.0, WARNING, "rate limit 10/s refuses requests"),
        Event(3.0 + QUIET, GOOD, "rate limit 10/s refuses requests no more: 10 in 2 s"),
    ]
    assert happenings.update(limited(11), 31.0) == [Event(31.0, WARNING, "rate limit 10/s refuses requests")]
    assert happenings.update(limited(11), 50.0) == [
        Event(50.0, GOOD, "rate limit 10/s refuses requests no more: 1 in 1 s")
    ]


def test_what_was_counted_before_the_first_look_is_not_told() -> None:
    happenings = Happenings()
    assert happenings.update(limited(7), 0.0) == []
    assert happenings.update(limited(7), 100.0) == []


def test_a_policy_may_be_counted_for_the_first_time_later() -> None:
    happenings = Happenings()
    happenings.update(State(), 0.0)
    assert [each.text for each in happenings.update(limited(1, policy="a b"), 1.0)] == [
        "rate limit a b refuses requests"
    ]


@pytest.mark.parametrize(
    ("state", "level", "text"),
    [
        (limited(1, "observed"), NOTE, "rate limit 10/s would refuse requests"),
        (State(process=ProcessState({"low": 1})), WARNING, "overload: class low is shed"),
    ],
)
def test_each_kind_of_refusal_has_words(state: State, level: str, text: str) -> None:
    happenings = Happenings()
    happenings.update(State(), 0.0)
    assert happenings.update(state, 1.0) == [Event(1.0, level, text)]


def test_each_refuser_has_spells_of_its_own() -> None:
    happenings = Happenings()
    happenings.update(State(), 0.0)
    assert len(happenings.update(State(process=ProcessState({"low": 1, "high": 1})), 1.0)) == 2
    assert happenings.update(State(process=ProcessState({"low": 1, "high": 2})), 2.0) == []
    assert [
        each.text for each in happenings.update(State(process=ProcessState({"low": 1, "high": 2})), 1.0 + QUIET)
    ] == ["overload: class low is shed no more: 1 in 1 s"]
