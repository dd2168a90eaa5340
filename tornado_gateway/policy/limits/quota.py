"""The syntax of policies: how many requests, in which time, counted by which key.

    RATE_LIMITS=100/s,5000/h;burst=20;key=principal

A policy is a limit, "/" and a window, with parameters behind semicolons. A window is a unit (`s`, `m`, `h`, `d`), with
a number before the unit or without: `100/10s`. Policies are separated by commas; a request must satisfy all of them.

    burst=N     requests that may come at once; without, as many as the limit. For gcra alone.
    key=KEY     the key of this policy; without, RATE_LIMIT_KEY.
    scope=NAME  the policy is for tokens with this scope alone.

Keys:

    ip              the client's address; of IPv6, the network of 64 bits (see policy/http/address.py)
    principal       the client as named by the credential; the address of a client without a credential
    header:<name>   the value of a request field; the address if the field is missing
    route           none: all clients of a route's service together
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MOST = 2**53  # the largest limit: every float up to here is exact, also in Redis's Lua
LONGEST = 86_400.0 * 31  # seconds of the longest window

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_POLICY = re.compile(r"([0-9]{1,16})/([0-9]{0,9})([smhd])((?:;[a-z]+=[^;,]+)*)")
_SCOPE = re.compile(r"[!#-+\--:<-\[\]-~]+")  # RFC 6749 §3.3, without comma and semicolon
_KEY = re.compile(r"ip|principal|route|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class LimitKey:
    """The part of a request by which requests are counted.

    Attributes:
        source: "ip", "principal", "route" or "header".
        name: of the header, in lower case; "" for other sources.
    """

    source: str = "ip"
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> "LimitKey":
        """Parse "ip", "principal", "route" or "header:<name>".

        Raises:
            ValueError: the text has another form.

        >>> LimitKey.parse("header:X-Tenant")
        LimitKey(source='header', name='x-tenant')
        """
        if not _KEY.fullmatch(text):
            raise ValueError("is not a key")
        source, _, name = text.partition(":")
        return cls(source, name.lower())

    def __str__(self) -> str:
        return f"{self.source}:{self.name}" if self.name else self.source


@dataclass(frozen=True, slots=True)
class Quota:
    """A policy.

    Attributes:
        limit: requests per window; 1 to MOST.
        window: seconds; > 0.
        burst: requests that may come at once; 0 for as many as the limit.
        key: None for the key of policies without a key of their own.
        scope: the scope of the tokens for which the policy is; "" for all requests.
    """

    limit: int
    window: float
    burst: int = 0
    key: LimitKey | None = None
    scope: str = ""

    def __str__(self) -> str:
        burst = f";burst={self.burst}" if self.burst else ""
        scope = f";scope={self.scope}" if self.scope else ""
        return f"{self.limit}/{_window_text(self.window)}{burst}{f';key={self.key}' if self.key else ''}{scope}"


class PolicyError(ValueError):
    """A policy is wrong.

    Attributes:
        policy: the text of the policy.
        why: a clause with its comma; "" for a policy of another form.
    """

    def __init__(self, policy: str, why: str = "") -> None:
        super().__init__(policy, why)
        self.policy, self.why = policy, why


def _window_text(seconds: float) -> str:
    """
    >>> _window_text(3600.0), _window_text(10.0), _window_text(90.0), _window_text(0.5)
    ('h', '10s', '90s', '0.5s')
    """
    unit, size = next((each for each in reversed(_UNITS.items()) if seconds % each[1] == 0), ("s", 1.0))
    count = seconds / size
    return unit if count == 1 else f"{int(count) if count == int(count) else count}{unit}"


def parse_quotas(text: str) -> tuple[Quota, ...]:
    """Parse policies, separated by commas; "off" for none.

    Raises:
        PolicyError: a policy has another form, or a value that is out of range.

    >>> [str(each) for each in parse_quotas("100/s, 5000/60m;burst=20;key=route")]
    ['100/s', '5000/h;burst=20;key=route']
    >>> parse_quotas("off")
    ()
    """
    if text.strip() == "off":
        return ()
    return tuple(_parse_quota(each.strip()) for each in text.split(",") if each.strip())


def _parse_quota(text: str) -> Quota:
    found = _POLICY.fullmatch(text)
    if not found:
        raise PolicyError(text)
    limit, window = int(found[1]), int(found[2] or 1) * _UNITS[found[3]]
    if not (1 <= limit <= MOST and 0 < window <= LONGEST):
        raise PolicyError(text, ", which is out of range")
    return Quota(limit, window, **_parameters(text, found[4]))


def _parse_burst(text: str) -> int:
    if not re.fullmatch("[0-9]{1,16}", text) or not 1 <= int(text) <= MOST:
        raise ValueError
    return int(text)


def _parse_scope(text: str) -> str:
    if not _SCOPE.fullmatch(text):
        raise ValueError
    return text


_PARAMETERS: Mapping[str, Callable[[str], Any]] = {
    "burst": _parse_burst,
    "key": LimitKey.parse,
    "scope": _parse_scope,
}


def _parameters(policy: str, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for parameter in filter(None, text.split(";")):
        name, _, value = parameter.partition("=")
        if name in found or name not in _PARAMETERS:
            raise PolicyError(policy, f", with {name} twice or unknown")
        try:
            found[name] = _PARAMETERS[name](value)
        except ValueError:
            raise PolicyError(policy, f", with a wrong {name}") from None
    return found
