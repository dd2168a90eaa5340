"""The server's side, started with any delegate."""

from collections.abc import Iterator
from typing import Any

import pytest
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.ioloop import IOLoop

from tests.support.serving import ANY_PORT, Listen, Serving
from tornado_gateway.wire.server.server import Listener


@pytest.fixture
def listen(io_loop: IOLoop) -> Iterator[Listen]:
    """Start servers: `await listen(delegate, max_body_bytes=3)`; all are ended after the test."""
    started: list[Serving] = []

    async def start(delegate: HTTPServerConnectionDelegate, listener: Listener = ANY_PORT, **config: Any) -> Serving:
        started.append(await Serving.start(delegate, listener, **config))
        return started[-1]

    yield start
    for each in started:
        io_loop.asyncio_loop.run_until_complete(each.close())
