"""What the response cache has done and holds, for GET /admin/api/cache.

Each worker has a cache of its own. The page of a worker is joined with those of the others, also where there are none.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tornado_gateway.policy.http.caching.request import Key
from tornado_gateway.policy.http.caching.stored import Found
from tornado_gateway.policy.http.caching.totals import BESIDE, HIT, REFRESHING, CacheTotals
from tornado_gateway.policy.http.redaction import Redaction, without_tokens

LONGEST_URL = 512  # characters of a target that is shown
MOST_TAGS = 20  # of a response that are shown
TOP = 20  # the largest and the hottest entries of the cache that a page shows

# Whoever may read the page has no need of what clients have put into queries.
_REDACTION = Redaction(shows_query=True)


class Entry(NamedTuple):
    """The stored responses of a key.

    Attributes:
        hits: how often the responses were found.
        size: bytes of memory, estimated.
    """

    key: Key
    found: Found
    hits: int
    size: int


class Top(NamedTuple):
    """The keys with the largest responses, and the keys that were found most often."""

    largest: list[Entry]
    hottest: list[Entry]


def totals_view(totals: CacheTotals) -> dict[str, Any]:
    """Looks into the cache since the start, in all and by service."""
    of_services: dict[str, Counter[str]] = {}
    everything: Counter[str] = Counter()
    for (service, result), count in totals.results.items():
        everything[result] += count
        of_services.setdefault(service, Counter())[result] += count
    return {
        **_rate(everything),
        "results": dict(everything),
        "savedBytes": totals.saved,
        "purges": totals.purges,
        "purgedResponses": totals.purged,
        "services": [{"service": name, **_rate(of_services[name])} for name in sorted(of_services)],
    }


def _rate(results: Counter[str]) -> dict[str, Any]:
    """Looks, hits and their share. A request that waited for another's answer stands under its own look as well."""
    looks = results.total() - sum(results[each] for each in BESIDE)
    return _share(looks, results[HIT] + results[REFRESHING])


def _share(looks: int, hits: int) -> dict[str, Any]:
    return {"looks": looks, "hits": hits, "hitRate": round(hits / looks, 4) if looks else 0.0}


_COUNTS = (
    "bytes", "maxBytes", "keys", "responses", "evictions", "looks", "hits", "savedBytes", "purges", "purgedResponses",
)  # fmt: skip

Page = Mapping[str, Any]


def joined(pages: Iterable[Page]) -> dict[str, Any]:
    """The page of all workers, of the page of each."""
    found = [each for each in pages if each["enabled"]]
    if not found:
        return {"enabled": False}
    results = Counter[str]()
    for each in found:
        results.update(each["results"])
    counts = {name: sum(each[name] for each in found) for name in _COUNTS}
    return {
        **found[0],
        **counts,
        **_share(counts["looks"], counts["hits"]),
        "results": dict(results),
        "services": _joined_services(found),
        "shared": _joined_stores([each["shared"] for each in found if each["shared"]]),
        "largest": _joined_entries([each["largest"] for each in found], "bytes"),
        "hottest": _joined_entries([each["hottest"] for each in found], "hits"),
    }


def _joined_services(pages: Iterable[Page]) -> list[dict[str, Any]]:
    looks, hits = Counter[str](), Counter[str]()
    for page in pages:
        for each in page["services"]:
            looks[each["service"]] += each["looks"]
            hits[each["service"]] += each["hits"]
    return [{"service": name, **_share(looks[name], hits[name])} for name in sorted(looks)]


def _joined_stores(stores: Sequence[Page]) -> dict[str, Any] | None:
    """What all workers have asked of Redis, which is up if each worker can ask Redis."""
    if not stores:
        return None
    counted = {name: sum(each[name] for each in stores) for name in stores[0] if name != "up"}
    return {"up": all(each["up"] for each in stores), **counted}


def _joined_entries(lists: Iterable[Iterable[Page]], by: str) -> list[dict[str, Any]]:
    """The first of all entries. What several workers have is an entry whose bytes and hits are added, and whose age is
    that of the newest response."""
    found: dict[str, dict[str, Any]] = {}
    for each in (entry for entries in lists for entry in entries):
        key, entry = each["key"], {name: value for name, value in each.items() if name != "key"}
        if known := found.get(key):
            newest = min(known, entry, key=lambda one: one["ageMs"])
            entry = newest | {name: known[name] + entry[name] for name in ("bytes", "hits")}
            entry["variants"] = max(known["variants"], each["variants"])
        found[key] = entry
    return sorted(found.values(), key=lambda entry: -entry[by])[:TOP]


def entries_view(entries: Iterable[Entry], now: float) -> list[dict[str, Any]]:
    """Keys as the page shows keys, and a `key` by which an entry of another worker is the same.

    Args:
        now: instant (gateway clock).
    """
    return [_entry_view(each, now) for each in entries]


def _entry_view(entry: Entry, now: float) -> dict[str, Any]:
    resource, _ = entry.key
    service, _, target = resource.partition(b" ")
    newest = next(iter(entry.found))
    age = newest.age(now)
    return {
        "key": hashlib.blake2b(b"\0".join(entry.key), digest_size=16).hexdigest(),
        "service": service.decode("ascii"),
        "url": _shown(target),
        "bytes": entry.size,
        "hits": entry.hits,
        "variants": entry.found.count,
        "status": newest.status,
        "ageMs": round(age * 1000),
        "freshForMs": round((newest.terms.lifetime - age) * 1000),
        "tags": newest.tags.decode("utf-8", "replace").split()[:MOST_TAGS],
    }


def _shown(target: bytes) -> str:
    """A target without the values of secrets in its query, cut where long."""
    path, mark, _ = target.partition(b"?")
    shown = without_tokens(path.decode("latin-1")) + (mark.decode() and f"?{_REDACTION.query(target)}")
    return shown if len(shown) <= LONGEST_URL else f"{shown[:LONGEST_URL]}…"
