"""Figures of several processes add up: in any order, and to what one process would show that has seen all requests."""

import dataclasses
import json
import pickle
import random
from collections import Counter
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.figures import NAMES, OF_EACH_PROCESS, URLS, Event, Process, collect, lives, make_service, snapshot
from tests.support.fuzzing import fuzzing
from tornado_gateway.policy.loop_delays import LoopDelays
from tornado_gateway.policy.overload import CLASSES, Overload, OverloadConfig
from tornado_gateway.policy.tickets.ticket import ENDS
from tornado_gateway.policy.upstream.breaker import BreakerConfig
from tornado_gateway.policy.upstream.concurrency import AdaptiveConfig, AdaptiveLimit
from tornado_gateway.policy.upstream.connect_totals import ConnectTotals
from tornado_gateway.policy.upstream.endpoint import Kind, LeaseRequest, Outcome
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.statistics import Minute
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.state import (
    BREAKER_STATES,
    CacheState,
    ConnectState,
    EndpointState,
    HistogramState,
    LimitsState,
    ProcessState,
    ServiceState,
    State,
    StreamState,
    from_plain,
    merge,
    to_plain,
)

EPOCH = 1_800_000_000.0


# ---- any states

counts = st.integers(0, 10**9)
seconds = st.floats(0, 1e9)
by_kind = st.fixed_dictionaries({kind.value: counts for kind in Kind})
sums = st.lists(seconds, max_size=3).map(lambda each: tuple(sorted(each)))


histograms = st.builds(HistogramState, st.tuples(counts, counts), sums)
by_class = st.dictionaries(st.sampled_from(["2xx", "4xx", "5xx"]), counts)
stream_states = st.builds(
    StreamState,
    opened=counts,
    closed=counts,
    messages_up=counts,
    messages_down=counts,
    bytes_up=counts,
    bytes_down=counts,
    waiting=counts,
    lives=histograms,
    firsts=histograms,
    pauses=histograms,
    close_codes=st.dictionaries(st.integers(1000, 4999), counts, max_size=3),
)
minutes = st.builds(
    Minute,
    counts,
    counts,
    st.dictionaries(st.integers(-800, 800), counts, max_size=4),
    st.dictionaries(st.floats(1, 15), counts, max_size=2),
)
endpoint_states = st.builds(
    EndpointState,
    weight=st.integers(0, 256),
    share=st.floats(0.1, 1),
    healthy=st.booleans(),
    usable=st.booleans(),
    check=st.tuples(st.booleans(), st.sampled_from(["", "200", "503", "timeout"])),
    breaker=st.sampled_from(range(len(BREAKER_STATES))),
    openings=counts,
    open_for=st.floats(0, 300),
    ejected=st.booleans(),
    inflight=by_kind,
    outcomes=st.fixed_dictionaries({outcome.value: counts for outcome in Outcome}),
    unanswered=counts,
    retries=counts,
    answers=by_class,
    heads=histograms,
    checks=st.fixed_dictionaries({"passed": counts, "failed": counts}),
    sent=st.fixed_dictionaries({"new": counts, "kept": counts}),
    connections=st.fixed_dictionaries({"active": counts, "idle": counts}),
    latency=st.tuples(seconds, seconds, seconds),
    peak=seconds,
    minute=minutes,
)
service_states = st.builds(
    ServiceState,
    endpoints=st.dictionaries(st.sampled_from(URLS), endpoint_states, max_size=2),
    departing=st.dictionaries(st.sampled_from(URLS), by_kind, max_size=2),
    inflight=by_kind,
    panicking=st.booleans(),
    waiting=counts,
    limit=counts,
    retry_budget=sums,
    hedges_sent=counts,
    hedges_won=counts,
    requests=by_class,
    durations=histograms,
    examples=st.dictionaries(st.integers(0, 13), st.tuples(seconds, seconds, st.text(max_size=3), st.text(max_size=3))),
    heads=histograms,
    event_streams=stream_states,
    websockets=stream_states,
)
states = st.builds(
    State,
    st.dictionaries(st.sampled_from(NAMES), service_states),
    st.dictionaries(st.sampled_from(["GET 200 /api/<service>/*", "POST 404 other"]), histograms),
    st.dictionaries(st.sampled_from(["unauthorized ", "client_gone one"]), counts),
    st.builds(
        ProcessState,
        shed=st.dictionaries(st.sampled_from(CLASSES), counts),
        loop_delay=st.dictionaries(st.sampled_from(["0.5", "0.99"]), seconds),
        connects=st.builds(ConnectState, histograms, histograms, histograms, by_class, counts, counts),
        clients=counts,
        buffered=st.dictionaries(st.sampled_from(["clients", "upstreams"]), counts),
        malloc=counts,
        authenticated=counts,
        tickets=st.dictionaries(st.sampled_from(ENDS), counts),
        spans=st.dictionaries(st.sampled_from(["exported", "dropped"]), counts),
        told=st.dictionaries(st.sampled_from(["applied", "forged"]), counts),
        handshakes=st.dictionaries(st.sampled_from(["full", "resumed"]), counts),
        revocations=counts,
        is_deaf=st.booleans(),
        draining=counts,
        workers=st.dictionaries(st.sampled_from(["wanted", "answering"]), counts),
        crashes=counts,
        build=st.dictionaries(st.just("0.1 3.13.1 uvloop"), counts),
    ),
    st.builds(
        LimitsState,
        limited=st.dictionaries(st.just("refused 100/s"), counts),
        refused=st.dictionaries(st.just("100/s\t192.0.2.7"), counts),
        keys=counts,
        dropped=counts,
        store_errors=counts,
        store_is_away=st.booleans(),
    ),
    st.builds(CacheState, st.dictionaries(st.just("hit billing"), counts), counts, counts, counts, counts),
)


