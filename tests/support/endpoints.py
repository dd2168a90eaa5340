"""Endpoints on real sockets: scripts, queued clients, and the gateway's figures of endpoints."""

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

EVENTS = b"Accept: text/event-stream"
EVENT = b"data: good\n\n"
WHOLE_STREAM = STREAM_HEAD + chunk(EVENT) + LAST_CHUNK


def named(name: bytes) -> Script:
    """A script: answer each request with a name."""
    return always(reply(body=name))


def always(answer: bytes) -> Script:
    """A script: send the same answer to each request on a connection."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer)

    return script


async def streaming(peer: Peer) -> None:
    """A script: answer each request with a complete event stream."""
    await always(WHOLE_STREAM)(peer)


class Answers:
    """A script: send the given answers in turn, then repeat the last."""

    def __init__(self, *answers: bytes) -> None:
        self.left = list(answers)

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(self.left.pop(0) if len(self.left) > 1 else self.left[0])


class Gate:
    """A script: hold requests until a test has them answered, in order of arrival.

    Attributes:
        most: greatest number of held requests.
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
        """Answer the first held request."""
        await eventually(lambda: self.waiting)
        self.waiting.pop(0).set()


async def queue(running: Running, *paths: bytes) -> list[Client]:
    """Clients that wait in the service's queue, in this order; the first client is served at once."""
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
    """The figures of a service in /admin/stats."""
    answer = await ask(running, get(b"/admin/stats"))
    view: dict[str, Any] = json.loads(answer.body)["services"]["svc"]
    return view
