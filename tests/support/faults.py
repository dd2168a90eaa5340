"""Faults on real processes: upstreams that can be killed, stopped and switched, a gateway in front of them, and a load
that writes down what its clients see.

    Load ──► gateway ──► Upstream a, b, c (tests/real/faults_server.py)

A fault test breaks one upstream while the load runs, mends it again, and prints a line of what clients saw:
see `Load.report()`. The load is counted in requests, and the tests judge by counts and by the order of events, because
a busy machine may stop any of the processes for seconds.
"""

import asyncio
import contextlib
import functools
import json
import math
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from tests.support.ports import free_port
from tests.support.websockets import ENVIRONMENT, PROGRAMS

PATIENCE = 30.0  # seconds until what must happen has happened
WINDOW = 100  # successive requests in which a share is a share
LEFT = 0.1  # of the traffic that an endpoint may still be tried with when the traffic has left it
STEP = 10  # requests; how exactly it is told when that was
BLOCKED = "the event loop is blocked"  # a warning of the gateway that a busy machine causes
BURST = 20  # requests that are sent at once when the load is late; what is later still is left out
MOST_OPEN = 250  # requests of a load without an answer: a busy machine slows the load down, and no queue grows


def within_uvloop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on uvloop only, because the gateway under test is a process of its own."""

    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(*args, **fixtures))  # type: ignore[arg-type]

    return run


async def until(holds: Callable[[], object], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not in {PATIENCE} s: {what}"
        await asyncio.sleep(0.01)


# ---------------------------------------------------------------- processes


class Upstream:
    """A process that serves.

    Attributes:
        address: where it listens.
        port: kept across restarts; 0 at first for any free port.
        certificate: files of a chain and a key; () for plain HTTP. Looked at when it starts.
    """

    def __init__(self, name: str, certificate: tuple[str, ...] = (), address: str = "127.0.0.1", port: int = 0) -> None:
        self.name, self.certificate = name, certificate
        self.address, self.port = address, port
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self.certificate else f"http://{self.address}:{self.port}"

    async def start(self) -> None:
        program = str(PROGRAMS / "faults_server.py")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, program, self.name, self.address, str(self.port), *self.certificate, stdin=PIPE, stdout=PIPE
        )
        self.port = int(await self._line())

    async def tell(self, **command: Any) -> dict[str, int]:
        """Send a command; return the upstream's counts."""
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return dict(json.loads(await self._line()))

    async def _line(self) -> bytes:
        assert self._process
        assert self._process.stdout
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        assert line, f"upstream {self.name} has ended"
        return line

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    async def kill(self) -> None:
        """kill -9, and gone."""
        process, self._process = self._process, None
        if process:
            process.kill()
            await process.communicate()


class Names:
    """The gateway's hosts file: DNS_HOSTS."""

    def __init__(self, file: Path, **addresses: Sequence[str]) -> None:
        self.file = file
        self.lead_to(**addresses)

    def lead_to(self, **addresses: Sequence[str]) -> None:
        """Give name.test these addresses from now on."""
        lines = [f"{address} {name}.test\n" for name, several in addresses.items() for address in several]
        written = self.file.with_suffix(".new")
        written.write_text("".join(lines))
        written.replace(self.file)  # at once: nobody reads half of it


@dataclass
class Stage:
    """The processes of a test.

    Attributes:
        port: of the gateway.
        log: file with the gateway's output.
    """

    upstreams: dict[str, Upstream]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def records(self) -> list[dict[str, Any]]:
        """The complete records of the gateway's log; any other line fails the test."""
        complete, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in complete.splitlines()]

    def attempts(self) -> dict[str, int]:
        """The number of attempts of each request, by request id."""
        return {each["requestId"]: each["attempts"] for each in self.records() if each.get("type") == "access"}

    def asked_last(self) -> dict[str, str]:
        """The upstream that was asked last for each request, by request id; "" for none."""
        names = {upstream.url: name for name, upstream in self.upstreams.items()}
        access = [each for each in self.records() if each.get("type") == "access"]
        return {each["requestId"]: names.get(each["endpoint"], "") for each in access}

    async def requests(self) -> int:
        """The number of requests that all upstreams have received."""
        counts = await asyncio.gather(*(upstream.tell() for upstream in self.upstreams.values()))
        return sum(count["requests"] for count in counts)


