"""An MCP server with both transports: /mcp speaks streamable HTTP, /sse speaks events with messages sent apart."""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from starlette.applications import Starlette

server = MCPServer("calculator")


@server.tool()
async def add(a: int, b: int, context: Context) -> int:
    """Add two numbers, with progress in two steps."""
    await context.report_progress(1, 2)
    await context.report_progress(2, 2)
    return a + b


streamable, events = server.streamable_http_app(), server.sse_app()


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with server.session_manager.run():
        yield


application = Starlette(routes=[*streamable.routes, *events.routes], lifespan=lifespan)


async def below_prefix(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The application below the prefix that the gateway has stripped."""
    if scope["type"] == "http":
        prefix = dict(scope["headers"]).get(b"x-forwarded-prefix", b"").decode("ascii")
        scope = {**scope, "root_path": prefix, "path": prefix + scope["path"]}
    await application(scope, receive, send)


app = application if "BARE" in os.environ else below_prefix
