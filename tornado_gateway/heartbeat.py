"""The PeriodicCallbacks. They end what has waited too long; what that means is decided elsewhere.

One sweep over all connections stands for a timer per connection: a deadline is a
number that costs nothing to set, and most are moved long before they pass.
"""

from tornado.ioloop import PeriodicCallback

from tornado_gateway.wire.client import PooledHTTPClient
from tornado_gateway.wire.server import HTTPServer

# A timeout is noticed at most a tenth of the shortest one late, and within half a second.
SHARE_OF_SHORTEST = 0.1
SLOWEST = 0.5  # seconds
FASTEST = 0.02


class Heartbeat:
    """Sweeps the connections of a server and a client.

    Args:
        shortest: seconds of the shortest timeout there is.

    Attributes:
        interval: seconds between two sweeps.
    """

    def __init__(self, server: HTTPServer, client: PooledHTTPClient, shortest: float) -> None:
        self.interval = min(max(shortest * SHARE_OF_SHORTEST, FASTEST), SLOWEST)
        self._server, self._client = server, client
        self._sweep = PeriodicCallback(self.sweep, self.interval * 1000)

    def start(self) -> None:
        self._sweep.start()

    def stop(self) -> None:
        self._sweep.stop()

    def sweep(self) -> None:
        now = self._server.loop.time()
        self._server.sweep(now)
        self._client.sweep(now)
