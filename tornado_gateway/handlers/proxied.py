"""A proxied request until the admission. A Forwarding (forwarding.py) carries an admitted request.

client ──► head_received ──► admit (admission.py) ──► forward ──► Forwarding.begin
                                   │
client ◄── local reply ◄───────────┘
"""

import functools
from collections.abc import Awaitable
from typing import Any, ClassVar

from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler

from tornado_gateway.errors import BadRequest, GatewayError, UnknownService
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.admission import Admitted, Steps, admit, resume
from tornado_gateway.handlers.base import GatewayHandler
from tornado_gateway.handlers.cross_origin import annotate, answer_preflight, cors_of, hide_credentials, meet_page
from tornado_gateway.handlers.forwarding import Forwarding
from tornado_gateway.handlers.journal import Journal
from tornado_gateway.handlers.local_reply import reply
from tornado_gateway.policy.access import DEFAULT, PUBLIC
from tornado_gateway.policy.http.cors import CorsConfig
from tornado_gateway.policy.http.unavailable import STATUS
from tornado_gateway.policy.routing import Match
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.http1 import fields
from tornado_gateway.wire.server.delegate import HeadDelegate
from tornado_gateway.wire.server.exchange import ServerExchange, start_line
from tornado_gateway.wire.server.messages import RawHeaders, RawRequest


