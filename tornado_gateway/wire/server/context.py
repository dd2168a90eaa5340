"""The state that all connections of a server share: limits, the event loop, and the steps of a drain."""

import asyncio
import math
import time
from dataclasses import dataclass
from email.utils import formatdate


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Limits and timeouts of a server.

    Attributes:
        header_timeout: seconds until a head must be complete; > 0.
        keepalive_timeout: seconds for which a connection may be idle between requests; > 0. Above the 90 s of Heroku's
            router and the 60 s of AWS' load balancers, so that these close idle connections first.
        client_idle_timeout: seconds without progress of a client that sends a body or reads a response; > 0.
        min_upload_rate: least rate of a request's body in bytes per second, see policy/http/pace.py; 0 for no limit.
        max_body_bytes: greatest size of a request's body; None for no limit.
        max_connections: greatest number of client connections; ≥ 1; math.inf for no limit.
        half_close_aborts: whether a client's FIN before the response is complete means that the client has left.
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


@dataclass(slots=True)
class TLSTotals:
    """What has become of TLS handshakes.

    Attributes:
        handshakes: that succeeded.
        resumed: of these, the handshakes that resumed a session.
        failed: that the client or the gateway broke off with an alert.
        abandoned: that were not complete when the connection ended, or when the client had had its time.
        plain: clients that sent plain HTTP instead.
    """

    handshakes: int = 0
    resumed: int = 0
    failed: int = 0
    abandoned: int = 0
    plain: int = 0

    @property
    def by_outcome(self) -> dict[str, int]:
        """Each handshake once."""
        return {
            "full": self.handshakes - self.resumed,
            "resumed": self.resumed,
            "failed": self.failed,
            "abandoned": self.abandoned,
            "plain": self.plain,
        }


class ServerContext:
    """The shared state of the connections and exchanges of a server. Made inside a running event loop.

    Attributes:
        config: limits and timeouts.
        loop: the event loop; loop.time() is the clock of all deadlines.
        flowing: a completed future: `drained` of each connection whose client keeps up.
        keepalive_timeout: seconds for which a connection may be idle between requests; shorter during a drain.
        announces_close: whether new responses have "Connection: close".
        draining: whether the server accepts no more connections.
        idle_grace: during a drain, seconds for which a new connection may wait for a request.
        tls: of all TLS listeners of the server.
    """

    __slots__ = (
        "_date", "_dated", "announces_close", "config", "draining", "flowing", "idle_grace",
        "keepalive_timeout", "loop", "tls",
    )  # fmt: skip

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.flowing: asyncio.Future[None] = self.loop.create_future()
        self.flowing.set_result(None)
        self.keepalive_timeout = config.keepalive_timeout
        self.announces_close = self.draining = False
        self.idle_grace = 0.0
        self.tls = TLSTotals()
        self._dated, self._date = 0, b""

    def reconfigure(self, config: ServerConfig) -> None:
        """Use other limits and timeouts. The times of a drain stay."""
        self.config = config
        if not self.draining:
            self.keepalive_timeout = config.keepalive_timeout

    def date(self) -> bytes:
        """The line of the Date field (RFC 9110 §6.6.1), made once per second."""
        now = int(time.time())
        if now != self._dated:
            self._dated = now
            self._date = b"Date: %b\r\n" % formatdate(now, usegmt=True).encode("ascii")
        return self._date
