"""Leases: load is what is held, an outcome counts once, and a client that leaves counts for nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.balancing import RoundRobin
from tornado_gateway.policy.endpoint import ALPHA, Endpoint, Lease, Outcome, Service


def test_an_endpoint_knows_where_it_is() -> None:
    endpoint = Endpoint("http://a:8080/base/", weight=3)
    assert (endpoint.authority, endpoint.base_path, endpoint.weight) == (b"a:8080", b"/base", 3)
    assert repr(endpoint) == "Endpoint('http://a:8080/base/', inflight=0)"


@pytest.mark.parametrize(
    ("outcome", "requests", "errors"), [(Outcome.SUCCESS, 1, 0), (Outcome.FAILURE, 1, 1), (Outcome.IGNORED, 0, 0)]
)
def test_what_an_outcome_counts(outcome: Outcome, requests: int, errors: int) -> None:
    endpoint = Endpoint("http://a")
    lease = endpoint.lease(0.0)
    assert endpoint.inflight == 1
    lease.settle(outcome)
    lease.settle(Outcome.FAILURE)
    assert (endpoint.inflight, endpoint.requests_total, endpoint.errors_total) == (0, requests, errors)


def test_latency_is_the_time_to_the_head_as_a_moving_average() -> None:
    endpoint = Endpoint("http://a")
    endpoint.lease(10.0).answered(10.5)
    assert (endpoint.ewma, endpoint.last_latency) == (0.5, 0.5)
    endpoint.lease(20.0).answered(21.5)
    assert endpoint.ewma == pytest.approx(0.5 + ALPHA * 1.0)
    assert endpoint.last_latency == 1.5


def service(*urls: str) -> Service:
    return Service("svc", [Endpoint(url) for url in urls], RoundRobin())


def test_a_service_gives_each_endpoint_once_and_then_none() -> None:
    several = service("http://a", "http://b", "http://c")
    tried: list[Endpoint] = []
    while lease := several.lease(0.0, tried):
        tried.append(lease.endpoint)
    assert sorted(endpoint.url for endpoint in tried) == ["http://a", "http://b", "http://c"]


def test_a_single_endpoint_needs_no_balancer() -> None:
    single = service("http://a")
    lease = single.lease(0.0)
    assert lease is not None
    assert lease.endpoint is single.endpoints[0]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.sampled_from(Outcome))))
def test_inflight_is_never_negative_and_nothing_is_left_when_all_are_settled(
    steps: list[tuple[bool, int, Outcome]],
) -> None:
    endpoint = Endpoint("http://a")
    held: list[Lease] = []
    for takes, which, outcome in steps:
        if takes or not held:
            held.append(endpoint.lease(0.0))
        else:
            lease = held.pop(which % len(held))
            lease.settle(outcome)
            lease.settle(outcome)
        assert endpoint.inflight == len(held)
    for lease in held:
        lease.settle(Outcome.SUCCESS)
    assert endpoint.inflight == 0
    assert endpoint.errors_total <= endpoint.requests_total


def test_websockets_that_have_ended_add_up() -> None:
    totals = service("http://a").websockets
    totals.add(messages=(1, 2), wire_bytes=(30, 40), seconds=5.0, close_code=1000)
    totals.add(messages=(10, 20), wire_bytes=(300, 400), seconds=0.5, close_code=1006)
    totals.add(messages=(0, 0), wire_bytes=(0, 0), seconds=0.0, close_code=1000)
    assert totals.closed == 3
    assert (totals.messages_up, totals.messages_down) == (11, 22)
    assert (totals.bytes_up, totals.bytes_down) == (330, 440)
    assert totals.seconds == 5.5
    assert totals.close_codes == {1000: 2, 1006: 1}
