"""The gateway's own pages for orchestrators, load balancers and Prometheus.

GET /healthz   200 as long as the event loop turns
GET /readyz    200 when requests should be sent here; 503 while draining without a successor at the same address, or
               while a service of READY_REQUIRES has no endpoint that can be used
GET /metrics   the figures for Prometheus
GET /_pressure 200 while the gateway takes what comes; 503 while ordinary requests are shed; figures of the process

What these say of several workers: policy/views/probes.py.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tornado_gateway.adapters.prometheus import prefers_open_metrics
from tornado_gateway.errors import GatewayError, NotFound
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.base import PageHandler
from tornado_gateway.policy.upstream.endpoint import Kind
from tornado_gateway.policy.views.probes import DRAINING, READY, UNAVAILABLE, pressure_of_all, readiness_of_all
from tornado_gateway.upkeep import process

OVERLOADED = "overloaded"


class HealthHandler(PageHandler):
    """Liveness: restart the process if this does not answer."""

    def get(self) -> None:
        self.send_json({"status": "ok"})

    head = get


class ReadyHandler(PageHandler):
    """Readiness: send no new requests while this is 503."""

    async def get(self) -> None:
        gateway, whole = self.gateway, self.gateway.whole
        said = readiness_of(gateway)
        if whole:
            others = await whole.others("readiness")
            alone = gateway.lifecycle.leaves_alone
            said = readiness_of_all(said, others.values(), whole.count, leaves_alone=alone)
        self.send_json(said, 200 if said["status"] == READY else 503)

    head = get


def readiness_of(gateway: Gateway) -> dict[str, Any]:
    """The readiness of this process."""
    lifecycle = gateway.lifecycle
    if lifecycle.draining and not lifecycle.is_replaced:
        return {"status": DRAINING}
    out = sorted(_required_but_out(gateway))
    return {"status": UNAVAILABLE, "services": out} if out else {"status": READY}


def _required_but_out(gateway: Gateway) -> Iterator[str]:
    now, required = gateway.now(), gateway.required
    for service in gateway.services.values():
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
    """How much the gateway has to do. `?heap` adds the figures of the allocators."""

    async def get(self) -> None:
        with_heap = self.get_query_argument("heap", None) is not None
        said, whole = pressure_of(self.gateway, with_heap=with_heap), self.gateway.whole
        if whole:
            others = await whole.others("pressure", with_heap)
            said = pressure_of_all(whole.number, {**others, whole.number: said}, whole.count)
        self.send_json(said, 503 if said["status"] == OVERLOADED else 200)

    head = get


def pressure_of(gateway: Gateway, *, with_heap: bool) -> dict[str, Any]:
    """The figures of this process."""
    median, p99 = gateway.pressure.delays.quantiles(0.5, 0.99)
    server, overload = gateway.pressure.server, gateway.overload
    heap = {"heap": {"mallocBytes": process.malloc_bytes(), "pymallocBlocks": process.blocks()}} if with_heap else {}
    return {
        "status": OVERLOADED if overload.is_overloaded else "ok",
        "shedding": overload.shedding,
        "shedTotal": sum(overload.shed.values()),
        "eventLoopDelay": {"p50Ms": round(median * 1000, 1), "p99Ms": round(p99 * 1000, 1)},
        "rssBytes": process.resident_bytes(),
        "active": _active(gateway),
        "bufferedBytes": server.buffered_bytes + gateway.client.buffered_bytes if server else 0,
        "descriptors": {"used": process.descriptors_used(), "allowed": process.descriptors_allowed()},
        "acceptQueue": server.accept_queue() if server else None,
        **heap,
    }


def _active(gateway: Gateway) -> dict[str, int]:
    """Requests and streams that the gateway works on, by kind; of the requests, also how many wait."""
    services = list(gateway.services.shown())
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
