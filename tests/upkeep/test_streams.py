"""Open streams: checked when due, moved, ended evenly, and awaited."""

import asyncio
import math
import random
from itertools import pairwise

import pytest

from tornado_gateway.errors import StreamLimitReached
from tornado_gateway.policy.http.address import of_peer
from tornado_gateway.policy.http.stream_limits import StreamLimits
from tornado_gateway.policy.principal import NOBODY, Holder
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind
from tornado_gateway.policy.upstream.stream_totals import Carried, StreamTotals
from tornado_gateway.policy.views.stream_list import Facts
from tornado_gateway.upkeep.streams import SLICE, Streams

NOW = 1000.0  # loop time


class Request:
    """A request that a stream answers."""

    facts = Facts("svc", "http://10.0.0.7:1", "192.0.2.1", "/x", "id", NOW)


REQUEST = Request()


class Recorded:
    """A stream that records its calls.

    Args:
        next_check: see Stream.
        ends: the Streams to leave when told to end.
        again: seconds from a check until the next check.
    """

    def __init__(self, due: float = math.inf, ends: Streams | None = None, again: float = math.inf) -> None:
        self.next_check, self.totals = due, StreamTotals()
        self.looked: list[float] = []
        self.drained = self.moved = self.aborted = self.revoked = self.dismissed = 0
        self.number, self.kind, self.request = 0, Kind.SSE, REQUEST
        self.is_movable = True
        self.holder = NOBODY
        self._ends, self._again = ends, again

    def check(self, now: float) -> None:
        self.looked.append(now)
        self.next_check = now + self._again

    def drain(self) -> None:
        self.drained += 1
        if self._ends:
            self._ends.discard(self)

    def move(self) -> None:
        self.moved += 1
        if self._ends:
            self._ends.discard(self)

    def revoke(self) -> None:
        self.revoked += 1
        if self._ends:
            self._ends.discard(self)

    def dismiss(self) -> None:
        self.dismissed += 1
        if self._ends:
            self._ends.discard(self)

    def abort(self) -> None:
        self.aborted += 1
        if self._ends:
            self._ends.discard(self)

    @property
    def carried(self) -> Carried:
        return Carried(0, 0, 0, 0, 0)

    def count_end(self, seconds: float) -> None: ...


def opened(count: int, *, ending: bool = True) -> tuple[Streams, list[Recorded]]:
    """A number of streams, which end when told to, or not."""
    streams = Streams(StreamLimits())
    recorded = [Recorded(ends=streams if ending else None) for _ in range(count)]
    for each in recorded:
        streams.add(each, REQUEST)
    return streams, recorded


def test_a_stream_is_open_from_its_beginning_to_its_end() -> None:
    streams, (first, second) = opened(2)
    assert streams.open == {first, second}
    streams.discard(first)
    streams.discard(first)
    assert streams.open == {second}


def test_limits_are_kept() -> None:
    counts = Streams(StreamLimits(total=1)).counts
    counts.take("svc", of_peer("192.0.2.1"))
    with pytest.raises(StreamLimitReached):
        counts.take("svc", of_peer("192.0.2.1"))


# ---------------------------------------------------------------- the sweep


def test_only_due_streams_are_checked() -> None:
    streams = Streams(StreamLimits())
    due, again, later, never = Recorded(NOW), Recorded(NOW - 5, again=1.0), Recorded(NOW + 0.1), Recorded()
    for each in (due, again, later, never):
        streams.add(each, REQUEST)
    for now in (NOW, NOW + 0.5, NOW + 1.0):
        streams.sweep(now)
    assert [each.looked for each in (due, again, later, never)] == [[NOW], [NOW, NOW + 1.0], [NOW + 0.5], []]


def test_a_stream_that_ends_when_it_is_looked_at_is_forgotten() -> None:
    class Ending(Recorded):
        def check(self, now: float) -> None:
            super().check(now)
            streams.discard(self)

    streams = Streams(StreamLimits())
    ending = [Ending(NOW) for _ in range(3)]
    for each in ending:
        streams.add(each, REQUEST)
    streams.sweep(NOW)
    streams.sweep(NOW)
    assert [each.looked for each in ending] == [[NOW]] * 3
    assert not streams.open


# ---------------------------------------------------------------- revocations

ADA, EVE = Holder("id|ada", "", -math.inf), Holder("id|eve", "", -math.inf)


@pytest.mark.parametrize("ending", [True, False], ids=["at once", "later"])
def test_the_next_sweep_ends_the_streams_of_a_revoked_token_once(ending: bool) -> None:
    streams, recorded = opened(4, ending=ending)
    for each, holder in zip(recorded, (ADA, EVE, ADA, NOBODY), strict=True):
        each.holder = holder
    streams.sweep(NOW)
    assert [each.revoked for each in recorded] == [0, 0, 0, 0]
    for holder in (EVE, ADA):  # one look at the streams, with the newest revocations
        streams.revoke({holder}.__contains__)
    for _ in range(2):
        streams.sweep(NOW)
    assert [each.revoked for each in recorded] == [1, 0, 1, 0]


