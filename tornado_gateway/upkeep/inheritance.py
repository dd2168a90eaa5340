"""The listening sockets that a process has not bound: those of systemd, or of the gateway before.

See policy/handover.py for the messages. The calls block: a process that has not begun to accept has nothing else to do.
"""

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tornado_gateway.policy.handover import FIRST_DESCRIPTOR, Offer, Place, Role, activated, line, read
from tornado_gateway.wire.server.private import is_own

HELLO = b"take over\n"
DONE = b"done\n"
MOST_SOCKETS = 253  # descriptors in a message: SCM_MAX_FD of Linux
LONGEST_LINE = 256 * 1024 * 1024  # bytes
PATIENCE = 30.0  # seconds for an answer of the predecessor, which goes on serving clients meanwhile


class CannotTakeOver(Exception):
    """The sockets cannot be had. The text says why."""


class Inheritance:
    """Sockets that listen already, each of which is taken once.

    Args:
        offer: places and secrets.
        sockets: in the order of the places.
        connection: to the predecessor; None without one.

    Attributes:
        offer: see above.
    """

    def __init__(
        self,
        offer: Offer = Offer(0, ()),  # noqa: B008  # a frozen record
        sockets: tuple[socket.socket, ...] = (),
        connection: socket.socket | None = None,
    ) -> None:
        self.offer = offer
        self._sockets = dict(enumerate(sockets))
        self._taken: list[int] = []
        self._connection = connection

    def activated(self, role: Role) -> list[Place]:
        """The places of a role whose sockets systemd has bound, by their addresses; no other is to be bound then."""
        return [each for each in self.offer.places if each.role is role and each.is_activated]

    def take(self, *places: Place) -> list[socket.socket]:
        """The sockets of places; without those that nobody has given."""
        numbers = [number for number in self._sockets if self.offer.places[number] in places]
        self._taken += numbers
        return [self._sockets.pop(number) for number in numbers]

    def ready(self) -> dict[str, Any]:
        """Tell the predecessor to accept no more; return what else the predecessor gives.

        Raises:
            CannotTakeOver: the predecessor does not answer, and goes on.
        """
        if self._connection is None:
            return {}
        try:
            self._connection.sendall(line({"taken": self._taken}))
            return read(_line(self._connection))
        except (OSError, ValueError) as error:
            raise CannotTakeOver(f"process {self.offer.pid} has not ceded its sockets: {error}") from error

    def done(self) -> None:
        """Tell the predecessor that this process accepts connections."""
        if self._connection:
            with suppress(OSError):  # a predecessor that has ended needs not be told
                self._connection.sendall(DONE)

    def close(self) -> None:
        """Close what nobody has taken. A predecessor that has not heard of done() goes on."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        if self._connection:
            self._connection.close()
            self._connection = None


def from_systemd(environ: Mapping[str, str], pid: int) -> Inheritance:
    """The sockets that systemd has given to the process; see sd_listen_fds(3).

    Raises:
        CannotTakeOver: what systemd says makes no sense.
    """
    try:
        roles = activated(environ, pid)
        sockets = tuple(socket.socket(fileno=FIRST_DESCRIPTOR + number) for number in range(len(roles)))
        places = tuple(_place(role, sock) for role, sock in zip(roles, sockets, strict=True))
    except (OSError, ValueError) as error:
        raise CannotTakeOver(f"LISTEN_FDS: {error}") from error
    for sock in sockets:
        sock.set_inheritable(False)
    return Inheritance(Offer(0, places), sockets)


def _place(role: Role, sock: socket.socket) -> Place:
    """
    Raises:
        ValueError: the role is not for sockets of this family.
    """
    is_unix = sock.family == socket.AF_UNIX
    if role is not Role.PUBLIC and is_unix is not (role in (Role.CONTROL, Role.TAKEOVER)):
        raise ValueError(f"a socket for {role.value} must be {'a TCP socket' if is_unix else 'a unix socket'}")
    name = sock.getsockname()
    host, port = (name, None) if is_unix else name[:2]
    return Place(role, host, port, is_activated=True)


def from_predecessor(path: str) -> Inheritance | None:
    """The sockets of the gateway that runs; None if nobody listens at the path.

    Raises:
        CannotTakeOver: the gateway that runs does not give them.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise CannotTakeOver(f"TAKEOVER_SOCKET: {path}: {error.strerror or error}") from error
    try:
        return _ask(connection)
    except (OSError, ValueError) as error:
        connection.close()
        raise CannotTakeOver(f"TAKEOVER_SOCKET: {path}: no sockets are offered: {error}") from error


def _ask(connection: socket.socket) -> Inheritance:
    if not is_own(connection):
        raise PermissionError("another user listens there")
    connection.sendall(HELLO)
    said, descriptors, *_ = socket.recv_fds(connection, 65536, MOST_SOCKETS)
    sockets = tuple(socket.socket(fileno=each) for each in descriptors)
    offer = Offer.read(_line(connection, said))
    if len(sockets) != len(offer.places):
        raise ValueError(f"{len(sockets)} sockets for {len(offer.places)} places")
    return Inheritance(offer, sockets, connection)


def _line(connection: socket.socket, said: bytes = b"") -> bytes:
    """The next message, of which a part has been read.

    Raises:
        OSError: the connection has ended, or the message is too long.
    """
    parts = [said]
    while not parts[-1].endswith(b"\n"):
        part = connection.recv(65536)
        if not part or sum(map(len, parts)) > LONGEST_LINE:
            raise ConnectionAbortedError("the connection has ended")
        parts.append(part)
    return b"".join(parts)
