"""Lists: their members, and what is ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.lists import members, quoted_members, tokens


# RFC 9110 §5.6.1.2
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([b""], []),
        ([b","], []),
        ([b" ,\t, "], []),
        ([b"a"], [b"a"]),
        ([b"a,"], [b"a"]),
        ([b",a"], [b"a"]),
        ([b"a,,b"], [b"a", b"b"]),
        ([b"a , b\t", b"", b"c"], [b"a", b"b", b"c"]),
        ([b"a b, C"], [b"a b", b"C"]),
    ],
)
def test_empty_members_are_ignored(values: list[bytes], expected: list[bytes]) -> None:
    assert members(values) == quoted_members(values) == expected
    assert tokens(values) == [each.lower() for each in expected]


def test_a_quotation_mark_hides_nothing_where_none_belongs() -> None:
    assert members([b'a, "b, c', b"d"]) == [b"a", b'"b', b"c", b"d"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'a;b="c,d", e', [b'a;b="c,d"', b"e"]),
        (b'a="\\",", b', [b'a="\\","', b"b"]),
        (b'a="b, c', [b'a="b, c']),
        (b'a="b\\', [b'a="b\\']),
    ],
)
def test_a_quoted_string_may_hold_commas(value: bytes, expected: list[bytes]) -> None:
    assert quoted_members([value]) == expected


@given(st.lists(st.binary(max_size=12), max_size=4))
def test_any_values_have_members_without_commas_or_blanks_around(values: list[bytes]) -> None:
    for each in members(values):
        assert each == each.strip(b" \t") != b""
        assert b"," not in each
