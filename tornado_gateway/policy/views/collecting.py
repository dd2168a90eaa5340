"""The figures of this process, collected from services, streams and durations; collecting changes nothing.

While a State is collected in steps, requests go on. The figures of an endpoint are of one instant, and so are the
figures of a service without the endpoints; two endpoints may be some milliseconds apart. No counter is ever less than
in an earlier State. When nothing goes on, all figures agree.
"""

import functools
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from tornado_gateway.policy.histogram import Histogram
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.policy.upstream.endpoint import Endpoint, InFlight, Kind, Outcome
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.statistics import Minute
from tornado_gateway.policy.upstream.stream_totals import Carried, StreamTotals
from tornado_gateway.policy.views.durations import Durations, Key
from tornado_gateway.policy.views.state import (
    BREAKER_STATES,
    EndpointState,
    HistogramState,
    ServiceState,
    State,
    StreamState,
    merge_of,
)
from tornado_gateway.policy.views.steps import Steps

_HTTP, _SSE, _WS = (kind.value for kind in Kind)
_OUTCOMES = {outcome: outcome.value for outcome in Outcome}  # value takes 100 ns
_CLASSES = tuple(f"{digit}xx" for digit in range(10))
_NO_MINUTE = Minute()
OF_A_STEP = 16  # histograms, or examples: some 40 microseconds


class Carrier(Protocol):
    """An open stream; see Stream in upkeep/streams.py."""

    totals: StreamTotals

    @property
    def carried(self) -> Carried: ...


def _no_connections(_: Origin) -> tuple[int, int]:
    return 0, 0


class Sources(NamedTuple):
    """What the figures are read from.

    Attributes:
        services: of services with the same name, the first is present, and the others are retired.
        streams: the open streams.
        connections: gives the number of connections to an origin that carry a request, and that are idle.
    """

    services: Iterable[Service]
    durations: Durations
    streams: Iterable[Carrier] = ()
    connections: Callable[[Origin], tuple[int, int]] = _no_connections


class _Look(NamedTuple):
    """What all services share while they are read.

    Attributes:
        now: seconds on the clock of the services.
        with_minute: whether to read the last minute of endpoints.
        connections: see Sources.
        carried: what streams have carried, by totals.
        requests, durations, examples: of each service; see ServiceState.
    """

    now: float
    with_minute: bool
    connections: Callable[[Origin], tuple[int, int]]
    carried: Mapping[int, Sequence[int]]
    requests: Mapping[str, dict[str, int]]
    durations: Mapping[str, "_Sum"]
    examples: Mapping[str, dict[int, tuple[float, float, str, str]]]


def collect(sources: Sources, now: float, *, with_minute: bool = True) -> Steps[State]:
    """Collect the figures of this process.

    Args:
        now: seconds on the clock of the services.
        with_minute: whether to read the last minute of endpoints, which takes more than half of the time.
    """
    services, durations = list(sources.services), sources.durations
    # The sums of ended streams and the list of open streams are of one instant. A stream that ends later has its last
    # figures still, so no stream is counted twice or not at all.
    carried, streams = _carried_by_ended(services), list(sources.streams)
    for stream in streams:
        _add_carried(carried[id(stream.totals)], stream.carried)
        yield
    state = State(reasons={f"{reason} {service}": count for (service, reason), count in durations.reasons.items()})
    yield
    requests: dict[str, dict[str, int]] = defaultdict(dict)
    in_all: dict[tuple[str, str, str], _Sum] = defaultdict(_Sum)
    of_services: dict[str, _Sum] = defaultdict(_Sum)
    for number, (key, histogram) in enumerate(durations):
        _add_durations(in_all, requests, of_services, key, histogram)
        if number % OF_A_STEP == 0:
            yield
    state.durations = {" ".join(names): total.state for names, total in in_all.items()}
    examples: dict[str, dict[int, tuple[float, float, str, str]]] = defaultdict(dict)
    for number, ((name, bucket), example) in enumerate(list(durations.examples.items())):
        examples[name][bucket] = (example.at, example.seconds, example.request_id, example.trace_id)
        if number % OF_A_STEP == 0:
            yield
    look = _Look(now, with_minute, sources.connections, carried, requests, of_services, examples)
    for service in services:
        found = yield from _of_service(service, look)
        if service.name in state.services:
            found = merge_of(ServiceState)(state.services[service.name], _of_remains(service, found))
        state.services[service.name] = found
    return state


def _carried_by_ended(services: Iterable[Service]) -> dict[int, list[int]]:
    """Messages and bytes of the ended streams, and a 0 for the bytes that wait, in the order of Carried."""
    carried: dict[int, list[int]] = defaultdict(lambda: [0] * len(Carried._fields))
    for service in services:
        for totals in (service.event_stream_totals, service.websocket_totals):
            if not totals.opened:
                continue
            of_ended = [totals.messages_up, totals.messages_down, totals.bytes_up, totals.bytes_down, 0]
            carried[id(totals)] = of_ended
    return carried


def _add_carried(sums: list[int], carried: Carried) -> None:
    for number, value in enumerate(carried):
        sums[number] += value


