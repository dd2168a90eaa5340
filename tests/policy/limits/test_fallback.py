"""RATE_LIMIT_ON_ERROR, one value after the other."""

import random

import pytest

from tornado_gateway.errors import LimitsUnavailable
from tornado_gateway.policy.limits.fallback import CLOSED, LOCAL, OPEN, Fallback
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.quota import Quota
from tornado_gateway.policy.limits.rules import Rule

RULE = Rule("a", "a", Quota(2, 60.0), "gcra")
ASKED = [Asked(RULE, "ada")]


def fallback(on_error: str) -> Fallback:
    return Fallback(on_error, MemoryStore(random.Random(1)))


def test_local_counts_in_this_process() -> None:
    local = fallback(LOCAL)
    assert [judgement.wait > 0 for _ in range(3) for _, judgement in local.take(ASKED, 0.0)] == [False, False, True]
    local = fallback(LOCAL)
    local.charge(ASKED, 2, 0.0)
    ((_, judgement),) = local.take(ASKED, 0.0)
    assert judgement.wait > 0
    assert local.meaning == "rate limits are counted by each process"


def test_open_admits_and_closed_refuses() -> None:
    admits, refuses = fallback(OPEN), fallback(CLOSED)
    for each in (admits, refuses):
        each.charge(ASKED, 9, 0.0)
    assert admits.take(ASKED, 0.0) == []
    with pytest.raises(LimitsUnavailable):
        refuses.take(ASKED, 0.0)
    assert (admits.meaning, refuses.meaning) == ("rate limits are off", "rate limits are a 503 for every request")
