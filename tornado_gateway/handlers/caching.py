"""Finds the answer of a request in the cache, or has the endpoint's answer stored.

    request ──► look ──► a usable stored response: Replay (replay.py), with a refresh beside (refreshing.py)
                  └────► one that must be validated, or none: one request to the service for all who ask
                         (collapsing.py), with a condition (revalidation.py), whose answer is stored (storing.py)

The look comes after the admission and before an endpoint is chosen. Which responses are stored and reused is decided in
policy/http/caching/.
"""

from dataclasses import dataclass
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
from tornado_gateway.handlers.storing import LoggedRequest, Look
from tornado_gateway.policy.http.caching.config import CacheConfig, Scope
from tornado_gateway.policy.http.caching.directives import NONE, Directives
from tornado_gateway.policy.http.caching.entries import Token
from tornado_gateway.policy.http.caching.request import (
    READ_METHODS,
    CacheRequest,
    Key,
    RequestLines,
    has_credentials,
    partition,
    read_request,
    resource,
)
from tornado_gateway.policy.http.caching.reuse import ONLY_IF_CACHED, Reuse, reuse
from tornado_gateway.policy.http.caching.status import REASONS, SHARED, Forwarded, hit_line, miss_line
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.totals import ABSENT, HIT, REFRESHING
from tornado_gateway.policy.http.credentials import Asked
from tornado_gateway.policy.http.forwarding import Origination
from tornado_gateway.policy.http.mount import Mount
from tornado_gateway.policy.principal import ANYBODY, Authenticator, Principal
from tornado_gateway.policy.routing import Match
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.wire.http1 import RequestHead

# Bytes of the largest body that is copied behind the head of a hit, to be written at once. A copy of this size costs
# less than the objects of a Replay, which gives a large body piece by piece.
AT_ONCE = 16 * 1024


def look_up(
    cache: ResponseCache, config: CacheConfig, head: RequestHead, admitted: Admitted[Service], match: Match[Any],
    target: bytes, lines: bytes,
) -> Look | None:  # fmt: skip
    """Look into the memory of the process; None for a request that does not look into the cache.

    Args:
        config: of the route.
        target: behind an endpoint's base path.
        lines: field lines of the client, as an endpoint gets the lines.
    """
    if head.method not in READ_METHODS or head.body or head.upgrades:
        return None
    fields = head.fields
    said = fields.reading if fields is not None and lines is fields.forwarded_lines else None
    if not isinstance(said, RequestLines):
        said = _read(head, lines)
    if said.passes:
        return None
    service, mount, asker = admitted.found, match.mount, said.note
    if not (
        isinstance(asker, Asker)
        and asker.origination is admitted.origination
        and asker.principal is admitted.principal
        and asker.config is config
        and asker.mount is mount
        and asker.service_config is service.config
        and asker.host == head.host
    ):
        said.note = asker = _asker(config, head, admitted, mount, said)
    bears = asker.has_credentials or (admitted.authenticator is not None and _may_bear(head, admitted.authenticator))
    key = Key(resource(asker.service, target, config), asker.partition)
    request = CacheRequest(
        key, head.method, said.fields, asker.directives, bears, asker.has_principal, asker.is_plain
    )  # fmt: skip
    return Look(cache, request, config, cache.store.find(key))


@dataclass(slots=True)
class Asker:
    """What requests with the same field lines have in common, whatever their target. Never changed.

    A connection keeps the last one beside its last lines. Whether it holds for a request is decided by comparison with
    everything that it follows from besides the lines: configurations and origination as the same objects.

    Attributes:
        origination, principal, config, mount, service_config, host: what the others follow from.
        service: name of the service.
        partition: of the keys.
        directives, has_principal, is_plain: see CacheRequest.
        has_credentials: whether the fields or the principal tell of credentials.
    """

    origination: Origination
    principal: Principal
    config: CacheConfig
    mount: Mount
    service_config: ServiceConfig
    host: bytes
    service: bytes
    partition: bytes
    directives: Directives
    has_credentials: bool
    has_principal: bool
    is_plain: bool


def _asker(
    config: CacheConfig, head: RequestHead, admitted: Admitted[Service], mount: Mount, said: RequestLines
) -> Asker:
    service, origination, principal = admitted.found, admitted.origination, admitted.principal
    owner = principal.name if config.scope is Scope.PRINCIPAL else ""
    keeps_host = (mount.config or service.config.mount).preserve_host
    host = b" ".join((origination.host, head.host)) if keeps_host else origination.host
    origin = (origination.proto, origination.port, origination.prefix, mount.public, mount.line)
    directives = NONE if config.ignores_client else said.directives
    return Asker(
        origination, principal, config, mount, service.config, head.host, service.name.encode("ascii"),
        partition(config, said.fields, origin, host, origination.claims, owner), directives,
        said.has_credentials or has_credentials(head.known_fields) or principal is not ANYBODY,
        bool(owner), directives is NONE and not said.has_condition,
    )  # fmt: skip


def _read(head: RequestHead, lines: bytes) -> RequestLines:
    """What the lines say. Clients repeat their fields byte for byte: a connection keeps the reading beside its last
    lines, and forgets both, credentials included, at the same time."""
    fields = head.fields
    if fields is None or lines is not fields.forwarded_lines:  # edited for this request
        return read_request(lines)
    known = fields.reading
    if isinstance(known, RequestLines):
        return known
    fields.reading = said = read_request(lines)
    return said


def _may_bear(head: RequestHead, authenticator: Authenticator) -> bool:
    """Whether a request bears something, valid or not, where the gateway might read a credential."""
    return authenticator.sources.may_hold(Asked(head.known_fields, head.block, head.target))


def fresh_whole(look: Look, now: float) -> Stored | None:
    """The stored response that answers a plain request as a whole: fresh, small, and to be sent as stored.

    None for every other request and response, of which cached_answerer() decides.

    Args:
        now: instant (gateway clock).
    """
    variants = look.found
    if variants is None or not look.request.is_plain:
        return None
    stored = variants.find(look.request)
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
    cache, looking, variants, why = look.cache, look.request, look.found, Forwarded.URI_MISS
    results, stored = cache.totals.results, None
    if variants:
        why, stored = Forwarded.VARY_MISS, variants.find(looking)
    if stored:
        age = stored.age(request.began)
        good_for = reuse(stored.terms, age, looking.directives, look.config.grace)
        if good_for is Reuse.REVALIDATING:
            refresh(gateway, service, look, request, stored)
        if good_for.answers:
            detail = SHARED if again else b""
            request.tell(look.told(hit_line(cache.name, stored.terms.lifetime - age, detail)))
            results[service.name, REFRESHING if good_for is Reuse.REVALIDATING else HIT] += 1
            return replay(look, request, stored, age)
        why = REASONS[good_for]
    if cache.shared and not again and why is not Forwarded.REQUEST and looking.key not in cache.flights:
        found = cache.shared.look_up(looking)
        if found:
            return SecondLook(found, request, partial(_answerer_behind, gateway, service, look, request))
    if not looking.is_plain and ONLY_IF_CACHED in looking.directives.arguments:  # RFC 9111 §5.2.1.7
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
    look.token, look.found = token, look.cache.store.find(look.request.key)
    return cached_answerer(gateway, service, look, request, again=True)
