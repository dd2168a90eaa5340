"""Looks at the figures each second, for the dashboard: one look for all viewers.

    look ──► History, Board ──► a difference ──► each Viewer ──► /admin/events

A look at a thousand endpoints takes tens of milliseconds. So a look is made in slices, and looks take SHARE of the time
of a core at most: the next look is later if the last look was long.

Several workers look at the figures of all. Without viewers these looks take SHARE_OF_ALL of a core at most, in all
processes together, and all workers look at the same instants, so that the supervisor gathers the figures once.
"""

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict

from tornado_gateway.errors import WorkersUnavailable
from tornado_gateway.policy.http.redaction import Redaction
from tornado_gateway.policy.views.board import ENDPOINT_COLUMNS, SERVICE_COLUMNS, Board, Event
from tornado_gateway.policy.views.counts import Count, counts_of
from tornado_gateway.policy.views.feed import Change, Feed
from tornado_gateway.policy.views.happenings import Happenings
from tornado_gateway.policy.views.heard import Heard
from tornado_gateway.policy.views.history import COLUMNS, History, Span, Totals
from tornado_gateway.policy.views.request_tail import COLUMNS as REQUEST_COLUMNS
from tornado_gateway.policy.views.request_tail import RequestTail
from tornado_gateway.policy.views.state import State
from tornado_gateway.policy.views.steps import Steps
from tornado_gateway.upkeep.shared import in_slices
from tornado_gateway.upkeep.whole_tail import WholeTail

INTERVAL = 1.0  # seconds between two looks
SHARE = 0.05  # of a core
LONGEST = 3.0  # seconds; on a busy gateway a look takes long because other work comes between, and costs no more
COST = 1e-4  # seconds of CPU time for an endpoint in a process: collected, sent, merged, sent and read
SHARE_OF_ALL = 0.02  # of a core
LONGEST_UNSEEN = 10.0  # seconds; a worker that is killed takes what it has counted since the last look along
KEPT = 60  # the newest differences, for viewers that come back after a short break
BEHIND = 3  # differences that wait for a viewer; a slower viewer gets everything anew instead
BUDGET = 48 * 1024  # bytes of a difference: with chunks and heartbeats, a viewer gets 50 KiB per second at most
RETRY = 2000  # milliseconds after which a browser comes back

COLUMNS_OF = {
    "points": COLUMNS, "services": SERVICE_COLUMNS, "endpoints": ENDPOINT_COLUMNS, "requests": REQUEST_COLUMNS,
}  # fmt: skip


def pause_of_all(state: State) -> float:
    """Seconds between two looks of all workers without viewers."""
    processes, endpoints = (
        sum(state.process.build.values()),
        sum(len(each.endpoints) for each in state.services.values()),
    )
    return min(processes * endpoints * COST / SHARE_OF_ALL, LONGEST_UNSEEN)


class Viewer:
    """A viewer of the dashboard. Iterating gives texts of an event stream, until `end()`."""

    def __init__(self, observer: "Observer", texts: Iterable[str]) -> None:
        self._observer = observer
        self._texts = deque(texts)
        self._is_behind = self._has_ended = False
        self._news = asyncio.Event()

    def tell(self, text: str) -> None:
        """Add a text, unless the viewer is too slow."""
        if len(self._texts) >= BEHIND:
            self._texts.clear()
            self._is_behind = True
        if not self._is_behind:
            self._texts.append(text)
        self._news.set()

    def end(self) -> None:
        """Let the iteration end after the waiting texts."""
        self._has_ended = True
        self._news.set()

    def __aiter__(self) -> "Viewer":
        return self

    async def __anext__(self) -> str:
        while not self._texts and not self._is_behind:
            if self._has_ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        if self._is_behind:
            self._is_behind = False
            return self._observer.whole()
        return self._texts.popleft()


