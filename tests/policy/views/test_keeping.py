"""The figures of a process that has ended: counters stay, gauges go."""

from dataclasses import replace

from hypothesis import given

from tests.policy.views.test_state import states
from tornado_gateway.policy.views.keeping import caught_up, kept, of_present
from tornado_gateway.policy.views.state import EndpointState, ServiceState, State, StreamState, merge

COUNTED = ("openings", "outcomes", "unanswered", "retries", "answers", "checks", "sent")


def endpoints(state: State) -> dict[tuple[str, str], EndpointState]:
    return {(name, url): each for name, of in state.services.items() for url, each in of.endpoints.items()}


@given(states)
def test_what_a_process_has_counted_stays(state: State) -> None:
    after = kept(state)
    assert (after.durations, after.reasons, after.process.shed) == (state.durations, state.reasons, state.process.shed)
    assert after.limits.limited == state.limits.limited and after.cache.results == state.cache.results
    assert after.process.handshakes == state.process.handshakes
    for place, before in endpoints(state).items():
        assert [getattr(endpoints(after)[place], name) for name in COUNTED] == [
            getattr(before, name) for name in COUNTED
        ]
    assert kept(after) == after


@given(states, states)
def test_what_a_process_had_is_gone_with_the_process(dead: State, living: State) -> None:
    both = merge([living, of_present(kept(dead), living)])
    assert endpoints(both).keys() == endpoints(living).keys() and both.services.keys() == living.services.keys()
    assert (both.process.clients, both.process.build) == (living.process.clients, living.process.build)
    for place, each in endpoints(both).items():
        before = endpoints(living)[place]
        assert (each.weight, each.share, each.usable, each.breaker, each.check) == (
            before.weight, before.share, before.usable, before.breaker, before.check,
        )  # fmt: skip
        assert (each.inflight, each.connections) == (before.inflight, before.connections)
    for name, service in both.services.items():
        assert open_streams(service) == open_streams(living.services[name])


def open_streams(service: ServiceState) -> int:
    return sum(each.opened - each.closed for each in (service.event_streams, service.websockets))


@given(states)
def test_what_streams_had_carried_is_not_forgotten_by_a_look_that_asks_no_stream(full: State) -> None:
    look = replace(full, services={name: replace(each, event_streams=without(each.event_streams))
                                   for name, each in full.services.items()})  # fmt: skip
    assert caught_up(look, full) == full
    assert caught_up(look, State()) == look


def without(streams: StreamState) -> StreamState:
    return replace(streams, messages_up=0, messages_down=0, bytes_up=0, bytes_down=0)
