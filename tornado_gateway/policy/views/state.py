"""The figures of a process at one instant: plain data that adds up with the figures of other processes.

    merge(states)                       the State of several processes; associative and commutative, State() is neutral
    to_plain(state), from_plain(plain)  a State as JSON can carry a State, and back

collecting.py collects the State of this process, snapshot.py renders a State as JSON, adapters/prometheus.py renders a
State for Prometheus.

Numbers are added, dictionaries are merged by their keys. The type of any other field names its merge. Of states that
cannot be added, the worst is shown, because an operator looks for trouble: an endpoint whose breaker is open in one
process of four is shown as open. Of latencies, the newest is shown: processes of one machine share a monotonic clock.

Services and endpoints stand in the order of the first State that has them.

A State is read, and never changed: parts that are empty are one object for all.
"""

import functools
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from tornado_gateway.policy.histogram import LIVES, PAUSES, SECONDS, Histogram
from tornado_gateway.policy.loop_delays import LoopDelays
from tornado_gateway.policy.overload import Overload
from tornado_gateway.policy.upstream.breaker import State as BreakerState
from tornado_gateway.policy.upstream.connect_totals import ConnectTotals
from tornado_gateway.policy.upstream.statistics import Minute

T = TypeVar("T")
Merge = Callable[[Any, Any], Any]
Convert = Callable[[Any], Any]

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
class HistogramState:
    """As Histogram."""

    counts: Buckets
    seconds: Sums

    @classmethod
    def of(cls, histogram: Histogram) -> "HistogramState":
        if not histogram.total and not any(histogram.counts):
            return cls.empty(len(histogram.bounds))
        return cls(tuple(histogram.counts), (histogram.total,))

    @staticmethod
    @functools.cache
    def empty(bounds: int = len(SECONDS)) -> "HistogramState":
        """Of no durations. Most histograms of a gateway with a thousand services are empty, and share this object.

        Args:
            bounds: number of bounds; without, of durations up to a response's head or end.
        """
        return HistogramState((0,) * (bounds + 1), ())

    @property
    def count(self) -> int:
        return sum(self.counts)


