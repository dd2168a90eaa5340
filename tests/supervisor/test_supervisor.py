"""Words of the supervisor. What it does is tested with processes: tests/test_workers.py."""

import pytest

from tornado_gateway.supervisor.supervisor import cause_of


@pytest.mark.parametrize(("code", "words"), [(-9, "signal SIGKILL"), (-15, "signal SIGTERM"), (3, "exit code 3")])
def test_the_end_of_a_worker_is_told_in_words(code: int, words: str) -> None:
    assert cause_of(code) == words
