"""Helpers of tests of whole requests: common upstreams, requests, and the access log."""

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any

from tests.conftest import Running
from tests.support.sockets import Client, Message, Peer, Script, Upstream, eventually
from tornado_gateway.adapters.access_log import AccessLog, json_line

Start = Callable[..., Upstream]
CHUNKED = b"Transfer-Encoding: chunked"


def plays(*steps: bytes, then: str = "wait") -> Script:
    """A script: read a request whole, send the steps, then wait, close or reset; once per connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for step in steps:
            await peer.send(step)
        if then == "reset":
            peer.reset()
        elif then == "wait":
            await peer.ended()

    return script


async def silent(peer: Peer) -> None:
    """A script: read a head, and never answer."""
    await peer.request_head()
    await peer.ended()


async def flowing(peer: Peer) -> None:
    """A script: send an endless answer."""
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await peer.send(b"5\r\nhello\r\n")
        await asyncio.sleep(0.005)


async def ask(running: Running, request: bytes, method: bytes = b"GET") -> Message:
    """Send a request on a new connection; return the response."""
    return await (await running.client()).ask(request, method)


def problem(answer: Message, status: int, code: str) -> dict[str, Any]:
    """Check an error response for the members of every error; return its body."""
    assert answer.status == status
    assert answer.get(b"content-type") == b"application/problem+json"
    assert answer.get(b"cache-control") == b"no-store"
    said: dict[str, Any] = json.loads(answer.body)
    members = {"type", "title", "status", "detail", "instance", "error", "message", "requestId"}
    assert set(said) - {"violated-policies"} == members
    assert (said["status"], said["error"]) == (status, code)
    assert said["type"].endswith("quota-exceeded" if "violated-policies" in said else code)
    assert said["requestId"].encode() == answer.get(b"x-request-id")
    assert said["instance"].endswith(said["requestId"])
    assert said["detail"] == said["message"] != ""
    return said


async def leave(client: Client, upstream: Upstream, *, abrupt: bool) -> None:
    """End a client's connection by RST or FIN, and check that its exchange with the upstream ends."""
    client.reset() if abrupt else client.close()
    await eventually(lambda: upstream.open == 0)


def capture(running: Running, **options: Any) -> Callable[[], list[dict[str, Any]]]:
    """Turn the access log on, with these options of AccessLog; return the growing list of its lines."""
    stream = io.BytesIO()
    log = AccessLog(stream, json_line, **options)
    object.__setattr__(running.app.gateway, "access_log", log)
    running.app.access_log = log

    def lines() -> list[dict[str, Any]]:
        log._flush()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return lines


async def only_line(lines: Callable[[], list[dict[str, Any]]]) -> dict[str, Any]:
    """Wait for the first line of `capture()`, and check that there is no other."""
    await eventually(lines)
    (line,) = lines()
    return line
