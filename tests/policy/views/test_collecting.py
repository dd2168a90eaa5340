"""What is collected of a process: all figures, also while requests go on, and nothing is changed by looking."""

import dataclasses
import pickle
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from tests.support.figures import NAMES, URLS, Event, Process, collect, lives, make_service, snapshot, whole
from tests.support.services import lease_on, service
from tornado_gateway.policy.upstream.endpoint import Kind, LeaseRequest, Outcome
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.statistics import Minute
from tornado_gateway.policy.upstream.stream_totals import Carried, StreamTotals
from tornado_gateway.policy.views import collecting
from tornado_gateway.policy.views.collecting import Sources
from tornado_gateway.policy.views.durations import Durations, Example
from tornado_gateway.policy.views.state import State
from tornado_gateway.policy.views.steps import Steps

EPOCH = 1_800_000_000.0

# ---- looking changes nothing


@given(lives, st.booleans())
def test_collecting_changes_nothing_and_gives_the_same_again(life: list[tuple[int, Event]], with_minute: bool) -> None:
    process, now = Process(), 0.0
    for _, event in life:
        now += event.quarters / 4
        process.live(event, now)
    before = pickle.dumps((process.services, process.durations))
    states = [collect(process.services, process.durations, now, with_minute=with_minute) for _ in range(2)]
    assert states[0] == states[1]
    assert pickle.dumps((process.services, process.durations)) == before
    shown = [snapshot(each, EPOCH) for each in (states[0], states[0])]
    assert shown[0] == shown[1]
    assert states[0] == states[1]


@given(lives)
def test_a_state_stays_as_it_was_whatever_happens_later(life: list[tuple[int, Event]]) -> None:
    process, now = Process(), 0.0
    state = process.state(now)
    before = pickle.dumps(state)
    for _, event in life:
        now += event.quarters / 4
        process.live(event, now)
    assert pickle.dumps(state) == before


def test_a_service_has_its_slow_requests_by_bucket() -> None:
    durations = Durations()
    durations.keep("svc", Example(7.0, 0.4, "r1", "t1"))
    durations.keep("other", Example(8.0, 0.4, "r2", "t2"))
    assert collect([service(1)], durations, 9.0).services["svc"].examples == {8: (7.0, 0.4, "r1", "t1")}


def test_a_retired_service_whose_name_is_in_use_again_is_shown_as_endpoints_that_have_left() -> None:
    present, retired = service(1), service(1, 1)
    leases = [lease_on(each, each.endpoints[0], kind=Kind.WS) for each in (present, retired)]
    for each in (present, retired):
        each.websocket_totals.opened += 1
        each.outcomes.hedging.sent += 2
    both = collect([present, retired], Durations(), 1.0).services["svc"]
    alone = collect([present], Durations(), 1.0).services["svc"]
    held = {"http": 0, "sse": 0, "ws": 1}
    assert both == dataclasses.replace(
        alone,
        departing={"http://host0": held},
        inflight={"http": 0, "sse": 0, "ws": 2},
        hedges_sent=4,
        websockets=dataclasses.replace(alone.websockets, opened=2),
    )
    for lease in leases:
        lease.settle(Outcome.SUCCESS, 1.0)


def test_services_may_come_from_anything_that_gives_them_once() -> None:
    services = [make_service(name) for name in NAMES]
    assert collect(iter(services), Durations(), 0.0) == collect(services, Durations(), 0.0)
    assert list(collect(iter(services), Durations(), 0.0).services) == [*NAMES]


def test_without_the_minute_all_else_is_collected() -> None:
    process = Process()
    process.live(Event(0, "one", 0, Kind.HTTP, Outcome.FAILURE, 503, 1024, is_retry=False), 1.0)
    whole = process.state(1.0)
    assert whole.services["one"].endpoints[URLS[0]].minute.requests == 1
    for each in whole.services.values():
        for endpoint in each.endpoints.values():
            endpoint.minute = Minute()
    assert collect(process.services, process.durations, 1.0, with_minute=False) == whole


# ---- requests, streams and connections


@dataclass
class Open:
    """An open stream."""

    totals: StreamTotals
    carried: Carried


def test_a_service_has_the_classes_and_durations_of_its_requests_and_streams_apart() -> None:
    one, durations = make_service("one"), Durations()
    for status, seconds, is_stream in ((200, 0.002, False), (204, 0.3, False), (404, 0.002, False), (200, 0.1, True)):
        durations.add(b"GET", "/api/<service>/*", status, seconds, "one", is_stream)
    durations.add(b"GET", "/api/<service>/*", 401, 0.001)  # refused before admission
    state = collect([one], durations, 0.0)
    assert state.services["one"].requests == {"2xx": 3, "4xx": 1}
    assert (state.services["one"].durations.count, sum(state.services["one"].durations.seconds)) == (3, 0.304)
    assert {key: each.count for key, each in state.durations.items()} == {
        "GET 200 /api/<service>/*": 2,
        "GET 204 /api/<service>/*": 1,
        "GET 404 /api/<service>/*": 1,
        "GET 401 /api/<service>/*": 1,
    }