class _Sum:
    """The sum of histograms with the bounds SECONDS."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts, self.seconds = list[int](), 0.0

    def add(self, histogram: Histogram) -> None:
        counts = histogram.counts
        self.counts = list(map(operator.add, self.counts, counts)) if self.counts else counts.copy()
        self.seconds += histogram.total

    @property
    def state(self) -> HistogramState:
        return HistogramState(tuple(self.counts), (self.seconds,))


def _add_durations(
    in_all: dict[tuple[str, str, str], _Sum],
    requests: dict[str, dict[str, int]],
    of_services: dict[str, _Sum],
    key: Key,
    histogram: Histogram,
) -> None:
    """Add a histogram to the sums by method, status and route, and to the figures of the service."""
    method, route, status, service, is_stream = key
    in_all[method, status, route].add(histogram)
    if service:
        by_class, status_class = requests[service], _CLASSES[int(status[0])]
        by_class[status_class] = by_class.get(status_class, 0) + histogram.count
        if not is_stream:
            of_services[service].add(histogram)


def _of_remains(service: Service, state: ServiceState) -> ServiceState:
    """The state of a retired service whose name is in use again: endpoints that have left, and totals.

    Requests and durations are known by name alone, and counted with the present service.
    """
    leaving = [each for each in (*service.endpoints, *service.endpoint_set.departing) if each.load]
    return replace(
        state, endpoints={}, departing=_of_departing(leaving), panicking=False, limit=0, retry_budget=(), requests={},
        durations=HistogramState.empty(), examples={},
    )  # fmt: skip


def _of_service(service: Service, look: _Look) -> Steps[ServiceState]:
    slow_start, endpoints = service.config.slow_start, {}
    for each in service.endpoints:
        endpoints[each.url] = _of_endpoint(each, slow_start, look)
        yield
    sse, ws = service.event_stream_totals, service.websocket_totals
    found = ServiceState(
        endpoints=endpoints,
        departing=_of_departing(service.endpoint_set.departing),
        inflight=_in_flight(service),
        panicking=service.endpoint_set.is_panicking,
        waiting=service.waiting,
        limit=service.outcomes.limit.limit if service.outcomes.limit else 0,
        retry_budget=(service.budget.balance(look.now),),
        hedges_sent=service.outcomes.hedging.sent,
        hedges_won=service.outcomes.hedging.won,
        requests=dict(look.requests.get(service.name, {})),
        durations=look.durations[service.name].state if service.name in look.durations else HistogramState.empty(),
        examples=look.examples.get(service.name, {}),
        heads=HistogramState.of(service.heads),
        event_streams=_of_streams(sse, look.carried[id(sse)]) if sse.opened else StreamState.empty(),
        websockets=_of_streams(ws, look.carried[id(ws)]) if ws.opened else StreamState.empty(),
    )
    yield
    return found


def _of_endpoint(endpoint: Endpoint, slow_start: float, look: _Look) -> EndpointState:
    breaker, latency, now = endpoint.breaker, endpoint.latency, look.now
    active, idle = look.connections(endpoint.origin)
    return EndpointState(
        weight=endpoint.weight,
        share=endpoint.share(now, slow_start),
        healthy=endpoint.healthy,
        usable=endpoint.is_admitted,
        check=(not endpoint.checks_pass, endpoint.last_check),
        failure=endpoint.last_failure,
        breaker=BREAKER_STATES.index(breaker.state(now)),
        openings=breaker.opened,
        open_for=max(0.0, breaker.open_until - now) if breaker.is_open else 0.0,
        ejected=endpoint.is_ejected,
        inflight=_in_flight(endpoint),
        outcomes={_OUTCOMES[outcome]: count for outcome, count in endpoint.outcomes.items()},
        unanswered=endpoint.unanswered_total,
        retries=endpoint.retries_total,
        answers={name: count for name, count in zip(_CLASSES, endpoint.answers, strict=True) if count},
        heads=HistogramState.of(endpoint.heads),
        checks={"passed": endpoint.checks_passed, "failed": endpoint.checks_failed},
        sent={"new": endpoint.dialled, "kept": endpoint.reused},
        connections={"active": active, "idle": idle},
        latency=(max(0.0, latency.seen_at), latency.average, latency.last),
        peak=latency.peak(now),
        minute=endpoint.window.minute(now) if look.with_minute else _NO_MINUTE,
    )


def _of_departing(endpoints: Sequence[Endpoint]) -> dict[str, dict[str, int]]:
    """An endpoint that left, came back as another object and left again has one URL."""
    if not endpoints:  # nearly always; a reduction of nothing takes a tenth of the time of a service
        return {}
    each_alone = ({each.url: _in_flight(each)} for each in endpoints)
    return functools.reduce(merge_of(dict[str, dict[str, int]]), each_alone, {})


def _in_flight(held: InFlight) -> dict[str, int]:
    return {_HTTP: held.requests, _SSE: held.event_streams, _WS: held.websockets}


def _of_streams(totals: StreamTotals, carried: Sequence[int]) -> StreamState:
    messages_up, messages_down, bytes_up, bytes_down, waiting = carried
    return StreamState(
        totals.opened,
        totals.closed,
        messages_up,
        messages_down,
        bytes_up,
        bytes_down,
        waiting,
        HistogramState.of(totals.lives),
        HistogramState.of(totals.firsts),
        HistogramState.of(totals.pauses),
        dict(totals.close_codes),
    )
