"""The pages about the response cache.

GET  /admin/api/cache         what the cache has done, and the largest and the hottest entries
POST /admin/api/cache/purge   {"service", "url"}, {"service", "prefix"}, or {"tags"}; and "soft" if wanted

A purge takes stored responses away; a soft purge makes stored responses stale, so that these may still answer while the
service is asked, or if the service fails. No response that a service began before a purge is stored after the purge.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tornado_gateway.errors import BadRequest
from tornado_gateway.gateway import Gateway, ResponseCache
from tornado_gateway.handlers.acting import ActingHandler
from tornado_gateway.handlers.admin_page import AdminPage
from tornado_gateway.policy.http.caching.purge import Purge, Purged, of_prefix, of_tags, of_url
from tornado_gateway.policy.orders import flag, read_order, shown, text, words
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.views.cached import joined
from tornado_gateway.upkeep.shared import in_slices

LONGEST = 2048  # characters of a service, a target and a prefix
MOST_TAGS, LONGEST_TAG = 256, 1024  # of an order, as at Fastly
ORDER = (
    text("service", LONGEST, ""), text("url", LONGEST, ""), text("prefix", LONGEST, ""),
    words("tags", MOST_TAGS, LONGEST_TAG, []), flag("soft", default=False),
)  # fmt: skip


class CacheHandler(AdminPage):
    """What the cache has done and holds."""

    async def get(self) -> None:
        gateway = self.gateway
        self.send_json(joined(await gateway.whole.caches() if gateway.whole else [await gateway.figures.cache.get()]))

    head = get


class PurgeHandler(ActingHandler):
    """Purges stored responses."""

    async def post(self) -> None:
        said = read_order(self.request.body, ORDER)
        purge, cache = purge_of(said, self.service_of), self.gateway.cache
        # The shared store first: afterwards no older response comes from there.
        is_shared = await cache.shared.purge(purge) if cache and cache.shared else False
        purged = Purged(0, 0)
        if cache:
            purged = await _carry_out(self.gateway, cache, purge)
            cache.totals.purges += 1  # an order counts once, in whatever workers
        if cache and cache.others:
            others = await self.tell_others("purge", said)
            purged = Purged(*map(sum, zip(purged, *others, strict=True)))
        deed = "made stale" if purge.is_soft else "purged"
        self.deed = f"{deed} {purged.responses} responses: {named(said)}"
        self.send_json({**purged._asdict(), "soft": purge.is_soft, "shared": is_shared})


def purge_of(said: Mapping[str, Any], service_of: Callable[[str], Service]) -> Purge:
    """What an order purges.

    Args:
        service_of: finds a service by name. May raise NotFound.

    Raises:
        BadRequest: the order does not say what is purged.
    """
    url, prefix, tags, is_soft = said["url"], said["prefix"], said["tags"], said["soft"]
    if sum(map(bool, (url, prefix, tags))) != 1 or not (said["service"] or tags):
        raise BadRequest("either url or prefix, with service, or tags must be given")
    if not said["service"]:
        return of_tags(b"", _encoded(tags), is_soft=is_soft)
    service = service_of(said["service"])
    name = service.name.encode("ascii")
    if tags:
        return of_tags(name, _encoded(tags), is_soft=is_soft)
    if prefix:
        return of_prefix(name, _target(prefix), is_soft=is_soft)
    return of_url(name, _target(url), service.config.cache, is_soft=is_soft)


async def purge_too(gateway: Gateway, said: Mapping[str, Any]) -> Purged:
    """Carry out the purge of another worker."""
    if gateway.cache is None:
        return Purged(0, 0)
    purge = purge_of(said, lambda name: gateway.services[name.encode("ascii")])
    return await _carry_out(gateway, gateway.cache, purge)


async def _carry_out(gateway: Gateway, cache: ResponseCache, purge: Purge) -> Purged:
    purged = await in_slices(cache.store.purge(purge, cache.now()), gateway.now)
    cache.totals.purged += purged.responses
    return purged


def _encoded(tags: list[str]) -> list[bytes]:
    return [each.encode("utf-8", "replace") for each in tags]


def _target(said: str) -> bytes:
    """A target, or the beginning of a target.

    Raises:
        BadRequest: no request can have such a target.
    """
    if not said.startswith("/") or not said.isascii() or not said.isprintable() or " " in said or "#" in said:
        raise BadRequest(f"{shown(said)} must be a path of the service, from / on, as requests have it: encoded")
    return said.encode("ascii")


def named(said: Mapping[str, Any]) -> str:
    """What an order purges, for the log."""
    place = f" of {said['service']}" if said["service"] else ""
    if said["tags"]:
        return f"tags {shown(said['tags'])}{place}"
    return f"{'url' if said['url'] else 'prefix'} {shown(said['url'] or said['prefix'])}{place}"
