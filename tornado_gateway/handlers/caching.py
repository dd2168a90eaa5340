"""Finds the answer of a request in the cache, or has the endpoint's answer stored.

    request ──► look ──► a usable stored response: Replay (replay.py), with a refresh beside (refreshing.py)
                  └────► one that must be validated, or none: one request to the service for all who ask
                         (collapsing.py), with a condition (revalidation.py), whose answer is stored (storing.py)

The look comes after the admission and before an endpoint is chosen. Which responses are stored and reused is decided in
policy/http/caching/.
"""

from functools import partial

from tornado_gateway.errors import NotCached
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.answerer import Answerer
from tornado_gateway.handlers.collapsing import fetch
from tornado_gateway.handlers.looking import Look
from tornado_gateway.handlers.refreshing import refresh
from tornado_gateway.handlers.replay import replay
from tornado_gateway.handlers.second_look import SecondLook
from tornado_gateway.handlers.storing import LoggedRequest
from tornado_gateway.policy.http.caching.entries import Token
from tornado_gateway.policy.http.caching.reuse import ONLY_IF_CACHED, Reuse, reuse
from tornado_gateway.policy.http.caching.status import REASONS, SHARED, Forwarded, hit_line, miss_line
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.totals import ABSENT, HIT, REFRESHING
from tornado_gateway.policy.upstream.service import Service

# Bytes of the largest body that is copied behind the head of a hit, to be written at once. A copy of this size costs
# less than the objects of a Replay, which gives a large body piece by piece.
AT_ONCE = 16 * 1024


def fresh_whole(look: Look, now: float) -> Stored | None:
    """The stored response that answers a plain request as a whole: fresh, small, and to be sent as stored.

    None for every other request and response, of which cached_answerer() decides.

    Args:
        now: instant (gateway clock).
    """
    variants = look.found
    if variants is None or not look.is_plain:
        return None
    stored = variants.find(look)
    if stored is None or stored.terms.needs_validation or stored.status >= 500 or len(stored.body) > AT_ONCE:
        return None
    return stored if stored.terms.lifetime > stored.age(now) else None  # RFC 9111 §4.2


def cached_answerer(
    gateway: Gateway, service: Service, look: Look, request: LoggedRequest, *, again: bool = False
) -> Answerer:
    """The Answerer of a request that looks into the cache.

    Args:
        again: whether the shared store was asked.

    Raises:
        NotCached: the client wants an answer from the cache alone, and there is none.
    """
    cache, variants, why = look.cache, look.found, Forwarded.URI_MISS
    results, stored = cache.totals.results, None
    if variants:
        why, stored = Forwarded.VARY_MISS, variants.find(look)
    if stored:
        age = stored.age(request.began)
        good_for = reuse(stored.terms, age, look.directives, look.config.grace)
        if good_for is Reuse.REVALIDATING:
            refresh(gateway, service, look, request, stored)
        if good_for.answers:
            detail = SHARED if again else b""
            request.tell(look.told(hit_line(cache.name, stored.terms.lifetime - age, detail)))
            results[service.name, REFRESHING if good_for is Reuse.REVALIDATING else HIT] += 1
            return replay(look, request, stored, age)
        why = REASONS[good_for]
    if cache.shared and not again and why is not Forwarded.REQUEST and look.key not in cache.flights:
        found = cache.shared.look_up(look)
        if found:
            return SecondLook(found, request, partial(_answerer_behind, gateway, service, look, request))
    if not look.is_plain and ONLY_IF_CACHED in look.directives.arguments:  # RFC 9111 §5.2.1.7
        request.tell(look.told(miss_line(cache.name)))
        results[service.name, ABSENT] += 1
        raise NotCached
    results[service.name, why] += 1
    return fetch(gateway, service, look, request, why, stored)


def _answerer_behind(
    gateway: Gateway, service: Service, look: Look, request: LoggedRequest, token: Token | None
) -> Answerer:
    """The Answerer once the shared store was asked.

    Raises:
        NotCached: as cached_answerer().
    """
    look.token, look.found = token, look.cache.store.find(look.key)
    return cached_answerer(gateway, service, look, request, again=True)
