"""The course of the figures over the last hour: a ring of seconds, and a ring of spans of ten seconds.

    Totals ── between two instants ──► Span ──► fine ring ── ten at a time ──► coarse ring

Counters are subtracted, so that a reader changes nothing, and two readers see the same. Quantiles are of the minute
before, as in the table of services: of a second, they would be the figures of a few requests.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tornado_gateway.policy.upstream.endpoint import Kind
from tornado_gateway.policy.upstream.statistics import Minute
from tornado_gateway.policy.views.state import State

FINE = 300  # spans of one second: five minutes
COARSE = 330  # spans of ten seconds: the 55 minutes before
IN_COARSE = 10  # fine spans in a coarse span
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters at an instant, and the gauges that have no history of their own.

    Attributes:
        at: seconds since 1970.
        requests, failures: requests for services that ended, and requests that ended with a status of 500 or more.
        quantiles: seconds to the head of an answer, for each of QUANTILES, of the last minute; None without answers.
        streams: open event streams and WebSockets.
        loop_delay: seconds by which the event loop was late lately.
    """

    at: float
    requests: int
    failures: int
    quantiles: tuple[float | None, ...]
    streams: int
    loop_delay: float

    @classmethod
    def of(cls, state: State, minute: Minute, at: float) -> "Totals":
        """The totals of all requests for services.

        Args:
            minute: of all endpoints.
            at: seconds since 1970.
        """
        services = list(state.services.values())
        return cls(
            at,
            sum(sum(each.requests.values()) for each in services),
            sum(each.requests.get("5xx", 0) for each in services),
            tuple(minute.quantiles(QUANTILES)),
            sum(each.inflight[Kind.SSE.value] + each.inflight[Kind.WS.value] for each in services),
            max(state.process.loop_delay.values(), default=0.0),
        )


@dataclass(frozen=True, slots=True)
class Span:
    """What happened in a span of time.

    Attributes:
        at: end of the span, in seconds since 1970.
        seconds: length.
        requests, failures: counts within the span; see Totals.
        quantiles, streams, loop_delay: the largest value within the span.
    """

    at: float
    seconds: float
    requests: int
    failures: int
    quantiles: tuple[float | None, ...]
    streams: int
    loop_delay: float

    @classmethod
    def between(cls, before: Totals, after: Totals, seconds: float) -> "Span":
        return cls(
            after.at,
            seconds,
            after.requests - before.requests,
            after.failures - before.failures,
            after.quantiles,
            after.streams,
            after.loop_delay,
        )

    @classmethod
    def over(cls, spans: Sequence["Span"]) -> "Span":
        """Several spans, one after the other, as one span."""
        return cls(
            spans[-1].at,
            math.fsum(each.seconds for each in spans),
            sum(each.requests for each in spans),
            sum(each.failures for each in spans),
            tuple(map(_largest, zip(*(each.quantiles for each in spans), strict=True))),
            max(each.streams for each in spans),
            max(each.loop_delay for each in spans),
        )

    @property
    def point(self) -> list[float | None]:
        """The span as a point of the charts: see COLUMNS."""
        rate = 1 / self.seconds if self.seconds else 0.0
        return [
            round(self.at, 1),
            round(self.requests * rate, 1),
            round(self.failures * rate, 2),
            *map(_milliseconds, self.quantiles),
            self.streams,
            _milliseconds(self.loop_delay),
        ]


COLUMNS = ("at", "rate", "failures", "p50Ms", "p95Ms", "p99Ms", "streams", "loopDelayMs")


class History:
    """The spans of the last hour."""

    def __init__(self) -> None:
        self._fine: deque[Span] = deque(maxlen=FINE + IN_COARSE)
        self._coarse: deque[Span] = deque(maxlen=COARSE)
        self._last: tuple[float, Totals] | None = None
        self._unmerged = 0  # fine spans that no coarse span has

    def note(self, totals: Totals, now: float) -> Span | None:
        """Add the span since the last call.

        Args:
            now: seconds on a monotonic clock: the wall clock may be set back.

        Returns:
            The span; None at the first call.
        """
        last, self._last = self._last, (now, totals)
        if last is None:
            return None
        span = Span.between(last[1], totals, now - last[0])
        self._fine.append(span)
        self._unmerged += 1
        if self._unmerged == FINE + IN_COARSE:
            self._unmerged = FINE
            self._coarse.append(Span.over(list(itertools.islice(self._fine, IN_COARSE))))
        return span

    @property
    def points(self) -> list[list[float | None]]:
        """The points of the charts, the oldest first."""
        return [span.point for span in self._spans()]

    def _spans(self) -> Iterator[Span]:
        yield from self._coarse
        yield from itertools.islice(self._fine, len(self._fine) - self._unmerged, None)


def _largest(values: Sequence[float | None]) -> float | None:
    return max((each for each in values if each is not None), default=None)


def _milliseconds(seconds: float | None) -> float | None:
    """Milliseconds with three digits: more would be noise, and would cost a viewer bytes."""
    return None if seconds is None else float(f"{seconds * 1000:.3g}")
