"""Totals of a service's streams of a kind: sums over ended streams, and the number of open streams."""

import pytest

from tornado_gateway.policy.upstream.stream_totals import Carried, StreamTotals


def test_streams_that_have_ended_add_up() -> None:
    totals = StreamTotals()
    totals.add(Carried(1, 2, 30, 40, 7), 5.0, 1000)
    totals.add(Carried(10, 20, 300, 400, 0), 0.5, 1006)
    totals.add(Carried(0, 0, 0, 0, 0), 0.0, 1000)
    assert totals.closed == 3
    assert (totals.messages_up, totals.messages_down) == (11, 22)
    assert (totals.bytes_up, totals.bytes_down) == (330, 440)
    assert (totals.seconds, totals.lives.count) == (5.5, 3)
    assert totals.close_codes == {1000: 2, 1006: 1}


def test_an_event_stream_has_no_close_code() -> None:
    totals = StreamTotals()
    totals.add(Carried(0, 2, 0, 40, 0), 5.0)
    assert (totals.closed, totals.close_codes) == (1, {})


def test_each_service_has_its_own_sums() -> None:
    one, other = StreamTotals(), StreamTotals()
    one.add(Carried(1, 1, 1, 1, 0), 1.0, 1000)
    one.pauses.add(1.0)
    one.firsts.add(1.0)
    assert (other.close_codes, other.closed) == ({}, 0)
    assert [each.count for each in (other.lives, other.firsts, other.pauses)] == [0, 0, 0]


@pytest.mark.parametrize(("opened", "closed"), [(0, 0), (1, 0), (3, 1), (3, 3)])
def test_open_is_begun_minus_ended(opened: int, closed: int) -> None:
    totals = StreamTotals()
    totals.opened = opened
    for _ in range(closed):
        totals.add(Carried(1, 1, 10, 10, 0), 1.0, 1000)
    assert totals.open == opened - closed
