"""Helpers of tests of a WebSocket through a gateway: control of both sides, and views of both legs."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from tests.conftest import Serve
from tests.support.journeys import Start
from tests.support.sockets import Ended, eventually
from tests.support.websockets import PING, PONG, Acceptor, Bridge, Frame, Side, binary, bridged, close
from tornado_gateway.wire.peer import send_queue
from tornado_gateway.wire.websocket.leg import Leg

MEGABYTE = 1024 * 1024
KILOBYTES = binary(b"k" * 16_000)  # is kept back until it is whole
COMPRESSED = 0x40
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"
SMALL_BUFFER = 64 * 1024  # bytes of the kernel's; much less makes TCP wait for its timers
ONE_READ = 256 * 1024  # bytes that a transport may read at once, and so be above its bound
PING_INTERVAL, PONG_TIMEOUT = 30.0, 10.0  # seconds, as they are without being asked for

OTHER = {"client": "upstream", "upstream": "client"}
either_side = pytest.mark.parametrize("who", ["client", "upstream"])
by_fin_or_rst = pytest.mark.parametrize("how", ["FIN", "RST"])


def end(side: Side, how: str) -> None:
    side.connection.reset() if how == "RST" else side.connection.close()


def lost(who: str) -> tuple[int, bytes]:
    """The Close that the other side receives when a side is lost."""
    return (1001, b"client gone") if who == "client" else (1011, b"upstream lost")


async def answer_close(side: Side, *, heard: tuple[int, bytes]) -> None:
    """Wait for the expected Close, and answer it as an endpoint does."""
    assert await side.told() == heard
    await side.send(close(*heard) if heard[0] else close())


def narrow(leg: Leg, size: int = SMALL_BUFFER) -> None:
    """Shrink the kernel's send buffer, so that few written bytes fill it."""
    leg.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


async def unsent(leg: Leg) -> int:
    """The number of bytes that wait for a side once the kernel's buffers are full."""
    await eventually(lambda: leg.is_blocked)
    return await settled(leg)


def messages(bridge: Bridge) -> tuple[int, int]:
    """The numbers of messages that the client and the upstream have sent."""
    return bridge.relay.client.scanner.messages, bridge.relay.upstream.scanner.messages


def waiting(leg: Leg) -> int:
    """The number of bytes that wait for a side, in the gateway and in its kernel."""
    return leg.transport.get_write_buffer_size() + send_queue(leg.transport)[0]


async def settled(leg: Leg) -> int:
    """The number of bytes that wait for a side, once the number is stable."""
    size, same = -1, 0
    while same < 10:
        await asyncio.sleep(0.001)
        now = leg.transport.get_write_buffer_size()
        same = same + 1 if now == size else 0
        size = now
    return size


async def narrowed(serve: Serve, upstream: Start, slow: str, **variables: str) -> Bridge:
    """A bridge in which the kernel buffers little for one side."""
    acceptor = Acceptor(receive_buffer=SMALL_BUFFER)
    bridge = await bridged(serve, upstream, acceptor, receive_buffer=SMALL_BUFFER, **variables)
    narrow(bridge.leg(slow))
    return bridge


@contextlib.asynccontextmanager
async def blocked(serve: Serve, upstream: Start, slow: str, **variables: str) -> AsyncIterator[Bridge]:
    """A bridge in which one side does not read, and the other side has been paused and sends on."""
    bridge = await narrowed(serve, upstream, slow, **variables)
    _, fast = bridge.side(slow)

    async def send() -> None:
        with contextlib.suppress(Ended, OSError, TimeoutError):
            while True:
                await fast.send(KILOBYTES)
                await asyncio.sleep(0)

    sending = asyncio.ensure_future(send())
    try:
        await eventually(lambda: bridge.leg(slow).other.is_held or bridge.relay.close)
        yield bridge
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending


def own_ping(bridge: Bridge, number: int = 1) -> Frame:
    """The n-th ping of the gateway to a side."""
    return Frame(PING, b"%b-%d" % (bridge.relay.config.ping_token, number))


def own_pong(bridge: Bridge, number: int = 1) -> Frame:
    """The pong that answers own_ping()."""
    return Frame(PONG, own_ping(bridge, number).payload)
