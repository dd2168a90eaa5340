"""The session of an operator, in requests and responses; policy/sessions.py says when a session ends."""

import secrets
import time
from collections.abc import Sequence

from tornado_gateway.gateway import Gateway
from tornado_gateway.policy.http.cookies import session_cookie, session_values
from tornado_gateway.policy.http.forwarding import Origination
from tornado_gateway.policy.http.headers import KnownFields
from tornado_gateway.policy.principal import Principal
from tornado_gateway.policy.sessions import Session
from tornado_gateway.upkeep.whole import Whole

TOKEN_BYTES = 32  # 256 random bits; OWASP asks for 64 or more


def find_session(gateway: Gateway, known_fields: KnownFields, origination: Origination) -> Session | None:
    """The session of a request, which goes on; None for a request with no session, with two, or with a session that is
    revoked, or whose credential is."""
    if b"cookie" not in known_fields:
        return None
    now, wall, sessions = gateway.now(), time.time(), gateway.operators.sessions
    tokens = session_values(known_fields[b"cookie"], is_secure=is_secure(origination))
    found = [session for token in tokens if (session := sessions.use(token, now, wall))]
    if len(found) != 1 or gateway.revocations.refuses(found[0].expiry.holder, wall):
        return None
    if gateway.whole:
        _tell_use(gateway, gateway.whole, tokens, found[0])
    return found[0]


def _tell_use(gateway: Gateway, whole: Whole, tokens: Sequence[bytes], session: Session) -> None:
    """Tell other workers that a session goes on, now and then: a session ends early by a tenth of the time at most."""
    now, sessions = session.used_at, gateway.operators.sessions
    if now - session.told_at >= sessions.config.idle / 10:
        session.told_at = now
        for row in filter(None, map(sessions.plain_of, tokens)):
            whole.tell("used", [row[0], now])


async def begin_session(gateway: Gateway, principal: Principal, origination: Origination) -> tuple[Session, str]:
    """Open a session, in all workers; return the session, and the value of a Set-Cookie field."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    session = gateway.operators.sessions.open(token.encode("ascii"), principal, gateway.now(), time.time())
    if gateway.whole:
        row = gateway.operators.sessions.plain_of(token.encode("ascii"))
        await gateway.whole.share("log-in", row, row[0])
    return session, session_cookie(token, is_secure=is_secure(origination))


async def end_sessions(gateway: Gateway, known_fields: KnownFields, origination: Origination) -> list[Session]:
    """End the sessions of a request, in all workers; return the sessions."""
    tokens = session_values(known_fields.get(b"cookie", ()), is_secure=is_secure(origination))
    ended = []
    for token in tokens:
        row = gateway.operators.sessions.plain_of(token) if gateway.whole else []
        if session := gateway.operators.sessions.close(token):
            ended.append(session)
        if gateway.whole and row:
            await gateway.whole.share("log-out", row[0], row[0])
    return ended


def is_secure(origination: Origination) -> bool:
    """Whether the client used https."""
    return origination.proto == b"https"
