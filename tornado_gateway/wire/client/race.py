"""Connects to the first of several addresses that answers (Happy Eyeballs, RFC 8305).

        0 ms ── first address ───────────────────────►  given up
      250 ms ──────── second, of the other family ──►   connected: the race is over
      500 ms ───────────────── third ...

An address that fails has the next one tried at once. Nothing is looked up: `uvloop`'s own `sock_connect()` hands even
a numeric address to its thread pool, where it waits behind every look-up that hangs.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from itertools import zip_longest

ATTEMPT_DELAY = 0.25  # seconds before the next address is tried beside the last (RFC 8305 §5)

# Addresses that one connection tries: as many as silence leaves time for in 5 s. Of a name with 1,000 addresses that
# all refuse, every request would otherwise try each.
MOST_ATTEMPTS = 20


def interleaved(addresses: Sequence[str]) -> list[str]:
    """IPv6 and IPv4 in turn, beginning with the family of the first (RFC 8305 §4).

    >>> interleaved(["::1", "::2", "10.0.0.7"])
    ['::1', '10.0.0.7', '::2']
    """
    first = [each for each in addresses if (":" in each) == (":" in addresses[0])]
    other = [each for each in addresses if (":" in each) != (":" in addresses[0])]
    return [each for pair in zip_longest(first, other) for each in pair if each is not None]


async def connect_first(addresses: Sequence[str], port: int) -> socket.socket:
    """A socket that is connected to one of the addresses, of which there must be one; the first 20 are tried.

    Raises:
        OSError: none could be connected to; of several errors the first.
    """
    if len(addresses) == 1:
        return await connect(addresses[0], port)
    waiting = interleaved(addresses)[:MOST_ATTEMPTS]
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
                    attempts |= done - {attempt}  # another that was connected in the same turn
                    return attempt.result()
                errors.append(error)
    finally:
        for attempt in attempts:
            _abandon(attempt)
    raise errors[0]


def _abandon(attempt: "asyncio.Task[socket.socket]") -> None:
    attempt.cancel()
    attempt.add_done_callback(lambda done: None if done.cancelled() or done.exception() else done.result().close())


async def connect(address: str, port: int) -> socket.socket:
    """A socket that is connected to an address.

    Args:
        address: of IPv6 perhaps with a zone, `fe80::1%eth0`.

    Raises:
        OSError: it could not be connected to, or there is no such zone.
    """
    host, _, zone = address.partition("%")
    is_six = ":" in host
    sock = socket.socket(socket.AF_INET6 if is_six else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex((host, port, 0, _index(zone)) if is_six else (host, port))
        if code == errno.EINPROGRESS:
            code = await _outcome(sock)
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
    """Wait until connect() has come to an end; its error number, 0 for none."""
    loop = asyncio.get_running_loop()
    writable = asyncio.Event()
    loop.add_writer(sock.fileno(), writable.set)
    try:
        await writable.wait()
    finally:
        loop.remove_writer(sock.fileno())
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
