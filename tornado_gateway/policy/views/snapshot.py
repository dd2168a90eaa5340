"""The figures of services and endpoints as plain data for JSON.

The first keys of a service and an endpoint have the names that this gateway's family gave them; the other keys are new.
"""

import math
from typing import Any

from tornado_gateway.policy.upstream.endpoint import CLIENT_GONE, FAILURE, Kind, Outcome
from tornado_gateway.policy.upstream.statistics import Minute
from tornado_gateway.policy.views.state import (
    BREAKER_STATES,
    EndpointState,
    LimitsState,
    ServiceState,
    State,
    StreamState,
)
from tornado_gateway.policy.views.steps import Steps

_OUTCOME_KEYS = {outcome.value: "clientGone" if outcome is CLIENT_GONE else outcome.value for outcome in Outcome}
QUANTILES = {"p50Ms": 0.5, "p95Ms": 0.95, "p99Ms": 0.99}


def snapshot(state: State, epoch: float) -> Steps[dict[str, Any]]:
    """Render a State for JSON.

    Args:
        epoch: seconds since 1970 at the instant of the State.
    """
    services = {}
    for name, service in state.services.items():
        services[name] = yield from _service_view(service, epoch)
    held = [each.inflight for each in state.services.values()]
    return {
        "services": services,
        "connections": {kind.value: sum(each[kind.value] for each in held) for kind in Kind},
        "rateLimits": _limits_view(state.limits),
    }


def _limits_view(limits: LimitsState) -> dict[str, Any]:
    policies: dict[str, dict[str, int]] = {}
    for key, count in limits.limited.items():
        outcome, policy = key.split(" ", 1)
        policies.setdefault(policy, {"refused": 0, "observed": 0})[outcome] = count
    return {
        "policies": policies,
        "keys": limits.keys,
        "droppedKeys": limits.dropped,
        "storeErrors": limits.store_errors,
        "storeUp": not limits.store_is_away,
    }


def _service_view(service: ServiceState, epoch: float) -> Steps[dict[str, Any]]:
    endpoints, details, minute = service.endpoints.values(), [], Minute()
    for url, endpoint in service.endpoints.items():
        details.append(_endpoint_view(url, endpoint, epoch))
        minute.add(endpoint.minute)
        yield
    return {
        "upstreams": len(endpoints),
        "healthy": sum(each.healthy for each in endpoints),
        "avgLatencyMs": _average_latency(service),
        "rps": _rounded(minute.rate),
        "errorRate": _rounded(minute.error_rate),
        "upstreamDetails": details,
        "departing": [{"url": url, "inflight": dict(inflight)} for url, inflight in service.departing.items()],
        "latency": _quantiles(minute),
        "panic": service.panicking,
        "ejected": sum(each.ejected for each in endpoints),
        "waiting": service.waiting,
        "concurrencyLimit": service.limit or None,
        "retryBudget": _rounded(math.fsum(service.retry_budget)),
        "hedges": {"sent": service.hedges_sent, "won": service.hedges_won},
        "requests": dict(service.requests),
        "eventStreams": _stream_view(service.event_streams),
        "websockets": {
            **_stream_view(service.websockets),
            "closeCodes": {str(code): count for code, count in sorted(service.websockets.close_codes.items())},
        },
    }


def _average_latency(service: ServiceState) -> float:
    """The mean of the endpoints' averages, in milliseconds; 0 before the first answer."""
    averages = [average * 1000 for _, average, last in (each.latency for each in service.endpoints.values()) if last]
    return _rounded(sum(averages) / len(averages)) if averages else 0


def _stream_view(totals: StreamState) -> dict[str, Any]:
    return {
        "open": totals.opened - totals.closed,
        "closed": totals.closed,
        "messages": {"up": totals.messages_up, "down": totals.messages_down},
        "bytes": {"up": totals.bytes_up, "down": totals.bytes_down},
        "waitingBytes": totals.waiting,
        "seconds": _rounded(math.fsum(totals.lives.seconds)),
    }


def _endpoint_view(url: str, endpoint: EndpointState, epoch: float) -> dict[str, Any]:
    _, average, last = endpoint.latency
    checks_fail, last_check = endpoint.check
    return {
        "url": url,
        "healthy": endpoint.healthy,
        "circuitOpenUntilMs": round((epoch + endpoint.open_for) * 1000) if endpoint.open_for else 0,
        "inflight": dict(endpoint.inflight),
        "requestsTotal": sum(endpoint.outcomes.values()),
        "errorsTotal": endpoint.outcomes[FAILURE.value],
        "outcomes": {_OUTCOME_KEYS[outcome]: count for outcome, count in endpoint.outcomes.items()},
        "responses": dict(endpoint.answers),
        "rps": _rounded(endpoint.minute.rate),
        "latency": {
            "ewmaMs": _rounded(average * 1000),
            "lastMs": _rounded(last * 1000),
            "peakMs": _rounded(endpoint.peak * 1000),
            **_quantiles(endpoint.minute),
        },
        "errorRate": _rounded(endpoint.minute.error_rate),
        "unansweredTotal": endpoint.unanswered,
        "retriesTotal": endpoint.retries,
        "weight": endpoint.weight,
        "share": _rounded(endpoint.share),
        "usable": endpoint.usable,
        "breaker": {
            "state": BREAKER_STATES[endpoint.breaker].value,
            "openForMs": round(endpoint.open_for * 1000),
            "opened": endpoint.openings,
            "ejected": endpoint.ejected,
        },
        "checks": {"passing": not checks_fail, "last": last_check, **endpoint.checks},
        "connections": dict(endpoint.connections),
        "sent": dict(endpoint.sent),
    }


def _quantiles(minute: Minute) -> dict[str, float | None]:
    return {
        name: None if seconds is None else _rounded(seconds * 1000)
        for name, seconds in zip(QUANTILES, minute.quantiles([*QUANTILES.values()]), strict=True)
    }


def _rounded(value: float) -> float:
    return round(value, 3) if math.isfinite(value) else 0.0
