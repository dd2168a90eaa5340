"""What every request has in common: an id, admission, an answer when something fails, a line in the log.

Admission goes in this order, each step above what costs more:

    request id       so that every refusal below can be found again
    (shed)           later: refuse early when the gateway itself is in trouble
    (rate limit)     later: by client, before any work on its behalf
    authenticate     only who has a token gets as far as a service
"""

import json
import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, ClassVar, cast

from tornado.httputil import HTTPServerRequest
from tornado.web import Application, HTTPError, RequestHandler

from tornado_gateway.adapters.access_log import AccessRecord
from tornado_gateway.errors import GatewayError, MethodNotAllowed, NotFound
from tornado_gateway.gateway import Gateway
from tornado_gateway.policy.http.forwarding import client_address
from tornado_gateway.policy.http.headers import Field, request_id
from tornado_gateway.policy.http.unavailable import retry_line
from tornado_gateway.wire.http1 import fields
from tornado_gateway.wire.server.exchange import ServerExchange

PROBLEM = b"application/problem+json"

log = logging.getLogger("tornado_gateway")


def problem(error: GatewayError, request_id: bytes) -> bytes:
    """The body of an answer the gateway makes itself: RFC 9457, and the members `error` and `message`."""
    said = {
        "type": f"urn:tornado-gateway:error:{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.message,
        "instance": f"urn:tornado-gateway:request:{request_id.decode('ascii')}",
        "error": error.code,
        "message": error.message,
        "requestId": request_id.decode("ascii"),
    }
    return json.dumps(said).encode("ascii") + b"\n"


def proxy_fields(error: GatewayError, pseudonym: bytes) -> list[Field]:
    """The fields that belong to an error's answer, Proxy-Status among them (RFC 9209)."""
    status = [(b"Proxy-Status", b"%b; error=%b" % (pseudonym, error.proxy.encode("ascii")))] if error.proxy else []
    return [*error.fields, *status]


def answer(exchange: ServerExchange, error: GatewayError, request_id: bytes, pseudonym: bytes) -> None:
    """Send an error to the client, whole."""
    body = problem(error, request_id)
    lines = [
        b"Content-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\nx-request-id: %b\r\n"
        % (PROBLEM, len(body), request_id)
    ]
    lines += [b"%b: %b\r\n" % field for field in proxy_fields(error, pseudonym)]
    exchange.start_response(error.status, b"", b"".join(lines), length=len(body), dated=False)
    if exchange.head.method != b"HEAD":
        exchange.write(body)
    exchange.finish()


def tell_to_come_back(
    exchange: ServerExchange, error: GatewayError, request_id: bytes, pseudonym: bytes, seconds: float
) -> None:
    """Send a whole event stream that tells an EventSource when to ask again, instead of an error."""
    body = retry_line(seconds)
    lines = [
        b"Content-Type: text/event-stream\r\nContent-Length: %d\r\nCache-Control: no-store\r\nx-request-id: %b\r\n"
        % (len(body), request_id)
    ]
    lines += [
        # A page of another origin must be able to read the answer, or its EventSource gives up for good (Fetch §4.10,
        # CORS check). The service is not there to say which origins may; the answer says no more than when to ask.
        b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n" % value
        for name, value in fields(exchange.head.block)
        if name.lower() == b"origin"
    ][:1]
    if error.proxy:
        lines.append(b"Proxy-Status: %b; error=%b\r\n" % (pseudonym, error.proxy.encode("ascii")))
    exchange.start_response(200, b"", b"".join(lines), length=len(body), dated=False)
    if exchange.head.method != b"HEAD":
        exchange.write(body)
    exchange.finish()


