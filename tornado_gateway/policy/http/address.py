"""The address of a client or of a proxy: one type, parsed once, for trust, limits, hashing, logs and upstreams.

    203.0.113.7    203.0.113.7:50000    ::ffff:203.0.113.7    [::ffff:cb00:7107]:443    "203.0.113.7"

are spellings of the same client. The canonical text of an address holds only digits, `a` to `f`, dots and colons.

Sources: RFC 5952 (canonical text), RFC 4291 §2.5.5.2 (IPv4-mapped addresses), RFC 4007 §11 (zones),
RFC 7239 §6 (how proxies write nodes).
"""

import functools
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field


class UnixPeers:
    """The peers of unix sockets, which have no address, among the networks of trusted proxies."""

    def __str__(self) -> str:
        return UNIX_WORD


UNIX_WORD = "unix"
UNIX_PEERS = UnixPeers()

Network = ipaddress.IPv4Network | ipaddress.IPv6Network | UnixPeers
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

IPV6_CLIENT = 64  # prefix length of an IPv6 client: a host usually has a whole /64, so addresses in it are free
LONGEST = 100  # characters of an address with brackets, zone, port and quotes, rounded up

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")

# A zone has a meaning only on the host that wrote the address, so parse() drops the zone. Only characters that RFC
# 6874 §2 allows in a zone are accepted; any other text behind "%" makes the address invalid.
_ZONE = r"(?:%[A-Za-z0-9._~-]+)?"
_PORT = r"(?::([0-9]{1,5}))?"
_V6 = r"([0-9A-Fa-f]*:[0-9A-Fa-f:.]*)"
_NODE = re.compile(rf"([0-9.]+){_PORT}|\[{_V6}{_ZONE}\]{_PORT}|{_V6}{_ZONE}")


@dataclass(frozen=True, slots=True)
class Address:
    """An IPv4 or IPv6 address; NO_ADDRESS stands for the peer of a unix socket.

    Attributes:
        text: canonical text (RFC 5952); "" for NO_ADDRESS. Addresses with equal texts are equal.
        client: key by which limits count clients: the IPv4 address, or the IPv6 network of 64 bits.
    """

    text: str
    client: str = field(compare=False)
    _value: IPAddress | None = field(compare=False, repr=False)

    def is_in(self, networks: Sequence[Network]) -> bool:
        value = self._value
        if value is None:
            return UNIX_PEERS in networks
        return any(value in network for network in networks if not isinstance(network, UnixPeers))


NO_ADDRESS = Address("", "", None)


def parse(node: bytes) -> Address | None:
    """Parse a member of X-Forwarded-For; None if the member is not an address.

    Accepted beside a plain address: a port (Azure writes `203.0.113.7:50000`), brackets, quotes (RFC 7239 §6), a zone.
    Not accepted: names, `unknown` and `_obfuscated` (RFC 7239 §6.2 and §6.3); numbers that C libraries read as
    addresses (`010.0.0.1`, `0x7f.1`, `2130706433`), because parsers disagree about such numbers.

    >>> parse(b"[2001:DB8::1]:443").text, parse(b"::ffff:203.0.113.7").text, parse(b"unknown")
    ('2001:db8::1', '203.0.113.7', None)
    """
    return _parse(node) if len(node) <= LONGEST else None


@functools.lru_cache(maxsize=4096)  # the parser costs 3 µs, and the addresses of proxies and clients come back
def _parse(node: bytes) -> Address | None:
    text = node.decode("latin-1")
    if text.startswith('"') and text.endswith('"'):
        text = text[1:-1]
    found = _NODE.fullmatch(text)
    if not found or int(found[2] or found[4] or 0) > 65535:
        return None
    return _address(found[1] or found[3] or found[5])


def of_peer(host: str) -> Address:
    """The address of a socket's peer, from the socket's own text; NO_ADDRESS if the text is no IP address."""
    return parse(host.encode("ascii", "replace")) or NO_ADDRESS


def _address(text: str) -> Address | None:
    try:
        value = ipaddress.ip_address(text)
    except ValueError:
        return None
    value = unmapped(value)
    if isinstance(value, ipaddress.IPv4Address):
        return Address(str(value), str(value), value)
    network = ipaddress.IPv6Network((int(value), IPV6_CLIENT), strict=False)
    return Address(str(value), str(network.network_address), value)


def unmapped(value: IPAddress) -> IPAddress:
    """Turn an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2) into IPv4; return other addresses unchanged.

    A socket on `::` reports its IPv4 peers as IPv4-mapped addresses.
    """
    return (value.ipv4_mapped if isinstance(value, ipaddress.IPv6Address) else None) or value


def network(text: str) -> Network:
    """Parse a network, or a single address as a network of that address.

    A network of IPv4-mapped addresses becomes the IPv4 network; "unix" becomes UNIX_PEERS.

    Raises:
        ValueError: the text is no network, has host bits set, or has a zone. Parsed addresses have no zone, so a
            comparison would ignore the zone.

    >>> network("::ffff:10.0.0.0/104"), network("::1")
    (IPv4Network('10.0.0.0/8'), IPv6Network('::1/128'))
    """
    if text == UNIX_WORD:
        return UNIX_PEERS
    if "%" in text:
        raise ValueError(f"{text!r} has a zone")
    found = ipaddress.ip_network(text)
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):
        first = int(found.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((first, found.prefixlen - _MAPPED.prefixlen))
    return found
