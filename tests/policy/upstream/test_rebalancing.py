"""Rebalancing: surplus streams, the number and rate of moves, and the end of moving."""

import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.rebalancing import (
    MIN_SURPLUS,
    RECONNECT_TIME,
    TOLERANCE,
    Rebalancing,
    surplus,
    takes_streams,
)

START = 1000.0  # seconds on any clock
SLOW_START = 10.0  # seconds
NOBODY: dict[Endpoint, int] = {}


def endpoint(weight: int = 1, streams: int = 0, *, usable: bool = True) -> Endpoint:
    made = Endpoint("http://host", Breaker(BreakerConfig(), random.Random(1)), weight)
    made.is_admitted = usable
    hold(made, streams)
    return made


def hold(one: Endpoint, streams: int) -> None:
    """Give an endpoint a number of streams, of both kinds."""
    one.event_streams, one.websockets = streams // 2, streams - streams // 2


def break_(one: Endpoint) -> None:
    for _ in range(BreakerConfig().failures):
        one.breaker.end(one.breaker.begin(START), START, failed=True)
    assert one.breaker.is_open


# ---------------------------------------------------------------- surplus


@pytest.mark.parametrize(
    ("weights", "held", "gives"),
    [
        ((1, 1), (0, 0), (0, 0)),
        ((1, 1), (50, 50), (0, 0)),
        ((1, 1), (55, 45), (0, 0)),  # a tenth is tolerated
        ((1, 1), (56, 44), (1, 0)),
        ((1, 1), (100, 0), (45, 0)),
        ((1, 1), (1, 0), (0, 0)),
        ((1, 1), (2, 0), (0, 0)),  # one above the share: below MIN_SURPLUS, although the endpoint has all streams
        ((1, 1), (3, 0), (0, 0)),
        ((1, 1), (4, 0), (1, 0)),
        ((1, 1, 1), (4, 1, 1), (1, 0, 0)),
        ((1, 1, 1), (60, 60, 0), (16, 16, 0)),
        ((1, 1, 1), (90, 30, 0), (46, 0, 0)),
        ((2, 1), (66, 33), (0, 0)),  # shares go by weight
        ((2, 1), (99, 0), (27, 0)),
        ((1, 2), (99, 0), (63, 0)),
        ((10, 1, 1), (1050, 130, 20), (0, 20, 0)),  # 50 above the share is within a tenth, 30 is not
        ((1, 1, 1, 1), (12, 9, 9, 9), (0, 0, 0, 0)),  # no endpoint has room for a whole stream
        ((1,), (100,), (0,)),
    ],
)
def test_the_surplus_is_above_the_share_and_the_tolerance(
    weights: tuple[int, ...], held: tuple[int, ...], gives: tuple[int, ...]
) -> None:
    several = [endpoint(weight) for weight in weights]
    found = surplus(dict(zip(several, held, strict=True)), 0, START, SLOW_START)
    assert tuple(found.get(each, 0) for each in several) == gives


def test_the_largest_surplus_gives_first() -> None:
    little, most, empty = endpoint(), endpoint(), endpoint()
    assert list(surplus({little: 60, most: 90, empty: 0}, 0, START, SLOW_START)) == [most, little]


def test_streams_that_are_away_take_up_room() -> None:
    giving, empty = endpoint(), endpoint()
    assert surplus({giving: 80, empty: 0}, 20, START, SLOW_START) == {giving: 25}
    assert surplus({giving: 55, empty: 0}, 45, START, SLOW_START) == {}


def test_without_endpoints_nothing_is_moved() -> None:
    assert surplus({}, 0, START, SLOW_START) == {}


# ---------------------------------------------------------------- takes_streams


def ailing(one: Endpoint) -> None:
    one.checks_pass = False


def starting(one: Endpoint) -> None:
    one.joined_at = START - SLOW_START / 2


@pytest.mark.parametrize("is_spoilt", [ailing, break_, starting])
def test_an_unhealthy_or_joining_endpoint_takes_no_streams(is_spoilt: Callable[[Endpoint], None]) -> None:
    giving, empty = endpoint(), endpoint()
    assert takes_streams(empty, START, SLOW_START)
    is_spoilt(empty)
    assert not takes_streams(empty, START, SLOW_START)
    assert surplus({giving: 100, empty: 0}, 0, START, SLOW_START) == {}


