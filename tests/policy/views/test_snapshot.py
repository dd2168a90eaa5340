"""What there is to see of a service: the right figures, as plain JSON at any time, and nothing changed by looking."""

import json
import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.figures import collect
from tests.support.figures import snapshot as rendered
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.concurrency import AdaptiveConfig, AdaptiveLimit
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind, LeaseRequest, Outcome
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.policy.upstream.stream_totals import Carried
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.snapshot import QUANTILES
from tornado_gateway.policy.views.state import LimitsState, State

EPOCH = 1_800_000_000.0  # seconds since 1970 at instant 0 of the services' clock
BREAKER = BreakerConfig(jitter=0.0)
SUCCESS, FAILURE, CLIENT_GONE, SUPERSEDED, IGNORED = Outcome
NO_QUANTILES = dict.fromkeys(QUANTILES)
NO_LIMITS = {"policies": {}, "keys": 0, "droppedKeys": 0, "storeErrors": 0, "storeUp": True}
NO_STREAMS = {
    "open": 0, "closed": 0, "messages": {"up": 0, "down": 0}, "bytes": {"up": 0, "down": 0}, "waitingBytes": 0,
    "seconds": 0.0,
}  # fmt: skip


def service(*weights: int, name: str = "svc", limit: AdaptiveLimit | None = None, **config: Any) -> Service:
    rng = random.Random(1)
    endpoints = [
        Endpoint(f"http://host{number}:80", Breaker(BREAKER, rng), weight) for number, weight in enumerate(weights)
    ]
    return Service(name, endpoints, BALANCERS["round_robin"](rng), ServiceConfig(**config), limit)


def take(of: Service, number: int = 0, now: float = 0.0, kind: Kind = Kind.HTTP, *, is_retry: bool = False) -> Lease:
    """A lease on the given endpoint, without a choice."""
    return Lease(of, of.endpoints[number], LeaseRequest(now, kind), is_retry=is_retry)


def answer(of: Service, number: int, seconds: float, outcome: Outcome = SUCCESS, now: float = 0.0) -> None:
    """A request to an endpoint that is answered after so many seconds."""
    lease = take(of, number, now)
    lease.answered(now + seconds, 200)
    lease.settle(outcome, now + seconds)


def open_breaker(of: Service, number: int = 0, now: float = 0.0) -> None:
    for _ in range(BREAKER.failures):
        take(of, number, now).settle(FAILURE, now)


def snapshot(services: Iterable[Service], now: float, epoch: float) -> dict[str, Any]:
    return rendered(collect(services, Durations(), now), epoch)


def view(of: Service, now: float = 0.0) -> dict[str, Any]:
    (seen,) = snapshot([of], now, EPOCH + now)["services"].values()
    return dict(seen)


def details(of: Service, now: float = 0.0, number: int = 0) -> dict[str, Any]:
    return dict(view(of, now)["upstreamDetails"][number])


# ---- all of it


def test_before_the_first_request_there_are_only_zeros() -> None:
    assert snapshot([service(1)], 0.0, EPOCH) == {
        "services": {
            "svc": {
                "upstreams": 1, "healthy": 1, "avgLatencyMs": 0, "rps": 0.0, "errorRate": 0.0, "departing": [],
                "upstreamDetails": [
                    {
                        "url": "http://host0:80", "healthy": True, "circuitOpenUntilMs": 0,
                        "inflight": {"http": 0, "sse": 0, "ws": 0}, "requestsTotal": 0, "errorsTotal": 0, "rps": 0.0,
                        "outcomes": {"success": 0, "failure": 0, "clientGone": 0, "superseded": 0, "ignored": 0},
                        "latency": {"ewmaMs": 0.0, "lastMs": 0.0, "peakMs": 0.0, **NO_QUANTILES},
                        "errorRate": 0.0, "unansweredTotal": 0, "retriesTotal": 0,
                        "weight": 1, "share": 1.0, "usable": True,
                        "breaker": {"state": "closed", "openForMs": 0, "opened": 0, "ejected": False},
                        "checks": {"passing": True, "last": "", "passed": 0, "failed": 0}, "responses": {},
                        "connections": {"active": 0, "idle": 0}, "sent": {"new": 0, "kept": 0},
                    }
                ],
                "latency": NO_QUANTILES, "panic": False, "ejected": 0, "waiting": 0, "concurrencyLimit": None,
                "retryBudget": 3.0,
                "hedges": {"sent": 0, "won": 0},
                "requests": {}, "eventStreams": NO_STREAMS, "websockets": {**NO_STREAMS, "closeCodes": {}},
            }
        },
        "connections": {"http": 0, "sse": 0, "ws": 0},
        "rateLimits": NO_LIMITS,
    }  # fmt: skip


