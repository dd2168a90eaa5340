"""An open-loop load: requests begin at their instants, whether or not earlier requests have been answered.

A closed loop, such as wrk's, waits for a server that is late, and so never shows how long a client would wait. Here a
latency counts from the instant at which the request was due. A request that finds no idle connection opens another.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

TICK = 0.001  # seconds; requests that are due within a tick are sent together
PATIENCE = 10.0  # seconds for the last answers
MOST_CONNECTIONS = 4000

_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length: "


@dataclass(slots=True)
class Outcome:
    """What became of a load.

    Attributes:
        latencies: seconds from the due instant to the last byte of the answer, by status.
        lost: requests without an answer.
        lateness: seconds from the due instant until the load itself has sent the request. A load that is late says
            more about the load's own core than about the server.
    """

    latencies: dict[int, list[float]] = field(default_factory=dict)
    lost: int = 0
    lateness: list[float] = field(default_factory=list)

    def add(self, status: int, seconds: float) -> None:
        self.latencies.setdefault(status, []).append(seconds)

    @property
    def counts(self) -> Counter[int]:
        return Counter({status: len(each) for status, each in self.latencies.items()})

    def percentile(self, status: int, percent: float) -> float:
        """Seconds that `percent` of the answers of a status took at most; 0.0 without such an answer.

        >>> outcome = Outcome({200: [0.1, 0.2, 0.3, 0.4]})
        >>> outcome.percentile(200, 50), outcome.percentile(200, 99), outcome.percentile(503, 99)
        (0.2, 0.4, 0.0)
        """
        return percentile(self.latencies.get(status, ()), percent)


def percentile(seconds: Iterable[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed; 0.0 without values."""
    found = sorted(seconds)
    return found[max(0, -(-len(found) * percent // 100).__int__() - 1)] if found else 0.0


class _Connection(asyncio.Protocol):
    """A kept connection: one request at a time."""

    def __init__(self, load: "OpenLoop") -> None:
        self._load, self._buffer, self._due = load, b"", 0.0
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.is_open = cast(asyncio.Transport, transport), True

    def ask(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data if self._buffer else data
        end = buffer.find(_END)
        if end < 0:
            return
        head = buffer[: end + 2].lower()
        length = int(head.partition(_LENGTH)[2].partition(b"\r\n")[0] or 0)
        if len(buffer) >= end + len(_END) + length:
            self._buffer = b""
            self._load.answered(self, int(head[9:12]), self._due)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self._load.ended(self)

    def close(self) -> None:
        self._transport.abort()


class OpenLoop:
    """A load of requests at a rate, over kept connections to a port of loopback.

    Args:
        requests: sent in turns.
    """

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self._port, self._requests = port, requests
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Connection] = []
        self._asking: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()
        self.outcome = Outcome()

    async def run(self, rate: float, seconds: float) -> Outcome:
        """Send `rate` requests per second for some time, and wait for the answers."""
        began, sent, count = self._loop.time(), 0, int(rate * seconds)
        while sent < count:
            due = min(count, int((self._loop.time() - began) * rate) + 1)
            for number in range(sent, due):
                self._ask(self._requests[number % len(self._requests)], began + number / rate)
            sent = due
            await asyncio.sleep(TICK)
        await self._finish()
        return self.outcome

    def _ask(self, request: bytes, due: float) -> None:
        if self._idle:
            connection = self._idle.pop()
            self._send(connection, request, due)
        elif len(self._asking) + len(self._opening) < MOST_CONNECTIONS:
            task = self._loop.create_task(self._open(request, due))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self.outcome.lost += 1

    async def _open(self, request: bytes, due: float) -> None:
        try:
            _, connection = await self._loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        except OSError:
            self.outcome.lost += 1
            return
        self._send(connection, request, due)

    def _send(self, connection: _Connection, request: bytes, due: float) -> None:
        self.outcome.lateness.append(self._loop.time() - due)
        self._asking.add(connection)
        connection.ask(request, due)

    def answered(self, connection: _Connection, status: int, due: float) -> None:
        self._idle.append(connection)
        self.outcome.add(status, self._loop.time() - due)
        self._settle(connection)

    def ended(self, connection: _Connection) -> None:
        if connection in self._asking:
            self.outcome.lost += 1
            self._settle(connection)
        elif connection in self._idle:
            self._idle.remove(connection)

    def _settle(self, connection: _Connection) -> None:
        self._asking.discard(connection)
        if not self._asking:
            self._settled.set()

    async def _finish(self) -> None:
        """Wait until no request is open, up to PATIENCE; end all connections."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                if self._opening:
                    await asyncio.wait(self._opening)
                if self._asking:
                    self._settled.clear()
                    await self._settled.wait()
        for each in [*self._idle, *self._asking]:
            each.close()
        await asyncio.sleep(TICK)
