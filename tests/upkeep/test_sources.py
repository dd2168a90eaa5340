"""Sources are asked as long as services name the sources, and a failing source waits longer and longer."""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator

import pytest
from tornado.ioloop import IOLoop

from tests.support.services import service
from tests.support.sockets import eventually
from tornado_gateway.policy.upstream.hosts import Family
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.sources import Kind, Source, SourceFailed, Target
from tornado_gateway.upkeep import sources as module
from tornado_gateway.upkeep.sources import Pace, Sources

URL, OTHER = "consul+http://billing", "consul+http://search"


def naming(*urls: str) -> Service:
    """A service whose endpoints are those of sources."""
    made = service()
    made.membership.configure(dict.fromkeys(urls, 1))
    return made


class Feeds:
    """Feeds that answer as a test says.

    Attributes:
        running: names of the sources that are asked now.
        news: targets or a problem, by name, one after the other.
    """

    def __init__(self) -> None:
        self.running: list[str] = []
        self.news: dict[str, asyncio.Queue[tuple[Target, ...] | Exception]] = {}

    def __call__(self, source: Source) -> "_Feed":
        self.news.setdefault(source.name, asyncio.Queue())
        return _Feed(self, source.name)

    def say(self, name: str, *hosts: str) -> None:
        self.news[name].put_nowait(tuple(Target(host, 80) for host in hosts))


class _Feed:
    def __init__(self, feeds: Feeds, name: str) -> None:
        self._feeds, self._name = feeds, name

    async def answers(self) -> AsyncGenerator[tuple[Target, ...], None]:
        self._feeds.running.append(self._name)
        try:
            while True:
                said = await self._feeds.news[self._name].get()
                if isinstance(said, Exception):
                    raise said
                yield said
        finally:
            self._feeds.running.remove(self._name)


class Stage:
    def __init__(self) -> None:
        self.feeds = Feeds()
        self.services: list[Service] = []
        self.followed = 0
        quick = Pace(shortest=0.0, retry=0.001, longest_retry=0.001)
        self.sources = Sources(
            self.services, {Kind.CONSUL: self.feeds}, self._follow, Family.AUTO, random.Random(1), quick
        )

    def _follow(self) -> None:
        self.followed += 1

    async def asks(self, *names: str) -> None:
        self.sources.sweep(0.0)
        await eventually(lambda: sorted(self.feeds.running) == sorted(names))


@pytest.fixture
def stage(io_loop: IOLoop) -> Iterator[Stage]:
    made: list[Stage] = []

    async def make() -> None:
        made.append(Stage())

    io_loop.asyncio_loop.run_until_complete(make())
    yield made[0]
    io_loop.asyncio_loop.run_until_complete(made[0].sources.close())


@pytest.mark.gen_test
async def test_a_source_is_asked_once_for_all_services_and_until_none_names_it(stage: Stage) -> None:
    one, two, plain = naming(URL), naming(URL, OTHER), service(1)
    stage.services += [one, two, plain]
    await stage.asks("billing", "search")
    stage.feeds.say("billing", "a")
    await eventually(lambda: stage.followed == 1)
    assert one.membership.wanted() == two.membership.wanted() == {"http://a:80": 1}
    stage.services.remove(two)
    await stage.asks("billing")
    stage.services.clear()
    await stage.asks()


@pytest.mark.gen_test
async def test_a_later_service_gets_what_the_source_has_told_before(stage: Stage) -> None:
    stage.services.append(naming(URL))
    await stage.asks("billing")
    stage.feeds.say("billing", "a")
    await eventually(lambda: stage.followed == 1)
    late = naming(URL)
    stage.services.append(late)
    stage.sources.sweep(0.0)
    assert (late.membership.wanted(), stage.followed) == ({"http://a:80": 1}, 2)
    stage.sources.sweep(0.0)
    assert stage.followed == 2


@pytest.mark.gen_test
async def test_a_trouble_is_told_once_until_endpoints_come_again(stage: Stage, caplog) -> None:
    stage.services.append(naming(URL))
    await stage.asks("billing")
    for _ in range(3):
        stage.feeds.news["billing"].put_nowait(SourceFailed("away"))
    stage.feeds.say("billing", "a")
    await eventually(lambda: stage.followed == 1)
    stage.feeds.say("billing")
    stage.feeds.news["billing"].put_nowait(TimeoutError())
    stage.feeds.say("billing", "b")
    await eventually(lambda: stage.followed == 2)
    assert [each.getMessage() for each in caplog.records if each.levelname == "WARNING"] == [
        f"{URL}: away; there are no endpoints yet", f"{URL}: no endpoint; the last endpoints stay",
    ]  # fmt: skip


@pytest.mark.gen_test
async def test_a_target_that_is_no_host_is_a_trouble(stage: Stage, caplog) -> None:
    stage.services.append(naming(URL))
    await stage.asks("billing")
    stage.feeds.say("billing", "a b")
    stage.feeds.say("billing", "a")
    await eventually(lambda: stage.followed == 1)
    assert len(caplog.records) == 1


@pytest.mark.gen_test
async def test_the_first_answer_or_failure_of_each_source_is_awaited(stage: Stage) -> None:
    await stage.sources.first_answers()
    one = naming(URL, OTHER)
    stage.services.append(one)
    waiting = asyncio.ensure_future(stage.sources.first_answers())
    await eventually(lambda: len(stage.feeds.running) == 2)
    stage.feeds.say("billing", "a")
    await eventually(one.membership.wanted)
    assert not waiting.done()
    stage.feeds.news["search"].put_nowait(SourceFailed("away"))
    await waiting


@pytest.mark.gen_test
async def test_a_silent_source_is_not_awaited_for_ever(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_ANSWER", 0.01)
    stage.services.append(naming(URL))
    await stage.sources.first_answers()
    assert stage.feeds.running == ["billing"]


@pytest.mark.gen_test
async def test_nothing_is_asked_after_the_end(stage: Stage) -> None:
    stage.services.append(naming(URL))
    await stage.asks("billing")
    await stage.sources.close()
    await stage.asks()


def test_a_source_that_fails_waits_longer_and_longer() -> None:
    pace, rng = Pace(retry=1.0, longest_retry=30.0, jitter=0.0), random.Random(1)
    assert [pace.wait(failures, rng) for failures in (1, 2, 3, 5, 6, 10_000)] == [1, 2, 4, 16, 30, 30]
    assert all(30.0 <= Pace(jitter=0.2).wait(9, rng) <= 36.0 for _ in range(100))