class Refuser:
    """Answers requests that never reach a handler: malformed, too large, too late, too many."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __call__(self, exchange: ServerExchange, error: GatewayError) -> None:
        gateway, head = self._gateway, exchange.head
        id_ = request_id(head.named, gateway.new_request_id)
        answer(exchange, error, id_, gateway.forwarding.pseudonym)
        gateway.durations.add(head.method, "other", error.status, 0.0)
        if gateway.access_log:
            gateway.access_log.add(
                AccessRecord(
                    request_id=id_,
                    method=head.method,
                    target=head.target,
                    service="",
                    endpoint="",
                    status=error.status,
                    reason=error.reason,
                    attempts=0,
                    bytes_in=0,
                    bytes_out=exchange.body_bytes,
                    head_seconds=None,
                    seconds=0.0,
                    client=client_address(head.named, exchange.connection.peer, gateway.forwarding.trusted),
                )
            )


class GatewayHandler(RequestHandler):
    """A Tornado handler of the gateway's own pages: its answers carry the request's id, its errors are problems."""

    IS_ROUTED: ClassVar[bool] = True  # whether its path is one of few
    gateway: Gateway
    request_id: bytes

    def __init__(self, application: Application, request: HTTPServerRequest, **kwargs: Any) -> None:
        self.gateway = application.settings["gateway"]
        named = request.connection.head.named  # type: ignore[union-attr]
        self.request_id = request_id(named, self.gateway.new_request_id)
        self.reason = ""
        super().__init__(application, request, **kwargs)

    def authenticate(self) -> None:
        """Let nobody pass without a valid token, if tokens are asked for.

        Raises:
            Unauthorized: there is none.
        """
        if self.gateway.authenticator:
            self.gateway.authenticator.check([each.encode() for each in self.request.headers.get_list("Authorization")])

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("x-request-id", self.request_id.decode("ascii"))
        self.set_header("Cache-Control", "no-store")

    def check_etag_header(self) -> bool:
        return False

    def compute_etag(self) -> None:
        return None

    def send_methods(self, methods: Iterable[str]) -> None:
        """Answer OPTIONS (RFC 9110 §9.3.7)."""
        self.set_status(204)
        self.set_header("Allow", ", ".join(methods))
        self.finish()

    def send_json(self, said: object, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(said) + "\n")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        cause = kwargs.get("exc_info", (None, None, None))[1]
        error = cause if isinstance(cause, GatewayError) else _error_for(status_code, self)
        self.reason = error.reason
        self.set_status(error.status)
        self.set_header("Content-Type", PROBLEM.decode("ascii"))
        for name, value in proxy_fields(error, self.gateway.forwarding.pseudonym):
            self.set_header(name.decode("ascii"), value)
        self.finish(problem(error, self.request_id))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what went wrong; not, as Tornado does, the target's query and the fields, which may hold secrets."""
        if not isinstance(value, GatewayError | HTTPError):
            log.error("%s %s failed", self.request.method, self.request.path, exc_info=(typ, value, tb))


class PageHandler(GatewayHandler):
    """A page of the gateway's own, to be read only.

    OPTIONS needs no token: it tells the methods alone, and a browser asks without one before it asks across origins.
    """

    SUPPORTED_METHODS = ("GET", "HEAD", "OPTIONS")

    def options(self) -> None:
        self.send_methods(self.SUPPORTED_METHODS)


def _error_for(status: int, handler: RequestHandler) -> GatewayError:
    """Tornado's own errors in our words."""
    if status == NotFound.status:
        return NotFound()
    if status == MethodNotAllowed.status:
        return MethodNotAllowed(handler.SUPPORTED_METHODS)
    return GatewayError()


def log_request(handler: RequestHandler) -> None:
    """Tornado's log_function: a line for a request that a Tornado handler has answered."""
    if not isinstance(handler, GatewayHandler):
        return
    request, exchange = handler.request, cast(ServerExchange, handler.request.connection)
    head, connection = exchange.head, exchange.connection
    route = request.path if handler.IS_ROUTED else "other"
    handler.gateway.durations.add(head.method, route, handler.get_status(), request.request_time())
    if handler.gateway.access_log is None:
        return
    handler.gateway.access_log.add(
        AccessRecord(
            request_id=handler.request_id,
            method=head.method,
            target=head.target,
            service="",
            endpoint="",
            status=handler.get_status(),
            reason=handler.reason,
            attempts=0,
            bytes_in=len(request.body),
            bytes_out=exchange.body_bytes,
            head_seconds=None,
            seconds=request.request_time(),
            client=client_address(head.named, connection.peer, handler.gateway.forwarding.trusted),
        )
    )
