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
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tornado_gateway.policy.draining import IdleEnds
from tornado_gateway.wire.server.connection import ServerConnection
from tornado_gateway.wire.server.server import HTTPServer, Listener, Listening

BACKLOG = 16
SUPERUSER = 0
LEAVES_PATH: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}  # remove() removes it
_CREDENTIALS = struct.Struct("=iII")  # pid, uid and gid of struct ucred (unix(7))


class PrivateServer(HTTPServer):
    """A server for the user of the process.

    Attributes:
        keeps_path: whether the path stays at the drain, because another process listens there.
    """

    keeps_path = False
    _path: Path | None = None
    _inode = 0

    async def listen_at(self, path: str, given: Sequence[socket.socket] = ()) -> None:
        """Bind a unix socket and accept connections.

        Args:
            given: see HTTPServer.listen().

        Raises:
            OSError: the path cannot be used; the text says why.
        """
        self._path, listener = Path(path), Listener(host=path, port=0)
        self.listening += [Listening(listener, each) for each in given or (bind(Path(path)),)]
        self._inode = self._path.stat().st_ino
        self.keeps_path = bool(given)
        if not given:
            await self.resume()

    async def resume(self) -> None:
        """See HTTPServer.resume(). The path is this process's."""
        await super().resume()
        self.keeps_path = False

    async def _serve(self, listening: Listening) -> asyncio.Server:
        make = partial(ServerConnection, self, b"http")
        return await self.context.loop.create_unix_server(
            make, sock=listening.sock.dup(), backlog=BACKLOG, **LEAVES_PATH
        )

    def opened(self, connection: ServerConnection, /) -> None:
        if is_own(connection.transport.get_extra_info("socket")):
            super().opened(connection)
        else:
            connection.transport.abort()

    def drain(self, idle: IdleEnds = IdleEnds()) -> None:  # noqa: B008  # a frozen record
        """See HTTPServer.drain(). The path is free for the next process."""
        super().drain(idle)
        if self._path and not self.keeps_path:
            remove(self._path, self._inode)


def remove(path: Path, inode: int) -> None:
    """Remove a socket of this process, unless another process has bound the path."""
    with suppress(OSError):
        if path.stat().st_ino == inode:
            path.unlink()


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