@pytest.mark.untraced
@fuzzing(12)
@given(states, states, states)
def test_merge_is_associative(one: State, two: State, three: State) -> None:
    assert merge([merge([one, two]), three]) == merge([one, merge([two, three])]) == merge([one, two, three])


@pytest.mark.untraced
@fuzzing(15)
@given(states, states)
def test_merge_is_commutative_and_changes_no_state_that_is_merged(one: State, other: State) -> None:
    before = pickle.dumps((one, other))
    assert merge([one, other]) == merge([other, one])
    assert pickle.dumps((one, other)) == before


@fuzzing(20)
@given(states)
def test_a_state_without_figures_is_neutral(state: State) -> None:
    assert merge([State(), state]) == merge([state, State()]) == merge([state]) == state
    assert merge([]) == State()


@fuzzing(20)
@given(states)
def test_a_state_is_the_same_after_json(state: State) -> None:
    plain = to_plain(state)
    assert from_plain(plain) == state
    assert from_plain(json.loads(json.dumps(plain, allow_nan=False))) == state


def test_a_counter_is_a_dictionary_after_json() -> None:
    state = State(limits=LimitsState(refused=Counter({"default\tclient 203.0.113.7": 2})))
    assert from_plain(json.loads(json.dumps(to_plain(state)))) == state


# ---- what cannot be added


def endpoint_state(**changed: Any) -> EndpointState:
    service = make_service("one")
    return dataclasses.replace(collect([service], Durations(), 0.0).services["one"].endpoints[URLS[0]], **changed)


def merged(*each: EndpointState) -> EndpointState:
    whole = collect([make_service("one")], Durations(), 0.0)
    parts = [State({"one": dataclasses.replace(whole.services["one"], endpoints={URLS[0]: one})}) for one in each]
    return merge(parts).services["one"].endpoints[URLS[0]]


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("weight", (0, 3, 2), 3),
        ("share", (1.0, 0.1, 0.5), 0.1),
        ("healthy", (True, False, True), False),
        ("usable", (True, False, True), False),
        ("check", ((False, "200"), (True, "503"), (False, "204")), (True, "503")),
        ("check", ((False, ""), (False, "200"), (False, "")), (False, "200")),
        ("breaker", (0, 2, 1), 2),
        ("open_for", (0.0, 3.5, 1.0), 3.5),
        ("openings", (1, 2, 3), 6),
        ("ejected", (False, True, False), True),
        ("latency", ((5.0, 0.1, 0.2), (9.0, 0.3, 0.05), (0.0, 4.0, 4.0)), (9.0, 0.3, 0.05)),
        ("peak", (0.1, 0.4, 0.2), 0.4),
    ],
)
def test_the_worst_the_newest_or_the_sum_is_shown_of_an_endpoint(field: str, values: Any, expected: Any) -> None:
    assert getattr(merged(*(endpoint_state(**{field: value}) for value in values)), field) == expected


