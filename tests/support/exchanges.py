"""Helpers of tests of wire/client: a client whose teardown checks for leaks, and receivers that record."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.sockets import PATIENCE, Field, Peer, Script, Upstream, eventually, get
from tornado_gateway.errors import UpstreamError
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.wire.client.client import ClientConfig, PooledHTTPClient
from tornado_gateway.wire.client.connect import ConnectConfig
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.client.pool import PoolConfig
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead

MEGABYTE = bytes(1024 * 1024)


@asynccontextmanager
async def wire_client(
    timeout: float = 30.0, connect_timeout: float = 5.0, pool: PoolConfig | None = None, **connect: Any
) -> AsyncIterator[PooledHTTPClient]:
    """A client; at the end no exchange may be open, and every connection must be counted out."""
    config = ClientConfig(timeout, ConnectConfig(connect_timeout, **connect), pool or PoolConfig())
    client = PooledHTTPClient(force_instance=True, config=config)
    pools = []
    remember, client.pool = client.pool, lambda origin: pools.append(remember(origin)) or pools[-1]
    try:
        yield client
        await eventually(lambda: not client.active and not client.connecting)
    finally:
        client.close()
        await eventually(lambda: not any(each.open for each in pools))


class Recorder:
    """Receives a response, and records all calls.

    Attributes:
        calls: names of the methods that were called, in order.
        hold: whether on_chunk() returns futures, kept in `held` until `take()`.
    """

    def __init__(self, *, hold: bool = False) -> None:
        self.hold = hold
        self.held: list[asyncio.Future[None]] = []
        self.calls: list[str] = []
        self.interim: list[ResponseHead] = []
        self.head: ResponseHead | None = None
        self.chunks: list[bytes] = []
        self.trailers: list[Field] = []
        self.error: UpstreamError | None = None
        self._end = asyncio.Event()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def on_interim(self, head: ResponseHead) -> None:
        self.calls.append("interim")
        self.interim.append(head)

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver:
        self.calls.append("head")
        self.head = head
        return self

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        self.calls.append("chunk")
        self.chunks.append(chunk)
        if not self.hold:
            return None
        self.held.append(asyncio.get_running_loop().create_future())
        return self.held[-1]

    def on_end(self, trailers: list[Field]) -> None:
        self.calls.append("end")
        self.trailers = trailers
        self._end.set()

    def on_failure(self, error: UpstreamError) -> None:
        self.calls.append("failure")
        self.error = error
        self._end.set()

    def take(self) -> None:
        """Complete the held futures, so that reading goes on."""
        self.hold = False
        for future in self.held:
            if not future.done():
                future.set_result(None)

    async def ended(self) -> "Recorder":
        """Wait for the exchange's end; it must have ended once.

        Raises:
            UpstreamError: the exchange failed.
        """
        async with asyncio.timeout(PATIENCE):
            await self._end.wait()
        assert self.calls.count("end") + self.calls.count("failure") == 1
        if self.error:
            raise self.error
        return self


def origin_of(upstream: Upstream) -> Origin:
    return Origin("http", "127.0.0.1", upstream.port)


def begin(
    client: PooledHTTPClient,
    origin: Origin,
    request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    recorder: Recorder | None = None,
    **options: Any,
) -> tuple[ClientExchange, Recorder]:
    """Send a request's head."""
    recorder = recorder or Recorder()
    opening = {name: options.pop(name) for name in ("fresh", "alone", "tls") if name in options}
    exchange = client.open(origin, request.partition(b" ")[0], recorder, **opening)
    exchange.send(request, **options)
    return exchange, recorder


async def exchange(client: PooledHTTPClient, origin: Origin, *request: bytes, **options: Any) -> Recorder:
    """Do an exchange without a request body."""
    return await begin(client, origin, *request, **options)[1].ended()


def saying(*pieces: bytes, then: str = "wait") -> Script:
    """A script: answer one request with these bytes, each on its own, and then close, reset or wait."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.send(piece)
        if then == "reset":
            await taken(peer)
            peer.reset()
        elif then == "wait":
            await peer.ended()

    return script


async def taken(peer: Peer) -> None:
    """Wait until the peer's kernel has acknowledged everything, since a reset would discard unsent bytes."""
    await asyncio.sleep(0.02)


def upload(target: bytes = b"/", *lines: bytes, method: bytes = b"POST") -> bytes:
    return get(target, *lines, method=method)


async def silent(peer: Peer) -> None:
    """A script: read the request, and never answer."""
    await peer.request_head()
    peer.upstream.ended_cleanly = await peer.ended()
