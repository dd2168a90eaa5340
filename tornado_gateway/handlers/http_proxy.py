"""ANY /api/<service>/<path>: one request to one of the service's endpoints, and its answer back.

    client ──► begin ──► attempt ──► endpoint
                ▲          │  ▲
      data_received,       │  └── on_failure: again, if policy/retry.py says so
      body_received ───────┘
    client ◄── on_head, on_chunk, on_end ◄── endpoint

Both directions flow at once and neither is collected: what one side does not take, the
other side is not asked for. Whoever ends the journey settles the lease and writes
the log line, in `_close()`, once.
"""

import asyncio
import functools

from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler

from tornado_gateway.adapters.access_log import AccessRecord
from tornado_gateway.errors import (
    ClientGone,
    GatewayError,
    MethodNotAllowed,
    Overloaded,
    UnknownService,
    UpstreamError,
)
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.base import answer
from tornado_gateway.policy.endpoint import Endpoint, Lease, Outcome, Service
from tornado_gateway.policy.headers import (
    Field,
    accepts_trailers,
    client_fields,
    originate,
    request_id,
    trailer_lines,
    upstream_fields,
    without,
)
from tornado_gateway.policy.retry import REPLAY_BYTES, Again, again
from tornado_gateway.policy.target import split_route, upstream_target
from tornado_gateway.wire.client import ClientExchange
from tornado_gateway.wire.http1 import ChunkedBody, ResponseHead, fields
from tornado_gateway.wire.messages import RawHeaders, RawRequest
from tornado_gateway.wire.server_exchange import ServerExchange, start_line

PREFIX = b"/api/"
REFUSED_METHODS = (b"TRACE", b"CONNECT")  # RFC 9110 §9.3.6 and §9.3.8: tunnels and echoes are not for a gateway
CONTINUE_AFTER = 1.0  # seconds an upstream may keep a client waiting for 100-continue; Go and curl wait as long


class HttpProxyHandler(RequestHandler):
    """One proxied request. It is its upstream exchange's Receiver."""

    def __init__(self, gateway: Gateway, application: Application, client: ServerExchange) -> None:
        # RequestHandler's own __init__ makes default headers and template helpers that no proxied
        # answer uses (measured: 11 µs per request); what Tornado asks of a handler is set here.
        self.application = application
        self._gateway = gateway
        self._client = client
        self._id = request_id(client.head.named, gateway.new_request_id)
        self._began = gateway.now()
        self._service: Service | None = None
        self._lease: Lease | None = None
        self._tried: list[Endpoint] = []
        self._upstream: ClientExchange | None = None
        self._rest = b""  # of the target, behind the service's name
        self._fields = b""  # of the request to the upstream
        self._body_read = client.head.body is None
        self._bytes_in = 0
        self._replay: list[bytes] | None = []  # what has come of the body, while it may be sent again
        self._attempts = 0
        self._head_seconds: float | None = None
        self._continue: asyncio.TimerHandle | None = None
        self._may_continue = False  # the client has been sent 100 Continue
        self._address = client.connection.remote_ip
        self._closed = False
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
        if gateway.authenticator:
            given = [value for name, value in fields(head.block) if name.lower() == b"authorization"]
            gateway.authenticator.check(given)
        name, self._rest = split_route(head.target, PREFIX)
        self._service = gateway.services.get(name)
        if self._service is None:
            raise UnknownService
        peer = self._client.connection
        origination = originate(
            head.named, peer.remote_ip.encode("ascii"), b"http", head.host, gateway.forwarding.trusted
        )
        self._address = origination.client.decode("ascii")
        self._fields = upstream_fields(
            head.passing, head.named, origination, self._id, head.minor, gateway.forwarding.pseudonym
        )

    def _attempt(self, *, same: bool = False) -> None:
        """Send the request to an endpoint, from its beginning."""
        gateway, head = self._gateway, self._client.head
        if not same:
            lease = self._service.lease(gateway.now(), self._tried) if self._service else None
            if lease is None:
                raise Overloaded("no endpoint of the service is left to try")
            self._lease = lease
            self._tried.append(lease.endpoint)
        endpoint = self._tried[-1]
        target = upstream_target(endpoint.base_path, self._rest)
        host = head.host if gateway.forwarding.preserve_host and head.host else endpoint.authority
        chunked = isinstance(head.body, ChunkedBody)
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
        if head.expects_continue and not self._may_continue:
            framing += b"Expect: 100-continue\r\n"
            self._continue = self._continue or gateway.client.loop.call_later(CONTINUE_AFTER, self._let_client_continue)
        self._attempts += 1
        upstream = self._upstream = gateway.client.open(endpoint.origin, head.method, self, fresh=same)
        upstream.send(
            b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (head.method, target, host, self._fields, framing),
            body=head.body is not None,
            chunked=chunked,
        )
        if head.body is not None:
            for chunk in self._replay or ():
                upstream.write(chunk)
            if self._body_read:
                upstream.finish(trailer_lines(self._client.trailers))

    def data_received(self, chunk: bytes) -> "asyncio.Future[None] | None":
        """A piece of the request's body has come.

        Returns:
            A future, to be given no more until it is done; or None.
        """
        self._bytes_in += len(chunk)
        if self._upstream is None:
            return None
        if self._replay is not None:
            self._replay.append(chunk)
            if self._bytes_in > REPLAY_BYTES and self._upstream.connection:
                self._replay = None
        return self._upstream.write(chunk)

    def body_received(self) -> None:
        """The request is whole."""
        if self._body_read or self._upstream is None:
            return
        self._body_read = True
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
        now = self._gateway.now()
        self._head_seconds = now - self._began
        self._replay = None
        if self._lease:
            self._lease.answered(now)
        named, passing = head.named, head.passing
        if head.status == 204 and b"content-length" in named:
            passing = without(passing, (b"content-length",))  # RFC 9110 §8.6
        block = client_fields(passing, named, self._id, head.minor, self._gateway.forwarding.pseudonym)
        if head.status >= 500:
            block += b"Proxy-Status: %b; received-status=%d\r\n" % (self._gateway.forwarding.pseudonym, head.status)
        self._client.start_response(
            head.status, safe_reason(head.reason), block, length=head.length, dated=b"date" in named
        )

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        drained = self._client.write(chunk)
        return None if drained.done() else drained

    def on_end(self, trailers: list[Field]) -> None:
        head = self._upstream.head if self._upstream else None
        failed = head is None or head.status >= 500
        self._close(Outcome.FAILURE if failed else Outcome.SUCCESS, head.status if head else 0, "")
        wanted = trailers and accepts_trailers(self._client.head.named)
        self._client.finish(trailer_lines(trailers) if wanted else b"")

    def on_failure(self, error: UpstreamError) -> None:
        upstream = self._upstream
        if self._client.started or upstream is None or self._service is None or self._lease is None:
            self._fail(error)
            return
        where = again(
            error,
            self._client.head.method,
            reused=upstream.reused,
            body_sent=upstream.sent > 0 or upstream.is_sent,
            replayable=self._replay is not None and not upstream.heard,
        )
        untried = len(self._tried) < len(self._service.endpoints)
        try:
            if where is Again.SAME_ENDPOINT:
                self._attempt(same=True)
            elif where is Again.OTHER_ENDPOINT and untried:
                self._lease.settle(Outcome.FAILURE)
                self._attempt()
            else:
                self._fail(error)
        except GatewayError as later:
            self._fail(later)

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
        if self._lease:
            self._lease.settle(outcome)
        log = self._gateway.access_log
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
