"""Who meets the rate limits: the most refused keys, in bounded memory."""

import random

import pytest

from tornado_gateway.policy.http.redaction import HIDDEN, Redaction
from tornado_gateway.policy.limits.quota import parse_quotas
from tornado_gateway.policy.limits.refused_keys import MOST, SHOWN, SPAN, Refusal, RefusedKeys, name_of
from tornado_gateway.policy.limits.rules import Rule


def refusal(key: str = "192.0.2.7", header: str = "") -> Refusal:
    return Refusal("10/s", key, header)


def test_the_most_refused_come_first() -> None:
    keys = RefusedKeys()
    for each in ("a", "b", "b"):
        keys.add(refusal(each), 1.0)
    assert keys.top(2.0) == [(refusal("b"), 2), (refusal("a"), 1)]


def test_made_up_keys_take_no_memory_and_hide_nobody_who_is_refused_often() -> None:
    keys, rng = RefusedKeys(), random.Random(1)
    for number in range(4000):
        keys.add(refusal("often" if rng.random() < 0.1 else f"once-{number}"), 1.0)
    assert len(keys._counts) == MOST
    (first, count), *others = keys.top(1.0)
    assert first == refusal("often")
    assert 300 < count < 500 + 4000 / MOST
    assert len(others) == SHOWN - 1


@pytest.mark.parametrize(("later", "count"), [(SPAN - 1, 2), (SPAN, 2), (2 * SPAN - 1, 2), (2 * SPAN, 0), (1e6, 0)])
def test_refusals_are_forgotten_after_two_windows(later: float, count: int) -> None:
    keys = RefusedKeys()
    keys.add(refusal(), 1000.0)
    keys.add(refusal(), 1000.0)
    assert keys.top(1000.0 + later) == ([(refusal(), count)] if count else [])


def test_a_key_of_two_windows_counts_in_both() -> None:
    keys = RefusedKeys()
    keys.add(refusal(), 1000.0)
    keys.add(refusal(), 1000.0 + SPAN)
    assert keys.top(1000.0 + SPAN) == [(refusal(), 2)]


@pytest.mark.parametrize(
    ("key", "header", "hidden", "name"),
    [
        ("192.0.2.7", "", "", "client 192.0.2.7"),
        ("192.0.2.7", "", "client", f"client {HIDDEN}"),
        ("", "", "", "client (no address)"),
        ("pid|ada", "", "", "principal id|ada"),
        ("pid|ada", "", "principal", f"principal {HIDDEN}"),
        ("P0123456789abcdef", "", "", "principal of the hash 0123456789ab"),
        ("hacme", "x-tenant", "", "x-tenant: acme"),
        ("hacme", "x-tenant", "x-tenant", f"x-tenant: {HIDDEN}"),
        ("hsesame", "x-api-key", "", f"x-api-key: {HIDDEN}"),
        ("r/api/<service>/* billing", "", "", "route /api/<service>/* billing"),
        ("r/healthz ", "", "", "route /healthz"),
    ],
)
def test_a_key_is_named_for_operators_and_hidden_as_in_the_access_log(
    key: str, header: str, hidden: str, name: str
) -> None:
    assert name_of(refusal(key, header), Redaction(frozenset([hidden]))) == name


def test_a_refusal_has_the_name_of_the_rule() -> None:
    rule = Rule("id", "10/s", parse_quotas("10/s")[0], "gcra")
    assert Refusal.of(rule, "a") == Refusal("10/s", "a", "")
