"""What the pages of acts show of services and endpoints."""

import random

from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.views.control import endpoint_view, joined_services, services_view
from tornado_gateway.policy.views.steps import Steps

NOW = 100.0
URLS = ["http://10.0.0.7:1", "http://10.0.0.8:1"]


def service() -> Service:
    rng = random.Random(1)
    endpoints = [Endpoint(url, Breaker(BreakerConfig(), rng)) for url in URLS]
    return Service("billing", endpoints, BALANCERS["round_robin"](rng))


def result(steps: Steps[list[dict[str, object]]]) -> tuple[int, list[dict[str, object]]]:
    """The number of steps, and the result."""
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return count, end.value
        count += 1


def test_an_endpoint_that_is_drained_and_one_whose_breaker_is_open() -> None:
    billing = service()
    first, second = billing.endpoints
    billing.drain(first, NOW)
    billing.force_breaker(second, NOW, 30.0)
    second.requests, second.event_streams, second.websockets = 1, 2, 3
    assert endpoint_view(billing, first, NOW) == {
        "endpoint": URLS[0], "state": "drained", "weight": 0, "usable": False, "breaker": "closed",
        "breakerOpenForMs": 0, "requests": 0, "eventStreams": 0, "webSockets": 0,
    }  # fmt: skip
    shown = endpoint_view(billing, second, NOW + 10)
    assert (shown["state"], shown["breaker"], shown["breakerOpenForMs"]) == ("out", "open", 20_000)
    assert (shown["requests"], shown["eventStreams"], shown["webSockets"]) == (1, 2, 3)
    probed = endpoint_view(billing, second, NOW + 31)
    assert (probed["state"], probed["breakerOpenForMs"]) == ("probed", 0)


def test_all_services_are_shown_with_a_step_for_each_endpoint() -> None:
    steps, shown = result(services_view([service()], NOW))
    assert steps == 2
    assert [(each["service"], each["waiting"]) for each in shown] == [("billing", 0)]
    assert [each["endpoint"] for each in shown[0]["endpoints"]] == URLS  # type: ignore[index]


def test_of_several_workers_numbers_are_added_and_the_worst_state_is_shown() -> None:
    one, other = service(), service()
    for each in (one, other):
        each.endpoints[0].requests, each.endpoints[0].websockets = 2, 1
    one.force_breaker(one.endpoints[0], NOW, 30.0)
    other.drain(other.endpoints[1], NOW)
    pages = [result(services_view([each], NOW + 10))[1] for each in (one, other)]
    mail = {"service": "mail", "waiting": 1, "endpoints": []}  # of a worker that has reloaded already
    shown, new = joined_services([pages[0], [mail, *pages[1]]])
    assert (shown["service"], shown["waiting"], new) == ("billing", 0, mail)
    first, second = shown["endpoints"]
    assert first == {
        "endpoint": URLS[0], "state": "out", "weight": 1, "usable": False, "breaker": "open",
        "breakerOpenForMs": 20_000, "requests": 4, "eventStreams": 0, "webSockets": 2,
    }  # fmt: skip
    assert (second["state"], second["usable"], second["weight"]) == ("up", False, 1)  # the drain is on its way
    assert joined_services([]) == []
