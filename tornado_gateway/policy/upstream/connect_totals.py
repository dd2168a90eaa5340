"""Totals of the connections that the gateway has opened to upstreams, health checks included."""

from collections import Counter

from tornado_gateway.policy.histogram import Histogram


class ConnectTotals:
    """Sums over all upstreams. A kept connection that carries another request counts nothing here.

    Attributes:
        look_ups: seconds of the look-ups that name servers were asked for; the cache answers most look-ups.
        connections: seconds from the beginning of a connection until the connection can be used: look-up, TCP and TLS.
        handshakes: seconds of TLS handshakes.
        failures: connections that could not be opened, by reason; see errors.py.
        failed_look_ups: look-ups that failed.
    """

    __slots__ = ("connections", "failed_look_ups", "failures", "handshakes", "look_ups")

    def __init__(self) -> None:
        self.look_ups, self.connections, self.handshakes = Histogram(), Histogram(), Histogram()
        self.failures: Counter[str] = Counter()
        self.failed_look_ups = 0
