"""Watches a listening socket for connections, and looks away for a while at little cost.

To take a socket away from an event loop and back costs uvloop tens of µs. On Linux the loop watches a set of epoll(7)
of the gate's own instead, which has the socket, and the gate changes what the set waits for: a system call.
"""

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Protocol


class Gate(Protocol):
    """Calls a function when connections wait. Is open at first."""

    is_open: bool

    def open(self) -> None:
        """Watch."""

    def shut(self) -> None:
        """Look away."""

    def close(self) -> None:
        """Watch no more. The socket stays."""


def make_gate(sock: socket.socket, call: Callable[[], None]) -> Gate:
    """A gate for a listening socket. Made inside a running event loop."""
    return EpollGate(sock, call) if hasattr(select, "epoll") else ReaderGate(sock, call)


class EpollGate:
    """A Gate by epoll(7)."""

    def __init__(self, sock: socket.socket, call: Callable[[], None]) -> None:
        self._sock, self._epoll = sock, select.epoll()
        self._epoll.register(sock, select.EPOLLIN)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), call)
        self.is_open = True

    def open(self) -> None:
        self.is_open = True
        self._epoll.modify(self._sock, select.EPOLLIN)

    def shut(self) -> None:
        self.is_open = False
        self._epoll.modify(self._sock, 0)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()


class ReaderGate:
    """A Gate by the event loop's own means."""

    def __init__(self, sock: socket.socket, call: Callable[[], None]) -> None:
        self._sock, self._call = sock, call
        self._loop = asyncio.get_running_loop()
        self.open()

    def open(self) -> None:
        self.is_open = True
        self._loop.add_reader(self._sock, self._call)

    def shut(self) -> None:
        self.is_open = False
        self._loop.remove_reader(self._sock)

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