class Observer:
    """The dashboard's view of the gateway. Made inside a running event loop.

    Args:
        collect: collects the figures.
        about: what a viewer learns once: version, environment and the like, as plain JSON.
        now: seconds on a monotonic clock.
        news: gives the events since the last call, beside changes of services, endpoints and limits.
        tail: the newest requests, of this process or of all workers; None for none.
        gather: gives the figures of all workers; None for a gateway of one process.
        tell_others: tells other workers of events: instant, level and text of each.
    """

    def __init__(
        self,
        collect: Callable[[], Steps[State]],
        about: dict[str, object],
        now: Callable[[], float],
        news: Callable[[], list[Event]] = list,
        tail: RequestTail | WholeTail | None = None,
        gather: Callable[[], Awaitable[State]] | None = None,
        tell_others: Callable[[list[list[object]]], None] | None = None,
    ) -> None:
        self._gather, self._tell_others, self._heard = gather, tell_others, Heard()
        self._tail = tail or RequestTail(Redaction())
        self._requests: Sequence[Sequence[object]] = []
        self._collect, self._about, self._now, self._news = collect, about, now, news
        self.board, self.history, self._happenings = Board(), History(), Happenings()
        self._feed_of_services, self._feed_of_endpoints = Feed(), Feed()
        self._counts: list[Count] = []
        self._refused: dict[str, int] = {}
        self._viewers: set[Viewer] = set()
        self._kept: deque[tuple[str, str]] = deque(maxlen=KEPT)  # texts by id
        self._boot, self._number = secrets.token_hex(4), 0  # ids of another process are unknown here
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.Task[None] | None = None
        self._looks = asyncio.Lock()  # a look is made in slices: another look waits
        self._is_closed = False
        self._pause_of_all = 0.0  # seconds between two looks of all workers
        self._comes = asyncio.Event()  # a viewer, and nobody was there

    def reconfigure(self, collect: Callable[[], Steps[State]], about: dict[str, object]) -> None:
        """Collect the figures in another way; new viewers learn something else."""
        self._collect, self._about = collect, about

    def start(self) -> None:
        self._watch = self._loop.create_task(self._look_again_and_again())

    def close(self) -> None:
        """Look no more, and end the streams of all viewers: browsers come back to the next process."""
        self._is_closed = True
        if self._watch:
            self._watch.cancel()
        for viewer in self._viewers:
            viewer.end()

    # ---- viewers

    async def join(self, last_id: str = "") -> Viewer:
        """A new viewer, who gets everything, or what has changed since the text with an id.

        Args:
            last_id: value of Last-Event-ID; "" for none.
        """
        if not self._viewers:
            self._comes.set()
            self._kept.clear()  # without viewers nobody was told of changes
            await self.look()
            self._feed_of_services.reset(self.board.services)
            self._feed_of_endpoints.reset(self.board.endpoints)
        viewer = Viewer(self, self._since(last_id) or [self.whole()])
        self._viewers.add(viewer)
        if self._is_closed:
            viewer.end()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)

    def _since(self, last_id: str) -> list[str]:
        """The texts behind the text with an id; [] if unknown, or if there is none."""
        ids = [each for each, _ in self._kept]
        return [text for _, text in list(self._kept)[ids.index(last_id) + 1 :]] if last_id in ids else []

    def whole(self) -> str:
        """Everything, as an event."""
        said = {
            "about": self._about,
            "at": round(time.time(), 1),
            "sentence": self.board.sentence,
            "columns": COLUMNS_OF,
            "points": self.history.points,
            "requests": self._tail.rows(),
            "counts": self._counts,
            "refused": [[*key.split("\t", 1), count] for key, count in self._refused.items()],
            "events": [asdict(each) for each in self.board.events],
        }
        services, endpoints = self._feed_of_services.whole(), self._feed_of_endpoints.whole()
        return (
            f"retry: {RETRY}\nid: {self._id}\nevent: whole\n"
            f'data: {_plain(said)[:-1]},"services":{_object(services)},"endpoints":{_object(endpoints)}}}\n\n'
        )

    # ---- looks

    async def _look_again_and_again(self) -> None:
        while True:
            began = self._now()
            self._comes.clear()
            with suppress(WorkersUnavailable):  # what is shown becomes stale, and the page says so
                await self.look(tells=True)
            pause = min(max(INTERVAL, (self._now() - began) / SHARE), LONGEST)
            if not self._viewers and self._pause_of_all > pause:
                pause = self._pause_of_all - self._now() % self._pause_of_all
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._comes.wait()

    async def look(self, *, tells: bool = False) -> None:
        """Look at the figures, in slices.

        Args:
            tells: whether viewers are told.
        """
        async with self._looks:
            gathered = await self._gather() if self._gather else None
            if isinstance(self._tail, WholeTail) and (self._viewers or not tells):
                await self._tail.follow()
            span, events = await in_slices(self._steps(gathered), self._now)
            if tells and self._viewers:
                self._tell(span, events)

    def _steps(self, gathered: State | None) -> Steps[tuple[Span | None, list[Event]]]:
        state, at = gathered or (yield from self._collect()), time.time()
        self._pause_of_all = pause_of_all(state) if gathered else 0.0
        events = yield from self.board.update(state, at)
        self._counts, self._refused, self._requests = counts_of(state), state.limits.refused, self._tail.look()
        others = [*self._new_events(), *self._happenings.update(state, at)]
        self.board.tell(others)
        events = sorted([*events, *others], key=lambda each: each.at)
        return self.history.note(Totals.of(state, self.board.minute, at), self._now()), events

    def _new_events(self) -> list[Event]:
        """The events since the last look, of this worker and of others. Others are told of the former."""
        own = self._heard.news_of(self._news())
        if own and self._tell_others:
            self._tell_others([[each.at, each.level, each.text] for each in own])
        return [*own, *self._heard.take()]

    def learn(self, rows: Iterable[Sequence[object]]) -> None:
        """Take events of another worker, for the next look."""
        self._heard.learn(rows, self.board.events)

    def _tell(self, span: Span | None, events: list[Event]) -> None:
        self._number += 1
        said = {
            "at": round(time.time(), 1),
            "sentence": self.board.sentence,
            "points": [span.point] if span else [],
            "requests": self._requests,
            "counts": self._counts,
            "refused": [[*key.split("\t", 1), count] for key, count in self._refused.items()],
            "events": [asdict(each) for each in events],
        }
        plain = _plain(said)[:-1]
        left = BUDGET - len(plain)
        services = self._feed_of_services.update(self.board.services, left / 2)
        endpoints = self._feed_of_endpoints.update(self.board.endpoints, left - services.size)
        text = (
            f"id: {self._id}\nevent: change\n"
            f'data: {plain},"services":{_change(services)},"endpoints":{_change(endpoints)}}}\n\n'
        )
        self._kept.append((self._id, text))
        for viewer in self._viewers:
            viewer.tell(text)

    @property
    def _id(self) -> str:
        return f"{self._boot}-{self._number}"


def _plain(said: object) -> str:
    return json.dumps(said, separators=(",", ":"))


def _object(rows: Mapping[str, str]) -> str:
    """An object whose values are JSON already."""
    return "{" + ",".join(f"{json.dumps(key)}:{text}" for key, text in rows.items()) + "}"


def _change(change: Change) -> str:
    return f'{{"rows":{_object(change.rows)},"gone":{_plain(change.gone)}}}'
