"""What the page about the cache shows."""

from tornado_gateway.policy.http.caching.request import Key
from tornado_gateway.policy.http.caching.stored import Stored, Variants
from tornado_gateway.policy.http.caching.terms import Terms
from tornado_gateway.policy.http.caching.totals import COLLAPSED, HIT, REFRESHING, CacheTotals
from tornado_gateway.policy.views.cached import LONGEST_URL, Entry, entries_view, totals_view


def entry(target: bytes, tags: bytes = b"") -> Entry:
    response = Stored(200, b"", 1, b"", {}, b"body", Terms(60.0), (), 100.0, tags=tags, initial_age=2.0)
    return Entry(Key(b"shop " + target, b""), Variants((response,)), 7, 1234)


def test_an_entry_has_its_age_and_the_time_for_which_it_is_fresh() -> None:
    (shown,) = entries_view([entry(b"/a", b" b c ")], 110.5)
    assert shown == {
        "service": "shop", "url": "/a", "bytes": 1234, "hits": 7, "variants": 1, "status": 200, "ageMs": 12_500,
        "freshForMs": 47_500, "tags": ["b", "c"],
    }  # fmt: skip


def test_secrets_and_long_targets_are_not_shown() -> None:
    token = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"
    targets = [b"/a?page=2&access_token=x", b"/b/" + token, b"/c?d=" + b"x" * 1000, b"/\xff"]
    shown = [each["url"] for each in entries_view(map(entry, targets), 100.0)]
    assert shown[:2] == ["/a?page=2&access_token=***", "/b/***"]
    assert len(shown[2]) == LONGEST_URL + 1
    assert shown[3] == "/\xff"


def test_the_rate_counts_looks_and_not_who_waited_for_others() -> None:
    totals = CacheTotals()
    totals.results.update({("shop", HIT): 6, ("shop", REFRESHING): 1, ("shop", "uri-miss"): 3, ("shop", COLLAPSED): 2})
    totals.results["news", "stale"] = 1
    totals.saved, totals.purges, totals.purged = 99, 2, 5
    assert totals_view(totals) == {
        "looks": 11, "hits": 7, "hitRate": 0.6364,
        "results": {HIT: 6, REFRESHING: 1, "uri-miss": 3, COLLAPSED: 2, "stale": 1},
        "savedBytes": 99, "purges": 2, "purgedResponses": 5,
        "services": [
            {"service": "news", "looks": 1, "hits": 0, "hitRate": 0.0},
            {"service": "shop", "looks": 10, "hits": 7, "hitRate": 0.7},
        ],
    }  # fmt: skip


def test_a_cache_that_nobody_has_asked_has_a_rate_of_0() -> None:
    assert totals_view(CacheTotals())["hitRate"] == 0.0
