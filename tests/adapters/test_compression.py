"""The codings: what comes out can be read by the libraries, whole and so far."""

import importlib
import importlib.util
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from tornado_gateway.adapters.compression import LIBRARIES, is_installed, new_compressor
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import ConfigurationError
from tornado_gateway.policy.http.compression import CODINGS

INSTALLED = [each for each in CODINGS if is_installed(each)]
PIECES = [b"first " * 1000, b"second", b"", b"third " * 50_000]

of_each = pytest.mark.parametrize("coding", INSTALLED, ids=bytes.decode)


def reader(coding: bytes) -> Callable[[bytes], bytes]:
    """Decompresses piece by piece."""
    if coding == b"gzip":
        return zlib.decompressobj(31).decompress
    library: Any = importlib.import_module(LIBRARIES[coding])
    read: Callable[[bytes], bytes]
    read = library.Decompressor().process if coding == b"br" else library.ZstdDecompressor().decompressobj().decompress
    return read


@of_each
def test_a_body_comes_back_and_is_smaller(coding: bytes) -> None:
    compressor, read = new_compressor(coding), reader(coding)
    made = b"".join([compressor.take(each, flushes=False) for each in PIECES]) + compressor.end()
    assert read(made) == b"".join(PIECES)
    assert len(made) < 3000


@of_each
def test_a_piece_that_is_flushed_can_be_read_at_once(coding: bytes) -> None:
    compressor, read = new_compressor(coding), reader(coding)
    for each in PIECES:
        assert read(compressor.take(each, flushes=True)) == each
    assert read(compressor.end()) == b""


@of_each
def test_an_empty_body_is_whole(coding: bytes) -> None:
    assert reader(coding)(new_compressor(coding).end()) == b""


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_a_library_that_is_missing_is_named_with_the_setting(monkeypatch: pytest.MonkeyPatch, coding: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError) as refused:
        load_settings({"UPSTREAMS": '{"a": ["http://x"]}', "COMPRESS": f"{coding}"})
    (told,) = map(str, refused.value.problems)
    library = LIBRARIES[coding.encode()]
    assert told.startswith("COMPRESS=") and f"needs {library}, a library of requirements-extras.txt" in told
