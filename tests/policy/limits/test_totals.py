"""The totals of the limits."""

from tornado_gateway.policy.limits.totals import OBSERVED, REFUSED, LimitTotals


def test_outcomes_and_policies_are_counted_apart() -> None:
    totals = LimitTotals()
    totals.limited[REFUSED, "a"] += 1
    totals.limited[OBSERVED, "a"] += 2
    assert totals.limited == {(REFUSED, "a"): 1, (OBSERVED, "a"): 2}
