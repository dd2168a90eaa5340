"""The body of a request: sent to an endpoint, and kept while a retry may need it."""

import asyncio
from typing import Protocol

from tornado_gateway.policy.http.headers import trailer_lines
from tornado_gateway.policy.upstream.retry import REPLAY_BYTES
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.http1 import ChunkedBody
from tornado_gateway.wire.server.exchange import ServerExchange

CONTINUE_AFTER = 1.0  # seconds an upstream may keep a client waiting for 100-continue; Go and curl wait as long


class UploadWatcher(Protocol):
    """Is told about an upload while the body is sent to an endpoint."""

    def upload_ended(self) -> None:
        """Called when the body is complete."""

    def upload_outgrew(self) -> None:
        """Called when the body has become too long to keep for a retry."""


class Upload:
    """The body of a request.

    Attributes:
        received: bytes of the body that have come.
        is_chunked: whether the length of the body is not known beforehand.
        is_replayable: whether every byte that has come is still kept: REPLAY_BYTES at most, once any byte of the
            request may have reached an endpoint.
        is_whole: whether all of the body has come.
    """

    __slots__ = (
        "_client", "_continue_later", "_is_over", "_kept", "_loop", "_next_attempt", "_sent_continue", "_upstream",
        "_watcher", "is_chunked", "is_replayable", "is_whole", "received",
    )  # fmt: skip

    def __init__(self, client: ServerExchange, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = client, loop
        self.is_chunked = isinstance(client.head.body, ChunkedBody)
        self.is_replayable = True
        self.is_whole = self._is_over = False
        self.received = 0
        self._kept: list[bytes] = []
        self._upstream: ClientExchange | None = None
        self._watcher: UploadWatcher | None = None
        self._next_attempt: asyncio.Future[None] | None = None  # the client is not read before the next attempt
        self._sent_continue = False
        self._continue_later: asyncio.TimerHandle | None = None

    @property
    def framing(self) -> bytes:
        """The field lines about the body, without Content-Length: the client's own is forwarded."""
        lines = b"Transfer-Encoding: chunked\r\n" if self.is_chunked else b""
        return lines + b"Expect: 100-continue\r\n" if self._is_awaited else lines

    @property
    def _is_awaited(self) -> bool:
        """Whether the client waits for 100 Continue before the body."""
        return self._client.head.expects_continue and not self._sent_continue

    def send_to(self, upstream: ClientExchange, watcher: UploadWatcher) -> None:
        """Send the body to an endpoint: the kept bytes now, further bytes as they come."""
        for chunk in self._kept:
            upstream.write(chunk)
        self._upstream, self._watcher = upstream, watcher
        self._resume_client()
        if self.is_whole:
            upstream.finish(trailer_lines(self._client.trailers))
        if self._is_awaited and self._continue_later is None:
            self._continue_later = self._loop.call_later(CONTINUE_AFTER, self.send_continue)

    def withdraw(self) -> None:
        """Hold back the rest of the body for the next attempt, because the endpoint has failed."""
        self._upstream = self._watcher = None

    def forget(self) -> None:
        """Free the kept bytes, because no retry needs them."""
        self.is_replayable = False
        self._kept.clear()

    def data_received(self, chunk: bytes) -> "asyncio.Future[None] | None":
        """Take a piece of the body.

        Returns:
            A future, to pause reading from the client until the future is done; None to read on.
        """
        upstream = self._upstream
        self.received += len(chunk)
        if self.is_replayable:
            self._kept.append(chunk)
            if self.received > REPLAY_BYTES and upstream and upstream.has_delivered:
                self._outgrow()
        if upstream:
            return upstream.write(chunk)
        if self._is_over:
            return None
        self._next_attempt = self._next_attempt or self._loop.create_future()
        return self._next_attempt

    def _outgrow(self) -> None:
        self.forget()
        if self._watcher:
            self._watcher.upload_outgrew()

    def finish(self) -> None:
        """All of the body has come."""
        if self.is_whole:
            return
        self.is_whole = True
        if self._upstream:
            self._upstream.finish(trailer_lines(self._client.trailers))
        if self._watcher:
            self._watcher.upload_ended()

    def upstream_continues(self) -> None:
        """The endpoint has sent 100 Continue."""
        if self._continue_later:
            self._continue_later.cancel()
            self.send_continue()

    def send_continue(self) -> None:
        """Send the client 100 Continue even if the endpoint did not, since old servers ignore Expect (RFC 9110
        §10.1.1)."""
        self._continue_later = None
        if not self.is_whole:
            self._sent_continue = True
            self._client.write_interim(100, b"")

    def close(self) -> None:
        """Discard the rest of the body, because the request has ended."""
        self._is_over, self._upstream, self._watcher = True, None, None
        if self._continue_later:
            self._continue_later.cancel()
        self._resume_client()

    def _resume_client(self) -> None:
        if self._next_attempt and not self._next_attempt.done():
            self._next_attempt.set_result(None)
        self._next_attempt = None
