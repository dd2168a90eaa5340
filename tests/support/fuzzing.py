"""How many examples fuzzers and long properties try: seconds' worth by default, FUZZ times as many if FUZZ is set, and
few while coverage is traced.
"""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("FUZZ", "1"))


def fuzzing(examples: int) -> settings:
    """Settings for a property with `examples` examples, or FUZZ times as many, or those of the profile "traced"."""
    is_traced = settings.get_current_profile_name() == "traced"
    return settings(
        max_examples=settings.default.max_examples if is_traced else examples * TIMES,
        deadline=None,
        database=None,
        derandomize=TIMES == 1,  # the same examples each time, unless a search for new ones is meant
        suppress_health_check=list(HealthCheck),
    )


def untraced(value: object) -> Any:
    """A parameter with which a test is not traced, because with others the test reaches the same lines."""
    return pytest.param(value, marks=pytest.mark.untraced)
