"""What all connections of one server share: limits, the event loop, and how far the server is on its way to its end."""

import asyncio
import math
import time
from dataclasses import dataclass
from email.utils import formatdate


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """
    Attributes:
        header_timeout: seconds for a head to arrive whole; > 0.
        keepalive_timeout: seconds a connection may idle between requests; > 0. Above the 90 s
            that Heroku's router and the 60 s that AWS' load balancers keep theirs.
        client_idle_timeout: seconds without progress by a client that sends a body or takes a response; > 0.
        min_upload_rate: bytes per second that a request's body must come with, see policy/http/pace.py; 0 for any.
        max_body_bytes: of a request, or None for no limit.
        max_connections: client connections at once; ≥ 1; math.inf for any number.
        half_close_aborts: whether a client's FIN before its response is complete means that it has left.
    """

    header_timeout: float = 10.0
    keepalive_timeout: float = 95.0
    client_idle_timeout: float = 60.0
    min_upload_rate: float = 100
    max_body_bytes: int | None = None
    max_connections: float = math.inf
    half_close_aborts: bool = True

    @property
    def shortest_timeout(self) -> float:
        return min(self.header_timeout, self.keepalive_timeout, self.client_idle_timeout)


class ServerContext:
    """What the connections and exchanges of one server share. Made inside a running event loop.

    Attributes:
        config: limits and timeouts.
        loop: the event loop; loop.time() is the clock of each deadline.
        flowing: a future that is done: `drained` of each connection whose client keeps up.
        keepalive_timeout: seconds a connection may idle between requests; shorter while the server drains.
        announces_close: whether each response that begins now says "Connection: close".
        draining: whether the server accepts no more connections.
    """

    __slots__ = (
        "_date", "_dated", "announces_close", "config", "draining", "flowing", "keepalive_timeout", "loop",
    )  # fmt: skip

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.flowing: asyncio.Future[None] = self.loop.create_future()
        self.flowing.set_result(None)
        self.keepalive_timeout = config.keepalive_timeout
        self.announces_close = self.draining = False
        self._dated, self._date = 0, b""

    def date(self) -> bytes:
        """The Date field line (RFC 9110 §6.6.1), made once per second."""
        now = int(time.time())
        if now != self._dated:
            self._dated = now
            self._date = b"Date: %b\r\n" % formatdate(now, usegmt=True).encode("ascii")
        return self._date
