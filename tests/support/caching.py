"""Helpers of tests of the response cache on real sockets."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.conftest import Running, Serve
from tests.support.sockets import Message, Peer, get, reply
from tornado_gateway.adapters.response_cache import MemoryCache
from tornado_gateway.gateway import ResponseCache

PATH = b"/api/svc/x"
FRESH = b"Cache-Control: max-age=60"
ON = {"CACHE_ENABLED": "true"}


class Origin:
    """A script: answer each request with a numbered body, so that a test sees which answers are new.

    Args:
        lines: field lines of each answer.

    Attributes:
        count: number of requests so far.
    """

    def __init__(self, *lines: bytes, status: bytes = b"200 OK") -> None:
        self.lines, self.status = lines, status
        self.count = 0

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            self.count += 1
            await peer.send(self.answer(request))

    def answer(self, request: Message) -> bytes:
        body = b"answer %d" % self.count
        if request.method == b"HEAD":
            return reply(self.status, self.lines, body).removesuffix(body)
        return reply(self.status, self.lines, body)


class Each(Origin):
    """A script: answer each request by a function of the request and its number."""

    def __init__(self, answer: Callable[[Message, int], bytes]) -> None:
        super().__init__()
        self._answer = answer

    def answer(self, request: Message) -> bytes:
        return self._answer(request, self.count)


async def ask(running: Running, *lines: bytes, path: bytes = PATH, method: bytes = b"GET", **options: bytes) -> Message:
    """A request on a new connection; the response."""
    client = await running.client()
    return await client.ask(get(path, *lines, method=method, **options), method)


def cache_of(running: Running) -> ResponseCache:
    cache = running.app.gateway.cache
    assert cache is not None
    return cache


def kept(running: Running) -> int:
    """The number of keys with stored responses."""
    store = cache_of(running).store
    assert isinstance(store, MemoryCache)
    return len(store)


async def frozen(serve: Serve, services: dict[str, Any], **variables: str) -> Running:
    """A gateway whose clock stands still, so that Age and ttl are exact however busy the machine is."""
    running = await serve(services, **variables)
    age(running, 0.0)
    return running


def age(running: Running, seconds: float) -> None:
    """Let all stored responses grow older by exactly so many seconds."""
    gateway = running.app.gateway
    instant = math.ceil(gateway.now()) + seconds  # whole seconds have no rounding errors
    object.__setattr__(gateway, "now", lambda: instant)
    if gateway.cache:
        object.__setattr__(gateway, "cache", replace(gateway.cache, now=gateway.now))


def status_of(answer: Message) -> bytes:
    """Cache-Status without the name of the cache."""
    value = answer.get(b"cache-status")
    assert value is not None
    return value.partition(b"; ")[2]
