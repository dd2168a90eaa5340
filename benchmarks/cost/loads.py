"""Loads on a proxy, and what one run of them tells.

A load is anything with the two methods of Load: a bounded number of connections, for a
bounded time. Requests are made by wrk, with the header fields a browser sends; streams are
opened by a program of our own, stream_load.py, which is also the service behind them.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

from benchmarks.cost.peers import EVENTS_PATH, PREFIX, SOCKET_PATH
from benchmarks.cost.stream_load import Report, Work
from benchmarks.cost.upstream import BODY_BYTES
from benchmarks.machine import descriptor_limit
from benchmarks.processes import Child, ChildFailed
from benchmarks.programs import FROM_ROOT, WRK, our_own
from benchmarks.readiness import HOST, wait_until_served

BROWSER_FIELDS = (
    "Accept: application/json",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.8",
    "Cookie: session=4f9c1b7e2a6d48d0b3a5c8e1f7092d64; theme=light",
    "Referer: http://localhost/orders?page=2",
    "Sec-Fetch-Mode: cors",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "X-Client-Version: 7.1.0",
)

WARM_UP = 1  # seconds; pools fill, caches and branch predictors settle
OVERTIME = 20.0  # seconds that wrk may need beyond its time to end
SPARE_DESCRIPTORS = 100  # of a proxy, and of a load, beside two for each stream
STREAM_OVERTIME = 90.0  # the same for streams, which must be opened first, by the thousand


@dataclass(frozen=True, slots=True)
class Target:
    """A proxy under load.

    Attributes:
        proxy: the process tree that is measured.
        port: it listens on, on loopback.
        stream_port: where it expects the service behind event streams and WebSockets, which is part of the load.
        core: for the load, not the proxy's own.
        directory: for the load's files.
    """

    proxy: Child
    port: int
    stream_port: int
    core: int
    directory: Path


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run told.

    Attributes:
        cost: in the scenario's own unit, per piece of work.
        done: pieces of work: requests, events, round trips; or connections, where it is these that cost.
        rate: pieces of work per second.
        p50, p99: latency in seconds; None where there is none.
        errors: failed pieces of work, of any kind.
        fault: what the first error was, if that is known, else "".
        resident_kib: the proxy's memory at the end of the run.
    """

    cost: float
    done: int
    rate: float
    p50: float | None
    p99: float | None
    errors: int
    resident_kib: int
    fault: str = ""


# By scenario and peer, in the order of the tables.
Results = dict[str, dict[str, list[Sample]]]


class Load(Protocol):
    """Work for a proxy."""

    def check(self, target: Target) -> None:
        """Wait until the proxy does this work correctly. Raises ChildFailed if it does not."""

    def run(self, target: Target, seconds: int) -> Sample:
        """Load the proxy for so long. Raises ChildFailed if nothing could be measured."""


@dataclass(frozen=True, slots=True)
class WrkReport:
    """What wrk printed.

    Attributes:
        requests: answered completely.
        rate: requests per second.
        p50, p99: latency in seconds; None if nothing was answered.
        errors: failed connects, reads and writes, timeouts, and answers that are not 2xx or 3xx.
    """

    requests: int
    rate: float
    p50: float | None
    p99: float | None
    errors: int


