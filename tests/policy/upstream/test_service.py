"""A service: ejection, panic, probes, slow start, limits, queue, sessions, changes; and events in any order."""

import contextlib
import math
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.policy.upstream.conftest import Looks
from tests.support.fuzzing import untraced
from tests.support.services import FAILURES, OPEN_FOR, chosen, eject, endpoint, lease_on, service
from tornado_gateway.errors import CircuitOpen, EndpointsBusy, Overflow, Overloaded
from tornado_gateway.policy.http.address import of_peer
from tornado_gateway.policy.upstream.affinity import Affinity, AffinityConfig, Sessions, Sticky
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import BreakerConfig, State
from tornado_gateway.policy.upstream.concurrency import AdaptiveConfig, AdaptiveLimit
from tornado_gateway.policy.upstream.endpoint import FAILURE, IGNORED, SUCCESS, Endpoint, Kind, LeaseRequest, Outcome
from tornado_gateway.policy.upstream.health import HealthConfig, HealthKind
from tornado_gateway.policy.upstream.latency import PENALTY
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.probing import PATIENCE
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.policy.upstream.statistics import Minute

CLIENT = of_peer("192.0.2.1")

every_balancer = pytest.mark.parametrize("balancer", BALANCERS)


def retry_after(error: Overloaded) -> bytes:
    return dict(error.fields)[b"Retry-After"]


# ---- what other processes have learnt


def test_a_breaker_is_told_when_it_opens_opens_again_and_closes_and_what_is_told_is_taken_over() -> None:
    told: list[Endpoint] = []
    here, there = service(1, 1), service(1, 1)
    here.outcomes.tell_breaker_of = told.append
    first, same = here.endpoints[0], there.endpoints[0]

    def tell(now: float) -> None:
        until = first.breaker.open_until if first.breaker.is_open else None
        there.learn_breaker(same, now, until, first.breaker.level)

    eject(here, first)
    assert told == [first]
    tell(0.0)
    assert (same.is_ejected, same.breaker.open_until) == (True, first.breaker.open_until)
    now = first.breaker.open_until
    for failed, is_open in ((True, True), (False, False)):
        here.end_permit(first, here.begin_permit(first, now), now, failed=failed)
        tell(now)
        assert (same.breaker.is_open, same.breaker.open_until) == (is_open, first.breaker.open_until)
        now = first.breaker.open_until
    assert told == [first] * 3
    assert same.is_admitted and same.breaker.opened == 0


def test_health_is_taken_over() -> None:
    here = service(1, 1)
    first, _ = here.endpoints
    here.learn_health(first, 0.0, "503", up=False)
    assert (first.last_check, first.is_admitted, first.checks_failed) == ("503", False, 0)
    here.learn_health(first, 1.0, "200", up=True)
    assert (first.last_check, first.is_admitted) == ("200", True)
    here.learn_health(first, 2.0, "204", up=True)
    assert (first.last_check, first.is_admitted) == ("204", True)


# ---- what other gateways say


def test_hearsay_ejects_within_the_own_rules_and_own_findings_come_first() -> None:
    here = service(1, 1, 1, 1)
    first, second, third, fourth = here.endpoints
    assert here.hear_opening(first, 0.0, 20.0)
    assert (first.is_ejected, first.breaker.opened, first.breaker.open_until) == (True, 0, 20.0)
    assert here.hear_opening(first, 0.0, 30.0) and first.breaker.open_until == 30.0
    assert not here.hear_opening(second, 0.0, 0.0)  # over already
    assert here.hear_opening(second, 0.0, 20.0)
    assert not here.hear_opening(third, 0.0, 20.0)  # half of the endpoints at most
    eject(here, third)
    eject(here, fourth)
    assert here.endpoint_set.ejected == [] and here.endpoint_set.is_panicking  # no endpoint is healthy

    other = service(1, 1, 1, 1)
    first, second, third, _ = other.endpoints
    for each in (first, second):
        assert other.hear_opening(each, 0.0, 20.0)
    eject(other, third)
    assert other.endpoint_set.ejected == [third, first]


def test_hearsay_begins_no_panic_and_ends_with_a_closing() -> None:
    here = service(1, 1, panic_below=1.0)
    first, _ = here.endpoints
    assert not here.hear_opening(first, 0.0, 20.0)
    assert not (first.breaker.is_open or here.endpoint_set.is_panicking)

    here = service(1, 1)
    first, second = here.endpoints
    assert here.hear_opening(first, 0.0, 20.0) and here.hear_closing(first, 1.0)
    assert first.is_admitted and not first.breaker.is_open
    eject(here, second)
    assert not here.hear_closing(second, 1.0)  # an own finding
    assert not here.hear_opening(second, 1.0, 20.0)
    assert second.is_ejected


def test_an_endpoint_that_answers_well_here_is_not_ejected_by_hearsay() -> None:
    here = service(1, 1)
    first, _ = here.endpoints
    for now in (0.0, 1.0, 2.0):
        answered(here, first, now)
    assert not here.hear_opening(first, 3.0, 20.0)
    lease_on(here, first, 3.0).settle(FAILURE, 3.0)
    assert not here.hear_opening(first, 3.0, 20.0)
    lease_on(here, first, 3.0).settle(FAILURE, 3.0)
    assert here.hear_opening(first, 3.0, 20.0)

    here = service(1, 1)
    first, _ = here.endpoints
    answered(here, first, 0.0)
    assert here.hear_opening(first, 11.0, 20.0)  # long ago


def answered(of: Service, one: Endpoint, now: float) -> None:
    lease = lease_on(of, one, now)
    lease.answered(now, 200)
    lease.settle(SUCCESS, now)


def test_a_service_without_breakers_heeds_no_hearsay() -> None:
    here = service(1, 1)
    here.reconfigure(replace(here.config, breaker=BreakerConfig(failures=0)), 0.0, random.Random(1))
    assert not here.hear_opening(here.endpoints[0], 0.0, 20.0)
    here.reconfigure(replace(here.config, breaker=BreakerConfig(failures=0, failure_share=0.5)), 0.0, random.Random(1))
    assert here.hear_opening(here.endpoints[0], 0.0, 20.0)


def test_hearsay_lasts_no_longer_than_an_own_opening_may() -> None:
    here = service(1, 1)
    here.reconfigure(replace(here.config, breaker=BreakerConfig(open_for=5.0, longest=9.0)), 0.0, random.Random(1))
    first, _ = here.endpoints
    assert here.hear_opening(first, 0.0, 1e9)
    assert first.breaker.open_until == 9.0


# ---- ejection


def test_an_endpoint_that_fails_is_left_alone() -> None:
    several = service(1, 1, 1)
    eject(several, several.endpoints[1])
    assert several.endpoint_set.ejected == [several.endpoints[1]]
    assert chosen(several, times=30) == {"host0": 15, "host2": 15}
    assert not several.endpoint_set.is_panicking


def test_the_only_endpoint_is_never_ejected() -> None:
    single = service(1)
    eject(single, single.endpoints[0])
    assert single.endpoint_set.ejected == []
    assert chosen(single, times=3) == {"host0": 3}


def test_the_sixth_of_ten_is_not_ejected() -> None:
    several = service(*[1] * 10)
    for number, one in enumerate(several.endpoints[:6]):
        eject(several, one, number / 10)
    assert several.endpoint_set.ejected == list(several.endpoints[:5])
    assert chosen(several, 1.0, times=50) == {f"host{number}": 10 for number in range(5, 10)}
    assert not several.endpoint_set.is_panicking


@pytest.mark.parametrize(
    ("count", "share", "ejected"),
    [
        (1, 0.5, 0),
        (2, 0.5, 1),
        (3, 0.5, 1),
        (4, 0.5, 2),
        (10, 0.1, 1),
        (10, 0.0, 0),
        (10, 0.3, 3),
        (10, 0.7, 7),
        (10, 1.0, 10),
        (3, 1.0, 3),
        (100, 0.29, 29),
        (50, 0.58, 29),
    ],
)
def test_no_more_than_a_share_of_the_endpoints_is_ejected(count: int, share: float, ejected: int) -> None:
    several = service(*[1] * count, max_ejected=share, panic_below=0.0)
    for one in several.endpoints:
        eject(several, one)
    assert len(several.endpoint_set.ejected) == ejected
    assert sum(one.is_admitted for one in several.endpoints) == count - ejected


def test_the_longest_open_breakers_are_ejected_first_and_make_room_for_the_next() -> None:
    several = service(*[1] * 4)
    a, _, c, d = several.endpoints
    for number, one in enumerate((c, a, d)):
        eject(several, one, float(number))
    assert several.endpoint_set.ejected == [c, a]
    assert d.is_admitted
    several.lease(LeaseRequest(OPEN_FOR)).settle(SUCCESS, OPEN_FOR)
    assert several.endpoint_set.ejected == [a, d]
    assert c.is_admitted


def test_a_probe_that_fails_makes_no_room_for_another_one_to_be_ejected() -> None:
    several = service(1, 1, 1)
    a, b, _ = several.endpoints
    eject(several, a, 0.0)
    eject(several, b, 10.0)
    several.lease(LeaseRequest(OPEN_FOR)).settle(FAILURE, OPEN_FOR)
    several.endpoint_set.refresh()
    assert a.breaker.open_until > b.breaker.open_until
    assert several.endpoint_set.ejected == [a]


def test_endpoints_of_weight_0_and_unhealthy_endpoints_get_no_requests_and_are_not_ejected() -> None:
    several = service(1, 0, 1, 1, panic_below=0.0)
    several.set_health(several.endpoints[2], 0.0, up=False)
    assert chosen(several, times=10) == {"host0": 5, "host3": 5}
    eject(several, several.endpoints[0])
    assert several.endpoint_set.ejected == [several.endpoints[0]]  # one of three: half of them, rounded down
    assert chosen(several, times=10) == {"host3": 10}


@every_balancer
@pytest.mark.parametrize("is_out", [False, True])
def test_no_choice_writes_to_the_request(balancer: str, is_out: bool) -> None:
    several = service(1, 2, 3, balancer=balancer)
    for each in several.endpoints if is_out else ():
        eject(several, each)
    asks = [
        LeaseRequest(1.0, key=b"a"),
        LeaseRequest(1.0, Kind.SSE, several.endpoints[:1], is_repeatable=False, has_waited=True),
        LeaseRequest(1.0, pinned=several.endpoints[1]),
    ]
    before = [_values(ask) for ask in asks]
    for ask in asks:
        with contextlib.suppress(CircuitOpen):
            several.lease(ask).settle(FAILURE, 2.0)
    assert [_values(ask) for ask in asks] == before


def _values(ask: LeaseRequest) -> list[object]:
    return [getattr(ask, each.name) for each in fields(ask)]


