"""Makes an asyncio connection of a connected socket."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TypeVar

P = TypeVar("P", bound=asyncio.Protocol)


async def adopt(factory: Callable[[], P], sock: socket.socket) -> P:
    """Give a connected socket a transport and a protocol; return the protocol.

    The call does not wait for the peer. A cancellation first waits for the call's end: otherwise neither asyncio nor
    uvloop would call connection_lost(), and a pool would count the connection for ever.

    Raises:
        OSError: the connection has already ended.
    """
    loop = asyncio.get_running_loop()
    opening = loop.create_task(loop.create_connection(factory, sock=sock))
    try:
        return (await asyncio.shield(opening))[1]
    except asyncio.CancelledError:
        with contextlib.suppress(OSError, RuntimeError):  # uvloop raises RuntimeError for some failures
            (await opening)[0].abort()
        raise
