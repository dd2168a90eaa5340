"""The one place where a request finds its handler.

Proxied routes are found by the first segment of the raw target, and go straight to
their journey: no regular expressions, no cookies, no ETags, no templates. Everything else
is an ordinary Tornado Application.
"""

from collections.abc import Awaitable

from tornado.httputil import HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.web import Application

from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.http_proxy import HttpProxyHandler
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.handlers.sse_proxy import SseProxyHandler
from tornado_gateway.handlers.ws_bridge import WsBridgeHandler
from tornado_gateway.wire.server.connection import HeadDelegate
from tornado_gateway.wire.server.exchange import ServerExchange

MAX_OWN_BODY = 64 * 1024  # bytes; Tornado collects the body of what is not proxied, and no page of ours needs more


JOURNEYS: dict[bytes, type[ProxiedRequest]] = {
    journey.PREFIX: journey for journey in (HttpProxyHandler, SseProxyHandler, WsBridgeHandler)
}


class Router(HTTPServerConnectionDelegate):
    """Gives each request to the journey of its prefix, or to the Application."""

    def __init__(self, gateway: Gateway, application: Application) -> None:
        self._gateway = gateway
        self._application = application

    def start_request(self, server_conn: object, request_conn: ServerExchange) -> HTTPMessageDelegate:  # type: ignore[override]
        target = request_conn.head.target
        journey = JOURNEYS.get(target[: target.find(b"/", 1) + 1])
        if journey:
            return Journey(journey(self._gateway, self._application, request_conn))
        configured = request_conn.max_body_size
        request_conn.set_max_body_size(MAX_OWN_BODY if configured is None else min(configured, MAX_OWN_BODY))
        return self._application.start_request(server_conn, request_conn)


class Journey(HeadDelegate):
    """Hands a proxied request to its handler, as it comes."""

    __slots__ = ("_handler",)

    def __init__(self, handler: ProxiedRequest) -> None:
        self._handler = handler

    def head_received(self) -> None:
        self._handler.begin()

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._handler.data_received(chunk)

    def finish(self) -> None:
        self._handler.body_received()

    def on_connection_close(self) -> None:
        """The exchange tells the handler itself."""
