"""What a client is told about its limits."""

from tornado_gateway.policy.limits.algorithms import Judgement
from tornado_gateway.policy.limits.quota import Quota
from tornado_gateway.policy.limits.rules import Rule
from tornado_gateway.policy.limits.verdict import Verdict, longest_wait, refusals, state_lines


def verdict(name: str, limit: int, judgement: Judgement) -> Verdict:
    return Rule(name, name, Quota(limit, 60.0), "gcra"), judgement


ROOMY = verdict("roomy", 200, Judgement(0.0, 199, 0.3, 0.3))
TIGHT = verdict("tight", 5, Judgement(0.0, 1, 12.0, 48.0))
SPENT = verdict("spent", 100, Judgement(0.1, 0, 0.1, 60.0))
LONG = verdict("long", 100, Judgement(9.5, 0, 9.5, 60.0))


def lines(*verdicts: Verdict) -> list[str]:
    return state_lines(verdicts).decode("ascii").split("\r\n")


def test_one_rule() -> None:  # R4
    assert lines(ROOMY) == [
        "x-ratelimit-limit: 200",
        "x-ratelimit-remaining: 199",
        "x-ratelimit-reset: 1",
        'RateLimit-Policy: "roomy";q=200;w=60',
        'RateLimit: "roomy";r=199;t=1',
        "",
    ]


def test_of_several_rules_the_tightest_is_told_in_the_fields_with_room_for_one() -> None:
    assert lines(ROOMY, TIGHT) == [
        "x-ratelimit-limit: 5",
        "x-ratelimit-remaining: 1",
        "x-ratelimit-reset: 48",
        'RateLimit-Policy: "roomy";q=200;w=60, "tight";q=5;w=60',
        'RateLimit: "roomy";r=199;t=1, "tight";r=1;t=12',
        "",
    ]
    assert lines(SPENT, LONG, TIGHT)[0:3] == lines(LONG)[0:3]


def test_the_refusals_and_the_longest_wait() -> None:
    assert refusals([ROOMY, SPENT, TIGHT, LONG]) == [SPENT, LONG]
    assert longest_wait([SPENT, LONG]) == 9.5


def test_a_name_with_percent_signs_stays() -> None:
    odd = verdict("100 %é", 5, Judgement(0.0, 1, 12.0, 48.0))
    assert lines(odd)[3:5] == ['RateLimit-Policy: "100 %25%C3%A9";q=5;w=60', 'RateLimit: "100 %25%C3%A9";r=1;t=12']
    assert state_lines([odd, odd]).count(b"%25%C3%A9") == 4
