"""The pages of figures: which parts of the gateway are read for /metrics and for /admin/stats."""

import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from tornado_gateway import __version__
from tornado_gateway.adapters.prometheus import Metrics
from tornado_gateway.adapters.redis_cache import RedisCache
from tornado_gateway.adapters.shared_endpoints import SharedEndpoints
from tornado_gateway.adapters.tracing import Tracer
from tornado_gateway.gateway import Figures, Lifecycle, Limits, ResponseCache, Tickets
from tornado_gateway.policy.http.redaction import Redaction
from tornado_gateway.policy.limits.refused_keys import name_of
from tornado_gateway.policy.overload import Overload
from tornado_gateway.policy.principal import Authenticator
from tornado_gateway.policy.revocations import Revocations
from tornado_gateway.policy.tickets.ticket import ENDS
from tornado_gateway.policy.views.cached import TOP, entries_view, totals_view
from tornado_gateway.policy.views.collecting import Sources, collect
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.snapshot import snapshot
from tornado_gateway.policy.views.state import CacheState, ConnectState, LimitsState, ProcessState, State
from tornado_gateway.policy.views.steps import Steps, json_text
from tornado_gateway.registry import ServiceRegistry
from tornado_gateway.upkeep import process
from tornado_gateway.upkeep.pressure import Pressure
from tornado_gateway.upkeep.shared import Shared
from tornado_gateway.upkeep.streams import Streams
from tornado_gateway.upkeep.whole import Gathered, Whole
from tornado_gateway.wire.client.client import PooledHTTPClient


class Parts(NamedTuple):
    """The parts that are read; see Gateway.

    Attributes:
        endpoint_histograms: see Metrics.
        redaction: see figures_of().
    """

    services: ServiceRegistry
    durations: Durations
    streams: Streams
    client: PooledHTTPClient
    overload: Overload
    pressure: Pressure
    limits: Limits | None
    authenticator: Authenticator | None
    cache: ResponseCache | None
    tickets: Tickets | None
    revocations: Revocations
    tracer: Tracer | None
    shared_endpoints: SharedEndpoints | None
    lifecycle: Lifecycle
    environment: str
    endpoint_histograms: bool
    redaction: Redaction
    now: Callable[[], float]


def make_figures(parts: Parts, whole: Whole | None = None) -> Figures:
    """The pages, computed in slices. Made inside a running event loop.

    Args:
        whole: see Gateway.
    """
    if whole:
        return _figures_of_all(parts, whole)
    metrics = Metrics(lambda: state_of(parts, with_minute=False), endpoint_histograms=parts.endpoint_histograms)
    return Figures(
        state=partial(state_of, parts),
        stats=Shared(lambda: stats_of(parts), parts.now),
        text=Shared(lambda: metrics.steps(is_open=False), parts.now),
        open_metrics=Shared(lambda: metrics.steps(is_open=True), parts.now),
        cache=Shared(lambda: cache_page(parts.cache), parts.now),
    )


def _figures_of_all(parts: Parts, whole: Whole) -> Figures:
    gather = partial(whole.state, with_minute=False, with_each=True)

    def metrics(state: State, *, is_open: bool) -> Steps[tuple[bytes, str]]:
        made = Metrics(lambda: steps_of(state), endpoint_histograms=parts.endpoint_histograms, of_this_process=False)
        return made.steps(is_open=is_open)

    return Figures(
        state=partial(state_of, parts),
        stats=Gathered(partial(whole.state, with_minute=True, with_each=True), partial(_stats, parts), parts.now),
        text=Gathered(gather, partial(metrics, is_open=False), parts.now),
        open_metrics=Gathered(gather, partial(metrics, is_open=True), parts.now),
        cache=Shared(lambda: cache_page(parts.cache), parts.now),
    )


def steps_of(state: State) -> Steps[State]:
    """A State that is there already, as a computation."""
    yield
    return state


def state_of(parts: Parts, *, with_minute: bool, with_each: bool = True) -> Steps[State]:
    """The figures of this process.

    Args:
        with_minute: see collect().
        with_each: whether to ask each open stream what it has carried, and each connection what it buffers. Ten
            thousand streams take tens of milliseconds, which is much for an answer that is wanted each second.
    """
    streams = parts.streams.open if with_each else ()
    sources = Sources(parts.services.shown(), parts.durations, streams, parts.client.connections_to)
    state = yield from collect(sources, parts.now(), with_minute=with_minute)
    process = _process(parts, with_each=with_each)
    return replace(
        state, process=process, limits=figures_of(parts.limits, parts.redaction), cache=_of_cache(parts.cache)
    )


