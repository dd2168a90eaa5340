"""The gateway's own pages for orchestrators, load balancers and Prometheus.

GET /healthz   200 as long as the event loop turns
GET /readyz    200 when requests should be sent here; 503 while draining without a successor at the same address, or
               while a service of READY_REQUIRES has no endpoint that can be used
GET /metrics   the figures for Prometheus
GET /_pressure 200 while the gateway takes what comes; 503 while ordinary requests are shed; figures of the process
"""

from collections import Counter
from collections.abc import Iterator

from tornado_gateway.adapters.prometheus import prefers_open_metrics
from tornado_gateway.errors import GatewayError, NotFound
from tornado_gateway.handlers.base import PageHandler
from tornado_gateway.policy.upstream.endpoint import Kind
from tornado_gateway.upkeep import process


class HealthHandler(PageHandler):
    """Liveness: restart the process if this does not answer."""

    def get(self) -> None:
        self.send_json({"status": "ok"})

    head = get


class ReadyHandler(PageHandler):
    """Readiness: send no new requests while this is 503."""

    def get(self) -> None:
        lifecycle = self.gateway.lifecycle
        if lifecycle.draining and not lifecycle.is_replaced:
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

    async def get(self) -> None:
        figures, accept = self.gateway.figures, self.exchange.head.known_fields.get(b"accept", ())
        text, media_type = await (figures.open_metrics if prefers_open_metrics(accept) else figures.text).get()
        self.set_header("Content-Type", media_type)
        self.finish(text)

    head = get


class PressureHandler(PageHandler):
    """How much the process has to do. `?heap` adds the figures of the allocators."""

    def get(self) -> None:
        is_overloaded = self.gateway.overload.is_overloaded
        said = {"status": "overloaded" if is_overloaded else "ok", **self._figures()}
        if self.get_query_argument("heap", None) is not None:
            said["heap"] = {"mallocBytes": process.malloc_bytes(), "pymallocBlocks": process.blocks()}
        self.send_json(said, 503 if is_overloaded else 200)

    head = get

    def _figures(self) -> dict[str, object]:
        gateway = self.gateway
        median, p99 = gateway.pressure.delays.quantiles(0.5, 0.99)
        server = gateway.pressure.server
        return {
            "shedding": gateway.overload.shedding,
            "shedTotal": sum(gateway.overload.shed.values()),
            "eventLoopDelay": {"p50Ms": round(median * 1000, 1), "p99Ms": round(p99 * 1000, 1)},
            "rssBytes": process.resident_bytes(),
            "active": self._active(),
            "bufferedBytes": server.buffered_bytes + gateway.client.buffered_bytes if server else 0,
            "descriptors": {"used": process.descriptors_used(), "allowed": process.descriptors_allowed()},
            "acceptQueue": server.accept_queue() if server else None,
        }

    def _active(self) -> dict[str, int]:
        """Requests and streams that the gateway works on, by kind; of the requests, also how many wait."""
        services = list(self.gateway.services.shown())
        held: Counter[Kind] = Counter()
        for service in services:
            held.update(service.inflight)
        waiting = sum(service.waiting for service in services)
        return {
            "requests": held[Kind.HTTP] + waiting,
            "waiting": waiting,
            "eventStreams": held[Kind.SSE],
            "webSockets": held[Kind.WS],
        }


class NotFoundHandler(PageHandler):
    """Every path without a route, by every method; and "*", the server as a whole, which only OPTIONS asks about."""

    @property
    def found(self) -> type[GatewayError] | None:
        return None if self.request.path == "*" else NotFound
