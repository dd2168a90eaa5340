"""Rules, and the configs that they come from."""

import pytest

from tornado_gateway.policy.limits.quota import LimitKey, parse_quotas
from tornado_gateway.policy.limits.rules import LimitConfig


def items(config: LimitConfig) -> list[bytes]:
    return [each.policy_item for each in config.rules]


def test_without_a_policy_there_is_no_rule() -> None:
    assert LimitConfig().rules == ()
    assert LimitConfig(key=LimitKey("principal")).rules == ()


def test_a_single_policy_has_the_name_of_its_group() -> None:
    assert items(LimitConfig(max=200)) == [b'"default";q=200;w=60']
    assert items(LimitConfig(max=200, group="service a", label="a")) == [b'"a";q=200;w=60']


def test_several_policies_have_their_text_in_the_name() -> None:
    config = LimitConfig(max=5, window=0.5, quotas=parse_quotas("100/s;burst=3"))
    assert items(config) == [b'"default 5/0.5s;key=ip";q=5', b'"default 100/s;burst=3;key=ip";q=100;w=1']


def test_a_name_is_a_string_of_rfc_9651() -> None:
    assert items(LimitConfig(max=1, label='é"\\'))[0] == b'"%C3%A9%22%5C";q=1;w=60'


def test_policies_without_a_key_have_the_key_of_the_config() -> None:
    config = LimitConfig(max=1, quotas=parse_quotas("2/s;key=ip,3/s,4/s;key=header:a"), key=LimitKey("principal"))
    assert [(each.limit, str(each.key)) for each in config.before] == [(2, "ip"), (4, "header:a")]
    assert [(each.limit, str(each.key)) for each in config.after] == [(1, "principal"), (3, "principal")]


def test_the_ids_of_rules_differ_and_last() -> None:
    quotas = parse_quotas("1/s,1/s,2/s")
    configs = [LimitConfig(quotas=quotas, group=group) for group in ("a", "b")]
    ids = [each.id for config in configs for each in config.rules]
    assert len(set(ids)) == 6
    assert ids == [each.id for group in ("a", "b") for each in LimitConfig(quotas=quotas, group=group).rules]
    assert LimitConfig(max=1).rules[0].id != LimitConfig(max=1, algorithm="sliding").rules[0].id


@pytest.mark.parametrize(("algorithm", "at_once"), [("gcra", 3), ("sliding", 10)])
def test_a_burst_is_for_gcra(algorithm: str, at_once: int) -> None:
    (rule,) = LimitConfig(quotas=parse_quotas("10/m;burst=3"), algorithm=algorithm).rules
    assert rule.algorithm.judge(rule.algorithm.fresh, 10**12).remaining == at_once - 1


def test_a_policy_for_a_scope_is_asked_once_the_scopes_are_known() -> None:
    config = LimitConfig(quotas=parse_quotas("1/s,2/s;scope=free;key=ip,3/s;scope=pro"))
    assert [each.limit for each in config.before] == [1]
    assert [each.limit for each in config.after if each.is_for({"pro", "read"})] == [3]
    assert [each.limit for each in config.after if each.is_for(())] == []
    assert all(each.is_for(()) for each in config.before)
