"""The open streams: event streams and WebSockets.

The limits count streams. A sweep checks all streams, so that no stream needs a timer. Streams may be moved to other
endpoints. When the gateway stops, streams end one after the other, and so do streams that an operator closes.

A stream in the list of streams costs two references and a number, 48 bytes, and no event or message costs anything: the
list is computed of what the stream and the request know anyway.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

from tornado_gateway.policy.http.stream_limits import StreamCounts, StreamLimits
from tornado_gateway.policy.http.stream_tally import OthersStreams
from tornado_gateway.policy.principal import Holder
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind
from tornado_gateway.policy.upstream.stream_totals import Carried, StreamTotals
from tornado_gateway.policy.views.stream_list import Facts, Row

SLICE = 1000  # streams that are compared with the revocations in a turn of the event loop; about 0.3 ms


class StreamRequest(Protocol):
    """The request that a stream answers."""

    @property
    def facts(self) -> Facts:
        """What the list of streams shows of the request."""


class Stream(Protocol):
    """A long-lived stream.

    Attributes:
        next_check: instant (loop time) at which to `check()`.
        totals: of the streams of the same kind and service.
        number: of the stream, unique in the process; set by `Streams.add()`.
        request: that the stream answers; set by `Streams.add()`.
    """

    next_check: float
    totals: StreamTotals
    number: int
    request: StreamRequest

    @property
    def kind(self) -> Kind:
        """SSE or WS."""

    @property
    def carried(self) -> Carried:
        """What the stream has carried so far. Stays as it was at the end of the stream."""

    def count_end(self, seconds: float) -> None:
        """Add the stream to `totals`, because the stream has ended; `seconds` from the request to the end."""

    def check(self, now: float) -> None:
        """See whether something is overdue, and set `next_check` anew."""

    def drain(self) -> None:
        """End at the next boundary between events or messages: the gateway stops. A second call changes nothing."""

    @property
    def is_movable(self) -> bool:
        """Whether the stream can end now without loss, and the client will reconnect by itself."""

    def move(self) -> None:
        """End without loss, so that the client reconnects to another endpoint. Only for a movable stream."""

    @property
    def holder(self) -> Holder:
        """Whose token opened the stream."""

    def revoke(self) -> None:
        """End, because the token was revoked: at the next boundary, or by the next `check()` without one."""

    def dismiss(self) -> None:
        """End at the next boundary, because an operator has closed the stream. A second call changes nothing."""

    def abort(self) -> None:
        """End now."""


class Streams:
    """A Sweeper that checks open streams.

    Args:
        worker: number of the worker, so that streams of all workers have different numbers.
        workers: number of workers.
        others: see StreamCounts.

    Attributes:
        counts: streams that are open or about to open.
        open: streams that have begun, the oldest first.
    """

    shortest_timeout = math.inf  # each stream has the timeouts of its service

    def __init__(
        self, limits: StreamLimits, worker: int = 0, workers: int = 1, others: OthersStreams | None = None
    ) -> None:
        self.counts = StreamCounts(limits, others)
        self._endpoints: dict[Stream, Endpoint | None] = {}
        self.open = self._endpoints.keys()
        self._leaving: dict[Stream, Endpoint] = {}  # streams that were told to move and have not ended
        self._ends: list[tuple[float, Stream]] = []  # instants of a drain, the latest first
        self._dismissals: list[tuple[float, Stream]] = []  # instants of an operator's closings, the latest first
        self._newest, self._step = worker, workers  # number of the newest stream
        self._all_end_at = math.inf
        self._is_revoked: Callable[[Holder], bool] | None = None  # since the last sweep
        self._none_open = asyncio.Event()
        self._none_open.set()

    def add(self, stream: Stream, request: StreamRequest, endpoint: Endpoint | None = None) -> None:
        """A stream has begun.

        Args:
            request: that the stream answers.
            endpoint: the stream may be moved away from this endpoint; None: the stream is never moved.
        """
        self._newest += self._step
        stream.number, stream.request = self._newest, request
        self._endpoints[stream] = endpoint
        self._none_open.clear()

    def discard(self, stream: Stream) -> None:
        """A stream has ended."""
        self._endpoints.pop(stream, None)
        if self._leaving:
            self._leaving.pop(stream, None)
        if not self._endpoints:
            self._none_open.set()

    async def closed(self) -> None:
        """Wait until every stream has ended; a WebSocket has ended when both connections have."""
        await self._none_open.wait()

    def abort(self) -> None:
        """End every stream at once."""
        for stream in list(self.open):
            stream.abort()

    def sweep(self, now: float) -> None:
        """Check streams that are due, and end streams whose token is revoked.

        A stream is due when the stream's `next_check` has passed. During a drain the sweep also ends streams, one at a
        time.
        """
        for stream in [each for each in self.open if each.next_check <= now]:
            stream.check(now)
        while self._ends and self._ends[-1][0] <= now:
            _, stream = self._ends.pop()
            if stream in self.open:
                stream.drain()
        while self._dismissals and self._dismissals[-1][0] <= now:
            _, stream = self._dismissals.pop()
            if stream in self.open:
                stream.dismiss()
        if now >= self._all_end_at:
            for stream in list(self.open):  # also streams that began after the drain
                stream.drain()
        if self._is_revoked:
            is_revoked, self._is_revoked = self._is_revoked, None
            self._end_revoked(list(self.open), is_revoked)

    def revoke(self, is_revoked: Callable[[Holder], bool]) -> None:
        """Let the next sweep end the streams whose token is revoked. Several revocations cost a single sweep.

        Args:
            is_revoked: whether the credential of a holder is revoked.
        """
        self._is_revoked = is_revoked

    def _end_revoked(self, left: list[Stream], is_revoked: Callable[[Holder], bool]) -> None:
        for stream in left[-SLICE:]:
            if is_revoked(stream.holder) and stream in self.open:
                stream.revoke()
        del left[-SLICE:]
        if left:
            asyncio.get_running_loop().call_soon(self._end_revoked, left, is_revoked)

    def move(self, counts: Mapping[Endpoint, int]) -> None:
        """Move the oldest movable streams, up to a given number for each endpoint.

        So a client that was moved lately and came back to the same endpoint is moved last.
        """
        left, chosen = dict(counts), []
        for stream, endpoint in self._endpoints.items():
            if endpoint is not None and left.get(endpoint) and stream.is_movable:
                chosen.append((stream, endpoint))
                left[endpoint] -= 1
                if not any(left.values()):
                    break
        for stream, endpoint in chosen:
            self._endpoints[stream], self._leaving[stream] = None, endpoint
            stream.move()

    @property
    def leaving(self) -> Counter[Endpoint]:
        """Streams of each endpoint that were told to move and have not ended."""
        return Counter(self._leaving.values())

    def rows(self, after: int = 0) -> Iterator[Row]:
        """The streams that are open at the call and still open when their turn comes, the oldest first.

        Args:
            after: number behind which streams are wanted.
        """
        for stream in list(self.open):
            if stream.number > after and stream in self.open:
                facts = stream.request.facts
                yield Row(stream.number, stream.kind, stream.holder.name, facts, stream.carried)

    def holders(self) -> Iterator[tuple[Holder, Kind]]:
        """Whose token opened each stream, of the streams that are open at the call and still open when their turn
        comes, the oldest first."""
        for stream in list(self.open):
            if stream in self.open:
                yield stream.holder, stream.kind

    def of_numbers(self, numbers: Collection[int]) -> list[Stream]:
        """The open streams among those with these numbers, the oldest first."""
        return [each for each in self.open if each.number in numbers]

    def at(self, service: str, endpoint: str) -> list[Stream]:
        """The open streams of a service, the oldest first.

        Args:
            endpoint: URL; "" for all endpoints.
        """
        pairs = [(each, each.request.facts) for each in self.open]
        return [each for each, of in pairs if of.service == service and endpoint in ("", of.endpoint)]

    def dismiss(self, chosen: Sequence[Stream], now: float, spread: float) -> None:
        """End streams: the first now, the others evenly spread over `spread` seconds, by the next sweeps."""
        for stream in chosen[:1]:
            stream.dismiss()
        ends = [(now + spread * (index + 1) / len(chosen), stream) for index, stream in enumerate(chosen[1:])]
        self._dismissals = sorted([*self._dismissals, *ends], key=lambda each: each[0], reverse=True)

    def drain(self, now: float, spread: float) -> None:
        """End all streams, evenly spread over `spread` seconds, so that clients do not reconnect all at once."""
        open_ = list(self.open)
        self._ends = [(now + spread * (index + 1) / len(open_), stream) for index, stream in enumerate(open_)]
        self._ends.reverse()
        self._all_end_at = now + spread
