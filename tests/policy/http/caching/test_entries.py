"""Entries of the shared store: what comes back, and what is no entry."""

import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.caching import entries
from tornado_gateway.policy.http.caching.entries import (
    KEPT_FOR_VALIDATION,
    LONGEST,
    MOST,
    SMALL,
    Entry,
    Sign,
    Token,
    decode,
    encode,
    encode_sign,
    keeps_for,
    name_of,
    resource_name,
)
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.terms import Terms
from tornado_gateway.policy.seals import sealed

SECRET, NAME, WALL, NOW = b"s" * 32, "0" * 40, 1_800_000_000.0, 500.0
TOKEN = Token(1, 7, b"\xff gen")
TERMS = Terms(60.0, True, False, True, 2.0, 3.0, (b"accept",), frozenset((b"x-user",)))
STORED = Stored(200, b"OK", 1, b'ETag: "\xe9"\r\nDate: x\r\n', {b"date": [], b"via": [b"1.0 a"]}, b"body\x00", TERMS,
                (b"a/b", None), 490.0, b'"\xe9"', b"then", b" t u ", 1.5)  # fmt: skip


def entry(stored: Stored = STORED, secret: bytes = SECRET, name: str = NAME) -> bytes:
    made = encode(secret, name, stored, TOKEN, WALL - 10)
    assert made is not None
    return made


def test_a_response_comes_back_as_it_was() -> None:
    assert decode(SECRET, NAME, entry(), WALL, NOW) == Entry(STORED, 7, b"\xff gen")


def test_a_large_response_is_compressed_and_an_encoded_one_is_not() -> None:
    large = replace(STORED, body=b"x" * 100_000)
    assert len(entry(large)) < 2000
    assert decode(SECRET, NAME, entry(large), WALL, NOW) == Entry(large, 7, b"\xff gen")
    encoded = replace(large, lines=b"Content-Encoding: gzip\r\n")
    assert len(entry(encoded)) > 100_000
    assert decode(SECRET, NAME, entry(encoded), WALL, NOW) == Entry(encoded, 7, b"\xff gen")


def test_the_age_goes_on_by_the_clock_of_the_wall() -> None:
    for wall, came in ((WALL, NOW - 10), (WALL + 50, NOW - 60), (WALL - 3600, NOW)):  # a clock that is behind: no age
        found = decode(SECRET, NAME, entry(), wall, NOW)
        assert isinstance(found, Entry) and found.stored.came == came
        assert found.stored.age(NOW) == 1.5 + NOW - came


def test_a_sign_names_the_fields_in_vary() -> None:
    made = encode_sign(SECRET, NAME, (b"accept", b"accept-language"))
    assert made and decode(SECRET, NAME, made, WALL, NOW) == Sign((b"accept", b"accept-language"))


def test_a_response_that_is_too_large_has_no_entry() -> None:
    assert encode(SECRET, NAME, replace(STORED, body=bytes(MOST)), TOKEN, WALL) is None
    encoded = replace(STORED, lines=b"Content-Encoding: br\r\n", body=bytes(MOST - 310))
    assert encode(SECRET, NAME, encoded, TOKEN, WALL) is None


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_makes_an_entry(at: int, change: int) -> None:
    made = bytearray(entry())
    made[at % len(made)] ^= change
    assert decode(SECRET, NAME, bytes(made), WALL, NOW) is None


@given(st.binary(max_size=200))
def test_other_bytes_are_no_entry(made: bytes) -> None:
    assert decode(SECRET, NAME, made, WALL, NOW) is None


def test_an_entry_that_was_cut_or_moved_or_sealed_by_another_is_none() -> None:
    made = entry()
    for cut in (0, 1, 31, 32, len(made) - 1):
        assert decode(SECRET, NAME, made[:cut], WALL, NOW) is None
    assert decode(SECRET, "1" * 40, made, WALL, NOW) is None
    assert decode(b"t" * 32, NAME, made, WALL, NOW) is None
    assert decode(SECRET, NAME, made + b"x", WALL, NOW) is None
    assert decode(SECRET, NAME, bytes(MOST + 1), WALL, NOW) is None


