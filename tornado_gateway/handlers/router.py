"""The rows of the route table, and the handler of a request.

policy/routing.py looks up the route of a request for a service. The handler of such a route reads no cookies, makes no
ETags and uses no templates. Every other request goes to a Tornado Application.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tornado.httputil import HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.web import Application

from tornado_gateway.errors import GatewayError
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.acting import ActingHandler
from tornado_gateway.handlers.admin import StatsHandler, UnknownHandler
from tornado_gateway.handlers.admission import SAFE
from tornado_gateway.handlers.api_document import ApiDocumentHandler
from tornado_gateway.handlers.base import PageHandler, log_request
from tornado_gateway.handlers.cache_pages import CacheHandler, PurgeHandler
from tornado_gateway.handlers.control import (
    BreakerHandler,
    DrainHandler,
    LogLevelHandler,
    ReloadHandler,
    ServicesHandler,
    UndrainHandler,
    WeightHandler,
)
from tornado_gateway.handlers.dashboard import AssetHandler, DashboardEventsHandler, DashboardHandler, SlashHandler
from tornado_gateway.handlers.http_proxy import HttpProxyHandler
from tornado_gateway.handlers.journal import ELSEWHERE
from tornado_gateway.handlers.login import LoginHandler, LogoutHandler
from tornado_gateway.handlers.ops import HealthHandler, MetricsHandler, NotFoundHandler, PressureHandler, ReadyHandler
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.handlers.refused import RefusedRequest
from tornado_gateway.handlers.request_pages import RequestsHandler
from tornado_gateway.handlers.revocations import RevocationHandler, RevocationsHandler
from tornado_gateway.handlers.session_pages import SessionsHandler
from tornado_gateway.handlers.shedding import Shedding
from tornado_gateway.handlers.sse_proxy import SseProxyHandler
from tornado_gateway.handlers.stream_pages import CloseHandler, StreamsHandler
from tornado_gateway.handlers.tickets import TicketHandler
from tornado_gateway.handlers.ws_bridge import WsBridgeHandler
from tornado_gateway.policy.access import ANY, Access, Kind
from tornado_gateway.policy.http.handshake import is_handshake
from tornado_gateway.policy.routing import Route, RouteTable
from tornado_gateway.wire.server.delegate import HeadDelegate
from tornado_gateway.wire.server.exchange import ServerExchange

MAX_OWN_BODY = 64 * 1024  # bytes of the body of a request for a page; Tornado collects the whole body

PROXIED: tuple[Route[type[ProxiedRequest]], ...] = (
    Route(path="/api/<service>/*", handler=HttpProxyHandler, on_handshake=WsBridgeHandler),
    Route(path="/sse/<service>/*", handler=SseProxyHandler, methods=(b"GET", b"HEAD")),
    Route(path="/ws/<service>", handler=WsBridgeHandler, methods=(b"GET",)),
    Route(path="/ws/<service>/*", handler=WsBridgeHandler, methods=(b"GET",)),
)

READ = (b"GET", b"HEAD", b"OPTIONS")
ACT = (b"POST", b"OPTIONS")


def operational(path: str, handler: type[PageHandler]) -> Route[type[PageHandler]]:
    """A page for orchestrators and monitoring."""
    return Route(path=path, handler=handler, methods=READ, needs_token=False, answers_options=True, is_operational=True)


PAGES: tuple[Route[type[PageHandler]], ...] = (
    operational("/healthz", HealthHandler),
    operational("/readyz", ReadyHandler),
    operational("/metrics", MetricsHandler),
    operational("/_pressure", PressureHandler),
    Route(path="/admin", handler=DashboardHandler, methods=READ, answers_options=True),
    Route(path="/admin/", handler=SlashHandler, methods=READ, answers_options=True),
    Route(path="/admin/assets/*", handler=AssetHandler, methods=READ, answers_options=True),
    Route(path="/admin/events", handler=DashboardEventsHandler, methods=READ, answers_options=True),
    Route(path="/admin/login", handler=LoginHandler, methods=(*READ, b"POST"), needs_token=False, answers_options=True),
    Route(path="/admin/logout", handler=LogoutHandler, methods=ACT, needs_token=False, answers_options=True),
    Route(path="/admin/stats", handler=StatsHandler, methods=READ, answers_options=True),
    Route(
        path="/auth/ticket",
        handler=TicketHandler,
        methods=(b"POST", b"OPTIONS"),
        access=Access(ANY),
        answers_options=True,
        serves_pages=True,
    ),
    Route(path="/admin/api/openapi.json", handler=ApiDocumentHandler, methods=READ, answers_options=True),
    Route(path="/admin/api/services", handler=ServicesHandler, methods=READ, answers_options=True),
    Route(path="/admin/api/drain", handler=DrainHandler, methods=ACT, answers_options=True),
    Route(path="/admin/api/undrain", handler=UndrainHandler, methods=ACT, answers_options=True),
    Route(path="/admin/api/weight", handler=WeightHandler, methods=ACT, answers_options=True),
    Route(path="/admin/api/breaker", handler=BreakerHandler, methods=ACT, answers_options=True),
    Route(path="/admin/api/cache", handler=CacheHandler, methods=READ, answers_options=True),
    Route(path="/admin/api/cache/purge", handler=PurgeHandler, methods=ACT, answers_options=True),
    Route(path="/admin/api/streams", handler=StreamsHandler, methods=READ, answers_options=True),
    Route(path="/admin/api/streams/close", handler=CloseHandler, methods=ACT, answers_options=True),
    Route(path="/admin/api/requests", handler=RequestsHandler, methods=READ, answers_options=True),
    Route(path="/admin/api/log-level", handler=LogLevelHandler, methods=(*READ, b"POST"), answers_options=True),
    Route(path="/admin/api/sessions", handler=SessionsHandler, methods=READ, answers_options=True),
    Route(path="/admin/api/reload", handler=ReloadHandler, methods=ACT, answers_options=True),
    Route(path="/admin/api/revocations", handler=RevocationsHandler, methods=(*READ, b"POST"), answers_options=True),
    Route(
        path="/admin/api/revocations/<id>",
        handler=RevocationHandler,
        methods=(b"DELETE", b"OPTIONS"),
        answers_options=True,
    ),
)

OWN: Route[type[ProxiedRequest]] = Route(path="/*", handler=HttpProxyHandler, on_handshake=WsBridgeHandler)

ROUTES: tuple[Route[type[Any]], ...] = (*PROXIED, *PAGES)

NO_ROUTE = Route(path=ELSEWHERE, handler=NotFoundHandler, needs_token=False, serves_pages=True)

UNKNOWN_ADMIN: Route[type[PageHandler]] = Route(path=ELSEWHERE, handler=UnknownHandler)
_BELOW_ADMIN = re.compile(r"/admin(?:/.*)?")

# Pages of figures of the process, which need a token only with METRICS_AUTH: a scraper often has none.
FIGURES = ("/metrics", "/_pressure")
HEALTH = ("/healthz", "/readyz")


def pages(admin: Access, figures: Access | None, *, is_read_only: bool = False) -> list[Route[type[PageHandler]]]:
    """The rows of PAGES, and of unknown pages below /admin.

    Args:
        admin: what the pages below /admin ask of clients.
        figures: what FIGURES ask; None for nothing.
        is_read_only: whether pages lose the methods by which something is changed.
    """
    rows = [_protected(each, admin, figures) for each in (*PAGES, UNKNOWN_ADMIN)]
    return [without_acts(each) for each in rows] if is_read_only else rows


def private(page: Route[type[PageHandler]]) -> Route[type[PageHandler]]:
    """A page as the socket of CTL_SOCKET has the page: the socket's mode says who may ask."""
    return replace(page, needs_token=False, is_operational=True, takes_sessions=False, is_private=True)


