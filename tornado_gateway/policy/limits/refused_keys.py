"""Who meets the rate limits: the keys that were refused most of late, in bounded memory whatever keys clients make up.

Space-saving: each of MOST places counts a key. A key without a place takes the place of the least counted key, and goes
on from that count. A key with more than 1/MOST of all refusals always has a place. A count is too high by the count
that was taken over, at most 1/MOST of all refusals.

Source: Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data Streams, ICDT 2005.
"""

from collections import Counter
from typing import NamedTuple

from tornado_gateway.policy.http.redaction import HIDDEN, Redaction
from tornado_gateway.policy.limits.rules import Rule

MOST = 40  # places: the search for the least counted key takes 1 µs
SPAN = 300.0  # seconds of a window; the counts are those of this window and of the window before
SHOWN = 10


class Refusal(NamedTuple):
    """Whom a rule has refused.

    Attributes:
        policy: name of the rule.
        key: see key_of().
        header: name of the header that gave the key; "" for other keys.
    """

    policy: str
    key: str
    header: str = ""

    @classmethod
    def of(cls, rule: Rule, key: str) -> "Refusal":
        return cls(rule.name, key, rule.key.name)


class RefusedKeys:
    """Counts refusals by key."""

    def __init__(self) -> None:
        self._counts: Counter[Refusal] = Counter()
        self._before: Counter[Refusal] = Counter()
        self._begin = 0.0

    def add(self, refusal: Refusal, now: float) -> None:
        """Count a refusal.

        Args:
            now: seconds on the gateway clock.
        """
        self._turn(now)
        counts = self._counts
        if refusal not in counts and len(counts) >= MOST:
            least = min(counts, key=counts.__getitem__)
            counts[refusal] = counts.pop(least)
        counts[refusal] += 1

    def top(self, now: float) -> list[tuple[Refusal, int]]:
        """The keys with the most refusals of the last SPAN to 2 * SPAN seconds, the most refused first."""
        self._turn(now)
        return (self._counts + self._before).most_common(SHOWN)

    def _turn(self, now: float) -> None:
        """Begin a new window when the window is over."""
        if now - self._begin < SPAN:
            return
        is_recent = now - self._begin < 2 * SPAN
        self._before = self._counts if is_recent else Counter()
        self._counts, self._begin = Counter(), now


def name_of(refusal: Refusal, redaction: Redaction) -> str:
    """Whom a rule has refused, for operators: LOG_REDACT hides clients, principals and fields here, too."""
    sign, rest = refusal.key[:1], refusal.key[1:]
    if sign in ("p", "P"):
        return f"principal {HIDDEN if 'principal' in redaction.names else _shown(sign, rest)}"
    if sign in ("h", "H"):
        return f"{refusal.header}: {HIDDEN if redaction.hides(refusal.header) else _shown(sign, rest)}"
    if sign in ("r", "R"):
        return f"route {_shown(sign, rest).strip()}"
    return f"client {HIDDEN if 'client' in redaction.names else refusal.key or '(no address)'}"


def _shown(sign: str, rest: str) -> str:
    return f"of the hash {rest[:12]}" if sign.isupper() else rest
