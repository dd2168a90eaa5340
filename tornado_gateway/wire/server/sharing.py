"""Accepts connections at a socket at which other processes accept, too, so that each gets as many.

The numbers of connections of all workers stand in memory that all workers share. A worker that has more than its share
(room() of policy/supervision.py) steps back until others have as many. Each worker shows that it lives; a worker
that has not for HANGS does not count, so a worker that hangs holds up the others once, and for so long.

SO_REUSEPORT would give each worker a queue of its own: the kernel spreads by a hash, so a hundred connections differ by
twenty as a rule, and the queue of a worker that has ended has connections that nobody accepts. One queue loses nothing.
"""

import asyncio
import logging
import mmap
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tornado_gateway.policy.episode import Episode
from tornado_gateway.policy.supervision import keeper_of, room
from tornado_gateway.wire.server.gate import make_gate

ACCEPTS = 8  # calls of accept() per turn of the loop, as of HTTPServer
PAUSE = 0.01  # seconds until a worker that has stepped back looks again
BEAT = 0.05  # seconds between two signs of life
HANGS = 0.5  # seconds; a busy worker has turns of some 10 ms, and a loaded machine may give it no core for longer
WITHOUT_DESCRIPTORS = 1.0  # seconds until the next accept() after a failure, as asyncio has it
ABSENT = -1  # number of connections of a worker that does not accept
_SIZE = 16  # bytes of a worker's numbers: of connections, and of ms at the last sign of life

log = logging.getLogger("tornado_gateway")


class Shares:
    """The numbers of connections of all workers. Made before the workers are forked.

    Args:
        workers: number of workers.
    """

    def __init__(self, workers: int) -> None:
        memory = memoryview(mmap.mmap(-1, workers * _SIZE)).cast("q")
        self.connections, self.beats = memory[:workers], memory[workers:]
        for worker in range(workers):
            self.leave(worker)

    def leave(self, worker: int) -> None:
        """A worker accepts no more."""
        self.connections[worker] = ABSENT

    def living(self) -> list[int]:
        """The numbers of the workers that accept and do not hang."""
        oldest = _now() - round(HANGS * 1000)
        pairs = enumerate(zip(self.connections, self.beats, strict=True))
        return [worker for worker, (count, beat) in pairs if count >= 0 and beat >= oldest]

    def of_others(self, worker: int) -> list[int]:
        """The numbers of connections of the other workers that accept and do not hang."""
        return [self.connections[each] for each in self.living() if each != worker]


def _now() -> int:
    """ms on a clock that all processes of the machine share."""
    return time.monotonic_ns() // 1_000_000


class Share:
    """A worker's number of connections.

    Args:
        worker: number of the worker.
    """

    def __init__(self, shares: Shares, worker: int) -> None:
        self._shares, self._worker = shares, worker
        self._servers = self._open = self._pending = 0
        self._waiting: dict[SharingServer, None] = {}

    def room(self) -> float:
        """How many further connections the worker may accept; math.inf without other workers."""
        return room(self._open + self._pending, self._shares.of_others(self._worker))

    def is_mine(self, name: str) -> bool:
        """Whether this worker, of all that live, is to look after what has a name; see keeper_of()."""
        return keeper_of(name, self._shares.living()) == self._worker

    def beat(self) -> None:
        """The worker lives."""
        self._shares.beats[self._worker] = _now()

    def set_open(self, connections: int) -> None:
        """Note how many connections the worker has open."""
        is_fewer, self._open = connections < self._open, connections
        self._tell()
        if is_fewer and self._waiting and self.room():
            for each in list(self._waiting):
                each.return_()

    def wait(self, server: "SharingServer", *, waits: bool) -> None:
        """A server has stepped back until the worker has fewer connections, or waits no more."""
        if waits:
            self._waiting[server] = None
        else:
            self._waiting.pop(server, None)

    def expect(self, more: int) -> None:
        """So many more connections, or fewer, are accepted and not among those of set_open() yet."""
        self._pending += more
        self._tell()

    def count_server(self, more: int) -> None:
        """The worker accepts at so many more sockets, or at fewer."""
        self._servers += more
        self.beat()
        self._tell()

    def _tell(self) -> None:
        self._shares.connections[self._worker] = self._open + self._pending if self._servers else ABSENT


class SharingServer:
    """Accepts connections; has what HTTPServer uses of an asyncio.Server.

    Args:
        sock: listens, and belongs to the server.
        connect: makes a connection of an accepted socket.

    Attributes:
        sockets: as of asyncio.Server.
    """

    def __init__(
        self, sock: socket.socket, share: Share, connect: Callable[[socket.socket], Coroutine[Any, Any, object]]
    ) -> None:
        self.sockets = (sock,)
        self._sock, self._share, self._connect = sock, share, connect
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._failing = Episode()
        sock.setblocking(False)
        share.count_server(1)
        self._gate = make_gate(sock, self._accept)
        self._beats = self._loop.call_later(BEAT, self._beat)

    def _beat(self) -> None:
        self._share.beat()
        self._beats = self._loop.call_later(BEAT, self._beat)

    def close(self) -> None:
        """Accept no more. What has been accepted becomes a connection all the same."""
        if self._is_closed:
            return
        self._is_closed = True
        self._gate.close()
        self._share.wait(self, waits=False)
        self._beats.cancel()
        if self._timer:
            self._timer.cancel()
        self._share.count_server(-1)
        self._sock.close()

    def _accept(self) -> None:
        most = min(ACCEPTS, self._share.room())
        if not most:
            self._share.wait(self, waits=True)
            self._step_back(PAUSE)
            return
        count = 0
        try:
            while count < most:
                self._begin(self._sock.accept()[0])
                count += 1
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            pass
        except OSError as error:  # no descriptor is left
            if self._failing.begins(self._loop.time()):
                log.error("cannot accept a connection: %s", error.strerror or error)
            self._step_back(WITHOUT_DESCRIPTORS)
        finally:
            self._share.expect(count)

    def _begin(self, accepted: socket.socket) -> None:
        task = self._loop.create_task(self._connect(accepted))
        self._tasks.add(task)
        task.add_done_callback(self._made)

    def _made(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a client that has left during the handshake of TLS is no fault
        self._share.expect(-1)

    def _step_back(self, seconds: float) -> None:
        self._gate.shut()
        self._timer = self._loop.call_later(seconds, self.return_)

    def return_(self) -> None:
        """Accept again, after a step back."""
        self._share.wait(self, waits=False)
        if self._timer:
            self._timer.cancel()
        self._gate.open()
