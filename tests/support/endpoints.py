"""Endpoints on real sockets: how they answer, who waits for them, and what the gateway knows about them."""

import asyncio
import json
from typing import Any

from tests.conftest import Running
from tests.support.event_streams import LAST_CHUNK, STREAM_HEAD, chunk
from tests.support.journeys import ask
from tests.support.sockets import Client, Peer, Script, eventually, get, reply
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.service import Service

REFUSING = "http://127.0.0.1:1"
BUSY = reply(b"503 Service Unavailable", (b"X-From: upstream",), b"busy")
SOON = 1.0  # seconds that what happens at once takes at most

EVENTS = b"Accept: text/event-stream"
EVENT = b"data: good\n\n"
WHOLE_STREAM = STREAM_HEAD + chunk(EVENT) + LAST_CHUNK


def named(name: bytes) -> Script:
    """A script: the answer to each request is a name."""
    return always(reply(body=name))


def always(answer: bytes) -> Script:
    """A script: the same answer to each request, as long as the connection lasts."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer)

    return script


async def streaming(peer: Peer) -> None:
    """A script: a whole event stream for each request."""
    await always(WHOLE_STREAM)(peer)


class Answers:
    """A script: the next answer for each request, and the last one ever after."""

    def __init__(self, *answers: bytes) -> None:
        self.left = list(answers)

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(self.left.pop(0) if len(self.left) > 1 else self.left[0])


class Gate:
    """A script: each request is answered when a test says so, in the order in which they came.

    Attributes:
        most: requests that there were at once.
    """

    def __init__(self, answer: bytes = reply()) -> None:
        self.answer = answer
        self.waiting: list[asyncio.Event] = []
        self.most = 0

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            self.waiting.append(asyncio.Event())
            self.most = max(self.most, len(self.waiting))
            await self.waiting[-1].wait()
            await peer.send(self.answer)

    async def open(self) -> None:
        """Let the first one that waits be answered."""
        await eventually(lambda: self.waiting)
        self.waiting.pop(0).set()


async def queue(running: Running, *paths: bytes) -> list[Client]:
    """Clients that wait for room, in this order; the first one need not."""
    clients = []
    for number, path in enumerate(paths):
        clients.append(await running.client())
        await clients[-1].send(get(b"/api/svc" + path))
        await eventually(lambda number=number: running.inflight and service_of(running).waiting == number)
    return clients


def service_of(running: Running, name: bytes = b"svc") -> Service:
    return running.app.gateway.services[name]


def endpoints_of(running: Running) -> list[Endpoint]:
    return list(service_of(running).endpoints)


async def view_of(running: Running) -> dict[str, Any]:
    """What there is to see of a service."""
    answer = await ask(running, get(b"/admin/stats"))
    view: dict[str, Any] = json.loads(answer.body)["services"]["svc"]
    return view
