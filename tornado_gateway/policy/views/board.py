"""The figures of services and endpoints as the dashboard shows the figures: rows, a sentence, and events.

A Board remembers since when each endpoint and each service is in its state, and tells each change as an event. Reading
is pure otherwise: a Board decides nothing, and nothing decides by a Board.
"""

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tornado_gateway.policy.upstream.breaker import State as BreakerState
from tornado_gateway.policy.upstream.endpoint import FAILURE
from tornado_gateway.policy.upstream.statistics import Minute
from tornado_gateway.policy.views.feed import Row
from tornado_gateway.policy.views.sparks import Spark
from tornado_gateway.policy.views.state import BREAKER_STATES, EndpointState, ServiceState, State
from tornado_gateway.policy.views.steps import Steps

EVENTS = 200  # the newest events that are kept
AT_ONCE = 50  # events of a look, and then one event that tells how many more there were
MOST_TROUBLES = 5  # services in the sentence: nobody reads a sentence of a thousand
MANY, MUCH = 5, 0.1  # failures of a minute, and their share, from which on the sentence tells that requests fail

_FAILED = FAILURE.value  # to ask the member takes 100 ns

SERVICE_COLUMNS = (
    "service", "state", "since", "why", "endpoints", "out", "rate", "errorShare", "p50Ms", "p95Ms", "p99Ms",
    "requests", "eventStreams", "webSockets", "waiting", "panic", "total", "failures", "spark",
)  # fmt: skip
ENDPOINT_COLUMNS = (
    "service", "url", "state", "since", "why", "rate", "errorShare", "p50Ms", "p95Ms", "p99Ms", "requests",
    "eventStreams", "webSockets", "breaker", "openUntil", "check", "weight", "share", "total", "failures", "retries",
    "lastFailure", "spark",
)  # fmt: skip

UP, JOINING, DRAINED, PROBED, OUT = "up", "joining", "drained", "probed", "out"  # of endpoints
DEGRADED, DOWN = "degraded", "down"  # of services, beside UP
GOOD, NOTE, WARNING, BAD = "good", "note", "warning", "bad"  # levels of events

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Event:
    """A change that an operator wants to know.

    Attributes:
        at: seconds since 1970.
        level: GOOD, NOTE, WARNING or BAD.
        text: a sentence.
    """

    at: float
    level: str
    text: str


@dataclass(slots=True)
class _Known:
    """What a Board remembers of a row: the state, and since when the row has the state."""

    state: str
    since: float


@dataclass(slots=True)
class Board:
    """The rows of the dashboard's tables.

    Attributes:
        services, endpoints: rows by key: the name of the service; the name and the URL.
        minute: the last minute of all endpoints together.
        events: the newest last.
    """

    services: dict[str, Row] = field(default_factory=dict)
    endpoints: dict[str, Row] = field(default_factory=dict)
    minute: Minute = field(default_factory=Minute)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS))
    _known: dict[str, _Known] = field(default_factory=dict)
    _troubles: list[str] = field(default_factory=list)
    _failing: list[str] = field(default_factory=list)
    _sparks: dict[str, Spark] = field(default_factory=dict)

    def update(self, state: State, at: float) -> Steps[list[Event]]:
        """Read the figures. The rows are replaced at the end, all at once.

        Args:
            at: seconds since 1970.

        Returns:
            The new events.
        """
        look = _Look(at, self._known, self._sparks)
        for name, service in state.services.items():
            yield from look.add(name, service)
        is_first = not self._known  # the first look finds everything new, and nothing has happened
        self.services, self.endpoints, self._known, self._sparks = (
            look.services,
            look.endpoints,
            look.known,
            look.sparks,
        )
        self.minute, self._troubles, self._failing = look.minute, look.troubles, look.failing
        events = [] if is_first else _bounded(look.events)
        self.events.extend(events)
        return events

    def tell(self, events: list[Event]) -> None:
        """Keep events of elsewhere."""
        self.events.extend(events)

    @property
    def sentence(self) -> str:
        """The health of everything in a sentence."""
        if not self.services:
            return ""
        all_up = f"All {len(self.endpoints)} endpoints of {len(self.services)} services are up"
        parts = [*(self._troubles or [all_up]), *self._failing]
        more = len(parts) - MOST_TROUBLES
        return "; ".join([*parts[:MOST_TROUBLES], *([f"and {more} more services"] if more > 0 else [])])


