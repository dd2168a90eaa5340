"""The figures of a gateway in Prometheus's text format, or as OpenMetrics.

A request counts nothing for Prometheus. A scrape renders a State as text, in steps; only the families `process_*` and
`python_*` come from prometheus_client, whose metric objects take four times as long for a thousand endpoints.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and the OpenMetrics 1.0 specification.
"""

import bisect
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import fsum
from typing import NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from tornado_gateway.errors import InsufficientScope, KeysUnavailable, Revoked, Unauthorized
from tornado_gateway.policy.histogram import LIVES, PAUSES, SECONDS
from tornado_gateway.policy.http.negotiation import preferred
from tornado_gateway.policy.upstream.endpoint import FAILURE, Kind
from tornado_gateway.policy.views.state import EndpointState, HistogramState, ServiceState, State, StreamState
from tornado_gateway.policy.views.steps import Steps

_FORMATS = (CONTENT_TYPE_PLAIN_0_0_4.encode("ascii"), openmetrics.CONTENT_TYPE_LATEST.encode("ascii"))
LEAST_EXPONENT = 10**6  # from this number on, floatToGoString() writes an exponent
MOST_OF_AN_EXAMPLE = 128  # characters of the labels of an exemplar, names and values
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:/+=-]+")
_WITH_EXAMPLES = "gateway_service_request_duration_seconds"
LINES_OF_A_STEP = 32  # some 30 microseconds

# Codes of RFC 6455 and of the gateway. Other codes share a label: clients choose codes from 3000 to 4999.
CLOSE_CODES = frozenset((*range(1000, 1016), 4401))
REFUSED_CREDENTIALS = (Unauthorized.reason, Revoked.reason, InsufficientScope.reason, KeysUnavailable.reason)

T = TypeVar("T")
_Series = Iterable[tuple[str, float]]  # what follows the family's name, and the value
_Row = tuple[str, str, str, Callable[[T], float]]  # a family's name (without _total), type, help text; a series' value


class _Labels:
    """The labels of a series, in alphabetical order, as prometheus_client writes labels.

    Attributes:
        text: in braces; "" without labels.
    """

    __slots__ = ("_pairs", "text")

    def __init__(self, *pairs: str) -> None:
        self._pairs = sorted(pairs)
        self.text = "{" + ",".join(self._pairs) + "}" if pairs else ""

    def around(self, name: str) -> tuple[str, str]:
        """What stands before and behind a further label with this name."""
        place = bisect.bisect(self._pairs, f"{name}=")
        before, behind = ",".join(self._pairs[:place]), ",".join(self._pairs[place:])
        return f"{{{before}," if before else "{", f",{behind}}}" if behind else "}"

    def with_(self, name: str, value: str) -> "_Labels":
        return _Labels(*self._pairs, f'{name}="{value}"')


_Labelled = Sequence[tuple[_Labels, T]]


def _open_websockets(state: State) -> int:
    return sum(each.websockets.opened - each.websockets.closed for each in state.services.values())


