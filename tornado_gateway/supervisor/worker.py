"""A worker: a gateway that accepts at the sockets of the supervisor, and does what the supervisor tells."""

import asyncio
import logging
import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tornado.httpclient import AsyncHTTPClient

from tornado_gateway.adapters import logs
from tornado_gateway.app import App
from tornado_gateway.config.settings import Settings
from tornado_gateway.policy.views.probes import STARTING
from tornado_gateway.reload import heard_reload
from tornado_gateway.supervisor.reloading import WorkerReloads, ask_for_reload
from tornado_gateway.supervisor.supervisor import CRASHED, STOPPED, Birth
from tornado_gateway.upkeep import garbage, service_manager
from tornado_gateway.upkeep.link import Link, LinkError
from tornado_gateway.upkeep.whole import Whole
from tornado_gateway.wire.client.client import PooledHTTPClient

log = logging.getLogger("tornado_gateway")


def live(make_loop: Callable[[], asyncio.AbstractEventLoop] | None, birth: Birth) -> int:
    """Live as a worker; return the exit code.

    Args:
        make_loop: makes the event loop; None for asyncio's.
    """
    # These speak to the supervisor.
    for name in (*service_manager.VARIABLES, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    logs.configure(birth.settings.logs)
    AsyncHTTPClient.configure(PooledHTTPClient)
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(serve(of_a_worker(birth.settings), birth))


def of_a_worker(settings: Settings) -> Settings:
    """The settings of a worker. The supervisor waits for a successor. What is a number for the whole is divided."""
    count, server, pool = settings.workers, settings.server, settings.client.pool
    return replace(
        settings,
        listen=replace(settings.listen, takeover=""),
        server=replace(server, max_connections=part_of(server.max_connections, count)),
        client=replace(settings.client, pool=replace(pool, max_idle=part_of(pool.max_idle, count))),
        cache_store=replace(settings.cache_store, max_bytes=part_of(settings.cache_store.max_bytes, count)),
        overload=replace(settings.overload, max_in_flight=part_of(settings.overload.max_in_flight, count)),
        service=replace(
            settings.service,
            max_in_flight=part_of(settings.service.max_in_flight, count),
            max_waiting=part_of(settings.service.max_waiting, count),
        ),
        services=tuple(
            replace(
                each,
                service=replace(
                    each.service,
                    max_in_flight=part_of(each.service.max_in_flight, count),
                    max_waiting=part_of(each.service.max_waiting, count),
                ),
            )
            for each in settings.services
        ),
    )


def part_of(whole: Any, count: int) -> Any:
    """A worker's part of a number, rounded up; math.inf stays.

    >>> part_of(100, 3), part_of(0, 3), part_of(math.inf, 3)
    (34, 0, inf)
    """
    return whole if whole == math.inf else math.ceil(whole / count)


async def serve(settings: Settings, birth: Birth) -> int:
    """Serve until the supervisor says otherwise; return the exit code."""
    worker = _Worker(settings, birth)
    try:
        return await worker.serve()
    finally:
        await worker.app.close()
        worker.link.close()


class _Worker:
    def __init__(self, settings: Settings, birth: Birth) -> None:
        self._birth = birth
        self._told, self._interrupted = asyncio.Event(), asyncio.Event()
        self._whole = Whole(birth.streams, birth.requests, birth.number, settings.workers)
        self.app = App(settings, birth.inherited, birth.share, self._whole, birth.number)
        self._reloads = WorkerReloads(self.app, of_a_worker)
        self.link = self._whole.link = Link(
            {
                **self.app.answers,
                "readiness": partial(self._answer, "readiness", {"status": STARTING}),
                "services": partial(self._answer, "services", []),
                "prepare": self._reloads.prepare,
                "change": self._reloads.change,
                "event": self.app.event_log.learn,
                "reloaded": lambda _: self.app.tell_reloaded(),
                "drain": lambda _: self._drain(),
                "replaced": lambda _: self._replaced(),
                "end": lambda _: self._end(),
                "pause": lambda _: self._pause(),
                "resume": lambda _: self.app.resume(),
            },
            self._end,
        )
        self.app.gateway.reloading.carry_out = partial(heard_reload, partial(ask_for_reload, self.link))
        self.app.gateway.reloading.follow = self._follow
        # A worker that is told by a signal drains, and the supervisor starts another. A second signal changes nothing:
        # a service manager tells all processes at once, and so does the supervisor.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._leave)

    async def serve(self) -> int:
        await self.link.open(self._birth.sock)
        await self.app.listen()
        try:
            memory = await self.link.ask("ready", patience=None)
        except LinkError:
            return CRASHED
        garbage.settle()
        await self.app.accept(memory)
        self._reloads.accepts.set()
        self.link.tell("accepts")
        await self._told.wait()
        is_clean = await self.app.end(self._interrupted)
        return STOPPED if is_clean else CRASHED

    async def _pause(self) -> None:
        for server in self.app.servers:
            await server.pause()

    def _follow(self) -> bool:
        self.link.tell("follow")
        return self.app.settings.watches_files

    def _replaced(self) -> None:
        self.app.gateway.lifecycle.is_replaced = True
        self.app.replaced.set()
        self._told.set()

    def _leave(self) -> None:
        self.link.tell("leaving")
        self.app.gateway.lifecycle.leaves_alone = True
        self._told.set()

    def _drain(self) -> None:
        """All workers drain."""
        self.app.gateway.lifecycle.leaves_alone = False
        self._told.set()

    def _answer(self, name: str, before: object, body: object) -> Any:
        """An answer of the gateway; `before` until the gateway accepts connections, and knows what others know."""
        return self.app.answers[name](body) if self._reloads.accepts.is_set() else before

    def _end(self) -> None:
        """End at once: the supervisor has ended, or says so."""
        self._interrupted.set()
        self._told.set()
