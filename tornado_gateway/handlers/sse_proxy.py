"""GET, HEAD /sse/<service>/<path>: an event stream for a browser's EventSource.

What becomes of the stream stands in http_forwarding.py, since a POST under /api may be answered with a stream as well.
A request under /sse says beforehand that a stream is wanted: the request is counted as a stream before a service is
asked, an endpoint that fails is replaced, and any answer may pause for SSE_IDLE_TIMEOUT_MS.
"""

from tornado_gateway.handlers.admission import Admitted
from tornado_gateway.handlers.http_forwarding import HttpForwarding
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.policy.http.headers import serialize, without
from tornado_gateway.policy.http.sse import last_event_id
from tornado_gateway.policy.http.unavailable import RETRY
from tornado_gateway.policy.upstream.endpoint import Kind
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import RequestHead, ResponseHead, fields


class SseForwarding(HttpForwarding):
    """Forwards a request for an event stream."""

    __slots__ = ()

    kind = Kind.SSE
    asks_for_stream = True
    unavailable = RETRY

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        source.allow(self._service.config.event_streams.idle_timeout)
        return super().on_head(head, source)


class SseProxyHandler(ProxiedRequest):
    """A request for an event stream."""

    FORWARDING = SseForwarding

    def forward(self, admitted: Admitted[Service]) -> HttpForwarding:
        gateway, client, match = self.gateway, self.client, self.match
        rest = admitted.visible_target(match.rest)
        target = match.mount.inner_target(gateway.forwarding.target.admit(rest))
        forwarded_lines = admitted.visible_lines(_forwarded_lines(client.head, target, admitted.found))
        # OPTIONS is a preflight that passes to the service, and no request for a stream.
        kind = HttpForwarding if client.head.method == b"OPTIONS" else SseForwarding
        return kind(gateway, client, self.journal, admitted, match, target, forwarded_lines)


def _forwarded_lines(head: RequestHead, target: bytes, service: Service) -> bytes:
    """The request's field lines that pass, with the Last-Event-ID that a page puts into the query."""
    # Nothing can be put into a compressed stream, and most services collect a stream before they compress it.
    forwarded_lines = without(head.forwarded_lines, (b"accept-encoding",)) + b"Accept-Encoding: identity\r\n"
    id_ = last_event_id(target) if service.config.event_streams.reads_last_event_id else None
    if id_ is None or any(name.lower() == b"last-event-id" for name, _ in fields(head.block)):
        return forwarded_lines
    return forwarded_lines + serialize([(b"Last-Event-ID", id_)])
