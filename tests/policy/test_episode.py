"""Failures that follow each other are told once."""

import pytest

from tornado_gateway.policy.episode import QUIET, Episode


@pytest.mark.parametrize(("pause", "begins"), [(0.0, False), (QUIET - 0.1, False), (QUIET, True)])
def test_an_episode_ends_after_a_time_without_failures(pause: float, begins: bool) -> None:
    episode = Episode()
    assert episode.begins(5.0)
    assert episode.begins(5.0 + pause) is begins


def test_an_episode_lasts_as_long_as_failures_come() -> None:
    episode = Episode()
    assert [episode.begins(number * QUIET / 2) for number in range(100)] == [True] + [False] * 99