def entry_of(content: bytes) -> bytes:
    return sealed(SECRET, NAME, content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1",
        b"3" + (0).to_bytes(4),
        b"1" + (5).to_bytes(4) + b"four",
        b"2" + (4).to_bytes(4) + zlib.compress(b"more than 4"),
        b"2" + (1000).to_bytes(4) + zlib.compress(b"less"),
        b"2" + (4).to_bytes(4) + b"not zlib",
        b"2" + (MOST + 1).to_bytes(4) + zlib.compress(bytes(MOST + 1)),
        b"1" + (6).to_bytes(4) + (2).to_bytes(4) + b"[]",
        b"1" + (6).to_bytes(4) + (2).to_bytes(4) + b"{}",
        b"1" + (14).to_bytes(4) + (10).to_bytes(4) + b'{"vary":1}',
    ],
    ids=range(11),
)
def test_what_is_sealed_and_of_another_form_is_no_entry(content: bytes) -> None:
    assert decode(SECRET, NAME, entry_of(content), WALL, NOW) is None


def test_no_more_is_inflated_than_the_length_says(monkeypatch: pytest.MonkeyPatch) -> None:
    inflated, real = [], zlib.decompressobj

    class Watching:
        def decompress(self, packed: bytes, most: int) -> bytes:
            inflated.append(real().decompress(packed, most))
            return inflated[-1]

    monkeypatch.setattr(entries.zlib, "decompressobj", Watching)  # type: ignore[attr-defined]
    bomb = b"2" + (100).to_bytes(4) + zlib.compress(bytes(50_000_000), 9)
    assert decode(SECRET, NAME, entry_of(bomb), WALL, NOW) is None
    assert [len(each) for each in inflated] == [101]


def test_terms_with_a_member_too_much_are_no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "_of_terms", lambda _: [1.0] * 12)
    assert decode(SECRET, NAME, entry(), WALL, NOW) is None


def test_names_are_apart_whatever_the_parts_have_in_them() -> None:
    names = {
        name_of((b"a", b"b")), name_of((b"ab", b"")), name_of((b"", b"ab")), name_of((b"a", b"b"), ()),
        name_of((b"a", b"b"), (None,)), name_of((b"a", b"b"), (b"",)), name_of((b"a", b"b"), (b"-",)),
        resource_name(b"a"),
    }  # fmt: skip
    assert len(names) == 8
    assert name_of((b"a", b"b")) == name_of((b"a", b"b"))


@pytest.mark.parametrize(
    ("terms", "etag", "seconds"),
    [
        (Terms(60.0), b"", 50.0),
        (Terms(60.0), b"1", 50.0 + KEPT_FOR_VALIDATION),
        (Terms(60.0, stale_if_error=100.0), b"", 150.0),
        (Terms(60.0, forbids_stale=True, stale_if_error=100.0), b"", 50.0),
        (Terms(5.0), b"", 2.0),
        (Terms(2.0**31), b"", LONGEST),
    ],
)
def test_an_entry_is_kept_as_long_as_gateways_have_use_for_it(terms: Terms, etag: bytes, seconds: float) -> None:
    stale = 7.0 if terms.lifetime == 5.0 else 0.0
    assert keeps_for(replace(STORED, terms=terms, etag=etag, last_modified=b""), 10.0, stale) == seconds


def test_small_entries_stay_readable_for_other_versions() -> None:
    """The format: another version of the gateway must not misread an entry, so a change needs another name or form."""
    small = Stored(200, b"", 1, b"", {}, b"b", Terms(1.0), (), 490.0)
    content = entry(small)[:-32]
    assert content[:1] == b"1" and len(content) < SMALL
    assert content[9:] == (
        b'{"status":200,"reason":"","minor":1,"terms":[1.0,0.0,false,false,false,0.0,0.0,[],[]],"by":[],'
        b'"came":1799999990.0,"known":{},"etag":"","modified":"","tags":"","lines":0,"number":7,'
        b'"generation":"\\u00ff gen"}b'
    )
