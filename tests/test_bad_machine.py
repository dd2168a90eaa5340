"""Gateways as processes on a machine that does not do what it should."""

import signal
import socket
from pathlib import Path

import pytest

from tests.test_main import Process

# SIGWINCH blocks the event loop for a while: Python runs the handler between two calls of the loop.
BLOCKED = """import signal, sys, time
from tornado_gateway.__main__ import main
from tornado_gateway.upkeep.service_manager import tell

def block(*_):
    tell("blocked")
    time.sleep(0.5)
    tell("free")

signal.signal(signal.SIGWINCH, block)
sys.exit(main([]))"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_hears_of_a_loop_that_turns_and_not_of_a_blocked_loop(tmp_path: Path, workers: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        of_systemd = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
        process = Process(by=("-c", BLOCKED), WEB_CONCURRENCY=workers, **of_systemd)
        try:
            assert systemd.recv(100).startswith(b"READY=1\n")
            assert [systemd.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            process.popen.send_signal(signal.SIGWINCH)
            told = [systemd.recv(100)]
            while told[-1] != b"free":
                told.append(systemd.recv(100))
            assert told[-2:] == [b"blocked", b"free"]
            assert systemd.recv(100) == b"WATCHDOG=1"
        finally:
            assert process.end(signal.SIGTERM)[0] == 0
