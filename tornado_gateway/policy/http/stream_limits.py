"""Limits on open streams: in all, per service and per client. Event streams and WebSockets count alike."""

from collections import Counter
from dataclasses import dataclass

from tornado_gateway.errors import StreamLimitReached, TooManyStreams
from tornado_gateway.policy.http.address import Address
from tornado_gateway.policy.http.stream_tally import OthersStreams

PAUSE_ABOVE = 64 * 1024  # unsent bytes above which the sender is paused; asyncio's own high-water mark


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Greatest numbers of open streams; 0 for no limit.

    Attributes:
        total: streams of the gateway.
        per_service: streams to a service.
        per_client: streams of a client (see Address.client).
    """

    total: int = 0
    per_service: int = 0
    per_client: int = 0


class StreamCounts:
    """The numbers of open streams.

    Args:
        others: the streams of other workers; None for a gateway of one process.

    Attributes:
        services: open streams by service name.
        clients: open streams by Address.client.
    """

    def __init__(self, limits: StreamLimits, others: OthersStreams | None = None) -> None:
        self.limits, self._others = limits, others
        self.total = 0
        self.services: Counter[str] = Counter()
        self.clients: Counter[str] = Counter()

    def take(self, service: str, address: Address) -> None:
        """Count a stream in. After a successful take() call give_back() once.

        Raises:
            StreamLimitReached: the gateway or the service is at its limit.
            TooManyStreams: the client is at its limit.
        """
        limits, client, others = self.limits, address.client, self._others
        total, of_service, of_client = others.numbers(service, client) if others else (0, 0, 0)
        if limits.total and self.total + total >= limits.total:
            raise StreamLimitReached("the gateway has as many streams as it may")
        if limits.per_service and self.services[service] + of_service >= limits.per_service:
            raise StreamLimitReached("the service has as many streams as it may")
        if limits.per_client and self.clients[client] + of_client >= limits.per_client:
            raise TooManyStreams(limits.per_client)
        if others:
            others.count(service, client, 1)
        self.total += 1
        self.services[service] += 1
        self.clients[client] += 1

    def give_back(self, service: str, address: Address) -> None:
        """Count a stream out."""
        if self._others:
            self._others.count(service, address.client, -1)
        self.total -= 1
        for counter, key in ((self.services, service), (self.clients, address.client)):
            counter[key] -= 1
            if counter[key] == 0:
                del counter[key]


def high_water(bound: int, *, cuts_slow: bool) -> int:
    """The high-water mark of a slow reader's buffer: unsent bytes above which the gateway acts.

    Args:
        bound: greatest number of unsent bytes.
        cuts_slow: whether the gateway disconnects the slow reader, at the bound. Otherwise the gateway pauses the
            sender, at PAUSE_ABOVE already: a larger buffer makes no reader faster.
    """
    return bound if cuts_slow else min(PAUSE_ABOVE, bound)
