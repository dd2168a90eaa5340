"""What Prometheus reads: an exposition that its own parsers take, with the figures of services and durations."""

import dataclasses
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_format
from prometheus_client.registry import Collector

from tests.support.figures import Event, Process, collect, lives, whole
from tornado_gateway.adapters.prometheus import Metrics, prefers_open_metrics
from tornado_gateway.policy.loop_delays import LoopDelays
from tornado_gateway.policy.overload import CLASSES, ORDINARY, Overload, OverloadConfig
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind, LeaseRequest, Outcome
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.policy.upstream.stream_totals import Carried
from tornado_gateway.policy.views import collecting
from tornado_gateway.policy.views.collecting import Sources
from tornado_gateway.policy.views.durations import BOUNDS, METHODS, OTHER, Durations, Example
from tornado_gateway.policy.views.state import ProcessState, State, merge
from tornado_gateway.policy.views.steps import Steps

ROUTE = "/api/<service>/*"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"
NEWER_PLAIN = "text/plain; version=1.0.0; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
BREAKER = BreakerConfig(jitter=0.0)
DURATION = "gateway_http_request_duration_seconds"
# What a Prometheus 3 sends.
SCRAPER = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;"
    "version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
Labels = frozenset[tuple[str, str]]


def service(*urls: str, name: str = "svc", **config: float) -> Service:
    rng = random.Random(1)
    endpoints = [Endpoint(url, Breaker(BREAKER, rng)) for url in urls]
    return Service(name, endpoints, BALANCERS["round_robin"](rng), ServiceConfig(**config))  # type: ignore[arg-type]


def take(of: Service, number: int = 0, kind: Kind = Kind.HTTP, *, is_retry: bool = False) -> Lease:
    return Lease(of, of.endpoints[number], LeaseRequest(0.0, kind), is_retry=is_retry)


class Scrape:
    """What a scrape says, parsed strictly: each series stands once.

    Attributes:
        values: of each series, by the name and labels of its sample.
    """

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = {family.name: family for family in families}
        self.values: dict[tuple[str, Labels], float] = {}
        for family in self.families.values():
            for sample in family.samples:
                series = (sample.name, frozenset(sample.labels.items()))
                assert series not in self.values, f"{series} stands twice"
                self.values[series] = sample.value

    def value(self, name: str, **labels: str) -> float:
        return self.values[name, frozenset(labels.items())]

    def all(self, name: str) -> list[dict[str, str]]:
        """The labels of all samples of a name."""
        return [dict(labels) for each, labels in self.values if each == name]


def metrics_of(services: Iterable[Service], durations: Durations | None = None, now: float = 0.0) -> Metrics:
    counted = durations or Durations()
    return Metrics(lambda: collecting.collect(Sources(services, counted), now, with_minute=False))


def metrics_with(state: State) -> Metrics:
    def told() -> Steps[State]:
        yield
        return state

    return Metrics(told)


def text_of(metrics: Metrics, accept: Sequence[bytes] = ()) -> tuple[bytes, str]:
    """The exposition, and its media type."""
    return whole(metrics.steps(is_open=prefers_open_metrics(accept)))


def scrape(*services: Service, durations: Durations | None = None, now: float = 0.0) -> Scrape:
    text, _ = text_of(metrics_of(services, durations, now))
    return Scrape(text_format(text.decode()))


def counted(*requests: tuple[bytes, str, int, float]) -> Durations:
    durations = Durations()
    for request in requests:
        durations.add(*request)
    return durations


# ---- the kept names


def test_before_the_first_request_all_but_durations_is_there() -> None:
    seen = scrape(service("http://a"))
    assert seen.families[DURATION].samples == []
    assert seen.value("gateway_websocket_connections") == 0
    outcomes = {
        labels["outcome"]: seen.value("gateway_upstream_requests_total", **labels)
        for labels in seen.all("gateway_upstream_requests_total")
    }
    assert outcomes == {each.value: 0 for each in Outcome}


def test_without_services_there_is_something_to_read() -> None:
    assert scrape().value("gateway_websocket_connections") == 0


