"""Counters of rate limits in Redis, shared by any number of gateways.

    take ──► waiting ──► one pipeline of EVALSHA ──► Redis      a request of the next pipeline waits for this one
                                │ Redis is away
                                ▼
                     RATE_LIMIT_ON_ERROR decides at once

The script (limits.lua) counts a request under all its rules in one round trip, by the clock of Redis. Requests that
come while a pipeline is on its way share the next pipeline, so a loaded gateway has few round trips.
redis_connection.py says when Redis is away, and how long a request may wait for Redis.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tornado_gateway.adapters.redis_cluster import TAG
from tornado_gateway.adapters.redis_connection import RedisAway, RedisConnection
from tornado_gateway.errors import LimitsUnavailable
from tornado_gateway.policy.limits.algorithms import SLICES, Judgement
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.verdict import Verdict

BATCH = 128  # requests of a pipeline: some 3 ms of Redis
PREFIX = f"{TAG}:limit:"

MEMORY = "memory"  # a scheme beside the schemes of Redis
LOCAL, OPEN, CLOSED = "local", "open", "closed"  # values of RATE_LIMIT_ON_ERROR

_SCRIPT = Path(__file__).with_name("limits.lua")


@dataclass(frozen=True, slots=True)
class LimitStoreConfig:
    """Where the counters are.

    Attributes:
        url: of Redis, or of the scheme MEMORY; "" for REDIS_URL, or the memory of the process.
        on_error: LOCAL, OPEN or CLOSED: what happens while Redis is away.
    """

    url: str = field(default="", repr=False)
    on_error: str = LOCAL


class _Waiting(NamedTuple):
    asked: Sequence[Asked]
    now: float
    answer: "asyncio.Future[list[Verdict]]"
    cost: int = 0  # of a request that was admitted; 0 for a request that asks


class RedisStore:
    """Counts requests in Redis. Made inside a running event loop.

    Args:
        memory: counts while Redis is away, with LOCAL.

    Attributes:
        on_error: LOCAL, OPEN or CLOSED: what happens while Redis is away.
    """

    def __init__(self, connection: RedisConnection, on_error: str, memory: MemoryStore) -> None:
        self.connection, self.on_error, self._memory = connection, on_error, memory
        self._script = _SCRIPT.read_text(encoding="ascii")
        self._sha = ""
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._sender: asyncio.Task[None] | None = None
        connection.meanings.append(f"rate limits are {_MEANINGS[on_error]}")

    def take(self, asked: Sequence[Asked], now: float) -> list[Verdict] | Awaitable[list[Verdict]]:
        """As LimitStore.take()."""
        if not self.connection.is_up:
            return self._without_redis(asked, now)
        return self._wait(_Waiting(asked, now, self._loop.create_future()))

    def charge(self, asked: Sequence[Asked], cost: int, now: float) -> None:
        """As LimitStore.charge(). A cost that Redis does not take is counted in memory, with LOCAL, or lost."""
        waiting = _Waiting(asked, now, self._loop.create_future(), cost)
        if self.connection.is_up:
            self._wait(waiting)
        else:
            self._answer_without_redis(waiting)

    def _wait(self, waiting: _Waiting) -> "asyncio.Future[list[Verdict]]":
        self._waiting.append(waiting)
        if self._sender is None:
            self._sender = self._loop.create_task(self._send())
        return waiting.answer

    async def close(self) -> None:
        """Leave nothing running. The connection stays."""
        if self._sender:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        for each in self._waiting:
            each.answer.cancel()

    # ---- Redis answers

    async def _send(self) -> None:
        """Send what waits, pipeline after pipeline."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await self._answer(batch)
        finally:
            self._sender = None

    async def _answer(self, batch: list[_Waiting]) -> None:
        try:
            answers = await self.connection.ask(partial(self._evaluate, batch))
        except RedisAway:
            for each in batch:
                self._answer_without_redis(each)
            return
        except asyncio.CancelledError:  # the gateway stops
            for each in batch:
                each.answer.cancel()
            raise
        for each, answer in zip(batch, answers, strict=True):
            if not each.answer.done():
                each.answer.set_result(_verdicts(each.asked, answer))

    async def _evaluate(self, batch: list[_Waiting], client: Any) -> list[Any]:
        if not self._sha:
            self._sha = await client.script_load(self._script)
        answers = await self._pipeline(batch, client)
        unknown = [index for index, answer in enumerate(answers) if _is_unknown_script(answer)]
        if unknown:  # Redis has restarted, or SCRIPT FLUSH was called
            await client.script_load(self._script)
            again = await self._pipeline([batch[index] for index in unknown], client)
            for index, answer in zip(unknown, again, strict=True):
                answers[index] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _pipeline(self, batch: list[_Waiting], client: Any) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for each in batch:
            keys = [f"{PREFIX}{rule.id}:{key}" for rule, key in each.asked]
            arguments = [argument for rule, _ in each.asked for argument in _arguments(rule)]
            pipeline.evalsha(self._sha, len(keys), *keys, *arguments, each.cost)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    # ---- Redis is away

    def _without_redis(self, asked: Sequence[Asked], now: float) -> list[Verdict]:
        if self.on_error == LOCAL:
            return self._memory.take(asked, now)
        if self.on_error == CLOSED:
            raise LimitsUnavailable
        return []

    def _answer_without_redis(self, waiting: _Waiting) -> None:
        if waiting.answer.done():
            return
        if waiting.cost:
            if self.on_error == LOCAL:
                self._memory.charge(waiting.asked, waiting.cost, waiting.now)
            waiting.answer.cancel()  # nobody waits
            return
        try:
            waiting.answer.set_result(self._without_redis(waiting.asked, waiting.now))
        except LimitsUnavailable as error:
            waiting.answer.set_exception(error)


_MEANINGS = {LOCAL: "counted by each process", OPEN: "off", CLOSED: "a 503 for every request"}


def _arguments(rule: Any) -> tuple[object, ...]:
    quota = rule.quota
    size = SLICES if rule.algorithm_name == "sliding" else quota.burst or quota.limit
    return rule.algorithm_name, quota.limit, round(quota.window * 1_000_000), size


def _verdicts(asked: Sequence[Asked], answer: Sequence[Sequence[int]]) -> list[Verdict]:
    return [
        (rule, Judgement(wait / 1e6, remaining, renewal / 1e6, reset / 1e6))
        for (rule, _), (wait, remaining, renewal, reset) in zip(asked, answer, strict=True)
    ]


def _is_unknown_script(answer: object) -> bool:
    return isinstance(answer, Exception) and type(answer).__name__ == "NoScriptError"
