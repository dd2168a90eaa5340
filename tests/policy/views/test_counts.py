"""The counts of the dashboard: by group, the greatest first, without zeros, and bounded."""

from tornado_gateway.policy.views.counts import MOST, counts_of
from tornado_gateway.policy.views.state import CacheState, LimitsState, ProcessState, State


def test_counts_are_told_by_group_the_greatest_first() -> None:
    state = State(
        limits=LimitsState({"refused 10/s": 3, "observed a b": 5}, keys=2),
        process=ProcessState({"low": 4, "high": 0}, authenticated=9, tickets={"made": 1, "used": 0}, revocations=6),
        cache=CacheState({"hit a": 1, "hit b": 2, "stale a": 7}, bytes=100, responses=8),
    )
    assert counts_of(state) == [
        ("Cache", "bytes", 100),
        ("Cache", "stored responses", 8),
        ("Cache", "stale", 7),
        ("Cache", "hit", 3),
        ("Credentials", "accepted", 9),
        ("Credentials", "revocations", 6),
        ("Credentials", "tickets made", 1),
        ("Overload", "class low: shed", 4),
        ("Rate limits", "a b: observed", 5),
        ("Rate limits", "10/s: refused", 3),
        ("Rate limits", "clients that are counted", 2),
    ]


def test_a_gateway_without_requests_has_no_counts() -> None:
    assert counts_of(State()) == []


def test_of_many_limits_the_greatest_counts_are_told() -> None:
    found = counts_of(State(limits=LimitsState({f"refused {each}": each for each in range(1, 3 * MOST)})))
    assert [count for _, _, count in found] == list(range(3 * MOST - 1, 2 * MOST - 1, -1))
