"""The gateway's counters as Prometheus reads them.

Nothing is counted for Prometheus on the way of a request: the collector reads, when it is
asked, what services, endpoints and Durations count anyway.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from tornado_gateway.policy.http.negotiation import preferred
from tornado_gateway.policy.upstream.breaker import State
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.views.durations import BOUNDS, Durations

_FORMATS = (CONTENT_TYPE_PLAIN_0_0_4.encode("ascii"), openmetrics.CONTENT_TYPE_LATEST.encode("ascii"))
_STATES = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}
_OF_ENDPOINT = ("service", "endpoint")


class Metrics:
    """The text that is scraped.

    Args:
        services: all there are; their endpoints may change.
        now: gives the seconds on the clock of the services.
    """

    def __init__(self, services: Iterable[Service], durations: Durations, now: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_GatewayCollector(services, durations, now))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self, accept: Sequence[bytes]) -> tuple[bytes, str]:
        """The exposition and its media type: text, unless OpenMetrics of the version that there is is preferred.

        A client that accepts neither gets text: a scraper that is misconfigured reads more from it than from a 406.

        Args:
            accept: the values of the request's Accept fields.
        """
        if preferred(accept, _FORMATS) == _FORMATS[1]:
            return openmetrics.generate_latest(self._registry), openmetrics.CONTENT_TYPE_LATEST  # type: ignore[no-untyped-call]
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


class _GatewayCollector(Collector):
    def __init__(self, services: Iterable[Service], durations: Durations, now: Callable[[], float]) -> None:
        self._services = tuple(services)
        self._durations = durations
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield self._requests_by_route()
        yield GaugeMetricFamily(
            "gateway_websocket_connections",
            "WebSockets that are open.",
            value=sum(service.websocket_totals.open for service in self._services),
        )
        yield from self._of_services()
        yield from self._of_endpoints()

    def _requests_by_route(self) -> Metric:
        family = HistogramMetricFamily(
            "gateway_http_request_duration_seconds",
            "Seconds from a request's head to the end of its response; of streams, to the head of it.",
            labels=("method", "route", "status_code"),
        )
        for (method, route, status), histogram in self._durations:
            buckets, below = [], 0
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), histogram.counts, strict=True):
                below += count
                buckets.append((bound, float(below)))
            family.add_metric((method, route, str(status)), buckets, histogram.total)
        return family

    def _of_services(self) -> Iterator[Metric]:
        panic = GaugeMetricFamily(
            "gateway_panic", "1 while all endpoints are used, the broken too.", labels=("service",)
        )
        waiting = GaugeMetricFamily("gateway_waiting", "Requests that wait for an endpoint.", labels=("service",))
        budget = GaugeMetricFamily("gateway_retry_budget", "Retries that may be made now.", labels=("service",))
        hedges = CounterMetricFamily("gateway_hedges", "Second endpoints that were asked.", labels=("service",))
        won = CounterMetricFamily("gateway_hedges_won", "Those that were the first to answer.", labels=("service",))
        for service in self._services:
            hedges.add_metric((service.name,), service.hedging.sent)
            won.add_metric((service.name,), service.hedging.won)
            panic.add_metric((service.name,), float(service.is_panicking))
            waiting.add_metric((service.name,), service.waiting)
            budget.add_metric((service.name,), service.budget.balance(self._now()))
        yield from (panic, waiting, budget, hedges, won)

    def _of_endpoints(self) -> Iterator[Metric]:
        counters = {
            "errors_total": CounterMetricFamily("gateway_upstream_errors", "Those that failed.", labels=_OF_ENDPOINT),
            "unanswered_total": CounterMetricFamily(
                "gateway_upstream_unanswered", "Failures without an answer.", labels=_OF_ENDPOINT
            ),
            "retries_total": CounterMetricFamily("gateway_upstream_retries", "Retries begun.", labels=_OF_ENDPOINT),
        }
        requests = CounterMetricFamily(
            "gateway_upstream_requests", "Requests that ended, each once.", labels=(*_OF_ENDPOINT, "outcome")
        )
        ejections = CounterMetricFamily("gateway_breaker_openings", "Times a breaker opened.", labels=_OF_ENDPOINT)
        state = GaugeMetricFamily("gateway_breaker_state", "0 closed, 1 half open, 2 open.", labels=_OF_ENDPOINT)
        up = GaugeMetricFamily("gateway_upstream_up", "1 unless checks or a breaker say no.", labels=_OF_ENDPOINT)
        inflight = GaugeMetricFamily("gateway_upstream_inflight", "In flight.", labels=(*_OF_ENDPOINT, "kind"))
        for service, endpoint in self._all():
            labels = (service.name, endpoint.url)
            for attribute, family in counters.items():
                family.add_metric(labels, getattr(endpoint, attribute))
            for outcome, ended in endpoint.outcomes.items():
                requests.add_metric((*labels, outcome.value), ended)
            ejections.add_metric(labels, endpoint.breaker.opened)
            state.add_metric(labels, _STATES[endpoint.breaker.state(self._now())])
            up.add_metric(labels, float(endpoint.healthy))
        for service in self._services:
            for endpoint in (*service.endpoints, *service.departing):
                for kind, count in endpoint.inflight.items():
                    inflight.add_metric((service.name, endpoint.url, kind.value), count)
        yield from (requests, *counters.values(), ejections, state, up, inflight)

    def _all(self) -> Iterator[tuple[Service, Endpoint]]:
        return ((service, endpoint) for service in self._services for endpoint in service.endpoints)
