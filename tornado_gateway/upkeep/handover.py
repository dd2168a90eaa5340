"""Gives the listening sockets of this process to a successor. See policy/handover.py for the messages.

The socket for successors has the mode 0600 and stands in a directory of the user's own. Only a process of the same
user, or of the superuser, gets the sockets (SO_PEERCRED, unix(7)).
"""

import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from tornado_gateway.policy.handover import Offer, Place, line, taken
from tornado_gateway.upkeep.inheritance import DONE, HELLO
from tornado_gateway.wire.server.private import bind, is_own
from tornado_gateway.wire.server.unix import remove

BACKLOG = 4
START_PATIENCE = 120.0  # seconds from the offer until the successor must be ready: it loads and checks everything
PATIENCE = 10.0  # seconds for any other message
LONGEST_LINE = 65536  # bytes

log = logging.getLogger("tornado_gateway")


class Predecessor(Protocol):
    """What is given away, as a HandOver uses it; see App."""

    def offer(self) -> tuple[Offer, Sequence[socket.socket]]:
        """The places that this process listens at, and their sockets."""

    async def cede(self) -> Mapping[str, object]:
        """Accept no more connections; return what the successor must know of this process."""

    async def resume(self) -> None:
        """Accept connections again."""

    def leave(self, taken: frozenset[Place], /) -> None:
        """A successor accepts connections: drain.

        Args:
            taken: the places that the successor has taken.
        """


class HandOver:
    """Waits for a successor.

    Args:
        path: of the unix socket.
        given: a socket that listens there already.

    Attributes:
        sock: listens for successors.
        keeps_path: whether the path stays at the end, because another process listens there.

    Raises:
        OSError: the path cannot be used; the text says why.
    """

    def __init__(self, predecessor: Predecessor, path: str, given: Sequence[socket.socket] = ()) -> None:
        self._predecessor, self._path = predecessor, Path(path)
        self.sock = given[0] if given else bind(self._path)
        self.sock.setblocking(False)
        self.keeps_path = bool(given)
        self._inode = self._path.stat().st_ino
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.keeps_path = False
        self.sock.listen(BACKLOG)
        self._task = asyncio.ensure_future(self._serve())

    async def close(self) -> None:
        """Stop waiting. The path is removed, unless a successor listens there."""
        if self._task and self._task is not asyncio.current_task():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self.sock.close()
        if not self.keeps_path:
            remove(self._path, self._inode)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        is_over = False
        while not is_over:
            try:
                connection, _ = await loop.sock_accept(self.sock)
            except OSError as error:  # no descriptor is left
                log.error("no take-over: %s", error)
                await asyncio.sleep(PATIENCE)
                continue
            with connection:
                connection.setblocking(False)
                is_over = is_own(connection) and await self._meet(Conversation(connection))

    async def _meet(self, successor: "Conversation") -> bool:
        """Give everything to a successor; return whether the successor has it."""
        try:
            if await successor.hear(PATIENCE) != HELLO:
                return False
        except OSError:  # a process that asks whether anybody listens
            return False
        try:
            return await self._give(successor)
        except (OSError, ValueError) as error:
            log.error("no take-over: %s; this process goes on", error)
            return False

    async def _give(self, successor: "Conversation") -> bool:
        offer, sockets = self._predecessor.offer()
        successor.offer(offer, sockets)
        numbers = taken(await successor.hear(START_PATIENCE, "a successor has ended before it was ready"), len(sockets))
        memory = await self._predecessor.cede()
        try:
            await successor.say(line(memory))
            if await successor.hear(PATIENCE, "a successor has ended before it accepted connections") != DONE:
                raise ValueError("a successor does not say that it accepts connections")
        except BaseException:
            await self._predecessor.resume()
            raise
        self._predecessor.leave(frozenset(offer.places[each] for each in numbers))
        return True


class Conversation:
    """A connection to a successor.

    Args:
        connection: a non-blocking unix socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._loop = connection, asyncio.get_running_loop()

    def offer(self, offer: Offer, sockets: Sequence[socket.socket]) -> None:
        """Send the sockets. A fresh connection takes so few bytes at once."""
        socket.send_fds(self._connection, [offer.line()], [each.fileno() for each in sockets])

    async def say(self, said: bytes) -> None:
        """
        Raises:
            OSError: the successor has ended, or does not read.
        """
        async with asyncio.timeout(PATIENCE):
            await self._loop.sock_sendall(self._connection, said)

    async def hear(self, patience: float, or_else: str = "the connection has ended") -> bytes:
        """The next message.

        Args:
            or_else: what it means that there is none.

        Raises:
            OSError: there is no message.
        """
        said = b""
        try:
            async with asyncio.timeout(patience):
                while not said.endswith(b"\n") and len(said) < LONGEST_LINE:
                    part = await self._loop.sock_recv(self._connection, LONGEST_LINE)
                    if not part:
                        raise ConnectionAbortedError(or_else)
                    said += part
        except ConnectionResetError as error:
            raise ConnectionAbortedError(or_else) from error
        except TimeoutError as error:
            raise TimeoutError(f"a successor has said nothing for {patience:.0f} s") from error
        return said
