"""What the response cache has done and holds, for GET /admin/api/cache."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from tornado_gateway.policy.http.caching.request import Key
from tornado_gateway.policy.http.caching.stored import Variants
from tornado_gateway.policy.http.caching.totals import BESIDE, HIT, REFRESHING, CacheTotals
from tornado_gateway.policy.http.redaction import Redaction, without_tokens

LONGEST_URL = 512  # characters of a target that is shown
MOST_TAGS = 20  # of a response that are shown

# Whoever may read the page has no need of what clients have put into queries.
_REDACTION = Redaction(shows_query=True)


class Entry(NamedTuple):
    """The stored responses of a key.

    Attributes:
        hits: how often the responses were found.
        size: bytes of memory, estimated.
    """

    key: Key
    variants: Variants
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
    hits = results[HIT] + results[REFRESHING]
    return {"looks": looks, "hits": hits, "hitRate": round(hits / looks, 4) if looks else 0.0}


def entries_view(entries: Iterable[Entry], now: float) -> list[dict[str, Any]]:
    """Keys as the page shows keys.

    Args:
        now: instant (gateway clock).
    """
    return [_entry_view(each, now) for each in entries]


def _entry_view(entry: Entry, now: float) -> dict[str, Any]:
    service, _, target = entry.key.resource.partition(b" ")
    newest = next(iter(entry.variants))
    age = newest.age(now)
    return {
        "service": service.decode("ascii"),
        "url": _shown(target),
        "bytes": entry.size,
        "hits": entry.hits,
        "variants": len(entry.variants),
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
