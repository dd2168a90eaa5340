"""One request, sent to the endpoints of a service until one of them answers.

    begin ──► lease ──► send ──► on_head      the answer goes on to the call
      ▲         │         │       on_failure   again, if policy/upstream/retry.py says so
      │         │         └─ slow: to another endpoint as well (hedge.py)
      └─────────┴─ no room: waits for its turn

Attempts stands between an exchange and the journey that takes the answer, the `Call`. Once an answer is the
one that the client gets, the call receives the rest of it directly.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tornado_gateway.errors import (
    ConnectFailed,
    ConnectTimeout,
    EndpointsBusy,
    GatewayError,
    HeadTimeout,
    Overloaded,
    UpstreamError,
)
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.hedge import Hedge
from tornado_gateway.handlers.upload import Upload
from tornado_gateway.policy.upstream.endpoint import (
    CLIENT_GONE,
    FAILURE,
    HTTP,
    IGNORED,
    Endpoint,
    Kind,
    LeaseRequest,
    Outcome,
)
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.retry import Again, Try, again, is_free, replaces, retry_after, wait_before
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead

NOT_CONNECTED = (ConnectFailed, ConnectTimeout)  # nothing of the request was sent
LEAST_TRY = 1.0  # seconds that a retry has in any case, however late it is


class Call(Protocol):
    """What is to be sent, and who takes the answer.

    Attributes:
        method: of the request.
        kind: what a lease is taken for.
        upgrades: whether the upstream is asked for another protocol.
        began: instant at which the request came.
        is_repeatable: whether carrying the request out twice does no harm; see policy/upstream/retry.py.
        awaits_stream: whether the client waits for an event stream or a WebSocket.
        key: what it has in common with requests that belong to the same endpoint; b"" for nothing.
        pinned: the endpoint that its client belongs to; None for any.
        upload: its body; None if it has none.
    """

    method: bytes
    kind: Kind
    upgrades: bool
    began: float
    is_repeatable: bool
    awaits_stream: bool
    key: bytes
    pinned: Endpoint | None
    upload: Upload | None

    def head_for(self, endpoint: Endpoint) -> bytes:
        """The request's head, as an endpoint gets it.

        Raises:
            BadRequest: its target may not be sent anywhere.
        """

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx response; a final one may follow."""

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        """The answer's head; see HeadReceiver.on_head()."""

    def on_failure(self, error: GatewayError) -> None:
        """There is no answer."""


