"""Retries: which failed requests are sent again, where, when, and how often."""

import itertools
import math
import pickle
import random
import time
from collections.abc import Collection, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tornado_gateway.errors import (
    ConnectFailed,
    ConnectTimeout,
    HeadTimeout,
    IdleTimeout,
    NameNotResolved,
    TLSFailed,
    UpstreamError,
    UpstreamInvalid,
    UpstreamReset,
)
from tornado_gateway.policy.upstream import retry
from tornado_gateway.policy.upstream.retry import (
    BUDGET_FOLD,
    BUDGET_WINDOW,
    CONNECT,
    IDEMPOTENT,
    LONGEST_BACKOFF,
    MIN_ATTEMPT,
    RESET,
    Budget,
    FailedAttempt,
    RetryConfig,
    RetryTarget,
    attempt_timeout,
    backoff_before,
    decide_retry,
    is_free_retry,
    is_retried,
    retry_after,
)

START = 1000.0  # seconds on any clock

UNREACHED = [ConnectFailed(), NameNotResolved(), TLSFailed(), ConnectTimeout()]
HOPELESS = [UpstreamInvalid(), HeadTimeout(), IdleTimeout(), UpstreamError()]
TIMEOUTS = [HeadTimeout(), IdleTimeout()]
ON = (CONNECT, RESET)


def name(error: object) -> str:
    return type(error).__name__


def where(error: UpstreamError, on: Collection[str] = ON, **circumstances: bool) -> RetryTarget:
    """The decision on a failed attempt; by default a POST with a replayable body, of which nothing was sent."""
    usual = {"is_repeatable": False, "reused": False, "body_sent": False, "replayable": True}
    return decide_retry(error, FailedAttempt(**(usual | circumstances)), on)


@pytest.mark.parametrize("error", UNREACHED, ids=name)
@pytest.mark.parametrize("is_repeatable", [True, False])
@pytest.mark.parametrize("awaits_stream", [True, False])
def test_a_request_without_a_connection_goes_to_another_endpoint(
    error: UpstreamError, is_repeatable: bool, awaits_stream: bool
) -> None:
    assert where(error, is_repeatable=is_repeatable, awaits_stream=awaits_stream) is RetryTarget.OTHER_ENDPOINT


@pytest.mark.parametrize("error", HOPELESS, ids=name)
@pytest.mark.parametrize("reused", [True, False])
def test_timeouts_and_invalid_responses_are_not_retried(error: UpstreamError, reused: bool) -> None:
    assert where(error, is_repeatable=True, reused=reused) is RetryTarget.NOWHERE


@pytest.mark.parametrize(
    ("is_repeatable", "reused", "body_sent", "expected"),
    [
        (True, True, True, RetryTarget.SAME_ENDPOINT),
        (True, True, False, RetryTarget.SAME_ENDPOINT),
        (True, False, True, RetryTarget.OTHER_ENDPOINT),
        (True, False, False, RetryTarget.OTHER_ENDPOINT),
        (False, True, False, RetryTarget.SAME_ENDPOINT),
        (False, True, True, RetryTarget.NOWHERE),
        (False, False, False, RetryTarget.NOWHERE),
        (False, False, True, RetryTarget.NOWHERE),
    ],
)
def test_what_a_lost_connection_means(
    is_repeatable: bool, reused: bool, body_sent: bool, expected: RetryTarget
) -> None:
    assert where(UpstreamReset(), is_repeatable=is_repeatable, reused=reused, body_sent=body_sent) is expected


@pytest.mark.parametrize(
    ("circumstances", "expected"),
    [
        ({}, RetryTarget.SAME_ENDPOINT),
        ({"replayable": False}, RetryTarget.NOWHERE),
        ({"reused": False}, RetryTarget.NOWHERE),
        ({"heard": True}, RetryTarget.NOWHERE),
        ({"delivered": True}, RetryTarget.NOWHERE),
    ],
)
def test_a_post_of_which_no_byte_reached_the_endpoint_is_sent_once_more(
    circumstances: dict[str, bool], expected: RetryTarget
) -> None:
    usual = {"reused": True, "body_sent": True, "delivered": False}
    assert where(UpstreamReset(), **(usual | circumstances)) is expected


