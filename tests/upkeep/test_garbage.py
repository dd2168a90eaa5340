"""The garbage collector, in a process of its own: thresholds and permanent objects are a process's."""

import subprocess
import sys

import pytest

from tornado_gateway.upkeep.garbage import YOUNG

COUNT = """
import gc
from tornado_gateway.upkeep import garbage
looks = lambda: gc.get_stats()[0]["collections"]
garbage.settle()
before = looks()
kept = [[] for _ in range({containers})]
print(looks() - before, gc.get_freeze_count() > 1000)
"""


@pytest.mark.parametrize(("containers", "looks"), [(YOUNG // 2, 0), (3 * YOUNG, 3)])
def test_the_collector_looks_once_a_threshold_of_containers_is_made(containers: int, looks: int) -> None:
    argv = [sys.executable, "-c", COUNT.format(containers=containers)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    if sys.version_info >= (3, 14) and looks:  # the looks are divided into increments
        assert int(said.split()[0]) > 0
    else:
        assert said == f"{looks} True\n"
