"""How many streams may be open: in all, to one service, and by one client. Event streams and WebSockets count alike."""

from collections import Counter
from dataclasses import dataclass

from tornado_gateway.errors import StreamLimitReached, TooManyStreams
from tornado_gateway.policy.http.address import Address

PAUSE_ABOVE = 64 * 1024  # bytes that wait for a reader before its sender is paused; asyncio's own limit


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Streams open at once; 0 for any number.

    Attributes:
        total: of the gateway.
        per_service: to one service.
        per_client: by one client, as Address.client counts them.
    """

    total: int = 0
    per_service: int = 0
    per_client: int = 0


class StreamCounts:
    """Counts the streams that are open."""

    def __init__(self, limits: StreamLimits) -> None:
        self.limits = limits
        self.total = 0
        self.services: Counter[str] = Counter()
        self.clients: Counter[str] = Counter()

    def take(self, service: str, address: Address) -> None:
        """Count a stream in; each must be given back once.

        Raises:
            StreamLimitReached: the gateway or the service has as many as it may.
            TooManyStreams: the client has.
        """
        limits, client = self.limits, address.client
        if limits.total and self.total >= limits.total:
            raise StreamLimitReached("the gateway has as many streams as it may")
        if limits.per_service and self.services[service] >= limits.per_service:
            raise StreamLimitReached("the service has as many streams as it may")
        if limits.per_client and self.clients[client] >= limits.per_client:
            raise TooManyStreams
        self.total += 1
        self.services[service] += 1
        self.clients[client] += 1

    def give_back(self, service: str, address: Address) -> None:
        """Count a stream out."""
        self.total -= 1
        for counter, key in ((self.services, service), (self.clients, address.client)):
            counter[key] -= 1
            if counter[key] == 0:
                del counter[key]


def high_water(bound: int, *, cuts_slow: bool) -> int:
    """Bytes waiting for a reader above which something is done about it.

    Args:
        bound: bytes that may wait at most.
        cuts_slow: whether the reader is then cut off; pausing its sender begins earlier, since more in store does
            not make a reader any faster.
    """
    return bound if cuts_slow else min(PAUSE_ABOVE, bound)
