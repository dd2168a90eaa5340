"""Rules: policies that are ready to judge requests; and the config from which the rules of a service or route come."""

import functools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
        enforces, cost_field, route: see LimitConfig.
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
    enforces: bool = True
    cost_field: bytes = b""
    route: str = ""
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
        quoted = quoted_name(self.name)
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


def quoted_name(name: str) -> bytes:
    """The name of a policy as a string of RFC 9651 §3.3.3.

    >>> quoted_name('a "b"')
    b'"a %22b%22"'
    """
    return b'"%b"' % quote(name, safe=_KEPT).encode("ascii")


def _window_parameter(seconds: float) -> bytes:
    """The parameter w, which is a whole number; b"" for a window that is not.

    >>> _window_parameter(60.0), _window_parameter(0.5)
    (b';w=60', b'')
    """
    return b";w=%d" % seconds if seconds == math.floor(seconds) else b""


class Group:
    """Rules that admit and count a request together, or refuse the request and count nothing.

    Args:
        rules: at least one; all enforced, or all observed.

    Attributes:
        enforces: whether the rules are enforced.
        tells_cost: whether a rule has a field in which a service tells the cost of a request.
        by_address: whether all rules count by the client's address.
        alone: the rule of a group of one rule that counts by address and has no cost, which is the usual case; else
            None.
    """

    __slots__ = ("_has_scopes", "alone", "by_address", "enforces", "rules", "tells_cost")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.enforces = rules[0].enforces
        self.tells_cost = any(each.cost_field for each in rules)
        self.by_address = all(each.by_address for each in rules)
        self._has_scopes = any(each.quota.scope for each in rules)
        is_usual = len(rules) == 1 and self.by_address and not self.tells_cost
        self.alone = rules[0] if is_usual else None

    def for_scopes(self, scopes: Collection[str]) -> "Group | None":
        """The rules that are for a principal with these scopes; None if no rule is."""
        if not self._has_scopes:
            return self
        rules = [each for each in self.rules if each.is_for(scopes)]
        return Group(rules) if rules else None


def groups_of(rules: Iterable[Rule]) -> tuple[Group, ...]:
    """The enforced rules, then the observed rules.

    The groups are asked one after the other, so observed rules see only what the enforced rules admit, and a request
    that an observed rule would refuse is still counted by the enforced rules.
    """
    asked = list(rules)
    parted = ([each for each in asked if each.enforces is enforces] for enforces in (True, False))
    return tuple(Group(each) for each in parted if each)


@dataclass(frozen=True)  # without slots, so that rules are made once
class LimitConfig:
    """How often clients may ask.

    Attributes:
        max: requests per `window`; 0 for no such policy.
        window: seconds; > 0.
        quotas: further policies, which apply beside `max`.
        max_in_flight: requests of a key that are in flight at once; 0 for no limit.
        key: of policies without a key of their own, and of `max_in_flight`.
        algorithm: name in LIMIT_ALGORITHMS.
        enforces: whether a request above a limit is refused; else the request is only counted and logged.
        cost_field: response field in which a service says how many requests a request counts for; b"" for none.
        group: names the counters. Services and routes without own values share the counters of DEFAULT_GROUP.
        label: the group in fields and metrics.
        route: the route that the limits are for; "" for other limits. The key "route" counts all requests that the
            limits of a route hold for together, whatever route the requests came by.
        also: further limits that hold for the same requests, each with the counters of its own group.
    """

    max: int = 0
    window: float = 60.0
    quotas: tuple[Quota, ...] = ()
    max_in_flight: int = 0
    key: LimitKey = field(default_factory=LimitKey)
    algorithm: str = "gcra"
    enforces: bool = True
    cost_field: bytes = b""
    group: str = DEFAULT_GROUP
    label: str = DEFAULT_GROUP
    route: str = ""
    also: tuple["LimitConfig", ...] = ()

    @functools.cached_property
    def before(self) -> tuple[Group, ...]:
        """The rules that are asked before the authentication."""
        return groups_of(each for each in self.rules if not each.needs_principal)

    @functools.cached_property
    def after(self) -> tuple[Group, ...]:
        """The rules that are asked once the principal is known."""
        return groups_of(each for each in self.rules if each.needs_principal)

    def after_for(self, scopes: Collection[str]) -> Iterator[Group]:
        """The rules of `after` that are for a principal with these scopes."""
        return filter(None, [each.for_scopes(scopes) for each in self.after])

    @functools.cached_property
    def in_flight(self) -> tuple["LimitConfig", ...]:
        """The configs, of this one and of `also`, that limit the requests in flight."""
        own = (self,) if self.max_in_flight else ()
        return own + tuple(config for each in self.also for config in each.in_flight)

    @property
    def limits_something(self) -> bool:
        return bool(self.rules or self.in_flight)

    @functools.cached_property
    def rules(self) -> tuple[Rule, ...]:
        return self._own_rules + tuple(rule for each in self.also for rule in each.rules)

    @property
    def _own_rules(self) -> tuple[Rule, ...]:
        simple = (Quota(int(self.max), self.window),) if self.max else ()
        quotas = [replace(each, key=each.key or self.key) for each in simple + self.quotas]
        return tuple(
            Rule(
                f"{self.group}/{index}/{each}/{self.algorithm}",
                self.label if len(quotas) == 1 else f"{self.label} {each}",
                each,
                self.algorithm,
                self.enforces,
                self.cost_field.lower(),
                self.route,
            )
            for index, each in enumerate(quotas)
        )
