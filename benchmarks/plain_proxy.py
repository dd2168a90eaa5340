"""The proxy that one writes in an hour: aiohttp's server and client, twenty lines between them.

A program of its own: python -m benchmarks.plain_proxy <port> <upstream's port>. It
pools connections and streams bodies; it has no limits, no retry, no log, no metrics.
"""

import sys
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

from benchmarks.readiness import HOST

ROUTE = "/api/svc"
HOP_BY_HOP = {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


def forwarder(session: ClientSession, upstream: str) -> Callable[[web.Request], Any]:
    """A handler that passes each request on to the upstream, and its answer back."""

    async def forward(request: web.Request) -> web.StreamResponse:
        fields = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        fields.append(("X-Request-Id", uuid.uuid4().hex))
        target = URL(upstream + request.raw_path.removeprefix(ROUTE), encoded=True)
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


async def application(upstream: str) -> web.Application:
    """The proxy, for aiohttp's runner."""
    connector, timeout = TCPConnector(limit=0), ClientTimeout(total=None)
    session = ClientSession(connector=connector, auto_decompress=False, timeout=timeout)

    async def close_session(_: web.Application) -> AsyncIterator[None]:
        yield
        await session.close()

    app = web.Application()
    app.cleanup_ctx.append(close_session)
    app.router.add_route("*", ROUTE + "/{path:.*}", forwarder(session, upstream))
    return app


def main() -> None:
    """Serve until a signal."""
    port, upstream_port = map(int, sys.argv[1:])
    try:
        import uvloop  # noqa: PLC0415 (optional)
    except ImportError:
        loop = None
    else:
        loop = uvloop.new_event_loop()
    upstream = f"http://{HOST}:{upstream_port}"
    web.run_app(application(upstream), host=HOST, port=port, access_log=None, print=None, backlog=4096, loop=loop)


if __name__ == "__main__":
    main()
