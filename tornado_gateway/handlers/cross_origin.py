"""Requests of pages of other origins: annotated answers and preflights. policy/http/cors.py decides."""

from typing import Any

from tornado_gateway.policy.http.cors import ACCESS_CONTROL, CREDENTIALS, CorsConfig, is_preflight
from tornado_gateway.policy.http.headers import without
from tornado_gateway.policy.principal import Authenticator
from tornado_gateway.policy.routing import Route
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.server.exchange import ServerExchange

REFUSED_REASON = "preflight_refused"  # in the access log, of a preflight whose page the browser will refuse


def cors_of(default: CorsConfig, route: Route[Any], found: object) -> CorsConfig:
    """The config for a request.

    Args:
        default: for requests that reach no service.
        found: what the route leads to.
    """
    return route.cors or (found.config.cors if isinstance(found, Service) else default)


def annotate(config: CorsConfig, exchange: ServerExchange) -> None:
    """Have the final response tell which page may read the response, whatever writes the response.

    A WebSocket handshake is left alone: browsers apply no CORS to WebSockets (Fetch §3.3.1).
    """
    if config.answers and not exchange.replaced_prefix and not exchange.head.upgrades:
        exchange.replaced_prefix = ACCESS_CONTROL
        exchange.added_lines += config.lines(exchange.head.known_fields)


def meet_page(config: CorsConfig, exchange: ServerExchange, route: Route[Any]) -> bool:
    """Annotate the response, and say whether the request is a preflight that needs no credential."""
    head = exchange.head
    if head.body or not is_preflight(head.method, head.known_fields):
        annotate(config, exchange)
        return False
    if config.answers:
        exchange.replaced_prefix = ACCESS_CONTROL
        exchange.added_lines += config.preflight_lines(head.known_fields, route.methods)
    return config.answers or config.passes


def answer_preflight(exchange: ServerExchange, request_id: bytes) -> str:
    """Answer a preflight whose response is annotated.

    A page that may not use the service gets the same status, without the fields that would allow the request: CORS
    judges pages, and browsers then name the missing field instead of the status.

    Returns:
        The reason for the access log; "" for a page that may use the service.
    """
    exchange.start_response(204, b"", b"x-request-id: %b\r\n" % request_id, length=None, dated=False)
    exchange.finish()
    return "" if b"Access-Control-Allow-Origin:" in exchange.added_lines else REFUSED_REASON


def hide_credentials(exchange: ServerExchange, authenticator: Authenticator | None) -> None:
    """Keep the credentials of a preflight from endpoints: nobody has checked the credentials."""
    sources = authenticator.sources.field_names if authenticator else frozenset()
    exchange.head.forwarded_lines = without(exchange.head.forwarded_lines, CREDENTIALS | sources)
