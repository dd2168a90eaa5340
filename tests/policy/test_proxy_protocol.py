"""Headers of the PROXY protocol: those of the specification, all that are wrong, and parts of each."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.proxy_protocol import MOST_V1, MOST_V2, Header, NotProxied, crc32c, read_header

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
V4 = ipaddress.IPv4Address("203.0.113.7").packed + ipaddress.IPv4Address("192.0.2.1").packed + bytes(4)
V6 = ipaddress.IPv6Address("2001:db8::7").packed + ipaddress.IPv6Address("2001:db8::1").packed + bytes(4)


def v2(family: int, behind: bytes, command: int = 0x21, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(behind) if length is None else length) + behind


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


def summed(family: int, addresses: bytes, *, by: int = 0) -> bytes:
    """A header with a checksum, changed by `by`."""
    blank = v2(family, addresses + tlv(4, b"x") + tlv(3, bytes(4)))
    return blank[:-4] + struct.pack(">I", crc32c(blank) ^ by)


GOOD = {
    b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\n": "203.0.113.7",
    b"PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\n": "2001:db8::7",
    b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n": "203.0.113.7",
    b"PROXY UNKNOWN\r\n": "",
    b"PROXY UNKNOWN ffff:f... whatever 1\r\n": "",
    v2(0x11, V4): "203.0.113.7",
    v2(0x21, V6): "2001:db8::7",
    v2(0x11, V4 + tlv(1, b"h2") + tlv(0xEE, b"x" * 700)): "203.0.113.7",
    v2(0x00, b""): "",
    v2(0x31, bytes(216)): "",
    v2(0x00, b"", command=0x20): "",
    v2(0x11, V4, command=0x20): "",
    v2(0xFF, b"?", command=0x20): "",
    summed(0x11, V4): "203.0.113.7",
    v2(0x11, V4 + tlv(4, bytes(MOST_V2 - 16 - 12 - 3))): "203.0.113.7",
}

WRONG = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    b"proxy TCP4 203.0.113.7 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 01 2\r\n",
    b"PROXY TCP4 203.0.113.7  192.0.2.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.07 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 2001:db8::7 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 203.0.113.7 nowhere 1 2\r\n",
    b"PROXY TCP6 203.0.113.7 ::1 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n",
    b"PROXY TCP4 \xff 192.0.2.1 1 2\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n",
    b"PROXY " + b"x" * (MOST_V1 - 6),
    v2(0x12, V4),  # UDP
    v2(0x11, V4[:11]),
    v2(0x21, V4),
    v2(0x11, V4, command=0x11),
    v2(0x11, V4, command=0x22),
    v2(0x11, V4 + b"\x04"),
    v2(0x11, V4 + b"\x04\x00\x02x"),
    v2(0x11, V4, length=MOST_V2),
    v2(0x11, V4 + tlv(3, b"abc")),
    summed(0x11, V4, by=1),
]


@pytest.mark.parametrize("header", GOOD, ids=range(len(GOOD)))
def test_a_header_is_read_whole_and_the_bytes_behind_it_are_not(header: bytes) -> None:
    for behind in (b"", b"GET / HTTP/1.1\r\n\r\n", header):
        found = read_header(header + behind)
        assert found == Header(found.client, len(header)) and found.client.text == GOOD[header]
    assert {read_header(header[:at]) for at in range(len(header))} == {None}


@pytest.mark.parametrize("header", WRONG, ids=range(len(WRONG)))
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(NotProxied):
        read_header(header)


def model(received: bytes) -> tuple[str, int] | None:
    """The specification, word by word, for TCP alone: client and size; None if more bytes are needed.

    Raises:
        ValueError: no header.
    """
    if received[:12] == SIGNATURE and len(received) >= 16:
        size = 16 + received[14] * 256 + received[15]
        if received[12] not in (0x20, 0x21) or size > MOST_V2:
            raise ValueError
        if len(received) < size:
            return None
        if received[12] == 0x20:
            return "", size
        least, at = {0x11: (12, 4), 0x21: (36, 16), 0x00: (0, 0), 0x31: (216, 0)}[received[13]]
        if size - 16 < least:
            raise ValueError
        return str(ipaddress.ip_address(received[16 : 16 + at])) if at else "", size
    raise AssertionError("the test makes no other")


@given(
    st.sampled_from([0x20, 0x21, 0x22, 0x11]),
    st.sampled_from([0x00, 0x11, 0x21, 0x31]),
    st.binary(max_size=60),
    st.integers(0, 80),
)
def test_version_2_agrees_with_a_literal_model(command: int, family: int, behind: bytes, length: int) -> None:
    received = v2(family, behind, command, length)
    try:
        wanted = model(received)
    except ValueError:
        with pytest.raises(NotProxied):
            read_header(received)
        return
    try:
        found = read_header(received)
    except NotProxied:  # TLVs, which the model does not know
        assert wanted and wanted[1] > 16 + {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}[family]
        return
    assert (found is None) is (wanted is None)
    if found and wanted:
        client = found.client.text
        mapped = ipaddress.ip_address(wanted[0] or "::")
        assert client == wanted[0] or client == str(getattr(mapped, "ipv4_mapped", None))
        assert found.size == wanted[1]


@given(st.binary(max_size=120) | st.binary(max_size=100).map(lambda more: b"PROXY TCP4 " + more))
def test_any_bytes_are_a_header_or_none_or_wait_for_more(received: bytes) -> None:
    try:
        found = read_header(received)
    except NotProxied:
        return
    assert found is None or 0 < found.size <= len(received)
