"""An admitted request on the way to an endpoint, and the answer on the way to the client.

    client ──► begin ──► Answerer (answerer.py, attempts.py) ──► endpoint
                             ▲
      body ──► Upload (upload.py)
    client ◄── on_head, on_chunk, on_end ◄── endpoint

Both directions flow at once, and no body is collected: while a receiver takes nothing, the sender is not read. The
journeys share this module. A subclass for each kind of journey says what the head of an answer means.
"""

import asyncio
import math
import time
from bisect import bisect_left
from dataclasses import replace
from typing import Any, Protocol

from tornado_gateway.errors import (
    ClientClosed,
    ClientGone,
    ClientStalled,
    Draining,
    GatewayError,
    RequestOutOfTime,
    RequestTimeout,
    UpstreamError,
)
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.admission import Admitted, refuse_revoked
from tornado_gateway.handlers.answerer import Answerer
from tornado_gateway.handlers.journal import Journal
from tornado_gateway.handlers.limiting import check_claims
from tornado_gateway.handlers.local_reply import reply
from tornado_gateway.handlers.response import send_head, send_interim
from tornado_gateway.handlers.storing import place_of
from tornado_gateway.handlers.upload import Upload
from tornado_gateway.policy.histogram import SECONDS
from tornado_gateway.policy.http.cookies import is_session_name, service_of, without_own
from tornado_gateway.policy.http.expiry import Expiry
from tornado_gateway.policy.http.headers import (
    TAG_FIELDS,
    Field,
    accepts_trailers,
    trailer_lines,
    upstream_fields,
    without,
)
from tornado_gateway.policy.http.rewriting import REWRITTEN, Asked, Place, public_lines
from tornado_gateway.policy.http.unavailable import STATUS
from tornado_gateway.policy.routing import Match
from tornado_gateway.policy.spans import Trace
from tornado_gateway.policy.upstream.affinity import Affinity
from tornado_gateway.policy.upstream.endpoint import CLIENT_GONE, FAILURE, IGNORED, Endpoint, Kind, Outcome
from tornado_gateway.policy.upstream.retry import is_repeatable
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.views.stream_list import Facts
from tornado_gateway.upkeep.streams import Stream
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import RequestHead, ResponseHead, fields
from tornado_gateway.wire.server.exchange import ServerExchange

AWAITING_METHODS = (b"GET", b"HEAD", b"POST")  # methods that clients ask for event streams with


def awaits_events(head: RequestHead) -> bool:
    """Whether a request asks for an event stream, on a route that has other answers, too."""
    return head.accepts_events and head.method in AWAITING_METHODS


class Timer(Protocol):
    """Is cancelled at the end of the request."""

    def cancel(self) -> None: ...


