"""Vary: which fields select, and when two requests select the same."""

import pytest

from tornado_gateway.policy.http.caching.vary import MOST_FIELDS, selecting_fields, selection


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([], ()),
        ([b""], ()),
        ([b"Accept, x-b", b"X-A, accept"], (b"accept", b"x-a", b"x-b")),
        ([b"X-Forwarded-Proto, Host"], ()),
        ([b"Cookie, Authorization"], (b"authorization", b"cookie")),
        ([b"*"], None),
        ([b"Accept, *"], None),
        ([b"a b"], None),
        ([b'"accept"'], None),
        ([b"Via"], None),
        ([b"X-Request-Id"], None),
        ([b"X-Forwarded-For"], None),
        ([b"X-Real-IP"], None),
        ([b", ".join(b"x%d" % number for number in range(MOST_FIELDS + 1))], None),
    ],
)
def test_a_response_that_no_later_request_can_select_has_no_selecting_fields(
    values: list[bytes], names: tuple[bytes, ...] | None
) -> None:
    assert selecting_fields(values) == names


def test_as_many_fields_as_allowed_may_select() -> None:
    names = selecting_fields([b", ".join(b"x%d" % number for number in range(MOST_FIELDS))])
    assert names is not None and len(names) == MOST_FIELDS


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        (b"accept-encoding", [b"gzip, br"], [b"BR", b"gzip"], True),
        (b"accept-encoding", [b"gzip;q=1.0,br"], [b"br , gzip ; q=1.0"], True),
        (b"accept-language", [b"de"], [b"en"], False),
        (b"accept-language", [b"de"], [b"de;q=0.5"], False),
        (b"accept", [b'a/b;c="X"'], [b'a/b;c="x"'], False),
        (b"accept", [b""], None, False),
        (b"accept", None, None, True),
        (b"x-a", [b"A"], [b"a"], False),
        (b"x-a", [b"a, b"], [b"a", b"b"], True),
        (b"x-a", [b"a,b"], [b"a", b"b"], False),
        (b"x-a", [b"b, a"], [b"a, b"], False),
    ],
)
def test_values_are_compared_as_far_as_their_meaning_is_known(
    name: bytes, one: list[bytes] | None, other: list[bytes] | None, same: bool
) -> None:
    first, second = ({name: values} if values is not None else {} for values in (one, other))
    assert (selection((name,), first) == selection((name,), second)) == same
