"""What is known about an endpoint, and whom an ask admits."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig, State
from tornado_gateway.policy.upstream.endpoint import FIRST_SHARE, Ask, Endpoint, Kind


def endpoint(url: str = "http://a", weight: int = 1, now: float = 0.0) -> Endpoint:
    return Endpoint(url, Breaker(BreakerConfig(), random.Random(1)), weight, now)


def test_an_endpoint_knows_where_it_is() -> None:
    one = endpoint("http://a:8080/base/", weight=3)
    assert (one.url, one.authority, one.base_path, one.weight) == ("http://a:8080/base/", b"a:8080", b"/base", 3)
    assert one.origin.authority == one.authority
    assert repr(one) == "Endpoint('http://a:8080/base/', inflight=0)"


def test_a_new_endpoint_is_believed_to_be_well_and_gets_all_of_its_traffic() -> None:
    one = endpoint(now=1000.0)
    assert one.is_healthy
    assert one.is_usable
    assert one.breaker.state(1000.0) is State.CLOSED
    assert one.share(1000.0, slow_start=10.0) == 1.0
    assert (one.requests_total, one.errors_total, one.retries_total) == (0, 0, 0)
    assert one.window.rate(1000.0) == 0.0


def test_load_is_counted_by_kind() -> None:
    one = endpoint()
    one.requests, one.event_streams, one.websockets = 1, 20, 300
    assert (one.requests, one.streams, one.load) == (1, 320, 321)
    assert repr(one) == "Endpoint('http://a', inflight=321)"


def test_endpoints_do_not_share_what_is_known_about_them() -> None:
    one, other = endpoint(), endpoint()
    one.count(Kind.HTTP, 1)
    one.latency.add(0.0, 1.0)
    one.window.add(0.0, failed=True)
    assert (other.load, other.latency.average, other.window.error_rate(0.0)) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("since", "slow_start", "share"),
    [
        (0.0, 10.0, FIRST_SHARE),
        (0.5, 10.0, FIRST_SHARE),
        (1.0, 10.0, 0.1),
        (2.0, 10.0, 0.2),
        (5.0, 10.0, 0.5),
        (9.9, 10.0, 0.99),
        (10.0, 10.0, 1.0),
        (1e9, 10.0, 1.0),
        (math.inf, 10.0, 1.0),
        (30.0, 60.0, 0.5),
        (0.0, 0.0, 1.0),
        (-1.0, 10.0, FIRST_SHARE),  # a lease may be older than the instant at which its endpoint came back
    ],
)
def test_the_share_of_one_that_joins_grows_linearly_from_a_tenth_to_all(
    since: float, slow_start: float, share: float
) -> None:
    one = endpoint()
    one.joined_at = 100.0 - since
    assert one.share(100.0, slow_start) == pytest.approx(share)


@given(st.lists(st.floats(0.0, 100.0), min_size=2), st.floats(0.0, 50.0))
def test_the_share_never_falls_and_stays_within_its_bounds(instants: list[float], slow_start: float) -> None:
    one = endpoint()
    one.joined_at = 0.0
    shares = [one.share(now, slow_start) for now in sorted(instants)]
    assert shares == sorted(shares)
    assert shares[0] >= FIRST_SHARE
    assert shares[-1] <= 1.0


@pytest.mark.parametrize(
    ("usable", "requests", "streams", "most", "tried", "admitted"),
    [
        (True, 0, 0, math.inf, False, True),
        (True, 10**6, 0, math.inf, False, True),
        (True, 2, 0, 3, False, True),
        (True, 3, 0, 3, False, False),
        (True, 4, 0, 3, False, False),
        (True, 0, 100, 3, False, True),
        (True, 0, 0, 3, True, False),
        (False, 0, 0, 3, False, False),
        (False, 0, 0, math.inf, True, False),
    ],
)
def test_an_ask_admits_what_is_usable_and_untried_and_has_room_for_a_request(
    usable: bool, requests: int, streams: int, most: float, tried: bool, admitted: bool
) -> None:
    one, other = endpoint(), endpoint()
    one.is_usable = usable
    one.requests, one.websockets = requests, streams
    assert Ask(0.0, tried=[other, one] if tried else [other], most=most).admits(one) is admitted


@pytest.mark.parametrize(("now", "heeds", "admitted"), [(0.0, False, True), (9.9, True, False), (10.0, True, True)])
def test_who_has_asked_to_be_left_alone_is_where_that_is_heeded(now: float, heeds: bool, admitted: bool) -> None:
    one = endpoint()
    one.latency.penalise(0.0, retry_after=10.0)
    assert Ask(now, heeds_wishes=heeds).admits(one) is admitted


def test_a_failure_alone_is_no_wish_to_be_left_alone() -> None:
    one = endpoint()
    one.latency.penalise(0.0)
    assert Ask(0.0, heeds_wishes=True).admits(one)


@pytest.mark.parametrize(("kind", "held"), [(Kind.HTTP, 2), (Kind.SSE, 5), (Kind.WS, 5)])
def test_to_a_request_streams_are_nothing(kind: Kind, held: int) -> None:
    one = endpoint(weight=2)
    one.requests, one.event_streams, one.websockets = 2, 1, 2
    ask = Ask(0.0, kind)
    assert (ask.held(one), ask.crowd(one), ask.burden(one), ask.stride(one)) == (held, held / 2, held / 2, 0.5)


def test_a_second_of_penalty_is_a_burden_of_one_for_each_unit_of_weight() -> None:
    one = endpoint(weight=2)
    one.requests = 3
    one.latency.penalise(0.0)
    assert (Ask(0.0).crowd(one), Ask(0.0).burden(one)) == (1.5, 6.5)


def test_one_that_joins_is_crowded_sooner() -> None:
    one = endpoint(weight=2)
    one.joined_at, one.requests = 10.0, 3
    ask = Ask(15.0, slow_start=10.0)
    assert (ask.crowd(one), ask.burden(one), ask.stride(one)) == (3.0, 3.0, 1.0)
    assert (ask.share(one), Ask(15.0).share(one)) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("ask", "is_free"),
    [
        (Ask(0.0), True),
        (Ask(0.0, slow_start=10.0), True),
        (Ask(0.0, most=5), False),
        (Ask(0.0, heeds_wishes=True), False),
        (Ask(0.0, tried=[endpoint()]), False),
    ],
)
def test_an_ask_is_free_if_it_admits_whatever_is_usable(ask: Ask, is_free: bool) -> None:
    assert ask.is_free is is_free


def test_an_ask_that_says_nothing_is_a_first_request_that_may_go_anywhere() -> None:
    ask = Ask(5.0)
    assert (ask.kind, ask.key, ask.pinned, ask.most) == (Kind.HTTP, b"", None, math.inf)
    assert (ask.tried, ask.slow_start, ask.heeds_wishes) == ((), 0.0, False)
    assert ask.is_repeatable
    assert not ask.has_waited
    assert ask.admits(endpoint())