class _Late:
    """An attribute that RequestHandler.__init__ makes. The first access runs RequestHandler.__init__.

    A descriptor for each name instead of __getattr__: where a class has __getattr__, CPython 3.11 specialises no access
    to an attribute (measured: 3 % of the gateway's work for a small GET).
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, handler: "ProxiedRequest", owner: type) -> Any:
        handler.become_whole()
        return handler.__dict__[self._name]


class ProxiedRequest(HeadDelegate, GatewayHandler):
    """A Tornado handler that forwards the request.

    RequestHandler.__init__ makes default headers and template helpers, which no forwarded answer uses. So
    RequestHandler.__init__ runs on the first access to an attribute of RequestHandler.__init__ (measured: 11 µs less
    per request), and a subclass may write an answer with set_header(), write() and finish() as any handler does.

    Args:
        client: the exchange with the client.

    Attributes:
        match: the route of the request.
        FORWARDING: class of the route's Forwardings.
    """

    FORWARDING: ClassVar[type[Forwarding]]

    ui: Any = _Late()
    _auto_finish: Any = _Late()
    _finished: Any = _Late()
    _headers: Any = _Late()
    _headers_written: Any = _Late()
    _prepared_future: Any = _Late()
    _reason: Any = _Late()
    _status_code: Any = _Late()
    _write_buffer: Any = _Late()

    def __init__(
        self, gateway: Gateway, application: Application, client: ServerExchange, match: Match[type["ProxiedRequest"]]
    ) -> None:
        self.application, self.gateway, self.client, self.match = application, gateway, client, match
        self.route = match.route
        self.journal: Journal = gateway.new_journal(gateway, client, match.route.path)
        self._forwarding: Forwarding | None = None  # once the request is admitted
        client.set_close_callback(self.on_connection_close)

    @property
    def _is_whole(self) -> bool:
        return "_headers" in self.__dict__

    def become_whole(self) -> None:
        """Run RequestHandler.__init__."""
        self._transforms = []
        RequestHandler.__init__(self, self.application, self.request)

    def set_status(self, status_code: int, reason: str | None = None) -> None:
        if not self._is_whole:  # set_status() writes before any look; the first look would reset the status to 200
            self.become_whole()
        super().set_status(status_code, reason)

    @functools.cached_property
    def request(self) -> HTTPServerRequest:  # type: ignore[override]  # an attribute there
        head = self.client.head
        return RawRequest(self.client, start_line(head), RawHeaders(head.block))

    # ---- HeadDelegate

    def head_received(self) -> Awaitable[None] | None:
        service = self.gateway.services.get(self.match.service)
        cors = self._cors_of_preflight(self.gateway.cors, service) if self.gateway.cors else None
        if cors and cors.answers:
            return self._answer_preflight(service)
        access = self.route.access or (service.config.access if service else DEFAULT)
        if cors:
            access = PUBLIC
            hide_credentials(self.client, self.gateway.authenticator)
        found, is_preflight = service or UnknownService, cors is not None
        steps = admit(self.gateway, self.route, self.journal, found, self._begin, access, is_preflight=is_preflight)
        try:
            waits_for = next(steps, None)
        except GatewayError as error:
            self._refuse(error, self._mode(service))
            return None
        return None if waits_for is None else self._admit_later(steps, waits_for)

    async def _admit_later(self, steps: Steps[None], waits_for: Awaitable[Any]) -> None:
        try:
            await resume(steps, waits_for)
        except GatewayError as error:
            self._refuse(error, self._mode(self._service))
        except Exception as error:  # as Tornado answers an exception in prepare() of a page
            if self._forwarding:
                raise
            self.log_exception(type(error), error, error.__traceback__)
            self._refuse(GatewayError(), STATUS)

    def _cors_of_preflight(self, default: CorsConfig, service: Service | None) -> CorsConfig | None:
        """Annotate the response for pages of other origins.

        Args:
            default: of requests that reach no service.

        Returns:
            The config if the request is a preflight that the gateway answers, or that passes to a service; else None.
        """
        cors = cors_of(default, self.route, service)
        needs_nothing = meet_page(cors, self.client, self.route)
        return cors if needs_nothing and (cors.answers or service) else None

    def _answer_preflight(self, service: Service | None) -> Awaitable[None] | None:
        """Answer a preflight instead of the service."""
        then = self._send_preflight
        steps = admit(self.gateway, self.route, self.journal, service, then, PUBLIC, is_preflight=True)
        try:
            waits_for = next(steps, None)
        except GatewayError as error:
            self._refuse(error, STATUS)
            return None
        return None if waits_for is None else self._admit_later(steps, waits_for)

    def _send_preflight(self, admitted: Admitted[Service | None]) -> None:
        journal = self.journal
        if journal.is_closed:  # the client has left while a step waited
            return
        journal.service = admitted.found.name if admitted.found else ""
        self.client.set_close_callback(None)
        reason = answer_preflight(self.client, journal.request_id)
        journal.close(204, reason, self.gateway.now())

    def _begin(self, admitted: Admitted[Service]) -> None:
        if self.journal.is_closed:  # the client has left while a step waited
            return
        self.journal.service = admitted.found.name
        try:
            if self.match.rest[:1] != b"/":
                self._refuse_worker()
            forwarding = self._forwarding = self.forward(admitted)
        except GatewayError as error:
            self._refuse(error, self.FORWARDING.mode(admitted.found))
            return
        if forwarding:
            forwarding.begin()

    @property
    def _service(self) -> Service | None:
        return self.gateway.services.get(self.match.service)

    def _mode(self, service: Service | None) -> str:
        """How a refusal is answered: a 503 ends an EventSource for good, which is to come back instead."""
        return self.FORWARDING.mode(service) if service else STATUS

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._forwarding.data_received(chunk) if self._forwarding else None

    def body_received(self) -> None:
        if self._forwarding:
            self._forwarding.body_received()

    # ---- the journey

    def forward(self, admitted: Admitted[Service]) -> Forwarding | None:
        """Make the Forwarding of an admitted request; None for a request that is answered already.

        Raises:
            GatewayError: the route or the service does not allow the request.
        """
        raise NotImplementedError

    def _refuse_worker(self) -> None:
        """
        Raises:
            BadRequest: a browser asks for the script of a service worker that would see paths of other services.
        """
        is_beside_others = self.match.mount.is_beside_others(self.match.rest)
        if is_beside_others and any(name.lower() == b"service-worker" for name, _ in fields(self.client.head.block)):
            raise BadRequest("a service worker at the prefix itself would see the paths of other services")

    # ---- the end

    def _refuse(self, error: GatewayError, mode: str) -> None:
        """Send a local reply, unless the client has left."""
        if self.journal.is_closed:
            return
        client, journal, sent = self.client, self.journal, error.status
        client.set_close_callback(None)
        try:
            sent = reply(self.gateway, client, error, journal.request_id, mode)
        finally:
            journal.close(error.status, error.reason, self.gateway.now(), sent=sent)

    def on_connection_close(self) -> None:
        """The client has left, or the rest of the request is wrong, too large or too slow."""
        if self._forwarding:
            self._forwarding.client_left()
        elif self.client.error:
            if self.gateway.cors:  # the head may be refused before head_received()
                annotate(cors_of(self.gateway.cors, self.route, self._service), self.client)
            self._refuse(self.client.error, STATUS)
        else:
            super().on_connection_close()

    def close_journal(self) -> None:
        status, reason = self.get_status(), self.reason
        if self._forwarding:
            self._forwarding.give_up(status, reason)
        else:
            self.journal.close(status, reason, self.gateway.now())
