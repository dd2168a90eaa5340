"""What directives mean by themselves, and that what is remembered of bytes is what the bytes say."""

from dataclasses import fields as attributes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.caching.directives import LONGEST_REMEMBERED
from tornado_gateway.policy.http.caching.rules import Rules, rules_of

SAYS_NOTHING = rules_of({})


def said(*lines: bytes, **others: bytes) -> Rules:
    named = {name.replace("_", "-").encode(): [value] for name, value in others.items()}
    return rules_of({b"cache-control": list(lines), **named}, reads_surrogate=b"surrogate-control" in named)


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        (b"", {}),
        (b"unknown, immutable, no-transform", {}),
        (b"max-age=60", {"lifetime": 60.0}),
        (b"max-age=60, s-maxage=5", {"lifetime": 5.0, "is_shared": True, "forbids_stale": True}),
        (b"public", {"is_public": True, "is_shared": True}),
        (b"private", {"is_private": True}),
        (b'private="X-A"', {"withheld": frozenset((b"x-a",))}),
        (b"no-store", {"no_store": True}),
        (b"no-store, must-understand", {"must_understand": True}),
        (b"no-cache", {"needs_validation": True}),
        (b'no-cache="x-a", private="x-b"', {"withheld": frozenset((b"x-a", b"x-b"))}),
        (b"must-revalidate", {"forbids_stale": True}),
        (b"proxy-revalidate", {"forbids_stale": True}),
        (b"stale-while-revalidate=3", {"stale_while_revalidate": 3.0}),
        (b"stale-if-error=4", {"stale_if_error": 4.0}),
    ],
)
def test_each_directive_has_its_rule(line: bytes, changed: dict[str, object]) -> None:
    rules = said(line)
    found = {each.name: getattr(rules, each.name) for each in attributes(Rules)}
    assert found == {each.name: getattr(SAYS_NOTHING, each.name) for each in attributes(Rules)} | changed


def test_a_targeted_field_lays_down_all_rules() -> None:
    for name in ("cdn_cache_control", "surrogate_control"):
        rules = said(b"no-store", **{name: b"max-age=7"})
        assert (rules.lifetime, rules.no_store, rules.are_targeted) == (7.0, False, True)


words = st.sampled_from([
    b"max-age=1", b"max-age=2", b"MAX-AGE=1", b"s-maxage=1", b"private", b'private="a"', b'private="a, b"', b"public",
    b"no-store", b"no-cache", b'no-cache="a"', b"must-understand", b"stale-if-error=1", b"x", b'"', b"max-age", b",",
])  # fmt: skip


@given(st.lists(st.lists(words, max_size=4).map(b", ".join), max_size=3), st.lists(words, max_size=3).map(b",".join))
def test_what_is_remembered_is_what_the_bytes_say_whatever_was_read_before(lines: list[bytes], before: bytes) -> None:
    said(before)
    first = said(*lines)
    padding = b"," * LONGEST_REMEMBERED  # makes a value that is not remembered, and says the same
    assert first == said(*lines) == said(*lines, padding)


def test_rules_have_nothing_of_a_request_a_status_another_field_or_the_time() -> None:
    # All that may decide is given to rules_of(), and of these only the fields with directives count.
    assert said(b"max-age=9") is said(b"max-age=9", expires=b"0", age=b"8", vary=b"*", set_cookie=b"a=b", pragma=b"x")


def test_a_long_value_is_not_remembered() -> None:
    assert said(b"max-age=9") is said(b"max-age=9")
    long = b"max-age=9, x=" + b"x" * LONGEST_REMEMBERED
    assert said(long) == said(b"max-age=9")
    assert said(long) is not said(long)
