"""What a gateway of several workers cannot do: the start is refused, so that nothing counts or admits per worker."""

from collections.abc import Iterator

from tornado_gateway.config.problems import Problem
from tornado_gateway.config.settings import Settings
from tornado_gateway.policy.limits.rules import LimitConfig

_ALONE = "WEB_CONCURRENCY=1"


def problems_of_workers(settings: Settings) -> Iterator[Problem]:
    """A problem for each setting that works in one process alone; no problem where the gateway has one process."""
    if settings.workers == 1:
        return
    if settings.watches_files:
        yield _problem("RELOAD_WATCH", "changes of the configuration")
    if settings.auth.has_tickets and not settings.redis_url:
        yield _problem("AUTH_TOKEN_SOURCES", "one-time tickets", "REDIS_URL; or ")
    if any(each.rules for each in _limit_configs(settings)) and not settings.limit_store_url:
        yield _problem("RATE_LIMIT_MAX, RATE_LIMITS", "counters of rate limits", "REDIS_URL; or ")
    if any(each.in_flight for each in _limit_configs(settings)):
        yield _problem("MAX_IN_FLIGHT_PER_CLIENT", "counts of requests in flight")
    if any((settings.streams.total, settings.streams.per_service, settings.streams.per_client)):
        yield _problem("MAX_STREAMS, MAX_STREAMS_PER_SERVICE, MAX_STREAMS_PER_CLIENT", "counts of streams")
    if settings.caches_something and not settings.cache_store_url:
        yield _problem("CACHE_ENABLED", "stored responses and what invalidates these", "REDIS_URL; or ")


def _problem(variables: str, what: str, allowed: str = "") -> Problem:
    return Problem(variables, "", f"with WEB_CONCURRENCY above 1, {what} are not shared", f"{allowed}{_ALONE}")


def _limit_configs(settings: Settings) -> list[LimitConfig]:
    of_routes = [each.limits for each in settings.routes if each.limits]
    return [settings.service.limits, *[each.service.limits for each in settings.services], *of_routes]
