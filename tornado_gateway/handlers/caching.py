"""Finds the answer of a request in the cache, or has the endpoint's answer stored.

    request ──► look ──► a usable stored response: Replay (replay.py), with a refresh beside (refreshing.py)
                  └────► one that must be validated, or none: one request to the service for all who ask
                         (collapsing.py), with a condition (revalidation.py), whose answer is stored (storing.py)

The look comes after the admission and before an endpoint is chosen. Which responses are stored and reused is decided in
policy/http/caching/.
"""

from functools import partial
from typing import Any

from tornado_gateway.errors import NotCached
from tornado_gateway.gateway import Gateway, ResponseCache
from tornado_gateway.handlers.admission import Admitted
from tornado_gateway.handlers.answerer import Answerer
from tornado_gateway.handlers.collapsing import fetch
from tornado_gateway.handlers.refreshing import refresh
from tornado_gateway.handlers.replay import replay
from tornado_gateway.handlers.second_look import SecondLook
from tornado_gateway.handlers.storing import CachedRequest, Look
from tornado_gateway.policy.http.caching.config import Scope
from tornado_gateway.policy.http.caching.entries import Token
from tornado_gateway.policy.http.caching.request import (
    CacheRequest,
    Key,
    by_name,
    directives_of,
    has_credentials,
    looks,
    partition,
    resource,
)
from tornado_gateway.policy.http.caching.reuse import ONLY_IF_CACHED, Reuse, reuse
from tornado_gateway.policy.http.caching.status import REASONS, SHARED, Forwarded, hit_line, miss_line
from tornado_gateway.policy.http.caching.totals import ABSENT, HIT, REFRESHING
from tornado_gateway.policy.http.credentials import Asked
from tornado_gateway.policy.http.headers import KnownFields
from tornado_gateway.policy.principal import ANYBODY
from tornado_gateway.policy.routing import Match
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.http1 import RequestHead


def cache_request(
    head: RequestHead, admitted: Admitted[Service], match: Match[Any], target: bytes, lines: bytes
) -> CacheRequest | None:
    """A request as the cache sees the request; None for a request that does not look into the cache.

    Args:
        target: behind an endpoint's base path.
        lines: field lines of the client, as an endpoint gets the lines.
    """
    service, config = admitted.found, admitted.found.config.cache
    fields = by_name(lines, remembers=not has_credentials(head.known_fields))
    if head.body or head.upgrades or not looks(head.method, fields):
        return None
    owner = admitted.principal.name if config.scope is Scope.PRINCIPAL else ""
    origination, mount = admitted.origination, match.mount
    keeps_host = (mount.config or service.config.mount).preserve_host
    host = b"%b %b" % (origination.host, head.host) if keeps_host else origination.host
    origin = (origination.proto, origination.port, origination.prefix, mount.public, mount.line)
    key = Key(
        resource(service.name.encode("ascii"), target, config),
        partition(config, fields, origin, host, origination.claims, owner),
    )
    bears = _bears_credentials(head, admitted, fields)
    return CacheRequest(key, head.method, fields, directives_of(fields, config), bears, bool(owner))


def _bears_credentials(head: RequestHead, admitted: Admitted[Service], fields: KnownFields) -> bool:
    """Whether a request bears credentials, valid or not, wherever the gateway or a service might read these."""
    if has_credentials(head.known_fields) or has_credentials(fields) or admitted.principal is not ANYBODY:
        return True
    authenticator = admitted.authenticator
    return bool(authenticator and authenticator.sources.may_hold(Asked(head.known_fields, head.block, head.target)))


def cached_answerer(
    gateway: Gateway, cache: ResponseCache, service: Service, request: CachedRequest, looking: CacheRequest
) -> Answerer:
    """The Answerer of a request that looks into the cache.

    Raises:
        NotCached: the client wants an answer from the cache alone, and there is none.
    """
    return _answerer(gateway, Look(cache, looking, service.config.cache), service, request)


def _answerer(
    gateway: Gateway, look: Look, service: Service, request: CachedRequest, *, again: bool = False
) -> Answerer:
    """As cached_answerer().

    Args:
        again: whether the shared store was asked.
    """
    cache, looking = look.cache, look.request
    results, variants = cache.totals.results, cache.store.find(looking.key)
    stored = variants.find(looking) if variants else None
    if stored is None:
        why = Forwarded.VARY_MISS if variants else Forwarded.URI_MISS
    else:
        age = stored.age(request.began)
        good_for = reuse(stored.terms, age, looking.directives, look.config.grace)
        if good_for is Reuse.REVALIDATING:
            refresh(gateway, service, look, request, stored)
        if good_for.answers:
            detail = SHARED if again else b""
            request.tell(look.told(hit_line(cache.name, stored.terms.lifetime - age, detail=detail)))
            results[service.name, REFRESHING if good_for is Reuse.REVALIDATING else HIT] += 1
            return replay(look, request, stored, age)
        why = REASONS[good_for]
    if cache.shared and not again and why is not Forwarded.REQUEST and looking.key not in cache.flights:
        found = cache.shared.look_up(looking)
        if found:
            return SecondLook(found, request, partial(_answerer_behind, gateway, look, service, request))
    if ONLY_IF_CACHED in looking.directives:  # RFC 9111 §5.2.1.7
        request.tell(look.told(miss_line(cache.name)))
        results[service.name, ABSENT] += 1
        raise NotCached
    results[service.name, why.value] += 1
    return fetch(gateway, service, look, request, why, stored)


def _answerer_behind(
    gateway: Gateway, look: Look, service: Service, request: CachedRequest, token: Token | None
) -> Answerer:
    """The Answerer once the shared store was asked.

    Raises:
        NotCached: as cached_answerer().
    """
    look.token = token
    return _answerer(gateway, look, service, request, again=True)