@pytest.mark.gen_test
async def test_many_streams_are_looked_at_over_several_turns() -> None:
    streams, recorded = opened(2 * SLICE + 1)
    other = recorded[SLICE + 5]
    other.holder = EVE
    streams.revoke(lambda holder: holder is NOBODY)
    streams.sweep(NOW)
    streams.discard(recorded[0])  # has ended meanwhile
    ended = [sum(each.revoked for each in recorded)]
    for _ in range(3):
        await asyncio.sleep(0)
        ended.append(sum(each.revoked for each in recorded))
    assert ended == [SLICE - 1, 2 * SLICE - 1, 2 * SLICE - 1, 2 * SLICE - 1]
    assert streams.open == {other}


# ---------------------------------------------------------------- away from an endpoint


def endpoint() -> Endpoint:
    return Endpoint("http://host", Breaker(BreakerConfig(), random.Random(1)))


def placed(*at: Endpoint | None, ending: bool = True) -> tuple[Streams, list[Recorded]]:
    """A stream at each endpoint, which ends at once when moved, or not."""
    streams = Streams(StreamLimits())
    recorded = [Recorded(ends=streams if ending else None) for _ in at]
    for each, its in zip(recorded, at, strict=True):
        streams.add(each, REQUEST, its)
    return streams, recorded


both_kinds_of_ends = pytest.mark.parametrize("ending", [True, False], ids=["at once", "later"])


@both_kinds_of_ends
def test_so_many_of_an_endpoint_are_moved_and_the_oldest_first(ending: bool) -> None:
    one, other, third = endpoint(), endpoint(), endpoint()
    streams, recorded = placed(one, other, one, third, one, other, other, ending=ending)
    streams.move({one: 2, other: 1})
    assert [each.moved for each in recorded] == [1, 1, 1, 0, 0, 0, 0]
    assert [each.drained for each in recorded] == [0] * 7


def test_when_an_endpoint_has_fewer_than_are_to_be_moved_all_of_them_are() -> None:
    one, other, third = endpoint(), endpoint(), endpoint()
    streams, recorded = placed(one, other)
    streams.move({one: 5, third: 5})
    assert [each.moved for each in recorded] == [1, 0]


@both_kinds_of_ends
def test_movable_streams_move_before_streams_that_cannot_move(ending: bool) -> None:
    one = endpoint()
    streams, recorded = placed(one, one, one, ending=ending)
    recorded[0].is_movable = False
    streams.move({one: 1})
    assert [each.moved for each in recorded] == [0, 1, 0]
    recorded[0].is_movable = True
    streams.move({one: 1})
    assert [each.moved for each in recorded] == [1, 1, 0]


def test_a_stream_without_an_endpoint_is_not_moved() -> None:
    one = endpoint()
    streams, recorded = placed(None, one)
    streams.move({one: 2})
    assert [each.moved for each in recorded] == [0, 1]


def test_a_slowly_ending_stream_is_moved_once_and_counts_as_leaving() -> None:
    one, other = endpoint(), endpoint()
    streams, recorded = placed(one, one, other, one, ending=False)
    streams.move({one: 2})
    assert streams.leaving == {one: 2}
    streams.move({one: 9, other: 1})
    assert [each.moved for each in recorded] == [1] * 4
    assert streams.leaving == {one: 3, other: 1}
    for each in recorded[1:]:
        streams.discard(each)
    assert streams.leaving == {one: 1}
    assert streams.open == {recorded[0]}
    streams.discard(recorded[0])
    assert (streams.leaving, streams.open) == ({}, set())


def test_a_stream_that_ends_at_once_does_not_count_as_leaving() -> None:
    one = endpoint()
    streams, recorded = placed(one, one)
    streams.move({one: 1})
    assert (streams.leaving, streams.open) == ({}, {recorded[1]})


def test_a_stream_that_is_leaving_is_looked_at_and_can_be_ended_like_any() -> None:
    one = endpoint()
    streams, (leaving,) = placed(one, ending=False)
    streams.move({one: 1})
    leaving.next_check = NOW
    streams.sweep(NOW)
    streams.drain(NOW, 0.0)
    streams.sweep(NOW)
    streams.abort()
    assert (leaving.looked, leaving.drained > 0, leaving.aborted) == ([NOW], True, 1)


# ---------------------------------------------------------------- the end of all


@pytest.mark.parametrize(("count", "spread"), [(1, 5.0), (4, 5.0), (100, 5.0), (1000, 1.0)])
def test_streams_are_ended_one_after_the_other_evenly(count: int, spread: float) -> None:
    streams, recorded = opened(count)
    streams.drain(NOW, spread)
    steps = 200
    ended = []
    for step in range(steps + 1):
        streams.sweep(NOW + spread * step / steps)
        ended.append(count - len(streams.open))
    assert (ended[0], ended[-1]) == (0, count)
    assert all(abs(done - count * step / steps) <= 1 for step, done in enumerate(ended))
    assert max(after - before for before, after in pairwise(ended)) <= math.ceil(count / steps) + 1
    assert [each.drained for each in recorded] == [1] * count


