"""Probing: which request is sent to a failed endpoint, and when."""

import pytest

from tests.support.services import OPEN_FOR, chosen, eject, lease_on, service
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import BreakerConfig, State
from tornado_gateway.policy.upstream.endpoint import FAILURE, IGNORED, SUCCESS, LeaseRequest
from tornado_gateway.policy.upstream.probing import PATIENCE

every_balancer = pytest.mark.parametrize("balancer", BALANCERS)


def test_requests_that_can_be_sent_again_probe_as_soon_as_the_time_is_over() -> None:
    several = service(1, 1, 1)
    one = several.endpoints[0]
    eject(several, one)
    assert "host0" not in chosen(several, OPEN_FOR - 0.001, times=20)
    probe = several.lease(LeaseRequest(OPEN_FOR))
    assert probe.endpoint is one
    assert "host0" not in chosen(several, OPEN_FOR, times=20)
    probe.settle(SUCCESS, OPEN_FOR + 0.1)
    assert several.endpoint_set.ejected == []
    assert one.breaker.state(OPEN_FOR + 0.1) is State.CLOSED


@every_balancer
def test_an_unrepeatable_request_does_not_probe_while_other_endpoints_are_admitted(balancer: str) -> None:
    several = service(1, 1, balancer=balancer)
    eject(several, several.endpoints[0])
    assert chosen(several, OPEN_FOR, times=20, is_repeatable=False) == {"host1": 20}
    assert several.lease(LeaseRequest(OPEN_FOR)).endpoint is several.endpoints[0]


@every_balancer
def test_a_probe_that_waited_too_long_gets_any_request(balancer: str) -> None:
    several = service(1, 1, balancer=balancer)
    one = several.endpoints[0]
    eject(several, one)
    assert "host0" not in chosen(several, OPEN_FOR + PATIENCE - 0.001, times=10, is_repeatable=False)
    probe = several.lease(LeaseRequest(OPEN_FOR + PATIENCE, is_repeatable=False))
    assert probe.endpoint is one
    assert "host0" not in chosen(several, OPEN_FOR + PATIENCE, times=10, is_repeatable=False)
    probe.settle(SUCCESS, OPEN_FOR + PATIENCE)
    assert several.endpoint_set.ejected == []


@pytest.mark.parametrize("seconds", [1.0, 5.0, 30.0])
def test_an_unrepeatable_request_never_probes_a_penalised_endpoint(seconds: float) -> None:
    several = service(1, 1, balancer="peak_ewma")
    one, other = several.endpoints
    lease_on(several, one, 0.0).settle(FAILURE, 0.0)
    other.latency.add(seconds, 0.01)
    assert chosen(several, seconds, times=20, is_repeatable=False) == {"host1": 20}
    assert chosen(several, seconds + 1.0, times=20)["host0"] == 1


def test_a_retry_does_not_probe_while_other_endpoints_are_admitted() -> None:
    several = service(1, 1, 1, 1)
    a, b, *_ = several.endpoints
    eject(several, a)
    assert "host0" not in chosen(several, OPEN_FOR, times=10, tried=[b])
    assert chosen(several, OPEN_FOR, times=1) == {"host0": 1}


def test_where_nothing_can_be_used_second_tries_probe_as_well() -> None:
    several = service(1, 1, max_ejected=1.0, panic_below=0.0)
    a, b = several.endpoints
    eject(several, a)
    eject(several, b)
    assert chosen(several, OPEN_FOR, times=1, tried=[a]) == {"host1": 1}
    assert several.lease(LeaseRequest(OPEN_FOR)).endpoint is a


def test_a_penalised_endpoint_is_probed_when_admitted_again() -> None:
    several = service(1, 1, 1)
    a, _, _ = several.endpoints
    lease_on(several, a, 0.0).settle(FAILURE, 0.0)
    several.set_health(a, 0.0, up=False)
    assert "host0" not in chosen(several, 2.0, times=10)
    for one in several.endpoints:
        several.set_health(one, 0.0, up=False)
    assert several.endpoint_set.is_panicking
    assert several.lease(LeaseRequest(3.0)).endpoint is a


def test_one_that_failed_and_is_full_is_asked_a_second_later() -> None:
    several = service(1, 1, max_in_flight=1)
    one = several.endpoints[0]
    lease_on(several, one, 0.0).settle(FAILURE, 0.0)
    held = lease_on(several, one, 0.5)
    assert chosen(several, 1.0, times=3) == {"host1": 3}
    held.settle(IGNORED, 1.5)
    assert several.lease(LeaseRequest(2.0)).endpoint is one


@every_balancer
def test_one_that_asks_to_be_left_alone_gets_nothing_until_then(balancer: str) -> None:
    several = service(1, 1, 1, 1, balancer=balancer)
    for number in range(600):
        now = number / 10
        lease = several.lease(LeaseRequest(now, key=b"%d" % number))
        is_first = lease.endpoint is several.endpoints[0]
        lease.answered(now + 0.01, 503 if is_first else 200, 300.0)
        lease.settle(SUCCESS, now + 0.01)
    assert several.endpoints[0].requests_total <= 3
    for one in several.endpoints:
        several.penalise(one, 60.0, 100.0)
    assert sum(chosen(several, 61.0, times=100).values()) == 100  # where all do, all are used


