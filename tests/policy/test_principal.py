"""What a credential's claims say about a client."""

import math
from typing import Any

import pytest

from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.principal import ANYBODY, NOBODY, Holder, Principal


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, set()),
        ({"scope": ""}, set()),
        ({"scope": "read"}, {"read"}),
        ({"scope": "read write  read"}, {"read", "write"}),  # RFC 8693 §4.2
        ({"scope": ["read", "write"]}, {"read", "write"}),
        ({"scp": "read write"}, {"read", "write"}),
        ({"scp": ["read"]}, {"read"}),
        ({"scope": "read", "scp": ["write"]}, {"read"}),  # the registered claim wins
        ({"scope": "", "scp": ["write"]}, set()),
        ({"scope": [7, "read", None]}, {"read"}),
        ({"scope": 7}, set()),
        ({"scope": None}, set()),
        ({"scope": {"read": True}}, set()),
    ],
)
def test_scopes_are_words_of_a_string_or_members_of_a_list(claims: dict[str, Any], scopes: set[str]) -> None:
    assert Principal.of(claims).scopes == scopes


@pytest.mark.parametrize(
    ("claims", "subject"), [({}, ""), ({"sub": "ada"}, "ada"), ({"sub": 7}, ""), ({"sub": None}, "")]
)
def test_a_subject_is_a_string(claims: dict[str, Any], subject: str) -> None:
    assert Principal.of(claims).subject == subject


@pytest.mark.parametrize(
    ("claims", "expiry"), [({}, math.inf), ({"exp": 10}, 10.0), ({"exp": 10.25}, 10.25), ({"exp": 10**400}, math.inf)]
)
def test_an_expiry_is_in_seconds_since_1970(claims: dict[str, Any], expiry: float) -> None:
    assert Principal.of(claims).expiry == expiry


@pytest.mark.parametrize(
    ("claims", "holder"),
    [
        ({}, NOBODY),
        ({"iss": "id", "sub": "ada", "jti": "7", "iat": 10}, Holder("id|ada", "7", 10.0)),
        ({"sub": "ada", "jti": 7, "iat": "10"}, Holder("|ada", "", 10.0)),
        ({"sub": "ada", "sid": "s-1"}, Holder("|ada", "", -math.inf, ("s-1",))),
        ({"sub": "ada", "sid": 7}, Holder("|ada", "", -math.inf)),
        ({"jti": None, "iat": None}, NOBODY),
        ({"iat": 10**400}, NOBODY),
        ({"iat": math.nan}, NOBODY),
        ({"iat": math.inf}, NOBODY),  # a token that is issued later than any revocation
        ({"iat": "soon"}, NOBODY),
    ],
)
def test_a_holder_is_what_a_revocation_may_name(claims: dict[str, Any], holder: Holder) -> None:
    assert Principal.of(claims).holder == holder


def test_claims_are_kept() -> None:
    claims = {"sub": "ada", "tenant": 7}
    assert Principal.of(claims).claims == claims


def test_anybody_has_no_subject_no_scope_and_no_expiry() -> None:
    assert Principal.of({}) == ANYBODY


def test_a_principal_of_the_gateways_own_is_never_named_as_one_of_a_token() -> None:
    ada = Principal.local(Kind.BASIC, "ada", frozenset())
    assert (ada.subject, ada.name, ada.claims, ada.expiry) == ("basic:ada", "basic:ada", {"sub": "basic:ada"}, math.inf)
    key = Principal.local(Kind.KEY, "ci", frozenset({"b", "a"}))
    assert (key.name, key.claims, key.scopes) == ("key:ci", {"sub": "key:ci", "scope": "a b"}, {"a", "b"})
    assert Principal.of({"sub": "basic:ada"}).name != ada.name
