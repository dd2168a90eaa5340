"""Sends a request to the endpoints of a service in turn, until an endpoint answers.

    begin ──► lease ──► send ──► on_head      the answer goes to the AnswerReceiver
      ▲         │         │       on_failure   the next attempt, if policy/upstream/retry.py says so
      │         │         └─ slow: a second endpoint beside the first (hedge.py)
      └─────────┴─ no room at any endpoint: the request waits for its turn

Attempts receives the answer only up to the head; the AnswerReceiver takes over from there.
"""

import asyncio
import math
import time
from collections.abc import Sequence

from tornado_gateway.errors import EndpointsBusy, GatewayError, HeadTimeout, Overloaded, UpstreamError
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.answerer import AnswerReceiver, OutboundRequest
from tornado_gateway.handlers.hedge import NOT_CONNECTED, Hedge, begin_hedge, blame, hedge_after, is_replaceable
from tornado_gateway.policy.upstream.endpoint import FAILURE, HTTP, WS, Endpoint, Kind, LeaseRequest, Outcome
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.retry import (
    FailedAttempt,
    RetryTarget,
    attempt_timeout,
    backoff_before,
    decide_retry,
    is_free_retry,
    retry_after,
)
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource, HeadReceiver
from tornado_gateway.wire.http1 import ResponseHead


