"""A server on a unix socket that nobody but the user of the process can reach.

The socket has the mode 0600 and stands in a directory of the user's own. The kernel says which user is at the other end
(SO_PEERCRED, unix(7)); a connection of another user is closed unread. The superuser may do what any user may.
"""

import asyncio
import errno
import os
import socket
import stat
import struct
from contextlib import suppress
from functools import partial
from pathlib import Path

from tornado_gateway.wire.server.connection import ServerConnection
from tornado_gateway.wire.server.server import HTTPServer

BACKLOG = 16
SUPERUSER = 0
_CREDENTIALS = struct.Struct("=iII")  # pid, uid and gid of struct ucred (unix(7))


class PrivateServer(HTTPServer):
    """A server for the user of the process."""

    _path: Path | None = None
    _inode = 0

    async def listen_at(self, path: str) -> None:
        """Bind a unix socket and accept connections.

        Raises:
            OSError: the path cannot be used; the text says why.
        """
        self._path, listening = Path(path), bind(Path(path))
        self._inode = self._path.stat().st_ino
        server = await self.context.loop.create_unix_server(
            partial(ServerConnection, self, b"http"), sock=listening, backlog=BACKLOG
        )
        self._sockets.append(server)

    def opened(self, connection: ServerConnection, /) -> None:
        if is_own(connection.transport):
            super().opened(connection)
        else:
            connection.transport.abort()

    def drain(self) -> None:
        """See HTTPServer.drain(). The path is free for the next process."""
        super().drain()
        with suppress(OSError):
            if self._path and self._path.stat().st_ino == self._inode:  # no other process has bound the path
                self._path.unlink()


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
    if path.is_socket():
        _remove_without_process(path)
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(str(path))
        path.chmod(0o600)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_without_process(path: Path) -> None:
    """
    Raises:
        OSError: a process listens at the path.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another process listens there")


def is_own(transport: asyncio.BaseTransport) -> bool:
    """Whether the user of this process, or the superuser, is at the other end of a unix socket."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:  # macOS: the mode of the socket and of the directory decides
        return True
    said = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
    return uid_of(said) in (os.geteuid(), SUPERUSER)


def uid_of(credentials: bytes) -> int:
    """The user in a struct ucred.

    >>> uid_of(struct.pack("=iII", 4711, 1000, 100))
    1000
    """
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return uid
