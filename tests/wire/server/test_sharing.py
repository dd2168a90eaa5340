"""Several acceptors at one socket: as many connections each, and nobody waits for one that hangs."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.sockets import eventually
from tornado_gateway.policy.supervision import SLACK
from tornado_gateway.wire.server.sharing import ABSENT, Share, Shares, SharingServer


class Acceptor:
    """A worker in miniature."""

    def __init__(self, listening: socket.socket, shares: Shares, number: int) -> None:
        self.share = Share(shares, number)
        self.accepted: list[socket.socket] = []
        self.server = SharingServer(listening.dup(), self.share, self._connect)

    async def _connect(self, accepted: socket.socket) -> object:
        self.accepted.append(accepted)
        self.share.set_open(len(self.accepted))
        return None

    def close(self) -> None:
        self.server.close()
        for each in self.accepted:
            each.close()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock:
        yield sock


@pytest.mark.gen_test
async def test_acceptors_get_as_many_connections_each(listening: socket.socket) -> None:
    shares = Shares(3)
    acceptors = [Acceptor(listening, shares, each) for each in range(3)]
    clients = []
    for _ in range(150):
        clients.append(socket.create_connection(listening.getsockname()))
        await asyncio.sleep(0)
    await eventually(lambda: sum(len(each.accepted) for each in acceptors) == 150)
    assert [45 <= len(each.accepted) <= 55 for each in acceptors] == [True] * 3
    await eventually(lambda: sum(shares.connections) == 150)
    for each in clients:
        each.close()
    for acceptor in acceptors:
        acceptor.close()
    assert list(shares.connections) == [ABSENT] * 3


@pytest.mark.gen_test
async def test_what_a_hanging_acceptor_does_not_take_is_taken_by_another(listening: socket.socket) -> None:
    shares = Shares(2)
    hanging = Share(shares, 1)
    hanging.count_server(1)  # has fewer connections, and takes none
    acceptor = Acceptor(listening, shares, 0)
    clients = [socket.create_connection(listening.getsockname()) for _ in range(10)]
    await eventually(lambda: len(acceptor.accepted) == 10)
    for each in clients:
        each.close()
    acceptor.close()


@pytest.mark.gen_test
async def test_who_has_stepped_back_returns_with_the_end_of_a_connection(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tornado_gateway.wire.server.sharing.PAUSE", 3600.0)
    monkeypatch.setattr("tornado_gateway.wire.server.sharing.HANGS", 3600.0)
    shares = Shares(2)
    other = Share(shares, 1)
    other.count_server(1)
    acceptor = Acceptor(listening, shares, 0)
    clients = [socket.create_connection(listening.getsockname()) for _ in range(SLACK + 3)]
    await eventually(lambda: len(acceptor.accepted) == SLACK + 1)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(acceptor.accepted) == SLACK + 1
    acceptor.share.set_open(SLACK)
    await eventually(lambda: len(acceptor.accepted) == SLACK + 2)
    for each in clients:
        each.close()
    acceptor.close()


@pytest.mark.gen_test
async def test_a_connection_that_cannot_be_made_is_no_fault(listening: socket.socket) -> None:
    shares = Shares(1)
    share = Share(shares, 0)

    async def fail(accepted: socket.socket) -> object:
        accepted.close()
        raise ConnectionResetError("during the handshake of TLS")

    server = SharingServer(listening.dup(), share, fail)
    with socket.create_connection(listening.getsockname()) as client:
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        with suppress(ConnectionResetError):
            assert await loop.sock_recv(client, 1) == b""
    await eventually(lambda: list(shares.connections) == [0])
    server.close()
    server.close()


@pytest.mark.gen_test
async def test_without_descriptors_accepting_is_tried_again(
    listening: socket.socket, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tornado_gateway.wire.server.sharing.WITHOUT_DESCRIPTORS", 0.01)
    failures = iter([OSError(24, "Too many open files")])

    class Short(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            for failure in failures:
                raise failure
            return super().accept()

    shares, accepted = Shares(1), []

    async def connect(sock: socket.socket) -> object:
        accepted.append(sock)
        return None

    server = SharingServer(Short(fileno=listening.dup().detach()), Share(shares, 0), connect)
    with socket.create_connection(listening.getsockname()):
        await eventually(lambda: len(accepted) == 1)
    assert "cannot accept a connection: Too many open files" in caplog.text
    server.close()
    accepted[0].close()
