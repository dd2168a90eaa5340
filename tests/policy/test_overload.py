"""Load shedding: which classes are shed at which share of a threshold, and when a class is admitted again."""

import math
import random
from collections import Counter, deque
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.overload import (
    CLASSES,
    ORDINARY,
    RISE,
    Overload,
    OverloadConfig,
    Priority,
    level_of,
    shed_class,
)

OFF = OverloadConfig(max_delay=math.inf)


def overload(**config: float) -> Overload:
    return Overload(OverloadConfig(**({"max_delay": math.inf} | config)), random.Random(1))


def held(count: int, limit: int = 100) -> Overload:
    """An Overload with a number of requests in flight."""
    of = overload(max_in_flight=limit)
    for _ in range(count):
        of.take()
    return of


def admitted(of: Overload) -> list[str]:
    """The classes of which a request is admitted; the classes that are shed in part stand for themselves."""
    return [name for index, name in enumerate(CLASSES) if not of.sheds(index, 0.0)]


# ---- classes


def test_priority_comes_before_the_kind() -> None:
    order = [shed_class(priority, is_stream=kind) for priority in Priority for kind in (True, False)]
    assert order == list(range(len(CLASSES)))
    assert CLASSES[ORDINARY] == "request"


@pytest.mark.parametrize(
    ("count", "shed"),
    [(69, 0), (70, 0), (75, 1), (80, 2), (90, 3), (100, 4), (110, 5), (120, 6), (1000, 6)],
)
def test_at_each_share_of_the_threshold_one_class_more_is_shed(count: int, shed: int) -> None:
    of = held(count)
    assert of.level == shed
    assert of.shedding == list(CLASSES[:shed])
    assert admitted(of) == list(CLASSES[shed:])


def test_ordinary_requests_are_shed_from_the_threshold_on() -> None:
    assert not held(90).is_overloaded
    assert held(100).is_overloaded
    assert held(100).sheds(ORDINARY, 0.0)
    assert held(1, limit=1).sheds(ORDINARY, 0.0)
    assert not held(0, limit=1).sheds(ORDINARY, 0.0)


def test_between_two_shares_a_part_of_a_class_is_shed() -> None:
    of = held(92, limit=100)
    assert of.level == pytest.approx(3.2)
    share = Counter(of.sheds(ORDINARY, 0.0) for _ in range(10_000))[True] / 10_000
    assert share == pytest.approx(0.2, abs=0.03)
    assert of.shed["request"] == round(share * 10_000)


def test_what_is_shed_is_counted_by_class() -> None:
    of = held(100)
    admitted(of)
    admitted(of)
    assert of.shed == {name: 2 if index <= ORDINARY else 0 for index, name in enumerate(CLASSES)}


