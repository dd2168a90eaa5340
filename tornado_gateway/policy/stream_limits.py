"""How many streams may be open: in all, to one service, and by one client. Event streams and WebSockets count alike."""

import functools
import ipaddress
import re
from collections import Counter
from dataclasses import dataclass

from tornado_gateway.errors import StreamLimitReached, TooManyStreams

IPV6_CLIENT = 64  # bits of an IPv6 address that stand for one client: whoever has one address there has them all
PAUSE_ABOVE = 64 * 1024  # bytes that wait for a reader before its sender is paused; asyncio's own limit

# Some proxies add the client's port in X-Forwarded-For, another one for each of its connections.
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}|\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Streams open at once; 0 for any number.

    Attributes:
        total: of the gateway.
        per_service: to one service.
        per_client: by one client address, of IPv6 by one network of 64 bits.
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

    def take(self, service: str, address: str) -> None:
        """Count a stream in; each must be given back once.

        Raises:
            StreamLimitReached: the gateway or the service has as many as it may.
            TooManyStreams: the client has.
        """
        limits, client = self.limits, client_of(address)
        if limits.total and self.total >= limits.total:
            raise StreamLimitReached("the gateway has as many streams as it may")
        if limits.per_service and self.services[service] >= limits.per_service:
            raise StreamLimitReached("the service has as many streams as it may")
        if limits.per_client and self.clients[client] >= limits.per_client:
            raise TooManyStreams
        self.total += 1
        self.services[service] += 1
        self.clients[client] += 1

    def give_back(self, service: str, address: str) -> None:
        """Count a stream out."""
        self.total -= 1
        for counter, key in ((self.services, service), (self.clients, client_of(address))):
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


@functools.lru_cache(maxsize=4096)
def client_of(address: str) -> str:
    """What an address counts as, with or without a port.

    >>> client_of("2001:db8:1:2::7"), client_of("::ffff:1.2.3.4"), client_of("1.2.3.4:5678"), client_of("")
    ('2001:db8:1:2::', '1.2.3.4', '1.2.3.4', '')
    """
    with_port = _WITH_PORT.fullmatch(address)
    try:
        parsed = ipaddress.ip_address(with_port[1] or with_port[2] if with_port else address)
    except ValueError:  # of a unix socket there is none
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), IPV6_CLIENT), strict=False).network_address)
