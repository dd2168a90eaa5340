"""The gateway's own pages for orchestrators, load balancers and Prometheus.

GET /healthz   200 as long as the event loop turns
GET /readyz    200 when requests should be sent here; 503 while draining, or while a service of READY_REQUIRES
               has no endpoint that can be used
GET /metrics   the figures for Prometheus
"""

from collections.abc import Iterator

from tornado_gateway.errors import GatewayError, NotFound
from tornado_gateway.handlers.base import PageHandler


class HealthHandler(PageHandler):
    """Liveness: restart the process if this does not answer."""

    def get(self) -> None:
        self.send_json({"status": "ok"})

    head = get


class ReadyHandler(PageHandler):
    """Readiness: send no new requests while this is 503."""

    def get(self) -> None:
        if self.gateway.lifecycle.draining:
            self.send_json({"status": "draining"}, 503)
        elif out := sorted(self._required_but_out()):
            self.send_json({"status": "unavailable", "services": out}, 503)
        else:
            self.send_json({"status": "ready"})

    head = get

    def _required_but_out(self) -> Iterator[str]:
        now, required = self.gateway.now(), self.gateway.required
        for service in self.gateway.services.values():
            is_required = service.name in required or "*" in required
            if is_required and not service.endpoint_set.serves(now):
                yield service.name


class MetricsHandler(PageHandler):
    """Prometheus's text format, or OpenMetrics if the client prefers OpenMetrics."""

    def get(self) -> None:
        text, media_type = self.gateway.metrics.text(self.request.connection.head.known_fields.get(b"accept", ()))  # type: ignore[union-attr]
        self.set_header("Content-Type", media_type)
        self.finish(text)

    head = get


class NotFoundHandler(PageHandler):
    """Every path without a route, by every method; and "*", the server as a whole, which only OPTIONS asks about."""

    @property
    def found(self) -> type[GatewayError] | None:
        return None if self.request.path == "*" else NotFound
