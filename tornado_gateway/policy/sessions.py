"""The sessions of operators: what a log-in gives a browser instead of a credential.

    log-in ──► open ──► use, at each request ──► close, at log-out

A session ends when its credential expires, `longest` seconds after the log-in, or `idle` seconds after the last
request. Of a session's token only a digest is kept: who reads the memory of the process finds no token.

Both clocks count for the end, as in policy/http/expiry.py. There is no timer: a session that has ended is found to
have ended when somebody asks, and is dropped at the next log-in at the latest. The number of sessions is bounded: a
principal who opens more sessions ends the oldest of their own, and others only if the store is full.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tornado_gateway.policy.http.expiry import Expiry
from tornado_gateway.policy.principal import Principal

MAX_SESSIONS = 1024  # some 2 MiB with large tokens
ID_DIGITS = 16  # of a session's id: 64 bits, so that no two sessions have the same
MAX_OF_PRINCIPAL = 16  # browsers of one operator, or of the operators who share a password


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """How long sessions last.

    Attributes:
        idle: seconds without a request; > 0. Half an hour is the upper end that OWASP recommends for low risks.
        longest: seconds since the log-in; > 0. A working day.
    """

    idle: float = 1800.0
    longest: float = 43_200.0


@dataclass(slots=True)
class Session:
    """A session.

    Attributes:
        principal: of the credential.
        expiry: the end, however much the session is used; its holder is in the session.
        used_at: instant (gateway clock) of the last request.
        id: names the session in the log and in revocations; says nothing of the token.
        told_at: instant (gateway clock) at which other processes were told of a request, or of the log-in.
    """

    principal: Principal
    expiry: Expiry
    used_at: float
    id: str
    told_at: float = 0.0


@dataclass(slots=True)
class SessionStore:
    """The sessions of a process.

    Attributes:
        config: how long sessions last.
    """

    config: SessionConfig
    _by_digest: dict[bytes, Session] = field(default_factory=dict)  # the session that was used last is the last

    def __len__(self) -> int:
        return len(self._by_digest)

    def open(self, token: bytes, principal: Principal, now: float, wall: float) -> Session:
        """Open a session; return the session.

        Args:
            token: a secret that nobody can guess, and that was never used.
            now, wall: the current time on the monotonic and the wall clock, in seconds.
        """
        for digest in [each for each, session in self._by_digest.items() if self._has_ended(session, now, wall)]:
            del self._by_digest[digest]
        own = [each for each, session in self._by_digest.items() if session.principal.name == principal.name]
        if len(own) >= MAX_OF_PRINCIPAL:
            del self._by_digest[own[0]]
        elif len(self._by_digest) >= MAX_SESSIONS:
            del self._by_digest[next(iter(self._by_digest))]
        digest = _digest(token)
        id_ = _digest(digest).hex()[:ID_DIGITS]
        end = min(principal.expiry, wall + self.config.longest)
        expiry = Expiry.of(end, now, wall, principal.holder.in_session(id_))
        session = self._by_digest[digest] = Session(principal, expiry, now, id_, now)
        return session

    def use(self, token: bytes, now: float, wall: float) -> Session | None:
        """The session of a token, which goes on; None if there is none, or if the session has ended.

        Args:
            now, wall: see open().
        """
        digest = _digest(token)
        session = self._by_digest.pop(digest, None)
        if session is None or self._has_ended(session, now, wall):
            return None
        session.used_at = now
        self._by_digest[digest] = session
        return session

    def close(self, token: bytes) -> Session | None:
        """End the session of a token; return the session, None if there is none."""
        return self._by_digest.pop(_digest(token), None)

    def living(self, now: float, wall: float) -> list[Session]:
        """The sessions that have not ended, the least recently used first.

        Args:
            now, wall: see open().
        """
        return [each for each in self._by_digest.values() if not self._has_ended(each, now, wall)]

    def left(self, session: Session, now: float, wall: float) -> float:
        """Seconds until a session ends, unless the session is used.

        Args:
            now, wall: see open().
        """
        return min(session.used_at + self.config.idle - now, session.expiry.at - now, session.expiry.wall - wall)

    def clear(self) -> None:
        """End all sessions."""
        self._by_digest.clear()

    def end(self, digest: str) -> None:
        """End the session that another process has ended.

        Args:
            digest: see plain_of().
        """
        self._by_digest.pop(bytes.fromhex(digest), None)

    def used(self, digest: str, at: float) -> None:
        """Another process has used a session at an instant."""
        session = self._by_digest.get(bytes.fromhex(digest))
        if session:
            session.used_at = max(session.used_at, at)

    def plain_of(self, token: bytes) -> list[Any]:
        """The row of to_plain() for the session of a token; [] if no session has the token."""
        digest = _digest(token)
        session = self._by_digest.get(digest)
        return _plain(digest, session) if session else []

    def to_plain(self) -> list[list[Any]]:
        """A row of JSON values for each session, the digest first, for another process."""
        return [_plain(digest, each) for digest, each in self._by_digest.items()]

    def add_plain(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add what to_plain() of another process of this machine has given: the clocks of both agree."""
        for digest, described, at, wall, used_at, id_ in rows:
            principal = Principal.of_plain(described)
            expiry = Expiry(at, wall, principal.holder.in_session(id_))
            self._by_digest[bytes.fromhex(digest)] = Session(principal, expiry, used_at, id_, used_at)

    def _has_ended(self, session: Session, now: float, wall: float) -> bool:
        return now >= session.used_at + self.config.idle or session.expiry.has_passed(now, wall)


def _plain(digest: bytes, session: Session) -> list[Any]:
    expiry = session.expiry
    return [digest.hex(), session.principal.to_plain(), expiry.at, expiry.wall, session.used_at, session.id]


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
