"""Helpers of tests of the demo: a demo that runs during a test, and a check of what stop() leaves."""

import asyncio
import functools
import inspect
import itertools
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tornado_gateway.demo import upstreams
from tornado_gateway.demo.demo import Demo

Services = dict[str, list[str]]


class Scripted(random.Random):
    """A random.Random whose random() cycles through the given values."""

    def __init__(self, *values: float) -> None:
        super().__init__(0)
        self._values = itertools.cycle(values)

    def random(self) -> float:
        return next(self._values)


def other_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def ended(tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:
        _, running = await asyncio.wait(tasks, timeout=5)
        assert not running


def playing(**options: Any) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Run an async test on its own loop with a started demo, and check what stop() leaves: nothing."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        async def play(**arguments: Any) -> None:
            demo = Demo(**options)
            services = await demo.start()
            try:
                async with httpx.AsyncClient(timeout=10) as http:
                    await test(services, http, **arguments)
            finally:
                await asyncio.wait_for(demo.stop(), 2)
            assert not other_tasks()

        @functools.wraps(test)
        def run(**arguments: Any) -> None:
            asyncio.run(play(**arguments))

        signature = inspect.signature(test)
        own = list(signature.parameters.values())[2:]
        run.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        return run

    return decorate


def address(base_url: str) -> tuple[str, int]:
    parts = urlsplit(base_url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


async def refuses(base_url: str) -> bool:
    try:
        _, writer = await asyncio.open_connection(*address(base_url))
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


def enter(services: Services, path: str, **options: Any) -> connect:
    host, port = address(services["chat"][0])
    return connect(f"ws://{host}:{port}{path}", ping_interval=None, **options)


async def hear(member: ClientConnection) -> str | bytes:
    return await asyncio.wait_for(member.recv(), 30)


async def hear_many(member: ClientConnection, count: int) -> set[str | bytes]:
    return {await hear(member) for _ in range(count)}


# Together far more than the kernel holds for a reader who does not come.
LONG_LINE = "\N{MUSICAL SYMBOL G CLEF}" * upstreams.ROOM_LINE
MANY = 4_000


def enter_without_reading(services: Services, **options: Any) -> connect:
    """Enter the room as somebody whose kernel and library buffer little until recv() is called."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(address(services["chat"][0]))
    return enter(services, "/room", sock=narrow, max_queue=1, **options)
