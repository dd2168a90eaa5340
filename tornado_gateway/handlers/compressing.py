"""Compresses the body of an answer on the way to the client.

    source ──► Compressing ──► client
                 └─ a body above IN_THREAD: a thread compresses, piece by piece, while the source is paused

A body of unknown length is flushed with each piece: the client gets what the service has sent so far.
"""

import asyncio
from collections import deque
from dataclasses import replace
from typing import Protocol

from tornado_gateway.adapters.compression import Compressor, new_compressor
from tornado_gateway.errors import UpstreamError
from tornado_gateway.policy.http.caching.request import by_name
from tornado_gateway.policy.http.compression import (
    CompressionConfig,
    accepted_by,
    chosen,
    coded,
    forbids,
    is_compressible,
    varied,
    weakened,
)
from tornado_gateway.policy.http.headers import Field, KnownFields
from tornado_gateway.wire.client.receivers import BodyReceiver
from tornado_gateway.wire.http1 import ResponseHead

IN_THREAD = 64 * 1024  # bytes of a body above which a thread compresses: some ms of the event loop otherwise


def prepare(head: ResponseHead, asked: KnownFields, config: CompressionConfig) -> tuple[ResponseHead, bytes]:
    """The head as the client gets the head, and the coding; b"" for none.

    Args:
        asked: fields of the request, by lower-case name.
    """
    lines, coding = head.forwarded_lines, chosen(accepted_by(asked), config.codings)
    if head.status == 304:  # has the ETag of the response that the client has
        return replace(head, forwarded_lines=varied(weakened(lines) if coding else lines)), b""
    if not is_compressible(head.status, head.length, by_name(lines), config) or forbids(asked):
        return head, b""
    if not coding:
        return replace(head, forwarded_lines=varied(lines)), b""
    return replace(head, forwarded_lines=coded(lines, coding), length=None), coding


class Taker(BodyReceiver, Protocol):
    """Takes the compressed body.

    Attributes:
        is_closed: whether the request has ended; nothing is to come then.
    """

    @property
    def is_closed(self) -> bool: ...


class Compressing:
    """A BodyReceiver in front of another.

    Args:
        length: of the body; None if unknown.
    """

    __slots__ = ("_compressor", "_flushes", "_is_large", "_loop", "_size", "_taker", "_trailers", "_waiting", "_work")

    def __init__(self, coding: bytes, length: int | None, taker: Taker, loop: asyncio.AbstractEventLoop) -> None:
        self._compressor: Compressor = new_compressor(coding)
        self._flushes, self._size = length is None, 0
        self._is_large = length is not None and length > IN_THREAD
        self._taker, self._loop = taker, loop
        self._waiting: deque[bytes] = deque()
        self._trailers: list[Field] | None = None  # once the body is complete
        self._work: asyncio.Task[None] | None = None

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        self._size += len(chunk)
        if not chunk:
            return self._taker.on_chunk(chunk)
        if self._work or self._is_large or self._size > IN_THREAD:
            self._waiting.append(chunk)
            return self._begin_work()
        made = self._compressor.take(chunk, flushes=self._flushes)
        return self._taker.on_chunk(made) if made else None

    def on_end(self, trailers: list[Field]) -> None:
        self._trailers = trailers
        if not self._work:
            self._end(trailers)

    def on_failure(self, error: UpstreamError) -> None:
        self._waiting.clear()
        self._taker.on_failure(error)

    def _end(self, trailers: list[Field]) -> None:
        self._taker.on_chunk(self._compressor.end())
        self._taker.on_end(trailers)

    # ---- in a thread

    def _begin_work(self) -> "asyncio.Future[None]":
        """Compress the waiting pieces in a thread; the future is done when the client has taken all waiting pieces."""
        if self._work is None:
            self._work = self._loop.create_task(self._compress_all())
        return self._work

    async def _compress_all(self) -> None:
        while self._waiting and not self._taker.is_closed:
            piece = self._waiting.popleft()
            made = await asyncio.to_thread(self._compressor.take, piece, flushes=self._flushes)
            if made and not self._taker.is_closed:
                busy = self._taker.on_chunk(made)
                if busy:
                    await asyncio.wait([busy])
        self._work = None
        if self._trailers is not None and not self._taker.is_closed:
            self._end(self._trailers)