class Attempts:
    """The Answerer that asks the endpoints of a service.

    Attributes:
        attempt_count: number of exchanges begun, including hedges.
        tried: endpoints that were asked.
        lease: lease on the endpoint that answers, or that was asked last; None before the first attempt.
        upstream: the exchange of the present attempt; None between attempts.
        has_try_timeout: whether the present attempt has a shorter timeout than the request.
        hedge: the hedge beside the present attempt; None without a hedge.
    """

    __slots__ = (
        "_has_waited", "_later", "_receiver", "_retries", "attempt_count", "gateway", "has_try_timeout", "hedge",
        "lease", "request", "service", "tried", "upstream",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, service: Service, request: OutboundRequest, receiver: AnswerReceiver) -> None:
        self.gateway, self.service, self.request, self._receiver = gateway, service, request, receiver
        self.tried: Sequence[Endpoint] = ()
        self.lease: Lease | None = None
        self.upstream: ClientExchange | None = None
        self.hedge: Hedge | None = None
        self.attempt_count = self._retries = 0
        self.has_try_timeout = self._has_waited = False
        self._later: asyncio.TimerHandle | None = None  # timer of the next attempt, the hedge, or the queue timeout

    # ---- an attempt

    def begin(self) -> None:
        """Send the request to an endpoint, or wait until an endpoint has room.

        Raises:
            GatewayError: the request cannot be sent.
        """
        request, service = self.request, self.service
        ask = LeaseRequest(
            self.gateway.now(), request.kind, self.tried, request.key, request.pinned, request.is_repeatable,
            self._has_waited,
        )  # fmt: skip
        try:
            lease = self.lease = service.lease(ask, is_retry=self._retries > 0)
        except EndpointsBusy:
            if self.tried or self._has_waited or request.kind is not HTTP:
                raise
            self._wait()
            return
        self.tried = (*self.tried, lease.endpoint)
        self.upstream, self.has_try_timeout = self.send(lease.endpoint, self)
        if request.upload:
            self._send_upload(lease, self.upstream)
        if service.config.hedges and not self._retries:
            self._plan_hedge()

    def _wait(self) -> None:
        """Wait in the queue for room. The request fails if the queue is full, or after queue_timeout."""
        self.service.queue.join(self._take_turn, self.request.pinned)
        error = Overloaded("no endpoint of the service had room for the request in time")
        self._later = self.gateway.client.loop.call_later(
            self.service.config.queue_timeout, self._receiver.on_failure, error
        )

    def _take_turn(self) -> None:
        """Send the request, because an endpoint has room."""
        self._has_waited = True
        self._begin_again()

    def _begin_again(self) -> None:
        self._cancel_later()
        try:
            self.begin()
        except GatewayError as error:
            self._receiver.on_failure(error)

    def send(self, endpoint: Endpoint, receiver: HeadReceiver, *, fresh: bool = False) -> tuple[ClientExchange, bool]:
        """Begin an exchange with an endpoint.

        Args:
            fresh: whether to use a new connection even if a kept one is free.

        Returns:
            The exchange, and whether the attempt has a shorter timeout than the request.

        Raises:
            BadRequest: see OutboundRequest.head_for().
        """
        request, config, is_short = self.request, self.service.config, False
        self.attempt_count += 1
        upstream = self.gateway.client.open(endpoint.origin, request.method, receiver, fresh=fresh)
        upstream.upgrades = request.upgrades
        upstream.min_rate = config.min_response_rate
        upstream.timeout, connect_timeout = config.head_timeout, config.connection.timeout
        if self.attempt_count > 1 or config.retry.try_timeout < math.inf:
            spent = self.gateway.now() - request.began if self.attempt_count > 1 else 0.0
            may_retry = request.is_repeatable and self._may_ask_another
            upstream.timeout, is_short = attempt_timeout(config.retry, config.head_timeout, spent, may_retry=may_retry)
            connect_timeout = min(upstream.timeout, connect_timeout)
        head, upload = request.head_for(endpoint), request.upload
        if upload is None:
            upstream.send(head, connect_timeout=connect_timeout)
        else:
            upstream.send(head, body=True, chunked=upload.is_chunked, connect_timeout=connect_timeout)
        if upstream.reused:
            endpoint.reused += 1
        else:
            endpoint.dialled += 1
        return upstream, is_short

    def _send_upload(self, lease: Lease, upstream: ClientExchange) -> None:
        upload = self.request.upload
        if upload:
            lease.upload_begins()
            upload.send_to(upstream, self)
            if upload.is_whole:
                self.upload_ended()

    # ---- UploadWatcher

    def upload_ended(self) -> None:
        if self.lease:
            self.lease.upload_ends(self.gateway.now())

    def upload_outgrew(self) -> None:
        """Give this attempt the whole timeout of the request, since the body cannot be sent to another endpoint."""
        if self.has_try_timeout and self.upstream:
            self.has_try_timeout = False
            self.upstream.allow(self.service.config.head_timeout)

    # ---- a hedge

    def _plan_hedge(self) -> None:
        seconds = hedge_after(self)
        if seconds is not None:
            self._later = self.gateway.client.loop.call_later(seconds, self._begin_hedge)

    def _begin_hedge(self) -> None:
        self._later = None
        self.hedge = begin_hedge(self)

    # ---- HeadReceiver

    def on_interim(self, head: ResponseHead) -> None:
        self._receiver.on_interim(head)

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        lease, upstream, status, now = self.lease, self.upstream, head.status, self.gateway.now()
        if lease is None or upstream is None:
            return None
        if status >= 400:
            wait = retry_after(head.known_fields, time.time)
            lease.answered(now, status, wait)
            if self._try_elsewhere(status, wait, now):
                return None
        elif status >= 300 or not self.request.upgrades:  # the receiver judges a 101, and calls becomes()
            lease.answered(now, status)
        if self._later:
            self._cancel_later()
        if self.hedge:
            self.hedge.lose(now)
        between_pieces = self.service.config.body_timeout
        if upstream.timeout != between_pieces:
            upstream.allow(between_pieces)
        return self._receiver.on_head(head, source)

    def on_failure(self, error: GatewayError) -> None:
        lease, upstream = self.lease, self.upstream
        if lease is None or upstream is None:
            return
        if isinstance(error, UpstreamError):
            lease.failed_by(error.reason)
        if isinstance(error, NOT_CONNECTED):
            lease.not_connected()
        elif isinstance(error, HeadTimeout):
            lease.timed_out()
        if self.hedge:
            self._leave(blame(upstream, error))
            return
        if not isinstance(error, UpstreamError):  # another endpoint would be no better
            self._receiver.on_failure(error)
            return
        target = decide_retry(error, self._failed_attempt(upstream), self.service.config.retry.on)
        try:
            if target is RetryTarget.SAME_ENDPOINT:
                self._repeat(lease)
            elif target is RetryTarget.OTHER_ENDPOINT and self.has_untried and self._spend_retry(error):
                self._leave(FAILURE)
                self.begin()
            else:
                self._receiver.on_failure(error)
        except GatewayError:  # no endpoint is left: report the failure that led here
            self._receiver.on_failure(error)

    # ---- the next attempt

    def _failed_attempt(self, upstream: ClientExchange) -> FailedAttempt:
        return FailedAttempt(
            is_repeatable=self.request.is_repeatable,
            reused=upstream.reused,
            body_sent=upstream.sent > 0 or upstream.is_sent,
            replayable=self._is_replayable,
            heard=upstream.heard,
            answered=upstream.is_answered,
            delivered=upstream.is_delivered,
            awaits_stream=self.request.awaits_stream,
            has_try_timeout=self.has_try_timeout,
        )

    def _repeat(self, lease: Lease) -> None:
        """Send the request once more to the same endpoint, over a new connection."""
        self.upstream, self.has_try_timeout = self.send(lease.endpoint, self, fresh=True)
        self._send_upload(lease, self.upstream)

    def _leave(self, outcome: Outcome) -> bool:
        """End the attempt under way, before the receiver is called.

        Returns:
            Whether a hedge replaces the attempt.
        """
        self._retries += 1
        self._cancel_later()
        upstream, self.upstream = self.upstream, None
        if upstream:
            upstream.abort()
        if self.request.upload:
            self.request.upload.withdraw()
        if self.lease:
            self.lease.settle(outcome, self.gateway.now())
        if self.hedge is None:
            return False
        self.hedge.take_over()
        return True

    def _try_elsewhere(self, status: int, retry_after: float, now: float) -> bool:
        """Ask another endpoint, now or after a wait, if the status of an answer is retried.

        Args:
            retry_after: seconds of the answer's Retry-After; 0 without one.

        Returns:
            Whether another endpoint is asked.
        """
        request, service = self.request, self.service
        if not is_replaceable(service, request, status):
            return False
        outcome = service.outcomes.judge(status)
        if self.hedge:
            return self._leave(outcome)
        if not self._may_ask_another:
            return False
        is_urgent = request.awaits_stream and status >= 500
        wait = 0.0 if is_urgent else backoff_before(self._retries + 1, service.config.retry, self.gateway.rng)
        wait = wait if is_urgent else max(retry_after, wait)
        # The client would wait longer than head_timeout, for an answer that may be no better.
        if now + wait - request.began > service.config.head_timeout or not service.budget.take(now):
            return False
        self._leave(outcome)
        self._later = self.gateway.client.loop.call_later(wait, self._begin_again)
        return True

    @property
    def may_replace_stream(self) -> bool:
        """Whether the client waits for a stream, or the request may be carried out twice."""
        return (self.request.awaits_stream or self.request.is_repeatable) and self._may_ask_another

    def replace_stream(self) -> bool:
        if not self.may_replace_stream or not self.service.budget.take(self.gateway.now()):
            return False
        self._leave(FAILURE)
        self.begin()
        return True

    @property
    def _is_replayable(self) -> bool:
        upload = self.request.upload
        return upload is None or upload.is_replayable

    @property
    def _may_ask_another(self) -> bool:
        return self._is_replayable and self.has_untried

    @property
    def has_untried(self) -> bool:
        """Whether an endpoint is left to ask, and RetryConfig.attempts allows another attempt."""
        tried = self.tried
        return len(tried) < self.service.config.retry.attempts and self.service.has_other(tried, self.request.pinned)

    def _spend_retry(self, error: UpstreamError) -> bool:
        """Take a retry out of the service's budget, unless the retry is free; return whether to retry."""
        return is_free_retry(error, self._retries) or self.service.budget.take(self.gateway.now())

    # ---- what the journey sees

    @property
    def endpoint(self) -> Endpoint | None:
        return self.lease.endpoint if self.lease else None

    @property
    def is_blocked(self) -> bool:
        return self.upstream is None or self.upstream.is_blocked

    @property
    def is_held(self) -> bool:
        return self.upstream is not None and self.upstream.is_held

    def becomes(self, kind: Kind) -> None:
        if self.lease:
            now = self.gateway.now()
            if kind is WS:
                self.lease.answered(now, 101)
            self.lease.becomes(kind, now)

    def abort(self) -> None:
        if self.upstream:
            self.upstream.abort()

    def close(self, outcome: Outcome, now: float) -> None:
        """Leave the queue, and settle the leases."""
        if self._later:
            self._later.cancel()
        if self.service.queue.waiting:
            self.service.queue.leave(self._take_turn)
        if self.hedge:
            self.hedge.close(outcome)
        if self.lease:
            self.lease.settle(outcome, now)

    def _cancel_later(self) -> None:
        if self._later:
            self._later.cancel()
            self._later = None
