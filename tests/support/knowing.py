"""Servers that know endpoints, on raw sockets: an agent of Consul and an API server of Kubernetes, as these answer.

Each may also answer wrongly: `say` of the next requests is then what the server does.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.conftest import Running, make_settings
from tests.support.sockets import Message, Peer, reply
from tornado_gateway.app import make_sources
from tornado_gateway.upkeep.sources import Pace, Sources

NOWHERE = {"billing": ["http://127.0.0.1:1"]}
QUICK = Pace(shortest=0.0, retry=0.01, longest_retry=0.02)

Fault = Callable[[Peer], Awaitable[None]]


async def ask_quickly(running: Running, services: dict[str, list[str]], **variables: str) -> Sources:
    """Ask sources in the place of the endpoints of services, as often as they answer instead of once a second."""
    app = running.app
    await app.sources.close()
    for name, several in services.items():
        app.gateway.services[name.encode()].membership.configure(dict.fromkeys(several, 1))
    app.discovery.sweep(app.gateway.now())
    settings = make_settings(services, **variables)
    app.sources = make_sources(settings, app.gateway, lambda: app.discovery.sweep(app.gateway.now()), QUICK)
    app.sources.sweep(0.0)
    return app.sources


def urls(running: Running, name: str = "billing") -> dict[str, int]:
    """The endpoints that a source has told, with their weights."""
    endpoints = running.app.gateway.services[name.encode()].endpoints
    return {each.url: each.weight for each in endpoints if each.url not in NOWHERE["billing"]}


def warnings(caplog: Any) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


async def answers_an_error(peer: Peer) -> None:
    await peer.send(reply(b"500 Internal Server Error", body=b"No cluster leader"))


async def answers_garbage(peer: Peer) -> None:
    await peer.send(reply(fields=(b"X-Consul-Index: 9",), body=b"<html>\n"))


async def resets(peer: Peer) -> None:
    peer.reset()


async def breaks_off(peer: Peer) -> None:
    await peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX-Consul-Index: 9\r\n\r\n{"type": "DEL')
    peer.close()


async def is_silent(peer: Peer) -> None:
    await peer.ended()


class Knowing:
    """A server that knows endpoints.

    Attributes:
        asked: targets of all requests.
        fields: of the last request.
        faults: what is done with the next requests, in order, in place of an answer.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fields: dict[str, str] = {}
        self.faults: list[Fault] = []
        self._news = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        request = await peer.request()
        self.asked.append(request.target.decode())
        self.fields = {name.decode().lower(): value.decode() for name, value in request.fields}
        if self.faults:
            await self.faults.pop(0)(peer)
        else:
            await self.answer(peer, request)

    async def answer(self, peer: Peer, request: Message) -> None:
        raise NotImplementedError

    @property
    def queries(self) -> list[dict[str, str]]:
        """The parameters of all requests."""
        return [{name: value for name, (value,) in parse_qs(urlsplit(each).query).items()} for each in self.asked]

    def notify(self) -> None:
        """Answer the requests that wait for news."""
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self) -> None:
        await self._news.wait()


class Agent(Knowing):
    """Consul: answers a query at once, or when the index has changed.

    Attributes:
        index: of the answers.
        places: address and port of each instance.
    """

    def __init__(self, *places: tuple[str, int]) -> None:
        super().__init__()
        self.index, self.places = 5, list(places)

    def change(self, *places: tuple[str, int], index: int | None = None) -> None:
        self.places, self.index = list(places), index or self.index + 1
        self.notify()

    async def answer(self, peer: Peer, request: Message) -> None:
        while self.queries[-1]["index"] == str(self.index):
            await self.wait()
        several = [{"Node": {"Address": ""}, "Service": {"Address": host, "Port": port}} for host, port in self.places]
        await peer.send(reply(fields=(b"X-Consul-Index: %d" % self.index,), body=json.dumps(several).encode()))


class ApiServer(Knowing):
    """Kubernetes: a list of slices, and watches to which the test sends lines.

    Attributes:
        version: of the list.
        slices: of the list, by name; see put().
        watchers: peers that watch.
        is_gone: whether watches are refused with 410.
    """

    def __init__(self, *addresses: str, port: int = 80) -> None:
        super().__init__()
        self.version, self.port, self.is_gone = 1, port, False
        self.slices: dict[str, Any] = {}
        self.watchers: list[Peer] = []
        self.put("a", *addresses)

    def put(self, name: str, *addresses: str, leaving: tuple[str, ...] = ()) -> dict[str, Any]:
        """Set a slice; return the slice."""
        self.version += 1
        terminating = {"ready": False, "serving": True, "terminating": True}
        endpoints = [{"addresses": [each], "conditions": {"ready": True}} for each in addresses]
        endpoints += [{"addresses": [each], "conditions": terminating} for each in leaving]
        self.slices[name] = {
            "metadata": {"name": name, "resourceVersion": str(self.version)}, "addressType": "IPv4",
            "endpoints": endpoints, "ports": [{"name": "http", "port": self.port, "protocol": "TCP"}],
        }  # fmt: skip
        return dict(self.slices[name])

    async def answer(self, peer: Peer, request: Message) -> None:
        if "watch" in self.queries[-1]:
            await self._watch(peer)
            return
        items = list(self.slices.values())
        said = {"kind": "EndpointSliceList", "metadata": {"resourceVersion": str(self.version)}, "items": items}
        await peer.send(reply(body=json.dumps(said).encode()))

    async def _watch(self, peer: Peer) -> None:
        if self.is_gone:
            self.is_gone = False
            await peer.send(reply(b"410 Gone", body=b'{"kind": "Status", "code": 410}'))
            return
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.watchers.append(peer)
        try:
            await peer.ended()
        finally:
            self.watchers.remove(peer)

    async def say(self, *lines: bytes, end: bool = False) -> None:
        """Send lines to the only watcher, in pieces that do not end where lines end."""
        (peer,) = self.watchers
        text = b"".join(line + b"\n" for line in lines)
        for piece in (text[:7], text[7:]):
            if piece:
                await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        if end:
            await peer.send(b"0\r\n\r\n")

    async def tell(self, kind: str, of: dict[str, Any]) -> None:
        """Send an event."""
        await self.say(json.dumps({"type": kind, "object": of}).encode())
