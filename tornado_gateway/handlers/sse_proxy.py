"""GET, HEAD /sse/<service>/<path>: an event stream, as a browser's EventSource asks for it.

What becomes of the stream is said in EventStream, since it may as well be the answer to a POST under /api. Asking
here says beforehand that a stream is wanted: it is counted before a service is asked, an endpoint that fails is
replaced, and whatever is answered has SSE_IDLE_TIMEOUT_MS between two pieces.
"""

from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.policy.http.headers import serialize, without
from tornado_gateway.policy.http.sse import last_event_id
from tornado_gateway.policy.http.unavailable import RETRY
from tornado_gateway.policy.upstream.endpoint import Kind
from tornado_gateway.wire.http1 import ResponseHead, fields


class SseProxyHandler(ProxiedRequest):
    """A request for an event stream."""

    ROUTE = "/sse/<service>/*"
    PREFIX = b"/sse/"
    METHODS = (b"GET", b"HEAD")
    IS_STREAM = True
    UNAVAILABLE = RETRY
    kind = Kind.SSE

    def _pass(self, passing: bytes) -> bytes:
        # Into a compressed stream nothing can be put, and most of them are collected before they are sent.
        passing = without(passing, (b"accept-encoding",)) + b"Accept-Encoding: identity\r\n"
        config = self._service.config.event_streams if self._service else None
        id_ = last_event_id(self._rest) if config and config.reads_last_event_id else None
        if id_ is None or any(name.lower() == b"last-event-id" for name, _ in fields(self._client.head.block)):
            return passing
        return passing + serialize([(b"Last-Event-ID", id_)])

    def _begin_response(self, head: ResponseHead, more: bytes = b"") -> None:
        if self._upstream and self._service:
            self._upstream.allow(self._service.config.event_streams.idle_timeout)
        super()._begin_response(head, more)
