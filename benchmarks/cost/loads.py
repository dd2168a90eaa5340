"""Loads on a proxy, and the result of a run.

A load opens a bounded number of connections for a bounded time. wrk makes requests, with the header fields of a
browser. stream_load.py opens streams, and is also the service of streams.
"""

import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

from benchmarks.cost import handshake_load
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

# A script of wrk that gives each request of a run a query of its own. The beginning tells the run from the warm-up.
VARIED = """\
local count = 0
request = function()
  count = count + 1
  return wrk.format(nil, wrk.path .. "?%d." .. count)
end
"""

# A script of wrk that makes each request a POST.
POSTING = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '%s'
"""

WARM_UP = 1  # seconds; fills pools, caches and branch predictors
OVERTIME = 20.0  # seconds after its time within which wrk must end
SPARE_DESCRIPTORS = 100  # descriptors of a proxy or a load beside two per stream
STREAM_OVERTIME = 90.0  # seconds after its time within which a load of streams must end; opening thousands takes long


@dataclass(frozen=True, slots=True)
class Target:
    """A proxy under load.

    Attributes:
        proxy: the process tree to measure.
        port: the proxy's port on loopback.
        stream_port: port of the service of streams, which is part of the load.
        core: core for the load; not the proxy's.
        directory: directory for the load's files.
        tls: whether the proxy speaks TLS.
    """

    proxy: Child
    port: int
    stream_port: int
    core: int
    directory: Path
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """The result of a run.

    Attributes:
        cost: cost per piece of work in the scenario's unit.
        done: number of pieces of work: requests, events, round trips, or idle connections.
        rate: pieces of work per second.
        p50, p99: latencies in seconds; None for idle connections.
        errors: number of failed pieces of work.
        fault: the first error; "" if unknown.
        resident_kib: the proxy's resident memory at the end of the run.
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
        """Wait until the proxy does this work correctly. Raises ChildFailed if the proxy fails."""

    def run(self, target: Target, seconds: int) -> Sample:
        """Load the proxy for `seconds`. Raises ChildFailed if nothing could be measured."""


@dataclass(frozen=True, slots=True)
class WrkReport:
    """The report of wrk.

    Attributes:
        requests: number of complete responses.
        rate: requests per second.
        p50, p99: latencies in seconds; None without a response.
        errors: failed connects, reads and writes, timeouts, and responses other than 2xx and 3xx.
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
_COUNT = re.compile(r"\b\d+\b")  # not the digit of "2xx"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Parse a duration of wrk's report into seconds.

    Raises:
        ValueError: the text is no duration.

    >>> parse_duration("250.00ms"), parse_duration("1.5m")
    (0.25, 90.0)
    """
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a duration")
    return float(match[1]) * _SECONDS[match[2]]


