"""A lack of descriptors is told once."""

import logging

import pytest

from tests.support.limits import no_descriptors
from tornado_gateway.policy.episode import QUIET
from tornado_gateway.upkeep.descriptors import Descriptors


def test_a_lack_of_descriptors_is_told_once_and_a_later_lack_again(caplog: pytest.LogCaptureFixture) -> None:
    descriptors = Descriptors()
    with caplog.at_level(logging.ERROR):
        descriptors.sweep(0.0)
        assert not caplog.messages
        with no_descriptors():
            for tick in range(20):
                descriptors.sweep(float(tick))
        descriptors.sweep(19.0)
        with no_descriptors():
            descriptors.sweep(19.0 + QUIET)
    assert caplog.messages == ["no descriptor is left of 0: connections are not accepted"] * 2
