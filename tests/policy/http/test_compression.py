"""What is compressed, in which coding, and what the fields say then."""

import pytest

from tornado_gateway.policy.http.compression import (
    CompressionConfig,
    accepted_by,
    chosen,
    coded,
    forbids,
    is_compressible,
    joined_codings,
    varied,
    weakened,
)
from tornado_gateway.policy.http.headers import KnownFields

ALL = (b"br", b"zstd", b"gzip")
CONFIG = CompressionConfig(ALL, 100)
HTML: KnownFields = {b"content-type": [b"text/html; charset=utf-8"]}


@pytest.mark.parametrize(
    ("accepted", "codings", "coding"),
    [
        (b"", ALL, b""),
        (b"gzip", ALL, b"gzip"),
        (b"gzip, deflate, br, zstd", ALL, b"br"),
        (b"gzip, deflate, br, zstd", (b"gzip", b"br"), b"gzip"),
        (b"gzip;q=0.5, zstd;q=0.8", ALL, b"zstd"),
        (b"GZIP ; Q=1.0", ALL, b"gzip"),
        (b"*", ALL, b"br"),
        (b"*;q=0", ALL, b""),
        (b"br;q=0, *;q=0.1", ALL, b"zstd"),
        (b"gzip;q=0", ALL, b""),
        (b"gzip;q=0.000", ALL, b""),
        (b"gzip;q=x", ALL, b""),
        (b"gzip;q=1;x", ALL, b""),
        (b"gzip;q=0.5, identity", ALL, b""),
        (b"gzip, identity;q=0.5", ALL, b"gzip"),
        (b"x-gzip", ALL, b"gzip"),
        (b"deflate", ALL, b""),
        (b"gzip", (b"br",), b""),
        (b"gzip", (), b""),
    ],
    ids=range(19),
)
def test_a_coding_is_chosen_that_the_client_accepts(accepted: bytes, codings: tuple[bytes, ...], coding: bytes) -> None:
    assert chosen(accepted, codings) == coding


def test_lines_of_accept_encoding_are_joined() -> None:
    assert accepted_by({b"accept-encoding": [b"gzip", b"br"]}) == b"gzip,br"
    assert accepted_by({}) == b""


@pytest.mark.parametrize(
    "kind",
    [b"text/html", b"TEXT/CSS", b"application/json", b"application/problem+json", b"application/javascript",
     b"image/svg+xml", b"application/vnd.api+json; a=b", b"application/xml", b"application/wasm", b"font/ttf"],
)  # fmt: skip
def test_types_that_gain_are_compressed(kind: bytes) -> None:
    assert is_compressible(200, None, {b"content-type": [kind]}, CONFIG)


@pytest.mark.parametrize(
    "kind",
    [b"text/event-stream", b"Text/Event-Stream; charset=utf-8", b"image/png", b"video/mp4", b"application/zip",
     b"application/octet-stream", b"font/woff2", b"application/grpc", b"multipart/byteranges", b"", b"text"],
)  # fmt: skip
def test_streams_and_types_that_gain_nothing_are_not_compressed(kind: bytes) -> None:
    assert not is_compressible(200, None, {b"content-type": [kind]}, CONFIG)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"content-type": [b"text/html", b"text/event-stream"]},
        {**HTML, b"content-encoding": [b"identity"]},
        {**HTML, b"content-encoding": [b"gzip"]},
        {**HTML, b"cache-control": [b"max-age=1, No-Transform"]},
        {**HTML, b"content-range": [b"bytes 0-1/2"]},
        {**HTML, b"content-digest": [b"sha-256=:eA==:"]},
        {**HTML, b"digest": [b"sha-256=eA=="]},
    ],
    ids=range(8),
)
def test_a_response_that_must_stay_as_it_is_is_not_compressed(fields: KnownFields) -> None:
    assert not is_compressible(200, None, fields, CONFIG)


def test_small_bodies_and_statuses_without_a_whole_body_are_not_compressed() -> None:
    assert is_compressible(200, 100, HTML, CONFIG) and is_compressible(404, None, HTML, CONFIG)
    assert not is_compressible(200, 99, HTML, CONFIG)
    assert not any(is_compressible(status, None, HTML, CONFIG) for status in (101, 204, 205, 206, 304))


def test_a_message_forbids_by_no_transform() -> None:
    assert forbids({b"cache-control": [b"a", b"no-transform"]})
    assert not forbids({b"cache-control": [b"no-transform=1"]})


@pytest.mark.parametrize(
    ("lines", "more"),
    [
        (b"A: b\r\n", b"Vary: Accept-Encoding\r\n"),
        (b"Vary: Accept\r\n", b"Vary: Accept-Encoding\r\n"),
        (b"vary: a, ACCEPT-ENCODING\r\n", b""),
        (b"Vary: *\r\n", b""),
    ],
)
def test_vary_is_added_once(lines: bytes, more: bytes) -> None:
    assert varied(lines) == lines + more


def test_the_fields_of_a_compressed_response() -> None:
    lines = b'Content-Length: 5\r\nETag: "a"\r\nAccept-Ranges: bytes\r\nX: y\r\n'
    assert coded(lines, b"br") == b'X: y\r\nETag: W/"a"\r\nVary: Accept-Encoding\r\nContent-Encoding: br\r\n'
    assert weakened(b"X: y\r\n") == b"X: y\r\n"


def test_codings_are_written_as_they_are_read() -> None:
    assert (joined_codings(()), joined_codings(ALL)) == ("off", "br,zstd,gzip")
