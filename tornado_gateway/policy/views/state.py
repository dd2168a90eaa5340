"""The figures of a process at one instant: plain data that adds up with the figures of other processes.

    collect(services, durations, now)   the State of this process; changes nothing
    merge(states)                       the State of several processes; associative and commutative, State() is neutral
    to_plain(state), from_plain(plain)  a State as JSON can carry a State, and back

snapshot.py renders a State as JSON, adapters/prometheus.py renders a State for Prometheus.

Numbers are added, dictionaries are merged by their keys. The type of any other field names its merge. Of states that
cannot be added, the worst is shown, because an operator looks for trouble: an endpoint whose breaker is open in one
process of four is shown as open. Of latencies, the newest is shown: processes of one machine share a monotonic clock.

Services and endpoints stand in the order of the first State that has them.
"""

import functools
import operator
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from tornado_gateway.policy.loop_delays import LoopDelays
from tornado_gateway.policy.overload import Overload
from tornado_gateway.policy.upstream.breaker import State as BreakerState
from tornado_gateway.policy.upstream.endpoint import Endpoint, InFlight
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.statistics import Minute
from tornado_gateway.policy.upstream.websocket_totals import WebSocketTotals
from tornado_gateway.policy.views.durations import Durations, Histogram

T = TypeVar("T")
Merge = Callable[[Any, Any], Any]

QUANTILES = (0.5, 0.99)  # of the event loop's delay
BREAKER_STATES = (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN)  # from best to worst


def _side_by_side(one: tuple[float, ...], other: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sorted(one + other))


def _each_with_each(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(operator.add, one, other))


Most = Annotated[T, max]
Least = Annotated[T, min]
InAny = Annotated[bool, operator.or_]
InAll = Annotated[bool, operator.and_]
# The sums of the processes, sorted and not yet added: the order of additions changes the last digit of a float. To
# render the total, math.fsum() rounds once.
Sums = Annotated[tuple[float, ...], _side_by_side]
Buckets = Annotated[tuple[int, ...], _each_with_each]


@dataclass(slots=True)
class EndpointState:
    """The figures of an endpoint.

    Attributes:
        weight: the highest: an endpoint has new requests as long as one process sends new requests.
        share: of the normal traffic during slow start, the least: slow starts may begin at different instants.
        healthy, usable: Endpoint.healthy and Endpoint.is_admitted, in all processes.
        check: whether health checks fail, and the newest check in words. A failure hides a success.
        breaker: index in BREAKER_STATES, the worst.
        openings: how often breakers opened.
        open_for: seconds until all open breakers are HALF_OPEN; 0 if no breaker is OPEN.
        ejected: whether any process has ejected the endpoint.
        inflight: leases that have not ended, by kind.
        outcomes: leases that ended, by outcome.
        unanswered: failures without an answer.
        retries: leases that repeated a request.
        latency: of the process with the newest answer: instant of the answer (0 if long ago), average and newest sample
            in seconds.
        peak: peak EWMA in seconds, the highest.
        minute: counts of the last minute; empty if collected without the minute.
    """

    weight: Most[int]
    share: Least[float]
    healthy: InAll
    usable: InAll
    check: Most[tuple[bool, str]]
    breaker: Most[int]
    openings: int
    open_for: Most[float]
    ejected: InAny
    inflight: dict[str, int]
    outcomes: dict[str, int]
    unanswered: int
    retries: int
    latency: Most[tuple[float, float, float]]
    peak: Most[float]
    minute: Annotated[Minute, lambda one, other: Minute.of((one, other))]


@dataclass(slots=True)
class WebSocketState:
    """As WebSocketTotals."""

    opened: int
    closed: int
    messages_up: int
    messages_down: int
    bytes_up: int
    bytes_down: int
    seconds: Sums
    close_codes: dict[int, int]


