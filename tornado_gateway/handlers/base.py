"""Base classes of the gateway's Tornado handlers: admission, request id, error bodies and the journal."""

import json
import logging
from collections.abc import Awaitable
from typing import Any, cast

from tornado.httputil import HTTPServerRequest
from tornado.web import Application, HTTPError, RequestHandler

from tornado_gateway.errors import ClientGone, Draining, GatewayError, MethodNotAllowed, NotFound
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.admission import Admitted, admit, resume
from tornado_gateway.handlers.cross_origin import meet_page
from tornado_gateway.handlers.journal import Journal
from tornado_gateway.handlers.local_reply import PROBLEM, error_fields, problem
from tornado_gateway.policy.access import DEFAULT
from tornado_gateway.policy.routing import Route
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.server.exchange import ServerExchange

log = logging.getLogger("tornado_gateway")


class _EveryMethod:
    """The set of all methods."""

    def __contains__(self, method: object) -> bool:
        return True


class GatewayHandler(RequestHandler):
    """A handler whose responses have the request's id, and whose errors are problem details (RFC 9457).

    Attributes:
        route: the row of the route table that led here.
        journal: of the request.
        reason: the access log's word for an error.
    """

    SUPPORTED_METHODS = _EveryMethod()  # type: ignore[assignment]  # admission judges methods, and Tornado none
    gateway: Gateway
    route: Route[Any]
    journal: Journal
    reason = ""

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("x-request-id", self.journal.request_id.decode("ascii"))
        self.set_header("Cache-Control", "no-store")

    def check_etag_header(self) -> bool:
        return False

    def compute_etag(self) -> None:
        return None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        cause = kwargs.get("exc_info", (None, None, None))[1]
        error = cause if isinstance(cause, GatewayError) else self._error_for(status_code)
        self.reason = error.reason
        self.set_status(error.status)
        self.set_header("Content-Type", PROBLEM.decode("ascii"))
        for name, value in error_fields(error, self.gateway.forwarding.pseudonym):
            self.add_header(name.decode("ascii"), value)  # a 401 may have several challenges
        self.finish(problem(error, self.journal.request_id))

    def _error_for(self, status: int) -> GatewayError:
        """The gateway's error for a status of Tornado's own."""
        if status == NotFound.status:
            return NotFound()
        if status == MethodNotAllowed.status:
            return MethodNotAllowed(self.route.allowed)
        return GatewayError()

    def close_journal(self) -> None:
        """Close the journal of a request that this handler has answered."""
        raise NotImplementedError

    def on_connection_close(self) -> None:
        """Close the journal of a request whose client has left before an answer."""
        end = Draining if self.gateway.lifecycle.stopped else ClientGone
        self.journal.close(end.status, end.reason, self.gateway.now())

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log an exception without the query and the header fields, which Tornado logs and which may hold secrets."""
        if not isinstance(value, GatewayError | HTTPError):
            log.error("%s %s failed", self.request.method, self.request.path, exc_info=(typ, value, tb))


class PageHandler(GatewayHandler):
    """A page of the gateway's own.

    Attributes:
        exchange: the exchange with the client.
        admitted: the result of the admission, once the request is admitted.
    """

    admitted: Admitted[Service | None]

    def __init__(self, application: Application, request: HTTPServerRequest, route: Route[Any]) -> None:
        self.gateway, self.route = application.settings["gateway"], route
        self.exchange = cast(ServerExchange, request.connection)
        self.journal = Journal(self.gateway, self.exchange, route.path)
        self.journal.began -= request.request_time()  # Tornado makes a handler when the body has come whole
        super().__init__(application, request)

    @property
    def found(self) -> Service | type[GatewayError] | None:
        """The service that a request for the page is about, or the error of a page that does not exist; None for a page
        that exists, and is about no service."""
        return None

    def prepare(self) -> Awaitable[Any] | None:
        if self.gateway.cors and self.route.serves_pages:
            meet_page(self.gateway.cors, self.exchange, self.route)
        access, found = self.route.access or DEFAULT, self.found
        steps = admit(self.gateway, self.route, self.journal, found, self._take, access)
        waits_for = next(steps, None)
        return None if waits_for is None else resume(steps, waits_for)

    def _take(self, admitted: Admitted[Service | None]) -> None:
        self.admitted = admitted
        self.on_admitted(admitted)

    def on_admitted(self, admitted: Admitted[Service | None]) -> None:
        """Check what this page asks of a request beyond the admission.

        Raises:
            GatewayError: the page refuses the request.
        """

    def options(self, *_: str) -> None:
        """Answer OPTIONS with the served methods (RFC 9110 §9.3.7)."""
        self.set_status(204)
        self.set_header("Allow", ", ".join(self.route.allowed))
        self.finish()

    def close_journal(self) -> None:
        self.journal.close(self.get_status(), self.reason, self.gateway.now(), bytes_in=len(self.request.body))

    def send_json(self, said: object, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(said) + "\n")


def log_request(handler: RequestHandler) -> None:
    """Tornado's log_function: called at the end of an answer that a handler has written."""
    if isinstance(handler, GatewayHandler):
        handler.close_journal()