def test_a_joining_endpoint_keeps_its_streams() -> None:
    """The endpoint was ejected while its streams went on: a stream moved now would have to move back."""
    starter, other = endpoint(), endpoint()
    starting(starter)
    assert surplus({starter: 50, other: 50}, 0, START, SLOW_START) == {}


def test_the_future_streams_of_a_joining_endpoint_are_not_given_to_others() -> None:
    giving, starter, third = endpoint(), endpoint(), endpoint()
    starting(starter)
    assert surplus({giving: 90, starter: 0, third: 0}, 0, START, SLOW_START) == {giving: 30}
    assert surplus({giving: 60, starter: 0, third: 0}, 30, START, SLOW_START) == {}


def test_several_that_give_share_the_room_there_is() -> None:
    first, second, starter, third = endpoint(), endpoint(), endpoint(), endpoint()
    starting(starter)
    assert surplus({first: 61, second: 59, starter: 0, third: 0}, 0, START, SLOW_START) == {first: 28, second: 2}


def test_an_endpoint_takes_its_share_after_slow_start() -> None:
    giving, starter = endpoint(), endpoint()
    starting(starter)
    assert surplus({giving: 100, starter: 0}, 0, START + SLOW_START / 2, SLOW_START) == {giving: 45}


def test_an_endpoint_that_is_not_admitted_keeps_its_streams_and_takes_none() -> None:
    out, giving, empty = endpoint(streams=500, usable=False), endpoint(streams=20), endpoint(streams=0)
    moved = Rebalancing(1000, START).take([out, giving, empty], NOBODY, START, SLOW_START)
    assert moved == {giving: 9}
    empty.is_admitted = False
    assert Rebalancing(1000, START).take([out, giving, empty], NOBODY, START, SLOW_START) == {}


# ---------------------------------------------------------------- how fast


class Stage:
    """A service whose streams are moved, and whose clients reconnect.

    Args:
        held: streams of each endpoint, of weight and streams.
        per_second: see Rebalancing.
        lands: where a stream goes that has come back; None for nowhere.
        absent: seconds for which clients stay away.
        ends_after: looks that a stream takes to end.
    """

    def __init__(
        self,
        *held: tuple[int, int],
        per_second: int = 10,
        lands: Callable[["Stage", Endpoint], Endpoint | None] | None = None,
        absent: float = 1.0,
        ends_after: int = 0,
    ) -> None:
        self.endpoints = [endpoint(weight, streams) for weight, streams in held]
        self.rebalancing = Rebalancing(per_second, START)
        self.now = START
        self.moved: list[tuple[float, int]] = []
        self._lands, self._absent = lands or least_loaded, absent
        self._leaving = deque([Counter[Endpoint]() for _ in range(ends_after)])
        self._away: deque[tuple[float, Endpoint]] = deque()

    @property
    def held(self) -> list[int]:
        return [each.streams for each in self.endpoints]

    @property
    def total_moved(self) -> int:
        return sum(count for _, count in self.moved)

    def look(self, later: float = 0.2) -> int:
        """Let time pass, streams end and clients reconnect, and move streams. Returns the number of moved streams."""
        self.now += later
        while self._away and self._away[0][0] <= self.now:
            _, came_from = self._away.popleft()
            landed = self._lands(self, came_from)
            if landed:
                hold(landed, landed.streams + 1)
        leaving = sum(self._leaving, Counter[Endpoint]())
        told = self.rebalancing.take(self.endpoints, leaving, self.now, SLOW_START)
        self._leaving.append(Counter(told))
        for each, count in self._leaving.popleft().items():
            hold(each, each.streams - count)
            self._away.extend([(self.now + self._absent, each)] * count)
        self.moved.append((self.now, sum(told.values())))
        return sum(told.values())

    def run(self, seconds: float) -> "Stage":
        for _ in range(int(seconds / 0.2)):
            self.look()
        return self

    @property
    def surplus(self) -> dict[Endpoint, int]:
        """The surplus, without streams that are away."""
        assert not self._away
        return surplus(dict(zip(self.endpoints, self.held, strict=True)), 0, self.now, SLOW_START)

    def above(self) -> float:
        """The largest number of streams above an endpoint's share; streams that are away count in the total."""
        total = sum(self.held) + len(self._away)
        weights = sum(each.weight for each in self.endpoints)
        return max(each.streams - total * each.weight / weights for each in self.endpoints)


