"""The totals of a cache."""

from tornado_gateway.policy.http.caching.totals import HIT, CacheTotals


def test_services_and_results_are_counted_apart() -> None:
    totals = CacheTotals()
    totals.results["a", HIT] += 1
    totals.results["b", HIT] += 2
    assert totals.results == {("a", HIT): 1, ("b", HIT): 2}
