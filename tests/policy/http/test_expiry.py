"""When the streams of a token end: by two clocks, of which one may stand still and the other may be set."""

import math

import pytest

from tornado_gateway.policy.http.expiry import NEVER, Expiry
from tornado_gateway.policy.principal import NOBODY, Holder

NOW, WALL = 100.0, 1_700_000_000.0
MINUTE = Expiry.of(WALL + 60, NOW, WALL)


@pytest.mark.parametrize(
    ("now", "wall", "passed"),
    [
        (0, 0, False),
        (59.9, 59.9, False),
        (60, 60, True),
        (5, 60, True),  # the machine was suspended, or its clock was set forward
        (60, -3600, True),  # the clock was set back
        (59.9, -3600, False),
    ],
)
def test_the_clock_that_is_first_decides(now: float, wall: float, passed: bool) -> None:
    assert MINUTE.has_passed(NOW + now, WALL + wall) is passed


@pytest.mark.parametrize("exp", [WALL, WALL - 5])
def test_a_token_that_expires_now_has_expired(exp: float) -> None:
    assert Expiry.of(exp, NOW, WALL).has_passed(NOW, WALL)


@pytest.mark.parametrize("expiry", [Expiry(), Expiry.of(math.inf, NOW, WALL), Expiry.of(WALL + 1e18, NOW, WALL)])
def test_a_token_without_an_end_in_sight_never_expires(expiry: Expiry) -> None:
    assert not expiry.has_passed(NOW + 1e12, WALL + 1e12)


def test_an_expiry_knows_whose_token_it_is() -> None:
    ada = Holder("id|ada", "7", WALL)
    assert (Expiry.of(WALL, NOW, WALL, ada).holder, NEVER.holder) == (ada, NOBODY)
