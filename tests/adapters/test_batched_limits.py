"""Requests that wait together for the answer of a store. The stores themselves: test_redis_limits.py and others."""

import asyncio
import random

import pytest

from tornado_gateway.adapters.batched_limits import BATCH, BatchedLimits, StoreAway, Waiting
from tornado_gateway.policy.limits.algorithms import Judgement
from tornado_gateway.policy.limits.fallback import OPEN, Fallback
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.quota import Quota
from tornado_gateway.policy.limits.rules import Rule
from tornado_gateway.policy.limits.verdict import Verdict

RULE = Rule("a", "a", Quota(1, 60.0), "gcra")


class Recorded(BatchedLimits):
    """Admits everything, and writes the batches down."""

    is_up = True
    errors = 0

    def __init__(self) -> None:
        super().__init__(Fallback(OPEN, MemoryStore(random.Random(1))))
        self.batches: list[int] = []
        self.is_away = False
        self.may_answer = asyncio.Event()

    async def judge(self, batch: list[Waiting]) -> list[list[Verdict]]:
        self.batches.append(len(batch))
        await self.may_answer.wait()
        if self.is_away:
            raise StoreAway
        return [[(rule, Judgement(0.0, 1, 0.0, 0.0)) for rule, _ in each.asked] for each in batch]


def take(store: Recorded) -> "asyncio.Future[list[Verdict]]":
    taken = store.take([Asked(RULE, "ada")], 0.0)
    assert isinstance(taken, asyncio.Future)
    return taken


@pytest.mark.gen_test
async def test_requests_of_a_moment_share_a_batch_and_those_behind_wait_for_the_next() -> None:
    store = Recorded()
    first = [take(store) for _ in range(3)]
    await asyncio.sleep(0)
    behind = [take(store) for _ in range(BATCH + 1)]
    store.may_answer.set()
    for each in await asyncio.gather(*first, *behind):
        assert each[0][0] is RULE
    assert store.batches == [3, BATCH, 1]
    await store.close()


@pytest.mark.gen_test
async def test_a_store_that_goes_away_leaves_the_batch_to_the_fallback() -> None:
    store = Recorded()
    store.is_away = True
    asked = take(store)
    store.charge([Asked(RULE, "ada")], 3, 0.0)
    store.may_answer.set()
    assert await asked == []
    await store.close()


@pytest.mark.gen_test
async def test_nobody_waits_for_a_store_that_is_closed() -> None:
    store = Recorded()
    asked = take(store)
    await asyncio.sleep(0)
    behind = take(store)
    await store.close()
    assert asked.cancelled() and behind.cancelled()
