"""Unix sockets to listen at: modes, files that are in the way, and the end."""

import socket
import stat
from pathlib import Path

import pytest

from tornado_gateway.wire.server.unix import bind, inode_of, remove


def test_a_socket_has_its_mode_and_replaces_a_file_that_no_process_listens_at(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    bind(path, 0o600).close()
    with bind(path, 0o666) as sock:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        sock.listen()
        with pytest.raises(OSError, match="another process listens there"):
            bind(path, 0o600)


def test_another_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("kept")
    with pytest.raises(OSError, match="in use"):
        bind(path, 0o600)
    assert path.read_text() == "kept"


def test_only_the_own_socket_is_removed(tmp_path: Path) -> None:
    path, other = tmp_path / "gateway.sock", tmp_path / "other.sock"
    with bind(path, 0o600), socket.socket(socket.AF_UNIX) as sock:
        inode = inode_of(path)
        sock.bind(str(other))
        other.rename(path)
        remove(path, inode)
        assert path.exists()
        remove(path, inode_of(path))
        assert not path.exists()
        remove(path, inode)  # gone already
