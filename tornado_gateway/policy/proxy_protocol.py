r"""The PROXY protocol: a header by which a proxy tells the client's address before the bytes of the client.

    version 1   PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\n
    version 2   signature (12 bytes), version and command, family, length (2 bytes), addresses, TLVs

LOCAL (version 2) is a connection of the proxy itself, such as a health check. UNKNOWN (version 1), AF_UNSPEC and
AF_UNIX tell no address. In these cases the peer of the socket stays the client. TLVs are skipped, but for the checksum,
which is checked if present: a header that was changed on its way is no header.

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, §2.1 and §2.2.
"""

import functools
import ipaddress
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tornado_gateway.policy.http.address import NO_ADDRESS, Address, of_peer

MOST_V1 = 107  # bytes of a header of version 1, with CRLF
MOST_V2 = 4096  # bytes of a header of version 2; proxies send some hundred, and a certificate in a TLV some thousand

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = struct.Struct(">12sBBH")
_LOCAL, _PROXY = 0x20, 0x21  # version 2, and the command
_UNSPEC, _TCP4, _TCP6, _UNIX_STREAM = 0x00, 0x11, 0x21, 0x31
_ADDRESSES = {_UNSPEC: 0, _TCP4: 12, _TCP6: 36, _UNIX_STREAM: 216}  # bytes by family and transport
_CRC32C = 0x03  # PP2_TYPE_CRC32C
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")


class NotProxied(Exception):
    """The bytes do not begin with a header."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header.

    Attributes:
        client: the address of the client; NO_ADDRESS if the header tells none.
        size: bytes of the header.
    """

    client: Address
    size: int


def read_header(received: bytes) -> Header | None:
    r"""Read the header that the bytes of a connection begin with; None if the header is not complete.

    Raises:
        NotProxied: the bytes cannot become a header, or the header is wrong, or longer than accepted.

    >>> read_header(b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\nGET /").client.text, read_header(b"PRO")
    ('203.0.113.7', None)
    """
    for signature, read in ((_V1, _read_v1), (_V2, _read_v2)):
        if received.startswith(signature):
            return read(received)
        if signature.startswith(received):
            return None
    raise NotProxied


def _read_v1(received: bytes) -> Header | None:
    line, end, _ = received[:MOST_V1].partition(b"\r\n")
    if not end:
        if len(received) >= MOST_V1 or b"\n" in received:
            raise NotProxied
        return None
    return Header(_client_v1(line), len(line) + len(end))


def _client_v1(line: bytes) -> Address:
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return NO_ADDRESS
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6") or not all(map(_is_port, words[4:])):
        raise NotProxied
    source, _ = (_parse(word, is_v4=words[1] == b"TCP4") for word in words[2:4])
    return source


def _is_port(word: bytes) -> bool:
    return _PORT.fullmatch(word) is not None and int(word) <= 65535


def _parse(word: bytes, *, is_v4: bool) -> Address:
    try:
        text = word.decode("ascii")
        value = ipaddress.IPv4Address(text) if is_v4 else ipaddress.IPv6Address(text)
    except ValueError:
        raise NotProxied from None
    if "%" in text:
        raise NotProxied
    return of_peer(str(value))


def _read_v2(received: bytes) -> Header | None:
    if len(received) < _FIXED.size:
        return None
    _, command, family, length = _FIXED.unpack_from(received)
    size = _FIXED.size + length
    if command not in (_LOCAL, _PROXY) or size > MOST_V2:
        raise NotProxied
    if len(received) < size:
        return None
    header = received[:size]
    if command == _LOCAL:
        _check_sum(header, _ADDRESSES.get(family, length))
        return Header(NO_ADDRESS, size)
    if family not in _ADDRESSES or length < _ADDRESSES[family]:
        raise NotProxied
    _check_sum(header, _ADDRESSES[family])
    return Header(_client_v2(header, family), size)


def _client_v2(header: bytes, family: int) -> Address:
    behind = header[_FIXED.size :]
    if family == _TCP4:
        return of_peer(str(ipaddress.IPv4Address(behind[:4])))
    if family == _TCP6:
        return of_peer(str(ipaddress.IPv6Address(behind[:16])))
    return NO_ADDRESS


def _check_sum(header: bytes, addresses: int) -> None:
    """
    Args:
        addresses: bytes of the addresses before the TLVs.

    Raises:
        NotProxied: the TLVs are not complete, or the checksum is wrong.
    """
    for kind, begin, end in _tlvs(header, _FIXED.size + addresses):
        if kind == _CRC32C:
            blank = header[:begin] + bytes(end - begin) + header[end:]
            if end - begin != 4 or int.from_bytes(header[begin:end]) != crc32c(blank):
                raise NotProxied


def _tlvs(header: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """The type, the begin and the end of the value of each TLV.

    Raises:
        NotProxied: a TLV is not complete.
    """
    while at < len(header):
        begin = at + 3
        end = begin + int.from_bytes(header[at + 1 : begin])
        if begin > len(header) or end > len(header):
            raise NotProxied
        yield header[at], begin, end
        at = end


def crc32c(data: bytes) -> int:
    """The checksum of RFC 9260 appendix A: CRC-32 by Castagnoli's polynomial.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    table, rest = _table(), 0xFFFFFFFF
    for byte in data:
        rest = table[(rest ^ byte) & 0xFF] ^ (rest >> 8)
    return rest ^ 0xFFFFFFFF


@functools.cache
def _table() -> tuple[int, ...]:
    return tuple(map(_remainder, range(256)))


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte
