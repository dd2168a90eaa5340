"""A server on a unix socket that nobody but the user of the process can reach.

The socket has the mode 0600 and stands in a directory of the user's own. The kernel says which user is at the other end
(SO_PEERCRED, unix(7)); a connection of another user is closed unread. The superuser may do what any user may.
"""

import errno
import os
import socket
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

from tornado_gateway.wire.server import unix
from tornado_gateway.wire.server.connection import ServerConnection
from tornado_gateway.wire.server.server import HTTPServer, Listener

MODE = 0o600
SUPERUSER = 0
_CREDENTIALS = struct.Struct("=iII")  # pid, uid and gid of struct ucred (unix(7))


class PrivateServer(HTTPServer):
    """A server for the user of the process."""

    async def listen_at(self, path: str, given: Sequence[socket.socket] = ()) -> None:
        """Bind a unix socket and accept connections.

        Args:
            given: see HTTPServer.listen().

        Raises:
            OSError: the path cannot be used; the text says why.
        """
        await self.listen(Listener(path=path, mode=MODE), given or (bind(Path(path)),))
        if not given:
            await self.resume()

    def opened(self, connection: ServerConnection, /) -> None:
        if is_own(connection.transport.get_extra_info("socket")):
            super().opened(connection)
        else:
            connection.transport.abort()


def bind(path: Path) -> socket.socket:
    """A socket that is bound to a path. A directory that is missing is made; a socket without a process is replaced.

    Raises:
        OSError: the directory is not the user's own, or a process listens at the path.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    found = path.parent.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(
            errno.EPERM, f"{path.parent} must be a directory that belongs to this user, and no other may write"
        )
    return unix.bind(path, MODE)


def is_own(sock: socket.socket) -> bool:
    """Whether the user of this process, or the superuser, is at the other end of a unix socket.

    Args:
        sock: connected.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:  # macOS: the mode of the socket and of the directory decides
        return True
    said = sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
    return uid_of(said) in (os.geteuid(), SUPERUSER)


def uid_of(credentials: bytes) -> int:
    """The user in a struct ucred.

    >>> uid_of(struct.pack("=iII", 4711, 1000, 100))
    1000
    """
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return uid