def test_durations_are_a_histogram_by_method_route_and_status() -> None:
    seen = scrape(
        durations=counted((b"GET", ROUTE, 200, 0.002), (b"GET", ROUTE, 200, 0.3), (b"POST", "other", 404, 20.0))
    )
    assert seen.families[DURATION].type == "histogram"
    labels = {"method": "GET", "route": ROUTE, "status_code": "200"}
    assert seen.value(f"{DURATION}_count", **labels) == 2
    assert seen.value(f"{DURATION}_sum", **labels) == pytest.approx(0.302)
    buckets = [seen.value(f"{DURATION}_bucket", le=le, **labels) for le in (*map(str, BOUNDS), "+Inf")]
    assert buckets == [0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    other = {"method": "POST", "route": "other", "status_code": "404"}
    assert seen.value(f"{DURATION}_bucket", le="10.0", **other) == 0
    assert seen.value(f"{DURATION}_bucket", le="+Inf", **other) == 1
    assert len(seen.families[DURATION].samples) == 2 * (len(BOUNDS) + 1 + 2)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.sampled_from(sorted(METHODS)), st.binary(max_size=5)),
            st.sampled_from([ROUTE, "/sse/<service>/*", "/healthz", "other"]),
            st.sampled_from([101, 200, 404, 499, 500]),
            st.floats(0, 100),
        ),
        max_size=40,
    )
)
def test_buckets_are_cumulative_and_count_what_was_counted(requests: list[tuple[bytes, str, int, float]]) -> None:
    seen = scrape(durations=counted(*requests))
    for labels in seen.all(f"{DURATION}_count"):
        buckets = [seen.value(f"{DURATION}_bucket", le=le, **labels) for le in (*map(str, BOUNDS), "+Inf")]
        assert buckets == sorted(buckets)
        assert buckets[-1] == seen.value(f"{DURATION}_count", **labels)
        mine = [
            seconds
            for method, route, status, seconds in requests
            if (labels["method"].encode(), labels["route"], labels["status_code"])
            == (method if method in METHODS else OTHER, route, str(status))
        ]
        assert buckets[-1] == len(mine)
        assert seen.value(f"{DURATION}_sum", **labels) == pytest.approx(sum(mine))
    assert sum(seen.value(f"{DURATION}_count", **labels) for labels in seen.all(f"{DURATION}_count")) == len(requests)


def test_open_websockets_are_counted_over_all_services() -> None:
    one, two = service("http://a", name="one"), service("http://b", name="two")
    take(one, kind=Kind.WS)  # its handshake is under way
    for each in (one, two, two):
        each.websocket_totals.opened += 1
    assert scrape(one, two).value("gateway_websocket_connections") == 3
    for each in (one, two, two):
        each.websocket_totals.add(Carried(0, 0, 0, 0, 0), 1.0, 1000)
    assert scrape(one, two).value("gateway_websocket_connections") == 0


# ---- endpoints and services


def test_an_endpoints_counters_are_read_by_service_and_endpoint() -> None:
    pair, single = service("http://a", "http://b", name="pair"), service("http://a", name="single")
    outcomes = (
        [(pair, 0, Outcome.SUCCESS)] * 4
        + [(pair, 0, Outcome.FAILURE)] * 2
        + [(pair, 1, Outcome.CLIENT_GONE)] * 3
        + [(single, 0, Outcome.FAILURE)]
    )
    for of, number, outcome in outcomes:
        take(of, number).settle(outcome, 0.0)
    take(pair, 1, is_retry=True).settle(Outcome.SUCCESS, 0.0)
    seen = scrape(pair, single)
    found = {
        (of, url): tuple(
            seen.value(f"gateway_upstream_{name}_total", service=of, endpoint=url)
            for name in ("errors", "unanswered", "retries")
        )
        for of, url in (("pair", "http://a"), ("pair", "http://b"), ("single", "http://a"))
    }
    assert found == {
        ("pair", "http://a"): (2, 2, 0),
        ("pair", "http://b"): (0, 0, 1),
        ("single", "http://a"): (1, 1, 0),
    }
    ended = {
        (labels["service"], labels["endpoint"], labels["outcome"]): count
        for labels in seen.all("gateway_upstream_requests_total")
        if (count := seen.value("gateway_upstream_requests_total", **labels))
    }
    assert ended == {
        ("pair", "http://a", "success"): 4,
        ("pair", "http://a", "failure"): 2,
        ("pair", "http://b", "client_gone"): 3,
        ("pair", "http://b", "success"): 1,
        ("single", "http://a", "failure"): 1,
    }
    counters = ("requests", "errors", "unanswered", "retries")
    assert {seen.families[f"gateway_upstream_{name}"].type for name in counters} == {"counter"}


