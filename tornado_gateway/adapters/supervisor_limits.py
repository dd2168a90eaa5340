"""Counters of rate limits that the supervisor of several workers has.

    a batch (batched_limits.py) ──► one message ──► the supervisor (supervisor/limits.py)

A request with one rule or with ten costs a part of one message to the supervisor and of one answer. No request waits
longer than TIMEOUT, and once the supervisor has not answered, no request waits until the supervisor answers again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from tornado_gateway.adapters.batched_limits import BatchedLimits, StoreAway, Waiting
from tornado_gateway.policy.limits.algorithms import Judgement
from tornado_gateway.policy.limits.fallback import Fallback
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.verdict import Verdict

TIMEOUT = 0.25  # seconds, as for Redis
PAUSE = 0.5  # seconds between two questions to a supervisor that does not answer

log = logging.getLogger("tornado_gateway")

Said = list[list[int | str]]  # of each request: the cost, then the id of each rule and the key
Answer = list[list[float] | None]  # of each request: four numbers for each rule; None for a rule that is unknown
Ask = Callable[[Said, float], Awaitable[Answer | None]]


class SupervisorLimits(BatchedLimits):
    """Counts requests in the supervisor. Made inside a running event loop.

    Args:
        ask: asks the supervisor; None for no answer within a number of seconds.
        memory: counts while the supervisor does not answer, with LOCAL.
    """

    def __init__(self, ask: Ask, on_error: str, memory: MemoryStore) -> None:
        super().__init__(Fallback(on_error, memory))
        self._ask = ask
        self._healer: asyncio.Task[None] | None = None
        self._errors = 0

    @property
    def is_up(self) -> bool:
        return self._healer is None

    @property
    def errors(self) -> int:
        return self._errors

    async def judge(self, batch: list[Waiting]) -> list[list[Verdict]]:
        """As BatchedLimits.judge()."""
        said = [_said(each) for each in batch]
        answers = await self._ask(said, TIMEOUT) if self.is_up else None
        if answers is None:
            self._begin_to_heal()
            raise StoreAway
        return [_verdicts(each.asked, answer) for each, answer in zip(batch, answers, strict=True)]

    async def close(self) -> None:
        await super().close()
        if self._healer:
            self._healer.cancel()
            await asyncio.wait([self._healer])

    def _begin_to_heal(self) -> None:
        if self._healer is None:
            self._errors += 1
            log.warning("the supervisor does not answer; %s", self.fallback.meaning)
            self._healer = self._loop.create_task(self._heal())

    async def _heal(self) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            if await self._ask([], TIMEOUT) is not None:
                break
        self._healer = None
        log.info("the supervisor answers again")


def _said(waiting: Waiting) -> list[int | str]:
    said: list[int | str] = [waiting.cost]
    for rule, key in waiting.asked:
        said += (rule.id, key)
    return said


def _verdicts(asked: Sequence[Asked], answer: Sequence[float] | None) -> list[Verdict]:
    """The verdicts of an answer; none about a request whose rules the supervisor does not know, during a reload."""
    if answer is None:
        return []
    return [
        (rule, Judgement(answer[at], int(answer[at + 1]), answer[at + 2], answer[at + 3]))
        for at, (rule, _) in zip(range(0, len(answer), 4), asked, strict=True)
    ]
