"""What the kernel knows about the other end of a connection, and has from it, when the transport does not tell."""

import array
import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator

READ_SIZE = 256 * 1024  # bytes; what the loops read at once

_INET = (socket.AF_INET, socket.AF_INET6)
_TCP_INFO = getattr(socket, "TCP_INFO", None)  # Linux has it
_SENT = struct.Struct("=120xQ16xI")  # tcpi_bytes_acked and tcpi_notsent_bytes in Linux's struct tcp_info, since 4.6
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST
_TCP_CLOSE, _TCP_CLOSE_WAIT = 7, 8  # states in Linux's struct tcp_info, after an RST and after a FIN


def has_ended(transport: asyncio.Transport, *, by_fin: bool) -> bool:
    """Whether the peer of a paused transport has ended its connection: a transport that is not read does not see that.

    Only Linux tells; elsewhere the answer is always False.

    Args:
        by_fin: whether a FIN counts, as well as an RST.
    """
    sock = transport.get_extra_info("socket")
    if transport.is_closing() or sock is None or sock.family not in _INET or _TCP_INFO is None:
        return False
    state = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0]
    return bool(state == _TCP_CLOSE or (state == _TCP_CLOSE_WAIT and by_fin))


def reset(transport: asyncio.Transport) -> None:
    """End a connection by RST, so that the peer cannot take a response for a complete one.

    Args:
        transport: of a connection that has not been lost: else its descriptor may be another connection's by now.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def send_queue(transport: asyncio.Transport) -> tuple[int, int | None]:
    """What the kernel still has to send, and what the peer has acknowledged.

    Args:
        transport: of a connection that has not been lost.

    Returns:
        Bytes that wait because the peer's window, or the network, does not let them go; and bytes that the peer's
        kernel has acknowledged since the connection was made. (0, None) where the kernel does not tell: only Linux
        does, and only of TCP.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in _INET or _TCP_INFO is None:
        return 0, None
    info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _SENT.size)
    if len(info) < _SENT.size:
        return 0, None
    acknowledged, not_sent = _SENT.unpack(info)
    return not_sent, acknowledged


def unread(transport: asyncio.Transport) -> int:
    """Bytes that have come and were not read; of TLS, as they came."""
    return _count(transport, termios.FIONREAD)


def unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes, and a FIN, that were written and that the peer's kernel has not acknowledged; of TLS, as they leave."""
    return transport.get_write_buffer_size() + _count(transport, termios.TIOCOUTQ)


def _count(transport: asyncio.Transport, queue: int) -> int:
    sock = transport.get_extra_info("socket")
    if transport.is_closing() or sock is None:
        return 0
    count = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), queue, count)
    return count[0]


def arrived(transport: asyncio.Transport) -> Iterator[bytes]:
    """What the kernel still holds of a connection that broke; of TLS, as it came. For connection_lost().

    A server that refuses an upload answers, closes, and so resets the connection. A write that meets the
    reset first makes the transport drop the answer unread.
    """
    descriptor = transport.get_extra_info("socket").fileno()
    with contextlib.suppress(OSError):
        while data := os.read(descriptor, READ_SIZE):
            yield data


def acknowledge_at_once(transport: asyncio.Transport) -> None:
    """Acknowledge what comes next without delay; until something is written, and on Linux only.

    A server that has not set TCP_NODELAY holds back a small write until the one before it is acknowledged (Nagle's
    algorithm). A server that then closes the connection on unread bytes drops what it has held back.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing() and hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
