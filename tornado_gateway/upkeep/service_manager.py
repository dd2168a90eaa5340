"""Tells systemd the state of the process; see sd_notify(3) and sd_watchdog_enabled(3)."""

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def tell(*lines: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send a message to systemd, if systemd waits for messages.

    Args:
        lines: assignments: "READY=1".
        environ: NOTIFY_SOCKET is the path of a socket; "@" stands for the abstract namespace.
    """
    path = environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
        sock.sendto("\n".join(lines).encode(), "\0" + path[1:] if path[0] == "@" else path)


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds after which systemd takes a process for dead that has not told that it lives; None for any time.

    >>> watchdog_interval({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7)
    30.0
    >>> watchdog_interval({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 7)
    """
    microseconds = environ.get("WATCHDOG_USEC", "")
    is_meant = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
    return int(microseconds) / 1e6 or None if is_meant and microseconds.isdecimal() else None


class LifeSigns:
    """Tells systemd that the event loop turns, twice as often as systemd wants to hear (WatchdogSec=).

    A loop that is blocked tells nothing, and systemd starts the service again. Made inside a running event loop.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ, self._loop = environ, asyncio.get_running_loop()
        self._interval = watchdog_interval(environ, os.getpid())
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Tell now, and from now on."""
        if self._interval:
            tell("WATCHDOG=1", environ=self._environ)
            self._timer = self._loop.call_later(self._interval / 2, self.start)

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()
