"""JSON in steps: the text is json.dumps()'s, and large parts are made one after the other."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.figures import whole
from tornado_gateway.policy.views.steps import json_text

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(scalars, lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(), each, max_size=4))


@given(values, st.integers(0, 5))
def test_the_text_is_that_of_the_standard_library(value: Any, levels: int) -> None:
    assert whole(json_text(value, levels)) == json.dumps(value)


@pytest.mark.parametrize(("levels", "steps"), [(0, 1), (1, 2), (2, 3), (3, 0)])
def test_each_object_below_the_upper_levels_is_a_step(levels: int, steps: int) -> None:
    assert sum(1 for _ in json_text({"a": [1, [2], [3]], "b": {"c": 1, "d": {}, "e": 3}}, levels)) == steps