def test_without_services_or_endpoints_there_is_something_to_see_all_the_same() -> None:
    nothing = {"services": {}, "connections": {"http": 0, "sse": 0, "ws": 0}, "rateLimits": NO_LIMITS}
    assert snapshot([], 5.0, EPOCH) == nothing
    empty = view(service(), 5.0)
    assert (empty["upstreams"], empty["healthy"], empty["avgLatencyMs"], empty["rps"]) == (0, 0, 0, 0.0)
    assert empty["upstreamDetails"] == []


def test_services_may_come_from_anything_that_gives_them_once() -> None:
    pair = [service(1, name=name) for name in ("a", "b")]
    for each in pair:
        take(each, kind=Kind.WS)
    seen = snapshot(iter(pair), 0.0, EPOCH)
    assert list(seen["services"]) == ["a", "b"]
    assert seen["connections"] == {"http": 0, "sse": 0, "ws": 2}


# ---- rate limits


def test_requests_above_a_limit_are_counted_by_policy_and_by_what_has_become_of_the_requests() -> None:
    limited = {"refused by address": 7, "observed by address": 2, "observed search": 1}
    state = State(limits=LimitsState(limited, {}, keys=5, dropped=3, store_errors=4, store_is_away=True))
    assert rendered(state, EPOCH)["rateLimits"] == {
        "policies": {"by address": {"refused": 7, "observed": 2}, "search": {"refused": 0, "observed": 1}},
        "keys": 5, "droppedKeys": 3, "storeErrors": 4, "storeUp": False,
    }  # fmt: skip


# ---- what is in flight


def test_leases_in_flight_are_shown_by_kind_by_endpoint_and_in_total() -> None:
    one, two = service(1, 1, name="one"), service(1, name="two")
    held = [
        *(take(one, 0) for _ in range(3)),
        *(take(one, 1, kind=Kind.SSE) for _ in range(2)),
        take(one, 1, kind=Kind.WS),
        *(take(two, 0, kind=Kind.WS) for _ in range(4)),
        take(two, 0),
    ]
    seen = snapshot([one, two], 0.0, EPOCH)
    assert seen["connections"] == {"http": 4, "sse": 2, "ws": 5}
    inflight = [each["inflight"] for of in seen["services"].values() for each in of["upstreamDetails"]]
    assert inflight == [{"http": 3, "sse": 0, "ws": 0}, {"http": 0, "sse": 2, "ws": 1}, {"http": 1, "sse": 0, "ws": 4}]
    held[0].becomes(Kind.SSE, 0.0)
    assert snapshot([one, two], 0.0, EPOCH)["connections"] == {"http": 3, "sse": 3, "ws": 5}
    for lease in held:
        lease.settle(IGNORED, 0.0)
    assert snapshot([one, two], 0.0, EPOCH)["connections"] == {"http": 0, "sse": 0, "ws": 0}


def test_leases_of_a_departed_endpoint_are_still_in_flight() -> None:
    changing = service(1, 1)
    leases = [take(changing), take(changing, kind=Kind.WS), take(changing, 1)]
    changing.replace_endpoints(changing.endpoints[1:])
    seen = snapshot([changing], 0.0, EPOCH)
    assert seen["connections"] == {"http": 2, "sse": 0, "ws": 1}
    svc = seen["services"]["svc"]
    assert svc["departing"] == [{"url": "http://host0:80", "inflight": {"http": 1, "sse": 0, "ws": 1}}]
    assert svc["upstreamDetails"][0]["inflight"] == {"http": 1, "sse": 0, "ws": 0}
    for lease in leases:
        lease.settle(SUCCESS, 0.0)
    assert view(changing)["departing"] == []


# ---- what was counted


