"""A plain proxy of thirty lines, on aiohttp's server and client.

Usage: python -m benchmarks.cost.plain_proxy <port> <upstream's port> <port of the service of streams>. The proxy pools
connections, streams bodies and forwards messages; it has no limits, retries, log or metrics.
"""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import ClientSession, ClientTimeout, ClientWebSocketResponse, TCPConnector, WSMsgType, web
from yarl import URL

from benchmarks.readiness import HOST

REQUESTS, EVENTS, SOCKETS = "/api/svc", "/sse/streams", "/ws/streams"
HOP_BY_HOP = {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


def forwarder(session: ClientSession, route: str, upstream: str) -> Callable[[web.Request], Any]:
    """A handler that forwards requests to the upstream, and responses to the client."""

    async def forward(request: web.Request) -> web.StreamResponse:
        fields = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        fields.append(("X-Request-Id", uuid.uuid4().hex))
        target = URL(upstream + request.raw_path.removeprefix(route), encoded=True)
        body = request.content if request.can_read_body else None
        async with session.request(request.method, target, headers=fields, data=body, allow_redirects=False) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    return forward


def bridge(session: ClientSession, upstream: str) -> Callable[[web.Request], Any]:
    """A handler that forwards messages in both directions until either side closes."""

    async def connect(request: web.Request) -> web.WebSocketResponse:
        async with session.ws_connect(upstream + request.query["path"], compress=0) as far:
            near = web.WebSocketResponse(compress=False)
            await near.prepare(request)
            await asyncio.gather(pump(near, far), pump(far, near))
            return near

    return connect


Socket = web.WebSocketResponse | ClientWebSocketResponse


async def pump(source: Socket, sink: Socket) -> None:
    """Forward the messages of `source` to `sink`, then close `sink`."""
    async for message in source:
        if message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
        else:
            await sink.send_bytes(message.data)
    await sink.close()


async def application(upstream: str, stream_upstream: str) -> web.Application:
    """The proxy, for aiohttp's runner."""
    connector, timeout = TCPConnector(limit=0), ClientTimeout(total=None)
    session = ClientSession(connector=connector, auto_decompress=False, timeout=timeout)

    async def close_session(_: web.Application) -> AsyncIterator[None]:
        yield
        await session.close()

    app = web.Application()
    app.cleanup_ctx.append(close_session)
    app.router.add_route("*", REQUESTS + "/{path:.*}", forwarder(session, REQUESTS, upstream))
    app.router.add_get(EVENTS + "/{path:.*}", forwarder(session, EVENTS, stream_upstream))
    app.router.add_get(SOCKETS, bridge(session, stream_upstream))
    return app


def main() -> None:
    """Serve until a signal."""
    port, *upstream_ports = map(int, sys.argv[1:])
    try:
        import uvloop  # noqa: PLC0415 (optional)
    except ImportError:
        loop = None
    else:
        loop = uvloop.new_event_loop()
    upstreams = [f"http://{HOST}:{each}" for each in upstream_ports]
    web.run_app(application(*upstreams), host=HOST, port=port, access_log=None, print=None, backlog=4096, loop=loop)


if __name__ == "__main__":
    main()
