"""What asyncio's transports do not offer: TCP state, queue sizes, RST, and bytes left in a broken connection."""

import array
import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator

READ_SIZE = 256 * 1024  # bytes per read; the same as asyncio and uvloop

_INET = (socket.AF_INET, socket.AF_INET6)
_TCP_INFO = getattr(socket, "TCP_INFO", None)  # Linux only
_SENT = struct.Struct("=120xQ16xI")  # tcpi_bytes_acked and tcpi_notsent_bytes in Linux's struct tcp_info, since 4.6
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST
_TCP_CLOSE, _TCP_CLOSE_WAIT = 7, 8  # states in Linux's struct tcp_info, after an RST and after a FIN


def has_ended(transport: asyncio.Transport, *, by_fin: bool) -> bool:
    """Whether the peer has ended the connection of a paused transport, which does not notice an end itself.

    Works on Linux only; False elsewhere.

    Args:
        by_fin: whether a FIN counts as well as an RST.
    """
    sock = transport.get_extra_info("socket")
    if transport.is_closing() or sock is None or sock.family not in _INET or _TCP_INFO is None:
        return False
    state = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0]
    return bool(state == _TCP_CLOSE or (state == _TCP_CLOSE_WAIT and by_fin))


def reset(transport: asyncio.Transport) -> None:
    """End a connection by RST, so that the peer notices that a response is incomplete.

    Args:
        transport: not yet lost; the descriptor of a lost connection may already belong to another connection.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def send_queue(transport: asyncio.Transport) -> tuple[int, int | None]:
    """The kernel's counts of unsent and of acknowledged bytes.

    Args:
        transport: not yet lost, or just being lost: connection_lost() may ask.

    Returns:
        Bytes in the kernel's send queue that were not yet sent, and bytes that the peer acknowledged since the
        connection was made. (0, None) for other sockets than TCP on Linux.
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
    """Bytes in the kernel's receive queue; of TLS, ciphertext."""
    return _count(transport, termios.FIONREAD)


def unacknowledged(transport: asyncio.Transport) -> int:
    """Written bytes, and a FIN, that the peer's kernel has not yet acknowledged; of TLS, ciphertext."""
    return transport.get_write_buffer_size() + _count(transport, termios.TIOCOUTQ)


def _count(transport: asyncio.Transport, queue: int) -> int:
    sock = transport.get_extra_info("socket")
    if transport.is_closing() or sock is None:
        return 0
    count = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), queue, count)
    return count[0]


def arrived(transport: asyncio.Transport) -> Iterator[bytes]:
    """Read the bytes left in the kernel's receive queue of a broken connection; of TLS, ciphertext.

    Call from connection_lost(). A server that refuses an upload answers and closes, which resets the connection. If a
    write meets the reset first, the transport drops the answer unread.
    """
    descriptor = transport.get_extra_info("socket").fileno()
    with contextlib.suppress(OSError):
        while data := os.read(descriptor, READ_SIZE):
            yield data


def acknowledge_at_once(transport: asyncio.Transport) -> None:
    """Acknowledge the next bytes without delay, until something is written. Linux only.

    A server without TCP_NODELAY holds back a small write until the previous write is acknowledged (Nagle's algorithm).
    If the server then closes the connection while bytes are unread, the held write is lost.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing() and hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
