"""Name resolution without a name server: /etc/hosts, localhost, and families of addresses.

Sources: hosts(5), RFC 6761 §6.3 (localhost), RFC 6724 §2.1 (IPv6 before IPv4, `::1` first of all).
"""

import ipaddress
from collections.abc import Iterable, Iterator
from enum import Enum

LOOPBACK = ("::1", "127.0.0.1")


class Family(Enum):
    """Which addresses of a name are used."""

    AUTO = "auto"  # IPv4 if the name has IPv4 addresses, else IPv6: a dual-stack name lists the same hosts twice
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    ALL = "all"


def usable(addresses: Iterable[str], family: Family) -> tuple[str, ...]:
    """The addresses of a name that are used, without duplicates, in ascending order: the same in all gateways.

    Link-local IPv6 addresses are left out: a connection needs a zone, which a look-up does not always return.

    >>> usable(["10.0.0.10", "fd00::1", "10.0.0.9", "10.0.0.10"], Family.AUTO)
    ('10.0.0.9', '10.0.0.10')
    """
    given = {ipaddress.ip_address(each) for each in addresses}
    reachable = [each for each in given if each.version == 4 or not each.is_link_local]
    found = sorted(reachable, key=lambda each: (each.version, int(each)))
    version = {Family.IPV4: 4, Family.IPV6: 6}.get(family)
    if family is Family.AUTO and found:
        version = found[0].version
    return tuple(str(each) for each in found if version in (None, each.version))


def hosts_addresses(text: str, name: str) -> tuple[str, ...]:
    """The addresses of a name in all lines of a hosts file, IPv6 first.

    >>> hosts_addresses("10.0.0.7 billing # old\\nfd00::7 mail Billing\\n", "billing.")
    ('fd00::7', '10.0.0.7')
    """
    wanted = name.removesuffix(".").lower()
    if wanted not in text.lower():  # a hosts file may have 100,000 lines
        return ()
    found = dict.fromkeys(_addresses_of(text, wanted))
    return tuple(sorted(found, key=lambda each: ":" not in each))


def _addresses_of(text: str, wanted: str) -> Iterator[str]:
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if wanted in (name.removesuffix(".").lower() for name in names):
            try:
                yield str(ipaddress.ip_address(address))
            except ValueError:
                continue


def is_localhost(name: str) -> bool:
    """Whether a name means this host by definition; a query must not ask for such a name (RFC 6761 §6.3).

    >>> [is_localhost(each) for each in ("localhost", "app.localhost.", "localhost.test")]
    [True, True, False]
    """
    return f".{name.removesuffix('.').lower()}".endswith(".localhost")
