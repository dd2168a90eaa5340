"""The algorithms against an exact log of the admitted requests: the bounds that the module's docstring states."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.limits.algorithms import SECOND, SLICES, Algorithm, Gcra, Judgement, Sliding

START = 123_456 * SECOND + 789
ALGORITHMS: dict[str, Callable[[int, int], Algorithm]] = {
    "gcra": lambda limit, window: Gcra(limit, window, limit),
    "sliding": Sliding,
}

limits = st.integers(1, 20)
windows = st.integers(SLICES, 2 * SECOND)
pauses = st.lists(st.integers(0, SECOND // 2), min_size=1, max_size=40)


class Client:
    """A client that asks, with the exact log of the instants at which a request was admitted."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm, self.state, self.now = algorithm, algorithm.fresh, START
        self.log: list[int] = []

    def ask(self, pause: int = 0) -> Judgement:
        self.now += pause
        judgement = self.algorithm.judge(self.state, self.now)
        if not judgement.wait:
            self.state = judgement.state
            self.log.append(self.now)
        return judgement

    def within(self, end: int, seconds: int) -> int:
        """Admitted requests in (end - seconds, end]."""
        return sum(end - seconds < each <= end for each in self.log)


def most_within(log: list[int], window: int) -> int:
    """The most requests of a log in any half-open interval of a window."""
    return max((sum(end - window < each <= end for each in log) for end in log), default=0)


@given(limits, st.integers(1, 20), windows, pauses)
def test_gcra_admits_a_burst_and_the_rate_in_any_interval(
    limit: int, burst: int, window: int, steps: list[int]
) -> None:
    client = Client(Gcra(limit, window, burst))
    for step in steps:
        client.ask(step)
    log = client.log
    for first, begin in enumerate(log):
        for last, end in enumerate(log[first:], first):
            assert (last - first + 1) * window <= burst * window + (end - begin) * limit


@given(limits, windows, pauses)
def test_gcra_refuses_only_what_exceeds_burst_and_rate(limit: int, window: int, steps: list[int]) -> None:
    client = Client(Gcra(limit, window, limit))
    for step in steps:
        judgement = client.ask(step)
        if judgement.wait:  # one more would break the bound for an interval that ends now
            log = [*client.log, client.now]
            assert any((len(log) - first) * window > limit * window + (client.now - log[first]) * limit
                       for first in range(len(log)))  # fmt: skip


@given(limits, windows, st.integers(0, SECOND))
def test_gcra_never_refuses_a_client_below_the_rate(limit: int, window: int, spare: int) -> None:
    client = Client(Gcra(limit, window, 1))
    for _ in range(30):
        assert not client.ask(-(-window // limit) + spare).wait


@given(limits, windows, pauses)
def test_a_sliding_window_never_admits_more_than_an_exact_log(limit: int, window: int, steps: list[int]) -> None:
    client = Client(Sliding(limit, window))
    for step in steps:
        client.ask(step)
    assert most_within(client.log, window) <= limit


@given(limits, windows, pauses)
def test_a_sliding_window_counts_requests_an_eighth_longer_at_most(limit: int, window: int, steps: list[int]) -> None:
    client = Client(Sliding(limit, window))
    longest = -(-window // SLICES) * (SLICES + 1)
    for step in steps:
        if client.ask(step).wait:
            assert client.within(client.now, longest) >= limit


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_edge_of_a_window_admits_no_second_burst(name: str) -> None:  # R1
    client = Client(ALGORITHMS[name](100, 60 * SECOND))
    client.ask(60 * SECOND - START % (60 * SECOND) + 59_900 * SECOND // 1000)
    admitted = 1 + sum(not client.ask().wait for _ in range(99))
    client.now += SECOND // 5
    assert admitted == 100
    assert sum(not client.ask().wait for _ in range(100)) == 0


@pytest.mark.parametrize("name", ALGORITHMS)
@given(limit=limits, window=windows, steps=pauses)
def test_after_the_wait_a_request_is_admitted_and_before_it_is_not(
    name: str, limit: int, window: int, steps: list[int]
) -> None:
    client = Client(ALGORITHMS[name](limit, window))
    for step in steps:
        judgement = client.ask(step)
        if judgement.wait:
            nanoseconds = round(judgement.wait * SECOND)
            assert judgement.remaining == 0
            assert judgement.renewal == judgement.wait
            assert client.algorithm.judge(client.state, client.now + nanoseconds + 1).wait == 0
            if nanoseconds > 1:
                assert client.algorithm.judge(client.state, client.now + nanoseconds - 2).wait > 0


@pytest.mark.parametrize("name", ALGORITHMS)
@given(limit=limits, window=windows, steps=pauses)
def test_remaining_renewal_and_reset_come_true(name: str, limit: int, window: int, steps: list[int]) -> None:
    algorithm = ALGORITHMS[name](limit, window)
    client = Client(algorithm)
    for step in steps:
        judgement = client.ask(step)
        later = Client(algorithm)
        later.state, later.now = client.state, client.now
        assert sum(not later.ask().wait for _ in range(limit + 1)) == judgement.remaining
        renewed = algorithm.judge(client.state, client.now + round(judgement.renewal * SECOND) + 1)
        assert renewed.remaining + (not renewed.wait) > judgement.remaining
        reset = client.now + round(judgement.reset * SECOND) + 1
        assert algorithm.load(client.state, reset) == 0
        assert 0 < algorithm.load(client.state, client.now) <= 1


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_charge_may_exceed_the_limit_and_is_paid_off(name: str) -> None:
    client = Client(ALGORITHMS[name](10, SECOND))
    client.state = client.algorithm.charge(client.algorithm.fresh, client.now, 7)
    assert client.ask().remaining == 2
    client.state = client.algorithm.charge(client.state, client.now, 20)
    refused = client.ask()
    assert (refused.remaining, refused.wait > 0) == (0, True)
    assert client.algorithm.load(client.state, client.now) == 2.8
    assert client.ask(round(refused.wait * SECOND) + 1).wait == 0


def test_the_largest_limits_and_counts_are_kept() -> None:
    gcra, sliding = Client(Gcra(2**53, SECOND, 2**53)), Client(Sliding(2**53, SECOND))
    assert gcra.ask().remaining == sliding.ask().remaining == 2**53 - 1
    sliding.state = sliding.algorithm.charge(sliding.state, sliding.now, 2**60)
    assert sliding.ask().remaining == 2**53 - 2**32


def test_the_clock_of_another_process_may_be_behind() -> None:
    client = Client(Sliding(2, SECOND))
    client.ask()
    assert client.ask(-SECOND).remaining == 0
    assert client.ask(-SECOND).wait > 0
