"""A second endpoint, asked beside the first one because the first one is slow.

With HEDGE, a request that does no harm twice is sent to a second endpoint once it has taken longer than nearly all
recent requests. The first of the two answers serves the client. A hedge cuts off the tail that single slow endpoints
make, for a few percent more requests: J. Dean, L. A. Barroso, The Tail at Scale (2013).
"""

import time
from collections.abc import Sequence
from typing import Protocol

from tornado_gateway.errors import ConnectFailed, ConnectTimeout, GatewayError, UpstreamError
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.answerer import OutboundRequest
from tornado_gateway.policy.upstream.endpoint import (
    CLIENT_GONE,
    FAILURE,
    HTTP,
    IGNORED,
    Endpoint,
    LeaseRequest,
    Outcome,
)
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.retry import replaces, retry_after
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource, HeadReceiver
from tornado_gateway.wire.http1 import ResponseHead

NOT_CONNECTED = (ConnectFailed, ConnectTimeout)  # nothing of the request was sent


class First(HeadReceiver, Protocol):
    """The attempts that a hedge runs beside.

    Attributes:
        tried: endpoints that were asked.
        lease, upstream, has_try_timeout: of the attempt under way.
        hedge: the hedge that runs beside that attempt.
    """

    gateway: Gateway
    service: Service
    request: OutboundRequest
    tried: Sequence[Endpoint]
    lease: Lease | None
    upstream: ClientExchange | None
    has_try_timeout: bool
    hedge: "Hedge | None"

    @property
    def has_untried(self) -> bool:
        """Whether another endpoint may be asked."""

    def send(self, endpoint: Endpoint, receiver: HeadReceiver) -> tuple[ClientExchange, bool]:
        """Send the request to an endpoint: the exchange, and whether the attempt has less time than the request."""


class Hedge:
    """The attempt at a second endpoint, and the HeadReceiver of its answer.

    Attributes:
        lease: on the second endpoint.
    """

    __slots__ = ("_first", "_has_try_timeout", "_upstream", "lease")

    def __init__(self, first: First, lease: Lease) -> None:
        self._first, self.lease = first, lease
        self._upstream, self._has_try_timeout = first.send(lease.endpoint, self)

    # ---- HeadReceiver

    def on_interim(self, head: ResponseHead) -> None:
        self._first.on_interim(head)

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        first, now = self._first, self._first.gateway.now()
        outcome = first.service.outcomes.judge(head.status)
        if outcome is FAILURE or is_replaceable(first.service, first.request, head.status):  # the first may do better
            self.lease.answered(now, head.status, retry_after(head.named, time.time))
            self._upstream.abort()
            self._settle(outcome)
            return None
        first.service.outcomes.hedging.won += 1
        if first.upstream:
            first.upstream.abort()
        if first.lease:
            first.lease.overtaken(now)
        self.take_over()
        return first.on_head(head, source)

    def on_failure(self, error: UpstreamError) -> None:
        if isinstance(error, NOT_CONNECTED):
            self.lease.not_connected()
        self._settle(blame(self._upstream))

    # ---- the end of one of the two attempts

    def take_over(self) -> None:
        """The first attempt has ended: go on with this one alone."""
        first = self._first
        first.hedge, first.lease = None, self.lease
        first.upstream, first.has_try_timeout = self._upstream, self._has_try_timeout
        self._upstream.hand_head_to(first)

    def lose(self, now: float) -> None:
        """The first endpoint has answered first."""
        self._first.hedge = None
        self._upstream.abort()
        self.lease.outrun(now)

    def close(self, outcome: Outcome) -> None:
        """The request has ended before either endpoint has answered."""
        self._upstream.abort()
        self._settle(outcome if outcome is CLIENT_GONE else IGNORED)

    def _settle(self, outcome: Outcome) -> None:
        self._first.hedge = None
        self.lease.settle(outcome, self._first.gateway.now())


def hedge_after(first: First) -> float | None:
    """Seconds after which a second endpoint is asked; None for never.

    A session stays at its endpoint: one slow answer is no reason to move it.
    """
    request = first.request
    is_free = request.pinned is None or request.pinned not in first.tried
    is_harmless = request.kind is HTTP and request.upload is None and request.is_repeatable
    if is_free and is_harmless and not request.awaits_stream:
        return first.service.outcomes.hedging.after(first.gateway.now())
    return None


def begin_hedge(first: First) -> Hedge | None:
    """LeaseRequest a second endpoint, if there is one and the retry budget allows it."""
    service, now = first.service, first.gateway.now()
    if not first.has_untried or service.budget.balance(now) < 1.0:
        return None
    try:
        lease = service.lease(LeaseRequest(now, HTTP, first.tried, first.request.key), is_retry=True)
    except GatewayError:
        return None
    service.budget.take(now)
    service.outcomes.hedging.sent += 1
    first.tried = (*first.tried, lease.endpoint)
    return Hedge(first, lease)


def is_replaceable(service: Service, request: OutboundRequest, status: int) -> bool:
    """Whether another endpoint's answer is worth more to the client than an answer with this status."""
    config = service.config.retry
    return replaces(status, config, is_repeatable=request.is_repeatable, awaits_stream=request.awaits_stream)


def blame(upstream: ClientExchange) -> Outcome:
    """What a failed exchange says about its endpoint: nothing, if a kept connection ended before it was heard."""
    return IGNORED if upstream.reused and not upstream.heard else FAILURE
