"""Sockets that a process has not bound. Those of a predecessor: see test_handover.py."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tornado_gateway.policy.handover import Offer, Place, Role
from tornado_gateway.upkeep import inheritance
from tornado_gateway.upkeep.inheritance import CannotTakeOver, Inheritance, from_predecessor, from_systemd

# What systemd does: the sockets are the descriptors from 3 on.
ACTIVATED = """
import os, socket, sys
from tornado_gateway.upkeep.inheritance import CannotTakeOver, from_systemd
first, second = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
second.bind(sys.argv[1])
for wanted, each in enumerate((os.dup(first.fileno()), os.dup(second.fileno())), 3):
    os.dup2(os.dup(each), 40 + wanted)
os.closerange(3, 40)
os.dup2(43, 3), os.dup2(44, 4)
try:
    inherited = from_systemd({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": sys.argv[2]}, 7)
except CannotTakeOver as error:
    raise SystemExit(str(error))
print([(each.role.value, each.host, each.port is None) for each in inherited.offer.places])
taken = inherited.take(*inherited.activated(inherited.offer.places[0].role))
print(len(taken), os.get_inheritable(3))
"""


def activate(path: Path, names: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", ACTIVATED, str(path), names]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_systemd_s_sockets_are_taken_by_their_names(tmp_path: Path) -> None:
    done = activate(tmp_path / "s", "x:control")
    assert done.stdout.splitlines() == [
        f"[('public', '127.0.0.1', False), ('control', '{tmp_path / 's'}', True)]", "1 False",
    ], done.stderr  # fmt: skip


def test_a_socket_of_another_family_is_refused(tmp_path: Path) -> None:
    assert "LISTEN_FDS: a socket for operators must be a TCP socket" in activate(tmp_path / "s", "x:operators").stderr


def test_variables_of_systemd_that_make_no_sense_are_refused() -> None:
    with pytest.raises(CannotTakeOver, match="LISTEN_FDS"):
        from_systemd({"LISTEN_PID": "7", "LISTEN_FDS": "x"}, 7)
    assert from_systemd({}, os.getpid()).offer.places == ()


def test_without_a_predecessor_there_is_nothing_to_take(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert from_predecessor(str(path)) is None
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert from_predecessor(str(path)) is None
    nothing = Inheritance()
    assert (nothing.take(Place(Role.PUBLIC, "*", 80)), nothing.ready()) == ([], {})
    nothing.done()
    nothing.close()


@contextmanager
def answering(path: Path, *answers: bytes) -> Iterator[None]:
    """A process that says the same to whatever it is told, then ends."""

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            for each in answers:
                connection.recv(65536)
                connection.sendall(each)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize("answer", [b"", b"what?\n", Offer(7, (Place(Role.PUBLIC, "*", 80),)).line()])
def test_a_process_that_offers_nothing_is_named(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "s", answer), pytest.raises(CannotTakeOver, match="no sockets are offered"):
        from_predecessor(str(tmp_path / "s"))


@pytest.mark.parametrize("answer", [b"", b"{", b"7\n"])
def test_a_process_that_cedes_nothing_is_named(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "s", Offer(7, ()).line(), answer):
        inherited = from_predecessor(str(tmp_path / "s"))
        assert inherited
        with pytest.raises(CannotTakeOver, match="process 7 has not ceded its sockets"):
            inherited.ready()
        inherited.close()


def test_a_path_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotTakeOver, match="TAKEOVER_SOCKET"):
        from_predecessor(str(tmp_path / "file" / "s"))
    monkeypatch.setattr(inheritance, "is_own", lambda sock: False)
    with answering(tmp_path / "s"), pytest.raises(CannotTakeOver, match="another user"):
        from_predecessor(str(tmp_path / "s"))
