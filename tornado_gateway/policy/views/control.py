"""Services and endpoints as the pages of acts show them: what an operator can change, and what the change leads to.

The figures are those of /admin/stats. Here stands what an act is decided by, at the instant of the answer.

Of several workers, numbers are added, and of states the worst is shown, as state.py does: an endpoint whose breaker is
open in one worker is shown as open.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.views.board import DRAINED, JOINING, OUT, PROBED, UP, word_of
from tornado_gateway.policy.views.state import BREAKER_STATES
from tornado_gateway.policy.views.steps import Steps

View = Mapping[str, Any]

_STATES = (DRAINED, UP, JOINING, PROBED, OUT)  # from best to worst; a weight reaches one worker after the other
_BREAKERS = tuple(each.value for each in BREAKER_STATES)
_COUNTS = ("requests", "eventStreams", "webSockets")


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


def joined_services(pages: Sequence[Sequence[View]]) -> list[dict[str, Any]]:
    """The services of all workers, of the services_view() of each.

    Services and endpoints stand in the order of the first page; what another worker alone has, behind these.
    """
    return [
        {
            "service": views[0]["service"],
            "waiting": sum(each["waiting"] for each in views),
            "endpoints": [joined_endpoint(each) for each in _by("endpoint", [view["endpoints"] for view in views])],
        }
        for views in _by("service", pages)
    ]


def joined_endpoint(views: Sequence[View]) -> dict[str, Any]:
    """An endpoint, of the endpoint_view() of each worker; further members are those of the first."""
    return {
        **views[0],
        "state": max((each["state"] for each in views), key=_STATES.index),
        "weight": max(each["weight"] for each in views),
        "usable": all(each["usable"] for each in views),
        "breaker": max((each["breaker"] for each in views), key=_BREAKERS.index),
        "breakerOpenForMs": max(each["breakerOpenForMs"] for each in views),
        **{name: sum(each[name] for each in views) for name in _COUNTS},
    }


def _by(name: str, pages: Iterable[Sequence[View]]) -> list[list[View]]:
    """The views of all pages, those with the same name together."""
    found: dict[str, list[View]] = {}
    for page in pages:
        for each in page:
            found.setdefault(each[name], []).append(each)
    return list(found.values())
