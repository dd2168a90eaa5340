"""The way of finished spans from the event loop to a collector, in a thread of its own.

    event loop ──add──► queue (MOST_WAITING spans) ──► thread ──► Sink (adapters/otlp.py) ──► collector

The event loop appends to the queue, and never waits. A collector that is slow, away or refuses costs spans alone, and
each lost span is counted. Loss and return stand in the log once each.
"""

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tornado_gateway.policy.http.trace import Context, context_of, limit_of
from tornado_gateway.policy.spans import Span, Told, spans_of

# The defaults of OpenTelemetry's batch processor (OTEL_BSP_MAX_QUEUE_SIZE and OTEL_BSP_MAX_EXPORT_BATCH_SIZE).
MOST_WAITING = 2048  # spans
BATCH = 512  # spans

INTERVAL = 1.0  # seconds between two batches that are not full; a person who looks for a trace waits that long
FLUSH_TIMEOUT = 2.0  # seconds that a stop waits for the collector

# Seconds after which a thread that computes lets the event loop run. A batch takes some 10 ms of Python: with Python's
# default of 5 ms, the event loop would wait that long several times for each batch.
SWITCH_INTERVAL = 0.0005

log = logging.getLogger("tornado_gateway")


@dataclass(frozen=True, slots=True)
class TracingConfig:
    """What is traced, and where spans go.

    Attributes:
        share: of new traces that are recorded, 0 to 1; None for no tracing.
        endpoint: base URL of an OTLP/HTTP collector.
        headers: fields of the requests to the collector.
        service: the name of this service in traces.
    """

    share: float | None = None
    endpoint: str = "http://localhost:4318"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    service: str = "tornado-gateway"


class Sink(Protocol):
    """Sends spans to a collector. Called by one thread."""

    def send(self, spans: Sequence[Span]) -> str:
        """Send spans, and wait for the collector's answer.

        Returns:
            Why the collector has not taken the spans; "" if the collector has.
        """

    def close(self) -> None:
        """Free what the sink holds, and give up a send() that waits; called by another thread."""


class Tracer:
    """Decides which requests are traced, and takes what the spans of a request tell. Made inside an event loop.

    Args:
        share: see TracingConfig.
        new_id: makes 32 random hexadecimal digits.
        now: seconds on the gateway clock.
        wall: seconds since 1970.
        hidden: see the attribute.

    Attributes:
        limit: of the share; see limit_of().
        new_id: see Args.
        hidden: see spans_of().
        exported: spans that a collector has taken.
        dropped: spans that found no room in the queue.
        failed: spans that a collector has not taken.
    """

    def __init__(
        self,
        share: float,
        sink: Sink,
        new_id: Callable[[], bytes],
        now: Callable[[], float],
        wall: Callable[[], float],
        hidden: Collection[str] = (),
    ) -> None:
        self.limit, self.new_id = limit_of(share), new_id
        self._sink, self.hidden = sink, hidden
        self._now, self._wall = now, wall
        self._queue: deque[Told] = deque()
        self._added = self._taken = 0  # spans; the event loop writes the one, the thread writes the other
        self._wake = threading.Event()
        self._is_closing = self._is_away = False
        self.exported = self.dropped = self.failed = 0
        self._switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(min(SWITCH_INTERVAL, self._switch_interval))
        self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)
        self._thread.start()

    # ---- the event loop

    def begin(self, parents: Sequence[bytes]) -> Context:
        """The place of a new request in a trace.

        Args:
            parents: the values of the traceparent fields.
        """
        return context_of(parents, self.limit, self.new_id)

    def new_span_id(self) -> bytes:
        return self.new_id()[:16]

    @property
    def began(self) -> float:
        """Seconds since 1970 at the instant 0 of the gateway clock. The clock of the day may be set at any time."""
        return self._wall() - self._now()

    @property
    def waiting(self) -> int:
        """Spans in the queue."""
        return self._added - self._taken

    @property
    def counts(self) -> dict[str, int]:
        """Spans by what has become of them, for the figures."""
        return {"dropped": self.dropped, "exported": self.exported, "failed": self.failed}

    def add(self, told: Told) -> None:
        """Take what the spans of a request tell."""
        if self.waiting + told.count > MOST_WAITING:
            self.dropped += told.count
            return
        self._added += told.count
        self._queue.append(told)
        if self.waiting >= BATCH and not self._wake.is_set():
            self._wake.set()

    async def close(self) -> None:
        """Send what waits, within FLUSH_TIMEOUT. What is then left is lost, and the log says how much.

        A second call changes nothing.
        """
        if self._is_closing:
            return
        self._is_closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, FLUSH_TIMEOUT)
        if self._thread.is_alive():
            log.warning("tracing: %d spans are lost by the stop", self.waiting)
        self._sink.close()
        sys.setswitchinterval(self._switch_interval)

    # ---- the thread

    def _run(self) -> None:
        while True:
            self._wake.wait(INTERVAL)
            self._wake.clear()
            is_last = self._is_closing
            while self._queue:
                self._send(self._batch())
            if is_last:
                return

    def _batch(self) -> list[Told]:
        batch: list[Told] = []
        count = 0
        while self._queue and count < BATCH:
            told = self._queue.popleft()
            count += told.count
            batch.append(told)
        return batch

    def _send(self, batch: Sequence[Told]) -> None:
        count = sum(told.count for told in batch)
        try:
            why = self._sink.send([*self._spans_of(batch)])
        except Exception as error:  # whatever the library raises: the thread must live, and the loss be counted
            why = f"{type(error).__name__}: {error}"
        if why:
            self.failed += count
        else:
            self.exported += count
        self._taken += count
        self._note(why)

    def _spans_of(self, batch: Sequence[Told]) -> Iterator[Span]:
        for told in batch:
            yield from spans_of(told, self.hidden)

    def _note(self, why: str) -> None:
        if why and not self._is_away:
            log.warning("tracing: the collector takes no spans: %s", why)
        elif self._is_away and not why:
            log.info("tracing: the collector takes spans again; %d spans are lost", self.failed)
        self._is_away = bool(why)