def test_requests_and_streams_in_flight_are_exported_by_kind() -> None:
    single = service("http://a")
    for kind, count in ((Kind.HTTP, 1), (Kind.SSE, 2), (Kind.WS, 3)):
        for _ in range(count):
            take(single, kind=kind)
    seen = scrape(single)
    inflight = {
        kind: seen.value("gateway_upstream_inflight", service="svc", endpoint="http://a", kind=kind)
        for kind in ("http", "sse", "ws")
    }
    assert inflight == {"http": 1, "sse": 2, "ws": 3}


def test_leases_of_departed_endpoints_are_exported_too() -> None:
    pair = service("http://a", "http://b")
    lease = take(pair, kind=Kind.WS)
    pair.replace_endpoints(pair.endpoints[1:])
    labels = {"service": "svc", "endpoint": "http://a", "kind": "ws"}
    assert scrape(pair).value("gateway_upstream_inflight", **labels) == 1
    lease.settle(Outcome.SUCCESS, 0.0)
    assert "http://a" not in str(scrape(pair).families["gateway_upstream_inflight"].samples)


@pytest.mark.parametrize(
    ("failures", "now", "state", "up", "openings"),
    [
        (0, 0.0, 0, 1, 0),
        (BREAKER.failures - 1, 0.0, 0, 1, 0),
        (BREAKER.failures, 0.0, 2, 0, 1),
        (BREAKER.failures, BREAKER.open_for - 0.001, 2, 0, 1),
        (BREAKER.failures, BREAKER.open_for, 1, 0, 1),
    ],
)
def test_a_breaker_is_closed_half_open_or_open(failures: int, now: float, state: int, up: int, openings: int) -> None:
    pair = service("http://a", "http://b")
    for _ in range(failures):
        take(pair).settle(Outcome.FAILURE, 0.0)
    seen = scrape(pair, now=now)
    labels = {"service": "svc", "endpoint": "http://a"}
    assert seen.value("gateway_breaker_state", **labels) == state
    assert seen.value("gateway_upstream_up", **labels) == up
    assert seen.value("gateway_breaker_openings_total", **labels) == openings
    assert seen.value("gateway_breaker_state", service="svc", endpoint="http://b") == 0


def test_an_endpoint_whose_checks_fail_is_not_up() -> None:
    pair = service("http://a", "http://b")
    pair.endpoints[0].checks_pass = False
    seen = scrape(pair)
    assert [seen.value("gateway_upstream_up", service="svc", endpoint=f"http://{name}") for name in "ab"] == [0, 1]


def test_panic_waiting_and_retry_budget_are_read_by_service() -> None:
    panicking = service("http://a", "http://b", name="panicking", max_waiting=9)
    for endpoint in panicking.endpoints:
        panicking.set_health(endpoint, 0.0, up=False)
    for number in range(2):
        panicking.queue.join(lambda number=number: number)  # type: ignore[misc]
    calm = service("http://a", name="calm")
    assert calm.budget.take(0.0)
    seen = scrape(panicking, calm)
    found = {
        name: tuple(seen.value(f"gateway_{what}", service=name) for what in ("panic", "waiting", "retry_budget"))
        for name in ("panicking", "calm")
    }
    assert found == {"panicking": (1, 2, 3), "calm": (0, 0, 2)}


def test_services_come_and_go_between_scrapes() -> None:
    services = {name: service("http://a", name=name) for name in ("one", "two")}
    metrics = metrics_of(services.values())
    for names in (["one", "two"], ["two", "three"]):
        seen = Scrape(text_format(text_of(metrics)[0].decode()))
        assert [labels["service"] for labels in seen.all("gateway_breaker_state")] == names
        assert [labels["service"] for labels in seen.all("gateway_panic")] == names
        del services["one" if "one" in services else "two"]
        services["three"] = service("http://a", name="three")


def test_endpoints_come_and_go_and_what_stays_keeps_its_count() -> None:
    changing = service("http://a", "http://b")
    metrics = metrics_of([changing])
    take(changing, 1).settle(Outcome.SUCCESS, 0.0)
    new = Endpoint("http://c", Breaker(BREAKER, random.Random(1)))
    changing.replace_endpoints([changing.endpoints[1], new], now=0.0)
    seen = Scrape(text_format(text_of(metrics)[0].decode()))
    requests = {
        labels["endpoint"]: seen.value("gateway_upstream_requests_total", **labels)
        for labels in seen.all("gateway_upstream_requests_total")
        if labels["outcome"] == "success"
    }
    assert requests == {"http://b": 1, "http://c": 0}


