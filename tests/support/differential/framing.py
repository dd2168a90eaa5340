"""Where an HTTP/1.1 message ends in a stream of bytes (RFC 9112 §6): pure, and strict about chunks."""

import re
from dataclasses import dataclass

_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[^\r\n]*\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*(?=\r\n)", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


@dataclass(frozen=True, slots=True)
class Chunks:
    """A chunked body that was read to its end.

    Attributes:
        body: the data of all chunks, joined.
        trailers: the trailer section as sent, with the empty line.
        end: offset behind the body.
    """

    body: bytes
    trailers: bytes
    end: int


def read_chunks(data: bytes, start: int) -> Chunks | None:
    """Read a chunked body; None if the body is cut off or malformed."""
    pieces, at = [], start
    while size := _CHUNK_SIZE.match(data, at):
        length, at = int(size[1], 16), size.end()
        if not length:
            end = at if data[at : at + 2] == b"\r\n" else data.find(b"\r\n\r\n", at) + 2
            return Chunks(b"".join(pieces), data[at : end + 2], end + 2) if end >= at and end + 2 <= len(data) else None
        if data[at + length : at + length + 2] != b"\r\n":
            return None
        pieces.append(data[at : at + length])
        at += length + 2
    return None


def partial_chunks(data: bytes, start: int) -> bytes:
    """The data of the chunks of a body that was cut off, joined, then the rest as it stands."""
    pieces, at = [], start
    while (size := _CHUNK_SIZE.match(data, at)) and (length := int(size[1], 16)):
        piece = data[size.end() : size.end() + length]
        pieces.append(piece)
        at = size.end() + length + 2
        if len(piece) < length or data[at - 2 : at] != b"\r\n":
            break
    return b"".join(pieces) + b"|" + data[at:]


def head_end(data: bytes, start: int = 0) -> int:
    """The offset behind a head that begins at `start`; 0 while the head is incomplete."""
    return data.find(b"\r\n\r\n", start) + 4 if b"\r\n\r\n" in data[start:] else 0


def is_chunked(head: bytes) -> bool:
    return bool(_CHUNKED.search(head))


def content_length(head: bytes) -> int | None:
    found = _LENGTH.search(head)
    return int(found[1]) if found else None


def status_of(head: bytes) -> int:
    """The status of a response's head; 0 if the bytes are no status line."""
    found = _STATUS.match(head)
    return int(found[1]) if found else 0


def request_end(data: bytes, start: int = 0) -> int:
    """The offset behind a whole request that begins at `start`; 0 while the request is incomplete."""
    end = head_end(data, start)
    return _body_end(data, data[start:end], end) if end else 0


def _body_end(data: bytes, head: bytes, at: int) -> int:
    if is_chunked(head):
        chunks = read_chunks(data, at)
        return chunks.end if chunks else 0
    end = at + (content_length(head) or 0)
    return end if end <= len(data) else 0


def final_responses(data: bytes, methods: list[bytes], ended: bool) -> int:
    """Count the whole final responses at the start of `data`; `methods` are those of the requests, in order."""
    count = at = 0
    while end := head_end(data, at):
        head, method = data[at:end], methods[min(count, len(methods) - 1)]
        status = status_of(head)
        if 100 <= status < 200 and status != 101:
            at = end
            continue
        if method == b"HEAD" or status in (101, 204, 304):
            at = end
        elif not is_chunked(head) and content_length(head) is None:
            return count + ended
        elif not (at := _body_end(data, head, end)):
            return count
        count += 1
    return count


def has_close_frame(data: bytes) -> bool:
    """Whether whole WebSocket frames behind a head include a close frame (RFC 6455 §5.2)."""
    at = head_end(data)
    while at and at + 2 <= len(data):
        if data[at] & 15 == 8:
            return True
        size, masked = data[at + 1] & 127, data[at + 1] >> 7
        at += 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        at += 4 * masked + size
    return False


def is_refusal(data: bytes) -> bool:
    """Whether the bytes are a whole response that is no handshake."""
    return status_of(data) not in (0, 101) and final_responses(data, [b"GET"], ended=False) > 0
