"""A long computation: made in slices, once for all who ask within a second; a short one at once, for each who asks."""

import asyncio
import itertools
from collections.abc import Callable

import pytest

from tornado_gateway.policy.views.steps import Steps
from tornado_gateway.upkeep.shared import AT_ONCE, KEPT, SLICE, Look, Shared


class Work:
    """A computation of so many steps, each of which takes a millisecond of the clock; the result is its number.

    Attributes:
        began: computations that were begun.
        done: steps that were made.
        now: seconds.
    """

    def __init__(self, steps: int, *, fails: bool = False) -> None:
        self._steps, self._fails = steps, fails
        self.began = self.done = 0
        self.now = 100.0

    def begin(self) -> Steps[int]:
        self.began += 1
        number = self.began
        for _ in range(self._steps):
            self.done += 1
            self.now += 0.001
            yield
        if self._fails:
            raise ValueError(number)
        return number

    def clock(self) -> float:
        return self.now

    def shared(self) -> Shared[int]:
        return Shared(self.begin, self.clock)


async def turns_until(task: "asyncio.Task[int]", note: Callable[[], object]) -> int:
    """The turns of the event loop until a task is done, each noted."""
    for turn in itertools.count():
        if task.done():
            return turn
        note()
        await asyncio.sleep(0)
    raise AssertionError


@pytest.mark.gen_test
async def test_a_short_computation_is_made_at_once_for_each_who_asks() -> None:
    work = Work(AT_ONCE - 1)
    shared = work.shared()
    for number in (1, 2, 3):
        steps = shared.get()
        with pytest.raises(StopIteration) as stopped:  # without a turn of the event loop
            steps.send(None)
        assert stopped.value.value == number


@pytest.mark.gen_test
async def test_a_long_computation_is_made_in_slices_between_which_the_event_loop_turns() -> None:
    work = Work(1000)
    done: list[int] = []
    task = asyncio.ensure_future(work.shared().get())
    await turns_until(task, lambda: done.append(work.done))
    assert await task == 1
    slices = [late - early for early, late in itertools.pairwise(sorted({*done, 1000}))]
    assert slices[0] == AT_ONCE
    assert max(slices[1:]) <= SLICE * 1000 + 1
    assert len(slices) >= (1000 - AT_ONCE) / (SLICE * 1000 + 1)


@pytest.mark.parametrize(("later", "computations"), [(0.0, 1), (KEPT * 0.9, 1), (KEPT * 1.1, 2), (KEPT * 5, 2)])
@pytest.mark.gen_test
async def test_a_long_computation_is_made_once_within_a_second(later: float, computations: int) -> None:
    work = Work(AT_ONCE)
    shared = work.shared()
    assert await shared.get() == 1
    work.now += later
    assert await shared.get() == computations
    assert work.began == computations


@pytest.mark.gen_test
async def test_all_who_ask_during_a_computation_get_its_result() -> None:
    work = Work(1000)
    shared = work.shared()
    assert await asyncio.gather(*(shared.get() for _ in range(50))) == [1] * 50
    assert work.began == 1


@pytest.mark.gen_test
async def test_who_leaves_does_not_end_the_computation_for_others() -> None:
    work = Work(1000)
    shared = work.shared()
    leaving, staying = (asyncio.ensure_future(shared.get()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == 1
    assert leaving.cancelled()


@pytest.mark.parametrize("steps", [1, 1000])
@pytest.mark.gen_test
async def test_a_failure_is_told_to_all_who_asked_and_not_kept(steps: int) -> None:
    work = Work(steps, fails=True)
    shared = work.shared()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"\d"):
            await shared.get()
    assert work.began == 2


@pytest.mark.gen_test
async def test_close_ends_a_computation_under_way() -> None:
    work = Work(1000)
    shared = work.shared()
    shared.close()  # nothing is under way
    task = asyncio.ensure_future(shared.get())
    await asyncio.sleep(0)
    shared.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.done < 1000
    assert await shared.get() == 2  # closed or not: the next call begins anew


@pytest.mark.gen_test
async def test_others_are_asked_once_in_a_time_by_whoever_wants_to_know() -> None:
    now, asked = 0.0, list[float]()

    async def ask() -> int:
        asked.append(now)
        await asyncio.sleep(0)
        return len(asked)

    look = Look(ask, lambda: now, 0.5)
    assert await asyncio.gather(look.get(), look.get()) == [1, 1]
    now = 0.4
    assert await look.get() == 1
    now = 0.5
    assert [await look.get(), await look.get()] == [2, 2]
    assert asked == [0.0, 0.5]
