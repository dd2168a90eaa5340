"""Hedging: a slow request is sent to a second endpoint as well.

With HEDGE, a repeatable request is sent to a second endpoint once the request has taken longer than nearly all recent
requests. The client gets the first of the two answers. Hedges shorten the tail of latencies that single slow endpoints
cause, for a few percent more requests: J. Dean, L. A. Barroso, The Tail at Scale (2013).
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
from tornado_gateway.policy.upstream.retry import is_retried, retry_after
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource, HeadReceiver
from tornado_gateway.wire.http1 import ResponseHead

NOT_CONNECTED = (ConnectFailed, ConnectTimeout)  # nothing of the request was sent


class First(HeadReceiver, Protocol):
    """The attempts, as a hedge uses them; see Attempts.

    Attributes:
        tried: endpoints that were asked.
        lease, upstream, has_try_timeout: lease, exchange and kind of timeout of the first attempt.
        hedge: the hedge; None without a hedge.
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
        """Send the request to an endpoint; see Attempts.send()."""


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
            self.lease.answered(now, head.status, retry_after(head.known_fields, time.time))
            self._upstream.abort()
            self._settle(outcome)
            return None
        first.service.outcomes.hedging.won += 1
        if first.upstream:
            first.upstream.abort()
        if first.lease:
            first.lease.lose_to_hedge(now)
        self.take_over()
        return first.on_head(head, source)

    def on_failure(self, error: GatewayError) -> None:
        if isinstance(error, UpstreamError):
            self.lease.failed_by(error.reason)
        if isinstance(error, NOT_CONNECTED):
            self.lease.not_connected()
        self._settle(blame(self._upstream, error))

    # ---- the end of one of the two attempts

    def take_over(self) -> None:
        """Become the only attempt, because the first attempt has ended."""
        first = self._first
        first.hedge, first.lease = None, self.lease
        first.upstream, first.has_try_timeout = self._upstream, self._has_try_timeout
        self._upstream.hand_head_to(first)

    def lose(self, now: float) -> None:
        """End the hedge, because the first endpoint has answered."""
        self._first.hedge = None
        self._upstream.abort()
        self.lease.supersede(now)

    def close(self, outcome: Outcome) -> None:
        """End the hedge, because the request has ended before an answer."""
        self._upstream.abort()
        self._settle(outcome if outcome is CLIENT_GONE else IGNORED)

    def _settle(self, outcome: Outcome) -> None:
        self._first.hedge = None
        self.lease.settle(outcome, self._first.gateway.now())


def hedge_after(first: First) -> float | None:
    """Seconds after which to ask a second endpoint; None for no hedge.

    A request with a session is not hedged, since the session stays at its endpoint.
    """
    request = first.request
    is_free = request.pinned is None or request.pinned not in first.tried
    is_harmless = request.kind is HTTP and request.upload is None and request.is_repeatable
    if is_free and is_harmless and not request.awaits_stream:
        return first.service.outcomes.hedging.after(first.gateway.now())
    return None


def begin_hedge(first: First) -> Hedge | None:
    """Ask a second endpoint, if another endpoint is available and the retry budget allows."""
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
    """Whether to wait for the other endpoint's answer instead of passing on an answer with this status."""
    config = service.config.retry
    return is_retried(status, config, is_repeatable=request.is_repeatable, awaits_stream=request.awaits_stream)


def blame(upstream: ClientExchange, error: GatewayError) -> Outcome:
    """The outcome of a failed exchange.

    IGNORED if a kept connection ended before any byte came, or if this machine could not connect; else FAILURE.
    """
    is_excused = (upstream.reused and not upstream.heard) or not isinstance(error, UpstreamError)
    return IGNORED if is_excused else FAILURE
