"""Who needs a token, and what a token must permit."""

import pytest

from tornado_gateway.policy.access import DEFAULT, Access, Rule, strictest

READ, WRITE = Access(scopes=frozenset({"read"})), Access(Rule.JWT, frozenset({"write"}))


@pytest.mark.parametrize("by_default", [False, True])
def test_a_rule_precedes_the_default(by_default: bool) -> None:
    assert DEFAULT.needs_token(by_default=by_default) is by_default
    assert Access(Rule.JWT).needs_token(by_default=by_default)
    assert not Access(Rule.NONE).needs_token(by_default=by_default)
    assert READ.needs_token(by_default=by_default)


@pytest.mark.parametrize(
    ("several", "rule", "scopes"),
    [
        ([DEFAULT, Access(Rule.NONE)], Rule.NONE, set()),
        ([Access(Rule.NONE), Access(Rule.JWT)], Rule.JWT, set()),
        ([READ, WRITE, DEFAULT], Rule.JWT, {"read", "write"}),
    ],
)
def test_the_strictest_permits_what_all_permit(several: list[Access], rule: Rule, scopes: set[str]) -> None:
    assert strictest(several, by_default=False) == Access(rule, frozenset(scopes))
    assert strictest([DEFAULT], by_default=True).rule is Rule.JWT
