"""Makes a connection of a socket that is connected already."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TypeVar

P = TypeVar("P", bound=asyncio.Protocol)


async def adopt(factory: Callable[[], P], sock: socket.socket) -> P:
    """Give a connected socket a transport, and the protocol that `factory` makes.

    The call waits for no peer, and a cancellation does not interrupt it. Neither loop tells a protocol of the end of a
    connection whose opening was cancelled as the connection came about: a pool would count the connection for ever.

    Raises:
        OSError: the connection has ended already.
    """
    loop = asyncio.get_running_loop()
    opening = loop.create_task(loop.create_connection(factory, sock=sock))
    try:
        return (await asyncio.shield(opening))[1]
    except asyncio.CancelledError:
        with contextlib.suppress(OSError, RuntimeError):  # uvloop has a RuntimeError for some failures
            (await opening)[0].abort()
        raise
