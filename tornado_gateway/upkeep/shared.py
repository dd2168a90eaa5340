"""A long computation, made in slices for everybody who asks within a second.

A page about a thousand endpoints takes some 50 milliseconds. Computed at once, these would delay every other request.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from tornado_gateway.policy.views.steps import Steps

SLICE = 0.004  # seconds of a slice; a request that comes meanwhile waits half of it, on average
KEPT = 1.0  # seconds from the beginning of a computation during which its result is given to others

# Steps that are made at once, in some 5 ms. A result that needs no more steps is not shared: a small gateway's page is
# always of the instant of the request.
AT_ONCE = 200

T = TypeVar("T")


class Shared(Generic[T]):
    """The result of a computation. Made inside a running event loop.

    Args:
        begin: begins the computation.
        now: seconds on a monotonic clock.
    """

    def __init__(self, begin: Callable[[], Steps[T]], now: Callable[[], float]) -> None:
        self._begin, self._now = begin, now
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[T] | None = None
        self._began = 0.0

    async def get(self) -> T:
        """The result: of a computation under way, of a computation that began within KEPT, or of a new one.

        Raises:
            Exception: the computation has failed. The next call begins anew.
        """
        if self._task is None or not self._is_fresh(self._task):
            steps = self._begin()
            try:
                for _ in range(AT_ONCE):
                    next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            self._began, self._task = self._now(), self._loop.create_task(in_slices(steps, self._now))
        return await asyncio.shield(self._task)  # who leaves does not end the computation for others

    def close(self) -> None:
        """End the computation under way."""
        if self._task:
            self._task.cancel()

    def _is_fresh(self, task: "asyncio.Task[T]") -> bool:
        if not task.done():
            return True
        return not task.cancelled() and task.exception() is None and self._now() - self._began < KEPT


class Look(Generic[T]):
    """What others say, asked for at most once in a time, whoever wants to know.

    Args:
        ask: asks the others; raises nothing.
        now: seconds on a monotonic clock.
        kept: seconds from a question during which its answer is given.
    """

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]], now: Callable[[], float], kept: float) -> None:
        self._ask, self._now, self._kept = ask, now, kept
        self._began = 0.0
        self._task: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The answer: of a question within the time, or of a new one."""
        if self._task is None or self._now() - self._began >= self._kept:
            self._began = self._now()
            self._task = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._task)


async def in_slices(steps: Steps[T], now: Callable[[], float]) -> T:
    """Make a computation in slices, and let the event loop do other work before each slice.

    Args:
        now: seconds on a monotonic clock.
    """
    while True:
        await asyncio.sleep(0)
        slice_ends = now() + SLICE
        try:
            while now() < slice_ends:
                next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
