"""The requests of all workers, as the dashboard of one shows them."""

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tornado_gateway.policy.http.redaction import Redaction
from tornado_gateway.policy.views.collecting import Sources, collect
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.request_tail import PER_LOOK, Ended, RequestTail
from tornado_gateway.upkeep.link import Link
from tornado_gateway.upkeep.observer import Observer
from tornado_gateway.upkeep.whole import Whole
from tornado_gateway.upkeep.whole_tail import WholeTail

GOOD = Ended(10.0, 200, "", b"GET", b"/x", "svc", "http://10.0.0.7", 1, 0.25, "192.0.2.7", "", b"r1")


@pytest.mark.gen_test
async def test_viewers_see_the_requests_of_all_workers_and_without_a_viewer_nobody_is_asked() -> None:
    tails = [RequestTail(Redaction(), 1.0, worker, 2) for worker in (0, 1)]
    asked: list[Sequence[int]] = []

    def newer(newest: Sequence[int]) -> list[Any]:
        asked.append(newest)
        return [tail.rows(each) for tail, each in zip(tails, newest, strict=True)]

    one, other = socket.socketpair()
    whole, supervisor = Whole(count=2), await Link({"newer-requests": newer}, lambda: None).open(other)
    whole.link = await Link({}, lambda: None).open(one)
    sources = Sources([], Durations())
    tail = WholeTail(tails[0], whole)
    observer = Observer(lambda: collect(sources, 0.0), {}, time.monotonic, tail=tail)

    def numbers(text: str) -> list[int]:
        data = text.partition("data: ")[2]
        return [row[0] for row in json.loads(data)["requests"]]

    tails[0].keep(GOOD, 1.0)
    tails[1].keep(GOOD, 1.001)
    await observer.look(tells=True)
    assert asked == []
    assert tails[0].room == PER_LOOK  # the look of this worker has made room, and that of the other is its own
    assert tails[1].room == PER_LOOK - 1
    viewer = await observer.join()
    assert numbers(await anext(viewer)) == [200_000, 200_201]
    tails[1].keep(GOOD, 1.002)
    await observer.look(tells=True)
    assert numbers(await anext(viewer)) == [200_401]
    assert asked == [[0, 0], [200_000, 200_201]]
    assert numbers(await anext(await observer.join())) == [200_000, 200_201, 200_401]
    whole.link.close()
    supervisor.close()
    await asyncio.sleep(0)
