"""HTTP dates (RFC 9110 §5.6.7), read as a cache has to read dates (RFC 9111 §4.2).

The three formats are read without regard to case. Another zone than GMT makes a date
invalid, UTC included.
"""

import calendar
import functools
import re
from datetime import UTC, datetime
from email.utils import formatdate

_TIME = rb"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_MONTH = rb"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_FORMATS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rb"[a-z]{3}, (?P<day>[0-9]{2}) %b (?P<year>[0-9]{4}) %b gmt" % (_MONTH, _TIME),
        rb"[a-z]{6,9}, (?P<day>[0-9]{2})-%b-(?P<year>[0-9]{2}) %b gmt" % (_MONTH, _TIME),
        rb"[a-z]{3} %b (?P<day>[ 0-9][0-9]) %b (?P<year>[0-9]{4})" % (_MONTH, _TIME),
    )
]
_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}
_PREFERRED = len("Sun, 06 Nov 1994 08:49:37 GMT")
_HALF_A_CENTURY = 50  # years that a date with two digits of a year may lie ahead (RFC 9110 §5.6.7)


def parse_date(value: bytes, wall: float) -> float | None:
    """Seconds since 1970 of an HTTP date; None for an invalid date.

    Args:
        wall: the present time in seconds since 1970, for a year of two digits.

    >>> parse_date(b"Thu, 01 Jan 1970 00:00:09 GMT", 0.0), parse_date(b"0", 0.0)
    (9.0, None)
    """
    preferred = _preferred(value) if len(value) == _PREFERRED else None
    if preferred is not None:
        return preferred
    found = next((match for each in _FORMATS[1:] if (match := each.fullmatch(value))), None)
    if found is None:
        return None
    year = int(found["year"])
    return _instant(found, _whole_year(year, wall) if len(found["year"]) == 2 else year)


@functools.lru_cache(maxsize=64)
def _preferred(value: bytes) -> float | None:
    """A date in the preferred format. Remembered, because the responses of a second have the same Date."""
    found = _FORMATS[0].fullmatch(value)
    return _instant(found, int(found["year"])) if found else None


def _instant(found: re.Match[bytes], year: int) -> float | None:
    month = _MONTHS[found["month"].decode("ascii").capitalize()]
    second = min(int(found["second"]), 59)  # a leap second, which datetime does not know
    try:
        date = datetime(year, month, int(found["day"]), int(found["hour"]), int(found["minute"]), second, tzinfo=UTC)
    except ValueError:  # a day that the month does not have
        return None
    return date.timestamp()


def _whole_year(year: int, wall: float) -> int:
    """A year of two digits: of this century, unless that is more than 50 years ahead."""
    present = datetime.fromtimestamp(wall, UTC).year
    whole = present - present % 100 + year
    return whole - 100 if whole > present + _HALF_A_CENTURY else whole


def format_date(wall: float) -> bytes:
    """The HTTP date of an instant in seconds since 1970.

    >>> format_date(0.0)
    b'Thu, 01 Jan 1970 00:00:00 GMT'
    """
    return formatdate(wall, usegmt=True).encode("ascii")
