"""Validates a stale response in the background, while the stale response answers (RFC 5861 §3).

The background request is sent with the fields of the client's request that found the response stale. The background
request has a lease, timeouts and a line in the access log as every request, and no client: the answer goes to the store
alone.
"""

import asyncio
from functools import partial

from tornado_gateway.errors import GatewayError, UpstreamError
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.journal import Refreshed
from tornado_gateway.handlers.looking import Look
from tornado_gateway.handlers.revalidation import Revalidation
from tornado_gateway.handlers.storing import LoggedRequest, place_of
from tornado_gateway.policy.http.caching.entries import Token
from tornado_gateway.policy.http.caching.reuse import ERRORS
from tornado_gateway.policy.http.caching.status import Forwarded
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.totals import REFRESHED, UNREFRESHED
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.http.rewriting import Place
from tornado_gateway.policy.upstream.endpoint import FAILURE, IGNORED, Endpoint, Outcome
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead


def refresh(gateway: Gateway, service: Service, look: Look, request: LoggedRequest, stored: Stored) -> None:
    """Begin to validate a stored response, unless a validation of the key is under way."""
    refreshing, key = look.cache.refreshing, look.key
    if key in refreshing:
        return
    refreshing.add(key)
    looking = look.cache.shared.look_up(look) if look.cache.shared else None
    if looking:
        looking.add_done_callback(partial(_refresh_if_stale, gateway, service, look, request, stored))
    else:
        Refresh(gateway, service, look, request, stored).begin()


def _refresh_if_stale(
    gateway: Gateway, service: Service, look: Look, request: LoggedRequest, stored: Stored,
    looking: "asyncio.Future[Token | None]",
) -> None:  # fmt: skip
    """Begin to validate a response, unless another gateway has done so."""
    cache, key = look.cache, look.key
    look.token = None if looking.cancelled() else looking.result()
    variants = cache.store.find(key)
    newest = variants.find(look) if variants else None
    if looking.cancelled() or (newest and newest.terms.lifetime > newest.age(cache.now())):
        cache.refreshing.discard(key)
    else:
        Refresh(gateway, service, look, request, newest or stored).begin()


class Refresh:
    """A request without a client; see CachedRequest."""

    __slots__ = (
        "_answerer", "_head_seconds", "_look", "_request", "_service", "_size", "_status", "awaits_stream", "began",
        "is_repeatable", "key", "kind", "method", "pinned", "upgrades", "upload",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, service: Service, look: Look, request: LoggedRequest, stored: Stored) -> None:
        self._service, self._look, self._request = service, look, request
        self.method, self.kind, self.upgrades, self.began = b"GET", request.kind, request.upgrades, request.began
        self.is_repeatable, self.awaits_stream = request.is_repeatable, request.awaits_stream
        self.key, self.pinned, self.upload = request.key, request.pinned, request.upload
        self._status = self._size = 0
        self._head_seconds: float | None = None
        self._answerer: Revalidation | None = Revalidation(gateway, service, look, self, stored, Forwarded.STALE)

    @property
    def trace(self) -> None:
        """The client's trace may have ended, and nobody in the trace waits."""

    def replace_line(self, line: bytes, by: bytes) -> None:
        """Without a trace no line is replaced."""

    def begin(self) -> None:
        if self._answerer:
            self._answerer.begin()

    def head_for(self, endpoint: Endpoint) -> bytes:
        return self._request.head_for(endpoint)

    @property
    def place(self) -> Place | None:
        """Where the endpoint is that answers; None if no endpoint was asked."""
        endpoint = self._answerer.endpoint if self._answerer else None
        return place_of(endpoint) if endpoint else None

    def rewritten(self, head: ResponseHead, place: Place | None) -> ResponseHead:
        return self._request.rewritten(head, place)

    def tell(self, lines: bytes) -> None:
        """There is no client to be told."""

    # ---- the answer

    def on_interim(self, head: ResponseHead) -> None:
        """There is no client that waits."""

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver:
        self._status, self._head_seconds = head.status, self._look.cache.now() - self.began
        return self

    def on_chunk(self, chunk: bytes) -> None:
        """Count the body. What is too large to be stored is not read to the end."""
        self._size += len(chunk)
        if self._answerer and self._size > self._look.config.max_body:
            self._answerer.abort()
            self._close(IGNORED)

    def on_end(self, trailers: list[Field]) -> None:
        self._close(self._service.outcomes.judge(self._status))

    def on_failure(self, error: GatewayError) -> None:
        self._close(FAILURE if isinstance(error, UpstreamError) else IGNORED)

    def _close(self, outcome: Outcome) -> None:
        answerer, self._answerer = self._answerer, None
        if answerer is None:
            return
        cache, endpoint, status, reason = self._look.cache, answerer.endpoint, answerer.status, answerer.reason
        answerer.close(outcome, cache.now())
        cache.refreshing.discard(self._look.key)
        cache.totals.results[self._service.name, UNREFRESHED if reason or status in ERRORS else REFRESHED] += 1
        url, attempts = endpoint.url if endpoint else "", answerer.attempt_count
        self._request.note_refresh(Refreshed(self.began, status, reason, url, attempts, self._size, self._head_seconds))
