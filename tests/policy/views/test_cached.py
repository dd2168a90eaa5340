"""What the page about the cache shows."""

from typing import Any

from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.terms import Terms
from tornado_gateway.policy.http.caching.totals import COLLAPSED, HIT, REFRESHING, CacheTotals
from tornado_gateway.policy.views.cached import LONGEST_URL, TOP, Entry, entries_view, joined, totals_view


def entry(target: bytes, tags: bytes = b"") -> Entry:
    response = Stored(200, b"", 1, b"", {}, b"body", Terms(60.0), (), 100.0, tags=tags, initial_age=2.0)
    return Entry((b"shop " + target, b""), response, 7, 1234)


def test_an_entry_has_its_age_and_the_time_for_which_it_is_fresh() -> None:
    (shown,) = entries_view([entry(b"/a", b" b c ")], 110.5)
    assert len(shown.pop("key")) == 32
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


def page(hits: int, *entries: Entry, now: float, **others: Any) -> dict[str, Any]:
    """What a worker has."""
    totals = CacheTotals()
    totals.results.update({("shop", HIT): hits, ("shop", "uri-miss"): 4})
    totals.purged = 1
    shown = entries_view(entries, now)
    return {
        "enabled": True, "bytes": 10, "maxBytes": 100, "keys": 1, "responses": 2, "evictions": 3,
        **totals_view(totals), "shared": None, "largest": shown, "hottest": shown, **others,
    }  # fmt: skip


def test_the_pages_of_all_workers_are_added_and_an_entry_that_several_have_is_there_once() -> None:
    first, second = entry(b"/a"), entry(b"/b")
    pages = [page(2, first, now=110.0), page(4, second._replace(hits=15), first._replace(hits=9), now=105.0)]
    said = joined(pages)
    sums = {"bytes": 20, "maxBytes": 200, "keys": 2, "responses": 4, "evictions": 6, "purgedResponses": 2}
    assert {name: said[name] for name in sums} == sums
    assert (said["looks"], said["hits"], said["hitRate"]) == (14, 6, 0.4286)
    assert said["results"] == {HIT: 6, "uri-miss": 8}
    assert said["services"] == [{"service": "shop", "looks": 14, "hits": 6, "hitRate": 0.4286}]
    assert [(each["url"], each["hits"], each["bytes"], each["ageMs"]) for each in said["hottest"]] == [
        ("/a", 16, 2468, 7000), ("/b", 15, 1234, 7000),
    ]  # fmt: skip
    assert [each["url"] for each in said["largest"]] == ["/a", "/b"]
    assert all("key" not in each for each in said["largest"])
    assert said["shared"] is None


def test_the_page_of_one_process_is_the_page_of_all() -> None:
    one = page(2, entry(b"/a"), now=110.0)
    assert joined([one, {"enabled": False}]) == one | {
        name: [{key: each[key] for key in each if key != "key"} for each in one[name]]
        for name in ("largest", "hottest")
    }
    assert joined([{"enabled": False}]) == joined([]) == {"enabled": False}


def test_a_page_has_the_first_entries_of_all_workers_and_what_all_have_asked_of_redis() -> None:
    store = {"up": True, "found": 1, "missed": 2, "written": 3, "errors": 0}
    first, second = ([entry(b"/%d" % number) for number in range(at, at + TOP)] for at in (0, TOP))
    away = store | {"up": False}
    said = joined([page(1, *first, now=100.0, shared=store), page(1, *second, now=100.0, shared=away)])
    assert len(said["largest"]) == len(said["hottest"]) == TOP
    assert said["shared"] == {"up": False, "found": 2, "missed": 4, "written": 6, "errors": 0}
