"""Numbers of streams in shared memory, beside a dictionary that has the same names."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.errors import StreamLimitReached, TooManyStreams
from tornado_gateway.policy.http.address import of_peer
from tornado_gateway.policy.http.stream_limits import StreamCounts, StreamLimits
from tornado_gateway.policy.http.stream_tally import Part, Tally

ONE, TWO = map(of_peer, ("192.0.2.1", "192.0.2.2"))


def memory(places: int) -> "memoryview[int]":
    return memoryview(bytearray(16 * places)).cast("q")


changes = st.lists(st.tuples(st.integers(1, 60), st.sampled_from([1, 1, -1])), max_size=80)


@given(changes)
def test_a_part_counts_as_a_dictionary_does_whatever_names_collide(changes: list[tuple[int, int]]) -> None:
    part, expected = Part(memory(16), 16), Counter[int]()
    for name, change in changes:
        if change > 0 and not expected[name] and len(+expected) >= 8:
            continue
        if change < 0 and not expected[name]:
            continue
        part.add(name, change)
        expected[name] += change
        assert [part.get(each) for each in range(1, 61)] == [expected[each] for each in range(1, 61)]


def test_names_behind_a_removed_name_are_found() -> None:
    part = Part(memory(16), 16)
    for name in (1, 17, 2, 33):  # at the places 1, 2, 3 and 4; all but 2 belong at 1
        part.add(name, 1)
    part.add(1, -1)
    assert [part.get(name) for name in (1, 17, 2, 33)] == [0, 1, 1, 1]


def test_a_part_is_never_full_and_a_further_name_is_left_out() -> None:
    numbers = memory(16)
    part = Part(numbers, 16)
    for name in range(1, 100):
        part.add(name, 1)
    assert sum(part.get(name) for name in range(1, 100)) == 8
    part.add(99, -1)  # was left out
    for name in range(1, 9):
        part.add(name, -1)
    assert not any(numbers[::2])
    part.add(7, 1)
    part.clear()
    assert (part.get(7), any(numbers)) == (0, False)


def counts(tally: Tally, worker: int, **limits: int) -> StreamCounts:
    return StreamCounts(StreamLimits(**limits), tally.of(worker))


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [({"total": 2}, StreamLimitReached), ({"per_service": 2}, StreamLimitReached), ({"per_client": 2}, TooManyStreams)],
)
def test_limits_hold_for_all_workers_together(limits: dict[str, int], refusal: type[Exception]) -> None:
    tally = Tally(memory(2 * 64), 2)
    one, other = (counts(tally, worker, **limits) for worker in (0, 1))
    one.take("chat", ONE)
    other.take("chat", ONE)
    for each in (one, other):
        with pytest.raises(refusal):
            each.take("chat", ONE)
    one.give_back("chat", ONE)
    other.take("chat", ONE)
    tally.forget(1)  # the worker has ended
    one.take("chat", ONE)
    one.take("chat", ONE)


def test_other_services_and_clients_are_not_in_the_way() -> None:
    tally = Tally(memory(2 * 64), 2)
    one, other = (counts(tally, worker, per_service=1, per_client=1) for worker in (0, 1))
    one.take("chat", ONE)
    other.take("mail", TWO)
    with pytest.raises(StreamLimitReached):
        other.take("chat", TWO)
