"""The course of the last hour: nothing counted twice or lost, and a bound for the memory."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.figures import whole
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind, LeaseRequest
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.policy.upstream.statistics import Minute
from tornado_gateway.policy.views.collecting import Sources, collect
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.history import COARSE, COLUMNS, FINE, IN_COARSE, History, Span, Totals
from tornado_gateway.policy.views.state import State


def totals(requests: int, failures: int = 0, at: float = 0.0, streams: int = 0, loop_delay: float = 0.0) -> Totals:
    return Totals(at, requests, failures, (0.001, None, 0.25), streams, loop_delay)


def test_totals_are_those_of_requests_for_services() -> None:
    durations = Durations()
    durations.add(b"GET", "/api/<service>/*", 200, 0.002, "svc")
    durations.add(b"GET", "/api/<service>/*", 503, 20.0, "svc")
    durations.add(b"GET", "/sse/<service>/*", 200, 0.002, "svc", is_stream=True)
    durations.add(b"GET", "/healthz", 500, 0.002)
    endpoints = [Endpoint("http://host:80", Breaker(BreakerConfig(), random.Random(1)))]
    service = Service("svc", endpoints, BALANCERS["round_robin"](random.Random(1)), ServiceConfig(), None)
    Lease(service, endpoints[0], LeaseRequest(0.0, Kind.WS), is_retry=False)
    minute = Minute(durations={math.ceil(math.log(2.0) / math.log(1.01 / 0.99)): 1})
    found = Totals.of(whole(collect(Sources([service], durations), 0.0)), minute, 5.0)
    assert (found.requests, found.failures, found.streams, found.loop_delay) == (3, 1, 1, 0.0)
    assert found.quantiles == (pytest.approx(2.0, rel=0.01),) * 3
    assert Totals.of(State(), Minute(), 5.0).quantiles == (None, None, None)


def test_a_point_has_rates_quantiles_and_gauges() -> None:
    history = History()
    assert history.note(totals(5), 100.0) is None and history.points == []
    span = history.note(totals(25, 4, at=1000.25, streams=7, loop_delay=0.0123), 102.0)
    assert span and history.points == [span.point]
    assert dict(zip(COLUMNS, span.point, strict=True)) == {
        "at": 1000.2, "rate": 10.0, "failures": 2.0, "p50Ms": 1.0, "p95Ms": None, "p99Ms": 250.0, "streams": 7,
        "loopDelayMs": 12.3,
    }  # fmt: skip


@given(st.lists(st.integers(0, 50), min_size=1, max_size=400))
def test_an_hour_counts_each_request_once(counts: list[int]) -> None:
    history, total = History(), 0
    history.note(totals(0), 0.0)
    for second, count in enumerate(counts, start=1):
        total += count
        history.note(totals(total, at=float(second)), float(second))
    spans = list(history._spans())
    assert sum(each.requests for each in spans) == total
    assert math.fsum(each.seconds for each in spans) == len(counts)
    assert [each.at for each in spans] == sorted({each.at for each in spans})


def test_the_history_is_bounded_and_reaches_back_an_hour() -> None:
    history = History()
    for second in range(5000):
        history.note(totals(second, at=float(second), streams=second), float(second))
    points = history.points
    assert FINE + COARSE <= len(points) < FINE + COARSE + IN_COARSE
    first, last = points[0][0], points[-1][0]
    assert first is not None and last is not None and 3590 <= last - first <= 3620
    assert {round(point[1] or 0) for point in points} == {1}  # the same rate, whatever the length of a span


def test_a_wall_clock_that_is_set_back_makes_no_negative_rate() -> None:
    history = History()
    history.note(totals(0, at=1000.0), 1.0)
    span = history.note(totals(10, at=940.0), 2.0)
    assert span and span.point[:2] == [940.0, 10.0]


def test_a_span_of_ten_seconds_has_the_largest_quantiles() -> None:
    spans = [
        Span(float(at), 1.0, 1, 0, quantiles, 0, 0.0)
        for at, quantiles in enumerate([(0.1, None, 0.3), (0.2, None, 0.1), (None, None, None)])
    ]
    assert Span.over(spans).quantiles == (0.2, None, 0.3)
