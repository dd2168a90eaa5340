"""When a worker is started again, and which worker accepts."""

import math
import random

import pytest

from tornado_gateway.policy.supervision import LONG_LIFE, LONGEST_DELAY, SLACK, Restarts, keeper_of, room


def test_a_crash_loop_is_slowed_down_and_a_long_life_forgives() -> None:
    restarts = Restarts()
    delays = [restarts.delay(0.1) for _ in range(12)]
    assert delays[:4] == [0.0, 0.5, 1.0, 2.0]
    assert delays[-1] == LONGEST_DELAY
    assert restarts.delay(LONG_LIFE) == 0.0
    assert restarts.delay(0.1) == 0.5


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_connections_that_come_and_go_are_even(workers: int) -> None:
    """Whichever worker is the quickest, and whatever ends."""
    rng = random.Random(workers)
    counts = [0] * workers
    for _ in range(500 * workers):
        willing = [each for each in range(workers) if room(counts[each], counts[:each] + counts[each + 1 :])]
        counts[min(willing)] += 1  # the first is the quickest as long as it may
        if rng.random() < 0.2:
            counts[rng.randrange(workers)] -= 1
        counts = [max(0, each) for each in counts]
    mean = sum(counts) / workers
    assert max(counts) <= mean * 1.1 + SLACK
    assert min(counts) >= mean * 0.9 - SLACK


def test_a_worker_alone_always_accepts() -> None:
    assert room(1000, []) == math.inf


@pytest.mark.parametrize("own", [0, 7, 40, 1000])
@pytest.mark.parametrize("others", [[0], [5, 40], [1000, 990]])
def test_the_room_is_what_may_be_accepted_one_by_one(own: int, others: list[int]) -> None:
    one_by_one = 0
    while room(own + one_by_one, others):
        one_by_one += 1
    assert room(own, others) == one_by_one


def test_workers_look_after_as_much_each_and_leave_the_rest_to_others_when_one_ends() -> None:
    names = [f"billing http://10.0.0.{number}" for number in range(240)]
    before = {name: keeper_of(name, [0, 1, 2]) for name in names}
    assert all(50 < list(before.values()).count(worker) < 110 for worker in range(3))
    after = {name: keeper_of(name, [0, 2]) for name in names}
    assert all(before[name] in (1, after[name]) for name in names)
    assert keeper_of("a", []) is None
