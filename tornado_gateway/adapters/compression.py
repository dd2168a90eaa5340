"""The codings of content: gzip by the standard library, br and zstd by optional libraries.

The levels are those at which a proxy has gained most of the bytes for little time: 1 MiB of JSON takes some 15 ms.
"""

import importlib
import importlib.util
import zlib
from typing import Any, Protocol

from tornado_gateway.policy.http.compression import BROTLI, GZIP, ZSTD

GZIP_LEVEL, BROTLI_QUALITY, ZSTD_LEVEL = 5, 4, 3
BROTLI_WINDOW = 18  # bits: 256 KiB for each response on its way; 4 MiB by default

_OF_GZIP = 31  # wbits of zlib: a window of 32 KiB, with head and tail of gzip

# The library of each coding; zlib is always there.
LIBRARIES = {GZIP: "zlib", BROTLI: "brotli", ZSTD: "zstandard"}


def is_installed(coding: bytes) -> bool:
    """Whether the library of a coding is there."""
    return importlib.util.find_spec(LIBRARIES[coding]) is not None


class Compressor(Protocol):
    """Compresses a body, piece by piece."""

    def take(self, piece: bytes, *, flushes: bool) -> bytes:
        """Compress a piece.

        Args:
            flushes: whether the client can read all of the piece from what is returned; costs some bytes.
        """

    def end(self) -> bytes:
        """The last bytes."""


def new_compressor(coding: bytes) -> Compressor:
    """A compressor of an installed coding."""
    kinds: dict[bytes, type[Compressor]] = {GZIP: _Gzip, BROTLI: _Brotli, ZSTD: _Zstd}
    return kinds[coding]()


class _Gzip:
    def __init__(self) -> None:
        self._made = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _OF_GZIP)

    def take(self, piece: bytes, *, flushes: bool) -> bytes:
        made = self._made.compress(piece)
        return made + self._made.flush(zlib.Z_SYNC_FLUSH) if flushes else made

    def end(self) -> bytes:
        return self._made.flush()


class _Brotli:
    def __init__(self) -> None:
        self._made: Any = importlib.import_module("brotli").Compressor(quality=BROTLI_QUALITY, lgwin=BROTLI_WINDOW)

    def take(self, piece: bytes, *, flushes: bool) -> bytes:
        made: bytes = self._made.process(piece)
        return made + self._made.flush() if flushes else made

    def end(self) -> bytes:
        made: bytes = self._made.finish()
        return made


class _Zstd:
    def __init__(self) -> None:
        library = importlib.import_module("zstandard")
        self._flush = library.COMPRESSOBJ_FLUSH_BLOCK
        self._made: Any = library.ZstdCompressor(level=ZSTD_LEVEL).compressobj()

    def take(self, piece: bytes, *, flushes: bool) -> bytes:
        made: bytes = self._made.compress(piece)
        return made + self._made.flush(self._flush) if flushes else made

    def end(self) -> bytes:
        made: bytes = self._made.flush()
        return made
