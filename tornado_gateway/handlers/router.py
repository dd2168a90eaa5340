"""The route table, and the look-up that finds the handler of a request.

A proxied route is found by the first segment of the raw target, without regular expressions. The handler of a proxied
route reads no cookies, makes no ETags and uses no templates. Every other request goes to a Tornado Application.
"""

from typing import Any

from tornado.httputil import HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.web import Application

from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.admin import StatsHandler
from tornado_gateway.handlers.base import PageHandler, log_request
from tornado_gateway.handlers.http_proxy import HttpProxyHandler
from tornado_gateway.handlers.journal import ELSEWHERE
from tornado_gateway.handlers.ops import HealthHandler, MetricsHandler, NotFoundHandler, ReadyHandler
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.handlers.sse_proxy import SseProxyHandler
from tornado_gateway.handlers.ws_bridge import WsBridgeHandler
from tornado_gateway.policy.routing import Route, by_prefix
from tornado_gateway.wire.server.delegate import HeadDelegate
from tornado_gateway.wire.server.exchange import ServerExchange

MAX_OWN_BODY = 64 * 1024  # bytes of the body of a request for a page; Tornado collects the whole body

PROXIED: tuple[Route[type[ProxiedRequest]], ...] = (
    Route(path="/api/<service>/*", handler=HttpProxyHandler),
    Route(path="/sse/<service>/*", handler=SseProxyHandler, methods=(b"GET", b"HEAD")),
    Route(path="/ws/<service>", handler=WsBridgeHandler, methods=(b"GET",)),
    Route(path="/ws/<service>/*", handler=WsBridgeHandler, methods=(b"GET",)),
)

READ = (b"GET", b"HEAD", b"OPTIONS")

PAGES: tuple[Route[type[PageHandler]], ...] = (
    Route(path="/healthz", handler=HealthHandler, methods=READ, needs_token=False, answers_options=True),
    Route(path="/readyz", handler=ReadyHandler, methods=READ, needs_token=False, answers_options=True),
    Route(path="/metrics", handler=MetricsHandler, methods=READ, needs_token=False, answers_options=True),
    Route(path="/admin/stats", handler=StatsHandler, methods=READ, answers_options=True),
)

ROUTES: tuple[Route[type[Any]], ...] = (*PROXIED, *PAGES)

NO_ROUTE = Route(path=ELSEWHERE, handler=NotFoundHandler, needs_token=False)


def make_application(gateway: Gateway) -> Application:
    """A Tornado Application for the pages. The log function closes the journal of each answer of a handler."""
    return Application(
        [(route.path, route.handler, {"route": route}) for route in PAGES],
        gateway=gateway,
        default_handler_class=NO_ROUTE.handler,
        default_handler_args={"route": NO_ROUTE},
        log_function=log_request,
        serve_traceback=False,
        cross_origin_protection=False,
    )


class Router(HTTPServerConnectionDelegate):
    """Gives each request to the handler of its route.

    Args:
        proxied: the proxied routes.
    """

    def __init__(self, gateway: Gateway, proxied: tuple[Route[type[ProxiedRequest]], ...] = PROXIED) -> None:
        self._gateway = gateway
        self._application = make_application(gateway)
        self._proxied = by_prefix(proxied)

    def start_request(  # type: ignore[override]  # Tornado knows no HeadDelegate
        self, server_conn: object, request_conn: ServerExchange
    ) -> HTTPMessageDelegate | HeadDelegate:
        target = request_conn.head.target
        route = self._proxied.get(target[: target.find(b"/", 1) + 1])
        if route:
            return route.handler(self._gateway, self._application, request_conn, route)
        configured = request_conn.max_body_size
        request_conn.set_max_body_size(MAX_OWN_BODY if configured is None else min(configured, MAX_OWN_BODY))
        return self._application.start_request(server_conn, request_conn)
