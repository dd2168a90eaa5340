"""What there is to see of services and endpoints at one moment, as plain data for JSON.

The names of the first keys are those of this gateway's family; what is new stands beside them.
Nothing is changed by looking.
"""

import math
from collections.abc import Iterable
from typing import Any

from tornado_gateway.policy.upstream.breaker import State
from tornado_gateway.policy.upstream.endpoint import CLIENT_GONE, Endpoint, Kind, Outcome
from tornado_gateway.policy.upstream.service import Service

_OUTCOME_KEYS = {outcome: "clientGone" if outcome is CLIENT_GONE else outcome.value for outcome in Outcome}
QUANTILES = {"p50Ms": 0.5, "p95Ms": 0.95, "p99Ms": 0.99}


def snapshot(services: Iterable[Service], now: float, epoch: float) -> dict[str, Any]:
    """
    Args:
        now: seconds on the clock of the services.
        epoch: seconds since 1970 at that moment.
    """
    found = list(services)
    return {
        "services": {service.name: service_view(service, now, epoch) for service in found},
        "connections": {kind.value: sum(service.inflight[kind] for service in found) for kind in Kind},
    }


def service_view(service: Service, now: float, epoch: float) -> dict[str, Any]:
    endpoints, window = service.endpoints, service.window(now)
    answered = [endpoint for endpoint in endpoints if endpoint.latency.last]
    averages = [endpoint.latency.average * 1000 for endpoint in answered]
    return {
        "upstreams": len(endpoints),
        "healthy": sum(endpoint.healthy for endpoint in endpoints),
        "avgLatencyMs": _rounded(sum(averages) / len(averages)) if averages else 0,
        "rps": _rounded(sum(endpoint.window.rate(now) for endpoint in endpoints)),
        "errorRate": _rounded(window.error_rate(now)),
        "upstreamDetails": [endpoint_view(service, endpoint, now, epoch) for endpoint in endpoints],
        "departing": [
            {"url": endpoint.url, "inflight": {kind.value: endpoint.inflight[kind] for kind in Kind}}
            for endpoint in service.departing
        ],
        "latency": _quantiles(window.quantiles(now, list(QUANTILES.values()))),
        "panic": service.is_panicking,
        "ejected": len(service.ejected),
        "waiting": service.waiting,
        "concurrencyLimit": service.limit.limit if service.limit else None,
        "retryBudget": _rounded(service.budget.balance(now)),
        "hedges": {"sent": service.hedging.sent, "won": service.hedging.won},
        "websockets": {
            "closed": service.websocket_totals.closed,
            "messages": {"up": service.websocket_totals.messages_up, "down": service.websocket_totals.messages_down},
            "bytes": {"up": service.websocket_totals.bytes_up, "down": service.websocket_totals.bytes_down},
            "seconds": _rounded(service.websocket_totals.seconds),
            "closeCodes": {str(code): count for code, count in sorted(service.websocket_totals.close_codes.items())},
        },
    }


def endpoint_view(service: Service, endpoint: Endpoint, now: float, epoch: float) -> dict[str, Any]:
    breaker, latency, window = endpoint.breaker, endpoint.latency, endpoint.window
    open_for = max(0.0, breaker.open_until - now) if breaker.is_open else 0.0
    return {
        "url": endpoint.url,
        "healthy": endpoint.healthy,
        "circuitOpenUntilMs": round((epoch + open_for) * 1000) if open_for else 0,
        "inflight": {kind.value: endpoint.inflight[kind] for kind in Kind},
        "requestsTotal": endpoint.requests_total,
        "errorsTotal": endpoint.errors_total,
        "outcomes": {_OUTCOME_KEYS[outcome]: count for outcome, count in endpoint.outcomes.items()},
        "rps": _rounded(window.rate(now)),
        "latency": {
            "ewmaMs": _rounded(latency.average * 1000),
            "lastMs": _rounded(latency.last * 1000),
            "peakMs": _rounded(latency.peak(now) * 1000),
            **_quantiles(window.quantiles(now, list(QUANTILES.values()))),
        },
        "errorRate": _rounded(window.error_rate(now)),
        "unansweredTotal": endpoint.unanswered_total,
        "retriesTotal": endpoint.retries_total,
        "weight": endpoint.weight,
        "share": _rounded(endpoint.share(now, service.config.slow_start)),
        "usable": endpoint.is_admitted,
        "breaker": {
            "state": breaker.state(now).value,
            "openForMs": round(open_for * 1000),
            "opened": breaker.opened,
            "ejected": endpoint.is_ejected,
        },
        "checks": {"passing": endpoint.checks_pass, "last": endpoint.last_check},
    }


def is_out(endpoint: Endpoint, now: float) -> bool:
    """Whether an endpoint is not to be asked. Once its breaker is HALF_OPEN it waits for a request, to show itself."""
    return not endpoint.checks_pass or endpoint.breaker.state(now) is State.OPEN


def _quantiles(found: list[float | None]) -> dict[str, float | None]:
    return {
        name: None if seconds is None else _rounded(seconds * 1000)
        for name, seconds in zip(QUANTILES, found, strict=True)
    }


def _rounded(value: float) -> float:
    return round(value, 3) if math.isfinite(value) else 0.0