def without_acts(page: Route[type[PageHandler]]) -> Route[type[PageHandler]]:
    """A page without acts; the log-in and the log-out stay as they are."""
    changes = issubclass(page.handler, ActingHandler) and page.handler.changes_gateway
    return replace(page, methods=tuple(each for each in page.methods if each in SAFE)) if changes else page


def _protected(page: Route[type[PageHandler]], admin: Access, figures: Access | None) -> Route[type[PageHandler]]:
    if page.path in FIGURES:
        return replace(page, needs_token=figures is not None, access=figures)
    if not is_of_admin(page):
        return page
    # The log-in looks for none, so that the rate limits count every attempt.
    takes_sessions = Kind.SESSION in admin.accepted(ANY) and page.handler is not LoginHandler
    return replace(page, access=admin, takes_sessions=takes_sessions)


def is_of_admin(page: Route[Any]) -> bool:
    return page.handler is UnknownHandler or _BELOW_ADMIN.fullmatch(page.path) is not None


def is_for_operators(page: Route[Any]) -> bool:
    """Whether ADMIN_PORT moves a page to a listener of its own."""
    return is_of_admin(page) or page.path in FIGURES


def make_application(gateway: Gateway, pages: Iterable[Route[type[PageHandler]]]) -> Application:
    """A Tornado Application for pages. The log function closes the journal of each answer of a handler."""
    return Application(
        [
            (
                _BELOW_ADMIN.pattern if each.handler is UnknownHandler else _pattern(each.path),
                each.handler,
                {"route": each},
            )
            for each in pages
        ],
        gateway=gateway,
        default_handler_class=NO_ROUTE.handler,
        default_handler_args={"route": NO_ROUTE},
        log_function=log_request,
        serve_traceback=False,
        cross_origin_protection=False,
    )


def _pattern(path: str) -> str:
    """Tornado's pattern for a path: a segment for each name in angle brackets, one or more characters for "*".

    >>> _pattern("/admin/things/<id>"), _pattern("/admin/files/*")
    ('/admin/things/([^/]+)', '/admin/files/.+')
    """
    return re.sub("<[a-z]+>", "([^/]+)", path.replace("*", ".+"))


class Router(HTTPServerConnectionDelegate):
    """Gives each request to the handler of its route.

    Args:
        table: the routes that lead to services.
        pages: the gateway's own pages.
    """

    def __init__(
        self, gateway: Gateway, table: RouteTable[type[ProxiedRequest]], pages: Iterable[Route[type[PageHandler]]]
    ) -> None:
        self._gateway, self._table = gateway, table
        self._application = make_application(gateway, pages)
        self._shedding = Shedding(gateway)

    def start_request(  # type: ignore[override]  # Tornado knows no HeadDelegate
        self, server_conn: object, request_conn: ServerExchange
    ) -> HTTPMessageDelegate | HeadDelegate | None:
        head = request_conn.head
        try:
            match = self._table.match(head.target, head.host)
        except GatewayError as error:
            return RefusedRequest(self._gateway, request_conn, error)
        if match:
            handler = match.route.handler
            if head.upgrades and match.route.on_handshake and is_handshake(head.method, head.known_fields):
                handler = match.route.on_handshake
            overload, now = self._gateway.overload, self._gateway.now()
            may_shed = overload.level or now >= overload.late_from
            if may_shed and self._shedding.shed(request_conn, match, handler, now):
                return None
            return handler(self._gateway, self._application, request_conn, match)
        configured = request_conn.max_body_size
        request_conn.set_max_body_size(MAX_OWN_BODY if configured is None else min(configured, MAX_OWN_BODY))
        return self._application.start_request(server_conn, request_conn)
