"""Simulated servers in virtual time, whose behaviour changes by a schedule.

A server works on up to WORKERS requests at a time; other requests wait in a queue.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from tornado_gateway.errors import ConnectFailed, UpstreamError, UpstreamReset

WORKERS = 8  # concurrent requests of a server
INSTANT = 0.001  # seconds until a refusal or a fast failure


class Asker(Protocol):
    """A request to a server.

    Attributes:
        work: seconds until the answer's head, for a worker at full speed; > 0.
    """

    work: float

    def on_head(self, status: int) -> None:
        """Called when the response's head comes."""

    def on_failure(self, error: UpstreamError) -> None:
        """Called when the request fails without a response."""


@dataclass(frozen=True, slots=True)
class Phase:
    """The behaviour of a server from an instant on.

    Attributes:
        begin: the instant; > 0.
        speed: work of a worker per second; 1 is full speed, 0 a stall.
        fails: whether the server answers 503 at once.
        refuses: whether the server refuses connections; open connections are dropped at `begin`.
    """

    begin: float
    speed: float = 1.0
    fails: bool = False
    refuses: bool = False


class Clock:
    """Virtual time: runs scheduled calls in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()  # calls due at the same instant run in the order of scheduling

    def at(self, when: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), act))

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        self.at(self.now + seconds, act)

    def run(self) -> None:
        """Run until no call is scheduled."""
        while self._events:
            self.now, _, act = heapq.heappop(self._events)
            act()


class Server:
    """The server of an endpoint: a queue and workers."""

    def __init__(self, clock: Clock, phases: Sequence[Phase]) -> None:
        self._clock = clock
        self._phases = [Phase(0.0), *phases]
        self._ends = [*[phase.begin for phase in phases], math.inf]
        self._in_line: deque[Asker] = deque()
        self._at_work: dict[Asker, None] = {}  # an ordered set
        for phase in phases:
            if phase.refuses:
                clock.at(phase.begin, self._drop_all)

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return next(phase for phase, end in zip(self._phases, self._ends, strict=True) if self._clock.now < end)

    @property
    def is_well(self) -> bool:
        """Whether the server passes a health check."""
        return self.phase.speed > 0 and not self.phase.fails and not self.phase.refuses

    def take(self, request: Asker) -> None:
        phase = self.phase
        if phase.refuses:
            self._clock.after(INSTANT, partial(request.on_failure, ConnectFailed()))
        elif phase.fails:
            self._clock.after(INSTANT, partial(request.on_head, 503))
        else:
            self._in_line.append(request)
            self._work()

    def _work(self) -> None:
        while self._in_line and len(self._at_work) < WORKERS:
            request = self._in_line.popleft()
            self._at_work[request] = None
            self._clock.at(self._done_at(request.work), partial(self._done, request))

    def _done_at(self, work: float) -> float:
        """The instant at which work that begins now is done."""
        now = self._clock.now
        for phase, end in zip(self._phases, self._ends, strict=True):
            begin = max(phase.begin, now)
            if begin < end and work <= (end - begin) * phase.speed:
                return begin + work / phase.speed
            work -= max(end - begin, 0.0) * phase.speed
        raise ValueError("the last phase stalls")

    def _done(self, request: Asker) -> None:
        if request in self._at_work:
            del self._at_work[request]
            request.on_head(200)
            self._work()

    def _drop_all(self) -> None:
        lost = [*self._at_work, *self._in_line]
        self._at_work.clear()
        self._in_line.clear()
        for request in lost:
            request.on_failure(UpstreamReset())
