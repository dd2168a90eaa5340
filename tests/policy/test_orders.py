"""Orders of operators: which are carried out, and what is said of the others."""

import pytest

from tornado_gateway.errors import BadRequest
from tornado_gateway.policy.orders import (
    SHOWN,
    Member,
    flag,
    number,
    parameters,
    read_order,
    shown,
    text,
    whole,
    word,
    words,
)

MEMBERS: list[Member] = [text("service", 5), whole("weight", 0, 10, 1), word("level", ("info", "warn"), "info")]


def test_members_that_are_missing_have_their_default() -> None:
    assert read_order(b'{"service": "a"}', MEMBERS) == {"service": "a", "weight": 1, "level": "info"}


@pytest.mark.parametrize("weight", [0, 10])
def test_the_bounds_are_allowed(weight: int) -> None:
    said = read_order(b'{"service": "abcde", "weight": %d, "level": "warn"}' % weight, MEMBERS)
    assert said == {"service": "abcde", "weight": weight, "level": "warn"}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "the body is no JSON"),
        (b"\xff", "the body is no JSON"),
        (b"[" * 100_000, "the body is no JSON"),
        (b"[]", "the body is no JSON object"),
        (b"{}", "service is missing; it must be a string of 1 to 5 characters"),
        (b'{"service": ""}', 'service is "", and must be a string of 1 to 5 characters'),
        (b'{"service": "abcdef"}', 'service is "abcdef", and must be a string of 1 to 5 characters'),
        (b'{"service": 1}', "service is 1, and must be a string of 1 to 5 characters"),
        (b'{"service": "a", "weight": 11}', "weight is 11, and must be a whole number from 0 to 10"),
        (b'{"service": "a", "weight": -1}', "weight is -1, and must be a whole number from 0 to 10"),
        (b'{"service": "a", "weight": 1.5}', "weight is 1.5, and must be a whole number from 0 to 10"),
        (b'{"service": "a", "weight": true}', "weight is true, and must be a whole number from 0 to 10"),
        (b'{"service": "a", "weight": null}', "weight is null, and must be a whole number from 0 to 10"),
        (b'{"service": "a", "level": "loud"}', 'level is "loud", and must be one of info, warn'),
        (b'{"service": "a", "level": ["info"]}', 'level is ["info"], and must be one of info, warn'),
        (b'{"service": "a", "wait": 1}', '"wait" is no member of this order; service, weight, level are'),
    ],
    ids=range(16),
)
def test_a_complaint_names_the_member_the_value_and_what_is_allowed(body: bytes, complaint: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_order(body, MEMBERS)
    assert refused.value.message == complaint


def test_flags_and_words_are_read() -> None:
    members = [words("tags", 2, 3, []), flag("soft", default=False)]
    assert read_order(b"{}", members) == {"tags": [], "soft": False}
    assert read_order(b'{"tags": ["abc", "d"], "soft": true}', members) == {"tags": ["abc", "d"], "soft": True}
    for wrong in ("[]", '["a", "b", "c"]', '["abcd"]', '[""]', '["a b"]', '["a,b"]', '[" a"]', "[1]", '"a"'):
        with pytest.raises(BadRequest):
            read_order(f'{{"tags": {wrong}}}'.encode(), members)
    with pytest.raises(BadRequest):
        read_order(b'{"soft": 0}', members)


def test_hostile_values_are_shown_in_ascii_and_short() -> None:
    assert shown("\u202e<b>\x00\n") == '"\\u202e<b>\\u0000\\n"'
    assert len(shown("x" * 100_000)) == SHOWN


def test_parameters_are_read_by_name() -> None:
    said = parameters("text=a%20b&limit=7&after=", ("text", "limit", "after"))
    assert said == {"text": "a b", "limit": "7", "after": ""}
    assert (number(said, "limit", 1, 9, 3), number(said, "after", 1, 9, 3), number({}, "limit", 1, 9, 3)) == (7, 3, 3)


@pytest.mark.parametrize(("query", "complaint"), [("a=1", '"a" is no parameter'), ("text=a&text=b", "stands twice")])
def test_a_wrong_query_is_refused(query: str, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        parameters(query, ("text",))


@pytest.mark.parametrize("value", ["0", "10", "-1", "1.5", "x", "\u0665", "1" * 20])
def test_a_parameter_that_is_no_whole_number_within_the_bounds_is_refused(value: str) -> None:
    with pytest.raises(BadRequest, match=r"limit is .*, and must be a whole number from 1 to 9"):
        number({"limit": value}, "limit", 1, 9, 3)
