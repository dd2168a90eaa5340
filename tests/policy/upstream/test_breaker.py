"""The circuit breaker: openings, probes and closings, by table and in any order of events."""

import math
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig, State

START = 1000.0  # seconds on any clock


def make(**config: float) -> Breaker:
    """A breaker, by default without jitter."""
    return Breaker(BreakerConfig(**({"jitter": 0.0} | config)), random.Random(1))  # type: ignore[arg-type]


def send(breaker: Breaker, now: float, *, failed: bool | None, times: int = 1, seconds: float = 0.0) -> None:
    """Send requests that end in the same instant."""
    for _ in range(times):
        breaker.end(breaker.begin(now), now, failed=failed, seconds=seconds)


def make_open(**config: float) -> Breaker:
    """A breaker that has opened at START."""
    breaker = make(**config)
    send(breaker, START, failed=True, times=5)
    assert breaker.state(START) is State.OPEN
    return breaker


def fail_probes(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        send(breaker, breaker.open_until, failed=True)


# ---- what another process has learnt


def test_a_breaker_opens_and_closes_as_in_another_process_and_counts_no_opening() -> None:
    there, here = make_open(), make()
    fail_probes(there, 2)
    here.learn(START, there.open_until, there.level)
    assert (here.state(START), here.opened_at, here.opened, here.begin(START)) == (State.OPEN, START, 0, 0)
    assert here.state(there.open_until) is State.HALF_OPEN
    fail_probes(here, 1)
    assert here.open_until - here.tripped_at == pytest.approx(8 * 15.0)  # goes on where the other was
    here.learn(START, None, 0)
    assert here.state(START) is State.CLOSED
    here.learn(START, None, 0)  # closed already
    assert here.state(START) is State.CLOSED


def test_of_two_openings_at_once_the_longer_counts_in_both() -> None:
    one, other = make_open(open_for=10.0), make_open(open_for=20.0)
    untils = one.open_until, other.open_until
    one.learn(START, untils[1], 1)
    other.learn(START, untils[0], 1)
    assert (one.open_until, other.open_until, one.opened) == (START + 20.0, START + 20.0, 1)


def test_hearsay_opens_for_its_time_makes_no_own_opening_longer_and_ends_with_an_own_finding() -> None:
    here = make()
    here.hear(START, START + 7.0)
    assert (here.is_hearsay, here.state(START + 6.9), here.state(START + 7.0)) == (True, State.OPEN, State.HALF_OPEN)
    here.hear(START, START + 5.0)
    assert (here.open_until, here.opened, here.level) == (START + 7.0, 0, 0)
    fail_probes(here, 1)
    assert (here.is_hearsay, here.opened, here.open_until - here.tripped_at) == (False, 1, pytest.approx(15.0))
    other = make()
    other.hear(START, START + 7.0)
    send(other, START + 7.0, failed=False)
    assert (other.is_hearsay, other.is_open) == (False, False)


# ---- the rule of failures in a window


def test_a_new_breaker_is_closed_and_never_was_anything_else() -> None:
    breaker = make()
    assert (breaker.state(START), breaker.passes(START)) == (State.CLOSED, True)
    assert (breaker.is_open, breaker.opened, breaker.opened_at, breaker.open_until) == (False, 0, -math.inf, -math.inf)


def test_the_fifth_failure_opens_for_15_seconds() -> None:
    breaker = make()
    send(breaker, START, failed=True, times=4)
    assert breaker.state(START) is State.CLOSED
    send(breaker, START + 1, failed=True)
    assert (breaker.opened, breaker.opened_at, breaker.open_until) == (1, START + 1, START + 16)


@pytest.mark.parametrize(
    ("later", "state", "passes"),
    [(0.0, State.OPEN, False), (14.99, State.OPEN, False), (15.0, State.HALF_OPEN, True), (9e9, State.HALF_OPEN, True)],
)
def test_an_opening_ends_by_the_passing_of_time_alone(later: float, state: State, passes: bool) -> None:
    breaker = make_open()
    assert (breaker.state(START + later), breaker.passes(START + later)) == (state, passes)
    assert breaker.is_open


@pytest.mark.parametrize(("apart", "state"), [(0.5, State.OPEN), (2.5, State.OPEN), (2.51, State.CLOSED)])
def test_failures_count_together_only_within_the_window(apart: float, state: State) -> None:
    breaker = make()
    for number in range(5):
        send(breaker, START + number * apart, failed=True)
    assert breaker.state(START + 4 * apart) is state


def test_failures_that_come_slowly_never_open() -> None:
    breaker = make()
    for number in range(1000):
        send(breaker, START + number * 2.6, failed=True)
    assert breaker.opened == 0


def test_successes_in_between_do_not_make_failures_undone() -> None:
    breaker = make()
    for number in range(5):
        send(breaker, START + number, failed=False, times=5)
        send(breaker, START + number, failed=True)
    assert breaker.is_open


@pytest.mark.parametrize(("successes", "is_open"), [(0, True), (94, True), (95, True), (96, False), (5000, False)])
def test_failures_that_are_under_a_twentieth_of_the_traffic_open_nothing(successes: int, is_open: bool) -> None:
    breaker = make()
    send(breaker, START, failed=True, times=4)
    send(breaker, START, failed=False, times=successes)
    send(breaker, START, failed=True)
    assert breaker.is_open is is_open


def test_a_thousand_requests_a_second_bear_a_few_failures_but_not_an_outage() -> None:
    breaker = make()
    for number in range(20_000):
        send(breaker, START + number / 1000, failed=number % 1000 == 0)
    assert breaker.opened == 0
    send(breaker, START + 20, failed=True, times=5)
    assert breaker.is_open


def test_traffic_before_the_first_failure_hides_nothing() -> None:
    breaker = make()
    send(breaker, START, failed=False, times=10_000)
    send(breaker, START, failed=True, times=5)
    assert breaker.is_open


def test_without_the_rule_no_number_of_failures_opens() -> None:
    breaker = make(failures=0)
    send(breaker, START, failed=True, times=1000)
    assert not breaker.is_open


def test_what_says_nothing_about_the_endpoint_counts_for_nothing() -> None:
    breaker = make()
    send(breaker, START, failed=True, times=4)
    send(breaker, START, failed=None, times=1000)
    assert not breaker.is_open
    send(breaker, START, failed=True)  # as requests, these would make five failures far less than 5 %
    assert breaker.is_open


# ---- the length of an opening


@given(st.integers())
def test_jitter_stays_within_its_share(seed: int) -> None:
    breaker = Breaker(BreakerConfig(), random.Random(seed))
    send(breaker, START, failed=True, times=5)
    assert 13.5 <= breaker.open_until - START <= 16.5


def test_breakers_that_open_together_do_not_come_back_together() -> None:
    rng = random.Random(1)
    breakers = [Breaker(BreakerConfig(), rng) for _ in range(100)]
    for breaker in breakers:
        send(breaker, START, failed=True, times=5)
    ends = sorted(breaker.open_until - START for breaker in breakers)
    assert len(set(ends)) == 100
    assert ends[0] < 13.8
    assert ends[-1] > 16.2


def test_each_failed_probe_doubles_the_next_opening_up_to_the_longest() -> None:
    breaker = make_open()
    seconds = [breaker.open_until - START]
    for _ in range(7):
        since = breaker.open_until + 1
        send(breaker, since, failed=True)
        seconds.append(breaker.open_until - since)
    assert seconds == [15, 30, 60, 120, 240, 300, 300, 300]
    assert (breaker.opened, breaker.opened_at) == (8, START)


def test_an_opening_may_be_as_long_as_the_longest_from_the_start() -> None:
    breaker = make_open(open_for=20.0, longest=20.0)
    fail_probes(breaker, 3)
    assert breaker.open_until == START + 4 * 20


@pytest.mark.parametrize(
    ("failed_probes", "healthy", "expected"),
    [
        (2, 0.0, 120),  # earlier openings: 15, 30 and 60 seconds
        (2, 14.9, 120),
        (2, 15.0, 60),
        (2, 29.9, 60),
        (2, 30.0, 30),
        (2, 45.0, 15),
        (2, 60.0, 15),
        (2, 1e6, 15),
        (50, 0.0, 300),  # openings at the maximum length raise the level no further
        (50, 15.0, 240),
        (50, 75.0, 15),
    ],
)
def test_each_healthy_interval_takes_one_doubling_back(failed_probes: int, healthy: float, expected: float) -> None:
    breaker = make_open()
    fail_probes(breaker, failed_probes)
    closed = breaker.open_until
    send(breaker, closed, failed=False)
    assert breaker.state(closed) is State.CLOSED
    send(breaker, closed + healthy, failed=True, times=5)
    assert (breaker.opened_at, breaker.open_until) == (closed + healthy, closed + healthy + expected)


# ---- half-open: probes


@pytest.mark.parametrize("probes", [1, 2, 5])
def test_no_more_requests_pass_at_once_than_there_are_probes(probes: int) -> None:
    breaker = make_open(probes=probes)
    now = breaker.open_until
    for _ in range(probes):
        assert breaker.passes(now)
        assert breaker.begin(now) > 0
    assert not breaker.passes(now)
    assert not breaker.passes(now + 3600)


@pytest.mark.parametrize("probes", [1, 3])
def test_a_successful_probe_closes(probes: int) -> None:
    breaker = make_open(probes=probes)
    now = breaker.open_until
    permits = [breaker.begin(now) for _ in range(probes)]
    breaker.end(permits[-1], now + 1, failed=False)
    assert (breaker.state(now + 1), breaker.is_open, breaker.passes(now + 1)) == (State.CLOSED, False, True)
    assert breaker.opened == 1


def test_a_failed_probe_opens_at_once() -> None:
    breaker = make_open()
    send(breaker, START + 20, failed=True)
    assert (breaker.state(START + 20), breaker.open_until) == (State.OPEN, START + 50)


@pytest.mark.parametrize("probes", [1, 3])
def test_a_probe_that_says_nothing_is_given_back(probes: int) -> None:
    breaker = make_open(probes=probes)
    now = breaker.open_until
    for _ in range(10):
        permits = [breaker.begin(now) for _ in range(probes)]
        assert not breaker.passes(now)
        breaker.end(permits[0], now, failed=None)
        assert (breaker.state(now), breaker.passes(now)) == (State.HALF_OPEN, True)
        for permit in permits[1:]:
            breaker.end(permit, now, failed=None)


@pytest.mark.parametrize("failed", [True, False, None])
@pytest.mark.parametrize("later", [1.0, 20.0])
def test_a_request_from_before_an_opening_decides_nothing_during_the_opening(later: float, failed: bool | None) -> None:
    breaker = make()
    stragglers = [breaker.begin(START) for _ in range(50)]
    send(breaker, START, failed=True, times=5)
    before = pickle.dumps(breaker)
    for permit in stragglers:
        breaker.end(permit, START + later, failed=failed)
    assert pickle.dumps(breaker) == before


def test_a_request_from_before_an_opening_that_fails_later_opens_nothing() -> None:
    breaker = make()
    stragglers = [breaker.begin(START) for _ in range(50)]
    send(breaker, START, failed=True, times=5)
    send(breaker, START + 15, failed=False)
    for permit in stragglers:
        breaker.end(permit, START + 16, failed=True)
    assert breaker.state(START + 16) is State.CLOSED


@pytest.mark.parametrize("failed", [True, False, None])
def test_a_probe_of_an_earlier_half_open_time_neither_decides_nor_takes_a_probe_away(failed: bool | None) -> None:
    breaker = make_open(probes=2)
    first, late = breaker.begin(START + 15), breaker.begin(START + 15)
    breaker.end(first, START + 15, failed=True)
    now = breaker.open_until
    breaker.begin(now)
    breaker.end(late, now, failed=failed)
    assert breaker.state(now) is State.HALF_OPEN
    assert breaker.passes(now)
    breaker.begin(now)
    assert not breaker.passes(now)


def test_a_probe_of_an_earlier_half_open_time_that_fails_later_still_opens_nothing() -> None:
    breaker = make_open(failures=1, probes=2)
    first, late = breaker.begin(START + 15), breaker.begin(START + 15)
    breaker.end(first, START + 15, failed=True)
    send(breaker, breaker.open_until, failed=False)
    breaker.end(late, breaker.open_until + 1, failed=True)
    assert not breaker.is_open


@pytest.mark.parametrize("failed", [True, False, None])
def test_a_request_that_does_not_pass_decides_nothing(failed: bool | None) -> None:
    breaker = make_open()
    before = pickle.dumps(breaker)
    permit = breaker.begin(START + 1)
    assert permit <= 0
    breaker.end(permit, START + 2, failed=failed)
    assert pickle.dumps(breaker) == before


def test_unless_said_otherwise_there_is_one_probe() -> None:
    breaker = make_open()
    assert breaker.begin(START + 15) > 0
    assert not breaker.passes(START + 15)


@pytest.mark.parametrize(("failures", "share", "times"), [(5, 0.0, 5), (0, 0.5, 10)])
def test_a_closed_breaker_has_forgotten_what_opened_it(failures: int, share: float, times: int) -> None:
    breaker = make(failures=failures, failure_share=share, window=60.0)
    send(breaker, START, failed=True, times=times)
    send(breaker, START + 15, failed=False)
    send(breaker, START + 15, failed=True, times=times - 1)
    assert not breaker.is_open
    send(breaker, START + 15, failed=True)
    assert (breaker.opened, breaker.opened_at) == (2, START + 15)


# ---- the rules of shares


@pytest.mark.parametrize(
    ("failures", "successes", "is_open"),
    [(9, 0, False), (10, 0, True), (4, 6, False), (5, 5, True), (1, 9, False), (49, 51, False), (50, 50, True)],
)
@pytest.mark.parametrize("kind", ["failed", "slow"])
def test_a_share_of_failures_or_slow_answers_opens_from_its_minimum_of_requests_on(
    kind: str, failures: int, successes: int, is_open: bool
) -> None:
    breaker = make(failures=0, slow_after=1.0, **{f"{'failure' if kind == 'failed' else kind}_share": 0.5})
    send(breaker, START, failed=False, times=successes, seconds=0.9)
    send(breaker, START, failed=kind == "failed", times=failures, seconds=0.9 if kind == "failed" else 1.1)
    assert breaker.is_open is is_open


def test_without_the_rules_of_shares_neither_failures_nor_slow_answers_open() -> None:
    breaker = make(failures=0, slow_share=0.5)
    send(breaker, START, failed=True, times=100, seconds=2.0)
    assert not breaker.is_open


@pytest.mark.parametrize("kind", ["failed", "slow"])
def test_each_share_counts_its_own_kind_alone(kind: str) -> None:
    share = {"slow_after": 1.0, "slow_share": 0.5} if kind == "failed" else {"failure_share": 0.5}
    breaker = make(failures=0, **share)
    send(breaker, START, failed=kind == "failed", times=100, seconds=0.0 if kind == "failed" else 2.0)
    assert not breaker.is_open


@pytest.mark.parametrize(("later", "is_open"), [(0.0, True), (5.0, True), (9.9, True), (10.1, False), (60.0, False)])
def test_a_share_counts_the_window_only(later: float, is_open: bool) -> None:
    breaker = make(failures=0, failure_share=0.5)
    send(breaker, START, failed=True, times=9)
    send(breaker, START + later, failed=True)
    assert breaker.is_open is is_open


def test_a_share_may_be_as_small_as_one_of_twenty() -> None:
    breaker = make(failures=0, failure_share=0.05)
    send(breaker, START, failed=False, times=19)
    send(breaker, START, failed=True)
    assert breaker.is_open


def test_a_share_is_taken_over_all_of_the_window() -> None:
    breaker = make(failures=0, failure_share=0.5, minimum=20)
    for number in range(20):
        assert not breaker.is_open
        send(breaker, START + number / 2, failed=True)
    assert breaker.opened_at == START + 9.5


def test_a_share_is_taken_over_the_window_however_long_traffic_lasts() -> None:
    breaker = make(failures=0, failure_share=0.5)
    for number in range(600):  # a minute of ten requests a second, four tenths of which fail
        send(breaker, START + number / 10, failed=number % 10 in (1, 3, 6, 8))
    assert breaker.opened == 0
    for number in range(600, 620):
        send(breaker, START + number / 10, failed=True)
    assert breaker.is_open
    assert START + 61 < breaker.opened_at < START + 62


def test_the_rule_of_failures_and_that_of_shares_each_open_alone() -> None:
    quick, wide = make(failure_share=1.0), make(failures=100, failure_share=0.5)
    send(quick, START, failed=False)
    send(quick, START, failed=True, times=5)
    send(wide, START, failed=True, times=10)
    assert quick.is_open
    assert wide.is_open


# ---- whatever happens


class Traffic(RuleBasedStateMachine):
    """Callers send only requests that pass; answers come in any order."""

    @initialize(
        failures=st.integers(0, 3),
        probes=st.integers(1, 3),
        failure_share=st.sampled_from([0.0, 0.5]),
        jitter=st.sampled_from([0.0, 0.1]),
        seed=st.integers(0, 99),
    )
    def begin(self, failures: int, probes: int, failure_share: float, jitter: float, seed: int) -> None:
        self.config = BreakerConfig(
            failures=failures, probes=probes, failure_share=failure_share, minimum=2, jitter=jitter
        )
        self.breaker = Breaker(self.config, random.Random(seed))
        self.now = START
        self.sent: list[tuple[int, int, State]] = []  # permit, earlier openings, and the state at sending

    @property
    def state(self) -> State:
        return self.breaker.state(self.now)

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        before = self.state
        self.now += seconds
        assert self.state is before or (before, self.state) == (State.OPEN, State.HALF_OPEN)

    @precondition(lambda self: self.state is State.OPEN)
    @rule()
    def wait_until_it_is_half_open(self) -> None:
        self.now = self.breaker.open_until
        assert self.state is State.HALF_OPEN

    @precondition(lambda self: self.breaker.passes(self.now))
    @rule()
    def send(self) -> None:
        before = self.state
        self.sent.append((self.breaker.begin(self.now), self.breaker.opened, before))
        assert self.state is before

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0), failed=st.sampled_from([True, False, None]))
    def answer(self, which: int, failed: bool | None) -> None:
        permit, opened, sent_while = self.sent.pop(which % len(self.sent))
        before, until = self.state, self.breaker.open_until
        is_of_now = opened == self.breaker.opened
        self.breaker.end(permit, self.now, failed=failed)
        if failed is None or not is_of_now or before is State.OPEN:
            assert (self.state, self.breaker.open_until) == (before, until)
        elif before is State.HALF_OPEN:
            assert sent_while is State.HALF_OPEN
            assert self.state is (State.OPEN if failed else State.CLOSED)
        elif not failed and not self.config.failure_share:
            assert self.state is State.CLOSED
        if self.state is State.OPEN and before is not State.OPEN:
            config, seconds = self.config, self.breaker.open_until - self.now
            low, high = config.open_for * (1 - config.jitter), config.longest * (1 + config.jitter)
            assert low - 1e-6 <= seconds <= high + 1e-6

    @invariant()
    def what_passes_is_what_the_probes_leave(self) -> None:
        probing = sum(
            sent_while is State.HALF_OPEN and opened == self.breaker.opened for _, opened, sent_while in self.sent
        )
        free = {
            State.CLOSED: True,
            State.OPEN: False,
            State.HALF_OPEN: probing < self.config.probes,
        }
        assert self.breaker.passes(self.now) is free[self.state]
        if self.state is State.HALF_OPEN:
            assert probing <= self.config.probes

    @invariant()
    def what_can_be_read_fits_together(self) -> None:
        breaker = self.breaker
        assert breaker.is_open is (self.state is not State.CLOSED)
        assert (breaker.opened > 0) is (breaker.opened_at > -math.inf)
        assert breaker.opened_at <= self.now
        assert breaker.opened_at <= breaker.open_until

    @invariant()
    def reading_changes_nothing(self) -> None:
        before = pickle.dumps(self.breaker)
        for now in (self.now, self.now + 1e6):
            self.breaker.state(now)
            self.breaker.passes(now)
        assert pickle.dumps(self.breaker) == before