@pytest.mark.parametrize("reused", [True, False])
def test_a_connection_that_breaks_within_an_answer_was_not_closed_silently(reused: bool) -> None:
    assert where(UpstreamReset(), is_repeatable=True, reused=reused, heard=True, answered=True) is RetryTarget.NOWHERE


@pytest.mark.parametrize("reused", [True, False])
@pytest.mark.parametrize(
    ("is_repeatable", "expected"), [(True, RetryTarget.OTHER_ENDPOINT), (False, RetryTarget.NOWHERE)]
)
def test_an_interim_response_stops_no_retry_but_shows_that_the_connection_was_not_stale(
    reused: bool, is_repeatable: bool, expected: RetryTarget
) -> None:
    assert where(UpstreamReset(), is_repeatable=is_repeatable, reused=reused, heard=True, body_sent=False) is expected


# A client that waits for events has had none, whatever has come of a response.
@pytest.mark.parametrize("is_repeatable", [True, False])
@pytest.mark.parametrize(
    ("error", "reused", "heard", "expected"),
    [
        (UpstreamReset(), False, False, RetryTarget.OTHER_ENDPOINT),
        (UpstreamReset(), False, True, RetryTarget.OTHER_ENDPOINT),
        (UpstreamReset(), True, True, RetryTarget.OTHER_ENDPOINT),
        (UpstreamReset(), True, False, RetryTarget.SAME_ENDPOINT),
        (UpstreamInvalid(), False, True, RetryTarget.OTHER_ENDPOINT),
        (UpstreamInvalid(), True, True, RetryTarget.OTHER_ENDPOINT),
        (HeadTimeout(), False, False, RetryTarget.NOWHERE),
        (IdleTimeout(), False, True, RetryTarget.NOWHERE),
    ],
)
def test_a_stream_is_retried_elsewhere_unless_it_timed_out(
    error: UpstreamError, reused: bool, heard: bool, is_repeatable: bool, expected: RetryTarget
) -> None:
    circumstances = {"is_repeatable": is_repeatable, "reused": reused, "heard": heard, "body_sent": True}
    assert where(error, **circumstances, awaits_stream=True) is expected


@pytest.mark.parametrize("awaits_stream", [True, False])
@pytest.mark.parametrize(
    ("error", "is_repeatable", "has_try_timeout", "expected"),
    [
        (HeadTimeout(), True, True, RetryTarget.OTHER_ENDPOINT),
        (HeadTimeout(), True, False, RetryTarget.NOWHERE),
        (HeadTimeout(), False, True, RetryTarget.NOWHERE),
        (IdleTimeout(), True, True, RetryTarget.NOWHERE),
    ],
)
def test_only_a_try_timeout_of_a_repeatable_request_is_retried_elsewhere(
    error: UpstreamError, is_repeatable: bool, has_try_timeout: bool, awaits_stream: bool, expected: RetryTarget
) -> None:
    circumstances = {"is_repeatable": is_repeatable, "has_try_timeout": has_try_timeout, "awaits_stream": awaits_stream}
    assert where(error, **circumstances, body_sent=True) is expected


@pytest.mark.parametrize(
    ("error", "on", "expected"),
    [
        (ConnectFailed(), ON, RetryTarget.OTHER_ENDPOINT),
        (ConnectFailed(), (CONNECT,), RetryTarget.OTHER_ENDPOINT),
        (ConnectFailed(), (RESET,), RetryTarget.NOWHERE),
        (ConnectTimeout(), (RESET,), RetryTarget.NOWHERE),
        (ConnectFailed(), (), RetryTarget.NOWHERE),
        (UpstreamReset(), ON, RetryTarget.OTHER_ENDPOINT),
        (UpstreamReset(), (RESET,), RetryTarget.OTHER_ENDPOINT),
        (UpstreamReset(), (CONNECT,), RetryTarget.NOWHERE),
        (UpstreamReset(), (), RetryTarget.NOWHERE),
    ],
    ids=str,
)
@pytest.mark.parametrize("awaits_stream", [True, False])
def test_only_the_failures_that_are_asked_for_are_taken_elsewhere(
    error: UpstreamError, on: Collection[str], expected: RetryTarget, awaits_stream: bool
) -> None:
    assert where(error, on, is_repeatable=True, awaits_stream=awaits_stream) is expected


