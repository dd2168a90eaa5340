"""The queue: waiting requests are resumed in order; a pinned request waits for its endpoint only."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.errors import Overflow
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.wait_queue import Queue

A, B = (Endpoint(f"http://{name}", Breaker(BreakerConfig(), random.Random(1))) for name in "ab")


class Line:
    """A queue, adjustable room at two endpoints, and the requests that were resumed."""

    def __init__(self, size: int = 100) -> None:
        self.queue = Queue(size)
        self.room = {A: 0, B: 0}
        self.gone: list[str] = []

    def join(self, name: str, pinned: Endpoint | None = None) -> Callable[[], None]:
        def go() -> None:
            self.gone.append(name)
            self.room[pinned or next(each for each, left in self.room.items() if left)] -= 1

        self.queue.join(go, pinned)
        return go

    def release(self, **room: int) -> list[str]:
        self.room = {A: room.get("a", 0), B: room.get("b", 0)}
        self.queue.release(lambda pinned: bool(self.room[pinned] if pinned else sum(self.room.values())))
        return self.gone


def test_they_go_on_in_order_as_far_as_there_is_room() -> None:
    line = Line()
    for name in "123":
        line.join(name)
    assert line.release() == []
    assert line.release(a=1) == ["1"]
    assert line.release(a=1, b=2) == ["1", "2", "3"]


def test_a_request_pinned_to_a_full_endpoint_delays_no_other() -> None:
    line = Line()
    line.join("1", A)
    line.join("2")
    line.join("3", B)
    assert line.release(b=1) == ["2"]
    assert line.release(b=1) == ["2", "3"]
    assert line.release(a=1) == ["2", "3", "1"]


@pytest.mark.parametrize(
    ("waiting", "newcomer", "must_wait"),
    [
        ([], None, False),
        ([], A, False),
        ([None], None, True),
        ([None], A, True),
        ([A], None, False),
        ([A], A, True),
        ([A], B, False),
        ([A, None], B, True),
    ],
)
def test_a_newcomer_waits_behind_requests_for_the_same_room(
    waiting: list[Endpoint | None], newcomer: Endpoint | None, must_wait: bool
) -> None:
    line = Line()
    for number, pinned in enumerate(waiting):
        line.join(str(number), pinned)
    assert line.queue.is_ahead_of(newcomer) is must_wait


def test_no_more_wait_than_may() -> None:
    line = Line(1)
    go = line.join("1")
    with pytest.raises(Overflow):
        line.join("2")
    line.queue.leave(go)
    line.join("3")
    assert line.release(a=2) == ["3"]


def test_leave_ignores_a_request_that_never_waited() -> None:
    line = Line()
    line.queue.leave(lambda: None)
    line.join("1")
    assert line.release(a=1) == ["1"]


def test_a_request_that_ends_at_once_resumes_the_next_without_nesting() -> None:
    queue, gone, depth = Queue(5000), [], [0, 0]

    def failing(number: int) -> Callable[[], None]:
        def go() -> None:
            depth[0] += 1
            depth[1] = max(depth)
            gone.append(number)
            queue.release(lambda _: True)
            depth[0] -= 1

        return go

    for number in range(5000):
        queue.join(failing(number))
    queue.release(lambda _: True)
    assert gone == list(range(5000))
    assert depth == [0, 1]


def test_an_error_of_one_request_does_not_stop_the_queue() -> None:
    line = Line()

    def broken() -> None:
        raise ZeroDivisionError

    line.queue.join(broken)
    line.join("1")
    with pytest.raises(ZeroDivisionError):
        line.release(a=1)
    assert line.release(a=1) == ["1"]


@given(st.lists(st.sampled_from([None, A, B]), max_size=20), st.integers(0, 5), st.integers(0, 5))
def test_requests_for_the_same_room_keep_their_order(pins: list[Endpoint | None], a: int, b: int) -> None:
    line = Line()
    for number, pinned in enumerate(pins):
        line.join(str(number), pinned)
    gone = [int(name) for name in line.release(a=a, b=b)]
    for wanted in (None, A, B):
        same = [number for number in range(len(pins)) if pins[number] is wanted]
        assert [number for number in gone if pins[number] is wanted] == same[: sum(pins[n] is wanted for n in gone)]
    assert len(gone) <= a + b
    assert len(line.queue.waiting) == len(pins) - len(gone)