@every_balancer
def test_other_weights_take_effect_on_the_next_choice(balancer: str) -> None:
    several = service(1, 0, 1, balancer=balancer)
    a, b, c = several.endpoints
    assert chosen(several, times=20)["host1"] == 0
    a.weight, b.weight, c.weight = 0, 1, 0
    several.replace_endpoints(several.endpoints)
    assert chosen(several, times=20) == {"host1": 20}
    a.weight, b.weight, c.weight = 1, 8, 1
    several.replace_endpoints(several.endpoints)
    held = [several.lease(LeaseRequest(0.0, key=b"%d" % number)) for number in range(100)]
    assert [one.load for one in several.endpoints] == pytest.approx([10, 80, 10], abs=12)
    for lease in held:
        lease.settle(SUCCESS, 0.0)


@every_balancer
@pytest.mark.parametrize("weights", [(0,), (0, 0), (0, 0, 0)])
def test_where_all_weigh_nothing_requests_are_refused(balancer: str, weights: tuple[int, ...]) -> None:
    drained = service(*weights, balancer=balancer)
    with pytest.raises(CircuitOpen) as refused:
        drained.lease(LeaseRequest(100.0))
    assert retry_after(refused.value) == b"1"


# ---- panic


@pytest.mark.parametrize(
    ("count", "unhealthy", "below", "panics"),
    [
        (4, 0, 0.5, False),
        (4, 2, 0.5, False),
        (4, 3, 0.5, True),
        (4, 4, 0.5, True),
        (1, 1, 0.5, True),
        (3, 1, 0.5, False),
        (3, 2, 0.5, True),
        (4, 3, 0.25, False),
        (4, 4, 0.25, True),
        (4, 1, 1.0, True),
        (4, 4, 0.0, False),
        (20, 9, 0.55, False),
        (20, 10, 0.55, True),
    ],
)
def test_when_too_few_are_left_all_are_used(count: int, unhealthy: int, below: float, panics: bool) -> None:
    several = service(*[1] * count, panic_below=below)
    for one in several.endpoints[:unhealthy]:
        several.set_health(one, 0.0, up=False)
    assert several.endpoint_set.is_panicking is panics
    assert sum(one.is_admitted for one in several.endpoints) == (count if panics else count - unhealthy)
    for one in several.endpoints:
        one.checks_pass = True
    several.endpoint_set.refresh()
    assert not several.endpoint_set.is_panicking


def test_in_panic_no_endpoint_is_ejected_and_weight_0_stays_out() -> None:
    several = service(1, 1, 1, 1, 0, max_ejected=1.0)
    for one in several.endpoints[:2]:
        eject(several, one)
    assert len(several.endpoint_set.ejected) == 2
    assert not several.endpoint_set.is_panicking
    eject(several, several.endpoints[2])
    assert several.endpoint_set.is_panicking
    assert several.endpoint_set.ejected == []
    assert [one.is_admitted for one in several.endpoints] == [True] * 4 + [False]
    eject(several, several.endpoints[3])
    assert chosen(several, times=40, is_repeatable=False) == {f"host{number}": 10 for number in range(4)}


@every_balancer
def test_in_panic_healthy_endpoints_come_first(balancer: str) -> None:
    several = service(1, 1, 2, 1, balancer=balancer)
    fall_out(several, 0, 1, 3)
    assert several.endpoint_set.is_panicking
    for number in range(50):
        assert set(chosen(several, times=4, key=b"%d" % number)) == {"host2"}


@every_balancer
def test_in_panic_a_retry_goes_to_any_untried_endpoint(balancer: str) -> None:
    several = service(1, 1, 1, balancer=balancer)
    fall_out(several, 0, 1)
    tried: list[Endpoint] = []
    while len(tried) < 3:
        assert several.has_other(tried, None)
        tried.append(several.lease(LeaseRequest(0.0, tried=tried, key=b"key")).endpoint)
    assert tried[0] is several.endpoints[2]
    assert {*tried} == {*several.endpoints}


@every_balancer
def test_in_panic_the_reserve_is_used_when_the_healthy_endpoints_are_full(balancer: str) -> None:
    several = service(1, 1, 1, balancer=balancer, max_in_flight=5)
    fall_out(several, 0, 1)
    leases = [several.lease(LeaseRequest(0.0, key=b"%d" % number)) for number in range(15)]
    assert {lease.endpoint for lease in leases[:5]} == {several.endpoints[2]}
    assert [one.requests for one in several.endpoints] == [5, 5, 5]


@every_balancer
def test_in_panic_the_reserve_is_used_when_the_healthy_endpoints_are_overloaded(balancer: str) -> None:
    several = service(1, 1, 1, balancer=balancer)
    fall_out(several, 0, 1)
    good = several.endpoints[2]
    for _ in range(2):
        good.latency.add(0.0, PENALTY)
    first = several.lease(LeaseRequest(0.0))
    assert first.endpoint is good, "it has nothing to do"
    others = [several.lease(LeaseRequest(0.0, key=b"%d" % number)) for number in range(30)]
    assert {lease.endpoint for lease in others} >= {*several.endpoints[:2]}
    for lease in (first, *others):
        lease.answered(0.1, 200)
        lease.settle(SUCCESS, 0.1)
    assert good.latency.expected(0.1) < PENALTY
    assert set(chosen(several, 0.1, times=10)) == {"host2"}


@pytest.mark.parametrize("refuses", [False, True])
def test_in_panic_a_session_that_may_move_leaves_an_unhealthy_endpoint(refuses: bool) -> None:
    affinity = Affinity(None, Sticky(b"gw_svc", b"secret", refuses=refuses))
    several = service(1, 1, 1, affinity=affinity)
    fall_out(several, 0, 1)
    pinned, _, good = several.endpoints
    assert several.lease(LeaseRequest(0.0, pinned=pinned)).endpoint is (pinned if refuses else good)
    assert several.lease(LeaseRequest(0.0, pinned=good)).endpoint is good


def fall_out(of: Service, *numbers: int) -> None:
    """Let the health checks of some endpoints fail."""
    for number in numbers:
        of.set_health(of.endpoints[number], 0.0, up=False)


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5), (4, 1.0), (4, 0.0)])
def test_where_no_endpoint_passes_all_are_used(count: int, share: float) -> None:
    several = service(*[1] * count, max_ejected=share)
    for one in several.endpoints:
        eject(several, one)
    assert (several.endpoint_set.is_panicking, several.endpoint_set.ejected) == (True, [])
    lease = lease_on(several, several.endpoints[0], 1.0)
    lease.answered(1.1, 200)
    lease.settle(SUCCESS, 1.1)
    assert several.endpoints[0].healthy, "its first good answer is enough"
    if share > 0.5:
        assert chosen(several, 1.1, times=20) == {"host0": 20}


# ---- after an outage of all


@every_balancer
@pytest.mark.parametrize("count", [2, 3, 4, 10])
def test_after_a_full_outage_the_first_healthy_endpoint_gets_and_keeps_all_requests(balancer: str, count: int) -> None:
    several = service(*[1] * count, balancer=balancer)
    for one in several.endpoints:
        eject(several, one)
    fall_out(several, *range(count))
    back = several.endpoints[-1]
    several.set_health(back, 3.0, up=True)
    assert not back.breaker.is_open
    only = {back.url.removeprefix("http://"): 20}
    for now in (3.0, 4.0, OPEN_FOR, OPEN_FOR + PATIENCE, 60.0):
        assert chosen(several, now, times=20, key=b"%d" % now) == only


def answers_well(of: Service, endpoint: Endpoint, now: float) -> None:
    lease = lease_on(of, endpoint, now)
    lease.answered(now, 200)
    lease.settle(SUCCESS, now)


@every_balancer
@pytest.mark.parametrize("count", [2, 3, 4, 10])
def test_after_an_outage_of_all_the_first_that_answers_well_gets_everything_without_checks_too(
    balancer: str, count: int
) -> None:
    """More endpoints are broken than may be ejected; these must not share the traffic of the healthy endpoint."""
    several = service(*[1] * count, balancer=balancer)
    for one in several.endpoints:
        eject(several, one)
    back = several.endpoints[-1]
    answers_well(several, back, 1.0)
    only = {back.url.removeprefix("http://"): 1}
    for number in range(40):
        assert chosen(several, 2.0 + number / 10, times=1, key=b"%d" % number) == only


def test_a_panic_lasts_until_enough_endpoints_pass() -> None:
    several = service(1, 1, 1, 1)
    a, b, c, d = several.endpoints
    for number, one in enumerate(several.endpoints):
        eject(several, one, float(number))
    answers_well(several, d, 5.0)
    assert (several.endpoint_set.is_panicking, several.endpoint_set.ejected) == (True, [])
    answers_well(several, c, 5.0)
    assert several.endpoint_set.is_panicking, "an answer closes a breaker only where no endpoint passes"
    c.breaker.close(6.0)
    several.endpoint_set.refresh()
    assert (several.endpoint_set.is_panicking, several.endpoint_set.ejected) == (False, [a, b])


def test_in_panic_too_a_request_that_cannot_be_sent_again_shows_at_last_whether_an_endpoint_works() -> None:
    several = service(1, 1, 1)
    for one in several.endpoints:
        eject(several, one)
    back = several.endpoints[-1]
    answers_well(several, back, 1.0)
    assert several.endpoint_set.is_panicking
    probed = []
    for now in (2.0, OPEN_FOR - 1, OPEN_FOR + PATIENCE + 2):
        lease = several.lease(LeaseRequest(now, is_repeatable=False))
        lease.answered(now, 200)
        lease.settle(SUCCESS, now)
        probed.append(lease.endpoint is not back)
    assert probed == [False, False, True]
    assert not several.endpoint_set.is_panicking


def test_an_endpoint_with_full_traffic_has_no_slow_start() -> None:
    several = service(1, 1, 1, max_ejected=0.0)
    one = several.endpoints[0]
    eject(several, one)
    assert one.is_admitted
    permit = one.breaker.begin(OPEN_FOR)
    several.end_permit(one, permit, OPEN_FOR, failed=False)
    assert one.joined_at == -math.inf
    assert chosen(several, OPEN_FOR, times=30) == {f"host{number}": 10 for number in range(3)}


@every_balancer
def test_a_recovered_endpoint_has_slow_start_only_beside_healthy_endpoints(balancer: str) -> None:
    several = service(1, 1, 1, balancer=balancer)
    a, b, _ = several.endpoints
    for now, one in enumerate(several.endpoints[1:]):
        eject(several, one, float(now))
    assert several.endpoint_set.ejected == [b]
    fall_out(several, 0)  # all that is used now is broken
    several.set_health(a, 5.0, up=True)
    counts = in_closed_loop(several, 5.0, 300, 10)
    assert counts["host0"] > 140


