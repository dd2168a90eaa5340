"""Names below localhost lead to 127.0.0.1, as in browsers (RFC 6761 §6.3).

The system's resolver may not know the names. A client imports this module before the client opens a connection.
"""

import functools
import socket
from typing import Any

_system = socket.getaddrinfo


@functools.wraps(_system)
def _getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
    name = host.decode("ascii") if isinstance(host, bytes) else host or ""
    is_local = name == "localhost" or name.endswith(".localhost")
    return _system("127.0.0.1" if is_local else host, *arguments, **options)


socket.getaddrinfo = _getaddrinfo