def test_without_a_spread_all_are_ended_at_the_next_sweep() -> None:
    streams, recorded = opened(3)
    streams.drain(NOW, 0.0)
    assert len(streams.open) == 3
    streams.sweep(NOW)
    assert [each.drained for each in recorded] == [1] * 3


def test_no_stream_is_ended_before_a_drain() -> None:
    streams, recorded = opened(3)
    streams.sweep(NOW + 1e9)
    assert [each.drained for each in recorded] == [0] * 3


def test_a_stream_that_has_ended_is_not_drained() -> None:
    streams, (first, second) = opened(2)
    streams.drain(NOW, 1.0)
    streams.discard(first)
    streams.sweep(NOW + 1.0)
    assert (first.drained, second.drained) == (0, 1)


def test_a_stream_that_begins_during_a_drain_is_ended_with_the_last() -> None:
    streams, recorded = opened(2)
    streams.drain(NOW, 1.0)
    late = Recorded(ends=streams)
    streams.add(late, REQUEST)
    streams.sweep(NOW + 0.9)
    assert late.drained == 0
    streams.sweep(NOW + 1.0)
    later = Recorded(ends=streams)
    streams.add(later, REQUEST)
    streams.sweep(NOW + 1.1)
    assert [each.drained for each in (*recorded, late, later)] == [1] * 4
    assert not streams.open


def test_a_drain_of_nothing_ends_what_comes() -> None:
    streams = Streams(StreamLimits())
    streams.drain(NOW, 1.0)
    late = Recorded(ends=streams)
    streams.add(late, REQUEST)
    streams.sweep(NOW + 1.0)
    assert late.drained == 1


def test_a_slowly_ending_stream_is_drained_again() -> None:
    streams, (slow,) = opened(1, ending=False)
    streams.drain(NOW, 1.0)
    for now in (NOW + 1.0, NOW + 2.0):
        streams.sweep(now)
    assert slow.drained > 1
    assert streams.open == {slow}


def test_all_can_be_ended_at_once() -> None:
    streams, recorded = opened(3)
    streams.abort()
    assert [(each.aborted, each.drained) for each in recorded] == [(1, 0)] * 3
    assert not streams.open


# ---------------------------------------------------------------- operators


def test_the_list_has_the_oldest_first_under_numbers_that_are_never_used_again() -> None:
    streams, (first, second) = opened(2)
    streams.discard(first)
    third = Recorded(ends=streams)
    streams.add(third, REQUEST)
    assert [(each.number, each.facts) for each in streams.rows()] == [(2, Request.facts), (3, Request.facts)]
    assert [each.number for each in streams.rows(2)] == [3]
    assert streams.of_numbers({1, 3}) == [third]
    assert (second.kind, second.holder) == (Kind.SSE, NOBODY)


def test_a_stream_that_ends_while_the_list_is_made_is_left_out() -> None:
    streams, recorded = opened(3)
    rows = streams.rows()
    assert next(rows).number == 1
    streams.discard(recorded[1])
    assert [each.number for each in rows] == [3]


def test_whose_token_opened_each_stream_is_told_of_streams_that_are_still_open() -> None:
    streams, recorded = opened(3)
    recorded[2].holder = Holder("id|ada", "7", 0.0)
    holders = streams.holders()
    assert next(holders) == (NOBODY, Kind.SSE)
    streams.discard(recorded[1])
    assert list(holders) == [(Holder("id|ada", "7", 0.0), Kind.SSE)]


def test_streams_are_closed_one_after_the_other() -> None:
    streams, recorded = opened(5)
    streams.dismiss(recorded[:4], NOW, 4.0)
    assert [each.dismissed for each in recorded] == [1, 0, 0, 0, 0]
    streams.dismiss([recorded[4]], NOW, 4.0)
    assert recorded[4].dismissed == 1  # a single stream does not wait
    for seconds, count in ((0.5, 2), (1.0, 3), (2.9, 4), (3.0, 5)):
        streams.sweep(NOW + seconds)
        assert sum(each.dismissed for each in recorded) == count
    assert not streams.open


def test_a_stream_that_has_ended_before_its_turn_is_not_closed() -> None:
    streams, (first, second) = opened(2)
    streams.dismiss([first, second], NOW, 1.0)
    streams.discard(second)
    streams.sweep(NOW + 1.0)
    assert (first.dismissed, second.dismissed) == (1, 0)


# ---------------------------------------------------------------- waiting for it


@pytest.mark.gen_test
async def test_closed_returns_at_once_without_open_streams() -> None:
    streams, (only,) = opened(1)
    streams.discard(only)
    await asyncio.wait_for(streams.closed(), 1)
    await asyncio.wait_for(Streams(StreamLimits()).closed(), 1)


@pytest.mark.gen_test
async def test_the_last_stream_is_waited_for() -> None:
    streams, recorded = opened(3)
    waiting = [asyncio.ensure_future(streams.closed()) for _ in range(2)]
    for each in recorded:
        await asyncio.sleep(0)
        assert not any(future.done() for future in waiting)
        streams.discard(each)
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    streams.discard(recorded[0])