@dataclass(slots=True)
class _Look:
    """A look under way: what will be the Board's.

    Attributes:
        at: seconds since 1970.
        before, sparks_before: what the Board remembers.
    """

    at: float
    before: Mapping[str, _Known]
    sparks_before: Mapping[str, Spark]
    services: dict[str, Row] = field(default_factory=dict)
    endpoints: dict[str, Row] = field(default_factory=dict)
    minute: Minute = field(default_factory=Minute)
    events: list[Event] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    failing: list[str] = field(default_factory=list)
    known: dict[str, _Known] = field(default_factory=dict)
    sparks: dict[str, Spark] = field(default_factory=dict)

    def add(self, name: str, service: ServiceState) -> Steps[None]:
        """Read a service."""
        out: list[tuple[str, float]] = []
        all_total = all_failed = 0
        for url, endpoint in service.endpoints.items():
            key, state, why = f"{name} {url}", state_of(endpoint), reason_of(endpoint)
            since = self._since(key, state, why)
            total, failed = sum(endpoint.outcomes.values()), endpoint.outcomes[_FAILED]
            all_total, all_failed = all_total + total, all_failed + failed
            cells = _endpoint_cells(name, url, endpoint, state, since, self.at)
            self.endpoints[key] = _row(state, (*cells, self._spark(key, total, failed)))
            if state in (OUT, PROBED):  # until a probe succeeds: otherwise a service would be well for each probe
                out.append((why, since))
            yield
        state, why = _service_state(service, out)
        minute = Minute.of(each.minute for each in service.endpoints.values())
        self.minute.add(minute)
        cells = _service_cells(name, service, minute, state, self._since(name, state, why), why, len(out))
        self.services[name] = _row(state, (*cells, self._spark(name, all_total, all_failed)))
        if out:
            self.troubles.append(_trouble(name, len(service.endpoints), out, self.at))
        elif failing := _failing(name, minute, service.endpoints.values()):
            self.failing.append(failing)

    def _spark(self, key: str, total: int, failed: int) -> str:
        """The course of a row's requests."""
        self.sparks[key] = spark = self.sparks_before.get(key) or Spark()
        return spark.note(total, failed, self.at)

    def _since(self, key: str, state: str, why: str) -> float:
        """The instant since which a row is in its state."""
        before = self.before.get(key)
        if before and _is_as_before(before.state, state):
            self.known[key] = before
            return before.since
        self.known[key] = _Known(state, self.at)
        if before:
            because = f": {why}" if why and state in (OUT, DOWN, DEGRADED) else ""
            self.events.append(Event(self.at, _LEVELS[state], f"{key} is {state}{because}"))
        return self.at


def _bounded(events: list[Event]) -> list[Event]:
    """The events of a look, and the number of the events that are left out: when a network fails, a thousand endpoints
    fail at once."""
    more = len(events) - AT_ONCE
    if more <= 0:
        return events
    return [*events[:AT_ONCE], Event(events[0].at, WARNING, f"{more} more changes at once: see the table")]


def _is_as_before(before: str, state: str) -> bool:
    """Whether two states are one to an operator: an endpoint that is out is probed now and then."""
    return before == state or {before, state} == {OUT, PROBED}


_LEVELS = {
    UP: GOOD, JOINING: GOOD, DRAINED: WARNING, PROBED: WARNING, OUT: BAD, DEGRADED: WARNING, DOWN: BAD,
}  # fmt: skip


def state_of(endpoint: EndpointState) -> str:
    """The state of an endpoint in a word: UP, JOINING, DRAINED, PROBED or OUT."""
    return word_of(BREAKER_STATES[endpoint.breaker], endpoint.weight, endpoint.share, checks_fail=endpoint.check[0])


