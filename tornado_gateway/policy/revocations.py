"""Revocations: credentials that are refused although they are valid otherwise.

    subject   every credential of a principal, by the principal's name, that was issued up to the instant of the
              revocation. A token that is issued later is valid: a principal may log in again. A credential that does
              not say when it was issued (a token without `iat`, an API key) is refused.
    jti       every token with this id (RFC 7519 §4.1.7)
    session   every token with this claim `sid`, and the session of an operator with this id, whenever issued

The raw text of a token names nothing here: a token can be spelled in several ways, and has one `jti`.

The latest statement about a subject or a jti counts, whether the statement revokes or lifts. So gateways that learn of
the same statements in different orders agree. A revocation that is lifted is therefore remembered until its end.

Gateways that share revocations may lose each other. Then what this gateway knows counts (REVOCATION_ON_ERROR=local), or
every credential is in doubt (closed).
"""

import hashlib
import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from tornado_gateway.policy.principal import Holder

LOCAL, CLOSED = "local", "closed"  # values of REVOCATION_ON_ERROR
MEANINGS = {LOCAL: "each process knows its own revocations", CLOSED: "no credential opens a service"}

MOST = 100_000  # statements; about 0.5 KiB each
DEFAULT_LIFE = 30 * 86_400.0  # seconds; longer than almost all tokens live
LONGEST_LIFE = 366 * 86_400.0  # seconds


class By(Enum):
    """What a revocation names."""

    SUBJECT = "subject"
    JTI = "jti"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Revocation:
    """A statement that credentials are revoked, or not revoked any more. Instants are seconds since 1970.

    Attributes:
        value: the name of the principal, the jti, or the id of the session.
        at: instant of the statement.
        until: instant from which the statement does not count any more.
        is_lifted: whether the credentials are not revoked any more.
    """

    by: By
    value: str
    at: float
    until: float
    is_lifted: bool = False

    @property
    def id(self) -> str:
        """A name for the revocation that can stand in a URL, and is the same at every gateway.

        >>> Revocation(By.JTI, "a", 0.0, 1.0).id
        'd5f5fd56aa0e0be9'
        """
        return hashlib.sha256(f"{self.by.value} {self.value}".encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def _rank(self) -> tuple[float, bool, float]:
        return self.at, not self.is_lifted, self.until

    def replaces(self, other: "Revocation") -> bool:
        """Whether this statement is later than `other`. At the same instant, a revocation wins over a lift."""
        return self._rank > other._rank


class Revocations:
    """What is revoked.

    Args:
        leeway: seconds by which the clocks of issuers and gateways may differ; ≥ 0.
        on_error: LOCAL or CLOSED: what holds while this gateway does not hear the others.

    Attributes:
        count: number of statements; with 0 nothing is refused.
        is_heard: whether this gateway hears what other gateways revoke; also true where there is nobody to hear.
        are_in_doubt: whether a credential may be revoked without this gateway's knowledge, and must not count.
    """

    def __init__(self, leeway: float = 0.0, on_error: str = LOCAL) -> None:
        self.leeway, self.on_error = leeway, on_error
        self._by: dict[By, dict[str, Revocation]] = {by: {} for by in By}
        self._subjects, self._tokens, self._sessions = self._by[By.SUBJECT], self._by[By.JTI], self._by[By.SESSION]
        self._ends: list[tuple[float, str, str]] = []  # a heap; with the ends of statements that were replaced
        self.count = 0
        self.is_heard, self.are_in_doubt = True, False

    def __iter__(self) -> Iterator[Revocation]:
        for each in self._by.values():
            yield from each.values()

    def hear(self, *, is_heard: bool) -> None:
        """Note whether this gateway hears the others."""
        self.is_heard = is_heard
        self._judge()

    def reconfigure(self, leeway: float, on_error: str) -> None:
        """Go by other rules from now on."""
        self.leeway, self.on_error = leeway, on_error
        self._judge()

    def _judge(self) -> None:
        self.are_in_doubt = self.on_error == CLOSED and not self.is_heard

    @property
    def is_full(self) -> bool:
        """Whether no statement of this gateway's own should be added. Statements of other gateways are always taken,
        because each of these was below the bound."""
        return self.count >= MOST

    def refuses(self, holder: Holder, now: float) -> bool:
        """Whether a credential is revoked.

        Args:
            now: seconds since 1970.

        >>> revocations = Revocations()
        >>> revocations.take(Revocation(By.SUBJECT, "id|ada", at=100.0, until=900.0))
        True
        >>> [revocations.refuses(Holder("id|ada", "", issued), 200.0) for issued in (-math.inf, 100.0, 101.0)]
        [True, True, False]
        """
        named = [self._tokens.get(holder.jti), *map(self._sessions.get, holder.sessions)]
        if any(each and not each.is_lifted and now < each.until for each in named):
            return True
        of_all = self._subjects.get(holder.name)
        if of_all is None or of_all.is_lifted or now >= of_all.until:
            return False
        return holder.issued <= of_all.at + self.leeway

    def revoke(self, by: By, value: str, now: float, life: float) -> Revocation:
        """The statement that revokes now, which is later than the known statement, whatever the clocks say.

        Args:
            life: seconds until the revocation ends; > 0.
        """
        return Revocation(by, value, self._instant(self._by[by].get(value), now), now + life)

    def lift(self, known: Revocation, now: float) -> Revocation:
        """The statement that ends a known revocation."""
        return replace(known, at=self._instant(known, now), is_lifted=True)

    def _instant(self, known: Revocation | None, now: float) -> float:
        return max(now, math.nextafter(known.at, math.inf)) if known else now

    def of_id(self, id_: str, now: float) -> Revocation | None:
        """The revocation with an id; None for an unknown, an ended and a lifted revocation."""
        return next((each for each in self.current(now) if each.id == id_), None)

    def current(self, now: float) -> Iterator[Revocation]:
        """What is revoked at an instant."""
        return (each for each in self if not each.is_lifted and now < each.until)

    def known(self, like: Revocation) -> Revocation | None:
        """The latest statement about the subject or jti of another statement."""
        return self._by[like.by].get(like.value)

    def take(self, statement: Revocation) -> bool:
        """Add a statement, unless a later statement is known; return whether the statement was added."""
        known = self.known(statement)
        if known and not statement.replaces(known):
            return False
        self._by[statement.by][statement.value] = statement
        heapq.heappush(self._ends, (statement.until, statement.by.value, statement.value))
        self.count += known is None
        return True

    def to_plain(self) -> list[list[Any]]:
        """All statements as values of JSON, for another process."""
        return [[each.by.value, each.value, each.at, each.until, each.is_lifted] for each in self]

    def add_plain(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add what to_plain() of another process has given."""
        for by, *rest in rows:
            self.take(Revocation(By(by), *rest))

    def forget_ended(self, now: float) -> None:
        """Drop the statements that have ended."""
        while self._ends and self._ends[0][0] <= now:
            _, by, value = heapq.heappop(self._ends)
            known = self._by[By(by)].get(value)
            if known and known.until <= now:
                del self._by[known.by][value]
                self.count -= 1