@pytest.mark.parametrize("by", ["health checks", "breaker"])
def test_in_panic_an_open_breaker_is_not_probed_before_the_opening_ends(by: str) -> None:
    several = service(1, 1, 1, panic_below=1.0)
    broken, *_ = several.endpoints
    if by == "breaker":
        eject(several, broken)
    else:
        lease_on(several, broken).settle(FAILURE, 0.0)
        several.set_health(broken, 0.0, up=False)
    assert several.endpoint_set.is_panicking
    assert "host0" not in chosen(several, 1.0, times=20)
    assert "host0" not in chosen(several, OPEN_FOR - 0.1, times=20)
    assert ("host0" in chosen(several, OPEN_FOR + 1.0, times=20)) is (by == "breaker")
    assert broken.healthy is (by == "breaker")


def test_a_request_that_cannot_be_sent_again_probes_when_there_is_nothing_else() -> None:
    single = service(1, max_ejected=1.0, panic_below=0.0)
    eject(single, single.endpoints[0])
    assert chosen(single, OPEN_FOR, is_repeatable=False) == {"host0": 1}
    assert single.endpoint_set.ejected == []


@pytest.mark.parametrize("probes", [1, 3])
def test_only_so_many_requests_probe_at_once(probes: int) -> None:
    several = service(1, 1, breaker=BreakerConfig(jitter=0.0, probes=probes))
    eject(several, several.endpoints[0])
    held = [several.lease(LeaseRequest(OPEN_FOR)) for _ in range(10)]
    assert [lease.endpoint.url for lease in held] == ["http://host0"] * probes + ["http://host1"] * (10 - probes)
    held[0].settle(IGNORED, OPEN_FOR)
    assert [several.lease(LeaseRequest(OPEN_FOR)).endpoint.url for _ in range(2)] == ["http://host0", "http://host1"]


def test_a_retry_does_not_probe_a_tried_endpoint() -> None:
    several = service(1, 1, 1)
    a, b = several.endpoints[:2]
    eject(several, a)
    assert chosen(several, OPEN_FOR, times=10, tried=[a, b]) == {"host2": 10}
    assert several.endpoint_set.ejected == [a]


def test_each_of_several_that_are_due_is_probed() -> None:
    several = service(*[1] * 6)
    for one in several.endpoints[:3]:
        eject(several, one)
    held = [several.lease(LeaseRequest(OPEN_FOR)).endpoint for _ in range(3)]
    assert held == list(several.endpoints[:3])


def test_a_probe_that_fails_leaves_the_endpoint_out_for_longer() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    eject(several, one)
    several.lease(LeaseRequest(OPEN_FOR)).settle(FAILURE, OPEN_FOR + 1.0)
    assert several.endpoint_set.ejected == [one]
    assert one.breaker.open_until == OPEN_FOR + 1.0 + 2 * OPEN_FOR
    assert chosen(several, one.breaker.open_until - 0.01, times=20) == {"host1": 20}
    assert several.lease(LeaseRequest(one.breaker.open_until)).endpoint is one


def test_a_success_from_before_proves_nothing() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    stragglers = [lease_on(several, one) for _ in range(3)]
    eject(several, one)
    for now, straggler in zip((1.0, OPEN_FOR, OPEN_FOR + 1.0), stragglers, strict=True):
        straggler.answered(now, 200)
        straggler.settle(SUCCESS, now)
    assert several.endpoint_set.ejected == [one]
    assert one.breaker.state(OPEN_FOR + 1.0) is State.HALF_OPEN


def test_a_recovered_endpoint_has_no_penalty_for_earlier_latency() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    one.latency.add(0.0, 20.0)
    eject(several, one)
    assert one.latency.penalty(1.0) > 0
    probe = several.lease(LeaseRequest(OPEN_FOR))
    probe.answered(OPEN_FOR + 0.1, 200)
    probe.settle(SUCCESS, OPEN_FOR + 0.2)
    assert (one.latency.penalty(OPEN_FOR + 0.2), one.latency.peak(OPEN_FOR + 0.2)) == (0.0, 0.0)
    assert one.latency.expected(OPEN_FOR + 0.2) == 0.0


def test_another_failure_puts_the_next_look_off() -> None:
    several = service(1, 1, balancer="peak_ewma")
    one, other = several.endpoints
    other.latency.add(0.0, 0.01)
    for now in (0.0, 0.5):
        lease_on(several, one, now).settle(FAILURE, now)
    assert chosen(several, 1.4, times=20) == {"host1": 20}
    assert several.lease(LeaseRequest(1.5)).endpoint is one


def test_one_that_has_answered_well_is_doubted_no_more() -> None:
    several = service(1, 1, balancer="peak_ewma")
    one, other = several.endpoints
    other.latency.add(0.0, 0.01)
    lease_on(several, one, 0.0).settle(FAILURE, 0.0)
    look = several.lease(LeaseRequest(1.0))
    assert (look.endpoint, several.endpoint_set.probing.penalised) == (one, {one})
    look.answered(1.2, 200)
    look.settle(SUCCESS, 1.2)
    assert not several.endpoint_set.probing.penalised
    assert one.latency.penalty(1.2) == 0.0