@pytest.mark.parametrize(
    ("outcomes", "requests", "errors", "rate"),
    [
        ([SUCCESS] * 3, 3, 0, 0.0),
        ([FAILURE], 1, 1, 1.0),
        ([SUCCESS, SUCCESS, FAILURE], 3, 1, 0.333),
        ([IGNORED] * 5, 5, 0, 0.0),
        ([CLIENT_GONE] * 7 + [FAILURE], 8, 1, 0.125),
        ([SUCCESS, FAILURE, CLIENT_GONE, SUPERSEDED], 4, 1, 0.25),
    ],
)
def test_totals_and_error_rate_are_of_all_that_ended(
    outcomes: list[Outcome], requests: int, errors: int, rate: float
) -> None:
    single = service(1)
    for outcome in outcomes:
        take(single).settle(outcome, 0.5)
    seen = details(single, 1.0)
    assert (seen["requestsTotal"], seen["errorsTotal"], seen["errorRate"]) == (requests, errors, rate)
    assert (view(single, 1.0)["errorRate"], view(single, 1.0)["rps"], seen["rps"]) == (rate, requests, requests)


def test_a_rate_and_its_errors_are_those_of_late_and_totals_are_of_ever() -> None:
    single = service(1)
    for _ in range(20):
        answer(single, 0, 0.0, FAILURE)
    assert (view(single, 1.0)["rps"], view(single, 4.0)["rps"]) == (20.0, 5.0)
    later = view(single, 61.0)
    assert (later["rps"], later["errorRate"], later["latency"]) == (0.0, 0.0, NO_QUANTILES)
    assert later["upstreamDetails"][0]["errorsTotal"] == 20


def test_a_services_figures_are_those_of_its_endpoints_together() -> None:
    three = service(1, 1, 1)
    for number, count in ((0, 1), (1, 3)):
        for _ in range(count):
            answer(three, number, 0.1 if number else 0.3, FAILURE if number == 0 else SUCCESS)
    seen = view(three, 2.0)
    assert (seen["rps"], seen["errorRate"]) == (2.0, 0.25)
    assert [each["rps"] for each in seen["upstreamDetails"]] == [0.5, 1.5, 0.0]
    assert [each["errorRate"] for each in seen["upstreamDetails"]] == [1.0, 0.0, 0.0]
    assert seen["avgLatencyMs"] == 200.0  # of the two that have answered
    assert seen["latency"]["p50Ms"] == pytest.approx(100, rel=0.01)
    assert seen["latency"]["p99Ms"] == pytest.approx(100, rel=0.01)


def test_retries_are_shown_where_they_went() -> None:
    pair = service(1, 1)
    take(pair, 1, is_retry=True).settle(SUCCESS, 0.0)
    assert [each["retriesTotal"] for each in view(pair)["upstreamDetails"]] == [0, 1]


def test_latency_is_shown_in_milliseconds() -> None:
    single = service(1)
    answer(single, 0, 0.25)
    answer(single, 0, 0.125, now=0.25)
    shown = details(single, 0.375)["latency"]
    assert shown["lastMs"] == 125.0
    assert shown["ewmaMs"] == 225.0  # 0.2 of the newest
    assert shown["peakMs"] == pytest.approx(250, rel=0.02)
    assert shown["p50Ms"] == pytest.approx(125, rel=0.01)
    assert details(single, 10.375)["latency"]["peakMs"] == pytest.approx(shown["peakMs"] / math.e, abs=0.01)


def test_quantiles_are_of_all_that_was_answered() -> None:
    single = service(1)
    for number in range(1, 101):
        answer(single, 0, number / 1000)
    shown = details(single, 1.0)["latency"]
    wanted = {"p50Ms": 50, "p95Ms": 95, "p99Ms": 99}
    assert {name: shown[name] for name in wanted} == {
        name: pytest.approx(value, rel=0.03) for name, value in wanted.items()
    }


def test_websockets_that_have_ended_are_shown_with_what_they_carried() -> None:
    single = service(1)
    single.websocket_totals.opened = 4
    single.websocket_totals.add(Carried(3, 5, 30, 50, 0), 1.23456, 1006)
    single.websocket_totals.add(Carried(1, 2, 10, 20, 0), 1.0, 1000)
    single.websocket_totals.add(Carried(0, 0, 0, 0, 0), 0.0, 1000)
    shown = view(single)["websockets"]
    assert shown == {
        "open": 1, "closed": 3, "messages": {"up": 4, "down": 7}, "bytes": {"up": 40, "down": 70}, "waitingBytes": 0,
        "seconds": 2.235,
        "closeCodes": {"1000": 2, "1006": 1},
    }  # fmt: skip
    assert list(shown["closeCodes"]) == ["1000", "1006"]


