"""Rules, and the configs that they come from."""

from dataclasses import replace

import pytest

from tornado_gateway.policy.limits.quota import LimitKey, parse_quotas
from tornado_gateway.policy.limits.rules import LimitConfig


def items(config: LimitConfig) -> list[bytes]:
    return [each.policy_item for each in config.rules]


def test_without_a_policy_there_is_no_rule() -> None:
    assert LimitConfig().rules == ()
    assert LimitConfig(key=LimitKey("principal")).rules == ()


@pytest.mark.parametrize(
    ("config", "limits"), [(LimitConfig(), False), (LimitConfig(max=1), True), (LimitConfig(max_in_flight=1), True)]
)
def test_a_config_tells_whether_something_is_limited(config: LimitConfig, limits: bool) -> None:
    assert config.limits_something is limits


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
    (before,), (after,) = config.before, config.after
    assert [(each.limit, str(each.key)) for each in before.rules] == [(2, "ip"), (4, "header:a")]
    assert [(each.limit, str(each.key)) for each in after.rules] == [(1, "principal"), (3, "principal")]
    assert (before.by_address, after.by_address) == (False, False)


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
    (before,), (after,) = config.before, config.after
    assert [each.limit for each in before.rules] == [1]
    assert before.for_scopes(()) is before
    pro = after.for_scopes({"pro", "read"})
    assert pro
    assert [each.limit for each in pro.rules] == [3]
    assert after.for_scopes({"read"}) is None
    assert [[each.limit for each in group.rules] for group in config.after_for({"free"})] == [[2]]
    assert [*config.after_for(())] == []


def test_further_limits_keep_their_names_and_counters() -> None:
    route = LimitConfig(max=3, group="route /a/*", label="/a/*", route="/a/*", cost_field=b"X-Cost")
    config = LimitConfig(max=9, also=(route,))
    assert [(each.name, each.limit, each.route, each.cost_field) for each in config.rules] == [
        ("default", 9, "", b""), ("/a/*", 3, "/a/*", b"x-cost"),
    ]  # fmt: skip
    assert config.rules[0].id == LimitConfig(max=9).rules[0].id
    assert config.rules[1].id == route.rules[0].id


def test_enforced_rules_are_asked_before_observed_rules() -> None:
    observed = LimitConfig(max=1, quotas=parse_quotas("2/s;key=principal"), enforces=False, group="b")
    config = replace(observed, also=(LimitConfig(max=3, group="a"), LimitConfig(max=4, group="c")))
    assert [[each.limit for each in group.rules] for group in config.before] == [[3, 4], [1]]
    assert [[each.limit for each in group.rules] for group in config.after] == [[2]]
    assert [group.enforces for group in (*config.before, *config.after)] == [True, False, False]
    assert (LimitConfig().before, LimitConfig().after) == ((), ())


def test_a_group_knows_what_its_rules_need() -> None:
    (plain,), (costly,) = LimitConfig(max=1).before, LimitConfig(max=1, cost_field=b"X-Cost").before
    assert (plain.by_address, plain.tells_cost, costly.tells_cost) == (True, False, True)
    assert not LimitConfig(max=1, key=LimitKey("route")).before[0].by_address
