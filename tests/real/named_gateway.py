"""The gateway, with host names that lead where a test says: `named_gateway.py <file>`.

The file has lines as /etc/hosts has, and is read anew for each look-up; a name in .test that is not in it does not
exist. That stands in for the system's resolver alone, which only root could lead elsewhere; all above it is the
gateway's own.
"""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tornado_gateway.__main__ import main


def resolver(file: Path, ask_system: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """What `socket.getaddrinfo()` is to be."""

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> list[Any]:
        if not isinstance(host, str) or not host.endswith(".test"):
            return ask_system(host, port, *args, **options)
        lines = [line.split() for line in file.read_text().splitlines()]
        addresses = [address for address, name in lines if name == host]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [entry for address in addresses for entry in ask_system(address, port, *args, **options)]

    return getaddrinfo


if __name__ == "__main__":
    socket.getaddrinfo = resolver(Path(sys.argv[1]), socket.getaddrinfo)
    os.environ["EVENT_LOOP"] = "asyncio"  # uvloop calls the C library's
    sys.exit(main([]))
