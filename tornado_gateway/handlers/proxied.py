"""A request to one of a service's endpoints, and its answer back: what all journeys to upstreams share.

    client ──► begin ──► Attempts (attempts.py) ──► endpoint
                             ▲
      body ──► Upload (upload.py)
    client ◄── on_head, on_chunk, on_end ◄── endpoint
                  │
                  └─► an event stream goes on as an EventStream (event_stream.py)

Both directions flow at once and neither is collected: what one side does not take, the
other side is not asked for. Whoever ends the journey settles the lease and writes
the log line, in `_close()`, once.
"""

import asyncio
import functools
import math
import time
from functools import partial
from typing import ClassVar

from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler

from tornado_gateway.adapters.access_log import AccessRecord
from tornado_gateway.adapters.jwt_auth import JwtAuthenticator
from tornado_gateway.errors import (
    ClientClosed,
    ClientGone,
    ClientStalled,
    Draining,
    GatewayError,
    MethodNotAllowed,
    RequestOutOfTime,
    RequestTimeout,
    UnknownService,
    UpstreamError,
)
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.attempts import Attempts
from tornado_gateway.handlers.base import answer, tell_to_come_back
from tornado_gateway.handlers.event_stream import EventStream
from tornado_gateway.handlers.peek import Peek
from tornado_gateway.handlers.upload import Upload
from tornado_gateway.policy.http.expiry import NEVER, Expiry
from tornado_gateway.policy.http.forwarding import originate
from tornado_gateway.policy.http.headers import (
    Field,
    accepts_trailers,
    client_fields,
    interim_fields,
    request_id,
    serialize,
    trailer_lines,
    upstream_fields,
    without,
)
from tornado_gateway.policy.http.negotiation import accepts_only
from tornado_gateway.policy.http.sse import EVENT_STREAM, is_encoded, is_event_stream, stream_fields
from tornado_gateway.policy.http.target import split_route
from tornado_gateway.policy.http.unavailable import STATUS, comes_back, pause
from tornado_gateway.policy.upstream.affinity import Affinity
from tornado_gateway.policy.upstream.endpoint import CLIENT_GONE, FAILURE, IGNORED, SUCCESS, Endpoint, Kind, Outcome
from tornado_gateway.policy.upstream.retry import is_repeatable
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.upkeep.streams import Stream
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead, fields
from tornado_gateway.wire.server.exchange import ServerExchange, start_line
from tornado_gateway.wire.server.messages import RawHeaders, RawRequest

REFUSED_METHODS = (b"TRACE", b"CONNECT")  # RFC 9110 §9.3.6 and §9.3.8: tunnels and echoes are not for a gateway
AWAITING_METHODS = (b"GET", b"HEAD", b"POST")  # that clients ask for event streams with