@pytest.mark.parametrize("on", [(), (CONNECT,), ON], ids=str)
def test_a_kept_connection_that_was_closed_is_replaced_whatever_is_asked_for(on: Collection[str]) -> None:
    assert where(UpstreamReset(), on, is_repeatable=True, reused=True) is RetryTarget.SAME_ENDPOINT


@pytest.mark.parametrize("error", [*UNREACHED, *HOPELESS, UpstreamReset()], ids=name)
def test_a_body_that_is_gone_cannot_be_sent_again(error: UpstreamError) -> None:
    for is_repeatable, reused, heard, awaits_stream, has_try_timeout in itertools.product([True, False], repeat=5):
        circumstances = {
            "is_repeatable": is_repeatable,
            "reused": reused,
            "heard": heard,
            "has_try_timeout": has_try_timeout,
        }
        gone = {"body_sent": True, "replayable": False, "awaits_stream": awaits_stream}
        assert where(error, **circumstances, **gone) is RetryTarget.NOWHERE


@pytest.mark.parametrize("error", [*HOPELESS, UpstreamReset()], ids=name)
def test_a_post_that_may_have_been_carried_out_is_never_repeated(error: UpstreamError) -> None:
    for reused, heard, has_try_timeout in itertools.product([True, False], repeat=3):
        assert (
            where(error, reused=reused, heard=heard, has_try_timeout=has_try_timeout, body_sent=True)
            is RetryTarget.NOWHERE
        )


def test_by_default_failed_connections_and_resets_are_retried() -> None:
    failed = FailedAttempt(is_repeatable=True, reused=False, body_sent=True, replayable=True)
    assert decide_retry(ConnectFailed(), failed) is decide_retry(UpstreamReset(), failed) is RetryTarget.OTHER_ENDPOINT
    assert set(RetryConfig().on) == set(ON)


def test_post_and_patch_are_not_idempotent() -> None:
    assert {b"GET", b"HEAD", b"PUT", b"DELETE"} <= IDEMPOTENT
    assert not IDEMPOTENT & {b"POST", b"PATCH", b"LOCK", b"CONNECT", b"BREW"}


# ---------------------------------------------------------------- how long an attempt may take


@pytest.mark.parametrize(
    ("try_timeout", "spent", "may_retry", "expected"),
    [
        (math.inf, 0.0, True, (30.0, False)),
        (math.inf, 12.0, True, (18.0, False)),
        (2.0, 0.0, True, (2.0, True)),
        (2.0, 0.0, False, (30.0, False)),
        (30.0, 0.0, True, (30.0, False)),  # as much as the request has left is not less
        (2.0, 28.0, True, (2.0, False)),
        (2.0, 27.9, True, (2.0, True)),
        (2.0, 29.5, True, (MIN_ATTEMPT, False)),
        (0.5, 40.0, True, (0.5, True)),
        (2.0, 40.0, False, (MIN_ATTEMPT, False)),
    ],
)
def test_an_attempt_has_the_time_left_or_the_try_timeout_if_another_attempt_may_follow(
    try_timeout: float, spent: float, may_retry: bool, expected: tuple[float, bool]
) -> None:
    config = RetryConfig(try_timeout=try_timeout)
    assert attempt_timeout(config, 30.0, spent, may_retry=may_retry) == pytest.approx(expected)