@given(st.floats(0, 10), st.floats(0, 10))
def test_a_larger_share_sheds_no_less(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= level_of(low) <= level_of(high) <= len(CLASSES)


# ---- hysteresis


def test_a_class_is_admitted_again_a_tenth_below() -> None:
    of = held(100)
    levels = []
    for _ in range(20):
        of.give_back()
        levels.append(of.level)
    assert levels[:10] == [4.0] * 10  # 99 to 90 in flight
    assert 3 < levels[10] < 4  # 89
    assert levels[18] == pytest.approx(3.0)  # 81
    assert not of.is_overloaded  # 80


def test_after_a_fall_the_level_rises_as_before() -> None:
    of = held(100)
    for _ in range(100):
        of.give_back()
    assert (of.level, of.in_flight) == (0.0, 0)
    for _ in range(75):
        of.take()
    assert of.level == 1.0


@given(st.lists(st.integers(0, 130), min_size=1, max_size=50))
def test_the_level_follows_the_figure_with_a_bounded_lag(counts: list[int]) -> None:
    of = overload(max_in_flight=100)
    for wanted in counts:
        while of.in_flight < wanted:
            of.take()
        while of.in_flight > wanted:
            of.give_back()
        assert level_of(wanted / 100) <= of.level <= level_of(wanted / 100 / 0.9)


# ---- the delay of the loop


TICK = 0.0125  # seconds between two measurements, as upkeep/pressure.py has for a threshold of 50 ms


def late(threshold: float, *delays: float) -> Overload:
    """An Overload after measurements TICK apart, the last at the instant 0."""
    of = overload(max_delay=threshold)
    for ahead, delay in zip(range(len(delays) - 1, -1, -1), delays, strict=True):
        of.observe_delay(delay, -ahead * TICK, -ahead * TICK + TICK)
    return of


def test_each_measurement_moves_the_level_a_part_of_the_way() -> None:
    assert [late(1.0, *[2.0] * count).level for count in range(3)] == [
        0.0,
        pytest.approx(6 * RISE),
        pytest.approx(6 * (1 - (1 - RISE) ** 2)),
    ]
    assert late(1.0, *[2.0] * 200).level == pytest.approx(6.0, abs=0.001)


def test_the_level_falls_with_time_alone() -> None:
    of = late(1.0, *[2.0] * 20)
    before = of.level
    of.observe_delay(0.0, 0.5, 0.5 + TICK)
    assert of.level == pytest.approx(before - 0.5)
    of.observe_delay(0.0, 1000.0, 1000.0 + TICK)
    assert of.level == 0.0


def test_the_time_of_the_recovery_is_a_setting() -> None:
    of = overload(max_delay=1.0, recovery=2.0)
    of.observe_delay(2.0, 0.0, TICK)
    before = of.level
    of.observe_delay(0.0, 0.1, 0.1 + TICK)
    assert of.level == pytest.approx(before - 0.1 * len(CLASSES) / 2)


def test_the_level_does_not_fall_below_the_table() -> None:
    of = late(1.0, *[2.0] * 20)
    of.observe_delay(0.9, 1000.0, 1000.0 + TICK)
    assert of.level == level_of(0.9)


def test_a_late_measurement_is_shown_at_once() -> None:
    of = late(1.0, 1.0)
    assert of.is_overloaded
    assert of.shedding == list(CLASSES[:4])
    assert of.level < ORDINARY
    of.observe_delay(0.0, TICK, 2 * TICK)
    assert not of.is_overloaded


@pytest.mark.parametrize(
    ("lateness", "shed"), [(-1.0, 0), (0.69, 0), (0.75, 1), (0.8, 2), (0.9, 3), (1.0, 4), (1.1, 5), (1.2, 6), (9.0, 6)]
)
def test_a_request_that_the_loop_reaches_late_is_judged_by_how_late_the_loop_is(lateness: float, shed: int) -> None:
    of = late(1.0, 0.0)
    now = TICK + lateness + 1e-9
    assert (now >= of.late_from) is (shed > 0)
    assert [of.sheds(index, now) for index in range(len(CLASSES))] == [index < shed for index in range(len(CLASSES))]
    assert of.level == 0.0


def test_without_a_measurement_no_request_is_late() -> None:
    of = overload(max_delay=0.001)
    assert of.late_from == math.inf
    assert admitted(of) == list(CLASSES)
    of.observe_delay(0.0, 1.0, 1.05)
    of.reconfigure(OverloadConfig(max_delay=0.001))
    assert of.late_from == math.inf


class Loop:
    """An event loop that forwards, sheds and measures, on a clock of its own: what a request costs passes as time.

    Requests come at a rate, whether or not earlier requests have been answered, over connections that are kept. A turn
    handles all events that are ready; libuv asks for 1,024 at a time, and runs timers when fewer are ready.
    """

    FORWARD, ANSWER, REFUSE, SERVICE = 45e-6, 30e-6, 22e-6, 1e-3  # seconds, as measured on one machine
    CAPACITY = 1 / (FORWARD + ANSWER)  # requests per second
    CONNECTIONS, BATCH = 4000, 1024

    def __init__(self, of: Overload, rate: float, seconds: float) -> None:
        self._of, self._rate, self._count = of, rate, int(rate * seconds)
        self._now, self._due, self._next, self._idle = 0.0, TICK, 0, self.CONNECTIONS
        self._ready: deque[tuple[bool, float]] = deque()  # whether an answer of the service; when the request was due
        self._answers: deque[tuple[float, float]] = deque()  # when; see above
        self.served: list[float] = []  # seconds until the answer
        self.refused: list[float] = []

    def run(self) -> "Loop":
        while self._next < self._count or self._ready or self._answers:
            if self._now >= self._due:
                late_by = self._now - self._due
                self._due = self._now + TICK
                self._of.observe_delay(late_by, self._now, self._due)
            self._poll()
            if not self._ready:
                coming = [self._due, *[self._next / self._rate] * (self._next < self._count)]
                self._now = max(self._now, min([*coming, *[at for at, _ in islice(self._answers, 1)]])) + 1e-6
            while self._ready:
                batch = [self._ready.popleft() for _ in range(min(self.BATCH, len(self._ready)))]
                for is_answer, due in batch:
                    self._handle(is_answer, due)
                if len(batch) < self.BATCH:
                    break
                self._poll()
        return self

    def _poll(self) -> None:
        while self._next < self._count and self._next / self._rate <= self._now and self._idle:
            self._ready.append((False, self._next / self._rate))
            self._next += 1
            self._idle -= 1
        while self._answers and self._answers[0][0] <= self._now:
            self._ready.append((True, self._answers.popleft()[1]))

    def _handle(self, is_answer: bool, due: float) -> None:
        of, now = self._of, self._now
        if is_answer:
            self._now += self.ANSWER
            self.served.append(self._now - due)
        elif (of.level or now >= of.late_from) and of.sheds(ORDINARY, now):
            self._now += self.REFUSE
            self.refused.append(self._now - due)
        else:
            self._now += self.FORWARD
            self._answers.append((self._now + self.SERVICE, due))
            return
        self._idle += 1


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) * 99 // 100]


