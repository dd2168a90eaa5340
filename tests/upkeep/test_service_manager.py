"""What systemd is told."""

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest

from tornado_gateway.upkeep.service_manager import LifeSigns, tell, watchdog_interval


@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, is_abstract: bool) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{path}" if is_abstract else path)
        tell("READY=1", "MAINPID=7", environ={"NOTIFY_SOCKET": f"@{path}" if is_abstract else path})
        assert systemd.recv(100) == b"READY=1\nMAINPID=7"


@pytest.mark.parametrize("path", ["", "vsock:2:1", "/nobody/listens/here"])
def test_without_systemd_nothing_is_said(path: str) -> None:
    tell("READY=1", environ={"NOTIFY_SOCKET": path})


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [("200000", None, 0.2), ("200000", "self", 0.2), ("200000", "1", None), ("0", None, None), ("soon", None, None),
     ("", None, None)],
)  # fmt: skip
def test_systemd_says_how_often_it_wants_to_hear(microseconds: str, pid: str | None, seconds: float | None) -> None:
    environ = {"WATCHDOG_USEC": microseconds} | (
        {} if pid is None else {"WATCHDOG_PID": pid.replace("self", str(os.getpid()))}
    )
    assert watchdog_interval(environ, os.getpid()) == seconds
    assert watchdog_interval({}, os.getpid()) is None


@pytest.mark.gen_test
async def test_a_loop_that_turns_says_so_until_it_stops(tmp_path: Path) -> None:
    path, loop = str(tmp_path / "notify"), asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.setblocking(False)
        signs = LifeSigns({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000"})
        signs.start()
        for _ in range(3):
            assert await loop.sock_recv(systemd, 100) == b"WATCHDOG=1"
        signs.stop()
        time.sleep(0.02)  # longer than the interval: a timer that were left would be due
        await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
        LifeSigns({"NOTIFY_SOCKET": path}).start()
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