class Attempts:
    """
    Attributes:
        upstream: the exchange that answers, or may; None while there is none.
        lease: on its endpoint, or the last one's that was asked; None before the first.
        tried: endpoints that were asked.
        begun: exchanges so far.
    """

    __slots__ = (
        "_call", "_gateway", "_has_waited", "_hedge", "_is_short", "_is_waiting", "_later", "_retries", "_service",
        "begun", "lease", "tried", "upstream",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, service: Service, call: Call) -> None:
        self._gateway, self._service, self._call = gateway, service, call
        self.tried: Sequence[Endpoint] = ()
        self.lease: Lease | None = None
        self.upstream: ClientExchange | None = None
        self.begun = self._retries = 0
        self._is_waiting = self._has_waited = False  # for room at an endpoint
        self._is_short = False  # whether the try has less time than the request
        self._later: asyncio.TimerHandle | None = None  # to try again, to give up waiting for room, or to hedge
        self._hedge: Hedge | None = None

    # ---- asking

    def begin(self) -> None:
        """Send the request to an endpoint, from its beginning; or wait until one has room.

        Raises:
            GatewayError: it cannot be sent.
        """
        call, service = self._call, self._service
        ask = LeaseRequest(
            self._gateway.now(), call.kind, self.tried, call.key, call.pinned, call.is_repeatable, self._has_waited
        )
        try:
            self.lease = service.lease(ask, is_retry=self._retries > 0)
        except EndpointsBusy:
            if self.tried or self._has_waited or call.kind is not HTTP:
                raise
            self._wait()
            return
        self.tried = (*self.tried, self.lease.endpoint)
        self._send(self.lease.endpoint)
        if service.config.hedges and not self._retries:
            self._hedge_later()

    def _wait(self) -> None:
        """Wait for room; the queue's end, or its being full, ends the request."""
        self._service.queue.join(self._go, self._call.pinned)
        self._is_waiting = True
        self._call_later(self._service.config.queue_timeout, self._give_up_waiting)

    def _go(self) -> None:
        """It is this request's turn: another one has ended."""
        self._is_waiting, self._has_waited = False, True
        self._begin_again()

    def _give_up_waiting(self) -> None:
        self._call.on_failure(Overloaded("no endpoint of the service had room for the request in time"))

    def _begin_again(self) -> None:
        self._cancel_later()
        try:
            self.begin()
        except GatewayError as error:
            self._call.on_failure(error)

    def _send(self, endpoint: Endpoint, *, fresh: bool = False) -> None:
        call, client = self._call, self._gateway.client
        self.begun += 1
        upstream = self.upstream = client.open(endpoint.origin, call.method, self, fresh=fresh)
        upstream.upgrades = call.upgrades
        config = self._service.config
        upstream.min_rate = config.min_response_rate
        upstream.timeout, connect_timeout = config.head_timeout, config.connect_timeout
        if self.begun > 1 or config.retry.try_timeout < math.inf:
            upstream.timeout, self._is_short = self._time_for_try()
            connect_timeout = min(upstream.timeout, connect_timeout)
        head, upload = call.head_for(endpoint), call.upload
        if upload is None:
            upstream.send(head, connect_timeout=connect_timeout)
        else:
            upstream.send(head, body=True, chunked=upload.is_chunked, connect_timeout=connect_timeout)
            self._upload(upload, upstream)

    def _time_for_try(self) -> tuple[float, bool]:
        """Seconds that a try has to its head: what the earlier ones have left, unless each has its own; and whether
        the request has more."""
        whole, limit = self._service.config.head_timeout, self._service.config.retry.try_timeout
        spent = self._gateway.now() - self._call.began if self.begun > 1 else 0.0
        left = max(whole - spent, min(whole, LEAST_TRY))
        is_short = limit < left and self._call.is_repeatable and self.may_ask_another
        return (limit if is_short else left), is_short

    def _upload(self, upload: Upload, upstream: ClientExchange) -> None:
        if self.lease:
            self.lease.upload_begins()
        upload.send_to(upstream)
        if upload.is_whole:
            self.upload_ended()

    def upload_ended(self) -> None:
        """The body has come whole."""
        if self.lease:
            self.lease.upload_ends(self._gateway.now())

    def upload_outgrew(self) -> None:
        """The body can no longer be sent again: this try has all the time there is."""
        if self._is_short and self.upstream:
            self._is_short = False
            self.upstream.allow(self._service.config.head_timeout)

    # ---- asking another one as well

    def _hedge_later(self) -> None:
        call = self._call
        is_free = call.pinned is None or call.pinned not in self.tried  # a session must not move because of one answer
        if is_free and call.kind is HTTP and call.upload is None and call.is_repeatable and not call.awaits_stream:
            after = self._service.hedging.after(self._gateway.now())
            if after is not None:
                self._call_later(after, self._hedge_now)

    def _hedge_now(self) -> None:
        """LeaseRequest a second endpoint, if the service can bear it."""
        self._later = None
        call, now, service = self._call, self._gateway.now(), self._service
        if not self._has_untried or service.budget.balance(now) < 1.0:
            return
        try:
            lease = service.lease(LeaseRequest(now, HTTP, self.tried, call.key), is_retry=True)
        except GatewayError:
            return
        service.budget.take(now)
        service.hedging.sent += 1
        self.tried, self.begun = (*self.tried, lease.endpoint), self.begun + 1
        upstream = self._gateway.client.open(lease.endpoint.origin, call.method, self)
        upstream.timeout, is_short = self._time_for_try()
        upstream.min_rate = service.config.min_response_rate
        self._hedge = Hedge(self, lease, upstream, is_short=is_short)
        connect_timeout = min(upstream.timeout, service.config.connect_timeout)
        upstream.send(call.head_for(lease.endpoint), connect_timeout=connect_timeout)

    def hedge_answered(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        hedge, now = self._hedge, self._gateway.now()
        if hedge is None:
            return None
        outcome = self._service.judge(head.status)
        if outcome is FAILURE or self._is_replaceable(head.status):  # the first endpoint may do better
            hedge.lease.answered(now, head.status, retry_after(head.named, time.time))
            hedge.upstream.abort()
            self._settle_hedge(hedge, outcome)
            return None
        self._service.hedging.won += 1
        if self.upstream:
            self.upstream.abort()
        if self.lease:
            self.lease.overtaken(now)
        self._take_hedge()
        return self.on_head(head, source)

    def hedge_failed(self, error: UpstreamError) -> None:
        if self._hedge:
            if isinstance(error, NOT_CONNECTED):
                self._hedge.lease.not_connected()
            self._settle_hedge(self._hedge, _blame(self._hedge.upstream))

    def _settle_hedge(self, hedge: Hedge, outcome: Outcome) -> None:
        self._hedge = None
        hedge.lease.settle(outcome, self._gateway.now())

    def _stop_hedge(self, now: float) -> None:
        """The first endpoint was the first to answer."""
        hedge, self._hedge = self._hedge, None
        if hedge:
            hedge.upstream.abort()
            hedge.lease.outrun(now)

    def _take_hedge(self) -> bool:
        """Go on with the second endpoint alone; whether one was asked."""
        hedge, self._hedge = self._hedge, None
        if hedge is None:
            return False
        self.lease, self.upstream, self._is_short = hedge.lease, hedge.upstream, hedge.is_short
        self.upstream.head_receiver = self
        return True

    # ---- HeadReceiver

    def on_interim(self, head: ResponseHead) -> None:
        self._call.on_interim(head)

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        lease, upstream, call = self.lease, self.upstream, self._call
        if lease is None or upstream is None:
            return None
        now = self._gateway.now()
        if head.status >= 400:
            wish = retry_after(head.named, time.time)
            lease.answered(now, head.status, wish)
            if self._asks_instead(head.status, wish, now):
                return None
        elif not call.upgrades:  # what stands in for an upgrade has yet to be judged
            lease.answered(now, head.status)
        self._cancel_later()
        self._stop_hedge(now)
        between_pieces = self._service.config.body_timeout
        if upstream.timeout != between_pieces:
            upstream.allow(between_pieces)
        return call.on_head(head, source)

    def on_failure(self, error: UpstreamError) -> None:
        upstream, call, config = self.upstream, self._call, self._service.config.retry
        if upstream is None:
            return
        if self.lease and isinstance(error, NOT_CONNECTED):
            self.lease.not_connected()
        elif self.lease and isinstance(error, HeadTimeout):
            self.lease.timed_out()
        failed = Try(
            is_repeatable=call.is_repeatable,
            reused=upstream.reused,
            body_sent=upstream.sent > 0 or upstream.is_sent,
            replayable=self._is_replayable,
            heard=upstream.heard,
            answered=upstream.is_answered,
            awaits_stream=call.awaits_stream,
            has_time=self._is_short,
        )
        where = again(error, failed, config.on)
        if self._hedge:
            self._leave(_blame(upstream))
        elif where is Again.SAME_ENDPOINT and self.lease:
            self._same_again(self.lease.endpoint, error)
        elif where is Again.OTHER_ENDPOINT and self._has_untried and self._may_afford(error):
            self._another(error)
        else:
            call.on_failure(error)

    # ---- asking again

    def _same_again(self, endpoint: Endpoint, error: UpstreamError) -> None:
        try:
            self._send(endpoint, fresh=True)
        except GatewayError:
            self._call.on_failure(error)

    def _another(self, error: UpstreamError) -> None:
        try:
            self.ask_another()
        except GatewayError:  # there is nobody left to ask: what the client is told is what has failed
            self._call.on_failure(error)

    def ask_another(self, outcome: Outcome = FAILURE) -> None:
        """Leave the endpoint, and send the request to another one.

        Raises:
            GatewayError: it cannot be sent.
        """
        if not self._leave(outcome):
            self.begin()

    def _leave(self, outcome: Outcome) -> bool:
        """LeaseRequest nothing more of the endpoint; whether a second one was asked already."""
        self._retries += 1
        self._cancel_later()
        upstream, self.upstream = self.upstream, None
        if upstream:
            upstream.abort()
        if self._call.upload:
            self._call.upload.withdraw()
        if self.lease:
            self.lease.settle(outcome, self._gateway.now())
        return self._take_hedge()

    def _asks_instead(self, status: int, wish: float, now: float) -> bool:
        """Whether another endpoint is asked, now or soon, because of an answer's status.

        Args:
            wish: seconds that its Retry-After asks for.
        """
        if not self._is_replaceable(status):
            return False
        call, config, rng = self._call, self._service.config.retry, self._gateway.rng
        outcome = self._service.judge(status)
        if self._hedge:
            return self._leave(outcome)
        if not self.may_ask_another:
            return False
        is_urgent = call.awaits_stream and status >= 500
        wait = 0.0 if is_urgent else max(wish, wait_before(self._retries + 1, config, rng))
        if now + wait - call.began > self._service.config.head_timeout:
            return False  # the client would wait longer than it may for what may be no better
        if not self._service.budget.take(now):
            return False
        self._leave(outcome)
        self._call_later(wait, self._begin_again)
        return True

    def _is_replaceable(self, status: int) -> bool:
        call = self._call
        return replaces(
            status, self._service.config.retry, is_repeatable=call.is_repeatable, awaits_stream=call.awaits_stream
        )

    @property
    def _is_replayable(self) -> bool:
        upload = self._call.upload
        return upload is None or upload.is_replayable

    @property
    def may_ask_another(self) -> bool:
        """Whether the request can be sent to an endpoint that was not asked."""
        return self._is_replayable and self._has_untried

    @property
    def _has_untried(self) -> bool:
        """Whether there is another endpoint to ask, and the request may be sent once more."""
        tried = self.tried
        return len(tried) < self._service.config.retry.attempts and self._service.has_other(tried, self._call.pinned)

    def _may_afford(self, error: UpstreamError) -> bool:
        """Whether the request may be sent again as far as the service's budget goes."""
        return is_free(error, self._retries) or self._service.budget.take(self._gateway.now())

    # ---- the end

    def abort(self) -> None:
        """Break off what is under way."""
        if self.upstream:
            self.upstream.abort()

    def close(self, outcome: Outcome, now: float) -> None:
        """The request is over: settle what is held."""
        if self._later:
            self._later.cancel()
        if self._is_waiting:
            self._service.queue.leave(self._go)
        if self._hedge:
            self._hedge.upstream.abort()
            self._settle_hedge(self._hedge, outcome if outcome is CLIENT_GONE else IGNORED)
        if self.lease:
            self.lease.settle(outcome, now)

    def _call_later(self, seconds: float, what: Callable[[], None]) -> None:
        self._later = self._gateway.client.loop.call_later(seconds, what)

    def _cancel_later(self) -> None:
        if self._later:
            self._later.cancel()
            self._later = None


def _blame(upstream: ClientExchange) -> Outcome:
    """What an exchange that failed says about its endpoint: nothing, if a kept connection just ended."""
    return IGNORED if upstream.reused and not upstream.heard else FAILURE