@dataclass(slots=True)
class EndpointState:
    """The figures of an endpoint.

    Attributes:
        weight: the highest: an endpoint has new requests as long as one process sends new requests.
        share: of the normal traffic during slow start, the least: slow starts may begin at different instants.
        healthy, usable: Endpoint.healthy and Endpoint.is_admitted, in all processes.
        check: whether health checks fail, and the newest check in words. A failure hides a success.
        failure: see Endpoint.last_failure; of several, one.
        breaker: index in BREAKER_STATES, the worst.
        openings: how often breakers opened.
        open_for: seconds until all open breakers are HALF_OPEN; 0 if no breaker is OPEN.
        ejected: whether any process has ejected the endpoint.
        inflight: leases that have not ended, by kind.
        outcomes: leases that ended, by outcome.
        unanswered: failures without an answer.
        retries: leases that repeated a request.
        answers: heads of responses by class of the status: "2xx".
        heads: seconds from a request to the head of the response.
        checks: health checks and probes, "passed" and "failed".
        sent: requests sent over a "new" or a "kept" connection.
        connections: open connections to the origin of the endpoint, "active" and "idle". Endpoints of the same origin
            share connections.
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
    failure: Most[str]
    breaker: Most[int]
    openings: int
    open_for: Most[float]
    ejected: InAny
    inflight: dict[str, int]
    outcomes: dict[str, int]
    unanswered: int
    retries: int
    answers: dict[str, int]
    heads: HistogramState
    checks: dict[str, int]
    sent: dict[str, int]
    connections: dict[str, int]
    latency: Most[tuple[float, float, float]]
    peak: Most[float]
    minute: Annotated[Minute, lambda one, other: Minute.of((one, other))]


@dataclass(slots=True)
class StreamState:
    """As StreamTotals; messages and bytes are also of open streams.

    Attributes:
        waiting: bytes that receivers of open streams have not taken yet.
    """

    opened: int
    closed: int
    messages_up: int
    messages_down: int
    bytes_up: int
    bytes_down: int
    waiting: int
    lives: HistogramState
    firsts: HistogramState
    pauses: HistogramState
    close_codes: dict[int, int]

    @staticmethod
    @functools.cache
    def empty() -> "StreamState":
        """Of a service that has had no streams, as most services have none. All such services share this object."""
        lives, firsts, pauses = [HistogramState.empty(len(each)) for each in (LIVES, SECONDS, PAUSES)]
        return StreamState(0, 0, 0, 0, 0, 0, 0, lives, firsts, pauses, {})


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
        requests: requests and streams that ended, by class of the status that the client got.
        durations: seconds of requests that ended; without streams.
        examples: a slow request in `durations` by bucket, the newest; as Example.
        heads: seconds from a request or the request for a stream to the head of the answer.
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
    requests: dict[str, int]
    durations: HistogramState
    examples: dict[int, Most[tuple[float, float, str, str]]]
    heads: HistogramState
    event_streams: StreamState
    websockets: StreamState


@dataclass(slots=True)
class ConnectState:
    """As ConnectTotals.

    Attributes:
        waiting: requests that wait for a connection that is being opened.
    """

    look_ups: HistogramState = field(default_factory=HistogramState.empty)
    connections: HistogramState = field(default_factory=HistogramState.empty)
    handshakes: HistogramState = field(default_factory=HistogramState.empty)
    failures: dict[str, int] = field(default_factory=dict)
    failed_look_ups: int = 0
    waiting: int = 0

    @classmethod
    def of(cls, totals: ConnectTotals, waiting: int) -> "ConnectState":
        """The figures of this process."""
        look_ups, opened, handshakes = map(HistogramState.of, (totals.look_ups, totals.connections, totals.handshakes))
        return cls(look_ups, opened, handshakes, dict(totals.failures), totals.failed_look_ups, waiting)


@dataclass(slots=True)
class CacheState:
    """The figures of the response cache.

    Attributes:
        results: requests that looked into the cache, by result and service, with a space between; see CacheTotals.
        bytes: of memory of all stored responses, estimated.
        keys: stored responses, without variants.
        responses: stored responses, with variants.
        evictions: keys that were pushed out.
    """

    results: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    keys: int = 0
    responses: int = 0
    evictions: int = 0


@dataclass(slots=True)
class ProcessState:
    """The figures of the process itself.

    Attributes:
        shed: requests that were shed, by class.
        loop_delay: the event loop's delay of the last seconds in seconds, by quantile; the worst process's.
        connects: of connections to upstreams.
        clients: open connections of clients.
        handshakes: of TLS with clients, by what has become of the handshake.
        buffered: bytes that clients and upstreams have not taken yet, by side.
        malloc: bytes that malloc has given out; 0 if malloc does not tell.
        authenticated: requests with a valid credential.
        tickets: one-time tickets by what has become of them; empty without tickets.
        spans: spans of traces by what has become of them; empty without traces.
        told: messages of other gateways about endpoints, by what has become of them.
        revocations: statements about revoked credentials. Several processes know the same statements.
        is_deaf: whether revocations of other gateways are not heard, in any process.
        draining: processes that were told to stop.
        workers: of several: how many there are to be ("wanted"), and how many of these answer ("answering").
        crashes: workers that have ended without an order.
        build: number of processes by version, Python and event loop, with a space between.
    """

    shed: dict[str, int] = field(default_factory=dict)
    loop_delay: dict[str, Most[float]] = field(default_factory=dict)
    connects: ConnectState = field(default_factory=ConnectState)
    clients: int = 0
    handshakes: dict[str, int] = field(default_factory=dict)
    buffered: dict[str, int] = field(default_factory=dict)
    malloc: int = 0
    authenticated: int = 0
    tickets: dict[str, int] = field(default_factory=dict)
    spans: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    revocations: Most[int] = 0
    is_deaf: InAny = False
    draining: int = 0
    workers: dict[str, int] = field(default_factory=dict)
    crashes: int = 0
    build: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, overload: Overload, delays: LoopDelays) -> "ProcessState":
        """The figures of this process that policies keep."""
        return cls(dict(overload.shed), dict(zip(map(str, QUANTILES), delays.quantiles(*QUANTILES), strict=True)))


@dataclass(slots=True)
class LimitsState:
    """The figures of the rate limits.

    Attributes:
        limited: requests above a limit, by outcome and policy, with a space between.
        refused: requests above a limit of the last minutes, by policy and by who was refused most, with a tab between.
        keys: keys in memory.
        dropped: keys that were dropped, because the memory was full.
        store_errors: how often Redis has failed.
        store_is_away: whether Redis is away, for any process.
    """

    limited: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
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
        reasons: requests that failed or ended early, by reason and service, with a space between. The service is
            empty for a request that was refused before admission.
        process: of the process itself; empty if collected without.
        limits: of the rate limits; empty if collected without.
        cache: of the response cache; empty if collected without.
    """

    services: dict[str, ServiceState] = field(default_factory=dict)
    durations: dict[str, HistogramState] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    process: ProcessState = field(default_factory=ProcessState)
    limits: LimitsState = field(default_factory=LimitsState)
    cache: CacheState = field(default_factory=CacheState)