def test_a_retry_has_no_more_time_than_a_request_may_have_in_all() -> None:
    assert attempt_timeout(RetryConfig(), MIN_ATTEMPT / 2, 9.0, may_retry=True) == (MIN_ATTEMPT / 2, False)


# ---- when


@pytest.mark.parametrize(
    ("retry", "longest"), [(1, 0.025), (2, 0.05), (3, 0.1), (4, 0.2), (5, 0.25), (6, 0.25), (100, 0.25)]
)
def test_the_wait_is_drawn_from_all_of_a_time_that_doubles_up_to_the_longest(retry: int, longest: float) -> None:
    rng = random.Random(1)
    waits = sorted(backoff_before(retry, RetryConfig(), rng) for _ in range(2000))
    assert 0 <= waits[0] < 0.01 * longest
    assert 0.99 * longest < waits[-1] <= longest
    assert waits[1000] == pytest.approx(longest / 2, rel=0.1)


@given(st.integers(1, 50), st.floats(0, 10), st.integers())
def test_no_wait_is_negative_or_longer_than_the_longest(retry: int, backoff: float, seed: int) -> None:
    config = RetryConfig(backoff=backoff)
    assert 0 <= backoff_before(retry, config, random.Random(seed)) <= backoff * min(LONGEST_BACKOFF, 2**retry)


NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0),
        (b"1", 1),
        (b"60", 60),
        (b"007", 7),
        (b"86400", 86_400),
        (b"Sun, 06 Nov 1994 08:50:37 GMT", 60),
        (b"Sunday, 06-Nov-94 08:50:37 GMT", 60),
        (b"Sun Nov  6 08:50:37 1994", 60),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 0),
        (b"Sun, 06 Nov 1994 08:48:37 GMT", 0),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
        (b"Sun, 06 Nov 1994 09:50:37 +0100", 60),
        (b"", 0),
        (b"soon", 0),
        (b"-5", 0),
        (b"1.5", 0),
        (b"\xb2", 0),
        (b"\xe6", 0),
        (b"Sun, 99 Nov 1994 08:50:37 GMT", 0),
        (b"Sun, 06 Nov 1994 08:50:37 +9999", 0),
        (b"Sun, 06 Nov 1994 08:50:37 +99999999999999999999", 0),
    ],
)
def test_a_response_asks_for_a_pause_in_seconds_or_with_a_date(value: bytes, seconds: float) -> None:
    assert retry_after({b"retry-after": [value]}, lambda: NOW) == seconds


def test_no_pause_is_asked_for_without_the_field() -> None:
    assert retry_after({}, lambda: NOW) == retry_after({b"retry-after": []}, lambda: NOW) == 0


def test_the_first_of_several_pauses_counts() -> None:
    assert retry_after({b"retry-after": [b"7", b"60"]}, lambda: NOW) == 7


def test_an_absurdly_long_pause_is_still_a_long_one() -> None:
    assert retry_after({b"retry-after": [b"9" * 5000]}, lambda: NOW) > 300


@pytest.fixture
def _nine_hours_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "EAST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_nine_hours_east")
@pytest.mark.parametrize(
    "value", [b"Sun, 06 Nov 1994 08:50:37 GMT", b"Sunday, 06-Nov-94 08:50:37 GMT", b"Sun Nov  6 08:50:37 1994"]
)
def test_a_date_is_in_universal_time_wherever_the_gateway_runs(value: bytes) -> None:
    assert retry_after({b"retry-after": [value]}, lambda: NOW) == 60


date_parts = st.sampled_from(["Sun,", "06", "6", "Nov", "1994", "99999", "08:49:37", "8.49", ":", "GMT", "+9999", "-"])


@given(st.one_of(st.binary(max_size=40), st.lists(date_parts).map(lambda parts: " ".join(parts).encode())))
def test_whatever_a_response_says_the_pause_is_a_number(value: bytes) -> None:
    assert 0 <= retry_after({b"retry-after": [value]}, lambda: NOW) < math.inf


# ---- how often: the budget


