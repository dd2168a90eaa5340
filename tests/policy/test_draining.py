"""When idle connections end."""

import pytest

from tornado_gateway.policy.draining import IdleEnds


@pytest.mark.parametrize(
    ("ends", "count", "instants"),
    [
        (IdleEnds(), 0, []),
        (IdleEnds(1.0, 0.0), 2, [11.0, 11.0]),
        (IdleEnds(1.0, 4.0), 1, [11.0]),
        (IdleEnds(0.0, 4.0), 4, [10.0, 11.0, 12.0, 13.0]),
    ],
)
def test_the_first_ends_after_the_grace_and_the_others_evenly_after_it(
    ends: IdleEnds, count: int, instants: list[float]
) -> None:
    assert list(ends.instants(count, 10.0)) == instants