# ---- the text


@pytest.mark.parametrize("hostile", ['a"b', "a\\b", "a\\nb", "a\nb", 'a",endpoint="b', "a{b}", "é\u2028☃", "a\rb", ""])
@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
def test_label_values_are_escaped(hostile: str, accept: str) -> None:
    durations = counted((b"GET", hostile, 200, 0.1))
    text, _ = text_of(metrics_of([service("http://a", name=hostile)], durations), [accept.encode("latin-1")])
    seen = Scrape((open_metrics if accept else text_format)(text.decode()))
    assert seen.value("gateway_upstream_errors_total", service=hostile, endpoint="http://a") == 0
    assert seen.value(f"{DURATION}_count", method="GET", route=hostile, status_code="200") == 1


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/plain", PLAIN),
        ("text/plain;version=0.0.4", PLAIN),
        ("text/html,application/xhtml+xml,*/*;q=0.8", PLAIN),
        ("application/openmetrics-text", OPEN),
        ("application/openmetrics-text; version=1.0.0", OPEN),
        ("text/html, application/openmetrics-text", OPEN),
        ("application/openmetrics-text;q=0", PLAIN),
        ("application/openmetrics-text;q=0, */*", PLAIN),
        ("application/openmetrics-text;q=0.5, text/plain", PLAIN),
        ("application/openmetrics-text; version=0.0.1, text/plain; q=0.5", PLAIN),
        ("text/plain;q=0, */*", OPEN),
        (SCRAPER, OPEN),
    ],
)
def test_the_format_is_the_one_that_is_asked_for(accept: str, media_type: str) -> None:
    durations = counted((b"GET", ROUTE, 200, 0.1))
    text, said = text_of(metrics_of([service("http://a")], durations), [accept.encode("latin-1")])
    assert said.split("; escaping")[0] == media_type
    assert text.endswith(b"# EOF\n") == (media_type == OPEN)
    parse = open_metrics if media_type == OPEN else text_format
    labels = {"method": "GET", "route": ROUTE, "status_code": "200"}
    assert Scrape(parse(text.decode())).value(f"{DURATION}_count", **labels) == 1


@pytest.mark.parametrize(
    "accept",
    [
        *(
            f"{kind}; version={version}"
            for kind in ("application/openmetrics-text", "text/plain")
            for version in ("", "abc", "1.x", "1.0.0.x", "0.0.1", "-1", "9" * 5000, "\xe9", '"1.0.0"', "99.0.0")
        ),
        "application/openmetrics-text; version=1.0.0; escaping=nonsense",
        "application/openmetrics-text;;;=;version",
        ",;,;q=",
        "\xff" * 100,
    ],
)
def test_whatever_is_asked_for_there_is_an_answer_in_a_format_that_there_is(accept: str) -> None:
    text, said = text_of(metrics_of([service("http://a")]), [accept.encode("latin-1")])
    parse = open_metrics if said.startswith("application/openmetrics-text;") else text_format
    assert Scrape(parse(text.decode())).value("gateway_websocket_connections") == 0
    assert said.removesuffix("; escaping=underscores") in (PLAIN, NEWER_PLAIN, OPEN)


Library = Callable[[Collector], bytes]


@pytest.mark.parametrize(
    ("accept", "parse", "library"),
    [(b"", text_format, generate_latest), (b"application/openmetrics-text", open_metrics, open_metrics_latest)],
)
def test_the_text_is_what_the_library_would_write(
    accept: bytes, parse: Callable[[str], Iterable[Metric]], library: Library
) -> None:
    pair, durations = service("http://a", "http://b", name='a "\\\n b'), Durations()
    take(pair, 1, Kind.WS)
    for number in (*[0] * 7, 1):
        take(pair, number, is_retry=bool(number)).settle(Outcome.FAILURE, 0.0)
    assert pair.budget.take(0.0)
    for seconds in (0.3, 0.1, 1e7):
        durations.add(b"GET", ROUTE, 200, seconds)
    pair.endpoints[1].requests_total = 12_345_678
    pair.endpoints[1].retries_total = 10**6 - 1
    text, _ = text_of(metrics_of([pair, service(name="empty")], durations), [accept])

    class Parsed(Collector):
        def collect(self) -> Iterable[Metric]:
            return parse(text.decode())

    assert library(Parsed()) == text
    assert b" 1.2345677e+07\n" in text


