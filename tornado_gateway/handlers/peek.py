"""A look at a stream's first event, before the client sees anything of it.

Model servers like to report that they are overloaded in the first event behind a 200. With
SSE_PEEK_MS the head waits that long for the first event; if it is an error, or the stream
fails before it, another endpoint is asked and the client never knows. A service that is merely
slow is not replaced: when the time is over the head goes out.
"""

import asyncio
from collections.abc import Callable

from tornado_gateway.errors import UpstreamError
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.http.sse import begins_with_error
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource

MAX_PEEK = 64 * 1024  # bytes of a first event that are waited for


class Peek:
    """The BodyReceiver of a stream's beginning.

    Args:
        source: of the stream.
        seconds: to wait for the first event.
        go_on: called once, with whether the stream has failed. Returns the receiver of the stream; None if another
            endpoint has been asked.
    """

    def __init__(self, source: BodySource, seconds: float, go_on: Callable[[bool], BodyReceiver | None]) -> None:
        self._data = b""
        self._source, self._go_on = source, go_on
        self._timer = asyncio.get_running_loop().call_later(seconds, self._decide, False)

    def cancel(self) -> None:
        """Decide nothing any more."""
        self._timer.cancel()

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        self._data += chunk
        failed = begins_with_error(self._data)
        if failed is None and len(self._data) < MAX_PEEK:
            return None
        return self._decide(bool(failed))[1]

    def on_end(self, trailers: list[Field]) -> None:
        receiver, _ = self._decide(False)
        if receiver:
            receiver.on_end(trailers)

    def on_failure(self, error: UpstreamError) -> None:
        receiver, _ = self._decide(True)
        if receiver:
            receiver.on_failure(error)

    def _decide(self, failed: bool) -> "tuple[BodyReceiver | None, asyncio.Future[None] | None]":
        self._timer.cancel()
        receiver = self._go_on(failed)
        if receiver is None:
            return None, None
        self._source.hand_to(receiver)
        return receiver, receiver.on_chunk(self._data)
