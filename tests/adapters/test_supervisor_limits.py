"""Rate limits in the supervisor, as a worker sees these: with the supervisor's own counters behind the message."""

import asyncio
import logging
import random

import pytest

from tornado_gateway.adapters.supervisor_limits import Answer, Said, SupervisorLimits
from tornado_gateway.policy.limits.fallback import CLOSED, LOCAL
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.quota import Quota
from tornado_gateway.policy.limits.rules import Rule
from tornado_gateway.policy.limits.verdict import Verdict
from tornado_gateway.supervisor.limits import SharedCounters

RULE, SECOND = (Rule(name, name, Quota(2, 60.0), "gcra") for name in ("a", "b"))
UNKNOWN = Rule("c", "c", Quota(2, 60.0), "gcra")


class Supervisor:
    """Answers workers, unless silent."""

    def __init__(self) -> None:
        self.counters = SharedCounters([RULE, SECOND], lambda: 5.0)
        self.messages: list[int] = []
        self.is_silent = False

    async def ask(self, said: Said, _: float) -> Answer | None:
        self.messages.append(len(said))
        await asyncio.sleep(0)
        return None if self.is_silent else self.counters.judge(said)


def worker(supervisor: Supervisor, on_error: str = CLOSED) -> SupervisorLimits:
    return SupervisorLimits(supervisor.ask, on_error, MemoryStore(random.Random(1)))


async def take(store: SupervisorLimits, key: str, *rules: Rule) -> list[Verdict]:
    taken = store.take([Asked(each, key) for each in rules], 0.0)
    return taken if isinstance(taken, list) else await taken


async def admitted(store: SupervisorLimits, key: str, *rules: Rule) -> bool:
    return not any(judgement.wait for _, judgement in await take(store, key, *rules))


@pytest.mark.gen_test
async def test_workers_share_a_limit_by_one_message_for_a_request() -> None:
    supervisor = Supervisor()
    one, other = worker(supervisor), worker(supervisor)
    assert [await admitted(each, "ada", RULE, SECOND) for each in (one, other, one, other)] == [
        True,
        True,
        False,
        False,
    ]
    assert supervisor.messages == [1] * 4
    assert await admitted(one, "bob", RULE)
    ((rule, judgement),) = await take(other, "bob", RULE)
    assert (rule, judgement.remaining, type(judgement.remaining)) == (RULE, 0, int)
    supervisor.messages.clear()
    await asyncio.gather(*[take(one, "eve", RULE) for _ in range(5)])
    assert supervisor.messages == [5]
    assert supervisor.counters.state.keys == 4
    for each in (one, other):
        await each.close()


@pytest.mark.gen_test
async def test_a_cost_counts_for_all_and_an_unknown_rule_admits() -> None:
    supervisor = Supervisor()
    one, other = worker(supervisor), worker(supervisor)
    one.charge([Asked(RULE, "ada")], 2, 0.0)
    assert await admitted(one, "bob", RULE)  # the messages keep their order
    assert not await admitted(other, "ada", RULE)
    assert await take(one, "ada", UNKNOWN) == []
    for each in (one, other):
        await each.close()


@pytest.mark.gen_test
async def test_while_the_supervisor_is_silent_the_variable_decides(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tornado_gateway.adapters.supervisor_limits.PAUSE", 0.01)
    supervisor = Supervisor()
    supervisor.is_silent = True
    store = worker(supervisor, LOCAL)
    with caplog.at_level(logging.INFO, "tornado_gateway"):
        first, second, third = await asyncio.gather(*[take(store, "ada", RULE) for _ in range(3)])
        assert (first[0][1].wait, second[0][1].wait, third[0][1].wait > 0) == (0.0, 0.0, True)
        assert (store.is_up, store.errors) == (False, 1)
        assert not await admitted(store, "ada", RULE)
        supervisor.is_silent = False
        while not store.is_up:
            await asyncio.sleep(0.01)
        assert await admitted(store, "ada", RULE)
    assert caplog.messages == [
        "the supervisor does not answer; rate limits are counted by each process", "the supervisor answers again",
    ]  # fmt: skip
    await store.close()


@pytest.mark.gen_test
async def test_a_worker_that_stops_asks_no_more() -> None:
    supervisor = Supervisor()
    supervisor.is_silent = True
    store = worker(supervisor, LOCAL)
    await take(store, "ada", RULE)
    await store.close()
