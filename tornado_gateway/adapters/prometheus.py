"""The figures of a gateway in Prometheus's text format, or as OpenMetrics.

A request counts nothing for Prometheus. A scrape renders a State as text, in steps; only the families `process_*` and
`python_*` come from prometheus_client, whose metric objects take four times as long for a thousand endpoints.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and the OpenMetrics 1.0 specification.
"""

import bisect
import functools
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

# A step ends with the text that has so many characters: some 40 lines, and 20 microseconds.
STEP = 4096
LABELS_OF_A_STEP = FREED_OF_A_STEP = 16
SERIES_OF_A_TEXT = 16  # services or endpoints whose lines are made at once
OF_A_TEXT = 32  # characters that a text counts beside its own, so that many empty texts end a step, too

# Codes of RFC 6455 and of the gateway. Other codes share a label: clients choose codes from 3000 to 4999.
KINDS = tuple(kind.value for kind in Kind)
_FAILED = FAILURE.value  # to ask the member takes 100 ns
CLOSE_CODES = frozenset((*range(1000, 1016), 4401))
REFUSED_CREDENTIALS = (Unauthorized.reason, Revoked.reason, InsufficientScope.reason, KeysUnavailable.reason)

T = TypeVar("T")
_Series = Iterable[tuple[str, float]]  # what follows the family's name, and the value
_Texts = Callable[[str], Iterable[str]]  # gives lines of a family, in texts of some lines, for the name of the series
_Row = tuple[str, str, str, Callable[[T], float]]  # a family's name (without _total), type, help text; a series' value


class _Labels:
    """The labels of a series, in alphabetical order, as prometheus_client writes labels.

    Attributes:
        text: in braces; "" without labels.
    """

    __slots__ = ("_around", "_pairs", "text")

    def __init__(self, *pairs: str) -> None:
        self._pairs = sorted(pairs)
        self._around: dict[str, tuple[str, str]] = {}
        self.text = "{" + ",".join(self._pairs) + "}" if pairs else ""

    def around(self, name: str) -> tuple[str, str]:
        """What stands before and behind a further label with this name."""
        known = self._around.get(name)
        if known:
            return known
        place = bisect.bisect(self._pairs, f"{name}=")
        before, behind = ",".join(self._pairs[:place]), ",".join(self._pairs[place:])
        found = (f"{{{before}," if before else "{", f",{behind}}}" if behind else "}")
        self._around[name] = found
        return found

    def with_(self, name: str, value: str) -> "_Labels":
        return _Labels(*self._pairs, f'{name}="{value}"')


# The labels of services, by name and "", and of endpoints, by name and URL. A scrape makes labels once, and later
# scrapes use the labels again. The labels of a service, or of an endpoint, take some 1,000 bytes.
_Known = dict[tuple[str, str], _Labels]
_Labelled = list[tuple[_Labels, T]]
_Services = _Labelled[ServiceState]
_Endpoints = _Labelled[EndpointState]


