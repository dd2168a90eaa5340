"""Addresses: all spellings of an address are equal, and anything else is refused."""

import ipaddress
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_gateway.policy.http.address import LONGEST, NO_ADDRESS, Address, network, of_peer, parse

V4, V6 = "203.0.113.7", "2001:db8::1"
NETWORKS = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
ADDRESSES = st.ip_addresses()


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ("203.0.113.7", V4),
        ("203.0.113.7:50000", V4),  # as Azure writes it
        ("203.0.113.7:0", V4),
        ("203.0.113.7:65535", V4),
        ("::ffff:203.0.113.7", V4),
        ("::FFFF:CB00:7107", V4),
        ("0:0:0:0:0:ffff:203.0.113.7", V4),
        ("[::ffff:203.0.113.7]", V4),
        ("[::ffff:cb00:7107]:443", V4),
        ("::ffff:203.0.113.7%eth0", V4),
        ('"203.0.113.7:47011"', V4),  # RFC 7239 §6
        ("2001:db8::1", V6),
        ("2001:DB8::1", V6),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", V6),
        ("2001:db8:0:0::1", V6),
        ("2001:db8::0.0.0.1", V6),
        ("[2001:db8::1]", V6),
        ("[2001:DB8:0::1]:443", V6),
        ('"[2001:db8::1]:47011"', V6),
        ("[2001:db8::1%eth0]:443", V6),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%25en-0", "fe80::1"),
        ("::", "::"),
    ],
)
def test_all_spellings_of_an_address_are_equal(node: str, text: str) -> None:
    address = parse(node.encode())
    assert address is not None
    assert address.text == text
    assert address == of_peer(text)
    assert hash(address) == hash(of_peer(text))


@pytest.mark.parametrize(
    "node",
    [
        *("", " ", "-", "unknown", "UNKNOWN", "_hidden", "_SEVKISEK", "localhost", "a.b.c.d", "example.com"),
        *("010.0.0.1", "10.0.0.01", "0x7f.0.0.1", "0x7f000001", "2130706433", "127.1", "10.0.0", "10.0.0.0.1"),
        *("10.0.0.256", "10.0.0.-1", "10.0.0.1.", ".10.0.0.1", "10.0.0.1/32", "::1/128", "10.0.0.1 ", "10.0.0.1\n"),
        *("10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:99999", "10.0.0.1:123456", "10.0.0.1:x", "10.0.0.1:_obf"),
        *("[10.0.0.1]", "[::1", "::1]", "[::1]x", "[::1]:", "[::1]:65536", "[]", "[]:80", ":::", "1:2:3:4:5:6:7:8:9"),
        *("12345::", "::ffff:010.0.0.1", "g::1", '"10.0.0.1', '10.0.0.1"', '""10.0.0.1""', '"', '""'),
        *('fe80::1%"', "fe80::1%\\", "fe80::1%a\tb", 'fe80::1%x"}{"level":"error', "fe80::1%", "fe80::1%a b"),
        *("fe80::1%a\x1b[31m", "fe80::1%\xe9", "fe80::1%a\nb", "\uff11.2.3.4", "\u0661.2.3.4", "10.0.0.1\x00"),
        *("10.0.0.1%a", "for=10.0.0.1", "10.0.0.1,10.0.0.2"),
        "fe80::1%" + "a" * LONGEST,
    ],
)
def test_parsing_anything_but_an_address_gives_none(node: str) -> None:
    assert parse(node.encode()) is None


@pytest.mark.parametrize(
    ("text", "client"),
    [
        (V4, V4),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::7", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
        ("2001:db8:1:3::7", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
        ("", ""),
    ],
)
def test_an_ipv6_network_of_64_bits_is_one_client(text: str, client: str) -> None:
    assert of_peer(text).client == client


@pytest.mark.parametrize("host", ["", "/run/app.sock", "unknown", "\udcff", "é"])
def test_a_peer_without_an_address_has_none(host: str) -> None:
    assert of_peer(host) is NO_ADDRESS
    assert not of_peer(host).is_in((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.1.2.3", False),
        ("::ffff:11.1.2.3", False),
        ("fd00::1", True),
        ("fd00::1%eth0", True),
        ("fe80::1", False),
        ("::10.1.2.3", False),  # IPv4-compatible (RFC 4291 §2.5.5.1) is not IPv4-mapped
    ],
)
def test_an_address_is_in_a_network_or_not(text: str, expected: bool) -> None:
    assert of_peer(text).is_in(NETWORKS) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.1", "10.0.0.1/32"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::FFFF:0A00:0001/128", "10.0.0.1/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("::fffe:0:0/95", "::fffe:0:0/95"),
    ],
)
def test_a_network_of_mapped_addresses_is_an_ipv4_network(text: str, expected: str) -> None:
    assert network(text) == ipaddress.ip_network(expected)


@pytest.mark.parametrize("text", ["fe80::1%eth0", "fe80::%x/64", "::ffff:10.0.0.1/104", "x", "", "010.0.0.1"])
def test_an_invalid_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        network(text)


# ---- properties


def spellings(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> st.SearchStrategy[str]:
    """Ways in which proxies write an address."""
    ports = st.integers(0, 65535).map(lambda port: f":{port}")
    if isinstance(address, ipaddress.IPv4Address):
        mapped = ipaddress.IPv6Address(f"::ffff:{address}")
        plain = st.just(str(address))
        return st.one_of(plain, st.tuples(plain, ports).map("".join), spellings(mapped))
    texts = st.sampled_from([str(address), address.exploded, str(address).upper(), address.exploded.upper()])
    zones = st.sampled_from(["", "%eth0", "%1"])
    bare = st.tuples(texts, zones).map("".join)
    return st.one_of(bare, st.tuples(bare.map("[{}]".format), st.one_of(st.just(""), ports)).map("".join))


@settings(deadline=None)
@given(st.data(), ADDRESSES)
def test_no_spelling_makes_another_client(
    data: st.DataObject, value: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    spelled = data.draw(spellings(value))
    quoted = f'"{spelled}"' if data.draw(st.booleans()) else spelled
    address = parse(quoted.encode())
    assert address == parse(str(value).encode())
    assert isinstance(address, Address)
    assert address.is_in((network(str(value)),))


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet='0123456789abcdefx:.[]%"_-', max_size=60).map(str.encode)))
def test_the_text_of_any_parsed_address_is_plain(node: bytes) -> None:
    address = parse(node)
    if address is not None:
        assert re.fullmatch(r"[0-9a-f:.]{2,39}", address.text)
        assert re.fullmatch(r"[0-9a-f:.]{2,39}", address.client)
        assert parse(address.text.encode()) == address


def test_peers_of_unix_sockets_are_a_network_with_a_name() -> None:
    trusted = network("unix")
    assert str(trusted) == "unix"
    assert NO_ADDRESS.is_in((trusted,)) and not NO_ADDRESS.is_in((network("0.0.0.0/0"), network("::/0")))
    assert not of_peer("192.0.2.1").is_in((trusted,))