def retries(budget: Budget, begin: float, seconds: float, rate: int, attempts: int = 3) -> int:
    """Granted retries at this rate of requests, if every attempt fails."""
    granted = 0
    for number in range(int(seconds * rate)):
        now = begin + number / rate
        budget.pay_in(now)
        for _ in range(attempts - 1):
            if not budget.take(now):
                break
            granted += 1
    return granted


def test_when_all_fails_retries_add_a_fifth_to_the_load() -> None:
    granted = retries(Budget(RetryConfig()), START, 10, 1000)
    assert 0.19 * 10_000 <= granted <= 0.2 * 10_000 + 20


def test_when_all_fails_for_long_retries_still_add_no_more_than_a_fifth() -> None:
    budget = Budget(RetryConfig())
    retries(budget, START, 10, 1000)
    for second in range(10, 20):
        assert 190 <= retries(budget, START + second, 1, 1000) <= 205


@pytest.mark.parametrize("rate", [100, 1000])
def test_after_good_times_all_requests_of_a_killed_endpoint_may_be_retried_at_once(rate: int) -> None:
    budget = Budget(RetryConfig())
    now = START
    for number in range(10 * rate):
        now = START + number / rate
        budget.pay_in(now)
    killed = int(rate * 1.1 / 3)  # a third of the requests in flight, each of which takes more than a second
    assert all(budget.take(now) for _ in range(killed))


def test_the_balance_is_at_most_the_share_of_two_seconds() -> None:
    budget = Budget(RetryConfig())
    for number in range(100_000):
        budget.pay_in(START + number / 1000)
    assert sum(budget.take(START + 100) for _ in range(10_000)) <= 0.2 * 2_000 + 3 + 10


def test_when_all_begins_to_fail_the_first_second_bears_less_than_two_thirds_more() -> None:
    budget = Budget(RetryConfig())
    for number in range(60_000):
        budget.pay_in(START + number / 1000)
    assert retries(budget, START + 60, 1, 1000) <= 600
    assert retries(budget, START + 61, 1, 1000) <= 205


@pytest.mark.parametrize("now", [0.0, START, 1e9])
def test_a_service_without_traffic_has_its_floor(now: float) -> None:
    budget = Budget(RetryConfig())
    assert [budget.take(now) for _ in range(5)] == [True, True, True, False, False]


def test_an_empty_floor_fills_again() -> None:
    budget = Budget(RetryConfig(budget_floor=3.001))
    while budget.take(START):
        pass
    assert not budget.take(START + 0.80)
    assert budget.take(START + 0.82)
    assert [budget.take(START + 200) for _ in range(4)] == [True, True, True, False]


def test_a_request_a_minute_is_sent_again_as_often_as_it_may_be() -> None:
    budget = Budget(RetryConfig())
    assert [retries(budget, START + 60 * minute, 1, 1) for minute in range(10)] == [2] * 10


def test_an_unused_balance_decays_to_the_floor() -> None:
    budget = Budget(RetryConfig())
    for number in range(10_000):
        budget.pay_in(START + number / 1000)
    assert budget.balance(START + 10) > 350
    assert budget.balance(START + 12) == pytest.approx(3 + (budget.balance(START + 10) - 3) / math.e)
    assert budget.balance(START + 200) == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize(
    ("error", "retries", "expected"),
    [
        (ConnectFailed(), 0, True),
        (ConnectTimeout(), 0, True),
        (ConnectFailed(), 1, False),
        (ConnectTimeout(), 2, False),
        (UpstreamReset(), 0, False),
        (HeadTimeout(), 0, False),
    ],
)
def test_the_first_retry_is_free_if_no_connection_was_made(error: UpstreamError, retries: int, expected: bool) -> None:
    assert is_free_retry(error, retries) is expected


def test_with_neither_share_nor_floor_there_are_no_retries() -> None:
    assert retries(Budget(RetryConfig(budget_share=0.0, budget_floor=0.0)), START, 10, 100) == 0