def about_of(parts: Parts) -> dict[str, object]:
    """What a viewer of the dashboard learns once."""
    return {"version": __version__, "environment": parts.environment, "startedAt": round(time.time())}


def stats_of(parts: Parts) -> Steps[str]:
    """The text of /admin/stats."""
    return (yield from _stats(parts, (yield from state_of(parts, with_minute=True))))


def _stats(parts: Parts, state: State) -> Steps[str]:
    epoch, now = time.time(), parts.now()
    shown = yield from snapshot(state, epoch)
    about = {
        "nowMs": round(epoch * 1000),
        "uptimeSeconds": round(now - parts.lifecycle.began, 3),
        "env": parts.environment,
        "draining": parts.lifecycle.draining,
    }
    return (yield from json_text({**about, **shown})) + "\n"


def figures_of(limits: Limits | None, redaction: Redaction) -> LimitsState:
    """The figures of the rate limits.

    Args:
        redaction: which names of clients are hidden.
    """
    if limits is None:
        return LimitsState()
    limited = {f"{outcome} {policy}": count for (outcome, policy), count in limits.totals.limited.items()}
    refused: Counter[str] = Counter()
    for refusal, count in limits.totals.keys.top(limits.now()):
        refused[f"{refusal.policy}\t{name_of(refusal, redaction)}"] += count
    state = LimitsState(limited, refused, len(limits.memory), limits.memory.dropped)
    if limits.shared is None:
        return state
    return replace(state, store_errors=limits.shared.errors, store_is_away=not limits.shared.is_up)


def cache_page(cache: ResponseCache | None) -> Steps[dict[str, Any]]:
    """What this process has for /admin/api/cache; see joined() in policy/views/cached.py."""
    if cache is None:
        return {"enabled": False}
    top, store = (yield from cache.store.top(TOP)), cache.store
    return {
        "enabled": True,
        "bytes": round(store.size),
        "maxBytes": store.max_bytes,
        "keys": len(store),
        "responses": store.responses,
        "evictions": store.evictions,
        **totals_view(cache.totals),
        "shared": shared_view(cache.shared) if cache.shared else None,
        "largest": entries_view(top.largest, cache.now()),
        "hottest": entries_view(top.hottest, cache.now()),
    }


def shared_view(shared: RedisCache) -> dict[str, Any]:
    """What the store that gateways share has done."""
    return {
        "up": shared.is_ready,
        "found": shared.found,
        "missed": shared.missed,
        "written": shared.written,
        "errors": shared.connection.errors,
    }


def _of_cache(cache: ResponseCache | None) -> CacheState:
    if cache is None:
        return CacheState()
    results = {f"{result} {service}": count for (service, result), count in cache.totals.results.items()}
    return CacheState(results, int(cache.store.size), len(cache.store), cache.store.responses, cache.store.evictions)


def _process(parts: Parts, *, with_each: bool) -> ProcessState:
    client, server = parts.client, parts.pressure.server
    event_loop = type(client.loop).__module__.partition(".")[0]
    return replace(
        ProcessState.of(parts.overload, parts.pressure.delays),
        connects=ConnectState.of(client.connector.totals, len(client.connecting)),
        clients=len(server.connections) if server else 0,
        handshakes=server.context.tls.by_outcome if server else {},
        buffered=_buffered(parts) if with_each else {},
        malloc=process.malloc_bytes() or 0,
        authenticated=parts.authenticator.accepted if parts.authenticator else 0,
        tickets={each: parts.tickets.totals[each] for each in ENDS} if parts.tickets else {},
        revocations=parts.revocations.count,
        is_deaf=not parts.revocations.is_heard,
        spans=parts.tracer.counts if parts.tracer else {},
        told=parts.shared_endpoints.counts if parts.shared_endpoints else {},
        draining=int(parts.lifecycle.draining),
        build={f"{__version__} {platform.python_version()} {event_loop}": 1},
    )


def _buffered(parts: Parts) -> dict[str, int]:
    server = parts.pressure.server
    return {"clients": server.buffered_bytes if server else 0, "upstreams": parts.client.buffered_bytes}