def test_an_endpoint_that_is_open_in_one_process_is_shown_as_open_with_the_longest_countdown() -> None:
    processes = [make_service("one", BreakerConfig(failures=1, jitter=0.0)) for _ in range(3)]
    for process, now in zip(processes, (0.0, 4.0), strict=False):
        Lease(process, process.endpoints[0], LeaseRequest(now), is_retry=False).settle(Outcome.FAILURE, now)
    together = snapshot(merge(collect([each], Durations(), 5.0) for each in processes), EPOCH)["services"]["one"]
    shown = together["upstreamDetails"][0]
    assert shown["breaker"] == {"state": "open", "openForMs": 14_000, "opened": 2, "ejected": True}
    assert (shown["healthy"], shown["usable"], together["healthy"], together["ejected"]) == (False, False, 2, 1)


def test_what_each_process_allows_is_allowed_by_all_together() -> None:
    def process(limit: int) -> State:
        allowed = AdaptiveLimit(AdaptiveConfig(least=limit), random.Random(1)) if limit else None
        return collect([make_service("one", limit=allowed)], Durations(), 0.0)

    shown = snapshot(merge([process(3), process(4)]), EPOCH)["services"]["one"]
    assert (shown["concurrencyLimit"], shown["retryBudget"]) == (7, 6.0)
    assert snapshot(merge([process(0), process(0)]), EPOCH)["services"]["one"]["concurrencyLimit"] is None


def test_a_service_panics_if_it_panics_in_one_process() -> None:
    processes = [make_service("one", max_ejected=1.0, panic_below=1.0) for _ in range(2)]
    processes[1].set_health(processes[1].endpoints[0], 0.0, up=False)
    shown = [
        snapshot(merge(collect([each], Durations(), 0.0) for each in some), EPOCH)
        for some in (processes, processes[:1])
    ]
    assert [each["services"]["one"]["panic"] for each in shown] == [True, False]


def test_endpoints_that_only_one_process_knows_are_shown_as_well() -> None:
    one, other = make_service("one"), make_service("one")
    leases = [Lease(each, each.endpoints[0], LeaseRequest(0.0, Kind.WS), is_retry=False) for each in (one, one, other)]
    one.replace_endpoints(one.endpoints[1:])
    shown = snapshot(merge(collect([each], Durations(), 0.0) for each in (one, other)), EPOCH)
    service = shown["services"]["one"]
    assert sorted(each["url"] for each in service["upstreamDetails"]) == sorted(URLS)
    assert service["departing"] == [{"url": URLS[0], "inflight": {"http": 0, "sse": 0, "ws": 2}}]
    assert shown["connections"]["ws"] == len(leases)


def test_departing_endpoints_with_the_same_url_are_added_up() -> None:
    service = make_service("one")
    for _ in range(2):
        Lease(service, service.endpoints[0], LeaseRequest(0.0), is_retry=False)
        service.replace_endpoints([*make_service("one").endpoints])
    assert collect([service], Durations(), 0.0).services["one"].departing == {URLS[0]: {"http": 2, "sse": 0, "ws": 0}}


# ---- all events together


@given(lives, st.integers(0, 400), st.integers(1, 4))
def test_processes_together_show_what_one_process_shows_that_has_had_all_events(
    life: list[tuple[int, Event]], silence: int, count: int
) -> None:
    apart, together = [Process() for _ in range(count)], Process()
    now = 0.0
    for number, event in life:
        now += event.quarters / 4
        apart[number % count].live(event, now)
        together.live(event, now)
    now += silence / 4
    merged = snapshot(merge(each.state(now) for each in apart), EPOCH)
    assert without(OF_EACH_PROCESS, merged) == without(OF_EACH_PROCESS, snapshot(together.state(now), EPOCH))


def without(keys: Collection[str], seen: Any) -> Any:
    """JSON without these keys."""
    if isinstance(seen, dict):
        return {key: without(keys, value) for key, value in seen.items() if key not in keys}
    return [without(keys, each) for each in seen] if isinstance(seen, list) else seen


def test_the_figures_of_connections_and_of_the_process_are_copies() -> None:
    totals, delays, overload = ConnectTotals(), LoopDelays(), Overload(OverloadConfig(), random.Random(1))
    totals.look_ups.add(0.5)
    totals.failures["connect_failed"] += 1
    delays.add(0.25, 1.0)
    connects, process = ConnectState.of(totals, waiting=2), ProcessState.of(overload, delays)
    totals.look_ups.add(0.5)
    totals.failures.clear()
    assert (sum(connects.look_ups.counts), connects.failures, connects.waiting) == (1, {"connect_failed": 1}, 2)
    assert set(process.loop_delay.values()) == {0.25} and process.shed == dict(overload.shed)
