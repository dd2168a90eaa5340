"""Who takes a response as it comes: one receiver for its head, another one for its body.

    HeadReceiver ◄── 1xx responses, final head      on_head() returns the receiver of the body
    BodyReceiver ◄── chunks, end                    hand_to() gives the rest of the body to another receiver

Exactly one call of on_end() or on_failure() ends a response, unless abort() comes first: then neither is called. A
BodyReceiver may stand in front of another one, pass everything on, and keep a copy: a tee.
"""

import asyncio
from typing import Protocol

from tornado_gateway.errors import UpstreamError
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.wire.http1 import ResponseHead


class BodyReceiver(Protocol):
    """Takes the body of a response, piece by piece."""

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        """A piece of the body has come. An empty first piece means that the head came alone.

        Returns:
            A future, to stop reading the upstream until the future is done; None to read on.
        """

    def on_end(self, trailers: list[Field]) -> None:
        """The response is complete."""

    def on_failure(self, error: UpstreamError) -> None:
        """The rest of the body will not come."""


class BodySource(Protocol):
    """Where the body of a response comes from: an exchange with an upstream, or for example a cache.

    Attributes:
        min_rate: bytes per second that a body of known length must come with; 0 for any.
    """

    min_rate: float

    def hand_to(self, receiver: BodyReceiver) -> None:
        """Give the rest of the body to another receiver."""

    def allow(self, seconds: float) -> None:
        """Allow this much time between two pieces of the body, from now on."""

    def abort(self) -> None:
        """End the response: the receiver is not called again."""

    @property
    def is_held(self) -> bool:
        """Whether the source waits for its receiver to take more."""

    @property
    def heard_at(self) -> float:
        """Instant (loop time) at which bytes came last; -math.inf before any."""

    def forget_fields(self) -> None:
        """Release the memory of the response's fields, which nobody will read again."""


class HeadReceiver(Protocol):
    """Takes a response until its final head, which on_head() gets."""

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx response has come; a final response will follow."""

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        """The head of the final response has come.

        Args:
            source: where the body will come from.

        Returns:
            The receiver of the body; None to discard the body, and after `abort()` and `upgrade()`.
        """

    def on_failure(self, error: UpstreamError) -> None:
        """No final response will come."""


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

    def on_failure(self, error: UpstreamError) -> None:
        pass


NOBODY = _Nobody()