@given(lives, st.integers(1, 4))
def test_processes_together_have_the_series_of_one_process_that_has_had_all_events(
    life: list[tuple[int, Event]], count: int
) -> None:
    apart, together, now = [Process() for _ in range(count)], Process(), 0.0
    for number, event in life:
        now += event.quarters / 4
        for process in (apart[number % count], together):
            process.live(event, now)
    merged = merge(process.state(now) for process in apart)
    series, expected = (
        [line for line in text_of(metrics_with(state))[0].splitlines() if line.startswith(b"gateway_")]  # type: ignore[misc]
        for state in (merged, together.state(now))
    )
    budget = b"gateway_retry_budget"  # which each process has with a floor
    assert sorted(each for each in series if not each.startswith(budget)) == sorted(
        each for each in expected if not each.startswith(budget)
    )


def test_leases_of_an_endpoint_that_departed_in_one_process_are_exported_once() -> None:
    keeps, dismisses = service("http://a", "http://b"), service("http://a", "http://b")
    for each in (keeps, dismisses, dismisses):
        take(each, kind=Kind.SSE)
    dismisses.replace_endpoints(dismisses.endpoints[1:])
    both = merge(collect([each], Durations(), 0.0) for each in (keeps, dismisses))
    seen = Scrape(text_format(text_of(metrics_with(both))[0].decode()))
    assert seen.value("gateway_upstream_inflight", service="svc", endpoint="http://a", kind="sse") == 3


def test_every_metric_of_ours_says_what_it_is() -> None:
    families = [each for name, each in scrape(service("http://a")).families.items() if name.startswith("gateway_")]
    assert families
    assert all(family.documentation.endswith(".") and family.type != "unknown" for family in families)


def test_overload_is_shown() -> None:
    overload, delays = Overload(OverloadConfig(max_in_flight=1), random.Random(1)), LoopDelays()
    overload.take()
    assert overload.sheds(ORDINARY, 0.0)
    delays.add(0.25, 1.0)
    of = service("http://a")
    take(of)
    state = dataclasses.replace(collect([of], Durations(), 0.0), process=ProcessState.of(overload, delays))
    for form, accept in ((text_format, []), (open_metrics, [b"application/openmetrics-text; version=1.0.0"])):
        seen = Scrape(form(text_of(metrics_with(state), accept)[0].decode()))
        shed = {
            labels["class"]: seen.value("gateway_shed_total", **labels) for labels in seen.all("gateway_shed_total")
        }
        assert shed == {name: name == "request" for name in CLASSES}
        assert seen.value("gateway_event_loop_delay_seconds", quantile="0.99") == 0.25
        assert [seen.value("gateway_in_flight", kind=kind) for kind in ("http", "sse", "ws")] == [1, 0, 0]


@pytest.mark.parametrize(
    ("request_id", "trace", "labels"),
    [
        ("abc", "4" * 32, {"request_id": "abc", "trace_id": "4" * 32}),
        ('a"\\b', "", {}),
        ("x" * 78, "4" * 32, {"request_id": "x" * 78, "trace_id": "4" * 32}),
        ("x" * 79, "4" * 32, {"trace_id": "4" * 32}),
        ("x" * 119, "", {}),
    ],
)
def test_a_slow_request_is_the_exemplar_of_its_bucket(request_id: str, trace: str, labels: dict[str, str]) -> None:
    durations = Durations()
    durations.add(b"GET", ROUTE, 200, 0.3, "svc")
    durations.keep("svc", Example(1_800_000_000.5, 0.3, request_id, trace))
    metrics = metrics_of([service("http://a")], durations)
    text, _ = text_of(metrics, [b"application/openmetrics-text"])
    found = {
        sample.labels["le"]: sample.exemplar
        for family in open_metrics(text.decode())
        for sample in family.samples
        if sample.name == "gateway_service_request_duration_seconds_bucket" and sample.exemplar
    }
    assert list(found) == ["0.5"]
    assert (found["0.5"].labels, found["0.5"].value, float(found["0.5"].timestamp)) == (labels, 0.3, 1_800_000_000.5)
    assert b" # {" not in text_of(metrics)[0]


def test_the_process_is_described_too() -> None:
    names = set(scrape().families)
    assert {"process_resident_memory_bytes", "process_cpu_seconds", "python_info", "python_gc_collections"} <= names


# ---- one process, several gateways