# ---- who is out


def test_a_breakers_end_is_told_in_milliseconds_since_1970_while_it_is_open() -> None:
    pair = service(1, 1)
    open_breaker(pair, now=100.0)
    until = round((EPOCH + 100.0 + BREAKER.open_for) * 1000)
    for since, state, shown, left in (
        (0.0, "open", until, 15000),
        (5.0, "open", until, 10000),
        (14.999, "open", until, 1),
        (15.0, "half_open", 0, 0),
        (500.0, "half_open", 0, 0),
    ):
        seen = details(pair, 100.0 + since)
        assert seen["circuitOpenUntilMs"] == shown
        assert seen["breaker"] == {"state": state, "openForMs": left, "opened": 1, "ejected": True}
        assert (seen["healthy"], seen["usable"]) == (False, False)
    probe = pair.endpoints[0].breaker.begin(600.0)
    pair.end_permit(pair.endpoints[0], probe, 600.0, failed=False)
    seen = details(pair, 600.0)
    assert (seen["circuitOpenUntilMs"], seen["healthy"], seen["usable"]) == (0, True, True)
    assert seen["breaker"] == {"state": "closed", "openForMs": 0, "opened": 1, "ejected": False}


@pytest.mark.parametrize(
    ("passes", "is_open", "available"),
    [(True, False, True), (True, True, False), (False, False, False), (False, True, False)],
)
def test_an_endpoint_is_healthy_if_neither_checks_nor_its_breaker_say_otherwise(
    passes: bool, is_open: bool, available: bool
) -> None:
    several = service(1, 1, 1)
    one = several.endpoints[0]
    if is_open:
        open_breaker(several)
    one.last_check = "200" if passes else "timeout"
    if not passes:
        several.set_health(one, 0.0, up=False)
    seen = view(several)
    assert one.healthy == seen["upstreamDetails"][0]["healthy"] == available
    assert (seen["healthy"], seen["upstreams"]) == (2 + available, 3)
    result = {"passing": passes, "last": one.last_check, "passed": 0, "failed": 0}
    assert seen["upstreamDetails"][0]["checks"] == result


def test_a_panic_and_its_usable_endpoints_are_shown() -> None:
    pair = service(1, 1, max_ejected=1.0, panic_below=1.0)
    assert (view(pair)["panic"], view(pair)["ejected"]) == (False, 0)
    open_breaker(pair)
    seen = view(pair)
    assert (seen["panic"], seen["ejected"], seen["healthy"]) == (True, 0, 1)
    assert [(each["healthy"], each["usable"]) for each in seen["upstreamDetails"]] == [(False, True), (True, True)]


def test_ejected_endpoints_are_counted() -> None:
    several = service(1, 1, 1, 1)
    for number in range(3):
        open_breaker(several, number, now=float(number))
    seen = view(several, 3.0)
    assert (seen["ejected"], seen["healthy"]) == (2, 1)  # half of them at most
    assert [each["breaker"]["ejected"] for each in seen["upstreamDetails"]] == [True, True, False, False]


def test_an_endpoint_that_joins_is_shown_with_its_growing_share() -> None:
    growing = service(1, slow_start=10.0)
    new = Endpoint("http://new", Breaker(BREAKER, random.Random(1)), 7)
    growing.replace_endpoints([*growing.endpoints, new], now=0.0)
    shares = [details(growing, now, 1)["share"] for now in (0.0, 1.0, 5.0, 9.999, 10.0)]
    assert shares == [0.1, 0.1, 0.5, 1.0, 1.0]
    assert (details(growing, 0.0, 0)["share"], details(growing, 0.0, 1)["weight"]) == (1.0, 7)


def test_waiting_requests_and_the_limit_are_shown() -> None:
    limited = service(1, limit=AdaptiveLimit(AdaptiveConfig(), random.Random(1)), max_waiting=5)
    for number in range(3):
        limited.queue.join(lambda number=number: number)  # type: ignore[misc]
    seen = view(limited)
    assert (seen["waiting"], seen["concurrencyLimit"]) == (3, AdaptiveConfig().least)


def test_the_retries_that_are_left_are_shown() -> None:
    single = service(1)
    for _ in range(3):
        assert single.budget.take(0.0)
    assert view(single, 0.0)["retryBudget"] == 0.0
    assert view(single, 2.0)["retryBudget"] == pytest.approx(3 - 3 / math.e, abs=0.001)


