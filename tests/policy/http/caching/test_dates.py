"""HTTP dates: three formats, no other zone, no impossible day."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.caching.dates import format_date, parse_date

NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
DATE = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"sun, 06 nov 1994 08:49:37 gmt",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
    ],
)
def test_the_three_formats_are_read_without_regard_to_case(text: bytes) -> None:
    assert parse_date(text, NOW) == DATE


@pytest.mark.parametrize(
    "text",
    [
        b"", b"0", b"-1", b"Sun, 06 Nov 1994 08:49:37", b"Sun, 06 Nov 1994 08:49:37 EST",
        b"Sun, 06 Nov 1994 08:49:37 UTC", b"Sunday, 06-Nov-94 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000", b"Sun, 31 Feb 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:60:00 GMT", b"Sun, 6 Nov 1994 08:49:37 GMT", b"Sun, 06 Foo 1994 08:49:37 GMT",
        b" Sun, 06 Nov 1994 08:49:37 GMT", b"1994-11-06T08:49:37Z", b"Sun, 06  Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT", b"Sun Nov    08:49:37 1994",
    ],
)  # fmt: skip
def test_anything_else_is_no_date(text: bytes) -> None:
    assert parse_date(text, NOW) is None


@pytest.mark.parametrize(("year", "whole"), [(b"26", 2026), (b"76", 2076), (b"77", 1977), (b"99", 1999)])
def test_a_year_of_two_digits_is_at_most_50_years_ahead(year: bytes, whole: int) -> None:
    wanted = datetime(whole, 1, 1, tzinfo=UTC).timestamp()
    assert parse_date(b"Monday, 01-Jan-%b 00:00:00 GMT" % year, NOW) == wanted


def test_a_leap_second_is_the_second_before() -> None:
    assert parse_date(b"Sat, 31 Dec 2016 23:59:60 GMT", NOW) == parse_date(b"Sat, 31 Dec 2016 23:59:59 GMT", NOW)


@given(st.integers(min_value=0, max_value=4_000_000_000))
def test_a_date_that_is_written_is_read(seconds: int) -> None:
    assert parse_date(format_date(float(seconds)), NOW) == seconds
