"""A request to one of a service's endpoints, and its answer back: what all journeys to upstreams share.

    client ──► begin ──► attempt ──► endpoint
                ▲          │  ▲
      data_received,       │  └── on_failure: again, if policy/retry.py says so
      body_received ───────┘
    client ◄── on_head, on_chunk, on_end ◄── endpoint
                  │
                  └─► an event stream goes on as an EventStream (handlers/event_stream.py)

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
from tornado_gateway.errors import (
    ClientGone,
    ConnectFailed,
    ConnectTimeout,
    Draining,
    EndpointsBusy,
    GatewayError,
    MethodNotAllowed,
    Overloaded,
    UnknownService,
    UpstreamError,
)
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.base import answer
from tornado_gateway.handlers.event_stream import EventStream
from tornado_gateway.handlers.peek import Peek
from tornado_gateway.policy.endpoint import Ask, Endpoint, Kind, Outcome
from tornado_gateway.policy.headers import (
    Field,
    Origination,
    accepts_trailers,
    client_fields,
    originate,
    request_id,
    trailer_lines,
    upstream_fields,
    without,
)
from tornado_gateway.policy.retry import (
    IDEMPOTENT,
    REPLAY_BYTES,
    Again,
    RetryConfig,
    Try,
    again,
    retry_after,
    wait_before,
)
from tornado_gateway.policy.service import Lease, Service
from tornado_gateway.policy.sse import accepts_events, is_encoded, is_event_stream, stream_fields
from tornado_gateway.policy.target import split_route, upstream_target
from tornado_gateway.streams import Stream
from tornado_gateway.wire.client import ClientExchange
from tornado_gateway.wire.http1 import ChunkedBody, ResponseHead, fields
from tornado_gateway.wire.messages import RawHeaders, RawRequest
from tornado_gateway.wire.server_exchange import ServerExchange, start_line

REFUSED_METHODS = (b"TRACE", b"CONNECT")  # RFC 9110 §9.3.6 and §9.3.8: tunnels and echoes are not for a gateway
LEAST_TRY = 1.0  # seconds that a retry has in any case, however late it is
AWAITING_METHODS = (b"GET", b"HEAD", b"POST")  # that clients ask for event streams with
CONTINUE_AFTER = 1.0  # seconds an upstream may keep a client waiting for 100-continue; Go and curl wait as long


class ProxiedRequest(RequestHandler):
    """One proxied request. It is its upstream exchange's Receiver.

    Attributes:
        ROUTE: as the routing table has it.
        PREFIX: of the route.
        METHODS: that the route serves; none for all but REFUSED_METHODS.
        IS_STREAM: whether the client asks for a stream by asking here: it is counted as one at once, and an
            endpoint that answers 5xx is replaced by another.
        UPGRADES: whether the upstream is asked for another protocol.
        KIND: what the lease is held for at first.
    """

    ROUTE: ClassVar[str]
    PREFIX: ClassVar[bytes]
    METHODS: ClassVar[tuple[bytes, ...]] = ()
    IS_STREAM: ClassVar[bool] = False
    UPGRADES: ClassVar[bool] = False
    KIND: ClassVar[Kind] = Kind.HTTP

    # What most journeys change late or never stands here, so that beginning one costs less (measured: 0.5 µs).
    _service: Service | None = None
    _lease: Lease | None = None
    _upstream: ClientExchange | None = None
    _origination: Origination
    _rest = b""  # of the target, behind the service's name
    _fields = b""  # of the request to the upstream
    _key = b""  # what it has in common with requests that belong to the same endpoint
    _pinned: Endpoint | None = None  # the one that its sticky cookie names
    _bytes_in = _attempts = _retries = 0
    _head_seconds: float | None = None
    _continue: asyncio.TimerHandle | None = None
    _later: asyncio.TimerHandle | None = None  # to try again, or to give up waiting for room
    _next_try: "asyncio.Future[None] | None" = None  # what more of the body waits for
    _is_waiting = False  # for room at an endpoint
    _has_waited = False
    _is_short = False  # whether the try has less time than the request
    _may_continue = False  # the client has been sent 100 Continue
    _expires = math.inf  # instant (loop time) at which the client's token does
    _awaits_stream = False  # to whom does, an endpoint that fails before the first event is as good as one that refuses
    _is_counted = False  # as a stream
    _is_stream = False  # whether the answer is one
    _peek: Peek | None = None
    _stream: Stream | None = None
    _closed = False

    def __init__(self, gateway: Gateway, application: Application, client: ServerExchange) -> None:
        # RequestHandler's own __init__ makes default headers and template helpers that no proxied
        # answer uses (measured: 11 µs per request); what Tornado asks of a handler is set here.
        self.application = application
        self._gateway = gateway
        self._client = client
        self._id = request_id(client.head.named, gateway.new_request_id)
        self._began = gateway.now()
        self._tried: list[Endpoint] = []
        self._body_read = client.head.body is None
        self._replay: list[bytes] | None = []  # what has come of the body, while it may be sent again
        self._address = client.connection.remote_ip
        client.set_close_callback(self.on_connection_close)

    @functools.cached_property
    def request(self) -> HTTPServerRequest:  # type: ignore[override]  # an attribute there; nobody here looks at it
        head = self._client.head
        return RawRequest(self._client, start_line(head), RawHeaders(head.block))

    # ---- the request

    def begin(self) -> None:
        try:
            self._route()
            self._attempt()
        except GatewayError as error:
            self._fail(error)

    def _route(self) -> None:
        head, gateway = self._client.head, self._gateway
        if head.method in REFUSED_METHODS:
            raise MethodNotAllowed
        if self.METHODS and head.method not in self.METHODS:
            raise MethodNotAllowed([method.decode("ascii") for method in self.METHODS])
        if gateway.authenticator:
            given = [value for name, value in fields(head.block) if name.lower() == b"authorization"]
            self._expires = gateway.client.loop.time() + gateway.authenticator.check(given)
        name, rest = split_route(head.target, self.PREFIX)
        service = self._service = gateway.services.get(name)
        if service is None:
            raise UnknownService
        self._rest = self._ask_for(rest)
        peer = self._client.connection
        origination = self._origination = originate(
            head.named, peer.remote_ip.encode("ascii"), b"http", head.host, gateway.forwarding.trusted
        )
        self._address = origination.client.decode("ascii")
        self._admit()
        if self.IS_STREAM or self._asks_for_events():
            self._awaits_stream = True
            if gateway.lifecycle.draining:
                raise Draining("the gateway is about to stop and takes no new streams")
            self._count_stream(service)
        service.budget.pay_in(self._began)
        if service.affinity:
            self._key, self._pinned = service.affinity.of(fields(head.block), self._address, rest)
        self._fields = upstream_fields(
            self._pass(head.passing), head.named, origination, self._id, head.minor, gateway.forwarding.pseudonym
        )

    def _count_stream(self, service: Service) -> None:
        """Have the request counted as a stream until its end."""
        self._gateway.streams.counts.take(service.name, self._address)
        self._is_counted = True

    def _uncount_stream(self) -> None:
        if self._is_counted and self._service:
            self._is_counted = False
            self._gateway.streams.counts.give_back(self._service.name, self._address)

    def _ask_for(self, rest: bytes) -> bytes:
        """What stood behind the service's name, as the upstream is to be asked for it."""
        return rest

    def _admit(self) -> None:
        """Refuse what the route does not allow."""

    def _pass(self, passing: bytes) -> bytes:
        """The field lines of the request that are passed on."""
        return passing

    def _attempt(self, *, same: bool = False) -> None:
        """Send the request to an endpoint, from its beginning; or wait until one has room."""
        gateway, head = self._gateway, self._client.head
        if self._service is None or not (same or self._choose(self._service)):
            return
        endpoint = self._tried[-1]
        target = upstream_target(endpoint.base_path, self._rest)
        host = head.host if gateway.forwarding.preserve_host and head.host else endpoint.authority
        chunked = isinstance(head.body, ChunkedBody)
        framing = self._framing(endpoint)
        self._attempts += 1
        upstream = self._upstream = gateway.client.open(endpoint.origin, head.method, self, fresh=same)
        upstream.upgrades = self.UPGRADES
        connect_timeout = None
        if self._retries or self._service.config.retry.try_timeout < math.inf:
            upstream.timeout = self._time_for_head(self._service.config.retry, upstream.timeout)
            connect_timeout = min(upstream.timeout, gateway.client.config.connect.timeout)
        upstream.send(
            b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (head.method, target, host, self._fields, framing),
            body=head.body is not None,
            chunked=chunked,
            connect_timeout=connect_timeout,
        )
        if head.body is not None:
            for chunk in self._replay or ():
                upstream.write(chunk)
            self._let_body_on()
            if self._body_read:
                upstream.finish(trailer_lines(self._client.trailers))

    def _let_body_on(self) -> None:
        if self._next_try and not self._next_try.done():
            self._next_try.set_result(None)
        self._next_try = None

    def _choose(self, service: Service) -> bool:
        """Take a lease; False if the request waits for one."""
        ask = Ask(
            self._gateway.now(), self.KIND, self._tried, self._key, self._pinned, self._is_repeatable, self._has_waited
        )
        try:
            lease = self._lease = service.lease(ask, is_retry=self._retries > 0)
        except EndpointsBusy:
            if self._tried or self._has_waited or self.KIND is not Kind.HTTP:
                raise
            service.wait(self._go)
            self._is_waiting = True
            self._later = self._gateway.client.loop.call_later(service.config.queue_timeout, self._give_up_waiting)
            return False
        self._tried.append(lease.endpoint)
        return True

    def _go(self) -> None:
        """It is this request's turn: another one has ended."""
        self._is_waiting, self._has_waited = False, True
        self._try_now()

    def _try_now(self) -> None:
        if self._later:
            self._later.cancel()
            self._later = None
        try:
            self._attempt()
        except GatewayError as error:
            self._fail(error)

    def _give_up_waiting(self) -> None:
        self._fail(Overloaded("no endpoint of the service had room for the request in time"))

    def _time_for_head(self, config: RetryConfig, whole: float) -> float:
        """Seconds that the next try has: what the earlier ones have left, unless each has its own."""
        spent = self._gateway.now() - self._began if self._retries else 0.0
        left = max(whole - spent, min(whole, LEAST_TRY))
        self._is_short = (
            config.try_timeout < left and self._has_untried and self._is_repeatable and self._replay is not None
        )
        return config.try_timeout if self._is_short else left

    @property
    def _is_repeatable(self) -> bool:
        return self._client.head.method in IDEMPOTENT

    def _framing(self, endpoint: Endpoint) -> bytes:
        """The field lines that belong to this connection to an endpoint."""
        head = self._client.head
        framing = b"Transfer-Encoding: chunked\r\n" if isinstance(head.body, ChunkedBody) else b""
        if head.expects_continue and not self._may_continue:
            framing += b"Expect: 100-continue\r\n"
            later = self._gateway.client.loop.call_later
            self._continue = self._continue or later(CONTINUE_AFTER, self._let_client_continue)
        return framing

    def data_received(self, chunk: bytes) -> "asyncio.Future[None] | None":
        """A piece of the request's body has come.

        Returns:
            A future, to be given no more until it is done; or None.
        """
        self._bytes_in += len(chunk)
        upstream = self._upstream
        if self._replay is not None:
            self._replay.append(chunk)
            if upstream and upstream.connection and self._bytes_in > REPLAY_BYTES:
                self._replay = None
                if self._is_short:
                    self._is_short = False
                    upstream.allow(self._gateway.client.config.timeout)
        if upstream:
            return upstream.write(chunk)
        if self._closed:
            return None
        self._next_try = self._next_try or self._gateway.client.loop.create_future()
        return self._next_try

    def body_received(self) -> None:
        """The request is whole."""
        if self._body_read:
            return
        self._body_read = True
        if self._upstream:
            self._upstream.finish(trailer_lines(self._client.trailers))

    def _let_client_continue(self) -> None:
        """The upstream says nothing about Expect: 100-continue; it may not know it (RFC 9110 §10.1.1)."""
        self._continue = None
        if not self._closed and not self._body_read:
            self._may_continue = True
            self._client.write_interim(100, b"")

    # ---- the response

    def on_interim(self, head: ResponseHead) -> None:
        if head.status == 103:
            self._client.write_interim(head.status, head.passing)
        elif head.status == 100 and self._continue:
            self._continue.cancel()
            self._let_client_continue()

    def on_head(self, head: ResponseHead) -> None:
        now, lease, upstream = self._gateway.now(), self._lease, self._upstream
        self._head_seconds = now - self._began
        if lease is None or upstream is None or self._service is None:
            return
        if head.status < 400:
            lease.answered(now, head.status)
        else:
            wish = retry_after(head.named, time.time)
            lease.answered(now, head.status, wish)
            if self._replace(head, wish):
                return
        if self._is_short or self._retries:
            upstream.allow(self._gateway.client.config.timeout)
        if b"content-type" in head.named and is_event_stream(head.named[b"content-type"][0]):
            self._await_stream(head)
        else:
            if not self.IS_STREAM:
                self._uncount_stream()
            self._begin_response(head)

    def _replace(self, head: ResponseHead, wish: float) -> bool:
        """Whether another endpoint is asked, now or soon, because of an answer's status.

        Args:
            wish: seconds that its Retry-After asks for.
        """
        service = self._service
        if service is None or self._replay is None or not self._has_untried:
            return False
        config = service.config.retry
        if head.status >= 500 and self._awaits_stream:
            wait = 0.0
        elif head.status in config.statuses and self._is_repeatable:
            wait = max(wish, wait_before(self._retries + 1, config, self._gateway.rng))
        else:
            return False
        if self._gateway.now() + wait - self._began > self._gateway.client.config.timeout:
            return False  # the client would wait longer than it may for what may be no better
        if not service.budget.take(self._gateway.now()):
            return False
        self._leave_endpoint(self._judge(head.status))
        self._later = self._gateway.client.loop.call_later(wait, self._try_now)
        return True

    def _begin_response(self, head: ResponseHead, more: bytes = b"") -> None:
        """Send the response's head on.

        Args:
            more: lines to add to it.
        """
        self._replay = None
        named, passing = head.named, head.passing
        if head.status == 204 and b"content-length" in named:
            passing = without(passing, (b"content-length",))  # RFC 9110 §8.6
        block = client_fields(passing, named, self._id, head.minor, self._gateway.forwarding.pseudonym) + more
        service, lease = self._service, self._lease
        if service and service.affinity and lease and lease.endpoint is not self._pinned:
            block += service.affinity.cookie_line(lease.endpoint, secure=self._origination.proto == b"https")
        if head.status >= 500:
            block += b"Proxy-Status: %b; received-status=%d\r\n" % (self._gateway.forwarding.pseudonym, head.status)
        self._client.start_response(
            head.status, safe_reason(head.reason), block, length=head.length, dated=b"date" in named
        )

    def _await_stream(self, head: ResponseHead) -> None:
        """Begin an event stream, perhaps after a look at its first event."""
        seconds, upstream = self._gateway.event_streams.peek, self._upstream
        if upstream is None:
            return
        if head.body is None:
            self._begin_response(head, stream_fields(fields(head.block)))  # to HEAD as to GET (RFC 9110 §9.3.2)
        elif seconds and self._may_ask_another():
            self._peek = Peek(upstream, seconds, partial(self._begin_stream, head, upstream))
        else:
            self._begin_stream(head, upstream, False)

    def _begin_stream(self, head: ResponseHead, upstream: ClientExchange, failed: bool) -> EventStream | None:
        """Hand an event stream's body to an EventStream, or ask another endpoint if it has failed."""
        gateway = self._gateway
        self._peek = None
        if failed and self._may_ask_another() and self._service and self._service.budget.take(gateway.now()):
            self._ask_another()
            return None
        try:
            if not self._is_counted and self._service:
                self._count_stream(self._service)
        except GatewayError as error:
            upstream.abort()
            self._fail(error)
            return None
        if self._lease:
            self._lease.becomes(Kind.SSE, gateway.now())
        lines = fields(head.block)
        self._begin_response(head, stream_fields(lines))
        is_opaque = head.length is not None or is_encoded(lines)
        stream = EventStream(
            gateway.event_streams, gateway.rng, self._client, upstream, self._end_stream,
            expires=self._expires, is_opaque=is_opaque,
        )  # fmt: skip
        self._keep(stream)
        head.forget_fields()
        return stream

    def _keep(self, stream: Stream) -> None:
        """Look after a stream until the journey's end; what was needed to begin it is let go.

        Measured: 3 KiB less per stream with a browser's fields.
        """
        self._stream, self._is_stream = stream, True
        self._gateway.streams.add(stream)
        self._client.head.forget_fields()
        self._fields = b""

    def _end_stream(self, outcome: Outcome, reason: str) -> None:
        status = self._upstream.head.status if self._upstream and self._upstream.head else 0
        self._close(self._judge(status) if outcome is Outcome.SUCCESS else outcome, status, reason)

    def _judge(self, status: int) -> Outcome:
        """What a status says about the endpoint, of an answer that came whole."""
        failed = self._service is None or status in self._service.config.failure_statuses
        return Outcome.FAILURE if failed else Outcome.SUCCESS

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        drained = self._client.write(chunk)
        return None if drained.done() else drained

    def on_end(self, trailers: list[Field]) -> None:
        status = self._upstream.head.status if self._upstream and self._upstream.head else 0
        self._close(self._judge(status), status, "")
        wanted = trailers and accepts_trailers(self._client.head.named)
        self._client.finish(trailer_lines(trailers) if wanted else b"")

    def on_failure(self, error: UpstreamError) -> None:
        upstream = self._upstream
        if self._client.started or upstream is None or self._service is None or self._lease is None:
            self._fail(error)
            return
        failed = Try(
            is_repeatable=self._is_repeatable,
            reused=upstream.reused,
            body_sent=upstream.sent > 0 or upstream.is_sent,
            replayable=self._replay is not None,
            heard=upstream.heard,
            awaits_stream=self._awaits_stream,
            has_time=self._is_short,
        )
        where = again(error, failed, self._service.config.retry.on)
        if where is Again.OTHER_ENDPOINT and not (self._has_untried and self._may_afford(error)):
            where = Again.NOWHERE
        try:
            if where is Again.SAME_ENDPOINT:
                self._attempt(same=True)
            elif where is Again.OTHER_ENDPOINT:
                self._ask_another()
            else:
                self._fail(error)
        except GatewayError:  # there is nobody left to ask
            self._fail(error)

    def _may_afford(self, error: UpstreamError) -> bool:
        """Whether the service's budget has a retry; where no connection was made, none is used: nothing was done."""
        if isinstance(error, ConnectFailed | ConnectTimeout) or self._service is None:
            return True
        return self._service.budget.take(self._gateway.now())

    @property
    def _has_untried(self) -> bool:
        service, tried = self._service, self._tried
        if service is None or len(tried) >= service.config.retry.attempts:
            return False
        return service.has_other(tried, self._pinned)

    def _may_ask_another(self) -> bool:
        """Whether an answer that is a failure may be replaced by another endpoint's."""
        return self._replay is not None and self._has_untried and self._awaits_stream

    def _asks_for_events(self) -> bool:
        head = self._client.head
        if b"tream" not in head.block and b"TREAM" not in head.block:  # a look that costs nearly nothing
            return False
        if head.method not in AWAITING_METHODS:
            return False
        return accepts_events([value for name, value in fields(head.block) if name.lower() == b"accept"])

    def _ask_another(self) -> None:
        self._leave_endpoint()
        self._attempt()

    def _leave_endpoint(self, outcome: Outcome = Outcome.FAILURE) -> None:
        """The endpoint has failed, and another one will be asked."""
        self._retries += 1
        upstream, self._upstream = self._upstream, None
        if upstream:
            upstream.abort()
        if self._lease:
            self._lease.settle(outcome, self._gateway.now())

    # ---- the end

    def on_connection_close(self) -> None:
        """The client has left, or its request turned out to be wrong, too large or too slow."""
        error = self._client.error
        if self._upstream:
            self._upstream.abort()
        if error is None or self._client.started:
            self._close(Outcome.IGNORED, ClientGone.status, (error or ClientGone()).reason)
        else:
            self._fail(error)

    def _fail(self, error: GatewayError) -> None:
        """End the journey with an error: as an answer if none has begun, else as a broken one."""
        if self._closed:
            return
        outcome = Outcome.FAILURE if isinstance(error, UpstreamError) else Outcome.IGNORED
        client = self._client
        if client.started:
            status = self._upstream.head.status if self._upstream and self._upstream.head else 0
            self._close(outcome, status, error.reason)
            client.abort()
            return
        client.set_close_callback(None)
        try:
            answer(client, error, self._id, self._gateway.forwarding.pseudonym)
        finally:
            self._close(outcome, error.status, error.reason)

    def _close(self, outcome: Outcome, status: int, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        self._client.set_close_callback(None)
        if self._continue:
            self._continue.cancel()
        if self._peek:
            self._peek.stop()
        if self._later:
            self._later.cancel()
        self._let_body_on()
        if self._is_waiting and self._service:
            self._service.stop_waiting(self._go)
        if self._lease:
            self._lease.settle(outcome, self._gateway.now())
        self._uncount_stream()
        if self._stream:
            self._gateway.streams.discard(self._stream)
            self._stream = None
        gateway, head = self._gateway, self._client.head
        seconds = gateway.now() - self._began
        shown = self._head_seconds if self._is_stream and self._head_seconds is not None else seconds
        gateway.durations.add(head.method.decode("ascii"), self.ROUTE, status, shown)
        log = gateway.access_log
        if log:
            log.add(self._record(status, reason))
        self._upstream = None  # it points back here; without the cycle both are freed at once

    def _record(self, status: int, reason: str) -> AccessRecord:
        head = self._client.head
        return AccessRecord(
            request_id=self._id.decode("ascii"),
            method=head.method.decode("ascii"),
            path=head.target.partition(b"?")[0].decode("latin-1"),
            service=self._service.name if self._service else "",
            endpoint=self._tried[-1].url if self._tried else "",
            status=status,
            reason=reason,
            attempts=self._attempts,
            bytes_in=self._bytes_in,
            bytes_out=self._client.body_bytes,
            head_seconds=self._head_seconds,
            seconds=self._gateway.now() - self._began,
            client=self._address,
        )


@functools.lru_cache(maxsize=256)
def safe_reason(reason: bytes) -> bytes:
    """An upstream's reason phrase if it is plain words, else b"" for the standard one (Tornado CVE-2025-67724)."""
    return reason if reason.replace(b" ", b"").replace(b"-", b"").replace(b"'", b"").isalnum() else b""