class Spending(RuleBasedStateMachine):
    @initialize(share=st.floats(0, 1), floor=st.floats(0, 10))
    def begin(self, share: float, floor: float) -> None:
        self.share, self.floor = share, floor
        self.budget = Budget(RetryConfig(budget_share=share, budget_floor=floor))
        self.now = START
        self.requests = self.granted = 0

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        before = self.budget.balance(self.now)
        self.now += seconds
        after = self.budget.balance(self.now)
        assert min(before, self.floor) - 1e-9 <= after <= max(before, self.floor) + 1e-9
        assert abs(after - self.floor) <= abs(before - self.floor) + 1e-9

    @rule(times=st.integers(1, 30))
    def request(self, times: int) -> None:
        before = self.budget.balance(self.now)
        for _ in range(times):
            self.budget.pay_in(self.now)
        self.requests += times
        # Requests within BUDGET_FOLD count as simultaneous.
        off = BUDGET_FOLD / BUDGET_WINDOW
        assert self.budget.balance(self.now) == pytest.approx(before + times * self.share, rel=off)

    @rule(times=st.integers(1, 30))
    def retry(self, times: int) -> None:
        for _ in range(times):
            before = self.budget.balance(self.now)
            taken = self.budget.take(self.now)
            assert taken is (before >= 1)
            assert self.budget.balance(self.now) == pytest.approx(before - taken)
            self.granted += taken

    @invariant()
    def there_is_never_less_than_nothing(self) -> None:
        assert self.budget.balance(self.now) >= 0

    @invariant()
    def no_more_is_granted_than_was_paid_in_and_the_floor_gives(self) -> None:
        from_floor = self.floor * (1 + (self.now - START) / BUDGET_WINDOW)
        assert self.granted <= from_floor + self.share * self.requests + 1e-6

    @invariant()
    def reading_changes_nothing(self) -> None:
        before = pickle.dumps(self.budget)
        self.budget.balance(self.now + 100)
        assert pickle.dumps(self.budget) == before


TestSpending = Spending.TestCase


# ---- answers that are not passed on


@pytest.mark.parametrize(
    ("status", "statuses", "is_repeatable", "awaits_stream", "expected"),
    [
        (503, (503,), True, False, True),
        (429, (429, 503), True, False, True),
        (404, (404,), True, False, True),
        (200, (200,), True, False, True),
        (503, (503,), False, False, False),
        (503, (), True, False, False),
        (502, (503,), True, False, False),
        (500, (), False, True, True),
        (599, (), True, True, True),
        (501, (), False, True, True),
        (499, (), True, True, False),
        (200, (), True, True, False),
        (429, (429,), True, True, True),
        (429, (429,), False, True, False),
    ],
)
def test_which_answers_another_endpoint_may_replace(
    status: int, statuses: tuple[int, ...], is_repeatable: bool, awaits_stream: bool, expected: bool
) -> None:
    config = RetryConfig(on=statuses)
    assert is_retried(status, config, is_repeatable=is_repeatable, awaits_stream=awaits_stream) is expected


# ---- repeatable methods


@pytest.mark.parametrize(
    ("declared", "method", "repeats"),
    [
        ((), b"GET", True),
        ((), b"PUT", True),
        ((), b"POST", False),
        ((), b"PATCH", False),
        (("POST",), b"POST", True),
        (("POST",), b"PATCH", False),
        (("POST", "PATCH"), b"PATCH", True),
        (("POST",), b"post", False),  # methods are case-sensitive (RFC 9110 §9.1)
        (("POST",), b"GET", True),
        (("all",), b"POST", True),
        (("all",), b"BREW", True),
        (("POST",), b"all", False),
        (("POST",), b"\xff", False),
    ],
)
def test_a_service_says_which_methods_may_be_carried_out_twice(
    declared: tuple[str, ...], method: bytes, repeats: bool
) -> None:
    assert retry.is_repeatable(method, RetryConfig(repeatable=declared)) is repeats