class ProxiedRequest(RequestHandler):
    """One proxied request: the Call of its Attempts.

    Attributes:
        ROUTE: as the routing table has it.
        PREFIX: of the route.
        METHODS: that the route serves; none for all but REFUSED_METHODS.
        IS_STREAM: whether the client asks for a stream by asking here: it is counted as one at once, and an
            endpoint that answers 5xx is replaced by another.
        UNAVAILABLE: what SSE_UNAVAILABLE means here where it is not set.
    """

    ROUTE: ClassVar[str]
    PREFIX: ClassVar[bytes]
    METHODS: ClassVar[tuple[bytes, ...]] = ()
    IS_STREAM: ClassVar[bool] = False
    UNAVAILABLE: ClassVar[str] = STATUS

    upgrades = False
    kind = Kind.HTTP
    _time_limit: asyncio.TimerHandle | None = None  # of the request in all, unless it is a stream

    def __init__(self, gateway: Gateway, application: Application, client: ServerExchange) -> None:
        # RequestHandler's own __init__ makes default headers and template helpers that no proxied
        # answer uses (measured: 11 µs per request); what Tornado asks of a handler is set here.
        head = client.head
        self.application = application
        self._gateway, self._client = gateway, client
        self._id = request_id(head.named, gateway.new_request_id)
        self._address = client.connection.peer
        self.began = gateway.now()
        self.method = head.method
        self.is_repeatable = False  # until its service is known
        self.awaits_stream = self.IS_STREAM
        self.key = b""
        self.pinned: Endpoint | None = None
        self.upload = Upload(client, gateway.client.loop) if head.body else None
        self._service: Service | None = None
        self._attempts: Attempts | None = None
        self._status = 0  # of the endpoint's answer; 0 before it has come
        self._head_seconds: float | None = None
        self._is_counted = False  # as a stream
        self._peek: Peek | None = None
        self._stream: Stream | None = None
        self._closed = False
        client.set_close_callback(self.on_connection_close)

    @functools.cached_property
    def request(self) -> HTTPServerRequest:  # type: ignore[override]  # an attribute there; nobody here looks at it
        head = self._client.head
        return RawRequest(self._client, start_line(head), RawHeaders(head.block))

    # ---- the request

    def begin(self) -> None:
        try:
            service = self._route()
            self._attempts = Attempts(self._gateway, service, self)
            if not self.awaits_stream:
                self._limit_time(service)
            self._attempts.begin()
        except GatewayError as error:
            self.on_failure(error)

    def _limit_time(self, service: Service) -> None:
        if service.config.request_timeout < math.inf:
            loop = self._gateway.client.loop
            self._time_limit = loop.call_later(service.config.request_timeout, self._out_of_time)

    def _route(self) -> Service:
        """Find the service, and see whether the client may have it."""
        head, gateway = self._client.head, self._gateway
        origination = self._origination = originate(
            head.named, self._address, self._client.connection.scheme, head.host, gateway.forwarding.trusted
        )
        self._address = origination.client  # first of all, so that the log names the client of what is refused
        if head.method in REFUSED_METHODS:
            raise MethodNotAllowed
        if self.METHODS and head.method not in self.METHODS:
            raise MethodNotAllowed([method.decode("ascii") for method in self.METHODS])
        self._expiry = self._authenticate(gateway.authenticator) if gateway.authenticator else NEVER
        name, rest = split_route(head.target, self.PREFIX)
        service = self._service = gateway.services.get(name)
        if service is None:
            raise UnknownService
        self.is_repeatable = is_repeatable(self.method, service.config.retry)
        self._rest = self._ask_for(rest)
        self._admit()
        if self.upload:
            self._client.min_upload_rate = service.config.min_upload_rate
        if self.IS_STREAM or (b"accept" in head.named and self._asks_for_events(head.named[b"accept"])):
            self._admit_stream(service)
        if service.affinity:
            self.key, self.pinned = service.affinity.of(fields(head.block), self._address, rest)
        self._fields = upstream_fields(
            self._pass(head.passing), head.named, origination.lines, self._id, head.minor, gateway.forwarding.pseudonym
        )
        return service

    def _authenticate(self, authenticator: JwtAuthenticator) -> Expiry:
        """When the client's token expires."""
        given = [value for name, value in fields(self._client.head.block) if name.lower() == b"authorization"]
        return Expiry.of(authenticator.check(given), self._gateway.client.loop.time(), time.time())

    def _asks_for_events(self, accepted: list[bytes]) -> bool:
        return self.method in AWAITING_METHODS and accepts_only(accepted, EVENT_STREAM)

    def _admit_stream(self, service: Service) -> None:
        """The client waits for a stream: to it, an endpoint that fails before the first event is as good as one that
        refuses."""
        self.awaits_stream = True
        self._count_stream(service)

    def _count_stream(self, service: Service) -> None:
        """Have the request counted as a stream until its end."""
        self._gateway.streams.counts.take(service.name, self._address)
        self._is_counted = True

    def _uncount_stream(self) -> None:
        if self._is_counted and self._service:
            self._is_counted = False
            self._gateway.streams.counts.give_back(self._service.name, self._address)

    def _ask_for(self, rest: bytes) -> bytes:
        """What stood behind the service's name, as it may stand behind an endpoint's base path."""
        return self._gateway.forwarding.target.admit(rest)

    def _admit(self) -> None:
        """Refuse what the route does not allow."""

    def _pass(self, passing: bytes) -> bytes:
        """The field lines of the request that are passed on."""
        return passing

    def head_for(self, endpoint: Endpoint) -> bytes:
        asked, keeps_host = self._client.head.host, self._gateway.forwarding.preserve_host
        return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (
            self.method,
            endpoint.base_path + self._rest,
            asked if keeps_host and asked else endpoint.authority,
            self._fields,
            self._framing(endpoint),
        )

    def _framing(self, endpoint: Endpoint) -> bytes:
        """The field lines that belong to this connection to an endpoint."""
        return self.upload.framing if self.upload else b""

    def data_received(self, chunk: bytes) -> "asyncio.Future[None] | None":
        """A piece of the request's body has come.

        Returns:
            A future, to be given no more until it is done; or None.
        """
        upload = self.upload
        if upload is None:
            return None
        was_replayable = upload.is_replayable
        taken = upload.data_received(chunk)
        if was_replayable and not upload.is_replayable and self._attempts:
            self._attempts.upload_outgrew()
        return taken

    def body_received(self) -> None:
        """The request is whole."""
        if self.upload:
            self.upload.finish()
            if self._attempts:
                self._attempts.upload_ended()

    # ---- the response

    def on_interim(self, head: ResponseHead) -> None:
        # RFC 9110 §15.2: a proxy passes every 1xx response on. Of a 100 that a client asked for, Upload decides.
        if head.status != 100 or not self._client.head.expects_continue:
            self._client.write_interim(head.status, interim_fields(head.passing, head.named), safe_reason(head.reason))
        elif self.upload:
            self.upload.upstream_continues()

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        self._head_seconds, self._status = self._gateway.now() - self.began, head.status
        # Of several Content-Type fields browsers take the last one that they understand (RFC 9110 §8.3).
        if b"content-type" in head.named and is_event_stream(head.named[b"content-type"][-1]):
            return self._await_stream(head, source)
        if not self.IS_STREAM:
            self._uncount_stream()
        if self.awaits_stream and self._service:  # what has come is none
            self._limit_time(self._service)
        self._begin_response(head)
        return self

    def _begin_response(self, head: ResponseHead, more: bytes = b"") -> None:
        """Send the response's head on.

        Args:
            more: lines to add to it.
        """
        named, passing, service = head.named, head.passing, self._service
        if self.upload:
            self.upload.forget()
        if head.status == 204 and b"content-length" in named:
            passing = without(passing, (b"content-length",))  # RFC 9110 §8.6
        block = client_fields(passing, named, self._id, head.minor, self._gateway.forwarding.pseudonym) + more
        if service and service.affinity:
            block += self._sticky_line(service.affinity)
        if b"alt-svc" in named and service and service.config.passes_alt_svc:
            block += serialize([(b"Alt-Svc", value) for value in named[b"alt-svc"]])
        if head.status >= 500:
            block += b"Proxy-Status: %b; received-status=%d\r\n" % (self._gateway.forwarding.pseudonym, head.status)
        self._client.start_response(
            head.status, safe_reason(head.reason), block, length=head.length, dated=b"date" in named
        )

    def _sticky_line(self, affinity: Affinity) -> bytes:
        """The Set-Cookie line that binds the client to its endpoint; b"" if the client's cookie does that already."""
        lease = self._attempts.lease if self._attempts else None
        if lease is None or lease.endpoint is self.pinned:
            return b""
        return affinity.cookie_line(lease.endpoint, secure=self._origination.proto == b"https")

    def _await_stream(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        """Begin an event stream, perhaps after a look at its first event."""
        service = self._service
        if service is None:
            return None
        config = service.config.event_streams
        if head.body is None:
            self._begin_response(head, stream_fields(fields(head.block)))  # to HEAD as to GET (RFC 9110 §9.3.2)
            return self
        if config.peek and self._may_ask_another:
            source.allow(config.idle_timeout)  # what is awaited is an event, and no longer a head
            self._peek = Peek(source, config.peek, partial(self._begin_stream, head, source))
            return self._peek
        return self._begin_stream(head, source, False)

    @property
    def _may_ask_another(self) -> bool:
        """Whether another endpoint may be asked if the stream turns out to have failed: the client waits for a stream
        and nothing else, or the request may be carried out twice."""
        may = self.awaits_stream or self.is_repeatable
        return may and self._attempts is not None and self._attempts.may_ask_another

    def _begin_stream(self, head: ResponseHead, source: BodySource, failed: bool) -> EventStream | None:
        """Hand an event stream's body to an EventStream, or ask another endpoint if it has failed."""
        gateway, attempts, service = self._gateway, self._attempts, self._service
        self._peek = None
        if attempts is None or service is None:
            return None
        try:
            if failed and self._may_ask_another and service.budget.take(gateway.now()):
                attempts.ask_another()
                return None
            if not self._is_counted:
                self._count_stream(service)
        except GatewayError as error:
            source.abort()
            self.on_failure(error)
            return None
        if attempts.lease:
            attempts.lease.becomes(Kind.SSE, gateway.now())
        lines, source.min_rate = fields(head.block), 0.0
        self._begin_response(head, stream_fields(lines))
        is_opaque = head.length is not None or is_encoded(lines)
        stream = EventStream(
            service.config.event_streams, gateway.rng, self._client, source, self._end_stream,
            expiry=self._expiry, is_opaque=is_opaque,
        )  # fmt: skip
        self._keep(stream)
        source.forget_fields()
        return stream

    def _keep(self, stream: Stream) -> None:
        """Look after a stream until the journey's end; what was needed to begin it is let go.

        Measured: 3 KiB less per stream with a browser's fields.
        """
        self._stream = stream
        if self._time_limit:
            self._time_limit.cancel()
        lease = self._attempts.lease if self._attempts else None
        self._gateway.streams.add(stream, lease.endpoint if lease else None)
        self._client.forget_fields()
        self._fields = b""

    def _end_stream(self, outcome: Outcome, reason: str) -> None:
        if outcome is SUCCESS:
            self._close_whole(reason)
        else:
            self._close(outcome, self._status, reason)

    def _close_whole(self, reason: str = "") -> None:
        """The answer has come whole, or as much of it as was wanted: its status says how the endpoint did."""
        outcome = self._service.judge(self._status) if self._service else SUCCESS
        self._close(outcome, self._status, reason)

    @property
    def _upstream(self) -> ClientExchange | None:
        return self._attempts.upstream if self._attempts else None

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        drained = self._client.write(chunk)
        return None if drained.done() else drained

    def on_end(self, trailers: list[Field]) -> None:
        self._close_whole()
        wanted = trailers and accepts_trailers(self._client.head.named)
        self._client.finish(trailer_lines(trailers) if wanted else b"")

    # ---- the end

    def on_connection_close(self) -> None:
        """The client has left, or its request turned out to be wrong, too large or too slow."""
        error = self._client.error
        if self._attempts:
            self._attempts.abort()
        if error is None:
            self._close_cut()
        elif self._client.started:
            self._close(IGNORED, self._status, error.reason)
        else:
            self.on_failure(error)

    def _close_cut(self) -> None:
        """The client's connection has ended, by the client or by a gateway that waits no longer. What has been sent has
        its status in the log; 499 is for a client that left before."""
        is_begun = self._client.started
        if self._gateway.lifecycle.stopped:
            self._close(IGNORED, self._status if is_begun else Draining.status, Draining.reason)
        elif is_begun:
            self._close(CLIENT_GONE, self._status, ClientClosed.reason)
        else:
            self._close(CLIENT_GONE, ClientGone.status, ClientGone.reason)

    def _out_of_time(self) -> None:
        """REQUEST_TIMEOUT_MS is over: break off, and blame who was waited for."""
        upstream, upload = self._upstream, self.upload
        error: GatewayError = RequestOutOfTime()
        if upstream and upload and not upload.is_whole and not upstream.is_blocked:
            error = RequestTimeout("the request's body did not come whole in time")  # RFC 9110 §15.5.9
        elif upstream and upstream.is_held:
            error = ClientStalled()
        if self._attempts:
            self._attempts.abort()
        self.on_failure(error)

    def on_failure(self, error: GatewayError) -> None:
        """End the journey with an error: as an answer if none has begun, else as a broken one."""
        if self._closed:
            return
        outcome = FAILURE if isinstance(error, UpstreamError) else IGNORED
        client = self._client
        if client.started:
            self._close(outcome, self._status, error.reason)
            client.abort()
            return
        client.set_close_callback(None)
        sent = error.status
        try:
            sent = self._answer(error)
        finally:
            self._close(outcome, error.status, error.reason, sent=sent)

    def _answer(self, error: GatewayError) -> int:
        """Answer with an error; or with a word to an EventSource that would not come back after one.

        Returns:
            The status that was sent.
        """
        client, gateway, service = self._client, self._gateway, self._service
        mode = (service and service.config.event_streams.unavailable) or self.UNAVAILABLE
        accept = client.head.named.get(b"accept", ())
        if self.upgrades or not comes_back(error, mode=mode, method=self.method, accept=accept):
            answer(client, error, self._id, gateway.forwarding.pseudonym)
            return error.status
        seconds = pause(error.retry_after, gateway.rng)
        tell_to_come_back(client, error, self._id, gateway.forwarding.pseudonym, seconds)
        return 200

    def _close(self, outcome: Outcome, status: int, reason: str, *, sent: int = 0) -> None:
        """End the journey, once.

        Args:
            status: that the request counts with among the durations.
            sent: the status in the log, if another one was sent.
        """
        if self._closed:
            return
        self._closed = True
        gateway, attempts, now = self._gateway, self._attempts, self._gateway.now()
        if self._peek:
            self._peek.stop()
        if self._time_limit:
            self._time_limit.cancel()
        if attempts:
            attempts.close(outcome, now)
        if self.upload:
            self.upload.close()
        if self._is_counted:
            self._uncount_stream()
        seconds = now - self.began
        shown = seconds
        if self._stream:
            gateway.streams.discard(self._stream)
            shown = self._head_seconds or 0.0
        gateway.durations.add(self.method, self.ROUTE, status, shown)
        if gateway.access_log:
            gateway.access_log.add(self._record(sent or status, reason, seconds))
        self._stream = self._attempts = None  # they point back here; without cycles all are freed at once

    def _record(self, status: int, reason: str, seconds: float) -> AccessRecord:
        attempts, upload = self._attempts, self.upload
        return AccessRecord(
            request_id=self._id,
            method=self.method,
            target=self._client.head.target,
            service=self._service.name if self._service else "",
            endpoint=attempts.lease.endpoint.url if attempts and attempts.lease else "",
            status=status,
            reason=reason,
            attempts=attempts.begun if attempts else 0,
            bytes_in=upload.received if upload else 0,
            bytes_out=self._client.body_bytes,
            head_seconds=self._head_seconds,
            seconds=seconds,
            client=self._address,
        )


@functools.lru_cache(maxsize=256)
def safe_reason(reason: bytes) -> bytes:
    """An upstream's reason phrase if it is plain words, else b"" for the standard one (Tornado CVE-2025-67724)."""
    return reason if reason.replace(b" ", b"").replace(b"-", b"").replace(b"'", b"").isalnum() else b""