_OF_A_SERVICE: tuple[_Row[ServiceState], ...] = (
    ("gateway_panic", "gauge", "1 while all endpoints get requests, broken endpoints too.", lambda of: of.panicking),
    ("gateway_waiting", "gauge", "Requests that wait for an endpoint.", lambda of: of.waiting),
    ("gateway_retry_budget", "gauge", "Retries allowed now.", lambda of: fsum(of.retry_budget)),
    ("gateway_hedges", "counter", "Requests sent to a second endpoint.", lambda of: of.hedges_sent),
    ("gateway_hedges_won", "counter", "Requests that the second endpoint answered first.", lambda of: of.hedges_won),
)
_OF_AN_ENDPOINT: tuple[_Row[EndpointState], ...] = (
    ("gateway_upstream_errors", "counter", "Requests that failed.", lambda of: of.outcomes[FAILURE.value]),
    ("gateway_upstream_unanswered", "counter", "Requests that failed without an answer.", lambda of: of.unanswered),
    ("gateway_upstream_retries", "counter", "Retries sent.", lambda of: of.retries),
    ("gateway_breaker_openings", "counter", "Times that a breaker opened.", lambda of: of.openings),
    ("gateway_breaker_state", "gauge", "0 closed, 1 half open, 2 open.", lambda of: of.breaker),
    ("gateway_upstream_up", "gauge", "1 unless health checks fail or a breaker is not closed.", lambda of: of.healthy),
)
_OF_THE_PROCESS: tuple[_Row[State], ...] = (
    ("gateway_websocket_connections", "gauge", "Open WebSockets.", _open_websockets),
    ("gateway_rate_limit_keys", "gauge", "Keys of rate limits in memory.", lambda of: of.limits.keys),
    ("gateway_rate_limit_store_errors", "counter", "Failures of Redis.", lambda of: of.limits.store_errors),
    (
        "gateway_rate_limit_store_up",
        "gauge",
        "1 unless the counters of rate limits are in Redis and Redis is away.",
        lambda of: not of.limits.store_is_away,
    ),
    (
        "gateway_rate_limit_dropped_keys",
        "counter",
        "Keys dropped while their limit was in use, because the memory was full.",
        lambda of: of.limits.dropped,
    ),
    ("gateway_client_connections", "gauge", "Open connections of clients.", lambda of: of.process.clients),
    (
        "gateway_connecting",
        "gauge",
        "Requests that wait for a connection that is being opened.",
        lambda of: of.process.connects.waiting,
    ),
    (
        "gateway_dns_failures",
        "counter",
        "Look-ups of names that failed.",
        lambda of: of.process.connects.failed_look_ups,
    ),
    ("gateway_malloc_bytes", "gauge", "Bytes that malloc has given out; 0 if unknown.", lambda of: of.process.malloc),
    ("gateway_draining", "gauge", "1 from the signal to stop on.", lambda of: of.process.draining),
)


def prefers_open_metrics(accept: Sequence[bytes]) -> bool:
    """Whether a client prefers OpenMetrics, in the version that is rendered here.

    A client that accepts neither format gets text: text tells a misconfigured scraper more than a 406 does.

    Args:
        accept: the values of the request's Accept fields.
    """
    return preferred(accept, _FORMATS) == _FORMATS[1]


class Metrics:
    """The body of a scrape.

    Args:
        collect: begins to collect the figures. The last minute may be missing.
        endpoint_histograms: whether the seconds to the head of the response are a histogram of each endpoint, instead
            of a sum and a count.
    """

    def __init__(self, collect: Callable[[], Steps[State]], *, endpoint_histograms: bool = False) -> None:
        self._collect, self._endpoint_histograms = collect, endpoint_histograms
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def steps(self, *, is_open: bool) -> Steps[tuple[bytes, str]]:
        """The exposition and its media type.

        Args:
            is_open: whether to render OpenMetrics.
        """
        state, lines = (yield from self._collect()), list[str]()
        for family in self._families(state):
            lines += _header(family, headline="" if is_open else "_total")
            name = family.name + "_total" if family.kind == "counter" else family.name
            examples = _examples(state) if is_open and name == _WITH_EXAMPLES else {}
            for number, (labels, value) in enumerate(family.series):
                lines.append(f"{name}{labels} {_number(value)}{examples.get(labels, '')}\n")
                if number % LINES_OF_A_STEP == LINES_OF_A_STEP - 1:
                    yield
        text = "".join(lines).encode()
        yield
        if is_open:
            process = openmetrics.generate_latest(self._process)  # type: ignore[no-untyped-call]
            return text + process, openmetrics.CONTENT_TYPE_LATEST
        return text + generate_latest(self._process), CONTENT_TYPE_PLAIN_0_0_4

    def _families(self, state: State) -> Iterator["_Family"]:
        services = [(_labels(service=name), service) for name, service in state.services.items()]
        endpoints = [
            (_labels(endpoint=url, service=name), endpoint)
            for name, service in state.services.items()
            for url, endpoint in service.endpoints.items()
        ]
        yield from _of_all(state)
        yield from _of_services(services)
        yield from _of_streams(services)
        yield from _of_endpoints(endpoints, has_histograms=self._endpoint_histograms)
        yield _Family("gateway_upstream_inflight", "gauge", "Requests and streams in flight.", _in_flight(state))


class _Family(NamedTuple):
    name: str
    kind: str
    documentation: str
    series: _Series


def _header(family: _Family, headline: str) -> tuple[str, str]:
    """The first lines of a family.

    Args:
        headline: what follows the name of a counter in HELP and TYPE. The two formats differ in nothing else.
    """
    name = family.name + headline if family.kind == "counter" else family.name
    return f"# HELP {name} {family.documentation}\n", f"# TYPE {name} {family.kind}\n"


