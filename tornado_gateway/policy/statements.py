"""What gateways say to each other about endpoints and reloads: statements, of which the newest about a matter counts.

A statement has a key, the matter. Its instant is later than that of every statement about the matter that the sender
knew: an act that follows another counts even if the clock of its gateway is behind.

As bytes, a statement is JSON with a seal (policy/seals.py):

    [instant of sending, sender, instant of the statement, key, name, body]

A message is fresh if it was sent within STALE. Kept statements are read whenever a gateway starts, so that only their
order counts. No statement may come from the future, where it would stand above all others.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tornado_gateway.policy.seals import sealed, unsealed

STALE = 30.0  # seconds by which clocks of gateways may differ, and that a message may take
MOST_BYTES = 16 * 1024  # of a statement; the longest order of an operator has some 5 KiB
MOST = 10_000  # statements that a gateway knows, and keeps in the shared store
DAY = 86_400.0  # as long as the longest opening of a breaker
STEP = 0.000_001  # seconds between two statements about a matter; a float of today's time has steps of 0.24 µs

DRAIN, UNDRAIN, WEIGHT, BREAKER = "drain", "undrain", "weight", "breaker"  # acts of operators
OPENED, CLOSED = "opened", "closed"  # findings of breakers
RELOADED = "reloaded"
NAMES = (DRAIN, UNDRAIN, WEIGHT, BREAKER, OPENED, CLOSED, RELOADED)
ACTS = (DRAIN, UNDRAIN, WEIGHT, BREAKER)
_LASTING = (DRAIN, WEIGHT)


class Flaw(Enum):
    """Why a message is ignored."""

    OVERSIZED = "oversized"
    FORGED = "forged"
    MALFORMED = "malformed"
    STALE = "stale"


class Ignored(Exception):
    """A message is no statement that counts.

    Attributes:
        flaw: what is wrong.
    """

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.value)
        self.flaw = flaw


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement.

    Attributes:
        sender: name of the gateway.
        at: instant, in seconds since 1970.
        key: the matter.
        name: one of NAMES.
        body: a value of JSON.
    """

    sender: str
    at: float
    key: str
    name: str
    body: Any = None

    @property
    def is_lasting(self) -> bool:
        """Whether the statement counts until another about the matter."""
        return self.name in _LASTING

    def has_ended(self, now: float) -> bool:
        """Whether nobody needs the statement any more.

        Args:
            now: seconds since 1970.
        """
        return not self.is_lasting and now >= self.at + DAY


def key_of(name: str, service: str = "", endpoint: str = "") -> str:
    """The matter of a statement with a name.

    >>> key_of(UNDRAIN, "billing", "http://a"), key_of(OPENED, "billing", "http://a"), key_of(RELOADED)
    ('weight billing http://a', 'breaker billing http://a', 'reloaded')
    """
    if name == RELOADED:
        return RELOADED
    return f"{BREAKER if name in (BREAKER, OPENED, CLOSED) else WEIGHT} {service} {endpoint}"


def write(statement: Statement, secret: bytes, place: str, now: float) -> bytes:
    """A statement as bytes.

    Args:
        place: where the statement will stand.
        now: seconds since 1970.
    """
    each = statement
    said = json.dumps([now, each.sender, each.at, each.key, each.name, each.body], separators=(",", ":"))
    return sealed(secret, place, said.encode("ascii"))


def read(message: bytes, secret: bytes, place: str, now: float, *, is_kept: bool = False) -> Statement:
    """The statement of a message.

    Args:
        place: where the message stood.
        now: seconds since 1970.
        is_kept: whether the message was kept, so that it may be old.

    Raises:
        Ignored: the message does not count.
    """
    if len(message) > MOST_BYTES:
        raise Ignored(Flaw.OVERSIZED)
    content = unsealed(secret, place, message)
    if content is None:
        raise Ignored(Flaw.FORGED)
    try:
        sent, *said = json.loads(content)
        statement = _statement(*said)
        is_stale = not math.isfinite(sent) or (not is_kept and now - sent > STALE)
    except (ValueError, TypeError, RecursionError):  # of another version, with the same secret
        raise Ignored(Flaw.MALFORMED) from None
    if is_stale or max(sent, statement.at) - now > STALE:
        raise Ignored(Flaw.STALE)
    return statement


def _statement(sender: str, at: float, key: str, name: str, body: Any) -> Statement:
    """
    Raises:
        ValueError, TypeError: these are no values of a statement.
    """
    if not all(isinstance(each, str) for each in (sender, key)) or name not in NAMES or not math.isfinite(at):
        raise ValueError("not a statement")
    return Statement(sender, float(at), key, name, body)


class Ledger:
    """The newest statement about each matter."""

    def __init__(self) -> None:
        self._known: dict[str, Statement] = {}  # the latest known last
        self._pushed_out: list[str] = []

    def __iter__(self) -> Iterator[Statement]:
        return iter(list(self._known.values()))

    def __len__(self) -> int:
        return len(self._known)

    def of(self, key: str) -> Statement | None:
        """The statement about a matter."""
        return self._known.get(key)

    def instant_for(self, key: str, now: float) -> float:
        """The instant of a new statement about a matter: after what is known."""
        known = self._known.get(key)
        return max(now, known.at + STEP) if known else now

    def take(self, statement: Statement) -> bool:
        """Take a statement if it is newer than what is known; return whether. Of two at once, all take the same."""
        known = self._known.get(statement.key)
        if known and (known.at, known.sender) >= (statement.at, statement.sender):
            return False
        self._known.pop(statement.key, None)
        self._known[statement.key] = statement
        if len(self._known) > MOST:
            self._pushed_out.append(key := next(iter(self._known)))
            del self._known[key]
        return True

    def forget_ended(self, now: float) -> list[str]:
        """Forget what nobody needs any more; return the keys, and those that had no room since the last call."""
        ended = [each.key for each in self._known.values() if each.has_ended(now)]
        for key in ended:
            del self._known[key]
        gone, self._pushed_out = [*ended, *self._pushed_out], []
        return [key for key in gone if key not in self._known]