TestTraffic = Traffic.TestCase


@pytest.mark.parametrize("seed", range(20))
def test_jitter_makes_no_opening_longer_than_the_longest(seed: int) -> None:
    breaker = Breaker(BreakerConfig(jitter=0.1, open_for=290.0, longest=300.0), random.Random(seed))
    send(breaker, START, failed=True, times=5)
    fail_probes(breaker, 3)
    assert breaker.open_until - START <= 4 * 300.0
    before = breaker.open_until
    send(breaker, before, failed=True)
    assert 0.9 * 300.0 <= breaker.open_until - before <= 300.0


def test_a_breaker_that_is_closed_from_outside_forgets_failures_and_opens_for_longer_the_next_time() -> None:
    breaker = Breaker(BreakerConfig(failures=2, jitter=0.0), random.Random(1))
    for now in (0.0, 0.0, 3.0, 3.0):
        if now == 3.0 and breaker.is_open:
            breaker.close(2.0)
        breaker.end(breaker.closed_permit, now, failed=True)
    assert (breaker.is_open, breaker.opened, breaker.tripped_at) == (True, 2, 3.0)
    assert breaker.open_until == 3.0 + 30.0


def test_a_probe_that_fails_is_the_newest_opening() -> None:
    breaker = Breaker(BreakerConfig(failures=1, jitter=0.0), random.Random(1))
    assert breaker.tripped_at == -math.inf
    breaker.end(breaker.closed_permit, 0.0, failed=True)
    breaker.end(breaker.begin(20.0), 21.0, failed=True)
    assert (breaker.opened_at, breaker.tripped_at) == (0.0, 21.0)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (BreakerConfig(), False),
        (BreakerConfig(failure_share=0.5), True),
        (BreakerConfig(slow_after=1.0), True),
    ],
)
def test_a_breaker_counts_shares_only_for_a_share_rule_at_first_and_when_reconfigured(
    config: BreakerConfig, expected: bool
) -> None:
    for other in (BreakerConfig(), BreakerConfig(slow_after=1.0)):
        breaker = Breaker(other, random.Random(1))
        breaker.reconfigure(config)
        assert breaker.watches_shares is expected
    assert Breaker(config, random.Random(1)).watches_shares is expected


def test_a_forced_opening_of_an_open_breaker_moves_the_end_but_not_the_beginning() -> None:
    breaker = make_open()
    breaker.force_open(START + 1, 100.0)
    assert (breaker.opened_at, breaker.open_until, breaker.state(START + 100)) == (START, START + 101, State.OPEN)