def least_loaded(stage: Stage, _: Endpoint) -> Endpoint:
    return min(stage.endpoints, key=lambda each: (each.streams + 1) / each.weight)


def the_same(_: Stage, came_from: Endpoint) -> Endpoint:
    return came_from


def in_turn() -> Callable[[Stage, Endpoint], Endpoint]:
    turns = itertools.count()
    return lambda stage, _: stage.endpoints[next(turns) % len(stage.endpoints)]


def nowhere(_: Stage, __: Endpoint) -> None:
    return None


def test_so_many_are_moved_per_second_and_no_more_after_a_pause() -> None:
    stage = Stage((1, 1000), (1, 0), per_second=10)
    assert stage.look(3600.0) == 10
    assert [stage.look(0.25) for _ in range(8)] == [2, 3, 2, 3, 2, 3, 2, 3]


def test_one_per_second_is_one_per_second() -> None:
    stage = Stage((1, 1000), (1, 0), per_second=1)
    assert [stage.look(0.25) for _ in range(9)] == [1, 0, 0, 0, 1, 0, 0, 0, 1]


def test_several_endpoints_share_the_rate() -> None:
    stage = Stage((1, 90), (1, 60), (1, 0), per_second=100)
    assert stage.rebalancing.take(stage.endpoints, NOBODY, START, SLOW_START) == {
        stage.endpoints[0]: 35, stage.endpoints[1]: 5,
    }  # fmt: skip


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 300)), min_size=1, max_size=6),
    st.lists(st.floats(0, 20), min_size=1, max_size=60),
    st.sampled_from([least_loaded, the_same, nowhere]),
)
def test_in_any_span_at_most_the_rate_and_one_second_more_is_moved(
    per_second: int,
    held: list[tuple[int, int]],
    pauses: list[float],
    lands: Callable[[Stage, Endpoint], Endpoint | None],
) -> None:
    stage = Stage(*held, per_second=per_second, lands=lands, absent=0.0)
    for pause in pauses:
        stage.look(pause)
    for first, (begin, _) in enumerate(stage.moved):
        for last in range(first, len(stage.moved)):
            count = sum(each for _, each in stage.moved[first : last + 1])
            assert count <= per_second * (stage.moved[last][0] - begin) + per_second + 1e-6


# ---------------------------------------------------------------- to the end


def test_streams_move_until_shares_are_even_and_then_no_more() -> None:
    stage = Stage((1, 100), (1, 0)).run(8)
    assert stage.held == [55, 45]
    assert stage.run(60).held == [55, 45]
    assert stage.total_moved == 45


@pytest.mark.untraced
@pytest.mark.parametrize("absent", [0.0, 1.0, 5.0, RECONNECT_TIME - 1])
@pytest.mark.parametrize("per_second", [1, 10, 100, 10_000])
def test_no_more_are_moved_than_are_too_many_however_long_clients_stay_away(per_second: int, absent: float) -> None:
    stage = Stage((1, 400), (1, 400), (1, 0), per_second=per_second, absent=absent).run(400)
    assert stage.total_moved == 214  # from 400 to 293: a tenth more than 800 / 3
    assert stage.held == [293, 293, 214]


def test_a_stream_that_ends_slowly_counts_as_moved() -> None:
    stage = Stage((1, 100), (1, 0), per_second=1000, ends_after=20)
    assert [stage.look() for _ in range(20)] == [45, *[0] * 19]
    assert stage.run(60).held == [55, 45]


def test_moved_streams_that_do_not_return_are_not_awaited_forever() -> None:
    stage = Stage((1, 100), (1, 0), per_second=100, lands=nowhere)
    stage.run(RECONNECT_TIME - 1)
    assert stage.held == [55, 0]
    stage.run(300)
    assert stage.held[0] < 2 * MIN_SURPLUS
    assert not stage.surplus


def test_streams_that_return_at_once_let_the_next_streams_move() -> None:
    """A client that has reconnected is not waited for."""
    stage = Stage((1, 100), (1, 0), absent=0.2).run(6)
    assert stage.held == [55, 45]


def test_placing_in_turn_evens_out_too() -> None:
    stage = Stage((1, 100), (1, 0), lands=in_turn()).run(120)
    assert max(stage.held) <= 62
    assert stage.total_moved < 100


