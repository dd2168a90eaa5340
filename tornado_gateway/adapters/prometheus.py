"""The figures of a gateway in Prometheus's text format, or as OpenMetrics.

A request counts nothing for Prometheus. A scrape renders a State as text; only the families `process_*` and `python_*`
come from prometheus_client, whose metric objects take four times as long for a thousand endpoints.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and the OpenMetrics 1.0 specification.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import fsum
from typing import NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from tornado_gateway.policy.http.negotiation import preferred
from tornado_gateway.policy.upstream.endpoint import FAILURE, Kind
from tornado_gateway.policy.views.durations import BOUNDS
from tornado_gateway.policy.views.state import EndpointState, ServiceState, State

_FORMATS = (CONTENT_TYPE_PLAIN_0_0_4.encode("ascii"), openmetrics.CONTENT_TYPE_LATEST.encode("ascii"))
LEAST_EXPONENT = 10**6  # from this number on, floatToGoString() writes an exponent
_LIMITS = (*map(str, BOUNDS), "+Inf")

T = TypeVar("T")
_Series = Iterable[tuple[str, float]]  # what follows the family's name, and the value
_Row = tuple[str, str, str, Callable[[T], float]]  # a family's name (without _total), type, help text; a series' value

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


class Metrics:
    """The body of a scrape.

    Args:
        collect: gives the figures at the instant of the call. The last minute may be missing.
    """

    def __init__(self, collect: Callable[[], State]) -> None:
        self._collect = collect
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def text(self, accept: Sequence[bytes]) -> tuple[bytes, str]:
        """The exposition and its media type: OpenMetrics if the client prefers the version that is rendered here.

        A client that accepts neither format gets text: text tells a misconfigured scraper more than a 406 does.

        Args:
            accept: the values of the request's Accept fields.
        """
        state = self._collect()
        if preferred(accept, _FORMATS) == _FORMATS[1]:
            process = openmetrics.generate_latest(self._process)  # type: ignore[no-untyped-call]
            return _text(state, headline="").encode() + process, openmetrics.CONTENT_TYPE_LATEST
        return _text(state, headline="_total").encode() + generate_latest(self._process), CONTENT_TYPE_PLAIN_0_0_4


class _Family(NamedTuple):
    name: str
    kind: str
    documentation: str
    series: _Series


def _text(state: State, headline: str) -> str:
    """The families of the gateway.

    Args:
        headline: what follows the name of a counter in HELP and TYPE. The two formats differ in nothing else.
    """
    lines: list[str] = []
    for name, kind, documentation, series in _families(state):
        is_counter = kind == "counter"
        of_all, of_each = (name + headline, name + "_total") if is_counter else (name, name)
        lines += (f"# HELP {of_all} {documentation}\n", f"# TYPE {of_all} {kind}\n")
        lines += [f"{of_each}{labels} {_number(value)}\n" for labels, value in series]
    return "".join(lines)


def _families(state: State) -> Iterator[_Family]:
    yield _Family(
        "gateway_http_request_duration_seconds",
        "histogram",
        "Seconds from a request's head to the end of its response; of streams, to the head of the response.",
        _request_durations(state),
    )
    yield _Family("gateway_websocket_connections", "gauge", "Open WebSockets.", [("", _open_websockets(state))])
    yield _Family("gateway_rate_limited", "counter", "Requests above a rate limit.", _limited(state))
    yield _Family("gateway_rate_limit_keys", "gauge", "Keys of rate limits in memory.", [("", state.limits.keys)])
    yield _Family("gateway_rate_limit_store_errors", "counter", "Failures of Redis.", [("", state.limits.store_errors)])
    yield _Family(
        "gateway_rate_limit_store_up",
        "gauge",
        "1 unless the counters of rate limits are in Redis and Redis is away.",
        [("", not state.limits.store_is_away)],
    )
    yield _Family(
        "gateway_rate_limit_dropped_keys",
        "counter",
        "Keys dropped while their limit was in use, because the memory was full.",
        [("", state.limits.dropped)],
    )
    yield _Family(
        "gateway_in_flight", "gauge", "Requests and streams that the gateway works on.", _in_flight_in_all(state)
    )
    yield _Family(
        "gateway_shed", "counter", "Requests refused because of overload.", _by_label("class", state.process.shed)
    )
    yield _Family(
        "gateway_event_loop_delay_seconds",
        "gauge",
        "How late the event loop was in the last ten seconds.",
        _by_label("quantile", state.process.loop_delay),
    )
    services = [(_labels(service=name), service) for name, service in state.services.items()]
    yield from _of_each(_OF_A_SERVICE, services)
    yield _Family("gateway_upstream_requests", "counter", "Requests that ended, each counted once.", _outcomes(state))
    endpoints = [
        (_labels(endpoint=url, service=name), endpoint)
        for name, service in state.services.items()
        for url, endpoint in service.endpoints.items()
    ]
    yield from _of_each(_OF_AN_ENDPOINT, endpoints)
    yield _Family("gateway_upstream_inflight", "gauge", "Requests and streams in flight.", _in_flight(state))


def _of_each(table: Iterable[_Row[T]], labelled: Sequence[tuple[str, T]]) -> Iterator[_Family]:
    for name, kind, documentation, value in table:
        yield _Family(name, kind, documentation, ((labels, value(each)) for labels, each in labelled))


def _open_websockets(state: State) -> int:
    return sum(each.websockets.opened - each.websockets.closed for each in state.services.values())


def _limited(state: State) -> _Series:
    for key, count in state.limits.limited.items():
        outcome, policy = key.split(" ", 1)
        yield _labels(outcome=outcome, policy=policy), count


def _request_durations(state: State) -> _Series:
    for key, histogram in state.durations.items():
        method, status_code, route = key.split(" ", 2)
        labels = _labels(method=method, route=route, status_code=status_code)
        cumulative = [*itertools.accumulate(histogram.counts)]
        for limit, count in zip(_LIMITS, cumulative, strict=True):
            yield f'_bucket{{le="{limit}",{labels[1:]}', count
        yield f"_count{labels}", cumulative[-1]
        yield f"_sum{labels}", fsum(histogram.seconds)


def _outcomes(state: State) -> _Series:
    for name, service in state.services.items():
        for url, endpoint in service.endpoints.items():
            for outcome, count in endpoint.outcomes.items():
                yield _labels(endpoint=url, outcome=outcome, service=name), count


def _by_label(label: str, values: Mapping[str, float]) -> _Series:
    return [(_labels(**{label: key}), value) for key, value in values.items()]


def _in_flight_in_all(state: State) -> _Series:
    """Also what waits for an endpoint."""
    services = state.services.values()
    held = Counter({kind.value: sum(each.inflight[kind.value] for each in services) for kind in Kind})
    held[Kind.HTTP.value] += sum(each.waiting for each in services)
    return _by_label("kind", held)


def _in_flight(state: State) -> _Series:
    """Also at endpoints that have left, which other processes may still have."""
    for name, service in state.services.items():
        held: dict[tuple[str, str], int] = defaultdict(int)
        present = ((url, endpoint.inflight) for url, endpoint in service.endpoints.items())
        for url, inflight in (*present, *service.departing.items()):
            for kind, count in inflight.items():
                held[url, kind] += count
        for (url, kind), count in held.items():
            yield _labels(endpoint=url, kind=kind, service=name), count


def _labels(**values: str) -> str:
    """The labels of a series, which the caller names in alphabetical order."""
    return "{" + ",".join([f'{name}="{_escaped(value)}"' for name, value in values.items()]) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if type(value) is int and value < LEAST_EXPONENT:
        return f"{value}.0"  # what floatToGoString() says, in a third of the time
    return floatToGoString(value)  # type: ignore[no-any-return, no-untyped-call]
