"""A tool called by the MCP SDK: mcp_client.py TRANSPORT URL, where TRANSPORT is streamable or sse."""

import asyncio
import json
import sys

import loopback  # noqa: F401
from mcp import Client
from mcp.client.sse import sse_client


async def main(transport: str, url: str) -> None:
    progress: list[float] = []

    async def on_progress(done: float, *_: object) -> None:
        progress.append(done)

    async with Client(sse_client(url) if transport == "sse" else url) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("add", {"a": 2, "b": 40}, progress_callback=on_progress)
        wrong = await client.call_tool("add", {"a": "two", "b": 40})
    seen = {"tools": tools, "result": result.content[0].text, "progress": progress, "wrong": wrong.is_error}
    print(json.dumps(seen))


asyncio.run(main(sys.argv[1], sys.argv[2]))