@pytest.mark.parametrize("per_second", [1, 7, 1000])
def test_clients_that_come_back_to_the_same_endpoint_are_sent_away_once(per_second: int) -> None:
    stage = Stage((1, 100), (1, 0), per_second=per_second, lands=the_same).run(1000)
    assert (stage.held, stage.total_moved) == ([100, 0], 45)


def test_another_endpoint_that_takes_begins_a_new_round() -> None:
    stage = Stage((1, 100), (1, 0), (1, 0), lands=the_same)
    third = stage.endpoints.pop()
    assert stage.run(60).total_moved == 45
    stage.endpoints.append(third)
    assert stage.run(60).total_moved == 45 + 64  # its share is 33, of which 36 are tolerated
    third.is_admitted = False
    assert stage.run(60).total_moved == 45 + 64 + 45


def test_another_weight_begins_a_new_round() -> None:
    stage = Stage((1, 100), (1, 0), lands=the_same).run(60)
    stage.endpoints[1].weight = 3
    assert stage.run(60).total_moved == 45 + 73  # its share is 25, of which 27 are tolerated


def test_an_endpoint_that_has_started_begins_a_new_round() -> None:
    stage = Stage((1, 100), (1, 0))
    stage.endpoints[1].joined_at = START
    stage.run(SLOW_START - 1)
    assert stage.total_moved == 0
    stage.run(10)
    assert stage.held == [55, 45]


def test_after_an_even_distribution_a_new_round_may_begin() -> None:
    stage = Stage((1, 100), (1, 0), lands=the_same).run(60)
    hold(stage.endpoints[1], 100)
    stage.run(1)
    hold(stage.endpoints[1], 0)
    assert stage.run(60).total_moved == 90


def test_a_smaller_surplus_than_before_begins_another_round() -> None:
    stage = Stage((1, 100), (1, 0), lands=the_same).run(60)
    hold(stage.endpoints[1], 40)  # 23 too many instead of 45
    assert stage.run(60).total_moved == 45 + 23


STAGES = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 200)), min_size=1, max_size=6)


@given(STAGES, st.integers(1, 500), st.sampled_from([0.0, 0.5, 3.0]), st.integers(0, 5))
@example([(1, 200), (1, 0)], 1, 0.0, 0)
def test_moving_ends_within_tolerance_and_never_makes_the_largest_surplus_larger(
    held: list[tuple[int, int]], per_second: int, absent: float, ends_after: int
) -> None:
    stage = Stage(*held, per_second=per_second, absent=absent, ends_after=ends_after)
    too_many = sum(stage.surplus.values())
    before = stage.above()
    for _ in range(5 * (too_many // per_second + 2 * int(RECONNECT_TIME) + 10)):
        stage.look()
        assert stage.above() <= max(before, 0) + 1e-9
        before = stage.above()
    assert stage.total_moved == too_many
    assert not stage.surplus
    total, weights = sum(stage.held), sum(each.weight for each in stage.endpoints)
    above = [(each.streams, total * each.weight / weights) for each in stage.endpoints]
    over = any(count >= share + MIN_SURPLUS and count > share * (1 + TOLERANCE) + 1e-9 for count, share in above)
    room = any(share - count >= 1 for count, share in above)
    assert not (over and room)


@given(
    STAGES,
    st.integers(1, 100),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 200), st.booleans(), st.floats(0, 3)), max_size=40),
)
def test_no_endpoint_ever_gives_more_than_its_surplus(
    held: list[tuple[int, int]], per_second: int, changes: list[tuple[int, int, bool, float]]
) -> None:
    """Streams and endpoints come and go in any order."""
    stage = Stage(*held, per_second=per_second)
    for which, streams, usable, pause in changes:
        changed = stage.endpoints[which % len(stage.endpoints)]
        hold(changed, streams)
        changed.is_admitted = usable
        stage.now += pause
        told = stage.rebalancing.take(stage.endpoints, NOBODY, stage.now, SLOW_START)
        assert keeps_its_share(stage, told)
        for each, count in told.items():
            hold(each, each.streams - count)


def keeps_its_share(stage: Stage, told: Mapping[Endpoint, int]) -> bool:
    usable = [each for each in stage.endpoints if each.is_admitted]
    total, weights = sum(each.streams for each in usable), sum(each.weight for each in usable)
    return all(
        each in usable and count > 0 and each.streams - count >= total * each.weight / weights
        for each, count in told.items()
    )
