"""Whether a connection failed because this machine has nothing left to make the connection with.

Such a failure says nothing about the endpoint. The lack is of descriptors, of ports, or of the kernel's memory.
"""

import errno
import socket

NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE))
LACKS = NO_DESCRIPTOR | {errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}

ANY_PORT = 9  # connect() of a UDP socket sends nothing


def is_lack(error: BaseException) -> bool:
    """Whether an error tells of a lack of this machine.

    >>> is_lack(OSError(errno.EMFILE, "")), is_lack(OSError(errno.ECONNREFUSED, ""))
    (True, False)
    """
    return isinstance(error, OSError) and error.errno in LACKS


def lacks_descriptors() -> bool:
    """Whether no descriptor is left."""
    try:
        socket.socket().close()
    except OSError as error:
        return error.errno in NO_DESCRIPTOR
    return False


def has_source(family: int, peer: tuple[str, int] | tuple[str, int, int, int]) -> bool:
    """Whether this machine has an address from which to reach a peer.

    EADDRNOTAVAIL means that no port is left, or that no address fits: `::1` on a machine without IPv6, for example.
    UDP has the same addresses and other ports.
    """
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        return sock.connect_ex((peer[0], ANY_PORT, *peer[2:])) != errno.EADDRNOTAVAIL
