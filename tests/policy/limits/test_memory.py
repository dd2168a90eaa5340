"""The counters of one process: what is counted, what is swept, and what a full store drops and never drops."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.limits.memory import SWEPT_AT_ONCE, Asked, MemoryStore
from tornado_gateway.policy.limits.quota import Quota
from tornado_gateway.policy.limits.rules import LIMIT_ALGORITHMS, Rule

NOW = 5000.0


def rule(limit: int = 10, window: float = 60.0, name: str = "default", algorithm: str = "gcra") -> Rule:
    return Rule(name, name, Quota(limit, window), algorithm)


def store_for(max_keys: int = 1_000_000) -> MemoryStore:
    return MemoryStore(random.Random(5), max_keys)


def ask(store: MemoryStore, key: str, *rules: Rule, now: float = NOW) -> bool:
    """Whether a request is admitted."""
    return not any(judgement.wait for _, judgement in store.take([Asked(rule, key) for rule in rules], now))


@pytest.mark.parametrize("algorithm", LIMIT_ALGORITHMS)
def test_each_key_has_the_limit_to_itself(algorithm: str) -> None:
    store, three = store_for(), rule(3, algorithm=algorithm)
    assert [ask(store, key, three) for key in "aaaabbab"] == [True, True, True, False, True, True, False, True]
    assert len(store) == 2


def test_a_request_that_one_rule_refuses_is_counted_by_none() -> None:
    store, narrow, wide = store_for(), rule(1, 1.0, "narrow"), rule(3, 3600.0, "wide")
    assert [ask(store, "a", wide, narrow) for _ in range(3)] == [True, False, False]
    verdicts = store.take([Asked(wide, "a"), Asked(narrow, "a")], NOW + 2)
    assert [judgement.remaining for _, judgement in verdicts] == [1, 0]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 0.3, 1.0])), max_size=60))
def test_rules_are_asked_as_if_each_were_alone_with_the_admitted_requests(steps: list[tuple[str, float]]) -> None:
    rules = [rule(2, 1.0, "one"), rule(5, 10.0, "two", "sliding")]
    store, alone = store_for(), [store_for() for _ in rules]
    now = NOW
    for key, pause in steps:
        now += pause
        expected = all(
            not each.algorithm.judge(
                own._tables[each.id].states.get(key, each.algorithm.fresh) if each.id in own._tables
                else each.algorithm.fresh, int(now * 10**9)).wait
            for each, own in zip(rules, alone, strict=True)
        )  # fmt: skip
        assert ask(store, key, *rules, now=now) == expected
        if expected:
            for each, own in zip(rules, alone, strict=True):
                own.take([Asked(each, key)], now)


@pytest.mark.parametrize("algorithm", LIMIT_ALGORITHMS)
def test_a_charge_counts_above_the_limit(algorithm: str) -> None:
    store, ten = store_for(), rule(10, algorithm=algorithm)
    store.charge([Asked(ten, "a")], 25, NOW)
    assert not ask(store, "a", ten)
    assert not ask(store, "a", ten, now=NOW + 60)
    assert ask(store, "a", ten, now=NOW + 180)
    store.charge([Asked(ten, "a")], 9, NOW + 180)
    assert not ask(store, "a", ten, now=NOW + 180)


# ---------------------------------------------------------------- sweeps


@pytest.mark.parametrize("algorithm", LIMIT_ALGORITHMS)
def test_a_sweep_drops_the_keys_that_have_used_nothing(algorithm: str) -> None:
    store, short, long = store_for(), rule(10, 1.0, "short", algorithm), rule(10, 3600.0, "long", algorithm)
    for index in range(50):
        ask(store, f"k{index}", short, long)
    store.sweep(NOW)
    assert len(store) == 100
    store.sweep(NOW + 5)
    assert len(store) == 50
    store.sweep(NOW + 7200)
    assert (len(store), store.dropped) == (0, 0)


def test_sweeps_take_turns_until_all_keys_have_been_seen() -> None:
    store, rules = store_for(), [rule(10, 1.0, name) for name in ("one", "two", "three")]
    for each in rules:
        for index in range(SWEPT_AT_ONCE):
            ask(store, f"k{index}", each)
    sizes = []
    for _ in range(4):
        store.sweep(NOW + 100)
        sizes.append(len(store))
    assert sizes == [2 * SWEPT_AT_ONCE, SWEPT_AT_ONCE, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 0.2)), max_size=200), st.randoms(use_true_random=False))
def test_a_sweep_changes_no_verdict(steps: list[tuple[int, float]], rng: random.Random) -> None:
    swept, unswept, few, now = store_for(), store_for(), rule(2, 1.0), NOW
    for key, pause in steps:
        now += pause
        if rng.random() < 0.5:
            swept.sweep(now)
        assert ask(swept, f"{key}", few, now=now) == ask(unswept, f"{key}", few, now=now)
    table = swept._tables.get(few.id)
    assert len(swept) == (len(table.ring) if table else 0)
    assert not table or sorted(table.ring) == sorted(table.states)


# ---------------------------------------------------------------- a full store


@pytest.mark.parametrize("algorithm", LIMIT_ALGORITHMS)
def test_a_flood_of_keys_stays_within_the_bound_and_frees_no_refused_client(algorithm: str) -> None:
    store, day = store_for(1000), rule(10, 86_400.0, algorithm=algorithm)
    spent = [f"spent{index}" for index in range(20)]
    for key in spent:
        while ask(store, key, day):
            pass
    for index in range(5_000):
        assert ask(store, f"flood{index}", day)  # a new client is never refused because the store is full
        assert len(store) <= 1000
    assert [key for key in spent if ask(store, key, day)] == []
    assert store.dropped == 5_000 + 20 - 1000


def test_a_key_that_has_used_nothing_goes_first_and_is_not_counted_as_dropped() -> None:
    store, second = store_for(2), rule(2, 1.0)
    ask(store, "old", second)
    ask(store, "young", second, now=NOW + 10)
    ask(store, "new", second, now=NOW + 10)
    assert set(store._tables[second.id].states) == {"young", "new"}
    assert (len(store), store.dropped) == (2, 0)


def test_a_rule_with_few_keys_takes_the_place_of_the_rule_with_the_most() -> None:
    store, many, few = store_for(100), rule(name="many"), rule(name="few")
    for index in range(100):
        ask(store, f"k{index}", many)
    ask(store, "a", few)
    assert (len(store), len(store._tables[many.id].ring), len(store._tables[few.id].ring)) == (100, 99, 1)


def test_a_store_for_one_key_has_one_key() -> None:
    store, ten = store_for(1), rule()
    assert [ask(store, key, ten) for key in "abab"] == [True] * 4
    assert (len(store), store.dropped) == (1, 3)


def test_counters_of_rules_that_are_gone_are_forgotten() -> None:
    store, kept, gone = store_for(), rule(1, name="kept"), rule(1, name="gone")
    for key in "ab":
        assert ask(store, key, kept, gone)
    store.keep({kept.id})
    assert len(store) == 2
    assert [ask(store, "a", each) for each in (kept, gone)] == [False, True]
