"""Reads large pieces without a copy, into a buffer that all connections of an event loop share.

An event loop hands each read to a protocol as new bytes. The copy of 64 KiB costs 2 µs. On AMD processors the copy
costs 45 µs where the addresses happen to be 1 to 31 bytes apart modulo 4096 (glibc bug 30994): about every fourth
gateway process then takes 220 instead of 160 µs for an echoed WebSocket message of 64 KiB, for as long as the process
lives. A BulkReader reads into a shared buffer and hands on a memoryview. For small reads the two calls of a
BufferedProtocol cost more than the copy, so a connection has a BulkReader only while large pieces come.
"""

import asyncio

BULK = 32 * 1024  # bytes; a read of this size begins reading in bulk
SMALL = 16 * 1024  # bytes; a smaller read ends reading in bulk
BUFFER_SIZE = 256 * 1024  # bytes; the same as asyncio and uvloop read at once


class SharedBuffer:
    """A buffer for the reads of all connections of an event loop, one read at a time."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray()  # empty until the first read in bulk

    def free(self) -> bytearray:
        """A buffer of BUFFER_SIZE bytes of which nobody holds a part.

        A transport holds the part that could not be sent at once. Such a buffer is left to the transport.
        """
        try:
            self._bytes.pop()  # BufferError while a memoryview of the buffer exists
            self._bytes.append(0)
        except (BufferError, IndexError):
            self._bytes = bytearray(BUFFER_SIZE)
        return self._bytes

    def read(self, size: int) -> memoryview:
        """The first bytes of the buffer, which were just read."""
        return memoryview(self._bytes)[:size]


class BulkReceiver(asyncio.Protocol):
    """The protocol of a connection that may be read in bulk."""

    __slots__ = ()

    def piece_received(self, piece: memoryview) -> None:
        """Take a read of at least SMALL bytes. A part of the piece that is kept keeps the whole buffer."""
        raise NotImplementedError


class BulkReader(asyncio.BufferedProtocol):
    """Stands between a transport and its protocol while large pieces come.

    Args:
        transport: of a plain TCP connection.
        receiver: the transport's protocol; gets the transport back at a read below SMALL.
        buffer: of the event loop.
    """

    __slots__ = ("_buffer", "_receiver", "_transport")

    def __init__(self, transport: asyncio.Transport, receiver: BulkReceiver, buffer: SharedBuffer) -> None:
        self._transport, self._receiver, self._buffer = transport, receiver, buffer

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer.free()

    def buffer_updated(self, nbytes: int) -> None:
        piece = self._buffer.read(nbytes)
        if nbytes >= SMALL:
            self._receiver.piece_received(piece)
        else:
            self._transport.set_protocol(self._receiver)
            self._receiver.data_received(bytes(piece))

    def eof_received(self) -> bool | None:
        return self._receiver.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.connection_lost(exc)

    def pause_writing(self) -> None:
        self._receiver.pause_writing()

    def resume_writing(self) -> None:
        self._receiver.resume_writing()


def read_in_bulk(transport: asyncio.Transport, receiver: BulkReceiver, buffer: SharedBuffer) -> None:
    """Give an open transport a BulkReader, unless it has one, or the connection uses TLS, which makes bytes anyway."""
    is_plain = transport.get_protocol() is receiver and transport.get_extra_info("ssl_object") is None
    if is_plain and not transport.is_closing():
        transport.set_protocol(BulkReader(transport, receiver, buffer))
