"""TCP state that asyncio's transports do not offer. On real sockets, on Linux."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from tests.support.sockets import Client, Ended, eventually
from tornado_gateway.wire import peer
from tornado_gateway.wire.peer import has_ended, reset, unacknowledged


@contextlib.asynccontextmanager
async def unread() -> AsyncIterator[tuple[Client, asyncio.Transport]]:
    """A client, and the transport that its connection has here; it is not read."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        client = await Client.connect(listener.getsockname()[1])
        accepted, _ = await loop.sock_accept(listener)
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, accepted)
    transport.pause_reading()
    try:
        yield client, transport
    finally:
        transport.abort()
        client.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize("by_fin", [True, False])
@pytest.mark.gen_test
async def test_a_peer_that_is_there_has_not_ended_whatever_it_has_sent(by_fin: bool) -> None:
    async with unread() as (client, transport):
        assert not has_ended(transport, by_fin=by_fin)
        await client.send(b"unread")
        assert not has_ended(transport, by_fin=by_fin)


@pytest.mark.parametrize("sent", [b"", b"unread"])
@pytest.mark.parametrize("is_half", [True, False], ids=["half", "whole"])
@pytest.mark.gen_test
async def test_a_fin_counts_only_where_it_is_asked_for(is_half: bool, sent: bytes) -> None:
    async with unread() as (client, transport):
        await client.send(sent)
        client.half_close() if is_half else client.close()
        await eventually(lambda: has_ended(transport, by_fin=True))
        assert not has_ended(transport, by_fin=False)


@pytest.mark.parametrize("by_fin", [True, False])
@pytest.mark.parametrize("sent", [b"", b"unread"])
@pytest.mark.gen_test
async def test_an_rst_always_counts(sent: bytes, by_fin: bool) -> None:
    async with unread() as (client, transport):
        await client.send(sent)
        client.reset()
        await eventually(lambda: has_ended(transport, by_fin=by_fin))
        assert has_ended(transport, by_fin=True)
        assert has_ended(transport, by_fin=False)


@pytest.mark.gen_test
async def test_the_own_fin_is_not_the_peers() -> None:
    async with unread() as (_, transport):
        transport.write_eof()
        assert not has_ended(transport, by_fin=True)


@pytest.mark.gen_test
async def test_of_a_transport_that_is_closing_nothing_is_asked() -> None:
    async with unread() as (client, transport):
        client.reset()
        transport.abort()
        assert not has_ended(transport, by_fin=True)


@pytest.mark.gen_test
async def test_unix_sockets_have_no_such_state() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    theirs.close()
    try:
        assert not has_ended(transport, by_fin=True)
    finally:
        transport.abort()


@pytest.mark.gen_test
async def test_unread_bytes_are_counted() -> None:
    async with unread() as (client, transport):
        assert peer.unread(transport) == 0
        await client.send(b"hello")
        await eventually(lambda: peer.unread(transport) == 5)
        transport.abort()
        assert peer.unread(transport) == 0


@pytest.mark.gen_test
async def test_unacknowledged_bytes_are_counted_including_the_write_buffer() -> None:
    async with unread() as (client, transport):
        assert unacknowledged(transport) == 0
        transport.write(bytes(16 * 1024 * 1024))
        assert unacknowledged(transport) > 0
        await client.exactly(16 * 1024 * 1024)
        await eventually(lambda: unacknowledged(transport) == 0)
        transport.write_eof()
        await eventually(lambda: unacknowledged(transport) == 0)
        transport.abort()
        assert unacknowledged(transport) == 0


@pytest.mark.gen_test
async def test_a_reset_is_no_clean_end_and_loses_unsent_bytes() -> None:
    async with unread() as (client, transport):
        transport.write(b"part of a response")
        reset(transport)
        with pytest.raises(Ended) as end:
            while True:
                await client.more()
        assert not end.value.clean
