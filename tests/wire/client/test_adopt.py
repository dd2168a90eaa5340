"""A connected socket that becomes a connection. A cancellation at any moment leaves no connection and no count."""

import asyncio
import socket

import pytest
import trustme

from tests.support.exchanges import begin, exchange, wire_client
from tests.support.sockets import eventually
from tests.support.tls import tls_upstream
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.wire.client.adopt import adopt

# More turns of the loop than an opening takes on either loop, TLS handshake included.
TURNS = range(30)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def give_up_after(turns: int, origin: Origin) -> None:
    """Begin a request that needs a new connection, and abort it some turns of the loop later."""
    async with wire_client(tls_verify=False) as client:
        leaving, _ = begin(client, origin)
        for _ in range(turns):
            await asyncio.sleep(0)
        pool = client.pool(origin)
        leaving.abort()
        await eventually(lambda: pool.open == len(pool))  # counted is what is kept: a response may have come


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.gen_test
async def test_a_caller_that_gives_up_leaves_no_connection(upstream, scheme, turns) -> None:
    silent = upstream(lambda peer: peer.ended())
    await give_up_after(turns, Origin(scheme, "127.0.0.1", silent.port))
    _, last = await asyncio.open_connection("127.0.0.1", silent.port)
    await eventually(lambda: silent.open == 1)  # what was connected before has been accepted before, and has ended
    last.close()
    await eventually(lambda: not silent.open)


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.gen_test
async def test_a_caller_that_gives_up_within_a_handshake_leaves_no_connection(authority, turns) -> None:
    async with tls_upstream(authority) as up, wire_client(tls_verify=False) as client:
        origin = Origin("https", "127.0.0.1", up.port)
        await give_up_after(turns, origin)
        assert (await exchange(client, origin)).body == b"ok"


@pytest.mark.gen_test
async def test_an_adopted_socket_of_a_closed_peer_ends() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.close()

    class Ending(asyncio.Protocol):
        def __init__(self) -> None:
            self.lost = asyncio.Event()

        def connection_lost(self, error: Exception | None) -> None:
            self.lost.set()

    protocol = await adopt(Ending, near)
    await protocol.lost.wait()
