"""A second endpoint, asked because the first one is slow.

With HEDGE a request that can do no harm twice is sent to another endpoint when it has taken longer than nearly all
others of late; who answers first, answers. That cuts off the tail that single slow endpoints make, for the price
of a few requests: J. Dean, L. Barroso, The Tail at Scale (2013).
"""

from typing import Protocol

from tornado_gateway.errors import UpstreamError
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead


class Hedger(Protocol):
    """Who waits for the first of two answers."""

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx response of either."""

    def hedge_answered(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        """The second endpoint was the first to answer; see HeadReceiver.on_head()."""

    def hedge_failed(self, error: UpstreamError) -> None:
        """The second endpoint will not answer."""


class Hedge:
    """The second endpoint's exchange, and its HeadReceiver.

    Attributes:
        lease: on that endpoint; whoever takes the exchange over takes it too.
        is_short: whether it has less time than the request.
    """

    __slots__ = ("_hedger", "is_short", "lease", "upstream")

    def __init__(self, hedger: Hedger, lease: Lease, upstream: ClientExchange, *, is_short: bool) -> None:
        self._hedger, self.lease, self.upstream, self.is_short = hedger, lease, upstream, is_short
        upstream.head_receiver = self

    # ---- HeadReceiver

    def on_interim(self, head: ResponseHead) -> None:
        self._hedger.on_interim(head)

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        return self._hedger.hedge_answered(head, source)

    def on_failure(self, error: UpstreamError) -> None:
        self._hedger.hedge_failed(error)
