"""What the supervisor adds up, passes on and keeps for later, with workers in miniature."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tornado_gateway.policy.views.state import ProcessState, State, from_plain, to_plain
from tornado_gateway.supervisor.hub import Hub
from tornado_gateway.upkeep.link import Link


class Workers:
    """Workers that count requests and write down their orders."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.counts, self.orders = hub, {0: 3, 1: 4}, list[tuple[int, Any]]()
        self.asked = 0
        self._ends: list[Link] = []

    async def open(self, number: int) -> None:
        def figures(_: object) -> list[Any]:
            state = State(reasons={"a ": self.counts[number]}, process=ProcessState(clients=1))
            return to_plain(state)

        def order(said: Any) -> int:
            self.orders.append((number, said))
            return number

        answers: dict[str, Callable[[Any], Any]] = {
            "figures": figures, "order": order, "streams": lambda query: [number, query],
            "pressure": lambda with_heap: [number, with_heap], "readiness": self._readiness,
            "memory": lambda _: {"sessions": [number]},
        }  # fmt: skip
        one, other = socket.socketpair()
        self.hub.links[number] = await Link({}, lambda: None).open(one)
        self._ends += [self.hub.links[number], await Link(answers, lambda: None).open(other)]

    async def _readiness(self, _: object) -> str:
        if self.asked:
            await asyncio.Event().wait()  # a worker that hangs
        self.asked += 1
        return "ready"

    async def close(self) -> None:
        for each in self._ends:
            each.close()
        await asyncio.sleep(0)


async def figures(hub: Hub, *, with_each: bool = True) -> tuple[int, int]:
    said = await hub.answers["state"]([True, with_each])
    state = from_plain(said)
    return state.reasons.get("a ", 0), state.process.clients


@pytest.mark.gen_test
async def test_totals_never_go_back_and_a_worker_that_has_ended_has_no_clients() -> None:
    hub = Hub(lambda: 1.0)
    workers = Workers(hub)
    assert await figures(hub) == (0, 0)
    await workers.open(0)
    await workers.open(1)
    assert await figures(hub) == (7, 2)
    assert await figures(hub, with_each=False) == (7, 2)
    workers.counts[0] = 100
    assert await figures(hub, with_each=False) == (7, 2)  # a look of this moment is for all
    hub.links[0].close()  # the worker hangs, or has ended: what was known counts
    assert await figures(hub) == (7, 2)
    hub.forget(0)
    assert await figures(hub) == (7, 1)
    workers.counts[0] = 0
    await workers.open(0)
    assert await figures(hub) == (7, 2)
    await workers.close()


@pytest.mark.gen_test
async def test_figures_tell_how_many_workers_answer_of_how_many_and_what_has_crashed() -> None:
    now = 1.0
    hub = Hub(lambda: now, workers=2)
    workers = Workers(hub)
    await workers.open(0)
    await workers.open(1)

    async def told(*, with_each: bool = True) -> tuple[dict[str, int], int]:
        process = from_plain(await hub.answers["state"]([False, with_each])).process
        return process.workers, process.crashes

    assert await told() == await told(with_each=False) == ({"wanted": 2, "answering": 2}, 0)
    hub.links[0].close()  # hangs
    now, hub.crashes = 2.0, 1
    assert await told() == await told(with_each=False) == ({"wanted": 2, "answering": 1}, 1)
    hub.forget(0)
    assert await told() == ({"wanted": 2, "answering": 1}, 1)
    await workers.close()


@pytest.mark.gen_test
async def test_an_order_reaches_all_others_and_workers_that_start_later() -> None:
    hub = Hub(lambda: 1.0)
    workers = Workers(hub)
    await workers.open(0)
    await workers.open(1)
    assert await hub.order(0, "act", "drain", "billing") == [1]
    assert await hub.order(1, "act", "weight", "billing") == [0]
    assert await hub.order(1, "close", 7, "") == [0]
    assert workers.orders == [(1, ["act", "drain"]), (0, ["act", "weight"]), (0, ["close", 7])]
    assert hub.for_newcomers["orders"] == {"act": ["weight"]}
    assert await hub.answers["streams"]("q") == [[0, "q"], [1, "q"]]
    assert await hub.memory() == {"sessions": [0], "tickets": []}
    await workers.close()
    assert await hub.order(0, "act", "drain", "") == []
    assert await hub.memory() == {}


@pytest.mark.gen_test
async def test_a_probe_asks_each_worker_seldom_and_waits_for_none_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tornado_gateway.supervisor.hub.PROBE", 0.05)
    now = 1.0
    hub = Hub(lambda: now)
    workers = Workers(hub)
    await workers.open(0)
    await workers.open(1)
    for with_heap in (False, True):
        assert await hub.answers["pressure"](with_heap) == [(0, [0, with_heap]), (1, [1, with_heap])]
    for _ in range(3):
        assert await hub.answers["readiness"](None) == [(0, "ready")]
    assert workers.asked == 1
    now = 2.0
    assert await hub.answers["readiness"](None) == []
    await workers.close()


@pytest.mark.gen_test
async def test_log_ins_are_counted_for_all_workers_together() -> None:
    hub = Hub(lambda: 1.0)
    attempt = hub.answers["attempt"]
    for _ in range(10):
        assert attempt("203.0.113.7") == [0.0, 1.0]
    wait, _ = attempt("203.0.113.7")
    assert wait > 0
    hub.answers["succeeded"](["203.0.113.7", 1.0])
    assert attempt("203.0.113.7") == [0.0, 1.0]


@pytest.mark.gen_test
async def test_kept_orders_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tornado_gateway.supervisor.hub.MOST_ORDERS", 2)
    hub = Hub(lambda: 1.0)
    for number in range(4):
        await hub.order(0, "log-in", number, str(number))
    assert hub.for_newcomers["orders"] == {"log-in": [2, 3]}


@pytest.mark.gen_test
async def test_tickets_of_a_predecessor_are_good_until_these_are_too_old() -> None:
    now = 5.0
    hub = Hub(lambda: now)
    hub.remember({"tickets": [["first", 20.0, "\xe9"], ["late", 6.0, ""]]})
    now = 7.0
    hub.sweep()
    taken = [hub.answers["take-ticket"](digest) for digest in ("first", "first", "late")]
    assert taken == ["\xe9", None, None]


@pytest.mark.gen_test
async def test_a_newcomer_learns_no_log_in_and_no_level_that_a_reload_has_ended() -> None:
    hub = Hub(lambda: 1.0)
    hub.remember({"sessions": [1], "revocations": [2]})
    for name in ("log-in", "log-level", "act"):
        await hub.order(0, name, name, "key")
    hub.forget_what_ends(log_ins=False, level=False)
    assert set(hub.for_newcomers["orders"]) == {"log-in", "log-level", "act"}
    hub.forget_what_ends(log_ins=True, level=True)
    assert hub.for_newcomers == {"revocations": [2], "orders": {"act": ["act"]}, "began": 1.0}
