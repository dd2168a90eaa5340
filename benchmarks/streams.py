"""A minimal HTTP, event stream and WebSocket implementation for cheap clients and services of benchmarks.

Both ends are programs of benchmarks/, so that a subset suffices: event streams are chunked, each frame is a whole
message, nothing is compressed. Anything else is a fault.
"""

import base64
import hashlib
import re
from dataclasses import dataclass

from benchmarks.readiness import HOST

END_OF_HEAD = b"\r\n\r\n"
END_OF_EVENT = b"\n\n"
LAST_CHUNK = b"0\r\n\r\n"

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

# A valid mask that saves both ends the work of masking, which is not measured.
NO_MASK = bytes(4)

_KEY = base64.b64encode(b"the same for all")  # 16 bytes, as RFC 6455 §4.1 wants
_KEY_FIELD = re.compile(rb"\r\nsec-websocket-key: *(\S+)\r\n", re.IGNORECASE)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/event-stream\r\n"
    b"Cache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def _accept(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


_ACCEPT = b"sec-websocket-accept: " + _accept(_KEY).lower()


class Malformed(Exception):
    """The other side broke the protocol."""


def stream_request(path: str, port: int) -> bytes:
    """The request of an EventSource."""
    return (
        f"GET {path} HTTP/1.1\r\n"
        f"Host: {HOST}:{port}\r\n"
        "Accept: text/event-stream\r\n"
        "Cache-Control: no-cache\r\n\r\n"
    ).encode()  # fmt: skip


def switch_request(path: str, port: int) -> bytes:
    """A WebSocket's opening handshake; its key is always the same."""
    return (
        f"GET {path} HTTP/1.1\r\n"
        f"Host: {HOST}:{port}\r\n"
        "Connection: Upgrade\r\n"
        "Upgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {_KEY.decode()}\r\n\r\n"
    ).encode()


def switch_head(request: bytes) -> bytes | None:
    """The 101 response to an opening handshake; None for any other request."""
    key = _KEY_FIELD.search(request)
    if not key:
        return None
    return (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % _accept(key[1])
    )


def check_answer(head: bytes) -> None:
    """Check that the head of a response begins an event stream or a WebSocket.

    Raises:
        Malformed: the head begins neither.
    """
    status, lines = head.split(b" ", 2)[1], head.lower().split(b"\r\n")
    if status == b"101":
        if _ACCEPT not in lines:
            raise Malformed("a 101 without the right Sec-WebSocket-Accept")
    elif status != b"200":
        raise Malformed(f"status {status.decode(errors='replace')}")
    elif b"transfer-encoding: chunked" not in lines or not any(
        line.startswith(b"content-type: text/event-stream") for line in lines
    ):
        raise Malformed("a 200 that is not a chunked event stream")


def chunk(body: bytes) -> bytes:
    """Encode a chunk (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(body), body)


class Chunks:
    """Decodes a chunked body.

    Attributes:
        ended: whether the last chunk has come.
    """

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""

    def feed(self, received: bytes) -> bytes:
        """Take received bytes; return the data of all chunks that are now complete.

        Raises:
            Malformed: the chunked coding is invalid.
        """
        rest = self._rest + received if self._rest else received
        body: list[bytes] = []
        at = 0
        while (head := rest.find(b"\r\n", at)) >= 0:
            size = _chunk_size(rest[at:head])
            end = head + 2 + size
            if len(rest) < end + 2:
                break
            if rest[end : end + 2] != b"\r\n":
                raise Malformed("a chunk that does not end where its size says")
            if not size:
                self.ended = True
            body.append(rest[head + 2 : end])
            at = end + 2
        self._rest = rest[at:]
        return body[0] if len(body) == 1 else b"".join(body)


def _chunk_size(line: bytes) -> int:
    try:
        return int(line, 16)
    except ValueError as error:
        raise Malformed(f"{line[:20]!r} instead of a chunk's size") from error


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame with its unmasked payload."""

    opcode: int
    payload: bytes


def frame(opcode: int, payload: bytes, mask: bytes | None = None) -> bytes:
    """Encode an unfragmented frame; clients must mask, services must not.

    >>> frame(TEXT, b"hi"), frame(TEXT, b"hi", b"abab")
    (b'\\x81\\x02hi', b'\\x81\\x82abab\\t\\x0b')
    """
    size, masked = len(payload), 0 if mask is None else 0x80
    if size < 126:
        head = bytes((0x80 | opcode, masked | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, masked | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, masked | 127)) + size.to_bytes(8, "big")
    return head + payload if mask is None else head + mask + xored(payload, mask)


def xored(payload: bytes, mask: bytes) -> bytes:
    """Mask a payload, or unmask it."""
    if mask == NO_MASK:
        return payload
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


class Frames:
    """Decodes frames.

    Args:
        masked: whether every frame must be masked (for a service) or unmasked (for a client).
    """

    def __init__(self, masked: bool) -> None:
        self._masked = masked
        self._rest = b""

    def feed(self, received: bytes) -> list[Frame]:
        """Take received bytes; return all frames that are now complete.

        Raises:
            Malformed: a frame is a fragment, has reserved bits, or has the wrong masking.
        """
        rest = self._rest + received if self._rest else received
        frames: list[Frame] = []
        at = 0
        while end := self._read(rest, at, frames):
            at = end
        self._rest = rest[at:]
        return frames

    def _read(self, rest: bytes, at: int, frames: list[Frame]) -> int:
        """Decode the frame at an offset; return the offset of its end, 0 if the frame is incomplete."""
        if len(rest) < at + 2:
            return 0
        first, second = rest[at], rest[at + 1]
        if first & 0xF0 != 0x80 or bool(second & 0x80) is not self._masked:
            raise Malformed(f"a frame that begins with {first:02x} {second:02x}")
        size, start = second & 0x7F, at + 2
        if size >= 126:
            extended = 2 if size == 126 else 8
            if len(rest) < start + extended:
                return 0
            size, start = int.from_bytes(rest[start : start + extended], "big"), start + extended
        mask_end = start + 4 if self._masked else start
        end = mask_end + size
        if len(rest) < end:
            return 0
        payload = rest[mask_end:end]
        frames.append(Frame(first & 0x0F, xored(payload, rest[start:mask_end]) if self._masked else payload))
        return end