def parse_wrk(text: str) -> WrkReport:
    """Parse the output of wrk --latency.

    Raises:
        ValueError: the text is no report.
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
    """A load of GETs, or of POSTs, by wrk, as fast as the proxy answers. Over TLS, wrk resumes sessions.

    Attributes:
        path: path below PREFIX; see upstream.py.
        connections: number of connections at a time.
        fields: header fields beside BROWSER_FIELDS.
        varied: whether each request has a query of its own.
        is_kept: whether the proxy keeps every answer, and the proxy's memory per answer is measured.
        posts: JSON without "'" that each request posts; "" for GETs.
        is_met_first: whether each request has a connection of its own with a whole handshake of TLS.
    """

    path: str
    connections: int
    fields: tuple[str, ...] = ()
    varied: bool = False
    is_kept: bool = False
    posts: str = ""
    is_met_first: bool = False

    def check(self, target: Target) -> None:
        wait_until_served(target.proxy, target.port, PREFIX + self.path, BODY_BYTES[self.path], tls=target.tls)

    def run(self, target: Target, seconds: int) -> Sample:
        load = self._handshakes if self.is_met_first else self._wrk
        load(target, WARM_UP)
        before, resident = target.proxy.cpu_seconds(), target.proxy.resident_kib()
        report = load(target, seconds)
        used, grown = target.proxy.cpu_seconds() - before, target.proxy.resident_kib() - resident
        if target.proxy.has_ended():
            raise ChildFailed(f"ended under load; it said: {target.proxy.last_words()}")
        if not report.requests:
            raise ChildFailed(f"answered no request in {seconds} s, with {report.errors} errors")
        return Sample(
            cost=(grown if self.is_kept else used * 1e6) / report.requests,
            done=report.requests,
            rate=report.rate,
            p50=report.p50,
            p99=report.p99,
            errors=report.errors,
            resident_kib=target.proxy.resident_kib(),
        )

    def _wrk(self, target: Target, seconds: int) -> WrkReport:
        url = f"{'https' if target.tls else 'http'}://{HOST}:{target.port}{PREFIX}{self.path}"
        argv = WRK.argv("--latency", "--timeout", "10s", "-t", "1", "-c", str(self.connections), "-d", f"{seconds}s")
        for field in (*BROWSER_FIELDS, *self.fields):
            argv += ["-H", field]
        text = POSTING % self.posts if self.posts else VARIED % time.time_ns() if self.varied else ""
        if text:
            script = target.directory / "load.lua"
            script.write_text(text)
            argv += ["-s", str(script)]
        with Child([*argv, url], target.core, target.directory / "wrk.log") as wrk:
            if not wrk.wait(seconds + OVERTIME):
                raise ChildFailed(f"wrk was still running {OVERTIME:.0f} s after its time")
            try:
                return parse_wrk(wrk.log.read_text(errors="replace"))
            except ValueError as error:
                raise ChildFailed(f"{error}; it said: {wrk.last_words()}") from error

    def _handshakes(self, target: Target, seconds: int) -> WrkReport:
        fields = (*BROWSER_FIELDS, *self.fields)
        work = handshake_load.Handshakes(HOST, target.port, PREFIX + self.path, fields, self.connections, seconds)
        argv = our_own("benchmarks.cost.handshake_load", json.dumps(asdict(work)))
        with Child(argv, target.core, target.directory / "handshakes.log", FROM_ROOT) as load:
            if not load.wait(seconds + OVERTIME):
                raise ChildFailed(f"the load was still running {OVERTIME:.0f} s after its time")
            try:
                return parse_handshakes(load.log.read_text(errors="replace"), seconds)
            except ValueError as error:
                raise ChildFailed(f"{error}; it said: {load.last_words()}") from error


def parse_handshakes(text: str, seconds: float) -> WrkReport:
    """Parse the output of handshake_load.py.

    Raises:
        ValueError: the last line is no report.
    """
    try:
        report = handshake_load.Report(**json.loads(text.rstrip().rpartition("\n")[2]))
    except (ValueError, TypeError) as error:
        raise ValueError("the load printed no report") from error
    done, latencies = report.requests, sorted(report.latencies)
    return WrkReport(
        requests=done,
        rate=done / seconds,
        p50=latencies[done // 2] if done else None,
        p99=latencies[done * 99 // 100] if done else None,
        errors=report.errors,
    )


@dataclass(frozen=True, slots=True)
class Streams:
    """A load of event streams, or of WebSockets with a message going back and forth.

    Attributes:
        kind: "sse" or "ws".
        connections: number of connections at a time.
        size: bytes of an event's data or of a message.
        rate: events per second and event stream; WebSockets send the next message when the echo has come.
        idle: whether connections are silent and the proxy's memory per connection is measured.
    """

    kind: Literal["sse", "ws"]
    connections: int
    size: int
    rate: float = 0.0
    idle: bool = False

    def check(self, target: Target) -> None:
        """Wait until the proxy answers a small GET; events and echoes are checked during the run.

        Raises:
            ChildFailed: the proxy does not answer, or the limit of descriptors is too low for the connections.
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
    """Parse the output of stream_load.py, whose last line is the report.

    Raises:
        ValueError: the last line is no report.
    """
    last = text.rstrip().rpartition("\n")[2]
    try:
        return Report(**json.loads(last))
    except (ValueError, TypeError) as error:
        raise ValueError("the load printed no report") from error
