"""Rules: policies that are ready to judge requests; and the config from which the rules of a service or route come."""

import functools
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from tornado_gateway.policy.limits.algorithms import SECOND, Algorithm, Gcra, Sliding
from tornado_gateway.policy.limits.quota import LimitKey, Quota

DEFAULT_GROUP = "default"
LIMIT_ALGORITHMS: dict[str, Callable[[Quota, int], Algorithm]] = {
    "gcra": lambda quota, window: Gcra(quota.limit, window, quota.burst or quota.limit),
    "sliding": lambda quota, window: Sliding(quota.limit, window),
}

# Characters that a policy's name keeps: a string of RFC 9651 §3.3.3 is ASCII without quotes here.
_KEPT = " !#$&'()*+,-./:;<=>?@[]^_`{|}~"

_FORMAT = (
    b"x-ratelimit-limit: %d\r\nx-ratelimit-remaining: %%d\r\nx-ratelimit-reset: %%d\r\n"
    b"RateLimit-Policy: %b\r\nRateLimit: %b;r=%%d;t=%%d\r\n"
)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A policy that judges requests.

    Attributes:
        id: differs from the id of every other rule, and is the same in every process.
        name: of the policy in fields and metrics.
        quota: with a key.
        algorithm_name: in LIMIT_ALGORITHMS.
        limit: of the quota.
        key: of the quota.
        algorithm: judges.
        by_address: whether the key is the client's address.
        quoted_name, policy_item: of RateLimit and RateLimit-Policy.
        lines: of a response to a request with this rule alone; a format for the remaining requests, the seconds until
            the reset, the remaining requests again, and the seconds until the renewal. Formatted once for speed.
    """

    id: str
    name: str
    quota: Quota
    algorithm_name: str
    limit: int = field(init=False)
    key: LimitKey = field(init=False)
    algorithm: Algorithm = field(init=False, repr=False)
    by_address: bool = field(init=False)
    quoted_name: bytes = field(init=False, repr=False)
    lines: bytes = field(init=False, repr=False)
    policy_item: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        quota = self.quota
        key = quota.key or LimitKey()
        quoted = b'"%b"' % quote(self.name, safe=_KEPT).encode("ascii")
        policy_item = b"%b;q=%d%b" % (quoted, quota.limit, _window_parameter(quota.window))
        for name, value in {
            "limit": quota.limit,
            "key": key,
            "by_address": key.source == "ip",
            "algorithm": LIMIT_ALGORITHMS[self.algorithm_name](quota, round(quota.window * SECOND)),
            "quoted_name": quoted,
            "policy_item": policy_item,
            "lines": _FORMAT % (quota.limit, policy_item.replace(b"%", b"%%"), quoted.replace(b"%", b"%%")),
        }.items():
            object.__setattr__(self, name, value)

    @property
    def needs_principal(self) -> bool:
        """Whether the rule counts by principal, or is for some principals alone."""
        return self.key.source == "principal" or bool(self.quota.scope)

    def is_for(self, scopes: Collection[str]) -> bool:
        """Whether the rule is for a principal with these scopes."""
        return not self.quota.scope or self.quota.scope in scopes


def _window_parameter(seconds: float) -> bytes:
    """The parameter w, which is a whole number; b"" for a window that is not.

    >>> _window_parameter(60.0), _window_parameter(0.5)
    (b';w=60', b'')
    """
    return b";w=%d" % seconds if seconds == math.floor(seconds) else b""


@dataclass(frozen=True)  # without slots, so that rules are made once
class LimitConfig:
    """How often clients may ask.

    Attributes:
        max: requests per `window`; 0 for no such policy.
        window: seconds; > 0.
        quotas: further policies, which apply beside `max`.
        key: of policies without a key of their own.
        algorithm: name in LIMIT_ALGORITHMS.
        enforces: whether a request above a limit is refused; else the request is only counted and logged.
        cost_field: response field in which a service says how many requests a request counts for; b"" for none.
        group: names the counters. Services and routes without own values share the counters of DEFAULT_GROUP.
        label: the group in fields and metrics.
    """

    max: int = 0
    window: float = 60.0
    quotas: tuple[Quota, ...] = ()
    key: LimitKey = field(default_factory=LimitKey)
    algorithm: str = "gcra"
    enforces: bool = True
    cost_field: bytes = b""
    group: str = DEFAULT_GROUP
    label: str = DEFAULT_GROUP

    @functools.cached_property
    def before(self) -> tuple[Rule, ...]:
        """The rules that are asked before the authentication."""
        return tuple(each for each in self.rules if not each.needs_principal)

    @functools.cached_property
    def after(self) -> tuple[Rule, ...]:
        """The rules that are asked once the principal is known."""
        return tuple(each for each in self.rules if each.needs_principal)

    @functools.cached_property
    def rules(self) -> tuple[Rule, ...]:
        simple = (Quota(int(self.max), self.window),) if self.max else ()
        quotas = [replace(each, key=each.key or self.key) for each in simple + self.quotas]
        return tuple(
            Rule(
                f"{self.group}/{index}/{each}/{self.algorithm}",
                self.label if len(quotas) == 1 else f"{self.label} {each}",
                each,
                self.algorithm,
            )
            for index, each in enumerate(quotas)
        )
