"""With POLICIES=properties, of the tests of policies only the properties run; see tests/run."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(trylast=True)  # behind Hypothesis, which marks the properties
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("POLICIES") != "properties":
        return
    others = [each for each in items if HERE in each.path.parents and not each.get_closest_marker("hypothesis")]
    if others:
        config.hook.pytest_deselected(items=others)
        left = set(items) - set(others)
        items[:] = [each for each in items if each in left]
