"""The schedule of probes: one time per endpoint, the earliest of the given times, in order."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.services import endpoint
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.probe_schedule import ProbeSchedule

A, B, C = (endpoint(name) for name in "abc")


def all_until(agenda: ProbeSchedule, until: float) -> list[Endpoint]:
    found = []
    while one := agenda.take(until):
        found.append(one)
    return found


def test_no_probe_is_due_before_its_time() -> None:
    agenda = ProbeSchedule()
    agenda.put(A, 5.0)
    assert agenda.take(4.999) is None
    assert agenda.take(5.0) is A
    assert agenda.take(math.inf) is None


def test_the_longest_overdue_probe_is_taken_first() -> None:
    agenda = ProbeSchedule()
    for one, at in ((B, 2.0), (C, 3.0), (A, 1.0)):
        agenda.put(one, at)
    assert all_until(agenda, 2.5) == [A, B]
    assert all_until(agenda, 3.0) == [C]


@pytest.mark.parametrize(("first", "second"), [(5.0, 3.0), (3.0, 5.0), (3.0, 3.0)])
def test_the_earlier_of_two_probe_times_holds(first: float, second: float) -> None:
    agenda = ProbeSchedule()
    agenda.put(A, first)
    agenda.put(A, second)
    assert agenda.take(2.999) is None
    assert all_until(agenda, 10.0) == [A]


def test_a_taken_endpoint_can_be_scheduled_at_any_time() -> None:
    agenda = ProbeSchedule()
    agenda.put(A, 5.0)
    agenda.put(A, 1.0)
    assert agenda.take(1.0) is A
    agenda.put(A, 7.0)
    assert agenda.take(6.999) is None
    assert all_until(agenda, 7.0) == [A]


def test_a_removed_endpoint_is_not_taken_until_scheduled_again() -> None:
    agenda = ProbeSchedule()
    agenda.put(A, 1.0)
    agenda.put(B, 1.0)
    agenda.remove(A)
    agenda.remove(C)
    assert all_until(agenda, 1.0) == [B]
    agenda.put(A, 2.0)
    assert all_until(agenda, 2.0) == [A]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.sampled_from([A, B, C]), st.integers(0, 9)),
            st.tuples(st.just("take"), st.none(), st.integers(0, 9)),
            st.tuples(st.just("forget"), st.sampled_from([A, B, C]), st.just(0)),
        )
    )
)
def test_it_behaves_as_a_table_of_dates(steps: list[tuple[str, Endpoint, int]]) -> None:
    agenda, table = ProbeSchedule(), dict[Endpoint, float]()
    for what, one, at in steps:
        if what == "put":
            agenda.put(one, at)
            table[one] = min(at, table.get(one, math.inf))
        elif what == "forget":
            agenda.remove(one)
            table.pop(one, None)
        else:
            due = {each: date for each, date in table.items() if date <= at}
            taken = agenda.take(at)
            assert (taken in due) if due else taken is None
            if taken:
                assert table.pop(taken) == min(due.values())
