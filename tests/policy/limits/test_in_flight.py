"""Requests in flight: what a request counts under, and when a key is full."""

import dataclasses

import pytest

from tests.policy.test_tally import memory
from tornado_gateway.policy.http.address import NO_ADDRESS, parse
from tornado_gateway.policy.limits.in_flight import Claim, InFlight, claims_of
from tornado_gateway.policy.limits.key import Asker
from tornado_gateway.policy.limits.quota import LimitKey
from tornado_gateway.policy.limits.rules import LimitConfig
from tornado_gateway.policy.tally import Tally

ASKER = Asker(parse(b"192.0.2.7") or NO_ADDRESS, "iss|ada", "/api a", lambda: ())
CONFIG = LimitConfig(max_in_flight=2)


def test_a_config_without_a_limit_claims_nothing() -> None:
    assert claims_of(LimitConfig(max=5), ASKER) == ()


@pytest.mark.parametrize(("key", "counted_by"), [("ip", "192.0.2.7"), ("principal", "piss|ada"), ("route", "r/api a")])
def test_a_claim_has_the_key_of_the_config(key: str, counted_by: str) -> None:
    (claim,) = claims_of(dataclasses.replace(CONFIG, key=LimitKey(key)), ASKER)
    assert claim == Claim("default", counted_by, 2, "default in-flight", "", True)


def test_limits_of_routes_hold_beside_the_limit_of_the_service_and_enforced_ones_come_first() -> None:
    of_route = LimitConfig(max_in_flight=1, group="route /own/*", label="/own/*", route="/own/*")
    service = dataclasses.replace(CONFIG, enforces=False, also=(of_route, LimitConfig(max=9)))
    assert [each.group for each in claims_of(service, ASKER)] == ["route /own/*", "default"]


def test_a_key_is_full_at_the_limit_and_has_room_after_an_end() -> None:
    flight, claims = InFlight(), claims_of(CONFIG, ASKER)
    for _ in range(2):
        assert flight.exceeded(claims) == []
        flight.take(claims)
    assert flight.exceeded(claims) == list(claims)
    flight.give_back(claims)
    assert flight.exceeded(claims) == []


def test_keys_and_groups_are_counted_apart() -> None:
    flight = InFlight()
    (one,) = claims_of(LimitConfig(max_in_flight=1), ASKER)
    flight.take([one])
    assert flight.exceeded([one._replace(key="192.0.2.8"), one._replace(group="service a")]) == []


def test_a_key_without_a_request_takes_no_memory() -> None:
    flight, claims = InFlight(), claims_of(CONFIG, ASKER)
    flight.take(claims)
    flight.give_back(claims)
    assert not flight.counts


def test_requests_of_all_workers_count_together_until_a_worker_ends() -> None:
    tally = Tally(memory(2 * 16), 2)
    one, other = (InFlight(tally.of(worker)) for worker in (0, 1))
    claims = claims_of(CONFIG, ASKER)
    one.take(claims)
    other.take(claims)
    for each in (one, other):
        assert each.exceeded(claims) == list(claims)
        assert each.exceeded([claims[0]._replace(key="192.0.2.8"), claims[0]._replace(group="service a")]) == []
    one.give_back(claims)
    assert other.exceeded(claims) == []
    one.take(claims)
    tally.forget(0)
    assert other.exceeded(claims) == []
