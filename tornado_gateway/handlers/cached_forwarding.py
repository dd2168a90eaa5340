"""A request for a service whose responses are cached.

    forward ──► a fresh response is stored: sent at once, in one write
       └──────► CachedForwarding ──► the Answerer by what is stored (caching.py)
                        └──────────► an unsafe method invalidates what is stored (invalidating.py)

A hit that is sent at once has no Forwarding: no request to an endpoint is made, and nothing can be waited for.
"""

from typing import Any

from tornado_gateway.gateway import Gateway, ResponseCache
from tornado_gateway.handlers.admission import Admitted
from tornado_gateway.handlers.answerer import Answerer, AnswerReceiver
from tornado_gateway.handlers.caching import cached_answerer, fresh_whole
from tornado_gateway.handlers.forwarding import awaits_events
from tornado_gateway.handlers.http_forwarding import HttpForwarding
from tornado_gateway.handlers.invalidating import Invalidating
from tornado_gateway.handlers.journal import Journal, Refreshed
from tornado_gateway.handlers.looking import Look, look_up
from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.caching.hits import hit_block
from tornado_gateway.policy.http.caching.invalidation import SAFE
from tornado_gateway.policy.http.caching.status import with_key
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.totals import HIT
from tornado_gateway.policy.routing import Match
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.server.exchange import ServerExchange


def forward(
    gateway: Gateway, client: ServerExchange, journal: Journal, admitted: Admitted[Service], match: Match[Any],
    target: bytes, lines: bytes,
) -> HttpForwarding | None:  # fmt: skip
    """Answer a request from the cache at once, or make its Forwarding.

    Args:
        target, lines: see Forwarding.

    Returns:
        None for a request that is answered.

    Raises:
        GatewayError: see Forwarding; NotCached.
    """
    head, service, cache = client.head, admitted.found, gateway.cache
    config = match.route.cache or service.config.cache
    if cache is None or (not config.is_on and head.method in SAFE):
        return HttpForwarding(gateway, client, journal, admitted, match, target, lines)
    look = None
    if config.is_on and not (head.accepts_events and awaits_events(head)):
        look = look_up(cache, config, head, admitted, match, target, lines)
    if look and look.found is not None and not service.config.compression.codings:
        stored = fresh_whole(look, journal.began)
        if stored:
            _send(gateway, look, client, journal, service, stored)
            return None
    return CachedForwarding(cache, config, look, gateway, client, journal, admitted, match, target, lines)


def _send(
    gateway: Gateway, look: Look, client: ServerExchange, journal: Journal, service: Service, stored: Stored
) -> None:
    """Send a fresh stored response as a whole (RFC 9111 §4), and end the request."""
    cache, now = look.cache, gateway.now()
    block = hit_block(stored, stored.age(journal.began), journal.request_id, cache.name, gateway.forwarding.pseudonym)
    if look.config.shows_key:
        block = with_key(block, look.key)
    client.set_close_callback(None)
    client.respond(stored.status, block, stored.body, reason=stored.reason, dated=True)
    cache.totals.results[service.name, HIT] += 1
    cache.totals.saved += client.body_bytes
    journal.status, journal.head_seconds = stored.status, now - journal.began
    service.heads.add(now - journal.began)
    journal.close(stored.status, "", now)


class CachedForwarding(HttpForwarding):
    """Forwards a request whose answer may be in the cache, or may invalidate what is in the cache.

    Args:
        config: of the route.
        look: the request's look into the cache; None for a request that does not look.
        others: arguments of Forwarding.
    """

    __slots__ = ("_cache", "_config", "_look")

    def __init__(self, cache: ResponseCache, config: CacheConfig, look: Look | None, *others: Any) -> None:
        self._cache, self._config, self._look = cache, config, look
        super().__init__(*others)

    def _answerer_of(self, admitted: Admitted[Service], match: Match[Any], forwarded_lines: bytes) -> Answerer:
        gateway, service = self._gateway, admitted.found
        look, self._look = self._look, None  # not to be kept for as long as a stream lives
        if look:
            return cached_answerer(gateway, service, look, self)
        receiver: AnswerReceiver = self
        if self.method not in SAFE:  # whatever the route: another route to the service may have stored something
            receiver = Invalidating(self._cache, service, self, self._target)
        attempts: Answerer = gateway.new_attempts(gateway, service, self, receiver)
        return attempts

    def note_refresh(self, told: Refreshed) -> None:
        """See CachedRequest."""
        self._journal.note_refresh(told, self._gateway.now())

    @property
    def _hides_tags(self) -> bool:
        return self._config.hides_tags
