"""The process above the workers of a gateway: binds, starts the workers, and answers for the whole.

    supervisor ── binds, draws secrets ──► forks workers ──► each makes a gateway, and says that it is ready
                                                                          │ all are ready
        signals, take-overs, crashes, what workers share   ◄── link ──►   accept connections

A worker that ends is started again (policy/supervision.py). A worker that cannot even start ends the gateway, unless
all have been ready before. The supervisor accepts no connection: what clients send cannot harm the process that starts
all others.

The end of the supervisor is the end of all workers, at once: see birth.py.
"""

import asyncio
import logging
import mmap
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from tornado_gateway.adapters import logs
from tornado_gateway.app import drawn_secrets, make_hand_over
from tornado_gateway.config.settings import Settings
from tornado_gateway.policy.handover import Offer, Place, Role
from tornado_gateway.policy.http.stream_tally import OthersStreams
from tornado_gateway.policy.supervision import Restarts
from tornado_gateway.policy.tally import PLACES, Others, Tally
from tornado_gateway.reload import Configuration
from tornado_gateway.supervisor.birth import HANDLED, fork
from tornado_gateway.supervisor.hub import Hub
from tornado_gateway.supervisor.news import News
from tornado_gateway.supervisor.reloading import CrewReloads
from tornado_gateway.supervisor.sockets import Sockets
from tornado_gateway.upkeep import service_manager
from tornado_gateway.upkeep.handover import HandOver
from tornado_gateway.upkeep.inheritance import CannotTakeOver, Inheritance
from tornado_gateway.upkeep.link import Link, LinkError
from tornado_gateway.upkeep.successor import INIT, Successor
from tornado_gateway.wire.server.sharing import Share, Shares

STOPPED, CRASHED, CANNOT_START = 0, 1, 3  # exit codes
CLEAN = (STOPPED, -signal.SIGTERM)  # exit codes; a worker that is told so early has no client
KILL_AFTER = 10.0  # seconds beyond the timeout of a stop, until a worker is killed that has not ended
SWEEP = 1.0  # seconds between two sweeps
END_AFTER = 3.0  # seconds that a worker has to end at once

log = logging.getLogger("tornado_gateway")


class Birth(NamedTuple):
    """What a worker gets.

    Attributes:
        settings: of the whole gateway.
        number: of the worker, from 0 on.
        sock: the worker's end of the link.
        share: of the connections.
        streams, requests: of the other workers; see Whole.
        inherited: the listening sockets and the secrets.
    """

    settings: Settings
    number: int
    sock: socket.socket
    share: Share
    streams: OthersStreams
    requests: Others
    inherited: Inheritance


@dataclass(slots=True)
class Worker:
    """A worker that lives.

    Attributes:
        sock: the supervisor's end of the link.
        born: instant (monotonic clock).
        is_ready: whether the worker has a gateway.
        accepts: whether the worker accepts connections.
        is_leaving: whether the worker drains.
    """

    number: int
    pid: int
    sock: socket.socket
    born: float
    link: Link | None = None
    is_ready: bool = False
    accepts: bool = False
    is_leaving: bool = False


@dataclass(slots=True)
class _Crew:
    """The workers by number, and their restarts."""

    living: dict[int, Worker] = field(default_factory=dict)
    restarts: dict[int, Restarts] = field(default_factory=dict)

    def of_pid(self, pid: int) -> Worker | None:
        return next((each for each in self.living.values() if each.pid == pid), None)


