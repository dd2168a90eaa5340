"""Counters of rate limits that another process has: requests wait together for its answer.

    take ──► waiting ──► one batch ──► the store       a request of the next batch waits for this one
                            │ the store is away
                            ▼
                 RATE_LIMIT_ON_ERROR decides at once

Requests that come while a batch is on its way share the next batch, so a loaded gateway asks seldom.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from typing import NamedTuple

from tornado_gateway.errors import LimitsUnavailable
from tornado_gateway.policy.limits.fallback import Fallback
from tornado_gateway.policy.limits.memory import Asked
from tornado_gateway.policy.limits.verdict import Verdict

BATCH = 128  # requests: some 3 ms of Redis


class StoreAway(Exception):
    """The store does not answer."""


class Waiting(NamedTuple):
    """A request that waits.

    Attributes:
        now: seconds on the gateway clock.
        cost: of a request that was admitted; 0 for a request that asks.
    """

    asked: Sequence[Asked]
    now: float
    answer: "asyncio.Future[list[Verdict]]"
    cost: int = 0


class BatchedLimits(ABC):
    """A LimitStore whose counters another process has. Made inside a running event loop.

    Attributes:
        fallback: answers while the store is away.
    """

    def __init__(self, fallback: Fallback) -> None:
        self.fallback = fallback
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Waiting] = []
        self._sender: asyncio.Task[None] | None = None

    @property
    @abstractmethod
    def is_up(self) -> bool:
        """Whether the store has answered the last time."""

    @property
    @abstractmethod
    def errors(self) -> int:
        """How often the store has failed."""

    @abstractmethod
    async def judge(self, batch: list[Waiting]) -> list[list[Verdict]]:
        """What the store says to each request of a batch.

        Raises:
            StoreAway: the store does not answer.
        """

    def take(self, asked: Sequence[Asked], now: float) -> list[Verdict] | Awaitable[list[Verdict]]:
        """As LimitStore.take()."""
        if not self.is_up:
            return self.fallback.take(asked, now)
        return self._wait(Waiting(asked, now, self._loop.create_future()))

    def charge(self, asked: Sequence[Asked], cost: int, now: float) -> None:
        """As LimitStore.charge(). A cost that the store does not take is counted in memory, with LOCAL, or lost."""
        if self.is_up:
            self._wait(Waiting(asked, now, self._loop.create_future(), cost))
        else:
            self.fallback.charge(asked, cost, now)

    def _wait(self, waiting: Waiting) -> "asyncio.Future[list[Verdict]]":
        self._waiting.append(waiting)
        if self._sender is None:
            self._sender = self._loop.create_task(self._send())
        return waiting.answer

    async def close(self) -> None:
        """Leave nothing running."""
        if self._sender:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        for each in self._waiting:
            each.answer.cancel()

    async def _send(self) -> None:
        """Send what waits, batch after batch."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await self._answer(batch)
        finally:
            self._sender = None

    async def _answer(self, batch: list[Waiting]) -> None:
        try:
            answers = await self.judge(batch)
        except StoreAway:
            for each in batch:
                self._answer_alone(each)
            return
        except asyncio.CancelledError:  # the gateway stops
            for each in batch:
                each.answer.cancel()
            raise
        for each, answer in zip(batch, answers, strict=True):
            if not each.answer.done():
                each.answer.set_result(answer)

    def _answer_alone(self, waiting: Waiting) -> None:
        if waiting.answer.done():
            return
        if waiting.cost:
            self.fallback.charge(waiting.asked, waiting.cost, waiting.now)
            waiting.answer.cancel()  # nobody waits
            return
        try:
            waiting.answer.set_result(self.fallback.take(waiting.asked, waiting.now))
        except LimitsUnavailable as error:
            waiting.answer.set_exception(error)
