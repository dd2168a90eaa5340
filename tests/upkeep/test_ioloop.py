"""The IOLoop's clock: Tornado's deadlines hold when the wall clock is set."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from tornado import gen
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.platform.asyncio import AsyncIOMainLoop

from tests.support.sockets import eventually
from tornado_gateway.upkeep.ioloop import MonotonicIOLoop

HOUR = 3600.0
SOON = 0.02  # seconds

SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Set the wall clock forward by so many seconds, or back."""
    real = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: real() + seconds)


@pytest.mark.parametrize("step", [-HOUR, HOUR])
@pytest.mark.gen_test
async def test_deadlines_hold_when_the_wall_clock_is_set(set_clock: SetClock, step: float) -> None:
    loop = IOLoop.current()
    over: list[str] = []
    soon, late = loop.time() + SOON, loop.time() + HOUR / 2
    set_clock(step)
    far = loop.add_timeout(late, over.append, "far")
    loop.add_timeout(soon, over.append, "add_timeout")
    loop.call_at(soon, over.append, "call_at")
    set_clock(0.0)
    loop.add_timeout(timedelta(seconds=SOON), over.append, "timedelta")
    loop.call_later(SOON, over.append, "call_later")
    set_clock(step)
    with pytest.raises(gen.TimeoutError):
        await gen.with_timeout(soon, asyncio.Future())
    await eventually(lambda: set(over) >= {"add_timeout", "call_at", "timedelta", "call_later"})
    assert "far" not in over
    loop.remove_timeout(far)


@pytest.mark.parametrize("step", [-HOUR, HOUR])
@pytest.mark.gen_test
async def test_periodic_callbacks_go_on_when_the_wall_clock_is_set(set_clock: SetClock, step: float) -> None:
    ticks: list[float] = []
    periodic = PeriodicCallback(lambda: ticks.append(time.monotonic()), SOON * 1000)
    periodic.start()
    for seconds in (step, 0.0, step):
        set_clock(seconds)
        before = len(ticks)
        await eventually(lambda before=before: len(ticks) >= before + 3)
    periodic.stop()


@pytest.mark.gen_test
async def test_the_clock_is_the_event_loops() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(20):
        before = time.monotonic()
        await asyncio.sleep(0.001)  # only a new turn sets uvloop's clock
        assert before - 0.01 <= loop.time() <= IOLoop.current().time() + 0.01 <= time.monotonic() + 0.02


@pytest.mark.gen_test
async def test_an_event_loop_has_one_ioloop() -> None:
    before = IOLoop.current()
    assert isinstance(before, MonotonicIOLoop)
    MonotonicIOLoop.install()
    assert IOLoop.current() is before


def test_an_ioloop_that_was_made_before_is_an_error() -> None:
    async def install() -> None:
        AsyncIOMainLoop()
        MonotonicIOLoop.install()

    with pytest.raises(RuntimeError, match="already associated"):
        asyncio.run(install())
