"""Starts the process that takes over from this process, at SIGUSR2.

The successor runs the command of this process, with `--takeover`: with the files of now, so an upgrade or another
configuration comes into effect. A successor that fails changes nothing here.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

OPTION = "--takeover"
INTERVAL = 0.1  # seconds between two looks whether the successor lives
FOR_THIS_PROCESS = {"WATCHDOG_PID"}  # a successor tells systemd of its own life
INIT = 1  # the process that ends all others of its container with itself

log = logging.getLogger("tornado_gateway")


def command(started_by: Sequence[str]) -> list[str]:
    """The command of a successor.

    Args:
        started_by: the command of this process, without the interpreter (sys.orig_argv[1:]).

    >>> command(["-m", "tornado_gateway", "--port", "80"])[1:]
    ['-m', 'tornado_gateway', '--port', '80', '--takeover']
    """
    return [sys.executable, *started_by, *([] if OPTION in started_by else [OPTION])]


class Successor:
    """The successor of this process. Made inside a running event loop.

    Args:
        path: see TAKEOVER_SOCKET; "" for none.
        command: starts a gateway that takes over.
    """

    def __init__(self, path: str, command: list[str]) -> None:
        self._path, self._command = path, command
        self._pid = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the successor, or log why there is none."""
        if reason := self._why_not():
            log.warning("SIGUSR2 is ignored: %s", reason)
            return
        names = os.environ.keys() - FOR_THIS_PROCESS
        environment = {name: os.environ[name] for name in names if not name.startswith("LISTEN_")}
        try:
            self._pid = os.posix_spawn(self._command[0], self._command, environment)
        except OSError as error:
            log.error("no take-over: %s; this process goes on", error)
            return
        log.info("SIGUSR2: process %d starts, and takes over when it is ready", self._pid)
        self._timer = self._loop.call_later(INTERVAL, self._look)

    def _why_not(self) -> str:
        if not self._path:
            return "TAKEOVER_SOCKET is not set"
        if os.getpid() == INIT:
            return "process 1 would end its container with itself"
        return f"process {self._pid} is about to take over" if self._pid else ""

    def _look(self) -> None:
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid:
            self._pid = 0
            code = os.waitstatus_to_exitcode(status)
            log.error(
                "no take-over: process %d has ended with exit code %d before it took over; this process goes on",
                pid,
                code,
            )
        else:
            self._timer = self._loop.call_later(INTERVAL, self._look)

    def close(self) -> None:
        """Look no more after the successor."""
        if self._timer:
            self._timer.cancel()
