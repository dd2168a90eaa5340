"""Records of type SRV as targets."""

from tornado_gateway.policy.upstream.sources import Target
from tornado_gateway.policy.upstream.srv_records import Record, targets_of


def test_the_lowest_priority_number_alone_counts() -> None:
    records = [Record(20, 1, 80, "spare"), Record(10, 3, 8080, "b."), Record(10, 0, 8080, "a.")]
    assert targets_of(records) == (Target("a", 8080, "", 1), Target("b", 8080, "", 3))


def test_targets_are_in_the_same_order_however_the_answer_is_shuffled() -> None:
    records = [Record(1, 2, 80, "b"), Record(1, 9, 80, "a"), Record(1, 1, 81, "a")]
    assert targets_of(records) == targets_of(reversed(records))


def test_a_dot_says_that_there_is_no_service() -> None:
    assert targets_of([Record(0, 0, 0, ".")]) == ()
    assert targets_of([Record(0, 0, 80, "")]) == ()
    assert targets_of([]) == ()
