"""An endpoint's state, and its availability for a request."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig, State
from tornado_gateway.policy.upstream.endpoint import FIRST_SHARE, Endpoint, InFlight, Kind, LeaseRequest, PickContext


def endpoint(url: str = "http://a", weight: int = 1, now: float = 0.0) -> Endpoint:
    return Endpoint(url, Breaker(BreakerConfig(), random.Random(1)), weight, now)


def test_an_endpoint_knows_where_it_is() -> None:
    one = endpoint("http://a:8080/base/", weight=3)
    assert (one.url, one.authority, one.base_path, one.weight) == ("http://a:8080/base/", b"a:8080", b"/base", 3)
    assert one.origin.authority == one.authority
    assert repr(one) == "Endpoint('http://a:8080/base/', inflight=0)"


def test_a_new_endpoint_counts_as_healthy_and_gets_its_full_share() -> None:
    one = endpoint(now=1000.0)
    assert one.checks_pass
    assert one.is_admitted
    assert one.breaker.state(1000.0) is State.CLOSED
    assert one.share(1000.0, slow_start=10.0) == 1.0
    assert (one.requests_total, one.errors_total, one.retries_total) == (0, 0, 0)
    assert one.window.minute(1000.0).rate == 0.0


def test_load_is_counted_by_kind() -> None:
    one = endpoint()
    one.requests, one.event_streams, one.websockets = 1, 20, 300
    assert (one.requests, one.streams, one.load) == (1, 320, 321)
    assert repr(one) == "Endpoint('http://a', inflight=321)"


def test_endpoints_do_not_share_state() -> None:
    one, other = endpoint(), endpoint()
    one.count(Kind.HTTP, 1)
    one.latency.add(0.0, 1.0)
    one.window.add(0.0, failed=True)
    assert (other.load, other.latency.average, other.window.minute(0.0).error_rate) == (0, 0.0, 0.0)


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
def test_the_share_of_a_joining_endpoint_grows_linearly_from_a_tenth_to_all(
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
def test_an_endpoint_is_available_that_is_admitted_and_untried_and_has_room_for_a_request(
    usable: bool, requests: int, streams: int, most: float, tried: bool, admitted: bool
) -> None:
    one, other = endpoint(), endpoint()
    one.is_admitted = usable
    one.requests, one.websockets = requests, streams
    request = LeaseRequest(0.0, tried=[other, one] if tried else [other])
    assert one.available(request, PickContext(max_requests=most)) is admitted
    assert one.full(most) is (requests >= most)


@pytest.mark.parametrize(("now", "heeds", "admitted"), [(0.0, False, True), (9.9, True, False), (10.0, True, True)])
def test_a_resting_endpoint_is_unavailable_if_retry_after_is_honoured(now: float, heeds: bool, admitted: bool) -> None:
    one = endpoint()
    one.latency.penalise(0.0, retry_after=10.0)
    assert one.available(LeaseRequest(now), PickContext(honours_retry_after=heeds)) is admitted


def test_a_failure_alone_is_no_wish_to_be_left_alone() -> None:
    one = endpoint()
    one.latency.penalise(0.0)
    assert one.available(LeaseRequest(0.0), PickContext(honours_retry_after=True))


@pytest.mark.parametrize(("kind", "held"), [(Kind.HTTP, 2), (Kind.SSE, 5), (Kind.WS, 5)])
def test_to_a_request_streams_are_nothing(kind: Kind, held: int) -> None:
    one = endpoint(weight=2)
    one.requests, one.event_streams, one.websockets = 2, 1, 2
    request, context = LeaseRequest(0.0, kind), PickContext()
    assert (one.load_for(kind), context.stride(one, 0.0)) == (held, 0.5)
    assert (context.load_per_weight(one, request), context.burden(one, request)) == (held / 2, held / 2)


def test_a_second_of_penalty_is_a_burden_of_one_for_each_unit_of_weight() -> None:
    one = endpoint(weight=2)
    one.requests = 3
    one.latency.penalise(0.0)
    request, context = LeaseRequest(0.0), PickContext()
    assert (context.load_per_weight(one, request), context.burden(one, request)) == (1.5, 6.5)


def test_a_joining_endpoint_has_more_load_per_weight() -> None:
    one = endpoint(weight=2)
    one.joined_at, one.requests = 10.0, 3
    request, context = LeaseRequest(15.0), PickContext(slow_start=10.0)
    assert (context.load_per_weight(one, request), context.burden(one, request)) == (3.0, 3.0)
    assert (context.stride(one, 15.0), context.share(one, 15.0), PickContext().share(one, 15.0)) == (1.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("tried", "context", "spares_none"),
    [
        ((), PickContext(), True),
        ((), PickContext(slow_start=10.0), True),
        ((), PickContext(max_requests=5), False),
        ((), PickContext(honours_retry_after=True), False),
        ((endpoint(),), PickContext(), False),
    ],
)
def test_spares_none_if_every_admitted_endpoint_is_available(
    tried: tuple[Endpoint, ...], context: PickContext, spares_none: bool
) -> None:
    assert context.spares_none(LeaseRequest(0.0, tried=tried)) is spares_none


def test_a_default_request_is_a_first_attempt_for_any_endpoint() -> None:
    request, context = LeaseRequest(5.0), PickContext()
    assert (request.kind, request.key, request.pinned, request.tried) == (Kind.HTTP, b"", None, ())
    assert (context.max_requests, context.slow_start, context.honours_retry_after) == (math.inf, 0.0, False)
    assert request.is_repeatable
    assert not request.has_waited
    assert endpoint().available(request, context)


@pytest.mark.parametrize(("kind", "fair"), [(Kind.HTTP, 1.0), (Kind.SSE, 2.0), (Kind.WS, 2.0)])
def test_a_fair_load_is_all_leases_and_one_more_per_weight(kind: Kind, fair: float) -> None:
    in_flight = InFlight()
    in_flight.requests, in_flight.event_streams, in_flight.websockets = 3, 1, 3
    assert PickContext(in_flight=in_flight, weight=4).fair_load(kind) == fair


def test_pick_contexts_are_immutable() -> None:
    context = PickContext()
    with pytest.raises(AttributeError):
        context.slow_start = 1.0  # type: ignore[misc]
