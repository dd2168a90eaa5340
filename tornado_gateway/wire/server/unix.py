"""Unix sockets to listen at: bound with a mode, and removed again. See unix(7)."""

import errno
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

LEAVES_PATH: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}  # remove() removes it


def bind(path: Path, mode: int) -> socket.socket:
    """A socket that is bound to a path. A socket file that no process listens at is replaced.

    Args:
        mode: of the socket file; who may write there may connect.

    Raises:
        OSError: a process listens at the path, or there is another file, or no directory.
    """
    if path.is_socket():
        _remove_without_process(path)
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(str(path))
        path.chmod(mode)  # nobody can connect before listen()
    except OSError:
        bound.close()
        raise
    return bound


def inode_of(path: Path) -> int:
    """The number of a socket file, by which remove() knows the file.

    Raises:
        OSError: there is none.
    """
    return path.stat().st_ino


def remove(path: Path, inode: int) -> None:
    """Remove a socket of this process, unless another process has bound the path."""
    with suppress(OSError):
        if path.stat().st_ino == inode:
            path.unlink()


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