_REQUESTS = re.compile(r"^\s*(\d+) requests in ", re.MULTILINE)
_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)", re.MULTILINE)
_PERCENTILE = r"^\s+{}(?:\.0+)?%\s+(\S+)\s*$"
_ERRORS = re.compile(r"^\s*(?:Socket errors:.*|Non-2xx or 3xx responses:.*)$", re.MULTILINE)
_COUNT = re.compile(r"\b\d+\b")  # not those of "2xx"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """A duration as wrk prints it, in seconds.

    Raises:
        ValueError: it is none.

    >>> parse_duration("250.00ms"), parse_duration("1.5m")
    (0.25, 90.0)
    """
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a duration")
    return float(match[1]) * _SECONDS[match[2]]


def parse_wrk(text: str) -> WrkReport:
    """Read what wrk --latency printed.

    Raises:
        ValueError: it is not a report.
    """
    requests, rate = _REQUESTS.search(text), _RATE.search(text)
    if not (requests and rate):
        raise ValueError("wrk printed no report")
    return WrkReport(
        requests=int(requests[1]),
        rate=float(rate[1]),
        p50=_percentile(text, 50),
        p99=_percentile(text, 99),
        errors=sum(int(count) for line in _ERRORS.findall(text) for count in _COUNT.findall(line)),
    )


def _percentile(text: str, percent: int) -> float | None:
    match = re.search(_PERCENTILE.format(percent), text, re.MULTILINE)
    return parse_duration(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Requests:
    """GETs by wrk, as fast as they are answered.

    Attributes:
        path: one that the upstream serves.
        connections: at the same time.
        fields: header fields beside the browser's own.
    """

    path: str
    connections: int
    fields: tuple[str, ...] = ()

    def check(self, target: Target) -> None:
        wait_until_served(target.proxy, target.port, PREFIX + self.path, BODY_BYTES[self.path])

    def run(self, target: Target, seconds: int) -> Sample:
        self._wrk(target, WARM_UP)
        before = target.proxy.cpu_seconds()
        report = self._wrk(target, seconds)
        used = target.proxy.cpu_seconds() - before
        if target.proxy.has_ended():
            raise ChildFailed(f"ended under load; it said: {target.proxy.last_words()}")
        if not report.requests:
            raise ChildFailed(f"answered no request in {seconds} s, with {report.errors} errors")
        return Sample(
            cost=used / report.requests * 1e6,
            done=report.requests,
            rate=report.rate,
            p50=report.p50,
            p99=report.p99,
            errors=report.errors,
            resident_kib=target.proxy.resident_kib(),
        )

    def _wrk(self, target: Target, seconds: int) -> WrkReport:
        url = f"http://{HOST}:{target.port}{PREFIX}{self.path}"
        argv = WRK.argv("--latency", "--timeout", "10s", "-t", "1", "-c", str(self.connections), "-d", f"{seconds}s")
        for field in (*BROWSER_FIELDS, *self.fields):
            argv += ["-H", field]
        with Child([*argv, url], target.core, target.directory / "wrk.log") as wrk:
            if not wrk.wait(seconds + OVERTIME):
                raise ChildFailed(f"wrk was still running {OVERTIME:.0f} s after its time")
            try:
                return parse_wrk(wrk.log.read_text(errors="replace"))
            except ValueError as error:
                raise ChildFailed(f"{error}; it said: {wrk.last_words()}") from error


@dataclass(frozen=True, slots=True)
class Streams:
    """Event streams, or WebSockets on which a message is sent back and forth.

    Attributes:
        kind: which of them.
        connections: at the same time.
        size: bytes of an event's data, or of a message.
        rate: events per second and event stream; on WebSockets, messages go as fast as they are answered.
        idle: whether nothing flows, and what is measured is the proxy's memory per connection.
    """

    kind: Literal["sse", "ws"]
    connections: int
    size: int
    rate: float = 0.0
    idle: bool = False

    def check(self, target: Target) -> None:
        """The streams themselves are checked as they run: every event and every echo.

        Raises:
            ChildFailed: also if so many connections cannot be.
        """
        needed = 2 * self.connections + SPARE_DESCRIPTORS
        if needed > descriptor_limit():
            raise ChildFailed(f"needs {needed:,} descriptors (ulimit -n), and {descriptor_limit():,} are allowed")
        wait_until_served(target.proxy, target.port, PREFIX + "small", BODY_BYTES["small"])

    def run(self, target: Target, seconds: int) -> Sample:
        report = self._load(target, seconds)
        if target.proxy.has_ended():
            raise ChildFailed(f"ended under load; it said: {target.proxy.last_words()}")
        if not report.done:
            raise ChildFailed(f"did no work in {seconds} s: {report.first_fault or 'nothing came'}")
        return Sample(
            cost=report.grown_kib / report.done if self.idle else report.cpu_seconds / report.done * 1e6,
            done=report.done,
            rate=report.done / report.seconds,
            p50=report.p50,
            p99=report.p99,
            errors=report.errors,
            resident_kib=target.proxy.resident_kib(),
            fault=report.first_fault,
        )

    def _load(self, target: Target, seconds: int) -> Report:
        work = Work(
            kind=self.kind,
            path=EVENTS_PATH if self.kind == "sse" else SOCKET_PATH,
            port=target.port,
            service_port=target.stream_port,
            session=target.proxy.session,
            connections=self.connections,
            size=self.size,
            rate=self.rate,
            idle=self.idle,
            warm_up=WARM_UP,
            seconds=seconds,
        )
        argv = our_own("benchmarks.cost.stream_load", json.dumps(asdict(work)))
        with Child(argv, target.core, target.directory / "stream_load.log", FROM_ROOT) as load:
            if not load.wait(seconds + STREAM_OVERTIME):
                raise ChildFailed(f"the load was still running {STREAM_OVERTIME:.0f} s after its time")
            try:
                return parse_report(load.log.read_text(errors="replace"))
            except ValueError as error:
                raise ChildFailed(f"{error}; it said: {load.last_words()}") from error


def parse_report(text: str) -> Report:
    """Read what stream_load.py printed: its last line is the report.

    Raises:
        ValueError: it is none.
    """
    last = text.rstrip().rpartition("\n")[2]
    try:
        return Report(**json.loads(last))
    except (ValueError, TypeError) as error:
        raise ValueError("the load printed no report") from error