# ---- the whole gateway


def _of_all(state: State) -> Iterator[_Family]:
    process, connects = state.process, state.process.connects
    yield _Family(
        "gateway_http_request_duration_seconds",
        "histogram",
        "Seconds from a request's head to the end of its response; of streams, to the head of the response.",
        _request_durations(state),
    )
    yield from _of_each(_OF_THE_PROCESS, [(_Labels(), state)])
    yield _Family("gateway_rate_limited", "counter", "Requests above a rate limit.", _limited(state))
    yield _Family("gateway_auth", "counter", "Requests whose credential was judged, by result.", _judged(state))
    yield _Family(
        "gateway_failed_requests",
        "counter",
        "Requests that failed or ended early, by the reason in the access log.",
        _failed(state),
    )
    yield _Family(
        "gateway_in_flight", "gauge", "Requests and streams that the gateway works on.", _in_flight_in_all(state)
    )
    yield _Family("gateway_shed", "counter", "Requests refused because of overload.", _by_label("class", process.shed))
    yield _Family(
        "gateway_event_loop_delay_seconds",
        "summary",
        "How late the event loop was in the last ten seconds.",
        _by_label("quantile", process.loop_delay),
    )
    yield _Family(
        "gateway_buffered_bytes",
        "gauge",
        "Bytes that clients and upstreams have not taken yet.",
        _by_label("side", process.buffered),
    )
    for name, documentation, histogram in (
        ("connect", "Seconds to open a connection to an upstream, with look-up and TLS.", connects.connections),
        ("dns_lookup", "Seconds of look-ups of names, without answers of the cache.", connects.look_ups),
        ("tls_handshake", "Seconds of TLS handshakes with upstreams.", connects.handshakes),
    ):
        yield _Family(f"gateway_{name}_seconds", "histogram", documentation, _buckets(_Labels(), histogram, SECONDS))
    yield _Family(
        "gateway_connect_failures",
        "counter",
        "Connections to upstreams that could not be opened.",
        _by_label("reason", connects.failures),
    )
    yield _Family("gateway_build_info", "gauge", "1, with what the gateway was built of.", _build(state))


def _limited(state: State) -> _Series:
    for key, count in state.limits.limited.items():
        outcome, policy = key.split(" ", 1)
        yield _labels(outcome=outcome, policy=policy).text, count


def _judged(state: State) -> _Series:
    counts = Counter({"accepted": state.process.authenticated, **dict.fromkeys(REFUSED_CREDENTIALS, 0)})
    for key, count in state.reasons.items():
        reason = key.partition(" ")[0]
        if reason in REFUSED_CREDENTIALS:
            counts[reason] += count
    return _by_label("outcome", counts)


def _failed(state: State) -> _Series:
    for key, count in state.reasons.items():
        reason, _, name = key.partition(" ")
        yield _labels(reason=reason, service=name).text, count


def _build(state: State) -> _Series:
    for key, count in state.process.build.items():
        version, python, event_loop = key.split(" ")
        yield _labels(event_loop=event_loop, python=python, version=version).text, count


def _request_durations(state: State) -> _Series:
    for key, histogram in state.durations.items():
        method, status_code, route = key.split(" ", 2)
        yield from _buckets(_labels(method=method, route=route, status_code=status_code), histogram, SECONDS)


def _in_flight_in_all(state: State) -> _Series:
    """Also what waits for an endpoint."""
    services = state.services.values()
    held = Counter({kind.value: sum(each.inflight[kind.value] for each in services) for kind in Kind})
    held[Kind.HTTP.value] += sum(each.waiting for each in services)
    return _by_label("kind", held)


# ---- services


def _of_services(services: _Labelled[ServiceState]) -> Iterator[_Family]:
    yield from _of_each(_OF_A_SERVICE, services)
    yield _Family(
        "gateway_service_requests",
        "counter",
        "Requests and streams that ended, by class of the status that the client got.",
        _keyed(services, "status_class", lambda of: of.requests),
    )
    yield _Family(
        "gateway_service_request_duration_seconds",
        "histogram",
        "Seconds from a request's head to the end of its response, without streams.",
        _histograms(services, lambda of: of.durations, SECONDS),
    )
    yield _Family(
        "gateway_service_head_seconds",
        "histogram",
        "Seconds from a request's head to the head of the response, also of streams.",
        _histograms(services, lambda of: of.heads, SECONDS),
    )


