"""What a rule says about a request, and how the client is told.

Sources: draft-ietf-httpapi-ratelimit-headers-10 (27 September 2025) for RateLimit and RateLimit-Policy, and RFC 9651
for the syntax of both. The three x-ratelimit fields are those of @fastify/rate-limit, in whole seconds.
"""

import math
from collections.abc import Iterable, Sequence

from tornado_gateway.policy.limits.algorithms import Judgement
from tornado_gateway.policy.limits.rules import Rule

# A rule and its judgement on a request. A plain tuple, because each limited request makes a verdict and takes the
# verdict apart (measured: a NamedTuple costs 1 % of a small GET).
Verdict = tuple[Rule, Judgement]


def refusals(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The verdicts that refuse the request."""
    return [(rule, judgement) for rule, judgement in verdicts if judgement.wait > 0]


def longest_wait(verdicts: Iterable[Verdict]) -> float:
    """Seconds until all rules would admit the request."""
    return max(judgement.wait for _, judgement in verdicts)


def state_lines(verdicts: Sequence[Verdict]) -> bytes:
    """The field lines that tell a client the state of the limits; each line ends with CRLF.

    The x-ratelimit fields have room for one rule: the rule with the longest wait, or else with the fewest remaining
    requests.
    """
    if len(verdicts) == 1:
        rule, judgement = verdicts[0]
        remaining = judgement.remaining
        return rule.lines % (remaining, math.ceil(judgement.reset), remaining, math.ceil(judgement.renewal))
    tightest = min(verdicts, key=lambda each: (-each[1].wait, each[1].remaining))
    policies = b", ".join([rule.policy_item for rule, _ in verdicts])
    return _lines(tightest, policies, b", ".join(map(_item, verdicts)))


def _lines(shown: Verdict, policies: bytes, items: bytes) -> bytes:
    rule, judgement = shown
    return (
        b"x-ratelimit-limit: %d\r\nx-ratelimit-remaining: %d\r\nx-ratelimit-reset: %d\r\n"
        b"RateLimit-Policy: %b\r\nRateLimit: %b\r\n"
        % (rule.limit, judgement.remaining, math.ceil(judgement.reset), policies, items)
    )


def _item(verdict: Verdict) -> bytes:
    rule, judgement = verdict
    return b"%b;r=%d;t=%d" % (rule.quoted_name, judgement.remaining, math.ceil(judgement.renewal))
