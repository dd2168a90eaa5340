"""How old a response is, and how long a response is fresh (RFC 9111 §4.2).

    lifetime   s-maxage, max-age, Expires − Date, the heuristic, the default       §4.2.1, §4.2.2
    age        Age and the time of the exchange, or now − Date if that is more     §4.2.3

A response is fresh while its age is below its lifetime.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.caching.dates import parse_date
from tornado_gateway.policy.http.caching.directives import LONGEST
from tornado_gateway.policy.http.caching.rules import Rules
from tornado_gateway.policy.http.headers import KnownFields

# Statuses of responses that may be fresh without saying so. A subset of RFC 9110 §15.1: responses to other statuses
# are small, or errors of which the next request might be free.
FRESH_BY_DEFAULT = frozenset((200, 203, 300, 301, 308, 404, 410))

# Statuses of responses whose lifetime may be guessed from Last-Modified (RFC 9110 §15.1, without 206).
GUESSED = FRESH_BY_DEFAULT | {204, 405, 414, 501}

LONGEST_GUESS = 86_400.0  # seconds; the heuristic gives no longer lifetime (RFC 9111 §4.2.2 wants a warning beyond)


class Lifetime(NamedTuple):
    """How long a response is fresh.

    Attributes:
        seconds: 0 to LONGEST.
        is_explicit: whether the response itself says so.
    """

    seconds: float
    is_explicit: bool


def lifetime(status: int, fields: KnownFields, rules: Rules, wall: float, config: CacheConfig) -> Lifetime | None:
    """The lifetime of a response; None if nothing gives the response a lifetime.

    Args:
        fields: of the response, by lower-case name.
        rules: of the response's directives.
        wall: when the response came, in seconds since 1970.
    """
    if rules.lifetime is not None:  # RFC 9111 §4.2.1, for a shared cache
        return Lifetime(rules.lifetime, True)
    if b"expires" in fields and not rules.are_targeted:
        return Lifetime(_until(fields[b"expires"], date_of(fields, wall), wall), True)
    if config.heuristic_share and b"last-modified" in fields and (status in GUESSED or rules.is_public):
        return Lifetime(_guess(fields, wall, config.heuristic_share), False)
    return Lifetime(config.default_ttl, False) if config.default_ttl and status in FRESH_BY_DEFAULT else None


def _until(expires: Sequence[bytes], date: float, wall: float) -> float:
    """Seconds from Date to Expires. An invalid date, "0" above all, is in the past (RFC 9111 §5.3)."""
    dates = [parse_date(each, wall) for each in expires]
    known = [each for each in dates if each is not None]
    return min(max(min(known) - date, 0.0), LONGEST) if len(known) == len(dates) else 0.0


def _guess(fields: KnownFields, wall: float, share: float) -> float:
    """RFC 9111 §4.2.2: a share of the time since Last-Modified."""
    modified = only_date(fields.get(b"last-modified", ()), wall)
    if modified is None:
        return 0.0
    return min(max(date_of(fields, wall) - modified, 0.0) * share, LONGEST_GUESS)


def only_date(values: Collection[bytes], wall: float) -> float | None:
    """The date of a field that occurs once; None for no date, an invalid date or several."""
    return parse_date(next(iter(values)), wall) if len(values) == 1 else None


def date_of(fields: KnownFields, wall: float) -> float:
    """The Date of a response, in seconds since 1970; the time of its arrival without a valid Date."""
    date = only_date(fields.get(b"date", ()), wall)
    return wall if date is None else date


def apparent_age(fields: KnownFields, wall: float) -> float:
    """The age of a response on arrival by its Date, in seconds ≥ 0 (RFC 9111 §4.2.3).

    Args:
        wall: when the response came, in seconds since 1970.
    """
    return max(wall - date_of(fields, wall), 0.0)


def told_age(fields: KnownFields) -> float:
    """The first member of Age; 0 for an invalid Age (RFC 9111 §5.1)."""
    values = fields.get(b"age", ())
    first = values[0].partition(b",")[0].strip(b" \t") if values else b""
    return min(float(first), LONGEST) if first.isdigit() and len(first) < 20 else LONGEST if first.isdigit() else 0.0
