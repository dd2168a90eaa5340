"""What the kernel knows about the other end of a connection that is not being read."""

import array
import asyncio
import fcntl
import socket
import termios

_TCP_CLOSE, _TCP_CLOSE_WAIT = 7, 8  # states in Linux's struct tcp_info, after an RST and after a FIN


def has_ended(transport: asyncio.Transport, *, by_fin: bool) -> bool:
    """Whether the peer of a paused transport has ended its connection: a transport that is not read does not see that.

    Only Linux tells; elsewhere the answer is always False.

    Args:
        by_fin: whether a FIN counts, as well as an RST.
    """
    sock = transport.get_extra_info("socket")
    if (
        transport.is_closing()
        or sock is None
        or sock.family not in (socket.AF_INET, socket.AF_INET6)
        or not hasattr(socket, "TCP_INFO")
    ):
        return False
    state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return bool(state == _TCP_CLOSE or (state == _TCP_CLOSE_WAIT and by_fin))


def unread(transport: asyncio.Transport) -> int:
    """Bytes that have come and were not read; of TLS, as they came."""
    sock = transport.get_extra_info("socket")
    if transport.is_closing() or sock is None:
        return 0
    count = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.FIONREAD, count)
    return count[0]