@pytest.mark.parametrize("share", [1.5, 2.0])
def test_a_full_loop_serves_steadily_and_nobody_waits_long(share: float) -> None:
    ran = Loop(overload(max_delay=0.05), share * Loop.CAPACITY, 2.0).run()
    assert p99(ran.served) <= 3 * 0.05
    assert p99(ran.refused) <= 2 * 0.05
    # At twice the load, refusals leave time for a little more than half of what the loop can do.
    assert len(ran.served) >= 0.4 * 2.0 * Loop.CAPACITY


def test_a_loop_with_room_sheds_nothing() -> None:
    ran = Loop(overload(max_delay=0.05), 0.9 * Loop.CAPACITY, 1.0).run()
    assert not ran.refused
    assert len(ran.served) == int(0.9 * Loop.CAPACITY)


def test_a_threshold_of_none_sheds_nothing() -> None:
    of = Overload(OFF, random.Random(1))
    of.observe_delay(3600.0, 1.0, 1.05)
    assert of.late_from == math.inf
    of.observe_memory(2.0**50, 2.0**50)
    of.take()
    assert (of.level, of.counts_requests) == (0.0, False)
    assert admitted(of) == list(CLASSES)


# ---- the memory, and several figures


@pytest.mark.parametrize("name", ["max_heap", "max_resident"])
def test_each_figure_of_the_memory_has_its_threshold(name: str) -> None:
    of = overload(**{name: 1000.0})
    of.observe_memory(1000.0, 1000.0)
    assert of.level == 4.0
    of.observe_memory(630.0, 630.0)
    assert of.level == 0.0


def test_the_figure_with_the_largest_share_decides() -> None:
    of = overload(max_in_flight=100, max_resident=1000.0)
    for _ in range(80):
        of.take()
    of.observe_memory(0.0, 1000.0)
    assert of.level == 4.0
    of.observe_memory(0.0, 0.0)
    assert of.level == 2.0


def test_the_config_tells_what_is_on() -> None:
    assert OverloadConfig().is_on
    assert not OFF.is_on
    assert not OverloadConfig().limits_memory
    for name in ("max_heap", "max_resident"):
        assert OverloadConfig(**{"max_delay": math.inf, name: 1.0}).is_on
        assert OverloadConfig(**{name: 1.0}).limits_memory
    assert OverloadConfig(max_delay=math.inf, max_in_flight=1).is_on


def test_other_thresholds_count_the_requests_that_are_in_flight() -> None:
    of = held(90)
    assert of.level == 3
    of.reconfigure(OverloadConfig(max_delay=math.inf, max_in_flight=1000))
    assert (of.level, of.in_flight, of.counts_requests) == (0, 90, True)
    of.reconfigure(OverloadConfig(max_delay=math.inf, max_in_flight=100))
    assert of.level == 3
    of.reconfigure(OFF)
    assert (of.level, of.counts_requests) == (0, False)
