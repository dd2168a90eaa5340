"""Services and endpoints as the pages of acts show them: what an operator can change, and what the change leads to.

The figures are those of /admin/stats. Here stands what an act is decided by, at the instant of the answer.
"""

from collections.abc import Iterable
from typing import Any

from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.views.board import word_of
from tornado_gateway.policy.views.steps import Steps


def services_view(services: Iterable[Service], now: float) -> Steps[list[dict[str, Any]]]:
    """All services, each with its endpoints.

    Args:
        now: seconds on the gateway clock.
    """
    views = []
    for service in list(services):
        endpoints = []
        for each in service.endpoints:
            endpoints.append(endpoint_view(service, each, now))
            yield
        views.append({"service": service.name, "waiting": service.waiting, "endpoints": endpoints})
    return views


def endpoint_view(service: Service, endpoint: Endpoint, now: float) -> dict[str, Any]:
    """An endpoint.

    Args:
        now: seconds on the gateway clock.
    """
    breaker, share = endpoint.breaker, endpoint.share(now, service.config.slow_start)
    return {
        "endpoint": endpoint.url,
        "state": word_of(breaker.state(now), endpoint.weight, share, checks_fail=not endpoint.checks_pass),
        "weight": endpoint.weight,
        "usable": endpoint.is_admitted,
        "breaker": breaker.state(now).value,
        "breakerOpenForMs": max(0, round((breaker.open_until - now) * 1000)) if breaker.is_open else 0,
        "requests": endpoint.requests,
        "eventStreams": endpoint.event_streams,
        "webSockets": endpoint.websockets,
    }
