"""The measurements: on a clock that the test sets, and on a loop that is blocked."""

import asyncio
import math
import random
import time

import pytest

from tests.support.sockets import eventually
from tornado_gateway.policy.overload import Overload, OverloadConfig
from tornado_gateway.upkeep.pressure import MEMORY_INTERVAL, TICK, Pressure


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def measuring(clock: Clock, **config: float) -> Pressure:
    settings = OverloadConfig(**config)
    return Pressure(Overload(settings, random.Random(1)), clock, measures_memory=settings.limits_memory)


def pass_time(pressure: Pressure, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    pressure.tick()
    pressure.stop()


@pytest.mark.gen_test
async def test_a_timer_that_is_late_is_a_delay() -> None:
    clock = Clock()
    pressure = measuring(clock, max_delay=1.0)
    for seconds in (TICK, TICK / 2, TICK + 1.5, TICK):
        pass_time(pressure, clock, seconds)
    assert pressure.delays.quantiles(0.5, 1.0) == [0.0, pytest.approx(1.5)]
    assert pressure.overload.is_overloaded
    for _ in range(40):
        pass_time(pressure, clock, TICK)
    assert pressure.overload.level == 0.0


@pytest.mark.gen_test
async def test_the_memory_is_measured_every_second_if_it_is_limited() -> None:
    clock = Clock()
    pressure = measuring(clock, max_delay=math.inf, max_resident=1.0)
    pass_time(pressure, clock, TICK)
    assert pressure.overload.level == 6.0
    pressure.overload.observe_memory(0.0, 0.0)
    pass_time(pressure, clock, MEMORY_INTERVAL / 2)
    assert pressure.overload.level == 0.0
    pass_time(pressure, clock, MEMORY_INTERVAL / 2)
    assert pressure.overload.level == 6.0


@pytest.mark.gen_test
async def test_memory_without_a_limit_is_not_measured() -> None:
    clock = Clock()
    pressure = measuring(clock, max_delay=math.inf)
    pressure.overload = Overload(OverloadConfig(max_delay=math.inf, max_resident=1.0), random.Random(1))
    pass_time(pressure, clock, 2 * MEMORY_INTERVAL)
    assert pressure.overload.level == 0.0


@pytest.mark.gen_test
async def test_a_loop_that_is_blocked_is_found_and_one_that_stops_measures_nothing() -> None:
    overload = Overload(OverloadConfig(max_delay=0.05), random.Random(1))
    pressure = Pressure(overload, time.monotonic, measures_memory=False)
    pressure.start()
    time.sleep(0.3)
    await eventually(lambda: overload.peak > 0.2)
    assert overload.is_overloaded
    pressure.stop()
    pressure.stop()
    at = pressure.ticked_at
    await asyncio.sleep(3 * TICK)
    assert pressure.ticked_at == at