class Forwarding:
    """An admitted request: the OutboundRequest of its Answerer, and the receiver of an answer that passes unchanged.

    close() ends the request once, and closes the Answerer and the journal.

    Args:
        client: the exchange with the client.
        admitted: the result of the admission.
        match: the route.
        target: the endpoint's target behind the base path.
        forwarded_lines: field lines of the request to forward unchanged.

    Attributes:
        asks_for_stream: whether every request of the route asks for a stream: the request is then counted as a stream
            before an endpoint is asked.
        unavailable: what SSE_UNAVAILABLE means for a service without a value.
        kind, upgrades, method, began, is_repeatable, awaits_stream, key, pinned, upload: see OutboundRequest.

    Raises:
        GatewayError: the request is in a loop, or one stream too many.
    """

    __slots__ = (
        "_answerer", "_claims", "_client", "_expires", "_gateway", "_holder", "_is_closed", "_is_counted",
        "_is_in_flight", "_journal", "_lines", "_mount", "_origination", "_service", "_stream", "_target", "_timers",
        "awaits_stream", "began", "is_repeatable", "key", "method", "pinned", "upload",
    )  # fmt: skip

    kind = Kind.HTTP
    upgrades = False
    asks_for_stream = False
    unavailable = STATUS

    def __init__(
        self,
        gateway: Gateway,
        client: ServerExchange,
        journal: Journal,
        admitted: Admitted[Service],
        match: Match[Any],
        target: bytes,
        forwarded_lines: bytes,
    ) -> None:
        head, service, origination, principal = client.head, admitted.found, admitted.origination, admitted.principal
        self._gateway, self._client, self._journal = gateway, client, journal
        self._origination, self._expires, self._holder = origination, principal.expiry, principal.holder
        mount = self._mount = match.mount
        self._service, self._target = service, target
        self.method, self.began = head.method, journal.began
        self.is_repeatable = is_repeatable(head.method, service.config.retry)
        self.key, self.pinned = b"", None
        if service.affinity:
            self.key, self.pinned = service.affinity.of(fields(head.block), origination.client, match.rest)
        self._lines = upstream_fields(
            forwarded_lines,
            head.known_fields,
            (origination.lines, mount.line_behind(origination.prefix) if origination.prefix else mount.line),
            journal.request_id,
            head.minor,
            gateway.forwarding.pseudonym,
        )
        self.upload: Upload | None = None
        if head.body:
            self.upload = Upload(client, gateway.client.loop)
            client.min_upload_rate = service.config.min_upload_rate
        self._stream: Stream | None = None
        self._timers: tuple[Timer, ...] = ()
        self._is_closed = self._is_counted = self._is_in_flight = False
        self._claims = admitted.claims
        self.awaits_stream = self.asks_for_stream or awaits_events(head)
        if self.awaits_stream:
            self._count_stream()
        self._answerer = self._answerer_of(admitted, match, forwarded_lines)

    def _answerer_of(self, admitted: Admitted[Service], match: Match[Any], forwarded_lines: bytes) -> Answerer:
        """The Answerer of the request. Arguments as for the constructor."""
        attempts: Answerer = self._gateway.new_attempts(self._gateway, admitted.found, self, self)
        return attempts

    @classmethod
    def mode(cls, service: Service) -> str:
        """How a failure of the service is answered: RETRY or STATUS; see policy/http/unavailable.py."""
        return service.config.event_streams.unavailable or cls.unavailable

    def begin(self) -> None:
        """Begin to answer; a failure is answered by a local reply."""
        if not self.awaits_stream and self._service.config.request_timeout < math.inf:
            self._limit_time()
        try:
            if (self._claims or self._gateway.overload.counts_requests) and not self._is_counted:
                if self._claims and self._gateway.limits:
                    check_claims(self._gateway.limits, self._claims, self._journal)
                self._enter_flight()
            self._answerer.begin()
        except GatewayError as error:
            self.on_failure(error)

    def _limit_time(self) -> None:
        seconds, loop = self._service.config.request_timeout, self._gateway.client.loop
        if seconds < math.inf:
            self._timers = (loop.call_later(seconds, self._out_of_time),)

    def _count_stream(self) -> None:
        """Take a place among the streams, until the end.

        Raises:
            StreamLimitReached, TooManyStreams: no place is left.
        """
        self._gateway.streams.counts.take(self._service.name, self._origination.client)
        self._is_counted = True
        self._leave_flight()

    def _uncount_stream(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._gateway.streams.counts.give_back(self._service.name, self._origination.client)

    def _enter_flight(self) -> None:
        """Count a request that is no stream."""
        self._is_in_flight = True
        self._gateway.overload.take()
        if self._claims and self._gateway.limits:
            self._gateway.limits.in_flight.take(self._claims)

    def _leave_flight(self) -> None:
        if self._is_in_flight:
            self._is_in_flight = False
            self._gateway.overload.give_back()
            if self._claims and self._gateway.limits:
                self._gateway.limits.in_flight.give_back(self._claims)

    # ---- the request

    def head_for(self, endpoint: Endpoint) -> bytes:
        asked = self._client.head.host
        keeps_host = (self._mount.config or self._service.config.mount).preserve_host
        host = asked if keeps_host and asked else endpoint.authority
        framing = self.upload.framing if self.upload else b""
        # A join takes four fifths of the instructions of a bytes format.
        line = (self.method, b" ", endpoint.base_path, self._target, b" HTTP/1.1\r\nHost: ", host, b"\r\n")
        return b"".join((*line, self._lines, framing, b"\r\n"))

    @property
    def trace(self) -> Trace | None:
        return self._journal.trace

    def replace_line(self, line: bytes, by: bytes) -> None:
        self._lines = self._lines.replace(line, by, 1)

    def data_received(self, chunk: bytes) -> "asyncio.Future[None] | None":
        """Take a piece of the request's body; see Upload.data_received()."""
        return self.upload.data_received(chunk) if self.upload else None

    def body_received(self) -> None:
        """Called when the request's body is complete."""
        if self.upload:
            self.upload.finish()

    # ---- the response

    def on_interim(self, head: ResponseHead) -> None:
        # Of a 100 that the client has asked for, Upload decides.
        if head.status != 100 or not self._client.head.expects_continue:
            send_interim(self._client, self._without_own_cookies(head))
        elif self.upload:
            self.upload.upstream_continues()

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        """Take the head of the answer.

        Returns:
            The receiver of the body; None to discard the body.
        """
        raise NotImplementedError

    def _note_head(self, status: int) -> None:
        journal, heads, seconds = self._journal, self._service.heads, self._gateway.now() - self.began
        journal.status, journal.head_seconds = status, seconds
        heads.counts[bisect_left(SECONDS, seconds)] += 1
        heads.total += seconds

    def _pass_head(self, head: ResponseHead, lines: bytes = b"") -> None:
        """Begin the client's response.

        Args:
            lines: field lines to add, each ended by CRLF.
        """
        service = self._service
        if self._journal.charge:
            self._journal.charge(fields(head.block))
        if not REWRITTEN.isdisjoint(head.known_fields):
            head = self.rewritten(head, self.place)
        if self.upload:
            self.upload.forget()
        if service.affinity:
            lines += self._cookie_line(service.affinity)
        send_head(
            self._client,
            head,
            self._journal.request_id,
            self._gateway.forwarding.pseudonym,
            lines=lines,
            passes_alt_svc=service.config.mount.passes_alt_svc,
        )

    def rewritten(self, head: ResponseHead, place: Place | None) -> ResponseHead:
        """The head of an answer with public paths instead of the endpoint's, without cookies of the gateway's and tags.

        Changes something if a field of REWRITTEN is there.

        Args:
            place: where the endpoint is that has answered; None for no endpoint.
        """
        head = self._without_tags(self._without_own_cookies(head))
        if place is None:
            return head
        config = self._mount.config or self._service.config.mount
        asked = Asked(self._origination.proto, self._origination.host)
        return replace(head, forwarded_lines=public_lines(head.forwarded_lines, self._mount, config, place, asked))

    def _without_own_cookies(self, head: ResponseHead) -> ResponseHead:
        if b"set-cookie" not in head.known_fields:
            return head
        return replace(head, forwarded_lines=without_own(head.forwarded_lines, self._is_own_cookie))

    def _without_tags(self, head: ResponseHead) -> ResponseHead:
        if TAG_FIELDS.isdisjoint(head.known_fields) or not self._hides_tags:
            return head
        return replace(head, forwarded_lines=without(head.forwarded_lines, TAG_FIELDS))

    @property
    def _hides_tags(self) -> bool:
        return self._service.config.cache.hides_tags

    def _is_own_cookie(self, name: bytes) -> bool:
        service = self._gateway.services.get(service_of(name))
        return is_session_name(name) or bool(service and service.affinity and service.affinity.sticky)

    @property
    def place(self) -> Place | None:
        """Where the endpoint is that answers; None if no endpoint was asked."""
        endpoint = self._answerer.endpoint
        return place_of(endpoint) if endpoint else None

    def tell(self, lines: bytes) -> None:
        """Add field lines, each ended by CRLF, to the final response, whatever writes the response."""
        self._client.added_lines += lines

    def _cookie_line(self, affinity: Affinity) -> bytes:
        """The Set-Cookie line that binds the client to the endpoint; b"" for a client that is bound already."""
        endpoint = self._answerer.endpoint
        if endpoint is None or endpoint is self.pinned:
            return b""
        return affinity.cookie_line(endpoint, secure=self._origination.proto == b"https")

    @property
    def _expiry(self) -> Expiry:
        """The expiry of the token of a stream, which begins now."""
        return Expiry.of(self._expires, self._gateway.client.loop.time(), time.time(), self._holder)

    def _check_token(self) -> None:
        """Called before a stream begins.

        Raises:
            Revoked: the client's token was revoked while an endpoint was asked.
        """
        refuse_revoked(self._gateway, self._holder)

    def _keep(self, stream: Stream) -> None:
        """Have the sweep look after a stream until the end, and forget what only the beginning needed.

        Measured: 3 KiB less per stream with a browser's fields.
        """
        self._stream, self._journal.is_stream = stream, True
        stream.totals.opened += 1
        for timer in self._timers:
            timer.cancel()
        endpoint = self._answerer.endpoint
        self._gateway.streams.add(stream, self, endpoint)
        self._journal.open(self._gateway.now(), endpoint.url if endpoint else "", self._answerer.attempt_count)
        self._client.forget_fields()
        self._lines = b""

    @property
    def facts(self) -> Facts:
        """What the list of streams shows of the request."""
        journal, endpoint, head = self._journal, self._answerer.endpoint, self._client.head
        return Facts(
            self._service.name,
            endpoint.url if endpoint else "",
            self._origination.client.text,
            head.target.partition(b"?")[0].decode("latin-1"),
            journal.request_id.decode("latin-1"),
            self.began,
        )

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        drained = self._client.write(chunk)
        return None if drained.done() else drained

    def on_end(self, trailers: list[Field]) -> None:
        status = self._journal.status
        if trailers and self._journal.charge:
            self._journal.charge(trailers)
        self.close(self._service.outcomes.judge(status), status, "")
        wanted = trailers and accepts_trailers(self._client.head.known_fields)
        self._client.finish(trailer_lines(trailers) if wanted else b"")

    # ---- the end

    def client_left(self) -> None:
        """Called when the client has left, or the rest of the request is malformed, too large or too slow."""
        if self._is_closed:
            return
        error, journal = self._client.error, self._journal
        self._answerer.abort()
        if error is None:
            self._close_cut()
        elif self._client.started:
            self.close(IGNORED, journal.status, error.reason)
        else:
            self.on_failure(error)

    def _close_cut(self) -> None:
        """The client's connection has ended: by the client, or by a gateway that stops. The access log has the status
        that was sent, or 499 for a client that left before a status was sent."""
        is_begun, status = self._client.started, self._journal.status
        if self._gateway.lifecycle.stopped:
            self.close(IGNORED, status if is_begun else Draining.status, Draining.reason)
        elif is_begun:
            self.close(CLIENT_GONE, status, ClientClosed.reason)
        else:
            self.close(CLIENT_GONE, ClientGone.status, ClientGone.reason)

    def _out_of_time(self) -> None:
        """REQUEST_TIMEOUT_MS is over: break off, and blame the side that was waited for."""
        answerer, upload = self._answerer, self.upload
        error: GatewayError = RequestOutOfTime()
        if upload and not upload.is_whole and not answerer.is_blocked:
            error = RequestTimeout("the request's body did not come whole in time")  # RFC 9110 §15.5.9
        elif answerer.is_held:
            error = ClientStalled()
        self._answerer.abort()
        self.on_failure(error)

    def on_failure(self, error: GatewayError) -> None:
        """Answer with an error, or cut the answer if the answer has begun."""
        if self._is_closed:
            return
        outcome = FAILURE if isinstance(error, UpstreamError) else IGNORED
        client, sent, endpoint = self._client, error.status, self._answerer.endpoint
        if endpoint and outcome is FAILURE:
            endpoint.last_failure = error.reason
        if client.started:
            self.close(outcome, self._journal.status, error.reason)
            client.abort()
            return
        client.set_close_callback(None)
        try:
            sent = reply(self._gateway, client, error, self._journal.request_id, self.mode(self._service))
        finally:
            self.close(outcome, error.status, error.reason, sent=sent)

    @property
    def is_closed(self) -> bool:
        """Whether the request has ended."""
        return self._is_closed

    def give_up(self, status: int, reason: str) -> None:
        """Stop the answer, because the handler has sent its own."""
        if not self._is_closed:
            self._answerer.abort()
            self.close(IGNORED, status, reason)

    def _close_whole(self, reason: str = "") -> None:
        """The answer is complete, or as much of the answer as was wanted: the status says how the endpoint did."""
        status = self._journal.status
        self.close(self._service.outcomes.judge(status), status, reason)

    def close(self, outcome: Outcome, status: int, reason: str, *, sent: int = 0) -> None:
        """End the request. A second call changes nothing.

        Args:
            outcome: outcome for the endpoint.
            status, reason, sent: see Journal.close().
        """
        if self._is_closed:
            return
        self._is_closed = True
        gateway, answerer, now = self._gateway, self._answerer, self._gateway.now()
        endpoint, attempts = answerer.endpoint, answerer.attempt_count
        for timer in self._timers:
            timer.cancel()
        answerer.close(outcome, now)
        if self.upload:
            self.upload.close()
        if self._is_counted:
            self._uncount_stream()
        if self._is_in_flight:
            self._leave_flight()
        if self._stream:
            gateway.streams.discard(self._stream)
            self._stream.count_end(now - self.began)
        self._journal.close(
            status,
            reason,
            now,
            sent=sent,
            endpoint=endpoint.url if endpoint else "",
            attempts=attempts,
            bytes_in=self.upload.received if self.upload else 0,
        )
        # Answerer, stream and timers refer to this object. Without a cycle all of them are freed at once.
        del self._answerer
        self._stream, self._timers = None, ()
