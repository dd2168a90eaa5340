"""Leases: the load is the number of open leases, an outcome counts once, a departed client says nothing about the
endpoint, and a request lost to a hedge shows a slow endpoint."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.services import FAILURES, OPEN_FOR, eject, lease_on, service
from tornado_gateway.policy.upstream.breaker import BreakerConfig, State
from tornado_gateway.policy.upstream.concurrency import AdaptiveConfig, AdaptiveLimit
from tornado_gateway.policy.upstream.endpoint import (
    CLIENT_GONE,
    FAILURE,
    IGNORED,
    SUCCESS,
    SUPERSEDED,
    Endpoint,
    Kind,
    LeaseRequest,
    Outcome,
)
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.outcomes import HANGS


@pytest.mark.parametrize(("outcome", "errors"), [(each, each is FAILURE) for each in Outcome])
def test_an_outcome_counts_once(outcome: Outcome, errors: int) -> None:
    single = service(1)
    (one,) = single.endpoints
    lease = single.lease(LeaseRequest(0.0))
    assert lease.endpoint is one
    assert (one.load, single.inflight[Kind.HTTP]) == (1, 1)
    for again in (outcome, *Outcome):
        lease.settle(again, 1.0)
    assert (one.load, single.inflight[Kind.HTTP]) == (0, 0)
    assert (one.requests_total, one.errors_total) == (1, errors)
    assert one.outcomes == {each: int(each is outcome) for each in Outcome}
    assert one.window.minute(1.0).error_rate == errors


def test_the_latency_is_the_time_to_the_head_not_to_the_end() -> None:
    single = service(1)
    (one,) = single.endpoints
    lease = single.lease(LeaseRequest(10.0))
    lease.answered(10.25, 200)
    lease.settle(SUCCESS, 3610.0)
    assert (one.latency.average, one.latency.last) == (0.25, 0.25)
    assert one.window.minute(3610.0).quantiles([0.5]) == [pytest.approx(0.25, rel=0.01)]


def test_a_retry_is_counted_where_it_goes() -> None:
    several = service(1, 1)
    several.lease(LeaseRequest(0.0)).settle(FAILURE, 0.0)
    several.lease(LeaseRequest(0.0, tried=[several.endpoints[0]]), is_retry=True).settle(SUCCESS, 0.0)
    assert [one.retries_total for one in several.endpoints] == [0, 1]


@pytest.mark.parametrize(
    ("status", "wait", "penalty"),
    [
        (200, 0.0, 0.0),
        (200, 60.0, 0.0),
        (101, 0.0, 0.0),
        (304, 0.0, 0.0),
        (404, 60.0, 0.0),
        (501, 60.0, 0.0),
        (505, 60.0, 0.0),
        (429, 0.0, 0.0),
        (429, 60.0, 0.0),
        (429, 1e9, 0.0),
        (500, 0.0, 5.0),
        (500, 60.0, 5.0),
        (502, 60.0, 5.0),
        (503, 0.0, 5.0),
        (503, 1.0, 5.0),
        (503, 60.0, 60.0),
        (503, 1e9, 300.0),
        (504, 0.0, 5.0),
        (599, 0.0, 5.0),
    ],
)
def test_a_failed_answer_counts_as_a_slow_answer(status: int, wait: float, penalty: float) -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    lease_on(several, one).answered(0.001, status, wait)
    assert one.latency.penalty(0.001) == penalty
    assert one.latency.last == (0.0 if status == 429 else 0.001)


def test_other_statuses_can_count_as_failures() -> None:
    several = service(1, 1, failure_statuses=(418,))
    one = several.endpoints[0]
    lease_on(several, one).answered(0.001, 503, 60.0)
    assert one.latency.penalty(0.001) == 0.0
    lease_on(several, one).answered(0.001, 418, 60.0)
    assert one.latency.penalty(0.001) == 5.0


def test_a_429_is_a_failure_where_configured() -> None:
    several = service(1, 1, failure_statuses=(429, 503))
    one = several.endpoints[0]
    lease_on(several, one).answered(0.001, 429, 60.0)
    assert one.latency.penalty(0.001) == 60.0


def test_a_429_does_not_absolve_an_endpoint_that_has_failed() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    lease_on(several, one).settle(FAILURE, 0.0)
    lease_on(several, one, 1.0).answered(1.001, 429)
    assert several.endpoint_set.probing.penalised
    lease_on(several, one, 2.0).answered(2.001, 404)
    assert not several.endpoint_set.probing.penalised


@pytest.mark.parametrize(
    ("outcome", "answered", "penalty"),
    [(FAILURE, False, 5.0), (FAILURE, True, 0.0), *((each, False, 0.0) for each in Outcome if each is not FAILURE)],
)
def test_a_failure_without_an_answer_counts_as_a_slow_one(outcome: Outcome, answered: bool, penalty: float) -> None:
    several = service(1, 1)
    lease = lease_on(several, several.endpoints[0])
    if answered:
        lease.answered(0.001, 200)
    lease.settle(outcome, 0.002)
    assert several.endpoints[0].latency.penalty(0.002) == penalty


@pytest.mark.parametrize("answered", [False, True])
def test_a_thousand_clients_that_leave_say_nothing_about_an_endpoint(answered: bool) -> None:
    several = service(1, 1)
    for one in several.endpoints:
        one.latency.add(0.0, 0.5)
    for number in range(1000):
        lease = several.lease(LeaseRequest(number / 1000))
        if answered:
            lease.answered(number / 1000 + 0.5, 200)
        lease.settle(CLIENT_GONE, number / 1000 + 0.6)
    for one in several.endpoints:
        assert one.breaker.state(2.0) is State.CLOSED
        assert (one.latency.average, one.latency.penalty(2.0)) == (0.5, 0.0)
        assert (one.requests_total, one.outcomes[CLIENT_GONE], one.errors_total, one.load) == (500, 500, 0, 0)
        assert (one.window.minute(2.0).rate, one.window.minute(2.0).error_rate) == (250.0, 0.0)


def test_clients_that_leave_do_not_hide_failures() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    for _ in range(FAILURES):
        for _ in range(200):
            lease_on(several, one).settle(IGNORED, 0.0)
        lease_on(several, one).settle(FAILURE, 0.0)
    assert one.breaker.is_open


# ---- a service that answers late on purpose


SLOW_RULE = BreakerConfig(jitter=0.0, slow_after=1.0, slow_share=0.5, minimum=1)


@pytest.mark.parametrize("uploads", [False, True])
@pytest.mark.parametrize("is_long_poll", [False, True])
def test_how_long_a_long_poll_waits_is_no_latency(is_long_poll: bool, uploads: bool) -> None:
    several = service(1, 1, breaker=SLOW_RULE, is_long_poll=is_long_poll)
    one = several.endpoints[0]
    lease = lease_on(several, one)
    if uploads:
        lease.upload_begins()
        lease.upload_ends(0.0)
    lease.answered(35.0, 200)
    lease.settle(SUCCESS, 35.0)
    assert (one.latency.average, one.latency.last) == ((0.0, 0.0) if is_long_poll else (35.0, 35.0))
    assert one.window.minute(35.0).answers == (0 if is_long_poll else 1)
    assert one.breaker.is_open is not is_long_poll
    assert (one.requests_total, one.window.minute(35.0).error_rate) == (1, 0.0)


@pytest.mark.parametrize("is_long_poll", [False, True])
def test_a_long_poll_without_an_answer_in_time_is_no_failure_to_the_breaker(is_long_poll: bool) -> None:
    several = service(1, 1, breaker=SLOW_RULE, is_long_poll=is_long_poll)
    one = several.endpoints[0]
    for _ in range(FAILURES):
        lease = lease_on(several, one)
        lease.timed_out()
        lease.settle(FAILURE, 30.0)
    assert one.breaker.is_open is not is_long_poll
    assert (one.latency.penalty(30.0) == 0.0) is is_long_poll
    assert several.endpoint_set.probing.penalised is not is_long_poll
    assert (one.errors_total, one.unanswered_total, one.load) == (FAILURES, FAILURES, 0)


def test_other_failures_of_a_long_poll_count_as_ever() -> None:
    several = service(1, 1, is_long_poll=True)
    one = several.endpoints[0]
    eject(several, one)
    assert one.latency.penalty(0.0) > 0.0


def test_a_probe_that_is_a_long_poll_and_is_not_answered_decides_nothing() -> None:
    several = service(1, 1, is_long_poll=True)
    one = several.endpoints[0]
    eject(several, one)
    probe = lease_on(several, one, OPEN_FOR)
    probe.timed_out()
    probe.settle(FAILURE, OPEN_FOR + 30.0)
    assert one.breaker.state(OPEN_FOR + 30.0) is State.HALF_OPEN
    assert one.breaker.passes(OPEN_FOR + 30.0)


# ---- each lease counts once, with any outcome

LIVES = st.lists(
    st.tuples(st.sampled_from(Outcome), st.sampled_from([0, 101, 200, 429, 503]), st.booleans(), st.integers(0, 2)),
    max_size=60,
)


@settings(deadline=None)
@given(LIVES, st.integers(0, 10))
def test_the_outcomes_of_an_endpoint_are_all_leases_that_ended(
    lives: list[tuple[Outcome, int, bool, int]], held: int
) -> None:
    several = service(1, 2, 3, hedge=True)
    taken = Counter[Endpoint]()
    for outcome, status, is_stream, ends_by_hedge in lives:
        lease = lease_on(several, several.endpoints[status % 3], 0.0)
        taken[lease.endpoint] += 1
        if status:
            lease.answered(0.1, status)
        if is_stream:
            lease.becomes(Kind.SSE, 0.1)
        if ends_by_hedge:
            lease.supersede(0.2) if ends_by_hedge == 1 else lease.lose_to_hedge(0.2)
        lease.settle(outcome, 0.3)
    for number in range(held):
        lease_on(several, several.endpoints[number % 3], 0.4)
    for one in several.endpoints:
        assert sum(one.outcomes.values()) == one.requests_total == taken[one]
        assert min(one.outcomes.values()) >= 0
        assert one.outcomes[FAILURE] == one.errors_total


def test_an_error_rate_has_the_requests_that_clients_ended_below_the_line() -> None:
    single = service(1)
    (one,) = single.endpoints
    for number in range(100):
        lease = lease_on(single, one)
        if number < 88:
            lease.answered(0.1, 200)
        lease.settle(FAILURE if number >= 88 else CLIENT_GONE if number < 80 else SUCCESS, 0.2)
    assert one.window.minute(0.2).error_rate == 0.12
    assert one.outcomes == {SUCCESS: 8, FAILURE: 12, CLIENT_GONE: 80, SUPERSEDED: 0, IGNORED: 0}


def test_a_hedge_that_lost_is_superseded() -> None:
    several = service(1, 1, hedge=True)
    for end in (Lease.supersede, Lease.lose_to_hedge):
        lease = several.lease(LeaseRequest(0.0))
        end(lease, 0.1)
        assert lease.endpoint.outcomes[SUPERSEDED] == 1


@pytest.mark.parametrize(("answered", "opens"), [(200, False), (503, True), (None, True)])
def test_answers_of_departed_clients_count_in_the_breakers_shares(answered: int | None, opens: bool) -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    for _ in range(FAILURES):
        for _ in range(100):
            lease = lease_on(several, one)
            if answered:
                lease.answered(0.0, answered)
            lease.settle(CLIENT_GONE, 0.0)
        lease_on(several, one).settle(FAILURE, 0.0)
    assert one.breaker.is_open is opens  # 5 of 505 are less than MIN_FAILURE_SHARE


def test_a_probe_whose_client_left_decides_nothing_although_it_was_answered() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    eject(several, one)
    probe = lease_on(several, one, OPEN_FOR)
    probe.answered(OPEN_FOR, 200)
    probe.settle(CLIENT_GONE, OPEN_FOR)
    assert one.breaker.state(OPEN_FOR) is State.HALF_OPEN
    assert one.breaker.passes(OPEN_FOR)


# ---- streams


@pytest.mark.parametrize(
    ("status", "outcome", "unanswered"),
    [(None, FAILURE, 1), (None, SUCCESS, 0), (None, IGNORED, 0), (500, FAILURE, 0), (200, FAILURE, 0)],
)
def test_failures_without_an_answer_are_counted_apart_as_well(  # C1
    status: int | None, outcome: Outcome, unanswered: int
) -> None:
    single = service(1)
    lease = single.lease(LeaseRequest(0.0))
    if status:
        lease.answered(0.1, status)
    lease.settle(outcome, 0.2)
    assert single.endpoints[0].unanswered_total == unanswered


@pytest.mark.parametrize("kind", [Kind.SSE, Kind.WS])
def test_a_request_that_becomes_a_stream_counts_as_a_stream(kind: Kind) -> None:
    single = service(1)
    (one,) = single.endpoints
    lease = single.lease(LeaseRequest(0.0))
    for _ in range(2):
        lease.becomes(kind, 0.1)
        assert lease.kind is kind
        assert (one.requests, one.streams, one.inflight[kind]) == (0, 1, 1)
        assert single.inflight == one.inflight
    lease.settle(SUCCESS, 3600.0)
    assert (one.load, sum(single.inflight.values())) == (0, 0)


def test_a_lease_that_has_ended_becomes_nothing() -> None:
    single = service(1)
    lease = single.lease(LeaseRequest(0.0))
    lease.settle(IGNORED, 0.1)
    lease.becomes(Kind.SSE, 0.2)
    assert set(single.inflight.values()) | set(single.endpoints[0].inflight.values()) == {0}


def test_how_long_a_stream_lasts_is_no_latency() -> None:
    single = service(1, breaker=BreakerConfig(slow_after=1.0, slow_share=0.1, minimum=1))
    (one,) = single.endpoints
    lease = single.lease(LeaseRequest(0.0, Kind.WS))
    lease.answered(0.5, 101)
    lease.becomes(Kind.WS, 0.5)
    lease.settle(SUCCESS, 3600.0)
    assert (one.latency.average, one.latency.last) == (0.5, 0.5)
    assert not one.breaker.is_open


def test_slow_heads_open_a_breaker_that_looks_for_them() -> None:
    single = service(1, breaker=BreakerConfig(slow_after=1.0, slow_share=0.5, minimum=4))
    (one,) = single.endpoints
    for seconds in (0.5, 2.0, 0.5, 2.0):
        assert not one.breaker.is_open
        lease = single.lease(LeaseRequest(0.0))
        lease.answered(seconds, 200)
        lease.settle(SUCCESS, 3.0)
    assert one.breaker.is_open


@pytest.mark.parametrize("asked_as", [Kind.HTTP, Kind.WS])
def test_a_stream_that_begins_is_a_successful_probe(asked_as: Kind) -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    eject(several, one)
    probe = several.lease(LeaseRequest(OPEN_FOR, asked_as))
    assert probe.endpoint is one
    probe.answered(OPEN_FOR + 0.1, 101)
    assert one.breaker.is_open
    probe.becomes(Kind.WS, OPEN_FOR + 0.1)
    assert not one.breaker.is_open
    assert one.is_admitted
    assert one.joined_at == OPEN_FOR + 0.1
    probe.settle(SUCCESS, 3600.0)
    assert one.joined_at == OPEN_FOR + 0.1


def test_streams_that_break_count_as_failures() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    eject(several, one)
    probe = several.lease(LeaseRequest(OPEN_FOR))
    probe.becomes(Kind.SSE, OPEN_FOR)
    streams = [probe, *(lease_on(several, one, OPEN_FOR, Kind.SSE) for _ in range(FAILURES - 1))]
    for stream in streams:
        assert not one.breaker.is_open
        stream.settle(FAILURE, OPEN_FOR + 100.0)
    assert one.breaker.is_open
    assert one.errors_total == FAILURES + len(streams)


@pytest.mark.parametrize("outcome", Outcome)
def test_a_probe_that_has_ended_decides_nothing_afterwards(outcome: Outcome) -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    eject(several, one)
    probe = several.lease(LeaseRequest(OPEN_FOR))
    probe.settle(outcome, OPEN_FOR + 1.0)
    state, opened = one.breaker.state(OPEN_FOR + 1.0), one.breaker.opened
    probe.becomes(Kind.SSE, OPEN_FOR + 2.0)
    probe.settle(FAILURE, OPEN_FOR + 2.0)
    assert (one.breaker.state(OPEN_FOR + 1.0), one.breaker.opened) == (state, opened)


def test_a_probe_whose_client_leaves_is_given_back_once() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    eject(several, one)
    probe = several.lease(LeaseRequest(OPEN_FOR))
    probe.settle(IGNORED, OPEN_FOR)
    probe.settle(IGNORED, OPEN_FOR)
    assert several.lease(LeaseRequest(OPEN_FOR)).endpoint is one
    assert not one.breaker.passes(OPEN_FOR)
    assert one.breaker.state(OPEN_FOR) is State.HALF_OPEN


# ---- hedged requests


@pytest.mark.parametrize(
    ("average", "seconds", "is_sample"),
    [(0.0, 0.001, True), (0.5, 0.1, False), (0.5, 0.5, False), (0.5, 0.625, True), (0.5, 60.0, True)],
)
def test_the_time_until_a_hedge_wins_is_a_lower_bound_of_the_latency(
    average: float, seconds: float, is_sample: bool
) -> None:
    single = service(1)
    (one,) = single.endpoints
    one.latency.add(0.0, average)
    single.lease(LeaseRequest(0.0)).lose_to_hedge(seconds)
    assert one.latency.last == (seconds if is_sample else average)
    assert (one.latency.average > average) is is_sample


def test_a_request_lost_to_a_hedge_is_no_failure_and_no_success() -> None:
    single = service(1)
    (one,) = single.endpoints
    for _ in range(HANGS - 1):
        single.lease(LeaseRequest(0.0)).lose_to_hedge(30.0)
    assert (one.load, single.inflight[Kind.HTTP]) == (0, 0)
    assert (one.outcomes[SUPERSEDED], one.errors_total, one.latency.penalty(30.0)) == (HANGS - 1, 0, 0.0)
    assert (one.breaker.is_open, one.window.minute(30.0).error_rate) == (False, 0.0)
    assert one.window.minute(30.0).quantiles([0.5]) == [pytest.approx(30.0, rel=0.01)]


def test_an_endpoint_that_loses_every_hedge_hangs_and_is_ejected() -> None:
    single = service(1)
    (one,) = single.endpoints
    for _ in range(HANGS + FAILURES - 1):
        single.lease(LeaseRequest(0.0)).lose_to_hedge(1.0)
    assert (one.outcomes[SUPERSEDED], one.errors_total, one.load) == (HANGS - 1, FAILURES, 0)
    assert one.breaker.is_open


def test_one_answer_shows_that_an_endpoint_does_not_hang() -> None:
    single = service(1)
    (one,) = single.endpoints
    for _ in range(3 * HANGS):
        for _ in range(HANGS - 1):
            single.lease(LeaseRequest(0.0)).lose_to_hedge(1.0)
        single.lease(LeaseRequest(0.0)).answered(1.0, 200)
    assert one.errors_total == 0


def test_a_hedge_that_loses_does_not_make_its_endpoint_hang() -> None:
    single = service(1)
    (one,) = single.endpoints
    for _ in range(3 * HANGS):
        single.lease(LeaseRequest(0.0)).supersede(1.0)
    assert (one.outcomes[SUPERSEDED], one.errors_total, one.load, one.latency.last) == (3 * HANGS, 0, 0, 1.0)


def test_an_answered_request_is_not_lost_to_a_hedge() -> None:
    single = service(1)
    (one,) = single.endpoints
    lease = single.lease(LeaseRequest(0.0))
    lease.answered(0.25, 200)
    lease.lose_to_hedge(30.0)
    assert (one.latency.average, one.latency.last, one.load) == (0.25, 0.25, 0)


@pytest.mark.parametrize("outcome", Outcome)
def test_a_settled_lease_is_not_lost_to_a_hedge(outcome: Outcome) -> None:
    single = service(1)
    (one,) = single.endpoints
    lease = single.lease(LeaseRequest(0.0))
    lease.settle(outcome, 0.5)
    before = (one.latency.last, one.requests_total, one.errors_total, one.load)
    lease.lose_to_hedge(30.0)
    assert before == (one.latency.last, one.requests_total, one.errors_total, one.load)


def test_a_lease_is_lost_to_a_hedge_once() -> None:
    single = service(1)
    (one,) = single.endpoints
    lease = single.lease(LeaseRequest(0.0))
    lease.lose_to_hedge(0.5)
    lease.lose_to_hedge(30.0)
    lease.settle(FAILURE, 30.0)
    assert (one.latency.last, one.requests_total, one.errors_total, one.load) == (0.5, 1, 0, 0)


def test_a_probe_lost_to_a_hedge_decides_nothing() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    eject(several, one)
    probe = several.lease(LeaseRequest(OPEN_FOR))
    assert probe.endpoint is one
    probe.lose_to_hedge(OPEN_FOR + 1.0)
    assert one.breaker.is_open
    assert several.lease(LeaseRequest(OPEN_FOR + 1.0)).endpoint is one


@pytest.mark.parametrize("took", [0.5, 15.0])
def test_to_the_slow_call_rule_no_answer_is_slower_than_any(took: float) -> None:
    single = service(1, breaker=BreakerConfig(failures=0, slow_after=1.0, slow_share=0.5, minimum=10))
    (one,) = single.endpoints
    for number in range(10):
        single.lease(LeaseRequest(float(number))).settle(FAILURE, number + took)
    assert one.breaker.is_open is (took > 1.0)


# ---- latency and uploads


@pytest.mark.parametrize("ended", [0.0, 3.0])
def test_how_long_a_client_takes_to_send_a_body_is_not_its_endpoints_latency(ended: float) -> None:
    single = service(1)
    (one,) = single.endpoints
    lease = single.lease(LeaseRequest(0.0))
    lease.upload_begins()
    lease.upload_ends(ended)
    lease.answered(ended + 0.25, 200)
    lease.settle(SUCCESS, 10.0)
    assert (one.latency.average, one.latency.peak(ended + 0.25)) == (0.25, 0.25)
    assert one.window.minute(10.0).quantiles([0.5]) == [pytest.approx(0.25, rel=0.01)]


def test_an_answer_that_comes_before_the_body_has_ended_says_nothing_about_time() -> None:
    single = service(1)
    (one,) = single.endpoints
    lease = single.lease(LeaseRequest(0.0))
    lease.upload_begins()
    lease.answered(3.0, 413)
    lease.upload_ends(4.0)
    lease.settle(SUCCESS, 5.0)
    assert (one.latency.last, one.window.minute(5.0).answers, one.requests_total) == (0.0, 0, 1)


@pytest.mark.parametrize(("answered", "unanswered"), [(True, 0), (False, 1)])
def test_an_early_answer_is_an_answer(answered: bool, unanswered: int) -> None:
    single = service(1)
    lease = single.lease(LeaseRequest(0.0))
    lease.upload_begins()
    if answered:
        lease.answered(1.0, 200)
    lease.settle(FAILURE, 2.0)
    assert single.endpoints[0].unanswered_total == unanswered


@pytest.mark.parametrize(("body_took", "state"), [(5.0, State.CLOSED), (0.0, State.OPEN)])
def test_slow_uploads_open_no_breaker_that_looks_for_slow_answers(body_took: float, state: State) -> None:
    single = service(1, breaker=BreakerConfig(failures=0, slow_after=1.0, slow_share=0.5))
    (one,) = single.endpoints
    for _ in range(10):
        lease = single.lease(LeaseRequest(0.0))
        lease.upload_begins()
        lease.upload_ends(body_took)
        lease.answered(5.1, 200)
        lease.settle(SUCCESS, 5.1)
    assert one.breaker.state(5.1) is state


@pytest.mark.parametrize(("status", "least"), [(200, 0.001), (429, 0.0)])
def test_a_fast_refusal_is_no_sample_of_the_latency(status: int, least: float) -> None:
    limit = AdaptiveLimit(AdaptiveConfig(), random.Random(1))
    single = service(1, limit=limit)
    for number in range(50):
        lease = single.lease(LeaseRequest(number / 100))
        lease.answered(number / 100 + 0.001, status)
        lease.settle(single.outcomes.judge(status), number / 100 + 0.001)
    assert limit.least_latency == pytest.approx(least)


# ---- what a probe shows


def test_a_probe_answered_with_429_closes_the_breaker() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    eject(several, one)
    probe = several.lease(LeaseRequest(OPEN_FOR))
    assert probe.endpoint is one
    probe.answered(OPEN_FOR + 0.001, 429, 60.0)
    probe.settle(SUCCESS, OPEN_FOR + 0.001)
    assert one.breaker.state(OPEN_FOR + 1) is State.CLOSED
    assert one.latency.penalty(OPEN_FOR + 1) == 0.0


def test_of_many_requests_to_a_broken_endpoint_only_the_probe_decides() -> None:
    several = service(1, 1, max_ejected=0.0)
    one = several.endpoints[0]
    eject(several, one)
    first, *others = [lease_on(several, one, OPEN_FOR) for _ in range(20)]
    for lease in others:
        lease.settle(SUCCESS, OPEN_FOR + 1)
    assert one.breaker.state(OPEN_FOR + 1) is State.HALF_OPEN
    first.settle(FAILURE, OPEN_FOR + 2)
    assert one.breaker.state(OPEN_FOR + 2) is State.OPEN


@pytest.mark.parametrize(("sent_at", "state"), [(-1.0, State.OPEN), (0.0, State.OPEN), (1.0, State.CLOSED)])
def test_without_a_healthy_endpoint_a_good_answer_since_the_opening_closes_the_breaker(
    sent_at: float, state: State
) -> None:
    several = service(1, 1)
    for one in several.endpoints:
        eject(several, one)
    one = several.endpoints[0]
    lease = lease_on(several, one, sent_at)
    lease.answered(2.0, 200)
    lease.settle(SUCCESS, 2.0)
    assert one.breaker.state(2.0) is state
    assert one.breaker.passes(2.0) is (state is State.CLOSED)


@pytest.mark.parametrize("connected", [True, False])
def test_an_endpoint_is_unreachable_if_its_newest_failure_was_the_connection(connected: bool) -> None:
    single = service(1)
    (one,) = single.endpoints
    for unconnected in (connected, not connected):
        lease = single.lease(LeaseRequest(0.0))
        if unconnected:
            lease.not_connected()
        lease.settle(FAILURE, 0.0)
    assert one.is_unreachable is not connected
