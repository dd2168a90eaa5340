"""Which tests of policies run: with POLICIES=traced, all but those marked `untraced`, which compute for long; with
POLICIES=untraced, these and the properties. See tests/run.
"""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LEFT_OUT = {
    "traced": lambda item: item.get_closest_marker("untraced"),
    "untraced": lambda item: not any(map(item.get_closest_marker, ("untraced", "hypothesis"))),
}


MAY_REMAIN = ("hypothesis", "fuzzing", "untraced")  # one of these is named where an item of the part "untraced" is


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Collect no file of which the part "untraced" would leave out every item."""
    if os.environ.get("POLICIES") != "untraced" or not collection_path.name.startswith("test_"):
        return None
    text = collection_path.read_text(encoding="utf-8")
    return None if any(each in text for each in MAY_REMAIN) else True


@pytest.hookimpl(trylast=True)  # behind Hypothesis, which marks the properties
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part = os.environ.get("POLICIES")
    if part is None:
        return
    others = {each for each in items if HERE in each.path.parents and LEFT_OUT[part](each)}
    config.hook.pytest_deselected(items=list(others))
    items[:] = [each for each in items if each not in others]