@contextlib.asynccontextmanager
async def staged(
    directory: Path,
    services: dict[str, dict[str, Any]] | None = None,
    upstreams: Sequence[Upstream] = (),
    names: Names | None = None,
    **variables: str,
) -> AsyncIterator[Stage]:
    """Upstreams a, b and c, if there are no others, and a gateway that has them all in each service.

    Args:
        services: options of each, which may be other endpoints; one service "svc" if there are none.
        names: that the gateway finds; None for those of the system.
        variables: of the gateway.
    """
    upstreams = upstreams or tuple(map(Upstream, "abc"))
    try:
        await asyncio.gather(*(upstream.start() for upstream in upstreams))
        endpoints = [upstream.url for upstream in upstreams]
        configured = {name: {"endpoints": endpoints} | options for name, options in (services or {"svc": {}}).items()}
        stage = Stage({upstream.name: upstream for upstream in upstreams}, free_port(), directory / "gateway.log")
        async with _gateway(stage, configured, names, variables):
            yield stage
    finally:
        await asyncio.gather(*(upstream.kill() for upstream in upstreams))


@contextlib.asynccontextmanager
async def _gateway(
    stage: Stage, services: dict[str, Any], names: Names | None, variables: dict[str, str]
) -> AsyncIterator[None]:
    settings = {
        "HOST": "127.0.0.1", "PORT": str(stage.port), "LOG_FORMAT": "json", "UPSTREAMS": json.dumps(services),
        "SHUTDOWN_TIMEOUT_MS": "1000", "DRAIN_SPREAD_MS": "0", "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "0",
        "DNS_HOSTS": str(names.file) if names else "",
    }  # fmt: skip
    with stage.log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tornado_gateway", env=ENVIRONMENT | settings | variables, stdout=log, stderr=log
        )
    try:
        await until(lambda: process.returncode is not None or _listens(stage.port), "the gateway listens")
        yield
        assert process.returncode is None, f"the gateway has ended: {stage.log.read_text()[-2000:]}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    assert process.returncode == 0
    assert not [record for record in stage.records() if record["level"] != "info" and BLOCKED not in record["message"]]


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.asynccontextmanager
async def black_hole(port: int) -> AsyncIterator[None]:
    """A listener with a full backlog that never accepts, so that connections get no answer at all."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(4):  # at once, before somebody else gets into the queue
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(("127.0.0.1", port))
        one_more = stack.enter_context(socket.socket())
        one_more.setblocking(False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.get_running_loop().sock_connect(one_more, ("127.0.0.1", port))
                raise AssertionError("the backlog is not full")
        yield


# ---------------------------------------------------------------- load


@dataclass(slots=True)
class Seen:
    """The result of a request for its client.

    Attributes:
        sent_at: instant.
        seconds: seconds until the complete answer; None before.
        status: status of the answer; 0 without an answer.
        by: upstream that answered; "" for the gateway.
        error: the fault in a few words; "" for none.
    """

    id: str
    sent_at: float
    seconds: float | None = None
    status: int = 0
    by: str = ""
    error: str = "unanswered"
    head: bytes = b""
    body: bytes = b""

    @property
    def ended_at(self) -> float:
        """Instant of the complete answer; math.inf before."""
        return math.inf if self.seconds is None else self.sent_at + self.seconds


class _Client(asyncio.Protocol):
    """A kept connection of the load."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._buffer = b""
        self._seen: Seen | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, seen: Seen) -> None:
        self._seen = seen
        self.transport.write(
            b"GET /api/%b/%b HTTP/1.1\r\nHost: gateway.example\r\nx-request-id: %b\r\n\r\n"
            % (self._load.service, seen.id.encode(), seen.id.encode())
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if self._seen is None or len(lengths) != 1 or len(rest) > (length := int(lengths[0].split(b":")[1])):
            self._end("broken")
        elif len(rest) == length:
            self._complete(head, rest)

    def _complete(self, head: bytes, body: bytes) -> None:
        seen, self._seen, self._buffer = self._seen, None, b""
        assert seen
        seen.status = int(head.split(b" ", 2)[1])
        name, _, target = body.decode().partition(" ")
        if target == f"/{seen.id}":
            seen.by = name
        seen.error = f"status {seen.status}" if seen.status != 200 else "" if seen.by else "another's answer"
        if seen.error:
            seen.head, seen.body = head, body
        seen.seconds = time.monotonic() - seen.sent_at
        self._load.ended += 1
        self._load.put(self, is_kept=b"\r\nconnection: close" not in head.lower())

    def _end(self, error: str) -> None:
        if self._seen:
            self._seen.error = error
            self._seen.seconds = time.monotonic() - self._seen.sent_at
            self._load.ended += 1
            self._seen = None
        self._load.put(self, is_kept=False)
        self.transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._end("cut off")


@dataclass
class Load:
    """GET requests at a fixed rate, whatever becomes of them, on as many kept connections as that takes.

    It is an asynchronous context manager, and ends when all have been answered.

    Attributes:
        rate: requests per second; fewer on a slow machine, never more.
        seen: in the order in which they were sent.
        ended: number of requests that were answered, or failed.
    """

    stage: Stage
    rate: int = 500
    name: str = "svc"
    seen: list[Seen] = field(default_factory=list, repr=False)

    async def __aenter__(self) -> "Load":
        self.service = self.name.encode()
        self._idle: list[_Client] = []
        self._open: set[_Client] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self.ended = 0
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sending
        try:
            deadline = time.monotonic() + PATIENCE
            while any(each.seconds is None for each in self.seen[-5000:]) and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
        finally:
            for task in self._connecting:
                task.cancel()
            for client in list(self._open):
                client.transport.abort()
            await asyncio.sleep(0)

    async def _send(self) -> None:
        """Send what is due, once in a few milliseconds."""
        begin, count = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - begin) * self.rate) - count
            count += due
            for _ in range(min(due, BURST, MOST_OPEN - (len(self.seen) - self.ended))):
                self._send_one()
            await asyncio.sleep(0.002)

    def _send_one(self) -> None:
        seen = Seen(f"{self.name}-{len(self.seen)}", time.monotonic())
        self.seen.append(seen)
        if self._idle:
            self._idle.pop().ask(seen)
        else:
            task = asyncio.create_task(self._connect(seen))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, seen: Seen) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, client = await loop.create_connection(lambda: _Client(self), "127.0.0.1", self.stage.port)
        except OSError:
            seen.error, seen.seconds = "refused", time.monotonic() - seen.sent_at
            self.ended += 1
            return
        self._open.add(client)
        client.ask(seen)

    def put(self, client: _Client, *, is_kept: bool) -> None:
        """Take back a client whose request has ended."""
        if is_kept:
            self._idle.append(client)
            return
        self._open.discard(client)
        if client in self._idle:
            self._idle.remove(client)

    async def passes(self, count: int) -> float:
        """Run the load until `count` further requests have ended; return the instant."""
        until_now = self.ended
        await until(lambda: self.ended >= until_now + count, f"{count} requests")
        return time.monotonic()

    async def until_answered(self, count: int) -> None:
        """Run the load until `count` further answers have come."""
        sent = len(self.seen)
        await until(lambda: sum(not each.error for each in self.seen[sent:]) >= count, f"{count} answers")

    # ---- what was seen

    def between(self, begin: float, end: float) -> list[Seen]:
        """The requests sent between two instants."""
        return [each for each in self.seen if begin <= each.sent_at < end]

    def errors(self, begin: float = 0.0, end: float = float("inf")) -> Counter[str]:
        """The errors, counted by kind."""
        return Counter(each.error for each in self.between(begin, end) if each.error)

    async def until_back(self, name: str) -> float:
        """Wait until an upstream that has just been mended is used again; return the seconds that this took."""
        since, sent = time.monotonic(), len(self.seen)

        def used() -> list[Seen]:
            return [each for each in self.seen[sent:] if each.by == name and not each.error]

        await until(used, f"{name} is used again")
        return used()[0].sent_at - since

    def busiest(self) -> str:
        """The upstream with most of the last answers."""
        recent = Counter([each.by for each in self.seen if each.by][-WINDOW:])
        return recent.most_common(1)[0][0]

    def is_well(self, since: float) -> bool:
        """Whether the last requests that were sent after an instant and answered were answered well."""
        sent = [each for each in self.between(since, math.inf) if each.seconds is not None][-WINDOW:]
        return len(sent) == WINDOW and not any(each.error for each in sent)

    async def until_left(self, name: str, begin: float) -> float:
        """Wait until the traffic has left an upstream that broke at `begin`; return the seconds that this took."""
        async with asyncio.timeout(PATIENCE):
            while (left := self.left(name, begin)) is None:
                await self.passes(WINDOW)
        return left

    def left(self, name: str, begin: float, end: float = math.inf) -> float | None:
        """Seconds until the traffic had left an upstream that broke at `begin`: until of WINDOW requests that followed
        no more than LEFT met it. None if it had not at `end`. A request has met it that it answered, that was sent more
        than once, or that failed or has not ended.
        """
        attempts = self.stage.attempts()
        sent = self.between(begin, end)
        met = [bool(each.by == name or each.error or attempts.get(each.id, 1) > 1) for each in sent]
        for first in range(0, len(sent) - WINDOW + 1, STEP):
            if sum(met[first : first + WINDOW]) <= LEFT * WINDOW:
                return sent[first].sent_at - begin
        return None

    @property
    def longest(self) -> float:
        """The greatest duration of an answered request in seconds."""
        return max(each.seconds or 0.0 for each in self.seen)

    def report(self, fault: str, *more: str) -> None:
        """Print the results; pytest -s shows them."""
        errors = ", ".join(f"{count} x {kind}" for kind, count in self.errors().most_common()) or "none"
        seen = (f"{len(self.seen)} requests", f"errors: {errors}", f"longest {self.longest * 1000:.0f} ms", *more)
        print(f"\n{fault}: {'; '.join(seen)}", end="")  # noqa: T201


def after(what: str, seconds: float | None) -> str:
    """For a report."""
    return f"not {what}" if seconds is None else f"{what} after {seconds:.2f} s"