def test_nothing_of_ours_is_in_the_registry_of_the_process() -> None:
    text_of(metrics_of([service("http://a")], counted((b"GET", ROUTE, 200, 0.1))))
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("gateway_")]


def test_gateways_in_one_process_do_not_disturb_each_other() -> None:
    pairs = [(service("http://a"), Durations()) for _ in range(3)]
    every = [metrics_of([of], durations) for of, durations in pairs]
    for count, (of, durations) in enumerate(pairs):
        for _ in range(count):
            take(of).settle(Outcome.SUCCESS, 0.0)
            durations.add(b"GET", ROUTE, 200, 0.1)
    for count, metrics in enumerate(every):
        seen = Scrape(text_format(text_of(metrics)[0].decode()))
        labels = {"service": "svc", "endpoint": "http://a", "outcome": "success"}
        assert seen.value("gateway_upstream_requests_total", **labels) == count
        assert sum(seen.value(f"{DURATION}_count", **labels) for labels in seen.all(f"{DURATION}_count")) == count


def test_reading_changes_nothing() -> None:
    pair = service("http://a", "http://b")
    for outcome in (Outcome.SUCCESS, Outcome.FAILURE):
        take(pair).settle(outcome, 0.0)
    metrics = metrics_of([pair], counted((b"GET", ROUTE, 200, 0.1)), 1.0)
    first, *others = (
        [
            line
            for line in text_of(metrics, [accept.encode("latin-1")])[0].decode().splitlines()
            if line.startswith("gateway_")
        ]
        for accept in ("", "", "text/plain", "")
    )
    assert first
    assert all(other == first for other in others)


def test_series_grow_with_endpoints_not_with_requests() -> None:
    single, durations = service("http://a"), Durations()
    metrics = metrics_of([single], durations)
    sizes = set()
    for seconds in (0.001, 0.1, 10.0):
        for _ in range(100):
            take(single).settle(Outcome.SUCCESS, 0.0)
            durations.add(b"GET", ROUTE, 200, seconds)
        sizes.add(len(Scrape(text_format(text_of(metrics)[0].decode())).values))
    assert len(sizes) == 1


# ---- steps


class Effort:
    """Counts calls of functions: a measure of work that no other process changes."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        self.calls += event in ("call", "c_call")

    def of_each(self, steps: Steps[tuple[bytes, str]]) -> list[int]:
        """The calls in each step."""
        found = []
        sys.setprofile(self)
        try:
            while True:
                self.calls = 0
                next(steps)
                found.append(self.calls)
        except StopIteration:
            return [*found, self.calls]
        finally:
            sys.setprofile(None)


def many(services: int, endpoints: int) -> Metrics:
    """The metrics of services with so many endpoints each, all of which have had requests."""
    made, durations = [], Durations()
    for number in range(services):
        of = service(*(f"http://{each}" for each in range(endpoints)), name=f"s{number}")
        made.append(of)
        of.heads.add(0.5)
        for each in range(endpoints):
            lease = take(of, each)
            lease.answered(0.5, 200)
            lease.settle(Outcome.SUCCESS, 1.0)
        for status in (200, 404, 502):
            durations.add(b"GET", ROUTE, status, 0.2, of.name)
            durations.keep(of.name, Example(1.0, status / 1000, "5f0c", ""))
    return metrics_of(made, durations)


@pytest.mark.parametrize(("services", "endpoints", "growth"), [(1, 100, (1, 4)), (100, 1, (4, 1)), (10, 10, (2, 2))])
@pytest.mark.parametrize("is_open", [False, True])
def test_no_step_of_a_scrape_grows_with_the_number_of_services_and_endpoints(
    services: int, endpoints: int, growth: tuple[int, int], is_open: bool
) -> None:
    """The first step is left out, because sums of one instant are read at once: two calls for each service. The last
    step's work is that of prometheus_client, whose families are of the process."""
    few, more = (
        Effort().of_each(many(services * of_services, endpoints * of_endpoints).steps(is_open=is_open))[1:-1]
        for of_services, of_endpoints in ((1, 1), growth)
    )
    assert len(more) > 3 * len(few)
    assert max(more) < 1.25 * max(few)
    assert sum(few) > 10 * max(few)


def test_the_work_of_a_scrape_grows_as_the_number_of_endpoints() -> None:
    few, more = (sum(Effort().of_each(many(1, count).steps(is_open=False))) for count in (100, 400))
    assert more < 4.2 * few
