"""The table of directives in docs/cache.md: each row is executed."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from tornado_gateway.policy.http.caching import directives, rules
from tornado_gateway.policy.http.caching import reuse as reuse_module
from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.caching.dates import format_date
from tornado_gateway.policy.http.caching.directives import request_directives
from tornado_gateway.policy.http.caching.request import CacheRequest, has_credentials
from tornado_gateway.policy.http.caching.response import said_by
from tornado_gateway.policy.http.caching.reuse import reuse, survives_error
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.terms import Judge
from tornado_gateway.policy.http.caching.vary import selection

PAGE = Path(__file__).parent.parent / "docs" / "cache.md"
WALL = 1_800_000_000
CONFIG = CacheConfig()
_SECTION = re.compile(r"RFC [0-9]{4} §[0-9.]+|stricter than §[0-9.]+|`CACHE_[A-Z_]+`")
_RELATIVE = re.compile(r"[+-][0-9]+")


def rows() -> list[list[str]]:
    text = PAGE.read_text(encoding="utf-8").partition("<!-- directives -->")[2].partition("<!-- /directives -->")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()[2:]]


def fields(cell: str) -> dict[bytes, list[bytes]]:
    """The fields of a cell; a date is written as seconds from now."""
    found: dict[bytes, list[bytes]] = {}
    for line in re.findall(r"`([^`]+)`", cell):
        name, _, value = line.partition(": ")
        if _RELATIVE.fullmatch(value):
            value = format_date(WALL + int(value)).decode()
        found.setdefault(name.lower().encode(), []).append(value.encode())
    return found


def asks(cell: str) -> CacheRequest:
    read = fields(cell)
    return CacheRequest((b"", b""), b"GET", read, request_directives(read), has_credentials(read))


def result(response: str, first: str, second: str, after: str) -> str:
    request = asks(first)
    decision = Judge(said_by(fields(response))).decide(request, 200, WALL, CONFIG)
    terms, age = decision.terms, decision.initial_age(0.0)
    if terms is None:
        return "not kept"
    stored = Stored(200, b"", 1, b"", {}, b"", terms, selection(terms.vary, request.fields), 0.0, initial_age=age)
    later, then = asks(second), stored.age(float(after.removesuffix(" s")))
    if not stored.answers(later):
        return "asked"
    if reuse(terms, then, later.directives).answers:
        return "kept"
    return "stands in" if survives_error(terms, then, later.directives, 0.0) else "asked"


@pytest.mark.parametrize("row", rows(), ids=lambda row: "; ".join(row[:4]))
def test_each_row_of_the_table_of_directives_holds(row: list[str]) -> None:
    *situation, wanted, section = row
    assert result(*situation) == wanted
    assert _SECTION.fullmatch(section)


def test_the_table_has_every_result() -> None:
    assert {row[4] for row in rows()} == {"kept", "asked", "stands in", "not kept"}


def test_the_table_has_every_directive_that_the_gateway_knows() -> None:
    known = {name for module in (directives, rules, reuse_module) for name in names_of(module)}
    told = {name for row in rows() for cell in row[:3] for name in re.findall(r"[a-z-]+", cell)}
    assert known >= {"no-store", "must-understand", "only-if-cached", "stale-if-error"}
    assert sorted(known - told) == []


def names_of(module: ModuleType) -> set[str]:
    """The names of directives: constants of the module."""
    values = (each for each in vars(module).values() if isinstance(each, bytes))
    return {each.decode() for each in values if re.fullmatch(rb"[a-z]+(?:-[a-z]+)*", each)}