def _examples(state: State) -> dict[str, str]:
    """What follows the values of the buckets that have an exemplar, by the labels of the bucket's series."""
    limits, found = (*SECONDS, "+Inf"), {}
    for name, service in state.services.items():
        before, behind = _labels(service=name).around("le")
        for bucket, (at, seconds, request, trace) in service.examples.items():
            series = f'_bucket{before}le="{limits[bucket]}"{behind}'
            found[series] = f" # {_ids(request, trace)} {floatToGoString(seconds)} {at:.3f}"  # type: ignore[no-untyped-call]
    return found


def _ids(request: str, trace: str) -> str:
    """The labels of an exemplar; without a request's id that is too long, or that parsers may not read."""
    ids = {"request_id": request, "trace_id": trace} if trace else {"request_id": request}
    if not _PLAIN_ID.fullmatch(request) or sum(map(len, (*ids, *ids.values()))) > MOST_OF_AN_EXAMPLE:
        del ids["request_id"]
    return _labels(**ids).text or "{}"


def _of_streams(services: _Labelled[ServiceState]) -> Iterator[_Family]:
    """A service has these series from its first stream of the kind on: most services have no streams."""
    streams = [
        (labels.with_("kind", kind), of)
        for labels, service in services
        for kind, of in (("sse", service.event_streams), ("ws", service.websockets))
        if of.opened
    ]
    yield from _of_each(_OF_STREAMS, streams)
    yield _Family(
        "gateway_stream_duration_seconds",
        "histogram",
        "Seconds from the request to the end of the stream.",
        _histograms(streams, lambda of: of.lives, LIVES),
    )
    yield _Family(
        "gateway_stream_first_event_seconds",
        "histogram",
        "Seconds from the request to the first bytes of an event stream.",
        _histograms(streams, lambda of: of.firsts, SECONDS),
    )
    yield _Family(
        "gateway_stream_event_pause_seconds",
        "histogram",
        "Seconds between two arrivals of bytes of an event stream.",
        _histograms(streams, lambda of: of.pauses, PAUSES),
    )
    for what, documentation, carried in (
        ("messages", "Events, or messages of WebSockets.", lambda of: (of.messages_up, of.messages_down)),
        ("bytes", "Bytes of event streams and of the frames of WebSockets.", lambda of: (of.bytes_up, of.bytes_down)),
    ):
        yield _Family(f"gateway_stream_{what}", "counter", documentation, _both_ways(streams, carried))
    yield _Family("gateway_websocket_closes", "counter", "Ended WebSockets by close code.", _closes(streams))


_OF_STREAMS: tuple[_Row[StreamState], ...] = (
    ("gateway_streams_open", "gauge", "Open event streams and WebSockets.", lambda of: of.opened - of.closed),
    ("gateway_streams_opened", "counter", "Event streams and WebSockets that have begun.", lambda of: of.opened),
    ("gateway_stream_waiting_bytes", "gauge", "Bytes that receivers have not taken yet.", lambda of: of.waiting),
)


def _both_ways(streams: _Labelled[StreamState], carried: Callable[[StreamState], tuple[int, int]]) -> _Series:
    for labels, of in streams:
        for direction, count in zip(("up", "down"), carried(of), strict=True):
            yield labels.with_("direction", direction).text, count


def _closes(streams: _Labelled[StreamState]) -> _Series:
    for labels, of in streams:
        counts: Counter[str] = Counter()
        for code, count in of.close_codes.items():
            counts[close_label(code)] += count
        for label, count in sorted(counts.items()):
            yield labels.with_("code", label).text, count


def close_label(code: int) -> str:
    """The label of a close code.

    >>> close_label(1006), close_label(3999), close_label(4401), close_label(4402)
    ('1006', '3xxx', '4401', '4xxx')
    """
    return str(code) if code in CLOSE_CODES else f"{code // 1000}xxx"


# ---- endpoints