# ---- JSON


@pytest.mark.parametrize("seconds", [math.inf, math.nan, 1e308, 5e-324])
def test_no_latency_makes_invalid_json(seconds: float) -> None:
    single = service(1, 1)
    for endpoint in single.endpoints:
        endpoint.latency.add(0.0, seconds)
        endpoint.latency.add(1.0, seconds)
    text = json.dumps(snapshot([single], 1.0, EPOCH), allow_nan=False)
    assert json.loads(text)["services"]["svc"]["upstreams"] == 2


def test_a_snapshot_is_plain_data_that_does_not_change() -> None:
    single = service(1)
    answer(single, 0, 0.1)
    before = snapshot([single], 1.0, EPOCH)
    copy = json.loads(json.dumps(before, allow_nan=False))
    assert copy == before
    answer(single, 0, 0.2, FAILURE)
    take(single, kind=Kind.WS)
    single.websocket_totals.add(Carried(3, 5, 30, 50, 0), 1.0, 1006)
    assert before == copy


# ---- looking changes nothing

Step = tuple[str, int, float]
steps = st.lists(
    st.tuples(
        st.sampled_from(["begin", "stream", "succeed", "fail", "leave", "check", "retry"]),
        st.integers(0, 2),
        st.floats(0, 12),
    ),
    max_size=60,
)


def live(of: Service, todo: list[Step], look: Callable[[float], object]) -> tuple[list[str], float]:
    """Do what is to be done, and look before and after each step; the endpoints that were chosen, and the time."""
    now, chosen, held = 0.0, [], []
    for action, number, pause in todo:
        look(now)
        now += pause
        look(now)
        if action == "check":
            endpoint = of.endpoints[number]
            of.set_health(endpoint, now, up=not endpoint.checks_pass)
        elif action == "retry":
            chosen.append(str(of.budget.take(now)))
        elif action in ("begin", "stream"):
            kind = Kind.SSE if action == "stream" else Kind.HTTP
            try:
                held.append(of.lease(LeaseRequest(now, kind)))
            except Exception as error:
                chosen.append(type(error).__name__)
            else:
                chosen.append(held[-1].endpoint.url)
        elif held:
            lease = held.pop(number % len(held))
            if action != "leave":
                lease.answered(now, 200 if action == "succeed" else 500)
            lease.settle({"succeed": SUCCESS, "fail": FAILURE, "leave": IGNORED}[action], now)
        of.budget.pay_in(now)
    return chosen, now


@given(steps, st.sampled_from(sorted(BALANCERS)))
def test_looking_changes_no_choice_and_no_figure(todo: list[Step], balancer: str) -> None:
    def make() -> Service:
        rng, config = random.Random(1), BreakerConfig(failures=2, open_for=5.0)
        endpoints = [Endpoint(f"http://host{number}", Breaker(config, rng), 1 + number) for number in range(3)]
        return Service("svc", endpoints, BALANCERS[balancer](rng), ServiceConfig())

    seen, unseen = make(), make()
    choices, now = live(seen, todo, lambda at: snapshot([seen], at, EPOCH + at))
    assert (choices, now) == live(unseen, todo, lambda _: None)
    assert snapshot([seen], now, EPOCH) == snapshot([unseen], now, EPOCH)


@given(steps)
def test_two_looks_at_one_instant_see_the_same_and_it_is_valid_json(todo: list[Step]) -> None:
    busy = service(1, 1, 1)

    def look(now: float) -> None:
        once = json.dumps(snapshot([busy], now, EPOCH + now), allow_nan=False)
        assert json.dumps(snapshot([busy], now, EPOCH + now), allow_nan=False) == once

    live(busy, todo, look)


@pytest.mark.untraced
@pytest.mark.parametrize("apart", [0.0, 2.4, 2.6, 4.9])
def test_a_services_rate_is_that_of_its_endpoints_whenever_they_came(apart: float) -> None:
    pair = service(1, 1)
    late = Endpoint("http://late", Breaker(BREAKER, random.Random(1)), 1, apart)
    pair.replace_endpoints([pair.endpoints[0], late], apart)
    for number in range(2000):
        now = 5.0 + number / 100
        answer(pair, number % 2, 0.0, now=now)
        if number > 1500:
            assert view(pair, now)["rps"] == pytest.approx(100.0, rel=0.03)