# ---- merge


def merge(states: Iterable[State]) -> State:
    """The State of all processes together."""
    return functools.reduce(merge_of(State), states, State())


@functools.cache
def merge_of(kind: Any) -> Merge:
    """The function that merges two values of a type."""
    if get_origin(kind) is Annotated:
        return kind.__metadata__[0]  # type: ignore[no-any-return]
    if is_dataclass(kind):
        return _by_field(kind)
    if get_origin(kind) is dict:
        return functools.partial(_by_key, merge_of(get_args(kind)[1]))
    return operator.add


def _by_field(kind: Any) -> Merge:
    values, merges = _values_of(kind), [merge_of(hint) for hint in _types_of(kind).values()]

    def merge_records(one: Any, other: Any) -> Any:
        return kind(*map(operator.call, merges, values(one), values(other)))

    return merge_records


def _by_key(merge_values: Merge, one: dict[Any, Any], other: dict[Any, Any]) -> dict[Any, Any]:
    merged = {**one, **other}
    return merged | {key: merge_values(one[key], other[key]) for key in one if key in other}


# ---- plain
#
# What converts a type is made once, and skips what needs no conversion: a State may have thousands of endpoints.


def to_plain(state: State) -> list[Any]:
    """A State as lists of the values of each record, dictionaries, tuples, numbers and strings."""
    plain: list[Any] = _to_plain_of(State)(state)
    return plain


def from_plain(plain: list[Any]) -> State:
    """The State that `to_plain()` had. JSON may have turned keys into strings and tuples into lists."""
    state: State = _from_plain_of(State)(plain)
    return state


def _as_it_is(value: Any) -> Any:
    return value


@functools.cache
def _to_plain_of(kind: Any) -> Convert:
    """The function that makes a value of a type plain."""
    if get_origin(kind) is Annotated:
        return _to_plain_of(get_args(kind)[0])
    if is_dataclass(kind):
        return _record(kind, _values_of(kind), _to_plain_of, _as_it_is)
    return _values(kind, _to_plain_of, _as_it_is) if get_origin(kind) is dict else _as_it_is


@functools.cache
def _from_plain_of(kind: Any) -> Convert:
    """The function that restores a value of a type."""
    if get_origin(kind) is Annotated:
        return _from_plain_of(get_args(kind)[0])
    if is_dataclass(kind):
        make: Any = kind
        return _record(kind, _as_it_is, _from_plain_of, lambda values: make(*values))
    if get_origin(kind) is dict:
        key = get_args(kind)[0]
        return _values(kind, _from_plain_of, _as_it_is if key is str else key)
    return tuple if get_origin(kind) is tuple else _as_it_is


def _record(kind: Any, values: Convert, convert_of: Callable[[Any], Convert], make: Convert) -> Convert:
    """Converts a record.

    Args:
        values: gives the values of the record.
        convert_of: gives what converts a value of a type.
        make: makes the result of the converted values.
    """
    converts = enumerate(map(convert_of, _types_of(kind).values()))
    changed = [(index, each) for index, each in converts if each is not _as_it_is]

    def convert(record: Any) -> Any:
        found = list(values(record))
        for index, each in changed:
            found[index] = each(found[index])
        return make(found)

    return convert


def _values(kind: Any, convert_of: Callable[[Any], Convert], convert_key: Convert) -> Convert:
    """Converts the keys and values of a dictionary."""
    convert = convert_of(get_args(kind)[1])
    if convert is _as_it_is and convert_key is _as_it_is:
        return _as_it_is
    return lambda plain: {convert_key(key): convert(value) for key, value in plain.items()}


def _values_of(kind: Any) -> Convert:
    """The function that gives the values of a record."""
    names = list(_types_of(kind))
    return operator.attrgetter(*names) if len(names) > 1 else lambda record: [getattr(record, names[0])]


@functools.cache
def _types_of(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
