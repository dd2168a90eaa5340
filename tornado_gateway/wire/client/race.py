"""Connects to several addresses in turn, and takes the first connection made (Happy Eyeballs, RFC 8305).

        0 ms ── first address ───────────────────────►  given up
      250 ms ──────── second, of the other family ──►   connected: the race is over
      500 ms ───────────────── third ...

When an address fails, the next address is tried at once. Names are not looked up here. uvloop's `sock_connect()` is not
used, because uvloop hands even numeric addresses to a thread pool, where look-ups that hang may delay a connection.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from itertools import zip_longest

from tornado_gateway.wire.client.lack import has_source, is_lack

ATTEMPT_DELAY = 0.25  # seconds until the next address is tried while earlier attempts go on (RFC 8305 §5)

# Addresses tried for a connection: as many as silent addresses leave time for in 5 s. Without this limit, every request
# to a name with 1,000 refusing addresses would try all 1,000.
MAX_ATTEMPTS = 20


def interleaved(addresses: Sequence[str]) -> list[str]:
    """Alternate IPv6 and IPv4 addresses, beginning with the family of the first address (RFC 8305 §4).

    >>> interleaved(["::1", "::2", "10.0.0.7"])
    ['::1', '10.0.0.7', '::2']
    """
    first = [each for each in addresses if (":" in each) == (":" in addresses[0])]
    other = [each for each in addresses if (":" in each) != (":" in addresses[0])]
    return [each for pair in zip_longest(first, other) for each in pair if each is not None]


async def connect_first(addresses: Sequence[str], port: int) -> socket.socket:
    """Connect to any of several addresses.

    Args:
        addresses: not empty; at most MAX_ATTEMPTS are tried.
        port: 1 to 65535.

    Raises:
        OSError: no address could be connected to; the first error, or the first lack of this machine: the endpoint
            may have an address that could not be tried.
    """
    if len(addresses) == 1:
        return await connect(addresses[0], port)
    waiting = interleaved(addresses)[:MAX_ATTEMPTS]
    attempts: set[asyncio.Task[socket.socket]] = set()
    errors: list[BaseException] = []
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.create_task(connect(waiting.pop(0), port)))
            delay = ATTEMPT_DELAY if waiting else None
            done, _ = await asyncio.wait(attempts, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                attempts.discard(attempt)
                if not (error := attempt.exception()):
                    attempts |= done - {attempt}  # further attempts that ended in the same turn
                    return attempt.result()
                errors.append(error)
    finally:
        for attempt in attempts:
            _abandon(attempt)
    raise next(filter(is_lack, errors), errors[0])


def _abandon(attempt: "asyncio.Task[socket.socket]") -> None:
    attempt.cancel()
    attempt.add_done_callback(lambda done: None if done.cancelled() or done.exception() else done.result().close())


async def connect(address: str, port: int) -> socket.socket:
    """Connect to an address.

    Args:
        address: IPv4 or IPv6; an IPv6 address may have a zone, `fe80::1%eth0`.
        port: 1 to 65535.

    Raises:
        OSError: the connection failed, or the zone does not exist.
    """
    host, _, zone = address.partition("%")
    is_six = ":" in host
    family = socket.AF_INET6 if is_six else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        peer = (host, port, 0, _index(zone)) if is_six else (host, port)
        code = sock.connect_ex(peer)
        if code == errno.EINPROGRESS:
            code = await _outcome(sock)
        if code == errno.EADDRNOTAVAIL and not has_source(family, peer):
            code = errno.ENETUNREACH
        if code:
            raise OSError(code, f"{os.strerror(code)}: {address}")
    except BaseException:
        sock.close()
        raise
    return sock


def _index(zone: str) -> int:
    if not zone:
        return 0
    return int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)


async def _outcome(sock: socket.socket) -> int:
    """Wait until connect() has ended; return the error number, 0 for success."""
    loop = asyncio.get_running_loop()
    writable = asyncio.Event()
    loop.add_writer(sock.fileno(), writable.set)
    try:
        await writable.wait()
    finally:
        loop.remove_writer(sock.fileno())
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
