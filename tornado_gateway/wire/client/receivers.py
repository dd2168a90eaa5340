"""The receivers of a response: a HeadReceiver for the head, a BodyReceiver for the body.

    HeadReceiver ◄── 1xx responses, final head      on_head() returns the receiver of the body
    BodyReceiver ◄── chunks, end                    hand_to() gives the rest of the body to another receiver

Exactly one call of on_end() or on_failure() ends a response; no such call comes after abort(). A BodyReceiver may
forward all calls to another BodyReceiver, and keep a copy (a tee). An event stream hands its body over: a tee in front
of an event stream must therefore be the stream's BodySource as well, and change its own receiver at hand_to().
"""

import asyncio
from typing import Protocol

from tornado_gateway.errors import GatewayError, UpstreamError
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.wire.http1 import ResponseHead


class BodyReceiver(Protocol):
    """Takes the body of a response, piece by piece."""

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        """Take a piece of the body; the first piece is empty if no byte of the body came with the head.

        Returns:
            A future, to pause reading from the upstream until the future is done; None to read on.
        """

    def on_end(self, trailers: list[Field]) -> None:
        """Called when the response is complete."""

    def on_failure(self, error: UpstreamError) -> None:
        """Called when the body fails before its end."""


class BodySource(Protocol):
    """The source of a response's body: an exchange with an upstream, or for example a cache.

    Attributes:
        min_rate: least rate of a body of known length in bytes per second; 0 for no limit.
        heard_at: instant (loop time) of the last received bytes; -math.inf before the first.
    """

    min_rate: float
    heard_at: float

    def hand_to(self, receiver: BodyReceiver) -> None:
        """Give the rest of the body to another receiver."""

    def allow(self, seconds: float) -> None:
        """Set the timeout between two pieces of the body."""

    def abort(self) -> None:
        """End the response; the receiver is not called any more."""

    @property
    def is_held(self) -> bool:
        """Whether the source is paused by its receiver's future."""

    def forget_fields(self) -> None:
        """Free the memory of the response's fields, which are not read any more."""


class HeadReceiver(Protocol):
    """Takes the heads of a response: 1xx responses and the final head."""

    def on_interim(self, head: ResponseHead) -> None:
        """Take a 1xx response; a final response follows."""

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        """Take the head of the final response.

        Args:
            head: the head.
            source: the source of the body.

        Returns:
            The receiver of the body; None to discard the body, and after `abort()` and `upgrade()`.
        """

    def on_failure(self, error: GatewayError) -> None:
        """Called when the request fails before the final head.

        Args:
            error: an UpstreamError, or OutOfSockets.
        """


class _Nobody:
    """Discards a response."""

    def on_interim(self, head: ResponseHead) -> None:
        pass

    def on_head(self, head: ResponseHead, source: BodySource) -> None:
        pass

    def on_chunk(self, chunk: bytes) -> None:
        pass

    def on_end(self, trailers: list[Field]) -> None:
        pass

    def on_failure(self, error: GatewayError) -> None:
        pass


NOBODY = _Nobody()
