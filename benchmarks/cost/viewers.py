"""Viewers of the gateway's dashboard, who read its event stream for as long as the gateway is measured."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator

from benchmarks.processes import Child, ChildFailed
from benchmarks.readiness import HOST, POLL

PATIENCE = 20.0  # seconds without a byte; the gateway looks once a second
GRACE = 2.0  # seconds for the first event of a viewer who came late


@contextlib.contextmanager
def viewed(proxy: Child, port: int, count: int) -> Iterator[Child]:
    """Have so many viewers while the proxy runs; the proxy ends with the with block.

    Raises:
        ChildFailed: a viewer was told nothing.
    """
    with proxy:
        viewers = [_Viewer(port) for _ in range(count)]
        try:
            yield proxy
        finally:
            for each in viewers:
                each.told.wait(GRACE)
                each.stop()
    if not all(each.told.is_set() for each in viewers):
        raise ChildFailed("told a viewer nothing")


class _Viewer:
    """A viewer. Connects as soon as the gateway listens.

    Attributes:
        told: set with the first event.
    """

    def __init__(self, port: int) -> None:
        self.told = threading.Event()
        self._stop = threading.Event()
        self._connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
        self._thread = threading.Thread(target=self._view, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave; the proxy may have left before."""
        self._stop.set()
        with contextlib.suppress(OSError):
            if self._connection.sock:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _view(self) -> None:
        while not self._stop.wait(POLL):
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(self._connection):
                self._connection.request("GET", "/admin/events")
                answer = self._connection.getresponse()
                while line := answer.readline():
                    if line.startswith(b"event: "):
                        self.told.set()
