"""Age and lifetime, row by row of RFC 9111 §4.2."""

import pytest

from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.caching.dates import format_date
from tornado_gateway.policy.http.caching.directives import LONGEST
from tornado_gateway.policy.http.caching.freshness import LONGEST_GUESS, Lifetime, apparent_age, lifetime, told_age
from tornado_gateway.policy.http.caching.rules import rules_of

WALL = 1_800_000_000.0
DEFAULTS = CacheConfig()
GUESSING = CacheConfig(heuristic_share=0.1)


def at(seconds: float) -> bytes:
    return format_date(WALL + seconds)


def lives(fields: dict[bytes, list[bytes]], status: int = 200, config: CacheConfig = DEFAULTS) -> Lifetime | None:
    return lifetime(status, fields, rules_of(fields), WALL, config)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({b"cache-control": [b"s-maxage=0, max-age=60"]}, 0.0),
        ({b"cache-control": [b"s-maxage=60, max-age=0"]}, 60.0),
        ({b"cache-control": [b"max-age=60"], b"expires": [b"0"]}, 60.0),
        ({b"expires": [at(30)], b"date": [at(0)]}, 30.0),
        ({b"expires": [at(30)], b"date": [at(10)]}, 20.0),
        ({b"expires": [at(30)]}, 30.0),
        ({b"expires": [at(30)], b"date": [b"x"]}, 30.0),
        ({b"expires": [at(-30)]}, 0.0),
        ({b"expires": [b"0"]}, 0.0),
        ({b"expires": [at(30), at(10)]}, 10.0),
        ({b"expires": [at(30), b"0"]}, 0.0),
        ({b"expires": [b"Fri, 01 Jan 9999 00:00:00 GMT"]}, LONGEST),
        ({b"cdn-cache-control": [b"max-age=9"], b"cache-control": [b"max-age=60"], b"expires": [b"0"]}, 9.0),
    ],
)
def test_what_the_response_says_counts_in_this_order(fields: dict[bytes, list[bytes]], seconds: float) -> None:
    assert lives(fields, status=599) == Lifetime(seconds, True)


def test_expires_does_not_count_beside_a_targeted_field() -> None:
    fields = {b"cdn-cache-control": [b"public"], b"expires": [at(60)]}
    assert lives(fields) == Lifetime(DEFAULTS.default_ttl, False)


@pytest.mark.parametrize("status", [200, 203, 300, 301, 308, 404, 410])
def test_a_response_that_says_nothing_lives_for_the_default(status: int) -> None:
    assert lives({}, status) == Lifetime(5.0, False)
    assert lives({}, status, CacheConfig(default_ttl=0.0)) is None


@pytest.mark.parametrize("status", [201, 204, 302, 307, 400, 403, 405, 500, 501, 503])
def test_responses_to_other_statuses_have_no_default(status: int) -> None:
    assert lives({}, status) is None


@pytest.mark.parametrize("status", [201, 302, 307, 400, 403, 500, 503])
def test_only_public_lets_other_statuses_be_guessed(status: int) -> None:
    fields = {b"last-modified": [at(-1000)]}
    assert lives(fields, status, GUESSING) is None
    assert lives({**fields, b"cache-control": [b"public"]}, status, GUESSING) == Lifetime(100.0, False)


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_statuses_of_which_the_standard_allows_a_guess(status: int) -> None:
    assert lives({b"last-modified": [at(-1000)]}, status, GUESSING) == Lifetime(100.0, False)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({b"last-modified": [at(-1000)]}, 100.0),
        ({b"last-modified": [at(-1000)], b"date": [at(-500)]}, 50.0),
        ({b"last-modified": [at(1000)]}, 0.0),
        ({b"last-modified": [b"x"]}, 0.0),
        ({b"last-modified": [at(-10_000_000)]}, LONGEST_GUESS),
        ({}, 5.0),
    ],
)
def test_the_heuristic_is_a_share_of_the_time_since_last_modified(
    fields: dict[bytes, list[bytes]], seconds: float
) -> None:
    assert lives(fields, config=GUESSING) == Lifetime(seconds, False)
    assert lives(fields) == Lifetime(5.0, False)


@pytest.mark.parametrize(
    ("fields", "told", "apparent"),
    [
        ({}, 0.0, 0.0),
        ({b"age": [b"10"]}, 10.0, 0.0),
        ({b"age": [b"10, 90"]}, 10.0, 0.0),
        ({b"age": [b"10", b"90"]}, 10.0, 0.0),
        ({b"age": [b"x"]}, 0.0, 0.0),
        ({b"age": [b"-1"]}, 0.0, 0.0),
        ({b"age": [b"1.5"]}, 0.0, 0.0),
        ({b"age": [b"9" * 30]}, LONGEST, 0.0),
        ({b"age": [b"9999999999"]}, LONGEST, 0.0),
        ({b"date": [at(-60)]}, 0.0, 60.0),
        ({b"date": [at(-60)], b"age": [b"90"]}, 90.0, 60.0),
        ({b"date": [at(+60)], b"age": [b"1"]}, 1.0, 0.0),  # the clock of the service is ahead
        ({b"date": [b"x"]}, 0.0, 0.0),
        ({b"date": [at(-60), at(-90)]}, 0.0, 0.0),
    ],
)
def test_age_and_date_tell_the_age_on_arrival(fields: dict[bytes, list[bytes]], told: float, apparent: float) -> None:
    assert (told_age(fields), apparent_age(fields, WALL)) == (told, apparent)
