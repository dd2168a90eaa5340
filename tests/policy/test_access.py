"""Tests of access: which credentials a request may come with."""

import pytest

from tornado_gateway.policy.access import (
    ANY,
    ANYTHING,
    DEFAULT,
    RULES,
    Access,
    Kind,
    admin_access,
    default_rule,
    permits_more,
    strictest,
)

JWT, KEY = RULES["jwt"], RULES["key"]
READ, WRITE = Access(scopes=frozenset({"read"})), Access(JWT, frozenset({"write"}))


@pytest.mark.parametrize("is_required", [False, True])
def test_a_rule_of_its_own_and_scopes_hold_whatever_the_default_says(is_required: bool) -> None:
    default = default_rule(is_required=is_required)
    assert DEFAULT.needs_credential(default) is is_required
    assert Access(JWT).accepted(default) == {Kind.JWT}
    assert not Access(RULES["none"]).needs_credential(default)
    assert READ.accepted(default) == ANY


@pytest.mark.parametrize(
    ("several", "rule", "scopes"),
    [
        ([DEFAULT, Access(RULES["none"])], ANYTHING, set()),
        ([Access(RULES["none"]), Access(JWT)], JWT, set()),
        ([Access(RULES["any"]), Access(KEY)], KEY, set()),
        ([READ, WRITE, DEFAULT], JWT, {"read", "write"}),
        ([Access(JWT), Access(KEY)], frozenset(), set()),
    ],
    ids=["none", "jwt", "any-key", "scopes", "nobody"],
)
def test_the_strictest_permits_what_all_permit(several: list[Access], rule: frozenset[Kind], scopes: set[str]) -> None:
    assert strictest(several, ANYTHING) == Access(rule, frozenset(scopes))
    assert strictest([DEFAULT], ANY).rule == ANY


@pytest.mark.parametrize(
    ("one", "other", "default", "permits"),
    [
        (DEFAULT, DEFAULT, ANY, False),
        (DEFAULT, Access(JWT), ANYTHING, True),
        (Access(JWT), Access(KEY), ANY, True),
        (Access(JWT), Access(RULES["any"]), ANY, False),
        (READ, Access(JWT, frozenset({"read", "write"})), ANY, True),
        (Access(JWT, frozenset({"read", "write"})), READ, ANY, False),
    ],
)
def test_an_access_permits_more_if_it_admits_what_another_refuses(
    one: Access, other: Access, default: frozenset[Kind], permits: bool
) -> None:
    assert permits_more(one, other, default) is permits


@pytest.mark.parametrize("rule", RULES)
def test_no_service_accepts_an_operators_session(rule: str) -> None:
    assert Kind.SESSION not in RULES[rule]


@pytest.mark.parametrize(
    ("is_required", "is_asked", "needs"), [(False, False, False), (False, True, True), (True, False, True)]
)
def test_pages_below_admin_accept_every_credential_and_a_session(
    is_required: bool, is_asked: bool, needs: bool
) -> None:
    default = default_rule(is_required=is_required)
    access = admin_access(default, is_asked=is_asked)
    assert access.needs_credential(default) is needs
    assert (access.accepted(default) == ANY | {Kind.SESSION}) is needs