def test_a_failure_since_a_probe_was_sent_outlives_the_probes_success() -> None:
    several = service(1, 1, 1)
    one = several.endpoints[0]
    eject(several, one)
    probe = several.lease(LeaseRequest(OPEN_FOR))
    several.penalise(one, OPEN_FOR + 1.0)
    probe.answered(OPEN_FOR + 2.0, 200)
    probe.settle(SUCCESS, OPEN_FOR + 2.0)
    assert not one.breaker.is_open
    assert one.latency.penalty(OPEN_FOR + 2.0) > 0


def test_in_panic_a_recovered_endpoint_has_slow_start_beside_a_healthy_endpoint() -> None:
    several = service(*[1] * 5)
    fall_out(several, *range(1, 5))
    assert several.endpoint_set.is_panicking
    several.set_health(several.endpoints[1], 5.0, up=True)
    assert several.endpoint_set.is_panicking
    counts = chosen(several, 5.0, times=1000)
    assert counts["host1"] == pytest.approx(1000 / 11, rel=0.3)
    assert counts["host0"] + counts["host1"] == 1000


# ---- 429 and 503 with Retry-After


def answer_all(of: Service, status: int, wait: float = 0.0, now: float = 0.0) -> None:
    """Each endpoint answers once with this status."""
    for one in of.endpoints:
        lease = lease_on(of, one, now)
        lease.answered(now + 0.001, status, wait)
        lease.settle(of.outcomes.judge(status), now + 0.001)


@every_balancer
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("wait", [0.0, 300.0, 1e9])
def test_a_429_for_one_user_makes_no_endpoint_unavailable_to_others(balancer: str, count: int, wait: float) -> None:
    several = service(*[1] * count, balancer=balancer)
    for number in range(20):
        answer_all(several, 429, wait, number / 10)
    assert not several.endpoint_set.probing.penalised
    assert len(in_closed_loop(several, 2.0, 400, 8)) == count


