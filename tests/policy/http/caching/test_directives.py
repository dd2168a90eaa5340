"""Directives: what is read, and how conservatively."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.caching.directives import (
    LONGEST,
    MAX_AGE,
    NO_CACHE,
    NONE,
    PRIVATE,
    Directives,
    read_directives,
    read_surrogate,
    read_targeted,
    request_directives,
    response_directives,
)


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"max-age=60", 60.0),
        (b"MAX-AGE=60", 60.0),
        (b'max-age="60"', 60.0),
        (b"max-age=060", 60.0),
        (b"max-age=60, max-age=5", 5.0),
        (b"max-age=60, max-age=x", 0.0),
        (b"max-age", 0.0),
        (b"max-age=", 0.0),
        (b"max-age=1.5", 0.0),
        (b"max-age=-1", 0.0),
        (b"max-age =60", 0.0),
        (b"max-age= 60", 0.0),
        (b"max-age=2147483648", LONGEST),
        (b"max-age=99999999999999999999999999", LONGEST),
        (b'a="max-age=5, b", max-age=7', 7.0),
        (b"s-maxage=5", None),
        (b"", None),
    ],
)
def test_a_duration_is_read_conservatively(line: bytes, seconds: float | None) -> None:
    assert read_directives([line]).seconds(MAX_AGE) == seconds


def test_the_lines_of_a_field_are_joined() -> None:
    read = read_directives([b"no-cache, max-age=1", b"PRIVATE"])
    assert (NO_CACHE in read, PRIVATE in read, b"public" in read) == (True, True, False)


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (b"public", None),
        (b"private", set()),
        (b'private=""', set()),
        (b'private="a b"', set()),
        (b'private="set-cookie', set()),
        (b'private="Set-Cookie"', {b"set-cookie"}),
        (b"private=x-user", {b"x-user"}),
        (b'private="a, B", private="c"', {b"a", b"b", b"c"}),
        (b'private="a", private', set()),
        (b'private="a\\-b"', {b"a-b"}),
    ],
)
def test_a_list_of_fields_that_cannot_be_read_concerns_the_whole_response(line: bytes, fields: set[bytes]) -> None:
    assert read_directives([line]).fields(PRIVATE) == fields


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, set()),
        ({b"cache-control": [b"max-age=0"], b"pragma": [b"no-cache"]}, {MAX_AGE}),
        ({b"pragma": [b"x, No-Cache"]}, {NO_CACHE}),
        ({b"pragma": [b"x"]}, set()),
    ],
)
def test_pragma_counts_without_cache_control(fields: dict[bytes, list[bytes]], names: set[bytes]) -> None:
    assert set(request_directives(fields).arguments) == names


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        (b"max-age=60", {MAX_AGE: (b"60",)}),
        (b"max-age=-1", {MAX_AGE: (b"-1",)}),
        (b"max-age=60, max-age=5", {MAX_AGE: (b"5",)}),
        (b"max-age=60;x;y=1\t,  no-store", {MAX_AGE: (b"60",), b"no-store": (None,)}),
        (b"no-store=?1, public=?0", {b"no-store": (None,)}),
        (b'private="a, b"', {PRIVATE: (b"a, b",)}),
        (b"max-age=(1 2);q=1, a=:YQ==:, b=tok/en, c=1.5, d=@12, e=()", {
            b"a": (b":YQ==:",), b"b": (b"tok/en",), b"c": (b"1.5",), b"d": (b"@12",), b"e": (b"()",),
        }),
        (b'max-age="60", no-store', {b"no-store": (None,)}),
        (b"max-age, s-maxage=60", {b"s-maxage": (b"60",)}),
    ],
)  # fmt: skip
def test_a_targeted_field_is_a_dictionary(line: bytes, arguments: dict[bytes, object]) -> None:
    assert read_targeted([line]) == Directives(arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line", [b"", b"max-age=60,", b"Max-Age=60", b"max-age=60 no-store", b"max-age=", b'a="', b"&"]
)
def test_a_malformed_targeted_field_is_ignored_whole(line: bytes) -> None:
    fields = {b"cdn-cache-control": [line], b"cache-control": [b"max-age=7"]}
    read = response_directives(fields)
    assert (read.directives.seconds(MAX_AGE), read.are_targeted) == (7.0, False)


def test_a_targeted_field_replaces_cache_control() -> None:
    fields = {b"cdn-cache-control": [b"max-age=60"], b"cache-control": [b"no-store"]}
    read = response_directives(fields)
    assert (read.directives.seconds(MAX_AGE), read.are_targeted, len(read.directives.arguments)) == (60.0, True, 1)
    assert response_directives({}).directives is NONE


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        (b"max-age=60", {b"max-age": (b"60",)}),
        (b"max-age=60+9", {b"max-age": (b"60",), b"stale-while-revalidate": (b"9",)}),
        (b'no-store, content="ESI/1.0"', {b"no-store": (None,), b"content": (b"ESI/1.0",)}),
        (b"max-age=5;other, no-store;x", {}),
    ],
)
def test_surrogate_control_counts_on_request(line: bytes, arguments: dict[bytes, object]) -> None:
    assert read_surrogate([line]).arguments == arguments
    fields = {b"surrogate-control": [line], b"cache-control": [b"max-age=7"]}
    assert response_directives(fields).directives.seconds(MAX_AGE) == 7.0
    assert response_directives(fields, reads_surrogate=True).directives.arguments == arguments
    fields[b"cdn-cache-control"] = [b"max-age=8"]
    assert response_directives(fields, reads_surrogate=True).directives.seconds(MAX_AGE) == 8.0


@given(st.binary(max_size=60))
def test_no_field_value_raises(line: bytes) -> None:
    for read in (read_directives([line]), read_targeted([line]), read_surrogate([line])):
        if read:
            assert all(0 <= (read.seconds(name) or 0) <= LONGEST for name in read.arguments)
            assert all(read.fields(name) is not None for name in read.arguments)
