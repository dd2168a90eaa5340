"""Conditions: of the gateway to services, of clients to the cache, and what a 304 changes."""

import pytest

from tornado_gateway.policy.http.caching.dates import format_date
from tornado_gateway.policy.http.caching.validation import (
    ABOUT_THE_CONTENT,
    belongs_to,
    condition,
    describes,
    is_unchanged,
    refreshed_lines,
)

WALL = 1_800_000_000.0
EARLIER, LATER = format_date(WALL - 60), format_date(WALL)


def test_a_validation_replaces_the_conditions_of_the_client() -> None:
    lines = b"A: 1\r\nIf-None-Match: x\r\nif-modified-since: y\r\nRange: bytes=0-1\r\nIf-Range: x\r\n"
    assert condition(lines, b'"1"', b"") == b'A: 1\r\nIf-None-Match: "1"\r\n'
    assert condition(lines, b"", EARLIER) == b"A: 1\r\nIf-Modified-Since: %b\r\n" % EARLIER
    assert condition(b"", b'"1"', EARLIER) == b'If-None-Match: "1"\r\nIf-Modified-Since: %b\r\n' % EARLIER


@pytest.mark.parametrize(
    ("asked", "etag", "modified", "unchanged"),
    [
        ({}, b'"1"', EARLIER, False),
        ({b"if-none-match": [b'"1"']}, b'"1"', b"", True),
        ({b"if-none-match": [b'W/"1"']}, b'"1"', b"", True),
        ({b"if-none-match": [b'"1"']}, b'W/"1"', b"", True),
        ({b"if-none-match": [b'"0", "1,2"', b'"3"']}, b'"1,2"', b"", True),
        ({b"if-none-match": [b'"2"']}, b'"1"', b"", False),
        ({b"if-none-match": [b'"2"'], b"if-modified-since": [LATER]}, b'"1"', EARLIER, False),
        ({b"if-none-match": [b"*"]}, b"", b"", True),
        ({b"if-none-match": [b'""']}, b"", b"", False),
        ({b"if-modified-since": [EARLIER]}, b'"1"', EARLIER, True),
        ({b"if-modified-since": [LATER]}, b"", EARLIER, True),
        ({b"if-modified-since": [EARLIER]}, b"", LATER, False),
        ({b"if-modified-since": [LATER]}, b'"1"', b"", False),
        ({b"if-modified-since": [b"x"]}, b"", EARLIER, False),
        ({b"if-modified-since": [LATER]}, b"", b"x", False),
        ({b"if-modified-since": [LATER, LATER]}, b"", EARLIER, False),
    ],
)
def test_a_client_has_the_response_already(
    asked: dict[bytes, list[bytes]], etag: bytes, modified: bytes, unchanged: bool
) -> None:
    assert is_unchanged(asked, 200, etag, modified, WALL) == unchanged
    assert not is_unchanged(asked, 404, etag, modified, WALL)


@pytest.mark.parametrize(
    ("fields", "belongs"),
    [
        ({}, True),
        ({b"etag": [b'"1"']}, True),
        ({b"etag": [b'W/"1"']}, True),
        ({b"etag": [b'"2"']}, False),
        ({b"etag": [b'"1"'], b"last-modified": [LATER]}, True),
        ({b"last-modified": [EARLIER]}, True),
        ({b"last-modified": [LATER]}, False),
    ],
)
def test_a_304_speaks_of_the_response_whose_validators_it_has(fields: dict[bytes, list[bytes]], belongs: bool) -> None:
    assert belongs_to(fields, b'"1"', EARLIER) == belongs


def test_a_304_of_a_response_without_that_validator_speaks_of_the_response() -> None:
    assert belongs_to({b"etag": [b'"1"']}, b"", EARLIER)
    assert belongs_to({b"last-modified": [EARLIER]}, b'"1"', b"")


@pytest.mark.parametrize(
    ("fields", "does"),
    [
        ({}, False),
        ({b"etag": [b'"1"']}, True),
        ({b"etag": [b'W/"1"']}, False),
        ({b"last-modified": [EARLIER]}, True),
        ({b"last-modified": [LATER]}, False),
        ({b"content-length": [b"9"]}, True),
        ({b"content-length": [b"8"]}, False),
        ({b"etag": [b'"1"'], b"content-length": [b"8"]}, False),
        ({b"etag": [b'"1"', b'"1"']}, False),
    ],
)
def test_an_answer_to_head_speaks_of_the_response_it_describes(fields: dict[bytes, list[bytes]], does: bool) -> None:
    assert describes(fields, b'"1"', EARLIER, 9) == does


def test_the_fields_of_a_304_replace_the_stored_fields() -> None:
    stored = b'ETag: "1"\r\nX-A: 1\r\nx-a: 2\r\nContent-Type: text/a\r\nContent-Length: 5\r\nDate: 1\r\n'
    update = b"Date: 2\r\nX-A: 3\r\nX-B: 4\r\nContent-Type: b\r\nContent-Length: 0\r\nSet-Cookie: a\r\n"
    wanted = b'ETag: "1"\r\nContent-Type: text/a\r\nContent-Length: 5\r\nDate: 2\r\nX-A: 3\r\nX-B: 4\r\n'
    assert refreshed_lines(stored, update) == wanted


def test_a_304_has_no_fields_about_the_content() -> None:
    assert b"content-type" in ABOUT_THE_CONTENT and b"content-location" not in ABOUT_THE_CONTENT
