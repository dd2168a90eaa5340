"""How long requests took: every duration lands in one bucket, and no client can make more series than there are."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.histogram import Histogram
from tornado_gateway.policy.views.durations import BOUNDS, METHODS, OTHER, STATUSES, Durations, Example, Key

ROUTE = "/api/<service>/*"


def histogram(*durations: float) -> Histogram:
    """Of GETs that were answered 200."""
    found = Durations()
    for seconds in durations:
        found.add(b"GET", ROUTE, 200, seconds)
    ((_, counted),) = found
    return counted


def test_bounds_ascend() -> None:
    assert all(low < high for low, high in itertools.pairwise(BOUNDS))
    assert BOUNDS[0] > 0
    assert math.isfinite(BOUNDS[-1])


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0.0, 0),
        (0.0009, 0),
        *((bound, number) for number, bound in enumerate(BOUNDS)),  # Prometheus's "le": less than or equal
        *((math.nextafter(bound, math.inf), number + 1) for number, bound in enumerate(BOUNDS)),
        (86400.0, len(BOUNDS)),
    ],
)
def test_a_duration_is_counted_in_the_first_bucket_whose_bound_it_does_not_exceed(seconds: float, bucket: int) -> None:
    counted = histogram(seconds)
    assert counted.counts == [int(number == bucket) for number in range(len(BOUNDS) + 1)]
    assert counted.total == seconds


@given(st.lists(st.floats(0, 100), min_size=1))
def test_buckets_count_every_duration_once(durations: list[float]) -> None:
    counted = histogram(*durations)
    below = list(itertools.accumulate(counted.counts))
    assert below == [*(sum(each <= bound for each in durations) for bound in BOUNDS), len(durations)]
    assert counted.total == pytest.approx(sum(durations))


def test_without_requests_there_is_nothing() -> None:
    assert list(Durations()) == []


def test_method_route_and_status_are_told_apart() -> None:
    several = [*itertools.product((b"GET", b"POST"), (ROUTE, "other"), (200, 404))]
    found = Durations()
    for number, (method, route, status) in enumerate(several, 1):
        for _ in range(number):
            found.add(method, route, status, 0.5)
    assert [sum(each.counts) for _, each in found] == list(range(1, len(several) + 1))
    expected = [Key(method.decode(), route, str(status), "", False) for method, route, status in several]
    assert [key for key, _ in found] == expected


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_usual_method_has_its_name(method: bytes) -> None:
    found = Durations()
    found.add(method, ROUTE, 200, 0.1)
    assert [key for key, _ in found] == [Key(method.decode(), ROUTE, "200", "", False)]


@pytest.mark.parametrize("method", [b"BREW", b"PROPFIND", b"get", b"Get", b"TRACE", b"CONNECT", b"GET ", b"", OTHER])
def test_any_other_method_counts_as_other(method: bytes) -> None:  # methods are case-sensitive: RFC 9110 §9.1
    found = Durations()
    found.add(method, ROUTE, 200, 0.1)
    assert [key for key, _ in found] == [Key("OTHER", ROUTE, "200", "", False)]


@given(st.lists(st.binary(), max_size=50))
def test_methods_make_no_more_series_than_there_are_methods(methods: list[bytes]) -> None:
    found = Durations()
    for method in methods:
        found.add(method, ROUTE, 200, 0.1)
    assert {key.method.encode() for key, _ in found} <= METHODS | {OTHER}
    assert sum(sum(each.counts) for _, each in found) == len(methods)


@pytest.mark.parametrize(
    ("status", "label"),
    [(200, "200"), (418, "418"), (499, "499"), (599, "5xx"), (299, "2xx"), (777, "7xx"), (999, "9xx"), (100, "100")],
)
def test_a_status_without_a_name_counts_as_its_class(status: int, label: str) -> None:
    found = Durations()
    found.add(b"GET", ROUTE, status, 0.1)
    assert [key.status for key, _ in found] == [label]


def test_statuses_make_no_more_series_than_there_are_names_and_classes() -> None:
    found = Durations()
    for status in range(100, 1000):
        found.add(b"GET", ROUTE, status, 0.1)
    assert len(list(found)) <= len(STATUSES) + 9
    assert sum(each.count for _, each in found) == 900


def test_services_and_streams_are_told_apart() -> None:
    found = Durations()
    for service, is_stream in (("", False), ("one", False), ("one", True), ("two", False)):
        found.add(b"GET", ROUTE, 200, 0.1, service, is_stream)
    assert [(key.service, key.is_stream, each.count) for key, each in found] == [
        ("", False, 1), ("one", False, 1), ("one", True, 1), ("two", False, 1)
    ]  # fmt: skip


def test_the_newest_slow_request_of_each_bucket_is_kept() -> None:
    found = Durations()
    for number, seconds in enumerate((0.3, 0.4, 0.6, 99.0)):
        found.keep("one", Example(float(number), seconds, f"r{number}", ""))
    assert {bucket: each.request_id for (_, bucket), each in found.examples.items()} == {8: "r1", 9: "r2", 13: "r3"}


def test_requests_may_be_counted_while_they_are_read() -> None:
    found = Durations()
    for method in (b"GET", b"POST"):
        found.add(method, ROUTE, 200, 0.1)
    seen = []
    for key, _ in found:
        seen.append(key)
        found.add(b"PUT", ROUTE, 200 + len(seen), 0.1)
    assert len(seen) == 2
    assert len(list(found)) == 4


def test_each_has_durations_of_its_own() -> None:
    one, other = Durations(), Durations()
    one.add(b"GET", ROUTE, 200, 0.1)
    assert list(other) == []