@dataclass(slots=True)
class ServiceState:
    """The figures of a service.

    Attributes:
        endpoints: by URL.
        departing: what endpoints that left the service still have in flight, by URL and kind.
        inflight: leases that have not ended, by kind.
        panicking: whether any process panics.
        waiting: requests that wait for an endpoint.
        limit: requests that may be in flight, the limits of all processes together; 0 without limits.
        retry_budget: retries that may be sent now, for each process.
        hedges_sent, hedges_won: hedged requests, and hedged requests that the second endpoint answered first.
    """

    endpoints: dict[str, EndpointState]
    departing: dict[str, dict[str, int]]
    inflight: dict[str, int]
    panicking: InAny
    waiting: int
    limit: int
    retry_budget: Sums
    hedges_sent: int
    hedges_won: int
    websockets: WebSocketState


@dataclass(slots=True)
class HistogramState:
    """As Histogram."""

    counts: Buckets
    seconds: Sums


@dataclass(slots=True)
class ProcessState:
    """The figures of the process itself.

    Attributes:
        shed: requests that were shed, by class.
        loop_delay: the event loop's delay of the last seconds in seconds, by quantile; the worst process's.
    """

    shed: dict[str, int] = field(default_factory=dict)
    loop_delay: dict[str, Most[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, overload: Overload, delays: LoopDelays) -> "ProcessState":
        """The figures of this process."""
        return cls(dict(overload.shed), dict(zip(map(str, QUANTILES), delays.quantiles(*QUANTILES), strict=True)))


@dataclass(slots=True)
class LimitsState:
    """The figures of the rate limits.

    Attributes:
        limited: requests above a limit, by outcome and policy, with a space between.
        keys: keys in memory.
        dropped: keys that were dropped, because the memory was full.
        store_errors: how often Redis has failed.
        store_is_away: whether Redis is away, for any process.
    """

    limited: dict[str, int] = field(default_factory=dict)
    keys: int = 0
    dropped: int = 0
    store_errors: int = 0
    store_is_away: InAny = False


@dataclass(slots=True)
class State:
    """The figures of a process, or of several.

    Attributes:
        services: by name.
        durations: by method, status and route, in this order, with a space between.
        process: of the process itself; empty if collected without.
        limits: of the rate limits; empty if collected without.
    """

    services: dict[str, ServiceState] = field(default_factory=dict)
    durations: dict[str, HistogramState] = field(default_factory=dict)
    process: ProcessState = field(default_factory=ProcessState)
    limits: LimitsState = field(default_factory=LimitsState)


# ---- collect


def collect(services: Iterable[Service], durations: Durations, now: float, *, with_minute: bool = True) -> State:
    """Collect the figures of this process.

    Args:
        services: of services with the same name, the first is present, and the others are retired.
        now: seconds on the clock of the services.
        with_minute: whether to read the last minute of endpoints, which takes more than half of the time.
    """
    return State(
        _by_name(services, now, with_minute=with_minute),
        {f"{method} {status} {route}": _of_histogram(each) for (method, route, status), each in durations},
    )


def _by_name(services: Iterable[Service], now: float, *, with_minute: bool) -> dict[str, ServiceState]:
    found: dict[str, ServiceState] = {}
    for service in services:
        state = _of_service(service, now, with_minute=with_minute)
        if service.name in found:
            state = _merge_of(ServiceState)(found[service.name], _of_remains(service, state))
        found[service.name] = state
    return found


def _of_remains(service: Service, state: ServiceState) -> ServiceState:
    """The state of a retired service whose name is in use again: endpoints that have left, and totals."""
    leaving = [each for each in (*service.endpoints, *service.endpoint_set.departing) if each.load]
    return replace(
        state, endpoints={}, departing=_of_departing(leaving), panicking=False, limit=0, retry_budget=()
    )  # fmt: skip


def _of_histogram(histogram: Histogram) -> HistogramState:
    return HistogramState(tuple(histogram.counts), (histogram.total,))


def _of_service(service: Service, now: float, *, with_minute: bool) -> ServiceState:
    slow_start = service.config.slow_start
    return ServiceState(
        endpoints={
            each.url: _of_endpoint(each, slow_start, now, with_minute=with_minute) for each in service.endpoints
        },
        departing=_of_departing(service.endpoint_set.departing),
        inflight=_in_flight(service),
        panicking=service.endpoint_set.is_panicking,
        waiting=service.waiting,
        limit=service.outcomes.limit.limit if service.outcomes.limit else 0,
        retry_budget=(service.budget.balance(now),),
        hedges_sent=service.outcomes.hedging.sent,
        hedges_won=service.outcomes.hedging.won,
        websockets=_of_websockets(service.websocket_totals),
    )


def _of_endpoint(endpoint: Endpoint, slow_start: float, now: float, *, with_minute: bool) -> EndpointState:
    breaker, latency = endpoint.breaker, endpoint.latency
    return EndpointState(
        weight=endpoint.weight,
        share=endpoint.share(now, slow_start),
        healthy=endpoint.healthy,
        usable=endpoint.is_admitted,
        check=(not endpoint.checks_pass, endpoint.last_check),
        breaker=BREAKER_STATES.index(breaker.state(now)),
        openings=breaker.opened,
        open_for=max(0.0, breaker.open_until - now) if breaker.is_open else 0.0,
        ejected=endpoint.is_ejected,
        inflight=_in_flight(endpoint),
        outcomes={outcome.value: count for outcome, count in endpoint.outcomes.items()},
        unanswered=endpoint.unanswered_total,
        retries=endpoint.retries_total,
        latency=(max(0.0, latency.seen_at), latency.average, latency.last),
        peak=latency.peak(now),
        minute=endpoint.window.minute(now) if with_minute else Minute(),
    )


def _of_departing(endpoints: Iterable[Endpoint]) -> dict[str, dict[str, int]]:
    """An endpoint that left, came back as another object and left again has one URL."""
    each_alone = ({each.url: _in_flight(each)} for each in endpoints)
    return functools.reduce(_merge_of(dict[str, dict[str, int]]), each_alone, {})


def _in_flight(held: InFlight) -> dict[str, int]:
    return {kind.value: count for kind, count in held.inflight.items()}


def _of_websockets(totals: WebSocketTotals) -> WebSocketState:
    plain = {each.name: getattr(totals, each.name) for each in fields(totals)}
    return WebSocketState(**{**plain, "seconds": (totals.seconds,), "close_codes": dict(totals.close_codes)})


# ---- merge


def merge(states: Iterable[State]) -> State:
    """The State of all processes together."""
    return functools.reduce(_merge_of(State), states, State())


@functools.cache
def _merge_of(kind: Any) -> Merge:
    """The function that merges two values of a type."""
    if get_origin(kind) is Annotated:
        return kind.__metadata__[0]  # type: ignore[no-any-return]
    if is_dataclass(kind):
        return functools.partial(_by_field, kind)
    if get_origin(kind) is dict:
        return functools.partial(_by_key, _merge_of(get_args(kind)[1]))
    return operator.add


def _by_field(kind: Any, one: Any, other: Any) -> Any:
    return kind(
        **{name: _merge_of(hint)(getattr(one, name), getattr(other, name)) for name, hint in _types_of(kind).items()}
    )


def _by_key(merge_values: Merge, one: dict[Any, Any], other: dict[Any, Any]) -> dict[Any, Any]:
    merged = {**one, **other}
    return merged | {key: merge_values(one[key], other[key]) for key in one if key in other}


# ---- plain


def to_plain(state: State) -> dict[str, Any]:
    """A State as dictionaries, tuples, numbers and strings."""
    return asdict(state)


def from_plain(plain: dict[str, Any]) -> State:
    """The State that `to_plain()` had. JSON may have turned keys into strings and tuples into lists."""
    return _restored(State, plain)  # type: ignore[no-any-return]


def _restored(kind: Any, plain: Any) -> Any:
    is_record, origin, args = is_dataclass(kind), get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _restored(args[0], plain)
    if is_record:
        return kind(**{name: _restored(hint, plain[name]) for name, hint in _types_of(kind).items()})
    if origin is dict:
        return {args[0](key): _restored(args[1], value) for key, value in plain.items()}
    return tuple(plain) if origin is tuple else plain


@functools.cache
def _types_of(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
