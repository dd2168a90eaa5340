"""The two ends of a WebSocket on which nothing is said but pings: python -m tests.support.idle_websockets FD

Thousands of each fit into a process. The module, run as a program, is a service of such ends at a listening socket.
"""

import asyncio
import base64
import hashlib
import re
import socket
import sys
from typing import cast

from tests.support.sockets import get
from tests.support.websockets import HANDSHAKE, KEY, MAGIC, xor

_CLOSE, _PING, _PONG, _MASKED = 0x88, 0x89, b"\x8a", 0x80
_KEY_FIELD = re.compile(rb"(?im)^sec-websocket-key: *(\S+)")


class _End(asyncio.Protocol):
    """An end: greets, waits for the other's head, then answers each ping by a pong, and ends with a Close.

    Attributes:
        pings: number of pings that have come; -1 before the WebSocket is open.
        is_lost: whether the connection has ended.
    """

    masks: bool

    def __init__(self) -> None:
        self.pings, self.is_lost, self._buffer = -1, False, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self.pings < 0:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self.greeted(head)
            self.pings, self._buffer = 0, rest
        while self._answer():
            pass

    def greeted(self, head: bytes) -> None:
        """Called with the other end's head."""
        raise NotImplementedError

    def _answer(self) -> bool:
        """Answer the first frame in the buffer; False if there is no ping to answer."""
        buffer, skipped = self._buffer, 2 if self.masks else 6
        if len(buffer) < 2 or len(buffer) < skipped + (size := buffer[1] & ~_MASKED):
            return False
        if buffer[0] == _CLOSE:
            self.transport.close()
            return False
        assert buffer[0] == _PING, buffer[:16]
        payload, self._buffer = buffer[skipped : skipped + size], buffer[skipped + size :]
        if self.masks:
            self.transport.write(_PONG + bytes((_MASKED | size,)) + KEY + xor(payload, KEY))
        else:
            self.transport.write(_PONG + bytes((size,)) + xor(payload, buffer[2:6]))
        self.pings += 1
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True


class IdleClient(_End):
    """The client's end.

    Args:
        target: of the handshake.
    """

    masks = True

    def __init__(self, target: bytes) -> None:
        super().__init__()
        self._target = target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(get(self._target, *HANDSHAKE))

    def greeted(self, head: bytes) -> None:
        assert head.startswith(b"HTTP/1.1 101 "), head


class _Service(_End):
    """The service's end."""

    masks = False

    def greeted(self, head: bytes) -> None:
        found = _KEY_FIELD.search(head)
        if found is None:  # a plain request
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            self.transport.close()
            return
        accept = base64.b64encode(hashlib.sha1(found[1] + MAGIC).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        )


async def _serve(listening: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(_Service, sock=listening, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1]))))
