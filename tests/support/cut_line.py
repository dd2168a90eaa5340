"""A line to a server that can be cut, as by a network that is partitioned: neither end hears anything of the other.

    clients ──► CutLine ──► server

While the line is cut no byte passes, no end of a connection is told, and nothing is accepted but the one connection
that the kernel keeps in the backlog. When the line is mended, what was held passes, as TCP sends again what was lost.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast


class _End(asyncio.Protocol):
    """One of two connections that the line joins."""

    transport: asyncio.Transport | None = None
    other: "_End"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if self.other.transport:
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other.transport:
            self.other.transport.close()


class CutLine:
    """A line that is not cut at first. Made inside a running event loop.

    Attributes:
        port: of the line on loopback.
    """

    def __init__(self, server: int) -> None:
        self._server, self._loop = server, asyncio.get_running_loop()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self._ends: list[_End] = []
        self._joining: set[asyncio.Task[None]] = set()
        self._is_cut = True
        self.mend()

    @classmethod
    @asynccontextmanager
    async def to(cls, server: int) -> AsyncIterator["CutLine"]:
        """
        Args:
            server: port of the server on loopback.
        """
        line = cls(server)
        try:
            yield line
        finally:
            line.cut()
            line._listening.close()
            if line._joining:
                await asyncio.wait(line._joining)
            for transport in line._transports():
                transport.abort()
            await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn of the loop

    def cut(self) -> None:
        self._is_cut = True
        self._listening.listen(0)
        self._loop.remove_reader(self._listening)
        for transport in self._transports():
            transport.pause_reading()

    def mend(self) -> None:
        self._is_cut = False
        self._listening.listen()
        self._loop.add_reader(self._listening, self._accept)
        for transport in self._transports():
            transport.resume_reading()

    def _transports(self) -> list[asyncio.Transport]:
        """The transports that are open; the others are forgotten."""
        self._ends = [each for each in self._ends if each.transport and not each.transport.is_closing()]
        return [each.transport for each in self._ends if each.transport]

    def _accept(self) -> None:
        sock, _ = self._listening.accept()
        task = self._loop.create_task(self._join(sock))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _join(self, sock: socket.socket) -> None:
        """Join a client's connection with a new one to the server; a server that is away ends the client's."""
        near, far = _End(), _End()
        near.other, far.other = far, near
        try:
            await self._loop.create_connection(lambda: near, "127.0.0.1", self._server)
        except OSError:
            sock.close()
            return
        await self._loop.connect_accepted_socket(lambda: far, sock)
        self._ends += (near, far)
        if self._is_cut:
            self.cut()