_OF_A_SERVICE: tuple[_Row[ServiceState], ...] = (
    ("gateway_panic", "gauge", "1 while all endpoints get requests, broken endpoints too.", lambda of: of.panicking),
    ("gateway_waiting", "gauge", "Requests that wait for an endpoint.", lambda of: of.waiting),
    ("gateway_retry_budget", "gauge", "Retries allowed now.", lambda of: fsum(of.retry_budget)),
    ("gateway_hedges", "counter", "Requests sent to a second endpoint.", lambda of: of.hedges_sent),
    ("gateway_hedges_won", "counter", "Requests that the second endpoint answered first.", lambda of: of.hedges_won),
)
_OF_AN_ENDPOINT: tuple[_Row[EndpointState], ...] = (
    ("gateway_upstream_errors", "counter", "Requests that failed.", lambda of: of.outcomes[_FAILED]),
    ("gateway_upstream_unanswered", "counter", "Requests that failed without an answer.", lambda of: of.unanswered),
    ("gateway_upstream_retries", "counter", "Retries sent.", lambda of: of.retries),
    ("gateway_breaker_openings", "counter", "Times that a breaker opened.", lambda of: of.openings),
    ("gateway_breaker_state", "gauge", "0 closed, 1 half open, 2 open.", lambda of: of.breaker),
    ("gateway_upstream_up", "gauge", "1 unless health checks fail or a breaker is not closed.", lambda of: of.healthy),
)
_OF_THE_PROCESS: tuple[_Row[State], ...] = (
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
    ("gateway_revocations", "gauge", "Statements about revoked credentials.", lambda of: of.process.revocations),
    (
        "gateway_revocations_heard",
        "gauge",
        "1 unless revocations are shared over Redis and those of other gateways are not heard.",
        lambda of: not of.process.is_deaf,
    ),
    ("gateway_cache_bytes", "gauge", "Bytes of stored responses, estimated.", lambda of: of.cache.bytes),
    ("gateway_cache_keys", "gauge", "Stored responses, without variants.", lambda of: of.cache.keys),
    ("gateway_cache_responses", "gauge", "Stored responses, with variants.", lambda of: of.cache.responses),
    ("gateway_cache_evictions", "counter", "Stored responses that were pushed out.", lambda of: of.cache.evictions),
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
    ("gateway_worker_crashes", "counter", "Workers that have ended without an order.", lambda of: of.process.crashes),
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
        of_this_process: whether the families process_* and python_* of this process are shown. Of one of several
            processes, the next scrape would show those of another.
    """

    def __init__(
        self, collect: Callable[[], Steps[State]], *, endpoint_histograms: bool = False, of_this_process: bool = True
    ) -> None:
        self._collect, self._endpoint_histograms = collect, endpoint_histograms
        self._known: _Known = {}
        self._process = CollectorRegistry()
        if of_this_process:
            ProcessCollector(registry=self._process)
            PlatformCollector(registry=self._process)
            GCCollector(registry=self._process)

    def steps(self, *, is_open: bool) -> Steps[tuple[bytes, str]]:
        """The text of /metrics, and the media type of the text, in steps.

        Args:
            is_open: whether the text is OpenMetrics; otherwise the text format of Prometheus.
        """
        state = yield from self._collect()
        index = yield from _index_of(state, self._known)
        self._known = index.known
        # Each text is encoded by itself: to join and to encode some megabytes at the end would be a step of 10 ms.
        parts, size = list[bytes](), 0
        for family in self._families(state, index, shows_examples=is_open):
            parts.append(_header(family, headline="" if is_open else "_total").encode())
            for text in family.texts():
                parts.append(text.encode())
                size += len(text) + OF_A_TEXT
                if size > STEP:
                    size = 0
                    yield
        # To free a thousand endpoints at once would be a step of 5 ms. The lists hold what the State held.
        del state
        yield
        for labelled in (index.endpoints, index.streams, index.services):
            while labelled:
                del labelled[-FREED_OF_A_STEP:]
                yield
        if is_open:
            parts.append(openmetrics.generate_latest(self._process))  # type: ignore[no-untyped-call]
            return b"".join(parts), openmetrics.CONTENT_TYPE_LATEST
        parts.append(generate_latest(self._process))
        return b"".join(parts), CONTENT_TYPE_PLAIN_0_0_4

    def _families(self, state: State, index: "_Index", *, shows_examples: bool) -> Iterator["_Family"]:
        yield from _of_all(state, index)
        yield from _of_services(index.services, shows_examples=shows_examples)
        yield from _of_streams(index.streams)
        yield from _of_endpoints(index.endpoints, has_histograms=self._endpoint_histograms)
        in_flight = _in_flight(state, index.endpoints)
        yield _Family("gateway_upstream_inflight", "gauge", "Requests and streams in flight.", parts=in_flight)


class _Index(NamedTuple):
    """What is looked up once for all families.

    Attributes:
        streams: event streams and WebSockets of the services that have had any of the kind. Most services have none.
        held: requests and streams that the gateway works on, by kind, also what waits for an endpoint.
        known: the labels of all services and endpoints.
    """

    services: _Services
    endpoints: _Endpoints
    streams: _Labelled[StreamState]
    held: Counter[str]
    known: _Known


def _index_of(state: State, known: _Known) -> Steps[_Index]:
    """
    Args:
        known: labels of an earlier scrape.
    """
    index, made = _Index([], [], [], Counter(dict.fromkeys(KINDS, 0)), {}), 0
    for name, service in state.services.items():
        labels = index.known[name, ""] = known.get((name, "")) or _labels(service=name)
        index.services.append((labels, service))
        for kind, streams in (("sse", service.event_streams), ("ws", service.websockets)):
            if streams.opened:
                index.streams.append((labels.with_("kind", kind), streams))
        for kind, count in service.inflight.items():
            if count:
                index.held[kind] += count
        index.held[Kind.HTTP.value] += service.waiting
        for url, endpoint in service.endpoints.items():
            labels = index.known[name, url] = known.get((name, url)) or _labels(endpoint=url, service=name)
            index.endpoints.append((labels, endpoint))
            made += 1
            if made % LABELS_OF_A_STEP == 0:
                yield
    return index


class _Family(NamedTuple):
    """A metric family of the exposition format, with all lines.

    Attributes:
        series: lines one by one.
        parts: lines of many services or endpoints.
        histograms: lines of histograms.
        bounds: upper bounds of the histograms, in seconds.
    """

    name: str
    kind: str
    documentation: str
    series: _Series = ()
    parts: _Texts | None = None
    histograms: Iterable["_Counted"] = ()
    bounds: tuple[float, ...] = SECONDS

    def texts(self) -> Iterator[str]:
        """The lines, in texts of no, one or some lines."""
        name = self.name + "_total" if self.kind == "counter" else self.name
        for labels, value in self.series:
            yield f"{name}{labels} {_number(value)}\n"
        if self.parts:
            yield from self.parts(name)
        buckets = _buckets(name, self.bounds)
        for counted in self.histograms:
            yield _text_of(name, buckets, *counted)


# A histogram: labels, figures, and what follows the values of buckets, by the number of the bucket.
_Counted = tuple[_Labels, HistogramState, Mapping[int, str]]
_NO_EXAMPLES: Mapping[int, str] = {}


def _header(family: _Family, headline: str) -> str:
    """The first lines of a family.

    Args:
        headline: what follows the name of a counter in HELP and TYPE. The two formats differ in nothing else.
    """
    name = family.name + headline if family.kind == "counter" else family.name
    return f"# HELP {name} {family.documentation}\n# TYPE {name} {family.kind}\n"


# ---- the whole gateway


def _of_all(state: State, index: _Index) -> Iterator[_Family]:
    process, connects = state.process, state.process.connects
    yield _Family(
        "gateway_http_request_duration_seconds",
        "histogram",
        "Seconds from a request's head to the end of its response; of streams, to the head of the response.",
        histograms=_request_durations(state),
    )
    websockets = sum(of.opened - of.closed for labels, of in index.streams if 'kind="ws"' in labels.text)
    yield _Family("gateway_websocket_connections", "gauge", "Open WebSockets.", [("", websockets)])
    yield from _of_each(_OF_THE_PROCESS, [(_Labels(), state)])
    yield _Family("gateway_rate_limited", "counter", "Requests above a rate limit.", _limited(state))
    yield _Family("gateway_auth", "counter", "Requests whose credential was judged, by result.", _judged(state))
    tickets = _by_label("outcome", process.tickets)
    yield _Family("gateway_tickets", "counter", "One-time tickets, by what has become of them.", tickets)
    handshakes = _by_label("outcome", process.handshakes)
    yield _Family("gateway_client_tls_handshakes", "counter", "TLS handshakes with clients, by outcome.", handshakes)
    spans = _by_label("result", process.spans)
    yield _Family("gateway_trace_spans", "counter", "Finished spans, by what has become of them.", spans)
    workers = _by_label("state", process.workers)
    yield _Family("gateway_workers", "gauge", "Workers, of several: wanted, and those that answer.", workers)
    told = _by_label("result", process.told)
    yield _Family(
        "gateway_shared_endpoint_messages",
        "counter",
        "Messages of other gateways about endpoints, by what has become of them.",
        told,
    )
    yield _Family("gateway_cache_requests", "counter", "Requests that looked into the cache.", _looked(state))
    yield _Family(
        "gateway_failed_requests",
        "counter",
        "Requests that failed or ended early, by the reason in the access log.",
        _failed(state),
    )
    yield _Family(
        "gateway_in_flight", "gauge", "Requests and streams that the gateway works on.", _by_label("kind", index.held)
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
        counted = [(_Labels(), histogram, _NO_EXAMPLES)]
        yield _Family(f"gateway_{name}_seconds", "histogram", documentation, histograms=counted)
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


def _looked(state: State) -> _Series:
    for key, count in state.cache.results.items():
        result, service = key.split(" ", 1)
        yield _labels(result=result, service=service).text, count


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


def _request_durations(state: State) -> Iterator[_Counted]:
    for key, histogram in state.durations.items():
        method, status_code, route = key.split(" ", 2)
        yield _labels(method=method, route=route, status_code=status_code), histogram, _NO_EXAMPLES


# ---- services


def _of_services(services: _Services, *, shows_examples: bool) -> Iterator[_Family]:
    yield from _of_each(_OF_A_SERVICE, services)
    yield _Family(
        "gateway_service_requests",
        "counter",
        "Requests and streams that ended, by class of the status that the client got.",
        parts=_keyed(services, "status_class", lambda of: of.requests),
    )
    yield _Family(
        "gateway_service_request_duration_seconds",
        "histogram",
        "Seconds from a request's head to the end of its response, without streams.",
        histograms=_durations(services, shows_examples=shows_examples),
    )
    yield _Family(
        "gateway_service_head_seconds",
        "histogram",
        "Seconds from a request's head to the head of the response, also of streams.",
        histograms=_histograms(services, lambda of: of.heads),
    )


def _durations(services: _Services, *, shows_examples: bool) -> Iterator[_Counted]:
    for labels, of in services:
        examples = {bucket: _example(*each) for bucket, each in of.examples.items()} if shows_examples else {}
        yield labels, of.durations, examples


def _example(at: float, seconds: float, request: str, trace: str) -> str:
    """What follows the value of the bucket that has counted a request."""
    return f" # {_ids(request, trace)} {floatToGoString(seconds)} {at:.3f}"  # type: ignore[no-untyped-call]


def _ids(request: str, trace: str) -> str:
    """The labels of an exemplar; without a request's id that is too long, or that parsers may not read."""
    ids = {"request_id": request, "trace_id": trace} if trace else {"request_id": request}
    if not _PLAIN_ID.fullmatch(request) or sum(map(len, (*ids, *ids.values()))) > MOST_OF_AN_EXAMPLE:
        del ids["request_id"]
    return _labels(**ids).text or "{}"


def _of_streams(streams: _Labelled[StreamState]) -> Iterator[_Family]:
    """A service has these series from its first stream of the kind on."""
    yield from _of_each(_OF_STREAMS, streams)
    yield _Family(
        "gateway_stream_duration_seconds",
        "histogram",
        "Seconds from the request to the end of the stream.",
        histograms=_histograms(streams, lambda of: of.lives),
        bounds=LIVES,
    )
    yield _Family(
        "gateway_stream_first_event_seconds",
        "histogram",
        "Seconds from the request to the first bytes of an event stream.",
        histograms=_histograms(streams, lambda of: of.firsts),
    )
    yield _Family(
        "gateway_stream_event_pause_seconds",
        "histogram",
        "Seconds between two arrivals of bytes of an event stream.",
        histograms=_histograms(streams, lambda of: of.pauses),
        bounds=PAUSES,
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
        yield _Family(name, kind, documentation, parts=_keyed(endpoints, label, counts))
    documentation = "Seconds from a request to the head of the response."
    if has_histograms:
        heads = _histograms(endpoints, lambda of: of.heads)
        yield _Family("gateway_upstream_head_seconds", "histogram", documentation, histograms=heads)
    else:
        yield _Family("gateway_upstream_head_seconds", "summary", documentation, parts=_sums(endpoints))


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


def _sums(endpoints: _Labelled[EndpointState]) -> _Texts:
    def texts(name: str) -> Iterator[str]:
        for some in _some(endpoints):
            yield "".join([
                f"{name}_count{labels.text} {_number(of.heads.count)}\n"
                f"{name}_sum{labels.text} {_number(fsum(of.heads.seconds))}\n"
                for labels, of in some
            ])  # fmt: skip

    return texts


def _in_flight(state: State, endpoints: _Endpoints) -> _Texts:
    """Also at endpoints that have left, which other processes may still have.

    Args:
        endpoints: of `state`, in the same order.
    """
    if not any(service.departing for service in state.services.values()):  # nearly always
        return _keyed(endpoints, "kind", lambda of: of.inflight)

    def texts(name: str) -> Iterator[str]:
        labels_of = (labels for labels, _ in endpoints)
        for service_name, service in state.services.items():
            departing = service.departing
            for url, endpoint in service.endpoints.items():
                yield _by_kind(name, next(labels_of), Counter(endpoint.inflight) + Counter(departing.get(url, {})))
            for url in departing:
                if url not in service.endpoints:
                    yield _by_kind(name, _labels(endpoint=url, service=service_name), departing[url])

    return texts


def _by_kind(name: str, labels: _Labels, kinds: Mapping[str, int]) -> str:
    before, behind = labels.around("kind")
    return "".join([f'{name}{before}kind="{kind}"{behind} {_number(kinds.get(kind, 0))}\n' for kind in KINDS])


# ---- series


def _some(labelled: _Labelled[T]) -> Iterator[_Labelled[T]]:
    """All, some at a time: to make the lines of several services at once takes half the time."""
    for at in range(0, len(labelled), SERIES_OF_A_TEXT):
        yield labelled[at : at + SERIES_OF_A_TEXT]


def _of_each(table: Iterable[_Row[T]], labelled: _Labelled[T]) -> Iterator[_Family]:
    for name, kind, documentation, value in table:
        yield _Family(name, kind, documentation, parts=_values(labelled, value))


def _values(labelled: _Labelled[T], value: Callable[[T], float]) -> _Texts:
    def texts(name: str) -> Iterator[str]:
        for some in _some(labelled):
            yield "".join([f"{name}{labels.text} {_number(value(each))}\n" for labels, each in some])

    return texts


def _keyed(labelled: _Labelled[T], label: str, counts: Callable[[T], Mapping[str, int]]) -> _Texts:
    def texts(name: str) -> Iterator[str]:
        for some in _some(labelled):
            lines = list[str]()
            for labels, each in some:
                before, behind = labels.around(label)
                for key, count in counts(each).items():
                    lines.append(f'{name}{before}{label}="{key}"{behind} {_number(count)}\n')
            yield "".join(lines)

    return texts


def _histograms(labelled: _Labelled[T], histogram: Callable[[T], HistogramState]) -> Iterator[_Counted]:
    return ((labels, histogram(each), _NO_EXAMPLES) for labels, each in labelled)


def _text_of(
    name: str, buckets: list[str], labels: _Labels, histogram: HistogramState, examples: Mapping[int, str]
) -> str:
    """The lines of a histogram; none for a histogram that has counted nothing."""
    total = sum(histogram.counts)
    if not total:
        return ""
    before, behind = labels.around("le")
    lines = buckets.copy()
    lines[1::2] = _ends(histogram.counts, behind, examples)
    text = "".join(lines)
    if before != _BEFORE:
        text = text.replace(f"{name}_bucket{_BEFORE}", f"{name}_bucket{before}")
    seconds = _number(fsum(histogram.seconds))
    return f"{text}{name}_count{labels.text} {_number(total)}\n{name}_sum{labels.text} {seconds}\n"


def _ends(counts: Iterable[int], behind: str, examples: Mapping[int, str]) -> list[str]:
    """The ends of the lines of a histogram's buckets. Most buckets have as many as the bucket before."""
    if examples:
        totals = enumerate(itertools.accumulate(counts))
        return [f"{behind} {_number(total)}{examples.get(bucket, '')}\n" for bucket, total in totals]
    ends, total, end = list[str](), 0, f"{behind} 0.0\n"
    for count in counts:
        if count:
            total += count
            end = f"{behind} {_number(total)}\n"
        ends.append(end)
    return ends


_BEFORE = "{"  # stands before the bound of a bucket if the bound is the first label, as `le` is before `service`


@functools.cache
def _buckets(name: str, bounds: tuple[float, ...]) -> list[str]:
    """The lines of a histogram's buckets: the beginning of a line, and room for the end, in turns. To write each line
    by itself takes four times as long."""
    return [part for limit in _limits(bounds) for part in (f'{name}_bucket{_BEFORE}le="{limit}"', "")]


@functools.cache
def _limits(bounds: tuple[float, ...]) -> list[str]:
    """Upper bounds as texts: to write a float takes as long as the rest of the line."""
    return [*map(str, bounds), "+Inf"]


def _by_label(label: str, values: Mapping[str, float]) -> _Series:
    return [(_labels(**{label: key}).text, value) for key, value in values.items()]


def _labels(**values: str) -> _Labels:
    return _Labels(*[f'{name}="{_escaped(value)}"' for name, value in values.items()])


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


_SMALL: dict[float, str] = {number: f"{number}.0" for number in range(1024)}


def _number(value: float) -> str:
    """As floatToGoString(), in a fifth of the time for most numbers."""
    if text := _SMALL.get(value):
        return text
    if value < LEAST_EXPONENT:
        if type(value) is not float:
            return f"{+value}.0"  # + makes a number of True
        if value >= 0:
            return repr(value)
    return floatToGoString(value)  # type: ignore[no-any-return, no-untyped-call]
