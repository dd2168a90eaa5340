"""The rows, the sentence and the events of the dashboard."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from tests.support.figures import whole
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import FAILURE, SUCCESS, Endpoint, LeaseRequest
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.policy.views.board import (
    AT_ONCE,
    ENDPOINT_COLUMNS,
    EVENTS,
    MOST_TROUBLES,
    SERVICE_COLUMNS,
    Board,
    Event,
    state_of,
)
from tornado_gateway.policy.views.collecting import Sources, collect
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.state import EndpointState, State

AT = 1_800_000_000.0


def make_service(name: str = "billing", count: int = 3) -> Service:
    rng = random.Random(1)
    endpoints = [Endpoint(f"http://host{each}:80", Breaker(BreakerConfig(jitter=0.0), rng)) for each in range(count)]
    return Service(name, endpoints, BALANCERS["round_robin"](rng), ServiceConfig(), None)


def look(*services: Service, now: float = 0.0) -> State:
    return whole(collect(Sources(services, Durations()), now))


def see(board: Board, state: State, at: float) -> list[Event]:
    return whole(board.update(state, at))


def break_off(service: Service, number: int, reason: str = "connect_failed") -> None:
    for _ in range(BreakerConfig().failures):
        lease = Lease(service, service.endpoints[number], LeaseRequest(0.0), is_retry=False)
        lease.failed_by(reason)
        lease.settle(FAILURE, 0.0)


def row(board: Board, key: str) -> dict[str, Any]:
    columns, rows = (ENDPOINT_COLUMNS, board.endpoints) if " " in key else (SERVICE_COLUMNS, board.services)
    return dict(zip(columns, json.loads(rows[key].text), strict=True))


def test_while_all_is_well_the_board_says_so_and_tells_no_event() -> None:
    board, service = Board(), make_service()
    assert board.sentence == ""
    assert see(board, look(service), AT) == [] == see(board, look(service), AT + 1)
    assert board.sentence == "All 3 endpoints of 1 services are up"
    assert row(board, "billing")["state"] == "up" and row(board, "billing http://host0:80")["since"] == AT


def test_an_endpoint_that_fails_is_named_with_its_reason_and_since_when() -> None:
    board, service = Board(), make_service()
    see(board, look(service), AT)
    break_off(service, 1)
    events = see(board, look(service), AT + 60)
    assert [(each.level, each.text) for each in events] == [
        ("bad", "billing http://host1:80 is out: connect failed"), ("warning", "billing is degraded: connect failed"),
    ]  # fmt: skip
    see(board, look(service), AT + 100)
    assert board.sentence == "billing: 1 of 3 endpoints is out: connect failed for 40 s"
    endpoint, whole = row(board, "billing http://host1:80"), row(board, "billing")
    assert (endpoint["state"], endpoint["why"], endpoint["since"]) == ("out", "connect failed", AT + 60)
    assert (endpoint["breaker"], endpoint["openUntil"], endpoint["failures"]) == ("open", AT + 115, 5)
    assert (whole["state"], whole["out"], whole["why"]) == ("degraded", 1, "connect failed")


@pytest.mark.parametrize(("good", "bad", "told"), [(36, 4, False), (46, 5, False), (40, 5, True)])
def test_many_failed_requests_are_told_while_all_endpoints_are_up(good: int, bad: int, told: bool) -> None:
    board, service = Board(), make_service(count=2)
    for outcome in [SUCCESS] * good + [FAILURE] * bad:
        lease = Lease(service, service.endpoints[0], LeaseRequest(0.0), is_retry=False)
        if outcome is FAILURE:
            lease.failed_by("upstream_reset")
        lease.settle(outcome, 0.0)
    service.endpoints[0].breaker.reset(0.0)
    see(board, look(service, now=1.0), AT)
    trouble = "; billing: 11% of the last minute's requests failed: upstream reset" if told else ""
    assert board.sentence == f"All 2 endpoints of 1 services are up{trouble}"


def test_a_service_has_the_requests_of_clients_and_an_endpoint_what_was_sent_there() -> None:
    board, service = Board(), make_service()
    break_off(service, 1)
    durations = Durations()
    for status in (200, 200, 200, 404, 502, 504):
        durations.add(b"GET", "/api/billing/*", status, 0.1, "billing")
    see(board, whole(collect(Sources([service], durations), 0.0)), AT)
    assert [row(board, "billing")[name] for name in ("total", "failures")] == [6, 2]
    assert [row(board, "billing http://host1:80")[name] for name in ("total", "failures")] == [5, 5]


def test_the_board_has_the_last_minute_of_all_endpoints() -> None:
    board, services = Board(), [make_service("billing", 2), make_service("orders", 1)]
    for each in [*services[0].endpoints, *services[1].endpoints]:
        each.window.add(0.0, 0.1)
    see(board, look(*services), AT)
    assert (board.minute.requests, board.minute.answers) == (3, 3)
    see(board, look(*services, now=100.0), AT + 100)
    assert board.minute.requests == 0


def test_the_course_of_requests_and_the_last_failure_are_shown() -> None:
    board, service = Board(), make_service()
    see(board, look(service), AT)
    break_off(service, 1)
    see(board, look(service), AT + 10)
    endpoint, whole = row(board, "billing http://host1:80"), row(board, "billing")
    assert (endpoint["spark"], whole["spark"], endpoint["lastFailure"]) == ("P", "P", "connect failed")
    assert row(board, "billing http://host0:80")["spark"] == ""


def test_a_service_without_an_endpoint_that_works_is_down_until_a_probe_succeeds() -> None:
    board, service = Board(), make_service(count=2)
    see(board, look(service), AT)
    break_off(service, 0)
    break_off(service, 1, "head_timeout")
    see(board, look(service), AT + 1)
    assert board.sentence == "billing: 2 of 2 endpoints are out: connect failed, head timeout for 0 s"
    assert row(board, "billing")["state"] == "down"
    see(board, look(service, now=16.0), AT + 20)  # the opening is over
    assert {row(board, f"billing http://host{each}:80")["state"] for each in (0, 1)} == {"probed"}
    assert {row(board, f"billing http://host{each}:80")["since"] for each in (0, 1)} == {AT + 1}
    assert board.sentence == "billing: 2 of 2 endpoints are out: connect failed, head timeout for 19 s"
    for each in service.endpoints:
        each.breaker.reset(16.0)
    see(board, look(service, now=16.0), AT + 21)
    assert [each.text.split(" is ")[1] for each in board.events] == [
        "out: connect failed", "out: head timeout", "down: connect failed", "up", "up", "up",
    ]  # fmt: skip


def test_the_first_look_finds_everything_new_and_tells_no_event() -> None:
    board, service = Board(), make_service()
    break_off(service, 0)
    assert see(board, look(service), AT) == []
    assert board.sentence.startswith("billing: 1 of 3 endpoints is out")


def test_the_number_of_events_is_bounded() -> None:
    board, service = Board(), make_service()
    well = look(service)
    break_off(service, 0)
    ill = look(service)
    for number in range(EVENTS):
        see(board, ill if number % 2 else well, AT + number)
    assert len(board.events) == EVENTS


def test_when_everything_fails_at_once_the_sentence_and_the_events_stay_short() -> None:
    board, services = Board(), [make_service(f"svc{each}", count=1) for each in range(100)]
    see(board, look(*services), AT)
    for each in services:
        each.endpoints[0].checks_pass = False
    events = see(board, look(*services), AT + 1)
    assert board.sentence.count("; ") == MOST_TROUBLES and board.sentence.endswith("; and 95 more services")
    assert [each.text for each in events[:2]] == ["svc0 http://host0:80 is out", "svc0 is down"]
    assert len(events) == AT_ONCE + 1 and events[-1].text == "150 more changes at once: see the table"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "up"), ({"check": (True, "status 500")}, "out"), ({"breaker": 1}, "probed"), ({"breaker": 2}, "out"),
        ({"weight": 0}, "drained"), ({"share": 0.4}, "joining"), ({"weight": 0, "breaker": 2}, "out"),
    ],
)  # fmt: skip
def test_the_state_of_an_endpoint_is_one_word(changes: dict[str, Any], wanted: str) -> None:
    (endpoint,) = look(make_service(count=1)).services["billing"].endpoints.values()
    assert isinstance(endpoint, EndpointState) and state_of(replace(endpoint, **changes)) == wanted


def test_a_failed_check_is_the_reason_before_an_old_failure() -> None:
    board, service = Board(), make_service(count=1)
    service.endpoints[0].last_failure, service.endpoints[0].last_check = "head_timeout", "status 500"
    service.endpoints[0].checks_pass = False
    see(board, look(service), AT)
    assert row(board, "billing http://host0:80")["why"] == "status 500"


def test_a_service_without_endpoints_is_down() -> None:
    board = Board()
    see(board, look(make_service(count=0)), AT)
    assert (row(board, "billing")["state"], row(board, "billing")["why"]) == ("down", "no endpoint")


def test_a_service_that_has_left_has_no_row() -> None:
    board = Board()
    see(board, look(make_service("a"), make_service("b")), AT)
    see(board, look(make_service("b")), AT + 1)
    assert set(board.services) == {"b"} and len(board.endpoints) == 3


def test_events_of_elsewhere_are_kept_beside_its_own() -> None:
    board, elsewhere = Board(), Event(AT, "warn", "Redis is away")
    board.tell([elsewhere])
    assert list(board.events) == [elsewhere]
