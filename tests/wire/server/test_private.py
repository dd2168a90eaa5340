"""A unix socket for the user of the process: mode, directory, who is admitted, what is left behind."""

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest
from tornado.web import Application, RequestHandler

from tornado_gateway.wire.server import private
from tornado_gateway.wire.server.private import PrivateServer, bind, is_own


class Hello(RequestHandler):
    def get(self) -> None:
        self.finish("hello")


async def serving(path: Path) -> PrivateServer:
    server = PrivateServer(Application([("/", Hello)]))
    await server.listen_at(str(path))
    return server


async def ask(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def end(server: PrivateServer) -> None:
    server.drain()
    server.abort()
    await server.closed()


@pytest.mark.gen_test
async def test_a_request_is_answered_and_the_path_is_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "own" / "ctl.sock"
    server = await serving(path)
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    assert (await ask(path)).endswith(b"hello")
    await end(server)
    assert not path.exists()


@pytest.mark.gen_test
async def test_another_user_is_closed_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ctl.sock"
    server = await serving(path)
    monkeypatch.setattr(private, "is_own", lambda sock: False)
    try:
        answer = await ask(path)
    except ConnectionError:
        answer = b""
    assert answer == b""
    await end(server)


@pytest.mark.gen_test
async def test_the_kernel_says_who_is_at_the_other_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        me = os.geteuid()
        assert is_own(one)
        monkeypatch.setattr(private, "SUPERUSER", me + 1)
        monkeypatch.setattr(os, "geteuid", lambda: me + 2)
        assert not is_own(one)
        monkeypatch.setattr(os, "geteuid", lambda: me)
        assert is_own(one)
        monkeypatch.delattr(socket, "SO_PEERCRED")
        assert is_own(one)


@pytest.mark.gen_test
async def test_a_path_of_a_process_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "ctl.sock"
    server = await serving(path)
    with pytest.raises(OSError, match="another process listens there"):
        bind(path)
    assert (await ask(path)).endswith(b"hello")
    await end(server)


def test_a_socket_that_a_process_has_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ctl.sock"
    bind(path).close()
    assert path.is_socket()
    bind(path).close()


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ctl.sock"
    path.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        bind(path)
    assert path.read_text() == "mine"


def test_a_directory_that_others_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(OSError, match="must be a directory that belongs to this user"):
        bind(tmp_path / "ctl.sock")


@pytest.mark.gen_test
async def test_a_path_that_another_process_has_bound_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "ctl.sock"
    server = await serving(path)
    path.rename(tmp_path / "old.sock")
    bind(path).close()
    await end(server)
    assert path.is_socket()
