"""The measurements: on a clock that the test sets, and on a loop that is blocked."""

import asyncio
import math
import random
import time

import pytest

from tests.support.sockets import eventually
from tornado_gateway.policy.overload import Overload, OverloadConfig
from tornado_gateway.upkeep.pressure import LONGEST_TICK as TICK
from tornado_gateway.upkeep.pressure import MEMORY_INTERVAL, Pressure


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def measuring(clock: Clock, **config: float) -> Pressure:
    settings = OverloadConfig(**config)
    return Pressure(Overload(settings, random.Random(1)), clock, settings)


def pass_time(pressure: Pressure, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    pressure.tick()
    pressure.stop()


@pytest.mark.gen_test
async def test_a_timer_that_is_late_is_a_delay() -> None:
    clock = Clock()
    pressure = measuring(clock, max_delay=1.0)
    for seconds in (TICK, TICK / 2, TICK, TICK + 1.5):
        pass_time(pressure, clock, seconds)
    assert pressure.delays.quantiles(0.5, 1.0) == [0.0, pytest.approx(1.5)]
    assert pressure.overload.is_overloaded
    assert pressure.overload.late_from == pytest.approx(clock.now + TICK + 0.7)
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
    config = OverloadConfig(max_delay=0.05)
    overload = Overload(config, random.Random(1))
    pressure = Pressure(overload, time.monotonic, config)
    pressure.start()
    time.sleep(0.3)
    await eventually(lambda: max(pressure.delays.quantiles(1.0)) > 0.2)
    await eventually(lambda: overload.level > 0.0)
    pressure.stop()
    pressure.stop()
    at = pressure.ticked_at
    await asyncio.sleep(3 * TICK)
    assert pressure.ticked_at == at


@pytest.mark.gen_test
async def test_a_short_threshold_is_measured_more_often() -> None:
    pressure = measuring(Clock())
    lengths = []
    for threshold in (math.inf, 1.0, 0.1, 0.001):
        pressure.reconfigure(OverloadConfig(max_delay=threshold))
        lengths.append(pressure.tick_length)
    assert lengths == [0.05, 0.05, 0.025, 0.005]


@pytest.mark.gen_test
async def test_other_thresholds_count_from_the_next_measurement() -> None:
    clock = Clock()
    pressure = measuring(clock, max_delay=0.1)
    pressure.start()
    pressure.reconfigure(OverloadConfig(max_delay=1.0))
    pass_time(pressure, clock, 0.025)
    assert pressure.delays.quantiles(1.0) == [pytest.approx(0.0)]
    pressure.start()
    pass_time(pressure, clock, 0.05)
    assert pressure.delays.quantiles(1.0) == [pytest.approx(0.0)]
