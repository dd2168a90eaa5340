"""What a worker does because another worker of the gateway says so: acts of operators, and what all workers know."""

from collections.abc import Callable, Mapping
from typing import Any

from tornado_gateway.adapters import logs
from tornado_gateway.adapters.authentication import TokenAuthenticator
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.cache_pages import purge_too
from tornado_gateway.handlers.control import carry_out_act
from tornado_gateway.handlers.stream_pages import close_streams
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.service import Service


def carry_out(gateway: Gateway, name: str, body: Any) -> Any:
    """Carry out an order; return what the worker that has sent it wants to know."""
    return ORDERS[name](gateway, body)


def _set_level(_: Gateway, level: str) -> None:
    logs.set_level(level)


def _revoke(gateway: Gateway, row: list[Any]) -> None:
    gateway.revocation_store.learn([row])


def _log_in(gateway: Gateway, row: list[Any]) -> None:
    gateway.operators.sessions.add_plain([row])


def _log_out(gateway: Gateway, digest: str) -> None:
    gateway.operators.sessions.end(digest)


def _invalidate(gateway: Gateway, resource: str) -> None:
    if gateway.cache:
        gateway.cache.store.invalidate(resource.encode("latin-1"))


def _learn_health(gateway: Gateway, said: list[Any]) -> None:
    name, url, up, shown = said
    for service, endpoint in _named(gateway, name, url):
        service.learn_health(endpoint, gateway.now(), shown, up=up)


def _learn_breaker(gateway: Gateway, said: list[Any]) -> None:
    name, url, until, level = said
    for service, endpoint in _named(gateway, name, url):
        service.learn_breaker(endpoint, gateway.now(), until, level)


def _named(gateway: Gateway, name: str, url: str) -> list[tuple[Service, Endpoint]]:
    """The endpoint that an order is about; none if this worker does not know the endpoint, or no more."""
    service = gateway.services.get(name.encode("ascii"))
    return [(service, each) for each in service.endpoints if each.url == url] if service else []


def _use(gateway: Gateway, said: list[Any]) -> None:
    gateway.operators.sessions.used(*said)


def _learn_events(gateway: Gateway, rows: list[list[Any]]) -> None:
    gateway.observer.learn(rows)


def _learn_attempt(gateway: Gateway, said: list[Any]) -> None:
    if isinstance(gateway.authenticator, TokenAuthenticator):
        gateway.authenticator.attempts.learn(*said)


ORDERS: Mapping[str, Callable[[Gateway, Any], Any]] = {
    "act": carry_out_act,
    "close": close_streams,
    "log-level": _set_level,
    "revocation": _revoke,
    "log-in": _log_in,
    "log-out": _log_out,
    "used": _use,
    "purge": purge_too,
    "invalid": _invalidate,
    "health": _learn_health,
    "breaker": _learn_breaker,
    "events": _learn_events,
    "password-attempt": _learn_attempt,
}
