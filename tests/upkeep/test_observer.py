"""The observer: one look for all viewers, a bound for slow viewers, and ids by which a viewer comes back."""

import asyncio
import json
import math
import random
import time
from dataclasses import replace
from typing import Any

import pytest

from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.policy.views.collecting import Sources, collect
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.state import State
from tornado_gateway.upkeep import observer as observing
from tornado_gateway.upkeep.observer import BEHIND, KEPT, LONGEST_UNSEEN, Observer, Viewer, pause_of_all
from tornado_gateway.upkeep.shared import in_slices


def make_service(name: str = "svc", url: str = "http://host:80") -> Service:
    rng = random.Random(1)
    return Service(name, [Endpoint(url, Breaker(BreakerConfig(), rng))], BALANCERS["round_robin"](rng), ServiceConfig())


class Watched:
    """An observer of services, and the things that the observer looks at."""

    def __init__(self, *others: Service) -> None:
        self.service = make_service()
        self.durations = Durations()
        sources = Sources([self.service, *others], self.durations)
        self.observer = Observer(lambda: collect(sources, 0.0), {"version": "1"}, time.monotonic)


def parsed(text: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The fields of an event, and its data."""
    assert text.endswith("\n\n") and "\n\n" not in text[:-2]
    fields = dict(line.split(": ", 1) for line in text.splitlines() if line)
    return fields, json.loads(fields["data"])


async def heard(viewer: Viewer) -> tuple[dict[str, str], dict[str, Any]]:
    return parsed(await asyncio.wait_for(anext(viewer), 30))


@pytest.mark.gen_test
async def test_a_viewer_gets_everything_first_and_differences_after() -> None:
    watched = Watched()
    viewer = await watched.observer.join()
    fields, whole = await heard(viewer)
    assert (fields["event"], whole["about"]) == ("whole", {"version": "1"})
    assert whole["sentence"] == "All 1 endpoints of 1 services are up"
    assert list(whole["endpoints"]) == ["svc http://host:80"] and list(whole["services"]) == ["svc"]
    assert len(whole["endpoints"]["svc http://host:80"]) == len(whole["columns"]["endpoints"])
    watched.service.endpoints[0].checks_pass = False
    watched.durations.add(b"GET", "/api/<service>/*", 200, 0.01, "svc")
    await watched.observer.look(tells=True)
    fields, change = await heard(viewer)
    assert fields["event"] == "change" and fields["id"].endswith("-1")
    assert [each["text"] for each in change["events"]] == ["svc http://host:80 is out", "svc is down"]
    assert set(change["endpoints"]["rows"]) == {"svc http://host:80"} and change["endpoints"]["gone"] == []
    assert change["points"][0][1] > 0
    await watched.observer.look(tells=True)
    assert (await heard(viewer))[1]["endpoints"]["rows"] == {}  # nothing has changed


@pytest.mark.gen_test
async def test_when_a_thousand_services_change_a_difference_stays_small_and_all_is_told_at_last() -> None:
    others = [
        make_service(f"service-{number}", f"http://10.0.{number // 250}.{number % 250}:80") for number in range(1000)
    ]
    watched = Watched(*others)
    viewer, rows = await watched.observer.join(), dict[str, Any]()
    _, whole = await heard(viewer)
    for each in others:
        each.endpoints[0].checks_pass = False
    told, looks = {"services": whole["services"], "endpoints": whole["endpoints"]}, 0
    while looks < 20:
        looks += 1
        await watched.observer.look(tells=True)
        text = await anext(viewer)
        assert len(text) <= 50 * 1024
        for table in told:
            told[table] |= parsed(text)[1][table]["rows"]
        rows = {key: json.loads(row.text) for key, row in watched.observer.board.endpoints.items()}
        if told["endpoints"] == rows:
            break
    assert told["endpoints"] == rows
    assert told["services"] == {key: json.loads(row.text) for key, row in watched.observer.board.services.items()}
    assert sum(row[2] == "out" for row in rows.values()) == 1000


@pytest.mark.gen_test
async def test_all_viewers_get_the_same_texts_of_the_same_look() -> None:
    watched = Watched()
    viewers = [await watched.observer.join() for _ in range(100)]
    for viewer in viewers:
        await anext(viewer)
    await watched.observer.look(tells=True)
    texts = [await anext(viewer) for viewer in viewers]
    assert len({id(text) for text in texts}) == 1


@pytest.mark.gen_test
async def test_a_viewer_that_does_not_read_takes_no_memory_and_then_gets_everything_anew() -> None:
    watched = Watched()
    viewer = await watched.observer.join()
    await anext(viewer)
    for _ in range(1000):
        await watched.observer.look(tells=True)
        assert len(viewer._texts) <= BEHIND
    assert (await heard(viewer))[0]["event"] == "whole"
    await watched.observer.look(tells=True)
    assert (await heard(viewer))[0]["event"] == "change"


@pytest.mark.gen_test
async def test_a_viewer_that_comes_back_gets_what_was_missed() -> None:
    watched = Watched()
    stays, leaves = await watched.observer.join(), await watched.observer.join()
    await anext(stays), await anext(leaves)
    await watched.observer.look(tells=True)
    last = (await heard(leaves))[0]["id"]
    watched.observer.leave(leaves)
    for _ in range(3):
        await watched.observer.look(tells=True)
    back = await watched.observer.join(last)
    assert [(await heard(back))[0]["id"] for _ in range(3)] == [f"{last[:-1]}{number}" for number in (2, 3, 4)]


@pytest.mark.parametrize("last", ["", "other-7", "\n\nevent: x", "x" * 10_000])
@pytest.mark.gen_test
async def test_an_id_that_is_unknown_or_too_old_gets_everything(last: str) -> None:
    watched = Watched()
    await watched.observer.join()
    for _ in range(KEPT + 1):
        await watched.observer.look(tells=True)
    for unknown in (last, watched.observer._id.replace(f"-{KEPT + 1}", "-1")):
        assert (await heard(await watched.observer.join(unknown)))[0]["event"] == "whole"


@pytest.mark.gen_test
async def test_after_a_time_without_viewers_the_first_viewer_gets_the_present_rows() -> None:
    watched = Watched()
    first = await watched.observer.join()
    fields, _ = await heard(first)
    watched.observer.leave(first)
    watched.service.endpoints[0].checks_pass = False
    fields, whole = await heard(await watched.observer.join(fields["id"]))
    assert fields["event"] == "whole" and whole["sentence"].startswith("svc: 1 of 1 endpoints is out")


@pytest.mark.gen_test
async def test_the_observer_looks_by_itself_and_closing_ends_every_viewer() -> None:
    watched = Watched()
    viewer = await watched.observer.join()
    await anext(viewer)
    watched.observer.start()
    assert (await heard(viewer))[0]["event"] == "change"
    watched.observer.close()
    assert [text async for text in viewer] == []
    assert [parsed(text)[0]["event"] async for text in await watched.observer.join()] == ["whole"]


# ---- several workers


async def state_of(endpoints: int, processes: int) -> State:
    services = [make_service(f"service-{number}") for number in range(endpoints)]
    state = await in_slices(collect(Sources(services, Durations()), 0.0), time.monotonic)
    return replace(state, process=replace(state.process, build={"1.0.0 3.13.0 uvloop": processes}))


@pytest.mark.parametrize(
    ("endpoints", "processes", "seconds"),
    [(1, 2, 0.01), (100, 2, 1.0), (100, 4, 2.0), (1000, 2, 10.0), (1001, 2, LONGEST_UNSEEN), (0, 0, 0.0)],
)
@pytest.mark.gen_test
async def test_looks_at_all_workers_are_the_rarer_the_more_there_is_to_gather(
    endpoints: int, processes: int, seconds: float
) -> None:
    assert pause_of_all(await state_of(endpoints, processes)) == pytest.approx(seconds)


@pytest.mark.gen_test
async def test_a_viewer_ends_the_pause_of_workers_that_nobody_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "COST", 1.0)
    monkeypatch.setattr(observing, "LONGEST_UNSEEN", math.inf)
    state = await state_of(1000, 2)

    async def gather() -> State:
        return state

    observer = Observer(lambda: collect(Sources([], Durations()), 0.0), {}, time.monotonic, gather=gather)
    observer.start()
    while not observer.board.endpoints:
        await asyncio.sleep(0)
    viewer = await observer.join()
    assert (await heard(viewer))[0]["event"] == "whole"
    assert (await heard(viewer))[0]["event"] == "change"  # and not after a day
    observer.close()
