"""A look at the first event of a stream, before the client gets the head of the response.

Model servers often report an overload in the first event of a response with status 200. With SSE_PEEK_MS the gateway
holds back the head until the first event has come. If the first event is an error, or the stream fails before the
first event, another endpoint is asked, and the client notices nothing. A slow service is not replaced: after
SSE_PEEK_MS the head is sent.
"""

import asyncio
from collections.abc import Callable

from tornado_gateway.errors import UpstreamError
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.http.sse import begins_with_error
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource

MAX_PEEK = 64 * 1024  # bytes of a first event that are held back at most


class Peek:
    """The BodyReceiver of a stream up to the end of the first event.

    Args:
        source: of the stream.
        seconds: to wait for the first event.
        go_on: called once, with whether the stream has failed; returns the next receiver of the stream, or None if
            another endpoint has been asked.
    """

    def __init__(self, source: BodySource, seconds: float, go_on: Callable[[bool], BodyReceiver | None]) -> None:
        self._data = b""
        self._source, self._go_on = source, go_on
        self._timer = asyncio.get_running_loop().call_later(seconds, self._hand_over, False)

    def cancel(self) -> None:
        """Forget the stream: the request is over."""
        self._timer.cancel()

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        self._data += chunk
        failed = begins_with_error(self._data)
        if failed is None and len(self._data) < MAX_PEEK:
            return None
        return self._hand_over(bool(failed))[1]

    def on_end(self, trailers: list[Field]) -> None:
        receiver, _ = self._hand_over(False)
        if receiver:
            receiver.on_end(trailers)

    def on_failure(self, error: UpstreamError) -> None:
        receiver, _ = self._hand_over(True)
        if receiver:
            receiver.on_failure(error)

    def _hand_over(self, failed: bool) -> "tuple[BodyReceiver | None, asyncio.Future[None] | None]":
        self._timer.cancel()
        receiver = self._go_on(failed)
        if receiver is None:
            return None, None
        self._source.hand_to(receiver)
        return receiver, receiver.on_chunk(self._data)
