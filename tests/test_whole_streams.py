"""Streams of two workers: each worker lists the streams and credentials of both, and ends streams of the other."""

import asyncio
import contextlib
import json
import socket
import time
from pathlib import Path
from typing import Any

import jwt

from tests.support.crews import Crew, crew
from tests.support.restarts import LAST_CHUNK, service
from tests.test_workers import Pinned

SECRET = "k" * 32
CLAIMS = {"sub": "ada", "jti": "a1", "iat": int(time.time()), "exp": int(time.time()) + 900}
BEARER = f"Bearer {jwt.encode(CLAIMS, SECRET)}"
LISTEN = f"GET /sse/svc/events HTTP/1.1\r\nHost: gateway\r\nAuthorization: {BEARER}\r\n\r\n"
AUTH = {"JWT_SECRET": SECRET, "AUTH_REQUIRED": "true", "ADMIN_SCOPE": ""}


def listen(gateway: Crew, worker: int) -> socket.socket:
    """An event stream of a worker, after its first event."""
    stream = gateway.connect_to(worker)
    stream.sendall(LISTEN.encode())
    read_to(stream, b"tick")
    return stream


def read_to(stream: socket.socket, text: bytes) -> None:
    received = b""
    while text not in received:
        more = stream.recv(65536)
        assert more, received
        received += more


def ask(client: Pinned, method: str, path: str, body: str = "") -> Any:
    status, text = client.ask(method, path, body, Authorization=BEARER)
    assert status == 200, text
    return json.loads(text)


def work(folder: Path, upstream: int) -> None:
    upstreams = json.dumps({"svc": [f"http://127.0.0.1:{upstream}"]})
    with crew(folder=folder, UPSTREAMS=upstreams, **AUTH) as gateway, contextlib.ExitStack() as stack:
        streams = [stack.enter_context(listen(gateway, each)) for each in gateway.workers]
        clients = [stack.enter_context(contextlib.closing(Pinned(gateway, each))) for each in gateway.workers]
        for each in clients:
            (row,) = ask(each, "GET", "/admin/api/sessions")["credentials"]
            assert (row["jti"], row["eventStreams"]) == ("a1", 2)
        ids = [each["id"] for each in ask(clients[0], "GET", "/admin/api/streams")["streams"]]
        assert len(ids) == 2
        order = json.dumps({"ids": ids, "overMs": 0})
        assert ask(clients[1], "POST", "/admin/api/streams/close", order)["closing"] == 2
        for stream in streams:
            read_to(stream, LAST_CHUNK)
        streams = [stack.enter_context(listen(gateway, each)) for each in gateway.workers]
        order = json.dumps({"jti": "a1"})
        assert clients[1].ask("POST", "/admin/api/revocations", order, Authorization=BEARER)[0] == 201
        for stream in streams:
            read_to(stream, LAST_CHUNK)


def test_each_worker_lists_closes_and_revokes_the_streams_of_both(tmp_path: Path) -> None:
    async def run() -> None:
        async with service() as upstream:
            await asyncio.to_thread(work, tmp_path, upstream)

    asyncio.run(run())
