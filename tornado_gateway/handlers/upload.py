"""A request's body: on its way to an endpoint, and kept as long as another endpoint may have to get it."""

import asyncio

from tornado_gateway.policy.http.headers import trailer_lines
from tornado_gateway.policy.upstream.retry import REPLAY_BYTES
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.http1 import ChunkedBody
from tornado_gateway.wire.server.exchange import ServerExchange

CONTINUE_AFTER = 1.0  # seconds an upstream may keep a client waiting for 100-continue; Go and curl wait as long


class Upload:
    """
    Attributes:
        received: bytes that have come of it.
        is_chunked: whether its length is not known beforehand.
        is_replayable: whether all that has come is still at hand.
        is_whole: whether all of it has come.
    """

    __slots__ = (
        "_client", "_continue_later", "_is_over", "_kept", "_loop", "_may_continue", "_next_try", "_upstream",
        "is_chunked", "is_replayable", "is_whole", "received",
    )  # fmt: skip

    def __init__(self, client: ServerExchange, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = client, loop
        self.is_chunked = isinstance(client.head.body, ChunkedBody)
        self.is_replayable = True
        self.is_whole = self._is_over = False
        self.received = 0
        self._kept: list[bytes] = []
        self._upstream: ClientExchange | None = None
        self._next_try: asyncio.Future[None] | None = None  # what more of it waits for
        self._may_continue = False  # the client has been sent 100 Continue
        self._continue_later: asyncio.TimerHandle | None = None

    @property
    def framing(self) -> bytes:
        """The field lines of a request that carries it, but for Content-Length, which passes."""
        lines = b"Transfer-Encoding: chunked\r\n" if self.is_chunked else b""
        return lines + b"Expect: 100-continue\r\n" if self._is_awaited else lines

    @property
    def _is_awaited(self) -> bool:
        """Whether the client does not send it before it is told to."""
        return self._client.head.expects_continue and not self._may_continue

    def send_to(self, upstream: ClientExchange) -> None:
        """Send it to an endpoint, from its beginning; what follows goes there too."""
        for chunk in self._kept:
            upstream.write(chunk)
        self._upstream = upstream
        self._let_on()
        if self.is_whole:
            upstream.finish(trailer_lines(self._client.trailers))
        if self._is_awaited and self._continue_later is None:
            self._continue_later = self._loop.call_later(CONTINUE_AFTER, self.let_continue)

    def withdraw(self) -> None:
        """The endpoint has failed; what comes now waits for another one."""
        self._upstream = None

    def forget(self) -> None:
        """Keep nothing of it any more: no other endpoint will get it."""
        self.is_replayable = False
        self._kept.clear()

    def data_received(self, chunk: bytes) -> "asyncio.Future[None] | None":
        """A piece of it has come.

        Returns:
            A future, to be given no more until it is done; or None.
        """
        upstream = self._upstream
        self.received += len(chunk)
        if self.is_replayable:
            self._kept.append(chunk)
            if upstream and upstream.connection and self.received > REPLAY_BYTES:
                self.forget()
        if upstream:
            return upstream.write(chunk)
        if self._is_over:
            return None
        self._next_try = self._next_try or self._loop.create_future()
        return self._next_try

    def finish(self) -> None:
        """It is whole."""
        if self.is_whole:
            return
        self.is_whole = True
        if self._upstream:
            self._upstream.finish(trailer_lines(self._client.trailers))

    def upstream_continues(self) -> None:
        """The endpoint has said 100 Continue."""
        if self._continue_later:
            self._continue_later.cancel()
            self.let_continue()

    def let_continue(self) -> None:
        """Tell the client to send it; the endpoint, if it was silent, may not know Expect (RFC 9110 §10.1.1)."""
        self._continue_later = None
        if not self.is_whole:
            self._may_continue = True
            self._client.write_interim(100, b"")

    def close(self) -> None:
        """The request is over; what still comes of it goes nowhere."""
        self._is_over, self._upstream = True, None
        if self._continue_later:
            self._continue_later.cancel()
        self._let_on()

    def _let_on(self) -> None:
        if self._next_try and not self._next_try.done():
            self._next_try.set_result(None)
        self._next_try = None
