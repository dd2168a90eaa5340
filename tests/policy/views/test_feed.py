"""What viewers get: at last every row, within the budget, and what matters first."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.views.feed import OF_A_ROW, Feed, Row

rows_of_an_instant = st.dictionaries(
    st.sampled_from("abcdefgh"), st.builds(Row, st.sampled_from(["up", "out"]), st.integers(0, 3).map(str))
)


@given(st.lists(rows_of_an_instant, min_size=1, max_size=12), st.integers(1, 40))
def test_a_viewer_who_follows_has_what_the_feed_has_told_and_at_last_everything(
    course: list[dict[str, Row]], budget: int
) -> None:
    feed, viewer = Feed(), dict[str, str]()
    for rows in [*course, *[course[-1]] * 12]:  # then nothing changes any more
        change = feed.update(rows, budget)
        text = ",".join(f'"{key}":{row}' for key, row in change.rows.items())
        assert len(change.rows) <= 1 or len(text) <= change.size <= budget
        viewer = {key: text for key, text in {**viewer, **change.rows}.items() if key not in change.gone}
        assert viewer == feed.whole()
    assert viewer == {key: row.text for key, row in course[-1].items()}
    assert not feed.update(course[-1], budget).rows


def test_a_change_of_state_goes_first_and_then_what_was_told_longest_ago() -> None:
    feed, budget = Feed(), 2 * (2 + OF_A_ROW)
    feed.reset({key: Row("up", "0") for key in "abc"})
    assert list(feed.update({key: Row("up", "1") for key in "abc"}, budget).rows) == ["a", "b"]
    rows = {"a": Row("up", "2"), "b": Row("out", "2"), "c": Row("up", "2")}
    assert list(feed.update(rows, budget).rows) == ["b", "c"]
    assert list(feed.update(rows, budget).rows) == ["a"]


@pytest.mark.parametrize("budget", [1, 0, -5])
def test_a_row_larger_than_the_budget_is_told(budget: int) -> None:
    text = json.dumps("x" * 100)
    change = Feed().update({"a": Row("up", text), "b": Row("up", text)}, budget)
    assert list(change.rows) == ["a"] and change.size == 1 + len(text) + OF_A_ROW
