"""The lingering close of a connection after its last response."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.serving import Delegate, Listen
from tests.support.sockets import Client, eventually, get
from tornado_gateway.wire.server.lingering import LINGER_BYTES, QUIET, Lingering


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.Transport, Client]]:
    """A transport, and the other end."""
    near, far = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
    client = Client(far)
    try:
        yield transport, client
    finally:
        transport.abort()
        client.close()
        await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_a_half_close_sends_a_fin_and_leaves_the_connection_open() -> None:
    async with connected() as (transport, client):
        Lingering(transport, 5.0, 5.0).half_close()
        assert await client.ended()
        assert not transport.is_closing()


@pytest.mark.gen_test
async def test_a_connection_that_is_closing_is_not_half_closed() -> None:
    async with connected() as (transport, _):
        transport.close()
        Lingering(transport, 5.0, 5.0).half_close()
        assert transport.is_closing()


@pytest.mark.gen_test
async def test_bytes_are_dropped_up_to_a_bound() -> None:
    async with connected() as (transport, _):
        lingering = Lingering(transport, 5.0, 5.0)
        lingering.drop(LINGER_BYTES, 5.1)
        assert not transport.is_closing()
        lingering.drop(1, 5.2)
        assert transport.is_closing()


@pytest.mark.gen_test
async def test_a_connection_lasts_while_its_client_takes_the_response() -> None:
    async with connected() as (transport, _):
        lingering = Lingering(transport, now=10.0, taken_at=4.0)
        assert not lingering.look(12.0, 60.0, has_taken=False, waits=False)
        assert lingering.look(63.9, 60.0, has_taken=False, waits=True)
        assert not lingering.look(64.0, 60.0, has_taken=False, waits=True)
        assert lingering.look(64.0, 60.0, has_taken=True, waits=False)
        assert lingering.look(123.9, 60.0, has_taken=False, waits=True)
        assert not lingering.look(124.0, 60.0, has_taken=False, waits=True)


@pytest.mark.gen_test
async def test_the_end_of_a_connection_without_tls_needs_no_time() -> None:
    async with connected() as (transport, client):
        Lingering(transport, 5.0, 5.0).end()
        assert transport.is_closing()
        assert await client.ended()


@pytest.mark.gen_test
async def test_a_connection_can_close_when_its_response_is_acknowledged_and_the_client_is_quiet(
    listen: Listen,
) -> None:
    serving = await listen(Delegate())
    client = await serving.client()
    await client.ask(get(b"/", b"Connection: close"))
    (connection,) = serving.server.connections
    lingering = Lingering(connection.transport, 5.0, 5.0)
    await eventually(lambda: lingering.is_answered)
    assert not lingering.can_close(5.0 + QUIET - 0.01)
    assert lingering.can_close(5.0 + QUIET + 0.01)
    lingering.drop(1, 6.0)
    assert not lingering.can_close(6.0 + QUIET - 0.01)
    assert lingering.can_close(6.0 + QUIET + 0.01)
