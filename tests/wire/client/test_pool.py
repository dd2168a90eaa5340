"""The pool alone: which connections are kept, in which order, and for how long. Time is an argument."""

import pytest

from tornado_gateway.wire.client.pool import Pool, PoolConfig


class Kept:
    """As much of a connection as a pool sees."""

    def __init__(self, name: str) -> None:
        self.name, self.idle_until, self.closed = name, 0.0, 0

    def close(self) -> None:
        self.closed += 1

    def __repr__(self) -> str:
        return self.name


@pytest.fixture
def kept() -> list[Kept]:
    return [Kept(name) for name in "abcd"]


def filled(kept: list[Kept], **config: float) -> Pool[Kept]:
    pool: Pool[Kept] = Pool(PoolConfig(**config))
    for now, each in enumerate(kept):
        pool.put(each, float(now))
    return pool


def test_an_empty_pool_has_nothing_to_give():
    assert Pool[Kept](PoolConfig()).take() is None


def test_the_most_recently_used_connection_is_taken_first(kept):
    pool = filled(kept)
    assert [pool.take() for _ in range(5)] == [*reversed(kept), None]


def test_a_taken_connection_is_no_longer_in_the_pool(kept):
    pool = filled(kept[:1])
    taken = pool.take()
    pool.expire(1e9)
    pool.close()
    assert (taken.closed, len(pool)) == (0, 0)


def test_a_connection_that_is_put_back_is_the_newest_again(kept):
    pool = filled(kept)
    first = pool.take()
    pool.take()
    pool.put(first, 10.0)
    assert pool.take() is first


def test_the_oldest_makes_room_beyond_max_idle(kept):
    pool = filled(kept, max_idle=3)
    assert [each.closed for each in kept] == [1, 0, 0, 0]
    assert len(pool) == 3
    assert kept[0] not in [pool.take() for _ in range(3)]


def test_max_idle_zero_keeps_none(kept):
    pool = filled(kept, max_idle=0)
    assert [each.closed for each in kept] == [1, 1, 1, 1]
    assert pool.take() is None


@pytest.mark.parametrize(
    ("now", "closed"),
    [(59.9, [0, 0, 0, 0]), (60.0, [1, 0, 0, 0]), (61.5, [1, 1, 0, 0]), (63.0, [1, 1, 1, 1])],
)
def test_the_idle_timeout_counts_from_when_a_connection_became_idle(kept, now, closed):
    pool = filled(kept, idle_timeout=60.0)
    pool.expire(now)
    assert [each.closed for each in kept] == closed
    assert len(pool) == closed.count(0)


@pytest.mark.parametrize(
    ("hint", "until"),
    [
        pytest.param(None, 160.0, id="no hint"),
        pytest.param(5.0, 104.0, id="a second less than the server said"),
        pytest.param(1.5, 100.5, id="half a second is left"),
        pytest.param(3600.0, 160.0, id="no longer than the pool's own"),
    ],
)
def test_a_keep_alive_hint_may_only_shorten_the_time(kept, hint, until):
    pool: Pool[Kept] = Pool(PoolConfig(idle_timeout=60.0))
    pool.put(kept[0], 100.0, hint)
    assert (kept[0].idle_until, kept[0].closed, len(pool)) == (until, 0, 1)


@pytest.mark.parametrize("hint", [0.0, 1.0])
def test_a_hint_that_leaves_no_time_closes_the_connection(kept, hint):
    pool: Pool[Kept] = Pool(PoolConfig())
    pool.put(kept[0], 100.0, hint)
    assert (kept[0].closed, len(pool)) == (1, 0)


def test_short_hints_expire_before_older_connections(kept):
    pool = filled(kept[:2])
    pool.put(kept[2], 2.0, 5.0)
    pool.expire(7.0)
    assert [each.closed for each in kept] == [0, 0, 1, 0]


def test_an_ended_connection_is_removed_and_not_closed_again(kept):
    pool = filled(kept)
    pool.discard(kept[1])
    pool.discard(kept[1])
    assert [pool.take() for _ in range(3)] == [kept[3], kept[2], kept[0]]
    assert kept[1].closed == 0


def test_closing_the_pool_closes_each_connection_once(kept):
    pool = filled(kept)
    pool.close()
    pool.close()
    assert [each.closed for each in kept] == [1, 1, 1, 1]
    assert len(pool) == 0
