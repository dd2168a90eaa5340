"""The listening sockets of a gateway of several workers: bound by the supervisor, which never accepts."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tornado.httputil import HTTPServerConnectionDelegate

from tornado_gateway.app import (
    CannotListen,
    listen,
    listeners,
    place_of,
    private_places,
    public_listeners,
    public_variables,
)
from tornado_gateway.config.settings import Settings
from tornado_gateway.policy.handover import Place, Role
from tornado_gateway.upkeep.inheritance import Inheritance
from tornado_gateway.wire.server.private import bind
from tornado_gateway.wire.server.server import BACKLOG, HTTPServer, Listener, Listening
from tornado_gateway.wire.server.unix import remove


class BoundServer(HTTPServer):
    """A server that binds and lets the kernel queue connections. Workers accept."""

    def __init__(self) -> None:
        super().__init__(HTTPServerConnectionDelegate())

    async def _accept(self, listening: Listening) -> None:
        listening.sock.listen(BACKLOG)


@dataclass(slots=True)
class Sockets:
    """The listening sockets.

    Attributes:
        places: of `socks`, in the same order.
        addresses, admin_addresses: what is listened on for everybody, and for operators.
    """

    places: list[Place] = field(default_factory=list)
    socks: list[socket.socket] = field(default_factory=list)
    addresses: list[tuple[str, int]] = field(default_factory=list)
    admin_addresses: list[tuple[str, int]] = field(default_factory=list)
    _paths: list[tuple[str, int]] = field(default_factory=list)  # with the inode

    async def open(self, settings: Settings, inherited: Inheritance) -> None:
        """Bind everything that the settings name, or take what is inherited.

        Raises:
            CannotListen: an address cannot be bound.
        """
        operators = settings.admin_listen
        wanted = public_listeners(settings, None)  # workers have the certificates
        self.addresses = await self._open(wanted, public_variables(settings), Role.PUBLIC, inherited)
        if operators.port is not None:
            wanted = listeners(operators.hosts, operators.port)
            self.admin_addresses = await self._open(wanted, "ADMIN_HOST, ADMIN_PORT", Role.OPERATORS, inherited)
        if operators.socket:
            self._open_privately(operators.socket, inherited)

    async def _open(
        self, wanted: Sequence[Listener], variables: str, role: Role, inherited: Inheritance
    ) -> list[tuple[str, int]]:
        server = BoundServer()
        addresses = await listen(server, wanted, variables, role, inherited)
        for each in server.listening:
            self.places.append(place_of(role, each.listener))
            self.socks.append(each.sock)
            if each.listener.path:
                self._paths.append((each.listener.path, each.inode))
        return addresses

    def _open_privately(self, path: str, inherited: Inheritance) -> None:
        places = private_places(Role.CONTROL, path)
        given = inherited.take(*places)
        try:
            sock = given[0] if given else bind(Path(path))
        except OSError as error:
            raise CannotListen(path, None, error, "CTL_SOCKET") from error
        sock.listen(BACKLOG)
        self.places.append(places[0])
        self.socks.append(sock)
        self._paths.append((path, Path(path).stat().st_ino))

    def close(self, *, keeps_paths: bool = False) -> None:
        """Close this process's sockets; workers that accept still have theirs.

        Args:
            keeps_paths: whether the paths of unix sockets stay, because another process listens there.
        """
        for each in self.socks:
            each.close()
        self.socks.clear()
        for path, inode in [] if keeps_paths else self._paths:
            remove(Path(path), inode)
        self._paths.clear()
