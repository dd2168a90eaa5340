"""Sources of endpoints, asked for as long as a service names the source: DNS SRV, Consul and Kubernetes.

    service.membership.sources ─► a task for each source ─► targets ─► service.membership ─► discovery.py

policy/upstream/sources.py says what stands in UPSTREAMS. A source that fails, or that names no endpoint any more,
changes nothing: the last endpoints stay, breakers and health checks take out what is really gone, and the log has a
warning.
"""

import asyncio
import logging
import math
import random
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from tornado.httpclient import HTTPError

from tornado_gateway.errors import ConnectFailed, ConnectTimeout, OutOfSockets
from tornado_gateway.policy.upstream.hosts import Family
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.sources import (
    Kind,
    Source,
    SourceFailed,
    Target,
    of_family,
    parse_source,
    urls_of,
)

FIRST_ANSWER = 5.0  # seconds that a gateway waits for sources before it accepts connections

log = logging.getLogger("tornado_gateway")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a source is asked.

    Attributes:
        shortest: seconds between two questions at least.
        retry: seconds until a source that failed is asked again; doubled up to longest_retry.
        jitter: share by which a wait is lengthened at random, so that gateways do not ask in step.
    """

    shortest: float = 1.0
    retry: float = 1.0
    longest_retry: float = 30.0
    jitter: float = 0.2

    def wait(self, failures: int, rng: random.Random) -> float:
        """Seconds until the next question after some failures in a row, at least 1."""
        seconds = min(self.retry * 2.0 ** min(failures - 1, 30), self.longest_retry)
        return seconds * (1 + self.jitter * rng.random())


class Feed(Protocol):
    """Asks a source."""

    def answers(self) -> AsyncGenerator[tuple[Target, ...], None]:
        """All targets, at first and after each change. Goes on where the last iteration was cut.

        Raises:
            SourceFailed, HTTPError, ConnectFailed, ConnectTimeout, OutOfSockets, OSError, ValueError: the source has
                failed.
        """


MakeFeed = Callable[[Source], Feed]


@dataclass(slots=True)
class _Watch:
    """A source that is asked.

    Attributes:
        urls: what the source has told last, weights by base URL; None before the first answer.
        is_troubled: whether the log has a warning that still holds.
        first: done when the source has answered or failed for the first time.
    """

    url: str
    source: Source
    feed: Feed
    first: "asyncio.Future[None]"
    urls: Mapping[str, int] | None = None
    is_troubled: bool = False
    task: "asyncio.Task[None] | None" = None


class Sources:
    """A Sweeper that asks the sources that services name.

    Args:
        services: iterated live.
        feeds: what asks a source of each kind.
        follow: called after a change of memberships.
        family: targets with addresses of other families are ignored.
        rng: for the jitter.
    """

    shortest_timeout = math.inf

    def __init__(
        self,
        services: Collection[Service],
        feeds: Mapping[Kind, MakeFeed],
        follow: Callable[[], None],
        family: Family,
        rng: random.Random,
        pace: Pace | None = None,
    ) -> None:
        self._services, self._feeds, self._follow, self._family, self._rng = services, feeds, follow, family, rng
        self._pace = pace or Pace()
        self._watches: dict[str, _Watch] = {}
        self._is_closed = False

    def reconfigure(self, feeds: Mapping[Kind, MakeFeed], family: Family) -> None:
        """Ask all sources anew, in another way; see the class. What sources have told stays until then."""
        self._feeds, self._family = feeds, family
        for watch in self._watches.values():
            self._end(watch)
        self._watches.clear()

    def sweep(self, now: float) -> None:
        """Ask the sources that services name now, and no others."""
        if self._is_closed:
            return
        naming = [each for each in self._services if each.membership.sources]
        wanted = dict.fromkeys(url for each in naming for url in each.membership.sources)
        for url in self._watches.keys() - wanted:
            self._end(self._watches.pop(url))
        for url in wanted:
            if url not in self._watches:
                self._watches[url] = self._begin(url)
        self._deliver(naming)

    async def first_answers(self) -> None:
        """Ask; wait until each source has answered or failed, FIRST_ANSWER seconds at most.

        A gateway that takes over from another gateway would otherwise refuse the first requests.
        """
        self.sweep(0.0)
        if self._watches:
            await asyncio.wait([watch.first for watch in self._watches.values()], timeout=FIRST_ANSWER)

    async def close(self) -> None:
        """Ask no more, and wait until all questions have been given up."""
        self._is_closed = True
        for watch in self._watches.values():
            self._end(watch)
        await asyncio.gather(*[each.task for each in self._watches.values() if each.task], return_exceptions=True)

    def _begin(self, url: str) -> _Watch:
        source, loop = parse_source(url), asyncio.get_running_loop()
        watch = _Watch(url, source, self._feeds[source.kind](source), loop.create_future())
        watch.task = loop.create_task(self._run(watch))
        return watch

    def _end(self, watch: _Watch) -> None:
        if watch.task:
            watch.task.cancel()

    async def _run(self, watch: _Watch) -> None:
        failures = 0
        while True:
            try:
                async with aclosing(watch.feed.answers()) as answers:
                    async for targets in answers:
                        failures = 0
                        self._take(watch, targets)
                        self._note_first(watch)
            except (SourceFailed, HTTPError, ConnectFailed, ConnectTimeout, OutOfSockets, OSError, ValueError) as error:
                failures += 1
                self._warn(watch, str(error) or "no answer in time")
                self._note_first(watch)
            await asyncio.sleep(self._pace.wait(max(failures, 1), self._rng))

    def _note_first(self, watch: _Watch) -> None:
        if not watch.first.done():
            watch.first.set_result(None)

    def _take(self, watch: _Watch, targets: tuple[Target, ...]) -> None:
        urls = urls_of(watch.source, of_family(targets, self._family))
        if not urls:
            self._warn(watch, "no endpoint")
            return
        watch.is_troubled = False
        if urls != watch.urls:
            watch.urls = urls
            log.info("%s: %s", watch.url, ", ".join(urls))
            self._deliver(each for each in self._services if each.membership.sources)

    def _warn(self, watch: _Watch, problem: str) -> None:
        """Warn of a trouble, once until the source tells endpoints again."""
        if not watch.is_troubled:
            kept = "the last endpoints stay" if watch.urls else "there are no endpoints yet"
            log.warning("%s: %s; %s", watch.url, problem, kept)
        watch.is_troubled = True

    def _deliver(self, services: Iterable[Service]) -> None:
        """Give each service what its sources have told."""
        news = False
        for service in services:
            for url in service.membership.sources:
                watch = self._watches.get(url)
                if watch and watch.urls:
                    news |= service.membership.receive(url, watch.urls)
        if news:
            self._follow()
