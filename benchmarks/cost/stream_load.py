"""A load of event streams and WebSockets: the service of streams and its clients, in one process.

Usage: python -m benchmarks.cost.stream_load '<Work as JSON>' prints a Report as JSON. A single process for both ends is
cheap. The measured delay of an event is the proxy's delay and about 15 µs, since nothing else uses the core between
writing and reading.

    Service ◄──── the proxy ◄──── EventReader, one per event stream
                                  Pinger, one per WebSocket
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks import streams
from benchmarks.cost.stream_ends import Client, EventReader, EventSender, Pinger, Service, Tally
from benchmarks.processes import Tree
from benchmarks.readiness import HOST

OPENED_AT_ONCE = 50
BACKLOG = 4096
PATIENCE = 20.0  # seconds for connections to open, or for outstanding events and echoes to come
TICK = 0.001  # seconds between checks for due events; the resolution of the loop's timers


@dataclass(frozen=True, slots=True)
class Work:
    """The work to do, and the proxy to measure.

    Attributes:
        kind: "sse" or "ws".
        path: target that the proxy relays to the service.
        port: the proxy's port on loopback.
        service_port: port of the service, to which the proxy connects.
        session: number of the proxy's session, whose processes are measured.
        connections: number of connections at a time.
        size: bytes of an event's data (at least LEAST_EVENT) or of a message.
        rate: events per second and event stream; WebSockets send the next message when the echo has come.
        idle: whether connections are silent.
        warm_up: seconds of the same work before the measurement.
        seconds: duration of the measurement.
    """

    kind: Literal["sse", "ws"]
    path: str
    port: int
    service_port: int
    session: int
    connections: int
    size: int
    rate: float
    idle: bool
    warm_up: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """The result of the work.

    Attributes:
        done: number of events or round trips; of opened connections if idle.
        seconds: duration of the measurement; of the opening if idle.
        cpu_seconds: the proxy's CPU time during the measurement.
        grown_kib: growth of the proxy's resident memory since before the opening.
        p50, p99: seconds from writing to reading an event, or of a round trip; None if idle.
        errors: connections not opened or lost, and events or messages lost, repeated or changed.
        first_fault: the first error, or "".
    """

    done: int
    seconds: float
    cpu_seconds: float
    grown_kib: int
    p50: float | None
    p99: float | None
    errors: int
    first_fault: str


class Load:
    """Carries out a Work once."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.tally = Tally()
        self.proxy = Tree(work.session)
        self.senders: list[EventSender] = []
        self.services: list[Service] = []
        self.clients: list[Client] = []

    async def run(self) -> Report:
        """Listen, open the connections, work and measure."""
        loop, work = asyncio.get_running_loop(), self.work
        listener = await loop.create_server(self._service, HOST, work.service_port, backlog=BACKLOG)
        try:
            before = self.proxy.resident_kib()
            began = time.monotonic()
            await self._open()
            took = time.monotonic() - began
            return await (self._idle(before, took) if work.idle else self._busy(before))
        finally:
            self.tally.closing = True
            listener.close()
            for transport in [client.transport for client in self.clients] + [each.transport for each in self.services]:
                transport.abort()
            await asyncio.sleep(0)  # let them be closed

    def _service(self) -> Service:
        self.services.append(Service(self.tally, self.work.size, self.senders))
        return self.services[-1]

    async def _open(self) -> None:
        """Open the connections in groups; unopened connections become errors of the report."""
        loop, make, wanted = asyncio.get_running_loop(), self._client(), self.work.connections
        while len(self.clients) < wanted:
            some = min(OPENED_AT_ONCE, wanted - len(self.clients))
            made = await asyncio.gather(*[loop.create_connection(make, HOST, self.work.port) for _ in range(some)])
            self.clients += [client for _, client in made]
            if not await self._until(self._all_answered):
                return

    def _all_answered(self) -> bool:
        return all(client.opened or client.failed for client in self.clients[-OPENED_AT_ONCE:])

    def _client(self) -> Callable[[], Client]:
        work, tally = self.work, self.tally
        if work.kind == "sse":
            request = streams.stream_request(work.path, work.port)
            return lambda: EventReader(request, tally, work.size)
        request = streams.switch_request(work.path, work.port)
        return lambda: Pinger(request, tally, work.size)

    async def _until(self, condition: Callable[[], bool]) -> bool:
        """Wait up to PATIENCE until a condition holds; return whether the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.002)
        return True

    async def _busy(self, before_kib: int) -> Report:
        tally = self.tally
        with self._traffic():
            await asyncio.sleep(self.work.warm_up)
            cpu, received, began = self.proxy.cpu_seconds(), tally.received, time.monotonic()
            tally.delays.clear()
            await asyncio.sleep(self.work.seconds)
            cpu, done, took = self.proxy.cpu_seconds() - cpu, tally.received - received, time.monotonic() - began
            delays = sorted(tally.delays)
        await self._until(self._all_received)
        return self._report(done, took, cpu, before_kib, delays)

    async def _idle(self, before_kib: int, took: float) -> Report:
        """Send a message on each connection, wait, measure memory, and send again to check that all are alive."""
        await self._one_each()
        await asyncio.sleep(self.work.warm_up + self.work.seconds)
        report = self._report(self.tally.opened, took, 0.0, before_kib, [])
        await self._one_each()
        return Report(**(asdict(report) | self._errors()))

    async def _one_each(self) -> None:
        for each in self.senders:
            each.send()
        for client in self.clients:
            if isinstance(client, Pinger):
                client.send()
        await self._until(self._all_received)

    @contextmanager
    def _traffic(self) -> Iterator[None]:
        """Send messages during the with block."""
        pingers = [client for client in self.clients if isinstance(client, Pinger)]
        for pinger in pingers:
            pinger.again = True
            pinger.send()
        sending = asyncio.create_task(self._send_events()) if self.senders else None
        try:
            yield
        finally:
            if sending:
                sending.cancel()
            for pinger in pingers:
                pinger.again = False

    async def _send_events(self) -> None:
        """Send events to the streams in turn, evenly spread; catch up when late."""
        senders, per_second = self.senders, self.work.rate * len(self.senders)
        began, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * per_second)
            while sent < due:
                senders[sent % len(senders)].send()
                sent += 1
                await asyncio.sleep(0)  # read received events before the next is written
            await asyncio.sleep(TICK)

    def _all_received(self) -> bool:
        return self.tally.received >= self.tally.sent

    def _errors(self) -> dict[str, Any]:
        tally = self.tally
        silent = self.work.connections - sum(client.opened or client.failed for client in self.clients)
        lost = tally.sent - tally.received
        text = f"{silent} connections without an answer, {lost} messages lost" if silent or lost else ""
        return {"errors": tally.failed + silent + lost, "first_fault": tally.first_fault or text}

    def _report(self, done: int, seconds: float, cpu: float, before_kib: int, delays: list[int]) -> Report:
        return Report(
            done=done,
            seconds=seconds,
            cpu_seconds=cpu,
            grown_kib=self.proxy.resident_kib() - before_kib,
            p50=_percentile(delays, 50),
            p99=_percentile(delays, 99),
            **self._errors(),
        )


def _percentile(delays: list[int], percent: int) -> float | None:
    """A percentile in seconds of sorted delays in nanoseconds; None without delays."""
    return delays[len(delays) * percent // 100] / 1e9 if delays else None


def main() -> None:
    """Carry out the Work of the command line."""
    import uvloop  # noqa: PLC0415 (only this program needs it)

    work = Work(**json.loads(sys.argv[1]))
    gc.disable()  # pauses of collections would count as delays
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(Load(work).run()))), flush=True)


if __name__ == "__main__":
    main()
