"""What stays of the figures of a process that has ended: what it has counted, and nothing of what it had.

A sum over processes never goes back when one of the processes ends, because its counters are still added. Its gauges
(requests in flight, open connections, the state of a breaker) have ended with the process.

The kept figures name services and endpoints that may have gone meanwhile: `of_present()` leaves these out, as a process
that lives does.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tornado_gateway.policy.upstream.statistics import Minute
from tornado_gateway.policy.views.state import (
    CacheState,
    EndpointState,
    LimitsState,
    ProcessState,
    ServiceState,
    State,
    StreamState,
)


def kept(state: State) -> State:
    """The counters of a State."""
    return State(
        services={name: _service(each) for name, each in state.services.items()},
        durations=state.durations,
        reasons=state.reasons,
        process=_process(state.process),
        limits=LimitsState(state.limits.limited, {}, 0, state.limits.dropped, state.limits.store_errors),
        cache=CacheState(state.cache.results, evictions=state.cache.evictions),
    )


def caught_up(newer: State, fuller: State) -> State:
    """A State that was collected without asking each stream, with what streams had carried at an earlier look."""
    services = {
        name: replace(
            each,
            event_streams=_most(each.event_streams, fuller.services[name].event_streams),
            websockets=_most(each.websockets, fuller.services[name].websockets),
        )
        for name, each in _among(newer.services, fuller.services).items()
    }
    return replace(newer, services=newer.services | services)


def _most(newer: StreamState, fuller: StreamState) -> StreamState:
    return replace(
        newer,
        messages_up=max(newer.messages_up, fuller.messages_up),
        messages_down=max(newer.messages_down, fuller.messages_down),
        bytes_up=max(newer.bytes_up, fuller.bytes_up),
        bytes_down=max(newer.bytes_down, fuller.bytes_down),
    )


def of_present(state: State, present: State) -> State:
    """A State without the services and endpoints that another State does not have."""
    services = {
        name: replace(each, endpoints=_among(each.endpoints, present.services[name].endpoints))
        for name, each in _among(state.services, present.services).items()
    }
    return replace(state, services=services)


def _among(some: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in some.items() if name in others}


def _none(counts: Mapping[str, int]) -> dict[str, int]:
    return dict.fromkeys(counts, 0)


def _service(state: ServiceState) -> ServiceState:
    return replace(
        state,
        endpoints={url: _endpoint(each) for url, each in state.endpoints.items()},
        departing={},
        inflight=_none(state.inflight),
        panicking=False,
        waiting=0,
        limit=0,
        retry_budget=(),
        event_streams=_streams(state.event_streams),
        websockets=_streams(state.websockets),
    )


def _endpoint(state: EndpointState) -> EndpointState:
    """An endpoint of which nothing is known but counts: up, in no worse state than in any other process."""
    return replace(
        state,
        weight=0,
        share=1.0,
        healthy=True,
        usable=True,
        check=(False, ""),
        failure="",
        breaker=0,
        open_for=0.0,
        ejected=False,
        inflight=_none(state.inflight),
        connections=_none(state.connections),
        latency=(0.0, 0.0, 0.0),
        peak=0.0,
        minute=Minute.of(()),
    )


def _streams(state: StreamState) -> StreamState:
    """All streams have ended with the process."""
    return replace(state, closed=state.opened, waiting=0)


def _process(state: ProcessState) -> ProcessState:
    return ProcessState(
        shed=state.shed,
        connects=replace(state.connects, waiting=0),
        handshakes=state.handshakes,
        authenticated=state.authenticated,
        tickets=state.tickets,
        spans=state.spans,
        told=state.told,
    )
