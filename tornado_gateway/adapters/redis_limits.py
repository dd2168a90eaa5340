"""Counters of rate limits in Redis, shared by any number of gateways.

    a batch (batched_limits.py) ──► one pipeline of EVALSHA ──► Redis

The script (limits.lua) counts a request under all its rules in one round trip, by the clock of Redis.
redis_connection.py says when Redis is away, and how long a request may wait for Redis.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tornado_gateway.adapters.batched_limits import BatchedLimits, StoreAway, Waiting
from tornado_gateway.adapters.redis_cluster import TAG
from tornado_gateway.adapters.redis_connection import RedisAway, RedisConnection
from tornado_gateway.policy.limits.algorithms import SLICES, Judgement
from tornado_gateway.policy.limits.fallback import LOCAL, Fallback
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.verdict import Verdict

PREFIX = f"{TAG}:limit:"

MEMORY = "memory"  # a scheme beside the schemes of Redis

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


class RedisStore(BatchedLimits):
    """Counts requests in Redis. Made inside a running event loop.

    Args:
        memory: counts while Redis is away, with LOCAL.
    """

    def __init__(self, connection: RedisConnection, on_error: str, memory: MemoryStore) -> None:
        super().__init__(Fallback(on_error, memory))
        self.connection = connection
        self._script = _SCRIPT.read_text(encoding="ascii")
        self._sha = ""
        connection.meanings.append(lambda: self.fallback.meaning)

    @property
    def is_up(self) -> bool:
        return self.connection.is_up

    @property
    def errors(self) -> int:
        return self.connection.errors

    async def judge(self, batch: list[Waiting]) -> list[list[Verdict]]:
        """As BatchedLimits.judge()."""
        try:
            answers = await self.connection.ask(partial(self._evaluate, batch))
        except RedisAway as error:
            raise StoreAway from error
        return [_verdicts(each.asked, answer) for each, answer in zip(batch, answers, strict=True)]

    async def _evaluate(self, batch: list[Waiting], client: Any) -> list[Any]:
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

    async def _pipeline(self, batch: list[Waiting], client: Any) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for each in batch:
            keys = [f"{PREFIX}{rule.id}:{key}" for rule, key in each.asked]
            arguments = [argument for rule, _ in each.asked for argument in _arguments(rule)]
            pipeline.evalsha(self._sha, len(keys), *keys, *arguments, each.cost)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers


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