def word_of(breaker: BreakerState, weight: int, share: float, *, checks_fail: bool) -> str:
    """See state_of(). The worst counts: an endpoint that is drained and fails is out."""
    if checks_fail or breaker is BreakerState.OPEN:
        return OUT
    if breaker is BreakerState.HALF_OPEN:
        return PROBED
    if not weight:
        return DRAINED
    return UP if share >= 1 else JOINING


def reason_of(endpoint: EndpointState) -> str:
    """Why an endpoint is out, in words; "" for an endpoint that is not known to fail."""
    checks_fail, check = endpoint.check
    return (check if checks_fail else endpoint.failure).replace("_", " ")


def _service_state(service: ServiceState, out: list[tuple[str, float]]) -> tuple[str, str]:
    if not service.endpoints:
        return DOWN, "no endpoint"
    if not out:
        return UP, ""
    return DOWN if len(out) == len(service.endpoints) else DEGRADED, out[0][0]


def _trouble(name: str, endpoints: int, out: list[tuple[str, float]], at: float) -> str:
    """The trouble of a service in a clause.

    >>> _trouble("billing", 3, [("connect failed", 60.0)], 100.0)
    'billing: 1 of 3 endpoints is out: connect failed for 40 s'
    """
    reasons = ", ".join(dict.fromkeys(reason for reason, _ in out if reason)) or "failed"
    longest = at - min(since for _, since in out)
    return f"{name}: {len(out)} of {endpoints} endpoints {_are(len(out))} out: {reasons} for {_duration(longest)}"


def _failing(name: str, minute: Minute, endpoints: Iterable[EndpointState]) -> str:
    """What a service whose endpoints are all up has of failed requests, if many have failed; else ""."""
    if minute.errors < MANY or minute.error_rate < MUCH:
        return ""
    failing = [each for each in endpoints if each.minute.errors]
    reasons = ", ".join(dict.fromkeys(reason_of(each) for each in failing if each.failure)) or "failed"
    return f"{name}: {minute.error_rate:.0%} of the last minute's requests failed: {reasons}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _duration(seconds: float) -> str:
    """Seconds in words.

    >>> _duration(40.2), _duration(125), _duration(7300)
    ('40 s', '2 min', '2 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min" if seconds < 7200 else f"{seconds // 3600:.0f} h"


def _row(state: str, cells: Iterable[Cell]) -> Row:
    return Row(state, json.dumps(list(cells), separators=(",", ":")))


def _endpoint_cells(
    name: str, url: str, endpoint: EndpointState, state: str, since: float, at: float
) -> Iterable[Cell]:
    """The cells of ENDPOINT_COLUMNS, without the last."""
    open_until = round(at + endpoint.open_for) if endpoint.open_for else 0
    return (
        name, url, state, round(since), reason_of(endpoint), *_figures(endpoint.minute), *endpoint.inflight.values(),
        BREAKER_STATES[endpoint.breaker].value, open_until, endpoint.check[1], endpoint.weight,
        round(endpoint.share, 2), sum(endpoint.outcomes.values()), endpoint.outcomes[_FAILED], endpoint.retries,
        endpoint.failure.replace("_", " "),
    )  # fmt: skip


def _service_cells(
    name: str, service: ServiceState, minute: Minute, state: str, since: float, why: str, out: int
) -> Iterable[Cell]:
    """The cells of SERVICE_COLUMNS, without the last."""
    return (
        name, state, round(since), why, len(service.endpoints), out, *_figures(minute), *service.inflight.values(),
        service.waiting, service.panicking, sum(service.requests.values()), service.requests.get("5xx", 0),
    )  # fmt: skip


def _figures(minute: Minute) -> Iterable[Cell]:
    """Rate per second, share of failures, and quantiles in milliseconds: three digits, so that noise changes no row."""
    quantiles = (None if each is None else _short(each * 1000) for each in minute.quantiles((0.5, 0.95, 0.99)))
    return (_short(minute.rate), _short(minute.error_rate), *quantiles)


def _short(value: float) -> float:
    return float(f"{value:.3g}")