def test_reasons_are_told_with_the_service() -> None:
    durations = Durations()
    durations.reasons["", "unauthorized"] += 2
    durations.reasons["one", "client_gone"] += 1
    assert collect([], durations, 0.0).reasons == {"unauthorized ": 2, "client_gone one": 1}


def test_answers_are_told_by_class_and_seconds_to_the_head_are_a_histogram() -> None:
    one = make_service("one")
    for status in (200, 204, 404, 503):
        lease = Lease(one, one.endpoints[0], LeaseRequest(1.0), is_retry=False)
        lease.answered(1.25, status)
        lease.settle(Outcome.SUCCESS, 1.5)
    found = collect([one], Durations(), 2.0).services["one"].endpoints[URLS[0]]
    assert found.answers == {"2xx": 2, "4xx": 1, "5xx": 1}
    assert (found.heads.count, found.heads.seconds) == (4, (1.0,))


def test_connections_are_asked_for_by_the_origin_of_each_endpoint() -> None:
    one = make_service("one")
    held = {endpoint.origin: (number, number + 1) for number, endpoint in enumerate(one.endpoints)}
    state = whole(collecting.collect(Sources([one], Durations(), (), held.__getitem__), 0.0))
    found = [each.connections for each in state.services["one"].endpoints.values()]
    assert found == [{"active": number, "idle": number + 1} for number in range(len(URLS))]


def test_messages_and_bytes_of_open_streams_count_too() -> None:
    one = make_service("one")
    one.websocket_totals.opened, one.event_stream_totals.opened = 2, 1
    one.websocket_totals.add(Carried(1, 2, 3, 4, 0), 5.0, 1000)
    streams = [
        Open(one.websocket_totals, Carried(10, 20, 30, 40, 50)),
        Open(one.event_stream_totals, Carried(0, 7, 0, 8, 9)),
    ]
    of = whole(collecting.collect(Sources([one], Durations(), streams), 0.0)).services["one"]
    ws, sse = of.websockets, of.event_streams
    assert (ws.messages_up, ws.messages_down, ws.bytes_up, ws.bytes_down, ws.waiting) == (11, 22, 33, 44, 50)
    assert (sse.messages_up, sse.messages_down, sse.bytes_up, sse.bytes_down, sse.waiting) == (0, 7, 0, 8, 9)


def test_a_stream_of_a_service_that_is_gone_disturbs_nothing() -> None:
    one, gone = make_service("one"), make_service("gone")
    streams = [Open(gone.websocket_totals, Carried(1, 1, 1, 1, 1))]
    assert list(whole(collecting.collect(Sources([one], Durations(), streams), 0.0)).services) == ["one"]


# ---- while requests go on


def messages(state: State) -> int:
    return state.services["one"].websockets.messages_up


@given(st.integers(0, 12), st.integers(0, 3))
def test_no_counter_goes_down_whenever_a_stream_ends(at: int, index: int) -> None:
    """A stream that ends while a State is collected is neither lost nor counted twice."""
    one = make_service("one")
    streams = [Open(one.websocket_totals, Carried(5, 0, 0, 0, 0)) for _ in range(4)]
    one.websocket_totals.opened = len(streams)
    leaving = list(streams)

    def end(steps: Steps[State]) -> Steps[State]:
        for number in range(1000):
            if number == at:
                leaving.remove(streams[index])
                one.websocket_totals.add(streams[index].carried, 1.0, 1000)
            try:
                next(steps)
            except StopIteration as stop:
                result: State = stop.value
                return result
            yield
        raise AssertionError("the steps do not end")

    during = whole(end(collecting.collect(Sources([one], Durations(), leaving), 0.0)))
    after = whole(collecting.collect(Sources([one], Durations(), leaving), 1.0))
    assert messages(during) == messages(after) == 20


def test_services_endpoints_and_series_may_come_and_go_between_two_steps() -> None:
    services = {name: make_service(name) for name in NAMES}
    durations = Durations()
    durations.add(b"GET", "/a", 200, 0.1, "one")
    steps = collecting.collect(Sources(services.values(), durations), 0.0)
    next(steps)
    services["new"] = make_service("new")
    del services["two"]
    durations.add(b"GET", "/b", 200, 0.1, "one")
    services["one"].replace_endpoints(services["one"].endpoints[1:])
    assert list(whole(steps).services) == [*NAMES]


def test_an_endpoint_is_a_step() -> None:
    """So that a thousand endpoints are no reason to stop the event loop for long."""
    count = sum(1 for _ in collecting.collect(Sources([make_service("one")], Durations()), 0.0))
    assert count > len(URLS)
