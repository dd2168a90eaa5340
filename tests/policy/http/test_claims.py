"""Claims in fields: the client's own copies never pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.claims import ClaimFields, value_of

FIELDS = ClaimFields([("sub", "X-User-Id"), ("groups", "X-Groups")])


def test_claims_stand_in_their_fields() -> None:
    lines = FIELDS.lines(b"A: 1\r\n", {"sub": "ada", "groups": ["a", "b"], "exp": 7})
    assert lines == b"A: 1\r\nX-User-Id: ada\r\nX-Groups: a b\r\n"


@pytest.mark.parametrize("name", [b"X-User-Id", b"x-user-id", b"X_User_Id", b"x-user_ID"])
@pytest.mark.parametrize("claims", [{}, {"groups": ["a"]}])
def test_the_clients_own_fields_are_removed_with_and_without_a_claim(name: bytes, claims: dict[str, object]) -> None:
    lines = FIELDS.lines(b"B: 2\r\n" + name + b": root\r\n", claims)
    assert lines.startswith(b"B: 2\r\n") and b"root" not in lines


@pytest.mark.untraced
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_a_value_is_visible_ascii(claim: object) -> None:
    assert all(0x20 <= byte < 0x7F for byte in value_of(claim))
