"""The state that all connections of a server share."""

import pytest

from tornado_gateway.wire.server import context as module
from tornado_gateway.wire.server.context import ServerConfig, ServerContext


@pytest.mark.gen_test
async def test_a_context_begins_with_the_configured_timeouts_and_a_completed_future() -> None:
    context = ServerContext(ServerConfig(keepalive_timeout=7.0))
    assert (context.keepalive_timeout, context.announces_close, context.draining) == (7.0, False, False)
    assert context.flowing.done()


@pytest.mark.gen_test
async def test_the_date_is_made_once_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    context, now = ServerContext(ServerConfig()), 1764590399.9
    monkeypatch.setattr(module.time, "time", lambda: now)
    first = context.date()
    assert first == b"Date: Mon, 01 Dec 2025 11:59:59 GMT\r\n"
    assert context.date() is first
    now = 1764590400.0
    assert context.date() == b"Date: Mon, 01 Dec 2025 12:00:00 GMT\r\n"