@every_balancer
@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize(("count", "share", "out"), [(1, 0.5, 0), (2, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (4, 0.25, 1)])
def test_no_more_endpoints_are_avoided_or_left_alone_for_their_answers_than_may_be(
    balancer: str, status: int, count: int, share: float, out: int
) -> None:
    several = service(*[1] * count, balancer=balancer, max_ejected=share, panic_below=0.0)
    for one in several.endpoints:
        one.latency.add(0.0, 0.02)
    answer_all(several, status, 300.0)
    avoided = [one for one in several.endpoints if one.latency.penalty(0.01)]
    resting = [one for one in several.endpoints if one.latency.rests_until > 0.01]
    assert (len(avoided), len(resting)) == (out, out if status == 503 else 0)
    assert len(in_closed_loop(several, 0.01, 400, 8)) >= count - out


def test_an_endpoint_beyond_the_bound_is_avoided_once_its_breaker_is_open() -> None:
    several = service(1, 1, 1)
    a, b, _ = several.endpoints
    for one in (a, b):
        lease_on(several, one).settle(FAILURE, 0.0)
    assert [one.latency.penalty(0.0) for one in (a, b)] == [5.0, 0.0]
    eject(several, b)
    assert [one.latency.penalty(0.0) for one in (a, b)] == [5.0, 5.0]


def test_ejected_endpoints_leave_less_room_for_resting_endpoints() -> None:
    several = service(1, 1, 1, 1)
    a, b, c, d = several.endpoints
    for wait, one in ((100.0, a), (200.0, b)):
        several.penalise(one, 0.0, wait)
    eject(several, c, 1.0)
    assert several.endpoint_set.ejected == [c]
    assert [one.latency.rests_until > 1.0 for one in (a, b)] == [True, False], "the one that would rest longest"
    several.penalise(b, 2.0, 50.0)
    assert b.latency.rests_until <= 2.0
    eject(several, d, 2.0)
    assert several.endpoint_set.ejected == [c, d]
    assert a.latency.rests_until <= 2.0
    assert a.latency.penalty(2.0) > 0


def test_an_endpoint_that_has_left_is_not_blamed() -> None:
    several = service(1, 1)
    gone = several.endpoints[0]
    several.replace_endpoints(several.endpoints[1:], 0.0)
    several.penalise(gone, 1.0, 10.0)
    assert not several.endpoint_set.probing.penalised


def test_unhealthy_and_ejected_endpoints_together_make_panic() -> None:
    several = service(1, 1, 1, 1)
    several.set_health(several.endpoints[0], 0.0, up=False)
    eject(several, several.endpoints[1])
    assert not several.endpoint_set.is_panicking
    eject(several, several.endpoints[2])
    assert several.endpoint_set.is_panicking


def test_in_panic_endpoints_recover_by_the_requests_they_get() -> None:
    several = service(1, 1, max_ejected=1.0)
    for one in several.endpoints:
        eject(several, one)
    assert several.endpoint_set.is_panicking
    chosen(several, OPEN_FOR, times=4)
    assert not several.endpoint_set.is_panicking
    assert all(one.breaker.state(OPEN_FOR) is State.CLOSED for one in several.endpoints)


# ---- no endpoint available


@pytest.mark.parametrize(("now", "seconds"), [(4.0, b"11"), (7.5, b"8"), (14.0, b"1"), (14.2, b"1"), (14.999, b"1")])
def test_a_refusal_tells_when_the_next_probe_is_due(now: float, seconds: bytes) -> None:
    several = service(1, 1, max_ejected=1.0, panic_below=0.0)
    eject(several, several.endpoints[1], 0.0)
    eject(several, several.endpoints[0], 4.0)
    with pytest.raises(CircuitOpen) as refused:
        several.lease(LeaseRequest(now))
    assert retry_after(refused.value) == seconds
    assert refused.value.status == 503


def test_a_refusal_while_the_probe_is_under_way_tells_to_come_back_soon() -> None:
    single = service(1, max_ejected=1.0, panic_below=0.0)
    eject(single, single.endpoints[0])
    single.lease(LeaseRequest(OPEN_FOR + 5.0))
    with pytest.raises(CircuitOpen) as refused:
        single.lease(LeaseRequest(OPEN_FOR + 6.0))
    assert retry_after(refused.value) == b"1"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_without_healthy_endpoints_and_without_panic_requests_are_refused(count: int) -> None:
    several = service(*[1] * count, panic_below=0.0)
    for one in several.endpoints:
        several.set_health(one, 0.0, up=False)
    with pytest.raises(CircuitOpen) as refused:
        several.lease(LeaseRequest(100.0))
    assert retry_after(refused.value) == b"1"


@pytest.mark.parametrize("weight", [0, 1])
def test_an_endpoint_out_for_another_reason_than_its_breaker_sets_no_retry_after(weight: int) -> None:
    several = service(1, weight, max_ejected=1.0, panic_below=0.0)
    several.set_health(several.endpoints[1], 0.0, up=False)
    eject(several, several.endpoints[0])
    with pytest.raises(CircuitOpen) as refused:
        several.lease(LeaseRequest(5.0))
    assert retry_after(refused.value) == b"10"


def test_a_request_that_was_everywhere_is_refused() -> None:
    several = service(1, 1)
    with pytest.raises(Overloaded) as refused:
        several.lease(LeaseRequest(0.0, tried=several.endpoints))
    assert type(refused.value) is Overloaded


def test_a_retry_that_only_ejected_endpoints_are_left_for_is_refused() -> None:
    several = service(1, 1)
    eject(several, several.endpoints[0])
    with pytest.raises(Overloaded) as refused:
        several.lease(LeaseRequest(0.0, tried=[several.endpoints[1]]))
    assert type(refused.value) is Overloaded


# ---- health


def test_health_takes_an_endpoint_out_and_brings_it_back_gently() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    one.latency.add(0.0, 20.0)
    several.set_health(one, 1.0, up=False)
    assert chosen(several, 1.0, times=4) == {"host1": 4}
    assert several.endpoint_set.ejected == []
    several.set_health(one, 5.0, up=True)
    assert (one.is_admitted, one.joined_at, one.latency.peak(5.0)) == (True, 5.0, 0.0)
    assert chosen(several, 5.0, times=1000)["host0"] == pytest.approx(1000 / 11, rel=0.2)
    assert chosen(several, 15.0, times=400) == {"host0": 200, "host1": 200}


def test_a_probe_of_the_gateways_own_brings_an_endpoint_back() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    eject(several, one)
    permit = one.breaker.begin(OPEN_FOR)
    assert chosen(several, OPEN_FOR, times=4) == {"host1": 4}
    several.end_permit(one, permit, OPEN_FOR, failed=None)
    assert several.endpoint_set.ejected == [one]
    permit = one.breaker.begin(OPEN_FOR)
    several.end_permit(one, permit, OPEN_FOR, failed=False)
    assert (several.endpoint_set.ejected, one.is_admitted, one.joined_at) == ([], True, OPEN_FOR)


# ---- slow start


def test_endpoints_that_are_there_from_the_start_get_their_share_at_once() -> None:
    assert chosen(service(1, 1, 1, 1), times=400) == {f"host{number}": 100 for number in range(4)}


@pytest.mark.parametrize(
    ("since", "share"), [(0.0, 0.1), (0.5, 0.1), (2.5, 0.25), (5.0, 0.5), (7.5, 0.75), (10.0, 1.0), (100.0, 1.0)]
)
def test_the_share_of_a_recovered_endpoint_grows_from_a_tenth_to_all(since: float, share: float) -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    eject(several, one)
    several.lease(LeaseRequest(OPEN_FOR)).settle(SUCCESS, OPEN_FOR)
    counts = chosen(several, OPEN_FOR + since, times=4000)
    assert counts["host0"] == pytest.approx(4000 * share / (1 + share), rel=0.15)


def in_closed_loop(of: Service, now: float, choices: int, in_flight: int) -> Counter[str]:
    """Choices per endpoint, with a constant number of requests in flight, of which the oldest ends next."""
    held: deque[Lease] = deque()
    counts = Counter[str]()
    for number in range(choices):
        lease = of.lease(LeaseRequest(now, key=b"%d" % number))
        counts[lease.endpoint.url.removeprefix("http://")] += 1
        held.append(lease)
        if len(held) > in_flight:
            oldest = held.popleft()
            oldest.endpoint.latency.add(now, 0.1)
            oldest.settle(SUCCESS, now)
    for lease in held:
        lease.settle(SUCCESS, now)
    return counts


@pytest.mark.untraced
@every_balancer
@pytest.mark.parametrize("count", [2, 10])
def test_a_joining_endpoint_gets_little_at_first_from_every_balancer(balancer: str, count: int) -> None:
    several = service(*[1] * count, balancer=balancer)
    for each in several.endpoints:
        each.latency.add(0.0, 0.1)
    several.replace_endpoints([*several.endpoints[1:], endpoint("new")], 0.0)
    for now, share in ((0.0, 0.1), (2.5, 0.25), (5.0, 0.5), (9.9, 0.99), (10.0, 1.0)):
        wanted = 3000 * share / (count - 1 + share)
        assert in_closed_loop(several, now, 3000, 50)["new"] == pytest.approx(wanted, rel=0.5)


def test_a_joining_endpoint_alone_gets_all_requests() -> None:
    single, several = service(1), service(1)
    single.replace_endpoints([endpoint("new")], 0.0)
    assert chosen(single, times=50) == {"new": 50}
    several.replace_endpoints([*several.endpoints, endpoint("new")], 0.0)
    assert chosen(several, times=50, tried=[several.endpoints[0]]) == {"new": 50}


def open_loop(of: Service, start: float, seconds: float, rate: int, took: float) -> Counter[str]:
    """Choices per endpoint, at a steady rate and a constant latency."""
    held: deque[tuple[float, Lease]] = deque()
    counts = Counter[str]()
    for number in range(int(seconds * rate)):
        now = start + number / rate
        while held and held[0][0] <= now:
            end, lease = held.popleft()
            lease.answered(end, 200)
            lease.settle(SUCCESS, end)
        lease = of.lease(LeaseRequest(now, key=b"%d" % (number * 7919)))
        counts[lease.endpoint.url.removeprefix("http://")] += 1
        held.append((now + took, lease))
    for end, lease in held:
        lease.settle(SUCCESS, end)
    return counts


@pytest.mark.untraced
@every_balancer
@pytest.mark.parametrize("took", [0.0001, 0.01, 0.1], ids=["idle", "busy", "crowded"])
def test_the_traffic_of_a_joining_endpoint_grows_without_leaps(balancer: str, took: float) -> None:
    several = service(*[1] * 4, balancer=balancer)
    open_loop(several, 0.0, 1.0, 1000, took)
    several.replace_endpoints([*several.endpoints, endpoint("new")], 10.0)
    for second in range(10):
        share = max(0.1, second / 10 + 0.05)
        counts = open_loop(several, 10.0 + second, 1.0, 1000, took)
        assert counts["new"] == pytest.approx(1000 * share / (4 + share), rel=0.35, abs=35)


def test_each_joining_endpoint_gets_its_share_of_slow_start() -> None:
    several = service(1, 1)
    several.replace_endpoints([*several.endpoints, *(endpoint(name) for name in "abcdefgh")], 0.0)
    counts = chosen(several, times=2800)  # eight that weigh a tenth beside two
    assert counts["host0"] == pytest.approx(1000, rel=0.1)
    assert [counts[name] for name in "abcdefgh"] == pytest.approx([100] * 8, rel=0.35)


def test_endpoints_that_all_join_at_once_share_everything() -> None:
    several = service(1)
    several.replace_endpoints([endpoint(name) for name in "abcd"], 0.0)
    assert chosen(several, times=400) == pytest.approx(dict.fromkeys("abcd", 100), abs=2)


@every_balancer
def test_joining_endpoints_get_traffic_by_weight(balancer: str) -> None:
    several = service(1, 1, balancer=balancer)
    open_loop(several, 0.0, 1.0, 1000, 0.01)
    several.replace_endpoints([*several.endpoints, endpoint("light", 1), endpoint("heavy", 4)], 10.0)
    counts = open_loop(several, 14.5, 1.0, 3000, 0.01)  # half of each weight beside two
    assert counts["light"] == pytest.approx(3000 * 0.5 / 4.5, rel=0.3)
    assert counts["heavy"] == pytest.approx(3000 * 2.0 / 4.5, rel=0.3)


def test_the_first_joining_endpoint_gets_its_full_share_first() -> None:
    several = service(1)
    for now, name in ((0.0, "a"), (4.0, "b"), (8.0, "c")):
        several.replace_endpoints([*several.endpoints, endpoint(name)], now)
    counts = chosen(several, 10.0, times=2800)  # shares: a 1.0, b 0.6, c 0.2
    assert [counts[name] for name in ("host0", "a", "b", "c")] == pytest.approx([1000, 1000, 600, 200], rel=0.15)
    assert chosen(several, 18.0, times=400) == pytest.approx(dict.fromkeys(("host0", "a", "b", "c"), 100), abs=2)


def test_slow_start_ends_for_an_endpoint_that_leaves() -> None:
    several = service(1)
    (other,) = several.endpoints
    several.replace_endpoints([other, new := endpoint("new")], 0.0)
    several.replace_endpoints([other, endpoint("newer")], 5.0)
    assert set(chosen(several, 6.0, times=100)) == {"host0", "newer"}
    assert (new.load, new.is_admitted) == (0, False)


@pytest.mark.parametrize("by", ["health checks", "breaker"])
def test_a_departed_endpoint_does_not_join_when_healthy_again(by: str) -> None:
    several = service(1, 1)
    gone, other = several.endpoints
    eject(several, gone)
    gone.checks_pass = False
    several.replace_endpoints([other], 0.0)
    if by == "breaker":
        several.end_permit(gone, gone.breaker.begin(OPEN_FOR), OPEN_FOR, failed=False)
        assert not gone.breaker.is_open
    else:
        several.set_health(gone, OPEN_FOR, up=True)
    assert (gone.joined_at, gone.is_admitted) == (-math.inf, False)
    assert chosen(several, OPEN_FOR, times=10) == {"host1": 10}


def test_without_slow_start_a_recovered_endpoint_gets_its_share_at_once() -> None:
    several = service(1, 1, slow_start=0.0)
    one = several.endpoints[0]
    eject(several, one)
    several.lease(LeaseRequest(OPEN_FOR)).settle(SUCCESS, OPEN_FOR)
    assert chosen(several, OPEN_FOR, times=20) == {"host0": 10, "host1": 10}


# ---- room


@every_balancer
def test_no_endpoint_has_more_requests_in_flight_than_it_may(balancer: str) -> None:
    several = service(1, 1, balancer=balancer, max_in_flight=2)
    held = [several.lease(LeaseRequest(0.0, key=b"key")) for _ in range(4)]
    assert [one.requests for one in several.endpoints] == [2, 2]
    with pytest.raises(EndpointsBusy):
        several.lease(LeaseRequest(0.0, key=b"key"))
    held[1].settle(SUCCESS, 0.0)
    assert several.lease(LeaseRequest(0.0, key=b"key")).endpoint is held[1].endpoint


def test_streams_take_nobodys_room() -> None:
    single = service(1, max_in_flight=2)
    for _ in range(100):
        single.lease(LeaseRequest(0.0)).becomes(Kind.SSE, 0.0)
        single.lease(LeaseRequest(0.0, Kind.WS))
    held = [single.lease(LeaseRequest(0.0)) for _ in range(2)]
    with pytest.raises(EndpointsBusy):
        single.lease(LeaseRequest(0.0))
    held[0].becomes(Kind.SSE, 0.0)
    assert single.lease(LeaseRequest(0.0)).endpoint is single.endpoints[0]


def test_a_retry_has_no_room_where_all_that_are_left_are_full() -> None:
    several = service(1, 1, max_in_flight=1)
    several.lease(LeaseRequest(0.0, tried=[several.endpoints[0]]))
    with pytest.raises(EndpointsBusy):
        several.lease(LeaseRequest(0.0, tried=[several.endpoints[0]]))


def full(max_waiting: int = 10, endpoints: int = 1, **config: float) -> tuple[Service, list[Lease]]:
    """A service whose endpoints are full with one request each."""
    busy = service(*[1] * endpoints, max_in_flight=1, max_waiting=max_waiting, **config)
    return busy, [busy.lease(LeaseRequest(0.0)) for _ in range(endpoints)]


class Waiter:
    """A waiting request, which takes a lease as soon as the queue resumes the request."""

    def __init__(self, of: Service, called: "list[Waiter]") -> None:
        self._service, self._called = of, called
        self.lease: Lease | None = None
        self.was_refused = False
        of.queue.join(self.go)

    def go(self) -> None:
        self._called.append(self)
        try:
            self.lease = self._service.lease(LeaseRequest(0.0, has_waited=True))
        except EndpointsBusy:
            self.was_refused = True


def test_waiting_requests_resume_in_order() -> None:
    busy, (lease,) = full()
    called: list[Waiter] = []
    waiters = [Waiter(busy, called) for _ in range(4)]
    assert called == []
    for number, waiter in enumerate(waiters, 1):
        lease.settle(SUCCESS, 0.0)
        assert called == waiters[:number]
        assert waiter.lease
        lease = waiter.lease
    lease.settle(SUCCESS, 0.0)
    assert called == waiters


@pytest.mark.parametrize("outcome", Outcome)
def test_any_end_of_a_request_makes_room_for_a_waiting_request(outcome: Outcome) -> None:
    busy, (lease,) = full()
    waiter = Waiter(busy, [])
    lease.settle(outcome, 0.0)
    lease.settle(outcome, 0.0)
    assert waiter.lease
    assert busy.inflight[Kind.HTTP] == 1


def test_a_request_that_becomes_a_stream_makes_room_for_a_waiting_request() -> None:
    busy, (lease,) = full()
    waiters = [Waiter(busy, []) for _ in range(2)]
    lease.becomes(Kind.SSE, 0.0)
    assert [waiter.lease is not None for waiter in waiters] == [True, False]
    lease.settle(SUCCESS, 0.0)
    assert [waiter.lease is not None for waiter in waiters] == [True, False]


def test_no_more_wait_than_may() -> None:
    busy, _ = full(max_waiting=2)
    for _ in range(2):
        Waiter(busy, [])
    with pytest.raises(Overflow) as refused:
        Waiter(busy, [])
    assert refused.value.reason == "overflow"


def test_one_can_see_how_many_wait() -> None:
    busy, (lease,) = full()
    waiters = [Waiter(busy, []) for _ in range(3)]
    assert busy.waiting == 3
    busy.queue.leave(waiters[1].go)
    assert busy.waiting == 2
    lease.settle(SUCCESS, 0.0)
    assert busy.waiting == 1


def test_without_a_queue_no_request_waits() -> None:
    with pytest.raises(Overflow):
        service(1).queue.join(lambda: None)


def test_a_request_that_leaves_the_queue_gives_its_place_to_the_next() -> None:
    busy, (lease,) = full(max_waiting=2)
    called: list[Waiter] = []
    leaving, staying = Waiter(busy, called), Waiter(busy, called)
    busy.queue.leave(leaving.go)
    busy.queue.leave(leaving.go)
    third = Waiter(busy, called)
    lease.settle(SUCCESS, 0.0)
    assert called == [staying]
    assert staying.lease
    staying.lease.settle(SUCCESS, 0.0)
    assert called == [staying, third]


def test_a_new_request_does_not_overtake_waiting_requests() -> None:
    busy, (lease,) = full()
    newcomers: list[str] = []

    def go() -> None:  # there is room, and another request waits
        try:
            busy.lease(LeaseRequest(0.0))
        except EndpointsBusy:
            newcomers.append("refused")
        newcomers.append(busy.lease(LeaseRequest(0.0, Kind.WS)).kind.value)

    busy.queue.join(go)
    second = Waiter(busy, [])
    lease.settle(SUCCESS, 0.0)
    assert newcomers == ["refused", "ws"]
    busy.queue.leave(second.go)


def test_a_request_finds_room_again_when_the_queue_is_empty() -> None:
    busy, (lease,) = full()
    waiter = Waiter(busy, [])
    busy.queue.leave(waiter.go)
    lease.settle(SUCCESS, 0.0)
    busy.lease(LeaseRequest(0.0)).settle(SUCCESS, 0.0)
    assert waiter.lease is None


def test_waiting_requests_get_all_the_room_of_a_new_endpoint() -> None:
    busy, (lease,) = full()
    waiters = [Waiter(busy, []) for _ in range(3)]
    busy.replace_endpoints([*busy.endpoints, endpoint("new")], 0.0)
    assert [waiter.lease is not None for waiter in waiters] == [True, False, False]
    assert [one.requests for one in busy.endpoints] == [1, 1]
    lease.settle(SUCCESS, 0.0)
    assert [waiter.lease is not None for waiter in waiters] == [True, True, False]


def test_waiting_requests_resume_when_an_endpoint_recovers() -> None:
    busy, _ = full()
    busy.replace_endpoints([*busy.endpoints, new := endpoint("new")], 0.0)
    busy.set_health(new, 0.0, up=False)
    waiter = Waiter(busy, [])
    busy.set_health(new, 0.0, up=True)
    assert waiter.lease
    assert waiter.lease.endpoint is new


@pytest.mark.parametrize("refuses", [False, True])
def test_a_request_without_any_usable_endpoint_is_refused_at_once(refuses: bool) -> None:
    limit = AdaptiveLimit(AdaptiveConfig(least=1), random.Random(1))
    sticky = Affinity(None, Sticky(b"gw_svc", b"secret", refuses=refuses))
    several = service(1, 1, limit=limit, affinity=sticky, max_waiting=10, panic_below=0.0, max_in_flight=10)
    a, b = several.endpoints
    several.lease(LeaseRequest(0.0, pinned=b))
    several.set_health(a, 0.0, up=False)
    with pytest.raises(CircuitOpen if refuses else EndpointsBusy):
        several.lease(LeaseRequest(0.0, pinned=a))
    several.set_health(b, 0.0, up=False)
    with pytest.raises(CircuitOpen):
        several.lease(LeaseRequest(0.0))


def test_waiting_requests_are_refused_at_once_when_no_endpoint_is_admitted() -> None:
    busy, (lease,) = full(panic_below=0.0)
    refused: list[CircuitOpen] = []

    class Refused:
        def __call__(self) -> None:
            with pytest.raises(CircuitOpen) as told:
                busy.lease(LeaseRequest(0.0, has_waited=True))
            refused.append(told.value)

    for _ in range(3):
        busy.queue.join(Refused())
    busy.set_health(busy.endpoints[0], 0.0, up=False)
    assert (len(refused), busy.waiting, busy.inflight[Kind.HTTP]) == (3, 0, 1)
    lease.settle(SUCCESS, 0.0)


def test_a_retry_is_no_newcomer() -> None:
    busy, (lease,) = full()
    other = endpoint("other")
    leases: list[Lease] = []

    def go() -> None:  # another request still waits, and there is room
        leases.append(busy.lease(LeaseRequest(0.0, tried=[other])))

    busy.queue.join(go)
    waiter = Waiter(busy, [])
    lease.settle(FAILURE, 0.0)
    assert [each.endpoint for each in leases] == list(busy.endpoints)
    assert waiter.lease is None


def test_many_waiting_requests_that_end_at_once_are_all_resumed() -> None:
    busy, (lease,) = full(max_waiting=2000)
    order: list[int] = []

    class Failing:
        def __init__(self, number: int) -> None:
            self._number = number

        def __call__(self) -> None:
            order.append(self._number)
            busy.lease(LeaseRequest(0.0, has_waited=True)).settle(IGNORED, 0.0)

    for number in range(2000):
        busy.queue.join(Failing(number))
    lease.settle(SUCCESS, 0.0)
    assert order == list(range(2000))
    assert busy.inflight[Kind.HTTP] == 0


def test_a_pinned_request_finds_no_more_room_than_any_other() -> None:
    several = service(1, 1, max_in_flight=1)
    one = several.endpoints[0]
    assert several.lease(LeaseRequest(0.0, pinned=one)).endpoint is one
    with contextlib.suppress(EndpointsBusy):  # the request waits or goes to another endpoint
        several.lease(LeaseRequest(0.0, pinned=one))
    assert one.requests == 1


# ---- the adaptive limit


def limited(*weights: int, limit: int = 3, max_waiting: int = 0, **config: float) -> tuple[Service, AdaptiveLimit]:
    adaptive = AdaptiveLimit(AdaptiveConfig(least=limit, samples=1, window=0.0), random.Random(1))
    return service(*weights, limit=adaptive, max_waiting=max_waiting, **config), adaptive


def test_a_service_takes_no_more_requests_than_the_adaptive_limit() -> None:
    several, _ = limited(1, 1)
    held = [several.lease(LeaseRequest(0.0)) for _ in range(3)]
    with pytest.raises(EndpointsBusy):
        several.lease(LeaseRequest(0.0))
    for _ in range(10):
        several.lease(LeaseRequest(0.0, Kind.WS))
    held[0].settle(SUCCESS, 0.0)
    several.lease(LeaseRequest(0.0))
    held[1].becomes(Kind.SSE, 0.0)
    several.lease(LeaseRequest(0.0))
    with pytest.raises(EndpointsBusy):
        several.lease(LeaseRequest(0.0, has_waited=True))


@pytest.mark.parametrize(
    ("kind", "becomes", "answered", "outcome", "is_sample"),
    [
        (Kind.HTTP, None, True, SUCCESS, True),
        (Kind.HTTP, None, False, SUCCESS, False),
        (Kind.HTTP, None, True, FAILURE, False),
        (Kind.HTTP, None, True, IGNORED, False),
        (Kind.HTTP, None, False, FAILURE, False),
        (Kind.HTTP, Kind.SSE, True, SUCCESS, False),
        (Kind.WS, Kind.WS, True, SUCCESS, False),
    ],
)
def test_only_good_answers_change_the_adaptive_limit(
    kind: Kind, becomes: Kind | None, answered: bool, outcome: Outcome, is_sample: bool
) -> None:
    several, adaptive = limited(1)
    lease = several.lease(LeaseRequest(0.0, kind))
    if answered:
        lease.answered(0.1, 200)
    if becomes:
        lease.becomes(becomes, 0.1)
    lease.settle(outcome, 0.2)
    assert adaptive.is_measuring is is_sample  # what the first sample begins


def test_waiting_requests_get_all_the_room_when_the_limit_grows() -> None:
    several, adaptive = limited(1, limit=1, max_waiting=10)
    lease = several.lease(LeaseRequest(0.0))
    waiters = [Waiter(several, []) for _ in range(10)]
    adaptive.limit = 5
    lease.settle(FAILURE, 0.0)
    assert [waiter.lease is not None for waiter in waiters] == [True] * 5 + [False] * 5
    assert several.inflight[Kind.HTTP] == 5


def test_no_request_is_resumed_while_the_limit_is_below_the_requests_in_flight() -> None:
    several, adaptive = limited(1, limit=4, max_waiting=10)
    held = [several.lease(LeaseRequest(0.0)) for _ in range(4)]
    waiters = [Waiter(several, []) for _ in range(3)]
    adaptive.limit = 2
    for lease in held[:2]:
        lease.settle(FAILURE, 0.0)
    assert not any(waiter.was_refused or waiter.lease for waiter in waiters)
    held[2].settle(FAILURE, 0.0)
    assert [waiter.lease is not None for waiter in waiters] == [True, False, False]
    assert several.inflight[Kind.HTTP] == 2


def test_in_a_closed_loop_the_requests_in_flight_follow_the_limit() -> None:
    adaptive = AdaptiveLimit(AdaptiveConfig(window=0.0, measure_every=1e9), random.Random(1))
    several = service(1, 1, limit=adaptive, max_waiting=100)
    held: deque[tuple[float, Lease]] = deque()
    now = 0.0

    def begin() -> None:
        try:
            held.append((now, several.lease(LeaseRequest(now))))
        except EndpointsBusy:
            several.queue.join(Go())

    class Go:
        def __call__(self) -> None:
            held.append((now, several.lease(LeaseRequest(now, has_waited=True))))

    for _ in range(100):
        begin()
    for _ in range(2000):
        since, lease = held.popleft()
        now = max(now, since + 0.1)
        lease.answered(since + 0.1, 200)  # as fast whatever is in flight
        lease.settle(SUCCESS, now)
        begin()
    assert adaptive.limit > 20
    assert len(held) == min(adaptive.limit, 100)


# ---- affinity


def sticky_service(count: int = 2, *, refuses: bool = False, **config: float) -> Service:
    sticky = Sticky(b"gw_svc", b"secret", refuses=refuses)
    return service(*[1] * count, affinity=Affinity(None, sticky), **config)


def test_a_pinned_request_goes_to_its_endpoint() -> None:
    several = sticky_service(5)
    assert chosen(several, times=20, pinned=several.endpoints[3]) == {"host3": 20}


@pytest.mark.parametrize("refuses", [False, True])
def test_a_session_whose_endpoint_is_out_moves_or_is_refused(refuses: bool) -> None:
    several = sticky_service(3, refuses=refuses)
    eject(several, several.endpoints[0])
    ask = LeaseRequest(0.0, pinned=several.endpoints[0])
    if refuses:
        with pytest.raises(CircuitOpen):
            several.lease(ask)
    else:
        assert several.lease(ask).endpoint in several.endpoints[1:]
    assert chosen(several, times=10) == {"host1": 5, "host2": 5}


@pytest.mark.parametrize(
    ("refuses", "max_waiting", "waits"), [(True, 0, True), (True, 10, True), (False, 10, True), (False, 0, False)]
)
def test_a_session_waits_for_its_endpoint_if_it_can(refuses: bool, max_waiting: int, waits: bool) -> None:
    several = sticky_service(2, refuses=refuses, max_in_flight=1, max_waiting=max_waiting)
    one, other = several.endpoints
    ask = LeaseRequest(0.0, pinned=one)
    assert several.lease(ask).endpoint is one
    if waits:
        with pytest.raises(EndpointsBusy):
            several.lease(ask)
    else:
        assert several.lease(ask).endpoint is other


@pytest.mark.parametrize(
    ("tried", "unhealthy", "pinned", "refuses", "expected"),
    [
        ([], [], None, False, True),
        ([0], [], None, False, True),
        ([0, 1], [], None, False, False),
        ([0], [1], None, False, False),
        ([], [0], None, False, True),
        ([0], [], 0, False, True),
        ([0], [], None, True, True),
        ([0], [], 0, True, False),
        ([], [], 0, True, False),
    ],
)
def test_whether_another_endpoint_can_be_asked(
    tried: list[int], unhealthy: list[int], pinned: int | None, refuses: bool, expected: bool
) -> None:
    several = sticky_service(2, refuses=refuses, panic_below=0.0)
    for number in unhealthy:
        several.endpoints[number].checks_pass = False
    several.endpoint_set.refresh()
    session = None if pinned is None else several.endpoints[pinned]
    assert several.has_other([several.endpoints[number] for number in tried], session) is expected


def test_a_session_that_has_begun_to_move_is_not_refused() -> None:
    several = sticky_service(2, refuses=True)
    a, b = several.endpoints
    assert several.lease(LeaseRequest(0.0, pinned=a, tried=[a])).endpoint is b


def test_a_session_that_may_move_does_not_probe_with_an_unrepeatable_request() -> None:
    several = sticky_service(2)
    one = several.endpoints[0]
    eject(several, one)
    assert chosen(several, OPEN_FOR, times=5, pinned=one, is_repeatable=False) == {"host1": 5}


def test_a_session_that_may_not_move_probes_with_any_request() -> None:
    several = sticky_service(2, refuses=True)
    one = several.endpoints[0]
    eject(several, one)
    assert chosen(several, OPEN_FOR, pinned=one, is_repeatable=False) == {"host0": 1}
    assert several.endpoint_set.ejected == []


@pytest.mark.parametrize("refuses", [False, True])
def test_a_session_may_probe_its_own_endpoint(refuses: bool) -> None:
    several = sticky_service(2, refuses=refuses)
    one = several.endpoints[0]
    eject(several, one)
    lease = several.lease(LeaseRequest(OPEN_FOR, pinned=one))
    assert lease.endpoint is one
    lease.settle(SUCCESS, OPEN_FOR)
    assert several.endpoint_set.ejected == []


def test_sticky_cookies_are_for_the_endpoints_that_there_are() -> None:
    several = sticky_service(2)
    sticky = several.affinity and several.affinity.sticky
    assert sticky
    a, b = several.endpoints
    field = sticky.line(a, secure=False).partition(b": ")[2].partition(b";")[0]
    assert sticky.find([(b"Cookie", field)]) is a
    several.replace_endpoints([b])
    assert sticky.find([(b"Cookie", field)]) is None


def test_a_service_without_sticky_sessions_refuses_no_pinned_request() -> None:
    several = service(1, 1, affinity=Affinity(None, None))
    eject(several, several.endpoints[0])
    assert chosen(several, times=5, pinned=several.endpoints[0]) == {"host1": 5}


def test_the_same_key_has_the_same_endpoint_and_few_keys_move_when_one_is_gone() -> None:
    several = service(*[1] * 10, balancer="consistent_hash")

    def homes() -> dict[int, str]:
        found = {}
        for number in range(1000):
            (found[number],) = chosen(several, key=b"%d" % number)
        return found

    before = homes()
    assert homes() == before
    several.replace_endpoints(several.endpoints[1:], 0.0)
    after = homes()
    moved = [number for number in before if before[number] != after[number]]
    assert {before[number] for number in moved} == {"host0"}
    assert len(moved) / 1000 == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("kind", Kind)
def test_the_bound_of_a_keys_endpoint_follows_the_load_of_the_other_endpoints(kind: Kind) -> None:
    several = service(1, 2, 1, balancer="consistent_hash")
    home = several.lease(LeaseRequest(0.0, kind, key=b"the same")).endpoint
    for _ in range(399):
        several.lease(LeaseRequest(0.0, kind, key=b"the same"))
    assert home.load == math.ceil(1.25 * 100 * home.weight)
    most = [math.ceil(1.25 * 100 * one.weight) for one in several.endpoints]
    assert all(one.load <= bound for one, bound in zip(several.endpoints, most, strict=True))


# ---- other endpoints


def test_endpoints_that_stay_keep_their_state() -> None:
    several = service(1, 1, 1)
    a, b, c = several.endpoints
    eject(several, a)
    stream = lease_on(several, b, kind=Kind.WS)
    b.latency.add(0.0, 0.7)
    several.replace_endpoints([new := endpoint("new"), b, a])
    assert several.endpoints == (new, b, a)
    assert several.endpoint_set.ejected == [a]
    assert (a.errors_total, b.streams, b.latency.average) == (FAILURES, 1, 0.7)
    assert set(chosen(several, times=20)) == {"new", "host1"}
    stream.settle(SUCCESS, 1.0)
    assert b.load == 0
    assert c.load == 0


@every_balancer
def test_endpoints_that_are_gone_get_nothing_new(balancer: str) -> None:
    several = service(1, 1, 1, balancer=balancer)
    gone = several.endpoints[0]
    several.replace_endpoints(several.endpoints[1:])
    assert "host0" not in chosen(several, times=50)
    assert several.lease(LeaseRequest(0.0, pinned=gone)).endpoint is not gone


def test_a_removed_endpoint_is_departing_until_it_has_no_leases() -> None:
    several = service(1, 1, 1)
    a, b, c = several.endpoints
    stream, request = lease_on(several, a, kind=Kind.WS), lease_on(several, c)
    several.replace_endpoints([b], 1.0)
    assert set(several.endpoint_set.departing) == {a, c}
    request.settle(SUCCESS, 2.0)
    assert several.endpoint_set.departing == [a]
    several.replace_endpoints([b, c], 3.0)
    assert several.endpoint_set.departing == [a]
    several.replace_endpoints([a, b], 4.0)  # the endpoint returns, with its stream
    assert several.endpoint_set.departing == []
    stream.settle(SUCCESS, 5.0)
    several.replace_endpoints([b], 6.0)
    assert several.endpoint_set.departing == []


def test_leases_of_a_removed_endpoint_end_as_any_other() -> None:
    several = service(1, 1)
    gone, left = several.endpoints
    leases = [lease_on(several, gone, kind=kind) for kind in Kind for _ in range(FAILURES)]
    several.replace_endpoints([left])
    assert sum(several.inflight.values()) == gone.load == 3 * FAILURES
    for lease in leases:
        lease.settle(FAILURE, 1.0)
    assert sum(several.inflight.values()) == gone.load == 0
    assert gone.breaker.is_open
    assert several.endpoint_set.ejected == []
    assert left.is_admitted
    assert chosen(several, 1.0, times=5) == {"host1": 5}


def test_a_removed_endpoint_is_not_probed() -> None:
    several = service(1, 1, 1)
    gone = several.endpoints[0]
    eject(several, gone)
    several.replace_endpoints(several.endpoints[1:])
    assert "host0" not in chosen(several, OPEN_FOR, times=10)
    assert several.endpoint_set.ejected == []


# ---- hundreds of endpoints

MANY = 500  # a choice that looked at all of them would be found out many times over


def fail_many(several: Service) -> None:
    for one in several.endpoints[: MANY // 2]:
        several.penalise(one, 0.0)


def eject_many(several: Service) -> None:
    for one in several.endpoints[: MANY // 2]:
        for _ in range(FAILURES):
            one.breaker.end(one.breaker.closed_permit, 0.0, failed=True)
    several.endpoint_set.refresh()


def join_all(several: Service) -> None:
    several.replace_endpoints([endpoint(f"new{number}") for number in range(MANY)], 0.0)


def join_many(several: Service) -> None:
    several.replace_endpoints(
        [*several.endpoints[: MANY // 2], *(endpoint(f"new{number}") for number in range(MANY // 2))], 0.0
    )


def fall_ill(several: Service) -> None:
    for one in several.endpoints[: MANY // 2 - 10]:
        several.set_health(one, 0.0, up=False)


def rest_many(several: Service) -> None:
    for one in several.endpoints[: MANY // 2]:
        several.penalise(one, 0.0, 300.0)


@every_balancer
@pytest.mark.parametrize("happens", [eject_many, fall_ill, rest_many, *map(untraced, (fail_many, join_all, join_many))])
@pytest.mark.parametrize("key", [b"", untraced(b"key %d")])
def test_whatever_happens_to_half_of_hundreds_a_choice_looks_at_a_few(
    balancer: str, happens: Callable[[Service], None], key: bytes, looks: Looks
) -> None:
    several = service(*[1] * MANY, balancer=balancer)
    happens(several)
    looks.count = 0
    for number in range(300):
        several.lease(LeaseRequest(0.5 + number / 1000, key=key and key % number))
    assert looks.count <= 300 * 20
    if not several.endpoint_set.ejected:
        return
    looks.count = 0
    leases = [several.lease(LeaseRequest(OPEN_FOR, key=key and key % number)) for number in range(MANY // 2)]
    assert {lease.endpoint for lease in leases} == set(
        several.endpoints[: MANY // 2]
    )  # each endpoint is probed by one request
    assert looks.count <= MANY // 2


# ---- any order of events


@settings(max_examples=60, stateful_step_count=40, deadline=None)
class Leases(RuleBasedStateMachine):
    """Requests begin, become streams, end in any order and more than once, while endpoints fail, come and go."""

    @initialize(
        balancer=st.sampled_from(sorted(BALANCERS)),
        count=st.integers(1, 4),
        most=st.sampled_from([1, 2, math.inf]),
        max_ejected=st.sampled_from([0.0, 0.5, 1.0]),
        panic_below=st.sampled_from([0.0, 0.5]),
        limit=st.sampled_from([None, 4]),
        refuses=st.booleans(),
    )
    def begin(
        self,
        balancer: str,
        count: int,
        most: float,
        max_ejected: float,
        panic_below: float,
        limit: int | None,
        refuses: bool,
    ) -> None:
        self.now = 0.0
        self.most, self.refuses = most, refuses
        self.held: list[Lease] = []
        self.ended: list[Lease] = []
        self.queue: dict[Callable[[], None], Endpoint | None] = {}
        self.numbers = iter(range(1000))
        adaptive = AdaptiveLimit(AdaptiveConfig(least=limit), random.Random(1)) if limit else None
        self.service = service(
            *[1] * count, balancer=balancer, breaker=BreakerConfig(failures=2, jitter=0.0), limit=adaptive,
            max_in_flight=most, max_waiting=3, max_ejected=max_ejected, panic_below=panic_below,
            affinity=Affinity(None, Sticky(b"gw_svc", b"secret", refuses=refuses)),
        )  # fmt: skip
        self.all = list(self.service.endpoints)

    def _begin(self, ask: LeaseRequest, *, is_retry: bool = False) -> None:
        try:
            lease = self.service.lease(ask, is_retry=is_retry)
        except EndpointsBusy:
            assert any(one.is_admitted and one not in ask.tried for one in self.service.endpoints)
            if not ask.has_waited and not ask.tried and ask.kind is Kind.HTTP:
                self._wait(ask)
        except CircuitOpen as refused:
            assert int(retry_after(refused)) >= 1
        except Overloaded:
            assert ask.tried
        else:
            assert lease.endpoint in self.service.endpoints
            assert lease.endpoint not in ask.tried
            assert lease.endpoint.weight
            self.held.append(lease)

    def _wait(self, ask: LeaseRequest) -> None:
        def go() -> None:
            del self.queue[go]
            self._begin(replace(ask, now=self.now, has_waited=True))

        try:
            self.service.queue.join(go, ask.pinned)
        except Overflow:
            assert len(self.queue) == 3
        else:
            self.queue[go] = ask.pinned

    @rule(
        kind=st.sampled_from(Kind), repeatable=st.booleans(), key=st.sampled_from([b"", b"a", b"b"]),
        pinned=st.sampled_from([None, None, 0, 1]),
    )  # fmt: skip
    def ask(self, kind: Kind, repeatable: bool, key: bytes, pinned: int | None) -> None:
        session = None if pinned is None else self.service.endpoints[pinned % len(self.service.endpoints)]
        self._begin(LeaseRequest(self.now, kind, key=key, pinned=session, is_repeatable=repeatable))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def ask_another(self, data: st.DataObject) -> None:
        lease = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.ended.append(lease)
        lease.settle(FAILURE, self.now)
        self._begin(LeaseRequest(self.now, lease.kind, (lease.endpoint,)), is_retry=True)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def leave_the_queue(self, data: st.DataObject) -> None:
        go = data.draw(st.sampled_from(list(self.queue)))
        del self.queue[go]
        self.service.queue.leave(go)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), ends=st.booleans())
    def upload(self, data: st.DataObject, ends: bool) -> None:
        lease = data.draw(st.sampled_from(self.held))
        lease.upload_begins()
        if ends:
            lease.upload_ends(self.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), status=st.sampled_from([200, 404, 429, 503]), wait=st.sampled_from([0.0, 30.0]))
    def answer(self, data: st.DataObject, status: int, wait: float) -> None:
        data.draw(st.sampled_from(self.held)).answered(self.now, status, wait)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), kind=st.sampled_from([Kind.SSE, Kind.WS]))
    def become(self, data: st.DataObject, kind: Kind) -> None:
        data.draw(st.sampled_from(self.held)).becomes(kind, self.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def end(self, data: st.DataObject, outcome: Outcome) -> None:
        lease = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.ended.append(lease)
        lease.settle(outcome, self.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), was_first=st.booleans())
    def lose(self, data: st.DataObject, was_first: bool) -> None:
        lease = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.ended.append(lease)
        (lease.lose_to_hedge if was_first else lease.supersede)(self.now)

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), kind=st.sampled_from(Kind))
    def end_again(self, data: st.DataObject, outcome: Outcome, kind: Kind) -> None:
        lease = data.draw(st.sampled_from(self.ended))
        before = [(one.breaker.state(self.now), one.requests_total, one.errors_total) for one in self.all]
        lease.becomes(kind, self.now)
        lease.settle(outcome, self.now)
        lease.lose_to_hedge(self.now)
        assert before == [(one.breaker.state(self.now), one.requests_total, one.errors_total) for one in self.all]

    @rule(seconds=st.sampled_from([0.1, 5.0, 20.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data())
    def replace_endpoints(self, data: st.DataObject) -> None:
        staying = data.draw(st.lists(st.sampled_from(self.service.endpoints), unique=True, max_size=4))
        if not staying or data.draw(st.booleans()):
            new = endpoint(f"new{next(self.numbers)}", breaker=BreakerConfig(failures=2, jitter=0.0))
            self.all.append(new)
            staying = [*staying, new]
        self.service.replace_endpoints(staying, self.now)

    @rule(data=st.data(), healthy=st.booleans())
    def check_health(self, data: st.DataObject, healthy: bool) -> None:
        one = data.draw(st.sampled_from(self.service.endpoints))
        if one.checks_pass is not healthy:
            self.service.set_health(one, self.now, up=healthy)

    @rule(data=st.data(), weight=st.integers(0, 3))
    def weigh(self, data: st.DataObject, weight: int) -> None:
        data.draw(st.sampled_from(self.service.endpoints)).weight = weight
        self.service.replace_endpoints(self.service.endpoints, self.now)

    @invariant()
    def counts_in_flight_equal_the_held_leases(self) -> None:
        held = Counter((lease.endpoint.url, lease.kind) for lease in self.held)
        assert held == Counter(
            {(one.url, kind): count for one in self.all for kind, count in one.inflight.items() if count}
        )
        kinds = Counter(lease.kind for lease in self.held)
        assert self.service.inflight == {kind: kinds[kind] for kind in Kind}
        assert all(count >= 0 for one in self.all for count in one.inflight.values())

    @invariant()
    def admission_follows_the_rules(self) -> None:
        found = self.service.endpoint_set
        members = [one for one in found.endpoints if one.weight]
        for one in found.endpoints:
            may = one in members and one not in found.ejected and (one.checks_pass or found.is_panicking)
            assert one.is_admitted is may
        assert len(self.service.endpoint_set.ejected) <= self.service.config.max_ejected * len(members)
        assert all(one.breaker.is_open for one in self.service.endpoint_set.ejected)

    @invariant()
    def no_request_waits_while_there_is_room_or_without_hope(self) -> None:
        limit, usable = self.service.outcomes.limit, [one for one in self.service.endpoints if one.is_admitted]
        is_limited = limit is not None and self.service.requests >= limit.limit
        for pinned in self.queue.values():
            wanted = [pinned] if pinned and (self.refuses or pinned.is_admitted) else usable
            assert any(one.is_admitted for one in wanted)
            assert is_limited or all(one.requests >= self.most for one in wanted)

    @invariant()
    def errors_are_some_of_all(self) -> None:
        assert all(0 <= one.errors_total <= one.requests_total for one in self.all)

    def teardown(self) -> None:
        for go in self.queue:
            self.service.queue.leave(go)
        for lease in self.held:
            lease.settle(IGNORED, self.now)
        assert sum(self.service.inflight.values()) == sum(one.load for one in self.all) == 0
        for one in self.all:  # no probe was lost: else no request could show a recovery
            assert one.breaker.passes(max(self.now, one.breaker.open_until))


TestLeases = pytest.mark.untraced(Leases.TestCase)


# ---- totals


def test_the_last_minute_of_a_service_is_that_of_its_endpoints() -> None:
    several = service(1, 1)
    for one, seconds, outcome in zip(several.endpoints, (0.1, 0.9), (SUCCESS, FAILURE), strict=True):
        for _ in range(3):
            lease = lease_on(several, one, 10.0)
            lease.answered(10.0 + seconds, 200)
            lease.settle(outcome, 11.0)
    lease_on(several, several.endpoints[0], 11.0).settle(IGNORED, 11.0)
    minute = Minute.of(each.window.minute(11.0) for each in several.endpoints)
    assert minute.error_rate == 3 / 7
    assert minute.quantiles([0.0, 1.0]) == pytest.approx([0.1, 0.9], rel=0.01)
    assert Minute.of(each.window.minute(120.0) for each in several.endpoints).error_rate == 0.0


# ---- statuses


@pytest.mark.parametrize(("status", "fails"), [(200, False), (400, False), (404, False), (429, False), (499, False),
                                               (500, True), (501, False), (502, True), (503, True), (504, True),
                                               (505, False), (507, True), (599, True), (600, False)])  # fmt: skip
def test_what_counts_as_a_failure(status: int, fails: bool) -> None:
    assert service(1).outcomes.judge(status) is (FAILURE if fails else SUCCESS)


@pytest.mark.parametrize(("status", "fails"), [(404, True), (418, True), (200, False), (500, False)])
def test_other_statuses_can_count_as_failures(status: int, fails: bool) -> None:
    assert service(1, failure_statuses=(404, 418)).outcomes.judge(status) is (FAILURE if fails else SUCCESS)


# ---- what is changed from outside


def test_a_weight_changes_shares_at_once() -> None:
    several = service(1, 1, slow_start=0.0)
    several.set_weight(several.endpoints[0], 3, 0.0)
    assert chosen(several, times=40) == {"host0": 30, "host1": 10}


def test_a_drained_endpoint_gets_no_new_requests_and_keeps_its_leases() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    held = lease_on(several, one)
    several.drain(one, 0.0)
    assert chosen(several, times=10) == {"host1": 10}
    held.answered(1.0, 200)
    held.settle(SUCCESS, 1.0)
    assert (one.load, one.outcomes[SUCCESS], one in several.endpoints) == (0, 1, True)


def test_an_endpoint_that_is_added_joins_and_stays_wanted() -> None:
    several = service(1, 1, slow_start=10.0)
    several.add_endpoint(new := endpoint("new", 3), 5.0)
    assert (several.endpoints[-1], new.share(10.0, 10.0)) == (new, 0.5)
    assert several.membership.wanted()["http://new"] == 3


def test_an_endpoint_that_is_there_may_be_added_with_another_weight() -> None:
    several = service(1, 1)
    before = several.endpoints
    several.add_endpoint(endpoint("host0", 3), 0.0)
    assert (several.endpoints, before[0].weight) == (before, 3)
    several.release("http://host0", 0.0)
    assert (several.endpoints, before[0].weight) == (before, 1)


def test_what_an_operator_has_said_can_be_taken_back() -> None:
    several = service(1, 2, slow_start=10.0)
    one, other = several.endpoints
    several.drain(one, 0.0)
    several.set_weight(other, 5, 0.0)
    several.add_endpoint(new := endpoint("new"), 0.0)
    held = lease_on(several, new)
    for url in ("http://host0", "http://host1", "http://new"):
        several.release(url, 5.0)
    assert (several.endpoints, one.weight, other.weight) == ((one, other), 1, 2)
    assert (one.joined_at, other.joined_at) == (5.0, -math.inf), "only an endpoint without a weight joins"
    assert several.endpoint_set.departing == [new]
    held.settle(SUCCESS, 6.0)
    assert several.endpoint_set.departing == []


def test_the_last_endpoint_is_never_released() -> None:
    single = service(1)
    single.membership.discover("host0", ("10.0.0.7",))
    single.release("http://host0", 0.0)
    assert [each.url for each in single.endpoints] == ["http://host0"]


def test_an_endpoint_with_a_weight_again_begins_slow_start() -> None:
    several = service(1, 1, slow_start=10.0)
    one = several.endpoints[0]
    several.drain(one, 0.0)
    several.set_weight(one, 1, 5.0)
    assert one.share(10.0, 10.0) == 0.5
    several.set_weight(one, 2, 10.0)
    assert one.share(15.0, 10.0) == 1.0, "only who had no weight joins"


def test_when_the_only_endpoint_is_drained_waiting_requests_are_refused() -> None:
    busy, (lease,) = full(panic_below=0.0)
    told: list[bool] = []
    busy.queue.join(lambda: told.append(True))
    busy.drain(busy.endpoints[0], 0.0)
    assert told == [True]
    lease.settle(SUCCESS, 0.0)


def test_a_forced_breaker_is_open_for_the_given_seconds_and_then_probed() -> None:
    several = service(1, 1, slow_start=0.0)
    one = several.endpoints[0]
    several.force_breaker(one, 0.0, 60.0)
    assert several.endpoint_set.ejected == [one]
    assert chosen(several, 59.9, times=10) == {"host1": 10}
    probe = several.lease(LeaseRequest(60.0))
    assert probe.endpoint is one
    probe.answered(60.1, 200)
    probe.settle(SUCCESS, 60.1)
    assert (several.endpoint_set.ejected, one.latency.penalty(60.1)) == ([], 0.0)


@pytest.mark.parametrize("seconds", [math.inf, math.nan])
def test_a_forced_opening_has_an_end(seconds: float) -> None:
    several = service(1, 1)
    with pytest.raises(ValueError, match="finite"):
        several.force_breaker(several.endpoints[0], 0.0, seconds)
    assert several.endpoints[0].healthy


def test_a_reset_breaker_is_closed_and_the_endpoint_has_no_penalty() -> None:
    several = service(1, 1, slow_start=0.0)
    one = several.endpoints[0]
    eject(several, one)
    several.reset_breaker(one, 1.0)
    assert (several.endpoint_set.ejected, one.healthy, one.latency.penalty(1.0)) == ([], True, 0.0)
    assert chosen(several, 1.0, times=10) == {"host0": 5, "host1": 5}


def test_health_that_fails_and_passes_again_takes_an_endpoint_out_and_back() -> None:
    several = service(1, 1, slow_start=0.0)
    one = several.endpoints[0]
    several.set_health(one, 0.0, up=False)
    assert chosen(several, times=4) == {"host1": 4}
    several.set_health(one, 1.0, up=True)
    assert chosen(several, 1.0, times=4) == {"host0": 2, "host1": 2}


def test_a_health_check_probes_with_a_permit_and_reports_the_result() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    eject(several, one)
    permit = several.begin_permit(one, OPEN_FOR)
    assert not one.breaker.passes(OPEN_FOR)
    several.note_check(one, "503", passed=False)
    several.note_check(one, "200", passed=True)
    several.end_permit(one, permit, OPEN_FOR, failed=False)
    assert (one.breaker.is_open, one.last_check, one.checks_passed, one.checks_failed) == (False, "200", 1, 1)


class TestReconfigure:
    """A new configuration reaches every object that holds the configuration; the state of endpoints stays."""

    def change(self, of: Service, now: float = 0.0, **config: object) -> None:
        of.reconfigure(replace(of.config, **config), now, random.Random(1))  # type: ignore[arg-type]

    def test_endpoints_totals_and_leases_stay(self) -> None:
        several = service(1, 1)
        before, held = several.endpoints, lease_on(several, several.endpoints[0])
        self.change(several, balancer="least_load", max_in_flight=5)
        assert (several.endpoints, before[0].load) == (before, 1)
        held.settle(SUCCESS, 1.0)
        assert (before[0].requests_total, several.requests) == (1, 0)

    def test_room_at_an_endpoint(self) -> None:
        single = service(1)
        held = single.lease(LeaseRequest(0.0))
        self.change(single, max_in_flight=1)
        with pytest.raises(EndpointsBusy):
            single.lease(LeaseRequest(0.0))
        self.change(single, max_in_flight=2)
        single.lease(LeaseRequest(0.0)).settle(SUCCESS, 0.0)
        held.settle(SUCCESS, 0.0)

    def test_more_room_resumes_waiting_requests(self) -> None:
        busy, (lease,) = full()
        told: list[bool] = []
        busy.queue.join(lambda: told.append(True))
        self.change(busy, max_in_flight=math.inf)
        assert told
        lease.settle(SUCCESS, 0.0)

    def test_the_size_of_the_queue(self) -> None:
        single = service(1)
        with pytest.raises(Overflow):
            single.queue.join(lambda: None)
        self.change(single, max_waiting=1)
        single.queue.join(waits := lambda: None)
        single.queue.leave(waits)

    def test_without_checks_no_failed_check_keeps_an_endpoint_out(self) -> None:
        several = service(1, 1, slow_start=10.0, health=HealthConfig(kind=HealthKind.TCP))
        one, other = several.endpoints
        several.set_health(one, 0.0, up=False)
        self.change(several, 5.0, max_waiting=1)
        assert (one.is_admitted, other.is_admitted) == (False, True)
        self.change(several, 5.0, health=HealthConfig())
        assert (one.checks_pass, one.is_admitted, one.joined_at, other.joined_at) == (True, True, 5.0, -math.inf)

    def test_the_retry_budget(self) -> None:
        single = service(1)
        single.budget.pay_in(0.0)
        self.change(single, retry=replace(single.config.retry, budget_floor=50))
        assert single.budget.balance(100.0) == pytest.approx(50)

    def test_breakers_open_by_the_new_rule_and_openings_that_run_go_on(self) -> None:
        several = service(1, 1, 1, 1)
        first, second, *_ = several.endpoints
        eject(several, first)
        self.change(several, breaker=BreakerConfig(failures=1, jitter=0.0, open_for=100.0))
        assert first.breaker.open_until == OPEN_FOR
        lease_on(several, second).settle(FAILURE, 0.0)
        assert second.breaker.open_until == 100.0

    def test_shares_that_breakers_watch(self) -> None:
        several = service(1, 1)
        one = several.endpoints[0]
        self.change(several, breaker=BreakerConfig(failures=0, failure_share=0.5, minimum=2, jitter=0.0))
        lease_on(several, one).settle(SUCCESS, 0.0)
        lease_on(several, one).settle(FAILURE, 0.0)
        assert several.endpoint_set.ejected == [one]

    def test_how_many_may_be_out(self) -> None:
        several = service(1, 1)
        eject(several, several.endpoints[0])
        self.change(several, max_ejected=0.0)
        assert (several.endpoint_set.ejected, several.endpoints[0].is_admitted) == ([], True)

    def test_hedging(self) -> None:
        several = service(1, 1)
        self.change(several, hedge=True)
        for number in range(20):
            lease = several.lease(LeaseRequest(float(number)))
            lease.answered(number + 0.1, 200)
            lease.settle(SUCCESS, number + 0.1)
        assert several.outcomes.hedging.after(20.0) == pytest.approx(0.1, rel=0.02)

    def test_what_counts_as_a_failure(self) -> None:
        single = service(1)
        self.change(single, failure_statuses=frozenset({404}))
        assert (single.outcomes.judge(404), single.outcomes.judge(500)) == (FAILURE, SUCCESS)

    def test_the_adaptive_limit_comes_stays_and_goes(self) -> None:
        single = service(1)
        self.change(single, adapts=True)
        limit = single.outcomes.limit
        assert limit is not None
        self.change(single, queue_timeout=2.0)
        assert single.outcomes.limit is limit
        self.change(single, is_long_poll=True)
        assert single.outcomes.limit is None

    def test_the_balancer(self) -> None:
        several = service(1, 1)
        lease_on(several, several.endpoints[0], kind=Kind.SSE)
        self.change(several, balancer="least_load")
        streams = [several.lease(LeaseRequest(0.0, Kind.SSE)) for _ in range(1)]
        assert [each.endpoint.url for each in streams] == ["http://host1"]

    def test_a_balancer_that_stays_keeps_its_turns(self) -> None:
        several = service(2, 1, 1)
        before = [several.lease(LeaseRequest(0.0)).endpoint.url for _ in range(2)]
        self.change(several, queue_timeout=2.0)
        after = [several.lease(LeaseRequest(0.0)).endpoint.url for _ in range(2)]
        assert Counter(before + after) == {"http://host0": 2, "http://host1": 1, "http://host2": 1}

    def test_sessions_come_keep_their_secret_and_go(self) -> None:
        several = service(1, 1)
        self.change(several, affinity=AffinityConfig(sessions=Sessions.REDISTRIBUTE, secret=b"secret"))
        assert several.affinity is not None
        line = several.affinity.cookie_line(several.endpoints[0], secure=False)
        self.change(several, affinity=AffinityConfig(sessions=Sessions.REFUSE))
        assert several.affinity.cookie_line(several.endpoints[0], secure=False) == line
        cookie = line.partition(b" ")[2].partition(b";")[0]
        assert several.affinity.of([(b"Cookie", cookie)], CLIENT, b"/")[1] is several.endpoints[0]
        self.change(several, affinity=AffinityConfig())
        assert several.affinity is None

    def test_sessions_without_a_secret_change_nothing(self) -> None:
        several = service(1, 1)
        before = several.config
        with pytest.raises(ValueError, match="secret"):
            self.change(several, max_in_flight=1, affinity=AffinityConfig(sessions=Sessions.REFUSE))
        assert (several.config, several.affinity) == (before, None)


# ---- defaults


def test_a_service_without_a_configuration_has_the_defaults() -> None:
    plain = Service("svc", [endpoint("a")], BALANCERS["least_load"](random.Random(1)))
    assert plain.config == ServiceConfig()
    assert (plain.outcomes.limit, plain.affinity) == (None, None)
    assert (plain.endpoint_set.ejected, plain.endpoint_set.is_panicking) == ([], False)
    assert plain.budget.balance(0.0) == plain.config.retry.budget_floor


def test_a_request_without_a_lease_pays_nothing_into_the_budget() -> None:
    busy, _ = full()
    before = busy.budget.balance(0.0)
    for _ in range(100):
        with pytest.raises(EndpointsBusy):
            busy.lease(LeaseRequest(0.0))
    assert busy.budget.balance(0.0) == before


def test_a_request_that_has_waited_pays_once() -> None:
    busy, (lease,) = full()
    before = busy.budget.balance(0.0)
    with pytest.raises(EndpointsBusy):
        busy.lease(LeaseRequest(0.0))
    lease.settle(SUCCESS, 0.0)
    busy.lease(LeaseRequest(0.0, has_waited=True))
    assert busy.budget.balance(0.0) == pytest.approx(before + busy.config.retry.budget_share)