def _of_endpoints(endpoints: _Labelled[EndpointState], *, has_histograms: bool) -> Iterator[_Family]:
    yield from _of_each(_OF_AN_ENDPOINT, endpoints)
    for name, kind, documentation, label, counts in _OF_AN_ENDPOINT_BY_LABEL:
        yield _Family(name, kind, documentation, _keyed(endpoints, label, counts))
    documentation = "Seconds from a request to the head of the response."
    if has_histograms:
        series = _histograms(endpoints, lambda of: of.heads, SECONDS)
        yield _Family("gateway_upstream_head_seconds", "histogram", documentation, series)
    else:
        yield _Family("gateway_upstream_head_seconds", "summary", documentation, _sums(endpoints))


_OF_AN_ENDPOINT_BY_LABEL: tuple[tuple[str, str, str, str, Callable[[EndpointState], Mapping[str, int]]], ...] = (
    (
        "gateway_upstream_requests",
        "counter",
        "Requests that ended, each counted once.",
        "outcome",
        lambda of: of.outcomes,
    ),
    (
        "gateway_upstream_responses",
        "counter",
        "Heads of responses, by class of the status.",
        "status_class",
        lambda of: of.answers,
    ),
    ("gateway_upstream_checks", "counter", "Health checks, by result.", "result", lambda of: of.checks),
    (
        "gateway_upstream_sent",
        "counter",
        "Requests sent over a new connection, or over a kept connection.",
        "connection",
        lambda of: of.sent,
    ),
    (
        "gateway_upstream_connections",
        "gauge",
        "Open connections to the endpoint's host and port.",
        "state",
        lambda of: of.connections,
    ),
)


def _sums(endpoints: _Labelled[EndpointState]) -> _Series:
    for labels, of in endpoints:
        yield "_count" + labels.text, of.heads.count
        yield "_sum" + labels.text, fsum(of.heads.seconds)


def _in_flight(state: State) -> _Series:
    """Also at endpoints that have left, which other processes may still have."""
    for name, service in state.services.items():
        held: dict[str, Mapping[str, int]] = {url: endpoint.inflight for url, endpoint in service.endpoints.items()}
        for url, inflight in service.departing.items():
            held[url] = Counter(held.get(url, {})) + Counter(inflight)
        for url, kinds in held.items():
            before, behind = _labels(endpoint=url, service=name).around("kind")
            for kind in Kind:
                yield f'{before}kind="{kind.value}"{behind}', kinds.get(kind.value, 0)


# ---- series


def _of_each(table: Iterable[_Row[T]], labelled: _Labelled[T]) -> Iterator[_Family]:
    for name, kind, documentation, value in table:
        yield _Family(name, kind, documentation, _values(labelled, value))


def _values(labelled: _Labelled[T], value: Callable[[T], float]) -> _Series:
    return ((labels.text, value(each)) for labels, each in labelled)


def _keyed(labelled: _Labelled[T], label: str, counts: Callable[[T], Mapping[str, int]]) -> _Series:
    for labels, each in labelled:
        before, behind = labels.around(label)
        for key, count in counts(each).items():
            yield f'{before}{label}="{key}"{behind}', count


def _histograms(labelled: _Labelled[T], histogram: Callable[[T], HistogramState], bounds: Sequence[float]) -> _Series:
    """The histograms that have counted something."""
    for labels, each in labelled:
        found = histogram(each)
        if any(found.counts):
            yield from _buckets(labels, found, bounds)


def _buckets(labels: _Labels, histogram: HistogramState, bounds: Sequence[float]) -> _Series:
    cumulative = [*itertools.accumulate(histogram.counts)]
    before, behind = labels.around("le")
    for limit, count in zip((*bounds, "+Inf"), cumulative, strict=True):
        yield f'_bucket{before}le="{limit}"{behind}', count
    yield "_count" + labels.text, cumulative[-1]
    yield "_sum" + labels.text, fsum(histogram.seconds)


def _by_label(label: str, values: Mapping[str, float]) -> _Series:
    return [(_labels(**{label: key}).text, value) for key, value in values.items()]


def _labels(**values: str) -> _Labels:
    return _Labels(*[f'{name}="{_escaped(value)}"' for name, value in values.items()])


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if type(value) is int and value < LEAST_EXPONENT:
        return f"{value}.0"  # what floatToGoString() says, in a third of the time
    return floatToGoString(value)  # type: ignore[no-any-return, no-untyped-call]
