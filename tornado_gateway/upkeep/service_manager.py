"""Tells systemd the state of the process; see sd_notify(3)."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


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
