"""Receives the answer to an unsafe request, which makes stored responses invalid (RFC 9111 §4.4)."""

from typing import Protocol

from tornado_gateway.errors import GatewayError
from tornado_gateway.gateway import ResponseCache
from tornado_gateway.handlers.answerer import AnswerReceiver
from tornado_gateway.policy.http.caching.invalidation import invalidates, targets
from tornado_gateway.policy.http.caching.request import resource
from tornado_gateway.policy.http.rewriting import Place
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead


class UnsafeRequest(AnswerReceiver, Protocol):
    """A request that may change something at the service.

    Attributes:
        place: where the endpoint is that answers; None before an endpoint was asked.
    """

    method: bytes

    @property
    def place(self) -> Place | None: ...


class Invalidating:
    """Invalidates stored responses before the client learns of the success: the client may ask again at once.

    Args:
        target: of the request, behind the endpoint's base path.
    """

    __slots__ = ("_cache", "_request", "_service", "_target")

    def __init__(self, cache: ResponseCache, service: Service, request: UnsafeRequest, target: bytes) -> None:
        self._cache, self._service, self._request, self._target = cache, service, request, target

    def on_interim(self, head: ResponseHead) -> None:
        self._request.on_interim(head)

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        place = self._request.place
        if place and invalidates(self._request.method, head.status):
            name, config = self._service.name.encode("ascii"), self._service.config.cache
            for target in targets(self._target, head.known_fields, place):
                self._invalidate(resource(name, target, config))
        return self._request.on_head(head, source)

    def _invalidate(self, resource: bytes) -> None:
        cache = self._cache
        cache.store.invalidate(resource)
        if cache.shared:
            cache.shared.invalidate(resource)
        elif cache.others:
            cache.others.tell("invalid", resource.decode("latin-1"))

    def on_failure(self, error: GatewayError) -> None:
        self._request.on_failure(error)