class Supervisor:
    """The supervisor. Made inside a running event loop. Is the Predecessor of a take-over.

    Args:
        inherited: sockets that listen already, and what else another process has given.
        command: starts a gateway that takes over.

    Attributes:
        exit_code: of the process.
    """

    def __init__(self, configuration: Configuration, inherited: Inheritance, command: list[str]) -> None:
        settings = configuration.settings
        self._configuration, self._inherited = configuration, inherited
        self._count = settings.workers
        self._secrets = drawn_secrets(inherited.offer.secrets)
        self._sockets, self._shares, self._crew = Sockets(), Shares(self._count), _Crew()
        self._streams, self._requests = make_tally(self._count), make_tally(self._count)
        self._loop = asyncio.get_running_loop()
        self._births: asyncio.Queue[int | None] = asyncio.Queue()
        self._timers: set[asyncio.TimerHandle] = set()
        self._may_accept = asyncio.Event()
        self._has_begun = self._is_stopping = self._is_replaced = self._is_born = False
        self._hub = Hub(time.monotonic, settings.limit_rules, self._count)
        self._reloads = CrewReloads(configuration, self._hub, lambda: self._is_stopping)
        self._news = News(partial(self._hub.tell_all, "event"))
        self._hand_over: HandOver | None = None
        self._closing: asyncio.Task[None] | None = None  # of the sockets; the event loop keeps no tasks
        self._successor = Successor(settings.listen.takeover, command)
        self._life_signs = service_manager.LifeSigns()
        self.exit_code = STOPPED

    async def open(self) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Bind, and heed signals; return what is listened on for everybody, and for operators.

        Raises:
            CannotListen: an address cannot be bound.
        """
        await self._sockets.open(self._settings, self._inherited)
        self._news.open()
        self._hand_over = make_hand_over(self, self._settings.listen.takeover, self._inherited)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._told_to_stop)
        self._loop.add_signal_handler(signal.SIGUSR2, self._successor.start)
        self._loop.add_signal_handler(signal.SIGHUP, self._reloads.reloader.begin)
        self._loop.add_signal_handler(
            signal.SIGUSR1, log.warning, "SIGUSR1 is ignored; SIGHUP reloads the configuration"
        )
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for worker in range(self._count):
            self._births.put_nowait(worker)
        self._sweep()
        return self._sockets.addresses, self._sockets.admin_addresses

    @property
    def _settings(self) -> Settings:
        return self._configuration.settings

    def _sweep(self) -> None:
        self._hub.sweep()
        self._reloads.reloader.watch.sweep(time.monotonic())
        self._later(SWEEP, self._sweep)

    # ---- birth

    async def next_birth(self) -> int | None:
        """The number of the worker that is to be started next; None when the gateway has ended."""
        for each in self._crew.living.values():
            if each.link is None:
                each.link = self._hub.links[each.number] = await self._link_to(each).open(each.sock)
        if self._is_born:
            self._is_born = False
            self._reloads.births.release()
        while (number := await self._births.get()) is not None:
            await self._reloads.births.acquire()
            if not self._is_stopping:
                self._is_born = True  # and linked at the next call; see CrewReloads
                return number
            self._reloads.births.release()
        return None

    def start(self, number: int, live: Callable[[Birth], int]) -> None:
        """Fork a worker, which runs `live`. Called while the event loop stands still."""
        ours, theirs = socket.socketpair()
        offer = Offer(os.getpid(), tuple(self._sockets.places), self._secrets)
        share, inherited = Share(self._shares, number), Inheritance(offer, tuple(self._sockets.socks))
        streams, requests = OthersStreams(self._streams.of(number)), self._requests.of(number)
        birth = Birth(self._settings, number, theirs, share, streams, requests, inherited)

        def in_worker() -> int:
            ours.close()
            self._leave_to_worker()
            return live(birth)

        try:
            pid = fork(in_worker)
        except OSError as error:
            log.error("worker %d cannot be started: %s", number + 1, error)
            ours.close()
            self._ended_early(number, time.monotonic())
            return
        finally:
            theirs.close()
        self._crew.living[number] = Worker(number, pid, ours, time.monotonic())
        self._crew.restarts.setdefault(number, Restarts())

    def _leave_to_worker(self) -> None:
        """Close, in a worker, what belongs to the supervisor: an end of a link would keep the link open."""
        for each in self._crew.living.values():
            os.close(each.sock.detach())
        self._inherited.close()
        self._news.close()
        if self._hand_over:
            self._hand_over.sock.close()

    def _link_to(self, worker: Worker) -> Link:
        def on_ready(_: object) -> Awaitable[Any]:
            return self._on_ready(worker)

        def on_accepts(_: object) -> None:
            worker.accepts = True
            log.info("worker %d (process %d) accepts connections", worker.number + 1, worker.pid)
            self._if_all_accept()

        def on_leaving(_: object) -> None:
            worker.is_leaving = True

        def on_order(said: Sequence[Any]) -> Awaitable[list[Any]]:
            if said[0] == "log-level":
                logs.set_level(said[1])
            return self._hub.order(worker.number, *said)

        answers = {
            "ready": on_ready,
            "accepts": on_accepts,
            "leaving": on_leaving,
            "order": on_order,
            "reload": self._reloads.answer,
            "follow": lambda _: self._reloads.reloader.follow(),
        }
        return Link({**answers, **self._hub.answers}, lambda: None)

    # ---- the start

    async def _on_ready(self, worker: Worker) -> Mapping[str, Any]:
        worker.is_ready = True
        if not self._has_begun and self._all(lambda each: each.is_ready):
            self._take_over()
        await self._may_accept.wait()
        return self._hub.for_newcomers

    def _take_over(self) -> None:
        try:
            memory = self._inherited.ready()
        except CannotTakeOver as error:
            log.error("%s", error)
            self._give_up()
            return
        self._hub.remember(memory)
        self._may_accept.set()

    def _if_all_accept(self) -> None:
        if self._has_begun or not self._all(lambda each: each.accepts):
            return
        self._has_begun = True
        self._inherited.done()
        self._inherited.close()
        if self._hand_over:
            self._hand_over.start()
        service_manager.tell("READY=1", f"MAINPID={os.getpid()}")
        self._life_signs.start()

    def _all(self, is_so: Callable[[Worker], bool]) -> bool:
        return len(self._crew.living) == self._count and all(map(is_so, self._crew.living.values()))

    def _give_up(self) -> None:
        """End, because the gateway cannot start."""
        if not self._is_stopping:
            self.exit_code, self._is_stopping = CANNOT_START, True
            self._end_at_once()
            self._if_all_ended()

    # ---- death

    def _reap(self) -> None:
        """Take notice of the processes that have ended. Process 1 of a container has the orphans, too (wait(2))."""
        pids = [-1] if os.getpid() == INIT else [each.pid for each in self._crew.living.values()]
        for asked in pids:
            with suppress(ChildProcessError):
                while True:
                    pid, status = os.waitpid(asked, os.WNOHANG)
                    if not pid:
                        break
                    self._took_notice(pid, os.waitstatus_to_exitcode(status))

    def _took_notice(self, pid: int, code: int) -> None:
        worker = self._crew.of_pid(pid)
        if worker is None:
            return
        del self._crew.living[worker.number]
        self._shares.leave(worker.number)
        self._streams.forget(worker.number)
        self._requests.forget(worker.number)
        self._hub.forget(worker.number)
        if worker.link:
            worker.link.close()
        if self._is_stopping:
            self.exit_code = self.exit_code or (STOPPED if code in CLEAN else CRASHED)
            self._if_all_ended()
        elif not self._has_begun:
            log.error("worker %d has ended with %s before it was ready", worker.number + 1, cause_of(code))
            self._give_up()
        else:
            self._start_again(worker, code)

    def _start_again(self, worker: Worker, code: int) -> None:
        if worker.is_leaving and not code:
            log.info("worker %d (process %d) has stopped; another starts", worker.number + 1, worker.pid)
            self._births.put_nowait(worker.number)
            return
        self._hub.crashes += 1
        delay = self._crew.restarts[worker.number].delay(time.monotonic() - worker.born)
        when = f" in {delay:.1f} s" if delay else ""
        log.error("worker %d (process %d) has ended with %s; another starts%s",
                  worker.number + 1, worker.pid, cause_of(code), when)  # fmt: skip
        self._later(delay, self._births.put_nowait, worker.number)

    def _ended_early(self, number: int, now: float) -> None:
        """A worker could not be forked."""
        if not self._has_begun:
            self._give_up()
            return
        self._later(self._crew.restarts[number].delay(0.0), self._births.put_nowait, number)

    def _later(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        def now() -> None:
            self._timers.discard(timer)
            call(*args)

        timer = self._loop.call_later(seconds, now)
        self._timers.add(timer)

    # ---- the end

    def _told_to_stop(self) -> None:
        if self._is_stopping:
            self._end_at_once()
            return
        log.info("stopping %d workers", len(self._crew.living))
        service_manager.tell("STOPPING=1")
        self._stop()

    def _stop(self) -> None:
        """Let all workers drain. A worker that does not end by itself is killed."""
        self._is_stopping = True
        self._tell("replaced" if self._is_replaced else "drain")
        self._closing = self._loop.create_task(self._close_sockets())
        shutdown = self._settings.shutdown
        self._later(shutdown.delay + shutdown.timeout + KILL_AFTER, self._kill)
        self._if_all_ended()

    async def _close_sockets(self) -> None:
        """Keep no listening socket: connections that come after the last worker's socket are refused, and do not wait
        for nobody."""
        if self._hand_over:
            await self._hand_over.close()
        self._sockets.close(keeps_paths=self._is_replaced)

    def _end_at_once(self) -> None:
        self._tell("end")
        self._later(END_AFTER, self._kill)

    def _kill(self) -> None:
        for each in self._crew.living.values():
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)

    def _if_all_ended(self) -> None:
        if self._is_stopping and not self._crew.living:
            self._births.put_nowait(None)

    def _tell(self, name: str, body: object = None) -> None:
        """Tell all workers. A worker without a link yet is told by SIGTERM."""
        for each in self._crew.living.values():
            if each.link:
                each.link.tell(name, body)
            else:
                os.kill(each.pid, signal.SIGTERM)

    async def close(self) -> None:
        """Leave nothing behind."""
        for number in HANDLED:
            self._loop.remove_signal_handler(number)
        for timer in self._timers:
            timer.cancel()
        self._life_signs.stop()
        self._news.close()
        await self._reloads.reloader.close()
        self._successor.close()
        self._inherited.close()
        if self._closing:
            await self._closing
        await self._close_sockets()

    # ---- Predecessor

    def offer(self) -> tuple[Offer, list[socket.socket]]:
        """See Predecessor."""
        places, socks = list(self._sockets.places), list(self._sockets.socks)
        if self._hand_over:
            places.append(Place(Role.TAKEOVER, self._settings.listen.takeover))
            socks.append(self._hand_over.sock)
        return Offer(os.getpid(), tuple(places), self._secrets), socks

    async def cede(self) -> dict[str, object]:
        """See Predecessor."""
        self._may_accept.clear()
        links = [each.link for each in self._crew.living.values() if each.link and each.accepts]
        with suppress(LinkError):  # a worker that ends meanwhile accepts nothing
            await asyncio.gather(*[each.ask("pause") for each in links])
        return await self._hub.memory()

    async def resume(self) -> None:
        """See Predecessor."""
        self._may_accept.set()
        self._tell("resume")

    def leave(self, taken: frozenset[Place], /) -> None:
        """See Predecessor."""
        self._is_replaced = True
        self._life_signs.stop()  # systemd is to hear of the successor's life alone
        if self._hand_over:
            self._hand_over.keeps_path = any(each.role is Role.TAKEOVER for each in taken)
        log.info("another process has taken over; stopping %d workers", len(self._crew.living))
        self._stop()


def make_tally(workers: int) -> Tally:
    """Numbers in memory that workers share once the workers are forked."""
    return Tally(memoryview(mmap.mmap(-1, workers * PLACES * 16)).cast("q"), workers)


def cause_of(code: int) -> str:
    """What an exit code says, in words.

    Args:
        code: as os.waitstatus_to_exitcode() gives it.

    >>> cause_of(-9), cause_of(1)
    ('signal SIGKILL', 'exit code 1')
    """
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
