"""Numbers in shared memory, beside a dictionary that has the same names."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.tally import Part, Tally


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


def test_a_worker_sees_the_numbers_of_the_others_that_live() -> None:
    tally = Tally(memory(3 * 16), 3)
    first, second, third = map(tally.of, range(3))
    first.add(b"name", 2)
    second.add(b"name", 3)
    second.add(b"other", 1)
    assert [each.number(b"name") for each in (first, second, third)] == [3, 2, 5]
    second.add(b"name", -1)
    tally.forget(0)
    assert [each.number(b"name") for each in (first, second, third)] == [2, 0, 2]
