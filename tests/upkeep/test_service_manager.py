"""What systemd is told."""

import socket
from pathlib import Path

import pytest

from tornado_gateway.upkeep.service_manager import tell


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
